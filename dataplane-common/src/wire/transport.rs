//! TCP (RFC 9293) and UDP (RFC 768) headers.

use super::{Be16, Header};

/// Byte offset of the source port, in TCP, UDP and SCTP alike.
pub const SOURCE_PORT: usize = 0;
/// Byte offset of the destination port.
pub const DESTINATION_PORT: usize = 2;
/// Byte offset of the TCP checksum.
pub const TCP_CHECKSUM: usize = 16;
/// Byte offset of the UDP checksum.
pub const UDP_CHECKSUM: usize = 6;

/// A TCP header without options.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Sequence number.
    pub sequence: [u8; 4],
    /// Acknowledgment number.
    pub acknowledgment: [u8; 4],
    /// Header length in words, upper half.
    pub data_offset: u8,
    /// Control bits.
    pub flags: u8,
    /// Receive window.
    pub window: Be16,
    /// Checksum.
    pub checksum: Be16,
    /// Urgent pointer.
    pub urgent: Be16,
}

// SAFETY: 20 bytes with an alignment of 2, every field in place: no padding, any bits are valid.
unsafe impl Header for Tcp {}

const _: () = assert!(size_of::<Tcp>() == 20);

/// A UDP header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Header and payload, bytes.
    pub length: Be16,
    /// Checksum; zero means none (IPv4 only).
    pub checksum: Be16,
}

// SAFETY: 8 bytes with an alignment of 2: no padding, any bits are valid.
unsafe impl Header for Udp {}
