//! The file of `spandrel apply`, in TOML or YAML: its shape, and what is wrong with it by file, line and column. What its words
//! mean is judged in `super::wanted`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cli::error::Error;

/// Everything that is declared.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    /// What all of it together is called: `down` and the next `apply` know their own by this.
    pub(super) name: String,
    /// Networks by name.
    #[serde(default)]
    pub(super) networks: BTreeMap<String, Option<Network>>,
    /// Containers by name.
    #[serde(default)]
    pub(super) containers: BTreeMap<String, Container>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Network {
    /// `bridge` or `macvlan`.
    pub(super) driver: Option<String>,
    /// Subnets, by themselves or with more about them.
    #[serde(deserialize_with = "list")]
    pub(super) subnets: Vec<Subnet>,
    /// No way out, no way in.
    pub(super) internal: Option<bool>,
    /// IPv4 addresses; yes unless told otherwise.
    pub(super) ipv4: Option<bool>,
    /// IPv6 addresses; as soon as an IPv6 subnet is given unless told otherwise.
    pub(super) ipv6: Option<bool>,
    /// Whether its containers may talk to each other.
    pub(super) icc: Option<bool>,
    /// Whether its containers leave by the host's address.
    pub(super) masquerade: Option<bool>,
    /// `nat`, `nat-unprotected`, `routed` or `isolated`.
    pub(super) gateway_mode_ipv4: Option<String>,
    /// The same for IPv6.
    pub(super) gateway_mode_ipv6: Option<String>,
    /// The largest packet.
    pub(super) mtu: Option<u32>,
    /// Further options of the driver, by Docker's names.
    pub(super) options: BTreeMap<String, String>,
    /// The user's labels.
    pub(super) labels: BTreeMap<String, String>,
}

/// A subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Subnet {
    /// In CIDR notation.
    pub(super) subnet: String,
    /// The gateway's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<String>,
    /// Where dynamic addresses come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip_range: Option<String>,
    /// Addresses that no container gets, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) aux_addresses: BTreeMap<String, String>,
}

impl From<String> for Subnet {
    fn from(subnet: String) -> Self {
        Subnet { subnet, ..Default::default() }
    }
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Container {
    /// The command and its arguments.
    pub(super) command: Vec<String>,
    /// Names of networks, or networks with what the container wishes there; `bridge` if there are none.
    #[serde(default, deserialize_with = "names_or_map")]
    pub(super) networks: BTreeMap<String, Endpoint>,
    /// Published ports, as `-p` takes them or with more about them.
    #[serde(default, deserialize_with = "list")]
    pub(super) ports: Vec<Port>,
    /// Who may use its ports, where a port does not say so itself.
    #[serde(default)]
    pub(super) allow_from: Vec<String>,
    /// How fast one client may open connections, where a port does not say so itself.
    pub(super) rate_limit: Option<String>,
    /// Ports that it serves and does not publish.
    #[serde(default)]
    pub(super) expose: Vec<String>,
    /// Variables.
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    /// The directory that the command starts in.
    pub(super) working_dir: Option<String>,
    /// Its host name.
    pub(super) hostname: Option<String>,
    /// Name servers.
    #[serde(default)]
    pub(super) dns: Vec<String>,
    /// Search domains.
    #[serde(default)]
    pub(super) dns_search: Vec<String>,
    /// Options of the resolver.
    #[serde(default)]
    pub(super) dns_options: Vec<String>,
    /// Lines of /etc/hosts, `NAME:IP`.
    #[serde(default)]
    pub(super) add_hosts: Vec<String>,
    /// The user's labels.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

/// What a container wishes on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Endpoint {
    /// An IPv4 address.
    pub(super) ip: String,
    /// An IPv6 address.
    pub(super) ip6: String,
    /// A MAC address.
    pub(super) mac_address: String,
    /// Further names there.
    pub(super) aliases: Vec<String>,
    /// The default route goes through the network with the highest one.
    pub(super) gw_priority: i64,
}

/// A published port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Port {
    /// As `-p` takes it.
    pub(super) port: String,
    /// Who may use it.
    #[serde(default)]
    pub(super) allow_from: Vec<String>,
    /// How fast one client may open connections.
    pub(super) rate_limit: Option<String>,
}

impl From<String> for Port {
    fn from(port: String) -> Self {
        Port { port, ..Default::default() }
    }
}

/// Reads a file; its ending tells which language it is written in.
pub(super) fn read(path: &Path) -> Result<File, Error> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| Error::Local(format!("cannot read the file {shown}: {error}")))?;
    let parsed = match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => from_toml(&text),
        Some("yaml" | "yml") => from_yaml(&text),
        _ => {
            return Err(Error::Local(format!(
                "cannot tell the language of {shown}: its name has to end in .toml, .yaml or .yml"
            )));
        }
    };
    parsed.map_err(|wrong| match wrong.place {
        Some((line, column)) => Error::Local(format!("{shown}:{line}:{column}: {}", wrong.what)),
        None => Error::Local(format!("{shown}: {}", wrong.what)),
    })
}

/// What is wrong with a text, and at which line and column.
#[derive(Debug)]
struct Wrong {
    place: Option<(usize, usize)>,
    what: String,
}

fn from_toml(text: &str) -> Result<File, Wrong> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.rsplit('\n').next().unwrap_or_default();
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        });
        Wrong { place, what: one_line(error.message()) }
    })
}

fn from_yaml(text: &str) -> Result<File, Wrong> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let place = error.location().map(|place| (number(place.line()), number(place.column())));
        let what = one_line(&error.without_snippet().to_string());
        // The place stands in front already.
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what).to_owned();
        Wrong { place, what }
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads a list of which each is a text or a table.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + From<String>,
{
    let list: Vec<TextOr<T>> = Vec::deserialize(deserializer)?;
    Ok(list.into_iter().map(|item| item.0).collect())
}

