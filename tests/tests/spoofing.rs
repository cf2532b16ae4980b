//! SEMANTICS §1 row 17: what a container sends under a name that is not its own is dropped and counted.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, PacketBuilder};
use spandrel_tests::*;

/// A network with a liar, a friend that it lies to, and another container whose name it uses.
struct Scene<'s> {
    site: &'s Site,
    liar: Container<'s>,
    friend: Container<'s>,
    other: Container<'s>,
    frames: FrameSocket,
}

impl<'s> Scene<'s> {
    fn new(site: &'s Site) -> Self {
        site.host.create_network("--ipv6 red");
        let run = |name: &str| site.host.run_container(&format!("--name {name} --network red"));
        let (liar, friend, other) = (run("liar"), run("friend"), run("other"));
        let frames = liar.frames("eth0");
        Self { site, liar, friend, other, frames }
    }

    /// Sends one UDP datagram from the liar to `to`, in the name of `mac` and `ip`.
    fn send_udp(&self, mac: [u8; 6], ip: IpAddr, (to_mac, to): ([u8; 6], IpAddr), text: &str) {
        self.frames.send_udp((mac, SocketAddr::new(ip, 4000)), (to_mac, SocketAddr::new(to, 53)), text);
    }

    fn mac(&self, container: &Container) -> [u8; 6] {
        container.mac_on("red")
    }

    fn spoofed(&self) -> u64 {
        self.site.host.dropped("liar", |reason| reason.starts_with("Spoofed"))
    }

    /// Demands that what `send` sends under a false name is counted as such.
    #[track_caller]
    fn assert_counted(&self, what: &str, send: impl FnOnce()) {
        let before = self.spoofed();
        send();
        let counted = within(PATIENCE, || (self.spoofed() > before).then_some(()));
        assert!(counted.is_some(), "{what} was not counted");
    }
}

/// Row 17: with a source address that is another container's, or nobody's, nothing arrives at a neighbour or at the
/// host.
#[test]
fn false_addresses_are_dropped() {
    let site = Site::new();
    let scene = Scene::new(&site);
    let own = scene.mac(&scene.liar);
    let nobody = |family| -> IpAddr { if family == V4 { "192.0.2.66" } else { "2001:db8:bad::66" }.parse().unwrap() };
    for family in Family::BOTH {
        let host_mac = {
            scene.liar.ping(site.host.gateway("red", family)).expect("the gateway answers");
            scene.liar.neighbour(site.host.gateway("red", family)).expect("the gateway's MAC address")
        };
        let at_friend = scene.friend.udp_listen(family.any(), 53);
        let at_host = site.host.udp_listen(family.any(), 53);
        for (server, to) in [
            (&at_friend, (scene.mac(&scene.friend), scene.friend.ip(family))),
            (&at_host, (host_mac, site.host.gateway("red", family))),
        ] {
            let honest = format!("honest to {}", to.1);
            scene.send_udp(own, scene.liar.ip(family), to, &honest);
            assert_eq!(server.sender_of(&honest).expect("the control").ip(), scene.liar.ip(family));
            for lie in [scene.other.ip(family), nobody(family), site.host.gateway("red", family)] {
                let text = format!("{lie} to {}", to.1);
                scene.assert_counted(&text, || scene.send_udp(own, lie, to, &text));
                server.assert_never_gets(&text);
            }
        }
    }
}

/// Row 17: with a MAC address that is not its own, nothing arrives, though the IP address is right.
#[test]
fn false_mac_addresses_are_dropped() {
    let site = Site::new();
    let scene = Scene::new(&site);
    for family in Family::BOTH {
        let server = scene.friend.udp_listen(family.any(), 53);
        let to = (scene.mac(&scene.friend), scene.friend.ip(family));
        for lie in [scene.mac(&scene.other), [0x02, 0, 0, 0, 0, 0x66]] {
            let text = format!("{lie:x?}");
            scene.assert_counted(&text, || scene.send_udp(lie, scene.liar.ip(family), to, &text));
            server.assert_never_gets(&text);
        }
    }
}

