//! From what is wanted and what is there to what is to be done. Pure: nothing is asked or changed here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::found::{self, Found};
use super::wanted::{self, Wanted, settings};
use crate::api::types::endpoint::EndpointSettings;
use crate::api::types::network::CreateRequest;
use crate::api::types::spandrel::RunRequest;
use crate::model::{self, EndpointRequest, PortRequest, PortSpec};

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Remove a container, whether it runs or not.
    RemoveContainer(String),
    /// Take back ports, as `unpublish` takes them.
    Unpublish(String, Vec<String>),
    /// Disconnect a container (the first name) from a network.
    Disconnect(String, String),
    /// Remove a network.
    RemoveNetwork(String),
    /// Make a network; whether there was none of that name.
    CreateNetwork(Box<CreateRequest>, bool),
    /// Connect a container (the first name) to a network.
    Connect(String, String, Box<EndpointSettings>),
    /// Make a container; whether there was none of that name.
    CreateContainer(Box<RunRequest>, bool),
    /// Start a container that has ended.
    Start(String),
    /// Publish ports, as `publish` takes them, each with its access.
    Publish(String, Vec<String>),
}

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is made.
    Create,
    /// It is changed.
    Change,
    /// It is removed.
    Remove,
}

/// What happens to one object, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What happens.
    pub(super) mark: Mark,
    /// To whom: `network front`.
    pub(super) object: String,
    /// Why and how, line by line.
    pub(super) details: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// By object.
    pub(super) lines: Vec<Line>,
    /// In the order in which it is done.
    pub(super) steps: Vec<Step>,
}

impl Plan {
    fn note(&mut self, mark: Mark, object: String, details: Vec<String>) {
        self.lines.push(Line { mark, object, details });
    }
}

/// What has to be done so that everything is as it is wanted; a refusal if that cannot be.
pub(super) fn apply(wanted: &Wanted, found: &Found) -> Result<Plan, String> {
    let mut plan = Plan::default();
    check_owners(wanted, found)?;
    let anew = networks(wanted, found, &mut plan)?;
    for (name, container) in &wanted.containers {
        match found.containers.get(name) {
            None => {
                plan.note(Mark::Create, format!("container {name}"), describe(container));
                plan.steps.push(Step::CreateContainer(Box::new(container.whole_request()), true));
            }
            Some(there) => change(name, container, there, &anew, &mut plan),
        }
    }
    remove_others(wanted, found, &mut plan);
    // Places are left before they are taken.
    plan.steps.sort_by_key(|step| match step {
        Step::RemoveContainer(_) => 0,
        Step::Unpublish(..) => 1,
        Step::Disconnect(..) => 2,
        Step::RemoveNetwork(_) => 3,
        Step::CreateNetwork(..) => 4,
        Step::Connect(..) => 5,
        Step::CreateContainer(..) => 6,
        Step::Start(_) => 7,
        Step::Publish(..) => 8,
    });
    Ok(plan)
}

/// What has to be done so that nothing of a project is left.
pub(super) fn down(wanted: &Wanted, found: &Found) -> Plan {
    let nothing = Wanted { project: wanted.project.clone(), networks: BTreeMap::new(), containers: BTreeMap::new() };
    let mut plan = Plan::default();
    remove_others(&nothing, found, &mut plan);
    plan
}

/// What has a name that is wanted has to be the project's.
fn check_owners(wanted: &Wanted, found: &Found) -> Result<(), String> {
    let origins = |name: &String| found.networks.get(name).map(|network| &network.origin);
    let networks = wanted.networks.keys().map(|name| ("network", name, origins(name)));
    let origins = |name: &String| found.containers.get(name).map(|container| &container.origin);
    let containers = wanted.containers.keys().map(|name| ("container", name, origins(name)));
    for (kind, name, origin) in networks.chain(containers) {
        let Some(origin) = origin else { continue };
        match &origin.project {
            Some(project) if *project == wanted.project => {}
            Some(other) => {
                return Err(format!("{kind} {name} belongs to the project {other}: give this one another name"));
            }
            None => {
                return Err(format!(
                    "{kind} {name} exists and was not made by `apply`: remove it, or give this one another name"
                ));
            }
        }
    }
    for (name, container) in &wanted.containers {
        let known = |network: &&String| {
            let declared = wanted.networks.contains_key(*network) || network.starts_with(model::SHARED);
            // One that is about to be removed is no network to join.
            let stays = |there: &found::Network| there.origin.project.as_ref() != Some(&wanted.project);
            declared || found.networks.get(*network).is_some_and(stays)
        };
        if let Some(network) = container.joins.keys().find(|network| !known(network)) {
            return Err(format!("containers.{name}.networks: there is no network {network}, in the file or elsewhere"));
        }
    }
    Ok(())
}

