//! The life of a flow: masquerade and published ports, there and back, and its end.

use std::{net::IpAddr, os::fd::AsFd as _};

use dataplane_common::layout::Config;

use super::{packets::*, *};

/// What a container may send to the outside, and the answer.
const EXCHANGES: [(Payload, Payload); 3] = [
    (Payload::Tcp(20_000, 443, SYN), Payload::Tcp(443, 20_000, SYN | ACK)),
    (Payload::Udp(20_001, 53), Payload::Udp(53, 20_001)),
    (Payload::Echo(77, true), Payload::Echo(77, false)),
];

/// The answer as somebody outside sends it: to the port or identifier that it saw.
fn answer(seen: &Packet, reply: Payload) -> Packet {
    let payload = match (seen.payload, reply) {
        (Payload::Tcp(port, ..), Payload::Tcp(from, _, flags)) => Payload::Tcp(from, port, flags),
        (Payload::Udp(port, _), Payload::Udp(from, _)) => Payload::Udp(from, port),
        (Payload::Echo(id, _), Payload::Echo(..)) => Payload::Echo(id, false),
        _ => panic!("no answer"),
    };
    Packet::outside(seen.destination, seen.source, payload)
}

#[test]
fn row_14_a_container_is_masqueraded_there_and_back() {
    on_bench(|bench| {
        for family in FAMILIES {
            for (request, reply) in EXCHANGES {
                let sent = Packet::new(A, family.a(), family.outside(), request);
                let out = bench.sends(A, &sent.frame());
                assert_eq!(out.verdict, REDIRECT, "{family:?} {request:?}");
                let seen = read(&out.frame);
                assert_eq!((seen.source, seen.destination, seen.ttl), (family.host(), family.outside(), 63));
                assert_eq!(seen.payload, request, "the container's own port is kept while it is free");

                let back = bench.arrives(&answer(&seen, reply).frame());
                assert_eq!(back.verdict, REDIRECT, "{family:?} {reply:?}");
                let got = read(&back.frame);
                assert_eq!((got.source, got.destination, got.ttl), (family.outside(), family.a(), 59));
                assert_eq!(got.payload, reply);
                assert_eq!(got.macs, (bridge_mac(1), mac(A)));
            }
        }
    });
}

#[test]
fn a_port_outside_of_the_pool_is_replaced_by_one_that_does_not_depend_on_the_destination() {
    on_bench(|bench| {
        for family in FAMILIES {
            let port = |bench: &mut Bench, to: u16| {
                let sent = Packet::new(A, family.a(), family.outside(), Payload::Udp(40_000, to));
                match read(&bench.sends(A, &sent.frame()).frame).payload {
                    Payload::Udp(port, _) => port,
                    other => panic!("{other:?}"),
                }
            };
            let first = port(bench, 53);
            assert!((9000..32_768).contains(&first) || first >= 61_000, "{first} is not in the pool");
            assert_eq!(port(bench, 54), first);
        }
    });
}

#[test]
fn two_containers_with_one_port_get_two() {
    on_bench(|bench| {
        for family in FAMILIES {
            let mut ports = Vec::new();
            for (slot, source) in [(A, family.a()), (B, family.b())] {
                let sent = Packet::new(slot, source, family.outside(), Payload::Udp(20_000, 53));
                let out = bench.sends(slot, &sent.frame());
                let seen = read(&out.frame);
                let back = read(&bench.arrives(&answer(&seen, Payload::Udp(53, 0)).frame()).frame);
                assert_eq!((back.destination, back.payload), (source, Payload::Udp(53, 20_000)));
                ports.push(seen.payload);
            }
            assert_ne!(ports[0], ports[1]);
        }
    });
}

#[test]
fn a_published_port_is_never_given_out() {
    on_bench(|bench| {
        for family in FAMILIES {
            bench.dataplane.publish(&[Bench::port(family, 20_000, 80)]).unwrap();
            let sent = Packet::new(B, family.b(), family.outside(), Payload::Tcp(20_000, 443, SYN));
            let seen = read(&bench.sends(B, &sent.frame()).frame);
            assert!(!matches!(seen.payload, Payload::Tcp(20_000, ..)), "{:?}", seen.payload);
        }
    });
}

