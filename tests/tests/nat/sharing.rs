//! One port, several owners: containers and the host itself, to one destination. Played with real sockets, whose kernels
//! answer, and by two containers at the same instant.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::thread;

use spandrel_tests::*;

use crate::packet::{A, B, Far, Packet, Place, Public, Router, SYN, tcp, udp};
use crate::path::{Kind, Path};

/// A path whose ends answer, and the address on the internet that all want to talk to.
fn scene(kind: Kind) -> Path {
    let path = Path::talkative(kind);
    for (family, prefix) in [(V4, 32), (V6, 128)] {
        path.internet.add_address("lo", Site::far(family), prefix);
    }
    path
}

/// A container holds a port to a destination by UDP, and then the host talks from that port to the same place; and the
/// other way round.
pub fn udp_ports(kind: Kind) {
    let path = scene(kind);
    let [container, ..] = &path.containers;
    for family in Family::BOTH {
        let far = Site::far(family);
        let _server = path.internet.udp_listen(far, 53);
        let server = SocketAddr::new(far, 53);
        for (first, second, port) in [(container, &path.host, 21000), (&path.host, container, 21001)] {
            // The second one comes when the first one has its mapping.
            let sockets = [first, second].map(|net| {
                let socket = net.udp_bind(family.any(), port).expect("a free port");
                let seen_as = ask(&socket, server, "first");
                let seen_as = seen_as.unwrap_or_else(|error| panic!("{} from port {port}: {error}", net.name()));
                (socket, seen_as)
            });
            for turn in 0..3 {
                for (socket, seen_as) in &sockets {
                    let again = ask(socket, server, &format!("turn {turn}")).expect("both still get answers");
                    assert_eq!(again, *seen_as, "the mapping stays");
                }
            }
            assert_eq!(sockets.each_ref().map(|(_, seen_as)| seen_as.ip()), [path.public(family); 2]);
            assert_ne!(sockets[0].1, sockets[1].1, "the server tells them apart");
        }
    }
}

/// A UDP service of the host talks to somebody from its own port, without a connected socket; then a container asks that very
/// place from the same port.
pub fn host_service(kind: Kind) {
    let path = scene(kind);
    let [container, ..] = &path.containers;
    for family in Family::BOTH {
        let far = Site::far(family);
        let peer = path.internet.udp_bind(far, 5353).expect("a free port");
        let service = path.host.udp_bind(family.any(), 21500).expect("a free port");
        service.send_to(b"from the service", (far, 5353)).expect("sent");
        let (_, seen) = receive(&peer);
        assert_eq!(seen, SocketAddr::new(path.public(family), 21500));
        let client = container.udp_bind(family.any(), 21500).expect("a free port");
        client.send_to(b"from a container", (far, 5353)).expect("sent");
        let (text, client_seen) = receive(&peer);
        assert_eq!(text, "from a container");
        assert_ne!(client_seen, seen, "the service's port is not the container's");
        for (to, at) in [(seen, &service), (client_seen, &client), (seen, &service)] {
            peer.send_to(format!("to {to}").as_bytes(), to).expect("sent");
            assert_eq!(receive(at), (format!("to {to}"), SocketAddr::new(far, 5353)));
        }
    }
}

/// A container holds a port to a server by TCP, and then the host connects from that port to the same server; and the
/// other way round.
pub fn tcp_ports(kind: Kind) {
    let path = scene(kind);
    let [container, ..] = &path.containers;
    for family in Family::BOTH {
        let far = Site::far(family);
        let server = path.internet.tcp_listen(far, 80);
        for (first, second, port) in [(container, &path.host, 0), (&path.host, container, 1)] {
            // A closed connection still keeps its port, whatever the family.
            let port = if family == V4 { 22000 } else { 22002 } + port;
            let mut links = [first, second].map(|net| {
                let link = net.tcp_connect_from(port, far, server.port());
                link.unwrap_or_else(|error| panic!("{} from port {port}: {error}", net.name()))
            });
            for turn in 0..3 {
                for link in &mut links {
                    link.echo(&format!("turn {turn}")).expect("both still get answers");
                }
            }
            assert_eq!(links.each_ref().map(|link| link.seen_as.ip()), [path.public(family); 2]);
            assert_ne!(links[0].seen_as, links[1].seen_as, "the server tells them apart");
        }
    }
}

