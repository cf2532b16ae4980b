//! The flow table's entries: the first packet decides, the rest follow.
//!
//! A flow is a pair of directional entries. Each is found by the packet as it comes in that direction and tells all that is
//! to be done with it. The entry of the reply direction is written first and claims its key, and with it the translated port.

use crate::{
    address::Address,
    tcp,
    tuple::{FlowKey, Protocol, Tuple, Zone},
};

/// Value of the flow tables. `packed(4)`, so that neither family's layout has hidden padding.
#[repr(C, packed(4))]
#[derive(Clone, Copy, Debug)]
pub struct Flow<A> {
    /// Packets forwarded in this direction.
    pub packets: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
    /// The tuple after translation.
    pub after: Tuple<A>,
    /// Towards an uplink: the next hop.
    pub next_hop: A,
    /// Seconds since boot when the flow was made.
    pub created: u32,
    /// Seconds since boot when the last packet passed.
    pub last_used: u32,
    /// Towards an uplink: the generation of the routes when the next hop was looked up.
    pub route_generation: u32,
    /// Towards an uplink: its interface.
    pub ifindex: u32,
    /// An endpoint with which the flow ends: in the original direction the one to which it is accounted, in the other one the one
    /// that answers, if it is a container.
    pub owner: u32,
    /// Its generation when the flow was made.
    pub owner_generation: u32,
    /// The endpoint that receives in this direction; 0 for an uplink.
    pub target: u32,
    /// Its generation when the flow was made.
    pub target_generation: u32,
    /// Largest IP packet that may go this way, bytes.
    pub mtu: u16,
    /// The zone in which the other direction's packets come.
    pub peer_zone: Zone,
    /// [`Flow::ORIGINAL`] and others.
    pub flags: u8,
    /// TCP control bits seen in this direction.
    pub seen: tcp::Flags,
    /// Always zero.
    pub reserved: u16,
    /// The slot of the published port through which the flow came; 0 if through none.
    pub port: u32,
    /// The port's generation when the flow was made.
    pub port_generation: u32,
    /// TCP: the sequence number that should come next in this direction (RFC 9293 SND.NXT).
    pub next: u32,
    /// TCP: the last acknowledgment number sent in this direction.
    pub acked: u32,
}

const _: () = assert!(size_of::<Flow<crate::V4>>() == 88 && size_of::<Flow<crate::V6>>() == 124);

/// Who receives in one direction of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// The endpoint's slot, or 0 for an uplink.
    pub endpoint: u32,
    /// The endpoint's generation.
    pub generation: u32,
    /// Largest IP packet, bytes.
    pub mtu: u16,
}

impl Party {
    /// An uplink whose next hop is not known yet: the first packet that goes there looks it up.
    pub const OUTSIDE: Self = Self { endpoint: 0, generation: 0, mtu: 0 };
}

impl<A: Address> Flow<A> {
    /// Flag: the direction of the packet that opened the flow.
    pub const ORIGINAL: u8 = 1;
    /// Flag: the host's own stack receives in this direction.
    pub const TO_HOST: u8 = 2;
    /// Flag: the source after translation is the one that the network asks for, whatever the uplink.
    pub const FIXED: u8 = 4;
    /// Flag: the stack forwards the flow's packets, in both directions.
    pub const BY_STACK: u8 = 8;
    /// Flag: outside IPv6, inside IPv4. The inside addresses are mapped into IPv6 (RFC 4291 §2.5.5.2), in keys as in tuples.
    pub const CROSSES: u8 = 16;

    /// A new entry.
    #[inline(always)]
    pub fn new(after: Tuple<A>, peer_zone: Zone, owner: (u32, u32), target: Party, now: u32, flags: u8) -> Self {
        Self {
            packets: 0,
            bytes: 0,
            after,
            next_hop: A::UNSPECIFIED,
            created: now,
            last_used: now,
            route_generation: 0,
            ifindex: 0,
            owner: owner.0,
            owner_generation: owner.1,
            target: target.endpoint,
            target_generation: target.generation,
            mtu: target.mtu,
            peer_zone,
            flags,
            seen: tcp::Flags::default(),
            reserved: 0,
            port: 0,
            port_generation: 0,
            next: 0,
            acked: 0,
        }
    }

    /// Is this the direction of the packet that opened the flow?
    #[inline(always)]
    pub fn is_original(&self) -> bool {
        self.flags & Self::ORIGINAL != 0
    }

    /// The key of the other direction's entry: the answer to the translated packet.
    #[inline(always)]
    pub fn sibling(&self, protocol: Protocol) -> FlowKey<A> {
        let after = self.after;
        after.reversed().key(protocol, self.peer_zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{V4, wire::Be16};
    use proptest::prelude::*;

    fn tuple() -> impl Strategy<Value = Tuple<V4>> {
        any::<(u32, u32, u16, u16)>().prop_map(|(source, destination, source_port, destination_port)| Tuple {
            source: V4(source),
            destination: V4(destination),
            source_port: Be16::new(source_port),
            destination_port: Be16::new(destination_port),
        })
    }

    proptest! {
        /// Whatever is translated to whatever, each entry of a pair names the other one's key.
        #[test]
        fn the_entries_of_a_pair_name_each_other(before in tuple(), after in tuple(), zone: u16, peer: u16) {
            let (zone, peer) = (Zone(zone), Zone(peer));
            let protocol = Protocol::TCP;
            let key = before.key(protocol, zone);
            let original = Flow::new(after, peer, (1, 1), Party::OUTSIDE, 0, Flow::<V4>::ORIGINAL);
            let reply_key = original.sibling(protocol);
            let reply = Flow::new(before.reversed(), zone, (1, 1), Party { endpoint: 1, generation: 1, mtu: 1500 }, 0, 0);
            prop_assert_eq!(reply.sibling(protocol), key);
            prop_assert_eq!(reply_key.zone, peer);
        }
    }
}
