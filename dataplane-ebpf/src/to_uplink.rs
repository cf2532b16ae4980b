//! TC egress of each uplink: translates what the fast path left to the stack, and never lets a container's private address
//! leave. Packets of the fast path go on after one look at their source, the host's own as `host` says.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{
    DropReason, V4, V6,
    decision::{self, Verdict, World},
    layout::Network,
    wire::{
        Frame as _, Kind, Packet,
        ethernet::{self, Ethernet},
    },
};

use crate::{
    drops::{Dropped, NEXT, Outcome, finish},
    embryo, flow, fragment, host,
    make::{self, Make},
    maps::{self, Maps},
    skb::Skb,
};

/// The hook.
#[classifier]
pub fn to_uplink(ctx: TcContext) -> i32 {
    finish(&ctx, "to_uplink", run(&Skb::new(&ctx)))
}

#[inline(always)]
fn run(skb: &Skb<'_>) -> Outcome {
    let Some(header) = skb.read::<Ethernet>(0) else { return Ok(NEXT) };
    let own = skb.ingress_ifindex() == 0;
    match header.ethertype.get() {
        ethernet::IPV4 if own => host::sends::<V4>(skb),
        ethernet::IPV6 if own => host::sends::<V6>(skb),
        ethernet::IPV4 => packet::<V4>(skb),
        ethernet::IPV6 => packet::<V6>(skb),
        _ => Ok(NEXT),
    }
}

/// An IP packet. A function of its own for each family, so that their stacks do not add up.
#[inline(never)]
fn packet<A: Make>(skb: &Skb<'_>) -> Outcome {
    // Before anything else is read: what the fast path sends comes by here as well.
    let Some(header) = skb.read::<A::Header>(ethernet::LEN) else { return Err(Dropped::at(0, DropReason::Malformed)) };
    let source = A::source(&header);
    let Some(zone) = Maps.network_of(source) else { return Ok(NEXT) };
    // What cannot be read cannot be translated.
    let packet = maps::parse::<A>(skb).map_err(|reason| Dropped::at(0, reason))?;
    let Some(network) = flow::network(zone) else { return Err(Dropped::at(0, DropReason::Unmasqueraded)) };
    let Some(neighbor) = maps::neighbor(zone, source.any()) else {
        return Err(Dropped::at(0, DropReason::Unmasqueraded));
    };
    let slot = neighbor.endpoint;
    if packet.is_hearsay() {
        return Err(Dropped::at(slot, DropReason::NoFlow));
    }
    if packet.kind == Kind::Fragment {
        fragment::recall(packet, zone);
    }
    let mut entry = flow::find(packet, zone).or_else(|| embryo::find(packet, zone));
    if entry.is_none() {
        judge(skb, packet, network, slot)
            .and_then(|()| make::open(skb, packet))
            .map_err(|reason| Dropped::at(slot, reason))?;
        entry = flow::find(packet, zone);
    }
    let Some(entry) = entry else { return Err(Dropped::at(slot, DropReason::FlowTableFull)) };
    fragment::lead(skb, packet, entry, zone)
        .and_then(|()| flow::translate_routed(skb, packet, entry))
        .map(|()| NEXT)
        .map_err(|reason| Dropped::at(slot, reason))
}

/// A packet that `from_container` left to the stack before there was a flow: its rules are the same here, and the flow that it
/// opens is prepared. A function of its own for its stack.
#[inline(never)]
fn judge<A: Make>(skb: &Skb<'_>, packet: &Packet<A>, network: &Network, slot: u32) -> Result<(), DropReason> {
    let Some(endpoint) = flow::endpoint(slot) else { return Err(DropReason::Unmasqueraded) };
    match decision::from_container(&Maps, network, A::gateway(network), packet) {
        Verdict::Route => make::prepare_outbound(packet, network, (slot, endpoint), skb.ifindex()),
        Verdict::Drop(reason) => Err(reason),
        Verdict::Stack | Verdict::Publish(_) | Verdict::Continue(_) => Err(DropReason::Unmasqueraded),
    }
}
