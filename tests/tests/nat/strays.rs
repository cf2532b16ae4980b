//! Packets that belong to no flow and may not open one, and packets that are wrong: none of them leaves with a private
//! address, and none is made right.

use spandrel_tests::V4;

use crate::connection::Connection;
use crate::packet::*;
use crate::sequence::*;

const STRAY: Difference = Difference {
    what: "A container sends a TCP segment other than a SYN or a plain ACK without a connection.",
    kernel: "It is invalid and leaves as it is, with the container's private address.",
    spandrel: "It is dropped.",
    reason: "No private address leaves the host.",
};

const STRAY_ACK: Difference = Difference {
    what: "A container sends an ACK without a connection.",
    kernel: "It opens a flow in the middle (nf_conntrack_tcp_loose) and is masqueraded.",
    spandrel: "It is dropped.",
    reason: "Only a SYN opens a flow. Flows outlive the agent and its upgrades, so none has to be picked up in the middle.",
};

const KNOCK: Difference = Difference {
    what: "Somebody outside sends an ACK without a connection to a published port.",
    kernel: "It opens a flow in the middle and reaches the container, which answers with a RST.",
    spandrel: "It is dropped.",
    reason: "Only a SYN opens a flow.",
};

const KNOCK_STRAY: Difference = Difference {
    what: "Somebody outside sends a stray TCP segment other than an ACK to a published port.",
    kernel: "It is invalid, hence the host's; the host answers with a RST where TCP says so.",
    spandrel: "It is dropped.",
    reason: "Nobody behind the port has asked for it, and an answer would only help a scan.",
};

const INVALID: Difference = Difference {
    what: "A container sends a packet with a wrong transport checksum or a cut transport header.",
    kernel: "It is invalid and leaves as it is, with the container's private address.",
    spandrel: "It is dropped.",
    reason: "No private address leaves the host.",
};

pub const WRONG_IN_FLOW: Difference = Difference {
    what: "A packet of an open flow, or an ICMP error about one, has a wrong transport checksum.",
    kernel: "It is invalid: from a container it leaves with its private address, from outside it ends at the host.",
    spandrel: "It is translated, and its checksum is as wrong as it was.",
    reason: "The receiver sums it anyway. Only what would open a flow is summed here, since summing costs more than all the rest.",
};

/// Combinations of flags that open nothing, with those that the host's own TCP answers with a RST when they are stray.
const FLAGS: [(u8, &str); 9] = [
    (FIN, "FIN"),
    (FIN | ACK, "FIN+ACK"),
    (RST, "RST"),
    (RST | ACK, "RST+ACK"),
    (SYN | ACK, "SYN+ACK"),
    (SYN | FIN, "SYN+FIN"),
    (SYN | RST, "SYN+RST"),
    (FIN | PSH | URG, "FIN+PSH+URG"),
    (0, "no flags"),
];

pub fn sequences() -> Vec<Sequence> {
    let mut all = Vec::new();
    for (flags, name) in FLAGS {
        all.push(from_container(flags, name));
        all.push(to_published(flags, name));
        all.push(to_host(flags, name));
    }
    all.extend([ack_from_container(), ack_to_published(), stray_after_close()]);
    all.extend([wrong_header_sum(), wrong_sums_from_container(), wrong_sums_from_outside(), wrong_sums_in_flows()]);
    all.extend([cut_from_container(), cut_from_outside(), lying_lengths()]);
    all
}

fn from_container(flags: u8, name: &str) -> Sequence {
    let stray = tcp(A, 20000, Far, 80, flags);
    Sequence::new(format!("from a container: {name}")).differs(
        STRAY,
        |s| s.sends(&stray).arrives(&stray.hop()),
        |s| s.sends(&stray).nothing_arrives(),
    )
}

fn ack_from_container() -> Sequence {
    let stray = tcp(A, 20000, Far, 80, ACK);
    Sequence::new("from a container: ACK").differs(
        STRAY_ACK,
        |s| s.sends(&stray).arrives(&stray.source(Public).hop()),
        |s| s.sends(&stray).nothing_arrives(),
    )
}

fn to_published(flags: u8, name: &str) -> Sequence {
    let stray = tcp(Far, 30000, Public, 8080, flags);
    Sequence::new(format!("to a published port: {name}")).differs(
        KNOCK_STRAY,
        |s| refused(s.sends(&stray), &stray),
        |s| s.sends(&stray).nothing_arrives(),
    )
}

fn ack_to_published() -> Sequence {
    let stray = tcp(Far, 30000, Public, 8080, ACK);
    Sequence::new("to a published port: ACK").differs(
        KNOCK,
        |s| s.sends(&stray).arrives(&stray.to(A, 80).hop()),
        |s| s.sends(&stray).nothing_arrives(),
    )
}

/// The host's own ports are none of our business.
fn to_host(flags: u8, name: &str) -> Sequence {
    let stray = tcp(Far, 30000, Public, 22000, flags);
    refused(Sequence::new(format!("to a port of the host: {name}")).sends(&stray), &stray)
}

/// What the host answers to a segment for a port where nobody listens (RFC 9293 §3.10.7.1).
pub fn refused(sequence: Sequence, stray: &Packet) -> Sequence {
    let flags = stray.flags();
    if flags & RST != 0 {
        return sequence.nothing_arrives();
    }
    let reset = stray.answer("").segment(|segment| {
        (segment.flags, segment.window) = if flags & ACK == 0 { (RST | ACK, 0) } else { (RST, 0) };
        if flags & ACK != 0 {
            segment.acknowledged = 0;
        }
    });
    sequence.arrives(&reset.dont_fragment().id(0).by_host())
}

