//! Gateway modes: who reaches a container at its own address, and how it leaves.

use super::{packets::*, *};

/// The gateway configuration that masquerade needs.
const NAT: GatewayConfig = GatewayConfig { masquerade: true, source: None, open: false, routed: false };
const OPEN: GatewayConfig = GatewayConfig { open: true, ..NAT };
const ROUTED: GatewayConfig = GatewayConfig { masquerade: false, routed: true, ..NAT };

/// What may be asked of a container, and its answer: on a published port, on another one, by echo.
const EXCHANGES: [(Payload, Payload); 4] = [
    (Payload::Tcp(5000, 80, SYN), Payload::Tcp(80, 5000, SYN | ACK)),
    (Payload::Tcp(5000, 81, SYN), Payload::Tcp(81, 5000, SYN | ACK)),
    (Payload::Udp(5000, 53), Payload::Udp(53, 5000)),
    (Payload::Echo(7, true), Payload::Echo(7, false)),
];

impl Bench {
    /// Gives network 1 a gateway mode for one family; the other one's stays `nat`.
    fn set_mode(&mut self, family: Family, mode: GatewayConfig) {
        let (v4, v6) = if family == Family::V4 { (mode, NAT) } else { (NAT, mode) };
        let network = NetworkConfig { v4, v6, ..self.network(1) };
        let endpoints = [self.endpoint(A), self.endpoint(B)];
        self.dataplane.set_network(&network, &endpoints).unwrap();
    }

    /// Back to what every test begins with; A's flows end.
    fn reset(&mut self) {
        self.dataplane.remove_endpoint(A).unwrap();
        self.tell_all();
    }

    /// Publishes A's port 80 at A's own address, as a routed network does.
    fn publish_direct(&mut self, family: Family) {
        let mut port = Self::port(family, 80, 80);
        port.entries[0].host = family.a();
        self.dataplane.publish(&[port]).unwrap();
    }

    /// Asserts that outside and a container of network 2 reach A, and that the answers go back, all by routing alone.
    fn reached(&mut self, family: Family, (request, reply): (Payload, Payload)) {
        let got = |run: &ProgramRun| {
            assert_eq!(run.verdict, REDIRECT, "{family:?} {request:?}");
            read(&run.frame)
        };
        let sent = Packet::outside(family.outside(), family.a(), request);
        let seen = got(&self.arrives(&sent.frame()));
        assert_eq!((seen.source, seen.destination, seen.ttl), (family.outside(), family.a(), 59));
        assert_eq!((seen.payload, seen.macs), (request, (bridge_mac(1), mac(A))));
        let back = got(&self.sends(A, &Packet::new(A, family.a(), family.outside(), reply).frame()));
        assert_eq!((back.source, back.destination, back.payload, back.ttl), (family.a(), family.outside(), reply, 63));

        let sent = Packet::new(C, family.c(), family.a(), request);
        let seen = got(&self.sends(C, &sent.frame()));
        assert_eq!((seen.source, seen.destination, seen.ttl), (family.c(), family.a(), 63));
        assert_eq!((seen.payload, seen.macs), (request, (bridge_mac(1), mac(A))));
        let back = got(&self.sends(A, &Packet::new(A, family.a(), family.c(), reply).frame()));
        assert_eq!((back.source, back.destination, back.payload, back.ttl), (family.a(), family.c(), reply, 63));
        assert_eq!(back.macs, (bridge_mac(2), mac(C)));
    }

    /// Asserts that neither outside nor a container of network 2 reaches A.
    fn not_reached(&mut self, family: Family, request: Payload) {
        let before = self.drops(0, DropReason::DirectAccess);
        let sent = Packet::outside(family.outside(), family.a(), request);
        assert_eq!(self.arrives(&sent.frame()).verdict, SHOT, "{family:?} {request:?}");
        assert_eq!(self.drops(0, DropReason::DirectAccess), before + 1);
        self.dies(C, &Packet::new(C, family.c(), family.a(), request).frame(), DropReason::OtherNetwork);
    }
}

