//! IPv6 (RFC 8200).

use super::{Be16, Header};
use crate::address::V6;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

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

// SAFETY: 40 bytes, every field at a multiple of its alignment: no padding, any bits are valid.
unsafe impl Header for Ipv6 {}

const _: () = assert!(size_of::<Ipv6>() == 40);
