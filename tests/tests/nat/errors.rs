//! ICMP errors about translated flows (RFC 5508 §4 and §5, RFC 4787 REQ-12): they find who they are for, and what they quote
//! looks to him as he sent it.

use std::fmt::Write;

use spandrel_tests::V4;

use crate::packet::*;
use crate::sequence::*;
use crate::strays::WRONG_IN_FLOW;

const LEAK: Difference = Difference {
    what: "A container sends an ICMP error about a packet that it never received.",
    kernel: "It leaves as it is, with the container's private address.",
    spandrel: "It is dropped.",
    reason: "No private address leaves the host.",
};

const CUT_CHECKSUM: Difference = Difference {
    what: "An ICMP error quotes 18 or 19 bytes of a TCP segment: the checksum is among them, the header is not whole.",
    kernel: "The quoted checksum stays as the outside saw it.",
    spandrel: "The quoted checksum is restored.",
    reason: "Whatever is quoted is restored (RFC 5508 REQ-4).",
};

/// What routers and hosts on the internet may have to say.
const KINDS: [Error; 6] =
    [Error::NoHost, Error::Prohibited, Error::NoPort, Error::TimeExceeded, Error::TooBig(1280), Error::Parameter(9)];

/// A flow: its first packet as it is sent and as it is seen, and what comes back.
struct Flow {
    name: &'static str,
    sent: Packet,
    seen: Packet,
    back: Packet,
    given: Packet,
}

pub fn sequences() -> Vec<Sequence> {
    let flows = flows();
    let mut all = Vec::new();
    for flow in &flows {
        all.push(every_kind(flow));
        all.push(however_much(flow));
        all.push(many(flow));
        all.push(about_answers(flow));
        all.push(no_flow(flow));
    }
    all.extend([
        redirect(&flows[0]),
        fragment_quoted(&flows[0]),
        wrong_sum(&flows[0]),
        published_server(),
        options_quoted(),
    ]);
    all
}

fn flows() -> [Flow; 6] {
    let question = udp(A, 20000, Far, 53, "question");
    let answer = question.from(Public, 20000).answer("answer");
    let syn = tcp(A, 20000, Far, 80, SYN);
    let refusal = syn.from(Public, 20000).answer("").segment(|segment| segment.flags = SYN | ACK);
    let ping = echo(A, Far, 700, "are you there?");
    let pong = ping.source(Public).answer("are you there?");
    let knock = udp(Far, 30000, Public, 5300, "knock");
    let reply = udp(A, 53, Far, 30000, "who is there?");
    let call = tcp(Far, 30000, Public, 8080, SYN);
    let accept = call.to(A, 80).answer("").segment(|segment| segment.flags = SYN | ACK);
    let chosen = udp(B, 4000, Far, 53, "question");
    let chosen_answer = chosen.from(Public, 'p').answer("answer");
    [
        Flow {
            name: "UDP out",
            seen: question.from(Public, 20000).hop(),
            given: answer.to(A, 20000).hop(),
            sent: question,
            back: answer,
        },
        Flow {
            name: "TCP out",
            seen: syn.from(Public, 20000).hop(),
            given: refusal.to(A, 20000).hop(),
            sent: syn,
            back: refusal,
        },
        Flow {
            name: "echo out",
            seen: ping.source(Public).hop(),
            given: pong.destination(A).hop(),
            sent: ping,
            back: pong,
        },
        Flow {
            name: "UDP to a published port",
            seen: knock.to(A, 53).hop(),
            given: reply.from(Public, 5300).hop(),
            sent: knock,
            back: reply,
        },
        Flow {
            name: "TCP to a published port",
            seen: call.to(A, 80).hop(),
            given: accept.from(Public, 8080).hop(),
            sent: call,
            back: accept,
        },
        Flow {
            name: "UDP out with another port",
            seen: chosen.from(Public, 'p').hop(),
            given: chosen_answer.to(B, 4000).hop(),
            sent: chosen,
            back: chosen_answer,
        },
    ]
}

