//! What holds of the rules for any packet on any host, of both families.

use proptest::prelude::*;

use super::*;
use crate::{V4, V6, address::AnyAddress, tcp::Flags, tuple::Tuple};

/// How many networks the hosts of these tests have; their numbers begin with 1.
const NETWORKS: u16 = 3;

/// An address family whose addresses these tests can make up.
trait Made: IpHeader + core::fmt::Debug {
    /// An address of a network; of zone 0, one outside.
    fn made(zone: u16, host: u8) -> Self;
    /// The loopback address that a host has.
    const LOOPBACK: Self;
}

impl Made for V4 {
    const LOOPBACK: Self = Self(u32::from_ne_bytes([127, 0, 0, 1]));

    fn made(zone: u16, host: u8) -> Self {
        let first = if zone == 0 { 198 } else { 10 };
        Self(u32::from_ne_bytes([first, zone as u8, 0, host]))
    }
}

impl Made for V6 {
    const LOOPBACK: Self = Self([0, 0, 0, 1_u32.to_be()]);

    fn made(zone: u16, host: u8) -> Self {
        let first: u32 = if zone == 0 { 0x2001_0db8 } else { 0xfd00_0000 };
        Self([(first | u32::from(zone)).to_be(), 0, 0, u32::from(host).to_be()])
    }
}

/// A host: network N has the addresses `made(N, _)` and the gateway `made(N, 1)`; outside, some addresses are the host's own.
#[derive(Clone, Debug)]
struct Host {
    uplinks: Vec<u8>,
    /// Where, port, protocol.
    published: Vec<(Place, u16, Protocol)>,
}

/// Where a port is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Everywhere,
    Loopback,
    /// On an address of a zone.
    On(u16, u8),
}

const GATEWAY: u8 = 1;

/// Where packets from outside come in.
const UPLINK: u32 = 9;

/// A network that lets nobody in from elsewhere.
const CLOSED: Network = Network {
    flags: Network::PRESENT,
    bridge: 3,
    mtu: 1500,
    mac: [2; 6],
    reserved: 0,
    v4: V4(0),
    v4_mask: V4(u32::MAX),
    v4_gateway: V4(0),
    v6: V6([0; 4]),
    v6_mask: V6([u32::MAX; 4]),
    v6_gateway: V6([0; 4]),
    v4_source: V4(0),
    v6_source: V6([0; 4]),
};

const PORT: Published =
    Published { container: AnyAddress([0; 4]), endpoint: 7, port: Be16::new(80), flags: 0, slot: 0, rate: 0 };

impl<A: Made> World<A> for Host {
    fn is_local(&self, address: A) -> bool {
        (1..=NETWORKS).any(|zone| address == A::made(zone, GATEWAY))
            || self.uplinks.iter().any(|&host| address == A::made(0, host))
            || address == A::LOOPBACK
    }

    fn network_of(&self, address: A) -> Option<Zone> {
        (1..=NETWORKS).find(|&zone| (0..=u8::MAX).any(|host| address == A::made(zone, host))).map(Zone)
    }

    fn network(&self, _: Zone) -> Option<&Network> {
        Some(&CLOSED)
    }

    fn endpoint(&self, _: Zone, _: A) -> Option<u32> {
        Some(7)
    }

    fn trusts(&self, _: Zone, _: u32) -> bool {
        true
    }

    fn published(&self, address: A, port: Be16, protocol: Protocol) -> Option<Published> {
        let is = |place| match place {
            Place::Everywhere => address == A::UNSPECIFIED,
            Place::Loopback => address == A::LOOPBACK,
            Place::On(zone, host) => address == A::made(zone, host),
        };
        let mut ports = self.published.iter();
        let found = ports.find(|(place, number, of)| is(*place) && (*number, *of) == (port.get(), protocol));
        found.map(|_| PORT)
    }
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP])
}

