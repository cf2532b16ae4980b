//! Interfaces for a container engine that moves them by itself: Docker, through its protocol for remote network drivers.
//!
//! Such a container is one without a command of ours, as those are whose namespace was attached (`attach`), with two differences. The
//! engine names the endpoints before it says in which namespace they will be, and those of one namespace then become one container. And it
//! moves our end of the veth and gives it name, addresses and routes: what is ours is the host's end. That is enough, since no packet
//! needs anything of us inside.
//!
//! Engines ask for the end of things that are gone already; that is no error.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::endpoint::{Announcement, free_interface};
use super::state::Agent;
use crate::kernel::{NetNs, Netlink};
use crate::model::{
    Container, Endpoint, Engine, Error, HandoverRequest, Id, KnownContainer, KnownNetwork, Naming, Network,
    PortRequest, Result, Sandbox, SandboxInterface, State, check_name,
};
use crate::store::Change;

/// An endpoint whose interface its engine is to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The interface, in the agent's network namespace until it is moved.
    pub interface: String,
    /// What it is to be called there, before a number.
    pub prefix: String,
}

impl Agent {
    /// Makes an endpoint for an engine, with an interface that waits to be moved.
    pub(super) async fn hand_over(&mut self, request: HandoverRequest) -> Result<Handed> {
        let network = self.engine_network(request.engine, &request.network)?.clone();
        if let Some((_, endpoint)) = self.handed(&request.id) {
            // It was not told so, or has forgotten.
            return Ok(handed(&network, endpoint));
        }
        let stand_in = format!("{}-{}", request.engine.as_str(), request.id.short());
        let mut container = Container {
            id: Id::random(),
            hostname: stand_in.clone(),
            name: self.container_name(Some(&stand_in))?,
            command: Vec::new(),
            env: Vec::new(),
            working_dir: String::new(),
            auto_remove: true,
            created: Timestamp::now(),
            state: State::Created,
            network_mode: network.name.clone(),
            endpoints: Vec::new(),
            attachments: Vec::new(),
            exposed: request.exposed,
            ports: Vec::new(),
            naming: Naming::default(),
            labels: Default::default(),
            sandbox: Some(Sandbox {
                key: request.id.to_string(),
                netns: PathBuf::new(),
                cookie: 0,
                engine: Some(request.engine),
                interfaces: Default::default(),
            }),
        };
        let endpoint = Endpoint { id: request.id, ..self.allocate_endpoint(&network, &container, &request.endpoint)? };
        container.endpoints.push(endpoint.clone());
        self.install_sandbox(container).await?;
        Ok(handed(&network, &endpoint))
    }

    /// Learns in which namespace an endpoint will be: that of a container that is known already, or of a new one.
    pub(super) async fn join(&mut self, engine: Engine, endpoint: Id, netns: PathBuf) -> Result<Handed> {
        let (old, endpoint) = self.expect_handed(engine, &endpoint)?;
        let network = self.engine_network(engine, &endpoint.network)?.clone();
        let there = |container: &&Container| container.sandbox.as_ref().is_some_and(|s| s.netns == netns);
        let owner = self.containers.values().filter(|c| c.engine() == Some(engine)).find(there).cloned();
        let id = match owner {
            Some(owner) if owner.id == old.id => old.id,
            Some(owner) => self.merge(old, owner).await?.id,
            None => {
                let mut new = old.clone();
                let key = netns.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let name = format!("{}-{key}", engine.as_str());
                if check_name("container", &name).is_ok() && self.container_name(Some(&name)).is_ok() {
                    (new.name, new.hostname) = (name.clone(), name);
                }
                if let Some(sandbox) = &mut new.sandbox {
                    sandbox.key = key.to_owned();
                    sandbox.netns = netns;
                    sandbox.cookie = 0;
                }
                self.rewrite(new)?;
                self.update_names(&old.id).await?;
                old.id
            }
        };
        if let Some(live) = self.live.get_mut(&id) {
            live.settled.remove(&endpoint.slot);
        }
        self.tell_membership("connect", &id, (network.id, &network.name, network.driver));
        Ok(handed(&network, &endpoint))
    }

