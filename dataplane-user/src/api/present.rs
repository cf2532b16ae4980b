//! The model's types as Docker shows them.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use jiff::Timestamp;

use super::human;
use super::types::attachment::{AttachedAddress, AttachedResolver, AttachedRoute, Attachment};
use super::types::container::{
    ContainerConfig, ContainerInspect, ContainerSummary, HostConfig, HostConfigSummary, Naming, NetworkSettings,
    NetworkSettingsSummary, Nothing, PortBinding, PortMap, PortSummary, State,
};
use super::types::endpoint::{EndpointIpamConfig, EndpointResource, EndpointSettings};
use super::types::network::{ConfigReference, Ipam, IpamConfig, IpamStatus, Network, Status, SubnetStatus};
use crate::agent::{self, Attached, NetworkView};
use crate::ipam::Usage;
use crate::model;

/// What an absent value looks like: nothing.
fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A network with its endpoints.
pub(super) fn network(view: &NetworkView) -> Network {
    let network = &view.network;
    Network {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: network.created,
        scope: network.scope.as_str().into(),
        driver: network.driver.as_str().into(),
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        ipam: Ipam { driver: "default".into(), options: None, config: network.subnets.iter().map(subnet).collect() },
        internal: network.internal,
        attachable: false,
        ingress: false,
        config_from: ConfigReference::default(),
        config_only: false,
        containers: Some(view.attached.iter().map(|a| (a.container.to_string(), resource(a))).collect()),
        status: (!view.usage.is_empty()).then(|| Status { ipam: ipam_status(&view.usage) }),
        options: network.options.clone(),
        labels: network.labels.clone(),
    }
}

fn ipam_status(usage: &[Usage]) -> IpamStatus {
    let number = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    let subnet = |usage: &Usage| {
        let (ips_in_use, dynamic_ips_available) = (number(usage.in_use), number(usage.available));
        (usage.subnet.to_string(), SubnetStatus { ips_in_use, dynamic_ips_available })
    };
    IpamStatus { subnets: usage.iter().map(subnet).collect() }
}

fn subnet(subnet: &model::Subnet) -> IpamConfig {
    IpamConfig {
        subnet: subnet.subnet.to_string(),
        ip_range: text(subnet.ip_range),
        gateway: text(subnet.gateway),
        auxiliary_addresses: subnet.aux.iter().map(|(name, address)| (name.clone(), address.to_string())).collect(),
    }
}

fn resource(attached: &Attached) -> EndpointResource {
    let endpoint = &attached.endpoint;
    EndpointResource {
        name: attached.name.clone(),
        endpoint_id: endpoint.id.to_string(),
        mac_address: endpoint.mac.to_string(),
        ipv4_address: text(endpoint.ipv4),
        ipv6_address: text(endpoint.ipv6),
    }
}

fn is_predefined(network: &str) -> bool {
    model::Network::PREDEFINED.contains(&network)
}

/// What a container was to have on a network.
fn wishes(requested: &model::EndpointRequest) -> EndpointSettings {
    let given = |names: Vec<String>| Some(names).filter(|names| !names.is_empty());
    EndpointSettings {
        ipam_config: requested.has_address().then(|| EndpointIpamConfig {
            ipv4_address: text(requested.ipv4),
            ipv6_address: text(requested.ipv6),
            link_local_ips: Vec::new(),
        }),
        links: given(requested.links.iter().map(ToString::to_string).collect()),
        aliases: given(requested.aliases.clone()),
        gw_priority: requested.gw_priority,
        driver_opts: Some(requested.bandwidth.to_options()).filter(|options| !options.is_empty()),
        ..Default::default()
    }
}

/// A container's place on a network.
fn settings(container: &model::Container, endpoint: &model::Endpoint) -> EndpointSettings {
    EndpointSettings {
        // The predefined network has no name service.
        dns_names: Some(container.names_on(endpoint)).filter(|_| !is_predefined(&endpoint.network_name)),
        mac_address: endpoint.mac.to_string(),
        network_id: endpoint.network.to_string(),
        endpoint_id: endpoint.id.to_string(),
        gateway: text(endpoint.gateway_v4),
        ip_address: text(endpoint.ipv4.map(|net| net.addr())),
        ip_prefix_len: endpoint.ipv4.map(|net| net.prefix_len()).unwrap_or_default(),
        ipv6_gateway: text(endpoint.gateway_v6),
        global_ipv6_address: text(endpoint.ipv6.map(|net| net.addr())),
        global_ipv6_prefix_len: endpoint.ipv6.map(|net| net.prefix_len()).unwrap_or_default(),
        ..wishes(&endpoint.requested)
    }
}

