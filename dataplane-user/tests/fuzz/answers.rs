//! Frames: out of nothing, and those that follow from a packet that somebody got.

use std::net::IpAddr;

use crate::oracle::{Arrived, Hook};
use crate::packet::{self, ACK, ETHERNET, ETHERTYPE_V6, FRAGMENT_HEADER, Ip, Kind, mend};
use crate::plan::{CONTAINERS, NETWORKS, UPLINKS};
use crate::play::Passed;
use crate::recipe::{Body, Extra, OUTSIDER, Recipe, UPLINK, Who, next_mac};
use crate::steps::Accuser;

/// Source and destination MAC address of a packet that a hook sees.
fn macs(hook: Hook, to: IpAddr) -> ([u8; 6], [u8; 6]) {
    match hook {
        Hook::FromContainer(n) => (CONTAINERS[n].mac(), next_mac(CONTAINERS[n].network(), to)),
        Hook::ToContainer(n, _) => (CONTAINERS[n].network().bridge_mac(), CONTAINERS[n].mac()),
        Hook::FromBridge(n) => (OUTSIDER, NETWORKS[n].bridge_mac()),
        Hook::ToBridge(n, _) => (NETWORKS[n].bridge_mac(), OUTSIDER),
        Hook::FromUplink(_) => (OUTSIDER, UPLINK),
        Hook::ToUplink(..) => (UPLINK, OUTSIDER),
    }
}

/// The frame of a recipe, as a hook would see it.
pub(crate) fn out_of_nothing(hook: Hook, recipe: &Recipe) -> Vec<u8> {
    let (source, destination) = macs(hook, recipe.destination.ip(recipe.v6));
    recipe.frame(source, destination)
}

/// Any bytes behind an Ethernet header.
pub(crate) fn raw(hook: Hook, ethertype: u16, bytes: &[u8]) -> Vec<u8> {
    let (source, destination) = macs(hook, CONTAINERS[0].ip(false));
    [&destination[..], &source, &ethertype.to_be_bytes(), bytes].concat()
}

/// Where somebody who got a packet sends from.
fn sends_from(passed: &Passed, ip: &Ip) -> Option<Hook> {
    match passed.arrived {
        Arrived::AtContainer(slot) => {
            CONTAINERS.iter().position(|container| container.slot == slot).map(Hook::FromContainer)
        }
        Arrived::Outside => {
            let uplink = UPLINKS.iter().position(|uplink| uplink.ip(ip.is_v6()) == ip.tuple.source.0);
            Some(Hook::FromUplink(uplink.unwrap_or(0)))
        }
        Arrived::AtStack => None,
    }
}

/// What whoever got a packet answers.
pub(crate) fn answer(passed: &Passed, flags: u8, payload: u16, ttl: u8) -> Option<(Hook, Vec<u8>)> {
    let ip = packet::ip(&passed.out)?;
    let hook = sends_from(passed, &ip)?;
    let (near, far) = (ip.tuple.destination, ip.tuple.source);
    let body = match ip.kind {
        Kind::Tcp(told) => {
            let (sequence, acknowledgment, length) = ip.numbers(&passed.out)?;
            let own = if told & ACK != 0 { acknowledgment } else { 5000 };
            Body::Tcp(near.1, far.1, flags, own, sequence.wrapping_add(length))
        }
        Kind::Udp => Body::Udp(near.1, far.1),
        Kind::EchoRequest => Body::Echo(near.1, false),
        Kind::EchoReply => Body::Echo(near.1, true),
        Kind::Sctp(init) => Body::Sctp(near.1, far.1, if init { 2 } else { flags & 7 }),
        _ => Body::Other(ip.tuple.protocol),
    };
    let recipe = Recipe {
        v6: ip.is_v6(),
        source: Who::Exactly(near.0),
        destination: Who::Exactly(far.0),
        body,
        ttl,
        extra: Extra::Nothing,
        fragment: None,
        payload,
    };
    Some((hook, out_of_nothing(hook, &recipe)))
}

/// The ICMP message that something is wrong with a packet: from whoever got it, or from somebody else on its way. `what` is
/// type, code and the four bytes behind the checksum; so many bytes of the packet are quoted.
pub(crate) fn complaint(passed: &Passed, by: Accuser, what: (u8, u8, u32), quoted: usize) -> Option<(Hook, Vec<u8>)> {
    let ip = packet::ip(&passed.out)?;
    let (hook, source) = match by {
        Accuser::Receiver => (sends_from(passed, &ip)?, Who::Exactly(ip.tuple.destination.0)),
        Accuser::Router(router) => (sends_from(passed, &ip)?, router),
        Accuser::Container(other) => (Hook::FromContainer(other), Who::Container(other)),
    };
    let (kind, code, rest) = what;
    let recipe = Recipe {
        v6: ip.is_v6(),
        source,
        destination: Who::Exactly(ip.tuple.source.0),
        body: Body::Icmp(kind, code, rest),
        ttl: 64,
        extra: Extra::Nothing,
        fragment: None,
        payload: 0,
    };
    let mut frame = out_of_nothing(hook, &recipe);
    frame.extend(passed.out[ETHERNET..ip.end].iter().take(quoted));
    set_length(&mut frame);
    mend(&mut frame);
    Some((hook, frame))
}

/// The pieces of a packet that is cut at these bytes of what follows its header; itself, if it is too short or cut already.
pub(crate) fn pieces(frame: &[u8], cuts: [usize; 2]) -> Vec<Vec<u8>> {
    let Some(ip) = packet::ip(frame).filter(|ip| ip.fragment.is_none() && !ip.options) else {
        return vec![frame.to_vec()];
    };
    let (header, rest) = (&frame[..ip.transport], &frame[ip.transport..ip.end]);
    let mut bounds = vec![0, rest.len()];
    bounds.extend(cuts.into_iter().filter(|cut| *cut < rest.len()));
    bounds.sort_unstable();
    bounds.dedup();
    bounds
        .windows(2)
        .map(|bounds| {
            let (start, end) = (bounds[0], bounds[1]);
            let more = end < rest.len();
            let mut piece = header.to_vec();
            if ip.is_v6() {
                piece[ETHERNET + 6] = FRAGMENT_HEADER;
                let place = (start as u16 | u16::from(more)).to_be_bytes();
                piece.extend([ip.tuple.protocol, 0, place[0], place[1], 0, 0, 0, 9]);
            } else {
                let place = (start / 8) as u16 | if more { 0x2000 } else { 0 };
                piece[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&place.to_be_bytes());
            }
            piece.extend(&rest[start..end]);
            set_length(&mut piece);
            mend(&mut piece);
            piece
        })
        .collect()
}

/// Has the IP header tell the frame's length.
fn set_length(frame: &mut [u8]) {
    let (at, header) = if packet::ethertype(frame) == ETHERTYPE_V6 { (4, 40) } else { (2, 0) };
    let length = (frame.len() - ETHERNET - header) as u16;
    frame[ETHERNET + at..ETHERNET + at + 2].copy_from_slice(&length.to_be_bytes());
}
