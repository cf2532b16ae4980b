//! TC ingress of each uplink: answers to masqueraded flows, connections to published ports, and nothing else of ours.
//!
//! Direct access to containers is closed here; every other packet goes on untouched to whoever comes next.

use core::ptr::null_mut;

use aya_ebpf::{macros::classifier, programs::TcContext};
use dataplane_common::{
    DropReason, Flow, V4, V6, Zone,
    decision::{self, Verdict},
    layout::{Config, Published},
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
    mapping,
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
        entry = match packet.kind {
            // Its packet's first one may have opened a flow that is not proven yet.
            Kind::Fragment => embryo::find(packet, Zone::OUTSIDE),
            Kind::Udp if maps::has_flag(Config::DATAGRAMS) => embryo::find_unanswered(packet),
            _ => None,
        };
    }
    if entry.is_none() {
        entry = match ask(skb, packet).map_err(|reason| Dropped::at(0, reason))? {
            Rule::Elsewhere if packet.kind == Kind::IcmpError => embryo::find(packet, Zone::OUTSIDE),
            Rule::Elsewhere => None,
            rule => {
                let (judgement, entry) = judge(packet, rule == Rule::Opens);
                match judgement {
                    Judgement::Follow => Some(entry),
                    Judgement::Promote => match embryo::promote(skb, packet, entry) {
                        Ok(()) => {
                            Some(flow::find(packet, Zone::OUTSIDE).ok_or(Dropped::at(0, DropReason::FlowTableFull))?)
                        }
                        // Where there is no room, datagrams go on as they did: their flow needs no memory of its own.
                        Err(_) if packet.kind == Kind::Udp => Some(entry),
                        Err(reason) => return Err(at_port::<A>(reason)),
                    },
                    Judgement::Open if !checksum::is_right(skb, packet) => {
                        return Err(at_port::<A>(DropReason::BadChecksum));
                    }
                    Judgement::Open => Some(embryo::plant(skb, packet).map_err(at_port::<A>)?),
                    Judgement::Stray if make::host_converses(skb, packet) => None,
                    Judgement::Stray => return Err(at_port::<A>(DropReason::NoFlow)),
                }
            }
        };
    }
    let Some(entry) = entry else { return Ok(NEXT) };
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

/// Asks the rules, and then for a mapped socket.
#[inline(always)]
fn ask<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<Rule, DropReason> {
    match rule(skb, packet)? {
        Rule::Elsewhere if mapping::leads_to(skb, packet) => Ok(Rule::Opens),
        rule => Ok(rule),
    }
}

/// What the rules say of a packet without a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It may open a flow to the published port in working memory.
    Opens,
    /// It may go on with what was opened there.
    GoesOn,
    /// It is not for a published port.
    Elsewhere,
}

/// Asks the rules. A function of its own for its stack.
#[inline(never)]
fn rule<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<Rule, DropReason> {
    match decision::from_outside(&Maps, skb.ifindex(), packet) {
        Verdict::Publish(published) => {
            remember::<A>(published);
            Ok(Rule::Opens)
        }
        Verdict::Continue(published) => {
            remember::<A>(published);
            Ok(Rule::GoesOn)
        }
        Verdict::Drop(reason) => Err(reason),
        Verdict::Stack | Verdict::Route => Ok(Rule::Elsewhere),
    }
}

/// What becomes of a packet to the published port in working memory.
enum Judgement {
    /// It goes the way of its entry, which is not in the flow table.
    Follow,
    /// It proves the flow of its entry.
    Promote,
    /// It opens a flow.
    Open,
    /// It belongs to nothing there.
    Stray,
}

/// A packet without a flow to the published port in working memory, and its entry, or null: an enum with the entry inside would
/// leave bytes that the verifier does not let pass. A function of its own for its stack.
#[inline(never)]
fn judge<A: Make>(packet: &Packet<A>, opens: bool) -> (Judgement, *mut Flow<A>) {
    let entry = embryo::find(packet, Zone::OUTSIDE);
    let judgement = match entry {
        Some(entry) if embryo::is_proven(packet, entry) => Judgement::Promote,
        // A reset ends what has hardly begun; the server is to know.
        Some(_) if !opens => Judgement::Follow,
        Some(_) if packet.kind == Kind::Udp => Judgement::Follow,
        _ if opens => Judgement::Open,
        _ => Judgement::Stray,
    };
    (judgement, entry.unwrap_or(null_mut()))
}

/// Puts the published port where those who need it look.
#[inline(always)]
fn remember<A: Make>(published: Published) {
    if let Ok(work) = work::<A>() {
        work.published = published;
    }
}
