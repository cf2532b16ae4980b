//! Identifiers of networks, containers and endpoints: 256 random bits, written as 64 hex digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// 256 random bits, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id([u8; 32]);

impl Id {
    /// A new random identifier.
    pub fn random() -> Self {
        Id(random_bytes())
    }

    /// Its first bytes, where fewer random bits will do.
    pub fn prefix<const N: usize>(&self) -> [u8; N] {
        const { assert!(N <= 32) };
        std::array::from_fn(|index| self.0[index])
    }

    /// How many digits it is written with.
    pub const DIGITS: usize = 64;

    /// Whether it begins with these digits, as it is written.
    pub fn begins_with(&self, digits: &str) -> bool {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let own = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(|digit| HEX[usize::from(digit)]);
        digits.len() <= Self::DIGITS && own.zip(digits.bytes()).all(|(own, digit)| own == digit)
    }

    /// The first 12 digits, as tables and default host names show them.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// Random bytes from the kernel.
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // getrandom(2) fails only on kernels without it (before 3.17), far older than eBPF programs need.
    getrandom::fill(&mut bytes).expect("the kernel has getrandom(2)");
    bytes
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| Error::Invalid(format!("invalid id {text:?}: 64 hex digits expected")))?;
        Ok(Id(bytes))
    }
}

impl TryFrom<String> for Id {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.to_string()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let id = Id::random();
        assert_eq!(id.to_string().len(), 64);
        assert_eq!(id.short(), id.to_string()[..12]);
        assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
        assert_ne!(id, Id::random());
        assert!("12ab".parse::<Id>().is_err());
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id);
    }
}
