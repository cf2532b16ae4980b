//! What the data plane needs to know of an IP packet, taken from a frame in one pass.

use core::mem::offset_of;

use super::{Be16, Frame, Header, ethernet, icmp, ipv4, ipv6, transport};
use crate::{
    address::{Address, V4, V6},
    checksum::Difference,
    drop_reason::DropReason,
    tcp,
    tuple::{Protocol, Tuple},
};

/// What kind of packet it is.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Anything else.
    Other,
    /// A TCP segment.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An SCTP packet.
    Sctp,
    /// An ICMP query with an identifier: an ICMP or ICMPv6 echo request, an ICMP timestamp request (RFC 5508 §3).
    EchoRequest,
    /// The answer to one.
    EchoReply,
    /// An ICMP or ICMPv6 error, with a packet inside.
    IcmpError,
    /// An ICMPv6 neighbour solicitation or advertisement.
    NeighborDiscovery,
    /// A fragment that is not the first: it has no ports but those that the first one has told.
    Fragment,
}

/// Which part of a packet a fragment is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Part {
    /// What the fragments of one packet have in common, as it lies on the wire: 16 bits of IPv4, 32 of IPv6; zero for an IPv6
    /// packet without a fragment header.
    pub identification: u32,
    /// What that becomes by translation; the same, unless a program has decided otherwise.
    pub after: u32,
    /// Where in the packet it belongs, bytes.
    pub offset: u16,
    /// Where IPv6's fragment header lies, bytes from the beginning of the frame; 0 if there is none.
    pub header: u16,
    /// Do others follow?
    pub more: bool,
    /// Has a program been told the packet's ports, and put them where a first fragment's are?
    pub known: bool,
    /// Always zero.
    pub reserved: [u8; 2],
}

impl Part {
    /// A part of the packet with this identification.
    #[inline(always)]
    fn new(identification: u32, offset: u16, more: bool) -> Self {
        Self { identification, after: identification, offset, header: 0, more, known: false, reserved: [0; 2] }
    }

    /// Is it the whole packet? So is an IPv6 packet with a fragment header that says so (RFC 6946).
    #[inline(always)]
    pub fn is_whole(&self) -> bool {
        self.offset == 0 && !self.more
    }

    /// Is it the first of several?
    #[inline(always)]
    pub fn is_first(&self) -> bool {
        self.offset == 0 && self.more
    }
}

/// The packet that an ICMP error quotes: where its fields lie, in bytes from the beginning of the frame.
#[derive(Clone, Copy, Debug)]
pub struct Quote {
    /// Its IP header.
    pub ip: u16,
    /// Its transport header; 0 if nothing that can be understood is quoted.
    pub transport: u16,
    /// Its transport checksum; 0 if it has none, or none that is quoted.
    pub checksum: u16,
    /// What kind of packet it is.
    pub kind: Kind,
}

/// An IP packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// By which its flow is found: addresses and ports, those being zero for protocols that have none. An ICMP error is found as
    /// the answer to what it quotes.
    pub tuple: Tuple<A>,
    /// Transport protocol; for an ICMP error that of the packet inside.
    pub protocol: Protocol,
    /// Kind of packet.
    pub kind: Kind,
    /// TCP control bits; none for other protocols.
    pub flags: tcp::Flags,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Does its UDP header carry no checksum (IPv4 only)?
    pub unsummed: bool,
    /// Do IP options or extension headers other than the fragment header stand before the transport header? The stack may have to
    /// look at them.
    pub options: bool,
    /// Does an SCTP packet open an association?
    pub init: bool,
    /// Length of the TCP or UDP header, options included, bytes; 0 for other protocols.
    pub transport_len: u8,
    /// Length of the IP packet, bytes.
    pub length: u16,
    /// Where the transport header lies, bytes from the beginning of the frame.
    pub transport: u16,
    /// Which part of a packet this is.
    pub part: Part,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP acknowledgment number.
    pub acknowledgment: u32,
    /// What an ICMP error quotes.
    pub quote: Quote,
}