/// Plans the networks, and tells which of them are made anew.
fn networks<'a>(wanted: &'a Wanted, found: &Found, plan: &mut Plan) -> Result<BTreeSet<&'a str>, String> {
    let mut anew = BTreeSet::new();
    for (name, network) in &wanted.networks {
        let create = |fresh| Step::CreateNetwork(Box::new(network.request.clone()), fresh);
        match found.networks.get(name) {
            None => {
                let configs = network.request.ipam.iter().flat_map(|ipam| &ipam.config);
                plan.note(
                    Mark::Create,
                    format!("network {name}"),
                    configs.map(|config| config.subnet.clone()).collect(),
                );
                plan.steps.push(create(true));
            }
            Some(there) if there.origin.definition == network.definition => {}
            Some(there) => {
                let foreign = there.members.iter().filter(|member| !is_own(wanted, found, member));
                let foreign: Vec<_> = foreign.map(String::as_str).collect();
                if !foreign.is_empty() {
                    return Err(format!(
                        "network {name} has to be made anew, and containers of others are on it: disconnect {}",
                        foreign.join(", ")
                    ));
                }
                let mut details = differences(&there.origin.definition, &network.definition);
                details.push("made anew".into());
                plan.note(Mark::Change, format!("network {name}"), details);
                plan.steps.extend([Step::RemoveNetwork(name.clone()), create(false)]);
                anew.insert(name.as_str());
            }
        }
    }
    Ok(anew)
}

fn is_own(wanted: &Wanted, found: &Found, container: &str) -> bool {
    let origin = found.containers.get(container).map(|container| &container.origin);
    origin.is_some_and(|origin| origin.project.as_ref() == Some(&wanted.project))
}

/// Plans a container that is there.
fn change(name: &str, wanted: &wanted::Container, there: &found::Container, anew: &BTreeSet<&str>, plan: &mut Plan) {
    let mut details = Vec::new();
    let alone = |name: &String| matches!(name.as_str(), "host" | "none") || name.starts_with(model::SHARED);
    let moved = wanted.joins.keys().any(alone) || there.joins.keys().any(alone);
    let same_place =
        wanted.joins.keys().eq(there.joins.keys()) || there.joins.is_empty() && wanted.joins.keys().any(alone);
    if there.origin.definition != wanted.definition || moved && !same_place {
        details.extend(differences(&there.origin.definition, &wanted.definition));
        if moved && !same_place {
            details.push(format!("networks: {}", names(wanted.joins.keys())));
        }
        details.push("made anew".into());
        plan.steps.push(Step::RemoveContainer(name.to_owned()));
        plan.steps.push(Step::CreateContainer(Box::new(wanted.whole_request()), false));
        plan.note(Mark::Change, format!("container {name}"), details);
        return;
    }
    if !moved {
        networks_of(name, wanted, there, anew, &mut details, &mut plan.steps);
    }
    ports_of(name, wanted, there, &mut details, &mut plan.steps);
    if !there.running {
        details.push("started: its command had ended".into());
        plan.steps.push(Step::Start(name.to_owned()));
    }
    if !details.is_empty() {
        plan.note(Mark::Change, format!("container {name}"), details);
    }
}

