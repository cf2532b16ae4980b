//! What the data plane needs to know of an IP packet, taken from a frame in one pass.

use super::{Be16, Frame, Header, ethernet, icmp, ipv4, ipv6, transport};
use crate::{
    address::{Address, V4, V6},
    drop_reason::DropReason,
    tcp,
    tuple::{Protocol, Tuple},
};

/// What kind of packet it is, as far as it can be told from the fixed headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A TCP segment.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An ICMP or ICMPv6 echo request.
    EchoRequest,
    /// An ICMP or ICMPv6 echo reply.
    EchoReply,
    /// An ICMP or ICMPv6 error, with a packet inside.
    IcmpError,
    /// An ICMPv6 neighbour solicitation or advertisement.
    NeighborDiscovery,
    /// A fragment, first or later: its ports are not looked at.
    Fragment,
    /// IP options or extension headers stand between the IP header and the rest.
    Options,
    /// Anything else.
    Other,
}

/// An IP packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<A> {
    /// Addresses and ports; ports are zero unless [`Kind`] is TCP, UDP or echo.
    pub tuple: Tuple<A>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Kind of packet.
    pub kind: Kind,
    /// TCP control bits; none for other protocols.
    pub flags: tcp::Flags,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Does its UDP header carry no checksum (IPv4 only)?
    pub unsummed: bool,
    /// Length of the IP packet, bytes.
    pub length: u16,
    /// Length of the TCP or UDP header, options included, bytes; 0 for other protocols.
    pub transport_len: u8,
}

/// What the IP headers of both families tell.
#[derive(Clone, Copy, Debug)]
pub struct IpFields<A> {
    source: A,
    destination: A,
    protocol: u8,
    ttl: u8,
    length: u16,
    fragment: bool,
    options: bool,
}

/// Reads the family's IP header.
pub trait IpHeader: Address {
    /// The family's header without options or extension headers.
    type Header: Header;
    /// The protocol number of this family's ICMP.
    const ICMP: Protocol;

    /// Checks a header and takes what both families have in common; `None` when it contradicts itself.
    fn fields(header: &Self::Header) -> Option<IpFields<Self>>;
    /// The header with other addresses and a time to live that is lower by `hops`; IPv4's checksum is updated, so that a
    /// wrong one stays wrong.
    fn translated(header: Self::Header, source: Self, destination: Self, hops: u8) -> Self::Header;
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
        Some(IpFields {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            ttl: header.ttl,
            length,
            fragment: header.is_fragment(),
            options: header_len != 20,
        })
    }

    #[inline(always)]
    fn translated(mut header: Self::Header, source: Self, destination: Self, hops: u8) -> Self::Header {
        // The time to live and the protocol share one word with the checksum; its difference leaves the checksum's half out.
        let word = |ttl: u8| u32::from(u16::from_ne_bytes([ttl, header.protocol]));
        let ttl = header.ttl.saturating_sub(hops);
        let difference = (header.source.difference(source))
            .and(header.destination.difference(destination))
            .word(word(header.ttl), word(ttl));
        header.checksum = Be16::from_raw(difference.update(header.checksum.raw()));
        header.ttl = ttl;
        header.source = source;
        header.destination = destination;
        header
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
        let next = header.next_header;
        Some(IpFields {
            source: header.source,
            destination: header.destination,
            protocol: next,
            ttl: header.hop_limit,
            length: header.payload_length.get().checked_add(40)?,
            fragment: next == ipv6::FRAGMENT,
            options: matches!(next, ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS),
        })
    }

    #[inline(always)]
    fn translated(mut header: Self::Header, source: Self, destination: Self, hops: u8) -> Self::Header {
        header.hop_limit = header.hop_limit.saturating_sub(hops);
        header.source = source;
        header.destination = destination;
        header
    }
}

impl<A: IpHeader> Packet<A> {
    /// Where the transport header begins, when there are no IP options.
    pub const TRANSPORT: usize = ethernet::LEN + A::HEADER_LEN;