/// A container's endpoints by network name, or, once it has ended, the networks that it joins at its next start. One on
/// `host` or `none` shows these, and one that shares another's network none, as Docker's does.
fn networks(container: &model::Container) -> BTreeMap<String, EndpointSettings> {
    if container.shares().is_some() {
        return BTreeMap::new();
    }
    if container.endpoints.is_empty() && container.attachments.is_empty() {
        return BTreeMap::from([(container.network_mode.clone(), EndpointSettings::default())]);
    }
    let waiting = container.attachments.iter().map(|attachment| {
        let settings = EndpointSettings { network_id: attachment.network.to_string(), ..wishes(&attachment.requested) };
        (attachment.network_name.clone(), settings)
    });
    let running = container.endpoints.iter();
    let running = running.map(|endpoint| (endpoint.network_name.clone(), settings(container, endpoint)));
    running.chain(waiting).collect()
}

/// A line of `ps`.
pub(super) fn summary(container: &model::Container, now: Timestamp) -> ContainerSummary {
    ContainerSummary {
        id: container.id.to_string(),
        names: vec![format!("/{}", container.name)],
        command: container.command.join(" "),
        created: container.created.as_second(),
        ports: port_summaries(container),
        state: container.state.as_str().into(),
        status: human::status(&container.state, now),
        host_config: HostConfigSummary { network_mode: container.network_mode.clone() },
        network_settings: NetworkSettingsSummary { networks: networks(container) },
        labels: container.labels.clone(),
        ..Default::default()
    }
}

/// The ports that lead to a container now; none once it has ended.
fn in_force(container: &model::Container) -> Vec<model::PublishedPort> {
    match container.is_running() {
        true => container.published().flat_map(|(_, entries)| entries).collect(),
        false => Vec::new(),
    }
}

/// The ports of a running container that are exposed and not published.
fn unpublished(container: &model::Container, published: &[model::PublishedPort]) -> Vec<(u16, model::Protocol)> {
    let published: HashSet<_> = published.iter().map(|port| (port.container_port, port.protocol)).collect();
    said(container).filter(|port| container.is_running() && !published.contains(port)).collect()
}

fn port_summaries(container: &model::Container) -> Vec<PortSummary> {
    let published = in_force(container);
    let exposed = unpublished(container, &published).into_iter().map(|(port, protocol)| PortSummary {
        private_port: port,
        protocol: protocol.to_string(),
        ..Default::default()
    });
    published.iter().map(port_summary).chain(exposed).collect()
}

fn port_summary(port: &model::PublishedPort) -> PortSummary {
    PortSummary {
        ip: port.host.to_string(),
        private_port: port.container_port,
        public_port: port.host_port,
        protocol: port.protocol.to_string(),
    }
}

/// Everything about a container; `sandbox` is the file of its network namespace, `directory` that of
/// its own files.
pub(super) fn inspect(container: &model::Container, sandbox: &Path, directory: &Path) -> ContainerInspect {
    // In a namespace that somebody else made, files are their business.
    let file = |name: &str| match container.sandbox {
        Some(_) => String::new(),
        None => directory.join(name).display().to_string(),
    };
    let mut command = container.command.iter().cloned();
    let published = in_force(container);
    let mut ports = port_map(&published);
    ports
        .extend(unpublished(container, &published).iter().map(|(port, protocol)| (format!("{port}/{protocol}"), None)));
    ContainerInspect {
        id: container.id.to_string(),
        created: Some(container.created),
        path: command.next().unwrap_or_default(),
        args: command.collect(),
        state: state(&container.state),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: file("log"),
        name: format!("/{}", container.name),
        platform: "linux".into(),
        host_config: HostConfig {
            network_mode: container.network_mode.clone(),
            port_bindings: asked_for(&container.ports),
            auto_remove: container.auto_remove,
            naming: naming(&container.naming),
        },
        config: ContainerConfig {
            hostname: container.hostname.clone(),
            exposed_ports: exposed(container),
            env: container.env.clone(),
            cmd: container.command.clone(),
            working_dir: container.working_dir.clone(),
            labels: container.labels.clone(),
            ..Default::default()
        },
        network_settings: NetworkSettings {
            sandbox_id: if container.is_running() { container.id.to_string() } else { String::new() },
            sandbox_key: if container.is_running() { sandbox.display().to_string() } else { String::new() },
            ports,
            networks: networks(container),
        },
        ..Default::default()
    }
}

