//! The shield on uplinks: what is certain to be dropped never reaches the host's stack, and nothing else is touched.
//!
//! Where the shield runs, not even a packet socket of the host sees what it drops; so one can tell whether it was the shield.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use spandrel_tests::*;

/// What the agent is told, and whether the shield runs then.
const MODES: [(&str, bool); 3] = [("--xdp off", false), ("--xdp generic", true), ("--xdp native", true)];

/// The host's service, and one in the container.
const DNS: u16 = 53;

/// Jumbo frames.
const JUMBO: u32 = 9000;

/// A site with a container, and the outside end of the cable open for frames.
struct Scene {
    site: Site,
    frames: FrameSocket,
}

impl Scene {
    /// The agent is told `options`.
    fn new(options: &str) -> Self {
        let mut site = Site::with_networks(["red"]);
        drop(site.host.run_container("--name web --network red -p 8080:80"));
        site.agent.kill();
        site.agent = site.host.agent_with(options);
        let frames = site.internet.frames(&site.uplink.outside_name);
        Self { site, frames }
    }

    fn restart(&mut self, options: &str) {
        self.site.agent.kill();
        self.site.agent = self.site.host.agent_with(options);
    }

    fn web(&self) -> Container<'_> {
        self.site.host.container("web")
    }

    /// Sends one datagram up the cable, with these addresses.
    fn send(&self, from: IpAddr, to: IpAddr, text: &str) {
        let near = self.site.host.link(&self.site.uplink.name).mac;
        let far = self.site.internet.link(&self.site.uplink.outside_name).mac;
        let ethernet = PacketBuilder::ethernet2(far, near);
        let packet = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            _ => panic!("{from} cannot talk to {to}"),
        };
        let mut frame = Vec::new();
        packet.udp(4000, DNS).write(&mut frame, text.as_bytes()).unwrap();
        self.frames.send(&frame);
    }

    fn dropped(&self, reason: &str) -> u64 {
        let drops = self.site.host.spandrel("drops --format json").json_lines();
        let counts = drops.iter().filter(|drop| drop["Reason"] == reason);
        counts.filter_map(|drop| drop["Packets"].as_u64()).sum()
    }

    /// Sends a datagram that must be dropped and counted once, and tells whether a packet socket of the host sees it.
    #[track_caller]
    fn is_seen(&self, from: IpAddr, to: IpAddr, text: &str, reason: &str) -> bool {
        let listening = self.site.host.briefly().frames(&self.site.uplink.name);
        let before = self.dropped(reason);
        self.send(from, to, text);
        let contains = |frame: &[u8]| frame.windows(text.len()).any(|part| part == text.as_bytes());
        let seen = listening.next(contains).is_some();
        let counted = within(PATIENCE, || Some(self.dropped(reason)).filter(|&count| count > before));
        assert_eq!(counted, Some(before + 1), "{text}: {reason}");
        seen
    }

    /// Whether the shield runs: it alone drops before a packet socket sees.
    #[track_caller]
    fn is_shielded(&self) -> bool {
        let to = self.web().ip(V4);
        let outside = self.site.uplink.outside(V4);
        // What is for the host is seen in any case, so the socket does see.
        let listening = self.site.host.frames(&self.site.uplink.name);
        self.send(outside, self.site.public(V4), "for the host");
        assert!(listening.next(|frame| frame.ends_with(b"for the host")).is_some(), "the control");
        !self.is_seen(outside, to, "unsolicited", "DirectAccess")
    }
}

