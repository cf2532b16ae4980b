//! Published ports: what the programs know of each, brought from one state to the next.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, btree_map::Entry},
    os::fd::AsFd as _,
};

use aya::maps::{MapError, lpm_trie::Key};
use dataplane_common::{
    Protocol,
    address::AnyAddress,
    layout::{
        AllowedKey, Config, Endpoint, MAX_ALLOWED, MAX_PORTS, MAX_PUBLISHED, PORTS_TOGETHER, PortCount, Published,
        PublishedKey,
    },
    wire::Be16,
};
use ipnet::IpNet;

use super::{
    Dataplane, PortConfig, PortEntry,
    configure::absent_is_fine,
    error::DataplaneError,
    maps::{Maps, PortCounters},
    programs::Ports,
    sys,
};

/// `BPF_NOEXIST` of `linux/bpf.h`.
const NOEXIST: u64 = 1;

/// What the kernel holds of one published port.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Port {
    pub(super) entries: Vec<(PublishedKey, Published)>,
    pub(super) clients: Clients,
}

/// The clients of a restricted port: whether each prefix is allowed, the longest one decides. Empty: everybody is.
pub(super) type Clients = BTreeMap<Prefix, bool>;

/// A prefix of either family's addresses, IPv4 mapped into IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Prefix {
    address: u128,
    length: u32,
}

/// Where the IPv4 addresses are: ::ffff:0:0/96.
const MAPPED: Prefix = Prefix { address: 0xffff << 32, length: 96 };

impl Dataplane {
    /// Makes ports what is said: all or none. One that is so already, as after a restart, keeps its flows and counters; one
    /// that leads elsewhere or lets fewer clients in than before loses its flows.
    ///
    /// # Errors
    ///
    /// There is no room, an address is another port's, or the kernel refuses; then all ports are as they were.
    pub fn publish(&mut self, ports: &[PortConfig]) -> Result<(), DataplaneError> {
        let entries = ports.iter().flat_map(|port| &port.entries);
        let now = self.hooked.unwrap_or_else(|| self.published_ports());
        // The programs must be there before the first of the host's processes asks.
        self.hook_sockets(now.max(kinds(entries.map(|entry| entry.protocol))))?;
        let result = self.open_ports(ports);
        self.follow_ports()?;
        result
    }

