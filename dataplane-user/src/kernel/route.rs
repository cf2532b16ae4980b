//! Routes: the default routes of a container's interface, and a view of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::error::{Context, Result};
use super::link::{Link, Netlink, io_error};

/// A unicast route of the main table, through one interface. A multipath route counts once for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: IpNet,
    pub(super) ifindex: u32,
    pub(super) gateway: Option<IpAddr>,
    pub(super) preferred_source: Option<IpAddr>,
    pub(super) priority: u32,
}

/// What the routing tables say.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    /// The unicast routes of the main table.
    pub(super) unicast: Vec<Route>,
    /// The single addresses that the host takes as its own (type local; broadcast and anycast are other types), each with its interface.
    pub(super) local: Vec<(u32, IpAddr)>,
}

impl Netlink {
    /// The routes of both families.
    pub(super) fn routes(&self) -> Result<Routes> {
        let mut routes = Routes::default();
        self.each_route(|message| {
            routes.unicast.extend(Route::from_message(&message));
            routes.local.extend(local_address(&message));
        })?;
        Ok(routes)
    }

    /// Makes the default routes through `link` exactly those via `gateways`. Returns whether anything was to do.
    pub(super) async fn set_default_routes(&self, link: &Link, gateways: &[IpAddr]) -> Result<bool> {
        let (mut present, mut unwanted) = (Vec::new(), Vec::new());
        self.each_route(|message| {
            let routes = Route::from_message(&message);
            let [route] = routes.as_slice() else { return };
            if route.ifindex != link.ifindex || route.destination.prefix_len() != 0 {
                return;
            }
            match route.gateway {
                Some(gateway) if gateways.contains(&gateway) => present.push(gateway),
                _ => unwanted.push(message),
            }
        })?;
        let mut changed = !unwanted.is_empty();
        for message in unwanted {
            match self.handle.route().del(message).execute().await.map_err(io_error) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => result.to(|| format!("remove a default route from {}", link.name))?,
            }
        }
        for gateway in gateways.iter().filter(|gateway| !present.contains(gateway)) {
            changed = true;
            self.add_default_route(link, *gateway).await?;
        }
        Ok(changed)
    }

    /// Gives default routes to an interface that was just made, and so has none.
    pub(super) async fn add_default_routes(&self, link: &Link, gateways: &[IpAddr]) -> Result<()> {
        for gateway in gateways {
            self.add_default_route(link, *gateway).await?;
        }
        Ok(())
    }

    async fn add_default_route(&self, link: &Link, gateway: IpAddr) -> Result<()> {
        let message = default_route(gateway, link.ifindex);
        // Replacing lets the default route move to this interface before the other one has given it up.
        let added = self.handle.route().add(message).replace().execute().await;
        added.map_err(io_error).to(|| format!("add the default route via {gateway} to {}", link.name))
    }

    /// Adds those of these routes through `link` that are missing; others stay. Returns whether anything was to do.
    pub(super) async fn add_routes(&self, link: &Link, routes: &[(IpNet, IpAddr)]) -> Result<bool> {
        if routes.is_empty() {
            return Ok(false);
        }
        let present = self.routes()?.unicast;
        let mut changed = false;
        for &(destination, gateway) in routes {
            let is_it = |route: &Route| {
                (route.ifindex, route.destination, route.gateway) == (link.ifindex, destination, Some(gateway))
            };
            if present.iter().any(is_it) {
                continue;
            }
            changed = true;
            let message = route(destination, gateway, link.ifindex);
            let added = self.handle.route().add(message).replace().execute().await;
            added.map_err(io_error).to(|| format!("add the route to {destination} via {gateway} to {}", link.name))?;
        }
        Ok(changed)
    }

    /// Goes through the routes of both families.
    fn each_route(&self, mut take: impl FnMut(RouteMessage)) -> Result<()> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let take = |message| match message {
                // Without IPv6 in the kernel, asking for its routes is answered with those of all families.
                RouteNetlinkMessage::NewRoute(message) if message.header.address_family == family => take(message),
                _ => {}
            };
            self.list(RouteNetlinkMessage::GetRoute(request), take).to(|| "list the routes")?;
        }
        Ok(())
    }
}

