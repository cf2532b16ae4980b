//! The call about what there should be of ours on the host.

use axum::Json;
use axum::extract::State;

use super::error::{Refusal, Refusals};
use super::types::spandrel::{Lent, Record, Vanished};
use crate::agent::{self, Handle};

/// Show what there should be on the host
///
/// The interfaces, namespaces and directories that belong to networks and containers: what else bears our mark is left over.
#[utoipa::path(get, path = "/spandrel/record", tag = "Beyond Docker", responses((status = 200, description = "What is on record.", body = Record), Refusals))]
pub(super) async fn show(State(agent): State<Handle>) -> Result<Json<Record>, Refusal> {
    Ok(Json(agent.record().await?.into()))
}

impl From<agent::Record> for Record {
    fn from(record: agent::Record) -> Self {
        let vanished = |(container, netns): (String, std::path::PathBuf)| Vanished {
            container,
            netns: netns.to_string_lossy().into_owned(),
        };
        Record {
            interfaces: record.interfaces.into_iter().collect(),
            namespaces: record.namespaces.into_iter().collect(),
            directories: record.directories.into_iter().collect(),
            vanished: record.vanished.into_iter().map(vanished).collect(),
            docker: record.docker.into_iter().map(|(id, name)| Lent { id, name }).collect(),
            uplinks: record.uplinks,
        }
    }
}

impl From<Record> for agent::Record {
    fn from(record: Record) -> Self {
        agent::Record {
            interfaces: record.interfaces.into_iter().collect(),
            namespaces: record.namespaces.into_iter().collect(),
            directories: record.directories.into_iter().collect(),
            vanished: record.vanished.into_iter().map(|gone| (gone.container, gone.netns.into())).collect(),
            docker: record.docker.into_iter().map(|network| (network.id, network.name)).collect(),
            uplinks: record.uplinks,
        }
    }
}
