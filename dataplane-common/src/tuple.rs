//! The 5-tuple of a packet and the key under which its flow is found.

use crate::{
    address::{Address as _, V4, V6},
    wire::Be16,
};

/// Transport protocol numbers (IANA "Assigned Internet Protocol Numbers").
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Internet Control Message Protocol (RFC 792).
    pub const ICMP: Self = Self(1);
    /// Transmission Control Protocol (RFC 9293).
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol (RFC 768).
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// Stream Control Transmission Protocol (RFC 9260).
    pub const SCTP: Self = Self(132);
}

/// Where a packet comes from: the number of a container network, or [`Zone::OUTSIDE`]. The same 5-tuple in two zones is two flows.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Zone(pub u16);

impl Zone {
    /// Everything behind an uplink.
    pub const OUTSIDE: Self = Self(0);
    /// The host's own stack.
    pub const HOST: Self = Self(u16::MAX);

    /// Where the mappings of this zone's sockets are kept: no packet ever comes from there.
    #[inline(always)]
    #[must_use]
    pub const fn mappings(self) -> Self {
        Self(self.0 | Self::MAPPINGS)
    }

    /// The zone whose sockets' mappings are kept in this one.
    #[inline(always)]
    #[must_use]
    pub const fn of_packets(self) -> Self {
        Self(self.0 & !Self::MAPPINGS)
    }

    /// Is this one of [`Zone::mappings`]?
    #[inline(always)]
    pub const fn is_of_mappings(self) -> bool {
        self.0 & 0xf000 == Self::MAPPINGS
    }

    /// Above the numbers of all networks.
    const MAPPINGS: u16 = 0x4000;
}

/// Source and destination of a packet. Ports are in network byte order. The identifier of an ICMP query stands for the port of who
/// asks: source of the question, destination of the answer, the other port being zero.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuple<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
}

impl<A: Copy> Tuple<A> {
    /// The tuple of the answer: source and destination exchanged.
    #[inline(always)]
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    /// The key of this tuple in `zone`.
    #[inline(always)]
    pub fn key(self, protocol: Protocol, zone: Zone) -> FlowKey<A> {
        FlowKey { tuple: self, protocol, reserved: 0, zone }
    }
}

impl Tuple<V6> {
    /// The IPv4 tuple whose addresses are mapped in this one.
    #[inline(always)]
    pub fn unmapped(&self) -> Tuple<V4> {
        Tuple {
            source: V4::from_any(self.source.any()),
            destination: V4::from_any(self.destination.any()),
            source_port: self.source_port,
            destination_port: self.destination_port,
        }
    }
}

/// Key of the flow table: 16 bytes for IPv4, 40 for IPv6, without padding.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowKey<A> {
    /// Source and destination as the packet carries them in this direction, before translation.
    pub tuple: Tuple<A>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Always zero.
    pub reserved: u8,
    /// Where the packet comes from.
    pub zone: Zone,
}

const _: () = assert!(size_of::<FlowKey<crate::V4>>() == 16 && size_of::<FlowKey<crate::V6>>() == 40);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::V4;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reversing_twice_changes_nothing(source: u32, destination: u32, source_port: u16, destination_port: u16) {
            let tuple = Tuple {
                source: V4(source),
                destination: V4(destination),
                source_port: Be16::new(source_port),
                destination_port: Be16::new(destination_port),
            };
            prop_assert_eq!(tuple.reversed().reversed(), tuple);
            prop_assert_eq!(tuple.reversed().source, tuple.destination);
            prop_assert_eq!(tuple.reversed().source_port, tuple.destination_port);
        }
    }
}
