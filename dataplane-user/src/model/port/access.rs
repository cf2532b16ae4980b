//! Who may use a published port, and how fast: `--allow-from` and `--rate-limit`.

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::model::{Error, Result};

/// Who may use a published port, and how fast.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Access {
    /// The clients that may use it, in order; everybody if there are none.
    pub allow_from: Vec<IpNet>,
    /// How many flows one client address may open in a second; 0: as many as it likes.
    pub rate: u32,
}

impl Access {
    /// Whether everybody may use the port, as fast as they like.
    pub fn is_open(&self) -> bool {
        *self == Access::default()
    }
}

/// What is said of a port's access. What is left out stays as it was, and is open to begin with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AccessRequest {
    /// The clients that may use it, in order; everybody if there are none.
    pub allow_from: Option<Vec<IpNet>>,
    /// How many flows one client address may open in a second; 0: as many as it likes.
    pub rate: Option<u32>,
}

impl AccessRequest {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == AccessRequest::default()
    }

    /// The access of a port that had `old`.
    pub fn onto(&self, old: &Access) -> Access {
        Access {
            allow_from: self.allow_from.clone().unwrap_or_else(|| old.allow_from.clone()),
            rate: self.rate.unwrap_or(old.rate),
        }
    }

    /// The same, with `other` where nothing is said.
    pub(super) fn or(self, other: &AccessRequest) -> AccessRequest {
        AccessRequest {
            allow_from: self.allow_from.or_else(|| other.allow_from.clone()),
            rate: self.rate.or(other.rate),
        }
    }
}

/// Reads one client address or prefix.
pub(super) fn allow_from(text: &str) -> Result<IpNet> {
    let invalid = |why: &str| Error::Invalid(format!("invalid --allow-from {text:?}: {why}"));
    let net = match (text.parse::<IpNet>(), text.parse::<std::net::IpAddr>()) {
        (Ok(net), _) => net,
        (_, Ok(address)) => IpNet::from(address),
        _ => return Err(invalid("an address or a prefix is expected, such as 192.0.2.7, 10.0.0.0/8 or fd00::/8")),
    };
    if net.trunc() != net {
        return Err(invalid(&format!("it has host bits set, {} is the prefix", net.trunc())));
    }
    match net {
        // An IPv4 client, written in IPv6.
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => Err(invalid(&format!(
            "IPv4 clients are named by IPv4 addresses, {} is the prefix",
            Ipv4Net::new_assert(v6.addr().to_ipv4_mapped().unwrap_or([0; 4].into()), v6.prefix_len() - 96)
        ))),
        net => Ok(net),
    }
}

/// What a list of clients says: nothing if it is empty. Else they are sorted, each once, and none if everybody is among them.
pub(super) fn in_order(mut clients: Vec<IpNet>) -> Option<Vec<IpNet>> {
    if clients.is_empty() {
        return None;
    }
    clients.sort();
    clients.dedup();
    let everybody = |v6: bool| clients.iter().any(|net| net.prefix_len() == 0 && net.addr().is_ipv6() == v6);
    if everybody(false) && everybody(true) {
        clients.clear();
    }
    Some(clients)
}

/// Reads `N` or `N/s`.
pub(super) fn rate_limit(text: &str) -> Result<u32> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| digits).ok_or_else(|| {
        Error::Invalid(format!(
            "invalid --rate-limit {text:?}: new connections of one client in a second are expected, such as 100 or 100/s, or 0 for no limit"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow_from: &[&str], rate: u32) -> Access {
        Access { allow_from: allow_from.iter().map(|text| text.parse().unwrap()).collect(), rate }
    }

    #[test]
    fn what_is_left_out_stays() {
        let old = access(&["10.0.0.0/8"], 5);
        assert_eq!(AccessRequest::default().onto(&old), old);
        let request = AccessRequest { allow_from: Some(vec![]), rate: None };
        assert_eq!(request.onto(&old), access(&[], 5));
        let request = AccessRequest { allow_from: None, rate: Some(0) };
        assert_eq!(request.onto(&old), access(&["10.0.0.0/8"], 0));
    }

    #[test]
    fn clients() {
        for (text, prefix) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::7", "2001:db8::7/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(allow_from(text).unwrap().to_string(), prefix);
        }
        for (text, why) in [
            ("", "is expected"),
            ("localhost", "is expected"),
            ("10.0.0.0/33", "is expected"),
            ("10.0.0.7/24", "10.0.0.0/24 is the prefix"),
            ("fd00::1/64", "fd00::/64 is the prefix"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8 is the prefix"),
            ("::ffff:10.0.0.1", "10.0.0.1/32 is the prefix"),
        ] {
            let error = allow_from(text).unwrap_err().to_string();
            assert!(error.starts_with("invalid --allow-from") && error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn lists() {
        let list = |texts: &[&str]| in_order(access(texts, 0).allow_from);
        assert_eq!(list(&[]), None);
        assert_eq!(
            list(&["fd00::/8", "10.0.0.0/8", "10.0.0.0/8"]),
            Some(access(&["10.0.0.0/8", "fd00::/8"], 0).allow_from)
        );
        assert_eq!(list(&["0.0.0.0/0", "10.0.0.0/8"]), Some(access(&["0.0.0.0/0", "10.0.0.0/8"], 0).allow_from));
        assert_eq!(list(&["0.0.0.0/0", "::/0"]), Some(vec![]));
    }

    #[test]
    fn rates() {
        for (text, rate) in [("0", 0), ("100", 100), ("7/s", 7), ("4294967295", u32::MAX)] {
            assert_eq!(rate_limit(text).unwrap(), rate, "{text}");
        }
        for text in ["", "/s", "-1", "+1", "many", "1.5", "100/m", "4294967296"] {
            assert!(rate_limit(text).is_err(), "{text}");
        }
    }
}
