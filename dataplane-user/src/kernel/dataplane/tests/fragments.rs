//! Fragments: they go the way of their packet's first one, and wait for it where they come before it.
//!
//! The scenarios of `tests/tests/nat` look at the bytes of those that have waited; here nobody receives them.

use std::{
    thread,
    time::{Duration, Instant},
};

use dataplane_common::fragment::PLACES;
use etherparse::{Ipv4Header, Ipv4HeaderSlice};

use super::{packets::*, *};

const ETHERNET: usize = 14;
/// Where fragments begin, behind the IP header: ports alone in the first one.
const STARTS: [usize; 3] = [0, 8, 24];
/// Next header: fragment.
const FRAGMENT: u8 = 44;

fn is_v4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}

fn header4(frame: &[u8]) -> Ipv4Header {
    Ipv4HeaderSlice::from_slice(&frame[ETHERNET..]).unwrap().to_header()
}

/// Cuts a packet without IP options into fragments with this identification.
fn cut(packet: &Packet, id: u16) -> Vec<Vec<u8>> {
    let frame = packet.frame();
    let ends = STARTS[1..].iter().copied().map(Some).chain([None]);
    STARTS.iter().zip(ends).map(|(start, end)| piece(&frame, id, *start, end)).collect()
}

fn piece(frame: &[u8], id: u16, start: usize, end: Option<usize>) -> Vec<u8> {
    let header_len = if is_v4(frame) { Ipv4Header::MIN_LEN } else { 40 };
    let (headers, data) = frame.split_at(ETHERNET + header_len);
    let data = &data[start..end.unwrap_or(data.len())];
    let mut piece = headers.to_vec();
    if is_v4(frame) {
        let mut header = header4(frame);
        header.identification = id;
        header.dont_fragment = false;
        header.more_fragments = end.is_some();
        header.fragment_offset = u16::try_from(start / 8).unwrap().try_into().unwrap();
        header.set_payload_len(data.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        piece[ETHERNET..].copy_from_slice(&header.to_bytes());
    } else {
        let place = u16::try_from(start).unwrap() | u16::from(end.is_some());
        piece.extend([headers[ETHERNET + 6], 0]);
        piece.extend(place.to_be_bytes());
        piece.extend(u32::from(id).to_be_bytes());
        piece[ETHERNET + 6] = FRAGMENT;
        let len = u16::try_from(8 + data.len()).unwrap();
        piece[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&len.to_be_bytes());
    }
    piece.extend_from_slice(data);
    piece
}

/// Puts fragments that come in order together again, and reads the packet; its identification too.
fn join(pieces: &[Vec<u8>]) -> (Packet, u32) {
    let first = &pieces[0];
    let (mut frame, mut ids) = (Vec::new(), Vec::new());
    if is_v4(first) {
        let headers: Vec<_> = pieces.iter().map(|piece| header4(piece)).collect();
        for header in &headers {
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
            ids.push(u32::from(header.identification));
        }
        let data: Vec<u8> = pieces.iter().flat_map(|piece| &piece[ETHERNET + Ipv4Header::MIN_LEN..]).copied().collect();
        let mut header = headers[0].clone();
        header.more_fragments = false;
        header.set_payload_len(data.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        frame.extend_from_slice(&first[..ETHERNET]);
        frame.extend(header.to_bytes());
        frame.extend(data);
    } else {
        const BEHIND: usize = ETHERNET + 40 + 8;
        let data: Vec<u8> = pieces.iter().flat_map(|piece| &piece[BEHIND..]).copied().collect();
        ids.extend(pieces.iter().map(|piece| u32::from_be_bytes(piece[BEHIND - 4..BEHIND].try_into().unwrap())));
        frame.extend_from_slice(&first[..ETHERNET + 40]);
        frame[ETHERNET + 6] = first[ETHERNET + 40];
        frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        frame.extend(data);
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "one identification: {ids:?}");
    (read(&frame), ids[0])
}

/// Runs a program on all fragments; all must meet this verdict.
fn run_all(pieces: &[Vec<u8>], verdict: i32, mut run: impl FnMut(&[u8]) -> ProgramRun) -> (Packet, u32) {
    let runs: Vec<_> = pieces.iter().map(|piece| run(piece)).collect();
    let verdicts: Vec<_> = runs.iter().map(|run| run.verdict).collect();
    assert_eq!(verdicts, vec![verdict; pieces.len()]);
    join(&runs.into_iter().map(|run| run.frame).collect::<Vec<_>>())
}

impl Bench {
    /// How many packets have passed by the flows of a family; waits for these, and a moment for those that are too many.
    fn passed(&self, family: Family, expected: u64) -> u64 {
        let maps = &self.dataplane.maps;
        let passed = || match family {
            Family::V4 => maps.flows4.iter().map(|flow| flow.unwrap().1.packets).sum(),
            Family::V6 => maps.flows6.iter().map(|flow| flow.unwrap().1.packets).sum(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while passed() < expected && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        passed()
    }
}

#[test]
fn row_14_fragments_are_masqueraded_there_and_back() {
    on_bench(|bench| {
        for family in FAMILIES {
            for (request, reply) in [
                (Payload::Udp(20_000, 53), Payload::Udp(53, 20_000)),
                (Payload::Echo(77, true), Payload::Echo(77, false)),
            ] {
                let sent = cut(&Packet::new(A, family.a(), family.outside(), request), 7);
                let (seen, id) = run_all(&sent, REDIRECT, |piece| bench.sends(A, piece));
                assert_eq!((seen.source, seen.payload, seen.ttl), (family.host(), request, 63), "{family:?}");

                // Sent twice, it is still one packet; another one gets another identification.
                assert_eq!(run_all(&sent, REDIRECT, |piece| bench.sends(A, piece)).1, id);
                let next = cut(&Packet::new(A, family.a(), family.outside(), request), 8);
                assert_ne!(run_all(&next, REDIRECT, |piece| bench.sends(A, piece)).1, id);

                let back = cut(&Packet::outside(family.outside(), family.host(), reply), 7);
                let (got, _) = run_all(&back, REDIRECT, |piece| bench.arrives(piece));
                assert_eq!((got.destination, got.payload, got.macs), (family.a(), reply, (bridge_mac(1), mac(A))));
            }
        }
    });
}

#[test]
fn rows_4_and_9_fragments_come_to_published_ports_and_back() {
    on_bench(|bench| {
        for family in FAMILIES {
            let mut port = Bench::port(family, 8080, 80);
            port.entries[0].protocol = Protocol::UDP;
            bench.dataplane.publish(&[port]).unwrap();
            let (request, reply) = (Payload::Udp(5000, 8080), Payload::Udp(80, 5000));
            let (knock, answer) = (Payload::Udp(5000, 80), Payload::Udp(8080, 5000));
            // The first packet, and one whose flow has been proven.
            for id in [1, 2] {
                let knocks = cut(&Packet::outside(family.outside(), family.host(), request), id);
                let (got, _) = run_all(&knocks, REDIRECT, |piece| bench.arrives(piece));
                assert_eq!((got.source, got.destination, got.payload), (family.outside(), family.a(), knock));
                let replies = cut(&Packet::new(A, family.a(), family.outside(), reply), id);
                let (seen, _) = run_all(&replies, REDIRECT, |piece| bench.sends(A, piece));
                assert_eq!((seen.source, seen.payload), (family.host(), answer), "{family:?}");
            }
            // From another network, and from a neighbour: by the host's address.
            for (slot, client) in [(C, family.c()), (B, family.b())] {
                let knocks = cut(&Packet::new(slot, client, family.host(), request), 3);
                let (got, _) = run_all(&knocks, REDIRECT, |piece| bench.sends(slot, piece));
                assert_eq!((got.source, got.destination, got.payload), (client, family.a(), knock), "{family:?}");
                let replies = cut(&Packet::new(A, family.a(), client, reply), 3);
                let (seen, _) = run_all(&replies, REDIRECT, |piece| bench.sends(A, piece));
                assert_eq!((seen.source, seen.destination, seen.payload), (family.host(), client, answer));
            }
        }
    });
}

#[test]
fn fragments_that_come_before_the_first_one_are_sent_after_it() {
    on_bench(|bench| {
        for family in FAMILIES {
            let sent = cut(&Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53)), 7);
            for piece in sent[1..].iter().rev() {
                assert_eq!(bench.sends(A, piece).verdict, SHOT, "{family:?}: a copy waits");
            }
            let first = bench.sends(A, &sent[0]);
            assert_eq!((first.verdict, first.frame.len()), (REDIRECT, sent[0].len()), "it has its own bytes again");
            // What waited comes in by A's interface once more, really, and goes through the programs there.
            assert_eq!(bench.passed(family, 3), 3, "{family:?}");
            assert_eq!(bench.drops(A, DropReason::Fragment), 0);
            // Nothing is left of it: the same first fragment again sends nothing.
            assert_eq!(bench.sends(A, &sent[0]).frame, first.frame);
            assert_eq!(bench.passed(family, 4), 4, "{family:?}");
        }
    });
}

#[test]
fn lone_fragments_push_out_their_senders_oldest() {
    for family in FAMILIES {
        on_bench(|bench| {
            let lone = |slot, from, id| cut(&Packet::new(slot, from, family.outside(), Payload::Udp(20_000, 53)), id);
            for id in 0..PLACES as u16 {
                assert_eq!(bench.sends(A, &lone(A, family.a(), id)[1]).verdict, SHOT);
            }
            assert_eq!(bench.drops(A, DropReason::Fragment), 0, "all wait");
            for id in 1000..1010 {
                assert_eq!(bench.sends(A, &lone(A, family.a(), id)[1]).verdict, SHOT);
            }
            assert_eq!(bench.drops(A, DropReason::Fragment), 10, "each has pushed out one");
            // The oldest is lost, the youngest is not: it follows its first one.
            for (id, passed) in [(0, 1), (1009, 3)] {
                assert_eq!(bench.sends(A, &lone(A, family.a(), id)[0]).verdict, REDIRECT);
                assert_eq!(bench.passed(family, passed), passed, "{id}");
            }
        });
    }
}

#[test]
fn no_fragment_goes_where_its_packet_may_not() {
    on_bench(|bench| {
        for family in FAMILIES {
            // A packet of A's that passes tells nothing about one of C's, nor about one to another network.
            let sent = cut(&Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53)), 7);
            run_all(&sent, REDIRECT, |piece| bench.sends(A, piece));
            let stranger = cut(&Packet::new(C, family.a(), family.outside(), Payload::Udp(20_000, 53)), 7);
            for piece in &stranger {
                bench.dies(C, piece, DropReason::SpoofedSource);
            }
            for piece in cut(&Packet::new(A, family.a(), family.c(), Payload::Udp(20_000, 53)), 7) {
                bench.dies(A, &piece, DropReason::OtherNetwork);
            }
            // From outside straight to a container; and what the host itself awaits goes to its stack.
            for piece in cut(&Packet::outside(family.outside(), family.a(), Payload::Udp(53, 20_001)), 7) {
                let before = bench.drops(0, DropReason::DirectAccess);
                assert_eq!(bench.arrives(&piece).verdict, SHOT);
                assert_eq!(bench.drops(0, DropReason::DirectAccess), before + 1);
            }
            for piece in cut(&Packet::outside(family.outside(), family.host(), Payload::Udp(53, 20_001)), 8) {
                let run = bench.arrives(&piece);
                assert_eq!((run.verdict, run.frame), (NEXT, piece), "{family:?}");
            }
        }
    });
}

