//! Making, mending and removing networks.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::endpoint::Announcement;
use super::error::Troubles;
use super::events::Event;
use super::handle::Created;
use super::host;
use super::state::{Agent, HostEnd};
use crate::ipam::{Surroundings, Wish, plan_subnets};
use crate::kernel::dataplane::{EndpointConfig, GatewayConfig, NetworkConfig};
use crate::kernel::{Bridge, BridgeSpec, Link};
use crate::model::{
    AddressBlock, BridgeOptions, Driver, Error, GatewayMode, Id, Network, NetworkCreate, Result, Scope, check_name,
};
use crate::store::Change;

/// The Linux bridge of the predefined network `bridge`.
const PREDEFINED_BRIDGE: &str = "spandrel0";

/// What IPv6 needs of every link (RFC 8200).
pub(super) const IPV6_MIN_MTU: u32 = 1280;

impl Agent {
    /// Makes a network for a user.
    pub(super) async fn create_network(&mut self, request: NetworkCreate) -> Result<Created<Network>> {
        check_name("network", &request.name)?;
        if let Some(other) = self.networks.values().find(|network| network.name == request.name) {
            if other.is_predefined() {
                return Err(Error::Forbidden(format!(
                    "operation is not permitted on predefined {} network",
                    other.name
                )));
            }
            return Err(Error::Conflict(format!("network with name {} already exists", other.name)));
        }
        let created = match request.driver.as_str() {
            "" | "bridge" => self.plan_network(request)?,
            "macvlan" => self.plan_macvlan(request).await?,
            driver => {
                return Err(Error::NotFound(format!(
                    "network driver {driver:?} not found: bridge and macvlan are those that can be used"
                )));
            }
        };
        self.install_network(&created.value).await?;
        self.events.tell(Event::of_network("create", &created.value));
        tracing::info!(network = created.value.name, id = %created.value.id, "network created");
        Ok(created)
    }

    /// Makes the predefined networks that are not on record yet.
    pub(super) async fn create_predefined(&mut self) -> Result<()> {
        for name in Network::PREDEFINED {
            if self.networks.values().any(|network| network.name == name) {
                continue;
            }
            let network = match name {
                "bridge" => {
                    let options = [("com.docker.network.bridge.name".to_string(), PREDEFINED_BRIDGE.to_string())];
                    let request =
                        NetworkCreate { name: name.into(), options: options.into(), ..NetworkCreate::default() };
                    self.plan_network(request)?.value
                }
                _ => bare_network(name, if name == "host" { Driver::Host } else { Driver::Null }),
            };
            self.install_network(&network).await?;
        }
        Ok(())
    }

    /// Chooses everything about a bridge network. Its slot is taken from here on.
    fn plan_network(&mut self, request: NetworkCreate) -> Result<Created<Network>> {
        let bridge_options = BridgeOptions::parse(&request.options)?;
        if request.enable_ipv6 == Some(true) && bridge_options.mtu < IPV6_MIN_MTU {
            return Err(Error::Invalid(format!(
                "invalid network option com.docker.network.driver.mtu={}: IPv6 needs at least {IPV6_MIN_MTU}",
                bridge_options.mtu
            )));
        }
        let modes = [bridge_options.gateway_mode_ipv4, bridge_options.gateway_mode_ipv6];
        if modes.contains(&GatewayMode::Isolated) && !request.internal {
            return Err(Error::Invalid(
                "gateway mode \"isolated\" can only be used for an internal network: give --internal as well".into(),
            ));
        }
        let wish = |v6| Wish::Subnet { gateway: bridge_options.needs_gateway(v6, request.internal) };
        let (ipv4, ipv6) = (wish(false), wish(true));
        let network = self.plan(request, Driver::Bridge, ipv4, ipv6)?;
        let bridge = bridge_options.bridge_name.clone().unwrap_or_else(|| format!("br-{}", network.value.id.short()));
        if let Some(other) = self.bridge_networks().find(|network| network.bridge == bridge) {
            return Err(Error::Conflict(format!("bridge name {bridge} is already used by network {}", other.name)));
        }
        let slot = self.take_network_slot()?;
        Ok(Created { value: Network { bridge_options, bridge, slot, ..network.value }, ..network })
    }

