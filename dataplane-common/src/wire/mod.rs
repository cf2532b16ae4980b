//! Headers as they lie on the wire, and the parser that turns a frame into a [`Packet`].
//!
//! A header is a `repr(C)` struct without padding whose fields hold network byte order; [`Frame::read`] takes one from a
//! checked position. Offsets are constants: that is what the verifier follows at no cost. IP options and extension headers are
//! stepped over at run-time positions, which is slower, and rare.

pub mod arp;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
mod mapped;
mod packet;
pub mod transport;

pub use packet::{IpFields, IpHeader, Kind, Packet, Part, Quote, Translation};

/// A 16-bit number in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Be16(u16);

impl Be16 {
    /// Takes a number in host byte order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// The number in host byte order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The number as it lies in memory, for checksum helpers and context fields.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// Takes a number that is in network byte order already.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }
}

/// A 32-bit number in network byte order, as it lies in headers that are aligned to 16 bits only.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Be32([Be16; 2]);

impl Be32 {
    /// The number in host byte order.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        (self.0[0].get() as u32) << 16 | self.0[1].get() as u32
    }
}

/// What an IP header of either family says of what it carries (RFC 7915 §4.1 and §5.1).
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// IPv4's type of service, IPv6's traffic class.
    pub class: u8,
    /// Bytes behind the IP header.
    pub length: u16,
    /// The transport protocol.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hops: u8,
}

/// A fixed-size header.
///
/// # Safety
///
/// Implementors are `repr(C)`, have no padding, and every bit pattern is a valid value.
pub unsafe trait Header: Copy {}

// SAFETY: a byte: any bits are valid.
unsafe impl Header for u8 {}

// SAFETY: two bytes: no padding, any bits are valid.
unsafe impl Header for [u8; 2] {}

/// An Ethernet frame whose bytes can be read at checked positions.
pub trait Frame {
    /// Length of the frame in bytes, Ethernet header included.
    fn len(&self) -> usize;

    /// Is there no byte at all?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at byte `at`, or `None` when the frame ends before it does.
    fn read<T: Header>(&self, at: usize) -> Option<T>;

    /// The same for a position that is known at run time only.
    #[inline(always)]
    fn load<T: Header>(&self, at: usize) -> Option<T> {
        self.read(at)
    }
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn read<T: Header>(&self, at: usize) -> Option<T> {
        let bytes = self.get(at..at.checked_add(size_of::<T>())?)?;
        // SAFETY: `bytes` holds exactly size_of::<T>() bytes, the read is unaligned, and any bit pattern is a valid `Header`.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}
