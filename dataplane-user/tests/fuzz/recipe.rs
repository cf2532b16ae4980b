//! Valid packets of every kind, from a few choices; what comes out is altered later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header, TcpHeader, TcpOptions, UdpHeader};

use crate::packet::{
    ACK, ETHERTYPE_ARP, ETHERTYPE_V4, ETHERTYPE_V6, FIN, FRAGMENT_HEADER, ICMP, ICMPV6, RST, SCTP, SYN, TCP, UDP, mend,
};
use crate::plan::{CONTAINERS, NETWORKS, Network, UPLINKS, container_at, is_group, network_of};

/// Whose address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Container(usize),
    /// A container's link-local address.
    LinkLocal(usize),
    Gateway(usize),
    Host(usize),
    Router(usize),
    Beyond(usize),
    /// Of a network, but nobody's.
    Nobody(usize),
    NetworkBroadcast(usize),
    Broadcast,
    Multicast,
    Loopback,
    Unspecified,
    Stranger(u32),
    /// Of the recipe's family.
    Exactly(IpAddr),
}

impl Who {
    pub(crate) fn ip(self, v6: bool) -> IpAddr {
        let pick = |v4: [u8; 4], v6_address: [u16; 8]| if v6 { IpAddr::from(v6_address) } else { v4.into() };
        match self {
            Self::Container(n) => CONTAINERS[n].ip(v6),
            Self::LinkLocal(n) if v6 => CONTAINERS[n].link_local(),
            Self::LinkLocal(n) => [169, 254, 0, n as u8].into(),
            Self::Gateway(n) => NETWORKS[n].gateway(v6),
            Self::Host(n) => UPLINKS[n].ip(v6),
            Self::Router(n) => UPLINKS[n].router(v6),
            Self::Beyond(n) => UPLINKS[n].beyond(v6),
            Self::Nobody(n) => {
                let slot = NETWORKS[n].slot;
                pick([10, slot as u8, 0, 77], [0xfd00 + slot, 0, 0, 0, 0, 0, 0, 0x77])
            }
            Self::NetworkBroadcast(n) => {
                let slot = NETWORKS[n].slot;
                pick([10, slot as u8, 0, 255], [0xfd00 + slot, 0, 0, 0, 0, 0, 0, 0])
            }
            Self::Broadcast => pick([255; 4], [0xff02, 0, 0, 0, 0, 0, 0, 1]),
            Self::Multicast => pick([239, 1, 2, 3], [0xff05, 0, 0, 0, 0, 0, 1, 3]),
            Self::Loopback => pick([127, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1]),
            Self::Unspecified => pick([0; 4], [0; 8]),
            Self::Stranger(n) if v6 => Ipv6Addr::from(0x2001_0db8_0000_0000_u128 << 64 | u128::from(n)).into(),
            Self::Stranger(n) => Ipv4Addr::from(n).into(),
            Self::Exactly(address) => address,
        }
    }
}

/// What the packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    /// Source and destination port, flags, sequence and acknowledgment number.
    Tcp(u16, u16, u8, u32, u32),
    Udp(u16, u16),
    /// UDP without a checksum.
    UnsummedUdp(u16, u16),
    /// Identifier; request or reply.
    Echo(u16, bool),
    /// Type and code; `rest` fills the next four bytes.
    Icmp(u8, u8, u32),
    /// Neighbour discovery: type, whose address, link-layer address option of whom.
    Neighbor(u8, Who, usize),
    /// Source and destination port, type of the chunk.
    Sctp(u16, u16, u8),
    Other(u8),
    /// An ARP packet: operation, sender, target.
    Arp(u8, Who, Who),
}

/// What stands between the IP header and the transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extra {
    Nothing,
    /// So many words of IPv4 options, or an IPv6 destination options header.
    Options(u8),
    /// Hop-by-hop options; router alert over IPv4.
    HopByHop,
}

/// A fragment's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) offset: u16,
    pub(crate) more: bool,
    pub(crate) id: u16,
}

/// A packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Recipe {
    pub(crate) v6: bool,
    pub(crate) source: Who,
    pub(crate) destination: Who,
    pub(crate) body: Body,
    pub(crate) ttl: u8,
    pub(crate) extra: Extra,
    pub(crate) fragment: Option<Place>,
    pub(crate) payload: u16,
}

/// MAC addresses of a machine outside and of the host's uplinks.
pub(crate) const OUTSIDER: [u8; 6] = [2, 9, 9, 9, 9, 9];
pub(crate) const UPLINK: [u8; 6] = [2, 8, 8, 8, 8, 8];

