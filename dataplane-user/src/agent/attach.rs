//! Namespaces that somebody else made: given interfaces on our networks, and these taken away again.
//!
//! Such a namespace is a container without a command: it has endpoints, published ports and names as others have, and the same code
//! makes and mends them. It has no files, and its end is not ours to bring about: a namespace that is not where it was any more is
//! forgotten with all that it had.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use jiff::Timestamp;

use super::Work;
use super::endpoint::{default_routes, prefixes, static_routes};
use super::engine::not_ours_to_connect;
use super::error::Troubles;
use super::state::{Agent, Live};
use crate::dns::ResolvConf;
use crate::kernel::netns::NetNsId;
use crate::kernel::pidfd;
use crate::kernel::{Inventory, Link, NetNs, Netlink};
use crate::model::{
    AttachRequest, Container, Driver, Endpoint, Error, Id, MacAddress, Naming, Network, PublishedPort, Result, Sandbox,
    SandboxInterface, State, check_interface_name, check_key, check_name, netns_path, resolve,
};
use crate::store::Change;

/// Everything about an interface that was attached.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The container that stands for the namespace.
    pub container: Container,
    /// Its endpoint behind the interface.
    pub endpoint: Endpoint,
    /// Who attached it.
    pub owner: String,
    /// The largest packet that the interface carries; 0 if the network leaves it to another interface.
    pub mtu: u32,
    /// The Ethernet address of the host's end; none on a macvlan network.
    pub host_mac: Option<MacAddress>,
    /// The network's bridge and its Ethernet address; none on a macvlan network.
    pub bridge: Option<(String, MacAddress)>,
    /// Addresses with prefix lengths and, where the network leads outside, gateways.
    pub addresses: Vec<(IpNet, Option<IpAddr>)>,
    /// The gateways of the default routes that lead through it.
    pub default_routes: Vec<IpAddr>,
    /// The other routes that lead through it, each with its next hop.
    pub routes: Vec<(IpNet, IpAddr)>,
    /// What a resolver in the namespace is to be told.
    pub resolver: ResolvConf,
    /// The published ports that came with it, as they are in force.
    pub ports: Vec<PublishedPort>,
    /// Things that were asked for and have no effect.
    pub warnings: Vec<String>,
}

/// Which of the interfaces that were attached are wanted; what is left out does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those of one container, as [`Agent::attached`] knows it.
    pub container: Option<String>,
    /// Those of this name.
    pub interface: Option<String>,
    /// Those that this owner attached.
    pub owner: Option<String>,
}

impl Agent {
    /// Gives a namespace an interface on a network, or changes nothing.
    pub(super) async fn attach(&mut self, request: AttachRequest) -> Result<Attachment> {
        let network = self.network(&request.network)?.clone();
        if !network.driver.is_joined() {
            return Err(Error::Invalid(format!("network {} has no interfaces to attach", network.name)));
        }
        if let Some(key) = &request.key {
            check_key(key)?;
        }
        let path = netns_path(&request.netns)?;
        let netns = NetNs::open_if_there(&path)?.ok_or_else(|| not_there(&path))?;
        let cookie = netns.cookie()?;
        self.check_foreign(&netns, &path)?;
        let there = Netlink::open_in(&netns)?.inventory()?;
        let old = self.find_sandbox(&request, cookie, &path).await?;
        let base = match &old {
            Some(old) => old.clone(),
            None => self.new_sandbox(&request, &network, path, cookie)?,
        };
        if base.endpoint_on(&network.id).is_some() {
            return Err(Error::Forbidden(format!(
                "endpoint with name {} already exists in network {}",
                base.name, network.name
            )));
        }
        let interface = choose_interface(&request, &network, &base, &there)?;
        let ports = request.publish.requests()?;

        let mut endpoint = self.allocate_endpoint(&network, &base, &request.endpoint)?;
        endpoint.interface.clone_from(&interface);
        settle_routes(&mut endpoint).inspect_err(|_| self.release_endpoint(&endpoint))?;
        let warnings = leave_default_routes(&mut endpoint, &base, &there);
        let mut new = base.clone();
        new.endpoints.push(endpoint.clone());
        let fresh = self.take_ports(&new, &ports).inspect_err(|_| self.release_endpoint(&endpoint))?;
        if let Some(sandbox) = &mut new.sandbox {
            let slots = fresh.iter().map(|binding| binding.slot).collect();
            let said = SandboxInterface { owner: request.owner, ports: slots };
            // The room that a first entry takes is worth to be spared where there is nothing to say, as mostly.
            if said != SandboxInterface::default() {
                sandbox.interfaces.insert(interface.clone(), said);
            }
        }
        new.ports.extend(fresh.iter().cloned());
        let result = match &old {
            Some(old) => self.reshape(old, new).await.inspect_err(|_| {
                fresh.iter().for_each(|binding| self.give_back(binding));
                self.release_endpoint(&endpoint);
            }),
            None => self.install_sandbox(new).await,
        };
        result?;
        self.tell_membership("connect", &base.id, (network.id, &network.name, network.driver));
        tracing::info!(container = base.name, network = network.name, interface, "attached");
        let container = self.containers.get(&base.id).ok_or_else(|| Error::Internal("it is not on record".into()))?;
        Ok(Attachment { warnings, ..self.attachment(container, &endpoint).await? })
    }

