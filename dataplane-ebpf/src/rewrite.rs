//! Changes addresses and ports of a packet in place.
//!
//! Transport checksums are left to the kernel's helpers, which know whether a checksum is complete, partial (offloaded) or
//! absent; the IPv4 header's own is always complete and is updated here. Headers are written in one helper call, and ports with them
//! where they lie right behind.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    btf_maps::PerCpuArray,
    helpers::generated::{bpf_csum_update, bpf_loop, bpf_skb_change_type, bpf_skb_store_bytes},
    macros::btf_map,
};
use dataplane_common::{
    DropReason, Flow, Tuple, V4, V6,
    checksum::Difference,
    crc32c,
    wire::{
        Be16, Frame as _, Header, IpHeader, Kind, Packet,
        ethernet::{self, Ethernet},
        icmp, ipv4, ipv6, transport,
    },
};

use crate::{
    maps::{self, Family},
    skb::Skb,
};

/// `PACKET_HOST` of `linux/if_packet.h`: the packet is for this host.
const PACKET_HOST: u32 = 0;

/// Where new headers are put together; on the stack they would not fit.
#[repr(C)]
pub struct Draft<A: IpHeader> {
    /// Puts the IP header at a multiple of four bytes.
    padding: [u8; 2],
    /// The Ethernet header.
    pub ethernet: Ethernet,
    /// The IP header.
    pub ip: A::Header,
    /// The ports, which lie right behind it where there are neither options nor extension headers.
    ports: [Be16; 2],
    /// The IP header inside an ICMP error.
    quoted: A::Header,
    /// The tuple after translation.
    pub after: Tuple<A>,
    /// What the change of the quoted packet does to the checksum of the error that quotes it.
    quoted_difference: u32,
    /// New destination MAC address.
    pub destination: [u8; 6],
    /// New source MAC address.
    pub source: [u8; 6],
    /// Are there new MAC addresses?
    new_macs: bool,
    /// By how much the time to live goes down.
    hops: u8,
    /// Always zero.
    reserved: [u8; 2],
}

/// Each CPU's [`Draft`] for IPv4.
#[btf_map]
static DRAFT4: PerCpuArray<Draft<V4>, 1> = PerCpuArray::new();

/// Each CPU's [`Draft`] for IPv6.
#[btf_map]
static DRAFT6: PerCpuArray<Draft<V6>, 1> = PerCpuArray::new();

/// A family whose packets can be rewritten.
pub trait Rewrite: Family {
    /// This CPU's memory for new headers.
    fn draft() -> Option<*mut Draft<Self>>;
}

impl Rewrite for V4 {
    #[inline(always)]
    fn draft() -> Option<*mut Draft<Self>> {
        DRAFT4.get_ptr_mut(0)
    }
}

impl Rewrite for V6 {
    #[inline(always)]
    fn draft() -> Option<*mut Draft<Self>> {
        DRAFT6.get_ptr_mut(0)
    }
}

/// This CPU's [`Draft`].
#[inline(always)]
pub fn draft<A: Rewrite>() -> Result<&'static mut Draft<A>, DropReason> {
    // SAFETY: the memory is this CPU's own, TC programs on one CPU run one after the other, and none of the functions here keeps
    // the reference while another one has it.
    A::draft().map(|draft| unsafe { &mut *draft }).ok_or(DropReason::RewriteFailed)
}

/// Notes how a packet is to be translated by [`translate`]: the way its flow's entry says. `macs` are the new destination and
/// source MAC address, if they change; `hops` is by how much the time to live goes down: 1 if we route, 0 if the kernel does.
#[inline(always)]
pub fn plan<A: Rewrite>(flow: &Flow<A>, macs: Option<([u8; 6], [u8; 6])>, hops: u8) -> Result<(), DropReason> {
    let draft = draft::<A>()?;
    draft.after = flow.after;
    draft.hops = hops;
    draft.new_macs = macs.is_some();
    if let Some((destination, source)) = macs {
        draft.destination = destination;
        draft.source = source;
    }
    Ok(())
}

/// Was it planned that the kernel routes the packet, and not we?
///
/// # Errors
///
/// [`DropReason::RewriteFailed`] when there is no plan.
#[inline(always)]
pub fn is_for_stack<A: Rewrite>() -> Result<bool, DropReason> {
    Ok(draft::<A>()?.hops == 0)
}

