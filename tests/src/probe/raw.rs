//! IP packets of any protocol, for those that have no sockets here (SCTP) or no ports at all.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::fail::OrFail;
use crate::family::{Family, V4};
use crate::net::Net;

/// SCTP (RFC 9260).
pub const SCTP: u8 = 132;
/// A number for experiments (RFC 3692), which means nothing to any stack.
pub const EXPERIMENT: u8 = 253;

/// A socket that sends and receives the packets of one IP protocol.
pub struct RawSocket {
    socket: Socket,
    family: Family,
    patience: Duration,
}

impl Net {
    /// Opens a socket for a protocol here.
    #[track_caller]
    pub fn raw(&self, family: Family, protocol: u8) -> RawSocket {
        let domain = if family == V4 { Domain::IPV4 } else { Domain::IPV6 };
        let opened = self.run(|| Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol)))));
        let socket = opened.or_fail(format_args!("open a socket for protocol {protocol} in {}", self.name()));
        RawSocket { socket, family, patience: self.patience() }
    }
}

impl RawSocket {
    /// Sends a packet with this content; the kernel makes its IP header, and fragments where they are needed.
    #[track_caller]
    pub fn send(&self, to: IpAddr, payload: &[u8]) {
        let sent = self.socket.send_to(payload, &SocketAddr::new(to, 0).into());
        sent.or_fail(format_args!("send {} bytes to {to}", payload.len()));
    }

    /// Whether a packet with this content comes in time.
    pub fn gets(&self, payload: &[u8]) -> bool {
        let end = Instant::now() + self.patience;
        let mut buffer = vec![0; 65536];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let _ = self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))));
            match (&self.socket).read(&mut buffer) {
                // IPv4 packets come with their header.
                Ok(length) if self.family == V4 && buffer[..length].get(20..) == Some(payload) => return true,
                Ok(length) if self.family != V4 && &buffer[..length] == payload => return true,
                Err(error) if error.kind() != ErrorKind::Interrupted => return false,
                _ => {}
            }
        }
        false
    }
}
