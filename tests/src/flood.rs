//! Frames from random addresses and ports, as many and as fast as one thread can send and the receiver takes them.

use std::io::Error;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::{fs, io};

use etherparse::PacketBuilder;

use crate::fail::OrFail;
use crate::net::Net;

/// How many frames go to the kernel at once.
const BATCH: usize = 64;

/// What is random in each frame of a flood; the rest is as told.
#[derive(Clone, Copy, Debug)]
pub enum Flood {
    /// TCP segments that open connections, from random addresses and ports to this one.
    Syn(IpAddr, u16),
    /// Datagrams from random addresses and ports to this one.
    Udp(IpAddr, u16),
    /// Datagrams from this address to random ones and ports.
    Outbound(IpAddr),
}

/// A running flood.
pub struct Flooding {
    sent: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

impl Net {
    /// Sends so many frames of a flood out of an interface, to `mac`.
    #[track_caller]
    pub fn flood(&self, interface: &str, mac: [u8; 6], flood: Flood, frames: u64) -> Flooding {
        let own = self.link(interface).mac;
        let socket = self.frames(interface);
        let sent = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&sent);
        let thread = thread::spawn(move || {
            let mut random = Random(0x9e37_79b9_7f4a_7c15);
            let mut template = flood.template(own, mac);
            let mut batch = vec![Vec::new(); BATCH];
            let mut left = frames;
            while left > 0 {
                let number = left.min(BATCH as u64) as usize;
                for frame in &mut batch[..number] {
                    flood.vary(&mut template, &mut random);
                    frame.clone_from(&template);
                }
                wait_for_room()?;
                send_all(socket.as_raw_fd(), &batch[..number])?;
                left -= number as u64;
                counter.fetch_add(number as u64, Ordering::Relaxed);
            }
            Ok(())
        });
        Flooding { sent, thread }
    }
}

impl Flooding {
    /// How many frames have been sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Is it still going on?
    pub fn goes_on(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits until all is sent.
    #[track_caller]
    pub fn finish(self) -> u64 {
        let ended = self.thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        ended.or_fail("flood");
        self.sent.load(Ordering::Relaxed)
    }
}

impl Flood {
    /// A frame with zeros where each is different, and a checksum that is right for these.
    fn template(self, from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
        let (known, port, outbound) = match self {
            Self::Syn(to, port) | Self::Udp(to, port) => (to, port, false),
            Self::Outbound(from) => (from, 0, true),
        };
        let ethernet = PacketBuilder::ethernet2(from, to);
        let ip = match known {
            IpAddr::V4(known) if outbound => ethernet.ipv4(known.octets(), [0; 4], 64),
            IpAddr::V4(known) => ethernet.ipv4([0; 4], known.octets(), 64),
            IpAddr::V6(known) if outbound => ethernet.ipv6(known.octets(), [0; 16], 64),
            IpAddr::V6(known) => ethernet.ipv6([0; 16], known.octets(), 64),
        };
        let mut frame = Vec::new();
        let built = match self {
            Self::Syn(..) => ip.tcp(0, port, 1, 64_000).syn().write(&mut frame, &[]),
            _ => ip.udp(0, port).write(&mut frame, &[0; 8]),
        };
        built.expect("memory can be written");
        frame
    }

