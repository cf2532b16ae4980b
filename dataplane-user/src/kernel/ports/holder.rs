//! Who has a port that we cannot have.

use std::fmt;
use std::net::IpAddr;

use dataplane_common::Protocol;
use procfs::net::{TcpNetEntries, TcpState, UdpNetEntries};
use procfs::prelude::*;
use procfs::process::FDTarget;

use super::HostPort;

/// The process that has a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// Its name (`comm`).
    pub name: String,
}

/// The process whose socket stands in the way of `port`, as far as `/proc` tells.
pub(super) fn holder(port: HostPort) -> Option<Holder> {
    let inode = conflicting_sockets(port).into_iter().next()?;
    for process in procfs::process::all_processes().ok()?.flatten() {
        let Ok(files) = process.fd() else { continue };
        if files.flatten().any(|file| matches!(file.target, FDTarget::Socket(number) if number == inode)) {
            return Some(Holder { pid: process.pid, name: process.stat().ok()?.comm });
        }
    }
    None
}

/// Inodes of the sockets that overlap `port`, those that accept packets from anybody first.
fn conflicting_sockets(port: HostPort) -> Vec<u64> {
    let system = procfs::current_system_info();
    let mut found = Vec::new();
    // An IPv6 socket may serve IPv4 too, but ours for IPv6 only never does.
    let tables = if port.address.is_some_and(|address| address.is_ipv6()) { &["6"][..] } else { &["", "6"][..] };
    for suffix in tables {
        // Not /proc/net: that is the main thread's namespace.
        let path = |name: &str| format!("/proc/thread-self/net/{name}{suffix}");
        match port.protocol {
            Protocol::TCP => {
                let entries =
                    TcpNetEntries::from_file(path("tcp"), system).map(|entries| entries.0).unwrap_or_default();
                found.extend(
                    entries
                        .into_iter()
                        .map(|entry| (entry.state == TcpState::Listen, entry.local_address, entry.inode)),
                );
            }
            Protocol::UDP => {
                let entries =
                    UdpNetEntries::from_file(path("udp"), system).map(|entries| entries.0).unwrap_or_default();
                found.extend(
                    entries
                        .into_iter()
                        .map(|entry| (entry.remote_address.port() == 0, entry.local_address, entry.inode)),
                );
            }
            _ => {}
        }
    }
    // A socket in TIME_WAIT has no inode, and nobody who holds it.
    found.retain(|(_, local, inode)| *inode != 0 && local.port() == port.port && overlap(local.ip(), port.address));
    found.sort_by_key(|(open, ..)| !open);
    found.into_iter().map(|(.., inode)| inode).collect()
}

/// Whether sockets bound to these addresses compete for packets.
fn overlap(theirs: IpAddr, ours: Option<IpAddr>) -> bool {
    let Some(ours) = ours else { return true };
    theirs.is_unspecified()
        || (ours.is_unspecified() && theirs.to_canonical().is_ipv4() == ours.is_ipv4())
        || theirs.to_canonical() == ours
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (pid {})", self.name, self.pid)
    }
}