/// A text, or a table with that text and more in it.
struct TextOr<T>(T);

impl<'de, T: DeserializeOwned + From<String>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned + From<String>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a table")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr(text.to_owned().into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(TextOr)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// Reads names, or a table by name.
fn names_or_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Endpoint>, D::Error> {
    struct NamesOrMap;
    impl<'de> Visitor<'de> for NamesOrMap {
        type Value = BTreeMap<String, Endpoint>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of names or a table of networks")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Self::Value, A::Error> {
            let names = Vec::<String>::deserialize(SeqAccessDeserializer::new(names))?;
            Ok(names.into_iter().map(|name| (name, Endpoint::default())).collect())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let map = BTreeMap::<String, Option<Endpoint>>::deserialize(MapAccessDeserializer::new(map))?;
            Ok(map.into_iter().map(|(name, endpoint)| (name, endpoint.unwrap_or_default())).collect())
        }
    }
    deserializer.deserialize_any(NamesOrMap)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
name = "shop"

[networks.front]
subnets = ["10.0.0.0/24", { subnet = "fd00:a::/64", gateway = "fd00:a::9" }]
icc = false
labels = { tier = "front" }

[networks.back]
internal = true

[containers.web]
command = ["nginx", "-g", "daemon off;"]
networks = ["front", "back"]
ports = ["8080:80", { port = "8443:443", allow-from = ["10.0.0.0/8"], rate-limit = "100/s" }]
environment = { LANG = "C" }

[containers.db]
command = ["postgres"]
networks.back = { ip = "10.1.0.9", aliases = ["store"] }
"#;

    const YAML: &str = r#"
name: shop
networks:
  front:
    subnets:
      - 10.0.0.0/24
      - subnet: fd00:a::/64
        gateway: fd00:a::9
    icc: false
    labels: {tier: front}
  back:
    internal: true
containers:
  web:
    command: [nginx, -g, "daemon off;"]
    networks: [front, back]
    ports:
      - 8080:80
      - {port: "8443:443", allow-from: [10.0.0.0/8], rate-limit: 100/s}
    environment: {LANG: C}
  db:
    command: [postgres]
    networks:
      back: {ip: 10.1.0.9, aliases: [store]}
"#;

    #[test]
    fn both_languages_say_the_same() {
        let (toml, yaml) = (from_toml(TOML).unwrap(), from_yaml(YAML).unwrap());
        assert_eq!((&toml.name, &toml.networks, &toml.containers), (&yaml.name, &yaml.networks, &yaml.containers));
        let web = &toml.containers["web"];
        assert_eq!(web.networks.keys().collect::<Vec<_>>(), ["back", "front"]);
        assert_eq!((web.ports[0].port.as_str(), web.ports[1].rate_limit.as_deref()), ("8080:80", Some("100/s")));
        assert_eq!(toml.containers["db"].networks["back"].ip, "10.1.0.9");
        let front = toml.networks["front"].clone().unwrap();
        assert_eq!(
            (front.subnets[0].subnet.as_str(), front.subnets[1].gateway.as_deref()),
            ("10.0.0.0/24", Some("fd00:a::9"))
        );
        let bare = from_yaml("name: x\nnetworks:\n  front:\n").unwrap();
        assert_eq!(bare.networks["front"], None);
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        for (text, place, words) in [
            ("name = \"x\"\ncolour = \"red\"\n", (2, 1), ["unknown field `colour`", "`networks`"]),
            ("name = \"x\"\n[networks.a]\nsubnet = \"10.0.0.0/24\"\n", (3, 1), ["unknown field `subnet`", "`subnets`"]),
            ("name = \"x\"\n[networks.a]\nicc = \"no\"\n", (3, 7), ["string \"no\"", "boolean"]),
            ("name = \"x\"\n[containers.a]\nports = [\"80\"]\n", (2, 1), ["missing field `command`", "`command`"]),
            (
                "name = \"x\"\n[containers.a]\ncommand = [\"a\"]\nports = [80]\n",
                (4, 10),
                ["integer `80`", "a text or a table"],
            ),
            ("name = \"x\"\n[networks.a\n", (2, 12), ["table", "]"]),
            ("[networks.a]\n", (1, 1), ["missing field `name`", "name"]),
        ] {
            let wrong = from_toml(text).unwrap_err();
            assert!(words.iter().all(|word| wrong.what.contains(word)), "{text}: {wrong:?}");
            assert_eq!(wrong.place, Some(place), "{text}: {wrong:?}");
            assert!(!wrong.what.contains('\n'), "{wrong:?}");
        }
        for (text, line, words) in [
            ("name: x\ncolour: red\n", 2, ["unknown field", "networks"]),
            ("name: x\nnetworks:\n  a:\n    subnet: 10.0.0.0/24\n", 4, ["unknown field", "subnets"]),
            ("name: x\nnetworks:\n  a:\n    icc: perhaps\n", 4, ["bool", "bool"]),
            ("name: x\ncontainers:\n  a:\n    ports: [\"80\"]\n", 4, ["missing field", "command"]),
            ("name: [x\n", 1, ["expected", "string"]),
        ] {
            let wrong = from_yaml(text).unwrap_err();
            assert!(words.iter().all(|word| wrong.what.contains(word)), "{text}: {wrong:?}");
            assert_eq!(wrong.place.map(|(line, _)| line), Some(line), "{text}: {wrong:?}");
            assert!(!wrong.what.contains('\n'), "{wrong:?}");
        }
    }
}
