//! TCP: connections from their first packet to their last, and what tries to break them (RFC 5382, RFC 7857).

use crate::connection::Connection;
use crate::packet::*;
use crate::sequence::*;
use crate::strays::refused;
use crate::udp::{PORT_RANGE, PUBLISHED_PORT};

const BLIND_RESET: Difference = Difference {
    what: "Somebody outside sends a RST with a wrong sequence number to an open connection.",
    kernel: "It is dropped.",
    spandrel: "It reaches the container, which ignores it; the flow goes on.",
    reason: "Whether it counts is for the receiver to say (RFC 5961 §3.2); what matters is that the NAT does not believe it.",
};

const BLIND_OTHER: Difference = Difference {
    what: "Somebody outside sends a SYN or FIN with a wrong sequence number to an open connection.",
    kernel: "It is invalid, hence the host's; the host answers with a RST, which breaks the connection at the remote end.",
    spandrel: "It reaches the container, which answers with an ACK; the flow goes on.",
    reason: "RFC 5961 §4.2 wants it to arrive where the connection is.",
};

const OUT_OF_WINDOW: Difference = Difference {
    what: "A container sends a TCP segment outside the window of the other side.",
    kernel: "It is invalid and leaves as it is, with the container's private address.",
    spandrel: "It is translated like the rest of the connection.",
    reason: "Which segments count is for the two ends to say (RFC 9293 §3.10.7.4).",
};

pub fn sequences() -> Vec<Sequence> {
    let mut all = both_ways("out", Connection::out);
    all.extend(both_ways("to a published port", Connection::published));
    all.extend([ports(4000), ports(80), published_port(), two_clients(), blind_syn(), out_of_window()]);
    all
}

/// What holds for connections out and in.
fn both_ways(way: &str, new: fn(Sequence) -> Connection) -> Vec<Sequence> {
    let new = |name: &str| new(Sequence::new(format!("{way}: {name}")));
    let syn = |segment: &mut Segment| segment.flags = SYN;
    let syn_ack = |segment: &mut Segment| segment.flags = SYN | ACK;
    let fin = |segment: &mut Segment| segment.flags = FIN | ACK;
    let reset = |segment: &mut Segment| segment.flags = RST | ACK;
    let data = |segment: &mut Segment| segment.data = b"some data".to_vec();
    vec![
        new("from SYN to the last ACK").open().talk().close().done(),
        new("options and urgent data")
            .client(|segment| {
                segment.flags = SYN;
                // MSS 1460, SACK permitted, timestamps, window scale 7.
                segment.options = [&[2, 4, 5, 0xb4, 4, 2, 8, 10][..], &[0; 8], &[1, 3, 3, 7]].concat();
            })
            .server(|segment| {
                segment.flags = SYN | ACK;
                segment.options = vec![2, 4, 5, 0xb4, 1, 3, 3, 7];
            })
            .client(|segment| (segment.flags, segment.data) = (ACK | URG | PSH, b"urgent".to_vec()))
            .done(),
        new("a SYN that asks for ECN")
            .client(|segment| segment.flags = SYN | ECE | CWR)
            .server(|segment| segment.flags = SYN | ACK | ECE)
            .client(|_| ())
            .talk()
            .done(),
        new("SYN and SYN+ACK are sent twice")
            .and(|connection| {
                let [sent, seen] = connection.of_client(syn);
                connection.then(|s| s.sends(&sent).arrives(&seen))
            })
            .client(syn)
            .and(|connection| {
                let [sent, seen] = connection.of_server(syn_ack);
                connection.then(|s| s.sends(&sent).arrives(&seen))
            })
            .server(syn_ack)
            .client(|_| ())
            .talk()
            .done(),
        new("data in the SYN (RFC 7413)")
            .client(|segment| {
                segment.flags = SYN;
                segment.options = [&[34, 10][..], &[7; 8], &[1, 1]].concat();
                segment.data = b"early".to_vec();
            })
            .server(syn_ack)
            .client(|_| ())
            .done(),
        new("checksums and segments that are left to the hardware").open().and(offloaded).done(),
        new("half-closed by the client, the server goes on")
            .open()
            .client(fin)
            .server(data)
            .client(|_| ())
            .server(data)
            .client(|_| ())
            .server(fin)
            .client(|_| ())
            .done(),
        new("half-closed by the server, the client goes on")
            .open()
            .server(fin)
            .client(data)
            .server(|_| ())
            .client(data)
            .server(|_| ())
            .client(fin)
            .server(|_| ())
            .done(),
        new("both close at once").open().cross(fin).cross(|_| ()).done(),
        new("both open at once")
            .cross(syn)
            .cross(|segment| {
                segment.flags = SYN | ACK;
                segment.sequence -= 1;
            })
            .talk()
            .done(),
        new("large scaled windows").and(far_ahead).done(),
        new("refused").client(syn).server(reset).done(),
        new("reset by the client, then the same ports again").open().client(reset).restart().open().talk().done(),
        new("reset by the server, then the same ports again").open().server(reset).restart().open().talk().done(),
        new("closed, then the same ports again").open().close().restart().open().close().restart().open().talk().done(),
        new("a client that has forgotten: SYN, challenge ACK, RST, SYN")
            .open()
            .talk()
            .and(forgotten)
            .open()
            .talk()
            .done(),
        new("blind RSTs and FINs change nothing").open().and(blind_ends).talk().close().done(),
    ]
}

