//! What the host itself sends out of an uplink.
//!
//! Nearly all of it goes on untouched. A container's flow may hold the very port, towards the same destination, that a
//! process of the host now uses: then the host's packets are translated to another port, and both work. Pings have no socket
//! that could be asked for, so the host's own are flows, too, which keeps their identifiers. And what the host's stack says
//! about a packet that it saw translated must quote the packet as its sender knows it.

use dataplane_common::{
    DropReason, Flow, Protocol, V4, V6, Zone,
    decision::World as _,
    flow::Party,
    wire::{
        Frame as _, Kind, Packet,
        ethernet::{self, Ethernet},
        ipv4, ipv6,
    },
};

use crate::{
    drops::{Dropped, NEXT, Outcome},
    embryo, flow,
    make::{self, Make, Ports, work},
    maps::{self, Maps, config},
    skb::Skb,
};

/// An IP packet of the host's own. A function of its own for each family, so that their stacks do not add up.
#[inline(never)]
pub fn sends<A: Make>(skb: &Skb<'_>) -> Outcome {
    let Ok(packet) = maps::parse::<A>(skb) else { return Ok(NEXT) };
    let outcome = match packet.kind {
        Kind::IcmpError => error(skb, packet),
        Kind::Tcp | Kind::Udp if !may_clash(packet) => Ok(NEXT),
        Kind::Tcp | Kind::Udp | Kind::EchoRequest => claim(skb, packet),
        _ => Ok(NEXT),
    };
    outcome.map_err(|reason| Dropped::at(0, reason))
}

/// A packet of the host's own into a network. Errors about what was translated on its way through the host quote it as its
/// sender knows it; everything else goes on.
#[inline(always)]
pub fn explains(skb: &Skb<'_>) -> Outcome {
    let Some(header) = skb.read::<Ethernet>(0) else { return Ok(NEXT) };
    // One byte decides, so that only errors cost anything.
    let protocol = |at: usize| skb.read::<u8>(ethernet::LEN + at);
    match header.ethertype.get() {
        ethernet::IPV4 if protocol(ipv4::PROTOCOL) == Some(Protocol::ICMP.0) => explain::<V4>(skb),
        ethernet::IPV6 if protocol(ipv6::NEXT_HEADER) == Some(Protocol::ICMPV6.0) => explain::<V6>(skb),
        _ => Ok(NEXT),
    }
}

#[inline(never)]
fn explain<A: Make>(skb: &Skb<'_>) -> Outcome {
    let Ok(packet) = maps::parse::<A>(skb) else { return Ok(NEXT) };
    if packet.kind != Kind::IcmpError || !packet.has_flow() {
        return Ok(NEXT);
    }
    // What quotes the container's own packet, untranslated, needs nothing.
    let Some(zone) = Maps.network_of(packet.tuple.source) else { return Ok(NEXT) };
    let Some(entry) = flow::find(packet, zone) else { return Ok(NEXT) };
    // SAFETY: as in `flow::find`.
    if unsafe { &*entry }.is_original() {
        return Ok(NEXT);
    }
    flow::translate_routed(skb, packet, entry).map(|()| NEXT).map_err(|reason| Dropped::at(0, reason))
}

/// Only ports of the pool are ever given to containers.
#[inline(always)]
fn may_clash<A>(packet: &Packet<A>) -> bool {
    config().is_some_and(|config| config.pool.contains(packet.tuple.source_port.get()))
}

/// An ICMP error of the host's that quotes a packet to or from a container as the stack saw it, translated.
///
/// # Errors
///
/// [`DropReason::Unmasqueraded`] when nothing is known of the packet: its private addresses must not leave.
#[inline(never)]
fn error<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<i32, DropReason> {
    let Some(zone) = Maps.network_of(packet.tuple.source) else { return Ok(NEXT) };
    if Maps.is_local(packet.tuple.source) {
        return Ok(NEXT);
    }
    let entry = flow::find(packet, zone).or_else(|| embryo::find(packet, zone));
    let Some(entry) = entry else { return Err(DropReason::Unmasqueraded) };
    flow::translate_routed(skb, packet, entry)?;
    Ok(NEXT)
}

/// Gives the packet a flow of its own if it needs one.
#[inline(never)]
fn claim<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<i32, DropReason> {
    let query = packet.kind == Kind::EchoRequest;
    // Once for a hit; a miss makes the flow and looks again.
    for _ in 0..2 {
        if let Some(entry) = flow::find(packet, Zone::HOST) {
            flow::translate_routed(skb, packet, entry)?;
            return Ok(NEXT);
        }
        let held = is_held(packet)?;
        if !query && !held {
            return Ok(NEXT);
        }
        prepare(packet)?;
        if let Err(reason) = make::insert(skb, packet) {
            // Nobody else has the identifier: then it does without a flow.
            return if held { Err(reason) } else { Ok(NEXT) };
        }
    }
    Err(DropReason::FlowTableFull)
}

/// Would the answer to this packet go to a container?
#[inline(always)]
fn is_held<A: Make>(packet: &Packet<A>) -> Result<bool, DropReason> {
    let work = work::<A>()?;
    work.key = packet.tuple.reversed().key(packet.protocol, Zone::OUTSIDE);
    // SAFETY: read at once; see `flow::find`.
    Ok(unsafe { A::flows().get(&work.key) }.is_some_and(flow::is_alive))
}

/// Puts together the host's flow, for `make::insert`. It is nobody's: endpoint 0 has a quota for such flows.
#[inline(never)]
fn prepare<A: Make>(packet: &Packet<A>) -> Result<(), DropReason> {
    let now = flow::now();
    let work = work::<A>()?;
    let (to_host, original) = (Flow::<A>::TO_HOST, Flow::<A>::ORIGINAL);
    work.original = Flow::new(packet.tuple, Zone::OUTSIDE, (0, 0), Party::OUTSIDE, now, original | to_host);
    work.reply = Flow::new(packet.tuple.reversed(), Zone::HOST, (0, 0), Party::OUTSIDE, now, to_host);
    work.set_ports(Ports::Choose);
    Ok(())
}
