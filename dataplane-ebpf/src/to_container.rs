//! TC egress of each host-side veth: what comes to a container through the stack. Redirected packets do not pass here, so the
//! hook costs the fast path nothing; it is the last gate for everything else.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::DropReason;

use crate::{
    admit::admit,
    drops::{Dropped, Outcome, finish},
    maps,
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
    admit(skb, interface.network).map_err(|reason| Dropped::at(interface.endpoint, reason))
}
