//! TC ingress of a network's bridge device: what goes up from the network to the host's stack.
//!
//! `from_container` has judged all that comes from our own ports. Here the isolation of networks is kept once more, for
//! whatever else may have been plugged into the bridge; and from an isolated network nothing goes up at all.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{
    DropReason, V4, V6, Zone,
    decision::World,
    layout::Network,
    wire::{
        Frame as _,
        ethernet::{self, Ethernet},
    },
};

use crate::{
    drops::{Dropped, NEXT, Outcome, finish},
    flow,
    make::Make,
    maps::{self, Maps},
    skb::Skb,
};

/// The hook.
#[classifier]
pub fn from_bridge(ctx: TcContext) -> i32 {
    finish(&ctx, "from_bridge", run(&Skb::new(&ctx)))
}

#[inline(always)]
fn run(skb: &Skb<'_>) -> Outcome {
    let Some(interface) = maps::interface(skb.ifindex()) else {
        return Err(Dropped::at(0, DropReason::UnknownInterface));
    };
    if flow::network(interface.network).is_some_and(|network| network.has(Network::ISOLATED)) {
        return Err(Dropped::at(0, DropReason::IsolatedNetwork));
    }
    let Some(header) = skb.read::<Ethernet>(0) else { return Err(Dropped::at(0, DropReason::Malformed)) };
    let verdict = match header.ethertype.get() {
        ethernet::IPV4 => packet::<V4>(skb, interface.network),
        ethernet::IPV6 => packet::<V6>(skb, interface.network),
        _ => Ok(NEXT),
    };
    verdict.map_err(|reason| Dropped::at(0, reason))
}

#[inline(always)]
fn packet<A: Make>(skb: &Skb<'_>, zone: Zone) -> Result<i32, DropReason> {
    let packet = maps::parse::<A>(skb)?;
    let destination = packet.destination;
    if destination.is_group() || Maps.is_local(destination) {
        return Ok(NEXT);
    }
    match Maps.network_of(destination) {
        // What has a flow is on its way to a published port, and the stack is to say what is wrong with it.
        Some(other) if other != zone && !flow::expects(packet, other) => Err(DropReason::OtherNetwork),
        _ => Ok(NEXT),
    }
}
