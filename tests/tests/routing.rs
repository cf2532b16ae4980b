//! SEMANTICS §1, what a router owes: the host lowers the time to live, says so where it ends, and says what is too big. Path MTU
//! discovery works through translation, in both directions.

use std::net::IpAddr;

use etherparse::{LaxPacketHeaders, NetHeaders};
use spandrel_tests::*;

/// The time to live of the IP packet in a frame, if it has these addresses.
fn hops_left(frame: &[u8], source: IpAddr, destination: IpAddr) -> Option<u8> {
    if ip_addresses(frame) != Some((source, destination)) {
        return None;
    }
    match LaxPacketHeaders::from_ethernet(frame).ok()?.net? {
        NetHeaders::Ipv4(header, _) => Some(header.time_to_live),
        NetHeaders::Ipv6(header, _) => Some(header.hop_limit),
        NetHeaders::Arp(_) => None,
    }
}

/// Row ttl: the time to live goes down by one on the way out, on the way back, through a published port, and between networks
/// through one. Between neighbours it stays.
#[test]
fn the_host_is_one_hop() {
    let site = Site::with_networks(["red", "blue"]);
    let web = site.host.run_container("--name web --network red -p 5353:53/udp");
    let (neighbour, other) = (
        site.host.run_container("--name neighbour --network red"),
        site.host.run_container("--name other --network blue"),
    );
    let seen = |net: &Net, interface: &str, source: IpAddr, destination: IpAddr, act: &dyn Fn()| {
        let frames = net.frames(interface);
        act();
        let frame = frames.next(|frame| hops_left(frame, source, destination).is_some()).expect("a packet");
        hops_left(&frame, source, destination).unwrap()
    };
    for family in Family::BOTH {
        let (far, public, own) = (Site::far(family), site.public(family), web.ip(family));
        let _services = (web.serve(family.any()), site.internet.serve(far));
        let lan = &site.uplink.outside_name;
        let out = || _ = web.udp_ask(far, UDP_PORT, "out").expect("the way out");
        assert_eq!(seen(&site.internet, lan, public, far, &out), 63, "{family:?} out");
        assert_eq!(seen(&web, "eth0", far, own, &out), 63, "{family:?} back");
        let client = site.uplink.outside(family);
        let publish = || _ = site.internet.udp_ask(public, 5353, "in").expect("the published port");
        assert_eq!(seen(&web, "eth0", client, own, &publish), 63, "{family:?} in");
        assert_eq!(seen(&site.internet, lan, public, client, &publish), 63, "{family:?} its answer");
        let across = || _ = other.udp_ask(public, 5353, "across").expect("the published port");
        assert_eq!(seen(&web, "eth0", other.ip(family), own, &across), 63, "{family:?} across");
        assert_eq!(seen(&other, "eth0", public, other.ip(family), &across), 63, "{family:?} its answer");
        let near = || _ = neighbour.udp_ask(own, UDP_PORT, "near").expect("a neighbour");
        assert_eq!(seen(&web, "eth0", neighbour.ip(family), own, &near), 64, "{family:?} near");
    }
}

/// Row ttl: where the time to live ends at the host, the container is told so by its gateway, for a new flow and for an
/// established one: the host is the first hop of a traceroute.
#[test]
fn the_host_is_the_first_hop() {
    let way = Way::new();
    way.host.create_network("--ipv6 red");
    let container = way.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let (server, gateway) = (way.server_at(family), way.host.gateway("red", family));
        assert_eq!(container.hop(server, 1).expect("an answer"), gateway, "ICMP");
        let error = container.udp_error((server, 33434), 1, 20).expect("an ICMP error");
        assert!(error.is_time_exceeded() && error.from == gateway, "UDP: {error:?}");

        let _services = way.server.serve(server);
        let socket = container.udp_bind(family.any(), 0).unwrap();
        ask(&socket, (server, UDP_PORT).into(), "the flow is there").expect("an answer");
        let error = container.error_over(&socket, (server, UDP_PORT), 1, 20).expect("an ICMP error");
        assert!(error.is_time_exceeded() && error.from == gateway, "established: {error:?}");
        ask(&socket, (server, UDP_PORT).into(), "and it still is").expect("an answer");
        // What goes no further costs nothing: the way to the last hop is whole.
        container.ping(server).expect("the server answers");
    }
}

/// Row mtu: a packet that is too big for the uplink is refused by the gateway with the uplink's MTU, for a new flow and for an
/// established one.
#[test]
fn a_smaller_uplink_says_its_mtu() {
    let way = Way::new();
    way.narrow(0, 1300);
    way.host.create_network("--ipv6 red");
    let container = way.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let (server, gateway) = (way.server_at(family), way.host.gateway("red", family));
        let _services = way.server.serve(server);
        let error = container.udp_error((server, UDP_PORT), 64, 1400).expect("an ICMP error");
        assert!(error.is_too_big() && error.from == gateway && error.mtu == 1300, "{error:?}");
        let socket = container.udp_bind(family.any(), 0).unwrap();
        ask(&socket, (server, UDP_PORT).into(), "small ones pass").expect("an answer");
        let error = container.error_over(&socket, (server, UDP_PORT), 64, 1400).expect("an ICMP error");
        assert!(error.is_too_big() && error.from == gateway && error.mtu == 1300, "established: {error:?}");
    }
}

/// Row mtu: large transfers, which leave a container as batches of segments (GSO), fit through a smaller uplink, out and in.
#[test]
fn transfers_fit_through_a_smaller_uplink() {
    let way = Way::new();
    way.narrow(0, 1300);
    way.host.create_network("--ipv6 red");
    let container = way.host.run_container("--name box --network red -p 9000:80");
    let transfers = Family::BOTH.map(|family| {
        [
            Transfer::start(&container, (way.server_at(family), 9000), &way.server, 9000),
            Transfer::start(&way.server, (way.cables[0].host(family), 9000), &container, 80),
        ]
    });
    for transfer in transfers.into_iter().flatten() {
        transfer.assert_moves();
        assert!(transfer.finish().iter().all(|bytes| *bytes > 0));
    }
}

/// Row mtu: a network may have a larger MTU than the uplink: what leaves it is cut down to size.
#[test]
fn transfers_leave_a_network_of_jumbo_frames() {
    let way = Way::new();
    way.host.create_network("--ipv6 --opt com.docker.network.driver.mtu=9000 red");
    let container = way.host.run_container("--name box --network red -p 9000:80");
    assert_eq!(container.link("eth0").mtu, 9000);
    for family in Family::BOTH {
        let out = Transfer::start(&container, (way.server_at(family), 9000), &way.server, 9000);
        let back = Transfer::start(&way.server, (way.cables[0].host(family), 9000), &container, 80);
        out.assert_moves();
        back.assert_moves();
        assert!(out.finish().into_iter().chain(back.finish()).all(|bytes| bytes > 0));
    }
}