impl Route {
    /// Whether it leads to the link-local addresses of the neighbours only, as one of every IPv6 interface does.
    pub(super) fn is_link_local(&self) -> bool {
        matches!(self.destination, IpNet::V6(destination) if destination.prefix_len() >= 10 && destination.addr().is_unicast_link_local())
    }

    /// Empty unless it is a unicast route of the main table.
    pub(super) fn from_message(message: &RouteMessage) -> Vec<Self> {
        let mut table = u32::from(message.header.table);
        let mut destination = None;
        let mut hops = Vec::new();
        let mut ifindex = None;
        let mut via = None;
        let mut preferred_source = None;
        let mut priority = 0;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(value) => table = *value,
                RouteAttribute::Destination(value) => destination = address(value),
                RouteAttribute::Oif(value) => ifindex = Some(*value),
                RouteAttribute::MultiPath(value) => {
                    hops = value.iter().map(|hop| (hop.interface_index, gateway(&hop.attributes))).collect()
                }
                RouteAttribute::PrefSource(value) => preferred_source = address(value),
                RouteAttribute::Priority(value) => priority = *value,
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => {
                    via = gateway(std::slice::from_ref(attribute)).or(via)
                }
                _ => {}
            }
        }
        if message.header.kind != RouteType::Unicast || table != u32::from(RouteHeader::RT_TABLE_MAIN) {
            return Vec::new();
        }
        let any = match message.header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let Ok(destination) = IpNet::new(destination.unwrap_or(any), message.header.destination_prefix_length) else {
            return Vec::new();
        };
        hops.extend(ifindex.map(|ifindex| (ifindex, via)));
        hops.into_iter()
            .map(|(ifindex, gateway)| Self { destination, ifindex, gateway, preferred_source, priority })
            .collect()
    }
}

/// The address that a route of type local is for, and its interface; whole networks of them (127.0.0.0/8) are passed over.
pub(super) fn local_address(message: &RouteMessage) -> Option<(u32, IpAddr)> {
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(value) => address(value),
        _ => None,
    })?;
    let whole = if destination.is_ipv4() { 32 } else { 128 };
    (message.header.kind == RouteType::Local && message.header.destination_prefix_length == whole)
        .then_some((interface(message), destination))
}

/// The interface that a route leads through; 0 if there are several or none.
pub(super) fn interface(message: &RouteMessage) -> u32 {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    });
    found.unwrap_or_default()
}

fn default_route(gateway: IpAddr, ifindex: u32) -> RouteMessage {
    match gateway {
        IpAddr::V4(gateway) => {
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(ifindex).build()
        }
        IpAddr::V6(gateway) => {
            RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).output_interface(ifindex).build()
        }
    }
}

/// A route of one family; destination and gateway have been compared.
fn route(destination: IpNet, gateway: IpAddr, ifindex: u32) -> RouteMessage {
    let mut message = default_route(gateway, ifindex);
    message.header.destination_prefix_length = destination.prefix_len();
    message.attributes.push(RouteAttribute::Destination(match destination.network() {
        IpAddr::V4(network) => RouteAddress::Inet(network),
        IpAddr::V6(network) => RouteAddress::Inet6(network),
    }));
    message
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(value) => address(value),
        RouteAttribute::Via(RouteVia::Inet(value)) => Some((*value).into()),
        RouteAttribute::Via(RouteVia::Inet6(value)) => Some((*value).into()),
        _ => None,
    })
}

fn address(value: &RouteAddress) -> Option<IpAddr> {
    match value {
        RouteAddress::Inet(value) => Some((*value).into()),
        RouteAddress::Inet6(value) => Some((*value).into()),
        _ => None,
    }
}
