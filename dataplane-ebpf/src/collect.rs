//! Garbage collection, run by the agent through BPF_PROG_TEST_RUN: deletes pairs of entries that the agent found expired,
//! unless one was used since. In the kernel, so that nothing can come between the last look and the deletion but nanoseconds.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{
    V4, V6,
    layout::{EXPIRED_BATCH, EXPIRED_ETHERTYPE, Expired},
    wire::{
        Frame as _,
        ethernet::{self, Ethernet},
    },
};

use crate::{flow, make::Make, skb::Skb};

/// The program; returns how many pairs it deleted.
#[classifier]
pub fn collect(ctx: TcContext) -> i32 {
    let skb = Skb(&ctx);
    match skb.read::<Ethernet>(0).map(|header| header.ethertype.get()) {
        Some(EXPIRED_ETHERTYPE) => run::<V4>(&ctx),
        Some(ethertype) if ethertype == EXPIRED_ETHERTYPE + 1 => run::<V6>(&ctx),
        _ => 0,
    }
}

#[inline(always)]
fn run<A: Make>(ctx: &TcContext) -> i32 {
    let mut deleted = 0;
    for index in 0..EXPIRED_BATCH {
        let at = ethernet::LEN + index * size_of::<Expired<A>>();
        let Ok(expired) = ctx.load::<Expired<A>>(at) else { break };
        deleted += i32::from(collect_pair(&expired));
    }
    deleted
}

#[inline(always)]
fn collect_pair<A: Make>(expired: &Expired<A>) -> bool {
    // SAFETY: read at once; see `flow::find`.
    let original = unsafe { A::flows().get(expired.key) };
    let owner = match original {
        Some(flow) if flow.last_used != expired.last_used => return false,
        Some(flow) => flow.owner,
        // The agent saw half a pair, left by a crash between two insertions.
        None => 0,
    };
    // SAFETY: as above.
    if let Some(reply) = unsafe { A::flows().get(expired.reply) }
        && reply.last_used != expired.reply_last_used
    {
        return false;
    }
    flow::delete(&expired.key, &expired.reply, owner);
    true
}
