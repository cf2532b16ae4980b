//! From what a user asks for to a container: everything that can be judged without the kernel.

use std::collections::HashSet;
use std::path::PathBuf;

use jiff::Timestamp;

use super::host;
use super::state::Agent;
use crate::kernel::process::ProcessSpec;
use crate::model::{
    Attachment, Container, Driver, EndpointRequest, Error, ExposedPorts, Id, Network, PortBinding, PortRequest, Result,
    RunRequest, SHARED, State, check_hostname, check_name, random_name,
};

/// A container that can be made.
#[derive(Debug)]
pub(super) struct Plan {
    /// The container, without endpoints and ports.
    pub(super) container: Container,
    /// The networks that it joins, in order.
    pub(super) joins: Vec<(Network, EndpointRequest)>,
    /// The ports that are to be published.
    pub(super) ports: Vec<PortRequest>,
    /// How its command is started.
    pub(super) process: ProcessSpec,
    /// Things that were asked for and have no effect.
    pub(super) warnings: Vec<String>,
}

impl Agent {
    /// Judges a request and fills in what it leaves open.
    pub(super) fn plan_container(&self, request: &RunRequest) -> Result<Plan> {
        let id = Id::random();
        let name = self.container_name(request.name.as_deref())?;
        let mode = self.mode(request)?;
        let hostname = match (request.hostname.as_deref().unwrap_or_default(), &mode) {
            ("", Mode::Alone(network)) if network.driver == Driver::Host => host::name()?,
            ("", Mode::Shared(owner)) => owner.hostname.clone(),
            ("", _) => id.short(),
            (hostname, _) => {
                check_hostname(hostname)?;
                hostname.to_string()
            }
        };
        let exposed = exposed(&request.expose)?;
        let mut ports = ports(request, &exposed)?;
        let process = process(&request.command, &request.env, &request.working_dir, &hostname)?;
        let mut warnings = Vec::new();
        let without_ports = match &mode {
            Mode::Alone(network) => Some(format!("published ports are ignored on network {}", network.name)),
            Mode::Joined(joins) => no_way_in(joins).map(|why| format!("published ports are ignored: {why}")),
            Mode::Shared(_) => None,
        };
        if !ports.is_empty() {
            warnings.extend(without_ports.inspect(|_| ports.clear()));
        }
        let (network_mode, joins) = match mode {
            Mode::Alone(network) => (network.name.clone(), Vec::new()),
            Mode::Shared(owner) => (format!("{SHARED}{}", owner.id), Vec::new()),
            Mode::Joined(joins) => {
                let first = joins.first().map(|(network, _)| network.name.clone()).unwrap_or_default();
                (first, joins.into_iter().map(|(network, wishes)| (network.clone(), wishes.clone())).collect())
            }
        };
        let container = Container {
            id,
            name,
            hostname,
            command: request.command.clone(),
            env: process.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            working_dir: process.directory.to_string_lossy().into_owned(),
            auto_remove: request.auto_remove,
            created: Timestamp::now(),
            state: State::Created,
            network_mode,
            endpoints: Vec::new(),
            attachments: Vec::new(),
            exposed,
            ports: Vec::new(),
            naming: request.naming.clone(),
            labels: request.labels.clone(),
            sandbox: None,
        };
        Ok(Plan { container, joins, ports, process, warnings })
    }

    /// How a container is to be on the network.
    fn mode<'a>(&'a self, request: &'a RunRequest) -> Result<Mode<'a>> {
        let first = request.network.as_deref().unwrap_or("bridge");
        if let Some(owner) = first.strip_prefix(SHARED) {
            check_shared(request)?;
            return Ok(Mode::Shared(sharable(self.container(owner)?)?));
        }
        let further = request.further.iter().map(|(network, wishes)| (network.as_str(), wishes));
        let mut joins: Vec<(&Network, &EndpointRequest)> = Vec::new();
        for (reference, wishes) in std::iter::once((first, &request.endpoint)).chain(further) {
            if reference.starts_with(SHARED) {
                return Err(not_alone(reference));
            }
            let network = self.network(reference)?;
            if joins.iter().any(|(other, _)| other.id == network.id) {
                return Err(Error::Invalid(format!("network {:?} is specified multiple times", network.name)));
            }
            joins.push((network, wishes));
        }
        let alone = joins.iter().find(|(network, _)| !network.driver.is_joined());
        match alone {
            None => Ok(Mode::Joined(joins)),
            Some((network, _)) if joins.len() > 1 => Err(not_alone(&network.name)),
            Some((network, wishes)) if **wishes != EndpointRequest::default() => Err(Error::Invalid(format!(
                "network {} has no addresses and names of its own: leave --ip, --ip6, --mac-address, --network-alias, --link and gw-priority out",
                network.name
            ))),
            Some((network, _)) => Ok(Mode::Alone(network)),
        }
    }

