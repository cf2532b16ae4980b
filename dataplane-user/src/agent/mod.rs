//! The agent: one task owns the state, takes commands, writes the store and makes the kernel match it.
//!
//! What a command reports as done is on disk and in the kernel; what failed left nothing behind. The
//! same functions create at a command and mend after a crash. Policy lives here; how the kernel is
//! spoken to is `kernel`'s, how users are spoken to is `api`'s and `cli`'s business.

mod attach;
mod container;
mod converge;
pub mod doctor;
mod endpoint;
mod engine;
mod engine_addresses;
mod error;
mod events;
mod files;
mod handle;
mod host;
mod lifecycle;
mod links;
mod logs;
mod macvlan;
mod names;
mod network;
mod plan;
mod ports;
mod publish;
mod record;
mod state;
mod teardown;

use std::future::Future;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::ipam::Pool;
use crate::kernel::dataplane::{Alarm, FlowAlarm, Left};
use crate::kernel::mount::MountWatch;
use crate::kernel::uplink::HostWatch;
use crate::kernel::{Link, capability, limits, memory};
use crate::model::{Error, Result};

pub use crate::kernel::dataplane::{AttachMode, LogLevel, Options as DataplaneOptions};
pub use crate::kernel::log::{LogRecord, Stream as LogStream};
pub use attach::{Attachment, Wanted};
pub use engine::Handed;
pub use events::{Event, Subject};
pub use handle::{Attached, Created, DropCount, Exec, ExitWatch, Handle, NetworkView, PortStats, Started};

pub use logs::LogWish;
pub use record::Record;

use state::Agent;

/// The file in the state directory that holds what is on record.
const STORE: &str = "spandrel.redb";

/// How often flows that have ended are swept out of the flow tables, while there are any.
const GARBAGE_PERIOD: Duration = Duration::from_secs(5);

/// How long after a sweep the next one may be, where room is short.
const LEAST_PAUSE: Duration = Duration::from_millis(250);

/// How long after a change interfaces and namespaces are compared with what they should be: changes come in bursts, and most are our own.
const MEND_DELAY: Duration = Duration::from_secs(1);

/// How long after one look the next one comes at the earliest, and at the latest while not all is as it should be.
const MEND_PERIOD: Duration = Duration::from_secs(10);

/// Commands that may wait for the owner of the state.
const QUEUE: usize = 64;

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the store is kept.
    pub state_dir: PathBuf,
    /// Where everything lives that does not survive a reboot.
    pub run_dir: PathBuf,
    /// Uplinks by name; empty is every interface that holds a route to elsewhere.
    pub uplinks: Vec<String>,
    /// Where subnets come from when none is asked for; the defaults for a family that has none here.
    pub pools: Vec<Pool>,
    /// Remove everything from the kernel at the end.
    pub teardown: bool,
    /// Have the kernel expedite its grace periods while something changes.
    pub rcu_expedited: bool,
    /// Options of the data plane.
    pub dataplane: DataplaneOptions,
}

/// A piece of work on the state, done by its owner; commands are nothing else.
type Work = Box<dyn for<'a> FnOnce(&'a mut Agent) -> BoxFuture<'a, ControlFlow<()>> + Send>;

/// Runs the agent until it is told to stop by SIGTERM or SIGINT. `serve` is called when everything is
/// as it should be; it answers users until it is dropped.
pub async fn run<S, F>(options: Options, serve: S) -> Result<()>
where
    S: FnOnce(Handle) -> F,
    F: Future<Output = Result<()>>,
{
    capability::check_capabilities()?;
    capability::check_kernel()?;
    limits::raise_open_files()?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // Held until the process ends.
    let _lock = host::lock(&options.run_dir)?;

    let (sender, commands) = mpsc::channel(QUEUE);
    let (agent, host) = Agent::start(&options, sender.clone()).await?;
    let watches =
        Watches { links: host.heard(), host, mounts: MountWatch::start()?, flows: agent.dataplane.flow_alarm()? };
    let handle = Handle::new(sender, agent.paths.clone(), agent.events.clone());
    let mut owner = tokio::spawn(own(agent, watches, commands));
    memory::give_back();
    memory::let_go_of_code();
    tracing::info!("ready");

    let result = tokio::select! {
        result = serve(handle.clone()) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut owner => return Err(match ended {
            Ok(_) => Error::Internal("the agent's task ended by itself".into()),
            Err(panic) => Error::internal("the agent's task failed", panic),
        }),
    };
    tracing::info!("stopping");
    handle.shut_down().await?;
    let agent = owner.await.map_err(|panic| Error::internal("the agent's task failed", panic))?;
    if options.teardown {
        agent.tear_down_all().await?;
    }
    result
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|error| Error::internal("cannot listen for signals", error))
}