    /// Puts a container for a namespace on record and into the kernel, or nowhere.
    pub(super) async fn install_sandbox(&mut self, mut container: Container) -> Result<()> {
        let id = container.id;
        if let Err(error) = self.bring_sandbox_up(&mut container).await {
            let mut troubles = self.take_down(&container).await;
            troubles.note(self.forget_container(&id));
            self.live.remove(&id);
            return Err(troubles.onto(error));
        }
        if let Err(error) = self.tell_linked(&container.name) {
            tracing::error!("telling others of container {}: {error}", container.name);
        }
        Ok(())
    }

    async fn bring_sandbox_up(&mut self, container: &mut Container) -> Result<()> {
        let id = container.id;
        self.live.insert(id, Live::new());
        self.follow_process(container);
        self.store.apply(&[Change::PutContainer(container)])?;
        self.containers.insert(id, container.clone());
        for endpoint in &container.endpoints {
            self.ensure_endpoint(&id, &endpoint.id).await?;
        }
        self.announce_ports(&id)?;
        self.update_links()?;
        self.update_names(&id).await?;
        container.state = State::Running { pid: 0, started: container.created };
        self.rewrite(container.clone())
    }

    /// A namespace that is the host's own, or that of a container of ours, is not somebody else's.
    fn check_foreign(&self, netns: &NetNs, path: &Path) -> Result<()> {
        let id = netns.id()?;
        let shown = path.display();
        if id == NetNs::current()?.id()? {
            return Err(Error::Invalid(format!("{shown} is the host's own network namespace, which has no networks")));
        }
        let own = self.containers.values().filter(|container| container.is_running() && container.sandbox.is_none());
        let known = |container: &Container| self.live.get(&container.id).and_then(|live| live.netns);
        let is_it = |container: &&Container| match known(container) {
            Some(own) => own == id,
            None => NetNsId::of_file(&self.paths.netns(container)).is_ok_and(|own| own == id),
        };
        match own.into_iter().find(is_it) {
            Some(owner) => Err(Error::Conflict(format!(
                "{shown} is the network namespace of container {name}: use `spandrel network connect NETWORK {name}`",
                name = owner.name
            ))),
            None => Ok(()),
        }
    }

    /// The container that stands for a namespace already, if there is one. What contradicts the request is refused.
    async fn find_sandbox(&mut self, request: &AttachRequest, cookie: u64, path: &Path) -> Result<Option<Container>> {
        let elsewhere = |(container, sandbox): (&Container, &Sandbox)| {
            let same = request.key.as_ref() == Some(&sandbox.key);
            (same && sandbox.cookie != cookie).then(|| (container.clone(), sandbox.netns.clone()))
        };
        let elsewhere = self.sandboxes().find_map(elsewhere);
        if let Some((owner, netns)) = elsewhere {
            if self.is_there(&owner) {
                return Err(Error::Conflict(format!(
                    "container {} is in the network namespace {}, not in {}: detach it first",
                    owner.name,
                    netns.display(),
                    path.display()
                )));
            }
            // Nobody has looked since it vanished.
            self.forget_sandbox(&owner).await.log(&format!("container {}", owner.name));
        }
        let found = self.sandboxes().find(|(_, sandbox)| sandbox.cookie == cookie);
        let Some((owner, sandbox)) = found else { return Ok(None) };
        if let Some(engine) = sandbox.engine {
            return Err(not_ours_to_connect(owner, engine, "connect"));
        }
        let named = request.name.as_ref().is_none_or(|name| *name == owner.name);
        if request.key.as_ref().is_some_and(|key| *key != sandbox.key) || !named {
            return Err(Error::Conflict(format!(
                "the network namespace {} is attached as container {} already: leave its name out or detach it first",
                path.display(),
                owner.name
            )));
        }
        Ok(Some(owner.clone()))
    }

