//! Events: the lines of the answer to `GET /events`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Event {
    /// The action, for old clients; containers only.
    #[serde(rename = "status", skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The id, for old clients; containers only.
    #[serde(rename = "id", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// `container` or `network`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What has happened: `create`, `start`, `connect`, `die` and the like; `exec_start: ls -l` of a further command.
    pub action: String,
    /// To whom.
    pub actor: Actor,
    /// `local`.
    #[serde(rename = "scope")]
    pub scope: String,
    /// When, in seconds since 1970.
    #[serde(rename = "time")]
    pub time: i64,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// To whom something has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Actor {
    /// The id of the container or network; empty if it is about all networks.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name, its labels, and what else there is to say.
    pub attributes: BTreeMap<String, String>,
}
