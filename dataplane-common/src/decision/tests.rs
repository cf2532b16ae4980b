use super::*;
use crate::{
    V4,
    address::{Address, AnyAddress},
    tcp::Flags,
    tuple::Tuple,
};
use core::net::Ipv4Addr;

/// A host 192.0.2.1 with two networks, 10.0.1.0/24 (slot 1) and 10.0.2.0/24 (slot 2), and a few published ports.
struct Host {
    published: Vec<(Ipv4Addr, u16, Protocol)>,
}

fn v4(text: &str) -> V4 {
    text.parse::<Ipv4Addr>().unwrap().into()
}

const PORT: Published =
    Published { container: AnyAddress([0; 4]), endpoint: 7, port: Be16::new(80), flags: 0, slot: 0, rate: 0 };

impl World<V4> for Host {
    fn is_local(&self, address: V4) -> bool {
        ["192.0.2.1", "127.0.0.1", "10.0.1.1", "10.0.2.1"].map(v4).contains(&address)
    }

    fn network_of(&self, address: V4) -> Option<Zone> {
        let mask = v4("255.255.255.0");
        [(v4("10.0.1.0"), Zone(1)), (v4("10.0.2.0"), Zone(2))]
            .into_iter()
            .find_map(|(prefix, zone)| address.is_in(prefix, mask).then_some(zone))
    }

    fn published(&self, address: V4, port: Be16, protocol: Protocol) -> Option<Published> {
        self.published.contains(&(address.into(), port.get(), protocol)).then_some(PORT)
    }
}

fn host() -> Host {
    Host { published: vec![([0, 0, 0, 0].into(), 8080, Protocol::TCP), ([127, 0, 0, 1].into(), 9090, Protocol::TCP)] }
}

fn network(flags: u32) -> Network {
    Network {
        flags: Network::PRESENT | flags,
        bridge: 3,
        mtu: 1500,
        mac: [2; 6],
        reserved: 0,
        v4_source: V4(0),
        v6_source: crate::V6([0; 4]),
        v4: v4("10.0.1.0"),
        v4_mask: v4("255.255.255.0"),
        v4_gateway: v4("10.0.1.1"),
        v6: crate::V6([0; 4]),
        v6_mask: crate::V6([u32::MAX; 4]),
        v6_gateway: crate::V6([0; 4]),
    }
}

fn packet(to: &str, port: u16, kind: Kind, flags: Flags) -> Packet<V4> {
    Packet {
        source: v4("10.0.1.2"),
        destination: v4(to),
        tuple: Tuple {
            source: v4("10.0.1.2"),
            destination: v4(to),
            source_port: Be16::new(4000),
            destination_port: Be16::new(port),
        },
        protocol: if kind == Kind::Tcp { Protocol::TCP } else { Protocol::UDP },
        kind,
        flags,
        ttl: 64,
        length: 40,
        ..Packet::EMPTY
    }
}

fn syn(to: &str, port: u16) -> Packet<V4> {
    packet(to, port, Kind::Tcp, Flags::SYN)
}

/// The same packet from somebody outside.
fn from_afar(packet: Packet<V4>) -> Packet<V4> {
    let source = v4("198.51.100.7");
    Packet { source, tuple: Tuple { source, ..packet.tuple }, ..packet }
}

fn container(network_flags: u32, packet: &Packet<V4>) -> Verdict {
    from_container(&host(), &network(network_flags), v4("10.0.1.1"), packet)
}

#[test]
fn row_2_another_network_is_never_reached() {
    for kind in [Kind::Tcp, Kind::Udp, Kind::EchoRequest, Kind::Fragment, Kind::Other, Kind::IcmpError] {
        let probe = packet("10.0.2.2", 8080, kind, Flags::SYN);
        assert_eq!(container(Network::MASQUERADE, &probe), Verdict::Drop(DropReason::OtherNetwork), "{kind:?}");
    }
}

#[test]
fn row_3_every_address_of_the_host_is_reached() {
    for host in ["10.0.1.1", "10.0.2.1", "192.0.2.1"] {
        assert_eq!(container(0, &syn(host, 22)), Verdict::Stack);
    }
}

