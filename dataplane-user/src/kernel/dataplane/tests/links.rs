//! Links: what passes between containers that may not talk to each other otherwise.

use std::net::IpAddr;

use super::{packets::*, *};

/// A may use these ports of B, and C none of anybody.
const LINKS: [LinkConfig; 3] = [link(Protocol::TCP, 80), link(Protocol::UDP, 53), link(Protocol::SCTP, 36412)];

const fn link(protocol: Protocol, port: u16) -> LinkConfig {
    LinkConfig { from: A, to: B, protocol, port }
}

/// The third container on network 1.
fn third(family: Family) -> IpAddr {
    if family == Family::V4 { "10.1.0.4".parse().unwrap() } else { "fd01::4".parse().unwrap() }
}

impl Bench {
    /// Keeps A, B and C apart on network 1, where [`LINKS`] are open.
    fn keep_apart(&mut self) {
        let c = EndpointConfig {
            network: 1,
            ipv4: Some("10.1.0.4".parse().unwrap()),
            ipv6: Some("fd01::4".parse().unwrap()),
            ..self.endpoint(C)
        };
        let network = NetworkConfig { icc: false, ..self.network(1) };
        self.dataplane.remove_endpoint(C).unwrap();
        self.dataplane.set_network(&network, &[self.endpoint(A), self.endpoint(B), c.clone()]).unwrap();
        self.dataplane.set_endpoint(&c).unwrap();
        self.dataplane.set_links(&LINKS.into()).unwrap();
    }

    #[track_caller]
    fn passes(&mut self, slot: u32, packet: Packet) {
        let run = self.sends(slot, &packet.frame());
        assert_eq!((run.verdict, run.frame), (REDIRECT, packet.frame()), "{:?}", packet.payload);
    }

    #[track_caller]
    fn is_kept_apart(&mut self, slot: u32, packet: Packet) {
        self.dies(slot, &packet.frame(), DropReason::IccDisabled);
    }

    fn link_keys(&self) -> usize {
        self.dataplane.maps.links.keys().map(Result::unwrap).count()
    }
}

/// The question to a linked port and the answer, over each protocol.
fn conversation() -> [(Payload, Payload); 6] {
    [
        (Payload::Tcp(4000, 80, SYN), Payload::Tcp(80, 4000, SYN | ACK)),
        (Payload::Tcp(4000, 80, ACK), Payload::Tcp(80, 4000, ACK)),
        (Payload::Tcp(4000, 80, FIN | ACK), Payload::Tcp(80, 4000, RST)),
        (Payload::Udp(4000, 53), Payload::Udp(53, 4000)),
        (Payload::Sctp(4000, 36412, true), Payload::Sctp(36412, 4000, false)),
        (Payload::Sctp(4000, 36412, false), Payload::Sctp(36412, 4000, false)),
    ]
}

#[test]
fn a_linked_port_is_open_both_ways() {
    on_bench(|bench| {
        bench.keep_apart();
        for family in FAMILIES {
            for (question, answer) in conversation() {
                bench.passes(A, Packet::new(A, family.a(), family.b(), question));
                bench.passes(B, Packet::new(B, family.b(), family.a(), answer));
            }
        }
    });
}

#[test]
fn nothing_else_is_open() {
    on_bench(|bench| {
        bench.keep_apart();
        for family in FAMILIES {
            let (a, b, c) = (family.a(), family.b(), third(family));
            let other = [
                // Another port, another protocol, none at all.
                Payload::Tcp(4000, 81, SYN),
                Payload::Tcp(4000, 53, SYN),
                Payload::Tcp(80, 4000, SYN),
                Payload::Udp(4000, 80),
                Payload::Udp(53, 54),
                Payload::Sctp(4000, 80, true),
                Payload::Echo(80, true),
                Payload::Echo(80, false),
                Payload::Other(ESP),
            ];
            for payload in other {
                bench.is_kept_apart(A, Packet::new(A, a, b, payload));
            }
            for (question, answer) in conversation() {
                // The other way round, and a third container on either side.
                bench.is_kept_apart(B, Packet::new(B, b, a, question));
                bench.is_kept_apart(A, Packet::new(A, a, b, answer));
                for (from, to) in [(C, b), (C, a)] {
                    bench.is_kept_apart(from, Packet::new(C, c, to, question));
                    bench.is_kept_apart(from, Packet::new(C, c, to, answer));
                }
                bench.is_kept_apart(A, Packet::new(A, a, c, question));
                bench.is_kept_apart(B, Packet::new(B, b, c, answer));
            }
            // What opens something is no answer, wherever it comes from.
            bench.is_kept_apart(B, Packet::new(B, b, a, Payload::Tcp(80, 4000, SYN)));
            bench.is_kept_apart(B, Packet::new(B, b, a, Payload::Sctp(36412, 4000, true)));
        }
    });
}

