//! Versions of the specification that we speak.

use std::fmt;
use std::str::FromStr;

/// A version, older ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.1.
    V0_3_1,
    /// 0.4.0, which brought CHECK.
    V0_4_0,
    /// 1.0.0, which took the family out of addresses.
    V1_0_0,
    /// 1.1.0, which brought GC and STATUS.
    V1_1_0,
}

impl Version {
    /// All of them, older ones first.
    pub const ALL: [Version; 4] = [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    /// The newest one.
    pub const NEWEST: Version = Version::V1_1_0;

    /// As configurations have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Whether an address says of itself of which family it is.
    pub fn addresses_have_family(self) -> bool {
        self < Version::V1_0_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Version::ALL.into_iter().find(|version| version.as_str() == text).ok_or(())
    }
}