/// Data of both, left to the hardware: one segment's checksum, and three segments.
fn offloaded(connection: Connection) -> Connection {
    let some = |segment: &mut Segment| segment.data = b"some data".to_vec();
    let large = |segment: &mut Segment| segment.data = vec![b'x'; 3000];
    let pairs = [
        (connection.of_client(some), 0),
        (connection.of_server(some), 0),
        (connection.of_client(large), 1000),
        (connection.of_server(large), 1000),
    ];
    connection.then(|sequence| {
        pairs.iter().fold(sequence, |sequence, ([sent, seen], size)| {
            sequence.sends(&sent.segments_of(*size)).arrives(&seen.segments_of(*size).sum(Sum::Right))
        })
    })
}

/// A window of one gigabyte, and data nearly as far ahead.
fn far_ahead(connection: Connection) -> Connection {
    let scale = |segment: &mut Segment| (segment.options, segment.window) = (vec![1, 3, 3, 14], 65535);
    let connection = connection
        .client(|segment| {
            scale(segment);
            segment.flags = SYN;
        })
        .server(|segment| {
            scale(segment);
            segment.flags = SYN | ACK;
        })
        .client(|segment| segment.window = 65535)
        .server(|segment| segment.window = 65535);
    let ahead = |segment: &mut Segment| {
        segment.sequence += 900 << 20;
        segment.data = b"far ahead".to_vec();
    };
    let pairs = [connection.of_client(ahead), connection.of_server(ahead)];
    connection.then(|sequence| pairs.iter().fold(sequence, |sequence, [sent, seen]| sequence.sends(sent).arrives(seen)))
}

/// The client has lost its state and begins anew on the same ports: the server doubts it with a challenge ACK, and believes
/// the RST that this provokes (RFC 9293 §3.10.7.4).
fn forgotten(connection: Connection) -> Connection {
    let [challenge, challenge_seen] = connection.of_server(|_| ());
    let [reset, reset_seen] = connection.of_client(|segment| segment.flags = RST);
    let connection = connection.restart();
    let [syn, syn_seen] = connection.of_client(|segment| segment.flags = SYN);
    connection.then(|sequence| {
        let sequence = sequence.sends(&syn).arrives(&syn_seen).sends(&challenge).arrives(&challenge_seen);
        sequence.sends(&reset).arrives(&reset_seen)
    })
}

