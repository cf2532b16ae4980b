//! Fragments: in any order, with as little in the first one as there may be, of several containers, and a flood of them.

use spandrel_tests::{V4, V6};

use crate::packet::*;
use crate::sequence::*;

const FLOOD: Difference = Difference {
    what: "A flood of lone fragments.",
    kernel: "They fill the memory for fragments, and nobody else's get through for half a minute.",
    spandrel: "Other people's fragments get through.",
    reason: "A noisy container may hurt only itself.",
};

const SHORT_FIRST: Difference = Difference {
    what: "A container sends an IPv6 fragment that ends within the TCP header, as the first one.",
    kernel: "It leaves as it is, with the container's private address; the rest is dropped.",
    spandrel: "It is dropped, and so is the rest.",
    reason: "RFC 7112 §5 forbids it. No private address leaves the host.",
};

const CUT_HEADER: Difference = Difference {
    what: "A container sends an IPv4 TCP segment whose first fragment ends within the TCP header.",
    kernel: "It is put together and masqueraded.",
    spandrel: "It is dropped.",
    reason: "The flags that say whether it may open a flow are not in the fragment that tells the ports. Only attacks are cut like that (RFC 1858 §3).",
};

pub fn sequences() -> Vec<Sequence> {
    let mut all = Vec::new();
    for (name, datagram) in datagrams() {
        all.extend(orders(name, &datagram));
        all.push(back(name, &datagram));
    }
    all.extend([
        short_first_of_tcp(),
        published(),
        interleaved_datagrams(),
        interleaved_containers(),
        lone_then_whole(),
    ]);
    all.extend([flood_from_container(), flood_from_outside()]);
    all
}

/// What container A sends, and how it is seen.
fn datagrams() -> [(&'static str, [Packet; 2]); 3] {
    let text = text(120);
    let question = udp(A, 20000, Far, 53, &text);
    let syn = tcp(A, 20000, Far, 80, SYN).segment(|segment| segment.data = text.clone().into_bytes());
    let ping = echo(A, Far, 700, &text);
    [
        ("UDP", [question.clone(), question.source(Public).hop()]),
        ("TCP", [syn.clone(), syn.source(Public).hop()]),
        ("echo", [ping.clone(), ping.source(Public).hop()]),
    ]
}

/// Text without repetitions that would hide an exchange.
fn text(len: usize) -> String {
    (0..len).map(|index| char::from(b'a' + (index / 8 % 26) as u8)).collect()
}

/// The packet in fragments that begin at these bytes behind the IP header.
fn cut(packet: &Packet, starts: &[usize]) -> Vec<Packet> {
    let ends = starts[1..].iter().copied().chain([usize::MAX]);
    starts.iter().zip(ends).map(|(start, end)| packet.piece(*start..end, end != usize::MAX)).collect()
}

fn send_all<'p>(sequence: Sequence, pieces: impl IntoIterator<Item = &'p Packet>) -> Sequence {
    pieces.into_iter().fold(sequence, |sequence, piece| sequence.sends(piece))
}

/// As the first packet of a flow and as a later one, in every order.
fn orders(name: &str, [sent, seen]: &[Packet; 2]) -> Vec<Sequence> {
    let cases: [(&str, &[usize], &[usize]); 5] = [
        ("in order", &[0, 64], &[0, 1]),
        ("reversed", &[0, 64], &[1, 0]),
        ("shuffled", &[0, 24, 64, 104], &[2, 0, 3, 1]),
        ("eight bytes in the first one", &[0, 8], &[0, 1]),
        ("eight bytes in each, the first one last", &[0, 8, 16, 24, 32], &[4, 2, 3, 1, 0]),
    ];
    let play = |(order, starts, turns): (&str, &[usize], &[usize])| {
        let pieces = cut(sent, starts);
        let turns = || turns.iter().map(|index| &pieces[*index]);
        let sequence = Sequence::new(format!("{name}: {order}"));
        if is_tcp(sent) && starts[1] < 20 {
            return sequence.only(V4).differs(
                CUT_HEADER,
                |s| send_all(s, turns()).arrives_in_pieces(seen),
                |s| send_all(s, turns()).nothing_arrives(),
            );
        }
        sequence
            .with(|s| send_all(s, turns()))
            .arrives_in_pieces(seen)
            .sends(sent)
            .arrives(seen)
            .with(|s| send_all(s, turns()))
            .arrives_in_pieces(seen)
    };
    cases.into_iter().map(play).collect()
}

fn is_tcp(packet: &Packet) -> bool {
    matches!(packet.body, Body::Tcp { .. })
}

/// IPv6 wants the whole TCP header in the first fragment.
fn short_first_of_tcp() -> Sequence {
    let syn = tcp(A, 20000, Far, 80, SYN).segment(|segment| segment.data = text(120).into());
    let pieces = cut(&syn, &[0, 8]);
    Sequence::new("TCP: eight bytes in the first one").only(V6).differs(
        SHORT_FIRST,
        |s| s.sends(&pieces[0]).arrives(&pieces[0].hop()).sends(&pieces[1]).nothing_arrives(),
        |s| send_all(s, &pieces).nothing_arrives(),
    )
}

