//! resolv.conf(5): what the host's says, and how a container's is written.

use std::fmt::{self, Write};
use std::net::IpAddr;

/// As many servers as resolvers look at (`MAXNS` of glibc).
pub const MAX_SERVERS: usize = 3;

/// A resolver's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers, in order.
    pub servers: Vec<Server>,
    /// Domains in which names are looked for.
    pub search: Vec<String>,
    /// Options, in order.
    pub options: Vec<String>,
}

/// A name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// The interface by which a link-local address is reached.
    pub interface: Option<String>,
}

impl From<IpAddr> for Server {
    fn from(address: IpAddr) -> Self {
        Server { address, interface: None }
    }
}

impl ResolvConf {
    /// Reads a file; what it does not understand is left out, as resolvers do.
    pub fn parse(text: &str) -> Self {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                // The last one counts.
                Some("search" | "domain") => conf.search = words.map(String::from).collect(),
                Some("options") => conf.options.extend(words.map(String::from)),
                _ => {}
            }
        }
        conf
    }

    /// Whether an option is there, with whatever value.
    pub fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.split(':').next() == Some(name))
    }
}

fn server(text: &str) -> Option<Server> {
    let (address, interface) = text.split_once('%').map_or((text, None), |(address, name)| (address, Some(name)));
    Some(Server { address: address.parse().ok()?, interface: interface.map(String::from) })
}

impl fmt::Display for ResolvConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            write!(f, "nameserver {}", server.address)?;
            if let Some(interface) = &server.interface {
                write!(f, "%{interface}")?;
            }
            f.write_char('\n')?;
        }
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                writeln!(f, "{keyword} {}", words.join(" "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_is_written_again() {
        let text = "# comment\nnameserver 192.0.2.1\n nameserver\t2001:db8::1\nnameserver fe80::1%eth0\n#nameserver 1.1.1.1\n\
                    nameserver x\ndomain example.net\nsearch example.org example.com\noptions edns0 ndots:2\noptions rotate\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(
            conf.to_string(),
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nsearch example.org example.com\n\
             options edns0 ndots:2 rotate\n"
        );
        assert_eq!(ResolvConf::parse(&conf.to_string()), conf);
        assert!(conf.has_option("ndots") && conf.has_option("rotate") && !conf.has_option("nd"));
    }
}
