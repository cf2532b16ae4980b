//! Published ports of containers: chosen, put in force, changed while the container runs, and given back.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::handle::PortStats;
use super::ports::Busy;
use super::state::Agent;
use crate::kernel::dataplane::{PortConfig, PortEntry};
use crate::kernel::ports;
use crate::model::{
    Access, Container, Error, HostPort, Id, Place, PortBinding, PortRequest, Protocol, PublishRequest, PublishedPort,
    Result, State, default_route_endpoint,
};
use crate::store::Change;

impl Agent {
    /// Chooses what the requests leave open, and takes it: slots and host ports, for all of them or for none.
    pub(super) fn take_ports(&mut self, container: &Container, requests: &[PortRequest]) -> Result<Vec<PortBinding>> {
        let places = container.places();
        let host_binding = self.host_binding(container);
        let fixed = requests.iter().filter(|request| matches!(request.host_port, HostPort::Fixed(_)));
        self.host_ports.prepare(fixed.map(|request| {
            let binding = draft(request, host_binding);
            (binding.protocol, binding.host_port, binding.hosts(&places))
        }));
        let taken = self.take_each(container, requests, host_binding, &places);
        self.host_ports.end_preparation();
        taken
    }

    fn take_each(
        &mut self,
        container: &Container,
        requests: &[PortRequest],
        host_binding: Option<IpAddr>,
        places: &[Place],
    ) -> Result<Vec<PortBinding>> {
        let mut order: Vec<usize> = (0..requests.len()).collect();
        // Those that have no choice come first.
        order.sort_by_key(|index| match requests[*index].host_port {
            HostPort::Fixed(_) => 0,
            HostPort::Range(..) => 1,
            HostPort::Any => 2,
        });
        let mut taken: Vec<(usize, PortBinding)> = Vec::with_capacity(requests.len());
        let mut seen = HashSet::new();
        for index in order {
            let request = &requests[index];
            // The same thing said twice is one thing.
            if !seen.insert(request) {
                continue;
            }
            match self.take_port(container, places, host_binding, request) {
                Ok(binding) => taken.push((index, binding)),
                Err(error) => {
                    self.give_all_back(taken.iter().map(|(_, binding)| binding));
                    return Err(error);
                }
            }
        }
        taken.sort_by_key(|(index, _)| *index);
        Ok(taken.into_iter().map(|(_, binding)| binding).collect())
    }

    fn take_port(
        &mut self,
        container: &Container,
        places: &[Place],
        host_binding: Option<IpAddr>,
        request: &PortRequest,
    ) -> Result<PortBinding> {
        let mut binding = PortBinding { slot: self.take_port_slot()?, ..draft(request, host_binding) };
        let hosts = binding.hosts(places);
        let (slot, protocol) = (binding.slot, binding.protocol);
        let taken = match request.host_port {
            // One that has been there before may wait until the container is somewhere where it can be published.
            _ if hosts.is_empty() => {
                match binding.entries(places).is_empty() && !matches!(container.state, State::Exited { .. }) {
                    true => Err(no_place(container, &binding)),
                    false => Ok(binding.host_port),
                }
            }
            HostPort::Fixed(port) => {
                let claimed = self.host_ports.claim(slot, protocol, port, &hosts);
                claimed.map(|()| port).map_err(|busy| self.explain(busy))
            }
            HostPort::Range(first, last) => self.take_of_range(slot, protocol, first, last, &hosts),
            HostPort::Any => self.host_ports.claim_any(slot, protocol, &hosts).map_err(|busy| self.explain(busy)),
        };
        match taken {
            Ok(port) => {
                binding.host_port = port;
                Ok(binding)
            }
            Err(error) => {
                self.give_back(&binding);
                Err(error)
            }
        }
    }

    fn take_of_range(&mut self, slot: u32, protocol: Protocol, first: u16, last: u16, hosts: &[IpAddr]) -> Result<u16> {
        for port in first..=last {
            match self.host_ports.claim(slot, protocol, port, hosts) {
                Ok(()) => return Ok(port),
                Err(busy) if busy.is_taken() => {}
                Err(busy) => return Err(self.explain(busy)),
            }
        }
        let host = hosts.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let range = format!("{}-{last}", SocketAddr::new(host, first));
        Err(Error::Conflict(format!("Bind for {range} failed: all ports are allocated")))
    }

    /// Gives back a port's slot and what it has of the host.
    pub(super) fn give_back(&mut self, binding: &PortBinding) {
        self.give_all_back([binding]);
    }