/// Row 17: nothing leaves for the outside under a false address.
#[test]
fn false_addresses_do_not_leave_the_host() {
    let site = Site::new();
    let scene = Scene::new(&site);
    for family in Family::BOTH {
        let gateway = site.host.gateway("red", family);
        scene.liar.ping(gateway).expect("the gateway answers");
        let gateway_mac = scene.liar.neighbour(gateway).expect("the gateway's MAC address");
        let server = site.internet.udp_listen(Site::far(family), 53);
        let to = (gateway_mac, Site::far(family));
        let own = scene.mac(&scene.liar);
        scene.send_udp(own, scene.liar.ip(family), to, "honest");
        assert_eq!(server.sender_of("honest").expect("the control").ip(), site.public(family));
        scene.assert_counted("a lie to the outside", || scene.send_udp(own, scene.other.ip(family), to, "lie"));
        server.assert_never_gets("lie");
    }
}

/// Row 17: an ARP reply that claims another's address does not change what the neighbours believe.
#[test]
fn false_arp_is_dropped() {
    let site = Site::new();
    let scene = Scene::new(&site);
    let own = scene.mac(&scene.liar);
    let gateway = site.host.gateway("red", V4);
    for (claimed, victim) in
        [(scene.other.ip(V4), &*scene.friend), (gateway, &*scene.friend), (scene.other.ip(V4), &site.host)]
    {
        victim.ping(claimed).expect("the owner answers");
        let before = victim.neighbour(claimed).expect("a neighbour");
        assert_ne!(before, own);
        let (IpAddr::V4(claimed4), IpAddr::V4(target)) = (claimed, scene.friend.ip(V4)) else { unreachable!() };
        for operation in [1_u8, 2] {
            let mut frame = [BROADCAST.as_slice(), &own, &EtherType::ARP.0.to_be_bytes()].concat();
            frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
            frame.extend_from_slice(&own);
            frame.extend_from_slice(&claimed4.octets());
            frame.extend_from_slice(&[0; 6]);
            frame.extend_from_slice(&target.octets());
            scene.assert_counted("a false ARP packet", || scene.frames.send(&frame));
        }
        assert_eq!(victim.neighbour(claimed), Some(before), "what {} believes of {claimed}", victim.name());
        victim.ping(claimed).expect("the owner still answers");
    }
}

/// Row 17: a neighbour advertisement that claims another's address does not change what the neighbours believe.
#[test]
fn false_neighbour_advertisements_are_dropped() {
    let site = Site::new();
    let scene = Scene::new(&site);
    let own = scene.mac(&scene.liar);
    let (claimed, friend) = (scene.other.ip(V6), scene.friend.ip(V6));
    scene.friend.ping(claimed).expect("the owner answers");
    let before = scene.friend.neighbour(claimed).expect("a neighbour");
    let (IpAddr::V6(claimed6), IpAddr::V6(friend6), IpAddr::V6(honest)) = (claimed, friend, scene.liar.ip(V6)) else {
        unreachable!()
    };
    // From the false address, and from its own about the false one.
    for source in [claimed6, honest] {
        // Solicited, override; the target; the option that holds its link-layer address.
        let flags = [0x60, 0, 0, 0];
        let body = [claimed6.octets().as_slice(), &[2, 1], &own].concat();
        let packet = PacketBuilder::ethernet2(own, scene.mac(&scene.friend))
            .ipv6(source.octets(), friend6.octets(), 255)
            .icmpv6_raw(136, 0, flags);
        let mut frame = Vec::new();
        packet.write(&mut frame, &body).unwrap();
        scene.assert_counted("a false advertisement", || scene.frames.send(&frame));
    }
    assert_eq!(scene.friend.neighbour(claimed), Some(before));
    scene.friend.ping(claimed).expect("the owner still answers");
}
