//! Which of the kernel's messages about links, addresses and routes can alter what the host looks like (`uplink`): those about the agent's own
//! veths cannot, and they are most of what it hears. To look at a host takes the longer the more interfaces it has.

use std::collections::{HashMap, HashSet};

use rtnetlink::packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::uplink::IsOurs;

/// What was heard so far of the agent's own interfaces.
pub(super) struct News {
    is_ours: IsOurs,
    /// Numbers of its veths. When one's deletion is heard of, its name may be forgotten already.
    veths: HashSet<u32>,
    /// Its bridges, and whether they were switched on.
    bridges: HashMap<u32, bool>,
}

impl News {
    /// Nothing has been heard.
    pub(super) fn new(is_ours: IsOurs) -> Self {
        News { is_ours, veths: HashSet::new(), bridges: HashMap::new() }
    }

    /// Whether what the kernel says in one datagram can alter anything; in doubt it can.
    pub(super) fn is_news(&mut self, mut datagram: &[u8]) -> bool {
        let mut news = datagram.is_empty();
        while !datagram.is_empty() {
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) else { return true };
            // One that could be read has a length, and the next begins at a multiple of four.
            let length = NetlinkBuffer::new(datagram).length() as usize;
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
            news |= match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => self.is_news_of_link(&link, false),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => self.is_news_of_link(&link, true),
                _ => true,
            };
        }
        news
    }

    /// Some messages were lost.
    pub(super) fn forget(&mut self) {
        self.veths.clear();
        self.bridges.clear();
    }

    fn is_news_of_link(&mut self, link: &LinkMessage, deleted: bool) -> bool {
        let index = link.header.index;
        // What the bridge's family says is about its ports.
        let of_port = link.header.interface_family == AddressFamily::Bridge;
        if deleted && self.veths.contains(&index) {
            if !of_port {
                self.veths.remove(&index);
            }
            return false;
        }
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        if !name.is_some_and(|name| (self.is_ours)(name, index)) {
            self.veths.remove(&index);
            return true;
        }
        match kind(link) {
            _ if of_port => false,
            Some(InfoKind::Veth) => {
                if !deleted {
                    self.veths.insert(index);
                }
                false
            }
            Some(InfoKind::Bridge) if !deleted => {
                let up = link.header.flags.contains(LinkFlags::Up);
                self.bridges.insert(index, up) != Some(up)
            }
            _ => {
                self.bridges.remove(&index);
                true
            }
        }
    }
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const OURS: [&str; 2] = ["veth1", "br-1"];

    fn news() -> News {
        News::new(Arc::new(|name: &str, _| OURS.contains(&name)))
    }

    fn link(index: u32, name: &str, kind: InfoKind, up: bool) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        if up {
            link.header.flags = LinkFlags::Up;
        }
        link.attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
        link
    }

    fn bytes(messages: Vec<RouteNetlinkMessage>) -> Vec<u8> {
        let mut all = Vec::new();
        for message in messages {
            let mut message = NetlinkMessage::from(message);
            message.finalize();
            let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
            message.serialize(&mut bytes);
            all.extend(bytes);
        }
        all
    }

    fn new(link: LinkMessage) -> Vec<u8> {
        bytes(vec![RouteNetlinkMessage::NewLink(link)])
    }

    fn gone(link: LinkMessage) -> Vec<u8> {
        bytes(vec![RouteNetlinkMessage::DelLink(link)])
    }

    #[test]
    fn veths_of_ours_are_no_news_from_birth_to_death() {
        let mut news = news();
        assert!(!news.is_news(&new(link(7, "veth1", InfoKind::Veth, false))));
        assert!(!news.is_news(&new(link(7, "veth1", InfoKind::Veth, true))));
        // Its name is forgotten before its end is heard of.
        news.is_ours = Arc::new(|_: &str, _| false);
        let mut port = link(7, "veth1", InfoKind::Veth, true);
        port.header.interface_family = AddressFamily::Bridge;
        assert!(!news.is_news(&gone(port)));
        assert!(!news.is_news(&gone(link(7, "veth1", InfoKind::Veth, true))));
        assert!(news.is_news(&gone(link(7, "veth1", InfoKind::Veth, true))), "another one of that number");
    }

    #[test]
    fn what_is_not_ours_is_news() {
        let mut news = news();
        assert!(news.is_news(&new(link(7, "veth2", InfoKind::Veth, true))));
        assert!(!news.is_news(&new(link(8, "veth1", InfoKind::Veth, true))));
        assert!(news.is_news(&new(link(8, "renamed", InfoKind::Veth, true))));
        assert!(news.is_news(&gone(link(8, "renamed", InfoKind::Veth, true))));
        assert!(news.is_news(&bytes(vec![RouteNetlinkMessage::NewAddress(Default::default())])));
        assert!(news.is_news(&[]) && news.is_news(&[1, 2, 3]));
    }

    #[test]
    fn a_bridge_of_ours_is_news_when_it_comes_goes_or_is_switched() {
        let mut news = news();
        assert!(news.is_news(&new(link(3, "br-1", InfoKind::Bridge, false))));
        assert!(news.is_news(&new(link(3, "br-1", InfoKind::Bridge, true))));
        assert!(!news.is_news(&new(link(3, "br-1", InfoKind::Bridge, true))));
        assert!(news.is_news(&gone(link(3, "br-1", InfoKind::Bridge, true))));
        assert!(news.is_news(&new(link(3, "br-1", InfoKind::Bridge, true))));
    }

    #[test]
    fn every_message_of_a_datagram_counts() {
        let mut news = news();
        let ours = RouteNetlinkMessage::NewLink(link(7, "veth1", InfoKind::Veth, true));
        let other = RouteNetlinkMessage::NewLink(link(8, "eth0", InfoKind::Veth, true));
        assert!(!news.is_news(&bytes(vec![ours.clone(), ours.clone()])));
        assert!(news.is_news(&bytes(vec![ours.clone(), other.clone()])));
        assert!(news.is_news(&bytes(vec![other, ours])));
    }
}
