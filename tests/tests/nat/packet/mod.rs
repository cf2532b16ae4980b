//! Packets with names in place of addresses and of translated ports, so that one sequence serves both families and both
//! paths. Here is how they are described; [`bytes`] makes what is sent and what has to arrive.

mod bytes;

use std::collections::BTreeMap;
use std::net::IpAddr;

use spandrel_tests::Family;

pub use bytes::{checksum, crc32c, pseudo_header};

/// Who has an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// A container. It publishes ports, see [`crate::path`].
    A,
    /// A container on the same network. It publishes ports, too.
    B,
    /// A container on another network, with a smaller MTU. It publishes ports as well.
    C,
    /// The gateway of A and B.
    Gateway,
    /// The gateway of C.
    OtherGateway,
    /// The host, as the outside knows it.
    Public,
    /// The host's neighbour on the uplink, as a router that sends errors.
    Router,
    /// Somebody on the internet, another one for each sequence.
    Far,
    /// Somebody else on the internet, also another one for each sequence.
    Else,
    /// Somebody on the internet whose packets show that all earlier ones have arrived.
    Witness,
}

pub use Place::{A, B, C, Else, Far, Gateway, OtherGateway, Public, Router};

/// A port or an echo identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// This very number.
    Number(u16),
    /// Whatever it is when it is first seen; the same ever after.
    Named(char),
}

impl From<u16> for Port {
    fn from(number: u16) -> Self {
        Self::Number(number)
    }
}

impl From<char> for Port {
    fn from(name: char) -> Self {
        Self::Named(name)
    }
}

/// What the names in packets mean in one play of a sequence.
pub struct Scene {
    /// The family that it is played with.
    pub family: Family,
    /// The addresses.
    pub addresses: BTreeMap<Place, IpAddr>,
    /// The ports that have been seen.
    pub ports: BTreeMap<char, u16>,
}

/// The error messages that both families have (RFC 792, RFC 1191, RFC 4443).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Destination unreachable: no route to the host, or nobody there.
    NoHost,
    /// Destination unreachable: forbidden by an administrator.
    Prohibited,
    /// Destination unreachable: nobody listens on the port.
    NoPort,
    /// Time exceeded in transit.
    TimeExceeded,
    /// Fragmentation needed, or packet too big: the next hop's MTU.
    TooBig(u32),
    /// Parameter problem at this byte of the header.
    Parameter(u8),
    /// Redirect to another gateway, IPv4's only.
    Redirect,
}

/// How much of a packet an error message quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quote {
    /// As much as fits into 576 bytes (RFC 1812 §4.3.2.3) or 1280 bytes (RFC 4443 §2.4).
    Fitting,
    /// This many bytes behind the IP header.
    Bytes(usize),
}

/// What is in a packet's transport checksum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sum {
    /// The right one.
    Right,
    /// A wrong one.
    Wrong,
    /// Zero, which means none for UDP over IPv4.
    Absent,
    /// The pseudo-header's sum: the rest is left to the hardware (`CHECKSUM_PARTIAL`).
    Offloaded,
    /// That of another packet.
    Of(Box<Packet>),
}

/// What a packet carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A UDP datagram.
    Udp { from: Port, to: Port, data: Vec<u8> },
    /// A TCP segment.
    Tcp { from: Port, to: Port, segment: Segment },
    /// An SCTP packet with these chunks (RFC 9260).
    Sctp { from: Port, to: Port, tag: u32, chunks: Vec<u8> },
    /// An echo request or reply.
    Echo { reply: bool, id: Port, number: u16, data: Vec<u8> },
    /// An error message about another packet.
    Error { kind: Error, about: Box<Packet>, quote: Quote },
    /// Any other protocol.
    Other { protocol: u8, data: Vec<u8> },
}

/// What a TCP segment has besides ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

/// TCP control bits (RFC 9293 §3.1).
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

/// A packet's description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    pub source: Place,
    pub destination: Place,
    pub body: Body,
    /// Time to live or hop limit.
    hops: u8,
    /// Type of service or traffic class.
    class: u8,
    /// Identification of the IPv4 packet, or of an IPv6 packet's fragments.
    id: u16,
    dont_fragment: bool,
    /// IPv4 options, a multiple of four bytes.
    options: Vec<u8>,
    /// IPv6 extension headers: their numbers, and what follows the "next header" byte of each.
    extensions: Vec<(u8, Vec<u8>)>,
    sum: Sum,
    /// Is the IPv4 header's own checksum right?
    header_sum: bool,
    /// How many bytes are left behind the IP header.
    cut: Option<usize>,
    /// Which bytes behind the IP header are in this fragment, and whether more follow.
    piece: Option<(usize, usize, bool)>,
    /// Does the host's kernel make it, which chooses identification and flow label?
    by_host: bool,
    /// The packet whose checksum the last two bytes of data make zero.
    filler: Option<Box<Packet>>,
    /// For an offloaded packet: the payload of each of the segments that the hardware is to cut, 0 for none.
    pub segment_size: u16,
}

