//! Published ports: what is asked for ([`PortSpec`]), what came of it ([`PortBinding`]), and what that means on the wire
//! ([`PublishedPort`]).

mod access;
mod expose;
mod spec;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use access::{Access, AccessRequest};
pub use expose::ExposedPorts;
pub use spec::{PortSpec, PublishRequest};

use super::GatewayMode;

/// Transport protocols that can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The name as it follows the slash in `80/tcp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(format!("invalid proto: {name:?}, only tcp, udp and sctp can be published")),
        }
    }
}

/// Which host port a published port may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostPort {
    /// This one.
    Fixed(u16),
    /// The lowest free one from the first to the last.
    Range(u16, u16),
    /// Any free one of the ephemeral range.
    Any,
}

impl HostPort {
    /// Whether that number would do.
    pub fn admits(self, port: u16) -> bool {
        match self {
            HostPort::Fixed(fixed) => port == fixed,
            HostPort::Range(first, last) => (first..=last).contains(&port),
            HostPort::Any => true,
        }
    }
}

/// One container port that is to be published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortRequest {
    /// The host address it is published on; `None` is every address of both families.
    pub host_ip: Option<IpAddr>,
    /// The host port it may get.
    pub host_port: HostPort,
    /// The container's port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Who may use it.
    pub access: AccessRequest,
}

impl PortRequest {
    /// Whether a binding is one of those that the request names; without a host address it names those on any.
    pub fn names(&self, binding: &PortBinding) -> bool {
        self.container_port == binding.container_port
            && self.protocol == binding.protocol
            && self.host_port.admits(binding.host_port)
            && self.host_ip.is_none_or(|address| binding.host_ip == Some(address))
    }
}

/// A published port with the host port that it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The host address it is published on; `None` is every address of both families.
    pub host_ip: Option<IpAddr>,
    /// The port on the host; 0 if none has been needed yet, as on a routed network.
    pub host_port: u16,
    /// What that was chosen from, for the next start to choose again; none if it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<HostPort>,
    /// The port in the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its slot in the data plane; means nothing once the container has exited.
    pub slot: u32,
    /// Who may use it.
    #[serde(default, skip_serializing_if = "Access::is_open")]
    pub access: Access,
}

/// Where ports of a container can be published: one of its endpoints, in one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The endpoint's slot in the data plane.
    pub endpoint: u32,
    /// The container's address there.
    pub address: IpAddr,
    /// How its network is reached in that family.
    pub mode: GatewayMode,
}

/// A binding spelled out for one place: one entry of the data plane's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedPort {
    /// The host's address; unspecified is every address of that family. On a routed network it is only for show.
    pub host: IpAddr,
    /// The host's port; `None` on a routed network, where the container is reached at its own address and port.
    pub host_port: Option<u16>,
    /// The slot of the container's endpoint in the data plane.
    pub endpoint: u32,
    /// The container's address. An IPv4 one under an IPv6 `host`: the packets change family on the way.
    pub container: IpAddr,
    /// The container's port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl PortBinding {
    /// What was asked for, for the container's next start.
    pub fn request(&self) -> PortRequest {
        PortRequest {
            host_ip: self.host_ip,
            host_port: match (self.choice, self.host_port) {
                (Some(choice), _) => choice,
                (None, 0) => HostPort::Any,
                (None, port) => HostPort::Fixed(port),
            },
            container_port: self.container_port,
            protocol: self.protocol,
            access: AccessRequest { allow_from: Some(self.access.allow_from.clone()), rate: Some(self.access.rate) },
        }
    }

    /// What the binding means for a container that can be reached at these places: nothing, if the families do not match.
    ///
    /// Without a host address that is every address of the host. A container without IPv6 is reached over IPv6 all the
    /// same. A routed network has no host ports; what is published for the host alone (on a loopback address) is not opened
    /// to the world there.
    pub fn entries(&self, places: &[Place]) -> Vec<PublishedPort> {
        let entry = |host: IpAddr, place: &Place| PublishedPort {
            host,
            host_port: (place.mode != GatewayMode::Routed).then_some(self.host_port),
            endpoint: place.endpoint,
            container: place.address,
            container_port: self.container_port,
            protocol: self.protocol,
        };
        let any = |v6: bool| match v6 {
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut entries = Vec::with_capacity(2);
        for v6 in [false, true] {
            let host = self.host_ip.unwrap_or(any(v6));
            if host.is_ipv6() != v6 {
                continue;
            }
            let family = places.iter().filter(|place| place.address.is_ipv6() == v6);
            let opens = |place: &&Place| place.mode != GatewayMode::Routed || !host.is_loopback();
            entries.extend(family.filter(opens).map(|place| entry(host, place)));
            if v6 && !places.iter().any(|place| place.address.is_ipv6()) {
                let translated = places.iter().filter(|place| place.mode != GatewayMode::Routed);
                entries.extend(translated.map(|place| entry(host, place)));
            }
        }
        entries
    }

    /// The host's addresses that it needs for that, each once.
    pub fn hosts(&self, places: &[Place]) -> Vec<IpAddr> {
        let entries = self.entries(places).into_iter().filter(|entry| entry.host_port.is_some());
        let mut hosts: Vec<_> = entries.map(|entry| entry.host).collect();
        hosts.dedup();
        hosts
    }
}

