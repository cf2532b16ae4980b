//! A container's places on networks: chosen, made, moved and taken away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;

use super::attach::{sandbox_netns, vanished};
use super::engine::{handed_away, handed_interface, not_ours_to_connect};
use super::error::Troubles;
use super::state::{Agent, HostEnd};
use crate::kernel::announce::announce;
use crate::kernel::dataplane::{EndpointConfig, Limit, Limits};
use crate::kernel::{Bridge, NetNs, VethSpec, netns};
use crate::model::{
    Attachment, Bandwidth, Container, Driver, Endpoint, EndpointRequest, Error, Id, MacAddress, Network, Rate, Result,
    State, default_route_endpoint,
};
use crate::store::Change;

/// What the neighbours of a new endpoint are to be told.
pub(super) struct Announcement {
    pub(super) netns: NetNs,
    pub(super) ifindex: u32,
    pub(super) mac: [u8; 6],
    pub(super) addresses: Vec<IpAddr>,
    /// What it is called in the log.
    pub(super) interface: String,
}

impl Announcement {
    /// Tells them, once.
    pub(super) fn send(&self) {
        if let Err(error) = announce(&self.netns, self.ifindex, self.mac, &self.addresses) {
            // Neighbours find the addresses all the same, only later.
            tracing::warn!("announcing the addresses of {}: {error}", self.interface);
        }
    }
}

impl Agent {
    /// Chooses an endpoint for a container. What it has is taken from here on.
    pub(super) fn allocate_endpoint(
        &mut self,
        network: &Network,
        container: &Container,
        request: &EndpointRequest,
    ) -> Result<Endpoint> {
        if network.is_predefined() && request.has_address() {
            return Err(Error::Invalid(format!(
                "user specified IP address is supported on user defined networks only, not on {}",
                network.name
            )));
        }
        for wanted in [request.ipv4.map(IpAddr::V4), request.ipv6.map(IpAddr::V6)].into_iter().flatten() {
            let owner = self.members(&network.id).find(|(_, endpoint)| endpoint.addresses().any(|a| a == wanted));
            if let Some((owner, _)) = owner {
                return Err(Error::Conflict(format!(
                    "Address already in use: {wanted} belongs to container {} on network {}",
                    owner.name, network.name
                )));
            }
        }
        if network.driver == Driver::Macvlan && !request.bandwidth.is_unlimited() {
            return Err(Error::Invalid(format!(
                "the bandwidth of containers on network {} cannot be limited: it is a macvlan network",
                network.name
            )));
        }
        self.check_passthru(network)?;
        let request = self.resolve_links(network, request)?;
        let mac = request.mac.unwrap_or_else(MacAddress::random);
        if let Some((owner, _)) = self.members(&network.id).find(|(_, endpoint)| endpoint.mac == mac) {
            return Err(Error::Conflict(format!(
                "MAC address already in use: {mac} belongs to container {} on network {}",
                owner.name, network.name
            )));
        }
        self.check_addresses(network, container, &request)?;
        let kept = self.kept_addresses(&network.id);
        let ipv4 = self.ipam.allocate(network, false, request.ipv4.map(IpAddr::V4), &kept)?;
        let rest = match self.ipam.allocate(network, true, request.ipv6.map(IpAddr::V6), &kept) {
            Ok(ipv6) => self.take_endpoint_slot().map(|slot| (ipv6, slot)).inspect_err(|_| {
                self.release_address(network, ipv6);
            }),
            Err(error) => Err(error),
        };
        let (ipv6, slot) = rest.inspect_err(|_| self.release_address(network, ipv4))?;
        let outside = !network.internal;
        let endpoint = Endpoint {
            id: Id::random(),
            network: network.id,
            network_name: network.name.clone(),
            slot,
            driver: network.driver,
            internal: network.internal,
            mac,
            ipv4: ipv4.and_then(|net| if let IpNet::V4(net) = net { Some(net) } else { None }),
            ipv6: ipv6.and_then(|net| if let IpNet::V6(net) = net { Some(net) } else { None }),
            gateway_v4: network.gateway_v4().filter(|_| outside),
            gateway_v6: network.gateway_v6().filter(|_| outside),
            mode_v4: network.gateway_mode(false),
            mode_v6: network.gateway_mode(true),
            trusts: !network.bridge_options.trusted_interfaces.is_empty(),
            interface: free_interface(&network.bridge_options.interface_prefix, container),
            host_interface: match network.driver {
                Driver::Macvlan => String::new(),
                _ => self.free_host_interface(),
            },
            requested: request,
        };
        self.own_interfaces.add(&endpoint.host_interface, Vec::new());
        Ok(endpoint)
    }