/// Without ports nothing but the addresses tells flows apart: who was first keeps them.
#[test]
fn a_protocol_without_ports_is_not_masqueraded_and_open_at_once() {
    on_bench(|bench| {
        for family in FAMILIES {
            bench.set_mode(family, OPEN);
            let direct = Packet::outside(family.outside(), family.a(), Payload::Other(ESP)).frame();
            let own = Packet::new(A, family.a(), family.outside(), Payload::Other(ESP)).frame();
            assert_eq!(bench.arrives(&direct).verdict, REDIRECT);
            assert_eq!(read(&bench.sends(A, &own).frame).source, family.a(), "the answer to what came first");
            bench.reset();
            bench.set_mode(family, OPEN);
            assert_eq!(read(&bench.sends(A, &own).frame).source, family.host(), "its own flow comes first");
            let before = bench.drops(A, DropReason::NoPort);
            assert_eq!(bench.arrives(&direct).verdict, SHOT);
            assert_eq!(bench.drops(A, DropReason::NoPort), before + 1, "{family:?}");
            bench.reset();
        }
    });
}

#[test]
fn nat_unprotected_opens_every_port_of_its_family() {
    on_bench(|bench| {
        for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
            bench.set_mode(family, OPEN);
            for exchange in EXCHANGES {
                bench.reached(family, exchange);
                bench.not_reached(other, exchange.0);
            }
            // Whatever else may come needs a flow that somebody opened.
            let stray = Packet::outside(family.outside(), family.a(), Payload::Tcp(5001, 80, ACK));
            assert_eq!(bench.arrives(&stray.frame()).verdict, SHOT);
            let nobody = Packet::outside(family.outside(), family.b(), Payload::Udp(1, 2));
            assert_eq!(bench.arrives(&nobody.frame()).verdict, REDIRECT, "the control");
            bench.dataplane.remove_endpoint(B).unwrap();
            let nobody = Packet::outside(family.outside(), family.b(), Payload::Udp(3, 4));
            assert_eq!(bench.arrives(&nobody.frame()).verdict, SHOT);
            bench.reset();
            for (request, _) in EXCHANGES {
                bench.not_reached(family, request);
            }
        }
    });
}

#[test]
fn nat_unprotected_masquerades_on_the_way_out() {
    on_bench(|bench| {
        for family in FAMILIES {
            bench.set_mode(family, OPEN);
            let out = bench.sends(A, &Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53)).frame());
            assert_eq!((out.verdict, read(&out.frame).source), (REDIRECT, family.host()));
        }
    });
}

#[test]
fn routed_opens_published_ports_and_echo() {
    on_bench(|bench| {
        for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
            bench.set_mode(family, ROUTED);
            bench.publish_direct(family);
            let [published, closed, udp, echo] = EXCHANGES;
            bench.reached(family, published);
            bench.reached(family, echo);
            for (request, _) in [closed, udp] {
                bench.not_reached(family, request);
            }
            for (request, _) in EXCHANGES {
                bench.not_reached(other, request);
            }
            bench.reset();
        }
    });
}

#[test]
fn routed_leaves_with_the_containers_own_address() {
    on_bench(|bench| {
        for family in FAMILIES {
            bench.set_mode(family, ROUTED);
            let out = bench.sends(A, &Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53)).frame());
            assert_eq!((out.verdict, read(&out.frame).source), (REDIRECT, family.a()));
            // It gets nowhere where the other network is closed.
            let closed = Packet::new(A, family.a(), family.c(), Payload::Echo(7, true)).frame();
            bench.dies(A, &closed, DropReason::OtherNetwork);
        }
    });
}

/// A container that gets the address of one that has gone does not answer for it.
#[test]
fn the_end_of_either_end_ends_a_flow() {
    on_bench(|bench| {
        for family in FAMILIES {
            bench.set_mode(family, OPEN);
            let asks = Packet::new(C, family.c(), family.a(), Payload::Udp(5000, 53)).frame();
            let answers = Packet::new(A, family.a(), family.c(), Payload::Udp(53, 5000)).frame();
            for gone in [A, C] {
                assert_eq!(bench.sends(C, &asks).verdict, REDIRECT);
                assert_eq!(bench.sends(A, &answers).verdict, REDIRECT, "the control");
                bench.dataplane.remove_endpoint(gone).unwrap();
                let config = bench.endpoint(gone);
                bench.dataplane.set_endpoint(&config).unwrap();
                bench.dies(A, &answers, DropReason::OtherNetwork);
                assert_eq!(bench.dataplane.collect_garbage().unwrap().flows, 0, "{family:?}: forgotten at once");
            }
            bench.reset();
        }
    });
}

