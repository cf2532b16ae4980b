//! Looking at a network namespace and changing nothing: what is there already, and what is not as it should be.

use super::error::Result;
use super::link::{Link, Netlink};
use super::netns::NetNs;
use super::route::Route;
use super::veth::VethSpec;

/// What there is in a namespace that somebody else made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The names of all interfaces.
    pub interfaces: Vec<String>,
    /// The interface with the IPv4 default route.
    pub default_v4: Option<String>,
    /// The interface with the IPv6 default route.
    pub default_v6: Option<String>,
}

impl Netlink {
    /// What there is in the namespace that this connection leads to.
    pub fn inventory(&self) -> Result<Inventory> {
        let (links, routes) = (self.links()?, self.routes()?);
        let through = |v6: bool| {
            let mut defaults = routes.unicast.iter().filter(|route| is_default(route, v6));
            let link = |route: &Route| links.iter().find(|link| link.ifindex == route.ifindex);
            defaults.find_map(link).map(|link| link.name.clone())
        };
        let (default_v4, default_v6) = (through(false), through(true));
        Ok(Inventory { interfaces: links.into_iter().map(|link| link.name).collect(), default_v4, default_v6 })
    }

    /// What is not as `spec` says of a veth pair, a sentence each; empty if all is well.
    pub async fn faults(&self, spec: &VethSpec, netns: &NetNs) -> Result<Vec<String>> {
        let inside = Self::open_in(netns)?;
        let mut faults = Vec::new();
        match self.link(&spec.host_name).await? {
            None => faults.push(format!("interface {} is missing on the host", spec.host_name)),
            Some(link) if link.alias != spec.alias => faults.push(format!("interface {} is another one", link.name)),
            Some(link) => faults.extend(off(&link, "on the host")),
        }
        let name = &spec.container_name;
        let Some(link) = inside.link(name).await? else {
            faults.push(format!("interface {name} is missing in the namespace"));
            return Ok(faults);
        };
        faults.extend(off(&link, "in the namespace"));
        if link.mac != Some(spec.mac) {
            faults.push(format!("interface {name} has another MAC address"));
        }
        let addresses = inside.addresses()?;
        let here = |wanted| addresses.iter().any(|a| a.ifindex == link.ifindex && a.network == wanted);
        let missing = spec.addresses.iter().filter(|wanted| !here(**wanted));
        faults.extend(missing.map(|wanted| format!("interface {name} has no address {wanted}")));
        let routes = inside.routes()?.unicast;
        let leads = |gateway| {
            let mut routes = routes.iter();
            routes.any(|r| r.ifindex == link.ifindex && r.destination.prefix_len() == 0 && r.gateway == Some(gateway))
        };
        let missing = spec.gateways.iter().filter(|gateway| !leads(**gateway));
        faults.extend(missing.map(|gateway| format!("the default route via {gateway} is missing")));
        let has = |(destination, gateway)| {
            routes.iter().any(|r| (r.ifindex, r.destination, r.gateway) == (link.ifindex, destination, Some(gateway)))
        };
        let missing = spec.routes.iter().filter(|route| !has(**route));
        faults.extend(missing.map(|(to, gateway)| format!("the route to {to} via {gateway} is missing")));
        Ok(faults)
    }
}

fn off(link: &Link, place: &str) -> Option<String> {
    (!link.up).then(|| format!("interface {} is switched off {place}", link.name))
}

fn is_default(route: &Route, v6: bool) -> bool {
    route.destination.prefix_len() == 0 && route.destination.addr().is_ipv6() == v6
}