    /// Makes one container of two that turned out to be in the same namespace; the older one stays.
    async fn merge(&mut self, gone: Container, owner: Container) -> Result<Container> {
        let mut new = owner.clone();
        for endpoint in &gone.endpoints {
            if owner.endpoint_on(&endpoint.network).is_some() {
                return Err(Error::Forbidden(format!(
                    "endpoint with name {} already exists in network {}",
                    owner.name, endpoint.network_name
                )));
            }
            let network = self.networks.get(&endpoint.network);
            let prefix = network.map(|network| network.bridge_options.interface_prefix.clone()).unwrap_or_default();
            new.endpoints.push(Endpoint { interface: free_interface(&prefix, &new), ..endpoint.clone() });
        }
        new.exposed.extend(gone.exposed.iter().cloned());
        new.exposed.sort();
        new.exposed.dedup();
        self.store.apply(&[Change::RemoveContainer(gone.id), Change::PutContainer(&new)])?;
        self.containers.remove(&gone.id);
        self.containers.insert(new.id, new.clone());
        let interfaces = self.live.remove(&gone.id).map(|live| live.interfaces).unwrap_or_default();
        if let Some(live) = self.live.get_mut(&new.id) {
            live.interfaces.extend(interfaces);
        }
        self.names.remove(&gone.id).await;
        self.update_names(&new.id).await?;
        Ok(new)
    }

    /// Publishes ports at an endpoint, which from now on has the container's default route; in the place of those that it had.
    pub(super) fn publish_handed(&mut self, engine: Engine, endpoint: Id, requests: Vec<PortRequest>) -> Result<()> {
        self.unpublish_handed(endpoint)?;
        let (old, endpoint) = self.expect_handed(engine, &endpoint)?;
        let mut new = old.clone();
        for other in &mut new.endpoints {
            other.requested.gw_priority = i64::from(other.id == endpoint.id);
        }
        let fresh = self.take_ports(&new, &requests)?;
        new.ports.extend(fresh.iter().cloned());
        if let Some(sandbox) = &mut new.sandbox {
            let ports = fresh.iter().map(|binding| binding.slot).collect();
            let owner = engine.as_str().to_owned();
            sandbox.interfaces.insert(endpoint.interface, SandboxInterface { owner, ports });
        }
        self.replace_ports(&old, &new).inspect_err(|_| fresh.iter().for_each(|binding| self.give_back(binding)))
    }

    /// Takes back what [`Agent::publish_handed`] published.
    pub(super) fn unpublish_handed(&mut self, endpoint: Id) -> Result<()> {
        let Some((container, endpoint)) = self.handed(&endpoint) else { return Ok(()) };
        let (old, endpoint) = (container.clone(), endpoint.clone());
        let mut new = old.clone();
        let said = new.sandbox.as_mut().and_then(|sandbox| sandbox.interfaces.remove(&endpoint.interface));
        let Some(said) = said else { return Ok(()) };
        new.ports.retain(|binding| !said.ports.contains(&binding.slot));
        for other in &mut new.endpoints {
            other.requested.gw_priority = 0;
        }
        self.replace_ports(&old, &new)?;
        let gone = old.ports.iter().filter(|binding| said.ports.contains(&binding.slot));
        gone.for_each(|binding| self.give_back(binding));
        Ok(())
    }

    /// Takes an endpoint away, and with its last one the container.
    pub(super) async fn take_back(&mut self, endpoint: Id) -> Result<()> {
        self.unpublish_handed(endpoint)?;
        let Some((container, endpoint)) = self.handed(&endpoint) else { return Ok(()) };
        let (old, endpoint) = (container.clone(), endpoint.clone());
        if old.endpoints.len() == 1 {
            return self.forget_sandbox(&old).await.into_result();
        }
        let mut new = old.clone();
        new.endpoints.retain(|other| other.id != endpoint.id);
        self.reshape(&old, new).await?;
        self.release_endpoint(&endpoint);
        self.tell_membership("disconnect", &old.id, (endpoint.network, &endpoint.network_name, endpoint.driver));
        Ok(())
    }

    /// Removes a network that its engine has done with, and what the engine has left on it. The engine is not going to hear that it cannot
    /// be removed: one on which containers of our own are is ours from now on.
    pub(super) async fn remove_engine_network(&mut self, engine: Engine, id: Id) -> Result<()> {
        let Ok(network) = self.engine_network(engine, &id).cloned() else { return Ok(()) };
        let handed = self.members(&id).filter(|(container, _)| container.engine().is_some());
        for endpoint in handed.map(|(_, endpoint)| endpoint.id).collect::<Vec<_>>() {
            self.take_back(endpoint).await?;
        }
        if self.members(&id).next().is_none() {
            return self.remove_network(id.to_string()).await.map(drop);
        }
        tracing::warn!(
            "{engine} has removed network {}, and containers are still on it: it is our own now",
            network.name
        );
        let network = Network { engine: None, ..network };
        self.store.apply(&[Change::PutNetwork(&network)])?;
        self.networks.insert(id, network);
        Ok(())
    }

