//! Making a container, and taking it down again: at its end, after a failure, and after a crash.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use jiff::Timestamp;

use super::error::Troubles;
use super::events::Event;
use super::files;
use super::handle::{ExitWatch, Started, kill_all};
use super::plan::Plan;
use super::state::{Agent, Live};
use crate::kernel::process::{ContainerSpec, Running, Stdio};
use crate::kernel::{NetNs, netns};
use crate::model::{Container, Error, Id, Result, RunRequest, State};
use crate::store::Change;

impl Agent {
    /// Makes a container and starts its command, or leaves nothing behind.
    pub(super) async fn run_container(&mut self, request: RunRequest, stdio: Option<[OwnedFd; 3]>) -> Result<Started> {
        let mut plan = self.plan_container(&request)?;
        if let Err(error) = self.bring_up(&mut plan, stdio).await {
            let mut troubles = self.take_down(&plan.container).await;
            troubles.note(self.forget_container(&plan.container.id));
            self.live.remove(&plan.container.id);
            return Err(troubles.onto(error));
        }
        self.events.tell(Event::of_container("create", &plan.container, []));
        Ok(self.started(plan))
    }

    /// Starts the command of a container that has ended, or leaves it as it was.
    pub(super) async fn start_container(&mut self, reference: &str, stdio: Option<[OwnedFd; 3]>) -> Result<Started> {
        let old = self.container(reference)?.clone();
        let mut plan = self.plan_start(&old)?;
        if let Err(error) = self.bring_up(&mut plan, stdio).await {
            let mut troubles = self.take_down(&plan.container).await;
            self.live.remove(&old.id);
            troubles.note(self.rewrite(old));
            return Err(troubles.onto(error));
        }
        Ok(self.started(plan))
    }

    /// Watches over a container that has just been started.
    fn started(&mut self, plan: Plan) -> Started {
        let Plan { container, warnings, .. } = plan;
        let id = container.id;
        self.tell_memberships("connect", &container);
        self.events.tell(Event::of_container("start", &container, []));
        tracing::info!(container = container.name, id = %id, "container started");
        if let Err(error) = self.tell_linked(&container.name) {
            tracing::error!("telling others of container {}: {error}", container.name);
        }
        let exit = match self.running(&id) {
            Some((running, exit)) => {
                self.watch(id, running);
                exit
            }
            None => ExitWatch::new().1,
        };
        Started { container, warnings, exit }
    }

    /// From a plan to a running command. On failure the caller takes down whatever there is by then.
    async fn bring_up(&mut self, plan: &mut Plan, stdio: Option<[OwnedFd; 3]>) -> Result<()> {
        let id = plan.container.id;
        for (network, request) in &plan.joins {
            let endpoint = self.allocate_endpoint(network, &plan.container, request)?;
            plan.container.endpoints.push(endpoint);
        }
        plan.container.ports = self.take_ports(&plan.container, &plan.ports)?;
        self.live.insert(id, Live::new());
        self.store.apply(&[Change::PutContainer(&plan.container)])?;
        self.containers.insert(id, plan.container.clone());

        let container = &plan.container;
        let directory = self.paths.container(&id);
        let shared = container.shares().and_then(|owner| self.containers.get(&owner));
        match shared {
            Some(owner) => files::share(&directory, &self.paths.container(&owner.id))?,
            None => self.write_files(container)?,
        }
        match (self.paths.own_netns(container), shared) {
            (Some(path), Some(owner)) => netns::link(&self.paths.netns(owner), &path)?,
            (Some(path), None) => _ = NetNs::create(&path)?,
            (None, _) => {}
        }
        for endpoint in &container.endpoints {
            self.ensure_endpoint(&id, &endpoint.id).await?;
        }
        self.announce_ports(&id)?;
        self.update_links()?;
        self.update_names(&id).await?;

        let spec = ContainerSpec {
            directory,
            netns: self.paths.netns(container),
            hostname: container.hostname.clone(),
            process: plan.process.clone(),
        };
        let stdio = stdio.map_or(Stdio::Log, Stdio::Terminal);
        let process = self.launcher.spawn(&spec, stdio).await?;
        plan.container.state = State::Running { pid: process.pid(), started: Timestamp::now() };
        if let Some(live) = self.live.get_mut(&id) {
            live.process = Some(process);
        }
        self.store.apply(&[Change::PutContainer(&plan.container)])?;
        self.containers.insert(id, plan.container.clone());
        Ok(())
    }

    /// Takes everything of a container out of the kernel, and gives back what it had. The record is the
    /// caller's; what is not there (any more) is no error.
    pub(super) async fn take_down(&mut self, container: &Container) -> Troubles {
        let mut troubles = Troubles::default();
        troubles.note(self.give_up_ports(container));
        if let Some(process) = self.live.get(&container.id).and_then(|live| live.process.clone()) {
            troubles.extend(end(&process).await);
        }
        self.names.remove(&container.id).await;
        for endpoint in &container.endpoints {
            troubles.extend(self.clear_endpoint(&container.id, endpoint).await);
            self.release_endpoint(endpoint);
        }
        if let Some(path) = self.paths.own_netns(container) {
            troubles.note(netns::delete(&path));
        }
        troubles
    }

    /// Forgets a container that does not run: its record and its files.
    pub(super) fn forget_container(&mut self, id: &Id) -> Result<()> {
        self.store.apply(&[Change::RemoveContainer(*id)])?;
        self.containers.remove(id);
        let directory = self.paths.container(id);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::internal(format_args!("cannot remove {}", directory.display()), error))
            }
            _ => Ok(()),
        }
    }
}

/// Ends all processes of a container and waits until they are gone; no time at all if they have ended.
async fn end(process: &Running) -> Troubles {
    let mut troubles = Troubles::default();
    if process.is_alive() {
        troubles.note(kill_all(process).await);
        troubles.note(process.wait().await);
    }
    troubles
}
