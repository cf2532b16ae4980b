//! A running container, as `spandrel inspect` shows it and as its own namespace sees the world.

use std::net::IpAddr;
use std::ops::Deref;

use serde_json::Value;

use crate::fail::OrFail;
use crate::family::{Family, V4};
use crate::host::Host;
use crate::net::Net;
use crate::process::{Output, Words};

/// A running container. It is also its network namespace.
pub struct Container<'h> {
    /// Its name.
    pub name: String,
    /// Its 64-digit id.
    pub id: String,
    host: &'h Host,
    net: Net,
}

impl<'h> Container<'h> {
    /// Looks a running container up.
    #[track_caller]
    pub(crate) fn of(host: &'h Host, reference: &str) -> Self {
        let details = inspect(host, reference);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&details["Name"]).trim_start_matches('/').to_owned();
        let sandbox = text(&details["NetworkSettings"]["SandboxKey"]);
        let net =
            Net::open(&name, &host.path(&sandbox)).or_fail(format_args!("open the namespace {sandbox:?} of {name}"));
        Self { id: text(&details["Id"]), name, host, net }
    }

    /// What `spandrel inspect` shows of it now.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        inspect(self.host, &self.name)
    }

    /// Its place on a network, as `spandrel inspect` shows it now.
    #[track_caller]
    pub fn endpoint(&self, network: &str) -> Value {
        let networks = &self.inspect()["NetworkSettings"]["Networks"];
        networks.get(network).cloned().ok_or(networks).or_fail(format_args!("find {} on {network}", self.name))
    }

    /// Its address on the one network that it is on.
    #[track_caller]
    pub fn ip(&self, family: Family) -> IpAddr {
        let networks = &self.inspect()["NetworkSettings"]["Networks"];
        match networks.as_object().map(|all| all.keys().collect::<Vec<_>>()).as_deref() {
            Some([only]) => self.ip_on(only, family),
            _ => panic!("{} is not on one network: {networks}", self.name),
        }
    }

    /// Its address on a network.
    #[track_caller]
    pub fn ip_on(&self, network: &str, family: Family) -> IpAddr {
        let field = if family == V4 { "IPAddress" } else { "GlobalIPv6Address" };
        let endpoint = self.endpoint(network);
        let address = endpoint[field].as_str().and_then(|text| text.parse().ok());
        address.ok_or(endpoint).or_fail(format_args!("find the {field} of {} on {network}", self.name))
    }

    /// Its MAC address on a network.
    #[track_caller]
    pub fn mac_on(&self, network: &str) -> [u8; 6] {
        let endpoint = self.endpoint(network);
        let text = endpoint["MacAddress"].as_str().unwrap_or_default();
        let bytes: Vec<u8> = text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        bytes
            .try_into()
            .map_err(|_| endpoint)
            .or_fail(format_args!("find the MAC address of {} on {network}", self.name))
    }

    /// Runs a command in it by `spandrel exec`.
    #[track_caller]
    pub fn exec(&self, line: &(impl Words + ?Sized)) -> Output {
        let mut words = vec!["exec".to_owned(), self.name.clone()];
        words.extend(line.words());
        self.host.spandrel(&words[..])
    }

    /// Removes it by `spandrel rm -f`.
    #[track_caller]
    pub fn remove(self) {
        self.host.spandrel(&["rm", "-f", &self.name]).ok();
    }
}

impl Deref for Container<'_> {
    type Target = Net;

    fn deref(&self) -> &Net {
        &self.net
    }
}

#[track_caller]
fn inspect(host: &Host, reference: &str) -> Value {
    host.spandrel(&["inspect", reference]).json()[0].take()
}