/// The address need not be the host's: it may be one that outside routes here. And no uplink need have one.
#[test]
fn the_way_out_may_have_an_address_of_its_own() {
    on_bench(|bench| {
        let uplink = UplinkConfig { ipv4: None, ipv6: None, ..bench.uplink() };
        bench.dataplane.set_uplinks(&[uplink]).unwrap();
        for (family, source) in [(Family::V4, "198.51.100.99"), (Family::V6, "2001:db8:99::99")] {
            let source = source.parse().unwrap();
            bench.set_mode(family, GatewayConfig { source: Some(source), ..NAT });
            let sent = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53)).frame();
            let out = bench.sends(A, &sent);
            assert_eq!((out.verdict, read(&out.frame).source), (REDIRECT, source));
            // Nor does a change of routes end the flow.
            bench.dataplane.routes_changed().unwrap();
            let out = bench.sends(A, &sent);
            assert_eq!((out.verdict, read(&out.frame).source), (REDIRECT, source));
            let back = bench.arrives(&Packet::outside(family.outside(), source, Payload::Udp(53, 20_000)).frame());
            assert_eq!((back.verdict, read(&back.frame).destination), (REDIRECT, family.a()));
            // What the stack has routed is no different.
            let routed = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_001, 53)).frame();
            let (veth, uplink) = (bench.veths[A as usize], bench.uplink);
            assert_eq!(read(&bench.at("to_uplink", &routed, uplink, veth).frame).source, source);
        }
    });
}

#[test]
fn an_internal_network_is_closed_in_every_mode() {
    on_bench(|bench| {
        for mode in [OPEN, ROUTED] {
            let network = NetworkConfig { internal: true, v4: mode, v6: mode, ..bench.network(1) };
            let endpoints = [bench.endpoint(A), bench.endpoint(B)];
            bench.dataplane.set_network(&network, &endpoints).unwrap();
            for family in FAMILIES {
                for (request, _) in EXCHANGES {
                    bench.not_reached(family, request);
                }
            }
        }
    });
}

#[test]
fn an_isolated_network_and_the_host_do_not_reach_each_other() {
    on_bench(|bench| {
        let gateways = Vec::new();
        let network = NetworkConfig { internal: true, isolated: true, gateways, ..bench.network(1) };
        let endpoints = [bench.endpoint(A), bench.endpoint(B)];
        bench.dataplane.set_network(&network, &endpoints).unwrap();
        let bridge = bench.bridges[1];
        for family in FAMILIES {
            let probe = |to| Packet::new(A, family.a(), to, Payload::Udp(5000, 53)).frame();
            bench.dies(A, &probe(family.host()), DropReason::IsolatedNetwork);
            bench.dies(A, &probe(family.outside()), DropReason::InternalNetwork);
            assert_eq!(bench.sends(A, &probe(family.b())).verdict, REDIRECT, "a neighbour is reached");
            // What the bridge itself hears and says, broadcasts and link-local addresses included.
            for to in [family.gateway(), family.host(), family.group()] {
                let before = bench.drops(0, DropReason::IsolatedNetwork);
                assert_eq!(bench.at("from_bridge", &probe(to), bridge, bridge).verdict, SHOT, "{to}");
                let down = Packet::outside(family.host(), family.a(), Payload::Udp(1, 2)).routed();
                assert_eq!(bench.at("to_bridge", &down.frame(), bridge, 0).verdict, SHOT);
                assert_eq!(bench.drops(0, DropReason::IsolatedNetwork), before + 2);
            }
        }
    });
}

#[test]
fn trusted_interfaces_lead_to_published_ports() {
    on_bench(|bench| {
        let [published, closed, udp, echo] = EXCHANGES;
        for family in FAMILIES {
            for trusted in [vec!["up0".into(), bridge_name(2)], vec!["nowhere0".into()], vec![]] {
                let open = trusted.contains(&bridge_name(2));
                let network = NetworkConfig { trusted, ..bench.network(1) };
                let endpoints = [bench.endpoint(A), bench.endpoint(B)];
                bench.dataplane.set_network(&network, &endpoints).unwrap();
                bench.publish_direct(family);
                if open {
                    bench.reached(family, published);
                } else {
                    bench.not_reached(family, published.0);
                }
                for (request, _) in [closed, udp, echo] {
                    bench.not_reached(family, request);
                }
                bench.reset();
            }
        }
        // Nothing is left of what a network trusted.
        let network = NetworkConfig { trusted: vec!["up0".into()], ..bench.network(1) };
        bench.dataplane.set_network(&network, &[]).unwrap();
        let trusted = |bench: &Bench| bench.dataplane.maps.trusted.keys().filter_map(Result::ok).count();
        assert_eq!(trusted(bench), 1);
        bench.dataplane.remove_network(1).unwrap();
        assert_eq!(trusted(bench), 0);
    });
}
