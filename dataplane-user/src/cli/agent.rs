//! `spandrel agent`: the other side of the socket.

use std::fs::DirBuilder;
use std::future;
use std::io::{self, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;

use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tracing_subscriber::EnvFilter;

use super::Outcome;
use super::args::agent::{Agent, Attach, LogLevel, RcuExpedited, Xdp};
use super::error::Error;
use crate::api::socket::SocketFile;
use crate::kernel::dataplane::{self, AttachMode, LogLevel as BpfLevel, Timeouts, XdpMode};
use crate::kernel::memory;
use crate::plugin::docker as plugin;
use crate::{agent, api, model};

/// Threads for clients' requests and for what the kernel tells us; packets never need one.
const WORKERS: usize = 2;

/// Runs the agent until it is told to end.
pub(super) fn run(command: Agent) -> Outcome {
    tracing_subscriber::fmt()
        .with_env_filter(filter(command.log_level))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    let socket = command.socket.unwrap_or_else(|| command.run_dir.join("spandrel.sock"));
    let mut timeouts = Timeouts::default();
    for timeout in command.idle_timeout {
        timeout.put_into(&mut timeouts);
    }
    let options = agent::Options {
        state_dir: command.state_dir,
        run_dir: command.run_dir,
        uplinks: command.uplink,
        pools: command.default_address_pool,
        teardown: command.teardown,
        rcu_expedited: command.rcu_expedited == RcuExpedited::Auto,
        dataplane: dataplane::Options {
            max_flows: command.max_flows,
            log_level: bpf_level(command.bpf_log_level),
            attach: attach_mode(command.attach),
            xdp: xdp_mode(command.xdp),
            timeouts,
        },
    };
    memory::keep_little();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Error::Local(format!("cannot start: {error}")))?;
    let serve = |handle: agent::Handle| async move {
        let (listener, _file) = api::socket::bind(&socket, "--socket")?;
        tracing::info!("listening on {}", socket.display());
        let docker = docker_socket(command.docker_plugin.as_deref())?;
        tell_service_manager();
        let (clients, engine) = (handle.clone(), handle);
        let api = async {
            let served = api::serve(clients, listener).await;
            served.map_err(|error| model::Error::internal("cannot serve clients", error))
        };
        let docker = async {
            match docker {
                Some((listener, _file)) => plugin::serve(engine, listener, command.docker_socket)
                    .await
                    .map_err(|error| model::Error::internal("cannot serve Docker", error)),
                None => future::pending().await,
            }
        };
        tokio::try_join!(api, docker).map(drop)
    };
    runtime.block_on(agent::run(options, serve)).map_err(|error| Error::Local(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Tells the manager of services that started the agent, if one did (`Type=notify` of systemd), that clients are answered now. The
/// crate is the protocol: a datagram to the socket that `NOTIFY_SOCKET` names.
fn tell_service_manager() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!("cannot tell the service manager that the agent is ready: {error}");
    }
}

/// The socket for Docker, unless nobody wants it. At its usual place it is a courtesy: another agent may have it, or the place may be one
/// that cannot be written to, and then there is a warning.
fn docker_socket(asked: Option<&Path>) -> model::Result<Option<(UnixListener, SocketFile)>> {
    let open = |path: &Path| {
        if let Some(folder) = path.parent() {
            // dockerd makes it, too, but it may start later. There only root looks for plugins.
            let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
            made.map_err(|error| model::Error::internal(format_args!("cannot make {}", folder.display()), error))?;
        }
        let opened = api::socket::bind(path, "--docker-plugin")?;
        tracing::info!("Docker finds its driver at {}", path.display());
        Ok(opened)
    };
    match asked {
        Some(path) if path == Path::new("none") => Ok(None),
        Some(path) => open(path).map(Some),
        None => {
            let opened = open(Path::new(plugin::SOCKET));
            Ok(opened.inspect_err(|error| tracing::warn!("there is no driver for Docker: {error}")).ok())
        }
    }
}

/// What is said: our own part at the level that was asked for, libraries only when something is wrong. The
/// programs' records have been chosen by their own level already.
fn filter(level: LogLevel) -> EnvFilter {
    let (ours, others) = match level {
        LogLevel::Off => ("off", "off"),
        LogLevel::Error => ("error", "error"),
        LogLevel::Warn => ("warn", "warn"),
        LogLevel::Info => ("info", "warn"),
        LogLevel::Debug => ("debug", "warn"),
        LogLevel::Trace => ("trace", "warn"),
    };
    EnvFilter::new(format!("{others},spandrel={ours},dataplane_ebpf=trace"))
}

fn bpf_level(level: LogLevel) -> BpfLevel {
    match level {
        LogLevel::Off => BpfLevel::Off,
        LogLevel::Error => BpfLevel::Error,
        LogLevel::Warn => BpfLevel::Warn,
        LogLevel::Info => BpfLevel::Info,
        LogLevel::Debug => BpfLevel::Debug,
        LogLevel::Trace => BpfLevel::Trace,
    }
}

fn attach_mode(attach: Attach) -> AttachMode {
    match attach {
        Attach::Auto => AttachMode::Auto,
        Attach::Tcx => AttachMode::Tcx,
        Attach::Clsact => AttachMode::Clsact,
    }
}

fn xdp_mode(xdp: Xdp) -> XdpMode {
    match xdp {
        Xdp::Auto => XdpMode::Auto,
        Xdp::Native => XdpMode::Native,
        Xdp::Generic => XdpMode::Generic,
        Xdp::Off => XdpMode::Off,
    }
}