    /// A container without endpoints for a namespace.
    fn new_sandbox(
        &self,
        request: &AttachRequest,
        network: &Network,
        netns: PathBuf,
        cookie: u64,
    ) -> Result<Container> {
        let id = request.key.as_ref().and_then(|key| key.parse().ok()).unwrap_or_else(Id::random);
        if let Some(other) = self.containers.get(&id) {
            return Err(Error::Conflict(format!("container {} has the id {id} already", other.name)));
        }
        let name = match &request.name {
            Some(name) => self.container_name(Some(name))?,
            None => {
                let key = request.key.as_ref().map(|key| key.parse::<Id>().map_or(key.clone(), |id| id.short()));
                // Of `/proc/PID/ns/net` the last part says nothing.
                let file = netns.file_name().filter(|_| !netns.starts_with("/proc"));
                let file = file.and_then(|name| name.to_str()).map(String::from);
                let usable =
                    |name: &String| check_name("container", name).is_ok() && self.container_name(Some(name)).is_ok();
                let mut candidates = [request.preferred_name.clone(), key, file].into_iter().flatten();
                match candidates.find(usable) {
                    Some(name) => name,
                    None => self.container_name(None)?,
                }
            }
        };
        let key = request.key.clone().unwrap_or_else(|| name.clone());
        Ok(Container {
            id,
            hostname: name.clone(),
            name,
            command: Vec::new(),
            env: Vec::new(),
            working_dir: String::new(),
            auto_remove: true,
            created: Timestamp::now(),
            state: State::Created,
            network_mode: network.name.clone(),
            endpoints: Vec::new(),
            attachments: Vec::new(),
            exposed: Vec::new(),
            ports: Vec::new(),
            naming: Naming::default(),
            labels: request.labels.clone(),
            sandbox: Some(Sandbox { key, netns, cookie, engine: None, interfaces: Default::default() }),
        })
    }

    /// Takes one interface out of its namespace, or all of them; with `owner`, only those that it attached.
    pub(super) async fn detach(
        &mut self,
        reference: String,
        interface: Option<String>,
        owner: Option<String>,
    ) -> Result<()> {
        let old = self.attached(&reference)?.clone();
        let Some(sandbox) = &old.sandbox else { return Err(not_attached(&old)) };
        if let Some(engine) = sandbox.engine {
            return Err(not_ours_to_connect(&old, engine, "disconnect"));
        }
        let named = |endpoint: &&Endpoint| {
            let by = sandbox.interfaces.get(&endpoint.interface).map(|said| said.owner.as_str()).unwrap_or_default();
            interface.as_ref().is_none_or(|name| endpoint.interface == *name)
                && owner.as_ref().is_none_or(|owner| by == owner)
        };
        let (gone, kept): (Vec<&Endpoint>, Vec<&Endpoint>) = old.endpoints.iter().partition(named);
        if gone.is_empty()
            && let Some(interface) = interface
        {
            return Err(Error::NotFound(format!("No such interface: {interface} of container {}", old.name)));
        }
        if kept.is_empty() {
            return self.forget_sandbox(&old).await.into_result();
        }
        for endpoint in gone {
            self.detach_one(&old.id, endpoint).await?;
        }
        Ok(())
    }

    /// Takes one of several interfaces away.
    async fn detach_one(&mut self, id: &Id, endpoint: &Endpoint) -> Result<()> {
        let Some(old) = self.containers.get(id).cloned() else { return Ok(()) };
        let mut new = old.clone();
        let said = new.sandbox.as_mut().and_then(|sandbox| sandbox.interfaces.remove(&endpoint.interface));
        let slots = said.map(|said| said.ports).unwrap_or_default();
        new.ports.retain(|binding| !slots.contains(&binding.slot));
        let unpublished = Container { ports: new.ports.clone(), ..old.clone() };
        self.replace_ports(&old, &unpublished)?;
        old.ports.iter().filter(|b| slots.contains(&b.slot)).for_each(|binding| self.give_back(binding));
        new.endpoints.retain(|other| other.id != endpoint.id);
        self.reshape(&unpublished, new).await?;
        self.release_endpoint(endpoint);
        self.tell_membership("disconnect", id, (endpoint.network, &endpoint.network_name, endpoint.driver));
        tracing::info!(container = old.name, network = endpoint.network_name, "detached");
        Ok(())
    }