    /// Forgets a container whose namespace somebody else made, whoever that is.
    pub(super) async fn forget_attached(&mut self, id: &Id) -> Result<()> {
        match self.containers.get(id).cloned() {
            Some(container) => self.forget_sandbox(&container).await.into_result(),
            None => Ok(()),
        }
    }

    /// Looks for interfaces in the namespaces to which they were to be moved, and tells the neighbours of those that are there now.
    /// Returns whether all are.
    pub(super) async fn settle(&mut self) -> Result<bool> {
        let mut all = true;
        let handed: Vec<_> = self.containers.values().filter(|c| c.engine().is_some()).cloned().collect();
        for container in handed {
            let settled = self.live.get(&container.id).map(|live| live.settled.clone()).unwrap_or_default();
            let waiting = |endpoint: &&Endpoint| !settled.contains(&endpoint.slot);
            let waiting: Vec<_> = container.endpoints.iter().filter(waiting).map(|endpoint| endpoint.slot).collect();
            if !waiting.is_empty() {
                all &= self.settle_one(container, &waiting).await?;
            }
        }
        Ok(all)
    }

    async fn settle_one(&mut self, mut container: Container, waiting: &[u32]) -> Result<bool> {
        let Some(sandbox) = &mut container.sandbox else { return Ok(true) };
        let Some(netns) = NetNs::open_if_there(&sandbox.netns)? else { return Ok(false) };
        let before = (sandbox.clone(), container.endpoints.clone());
        sandbox.cookie = netns.cookie()?;
        let links = Netlink::open_in(&netns)?.links()?;
        let mut all = true;
        let mut published = std::mem::take(&mut sandbox.interfaces);
        for endpoint in &mut container.endpoints {
            let found = links.iter().find(|link| link.kind == "veth" && link.mac == Some(endpoint.mac.bytes()));
            let said = published.remove(&endpoint.interface);
            // Before it is renamed it may not be told of: it is not up.
            if let Some(link) = found.filter(|link| link.up) {
                endpoint.interface.clone_from(&link.name);
                if waiting.contains(&endpoint.slot) {
                    let netns = netns.try_clone()?;
                    let (mac, addresses) = (endpoint.mac.bytes(), endpoint.addresses().collect());
                    let interface = endpoint.host_interface.clone();
                    Announcement { netns, ifindex: link.ifindex, mac, addresses, interface }.send();
                    self.live.entry(container.id).and_modify(|live| _ = live.settled.insert(endpoint.slot));
                }
            } else {
                all = false;
            }
            sandbox.interfaces.extend(said.map(|said| (endpoint.interface.clone(), said)));
        }
        if before != (sandbox.clone(), container.endpoints.clone()) {
            self.rewrite(container)?;
        }
        Ok(all)
    }

    /// Takes over what an engine calls its containers and networks. Names that others have here are left out. Returns whether all of its
    /// containers are known now.
    pub(super) async fn learn(
        &mut self,
        engine: Engine,
        containers: Vec<KnownContainer>,
        networks: Vec<KnownNetwork>,
    ) -> Result<bool> {
        let used: Vec<_> = networks.iter().flat_map(|network| network.subnets.iter().copied()).collect();
        self.forget_blocks(engine, &used)?;
        for network in networks {
            self.rename_network(engine, network).await?;
        }
        for known in &containers {
            let Some((container, _)) = self.handed(&known.endpoint) else { continue };
            let old = container.clone();
            if old.id != known.id && !self.containers.contains_key(&known.id) {
                self.change_id(&old, known.id).await?;
            }
            let id = if self.containers.contains_key(&known.id) { known.id } else { old.id };
            let named = old.name == known.name || self.container_name(Some(&known.name)).is_err();
            if id == known.id && !named {
                self.rename(&id.to_string(), &known.name).await?;
            }
        }
        let unknown = |container: &&Container| {
            let is_known = |endpoint: &Endpoint| containers.iter().any(|known| known.endpoint == endpoint.id);
            container.engine() == Some(engine) && !container.endpoints.iter().any(is_known)
        };
        Ok(!self.containers.values().any(|container| unknown(&container)))
    }

    /// Gives a container the id by which its engine knows it.
    async fn change_id(&mut self, old: &Container, id: Id) -> Result<()> {
        let new = Container { id, ..old.clone() };
        self.store.apply(&[Change::RemoveContainer(old.id), Change::PutContainer(&new)])?;
        self.containers.remove(&old.id);
        self.containers.insert(id, new);
        if let Some(live) = self.live.remove(&old.id) {
            self.live.insert(id, live);
        }
        self.names.remove(&old.id).await;
        self.update_names(&id).await
    }

