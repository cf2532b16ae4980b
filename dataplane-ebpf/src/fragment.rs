//! Fragments go the way of their packet's first one, which alone has ports and so a flow.
//!
//! A first fragment that has a flow leaves a note; later ones find it, take the ports from it and are then packets like any
//! other. Those that come before it wait on a shelf (`shelf`). Only a first fragment with a flow leaves a note: lone ones, however
//! many, push nobody's out.

use aya_ebpf::{bindings::BPF_ANY, btf_maps::PerCpuArray, helpers::generated::bpf_get_prandom_u32, macros::btf_map};
use dataplane_common::{
    DropReason, Flow, Protocol, Zone,
    fragment::{COUNTERS, FragmentKey, Fragmented, counter_hash},
    wire::{Be16, Kind, Packet},
};

use crate::{
    atomic,
    flow::{self, now},
    make::Make,
    maps::{FRAGMENTED, IDENTIFICATIONS, config},
    shelf,
    skb::Skb,
};

/// Where keys and notes are put together: on the stack they would not fit.
#[repr(C)]
pub struct Note {
    /// The packet.
    pub key: FragmentKey,
    told: Fragmented,
}

/// Each CPU's [`Note`].
#[btf_map]
static NOTE: PerCpuArray<Note, 1> = PerCpuArray::new();

/// This CPU's [`Note`].
#[inline(always)]
pub fn note() -> Option<&'static mut Note> {
    // SAFETY: the memory is this CPU's own, TC programs on one CPU run one after the other, and none keeps it across a call of
    // another function that asks for it.
    NOTE.get_ptr_mut(0).map(|note| unsafe { &mut *note })
}

/// What the first fragment of the noted packet has told, if it has passed.
#[inline(always)]
pub fn told(note: &Note) -> Option<&'static Fragmented> {
    // SAFETY: entries are read at once. If the memory is given to another packet meanwhile, which takes as many first fragments as the
    // table has entries, one fragment is lost.
    let told: &'static Fragmented = unsafe { FRAGMENTED.get(&note.key) }?;
    if told.is_recent(now()) { Some(told) } else { None }
}

/// Gives a later fragment the ports and the new identification of its packet, if its first fragment has passed; the packet came
/// from `zone`. Tells whether it has. A function of its own for its stack.
#[inline(never)]
pub fn recall<A: Make>(packet: &mut Packet<A>, zone: Zone) -> bool {
    let Some(note) = note() else { return false };
    note.key.set(packet.source, packet.destination, packet.part.identification, packet, zone);
    let Some(told) = told(note) else { return false };
    packet.tuple.source_port = told.source_port;
    packet.tuple.destination_port = told.destination_port;
    packet.protocol = told.protocol;
    packet.part.after = told.identification;
    packet.part.known = true;
    true
}

/// Is it a fragment of which nothing is known?
#[inline(always)]
pub fn is_unknown<A: Make>(packet: &mut Packet<A>, zone: Zone) -> bool {
    packet.kind == Kind::Fragment && !recall(packet, zone)
}

/// Lets the fragments that follow this packet go its way, if it is the first of several; it came from `zone`, and that is its
/// flow's entry. Those that have come already are sent after it.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`] when the kernel had no memory; the packet must not go on.
#[inline(always)]
pub fn lead<A: Make>(skb: &Skb<'_>, packet: &mut Packet<A>, entry: *mut Flow<A>, zone: Zone) -> Result<(), DropReason> {
    if packet.part.is_first() && leave_note(packet, entry, zone) { shelf::send_after(skb) } else { Ok(()) }
}

/// Tells whether others may follow. A function of its own for its stack.
#[inline(never)]
fn leave_note<A: Make>(packet: &mut Packet<A>, entry: *mut Flow<A>, zone: Zone) -> bool {
    // SAFETY: as in `flow::find`.
    let flow = unsafe { &*entry };
    // The stack has the later ones of its own already, and their addresses stay. And an error's ports are those of the packet in it.
    if flow.flags & Flow::<A>::TO_HOST != 0 || packet.kind == Kind::IcmpError {
        return false;
    }
    let Some(note) = note() else { return false };
    note.key.set(packet.source, packet.destination, packet.part.identification, packet, zone);
    let (before, after) = (packet.tuple, flow.after);
    // Under their new addresses, packets of several senders must not get mixed up.
    if after.source != before.source || after.destination != before.destination {
        packet.part.after = match told(note) {
            // The first fragment was sent twice, or cut once more.
            Some(told) if told.is_of(packet.protocol, before.source_port, before.destination_port) => {
                told.identification
            }
            _ => new_identification(flow, packet.protocol),
        };
    }
    write(note, packet, before.source_port, before.destination_port);
    true
}

/// Lets `to_bridge` and `to_container` know fragments of a packet that the stack is to bring to a container: what it has now is
/// translated as this entry says. The stack may cut even a whole one. A function of its own for its stack.
#[inline(never)]
pub fn announce<A: Make>(packet: &Packet<A>, flow: &Flow<A>) {
    // Where the time to live ends here, nothing will come; and no IPv6 packet is cut on its way.
    if packet.ttl <= 1 || (A::IS_V6 && packet.part.is_whole()) {
        return;
    }
    let (Some(endpoint), Some(note)) = (flow::endpoint(flow.target), note()) else { return };
    let after = flow.after;
    note.key.set(after.source, after.destination, packet.part.after, packet, endpoint.network);
    write(note, packet, after.source_port, after.destination_port);
}

/// Leaves the note: what came from there has these ports. Where there is no room, which an LRU always makes, later fragments die.
#[inline(always)]
fn write<A: Make>(note: &mut Note, packet: &Packet<A>, source_port: Be16, destination_port: Be16) {
    note.told = Fragmented {
        identification: packet.part.after,
        since: now(),
        source_port,
        destination_port,
        protocol: packet.protocol,
        reserved: [0; 3],
    };
    let _ = FRAGMENTED.insert(&note.key, &note.told, u64::from(BPF_ANY));
}

/// An identification that no other packet with the addresses after translation has. A function of its own for its stack.
#[inline(never)]
fn new_identification<A: Make>(flow: &Flow<A>, protocol: Protocol) -> u32 {
    // 32 bits are enough for chance (RFC 7739 §5.3); 16 are not.
    if !A::IS_V6
        && let Some(config) = config()
    {
        let after = flow.after;
        let hash = counter_hash(config.secret, after.source, after.destination, protocol);
        if let Some(counter) = IDENTIFICATIONS.get_ptr_mut(hash % COUNTERS as u32) {
            // SAFETY: nobody writes these numbers otherwise.
            let count = unsafe { atomic::fetch_add(counter, 1) } as u32;
            return (hash >> 16).wrapping_add(count) & 0xffff;
        }
    }
    // SAFETY: a plain helper call.
    unsafe { bpf_get_prandom_u32() }
}
