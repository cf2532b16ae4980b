//! The calls about networks.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::error::Refusal;
use super::extract::Body;
use super::filter::Filters;
use super::query::Query;
use super::types::network::{ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, Network, PruneResponse};
use super::{convert, present};
use crate::agent::Handle;

/// `GET /networks`
pub(super) async fn list(State(agent): State<Handle>, query: Query) -> Result<Json<Vec<Network>>, Refusal> {
    let filters = Filters::parse(&query.filters, &Filters::NETWORK)?;
    let networks = agent.networks().await?;
    let shown = networks.iter().map(present::network).filter(|network| filters.pass_network(network));
    // Docker's list leaves out what changes.
    Ok(Json(shown.map(|network| Network { containers: None, status: None, ..network }).collect()))
}

/// `GET /networks/{reference}`
pub(super) async fn inspect(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
) -> Result<Json<Network>, Refusal> {
    Ok(Json(present::network(&agent.network(&reference).await?)))
}

/// `POST /networks/create`
pub(super) async fn create(
    State(agent): State<Handle>,
    Body(request): Body<CreateRequest>,
) -> Result<(StatusCode, Json<CreateResponse>), Refusal> {
    let created = agent.create_network(request.try_into()?).await?;
    let answer = CreateResponse { id: created.value.id.to_string(), warning: created.warnings.join("\n") };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `POST /networks/prune`
pub(super) async fn prune(State(agent): State<Handle>, query: Query) -> Result<Json<PruneResponse>, Refusal> {
    let wanted = Filters::parse(&query.filters, &Filters::PRUNE)?.prune()?;
    let removed = agent.prune_networks(move |network| wanted(network.created, &network.labels)).await?;
    Ok(Json(PruneResponse { networks_deleted: removed.into_iter().map(|network| network.name).collect() }))
}

/// `DELETE /networks/{reference}`
pub(super) async fn remove(State(agent): State<Handle>, Path(reference): Path<String>) -> Result<StatusCode, Refusal> {
    agent.remove_network(&reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /networks/{reference}/connect`
pub(super) async fn connect(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    Body(request): Body<ConnectRequest>,
) -> Result<StatusCode, Refusal> {
    let endpoint = convert::endpoint(request.endpoint_config.unwrap_or_default())?;
    agent.connect(&reference, &request.container, endpoint).await?;
    Ok(StatusCode::OK)
}

/// `POST /networks/{reference}/disconnect`
pub(super) async fn disconnect(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    Body(request): Body<DisconnectRequest>,
) -> Result<StatusCode, Refusal> {
    agent.disconnect(&reference, &request.container, request.force).await?;
    Ok(StatusCode::OK)
}
