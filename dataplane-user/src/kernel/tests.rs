//! The kernel for real: each test has a network namespace of its own as "the host". They need root.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::{LinkUnspec, LinkVeth};
use tempfile::TempDir;

use super::{BridgeSpec, Error, Link, NetNs, Netlink, VethSpec, netns, sysctl};

mod links;
mod ports;
mod processes;
mod uplinks;

/// A network namespace to play host in, and a folder to keep things in. Both go with it.
struct Host {
    folder: TempDir,
    netns: NetNs,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let netns = NetNs::create(&folder.path().join("host")).unwrap();
        Self { folder, netns }
    }

    /// Runs `test` with its own tokio runtime inside the host.
    fn run(&self, test: impl AsyncFnOnce(Netlink) + Send) {
        let inside = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { test(Netlink::open().unwrap()).await });
        };
        self.netns.run(inside).unwrap();
    }

    /// A further namespace, such as a container's.
    fn namespace(&self, name: &str) -> NetNs {
        NetNs::create(&self.path(name)).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
            if netns::is_alive(&entry.path()) {
                netns::delete(&entry.path()).unwrap();
            }
        }
    }
}

/// Adds a veth pair from the host to a new namespace, with an address on the host's end, and returns that end.
async fn uplink(host: &Host, netlink: &Netlink, name: &str, address: &str) -> Link {
    let outside = host.namespace(name);
    netlink.handle.link().add(LinkVeth::new(name, "far").build()).execute().await.unwrap();
    let far = netlink.expect_link("far").await.unwrap();
    let moved = LinkUnspec::new_with_index(far.ifindex)
        .setns_by_fd(std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&outside)));
    netlink.change(moved.build(), String::new).await.unwrap();
    let outside = Netlink::open_in(&outside).unwrap();
    outside.bring_up(&outside.expect_link("far").await.unwrap()).await.unwrap();
    let link = netlink.expect_link(name).await.unwrap();
    netlink.bring_up(&link).await.unwrap();
    netlink.set_addresses(&link, &[address.parse().unwrap()]).await.unwrap();
    netlink.expect_link(name).await.unwrap()
}

/// Asks again and again until `condition` holds, or fails after a few seconds.
async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}
