//! A small name server for the internet of a lab: answers A and AAAA questions from a list, over UDP.

use std::net::IpAddr;

use crate::fail::OrFail;
use crate::net::Net;
use crate::thread::{Background, TICK};

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// A running name server.
pub struct NameServer {
    _thread: Background,
}

impl Net {
    /// Starts a name server on port 53 of `ip` here, which knows these names and no other.
    #[track_caller]
    pub fn name_server(&self, ip: IpAddr, names: &[(&str, IpAddr)]) -> NameServer {
        let names: Vec<_> = names.iter().map(|(name, address)| (name.to_string(), *address)).collect();
        let bound = self.udp_bind(ip, 53).and_then(|socket| socket.set_read_timeout(Some(TICK)).map(|()| socket));
        let socket = bound.or_fail(format_args!("serve names on {ip} in {}", self.name()));
        let mut buffer = [0; 512];
        let thread = Background::repeat(move || {
            if let Ok((length, from)) = socket.recv_from(&mut buffer)
                && let Some(answer) = answer(&buffer[..length], &names)
            {
                // A client that is gone asks no more.
                let _ = socket.send_to(&answer, from);
            }
        });
        NameServer { _thread: thread }
    }
}

/// The answer to a query: the addresses of that family, nothing for a name without any, NXDOMAIN for an unknown one.
fn answer(query: &[u8], names: &[(String, IpAddr)]) -> Option<Vec<u8>> {
    let (name, end) = name_at(query, 12)?;
    let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
    let known: Vec<_> = names.iter().filter(|(known, _)| known.eq_ignore_ascii_case(&name)).collect();
    let wanted = |address: &IpAddr| kind == if address.is_ipv4() { TYPE_A } else { TYPE_AAAA };
    let found: Vec<_> = known.iter().map(|(_, address)| *address).filter(wanted).collect();
    let code = if known.is_empty() { 3 } else { 0 };
    let mut message = query.get(..2)?.to_vec();
    message.extend_from_slice(&[0x85, 0x80 | code, 0, 1, 0, found.len() as u8, 0, 0, 0, 0]);
    message.extend_from_slice(query.get(12..end + 4)?);
    for address in found {
        // The name of the question, its type, class IN, a minute to live.
        message.extend_from_slice(&[0xc0, 12, 0, kind as u8, 0, 1, 0, 0, 0, 60]);
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        message.extend_from_slice(&[0, bytes.len() as u8]);
        message.extend_from_slice(&bytes);
    }
    Some(message)
}

/// The name that begins at `position`, and where it ends.
fn name_at(message: &[u8], mut position: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(position)?);
        position += 1;
        if length == 0 {
            return Some((labels.join("."), position));
        }
        labels.push(String::from_utf8_lossy(message.get(position..position + length)?).into_owned());
        position += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_by_type_and_in_any_case() {
        let (v4, v6): (IpAddr, IpAddr) = ("203.0.113.10".parse().unwrap(), "2001:db8::10".parse().unwrap());
        let names = [("www.example.test".to_owned(), v4), ("www.example.test".to_owned(), v6)];
        let ask = |name: &str, kind| {
            let question = question(name, kind);
            addresses(&answer(&question, &names).unwrap(), question.len())
        };
        assert_eq!(ask("www.example.test", TYPE_A), [v4]);
        assert_eq!(ask("WWW.Example.Test", TYPE_AAAA), [v6]);
        assert!(ask("www.example.test", 15).is_empty());
        assert_eq!(answer(&question("nowhere.test", TYPE_A), &names).unwrap()[3] & 15, 3);
    }

    /// A query for one name: an id, "recursion desired", one question.
    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message
    }

    /// The addresses in an answer of our own server, whose records all have the shape that `answer` gives them.
    fn addresses(message: &[u8], mut position: usize) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        while let Some(&length) = message.get(position + 11) {
            let bytes = message.get(position + 12..position + 12 + usize::from(length)).unwrap_or_default();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)));
            position += 12 + usize::from(length);
        }
        addresses
    }
}