impl Flow {
    fn sequence(&self, name: &str) -> Sequence {
        let mut title = self.name.to_owned();
        // A string can be written to.
        let _ = write!(title, ": {name}");
        Sequence::new(title).sends(&self.sent).arrives(&self.seen)
    }

    /// An error about the flow's first packet, which met it a few hops behind the host or in the container: as it is sent,
    /// and as it must arrive.
    fn error(&self, kind: Error) -> [Packet; 2] {
        let (seen, sent) = match self.seen.destination {
            // On the internet, some hops later.
            Far => (self.seen.ttl(57), self.sent.ttl(57)),
            // In the container, as it came.
            _ => (self.seen.clone(), self.sent.hop()),
        };
        let [by, shown_as] = match self.seen.destination {
            Far => [Router, Router],
            container => [container, Public],
        };
        let to = self.sent.source;
        [error(by, self.seen.source, kind, &seen), error(shown_as, to, kind, &sent).hop()]
    }

    /// The answer still gets through: the mapping is what it was.
    fn is_alive(&self, sequence: Sequence) -> Sequence {
        sequence.sends(&self.back).arrives(&self.given)
    }
}

fn every_kind(flow: &Flow) -> Sequence {
    let mut sequence = flow.sequence("errors of every kind");
    for [sent, given] in KINDS.map(|kind| flow.error(kind)) {
        sequence = sequence.sends(&sent).arrives(&given);
    }
    flow.is_alive(sequence)
}

/// Eight bytes are what RFC 792 asks for; then parts of a TCP header without and with its checksum.
fn however_much(flow: &Flow) -> Sequence {
    let mut sequence = flow.sequence("however much is quoted");
    let [sent, given] = flow.error(Error::NoHost);
    for bytes in [8, 9, 12, 16, 20, 21] {
        sequence = sequence.sends(&sent.quoting(bytes)).arrives(&given.quoting(bytes));
    }
    if let Body::Tcp { .. } = flow.sent.body {
        let unrestored = given.about(|about| about.sum(Sum::Of(Box::new(flow.seen.clone()))));
        sequence = sequence.differs(
            CUT_CHECKSUM,
            |s| s.sends(&sent.quoting(18)).arrives(&unrestored.quoting(18)),
            |s| s.sends(&sent.quoting(18)).arrives(&given.quoting(18)),
        );
    }
    // Less tells nobody whom it is for.
    sequence = sequence.sends(&sent.quoting(7)).nothing_arrives().with(|s| unwanted(s, &sent.quoting(0)));
    flow.is_alive(sequence)
}

fn many(flow: &Flow) -> Sequence {
    let mut sequence = flow.sequence("many errors do not end it");
    for kind in KINDS.into_iter().cycle().take(100) {
        let [sent, given] = flow.error(kind);
        sequence = sequence.sends(&sent).arrives(&given);
    }
    flow.is_alive(sequence)
}

/// The side that opened the flow complains about an answer.
fn about_answers(flow: &Flow) -> Sequence {
    let sequence = flow.sequence("errors about what comes back").sends(&flow.back).arrives(&flow.given);
    let (sent, given) = match flow.sent.source {
        Far => (
            error(Router, Public, Error::NoHost, &flow.given.ttl(57)),
            error(Router, flow.back.source, Error::NoHost, &flow.back.ttl(57)),
        ),
        container => {
            (error(container, Far, Error::NoPort, &flow.given), error(Public, Far, Error::NoPort, &flow.back.hop()))
        }
    };
    flow.is_alive(sequence.sends(&sent).arrives(&given.hop()))
}

