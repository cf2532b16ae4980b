//! What a file means: requests that the agent will be asked, checked as far as that can be done before anything is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Map, Value};

use super::file::{self, File};
use crate::api::types::container::{ContainerConfig, Naming};
use crate::api::types::endpoint::{EndpointIpamConfig, EndpointSettings};
use crate::api::types::network::{CreateRequest, Ipam, IpamConfig};
use crate::api::types::spandrel::{Join, RunRequest};
use crate::ipam::{Surroundings, Wish, plan_subnets};
use crate::model::{self, EndpointRequest, HostPort, PortRequest, PortSpec, check_name};

/// The label that tells whose an object is.
pub(super) const PROJECT: &str = "spandrel.project";
/// The label that holds what the file said of it, but for what can be changed without making it anew.
pub(super) const DEFINITION: &str = "spandrel.definition";

/// A container's variables where the file does not say otherwise.
const PATH: (&str, &str) = ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

/// All that is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The project's name.
    pub(super) project: String,
    /// Networks by name.
    pub(super) networks: BTreeMap<String, Network>,
    /// Containers by name.
    pub(super) containers: BTreeMap<String, Container>,
}

/// A network that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// The request that makes it.
    pub(super) request: CreateRequest,
    /// What the file says of it.
    pub(super) definition: String,
}

/// A container that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Container {
    /// The request that makes it, without networks and ports.
    pub(super) request: RunRequest,
    /// What the file says of that.
    pub(super) definition: String,
    /// What it wishes on which network.
    pub(super) joins: BTreeMap<String, EndpointRequest>,
    /// The ports that it publishes.
    pub(super) ports: Vec<PortSpec>,
}

impl Container {
    /// The request that makes it, with everything.
    pub(super) fn whole_request(&self) -> RunRequest {
        let mut request = self.request.clone();
        let mut joins = self.joins.iter();
        if let Some((network, endpoint)) = joins.next() {
            (request.network, request.endpoint) = (network.clone(), settings(endpoint));
        }
        request.further =
            joins.map(|(network, endpoint)| Join { network: network.clone(), endpoint: settings(endpoint) }).collect();
        request.publish.publish = self.ports.iter().map(ToString::to_string).collect();
        request
    }
}

/// What a container wishes on a network, as the API takes it.
pub(super) fn settings(wishes: &EndpointRequest) -> EndpointSettings {
    fn text(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: text(wishes.ipv4),
            ipv6_address: text(wishes.ipv6),
            link_local_ips: Vec::new(),
        }),
        mac_address: text(wishes.mac),
        aliases: Some(wishes.aliases.clone()),
        gw_priority: wishes.gw_priority,
        ..Default::default()
    }
}

/// Checks a file; a refusal says where in it.
pub(super) fn wanted(file: File) -> Result<Wanted, String> {
    check_name("project", &file.name).map_err(|error| format!("name: {error}"))?;
    let mut wanted = Wanted { project: file.name, networks: BTreeMap::new(), containers: BTreeMap::new() };
    let mut surroundings = Surroundings::default();
    for (name, section) in file.networks {
        let network = network(&wanted.project, &name, section.unwrap_or_default(), &mut surroundings);
        let network = network.map_err(|why| format!("networks.{name}: {why}"))?;
        wanted.networks.insert(name, network);
    }
    for (name, section) in file.containers {
        let container =
            container(&wanted.project, &name, section).map_err(|why| format!("containers.{name}: {why}"))?;
        for (network, endpoint) in &container.joins {
            check_addresses(&wanted, network, endpoint)
                .map_err(|why| format!("containers.{name}.networks.{network}: {why}"))?;
        }
        if let Some((other, port)) = clash(&wanted, &container) {
            return Err(format!("containers.{name}.ports: host port {port} is published by container {other} already"));
        }
        wanted.containers.insert(name, container);
    }
    Ok(wanted)
}

