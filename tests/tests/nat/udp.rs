//! UDP: ports, checksums, and who may answer (RFC 4787).

use spandrel_tests::{V4, V6};

use crate::packet::*;
use crate::sequence::*;

pub const PORT_RANGE: Difference = Difference {
    what: "A container sends from a port below 9000 or in the host's ephemeral range.",
    kernel: "The port is kept while it is free.",
    spandrel: "A port of the pool takes its place, the same for every destination.",
    reason: "Ports of the host's services and of its own connections are never given away (RFC 6056 §3.2).",
};

pub const PUBLISHED_PORT: Difference = Difference {
    what: "A container sends from a port whose number is published on the host.",
    kernel: "The port is kept; a client of the published port that comes from there is led to the wrong container.",
    spandrel: "Another port is chosen.",
    reason: "A published port is never shared.",
};

pub fn sequences() -> Vec<Sequence> {
    let question = udp(A, 20000, Far, 53, "question");
    let seen = question.from(Public, 20000).hop();
    let answer = question.from(Public, 20000).answer("answer");
    let given = answer.to(A, 20000).hop();
    vec![
        Sequence::new("a question and its answer")
            .sends(&question)
            .arrives(&seen)
            .sends(&answer)
            .arrives(&given)
            .sends(&question)
            .arrives(&seen),
        Sequence::new("a datagram without data, and one of odd length")
            .sends(&udp(A, 20000, Far, 53, ""))
            .arrives(&udp(Public, 20000, Far, 53, "").hop())
            .sends(&udp(Far, 53, Public, 20000, "odd"))
            .arrives(&udp(Far, 53, A, 20000, "odd").hop()),
        Sequence::new("the class of service is kept both ways")
            .sends(&question.class(0xb9))
            .arrives(&seen.class(0xb9))
            .sends(&answer.class(0x2e))
            .arrives(&given.class(0x2e)),
        Sequence::new("identification and the flag that forbids fragments are kept")
            .only(V4)
            .sends(&question.dont_fragment().id(0))
            .arrives(&seen.dont_fragment().id(0))
            .sends(&answer.dont_fragment().id(0xffff))
            .arrives(&given.dont_fragment().id(0xffff)),
        Sequence::new("a port outside the pool").with(|s| ports(s, 4000)),
        Sequence::new("a port of the system's").with(|s| ports(s, 53)),
        Sequence::new("a port of the host's ephemeral range").with(|s| ports(s, 40000)),
        Sequence::new("a port that is published").differs(
            PUBLISHED_PORT,
            |s| s.sends(&question.from(A, 25301)).arrives(&seen.from(Public, 25301)),
            |s| {
                s.sends(&question.from(A, 25301))
                    .arrives(&seen.from(Public, 'p'))
                    // The published port is free for a client that comes from the very place.
                    .sends(&udp(Far, 53, Public, 25301, "hello"))
                    .arrives(&udp(Far, 53, B, 54, "hello").hop())
                    .sends(&answer.to(Public, 'p'))
                    .arrives(&given.to(A, 25301))
            },
        ),
        Sequence::new("two containers ask from one port")
            .sends(&question)
            .arrives(&seen)
            .sends(&question.source(B))
            .arrives(&seen.from(Public, 'p'))
            .sends(&answer.to(Public, 'p'))
            .arrives(&given.to(B, 20000))
            .sends(&answer)
            .arrives(&given)
            .sends(&question)
            .arrives(&seen),
        Sequence::new("nobody else may answer: not another port, and not another address")
            .sends(&question)
            .arrives(&seen)
            .sends(&answer.from(Far, 54))
            .arrives(&error(Public, Far, Error::NoPort, &answer.from(Far, 54)).by_host())
            .sends(&answer.from(Else, 53))
            .arrives(&error(Public, Else, Error::NoPort, &answer.from(Else, 53)).by_host())
            .sends(&answer)
            .arrives(&given),
        Sequence::new("a published port")
            .sends(&udp(Far, 30000, Public, 5300, "question"))
            .arrives(&udp(Far, 30000, A, 53, "question").hop())
            .sends(&udp(A, 53, Far, 30000, "answer"))
            .arrives(&udp(Public, 5300, Far, 30000, "answer").hop())
            .sends(&udp(Else, 30000, Public, 5300, "and me"))
            .arrives(&udp(Else, 30000, A, 53, "and me").hop())
            .sends(&udp(A, 53, Else, 30000, "you, too"))
            .arrives(&udp(Public, 5300, Else, 30000, "you, too").hop()),
        Sequence::new("published ports of two containers")
            .sends(&udp(Far, 30000, Public, 25301, "b"))
            .arrives(&udp(Far, 30000, B, 54, "b").hop())
            .sends(&udp(Far, 30000, Public, 5302, "c"))
            .arrives(&udp(Far, 30000, C, 55, "c").hop())
            .sends(&udp(C, 55, Far, 30000, "from c"))
            .arrives(&udp(Public, 5302, Far, 30000, "from c").hop())
            .sends(&udp(B, 54, Far, 30000, "from b"))
            .arrives(&udp(Public, 25301, Far, 30000, "from b").hop()),
        Sequence::new("IPv4: no checksum stays none").only(V4).with(|s| summed(s, Sum::Absent)),
        // RFC 6936 allows it to tunnels: the far end knows whether it wants that.
        Sequence::new("IPv6: no checksum stays none").only(V6).with(|s| summed(s, Sum::Absent)),
        Sequence::new("a checksum that is left to the hardware").with(|s| {
            let [out, back] = [&question, &answer].map(|packet| packet.sum(Sum::Offloaded));
            s.sends(&out).arrives(&seen).sends(&back).arrives(&given)
        }),
        Sequence::new("a published port and a checksum that is left to the hardware")
            .sends(&udp(Far, 30000, Public, 5300, "question").sum(Sum::Offloaded))
            .arrives(&udp(Far, 30000, A, 53, "question").hop())
            .sends(&udp(A, 53, Far, 30000, "answer").sum(Sum::Offloaded))
            .arrives(&udp(Public, 5300, Far, 30000, "answer").hop()),
        Sequence::new("three datagrams that are left to the hardware").with(|s| {
            let text = "x".repeat(3000);
            let out = udp(A, 20000, Far, 53, &text).segments_of(1000);
            let back = udp(Far, 53, Public, 20000, &text).segments_of(1000);
            let given = |packet: &Packet| packet.hop().sum(Sum::Right);
            s.sends(&question)
                .arrives(&seen)
                .sends(&out)
                .arrives(&given(&out.source(Public)))
                .sends(&back)
                .arrives(&given(&back.destination(A)))
        }),
        Sequence::new("a checksum that becomes zero is written as ones")
            .sends(&question.filled_for(&seen))
            .arrives(&seen.filled_for(&seen))
            .sends(&answer.filled_for(&given))
            .arrives(&given.filled_for(&given)),
        Sequence::new("a checksum of ones becomes another one")
            .sends(&question.filled_for(&question))
            .arrives(&seen.filled_for(&question))
            .sends(&answer.filled_for(&answer))
            .arrives(&given.filled_for(&answer)),
    ]
}

