//! Time to live and hop limit, and the errors of the host when they end here (RFC 1812 §5.3.1).

use crate::packet::*;
use crate::sequence::*;

const WHOSE_ERROR: Difference = Difference {
    what: "The host sends an ICMP error about a container's packet to a published port.",
    kernel: "It comes from the address that the packet was for.",
    spandrel: "It comes from the gateway, as about any other packet.",
    reason: "A router's error comes from the interface that faces the sender (RFC 1812 §4.3.2.4).",
};

pub fn sequences() -> Vec<Sequence> {
    let question = udp(A, 20000, Far, 53, "question");
    let seen = question.from(Public, 20000).hop();
    let answer = question.from(Public, 20000).answer("answer");
    let given = answer.to(A, 20000).hop();
    let syn = tcp(A, 20000, Far, 80, SYN);
    let ping = echo(A, Far, 700, "ping");
    let mut all = vec![
        Sequence::new("out: at two it gets through, on an established flow one is too few")
            .sends(&question.ttl(2))
            .arrives(&seen.ttl(1))
            .sends(&question.ttl(1))
            .arrives(&exceeded(Gateway, &question))
            .sends(&question)
            .arrives(&seen),
        Sequence::new("back: at two it gets through, one is too few")
            .sends(&question)
            .arrives(&seen)
            .sends(&answer.ttl(2))
            .arrives(&given.ttl(1))
            .sends(&answer.ttl(1))
            .arrives(&exceeded(Public, &answer))
            .sends(&answer)
            .arrives(&given),
        Sequence::new("to a published port: one is too few for the first packet and for later ones").with(|s| {
            let knock = udp(Far, 30000, Public, 5300, "knock");
            s.sends(&knock.ttl(1))
                .arrives(&exceeded(Public, &knock))
                .sends(&knock.ttl(2))
                .arrives(&knock.to(A, 53).ttl(1))
                .sends(&knock.ttl(1))
                .arrives(&exceeded(Public, &knock))
        }),
        Sequence::new("from a published port").with(|s| {
            let knock = udp(Far, 30000, Public, 5300, "knock");
            let reply = udp(A, 53, Far, 30000, "who is there?");
            s.sends(&knock)
                .arrives(&knock.to(A, 53).hop())
                .sends(&reply.ttl(1))
                .arrives(&exceeded(Gateway, &reply))
                .sends(&reply.ttl(2))
                .arrives(&reply.from(Public, 5300).ttl(1))
        }),
        Sequence::new("to a published port, by TCP").with(|s| {
            let syn = tcp(Far, 30000, Public, 8080, SYN);
            s.sends(&syn.ttl(1))
                .arrives(&exceeded(Public, &syn))
                .sends(&syn)
                .arrives(&syn.to(A, 80).hop())
                .sends(&syn.ttl(1))
                .arrives(&exceeded(Public, &syn))
        }),
    ];
    for (name, first) in [("UDP", &question), ("TCP", &syn), ("echo", &ping)] {
        all.push(
            Sequence::new(format!("the first packet of a flow, {name}"))
                .sends(&first.ttl(1))
                .arrives(&exceeded(Gateway, first))
                .sends(&first.ttl(0))
                .arrives(&error(Gateway, A, Error::TimeExceeded, &first.ttl(0)).by_host()),
        );
    }
    all.push(hairpin());
    all.push(traceroute());
    all
}

/// The error of the host about a packet whose time to live was one.
fn exceeded(by: Place, packet: &Packet) -> Packet {
    error(by, packet.source, Error::TimeExceeded, &packet.ttl(1)).by_host()
}

/// From a container to a port of another one, by the host's address.
fn hairpin() -> Sequence {
    let to_neighbour = udp(A, 20000, Public, 25301, "question");
    let to_other = udp(A, 20000, Public, 5302, "question");
    Sequence::new("between containers, by the host's address")
        .sends(&to_neighbour.ttl(1))
        .with(|s| from_host(s, &exceeded(Gateway, &to_neighbour)))
        .sends(&to_other.ttl(1))
        .with(|s| from_host(s, &exceeded(Gateway, &to_other)))
}

/// The gateway's error about a container's packet to a published port.
pub fn from_host(sequence: Sequence, error: &Packet) -> Sequence {
    sequence.differs(WHOSE_ERROR, |s| s.arrives(&error.source(Public)), |s| s.arrives(error))
}

/// A traceroute from a container: the host is the first hop, then come the routers of the internet.
fn traceroute() -> Sequence {
    let mut sequence = Sequence::new("traceroute");
    for hop in 1..=4_u8 {
        let probe = udp(A, 20010, Far, 33433 + u16::from(hop), "probe").ttl(hop);
        let seen = probe.from(Public, 20010).hop();
        sequence = sequence.sends(&probe);
        sequence = match hop {
            1 => sequence.arrives(&exceeded(Gateway, &probe)),
            4 => sequence
                .arrives(&seen)
                .sends(&error(Far, Public, Error::NoPort, &seen))
                .arrives(&error(Far, A, Error::NoPort, &probe.hop()).hop()),
            _ => sequence
                .arrives(&seen)
                .sends(&error(Router, Public, Error::TimeExceeded, &seen.ttl(1)))
                .arrives(&error(Router, A, Error::TimeExceeded, &probe.ttl(1)).hop()),
        };
    }
    sequence
}
