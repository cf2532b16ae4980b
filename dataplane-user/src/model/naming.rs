//! What a user says about names: further names of a container on a network, and what stands in its `/etc/hosts` and
//! `/etc/resolv.conf`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, Result, check_dns_name};

/// What `--add-host` calls the host itself.
const HOST_GATEWAY: &str = "host-gateway";

/// Wishes for the files in which a container's resolver looks; what is left out is the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Naming {
    /// `--dns`: the servers to ask for names from outside.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`: domains in which names are looked for; a single `.` means none.
    pub search: Vec<String>,
    /// `--dns-option`: options of the resolver (resolv.conf(5)).
    pub options: Vec<String>,
    /// `--add-host`: further lines of `/etc/hosts`.
    pub hosts: Vec<HostEntry>,
}

impl Naming {
    /// Reads the four flags.
    pub fn parse(servers: &[String], search: &[String], options: &[String], hosts: &[String]) -> Result<Self> {
        let server = |text: &String| {
            text.parse()
                .map_err(|_| Error::Invalid(format!("invalid DNS server {text:?}: an IP address is expected (--dns)")))
        };
        for domain in search.iter().filter(|domain| *domain != ".") {
            check_dns_name("search domain", domain)?;
        }
        if search.len() > 1 && search.iter().any(|domain| domain == ".") {
            return Err(Error::Invalid("search domain \".\" means none: give it alone (--dns-search)".into()));
        }
        let wrong = |option: &&String| option.is_empty() || !option.chars().all(|c| c.is_ascii_graphic());
        if let Some(option) = options.iter().find(wrong) {
            return Err(Error::Invalid(format!(
                "invalid resolver option {option:?}: a word like ndots:2 is expected (--dns-option)"
            )));
        }
        Ok(Naming {
            servers: servers.iter().map(server).collect::<Result<_>>()?,
            search: search.to_vec(),
            options: options.to_vec(),
            hosts: hosts.iter().map(|host| host.parse()).collect::<Result<_>>()?,
        })
    }

    /// Whether something is said about `/etc/resolv.conf`.
    pub fn has_resolver(&self) -> bool {
        !(self.servers.is_empty() && self.search.is_empty() && self.options.is_empty())
    }
}

/// A name in `/etc/hosts` and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address; none is the host, as containers reach it.
    pub address: Option<IpAddr>,
}

impl FromStr for HostEntry {
    type Err = Error;

    /// `NAME:IP`, `NAME=IP` or `NAME:host-gateway`; IPv6 with or without brackets.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::Invalid(format!("invalid extra host {text:?}: {why}, NAME:IP or NAME:{HOST_GATEWAY} is expected"))
        };
        let (name, address) = text.split_once(['=', ':']).ok_or_else(|| invalid("there is no colon"))?;
        check_dns_name("extra host", name)?;
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            HOST_GATEWAY => None,
            _ => Some(bare.parse().map_err(|_| invalid(&format!("{bare:?} is no IP address")))?),
        };
        Ok(HostEntry { name: name.into(), address })
    }
}

impl fmt::Display for HostEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}:{address}", self.name),
            None => write!(f, "{}:{HOST_GATEWAY}", self.name),
        }
    }
}

/// `--link`: another container by a name that only this one knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The other container.
    pub target: String,
    /// What it is called here.
    pub alias: String,
}

impl FromStr for Link {
    type Err = Error;

    /// `CONTAINER` or `CONTAINER:ALIAS`.
    fn from_str(text: &str) -> Result<Self> {
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        // Docker writes its own down with a slash in front.
        let bare = |name: &str| name.strip_prefix('/').unwrap_or(name).to_string();
        if bare(target).is_empty() {
            return Err(Error::Invalid(format!("invalid link {text:?}: CONTAINER or CONTAINER:ALIAS is expected")));
        }
        check_dns_name("alias", &bare(alias))?;
        Ok(Link { target: bare(target), alias: bare(alias) })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.target, self.alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts() {
        let shown = |text: &str| text.parse::<HostEntry>().map(|entry| entry.to_string());
        for (text, right) in [
            ("db:10.0.0.7", "db:10.0.0.7"),
            ("db=10.0.0.7", "db:10.0.0.7"),
            ("db.example.org:fd00::7", "db.example.org:fd00::7"),
            ("db:[fd00::7]", "db:fd00::7"),
            ("host.docker.internal:host-gateway", "host.docker.internal:host-gateway"),
        ] {
            assert_eq!(shown(text).unwrap(), right);
        }
        for (text, why) in [
            ("db", "no colon"),
            ("db:", "\"\" is no IP address"),
            ("db:10.0.0.300", "\"10.0.0.300\" is no IP address"),
            (":10.0.0.7", "invalid extra host"),
            ("a b:10.0.0.7", "invalid extra host"),
        ] {
            let error = shown(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn links() {
        let shown = |text: &str| text.parse::<Link>().map(|link| link.to_string());
        assert_eq!(shown("db").unwrap(), "db:db");
        assert_eq!(shown("db:database").unwrap(), "db:database");
        assert_eq!(shown("/db:/database").unwrap(), "db:database");
        for text in ["", ":x", "db:", "db:a b"] {
            assert!(shown(text).is_err(), "{text}");
        }
    }

    #[test]
    fn resolver_flags() {
        let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let parse = |servers: &[&str], search: &[&str], options: &[&str]| {
            Naming::parse(&strings(servers), &strings(search), &strings(options), &[])
        };
        let naming = parse(&["10.0.0.53", "fd00::53"], &["example.org"], &["ndots:2"]).unwrap();
        assert_eq!(naming.servers, ["10.0.0.53".parse::<IpAddr>().unwrap(), "fd00::53".parse().unwrap()]);
        assert!(naming.has_resolver());
        assert!(!parse(&[], &[], &[]).unwrap().has_resolver());
        assert!(parse(&[], &["."], &[]).unwrap().has_resolver());
        for (servers, search, options, why) in [
            (vec!["dns.example.org"], vec![], vec![], "\"dns.example.org\": an IP address is expected"),
            (vec![], vec!["a b"], vec![], "invalid search domain \"a b\""),
            (vec![], vec![".", "example.org"], vec![], "give it alone"),
            (vec![], vec![], vec!["ndots:2 rotate"], "invalid resolver option"),
            (vec![], vec![], vec![""], "invalid resolver option"),
        ] {
            let error = parse(&servers, &search, &options).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
