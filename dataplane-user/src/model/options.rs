//! The bridge driver's options, under the names that Docker gives them; what Docker has not is below `spandrel.`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, Result, check_interface_name};

/// MTU of bridges and veths when none is asked for.
pub const DEFAULT_MTU: u32 = 1500;

const PREFIX: &str = "com.docker.network.";
const OWN_PREFIX: &str = "spandrel.";
const KNOWN: [&str; 13] = [
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.gateway_mode_ipv4",
    "com.docker.network.bridge.gateway_mode_ipv6",
    "com.docker.network.bridge.host_binding_ipv4",
    "com.docker.network.bridge.inhibit_ipv4",
    "com.docker.network.bridge.name",
    "com.docker.network.bridge.trusted_host_interfaces",
    "com.docker.network.driver.mtu",
    "com.docker.network.container_iface_prefix",
    "com.docker.network.host_ipv4",
    "com.docker.network.host_ipv6",
    "spandrel.endpoint_independent_mapping",
];

/// How a network's containers and the world beyond the host reach each other, over one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Out with the host's address, in through published ports of the host.
    #[default]
    Nat,
    /// The same, and every container is also reached at its own address.
    NatUnprotected,
    /// No translation: out with the container's address, in to published ports and echoes at that address.
    Routed,
    /// The bridge has no address: not even the host is reached. For internal networks only.
    Isolated,
}

impl FromStr for GatewayMode {
    type Err = ();

    /// Reads the name that Docker gives it; nothing at all is the default.
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "" | "nat" => Ok(GatewayMode::Nat),
            "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
            "routed" => Ok(GatewayMode::Routed),
            "isolated" => Ok(GatewayMode::Isolated),
            _ => Err(()),
        }
    }
}

/// The driver options of a bridge network, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeOptions {
    /// Containers of the network reach each other.
    pub icc: bool,
    /// Outgoing connections leave with the host's address, where the gateway mode translates at all.
    pub masquerade: bool,
    /// The way to and from outside over IPv4.
    pub gateway_mode_ipv4: GatewayMode,
    /// The way to and from outside over IPv6.
    pub gateway_mode_ipv6: GatewayMode,
    /// The bridge has no IPv4 address; somebody else on it is the gateway.
    pub inhibit_ipv4: bool,
    /// Through these interfaces of the host published ports are also reached at the container's own address.
    pub trusted_interfaces: Vec<String>,
    /// Outgoing IPv4 connections leave with this address, instead of the uplink's.
    pub host_ipv4: Option<Ipv4Addr>,
    /// Outgoing IPv6 connections leave with this address, instead of the uplink's.
    pub host_ipv6: Option<Ipv6Addr>,
    /// One UDP port of a container has one port outside for all destinations, and is reached there by everybody.
    pub endpoint_independent: bool,
    /// Host address of published ports that name none; `None` is every address of both families.
    pub host_binding: Option<IpAddr>,
    /// Name of the Linux bridge, if it was asked for.
    pub bridge_name: Option<String>,
    /// MTU of the bridge and its veths.
    pub mtu: u32,
    /// Container interfaces are called this, followed by a number.
    pub interface_prefix: String,
}

impl Default for BridgeOptions {
    fn default() -> Self {
        BridgeOptions {
            icc: true,
            masquerade: true,
            gateway_mode_ipv4: GatewayMode::Nat,
            gateway_mode_ipv6: GatewayMode::Nat,
            inhibit_ipv4: false,
            trusted_interfaces: Vec::new(),
            host_ipv4: None,
            host_ipv6: None,
            endpoint_independent: false,
            host_binding: None,
            bridge_name: None,
            mtu: DEFAULT_MTU,
            interface_prefix: "eth".into(),
        }
    }
}

impl BridgeOptions {
    /// Whether somebody needs a gateway address in a network's subnet of one family: its bridge, or its containers' default
    /// routes, which an internal network has not.
    pub fn needs_gateway(&self, v6: bool, internal: bool) -> bool {
        let mode = if v6 { self.gateway_mode_ipv6 } else { self.gateway_mode_ipv4 };
        let inhibited = !v6 && self.inhibit_ipv4;
        mode != GatewayMode::Isolated && !(inhibited && internal)
    }