/// The answer comes in fragments.
fn back(name: &str, [sent, seen]: &[Packet; 2]) -> Sequence {
    let small = match &sent.body {
        Body::Tcp { .. } => sent.segment(|segment| segment.data.clear()),
        _ => sent.clone(),
    };
    let small_seen = small.source(Public).hop();
    let mut answer = seen.answer(&text(120));
    if let Body::Tcp { .. } = answer.body {
        answer = small_seen.answer(&text(120)).segment(|segment| segment.flags = SYN | ACK);
    }
    let given = answer.destination(A).hop();
    let mut sequence = Sequence::new(format!("{name}: the answer, in every order")).sends(&small).arrives(&small_seen);
    let shortest = if is_tcp(sent) { 24 } else { 8 };
    for (starts, turns) in
        [(vec![0, 64], vec![0, 1]), (vec![0, 64], vec![1, 0]), (vec![0, shortest, 64], vec![2, 0, 1])]
    {
        let pieces = cut(&answer, &starts);
        sequence =
            sequence.with(|s| send_all(s, turns.iter().map(|index: &usize| &pieces[*index]))).arrives_in_pieces(&given);
    }
    sequence
}

fn published() -> Sequence {
    let knock = udp(Far, 30000, Public, 5300, &text(120));
    let reply = udp(A, 53, Far, 30000, &text(200));
    let (knocks, replies) = (cut(&knock, &[0, 8, 64]), cut(&reply, &[0, 8, 64]));
    let mut sequence = Sequence::new("a published port, both ways");
    for _ in 0..2 {
        sequence = sequence
            .with(|s| send_all(s, knocks.iter().rev()))
            .arrives_in_pieces(&knock.to(A, 53).hop())
            .with(|s| send_all(s, &knocks))
            .arrives_in_pieces(&knock.to(A, 53).hop())
            .with(|s| send_all(s, replies.iter().rev()))
            .arrives_in_pieces(&reply.from(Public, 5300).hop())
            .with(|s| send_all(s, &replies))
            .arrives_in_pieces(&reply.from(Public, 5300).hop());
    }
    sequence
}

/// Two datagrams of one flow, whose fragments come by turns.
fn interleaved_datagrams() -> Sequence {
    let [one, two] = [(1, text(120)), (2, text(128))].map(|(id, text)| udp(A, 20000, Far, 53, &text).id(id));
    let turns = [cut(&one, &[0, 8, 64]), cut(&two, &[0, 8, 64])];
    let mut sequence = Sequence::new("two datagrams by turns");
    for index in [2, 0, 1] {
        sequence = sequence.sends(&turns[0][index]).sends(&turns[1][index]);
    }
    sequence.arrives_in_pieces(&one.source(Public).hop()).arrives_in_pieces(&two.source(Public).hop())
}

/// Two containers send to one destination with one identification.
fn interleaved_containers() -> Sequence {
    let [one, two] = [(A, text(120)), (B, text(128))].map(|(place, text)| udp(place, 20000, Far, 53, &text).id(7));
    let turns = [cut(&one, &[0, 64]), cut(&two, &[0, 64])];
    let mut sequence = Sequence::new("two containers by turns, with one identification");
    // First one's first, two's first; then the last ones, which tell nobody whose they are but by their source.
    for index in [0, 1] {
        sequence = sequence.sends(&turns[0][index]).sends(&turns[1][index]);
    }
    sequence.arrives_in_pieces(&one.source(Public).hop()).arrives_in_pieces(&two.from(Public, 'b').hop())
}

/// A fragment that stays alone does no harm to a later datagram, and does not leave by itself with a private address.
fn lone_then_whole() -> Sequence {
    let lone = udp(A, 20000, Far, 53, &text(120)).id(99).piece(64..128, false);
    let question = udp(A, 20000, Far, 53, "question");
    Sequence::new("a fragment that stays alone")
        .sends(&lone)
        .nothing_arrives()
        .sends(&question)
        .arrives(&question.source(Public).hop())
}

/// B sends thousands of fragments that nothing belongs to; then A sends a datagram in two.
fn flood_from_container() -> Sequence {
    let question = udp(A, 20000, Far, 53, &text(120));
    let pieces = cut(&question, &[0, 64]);
    let lone = |id| udp(B, 20000, Far, 53, &text(1200)).id(id).piece(64..1200, true);
    let flood = (0..4000).fold(Sequence::new("a flood from a neighbour"), |sequence, id| sequence.sends(&lone(id)));
    flood.differs(
        FLOOD,
        |s| send_all(s, &pieces).nothing_arrives(),
        |s| send_all(s, &pieces).arrives_in_pieces(&question.source(Public).hop()),
    )
}

/// The same from outside to the host.
fn flood_from_outside() -> Sequence {
    let question = udp(A, 20000, Far, 53, &text(120));
    let pieces = cut(&question, &[0, 64]);
    let lone = |id| udp(Else, 30000, Public, 5300, &text(1200)).id(id).piece(64..1200, true);
    let flood = (0..4000).fold(Sequence::new("a flood from outside"), |sequence, id| sequence.sends(&lone(id)));
    flood.differs(
        FLOOD,
        |s| send_all(s, &pieces).nothing_arrives(),
        |s| send_all(s, &pieces).arrives_in_pieces(&question.source(Public).hop()),
    )
}
