//! Which of the kernel's messages about links, addresses and routes can alter what the host looks like (`uplink`): those about what the agent
//! did to its own veths and bridges cannot, and they are most of what it hears. To look at a host takes the longer the more interfaces it has.

use std::collections::HashMap;
use std::net::IpAddr;

use dataplane_common::V6;
use ipnet::{IpNet, Ipv6Net};
use rtnetlink::packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::address::Address;
use super::route;
use super::uplink::Own;

/// What was heard so far of the agent's own interfaces.
pub(super) struct News {
    own: Own,
    /// Its veths and bridges by number. When the last of one is heard, its name may be forgotten already.
    interfaces: HashMap<u32, Interface>,
}

/// A veth or bridge of the agent.
struct Interface {
    name: String,
    /// The addresses that it gave it, and the link-local one.
    addresses: Vec<IpNet>,
}

impl News {
    /// Nothing has been heard.
    pub(super) fn new(own: Own) -> Self {
        News { own, interfaces: HashMap::new() }
    }

    /// Whether what the kernel says in one datagram can alter anything; in doubt it can.
    pub(super) fn is_news(&mut self, mut datagram: &[u8]) -> bool {
        use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, NewAddress, NewLink, NewRoute};
        let mut news = datagram.is_empty();
        while !datagram.is_empty() {
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) else { return true };
            // One that could be read has a length, and the next begins at a multiple of four.
            let length = NetlinkBuffer::new(datagram).length() as usize;
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
            news |= match message.payload {
                NetlinkPayload::InnerMessage(NewLink(link)) => self.is_news_of_link(&link, false),
                NetlinkPayload::InnerMessage(DelLink(link)) => self.is_news_of_link(&link, true),
                NetlinkPayload::InnerMessage(NewAddress(address) | DelAddress(address)) => {
                    self.is_news_of_address(address)
                }
                NetlinkPayload::InnerMessage(NewRoute(route) | DelRoute(route)) => self.is_news_of_route(&route),
                _ => true,
            };
        }
        news
    }

    /// Some messages were lost.
    pub(super) fn forget(&mut self) {
        self.interfaces.clear();
    }

    fn is_news_of_link(&mut self, link: &LinkMessage, deleted: bool) -> bool {
        let index = link.header.index;
        // What the bridge's family says is about its ports.
        let of_port = link.header.interface_family == AddressFamily::Bridge;
        if deleted && self.interfaces.contains_key(&index) {
            if !of_port {
                self.interfaces.remove(&index);
            }
            return false;
        }
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        let Some((name, addresses)) = name.and_then(|name| Some((name, (self.own)(name)?))) else {
            // Going down is told before the end is, and may be read when its name is forgotten.
            let going = name.is_some() && self.interfaces.get(&index).map(|known| &known.name) == name;
            if !going {
                self.interfaces.remove(&index);
            }
            return !going;
        };
        if of_port {
            return false;
        }
        let known = matches!(kind(link), Some(InfoKind::Veth | InfoKind::Bridge));
        if known && !deleted {
            let addresses = addresses.into_iter().chain(link_local(link)).collect();
            self.interfaces.insert(index, Interface { name: name.clone(), addresses });
        }
        !known
    }

    /// An address that the agent gave is known without a look, as is the one that the kernel derives from the MAC address.
    fn is_news_of_address(&self, message: AddressMessage) -> bool {
        let Some(given) = self.interfaces.get(&message.header.index) else { return true };
        Address::from_message(message).is_none_or(|address| !given.addresses.contains(&address.network))
    }

    /// So are the routes that come with it; those to a link's neighbours and to many at a time are nobody's concern.
    fn is_news_of_route(&self, message: &RouteMessage) -> bool {
        let Some(given) = self.interfaces.get(&route::interface(message)) else { return true };
        let own = |address: IpAddr| given.addresses.iter().any(|net| net.addr() == address);
        match message.header.kind {
            RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => false,
            RouteType::Local => route::local_address(message).is_none_or(|(_, address)| !own(address)),
            RouteType::Unicast => route::Route::from_message(message).iter().any(|route| {
                let with_address = given.addresses.iter().any(|net| net.trunc() == route.destination);
                route.gateway.is_some() || !(with_address || route.is_link_local())
            }),
            _ => true,
        }
    }
}