#[test]
fn a_port_of_the_hosts_own_socket_is_never_given_out() {
    on_bench(|bench| {
        for family in FAMILIES {
            let held = std::net::UdpSocket::bind((family.host(), 0)).unwrap();
            let listener = std::net::TcpListener::bind((family.any(), 20_000)).unwrap();
            let probe = |payload| Packet::new(A, family.a(), family.outside(), payload).frame();
            let tcp = read(&bench.sends(A, &probe(Payload::Tcp(20_000, 443, SYN))).frame);
            assert!(!matches!(tcp.payload, Payload::Tcp(20_000, ..)), "{:?}", tcp.payload);
            drop((held, listener));
        }
    });
}

#[test]
fn row_9_a_published_port_keeps_the_clients_address() {
    on_bench(|bench| {
        for family in FAMILIES {
            bench.dataplane.publish(&[Bench::port(family, 8080, 80)]).unwrap();
            let syn = Packet::outside(family.outside(), family.host(), Payload::Tcp(5000, 8080, SYN));
            let run = bench.arrives(&syn.frame());
            assert_eq!(run.verdict, REDIRECT, "{family:?}");
            let got = read(&run.frame);
            assert_eq!((got.source, got.destination, got.ttl), (family.outside(), family.a(), 59));
            assert_eq!(got.payload, Payload::Tcp(5000, 80, SYN));
            assert_eq!(got.macs, (bridge_mac(1), mac(A)));

            let reply = Packet::new(A, family.a(), family.outside(), Payload::Tcp(80, 5000, SYN | ACK));
            let run = bench.sends(A, &reply.frame());
            assert_eq!(run.verdict, REDIRECT, "{family:?}");
            let seen = read(&run.frame);
            assert_eq!((seen.source, seen.payload), (family.host(), Payload::Tcp(8080, 5000, SYN | ACK)));

            bench.dataplane.unpublish(&[port_slot(family, 8080)]).unwrap();
            let other = Packet::outside(family.outside(), family.host(), Payload::Tcp(5001, 8080, SYN));
            assert_eq!(bench.arrives(&other.frame()).verdict, NEXT, "closed: the host's own business");
        }
    });
}

#[test]
fn rows_4_and_5_a_published_port_is_reached_from_containers() {
    on_bench(|bench| {
        for family in FAMILIES {
            bench.dataplane.publish(&[Bench::port(family, 8080, 80)]).unwrap();
            for (slot, source) in [(C, family.c()), (B, family.b())] {
                let syn = Packet::new(slot, source, family.host(), Payload::Tcp(5000, 8080, SYN));
                let run = bench.sends(slot, &syn.frame());
                assert_eq!(run.verdict, REDIRECT, "{source}");
                let got = read(&run.frame);
                assert_eq!((got.source, got.destination), (source, family.a()), "the client's own address");
                let reply = Packet::new(A, family.a(), source, Payload::Tcp(80, 5000, SYN | ACK));
                let run = bench.sends(A, &reply.frame());
                assert_eq!(run.verdict, REDIRECT, "{source}");
                let got = read(&run.frame);
                assert_eq!((got.source, got.payload), (family.host(), Payload::Tcp(8080, 5000, SYN | ACK)));
                assert_eq!(got.macs.1, mac(slot));
            }
            // Itself: it sees the gateway, or it would answer to itself.
            let syn = Packet::new(A, family.a(), family.host(), Payload::Tcp(5001, 8080, SYN));
            let got = read(&bench.sends(A, &syn.frame()).frame);
            assert_eq!((got.source, got.destination), (family.gateway(), family.a()));
            let reply = Packet::new(A, family.a(), family.gateway(), Payload::Tcp(80, 5001, SYN | ACK));
            let got = read(&bench.sends(A, &reply.frame()).frame);
            assert_eq!((got.source, got.destination), (family.host(), family.a()));
        }
    });
}

#[test]
fn row_11_a_containers_address_is_closed_to_the_outside() {
    on_bench(|bench| {
        for family in FAMILIES {
            for payload in [Payload::Tcp(5000, 80, SYN), Payload::Udp(5000, 80), Payload::Echo(1, true)] {
                let before = bench.drops(0, DropReason::DirectAccess);
                let frame = Packet::outside(family.outside(), family.a(), payload).frame();
                assert_eq!(bench.arrives(&frame).verdict, SHOT);
                assert_eq!(bench.drops(0, DropReason::DirectAccess), before + 1);
            }
        }
    });
}

