//! ARP and neighbour discovery: answers for containers, silence for the rest, no lies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

/// A request of the container in `slot`: who has `target`?
pub(super) fn arp(slot: u32, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac(slot));
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac(slot));
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

#[test]
fn arp_is_answered_for_neighbours() {
    on_bench(|bench| {
        let run = bench.sends(A, &arp(A, [10, 1, 0, 2], [10, 1, 0, 3]));
        assert_eq!(run.verdict, REDIRECT);
        let mut reply = mac(A).to_vec();
        reply.extend(mac(B));
        reply.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2]);
        reply.extend(mac(B));
        reply.extend([10, 1, 0, 3]);
        reply.extend(mac(A));
        reply.extend([10, 1, 0, 2]);
        assert_eq!(run.frame, reply);
    });
}

#[test]
fn arp_for_the_gateway_and_for_nobody_goes_to_the_bridge() {
    on_bench(|bench| {
        for target in [[10, 1, 0, 1], [10, 1, 0, 99], [10, 2, 0, 2], [10, 1, 0, 2]] {
            let frame = arp(A, [10, 1, 0, 2], target);
            let run = bench.sends(A, &frame);
            assert_eq!((run.verdict, run.frame), (NEXT, frame), "{target:?}");
        }
    });
}

#[test]
fn row_17_arp_lies_die() {
    on_bench(|bench| {
        bench.dies(A, &arp(A, [10, 1, 0, 3], [10, 1, 0, 1]), DropReason::SpoofedArp);
        let mut frame = arp(A, [10, 1, 0, 2], [10, 1, 0, 1]);
        frame[22..28].copy_from_slice(&mac(B));
        bench.dies(A, &frame, DropReason::SpoofedArp);
        // A probe names no sender (RFC 5227).
        assert_eq!(bench.sends(A, &arp(A, [0; 4], [10, 1, 0, 2])).verdict, NEXT);
    });
}

/// A neighbour message of the container in `slot`, with a link-layer address option.
pub(super) fn discovery(slot: u32, source: &str, kind: u8, target: &str, option: u8, option_mac: [u8; 6]) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    let destination: Ipv6Addr = "ff02::1:ff00:3".parse().unwrap();
    let mut body = target.parse::<Ipv6Addr>().unwrap().octets().to_vec();
    body.extend([option, 1]);
    body.extend(option_mac);
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(mac(slot), [0x33, 0x33, 0xff, 0, 0, 3])
        .ipv6(source.octets(), destination.octets(), 255)
        .icmpv6_raw(kind, 0, [0; 4])
        .write(&mut frame, &body)
        .unwrap();
    frame
}

pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;

#[test]
fn solicitations_are_answered_for_neighbours_by_every_address() {
    on_bench(|bench| {
        for (source, target) in
            [("fd01::2", "fd01::3"), ("fe80::42:ff:fe00:1", "fe80::42:ff:fe00:2"), ("fd01::2", "fe80::42:ff:fe00:2")]
        {
            let run = bench.sends(A, &discovery(A, source, SOLICITATION, target, 1, mac(A)));
            assert_eq!(run.verdict, REDIRECT, "{target}");
            assert_eq!((&run.frame[..6], &run.frame[6..12]), (&mac(A)[..], &mac(B)[..]));
            let parsed = etherparse::SlicedPacket::from_ethernet(&run.frame).unwrap();
            let Some(etherparse::NetSlice::Ipv6(ip)) = &parsed.net else { panic!("not IPv6") };
            assert_eq!(IpAddr::from(ip.header().source_addr()), target.parse::<IpAddr>().unwrap());
            assert_eq!(IpAddr::from(ip.header().destination_addr()), source.parse::<IpAddr>().unwrap());
            assert_eq!(ip.header().hop_limit(), 255);
            let Some(etherparse::TransportSlice::Icmpv6(icmp)) = &parsed.transport else { panic!("not ICMPv6") };
            assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
            assert_eq!((icmp.type_u8(), &run.frame[58..62]), (ADVERTISEMENT, &[0x60, 0, 0, 0][..]));
            assert_eq!(&run.frame[78..], [&[2, 1][..], &mac(B)[..]].concat());
        }
    });
}

#[test]
fn row_17_neighbour_discovery_lies_die() {
    on_bench(|bench| {
        let lie = DropReason::SpoofedArp;
        bench.dies(A, &discovery(A, "fd01::2", ADVERTISEMENT, "fd01::3", 2, mac(A)), lie);
        bench.dies(A, &discovery(A, "fd01::2", ADVERTISEMENT, "fd01::1", 2, mac(A)), lie);
        // Eight bytes shorter: without a link-layer address.
        let mut short = discovery(A, "fd01::2", ADVERTISEMENT, "fd01::3", 2, mac(A));
        short.truncate(short.len() - 8);
        short[18..20].copy_from_slice(&24_u16.to_be_bytes());
        bench.dies(A, &short, lie);
        bench.dies(A, &discovery(A, "fd01::2", SOLICITATION, "fd01::3", 1, mac(B)), lie);
        bench.dies(A, &discovery(A, "fd01::2", ADVERTISEMENT, "fd01::2", 2, mac(B)), lie);
        bench.dies(A, &discovery(A, "fd01::3", SOLICITATION, "fd01::1", 1, mac(A)), DropReason::SpoofedSource);
        for target in ["fd01::2", "fe80::42:ff:fe00:1"] {
            let own = discovery(A, "fd01::2", ADVERTISEMENT, target, 2, mac(A));
            assert_eq!(bench.sends(A, &own).verdict, NEXT, "its own address is no lie");
        }
    });
}

#[test]
fn neighbour_messages_of_no_known_length_die() {
    on_bench(|bench| {
        for kind in [SOLICITATION, ADVERTISEMENT] {
            // Cut within their target, and with something behind their option that may tell another address.
            for len in [4_u16, 23, 33, 40] {
                let mut frame = discovery(A, "fd01::2", kind, "fd01::2", 1, mac(A));
                frame.resize(14 + 40 + usize::from(len), 0);
                frame[18..20].copy_from_slice(&len.to_be_bytes());
                bench.dies(A, &frame, DropReason::Malformed);
            }
        }
    });
}

#[test]
fn solicitations_for_the_gateway_go_to_the_bridge() {
    on_bench(|bench| {
        for target in ["fd01::1", "fd01::99", "fd02::2"] {
            let frame = discovery(A, "fd01::2", SOLICITATION, target, 1, mac(A));
            let run = bench.sends(A, &frame);
            assert_eq!((run.verdict, run.frame), (NEXT, frame), "{target}");
        }
    });
}

/// A gratuitous ARP packet tells the own address only.
#[test]
fn announcements_pass() {
    on_bench(|bench| {
        let own = Ipv4Addr::new(10, 1, 0, 2).octets();
        let frame = arp(A, own, own);
        assert_eq!(bench.sends(A, &frame).verdict, NEXT);
    });
}
