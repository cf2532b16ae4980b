//! Packets as the oracle reads them: its own parser and sums, none of the product's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

pub(crate) const ETHERTYPE_V4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_V6: u16 = 0x86dd;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const FRAGMENT_HEADER: u8 = 44;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Addresses and ports; ports are the identifier of an echo, and 0 where there are none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Tuple {
    pub(crate) protocol: u8,
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
}

impl Tuple {
    pub(crate) fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }
}

/// What kind of message it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Tcp(u8),
    Udp,
    /// Does it open an association?
    Sctp(bool),
    /// An echo request, or an ICMP timestamp request.
    EchoRequest,
    EchoReply,
    /// An ICMP error; the packet inside begins at this byte of the frame.
    Error(usize),
    /// A fragment that is not the first.
    Later,
    /// Its header is cut short.
    Stump,
    Other,
}

/// A fragment's place in the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fragment {
    /// Where its identification begins in the frame.
    pub(crate) id_at: usize,
    pub(crate) offset: usize,
}

/// An IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ip {
    pub(crate) tuple: Tuple,
    pub(crate) kind: Kind,
    pub(crate) ttl: u8,
    /// Where the IP header begins, the transport header begins, and the packet ends, in the frame.
    pub(crate) at: usize,
    pub(crate) transport: usize,
    pub(crate) end: usize,
    pub(crate) fragment: Option<Fragment>,
    /// Are there IP options or extension headers other than a fragment's?
    pub(crate) options: bool,
}

pub(crate) fn ethertype(frame: &[u8]) -> u16 {
    u16_at(frame, 12).unwrap_or(0)
}

pub(crate) fn destination_mac(frame: &[u8]) -> [u8; 6] {
    frame[..6].try_into().expect("six bytes")
}

/// Does whoever has this MAC address take the frame?
pub(crate) fn is_for(frame: &[u8], mac: [u8; 6]) -> bool {
    destination_mac(frame) == mac || destination_mac(frame)[0] & 1 != 0
}

pub(crate) fn source_mac(frame: &[u8]) -> [u8; 6] {
    frame[6..12].try_into().expect("six bytes")
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn v4_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?).into())
}

fn v6_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?).into())
}

/// Source and destination, whatever else is wrong with the packet.
pub(crate) fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match ethertype(frame) {
        ETHERTYPE_V4 => Some((v4_at(frame, ETHERNET + 12)?, v4_at(frame, ETHERNET + 16)?)),
        ETHERTYPE_V6 => Some((v6_at(frame, ETHERNET + 8)?, v6_at(frame, ETHERNET + 24)?)),
        _ => None,
    }
}

/// Reads the frame's IP packet; `None` if no router would take it for one.
pub(crate) fn ip(frame: &[u8]) -> Option<Ip> {
    let packet = read(frame, ETHERNET, ethertype(frame) == ETHERTYPE_V6)?;
    let known = matches!(ethertype(frame), ETHERTYPE_V4 | ETHERTYPE_V6);
    (known && packet.end <= frame.len()).then_some(packet)
}

/// Reads the packet inside an ICMP error, which may be cut anywhere behind its IP header.
pub(crate) fn quoted(frame: &[u8], error: &Ip) -> Option<Ip> {
    let Kind::Error(at) = error.kind else { return None };
    let v6 = error.tuple.protocol == ICMPV6;
    // It reaches as far as there are bytes: routers are known to garble the length that they quote.
    let mut bytes = frame[..error.end].to_vec();
    let length = error.end.saturating_sub(at + if v6 { 40 } else { 0 });
    let field = at + if v6 { 4 } else { 2 };
    bytes.get_mut(field..field + 2)?.copy_from_slice(&(length as u16).to_be_bytes());
    read(&bytes, at, v6)
}

/// Reads the packet that begins at byte `at`; its end may lie beyond the bytes that there are.
fn read(bytes: &[u8], at: usize, v6: bool) -> Option<Ip> {
    let first = *bytes.get(at)?;
    let mut ip = if v6 {
        if first >> 4 != 6 {
            return None;
        }
        let source = (v6_at(bytes, at + 8)?, 0);
        let destination = (v6_at(bytes, at + 24)?, 0);
        let end = at + 40 + usize::from(u16_at(bytes, at + 4)?);
        let protocol = *bytes.get(at + 6)?;
        let tuple = Tuple { protocol, source, destination };
        let ttl = *bytes.get(at + 7)?;
        let mut ip = Ip { tuple, kind: Kind::Other, ttl, at, transport: at + 40, end, fragment: None, options: false };
        extension_headers(bytes, &mut ip);
        ip
    } else {
        let header = usize::from(first & 15) * 4;
        let total = usize::from(u16_at(bytes, at + 2)?);
        if first >> 4 != 4 || header < 20 || total < header {
            return None;
        }
        let place = u16_at(bytes, at + 6)?;
        let offset = usize::from(place & 0x1fff) * 8;
        let tuple = Tuple {
            protocol: *bytes.get(at + 9)?,
            source: (v4_at(bytes, at + 12)?, 0),
            destination: (v4_at(bytes, at + 16)?, 0),
        };
        Ip {
            tuple,
            kind: Kind::Other,
            ttl: *bytes.get(at + 8)?,
            at,
            transport: at + header,
            end: at + total,
            fragment: (place & 0x3fff != 0).then_some(Fragment { id_at: at + 4, offset }),
            options: header != 20,
        }
    };
    transport(bytes, &mut ip);
    Some(ip)
}

