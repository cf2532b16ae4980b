//! TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260) headers.

use super::{Be16, Be32, Header};

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
    pub sequence: Be32,
    /// Acknowledgment number.
    pub acknowledgment: Be32,
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

/// Byte offset of the SCTP checksum, a CRC32c over the whole packet.
pub const SCTP_CHECKSUM: usize = 8;
/// SCTP chunk type: INIT, the first packet of an association.
pub const SCTP_INIT: u8 = 1;

/// An SCTP common header and the type of the first chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sctp {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Verification tag.
    pub tag: Be32,
    /// CRC32c of the packet (RFC 9260 appendix A), low byte first.
    pub checksum: [u8; 4],
    /// Type of the first chunk.
    pub chunk: u8,
    /// Its flags.
    pub flags: u8,
    /// Its length, bytes.
    pub length: Be16,
}

// SAFETY: 16 bytes with an alignment of 2, every field in place: no padding, any bits are valid.
unsafe impl Header for Sctp {}

const _: () = assert!(size_of::<Sctp>() == 16);