/// What the IP headers of both families tell.
#[derive(Clone, Copy, Debug)]
pub struct IpFields<A> {
    source: A,
    destination: A,
    protocol: u8,
    ttl: u8,
    length: u16,
    header_len: u16,
    part: Part,
}

/// What a change of addresses does to checksums.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// To one that covers the addresses: that of a transport header with a pseudo-header.
    pub addresses: Difference,
    /// To one that covers the whole IP header: that of an ICMP error that quotes it.
    pub header: Difference,
    /// To a sum of the whole packet, beside what a pseudo-header covers: IPv4's header has a checksum that makes up for its every
    /// change, IPv6's has none.
    pub uncovered: Difference,
}

/// Reads the family's IP header.
pub trait IpHeader: Address {
    /// The family's header without options or extension headers.
    type Header: Header;
    /// The protocol number of this family's ICMP.
    const ICMP: Protocol;

    /// Checks a header and takes what both families have in common; `None` when it contradicts itself.
    fn fields(header: &Self::Header) -> Option<IpFields<Self>>;
    /// The source that a header names.
    fn source(header: &Self::Header) -> Self;
    /// The destination that a header names.
    fn destination(header: &Self::Header) -> Self;
    /// Is its checksum right? IPv6 has none.
    fn is_sound(header: &Self::Header) -> bool;
    /// Gives the header other addresses and a time to live that is lower by `hops`; IPv4's checksum is updated, so that a wrong
    /// one stays wrong. Tells what the addresses' change does to a checksum that covers them, and what the header's does to one
    /// that covers the header (and leaves the time to live out, which no quoted header changes).
    fn translate(header: &mut Self::Header, source: Self, destination: Self, hops: u8) -> Translation;
}

impl IpHeader for V4 {
    type Header = ipv4::Ipv4;
    const ICMP: Protocol = Protocol::ICMP;

    #[inline(always)]
    fn fields(header: &Self::Header) -> Option<IpFields<Self>> {
        let length = header.total_length.get();
        let header_len = u16::from(header.version_ihl & 0x0f) * 4;
        if header.version_ihl >> 4 != 4 || header_len < 20 || length < header_len {
            return None;
        }
        let mut part = Part::new(header.identification.raw().into(), 0, false);
        let bits = header.fragment.get();
        if bits & 0x3fff != 0 {
            (part.offset, part.more) = ((bits & 0x1fff) << 3, bits & 0x2000 != 0);
        }
        Some(IpFields {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            ttl: header.ttl,
            length,
            header_len,
            part,
        })
    }

    #[inline(always)]
    fn source(header: &Self::Header) -> Self {
        header.source
    }

    #[inline(always)]
    fn destination(header: &Self::Header) -> Self {
        header.destination
    }

    #[inline(always)]
    fn is_sound(header: &Self::Header) -> bool {
        header.sum() == u16::MAX
    }

    #[inline(always)]
    fn translate(header: &mut Self::Header, source: Self, destination: Self, hops: u8) -> Translation {
        // The time to live and the protocol share one word with the checksum; its difference leaves the checksum's half out.
        let word = |ttl: u8| u32::from(u16::from_ne_bytes([ttl, header.protocol]));
        let ttl = header.ttl.saturating_sub(hops);
        let addresses = header.source.difference(source).and(header.destination.difference(destination));
        let before = header.checksum.raw();
        let checksum = addresses.word(word(header.ttl), word(ttl)).update(before);
        header.checksum = Be16::from_raw(checksum);
        header.ttl = ttl;
        header.source = source;
        header.destination = destination;
        let header = addresses.word(before.into(), checksum.into());
        Translation { addresses, header, uncovered: Difference::default() }
    }
}

impl IpHeader for V6 {
    type Header = ipv6::Ipv6;
    const ICMP: Protocol = Protocol::ICMPV6;