/// An error that quotes what nobody has sent.
fn no_flow(flow: &Flow) -> Sequence {
    let mut sequence = flow.sequence("errors about no flow");
    let [sent, _] = flow.error(Error::NoHost);
    let Body::Error { about, .. } = &sent.body else { unreachable!("it is an error") };
    let others = match &about.body {
        Body::Echo { .. } => vec![about.from(about.source, 701), about.destination(Else)],
        _ => vec![about.from(about.source, 20999), about.to(about.destination, 54), about.destination(Else)],
    };
    for about in others {
        // What a container must not send in its own name is not what is tested here.
        let about =
            if about.destination == Else && sent.source != Router { about.destination(sent.source) } else { about };
        let stray = error(sent.source, sent.destination, Error::NoHost, &about);
        if stray != sent {
            sequence = sequence.with(|s| unwanted(s, &stray));
        }
    }
    flow.is_alive(sequence)
}

/// An error that must not get through.
fn unwanted(sequence: Sequence, stray: &Packet) -> Sequence {
    match stray.source {
        Router => sequence.sends(stray).nothing_arrives(),
        _ => sequence.differs(LEAK, |s| s.sends(stray).arrives(&stray.hop()), |s| s.sends(stray).nothing_arrives()),
    }
}

/// A redirect is for the router that it is sent to, not for who is behind (RFC 5508 §4.3 knows it not).
fn redirect(flow: &Flow) -> Sequence {
    let [sent, _] = flow.error(Error::Redirect);
    let sequence = flow.sequence("a redirect is not passed on").only(V4).sends(&sent).nothing_arrives();
    flow.is_alive(sequence)
}

/// A quoted later fragment has no ports that would tell the flow.
fn fragment_quoted(flow: &Flow) -> Sequence {
    let stray = error(Router, Public, Error::NoHost, &flow.seen.piece(8..16, false));
    let sequence = flow.sequence("an error about a later fragment").only(V4).sends(&stray).nothing_arrives();
    flow.is_alive(sequence)
}

/// An error whose own checksum is wrong.
fn wrong_sum(flow: &Flow) -> Sequence {
    let [sent, given] = flow.error(Error::NoHost).map(|error| error.sum(Sum::Wrong));
    let sequence = flow.sequence("an error with a wrong checksum").differs(
        WRONG_IN_FLOW,
        |s| s.sends(&sent).nothing_arrives(),
        |s| s.sends(&sent).arrives(&given),
    );
    flow.is_alive(sequence)
}

/// The way to a client has a smaller MTU: what a published server must learn for path MTU discovery.
fn published_server() -> Sequence {
    let call = tcp(Far, 30000, Public, 8080, SYN);
    let accept = call.to(A, 80).answer("").segment(|segment| segment.flags = SYN | ACK);
    let page = accept.segment(|segment| {
        (segment.flags, segment.sequence) = (ACK, segment.sequence + 1);
        segment.data = vec![b'x'; 1300];
    });
    let [accept, page] = [accept, page].map(|packet| packet.dont_fragment());
    Sequence::new("TCP to a published port: the way to the client is too small")
        .sends(&call)
        .arrives(&call.to(A, 80).hop())
        .sends(&accept)
        .arrives(&accept.from(Public, 8080).hop())
        .sends(&page)
        .arrives(&page.from(Public, 8080).hop())
        .sends(&error(Router, Public, Error::TooBig(1280), &page.from(Public, 8080).hop()))
        .arrives(&error(Router, A, Error::TooBig(1280), &page.hop()).hop())
}

/// The packet that is quoted has IP options.
fn options_quoted() -> Sequence {
    let question = udp(A, 20000, Far, 53, "question").options(&[1, 1, 1, 0]);
    let seen = question.from(Public, 20000).hop();
    Sequence::new("UDP out: an error about a packet with IP options")
        .only(V4)
        .sends(&question)
        .arrives(&seen)
        .sends(&error(Router, Public, Error::NoHost, &seen))
        .arrives(&error(Router, A, Error::NoHost, &question.hop()).hop())
}
