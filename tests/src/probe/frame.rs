//! Whole Ethernet frames, for packets that no socket would send.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use etherparse::{IpHeaders, LaxPacketHeaders, NetHeaders, PacketBuilder, PacketBuilderStep};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use crate::fail::OrFail;
use crate::net::Net;

/// Every MAC address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Who a packet comes from, or goes to, on one link: a MAC address, and an IP address with a port.
pub type Station = ([u8; 6], SocketAddr);

/// A socket that sends and receives frames on one interface.
pub struct FrameSocket {
    socket: Socket,
    patience: Duration,
}

impl Net {
    /// Opens an interface for whole frames.
    #[track_caller]
    pub fn frames(&self, interface: &str) -> FrameSocket {
        let index = self.link(interface).index;
        let open = || -> io::Result<FrameSocket> {
            let every = u16::to_be(libc::ETH_P_ALL as u16);
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(every))))?;
            // SAFETY: the storage is larger than a sockaddr_ll and aligned for it, and the length tells how much was
            // written.
            let ((), address) = unsafe {
                SockAddr::try_init(|storage, length| {
                    let address = storage.cast::<libc::sockaddr_ll>();
                    (*address).sll_family = libc::AF_PACKET as u16;
                    (*address).sll_protocol = every;
                    (*address).sll_ifindex = index.cast_signed();
                    *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                    Ok(())
                })
            }?;
            socket.bind(&address)?;
            Ok(FrameSocket { socket, patience: self.patience() })
        };
        self.run(open).or_fail(format_args!("open {interface} of {} for frames", self.name()))
    }
}

impl AsRawFd for FrameSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl FrameSocket {
    /// Sends a frame as it is.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        let sent = (&self.socket).write(frame);
        assert!(matches!(sent, Ok(length) if length == frame.len()), "cannot send a frame: {sent:?}");
    }

    /// Keeps no other frames from now on than those with UDP straight after the IP header, so that a transfer cannot fill the socket.
    #[track_caller]
    pub fn only_udp(self) -> Self {
        const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
        const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
        const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
        let filter = [
            (LOAD_HALF, 0, 0, 12),
            (EQUALS, 0, 2, libc::ETH_P_IP),
            (LOAD_BYTE, 0, 0, 14 + 9),
            (EQUALS, 3, 4, libc::IPPROTO_UDP),
            (EQUALS, 0, 3, libc::ETH_P_IPV6),
            (LOAD_BYTE, 0, 0, 14 + 6),
            (EQUALS, 0, 1, libc::IPPROTO_UDP),
            (RETURN, 0, 0, 65536),
            (RETURN, 0, 0, 0),
        ];
        let filter = filter.map(|(code, jt, jf, k)| SockFilter::new(code as u16, jt, jf, k as u32));
        self.socket.attach_filter(&filter).or_fail("filter frames");
        self
    }

    /// Sends a UDP datagram from one station to another, neither of which needs to be true.
    #[track_caller]
    pub fn send_udp(&self, from: Station, to: Station, text: &str) {
        let mut frame = Vec::new();
        let datagram = packet(from, to).udp(from.1.port(), to.1.port());
        datagram.write(&mut frame, text.as_bytes()).or_fail("write a datagram");
        self.send(&frame);
    }

    /// Sends the first segment of a TCP connection from one station to another, neither of which needs to be true.
    #[track_caller]
    pub fn send_syn(&self, from: Station, to: Station) {
        let mut frame = Vec::new();
        let segment = packet(from, to).tcp(from.1.port(), to.1.port(), 1, 65535).syn();
        segment.write(&mut frame, &[]).or_fail("write a segment");
        self.send(&frame);
    }

    /// The next frame that `wanted` accepts, sent or received, if one comes in time.
    pub fn next(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let end = Instant::now() + self.patience;
        let mut buffer = vec![0; 65536];
        loop {
            let left = end.checked_duration_since(Instant::now())?;
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok()?;
            match (&self.socket).read(&mut buffer) {
                Ok(length) if wanted(&buffer[..length]) => return Some(buffer[..length].to_vec()),
                Err(error) if error.kind() != ErrorKind::Interrupted => return None,
                _ => {}
            }
        }
    }
}

/// The Ethernet and IP headers of a packet between two stations.
fn packet((from_mac, from): Station, (to_mac, to): Station) -> PacketBuilderStep<IpHeaders> {
    let link = PacketBuilder::ethernet2(from_mac, to_mac);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
        (from, to) => panic!("{from} cannot talk to {to}"),
    }
}

/// Source and destination of the IP packet in a frame, if there is one.
pub fn ip_addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match LaxPacketHeaders::from_ethernet(frame).ok()?.net? {
        NetHeaders::Ipv4(header, _) => Some((header.source.into(), header.destination.into())),
        NetHeaders::Ipv6(header, _) => Some((header.source.into(), header.destination.into())),
        NetHeaders::Arp(_) => None,
    }
}
