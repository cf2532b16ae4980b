//! Exposed ports: those that a container says it serves, whether or not they are published.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::spec::{range, split_protocol};
use super::{AccessRequest, HostPort, PortRequest, Protocol};
use crate::model::{Error, Result};

/// What one `--expose` says: `port|lo-hi[/tcp|udp|sctp]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExposedPorts {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// Their protocol.
    pub protocol: Protocol,
}

impl ExposedPorts {
    /// The ports.
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// What `-P` asks for.
    pub fn requests(&self, access: &AccessRequest) -> impl Iterator<Item = PortRequest> {
        self.ports().map(|container_port| PortRequest {
            host_ip: None,
            host_port: HostPort::Any,
            container_port,
            protocol: self.protocol,
            access: access.clone(),
        })
    }
}

impl FromStr for ExposedPorts {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (ports, protocol) = split_protocol(text)?;
            let ports = range("containerPort", ports)?;
            match *ports.start() {
                0 => Err("it must be from 1 to 65535".into()),
                first => Ok(ExposedPorts { first, last: *ports.end(), protocol }),
            }
        };
        parse().map_err(|why: String| {
            Error::Invalid(format!(
                "invalid port format for --expose: {text:?}: {why} (port[-port][/proto] is expected)"
            ))
        })
    }
}

impl fmt::Display for ExposedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}/{}", self.first, self.protocol),
            false => write!(f, "{}-{}/{}", self.first, self.last, self.protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_ports() {
        for (text, shown) in
            [("80", "80/tcp"), ("53/udp", "53/udp"), ("7000-7010/SCTP", "7000-7010/sctp"), ("1-65535", "1-65535/tcp")]
        {
            assert_eq!(text.parse::<ExposedPorts>().unwrap().to_string(), shown);
        }
        for (text, why) in [
            ("", "\"\""),
            ("0", "from 1 to 65535"),
            ("http", "\"http\""),
            ("80/icmp", "invalid proto"),
            ("8080:80", "\"8080:80\""),
            ("9-8", "backwards"),
        ] {
            let error = text.parse::<ExposedPorts>().unwrap_err().to_string();
            assert!(error.starts_with("invalid port format for --expose") && error.contains(why), "{text}: {error}");
        }
    }
}