/// Gives the packet the addresses and ports that were planned.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`] when a helper fails; the packet may be half changed and must not go on.
#[inline(always)]
pub fn translate<A: Rewrite>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    // One after the other, not one inside the other: their stacks would add up to too much.
    if packet.part.after != packet.part.identification {
        identify(skb, packet)?;
    }
    match packet.kind {
        Kind::IcmpError => quote(skb, packet)?,
        Kind::Sctp => sctp(skb, packet)?,
        _ => {}
    }
    headers(skb, packet)
}

/// Gives a fragment its new identification. A function of its own for its stack.
#[inline(never)]
fn identify<A: Rewrite>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let (before, after) = (packet.part.identification, packet.part.after);
    if A::IS_V6 {
        tell_card(skb, Difference::default().word(before, after));
        let at = usize::from(packet.part.header) + ipv6::IDENTIFICATION;
        store(skb, at, &after, 4)
    } else {
        skb.0
            .l3_csum_replace(ethernet::LEN + ipv4::CHECKSUM, before.into(), after.into(), 2)
            .map_err(|_| DropReason::RewriteFailed)?;
        store(skb, ethernet::LEN + ipv4::IDENTIFICATION, &(after as u16), 2)
    }
}

/// Changes Ethernet and IP header, ports or identifier, and the checksums over them. A function of its own for its stack.
#[inline(never)]
fn headers<A: Rewrite>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let draft = draft::<A>()?;
    // Read now: helpers that write make direct pointers invalid.
    if !skb.read_into(0, &mut draft.ethernet) || !skb.read_into(ethernet::LEN, &mut draft.ip) {
        return Err(DropReason::RewriteFailed);
    }
    if draft.new_macs {
        draft.ethernet.destination = draft.destination;
        draft.ethernet.source = draft.source;
    }
    // Who tells of an error need not be who the flow goes to.
    let source = if packet.source == packet.tuple.source { draft.after.source } else { packet.source };
    let translation = A::translate(&mut draft.ip, source, draft.after.destination, draft.hops);
    let flags = if A::IS_V6 { maps::ipv6_checksum_flag() } else { 0 };
    checksum(skb, packet, draft, translation.addresses.sum(), flags)?;
    if A::IS_V6 {
        let mut uncovered = translation.uncovered;
        if packet.unsummed || matches!(packet.kind, Kind::Other | Kind::Sctp | Kind::Fragment) {
            uncovered = uncovered.and(translation.addresses);
        }
        tell_card(skb, uncovered);
    }
    let mut len = ethernet::LEN + A::HEADER_LEN;
    if matches!(packet.kind, Kind::Tcp | Kind::Udp) && usize::from(packet.transport) == len {
        // One call less for nearly all packets.
        draft.ports = [draft.after.source_port, draft.after.destination_port];
        len += size_of_val(&draft.ports);
    } else {
        ports(skb, packet, draft)?;
    }
    // From a pointer to the whole draft, in which these fields lie one behind the other.
    let frame = (&raw const *draft).wrapping_byte_add(offset_of!(Draft<A>, ethernet));
    // SAFETY: the draft goes on for longer than that.
    unsafe { store_from(skb, 0, frame.cast(), len as u32) }
}

/// Changes ports or identifier, and what sums them up with the addresses, whose change is `addresses`; `flags` for the helper that
/// updates the checksum.
#[inline(always)]
pub fn transport<A: Rewrite>(
    skb: &Skb<'_>,
    packet: &Packet<A>,
    draft: &Draft<A>,
    addresses: u32,
    flags: u64,
) -> Result<(), DropReason> {
    checksum(skb, packet, draft, addresses, flags)?;
    ports(skb, packet, draft)
}

