//! Published ports: the `-p` grammar, what it asks for, and what came of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// Transport protocols that can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The name as it follows the slash in `80/tcp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which host port a published port may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPort {
    /// Any free one of the ephemeral range.
    Any,
    /// The lowest free one from the first to the last; usually they are the same.
    Range(u16, u16),
}

/// One container port that is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// The host address it is published on; `None` is every address of both families.
    pub host_ip: Option<IpAddr>,
    /// The host port it may get.
    pub host_port: HostPort,
    /// The container's port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A published port with the host port that it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortBinding {
    /// The host address it is published on; `None` is every address of both families.
    pub host_ip: Option<IpAddr>,
    /// The port on the host.
    pub host_port: u16,
    /// The port in the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A binding spelled out for one address family: one entry of the data plane's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedPort {
    /// The host's address; unspecified is every address of that family.
    pub host: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub container: IpAddr,
    /// The container's port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for PublishedPort {
    /// As Docker's tables show it: `0.0.0.0:8080->80/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = std::net::SocketAddr::new(self.host, self.host_port);
        write!(f, "{host}->{}/{}", self.container_port, self.protocol)
    }
}

/// What one `-p` says: `[hostIP:][hostPort|lo-hi]:ctrPort|lo-hi[/tcp|udp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// The host address, if one is given.
    pub host_ip: Option<IpAddr>,
    /// The host ports, if any are given.
    pub host_ports: Option<RangeInclusive<u16>>,
    /// The container ports.
    pub container_ports: RangeInclusive<u16>,
    /// The protocol, TCP unless given.
    pub protocol: Protocol,
}

impl PortSpec {
    /// One request for each container port.
    pub fn requests(&self) -> Vec<PortRequest> {
        let host_port = |index: u16| match &self.host_ports {
            None => HostPort::Any,
            // A host range with one container port means any free one of the range.
            Some(range) if self.container_ports.len() == 1 => HostPort::Range(*range.start(), *range.end()),
            Some(range) => HostPort::Range(range.start() + index, range.start() + index),
        };
        (0..)
            .zip(self.container_ports.clone())
            .map(|(index, container_port)| PortRequest {
                host_ip: self.host_ip,
                host_port: host_port(index),
                container_port,
                protocol: self.protocol,
            })
            .collect()
    }
}

impl FromStr for PortSpec {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        parse(spec).map_err(|why| {
            Error::Invalid(format!(
                "invalid published port {spec:?}: {why} ([hostIP:][hostPort]:containerPort[/tcp|udp] is expected)"
            ))
        })
    }
}

fn parse(spec: &str) -> Result<PortSpec, String> {
    let (addresses, protocol) = match spec.split_once('/') {
        None => (spec, Protocol::Tcp),
        Some((addresses, name)) => match name.to_ascii_lowercase().as_str() {
            "tcp" => (addresses, Protocol::Tcp),
            "udp" => (addresses, Protocol::Udp),
            _ => return Err(format!("invalid proto: {name:?}, only tcp and udp can be published")),
        },
    };
    // From the right: an IPv6 host address holds colons itself, but stands in brackets.
    let (rest, container) = match addresses.rsplit_once(':') {
        None => (None, addresses),
        Some((rest, container)) => (Some(rest), container),
    };
    let (host_ip, host) = match rest {
        None => (None, ""),
        Some(rest) if rest.ends_with(']') => {
            return Err(format!("no host port follows the address {rest}, write {rest}::{container} for any free one"));
        }
        Some(rest) => match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, port)) => (Some(host_address(address)?), port),
        },
    };
    let container_ports = match container {
        "" => return Err("no container port is given".into()),
        _ => range("containerPort", container)?,
    };
    if *container_ports.start() == 0 {
        return Err("invalid containerPort: 0, it must be from 1 to 65535".into());
    }
    let host_ports = match host {
        // Docker takes port 0 for "any".
        "" | "0" => None,
        _ => Some(range("hostPort", host)?),
    };
    if let Some(hosts) = &host_ports {
        if *hosts.start() == 0 {
            return Err("invalid hostPort: a range cannot begin with 0".into());
        }
        if container_ports.len() != 1 && hosts.len() != container_ports.len() {
            return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
        }
    }
    Ok(PortSpec { host_ip, host_ports, container_ports, protocol })
}

