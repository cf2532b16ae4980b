//! The network plugin of Podman: a client of the agent that Podman (`create`) and netavark (`setup`, `teardown`) call. What is said, and
//! how, is `plugin::netavark`'s business.

pub(super) mod reservation;
pub(super) mod stale;

use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use axum::http::StatusCode;
use clap::Parser;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::args::netavark::Netavark;
use super::client::{Client, segment};
use super::error::Error;
use super::output;
use crate::api::types::attachment::Attachment;
use crate::api::types::container::{ContainerInspect, PortMap};
use crate::api::types::network;
use crate::api::types::spandrel::PublishRequest;
use crate::kernel::NetNs;
use crate::plugin::netavark::{
    FOLDER, Info, LABEL, Network, OWNER, Setup, StatusBlock, Unsupported, attach, check_same, create_network, fill,
    owner, publishes, status,
};

/// The arguments of a plugin.
#[derive(Parser)]
#[command(name = "spandrel")]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Netavark>,
}

impl From<Unsupported> for Error {
    fn from(error: Unsupported) -> Self {
        Error::Local(error.to_string())
    }
}

/// Whether the process was started from a folder of netavark's plugins. The plugin has the driver's name, which is the binary's own; so the
/// folder is what tells the two apart. Podman and netavark call plugins by their whole path.
pub(super) fn is_called() -> bool {
    let program = env::args_os().next().unwrap_or_default();
    let folder = Path::new(&program).parent().and_then(Path::file_name);
    folder.is_some_and(|name| name == FOLDER)
}

/// Does what netavark or Podman asks for.
pub(super) fn called(socket: &Path) -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => main(socket, arguments.verb.unwrap_or(Netavark::Info)),
        Err(error) => {
            let wrong = error.to_string();
            let sentence = wrong.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            refuse(&Error::Local(sentence))
        }
    }
}

/// Does one call, and prints what the API wants printed.
pub(super) fn main(socket: &Path, verb: Netavark) -> ExitCode {
    let printed = match run(socket, verb) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(answer)) => output::lines([answer]),
        Err(error) => return refuse(&error),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

/// The sentence goes to standard output: Podman shows it.
fn refuse(error: &Error) -> ExitCode {
    let older = error.is_unknown_call();
    let sentence = match older {
        true => "the agent is older than this plugin: restart it with this version".to_owned(),
        false => error.to_string(),
    };
    if let Err(error) = output::lines([json!({ "error": sentence })]) {
        output::complain(error);
    }
    ExitCode::FAILURE
}

fn run(socket: &Path, verb: Netavark) -> Result<Option<String>, Error> {
    if matches!(verb, Netavark::Info) {
        return answer(&Info::default()).map(Some);
    }
    if is_rootless() {
        let text = "rootless Podman keeps its networks in a namespace of its own, where this driver cannot be: run podman as root";
        return Err(Error::Local(text.into()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Local(format!("cannot start: {error}")))?;
    let plugin = Plugin { client: Client::new(socket) };
    runtime.block_on(async {
        match verb {
            Netavark::Create => answer(&plugin.create(input()?).await?).map(Some),
            Netavark::Setup { netns } => answer(&plugin.setup(input()?, Path::new(&netns)).await?).map(Some),
            Netavark::Teardown { .. } => plugin.teardown(input()?).await.map(|()| None),
            Netavark::Info => Ok(None),
        }
    })
}

/// What was sent.
fn input<T: DeserializeOwned>() -> Result<T, Error> {
    let mut text = Vec::new();
    let read = io::stdin().read_to_end(&mut text);
    read.map_err(|error| Error::Local(format!("cannot read standard input: {error}")))?;
    serde_json::from_slice(&text).map_err(|error| Error::Local(format!("cannot understand what was sent: {error}")))
}

fn answer(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Local(format!("cannot write the answer: {error}")))
}

/// Whether root is only called so: not all users are in this namespace (user_namespaces(7)).
fn is_rootless() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    !map.is_empty() && !whole
}

struct Plugin {
    client: Client,
}

