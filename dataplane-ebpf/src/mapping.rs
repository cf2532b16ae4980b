//! Endpoint-independent mapping of UDP (RFC 4787 REQ-1), for networks that ask for it: a container's socket is seen under one port,
//! whomever it talks to, and is reached there by everybody (endpoint-independent filtering, REQ-8).
//!
//! A mapping is a pair of entries of the flow table like any flow's, in zones from which no packet comes ([`Zone::mappings`]) and with
//! nobody for the remote side. So it claims its port, is accounted, and ends like a flow. What comes to the port from
//! somebody new goes the way of packets to published ports. Not here: who may send at all, which `decision` says.

use dataplane_common::{
    DropReason, Protocol, Tuple, Zone, decision,
    layout::{Config, Published},
    wire::{Be16, Kind, Packet},
};

use crate::{
    flow::{self, is_alive, now},
    make::{self, Make, Ports, Who, Work, work},
    maps::has_flag,
    skb::Skb,
};

/// Is there a network that asks for such mappings?
#[inline(always)]
fn is_wanted() -> bool {
    has_flag(Config::ENDPOINT_INDEPENDENT)
}

/// The key of whatever comes to a port of the host, if it is a mapping's.
#[inline(always)]
fn ask_for_port<A: Make>(work: &mut Work<A>, address: A, port: Be16) {
    // In place: on the stack of who claims a port it would not fit.
    let key = &mut work.key;
    key.tuple.source = A::UNSPECIFIED;
    key.tuple.destination = address;
    key.tuple.source_port = Be16::new(0);
    key.tuple.destination_port = port;
    key.protocol = Protocol::UDP;
    key.zone = Zone::OUTSIDE.mappings();
}

/// Is the port to which answers would come, as `sibling` says, a mapping's? Writes over `key`. A flow that crosses need not ask: no
/// mapping is kept at a gateway's address in the other family.
#[inline(always)]
pub fn holds<A: Make>(work: &mut Work<A>) -> bool {
    if work.sibling.protocol != Protocol::UDP || !is_wanted() {
        return false;
    }
    let (address, port) = (work.sibling.tuple.destination, work.sibling.tuple.destination_port);
    ask_for_port(work, address, port);
    // SAFETY: read at once; see `flow::find`.
    unsafe { A::flows().get(&work.key) }.is_some_and(is_alive)
}

/// Gives the flow that was prepared the port of its socket's mapping, which is made if there is none.
///
/// # Errors
///
/// The reason why there can be no mapping.
#[inline(always)]
pub fn apply<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    if recall(skb, packet) {
        return Ok(());
    }
    // One after the other, each with a stack of its own: `insert` needs nearly all that there is.
    turn_into_mapping::<A>();
    make::insert(skb, packet)?;
    turn_back(packet);
    // Another CPU may have been first, with another port.
    if recall(skb, packet) { Ok(()) } else { Err(DropReason::NoPort) }
}

/// Makes the flow that was prepared its socket's mapping: with nobody for the remote side.
#[inline(never)]
fn turn_into_mapping<A: Make>() -> bool {
    let Ok(work) = work::<A>() else { return false };
    let (mut outside, mut inside) = (work.original.after, work.reply.after);
    (outside.destination, outside.destination_port) = (A::UNSPECIFIED, Be16::new(0));
    (inside.source, inside.source_port) = (outside.source, Be16::new(0));
    (work.original.after, work.reply.after) = (outside, inside);
    work.original.peer_zone = work.original.peer_zone.mappings();
    work.reply.peer_zone = work.reply.peer_zone.mappings();
    work.set_ports(Ports::Choose);
    true
}

/// Makes the mapping the packet's flow again.
#[inline(never)]
fn turn_back<A: Make>(packet: &Packet<A>) -> bool {
    let Ok(work) = work::<A>() else { return false };
    let after = work.original.after;
    work.original.after = Tuple { source: after.source, ..packet.tuple };
    work.reply.after = packet.tuple.reversed();
    work.original.peer_zone = work.original.peer_zone.of_packets();
    work.reply.peer_zone = work.reply.peer_zone.of_packets();
    true
}

/// Gives the flow that was prepared the port of its socket's mapping, if there is one whose port is still nobody else's. A
/// function of its own for its stack.
#[inline(never)]
fn recall<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> bool {
    let Ok(work) = work::<A>() else { return false };
    let mut outside = work.original.after;
    // One for each address of the host under which the socket is seen.
    let socket = Tuple { destination: outside.source, destination_port: Be16::new(0), ..packet.tuple };
    work.key = socket.key(Protocol::UDP, work.reply.peer_zone.mappings());
    let Some(entry) = A::flows().get_ptr_mut(&work.key) else { return false };
    // SAFETY: as in `flow::find`.
    let mapping = unsafe { &mut *entry };
    work.sibling = mapping.sibling(Protocol::UDP);
    // The port may have been published or bound since.
    if !is_alive(mapping) || make::is_taken::<A>(skb, Protocol::UDP, &work.sibling.tuple) {
        flow::delete(&work.key, &work.sibling, mapping.owner);
        return false;
    }
    mapping.last_used = now();
    let after = mapping.after;
    outside.source_port = after.source_port;
    work.original.after = outside;
    work.set_ports(Ports::Known);
    true
}

/// Is the packet, which belongs to nothing, for a socket's mapping? Then that is the published port in working memory.
#[inline(always)]
pub fn leads_to<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> bool {
    packet.kind == Kind::Udp && is_wanted() && find(skb, packet)
}

/// A function of its own for its stack.
#[inline(never)]
fn find<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> bool {
    if !decision::is_routed(packet.tuple.source) {
        return false;
    }
    let Ok(work) = work::<A>() else { return false };
    ask_for_port(work, packet.tuple.destination, packet.tuple.destination_port);
    // SAFETY: read at once; see `flow::find`.
    let Some(reply) = (unsafe { A::flows().get(&work.key) }) else { return false };
    if !is_alive(reply) {
        return false;
    }
    let after = reply.after;
    let (container, endpoint, port) = (after.destination.any(), reply.target, after.destination_port);
    work.published = Published { container, endpoint, port, flags: 0, slot: 0, rate: 0 };
    // A socket of the host may have the same port, towards this sender.
    !A::host_socket(skb, packet.protocol, &packet.tuple, Who::Any)
}