/// The label's text: what is said, and nothing of what is left out.
fn definition(section: &impl Serialize, without: &[&str]) -> String {
    let said = match serde_json::to_value(section) {
        Ok(Value::Object(said)) => said,
        _ => Map::new(),
    };
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let kept = said.into_iter().filter(|(key, value)| !without.contains(&key.as_str()) && !empty(value));
    Value::Object(kept.collect()).to_string()
}

fn labels(project: &str, definition: &str, own: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    if let Some(key) = [PROJECT, DEFINITION].iter().find(|key| own.contains_key(**key)) {
        return Err(format!("the label {key} is set by `apply` itself: leave it out"));
    }
    let ours = [(PROJECT.to_owned(), project.to_owned()), (DEFINITION.to_owned(), definition.to_owned())];
    Ok(own.into_iter().chain(ours).collect())
}

fn network(
    project: &str,
    name: &str,
    section: file::Network,
    surroundings: &mut Surroundings,
) -> Result<Network, String> {
    check_name("network", name).map_err(|error| error.to_string())?;
    if model::Network::PREDEFINED.contains(&name) {
        return Err("the network is predefined: containers can join it, and it is not declared".into());
    }
    let definition = definition(&section, &[]);
    let mut options = section.options;
    let docker = |option: &str| format!("com.docker.network.{option}");
    for (option, value) in [
        ("bridge.enable_icc", section.icc.map(|icc| icc.to_string())),
        ("bridge.enable_ip_masquerade", section.masquerade.map(|masquerade| masquerade.to_string())),
        ("bridge.gateway_mode_ipv4", section.gateway_mode_ipv4),
        ("bridge.gateway_mode_ipv6", section.gateway_mode_ipv6),
        ("driver.mtu", section.mtu.map(|mtu| mtu.to_string())),
    ] {
        if let Some(value) = value
            && options.insert(docker(option), value).is_some()
        {
            return Err(format!("{} is said twice, by its own name and among the options", docker(option)));
        }
    }
    let parsed = section.subnets.iter().map(|subnet| subnet.subnet.parse::<IpNet>().ok());
    let parsed: Vec<_> = parsed.collect();
    let v6 = parsed.iter().flatten().any(|net| net.addr().is_ipv6());
    let config = section.subnets.into_iter().map(|subnet| IpamConfig {
        subnet: subnet.subnet,
        ip_range: subnet.ip_range.unwrap_or_default(),
        gateway: subnet.gateway.unwrap_or_default(),
        auxiliary_addresses: subnet.aux_addresses,
    });
    let request = CreateRequest {
        name: name.to_owned(),
        driver: section.driver.unwrap_or_else(|| "bridge".into()),
        internal: section.internal.unwrap_or_default(),
        ipam: Some(Ipam { driver: "default".into(), options: None, config: config.collect() }),
        enable_ipv4: section.ipv4,
        enable_ipv6: section.ipv6.or(v6.then_some(true)),
        options,
        labels: labels(project, &definition, section.labels)?,
        ..Default::default()
    };
    check_network(&request, &parsed, surroundings).map_err(|error| error.to_string())?;
    Ok(Network { request, definition })
}

/// What the agent would refuse for what stands in the file alone.
fn check_network(request: &CreateRequest, nets: &[Option<IpNet>], others: &mut Surroundings) -> model::Result<()> {
    let checked = model::NetworkCreate::try_from(request.clone())?;
    match checked.driver.as_str() {
        "bridge" => _ = model::BridgeOptions::parse(&checked.options)?,
        "macvlan" => _ = model::MacvlanOptions::parse(&checked.options)?,
        other => {
            return Err(model::Error::Invalid(format!("unknown driver {other:?}: bridge and macvlan are there")));
        }
    }
    // A subnet of which only the size is given is chosen by the agent.
    let fixed = nets.iter().all(|net| net.is_none_or(|net| !net.addr().is_unspecified()));
    if !nets.is_empty() && fixed {
        let has = |v6: bool| nets.iter().flatten().any(|net| net.addr().is_ipv6() == v6);
        let wish = |v6: bool| match has(v6) || nets.contains(&None) {
            true => Wish::Subnet { gateway: true },
            false => Wish::Nothing,
        };
        let plan = plan_subnets(&checked.ipam, wish(false), wish(true), others, &[])?;
        others.networks.extend(plan.subnets.into_iter().map(|subnet| (subnet.subnet, request.name.clone())));
    }
    Ok(())
}

