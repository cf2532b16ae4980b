//! The bytes of a packet, from its description and what the names in it mean.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use spandrel_tests::{Family, V4, V6};

use super::{Body, Error, Packet, Place, Port, Quote, Scene, Sum};

/// The flow label of all packets that are sent here; nobody may change it.
const FLOW_LABEL: u32 = 0x54321;

impl Error {
    /// Type, code, and the second word of the message.
    fn header(self, family: Family) -> (u8, u8, u32) {
        match (self, family) {
            (Error::NoHost, V4) => (3, 1, 0),
            (Error::NoHost, V6) => (1, 3, 0),
            (Error::Prohibited, V4) => (3, 13, 0),
            (Error::Prohibited, V6) => (1, 1, 0),
            (Error::NoPort, V4) => (3, 3, 0),
            (Error::NoPort, V6) => (1, 4, 0),
            (Error::TimeExceeded, V4) => (11, 0, 0),
            (Error::TimeExceeded, V6) => (3, 0, 0),
            (Error::TooBig(mtu), V4) => (3, 4, mtu),
            (Error::TooBig(mtu), V6) => (2, 0, mtu),
            (Error::Parameter(at), V4) => (12, 0, u32::from(at) << 24),
            (Error::Parameter(at), V6) => (4, 0, at.into()),
            (Error::Redirect, _) => (5, 1, u32::from_be_bytes([198, 18, 1, 7])),
        }
    }
}

impl Packet {
    /// The IP packet.
    pub fn bytes(&self, scene: &Scene) -> Vec<u8> {
        let (protocol, mut transport) = self.transport(scene);
        if let Some(len) = self.cut {
            transport.truncate(len);
        }
        if let Some((start, end, _)) = self.piece {
            transport = transport[start..end.min(transport.len())].to_vec();
        }
        let mut bytes = match scene.family {
            V4 => self.ipv4_header(protocol, transport.len(), scene),
            V6 => self.ipv6_header(protocol, transport.len(), scene),
        };
        bytes.extend(transport);
        bytes
    }

    /// Length of the IP header with all that comes before the transport header.
    pub fn header_len(&self, family: Family) -> usize {
        match family {
            V4 => 20 + self.options.len(),
            V6 => {
                let extensions: usize = self.extensions.iter().map(|(_, rest)| 1 + rest.len()).sum();
                40 + extensions + if self.piece.is_some() { 8 } else { 0 }
            }
        }
    }

    /// Where the transport header's checksum lies and whether the pseudo-header counts; `None` if there is no such sum.
    fn sum_at(&self, family: Family) -> Option<(usize, bool)> {
        match &self.body {
            Body::Udp { .. } => Some((6, true)),
            Body::Tcp { .. } => Some((16, true)),
            Body::Echo { .. } | Body::Error { .. } => Some((2, family == V6)),
            Body::Sctp { .. } | Body::Other { .. } => None,
        }
    }

    /// For an offloaded packet: where its transport header begins and the checksum in it, counted from the IP header.
    pub fn offload(&self, family: Family) -> Option<(u16, u16)> {
        let (at, _) = self.sum_at(family).filter(|_| self.sum == Sum::Offloaded)?;
        Some((self.header_len(family) as u16, at as u16))
    }

