//! How the rest of the program talks to the agent: typed calls that become work in its queue.
//!
//! What takes long (waiting for an exit, a stop's grace period, a further command) happens here, in the
//! caller's task, so that the owner of the state never waits for a container.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::Work;
use super::attach::{Attachment, Wanted};
use super::engine::Handed;
use super::events::{Event, Events};
use super::logs::{self, LogWish};
use super::record::Record;
use super::state::{Agent, Paths};
use crate::ipam::Usage;
use crate::kernel::Executed;
use crate::kernel::dataplane::PortCount;
use crate::kernel::log::{LogReader, LogRecord};
use crate::kernel::process::Running;
use crate::model::{
    AttachRequest, Container, Endpoint, EndpointRequest, Engine, Error, ExecRequest, HandoverRequest, Id, IpamConfig,
    KnownContainer, KnownNetwork, Network, NetworkCreate, PortBinding, PortRequest, PublishRequest, PublishedPort,
    Result, RunRequest, Sandbox, State,
};

/// How long a stopped container may take to end by itself, unless told otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Something new, and what its maker should know about it.
#[derive(Debug, Clone)]
pub struct Created<T> {
    /// The new thing.
    pub value: T,
    /// Things that were asked for and have no effect.
    pub warnings: Vec<String>,
}

/// A network and who is on it.
#[derive(Debug, Clone)]
pub struct NetworkView {
    /// The network.
    pub network: Network,
    /// The running containers on it, by name.
    pub attached: Vec<Attached>,
    /// How full its subnets are.
    pub usage: Vec<Usage>,
}

/// A container's place on a network.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The container's identifier.
    pub container: Id,
    /// The container's name.
    pub name: String,
    /// Its endpoint on the network.
    pub endpoint: Endpoint,
}

/// A container that has just been started.
#[derive(Debug)]
pub struct Started {
    /// The container.
    pub container: Container,
    /// Things that were asked for and have no effect.
    pub warnings: Vec<String>,
    /// Tells when it ends.
    pub exit: ExitWatch,
}

/// A further command that has just been started in a container.
#[derive(Debug)]
pub struct Exec {
    /// Names it for signals.
    pub id: Id,
    /// Tells when it ends.
    pub exit: ExitWatch,
}

/// Packets that were dropped for one reason at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropCount {
    /// The container whose packets they were; none for those of the host and its uplinks.
    pub container: Option<Id>,
    /// The container's name, or empty.
    pub name: String,
    /// The network of the container's endpoint, or empty.
    pub network: String,
    /// The reason's name.
    pub reason: &'static str,
    /// The reason as a sentence.
    pub text: &'static str,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What went through a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStats {
    /// The container's name.
    pub container: String,
    /// The port.
    pub binding: PortBinding,
    /// Where it is reached.
    pub entries: Vec<PublishedPort>,
    /// Since it was published.
    pub count: PortCount,
}

/// Tells when a command has ended, and how. It knows even after the container is forgotten.
#[derive(Debug, Clone)]
pub struct ExitWatch(watch::Receiver<Option<i32>>);

impl ExitWatch {
    /// A sender for the exit code, and what waits for it.
    pub(super) fn new() -> (watch::Sender<Option<i32>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, ExitWatch(receiver))
    }

    /// What waits for the code of a sender.
    pub(super) fn of(sender: &watch::Sender<Option<i32>>) -> Self {
        ExitWatch(sender.subscribe())
    }

    /// Waits for the end: 0 to 255, or 128 + signal.
    pub async fn wait(&self) -> Result<i32> {
        let mut receiver = self.0.clone();
        let code = receiver.wait_for(Option::is_some).await.ok().and_then(|code| *code);
        code.ok_or_else(|| Error::Internal("the agent stops; the command goes on".into()))
    }
}

/// Kills everything that a container runs.
pub(super) async fn kill_all(running: &Running) -> Result<()> {
    // The command first: with it goes the container, even one whose other processes cannot be told
    // from strangers any more because somebody has taken its namespace's mount away.
    running.kill(libc::SIGKILL)?;
    running.kill_all().await?;
    Ok(())
}

/// The way to the agent; clones lead to the same one.
#[derive(Clone)]
pub struct Handle {
    queue: mpsc::Sender<Work>,
    paths: Arc<Paths>,
    events: Events,
    execs: Arc<Mutex<HashMap<Id, Arc<Executed>>>>,
}

