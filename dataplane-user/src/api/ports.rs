//! The call about what went through published ports.

use axum::Json;
use axum::extract::State;

use super::error::{Refusal, Refusals};
use super::extract::Query;
use super::query::OfContainer;
use super::types::spandrel::PortStats;
use crate::agent::{self, Handle};

/// Count what went through published ports
#[utoipa::path(get, path = "/spandrel/ports", tag = "Beyond Docker", params(OfContainer), responses((status = 200, description = "The ports.", body = Vec<PortStats>), Refusals))]
pub(super) async fn stats(
    State(agent): State<Handle>,
    Query(query): Query<OfContainer>,
) -> Result<Json<Vec<PortStats>>, Refusal> {
    let reference = Some(query.container).filter(|reference| !reference.is_empty());
    Ok(Json(agent.port_stats(reference).await?.iter().map(shown).collect()))
}

fn shown(stats: &agent::PortStats) -> PortStats {
    let (binding, count) = (&stats.binding, &stats.count);
    PortStats {
        container: stats.container.clone(),
        private_port: binding.container_port,
        protocol: binding.protocol.to_string(),
        published: stats.entries.iter().map(|entry| entry.target().to_string()).collect(),
        allow_from: binding.access.allow_from.iter().map(|net| net.to_string()).collect(),
        rate_limit: binding.access.rate,
        connections: count.connections,
        packets_in: count.packets_in,
        bytes_in: count.bytes_in,
        packets_out: count.packets_out,
        bytes_out: count.bytes_out,
    }
}
