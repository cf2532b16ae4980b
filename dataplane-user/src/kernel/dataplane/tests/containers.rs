//! What a container sends, without any flow: neighbours, other networks, lies about the source.

use std::net::IpAddr;

use dataplane_common::{
    Zone,
    layout::{place_of_address, place_of_interface},
};

use super::{packets::*, *};

#[test]
fn row_1_a_packet_to_a_neighbour_is_redirected_unchanged() {
    on_bench(|bench| {
        for family in FAMILIES {
            for payload in
                [Payload::Tcp(4000, 80, ACK), Payload::Udp(4000, 53), Payload::Echo(7, true), Payload::Other(ESP)]
            {
                let frame = Packet::new(A, family.a(), family.b(), payload).frame();
                let run = bench.sends(A, &frame);
                assert_eq!((run.verdict, run.frame), (REDIRECT, frame), "{family:?} {payload:?}");
            }
        }
    });
}

#[test]
fn row_1_does_not_hold_with_icc_off() {
    on_bench(|bench| {
        let network = NetworkConfig { icc: false, ..bench.network(1) };
        let endpoints = [bench.endpoint(A), bench.endpoint(B)];
        bench.dataplane.set_network(&network, &endpoints).unwrap();
        for family in FAMILIES {
            let frame = Packet::new(A, family.a(), family.b(), Payload::Udp(4000, 53)).frame();
            bench.dies(A, &frame, DropReason::IccDisabled);
        }
    });
}

#[test]
fn row_2_another_network_is_not_reached_by_any_protocol() {
    on_bench(|bench| {
        for family in FAMILIES {
            for payload in
                [Payload::Tcp(4000, 80, SYN), Payload::Udp(4000, 53), Payload::Echo(7, true), Payload::Other(ESP)]
            {
                let frame = Packet::new(A, family.a(), family.c(), payload).frame();
                bench.dies(A, &frame, DropReason::OtherNetwork);
            }
        }
    });
}

#[test]
fn a_short_cut_that_leads_to_somebody_else_changes_nothing() {
    on_bench(|bench| {
        // Whoever shares a place with another one may be in it or not: here everybody leads to the container of the other network.
        for ifindex in bench.veths {
            bench.dataplane.maps.interface_slots.set(place_of_interface(ifindex), C, 0).unwrap();
        }
        for family in FAMILIES {
            for address in [family.a(), family.b(), family.c()] {
                let place = match address {
                    IpAddr::V4(v4) => place_of_address(Zone(1), V4::from(v4)),
                    IpAddr::V6(v6) => place_of_address(Zone(1), V6::from(v6)),
                };
                bench.dataplane.maps.address_slots.set(place, C, 0).unwrap();
            }
            let frame = |to| Packet::new(A, family.a(), to, Payload::Tcp(4000, 80, SYN)).frame();
            assert_eq!(bench.sends(A, &frame(family.b())).verdict, REDIRECT, "{family:?}");
            bench.dies(A, &frame(family.c()), DropReason::OtherNetwork);
            let lie = Packet::new(A, family.b(), family.a(), Payload::Udp(4000, 53)).frame();
            bench.dies(A, &lie, DropReason::SpoofedSource);
        }
    });
}

#[test]
fn row_3_the_host_takes_what_is_for_the_host() {
    on_bench(|bench| {
        for family in FAMILIES {
            for to in [family.gateway(), family.host()] {
                let frame = Packet::new(A, family.a(), to, Payload::Tcp(4000, 22, SYN)).frame();
                let run = bench.sends(A, &frame);
                assert_eq!((run.verdict, run.frame), (NEXT, frame), "{to}");
            }
        }
    });
}

#[test]
fn row_17_lies_about_the_source_die() {
    on_bench(|bench| {
        for family in FAMILIES {
            let honest = Packet::new(A, family.a(), family.b(), Payload::Udp(4000, 53));
            let stolen_mac = Packet { macs: (mac(B), mac(B)), ..honest };
            bench.dies(A, &stolen_mac.frame(), DropReason::SpoofedMac);
            for source in [family.b(), family.c(), family.gateway(), family.outside(), family.any()] {
                bench.dies(A, &Packet { source, ..honest }.frame(), DropReason::SpoofedSource);
            }
            assert_eq!(bench.sends(A, &honest.frame()).verdict, REDIRECT, "the control");
        }
    });
}

#[test]
fn an_internal_network_has_no_outside() {
    on_bench(|bench| {
        let network = NetworkConfig { internal: true, ..bench.network(1) };
        let endpoints = [bench.endpoint(A), bench.endpoint(B)];
        bench.dataplane.set_network(&network, &endpoints).unwrap();
        for family in FAMILIES {
            let probe = |to| Packet::new(A, family.a(), to, Payload::Tcp(4000, 22, SYN)).frame();
            bench.dies(A, &probe(family.outside()), DropReason::InternalNetwork);
            bench.dies(A, &probe(family.host()), DropReason::InternalNetwork);
            // A frame for everybody reaches the host like one for its MAC address.
            let mut for_all = probe(family.host());
            for_all[..6].fill(0xff);
            bench.dies(A, &for_all, DropReason::InternalNetwork);
            assert_eq!(bench.sends(A, &probe(family.gateway())).verdict, NEXT);
            assert_eq!(bench.sends(A, &probe(family.b())).verdict, REDIRECT);
        }
    });
}

#[test]
fn cut_packets_die_and_unknown_interfaces_carry_nothing() {
    on_bench(|bench| {
        for family in FAMILIES {
            let frame = Packet::new(A, family.a(), family.outside(), Payload::Tcp(4000, 80, SYN)).frame();
            let head = if family == Family::V4 { 14 + 20 } else { 14 + 40 };
            // The kernel runs no program on an IP packet that is shorter than its IP header.
            for len in [head, head + 19] {
                bench.dies(A, &frame[..len], DropReason::Malformed);
            }
            let before = bench.drops(0, DropReason::UnknownInterface);
            let stranger = bench.uplink;
            assert_eq!(bench.at("from_container", &frame, stranger, stranger).verdict, SHOT);
            assert_eq!(bench.drops(0, DropReason::UnknownInterface), before + 1);
        }
    });
}