#[test]
fn what_is_not_ours_is_left_alone() {
    on_bench(|bench| {
        for family in FAMILIES {
            for (to, payload) in [
                (family.host(), Payload::Tcp(5000, 22, SYN)),
                (family.host(), Payload::Udp(53, 33_000)),
                (family.host(), Payload::Echo(9, false)),
                (family.outside(), Payload::Tcp(1, 2, ACK)),
            ] {
                let frame = Packet::outside(family.outside(), to, payload).frame();
                let run = bench.arrives(&frame);
                assert_eq!((run.verdict, run.frame), (NEXT, frame), "{payload:?}");
            }
        }
    });
}

#[test]
fn strays_open_nothing() {
    on_bench(|bench| {
        for family in FAMILIES {
            let probe = |payload| Packet::new(A, family.a(), family.outside(), payload).frame();
            for flags in [ACK, FIN | ACK, RST, SYN | ACK] {
                bench.dies(A, &probe(Payload::Tcp(20_000, 443, flags)), DropReason::NoFlow);
            }
            bench.dies(A, &probe(Payload::Echo(5, false)), DropReason::NoFlow);
        }
    });
}

#[test]
fn a_question_with_identifier_0_is_not_taken_for_an_answer() {
    on_bench(|bench| {
        for family in FAMILIES {
            let ping = Packet::new(A, family.a(), family.outside(), Payload::Echo(0, true));
            let seen = read(&bench.sends(A, &ping.frame()).frame);
            let back = |payload| Packet::outside(family.outside(), seen.source, payload).frame();
            let question = back(Payload::Echo(0, true));
            let run = bench.arrives(&question);
            assert_eq!((run.verdict, run.frame), (NEXT, question), "{family:?}: it asks the host");
            assert_eq!(seen.payload, Payload::Echo(0, true), "or the control shows nothing");
            assert_eq!(bench.arrives(&back(Payload::Echo(0, false))).verdict, REDIRECT, "{family:?}: the control");
        }
    });
}

#[test]
fn time_to_live_ends_at_the_host() {
    on_bench(|bench| {
        for family in FAMILIES {
            let syn = Packet::new(A, family.a(), family.outside(), Payload::Tcp(20_000, 443, SYN));
            let frame = syn.ttl(1).frame();
            let run = bench.sends(A, &frame);
            assert_eq!((run.verdict, run.frame), (NEXT, frame), "the stack says Time Exceeded");
            let answer = Packet::outside(family.outside(), family.host(), Payload::Tcp(443, 20_000, SYN | ACK)).frame();
            let run = bench.arrives(&answer);
            assert_eq!((run.verdict, run.frame), (NEXT, answer), "what went nowhere holds no port");
            assert_eq!(bench.sends(A, &syn.ttl(2).frame()).verdict, REDIRECT);
            let established = Packet { payload: Payload::Tcp(20_000, 443, ACK), ..syn }.ttl(1).frame();
            let run = bench.sends(A, &established);
            assert_eq!((run.verdict, run.frame), (NEXT, established), "on an open flow too");
        }
    });
}

/// A batch of segments is judged by its segments: 65,000 bytes in pieces of 1448 pass, a piece too many bytes long does not.
#[test]
fn what_is_too_big_for_the_uplink_is_left_to_the_stack() {
    on_bench(|bench| {
        for family in FAMILIES {
            let syn = Packet::new(A, family.a(), family.outside(), Payload::Tcp(20_000, 443, SYN));
            assert_eq!(bench.sends(A, &syn.frame()).verdict, REDIRECT);
            let frame = Packet { payload: Payload::Tcp(20_000, 443, ACK), ..syn }.frame();
            let veth = bench.veths[A as usize];
            let headers = if family == Family::V4 { 40 } else { 60 };
            for (gso_size, verdict) in [(1500 - headers, REDIRECT), (1501 - headers, NEXT)] {
                let context = RunContext { ifindex: veth, ingress_ifindex: veth, gso_size, repeat: 1 };
                let run = bench.dataplane.run_program("from_container", &frame, &context).unwrap();
                assert_eq!(run.verdict, verdict, "{family:?} {gso_size}");
            }
        }
    });
}

/// Opens a UDP flow of A's; returns the answer that it waits for.
fn open(bench: &mut Bench, family: Family) -> Vec<u8> {
    let sent = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53));
    let seen = read(&bench.sends(A, &sent.frame()).frame);
    answer(&seen, Payload::Udp(53, 0)).frame()
}

