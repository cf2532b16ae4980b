//! What becomes of what dockerd asked for, once its call is answered: where it has moved the interface, and what it calls the container.
//!
//! dockerd holds locks while it calls a plugin, and a container's settings are there for others only when it has started. So this is a
//! task of its own, which nobody waits for. Without dockerd's socket everything works, but containers are called by number.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::engine_api;
use crate::agent::Handle;
use crate::kernel::arrival::Arrival;
use crate::model::Engine;

/// How long after a change to look, and look again while not all is known. A container's start takes most of the first second.
const PAUSES: [u64; 10] = [10, 40, 100, 150, 300, 600, 1200, 2500, 5000, 10000];

/// How long dockerd may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How often dockerd's socket is tried, ...
const AWAY: Duration = Duration::from_secs(2);

/// ... and how many times in vain: a socket is there a moment before somebody listens.
const TRIES: u32 = 3;

/// Looks at every change until all is known, or it has taken too long; for ever.
pub(super) async fn follow(agent: Handle, engine: &Path, changed: &Notify) {
    loop {
        changed.notified().await;
        for pause in PAUSES {
            sleep(Duration::from_millis(pause)).await;
            let settled = agent.settle().await.unwrap_or_else(|error| {
                tracing::warn!("looking for interfaces that Docker was to move: {error}");
                true
            });
            let known = match timeout(ANSWER, names(&agent, engine)).await {
                Ok(Ok(known)) => known,
                Ok(Err(error)) => {
                    tracing::debug!("asking Docker at {}: {error}", engine.display());
                    false
                }
                Err(_) => false,
            };
            if settled && known {
                break;
            }
        }
    }
}

/// Asks dockerd for names. Returns whether it told those of all its containers.
async fn names(agent: &Handle, engine: &Path) -> io::Result<bool> {
    let (containers, networks) = (engine_api::containers(engine).await?, engine_api::networks(engine).await?);
    agent.learn(Engine::Docker, containers, networks).await.map_err(io::Error::other)
}

/// Takes every event of dockerd's for a change; for ever. A container may be renamed, which no driver is told. While there is no dockerd,
/// this sleeps until its socket is made.
pub(super) async fn listen(engine: &Path, changed: &Notify) {
    loop {
        // Before the first try: what is made after the last one has been seen.
        let arrival = Arrival::watch(engine);
        let mut tries = 0;
        while tries < TRIES {
            let began = Instant::now();
            if let Err(error) = engine_api::events(engine, || changed.notify_one()).await {
                tracing::trace!("listening to Docker's events at {}: {error}", engine.display());
            }
            // One that was there for a while may only be starting anew, behind a socket that stays.
            tries = if began.elapsed() < AWAY { tries + 1 } else { 0 };
            sleep(AWAY).await;
        }
        let arrived = async { arrival?.arrived().await };
        if let Err(error) = arrived.await {
            tracing::debug!("watching for Docker at {}: {error}", engine.display());
        }
    }
}
