//! ICMP (RFC 792), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).

use super::{Be16, Header};
use crate::{address::V6, checksum, tuple::Protocol};

/// ICMP: echo reply.
pub const ECHO_REPLY: u8 = 0;
/// ICMP: destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// ICMP: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// ICMP: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// ICMP: timestamp request.
pub const TIMESTAMP_REQUEST: u8 = 13;
/// ICMP: timestamp reply.
pub const TIMESTAMP_REPLY: u8 = 14;
/// ICMP: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// ICMPv6: the first type that is not an error (RFC 4443 §2.1).
pub const V6_INFORMATIONAL: u8 = 128;
/// ICMPv6: echo request.
pub const V6_ECHO_REQUEST: u8 = 128;
/// ICMPv6: echo reply.
pub const V6_ECHO_REPLY: u8 = 129;
/// ICMPv6: neighbour solicitation.
pub const V6_NEIGHBOR_SOLICITATION: u8 = 135;
/// ICMPv6: neighbour advertisement.
pub const V6_NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Byte offset of the checksum.
pub const CHECKSUM: usize = 2;
/// Byte offset of an echo's identifier.
pub const IDENTIFIER: usize = 4;

/// The first eight bytes of any ICMP message.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: Be16,
    /// Echo: identifier.
    pub identifier: Be16,
    /// Echo: sequence number.
    pub sequence: Be16,
}

// SAFETY: 8 bytes, every field at a multiple of its alignment: no padding, any bits are valid.
unsafe impl Header for Icmp {}

/// A neighbour solicitation or advertisement with one link-layer address option (RFC 4861 §4.3, §4.4).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Neighbor {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: Be16,
    /// Advertisement: router, solicited, override.
    pub flags: [u8; 4],
    /// Whose link-layer address is asked for or told.
    pub target: V6,
    /// [`SOURCE_LINK_LAYER`] or [`TARGET_LINK_LAYER`].
    pub option: u8,
    /// Length of the option in units of eight bytes: 1.
    pub option_len: u8,
    /// The link-layer address.
    pub mac: [u8; 6],
}

// SAFETY: 32 bytes, every field at a multiple of its alignment: no padding, any bits are valid.
unsafe impl Header for Neighbor {}

const _: () = assert!(size_of::<Neighbor>() == 32);

/// Option of solicitations: the sender's link-layer address.
pub const SOURCE_LINK_LAYER: u8 = 1;
/// Option of advertisements: the target's link-layer address.
pub const TARGET_LINK_LAYER: u8 = 2;
/// Advertisement flag: answers a solicitation.
pub const SOLICITED: u8 = 0x40;
/// Advertisement flag: replaces what the receiver knew.
pub const OVERRIDE: u8 = 0x20;

impl Neighbor {
    /// The solicited advertisement of `target` at `mac`, as it is sent from `target` to `asker` (RFC 4861 §7.2.4).
    #[inline(always)]
    pub fn advertisement(target: V6, mac: [u8; 6], asker: V6) -> Self {
        let mut message = Self {
            kind: V6_NEIGHBOR_ADVERTISEMENT,
            code: 0,
            checksum: Be16::default(),
            flags: [SOLICITED | OVERRIDE, 0, 0, 0],
            target,
            option: TARGET_LINK_LAYER,
            option_len: 1,
            mac,
        };
        message.checksum = Be16::from_raw(message.sum(target, asker));
        message
    }

    /// The message's checksum (RFC 4443 §2.3), given that its checksum field is zero; raw.
    #[inline(always)]
    fn sum(&self, source: V6, destination: V6) -> u16 {
        let words = |address: V6| address.0.iter().fold(0_u64, |sum, &word| sum + u64::from(word));
        let [a, b, c, d, e, f] = self.mac;
        let sum = words(source)
            + words(destination)
            + u64::from((size_of::<Self>() as u32).to_be())
            + u64::from(u32::from(Protocol::ICMPV6.0).to_be())
            + u64::from(u32::from_ne_bytes([self.kind, self.code, 0, 0]))
            + u64::from(u32::from_ne_bytes(self.flags))
            + words(self.target)
            + u64::from(u32::from_ne_bytes([self.option, self.option_len, a, b]))
            + u64::from(u32::from_ne_bytes([c, d, e, f]));
        !checksum::fold(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn advertisements_carry_a_right_checksum(target: [u32; 4], asker: [u32; 4], mac: [u8; 6]) {
            let message = Neighbor::advertisement(V6(target), mac, V6(asker));
            let octets = |address: V6| core::net::Ipv6Addr::from(address).octets();
            let mut rest = octets(V6(target)).to_vec();
            rest.extend([TARGET_LINK_LAYER, 1]);
            rest.extend(mac);
            let kind = etherparse::Icmpv6Type::Unknown {
                type_u8: V6_NEIGHBOR_ADVERTISEMENT,
                code_u8: 0,
                bytes5to8: [SOLICITED | OVERRIDE, 0, 0, 0],
            };
            let expected = kind.calc_checksum(octets(V6(target)), octets(V6(asker)), &rest).unwrap();
            prop_assert_eq!(message.checksum.get(), expected);
        }
    }
}