    /// Opens ports: all or none.
    fn open_ports(&mut self, ports: &[PortConfig]) -> Result<(), DataplaneError> {
        let opened = self.open_many(ports)?;
        let mut before: Vec<_> = opened.into_iter().map(|slot| (slot, None)).collect();
        let open: HashSet<u32> = before.iter().map(|(slot, _)| *slot).collect();
        for port in ports.iter().filter(|port| !open.contains(&port.slot)) {
            before.push((port.slot, self.ports.get(&port.slot).cloned()));
            if let Err(error) = self.bring(port.slot, &Port::new(port)) {
                for (slot, before) in before.into_iter().rev() {
                    match before {
                        Some(before) => self.bring(slot, &before)?,
                        None => self.close(slot)?,
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Closes ports and ends their flows; absent ones are fine.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn unpublish(&mut self, slots: &[u32]) -> Result<(), DataplaneError> {
        self.close_many(slots)?;
        slots.iter().try_for_each(|slot| self.close(*slot))?;
        self.follow_ports()
    }

    /// Tells the programs whether any port limits its clients, and whether any is UDP's: where none is, they need not look. And takes away what
    /// no port needs any more: programs on sockets, counters.
    fn follow_ports(&mut self) -> Result<(), DataplaneError> {
        let limited = self.ports.values().flat_map(|port| &port.entries).any(|(_, value)| value.rate != 0);
        let ports = self.published_ports();
        self.set_config_flag(Config::RATED, limited)?;
        self.set_config_flag(Config::DATAGRAMS, ports == Ports::WithUdp)?;
        self.hook_sockets(ports)?;
        let needed: BTreeSet<u32> = self.ports.keys().map(|slot| place_of(*slot).0).collect();
        let spare: Vec<u32> = self.port_counters.keys().copied().filter(|place| !needed.contains(place)).collect();
        for place in spare {
            sys::delete_inner_map(self.open_map("PORT_COUNTERS")?.as_fd(), place).map_err(|source| {
                DataplaneError::Host { what: "counters of published ports cannot be removed".into(), source }
            })?;
            self.port_counters.remove(&place);
        }
        Ok(())
    }

    /// What is published.
    pub(super) fn published_ports(&self) -> Ports {
        kinds(self.ports.values().flat_map(|port| &port.entries).map(|(key, _)| key.protocol))
    }

    /// What went through a port since it was published.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn port_count(&self, slot: u32) -> Result<PortCount, DataplaneError> {
        let mut sum = PortCount::default();
        let (place, at) = place_of(slot);
        let Some(counters) = self.port_counters.get(&place) else { return Ok(sum) };
        for count in counters.counters.get(&at, 0)?.iter() {
            sum.connections += count.connections;
            sum.packets_in += count.packets_in;
            sum.bytes_in += count.bytes_in;
            sum.packets_out += count.packets_out;
            sum.bytes_out += count.bytes_out;
        }
        Ok(sum)
    }

    /// Makes the counters of the ports that an earlier agent has left, where they are missing.
    pub(super) fn count_ports(&mut self) -> Result<(), DataplaneError> {
        let places: BTreeSet<u32> = self.ports.keys().map(|slot| place_of(*slot).0).collect();
        places.into_iter().try_for_each(|place| self.port_counters(place).map(drop))
    }

    /// Lets the counters of ports begin at zero; the slots in order.
    pub(super) fn reset_counters(&mut self, slots: &[u32]) -> Result<(), DataplaneError> {
        let cpus = possible_cpus()?;
        for slots in slots.chunk_by(|a, b| place_of(*a).0 == place_of(*b).0) {
            let map = self.port_counters(place_of(slots[0]).0)?;
            let places: Vec<u32> = slots.iter().map(|slot| place_of(*slot).1).collect();
            let zeros = vec![PortCount::default(); slots.len() * cpus];
            sys::update_batch(map.raw.as_fd(), &places, &zeros).1.map_err(|source| DataplaneError::Host {
                what: "counters of published ports cannot be set".into(),
                source,
            })?;
        }
        Ok(())
    }

    /// The map at a place of `PORT_COUNTERS`.
    pub(super) fn port_counters(&mut self, place: u32) -> Result<&mut PortCounters, DataplaneError> {
        match self.port_counters.entry(place) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(free) => Ok(free.insert(self.maps.port_counters(place)?)),
        }
    }

    /// Closes every port that is not one of these.
    pub(super) fn retain_ports(&mut self, slots: &BTreeSet<u32>) -> Result<(), DataplaneError> {
        let strangers: Vec<_> = self.ports.keys().copied().filter(|slot| !slots.contains(slot)).collect();
        self.unpublish(&strangers)
    }

    /// Whether the endpoint has published ports.
    pub(super) fn publishes(&self, endpoint: u32) -> bool {
        self.published.get(&endpoint).is_some_and(|entries| *entries > 0)
    }

    fn close(&mut self, slot: u32) -> Result<(), DataplaneError> {
        if self.ports.contains_key(&slot) {
            self.bring(slot, &Port::default())?;
            self.ports.remove(&slot);
        }
        Ok(())
    }

    /// Brings a port from what it is to what is wanted. What was done of it is known, even where the rest fails.
    fn bring(&mut self, slot: u32, wanted: &Port) -> Result<(), DataplaneError> {
        check_slot(slot)?;
        let old = match self.ports.get(&slot) {
            Some(old) => old.clone(),
            None => {
                self.reset_counters(&[slot])?;
                Port::default()
            }
        };
        let mut now = old.clone();
        let result = self.change(slot, &mut now, wanted);
        let ends_flows = now.ends_flows_of(&old);
        // There are thousands of ports, and hardly one has more than two entries.
        now.entries.shrink_to_fit();
        self.ports.insert(slot, now);
        if ends_flows {
            let generation = self.maps.port_generations.get(&slot, 0)?;
            self.maps.port_generations.set(slot, generation.wrapping_add(1), 0)?;
        }
        result
    }

    /// In an order in which no client is let in that neither state lets in.
    fn change(&mut self, slot: u32, now: &mut Port, wanted: &Port) -> Result<(), DataplaneError> {
        let fresh = wanted.clients.iter().filter(|(prefix, allowed)| now.clients.get(prefix) != Some(allowed));
        for (prefix, allowed) in exceptions_first(fresh.map(|(prefix, allowed)| (*prefix, *allowed)).collect()) {
            let result = self.maps.allowed.insert(&prefix.key(slot), u32::from(allowed), 0);
            room(result, libc::ENOSPC, MAX_ALLOWED, "clients allowed to use published ports")?;
            now.clients.insert(prefix, allowed);
        }
        for &(key, value) in &wanted.entries {
            self.put_entry(now, key, value)?;
        }
        for (key, value) in now.entries.clone() {
            if wanted.entry(&key).is_none() {
                self.unpublished = true;
                absent_is_fine(self.maps.published.remove(&key))?;
                now.entries.retain(|(other, _)| *other != key);
                self.mark_endpoint(value.endpoint, -1)?;
            }
        }
        let gone = now.clients.iter().filter(|(prefix, _)| !wanted.clients.contains_key(prefix));
        let gone: Vec<_> = gone.map(|(prefix, allowed)| (*prefix, *allowed)).collect();
        for (prefix, _) in exceptions_first(gone).into_iter().rev() {
            absent_is_fine(self.maps.allowed.remove(&prefix.key(slot)))?;
            now.clients.remove(&prefix);
        }
        Ok(())
    }

    fn put_entry(&mut self, now: &mut Port, key: PublishedKey, value: Published) -> Result<(), DataplaneError> {
        let old = now.entry(&key);
        if old == Some(value) {
            return Ok(());
        }
        if old.is_none_or(|old| old.endpoint != value.endpoint) {
            // The endpoint must be known to publish before the first packet comes, or a neighbour's answer misses its flow.
            self.mark_endpoint(value.endpoint, 1)?;
        }
        let result = self.maps.published.insert(key, value, if old.is_none() { NOEXIST } else { 0 });
        if let Err(error) = refused(room(result, libc::E2BIG, MAX_PUBLISHED, "addresses of published ports"), &key) {
            if old.is_none_or(|old| old.endpoint != value.endpoint) {
                self.mark_endpoint(value.endpoint, -1)?;
            }
            return Err(error);
        }
        now.entries.retain(|(other, _)| *other != key);
        now.entries.push((key, value));
        match old {
            Some(old) if old.endpoint != value.endpoint => self.mark_endpoint(old.endpoint, -1),
            _ => Ok(()),
        }
    }

    /// Forgets what sockets of the host were told of containers' ports that are published no longer. It is looked through after
    /// such a port has gone: what processes have closed is otherwise pushed out by what they open.
    pub(super) fn forget_socket_peers(&mut self) -> Result<(), DataplaneError> {
        if !self.unpublished {
            return Ok(());
        }
        let entries = self.ports.values().flat_map(|port| &port.entries);
        let published: HashSet<_> = entries.map(|(_, value)| (value.container, value.port)).collect();
        let known: Vec<_> = self.maps.socket_peers.keys().collect::<Result<_, _>>()?;
        for key in known.into_iter().filter(|key| !published.contains(&(key.address, key.port))) {
            absent_is_fine(self.maps.socket_peers.remove(&key))?;
        }
        self.unpublished = false;
        Ok(())
    }

    /// Counts an endpoint's entries, and tells the programs whether it has any.
    pub(super) fn mark_endpoint(&mut self, slot: u32, change: isize) -> Result<(), DataplaneError> {
        let count = self.published.entry(slot).or_default();
        let before = *count > 0;
        *count = count.saturating_add_signed(change);
        let publishes = *count > 0;
        if publishes == before {
            return Ok(());
        }
        let mut endpoint = self.maps.endpoints.get(&slot, 0)?;
        let flags =
            if publishes { endpoint.flags | Endpoint::PUBLISHES } else { endpoint.flags & !Endpoint::PUBLISHES };
        if flags != endpoint.flags {
            endpoint.flags = flags;
            self.maps.endpoints.set(slot, endpoint, 0)?;
        }
        Ok(())
    }
}

/// Where the counters of a port are: which of the maps, and where in it.
pub(super) fn place_of(slot: u32) -> (u32, u32) {
    const TOGETHER: u32 = PORTS_TOGETHER as u32;
    (slot / TOGETHER, slot % TOGETHER)
}

/// What ports of these protocols are.
fn kinds(protocols: impl Iterator<Item = Protocol>) -> Ports {
    let kind = |protocol| if protocol == Protocol::UDP { Ports::WithUdp } else { Ports::WithoutUdp };
    protocols.map(kind).max().unwrap_or(Ports::None)
}

/// The ports that the maps hold, by slot: those of an earlier agent.
pub(super) fn found(maps: &Maps) -> BTreeMap<u32, Port> {
    let mut ports: BTreeMap<u32, Port> = BTreeMap::new();
    for (key, value) in maps.published.iter().filter_map(Result::ok) {
        ports.entry(value.slot).or_default().entries.push((key, value));
    }
    for (key, allowed) in maps.allowed.iter().filter_map(Result::ok) {
        let AllowedKey { slot, client } = key.data();
        let prefix = Prefix { address: number(client), length: key.prefix_len().saturating_sub(u32::BITS) };
        ports.entry(slot).or_default().clients.insert(prefix, allowed != 0);
    }
    ports
}

/// How many entries each endpoint has.
pub(super) fn by_endpoint(ports: &BTreeMap<u32, Port>) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for (_, value) in ports.values().flat_map(|port| &port.entries) {
        *counts.entry(value.endpoint).or_default() += 1;
    }
    counts
}

impl Port {
    pub(super) fn new(config: &PortConfig) -> Self {
        let clients = clients(&config.allow_from);
        let flags = if clients.is_empty() { 0 } else { Published::RESTRICTED };
        let value = |entry: &PortEntry| Published {
            container: entry.container.into(),
            endpoint: entry.endpoint,
            port: Be16::new(entry.container_port),
            flags,
            slot: config.slot,
            rate: config.rate,
        };
        let key = |entry: &PortEntry| PublishedKey {
            address: entry.host.into(),
            port: Be16::new(entry.host_port),
            protocol: entry.protocol,
            reserved: 0,
        };
        Self { entries: config.entries.iter().map(|entry| (key(entry), value(entry))).collect(), clients }
    }

    fn entry(&self, key: &PublishedKey) -> Option<Published> {
        self.entries.iter().find(|(other, _)| other == key).map(|(_, value)| *value)
    }

    /// Whether some flow that was let through as `old` was may not be one now.
    fn ends_flows_of(&self, old: &Port) -> bool {
        let moved = |(key, was): &(PublishedKey, Published)| {
            self.entry(key)
                .is_none_or(|is| (is.container, is.endpoint, is.port) != (was.container, was.endpoint, was.port))
        };
        old.entries.iter().any(moved) || !allows_all_of(&self.clients, &old.clients)
    }
}

impl Prefix {
    fn contains(self, other: Prefix) -> bool {
        let mask = |address: u128| address.checked_shr(u128::BITS - self.length).unwrap_or(0);
        self.length <= other.length && mask(self.address) == mask(other.address)
    }

    /// The key of a port's client.
    fn key(self, slot: u32) -> Key<AllowedKey> {
        // Words lie in the address as its bytes do, whatever the machine's byte order.
        let client = AnyAddress::from(std::net::IpAddr::V6(self.address.into()));
        Key::new(u32::BITS + self.length, AllowedKey { slot, client })
    }
}

/// The address as a number, the first byte the most significant.
fn number(address: AnyAddress) -> u128 {
    address.0.iter().fold(0, |number, word| number << u32::BITS | u128::from(u32::from_be(*word)))
}

/// An allow list as prefixes of one kind of address. One of IPv6 is not meant for the IPv4 clients that lie inside it.
fn clients(allow_from: &[IpNet]) -> Clients {
    let mut clients = Clients::new();
    for net in allow_from {
        let mapped = if net.addr().is_ipv4() { MAPPED.length } else { 0 };
        let prefix = Prefix { address: number(net.network().into()), length: mapped + u32::from(net.prefix_len()) };
        if prefix.length < MAPPED.length && prefix.contains(MAPPED) {
            clients.entry(MAPPED).or_insert(false);
        }
        clients.insert(prefix, true);
    }
    clients
}

/// Whether no prefix that was allowed has left the list. One that a shorter one now holds counts as gone: that ends a few
/// flows too many, which open again.
fn allows_all_of(new: &Clients, old: &Clients) -> bool {
    let stays = |(prefix, allowed): (&Prefix, &bool)| !allowed || new.get(prefix) == Some(&true);
    new.is_empty() || (!old.is_empty() && old.iter().all(stays))
}

/// What is not allowed before what is, so that nobody slips in between.
fn exceptions_first(mut clients: Vec<(Prefix, bool)>) -> Vec<(Prefix, bool)> {
    clients.sort_by_key(|(_, allowed)| *allowed);
    clients
}

/// Tells when a map is full.
pub(super) fn room(
    result: Result<(), MapError>,
    errno: i32,
    size: usize,
    what: &'static str,
) -> Result<(), DataplaneError> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(errno) => {
            Err(DataplaneError::Full(size, what))
        }
        other => Ok(other?),
    }
}

