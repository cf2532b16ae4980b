//! Containers: `GET /containers/json`, `GET /containers/{id}/json` and what goes with them.
//!
//! Docker's objects hold much that only an engine with images and volumes can fill; here are the parts that
//! speak of the process and its network, and those without which Docker's clients would stumble.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::endpoint::EndpointSettings;
use super::{moment, null_is_default};

/// Host ports by container port (`80/tcp`); `null` for a port that is exposed but not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// One line of `ps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its names, each with a slash in front.
    pub names: Vec<String>,
    /// Always empty: our containers run the host's own commands.
    pub image: String,
    /// Always empty, like the image.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The command with its arguments, in one line.
    pub command: String,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// Its published ports.
    #[serde(deserialize_with = "null_is_default")]
    pub ports: Vec<PortSummary>,
    /// The user's labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// One word: `created`, `running` or `exited`.
    pub state: String,
    /// The state for people: `Up 4 days`.
    pub status: String,
    /// The part of the host's configuration that a list shows.
    pub host_config: HostConfigSummary,
    /// The networks it is on.
    pub network_settings: NetworkSettingsSummary,
    /// Always empty.
    pub mounts: Vec<serde_json::Value>,
}

/// The part of [`HostConfig`] that a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfigSummary {
    /// The network that the container was started on.
    pub network_mode: String,
}

/// The part of [`NetworkSettings`] that a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettingsSummary {
    /// Endpoints by network name.
    #[serde(deserialize_with = "null_is_default")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A port in the list of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortSummary {
    /// The host's address; absent if the port is not published.
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// The port in the container.
    pub private_port: u16,
    /// The port on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// A host address and port that lead to a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// The host's address.
    #[serde(deserialize_with = "null_is_default")]
    pub host_ip: String,
    /// The host's port, as text.
    #[serde(deserialize_with = "null_is_default")]
    pub host_port: String,
}

/// Everything about one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInspect {
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was created.
    #[serde(with = "moment")]
    pub created: Option<Timestamp>,
    /// The command.
    pub path: String,
    /// The command's arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub args: Vec<String>,
    /// What its process does.
    pub state: State,
    /// Always empty.
    pub image: String,
    /// The file that the container sees as /etc/resolv.conf.
    pub resolv_conf_path: String,
    /// The file that the container sees as /etc/hostname.
    pub hostname_path: String,
    /// The file that the container sees as /etc/hosts.
    pub hosts_path: String,
    /// Where the output of a container in the background goes.
    pub log_path: String,
    /// The name, with a slash in front.
    pub name: String,
    /// Always 0.
    pub restart_count: u64,
    /// `linux`.
    pub platform: String,
    /// How it was started.
    pub host_config: HostConfig,
    /// Always empty.
    #[serde(deserialize_with = "null_is_default")]
    pub mounts: Vec<serde_json::Value>,
    /// What it was told to be.
    pub config: ContainerConfig,
    /// Its addresses and ports.
    pub network_settings: NetworkSettings,
}

/// What a container's process does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// One word: `created`, `running` or `exited`.
    pub status: String,
    /// Whether it runs.
    pub running: bool,
    /// Always false.
    pub paused: bool,
    /// Always false.
    pub restarting: bool,
    /// Always false.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Always false.
    pub dead: bool,
    /// The process id on the host; 0 if it does not run.
    pub pid: i32,
    /// The exit code of the last run.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// When it was started.
    #[serde(with = "moment")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(with = "moment")]
    pub finished_at: Option<Timestamp>,
}

/// What a container was told to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Its host name.
    #[serde(deserialize_with = "null_is_default")]
    pub hostname: String,
    /// Its environment, `NAME=value`.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The ports that it says it serves, such as `80/tcp`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Nothing>,
    /// The command and its arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Always empty.
    pub image: String,
    /// The directory that the command starts in.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// The user's labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
}

/// An object without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nothing {}

/// How a container was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// The network that the container was started on.
    pub network_mode: String,
    /// The ports that were asked for.
    #[serde(deserialize_with = "null_is_default")]
    pub port_bindings: PortMap,
    /// Whether it goes away when its command ends.
    pub auto_remove: bool,
    /// What was asked for in the files in which its resolver looks.
    #[serde(flatten)]
    pub naming: Naming,
}

/// The part of [`HostConfig`] about the files in which a container's resolver looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Naming {
    /// Name servers.
    #[serde(deserialize_with = "null_is_default")]
    pub dns: Vec<String>,
    /// Options of the resolver.
    #[serde(deserialize_with = "null_is_default")]
    pub dns_options: Vec<String>,
    /// Search domains.
    #[serde(deserialize_with = "null_is_default")]
    pub dns_search: Vec<String>,
    /// Further lines of /etc/hosts, `NAME:IP`.
    #[serde(deserialize_with = "null_is_default")]
    pub extra_hosts: Vec<String>,
}

/// A container's addresses and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// The id of its network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// The file that stands for its network namespace.
    pub sandbox_key: String,
    /// The ports that are published now.
    #[serde(deserialize_with = "null_is_default")]
    pub ports: PortMap,
    /// Endpoints by network name.
    #[serde(deserialize_with = "null_is_default")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// The answer to `POST /containers/{id}/wait`, and the last word of an attached run or exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct WaitResponse {
    /// The command's exit code; 128 + n if signal n ended it.
    pub status_code: i64,
}
