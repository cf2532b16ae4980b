//! Setters for networks, endpoints, uplinks and the host's own addresses.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
    os::fd::AsFd as _,
};

use aya::{
    Pod,
    maps::{MapError, lpm_trie::Key},
};
use dataplane_common::{
    V4, V6, Zone,
    address::{Address as _, AnyAddress},
    layout::{
        Config, Endpoint, Interface, MAX_ENDPOINTS, MAX_NETWORKS, Neighbor, Network, Tops, TrustedKey, Uplink,
        place_of_address, place_of_interface,
    },
    port::Pool,
};
use ipnet::IpNet;
use nix::net::if_::if_indextoname;

use super::{
    Dataplane, EndpointConfig, GatewayConfig, NetworkConfig, UplinkConfig, attach,
    error::DataplaneError,
    maps::{NO_PREALLOC, Neighbors},
    sys,
};
use crate::kernel::sysctl;

/// An endpoint always may own this many flows, however small the table is.
const LEAST_QUOTA: u32 = 4096;
/// One endpoint may own this part of the flow table.
const QUOTA_SHARE: u32 = 4;

/// A network slot that is not in use.
const NO_NETWORK: Network = Network {
    flags: 0,
    bridge: 0,
    mtu: 0,
    mac: [0; 6],
    reserved: 0,
    // Under a full mask, nothing but the unspecified address itself is in this subnet.
    v4: V4(0),
    v4_mask: V4(u32::MAX),
    v4_gateway: V4(0),
    v6: V6([0; 4]),
    v6_mask: V6([u32::MAX; 4]),
    v6_gateway: V6([0; 4]),
    v4_source: V4(0),
    v6_source: V6([0; 4]),
};

impl Dataplane {
    /// Tells the programs about this host: the secret of port choice, made once, and the ports that may be given out.
    pub(super) fn configure(&mut self) -> Result<(), DataplaneError> {
        let old = self.maps.config.get(&0, 0)?;
        let secret = if old.secret == [0; 2] { random_secret()? } else { old.secret };
        let (first, last) = ephemeral_ports()?;
        let config = Config {
            secret,
            route_generation: old.route_generation.wrapping_add(1),
            pool: Pool::around(first, last),
            flags: old.flags,
        };
        self.maps.config.set(0, config, 0)?;
        self.write_tops()?;
        // The host's own flows are slot 0's.
        let host = Endpoint { quota: self.quota()?, ..NO_ENDPOINT };
        Ok(self.maps.endpoints.set(0, host, 0)?)
    }

    /// Makes every flow look up its next hop again.
    pub fn routes_changed(&mut self) -> Result<(), DataplaneError> {
        let mut config = self.maps.config.get(&0, 0)?;
        config.route_generation = config.route_generation.wrapping_add(1);
        Ok(self.maps.config.set(0, config, 0)?)
    }

