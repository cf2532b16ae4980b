//! The shield on uplinks: what is certain to be dropped never reaches the host's stack, and nothing else is touched.
//!
//! Where the shield runs, not even a packet socket of the host sees what it drops; so one can tell whether it was the shield.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use socket2::{Domain, Socket, Type};
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
    /// Of both ends of the cable, the outside one first.
    macs: [[u8; 6]; 2],
}

impl Scene {
    /// The agent is told `options`.
    fn new(options: &str) -> Self {
        let mut site = Site::with_networks(["red"]);
        drop(site.host.run_container("--name web --network red -p 8080:80"));
        site.agent.kill();
        site.agent = site.host.agent_with(options);
        let frames = site.internet.frames(&site.uplink.outside_name);
        let macs = [site.internet.link(&site.uplink.outside_name).mac, site.host.link(&site.uplink.name).mac];
        Self { site, frames, macs }
    }

    fn restart(&mut self, options: &str) {
        self.site.agent.kill();
        self.site.agent = self.site.host.agent_with(options);
    }

    fn web(&self) -> Container<'_> {
        self.site.host.container("web")
    }

    /// Begins a packet up the cable, with these addresses.
    fn packet(&self, from: IpAddr, to: IpAddr) -> PacketBuilderStep<IpHeaders> {
        let ethernet = PacketBuilder::ethernet2(self.macs[0], self.macs[1]);
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            _ => panic!("{from} cannot talk to {to}"),
        }
    }

    /// Sends one datagram up the cable, with these addresses.
    fn send(&self, from: IpAddr, to: IpAddr, text: &str) {
        let mut frame = Vec::new();
        self.packet(from, to).udp(4000, DNS).write(&mut frame, text.as_bytes()).unwrap();
        self.frames.send(&frame);
    }

    /// Sends SYNs up the cable, each from another port.
    fn flood(&self, from: IpAddr, (to, port): (IpAddr, u16), count: u16) {
        for number in 0..count {
            let mut frame = Vec::new();
            self.packet(from, to).tcp(10_000 + number, port, 1, 1000).syn().write(&mut frame, b"").unwrap();
            self.frames.send(&frame);
        }
    }

    fn dropped(&self, reason: &str) -> u64 {
        let drops = self.site.host.spandrel("drops --format json").json_lines();
        let counts = drops.iter().filter(|drop| drop["Reason"] == reason);
        counts.filter_map(|drop| drop["Packets"].as_u64()).sum()
    }

    /// Sends a datagram that must be dropped and counted once, and tells whether a packet socket of the host sees it.
    #[track_caller]
    fn is_seen(&self, from: IpAddr, to: IpAddr, text: &str, reason: &str) -> bool {
        let listening = self.site.host.briefly().frames(&self.site.uplink.name).only_udp();
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
        let listening = self.site.host.frames(&self.site.uplink.name).only_udp();
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

/// Connects from one of the machine's addresses to a [`TcpServer`], and reads how it sees us.
fn connect_from(net: &Net, from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let stream: TcpStream = net.run(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        io::Result::Ok(socket.into())
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = String::new();
    BufReader::new(&stream).read_line(&mut greeting)?;
    assert_eq!(greeting.trim_end().parse::<SocketAddr>().unwrap().ip(), from);
    Ok(stream)
}

/// Sends a word and demands it back.
fn echo(mut stream: &TcpStream, word: &str) {
    stream.write_all(word.as_bytes()).unwrap();
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, word.as_bytes());
}

/// `--rate-limit`: a client that floods a port is cut short and counted, with the shield before the stack sees its packets. Its
/// open connection goes on, and another client is served as ever.
#[test]
fn a_flooding_client_hurts_nobody_else() {
    const SYNS: u16 = 100;
    for (options, shielded) in MODES {
        let scene = Scene::new(options);
        let site = &scene.site;
        site.host.spandrel("publish --rate-limit 2 web 8081:81").ok();
        let web = (*scene.web()).clone();
        for family in Family::BOTH {
            let (flooder, port) = (Site::far(family), (site.public(family), 8081));
            let _server = web.tcp_listen(family.any(), 81);
            let kept = connect_from(&site.internet, flooder, port.into()).expect("within the limit");
            let flooding = |reason: &str| reason == "FloodingClient";
            let before = site.host.dropped("web", flooding);
            let listening = site.host.briefly().frames(&site.uplink.name);
            scene.flood(flooder, port, SYNS);
            // Two come back in a second, so some may pass where the machine is busy.
            let most = u64::from(SYNS) / 2;
            let counted =
                within(PATIENCE, || Some(site.host.dropped("web", flooding) - before).filter(|&count| count > most));
            assert!(counted.is_some(), "{options} {family:?}: {}", site.host.dropped("web", flooding) - before);
            // A SYN without data, and only the flood has such ports.
            let ports = |frame: &[u8]| {
                let at = if family == V4 { 34 } else { 54 };
                frame
                    .get(at..at + 4)
                    .map(|ports| [&ports[..2], &ports[2..]].map(|port| u16::from_be_bytes([port[0], port[1]])))
            };
            let of_flood = |frame: &[u8]| {
                ports(frame).is_some_and(|[from, to]| (10_000..10_000 + SYNS).contains(&from) && to == port.1)
            };
            let seen = std::iter::from_fn(|| listening.next(of_flood)).count() as u64;
            assert_eq!(seen > most, !shielded, "{options} {family:?}: the host sees {seen} of {SYNS}");
            echo(&kept, "still here");
            let other = connect_from(&site.internet, site.uplink.outside(family), port.into()).expect("another client");
            echo(&other, "me too");
            // The other port has no limit.
            let _plain = web.tcp_listen(family.any(), 80);
            connect_from(&site.internet, flooder, (port.0, 8080).into()).expect("another port");
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
    let listening = scene.site.host.briefly().frames(&scene.site.uplink.name).only_udp();
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