    fn transport(&self, scene: &Scene) -> (u8, Vec<u8>) {
        let v6 = scene.family == V6;
        let number = |port: &Port| scene.port(*port).to_be_bytes();
        let (protocol, mut bytes) = match &self.body {
            Body::Udp { from, to, data } => {
                let filler = self.filler.as_ref().map(|other| other.filler(scene));
                let data = [&data[..], filler.as_ref().map_or(&[], |filler| &filler[..])].concat();
                let len = (8 + data.len() as u16).to_be_bytes();
                (17, [&number(from)[..], &number(to), &len, &[0, 0], &data].concat())
            }
            Body::Tcp { from, to, segment } => {
                let offset = ((20 + segment.options.len() as u8) / 4) << 4;
                let numbers = [segment.sequence.to_be_bytes(), segment.acknowledged.to_be_bytes()].concat();
                let window = segment.window.to_be_bytes();
                let head = [&number(from)[..], &number(to), &numbers, &[offset, segment.flags], &window, &[0; 4]];
                (6, [&head.concat()[..], &segment.options, &segment.data].concat())
            }
            Body::Sctp { from, to, tag, chunks } => {
                let mut bytes = [&number(from)[..], &number(to), &tag.to_be_bytes(), &[0; 4], chunks].concat();
                let sum = crc32c(&bytes) ^ u32::from(self.sum == Sum::Wrong);
                bytes[8..12].copy_from_slice(&sum.to_le_bytes());
                (132, bytes)
            }
            Body::Echo { reply, id, number: count, data } => {
                let kind = match (v6, reply) {
                    (false, false) => 8,
                    (false, true) => 0,
                    (true, false) => 128,
                    (true, true) => 129,
                };
                (icmp(v6), [&[kind, 0, 0, 0][..], &number(id), &count.to_be_bytes(), data].concat())
            }
            Body::Error { kind, about, quote } => {
                let (kind, code, rest) = kind.header(scene.family);
                let mut quoted = about.bytes(scene);
                quoted.truncate(match quote {
                    Quote::Bytes(len) => about.header_len(scene.family) + len,
                    Quote::Fitting if v6 => 1280 - 40 - 8,
                    Quote::Fitting => 576 - 20 - 8,
                });
                (icmp(v6), [&[kind, code, 0, 0][..], &rest.to_be_bytes(), &quoted].concat())
            }
            Body::Other { protocol, data } => (*protocol, data.clone()),
        };
        if let Some((at, pseudo)) = self.sum_at(scene.family) {
            let pseudo = if pseudo { self.pseudo(protocol, bytes.len(), scene) } else { Vec::new() };
            let right = match checksum(&[&pseudo[..], &bytes].concat()) {
                // RFC 768: a sum of zero is written as ones, for zero means that there is none.
                0 if protocol == 17 => 0xffff,
                sum => sum,
            };
            let sum = match &self.sum {
                Sum::Right => right,
                // Wrong by a difference, which a translation leaves as it is (RFC 1624).
                Sum::Wrong => right.checked_add(257).unwrap_or(right.wrapping_add(258)),
                Sum::Absent => 0,
                Sum::Offloaded => !checksum(&pseudo),
                Sum::Of(other) => {
                    let (_, other) = other.transport(scene);
                    u16::from_be_bytes([other[at], other[at + 1]])
                }
            };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        (protocol, bytes)
    }

    /// The last two bytes of data that give this datagram a computed checksum of zero.
    fn filler(&self, scene: &Scene) -> [u8; 2] {
        let Body::Udp { from, to, data } = &self.body else { panic!("{self:?} is no datagram") };
        let (from, to) = (scene.port(*from).to_be_bytes(), scene.port(*to).to_be_bytes());
        let len = 10 + data.len();
        let bytes = [&self.pseudo(17, len, scene)[..], &from, &to, &(len as u16).to_be_bytes(), data].concat();
        checksum(&bytes).to_be_bytes()
    }

    fn pseudo(&self, protocol: u8, len: usize, scene: &Scene) -> Vec<u8> {
        let ends = [self.source, self.destination].map(|place| scene.address(place));
        pseudo_header(ends[0], ends[1], protocol, len)
    }

    fn ipv4_header(&self, protocol: u8, len: usize, scene: &Scene) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let (offset, more) = self.piece.map_or((0, false), |(start, _, more)| (start, more));
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(more) << 13 | (offset / 8) as u16;
        let words = [(header_len + len) as u16, self.id, flags].map(u16::to_be_bytes).concat();
        let [source, destination] = [self.source, self.destination].map(|place| scene.octets(place));
        let version = 0x40 | (header_len / 4) as u8;
        let head = [&[version, self.class][..], &words, &[self.hops, protocol, 0, 0], &source, &destination];
        let mut header = [&head.concat()[..], &self.options].concat();
        let sum = checksum(&header) ^ u16::from(!self.header_sum);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn ipv6_header(&self, protocol: u8, len: usize, scene: &Scene) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if let Some((start, _, more)) = self.piece {
            let offset = (start as u16 | u16::from(more)).to_be_bytes();
            extensions.push((44, [&[0][..], &offset, &u32::from(self.id).to_be_bytes()].concat()));
        }
        let mut rest = Vec::new();
        for (index, (_, extension)) in extensions.iter().enumerate() {
            rest.push(extensions.get(index + 1).map_or(protocol, |(number, _)| *number));
            rest.extend_from_slice(extension);
        }
        // Network control is an IPv4 host's habit only.
        let class = if self.by_host { 0 } else { self.class };
        let first = 6 << 28 | u32::from(class) << 20 | FLOW_LABEL;
        let next = extensions.first().map_or(protocol, |(number, _)| *number);
        let length = ((rest.len() + len) as u16).to_be_bytes();
        let [source, destination] = [self.source, self.destination].map(|place| scene.octets(place));
        [&first.to_be_bytes()[..], &length, &[next, self.hops], &source, &destination, &rest].concat()
    }
}