/// Tells when an address is another port's.
fn refused(result: Result<(), DataplaneError>, key: &PublishedKey) -> Result<(), DataplaneError> {
    match result {
        Err(DataplaneError::Map(MapError::SyscallError(error)))
            if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
        {
            Err(taken(key))
        }
        other => other,
    }
}

/// The address is another port's.
pub(super) fn taken(key: &PublishedKey) -> DataplaneError {
    let address = std::net::Ipv6Addr::from(number(key.address));
    DataplaneError::Published(std::net::SocketAddr::new(address.to_canonical(), key.port.get()).to_string())
}

/// Refuses what is no slot of a published port.
pub(super) fn check_slot(slot: u32) -> Result<(), DataplaneError> {
    match slot as usize {
        1..MAX_PORTS => Ok(()),
        _ => Err(DataplaneError::Full(MAX_PORTS - 1, "published ports")),
    }
}

/// How many values a per-CPU map has for each key.
fn possible_cpus() -> Result<usize, DataplaneError> {
    aya::util::nr_cpus()
        .map_err(|(_, source)| DataplaneError::Host { what: "the number of CPUs is unknown".into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(prefixes: &[&str]) -> Clients {
        clients(&prefixes.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
    }

    fn lets_in(clients: &Clients, address: &str) -> bool {
        let client = Prefix { address: number(address.parse::<std::net::IpAddr>().unwrap().into()), length: 128 };
        let holding = clients.iter().filter(|(prefix, _)| prefix.contains(client));
        holding.max_by_key(|(prefix, _)| prefix.length).is_some_and(|(_, allowed)| *allowed)
    }

    #[test]
    fn each_family_has_its_own_clients() {
        for (prefixes, v4, v6) in [
            (["10.0.0.0/8"].as_slice(), true, false),
            (&["fd00::/8"], false, true),
            (&["10.0.0.0/8", "fd00::/8"], true, true),
            (&["0.0.0.0/0"], true, false),
            // IPv4 addresses lie in there, but are not meant.
            (&["::/0"], false, true),
            (&["::/0", "10.0.0.0/8"], true, true),
            (&["0.0.0.0/0", "::/0"], true, true),
            (&["::/0", "0.0.0.0/0"], true, true),
        ] {
            let clients = list(prefixes);
            assert_eq!((lets_in(&clients, "10.1.2.3"), lets_in(&clients, "fd00::1")), (v4, v6), "{prefixes:?}");
        }
        assert!(!lets_in(&list(&["10.0.0.0/8"]), "11.0.0.1"));
        assert!(lets_in(&list(&["192.0.2.7/32"]), "192.0.2.7") && !lets_in(&list(&["192.0.2.7/32"]), "192.0.2.8"));
    }

    #[test]
    fn a_list_that_lets_fewer_in_ends_flows() {
        for (old, new, all) in [
            ([].as_slice(), ["10.0.0.0/8"].as_slice(), false),
            (&["10.0.0.0/8"], &[], true),
            (&["10.0.0.0/8"], &["10.0.0.0/8", "fd00::/8"], true),
            (&["10.0.0.0/8", "fd00::/8"], &["10.0.0.0/8"], false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], false),
            (&["0.0.0.0/0", "::/0"], &["::/0"], false),
            (&["::/0"], &["0.0.0.0/0", "::/0"], true),
            (&["fd00::/8"], &["fd00::/8", "::/0"], true),
            (&["10.0.0.0/8"], &["::/0"], false),
        ] {
            assert_eq!(allows_all_of(&list(new), &list(old)), all, "{old:?} to {new:?}");
        }
    }

    #[test]
    fn addresses_are_numbers_and_back() {
        for text in ["2001:db8::7", "::ffff:192.0.2.1", "::", "ff02::1:ff00:1"] {
            let address: std::net::Ipv6Addr = text.parse().unwrap();
            assert_eq!(number(AnyAddress::from(std::net::IpAddr::V6(address))), u128::from(address));
        }
        assert!(MAPPED.contains(Prefix { address: number(std::net::IpAddr::from([10, 0, 0, 1]).into()), length: 128 }));
    }
}