    /// Reads the packet from a frame whose EtherType is the family's.
    ///
    /// # Errors
    ///
    /// [`DropReason::Malformed`] when a header is cut short or contradicts itself.
    #[inline(always)]
    pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Self, DropReason> {
        let header: Option<A::Header> = frame.read(ethernet::LEN);
        let Some(ip) = header.and_then(|header| A::fields(&header)) else { return Err(DropReason::Malformed) };
        if usize::from(ip.length) + ethernet::LEN > frame.len() {
            return Err(DropReason::Malformed);
        }
        let mut packet = Self {
            tuple: Tuple {
                source: ip.source,
                destination: ip.destination,
                source_port: Be16::default(),
                destination_port: Be16::default(),
            },
            protocol: Protocol(ip.protocol),
            kind: Kind::Other,
            flags: tcp::Flags::default(),
            ttl: ip.ttl,
            unsummed: false,
            length: ip.length,
            transport_len: 0,
        };
        if ip.fragment {
            packet.kind = Kind::Fragment;
        } else if ip.options {
            packet.kind = Kind::Options;
        } else if packet.transport(frame).is_none() {
            return Err(DropReason::Malformed);
        }
        Ok(packet)
    }

    /// Length of the largest IP packet that this one becomes on the wire: itself, or one of the segments of `gso_size` bytes
    /// of payload into which it will be cut; 0 if it will not.
    #[inline(always)]
    pub fn wire_length(&self, gso_size: u32) -> u32 {
        match gso_size {
            0 => u32::from(self.length),
            payload => A::HEADER_LEN as u32 + u32::from(self.transport_len) + payload,
        }
    }

    /// Reads what the transport header tells; `None` when it is cut short.
    #[inline(always)]
    fn transport<F: Frame + ?Sized>(&mut self, frame: &F) -> Option<()> {
        let carries = |len: usize| usize::from(self.length) >= A::HEADER_LEN + len;
        match self.protocol {
            Protocol::TCP => {
                let header: transport::Tcp = frame.read(Self::TRANSPORT).filter(|_| carries(20))?;
                self.kind = Kind::Tcp;
                self.tuple.source_port = header.source;
                self.tuple.destination_port = header.destination;
                self.flags = tcp::Flags(header.flags);
                self.transport_len = (header.data_offset >> 4) * 4;
            }
            Protocol::UDP => {
                let header: transport::Udp = frame.read(Self::TRANSPORT).filter(|_| carries(8))?;
                self.kind = Kind::Udp;
                self.tuple.source_port = header.source;
                self.tuple.destination_port = header.destination;
                self.unsummed = header.checksum == Be16::default();
                self.transport_len = 8;
            }
            protocol if protocol == A::ICMP => {
                let header: icmp::Icmp = frame.read(Self::TRANSPORT).filter(|_| carries(8))?;
                self.kind = icmp_kind::<A>(header.kind);
                if matches!(self.kind, Kind::EchoRequest | Kind::EchoReply) {
                    self.tuple.source_port = header.identifier;
                    self.tuple.destination_port = header.identifier;
                }
            }
            _ => {}
        }
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
            icmp::ECHO_REQUEST => Kind::EchoRequest,
            icmp::ECHO_REPLY => Kind::EchoReply,
            icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM => Kind::IcmpError,
            _ => Kind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Difference;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = Vec::new();
        build(&mut frame);
        frame
    }

    fn udp4() -> Vec<u8> {
        built(|out| {
            PacketBuilder::ethernet2(MAC, MAC)
                .ipv4([10, 0, 0, 2], [192, 0, 2, 1], 64)
                .udp(4000, 53)
                .write(out, b"hello")
                .unwrap();
        })
    }

    #[test]
    fn tcp_over_ipv4() {
        let frame = built(|out| {
            PacketBuilder::ethernet2(MAC, MAC)
                .ipv4([10, 0, 0, 2], [192, 0, 2, 1], 63)
                .tcp(4000, 80, 1, 1000)
                .syn()
                .write(out, &[])
                .unwrap();
        });
        let packet = Packet::<V4>::parse(frame.as_slice()).unwrap();
        assert_eq!(packet.kind, Kind::Tcp);
        assert!(packet.flags.opens());
        assert_eq!((packet.tuple.source_port.get(), packet.tuple.destination_port.get()), (4000, 80));
        assert_eq!((packet.ttl, packet.length), (63, 40));
        assert_eq!((packet.wire_length(0), packet.wire_length(1460)), (40, 1500));
    }