    /// Addresses that stopped containers asked for or that engines have for theirs: nobody gets them by chance.
    fn kept_addresses(&self, network: &Id) -> Vec<IpAddr> {
        let attachments = self.containers.values().flat_map(|container| &container.attachments);
        let here = attachments.filter(|attachment| attachment.network == *network);
        let wanted = here.flat_map(|attachment| {
            let EndpointRequest { ipv4, ipv6, .. } = &attachment.requested;
            [ipv4.map(IpAddr::V4), ipv6.map(IpAddr::V6)]
        });
        wanted.flatten().chain(self.given_out(network)).collect()
    }

    fn release_address(&mut self, network: &Network, address: Option<IpNet>) {
        if let Some(address) = address {
            self.ipam.release(&network.id, address.addr());
        }
    }

    /// Gives back what [`Agent::allocate_endpoint`] took.
    pub(super) fn release_endpoint(&mut self, endpoint: &Endpoint) {
        for address in endpoint.addresses() {
            self.ipam.release(&endpoint.network, address);
        }
        self.endpoint_slots.remove(endpoint.slot.into());
        self.own_interfaces.remove(&endpoint.host_interface);
    }

    /// `veth` and seven hex digits that no endpoint has yet.
    fn free_host_interface(&self) -> String {
        loop {
            let name = format!("veth{}", &Id::random().short()[..7]);
            let taken = self.containers.values().flat_map(|c| &c.endpoints).any(|e| e.host_interface == name);
            if !taken {
                return name;
            }
        }
    }

    /// Makes the veth of an endpoint as it is on record, or mends it; cheap when nothing is wrong. What there is to announce is for
    /// when the endpoint has its place in the data plane, which takes it to the neighbours.
    pub(super) async fn ensure_veth(
        &mut self,
        container: &Id,
        endpoint: &Id,
    ) -> Result<(EndpointConfig, Option<Announcement>)> {
        let unknown = || Error::Internal("the endpoint is not on record".into());
        let container = self.containers.get(container).ok_or_else(unknown)?;
        let endpoint = container.endpoints.iter().find(|e| e.id == *endpoint).ok_or_else(unknown)?.clone();
        let network = self.networks.get(&endpoint.network).ok_or_else(unknown)?;
        let bridge = self.bridges.get(&endpoint.network).ok_or_else(|| {
            Error::Internal(format!("the bridge {} of network {} is missing", network.bridge, network.name))
        })?;
        let spec = self.veth_spec(container, &endpoint, network, bridge);
        self.own_interfaces.add(&spec.host_name, Vec::new());
        let (id, slot) = (container.id, network.slot);
        let (veth, netns) = match container.engine() {
            Some(engine) => {
                let new = container.state == State::Created;
                let gone = || handed_away(container, engine, &endpoint);
                (self.netlink.ensure_handed_veth(&spec, new).await?.ok_or_else(gone)?, None)
            }
            None => {
                let netns = self.open_netns(container)?;
                (self.netlink.ensure_veth(&spec, &netns).await?, Some(netns))
            }
        };
        if let Some(live) = self.live.get_mut(&id) {
            live.netns = netns.as_ref().map(NetNs::id).transpose()?;
            live.interfaces.insert(endpoint.slot, HostEnd { ifindex: veth.ifindex, bridged: veth.bridged });
        }
        let announcement = netns.filter(|_| veth.changed).map(|netns| Announcement {
            netns,
            ifindex: veth.container_ifindex,
            mac: spec.mac,
            addresses: endpoint.addresses().collect(),
            interface: spec.host_name.clone(),
        });
        let config = EndpointConfig {
            slot: endpoint.slot,
            network: slot,
            ifname: spec.host_name,
            ifindex: veth.ifindex,
            bridged: veth.bridged,
            mac: spec.mac,
            ipv4: endpoint.ipv4.map(|net| net.addr()),
            ipv6: endpoint.ipv6.map(|net| net.addr()),
            limits: limits(&endpoint.requested.bandwidth),
        };
        Ok((config, announcement))
    }

    /// An endpoint's veth as it ought to be.
    pub(super) fn veth_spec(
        &self,
        container: &Container,
        endpoint: &Endpoint,
        network: &Network,
        bridge: &Bridge,
    ) -> VethSpec {
        VethSpec {
            host_name: endpoint.host_interface.clone(),
            container_name: match container.engine() {
                Some(_) => handed_interface(endpoint),
                None => endpoint.interface.clone(),
            },
            alias: self.paths.alias(),
            bridge_ifindex: bridge.ifindex,
            mac: endpoint.mac.bytes(),
            mtu: network.bridge_options.mtu,
            addresses: prefixes(endpoint),
            gateways: default_routes(container, endpoint),
            routes: static_routes(endpoint),
        }
    }