    /// Gives back the slots of ports and what they have of the host.
    pub(super) fn give_all_back<'a>(&mut self, bindings: impl IntoIterator<Item = &'a PortBinding>) {
        let mut held = Vec::new();
        for binding in bindings {
            held.extend(self.host_ports.trim(binding.slot, binding.protocol, binding.host_port, &[]));
            self.port_slots.remove(binding.slot.into());
        }
        ports::release_all(held);
    }

    /// The host address of ports that name none: its network's.
    fn host_binding(&self, container: &Container) -> Option<IpAddr> {
        let gateway = |v6| default_route_endpoint(&container.endpoints, v6);
        let network = self.networks.get(&gateway(false).or(gateway(true))?.network)?;
        network.bridge_options.host_binding
    }

    fn explain(&self, busy: Busy) -> Error {
        match busy {
            Busy::Published { address, port, owner } => {
                let bind = SocketAddr::new(address, port);
                let has_it = |container: &&Container| {
                    container.is_running() && container.ports.iter().any(|binding| binding.slot == owner)
                };
                let by = match self.containers.values().find(has_it) {
                    Some(container) => format!(" by container {}", container.name),
                    None => ", it is published twice".into(),
                };
                Error::Conflict(format!("Bind for {bind} failed: port is already allocated{by}"))
            }
            Busy::Refused(port, error) => ports::explain(port, error).into(),
            Busy::NoneLeft(error) => error,
        }
    }

    /// Takes what a container's ports will need of the host and do not have yet, for all of them; or else they have what
    /// they had.
    pub(super) fn claim_ports(&mut self, old: &Container, new: &mut Container) -> Result<()> {
        let places = new.places();
        for binding in &mut new.ports {
            let (slot, protocol, hosts) = (binding.slot, binding.protocol, binding.hosts(&places));
            let claimed = match binding.host_port {
                // None was needed before.
                0 if !hosts.is_empty() => {
                    self.host_ports.claim_any(slot, protocol, &hosts).map(|port| binding.host_port = port)
                }
                port => self.host_ports.claim(slot, protocol, port, &hosts),
            };
            if let Err(busy) = claimed {
                self.unclaim_ports(old, new);
                return Err(self.explain(busy));
            }
        }
        Ok(())
    }

    /// Undoes [`Agent::claim_ports`].
    pub(super) fn unclaim_ports(&mut self, old: &Container, new: &Container) {
        let places = old.places();
        for (was, is) in old.ports.iter().zip(&new.ports) {
            let hosts = if was.host_port == is.host_port { was.hosts(&places) } else { Vec::new() };
            drop(self.host_ports.trim(is.slot, is.protocol, is.host_port, &hosts));
        }
    }

    /// Gives back what a container's ports do not need of the host any more.
    pub(super) fn trim_ports(&mut self, container: &Container) {
        let places = container.places();
        for binding in &container.ports {
            drop(self.host_ports.trim(binding.slot, binding.protocol, binding.host_port, &binding.hosts(&places)));
        }
    }

    /// Tells the data plane what the container's ports are now.
    pub(super) fn announce_ports(&mut self, id: &Id) -> Result<()> {
        let Some(container) = self.containers.get(id) else { return Ok(()) };
        self.dataplane.publish(&configs(container).collect::<Vec<_>>())?;
        Ok(())
    }

    /// Takes a container's ports out of the data plane, and then gives them back to the host.
    pub(super) fn give_up_ports(&mut self, container: &Container) -> Result<()> {
        let slots: Vec<_> = container.ports.iter().map(|binding| binding.slot).collect();
        let result = self.dataplane.unpublish(&slots);
        self.give_all_back(&container.ports);
        Ok(result?)
    }

    /// After a restart: holds the ports of a container that went on running. One that somebody took meanwhile is theirs
    /// now; it is struck from the record.
    pub(super) fn hold_ports_again(&mut self, id: &Id) {
        let Some(mut container) = self.containers.get(id).cloned() else { return };
        let places = container.places();
        let before = container.ports.len();
        container.ports.retain(|binding| {
            let (slot, hosts) = (binding.slot, binding.hosts(&places));
            let Err(busy) = self.host_ports.claim(slot, binding.protocol, binding.host_port, &hosts) else {
                return true;
            };
            let error = self.explain(busy);
            tracing::error!("container {} no longer publishes port {}: {error}", container.name, binding.host_port);
            self.give_back(binding);
            false
        });
        if container.ports.len() != before {
            if let Err(error) = self.store.apply(&[Change::PutContainer(&container)]) {
                tracing::error!("recording the ports of container {}: {error}", container.name);
            }
            self.containers.insert(*id, container);
        }
    }

    /// Publishes ports of a running container, or changes who may use those that it publishes already; all of it or nothing.
    /// Returns what is in force for these ports.
    pub(super) fn publish_ports(&mut self, reference: &str, request: &PublishRequest) -> Result<Vec<PublishedPort>> {
        let old = self.container(reference)?.clone();
        let requests = named(request)?;
        let places = old.places();
        if !old.is_running() {
            return Err(Error::Conflict(format!("container {} is not running", old.name)));
        }
        if places.is_empty() {
            return Err(Error::Forbidden(format!(
                "ports of container {} cannot be published: none of its networks leads outside",
                old.name
            )));
        }
        let mut new = old.clone();
        let host_binding = self.host_binding(&old);
        let index = by_container_port(&old);
        let (mut fresh, mut slots) = (Vec::new(), Vec::new());
        for request in requests {
            let candidates =
                index.get(&(request.container_port, request.protocol)).map(Vec::as_slice).unwrap_or_default();
            let same = |at: &&usize| {
                let binding = &old.ports[**at];
                request.names(binding) && request.host_ip.or(host_binding) == binding.host_ip
            };
            match candidates.iter().find(same) {
                Some(at) if matches!(request.host_port, HostPort::Fixed(_)) && !request.access.is_empty() => {
                    let binding = &mut new.ports[*at];
                    binding.access = request.access.onto(&binding.access);
                    slots.push(binding.slot);
                }
                _ => fresh.push(request),
            }
        }
        let fresh = self.take_ports(&old, &fresh)?;
        slots.extend(fresh.iter().map(|binding| binding.slot));
        new.ports.extend(fresh.iter().cloned());
        if let Err(error) = self.replace_ports(&old, &new) {
            self.give_all_back(&fresh);
            return Err(error);
        }
        tracing::info!(container = new.name, ports = slots.len(), "published");
        let slots: HashSet<_> = slots.into_iter().collect();
        Ok(new
            .published()
            .filter(|(binding, _)| slots.contains(&binding.slot))
            .flat_map(|(_, entries)| entries)
            .collect())
    }

    /// Takes back published ports of a running container, all that are named; their flows end.
    pub(super) fn unpublish_ports(&mut self, reference: &str, request: &PublishRequest) -> Result<()> {
        let old = self.container(reference)?.clone();
        let requests = named(request)?;
        if !old.is_running() {
            return Err(Error::Conflict(format!("container {} is not running", old.name)));
        }
        let index = by_container_port(&old);
        let mut gone = vec![false; old.ports.len()];
        for request in requests {
            let candidates =
                index.get(&(request.container_port, request.protocol)).map(Vec::as_slice).unwrap_or_default();
            let mut found = candidates.iter().filter(|at| request.names(&old.ports[**at])).peekable();
            if found.peek().is_none() {
                return Err(not_published(&old, &request));
            }
            found.for_each(|at| gone[*at] = true);
        }
        let mut new = old.clone();
        let mut keep = gone.iter().map(|gone| !gone);
        new.ports.retain(|_| keep.next().unwrap_or(true));
        self.replace_ports(&old, &new)?;
        let gone: Vec<_> = old.ports.iter().zip(gone).filter(|(_, gone)| *gone).map(|(binding, _)| binding).collect();
        self.give_all_back(gone.iter().copied());
        tracing::info!(container = new.name, ports = gone.len(), "unpublished");
        Ok(())
    }

    /// Brings a container from one set of ports to another, on record and in the data plane, or leaves it as it was.
    pub(super) fn replace_ports(&mut self, old: &Container, new: &Container) -> Result<()> {
        self.store.apply(&[Change::PutContainer(new)])?;
        self.containers.insert(new.id, new.clone());
        let Err(error) = self.exchange_ports(old, new) else { return Ok(()) };
        self.containers.insert(old.id, old.clone());
        let recorded = self.store.apply(&[Change::PutContainer(old)]);
        let back = self.exchange_ports(new, old);
        Err([recorded, back].into_iter().filter_map(Result::err).fold(error, Error::and))
    }

    fn exchange_ports(&mut self, old: &Container, new: &Container) -> Result<()> {
        let kept: HashSet<_> = new.ports.iter().map(|binding| binding.slot).collect();
        let gone: Vec<_> = old.ports.iter().map(|binding| binding.slot).filter(|slot| !kept.contains(slot)).collect();
        self.dataplane.unpublish(&gone)?;
        let before: HashMap<u32, PortConfig> = configs(old).map(|config| (config.slot, config)).collect();
        let changed: Vec<_> = configs(new).filter(|config| before.get(&config.slot) != Some(config)).collect();
        self.dataplane.publish(&changed)?;
        self.update_links()
    }

    /// What went through published ports, of one container or of all, in order of names.
    pub(super) fn port_stats(&self, reference: Option<&str>) -> Result<Vec<PortStats>> {
        let one = reference.map(|reference| self.container(reference)).transpose()?;
        let mut containers: Vec<_> = match one {
            Some(one) => vec![one],
            None => self.containers.values().collect(),
        };
        containers.retain(|container| container.is_running());
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut stats = Vec::new();
        for container in containers {
            for (binding, entries) in container.published() {
                let count = self.dataplane.port_count(binding.slot)?;
                stats.push(PortStats { container: container.name.clone(), binding: binding.clone(), entries, count });
            }
        }
        Ok(stats)
    }
}