    /// What a container that has ended is to be at its next start.
    pub(super) fn plan_start(&self, old: &Container) -> Result<Plan> {
        if old.is_running() {
            return Err(Error::Conflict(format!("container {} is already running", old.name)));
        }
        let mut joins = Vec::new();
        for Attachment { network, network_name, requested } in &old.attachments {
            let known = self.networks.get(network);
            let found = known.or_else(|| self.networks.values().find(|other| other.name == *network_name));
            let found = found.ok_or_else(|| {
                Error::NotFound(format!(
                    "network {network_name} not found: container {name} was on it, create it anew or take the container off it with `spandrel network disconnect {network_name} {name}`",
                    name = old.name
                ))
            })?;
            joins.push((found.clone(), requested.clone()));
        }
        let mut hostname = old.hostname.clone();
        if let Some(owner) = old.shares() {
            let gone = || {
                let (owner, name) = (owner.short(), &old.name);
                Error::NotFound(format!("No such container: {owner}, whose network container {name} shares"))
            };
            hostname.clone_from(&sharable(self.containers.get(&owner).ok_or_else(gone)?)?.hostname);
        }
        let process = process(&old.command, &old.env, &old.working_dir, &hostname)?;
        let container =
            Container { hostname, endpoints: Vec::new(), attachments: Vec::new(), ports: Vec::new(), ..old.clone() };
        let ports = old.ports.iter().map(PortBinding::request).collect();
        Ok(Plan { container, joins, ports, process, warnings: Vec::new() })
    }

    pub(super) fn container_name(&self, wanted: Option<&str>) -> Result<String> {
        let owner = |name: &str| self.containers.values().find(|container| container.name == name);
        match wanted {
            Some(name) => {
                check_name("container", name)?;
                match owner(name) {
                    None => Ok(name.to_string()),
                    Some(other) => Err(Error::Conflict(format!(
                        "Conflict. The container name {name:?} is already in use by container {}. You have to remove that container to be able to reuse that name",
                        other.id
                    ))),
                }
            }
            None => loop {
                let name = random_name();
                if owner(&name).is_none() {
                    return Ok(name);
                }
            },
        }
    }
}

