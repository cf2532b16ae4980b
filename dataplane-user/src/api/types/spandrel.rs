//! What Docker has no object for: run in one step, exec in one step, ports of a running container, counters.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::{ContainerConfig, Naming};
use super::endpoint::EndpointSettings;
use super::null_is_default;

/// The body of `POST /spandrel/containers/run`: create and start a container in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunRequest {
    /// The container's name; empty means "make one up".
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// Command, environment, host name, directory.
    pub config: ContainerConfig,
    /// The network to join, or `container:` and the container whose network to share; empty means `bridge`.
    #[serde(deserialize_with = "null_is_default")]
    pub network: String,
    /// Addresses that the container wishes there.
    #[serde(deserialize_with = "null_is_default")]
    pub endpoint: EndpointSettings,
    /// Further networks to join.
    #[serde(deserialize_with = "null_is_default")]
    pub further: Vec<Join>,
    /// Ports to publish.
    #[serde(flatten)]
    pub publish: PublishRequest,
    /// Publish all exposed ports, too.
    #[serde(deserialize_with = "null_is_default")]
    pub publish_all: bool,
    /// Ports that the container serves, as `--expose` takes them.
    #[serde(deserialize_with = "null_is_default")]
    pub expose: Vec<String>,
    /// Wishes for the files in which its resolver looks.
    #[serde(flatten)]
    pub naming: Naming,
    /// Remove the container when its command ends.
    #[serde(deserialize_with = "null_is_default")]
    pub auto_remove: bool,
    /// Give the command the standard input, output and error of the process that asks, and keep the answer
    /// open until the command ends: one line with a [`Started`], one with a `WaitResponse`.
    #[serde(deserialize_with = "null_is_default")]
    pub attach: bool,
}

/// A network that a container joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Join {
    /// The network.
    pub network: String,
    /// What the container wishes there.
    #[serde(deserialize_with = "null_is_default")]
    pub endpoint: EndpointSettings,
}

/// The body of `POST /spandrel/containers/{ref}/publish`, answered by a `PortMap` of these ports, and of `…/unpublish`,
/// where only the ports matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PublishRequest {
    /// Ports, as `-p` takes them.
    #[serde(deserialize_with = "null_is_default")]
    pub publish: Vec<String>,
    /// Clients that may use them, as addresses or prefixes; everybody if there are none.
    #[serde(deserialize_with = "null_is_default")]
    pub allow_from: Vec<String>,
    /// New connections that one client may open in a second; empty: as many as it likes.
    #[serde(deserialize_with = "null_is_default")]
    pub rate_limit: String,
}

/// The body of `POST /spandrel/containers/{ref}/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecRequest {
    /// The command and its arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Its environment, `NAME=value`.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The directory that it starts in.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Run it in the background, without input and output.
    #[serde(deserialize_with = "null_is_default")]
    pub detach: bool,
}

/// The answer to a run or exec, as soon as the command has started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Started {
    /// The id of the container, or of the exec.
    pub id: String,
    /// What the user should know.
    #[serde(deserialize_with = "null_is_default")]
    pub warnings: Vec<String>,
}

/// Packets that were dropped for one reason at one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Drop {
    /// The reason's short name.
    pub reason: String,
    /// The reason in a sentence.
    pub description: String,
    /// The container's name; empty if the packet belonged to none.
    pub container: String,
    /// The name of the container's network; empty if the packet belonged to none.
    pub network: String,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What there should be of ours on the host: the answer to `GET /spandrel/record`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Record {
    /// Names of interfaces: bridges, and the host's ends of containers' interfaces.
    pub interfaces: Vec<String>,
    /// Names of the network namespaces in the run directory.
    pub namespaces: Vec<String>,
    /// Names of the containers' directories in the run directory.
    pub directories: Vec<String>,
    /// Containers in a namespace that somebody else made, which is not there any more.
    pub vanished: Vec<Vanished>,
    /// The networks that Docker has made.
    pub docker: Vec<Lent>,
    /// The uplinks at which programs run by TCX; none where they are attached in another way.
    pub uplinks: Vec<String>,
}

/// A network that an engine has made, and must therefore know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Lent {
    /// Its id, which is the engine's.
    pub id: String,
    /// Its name here.
    pub name: String,
}

/// A container whose network namespace has gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Vanished {
    /// The container's name.
    pub container: String,
    /// Where its namespace was.
    pub netns: String,
}

/// What went through a published port since it was published: one of the answers to `GET /spandrel/ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortStats {
    /// The container's name.
    pub container: String,
    /// The port in the container.
    pub private_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
    /// What clients connect to: addresses with ports.
    pub published: Vec<String>,
    /// The clients that may use it; everybody if there are none.
    pub allow_from: Vec<String>,
    /// New connections that one client may open in a second; 0: as many as it likes.
    pub rate_limit: u32,
    /// Connections, for UDP flows, that were opened.
    pub connections: u64,
    /// Packets towards the container.
    pub packets_in: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes_in: u64,
    /// Packets from the container.
    pub packets_out: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes_out: u64,
}
