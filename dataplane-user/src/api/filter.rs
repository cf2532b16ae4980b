//! The `filters` of list calls: a JSON map from a filter's name to the values that match.
//!
//! Docker's clients write `{"name":{"web":true}}` or `{"name":["web"]}`. Values of one filter are
//! alternatives, different filters must all match. A filter that we do not know is refused: a list that
//! silently holds more than was asked for gets the wrong things removed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::types::container::ContainerSummary;
use super::types::network::Network;
use crate::model::{Error, Network as Model, Result};

/// Filters by name, each with the values that match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(BTreeMap<String, bool>),
}

impl Filters {
    /// Reads the query's value; an empty one filters nothing. Only the names in `known` are taken.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = |_| Error::Invalid(format!("invalid filters {text:?}: a JSON map of lists is expected"));
        let filters: BTreeMap<String, Values> = serde_json::from_str(text).map_err(invalid)?;
        if let Some(unknown) = filters.keys().find(|name| !known.contains(&name.as_str())) {
            let known = known.join(", ");
            return Err(Error::Invalid(format!("invalid filter {unknown:?}: known are {known}")));
        }
        let list = |values| match values {
            Values::List(list) => list,
            Values::Set(set) => set.into_iter().filter_map(|(value, on)| on.then_some(value)).collect(),
        };
        Ok(Filters(filters.into_iter().map(|(name, values)| (name, list(values))).collect()))
    }

    /// Whether a filter is absent or one of its values matches.
    fn any(&self, name: &str, matches: impl Fn(&str) -> bool) -> bool {
        self.0.get(name).is_none_or(|values| values.iter().any(|value| matches(value)))
    }

    /// Whether all labels that are asked for, `key` or `key=value`, are there.
    fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let wanted = self.0.get("label").map(Vec::as_slice).unwrap_or_default();
        wanted.iter().all(|label| match label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(label),
        })
    }

    /// The filters that networks have.
    pub(super) const NETWORK: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

    /// Whether a network (as `inspect` shows it) passes.
    pub(super) fn pass_network(&self, network: &Network) -> bool {
        let used = network.containers.as_ref().is_some_and(|endpoints| !endpoints.is_empty());
        let builtin = Model::PREDEFINED.contains(&network.name.as_str());
        self.any("driver", |driver| network.driver == driver)
            && self.any("id", |id| network.id.contains(id))
            && self.any("name", |name| network.name.contains(name))
            && self.any("scope", |scope| network.scope == scope)
            && self.any("type", |kind| kind == if builtin { "builtin" } else { "custom" })
            && self.any("dangling", |dangling| super::query::truth(dangling) != (used || builtin))
            && self.labels(&network.labels)
    }

    /// The filters that containers have.
    pub(super) const CONTAINER: [&str; 5] = ["id", "label", "name", "network", "status"];

    /// Whether the list is to hold containers of every state, as a filter by state means.
    pub(super) fn every_state(&self) -> bool {
        self.0.contains_key("status")
    }

    /// Whether a container passes.
    pub(super) fn pass_container(&self, container: &ContainerSummary) -> bool {
        let name = container.names.first().map(String::as_str).unwrap_or_default();
        let networks = &container.network_settings.networks;
        self.any("id", |id| container.id.starts_with(id))
            && self.any("name", |part| name.contains(part))
            && self.any("status", |state| container.state == state)
            && self.any("network", |wanted| {
                networks.iter().any(|(name, endpoint)| name == wanted || endpoint.network_id == wanted)
            })
            && self.labels(&container.labels)
    }
}

#[cfg(test)]
mod tests {
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
        ] {
            assert!(filters(pass).pass_network(&front), "{pass}");
        }
        for fail in [
            r#"{"name":["back"]}"#,
            r#"{"name":{"front":false}}"#,
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
    fn what_we_do_not_know_is_refused() {
        for text in ["[]", "nonsense", r#"{"name":1}"#, r#"{"colour":["red"]}"#] {
            assert!(Filters::parse(text, &Filters::NETWORK).is_err(), "{text}");
        }
    }
}
