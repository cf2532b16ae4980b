//! `--teardown`: at its end the agent takes everything out of the kernel. Networks and ended containers
//! stay on record, and a later agent makes the networks again.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use super::error::Troubles;
use super::handle::kill_all;
use super::lifecycle::outcome;
use super::state::Agent;
use crate::kernel::{mount, process};
use crate::model::{Result, State};

/// How long a killed container may take to be gone.
const KILLED: Duration = Duration::from_secs(10);

impl Agent {
    /// Takes everything out of the kernel: containers, interfaces, namespaces, programs, maps.
    pub(super) async fn tear_down_all(mut self) -> Result<()> {
        let expedited = self.grace_periods.expedite();
        let mut troubles = Troubles::default();
        let running: Vec<_> = self.containers.values().filter(|c| c.is_running()).cloned().collect();
        // First all signals, then all waiting.
        for live in self.live.values() {
            if let Some(process) = &live.process {
                troubles.note(kill_all(process).await);
            }
        }
        for container in running {
            let State::Running { started, .. } = container.state else { continue };
            if container.sandbox.is_some() {
                troubles.extend(self.forget_sandbox(&container).await);
                continue;
            }
            if let Some((process, _)) = self.running(&container.id) {
                let waited = tokio::time::timeout(KILLED, process.wait()).await;
                troubles.note(waited.map_err(|_| format!("container {} does not end", container.name)));
            }
            let exit = troubles.note(process::recorded_exit(&self.paths.container(&container.id))).flatten();
            let (code, finished) = outcome(exit);
            troubles.extend(self.take_down(&container).await);
            let id = container.id;
            troubles.note(self.record_end(container, State::Exited { code, started, finished }));
            if let Some(live) = self.live.remove(&id) {
                live.exit.send_replace(Some(code));
            }
        }
        let networks: Vec<_> = self.networks.values().cloned().collect();
        for network in &networks {
            troubles.extend(self.clear_network(network).await);
        }
        let Agent { dataplane, paths, .. } = self;
        troubles.note(dataplane.remove_all());
        troubles.note(mount::unmount(&paths.bpffs()));
        for directory in [paths.bpffs(), paths.all_netns(), paths.all_containers()] {
            if let Err(error) = fs::remove_dir_all(&directory)
                && error.kind() != ErrorKind::NotFound
            {
                troubles.note::<(), _>(Err(format!("cannot remove {}: {error}", directory.display())));
            }
        }
        drop(expedited);
        // The lock goes with the directory, unless somebody keeps other things there.
        troubles.note(fs::remove_file(paths.run().join("agent.lock")));
        let _ = fs::remove_dir(paths.run());
        troubles.into_result()
    }
}
