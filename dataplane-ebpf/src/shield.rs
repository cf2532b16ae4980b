//! XDP on uplinks: what `from_uplink` is certain to drop is dropped before the kernel spends anything on it.
//!
//! Nothing is decided here: the rules are `from_uplink`'s, asked without a trace. Whatever takes more than a look passes, and
//! `from_uplink` judges it: fragments, ICMP errors, options, VLAN tags, broken headers, and all that may belong to a flow. Every packet of
//! an uplink comes through here, so those that pass must be quick: two look-ups of their addresses in a trie with few entries, for
//! most.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};
use dataplane_common::{
    DropReason, V4, V6, Zone,
    decision::{self, Verdict, World},
    layout::Config,
    wire::{
        Frame as _, Kind, Packet,
        ethernet::{self, Ethernet},
    },
};

use crate::{
    drops::{Dropped, Outcome, finish},
    maps::{CONFIG, Family, Maps},
    rate,
    xdp::Buffer,
};

/// Whoever comes next: the driver makes an skb of the packet.
const PASS: i32 = XDP_PASS as i32;

/// The hook. Packets of several pages are fine: only headers are read.
#[xdp(frags)]
pub fn shield(ctx: XdpContext) -> u32 {
    finish(&ctx, "shield", run(&Buffer(&ctx))) as u32
}

#[inline(always)]
fn run(buffer: &Buffer<'_>) -> Outcome {
    let Some(header) = buffer.read::<Ethernet>(0) else { return Ok(PASS) };
    match header.ethertype.get() {
        ethernet::IPV4 => packet::<V4>(buffer),
        ethernet::IPV6 => packet::<V6>(buffer),
        _ => Ok(PASS),
    }
}

/// An IP packet. A function of its own for each family, so that their stacks do not add up.
#[inline(never)]
fn packet<A: Family>(buffer: &Buffer<'_>) -> Outcome {
    let Ok(packet) = Packet::<A>::parse(buffer) else { return Ok(PASS) };
    if decision::is_spoofed(&Maps, &packet) {
        return Err(Dropped::at(0, DropReason::SpoofedOutside));
    }
    // Only of these is it certain whether they belong to a flow.
    if !matches!(packet.kind, Kind::Tcp | Kind::Udp | Kind::EchoRequest | Kind::EchoReply) {
        return Ok(PASS);
    }
    let to_container = World::<A>::network_of(&Maps, packet.destination).is_some();
    let may_flood = CONFIG.get(0).is_some_and(|config| config.flags & Config::RATED != 0) && decision::opens(&packet);
    if !to_container && !may_flood {
        return Ok(PASS);
    }
    match decision::from_outside(&Maps, buffer.ifindex(), &packet) {
        Verdict::Drop(reason) if to_container && !has_flow(&packet) => Err(Dropped::at(0, reason)),
        Verdict::Publish(port) if rate::is_exhausted(packet.source, &port) && !has_flow(&packet) => {
            Err(Dropped::at(port.endpoint, DropReason::FloodingClient))
        }
        _ => Ok(PASS),
    }
}

/// Is there a flow to which the packet may belong? Whether it still lives is for `from_uplink` to say.
#[inline(always)]
fn has_flow<A: Family>(packet: &Packet<A>) -> bool {
    let key = packet.tuple.key(packet.protocol, Zone::OUTSIDE);
    // SAFETY: only the presence of the entry is looked at.
    unsafe { A::flows().get(&key).is_some() || A::embryos().get(&key).is_some() }
}