    #[test]
    fn udp_over_ipv6() {
        let frame = built(|out| {
            PacketBuilder::ethernet2(MAC, MAC)
                .ipv6([0xfd; 16], [0xfe; 16], 5)
                .udp(4000, 53)
                .write(out, b"hello")
                .unwrap();
        });
        let packet = Packet::<V6>::parse(frame.as_slice()).unwrap();
        assert_eq!((packet.kind, packet.ttl, packet.length), (Kind::Udp, 5, 53));
    }

    #[test]
    fn an_echo_carries_its_identifier_in_both_ports() {
        let frame = built(|out| {
            PacketBuilder::ethernet2(MAC, MAC)
                .ipv4([10, 0, 0, 2], [192, 0, 2, 1], 64)
                .icmpv4_echo_request(77, 1)
                .write(out, b"x")
                .unwrap();
        });
        let packet = Packet::<V4>::parse(frame.as_slice()).unwrap();
        assert_eq!(packet.kind, Kind::EchoRequest);
        assert_eq!((packet.tuple.source_port.get(), packet.tuple.destination_port.get()), (77, 77));
    }

    #[test]
    fn fragments_and_options_show_no_ports() {
        let mut frame = udp4();
        frame[14 + 6] = 0x20;
        let packet = Packet::<V4>::parse(frame.as_slice()).unwrap();
        assert_eq!((packet.kind, packet.tuple.source_port.get()), (Kind::Fragment, 0));
        let mut frame = udp4();
        frame[14] = 0x46;
        assert_eq!(Packet::<V4>::parse(frame.as_slice()).unwrap().kind, Kind::Options);
    }

    #[test]
    fn cut_and_contradictory_headers_are_malformed() {
        let whole = udp4();
        for len in 0..whole.len() {
            assert_eq!(Packet::<V4>::parse(&whole[..len]).err(), Some(DropReason::Malformed), "{len} bytes");
        }
        let mut wrong_version = whole.clone();
        wrong_version[14] = 0x65;
        assert!(Packet::<V4>::parse(wrong_version.as_slice()).is_err());
        let mut short_header = whole.clone();
        short_header[14] = 0x44;
        assert!(Packet::<V4>::parse(short_header.as_slice()).is_err());
        let mut short_length = whole;
        short_length[16..18].copy_from_slice(&24_u16.to_be_bytes());
        assert!(Packet::<V4>::parse(short_length.as_slice()).is_err(), "no room for the UDP header");
    }

    proptest! {
        #[test]
        fn translating_an_ipv4_header_keeps_its_checksum_right(source: u32, destination: u32, ttl in 1..=255_u8, hops in 0..=1_u8) {
            let frame = udp4();
            let mut header: ipv4::Ipv4 = frame.as_slice().read(ethernet::LEN).unwrap();
            let difference = Difference::default()
                .word(u32::from(u16::from_ne_bytes([header.ttl, 0])), u32::from(u16::from_ne_bytes([ttl, 0])));
            header.checksum = Be16::from_raw(difference.update(header.checksum.raw()));
            header.ttl = ttl;
            let translated = V4::translated(header, V4(source), V4(destination), hops);
            prop_assert_eq!(translated.ttl, ttl - hops);
            let mut bytes = frame[ethernet::LEN..ethernet::LEN + 20].to_vec();
            bytes[8] = translated.ttl;
            bytes[12..16].copy_from_slice(&source.to_ne_bytes());
            bytes[16..20].copy_from_slice(&destination.to_ne_bytes());
            let expected = etherparse::Ipv4HeaderSlice::from_slice(&bytes).unwrap().to_header().calc_header_checksum();
            prop_assert_eq!(translated.checksum.get(), expected);
        }

        #[test]
        fn no_frame_makes_the_parser_panic(frame: Vec<u8>) {
            let _ = Packet::<V4>::parse(frame.as_slice());
            let _ = Packet::<V6>::parse(frame.as_slice());
        }
    }
}
