//! XDP on uplinks: what `from_uplink` is certain to drop is dropped before the kernel spends anything on it.
//!
//! Nothing is decided here: the rules are `from_uplink`'s, asked without a trace. Whatever takes more than a look passes, and
//! `from_uplink` judges it: later fragments, ICMP errors, VLAN tags, broken headers, and all that may belong to a flow. Every
//! packet of an uplink comes through here, so those that pass must be quick: for most it is enough that neither of their
//! addresses can be a container's.

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
    maps::{self, Family, Maps, has_flag},
    rate,
    xdp::Buffer,
};

/// Whoever comes next: the driver makes an skb of the packet.
const PASS: i32 = XDP_PASS as i32;

/// The hook in drivers. Packets of several pages are fine: only headers are read.
#[xdp(frags)]
pub fn shield(ctx: XdpContext) -> u32 {
    finish(&ctx, "shield", run(&Buffer(&ctx))) as u32
}

/// The hook in the stack. It takes packets in one piece: for programs that say that pieces are fine, the kernel (6.9 and on) makes a
/// new skb, and forgets how long its Ethernet header is, so that TC programs begin to read behind it.
#[xdp]
pub fn shield_generic(ctx: XdpContext) -> u32 {
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

/// An IP packet, which passes unless something of it makes a closer look worth while.
#[inline(always)]
fn packet<A: Family>(buffer: &Buffer<'_>) -> Outcome {
    let Some(header) = buffer.read::<A::Header>(ethernet::LEN) else { return Ok(PASS) };
    let (source, destination) = (A::source(&header), A::destination(&header));
    let of_container = Maps.network_of(source).is_some() || Maps.network_of(destination).is_some();
    let limited = has_flag(Config::RATED);
    if of_container || limited { look::<A>(buffer, of_container) } else { Ok(PASS) }
}

/// The closer look, at what has a container's address or may exceed a limit. A function of its own for each family, so that their
/// stacks do not add up.
#[inline(never)]
fn look<A: Family>(buffer: &Buffer<'_>, of_container: bool) -> Outcome {
    let Ok(packet) = maps::parse::<A>(buffer) else { return Ok(PASS) };
    if packet.kind == Kind::IcmpError || !packet.has_flow() || !(of_container || decision::opens(packet)) {
        return Ok(PASS);
    }
    let dropped = match decision::from_outside(&Maps, buffer.ifindex(), packet) {
        Verdict::Drop(reason) => Dropped::at(0, reason),
        Verdict::Publish(port) if rate::is_exhausted(packet.source, &port) => {
            Dropped::at(port.endpoint, DropReason::FloodingClient)
        }
        _ => return Ok(PASS),
    };
    if is_known(packet) { Ok(PASS) } else { Err(dropped) }
}

/// Is there a flow to which the packet may belong? Whether it still lives is for `from_uplink` to say.
#[inline(always)]
fn is_known<A: Family>(packet: &Packet<A>) -> bool {
    let key = packet.tuple.key(packet.protocol, Zone::OUTSIDE);
    // SAFETY: only the presence of the entries is looked at.
    unsafe { A::flows().get(&key).is_some() || A::embryos().get(&key).is_some() }
}
