//! The `-p` grammar.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::access::{allow_from, in_order, rate_limit};
use super::{AccessRequest, HostPort, PortRequest, Protocol};
use crate::model::{Error, Result};

/// Ports to publish as a command names them: `-p`, `--allow-from` and `--rate-limit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRequest {
    /// `-p` specifications.
    pub specs: Vec<String>,
    /// `--allow-from`, for all ports whose specification has no list of its own.
    pub allow_from: Vec<String>,
    /// `--rate-limit`, for all ports whose specification has none of its own.
    pub rate_limit: Option<String>,
}

impl PublishRequest {
    /// What the command says of all its ports.
    pub fn access(&self) -> Result<AccessRequest> {
        let prefixes: Vec<_> = self.allow_from.iter().map(|text| allow_from(text)).collect::<Result<_, _>>()?;
        Ok(AccessRequest {
            allow_from: in_order(prefixes),
            rate: self.rate_limit.as_deref().map(rate_limit).transpose()?,
        })
    }

    /// The ports one by one.
    pub fn requests(&self) -> Result<Vec<PortRequest>> {
        let common = self.access()?;
        let mut requests = Vec::new();
        for spec in &self.specs {
            let spec: PortSpec = spec.parse()?;
            let access = spec.access.clone().or(&common);
            requests.extend(spec.requests().map(|request| PortRequest { access: access.clone(), ..request }));
        }
        Ok(requests)
    }
}

/// What one `-p` says: `[hostIP:][hostPort|lo-hi]:ctrPort|lo-hi[/tcp|udp|sctp]`, or the same as a list of `key=value`, in
/// which a port may also have an access of its own.
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
    /// Who may use them.
    pub access: AccessRequest,
}

impl PortSpec {
    /// One request for each container port.
    pub fn requests(&self) -> impl Iterator<Item = PortRequest> {
        let host_port = |index: u16| match &self.host_ports {
            None => HostPort::Any,
            Some(range) if self.container_ports.len() > 1 || range.len() == 1 => HostPort::Fixed(range.start() + index),
            // A host range with one container port means any free one of the range.
            Some(range) => HostPort::Range(*range.start(), *range.end()),
        };
        (0..).zip(self.container_ports.clone()).map(move |(index, container_port)| PortRequest {
            host_ip: self.host_ip,
            host_port: host_port(index),
            container_port,
            protocol: self.protocol,
            access: self.access.clone(),
        })
    }
}

impl FromStr for PortSpec {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let (parsed, form) = match spec.contains('=') {
            false => (short(spec), "[hostIP:][hostPort]:containerPort[/tcp|udp|sctp]"),
            true => (long(spec), "published=PORT,target=PORT,protocol=tcp|udp|sctp"),
        };
        parsed.map_err(|why| Error::Invalid(format!("invalid published port {spec:?}: {why} ({form} is expected)")))
    }
}

/// Reads a list of `key=value`. Docker's are `target`, `published`, `protocol` and `mode`, which is the same either way on
/// a single host; Compose has `host_ip`, too.
fn long(spec: &str) -> Result<PortSpec, String> {
    const KEYS: &str = "target, published, protocol, mode, host_ip, allow-from and rate-limit";
    let (mut host_ip, mut host, mut container, mut protocol, mut rate) = (None, None, None, None, None);
    let mut clients = Vec::new();
    for field in spec.split(',') {
        let (key, value) = field
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("invalid publish opts format (should be name=value but got {field:?})"))?;
        let earlier = match key {
            "target" => container.replace(value).is_some(),
            "published" => host.replace(value).is_some(),
            "protocol" => protocol.replace(value.parse()?).is_some(),
            "host_ip" => host_ip.replace(host_address(value)?).is_some(),
            "rate-limit" => rate.replace(rate_limit(value).map_err(|error| error.to_string())?).is_some(),
            "allow-from" => {
                clients.push(allow_from(value).map_err(|error| error.to_string())?);
                false
            }
            "mode" if matches!(value, "host" | "ingress") => false,
            "mode" => return Err(format!("invalid publish mode value ({value}): it must be either host or ingress")),
            _ => return Err(format!("invalid field key: {key}, known are {KEYS}")),
        };
        if earlier {
            return Err(format!("the field {key} is given twice"));
        }
    }
    let container = container.ok_or("missing mandatory field 'target'")?;
    let (host_ports, container_ports) = ports(host.unwrap_or_default(), container)?;
    let access = AccessRequest { allow_from: in_order(clients), rate };
    Ok(PortSpec { host_ip, host_ports, container_ports, protocol: protocol.unwrap_or(Protocol::Tcp), access })
}