#[test]
fn rows_4_and_5_a_published_port_is_reached_from_containers() {
    assert_eq!(container(0, &syn("192.0.2.1", 8080)), Verdict::Publish(PORT));
    assert_eq!(container(0, &syn("10.0.2.1", 8080)), Verdict::Publish(PORT));
    let answer = packet("192.0.2.1", 8080, Kind::Tcp, Flags::ACK);
    assert_eq!(container(0, &answer), Verdict::Stack, "not an opening segment");
}

#[test]
fn row_8_every_loopback_address_is_the_host() {
    let at = |address: &str, port| published(&host(), v4(address), Be16::new(port), Protocol::TCP);
    assert_eq!(at("127.0.0.1", 8080), Some(PORT));
    assert_eq!(at("127.1.2.3", 8080), Some(PORT));
    assert_eq!(at("127.1.2.3", 9090), None, "published on 127.0.0.1 alone");
    assert_eq!(at("198.51.100.1", 8080), None, "not this host");
}

#[test]
fn rows_9_11_and_12_outside_reaches_published_ports_only() {
    let world = host();
    assert_eq!(from_outside(&world, &from_afar(syn("192.0.2.1", 8080))), Verdict::Publish(PORT));
    assert_eq!(from_outside(&world, &from_afar(syn("192.0.2.1", 22))), Verdict::Stack);
    assert_eq!(from_outside(&world, &from_afar(syn("10.0.2.2", 80))), Verdict::Drop(DropReason::DirectAccess));
    assert_eq!(from_outside(&world, &from_afar(syn("198.51.100.1", 8080))), Verdict::Stack, "not for this host");
    assert_eq!(from_outside(&world, &from_afar(syn("0.0.0.0", 8080))), Verdict::Stack, "nobody's address");
    assert_eq!(
        from_outside(&world, &packet("192.0.2.1", 8080, Kind::Tcp, Flags::SYN)),
        Verdict::Drop(DropReason::SpoofedOutside)
    );
    assert_eq!(
        from_outside(&world, &from_afar(syn("127.0.0.1", 9090))),
        Verdict::Stack,
        "left to the stack, which drops it"
    );
    let stray = packet("192.0.2.1", 8080, Kind::Tcp, Flags::ACK);
    assert_eq!(from_outside(&world, &from_afar(stray)), Verdict::Continue(PORT));
}

#[test]
fn row_14_only_opening_packets_go_out_without_a_flow() {
    assert_eq!(container(0, &syn("198.51.100.1", 443)), Verdict::Route);
    for (kind, flags, reason) in [
        (Kind::Tcp, Flags::FIN, DropReason::NoFlow),
        (Kind::Tcp, Flags::RST, DropReason::NoFlow),
        (Kind::Tcp, Flags(Flags::SYN.0 | Flags::ACK.0), DropReason::NoFlow),
        (Kind::EchoReply, Flags::default(), DropReason::NoFlow),
        (Kind::IcmpError, Flags::default(), DropReason::NoFlow),
        (Kind::Fragment, Flags::default(), DropReason::Fragment),
    ] {
        assert_eq!(container(0, &packet("198.51.100.1", 443, kind, flags)), Verdict::Drop(reason), "{kind:?}");
    }
}

#[test]
fn ipv4_link_local_is_routed_like_any_other() {
    // Clouds answer for their instances' data at 169.254.169.254.
    assert_eq!(container(0, &syn("169.254.169.254", 80)), Verdict::Route);
}

#[test]
fn an_internal_network_reaches_its_gateway_and_nothing_else() {
    let internal = Network::INTERNAL;
    assert_eq!(container(internal, &syn("10.0.1.1", 22)), Verdict::Stack);
    for other in ["10.0.2.1", "192.0.2.1", "198.51.100.1"] {
        assert_eq!(container(internal, &syn(other, 22)), Verdict::Drop(DropReason::InternalNetwork), "{other}");
    }
    assert_eq!(container(internal, &syn("10.0.2.2", 22)), Verdict::Drop(DropReason::OtherNetwork));
}

#[test]
fn nothing_is_routed_to_martians_and_no_port_is_published_there() {
    for martian in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "240.0.0.1"] {
        assert_eq!(container(0, &syn(martian, 8080)), Verdict::Drop(DropReason::Martian), "{martian}");
    }
}