/// RST and FIN from outside by somebody who knows the ports, but not the numbers.
fn blind_ends(connection: Connection) -> Connection {
    let connection = blind(connection, RST, |s, sent| s.sends(sent).nothing_arrives(), BLIND_RESET);
    blind(connection, FIN | ACK, |s, sent| refused(s.sends(sent), sent), BLIND_OTHER)
}

/// A segment from outside with a wrong sequence number, which Spandrel passes on.
fn blind(
    connection: Connection,
    flags: u8,
    kernel: impl FnOnce(Sequence, &Packet) -> Sequence,
    difference: Difference,
) -> Connection {
    let wrong = |segment: &mut Segment| {
        segment.flags = flags;
        segment.sequence = segment.sequence.wrapping_add(0x2000_0000);
    };
    let pairs = [connection.of_client(wrong), connection.of_server(wrong)];
    let [sent, seen] = pairs.into_iter().find(|[sent, _]| sent.source == Far).expect("one of them is outside");
    connection.then(|s| s.differs(difference, |s| kernel(s, &sent), |s| s.sends(&sent).arrives(&seen)))
}

/// A SYN from the remote end of a container's connection, after a RST and a FIN that a NAT might have believed.
fn blind_syn() -> Sequence {
    let sequence = Sequence::new("out: a blind SYN after a blind RST and FIN changes nothing");
    let connection = Connection::out(sequence).open().talk().and(blind_ends);
    blind(connection, SYN, |s, sent| refused(s.sends(sent), sent), BLIND_OTHER).talk().close().done()
}

/// A segment beyond the window of the other side.
fn out_of_window() -> Sequence {
    let connection = Connection::out(Sequence::new("out: a segment outside the window")).open();
    let [sent, seen] = connection.of_client(|segment| {
        segment.sequence = segment.sequence.wrapping_add(0x2000_0000);
        segment.data = b"too far".to_vec();
    });
    let leaked = sent.hop();
    let differs =
        |s: Sequence| s.differs(OUT_OF_WINDOW, |s| s.sends(&sent).arrives(&leaked), |s| s.sends(&sent).arrives(&seen));
    connection.then(differs).talk().done()
}

/// A connection from a port that is not in the pool.
fn ports(port: u16) -> Sequence {
    let sequence = Sequence::new(format!("out: from port {port}"));
    let [sent, kept, chosen] = [(A, port.into()), (Public, port.into()), (Public, Port::Named('p'))]
        .map(|(place, port): (Place, Port)| tcp(place, port, Far, 443, 0));
    let play = |seen: &Packet| {
        let (sent, seen) = (sent.clone(), seen.clone());
        move |s: Sequence| Connection::between(s, &sent, &seen).open().talk().close().done()
    };
    sequence.differs(PORT_RANGE, play(&kept), play(&chosen))
}

/// A connection from the number of a published port, and one to that port from the very place.
fn published_port() -> Sequence {
    let sent = tcp(A, 28081, Far, 443, 0);
    let to_b = |s: Sequence| {
        Connection::between(s, &tcp(Far, 443, Public, 28081, 0), &tcp(Far, 443, B, 81, 0)).open().talk().done()
    };
    Sequence::new("out: from a port that is published").differs(
        PUBLISHED_PORT,
        |s| Connection::between(s, &sent, &tcp(Public, 28081, Far, 443, 0)).open().talk().done(),
        |s| Connection::between(s, &sent, &tcp(Public, 'p', Far, 443, 0)).open().then(to_b).talk().done(),
    )
}

/// Two containers from one port to one server.
fn two_clients() -> Sequence {
    let first = Connection::out(Sequence::new("out: two containers from one port to one server")).open().talk();
    let second = |s: Sequence| {
        let (sent, seen) = (tcp(B, 20000, Far, 80, 0), tcp(Public, 'p', Far, 80, 0));
        Connection::between(s, &sent, &seen).open().talk().close().done()
    };
    first.then(second).talk().close().done()
}
