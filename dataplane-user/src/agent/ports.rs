//! Published ports: which host ports a container gets, holding them, and telling the data plane.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::state::{Agent, Live};
use crate::kernel::dataplane::PortConfig;
use crate::kernel::{HeldPort, HostPort, ports::hold_all};
use crate::model::{self, Container, Error, Id, Network, PortBinding, PortRequest, Protocol, PublishedPort, Result};

/// How often a free port is asked of the kernel before giving up; it can be taken in the other family.
const TRIES: u32 = 16;

/// The host ports of a running container.
#[derive(Debug, Default)]
pub(super) struct LivePorts {
    held: HashMap<HostPort, HeldPort>,
    /// What the data plane was told, with the endpoint's slot.
    published: Vec<(u32, PublishedPort)>,
}

impl LivePorts {
    /// Holds the ports that the container publishes and that are not held yet: all of them or none.
    pub(super) fn hold_more(&mut self, container: &Container) -> Result<()> {
        let missing: Vec<_> = host_ports(container).filter(|port| !self.held.contains_key(port)).collect();
        self.keep(hold_all(&missing)?);
        Ok(())
    }

    /// Frees the ports that the container does not publish.
    fn release_unused(&mut self, container: &Container) {
        let used: Vec<_> = host_ports(container).collect();
        self.held.retain(|port, _| used.contains(port));
    }

    fn keep(&mut self, held: Vec<HeldPort>) {
        self.held.extend(held.into_iter().map(|held| (held.port(), held)));
    }

    /// A held port that stands in the way of another one.
    fn in_the_way(&self, port: HostPort) -> bool {
        let same =
            |a: IpAddr, b: IpAddr| a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified());
        self.held
            .keys()
            .any(|held| held.protocol == port.protocol && held.port == port.port && same(held.address, port.address))
    }
}

impl Agent {
    /// Chooses and holds the host ports that a new container asks for, for an endpoint on `network`.
    pub(super) fn choose_ports(
        &mut self,
        network: &Network,
        requests: &[PortRequest],
    ) -> Result<(Vec<PortBinding>, LivePorts)> {
        let mut bindings = Vec::new();
        let mut ports = LivePorts::default();
        let mut seen = Vec::new();
        for request in requests {
            if seen.contains(request) {
                continue;
            }
            seen.push(*request);
            let host_ip = request.host_ip.or(network.bridge_options.host_binding);
            let addresses = host_addresses(host_ip, network)?;
            let (host_port, held) = match request.host_port {
                model::HostPort::Any => self.any_port(&ports, request.protocol, &addresses)?,
                model::HostPort::Range(first, last) => {
                    self.port_of_range(&ports, request.protocol, &addresses, first, last)?
                }
            };
            ports.keep(held);
            let (container_port, protocol) = (request.container_port, request.protocol);
            bindings.push(PortBinding { host_ip, host_port, container_port, protocol });
        }
        Ok((bindings, ports))
    }

    /// Holds one port number on every address, if no container has it.
    fn hold_number(
        &self,
        own: &LivePorts,
        protocol: Protocol,
        addresses: &[IpAddr],
        number: u16,
    ) -> Result<Vec<HeldPort>> {
        let wanted: Vec<_> =
            addresses.iter().map(|&address| HostPort { protocol: protocol.into(), address, port: number }).collect();
        for port in &wanted {
            let taken = |by: &str| {
                let bind = SocketAddr::new(port.address, port.port);
                Err(Error::Conflict(format!("Bind for {bind} failed: port is already allocated{by}")))
            };
            if own.in_the_way(*port) {
                return taken(", it is published twice");
            }
            if let Some((id, _)) = self.live.iter().find(|(_, live)| live.ports.in_the_way(*port)) {
                let owner = self.containers.get(id).map(|container| container.name.as_str());
                return taken(&format!(" by container {}", owner.unwrap_or("?")));
            }
        }
        Ok(hold_all(&wanted)?)
    }

    fn port_of_range(
        &self,
        own: &LivePorts,
        protocol: Protocol,
        addresses: &[IpAddr],
        first: u16,
        last: u16,
    ) -> Result<(u16, Vec<HeldPort>)> {
        for number in first..=last {
            match self.hold_number(own, protocol, addresses, number) {
                Ok(held) => return Ok((number, held)),
                Err(error) if first == last => return Err(error),
                Err(_) => {}
            }
        }
        let host = addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Err(Error::Conflict(format!("Bind for {host}:{first}-{last} failed: all ports are allocated")))
    }

