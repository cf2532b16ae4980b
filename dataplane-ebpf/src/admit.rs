//! What the host's stack may bring to a container: the rule behind `to_bridge` and `to_container`.

use dataplane_common::{
    DropReason, V4, V6, Zone,
    decision::World as _,
    wire::{
        Frame as _, Kind, Packet,
        ethernet::{self, Ethernet},
    },
};

use crate::{
    drops::NEXT,
    flow, fragment,
    make::Make,
    maps::{self, Maps},
    skb::Skb,
};

/// Lets in what the host itself sends, what `from_container` has copied to the neighbours, and what belongs to a flow that was
/// made elsewhere; everything else that the stack forwards came from an interface that we do not watch, straight to a
/// container's address.
///
/// # Errors
///
/// [`DropReason::DirectAccess`], or [`DropReason::Malformed`].
#[inline(always)]
pub fn admit(skb: &Skb<'_>, zone: Zone) -> Result<i32, DropReason> {
    let ingress = skb.ingress_ifindex();
    if ingress == 0 {
        return Ok(NEXT);
    }
    // Between ports of one bridge nothing passes but what was judged: they are isolated.
    if maps::interface(ingress).is_some_and(|interface| interface.endpoint != 0 && interface.network == zone) {
        return Ok(NEXT);
    }
    let Some(header) = skb.read::<Ethernet>(0) else { return Err(DropReason::Malformed) };
    match header.ethertype.get() {
        ethernet::IPV4 => packet::<V4>(skb, zone, ingress),
        ethernet::IPV6 => packet::<V6>(skb, zone, ingress),
        _ => Ok(NEXT),
    }
}

#[inline(always)]
fn packet<A: Make>(skb: &Skb<'_>, zone: Zone, ingress: u32) -> Result<i32, DropReason> {
    let packet = maps::parse::<A>(skb)?;
    if packet.kind == Kind::Fragment {
        fragment::recall(packet, zone);
    }
    let expected = flow::expects(packet, zone) || is_translated_answer(packet, ingress);
    if expected { Ok(NEXT) } else { Err(DropReason::DirectAccess) }
}

/// Does the answer to a port that another manager publishes come back? Its packets have been translated by the stack, so that
/// their source is an address of the host. `from_uplink` has let none pass that came to a container's address like that.
#[inline(always)]
fn is_translated_answer<A: Make>(packet: &Packet<A>, ingress: u32) -> bool {
    maps::uplink(ingress).is_some_and(|uplink| uplink.is_inside()) && Maps.is_local(packet.source)
}
