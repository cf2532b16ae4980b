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
