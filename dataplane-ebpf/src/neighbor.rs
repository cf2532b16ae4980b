//! Answers ARP requests and neighbour solicitations for the containers of a network: their neighbours', and the host's where
//! the bridge cannot take its question to everybody.
//!
//! Bridge ports are isolated from each other, so containers never hear each other's questions. What is asked for the gateway
//! goes on to the bridge, where the host answers. What a container tells of itself unasked goes to all its neighbours.

use core::mem::offset_of;

use aya_ebpf::helpers::generated::bpf_redirect_peer;
use dataplane_common::{
    Address, DropReason, Protocol, V4, V6, Zone,
    layout::Endpoint,
    wire::{
        Be16, Frame as _,
        arp::{self, Arp},
        ethernet::{self, Ethernet},
        icmp::{self, Neighbor},
        ipv6::Ipv6,
    },
};

use crate::{
    drops::NEXT,
    from_container::{Sender, flood},
    maps,
    skb::Skb,
};

/// An ARP packet with its Ethernet header: 42 bytes, no padding.
#[repr(C)]
#[derive(Clone, Copy)]
struct ArpFrame {
    ethernet: Ethernet,
    arp: Arp,
}

/// A neighbour message with its Ethernet and IPv6 headers: 86 bytes. Packed, since 14 is no multiple of 4.
#[repr(C, packed(2))]
#[derive(Clone, Copy)]
struct NeighborFrame {
    ethernet: Ethernet,
    ipv6: Ipv6,
    message: Neighbor,
}

/// Bytes of a neighbour message without an option, and of one with a link-layer address.
const BARE: u16 = offset_of!(Neighbor, option) as u16;
const TELLING: u16 = size_of::<Neighbor>() as u16;

/// Handles a container's ARP packet (RFC 826), `group` if its frame is for more than one station: checks that the sender is
/// itself, answers what is known, copies announcements. A function of its own for its stack.
#[inline(never)]
pub fn arp(skb: &Skb<'_>, container: &Sender, group: bool) -> Result<i32, DropReason> {
    let endpoint = container.endpoint;
    let Some(request) = skb.read::<Arp>(ethernet::LEN) else { return Err(DropReason::Malformed) };
    if !request.is_ipv4_over_ethernet() {
        return Err(DropReason::Malformed);
    }
    let sender = V4(u32::from_ne_bytes(request.sender));
    // A probe has no sender address (RFC 5227 §2.1.1).
    if request.sender_mac != endpoint.mac || (sender != endpoint.v4 && sender != V4::UNSPECIFIED) {
        return Err(DropReason::SpoofedArp);
    }
    let target = V4(u32::from_ne_bytes(request.target));
    if target == endpoint.v4 && sender == target && group {
        // Gratuitous (RFC 5227 §3): no neighbour's cache may stay stale.
        flood(skb, container);
    }
    if request.operation.get() != arp::REQUEST || target == endpoint.v4 {
        return Ok(NEXT);
    }
    let Some(neighbor) = maps::neighbor(endpoint.network, target.any()) else { return Ok(NEXT) };
    write(skb, &reply(&request, neighbor.mac))?;
    Ok(to_asker(skb, endpoint))
}

/// The answer to an ARP request: its target has this MAC address.
#[inline(always)]
fn reply(request: &Arp, mac: [u8; 6]) -> ArpFrame {
    ArpFrame {
        ethernet: Ethernet { destination: request.sender_mac, source: mac, ethertype: Be16::new(ethernet::ARP) },
        arp: Arp {
            operation: Be16::new(arp::REPLY),
            sender_mac: mac,
            sender: request.target,
            target_mac: request.sender_mac,
            target: request.sender,
            ..*request
        },
    }
}

/// Turns an ARP request of the host's into its answer, if it asks for a container; tells whether it did. A function of its own
/// for its stack.
#[inline(never)]
pub fn answer_arp(skb: &Skb<'_>, zone: Zone) -> Result<bool, DropReason> {
    let Some(request) = skb.read::<Arp>(ethernet::LEN) else { return Ok(false) };
    if !request.is_ipv4_over_ethernet() || request.operation.get() != arp::REQUEST {
        return Ok(false);
    }
    let target = V4(u32::from_ne_bytes(request.target));
    let Some(neighbor) = maps::neighbor(zone, target.any()) else { return Ok(false) };
    write(skb, &reply(&request, neighbor.mac)).map(|()| true)
}