    /// Forgets a namespace with all that it had: it was detached, or has vanished.
    pub(super) async fn forget_sandbox(&mut self, container: &Container) -> Troubles {
        let mut troubles = self.take_down(container).await;
        troubles.note(self.forget_container(&container.id));
        self.live.remove(&container.id);
        self.tell_memberships("disconnect", container);
        tracing::info!(container = container.name, "detached from all networks");
        troubles
    }

    /// Forgets the namespaces that are not where they were any more.
    pub(super) async fn forget_vanished(&mut self) {
        let sandboxes: Vec<_> = self.sandboxes().map(|(container, _)| container.id).collect();
        for id in sandboxes {
            self.forget_if_vanished(&id).await;
        }
    }

    async fn forget_if_vanished(&mut self, id: &Id) {
        let Some(container) = self.containers.get(id).filter(|container| !self.is_there(container)).cloned() else {
            return;
        };
        let _expedited = self.grace_periods.expedite();
        self.forget_sandbox(&container).await.log(&format!("container {}", container.name));
    }

    /// Has a namespace forgotten as soon as the process has ended by whose number it is known. What is mounted goes with a change of the
    /// mounts, which is followed for all of them.
    pub(super) fn follow_process(&mut self, container: &Container) {
        let Some(pid) = container.sandbox.as_ref().and_then(|sandbox| process_of(&sandbox.netns)) else { return };
        let Some(live) = self.live.get_mut(&container.id) else { return };
        let (queue, id) = (self.queue.clone(), container.id);
        live.waits.spawn(async move {
            if let Err(error) = pidfd::ended(pid).await {
                return tracing::warn!("waiting for the end of process {pid}: {error}");
            }
            let work: Work = Box::new(move |agent| {
                Box::pin(async move {
                    agent.forget_if_vanished(&id).await;
                    ControlFlow::Continue(())
                })
            });
            // Without an owner the next agent finds out when it converges.
            let _ = queue.send(work).await;
        });
    }

    /// Whether a container's namespace is where it was; in doubt it is.
    pub(super) fn is_there(&self, container: &Container) -> bool {
        let Some(sandbox) = &container.sandbox else { return true };
        if sandbox.cookie == 0 {
            return true;
        }
        // While its names are served, the sockets for that keep it in being, and no other has its number: no thread need enter it.
        let live = self.live.get(&container.id).filter(|_| self.names.serves(&container.id));
        if live.is_some_and(|live| live.netns.is_some() && live.netns == NetNsId::of_file(&sandbox.netns).ok()) {
            return true;
        }
        match sandbox_netns(sandbox) {
            Ok(Some(_)) => true,
            Ok(None) => {
                tracing::info!(container = container.name, "its network namespace has vanished");
                false
            }
            Err(error) => {
                tracing::warn!("looking for the network namespace of container {}: {error}", container.name);
                true
            }
        }
    }

    pub(super) fn sandboxes(&self) -> impl Iterator<Item = (&Container, &Sandbox)> {
        self.containers.values().filter_map(|container| Some((container, container.sandbox.as_ref()?)))
    }

    /// Looks a container up that stands for a namespace: by what its owner calls it, by name or id, or by the namespace itself.
    fn attached(&self, reference: &str) -> Result<&Container> {
        if let Some((container, _)) = self.sandboxes().find(|(_, sandbox)| sandbox.key == reference) {
            return Ok(container);
        }
        let named = || resolve("container", reference, self.containers.values());
        // No name has one, and to find out which one was meant takes long.
        if !reference.contains('/')
            && let Ok(container) = named()
        {
            return container.sandbox.as_ref().map(|_| container).ok_or_else(|| not_attached(container));
        }
        let path = netns_path(reference).ok();
        let cookie = path.as_ref().and_then(|path| NetNs::open_if_there(path).ok()??.cookie().ok());
        let here = |sandbox: &Sandbox| match cookie {
            Some(cookie) => sandbox.cookie == cookie,
            None => path.as_ref() == Some(&sandbox.netns),
        };
        self.sandboxes().find(|(_, sandbox)| here(sandbox)).map_or_else(named, |(container, _)| Ok(container))
    }

