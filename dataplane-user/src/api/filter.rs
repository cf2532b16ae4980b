//! The `filters` of list calls: a JSON map from a filter's name to the values that match.
//!
//! Docker's clients write `{"name":{"web":true}}` or `{"name":["web"]}`. Values of one filter are
//! alternatives, different filters must all match. A filter or value that we do not know is refused: a list that
//! silently holds more than was asked for gets the wrong things removed.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use regex::Regex;
use serde::Deserialize;

use super::present::said;
use super::query::{moment, truth};
use super::types::container::ContainerSummary;
use super::types::network::Network;
use crate::agent::{Event, Subject};
use crate::model::{Container, Error, ExposedPorts, Id, Network as Model, Protocol, Result, State, resolve};

/// Filters by name, each with the values that match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(BTreeMap<String, bool>),
}

/// A filter: its name, and the only values that it takes if not all make sense.
type Known = (&'static str, &'static [&'static str]);

const YES_OR_NO: &[&str] = &["0", "1", "false", "true"];

impl Filters {
    /// Reads the query's value; an empty one filters nothing. Only filters in `known` are taken.
    pub(super) fn parse(text: &str, known: &[Known]) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = |_| Error::Invalid(format!("invalid filters {text:?}: a JSON map of lists is expected"));
        let filters: BTreeMap<String, Values> = serde_json::from_str(text).map_err(invalid)?;
        let list = |values| match values {
            Values::List(list) => list,
            Values::Set(set) => set.into_iter().filter_map(|(value, on)| on.then_some(value)).collect(),
        };
        let filters: BTreeMap<_, _> = filters.into_iter().map(|(name, values)| (name, list(values))).collect();
        for (name, values) in &filters {
            if name == "ancestor" {
                return Err(Error::Invalid(
                    "invalid filter 'ancestor': containers run the host's own commands, so none descends from an image"
                        .into(),
                ));
            }
            let Some((_, allowed)) = known.iter().find(|(known, _)| known == name) else {
                let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                return Err(Error::Invalid(format!("invalid filter {name:?}: known are {}", known.join(", "))));
            };
            let foreign = values.iter().find(|value| !allowed.is_empty() && !allowed.contains(&value.as_str()));
            if let Some(value) = foreign {
                return Err(Error::Invalid(format!(
                    "invalid filter '{name}={value}': one of {} is expected",
                    allowed.join(", ")
                )));
            }
        }
        Ok(Filters(filters))
    }

    fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a filter is absent or one of its values matches.
    fn any(&self, name: &str, matches: impl Fn(&str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(|value| matches(value))
    }

    /// Whether a filter is absent, or the text is one of its values or holds a match of one as a regular expression, which is
    /// what Docker makes of them.
    fn found_in(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| value == text || Regex::new(value).is_ok_and(|pattern| pattern.is_match(text)))
    }

    /// Whether all labels that are asked for, `key` or `key=value`, are there, and none that must not be.
    fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let there = |label: &String| match label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(label),
        };
        self.values("label").iter().all(there) && !self.values("label!").iter().any(there)
    }

    /// The filters that networks have.
    pub(super) const NETWORK: [Known; 7] = [
        ("dangling", YES_OR_NO),
        ("driver", &[]),
        ("id", &[]),
        ("label", &[]),
        ("name", &[]),
        ("scope", &["local", "global", "swarm"]),
        ("type", &["builtin", "custom"]),
    ];

    /// Whether a network (as `inspect` shows it) passes.
    pub(super) fn pass_network(&self, network: &Network) -> bool {
        let used = network.containers.as_ref().is_some_and(|endpoints| !endpoints.is_empty());
        let builtin = Model::PREDEFINED.contains(&network.name.as_str());
        self.any("driver", |driver| network.driver == driver)
            && self.found_in("id", &network.id)
            && self.found_in("name", &network.name)
            && self.any("scope", |scope| network.scope == scope)
            && self.any("type", |kind| kind == if builtin { "builtin" } else { "custom" })
            && self.any("dangling", |dangling| truth(dangling) != (used || builtin))
            && self.labels(&network.labels)
    }

    /// The filters that say which unused networks are removed.
    pub(super) const PRUNE: [Known; 3] = [("label", &[]), ("label!", &[]), ("until", &[])];

    /// Which unused networks are to be removed, by time of creation and labels.
    pub(super) fn prune(self) -> Result<impl Fn(Timestamp, &BTreeMap<String, String>) -> bool + Send> {
        let before = match self.values("until") {
            [] => None,
            [until] => moment(until)?,
            _ => return Err(Error::Invalid("more than one until filter specified: give one".into())),
        };
        Ok(move |created: Timestamp, labels: &BTreeMap<_, _>| {
            before.is_none_or(|before| created < before) && self.labels(labels)
        })
    }

    /// The filters that containers have.
    pub(super) const CONTAINER: [Known; 10] = [
        ("before", &[]),
        ("exited", &[]),
        ("expose", &[]),
        ("id", &[]),
        ("label", &[]),
        ("name", &[]),
        ("network", &[]),
        ("publish", &[]),
        ("since", &[]),
        ("status", &["created", "restarting", "running", "removing", "paused", "exited", "dead"]),
    ];

    /// Whether the list is to hold containers of every state, as a filter by state means.
    pub(super) fn every_state(&self) -> bool {
        self.0.contains_key("status")
    }

    /// What the values of `before`, `since`, `exited`, `expose` and `publish` mean among `all` containers.
    pub(super) fn beyond_text(&self, all: &[Container]) -> Result<Beyond> {
        let mut beyond = Beyond::default();
        for (name, ages) in [("before", &mut beyond.before), ("since", &mut beyond.since)] {
            for reference in self.values(name) {
                ages.push(age(resolve("container", reference, all.iter())?));
            }
        }
        for code in self.values("exited") {
            let invalid = |_| Error::Invalid(format!("invalid filter 'exited={code}': an exit code is expected"));
            beyond.exited.push(code.parse().map_err(invalid)?);
        }
        for (name, ports) in [("expose", &mut beyond.expose), ("publish", &mut beyond.publish)] {
            for text in self.values(name) {
                let wanted: ExposedPorts = text.parse().map_err(|_| {
                    Error::Invalid(format!("invalid filter '{name}={text}': port[-port][/proto] is expected"))
                })?;
                ports.extend(wanted.ports().map(|port| (port, wanted.protocol)));
            }
        }
        Ok(beyond)
    }

    /// Whether a container passes.
    pub(super) fn pass_container(&self, container: &ContainerSummary) -> bool {
        let name = container.names.first().map(String::as_str).unwrap_or_default();
        let networks = &container.network_settings.networks;
        self.found_in("id", &container.id)
            && (self.found_in("name", name) || self.found_in("name", name.trim_start_matches('/')))
            && self.any("status", |state| container.state == state)
            && self.any("network", |wanted| {
                networks.iter().any(|(name, endpoint)| {
                    name == wanted || (!wanted.is_empty() && endpoint.network_id.starts_with(wanted))
                })
            })
            && self.labels(&container.labels)
    }

    /// The filters that events have.
    pub(super) const EVENT: [Known; 6] = [
        ("container", &[]),
        ("event", &[]),
        ("label", &[]),
        ("network", &[]),
        ("scope", &["local", "swarm"]),
        (
            "type",
            &[
                "builder",
                "config",
                "container",
                "daemon",
                "image",
                "network",
                "node",
                "plugin",
                "secret",
                "service",
                "volume",
            ],
        ),
    ];

    /// Whether an event passes.
    pub(super) fn pass_event(&self, event: &Event) -> bool {
        let id = event.id.map(|id| id.to_string()).unwrap_or_default();
        let name = event.attributes.get("name").map(String::as_str).unwrap_or_default();
        let of = |subject: Subject| {
            self.any(subject.as_str(), |wanted| {
                event.subject == subject && (id.starts_with(wanted) || name.starts_with(wanted))
            })
        };
        of(Subject::Container)
            && of(Subject::Network)
            && self.any("type", |kind| event.subject.as_str() == kind)
            && self.any("event", |action| event.action == action || event.action.split(':').next() == Some(action))
            && self.any("scope", |scope| scope == "local")
            && self.labels(&event.attributes)
    }
}