/// Handles a container's neighbour solicitation or advertisement (RFC 4861), `group` if its frame is for more than one station; the
/// source address has been checked. A function of its own for its stack.
#[inline(never)]
pub fn discovery(skb: &Skb<'_>, container: &Sender, group: bool) -> Result<i32, DropReason> {
    let endpoint = container.endpoint;
    let Some(ipv6) = skb.read::<Ipv6>(ethernet::LEN) else { return Err(DropReason::Malformed) };
    let message = ethernet::LEN + size_of::<Ipv6>();
    // Its target and one option at most: behind that, another one could tell somebody else's address.
    let told = match ipv6.payload_length.get() {
        BARE => None,
        TELLING => Some(skb.read::<Neighbor>(message).ok_or(DropReason::Malformed)?),
        _ => return Err(DropReason::Malformed),
    };
    if let Some(told) = told
        && matches!(told.option, icmp::SOURCE_LINK_LAYER | icmp::TARGET_LINK_LAYER)
        && told.mac != endpoint.mac
    {
        return Err(DropReason::SpoofedArp);
    }
    if skb.read::<u8>(message) == Some(icmp::V6_NEIGHBOR_ADVERTISEMENT) {
        // Without a link-layer address it still tells who is there.
        let target = skb.read::<V6>(message + offset_of!(Neighbor, target));
        if target != Some(endpoint.v6) && target != Some(endpoint.link_local) {
            return Err(DropReason::SpoofedArp);
        }
        if group {
            // Unsolicited (§7.2.6).
            flood(skb, container);
        }
        return Ok(NEXT);
    }
    // Others, duplicate address detection among them, carry no link-layer address: the bridge takes them.
    let Some(asked) = told.filter(|asked| asked.option == icmp::SOURCE_LINK_LAYER) else { return Ok(NEXT) };
    let Some(neighbor) = maps::neighbor(endpoint.network, asked.target.any()) else { return Ok(NEXT) };
    write(skb, &advertisement(&ipv6, &asked, neighbor.mac))?;
    Ok(to_asker(skb, endpoint))
}

/// The answer to a neighbour solicitation: its target has this MAC address.
#[inline(always)]
fn advertisement(ipv6: &Ipv6, asked: &Neighbor, mac: [u8; 6]) -> NeighborFrame {
    NeighborFrame {
        ethernet: Ethernet { destination: asked.mac, source: mac, ethertype: Be16::new(V6::ETHERTYPE) },
        ipv6: Ipv6 { hop_limit: 255, source: asked.target, destination: ipv6.source, ..*ipv6 },
        message: Neighbor::advertisement(asked.target, mac, ipv6.source),
    }
}

/// Turns a neighbour solicitation of the host's into its answer, if it asks for a container; tells whether it did. A function of
/// its own for its stack.
#[inline(never)]
pub fn answer_solicitation(skb: &Skb<'_>, zone: Zone) -> Result<bool, DropReason> {
    let Some(ipv6) = skb.read::<Ipv6>(ethernet::LEN) else { return Ok(false) };
    if ipv6.next_header != Protocol::ICMPV6.0 || ipv6.payload_length.get() != size_of::<Neighbor>() as u16 {
        return Ok(false);
    }
    let Some(asked) = skb.read::<Neighbor>(ethernet::LEN + size_of::<Ipv6>()) else { return Ok(false) };
    if asked.kind != icmp::V6_NEIGHBOR_SOLICITATION || asked.option != icmp::SOURCE_LINK_LAYER {
        return Ok(false);
    }
    let Some(neighbor) = maps::neighbor(zone, asked.target.any()) else { return Ok(false) };
    write(skb, &advertisement(&ipv6, &asked, neighbor.mac)).map(|()| true)
}

/// Makes the packet what `frame` is.
#[inline(always)]
fn write<T>(skb: &Skb<'_>, frame: &T) -> Result<(), DropReason> {
    skb.0.store(0, frame, 0).map_err(|_| DropReason::RewriteFailed)
}

/// Sends an answer back into the container that asked.
#[inline(always)]
fn to_asker(skb: &Skb<'_>, endpoint: &Endpoint) -> i32 {
    crate::rewrite::mark_as_ours(skb);
    // SAFETY: a plain helper call; the peer of a host-side veth is in the container's namespace.
    unsafe { bpf_redirect_peer(endpoint.ifindex, 0) as i32 }
}
