//! IPv4 (RFC 791).

use super::{Be16, Header};
use crate::address::V4;

/// An IPv4 header without options.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv4 {
    /// Version and header length in words.
    pub version_ihl: u8,
    /// Differentiated services and congestion notification.
    pub dscp_ecn: u8,
    /// Header and payload, bytes.
    pub total_length: Be16,
    /// What the fragments of one packet have in common.
    pub identification: Be16,
    /// Flags and fragment offset in units of eight bytes.
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: Be16,
    /// Source address.
    pub source: V4,
    /// Destination address.
    pub destination: V4,
}

// SAFETY: 20 bytes, every field at a multiple of its alignment: no padding, any bits are valid.
unsafe impl Header for Ipv4 {}

const _: () = assert!(size_of::<Ipv4>() == 20);

impl Ipv4 {
    /// Is the packet a fragment, first or later?
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & 0x3fff != 0
    }
}