    #[inline(always)]
    fn fields(header: &Self::Header) -> Option<IpFields<Self>> {
        if header.version_class_flow[0] >> 4 != 6 {
            return None;
        }
        Some(IpFields {
            source: header.source,
            destination: header.destination,
            protocol: header.next_header,
            ttl: header.hop_limit,
            length: header.payload_length.get().checked_add(40)?,
            header_len: 40,
            part: Part::default(),
        })
    }

    #[inline(always)]
    fn source(header: &Self::Header) -> Self {
        header.source
    }

    #[inline(always)]
    fn destination(header: &Self::Header) -> Self {
        header.destination
    }

    #[inline(always)]
    fn is_sound(_: &Self::Header) -> bool {
        true
    }

    #[inline(always)]
    fn translate(header: &mut Self::Header, source: Self, destination: Self, hops: u8) -> Translation {
        let addresses = header.source.difference(source).and(header.destination.difference(destination));
        let word = |hop_limit: u8| u32::from(u16::from_ne_bytes([header.next_header, hop_limit]));
        let hop_limit = header.hop_limit.saturating_sub(hops);
        let uncovered = Difference::default().word(word(header.hop_limit), word(hop_limit));
        header.hop_limit = hop_limit;
        header.source = source;
        header.destination = destination;
        Translation { addresses, header: addresses, uncovered }
    }
}

/// A frame all of whose positions are taken as known at run time only.
struct Far<'a, F: ?Sized>(&'a F);

impl<F: Frame + ?Sized> Frame for Far<'_, F> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn read<T: Header>(&self, at: usize) -> Option<T> {
        self.0.load(at)
    }
}

impl<A: IpHeader> Packet<A> {
    /// Where the transport header begins, when there are no options, extension headers or fragments.
    const TRANSPORT: usize = ethernet::LEN + A::HEADER_LEN;

    /// No packet yet: what [`Packet::read`] fills.
    pub const EMPTY: Self = Self {
        source: A::UNSPECIFIED,
        destination: A::UNSPECIFIED,
        tuple: Tuple {
            source: A::UNSPECIFIED,
            destination: A::UNSPECIFIED,
            source_port: Be16::new(0),
            destination_port: Be16::new(0),
        },
        protocol: Protocol(0),
        kind: Kind::Other,
        flags: tcp::Flags(0),
        ttl: 0,
        unsummed: false,
        options: false,
        init: false,
        transport_len: 0,
        length: 0,
        transport: 0,
        part: Part { identification: 0, after: 0, offset: 0, header: 0, more: false, known: false, reserved: [0; 2] },
        sequence: 0,
        acknowledgment: 0,
        quote: Quote { ip: 0, transport: 0, checksum: 0, kind: Kind::Other },
    };

    /// Is the packet with this header an ordinary one: TCP or UDP, whole, without options or extension headers, nothing cut short? If
    /// not, it may be right or wrong: [`Packet::read`] tells. This is all that need be known of a packet that is let through by its
    /// addresses alone, at a third of the cost.
    #[inline(always)]
    pub fn is_ordinary<F: Frame + ?Sized>(frame: &F, header: &A::Header) -> bool {
        let Some(ip) = A::fields(header) else { return false };
        let plain = usize::from(ip.header_len) == A::HEADER_LEN && ip.part.is_whole();
        if !plain || usize::from(ip.length) + ethernet::LEN > frame.len() || !A::is_sound(header) {
            return false;
        }
        let payload = ip.length - A::HEADER_LEN as u16;
        match Protocol(ip.protocol) {
            Protocol::TCP => {
                let data_offset = frame.read::<u8>(Self::TRANSPORT + offset_of!(transport::Tcp, data_offset));
                data_offset.is_some_and(|offset| offset >> 4 >= 5 && u16::from(offset >> 4) * 4 <= payload)
            }
            Protocol::UDP => {
                let header = frame.read::<transport::Udp>(Self::TRANSPORT);
                let sound =
                    |length: Be16| payload >= 8 && (length == Be16::default() || (8..=payload).contains(&length.get()));
                header.is_some_and(|header| sound(header.length))
            }
            _ => false,
        }
    }