/// After the last ACK, the connection's ports say nothing to anybody any more; what is late is passed or dropped, but never
/// leaks.
fn stray_after_close() -> Sequence {
    let connection = Connection::out(Sequence::new("out: the last ACK is sent again")).open().close();
    let [sent, seen] = connection.of_client(|_| ());
    connection.then(|s| s.sends(&sent).arrives(&seen)).done()
}

fn wrong_header_sum() -> Sequence {
    let question = udp(A, 20000, Far, 53, "question");
    let answer = question.source(Public).answer("answer");
    let knock = udp(Far, 30000, Public, 5300, "knock");
    Sequence::new("a wrong IPv4 header is not forwarded")
        .only(V4)
        .sends(&question.wrong_header_sum())
        .nothing_arrives()
        .sends(&question)
        .arrives(&question.source(Public).hop())
        .sends(&question.wrong_header_sum())
        .nothing_arrives()
        .sends(&answer.wrong_header_sum())
        .nothing_arrives()
        .sends(&answer)
        .arrives(&answer.destination(A).hop())
        .sends(&knock.wrong_header_sum())
        .nothing_arrives()
        .sends(&tcp(Far, 30000, Public, 8080, SYN).wrong_header_sum())
        .nothing_arrives()
        .sends(&tcp(A, 20000, Far, 80, SYN).wrong_header_sum())
        .nothing_arrives()
}

fn wrong_sums_from_container() -> Sequence {
    let mut sequence = Sequence::new("from a container: wrong checksums");
    for packet in [udp(A, 20000, Far, 53, "question"), tcp(A, 20000, Far, 80, SYN), echo(A, Far, 700, "ping")] {
        sequence = sequence.with(|s| invalid(s, &packet.sum(Sum::Wrong)));
    }
    sequence
}

fn wrong_sums_from_outside() -> Sequence {
    Sequence::new("to a published port: wrong checksums")
        .sends(&udp(Far, 30000, Public, 5300, "knock").sum(Sum::Wrong))
        .nothing_arrives()
        .sends(&tcp(Far, 30000, Public, 8080, SYN).sum(Sum::Wrong))
        .nothing_arrives()
}

fn wrong_sums_in_flows() -> Sequence {
    let question = udp(A, 20000, Far, 53, "question");
    let answer = question.source(Public).answer("answer");
    let wrong = |packet: &Packet| packet.sum(Sum::Wrong);
    let connection = Connection::out(Sequence::new("in open flows: wrong checksums")).open();
    let [segment, segment_seen] = connection.of_client(|segment| segment.data = b"data".to_vec());
    let [back, back_seen] = connection.of_server(|segment| segment.data = b"data".to_vec());
    connection
        .then(|s| {
            s.sends(&question).arrives(&question.source(Public).hop()).differs(
                WRONG_IN_FLOW,
                |s| {
                    s.sends(&wrong(&question))
                        .arrives(&wrong(&question).hop())
                        .sends(&wrong(&answer))
                        .nothing_arrives()
                        .sends(&wrong(&segment))
                        .arrives(&wrong(&segment).hop())
                        .sends(&wrong(&back))
                        .nothing_arrives()
                },
                |s| {
                    // Wrong by as much as it was.
                    s.sends(&wrong(&question))
                        .arrives(&wrong(&question.source(Public)).hop())
                        .sends(&wrong(&answer))
                        .arrives(&wrong(&answer.destination(A)).hop())
                        .sends(&wrong(&segment))
                        .arrives(&wrong(&segment_seen))
                        .sends(&wrong(&back))
                        .arrives(&wrong(&back_seen))
                },
            )
        })
        .talk()
        .done()
}

/// A packet of a container that the kernel lets out as it is.
fn invalid(sequence: Sequence, packet: &Packet) -> Sequence {
    sequence.differs(INVALID, |s| s.sends(packet).arrives(&packet.hop()), |s| s.sends(packet).nothing_arrives())
}

fn cut_from_container() -> Sequence {
    let datagram = udp(A, 20000, Far, 53, "question");
    let syn = tcp(A, 20000, Far, 80, SYN);
    let ping = echo(A, Far, 700, "ping");
    let mut sequence = Sequence::new("from a container: cut headers");
    for packet in [
        datagram.cut(0),
        datagram.cut(4),
        datagram.cut(7),
        syn.cut(0),
        syn.cut(8),
        syn.cut(19),
        ping.cut(0),
        ping.cut(4),
    ] {
        sequence = sequence.with(|s| invalid(s, &packet));
    }
    sequence
}

fn cut_from_outside() -> Sequence {
    let datagram = udp(Far, 30000, Public, 5300, "knock");
    let syn = tcp(Far, 30000, Public, 8080, SYN);
    let mut sequence = Sequence::new("to a published port: cut headers");
    for packet in [datagram.cut(0), datagram.cut(4), datagram.cut(7), syn.cut(0), syn.cut(8), syn.cut(19)] {
        sequence = sequence.sends(&packet).nothing_arrives();
    }
    sequence
}

/// A UDP length or a TCP header length that is more than there is.
fn lying_lengths() -> Sequence {
    let mut sequence = Sequence::new("from a container: lengths that lie");
    let datagram = udp(A, 20000, Far, 53, "a long question");
    let segment = tcp(A, 20000, Far, 80, SYN).segment(|segment| segment.options = vec![2, 4, 5, 0xb4]);
    for packet in [datagram.cut(12), segment.cut(20)] {
        sequence = sequence.with(|s| invalid(s, &packet));
    }
    sequence.sends(&segment).arrives(&segment.source(Public).hop())
}