    /// The interfaces that are wanted, in order of containers' names and their own.
    pub(super) async fn attachments(&mut self, wanted: Wanted) -> Result<Vec<Attachment>> {
        let mut containers: Vec<&Container> = match &wanted.container {
            Some(reference) => vec![self.attached(reference)?],
            None => self.sandboxes().map(|(container, _)| container).filter(|c| c.engine().is_none()).collect(),
        };
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut found = Vec::new();
        for container in containers {
            let mut endpoints: Vec<&Endpoint> = container.endpoints.iter().collect();
            endpoints.sort_by(|a, b| a.interface.cmp(&b.interface));
            for endpoint in endpoints {
                if wanted.interface.as_ref().is_some_and(|name| endpoint.interface != *name) {
                    continue;
                }
                let attachment = self.attachment(container, endpoint).await?;
                if wanted.owner.as_ref().is_none_or(|owner| attachment.owner == *owner) {
                    found.push(attachment);
                }
            }
        }
        Ok(found)
    }

    async fn attachment(&self, container: &Container, endpoint: &Endpoint) -> Result<Attachment> {
        let network = self.networks.get(&endpoint.network);
        let network = network.ok_or_else(|| Error::Internal("the network is not on record".into()))?;
        let said = container.sandbox.as_ref().and_then(|sandbox| sandbox.interfaces.get(&endpoint.interface));
        let said = said.cloned().unwrap_or_default();
        let (mut host_mac, mut bridge) = (None, None);
        if endpoint.driver == Driver::Bridge {
            let mac = |link: Link| link.mac.map(MacAddress::from);
            host_mac = self.netlink.link(&endpoint.host_interface).await?.and_then(mac);
            bridge = self.netlink.link(&network.bridge).await?.and_then(mac).map(|mac| (network.bridge.clone(), mac));
        }
        let gateway = |net: &IpNet| match net {
            IpNet::V4(_) => endpoint.gateway_v4.map(Into::into),
            IpNet::V6(_) => endpoint.gateway_v6.map(Into::into),
        };
        let published = container.published().filter(|(binding, _)| said.ports.contains(&binding.slot));
        Ok(Attachment {
            owner: said.owner.clone(),
            mtu: match &network.macvlan {
                Some(options) => options.mtu.unwrap_or_default(),
                None => network.bridge_options.mtu,
            },
            host_mac,
            bridge,
            addresses: prefixes(endpoint).into_iter().map(|net| (net, gateway(&net))).collect(),
            default_routes: default_routes(container, endpoint),
            routes: static_routes(endpoint),
            resolver: self.resolver(container),
            ports: published.flat_map(|(_, entries)| entries).collect(),
            warnings: Vec::new(),
            container: container.clone(),
            endpoint: endpoint.clone(),
        })
    }

    /// What is not as it should be of one interface, or of all, a sentence each.
    pub(super) async fn faults(&mut self, reference: String, interface: Option<String>) -> Result<Vec<String>> {
        let container = self.attached(&reference)?;
        let Some(sandbox) = &container.sandbox else { return Err(not_attached(container)) };
        let Some(netns) = sandbox_netns(sandbox)? else {
            return Ok(vec![vanished(container, sandbox).to_string()]);
        };
        let wanted = |endpoint: &&Endpoint| interface.as_ref().is_none_or(|name| endpoint.interface == *name);
        let endpoints: Vec<&Endpoint> = container.endpoints.iter().filter(wanted).collect();
        if endpoints.is_empty()
            && let Some(interface) = interface
        {
            return Err(Error::NotFound(format!("No such interface: {interface} of container {}", container.name)));
        }
        let mut faults = Vec::new();
        for endpoint in endpoints.into_iter().filter(|endpoint| endpoint.driver == Driver::Bridge) {
            let network = self.networks.get(&endpoint.network);
            match network.zip(self.bridges.get(&endpoint.network)) {
                Some((network, bridge)) => {
                    let spec = self.veth_spec(container, endpoint, network, bridge);
                    faults.extend(self.netlink.faults(&spec, &netns).await?);
                }
                None => faults.push(format!("the bridge of network {} is missing", endpoint.network_name)),
            }
        }
        Ok(faults)
    }
}

