//! SEMANTICS §1: containers of one network reach each other, those of different networks do not. Broadcast, multicast and the
//! resolution of addresses are in `neighbors.rs`, false addresses in `spoofing.rs`.

use std::net::IpAddr;

use spandrel_tests::*;

/// Row 1: containers of one network reach each other by ICMP, TCP and UDP, and see each other's own addresses.
#[test]
fn containers_of_one_network_reach_each_other() {
    let site = Site::with_networks(["red"]);
    let a = site.host.run_container("--name a --network red");
    let b = site.host.run_container("--name b --network red");
    for family in Family::BOTH {
        let services = b.serve(family.any());
        services.assert_reached(&a, b.ip(family), a.ip(family));
        let mut link = a.tcp_connect(b.ip(family), TCP_PORT).unwrap();
        assert_eq!(link.seen_as, link.local().unwrap(), "not even the port is another one");
        link.echo("hello").unwrap();
    }
}

/// Row 1: so they do by every other protocol, and in fragments.
#[test]
fn containers_of_one_network_speak_any_protocol() {
    let site = Site::with_networks(["red"]);
    let a = site.host.run_container("--name a --network red");
    let b = site.host.run_container("--name b --network red");
    for family in Family::BOTH {
        for protocol in [SCTP, EXPERIMENT] {
            for payload in [vec![7; 100], vec![8; 4000]] {
                let there = b.raw(family, protocol);
                a.raw(family, protocol).send(b.ip(family), &payload);
                assert!(there.gets(&payload), "{family:?}: {} bytes of protocol {protocol}", payload.len());
            }
        }
        let _server = b.udp_listen(family.any(), UDP_PORT);
        let long = "in fragments ".repeat(100);
        assert_eq!(a.udp_ask(b.ip(family), UDP_PORT, &long).expect("long datagrams").ip(), a.ip(family));
    }
}

/// Row 2: a container of another network is out of reach by every protocol, published port or not: nothing arrives, and
/// nothing comes back, no RST and no ICMP. A neighbour reaches the same ports, so they are open.
#[test]
fn networks_are_isolated() {
    let site = Site::with_networks(["red", "blue"]);
    let intruder = site.host.run_container("--name intruder --network red");
    let publishing = site.host.run_container("--name publishing --network blue -p 8080:80 -p 5353:53/udp");
    let quiet = site.host.run_container("--name quiet --network blue");
    for family in Family::BOTH {
        let services = [&publishing, &quiet].map(|container| container.serve(family.any()));
        services[0].assert_reached(&quiet, publishing.ip(family), quiet.ip(family));
        services[1].assert_reached(&publishing, quiet.ip(family), publishing.ip(family));
        at_once([&|| services[0].assert_out_of_reach(&intruder, publishing.ip(family)), &|| {
            services[1].assert_out_of_reach(&intruder, quiet.ip(family))
        }]);
    }
    let counted = site.host.dropped("intruder", |reason| reason == "OtherNetwork");
    assert!(counted >= 16, "only {counted} packets were counted");
}

/// Row 2: nothing of any other protocol crosses, whole or in fragments.
#[test]
fn no_protocol_crosses_networks() {
    let site = Site::with_networks(["red", "blue"]);
    let intruder = site.host.run_container("--name intruder --network red");
    let victim = site.host.run_container("--name victim --network blue");
    let neighbour = site.host.run_container("--name neighbour --network blue");
    for family in Family::BOTH {
        let to = victim.ip(family);
        let crosses = |protocol, payload: &[u8]| {
            let there = victim.briefly().raw(family, protocol);
            intruder.raw(family, protocol).send(to, payload);
            assert!(!there.gets(payload), "{family:?}: {} bytes of protocol {protocol} have crossed", payload.len());
        };
        let (small, large) = (vec![7; 100], vec![8; 4000]);
        for (protocol, payload) in [(SCTP, &small), (EXPERIMENT, &small), (EXPERIMENT, &large)] {
            let there = victim.raw(family, protocol);
            neighbour.raw(family, protocol).send(to, payload);
            assert!(there.gets(payload), "the control: {} bytes of protocol {protocol}", payload.len());
        }
        let udp = victim.udp_listen(family.any(), UDP_PORT);
        let long = "in fragments ".repeat(100);
        neighbour.udp_ask(to, UDP_PORT, &long).expect("the control");
        at_once([
            &|| crosses(SCTP, &small),
            &|| crosses(EXPERIMENT, &[small.as_slice(), &[1]].concat()),
            &|| crosses(EXPERIMENT, &large),
            &|| {
                let long = format!("crossing {long}");
                intruder.udp_send(to, UDP_PORT, &long).unwrap();
                udp.assert_never_gets(&long);
            },
        ]);
    }
}

/// Row 2 in both directions at once: no reply path opens the other way round.
#[test]
fn isolation_holds_in_both_directions() {
    let site = Site::with_networks(["red", "blue"]);
    let red = site.host.run_container("--name red-box --network red");
    let blue = site.host.run_container("--name blue-box --network blue");
    let friend = site.host.run_container("--name friend --network blue");
    for family in Family::BOTH {
        // Both send from the port that the other sends to, as for hole punching.
        let sockets = [&red, &blue].map(|container| container.briefly().udp_bind(family.any(), 7000).unwrap());
        for _ in 0..2 {
            sockets[0].send_to(b"punch", (blue.ip(family), 7000)).unwrap();
            sockets[1].send_to(b"punch", (red.ip(family), 7000)).unwrap();
        }
        at_once([&|| assert_silent(sockets[0].recv_from(&mut [0; 64])), &|| {
            assert_silent(sockets[1].recv_from(&mut [0; 64]))
        }]);
        friend.udp_send(blue.ip(family), 7000, "the control").unwrap();
        assert_eq!(sockets[1].recv_from(&mut [0; 64]).expect("the control").1.ip(), friend.ip(family));
    }
}

/// Row 16: a container on two networks reaches both, and they reach it, but it forwards nothing between them, even if it
/// tries to.
#[test]
fn a_container_on_two_networks_is_no_router() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 red");
    site.host.create_network("--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64 blue");
    let red = site.host.run_container("--name red-box --network red");
    let blue = site.host.run_container("--name blue-box --network blue");
    let both = site.host.run_container("--name both --network red");
    site.host.spandrel("network connect blue both").ok();
    both.set_sysctl("ipv4/ip_forward", "1");
    both.set_sysctl("ipv6/conf/all/forwarding", "1");
    for family in Family::BOTH {
        let services = [&red, &blue, &both].map(|container| container.serve(family.any()));
        services[0].assert_reached(&both, red.ip(family), both.ip_on("red", family));
        services[1].assert_reached(&both, blue.ip(family), both.ip_on("blue", family));
        services[2].assert_reached(&red, both.ip_on("red", family), red.ip(family));
        services[2].assert_reached(&blue, both.ip_on("blue", family), blue.ip(family));

        let (subnet, prefix): (IpAddr, u8) =
            if family == V4 { ("10.2.0.0".parse().unwrap(), 24) } else { ("fd00:2::".parse().unwrap(), 64) };
        red.add_route(subnet, prefix, both.ip_on("red", family));
        at_once([&|| services[1].assert_out_of_reach(&red, blue.ip(family)), &|| {
            services[2].assert_out_of_reach(&red, both.ip_on("blue", family))
        }]);
    }
}
