//! The state that one task owns, and look-ups in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::events::Events;
use super::handle::{Attached, DropCount, ExitWatch, NetworkView};
use super::ports::HostPorts;
use super::{Options, Work};
use crate::dns::NameService;
use crate::ipam::{Ipam, Pool, RangeSet};
use crate::kernel::dataplane::Dataplane;
use crate::kernel::netns::NetNsId;
use crate::kernel::process::{Launcher, Running};
use crate::kernel::rcu::GracePeriods;
use crate::kernel::uplink::HostView;
use crate::kernel::{Bridge, Netlink};
use crate::model::{AddressBlock, Container, Driver, Endpoint, Error, Id, Network, Result, resolve};
use crate::store::Store;

/// Where things are on disk.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    run: PathBuf,
}

impl Paths {
    pub(super) fn new(run: &Path) -> Self {
        Paths { run: run.to_path_buf() }
    }

    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    pub(super) fn bpffs(&self) -> PathBuf {
        self.run.join("bpf")
    }

    /// Exists while grace periods may be expedited because of us.
    pub(super) fn rcu_marker(&self) -> PathBuf {
        self.run.join("rcu_expedited")
    }

    pub(super) fn all_netns(&self) -> PathBuf {
        self.run.join("netns")
    }

    /// Where the container's network namespace is kept; none if it uses the host's or somebody else keeps it.
    pub(super) fn own_netns(&self, container: &Container) -> Option<PathBuf> {
        let ours = !container.on_host_network() && container.sandbox.is_none();
        ours.then(|| self.all_netns().join(&container.name))
    }

    /// Where the container's network namespace can be entered.
    pub(super) fn netns(&self, container: &Container) -> PathBuf {
        match &container.sandbox {
            Some(sandbox) => sandbox.netns.clone(),
            None => self.own_netns(container).unwrap_or_else(|| "/proc/self/ns/net".into()),
        }
    }

    pub(super) fn all_containers(&self) -> PathBuf {
        self.run.join("containers")
    }

    pub(super) fn container(&self, id: &Id) -> PathBuf {
        self.all_containers().join(id.to_string())
    }

    /// The mark on our interfaces, by which they are known again after a crash.
    pub(super) fn alias(&self) -> String {
        format!("spandrel {}", self.run.display())
    }
}

/// Names of the interfaces that are ours, with the addresses that they were given; shared with the one who looks for uplinks.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnInterfaces(Arc<RwLock<BTreeMap<String, Vec<IpNet>>>>);

impl OwnInterfaces {
    pub(super) fn add(&self, name: &str, addresses: Vec<IpNet>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), addresses);
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The addresses of one of ours.
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpNet>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }
}

/// What a running container holds that is not on record.
#[derive(Debug)]
pub(super) struct Live {
    /// Its processes, once they are started.
    pub(super) process: Option<Running>,
    /// Tells those who wait for its end.
    pub(super) exit: watch::Sender<Option<i32>>,
    /// Its network namespace, once it has been opened.
    pub(super) netns: Option<NetNsId>,
    /// Its endpoints' host ends, by slot.
    pub(super) interfaces: HashMap<u32, HostEnd>,
    /// Endpoints, by slot, whose interface has been seen where the engine was to move it.
    pub(super) settled: HashSet<u32>,
    /// It ends to be started again.
    pub(super) restarts: bool,
    /// Waits for the end of the process by whose number somebody else's namespace is known.
    pub(super) waits: JoinSet<()>,
}

/// The host's end of an endpoint's veth, as it was left.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostEnd {
    /// Its number.
    pub(super) ifindex: u32,
    /// Whether it is a port of the bridge.
    pub(super) bridged: bool,
}

impl Live {
    pub(super) fn new() -> Self {
        Live {
            process: None,
            exit: ExitWatch::new().0,
            netns: None,
            interfaces: HashMap::new(),
            settled: HashSet::new(),
            restarts: false,
            waits: JoinSet::new(),
        }
    }
}

/// The state. What is on record is also in the store, at any time between two commands.
pub(super) struct Agent {
    pub(super) paths: Arc<Paths>,
    pub(super) store: Store,
    /// Where subnets come from when none is asked for.
    pub(super) pools: Vec<Pool>,
    pub(super) networks: BTreeMap<Id, Network>,
    pub(super) containers: BTreeMap<Id, Container>,
    /// The subnets of which engines give out the addresses.
    pub(super) blocks: BTreeMap<IpNet, AddressBlock>,
    /// Those of them that no network of theirs has, and since when that is known.
    pub(super) unused_blocks: HashMap<IpNet, Instant>,
    /// Taken addresses and slots; derived from the two above.
    pub(super) ipam: Ipam,
    pub(super) network_slots: RangeSet,
    pub(super) endpoint_slots: RangeSet,
    pub(super) port_slots: RangeSet,
    /// The host ports of running containers.
    pub(super) host_ports: HostPorts,
    pub(super) own_interfaces: OwnInterfaces,
    /// The names of running containers, and who answers them.
    pub(super) names: NameService,
    /// Expedited by whatever changes interfaces, programs or maps.
    pub(super) grace_periods: GracePeriods,
    /// The kernel's side.
    pub(super) netlink: Netlink,
    pub(super) dataplane: Dataplane,
    pub(super) host: HostView,
    pub(super) bridges: HashMap<Id, Bridge>,
    pub(super) live: HashMap<Id, Live>,
    pub(super) launcher: Launcher,
    /// Who is told of what happens.
    pub(super) events: Events,
    /// For the tasks that watch containers.
    pub(super) queue: mpsc::Sender<Work>,
    pub(super) options: Options,
}