fn container(project: &str, name: &str, section: file::Container) -> Result<Container, String> {
    let text = |error: model::Error| error.to_string();
    check_name("container", name).map_err(text)?;
    if section.command.first().is_none_or(String::is_empty) {
        return Err("command: a command is wanted, such as [\"sleep\", \"infinity\"]".into());
    }
    if let Some(variable) = section.environment.keys().find(|name| name.is_empty() || name.contains('=')) {
        return Err(format!("environment: {variable:?} is no name of a variable"));
    }
    for ports in &section.expose {
        let _: model::ExposedPorts = ports.parse().map_err(|error| format!("expose: {error}"))?;
    }
    if let Some(hostname) = &section.hostname {
        model::check_hostname(hostname).map_err(text)?;
    }
    let definition = definition(&section, &["networks", "ports", "allow-from", "rate-limit"]);
    model::Naming::parse(&section.dns, &section.dns_search, &section.dns_options, &section.add_hosts).map_err(text)?;
    let ports = ports(&section).map_err(|why| format!("ports: {why}"))?;
    let mut joins = BTreeMap::new();
    for (network, wishes) in &section.networks {
        let endpoint = EndpointRequest::parse(&wishes.ip, &wishes.ip6, &wishes.mac_address)
            .and_then(|endpoint| endpoint.with_names(&wishes.aliases, &[]))
            .map_err(|error| format!("networks.{network}: {error}"))?;
        joins.insert(network.clone(), EndpointRequest { gw_priority: wishes.gw_priority, ..endpoint });
    }
    if joins.is_empty() {
        joins.insert("bridge".into(), EndpointRequest::default());
    }
    let alone = joins.keys().find(|name| matches!(name.as_str(), "host" | "none") || name.starts_with(model::SHARED));
    if let Some(mode) = alone.filter(|_| joins.len() > 1) {
        return Err(format!("networks: who is on {mode} is on no other network"));
    }
    let mut environment = BTreeMap::from([(PATH.0.to_owned(), PATH.1.to_owned())]);
    environment.extend(section.environment);
    let config = ContainerConfig {
        hostname: section.hostname.unwrap_or_default(),
        env: environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        cmd: section.command,
        working_dir: section.working_dir.unwrap_or_else(|| "/".into()),
        labels: labels(project, &definition, section.labels)?,
        ..Default::default()
    };
    let request = RunRequest {
        name: name.to_owned(),
        config,
        expose: section.expose,
        naming: Naming {
            dns: section.dns,
            dns_search: section.dns_search,
            dns_options: section.dns_options,
            extra_hosts: section.add_hosts,
        },
        ..Default::default()
    };
    model::RunRequest::try_from(request.clone()).map_err(text)?;
    Ok(Container { request, definition, joins, ports })
}

/// The ports, each with all that is said of who may use it.
fn ports(section: &file::Container) -> Result<Vec<PortSpec>, String> {
    let access = |clients: &[String], rate: &Option<String>| {
        model::PublishRequest { specs: Vec::new(), allow_from: clients.to_vec(), rate_limit: rate.clone() }.access()
    };
    let common = access(&section.allow_from, &section.rate_limit).map_err(|error| error.to_string())?;
    let mut ports = Vec::new();
    for port in &section.ports {
        let mut spec: PortSpec = port.port.parse().map_err(|error: model::Error| error.to_string())?;
        let own = access(&port.allow_from, &port.rate_limit).map_err(|error| format!("{}: {error}", port.port))?;
        spec.access.allow_from = spec.access.allow_from.or(own.allow_from).or_else(|| common.allow_from.clone());
        spec.access.rate = spec.access.rate.or(own.rate).or(common.rate);
        ports.push(spec);
    }
    Ok(ports)
}