/// Changes the transport checksum: [`transport`]'s first half.
#[inline(always)]
fn checksum<A: Rewrite>(
    skb: &Skb<'_>,
    packet: &Packet<A>,
    draft: &Draft<A>,
    addresses: u32,
    flags: u64,
) -> Result<(), DropReason> {
    let field = match packet.kind {
        Kind::Tcp => transport::TCP_CHECKSUM,
        Kind::Udp => transport::UDP_CHECKSUM,
        Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError => icmp::CHECKSUM,
        _ => return Ok(()),
    };
    if packet.unsummed {
        tell_card(skb, port_difference(&packet.tuple, &draft.after));
        return Ok(());
    }
    let at = usize::from(packet.transport) + field;
    let difference = match packet.kind {
        Kind::IcmpError => draft.quoted_difference,
        _ => port_difference(&packet.tuple, &draft.after).sum(),
    };
    // ICMP has no pseudo-header over IPv4 (RFC 792), ICMPv6 has (RFC 4443 §2.3).
    let pseudo = if field == icmp::CHECKSUM && !A::IS_V6 { 0 } else { addresses };
    // A computed UDP checksum of zero is written as ones, and zero itself means none (RFC 768).
    let zero = if packet.kind == Kind::Udp { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
    let replace = |difference: u32, flags: u64| {
        // What changes nothing is not worth a call; a difference between equals is all ones, or nothing at all.
        if matches!(difference, 0 | u32::MAX) {
            return Ok(());
        }
        skb.0.l4_csum_replace(at, 0, difference.into(), zero | flags).map_err(|_| DropReason::RewriteFailed)
    };
    // With a partial checksum the field holds the pseudo-header's sum: only addresses may touch it.
    replace(pseudo, flags | u64::from(BPF_F_PSEUDO_HDR))?;
    replace(difference, 0)
}

/// Changes ports or identifier: [`transport`]'s second half.
#[inline(always)]
fn ports<A: Rewrite>(skb: &Skb<'_>, packet: &Packet<A>, draft: &Draft<A>) -> Result<(), DropReason> {
    let at = usize::from(packet.transport);
    let (source, destination) = (draft.after.source_port, draft.after.destination_port);
    match packet.kind {
        Kind::Tcp | Kind::Udp => store(skb, at + transport::SOURCE_PORT, &[source, destination], 4),
        Kind::EchoRequest => store(skb, at + icmp::IDENTIFIER, &source, 2),
        Kind::EchoReply => store(skb, at + icmp::IDENTIFIER, &destination, 2),
        _ => Ok(()),
    }
}

/// What a change of ports does to a checksum. A query has only one, its identifier; the other is zero before and after.
#[inline(always)]
fn port_difference<A>(before: &Tuple<A>, after: &Tuple<A>) -> Difference {
    Difference::default()
        .word(before.source_port.raw().into(), after.source_port.raw().into())
        .word(before.destination_port.raw().into(), after.destination_port.raw().into())
}

/// Changes the ports of an SCTP packet. Addresses are not part of its checksum. A function of its own for its stack.
#[inline(never)]
fn sctp<A: Rewrite>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let after = &draft::<A>()?.after;
    let (at, before) = (usize::from(packet.transport), &packet.tuple);
    if (before.source_port, before.destination_port) == (after.source_port, after.destination_port) {
        return Ok(());
    }
    // The sum covers what is in other fragments.
    if !packet.part.is_whole() {
        return Err(DropReason::Fragment);
    }
    let Some(header) = skb.load::<transport::Sctp>(at) else { return Err(DropReason::RewriteFailed) };
    let bits = |before: Be16, after: Be16| (before.raw() ^ after.raw()).to_ne_bytes();
    let ([a, b], [c, d]) =
        (bits(before.source_port, after.source_port), bits(before.destination_port, after.destination_port));
    let behind = (u32::from(packet.length) + ethernet::LEN as u32).wrapping_sub(u32::from(packet.transport) + 4);
    let mut checksum = header.checksum;
    // Zero: the sender leaves the sum to its network card.
    if checksum != [0; 4] {
        let mut change = crc32c::Change::new([a, b, c, d], behind);
        // A loop of the language would be walked through by the verifier step by step.
        // SAFETY: the callback has the signature that the helper calls, and `change` outlives the call.
        unsafe { bpf_loop(crc32c::STEPS, shift as *mut c_void, (&raw mut change).cast(), 0) };
        checksum = change.apply(checksum);
    }
    let (old, new) = (u32::from_ne_bytes(header.checksum), u32::from_ne_bytes(checksum));
    tell_card(skb, port_difference(before, after).word(old, new));
    store(skb, at + transport::SOURCE_PORT, &[after.source_port, after.destination_port], 4)?;
    store(skb, at + transport::SCTP_CHECKSUM, &checksum, 4)
}