    /// Reads the packet from a frame whose EtherType is the family's.
    ///
    /// # Errors
    ///
    /// [`DropReason::Malformed`] when a header is cut short or contradicts itself, or IPv4's checksum is wrong.
    pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Self, DropReason> {
        let mut packet = Self::EMPTY;
        packet.read(frame)?;
        Ok(packet)
    }

    /// [`Packet::parse`] in place: in a program a copy would cost time and stack.
    ///
    /// # Errors
    ///
    /// As [`Packet::parse`]; the packet is then of no use.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(&mut self, frame: &F) -> Result<(), DropReason> {
        let header: Option<A::Header> = frame.read(ethernet::LEN);
        let Some(header) = header else { return Err(DropReason::Malformed) };
        let Some(ip) = A::fields(&header) else { return Err(DropReason::Malformed) };
        // With options the checksum covers more than was read; the stack, which gets such packets, looks at it.
        let plain = usize::from(ip.header_len) == A::HEADER_LEN;
        if usize::from(ip.length) + ethernet::LEN > frame.len() || (plain && !A::is_sound(&header)) {
            return Err(DropReason::Malformed);
        }
        self.source = ip.source;
        self.destination = ip.destination;
        self.tuple = Tuple {
            source: ip.source,
            destination: ip.destination,
            source_port: Be16::default(),
            destination_port: Be16::default(),
        };
        self.protocol = Protocol(ip.protocol);
        self.kind = Kind::Other;
        self.flags = tcp::Flags::default();
        self.ttl = ip.ttl;
        self.unsummed = false;
        self.options = !plain;
        self.init = false;
        self.transport_len = 0;
        self.length = ip.length;
        self.transport = ethernet::LEN as u16 + ip.header_len;
        self.part = ip.part;
        let read = if !plain || (A::IS_V6 && ipv6::is_extension(ip.protocol)) {
            self.read_behind_extensions(frame)
        } else {
            self.read_transport(frame, Self::TRANSPORT)
        };
        if read.is_none() {
            return Err(DropReason::Malformed);
        }
        // What cannot be understood answers nothing that we know.
        if self.kind == Kind::IcmpError && self.read_quote(frame).is_none() {
            self.quote.transport = 0;
        }
        Ok(())
    }

    /// Does the transport header follow the IP header at once?
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        usize::from(self.transport) == Self::TRANSPORT && self.part.is_whole()
    }

    /// Can the packet belong to a flow? Not what has no ports to know it by where its protocol has ports, nor what is said on one
    /// link only. A later fragment can once its ports are known.
    #[inline(always)]
    pub fn has_flow(&self) -> bool {
        match self.kind {
            Kind::Fragment => self.part.known,
            Kind::NeighborDiscovery => false,
            // It is told to who sent the packet (RFC 792, RFC 4443 §2.2).
            Kind::IcmpError => self.quote.transport != 0 && self.destination == self.tuple.destination,
            Kind::Other => self.protocol != A::ICMP,
            _ => true,
        }
    }

    /// Is it an ICMP error by somebody else than who got the packet that it is about? Outside that is a router; in a network of
    /// ours nobody is one, and a container would speak for another one.
    #[inline(always)]
    pub fn is_hearsay(&self) -> bool {
        self.kind == Kind::IcmpError && self.source != self.tuple.source
    }

    /// Length of the largest IP packet that this one becomes on the wire: itself, or one of the segments of `gso_size` bytes
    /// of payload into which it will be cut; 0 if it will not.
    #[inline(always)]
    pub fn wire_length(&self, gso_size: u32) -> u32 {
        match gso_size {
            0 => u32::from(self.length),
            payload => u32::from(self.transport) - ethernet::LEN as u32 + u32::from(self.transport_len) + payload,
        }
    }

    /// Bytes of sequence space that a TCP segment takes (RFC 9293 §3.4): its payload, and one each for SYN and FIN.
    #[inline(always)]
    pub fn sequence_len(&self) -> u32 {
        let headers = u32::from(self.transport) - ethernet::LEN as u32 + u32::from(self.transport_len);
        u32::from(self.length).wrapping_sub(headers)
            + u32::from(self.flags.has(tcp::Flags::SYN))
            + u32::from(self.flags.has(tcp::Flags::FIN))
    }

    /// Walks over IPv6 extension headers (RFC 8200 §4), then reads the transport header, wherever it is. A function of its
    /// own for its stack. `None` when something is cut short, or there are more headers than anybody sends.
    #[inline(never)]
    fn read_behind_extensions<F: Frame + ?Sized>(&mut self, frame: &F) -> Option<()> {
        let mut at = usize::from(self.transport);
        if A::IS_V6 {
            for _ in 0..ipv6::MOST_EXTENSIONS {
                // Forgets what is known of the position: the verifier would follow each sequence of headers by itself.
                at = core::hint::black_box(at);
                if !ipv6::is_extension(self.protocol.0) || self.part.offset != 0 {
                    break;
                }
                let header: ipv6::Extension = frame.load(at)?;
                if self.protocol.0 == ipv6::FRAGMENT {
                    let bits = header.word.get();
                    self.part = Part::new(header.identification, bits & 0xfff8, bits & 1 != 0);
                    self.part.header = at as u16;
                    at += size_of::<ipv6::Extension>();
                } else {
                    self.options = true;
                    at += (usize::from(header.len) + 1) * 8;
                }
                self.protocol = Protocol(header.next_header);
            }
            // No header may be behind the end, and no extension behind the last one that is looked at.
            if at > usize::from(self.length) + ethernet::LEN
                || (ipv6::is_extension(self.protocol.0) && self.part.offset == 0)
            {
                return None;
            }
            self.transport = at as u16;
        }
        self.read_transport(&Far(frame), at)
    }

    /// Reads what the transport header tells; `None` when it is cut short.
    #[inline(always)]
    fn read_transport<F: Frame + ?Sized>(&mut self, frame: &F, at: usize) -> Option<()> {
        if self.part.offset != 0 {
            // The first fragment of a TCP segment holds the whole header: what lies there would write over it (RFC 3128).
            if self.protocol == Protocol::TCP && self.part.offset < size_of::<transport::Tcp>() as u16 {
                return None;
            }
            self.kind = Kind::Fragment;
            return Some(());
        }
        let end = usize::from(self.length) + ethernet::LEN;
        let carries = |len: usize| end >= at + len;
        match self.protocol {
            Protocol::TCP => {
                let header: transport::Tcp = frame.read(at).filter(|_| carries(20))?;
                self.kind = Kind::Tcp;
                self.tuple.source_port = header.source;
                self.tuple.destination_port = header.destination;
                self.flags = tcp::Flags(header.flags);
                self.transport_len = (header.data_offset >> 4) * 4;
                self.sequence = header.sequence.get();
                self.acknowledgment = header.acknowledgment.get();
                if self.transport_len < 20 || !carries(self.transport_len.into()) {
                    return None;
                }
            }
            Protocol::UDP => {
                let header: transport::Udp = frame.read(at).filter(|_| carries(8))?;
                self.kind = Kind::Udp;
                self.tuple.source_port = header.source;
                self.tuple.destination_port = header.destination;
                self.unsummed = header.checksum == Be16::default();
                self.transport_len = 8;
                let len = usize::from(header.length.get());
                if self.part.is_whole() && len != 0 && (len < 8 || !carries(len)) {
                    return None;
                }
            }
            Protocol::SCTP => {
                let header: transport::Sctp = frame.read(at).filter(|_| carries(size_of::<transport::Sctp>()))?;
                self.kind = Kind::Sctp;
                self.tuple.source_port = header.source;
                self.tuple.destination_port = header.destination;
                self.init = header.chunk == transport::SCTP_INIT;
            }
            protocol if protocol == A::ICMP => {
                let header: icmp::Icmp = frame.read(at).filter(|_| carries(8))?;
                self.kind = icmp_kind::<A>(header.kind);
                match self.kind {
                    Kind::EchoRequest => self.tuple.source_port = header.identifier,
                    Kind::EchoReply => self.tuple.destination_port = header.identifier,
                    _ => {}
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Reads the packet inside an ICMP error, of which there may be no more than its first eight bytes (RFC 792), and takes the
    /// tuple that answers it. A function of its own for its stack. `None` when too little is there to know its flow.
    #[inline(never)]
    fn read_quote<F: Frame + ?Sized>(&mut self, frame: &F) -> Option<()> {
        let ip_at = usize::from(self.transport) + size_of::<icmp::Icmp>();
        let header: A::Header = frame.load(ip_at)?;
        let ip = A::fields(&header)?;
        let mut at = ip_at + usize::from(ip.header_len);
        let mut protocol = ip.protocol;
        let mut part = ip.part;
        if A::IS_V6 && protocol == ipv6::FRAGMENT {
            let header: ipv6::Extension = frame.load(at)?;
            part.offset = header.word.get() & 0xfff8;
            protocol = header.next_header;
            at += size_of::<ipv6::Extension>();
        }
        let end = usize::from(self.length) + ethernet::LEN;
        if part.offset != 0 || at + 8 > end || (A::IS_V6 && ipv6::is_extension(protocol)) {
            return None;
        }
        let first: icmp::Icmp = frame.load(at)?;
        let mut quoted = Tuple {
            source: ip.source,
            destination: ip.destination,
            source_port: Be16::default(),
            destination_port: Be16::default(),
        };
        let mut kind = Kind::Other;
        let mut checksum = 0;
        match Protocol(protocol) {
            Protocol::TCP | Protocol::UDP | Protocol::SCTP => {
                // Ports lie where ICMP has type, code and checksum.
                quoted.source_port = Be16::from_raw(u16::from_ne_bytes([first.kind, first.code]));
                quoted.destination_port = first.checksum;
                (kind, checksum) = match Protocol(protocol) {
                    Protocol::TCP => (Kind::Tcp, transport::TCP_CHECKSUM),
                    // An IPv4 datagram without a checksum stays so (RFC 768).
                    Protocol::UDP if first.sequence == Be16::default() => (Kind::Udp, 0),
                    Protocol::UDP => (Kind::Udp, transport::UDP_CHECKSUM),
                    _ => (Kind::Sctp, 0),
                };
            }
            protocol if protocol == A::ICMP => {
                kind = icmp_kind::<A>(first.kind);
                match kind {
                    Kind::EchoRequest => quoted.source_port = first.identifier,
                    Kind::EchoReply => quoted.destination_port = first.identifier,
                    _ => return None,
                }
                checksum = icmp::CHECKSUM;
            }
            _ => {}
        }
        let checksum = if checksum != 0 && at + checksum + 2 <= end { at + checksum } else { 0 };
        self.tuple = quoted.reversed();
        self.protocol = Protocol(protocol);
        self.quote = Quote { ip: ip_at as u16, transport: at as u16, checksum: checksum as u16, kind };
        Some(())
    }
}

#[inline(always)]
fn icmp_kind<A: IpHeader>(kind: u8) -> Kind {
    if A::IS_V6 {
        match kind {
            icmp::V6_ECHO_REQUEST => Kind::EchoRequest,
            icmp::V6_ECHO_REPLY => Kind::EchoReply,
            icmp::V6_NEIGHBOR_SOLICITATION | icmp::V6_NEIGHBOR_ADVERTISEMENT => Kind::NeighborDiscovery,
            error if error < icmp::V6_INFORMATIONAL => Kind::IcmpError,
            _ => Kind::Other,
        }
    } else {
        match kind {
            icmp::ECHO_REQUEST | icmp::TIMESTAMP_REQUEST => Kind::EchoRequest,
            icmp::ECHO_REPLY | icmp::TIMESTAMP_REPLY => Kind::EchoReply,
            icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM => Kind::IcmpError,
            _ => Kind::Other,
        }
    }
}

#[cfg(test)]
mod tests;
