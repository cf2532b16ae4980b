//! What there should be on the host by what is on record: to be compared with what there is, by whoever looks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::attach::sandbox_netns;
use super::state::Agent;
use crate::kernel::dataplane::AttachMode;
use crate::model::{Container, Engine, Network, Result};
use crate::store::Store;

/// Everything of ours that is rightly there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Names of interfaces: bridges, and the host's ends of containers' interfaces.
    pub interfaces: BTreeSet<String>,
    /// Names of the network namespaces in the run directory.
    pub namespaces: BTreeSet<String>,
    /// Names of the containers' directories in the run directory.
    pub directories: BTreeSet<String>,
    /// Containers on record as running in a namespace that somebody else made, which is not there any more.
    pub vanished: Vec<(String, PathBuf)>,
    /// Id and name of the networks that Docker has made.
    pub docker: Vec<(String, String)>,
    /// The uplinks at which our programs run by TCX.
    pub uplinks: Vec<String>,
}

impl Record {
    /// What is on record, without an agent. Nothing if no agent ever was.
    pub fn read(state_dir: &Path) -> Result<Self> {
        match Store::peek(&state_dir.join(super::STORE))? {
            Some(contents) => Ok(Self::of(contents.networks.iter(), contents.containers.iter())),
            None => Ok(Self::default()),
        }
    }

    fn of<'a>(networks: impl Iterator<Item = &'a Network>, containers: impl Iterator<Item = &'a Container>) -> Self {
        let mut record = Self::default();
        for network in networks {
            record.interfaces.insert(network.bridge.clone());
            if network.engine == Some(Engine::Docker) {
                record.docker.push((network.id.to_string(), network.name.clone()));
            }
        }
        for container in containers {
            record.directories.insert(container.id.to_string());
            record.interfaces.extend(container.endpoints.iter().map(|endpoint| endpoint.host_interface.clone()));
            if !container.is_running() {
                continue;
            }
            record.namespaces.insert(container.name.clone());
            // Nobody has seen the namespace of one that an engine is just making.
            let gone = container
                .sandbox
                .iter()
                .filter(|sandbox| sandbox.cookie != 0 && matches!(sandbox_netns(sandbox), Ok(None)));
            record.vanished.extend(gone.map(|sandbox| (container.name.clone(), sandbox.netns.clone())));
        }
        record
    }
}

impl Agent {
    /// What there should be.
    pub(super) fn record(&self) -> Record {
        let tcx = self.dataplane.attach_mode() == AttachMode::Tcx;
        let uplinks = self.host.uplinks.iter().filter(|_| tcx).map(|uplink| uplink.name.clone()).collect();
        Record { uplinks, ..Record::of(self.networks.values(), self.containers.values()) }
    }
}
