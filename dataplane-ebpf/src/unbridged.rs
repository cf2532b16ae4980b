//! What the bridge would do for containers that are not its ports: a Linux bridge has only 1,023.
//!
//! From such a container the bridge device itself receives what it would have received from a port. What the host sends to one
//! goes to its veth from `to_bridge`, which costs nothing where a network has none. Machines that were plugged into the bridge are not
//! reached by these containers, nor they by them.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS},
    helpers::generated::{bpf_clone_redirect, bpf_for_each_map_elem, bpf_redirect},
};
use dataplane_common::{
    Address as _, DropReason, V4, Zone,
    layout::{Endpoint, Neighbor},
    wire::{
        Frame as _,
        arp::Arp,
        ethernet::{self, Ethernet},
        ipv4::Ipv4,
        ipv6::Ipv6,
    },
};

use crate::{drops::NEXT, flow, maps, neighbor, skb::Skb};

/// Is the endpoint's veth no port of the bridge?
#[inline(always)]
pub fn is_unbridged(endpoint: &Endpoint) -> bool {
    endpoint.flags & Endpoint::UNBRIDGED != 0
}

/// From a container to the host, by way of the bridge device.
#[inline(always)]
pub fn to_host(bridge: u32) -> i32 {
    // SAFETY: a plain helper call. The device finds by the frame's MAC address whether it is for the host.
    unsafe { bpf_redirect(bridge, u64::from(BPF_F_INGRESS)) as i32 }
}

/// From the host into a network that has such containers. What is for one goes to its veth, what is for a group is copied to
/// each of them, and the host's questions are answered for all neighbours; everything else is left to the bridge. A
/// function of its own for its stack.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`] where a question cannot be turned into its answer.
#[inline(never)]
pub fn from_host(skb: &Skb<'_>, zone: Zone) -> Result<i32, DropReason> {
    let Some(header) = skb.read::<Ethernet>(0) else { return Ok(NEXT) };
    let answered = match header.ethertype.get() {
        ethernet::ARP => neighbor::answer_arp(skb, zone)?,
        ethernet::IPV6 => neighbor::answer_solicitation(skb, zone)?,
        _ => false,
    };
    if answered {
        return Ok(to_host(skb.ifindex()));
    }
    if header.is_group() {
        copy_to_all(skb, zone);
        return Ok(NEXT);
    }
    let destination = match header.ethertype.get() {
        ethernet::IPV4 => skb.read::<Ipv4>(ethernet::LEN).map(|header| header.destination.any()),
        ethernet::IPV6 => skb.read::<Ipv6>(ethernet::LEN).map(|header| header.destination.any()),
        // An answer, for the one who asked.
        ethernet::ARP => skb.read::<Arp>(ethernet::LEN).map(|arp| V4(u32::from_ne_bytes(arp.target)).any()),
        _ => None,
    };
    let neighbor = destination.and_then(|address| maps::neighbor(zone, address));
    match neighbor {
        Some(neighbor) if flow::endpoint(neighbor.endpoint).is_some_and(is_unbridged) => {
            // SAFETY: a plain helper call. The host's neighbour table has put the container's MAC address into the frame.
            Ok(unsafe { bpf_redirect(neighbor.ifindex, 0) } as i32)
        }
        _ => Ok(NEXT),
    }
}

/// A copy to each of these containers.
#[inline(always)]
fn copy_to_all(skb: &Skb<'_>, zone: Zone) {
    let Some(neighbors) = maps::neighbors(zone) else { return };
    let mut packet = skb.as_ptr();
    // SAFETY: the map is a hash, the callback has the signature that the helper calls, and `packet` outlives the call.
    unsafe { bpf_for_each_map_elem(neighbors, copy_to as *mut c_void, (&raw mut packet).cast(), 0) };
}

unsafe extern "C" fn copy_to(
    _: *mut c_void,
    _: *const c_void,
    neighbor: *const Neighbor,
    packet: *mut *mut __sk_buff,
) -> i64 {
    // SAFETY: the helper passes a value of the map, and `copy_to_all` passes this pointer.
    let (neighbor, packet) = unsafe { (&*neighbor, *packet) };
    if neighbor.flags & Neighbor::FIRST != 0 && flow::endpoint(neighbor.endpoint).is_some_and(is_unbridged) {
        // SAFETY: a plain helper call on the program's own context. No copy is lost but for want of memory.
        unsafe { bpf_clone_redirect(packet, neighbor.ifindex, 0) };
    }
    0
}