/// Makes a packet with the usual rest.
fn packet(source: Place, destination: Place, body: Body) -> Packet {
    Packet {
        source,
        destination,
        body,
        hops: 64,
        class: 0,
        id: 0x4d2,
        dont_fragment: false,
        options: Vec::new(),
        extensions: Vec::new(),
        sum: Sum::Right,
        header_sum: true,
        cut: None,
        piece: None,
        by_host: false,
        filler: None,
        segment_size: 0,
    }
}

/// A UDP datagram.
pub fn udp(source: Place, from: impl Into<Port>, destination: Place, to: impl Into<Port>, text: &str) -> Packet {
    packet(source, destination, Body::Udp { from: from.into(), to: to.into(), data: text.into() })
}

/// A TCP segment without data.
pub fn tcp(source: Place, from: impl Into<Port>, destination: Place, to: impl Into<Port>, flags: u8) -> Packet {
    let segment =
        Segment { sequence: 1000, acknowledged: 0, flags, window: 64240, options: Vec::new(), data: Vec::new() };
    packet(source, destination, Body::Tcp { from: from.into(), to: to.into(), segment })
}

/// An SCTP packet.
pub fn sctp(source: Place, from: impl Into<Port>, destination: Place, to: impl Into<Port>, chunks: &[u8]) -> Packet {
    packet(source, destination, Body::Sctp { from: from.into(), to: to.into(), tag: 0, chunks: chunks.to_vec() })
}

/// An echo request.
pub fn echo(source: Place, destination: Place, id: impl Into<Port>, text: &str) -> Packet {
    packet(source, destination, Body::Echo { reply: false, id: id.into(), number: 1, data: text.into() })
}

/// A packet of another protocol.
pub fn other(source: Place, destination: Place, protocol: u8, data: &[u8]) -> Packet {
    packet(source, destination, Body::Other { protocol, data: data.to_vec() })
}

/// An error message about a packet, which quotes all of it that fits.
pub fn error(source: Place, destination: Place, kind: Error, about: &Packet) -> Packet {
    packet(source, destination, Body::Error { kind, about: Box::new(about.clone()), quote: Quote::Fitting })
}

/// Changes of a packet: each gives the changed one.
impl Packet {
    /// From another address and port.
    #[must_use]
    pub fn from(&self, place: Place, port: impl Into<Port>) -> Self {
        let mut changed = self.source(place);
        match &mut changed.body {
            Body::Udp { from, .. } | Body::Tcp { from, .. } | Body::Sctp { from, .. } => *from = port.into(),
            Body::Echo { id, .. } => *id = port.into(),
            body => panic!("{body:?} has no port"),
        }
        changed
    }

    /// To another address and port.
    #[must_use]
    pub fn to(&self, place: Place, port: impl Into<Port>) -> Self {
        let mut changed = self.destination(place);
        match &mut changed.body {
            Body::Udp { to, .. } | Body::Tcp { to, .. } | Body::Sctp { to, .. } => *to = port.into(),
            Body::Echo { id, .. } => *id = port.into(),
            body => panic!("{body:?} has no port"),
        }
        changed
    }

    /// From another address.
    #[must_use]
    pub fn source(&self, source: Place) -> Self {
        Self { source, ..self.clone() }
    }

    /// To another address.
    #[must_use]
    pub fn destination(&self, destination: Place) -> Self {
        Self { destination, ..self.clone() }
    }

    /// What the other side sends back: addresses and ports exchanged, this text, a fresh time to live. A TCP segment's
    /// answer has the flags ACK and PSH and continues the numbers.
    #[must_use]
    pub fn answer(&self, text: &str) -> Self {
        let body = match &self.body {
            Body::Udp { from, to, .. } => Body::Udp { from: *to, to: *from, data: text.into() },
            Body::Sctp { from, to, tag, chunks } => {
                Body::Sctp { from: *to, to: *from, tag: *tag, chunks: chunks.clone() }
            }
            Body::Echo { reply, id, number, .. } => {
                Body::Echo { reply: !reply, id: *id, number: *number, data: text.into() }
            }
            Body::Tcp { from, to, segment } => Body::Tcp {
                from: *to,
                to: *from,
                segment: Segment {
                    sequence: segment.acknowledged,
                    acknowledged: segment.end(),
                    flags: ACK,
                    window: segment.window,
                    options: Vec::new(),
                    data: text.into(),
                },
            },
            body => body.clone(),
        };
        packet(self.destination, self.source, body)
    }