impl Handle {
    pub(super) fn new(queue: mpsc::Sender<Work>, paths: Arc<Paths>, events: Events) -> Self {
        Handle { queue, paths, events, execs: Arc::default() }
    }

    /// Has work done by the owner of the state, and waits for its result.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Agent) -> BoxFuture<'a, T> + Send + 'static,
    ) -> Result<T> {
        let stopped = || Error::Internal("the agent is stopping".into());
        let (answer, result) = oneshot::channel();
        let work: Work = Box::new(move |agent| {
            Box::pin(async move {
                // Whoever asked may have gone; the work is done all the same.
                let _ = answer.send(work(agent).await);
                ControlFlow::Continue(())
            })
        });
        self.queue.send(work).await.map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())
    }

    /// As [`Handle::ask`], for work that changes what is in the kernel, which waits for grace periods.
    async fn change<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Agent) -> BoxFuture<'a, T> + Send + 'static,
    ) -> Result<T> {
        self.ask(move |agent| {
            Box::pin(async move {
                let _expedited = agent.grace_periods.expedite();
                work(agent).await
            })
        })
        .await
    }

    /// Ends the owner's task after the work that is already queued.
    pub(super) async fn shut_down(&self) -> Result<()> {
        let work: Work = Box::new(|_| Box::pin(async { ControlFlow::Break(()) }));
        self.queue.send(work).await.map_err(|_| Error::Internal("the agent has stopped already".into()))
    }

    /// Makes a network.
    pub async fn create_network(&self, request: NetworkCreate) -> Result<Created<Network>> {
        self.change(|agent| Box::pin(agent.create_network(request))).await?
    }

    /// All networks, by time of creation.
    pub async fn networks(&self) -> Result<Vec<NetworkView>> {
        self.ask(|agent| Box::pin(async { agent.network_views() })).await
    }

    /// A network by id, name or prefix of its id.
    pub async fn network(&self, reference: &str) -> Result<NetworkView> {
        let reference = reference.to_string();
        self.ask(move |agent| Box::pin(async move { Ok(agent.network_view(agent.network(&reference)?)) })).await?
    }

    /// Removes a network on which nobody is.
    pub async fn remove_network(&self, reference: &str) -> Result<Network> {
        let reference = reference.to_string();
        self.change(|agent| Box::pin(agent.remove_network(reference))).await?
    }

    /// Removes the networks that nobody uses and that are `wanted`; gives those that are gone, by name.
    pub async fn prune_networks(&self, wanted: impl Fn(&Network) -> bool + Send + 'static) -> Result<Vec<Network>> {
        self.change(|agent| Box::pin(agent.prune_networks(wanted))).await
    }

    /// The known events since a moment, none without one, and what tells of all later ones.
    pub fn events(&self, since: Option<Timestamp>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.events.listen(since)
    }

    /// Joins a container to a further network.
    pub async fn connect(&self, network: &str, container: &str, request: EndpointRequest) -> Result<()> {
        let (network, container) = (network.to_string(), container.to_string());
        self.change(|agent| Box::pin(agent.connect(network, container, request))).await?
    }

    /// Takes a container off a network. With `force`, one that is not on it is no error.
    pub async fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let (network, container) = (network.to_string(), container.to_string());
        self.change(move |agent| Box::pin(agent.disconnect(network, container, force))).await?
    }

    /// Gives a namespace that somebody else made an interface on a network.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attachment> {
        self.change(|agent| Box::pin(agent.attach(request))).await?
    }

    /// The interfaces that were attached and are wanted, in order of containers' names and their own.
    pub async fn attachments(&self, wanted: Wanted) -> Result<Vec<Attachment>> {
        self.ask(|agent| Box::pin(agent.attachments(wanted))).await?
    }

    /// Takes an interface that was attached out of its namespace, or all of them. The namespace may be gone.
    pub async fn detach(&self, reference: &str, interface: Option<String>, owner: Option<String>) -> Result<()> {
        let reference = reference.to_string();
        self.change(|agent| Box::pin(agent.detach(reference, interface, owner))).await?
    }

    /// What is not as it should be of what was attached, a sentence each.
    pub async fn faults(&self, reference: &str, interface: Option<String>) -> Result<Vec<String>> {
        let reference = reference.to_string();
        self.ask(|agent| Box::pin(agent.faults(reference, interface))).await?
    }

    /// Makes an endpoint for an engine, with an interface that waits to be moved.
    pub async fn hand_over(&self, request: HandoverRequest) -> Result<Handed> {
        self.change(|agent| Box::pin(agent.hand_over(request))).await?
    }

    /// Tells in which namespace an engine's endpoint will be.
    pub async fn join(&self, engine: Engine, endpoint: Id, netns: PathBuf) -> Result<Handed> {
        self.change(move |agent| Box::pin(agent.join(engine, endpoint, netns))).await?
    }

    /// Publishes ports at an engine's endpoint, which has the default route from now on.
    pub async fn publish_handed(&self, engine: Engine, endpoint: Id, ports: Vec<PortRequest>) -> Result<()> {
        self.change(move |agent| Box::pin(async move { agent.publish_handed(engine, endpoint, ports) })).await?
    }

    /// Takes these ports back.
    pub async fn unpublish_handed(&self, endpoint: Id) -> Result<()> {
        self.change(move |agent| Box::pin(async move { agent.unpublish_handed(endpoint) })).await?
    }

    /// Takes an engine's endpoint away. One that is not known is no error.
    pub async fn take_back(&self, endpoint: Id) -> Result<()> {
        self.change(move |agent| Box::pin(agent.take_back(endpoint))).await?
    }

    /// Removes a network that an engine has done with. One that is not known is no error.
    pub async fn remove_engine_network(&self, engine: Engine, id: Id) -> Result<()> {
        self.change(move |agent| Box::pin(agent.remove_engine_network(engine, id))).await?
    }

    /// Looks after the interfaces that engines were to move; tells whether all are where they belong.
    pub async fn settle(&self) -> Result<bool> {
        self.change(|agent| Box::pin(agent.settle())).await?
    }

    /// Tells what an engine calls its containers and networks; whether all of its containers are known now.
    pub async fn learn(
        &self,
        engine: Engine,
        containers: Vec<KnownContainer>,
        networks: Vec<KnownNetwork>,
    ) -> Result<bool> {
        self.ask(move |agent| Box::pin(agent.learn(engine, containers, networks))).await?
    }

    /// Takes a subnet for an engine that gives out its addresses by itself.
    pub async fn take_block(&self, engine: Engine, v6: bool, wanted: IpamConfig) -> Result<IpNet> {
        self.ask(move |agent| Box::pin(async move { agent.take_block(engine, v6, wanted) })).await?
    }

    /// Gives such a subnet back. One that is not known is no error.
    pub async fn release_block(&self, subnet: IpNet) -> Result<()> {
        self.ask(move |agent| Box::pin(async move { agent.release_block(subnet) })).await?
    }

    /// Takes an address of such a subnet, with the subnet's prefix length.
    pub async fn take_address(&self, subnet: IpNet, wanted: Option<IpAddr>, gateway: bool) -> Result<IpNet> {
        self.ask(move |agent| Box::pin(async move { agent.take_address(subnet, wanted, gateway) })).await?
    }

    /// Gives such an address back. One that is not known is no error.
    pub async fn release_address(&self, subnet: IpNet, address: IpAddr) -> Result<()> {
        self.ask(move |agent| Box::pin(async move { agent.release_address_of(subnet, address) })).await?
    }

    /// Makes a container and starts its command, on the given standard input, output and error or on a
    /// log file.
    pub async fn run_container(&self, request: RunRequest, stdio: Option<[OwnedFd; 3]>) -> Result<Started> {
        self.change(|agent| Box::pin(agent.run_container(request, stdio))).await?
    }

    /// Containers, newest first, whether they run or not.
    pub async fn containers(&self) -> Result<Vec<Container>> {
        self.ask(|agent| Box::pin(async { agent.list_containers() })).await
    }

    /// A container by id, name or prefix of its id.
    pub async fn container(&self, reference: &str) -> Result<Container> {
        let reference = reference.to_string();
        self.ask(move |agent| Box::pin(async move { agent.container(&reference).cloned() })).await?
    }

    /// The container with its processes, if it runs; refused if it never had any of ours.
    async fn look_up(&self, reference: &str) -> Result<(Container, Option<(Running, ExitWatch)>)> {
        let (container, running) = self.look_up_any(reference).await?;
        match &container.sandbox {
            None => Ok((container, running)),
            Some(Sandbox { engine: Some(engine), .. }) => {
                let (name, command) = (&container.name, engine.as_str());
                Err(Error::Forbidden(format!(
                    "container {name} is {engine}'s, which runs its command: use `{command}`"
                )))
            }
            Some(sandbox) => Err(Error::Forbidden(format!(
                "container {} has no command of ours: somebody else made its network namespace {}, `spandrel detach` takes it off its networks",
                container.name,
                sandbox.netns.display()
            ))),
        }
    }

    async fn look_up_any(&self, reference: &str) -> Result<(Container, Option<(Running, ExitWatch)>)> {
        let reference = reference.to_string();
        self.ask(move |agent| {
            Box::pin(async move {
                let container = agent.container(&reference)?.clone();
                let running = agent.running(&container.id);
                Ok((container, running))
            })
        })
        .await?
    }

    async fn look_up_running(&self, reference: &str) -> Result<(Container, Running, ExitWatch)> {
        match self.look_up(reference).await? {
            (container, Some((running, exit))) => Ok((container, running, exit)),
            (container, None) => Err(Error::Conflict(format!("container {} is not running", container.name))),
        }
    }

    /// Ends a container's command: a signal, and SIGKILL for everything when the time is up. Returns when
    /// nothing of it is left in the kernel; one that has ended already is no error.
    pub async fn stop(&self, reference: &str, signal: i32, timeout: Option<Duration>) -> Result<Container> {
        let (container, running) = self.look_up(reference).await?;
        if let Some((running, exit)) = running {
            self.tell_signal(&container, signal);
            running.kill(signal)?;
            match tokio::time::timeout(timeout.unwrap_or(STOP_TIMEOUT), exit.wait()).await {
                Ok(ended) => _ = ended?,
                Err(_) => {
                    self.tell_signal(&container, libc::SIGKILL);
                    kill_all(&running).await?;
                    exit.wait().await?;
                }
            }
            self.events.tell(Event::of_container("stop", &container, []));
        }
        Ok(container)
    }

    /// Starts the command of a container that has ended.
    pub async fn start(&self, reference: &str, stdio: Option<[OwnedFd; 3]>) -> Result<Started> {
        let reference = reference.to_string();
        self.change(|agent| Box::pin(async move { agent.start_container(&reference, stdio).await })).await?
    }

    /// Ends a container's command as [`Handle::stop`] does, and starts it again; one that has ended already is only started.
    pub async fn restart(&self, reference: &str, signal: i32, timeout: Option<Duration>) -> Result<Started> {
        let expect = async |reference: String, expected| {
            self.ask(move |agent| Box::pin(async move { agent.expect_restart(&reference, expected) })).await?
        };
        let id = expect(reference.to_string(), true).await?.id.to_string();
        if let Err(error) = self.stop(&id, signal, timeout).await {
            // It may still run, and then it ends as it was meant to.
            let _ = expect(id, false).await;
            return Err(error);
        }
        let started = self.start(&id, None).await?;
        self.events.tell(Event::of_container("restart", &started.container, []));
        Ok(started)
    }

    /// Tells of a signal before it is sent: it must not come after the end that it causes.
    fn tell_signal(&self, container: &Container, signal: i32) {
        self.events.tell(Event::of_container("kill", container, [("signal", signal.to_string())]));
    }

    /// Gives a container another name.
    pub async fn rename(&self, reference: &str, name: &str) -> Result<()> {
        let (reference, name) = (reference.to_string(), name.to_string());
        self.change(move |agent| Box::pin(async move { agent.rename(&reference, &name).await })).await?
    }

    /// What a container in the background has said.
    pub async fn logs(&self, reference: &str, wish: LogWish) -> Result<impl Stream<Item = Result<LogRecord>> + use<>> {
        let (container, running) = self.look_up(reference).await?;
        let exit = running.map(|(_, exit)| exit).filter(|_| wish.follow);
        logs::stream(LogReader::open(&self.container_dir(&container))?, wish, exit)
    }

    /// Sends a signal to a container's command.
    pub async fn kill(&self, reference: &str, signal: i32) -> Result<Container> {
        let (container, running, _) = self.look_up_running(reference).await?;
        self.tell_signal(&container, signal);
        running.kill(signal)?;
        Ok(container)
    }

    /// Forgets a container; a running one is killed if `force` is given and refused otherwise.
    pub async fn remove(&self, reference: &str, force: bool) -> Result<Container> {
        let (container, running) = self.look_up_any(reference).await?;
        if !force && (running.is_some() || container.sandbox.is_some()) {
            return Err(Error::Conflict(format!(
                "cannot remove container {}: container is running: stop the container before removing or force remove",
                container.name
            )));
        }
        if container.sandbox.is_some() {
            let id = container.id;
            self.change(move |agent| Box::pin(async move { agent.forget_attached(&id).await })).await??;
            return Ok(container);
        }
        if let Some((running, exit)) = running {
            self.tell_signal(&container, libc::SIGKILL);
            kill_all(&running).await?;
            exit.wait().await?;
        }
        let id = container.id;
        self.ask(move |agent| Box::pin(async move { agent.remove_container(&id) })).await??;
        Ok(container)
    }

    /// Waits until a container has ended, and tells its exit code.
    pub async fn wait(&self, reference: &str) -> Result<i32> {
        match self.look_up(reference).await? {
            (_, Some((_, exit))) => exit.wait().await,
            (Container { state: State::Exited { code, .. }, .. }, None) => Ok(code),
            (container, None) => Err(Error::Conflict(format!("container {} is not running", container.name))),
        }
    }

    /// Starts a further command in a running container, on the given standard input, output and error or on none.
    pub async fn exec(&self, reference: &str, request: ExecRequest, stdio: Option<[OwnedFd; 3]>) -> Result<Exec> {
        let (container, running, _) = self.look_up_running(reference).await?;
        let process = super::plan::process(&request.command, &request.env, &request.working_dir, &container.hostname)?;
        let executed = Arc::new(running.exec(&process, stdio).await?);
        let id = Id::random();
        let exec_id = move || ("execID", id.to_string());
        for step in ["exec_create", "exec_start"] {
            let action = format!("{step}: {}", request.command.join(" "));
            self.events.tell(Event::of_container(action, &container, [exec_id()]));
        }
        let (sender, exit) = ExitWatch::new();
        self.execs().insert(id, executed.clone());
        let handle = self.clone();
        tokio::spawn(async move {
            let code = executed.wait().await;
            handle.execs().remove(&id);
            match code {
                Ok(code) => {
                    let how = [exec_id(), ("exitCode", code.to_string())];
                    handle.events.tell(Event::of_container("exec_die", &container, how));
                    _ = sender.send(Some(code));
                }
                Err(error) => tracing::error!("lost sight of a command in container {}: {error}", container.name),
            }
        });
        Ok(Exec { id, exit })
    }

    /// Sends a signal to a command that [`Handle::exec`] started.
    pub async fn kill_exec(&self, id: &Id, signal: i32) -> Result<()> {
        let executed = self.execs().get(id).cloned();
        let executed = executed.ok_or_else(|| Error::NotFound(format!("No such exec instance: {id}")))?;
        executed.kill(signal)?;
        Ok(())
    }

    fn execs(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Arc<Executed>>> {
        // The map is whole between any two of its operations, whoever panicked.
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dropped packets by place and reason.
    pub async fn drops(&self) -> Result<Vec<DropCount>> {
        self.ask(|agent| Box::pin(async { agent.drops() })).await?
    }

    /// What there should be of ours on the host.
    pub async fn record(&self) -> Result<Record> {
        self.ask(|agent| Box::pin(async { agent.record() })).await
    }

    /// Publishes ports of a running container, or changes who may use those that are; tells what is in force for them.
    pub async fn publish(&self, reference: &str, request: PublishRequest) -> Result<Vec<PublishedPort>> {
        let reference = reference.to_string();
        self.change(move |agent| Box::pin(async move { agent.publish_ports(&reference, &request) })).await?
    }

    /// Takes back published ports of a running container.
    pub async fn unpublish(&self, reference: &str, request: PublishRequest) -> Result<()> {
        let reference = reference.to_string();
        self.change(move |agent| Box::pin(async move { agent.unpublish_ports(&reference, &request) })).await?
    }

    /// What went through published ports, of one container or of all.
    pub async fn port_stats(&self, reference: Option<String>) -> Result<Vec<PortStats>> {
        self.ask(move |agent| Box::pin(async move { agent.port_stats(reference.as_deref()) })).await?
    }

    /// Where a container's network namespace can be entered.
    pub fn sandbox_key(&self, container: &Container) -> PathBuf {
        self.paths.netns(container)
    }

    /// Where a container's files are: hosts, hostname, resolv.conf, log.
    pub fn container_dir(&self, container: &Container) -> PathBuf {
        self.paths.container(&container.id)
    }
}
