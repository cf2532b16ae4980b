use super::*;
use crate::{
    V4, V6,
    address::{Address, AnyAddress},
    tcp::Flags,
    tuple::Tuple,
    wire::Quote,
};
use core::net::{IpAddr, Ipv4Addr};

/// A host 192.0.2.1 and 2001:db8::1 with two networks, 10.0.1.0/24 and fd00:1::/64 (slot 1), 10.0.2.0/24 and fd00:2::/64 (slot 2), a
/// few published ports, and one container on the second network: 10.0.2.2 and fd00:2::2.
struct Host {
    published: Vec<(IpAddr, u16, Protocol)>,
    second: Network,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v4(text: &str) -> V4 {
    text.parse::<Ipv4Addr>().unwrap().into()
}

const PORT: Published =
    Published { container: AnyAddress([0; 4]), endpoint: 7, port: Be16::new(80), flags: 0, slot: 0, rate: 0 };

const CONTAINER: u32 = 9;

/// Interfaces: an uplink, and one that the second network trusts.
const UPLINK: u32 = 20;
const TRUSTED: u32 = 21;

impl<A: Address> World<A> for Host {
    fn is_local(&self, address: A) -> bool {
        let own = ["192.0.2.1", "127.0.0.1", "10.0.1.1", "10.0.2.1", "2001:db8::1", "::1", "fd00:1::1", "fd00:2::1"];
        own.iter().any(|own| AnyAddress::from(ip(own)) == address.any())
    }

    fn network_of(&self, address: A) -> Option<Zone> {
        let [a, b, c, d] = address.any().0;
        let subnet = if A::IS_V6 { [a, b, 0, 0] } else { [a, b, c, d & u32::from_ne_bytes([255, 255, 255, 0])] };
        let subnets = [("10.0.1.0", 1), ("10.0.2.0", 2), ("fd00:1::", 1), ("fd00:2::", 2)];
        subnets.into_iter().find_map(|(own, slot)| (AnyAddress::from(ip(own)).0 == subnet).then_some(Zone(slot)))
    }

    fn network(&self, zone: Zone) -> Option<&Network> {
        (zone == Zone(2)).then_some(&self.second)
    }

    fn endpoint(&self, zone: Zone, address: A) -> Option<u32> {
        let own = ["10.0.2.2", "fd00:2::2"].map(|own| AnyAddress::from(ip(own)));
        (zone == Zone(2) && own.contains(&address.any())).then_some(CONTAINER)
    }

    fn trusts(&self, zone: Zone, ifindex: u32) -> bool {
        zone == Zone(2) && ifindex == TRUSTED
    }