fn short(spec: &str) -> Result<PortSpec, String> {
    let (addresses, protocol) = split_protocol(spec)?;
    // From the right: an IPv6 host address holds colons itself.
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
            Some(("", port)) => (None, port),
            Some((address, port)) => (Some(host_address(address)?), port),
        },
    };
    let (host_ports, container_ports) = ports(host, container)?;
    Ok(PortSpec { host_ip, host_ports, container_ports, protocol, access: AccessRequest::default() })
}

/// The protocol behind the slash, and what stands before.
pub(super) fn split_protocol(text: &str) -> Result<(&str, Protocol), String> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((ports, name)) => Ok((ports, name.parse()?)),
    }
}

/// Host ports, if any are given, and container ports.
fn ports(host: &str, container: &str) -> Result<(Option<RangeInclusive<u16>>, RangeInclusive<u16>), String> {
    let container_ports = match container {
        "" => return Err("no container port is given".into()),
        _ => range("containerPort", container)?,
    };
    if *container_ports.start() == 0 {
        return Err("invalid containerPort: 0, it must be from 1 to 65535".into());
    }
    let host_ports = match host {
        // Docker takes port 0 for "any".
        "" | "0" => return Ok((None, container_ports)),
        _ => range("hostPort", host)?,
    };
    if *host_ports.start() == 0 {
        return Err("invalid hostPort: a range cannot begin with 0".into());
    }
    if container_ports.len() != 1 && host_ports.len() != container_ports.len() {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    Ok((Some(host_ports), container_ports))
}

/// An address, an IPv6 one in brackets or, as Docker allows, without.
fn host_address(text: &str) -> Result<IpAddr, String> {
    let address = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => text.parse::<IpAddr>(),
    };
    match address {
        // Written in IPv6, but only an IPv4 packet can carry it.
        Ok(address) if address.to_canonical() != address => {
            Err(format!("invalid IP address: {text:?}, write {}", address.to_canonical()))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!("invalid IP address: {text:?}")),
    }
}