fn networks_of(
    name: &str,
    wanted: &wanted::Container,
    there: &found::Container,
    anew: &BTreeSet<&str>,
    details: &mut Vec<String>,
    steps: &mut Vec<Step>,
) {
    for network in there.joins.keys().filter(|network| !wanted.joins.contains_key(*network)) {
        details.push(format!("leaves network {network}"));
        steps.push(Step::Disconnect(name.to_owned(), network.clone()));
    }
    for (network, wishes) in &wanted.joins {
        let connect = Step::Connect(name.to_owned(), network.clone(), Box::new(settings(wishes)));
        match there.joins.get(network) {
            None => {
                details.push(format!("joins network {network}{}", shown(wishes)));
                steps.push(connect);
            }
            Some(endpoint) if !fulfils(endpoint, wishes) || anew.contains(network.as_str()) => {
                details.push(format!("joins network {network} again{}", shown(wishes)));
                steps.extend([Step::Disconnect(name.to_owned(), network.clone()), connect]);
            }
            Some(_) => {}
        }
    }
}

/// Whether a place on a network is what was wished for.
fn fulfils(endpoint: &EndpointSettings, wishes: &EndpointRequest) -> bool {
    let wished = settings(wishes);
    let ipam = |settings: &EndpointSettings| settings.ipam_config.clone().unwrap_or_default();
    let aliases = |settings: &EndpointSettings| settings.aliases.clone().unwrap_or_default();
    // A container that has ended has no address, and gets the one that it wished for.
    let mac =
        wished.mac_address.is_empty() || endpoint.mac_address.is_empty() || wished.mac_address == endpoint.mac_address;
    mac && ipam(&wished) == ipam(endpoint)
        && aliases(&wished) == aliases(endpoint)
        && wished.gw_priority == endpoint.gw_priority
}

fn ports_of(
    name: &str,
    wanted: &wanted::Container,
    there: &found::Container,
    details: &mut Vec<String>,
    steps: &mut Vec<Step>,
) {
    let mut left: Vec<&found::Port> = there.ports.iter().collect();
    let mut publish = Vec::new();
    for spec in &wanted.ports {
        let mut lacking = false;
        for request in spec.requests() {
            match left.iter().position(|port| is_for(port, &request)) {
                Some(index) => {
                    let port = left.remove(index);
                    let access = &port.access;
                    lacking |= access.as_ref().is_some_and(|access| *access != whose(&request));
                }
                None => lacking = true,
            }
        }
        if lacking {
            details.push(format!("publishes {spec}"));
            publish.push(spec.to_string());
        }
    }
    let unpublish: Vec<String> = left.into_iter().map(found::Port::as_spec).collect();
    details.extend(unpublish.iter().map(|port| format!("takes back {port}")));
    // Of a container that has ended, ports cannot be changed before it runs again; the next look sees to it.
    if there.running {
        if !unpublish.is_empty() {
            steps.push(Step::Unpublish(name.to_owned(), unpublish));
        }
        if !publish.is_empty() {
            steps.push(Step::Publish(name.to_owned(), publish));
        }
    }
}

impl found::Port {
    /// The port as `unpublish` takes it.
    fn as_spec(&self) -> String {
        let host = self.host_port.map(|port| format!("{port}:")).unwrap_or_default();
        match self.host_ip.as_str() {
            "" => format!("{host}{}", self.private),
            ip if ip.contains(':') => format!("[{ip}]:{host}{}", self.private),
            ip => format!("{ip}:{host}{}", self.private),
        }
    }
}

/// Whether a published port is what a request asks for, but for who may use it.
fn is_for(port: &found::Port, request: &PortRequest) -> bool {
    port.private == format!("{}/{}", request.container_port, request.protocol)
        && port.host_ip == request.host_ip.map(|ip| ip.to_string()).unwrap_or_default()
        && port.host_port.is_none_or(|port| request.host_port.admits(port))
}

/// Who may use a port, and how fast, as the agent shows it.
fn whose(request: &PortRequest) -> (Vec<String>, u32) {
    let clients = request.access.allow_from.as_deref().unwrap_or_default();
    (clients.iter().map(ToString::to_string).collect(), request.access.rate.unwrap_or_default())
}

/// Plans the end of what is the project's and not wanted any more.
fn remove_others(wanted: &Wanted, found: &Found, plan: &mut Plan) {
    let own = |origin: &found::Origin| origin.project.as_ref() == Some(&wanted.project);
    for (name, container) in &found.containers {
        if own(&container.origin) && !wanted.containers.contains_key(name) {
            plan.note(Mark::Remove, format!("container {name}"), Vec::new());
            plan.steps.push(Step::RemoveContainer(name.clone()));
        }
    }
    for (name, network) in &found.networks {
        if own(&network.origin) && !wanted.networks.contains_key(name) {
            plan.note(Mark::Remove, format!("network {name}"), Vec::new());
            plan.steps.push(Step::RemoveNetwork(name.clone()));
        }
    }
}

