//! The name service: containers on user-defined networks ask at 127.0.0.11:53 for each other and for the world.
//!
//! [`Names`] is the table of our own names. The owner of the state changes it within the command that changes the network, so
//! that nobody is told of what is no more. Each container has a task that serves the sockets in its namespace
//! ([`crate::kernel::NameSockets`]); what is not in the table is asked of other servers, whose answers are kept for a while.
//! Messages are hickory-proto's: it reads and writes every kind of record, and nothing else. No packet of anybody depends on this
//! module; when the agent is away, names are not answered.
//!
//! What a container is called, and which networks have names, is for the agent to say.

mod cache;
mod forward;
mod message;
mod names;
mod resolv_conf;
mod server;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::kernel::{NameSockets, NetNs};
use crate::model::{Error, Id, Result};

pub use crate::kernel::NAME_SERVER;
pub use names::Place;
pub use resolv_conf::{ResolvConf, Server as ResolvConfServer};

use forward::Forwarder;
use names::Names;
use server::{Resolver, Server};

/// What the tasks of all containers have in common.
#[derive(Debug)]
struct Shared {
    names: RwLock<Names>,
    /// To the host's own servers.
    host: Forwarder,
}

/// All name servers of this host's containers.
#[derive(Debug)]
pub struct NameService {
    shared: Arc<Shared>,
    servers: HashMap<Id, Server>,
}

fn read(names: &RwLock<Names>) -> RwLockReadGuard<'_, Names> {
    // Changed in steps that do not panic.
    names.read().unwrap_or_else(PoisonError::into_inner)
}

impl NameService {
    /// One that knows nobody. Names from outside are asked of the servers in that resolv.conf.
    pub fn new(resolv_conf: PathBuf) -> Self {
        let shared = Shared { names: RwLock::default(), host: Forwarder::host(resolv_conf) };
        NameService { shared: Arc::new(shared), servers: HashMap::new() }
    }

    /// Puts a container's names in the place of those that it had. `outside` is whether it may ask the host's servers.
    pub fn put(&self, container: Id, places: Vec<Place>, outside: bool) {
        self.shared.names.write().unwrap_or_else(PoisonError::into_inner).put(container, places, outside);
    }

    /// Whether a container is served.
    pub fn serves(&self, container: &Id) -> bool {
        self.servers.contains_key(container)
    }

    /// Starts to serve a container. Its own servers, if it has any, are asked from its namespace instead of the host's.
    pub fn serve(&mut self, container: Id, netns: NetNs, servers: &[IpAddr]) -> Result<()> {
        let sockets = NameSockets::open(&netns)?;
        let own = (!servers.is_empty()).then(|| Forwarder::container(servers, netns));
        let resolver = Resolver { asker: container, shared: self.shared.clone(), own };
        let failed = |error: io::Error| Error::internal("cannot serve names", error);
        self.servers.insert(container, Server::start(sockets, resolver).map_err(failed)?);
        Ok(())
    }

    /// Forgets a container, and serves it no longer. When this returns, nothing here keeps its namespace.
    pub async fn remove(&mut self, container: &Id) {
        self.shared.names.write().unwrap_or_else(PoisonError::into_inner).remove(container);
        if let Some(server) = self.servers.remove(container) {
            server.stop().await;
        }
    }
}
