//! The two address families. Nearly every scenario is played for both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

pub use Family::{V4, V6};

impl Family {
    /// Both, to loop over.
    pub const BOTH: [Family; 2] = [V4, V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { V4 } else { V6 }
    }

    /// The address that means every address: 0.0.0.0 or `::`.
    pub fn any(self) -> IpAddr {
        match self {
            V4 => Ipv4Addr::UNSPECIFIED.into(),
            V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// 127.0.0.1 or `::1`.
    pub fn loopback(self) -> IpAddr {
        match self {
            V4 => Ipv4Addr::LOCALHOST.into(),
            V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}
