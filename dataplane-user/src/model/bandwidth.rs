//! How fast a container may send and receive on a network: driver options of its endpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// The driver options: rates in bits per second, and what may pass at once in bits.
const INGRESS_RATE: &str = "spandrel.ingress_rate";
const INGRESS_BURST: &str = "spandrel.ingress_burst";
const EGRESS_RATE: &str = "spandrel.egress_rate";
const EGRESS_BURST: &str = "spandrel.egress_burst";
const KNOWN: [&str; 4] = [INGRESS_RATE, INGRESS_BURST, EGRESS_RATE, EGRESS_BURST];

/// The slowest rate.
const SLOWEST: u64 = 1000;

/// Units of bits, as `tc` writes them.
const UNITS: [(&str, u64); 5] =
    [("tbit", 1_000_000_000_000), ("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];

/// How fast, from the container's point of view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What it receives.
    pub ingress: Option<Rate>,
    /// What it sends.
    pub egress: Option<Rate>,
}

/// A limit of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bits per second.
    pub rate: u64,
    /// Bits that may pass at once after a silence; 0: as many as TCP needs.
    pub burst: u64,
}

impl Bandwidth {
    /// Whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        *self == Bandwidth::default()
    }

    /// Reads driver options. A rate of 0 is no limit.
    pub fn from_options(options: &BTreeMap<String, String>) -> Result<Bandwidth> {
        if let Some(unknown) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            let known = KNOWN.join(", ");
            return Err(Error::Invalid(format!("unknown driver option {unknown:?} of an endpoint: {known} are known")));
        }
        let direction = |rate_key: &str, burst_key: &str| {
            let value = |key: &str| options.get(key).map_or(Ok(0), |text| bits(key, text));
            let (rate, burst) = (value(rate_key)?, value(burst_key)?);
            match (rate, burst) {
                (0, 0) => Ok(None),
                (0, _) => Err(Error::Invalid(format!("{burst_key} is given without {rate_key}"))),
                (1..SLOWEST, _) => {
                    Err(Error::Invalid(format!("{rate_key}: {rate} bits per second are too few, 1kbit is the least")))
                }
                _ => Ok(Some(Rate { rate, burst })),
            }
        };
        Ok(Bandwidth {
            ingress: direction(INGRESS_RATE, INGRESS_BURST)?,
            egress: direction(EGRESS_RATE, EGRESS_BURST)?,
        })
    }

    /// The driver options that say the same, in bits.
    pub fn to_options(self) -> BTreeMap<String, String> {
        let direction = |rate_key: &str, burst_key: &str, limit: Option<Rate>| {
            let values = limit.map(|limit| [(rate_key.to_owned(), limit.rate), (burst_key.to_owned(), limit.burst)]);
            values.into_iter().flatten().filter(|(_, bits)| *bits != 0)
        };
        direction(INGRESS_RATE, INGRESS_BURST, self.ingress)
            .chain(direction(EGRESS_RATE, EGRESS_BURST, self.egress))
            .map(|(key, bits)| (key, bits.to_string()))
            .collect()
    }
}

/// A number of bits, with or without a unit.
fn bits(key: &str, text: &str) -> Result<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((lower.strip_suffix(name)?, *unit))).unwrap_or((&lower, 1));
    let value = number.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    value.ok_or_else(|| {
        Error::Invalid(format!(
            "invalid {key} {text:?}: a number of bits is expected, such as 500kbit, 10mbit or 1gbit"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<Bandwidth> {
        Bandwidth::from_options(&options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    #[test]
    fn options_there_and_back() {
        assert!(read(&[]).unwrap().is_unlimited());
        assert!(read(&[(INGRESS_RATE, "0")]).unwrap().is_unlimited());
        for (text, rate) in [("10mbit", 10_000_000), ("1 Gbit", 1_000_000_000), ("2000", 2000), ("3kbit", 3000)] {
            assert_eq!(read(&[(INGRESS_RATE, text)]).unwrap().ingress, Some(Rate { rate, burst: 0 }), "{text}");
        }
        let both = read(&[(INGRESS_RATE, "1mbit"), (EGRESS_RATE, "5000bit"), (EGRESS_BURST, "1kbit")]).unwrap();
        assert_eq!(both.egress, Some(Rate { rate: 5000, burst: 1000 }));
        assert_eq!(Bandwidth::from_options(&both.to_options()).unwrap(), both);
        assert_eq!(both.to_options().len(), 3);
    }

    #[test]
    fn refusals_say_why() {
        for (options, why) in [
            ([("a", "b")].as_slice(), "unknown driver option \"a\" of an endpoint: spandrel.ingress_rate, "),
            (&[(INGRESS_RATE, "fast")], "invalid spandrel.ingress_rate \"fast\": a number of bits"),
            (&[(INGRESS_RATE, "-1")], "a number of bits"),
            (&[(INGRESS_RATE, "99999999tbit")], "a number of bits"),
            (&[(EGRESS_BURST, "1mbit")], "spandrel.egress_burst is given without spandrel.egress_rate"),
            (&[(EGRESS_RATE, "999")], "999 bits per second are too few"),
        ] {
            let error = read(options).unwrap_err().to_string();
            assert!(error.contains(why), "{options:?}: {error}");
        }
    }
}