impl PublishedPort {
    /// What clients connect to.
    pub fn target(&self) -> SocketAddr {
        match self.host_port {
            Some(port) => SocketAddr::new(self.host, port),
            None => SocketAddr::new(self.container, self.container_port),
        }
    }
}

impl fmt::Display for PublishedPort {
    /// As Docker's tables show it: `0.0.0.0:8080->80/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}/{}", self.target(), self.container_port, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(host_ip: Option<&str>) -> PortBinding {
        PortBinding {
            host_ip: host_ip.map(|text| text.parse().unwrap()),
            host_port: 8080,
            choice: None,
            container_port: 80,
            protocol: Protocol::Tcp,
            slot: 1,
            access: Access::default(),
        }
    }

    fn place(address: &str, mode: GatewayMode) -> Place {
        Place { endpoint: 1, address: address.parse().unwrap(), mode }
    }

    /// `host -> container` of each entry.
    fn entries(host_ip: Option<&str>, places: &[Place]) -> Vec<String> {
        let entries = binding(host_ip).entries(places);
        entries.iter().map(|entry| format!("{} -> {}", entry.target(), entry.container)).collect()
    }

    #[test]
    fn both_families_under_one_number() {
        let places = [place("10.0.0.2", GatewayMode::Nat), place("fd00::2", GatewayMode::NatUnprotected)];
        assert_eq!(entries(None, &places), ["0.0.0.0:8080 -> 10.0.0.2", "[::]:8080 -> fd00::2"]);
        assert_eq!(entries(Some("0.0.0.0"), &places), ["0.0.0.0:8080 -> 10.0.0.2"]);
        assert_eq!(entries(Some("::1"), &places), ["[::1]:8080 -> fd00::2"]);
        assert_eq!(entries(None, &[]), [""; 0]);
    }

    #[test]
    fn ipv6_leads_to_a_container_without_ipv6() {
        let v4 = [place("10.0.0.2", GatewayMode::Nat)];
        assert_eq!(entries(None, &v4), ["0.0.0.0:8080 -> 10.0.0.2", "[::]:8080 -> 10.0.0.2"]);
        assert_eq!(entries(Some("::1"), &v4), ["[::1]:8080 -> 10.0.0.2"]);
        // But not the other way round, and not without translation.
        let v6 = [place("fd00::2", GatewayMode::Nat)];
        assert_eq!(entries(None, &v6), ["[::]:8080 -> fd00::2"]);
        assert_eq!(entries(Some("127.0.0.1"), &v6), [""; 0]);
        assert_eq!(entries(Some("::1"), &[place("10.0.0.2", GatewayMode::Routed)]), [""; 0]);
    }

    #[test]
    fn a_routed_network_needs_no_host_port() {
        let places = [place("10.0.0.2", GatewayMode::Routed), place("fd00::2", GatewayMode::Nat)];
        assert_eq!(entries(None, &places), ["10.0.0.2:80 -> 10.0.0.2", "[::]:8080 -> fd00::2"]);
        let shown = binding(None).entries(&places);
        assert_eq!((shown[0].host.to_string().as_str(), shown[0].host_port), ("0.0.0.0", None));
        assert_eq!(binding(None).hosts(&places), [IpAddr::V6(Ipv6Addr::UNSPECIFIED)]);
        // For the host alone it was meant, so it is not opened to the world.
        assert_eq!(entries(Some("127.0.0.1"), &places), [""; 0]);
        // Two routed networks, neither of them the one with the default route.
        let places = [place("10.0.0.2", GatewayMode::Routed), place("10.1.0.2", GatewayMode::Routed)];
        assert_eq!(entries(None, &places), ["10.0.0.2:80 -> 10.0.0.2", "10.1.0.2:80 -> 10.1.0.2"]);
    }

    #[test]
    fn requests_and_what_came_of_them() {
        let request = |host_ip: Option<&str>, host_port| PortRequest {
            host_ip: host_ip.map(|text| text.parse().unwrap()),
            host_port,
            container_port: 80,
            protocol: Protocol::Tcp,
            access: AccessRequest::default(),
        };
        for host_port in [HostPort::Any, HostPort::Fixed(8080), HostPort::Range(8000, 9000)] {
            assert!(request(None, host_port).names(&binding(None)));
        }
        assert!(!request(None, HostPort::Fixed(80)).names(&binding(None)));
        assert!(!request(None, HostPort::Range(8081, 9000)).names(&binding(None)));
        assert!(request(None, HostPort::Any).names(&binding(Some("127.0.0.1"))));
        assert!(request(Some("127.0.0.1"), HostPort::Any).names(&binding(Some("127.0.0.1"))));
        assert!(!request(Some("127.0.0.1"), HostPort::Any).names(&binding(None)));
        let udp = PortRequest { protocol: Protocol::Udp, ..request(None, HostPort::Any) };
        assert!(!udp.names(&binding(None)));
    }

    #[test]
    fn table_form() {
        let shown = |places: &[Place]| binding(None).entries(places)[0].to_string();
        assert_eq!(shown(&[place("172.17.0.2", GatewayMode::Nat)]), "0.0.0.0:8080->80/tcp");
        assert_eq!(shown(&[place("fd00::2", GatewayMode::Nat)]), "[::]:8080->80/tcp");
    }

    #[test]
    fn protocols_have_names() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
            assert_eq!(protocol.as_str().to_uppercase().parse(), Ok(protocol));
        }
        assert!("icmp".parse::<Protocol>().is_err());
    }
}