pub(super) fn range(what: &str, text: &str) -> Result<RangeInclusive<u16>, String> {
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

impl fmt::Display for PortSpec {
    /// The short form; the long one where the ports have an access of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |ports: &RangeInclusive<u16>| match ports.len() {
            1 => ports.start().to_string(),
            _ => format!("{}-{}", ports.start(), ports.end()),
        };
        let (host, container) = (self.host_ports.as_ref().map(range).unwrap_or_default(), range(&self.container_ports));
        if !self.access.is_empty() {
            write!(f, "published={host},target={container},protocol={}", self.protocol)?;
            self.host_ip.iter().try_for_each(|address| write!(f, ",host_ip={address}"))?;
            match self.access.allow_from.as_deref() {
                Some([]) => write!(f, ",allow-from=0.0.0.0/0,allow-from=::/0")?,
                clients => {
                    clients.unwrap_or_default().iter().try_for_each(|client| write!(f, ",allow-from={client}"))?
                }
            }
            return self.access.rate.iter().try_for_each(|rate| write!(f, ",rate-limit={rate}"));
        }
        match self.host_ip {
            Some(IpAddr::V4(address)) => write!(f, "{address}:{host}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{host}:")?,
            None if host.is_empty() => {}
            None => write!(f, "{host}:")?,
        }
        write!(f, "{container}/{}", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use ipnet::{IpNet, Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::super::Access;
    use super::*;

    fn spec(text: &str) -> PortSpec {
        text.parse().unwrap()
    }

    fn one(text: &str) -> (Option<String>, HostPort, u16, Protocol) {
        let requests: Vec<_> = spec(text).requests().collect();
        assert_eq!(requests.len(), 1, "{text}");
        let r = &requests[0];
        (r.host_ip.map(|ip| ip.to_string()), r.host_port, r.container_port, r.protocol)
    }

    #[test]
    fn single_ports() {
        use HostPort::{Any, Fixed, Range};
        use Protocol::{Sctp, Tcp, Udp};
        let ip = |text: &str| Some(text.to_string());
        for (text, expected) in [
            ("80", (None, Any, 80, Tcp)),
            ("80/udp", (None, Any, 80, Udp)),
            (":80", (None, Any, 80, Tcp)),
            ("::80", (None, Any, 80, Tcp)),
            ("0:80", (None, Any, 80, Tcp)),
            ("8080:80", (None, Fixed(8080), 80, Tcp)),
            (":8080:80", (None, Fixed(8080), 80, Tcp)),
            ("8080:80/TCP", (None, Fixed(8080), 80, Tcp)),
            ("3868:3868/sctp", (None, Fixed(3868), 3868, Sctp)),
            ("127.0.0.1:8080:80", (ip("127.0.0.1"), Fixed(8080), 80, Tcp)),
            ("127.0.0.1::80", (ip("127.0.0.1"), Any, 80, Tcp)),
            ("[::1]:53:53/udp", (ip("::1"), Fixed(53), 53, Udp)),
            ("::1:53:53/udp", (ip("::1"), Fixed(53), 53, Udp)),
            ("[2001:db8::7]::80", (ip("2001:db8::7"), Any, 80, Tcp)),
            ("8000-8010:80", (None, Range(8000, 8010), 80, Tcp)),
            ("8000-8000:80", (None, Fixed(8000), 80, Tcp)),
            ("65535:65535", (None, Fixed(65535), 65535, Tcp)),
            ("target=80", (None, Any, 80, Tcp)),
            ("published=8080,target=80", (None, Fixed(8080), 80, Tcp)),
            ("target=80,published=8080,protocol=udp,mode=host", (None, Fixed(8080), 80, Udp)),
            ("mode=ingress,target=80,published=8000-8010", (None, Range(8000, 8010), 80, Tcp)),
            ("target=53,host_ip=::1,protocol=sctp", (ip("::1"), Any, 53, Sctp)),
            ("target=53,host_ip=[::1],published=", (ip("::1"), Any, 53, Tcp)),
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
    }

    #[test]
    fn ranges() {
        for text in ["8000-8002:80-82", "published=8000-8002,target=80-82"] {
            let pairs: Vec<_> = spec(text).requests().map(|r| (r.host_port, r.container_port)).collect();
            let fixed = HostPort::Fixed;
            assert_eq!(pairs, [(fixed(8000), 80), (fixed(8001), 81), (fixed(8002), 82)], "{text}");
        }
        let any: Vec<_> = spec("80-81").requests().collect();
        assert_eq!(any.len(), 2);
        assert!(any.iter().all(|r| r.host_port == HostPort::Any));
        assert_eq!(spec("1-65535:1-65535").requests().count(), 65535);
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
            ("80/icmp", "invalid proto: \"icmp\""),
            ("80/", "invalid proto"),
            ("8080:80-81", "invalid ranges specified"),
            ("8080-8082:80-81", "invalid ranges specified"),
            ("82-80", "backwards"),
            ("1.2.3:80:80", "invalid IP address: \"1.2.3\""),
            ("a:b:80:80", "invalid IP address: \"a:b\""),
            ("[::1]:80", "no host port follows"),
            ("[1.2.3.4]:80:80", "invalid IP address"),
            ("[::ffff:1.2.3.4]:80:80", "write 1.2.3.4"),
            ("published=8080", "missing mandatory field 'target'"),
            ("target=", "no container port"),
            ("target=80,published=x", "invalid hostPort: \"x\""),
            ("target=80,protocol=icmp", "invalid proto: \"icmp\""),
            ("target=80,mode=swarm", "invalid publish mode value (swarm)"),
            ("target=80,host_ip=localhost", "invalid IP address: \"localhost\""),
            ("target=80,tcp", "should be name=value but got \"tcp\""),
            ("target=80,=x", "should be name=value but got \"=x\""),
            ("target=80,port=8080", "invalid field key: port, known are target"),
            ("target=80,target=81", "the field target is given twice"),
            ("target=80,allow-from=10.0.0.7/24", "10.0.0.0/24 is the prefix"),
            ("target=80,rate-limit=fast", "invalid --rate-limit \"fast\""),
            ("published=8080,target=80-81", "invalid ranges specified"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err().to_string();
            assert!(error.starts_with("invalid published port") && error.contains(why), "{text}: {error}");
        }
    }

    fn request(specs: &[&str], allow_from: &[&str], rate_limit: Option<&str>) -> Result<Vec<Access>> {
        let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        let request = PublishRequest {
            specs: strings(specs),
            allow_from: strings(allow_from),
            rate_limit: rate_limit.map(String::from),
        };
        Ok(request.requests()?.iter().map(|request| request.access.onto(&Access::default())).collect())
    }

    fn access(allow_from: &[&str], rate: u32) -> Access {
        Access { allow_from: allow_from.iter().map(|text| text.parse().unwrap()).collect(), rate }
    }

    #[test]
    fn a_commands_limits_are_for_all_its_ports() {
        assert_eq!(request(&["80", "81-82"], &[], None).unwrap(), vec![access(&[], 0); 3]);
        let limited = request(&["80", "81-82"], &["fd00::/8", "10.0.0.0/8", "10.0.0.0/8"], Some("5/s")).unwrap();
        assert_eq!(limited, vec![access(&["10.0.0.0/8", "fd00::/8"], 5); 3]);
        // A port's own are its own.
        let own = ["published=8080,target=80,allow-from=192.0.2.0/24", "target=81,rate-limit=9", "82"];
        let limited = request(&own, &["10.0.0.0/8"], Some("5")).unwrap();
        assert_eq!(limited, [access(&["192.0.2.0/24"], 5), access(&["10.0.0.0/8"], 9), access(&["10.0.0.0/8"], 5)]);
    }

    fn port_range(most: u16) -> impl Strategy<Value = RangeInclusive<u16>> {
        (1..=u16::MAX, 0..=most).prop_map(|(first, more)| first..=first.saturating_add(more))
    }

    fn client() -> impl Strategy<Value = IpNet> {
        let length = |most: u8| prop_oneof![Just(0), 0..=most];
        let v4 =
            (any::<[u8; 4]>(), length(32)).prop_map(|(address, length)| Ipv4Net::new_assert(address.into(), length));
        let v6 =
            (any::<[u8; 16]>(), length(128)).prop_map(|(address, length)| Ipv6Net::new_assert(address.into(), length));
        prop_oneof![v4.prop_map(|net| IpNet::V4(net.trunc())), v6.prop_map(|net| IpNet::V6(net.trunc()))]
    }

    prop_compose! {
        /// Any specification there is.
        fn any_spec()(
            host_ip in proptest::option::of(prop_oneof![
                any::<[u8; 4]>().prop_map(IpAddr::from),
                any::<[u8; 16]>().prop_map(IpAddr::from).prop_filter("IPv4 in IPv6", |ip| ip.to_canonical() == *ip),
            ]),
            container_ports in port_range(20),
            host in proptest::option::of((1..=u16::MAX - 20, 0..=20u16)),
            protocol in prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)],
            clients in proptest::collection::vec(client(), 0..4),
            rate in proptest::option::of(any::<u32>()),
        ) -> PortSpec {
            let more = |free: u16| if container_ports.len() == 1 { free } else { container_ports.len() as u16 - 1 };
            PortSpec {
                host_ip,
                host_ports: host.map(|(first, free)| first..=first + more(free)),
                container_ports,
                protocol,
                access: AccessRequest { allow_from: in_order(clients), rate },
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_the_same(spec in any_spec()) {
            prop_assert_eq!(spec.to_string().parse::<PortSpec>().unwrap(), spec);
        }

        /// A port for each container port, and those that are fixed run in step with them.
        #[test]
        fn requests_are_one_for_each_port(spec in any_spec()) {
            let requests: Vec<_> = spec.requests().collect();
            let ports: Vec<_> = requests.iter().map(|request| request.container_port).collect();
            prop_assert_eq!(ports, spec.container_ports.clone().collect::<Vec<_>>());
            for (request, index) in requests.iter().zip(0..) {
                match (request.host_port, &spec.host_ports) {
                    (HostPort::Any, None) => {}
                    (HostPort::Fixed(port), Some(range)) => prop_assert_eq!(port, range.start() + index),
                    (HostPort::Range(first, last), Some(range)) => prop_assert_eq!(first..=last, range.clone()),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in "[-0-9a-f:/.\\[\\],=tcpudsprogehlw_ ]{0,40}") {
            let _ = text.parse::<PortSpec>();
        }
    }
}
