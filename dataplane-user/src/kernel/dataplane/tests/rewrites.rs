//! Every translation there and back, of each family and protocol, with a checksum and without. What comes out is read to the
//! last checksum. (Checksums that are left to a network card, or were summed up by one: the scenarios of `tests/`, and the fuzzer.)

use std::net::IpAddr;

use super::{packets::*, *};

/// A way that a packet and its answer go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// From container A to the outside, masqueraded.
    Out,
    /// From outside to a published port of A's.
    Published,
    /// From container C, of another network, to that port.
    FromOtherNetwork,
    /// From container B, of the same network.
    Hairpin,
    /// From A itself.
    ToItself,
}

const WAYS: [Way; 5] = [Way::Out, Way::Published, Way::FromOtherNetwork, Way::Hairpin, Way::ToItself];

/// What is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Talk {
    Tcp,
    Udp,
    UnsummedUdp,
    Sctp,
    Echo,
    /// A protocol without ports.
    Esp,
}

const TALKS: [Talk; 6] = [Talk::Tcp, Talk::Udp, Talk::UnsummedUdp, Talk::Sctp, Talk::Echo, Talk::Esp];

/// The client's port, which lies in the pool of those that are given out and is kept, or its identifier.
const CLIENT: u16 = 20_000;
/// The server's port; a published one as the client knows it.
const SERVER: u16 = 8080;
/// The published port in the container.
const INSIDE: u16 = 80;

/// An address with a port.
type Peer = (IpAddr, u16);

impl Talk {
    /// Can it go this way? Published ports are of protocols that have ports; over IPv6 there is always a checksum (RFC 8200 §8.1).
    fn goes(self, way: Way, family: Family) -> bool {
        (way == Way::Out || !matches!(self, Self::Echo | Self::Esp))
            && (self != Self::UnsummedUdp || family == Family::V4)
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Tcp => Protocol::TCP,
            Self::Sctp => Protocol::SCTP,
            _ => Protocol::UDP,
        }
    }

    /// The client's packet to the server, or the server's answer.
    fn payload(self, from: u16, to: u16, answer: bool) -> Payload {
        match self {
            Self::Tcp => Payload::Tcp(from, to, if answer { SYN | ACK } else { SYN }),
            Self::Udp | Self::UnsummedUdp => Payload::Udp(from, to),
            Self::Sctp => Payload::Sctp(from, to, !answer),
            Self::Echo => Payload::Echo(CLIENT, !answer),
            Self::Esp => Payload::Other(ESP),
        }
    }

    fn frame(self, packet: &Packet) -> Vec<u8> {
        let mut frame = packet.frame();
        if self == Self::UnsummedUdp {
            frame[14 + 20 + 6..14 + 20 + 8].fill(0);
        }
        frame
    }
}

/// Who sends, and from which of the two places that see packets.
#[derive(Clone, Copy)]
enum From {
    Container(u32),
    Outside,
}

impl Way {
    /// The client's place and address, and the server's.
    fn client(self, family: Family) -> (From, IpAddr) {
        match self {
            Self::Out | Self::ToItself => (From::Container(A), family.a()),
            Self::Published => (From::Outside, family.outside()),
            Self::FromOtherNetwork => (From::Container(C), family.c()),
            Self::Hairpin => (From::Container(B), family.b()),
        }
    }

    /// Client and server as the client knows them, and as the server does.
    fn peers(self, family: Family) -> [(Peer, Peer); 2] {
        let client = (self.client(family).1, CLIENT);
        match self {
            Self::Out => {
                let server = (family.outside(), SERVER);
                [(client, server), ((family.host(), CLIENT), server)]
            }
            _ => {
                let seen = if self == Self::ToItself { (family.gateway(), CLIENT) } else { client };
                [(client, (family.host(), SERVER)), (seen, (family.a(), INSIDE))]
            }
        }
    }

    /// Where the server is.
    fn server(self) -> From {
        if self == Self::Out { From::Outside } else { From::Container(A) }
    }
}

/// Has a packet sent, and demands what comes out.
fn travels(bench: &mut Bench, from: From, talk: Talk, sent: (Peer, Peer), seen: (Peer, Peer), answer: bool) {
    let payload = |(from, to): (Peer, Peer)| talk.payload(from.1, to.1, answer);
    let (run, ttl) = match from {
        From::Container(slot) => {
            let packet = Packet::new(slot, sent.0.0, sent.1.0, payload(sent));
            (bench.sends(slot, &talk.frame(&packet)), 63)
        }
        From::Outside => {
            let packet = Packet::outside(sent.0.0, sent.1.0, payload(sent));
            (bench.arrives(&talk.frame(&packet)), 59)
        }
    };
    assert_eq!(run.verdict, REDIRECT);
    let got = read(&run.frame);
    assert_eq!((got.source, got.destination), (seen.0.0, seen.1.0));
    assert_eq!((got.payload, got.ttl), (payload(seen), ttl));
    if talk == Talk::UnsummedUdp {
        assert_eq!(run.frame[14 + 20 + 6..14 + 20 + 8], [0, 0], "it stays without");
    }
}

#[test]
fn every_way_there_and_back() {
    on_bench(|bench| {
        let cases = WAYS.into_iter().flat_map(|way| TALKS.map(|talk| (way, talk)));
        for (way, talk) in cases {
            for family in FAMILIES.into_iter().filter(|family| talk.goes(way, *family)) {
                println!("{way:?} {talk:?} {family:?}");
                if way != Way::Out {
                    let mut port = Bench::port(family, SERVER, INSIDE);
                    port.entries[0].protocol = talk.protocol();
                    bench.dataplane.publish(&[port]).unwrap();
                }
                let [near, far] = way.peers(family);
                let turned = |(client, server): (Peer, Peer)| (server, client);
                travels(bench, way.client(family).0, talk, near, far, false);
                travels(bench, way.server(), talk, turned(far), turned(near), true);
                bench.start_anew();
            }
        }
    });
}
