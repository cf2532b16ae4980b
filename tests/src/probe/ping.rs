//! ICMP echo over a raw socket, so that machines without the `ping` program will do.

use std::io::{self, Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use etherparse::icmpv4::TYPE_ECHO_REPLY;
use etherparse::icmpv6;
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, Ipv4HeaderSlice};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::Net;

/// What is sent along, to be compared.
const PAYLOAD: &[u8] = b"are you there, neighbour?";

/// The identifier of the next ping: each has its own, as if each were another run of the program.
static NEXT: AtomicU16 = AtomicU16::new(1);

impl Net {
    /// Sends one echo request and waits for the reply. An ICMP error in its place is [`ErrorKind::HostUnreachable`].
    #[track_caller]
    pub fn ping(&self, ip: IpAddr) -> io::Result<Duration> {
        self.ping_as(NEXT.fetch_add(1, Ordering::Relaxed), ip)
    }

    /// The same with an identifier of the caller's choice, as of another program that has it, too.
    #[track_caller]
    pub fn ping_as(&self, id: u16, ip: IpAddr) -> io::Result<Duration> {
        let start = Instant::now();
        match echo(self.echo_socket(ip)?, id, ip, self.patience())? {
            (_, Meaning::Reply) => Ok(start.elapsed()),
            (from, Meaning::Failure(kind)) => {
                Err(Error::new(ErrorKind::HostUnreachable, format!("an ICMP error of type {kind} came from {from}")))
            }
        }
    }

    /// Sends one echo request that may pass `hops` routers, and tells who answers: the last of them, or the destination.
    #[track_caller]
    pub fn hop(&self, ip: IpAddr, hops: u8) -> io::Result<IpAddr> {
        let socket = self.echo_socket(ip)?;
        match ip {
            IpAddr::V4(_) => socket.set_ttl_v4(hops.into())?,
            IpAddr::V6(_) => socket.set_unicast_hops_v6(hops.into())?,
        }
        echo(socket, NEXT.fetch_add(1, Ordering::Relaxed), ip, self.patience()).map(|(from, _)| from)
    }

    fn echo_socket(&self, ip: IpAddr) -> io::Result<Socket> {
        self.run(|| match ip {
            IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)),
            IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)),
        })
    }
}

/// Sends an echo request over `socket` and waits for what comes back, and from whom.
fn echo(socket: Socket, id: u16, ip: IpAddr, patience: Duration) -> io::Result<(IpAddr, Meaning)> {
    let echo = IcmpEchoHeader { id, seq: 1 };
    let start = Instant::now();
    socket.send_to(&request(ip, echo), &SocketAddr::new(ip, 0).into())?;
    // What a raw socket sends and receives, an UdpSocket does as well, and without buffers of uninitialised memory.
    let socket = std::net::UdpSocket::from(socket);
    let mut buffer = [0; 2048];
    while let Some(left) = patience.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        // A raw socket is shown every ICMP packet of its namespace.
        let (length, from) = socket.recv_from(&mut buffer)?;
        if let Some(meaning) = meaning(ip, echo, &buffer[..length]) {
            return Ok((from.ip(), meaning));
        }
    }
    Err(ErrorKind::TimedOut.into())
}

enum Meaning {
    Reply,
    Failure(u8),
}

fn request(ip: IpAddr, echo: IcmpEchoHeader) -> Vec<u8> {
    let mut packet = match ip {
        IpAddr::V4(_) => Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), PAYLOAD).to_bytes().to_vec(),
        // The kernel puts in the checksum, for it chooses the source address.
        IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    };
    packet.extend_from_slice(PAYLOAD);
    packet
}

/// What a received packet means for our request, if it is about it.
fn meaning(ip: IpAddr, echo: IcmpEchoHeader, packet: &[u8]) -> Option<Meaning> {
    // IPv4 raw sockets are shown the IP header, IPv6 ones are not.
    let (icmp, reply, errors, inner_header) = match ip {
        IpAddr::V4(_) => {
            let header = Ipv4HeaderSlice::from_slice(packet).ok()?.slice().len();
            (&packet[header..], TYPE_ECHO_REPLY, [3, 11, 12].as_slice(), 20)
        }
        IpAddr::V6(_) => (packet, icmpv6::TYPE_ECHO_REPLY, [1, 2, 3, 4].as_slice(), 40),
    };
    let ours = [echo.id.to_be_bytes(), echo.seq.to_be_bytes()].concat();
    let kind = *icmp.first()?;
    if kind == reply && icmp.get(4..8)? == ours && icmp.get(8..)? == PAYLOAD {
        return Some(Meaning::Reply);
    }
    // An error quotes the packet that it is about.
    let quoted = 8 + inner_header;
    (errors.contains(&kind) && icmp.get(quoted + 4..quoted + 8)? == ours).then_some(Meaning::Failure(kind))
}