impl Plugin {
    /// The agent's network of that very name.
    async fn network(&self, name: &str) -> Result<Option<network::Network>, Error> {
        match self.client.get::<network::Network>(&format!("/networks/{}", segment(name))).await {
            // It may have been found by its id.
            Ok(network) => Ok(Some(network).filter(|network| network.name == name)),
            Err(error) if error.is_not_found() && !error.is_unknown_call() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn make(&self, network: &Network) -> Result<network::Network, Error> {
        let request = create_network(network)?;
        let _: network::CreateResponse = self.client.post("/networks/create", &request).await?;
        let made = self.network(&network.name).await?;
        made.ok_or_else(|| Error::Local(format!("network {} was made and is not there any more", network.name)))
    }

    /// Makes a network, or takes the one that has the name if it is as it should be.
    async fn create(&self, network: Network) -> Result<Network, Error> {
        create_network(&network)?;
        stale::remove(&self.client).await?;
        let there = match self.network(&network.name).await? {
            // Podman has no two networks of a name, so this is one that it has removed. If containers still have it, the agent refuses.
            Some(there) if there.labels.contains_key(LABEL) => {
                self.client.delete(&format!("/networks/{}", there.id)).await?;
                None
            }
            there => there,
        };
        let made = match there {
            Some(there) => {
                check_same(&network, &there)?;
                there
            }
            None => self.make(&network).await?,
        };
        Ok(fill(network, &made))
    }

    /// Attaches a namespace to a network, which is made again if somebody has removed it.
    async fn setup(&self, setup: Setup, netns: &Path) -> Result<StatusBlock, Error> {
        let there = NetNs::open_if_there(netns).map_err(|error| Error::Local(error.to_string()))?;
        if there.is_none() {
            let text = format!("{} is not a network namespace, or not there", netns.display());
            return Err(Error::Local(text));
        }
        match self.network(&setup.network.name).await? {
            Some(there) => check_same(&setup.network, &there)?,
            None => drop(self.make(&setup.network).await?),
        }
        let netns = netns.display().to_string();
        self.detach_older(&setup, &netns).await?;
        let publish = self.still_to_publish(&setup).await?;
        if !publish.is_empty() && reservation::is_on() {
            output::complain(reservation::HINT);
        }
        let attachment: Attachment =
            self.client.post("/spandrel/attachments", &attach(&setup, &netns, publish)?).await?;
        attachment.warnings.iter().for_each(|warning| output::complain(format_args!("warning: {warning}")));
        Ok(status(&setup.network, &attachment))
    }

    /// The ports that come with this network: none if the container has them by another one, or none leads to it from outside.
    async fn still_to_publish(&self, setup: &Setup) -> Result<Vec<String>, Error> {
        let publish = publishes(&setup.port_mappings);
        if publish.is_empty() || !self.ports(&setup.container_id).await?.is_empty() {
            return Ok(Vec::new());
        }
        if setup.network.internal {
            let name = &setup.network.name;
            output::complain(format_args!("warning: network {name} is internal: no ports are published there"));
            return Ok(Vec::new());
        }
        Ok(publish)
    }

    /// The published ports of a container; none if there is no such container.
    async fn ports(&self, container: &str) -> Result<PortMap, Error> {
        match self.client.get::<ContainerInspect>(&format!("/containers/{}/json", segment(container))).await {
            Ok(container) => Ok(container.network_settings.ports),
            Err(error) if error.is_not_found() && !error.is_unknown_call() => Ok(PortMap::default()),
            Err(error) => Err(error),
        }
    }

    /// The interfaces of a container that Podman attached.
    async fn attached(&self, container: &str) -> Result<Vec<Attachment>, Error> {
        let path = format!("/spandrel/attachments?container={}", segment(container));
        match self.client.get::<Vec<Attachment>>(&path).await {
            Ok(attached) => Ok(attached.into_iter().filter(|one| one.owner.starts_with(OWNER)).collect()),
            Err(error) if error.is_not_found() && !error.is_unknown_call() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What a container has from before a crash of Podman goes: it is where Podman says that it is.
    async fn detach_older(&self, setup: &Setup, netns: &str) -> Result<(), Error> {
        for older in self.attached(&setup.container_id).await? {
            if older.netns != netns || older.interface == setup.network_options.interface_name {
                self.detach(&older.id, &older.interface, &older.owner).await?;
            }
        }
        Ok(())
    }

    /// Takes an interface away, unless it is gone.
    async fn detach(&self, container: &str, interface: &str, owner: &str) -> Result<(), Error> {
        let query = format!("interface={}&owner={}", segment(interface), segment(owner));
        match self.client.delete(&format!("/spandrel/attachments/{}?{query}", segment(container))).await {
            Err(error) if error.is_not_found() && !error.is_unknown_call() => Ok(()),
            result => result,
        }
    }

    /// Takes a container off a network. The namespace may be gone.
    async fn teardown(&self, setup: Setup) -> Result<(), Error> {
        let container = &setup.container_id;
        let had = self.ports(container).await?;
        self.detach(container, &setup.network_options.interface_name, &owner(&setup.network.name)).await?;
        let publish = publishes(&setup.port_mappings);
        // They went with this interface; the container may be reached by another one.
        if had.is_empty() || publish.is_empty() || !self.ports(container).await?.is_empty() {
            return Ok(());
        }
        if self.attached(container).await?.iter().all(|other| other.addresses.iter().all(|has| has.gateway.is_empty()))
        {
            return Ok(());
        }
        let path = format!("/spandrel/containers/{}/publish", segment(container));
        match self.client.post::<PortMap>(&path, &PublishRequest { publish, ..Default::default() }).await {
            // It has ended meanwhile, and needs no ports any more.
            Err(Error::Refused { status: StatusCode::NOT_FOUND | StatusCode::CONFLICT, .. }) => Ok(()),
            result => result.map(drop),
        }
    }
}
