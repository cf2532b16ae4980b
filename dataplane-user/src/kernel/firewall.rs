//! What other people's packet filters say of forwarded packets. Read, never changed: rules are the host's own business.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

use super::error::{Context, Result};

/// `NETLINK_NETFILTER` of `linux/netlink.h`.
const NETLINK_NETFILTER: isize = 12;
/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETCHAIN`.
const GET_CHAIN: u16 = 10 << 8 | 4;
/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_NEWCHAIN`, as which chains are told.
const CHAIN: u16 = 10 << 8 | 3;
/// `NLM_F_REQUEST` and `NLM_F_DUMP`.
const DUMP: u16 = 0x1 | 0x300;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NFTA_CHAIN_TABLE`.
const TABLE: u16 = 1;
/// `NFTA_CHAIN_NAME`.
const NAME: u16 = 3;
/// `NFTA_CHAIN_HOOK`.
const HOOK: u16 = 4;
/// `NFTA_CHAIN_POLICY`.
const POLICY: u16 = 5;
/// `NFTA_HOOK_HOOKNUM`.
const HOOK_NUMBER: u16 = 1;
/// `NF_INET_FORWARD`.
const FORWARD: u32 = 2;
/// `NF_DROP`.
const DROP: u32 = 0;
/// `NFPROTO_INET`, `_IPV4`, `_IPV6` and what nft calls them.
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];

/// The chains of nftables (which iptables uses, too) that drop what is forwarded unless a rule lets it pass, such as `ip filter FORWARD`.
/// None where the kernel has no nftables.
///
/// # Errors
///
/// The kernel refuses the question, or its answer cannot be read.
pub fn dropping_forward_chains() -> Result<Vec<String>> {
    let action = || "list the chains of nftables";
    let answers = match dump() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL)) => {
            return Ok(Vec::new());
        }
        answers => answers.to(action)?,
    };
    Ok(answers.iter().filter_map(|chain| dropping(chain)).collect())
}

/// All chains, each a netlink message without its header.
fn dump() -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    let mut request = Vec::new();
    request.extend(20_u32.to_ne_bytes());
    request.extend(GET_CHAIN.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    // Sequence and sender; then `struct nfgenmsg`: every family, version 0.
    request.extend([0; 12]);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let mut chains = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((kind, body, further)) = message(rest) {
            match kind {
                DONE => return Ok(chains),
                ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(-code));
                }
                CHAIN => chains.push(body.to_vec()),
                _ => {}
            }
            rest = further;
        }
    }
}

/// Kind and body of the first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    Some((kind, bytes.get(16..length)?, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The chain's name, if it hangs on the way of forwarded packets and ends them by default.
fn dropping(chain: &[u8]) -> Option<String> {
    let (_, family) = FAMILIES.iter().find(|(number, _)| chain.first() == Some(number))?;
    let attributes = chain.get(4..)?;
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let hook = number(attribute(attribute(attributes, HOOK)?, HOOK_NUMBER)?)?;
    let policy = number(attribute(attributes, POLICY)?)?;
    if hook != FORWARD || policy != DROP {
        return None;
    }
    let text = |kind| Some(String::from_utf8_lossy(attribute(attributes, kind)?).trim_end_matches('\0').to_owned());
    Some(format!("{family} {} {}", text(TABLE)?, text(NAME)?))
}

/// The value of the first attribute of a kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        // The upper two bits say how it is written.
        let kind = u16::from_ne_bytes([*attributes.get(2)?, *attributes.get(3)?]) & 0x3fff;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn chain(family: u8, hook: u32, policy: u32) -> Vec<u8> {
        let hook = put(HOOK_NUMBER, &hook.to_be_bytes());
        let parts = [
            put(TABLE, b"filter\0"),
            put(NAME, b"FORWARD\0"),
            put(HOOK | 0x8000, &hook),
            put(POLICY, &policy.to_be_bytes()),
        ];
        [vec![family, 0, 0, 0], parts.concat()].concat()
    }

    #[test]
    fn only_what_drops_forwarded_packets_is_told() {
        assert_eq!(dropping(&chain(2, FORWARD, DROP)).as_deref(), Some("ip filter FORWARD"));
        assert_eq!(dropping(&chain(1, FORWARD, DROP)).as_deref(), Some("inet filter FORWARD"));
        assert_eq!(dropping(&chain(2, FORWARD, 1)), None);
        assert_eq!(dropping(&chain(2, 1, DROP)), None);
        assert_eq!(dropping(&chain(7, FORWARD, DROP)), None);
        // A chain without a hook, and half a message.
        assert_eq!(dropping(&[vec![2, 0, 0, 0], put(NAME, b"x\0")].concat()), None);
        assert_eq!(dropping(&chain(2, FORWARD, DROP)[..20]), None);
    }

    #[test]
    fn this_kernel_answers() {
        dropping_forward_chains().unwrap();
    }
}
