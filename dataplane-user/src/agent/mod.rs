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
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::ipam::Pool;
use crate::kernel::uplink::HostWatch;
use crate::kernel::{capability, limits, memory};
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

/// How often flows that have ended are swept out of the flow tables.
const GARBAGE_PERIOD: Duration = Duration::from_secs(5);

/// How often the interfaces are compared with what they should be.
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
    let (agent, watch) = Agent::start(&options, sender.clone()).await?;
    let handle = Handle::new(sender, agent.paths.clone(), agent.events.clone());
    let mut owner = tokio::spawn(own(agent, watch, commands));
    memory::give_back();
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

/// The task that owns the state; gives it back when told to stop.
async fn own(mut agent: Agent, mut watch: HostWatch, mut commands: mpsc::Receiver<Work>) -> Agent {
    let mut garbage = tokio::time::interval(GARBAGE_PERIOD);
    let mut mend = tokio::time::interval(MEND_PERIOD);
    garbage.set_missed_tick_behavior(MissedTickBehavior::Delay);
    mend.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, and everything has just been done.
    mend.reset();
    loop {
        tokio::select! {
            work = commands.recv() => match work {
                Some(work) => if work(&mut agent).await.is_break() { return agent },
                None => return agent,
            },
            view = watch.changed() => agent.host_changed(view),
            _ = garbage.tick() => agent.collect_garbage(),
            _ = mend.tick() => agent.mend().await,
        }
    }
}
