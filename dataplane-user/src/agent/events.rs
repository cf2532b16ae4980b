//! What happens to networks and containers, told to whoever listens.
//!
//! Events are told when what they tell of is done. Nobody waits for a listener: one that is too slow is cut off. The latest
//! events are kept for listeners that ask for the past, for as long as the agent runs.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::broadcast;

use super::state::Agent;
use crate::model::{Container, Driver, Id, Network};

/// How many past events are kept; Docker keeps as many.
const KEPT: usize = 256;

/// How far a listener may fall behind.
const QUEUE: usize = 4096;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A container.
    Container,
    /// A network.
    Network,
}

impl Subject {
    /// The word that Docker uses for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Subject::Container => "container",
            Subject::Network => "network",
        }
    }
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// To what kind of thing.
    pub subject: Subject,
    /// What, in Docker's word for it; of a further command followed by the command, `exec_start: ls -l`.
    pub action: Cow<'static, str>,
    /// To which one; none if it is about all of them.
    pub id: Option<Id>,
    /// More about it, by Docker's names.
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    fn new<const N: usize>(
        subject: Subject,
        action: impl Into<Cow<'static, str>>,
        id: Option<Id>,
        attributes: [(&str, String); N],
    ) -> Self {
        let attributes = attributes.map(|(name, value)| (name.to_string(), value)).into();
        Event { time: Timestamp::now(), subject, action: action.into(), id, attributes }
    }

    /// Something that has happened to a container, with what there is to say beyond its name and labels.
    pub(super) fn of_container<const N: usize>(
        action: impl Into<Cow<'static, str>>,
        container: &Container,
        further: [(&str, String); N],
    ) -> Self {
        let mut event = Event::new(Subject::Container, action, Some(container.id), further);
        event.attributes.extend(container.labels.clone());
        event.attributes.insert("name".into(), container.name.clone());
        event
    }

    /// Something that has happened to a network.
    pub(super) fn of_network(action: &'static str, network: &Network) -> Self {
        let attributes = [("name", network.name.clone()), ("type", network.driver.as_str().into())];
        Event::new(Subject::Network, action, Some(network.id), attributes)
    }

    /// The unused networks have been removed.
    pub(super) fn of_prune() -> Self {
        Event::new(Subject::Network, "prune", None, [("reclaimed", "0".into())])
    }
}

/// The way from those who do things to those who listen; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Events {
    past: Arc<Mutex<VecDeque<Event>>>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Events { past: Arc::default(), sender: broadcast::channel(QUEUE).0 }
    }
}

impl Events {
    fn past(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // The queue is whole between any two of its operations, whoever panicked.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who listens.
    pub(super) fn tell(&self, event: Event) {
        let mut past = self.past();
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent before the lock goes, so that a new listener gets it once: as the past or as news. Nobody may listen.
        let _ = self.sender.send(event);
    }

    /// The events since a moment that are still known, none without one, and what tells of all later ones.
    pub(super) fn listen(&self, since: Option<Timestamp>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let past = self.past();
        let known = past.iter().filter(|event| since.is_some_and(|since| event.time >= since)).cloned().collect();
        (known, self.sender.subscribe())
    }
}

impl Agent {
    /// Tells that a container has joined or left a network.
    pub(super) fn tell_membership(&self, action: &'static str, container: &Id, network: (Id, &str, Driver)) {
        let (id, name, driver) = network;
        let attributes =
            [("container", container.to_string()), ("name", name.into()), ("type", driver.as_str().into())];
        self.events.tell(Event::new(Subject::Network, action, Some(id), attributes));
    }

    /// Tells that a container has joined or left all networks that it has.
    pub(super) fn tell_memberships(&self, action: &'static str, container: &Container) {
        for endpoint in &container.endpoints {
            let network = (endpoint.network, endpoint.network_name.as_str(), endpoint.driver);
            self.tell_membership(action, &container.id, network);
        }
        // On `host` and `none` nobody has an endpoint.
        let alone = |network: &&Network| network.name == container.network_mode && !network.driver.is_joined();
        if let Some(network) = self.networks.values().find(alone) {
            self.tell_membership(action, &container.id, (network.id, &network.name, network.driver));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: usize) -> Event {
        Event {
            time: Timestamp::from_second(number as i64).unwrap(),
            ..Event::new(Subject::Network, "create", None, [("name", number.to_string())])
        }
    }

    fn numbers(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.attributes["name"].as_str()).collect()
    }

    #[tokio::test]
    async fn the_past_ends_where_the_news_begin() {
        let events = Events::default();
        (1..=3).for_each(|number| events.tell(numbered(number)));
        let (past, mut news) = events.listen(Timestamp::from_second(2).ok());
        events.tell(numbered(4));
        assert_eq!(numbers(&past), ["2", "3"]);
        assert_eq!(numbers(&[news.recv().await.unwrap()]), ["4"]);
        assert_eq!(events.listen(None).0, []);
    }

    #[test]
    fn the_latest_are_kept() {
        let events = Events::default();
        (0..KEPT + 10).for_each(|number| events.tell(numbered(number)));
        let (past, _) = events.listen(Some(Timestamp::UNIX_EPOCH));
        assert_eq!((past.len(), numbers(&past)[0]), (KEPT, "10"));
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_that_it_missed_something() {
        let events = Events::default();
        let (_, mut news) = events.listen(None);
        (0..QUEUE + 10).for_each(|number| events.tell(numbered(number)));
        assert!(matches!(news.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
    }
}
