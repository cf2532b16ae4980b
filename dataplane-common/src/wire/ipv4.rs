//! IPv4 (RFC 791).

use super::{Be16, Header, Load};
use crate::{address::V4, checksum};

/// Byte offset of the protocol.
pub const PROTOCOL: usize = 9;

/// Byte offset of the identification.
pub const IDENTIFICATION: usize = 4;
/// Byte offset of the header's checksum.
pub const CHECKSUM: usize = 10;

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
    /// The flag that forbids fragmenting.
    const DONT_FRAGMENT: u16 = 0x4000;

    /// A header without options for a whole packet. It may not be fragmented, so it needs no identification (RFC 6864 §4.1).
    #[inline(always)]
    pub fn new(load: Load, source: V4, destination: V4) -> Self {
        let mut header = Self {
            version_ihl: 0x45,
            dscp_ecn: load.class,
            total_length: Be16::new(load.length.wrapping_add(size_of::<Self>() as u16)),
            identification: Be16::new(0),
            fragment: Be16::new(Self::DONT_FRAGMENT),
            ttl: load.hops,
            protocol: load.protocol,
            checksum: Be16::new(0),
            source,
            destination,
        };
        header.checksum = Be16::from_raw(!header.sum());
        header
    }

    /// The ones' complement sum of the header, checksum included: all ones if that is right (RFC 1071).
    #[inline(always)]
    pub fn sum(&self) -> u16 {
        let halves = |low: u16, high: u16| u64::from(u32::from(low) | u32::from(high) << 16);
        checksum::fold(
            halves(u16::from_ne_bytes([self.version_ihl, self.dscp_ecn]), self.total_length.raw())
                + halves(self.identification.raw(), self.fragment.raw())
                + halves(u16::from_ne_bytes([self.ttl, self.protocol]), self.checksum.raw())
                + u64::from(self.source.0)
                + u64::from(self.destination.0),
        )
    }
}
