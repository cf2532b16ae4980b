//! What Docker has no object for: run in one step, exec in one step, dropped packets.

use serde::{Deserialize, Serialize};

use super::container::ContainerConfig;
use super::endpoint::EndpointSettings;
use super::null_is_default;

/// The body of `POST /spandrel/containers/run`: create and start a container in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunRequest {
    /// The container's name; empty means "make one up".
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// Command, environment, host name, directory.
    pub config: ContainerConfig,
    /// The network to join; empty means `bridge`.
    #[serde(deserialize_with = "null_is_default")]
    pub network: String,
    /// Addresses that the container wishes there.
    #[serde(deserialize_with = "null_is_default")]
    pub endpoint: EndpointSettings,
    /// Ports to publish, as `-p` takes them.
    #[serde(deserialize_with = "null_is_default")]
    pub publish: Vec<String>,
    /// Remove the container when its command ends.
    #[serde(deserialize_with = "null_is_default")]
    pub auto_remove: bool,
    /// Give the command the standard input, output and error of the process that asks, and keep the answer
    /// open until the command ends: one line with a [`Started`], one with a `WaitResponse`.
    #[serde(deserialize_with = "null_is_default")]
    pub attach: bool,
}

/// The body of `POST /spandrel/containers/{ref}/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// The answer to a run or exec, as soon as the command has started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Started {
    /// The id of the container, or of the exec.
    pub id: String,
    /// What the user should know.
    #[serde(deserialize_with = "null_is_default")]
    pub warnings: Vec<String>,
}

/// Packets that were dropped for one reason at one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
