//! SEMANTICS §1: who may talk to whom, and which address the receiver sees. Rows that are about one container's lies
//! are in `spoofing.rs`.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use spandrel_tests::*;

/// Row 1: containers of one network reach each other by ICMP, TCP and UDP, and see each other's own addresses.
#[test]
fn containers_of_one_network_reach_each_other() {
    let site = Site::with_networks(["red"]);
    let a = site.host.run_container("--name a --network red");
    let b = site.host.run_container("--name b --network red");
    for family in Family::BOTH {
        a.ping(b.ip(family)).expect("ICMP");
        let server = b.tcp_listen(family.any(), 80);
        let mut link = a.tcp_connect(b.ip(family), server.port()).expect("TCP");
        assert_eq!(link.seen_as, link.local().unwrap());
        assert_eq!(link.seen_as.ip(), a.ip(family));
        link.echo("hello").unwrap();
        let server = b.udp_listen(family.any(), 53);
        assert_eq!(a.udp_ask(b.ip(family), server.port(), "who am I?").expect("UDP").ip(), a.ip(family));
    }
}

/// Row 1: broadcast and multicast reach the containers of the same network, and no other container.
#[test]
fn broadcast_and_multicast_stay_in_the_network() {
    let site = Site::with_networks(["red", "blue"]);
    let a = site.host.run_container("--name a --network red");
    let friend = site.host.run_container("--name friend --network red");
    let stranger = site.host.run_container("--name stranger --network blue");

    let group = Ipv4Addr::new(239, 1, 2, 3);
    let group6 = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x123);
    let sockets = [&friend, &stranger].map(|container| {
        let interface = container.link("eth0").index;
        let v4 = container.briefly().udp_bind(V4.any(), 4000).unwrap();
        v4.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED).unwrap();
        let v6 = container.briefly().udp_bind(V6.any(), 4001).unwrap();
        v6.join_multicast_v6(&group6, interface).unwrap();
        (v4, v6)
    });
    let out = a.link("eth0").index;
    let sender = a.udp_bind(V4.any(), 0).unwrap();
    sender.set_broadcast(true).unwrap();
    let sender6 = a.udp_bind(V6.any(), 0).unwrap();
    sender.send_to(b"broadcast", (Ipv4Addr::BROADCAST, 4000)).unwrap();
    sender.send_to(b"multicast", (group, 4000)).unwrap();
    sender6.send_to(b"all nodes", SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 4001, 0, out)).unwrap();
    sender6.send_to(b"multicast", SocketAddrV6::new(group6, 4001, 0, out)).unwrap();

    let mut buffer = [0; 64];
    let [(friend4, friend6), (stranger4, stranger6)] = &sockets;
    for (socket, texts, family) in
        [(friend4, ["broadcast", "multicast"], V4), (friend6, ["all nodes", "multicast"], V6)]
    {
        for text in texts {
            let (length, from) =
                socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{family:?} {text}: {error}"));
            assert_eq!(&buffer[..length], text.as_bytes());
            // IPv6 sends to its own link with the link-local address.
            assert!(from.ip() == a.ip(family) || from.ip().to_string().starts_with("fe80:"), "{from}");
        }
    }
    for socket in [stranger4, stranger6] {
        assert_silent(socket.recv_from(&mut buffer).map(|(length, from)| (from, buffer[..length].to_vec())));
    }
}

