//! Packets for the tests, of both families, and the check that one is right to the last checksum.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice, ip_number};

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

/// Both: every test that can, runs twice.
pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    fn pick(self, v4: &str, v6: &str) -> IpAddr {
        match self {
            Self::V4 => v4.parse().unwrap(),
            Self::V6 => v6.parse().unwrap(),
        }
    }

    /// The unspecified address.
    pub(super) fn any(self) -> IpAddr {
        self.pick("0.0.0.0", "::")
    }

    /// Container A, on network 1.
    pub(super) fn a(self) -> IpAddr {
        self.pick("10.1.0.2", "fd01::2")
    }

    /// Container B, on network 1.
    pub(super) fn b(self) -> IpAddr {
        self.pick("10.1.0.3", "fd01::3")
    }

    /// Container C, on network 2.
    pub(super) fn c(self) -> IpAddr {
        self.pick("10.2.0.2", "fd02::2")
    }

    /// Network 1's gateway.
    pub(super) fn gateway(self) -> IpAddr {
        self.pick("10.1.0.1", "fd01::1")
    }

    /// The host, on its uplink.
    pub(super) fn host(self) -> IpAddr {
        self.pick("192.0.2.1", "2001:db8::1")
    }

    /// An address of network 1 that nobody has.
    pub(super) fn nobody(self) -> IpAddr {
        self.pick("10.1.0.77", "fd01::77")
    }

    /// The host, on loopback.
    pub(super) fn loopback(self) -> IpAddr {
        self.pick("127.0.0.1", "::1")
    }

    /// Everybody on the link.
    pub(super) fn group(self) -> IpAddr {
        self.pick("255.255.255.255", "ff02::1")
    }

    /// Somebody outside.
    pub(super) fn outside(self) -> IpAddr {
        self.pick("198.51.100.7", "2001:db8:7::7")
    }
}

/// A packet to be sent. The defaults are those of a container's first SYN to the outside.
#[derive(Clone, Copy)]
pub(super) struct Packet {
    pub(super) macs: ([u8; 6], [u8; 6]),
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) payload: Payload,
}

/// What it carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Payload {
    /// Source port, destination port, flags as in the header.
    Tcp(u16, u16, u8),
    /// Source port, destination port.
    Udp(u16, u16),
    /// Source port, destination port; does it open an association?
    Sctp(u16, u16, bool),
    /// Identifier; request or reply.
    Echo(u16, bool),
    /// Some other protocol.
    Other(u8),
}

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// What every packet carries.
pub(super) const TEXT: &[u8] = b"spandrel carries the deck";

impl Packet {
    /// From a container to its gateway's MAC address.
    pub(super) fn new(slot: u32, source: IpAddr, destination: IpAddr, payload: Payload) -> Self {
        let network = if slot == super::C { 2 } else { 1 };
        Self { macs: (super::mac(slot), super::bridge_mac(network)), source, destination, ttl: 64, payload }
    }

    /// From somebody outside to the uplink.
    pub(super) fn outside(source: IpAddr, destination: IpAddr, payload: Payload) -> Self {
        Self { macs: ([2, 9, 9, 9, 9, 9], [2, 8, 8, 8, 8, 8]), source, destination, ttl: 60, payload }
    }

    /// As the host's stack sends it on to container A.
    pub(super) fn routed(self) -> Self {
        Self { macs: (super::bridge_mac(1), super::mac(super::A)), ..self }
    }

    pub(super) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The frame, checksums included.
    pub(super) fn frame(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(self.macs.0, self.macs.1);
        let mut frame = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.finish(ethernet.ipv4(source.octets(), destination.octets(), self.ttl), false, &mut frame);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.finish(ethernet.ipv6(source.octets(), destination.octets(), self.ttl), true, &mut frame);
            }
            _ => panic!("one packet, two families"),
        }
        frame
    }

    fn finish(&self, ip: PacketBuilderStep<etherparse::IpHeaders>, v6: bool, frame: &mut Vec<u8>) {
        match self.payload {
            Payload::Tcp(source, destination, flags) => {
                let mut tcp = etherparse::TcpHeader::new(source, destination, 1, 1000);
                tcp.fin = flags & FIN != 0;
                tcp.syn = flags & SYN != 0;
                tcp.rst = flags & RST != 0;
                tcp.ack = flags & ACK != 0;
                ip.tcp_header(tcp).write(frame, TEXT).unwrap();
            }
            Payload::Udp(source, destination) => ip.udp(source, destination).write(frame, TEXT).unwrap(),
            Payload::Sctp(source, destination, init) => {
                ip.write(frame, ip_number::SCTP, &sctp(source, destination, init)).unwrap();
            }
            Payload::Echo(id, true) if v6 => ip.icmpv6_echo_request(id, 1).write(frame, TEXT).unwrap(),
            Payload::Echo(id, false) if v6 => ip.icmpv6_echo_reply(id, 1).write(frame, TEXT).unwrap(),
            Payload::Echo(id, true) => ip.icmpv4_echo_request(id, 1).write(frame, TEXT).unwrap(),
            Payload::Echo(id, false) => ip.icmpv4_echo_reply(id, 1).write(frame, TEXT).unwrap(),
            Payload::Other(protocol) => ip.write(frame, etherparse::IpNumber(protocol), TEXT).unwrap(),
        }
    }
}

