//! Docker's remote network driver and remote IPAM driver: what dockerd asks for over a unix socket, done by the agent.
//!
//! The protocol is libnetwork's (`docs/remote.md` and `docs/ipam.md` there): HTTP, one POST a call, JSON both ways. dockerd holds locks
//! while it calls, so nothing here asks dockerd anything before it has answered; what dockerd calls its containers and networks is found
//! out afterwards ([`follow`](mod@follow)).

mod engine_api;
mod follow;
mod ipam;
mod network;
mod options;
mod server;
#[cfg(test)]
mod tests;
mod types;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::Notify;

use crate::agent::Handle;

/// Where dockerd looks for the driver `spandrel`.
pub const SOCKET: &str = "/run/docker/plugins/spandrel.sock";

/// Where dockerd itself is asked for names.
pub const ENGINE_SOCKET: &str = "/run/docker.sock";

/// What every call has at hand.
#[derive(Clone)]
pub(super) struct Plugin {
    agent: Handle,
    /// Something of Docker's has changed, and what it is called is to be found out.
    changed: Arc<Notify>,
}

/// Answers dockerd on `listener`, and asks it for names at the socket `engine`, until the future is dropped.
pub async fn serve(agent: Handle, listener: UnixListener, engine: PathBuf) -> io::Result<()> {
    let plugin = Plugin { agent, changed: Arc::new(Notify::new()) };
    // There may be containers of an earlier agent's time.
    plugin.changed.notify_one();
    let follow = follow::follow(plugin.agent.clone(), &engine, &plugin.changed);
    let listen = follow::listen(&engine, &plugin.changed);
    tokio::select! {
        result = server::serve(plugin.clone(), listener) => result,
        () = follow => Ok(()),
        () = listen => Ok(()),
    }
}
