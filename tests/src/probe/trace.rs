//! ICMP errors: what comes back about a datagram that could not go on, as the sender's own kernel understands it.
//!
//! The kernel hands an error to a socket only if the packet quoted in it is one that the socket sent: so a translated error
//! is seen only if it was translated rightly.

use std::io::{self, Error, ErrorKind, IoSliceMut};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4RecvErr, Ipv6RecvErr},
};
use socket2::SockRef;

use crate::fail::OrFail;
use crate::family::Family;
use crate::net::Net;

/// An ICMP error about a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// Who sent it.
    pub from: IpAddr,
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The MTU in it, if it is about that.
    pub mtu: u32,
}

impl IcmpError {
    /// Whether a router says that the packet's time to live has ended there.
    pub fn is_time_exceeded(&self) -> bool {
        (self.kind, self.code) == if self.from.is_ipv4() { (11, 0) } else { (3, 0) }
    }

    /// Whether the destination says that nobody listens on the port.
    pub fn is_port_unreachable(&self) -> bool {
        (self.kind, self.code) == if self.from.is_ipv4() { (3, 3) } else { (1, 4) }
    }

    /// Whether a router says that the packet is too big for the way.
    pub fn is_too_big(&self) -> bool {
        (self.kind, self.code) == if self.from.is_ipv4() { (3, 4) } else { (2, 0) }
    }
}

impl Net {
    /// Sends one datagram of `length` bytes that may pass `hops` routers and not be fragmented, and waits for the ICMP
    /// error about it.
    #[track_caller]
    pub fn udp_error(&self, to: (IpAddr, u16), hops: u8, length: usize) -> io::Result<IcmpError> {
        let socket = self.udp_bind(Family::of(to.0).any(), 0)?;
        // So that an error counts only if it is about a packet to this very address.
        socket.connect(to)?;
        self.error_over(&socket, to, hops, length)
    }

    /// The same over a socket that is there already; it can be used on as it was.
    #[track_caller]
    pub fn error_over(&self, socket: &UdpSocket, to: (IpAddr, u16), hops: u8, length: usize) -> io::Result<IcmpError> {
        limit(socket, to.0, hops)?;
        socket.send_to(&vec![0x55; length], to)?;
        let error = error_of(socket, self);
        limit(socket, to.0, 64)?;
        error
    }
}

/// Lets a socket send IPv4 packets that routers may cut into fragments.
#[track_caller]
pub fn may_be_fragmented(socket: &UdpSocket) {
    let set = set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT);
    set.or_fail("allow fragments");
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value is an integer, and its true size is given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// Sets hop limit and "don't fragment", and asks for errors.
fn limit(socket: &UdpSocket, to: IpAddr, hops: u8) -> io::Result<()> {
    match Family::of(to) {
        Family::V4 => {
            SockRef::from(socket).set_ttl_v4(hops.into())?;
            setsockopt(socket, Ipv4RecvErr, &true)?;
            // Not even the path's MTU is kept to: what is too big has to be told.
            set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
        }
        Family::V6 => {
            SockRef::from(socket).set_unicast_hops_v6(hops.into())?;
            setsockopt(socket, Ipv6RecvErr, &true)?;
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
        }
    }
}

/// The first error in a socket's queue.
fn error_of(socket: &UdpSocket, net: &Net) -> io::Result<IcmpError> {
    let timeout = PollTimeout::try_from(net.patience()).unwrap_or(PollTimeout::MAX);
    // Errors are reported without being asked for.
    if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::empty())], timeout)? == 0 {
        return Err(ErrorKind::TimedOut.into());
    }
    let (mut quoted, mut control) = ([0; 2048], vec![0; 1024]);
    let mut parts = [IoSliceMut::new(&mut quoted)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_ERRQUEUE)?;
    let told = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::Ipv4RecvErr(error, Some(from)) => {
            Some((error, IpAddr::from(u32::from_be(from.sin_addr.s_addr).to_be_bytes())))
        }
        ControlMessageOwned::Ipv6RecvErr(error, Some(from)) => Some((error, IpAddr::from(from.sin6_addr.s6_addr))),
        _ => None,
    });
    let (error, from) = told.ok_or_else(|| Error::new(ErrorKind::InvalidData, "an error that nobody has sent"))?;
    Ok(IcmpError { from, kind: error.ee_type, code: error.ee_code, mtu: error.ee_info })
}
