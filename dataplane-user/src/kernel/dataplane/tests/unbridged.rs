//! Containers that found no free port on their network's bridge.

use std::net::Ipv4Addr;

use super::{
    neighbors::{SOLICITATION, arp, discovery},
    packets::*,
    *,
};

impl Bench {
    /// Takes B off the bridge.
    fn unbridge_b(&mut self) {
        let endpoint = EndpointConfig { bridged: false, ..self.endpoint(B) };
        self.dataplane.set_endpoint(&endpoint).unwrap();
    }

    /// Whether the network's programs look for such containers at all.
    fn is_crowded(&self) -> bool {
        self.dataplane.maps.networks.get(&1, 0).unwrap().has(layout::Network::CROWDED)
    }
}

/// The host's, as `frame` was a container's: from the bridge's MAC address, which also stands at `more`.
fn of_host(mut frame: Vec<u8>, more: usize) -> Vec<u8> {
    for at in [6, more] {
        frame[at..at + 6].copy_from_slice(&bridge_mac(1));
    }
    frame
}

/// From the host to a container.
fn from_host(family: Family, slot: u32, to: std::net::IpAddr) -> Vec<u8> {
    let macs = (bridge_mac(1), mac(slot));
    Packet { macs, ..Packet::outside(family.gateway(), to, Payload::Tcp(5000, 80, SYN)) }.frame()
}

#[test]
fn what_the_bridge_would_take_goes_to_the_bridge_device() {
    on_bench(|bench| {
        bench.unbridge_b();
        for family in FAMILIES {
            for to in [family.gateway(), family.host(), family.group()] {
                let frame = Packet::new(B, family.b(), to, Payload::Udp(4000, 53)).frame();
                let run = bench.sends(B, &frame);
                assert_eq!((run.verdict, run.frame), (REDIRECT, frame), "{to}");
            }
            let to_neighbor = Packet::new(B, family.b(), family.a(), Payload::Udp(4000, 53)).frame();
            assert_eq!(bench.sends(B, &to_neighbor).verdict, REDIRECT);
            bench.dies(
                B,
                &Packet::new(B, family.a(), family.host(), Payload::Udp(1, 2)).frame(),
                DropReason::SpoofedSource,
            );
        }
        let question = arp(B, [10, 1, 0, 3], [10, 1, 0, 1]);
        let run = bench.sends(B, &question);
        assert_eq!((run.verdict, run.frame), (REDIRECT, question), "for the gateway");
    });
}

#[test]
fn what_the_host_sends_goes_to_the_veth() {
    on_bench(|bench| {
        bench.unbridge_b();
        let bridge = bench.bridges[1];
        for family in FAMILIES {
            let to_b = from_host(family, B, family.b());
            let run = bench.at("to_bridge", &to_b, bridge, 0);
            assert_eq!((run.verdict, run.frame), (REDIRECT, to_b), "{family:?}");
            assert_eq!(bench.at("to_bridge", &from_host(family, A, family.a()), bridge, 0).verdict, NEXT, "a port");
            // What the host forwards needs a flow, as ever.
            let forwarded = from_host(family, B, family.b());
            assert_eq!(bench.at("to_bridge", &forwarded, bridge, bench.uplink).verdict, SHOT);
            // The bridge takes it to its ports; here is nobody behind a veth whom a copy could reach.
            let group = Packet {
                macs: (bridge_mac(1), [0xff; 6]),
                ..Packet::outside(family.gateway(), family.group(), Payload::Udp(1, 2))
            };
            let run = bench.at("to_bridge", &group.frame(), bridge, 0);
            assert_eq!((run.verdict, run.frame), (NEXT, group.frame()));
        }
        // An answer to what a container has asked.
        let mut answer = of_host(arp(A, [10, 1, 0, 1], [10, 1, 0, 3]), 22);
        answer[..6].copy_from_slice(&mac(B));
        answer[21] = 2;
        assert_eq!(bench.at("to_bridge", &answer, bridge, 0).verdict, REDIRECT);
    });
}

#[test]
fn the_hosts_questions_are_answered() {
    on_bench(|bench| {
        let bridge = bench.bridges[1];
        let arp = |target: [u8; 4]| of_host(arp(A, [10, 1, 0, 1], target), 22);
        let solicitation = |target: &str| of_host(discovery(A, "fd01::1", SOLICITATION, target, 1, mac(A)), 80);
        for crowded in [false, true] {
            for slot in [A, B] {
                let own = Ipv4Addr::new(10, 1, 0, slot as u8 + 1);
                let run = bench.at("to_bridge", &arp(own.octets()), bridge, 0);
                assert_eq!(run.verdict, if crowded { REDIRECT } else { NEXT });
                if crowded {
                    let reply =
                        [&bridge_mac(1)[..], &mac(slot), &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &mac(slot), &own.octets()]
                            .concat();
                    assert_eq!(run.frame, [&reply[..], &bridge_mac(1), &[10, 1, 0, 1]].concat());
                }
                let run = bench.at("to_bridge", &solicitation(&format!("fd01::{}", slot + 1)), bridge, 0);
                assert_eq!(run.verdict, if crowded { REDIRECT } else { NEXT });
                if crowded {
                    assert_eq!((&run.frame[..6], &run.frame[6..12]), (&bridge_mac(1)[..], &mac(slot)[..]));
                    assert_eq!((run.frame[54], &run.frame[80..86]), (136, &mac(slot)[..]));
                }
            }
            for unknown in [arp([10, 1, 0, 99]), solicitation("fd01::99")] {
                let run = bench.at("to_bridge", &unknown, bridge, 0);
                assert_eq!((run.verdict, run.frame), (NEXT, unknown));
            }
            bench.unbridge_b();
        }
    });
}

#[test]
fn a_network_is_crowded_as_long_as_somebody_has_no_port() {
    on_bench(|bench| {
        assert!(!bench.is_crowded());
        bench.unbridge_b();
        assert!(bench.is_crowded());
        let bridged = bench.endpoint(B);
        bench.dataplane.set_endpoint(&bridged).unwrap();
        assert!(!bench.is_crowded());
        bench.unbridge_b();
        bench.dataplane.remove_endpoint(B).unwrap();
        assert!(!bench.is_crowded());
        let endpoints = [bench.endpoint(A), EndpointConfig { bridged: false, ..bench.endpoint(B) }];
        let network = bench.network(1);
        bench.dataplane.set_network(&network, &endpoints).unwrap();
        assert!(bench.is_crowded());
        bench.dataplane.set_network(&network, &endpoints[..1]).unwrap();
        assert!(!bench.is_crowded());
    });
}
