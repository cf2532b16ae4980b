//! What a program may do to an IP packet on its way: addresses, ports, the sums over them, the time to live, nothing else.

use std::ops::Range;

use crate::kernel::Ran;
use crate::oracle::{REDIRECT, demand};
use crate::packet::{self, ETHERNET, ICMP, Ip, Kind, SCTP, TCP, UDP};

/// Checks that the packet that came out is the one that went in, but for what translation changes; reads it.
pub(crate) fn check(frame: &[u8], before: &Ip, ran: &Ran) -> Result<Ip, String> {
    let out = &ran.frame;
    let redirected = ran.verdict == REDIRECT;
    let Some(after) = packet::ip(out) else { return Err("a packet that could be read no longer can".into()) };
    let offset = |ip: &Ip| ip.fragment.map(|fragment| fragment.offset);
    let same_shape = (after.transport, after.end, offset(&after), after.options, after.kind)
        == (before.transport, before.end, offset(before), before.options, before.kind);
    demand(same_shape && after.tuple.protocol == before.tuple.protocol, "a packet keeps its shape")?;
    demand(
        after.ttl == before.ttl || redirected && after.ttl == before.ttl.wrapping_sub(1),
        "the time to live goes down by one hop at most",
    )?;
    if redirected && after.tuple != before.tuple {
        demand(before.ttl > 1 && after.ttl < before.ttl, "who routes lowers the time to live")?;
    }
    let header_sums = (before.header_sum(frame), after.header_sum(out));
    demand(header_sums.0 == header_sums.1, "an IPv4 header's checksum stays right, or wrong")?;
    if before.kind != Kind::Later {
        if before.is_unsummed(frame) {
            demand(after.is_unsummed(out), "UDP without a checksum stays without")?;
        } else if before.checksum_at().is_some() {
            demand(before.sum(frame) == after.sum(out), "a transport checksum stays right, or wrong")?;
            demand(!after.is_unsummed(out), "a UDP checksum of zero is sent as ones")?;
        }
    }
    if let Kind::Sctp(_) = before.kind {
        let right = before.crc_is_right(frame) == after.crc_is_right(out);
        demand(right || before.fragment.is_some(), "an SCTP checksum stays right, or wrong")?;
    }
    let mut free = changeable(before);
    if redirected {
        free.push(0..12);
    }
    if let Some(fragment) = before.fragment
        && (after.tuple.source.0, after.tuple.destination.0) != (before.tuple.source.0, before.tuple.destination.0)
    {
        // Packets that were told apart by their addresses.
        free.push(fragment.id_at..fragment.id_at + if before.is_v6() { 4 } else { 2 });
    }
    if let (Some(inner), Some(inner_after)) = (packet::quoted(frame, before), packet::quoted(out, &after)) {
        quoted(frame, &inner, out, &inner_after)?;
        free.extend(changeable(&inner));
    }
    let kept = (0..frame.len()).all(|at| frame[at] == out[at] || free.iter().any(|range| range.contains(&at)));
    demand(kept, "nothing but addresses, ports and checksums changes")?;
    Ok(after)
}

/// The bytes of a packet that translation changes.
fn changeable(ip: &Ip) -> Vec<Range<usize>> {
    let mut free = if ip.is_v6() {
        vec![ip.at + 7..ip.at + 8, ip.at + 8..ip.at + 40]
    } else {
        vec![ip.at + 8..ip.at + 9, ip.at + 10..ip.at + 20]
    };
    let ports = match ip.kind {
        Kind::Tcp(_) | Kind::Udp | Kind::Sctp(_) => 0..4,
        Kind::EchoRequest | Kind::EchoReply => 4..6,
        // Quoted with its ports and little more.
        _ if [TCP, UDP, SCTP].contains(&ip.tuple.protocol) => 0..4,
        _ => 0..0,
    };
    free.push(ip.transport + ports.start..ip.transport + ports.end);
    if let Some(at) = ip.checksum_at() {
        free.push(at..at + 2);
    }
    if let Kind::Sctp(_) = ip.kind {
        free.push(ip.transport + 8..ip.transport + 12);
    }
    free
}

/// The packet inside an ICMP error keeps its sums as well, as far as it is quoted.
fn quoted(frame: &[u8], before: &Ip, out: &[u8], after: &Ip) -> Result<(), String> {
    if before.transport > before.end {
        return Ok(());
    }
    demand(before.header_sum(frame) == after.header_sum(out), "a quoted IPv4 header's checksum stays right, or wrong")?;
    if before.checksum_at().is_some() && before.kind != Kind::Later {
        if before.is_unsummed(frame) {
            demand(after.is_unsummed(out), "quoted UDP without a checksum stays without")?;
        } else {
            demand(before.sum(frame) == after.sum(out), "a quoted transport checksum stays right, or wrong")?;
        }
    }
    let inside_icmp = before.tuple.protocol == ICMP || ETHERNET < before.at;
    demand(inside_icmp && before.ttl == after.ttl, "a quoted packet keeps its time to live")
}