/// To whom a container of `network` sends a frame for this address.
pub(crate) fn next_mac(network: Network, to: IpAddr) -> [u8; 6] {
    match to {
        IpAddr::V4(v4) if v4.is_broadcast() || v4.octets() == [10, network.slot as u8, 0, 255] => [0xff; 6],
        IpAddr::V4(v4) if is_group(to) => {
            let [_, b, c, d] = v4.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(v6) if is_group(to) => {
            let octets = v6.octets();
            [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
        }
        _ => match container_at(to).or_else(|| CONTAINERS.into_iter().find(|other| other.link_local() == to)) {
            Some(neighbor) if neighbor.network == network.slot => neighbor.mac(),
            _ => network.bridge_mac(),
        },
    }
}

impl Recipe {
    /// The frame, with right checksums.
    pub(crate) fn frame(&self, source_mac: [u8; 6], destination_mac: [u8; 6]) -> Vec<u8> {
        if let Body::Arp(operation, sender, target) = self.body {
            return arp(source_mac, operation, sender.ip(false), target.ip(false));
        }
        let ethertype = if self.v6 { ETHERTYPE_V6 } else { ETHERTYPE_V4 };
        let mut frame = [&destination_mac[..], &source_mac[..], &ethertype.to_be_bytes()].concat();
        frame.extend(self.packet());
        mend(&mut frame);
        if let Body::UnsummedUdp(..) = self.body
            && let Some(at) = crate::packet::ip(&frame).and_then(|ip| ip.checksum_at())
        {
            frame[at..at + 2].fill(0);
        }
        frame
    }

    /// The IP packet; its checksums are still to be made.
    fn packet(&self) -> Vec<u8> {
        let (protocol, body) = self.transport();
        match (self.source.ip(self.v6), self.destination.ip(self.v6)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options: &[u8] = match self.extra {
                    Extra::Nothing => &[],
                    Extra::Options(words) => &[1; 40][..usize::from(words.clamp(1, 10)) * 4],
                    Extra::HopByHop => &[0x94, 4, 0, 0],
                };
                let mut header =
                    Ipv4Header::new(0, self.ttl, IpNumber(protocol), source.octets(), destination.octets())
                        .expect("an empty payload fits");
                header.options = Ipv4Options::try_from(options).expect("whole words, ten at most");
                header.total_len = (header.header_len() + body.len()) as u16;
                header.identification = 77;
                if let Some(place) = self.fragment {
                    header.identification = place.id;
                    header.more_fragments = place.more;
                    header.fragment_offset = (place.offset & 0x1fff).try_into().expect("13 bits");
                }
                [header.to_bytes().to_vec(), body].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (mut next, mut rest) = (protocol, body);
                if let Some(Place { offset, more, id }) = self.fragment {
                    let place = (offset & 0x1fff) << 3 | u16::from(more);
                    let [place, id] = [place.to_be_bytes(), id.to_be_bytes()];
                    rest = [&[next, 0, place[0], place[1], 0, 0, id[0], id[1]], &rest[..]].concat();
                    next = FRAGMENT_HEADER;
                }
                if let Extra::Options(words) = self.extra {
                    let units = words % 3;
                    let padding = usize::from(units) * 8 + 4;
                    rest = [&[next, units, 1, padding as u8][..], &vec![0; padding], &rest].concat();
                    next = 60;
                }
                if self.extra == Extra::HopByHop {
                    rest = [&[next, 0, 5, 2, 0, 0, 1, 0][..], &rest].concat();
                    next = 0;
                }
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: rest.len() as u16,
                    next_header: IpNumber(next),
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                [header.to_bytes().to_vec(), rest].concat()
            }
            _ => unreachable!("both addresses are of the recipe's family"),
        }
    }

    /// Protocol number, and header with payload.
    fn transport(&self) -> (u8, Vec<u8>) {
        let payload: Vec<u8> = (0..self.payload).map(|n| (n ^ n >> 8) as u8).collect();
        let icmp = if self.v6 { ICMPV6 } else { ICMP };
        let (protocol, header) = match self.body {
            Body::Tcp(source, destination, flags, sequence, acknowledgment) => {
                let mut header = TcpHeader::new(source, destination, sequence, 64_000);
                (header.fin, header.syn, header.rst, header.ack) =
                    (flags & FIN != 0, flags & SYN != 0, flags & RST != 0, flags & ACK != 0);
                header.acknowledgment_number = acknowledgment;
                if header.syn {
                    header.options = TcpOptions::try_from_slice(&[2, 4, 5, 0xb4]).expect("one word");
                }
                (TCP, header.to_bytes().to_vec())
            }
            Body::Udp(source, destination) | Body::UnsummedUdp(source, destination) => {
                let length = 8 + self.payload;
                (
                    UDP,
                    UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 }
                        .to_bytes()
                        .into(),
                )
            }
            Body::Echo(id, request) => {
                let kind = match (self.v6, request) {
                    (false, true) => 8,
                    (false, false) => 0,
                    (true, true) => 128,
                    (true, false) => 129,
                };
                let id = id.to_be_bytes();
                (icmp, vec![kind, 0, 0, 0, id[0], id[1], 0, 1])
            }
            Body::Icmp(kind, code, rest) => (icmp, [&[kind, code, 0, 0][..], &rest.to_be_bytes()].concat()),
            Body::Neighbor(kind, target, mac) => {
                let IpAddr::V6(target) = target.ip(true) else { unreachable!() };
                let option = if kind == 135 { 1 } else { 2 };
                let flags = if kind == 136 { 0x60 } else { 0 };
                let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
                message.extend(target.octets());
                message.extend([option, 1]);
                message.extend(CONTAINERS[mac].mac());
                return (ICMPV6, message);
            }
            Body::Sctp(source, destination, chunk) => {
                let (source, destination) = (source.to_be_bytes(), destination.to_be_bytes());
                let ports = [source[0], source[1], destination[0], destination[1]];
                (SCTP, [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, chunk, 0, 0, 4]].concat())
            }
            Body::Other(protocol) => (protocol, Vec::new()),
            Body::Arp(..) => unreachable!("no IP packet"),
        };
        (protocol, [header, payload].concat())
    }
}

fn arp(mac: [u8; 6], operation: u8, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    let (IpAddr::V4(sender), IpAddr::V4(target)) = (sender, target) else { unreachable!("ARP is of IPv4") };
    let destination = if operation == 1 { [0xff; 6] } else { network_mac(target.into()) };
    let mut frame = [&destination[..], &mac, &ETHERTYPE_ARP.to_be_bytes(), &[0, 1, 8, 0, 6, 4, 0, operation]].concat();
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn network_mac(address: IpAddr) -> [u8; 6] {
    network_of(address).map_or(OUTSIDER, |network| next_mac(network, address))
}