#[test]
fn the_end_of_an_endpoint_ends_its_flows() {
    on_bench(|bench| {
        for family in FAMILIES {
            let reply = open(bench, family);
            assert_eq!(bench.arrives(&reply).verdict, REDIRECT, "the control");
            bench.dataplane.remove_endpoint(A).unwrap();
            assert_eq!(bench.arrives(&reply).verdict, NEXT);
            let config = bench.endpoint(A);
            bench.dataplane.set_endpoint(&config).unwrap();
            assert_eq!(bench.arrives(&reply).verdict, NEXT, "the next one in its slot does not inherit");
        }
    });
}

/// Datagrams that nobody answers go on while their port is published as it was, and no longer.
#[test]
fn datagrams_that_nobody_answers_follow_their_port() {
    on_bench(|bench| {
        let looks = |bench: &Bench| bench.dataplane.maps.config.get(&0, 0).unwrap().flags & Config::DATAGRAMS != 0;
        for family in FAMILIES {
            let log = Packet::outside(family.outside(), family.host(), Payload::Udp(4000, 514));
            let arrives_at = |bench: &mut Bench| {
                let run = bench.arrives(&log.frame());
                (run.verdict == REDIRECT).then(|| read(&run.frame).destination)
            };
            assert_eq!((looks(bench), arrives_at(bench)), (false, None));
            let mut port = Bench::port(family, 514, 514);
            port.entries[0].protocol = Protocol::UDP;
            bench.dataplane.publish(std::slice::from_ref(&port)).unwrap();
            for _ in 0..3 {
                assert_eq!((looks(bench), arrives_at(bench)), (true, Some(family.a())));
            }
            let elsewhere = PortConfig {
                entries: vec![PortEntry { endpoint: B, container: family.b(), ..port.entries[0] }],
                ..port.clone()
            };
            bench.dataplane.publish(&[elsewhere]).unwrap();
            for _ in 0..3 {
                assert_eq!(arrives_at(bench), Some(family.b()));
            }
            bench.dataplane.unpublish(&[port.slot]).unwrap();
            assert_eq!((looks(bench), arrives_at(bench)), (false, None));
        }
    });
}

#[test]
fn setting_an_endpoint_again_keeps_its_flows() {
    on_bench(|bench| {
        for family in FAMILIES {
            let reply = open(bench, family);
            let config = bench.endpoint(A);
            bench.dataplane.set_endpoint(&config).unwrap();
            let network = bench.network(1);
            let endpoints = [bench.endpoint(A), bench.endpoint(B)];
            bench.dataplane.set_network(&network, &endpoints).unwrap();
            assert_eq!(bench.arrives(&reply).verdict, REDIRECT);
        }
    });
}

/// At no step of a new agent's start is there a packet that dies.
#[test]
fn flows_outlive_the_agent() {
    on_host(|host| {
        let replies = host.run(|bench| FAMILIES.map(|family| open(bench, family)));
        host.inside(async |netlink| {
            let mut bench = Bench::open(&host.bpffs(), &netlink, &Options::default()).await;
            let all_pass = |bench: &mut Bench, step| {
                for (family, reply) in FAMILIES.into_iter().zip(&replies) {
                    let sent = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53));
                    assert_eq!(bench.sends(A, &sent.frame()).verdict, REDIRECT, "{family:?}, out, {step}");
                    assert_eq!(bench.arrives(reply).verdict, REDIRECT, "{family:?}, in, {step}");
                }
            };
            all_pass(&mut bench, "programs replaced");
            let network = bench.network(1);
            let endpoints = [bench.endpoint(A), bench.endpoint(B)];
            bench.dataplane.set_network(&network, &endpoints).unwrap();
            all_pass(&mut bench, "a network set, the host's addresses not yet told");
            bench.tell_all();
            all_pass(&mut bench, "all told");
            bench.dataplane.retain(&[1, 2].into(), &[A, B, C].into(), &[].into()).unwrap();
            bench.dataplane.collect_garbage().unwrap();
            all_pass(&mut bench, "the rest forgotten");
        });
    });
}