fn naming(naming: &model::Naming) -> Naming {
    Naming {
        dns: naming.servers.iter().map(ToString::to_string).collect(),
        dns_options: naming.options.clone(),
        dns_search: naming.search.clone(),
        extra_hosts: naming.hosts.iter().map(ToString::to_string).collect(),
    }
}

fn state(state: &model::State) -> State {
    let mut shown = State { status: state.as_str().into(), ..Default::default() };
    match state {
        model::State::Created => {}
        model::State::Running { pid, started, .. } => {
            shown.running = true;
            // Process ids are at most 2^22.
            shown.pid = i32::try_from(*pid).unwrap_or_default();
            shown.started_at = Some(*started);
        }
        model::State::Exited { code, started, finished } => {
            shown.exit_code = *code;
            shown.started_at = Some(*started);
            shown.finished_at = Some(*finished);
        }
    }
    shown
}

fn add(map: &mut PortMap, port: u16, protocol: model::Protocol, host: String, host_port: Option<u16>) {
    let bindings = map.entry(format!("{port}/{protocol}")).or_default();
    bindings.get_or_insert_default().push(PortBinding { host_ip: host, host_port: text(host_port) });
}

/// An attached interface.
pub(super) fn attachment(attachment: &agent::Attachment) -> Attachment {
    let (container, endpoint) = (&attachment.container, &attachment.endpoint);
    let sandbox = container.sandbox.as_ref();
    let (bridge, bridge_mac) = attachment.bridge.clone().unzip();
    let any = |v6| if v6 { "::/0" } else { "0.0.0.0/0" };
    let default = |gateway: &IpAddr| (any(gateway.is_ipv6()).to_owned(), gateway.to_string());
    let routes = attachment.default_routes.iter().map(default);
    let routes = routes.chain(attachment.routes.iter().map(|(net, gateway)| (net.to_string(), gateway.to_string())));
    let address = |(net, gateway): &(IpNet, Option<IpAddr>)| AttachedAddress {
        address: net.to_string(),
        gateway: text(*gateway),
    };
    let resolver = &attachment.resolver;
    Attachment {
        id: sandbox.map(|sandbox| sandbox.key.clone()).unwrap_or_default(),
        container_id: container.id.to_string(),
        name: container.name.clone(),
        netns: sandbox.map(|sandbox| sandbox.netns.display().to_string()).unwrap_or_default(),
        owner: attachment.owner.clone(),
        network: endpoint.network_name.clone(),
        network_id: endpoint.network.to_string(),
        interface: endpoint.interface.clone(),
        mac_address: endpoint.mac.to_string(),
        mtu: attachment.mtu,
        host_interface: endpoint.host_interface.clone(),
        host_mac_address: text(attachment.host_mac),
        bridge: bridge.unwrap_or_default(),
        bridge_mac_address: text(bridge_mac),
        addresses: attachment.addresses.iter().map(address).collect(),
        routes: routes.map(|(destination, gateway)| AttachedRoute { destination, gateway }).collect(),
        dns: AttachedResolver {
            servers: resolver.servers.iter().map(|server| server.address.to_string()).collect(),
            search: resolver.search.clone(),
            options: resolver.options.clone(),
        },
        ports: port_map(&attachment.ports),
        warnings: attachment.warnings.clone(),
    }
}

/// Published ports by container port.
pub(super) fn port_map(ports: &[model::PublishedPort]) -> PortMap {
    let mut map = PortMap::new();
    for port in ports {
        add(&mut map, port.container_port, port.protocol, port.host.to_string(), port.host_port);
    }
    map
}

fn asked_for(bindings: &[model::PortBinding]) -> PortMap {
    let mut map = PortMap::new();
    for binding in bindings {
        let host_port = Some(binding.host_port).filter(|port| *port != 0);
        add(&mut map, binding.container_port, binding.protocol, text(binding.host_ip), host_port);
    }
    map
}

