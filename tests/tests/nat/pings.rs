//! ICMP queries: echo and timestamp (RFC 5508 §3).

use spandrel_tests::V4;

use crate::packet::*;
use crate::sequence::*;

const REPLY: Difference = Difference {
    what: "A container sends an echo reply that nobody has asked for.",
    kernel: "It is invalid and leaves as it is, with the container's private address.",
    spandrel: "It is dropped.",
    reason: "No private address leaves the host.",
};

pub fn sequences() -> Vec<Sequence> {
    let ping = echo(A, Far, 700, "are you there?");
    let seen = ping.source(Public).hop();
    let pong = ping.source(Public).answer("are you there?");
    let given = pong.destination(A).hop();
    let ping_b = ping.source(B);
    let pong_b = given.from(Far, 700).destination(B);
    vec![
        Sequence::new("request and reply")
            .sends(&ping)
            .arrives(&seen)
            .sends(&pong)
            .arrives(&given)
            .sends(&ping)
            .arrives(&seen),
        Sequence::new("one identifier to two destinations")
            .sends(&ping)
            .arrives(&seen)
            .sends(&ping.destination(Else))
            .arrives(&seen.destination(Else))
            .sends(&pong)
            .arrives(&given)
            .sends(&pong.source(Else))
            .arrives(&given.source(Else)),
        Sequence::new("two containers with one identifier")
            .sends(&ping)
            .arrives(&seen)
            .sends(&ping_b)
            .arrives(&seen.from(Public, 'b'))
            .sends(&pong.from(Far, 'b'))
            .arrives(&pong_b)
            .sends(&pong)
            .arrives(&given),
        Sequence::new("a reply from somebody else")
            .sends(&ping)
            .arrives(&seen)
            .sends(&pong.source(Else))
            .nothing_arrives(),
        Sequence::new("the host answers for itself, whatever containers do").with(|s| {
            let question = echo(Far, Public, 700, "and you, host?");
            let answer = question.answer("and you, host?").by_host();
            s.sends(&question)
                .arrives(&answer)
                .sends(&ping)
                .arrives(&seen)
                .sends(&question)
                .arrives(&answer)
                .sends(&pong)
                .arrives(&given)
        }),
        Sequence::new("a container's reply to a request that was not for it").with(|s| {
            let stray = echo(Far, A, 700, "reply").answer("reply");
            let differs = |s: Sequence| {
                s.differs(REPLY, |s| s.sends(&stray).arrives(&stray.hop()), |s| s.sends(&stray).nothing_arrives())
            };
            // Without a request of its own, and with one.
            s.with(differs).sends(&ping).arrives(&seen).with(differs)
        }),
        Sequence::new("timestamp and its reply").only(V4).with(|s| {
            // Type, checksum, identifier, number, and three times.
            let request = other(A, Far, 1, &[13, 0, 0xf0, 0xfc, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let reply = other(Far, Public, 1, &[14, 0, 0xef, 0xf7, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1]);
            s.sends(&request).arrives(&request.source(Public).hop()).sends(&reply).arrives(&reply.destination(A).hop())
        }),
    ]
}