/// What tells the owner of the state of changes that are not its own.
struct Watches {
    host: HostWatch,
    /// Of any change of interfaces, the agent's own ones among them.
    links: Arc<Notify>,
    mounts: MountWatch,
    flows: FlowAlarm,
}

/// The task that owns the state; gives it back when told to stop. While nothing changes and nothing flows it sleeps: each of its timers is
/// there only while something is due.
async fn own(mut agent: Agent, mut watches: Watches, mut commands: mpsc::Receiver<Work>) -> Agent {
    let (mut sweeps, mut mend) = (Sweeps::new(), None);
    let (mut looked, mut links) = (Instant::now(), None);
    loop {
        let change = tokio::select! {
            work = commands.recv() => {
                match work {
                    Some(work) => if work(&mut agent).await.is_break() { return agent },
                    None => return agent,
                }
                false
            }
            view = watches.host.changed() => {
                agent.host_changed(view);
                false
            }
            () = watches.links.notified() => true,
            () = watches.mounts.changed() => agent.sandboxes().next().is_some(),
            alarm = watches.flows.rings() => {
                sweeps.ring(alarm);
                false
            }
            () = at(sweeps.next) => {
                let begun = Instant::now();
                let left = agent.collect_garbage();
                sweeps.done(begun, left);
                false
            }
            () = at(mend) => {
                (looked, links, mend) = (Instant::now(), Some(agent.look()), None);
                false
            }
            found = listed(&mut links) => {
                links = None;
                if !agent.mend(found).await {
                    mend = mend.or(Some(looked + MEND_PERIOD));
                }
                // Something had changed, and most of what that took is not wanted any more.
                memory::give_back();
                memory::let_go_of_code();
                false
            }
        };
        if change {
            mend = mend.or(Some((Instant::now() + MEND_DELAY).max(looked + MEND_PERIOD)));
        }
        if agent.dataplane.wants_sweep() {
            sweeps.want();
        }
    }
}

/// When the flow tables are swept: now and then while there are flows, and soon when room becomes short.
struct Sweeps {
    /// None while there are no flows.
    next: Option<Instant>,
    /// However short room is, not before this.
    earliest: Instant,
    /// How long that was after the last sweep.
    pause: Duration,
}

impl Sweeps {
    fn new() -> Self {
        let now = Instant::now();
        Self { next: Some(now), earliest: now, pause: LEAST_PAUSE }
    }

    fn want(&mut self) {
        self.next = self.next.or(Some(Instant::now() + GARBAGE_PERIOD));
    }

    fn ring(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Flows => self.want(),
            Alarm::Crowd => self.next = Some(self.earliest),
        }
    }

    /// Sweeps take a tenth of the time at most. They are less and less frequent where they make no room: flows that are alive stay.
    fn done(&mut self, begun: Instant, left: Left) {
        let end = Instant::now();
        let patience = if left == Left::Crowd { (self.pause * 2).min(GARBAGE_PERIOD) } else { LEAST_PAUSE };
        self.pause = patience.max((end - begun) * 9);
        self.earliest = end + self.pause;
        self.next = match left {
            Left::Nothing => None,
            Left::Flows => Some(self.earliest.max(end + GARBAGE_PERIOD)),
            Left::Crowd => Some(self.earliest),
        };
    }
}

/// Waits until it is time, for ever if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for a list of interfaces that is on its way, for ever if there is none. Cancel safe.
async fn listed(links: &mut Option<JoinHandle<Result<Vec<Link>>>>) -> Result<Vec<Link>> {
    match links {
        Some(links) => links.await.unwrap_or_else(|panic| Err(Error::internal("listing the interfaces failed", panic))),
        None => std::future::pending().await,
    }
}