/// Row 2: a container of another network is out of reach by every protocol, published port or not: nothing arrives, and
/// nothing comes back, no RST and no ICMP. A neighbour reaches the same ports, so they are open.
#[test]
fn networks_are_isolated() {
    let site = Site::with_networks(["red", "blue"]);
    let intruder = site.host.run_container("--name intruder --network red");
    let victim = site.host.run_container("--name victim --network blue -p 8080:80");
    let neighbour = site.host.run_container("--name neighbour --network blue");
    for family in Family::BOTH {
        let address = victim.ip(family);
        for port in [80, 81] {
            let _server = victim.tcp_listen(family.any(), port);
            neighbour.tcp_connect(address, port).expect("the control");
            assert_silent(intruder.briefly().tcp_connect(address, port));
        }
        let udp = victim.udp_listen(family.any(), 53);
        neighbour.udp_ask(address, udp.port(), "control").expect("the control");
        intruder.udp_send(address, udp.port(), "one way").unwrap();
        udp.assert_never_gets("one way");
        // A closed port would answer a neighbour with a refusal; to others it is as silent as an open one.
        assert_eq!(neighbour.tcp_connect(address, 82).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_silent(intruder.briefly().tcp_connect(address, 82));
        neighbour.ping(address).expect("the control");
        assert_silent(intruder.briefly().ping(address));
    }
    assert!(site.host.dropped("intruder", |reason| reason == "OtherNetwork") > 0, "the drops are counted");
}

/// Row 2 in both directions at once: no reply path opens the other way round.
#[test]
fn isolation_holds_in_both_directions() {
    let site = Site::with_networks(["red", "blue"]);
    let red = site.host.run_container("--name red-box --network red");
    let blue = site.host.run_container("--name blue-box --network blue");
    for family in Family::BOTH {
        // Both send from the port that the other sends to, as for hole punching.
        let sockets = [&red, &blue].map(|container| container.briefly().udp_bind(family.any(), 7000).unwrap());
        for _ in 0..2 {
            sockets[0].send_to(b"punch", (blue.ip(family), 7000)).unwrap();
            sockets[1].send_to(b"punch", (red.ip(family), 7000)).unwrap();
        }
        for socket in &sockets {
            assert_silent(socket.recv_from(&mut [0; 64]));
        }
    }
}

/// Row 3: a container reaches its gateway, other networks' gateways and the host's addresses, and the host's services
/// see the container's own address.
#[test]
fn a_container_reaches_the_host() {
    let site = Site::with_networks(["red", "blue"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let tcp = site.host.tcp_listen(family.any(), 8000);
        let udp = site.host.udp_listen(family.any(), 8000);
        for address in [site.host.gateway("red", family), site.host.gateway("blue", family), site.public(family)] {
            container.ping(address).unwrap_or_else(|error| panic!("ICMP to {address}: {error}"));
            let link = container.tcp_connect(address, tcp.port());
            let link = link.unwrap_or_else(|error| panic!("TCP to {address}: {error}"));
            assert_eq!(link.seen_as.ip(), container.ip(family), "TCP to {address}");
            // From the same socket only the address that was asked would answer; a host with many may choose another
            // one for a wildcard socket, so only arrival is demanded.
            container.udp_send(address, udp.port(), &address.to_string()).unwrap();
            let sender = udp.sender_of(&address.to_string());
            assert_eq!(sender.expect("UDP").ip(), container.ip(family), "UDP to {address}");
        }
    }
}

/// Row 6: the host reaches every port of every container, which sees the gateway's address.
#[test]
fn the_host_reaches_every_container() {
    let site = Site::with_networks(["red", "blue"]);
    for network in ["red", "blue"] {
        let container = site.host.run_container(&format!("--name in-{network} --network {network}"));
        for family in Family::BOTH {
            let (address, gateway) = (container.ip(family), site.host.gateway(network, family));
            site.host.ping(address).expect("ICMP");
            let tcp = container.tcp_listen(family.any(), 1234);
            assert_eq!(site.host.tcp_connect(address, tcp.port()).expect("TCP").seen_as.ip(), gateway);
            let udp = container.udp_listen(family.any(), 1234);
            assert_eq!(site.host.udp_ask(address, udp.port(), "hello").expect("UDP").ip(), gateway);
            let refused = site.host.tcp_connect(address, 1235).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    }
}

/// Rows 7 and 8: the host reaches a published TCP port by its own uplink address and by loopback.
#[test]
fn the_host_reaches_published_tcp_ports() {
    let site = Site::with_networks(["red"]);
    let web = site.host.run_container("--name web --network red -p 8080:80");
    for family in Family::BOTH {
        let _server = web.tcp_listen(family.any(), 80);
        for address in [site.public(family), family.loopback()] {
            let link = site.host.tcp_connect(address, 8080);
            let mut link = link.unwrap_or_else(|error| panic!("{address}: {error}"));
            assert_host_is_seen(&site, address, link.seen_as.ip());
            link.echo("hello").unwrap();
        }
    }
}

/// Rows 7 and 8 over UDP, from a connected socket.
#[test]
fn the_host_reaches_published_udp_ports_it_connects_to() {
    let site = Site::with_networks(["red"]);
    let resolver = site.host.run_container("--name resolver --network red -p 5353:53/udp");
    for family in Family::BOTH {
        let _server = resolver.udp_listen(family.any(), 53);
        for address in [site.public(family), family.loopback()] {
            let socket = site.host.udp_bind(family.any(), 0).unwrap();
            socket.connect((address, 5353)).unwrap();
            socket.send(b"hello").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{address}: {error}"));
            let answer = String::from_utf8_lossy(&buffer[..length]);
            let (seen_as, _) = answer.split_once(' ').expect("our server's answer");
            assert_host_is_seen(&site, address, seen_as.parse::<SocketAddr>().unwrap().ip());
        }
    }
}

/// Rows 7 and 8 over UDP, from a socket that is not connected: the answer comes from where the question went.
#[test]
fn the_host_reaches_published_udp_ports_it_sends_to() {
    let site = Site::with_networks(["red"]);
    let resolver = site.host.run_container("--name resolver --network red -p 5353:53/udp");
    for family in Family::BOTH {
        let _server = resolver.udp_listen(family.any(), 53);
        for address in [site.public(family), family.loopback()] {
            let seen = site.host.udp_ask(address, 5353, "hello").unwrap_or_else(|error| panic!("{address}: {error}"));
            assert_host_is_seen(&site, address, seen.ip());
        }
    }
}

/// The container sees the gateway's address, or the one that was asked where that means something to it.
#[track_caller]
fn assert_host_is_seen(site: &Site, asked: IpAddr, seen_as: IpAddr) {
    let gateway = site.host.gateway("red", Family::of(asked));
    assert!(seen_as == gateway || (seen_as == asked && !asked.is_loopback()), "by {asked} it is seen as {seen_as}");
}

/// Row 9: a published port is reached from outside, over TCP and UDP, and the container sees the client's own address
/// and port.
#[test]
fn published_ports_keep_the_clients_address() {
    let site = Site::with_networks(["red"]);
    let web = site.host.run_container("--name web --network red -p 8080:80 -p 5353:53/udp");
    for family in Family::BOTH {
        let _tcp = web.tcp_listen(family.any(), 80);
        let mut link = site.internet.tcp_connect(site.public(family), 8080).expect("TCP");
        assert_eq!(link.seen_as, link.local().unwrap());
        assert_eq!(link.seen_as.ip(), site.uplink.outside(family));
        link.echo("hello").unwrap();

        let _udp = web.udp_listen(family.any(), 53);
        let socket = site.internet.udp_bind(site.uplink.outside(family), 0).unwrap();
        let published = SocketAddr::new(site.public(family), 5353);
        for text in ["first", "second"] {
            assert_eq!(ask(&socket, published, text).expect("UDP"), socket.local_addr().unwrap());
        }
        // What is not published is not open: the host itself answers.
        let refused = site.internet.tcp_connect(site.public(family), 80).unwrap_err();
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
        let _server = web.tcp_listen(family.any(), 80);
        site.host.tcp_connect(family.loopback(), 8080).expect("it is open on loopback");
        let refused = site.internet.tcp_connect(site.public(family), 8080).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

/// Row 11: a machine outside that routes the containers' subnet to the host gets nowhere, whatever is published.
#[test]
fn containers_cannot_be_reached_by_a_route() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.9.0.0/24 --subnet fd00:9::/64 red");
    let web = site.host.run_container("--name web --network red -p 8080:80");
    for (family, prefix) in [(V4, 24), (V6, 64)] {
        let subnet: IpAddr = if family == V4 { "10.9.0.0" } else { "fd00:9::" }.parse().unwrap();
        site.internet.add_route(subnet, prefix, site.public(family));
        let address = web.ip(family);
        let _tcp = web.tcp_listen(family.any(), 80);
        let udp = web.udp_listen(family.any(), 53);
        // The control: the route is good, for the gateway's address is one of the host's own.
        site.internet.ping(site.host.gateway("red", family)).expect("the control");
        site.host.tcp_connect(address, 80).expect("the control");
        site.host.udp_ask(address, 53, "control").expect("the control");

        assert_silent(site.internet.briefly().ping(address));
        for port in [80, 81] {
            assert_silent(site.internet.briefly().tcp_connect(address, port));
        }
        site.internet.udp_send(address, udp.port(), "one way").unwrap();
        udp.assert_never_gets("one way");
    }
}

/// Row 14: a container reaches the outside by TCP, UDP and ICMP echo, and is seen as the host's address there.
#[test]
fn the_way_out_is_masqueraded() {
    let site = Site::with_networks(["red"]);
    let boxes = ["one", "two"].map(|name| site.host.run_container(&format!("--name {name} --network red")));
    for family in Family::BOTH {
        let far = Site::far(family);
        let _tcp = site.internet.tcp_listen(far, 80);
        let _udp = site.internet.udp_listen(far, 53);
        for container in &boxes {
            let mut link = container.tcp_connect(far, 80).expect("TCP");
            assert_eq!(link.seen_as.ip(), site.public(family));
            link.echo("hello").unwrap();
            assert_eq!(container.udp_ask(far, 53, "hello").expect("UDP").ip(), site.public(family));
            container.ping(far).expect("ICMP echo");
        }
        // Two containers that use one port to one destination are kept apart.
        let sockets = boxes.each_ref().map(|container| container.udp_bind(family.any(), 40_000).unwrap());
        let seen = sockets.each_ref().map(|socket| ask(socket, (far, 53).into(), "same port").expect("UDP"));
        assert_ne!(seen[0], seen[1]);
    }
}

/// Row 14: the host's own traffic to the same place, from the same port, is not disturbed.
#[test]
fn the_hosts_own_traffic_is_left_alone() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let far = Site::far(family);
        let _udp = site.internet.udp_listen(far, 53);
        let own = site.host.udp_bind(family.any(), 40_000).unwrap();
        let theirs = container.udp_bind(family.any(), 40_000).unwrap();
        for text in ["one", "two"] {
            let expected = SocketAddr::new(site.public(family), 40_000);
            assert_eq!(ask(&own, (far, 53).into(), text).expect("the host's own"), expected);
            let seen = ask(&theirs, (far, 53).into(), text).expect("the container's");
            assert!(seen.ip() == site.public(family) && seen.port() != 40_000, "{seen}");
        }
    }
}

/// Row 13: a port published on one of the host's addresses is reached over another uplink as well, under the client's
/// own address.
#[test]
fn published_ports_are_reached_over_any_uplink() {
    let lab = Lab::new();
    let host = lab.host("host");
    let (first, second) = (lab.machine("first"), lab.machine("second"));
    let cables = [lab.uplink(&host, &first), lab.uplink(&host, &second)];
    let _agent = host.agent();
    host.create_network("--ipv6 red");
    let (v4, v6) = (cables[0].host(V4), cables[0].host(V6));
    let web = host.run_container(&format!("--name web --network red -p {v4}:8080:80 -p [{v6}]:8080:80"));
    for family in Family::BOTH {
        let _server = web.tcp_listen(family.any(), 80);
        let published = cables[0].host(family);
        second.add_route(published, if family == V4 { 32 } else { 128 }, cables[1].host(family));
        for (cable, client) in cables.iter().zip([&first, &second]) {
            let link = client.tcp_connect(published, 8080);
            let mut link = link.unwrap_or_else(|error| panic!("{} to {published}: {error}", client.name()));
            assert_eq!(link.seen_as.ip(), cable.outside(family));
            link.echo("hello").unwrap();
        }
        // The second uplink's own address publishes nothing.
        let refused = second.tcp_connect(cables[1].host(family), 8080).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}
