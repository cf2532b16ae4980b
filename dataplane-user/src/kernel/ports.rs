//! Host ports that are really held while published, so that nobody else can have them and the kernel never hands them out.
//!
//! The sockets here carry no traffic: the eBPF programs take a published port's packets before they reach a socket, and a filter
//! drops what should still come through. Which ports to hold is the agent's decision.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use dataplane_common::{Protocol, layout::HOLDER_MARK};
use procfs::net::{TcpNetEntries, TcpState, UdpNetEntries};
use procfs::prelude::*;
use procfs::process::FDTarget;
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

use super::error::{Error, Result};

/// A port of the host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// An address of the host; the unspecified one stands for all of its family.
    pub address: IpAddr,
    /// The number; 0 asks for any free one.
    pub port: u16,
}

/// The process that has a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// Its name (`comm`).
    pub name: String,
}

/// A port that is held until this is dropped.
#[derive(Debug)]
pub struct HeldPort {
    port: HostPort,
    /// None where this kernel has no such sockets, and so nobody who could take the port.
    socket: Option<Socket>,
    note: Option<String>,
}

impl HeldPort {
    /// Takes the port, or says who has it.
    pub fn hold(port: HostPort) -> Result<Self> {
        match open(port) {
            Ok(socket) => {
                let bound = socket.local_addr().map_err(|error| failure(port, error))?;
                let number = bound.as_socket().map_or(port.port, |address| address.port());
                Ok(Self { port: HostPort { port: number, ..port }, socket: Some(socket), note: None })
            }
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EAFNOSUPPORT)
                ) =>
            {
                let note = format!("host port {port} cannot be held, because this kernel has no such sockets");
                Ok(Self { port, socket: None, note: Some(note) })
            }
            Err(error) => Err(failure(port, error)),
        }
    }

    /// The port with its real number.
    pub fn port(&self) -> HostPort {
        self.port
    }

    /// Why the port is not really held, if it is not.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Whether a socket stands for the port.
    pub fn is_held(&self) -> bool {
        self.socket.is_some()
    }
}

/// Holds all of `ports`, or none and says why.
pub fn hold_all(ports: &[HostPort]) -> Result<Vec<HeldPort>> {
    ports.iter().map(|port| HeldPort::hold(*port)).collect()
}

fn open(port: HostPort) -> io::Result<Socket> {
    let kind = match port.protocol {
        Protocol::TCP | Protocol::SCTP => Type::STREAM,
        _ => Type::DGRAM,
    };
    let address = SocketAddr::new(port.address, port.port);
    let socket = Socket::new(Domain::for_address(address), kind, Some(i32::from(port.protocol.0).into()))?;
    // While no agent ran, the programs kept the port for it; it is known by this mark.
    socket.set_mark(HOLDER_MARK)?;
    // Before the socket can be found by any packet.
    socket.attach_filter(&[DROP_ALL])?;
    if port.address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections in TIME_WAIT must not keep the port from us. A listening socket still excludes every other;
        // for UDP the same option would let others share the port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    if kind == Type::STREAM {
        socket.listen(1)?;
    }
    Ok(socket)
}

/// The classic BPF program "return 0": accept no byte of any packet.
const DROP_ALL: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);

fn failure(port: HostPort, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => Error::PortTaken { port, holder: holder(port) },
        Some(libc::EADDRNOTAVAIL) => {
            Error::Other(format!("cannot publish host port {port}: no interface of this host has that address"))
        }
        _ => Error::io(format!("hold host port {port}"), error),
    }
}

/// The process whose socket stands in the way of `port`, as far as `/proc` tells.
fn holder(port: HostPort) -> Option<Holder> {
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
    let tables = if port.address.is_ipv4() { &["", "6"][..] } else { &["6"][..] };
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
fn overlap(theirs: IpAddr, ours: IpAddr) -> bool {
    theirs.is_unspecified()
        || (ours.is_unspecified() && theirs.to_canonical().is_ipv4() == ours.is_ipv4())
        || theirs.to_canonical() == ours
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::TCP => write!(f, "{}/tcp on {}", self.port, self.address),
            Protocol::UDP => write!(f, "{}/udp on {}", self.port, self.address),
            Protocol::SCTP => write!(f, "{}/sctp on {}", self.port, self.address),
            Protocol(number) => write!(f, "{}/{number} on {}", self.port, self.address),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (pid {})", self.name, self.pid)
    }
}
