//! What is there, as far as a project is concerned: its own objects, and those that have names which it wants.

use std::collections::{BTreeMap, BTreeSet};

use super::wanted::{DEFINITION, PROJECT, Wanted};
use crate::api::types::container::{ContainerInspect, ContainerSummary};
use crate::api::types::endpoint::EndpointSettings;
use crate::api::types::network::Network as Listed;
use crate::api::types::spandrel::PortStats;
use crate::cli::client::{Client, segment};
use crate::cli::error::Error;

/// Whose an object is, and by what definition it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The project; none if it was made by hand.
    pub(super) project: Option<String>,
    /// What the file said of it then.
    pub(super) definition: String,
}

impl Origin {
    fn of(labels: &BTreeMap<String, String>) -> Self {
        Origin {
            project: labels.get(PROJECT).cloned(),
            definition: labels.get(DEFINITION).cloned().unwrap_or_default(),
        }
    }
}

/// A network that is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    /// Whose it is.
    pub(super) origin: Origin,
    /// The names of the containers on it.
    pub(super) members: BTreeSet<String>,
}

/// A container that is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Container {
    /// Whose it is.
    pub(super) origin: Origin,
    /// Whether its command runs.
    pub(super) running: bool,
    /// Its networks, with what it wished there.
    pub(super) joins: BTreeMap<String, EndpointSettings>,
    /// Its published ports.
    pub(super) ports: Vec<Port>,
}

/// A published port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Port {
    /// The host's address; empty for all.
    pub(super) host_ip: String,
    /// The host's port; none if none was needed.
    pub(super) host_port: Option<u16>,
    /// The container's port and protocol, such as `80/tcp`.
    pub(super) private: String,
    /// Clients that may use it, and how fast; unknown while the container does not run.
    pub(super) access: Option<(Vec<String>, u32)>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Networks by name: all that there are.
    pub(super) networks: BTreeMap<String, Network>,
    /// Containers by name: the project's own ones, and those with names that it wants.
    pub(super) containers: BTreeMap<String, Container>,
}

/// Asks the agent.
pub(super) async fn look(client: &Client, wanted: &Wanted) -> Result<Found, Error> {
    let mut found = Found::default();
    let networks: Vec<Listed> = client.get("/networks").await?;
    for listed in networks {
        let network = Network { origin: Origin::of(&listed.labels), members: BTreeSet::new() };
        found.networks.insert(listed.name, network);
    }
    let containers: Vec<ContainerSummary> = client.get("/containers/json?all=1").await?;
    for listed in containers {
        let name = listed.names.first().map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default();
        for network in listed.network_settings.networks.keys() {
            if let Some(network) = found.networks.get_mut(network) {
                network.members.insert(name.clone());
            }
        }
        let origin = Origin::of(&listed.labels);
        if origin.project.as_ref() == Some(&wanted.project) || wanted.containers.contains_key(&name) {
            let container = container(client, &listed, origin).await?;
            found.containers.insert(name, container);
        }
    }
    Ok(found)
}

async fn container(client: &Client, listed: &ContainerSummary, origin: Origin) -> Result<Container, Error> {
    let id = segment(&listed.id);
    let details: ContainerInspect = client.get(&format!("/containers/{id}/json")).await?;
    let stats: Vec<PortStats> = match details.state.running {
        true => client.get(&format!("/spandrel/ports?container={id}")).await?,
        false => Vec::new(),
    };
    let bindings = details.host_config.port_bindings.iter().flat_map(|(private, bindings)| {
        bindings.iter().flatten().map(move |binding| (private, binding.host_ip.clone(), binding.host_port.parse().ok()))
    });
    let port = |(private, host_ip, host_port): (&String, String, Option<u16>)| {
        let of_it = stats.iter().find(|stats| is_of(stats, private, &host_ip, host_port));
        let access = of_it.map(|stats| (stats.allow_from.clone(), stats.rate_limit));
        Port { host_ip, host_port, private: private.clone(), access }
    };
    Ok(Container {
        origin,
        running: details.state.running,
        ports: bindings.map(port).collect(),
        joins: details.network_settings.networks,
    })
}

/// Whether counters are those of a port.
fn is_of(stats: &PortStats, private: &str, host_ip: &str, host_port: Option<u16>) -> bool {
    let matches = |published: &String| {
        let (ip, port) = published.rsplit_once(':').unwrap_or((published, ""));
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        let at = if host_ip.is_empty() { matches!(ip, "0.0.0.0" | "::") } else { ip == host_ip };
        at && host_port.is_some_and(|wanted| port == wanted.to_string())
    };
    // On a routed network, the container's own address stands there.
    let somewhere = stats.published.iter().any(matches) || host_port.is_none();
    somewhere && private == format!("{}/{}", stats.private_port, stats.protocol)
}
