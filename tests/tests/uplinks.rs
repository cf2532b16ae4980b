//! SEMANTICS §1: several uplinks, policy routing, and uplinks that come, go and change while things flow. What is under way under an
//! address that is gone dies; what is new uses the new one; nothing leaves under an old or a private one.

use std::net::{IpAddr, SocketAddr};

use spandrel_tests::*;

/// A host with two uplinks. Everything goes through the first one, unless told otherwise. Behind each is a machine that has the
/// addresses [`Site::far`].
struct Multihomed {
    _agent: Agent,
    host: Host,
    outside: [Machine; 2],
    cables: [Uplink; 2],
}

impl Multihomed {
    fn new() -> Self {
        let lab = Lab::new();
        let host = lab.host("host");
        let outside = ["first", "second"].map(|name| lab.machine(name));
        let cables = outside.each_ref().map(|machine| lab.uplink(&host, machine));
        for machine in &outside {
            for (family, prefix) in [(V4, 32), (V6, 128)] {
                machine.add_address("lo", Site::far(family), prefix);
            }
        }
        Self { _agent: host.agent(), host, outside, cables }
    }

    /// Servers at the far address behind each uplink.
    fn serve(&self, family: Family) -> [Services; 2] {
        self.outside.each_ref().map(|machine| machine.serve(Site::far(family)))
    }
}

/// Demands that nothing has come, or comes within a while, from any of these addresses.
#[track_caller]
fn assert_nothing_from(frames: &FrameSocket, forbidden: &[IpAddr]) {
    let leak = frames.next(|frame| ip_addresses(frame).is_some_and(|(source, _)| forbidden.contains(&source)));
    assert_eq!(leak.as_deref().and_then(ip_addresses), None, "this has leaked");
}

/// Waits until the agent has seen a change of the host: new flows to `far`, where a UDP server is, leave as `seen_as`.
#[track_caller]
fn wait_for_way_out(container: &Net, far: IpAddr, seen_as: IpAddr) {
    let container = container.briefly();
    let asked = || container.udp_ask(far, UDP_PORT, "now?").ok().filter(|seen| seen.ip() == seen_as);
    assert!(within(PATIENCE, asked).is_some(), "new flows to {far} do not leave as {seen_as}");
}

/// Rows 9 and 13: with the usual rule of a host that has two providers (`ip rule add from ADDRESS`), who comes to a published port by
/// the second uplink from far away is answered by the second uplink, as by the host's own services.
#[test]
fn answers_leave_by_the_uplink_of_the_published_address() {
    let site = Multihomed::new();
    site.host.create_network("--ipv6 red");
    let web = site.host.run_container(&format!("--name web --network red {PUBLISH}"));
    for (family, prefix) in [(V4, 32), (V6, 128)] {
        let (published, client): (IpAddr, IpAddr) =
            (site.cables[1].host(family), if family == V4 { "192.0.2.7" } else { "2001:db8:7777::7" }.parse().unwrap());
        site.outside[1].add_address("lo", client, prefix);
        site.host.add_default_route_to_table(100, site.cables[1].outside(family));
        site.host.add_source_rule(published, prefix, 100);

        let _own = site.host.udp_listen(published, 7000);
        let socket = site.outside[1].udp_bind(client, 0).unwrap();
        ask(&socket, (published, 7000).into(), "the control").expect("a service of the host itself");

        let _services = web.serve(family.any());
        let seen = ask(&socket, (published, PUBLISHED.1).into(), "hello").expect("the published port");
        assert_eq!(seen, socket.local_addr().unwrap());
    }
}

/// Row 14: when the uplink's address changes, new flows have the new one, also from sockets that were in use before, and nothing
/// leaves under the old one any more.
#[test]
fn an_uplink_may_change_its_address() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for (family, new, prefix) in [(V4, "198.18.1.77", 24), (V6, "2001:db8:1::77", 64)] {
        let (far, old, new): (_, _, IpAddr) = (Site::far(family), site.public(family), new.parse().unwrap());
        let services = site.internet.serve(far);
        services.assert_reached(&container, far, old);
        let socket = container.briefly().udp_bind(family.any(), 0).unwrap();
        assert_eq!(ask(&socket, (far, UDP_PORT).into(), "before").unwrap().ip(), old);
        let mut link = container.briefly().tcp_connect(far, TCP_PORT).unwrap();

        site.host.remove_address(&site.uplink.name, old, prefix);
        site.host.add_address(&site.uplink.name, new, prefix);
        // The kernel takes the IPv4 default route away with the address that it was reached by.
        if !site.host.routes().iter().any(|route| route.starts_with(&format!("{}/0 ", family.any()))) {
            site.host.add_default_route(site.uplink.outside(family));
        }
        wait_for_way_out(&container, far, new);

        let frames = site.internet.briefly().frames(&site.uplink.outside_name);
        services.assert_reached(&container, far, new);
        // Its first packet may be the one by which the old flow ends.
        let seen = within(PATIENCE, || ask(&socket, (far, UDP_PORT).into(), "after").ok());
        assert_eq!(seen.expect("a new flow of an old socket").ip(), new);
        link.echo("under the old address").expect_err("the connection cannot go on");
        assert_nothing_from(&frames, &[old, container.ip(family)]);
    }
}

