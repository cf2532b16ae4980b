//! Endpoint-independent mapping of UDP.

use super::{packets::*, *};

impl Bench {
    /// Turns the option on for both networks.
    fn map_sockets(&mut self) {
        for slot in [1, 2] {
            let network = NetworkConfig { endpoint_independent: true, ..self.network(slot) };
            let members = if slot == 1 { vec![self.endpoint(A), self.endpoint(B)] } else { vec![self.endpoint(C)] };
            self.dataplane.set_network(&network, &members).unwrap();
        }
    }

    /// The port under which a container's datagram leaves.
    #[track_caller]
    fn leaves_from(&mut self, slot: u32, source: IpAddr, from: u16, to: u16) -> u16 {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let sent = Packet::new(slot, source, family.outside(), Payload::Udp(from, to));
        let out = self.sends(slot, &sent.frame());
        assert_eq!(out.verdict, REDIRECT, "{source} {from} to {to}");
        match read(&out.frame) {
            Packet { source, payload: Payload::Udp(port, _), .. } if source == family.host() => port,
            other => panic!("it leaves as {:?} of {}", other.payload, other.source),
        }
    }
}

/// A datagram from a port outside to one of the host.
fn from_outside(family: Family, from: u16, to: u16) -> Vec<u8> {
    Packet::outside(family.outside(), family.host(), Payload::Udp(from, to)).frame()
}

/// RFC 4787 REQ-1 and REQ-8. That the port is nobody else's, towards no destination, is what sets it apart from how ports are
/// chosen without the option.
#[test]
fn a_socket_has_one_port_where_everybody_reaches_it() {
    on_bench(|bench| {
        bench.map_sockets();
        for family in FAMILIES {
            for from in [20_000, 40_000] {
                let port = bench.leaves_from(A, family.a(), from, 53);
                let others = bench.leaves_from(B, family.b(), from, 54);
                assert_ne!(others, port, "towards another destination, too");
                assert_eq!(bench.leaves_from(A, family.a(), from, 54), port);
                assert_eq!(bench.leaves_from(A, family.a(), from, 55), port);
                assert_eq!(bench.leaves_from(B, family.b(), from, 53), others);

                for (port, container, slot) in [(port, family.a(), A), (others, family.b(), B)] {
                    let run = bench.arrives(&from_outside(family, 7000, port));
                    assert_eq!(run.verdict, REDIRECT, "{family:?}, from somebody new");
                    let got = read(&run.frame);
                    assert_eq!((got.source, got.destination), (family.outside(), container));
                    assert_eq!(got.payload, Payload::Udp(7000, from));
                    assert_eq!(bench.leaves_from(slot, container, from, 7000), port, "the answer");
                    assert_eq!(bench.arrives(&from_outside(family, 7000, port)).verdict, REDIRECT, "once more");
                }
            }
        }
    });
}

#[test]
fn without_the_option_only_who_was_asked_may_answer() {
    on_bench(|bench| {
        for family in FAMILIES {
            let port = bench.leaves_from(A, family.a(), 20_000, 53);
            assert_eq!(bench.arrives(&from_outside(family, 53, port)).verdict, REDIRECT, "the control");
            let stranger = from_outside(family, 7000, port);
            let run = bench.arrives(&stranger);
            assert_eq!((run.verdict, run.frame), (NEXT, stranger));
            assert_eq!(bench.leaves_from(B, family.b(), 20_000, 54), port, "towards another destination");
        }
    });
}

/// A network with the option and one without: neither gets what the other holds.
#[test]
fn who_has_no_mapping_gets_no_mapped_port() {
    on_bench(|bench| {
        let network = NetworkConfig { endpoint_independent: true, ..bench.network(2) };
        bench.dataplane.set_network(&network, &[bench.endpoint(C)]).unwrap();
        for family in FAMILIES {
            let mapped = bench.leaves_from(C, family.c(), 20_000, 53);
            assert_ne!(bench.leaves_from(A, family.a(), 20_000, 54), mapped);
            // Who was first towards a destination keeps it: then this one alone sees another port.
            let first = bench.leaves_from(A, family.a(), 21_000, 53);
            assert_eq!(first, 21_000);
            assert_eq!(bench.leaves_from(C, family.c(), 21_000, 54), 21_000);
            assert_ne!(bench.leaves_from(C, family.c(), 21_000, 53), 21_000);
            assert_eq!(bench.leaves_from(A, family.a(), 21_000, 53), 21_000);
        }
    });
}

#[test]
fn a_source_that_nobody_can_have_reaches_no_mapped_port() {
    on_bench(|bench| {
        bench.map_sockets();
        for (family, sources) in
            [(Family::V4, ["0.0.0.0", "127.0.0.2", "224.0.0.1"]), (Family::V6, ["::", "ff02::1", "fe80::7"])]
        {
            bench.leaves_from(A, family.a(), 20_000, 53);
            for source in sources {
                let probe = Packet::outside(source.parse().unwrap(), family.host(), Payload::Udp(7000, 20_000)).frame();
                let run = bench.arrives(&probe);
                assert_eq!((run.verdict, run.frame), (NEXT, probe), "{source}: the stack drops it");
            }
            assert_eq!(bench.arrives(&from_outside(family, 7000, 20_000)).verdict, REDIRECT, "the control");
        }
    });
}

