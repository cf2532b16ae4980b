//! TC egress of a network's bridge device: what the host's stack sends into the network, before it is switched to a port.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::DropReason;

use crate::{
    admit::admit,
    drops::{Dropped, Outcome, finish},
    host, maps,
    skb::Skb,
};

/// The hook.
#[classifier]
pub fn to_bridge(ctx: TcContext) -> i32 {
    finish(&ctx, "to_bridge", run(&Skb::new(&ctx)))
}

#[inline(always)]
fn run(skb: &Skb<'_>) -> Outcome {
    if skb.ingress_ifindex() == 0 {
        return host::explains(skb);
    }
    let Some(interface) = maps::interface(skb.ifindex()) else {
        return Err(Dropped::at(0, DropReason::UnknownInterface));
    };
    admit(skb, interface.network).map_err(|reason| Dropped::at(0, reason))
}