    /// Reads Docker's option names and our own. Options outside `com.docker.network.` and `spandrel.` mean nothing to a bridge
    /// and are kept without effect, as Docker does; one inside that we do not know, or do not
    /// support with that value, is refused, because ignoring it could open what should be closed.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut parsed = BridgeOptions::default();
        for (key, value) in options {
            let option = match key.strip_prefix(PREFIX) {
                Some(option) => option,
                None if key.starts_with(OWN_PREFIX) => key,
                None => continue,
            };
            match option {
                "bridge.enable_icc" => parsed.icc = boolean(key, value)?,
                "bridge.enable_ip_masquerade" => parsed.masquerade = boolean(key, value)?,
                "bridge.host_binding_ipv4" => parsed.host_binding = host_binding(key, value)?,
                "bridge.name" => {
                    check_interface_name(value).map_err(|why| invalid(key, value, &why))?;
                    parsed.bridge_name = Some(value.clone());
                }
                "driver.mtu" => parsed.mtu = mtu(key, value)?,
                "container_iface_prefix" => {
                    // Up to three digits follow.
                    if value.len() > 12 {
                        return Err(invalid(key, value, "at most 12 characters fit before the number"));
                    }
                    check_interface_name(value).map_err(|why| invalid(key, value, &why))?;
                    parsed.interface_prefix = value.clone();
                }
                "bridge.gateway_mode_ipv4" => parsed.gateway_mode_ipv4 = gateway_mode(key, value)?,
                "bridge.gateway_mode_ipv6" => parsed.gateway_mode_ipv6 = gateway_mode(key, value)?,
                "bridge.inhibit_ipv4" => parsed.inhibit_ipv4 = boolean(key, value)?,
                "bridge.trusted_host_interfaces" => parsed.trusted_interfaces = interfaces(key, value)?,
                "host_ipv4" => parsed.host_ipv4 = address(key, value, "an IPv4")?,
                "host_ipv6" => parsed.host_ipv6 = address(key, value, "an IPv6")?,
                "spandrel.endpoint_independent_mapping" => parsed.endpoint_independent = boolean(key, value)?,
                // Docker's own mark of its default network.
                "bridge.default_bridge" => _ = boolean(key, value)?,
                _ => {
                    let nearest = super::name::nearest(key, KNOWN.iter().copied());
                    let why = match nearest {
                        Some(known) => format!("unknown option, did you mean {known}?"),
                        None => format!("unknown option, known are {}", KNOWN.join(", ")),
                    };
                    return Err(invalid(key, value, &why));
                }
            }
        }
        Ok(parsed)
    }
}

pub(super) fn invalid(key: &str, value: &str, why: &str) -> Error {
    Error::Invalid(format!("invalid network option {key}={value}: {why}"))
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(key, value, "it must be true or false")),
    }
}

fn gateway_mode(key: &str, value: &str) -> Result<GatewayMode> {
    value.parse().map_err(|()| invalid(key, value, "it must be nat, nat-unprotected, routed or isolated"))
}

/// Names of interfaces with colons between; they need not exist yet.
fn interfaces(key: &str, value: &str) -> Result<Vec<String>> {
    let names = value.split(':').filter(|name| !name.is_empty());
    names
        .map(|name| check_interface_name(name).map(|()| name.to_owned()).map_err(|why| invalid(key, value, &why)))
        .collect()
}

/// An address to masquerade with. It need not be the host's yet.
fn address<T: FromStr<Err: std::fmt::Debug> + Copy + Into<IpAddr>>(
    key: &str,
    value: &str,
    what: &str,
) -> Result<Option<T>> {
    let usable = |address: &T| {
        let address: IpAddr = (*address).into();
        !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
    };
    match value {
        "" => Ok(None),
        _ => match value.parse::<T>().ok().filter(usable) {
            Some(address) => Ok(Some(address)),
            None => Err(invalid(key, value, &format!("it must be {what} address that the outside can answer to"))),
        },
    }
}

fn host_binding(key: &str, value: &str) -> Result<Option<IpAddr>> {
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => Ok(None),
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(invalid(key, value, "it must be an IP address of this host")),
    }
}

