//! Links, addresses, routes and neighbours of a namespace, by rtnetlink: made for set-ups, listed for checks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};

use crate::fail::OrFail;
use crate::family::Family;
use crate::net::{Net, PATIENCE};
use crate::process::within;

/// The priority of a default route, unless there is more than one: 0 would be taken for 1024 in IPv6.
const PRIORITY: u32 = 100;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is: `veth`, `bridge`, ...; empty for hardware and loopback.
    pub kind: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The largest packet that it takes.
    pub mtu: u32,
    /// Whether it has been brought up.
    pub up: bool,
    /// The number of the bridge that it is a port of.
    pub master: Option<u32>,
    /// Of a veth: the number of its other end, in that one's namespace.
    pub peer: Option<u32>,
}

impl Net {
    /// Asks the kernel, in this namespace.
    #[track_caller]
    pub(crate) fn netlink<T: Send>(
        &self,
        what: &str,
        ask: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error> + Send,
    ) -> T {
        let answer = self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = new_connection()?;
                tokio::spawn(connection);
                tokio::time::timeout(PATIENCE, ask(handle)).await?.map_err(std::io::Error::other)
            })
        });
        answer.or_fail(format_args!("{what} in {}", self.name()))
    }

    /// All interfaces.
    #[track_caller]
    pub fn links(&self) -> Vec<Link> {
        let links = self.netlink("list links", async |handle| all(handle.link().get().execute()).await);
        links.iter().map(Link::from).collect()
    }

    /// The interface of this name, which must be there.
    #[track_caller]
    pub fn link(&self, name: &str) -> Link {
        let links = self.links();
        match links.iter().find(|link| link.name == name) {
            Some(link) => link.clone(),
            None => panic!("{} has no interface {name}: {links:?}", self.name()),
        }
    }

    /// Brings an interface up.
    #[track_caller]
    pub fn set_up(&self, interface: &str) {
        let index = self.link(interface).index;
        self.netlink("bring a link up", async |handle| {
            handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
        });
    }

    /// Plugs an interface into a bridge.
    #[track_caller]
    pub fn plug(&self, interface: &str, bridge: &str) {
        let (index, bridge) = (self.link(interface).index, self.link(bridge).index);
        self.netlink("plug a link into a bridge", async |handle| {
            handle.link().set(LinkUnspec::new_with_index(index).controller(bridge).build()).execute().await
        });
    }

    /// Takes an interface away.
    #[track_caller]
    pub fn delete_link(&self, interface: &str) {
        let index = self.link(interface).index;
        self.netlink("delete a link", async |handle| handle.link().del(index).execute().await);
    }

    /// Lays a cable: a veth with its one end `name` here and the other end `other_name` in `other`, both up.
    #[track_caller]
    pub fn cable(&self, name: &str, other: &Net, other_name: &str) {
        self.netlink("make a veth", async |handle| {
            handle.link().add(LinkVeth::new(name, other_name).build()).execute().await?;
            let far = LinkUnspec::new_with_name(other_name).setns_by_fd(other.namespace().as_raw_fd()).build();
            handle.link().set(far).execute().await
        });
        self.set_up(name);
        other.set_up(other_name);
    }

    /// Makes a bridge without ports, up.
    #[track_caller]
    pub fn add_bridge(&self, name: &str) {
        self.netlink("make a bridge", async |handle| {
            handle.link().add(LinkBridge::new(name).up().build()).execute().await
        });
    }

    /// Gives an interface an address, and waits until it can be used.
    #[track_caller]
    pub fn add_address(&self, interface: &str, address: IpAddr, prefix: u8) {
        let index = self.link(interface).index;
        self.netlink("add an address", async |handle| handle.address().add(index, address, prefix).execute().await);
        // The kernel takes an IPv6 address into its routes a moment later.
        let used = || self.is_local(address).then_some(());
        within(PATIENCE, used).ok_or("it is not used").or_fail(format_args!("add {address} to {}", self.name()));
    }

    /// Whether packets for this address stay here.
    fn is_local(&self, address: IpAddr) -> bool {
        let is_destination = |attribute: &RouteAttribute| match attribute {
            RouteAttribute::Destination(destination) => ip(destination) == Some(address),
            _ => false,
        };
        let local = |route: &RouteMessage| route.header.table == libc::RT_TABLE_LOCAL;
        let routes = self.all_routes(Family::of(address));
        routes.iter().any(|route| local(route) && route.attributes.iter().any(is_destination))
    }

    /// All addresses, as `(interface number, address, prefix length)`.
    #[track_caller]
    pub fn addresses(&self) -> Vec<(u32, IpAddr, u8)> {
        let messages = self.netlink("list addresses", async |handle| all(handle.address().get().execute()).await);
        let read = messages.iter().filter_map(|message| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })?;
            Some((message.header.index, address, message.header.prefix_len))
        });
        read.collect()
    }

    /// Sends everything without a better route through `gateway`.
    #[track_caller]
    pub fn add_default_route(&self, gateway: IpAddr) {
        self.add_route(Family::of(gateway).any(), 0, gateway);
    }

    /// Sends packets for `destination/prefix` through `gateway`. A later route to the same place ranks behind.
    #[track_caller]
    pub fn add_route(&self, destination: IpAddr, prefix: u8, gateway: IpAddr) {
        let same = format!("{destination}/{prefix} ");
        let earlier = self.routes().iter().filter(|route| route.starts_with(&same)).count() as u32;
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination, prefix)
            .and_then(|route| route.gateway(gateway))
            .or_fail(format_args!("route {destination}/{prefix} via {gateway}"))
            .priority(PRIORITY + earlier)
            .build();
        self.netlink("add a route", async |handle| handle.route().add(route).execute().await);
    }

    /// All routes to elsewhere, which is not to the addresses of this namespace itself, each as
    /// `destination/prefix via gateway dev name`.
    #[track_caller]
    pub fn routes(&self) -> Vec<String> {
        let names: BTreeMap<u32, String> = self.links().into_iter().map(|link| (link.index, link.name)).collect();
        let lists = Family::BOTH.map(|family| {
            let routes = self.all_routes(family);
            let elsewhere = routes.iter().filter(|route| route.header.table != libc::RT_TABLE_LOCAL);
            elsewhere.map(|route| shown_route(family, route, &names)).collect::<Vec<_>>()
        });
        lists.concat()
    }

    #[track_caller]
    fn all_routes(&self, family: Family) -> Vec<RouteMessage> {
        let question = match family {
            Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        self.netlink("list routes", async |handle| all(handle.route().get(question).execute()).await)
    }

    /// The MAC address that this namespace holds for a neighbour, if it knows one.
    #[track_caller]
    pub fn neighbour(&self, address: IpAddr) -> Option<[u8; 6]> {
        let neighbours = self.netlink("list neighbours", async |handle| all(handle.neighbours().get().execute()).await);
        neighbours.iter().find_map(|neighbour| {
            let of = neighbour.attributes.iter().any(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => IpAddr::V4(*a) == address,
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => IpAddr::V6(*a) == address,
                _ => false,
            });
            neighbour.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) if of => mac.as_slice().try_into().ok(),
                _ => None,
            })
        })
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: String::new(),
            mac: [0; 6],
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            master: None,
            peer: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Link(index) => link.peer = Some(*index),
                LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind).unwrap_or_default(),
                _ => {}
            }
        }
        link
    }
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Veth) => Some("veth".into()),
        LinkInfo::Kind(InfoKind::Bridge) => Some("bridge".into()),
        LinkInfo::Kind(kind) => Some(format!("{kind:?}").to_lowercase()),
        _ => None,
    }
}

fn shown_route(family: Family, route: &RouteMessage, names: &BTreeMap<u32, String>) -> String {
    let (mut destination, mut rest) = (family.any(), String::new());
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address).unwrap_or(destination),
            RouteAttribute::Gateway(address) => rest += &ip(address).map(|a| format!(" via {a}")).unwrap_or_default(),
            RouteAttribute::Oif(index) => rest += &format!(" dev {}", names.get(index).map_or("?", String::as_str)),
            _ => {}
        }
    }
    format!("{destination}/{}{rest}", route.header.destination_prefix_length)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

async fn all<T>(answers: impl Stream<Item = Result<T, rtnetlink::Error>>) -> Result<Vec<T>, rtnetlink::Error> {
    answers.try_collect().await
}
