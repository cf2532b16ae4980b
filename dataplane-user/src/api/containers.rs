//! The calls about containers.

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::error::Refusal;
use super::extract::Body;
use super::filter::Filters;
use super::peer::Peer;
use super::query::{Query, truth};
use super::types::container::{ContainerInspect, ContainerSummary, PortMap, WaitResponse};
use super::types::spandrel::{ExecRequest, PublishRequest, RunRequest, Started};
use super::{attached, convert, multiplexed, present};
use crate::agent::Handle;
use crate::model::{Error, Id};

/// `GET /containers/json`
pub(super) async fn list(State(agent): State<Handle>, query: Query) -> Result<Json<Vec<ContainerSummary>>, Refusal> {
    let filters = Filters::parse(&query.filters, &Filters::CONTAINER)?;
    let containers = agent.containers(truth(&query.all) || filters.every_state()).await?;
    let now = Timestamp::now();
    let shown = containers.iter().map(|container| present::summary(container, now));
    Ok(Json(shown.filter(|container| filters.pass_container(container)).collect()))
}

/// `GET /containers/{reference}/json`
pub(super) async fn inspect(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
) -> Result<Json<ContainerInspect>, Refusal> {
    let container = agent.container(&reference).await?;
    let (sandbox, directory) = (agent.sandbox_key(&container), agent.container_dir(&container));
    Ok(Json(present::inspect(&container, &sandbox, &directory)))
}

/// `POST /containers/{reference}/stop`
pub(super) async fn stop(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    let was_running = agent.container(&reference).await?.is_running();
    agent.stop(&reference, query.timeout()?).await?;
    Ok(if was_running { StatusCode::NO_CONTENT } else { StatusCode::NOT_MODIFIED })
}

/// `POST /containers/{reference}/start`
pub(super) async fn start(State(agent): State<Handle>, Path(reference): Path<String>) -> Result<StatusCode, Refusal> {
    if agent.container(&reference).await?.is_running() {
        return Ok(StatusCode::NOT_MODIFIED);
    }
    agent.start(&reference, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{reference}/restart`
pub(super) async fn restart(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    agent.restart(&reference, query.timeout()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{reference}/rename`
pub(super) async fn rename(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    agent.rename(&reference, &query.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /containers/{reference}/logs`
pub(super) async fn logs(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    query: Query,
) -> Result<Response, Refusal> {
    let wish = query.logs()?;
    let times = truth(&query.timestamps);
    Ok(multiplexed::answer(agent.logs(&reference, wish).await?, times))
}

/// `POST /containers/{reference}/kill`
pub(super) async fn kill(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    agent.kill(&reference, convert::signal(&query.signal)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{reference}/wait`
pub(super) async fn wait(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
) -> Result<Json<WaitResponse>, Refusal> {
    let status_code = agent.wait(&reference).await?.into();
    Ok(Json(WaitResponse { status_code }))
}

/// `DELETE /containers/{reference}`
pub(super) async fn remove(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    agent.remove(&reference, truth(&query.force)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /spandrel/containers/run`
pub(super) async fn run(
    State(agent): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(request): Body<RunRequest>,
) -> Result<Response, Refusal> {
    let stdio = request.attach.then(|| peer.stdio()).transpose()?;
    let attach = request.attach;
    let started = agent.run_container(request.try_into()?, stdio).await?;
    let answer = Started { id: started.container.id.to_string(), warnings: started.warnings };
    Ok(match attach {
        true => attached::answer(answer, started.exit),
        false => (StatusCode::CREATED, Json(answer)).into_response(),
    })
}

/// `POST /spandrel/containers/{reference}/start`
pub(super) async fn start_attached(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Response, Refusal> {
    let started = agent.start(&reference, Some(peer.stdio()?)).await?;
    let answer = Started { id: started.container.id.to_string(), warnings: started.warnings };
    Ok(attached::answer(answer, started.exit))
}

/// `POST /spandrel/containers/{reference}/exec`
pub(super) async fn exec(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(request): Body<ExecRequest>,
) -> Result<Response, Refusal> {
    let exec = agent.exec(&reference, request.into(), peer.stdio()?).await?;
    let answer = Started { id: exec.id.to_string(), warnings: Vec::new() };
    Ok(attached::answer(answer, exec.exit))
}

/// `POST /spandrel/containers/{reference}/publish`
pub(super) async fn publish(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    Body(request): Body<PublishRequest>,
) -> Result<Json<PortMap>, Refusal> {
    let published = agent.publish(&reference, request.into()).await?;
    Ok(Json(present::port_map(&published)))
}

/// `POST /spandrel/containers/{reference}/unpublish`
pub(super) async fn unpublish(
    State(agent): State<Handle>,
    Path(reference): Path<String>,
    Body(request): Body<PublishRequest>,
) -> Result<StatusCode, Refusal> {
    agent.unpublish(&reference, request.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /spandrel/exec/{id}/kill`
pub(super) async fn kill_exec(
    State(agent): State<Handle>,
    Path(id): Path<String>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    let id: Id = id.parse().map_err(|error: Error| Refusal::from(error))?;
    agent.kill_exec(&id, convert::signal(&query.signal)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