/// The filters of containers that look at more than the texts of a list's line. As everywhere, one without values passes all.
#[derive(Debug, Default)]
pub(super) struct Beyond {
    before: Vec<Age>,
    since: Vec<Age>,
    exited: Vec<i32>,
    expose: HashSet<(u16, Protocol)>,
    publish: HashSet<(u16, Protocol)>,
}

/// By which containers are ordered.
type Age = (Timestamp, Id);

fn age(container: &Container) -> Age {
    (container.created, container.id)
}

impl Beyond {
    /// Whether a container passes. As in Docker, `publish` means the container's ports, and what is published counts as exposed.
    pub(super) fn pass(&self, container: &Container) -> bool {
        let code = match container.state {
            State::Exited { code, .. } => Some(code),
            _ => None,
        };
        let published = || container.ports.iter().map(|binding| (binding.container_port, binding.protocol));
        self.before.iter().all(|other| age(container) < *other)
            && self.since.iter().all(|other| age(container) > *other)
            && (self.exited.is_empty() || code.is_some_and(|code| self.exited.contains(&code)))
            && (self.publish.is_empty() || published().any(|port| self.publish.contains(&port)))
            && (self.expose.is_empty() || published().chain(said(container)).any(|port| self.expose.contains(&port)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::present;
    use super::super::types::endpoint::EndpointSettings;
    use super::super::types::network::{ConfigReference, Ipam};
    use super::*;

    fn network(name: &str) -> Network {
        Network {
            name: name.into(),
            id: "3f0a".into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            scope: "local".into(),
            driver: "bridge".into(),
            enable_ipv4: true,
            enable_ipv6: false,
            ipam: Ipam::default(),
            internal: false,
            attachable: false,
            ingress: false,
            config_from: ConfigReference::default(),
            config_only: false,
            containers: None,
            status: None,
            options: BTreeMap::new(),
            labels: BTreeMap::from([("tier".into(), "front".into())]),
        }
    }

    fn filters(text: &str) -> Filters {
        Filters::parse(text, &Filters::NETWORK).unwrap()
    }

    #[test]
    fn networks_by_filter() {
        let front = network("front-net");
        for pass in [
            "",
            "{}",
            r#"{"name":["front"]}"#,
            r#"{"name":{"back":true,"front":true}}"#,
            r#"{"label":["tier"],"driver":["bridge"]}"#,
            r#"{"label":["tier=front"]}"#,
            r#"{"type":["custom"],"dangling":["true"]}"#,
            r#"{"name":["^fr.nt-net$"],"id":["^3f"]}"#,
            r#"{"name":{"front":false}}"#,
        ] {
            assert!(filters(pass).pass_network(&front), "{pass}");
        }
        for fail in [
            r#"{"name":["back"]}"#,
            r#"{"name":["^ront"]}"#,
            r#"{"name":["("]}"#,
            r#"{"label":["tier","zone"]}"#,
            r#"{"label":["tier=back"]}"#,
            r#"{"type":["builtin"]}"#,
            r#"{"dangling":["0"]}"#,
            r#"{"id":["ffff"]}"#,
        ] {
            assert!(!filters(fail).pass_network(&front), "{fail}");
        }
        assert!(filters(r#"{"type":["builtin"]}"#).pass_network(&network("bridge")));
        assert!(!filters(r#"{"dangling":["true"]}"#).pass_network(&network("bridge")));
    }

    #[test]
    fn containers_by_filter() {
        let mut container =
            ContainerSummary { names: vec!["/web".into()], state: "running".into(), ..Default::default() };
        container.network_settings.networks.insert("front".into(), EndpointSettings::default());
        let pass = |text: &str| Filters::parse(text, &Filters::CONTAINER).unwrap().pass_container(&container);
        assert!(pass(r#"{"network":["front"],"status":["running"],"name":["we"]}"#));
        assert!(!pass(r#"{"network":["back"]}"#));
        assert!(!pass(r#"{"status":["exited"]}"#));
    }

    #[test]
    fn containers_beyond_their_texts() {
        let old = present::tests::web();
        let exited = State::Exited { code: 3, started: old.created, finished: old.created };
        let second = old.created + jiff::SignedDuration::from_secs(1);
        let young = Container {
            id: "d".repeat(64).parse().unwrap(),
            name: "young".into(),
            created: second,
            state: exited,
            ..old.clone()
        };
        let all = [Container { name: "old".into(), ..old }, young];
        for (text, passes) in [
            ("{}", [true, true]),
            (r#"{"before":["young"]}"#, [true, false]),
            (r#"{"since":["old"]}"#, [false, true]),
            (r#"{"since":["old"],"before":["young"]}"#, [false, false]),
            (r#"{"exited":["0","3"]}"#, [false, true]),
            (r#"{"exited":["0"]}"#, [false, false]),
            // 80/tcp is published as 8080, and exposed; 9/udp is exposed alone.
            (r#"{"publish":["80"]}"#, [true, true]),
            (r#"{"publish":["70-90/tcp"]}"#, [true, true]),
            (r#"{"publish":["8080"]}"#, [false, false]),
            (r#"{"publish":["9/udp"]}"#, [false, false]),
            (r#"{"expose":["9/udp"]}"#, [true, true]),
            (r#"{"expose":["80"]}"#, [true, true]),
            (r#"{"expose":["9"]}"#, [false, false]),
        ] {
            let beyond = Filters::parse(text, &Filters::CONTAINER).unwrap().beyond_text(&all).unwrap();
            assert_eq!(all.each_ref().map(|container| beyond.pass(container)), passes, "{text}");
        }
        for (text, word) in [
            (r#"{"before":["nobody"]}"#, "nobody"),
            (r#"{"exited":["soon"]}"#, "'exited=soon'"),
            (r#"{"publish":["8080:80"]}"#, "'publish=8080:80'"),
            (r#"{"expose":["http"]}"#, "'expose=http'"),
        ] {
            let refused = Filters::parse(text, &Filters::CONTAINER).unwrap().beyond_text(&all).unwrap_err();
            assert!(refused.to_string().contains(word), "{refused}");
        }
        let ancestor = Filters::parse(r#"{"ancestor":["nginx"]}"#, &Filters::CONTAINER).unwrap_err().to_string();
        assert!(ancestor.contains("image"), "{ancestor}");
    }

    #[test]
    fn what_we_do_not_know_is_refused() {
        for text in [
            "[]",
            "nonsense",
            r#"{"name":1}"#,
            r#"{"colour":["red"]}"#,
            r#"{"dangling":["maybe"]}"#,
            r#"{"type":["odd"]}"#,
        ] {
            assert!(Filters::parse(text, &Filters::NETWORK).is_err(), "{text}");
        }
        let state = Filters::parse(r#"{"status":["up"]}"#, &Filters::CONTAINER).unwrap_err().to_string();
        assert!(state.starts_with("invalid filter 'status=up': one of created"), "{state}");
    }

    #[test]
    fn unused_networks_by_filter() {
        let (created, labels) = ("2026-01-01T00:00:00Z".parse().unwrap(), network("old").labels);
        let wanted =
            |text: &str| Filters::parse(text, &Filters::PRUNE).unwrap().prune().map(|wanted| wanted(created, &labels));
        for (text, passes) in [
            ("", true),
            (r#"{"until":["2026-01-01T00:00:01Z"]}"#, true),
            (r#"{"until":["1h"]}"#, true),
            (r#"{"until":["2025-12-31T00:00:00Z"]}"#, false),
            (r#"{"label":["tier"]}"#, true),
            (r#"{"label!":["tier=front"]}"#, false),
            (r#"{"label!":["zone"]}"#, true),
        ] {
            assert_eq!(wanted(text).unwrap(), passes, "{text}");
        }
        assert!(wanted(r#"{"until":["soon"]}"#).is_err());
        assert!(wanted(r#"{"until":["1h","2h"]}"#).is_err());
    }

    #[test]
    fn events_by_filter() {
        let event = Event {
            time: jiff::Timestamp::UNIX_EPOCH,
            subject: Subject::Network,
            action: "connect".into(),
            id: "3f".repeat(32).parse().ok(),
            attributes: BTreeMap::from([("name".into(), "front".into()), ("container".into(), "c".into())]),
        };
        let pass = |text: &str| Filters::parse(text, &Filters::EVENT).unwrap().pass_event(&event);
        for text in
            [r#"{"type":["network"]}"#, r#"{"network":["3f3f"]}"#, r#"{"network":["front"],"event":["connect"]}"#]
        {
            assert!(pass(text), "{text}");
        }
        for text in
            [r#"{"type":["container"]}"#, r#"{"container":["front"]}"#, r#"{"event":["create"]}"#, r#"{"label":["a"]}"#]
        {
            assert!(!pass(text), "{text}");
        }
        // A further command's event is known by its word alone.
        let event = Event { action: "exec_start: ls -l".into(), ..event };
        for (action, passes) in
            [("exec_start", true), ("exec_start: ls -l", true), ("exec", false), ("exec_create", false)]
        {
            let filters = Filters::parse(&format!(r#"{{"event":["{action}"]}}"#), &Filters::EVENT).unwrap();
            assert_eq!(filters.pass_event(&event), passes, "{action}");
        }
    }
}
