//! TC egress of a network's bridge device: what the host's stack sends into the network, before it is switched to a port. Into
//! an isolated network it sends nothing.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{DropReason, layout::Network};

use crate::{
    admit::admit,
    drops::{Dropped, Outcome, finish},
    flow, host, maps,
    skb::Skb,
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
    if flow::network(interface.network).is_some_and(|network| network.has(Network::ISOLATED)) {
        return Err(Dropped::at(0, DropReason::IsolatedNetwork));
    }
    if skb.ingress_ifindex() == 0 {
        return host::explains(skb);
    }
    admit(skb, interface.network).map_err(|reason| Dropped::at(0, reason))
}
