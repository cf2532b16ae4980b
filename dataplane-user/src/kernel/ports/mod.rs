//! Host ports that are really held while published, so that nobody else can have them and the kernel never hands them out.
//!
//! The sockets here carry no traffic: the eBPF programs take a published port's packets before they reach a socket, and a filter
//! drops what should still come through. Which ports to hold is the agent's decision.
//!
//! SCTP ports are not held: a socket would make the kernel load its whole SCTP, which hardly a host has a use for.

mod filter;
mod holder;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::{panic, thread};

use dataplane_common::{Protocol, layout::HOLDER_MARK};
use socket2::{Domain, SockAddr, Socket, Type};

pub use holder::Holder;

use super::error::{Error, Result};
use super::sysctl;

/// A port of the host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// An address of the host; an unspecified one stands for all of its family, `None` for all of both, which takes one
    /// socket.
    pub address: Option<IpAddr>,
    /// The number; 0 asks for any free one.
    pub port: u16,
}

/// A port that is held until this is dropped.
#[derive(Debug)]
pub struct HeldPort {
    port: u16,
    _socket: Socket,
}

impl HeldPort {
    /// Takes a TCP or UDP port. The error is as the kernel gives it; [`explain`] makes a sentence of it.
    pub fn hold(port: HostPort) -> io::Result<Self> {
        match (open(port), port.address) {
            // A kernel without IPv6.
            (Err(error), None) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                Self::hold(HostPort { address: Some(IpAddr::V4([0; 4].into())), ..port })
            }
            (result, _) => {
                let socket = result?;
                let bound = match port.port {
                    0 => socket.local_addr()?.as_socket().map_or(0, |address| address.port()),
                    known => known,
                };
                Ok(Self { port: bound, _socket: socket })
            }
        }
    }

    /// Takes many ports, as [`HeldPort::hold`] takes one.
    pub fn hold_all(ports: Vec<HostPort>) -> Vec<(HostPort, io::Result<Self>)> {
        on_all_cpus(ports, |port| (port, Self::hold(port)))
    }

    /// Its number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Gives ports up, many at a time.
pub fn release_all(ports: Vec<HeldPort>) {
    on_all_cpus(ports, drop);
}

/// So many sockets are worth a thread: they take about as long as it.
const THREAD: usize = 64;

/// Does the same to many things, on as many threads as are worth it.
fn on_all_cpus<T: Send, R: Send>(things: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let share = things.len().div_ceil(cpus).max(THREAD);
    let mut things = things.into_iter();
    let first: Vec<T> = things.by_ref().take(share).collect();
    thread::scope(|scope| {
        let mut others = Vec::new();
        while things.len() > 0 {
            let part: Vec<T> = things.by_ref().take(share).collect();
            others.push(scope.spawn(|| part.into_iter().map(&work).collect::<Vec<R>>()));
        }
        let mut results: Vec<R> = first.into_iter().map(&work).collect();
        for other in others {
            results.extend(other.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked)));
        }
        results
    })
}

/// Files that are left to everything else that the agent does, such as answering and starting containers.
const SPARE_FILES: u64 = 256;

fn open(port: HostPort) -> io::Result<Socket> {
    let kind = match port.protocol {
        Protocol::TCP => Type::STREAM,
        Protocol::UDP => Type::DGRAM,
        other => return Err(io::Error::other(format!("no socket holds a port of protocol {}", other.0))),
    };
    let address = SocketAddr::new(port.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), port.port);
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    // The kernel gives out the lowest number that is free.
    if u64::from(socket.as_raw_fd().unsigned_abs()) + SPARE_FILES > super::limits::open_files() {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    // While no agent ran, the programs kept the port for it; it is known by this mark.
    socket.set_mark(HOLDER_MARK)?;
    // Before the socket can be found by any packet.
    filter::drop_all(&socket)?;
    if address.is_ipv6() {
        socket.set_only_v6(port.address.is_some())?;
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

/// Why a port could not be held, and who has it, as far as that can be found out. Reads all of `/proc` where the port is
/// taken.
pub fn explain(port: HostPort, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => Error::PortTaken { port, holder: holder::holder(port) },
        Some(libc::EADDRNOTAVAIL) => {
            Error::Other(format!("failed to bind host port {port}: no interface of this host has that address"))
        }
        Some(libc::EMFILE) => Error::Other(format!(
            "failed to bind host port {port}: the agent may not open more than {} files, and each port takes one: let it have more (LimitNOFILE, ulimit -n)",
            super::limits::open_files()
        )),
        _ => Error::io(format!("bind host port {port}"), error),
    }
}

/// The ports that the kernel hands out to those who do not care, `net.ipv4.ip_local_port_range`.
pub fn ephemeral() -> Result<RangeInclusive<u16>> {
    let text = sysctl::get(&["net", "ipv4", "ip_local_port_range"])?;
    let mut ports = text.split_whitespace().map(str::parse::<u16>);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Ok(first..=last),
        _ => Err(Error::Other(format!("net.ipv4.ip_local_port_range is not a range of ports: {text:?}"))),
    }
}

impl fmt::Display for HostPort {
    /// As Docker says it: `0.0.0.0:8080/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = SocketAddr::new(self.address.unwrap_or(IpAddr::V4([0; 4].into())), self.port);
        match self.protocol {
            Protocol::TCP => write!(f, "{address}/tcp"),
            Protocol::UDP => write!(f, "{address}/udp"),
            Protocol::SCTP => write!(f, "{address}/sctp"),
            Protocol(number) => write!(f, "{address}/{number}"),
        }
    }
}
