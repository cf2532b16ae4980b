//! What happens when a container's command ends.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::Work;
use super::state::Agent;
use crate::kernel::process::{Exit, Running};
use crate::model::{Container, Id, Result, State, UNKNOWN_EXIT};
use crate::store::Change;

impl Agent {
    /// Waits for a container's end, in a task of its own, and then has it taken down.
    pub(super) fn watch(&self, id: Id, running: Running) {
        let queue = self.queue.clone();
        tokio::spawn(async move {
            let exit = running.wait().await;
            let work: Work = Box::new(move |agent| {
                Box::pin(async move {
                    let exit =
                        exit.inspect_err(|error| tracing::error!("lost sight of container {}: {error}", id.short()));
                    agent.container_ended(&id, exit.ok()).await;
                    ControlFlow::Continue(())
                })
            });
            // Without an owner the next agent finds out when it converges.
            let _ = queue.send(work).await;
        });
    }

    /// Takes an ended container down, and puts its exit on record or forgets it.
    pub(super) async fn container_ended(&mut self, id: &Id, exit: Option<Exit>) {
        let Some(container) = self.containers.get(id).cloned() else { return };
        let State::Running { started, .. } = container.state else { return };
        let (code, finished) = outcome(exit);
        tracing::info!(container = container.name, id = %id, code, "container ended");
        let troubles = self.take_down(&container).await;
        troubles.log(&format!("taking container {} down", container.name));
        if let Err(error) = self.record_end(container, State::Exited { code, started, finished }) {
            tracing::error!("recording the end of a container: {error}");
        }
        // Last of all: who waits for the end may rely on nothing being left.
        if let Some(live) = self.live.remove(id) {
            live.exit.send_replace(Some(code));
        }
    }

    /// What stays of a container after its end.
    pub(super) fn record_end(&mut self, mut container: Container, state: State) -> Result<()> {
        if container.auto_remove {
            return self.forget_container(&container.id);
        }
        container.state = state;
        container.endpoints.clear();
        let result = self.store.apply(&[Change::PutContainer(&container)]);
        self.containers.insert(container.id, container);
        result
    }
}

/// Exit code and time, as far as anybody knows them.
pub(super) fn outcome(exit: Option<Exit>) -> (i32, Timestamp) {
    match exit {
        Some(exit) => (exit.code, Timestamp::try_from(exit.at).unwrap_or_else(|_| Timestamp::now())),
        None => (UNKNOWN_EXIT, Timestamp::now()),
    }
}