    /// Makes a network what `config` says, with `endpoints` as its neighbours: its own map is filled before it is put in
    /// place, then the programs on its bridge run.
    ///
    /// # Errors
    ///
    /// The kernel refuses; what was done so far stays and is mended by the next call.
    pub fn set_network(&mut self, config: &NetworkConfig, endpoints: &[EndpointConfig]) -> Result<(), DataplaneError> {
        if usize::from(config.slot) >= MAX_NETWORKS || config.slot == 0 {
            return Err(DataplaneError::Full(MAX_NETWORKS - 1, "networks"));
        }
        let slot = u32::from(config.slot);
        let wanted: BTreeMap<[u32; 4], Neighbor> = endpoints.iter().flat_map(neighbors).collect();
        match self.neighbors_of(config.slot)? {
            Some(inner) => fill(inner, &wanted)?,
            None => {
                let mut inner = Neighbors::create(capacity(&config.subnets), NO_PREALLOC)?;
                fill(&mut inner, &wanted)?;
                self.maps.neighbors.set(slot, &inner, 0)?;
                self.neighbors.insert(config.slot, inner);
            }
        }
        // The kernel gives the bridge this one, and tells nothing else that need be looked at then.
        let link_local = Ipv6Addr::from(V6::link_local_of(config.bridge_mac));
        let gateways = config.gateways.iter().copied().chain([link_local.into()]);
        self.gateways.insert(config.slot, gateways.collect());
        self.write_local_addresses()?;
        let old = self.maps.networks.get(&slot, 0)?;
        if old.bridge != 0 && old.bridge != config.bridge_ifindex {
            absent_is_fine(self.maps.interfaces.remove(&old.bridge))?;
        }
        let mut network = network(config);
        self.unbridged.retain(|_, network| *network != config.slot);
        self.unbridged.extend(endpoints.iter().filter(|e| !e.bridged).map(|e| (e.slot, e.network)));
        if endpoints.iter().any(|endpoint| !endpoint.bridged) {
            network.flags |= Network::CROWDED;
        }
        if network.has(Network::ENDPOINT_INDEPENDENT) {
            self.set_config_flag(Config::ENDPOINT_INDEPENDENT, true)?;
        }
        self.maps.networks.set(slot, network, 0)?;
        if old.has(Network::ENDPOINT_INDEPENDENT) {
            self.write_endpoint_independent()?;
        }
        for subnet in &config.subnets {
            let key = prefix(subnet);
            self.maps.subnets.insert(&key, slot, 0)?;
            self.subnets.insert((key.data().0, key.prefix_len()), slot);
        }
        self.write_tops()?;
        let interface = Interface { endpoint: 0, network: Zone(config.slot), reserved: 0 };
        self.maps.interfaces.insert(config.bridge_ifindex, interface, 0)?;
        self.attach(&config.bridge, &attach::BRIDGE)?;
        self.bridges.insert(config.slot, config.bridge.clone());
        self.trusted.insert(config.slot, config.trusted.clone());
        self.write_trusted()
    }

