//! What the host's stack brings: to containers through `to_bridge` and `to_container`, out through `to_uplink`, up through
//! `from_bridge`.

use dataplane_common::address::AnyAddress;

use super::{packets::*, *};

#[test]
fn row_6_the_host_itself_reaches_its_containers() {
    on_bench(|bench| {
        let (bridge, veth) = (bench.bridges[1], bench.veths[A as usize]);
        for family in FAMILIES {
            let frame = Packet::new(A, family.gateway(), family.a(), Payload::Tcp(5000, 80, SYN)).frame();
            assert_eq!(bench.at("to_bridge", &frame, bridge, 0).verdict, NEXT);
            assert_eq!(bench.at("to_container", &frame, veth, 0).verdict, NEXT);
        }
    });
}

#[test]
fn row_11_what_the_host_forwards_is_let_in_only_with_a_flow() {
    on_bench(|bench| {
        let (bridge, veth, uplink) = (bench.bridges[1], bench.veths[A as usize], bench.uplink);
        for family in FAMILIES {
            let stranger = Packet::outside(family.outside(), family.a(), Payload::Tcp(5000, 80, SYN));
            let stranger = stranger.routed().frame();
            assert_eq!(bench.at("to_bridge", &stranger, bridge, uplink).verdict, SHOT);
            assert_eq!(bench.at("to_container", &stranger, veth, uplink).verdict, SHOT);
            assert!(bench.drops(A, DropReason::DirectAccess) > 0, "{family:?}");

            // The same packet, once its flow is there: the slow path of a published port.
            bench.dataplane.publish(&[Bench::port(family, 8080, 80)]).unwrap();
            let syn = Packet::outside(family.outside(), family.host(), Payload::Tcp(5000, 8080, SYN)).ttl(1);
            let run = bench.arrives(&syn.frame());
            assert_eq!(run.verdict, NEXT, "its time to live ends here: translated, and left to the stack");
            assert_eq!((read(&run.frame).destination, read(&run.frame).ttl), (family.a(), 1));
            let translated = read(&run.frame).routed().frame();
            assert_eq!(bench.at("to_bridge", &translated, bridge, uplink).verdict, NEXT);
            assert_eq!(bench.at("to_container", &translated, veth, uplink).verdict, NEXT);
        }
    });
}

/// Somebody whose interface was plugged into the bridge by hand is a neighbour like any other.
#[test]
fn row_1_holds_for_whatever_is_plugged_into_a_bridge() {
    on_bench(|bench| {
        let (veth, foreign) = (bench.veths[A as usize], bench.bridges[2]);
        for family in FAMILIES {
            let machine = Packet {
                macs: ([2, 9, 9, 9, 9, 9], mac(A)),
                ..Packet::outside(family.b(), family.a(), Payload::Udp(1, 2))
            };
            let elsewhere = Packet { source: family.outside(), ..machine };
            for packet in [machine, elsewhere] {
                let frame = packet.frame();
                let run = bench.at("to_container", &frame, veth, foreign);
                assert_eq!((run.verdict, run.frame), (NEXT, frame), "{family:?}");
            }
            // To it goes what has its Ethernet address, whatever address lies inside: it may be a router.
            for to in [family.b(), family.outside(), family.c()] {
                let to_machine =
                    Packet { macs: (mac(A), [2, 9, 9, 9, 9, 9]), ..Packet::new(A, family.a(), to, Payload::Udp(1, 2)) };
                if to == family.b() {
                    bench.dataplane.remove_endpoint(B).unwrap();
                }
                let run = bench.sends(A, &to_machine.frame());
                assert_eq!((run.verdict, run.frame), (NEXT, to_machine.frame()), "{to}");
            }
            let network = NetworkConfig { icc: false, ..bench.network(1) };
            let endpoints = [bench.endpoint(A)];
            bench.dataplane.set_network(&network, &endpoints).unwrap();
            let before = bench.drops(A, DropReason::IccDisabled);
            assert_eq!(bench.at("to_container", &machine.frame(), veth, foreign).verdict, SHOT);
            assert_eq!(bench.drops(A, DropReason::IccDisabled), before + 1);
            for to in [family.b(), family.outside()] {
                let to_machine =
                    Packet { macs: (mac(A), [2, 9, 9, 9, 9, 9]), ..Packet::new(A, family.a(), to, Payload::Udp(1, 2)) };
                bench.dies(A, &to_machine.frame(), DropReason::IccDisabled);
            }
            bench.tell_all();
        }
    });
}