/// What a request asks for, without a slot and with the first of the host ports that are as good; `host_binding` stands in for an address.
fn draft(request: &PortRequest, host_binding: Option<IpAddr>) -> PortBinding {
    PortBinding {
        host_ip: request.host_ip.or(host_binding),
        host_port: match request.host_port {
            HostPort::Fixed(port) | HostPort::Range(port, _) => port,
            HostPort::Any => 0,
        },
        choice: (!matches!(request.host_port, HostPort::Fixed(_))).then_some(request.host_port),
        container_port: request.container_port,
        protocol: request.protocol,
        slot: 0,
        access: request.access.onto(&Access::default()),
    }
}

/// The ports that a command names, at least one.
fn named(request: &PublishRequest) -> Result<Vec<PortRequest>> {
    let requests = request.requests()?;
    match requests.is_empty() {
        true => Err(Error::Invalid("no port is given".into())),
        false => Ok(requests),
    }
}

/// Where in a container's list the bindings of each container port are.
fn by_container_port(container: &Container) -> HashMap<(u16, Protocol), Vec<usize>> {
    let mut index: HashMap<_, Vec<usize>> = HashMap::new();
    for (at, binding) in container.ports.iter().enumerate() {
        index.entry((binding.container_port, binding.protocol)).or_default().push(at);
    }
    index
}