/// Row 11, and row 17 from outside: the same packets die of the same reasons with the shield and without it; with it, the
/// host's stack does not see them.
#[test]
fn what_must_die_dies_with_and_without_the_shield() {
    for (options, shielded) in MODES {
        let scene = Scene::new(options);
        let site = &scene.site;
        for family in Family::BOTH {
            let web = scene.web();
            let (inside, outside, host) = (web.ip(family), site.uplink.outside(family), site.public(family));
            let at_host = site.host.udp_listen(family.any(), DNS);
            let at_web = web.udp_listen(family.any(), DNS);
            scene.send(outside, host, "honest");
            assert_eq!(at_host.sender_of("honest").expect("the control").ip(), outside);

            let spoofed = format!("{family:?} spoofed");
            for source in [inside, site.host.gateway("red", family)] {
                assert_eq!(scene.is_seen(source, host, &spoofed, "SpoofedOutside"), !shielded, "{options}");
            }
            at_host.assert_never_gets(&spoofed);
            let direct = format!("{family:?} direct");
            assert_eq!(scene.is_seen(outside, inside, &direct, "DirectAccess"), !shielded, "{options}");
            at_web.assert_never_gets(&direct);
        }
    }
}

/// What passes is whole: large transfers in both directions, through a published port and out through NAT, with segments
/// that are cut late, and jumbo frames.
#[test]
fn what_passes_is_whole() {
    for (options, _) in MODES {
        let scene = Scene::new(options);
        let site = &scene.site;
        let web = (*scene.web()).clone();
        for mtu in [1500, JUMBO] {
            site.host.set_mtu(&site.uplink.name, mtu);
            site.internet.set_mtu(&site.uplink.outside_name, mtu);
            for family in Family::BOTH {
                let transfers = [
                    Transfer::start(&site.internet, (site.public(family), 8080), &web, 80),
                    Transfer::start(&web, (Site::far(family), 9000), &site.internet, 9000),
                    Transfer::start(&site.internet, (site.public(family), 9001), &site.host, 9001),
                ];
                transfers.iter().for_each(Transfer::assert_moves);
                for bytes in transfers.into_iter().flat_map(Transfer::finish) {
                    assert!(bytes > 0);
                }
                web.ping(Site::far(family)).expect("ICMP");
                let server = site.internet.udp_listen(Site::far(family), DNS);
                web.udp_ask(Site::far(family), server.port(), "who am I?").expect("UDP");
                site.host.ping(Site::far(family)).expect("the host's own");
            }
        }
    }
}

/// DESIGN invariant 3: the shield runs on while the agent is away, and is replaced under running transfers. One switch takes
/// it off.
#[test]
fn the_shield_outlives_the_agent_and_goes_when_told() {
    let mut scene = Scene::new("--xdp native");
    assert!(scene.is_shielded());
    let web = (*scene.web()).clone();
    let transfer = Transfer::start(&scene.site.internet, (scene.site.public(V4), 8080), &web, 80);
    let before = scene.site.host.state();
    for (options, shielded) in
        [("--xdp native", true), ("--xdp generic", true), ("--xdp off", false), ("--xdp native", true), ("", false)]
    {
        scene.restart(options);
        assert_eq!(scene.is_shielded(), shielded, "{options}");
        transfer.assert_moves();
    }
    scene.restart("--xdp native");
    scene.site.host.state().assert_same_as(&before);
    // With nobody there to count, the stack's silence tells.
    let inside = scene.web().ip(V4);
    scene.site.agent.kill();
    let listening = scene.site.host.briefly().frames(&scene.site.uplink.name);
    scene.send(scene.site.uplink.outside(V4), inside, "unsolicited");
    assert!(listening.next(|frame| frame.ends_with(b"unsolicited")).is_none());
    scene.send(scene.site.uplink.outside(V4), scene.site.public(V4), "for the host");
    assert!(listening.next(|frame| frame.ends_with(b"for the host")).is_some(), "the control");
    transfer.assert_moves();
    scene.site.agent = scene.site.host.agent();
    transfer.finish();
}

/// An uplink that is taken away from the agent loses its shield.
#[test]
fn no_interface_but_an_uplink_has_a_shield() {
    let mut scene = Scene::new("--xdp native");
    assert!(scene.is_shielded());
    let inside = scene.web().ip(V4);
    // What is no uplink is not ours to watch: not even TC drops there, the container's own interface does.
    scene.restart("--xdp native --uplink other");
    let listening = scene.site.host.frames(&scene.site.uplink.name);
    scene.send(scene.site.uplink.outside(V4), inside, "unsolicited");
    assert!(listening.next(|frame| frame.ends_with(b"unsolicited")).is_some());
}