/// An empty address is none at all; an unspecified IPv4 one means both families, as in Docker.
fn host_address(text: &str) -> Result<IpAddr, String> {
    let address = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().map(IpAddr::V6),
        None if text.contains(':') => return Err(format!("the IPv6 address {text} must stand in brackets")),
        None => text.parse::<IpAddr>(),
    };
    address.map_err(|_| format!("invalid IP address: {text:?}"))
}

fn range(what: &str, text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u16>().ok(),
        false => None,
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(_), Some(_)) => Err(format!("invalid {what}: {text:?}, the range runs backwards")),
        _ => Err(format!("invalid {what}: {text:?}, it must be from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> PortSpec {
        text.parse().unwrap()
    }

    fn one(text: &str) -> (Option<String>, HostPort, u16, Protocol) {
        let requests = spec(text).requests();
        assert_eq!(requests.len(), 1, "{text}");
        let r = requests[0];
        (r.host_ip.map(|ip| ip.to_string()), r.host_port, r.container_port, r.protocol)
    }

    #[test]
    fn single_ports() {
        use HostPort::{Any, Range};
        use Protocol::{Tcp, Udp};
        let ip = |text: &str| Some(text.to_string());
        assert_eq!(one("80"), (None, Any, 80, Tcp));
        assert_eq!(one("80/udp"), (None, Any, 80, Udp));
        assert_eq!(one(":80"), (None, Any, 80, Tcp));
        assert_eq!(one("0:80"), (None, Any, 80, Tcp));
        assert_eq!(one("8080:80"), (None, Range(8080, 8080), 80, Tcp));
        assert_eq!(one("8080:80/TCP"), (None, Range(8080, 8080), 80, Tcp));
        assert_eq!(one("127.0.0.1:8080:80"), (ip("127.0.0.1"), Range(8080, 8080), 80, Tcp));
        assert_eq!(one("127.0.0.1::80"), (ip("127.0.0.1"), Any, 80, Tcp));
        assert_eq!(one("[::1]:53:53/udp"), (ip("::1"), Range(53, 53), 53, Udp));
        assert_eq!(one("[2001:db8::7]::80"), (ip("2001:db8::7"), Any, 80, Tcp));
        assert_eq!(one("8000-8010:80"), (None, Range(8000, 8010), 80, Tcp));
        assert_eq!(one("65535:65535"), (None, Range(65535, 65535), 65535, Tcp));
    }

    #[test]
    fn ranges() {
        let pairs: Vec<_> =
            spec("8000-8002:80-82").requests().iter().map(|r| (r.host_port, r.container_port)).collect();
        assert_eq!(
            pairs,
            [(HostPort::Range(8000, 8000), 80), (HostPort::Range(8001, 8001), 81), (HostPort::Range(8002, 8002), 82)]
        );
        let any = spec("80-81").requests();
        assert_eq!(any.len(), 2);
        assert!(any.iter().all(|r| r.host_port == HostPort::Any));
        assert_eq!(spec("1-65535:1-65535").requests().len(), 65535);
    }

    #[test]
    fn refusals_say_why() {
        for (text, why) in [
            ("", "no container port"),
            ("8080:", "no container port"),
            ("x", "invalid containerPort: \"x\""),
            ("0", "invalid containerPort: 0"),
            ("65536", "invalid containerPort"),
            ("+80", "invalid containerPort"),
            ("8080:tcp", "invalid containerPort: \"tcp\""),
            ("x:80", "invalid hostPort: \"x\""),
            ("70000:80", "invalid hostPort"),
            ("0-3:80", "range cannot begin with 0"),
            ("80/sctp", "invalid proto: \"sctp\""),
            ("80/", "invalid proto"),
            ("8080:80-81", "invalid ranges specified"),
            ("8080-8082:80-81", "invalid ranges specified"),
            ("82-80", "backwards"),
            ("1.2.3:80:80", "invalid IP address: \"1.2.3\""),
            (":80:80", "invalid IP address: \"\""),
            ("::1:80:80", "must stand in brackets"),
            ("[::1]:80", "no host port follows"),
            ("[1.2.3.4]:80:80", "invalid IP address"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn table_form() {
        let mut port = PublishedPort {
            host: "0.0.0.0".parse().unwrap(),
            host_port: 8080,
            container: "172.17.0.2".parse().unwrap(),
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        assert_eq!(port.to_string(), "0.0.0.0:8080->80/tcp");
        port.host = "::".parse().unwrap();
        assert_eq!(port.to_string(), "[::]:8080->80/tcp");
    }
}