/// What is learnt and what is left open when a packet is compared with what has arrived.
impl Packet {
    /// Gives the names of ports that have none yet the numbers that they have in `arrival`.
    pub fn learn(&self, arrival: &[u8], scene: &mut Scene) {
        let at = self.header_len(scene.family);
        let mut learn = |port: &Port, at: usize| {
            if let (Port::Named(name), Some(bytes)) = (port, arrival.get(at..at + 2)) {
                scene.ports.entry(*name).or_insert(u16::from_be_bytes([bytes[0], bytes[1]]));
            }
        };
        match &self.body {
            Body::Udp { from, to, .. } | Body::Tcp { from, to, .. } | Body::Sctp { from, to, .. } => {
                learn(from, at);
                learn(to, at + 2);
            }
            Body::Echo { id, .. } => learn(id, at + 4),
            Body::Error { .. } | Body::Other { .. } => {}
        }
    }

    /// `arrival` with what the host's kernel may choose set as it is expected.
    pub fn settled(&self, arrival: &[u8], expected: &[u8], family: Family) -> Vec<u8> {
        let mut settled = arrival.to_vec();
        if !self.by_host || settled.len() < 20 || expected.len() < 20 {
            return settled;
        }
        match family {
            V4 => {
                // The header's checksum is checked before the identification is forgotten.
                let right = checksum(&settled[..20]) == 0;
                settled[4..6].copy_from_slice(&expected[4..6]);
                if right {
                    settled[10..12].copy_from_slice(&expected[10..12]);
                }
            }
            V6 => {
                settled[1] = settled[1] & 0xf0 | expected[1] & 0x0f;
                settled[2..4].copy_from_slice(&expected[2..4]);
            }
        }
        settled
    }
}

impl Scene {
    /// An address.
    pub fn address(&self, place: Place) -> IpAddr {
        self.addresses[&place]
    }

    /// The bytes of an address.
    fn octets(&self, place: Place) -> Vec<u8> {
        octets(self.address(place))
    }

    /// The number of a port; 0 for a name that has not been seen yet, which nothing that is right has.
    fn port(&self, port: Port) -> u16 {
        match port {
            Port::Number(number) => number,
            Port::Named(name) => self.ports.get(&name).copied().unwrap_or_default(),
        }
    }
}

fn icmp(v6: bool) -> u8 {
    if v6 { 58 } else { 1 }
}

/// The bytes of an address.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What a transport checksum covers besides the packet (RFC 9293 §3.1, RFC 8200 §8.1); the two forms have the same sum.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    [&octets(source)[..], &octets(destination), &(len as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat()
}

/// The Internet checksum (RFC 1071); 0 for bytes that hold their own.
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum16BitWords::new().add_slice(bytes).ones_complement().to_be()
}

/// The checksum of SCTP (RFC 9260 appendix A): CRC-32C, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !sum
}
