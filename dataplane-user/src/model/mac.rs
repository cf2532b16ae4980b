//! Ethernet addresses of containers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::random_bytes;
use super::{Error, Result};

/// A unicast Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// A random, locally administered unicast address.
    pub fn random() -> Self {
        let mut bytes: [u8; 6] = random_bytes();
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        MacAddress(bytes)
    }

    /// The six bytes in the order of the wire.
    pub fn bytes(&self) -> [u8; 6] {
        self.0
    }
}

/// As an interface has it.
impl From<[u8; 6]> for MacAddress {
    fn from(bytes: [u8; 6]) -> Self {
        MacAddress(bytes)
    }
}

impl FromStr for MacAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Err(Error::Invalid(format!(
                "invalid MAC address {text:?}: {why}, a unicast address such as 02:42:ac:11:00:02 is needed"
            )))
        };
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let mut pair = [0; 1];
            match parts.next().map(|part| hex::decode_to_slice(part, &mut pair)) {
                Some(Ok(())) => *byte = pair[0],
                _ => return invalid("it is not six pairs of hex digits"),
            }
        }
        if parts.next().is_some() {
            return invalid("it is not six pairs of hex digits");
        }
        if bytes == [0; 6] {
            return invalid("it is all zero");
        }
        if bytes[0] & 1 == 1 {
            return invalid("it is a group address");
        }
        Ok(MacAddress(bytes))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        let mac: MacAddress = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02-42-ac-11-00-02".parse::<MacAddress>().unwrap(), mac);
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, why) in [
            ("", "six pairs"),
            ("02:42:ac:11:00", "six pairs"),
            ("02:42:ac:11:00:02:03", "six pairs"),
            ("02:42:ac:11:00:2", "six pairs"),
            ("02:42:ac:11:00:+2", "six pairs"),
            ("00:00:00:00:00:00", "all zero"),
            ("ff:ff:ff:ff:ff:ff", "group"),
            ("01:00:5e:00:00:01", "group"),
        ] {
            let error = text.parse::<MacAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn random_is_local_unicast() {
        for _ in 0..100 {
            let mac = MacAddress::random().bytes();
            assert_eq!(mac[0] & 3, 2);
        }
    }
}