    fn any_port(&self, own: &LivePorts, protocol: Protocol, addresses: &[IpAddr]) -> Result<(u16, Vec<HeldPort>)> {
        let mut result = Err(Error::Conflict("no address to publish a port on".into()));
        let Some((&first, others)) = addresses.split_first() else { return result };
        for _ in 0..TRIES {
            let held = HeldPort::hold(HostPort { protocol: protocol.into(), address: first, port: 0 })?;
            let number = held.port().port;
            result = self.hold_number(own, protocol, others, number).map(|mut more| {
                more.push(held);
                (number, more)
            });
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Tells the data plane which ports the container publishes now.
    pub(super) fn publish_changes(&mut self, id: &Id) -> Result<()> {
        let (Some(container), Some(live)) = (self.containers.get(id), self.live.get_mut(id)) else { return Ok(()) };
        let wanted = container.published();
        let obsolete = configs(live.ports.published.iter().filter(|port| !wanted.contains(port)));
        let fresh = configs(wanted.iter().filter(|port| !live.ports.published.contains(port)));
        if !obsolete.is_empty() {
            self.dataplane.unpublish(&obsolete)?;
        }
        if !fresh.is_empty()
            && let Err(error) = self.dataplane.publish(&fresh)
        {
            let back = self.dataplane.publish(&obsolete);
            return Err(back.err().into_iter().fold(error.into(), |error: Error, trouble| error.and(trouble)));
        }
        live.ports.published = wanted;
        Ok(())
    }

    /// Takes a container's ports out of the data plane, and then gives them back to the host.
    pub(super) fn unpublish_all(&mut self, id: &Id) -> Result<()> {
        let Some(live) = self.live.get_mut(id) else { return Ok(()) };
        let published = std::mem::take(&mut live.ports.published);
        let result = match published.is_empty() {
            true => Ok(()),
            false => self.dataplane.unpublish(&configs(published.iter())).map_err(Error::from),
        };
        live.ports.held.clear();
        result
    }

    /// Frees the host ports that the container does not publish (any more).
    pub(super) fn release_unused_ports(&mut self, id: &Id) {
        if let (Some(container), Some(live)) = (self.containers.get(id), self.live.get_mut(id)) {
            live.ports.release_unused(container);
        }
    }

    /// After a restart: holds the ports of a container that went on running. One that somebody took
    /// meanwhile is theirs now; it is struck from the record, which the caller writes.
    pub(super) fn hold_again(container: &mut Container, live: &mut Live) {
        let all = container.clone();
        container.ports.retain(|binding| {
            let only = Container { ports: vec![*binding], ..all.clone() };
            match live.ports.hold_more(&only) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!("container {} no longer publishes port {}: {error}", all.name, binding.host_port);
                    live.ports.held.retain(|held, _| !host_ports(&only).any(|port| port == *held));
                    false
                }
            }
        });
    }

    /// What the data plane is to know of all containers' ports.
    pub(super) fn all_port_configs(&self) -> Vec<PortConfig> {
        let published: Vec<_> = self.containers.values().flat_map(|container| container.published()).collect();
        configs(published.iter())
    }
}

/// The host addresses that a port is published on, for the families of the network.
fn host_addresses(host_ip: Option<IpAddr>, network: &Network) -> Result<Vec<IpAddr>> {
    let (v4, v6) = (network.subnet_v4().is_some(), network.subnet_v6().is_some());
    match host_ip {
        None => {
            let v4 = v4.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let v6 = v6.then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            Ok(v4.into_iter().chain(v6).collect())
        }
        Some(address) if if address.is_ipv4() { v4 } else { v6 } => Ok(vec![address]),
        Some(address) => Err(Error::Invalid(format!(
            "a port cannot be published on {address}: the container has no {} address on network {}",
            if address.is_ipv4() { "IPv4" } else { "IPv6" },
            network.name
        ))),
    }
}

/// The host ports that a container's published ports need.
fn host_ports(container: &Container) -> impl Iterator<Item = HostPort> + use<> {
    container.published().into_iter().map(|(_, port)| HostPort {
        protocol: port.protocol.into(),
        address: port.host,
        port: port.host_port,
    })
}

fn configs<'a>(ports: impl Iterator<Item = &'a (u32, PublishedPort)>) -> Vec<PortConfig> {
    ports
        .map(|(slot, port)| PortConfig {
            protocol: port.protocol.into(),
            host: port.host,
            host_port: port.host_port,
            endpoint: *slot,
            container: port.container,
            container_port: port.container_port,
        })
        .collect()
}

impl From<Protocol> for dataplane_common::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => dataplane_common::Protocol::TCP,
            Protocol::Udp => dataplane_common::Protocol::UDP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_overlap_are_in_each_others_way() {
        let port = |address: &str, port| HostPort {
            protocol: dataplane_common::Protocol::TCP,
            address: address.parse().expect("an address"),
            port,
        };
        let number = HeldPort::hold(port("127.0.0.1", 0)).expect("any port").port().port;
        let mut ports = LivePorts::default();
        ports.keep(vec![HeldPort::hold(port("127.0.0.2", number)).expect("the same port on another address")]);
        assert!(ports.in_the_way(port("127.0.0.2", number)));
        assert!(ports.in_the_way(port("0.0.0.0", number)));
        assert!(!ports.in_the_way(port("127.0.0.1", number)));
        assert!(!ports.in_the_way(port("::", number)));
        assert!(!ports.in_the_way(port("127.0.0.2", number.wrapping_add(1))));
        let udp = HostPort { protocol: dataplane_common::Protocol::UDP, ..port("127.0.0.2", number) };
        assert!(!ports.in_the_way(udp));
    }
}
