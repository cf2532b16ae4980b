//! Addresses from one to another: a subnet's part from which dynamic addresses come.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// All addresses from the first to the last, of one family. Written as a CIDR where it is one, else as `FIRST-LAST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// None if the last address comes before the first, or is of another family.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(AddressRange { first, last })
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether all of it is in a subnet.
    pub fn is_within(&self, subnet: &IpNet) -> bool {
        subnet.contains(&self.first) && subnet.contains(&self.last)
    }

    /// As a CIDR, if it is one.
    fn as_net(&self) -> Option<IpNet> {
        let mut nets: Box<dyn Iterator<Item = IpNet>> = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Box::new(Ipv4Subnets::new(first, last, 0).map(IpNet::V4)),
            (IpAddr::V6(first), IpAddr::V6(last)) => Box::new(Ipv6Subnets::new(first, last, 0).map(IpNet::V6)),
            _ => return None,
        };
        nets.next().filter(|net| net.broadcast() == self.last)
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        AddressRange { first: net.network(), last: net.broadcast() }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_net() {
            Some(net) => net.fmt(f),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || String::from("a CIDR such as 10.0.0.128/25, or two addresses such as 10.0.0.50-10.0.0.99, is expected");
        match text.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (first.parse().map_err(|_| expected())?, last.parse().map_err(|_| expected())?);
                AddressRange::new(first, last).ok_or_else(|| format!("{last} does not come after {first}"))
            }
            None => {
                let net: IpNet = text.parse().map_err(|_| expected())?;
                if net != net.trunc() {
                    return Err(format!("it should be {}", net.trunc()));
                }
                Ok(net.into())
            }
        }
    }
}

impl Serialize for AddressRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddressRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_there_and_back() {
        for (text, first, last) in [
            ("10.0.0.128/25", "10.0.0.128", "10.0.0.255"),
            ("10.0.0.50-10.0.0.99", "10.0.0.50", "10.0.0.99"),
            ("10.0.0.7/32", "10.0.0.7", "10.0.0.7"),
            ("fd00::/64", "fd00::", "fd00::ffff:ffff:ffff:ffff"),
            ("fd00::5-fd00::1:0", "fd00::5", "fd00::1:0"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!((range.first(), range.last()), (first.parse().unwrap(), last.parse().unwrap()));
            assert_eq!(range.to_string(), text);
            // As the store has always written it.
            let json = serde_json::to_string(&range).unwrap();
            assert_eq!((json.as_str(), serde_json::from_str(&json).unwrap()), (format!("\"{text}\"").as_str(), range));
        }
        assert_eq!("10.0.0.0-10.0.0.3".parse::<AddressRange>().unwrap().to_string(), "10.0.0.0/30");
        for (text, why) in [
            ("10.0.0.9-10.0.0.8", "10.0.0.8 does not come after 10.0.0.9"),
            ("10.0.0.9-fd00::1", "does not come after"),
            ("10.0.0.9/24", "it should be 10.0.0.0/24"),
            ("ten-eleven", "10.0.0.50-10.0.0.99"),
            ("10.0.0.9", "a CIDR"),
        ] {
            let error = text.parse::<AddressRange>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
