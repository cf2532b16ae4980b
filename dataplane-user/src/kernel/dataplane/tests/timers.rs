//! How long flows live without a packet: each by the timer of its state. Nothing but packets of its own keeps a flow alive.

use std::{net::IpAddr, thread::sleep, time::Duration};

use etherparse::PacketBuilder;

use super::{packets::*, *};

/// The timer that is tried; all others are long.
const SHORT: u32 = 1;
const LONG: u32 = 1000;

/// Longer than the short time, by the programs' clock of whole seconds.
const PAUSE: Duration = Duration::from_millis(2200);

/// A packet of a container's flow to the outside, or of the answers; TCP by its flags, others by their protocol.
#[derive(Clone, Copy)]
enum Step {
    Out(u8),
    Back(u8),
    OutUdp,
    BackUdp,
    Ping,
    Pong,
}

use Step::{Back, BackUdp, Out, OutUdp, Ping, Pong};

/// One timer of them all.
type Timer = fn(&mut Timeouts) -> &mut u32;

/// A timer, and what brings a flow into the state that it counts for.
const STATES: [(Timer, &[Step]); 8] = [
    (|timeouts| &mut timeouts.tcp_syn_sent, &[Out(SYN)]),
    (|timeouts| &mut timeouts.tcp_syn_received, &[Out(SYN), Back(SYN | ACK)]),
    (|timeouts| &mut timeouts.tcp_established, &[Out(SYN), Back(SYN | ACK), Out(ACK)]),
    (|timeouts| &mut timeouts.tcp_closing, &[Out(SYN), Back(SYN | ACK), Out(ACK), Out(FIN | ACK), Back(FIN | ACK)]),
    (|timeouts| &mut timeouts.tcp_reset, &[Out(SYN), Back(SYN | ACK), Out(ACK), Back(RST | ACK)]),
    (|timeouts| &mut timeouts.udp_unanswered, &[OutUdp]),
    (|timeouts| &mut timeouts.udp_answered, &[OutUdp, BackUdp]),
    (|timeouts| &mut timeouts.other, &[Ping, Pong]),
];

/// Sends the packet of a step in the flow of this port, which lies in the pool and stays, or identifier.
fn take(bench: &mut Bench, family: Family, port: u16, step: Step) {
    let out = |payload| Packet::new(A, family.a(), family.outside(), payload).frame();
    let back = |payload| Packet::outside(family.outside(), family.host(), payload).frame();
    let run = match step {
        Out(flags) => bench.sends(A, &out(Payload::Tcp(port, 443, flags))),
        Back(flags) => bench.arrives(&back(Payload::Tcp(443, port, flags))),
        OutUdp => bench.sends(A, &out(Payload::Udp(port, 53))),
        BackUdp => bench.arrives(&back(Payload::Udp(53, port))),
        Ping => bench.sends(A, &out(Payload::Echo(port, true))),
        Pong => bench.arrives(&back(Payload::Echo(port, false))),
    };
    assert_eq!(run.verdict, REDIRECT, "{family:?} port {port}");
}

/// All long but this one.
fn only(timer: Timer) -> Timeouts {
    let mut timeouts = Timeouts {
        tcp_syn_sent: LONG,
        tcp_syn_received: LONG,
        tcp_established: LONG,
        tcp_closing: LONG,
        tcp_reset: LONG,
        udp_unanswered: LONG,
        udp_answered: LONG,
        other: LONG,
    };
    *timer(&mut timeouts) = SHORT;
    timeouts
}

#[test]
fn every_state_has_its_timer() {
    on_bench(|bench| {
        for family in FAMILIES {
            for (port, (_, steps)) in (20_000..).zip(STATES) {
                steps.iter().for_each(|step| take(bench, family, port, *step));
            }
        }
        sleep(PAUSE);
        let mut left = 2 * STATES.len() as u64;
        for (number, (timer, _)) in STATES.into_iter().enumerate() {
            bench.dataplane.timeouts = only(timer);
            let report = bench.dataplane.collect_garbage().unwrap();
            assert_eq!((report.flows, report.deleted), (left, 2), "state {number}: one flow of each family");
            left -= 2;
        }
    });
}

