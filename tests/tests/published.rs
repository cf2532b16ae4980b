//! SEMANTICS §1: published ports, as containers and machines outside reach them. How the host itself does is in `host.rs`.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use spandrel_tests::*;

/// Row 4: a container reaches a port that a container of another network publishes, by every address of the host, over TCP and
/// UDP, and is seen under its own address. It still does not reach that container itself.
#[test]
fn another_network_reaches_published_ports() {
    let site = Site::with_networks(["red", "blue"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    let client = site.host.run_container("--name client --network blue");
    for family in Family::BOTH {
        let services = web.serve(family.any());
        for address in [site.public(family), site.host.gateway("red", family), site.host.gateway("blue", family)] {
            services.assert_reached_at(&client, address, PUBLISHED, client.ip(family));
            let mut link = client.tcp_connect(address, PUBLISHED.0).unwrap();
            assert_eq!(link.seen_as, link.local().unwrap(), "not even the port is another one");
            link.echo("hello").unwrap();
            let refused = client.tcp_connect(address, TCP_PORT).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{address}: only the published port is open");
        }
        services.assert_out_of_reach(&client, web.ip(family));
    }
}

/// Row 4: many questions from one socket are answered to that socket, by the address that was asked.
#[test]
fn another_network_may_ask_again() {
    let site = Site::with_networks(["red", "blue"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    let client = site.host.run_container("--name client --network blue");
    for family in Family::BOTH {
        let _services = web.serve(family.any());
        for address in [site.public(family), site.host.gateway("blue", family)] {
            let socket = client.udp_bind(client.ip(family), 0).unwrap();
            for text in ["first", "second"] {
                let seen = ask(&socket, (address, PUBLISHED.1).into(), text).expect("an answer");
                assert_eq!(seen, socket.local_addr().unwrap());
            }
        }
    }
}

/// Row 5: a container reaches a port that its neighbour publishes by the host's addresses (hairpin), over TCP and UDP, and is seen
/// under its own address. Directly it reaches the neighbour as well.
#[test]
fn a_neighbour_reaches_published_ports() {
    let site = Site::with_networks(["red", "blue"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    let client = site.host.run_container("--name client --network red");
    for family in Family::BOTH {
        let services = web.serve(family.any());
        for address in [site.public(family), site.host.gateway("red", family), site.host.gateway("blue", family)] {
            services.assert_reached_at(&client, address, PUBLISHED, client.ip(family));
        }
        services.assert_reached(&client, web.ip(family), client.ip(family));
    }
}

/// Row 5: a container reaches the port that it publishes itself, over TCP and UDP. It sees its gateway's address: from its own it
/// would answer to itself.
#[test]
fn a_container_reaches_its_own_published_ports() {
    let site = Site::with_networks(["red", "blue"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    for family in Family::BOTH {
        let services = web.serve(family.any());
        for address in [site.public(family), site.host.gateway("red", family), site.host.gateway("blue", family)] {
            services.assert_reached_at(&web, address, PUBLISHED, site.host.gateway("red", family));
        }
    }
}

/// Row 9: a published port is reached from outside, over TCP and UDP, and the container sees the client's own address and port.
#[test]
fn published_ports_keep_the_clients_address() {
    let site = Site::with_networks(["red"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    for family in Family::BOTH {
        let services = web.serve(family.any());
        // Each of the client's own addresses, next door or far away.
        services.assert_reached_at(&site.internet, site.public(family), PUBLISHED, site.uplink.outside(family));
        let mut link = site.internet.tcp_connect(site.public(family), PUBLISHED.0).expect("TCP");
        assert_eq!(link.seen_as, link.local().unwrap());
        link.echo("hello").unwrap();

        let published = SocketAddr::new(site.public(family), PUBLISHED.1);
        for client in [site.uplink.outside(family), Site::far(family)] {
            let socket = site.internet.udp_bind(client, 0).unwrap();
            for text in ["first", "second"] {
                assert_eq!(ask(&socket, published, text).expect("UDP"), socket.local_addr().unwrap());
            }
        }
        // What is not published is not open: the host itself answers.
        let refused = site.internet.tcp_connect(site.public(family), TCP_PORT).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

/// Row 9: a port published on one host address is not open on others.
#[test]
fn a_port_published_on_one_address_is_open_there_only() {
    let site = Site::with_networks(["red"]);
    let local = "-p 127.0.0.1:8080:80 -p [::1]:8080:80";
    let web = site.host.run_container(&format!("--name web --network red {local}"));
    for family in Family::BOTH {
        let _services = web.serve(family.any());
        site.host.tcp_connect(family.loopback(), 8080).expect("it is open on loopback");
        let refused = site.internet.tcp_connect(site.public(family), 8080).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

/// Row 12: a port published on loopback is closed to a neighbour that routes 127.0.0.0/8 or `::1` to the host. The same frame to an
/// address of the uplink arrives.
#[test]
fn a_neighbour_does_not_reach_loopback() {
    let site = Site::with_networks(["red"]);
    // Every form of it: on one loopback address, on all addresses.
    let publish = "-p 127.0.0.1:5300:53/udp -p [::1]:5300:53/udp -p 5353:53/udp -p 127.0.0.1:8000:80 -p [::1]:8000:80";
    let web = site.host.run_container(&format!("--name web --network red {publish}"));
    let frames = site.internet.briefly().frames(&site.uplink.outside_name);
    let mac = site.internet.link(&site.uplink.outside_name).mac;
    let host_mac = site.host.link(&site.uplink.name).mac;
    for family in Family::BOTH {
        let services = web.serve(family.any());
        let from = (mac, SocketAddr::new(site.uplink.outside(family), 4000));
        let to = |address: IpAddr, port| (host_mac, SocketAddr::new(address, port));
        let control = format!("{family:?} control");
        frames.send_udp(from, to(site.public(family), 5353), &control);
        assert_eq!(services.sender_of(&control), Some(site.uplink.outside(family)), "the control");
        site.host.udp_ask(family.loopback(), 5300, "hello").expect("the control");
        site.host.tcp_connect(family.loopback(), 8000).expect("the control");

        let loopback: &[IpAddr] = match family {
            V4 => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(127, 1, 2, 3))],
            V6 => &[IpAddr::V6(Ipv6Addr::LOCALHOST)],
        };
        for address in loopback {
            for port in [5300, 5353] {
                frames.send_udp(from, to(*address, port), &format!("{family:?} loopback"));
            }
            frames.send_syn(from, to(*address, 8000));
        }
        at_once([&|| services.assert_never_got(&format!("{family:?} loopback")), &|| {
            let answer = frames.next(|frame| ip_addresses(frame).is_some_and(|(source, _)| loopback.contains(&source)));
            assert_eq!(answer, None, "loopback has answered");
        }]);
    }
}

/// Row 13: a port published on one of the host's addresses is reached over another uplink as well, over TCP and UDP, under the
/// client's own address.
#[test]
fn published_ports_are_reached_over_any_uplink() {
    let lab = Lab::new();
    let host = lab.host("host");
    let (first, second) = (lab.machine("first"), lab.machine("second"));
    let cables = [lab.uplink(&host, &first), lab.uplink(&host, &second)];
    let _agent = host.agent();
    host.create_network("--ipv6 red");
    let (v4, v6) = (cables[0].host(V4), cables[0].host(V6));
    let publish = [format!("{v4}:"), format!("[{v6}]:")].map(|on| format!("-p {on}8080:80 -p {on}5353:53/udp"));
    let web = host.run_container(&format!("--name web --network red {}", publish.join(" ")));
    for family in Family::BOTH {
        let services = web.serve(family.any());
        let published = cables[0].host(family);
        second.add_route(published, if family == V4 { 32 } else { 128 }, cables[1].host(family));
        for (cable, client) in cables.iter().zip([&first, &second]) {
            services.assert_reached_at(client, published, PUBLISHED, cable.outside(family));
        }
        // The second uplink's own address publishes nothing.
        let refused = second.tcp_connect(cables[1].host(family), PUBLISHED.0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

/// Rows 4, 5 and 9: one socket may ask by several of the host's addresses, as clients of a name server with two addresses do. Each
/// question is answered by the address that was asked, and the client is seen under its own address.
#[test]
fn one_socket_may_ask_by_several_addresses() {
    let site = Site::with_networks(["red", "blue"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    let neighbour = site.host.run_container("--name neighbour --network red");
    let other = site.host.run_container("--name other --network blue");
    for family in Family::BOTH {
        let _services = web.serve(family.any());
        let addresses = [site.public(family), site.host.gateway("red", family), site.host.gateway("blue", family)];
        for (client, own, count) in [
            (&*other, other.ip(family), 3),
            (&neighbour, neighbour.ip(family), 3),
            (&site.internet, Site::far(family), 1),
        ] {
            let socket = client.udp_bind(own, 0).unwrap();
            for address in addresses.iter().take(count).cycle().take(2 * count) {
                let seen = ask(&socket, (*address, PUBLISHED.1).into(), "hello");
                let seen = seen.unwrap_or_else(|error| panic!("{} by {address}: {error}", client.name()));
                assert_eq!(seen.ip(), own);
            }
        }
    }
}

/// Row 9: so may one outside.
#[test]
fn one_socket_outside_may_ask_by_several_addresses() {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let cable = lab.uplink(&host, &internet);
    let _agent = host.agent();
    host.create_network("--ipv6 red");
    let web = host.run_container(&format!("--name web --network red {PUBLISH}"));
    for (family, second, prefix) in [(V4, "198.18.1.3", 24), (V6, "2001:db8:1::3", 64)] {
        let second: IpAddr = second.parse().unwrap();
        host.add_address(&cable.name, second, prefix);
        let _services = web.serve(family.any());
        within(PATIENCE, || internet.briefly().udp_ask(second, PUBLISHED.1, "is it known?").ok()).expect("it is");
        let socket = internet.udp_bind(cable.outside(family), 0).unwrap();
        for address in [cable.host(family), second, cable.host(family), second] {
            let seen = ask(&socket, (address, PUBLISHED.1).into(), "hello");
            assert_eq!(seen.unwrap_or_else(|error| panic!("by {address}: {error}")).ip(), cable.outside(family));
        }
    }
}

/// Row 10: a port of a container that has no IPv6 is reached by IPv6 as well, over TCP and UDP: from outside and from a container of
/// another network. The container sees somebody on its own network.
#[test]
fn a_container_without_ipv6_is_reached_by_ipv6() {
    let site = Site::with_networks(["blue"]);
    site.host.create_network("old");
    let web = site.host.run_container(&format!("--name web --network old {PUBLISH}"));
    let client = site.host.run_container("--name client --network blue");
    let services = web.serve(V4.any());
    let gateway = site.host.gateway("old", V4);
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    for from in [&*site.internet, &client] {
        services.assert_reached_at(from, site.public(V6), PUBLISHED, gateway);
        let refused = from.tcp_connect(site.public(V6), TCP_PORT).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "only the published port is open");
    }
    // Many clients behind one address and one port of their own are told apart.
    let links = [&*site.internet, &client].map(|from| from.tcp_connect_from(20_000, site.public(V6), PUBLISHED.0));
    let [outside, inside] = links.map(|link| link.expect("a connection"));
    assert_ne!(outside.seen_as, inside.seen_as);
    // The container has gone, and with it all that led there.
    web.remove();
    let refused = site.internet.tcp_connect(site.public(V6), PUBLISHED.0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// Row 10, from the host itself: by its own address and by `::1`. A datagram needs a connected socket.
#[test]
fn the_host_reaches_a_container_without_ipv6_by_ipv6() {
    let site = Site::new();
    site.host.create_network("old");
    let web = site.host.run_container(&format!("--name web --network old {PUBLISH}"));
    let _services = web.serve(V4.any());
    for address in [site.public(V6), V6.loopback()] {
        let mut link = site.host.tcp_connect(address, PUBLISHED.0).unwrap_or_else(|error| panic!("{address}: {error}"));
        assert_eq!(link.seen_as.ip(), site.host.gateway("old", V4));
        link.echo("hello").unwrap();
        let asked = SocketAddr::new(address, PUBLISHED.1);
        let socket = site.host.udp_bind(V6.any(), 0).unwrap();
        let refused = socket.send_to(b"not connected", asked).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NetworkUnreachable, "{address}: it is told at once");
        site.host.run(|| socket.connect(asked)).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), asked);
        socket.send(b"connected").unwrap();
        let (_, from) = socket.recv_from(&mut [0; 128]).expect("an answer");
        assert_eq!(from, asked);
    }
}

/// Row 10: large transfers both ways, in batches of segments (GSO), fit through the uplink, also if it is smaller than the client's.
#[test]
fn transfers_cross_between_the_families() {
    for mtu in [1500, 1300] {
        let way = Way::new();
        way.narrow(0, mtu);
        way.host.create_network("old");
        let web = way.host.run_container("--name web --network old -p 9000:80");
        let transfer = Transfer::start(&way.server, (way.cables[0].host(V6), 9000), &web, 80);
        transfer.assert_moves();
        assert!(transfer.finish().iter().all(|bytes| *bytes > 0), "MTU {mtu}");
    }
}
