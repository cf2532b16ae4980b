//! From what a user asks for to a container: everything that can be judged without the kernel.

use std::collections::HashSet;
use std::path::PathBuf;

use jiff::Timestamp;

use super::host;
use super::state::Agent;
use crate::kernel::process::ProcessSpec;
use crate::model::{
    Container, Driver, EndpointRequest, Error, ExposedPorts, Id, Network, PortRequest, Result, RunRequest, State,
    check_hostname, check_name, random_name,
};

/// A container that can be made.
#[derive(Debug)]
pub(super) struct Plan {
    /// The container, without endpoints and ports.
    pub(super) container: Container,
    /// Its network, if it gets an endpoint on one.
    pub(super) network: Option<Network>,
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
        let network = self.network(request.network.as_deref().unwrap_or("bridge"))?.clone();
        let hostname = match request.hostname.as_deref() {
            None | Some("") if network.driver == Driver::Host => host::name()?,
            None | Some("") => id.short(),
            Some(hostname) => {
                check_hostname(hostname)?;
                hostname.to_string()
            }
        };
        let exposed = exposed(&request.expose)?;
        let mut ports = ports(request, &exposed)?;
        let process = process(&request.command, &request.env, &request.working_dir, &hostname)?;
        let mut warnings = Vec::new();
        match network.driver {
            Driver::Bridge if network.internal && !ports.is_empty() => {
                warnings.push(format!("published ports are ignored: network {} is internal", network.name));
                ports.clear();
            }
            Driver::Bridge => {}
            Driver::Host | Driver::Null => {
                if request.endpoint != EndpointRequest::default() {
                    return Err(Error::Invalid(format!(
                        "network {} has no addresses and names of its own: leave --ip, --ip6, --mac-address, --network-alias and --link out",
                        network.name
                    )));
                }
                if !ports.is_empty() {
                    warnings.push(format!("published ports are ignored on network {}", network.name));
                    ports.clear();
                }
            }
        }
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
            network_mode: network.name.clone(),
            endpoints: Vec::new(),
            exposed,
            ports: Vec::new(),
            naming: request.naming.clone(),
        };
        let network = Some(network).filter(|network| network.driver == Driver::Bridge);
        Ok(Plan { container, network, ports, process, warnings })
    }

    fn container_name(&self, wanted: Option<&str>) -> Result<String> {
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