/// Container and host ping one address with one identifier.
pub fn ping_identifiers(kind: Kind) {
    let path = scene(kind);
    let [container, ..] = &path.containers;
    for family in Family::BOTH {
        let router = path.scene(0, family).address(Router);
        // Pings of this process all have one identifier.
        for (first, second, address) in [(container, &path.host, Site::far(family)), (&path.host, container, router)] {
            for net in [first, second, first, second] {
                net.ping(address).unwrap_or_else(|error| panic!("{} pings {address}: {error}", net.name()));
            }
        }
    }
}

/// Two containers open hundreds of equal tuples, each pair in the same instant: no two get one port, and each gets its own
/// answers.
pub fn same_instant(kind: Kind) {
    const ROUNDS: u16 = 300;
    let path = Path::new(kind);
    for family in Family::BOTH {
        for (turn, make) in [datagram as fn(Place, u16) -> Packet, segment].into_iter().enumerate() {
            let scene = path.scene(turn, family);
            let barrier = Barrier::new(2);
            thread::scope(|scope| {
                for place in [A, B] {
                    let (path, scene, barrier) = (&path, &scene, &barrier);
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            barrier.wait();
                            path.tap(place).send(&make(place, round), scene);
                        }
                    });
                }
            });
            // The owner and the round are told by the class of service and the destination port.
            let (mut seen, all) = (BTreeMap::new(), 2 * usize::from(ROUNDS));
            while let Some(arrival) = path.tap(Far).next(SILENCE) {
                let at = if family == V4 { 20 } else { 40 };
                let port = |at: usize| u16::from_be_bytes([arrival.bytes[at], arrival.bytes[at + 1]]);
                let class = if family == V4 { arrival.bytes[1] } else { arrival.bytes[0] << 4 | arrival.bytes[1] >> 4 };
                let place = if class == class_of(A) { A } else { B };
                let before = seen.insert((port(at + 2), port(at)), place);
                assert_eq!(before, None, "two containers have port {} to {}", port(at), port(at + 2));
                if seen.len() == all {
                    break;
                }
            }
            // The kernel drops a packet that loses the race for a port; ours must not.
            let least = if kind == Kind::Spandrel { all } else { all / 2 };
            assert!(seen.len() >= least, "only {} of {all} packets arrived", seen.len());
            for ((destination, port), place) in seen {
                let round = destination - 1000;
                let sent = make(place, round);
                let answer = sent.from(Public, port).answer("");
                path.tap(Far).send(&answer, &scene);
                let given = path.tap(place).next(PATIENCE).expect("the answer");
                let expected = answer.to(place, 23000).hop().bytes(&scene);
                assert_eq!(
                    given.bytes,
                    expected,
                    "{} instead of {}",
                    scene.shown(&given.bytes),
                    scene.shown(&expected)
                );
            }
        }
    }
}

fn class_of(place: Place) -> u8 {
    if place == A { 0x20 } else { 0x40 }
}

fn datagram(place: Place, round: u16) -> Packet {
    udp(place, 23000, Far, 1000 + round, "mine").class(class_of(place))
}

fn segment(place: Place, round: u16) -> Packet {
    tcp(place, 23000, Far, 1000 + round, SYN).class(class_of(place))
}

/// A datagram as text, and its sender.
fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 256];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), from)
}

/// The address that the internet knows the host by.
trait PublicAddress {
    fn public(&self, family: Family) -> IpAddr;
}

impl PublicAddress for Path {
    fn public(&self, family: Family) -> IpAddr {
        self.scene(0, family).address(Public)
    }
}