/// Row 14: when an uplink vanishes under running connections, they end; new ones leave by the other uplink, under its address.
#[test]
fn an_uplink_may_vanish() {
    let site = Multihomed::new();
    site.host.create_network("--ipv6 red");
    let container = site.host.run_container("--name box --network red");
    let sockets = Family::BOTH.map(|family| {
        let socket = container.briefly().udp_bind(family.any(), 0).unwrap();
        let services = site.serve(family);
        assert_eq!(ask(&socket, (Site::far(family), UDP_PORT).into(), "x").unwrap().ip(), site.cables[0].host(family));
        let link = container.briefly().tcp_connect(Site::far(family), TCP_PORT).unwrap();
        (family, services, socket, link)
    });
    let frames = site.outside[1].briefly().frames(&site.cables[1].outside_name);
    site.host.delete_link(&site.cables[0].name);
    for (family, services, socket, mut link) in sockets {
        let far = Site::far(family);
        wait_for_way_out(&container, far, site.cables[1].host(family));
        services[1].assert_reached(&container, far, site.cables[1].host(family));
        let seen = within(PATIENCE, || ask(&socket, (far, UDP_PORT).into(), "after").ok());
        assert_eq!(seen.expect("a new flow of an old socket").ip(), site.cables[1].host(family));
        link.echo("under the old address").expect_err("the connection cannot go on");
        assert_nothing_from(&frames, &[site.cables[0].host(family), container.ip(family)]);
    }
}

/// Rows 9 and 14: an uplink that comes when containers are running already, and one that is taken down and up, work without any more
/// ado.
#[test]
fn an_uplink_may_come_later() {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let _agent = host.agent();
    host.create_network("--ipv6 red");
    let container = host.run_container(&format!("--name box --network red {PUBLISH}"));
    for family in Family::BOTH {
        let refused = container.tcp_connect(Site::far(family), TCP_PORT).unwrap_err();
        assert!(refused.to_string().contains("nreachable"), "there is no way out: {refused}");
    }
    let cable = lab.uplink(&host, &internet);
    for (family, prefix) in [(V4, 32), (V6, 128)] {
        internet.add_address("lo", Site::far(family), prefix);
    }
    let works = || {
        for family in Family::BOTH {
            let far = Site::far(family);
            let services = internet.serve(far);
            wait_for_way_out(&container, far, cable.host(family));
            services.assert_reached(&container, far, cable.host(family));
            let inside = container.serve(family.any());
            inside.assert_reached_at(&internet, cable.host(family), PUBLISHED, cable.outside(family));
        }
    };
    works();
    host.set_down(&cable.name);
    host.set_up(&cable.name);
    for family in Family::BOTH {
        // Routes and, for IPv6, addresses go with the interface.
        if !host.addresses().iter().any(|(_, address, _)| *address == cable.host(family)) {
            host.add_address(&cable.name, cable.host(family), if family == V4 { 24 } else { 64 });
        }
        host.add_default_route(cable.outside(family));
    }
    works();
}
/// Row 14: with a rule for the source address (`ip rule add from SUBNET`), a network leaves by another uplink, and under that one's
/// address; other networks do not. It stays so when routes are looked up anew.
#[test]
fn a_rule_sends_a_network_out_by_another_uplink() {
    let site = Multihomed::new();
    site.host.create_network("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 red");
    site.host.create_network("--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64 blue");
    let red = site.host.run_container("--name in-red --network red");
    let blue = site.host.run_container("--name in-blue --network blue");
    for (family, subnet, prefix) in [(V4, "10.2.0.0", 24), (V6, "fd00:2::", 64)] {
        site.host.add_default_route_to_table(100, site.cables[1].outside(family));
        site.host.add_source_rule(subnet.parse().unwrap(), prefix, 100);
        let far = Site::far(family);
        let services = site.serve(family);
        services[0].assert_reached(&red, far, site.cables[0].host(family));
        services[1].assert_reached(&blue, far, site.cables[1].host(family));

        let mut link = blue.tcp_connect(far, TCP_PORT).unwrap();
        link.echo("before").unwrap();
        // Any change of a route makes every flow look for its way again.
        site.host.add_route("198.51.100.0".parse().unwrap(), 24, site.cables[0].outside(V4));
        services[0].assert_reached(&red, far, site.cables[0].host(family));
        link.echo("after").expect("the connection goes on by the second uplink");
    }
}

/// Row 14: when the default route moves to another uplink, flows do not follow it under the first one's address: new ones begin,
/// under the address of the uplink that they leave by.
#[test]
fn a_flow_does_not_move_to_another_uplink() {
    let site = Multihomed::new();
    site.host.create_network("--ipv6 red");
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let far = Site::far(family);
        let services = site.serve(family);
        let socket = container.briefly().udp_bind(family.any(), 0).unwrap();
        let seen = ask(&socket, (far, UDP_PORT).into(), "by the first").unwrap();
        assert_eq!(seen.ip(), site.cables[0].host(family));

        let frames = site.outside[1].briefly().frames(&site.cables[1].outside_name);
        site.host.remove_default_route(site.cables[0].outside(family));
        wait_for_way_out(&container, far, site.cables[1].host(family));
        services[1].assert_reached(&container, far, site.cables[1].host(family));
        let second = |seen: &SocketAddr| seen.ip() == site.cables[1].host(family);
        let moved = within(PATIENCE, || ask(&socket, (far, UDP_PORT).into(), "by the second").ok().filter(second));
        assert!(moved.is_some(), "an old socket does not leave by the second uplink");
        assert_nothing_from(&frames, &[site.cables[0].host(family), container.ip(family)]);
    }
}
