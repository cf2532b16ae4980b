//! Flows from outside to published ports whose client has not yet shown that it sees the answers.
//!
//! They live in an LRU of their own, so a flood from addresses that do not exist costs nobody's flow, and nobody's memory: it
//! pushes out its own. A client that acknowledges the server's SYN-ACK, or speaks again after an answer, moves into the flow
//! table. One that never does is served from here for as long as it likes: each of its packets can make its entries anew.

use core::{ffi::c_void, ptr::copy_nonoverlapping};

use aya_ebpf::helpers::generated::bpf_loop;
use dataplane_common::{
    DropReason, Flow, Protocol, Zone,
    flow::Party,
    wire::{Kind, Packet},
};

use crate::{
    flow::{is_alive, is_of_direction, progress_of, segment},
    make::{self, Make, Ports, Work, work},
    maps::config,
    rate,
    skb::Skb,
};

/// Finds the packet's entry among the flows that are not proven. A function of its own for its stack.
#[inline(never)]
pub fn find<A: Make>(packet: &Packet<A>, zone: Zone) -> Option<*mut Flow<A>> {
    if !packet.has_flow() {
        return None;
    }
    let work = work::<A>().ok()?;
    work.ask(packet, zone);
    let value = A::embryos().get_ptr_mut(&work.key)?;
    // SAFETY: the kernel keeps the memory for the length of this run. It may give it to another flow meanwhile, though hardly
    // to one whose entry was used so recently: one packet would be misjudged.
    let flow = unsafe { &*value };
    if is_alive(flow) && is_of_direction(packet, flow) { Some(value) } else { None }
}

/// Finds the entry of a datagram to a published port whose flow it does not prove: logs and the like, which nobody answers. It goes the
/// way of its entry as those of proven flows do, without asking the rules again. (What came by a socket's mapping ends with that, so it asks.)
/// A function of its own for its stack.
#[inline(never)]
pub fn find_unanswered<A: Make>(packet: &Packet<A>) -> Option<*mut Flow<A>> {
    let original = find(packet, Zone::OUTSIDE)?;
    // SAFETY: as in `find`.
    let published = unsafe { (*original).port } != 0;
    if published && !is_proven(packet, original) { Some(original) } else { None }
}

/// Has the flow of this entry, the original direction's, just been proven by the packet?
#[inline(always)]
pub fn is_proven<A: Make>(packet: &Packet<A>, original: *mut Flow<A>) -> bool {
    let Ok(work) = work::<A>() else { return false };
    // SAFETY: as in `find`.
    work.sibling = unsafe { &*original }.sibling(packet.protocol);
    // SAFETY: as in `find`.
    unsafe { A::embryos().get(&work.sibling) }.is_some_and(|reply| is_proof(packet, reply))
}

/// Does the packet show that its sender has seen an answer? The right acknowledgment number cannot be guessed; without TCP it
/// must be enough that there was an answer.
#[inline(always)]
fn is_proof<A: Make>(packet: &Packet<A>, reply: &Flow<A>) -> bool {
    if packet.kind == Kind::Tcp { progress_of(reply).is_acknowledged_by(&segment(packet)) } else { reply.packets > 0 }
}

/// Moves a proven flow into the flow table. A function of its own for its stack.
///
/// # Errors
///
/// [`DropReason::FlowQuota`] or [`DropReason::FlowTableFull`].
#[inline(never)]
pub fn promote<A: Make>(skb: &Skb<'_>, packet: &Packet<A>, original: *mut Flow<A>) -> Result<(), DropReason> {
    let work = work::<A>()?;
    // Copied in place: through the stack, two entries are too much for what is called from here.
    // SAFETY: as in `find`; both are entries, and not the same.
    unsafe { copy_nonoverlapping(original, &raw mut work.original, 1) };
    // SAFETY: as in `find`. `is_proven` has left the key there.
    let Some(reply) = (unsafe { A::embryos().get(&work.sibling) }) else { return Err(DropReason::NoFlow) };
    // SAFETY: as above.
    unsafe { copy_nonoverlapping(reply, &raw mut work.reply, 1) };
    work.set_ports(Ports::Keep);
    make::insert(skb, packet)?;
    let _ = A::embryos().remove(&work.key);
    let _ = A::embryos().remove(&work.sibling);
    Ok(())
}

/// A new flow to the published port that is in working memory. Whatever is left of an older one is written over. A function of
/// its own for its stack.
///
/// # Errors
///
/// The reason why there can be no flow.
#[inline(never)]
pub fn plant<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<*mut Flow<A>, DropReason> {
    let work = work::<A>()?;
    if !rate::take(packet.source, &work.published) {
        return Err(DropReason::FloodingClient);
    }
    make::prepare_published(packet, Zone::OUTSIDE, Party::OUTSIDE, &work.published)?;
    let Some(config) = config() else { return Err(DropReason::NoPort) };
    work.search.begin(packet, config);
    if let Some(before) = find(packet, Zone::OUTSIDE) {
        // Asked again: to the container it is one client, and its two questions must have one port.
        // SAFETY: as in `find`.
        work.keep_port(unsafe { (*before).after.source_port });
    }
    // SAFETY: the callback has the signature that the helper calls, and `skb` outlives the call.
    unsafe { bpf_loop(work.search.tries(), find_port::<A> as *mut c_void, (&raw const *skb).cast_mut().cast(), 0) };
    work.search.result?;
    if A::embryos().insert(&work.sibling, &work.reply, 0).is_err()
        || A::embryos().insert(&work.key, &work.original, 0).is_err()
    {
        return Err(DropReason::FlowTableFull);
    }
    if packet.protocol == Protocol::UDP {
        make::count_connection(work.original.port);
    }
    A::embryos().get_ptr_mut(&work.key).ok_or(DropReason::FlowTableFull)
}

/// Tries one port; returns 1 when the search is over.
unsafe extern "C" fn find_port<A: Make>(attempt: u32, skb: *mut Skb<'_>) -> i64 {
    // SAFETY: `plant` passes this, and it outlives the loop.
    let skb = unsafe { &*skb };
    let Ok(work) = work::<A>() else { return 1 };
    work.try_port(attempt);
    if is_taken(work) || work.is_anothers(skb, attempt) {
        return 0;
    }
    work.search.result = Ok(());
    1
}

/// Does the container's answer to this flow belong to another one: is the client known there by another address of the host?
#[inline(always)]
pub fn is_taken<A: Make>(work: &Work<A>) -> bool {
    let ours = work.reply.after;
    let other = |flow: &Flow<A>| {
        let after = flow.after;
        after != ours && is_alive(flow)
    };
    // SAFETY: as in `find`.
    unsafe { A::flows().get(&work.sibling).is_some_and(other) || A::embryos().get(&work.sibling).is_some_and(other) }
}