    /// Fills in another address and port: none that is anybody's in a lab, each one unicast.
    fn vary(self, frame: &mut [u8], random: &mut Random) {
        let (v6, number, ports) = (frame[12] == 0x86, random.next(), random.next());
        let (source, destination, transport) = if v6 { (22, 38, 54) } else { (26, 30, 34) };
        let address = if let Self::Outbound(_) = self { destination } else { source };
        let checksum = transport + if let Self::Syn(..) = self { 16 } else { 6 };
        let set = |frame: &mut [u8], at: usize, value: u16, sums: &[usize]| {
            let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
            frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
            for &sum in sums {
                // RFC 1624 equation 3.
                let field = u16::from_be_bytes([frame[sum], frame[sum + 1]]);
                let wide = u32::from(!field) + u32::from(!old) + u32::from(value);
                let folded = (wide & 0xffff) + (wide >> 16);
                let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
                frame[sum..sum + 2].copy_from_slice(&(!folded).to_be_bytes());
            }
        };
        // 20.0.0.0 to 83.255.255.255, or 2a00::/16.
        let first = if v6 { 0x2a00 } else { 0x1400 + (number & 0x3fff) as u16 };
        let sums: &[usize] = if v6 { &[checksum] } else { &[24, checksum] };
        set(frame, address, first, sums);
        set(frame, address + 2, (number >> 16) as u16, sums);
        if v6 {
            set(frame, address + 14, (number >> 32) as u16, sums);
        }
        set(frame, transport, 1024 + (ports & 0x7fff) as u16, &[checksum]);
        if let Self::Outbound(_) = self {
            set(frame, transport + 2, 1024 + (ports >> 16 & 0x7fff) as u16, &[checksum]);
        }
    }
}

/// Waits until the kernel has worked off most of what it was given. More would be lost before anybody sees it, and other
/// people's packets with it.
fn wait_for_room() -> io::Result<()> {
    /// A third of `net.core.netdev_max_backlog`, which is 1000.
    const MOST: u64 = 300;
    /// The field of each CPU's line that tells how many packets wait.
    const WAITING: usize = 11;
    loop {
        let stat = fs::read_to_string("/proc/net/softnet_stat")?;
        let waiting = stat.lines().filter_map(|line| u64::from_str_radix(line.split(' ').nth(WAITING)?, 16).ok());
        if waiting.max().unwrap_or(0) < MOST {
            return Ok(());
        }
        thread::yield_now();
    }
}

/// Sends frames with as few system calls as there can be.
fn send_all(socket: i32, frames: &[Vec<u8>]) -> io::Result<()> {
    let mut vectors: Vec<_> = frames
        .iter()
        .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: all-zero bytes are a valid value of this plain C struct.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let mut done = 0;
    while done < messages.len() {
        let rest = &mut messages[done..];
        // SAFETY: the messages point to `vectors`, these to `frames`, and both outlive the call.
        let sent = unsafe { libc::sendmmsg(socket, rest.as_mut_ptr(), rest.len() as u32, 0) };
        match sent {
            0.. => done += sent as usize,
            _ => match Error::last_os_error() {
                // The interface's queue is full.
                error if error.raw_os_error() == Some(libc::ENOBUFS) => thread::yield_now(),
                error => return Err(error),
            },
        }
    }
    Ok(())
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Family, V4};
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn frames_of_a_flood_are_all_different_and_their_checksums_right() {
        for family in Family::BOTH {
            let known: IpAddr =
                if family == V4 { Ipv4Addr::new(198, 18, 0, 1).into() } else { Ipv6Addr::LOCALHOST.into() };
            for flood in [Flood::Syn(known, 80), Flood::Udp(known, 53), Flood::Outbound(known)] {
                let (mut frame, mut random, mut seen) = (flood.template([1; 6], [2; 6]), Random(1), HashSet::new());
                for _ in 0..1000 {
                    flood.vary(&mut frame, &mut random);
                    assert!(sums_are_right(&frame), "{flood:?} {frame:x?}");
                    seen.insert(frame.clone());
                }
                assert!(seen.len() > 990, "{flood:?}: {}", seen.len());
            }
        }
    }

    fn sums_are_right(frame: &[u8]) -> bool {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let (header, v4, v6) = match packet.net.as_ref().unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                (
                    header.header_checksum == header.calc_header_checksum(),
                    Some((header.source, header.destination)),
                    None,
                )
            }
            NetSlice::Ipv6(ip) => (true, None, Some((ip.header().source(), ip.header().destination()))),
            NetSlice::Arp(_) => panic!("ARP"),
        };
        let transport = match packet.transport.as_ref().unwrap() {
            TransportSlice::Tcp(tcp) => match (v4, v6) {
                (Some((s, d)), _) => tcp.calc_checksum_ipv4(s, d).unwrap() == tcp.checksum(),
                (_, Some((s, d))) => tcp.calc_checksum_ipv6(s, d).unwrap() == tcp.checksum(),
                _ => unreachable!(),
            },
            TransportSlice::Udp(udp) => {
                let (header, payload) = (udp.to_header(), udp.payload());
                match (v4, v6) {
                    (Some((s, d)), _) => header.calc_checksum_ipv4_raw(s, d, payload).unwrap() == header.checksum,
                    (_, Some((s, d))) => header.calc_checksum_ipv6_raw(s, d, payload).unwrap() == header.checksum,
                    _ => unreachable!(),
                }
            }
            _ => panic!("neither"),
        };
        header && transport
    }
}