/// Where an endpoint is near its quota, the agent is told, and connections that are over make room, those first that have been so for
/// longest. What is open stays, however long it is idle.
#[test]
fn what_is_over_makes_room_where_that_is_short() {
    /// How many flows A may have, and from how many on that is nearly so.
    const QUOTA: u32 = 16;
    const NEARLY: u64 = 12;
    const OPENED: &[Step] = &[Out(SYN), Back(SYN | ACK), Out(ACK)];
    const CLOSED: &[Step] = &[Out(FIN | ACK), Back(FIN | ACK)];
    for family in FAMILIES {
        on_bench(|bench| {
            let endpoint = bench.dataplane.maps.endpoints.get(&A, 0).unwrap();
            bench.dataplane.maps.endpoints.set(A, layout::Endpoint { quota: QUOTA, ..endpoint }, 0).unwrap();
            bench.dataplane.maps.swept.set(0, layout::swept::AWAKE, 0).unwrap();
            bench.dataplane.timeouts = only(|timeouts| &mut timeouts.udp_answered);
            let told = |bench: &Bench| bench.dataplane.maps.swept.get(&0, 0).unwrap();
            let open = |bench: &mut Bench, port| OPENED.iter().for_each(|step| take(bench, family, port, *step));
            let close = |bench: &mut Bench, port| CLOSED.iter().for_each(|step| take(bench, family, port, *step));

            // Two stay open, three are closed first, the other seven later.
            (20_000..20_005).for_each(|port| open(bench, port));
            (20_002..20_005).for_each(|port| close(bench, port));
            sleep(PAUSE);
            for port in 20_005..20_012 {
                open(bench, port);
                close(bench, port);
            }
            assert_eq!(told(bench), layout::swept::AWAKE, "there is room");
            take(bench, family, 20_012, Out(SYN));
            assert_eq!(told(bench), layout::swept::CROWDED, "the quota is near");

            let report = bench.dataplane.collect_garbage().unwrap();
            assert!(report.deleted >= 3 && !report.crowded, "{report:?}: at least those of old");
            sleep(PAUSE);
            for port in [20_000, 20_001] {
                take(bench, family, port, Out(ACK));
            }
            // As many as before: what was closed later has to go now, but only as much of it as there is too much.
            let now = NEARLY + 1 - report.deleted;
            (0..NEARLY - now).for_each(|number| open(bench, 20_100 + number as u16));
            let report = bench.dataplane.collect_garbage().unwrap();
            assert_eq!((report.flows, report.deleted, report.crowded), (NEARLY, NEARLY - u64::from(QUOTA) / 2, false));
            for port in [20_000, 20_001].into_iter().chain(20_100..20_100 + (NEARLY - now) as u16) {
                take(bench, family, port, Out(ACK));
            }
        });
    }
}

/// A container has as many flows as it may have, and all are alive: nothing goes, and the agent knows that there is no room.
#[test]
fn what_is_alive_makes_no_room() {
    on_bench(|bench| {
        let endpoint = bench.dataplane.maps.endpoints.get(&A, 0).unwrap();
        bench.dataplane.maps.endpoints.set(A, layout::Endpoint { quota: 4, ..endpoint }, 0).unwrap();
        bench.dataplane.timeouts = only(|timeouts| &mut timeouts.tcp_closing);
        for port in 20_000..20_004 {
            take(bench, Family::V4, port, Out(SYN));
        }
        sleep(PAUSE);
        let report = bench.dataplane.collect_garbage().unwrap();
        assert_eq!((report.flows, report.deleted, report.crowded), (4, 0, true));
    });
}

/// RFC 5508 REQ-4, and SEMANTICS §7: no number of errors ends a mapping, and none keeps it.
#[test]
fn errors_keep_no_flow_alive() {
    on_bench(|bench| {
        const USED: u16 = 20_000;
        const COMPLAINED_OF: u16 = 20_001;
        bench.dataplane.timeouts = only(|timeouts| &mut timeouts.udp_answered);
        for family in FAMILIES {
            for port in [USED, COMPLAINED_OF] {
                take(bench, family, port, OutUdp);
                take(bench, family, port, BackUdp);
            }
        }
        sleep(PAUSE);
        for family in FAMILIES {
            take(bench, family, USED, BackUdp);
            let sent = Packet::outside(family.host(), family.outside(), Payload::Udp(COMPLAINED_OF, 53)).frame();
            let error = unreachable(family.outside(), family.host(), &sent);
            assert_eq!(bench.arrives(&error).verdict, REDIRECT, "{family:?}: the error passes");
            let got = Packet::outside(family.outside(), family.a(), Payload::Udp(53, COMPLAINED_OF)).frame();
            let mut error = unreachable(family.a(), family.outside(), &got);
            error[..6].copy_from_slice(&bridge_mac(1));
            error[6..12].copy_from_slice(&mac(A));
            assert_eq!(bench.sends(A, &error).verdict, REDIRECT, "{family:?}: so does the container's own");
        }
        let report = bench.dataplane.collect_garbage().unwrap();
        assert_eq!((report.flows, report.deleted), (4, 2), "those that were only complained of");
        for family in FAMILIES {
            take(bench, family, USED, BackUdp);
        }
    });
}

/// "Port unreachable" about the packet in a frame.
pub(super) fn unreachable(from: IpAddr, to: IpAddr, about: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2, 9, 9, 9, 9, 9], [2, 8, 8, 8, 8, 8]);
    let quoted = &about[14..];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ethernet.ipv4(from.octets(), to.octets(), 64).icmpv4_raw(3, 3, [0; 4]).write(&mut frame, quoted).unwrap();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ethernet.ipv6(from.octets(), to.octets(), 64).icmpv6_raw(1, 4, [0; 4]).write(&mut frame, quoted).unwrap();
        }
        _ => panic!("one packet, two families"),
    }
    frame
}