#[test]
fn garbage_is_collected_and_nothing_else() {
    on_bench(|bench| {
        for family in FAMILIES {
            let reply = open(bench, family);
            let report = bench.dataplane.collect_garbage().unwrap();
            assert_eq!((report.flows, report.deleted), (1, 0), "{family:?}: a live flow stays");
            assert_eq!(bench.arrives(&reply).verdict, REDIRECT);
            bench.dataplane.remove_endpoint(A).unwrap();
            let report = bench.dataplane.collect_garbage().unwrap();
            assert_eq!((report.flows, report.deleted), (1, 1), "{family:?}: its endpoint has gone");
            assert_eq!(bench.dataplane.collect_garbage().unwrap(), GcReport::default());
            let config = bench.endpoint(A);
            bench.dataplane.set_endpoint(&config).unwrap();
        }
    });
}

#[test]
fn a_table_is_gone_through_once_in_pieces() {
    on_bench(|bench| {
        let count = 10_000_u32;
        let mut flows = HashMap::<_, FlowKey<V4>, Flow<V4>>::try_from(bench.map("FLOWS4")).unwrap();
        open(bench, Family::V4);
        let (key, flow) = flows.iter().next().unwrap().unwrap();
        let nth = |number: u32| {
            let mut key = key;
            key.tuple.source = V4(number.to_be());
            key
        };
        flows.remove(&key).unwrap();
        for number in 0..count {
            flows.insert(nth(number), flow, 0).unwrap();
        }
        let mut seen = vec![0; count as usize];
        let raw = sys::open_pin(&bench.dataplane.root.join("maps/FLOWS4")).unwrap();
        sys::for_each_entry(raw.as_fd(), |key: FlowKey<V4>, value: Flow<V4>| {
            let number = u32::from_be(key.tuple.source.0);
            // The other half of the one that was opened is there, too.
            if number < count {
                assert_eq!(value.created, flow.created);
                seen[number as usize] += 1;
            }
        })
        .unwrap();
        assert!(seen.iter().all(|times| *times == 1));
    });
}

#[test]
fn half_a_pair_is_collected_even_while_it_is_used() {
    on_bench(|bench| {
        let reply = open(bench, Family::V4);
        // So that the pair is complete in the eyes of the last look.
        assert_eq!(bench.dataplane.collect_garbage().unwrap().flows, 1);
        let mut flows = HashMap::<_, FlowKey<V4>, Flow<V4>>::try_from(bench.map("FLOWS4")).unwrap();
        let halves: Vec<_> = flows.iter().map(Result::unwrap).collect();
        for (key, mut flow) in halves {
            if flow.is_original() {
                flows.remove(&key).unwrap();
            } else {
                flow.created = 0;
                flows.insert(key, flow, 0).unwrap();
            }
        }
        bench.arrives(&reply);
        // The first look counts, the second one asks.
        bench.dataplane.collect_garbage().unwrap();
        bench.dataplane.collect_garbage().unwrap();
        assert_eq!(flows.keys().count(), 0);
    });
}

#[test]
fn a_closed_connection_is_taken_up_by_a_new_syn() {
    on_bench(|bench| {
        for family in FAMILIES {
            let out = |bench: &mut Bench, flags| {
                let packet = Packet::new(A, family.a(), family.outside(), Payload::Tcp(20_000, 443, flags));
                bench.sends(A, &packet.frame())
            };
            let seen = read(&out(bench, SYN).frame);
            for reply in [SYN | ACK, FIN | ACK] {
                let frame = answer(&seen, Payload::Tcp(443, 0, reply)).frame();
                assert_eq!(bench.arrives(&frame).verdict, REDIRECT);
            }
            assert_eq!(out(bench, FIN | ACK).verdict, REDIRECT);
            assert_eq!(read(&out(bench, SYN).frame).payload, seen.payload, "the port is kept");
            assert_eq!(bench.dataplane.collect_garbage().unwrap().flows, 1, "{family:?}");
            bench.dataplane.remove_endpoint(A).unwrap();
            bench.dataplane.collect_garbage().unwrap();
            let config = bench.endpoint(A);
            bench.dataplane.set_endpoint(&config).unwrap();
        }
    });
}

#[test]
fn udp_without_a_checksum_stays_without() {
    on_bench(|bench| {
        let mut frame = Packet::new(A, Family::V4.a(), Family::V4.outside(), Payload::Udp(20_000, 53)).frame();
        frame[14 + 20 + 6..14 + 20 + 8].copy_from_slice(&[0, 0]);
        let run = bench.sends(A, &frame);
        assert_eq!(run.verdict, REDIRECT);
        assert_eq!(&run.frame[14 + 20 + 6..14 + 20 + 8], &[0, 0]);
        assert_eq!(read(&run.frame).source, Family::V4.host());
    });
}