    /// Forgets a network; its map of neighbours goes in one step. The bridge may be gone already.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn remove_network(&mut self, slot: u16) -> Result<(), DataplaneError> {
        if let Some(bridge) = self.bridges.remove(&slot) {
            self.detach(&bridge, &attach::BRIDGE)?;
        }
        let old = self.maps.networks.get(&slot.into(), 0)?;
        self.maps.networks.set(slot.into(), NO_NETWORK, 0)?;
        if old.has(Network::ENDPOINT_INDEPENDENT) {
            self.write_endpoint_independent()?;
        }
        self.neighbors.remove(&slot);
        sys::delete_inner_map(self.maps.neighbors_raw.fd().as_fd(), slot.into())
            .map_err(|source| DataplaneError::Host { what: "a network's map cannot be removed".into(), source })?;
        let subnets = self.subnets.iter().filter(|(_, owner)| **owner == u32::from(slot));
        for (address, length) in subnets.map(|(subnet, _)| *subnet).collect::<Vec<_>>() {
            absent_is_fine(self.maps.subnets.remove(&Key::new(length, AnyAddress(address))))?;
            self.subnets.remove(&(address, length));
        }
        self.write_tops()?;
        if old.bridge != 0 {
            absent_is_fine(self.maps.interfaces.remove(&old.bridge))?;
        }
        self.gateways.remove(&slot);
        self.trusted.remove(&slot);
        self.write_trusted()?;
        self.write_local_addresses()
    }

    /// Makes an endpoint what `config` says: maps first, then the programs on its veth. Its flows live on.
    ///
    /// # Errors
    ///
    /// The kernel refuses; what was done so far stays and is mended by the next call.
    pub fn set_endpoint(&mut self, config: &EndpointConfig) -> Result<(), DataplaneError> {
        if config.slot as usize >= MAX_ENDPOINTS || config.slot == 0 {
            return Err(DataplaneError::Full(MAX_ENDPOINTS - 1, "endpoints"));
        }
        let old = self.maps.endpoints.get(&config.slot, 0)?;
        let mut endpoint = endpoint(config, &old, self.quota()?);
        let same = (old.network, old.mac, old.v4, old.v6) == (endpoint.network, endpoint.mac, endpoint.v4, endpoint.v6);
        if old.ifindex != 0 && same {
            endpoint.generation = old.generation;
            endpoint.flags |= old.flags & Endpoint::PUBLISHES;
        }
        if self.publishes(config.slot) {
            endpoint.flags |= Endpoint::PUBLISHES;
        }
        if old.ifindex != 0 && old.ifindex != config.ifindex {
            absent_is_fine(self.maps.interfaces.remove(&old.ifindex))?;
        }
        if !config.bridged {
            self.unbridged.insert(config.slot, config.network);
            self.mark_crowded(config.network)?;
        }
        if endpoint.flags & LIMITED != 0 {
            self.write_limits(config)?;
        }
        self.maps.endpoints.set(config.slot, endpoint, 0)?;
        if endpoint.flags & LIMITED == 0 && old.flags & LIMITED != 0 {
            absent_is_fine(self.maps.limits.remove(&config.slot))?;
        }
        if config.bridged && self.unbridged.remove(&config.slot).is_some() {
            self.mark_crowded(config.network)?;
        }
        let inner = self.neighbors_of(config.network)?.ok_or(MapError::KeyNotFound)?;
        for (address, neighbor) in neighbors(config) {
            inner.insert(AnyAddress(address), neighbor, 0)?;
        }
        let interface = Interface { endpoint: config.slot, network: Zone(config.network), reserved: 0 };
        self.maps.interfaces.insert(config.ifindex, interface, 0)?;
        self.write_short_cuts(config)?;
        self.attach(&config.ifname, &attach::VETH)?;
        self.veths.insert(config.slot, config.ifname.clone());
        Ok(())
    }

    /// Forgets an endpoint and ends all its flows at once. Its veth may be gone already.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn remove_endpoint(&mut self, slot: u32) -> Result<(), DataplaneError> {
        // First, since whoever gets the slot next must not find them.
        self.remove_links_of(slot)?;
        let old = self.maps.endpoints.get(&slot, 0)?;
        if old.ifindex == 0 {
            return Ok(());
        }
        let gone = Endpoint { generation: old.generation.wrapping_add(1), ..NO_ENDPOINT };
        self.maps.endpoints.set(slot, gone, 0)?;
        absent_is_fine(self.maps.limits.remove(&slot))?;
        if let Some(network) = self.unbridged.remove(&slot) {
            self.mark_crowded(network)?;
        }
        if let Some(veth) = self.veths.remove(&slot) {
            self.detach(&veth, &attach::VETH)?;
        }
        if let Some(inner) = self.neighbors_of(old.network.0)? {
            for address in [old.v4.any(), old.v6.any(), old.link_local.any()] {
                // Somebody else may have it by now.
                if inner.get(&address, 0).is_ok_and(|neighbor| neighbor.endpoint == slot) {
                    inner.remove(&address)?;
                }
            }
        }
        absent_is_fine(self.maps.interfaces.remove(&old.ifindex))
    }

    /// Lets programs find an endpoint without a look-up in a hash. Never taken back: an entry that leads to another endpoint, or to none,
    /// is as good as none.
    fn write_short_cuts(&mut self, config: &EndpointConfig) -> Result<(), DataplaneError> {
        let network = Zone(config.network);
        let v4 = config.ipv4.map(|v4| place_of_address(network, V4::from(v4)));
        let v6 = config.ipv6.map(|v6| place_of_address(network, V6::from(v6)));
        for place in [v4, v6].into_iter().flatten() {
            self.maps.address_slots.set(place, config.slot, 0)?;
        }
        Ok(self.maps.interface_slots.set(place_of_interface(config.ifindex), config.slot, 0)?)
    }

    /// Notes how fast an endpoint may be. A bucket that is there stays as full as it is.
    fn write_limits(&mut self, config: &EndpointConfig) -> Result<(), DataplaneError> {
        let mut limits = config.limits;
        if let Ok(old) = self.maps.limits.get(&config.slot, 0) {
            limits.ingress.full_at = old.ingress.full_at;
            limits.egress.full_at = old.egress.full_at;
        }
        Ok(self.maps.limits.insert(config.slot, limits, 0)?)
    }

    /// Tells whether some endpoint of a network is no port of its bridge.
    fn mark_crowded(&mut self, slot: u16) -> Result<(), DataplaneError> {
        let mut network = self.maps.networks.get(&slot.into(), 0)?;
        let crowded = network.has(Network::PRESENT) && self.unbridged.values().any(|network| *network == slot);
        if network.has(Network::CROWDED) != crowded {
            network.flags ^= Network::CROWDED;
            self.maps.networks.set(slot.into(), network, 0)?;
        }
        Ok(())
    }

    /// Tells the programs whether any network has endpoint-independent mappings: where none does, they need not look for them.
    fn write_endpoint_independent(&mut self) -> Result<(), DataplaneError> {
        let asks = |network: Network| network.has(Network::ENDPOINT_INDEPENDENT);
        let wanted = self.maps.networks.iter().filter_map(Result::ok).any(asks);
        self.set_config_flag(Config::ENDPOINT_INDEPENDENT, wanted)
    }

    /// Sets or clears one of the flags of [`Config`].
    pub(super) fn set_config_flag(&mut self, flag: u32, set: bool) -> Result<(), DataplaneError> {
        let mut config = self.maps.config.get(&0, 0)?;
        if (config.flags & flag != 0) != set {
            config.flags ^= flag;
            self.maps.config.set(0, config, 0)?;
        }
        Ok(())
    }

    /// Makes these interfaces, and no others, the uplinks.
    ///
    /// # Errors
    ///
    /// The kernel refuses; the other uplinks are set all the same.
    pub fn set_uplinks(&mut self, uplinks: &[UplinkConfig]) -> Result<(), DataplaneError> {
        let mut result = Ok(());
        let wanted: BTreeMap<u32, String> =
            uplinks.iter().map(|uplink| (uplink.ifindex, uplink.name.clone())).collect();
        let known: Vec<u32> = self.maps.uplinks.keys().filter_map(Result::ok).collect();
        // By name: an interface may have been renamed, also while no agent was there, and a program runs there only once.
        let links = self.pinned_links()?;
        let pinned = links.into_iter().filter(|(program, ..)| attach::UPLINK.iter().any(|hook| hook.is(program)));
        // Filters of a clsact qdisc have no pins; an older agent's are found by what the map knows.
        let filtered = known.iter().filter_map(|&ifindex| if_indextoname(ifindex).ok()?.into_string().ok());
        let names: BTreeSet<String> =
            self.uplinks.values().cloned().chain(pinned.map(|(_, name, _)| name)).chain(filtered).collect();
        for ifindex in known.iter().filter(|ifindex| !wanted.contains_key(ifindex)) {
            absent_is_fine(self.maps.uplinks.remove(ifindex))?;
        }
        for name in names.iter().filter(|name| !wanted.values().any(|wanted| wanted == *name)) {
            result = result.and(self.detach(name, &attach::UPLINK));
        }
        for uplink in uplinks {
            let value = Uplink {
                v4: uplink.ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
                v6: uplink.ipv6.unwrap_or(Ipv6Addr::UNSPECIFIED).into(),
                mtu: uplink.mtu,
                flags: if uplink.inside { Uplink::INSIDE } else { 0 },
            };
            self.maps.uplinks.insert(uplink.ifindex, value, 0)?;
            if self.uplinks.get(&uplink.ifindex) != Some(&uplink.name) {
                result = result.and(self.attach(&uplink.name, &attach::UPLINK));
            }
        }
        self.uplinks = wanted;
        // One of them may be a network's trusted interface, which did not exist before.
        self.write_trusted()?;
        self.routes_changed()?;
        result.and(self.set_shields(uplinks))
    }

    /// Tells how the addresses of all subnets begin.
    fn write_tops(&mut self) -> Result<(), DataplaneError> {
        let mut tops = [Tops::NONE; 2];
        for &(address, len) in self.subnets.keys() {
            let (address, len) = (AnyAddress(address), len as u8);
            if address.is_v4() {
                tops[0].add(V4::from_any(address).top(), len - MAPPED);
            } else {
                tops[1].add(V6::from_any(address).top(), len);
            }
        }
        for (index, tops) in tops.into_iter().enumerate() {
            self.maps.tops.set(index as u32, tops, 0)?;
        }
        Ok(())
    }

    /// Notes the gateways of networks that an earlier agent has made, so that they stay the host's own until each network is set again.
    pub fn expect_gateways(&mut self, gateways: impl Iterator<Item = (u16, Vec<IpAddr>)>) {
        self.gateways.extend(gateways);
    }

    /// Tells which addresses are the host's own; gateways of networks are so anyway.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_local_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), DataplaneError> {
        self.local = addresses.iter().map(|&address| key(address)).collect();
        self.write_local_addresses()?;
        self.routes_changed()
    }

    /// Tells which interfaces are trusted, as far as they exist now.
    fn write_trusted(&mut self) -> Result<(), DataplaneError> {
        let index = |name: &String| nix::net::if_::if_nametoindex(name.as_str()).ok();
        let pairs = self.trusted.iter().flat_map(|(&network, names)| names.iter().map(move |name| (name, network)));
        let wanted: BTreeSet<(u32, u32)> =
            pairs.filter_map(|(name, network)| Some((index(name)?, network.into()))).collect();
        let known: BTreeSet<(u32, u32)> =
            self.maps.trusted.keys().filter_map(Result::ok).map(|key| (key.ifindex, key.network)).collect();
        for &(ifindex, network) in wanted.difference(&known) {
            self.maps.trusted.insert(TrustedKey { ifindex, network }, 1, 0)?;
        }
        for &(ifindex, network) in known.difference(&wanted) {
            absent_is_fine(self.maps.trusted.remove(&TrustedKey { ifindex, network }))?;
        }
        Ok(())
    }

    fn write_local_addresses(&mut self) -> Result<(), DataplaneError> {
        let gateways = self.gateways.values().flatten().map(|&address| key(address));
        let wanted: BTreeSet<AnyKey> = gateways.chain(self.local.iter().copied()).collect();
        for &address in wanted.difference(&self.local_known) {
            self.maps.local_addresses.insert(AnyAddress(address), 1, 0)?;
        }
        for &address in self.local_known.difference(&wanted) {
            absent_is_fine(self.maps.local_addresses.remove(&AnyAddress(address)))?;
        }
        // Where that failed half way, the next call does all of it again.
        self.local_known = wanted;
        Ok(())
    }

    /// After a restart: forgets every network, endpoint and published port whose slot is not named here, and every link of an interface
    /// that has none of them.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn retain(
        &mut self,
        networks: &BTreeSet<u16>,
        endpoints: &BTreeSet<u32>,
        ports: &BTreeSet<u32>,
    ) -> Result<(), DataplaneError> {
        self.retain_ports(ports)?;
        for (slot, endpoint) in (0..).zip(self.array::<Endpoint>("ENDPOINTS", 0..MAX_ENDPOINTS as u32)?) {
            if endpoint.ifindex != 0 && !endpoints.contains(&slot) {
                self.remove_endpoint(slot)?;
            }
        }
        for (slot, network) in (0..).zip(self.array::<Network>("NETWORKS", 0..MAX_NETWORKS as u32)?) {
            if network.flags != 0 && !networks.contains(&slot) {
                self.remove_network(slot)?;
            }
        }
        // A link is of use only at an interface that the maps know.
        let interfaces: BTreeSet<u32> = self.maps.interfaces.keys().filter_map(Result::ok).collect();
        let uplinks = self.uplinks.clone();
        self.retain_links(|name| {
            nix::net::if_::if_nametoindex(name)
                .is_ok_and(|index| interfaces.contains(&index) || uplinks.contains_key(&index))
        })
    }

    /// The neighbours of a network that is there, to be changed in place.
    fn neighbors_of(&mut self, network: u16) -> Result<Option<&mut Neighbors>, DataplaneError> {
        if let Entry::Vacant(entry) = self.neighbors.entry(network) {
            match self.maps.neighbors.get(&network.into(), 0) {
                Ok(inner) => entry.insert(inner),
                Err(MapError::KeyNotFound) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(self.neighbors.get_mut(&network))
    }

    /// The values of an array at these slots in one call.
    pub(super) fn array<V: Pod>(&self, name: &str, slots: Range<u32>) -> Result<Vec<V>, DataplaneError> {
        let values =
            sys::open_pin(&self.root.join("maps").join(name)).and_then(|map| sys::array_values(map.as_fd(), slots));
        values.map_err(|source| DataplaneError::Host { what: format!("the map {name} cannot be read"), source })
    }

    fn quota(&self) -> Result<u32, DataplaneError> {
        Ok((self.capacity()? / QUOTA_SHARE).max(LEAST_QUOTA))
    }

    /// How many flows of each family fit.
    pub(super) fn capacity(&self) -> Result<u32, DataplaneError> {
        let path = self.root.join("maps/FLOWS4");
        // Two entries make a flow.
        Ok(aya::maps::MapInfo::from_pin(path)?.max_entries() / 2)
    }
}

/// The flags of an endpoint that has an entry in `LIMITS`.
const LIMITED: u16 = Endpoint::LIMITS_INGRESS | Endpoint::LIMITS_EGRESS;

/// An address of either family, as the maps have it, in an order.
pub(super) type AnyKey = [u32; 4];

/// An endpoint slot that is not in use.
const NO_ENDPOINT: Endpoint = Endpoint {
    generation: 0,
    ifindex: 0,
    quota: 0,
    network: Zone::OUTSIDE,
    flags: 0,
    mac: [0; 6],
    reserved: 0,
    v4: V4(0),
    v6: V6([0; 4]),
    link_local: V6([0; 4]),
};

fn key(address: IpAddr) -> AnyKey {
    AnyAddress::from(address).0
}

/// The endpoint's value, one generation younger than the old one.
fn endpoint(config: &EndpointConfig, old: &Endpoint, quota: u32) -> Endpoint {
    let flag = |set: bool, flag: u16| if set { flag } else { 0 };
    Endpoint {
        generation: old.generation.wrapping_add(1),
        ifindex: config.ifindex,
        quota,
        network: Zone(config.network),
        flags: flag(!config.bridged, Endpoint::UNBRIDGED)
            | flag(config.limits.ingress.is_set(), Endpoint::LIMITS_INGRESS)
            | flag(config.limits.egress.is_set(), Endpoint::LIMITS_EGRESS),
        mac: config.mac,
        reserved: 0,
        v4: config.ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
        v6: config.ipv6.unwrap_or(Ipv6Addr::UNSPECIFIED).into(),
        link_local: V6::link_local_of(config.mac),
    }
}

/// The addresses under which an endpoint is found by its neighbours.
fn neighbors(config: &EndpointConfig) -> impl Iterator<Item = (AnyKey, Neighbor)> + use<> {
    let limited = if config.limits.ingress.is_set() { Neighbor::LIMITS_INGRESS } else { 0 };
    let neighbor = Neighbor { endpoint: config.slot, ifindex: config.ifindex, mac: config.mac, flags: limited };
    let link_local = config.ipv6.map(|_| V6::link_local_of(config.mac).0);
    [config.ipv4.map(|v4| key(v4.into())), config.ipv6.map(|v6| key(v6.into())), link_local]
        .into_iter()
        .flatten()
        .enumerate()
        .map(move |(index, address)| {
            let flags = if index == 0 { Neighbor::FIRST } else { 0 };
            (address, Neighbor { flags: flags | limited, ..neighbor })
        })
}

/// Makes the map hold exactly `wanted`.
fn fill(inner: &mut Neighbors, wanted: &BTreeMap<AnyKey, Neighbor>) -> Result<(), DataplaneError> {
    let strangers: Vec<AnyAddress> =
        inner.keys().filter_map(Result::ok).filter(|address| !wanted.contains_key(&address.0)).collect();
    for address in strangers {
        absent_is_fine(inner.remove(&address))?;
    }
    for (&address, neighbor) in wanted {
        inner.insert(AnyAddress(address), neighbor, 0)?;
    }
    Ok(())
}

/// How many addresses a network's neighbours can have: as many as its subnets hold, but never more than there are endpoints,
/// and a link-local one for each IPv6 address.
fn capacity(subnets: &[IpNet]) -> u32 {
    let hosts = |subnet: &IpNet| {
        let bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
        1_u32.checked_shl(bits).unwrap_or(u32::MAX).min(MAX_ENDPOINTS as u32)
    };
    subnets
        .iter()
        .map(|subnet| if subnet.addr().is_ipv6() { 2 * hosts(subnet) } else { hosts(subnet) })
        .sum::<u32>()
        .max(1)
}

/// How many bits stand before an IPv4 address that is mapped into IPv6.
const MAPPED: u8 = 96;

/// The subnet as a prefix of either family's addresses.
fn prefix(subnet: &IpNet) -> Key<AnyAddress> {
    let mapped = if subnet.addr().is_ipv4() { MAPPED } else { 0 };
    Key::new((mapped + subnet.prefix_len()).into(), subnet.network().into())
}

fn network(config: &NetworkConfig) -> Network {
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let of_family = |gateway: &GatewayConfig, v6: bool| {
        flag(gateway.masquerade, Network::for_family(Network::MASQUERADE, v6))
            | flag(gateway.open, Network::for_family(Network::OPEN, v6))
            | flag(gateway.routed, Network::for_family(Network::ROUTED, v6))
    };
    let mut network = Network {
        flags: Network::PRESENT
            | flag(config.icc, Network::ICC)
            | of_family(&config.v4, false)
            | of_family(&config.v6, true)
            | flag(!config.trusted.is_empty(), Network::TRUSTS)
            | flag(config.internal, Network::INTERNAL)
            | flag(config.isolated, Network::ISOLATED)
            | flag(config.endpoint_independent, Network::ENDPOINT_INDEPENDENT),
        bridge: config.bridge_ifindex,
        mtu: config.mtu,
        mac: config.bridge_mac,
        ..NO_NETWORK
    };
    for subnet in &config.subnets {
        match subnet {
            IpNet::V4(v4) => (network.v4, network.v4_mask) = (v4.network().into(), v4.netmask().into()),
            IpNet::V6(v6) => (network.v6, network.v6_mask) = (v6.network().into(), v6.netmask().into()),
        }
    }
    for source in [config.v4.source, config.v6.source].into_iter().flatten() {
        match source {
            IpAddr::V4(v4) => network.v4_source = v4.into(),
            IpAddr::V6(v6) => network.v6_source = v6.into(),
        }
    }
    for gateway in &config.gateways {
        match *gateway {
            IpAddr::V4(v4) => network.v4_gateway = v4.into(),
            IpAddr::V6(v6) => network.v6_gateway = v6.into(),
        }
    }
    network
}

/// What was to be removed may be gone already.
pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), DataplaneError> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(MapError::KeyNotFound) => Ok(()),
        other => Ok(other?),
    }
}

fn random_secret() -> Result<[u64; 2], DataplaneError> {
    let random = || {
        getrandom::u64()
            .map_err(|error| DataplaneError::Host { what: "no random numbers".into(), source: io::Error::other(error) })
    };
    Ok([random()?, random()?])
}

/// `net.ipv4.ip_local_port_range`.
fn ephemeral_ports() -> Result<(u16, u16), DataplaneError> {
    let unknown = |source| DataplaneError::Host { what: "the host's ephemeral ports are unknown".into(), source };
    let text =
        sysctl::get(&["net", "ipv4", "ip_local_port_range"]).map_err(|error| unknown(io::Error::other(error)))?;
    let mut ports = text.split_whitespace().map(str::parse::<u16>);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Ok((first, last)),
        _ => Err(unknown(io::Error::new(io::ErrorKind::InvalidData, text))),
    }
}