/// Questions from a port that is not in the pool.
fn ports(sequence: Sequence, port: u16) -> Sequence {
    let question = udp(A, port, Far, 54, "question");
    let seen = question.source(Public).hop();
    let answer = question.source(Public).answer("answer");
    let given = answer.to(A, port).hop();
    sequence.differs(
        PORT_RANGE,
        |s| s.sends(&question).arrives(&seen).sends(&answer).arrives(&given),
        |s| {
            s.sends(&question)
                .arrives(&seen.from(Public, 'p'))
                .sends(&answer.to(Public, 'p'))
                .arrives(&given)
                // Endpoint-independent: RFC 4787 REQ-1.
                .sends(&question.to(Else, 99))
                .arrives(&seen.from(Public, 'p').to(Else, 99))
        },
    )
}

/// A question and an answer with such checksums, which arrive with the same.
fn summed(sequence: Sequence, sum: Sum) -> Sequence {
    let question = udp(A, 20000, Far, 53, "question").sum(sum.clone());
    let answer = question.from(Public, 20000).answer("answer").sum(sum.clone());
    sequence
        .sends(&question)
        .arrives(&question.from(Public, 20000).hop())
        .sends(&answer)
        .arrives(&answer.to(A, 20000).hop())
        .sends(&udp(Far, 30000, Public, 5300, "question").sum(sum.clone()))
        .arrives(&udp(Far, 30000, A, 53, "question").sum(sum.clone()).hop())
        .sends(&udp(A, 53, Far, 30000, "answer").sum(sum.clone()))
        .arrives(&udp(Public, 5300, Far, 30000, "answer").sum(sum.clone()).hop())
}
