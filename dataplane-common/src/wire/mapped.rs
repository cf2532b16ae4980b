//! An IPv4 packet as the IPv6 packet that it is to become, for flows that are IPv6 outside and IPv4 inside.

use super::Packet;
use crate::{
    address::{Address, V4, V6},
    tuple::Tuple,
};

impl Packet<V6> {
    /// Takes over an IPv4 packet without options: its addresses mapped (RFC 4291 §2.5.5.2), its length that after translation.
    #[inline(always)]
    pub fn map(&mut self, packet: &Packet<V4>) {
        let grown = (V6::HEADER_LEN - V4::HEADER_LEN) as u16;
        self.source = V6::mapped(packet.source);
        self.destination = V6::mapped(packet.destination);
        self.tuple = Tuple {
            source: V6::mapped(packet.tuple.source),
            destination: V6::mapped(packet.tuple.destination),
            source_port: packet.tuple.source_port,
            destination_port: packet.tuple.destination_port,
        };
        self.protocol = packet.protocol;
        self.kind = packet.kind;
        self.flags = packet.flags;
        self.ttl = packet.ttl;
        self.unsummed = packet.unsummed;
        self.options = packet.options;
        self.init = packet.init;
        self.transport_len = packet.transport_len;
        self.length = packet.length.saturating_add(grown);
        self.transport = packet.transport.saturating_add(grown);
        self.part = packet.part;
        self.sequence = packet.sequence;
        self.acknowledgment = packet.acknowledgment;
        self.quote = packet.quote;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Be16, Header, Load, ethernet, ethernet::Ethernet, ipv4::Ipv4, ipv6::Ipv6, transport::Udp};
    use proptest::prelude::*;

    fn bytes<T: Header>(header: &T) -> &[u8] {
        // SAFETY: a header has no padding.
        unsafe { core::slice::from_raw_parts((&raw const *header).cast(), size_of::<T>()) }
    }

    proptest! {
        /// The mapped packet is what the parser makes of the translated one.
        #[test]
        fn mapping_is_translating(class: u8, hops: u8, payload in 0..1000_u16, source: u32, destination: u32) {
            let (source, destination) = (V4(source), V4(destination));
            let load = Load { class, length: 8 + payload, protocol: 17, hops };
            let udp = Udp {
                source: Be16::new(5000),
                destination: Be16::new(53),
                length: Be16::new(load.length),
                checksum: Be16::new(7),
            };
            let frame = |ethertype: u16, ip: &[u8]| {
                let ethernet = Ethernet { destination: [2; 6], source: [4; 6], ethertype: Be16::new(ethertype) };
                let payload = vec![0; payload.into()];
                [bytes(&ethernet), ip, bytes(&udp), &payload].concat()
            };
            let v4 = Ipv4::new(load, source, destination);
            let v6 = Ipv6::new(load, V6::mapped(source), V6::mapped(destination));
            prop_assert_eq!(Ipv6::class([v6.version_class_flow[0], v6.version_class_flow[1]]), class);
            let inside = Packet::<V4>::parse(&frame(ethernet::IPV4, bytes(&v4))[..]).unwrap();
            let outside = Packet::<V6>::parse(&frame(ethernet::IPV6, bytes(&v6))[..]).unwrap();
            let mut mapped = Packet::<V6>::EMPTY;
            mapped.map(&inside);
            prop_assert_eq!(std::format!("{mapped:?}"), std::format!("{outside:?}"));
        }

        /// No checksum notices the mapping: the transport's stays right when a header of one family takes the other's place.
        #[test]
        fn a_mapped_address_has_the_sum_of_the_address(address: u32) {
            let (v4, v6) = (V4(address), V6::mapped(V4(address)));
            let before = V4(0).difference(v4).update(0x1234);
            let after = V6::mapped(V4(0)).difference(v6).update(0x1234);
            prop_assert_eq!(before, after);
            let from_nothing = V6([0; 4]).difference(V6::mapped(V4(0))).update(0x1234);
            prop_assert_eq!(from_nothing, 0x1234);
        }
    }
}