/// Skips hop-by-hop, routing, destination options and fragment headers (RFC 8200 §4.1).
fn extension_headers(bytes: &[u8], ip: &mut Ip) {
    let end = ip.end.min(bytes.len());
    loop {
        let Some(header) = bytes.get(ip.transport..end).filter(|rest| rest.len() >= 8) else { return };
        let length = match ip.tuple.protocol {
            FRAGMENT_HEADER => {
                let place = u16::from_be_bytes([header[2], header[3]]);
                ip.fragment = Some(Fragment { id_at: ip.transport + 4, offset: usize::from(place & 0xfff8) });
                8
            }
            0 | 43 | 60 => {
                ip.options = true;
                (usize::from(header[1]) + 1) * 8
            }
            _ => return,
        };
        if ip.transport + length > end {
            return;
        }
        ip.tuple.protocol = header[0];
        ip.transport += length;
        if ip.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return;
        }
    }
}

/// Reads ports and kind, as far as there are bytes.
fn transport(bytes: &[u8], ip: &mut Ip) {
    if ip.fragment.is_some_and(|fragment| fragment.offset != 0) {
        ip.kind = Kind::Later;
        return;
    }
    let end = ip.end.min(bytes.len());
    let least = match (ip.tuple.protocol, ip.is_v6()) {
        (TCP, _) => 20,
        (SCTP, _) => 16,
        (UDP, _) | (ICMP, false) | (ICMPV6, true) => 8,
        _ => return,
    };
    let Some(header) = bytes.get(ip.transport..end).filter(|rest| rest.len() >= least.min(8)) else {
        ip.kind = Kind::Stump;
        return;
    };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let echo = ip.tuple.protocol == ICMP && matches!(header[0], 0 | 8 | 13 | 14)
        || ip.tuple.protocol == ICMPV6 && matches!(header[0], 128 | 129);
    match ip.tuple.protocol {
        TCP | UDP | SCTP => (ip.tuple.source.1, ip.tuple.destination.1) = (word(0), word(2)),
        ICMP | ICMPV6 if echo => (ip.tuple.source.1, ip.tuple.destination.1) = (word(4), word(4)),
        _ => {}
    }
    ip.kind = match (ip.tuple.protocol, header[0]) {
        (TCP | SCTP, _) if header.len() < least => Kind::Stump,
        (TCP, _) => Kind::Tcp(header[13]),
        (SCTP, _) => Kind::Sctp(header[12] == 1),
        (UDP, _) => Kind::Udp,
        (ICMP, 8 | 13) | (ICMPV6, 128) => Kind::EchoRequest,
        (ICMP, 0 | 14) | (ICMPV6, 129) => Kind::EchoReply,
        (ICMP, 3 | 4 | 5 | 11 | 12) | (ICMPV6, ..=127) => Kind::Error(ip.transport + 8),
        _ => Kind::Other,
    };
}

impl Ip {
    pub(crate) fn is_v6(&self) -> bool {
        self.tuple.source.0.is_ipv6()
    }

    /// May it open a flow?
    pub(crate) fn opens(&self) -> bool {
        match self.kind {
            Kind::Tcp(flags) => flags & (SYN | ACK | RST | FIN) == SYN,
            Kind::Sctp(init) => init,
            Kind::Udp | Kind::EchoRequest => true,
            Kind::Other => self.tuple.protocol != if self.is_v6() { ICMPV6 } else { ICMP },
            _ => false,
        }
    }

    /// Sequence number, acknowledgment number, and how much sequence space a TCP segment takes.
    pub(crate) fn numbers(&self, frame: &[u8]) -> Option<(u32, u32, u32)> {
        let Kind::Tcp(flags) = self.kind else { return None };
        let header = &frame[self.transport..self.end];
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let payload = header.len().saturating_sub(usize::from(header[12] >> 4) * 4) as u32;
        let own = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        Some((word(4), word(8), payload + own))
    }

