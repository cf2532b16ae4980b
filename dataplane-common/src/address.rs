//! IP addresses as they lie on the wire, and the trait that makes the data plane generic over IPv4 and IPv6.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Difference;

/// An IPv4 address in network byte order (RFC 791).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V4(pub u32);

/// An IPv6 address in network byte order, as four words (RFC 8200).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V6(pub [u32; 4]);

/// An address of either family, as the key of a network's endpoints: IPv4 is mapped into IPv6 (RFC 4291 §2.5.5.2).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AnyAddress(pub [u32; 4]);

impl AnyAddress {
    /// Is it an IPv4 address?
    #[inline(always)]
    pub fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0xffff_u32.to_be()
    }

    /// The address as two numbers, for hashing.
    #[inline(always)]
    pub fn halves(self) -> [u64; 2] {
        let [a, b, c, d] = self.0;
        [u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d)]
    }

    /// As `==`, without a loop.
    #[inline(always)]
    pub fn is(self, other: Self) -> bool {
        self.halves() == other.halves()
    }
}

/// What the data plane needs of an address family. Implemented by [`V4`] and [`V6`] only; programs are compiled once for each.
pub trait Address: Copy + Eq {
    /// EtherType of the family's packets, host byte order.
    const ETHERTYPE: u16;
    /// `AF_INET` or `AF_INET6`.
    const FAMILY: u8;
    /// Length in bytes of the IP header without options or extension headers.
    const HEADER_LEN: usize;
    /// Is this IPv6? A constant, so that the other family's branch vanishes at compile time.
    const IS_V6: bool;
    /// 0.0.0.0 or `::`.
    const UNSPECIFIED: Self;

    /// The address as a key of either family.
    fn any(self) -> AnyAddress;
    /// The address of this family in a key; meaningless if the key is the other family's.
    fn from_any(any: AnyAddress) -> Self;
    /// 127.0.0.0/8 or `::1`.
    fn is_loopback(self) -> bool;
    /// 169.254.0.0/16 or fe80::/10: never routed (RFC 3927 §2.6.2, RFC 4291 §2.5.6).
    fn is_link_local(self) -> bool;
    /// Multicast, or IPv4's limited broadcast 255.255.255.255.
    fn is_group(self) -> bool;
    /// Never an address of a packet that is routed: 0.0.0.0/8, 127.0.0.0/8, 240.0.0.0/4 but for the limited broadcast; `::`,
    /// `::1` (RFC 6890 §2.2, RFC 1812 §5.3.7).
    fn is_martian(self) -> bool;
    /// The address to which all stations of a subnet listen (RFC 919 §7); IPv6 has none.
    fn is_broadcast_of(self, prefix: Self, mask: Self) -> bool;
    /// Does the address lie in `prefix` under `mask`? A mask of zero matches everything.
    fn is_in(self, prefix: Self, mask: Self) -> bool;
    /// The first 16 bits, as a number.
    fn top(self) -> u16;
    /// The last 32 bits, as a number.
    fn bottom(self) -> u32;
    /// Folds the address into one word, for hashing.
    fn fold(self) -> u32;
    /// What replacing this address by `other` does to a checksum.
    fn difference(self, other: Self) -> Difference;
}

impl Address for V4 {
    const ETHERTYPE: u16 = crate::wire::ethernet::IPV4;
    const FAMILY: u8 = 2;
    const HEADER_LEN: usize = 20;
    const IS_V6: bool = false;
    const UNSPECIFIED: Self = Self(0);

    #[inline(always)]
    fn any(self) -> AnyAddress {
        AnyAddress([0, 0, 0xffff_u32.to_be(), self.0])
    }

    #[inline(always)]
    fn from_any(any: AnyAddress) -> Self {
        Self(any.0[3])
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.0 & 0xff00_0000_u32.to_be() == 0x7f00_0000_u32.to_be()
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        self.0 & 0xffff_0000_u32.to_be() == 0xa9fe_0000_u32.to_be()
    }

