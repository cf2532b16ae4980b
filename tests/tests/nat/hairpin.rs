//! Containers that reach published ports by the host's address (RFC 4787 REQ-9): their own, a neighbour's, another network's.

use crate::connection::Connection;
use crate::packet::*;
use crate::sequence::*;

const HAIRPIN: Difference = Difference {
    what: "A container reaches a port that another container publishes, by an address of the host.",
    kernel: "The server sees a gateway's address.",
    spandrel: "The server sees the client's own address.",
    reason: "Servers log and judge their clients by address.",
};

pub fn sequences() -> Vec<Sequence> {
    let mut all = vec![itself(), errors(), private()];
    for (name, gateway, server, [outer, inner], [outer_udp, inner_udp]) in [
        ("a neighbour's port", Gateway, B, [28081, 81], [25301, 54]),
        ("a port of another network", OtherGateway, C, [8082, 82], [5302, 55]),
    ] {
        let sent = tcp(A, 20000, Public, outer, 0);
        let by_tcp = |client: Place| {
            let (sent, seen) = (sent.clone(), tcp(client, 20000, server, inner, 0));
            move |s| Connection::between(s, &sent, &seen).open().talk().close().done()
        };
        let question = udp(A, 20000, Public, outer_udp, "question");
        let by_udp = |client: Place| {
            let (sent, seen) = (question.clone(), question.source(client).to(server, inner_udp));
            let answer = seen.answer("answer");
            move |s: Sequence| {
                s.sends(&sent)
                    .arrives(&seen.hop())
                    .sends(&answer)
                    .arrives(&sent.answer("answer").hop())
                    .sends(&sent)
                    .arrives(&seen.hop())
            }
        };
        all.push(Sequence::new(format!("{name}, by TCP")).differs(HAIRPIN, by_tcp(gateway), by_tcp(A)));
        all.push(Sequence::new(format!("{name}, by UDP")).differs(HAIRPIN, by_udp(gateway), by_udp(A)));
    }
    all
}

/// To itself: it would not answer to its own address by way of the host, so it sees the gateway.
fn itself() -> Sequence {
    let question = udp(A, 20000, Public, 5300, "question");
    Sequence::new("its own port")
        .sends(&question)
        .arrives(&question.from(Gateway, 'p').to(A, 53).hop())
        .sends(&udp(A, 53, Gateway, 'p', "answer"))
        .arrives(&udp(Public, 5300, A, 20000, "answer").hop())
}

/// The server's error about what it received.
fn errors() -> Sequence {
    let question = udp(A, 20000, Public, 25301, "question");
    let play = |client: Place| {
        let seen = question.source(client).to(B, 54).hop();
        let question = question.clone();
        move |s: Sequence| {
            s.sends(&question)
                .arrives(&seen)
                .sends(&error(B, client, Error::NoPort, &seen))
                .arrives(&error(Public, A, Error::NoPort, &question.hop()).hop())
        }
    };
    Sequence::new("a neighbour's error").differs(HAIRPIN, play(Gateway), play(A))
}

/// A port that is published does not open the container's address to another network.
fn private() -> Sequence {
    Sequence::new("not by the container's own address")
        .sends(&udp(A, 20000, C, 55, "question"))
        .nothing_arrives()
        .sends(&tcp(A, 20000, C, 82, SYN))
        .nothing_arrives()
        .sends(&udp(Far, 20000, A, 53, "question"))
        .nothing_arrives()
        .sends(&tcp(Far, 20000, A, 80, SYN))
        .nothing_arrives()
}