#[test]
fn no_frame_for_everybody_takes_a_lone_fragment_out_of_an_internal_network() {
    on_bench(|bench| {
        let network = NetworkConfig { internal: true, ..bench.network(1) };
        let endpoints = [bench.endpoint(A), bench.endpoint(B)];
        bench.dataplane.set_network(&network, &endpoints).unwrap();
        for family in FAMILIES {
            let lone = |to, id| {
                let mut lone = cut(&Packet::new(A, family.a(), to, Payload::Udp(20_000, 53)), id)[1].clone();
                lone[..6].fill(0xff);
                lone
            };
            bench.dies(A, &lone(family.outside(), 7), DropReason::InternalNetwork);
            bench.dies(A, &lone(family.c(), 8), DropReason::OtherNetwork);
        }
    });
}

#[test]
fn what_the_stack_has_cut_is_translated_on_its_way_out() {
    on_bench(|bench| {
        let (veth, uplink) = (bench.veths[A as usize], bench.uplink);
        for family in FAMILIES {
            let packet = Packet::new(A, family.a(), family.outside(), Payload::Udp(20_000, 53)).ttl(63);
            let (seen, _) = run_all(&cut(&packet, 7), NEXT, |piece| bench.at("to_uplink", piece, uplink, veth));
            assert_eq!((seen.source, seen.ttl, seen.payload), (family.host(), 63, packet.payload), "{family:?}");
            // No later fragment leaves with a private address.
            let lone = &cut(&packet, 8)[1];
            let before = bench.drops(A, DropReason::Fragment);
            assert_eq!(bench.at("to_uplink", lone, uplink, veth).verdict, SHOT);
            assert_eq!(bench.drops(A, DropReason::Fragment), before + 1);
        }
    });
}