    #[inline(always)]
    fn is_group(self) -> bool {
        self.0 & 0xf000_0000_u32.to_be() == 0xe000_0000_u32.to_be() || self.0 == u32::MAX
    }

    #[inline(always)]
    fn is_martian(self) -> bool {
        let first = u32::from_be(self.0) >> 24;
        first == 0 || first == 127 || (first >= 240 && self.0 != u32::MAX)
    }

    #[inline(always)]
    fn is_broadcast_of(self, prefix: Self, mask: Self) -> bool {
        // Two addresses leave none over for that (RFC 3021).
        self.0 == prefix.0 | !mask.0 && u32::from_be(!mask.0) > 1
    }

    #[inline(always)]
    fn is_in(self, prefix: Self, mask: Self) -> bool {
        self.0 & mask.0 == prefix.0
    }

    #[inline(always)]
    fn top(self) -> u16 {
        (u32::from_be(self.0) >> 16) as u16
    }

    #[inline(always)]
    fn bottom(self) -> u32 {
        u32::from_be(self.0)
    }

    #[inline(always)]
    fn fold(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn difference(self, other: Self) -> Difference {
        Difference::default().word(self.0, other.0)
    }
}

impl Address for V6 {
    const ETHERTYPE: u16 = crate::wire::ethernet::IPV6;
    const FAMILY: u8 = 10;
    const HEADER_LEN: usize = 40;
    const IS_V6: bool = true;
    const UNSPECIFIED: Self = Self([0; 4]);

    #[inline(always)]
    fn any(self) -> AnyAddress {
        AnyAddress(self.0)
    }

    #[inline(always)]
    fn from_any(any: AnyAddress) -> Self {
        Self(any.0)
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == 1_u32.to_be()
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        self.0[0] & 0xffc0_0000_u32.to_be() == 0xfe80_0000_u32.to_be()
    }

    #[inline(always)]
    fn is_group(self) -> bool {
        self.0[0] & 0xff00_0000_u32.to_be() == 0xff00_0000_u32.to_be()
    }

    #[inline(always)]
    fn is_martian(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && u32::from_be(self.0[3]) <= 1
    }

    #[inline(always)]
    fn is_broadcast_of(self, _: Self, _: Self) -> bool {
        false
    }

    #[inline(always)]
    fn is_in(self, prefix: Self, mask: Self) -> bool {
        (self.0[0] & mask.0[0] == prefix.0[0])
            & (self.0[1] & mask.0[1] == prefix.0[1])
            & (self.0[2] & mask.0[2] == prefix.0[2])
            & (self.0[3] & mask.0[3] == prefix.0[3])
    }

    #[inline(always)]
    fn top(self) -> u16 {
        (u32::from_be(self.0[0]) >> 16) as u16
    }

    #[inline(always)]
    fn bottom(self) -> u32 {
        u32::from_be(self.0[3])
    }

    #[inline(always)]
    fn fold(self) -> u32 {
        let [a, b, c, d] = self.0;
        // Rotations keep addresses that differ in two words alike from folding to one value.
        a ^ b.rotate_left(7) ^ c.rotate_left(13) ^ d.rotate_left(23)
    }

    #[inline(always)]
    fn difference(self, other: Self) -> Difference {
        Difference::default().words(self.0, other.0)
    }
}

impl V6 {
    /// An IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2).
    #[inline(always)]
    pub fn mapped(address: V4) -> Self {
        Self(address.any().0)
    }

    /// Is it one?
    #[inline(always)]
    pub fn is_mapped(self) -> bool {
        self.any().is_v4()
    }