/// How a container is on the network.
enum Mode<'a> {
    /// With endpoints on these networks.
    Joined(Vec<(&'a Network, &'a EndpointRequest)>),
    /// On `host` or `none`.
    Alone(&'a Network),
    /// In the network namespace of another container.
    Shared(&'a Container),
}

/// A container whose network can be shared now.
fn sharable(owner: &Container) -> Result<&Container> {
    match owner.is_running() {
        true if owner.sandbox.is_some() => Err(Error::Forbidden(format!(
            "cannot join network of container {}: somebody else made its network namespace",
            owner.name
        ))),
        true => Ok(owner),
        false => Err(Error::Conflict(format!("cannot join network of a non running container: {}", owner.name))),
    }
}

fn not_alone(mode: &str) -> Error {
    Error::Invalid(format!("conflicting options: network mode {mode} cannot be combined with other networks"))
}

/// What a container that shares another's network cannot have, in Docker's words.
fn check_shared(request: &RunRequest) -> Result<()> {
    let conflicts = [
        ("hostname", request.hostname.as_deref().is_some_and(|name| !name.is_empty())),
        ("port publishing", !request.publish.specs.is_empty() || request.publish_all),
        ("port exposing", !request.expose.is_empty()),
        ("mac-address", request.endpoint.mac.is_some()),
        ("IP address", request.endpoint.has_address()),
        ("links", !request.endpoint.links.is_empty()),
        ("network aliases", !request.endpoint.aliases.is_empty()),
        ("dns", request.naming.has_resolver()),
        ("custom host-to-IP mapping", !request.naming.hosts.is_empty()),
        ("other networks", !request.further.is_empty()),
        ("what else is asked for of a network", request.endpoint != EndpointRequest::default()),
    ];
    match conflicts.iter().find(|(_, asked)| *asked) {
        Some((what, _)) => {
            Err(Error::Invalid(format!("conflicting options: {what} and the container type network mode")))
        }
        None => Ok(()),
    }
}

/// Why nothing can be published on any of the networks, if so.
fn no_way_in(joins: &[(&Network, &EndpointRequest)]) -> Option<String> {
    let why = joins.iter().map(|(network, _)| match network.driver {
        Driver::Macvlan => {
            Some(format!("network {} is a macvlan network, which has none of the host's ports", network.name))
        }
        _ => network.internal.then(|| format!("network {} is internal", network.name)),
    });
    why.collect::<Option<Vec<_>>>().map(|why| why.join(", "))
}

/// The ports that `--expose` names, in order.
fn exposed(specs: &[String]) -> Result<Vec<ExposedPorts>> {
    let mut exposed: Vec<ExposedPorts> = specs.iter().map(|spec| spec.parse()).collect::<Result<_>>()?;
    exposed.sort();
    exposed.dedup();
    Ok(exposed)
}

/// The ports that `-p` names and, with `-P`, the exposed ones that no `-p` names.
fn ports(request: &RunRequest, exposed: &[ExposedPorts]) -> Result<Vec<PortRequest>> {
    let mut ports = request.publish.requests()?;
    let access = request.publish.access()?;
    if request.publish_all {
        let mut named: HashSet<_> = ports.iter().map(|port| (port.container_port, port.protocol)).collect();
        let all = exposed.iter().flat_map(|range| range.requests(&access));
        ports.extend(all.filter(|port| named.insert((port.container_port, port.protocol))));
    } else if ports.is_empty() && !access.is_empty() {
        return Err(Error::Invalid("--allow-from and --rate-limit are for published ports: give one with -p".into()));
    }
    Ok(ports)
}

/// How a command is started in a container: environment with HOSTNAME, later entries winning.
pub(super) fn process(command: &[String], env: &[String], directory: &str, hostname: &str) -> Result<ProcessSpec> {
    if command.first().is_none_or(|program| program.is_empty()) {
        return Err(Error::Invalid("no command specified".into()));
    }
    let nul = |text: &String| text.contains('\0');
    if command.iter().any(nul) || env.iter().any(nul) || directory.contains('\0') {
        return Err(Error::Invalid("command, environment and working directory cannot hold NUL characters".into()));
    }
    if !directory.is_empty() && !directory.starts_with('/') {
        return Err(Error::Invalid(format!(
            "the working directory '{directory}' is invalid, it needs to be an absolute path"
        )));
    }
    let mut variables = vec![("HOSTNAME".to_string(), hostname.to_string())];
    for entry in env {
        let (name, value) = entry.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Error::Invalid(format!("invalid environment variable: {entry:?}, NAME=VALUE is expected"))
        })?;
        variables.retain(|(other, _)| other != name);
        variables.push((name.to_string(), value.to_string()));
    }
    let directory = PathBuf::from(if directory.is_empty() { "/" } else { directory });
    Ok(ProcessSpec { argv: command.to_vec(), env: variables, directory })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn all_exposed_ports_but_those_that_are_published() {
        let numbers = |expose: &[&str], publish: &[&str], publish_all| {
            let mut request = RunRequest { publish_all, ..RunRequest::default() };
            request.publish.specs = strings(publish);
            let exposed = exposed(&strings(expose)).unwrap();
            let ports = ports(&request, &exposed).unwrap();
            ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&["80", "53/udp"], &[], false), [""; 0]);
        assert_eq!(numbers(&["80", "53/udp", "80/tcp"], &[], true), ["53/udp", "80/tcp"]);
        assert_eq!(numbers(&["80-82", "81-83"], &["8080:80"], true), ["80/tcp", "81/tcp", "82/tcp", "83/tcp"]);
        assert_eq!(numbers(&["80/udp"], &["80"], true), ["80/tcp", "80/udp"]);
    }

    #[test]
    fn limits_are_for_published_ports() {
        let mut request = RunRequest::default();
        request.publish.allow_from = strings(&["10.0.0.0/8"]);
        assert!(ports(&request, &[]).unwrap_err().to_string().contains("give one with -p"));
        request.publish_all = true;
        let port = ports(&request, &["80".parse().unwrap()]).unwrap().remove(0);
        assert_eq!(port.access, request.publish.access().unwrap());
    }

    #[test]
    fn environment() {
        let process = |env: &[&str]| process(&strings(&["true"]), &strings(env), "", "web").map(|process| process.env);
        let pairs = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        assert_eq!(process(&[]).unwrap(), pairs(&[("HOSTNAME", "web")]));
        assert_eq!(process(&["A=1", "B=", "A=2=3"]).unwrap(), pairs(&[("HOSTNAME", "web"), ("B", ""), ("A", "2=3")]));
        assert_eq!(process(&["HOSTNAME=other"]).unwrap(), pairs(&[("HOSTNAME", "other")]));
        for wrong in ["A", "=1", "A=\0"] {
            assert!(process(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn command_and_directory() {
        assert!(process(&[], &[], "", "h").unwrap_err().to_string().contains("no command"));
        assert!(process(&strings(&[""]), &[], "", "h").is_err());
        assert_eq!(process(&strings(&["a"]), &[], "", "h").unwrap().directory, PathBuf::from("/"));
        assert!(process(&strings(&["a"]), &[], "x/y", "h").unwrap_err().to_string().contains("absolute path"));
    }
}
