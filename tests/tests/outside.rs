//! SEMANTICS §1: containers and the outside: the way out, and why there is no way in but a published port.

use std::io::ErrorKind;
use std::net::SocketAddr;

use spandrel_tests::*;

/// A site whose network `red` has these subnets, so that routes to them can be set up beforehand.
fn site_with_known_subnets() -> Site {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.9.0.0/24 --subnet fd00:9::/64 red");
    for (subnet, prefix, family) in [("10.9.0.0", 24, V4), ("fd00:9::", 64, V6)] {
        site.internet.add_route(subnet.parse().unwrap(), prefix, site.public(family));
    }
    site
}

/// Row 11: a machine outside that routes the containers' subnet to the host gets nowhere, whatever is published, by any protocol.
#[test]
fn containers_cannot_be_reached_by_a_route() {
    let site = site_with_known_subnets();
    let publishing = site.host.run_container("--name publishing --network red -p 8080:80 -p 5353:53/udp");
    let quiet = site.host.run_container("--name quiet --network red");
    for family in Family::BOTH {
        // The control: the route is good, for the gateway's address is one of the host's own.
        site.internet.ping(site.host.gateway("red", family)).expect("the control");
        let services = [&publishing, &quiet].map(|container| container.serve(family.any()));
        for (services, container) in services.iter().zip([&publishing, &quiet]) {
            services.assert_reached(&site.host, container.ip(family), site.host.gateway("red", family));
        }
        let other = |protocol| {
            let there = quiet.briefly().raw(family, protocol);
            site.internet.raw(family, protocol).send(quiet.ip(family), b"from outside");
            assert!(!there.gets(b"from outside"), "{family:?}: protocol {protocol} has come in");
        };
        at_once([
            &|| services[0].assert_out_of_reach(&site.internet, publishing.ip(family)),
            &|| services[1].assert_out_of_reach(&site.internet, quiet.ip(family)),
            &|| other(SCTP),
            &|| other(EXPERIMENT),
        ]);
    }
}

/// Row 11: nor is there a way in through an interface that is no uplink of ours, where none of our programs looks first.
#[test]
fn containers_cannot_be_reached_through_an_interface_that_is_not_watched() {
    let lab = Lab::new();
    let host = lab.host("host");
    let (internet, neighbour) = (lab.machine("internet"), lab.machine("neighbour"));
    let cables = [lab.uplink(&host, &internet), lab.uplink(&host, &neighbour)];
    let _agent = host.agent_with(&format!("--uplink {}", cables[0].name));
    host.create_network("--ipv6 --subnet 10.9.0.0/24 --subnet fd00:9::/64 red");
    let web = host.run_container("--name web --network red -p 8080:80");
    for (subnet, prefix, family) in [("10.9.0.0", 24, V4), ("fd00:9::", 64, V6)] {
        neighbour.add_route(subnet.parse().unwrap(), prefix, cables[1].host(family));
        neighbour.ping(host.gateway("red", family)).expect("the control");
        let services = web.serve(family.any());
        services.assert_reached(&host, web.ip(family), host.gateway("red", family));
        services.assert_out_of_reach(&neighbour, web.ip(family));
    }
    assert!(host.dropped_anywhere(|reason| reason == "DirectAccess") > 0, "the drops are counted");
}

/// Row 14: containers reach the outside by TCP, UDP and ICMP echo, and are seen as the host's address there.
#[test]
fn the_way_out_is_masqueraded() {
    let site = Site::with_networks(["red"]);
    let boxes = ["one", "two"].map(|name| site.host.run_container(&format!("--name {name} --network red")));
    for family in Family::BOTH {
        let far = Site::far(family);
        let services = site.internet.serve(far);
        for container in &boxes {
            services.assert_reached(container, far, site.public(family));
        }
        // Two containers that use one port to one destination are kept apart.
        let sockets = boxes.each_ref().map(|container| container.udp_bind(family.any(), 40_000).unwrap());
        let seen = sockets.each_ref().map(|socket| ask(socket, (far, UDP_PORT).into(), "same port").expect("UDP"));
        assert_ne!(seen[0], seen[1]);
    }
}

/// Row 14: one socket is seen as one address and port by everybody that it talks to, while nothing clashes.
#[test]
fn a_socket_is_seen_as_one_address() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let servers = [Site::far(family), site.uplink.outside(family)];
        let _services = servers.map(|server| site.internet.serve(server));
        let socket = container.udp_bind(family.any(), 0).unwrap();
        let seen = servers.map(|server| ask(&socket, (server, UDP_PORT).into(), "who am I?").expect("an answer"));
        assert_eq!(seen[0], seen[1]);
    }
}

/// Row 14: the host's own traffic to the same place, from the same port, is not disturbed.
#[test]
fn the_hosts_own_traffic_is_left_alone() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let far = Site::far(family);
        let _udp = site.internet.udp_listen(far, UDP_PORT);
        let own = site.host.udp_bind(family.any(), 40_000).unwrap();
        let theirs = container.udp_bind(family.any(), 40_000).unwrap();
        for text in ["one", "two"] {
            let expected = SocketAddr::new(site.public(family), 40_000);
            assert_eq!(ask(&own, (far, UDP_PORT).into(), text).expect("the host's own"), expected);
            let seen = ask(&theirs, (far, UDP_PORT).into(), text).expect("the container's");
            assert!(seen.ip() == site.public(family) && seen.port() != 40_000, "{seen}");
        }
    }
}

/// Row 14: what comes from outside to a port that a container's traffic was translated to, but from elsewhere than where that
/// went, does not get in.
#[test]
fn only_the_one_who_was_asked_may_answer() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let _udp = site.internet.udp_listen(Site::far(family), UDP_PORT);
        let socket = container.briefly().udp_bind(family.any(), 0).unwrap();
        let seen = ask(&socket, (Site::far(family), UDP_PORT).into(), "who am I?").expect("the control");
        let stranger = site.internet.udp_bind(site.uplink.outside(family), UDP_PORT).unwrap();
        stranger.send_to(b"unasked", seen).unwrap();
        assert_silent(socket.recv_from(&mut [0; 64]));
    }
}

/// Row 14: an address that nobody routes is refused by the host itself, as by any router.
#[test]
fn what_has_no_route_is_refused_at_once() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        container.ping(Site::far(family)).expect("the control");
        site.host.remove_default_route(site.uplink.outside(family));
        let refused = container.tcp_connect(Site::far(family), TCP_PORT).unwrap_err();
        let unreachable = [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable];
        assert!(unreachable.contains(&refused.kind()), "{family:?}: {refused}");
        site.host.add_default_route(site.uplink.outside(family));
        container.ping(Site::far(family)).expect("the route is back");
    }
}
