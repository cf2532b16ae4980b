//! The host's view: which interfaces are uplinks, and how it follows changes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use rtnetlink::packet_route::link::MacVlanMode;
use rtnetlink::{LinkBridge, LinkMacVlan};

use super::*;
use crate::kernel::uplink::{HostView, HostWatch, LinkType, UplinkRule, snapshot};

fn rule(names: &[&str]) -> UplinkRule {
    UplinkRule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        own: Arc::new(|name| name.starts_with("br-").then(|| vec!["10.9.0.1/24".parse().unwrap()])),
    }
}

fn names(view: &HostView) -> Vec<&str> {
    view.uplinks.iter().map(|uplink| uplink.name.as_str()).collect()
}

fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn an_uplink_is_what_leads_elsewhere() {
    let host = Host::new();
    host.run(async |netlink| {
        let empty = snapshot(&netlink, &rule(&[])).unwrap();
        assert!(names(&empty).is_empty());
        assert_eq!(empty.local_addresses, addresses(&["127.0.0.1", "::1"]));

        let link = uplink(&host, &netlink, "up0", "192.0.2.10/24").await;
        let ours: &[IpNet] = &["10.9.0.1/24".parse().unwrap()];
        let bridge =
            BridgeSpec { name: "br-x".into(), alias: "x".into(), mtu: 1500, mac: None, addresses: ours.to_vec() };
        netlink.ensure_bridge(&bridge).await.unwrap();
        // Up, but with nothing but a link-local address of its own.
        netlink.handle.link().add(LinkVeth::new("idle", "idle2").up().build()).execute().await.unwrap();

        let view = snapshot(&netlink, &rule(&[])).unwrap();
        assert_eq!(names(&view), ["up0"]);
        let up0 = &view.uplinks[0];
        assert_eq!(
            (up0.ifindex, up0.ipv4, up0.ipv6, up0.mtu),
            (link.ifindex, Some("192.0.2.10".parse().unwrap()), None, 1500)
        );
        assert_eq!(up0.link_type, LinkType::Ethernet);
        assert_eq!(view.routes, ["192.0.2.0/24".parse::<IpNet>().unwrap()]);
        assert!(view.local_addresses.is_superset(&addresses(&["127.0.0.1", "::1", "192.0.2.10"])));
        assert!(!view.local_addresses.contains(&"10.9.0.1".parse().unwrap()), "it was given to our own bridge");
        assert!(!view.local_addresses.contains(&"192.0.2.255".parse().unwrap()));

        let named = snapshot(&netlink, &rule(&["idle", "absent"])).unwrap();
        assert_eq!(names(&named), ["idle"]);
    });
}

#[test]
fn a_bridge_for_guests_is_inside() {
    let host = Host::new();
    host.run(async |netlink| {
        let address: &[IpNet] = &["172.30.0.1/16".parse().unwrap()];
        let bridge =
            BridgeSpec { name: "docker0".into(), alias: "x".into(), mtu: 1500, mac: None, addresses: address.to_vec() };
        netlink.ensure_bridge(&bridge).await.unwrap();
        let bridge = netlink.expect_link("docker0").await.unwrap();
        netlink.handle.link().add(LinkVeth::new("guest", "inside").up().build()).execute().await.unwrap();
        let plug = async |name: &str| {
            let port = rtnetlink::LinkUnspec::new_with_name(name).controller(bridge.ifindex).up().build();
            netlink.handle.link().change(port).execute().await.unwrap();
        };
        plug("guest").await;
        let is_inside = async |names: &[&str]| {
            let view = snapshot(&netlink, &rule(names)).unwrap();
            view.uplinks.iter().find(|uplink| uplink.name == "docker0").unwrap().inside
        };
        assert!(is_inside(&[]).await);
        assert!(!is_inside(&["docker0"]).await, "a named one is what it is called");
        netlink.set_default_routes(&bridge, &["172.30.0.2".parse().unwrap()]).await.unwrap();
        assert!(!is_inside(&[]).await, "it leads everywhere");
        netlink.set_default_routes(&bridge, &[]).await.unwrap();
        assert!(is_inside(&[]).await);
        netlink
            .handle
            .link()
            .add(
                LinkMacVlan::new("nic", netlink.expect_link("inside").await.unwrap().ifindex, MacVlanMode::Bridge)
                    .up()
                    .build(),
            )
            .execute()
            .await
            .unwrap();
        plug("nic").await;
        assert!(!is_inside(&[]).await, "a port that is no guest's");
    });
}

