//! Protocols without ports, SCTP, IP options and IPv6 extension headers.

use spandrel_tests::{V4, V6};

use crate::packet::*;
use crate::sequence::*;

/// Numbers of protocols that are translated by address alone.
const GRE: u8 = 47;
const ESP: u8 = 50;
const UNKNOWN: u8 = 253;

pub fn sequences() -> Vec<Sequence> {
    let mut all: Vec<_> = [("GRE", GRE), ("ESP", ESP), ("an unknown one", UNKNOWN)]
        .into_iter()
        .flat_map(|(name, number)| by_address(name, number))
        .collect();
    all.extend(sctp_flows());
    all.extend([
        ipv4_options(),
        record_route(),
        source_route(),
        extension_headers(),
        extension_headers_back(),
        atomic_fragment(),
    ]);
    all
}

/// Out and back, nobody else's, and not from outside.
fn by_address(name: &str, number: u8) -> Vec<Sequence> {
    // A GRE header of version 0 without a key; for the others it is just data.
    let packet = other(A, Far, number, &[0, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let seen = packet.source(Public).hop();
    let back = other(Far, Public, number, &[0, 0, 8, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    let given = back.destination(A).hop();
    let new = |what: &str| Sequence::new(format!("{name}: {what}"));
    vec![
        new("out and back")
            .sends(&packet)
            .arrives(&seen)
            .sends(&back)
            .arrives(&given)
            .sends(&packet.ttl(1))
            .arrives(&error(Gateway, A, Error::TimeExceeded, &packet.ttl(1)).by_host()),
        new("errors about it")
            .sends(&packet)
            .arrives(&seen)
            .sends(&error(Router, Public, Error::NoHost, &seen.ttl(57)))
            .arrives(&error(Router, A, Error::NoHost, &packet.ttl(57)).hop()),
        new("two containers to one destination, and to two")
            .sends(&packet)
            .arrives(&seen)
            .sends(&packet.source(B))
            .nothing_arrives()
            .sends(&packet.source(B).destination(Else))
            .arrives(&seen.destination(Else))
            .sends(&back.source(Else))
            .arrives(&given.source(Else).destination(B))
            .sends(&back)
            .arrives(&given),
    ]
}

/// INIT and its answer, data, and who may not.
fn sctp_flows() -> Vec<Sequence> {
    // Type, flags, length, then what RFC 9260 §3.3 says; the values mean nothing to a translator.
    let init = [&[1, 0, 0, 20][..], &[0, 0, 0, 9, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]].concat();
    let init_ack = [&[2, 0, 0, 20][..], &[0, 0, 0, 8, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 2]].concat();
    let data = [&[0, 3, 0, 20][..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], b"data"].concat();
    let out = sctp(A, 20000, Far, 80, &init);
    let seen = out.from(Public, 20000).hop();
    let back = sctp(Far, 80, Public, 20000, &init_ack).tag(9);
    let given = back.to(A, 20000).hop();
    let more = sctp(A, 20000, Far, 80, &[10, 0, 0, 8, 1, 2, 3, 4]).tag(8);
    let more_back = sctp(Far, 80, Public, 20000, &[11, 0, 0, 4]).tag(9);
    let last = sctp(A, 20000, Far, 80, &data).tag(8);
    let knock = sctp(Far, 30000, Public, 9900, &init);
    let accept = sctp(A, 99, Far, 30000, &init_ack).tag(9);
    vec![
        Sequence::new("SCTP: an association from INIT to data")
            .sends(&out)
            .arrives(&seen)
            .sends(&back)
            .arrives(&given)
            .sends(&more)
            .arrives(&more.from(Public, 20000).hop())
            .sends(&more_back)
            .arrives(&more_back.to(A, 20000).hop())
            .sends(&last)
            .arrives(&last.from(Public, 20000).hop()),
        Sequence::new("SCTP: two containers from one port to one server")
            .sends(&out)
            .arrives(&seen)
            .sends(&out.source(B))
            .arrives(&seen.from(Public, 'b'))
            .sends(&back.to(Public, 'b'))
            .arrives(&given.destination(B))
            .sends(&back)
            .arrives(&given),
        Sequence::new("SCTP: to a published port")
            .sends(&knock)
            .arrives(&knock.to(A, 99).hop())
            .sends(&accept)
            .arrives(&accept.from(Public, 9900).hop())
            .sends(&knock)
            .arrives(&knock.to(A, 99).hop()),
        Sequence::new("SCTP: errors about it")
            .sends(&out)
            .arrives(&seen)
            .sends(&error(Router, Public, Error::NoHost, &seen.ttl(57)).quoting(8))
            .arrives(&error(Router, A, Error::NoHost, &out.ttl(57)).quoting(8).hop()),
    ]
}

/// Options that do nothing, on every kind of packet, out and back.
fn ipv4_options() -> Sequence {
    let nops = [1, 1, 1, 0];
    let question = udp(A, 20000, Far, 53, "question").options(&nops);
    let syn = tcp(A, 20000, Far, 80, SYN).options(&nops);
    let ping = echo(A, Far, 700, "ping").options(&nops);
    let knock = udp(Far, 30000, Public, 5300, "knock").options(&nops);
    let reply = udp(A, 53, Far, 30000, "reply").options(&nops);
    let mut sequence = Sequence::new("IPv4 options on every kind of packet").only(V4);
    for packet in [question, syn, ping] {
        let seen = packet.source(Public).hop();
        let answer = packet.source(Public).answer("answer").options(&nops);
        sequence = sequence
            .sends(&packet)
            .arrives(&seen)
            .sends(&answer)
            .arrives(&answer.destination(A).hop())
            .sends(&packet)
            .arrives(&seen);
    }
    sequence.sends(&knock).arrives(&knock.to(A, 53).hop()).sends(&reply).arrives(&reply.from(Public, 5300).hop())
}

/// The host notes itself in the option, as every router does (RFC 791).
fn record_route() -> Sequence {
    let empty = [7, 7, 4, 0, 0, 0, 0, 0];
    let [a, b, c, d] = [198, 18, 1, 2];
    let filled = [7, 7, 8, a, b, c, d, 0];
    let question = udp(A, 20000, Far, 53, "question").options(&empty);
    Sequence::new("an IPv4 option that records the route")
        .only(V4)
        .sends(&question)
        .arrives(&question.source(Public).options(&filled).hop())
        .sends(&question)
        .arrives(&question.source(Public).options(&filled).hop())
}

/// A route that the sender wants is refused as the host's kernel is set up: not at all by default.
fn source_route() -> Sequence {
    let to_else = [131, 7, 4, 198, 51, 100, 1, 0];
    let question = udp(A, 20000, Far, 53, "question").options(&to_else);
    Sequence::new("an IPv4 option that asks for another route").only(V4).sends(&question).nothing_arrives()
}

/// Hop-by-hop and destination options with padding, and a routing header that is used up.
fn with_extensions(packet: &Packet) -> [Packet; 4] {
    let padding = [0, 1, 4, 0, 0, 0, 0];
    let hop_by_hop = packet.extension(0, &padding);
    let destination = packet.extension(60, &padding);
    let both = hop_by_hop.extension(60, &padding);
    // Routing type 2 with no segments left.
    let routing = packet.extension(43, &[0, 2, 0, 0, 0, 0, 0]);
    [hop_by_hop, destination, both, routing]
}

fn extension_headers() -> Sequence {
    let packets = [udp(A, 20000, Far, 53, "question"), tcp(A, 20000, Far, 80, SYN), echo(A, Far, 700, "ping")];
    let mut sequence = Sequence::new("IPv6 extension headers on every kind of packet").only(V6);
    for packet in packets.iter().flat_map(with_extensions) {
        sequence = sequence.sends(&packet).arrives(&packet.source(Public).hop());
    }
    sequence
}

fn extension_headers_back() -> Sequence {
    let packets = [udp(A, 20000, Far, 53, "question"), echo(A, Far, 700, "ping")];
    let mut sequence = Sequence::new("IPv6 extension headers on answers and to published ports").only(V6);
    for packet in packets {
        let seen = packet.source(Public).hop();
        sequence = sequence.sends(&packet).arrives(&seen);
        for answer in with_extensions(&seen.answer("answer")) {
            sequence = sequence.sends(&answer).arrives(&answer.destination(A).hop());
        }
    }
    for knock in with_extensions(&udp(Far, 30000, Public, 5300, "knock")) {
        sequence = sequence.sends(&knock).arrives(&knock.to(A, 53).hop());
    }
    for reply in with_extensions(&udp(A, 53, Far, 30000, "reply")) {
        sequence = sequence.sends(&reply).arrives(&reply.from(Public, 5300).hop());
    }
    sequence
}

/// A fragment header on a packet that is whole (RFC 6946).
fn atomic_fragment() -> Sequence {
    let question = udp(A, 20000, Far, 53, "question");
    Sequence::new("an IPv6 packet with a fragment header that is whole")
        .only(V6)
        .sends(&question.piece(0..64, false))
        .arrives_in_pieces(&question.source(Public).hop())
}