fn describe(container: &wanted::Container) -> Vec<String> {
    let networks = container.joins.iter().map(|(network, wishes)| format!("joins network {network}{}", shown(wishes)));
    let ports = container.ports.iter().map(|spec: &PortSpec| format!("publishes {spec}"));
    networks.chain(ports).collect()
}

fn shown(wishes: &EndpointRequest) -> String {
    let mut said: Vec<String> = Vec::new();
    said.extend(wishes.ipv4.map(|ip| ip.to_string()));
    said.extend(wishes.ipv6.map(|ip| ip.to_string()));
    said.extend(wishes.mac.map(|mac| mac.to_string()));
    said.extend(wishes.aliases.iter().map(|alias| format!("as {alias}")));
    if wishes.gw_priority != 0 {
        said.push(format!("gw-priority {}", wishes.gw_priority));
    }
    if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// What one definition says otherwise than another: `icc: true → false`.
fn differences(old: &str, new: &str) -> Vec<String> {
    let read = |text: &str| serde_json::from_str::<BTreeMap<String, Value>>(text).unwrap_or_default();
    let (old, new) = (read(old), read(new));
    let text = |value: Option<&Value>| value.map_or_else(|| "unset".into(), ToString::to_string);
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    changed.map(|key| format!("{key}: {} → {}", text(old.get(key)), text(new.get(key)))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::wanted::tests::read;
    use super::*;

    const SHOP: &str = r#"
        [networks.front]
        subnets = ["10.0.0.0/24"]
        [containers.web]
        command = ["sleep", "60"]
        networks.front = { ip = "10.0.0.9", aliases = ["www"] }
        ports = ["8080:80", { port = "8443:443", allow-from = ["10.0.0.0/8"] }]
    "#;

    /// What is there when a file has been applied.
    fn after(wanted: &Wanted) -> Found {
        let origin = |definition: &str| found::Origin { project: Some("shop".into()), definition: definition.into() };
        let mut found = Found::default();
        found.networks.insert("bridge".into(), found::Network::default());
        for (name, network) in &wanted.networks {
            let network = found::Network { origin: origin(&network.definition), members: BTreeSet::new() };
            found.networks.insert(name.clone(), network);
        }
        for (name, container) in &wanted.containers {
            let port = |request: PortRequest| found::Port {
                host_ip: request.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                host_port: match request.host_port {
                    model::HostPort::Fixed(port) | model::HostPort::Range(port, _) => Some(port),
                    model::HostPort::Any => Some(40000),
                },
                private: format!("{}/{}", request.container_port, request.protocol),
                access: Some(whose(&request)),
            };
            let there = found::Container {
                origin: origin(&container.definition),
                running: true,
                joins: container.joins.iter().map(|(name, wishes)| (name.clone(), settings(wishes))).collect(),
                ports: container.ports.iter().flat_map(PortSpec::requests).map(port).collect(),
            };
            found.networks.get_mut("front").unwrap().members.insert(name.clone());
            found.containers.insert(name.clone(), there);
        }
        found
    }

    /// What is planned when `new` is applied after [`SHOP`]: marks with objects, and the steps' first words.
    fn planned(new: &str) -> (Vec<String>, Vec<String>) {
        let plan = apply(&read(new).unwrap(), &after(&read(SHOP).unwrap())).unwrap();
        let lines =
            plan.lines.iter().map(|line| format!("{:?} {}: {}", line.mark, line.object, line.details.join("; ")));
        let word = |step: &Step| format!("{step:?}").split('(').next().unwrap_or_default().to_owned();
        (lines.collect(), plan.steps.iter().map(word).collect())
    }

    #[test]
    fn a_second_time_there_is_nothing_to_do() {
        assert_eq!(planned(SHOP), (vec![], vec![]));
        let ranges = SHOP.replace("\"8080:80\"", "\"80\", \"9000-9010:81\", \"127.0.0.1:7000-7001:7000-7001/udp\"");
        let wanted = read(&ranges).unwrap();
        assert!(apply(&wanted, &after(&wanted)).unwrap().steps.is_empty());
    }

    #[test]
    fn from_nothing() {
        let plan = apply(&read(SHOP).unwrap(), &Found::default()).unwrap();
        assert_eq!(plan.lines.iter().map(|line| line.mark).collect::<Vec<_>>(), [Mark::Create; 2]);
        assert!(matches!(plan.steps.as_slice(), [Step::CreateNetwork(_, true), Step::CreateContainer(_, true)]));
    }

    #[test]
    fn what_can_be_is_changed_in_place() {
        for (from, to, line, steps) in [
            (
                "\"8080:80\"",
                "\"8081:80\"",
                "publishes 8081:80/tcp; takes back 8080:80/tcp",
                vec!["Unpublish", "Publish"],
            ),
            ("10.0.0.0/8", "10.1.0.0/16", "publishes published=8443", vec!["Publish"]),
            ("10.0.0.9", "10.0.0.10", "joins network front again (10.0.0.10, as www)", vec!["Disconnect", "Connect"]),
            ("[\"www\"]", "[\"shop\"]", "joins network front again", vec!["Disconnect", "Connect"]),
            ("networks.front =", "networks.bridge = {}\nnetworks.front =", "joins network bridge", vec!["Connect"]),
            (
                "\"sleep\", \"60\"",
                "\"sleep\", \"70\"",
                "→ [\"sleep\",\"70\"]; made anew",
                vec!["RemoveContainer", "CreateContainer"],
            ),
        ] {
            let (lines, planned) = planned(&SHOP.replace(from, to));
            assert!(
                lines.len() == 1 && lines[0].starts_with("Change container web: ") && lines[0].contains(line),
                "{to}: {lines:?}"
            );
            assert_eq!(planned, steps, "{to}");
        }
    }

    #[test]
    fn a_network_made_anew_takes_its_members_with_it() {
        let (lines, steps) = planned(&SHOP.replace("[\"10.0.0.0/24\"]", "[\"10.0.0.0/16\"]"));
        assert!(lines[0].contains("subnets: ") && lines[0].ends_with("made anew"), "{lines:?}");
        assert_eq!(steps, ["Disconnect", "RemoveNetwork", "CreateNetwork", "Connect"]);
        let mut found = after(&read(SHOP).unwrap());
        found.networks.get_mut("front").unwrap().members.insert("stranger".into());
        let error = apply(&read(&SHOP.replace("0/24", "0/16")).unwrap(), &found).unwrap_err();
        assert!(error.contains("disconnect stranger"), "{error}");
    }

    #[test]
    fn what_is_not_wanted_any_more_goes() {
        let (lines, steps) = planned("[networks.front]\nsubnets = [\"10.0.0.0/24\"]");
        assert_eq!((lines, steps), (vec!["Remove container web: ".into()], vec!["RemoveContainer".to_owned()]));
        let plan = down(&read("").unwrap(), &after(&read(SHOP).unwrap()));
        assert_eq!((plan.lines.len(), plan.steps.len()), (2, 2));
    }

    #[test]
    fn others_things_are_left_alone() {
        let wanted = read(SHOP).unwrap();
        for (project, words) in [(None, "was not made by `apply`"), (Some("other".to_owned()), "the project other")] {
            let mut found = after(&wanted);
            found.containers.get_mut("web").unwrap().origin.project = project;
            let error = apply(&wanted, &found).unwrap_err();
            assert!(error.contains("container web") && error.contains(words), "{error}");
        }
        let error =
            apply(&read(&SHOP.replace("networks.front =", "networks.side =")).unwrap(), &after(&wanted)).unwrap_err();
        assert!(error.contains("containers.web.networks") && error.contains("no network side"), "{error}");
    }

    #[test]
    fn a_container_that_has_ended_is_started() {
        let wanted = read(SHOP).unwrap();
        let mut found = after(&wanted);
        found.containers.get_mut("web").unwrap().running = false;
        let plan = apply(&wanted, &found).unwrap();
        assert!(matches!(plan.steps.as_slice(), [Step::Start(name)] if name == "web"));
    }
}