    /// The link-local address that a Linux interface derives from its MAC address (RFC 4291 appendix A, modified EUI-64).
    #[inline(always)]
    pub const fn link_local_of(mac: [u8; 6]) -> Self {
        Self([
            0xfe80_0000_u32.to_be(),
            0,
            u32::from_ne_bytes([mac[0] ^ 2, mac[1], mac[2], 0xff]),
            u32::from_ne_bytes([0xfe, mac[3], mac[4], mac[5]]),
        ])
    }
}

impl From<Ipv4Addr> for V4 {
    fn from(address: Ipv4Addr) -> Self {
        Self(u32::from_ne_bytes(address.octets()))
    }
}

impl From<V4> for Ipv4Addr {
    fn from(address: V4) -> Self {
        Self::from(address.0.to_ne_bytes())
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(address: Ipv6Addr) -> Self {
        let o = address.octets();
        let word = |i: usize| u32::from_ne_bytes([o[i], o[i + 1], o[i + 2], o[i + 3]]);
        Self([word(0), word(4), word(8), word(12)])
    }
}

impl From<V6> for Ipv6Addr {
    fn from(address: V6) -> Self {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(address.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Self::from(octets)
    }
}

impl From<IpAddr> for AnyAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => V4::from(v4).any(),
            IpAddr::V6(v6) => V6::from(v6).any(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> V4 {
        text.parse::<Ipv4Addr>().unwrap().into()
    }

    fn v6(text: &str) -> V6 {
        text.parse::<Ipv6Addr>().unwrap().into()
    }

    #[test]
    fn conversions_round_trip() {
        assert_eq!(Ipv4Addr::from(v4("192.0.2.1")), "192.0.2.1".parse::<Ipv4Addr>().unwrap());
        assert_eq!(Ipv6Addr::from(v6("2001:db8::1")), "2001:db8::1".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn special_ranges_are_told_apart() {
        assert!(v4("127.1.2.3").is_loopback() && !v4("128.0.0.1").is_loopback());
        assert!(v4("169.254.9.9").is_link_local() && !v4("169.255.0.0").is_link_local());
        assert!(v4("224.0.0.1").is_group() && v4("255.255.255.255").is_group() && !v4("192.0.2.255").is_group());
        assert!(v6("::1").is_loopback() && !v6("::2").is_loopback());
        assert!(v6("fe80::1").is_link_local() && v6("febf::1").is_link_local() && !v6("fec0::1").is_link_local());
        assert!(v6("ff02::1").is_group() && !v6("fe80::1").is_group());
    }

    #[test]
    fn a_subnet_of_two_has_no_broadcast_address() {
        assert!(v4("10.0.0.255").is_broadcast_of(v4("10.0.0.0"), v4("255.255.255.0")));
        assert!(v4("10.0.0.3").is_broadcast_of(v4("10.0.0.0"), v4("255.255.255.252")));
        assert!(!v4("10.0.0.1").is_broadcast_of(v4("10.0.0.0"), v4("255.255.255.254")));
        assert!(!v4("10.0.0.1").is_broadcast_of(v4("10.0.0.1"), v4("255.255.255.255")));
    }

    #[test]
    fn prefixes_match_as_written() {
        assert!(v4("10.0.0.77").is_in(v4("10.0.0.0"), v4("255.255.255.0")));
        assert!(!v4("10.0.1.77").is_in(v4("10.0.0.0"), v4("255.255.255.0")));
        assert!(v6("fd00::7").is_in(v6("fd00::"), v6("ffff:ffff:ffff:ffff::")));
        assert!(!v6("fd00:0:0:1::7").is_in(v6("fd00::"), v6("ffff:ffff:ffff:ffff::")));
    }

    #[test]
    fn the_top_is_as_one_reads_it() {
        assert_eq!((v4("172.17.3.4").top(), v6("fd12:3456::1").top()), (0xac11, 0xfd12));
    }

    #[test]
    fn link_local_is_modified_eui64() {
        let mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];
        assert_eq!(V6::link_local_of(mac), v6("fe80::42:acff:fe11:2"));
    }

    #[test]
    fn mapped_keys_never_collide_between_families() {
        assert_eq!(v4("10.0.0.1").any(), v6("::ffff:10.0.0.1").any());
        assert_ne!(v4("10.0.0.1").any(), v6("::10.0.0.1").any());
        assert!(v4("10.0.0.1").any().is_v4() && !v6("2001:db8::1").any().is_v4() && !v6("::1").any().is_v4());
    }
}
