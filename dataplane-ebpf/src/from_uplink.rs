//! TC ingress of each uplink: answers to masqueraded flows, connections to published ports, and nothing else of ours.
//!
//! Direct access to containers is closed here; every other packet goes on untouched to whoever comes next.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{
    DropReason, Flow, V4, V6, Zone,
    decision::{self, Verdict},
    layout::Published,
    wire::{
        Frame as _, Kind, Packet,
        ethernet::{self, Ethernet},
    },
};

use crate::{
    checksum,
    drops::{Dropped, NEXT, Outcome, finish},
    embryo, flow, fragment,
    make::{self, Make, work},
    maps::{self, Maps},
    shelf,
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
    // For the VLAN's own interface, where it comes by again.
    if skb.is_tagged() {
        return Ok(NEXT);
    }
    match header.ethertype.get() {
        ethernet::IPV4 => packet::<V4>(skb),
        ethernet::IPV6 => packet::<V6>(skb),
        _ => Ok(NEXT),
    }
}

/// An IP packet. A function of its own for each family, so that their stacks do not add up.
#[inline(never)]
fn packet<A: Make>(skb: &Skb<'_>) -> Outcome {
    // What cannot be read is not ours to judge: the stack drops it if it is for the host.
    let Ok(packet) = maps::parse::<A>(skb) else { return Ok(NEXT) };
    if fragment::is_unknown(packet, Zone::OUTSIDE) {
        return early(skb, packet).map_err(|reason| Dropped::at(0, reason));
    }
    let mut entry = flow::find(packet, Zone::OUTSIDE);
    if entry.is_none() {
        entry = match judge(skb, packet)? {
            Judgement::Follow(entry) => Some(entry),
            Judgement::Promote(entry) => match embryo::promote(skb, packet, entry) {
                Ok(()) => flow::find(packet, Zone::OUTSIDE),
                // Where there is no room, datagrams go on as they did: their flow needs no memory of its own.
                Err(_) if packet.kind == Kind::Udp => Some(entry),
                Err(reason) => return Err(at_port::<A>(reason)),
            },
            Judgement::Open if !checksum::is_right(skb, packet) => {
                return Err(at_port::<A>(DropReason::BadChecksum));
            }
            Judgement::Open => Some(embryo::plant(skb, packet).map_err(at_port::<A>)?),
            Judgement::Stray if make::host_converses(skb, packet) => return Ok(NEXT),
            Judgement::Stray => return Err(at_port::<A>(DropReason::NoFlow)),
            Judgement::ForStack => return Ok(NEXT),
        };
    }
    let Some(entry) = entry else { return Err(Dropped::at(0, DropReason::FlowTableFull)) };
    fragment::lead(skb, packet, entry, Zone::OUTSIDE)
        .and_then(|()| flow::follow(skb, packet, entry, skb.ifindex()))
        .map_err(|reason| Dropped::at(0, reason))
}

/// A fragment that has come before its packet's first one, perhaps the host's own. A function of its own for
/// its stack.
#[inline(never)]
fn early<A: Make>(skb: &Skb<'_>, packet: &mut Packet<A>) -> Result<i32, DropReason> {
    let lone = match decision::from_outside(&Maps, skb.ifindex(), packet) {
        Verdict::Drop(reason) => Err(reason),
        _ => Ok(NEXT),
    };
    shelf::wait(skb, 0, lone)
}

/// A drop that is accounted to the endpoint of the published port in working memory.
#[inline(always)]
fn at_port<A: Make>(reason: DropReason) -> Dropped {
    Dropped::at(work::<A>().map_or(0, |work| work.published.endpoint), reason)
}

/// What becomes of a packet without a flow.
enum Judgement<A> {
    /// It goes the way of this entry, which is not in the flow table.
    Follow(*mut Flow<A>),
    /// It proves the flow of this entry.
    Promote(*mut Flow<A>),
    /// It opens a flow to the published port in working memory.
    Open,
    /// It is for that port, but belongs to nothing there.
    Stray,
    /// It is not ours.
    ForStack,
}

/// A packet without a flow. A function of its own for its stack.
#[inline(never)]
fn judge<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<Judgement<A>, Dropped> {
    if packet.kind == Kind::Fragment
        && let Some(entry) = embryo::find(packet, Zone::OUTSIDE)
    {
        return Ok(Judgement::Follow(entry));
    }
    let opens = match decision::from_outside(&Maps, skb.ifindex(), packet) {
        Verdict::Publish(published) => {
            remember::<A>(published);
            true
        }
        Verdict::Continue(published) => {
            remember::<A>(published);
            false
        }
        Verdict::Drop(reason) => return Err(Dropped::at(0, reason)),
        Verdict::Stack | Verdict::Route if packet.kind != Kind::IcmpError => return Ok(Judgement::ForStack),
        Verdict::Stack | Verdict::Route => {
            return Ok(embryo::find(packet, Zone::OUTSIDE).map_or(Judgement::ForStack, Judgement::Follow));
        }
    };
    Ok(match embryo::find(packet, Zone::OUTSIDE) {
        Some(entry) if embryo::is_proven(packet, entry) => Judgement::Promote(entry),
        // A reset ends what has hardly begun; the server is to know.
        Some(entry) if !opens => Judgement::Follow(entry),
        Some(entry) if packet.kind == Kind::Udp => Judgement::Follow(entry),
        _ if opens => Judgement::Open,
        _ => Judgement::Stray,
    })
}

/// Puts the published port where those who need it look.
#[inline(always)]
fn remember<A: Make>(published: Published) {
    if let Ok(work) = work::<A>() {
        work.published = published;
    }
}
