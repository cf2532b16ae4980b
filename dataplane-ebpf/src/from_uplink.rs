//! TC ingress of each uplink: answers to masqueraded flows, connections to published ports, and nothing else of ours.
//!
//! Direct access to containers is closed here; every other packet goes on untouched to whoever comes next.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{
    DropReason, V4, V6, Zone,
    decision::{self, Verdict},
    flow::Party,
    wire::{
        Frame as _, Packet,
        ethernet::{self, Ethernet},
    },
};

use crate::{
    drops::{Dropped, NEXT, Outcome, finish},
    flow::{self, Flows},
    maps::{self, Maps},
    skb::Skb,
};

/// The hook.
#[classifier]
pub fn from_uplink(ctx: TcContext) -> i32 {
    finish(&ctx, "from_uplink", run(&Skb::new(&ctx)))
}

#[inline(always)]
fn run(skb: &Skb<'_>) -> Outcome {
    let Some(header) = skb.read::<Ethernet>(0) else { return Ok(NEXT) };
    match header.ethertype.get() {
        ethernet::IPV4 => packet::<V4>(skb),
        ethernet::IPV6 => packet::<V6>(skb),
        _ => Ok(NEXT),
    }
}

/// An IP packet. A function of its own for each family, so that their stacks do not add up.
#[inline(never)]
fn packet<A: Flows>(skb: &Skb<'_>) -> Outcome {
    // What cannot be read is not ours to judge: the stack drops it if it is for the host.
    let Ok(packet) = maps::parse::<A>(skb) else { return Ok(NEXT) };
    // Once for a hit; a miss makes the flow and looks again.
    for _ in 0..2 {
        if let Some(entry) = flow::find(packet, Zone::OUTSIDE) {
            return flow::follow(skb, packet, entry, skb.ifindex()).map_err(|reason| Dropped::at(0, reason));
        }
        match judge(packet)? {
            Some(slot) => flow::insert(skb, packet).map_err(|reason| Dropped::at(slot, reason))?,
            None => return Ok(NEXT),
        }
    }
    Err(Dropped::at(0, DropReason::FlowTableFull))
}

/// A packet without a flow: prepares the one that it opens, to the endpoint that is returned. A function of its own for its
/// stack.
#[inline(never)]
fn judge<A: Flows>(packet: &Packet<A>) -> Result<Option<u32>, Dropped> {
    match decision::from_outside(&Maps, packet) {
        Verdict::Publish(published) => {
            let slot = published.endpoint;
            flow::prepare_published(packet, Zone::OUTSIDE, Party::OUTSIDE, &published)
                .map(|()| Some(slot))
                .map_err(|reason| Dropped::at(slot, reason))
        }
        Verdict::Drop(reason) => Err(Dropped::at(0, reason)),
        Verdict::Stack | Verdict::Route => Ok(None),
    }
}