fn host() -> impl Strategy<Value = Host> {
    let uplinks = prop::collection::vec(1..6_u8, 1..3);
    // Ports are published on addresses of the host: gateways among them.
    let place = prop_oneof![
        Just(Place::Everywhere),
        Just(Place::Loopback),
        (1..6_u8).prop_map(|host| Place::On(0, host)),
        (1..=NETWORKS).prop_map(|zone| Place::On(zone, GATEWAY)),
    ];
    let published = prop::collection::vec((place, 80..84_u16, protocol()), 0..6);
    (uplinks, published).prop_map(|(uplinks, mut published)| {
        published.retain(|(place, ..)| !matches!(place, Place::On(0, host) if !uplinks.contains(host)));
        Host { uplinks, published }
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    use Kind::{EchoReply, EchoRequest, Fragment, IcmpError, NeighborDiscovery, Other, Sctp, Tcp, Udp};
    let kinds = [Tcp, Tcp, Udp, Udp, Sctp, EchoRequest, EchoReply, IcmpError, NeighborDiscovery, Fragment, Other];
    prop::sample::select(kinds.to_vec())
}

/// Any packet; few addresses and ports, so that they mean something.
fn packet<A: Made>() -> impl Strategy<Value = Packet<A>> {
    let address = || {
        prop_oneof![
            6 => (0..=NETWORKS, 0..6_u8).prop_map(|(zone, host)| A::made(zone, host)),
            1 => Just(A::UNSPECIFIED),
            1 => Just(A::LOOPBACK),
        ]
    };
    let flags = prop_oneof![Just(Flags::SYN.0), any::<u8>()];
    let other = prop::sample::select(vec![A::ICMP, Protocol(47), Protocol::TCP, Protocol::UDP]);
    let rest = any::<(u8, bool, u16, u8, bool, u32)>();
    (address(), address(), (79..85_u16, 79..85_u16), kind(), other, (flags, any::<bool>()), rest).prop_map(
        |(source, destination, (source_port, destination_port), kind, other, (flags, init), rest)| {
            let (ttl, unsummed, length, transport_len, options, sequence) = rest;
            let (source_port, destination_port) = (Be16::new(source_port), Be16::new(destination_port));
            Packet {
                source,
                destination,
                tuple: Tuple { source, destination, source_port, destination_port },
                protocol: match kind {
                    Kind::Tcp => Protocol::TCP,
                    Kind::Udp => Protocol::UDP,
                    Kind::Sctp => Protocol::SCTP,
                    Kind::EchoRequest | Kind::EchoReply | Kind::NeighborDiscovery => A::ICMP,
                    _ => other,
                },
                kind,
                flags: if kind == Kind::Tcp { Flags(flags) } else { Flags::default() },
                init: kind == Kind::Sctp && init,
                ttl,
                unsummed,
                length,
                transport_len,
                options,
                sequence,
                ..Packet::EMPTY
            }
        },
    )
}

/// A network with any flags; the rules look at nothing else of it.
fn network(flags: u32) -> Network {
    Network {
        flags,
        bridge: 3,
        mtu: 1500,
        mac: [2; 6],
        reserved: 0,
        v4: V4(0),
        v4_mask: V4(0),
        v4_gateway: V4(0),
        v6: V6([0; 4]),
        v6_mask: V6([0; 4]),
        v6_gateway: V6([0; 4]),
        v4_source: V4(0),
        v6_source: V6([0; 4]),
    }
}

/// Is it an address of a network of containers, and none of the host's own?
fn is_containers<A: Made>(host: &Host, address: A) -> bool {
    World::<A>::network_of(host, address).is_some() && !host.is_local(address)
}

/// Another network's container is never reached: not published, not routed, not by way of the stack.
fn no_packet_crosses<A: Made>(host: &Host, flags: u32, zone: u16, packet: &Packet<A>) {
    let verdict = from_container(host, &network(flags), A::made(zone, GATEWAY), packet);
    if is_containers(host, packet.destination) {
        assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    }
}

/// An internal network's packets reach its gateway's address and nothing else.
fn internal_stays_inside<A: Made>(host: &Host, flags: u32, zone: u16, packet: &Packet<A>) {
    let gateway = A::made(zone, GATEWAY);
    let flags = flags & !Network::ISOLATED | Network::INTERNAL;
    let verdict = from_container(host, &network(flags), gateway, packet);
    match verdict {
        Verdict::Stack => assert_eq!(packet.destination, gateway),
        Verdict::Drop(_) => assert_ne!(packet.destination, gateway),
        Verdict::Publish(_) | Verdict::Continue(_) | Verdict::Route => panic!("{verdict:?}"),
    }
}

/// A verdict that makes a flow is given to packets that may open one only, and to published ports as they are published.
fn only_openers_open<A: Made>(host: &Host, verdict: Verdict, packet: &Packet<A>) {
    let tuple = packet.tuple;
    if let Verdict::Continue(_) = verdict {
        assert!(!opens(packet), "what opens does not go on");
    }
    if matches!(verdict, Verdict::Publish(_) | Verdict::Route) {
        assert!(opens(packet), "{verdict:?}");
    }
    if matches!(verdict, Verdict::Publish(_) | Verdict::Continue(_)) {
        assert!(!tuple.destination.is_loopback(), "what is published on loopback is for the host alone");
        assert!(host.is_local(tuple.destination), "ports are published on the host's addresses only");
        let exact = host.published(tuple.destination, tuple.destination_port, packet.protocol);
        let wildcard = host.published(A::UNSPECIFIED, tuple.destination_port, packet.protocol);
        assert!(exact.or(wildcard).is_some(), "nobody has published this");
    }
    if verdict == Verdict::Route {
        assert!(!host.is_local(tuple.destination) && World::<A>::network_of(host, tuple.destination).is_none());
    }
}

/// From outside, a container is reached by published ports only, and nothing is routed.
fn outside_is_kept_out<A: Made>(host: &Host, packet: &Packet<A>) {
    let verdict = from_outside(host, UPLINK, packet);
    assert_ne!(verdict, Verdict::Route);
    if is_containers(host, packet.destination) {
        assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    }
    only_openers_open(host, verdict, packet);
    if matches!(verdict, Verdict::Publish(_)) {
        assert!(!is_containers(host, packet.source), "nobody outside has {:?}", packet.source);
    }
}

/// What is of no concern to the rules changes nothing.
fn the_rest_does_not_matter<A: Made>(host: &Host, flags: u32, packet: &Packet<A>, other: &Packet<A>) {
    let Packet { source, destination, tuple, protocol, kind, flags: bits, init, .. } = *packet;
    let like = Packet { source, destination, tuple, protocol, kind, flags: bits, init, ..*other };
    let verdict = |packet| from_container(host, &network(flags), A::made(1, GATEWAY), packet);
    assert_eq!(verdict(packet), verdict(&like));
    assert_eq!(from_outside(host, UPLINK, packet), from_outside(host, UPLINK, &like));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rows_2_and_14_of_any_packet_from_a_container(
        host in host(), flags: u32, zone in 1..=NETWORKS, v4 in packet::<V4>(), v6 in packet::<V6>(),
    ) {
        no_packet_crosses(&host, flags, zone, &v4);
        no_packet_crosses(&host, flags, zone, &v6);
        internal_stays_inside(&host, flags, zone, &v4);
        internal_stays_inside(&host, flags, zone, &v6);
        only_openers_open(&host, from_container(&host, &network(flags), V4::made(zone, GATEWAY), &v4), &v4);
        only_openers_open(&host, from_container(&host, &network(flags), V6::made(zone, GATEWAY), &v6), &v6);
    }

    #[test]
    fn rows_9_and_11_of_any_packet_from_outside(host in host(), v4 in packet::<V4>(), v6 in packet::<V6>()) {
        outside_is_kept_out(&host, &v4);
        outside_is_kept_out(&host, &v6);
    }

    #[test]
    fn verdicts_hang_on_addresses_ports_and_kind_alone(
        host in host(), flags: u32, v4 in [packet::<V4>(), packet::<V4>()], v6 in [packet::<V6>(), packet::<V6>()],
    ) {
        the_rest_does_not_matter(&host, flags, &v4[0], &v4[1]);
        the_rest_does_not_matter(&host, flags, &v6[0], &v6[1]);
    }
}