#[test]
fn what_has_a_flow_to_another_network_goes_up_to_be_refused_by_the_stack() {
    on_bench(|bench| {
        let bridge = bench.bridges[2];
        for family in FAMILIES {
            bench.dataplane.publish(&[Bench::port(family, 8080, 80)]).unwrap();
            let last_hop = Packet::new(C, family.c(), family.host(), Payload::Tcp(5000, 8080, SYN)).ttl(1);
            let run = bench.sends(C, &last_hop.frame());
            assert_eq!(
                (run.verdict, read(&run.frame).destination),
                (NEXT, family.a()),
                "translated, and left to the stack"
            );
            assert_eq!(bench.at("from_bridge", &run.frame, bridge, bridge).verdict, NEXT);
            let stranger = Packet::new(C, family.c(), family.a(), Payload::Tcp(5001, 80, SYN)).ttl(1);
            assert_eq!(bench.at("from_bridge", &stranger.frame(), bridge, bridge).verdict, SHOT);
        }
    });
}

#[test]
fn no_private_source_leaves_an_uplink() {
    on_bench(|bench| {
        let (veth, uplink) = (bench.veths[A as usize], bench.uplink);
        for family in FAMILIES {
            let probe = |payload| Packet::new(A, family.a(), family.outside(), payload).ttl(63).frame();
            let run = bench.at("to_uplink", &probe(Payload::Udp(20_000, 53)), uplink, veth);
            assert_eq!(run.verdict, NEXT, "{family:?}");
            let seen = read(&run.frame);
            assert_eq!((seen.source, seen.ttl), (family.host(), 63), "the stack has lowered it already");
            let stray = bench.at("to_uplink", &probe(Payload::Tcp(20_000, 443, ACK)), uplink, veth);
            assert_eq!(stray.verdict, SHOT);
            assert!(bench.drops(A, DropReason::NoFlow) > 0);
        }
        // An address of the subnet that is nobody's.
        let nobody = Packet::new(A, "10.1.0.77".parse().unwrap(), Family::V4.outside(), Payload::Udp(1, 2)).frame();
        assert_eq!(bench.at("to_uplink", &nobody, uplink, veth).verdict, SHOT);
        assert_eq!(bench.drops(0, DropReason::Unmasqueraded), 1);
    });
}

#[test]
fn the_hosts_own_packets_leave_untouched() {
    on_bench(|bench| {
        let uplink = bench.uplink;
        for family in FAMILIES {
            let frame = Packet::outside(family.host(), family.outside(), Payload::Tcp(40_000, 443, SYN)).frame();
            for ingress in [0, uplink] {
                let run = bench.at("to_uplink", &frame, uplink, ingress);
                assert_eq!((run.verdict, run.frame), (NEXT, frame.clone()));
            }
        }
    });
}

/// An ICMP error that quotes too little tells no flow, not even one whose identifier is 0 as what it does not tell.
#[test]
fn the_stack_brings_no_error_about_nothing() {
    on_bench(|bench| {
        let (bridge, uplink) = (bench.bridges[1], bench.uplink);
        for family in FAMILIES {
            let ping = Packet::new(A, family.a(), family.outside(), Payload::Echo(0, true)).frame();
            assert_eq!(bench.sends(A, &ping).verdict, REDIRECT);
            let headers = if family == Family::V4 { 14 + 20 } else { 14 + 40 };
            for (quoted, verdict) in [(ping.len(), NEXT), (headers, SHOT)] {
                let error = timers::unreachable(family.outside(), family.a(), &ping[..quoted]);
                assert_eq!(bench.at("to_bridge", &error, bridge, uplink).verdict, verdict, "{family:?} {quoted}");
            }
        }
    });
}