/// One step of the checksum's change.
unsafe extern "C" fn shift(step: u32, change: *mut crc32c::Change) -> i64 {
    // SAFETY: `sctp` passes this, and it outlives the loop.
    unsafe { (*change).step(step) };
    0
}

/// Gives the packet inside an ICMP error the addresses and ports that it had before it was translated: it is the answer's
/// answer. Notes what that does to the error's checksum. A function of its own for its stack.
#[inline(never)]
fn quote<A: Rewrite>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let draft = draft::<A>()?;
    let quote = &packet.quote;
    let at = usize::from(quote.transport);
    if !skb.load_into(quote.ip.into(), &mut draft.quoted) {
        return Err(DropReason::RewriteFailed);
    }
    let translation = A::translate(&mut draft.quoted, draft.after.destination, draft.after.source, 0);
    store(skb, quote.ip.into(), &draft.quoted, A::HEADER_LEN as u32)?;
    draft.quoted_difference = translation.header.sum();
    let (ports, len) = match quote.kind {
        Kind::Tcp | Kind::Udp | Kind::Sctp => (transport::SOURCE_PORT, 4),
        Kind::EchoRequest | Kind::EchoReply => (icmp::IDENTIFIER, 2),
        _ => return Ok(()),
    };
    let quoted = [draft.after.destination_port, draft.after.source_port];
    // An answer's identifier is its destination.
    let value = if quote.kind == Kind::EchoReply { [quoted[1], quoted[0]] } else { quoted };
    store(skb, at + ports, &value, len)?;
    let ports = port_difference(&packet.tuple, &draft.after);
    let mut all = translation.header.and(ports);
    if quote.checksum != 0 {
        let Some(Checksum(sum)) = skb.load::<Checksum>(quote.checksum.into()) else {
            return Err(DropReason::RewriteFailed);
        };
        // As in `transport`: IPv4's ICMP has no pseudo-header.
        let change = if len == 4 || A::IS_V6 { ports.and(translation.addresses) } else { ports };
        let mut new = change.update(sum);
        if new == 0 && quote.kind == Kind::Udp {
            new = u16::MAX;
        }
        all = all.word(sum.into(), new.into());
        store(skb, quote.checksum.into(), &Checksum(new), 2)?;
    }
    draft.quoted_difference = all.sum();
    Ok(())
}

/// A checksum field alone; raw.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Checksum(u16);

// SAFETY: an integer: no padding, any bits are valid.
unsafe impl Header for Checksum {}

/// Keeps the sum over the whole packet right, where the network card has given one: most changes are made up for by a checksum in
/// the packet, this one is not.
#[inline(always)]
fn tell_card(skb: &Skb<'_>, difference: Difference) {
    // SAFETY: a plain helper call. It fails where there is no such sum.
    unsafe { bpf_csum_update(skb.as_ptr(), difference.sum()) };
}

/// Writes the first `len` bytes of a value into the packet.
#[inline(always)]
fn store<T>(skb: &Skb<'_>, at: usize, value: &T, len: u32) -> Result<(), DropReason> {
    // SAFETY: no caller asks for more bytes than the value has.
    unsafe { store_from(skb, at, (&raw const *value).cast(), len) }
}

/// Writes `len` bytes into the packet.
///
/// # Safety
///
/// `from` points to that many bytes.
#[inline(always)]
unsafe fn store_from(skb: &Skb<'_>, at: usize, from: *const c_void, len: u32) -> Result<(), DropReason> {
    // SAFETY: as above.
    let written = unsafe { bpf_skb_store_bytes(skb.as_ptr(), at as u32, from, len, 0) };
    if written == 0 { Ok(()) } else { Err(DropReason::RewriteFailed) }
}

/// Marks the packet as being for this host, as a container's interface expects of what it receives; a frame for the gateway
/// or for another container came in on a veth that has another MAC address.
#[inline(always)]
pub fn mark_as_ours(skb: &Skb<'_>) {
    if maps::mark_host() {
        // SAFETY: a plain helper call on the program's own context. It only fails for types that it does not know.
        unsafe { bpf_skb_change_type(skb.as_ptr(), PACKET_HOST) };
    }
}
