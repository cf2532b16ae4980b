//! Ethernet II frames (IEEE 802.3).

use super::{Be16, Header};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// Length of the header in bytes: where the network header begins.
pub const LEN: usize = 14;

/// An Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// What follows.
    pub ethertype: Be16,
}

// SAFETY: 6 + 6 + 2 bytes with an alignment of 2: no padding, any bits are valid.
unsafe impl Header for Ethernet {}

const _: () = assert!(size_of::<Ethernet>() == LEN);

impl Ethernet {
    /// Is the frame for more than one station (group bit, IEEE 802 §8.2)?
    #[inline(always)]
    pub fn is_group(&self) -> bool {
        self.destination[0] & 1 != 0
    }
}
