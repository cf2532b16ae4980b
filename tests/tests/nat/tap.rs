//! One end of a path: an interface on which whole packets are sent and seen, with what the sender left to the hardware.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use spandrel_tests::{Family, Net, V4, V6};

use crate::packet::{Body, Packet, Scene, checksum};

/// Socket options of `linux/if_packet.h`.
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// Length of a `virtio_net_hdr`, which stands in front of each frame, and of an Ethernet header.
const OFFLOAD: usize = 10;
const ETHERNET: usize = 14;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`, and the kinds of segments.
const NEEDS_SUM: u8 = 1;
const SEGMENTS_TCP4: u8 = 1;
const SEGMENTS_TCP6: u8 = 4;
const SEGMENTS_UDP: u8 = 5;

/// An interface of a namespace.
pub struct Tap {
    socket: Socket,
    /// Its own MAC address, and that of its only neighbour.
    macs: ([u8; 6], [u8; 6]),
}

/// A packet that has arrived.
pub struct Arrival {
    /// The IP packet, with its checksum complete.
    pub bytes: Vec<u8>,
    /// Into segments of how many bytes the hardware would have cut it; 0 if it is one packet.
    pub segment_size: u16,
    /// What is wrong with the frame around it.
    pub complaint: Option<String>,
}

impl Tap {
    /// Opens an interface whose only neighbour has that MAC address.
    pub fn open(net: &Net, interface: &str, neighbour: [u8; 6]) -> Self {
        let link = net.link(interface);
        let socket = net.run(|| open(link.index)).expect("a packet socket");
        Self { socket, macs: (link.mac, neighbour) }
    }

    /// Sends a packet, and tells its bytes.
    pub fn send(&self, packet: &Packet, scene: &Scene) -> Vec<u8> {
        let bytes = packet.bytes(scene);
        let (own, neighbour) = self.macs;
        let mut offload = [0; OFFLOAD];
        if let Some((start, at)) = packet.offload(scene.family) {
            let start = start + ETHERNET as u16;
            offload[0] = NEEDS_SUM;
            offload[6..8].copy_from_slice(&start.to_ne_bytes());
            offload[8..10].copy_from_slice(&at.to_ne_bytes());
            if packet.segment_size != 0 {
                // TCP without options is meant.
                let (kind, header) = match (&packet.body, scene.family) {
                    (Body::Udp { .. }, _) => (SEGMENTS_UDP, 8),
                    (_, V4) => (SEGMENTS_TCP4, 20),
                    (_, V6) => (SEGMENTS_TCP6, 20),
                };
                offload[1] = kind;
                offload[2..4].copy_from_slice(&(start + header).to_ne_bytes());
                offload[4..6].copy_from_slice(&packet.segment_size.to_ne_bytes());
            }
        }
        let kind: [u8; 2] = if scene.family == V4 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&offload[..], &neighbour, &own, &kind, &bytes].concat();
        let sent = (&self.socket).write(&frame).expect("a frame can be sent");
        assert_eq!(sent, frame.len());
        bytes
    }

    /// The next packet of interest, if one comes in time.
    pub fn next(&self, patience: Duration) -> Option<Arrival> {
        let end = Instant::now() + patience;
        let mut buffer = vec![0; 65536 + OFFLOAD + ETHERNET];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(length) => match self.arrival(&buffer[..length]) {
                    Some(arrival) => return Some(arrival),
                    None => continue,
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("cannot receive frames: {error}"),
            }
            let left = end.checked_duration_since(Instant::now())?;
            let timeout = PollTimeout::try_from(left.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout).expect("a socket can be polled");
        }
    }

    fn arrival(&self, frame: &[u8]) -> Option<Arrival> {
        let (offload, frame) = frame.split_at_checked(OFFLOAD)?;
        let (ethernet, packet) = frame.split_at_checked(ETHERNET)?;
        let family = match ethernet[12..14] {
            [8, 0] => V4,
            [0x86, 0xdd] => V6,
            _ => return None,
        };
        if is_housekeeping(family, packet) {
            return None;
        }
        let mut bytes = packet.to_vec();
        let word = |at: usize| u16::from_ne_bytes([offload[at], offload[at + 1]]);
        if offload[0] & NEEDS_SUM != 0 {
            complete_sum(family, &mut bytes, usize::from(word(6)) - ETHERNET, usize::from(word(8)));
        }
        let (own, neighbour) = self.macs;
        let complaint = (ethernet[..6] != own || ethernet[6..12] != neighbour)
            .then(|| format!("a frame from {:x?} to {:x?}", &ethernet[6..12], &ethernet[..6]));
        Some(Arrival { bytes, segment_size: if offload[1] == 0 { 0 } else { word(4) }, complaint })
    }
}

/// Does the checksum that was left to the hardware: it begins at `start` and belongs `at` bytes behind. A pseudo-header's sum
/// that was wrong gives a wrong one.
fn complete_sum(family: Family, packet: &mut [u8], start: usize, at: usize) {
    let udp = packet[if family == V4 { 9 } else { 6 }] == 17;
    let sum = checksum(&packet[start..]);
    let sum = if sum == 0 && udp { 0xffff } else { sum };
    packet[start + at..start + at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What machines tell each other of themselves: group memberships, routers and neighbours.
fn is_housekeeping(family: Family, packet: &[u8]) -> bool {
    match family {
        V4 => packet.get(16).is_none_or(|first| *first >= 224),
        V6 => {
            // Only listener reports have a hop-by-hop header and go to groups.
            let group = packet.get(24) == Some(&0xff);
            group || packet.get(6) == Some(&58) && packet.get(40).is_some_and(|kind| (133..=137).contains(kind))
        }
    }
}

fn open(index: u32) -> io::Result<Socket> {
    let every = u16::to_be(libc::ETH_P_ALL as u16);
    // No protocol yet: nothing is received before it is bound.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    for option in [PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING] {
        let on: libc::c_int = 1;
        let size = size_of_val(&on) as libc::socklen_t;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
        // SAFETY: the option is an integer, and its size is told.
        if unsafe { libc::setsockopt(descriptor, libc::SOL_PACKET, option, (&raw const on).cast(), size) } != 0 {
            return Err(Error::last_os_error());
        }
    }
    // SAFETY: the storage is larger than a sockaddr_ll and aligned for it, and the length tells how much was written.
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
    // More than the system's limit for others: nothing may be lost while both ends send.
    setsockopt(&socket, RcvBufForce, &(8 << 20))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