    /// A running container's namespace, also when somebody has taken its mount away.
    pub(super) fn open_netns(&self, container: &Container) -> Result<NetNs> {
        if let Some(sandbox) = &container.sandbox {
            return sandbox_netns(sandbox)?.ok_or_else(|| vanished(container, sandbox));
        }
        let path = self.paths.netns(container);
        match container.state {
            State::Running { pid, .. } if !netns::is_alive(&path) => {
                tracing::warn!("the namespace {} is gone, taking it from process {pid}", path.display());
                Ok(NetNs::open(Path::new(&format!("/proc/{pid}/ns/net")))?)
            }
            _ => Ok(NetNs::open(&path)?),
        }
    }

    /// Makes or mends an endpoint: its veth and its place in the data plane.
    pub(super) async fn ensure_endpoint(&mut self, container: &Id, endpoint: &Id) -> Result<()> {
        if let Some(container) = self.containers.get(container)
            && let Some(endpoint) = container.endpoints.iter().find(|e| e.id == *endpoint)
            && endpoint.driver == Driver::Macvlan
        {
            return self.ensure_macvlan(container, endpoint).await;
        }
        let (config, announcement) = self.ensure_veth(container, endpoint).await?;
        self.dataplane.set_endpoint(&config)?;
        announcement.iter().for_each(Announcement::send);
        Ok(())
    }

    /// Takes an endpoint out of the kernel; its flows end at once.
    pub(super) async fn clear_endpoint(&mut self, container: &Id, endpoint: &Endpoint) -> Troubles {
        if endpoint.driver == Driver::Macvlan {
            return match self.containers.get(container) {
                Some(container) => self.clear_macvlan(container, endpoint).await,
                None => Troubles::default(),
            };
        }
        let mut troubles = Troubles::default();
        troubles.note(self.dataplane.remove_endpoint(endpoint.slot));
        troubles.extend(self.delete_own_link(&endpoint.host_interface).await);
        let gone = self.live.get_mut(container).and_then(|live| live.interfaces.remove(&endpoint.slot));
        if gone.is_some_and(|end| end.bridged) {
            troubles.note(self.fill_bridge(&endpoint.network).await);
        }
        troubles
    }

    /// Gives a port of a network's bridge that has become free to an endpoint that found none.
    async fn fill_bridge(&mut self, network: &Id) -> Result<()> {
        let unbridged = |container: &Container, endpoint: &Endpoint| {
            let end = self.live.get(&container.id).and_then(|live| live.interfaces.get(&endpoint.slot));
            end.is_some_and(|end| !end.bridged)
        };
        let next = self.members(network).find(|(container, endpoint)| unbridged(container, endpoint));
        match next.map(|(container, endpoint)| (container.id, endpoint.id)) {
            Some((container, endpoint)) => self.ensure_endpoint(&container, &endpoint).await,
            None => Ok(()),
        }
    }

    /// Joins a container to a further network; one that does not run joins it at its next start.
    pub(super) async fn connect(&mut self, network: String, container: String, request: EndpointRequest) -> Result<()> {
        let network = self.network(&network)?.clone();
        let old = self.container(&container)?.clone();
        self.check_connectable(&network, &old)?;
        if old.endpoint_on(&network.id).is_some() || old.attachments.iter().any(|a| a.network == network.id) {
            return Err(Error::Forbidden(format!(
                "endpoint with name {} already exists in network {}",
                old.name, network.name
            )));
        }
        let endpoint = self.allocate_endpoint(&network, &old, &request)?;
        let mut new = old.clone();
        if !old.is_running() {
            self.release_endpoint(&endpoint);
            new.attachments.push(endpoint.into());
            return self.rewrite(new);
        }
        new.endpoints.push(endpoint.clone());
        if let Err(error) = self.reshape(&old, new).await {
            self.release_endpoint(&endpoint);
            return Err(error);
        }
        self.tell_membership("connect", &old.id, (network.id, &network.name, network.driver));
        tracing::info!(container = old.name, network = network.name, "connected");
        Ok(())
    }

    /// Takes a container off a network.
    pub(super) async fn disconnect(&mut self, network: String, container: String, force: bool) -> Result<()> {
        let old = self.container(&container)?.clone();
        if let Some(engine) = old.engine() {
            return Err(not_ours_to_connect(&old, engine, "disconnect"));
        }
        // One that does not run may still be told to join a network that is no more.
        let found = self.network(&network).map(|network| network.id);
        let named = |attachment: &Attachment| match &found {
            Ok(id) => attachment.network == *id,
            Err(_) => attachment.network_name == network || attachment.network.to_string() == network,
        };
        if old.attachments.iter().any(named) {
            let mut new = old.clone();
            new.attachments.retain(|attachment| !named(attachment));
            self.rewrite(new)?;
            // As Docker does: it tells of leaving, and of joining only when the container starts.
            if let Some(network) = found.ok().and_then(|id| self.networks.get(&id)) {
                self.tell_membership("disconnect", &old.id, (network.id, &network.name, network.driver));
            }
            return Ok(());
        }
        let network = self.network(&network)?.clone();
        let Some(endpoint) = old.endpoint_on(&network.id).cloned() else {
            if force {
                return Ok(());
            }
            return Err(Error::Forbidden(format!(
                "container {} is not connected to network {}",
                old.name, network.name
            )));
        };
        let mut new = old.clone();
        new.endpoints.retain(|e| e.id != endpoint.id);
        self.reshape(&old, new).await?;
        self.release_endpoint(&endpoint);
        self.tell_membership("disconnect", &old.id, (network.id, &network.name, network.driver));
        tracing::info!(container = old.name, network = network.name, "disconnected");
        Ok(())
    }