    /// Is the CRC of an SCTP packet right?
    pub(crate) fn crc_is_right(&self, frame: &[u8]) -> bool {
        let mut packet = frame[self.transport..self.end].to_vec();
        let told = u32::from_le_bytes([packet[8], packet[9], packet[10], packet[11]]);
        packet[8..12].fill(0);
        told == crc32c(&packet)
    }

    /// Where the transport checksum lies in the frame, if the protocol has one and it is there.
    pub(crate) fn checksum_at(&self) -> Option<usize> {
        let offset = match self.tuple.protocol {
            TCP => 16,
            UDP => 6,
            ICMP if !self.is_v6() => 2,
            ICMPV6 if self.is_v6() => 2,
            _ => return None,
        };
        let at = self.transport + offset;
        (self.kind != Kind::Later && at + 2 <= self.end).then_some(at)
    }

    /// The ones' complement sum of everything that the transport checksum covers, the checksum included: all ones if it is
    /// right. Whatever changes addresses and ports must keep it, right or wrong. Of a fragment, the sum of what is there.
    pub(crate) fn sum(&self, frame: &[u8]) -> u16 {
        let mut sum = u64::from(fold(add(&frame[self.transport.min(self.end)..self.end])));
        if self.tuple.protocol != ICMP {
            for address in [self.tuple.source.0, self.tuple.destination.0] {
                sum += match address {
                    IpAddr::V4(address) => add(&address.octets()),
                    IpAddr::V6(address) => add(&address.octets()),
                };
            }
            sum += u64::from(self.tuple.protocol) + (self.end - self.transport.min(self.end)) as u64;
        }
        fold(sum)
    }

    /// Does a UDP header carry no checksum?
    pub(crate) fn is_unsummed(&self, frame: &[u8]) -> bool {
        self.kind == Kind::Udp && self.checksum_at().is_some_and(|at| frame[at..at + 2] == [0, 0])
    }

    /// Takes one hop off, as a router does.
    pub(crate) fn lower_ttl(&self, frame: &mut [u8]) {
        frame[self.at + if self.is_v6() { 7 } else { 8 }] -= 1;
        if !self.is_v6() {
            mend_header(frame, self);
        }
    }

    /// Is the IP header's checksum right? IPv6 has none.
    pub(crate) fn is_sound(&self, frame: &[u8]) -> bool {
        self.header_sum(frame).is_none_or(|sum| sum == 0xffff)
    }

    /// The sum of an IPv4 header: all ones if its checksum is right.
    pub(crate) fn header_sum(&self, frame: &[u8]) -> Option<u16> {
        let header = self.at..self.at + usize::from(frame[self.at] & 15) * 4;
        (!self.is_v6()).then(|| fold(add(frame.get(header).unwrap_or_default())))
    }
}

/// Adds up 16-bit words.
fn add(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0))).sum()
}

/// A sum as a ones' complement number. Zero and all ones are the same number, of which this gives the latter, except that
/// nothing adds up to zero.
fn fold(sum: u64) -> u16 {
    match sum % 0xffff {
        0 if sum != 0 => 0xffff,
        rest => rest as u16,
    }
}

/// Writes right checksums into a frame, as far as it can be read: of the IPv4 header and of the transport header.
pub(crate) fn mend(frame: &mut [u8]) {
    let Some(ip) = ip(frame) else { return };
    if !ip.is_v6() {
        mend_header(frame, &ip);
    }
    if let (Kind::Sctp(_), None) = (ip.kind, ip.fragment) {
        frame[ip.transport + 8..ip.transport + 12].fill(0);
        let crc = crc32c(&frame[ip.transport..ip.end]);
        frame[ip.transport + 8..ip.transport + 12].copy_from_slice(&crc.to_le_bytes());
    }
    if ip.fragment.is_none()
        && let Some(at) = ip.checksum_at()
    {
        frame[at..at + 2].fill(0);
        let sum = match !ip.sum(frame) {
            0 => 0xffff,
            sum => sum,
        };
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Writes the right checksum into an IPv4 header.
fn mend_header(frame: &mut [u8], ip: &Ip) {
    if ip.transport <= frame.len() {
        frame[ip.at + 10..ip.at + 12].fill(0);
        let sum = !fold(add(&frame[ip.at..ip.transport]));
        frame[ip.at + 10..ip.at + 12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// CRC32c, bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    /// The oracle's sums agree with those of a library that many others use.
    #[test]
    fn sums_are_right() {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9).udp(7, 8);
        builder.write(&mut frame, b"odd").unwrap();
        let read = ip(&frame).unwrap();
        assert_eq!((read.kind, read.sum(&frame), read.header_sum(&frame)), (Kind::Udp, 0xffff, Some(0xffff)));
        let right = frame.clone();
        mend(&mut frame);
        assert_eq!(frame, right);
        frame[40] ^= 1;
        assert_ne!(read.sum(&frame), 0xffff);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