#[test]
fn a_mapped_port_yields_to_the_host() {
    on_bench(|bench| {
        bench.map_sockets();
        for family in FAMILIES {
            assert_eq!(bench.leaves_from(A, family.a(), 20_000, 53), 20_000);
            let stranger = from_outside(family, 7000, 20_000);
            assert_eq!(bench.arrives(&stranger).verdict, REDIRECT, "the control");
            let held = std::net::UdpSocket::bind((family.host(), 20_000)).unwrap();
            assert_eq!(bench.arrives(&stranger).verdict, NEXT);
            let elsewhere = bench.leaves_from(A, family.a(), 20_000, 54);
            assert_ne!(elsewhere, 20_000);
            drop(held);
            assert_eq!(bench.leaves_from(A, family.a(), 20_000, 55), elsewhere);
        }
    });
}

/// RFC 4787 REQ-9. Networks stay closed to each other's own addresses.
#[test]
fn containers_reach_each_other_by_mapped_ports() {
    on_bench(|bench| {
        bench.map_sockets();
        for family in FAMILIES {
            let port = bench.leaves_from(A, family.a(), 20_000, 53);
            for (slot, client) in [(B, family.b()), (C, family.c())] {
                let ask = Packet::new(slot, client, family.host(), Payload::Udp(5000, port));
                let run = bench.sends(slot, &ask.frame());
                assert_eq!(run.verdict, REDIRECT, "{client}");
                let got = read(&run.frame);
                assert_eq!(
                    (got.source, got.destination, got.payload),
                    (client, family.a(), Payload::Udp(5000, 20_000))
                );
                let answer = Packet::new(A, family.a(), client, Payload::Udp(20_000, 5000));
                let got = read(&bench.sends(A, &answer.frame()).frame);
                assert_eq!(
                    (got.source, got.destination, got.payload),
                    (family.host(), client, Payload::Udp(port, 5000))
                );
            }
            let straight = Packet::new(C, family.c(), family.a(), Payload::Udp(5000, 20_000)).frame();
            bench.dies(C, &straight, DropReason::OtherNetwork);
            let nobodys = Packet::new(B, family.b(), family.host(), Payload::Udp(5000, port + 1)).frame();
            assert_eq!(bench.sends(B, &nobodys).verdict, NEXT);
        }
    });
}

#[test]
fn a_mapping_ends_with_its_endpoint() {
    on_bench(|bench| {
        bench.map_sockets();
        for family in FAMILIES {
            let port = bench.leaves_from(A, family.a(), 20_000, 53);
            let stranger = from_outside(family, 7000, port);
            assert_eq!(bench.arrives(&stranger).verdict, REDIRECT, "the control");
            bench.dataplane.remove_endpoint(A).unwrap();
            assert_eq!(bench.arrives(&stranger).verdict, NEXT);
            assert_eq!(bench.dataplane.collect_garbage().unwrap(), GcReport { flows: 2, deleted: 2, crowded: false });
            assert_eq!(bench.leaves_from(B, family.b(), 20_000, 53), port, "the port is free again");
            bench.dataplane.remove_endpoint(B).unwrap();
            bench.dataplane.collect_garbage().unwrap();
            for config in [bench.endpoint(A), bench.endpoint(B)] {
                bench.dataplane.set_endpoint(&config).unwrap();
            }
        }
    });
}

/// It lives as long as its socket's flows, and for as long after them as a UDP flow.
#[test]
fn a_mapping_ends_when_nobody_has_used_it() {
    on_host(|host| {
        let short = Timeouts { udp_unanswered: 0, udp_answered: 2, ..Timeouts::default() };
        host.inside(async |netlink| {
            let options = Options { timeouts: short, ..Options::default() };
            let mut bench = Bench::again(&host.bpffs(), &netlink, &options).await;
            bench.map_sockets();
            for family in FAMILIES {
                let port = bench.leaves_from(A, family.a(), 20_000, 53);
                let (known, stranger) = (from_outside(family, 53, port), from_outside(family, 7000, port));
                for _ in 0..4 {
                    std::thread::sleep(std::time::Duration::from_secs(1));
                    assert_eq!(bench.arrives(&known).verdict, REDIRECT);
                    assert_eq!(bench.dataplane.collect_garbage().unwrap().deleted, 0, "its flow lives");
                }
                assert_eq!(bench.arrives(&stranger).verdict, REDIRECT);
                std::thread::sleep(std::time::Duration::from_secs(4));
                assert_eq!(
                    bench.dataplane.collect_garbage().unwrap(),
                    GcReport { flows: 2, deleted: 2, crowded: false }
                );
                let other = from_outside(family, 7001, port);
                assert_eq!(bench.arrives(&other).verdict, NEXT);
            }
        });
    });
}

/// The programs look for mappings only where a network has the option.
#[test]
fn the_programs_know_whether_there_are_mappings() {
    on_bench(|bench| {
        let wanted = |bench: &Bench| {
            bench.dataplane.maps.config.get(&0, 0).unwrap().flags & layout::Config::ENDPOINT_INDEPENDENT != 0
        };
        assert!(!wanted(bench));
        bench.map_sockets();
        assert!(wanted(bench));
        let without = bench.network(1);
        bench.dataplane.set_network(&without, &[bench.endpoint(A), bench.endpoint(B)]).unwrap();
        assert!(wanted(bench), "network 2 has it still");
        bench.dataplane.remove_network(2).unwrap();
        assert!(!wanted(bench));
    });
}