#[test]
fn without_an_uplink_nothing_goes_out() {
    on_bench(|bench| {
        bench.dataplane.set_uplinks(&[]).unwrap();
        for family in FAMILIES {
            let frame = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53)).frame();
            bench.dies(A, &frame, DropReason::NoUplink);
        }
        let uplink = UplinkConfig { ipv4: None, ipv6: None, ..bench.uplink() };
        bench.dataplane.set_uplinks(&[uplink]).unwrap();
        for family in FAMILIES {
            let frame = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53)).frame();
            bench.dies(A, &frame, DropReason::NoUplinkAddress);
        }
    });
}

#[test]
fn row_15_without_masquerade_the_containers_own_address_leaves() {
    on_bench(|bench| {
        let none = GatewayConfig::default();
        let network = NetworkConfig { v4: none, v6: none, ..bench.network(1) };
        let endpoints = [bench.endpoint(A), bench.endpoint(B)];
        bench.dataplane.set_network(&network, &endpoints).unwrap();
        for family in FAMILIES {
            let sent = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53));
            let out = bench.sends(A, &sent.frame());
            let seen = read(&out.frame);
            assert_eq!((out.verdict, seen.source), (REDIRECT, family.a()));
            let back = bench.arrives(&answer(&seen, Payload::Udp(53, 0)).frame());
            assert_eq!((back.verdict, read(&back.frame).destination), (REDIRECT, family.a() as IpAddr));
        }
    });
}

/// An ICMP error is told to who sent the packet that it is about; in a network by who got it, outside by any router.
#[test]
fn errors_about_other_people_s_packets_die() {
    on_bench(|bench| {
        for family in FAMILIES {
            let sent = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53));
            assert_eq!(bench.sends(A, &sent.frame()).verdict, REDIRECT);
            let out = Packet::outside(family.host(), family.outside(), sent.payload).frame();
            let back = Packet::outside(family.outside(), family.a(), Payload::Udp(53, 20_000)).frame();
            // From outside: by a router, and by one that tells it to somebody else.
            let router = if family == Family::V4 { "203.0.113.1" } else { "2001:db8:9::1" }.parse().unwrap();
            let at_a = bench.arrives(&timers::unreachable(router, family.host(), &out));
            assert_eq!(at_a.verdict, REDIRECT, "the control");
            let stray = bench.arrives(&timers::unreachable(router, family.outside(), &out));
            assert_eq!(stray.verdict, NEXT, "nothing of ours");
            // By A about what it got, and by B.
            let mut complains = |slot, from| {
                let mut error = timers::unreachable(from, family.outside(), &back);
                error[..6].copy_from_slice(&bridge_mac(1));
                error[6..12].copy_from_slice(&mac(slot));
                let [at, bridge, uplink] = [bench.veths[slot as usize], bench.bridges[1], bench.uplink];
                let first = bench.at("from_container", &error, at, at).verdict;
                (first, bench.at("to_uplink", &error, uplink, bridge).verdict)
            };
            assert_eq!(complains(A, family.a()), (REDIRECT, NEXT), "the control");
            assert_eq!(complains(B, family.b()), (SHOT, SHOT));
        }
    });
}

/// The kernel does not look at the source of IPv6 packets, and a container would answer the host.
#[test]
fn nobody_outside_has_the_host_s_address() {
    on_bench(|bench| {
        for family in FAMILIES {
            bench.dataplane.publish(&[Bench::port(family, 8080, 80)]).unwrap();
            let from = |source| Packet::outside(source, family.host(), Payload::Tcp(5000, 8080, SYN)).frame();
            assert_eq!(bench.arrives(&from(family.outside())).verdict, REDIRECT, "the control");
            assert_eq!(bench.arrives(&from(family.host())).verdict, SHOT);
            assert_eq!(bench.drops(0, DropReason::SpoofedOutside), if family == Family::V4 { 1 } else { 2 });
            // To the host itself it is the stack's to judge.
            let to_host = Packet::outside(family.host(), family.host(), Payload::Tcp(5000, 22, SYN)).frame();
            assert_eq!(bench.arrives(&to_host).verdict, NEXT);
        }
    });
}