pub(super) fn mtu(key: &str, value: &str) -> Result<u32> {
    match value.parse::<u32>() {
        Ok(0) => Ok(DEFAULT_MTU),
        Ok(mtu @ 68..=65535) => Ok(mtu),
        _ => Err(invalid(key, value, "it must be a number from 68 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<BridgeOptions> {
        BridgeOptions::parse(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn defaults_and_known_names() {
        assert_eq!(parse(&[]).unwrap(), BridgeOptions::default());
        let options = parse(&[
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "0"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
            ("com.docker.network.bridge.name", "br-test"),
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.container_iface_prefix", "net"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "nat-unprotected"),
            ("com.docker.network.bridge.gateway_mode_ipv6", "routed"),
            ("com.docker.network.bridge.inhibit_ipv4", "true"),
            ("com.docker.network.bridge.trusted_host_interfaces", "eth1:wg0"),
            ("com.docker.network.host_ipv4", "192.0.2.7"),
            ("com.docker.network.host_ipv6", "2001:db8::7"),
            ("spandrel.endpoint_independent_mapping", "true"),
            ("com.example.other", "kept"),
        ])
        .unwrap();
        assert_eq!(
            options,
            BridgeOptions {
                icc: false,
                masquerade: false,
                gateway_mode_ipv4: GatewayMode::NatUnprotected,
                gateway_mode_ipv6: GatewayMode::Routed,
                inhibit_ipv4: true,
                trusted_interfaces: vec!["eth1".into(), "wg0".into()],
                host_ipv4: Some("192.0.2.7".parse().unwrap()),
                host_ipv6: Some("2001:db8::7".parse().unwrap()),
                endpoint_independent: true,
                host_binding: Some("127.0.0.1".parse().unwrap()),
                bridge_name: Some("br-test".into()),
                mtu: 1400,
                interface_prefix: "net".into(),
            }
        );
        let every = parse(&[("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0")]).unwrap();
        assert_eq!(every.host_binding, None);
        assert_eq!(parse(&[("com.docker.network.driver.mtu", "0")]).unwrap().mtu, 1500);
        // What a script passes on empty is as good as not given.
        for key in ["bridge.gateway_mode_ipv4", "bridge.trusted_host_interfaces", "host_ipv4", "host_ipv6"] {
            assert_eq!(parse(&[(&format!("com.docker.network.{key}"), "")]).unwrap(), BridgeOptions::default());
        }
    }

    #[test]
    fn records_of_earlier_versions_lack_options() {
        let old = serde_json::json!({
            "icc": false, "masquerade": true, "host_binding": null, "bridge_name": null, "mtu": 1400,
            "interface_prefix": "eth",
        });
        let options: BridgeOptions = serde_json::from_value(old).unwrap();
        assert_eq!(options, BridgeOptions { icc: false, mtu: 1400, ..BridgeOptions::default() });
    }

    #[test]
    fn refusals_say_why() {
        for (key, value, why) in [
            ("com.docker.network.bridge.enable_icc", "maybe", "true or false"),
            ("com.docker.network.bridge.enable_ic", "true", "did you mean com.docker.network.bridge.enable_icc?"),
            ("com.docker.network.bridge.name", "far-too-long-a-name", "15"),
            ("com.docker.network.bridge.name", "a/b", "'/'"),
            ("com.docker.network.driver.mtu", "many", "68 to 65535"),
            ("com.docker.network.driver.mtu", "67", "68 to 65535"),
            ("com.docker.network.bridge.host_binding_ipv4", "localhost", "IP address"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "bridged", "nat, nat-unprotected, routed or isolated"),
            ("com.docker.network.bridge.inhibit_ipv4", "maybe", "true or false"),
            ("com.docker.network.bridge.trusted_host_interfaces", "eth1:far-too-long-a-name", "15"),
            ("com.docker.network.host_ipv4", "2001:db8::1", "an IPv4 address"),
            ("com.docker.network.host_ipv4", "127.0.0.1", "the outside can answer to"),
            ("com.docker.network.host_ipv6", "192.0.2.1", "an IPv6 address"),
            ("com.docker.network.container_iface_prefix", "thirteenchars", "12"),
            ("spandrel.endpoint_independent_mapping", "perhaps", "true or false"),
            ("spandrel.endpoint_independent", "true", "did you mean spandrel.endpoint_independent_mapping?"),
        ] {
            let error = parse(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(why), "{key}={value}: {error}");
        }
    }
}