/// The namespace of a sandbox; none if it is not where it was any more, even if there is another one now.
pub(super) fn sandbox_netns(sandbox: &Sandbox) -> Result<Option<NetNs>> {
    let Some(netns) = NetNs::open_if_there(&sandbox.netns)? else { return Ok(None) };
    let same = netns.cookie()? == sandbox.cookie;
    Ok(same.then_some(netns))
}

/// The process that a path below `/proc` belongs to.
fn process_of(netns: &Path) -> Option<i32> {
    netns.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok()
}

/// What there is to say when a container's namespace is gone.
pub(super) fn vanished(container: &Container, sandbox: &Sandbox) -> Error {
    let (name, path) = (&container.name, sandbox.netns.display());
    Error::NotFound(format!("the network namespace {path} of container {name} has vanished"))
}

fn not_there(path: &Path) -> Error {
    let shown = path.display();
    match path.exists() {
        true => Error::Invalid(format!("{shown} is not a network namespace")),
        false => Error::NotFound(format!(
            "no such network namespace: {shown}: a path, a name of `ip netns` or a process id is expected"
        )),
    }
}

fn not_attached(container: &Container) -> Error {
    Error::Forbidden(format!(
        "container {} is one of our own: `spandrel network disconnect` takes it off a network",
        container.name
    ))
}

/// The new interface's name: what was asked for, or the network's prefix and the lowest number that is free.
fn choose_interface(
    request: &AttachRequest,
    network: &Network,
    container: &Container,
    there: &Inventory,
) -> Result<String> {
    let taken = |name: &String| {
        container.endpoints.iter().any(|endpoint| endpoint.interface == *name) || there.interfaces.contains(name)
    };
    match &request.interface {
        Some(name) => {
            check_interface_name(name)
                .map_err(|why| Error::Invalid(format!("invalid interface name {name:?}: {why}")))?;
            match taken(name) {
                true => Err(Error::Conflict(format!("interface {name} exists already in the network namespace"))),
                false => Ok(name.clone()),
            }
        }
        None => {
            let prefix = &network.bridge_options.interface_prefix;
            let mut names = (0u32..).map(|number| format!("{prefix}{number}"));
            // There are more numbers than interfaces.
            Ok(names.find(|name| !taken(name)).unwrap_or_default())
        }
    }
}

/// Gives every route its next hop, which is in a subnet of the interface.
fn settle_routes(endpoint: &mut Endpoint) -> Result<()> {
    let own = prefixes(endpoint);
    for route in &mut endpoint.requested.routes {
        let invalid = |why: String| Err(Error::Invalid(format!("invalid route to {}: {why}", route.destination)));
        let gateway = match route.destination {
            IpNet::V4(_) => endpoint.gateway_v4.map(IpAddr::V4),
            IpNet::V6(_) => endpoint.gateway_v6.map(IpAddr::V6),
        };
        let network = &endpoint.network_name;
        match route.gateway.or(gateway) {
            None => return invalid(format!("network {network} has no gateway that could be its next hop")),
            Some(hop) if !own.iter().any(|net| net.contains(&hop)) => {
                return invalid(format!("its next hop {hop} is in no subnet of network {network}"));
            }
            hop => route.gateway = hop,
        }
    }
    Ok(())
}

/// A default route that somebody else put into the namespace stays; then nothing is published by this way, since answers would not
/// come back. Returns what there is to say about it.
fn leave_default_routes(endpoint: &mut Endpoint, container: &Container, there: &Inventory) -> Vec<String> {
    let foreign = |name: &&String| container.endpoints.iter().all(|endpoint| endpoint.interface != **name);
    let mut warnings = Vec::new();
    let said = |family: &str, name: &String| {
        format!("the {family} default route stays where it is, with interface {name} that somebody else made")
    };
    if let Some(name) = there.default_v4.as_ref().filter(foreign)
        && endpoint.gateway_v4.take().is_some()
    {
        warnings.push(said("IPv4", name));
    }
    if let Some(name) = there.default_v6.as_ref().filter(foreign)
        && endpoint.gateway_v6.take().is_some()
    {
        warnings.push(said("IPv6", name));
    }
    warnings
}
