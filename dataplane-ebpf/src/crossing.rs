//! Flows between IPv6 clients and containers that have IPv4 only: their packets change family (RFC 7915).
//!
//! To the flow table it is an IPv6 flow whose inside addresses are IPv4 addresses mapped into IPv6, from the gateway's address and
//! a port of the pool; all that is known of flows holds for these, too. Here is only what is different: how the container's
//! packets are found, and how headers change. TCP and UDP cross, whole and without extension headers; the stack could not say
//! what is wrong with anything else, since it would see neither sender nor receiver.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_F_RECOMPUTE_CSUM,
    helpers::generated::{bpf_loop, bpf_skb_change_proto, bpf_skb_store_bytes},
};
use dataplane_common::{
    Address, DropReason, Flow, Tuple, V4, V6, Zone,
    checksum::Difference,
    wire::{
        Be16, Frame as _, Kind, Load, Packet,
        ethernet::{self, Ethernet},
        ipv4::Ipv4,
        ipv6::Ipv6,
        transport,
    },
};

use crate::{
    embryo, flow,
    from_container::Sender,
    maps::{self, Family as _, config},
    rewrite::{self, Rewrite, draft},
    skb::Skb,
};

/// IPv6 and TCP headers without options, bytes: what a segment's size leaves of an MTU.
const HEADERS: u32 = 40 + 20;

/// Can the packet change family?
#[inline(always)]
pub fn suits<A: Address>(packet: &Packet<A>) -> bool {
    matches!(packet.kind, Kind::Tcp | Kind::Udp)
        && packet.part.is_whole()
        && !packet.options
        && !packet.unsummed
        && usize::from(packet.transport) == ethernet::LEN + V6::HEADER_LEN
}

/// No action of a program: the packet is one for [`answer`].
pub const ANSWER: i32 = i32::MIN;

/// Does a flow cross where the IPv4 packet that `maps::parse` has read goes, from a container of `zone` to its gateway's address? A
/// function of its own for its stack.
#[inline(never)]
pub fn is_answer(zone: Zone) -> bool {
    let Some(packet) = V4::packet() else { return false };
    // SAFETY: this CPU's own memory, and nobody changes it now.
    let packet = unsafe { &*packet };
    // The host's own connections do not come from ports of the pool.
    if !config().is_some_and(|config| config.pool.contains(packet.tuple.destination_port.get())) {
        return false;
    }
    let Some(mapped) = V6::packet() else { return false };
    // SAFETY: this CPU's own memory, which nobody else uses while a packet is IPv4.
    let mapped = unsafe { &mut *mapped };
    mapped.map(packet);
    find(mapped, zone).is_some()
}

/// Sends a packet for which [`is_answer`] said yes to the client. A function of its own for its stack.
///
/// # Errors
///
/// The reason why it died.
#[inline(never)]
pub fn answer(skb: &Skb<'_>, sender: &Sender) -> Result<i32, DropReason> {
    let Some(packet) = V6::packet() else { return Err(DropReason::NoFlow) };
    // SAFETY: as above; nobody changes it now.
    let packet = unsafe { &*packet };
    let Some(entry) = find(packet, sender.endpoint.network) else { return Err(DropReason::NoFlow) };
    flow::follow_back(skb, packet, entry, sender.network.bridge)
}

#[inline(always)]
fn find(packet: &Packet<V6>, zone: Zone) -> Option<*mut Flow<V6>> {
    flow::find(packet, zone).or_else(|| embryo::find(packet, zone))
}

/// Gives a packet that suits the header of IPv4, as `rewrite::plan` says. A function of its own for its stack.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`]; the packet must not go on.
#[inline(never)]
pub fn enter<A: Rewrite>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let plan = draft::<A>()?;
    let header = draft::<V4>()?;
    let Some(class) = skb.read::<[u8; 2]>(ethernet::LEN) else { return Err(DropReason::RewriteFailed) };
    if packet.flags.opens() {
        clamp(skb, packet);
    }
    rewrite::transport(skb, packet, plan, addresses(&packet.tuple, &plan.after).sum(), 0)?;
    change_family(skb, ethernet::IPV4)?;
    header.ethernet =
        Ethernet { destination: plan.destination, source: plan.source, ethertype: Be16::new(ethernet::IPV4) };
    let (source, destination) = (plan.after.source.any(), plan.after.destination.any());
    let load = load(packet, Ipv6::class(class));
    header.ip = Ipv4::new(load, V4::from_any(source), V4::from_any(destination));
    store(skb, &header.ethernet, &header.ip)
}

/// The same from IPv4 to IPv6; the packet is as [`Packet::map`] has made it. A function of its own for its stack.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`]; the packet must not go on.
#[inline(never)]
pub fn leave(skb: &Skb<'_>, packet: &Packet<V6>) -> Result<(), DropReason> {
    let draft = draft::<V6>()?;
    let Some([_, class]) = skb.read::<[u8; 2]>(ethernet::LEN) else { return Err(DropReason::RewriteFailed) };
    change_family(skb, ethernet::IPV6)?;
    rewrite::transport(skb, packet, draft, addresses(&packet.tuple, &draft.after).sum(), 0)?;
    // Towards an uplink the kernel writes the MAC addresses.
    draft.ethernet =
        Ethernet { destination: draft.destination, source: draft.source, ethertype: Be16::new(ethernet::IPV6) };
    draft.ip = Ipv6::new(load(packet, class), draft.after.source, draft.after.destination);
    store(skb, &draft.ethernet, &draft.ip)
}