/// The ports that a container says it serves.
pub(super) fn said(container: &model::Container) -> impl Iterator<Item = (u16, model::Protocol)> {
    container.exposed.iter().flat_map(|range| range.ports().map(|port| (port, range.protocol)))
}

/// What `inspect` calls exposed.
fn exposed(container: &model::Container) -> BTreeMap<String, Nothing> {
    container.serves().map(|(port, protocol)| (format!("{port}/{protocol}"), Nothing {})).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Driver, EndpointRequest, GatewayMode, Id, Protocol, Scope};

    fn id(digit: &str) -> Id {
        digit.repeat(64).parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn endpoint() -> model::Endpoint {
        model::Endpoint {
            id: id("e"),
            network: id("a"),
            network_name: "front".into(),
            slot: 1,
            driver: Driver::Bridge,
            internal: false,
            mac: "02:00:00:00:00:02".parse().unwrap(),
            ipv4: Some("10.0.0.2/24".parse().unwrap()),
            ipv6: Some("fd00::2/64".parse().unwrap()),
            gateway_v4: Some("10.0.0.1".parse().unwrap()),
            gateway_v6: Some("fd00::1".parse().unwrap()),
            mode_v4: GatewayMode::Nat,
            mode_v6: GatewayMode::Nat,
            trusts: false,
            interface: "eth0".into(),
            host_interface: "veth1".into(),
            requested: EndpointRequest::parse("10.0.0.2", "", "").unwrap(),
        }
    }

    pub(in crate::api) fn web() -> model::Container {
        model::Container {
            id: id("c"),
            name: "web".into(),
            hostname: "cccccccccccc".into(),
            command: vec!["sh".into(), "-c".into(), "exit 9".into()],
            env: vec!["A=1".into()],
            working_dir: "/srv".into(),
            auto_remove: false,
            created: at(100),
            state: model::State::Running { pid: 42, started: at(101) },
            network_mode: "front".into(),
            endpoints: vec![endpoint()],
            attachments: vec![],
            exposed: vec!["80".parse().unwrap(), "9/udp".parse().unwrap()],
            ports: vec![model::PortBinding {
                host_ip: None,
                host_port: 8080,
                choice: None,
                container_port: 80,
                protocol: Protocol::Tcp,
                slot: 1,
                access: Default::default(),
            }],
            naming: Default::default(),
            labels: BTreeMap::from([("tier".into(), "front".into())]),
            sandbox: None,
        }
    }

    fn written(container: &model::Container) -> Value {
        let inspect = inspect(container, Path::new("/run/netns/web"), Path::new("/run/containers/c"));
        serde_json::to_value(inspect).unwrap()
    }

    #[test]
    fn a_running_container() {
        let shown = written(&web());
        assert_eq!(shown["Name"], "/web");
        assert_eq!((&shown["Path"], &shown["Args"]), (&json!("sh"), &json!(["-c", "exit 9"])));
        assert_eq!((&shown["State"]["Status"], &shown["State"]["Pid"]), (&json!("running"), &json!(42)));
        assert_eq!(shown["HostsPath"], "/run/containers/c/hosts");
        assert_eq!(shown["HostConfig"]["PortBindings"], json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}));
        let network = &shown["NetworkSettings"];
        assert_eq!(network["SandboxKey"], "/run/netns/web");
        assert_eq!(
            network["Ports"],
            json!({
                "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
                "9/udp": null
            })
        );
        assert_eq!(shown["Config"]["ExposedPorts"], json!({"80/tcp": {}, "9/udp": {}}));
        let front = &network["Networks"]["front"];
        assert_eq!(front["IPAMConfig"], json!({"IPv4Address": "10.0.0.2"}));
        assert_eq!((&front["IPAddress"], &front["IPPrefixLen"]), (&json!("10.0.0.2"), &json!(24)));
        assert_eq!((&front["GlobalIPv6Address"], &front["GlobalIPv6PrefixLen"]), (&json!("fd00::2"), &json!(64)));
        assert_eq!((&front["Gateway"], &front["IPv6Gateway"]), (&json!("10.0.0.1"), &json!("fd00::1")));
        assert_eq!(front["MacAddress"], "02:00:00:00:00:02");

        assert_eq!(shown["Config"]["Labels"], json!({"tier": "front"}));

        let line = summary(&web(), at(106));
        assert_eq!(line.labels["tier"], "front");
        assert_eq!((line.command.as_str(), line.status.as_str()), ("sh -c exit 9", "Up 5 seconds"));
        let exposed = PortSummary { private_port: 9, protocol: "udp".into(), ..Default::default() };
        assert_eq!((line.ports.len(), line.ports.last()), (3, Some(&exposed)));
    }

    /// As Docker shows it: there is no host port.
    #[test]
    fn a_port_of_a_routed_network() {
        let mut container = web();
        container.endpoints[0].mode_v4 = GatewayMode::Routed;
        let shown = written(&container);
        assert_eq!(
            shown["NetworkSettings"]["Ports"]["80/tcp"],
            json!([{"HostIp": "0.0.0.0", "HostPort": ""}, {"HostIp": "::", "HostPort": "8080"}])
        );
        let line = summary(&container, at(106));
        assert_eq!((line.ports[0].ip.as_str(), line.ports[0].public_port), ("0.0.0.0", None));
    }

    #[test]
    fn a_container_that_has_ended() {
        let mut container = web();
        container.state = model::State::Exited { code: 9, started: at(101), finished: at(102) };
        container.attachments.extend(container.endpoints.drain(..).map(Into::into));
        let shown = written(&container);
        assert_eq!((&shown["State"]["ExitCode"], &shown["State"]["Pid"]), (&json!(9), &json!(0)));
        assert_eq!(shown["State"]["FinishedAt"], "1970-01-01T00:01:42Z");
        assert_eq!(
            (&shown["NetworkSettings"]["Ports"], &shown["NetworkSettings"]["SandboxKey"]),
            (&json!({}), &json!(""))
        );
        let front = &shown["NetworkSettings"]["Networks"]["front"];
        assert_eq!((&front["IPAddress"], &front["IPAMConfig"]["IPv4Address"]), (&json!(""), &json!("10.0.0.2")));
        assert_eq!(shown["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
    }

    #[test]
    fn a_network_and_who_is_on_it() {
        let view = NetworkView {
            network: model::Network {
                id: id("a"),
                name: "front".into(),
                driver: Driver::Bridge,
                scope: Scope::Local,
                created: at(100),
                internal: true,
                enable_ipv4: true,
                enable_ipv6: false,
                subnets: vec![model::Subnet {
                    subnet: "10.0.0.0/24".parse().unwrap(),
                    ip_range: Some("10.0.0.128/25".parse().unwrap()),
                    gateway: Some("10.0.0.1".parse().unwrap()),
                    aux: BTreeMap::from([("router".into(), "10.0.0.5".parse().unwrap())]),
                }],
                options: BTreeMap::from([("a".into(), "b".into())]),
                macvlan: None,
                engine: None,
                bridge_options: Default::default(),
                labels: BTreeMap::new(),
                bridge: "br-aaaaaaaaaaaa".into(),
                slot: 1,
            },
            attached: vec![Attached { container: id("c"), name: "web".into(), endpoint: endpoint() }],
            usage: vec![Usage { subnet: "10.0.0.0/24".parse().unwrap(), in_use: 4, available: u128::MAX }],
        };
        let shown = serde_json::to_value(network(&view)).unwrap();
        assert_eq!(
            shown["IPAM"],
            json!({"Driver": "default", "Options": null, "Config": [{
                "Subnet": "10.0.0.0/24", "IPRange": "10.0.0.128/25", "Gateway": "10.0.0.1",
                "AuxiliaryAddresses": {"router": "10.0.0.5"}
            }]})
        );
        assert_eq!(
            (&shown["Driver"], &shown["Scope"], &shown["Internal"]),
            (&json!("bridge"), &json!("local"), &json!(true))
        );
        assert_eq!(
            shown["Status"],
            json!({"IPAM": {"Subnets": {"10.0.0.0/24": {"IPsInUse": 4, "DynamicIPsAvailable": u64::MAX}}}})
        );
        assert_eq!(
            shown["Containers"][id("c").to_string()],
            json!({
                "Name": "web", "EndpointID": id("e").to_string(), "MacAddress": "02:00:00:00:00:02",
                "IPv4Address": "10.0.0.2/24", "IPv6Address": "fd00::2/64"
            })
        );
    }
}
