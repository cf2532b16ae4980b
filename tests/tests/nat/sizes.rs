//! Packets that are too big for the way: errors with the next hop's MTU, and fragments where they are allowed. The uplink takes
//! 1400 bytes, C's network 1300.

use spandrel_tests::V4;

use crate::hops::from_host;
use crate::packet::*;
use crate::path::{SMALL_MTU, UPLINK_MTU};
use crate::sequence::*;

pub fn sequences() -> Vec<Sequence> {
    let text = "x".repeat(1390);
    let small = "x".repeat(1290);
    let question = udp(A, 20000, Far, 53, "question");
    let seen = question.from(Public, 20000).hop();
    let big = udp(A, 20000, Far, 53, &text).dont_fragment();
    let knock = udp(Far, 30000, Public, 5302, "knock");
    let big_knock = udp(Far, 30000, Public, 5302, &small).dont_fragment();
    let segment = tcp(A, 20000, Far, 80, SYN).segment(|segment| segment.data = text.clone().into_bytes());
    let ping = echo(A, Far, 700, &text);
    vec![
        Sequence::new("out: the first packet of a flow")
            .sends(&big)
            .arrives(&too_big(Gateway, &big, UPLINK_MTU))
            .sends(&question)
            .arrives(&seen),
        Sequence::new("out: on an established flow")
            .sends(&question)
            .arrives(&seen)
            .sends(&big)
            .arrives(&too_big(Gateway, &big, UPLINK_MTU))
            .sends(&question)
            .arrives(&seen),
        Sequence::new("out: by TCP and echo")
            .sends(&segment.dont_fragment())
            .arrives(&too_big(Gateway, &segment.dont_fragment(), UPLINK_MTU))
            .sends(&ping.dont_fragment())
            .arrives(&too_big(Gateway, &ping.dont_fragment(), UPLINK_MTU)),
        Sequence::new("out: what just fits").with(|s| {
            // 1400 bytes are 20 or 40 of IP, 20 of TCP and the rest.
            let fits = |len: usize| tcp(A, 20000, Far, 80, SYN).segment(|segment| segment.data = vec![b'x'; len]);
            let fits = fits(1340).dont_fragment();
            s.sends(&fits).arrives(&fits.from(Public, 20000).hop())
        }),
        Sequence::new("from a published port").with(|s| {
            let reply = udp(C, 55, Far, 30000, "who is there?");
            let big = udp(A, 53, Far, 30000, &text).dont_fragment();
            let knock_a = knock.to(Public, 5300);
            s.sends(&knock)
                .arrives(&knock.to(C, 55).hop())
                .sends(&reply)
                .arrives(&reply.from(Public, 5302).hop())
                .sends(&knock_a)
                .arrives(&knock_a.to(A, 53).hop())
                .sends(&big)
                .arrives(&too_big(Gateway, &big, UPLINK_MTU))
        }),
        Sequence::new("to a published port: the first packet")
            .sends(&big_knock)
            .arrives(&too_big(Public, &big_knock, SMALL_MTU))
            .sends(&knock)
            .arrives(&knock.to(C, 55).hop()),
        Sequence::new("to a published port: on an established flow")
            .sends(&knock)
            .arrives(&knock.to(C, 55).hop())
            .sends(&big_knock)
            .arrives(&too_big(Public, &big_knock, SMALL_MTU))
            .sends(&knock)
            .arrives(&knock.to(C, 55).hop()),
        Sequence::new("back to a masqueraded container").with(|s| {
            let question = udp(C, 20000, Far, 53, "question");
            let answer = udp(Far, 53, Public, 20000, &small).dont_fragment();
            s.sends(&question)
                .arrives(&question.from(Public, 20000).hop())
                .sends(&answer)
                .arrives(&too_big(Public, &answer, SMALL_MTU))
        }),
        Sequence::new("between containers, by the host's address").with(|s| {
            let big = udp(A, 20000, Public, 5302, &small).dont_fragment();
            s.sends(&big).with(|s| from_host(s, &too_big(Gateway, &big, SMALL_MTU)))
        }),
        Sequence::new("out: IPv4 packets that may be fragmented are").only(V4).with(|s| {
            let (big, ping) = (udp(A, 20000, Far, 53, &text), ping.clone());
            let segment = segment.clone();
            s.sends(&big)
                .arrives_in_pieces(&big.from(Public, 20000).hop())
                .sends(&big)
                .arrives_in_pieces(&big.from(Public, 20000).hop())
                .sends(&segment)
                .arrives_in_pieces(&segment.from(Public, 20000).hop())
                .sends(&ping)
                .arrives_in_pieces(&ping.from(Public, 700).hop())
        }),
        Sequence::new("from a published port: an IPv4 answer that may be fragmented is").only(V4).with(|s| {
            let (knock, reply) = (knock.to(Public, 5300), udp(A, 53, Far, 30000, &text));
            s.sends(&knock)
                .arrives(&knock.to(A, 53).hop())
                .sends(&reply)
                .arrives_in_pieces(&reply.from(Public, 5300).hop())
        }),
        Sequence::new("in: IPv4 packets that may be fragmented are").only(V4).with(|s| {
            let big = udp(Far, 30000, Public, 5302, &small);
            let question = udp(C, 20000, Far, 53, "question");
            let answer = udp(Far, 53, Public, 20000, &small);
            s.sends(&big)
                .arrives_in_pieces(&big.to(C, 55).hop())
                .sends(&big)
                .arrives_in_pieces(&big.to(C, 55).hop())
                .sends(&question)
                .arrives(&question.from(Public, 20000).hop())
                .sends(&answer)
                .arrives_in_pieces(&answer.to(C, 20000).hop())
        }),
    ]
}

/// The error of the host about a packet that is too big for the way.
fn too_big(by: Place, packet: &Packet, mtu: u32) -> Packet {
    error(by, packet.source, Error::TooBig(mtu), packet).by_host()
}