    fn check_connectable(&self, network: &Network, container: &Container) -> Result<()> {
        if !network.driver.is_joined() {
            return Err(Error::Forbidden(format!(
                "container {} cannot be connected to network {}: that can only be chosen when it is made",
                container.name, network.name
            )));
        }
        if let Some(engine) = container.engine() {
            return Err(not_ours_to_connect(container, engine, "connect"));
        }
        match container.network_mode.as_str() {
            _ if container.shares().is_some() => Err(Error::Forbidden(
                "container sharing network namespace with another container cannot be connected to any other network"
                    .into(),
            )),
            "none" => Err(Error::Forbidden(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                    .into(),
            )),
            "host" => Err(Error::Forbidden(
                "container sharing the host's network namespace cannot be connected to another network".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Brings a running container from one set of endpoints to another, or leaves it as it was.
    pub(super) async fn reshape(&mut self, old: &Container, mut new: Container) -> Result<()> {
        // Whoever else wants these ports is found out before anything changes.
        self.claim_ports(old, &mut new)?;
        let result = match self.store.apply(&[Change::PutContainer(&new)]) {
            Ok(()) => self.apply_endpoints(old, &new).await,
            Err(error) => Err(error),
        };
        let Err(error) = result else {
            self.trim_ports(&new);
            return Ok(());
        };
        let mut troubles = Troubles::default();
        troubles.note(self.store.apply(&[Change::PutContainer(old)]));
        troubles.note(self.apply_endpoints(&new, old).await);
        self.unclaim_ports(old, &new);
        Err(troubles.onto(error))
    }

    async fn apply_endpoints(&mut self, old: &Container, new: &Container) -> Result<()> {
        self.containers.insert(new.id, new.clone());
        // All of them, because the default routes may have moved.
        for endpoint in &new.endpoints {
            self.ensure_endpoint(&new.id, &endpoint.id).await?;
        }
        self.announce_ports(&new.id)?;
        self.update_links()?;
        self.update_names(&new.id).await?;
        let mut troubles = Troubles::default();
        for gone in old.endpoints.iter().filter(|e| new.endpoint_on(&e.network).is_none()) {
            troubles.extend(self.clear_endpoint(&new.id, gone).await);
        }
        troubles.into_result()?;
        self.write_files(new)
    }
}

/// Addresses with their prefix lengths.
pub(super) fn prefixes(endpoint: &Endpoint) -> Vec<IpNet> {
    let v4 = endpoint.ipv4.map(IpNet::V4);
    let v6 = endpoint.ipv6.map(IpNet::V6);
    v4.into_iter().chain(v6).collect()
}

/// The gateways of the default routes that lead through this endpoint.
pub(super) fn default_routes(container: &Container, endpoint: &Endpoint) -> Vec<IpAddr> {
    let leads = |v6| default_route_endpoint(&container.endpoints, v6).is_some_and(|e| e.id == endpoint.id);
    let v4: Option<Ipv4Addr> = endpoint.gateway_v4.filter(|_| leads(false));
    let v6: Option<Ipv6Addr> = endpoint.gateway_v6.filter(|_| leads(true));
    v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect()
}

/// The further routes that lead through this endpoint, each with its next hop.
pub(super) fn static_routes(endpoint: &Endpoint) -> Vec<(IpNet, IpAddr)> {
    endpoint.requested.routes.iter().filter_map(|route| Some((route.destination, route.gateway?))).collect()
}

/// A container's bandwidth as the data plane has it.
fn limits(bandwidth: &Bandwidth) -> Limits {
    let limit = |limit: Option<Rate>| limit.map(|Rate { rate, burst }| Limit::new(rate, burst)).unwrap_or_default();
    Limits { ingress: limit(bandwidth.ingress), egress: limit(bandwidth.egress) }
}

/// The prefix and the lowest number that the container does not use yet.
pub(super) fn free_interface(prefix: &str, container: &Container) -> String {
    let mut names = (0u32..).map(|number| format!("{prefix}{number}"));
    // There are more numbers than endpoints.
    names.find(|name| container.endpoints.iter().all(|e| e.interface != *name)).unwrap_or_default()
}
