//! The call about dropped packets.

use axum::Json;
use axum::extract::State;

use super::error::{Refusal, Refusals};
use super::types::spandrel::Drop;
use crate::agent::Handle;

/// Count dropped packets, by place and reason
#[utoipa::path(get, path = "/spandrel/drops", tag = "Beyond Docker", responses((status = 200, description = "The counts.", body = Vec<Drop>), Refusals))]
pub(super) async fn list(State(agent): State<Handle>) -> Result<Json<Vec<Drop>>, Refusal> {
    let drops = agent.drops().await?.into_iter().map(|count| Drop {
        reason: count.reason.into(),
        description: count.text.into(),
        container: count.name,
        network: count.network,
        packets: count.packets,
        bytes: count.bytes,
    });
    let mut drops: Vec<Drop> = drops.collect();
    drops.sort_by(|a, b| (&a.container, &a.network, &a.reason).cmp(&(&b.container, &b.network, &b.reason)));
    Ok(Json(drops))
}
