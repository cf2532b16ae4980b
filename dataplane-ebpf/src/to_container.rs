//! TC egress of each host-side veth: what comes to a container through the stack, or from a machine that was plugged into the
//! bridge. Redirected packets do not pass here, so the hook costs the fast path nothing; it is the last gate for everything else.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{
    DropReason, Zone,
    layout::{Endpoint, Network},
    wire::{Frame as _, ethernet::Ethernet},
};

use crate::{
    admit::admit,
    bandwidth,
    drops::{Dropped, NEXT, Outcome, SHOT, finish},
    flow, maps,
    skb::Skb,
};

/// The hook.
#[classifier]
pub fn to_container(ctx: TcContext) -> i32 {
    finish(&ctx, "to_container", run(&Skb::new(&ctx)))
}

#[inline(always)]
fn run(skb: &Skb<'_>) -> Outcome {
    let Some(interface) = maps::interface(skb.ifindex()) else {
        return Err(Dropped::at(0, DropReason::UnknownInterface));
    };
    let slot = interface.endpoint;
    let action = admit(skb, interface.network)
        .or_else(|reason| switched(skb, interface.network).unwrap_or(Err(reason)))
        .map_err(|reason| Dropped::at(slot, reason))?;
    // What was redirected has been accounted for, and does not come by here.
    let limited = flow::endpoint(slot).is_some_and(|endpoint| endpoint.flags & Endpoint::LIMITS_INGRESS != 0);
    if limited && bandwidth::is_receiving_too_much(skb, slot) { Ok(SHOT) } else { Ok(action) }
}

/// What becomes of a packet that the bridge has switched here from a port that is not ours: a neighbour's. `None` if the host has
/// routed it, since then it comes from the bridge's own address.
#[inline(always)]
fn switched(skb: &Skb<'_>, zone: Zone) -> Option<Result<i32, DropReason>> {
    let network = flow::network(zone)?;
    if skb.read::<Ethernet>(0)?.source == network.mac {
        return None;
    }
    Some(if network.has(Network::ICC) { Ok(NEXT) } else { Err(DropReason::IccDisabled) })
}
