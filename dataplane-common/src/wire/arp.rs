//! ARP for IPv4 over Ethernet (RFC 826).

use super::{Be16, Header};

/// Operation: who has this address?
pub const REQUEST: u16 = 1;
/// Operation: I have it.
pub const REPLY: u16 = 2;

/// An ARP packet for IPv4 over Ethernet. Addresses are bytes, since they are not aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Arp {
    /// 1: Ethernet.
    pub hardware: Be16,
    /// 0x0800: IPv4.
    pub protocol: Be16,
    /// 6.
    pub hardware_len: u8,
    /// 4.
    pub protocol_len: u8,
    /// [`REQUEST`] or [`REPLY`].
    pub operation: Be16,
    /// MAC address of the sender.
    pub sender_mac: [u8; 6],
    /// IPv4 address of the sender.
    pub sender: [u8; 4],
    /// MAC address asked for; zero in requests.
    pub target_mac: [u8; 6],
    /// IPv4 address asked for.
    pub target: [u8; 4],
}

// SAFETY: 28 bytes with an alignment of 2: no padding, any bits are valid.
unsafe impl Header for Arp {}

const _: () = assert!(size_of::<Arp>() == 28);

impl Arp {
    /// Does it speak of IPv4 over Ethernet?
    #[inline(always)]
    pub fn is_ipv4_over_ethernet(&self) -> bool {
        self.hardware.get() == 1
            && self.protocol.get() == super::ethernet::IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
    }
}