    fn published(&self, address: A, port: Be16, protocol: Protocol) -> Option<Published> {
        let is_it = |&(host, number, of): &(IpAddr, u16, Protocol)| {
            AnyAddress::from(host) == address.any() && number == port.get() && of == protocol
        };
        self.published.iter().any(is_it).then_some(PORT)
    }
}

fn host() -> Host {
    let published = vec![(ip("0.0.0.0"), 8080, Protocol::TCP), (ip("127.0.0.1"), 9090, Protocol::TCP)];
    Host { published, second: network(Network::MASQUERADE) }
}

fn network(flags: u32) -> Network {
    Network {
        flags: Network::PRESENT | flags,
        bridge: 3,
        mtu: 1500,
        mac: [2; 6],
        reserved: 0,
        v4_source: V4(0),
        v6_source: V6([0; 4]),
        v4: v4("10.0.1.0"),
        v4_mask: v4("255.255.255.0"),
        v4_gateway: v4("10.0.1.1"),
        v6: V6([0; 4]),
        v6_mask: V6([u32::MAX; 4]),
        v6_gateway: V6([0; 4]),
    }
}

fn packet(to: &str, port: u16, kind: Kind, flags: Flags) -> Packet<V4> {
    to_address(v4("10.0.1.2"), v4(to), port, kind, flags)
}

fn to_address<A: IpHeader>(source: A, destination: A, port: u16, kind: Kind, flags: Flags) -> Packet<A> {
    Packet {
        source,
        destination,
        tuple: Tuple { source, destination, source_port: Be16::new(4000), destination_port: Be16::new(port) },
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
    assert_eq!(from_outside(&world, UPLINK, &from_afar(syn("192.0.2.1", 8080))), Verdict::Publish(PORT));
    assert_eq!(from_outside(&world, UPLINK, &from_afar(syn("192.0.2.1", 22))), Verdict::Stack);
    assert_eq!(from_outside(&world, UPLINK, &from_afar(syn("10.0.2.2", 80))), Verdict::Drop(DropReason::DirectAccess));
    assert_eq!(
        from_outside(&world, UPLINK, &from_afar(syn("198.51.100.1", 8080))),
        Verdict::Stack,
        "not for this host"
    );
    assert_eq!(from_outside(&world, UPLINK, &from_afar(syn("0.0.0.0", 8080))), Verdict::Stack, "nobody's address");
    assert_eq!(
        from_outside(&world, UPLINK, &packet("192.0.2.1", 8080, Kind::Tcp, Flags::SYN)),
        Verdict::Drop(DropReason::SpoofedOutside)
    );
    let from = |source| Packet { source: v4(source), ..syn("192.0.2.1", 8080) };
    assert_eq!(from_outside(&world, UPLINK, &from("192.0.2.1")), Verdict::Drop(DropReason::SpoofedOutside));
    assert_eq!(from_outside(&world, UPLINK, &from("127.0.0.2")), Verdict::Stack, "left to the stack, which drops it");
    assert_eq!(
        from_outside(&world, UPLINK, &from_afar(syn("127.0.0.1", 9090))),
        Verdict::Stack,
        "left to the stack, which drops it"
    );
    let stray = packet("192.0.2.1", 8080, Kind::Tcp, Flags::ACK);
    assert_eq!(from_outside(&world, UPLINK, &from_afar(stray)), Verdict::Continue(PORT));
}

#[test]
fn a_source_that_nobody_can_have_reaches_no_published_port() {
    let mut v6 = host();
    v6.published.push((ip("2001:db8::1"), 8080, Protocol::TCP));
    for flags in [Flags::SYN, Flags::ACK] {
        let from = |source| {
            let probe = to_address(v4(source), v4("192.0.2.1"), 8080, Kind::Tcp, flags);
            from_outside(&host(), UPLINK, &probe)
        };
        assert_ne!(from("169.254.0.7"), Verdict::Stack, "the control: a neighbour without a DHCP server");
        for source in
            ["0.0.0.0", "0.1.2.3", "127.0.0.2", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"]
        {
            assert_eq!(from(source), Verdict::Stack, "{source}");
        }
        let from = |source: &str| {
            let [source, destination] = [source, "2001:db8::1"].map(|address| V6::from_any(ip(address).into()));
            from_outside(&v6, UPLINK, &to_address(source, destination, 8080, Kind::Tcp, flags))
        };
        assert_ne!(from("2001:db8:7::7"), Verdict::Stack, "the control");
        for source in ["::", "::1", "ff02::1", "ff0e::7", "fe80::7"] {
            assert_eq!(from(source), Verdict::Stack, "{source}");
        }
    }
}

/// RFC 4291 §2.5.6.
#[test]
fn what_is_link_local_stays_on_its_link() {
    let mut host = Host { second: network(Network::for_family(Network::OPEN, true)), ..host() };
    host.published.push((ip("2001:db8::1"), 8080, Protocol::TCP));
    let [gateway, near, global] = ["fd00:1::1", "fe80::2", "fd00:1::2"].map(|at| V6::from_any(ip(at).into()));
    let send = |source, to: &str, port| {
        let packet = to_address(source, V6::from_any(ip(to).into()), port, Kind::Tcp, Flags::SYN);
        from_container(&host, &network(0), gateway, &packet)
    };
    assert_eq!(send(near, "2001:db8::1", 8080), Verdict::Stack);
    assert_eq!(send(near, "fd00:2::2", 80), Verdict::Drop(DropReason::OtherNetwork));
    assert_eq!(send(near, "2001:db8:7::7", 443), Verdict::Stack);
    assert_eq!(send(global, "2001:db8::1", 8080), Verdict::Publish(PORT), "the control");
    assert_eq!(send(global, "fd00:2::2", 80), straight_to("fd00:2::2", 80), "the control");
    assert_eq!(send(global, "2001:db8:7::7", 443), Verdict::Route, "the control");
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

/// What may come to a container's own address from another network and from outside, with the second network's flags and a
/// port published on that address: the verdicts upon TCP to the published port, TCP to another one, and an echo request.
fn direct_access<A: IpHeader>(second: u32, addresses: [&str; 4]) -> [[Verdict; 3]; 2] {
    let [destination, container, gateway, outside] = addresses.map(|address| A::from_any(ip(address).into()));
    let mut host = Host { second: network(second), ..host() };
    host.published.push((ip(addresses[0]), 80, Protocol::TCP));
    let first = network(Network::MASQUERADE);
    let probe = |source, port, kind| to_address(source, destination, port, kind, Flags::SYN);
    let probes = [(80, Kind::Tcp), (81, Kind::Tcp), (0, Kind::EchoRequest)];
    [
        probes.map(|(port, kind)| from_container(&host, &first, gateway, &probe(container, port, kind))),
        probes.map(|(port, kind)| from_outside(&host, UPLINK, &probe(outside, port, kind))),
    ]
}

/// Everything closed, for those reasons: from another network and from outside.
const CLOSED: [[Verdict; 3]; 2] =
    [[Verdict::Drop(DropReason::OtherNetwork); 3], [Verdict::Drop(DropReason::DirectAccess); 3]];

fn straight_to(address: &str, port: u16) -> Verdict {
    let container = ip(address).into();
    Verdict::Publish(Published { container, endpoint: CONTAINER, port: Be16::new(port), flags: 0, slot: 0, rate: 0 })
}

#[test]
fn gateway_modes_open_their_own_family_only() {
    let v4 = |flags| direct_access::<V4>(flags, ["10.0.2.2", "10.0.1.2", "10.0.1.1", "198.51.100.7"]);
    let v6 = |flags| direct_access::<V6>(flags, ["fd00:2::2", "fd00:1::2", "fd00:1::1", "2001:db8:7::7"]);
    for flag in [Network::OPEN, Network::ROUTED, Network::MASQUERADE] {
        let [for_v4, for_v6] = [false, true].map(|is_v6| Network::for_family(flag, is_v6));
        let (open4, open6) = match flag {
            Network::OPEN => (
                [straight_to("10.0.2.2", 80), straight_to("10.0.2.2", 81), straight_to("10.0.2.2", 0)],
                [straight_to("fd00:2::2", 80), straight_to("fd00:2::2", 81), straight_to("fd00:2::2", 0)],
            ),
            Network::ROUTED => {
                let closed = Verdict::Drop(DropReason::OtherNetwork);
                let port = Verdict::Publish(PORT);
                ([port, closed, straight_to("10.0.2.2", 0)], [port, closed, straight_to("fd00:2::2", 0)])
            }
            _ => (CLOSED[0], CLOSED[0]),
        };
        let outside = |verdicts: [Verdict; 3]| {
            verdicts.map(|verdict| match verdict {
                Verdict::Drop(_) => Verdict::Drop(DropReason::DirectAccess),
                open => open,
            })
        };
        assert_eq!(v4(for_v4), [open4, outside(open4)], "{flag}");
        assert_eq!(v6(for_v6), [open6, outside(open6)], "{flag}");
        assert_eq!(v4(for_v6), CLOSED, "{flag}");
        assert_eq!(v6(for_v4), CLOSED, "{flag}");
        assert_eq!(v4(for_v4 | Network::INTERNAL), CLOSED, "{flag}, but internal");
        assert_eq!(v6(for_v6 | Network::INTERNAL), CLOSED, "{flag}, but internal");
    }
}

#[test]
fn an_open_network_takes_only_what_may_open_a_flow_and_only_for_a_container() {
    let host = Host { second: network(Network::OPEN), ..host() };
    let probe = |to, kind, flags| from_outside(&host, UPLINK, &from_afar(packet(to, 80, kind, flags)));
    assert_eq!(probe("10.0.2.2", Kind::Udp, Flags::default()), straight_to("10.0.2.2", 80), "the control");
    let spoofed = packet("10.0.2.2", 80, Kind::Udp, Flags::default());
    assert_eq!(from_outside(&host, UPLINK, &spoofed), Verdict::Drop(DropReason::SpoofedOutside));
    let Verdict::Publish(port) = straight_to("10.0.2.2", 80) else { unreachable!() };
    assert_eq!(probe("10.0.2.2", Kind::Tcp, Flags::ACK), Verdict::Continue(port));
    assert_eq!(probe("10.0.2.2", Kind::EchoReply, Flags::default()), Verdict::Drop(DropReason::NoFlow));
    assert_eq!(probe("10.0.2.2", Kind::IcmpError, Flags::default()), Verdict::Stack, "if it is about a flow");
    assert_eq!(probe("10.0.2.3", Kind::Udp, Flags::default()), Verdict::Drop(DropReason::DirectAccess), "nobody's");
    assert_eq!(probe("10.0.2.1", Kind::Udp, Flags::default()), Verdict::Stack, "the gateway is the host's own");
}

#[test]
fn nobody_leaves_an_internal_network_for_an_open_one() {
    let host = Host { second: network(Network::OPEN), ..host() };
    let verdict = |flags| from_container(&host, &network(flags), v4("10.0.1.1"), &syn("10.0.2.2", 80));
    assert_eq!(verdict(0), straight_to("10.0.2.2", 80), "the control");
    assert_eq!(verdict(Network::INTERNAL), Verdict::Drop(DropReason::OtherNetwork));
}

#[test]
fn an_isolated_network_has_no_host() {
    let isolated = Network::INTERNAL | Network::ISOLATED;
    // It has no gateway address either.
    let verdict = |to| from_container(&host(), &network(isolated), V4::UNSPECIFIED, &syn(to, 22));
    for host in ["10.0.1.1", "10.0.2.1", "192.0.2.1"] {
        assert_eq!(verdict(host), Verdict::Drop(DropReason::IsolatedNetwork), "{host}");
    }
    assert_eq!(verdict("198.51.100.1"), Verdict::Drop(DropReason::InternalNetwork));
    assert_eq!(verdict("10.0.2.2"), Verdict::Drop(DropReason::OtherNetwork));
}

#[test]
fn trusted_interfaces_lead_to_published_ports_only() {
    let mut host = Host { second: network(Network::MASQUERADE | Network::TRUSTS), ..host() };
    host.published.push((ip("10.0.2.2"), 80, Protocol::TCP));
    let echo = packet("10.0.2.2", 0, Kind::EchoRequest, Flags::default());
    let probes = [syn("10.0.2.2", 80), syn("10.0.2.2", 81), echo];
    let through = |ifindex| probes.each_ref().map(|probe| from_outside(&host, ifindex, &from_afar(*probe)));
    let closed = Verdict::Drop(DropReason::DirectAccess);
    assert_eq!(through(TRUSTED), [Verdict::Publish(PORT), closed, closed]);
    assert_eq!(through(UPLINK), [closed; 3]);
    // Another network's bridge may be trusted as well.
    let from = |bridge| {
        let first = Network { bridge, ..network(Network::MASQUERADE) };
        probes.each_ref().map(|probe| from_container(&host, &first, v4("10.0.1.1"), probe))
    };
    let closed = Verdict::Drop(DropReason::OtherNetwork);
    assert_eq!(from(TRUSTED), [Verdict::Publish(PORT), closed, closed]);
    assert_eq!(from(UPLINK), [closed; 3]);
}

#[test]
fn links_let_questions_and_answers_pass() {
    let open = |protocol| LinkKey { from: 1, to: 2, port: Be16::new(80), protocol, reserved: 0 };
    let passes = |packet: &Packet<V4>, from, to| is_linked(packet, from, to, |key| key == open(packet.protocol));
    for (kind, flags) in [(Kind::Tcp, Flags::SYN), (Kind::Tcp, Flags::ACK), (Kind::Udp, Flags(0))] {
        let question = packet("10.0.1.3", 80, kind, flags);
        assert!(passes(&question, 1, 2), "{kind:?}");
        assert!(!passes(&question, 2, 1), "{kind:?}: the other way round");
        assert!(!passes(&question, 3, 2) && !passes(&question, 1, 3), "{kind:?}: others");
        assert!(!passes(&packet("10.0.1.3", 81, kind, flags), 1, 2), "{kind:?}: another port");
        // The same the other way: from the port.
        let answer = Packet { tuple: question.tuple.reversed(), ..question };
        assert_eq!(passes(&answer, 2, 1), flags != Flags::SYN, "{kind:?}");
        assert!(!passes(&answer, 1, 2) && !passes(&answer, 3, 1), "{kind:?}");
        // An error about the question, by who got it, and by somebody else in his name.
        let (source, destination) = (question.destination, question.source);
        let quote = Quote { transport: 62, ..Packet::<V4>::EMPTY.quote };
        let error = Packet { kind: Kind::IcmpError, source, destination, flags: Flags(0), quote, ..answer };
        assert!(passes(&error, 2, 1) && !passes(&error, 1, 2));
        assert!(!passes(&Packet { source: v4("10.0.1.4"), ..error }, 2, 1), "hearsay");
        assert!(!passes(&Packet { destination: v4("10.0.1.4"), ..error }, 2, 1), "to somebody else");
        assert!(!passes(&Packet { kind: Kind::Fragment, ..question }, 1, 2), "no ports");
    }
}
