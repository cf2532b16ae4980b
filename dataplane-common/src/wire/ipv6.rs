//! IPv6 (RFC 8200).

use super::{Be16, Header, Load};
use crate::address::V6;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Next header: mobility (RFC 6275).
pub const MOBILITY: u8 = 135;

/// Byte offset of the identification in a fragment header.
pub const IDENTIFICATION: usize = 4;

/// More extension headers than this in one packet are not looked at; RFC 8200 §4.1 has seven kinds of them.
pub const MOST_EXTENSIONS: usize = 8;

/// Is it an extension header that can be stepped over? Authentication and encryption are not: they cover the addresses.
#[inline(always)]
pub fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | MOBILITY)
}

/// The first eight bytes of any extension header, which are all of a fragment header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Extension {
    /// What follows.
    pub next_header: u8,
    /// Length beyond these eight bytes, in units of eight; not in a fragment header, whose length is fixed.
    pub len: u8,
    /// Fragment header: offset, two bits reserved, and the bit that says that more follow.
    pub word: Be16,
    /// Fragment header: what the fragments of one packet have in common.
    pub identification: u32,
}

// SAFETY: 8 bytes, every field at a multiple of its alignment: no padding, any bits are valid.
unsafe impl Header for Extension {}

const _: () = assert!(size_of::<Extension>() == 8);

/// Byte offset of the next header.
pub const NEXT_HEADER: usize = 6;

/// An IPv6 header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv6 {
    /// Version, traffic class, flow label.
    pub version_class_flow: [u8; 4],
    /// What follows this header, bytes.
    pub payload_length: Be16,
    /// The next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: V6,
    /// Destination address.
    pub destination: V6,
}

// SAFETY: 16 bytes without padding, any bits are valid.
unsafe impl Header for V6 {}

// SAFETY: 40 bytes, every field at a multiple of its alignment: no padding, any bits are valid.
unsafe impl Header for Ipv6 {}

const _: () = assert!(size_of::<Ipv6>() == 40);

impl Ipv6 {
    /// A header without flow label.
    #[inline(always)]
    pub fn new(load: Load, source: V6, destination: V6) -> Self {
        Self {
            version_class_flow: [0x60 | load.class >> 4, load.class << 4, 0, 0],
            payload_length: Be16::new(load.length),
            next_header: load.protocol,
            hop_limit: load.hops,
            source,
            destination,
        }
    }

    /// The traffic class, which lies across two bytes.
    #[inline(always)]
    pub fn class(version_class_flow: [u8; 2]) -> u8 {
        version_class_flow[0] << 4 | version_class_flow[1] >> 4
    }
}