/// A network has to be declared or predefined here; addresses have to lie in its subnets, and be one container's.
fn check_addresses(wanted: &Wanted, network: &str, endpoint: &EndpointRequest) -> Result<(), String> {
    let given: Vec<IpAddr> = endpoint.ipv4.map(IpAddr::V4).into_iter().chain(endpoint.ipv6.map(IpAddr::V6)).collect();
    if let Some(declared) = wanted.networks.get(network) {
        let configs = declared.request.ipam.iter().flat_map(|ipam| &ipam.config);
        let nets: Vec<IpNet> = configs.filter_map(|config| config.subnet.parse().ok()).collect();
        for address in &given {
            let mut family = nets.iter().filter(|net| net.addr().is_ipv6() == address.is_ipv6()).peekable();
            if family.peek().is_some_and(|net| !net.addr().is_unspecified()) && !family.any(|net| net.contains(address))
            {
                return Err(format!("{address} lies in no subnet of the network"));
            }
        }
    }
    for (name, other) in &wanted.containers {
        let Some(theirs) = other.joins.get(network) else { continue };
        let theirs: Vec<_> = theirs.ipv4.map(IpAddr::V4).into_iter().chain(theirs.ipv6.map(IpAddr::V6)).collect();
        if let Some(address) = given.iter().find(|address| theirs.contains(address)) {
            return Err(format!("{address} is container {name}'s already"));
        }
    }
    Ok(())
}

