//! SEMANTICS §1: between containers and the host that they run on, and how the host's own processes reach published ports.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use spandrel_tests::*;

/// Row 3: a container reaches its gateway, other networks' gateways and the host's addresses by ICMP, TCP and UDP. The host's
/// services see the container's own address, and a port on which none listens refuses it.
#[test]
fn a_container_reaches_the_host() {
    let site = Site::with_networks(["red", "blue"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        for address in [site.host.gateway("red", family), site.host.gateway("blue", family), site.public(family)] {
            // Bound to the address: a host with many would answer for a wildcard socket from the one it likes best.
            let services = site.host.serve(address);
            services.assert_reached(&container, address, container.ip(family));
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
            let services = container.serve(family.any());
            services.assert_reached(&site.host, container.ip(family), site.host.gateway(network, family));
        }
    }
}

/// Row 7: the host reaches published ports by each of its own addresses, uplinks' and gateways', over TCP and UDP.
#[test]
fn the_host_reaches_published_ports_by_its_own_addresses() {
    let site = Site::with_networks(["red", "blue"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    for family in Family::BOTH {
        let services = web.serve(family.any());
        let gateway = site.host.gateway("red", family);
        for address in [site.public(family), gateway, site.host.gateway("blue", family)] {
            services.assert_reached_at(&site.host, address, PUBLISHED, gateway);
            let refused = site.host.tcp_connect(address, TCP_PORT).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{address}: only the published port is open");
        }
    }
}

/// Row 8: the host reaches published ports by 127.0.0.1 and `::1`, over TCP and UDP. The container sees the gateway's address.
#[test]
fn the_host_reaches_published_ports_by_loopback() {
    let site = Site::with_networks(["red"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    for family in Family::BOTH {
        let services = web.serve(family.any());
        services.assert_reached_at(&site.host, family.loopback(), PUBLISHED, site.host.gateway("red", family));
    }
    // All of 127.0.0.0/8 is this host.
    let services = web.serve(V4.any());
    let elsewhere = Ipv4Addr::new(127, 1, 2, 3).into();
    services.assert_reached_at(&site.host, elsewhere, PUBLISHED, site.host.gateway("red", V4));
}

/// Rows 7 and 8: a process is told that it talks to the address that it asked for, by getpeername and recvfrom, connected or not,
/// and also where an IPv6 socket speaks IPv4.
#[test]
fn the_host_sees_the_address_that_it_asked_for() {
    let site = Site::with_networks(["red"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
        IpAddr::V6(_) => address,
    };
    for family in Family::BOTH {
        let _services = web.serve(family.any());
        for (address, own) in [
            (site.public(family), family.any()),
            (family.loopback(), family.any()),
            (mapped(site.public(family)), V6.any()),
            (mapped(family.loopback()), V6.any()),
        ] {
            let stream = site.host.tcp_open(address, PUBLISHED.0).unwrap_or_else(|error| panic!("{address}: {error}"));
            assert_eq!(stream.peer_addr().unwrap(), SocketAddr::new(address, PUBLISHED.0), "TCP, getpeername");

            let asked = SocketAddr::new(address, PUBLISHED.1);
            let socket = site.host.udp_bind(own, 0).unwrap();
            ask(&socket, asked, "not connected, which compares recvfrom").unwrap_or_else(|error| panic!("{error}"));
            socket.connect(asked).unwrap();
            assert_eq!(socket.peer_addr().unwrap(), asked, "UDP, getpeername");
            socket.send(b"connected").unwrap();
            let (_, from) = socket.recv_from(&mut [0; 128]).expect("an answer");
            assert_eq!(from, asked, "UDP, recvfrom of a connected socket");
        }
    }
}

/// Programs on the sockets of the whole machine cost every one of them, so they run only while a port is published, those that see each
/// datagram only while a UDP port is: whoever publishes it, whether an agent is there, and whichever agent takes it back.
#[test]
fn sockets_are_left_alone_while_no_port_needs_it() {
    const WITHOUT_UDP: [&str; 6] = ["bind4", "bind6", "connect4", "connect6", "getpeername4", "getpeername6"];
    const DATAGRAMS: [&str; 4] = ["recvmsg4", "recvmsg6", "sendmsg4", "sendmsg6"];
    let with_udp = [WITHOUT_UDP.as_slice(), &DATAGRAMS].concat();
    let mut site = Site::with_networks(["red"]);
    let none: [&str; 0] = [];
    assert_eq!(site.host.socket_programs(), none, "no port");
    site.host.run_container("--name web --network red -p 8080:80");
    assert_eq!(site.host.socket_programs(), WITHOUT_UDP, "a TCP port");
    site.restart_agent();
    assert_eq!(site.host.socket_programs(), WITHOUT_UDP, "a TCP port, of an agent that was killed");

    site.host.spandrel("publish web 5353:53/udp").ok();
    assert_eq!(site.host.socket_programs(), with_udp, "a UDP port");
    site.agent.kill();
    assert_eq!(site.host.socket_programs(), with_udp, "a UDP port, while no agent is there");
    site.agent = site.host.agent();
    assert_eq!(site.host.socket_programs(), with_udp, "a UDP port, of an agent that was killed");
    {
        let web = site.host.container("web");
        for family in Family::BOTH {
            let services = web.serve(family.any());
            services.assert_reached_at(&site.host, family.loopback(), PUBLISHED, site.host.gateway("red", family));
        }
    }

    site.host.spandrel("publish web 5354:53/udp").ok();
    site.host.spandrel("unpublish web 5353:53/udp").ok();
    assert_eq!(site.host.socket_programs(), with_udp, "another UDP port");
    site.host.spandrel("unpublish web 5354:53/udp").ok();
    assert_eq!(site.host.socket_programs(), WITHOUT_UDP, "the last UDP port has gone");
    site.host.spandrel("stop -t 0 web").ok();
    assert_eq!(site.host.socket_programs(), none, "the last port has gone");
    site.restart_agent();
    assert_eq!(site.host.socket_programs(), none, "no port, of an agent that was killed");
}

/// Row 8: it works without a proxy process, without `route_localnet`, and without a packet filter.
#[test]
fn loopback_needs_no_proxy() {
    let site = Site::with_networks(["red"]);
    let before = site.host.processes();
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    let services = web.serve(V4.any());
    services.assert_reached_at(&site.host, V4.loopback(), PUBLISHED, site.host.gateway("red", V4));

    // What has come are the container's own command and the small process that it runs under.
    let mut new = site.host.processes();
    for process in before {
        let known = new.iter().position(|line| *line == process).expect("it still runs");
        new.remove(known);
    }
    let of_container =
        |line: &String| line == "sleep infinity" || line.contains("shim") || line.contains("sleep infinity");
    assert!(new.iter().all(of_container), "{new:?}");
    for interface in site.host.links() {
        let setting = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", interface.name);
        let value = site.host.run(|| std::fs::read_to_string(&setting)).unwrap();
        assert_eq!(value.trim(), "0", "{setting}");
    }
    assert_eq!(site.host.packet_filters(), Vec::<String>::new());
}

/// Rows 7 and 8: a container's sockets, and those of another host in its own namespace, are not the host's: by loopback they
/// reach their own machine only.
#[test]
fn only_the_hosts_own_sockets_are_redirected() {
    let site = Site::with_networks(["red"]);
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    let other = site.host.run_container("--name other --network red");
    for family in Family::BOTH {
        let services = web.serve(family.any());
        services.assert_reached_at(&site.host, family.loopback(), PUBLISHED, site.host.gateway("red", family));
        for elsewhere in [&*other, &*site.internet] {
            let refused = elsewhere.tcp_connect(family.loopback(), PUBLISHED.0).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{}", elsewhere.name());
        }
    }
}

/// Rows 7 and 8: two containers publish one port on two addresses, of loopback too: each address leads to its own.
#[test]
fn each_address_leads_to_its_own_container() {
    let site = Site::with_networks(["red"]);
    let publish = |address: &str| format!("-p {address}:8080:80 -p {address}:5353:53/udp");
    let first = site.host.run_container(&format!("--name first --network red {}", publish("127.0.1.2")));
    let second = site.host.run_container(&format!("--name second --network red {}", publish("127.0.1.3")));
    let public = site.public(V4).to_string();
    let third = site.host.run_container(&format!("--name third --network red {}", publish(&public)));
    let gateway = site.host.gateway("red", V4);
    for (container, address) in [(&first, "127.0.1.2"), (&second, "127.0.1.3"), (&third, &public)] {
        let services = container.serve(V4.any());
        services.assert_reached_at(&site.host, address.parse().unwrap(), PUBLISHED, gateway);
    }
    let refused = site.host.tcp_connect(V4.loopback(), PUBLISHED.0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "nobody publishes on 127.0.0.1");
}

/// Row 3: what a container sends to the host's loopback addresses over its network does not arrive.
#[test]
fn the_hosts_loopback_is_its_own() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    let gateway = site.host.gateway("red", V4);
    container.ping(gateway).expect("the gateway answers");
    let to_mac = container.neighbour(gateway).expect("the gateway's MAC address");
    let services = [gateway, V4.loopback()].map(|address| site.host.serve(address));
    let frames = container.frames("eth0");
    let from = (container.mac_on("red"), SocketAddr::new(container.ip(V4), 4000));
    frames.send_udp(from, (to_mac, SocketAddr::new(gateway, UDP_PORT)), "the control");
    assert_eq!(services[0].sender_of("the control"), Some(container.ip(V4)));
    frames.send_udp(from, (to_mac, SocketAddr::new(V4.loopback(), UDP_PORT)), "to loopback");
    services[1].assert_never_got("to loopback");
}
