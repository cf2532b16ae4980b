//! Starting: comparing what is on record with what is in the kernel, and mending the difference.
//!
//! The programs and flows of an earlier agent stay in place all the while, so connections do not notice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::error::Troubles;
use super::events::Events;
use super::handle::kill_all;
use super::lifecycle::outcome;
use super::network::gateways;
use super::ports::HostPorts;
use super::state::{Agent, Live, OwnInterfaces, Paths};
use super::{Options, Work, host};
use crate::dns::NameService;
use crate::ipam::{Ipam, RangeSet, pools, ula_prefix};
use crate::kernel::dataplane::Dataplane;
use crate::kernel::process::{self, Launcher, Running};
use crate::kernel::rcu::GracePeriods;
use crate::kernel::uplink::{HostWatch, UplinkRule};
use crate::kernel::{Netlink, mount, netns};
use crate::model::{Container, Driver, Error, Result, State};
use crate::store::{Contents, Store};

impl Agent {
    /// Opens everything and makes the kernel hold what is on record.
    pub(super) async fn start(options: &Options, queue: mpsc::Sender<Work>) -> Result<(Agent, HostWatch)> {
        let paths = Arc::new(Paths::new(&options.run_dir));
        private_directory(&options.state_dir)?;
        host::make_directory(&paths.all_netns())?;
        private_directory(&paths.all_containers())?;
        let grace_periods = GracePeriods::new(options.rcu_expedited, &paths.rcu_marker());
        let _expedited = grace_periods.expedite();
        let store = Store::open(&options.state_dir.join(super::STORE))?;
        let contents = store.load()?;
        let pools = pools(&options.pools, ula_prefix(store.host_id()?.prefix()))?;
        let netlink = Netlink::open()?;
        let mounted_now = mount::ensure_bpffs(&paths.bpffs())?;
        let dataplane = match Dataplane::open(&paths.bpffs(), &options.dataplane) {
            Ok(dataplane) => dataplane,
            Err(error) => {
                // Without programs nothing of ours is in there, and a user may never start us again.
                let undone = if mounted_now { mount::unmount(&paths.bpffs()).err() } else { None };
                return Err(undone.into_iter().fold(error.into(), |error: Error, trouble| error.and(trouble)));
            }
        };
        if let Some(log) = dataplane.log() {
            tokio::spawn(async move {
                if let Err(error) = log.forward().await {
                    tracing::error!("no longer reading the log of the eBPF programs: {error}");
                }
            });
        }
        let mut agent = Agent {
            paths,
            store,
            pools,
            networks: BTreeMap::new(),
            containers: BTreeMap::new(),
            blocks: BTreeMap::new(),
            unused_blocks: HashMap::new(),
            ipam: Ipam::default(),
            network_slots: RangeSet::default(),
            endpoint_slots: RangeSet::default(),
            port_slots: RangeSet::default(),
            host_ports: HostPorts::default(),
            own_interfaces: OwnInterfaces::default(),
            names: NameService::new(host::RESOLV_CONF.into()),
            grace_periods,
            netlink,
            dataplane,
            host: Default::default(),
            bridges: HashMap::new(),
            live: HashMap::new(),
            launcher: Launcher::default(),
            events: Events::default(),
            queue,
            options: options.clone(),
        };
        agent.take_records(contents)?;
        agent.sweep_links().await?;

        let own = agent.own_interfaces.clone();
        let own = Arc::new(move |name: &str| own.addresses(name));
        let rule = UplinkRule { names: agent.options.uplinks.clone(), own };
        let watch = HostWatch::start(&agent.netlink, rule).await?;
        agent.host = watch.current();
        let networks = agent.networks.values().filter(|network| network.driver == Driver::Bridge);
        agent.dataplane.expect_gateways(networks.map(|network| (network.slot, gateways(network))));
        agent.apply_host()?;
        agent.converge().await?;
        Ok((agent, watch))
    }

    /// Derives everything that is kept in memory from what is on record.
    fn take_records(&mut self, contents: Contents) -> Result<()> {
        for network in contents.networks {
            self.ipam.add_network(&network);
            self.network_slots.insert(network.slot.into());
            self.own_interfaces.add(&network.bridge, network.bridge_addresses().collect());
            self.networks.insert(network.id, network);
        }
        self.blocks = contents.blocks.into_iter().map(|block| (block.subnet, block)).collect();
        for container in contents.containers {
            for endpoint in &container.endpoints {
                self.ipam.restore(endpoint)?;
                self.endpoint_slots.insert(endpoint.slot.into());
                self.own_interfaces.add(&endpoint.host_interface, Vec::new());
            }
            if !matches!(container.state, State::Exited { .. }) {
                container.ports.iter().for_each(|port| _ = self.port_slots.insert(port.slot.into()));
            }
            self.containers.insert(container.id, container);
        }
        Ok(())
    }

    /// Deletes interfaces that bear our mark and are not on record.
    async fn sweep_links(&mut self) -> Result<()> {
        let alias = self.paths.alias();
        for link in self.netlink.links()? {
            if link.alias == alias && !self.own_interfaces.contains(&link.name) {
                tracing::info!("removing the left-over interface {}", link.name);
                self.netlink.delete_link(&link.name).await?;
            }
        }
        Ok(())
    }