/// A fixed host port that another container has, too.
fn clash(wanted: &Wanted, container: &Container) -> Option<(String, u16)> {
    let fixed = |container: &Container| -> Vec<(u16, PortRequest)> {
        let requests = container.ports.iter().flat_map(PortSpec::requests);
        let fixed = requests.filter_map(|request| match request.host_port {
            HostPort::Fixed(port) => Some((port, request)),
            HostPort::Any | HostPort::Range(..) => None,
        });
        fixed.collect()
    };
    let ours = fixed(container);
    let same = |(port, a): &(u16, PortRequest), (other, b): &(u16, PortRequest)| {
        let place = a.host_ip.is_none() || b.host_ip.is_none() || a.host_ip == b.host_ip;
        port == other && a.protocol == b.protocol && place
    };
    wanted.containers.iter().find_map(|(name, other)| {
        let theirs = fixed(other);
        let (port, _) = ours.iter().find(|port| theirs.iter().any(|other| same(port, other)))?;
        Some((name.clone(), *port))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a text in TOML means.
    pub(in crate::cli::apply) fn read(text: &str) -> Result<Wanted, String> {
        wanted(toml::from_str(&format!("name = \"shop\"\n{text}")).unwrap())
    }

    #[test]
    fn words_become_requests() {
        let wanted = read(
            r#"
            [networks.front]
            subnets = ["10.0.0.0/24", "fd00:a::/64"]
            icc = false
            mtu = 1400
            [containers.web]
            command = ["sleep", "60"]
            networks = { front = { ip = "10.0.0.9", aliases = ["www"] }, bridge = { gw-priority = 2 } }
            allow-from = ["10.0.0.0/8"]
            ports = ["8080:80", { port = "8443:443", allow-from = ["0.0.0.0/0", "::/0"], rate-limit = "9" }]
            environment = { LANG = "C" }
            labels = { tier = "front" }
            "#,
        )
        .unwrap();
        let front = &wanted.networks["front"].request;
        assert_eq!(front.options["com.docker.network.bridge.enable_icc"], "false");
        assert_eq!(front.options["com.docker.network.driver.mtu"], "1400");
        assert_eq!((front.enable_ipv6, front.labels[PROJECT].as_str()), (Some(true), "shop"));
        let web = wanted.containers["web"].whole_request();
        assert_eq!((web.network.as_str(), web.further[0].network.as_str()), ("bridge", "front"));
        assert_eq!(web.endpoint.gw_priority, 2);
        assert_eq!(web.publish.publish[0], "published=8080,target=80,protocol=tcp,allow-from=10.0.0.0/8");
        assert!(web.publish.publish[1].ends_with("allow-from=0.0.0.0/0,allow-from=::/0,rate-limit=9"));
        assert_eq!((web.config.env[0].as_str(), web.config.working_dir.as_str()), ("LANG=C", "/"));
        assert_eq!(web.config.labels["tier"], "front");
        // What can be changed in place is no part of what the container was made by.
        assert_eq!(
            web.config.labels[DEFINITION],
            r#"{"command":["sleep","60"],"environment":{"LANG":"C"},"labels":{"tier":"front"}}"#
        );
    }

    #[test]
    fn refusals_say_where_and_why() {
        let two = "[containers.a]\ncommand = [\"x\"]\nports = [\"80:80\"]\n[containers.b]\ncommand = [\"x\"]\n";
        for (text, words) in [
            ("[networks.\"a/b\"]", ["networks.a/b", "Invalid network name"]),
            ("[networks.bridge]", ["networks.bridge", "predefined"]),
            ("[networks.a]\ndriver = \"overlap\"", ["networks.a", "bridge and macvlan"]),
            ("[networks.a]\nsubnets = [\"nonsense\"]", ["networks.a", "nonsense"]),
            ("[networks.a]\nsubnets = [\"10.0.0.7/24\"]", ["networks.a", "10.0.0.0/24"]),
            (
                "[networks.a]\nsubnets = [{ subnet = \"10.0.0.0/24\", gateway = \"10.1.0.1\" }]",
                ["networks.a", "10.1.0.1"],
            ),
            (
                "[networks.a]\nsubnets = [\"10.0.0.0/24\"]\n[networks.b]\nsubnets = [\"10.0.0.0/16\"]",
                ["networks.b", "overlaps"],
            ),
            ("[networks.a]\ngateway-mode-ipv4 = \"open\"", ["networks.a", "open"]),
            ("[networks.a]\nmtu = 12", ["networks.a", "mtu"]),
            (
                "[networks.a]\nicc = true\noptions = { \"com.docker.network.bridge.enable_icc\" = \"no\" }",
                ["networks.a", "twice"],
            ),
            ("[networks.a]\nlabels = { \"spandrel.project\" = \"x\" }", ["networks.a", "leave it out"]),
            ("[containers.a]\ncommand = []", ["containers.a", "command"]),
            ("[containers.\"a b\"]\ncommand = [\"x\"]", ["containers.a b", "Invalid container name"]),
            ("[containers.a]\ncommand = [\"x\"]\nports = [\"a:b\"]", ["containers.a: ports", "a:b"]),
            ("[containers.a]\ncommand = [\"x\"]\nports = [{ port = \"80\", rate-limit = \"fast\" }]", ["80", "fast"]),
            ("[containers.a]\ncommand = [\"x\"]\nallow-from = [\"all\"]\nports = [\"80\"]", ["allow-from", "all"]),
            ("[containers.a]\ncommand = [\"x\"]\nnetworks.n = { ip = \"ten\" }", ["networks.n", "ten"]),
            ("[containers.a]\ncommand = [\"x\"]\nnetworks = [\"host\", \"n\"]", ["networks", "host"]),
            ("[containers.a]\ncommand = [\"x\"]\ndns = [\"here\"]", ["containers.a", "here"]),
            ("[containers.a]\ncommand = [\"x\"]\nenvironment = { \"A=B\" = \"\" }", ["environment", "A=B"]),
            (&format!("{two}ports = [\"127.0.0.1:80:81\"]"), ["containers.b.ports", "container a"]),
            (
                "[networks.n]\nsubnets = [\"10.0.0.0/24\"]\n[containers.a]\ncommand = [\"x\"]\nnetworks.n = { ip = \"10.1.0.9\" }",
                ["containers.a.networks.n", "10.1.0.9"],
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{text}: {error}");
        }
        for (text, word) in [("expose = [\"http\"]", "http"), ("hostname = \"a_b/c\"", "a_b/c")] {
            let error = read(&format!("[containers.a]\ncommand = [\"x\"]\n{text}")).unwrap_err();
            assert!(error.starts_with("containers.a: ") && error.contains(word), "{error}");
        }
        assert!(read(&format!("{two}ports = [\"80:81/udp\", \"81:81\"]")).is_ok());
    }
}
