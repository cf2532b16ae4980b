//! Probes: packets sent from one namespace to another, and what came of them.
//!
//! Probes answer with `io::Result`. A probe that should succeed waits up to [`crate::PATIENCE`]; for one that should
//! not, ask the [`Net::briefly`](crate::Net::briefly) namespace and hand the result to [`assert_silent`].

mod frame;
mod ping;
mod raw;
mod services;
mod tcp;
mod trace;
mod udp;

use std::fmt::Debug;
use std::io::{self, ErrorKind};

pub use frame::{BROADCAST, FrameSocket, Station, ip_addresses};
pub use raw::{EXPERIMENT, RawSocket, SCTP};
pub use services::{PUBLISH, PUBLISHED, Services, TCP_PORT, UDP_PORT, at_once};
pub use tcp::{TcpLink, TcpServer};
pub use trace::{IcmpError, may_be_fragmented};
pub use udp::{UdpServer, ask};

/// Demands that a probe was not answered at all: no answer, no refusal, no ICMP error.
#[track_caller]
pub fn assert_silent<T: Debug>(result: io::Result<T>) {
    match result {
        Ok(answer) => panic!("silence was expected, but there was an answer: {answer:?}"),
        Err(error) if is_silence(&error) => {}
        Err(error) => panic!("silence was expected, but there was an error: {error} ({:?})", error.kind()),
    }
}

/// Whether nothing came, rather than a refusal.
pub(crate) fn is_silence(error: &io::Error) -> bool {
    // A read that times out is "would block", a connect that does is "timed out".
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// A datagram socket that waits for `patience`.
pub(crate) fn patient(socket: std::net::UdpSocket, patience: std::time::Duration) -> io::Result<std::net::UdpSocket> {
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}
