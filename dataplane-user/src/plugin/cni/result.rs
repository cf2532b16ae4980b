//! What an ADD has done: read from what plugins before us printed, and printed in the version that the runtime speaks.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Code, Error, Version};
use crate::api::types::attachment;

/// What has been done so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Interfaces, on the host and in the namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::types::null_is_default")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::types::null_is_default")]
    pub ips: Vec<Ip>,
    /// Routes in the namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::types::null_is_default")]
    pub routes: Vec<Route>,
    /// What a resolver is to be told.
    #[serde(default)]
    pub dns: Dns,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// The largest packet that it carries; from 1.1.0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Its namespace; none on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// What other plugins say of theirs.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ip {
    /// With the length of the prefix.
    pub address: String,
    /// The subnet's gateway.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// The interface that has it, by its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub dst: String,
    /// The next hop; the gateway of the address's subnet if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gw: String,
    /// What other plugins say of theirs.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a resolver is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::types::null_is_default")]
    pub nameservers: Vec<String>,
    /// The domain of short names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Further domains in which names are looked for.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::types::null_is_default")]
    pub search: Vec<String>,
    /// Options.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::types::null_is_default")]
    pub options: Vec<String>,
}

impl Outcome {
    /// Reads what a plugin printed, in any version that we speak.
    pub fn from_json(value: Value) -> Result<Outcome, Error> {
        serde_json::from_value(value)
            .map_err(|error| Error::new(Code::Decode, format!("cannot read the result of another plugin: {error}")))
    }

    /// As it is printed.
    pub fn to_json(&self, version: Version) -> Value {
        // Text, numbers and lists of them always have a JSON form.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["cniVersion"] = version.as_str().into();
        for ip in value["ips"].as_array_mut().into_iter().flatten() {
            if version.addresses_have_family() {
                let family = if ip["address"].as_str().unwrap_or_default().contains(':') { "6" } else { "4" };
                ip["version"] = family.into();
            }
        }
        for interface in value["interfaces"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            if version < Version::V1_1_0 {
                interface.remove("mtu");
            }
        }
        value
    }

    /// What was done before, and what we have done.
    pub fn after(mut self, before: Outcome) -> Outcome {
        let shift = before.interfaces.len();
        for ip in &mut self.ips {
            ip.interface = ip.interface.map(|index| index + shift);
        }
        let dns = if self.dns == Dns::default() { before.dns } else { self.dns };
        Outcome {
            interfaces: [before.interfaces, self.interfaces].concat(),
            ips: [before.ips, self.ips].concat(),
            routes: [before.routes, self.routes].concat(),
            dns,
        }
    }

    /// The addresses of the namespace's interface of that name; none if there is no such interface.
    pub fn addresses_of(&self, interface: &str, netns: &str) -> Option<Vec<&str>> {
        let is_it = |other: &Interface| other.name == interface && other.sandbox == netns;
        let index = self.interfaces.iter().position(is_it)?;
        Some(self.ips.iter().filter(|ip| ip.interface == Some(index)).map(|ip| ip.address.as_str()).collect())
    }
}

/// What we have done, as the agent tells it; `netns` is the namespace in the runtime's words.
pub fn of_attachment(attachment: &attachment::Attachment, netns: &str) -> Outcome {
    let mtu = Some(attachment.mtu).filter(|mtu| *mtu != 0);
    let on_host = [
        (&attachment.bridge, &attachment.bridge_mac_address),
        (&attachment.host_interface, &attachment.host_mac_address),
    ];
    let on_host = on_host.into_iter().filter(|(name, _)| !name.is_empty());
    let mut interfaces: Vec<Interface> = on_host
        .map(|(name, mac)| Interface { name: name.clone(), mac: mac.clone(), mtu, ..Default::default() })
        .collect();
    interfaces.push(Interface {
        name: attachment.interface.clone(),
        mac: attachment.mac_address.clone(),
        mtu,
        sandbox: netns.to_owned(),
        ..Default::default()
    });
    let interface = Some(interfaces.len() - 1);
    let ip = |address: &attachment::AttachedAddress| Ip {
        address: address.address.clone(),
        gateway: address.gateway.clone(),
        interface,
    };
    let route = |route: &attachment::AttachedRoute| Route {
        dst: route.destination.clone(),
        gw: route.gateway.clone(),
        ..Default::default()
    };
    Outcome {
        interfaces,
        ips: attachment.addresses.iter().map(ip).collect(),
        routes: attachment.routes.iter().map(route).collect(),
        dns: Dns {
            nameservers: attachment.dns.servers.clone(),
            domain: String::new(),
            search: attachment.dns.search.clone(),
            options: attachment.dns.options.clone(),
        },
    }
}