    async fn converge(&mut self) -> Result<()> {
        let containers: Vec<_> = self.containers.values().cloned().collect();
        for container in containers {
            self.find_again(container).await;
        }
        // Early: somebody may be waiting for an answer, and sockets need nothing of what follows.
        for id in self.live.keys().copied().collect::<Vec<_>>() {
            if let Err(error) = self.update_names(&id).await {
                tracing::error!("serving names to container {}: {error}", id.short());
            }
        }
        self.create_predefined().await?;
        let networks: Vec<_> = self.bridge_networks().map(|network| (network.id, network.name.clone())).collect();
        for (id, name) in networks {
            // One that cannot be mended must not keep the others from working.
            if let Err(error) = self.ensure_network(&id).await {
                tracing::error!("network {name}: {error}");
            }
        }
        let running: Vec<_> = self.live.keys().copied().collect();
        for id in &running {
            self.hold_ports_again(id);
        }
        // Before anything is published: what stands in the way may be a left-over.
        let networks: BTreeSet<_> = self.bridge_networks().map(|network| network.slot).collect();
        let endpoints: BTreeSet<_> =
            self.containers.values().flat_map(|c| &c.endpoints).map(|endpoint| endpoint.slot).collect();
        let running_containers = self.containers.values().filter(|container| container.is_running());
        let ports: BTreeSet<_> = running_containers.flat_map(|c| &c.ports).map(|port| port.slot).collect();
        self.dataplane.retain(&networks, &endpoints, &ports)?;
        for id in &running {
            if let Err(error) = self.announce_ports(id) {
                tracing::error!("publishing the ports of container {}: {error}", id.short());
            }
        }
        if let Err(error) = self.update_links() {
            tracing::error!("opening the ports of linked containers: {error}");
        }
        self.sweep_files().await;
        for id in running {
            if let Some((process, _)) = self.running(&id) {
                self.watch(id, process);
            }
        }
        Ok(())
    }

    /// Finds the processes of a container on record again, or puts its end on record.
    async fn find_again(&mut self, container: Container) {
        let directory = self.paths.container(&container.id);
        let mut troubles = Troubles::default();
        match container.state {
            State::Exited { .. } => {
                // The agent ended while starting it again: it is what it was before.
                if let Some(Some(process)) = troubles.note(Running::reattach(&directory)) {
                    troubles.note(kill_all(&process).await);
                    troubles.note(process.wait().await);
                }
                if !container.endpoints.is_empty() {
                    troubles.extend(self.take_down(&container).await);
                    let state = container.state.clone();
                    troubles.note(self.record_end(container.clone(), state));
                }
            }
            // Nobody was told of it: the agent ended while making it.
            State::Created => {
                troubles.extend(self.end_leftovers(&container).await);
                troubles.extend(self.take_down(&container).await);
                troubles.note(self.forget_container(&container.id));
            }
            State::Running { .. } if container.sandbox.is_some() => {
                if self.is_there(&container) && !self.was_never_there(&container) {
                    self.live.insert(container.id, Live::new());
                    self.follow_process(&container);
                } else {
                    troubles.extend(self.forget_sandbox(&container).await);
                }
            }
            State::Running { started, .. } => match Running::reattach(&directory) {
                Ok(Some(mut process)) => {
                    // An agent may have ended while renaming it.
                    troubles.note(process.keep_netns_at(&self.paths.netns(&container)));
                    let live = Live { process: Some(process), ..Live::new() };
                    self.live.insert(container.id, live);
                }
                found => {
                    troubles.note(found);
                    troubles.extend(self.end_leftovers(&container).await);
                    let exit = troubles.note(process::recorded_exit(&directory)).flatten();
                    let (code, finished) = outcome(exit);
                    tracing::info!(container = container.name, code, "container ended while no agent was there");
                    troubles.extend(self.take_down(&container).await);
                    troubles.note(match container.auto_remove {
                        true => self.forget_container(&container.id),
                        false => self.record_end(container.clone(), State::Exited { code, started, finished }),
                    });
                }
            },
        }
        troubles.log(&format!("container {}", container.name));
    }

    /// Kills what is left of a container whose shim is gone, or nearly so.
    async fn end_leftovers(&mut self, container: &Container) -> Troubles {
        let directory = self.paths.container(&container.id);
        let mut troubles = Troubles::default();
        if let Some(Some(process)) = troubles.note(Running::reattach(&directory)) {
            troubles.note(kill_all(&process).await);
            troubles.note(process.wait().await);
        }
        troubles.note(process::kill_leftovers(&directory).await);
        troubles
    }

    /// Removes namespaces and directories of containers that are not on record.
    async fn sweep_files(&self) {
        let netns: BTreeSet<OsString> =
            self.containers.values().filter(|c| c.is_running()).map(|c| OsString::from(&c.name)).collect();
        let directories: BTreeSet<OsString> = self.containers.keys().map(|id| OsString::from(id.to_string())).collect();
        let mut troubles = Troubles::default();
        for path in unknown(&self.paths.all_containers(), &directories) {
            remove_directory(&path, &mut troubles).await;
        }
        for path in unknown(&self.paths.all_netns(), &netns) {
            troubles.note(netns::delete(&path));
        }
        troubles.log("removing left-overs");
    }
}

/// Removes the directory of a container that nobody knows, and what is left of its processes, which know it by that directory.
pub(super) async fn remove_directory(path: &Path, troubles: &mut Troubles) {
    if let Some(Some(process)) = troubles.note(Running::reattach(path)) {
        troubles.note(kill_all(&process).await);
    }
    troubles.note(fs::remove_dir_all(path));
}

/// Entries of a directory that are not among the known names.
pub(super) fn unknown(directory: &Path, known: &BTreeSet<OsString>) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| !known.contains(&entry.file_name())).map(|entry| entry.path()).collect()
}

/// Makes a directory into which only root can look: it holds what users passed in environments.
fn private_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::internal(format_args!("cannot make the directory {}", path.display()), error))
}