/// Slots are below these.
const NETWORK_SLOTS: u128 = 4096;
const ENDPOINT_SLOTS: u128 = 16384;
const PORT_SLOTS: u128 = 32768;

impl Agent {
    /// Looks a network up.
    pub(super) fn network(&self, reference: &str) -> Result<&Network> {
        resolve("network", reference, self.networks.values())
    }

    /// Looks a container up.
    pub(super) fn container(&self, reference: &str) -> Result<&Container> {
        resolve("container", reference, self.containers.values())
    }

    /// The endpoints on a network, with their containers.
    pub(super) fn members(&self, network: &Id) -> impl Iterator<Item = (&Container, &Endpoint)> {
        self.containers.values().filter_map(|container| Some((container, container.endpoint_on(network)?)))
    }

    pub(super) fn network_view(&self, network: &Network) -> NetworkView {
        let attached = |(container, endpoint): (&Container, &Endpoint)| Attached {
            container: container.id,
            name: container.name.clone(),
            endpoint: endpoint.clone(),
        };
        let mut attached: Vec<_> = self.members(&network.id).map(attached).collect();
        attached.sort_by(|a, b| a.name.cmp(&b.name));
        NetworkView { network: network.clone(), attached, usage: self.ipam.usage(&network.id) }
    }

    pub(super) fn network_views(&self) -> Vec<NetworkView> {
        let mut views: Vec<_> = self.networks.values().map(|network| self.network_view(network)).collect();
        views.sort_by(|a, b| (a.network.created, &a.network.name).cmp(&(b.network.created, &b.network.name)));
        views
    }

    pub(super) fn list_containers(&self) -> Vec<Container> {
        let mut containers: Vec<_> = self.containers.values().cloned().collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        containers
    }

    /// A container's processes and what tells of their end, if it runs.
    pub(super) fn running(&self, id: &Id) -> Option<(Running, ExitWatch)> {
        let live = self.live.get(id)?;
        Some((live.process.clone()?, ExitWatch::of(&live.exit)))
    }

    pub(super) fn drops(&self) -> Result<Vec<DropCount>> {
        let mut owners = HashMap::new();
        for container in self.containers.values() {
            owners.extend(container.endpoints.iter().map(|endpoint| (endpoint.slot, (container, endpoint))));
        }
        let counts = self.dataplane.drops()?;
        Ok(counts
            .into_iter()
            .map(|count| {
                let owner = owners.get(&count.endpoint);
                DropCount {
                    container: owner.map(|(container, _)| container.id),
                    name: owner.map(|(container, _)| container.name.clone()).unwrap_or_default(),
                    network: owner.map(|(_, endpoint)| endpoint.network_name.clone()).unwrap_or_default(),
                    reason: count.reason.name(),
                    text: count.reason.text(),
                    packets: count.packets,
                    bytes: count.bytes,
                }
            })
            .collect())
    }

    /// Takes the lowest free slot for a network.
    pub(super) fn take_network_slot(&mut self) -> Result<u16> {
        let slot = self.network_slots.lowest_absent(1, NETWORK_SLOTS - 1).ok_or_else(|| {
            Error::Conflict(format!("there are {} networks, which is the most that can be", NETWORK_SLOTS - 1))
        })?;
        self.network_slots.insert(slot);
        // Below the limit above, which fits.
        Ok(slot as u16)
    }

    /// Takes the lowest free slot for an endpoint.
    pub(super) fn take_endpoint_slot(&mut self) -> Result<u32> {
        let slot = self.endpoint_slots.lowest_absent(1, ENDPOINT_SLOTS - 1).ok_or_else(|| {
            Error::Conflict(format!("there are {} endpoints, which is the most that can be", ENDPOINT_SLOTS - 1))
        })?;
        self.endpoint_slots.insert(slot);
        // Below the limit above, which fits.
        Ok(slot as u32)
    }

    /// Takes the lowest free slot for a published port.
    pub(super) fn take_port_slot(&mut self) -> Result<u32> {
        let slot = self.port_slots.lowest_absent(1, PORT_SLOTS - 1).ok_or_else(|| {
            Error::Conflict(format!("there are {} published ports, which is the most that can be", PORT_SLOTS - 1))
        })?;
        self.port_slots.insert(slot);
        // Below the limit above, which fits.
        Ok(slot as u32)
    }

    /// The bridge networks.
    pub(super) fn bridge_networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values().filter(|network| network.driver == Driver::Bridge)
    }
}
