//! How long a flow lives without a packet, and what keeps it alive (RFC 4787 REQ-5 and REQ-6, RFC 5382 REQ-5, RFC 5508 REQ-2).
//!
//! To be played where flows may be idle for a second only, but answered UDP and open TCP for a minute at least.

use std::time::Duration;

use crate::connection::Connection;
use crate::packet::*;
use crate::sequence::*;
use crate::strays::refused;

/// Long enough for flows that may be idle for a second, and for a sweep of the tables, which comes every five.
const SECONDS: usize = 9;

/// Ports of UDP flows: nothing happens; it is answered; it goes on sending; somebody else sends to it; errors come about it.
const IDLE: u16 = 20001;
const ANSWERED: u16 = 20002;
const SENDING: u16 = 20003;
const DISTURBED: u16 = 20004;
const UNREACHABLE: u16 = 20005;

const SOON: Difference = Difference {
    what: "A UDP question is answered at once, and then nothing is said for half a minute.",
    kernel: "The flow is forgotten: it is short-lived until it has gone on for two seconds.",
    spandrel: "The flow lives for five minutes from its last packet on.",
    reason: "RFC 4787 REQ-5: not less than two minutes, five recommended.",
};

pub fn sequences() -> Vec<Sequence> {
    let ping = echo(A, Far, 700, "ping");
    let mut sequence = Sequence::new("idle flows end, others live");
    for port in [IDLE, ANSWERED, SENDING, DISTURBED, UNREACHABLE] {
        sequence = asks(sequence, port);
    }
    sequence = is_answered(sequence, ANSWERED).sends(&ping).arrives(&ping.source(Public).hop());
    // Connections: open, closed, reset, and never answered.
    sequence = connection(sequence, 20010).open().done();
    sequence = connection(sequence, 20011).open().close().done();
    sequence = connection(sequence, 20012).open().client(|segment| segment.flags = RST | ACK).done();
    sequence = connection(sequence, 20013).client(|segment| segment.flags = SYN).done();

    // What passes keeps a flow alive; what is dropped does not, and an error does not.
    let stray = udp(Else, 54, Public, DISTURBED, "stray");
    let complaint = error(Router, Public, Error::NoHost, &question(UNREACHABLE).source(Public).hop());
    for _ in 0..SECONDS {
        sequence = asks(sequence.waits(Duration::from_secs(1)), SENDING)
            .sends(&stray)
            .arrives(&error(Public, Else, Error::NoPort, &stray).by_host())
            .sends(&complaint)
            .ignores_arrivals();
    }

    for port in [IDLE, DISTURBED, UNREACHABLE] {
        sequence = is_over(sequence, port);
    }
    sequence = is_answered(sequence, SENDING).differs(SOON, |s| is_over(s, ANSWERED), |s| is_answered(s, ANSWERED));
    sequence = sequence.sends(&ping.source(Public).answer("late")).nothing_arrives();
    let unplayed = |port| connection(Sequence::new(""), port);
    let [sent, seen] = unplayed(20010).open().of_server(|segment| segment.data = b"still here".to_vec());
    sequence = sequence.sends(&sent).arrives(&seen);
    for [late, _] in [
        unplayed(20011).open().close().of_server(|_| ()),
        unplayed(20012).open().client(|segment| segment.flags = RST | ACK).of_server(|_| ()),
        unplayed(20013).client(|segment| segment.flags = SYN).of_server(|segment| segment.flags = SYN | ACK),
    ] {
        sequence = refused(sequence.sends(&late), &late);
    }
    vec![sequence]
}

fn question(port: u16) -> Packet {
    udp(A, port, Far, 53, "question")
}

fn answer(port: u16) -> Packet {
    udp(Far, 53, Public, port, "answer")
}

fn asks(sequence: Sequence, port: u16) -> Sequence {
    sequence.sends(&question(port)).arrives(&question(port).source(Public).hop())
}

fn is_over(sequence: Sequence, port: u16) -> Sequence {
    let late = answer(port);
    sequence.sends(&late).arrives(&error(Public, Far, Error::NoPort, &late).by_host())
}

fn is_answered(sequence: Sequence, port: u16) -> Sequence {
    sequence.sends(&answer(port)).arrives(&answer(port).destination(A).hop())
}

fn connection(sequence: Sequence, port: u16) -> Connection {
    Connection::between(sequence, &tcp(A, port, Far, 80, 0), &tcp(Public, port, Far, 80, 0))
}