#[test]
fn what_the_stack_has_cut_for_a_container_is_let_in() {
    on_bench(|bench| {
        let (bridge, veth, uplink) = (bench.bridges[1], bench.veths[A as usize], bench.uplink);
        let mut port = Bench::port(Family::V4, 8080, 80);
        port.entries[0].protocol = Protocol::UDP;
        bench.dataplane.publish(&[port]).unwrap();
        // Too small for every packet of these tests.
        let network = NetworkConfig { mtu: 40, ..bench.network(1) };
        let endpoints = [bench.endpoint(A), bench.endpoint(B)];
        bench.dataplane.set_network(&network, &endpoints).unwrap();
        let family = Family::V4;
        let knock = Packet::outside(family.outside(), family.host(), Payload::Udp(5000, 8080));
        let run = bench.arrives(&knock.frame());
        assert_eq!(run.verdict, NEXT, "translated, and left to the stack, which cuts it");
        let (translated, id) = (read(&run.frame).routed(), header4(&run.frame).identification);
        let gates = [("to_bridge", bridge), ("to_container", veth)];
        for (gate, at) in gates {
            for piece in cut(&translated, id) {
                assert_eq!(bench.at(gate, &piece, at, uplink).verdict, NEXT, "{gate}");
            }
            // A fragment of which nobody has told.
            assert_eq!(bench.at(gate, &cut(&translated, id + 1)[1], at, uplink).verdict, SHOT, "{gate}");
        }
    });
}