/// Reads a frame, and asserts that every checksum in it is right and that its text is whole.
pub(super) fn read(frame: &[u8]) -> Packet {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let (source, destination, ttl): (IpAddr, IpAddr, u8) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
            (Ipv4Addr::from(header.source).into(), Ipv4Addr::from(header.destination).into(), header.time_to_live)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            (Ipv6Addr::from(header.source).into(), Ipv6Addr::from(header.destination).into(), header.hop_limit)
        }
        NetSlice::Arp(_) => panic!("an ARP packet"),
    };
    let payload = match packet.transport.as_ref() {
        Some(TransportSlice::Tcp(tcp)) => {
            let sum = match (source, destination) {
                (IpAddr::V4(s), IpAddr::V4(d)) => tcp.calc_checksum_ipv4(s.octets(), d.octets()).unwrap(),
                (IpAddr::V6(s), IpAddr::V6(d)) => tcp.calc_checksum_ipv6(s.octets(), d.octets()).unwrap(),
                _ => unreachable!(),
            };
            assert_eq!(tcp.checksum(), sum, "TCP checksum");
            assert_eq!(tcp.payload(), TEXT);
            let flag = |set: bool, bit: u8| if set { bit } else { 0 };
            let flags = flag(tcp.fin(), FIN) | flag(tcp.syn(), SYN) | flag(tcp.rst(), RST) | flag(tcp.ack(), ACK);
            Payload::Tcp(tcp.source_port(), tcp.destination_port(), flags)
        }
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let sum = match (source, destination) {
                (IpAddr::V4(s), IpAddr::V4(d)) => header.calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload()),
                (IpAddr::V6(s), IpAddr::V6(d)) => header.calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload()),
                _ => unreachable!(),
            };
            // RFC 768: zero means that there is none.
            if header.checksum != 0 || source.is_ipv6() {
                assert_eq!(header.checksum, sum.unwrap(), "UDP checksum");
            }
            assert_eq!(udp.payload(), TEXT);
            Payload::Udp(header.source_port, header.destination_port)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert!(icmp.header().icmp_type.calc_checksum(icmp.payload()) == icmp.header().checksum, "ICMP checksum");
            match icmp.icmp_type() {
                etherparse::Icmpv4Type::EchoRequest(echo) => Payload::Echo(echo.id, true),
                etherparse::Icmpv4Type::EchoReply(echo) => Payload::Echo(echo.id, false),
                other => panic!("{other:?}"),
            }
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (IpAddr::V6(s), IpAddr::V6(d)) = (source, destination) else { unreachable!() };
            assert!(icmp.is_checksum_valid(s.octets(), d.octets()), "ICMPv6 checksum");
            match icmp.icmp_type() {
                etherparse::Icmpv6Type::EchoRequest(echo) => Payload::Echo(echo.id, true),
                etherparse::Icmpv6Type::EchoReply(echo) => Payload::Echo(echo.id, false),
                other => panic!("{other:?}"),
            }
        }
        Some(TransportSlice::Igmp(_)) => panic!("an IGMP packet"),
        None => {
            let body = packet.net.as_ref().unwrap().ip_payload_ref().unwrap();
            if body.ip_number == ip_number::SCTP {
                let port = |at: usize| u16::from_be_bytes([body.payload[at], body.payload[at + 1]]);
                let init = body.payload[12] == 1;
                assert_eq!(body.payload, sctp(port(0), port(2), init), "an SCTP packet, with its checksum");
                Payload::Sctp(port(0), port(2), init)
            } else {
                assert_eq!(body.payload, TEXT);
                Payload::Other(body.ip_number.0)
            }
        }
    };
    let ethernet = packet.link.as_ref().map(|_| (frame[6..12].try_into().unwrap(), frame[0..6].try_into().unwrap()));
    Packet { macs: ethernet.unwrap(), source, destination, ttl, payload }
}

/// A protocol that is not translated: ESP.
pub(super) const ESP: u8 = ip_number::ENCAPSULATING_SECURITY_PAYLOAD.0;

/// An SCTP packet with one chunk: an INIT, or its acknowledgment (RFC 9260 §3).
fn sctp(source: u16, destination: u16, init: bool) -> Vec<u8> {
    let length = (4 + TEXT.len()) as u8;
    let mut packet = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0, if init { 1 } else { 2 }, 0, 0, length]);
    packet.extend(TEXT);
    // CRC32c, bit by bit (RFC 9260 appendix A).
    let crc = !packet.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    });
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    packet
}