    /// What every driver's networks have: a place on record, and subnets of the families that are enabled.
    pub(super) fn plan(
        &self,
        request: NetworkCreate,
        driver: Driver,
        ipv4: Wish,
        ipv6: Wish,
    ) -> Result<Created<Network>> {
        let enable_ipv4 = request.enable_ipv4.unwrap_or(true);
        let enable_ipv6 = request.enable_ipv6.unwrap_or(false);
        let wish = |enabled, wish| if enabled { wish } else { Wish::Nothing };
        let (ipv4, ipv6) = (wish(enable_ipv4, ipv4), wish(enable_ipv6, ipv6));
        let surroundings = self.surroundings(&request)?;
        let plan = plan_subnets(&request.ipam, ipv4, ipv6, &surroundings, &self.pools)?;
        let bare = bare_network(&request.name, driver);
        let network = Network {
            id: request.engine.map_or(bare.id, |(_, id)| id),
            engine: request.engine.map(|(engine, _)| engine),
            internal: request.internal,
            enable_ipv4,
            enable_ipv6,
            subnets: plan.subnets,
            options: request.options,
            labels: request.labels,
            ..bare
        };
        Ok(Created { value: network, warnings: plan.warnings })
    }

    /// Puts a planned network on record and into the kernel, or nowhere.
    async fn install_network(&mut self, network: &Network) -> Result<()> {
        let result = match self.store.apply(&[Change::PutNetwork(network)]) {
            Ok(()) => {
                self.networks.insert(network.id, network.clone());
                self.ipam.add_network(network);
                self.ensure_network(&network.id).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            let mut troubles = Troubles::default();
            troubles.extend(self.clear_network(network).await);
            troubles.note(self.drop_network_record(network));
            return Err(troubles.onto(error));
        }
        Ok(())
    }

    /// Removes a network for a user.
    pub(super) async fn remove_network(&mut self, reference: String) -> Result<Network> {
        let network = self.network(&reference)?.clone();
        if network.is_predefined() {
            return Err(Error::Forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        let members: Vec<_> = self
            .members(&network.id)
            .map(|(container, _)| format!("name:{:?} id:{:?}", container.name, container.id.short()))
            .collect();
        if !members.is_empty() {
            return Err(Error::Forbidden(format!(
                "error while removing network: network {} has active endpoints ({}): disconnect or remove them first",
                network.name,
                members.join(", ")
            )));
        }
        let mut troubles = self.clear_network(&network).await;
        let failed = match troubles.is_empty() {
            true => self.drop_network_record(&network).err(),
            false => Some(Error::Internal(format!("network {} cannot be removed", network.name))),
        };
        if let Some(error) = failed {
            // Still there as far as anybody is told, so it has to work again.
            troubles.note(self.ensure_network(&network.id).await);
            return Err(troubles.onto(error));
        }
        self.events.tell(Event::of_network("destroy", &network));
        tracing::info!(network = network.name, id = %network.id, "network removed");
        Ok(network)
    }

    /// Removes the networks that nobody uses and that are `wanted`, as far as that goes; gives those that are gone.
    pub(super) async fn prune_networks(&mut self, wanted: impl Fn(&Network) -> bool) -> Vec<Network> {
        // Containers of an engine that do not run are nothing that we know of.
        let unused = |network: &&Network| {
            !network.is_predefined() && network.engine.is_none() && self.members(&network.id).next().is_none()
        };
        let unwanted = self.networks.values().filter(unused).filter(|network| wanted(network));
        let mut removed = Vec::new();
        for id in unwanted.map(|network| network.id.to_string()).collect::<Vec<_>>() {
            match self.remove_network(id).await {
                Ok(network) => removed.push(network),
                Err(error) => tracing::error!("removing an unused network: {error}"),
            }
        }
        self.events.tell(Event::of_prune());
        removed.sort_by(|a, b| a.name.cmp(&b.name));
        removed
    }

    fn drop_network_record(&mut self, network: &Network) -> Result<()> {
        self.store.apply(&[Change::RemoveNetwork(network.id)])?;
        self.networks.remove(&network.id);
        self.ipam.remove_network(&network.id);
        self.network_slots.remove(network.slot.into());
        Ok(())
    }

    /// Makes the kernel hold a network and its endpoints as they are on record, whatever is there now.
    pub(super) async fn ensure_network(&mut self, id: &Id) -> Result<()> {
        let Some(network) = self.networks.get(id).filter(|network| network.driver == Driver::Bridge).cloned() else {
            return Ok(());
        };
        let spec = BridgeSpec {
            name: network.bridge.clone(),
            alias: self.paths.alias(),
            mtu: network.bridge_options.mtu,
            mac: None,
            addresses: network.bridge_addresses().collect(),
        };
        self.own_interfaces.add(&network.bridge, spec.addresses.clone());
        let bridge = self.netlink.ensure_bridge(&spec).await?;
        if bridge.changed {
            // Its subnets may have been elsewhere before.
            self.dataplane.routes_changed()?;
        }
        let config = network_config(&network, &bridge);
        self.bridges.insert(network.id, bridge);

        let mut troubles = Troubles::default();
        let mut endpoints: Vec<EndpointConfig> = Vec::new();
        let mut announcements = Vec::new();
        let members: Vec<_> =
            self.members(&network.id).map(|(container, endpoint)| (container.id, endpoint.id)).collect();
        for (container, endpoint) in &members {
            if let Some((endpoint, announcement)) = troubles.note(self.ensure_veth(container, endpoint).await) {
                endpoints.push(endpoint);
                announcements.extend(announcement);
            }
        }
        // Whole before it is seen: the endpoints are in the network's map when that is put in place.
        self.dataplane.set_network(&config, &endpoints)?;
        for endpoint in &endpoints {
            troubles.note(self.dataplane.set_endpoint(endpoint));
        }
        announcements.iter().for_each(Announcement::send);
        troubles.into_result()
    }

    /// Takes a network's interfaces and maps out of the kernel.
    pub(super) async fn clear_network(&mut self, network: &Network) -> Troubles {
        let mut troubles = Troubles::default();
        if network.driver == Driver::Bridge {
            troubles.note(self.dataplane.remove_network(network.slot));
            troubles.extend(self.delete_own_link(&network.bridge).await);
            self.bridges.remove(&network.id);
            troubles.note(self.dataplane.routes_changed());
        }
        troubles
    }

    /// Deletes an interface if it bears our mark.
    pub(super) async fn delete_own_link(&mut self, name: &str) -> Troubles {
        let mut troubles = Troubles::default();
        let own = |alias: &str| alias == self.paths.alias();
        if let Some(Some(link)) = troubles.note(self.netlink.link(name).await)
            && own(&link.alias)
        {
            troubles.note(self.netlink.delete_link(name).await);
        }
        self.own_interfaces.remove(name);
        troubles
    }

    /// What a new network's subnets must keep clear of; an engine's network is where its own block of addresses is.
    fn surroundings(&self, request: &NetworkCreate) -> Result<Surroundings> {
        let mut surroundings = self.all_surroundings()?;
        if request.engine.is_some() {
            let asked = |block: &&AddressBlock| {
                let subnet = block.subnet.to_string();
                request.ipam.iter().any(|config| config.subnet.as_ref() == Some(&subnet))
            };
            let own: Vec<_> = self.blocks.values().filter(asked).map(|block| block.subnet).collect();
            let networks: Vec<_> = self.networks.values().flat_map(|network| &network.subnets).collect();
            let free = |net: &IpNet| own.contains(net) && networks.iter().all(|other| other.subnet != *net);
            surroundings.networks.retain(|(net, _)| !free(net));
        }
        Ok(surroundings)
    }

    /// What every new subnet must keep clear of.
    pub(super) fn all_surroundings(&self) -> Result<Surroundings> {
        let networks = self.networks.values();
        let networks = networks
            .flat_map(|network| network.subnets.iter().map(|s| (s.subnet, format!("network {}", network.name))));
        let networks: Vec<_> = networks.collect();
        // Until the network is there, nobody knows what it will be called.
        let whose =
            |block: &AddressBlock| format!("{}, which has asked for it and has no network there yet", block.engine);
        let blocks = self.blocks.values().map(|block| (block.subnet, whose(block)));
        let blocks: Vec<_> = blocks.filter(|(net, _)| networks.iter().all(|(other, _)| other != net)).collect();
        let networks = networks.into_iter().chain(blocks).collect();
        let mut host = self.host.routes.clone();
        host.extend(host::resolvers().into_iter().map(IpNet::from));
        Ok(Surroundings { networks, host })
    }

    /// Lists all interfaces, for [`Agent::mend`]. That takes the longer the more there are, and nobody waits for it.
    pub(super) fn look(&self) -> JoinHandle<Result<Vec<Link>>> {
        let netlink = self.netlink.clone();
        tokio::task::spawn_blocking(move || Ok(netlink.links()?))
    }

    /// Looks whether the interfaces are still what they should be, and mends the networks where not. Returns whether all is well now.
    pub(super) async fn mend(&mut self, links: Result<Vec<Link>>) -> bool {
        self.forget_vanished().await;
        let settled = self.settle().await;
        let mut whole = settled.unwrap_or_else(|error| {
            tracing::warn!("looking for interfaces that were handed over: {error}");
            false
        });
        let links = match links {
            Ok(links) => links,
            Err(error) => {
                tracing::warn!("cannot look at the interfaces: {error}");
                return false;
            }
        };
        for id in self.broken(&links) {
            let name = self.networks.get(&id).map(|network| network.name.clone()).unwrap_or_default();
            match self.is_broken(&id).await {
                // It was changed by ourselves since they were listed.
                Ok(false) => continue,
                Ok(true) => tracing::warn!("interfaces of network {name} are not what they should be, mending"),
                Err(error) => tracing::warn!("looking at the interfaces of network {name}: {error}"),
            }
            let _expedited = self.grace_periods.expedite();
            if let Err(error) = self.ensure_network(&id).await {
                tracing::error!("mending network {name}: {error}");
                whole = false;
            }
        }
        whole
    }

    /// The networks whose interfaces are not what they should be, where `links` are all that there are.
    fn broken(&self, links: &[Link]) -> BTreeSet<Id> {
        let links: HashMap<&str, &Link> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let bridge = |network: &Id| self.bridges.get(network).map(|bridge| bridge.ifindex);
        let is_off = |network: &&Network| {
            let link = links.get(network.bridge.as_str());
            link.is_none_or(|link| Some(link.ifindex) != bridge(&network.id) || !link.up)
        };
        let mut broken: BTreeSet<Id> = self.bridge_networks().filter(is_off).map(|network| network.id).collect();
        for container in self.containers.values() {
            for endpoint in container.endpoints.iter().filter(|endpoint| endpoint.driver == Driver::Bridge) {
                let link = links.get(endpoint.host_interface.as_str());
                // With its far end an engine's goes as well, and nobody but the engine can make another one.
                if link.is_none() && container.engine().is_some() {
                    continue;
                }
                let known = self.live.get(&container.id).and_then(|live| live.interfaces.get(&endpoint.slot));
                let whole = known.zip(link).is_some_and(|(HostEnd { ifindex, bridged }, link)| {
                    let master = bridge(&endpoint.network).filter(|_| *bridged);
                    link.ifindex == *ifindex && link.master == master && link.up
                });
                if !whole {
                    broken.insert(endpoint.network);
                }
            }
        }
        broken
    }

    /// Whether the interfaces of one network are not what they should be now.
    async fn is_broken(&self, id: &Id) -> Result<bool> {
        let mut links = Vec::new();
        let bridge = self.networks.get(id).map(|network| &network.bridge);
        for name in bridge.into_iter().chain(self.members(id).map(|(_, endpoint)| &endpoint.host_interface)) {
            links.extend(self.netlink.link(name).await?);
        }
        Ok(self.broken(&links).contains(id))
    }
}

/// A network that has nothing in the kernel.
fn bare_network(name: &str, driver: Driver) -> Network {
    Network {
        id: Id::random(),
        name: name.into(),
        driver,
        scope: Scope::Local,
        created: Timestamp::now(),
        internal: false,
        enable_ipv4: true,
        enable_ipv6: false,
        subnets: Vec::new(),
        options: Default::default(),
        bridge_options: BridgeOptions::default(),
        macvlan: None,
        engine: None,
        labels: Default::default(),
        bridge: String::new(),
        slot: 0,
    }
}

/// The host's own addresses on a network.
pub(super) fn gateways(network: &Network) -> Vec<IpAddr> {
    network.bridge_addresses().map(|address| address.addr()).collect()
}

fn network_config(network: &Network, bridge: &Bridge) -> NetworkConfig {
    NetworkConfig {
        slot: network.slot,
        bridge: network.bridge.clone(),
        bridge_ifindex: bridge.ifindex,
        subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
        gateways: gateways(network),
        internal: network.internal,
        isolated: network.is_isolated(),
        icc: network.bridge_options.icc,
        v4: gateway_config(network, false),
        v6: gateway_config(network, true),
        endpoint_independent: network.bridge_options.endpoint_independent,
        trusted: network.bridge_options.trusted_interfaces.clone(),
        mtu: network.bridge_options.mtu,
        bridge_mac: bridge.mac,
    }
}

fn gateway_config(network: &Network, v6: bool) -> GatewayConfig {
    let mode = network.gateway_mode(v6);
    let translates = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
    let options = &network.bridge_options;
    GatewayConfig {
        masquerade: translates && options.masquerade,
        source: if v6 { options.host_ipv6.map(IpAddr::V6) } else { options.host_ipv4.map(IpAddr::V4) },
        open: mode == GatewayMode::NatUnprotected,
        routed: mode == GatewayMode::Routed,
    }
}