#[test]
fn beyond_the_bridges_ports_links_are_the_same() {
    on_bench(|bench| {
        bench.keep_apart();
        for slot in [A, B] {
            let endpoint = EndpointConfig { bridged: false, ..bench.endpoint(slot) };
            bench.dataplane.set_endpoint(&endpoint).unwrap();
        }
        for family in FAMILIES {
            for (question, answer) in conversation() {
                bench.passes(A, Packet::new(A, family.a(), family.b(), question));
                bench.passes(B, Packet::new(B, family.b(), family.a(), answer));
                bench.is_kept_apart(B, Packet::new(B, family.b(), family.a(), question));
            }
        }
    });
}

#[test]
fn a_port_that_is_published_as_well_is_open_all_the_same() {
    on_bench(|bench| {
        bench.keep_apart();
        for (family, port) in FAMILIES.into_iter().zip([8080, 8081]) {
            let published = PortConfig {
                entries: vec![PortEntry {
                    endpoint: B,
                    container: family.b(),
                    ..Bench::port(family, port, 80).entries[0]
                }],
                ..Bench::port(family, port, 80)
            };
            bench.dataplane.publish(&[published]).unwrap();
            for (question, answer) in conversation() {
                bench.passes(A, Packet::new(A, family.a(), family.b(), question));
                bench.passes(B, Packet::new(B, family.b(), family.a(), answer));
            }
            bench.is_kept_apart(B, Packet::new(B, family.b(), third(family), Payload::Tcp(80, 4000, ACK)));
        }
    });
}

#[test]
fn links_go_with_their_endpoints() {
    on_bench(|bench| {
        for gone in [A, B] {
            bench.keep_apart();
            let question = Packet::new(A, Family::V4.a(), Family::V4.b(), Payload::Tcp(4000, 80, SYN));
            bench.passes(A, question);
            assert_eq!(bench.link_keys(), LINKS.len());
            bench.dataplane.remove_endpoint(gone).unwrap();
            assert_eq!(bench.link_keys(), 0);
            // Somebody else in the same slot, or the same one back again: nobody is linked before it is said.
            let endpoint = bench.endpoint(gone);
            bench.dataplane.set_endpoint(&endpoint).unwrap();
            for family in FAMILIES {
                for (question, answer) in conversation() {
                    bench.is_kept_apart(A, Packet::new(A, family.a(), family.b(), question));
                    bench.is_kept_apart(B, Packet::new(B, family.b(), family.a(), answer));
                }
            }
            bench.dataplane.set_links(&LINKS.into()).unwrap();
            bench.passes(A, question);
        }
    });
}

#[test]
fn links_are_what_was_said_last() {
    on_host(|host| {
        let question = |port| Packet::new(A, Family::V4.a(), Family::V4.b(), Payload::Tcp(4000, port, SYN));
        let links = || BTreeSet::from([link(Protocol::TCP, 80), link(Protocol::TCP, 81)]);
        host.run(|bench| {
            bench.keep_apart();
            for _ in 0..2 {
                bench.dataplane.set_links(&links()).unwrap();
                assert_eq!(bench.link_keys(), 2);
            }
            bench.dataplane.set_links(&[link(Protocol::TCP, 81)].into()).unwrap();
            bench.is_kept_apart(A, question(80));
            bench.passes(A, question(81));
        });
        // The next agent finds them, and takes away what it does not know.
        host.run(|bench| {
            let apart = NetworkConfig { icc: false, ..bench.network(1) };
            let endpoints = [bench.endpoint(A), bench.endpoint(B)];
            bench.dataplane.set_network(&apart, &endpoints).unwrap();
            bench.passes(A, question(81));
            bench.dataplane.set_links(&[link(Protocol::TCP, 80)].into()).unwrap();
            bench.is_kept_apart(A, question(81));
            bench.passes(A, question(80));
        });
    });
}
