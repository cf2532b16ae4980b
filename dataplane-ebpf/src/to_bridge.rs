//! TC egress of a network's bridge device: what the host's stack sends into the network, before it is switched to a port. Into
//! an isolated network it sends nothing.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{DropReason, layout::Network};

use crate::{
    admit::admit,
    drops::{Dropped, NEXT, Outcome, finish},
    flow, host, maps,
    skb::Skb,
    unbridged,
};

/// The hook.
#[classifier]
pub fn to_bridge(ctx: TcContext) -> i32 {
    finish(&ctx, "to_bridge", run(&Skb::new(&ctx)))
}

#[inline(always)]
fn run(skb: &Skb<'_>) -> Outcome {
    let Some(interface) = maps::interface(skb.ifindex()) else {
        return Err(Dropped::at(0, DropReason::UnknownInterface));
    };
    let zone = interface.network;
    let flags = flow::network(zone).map_or(0, |network| network.flags);
    if flags & Network::ISOLATED != 0 {
        return Err(Dropped::at(0, DropReason::IsolatedNetwork));
    }
    let action = if skb.ingress_ifindex() == 0 {
        host::explains(skb)?
    } else {
        admit(skb, zone).map_err(|reason| Dropped::at(0, reason))?
    };
    if action == NEXT && flags & Network::CROWDED != 0 {
        return unbridged::from_host(skb, zone).map_err(|reason| Dropped::at(0, reason));
    }
    Ok(action)
}
