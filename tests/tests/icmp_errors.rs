//! SEMANTICS §1 row 14, and §7: ICMP errors are translated with the packet inside, in both directions. A socket is told of an error only
//! if that is about a packet that it sent, so each of these shows the translation.

use std::io::ErrorKind;

use spandrel_tests::*;

/// Row 14: a UDP port that is closed outside is reported to the container.
#[test]
fn a_refusal_comes_back() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let error = container.udp_error((Site::far(family), 9), 64, 20).expect("an ICMP error");
        assert!(error.is_port_unreachable() && error.from == Site::far(family), "{error:?}");
        let socket = container.udp_bind(family.any(), 0).unwrap();
        socket.connect((Site::far(family), 9)).unwrap();
        socket.send(b"anybody?").unwrap();
        assert_eq!(socket.recv(&mut [0; 64]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}

/// Row 14: a traceroute from a container shows every router, by UDP and by ICMP.
#[test]
fn a_traceroute_shows_every_router() {
    let way = Way::new();
    way.host.create_network("--ipv6 red");
    let container = way.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let server = way.server_at(family);
        let hops = [way.host.gateway("red", family), way.cables[0].outside(family), server];
        for (ttl, hop) in (1..).zip(hops) {
            assert_eq!(container.hop(server, ttl).expect("an answer"), hop, "ICMP, {ttl} hops");
            let error = container.udp_error((server, 33434), ttl, 20).expect("an ICMP error");
            assert!(error.from == hop, "UDP, {ttl} hops: {error:?}");
            assert!(if ttl < 3 { error.is_time_exceeded() } else { error.is_port_unreachable() }, "{error:?}");
        }
    }
}

/// Row 14: a narrow place on the way is told by the router before it, to datagrams and to connections (path MTU discovery out).
#[test]
fn a_narrow_place_outside_is_found() {
    let way = Way::new();
    way.narrow(1, 1300);
    way.host.create_network("--ipv6 red");
    let container = way.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let server = way.server_at(family);
        let error = container.udp_error((server, 9), 64, 1400).expect("an ICMP error");
        assert!(error.is_too_big() && error.mtu == 1300 && error.from == way.cables[0].outside(family), "{error:?}");
        // The server's own segments would fit; the container's have to be told.
        way.server.set_mtu(&way.cables[1].outside_name, 1500);
        let transfer = Transfer::start(&container, (server, 9000), &way.server, 9000);
        transfer.assert_moves();
        assert!(transfer.finish().iter().all(|bytes| *bytes > 0));
    }
}

/// Rows 9 and 14: a network with a smaller MTU than the way to it: the client outside is told by the address that it talks to (path MTU
/// discovery in).
#[test]
fn a_narrow_network_is_found_from_outside() {
    let way = Way::new();
    way.host.create_network("--ipv6 --opt com.docker.network.driver.mtu=1300 red");
    let container = way.host.run_container("--name box --network red -p 5353:53/udp -p 8080:80");
    for family in Family::BOTH {
        let published = way.cables[0].host(family);
        let services = container.serve(family.any());
        services.assert_reached_at(&way.server, published, (8080, 5353), way.server_at(family));
        let error = way.server.udp_error((published, 5353), 64, 1400).expect("an ICMP error");
        assert!(error.is_too_big() && error.mtu == 1300 && error.from == published, "{error:?}");
        drop(services);
        let transfer = Transfer::start(&way.server, (published, 8080), &container, TCP_PORT);
        transfer.assert_moves();
        assert!(transfer.finish().iter().all(|bytes| *bytes > 0));
    }
}

/// Rows 4, 5, 9 and §7: what a container says of a published port that nobody listens on, it says from the published address, to
/// clients outside, on another network, on its own.
#[test]
fn a_containers_own_refusal_leaves_from_the_published_address() {
    let site = Site::with_networks(["red", "blue"]);
    let _web = site.host.run_container("--name web --network red -p 5353:53/udp");
    let neighbour = site.host.run_container("--name neighbour --network red");
    let other = site.host.run_container("--name other --network blue");
    for family in Family::BOTH {
        let published = site.public(family);
        for client in [&*site.internet, &other, &neighbour] {
            let error = client.udp_error((published, 5353), 64, 20);
            let error = error.unwrap_or_else(|error| panic!("{}: {error}", client.name()));
            assert!(error.is_port_unreachable() && error.from == published, "{}: {error:?}", client.name());
        }
    }
}
/// Rows 4 and 14: so is the client in another network of the same host.
#[test]
fn a_narrow_network_is_found_from_another_network() {
    let site = Site::with_networks(["blue"]);
    site.host.create_network("--ipv6 --opt com.docker.network.driver.mtu=1300 red");
    let container = site.host.run_container("--name box --network red -p 5353:53/udp -p 8080:80");
    let client = site.host.run_container("--name client --network blue");
    for family in Family::BOTH {
        let published = site.public(family);
        let error = client.udp_error((published, 5353), 64, 1400).expect("an ICMP error");
        assert!(error.is_too_big() && error.mtu == 1300, "{error:?}");
        let transfer = Transfer::start(&client, (published, 8080), &container, TCP_PORT);
        transfer.assert_moves();
        assert!(transfer.finish().iter().all(|bytes| *bytes > 0));
    }
}

/// Row 14 and §7: what is too big for the uplink and may be fragmented is.
#[test]
fn what_may_be_fragmented_is() {
    let site = Site::with_networks(["red"]);
    site.host.set_mtu(&site.uplink.name, 1300);
    site.internet.set_mtu(&site.uplink.outside_name, 1300);
    let container = site.host.run_container("--name box --network red");
    let _services = site.internet.serve(Site::far(V4));
    let socket = container.udp_bind(V4.any(), 0).unwrap();
    may_be_fragmented(&socket);
    for number in 0..3 {
        let long = "this may be cut into pieces ".repeat(50 + number);
        assert_eq!(ask(&socket, (Site::far(V4), UDP_PORT).into(), &long).unwrap().ip(), site.public(V4));
    }
}