    /// The TCP segment with other contents.
    #[must_use]
    pub fn segment(&self, change: impl FnOnce(&mut Segment)) -> Self {
        let mut changed = self.clone();
        match &mut changed.body {
            Body::Tcp { segment, .. } => change(segment),
            body => panic!("{body:?} is no TCP segment"),
        }
        changed
    }

    /// The SCTP packet with this verification tag.
    #[must_use]
    pub fn tag(&self, number: u32) -> Self {
        let mut changed = self.clone();
        match &mut changed.body {
            Body::Sctp { tag, .. } => *tag = number,
            body => panic!("{body:?} is no SCTP packet"),
        }
        changed
    }

    /// The control bits of a TCP segment.
    pub fn flags(&self) -> u8 {
        match &self.body {
            Body::Tcp { segment, .. } => segment.flags,
            body => panic!("{body:?} is no TCP segment"),
        }
    }

    /// One hop on.
    #[must_use]
    pub fn hop(&self) -> Self {
        self.ttl(self.hops - 1)
    }

    /// With this time to live.
    #[must_use]
    pub fn ttl(&self, hops: u8) -> Self {
        Self { hops, ..self.clone() }
    }

    /// With this type of service or traffic class.
    #[must_use]
    pub fn class(&self, class: u8) -> Self {
        Self { class, ..self.clone() }
    }

    /// With this identification.
    #[must_use]
    pub fn id(&self, id: u16) -> Self {
        Self { id, ..self.clone() }
    }

    /// With the IPv4 flag that forbids to fragment it. Without it, IPv4 packets may be fragmented; IPv6 packets never may.
    #[must_use]
    pub fn dont_fragment(&self) -> Self {
        Self { dont_fragment: true, ..self.clone() }
    }

    /// With IPv4 options.
    #[must_use]
    pub fn options(&self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self.clone() }
    }

    /// With one more IPv6 extension header: its number, and what follows its first byte.
    #[must_use]
    pub fn extension(&self, number: u8, rest: &[u8]) -> Self {
        let mut changed = self.clone();
        changed.extensions.push((number, rest.to_vec()));
        changed
    }

    /// With such a transport checksum.
    #[must_use]
    pub fn sum(&self, sum: Sum) -> Self {
        Self { sum, ..self.clone() }
    }

    /// With two more bytes of data, the same in both: they give `other` a computed checksum of zero. The data before has
    /// an even length.
    #[must_use]
    pub fn filled_for(&self, other: &Packet) -> Self {
        Self { filler: Some(Box::new(other.clone())), ..self.clone() }
    }

    /// Offloaded, to be cut into segments of `size` bytes of payload.
    #[must_use]
    pub fn segments_of(&self, size: u16) -> Self {
        Self { sum: Sum::Offloaded, segment_size: size, ..self.clone() }
    }

    /// With a wrong checksum in the IPv4 header.
    #[must_use]
    pub fn wrong_header_sum(&self) -> Self {
        Self { header_sum: false, ..self.clone() }
    }

    /// With only so many bytes behind the IP header, whose length says so.
    #[must_use]
    pub fn cut(&self, len: usize) -> Self {
        Self { cut: Some(len), ..self.clone() }
    }

    /// The bytes of `range` behind the IP header, as a fragment. The last one must be told to be so.
    #[must_use]
    pub fn piece(&self, range: std::ops::Range<usize>, more: bool) -> Self {
        Self { piece: Some((range.start, range.end, more)), ..self.clone() }
    }

    /// An error message that quotes only this many bytes behind the IP header.
    #[must_use]
    pub fn quoting(&self, bytes: usize) -> Self {
        let mut changed = self.clone();
        match &mut changed.body {
            Body::Error { quote, .. } => *quote = Quote::Bytes(bytes),
            body => panic!("{body:?} is no error"),
        }
        changed
    }

    /// An error message about another packet than this one's.
    #[must_use]
    pub fn about(&self, change: impl FnOnce(&Packet) -> Packet) -> Self {
        let mut changed = self.clone();
        match &mut changed.body {
            Body::Error { about, .. } => **about = change(about),
            body => panic!("{body:?} is no error"),
        }
        changed
    }

    /// As the host's own kernel sends it.
    #[must_use]
    pub fn by_host(&self) -> Self {
        // Errors about IPv4 packets are network control (RFC 1812 §4.3.2.5).
        let class = if matches!(self.body, Body::Error { .. }) { 0xc0 } else { self.class };
        Self { by_host: true, class, ..self.clone() }
    }
}

impl Segment {
    /// The number behind its last one: SYN and FIN count as a byte each.
    pub fn end(&self) -> u32 {
        let counted = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0) + self.data.len() as u32;
        self.sequence.wrapping_add(counted)
    }
}
