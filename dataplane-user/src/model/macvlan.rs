//! The macvlan driver's options, under the names that Docker gives them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::options::{invalid, mtu};
use super::{Error, Result, check_interface_name};

const KNOWN: &str = "parent, macvlan_mode and com.docker.network.driver.mtu";

/// Whom a container on the parent interface reaches beside what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Its neighbours on the same parent.
    #[default]
    Bridge,
    /// None of its neighbours.
    Private,
    /// Its neighbours, if the switch behind the parent sends frames back.
    Vepa,
    /// It has the parent alone.
    Passthru,
}

/// The driver options of a macvlan network, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacvlanOptions {
    /// The host's interface on which the containers have Ethernet addresses of their own.
    pub parent: String,
    /// Whom they reach there.
    pub mode: MacvlanMode,
    /// MTU of their interfaces; the parent's if left out.
    pub mtu: Option<u32>,
}

impl MacvlanOptions {
    /// Reads Docker's option names; one that is not known is refused.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        let (mut parent, mut mode, mut size) = (None, MacvlanMode::default(), None);
        for (key, value) in options {
            match key.as_str() {
                "parent" => {
                    check_interface_name(value).map_err(|why| invalid(key, value, &why))?;
                    parent = Some(value.clone());
                }
                "macvlan_mode" => {
                    mode = match value.as_str() {
                        "" | "bridge" => MacvlanMode::Bridge,
                        "private" => MacvlanMode::Private,
                        "vepa" => MacvlanMode::Vepa,
                        "passthru" => MacvlanMode::Passthru,
                        _ => return Err(invalid(key, value, "it must be bridge, private, vepa or passthru")),
                    }
                }
                "com.docker.network.driver.mtu" => size = Some(mtu(key, value)?),
                _ => {
                    return Err(invalid(key, value, &format!("unknown option of macvlan networks, known are {KNOWN}")));
                }
            }
        }
        let parent = parent.ok_or_else(|| {
            Error::Invalid(
                "a macvlan network needs the host's interface that it is on: give -o parent=INTERFACE".into(),
            )
        })?;
        Ok(MacvlanOptions { parent, mode, mtu: size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<MacvlanOptions> {
        MacvlanOptions::parse(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    #[test]
    fn options() {
        let parsed = parse(&[("parent", "eth1"), ("macvlan_mode", "vepa"), ("com.docker.network.driver.mtu", "1400")]);
        assert_eq!(parsed.unwrap(), MacvlanOptions { parent: "eth1".into(), mode: MacvlanMode::Vepa, mtu: Some(1400) });
        assert_eq!(parse(&[("parent", "eth1")]).unwrap().mode, MacvlanMode::Bridge);
    }

    #[test]
    fn refusals_say_why() {
        for (pairs, why) in [
            (vec![], "give -o parent=INTERFACE"),
            (vec![("parent", "a/b")], "cannot hold"),
            (vec![("parent", "eth1"), ("macvlan_mode", "source")], "bridge, private, vepa or passthru"),
            (vec![("parent", "eth1"), ("mode", "bridge")], "known are parent, macvlan_mode"),
            (vec![("parent", "eth1"), ("com.docker.network.driver.mtu", "9")], "68 to 65535"),
        ] {
            let error = parse(&pairs).unwrap_err().to_string();
            assert!(error.contains(why), "{pairs:?}: {error}");
        }
    }
}