fn not_published(container: &Container, request: &PortRequest) -> Error {
    let host = match (request.host_ip, request.host_port) {
        (None, HostPort::Any) => String::new(),
        (Some(address), HostPort::Any) => format!(" on {address}"),
        (None, HostPort::Fixed(port)) => format!(" on host port {port}"),
        (Some(address), HostPort::Fixed(port)) => format!(" on {}", SocketAddr::new(address, port)),
        (_, HostPort::Range(first, last)) => format!(" on host ports {first}-{last}"),
    };
    let (port, protocol) = (request.container_port, request.protocol);
    Error::NotFound(format!("no public port '{port}/{protocol}' published for {}{host}", container.name))
}

fn no_place(container: &Container, binding: &PortBinding) -> Error {
    let network = &container.network_mode;
    let Some(address) = binding.host_ip else {
        return Error::Invalid(format!("no port can be published on network {network}: it has no gateway"));
    };
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let why =
        match container.endpoints.iter().any(|endpoint| endpoint.addresses().any(|a| a.is_ipv4() == address.is_ipv4()))
        {
            true => format!("network {network} is routed, its containers are reached at their own {family} addresses"),
            false => format!("the container has no {family} address on network {network}"),
        };
    Error::Invalid(format!("a port cannot be published on {address}: {why}"))
}

/// What the data plane is to know of a container's ports.
fn configs(container: &Container) -> impl Iterator<Item = PortConfig> {
    let entry = |entry: &PublishedPort| PortEntry {
        protocol: entry.protocol.into(),
        host: entry.target().ip(),
        host_port: entry.target().port(),
        endpoint: entry.endpoint,
        container: entry.container,
        container_port: entry.container_port,
    };
    let config = move |(binding, entries): (&PortBinding, Vec<PublishedPort>)| PortConfig {
        slot: binding.slot,
        allow_from: binding.access.allow_from.clone(),
        rate: binding.access.rate,
        entries: entries.iter().map(entry).collect(),
    };
    container.reachable().map(config)
}
