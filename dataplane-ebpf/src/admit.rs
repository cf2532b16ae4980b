//! What the host's stack may bring to a container: the rule behind `to_bridge` and `to_container`.

use dataplane_common::{
    DropReason, V4, V6, Zone,
    wire::{
        Frame as _,
        ethernet::{self, Ethernet},
    },
};

use crate::{drops::NEXT, flow, make::Make, maps, skb::Skb};

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
        ethernet::IPV4 => packet::<V4>(skb, zone),
        ethernet::IPV6 => packet::<V6>(skb, zone),
        _ => Ok(NEXT),
    }
}

#[inline(always)]
fn packet<A: Make>(skb: &Skb<'_>, zone: Zone) -> Result<i32, DropReason> {
    let packet = maps::parse::<A>(skb)?;
    if flow::expects(packet, zone) { Ok(NEXT) } else { Err(DropReason::DirectAccess) }
}