#[test]
fn the_source_is_the_one_that_the_default_route_prefers() {
    let host = Host::new();
    host.run(async |netlink| {
        let link = uplink(&host, &netlink, "up0", "192.0.2.10/24").await;
        let all: Vec<IpNet> = ["192.0.2.10/24", "192.0.2.11/24", "198.51.100.1/24", "2001:db8::1/64"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        netlink.set_addresses(&link, &all).await.unwrap();
        let gateways: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "2001:db8::ffff".parse().unwrap()];
        netlink.set_default_routes(&link, &gateways).await.unwrap();
        let view = snapshot(&netlink, &rule(&[])).unwrap();
        assert_eq!(view.uplinks[0].ipv4, Some("192.0.2.10".parse().unwrap()));
        assert_eq!(view.uplinks[0].ipv6, Some("2001:db8::1".parse().unwrap()));

        let preferred = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .gateway("192.0.2.1".parse().unwrap())
            .output_interface(link.ifindex)
            .pref_source("198.51.100.1".parse().unwrap())
            .build();
        netlink.handle.route().add(preferred).replace().execute().await.unwrap();
        let view = snapshot(&netlink, &rule(&[])).unwrap();
        assert_eq!(view.uplinks[0].ipv4, Some("198.51.100.1".parse().unwrap()));
        // The default route is no reason to skip an address pool.
        assert!(view.routes.iter().all(|route| route.prefix_len() > 0));
    });
}

#[test]
fn changes_are_followed() {
    let host = Host::new();
    host.run(async |netlink| {
        let mut watch = HostWatch::start(&netlink, rule(&[])).await.unwrap();
        assert!(watch.current().uplinks.is_empty());
        // Namespaces of other tests that end meanwhile hold the kernel's lock for interfaces, for seconds where it is emulated.
        let limit = Duration::from_secs(60);

        let link = uplink(&host, &netlink, "up0", "192.0.2.10/24").await;
        let mut seen = watch.changed().await;
        let follow = async {
            while names(&seen) != ["up0"] || seen.uplinks[0].ipv4.is_none() {
                seen = watch.changed().await;
            }
            netlink.set_addresses(&link, &["192.0.2.99/24".parse().unwrap()]).await.unwrap();
            while seen.uplinks.first().and_then(|uplink| uplink.ipv4) != Some("192.0.2.99".parse().unwrap()) {
                seen = watch.changed().await;
            }
            assert!(!seen.local_addresses.contains(&"192.0.2.10".parse().unwrap()));
            netlink.delete_link("up0").await.unwrap();
            while !seen.uplinks.is_empty() {
                seen = watch.changed().await;
            }
        };
        tokio::time::timeout(limit, follow).await.unwrap();

        // What alters nothing else may still have altered a next hop.
        netlink.handle.link().add(LinkVeth::new("quiet", "quiet2").build()).execute().await.unwrap();
        let after = tokio::time::timeout(limit, watch.changed()).await.unwrap();
        assert!(after.revision > seen.revision);
    });
}

/// What happens during a look is heard before the look is over.
#[test]
fn the_host_is_listened_to_while_it_is_looked_at() {
    // Namespaces of other tests that end may hold the kernel's lock for seconds.
    const PATIENCE: Duration = Duration::from_secs(30);
    let (looking, was_late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (release, released) = mpsc::channel();
    let released = Mutex::new(Some(released));
    let rule = {
        let (looking, was_late) = (looking.clone(), was_late.clone());
        // Nothing happens to the loopback interface: who asks for it looks. The second look, after the first news, takes until it is released.
        let first = AtomicBool::new(true);
        let own = move |name: &str| {
            if name == "lo" && !first.swap(false, Ordering::Relaxed) {
                looking.store(true, Ordering::Relaxed);
                let released = released.lock().unwrap().take();
                let late =
                    released.is_some_and(|released: mpsc::Receiver<()>| released.recv_timeout(PATIENCE).is_err());
                was_late.fetch_or(late, Ordering::Relaxed);
            }
            None
        };
        UplinkRule { names: vec![], own: Arc::new(own) }
    };
    let host = Host::new();
    host.run(async move |netlink| {
        let watch = HostWatch::start(&netlink, rule).await.unwrap();
        let heard = watch.heard();
        let add = async |name: &str| netlink.handle.link().add(LinkBridge::new(name).build()).execute().await.unwrap();
        add("news").await;
        while !looking.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // What is still heard of the first one.
        while tokio::time::timeout(Duration::from_millis(100), heard.notified()).await.is_ok() {}
        add("more").await;
        tokio::time::timeout(2 * PATIENCE, heard.notified()).await.expect("nobody listens");
        assert!(!was_late.load(Ordering::Relaxed), "it was heard after the look");
        release.send(()).unwrap();
    });
}