#[test]
fn a_bridges_own_link_local_address_is_the_hosts_as_long_as_there_is_the_network() {
    on_bench(|bench| {
        // The kernel derives it from the MAC address, and that it has done so is no news to the agent.
        let address = AnyAddress::from(IpAddr::V6(V6::link_local_of(bridge_mac(1)).into()));
        let is_local = |bench: &Bench| bench.dataplane.maps.local_addresses.get(&address, 0).is_ok();
        assert!(is_local(bench));
        for slot in [A, B] {
            bench.dataplane.remove_endpoint(slot).unwrap();
        }
        bench.dataplane.remove_network(1).unwrap();
        assert!(!is_local(bench));
    });
}

#[test]
fn row_2_holds_for_whatever_is_plugged_into_a_bridge() {
    on_bench(|bench| {
        let bridge = bench.bridges[1];
        for family in FAMILIES {
            let stranger = |to| Packet::new(A, family.b(), to, Payload::Udp(1, 2)).frame();
            assert_eq!(bench.at("from_bridge", &stranger(family.c()), bridge, bridge).verdict, SHOT);
            for to in [family.gateway(), family.host(), family.outside()] {
                assert_eq!(bench.at("from_bridge", &stranger(to), bridge, bridge).verdict, NEXT, "{to}");
            }
        }
        assert_eq!(bench.drops(0, DropReason::OtherNetwork), 2);
    });
}

/// Docker's bridge, libvirt's: the stack has rules for what goes there, and may have translated it; so it sees both directions.
#[test]
fn other_managers_networks_are_reached_by_the_stack() {
    on_bench(|bench| {
        let (bridge, veth, uplink) = (bench.bridges[1], bench.veths[A as usize], bench.uplink);
        bench.dataplane.set_uplinks(&[UplinkConfig { inside: true, ..bench.uplink() }]).unwrap();
        for family in FAMILIES {
            let sent = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53));
            for _ in 0..2 {
                let run = bench.sends(A, &sent.frame());
                assert_eq!((run.verdict, run.frame), (NEXT, sent.frame()), "{family:?}");
                let out = bench.at("to_uplink", &sent.ttl(63).frame(), uplink, veth);
                assert_eq!((out.verdict, read(&out.frame).source), (NEXT, family.a()), "{family:?}");
                let back = Packet::outside(family.outside(), family.a(), Payload::Udp(53, 20_000));
                let back = bench.arrives(&back.frame());
                let seen = read(&back.frame);
                assert_eq!((back.verdict, seen.destination, seen.ttl), (NEXT, family.a(), 60), "{family:?}");
                assert_eq!(bench.at("to_bridge", &seen.routed().frame(), bridge, uplink).verdict, NEXT);
            }
            // What the stack translates back comes from the host's address that was asked.
            let asked = Packet::new(A, family.a(), family.host(), Payload::Udp(20_001, 5300));
            assert_eq!(bench.sends(A, &asked.frame()).verdict, NEXT);
            let answer = Packet::outside(family.host(), family.a(), Payload::Udp(5300, 20_001)).routed().frame();
            assert_eq!(bench.at("to_bridge", &answer, bridge, uplink).verdict, NEXT, "{family:?}");
            assert_eq!(bench.at("to_container", &answer, veth, uplink).verdict, NEXT, "{family:?}");
            // But nothing comes by itself: not to the interface, and not from there.
            let stranger = Packet::outside(family.outside(), family.a(), Payload::Udp(5300, 20_001));
            assert_eq!(bench.arrives(&stranger.frame()).verdict, SHOT);
            assert_eq!(bench.at("to_bridge", &stranger.routed().frame(), bridge, uplink).verdict, SHOT);
            let pretender = Packet::outside(family.host(), family.a(), Payload::Udp(5300, 20_001));
            assert_eq!(bench.arrives(&pretender.frame()).verdict, SHOT);
        }
    });
}
