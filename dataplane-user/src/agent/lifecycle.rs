//! What happens when a container's command ends, and what stays of it until the next start.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::Work;
use super::error::Troubles;
use super::events::Event;
use super::state::Agent;
use crate::kernel::netns;
use crate::kernel::process::{Exit, Running};
use crate::model::{Attachment, Container, Error, Id, Result, State, UNKNOWN_EXIT};
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
                    let _expedited = agent.grace_periods.expedite();
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
        let ran = finished.duration_since(started).as_secs().max(0);
        let how = [("exitCode", code.to_string()), ("execDuration", ran.to_string())];
        self.events.tell(Event::of_container("die", &container, how));
        let troubles = self.take_down(&container).await;
        self.tell_memberships("disconnect", &container);
        troubles.log(&format!("taking container {} down", container.name));
        let restarts = self.live.get(id).is_some_and(|live| live.restarts);
        let state = State::Exited { code, started, finished };
        let recorded = match container.auto_remove && !restarts {
            true => self.remove_container(id),
            false => self.record_end(container, state),
        };
        if let Err(error) = recorded {
            tracing::error!("recording the end of a container: {error}");
        }
        // Last of all: who waits for the end may rely on nothing being left.
        if let Some(live) = self.live.remove(id) {
            live.exit.send_replace(Some(code));
        }
    }

    /// Forgets a container that does not run, and tells so. One that is not known (any more) is no error.
    pub(super) fn remove_container(&mut self, id: &Id) -> Result<()> {
        let Some(container) = self.containers.get(id).cloned() else { return Ok(()) };
        self.forget_container(id)?;
        self.events.tell(Event::of_container("destroy", &container, []));
        Ok(())
    }

    /// Puts on record what stays of a container after its end.
    pub(super) fn record_end(&mut self, mut container: Container, state: State) -> Result<()> {
        container.state = state;
        container.attachments.extend(container.endpoints.drain(..).map(Attachment::from));
        let result = self.store.apply(&[Change::PutContainer(&container)]);
        self.containers.insert(container.id, container);
        result
    }

    /// Puts a container on record that has changed in nothing but its record.
    pub(super) fn rewrite(&mut self, container: Container) -> Result<()> {
        self.store.apply(&[Change::PutContainer(&container)])?;
        self.containers.insert(container.id, container);
        Ok(())
    }

    /// Looks a container up that is to end and start again: `--rm` does not count then.
    pub(super) fn expect_restart(&mut self, reference: &str, expected: bool) -> Result<Container> {
        let container = self.container(reference)?.clone();
        if let Some(live) = self.live.get_mut(&container.id) {
            live.restarts = expected;
        }
        Ok(container)
    }

    /// Makes links to a container lead to it under its new name, and that known.
    async fn follow_rename(&mut self, old: &Container, name: &str) -> Result<()> {
        for mut container in self.containers.values().cloned().collect::<Vec<_>>() {
            let endpoints = container.endpoints.iter_mut().map(|endpoint| &mut endpoint.requested);
            let attachments = container.attachments.iter_mut().map(|attachment| &mut attachment.requested);
            let links = endpoints.chain(attachments).flat_map(|requested| &mut requested.links);
            let renamed = links.filter(|link| link.target == old.name).map(|link| link.target = name.into()).count();
            let id = container.id;
            if renamed > 0 {
                self.rewrite(container)?;
            }
            if (renamed > 0 || id == old.id) && self.live.contains_key(&id) {
                self.update_names(&id).await?;
            }
        }
        // Somebody may be linked to a container of this name that was not there.
        self.update_links()?;
        self.tell_linked(name)
    }

    /// Gives a container another name, and its network namespace with it.
    pub(super) async fn rename(&mut self, reference: &str, name: &str) -> Result<()> {
        let old = self.container(reference)?.clone();
        if old.name == name {
            return Err(Error::Invalid(
                "Renaming a container with the same name as its current name: give another one".into(),
            ));
        }
        let new = Container { name: self.container_name(Some(name))?, ..old.clone() };
        let paths = self.paths.own_netns(&old).zip(self.paths.own_netns(&new)).filter(|_| old.is_running());
        if let Some((from, to)) = &paths {
            netns::link(from, to)?;
        }
        if let Err(error) = self.rewrite(new) {
            let undone = paths.and_then(|(_, to)| netns::delete(&to).err());
            return Err(undone.into_iter().fold(error, Error::and));
        }
        if let Some((from, to)) = paths {
            let process = self.live.get_mut(&old.id).and_then(|live| live.process.as_mut());
            let mut troubles = Troubles::default();
            troubles.note(process.map_or(Ok(()), |process| process.keep_netns_at(&to)));
            troubles.note(netns::delete(&from));
            // It has its new name all the same; the next agent mends the rest.
            troubles.log(&format!("renaming container {}", old.name));
        }
        let renamed = Container { name: name.into(), ..old.clone() };
        self.events.tell(Event::of_container("rename", &renamed, [("oldName", format!("/{}", old.name))]));
        tracing::info!(container = name, id = %old.id, "renamed from {}", old.name);
        self.follow_rename(&old, name).await
    }
}

/// Exit code and time, as far as anybody knows them.
pub(super) fn outcome(exit: Option<Exit>) -> (i32, Timestamp) {
    match exit {
        Some(exit) => (exit.code, Timestamp::try_from(exit.at).unwrap_or_else(|_| Timestamp::now())),
        None => (UNKNOWN_EXIT, Timestamp::now()),
    }
}
