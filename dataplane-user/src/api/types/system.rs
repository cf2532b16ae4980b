//! What the agent says of itself: `GET /version` and `GET /info`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::null_is_default;

/// The answer to `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// The product.
    pub platform: Platform,
    /// One entry a part; we are one part.
    pub components: Vec<Component>,
    /// The agent's version.
    pub version: String,
    /// The newest API version that the agent speaks.
    pub api_version: String,
    /// The oldest API version that the agent speaks.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// The operating system.
    pub os: String,
    /// The processor, by Docker's name for it.
    pub arch: String,
    /// The kernel's release.
    pub kernel_version: String,
}

/// The product's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Platform {
    /// The product's name.
    pub name: String,
}

/// One part of the product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// The part's name.
    pub name: String,
    /// The part's version.
    pub version: String,
    /// More about it, by Docker's names.
    #[serde(deserialize_with = "null_is_default")]
    pub details: BTreeMap<String, String>,
}

/// The answer to `GET /info`: the part of Docker's that is true of us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// How many containers there are.
    pub containers: usize,
    /// How many of them run.
    pub containers_running: usize,
    /// How many of them are paused.
    pub containers_paused: usize,
    /// How many of them have ended.
    pub containers_stopped: usize,
    /// Always 0.
    pub images: usize,
    /// The drivers, by kind.
    pub plugins: Plugins,
    /// Whether the host forwards IPv4 packets.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// The agent's clock.
    pub system_time: String,
    /// The kernel's release.
    pub kernel_version: String,
    /// The operating system, for people.
    pub operating_system: String,
    /// The operating system.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// The processor, by the kernel's name for it.
    pub architecture: String,
    /// The number of processors.
    #[serde(rename = "NCPU")]
    pub cpus: usize,
    /// The host's memory in bytes.
    pub mem_total: u64,
    /// The host's name.
    pub name: String,
    /// The agent's version.
    pub server_version: String,
    /// Hosts that work together; we know of none.
    pub swarm: Swarm,
}

/// The drivers, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugins {
    /// The network drivers.
    pub network: Vec<String>,
}

/// Docker's hosts that work together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    /// Always `inactive`.
    pub local_node_state: String,
}