    async fn rename_network(&mut self, engine: Engine, known: KnownNetwork) -> Result<()> {
        let KnownNetwork { id, name, .. } = known;
        let Some(old) = self.networks.get(&id).filter(|network| network.engine == Some(engine)) else { return Ok(()) };
        let taken = self.networks.values().any(|network| network.name == name);
        if taken || check_name("network", &name).is_err() {
            return Ok(());
        }
        let old_name = old.name.clone();
        let network = Network { name: name.clone(), ..old.clone() };
        let mut members = Vec::new();
        for container in self.containers.values() {
            let mut new = container.clone();
            let endpoints = new.endpoints.iter_mut().filter(|endpoint| endpoint.network == id);
            endpoints.for_each(|endpoint| endpoint.network_name.clone_from(&name));
            let attachments = new.attachments.iter_mut().filter(|attachment| attachment.network == id);
            attachments.for_each(|attachment| attachment.network_name.clone_from(&name));
            if new.network_mode == old_name {
                new.network_mode.clone_from(&name);
            }
            if new != *container {
                members.push(new);
            }
        }
        let changes = members.iter().map(Change::PutContainer).chain([Change::PutNetwork(&network)]);
        self.store.apply(&changes.collect::<Vec<_>>())?;
        self.networks.insert(id, network);
        for member in members {
            let id = member.id;
            self.containers.insert(id, member);
            if self.live.contains_key(&id) {
                self.update_names(&id).await?;
            }
        }
        tracing::info!(network = name, id = %id, "network of {engine} renamed from {old_name}");
        Ok(())
    }

    /// Whether an engine's container, which nobody has seen, has not so much as a place any more: the machine has started anew.
    pub(super) fn was_never_there(&self, container: &Container) -> bool {
        let unseen = |sandbox: &&Sandbox| sandbox.cookie == 0 && sandbox.netns != Path::new("");
        let gone = container.sandbox.as_ref().filter(unseen).is_some_and(|sandbox| !sandbox.netns.exists());
        if gone {
            tracing::info!(container = container.name, "its network namespace is not there");
        }
        gone
    }

    fn handed(&self, id: &Id) -> Option<(&Container, &Endpoint)> {
        let handed = self.containers.values().filter(|container| container.engine().is_some());
        let mut endpoints = handed.flat_map(|container| container.endpoints.iter().map(move |e| (container, e)));
        endpoints.find(|(_, endpoint)| endpoint.id == *id)
    }

    fn expect_handed(&self, engine: Engine, id: &Id) -> Result<(Container, Endpoint)> {
        let found = self.handed(id).map(|(container, endpoint)| (container.clone(), endpoint.clone()));
        found.ok_or_else(|| {
            Error::NotFound(format!(
                "endpoint {} is not known to Spandrel, which has forgotten or never heard of it: stop the container and start it again, then {engine} asks for a new one",
                id.short()
            ))
        })
    }

    /// A network that an engine asked for.
    pub(super) fn engine_network(&self, engine: Engine, id: &Id) -> Result<&Network> {
        self.networks.get(id).filter(|network| network.engine == Some(engine)).ok_or_else(|| {
            Error::NotFound(format!(
                "network {} is not known to Spandrel any more, it was removed behind {engine}'s back: remove it with `{} network rm` and create it again",
                id.short(),
                engine.as_str()
            ))
        })
    }
}

/// What the engine is told of an endpoint.
fn handed(network: &Network, endpoint: &Endpoint) -> Handed {
    Handed {
        endpoint: endpoint.clone(),
        interface: handed_interface(endpoint),
        prefix: network.bridge_options.interface_prefix.clone(),
    }
}

/// What the end that an engine moves is called before.
pub(super) fn handed_interface(endpoint: &Endpoint) -> String {
    format!("{}c", endpoint.host_interface)
}

/// What there is to say when an interface is gone that only its engine could put in place.
pub(super) fn handed_away(container: &Container, engine: Engine, endpoint: &Endpoint) -> Error {
    Error::NotFound(format!(
        "interface {} of container {} on network {} is gone, and only {engine} can put another one in place: restart the container",
        endpoint.host_interface, container.name, endpoint.network_name
    ))
}

/// Engines would not know of it.
pub(super) fn not_ours_to_connect(container: &Container, engine: Engine, verb: &str) -> Error {
    let (name, command) = (&container.name, engine.as_str());
    Error::Forbidden(format!("container {name} is {engine}'s: use `{command} network {verb} NETWORK {name}`"))
}