/// What the new header says of the packet; we route it.
#[inline(always)]
fn load<A: Address>(packet: &Packet<A>, class: u8) -> Load {
    let length = packet.length.wrapping_sub(V6::HEADER_LEN as u16);
    Load { class, length, protocol: packet.protocol.0, hops: packet.ttl.wrapping_sub(1) }
}

/// What the change of addresses does to a checksum with a pseudo-header: a mapped address has the sum of the IPv4 address, and
/// the rest of the pseudo-headers sums up to the same (RFC 9293 §3.1, RFC 8200 §8.1).
#[inline(always)]
fn addresses<A: Address>(before: &Tuple<A>, after: &Tuple<A>) -> Difference {
    before.source.difference(after.source).and(before.destination.difference(after.destination))
}

/// Makes room for the other family's header, or takes it away; the kernel sees to segments that are still to be cut.
#[inline(always)]
fn change_family(skb: &Skb<'_>, ethertype: u16) -> Result<(), DropReason> {
    // SAFETY: a plain helper call on the program's own context.
    let changed = unsafe { bpf_skb_change_proto(skb.as_ptr(), ethertype.to_be(), 0) };
    if changed == 0 { Ok(()) } else { Err(DropReason::RewriteFailed) }
}

/// Writes the new headers. The network card's sum over the packet, if there is one, begins behind the Ethernet header; it loses
/// what was at the place of the IP header and gains what is there now.
#[inline(always)]
fn store<T>(skb: &Skb<'_>, ethernet: &Ethernet, ip: &T) -> Result<(), DropReason> {
    let (skb, len) = (skb.as_ptr(), size_of::<Ethernet>() as u32);
    // SAFETY: the memory is as large as is said.
    let written = unsafe {
        bpf_skb_store_bytes(skb, 0, (&raw const *ethernet).cast(), len, 0) == 0
            && bpf_skb_store_bytes(
                skb,
                len,
                (&raw const *ip).cast(),
                size_of::<T>() as u32,
                u64::from(BPF_F_RECOMPUTE_CSUM),
            ) == 0
    };
    if written { Ok(()) } else { Err(DropReason::RewriteFailed) }
}

/// Where the walk through the options of a SYN is.
struct Options<'a> {
    skb: &'a Skb<'a>,
    at: u32,
    end: u32,
    /// Where the checksum is.
    checksum: u32,
    most: u16,
}

/// Tells the container of no larger segments than the uplink takes once they have grown to IPv6: nobody could tell it later.
#[inline(always)]
fn clamp<A: Address>(skb: &Skb<'_>, packet: &Packet<A>) {
    let Some(uplink) = maps::uplink(skb.ifindex()) else { return };
    let at = u32::from(packet.transport);
    let mut options = Options {
        skb,
        at: at + size_of::<transport::Tcp>() as u32,
        end: at + u32::from(packet.transport_len),
        checksum: at + transport::TCP_CHECKSUM as u32,
        most: uplink.mtu.saturating_sub(HEADERS).min(u16::MAX.into()) as u16,
    };
    // SAFETY: the callback has the signature that the helper calls, and `options` outlives the call.
    unsafe { bpf_loop(MOST_OPTIONS, clamp_option as *mut c_void, (&raw mut options).cast(), 0) };
}

/// As many options as a header has room for.
const MOST_OPTIONS: u32 = 40;

/// Looks at one option (RFC 9293 §3.1); returns 1 when there is nothing more to look for.
unsafe extern "C" fn clamp_option(_: u32, options: *mut Options<'_>) -> i64 {
    /// Kind: the end of the list.
    const END: u8 = 0;
    /// Kind: nothing, one byte long.
    const NOTHING: u8 = 1;
    /// Kind: maximum segment size.
    const SEGMENT_SIZE: u8 = 2;
    // SAFETY: `clamp` passes this, and it outlives the loop.
    let options = unsafe { &mut *options };
    if options.at + 2 > options.end {
        return 1;
    }
    let Some([kind, len]) = options.skb.load::<[u8; 2]>(options.at as usize) else { return 1 };
    if kind == NOTHING {
        options.at += 1;
        return 0;
    }
    if kind == END || len < 2 {
        return 1;
    }
    if kind != SEGMENT_SIZE {
        options.at += u32::from(len);
        return 0;
    }
    let at = options.at + 2;
    let Some(size) = options.skb.load::<[u8; 2]>(at as usize).filter(|_| at + 2 <= options.end) else { return 1 };
    if u16::from_be_bytes(size) > options.most {
        let new = options.most.to_be_bytes();
        // At an odd place its bytes are those of two words.
        let word = |[a, b]: [u8; 2]| u16::from_ne_bytes(if at & 1 == 0 { [a, b] } else { [b, a] });
        let skb = options.skb;
        let (old, sum) = (u64::from(word(size)), u64::from(word(new)));
        let _ = skb.0.l4_csum_replace(options.checksum as usize, old, sum, 2);
        let _ = skb.0.store(at as usize, &new, 0);
    }
    1
}