/// The link-local address that the kernel gives an interface by default.
fn link_local(link: &LinkMessage) -> Option<IpNet> {
    let mac = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
        _ => None,
    });
    Ipv6Net::new(V6::link_local_of(mac?).into(), 64).ok().map(IpNet::V6)
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

    use rtnetlink::RouteMessageBuilder;
    use rtnetlink::packet_route::address::AddressAttribute;
    use rtnetlink::packet_route::link::LinkFlags;

    use super::*;

    fn news() -> News {
        News::new(Arc::new(|name: &str| match name {
            "veth1" => Some(vec![]),
            "br-1" => Some(vec!["10.9.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()]),
            _ => None,
        }))
    }

    fn link(index: u32, name: &str, kind: InfoKind, up: bool) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        if up {
            link.header.flags = LinkFlags::Up;
        }
        link.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
        ];
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
        news.own = Arc::new(|_: &str| None);
        assert!(!news.is_news(&new(link(7, "veth1", InfoKind::Veth, false))));
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

    fn address(index: u32, text: &str) -> AddressMessage {
        let net: IpNet = text.parse().unwrap();
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = net.prefix_len();
        message.attributes = vec![AddressAttribute::Address(net.addr())];
        message
    }

    /// `kind` of route to a prefix through an interface, via a next hop if there is one.
    fn route(index: u32, kind: RouteType, to: &str, via: Option<&str>) -> RouteMessage {
        let to: IpNet = to.parse().unwrap();
        let builder = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to.addr(), to.prefix_len()).unwrap();
        let builder = builder.output_interface(index).kind(kind);
        match via {
            Some(via) => builder.gateway(via.parse().unwrap()).unwrap().build(),
            None => builder.build(),
        }
    }

    #[test]
    fn a_bridge_of_ours_is_no_news_with_what_it_was_given() {
        use RouteNetlinkMessage::{DelAddress, DelRoute, NewAddress, NewRoute};
        let mut news = news();
        let mut hears = |message| news.is_news(&bytes(vec![message]));
        let bridge = |up| link(3, "br-1", InfoKind::Bridge, up);
        assert!(hears(NewAddress(address(3, "10.9.0.1/24"))), "nobody knows yet what number 3 is");
        assert!(!hears(RouteNetlinkMessage::NewLink(bridge(false))));
        assert!(!hears(RouteNetlinkMessage::NewLink(bridge(true))));
        for (kind, to) in [
            (RouteType::Local, "10.9.0.1/32"),
            (RouteType::Unicast, "10.9.0.0/24"),
            (RouteType::Broadcast, "10.9.0.255/32"),
            (RouteType::Local, "fd00::1/128"),
            (RouteType::Unicast, "fd00::/64"),
            (RouteType::Anycast, "fd00::/128"),
            (RouteType::Unicast, "fe80::/64"),
            (RouteType::Local, "fe80::ff:fe00:3/128"),
            (RouteType::Multicast, "ff00::/8"),
        ] {
            assert!(!hears(NewRoute(route(3, kind, to, None))), "{to}");
            assert!(!hears(DelRoute(route(3, kind, to, None))), "{to}");
            assert!(hears(NewRoute(route(4, kind, to, None))), "{to} of another interface");
        }
        for text in ["10.9.0.1/24", "fd00::1/64", "fe80::ff:fe00:3/64"] {
            assert!(!hears(NewAddress(address(3, text))) && !hears(DelAddress(address(3, text))));
            assert!(hears(NewAddress(address(4, text))));
        }
        // What somebody else did to it.
        for text in ["10.9.0.2/24", "10.9.0.1/16", "fe80::1/64"] {
            assert!(hears(NewAddress(address(3, text))), "{text}");
        }
        assert!(hears(NewRoute(route(3, RouteType::Local, "10.9.0.2/32", None))));
        assert!(hears(NewRoute(route(3, RouteType::Unicast, "10.8.0.0/16", None))));
        assert!(hears(NewRoute(route(3, RouteType::Unicast, "10.9.0.0/24", Some("10.9.0.7")))));
        assert!(hears(NewRoute(route(3, RouteType::BlackHole, "10.9.0.0/24", None))));
        assert!(!hears(RouteNetlinkMessage::DelLink(bridge(true))));
        assert!(hears(NewAddress(address(3, "10.9.0.1/24"))), "another one may have its number");
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
