//! Changes addresses and ports of a packet in place.
//!
//! Transport checksums are left to the kernel's helpers, which know whether a checksum is complete, partial (offloaded) or
//! absent; the IPv4 header's own is always complete and is updated here. Headers are written in one helper call.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    btf_maps::PerCpuArray,
    helpers::generated::{bpf_skb_change_type, bpf_skb_store_bytes},
    macros::btf_map,
};
use dataplane_common::{
    Address, DropReason, Flow, Protocol, V4, V6,
    checksum::Difference,
    wire::{
        Frame as _, Kind, Packet,
        ethernet::{self, Ethernet},
        icmp,
        ipv4::Ipv4,
        ipv6::Ipv6,
        transport,
    },
};

use crate::{
    maps::{self, Family},
    skb::Skb,
};

/// `PACKET_HOST` of `linux/if_packet.h`: the packet is for this host.
const PACKET_HOST: u32 = 0;

/// Ethernet and IP header, as they lie in the packet; packed, since 14 is no multiple of 4.
#[repr(C, packed(2))]
#[derive(Clone, Copy)]
pub struct Head<H> {
    ethernet: Ethernet,
    ip: H,
}

/// Each CPU's memory for new headers.
#[btf_map]
static HEAD4: PerCpuArray<Head<Ipv4>, 1> = PerCpuArray::new();
#[btf_map]
static HEAD6: PerCpuArray<Head<Ipv6>, 1> = PerCpuArray::new();

/// A family whose packets can be rewritten.
pub trait Rewrite: Family {
    /// This CPU's memory for new headers.
    fn head() -> Option<*mut Head<Self::Header>>;
}

impl Rewrite for V4 {
    #[inline(always)]
    fn head() -> Option<*mut Head<Ipv4>> {
        HEAD4.get_ptr_mut(0)
    }
}

impl Rewrite for V6 {
    #[inline(always)]
    fn head() -> Option<*mut Head<Ipv6>> {
        HEAD6.get_ptr_mut(0)
    }
}

/// How the packet goes on.
#[derive(Clone, Copy)]
pub struct Link {
    /// New destination and source MAC address; `None` leaves them.
    pub macs: Option<([u8; 6], [u8; 6])>,
    /// By how much the time to live goes down: 1 if we route, 0 if the kernel does.
    pub hops: u8,
}

/// Gives the packet the addresses and ports that its flow's entry says. A function of its own for its stack.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`] when a helper fails; the packet may be half changed and must not go on.
#[inline(never)]
pub fn translate<A: Rewrite>(skb: &Skb<'_>, packet: &Packet<A>, flow: &Flow<A>, link: &Link) -> Result<(), DropReason> {
    let Some(head) = A::head() else { return Err(DropReason::RewriteFailed) };
    // SAFETY: the memory is this CPU's own, and nothing that is called from here uses it.
    let head = unsafe { &mut *head };
    let (before, after) = (&packet.tuple, flow.after);
    // Read now: helpers that write make direct pointers invalid.
    let (Some(ethernet), Some(ip)) = (skb.read::<Ethernet>(0), skb.read::<A::Header>(ethernet::LEN)) else {
        return Err(DropReason::RewriteFailed);
    };
    head.ethernet = ethernet;
    head.ip = A::translated(ip, after.source, after.destination, link.hops);
    if let Some((destination, source)) = link.macs {
        head.ethernet.destination = destination;
        head.ethernet.source = source;
    }
    let addresses = before.source.difference(after.source).and(before.destination.difference(after.destination)).sum();
    // Where the checksum and the ports (or the identifier) lie behind the IP header, and how many bytes the latter are.
    let (checksum, at, len) = match packet.kind {
        Kind::Tcp => (transport::TCP_CHECKSUM, transport::SOURCE_PORT, 4),
        Kind::Udp => (transport::UDP_CHECKSUM, transport::SOURCE_PORT, 4),
        Kind::EchoRequest | Kind::EchoReply => (icmp::CHECKSUM, icmp::IDENTIFIER, 2),
        _ => (0, 0, 0),
    };
    if len != 0 {
        let mut ports = Difference::default().word(before.source_port.raw().into(), after.source_port.raw().into());
        if len == 4 {
            ports = ports.word(before.destination_port.raw().into(), after.destination_port.raw().into());
        }
        // ICMP has no pseudo-header over IPv4 (RFC 792), ICMPv6 has (RFC 4443 §2.3).
        let pseudo = if packet.protocol == Protocol::ICMP { 0 } else { addresses };
        // A computed UDP checksum of zero is written as ones, and zero itself means none (RFC 768).
        let flags = if packet.kind == Kind::Udp { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        let transport = Packet::<A>::TRANSPORT;
        if !packet.unsummed {
            update_checksum::<A>(skb, transport + checksum, pseudo, ports.sum(), flags)?;
        }
        let value = [after.source_port, after.destination_port];
        // SAFETY: `value` is four bytes, `len` is two or four.
        let written =
            unsafe { bpf_skb_store_bytes(skb.as_ptr(), (transport + at) as u32, (&raw const value).cast(), len, 0) };
        if written != 0 {
            return Err(DropReason::RewriteFailed);
        }
    }
    skb.0.store(0, head, 0).map_err(|_| DropReason::RewriteFailed)
}

/// Updates a transport checksum for changed addresses (pseudo-header) and changed ports, given as differences.
#[inline(always)]
fn update_checksum<A: Address>(
    skb: &Skb<'_>,
    at: usize,
    addresses: u32,
    ports: u32,
    flags: u64,
) -> Result<(), DropReason> {
    // With a partial checksum the field holds the pseudo-header's sum: only addresses may touch it.
    let family = if A::IS_V6 { maps::ipv6_checksum_flag() } else { 0 };
    skb.0
        .l4_csum_replace(at, 0, addresses.into(), flags | u64::from(BPF_F_PSEUDO_HDR) | family)
        .and_then(|()| skb.0.l4_csum_replace(at, 0, ports.into(), flags))
        .map_err(|_| DropReason::RewriteFailed)
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
