//! The calls about networks.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::error::{Refusal, Refusals};
use super::extract::{Body, Query, Reference};
use super::filter::Filters;
use super::query::Filtered;
use super::types::network::{ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, Network, PruneResponse};
use super::{convert, present};
use crate::agent::Handle;

/// List networks
///
/// Filters: `dangling`, `driver`, `id`, `label`, `name`, `scope`, `type`. Names and ids are regular expressions.
#[utoipa::path(get, path = "/networks", tag = "Networks", params(Filtered), responses((status = 200, description = "The networks, without their containers.", body = Vec<Network>), Refusals))]
pub(super) async fn list(
    State(agent): State<Handle>,
    Query(query): Query<Filtered>,
) -> Result<Json<Vec<Network>>, Refusal> {
    let filters = Filters::parse(&query.filters, &Filters::NETWORK)?;
    let networks = agent.networks().await?;
    let shown = networks.iter().map(present::network).filter(|network| filters.pass_network(network));
    // Docker's list leaves out what changes.
    Ok(Json(shown.map(|network| Network { containers: None, status: None, ..network }).collect()))
}

/// Show a network
#[utoipa::path(get, path = "/networks/{reference}", tag = "Networks", params(Reference), responses((status = 200, description = "The network.", body = Network), Refusals))]
pub(super) async fn inspect(
    State(agent): State<Handle>,
    Reference(reference): Reference,
) -> Result<Json<Network>, Refusal> {
    Ok(Json(present::network(&agent.network(&reference).await?)))
}

/// Make a network
#[utoipa::path(post, path = "/networks/create", tag = "Networks", request_body = CreateRequest, responses((status = 201, description = "It is made.", body = CreateResponse), Refusals))]
pub(super) async fn create(
    State(agent): State<Handle>,
    Body(request): Body<CreateRequest>,
) -> Result<(StatusCode, Json<CreateResponse>), Refusal> {
    let created = agent.create_network(request.try_into()?).await?;
    let answer = CreateResponse { id: created.value.id.to_string(), warning: created.warnings.join("\n") };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Remove the networks that no running container uses
///
/// Filters: `label`, `label!`, `until`, a moment or a duration before now: only those made before it.
#[utoipa::path(post, path = "/networks/prune", tag = "Networks", params(Filtered), responses((status = 200, description = "They are gone.", body = PruneResponse), Refusals))]
pub(super) async fn prune(
    State(agent): State<Handle>,
    Query(query): Query<Filtered>,
) -> Result<Json<PruneResponse>, Refusal> {
    let wanted = Filters::parse(&query.filters, &Filters::PRUNE)?.prune()?;
    let removed = agent.prune_networks(move |network| wanted(network.created, &network.labels)).await?;
    Ok(Json(PruneResponse { networks_deleted: removed.into_iter().map(|network| network.name).collect() }))
}

/// Remove a network
#[utoipa::path(delete, path = "/networks/{reference}", tag = "Networks", params(Reference), responses((status = 204, description = "It is gone."), Refusals))]
pub(super) async fn remove(
    State(agent): State<Handle>,
    Reference(reference): Reference,
) -> Result<StatusCode, Refusal> {
    agent.remove_network(&reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Connect a container to a network
#[utoipa::path(post, path = "/networks/{reference}/connect", tag = "Networks", params(Reference), request_body = ConnectRequest, responses((status = 200, description = "It is connected."), Refusals))]
pub(super) async fn connect(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Body(request): Body<ConnectRequest>,
) -> Result<StatusCode, Refusal> {
    let endpoint = convert::endpoint(request.endpoint_config.unwrap_or_default())?;
    agent.connect(&reference, &request.container, endpoint).await?;
    Ok(StatusCode::OK)
}

/// Disconnect a container from a network
#[utoipa::path(post, path = "/networks/{reference}/disconnect", tag = "Networks", params(Reference), request_body = DisconnectRequest, responses((status = 200, description = "It is disconnected."), Refusals))]
pub(super) async fn disconnect(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Body(request): Body<DisconnectRequest>,
) -> Result<StatusCode, Refusal> {
    agent.disconnect(&reference, &request.container, request.force).await?;
    Ok(StatusCode::OK)
}
