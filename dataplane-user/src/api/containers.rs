//! The calls about containers.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::error::{Refusal, Refusals};
use super::extract::{Body, Query, Reference};
use super::filter::Filters;
use super::peer::Peer;
use super::query::{ContainerList, Ending, LogPart, NewName, Removal, Signalled, truth};
use super::types::container::{ContainerInspect, ContainerSummary, PortMap, WaitResponse};
use super::types::spandrel::{ExecRequest, PublishRequest, RunRequest, Started};
use super::{attached, convert, multiplexed, present};
use crate::agent::Handle;
use crate::model::{Error, Id};

/// List containers
///
/// Filters: `before`, `exited`, `expose`, `id`, `label`, `name`, `network`, `publish`, `since`, `status`. Names and ids are regular
/// expressions; `publish` and `expose` are ports of the container, `80`, `80/udp` or `70-90/tcp`.
#[utoipa::path(get, path = "/containers/json", tag = "Containers", params(ContainerList), responses((status = 200, description = "The containers, the newest first.", body = Vec<ContainerSummary>), Refusals))]
pub(super) async fn list(
    State(agent): State<Handle>,
    Query(query): Query<ContainerList>,
) -> Result<Json<Vec<ContainerSummary>>, Refusal> {
    let filters = Filters::parse(&query.filters, &Filters::CONTAINER)?;
    let limit = query.limit()?;
    let every_state = truth(&query.all) || filters.every_state() || limit.is_some();
    let containers = agent.containers().await?;
    let beyond = filters.beyond_text(&containers)?;
    let now = Timestamp::now();
    let wanted =
        containers.iter().filter(|container| (every_state || container.is_running()) && beyond.pass(container));
    let shown = wanted.map(|container| present::summary(container, now));
    Ok(Json(shown.filter(|container| filters.pass_container(container)).take(limit.unwrap_or(usize::MAX)).collect()))
}

/// Show a container
#[utoipa::path(get, path = "/containers/{reference}/json", tag = "Containers", params(Reference), responses((status = 200, description = "The container.", body = ContainerInspect), Refusals))]
pub(super) async fn inspect(
    State(agent): State<Handle>,
    Reference(reference): Reference,
) -> Result<Json<ContainerInspect>, Refusal> {
    let container = agent.container(&reference).await?;
    let (sandbox, directory) = (agent.sandbox_key(&container), agent.container_dir(&container));
    Ok(Json(present::inspect(&container, &sandbox, &directory)))
}

/// End a container
///
/// SIGTERM or another signal, and SIGKILL when the time is up. The answer comes when nothing of it is left in the kernel.
#[utoipa::path(post, path = "/containers/{reference}/stop", tag = "Containers", params(Reference, Ending), responses((status = 204, description = "It has ended."), (status = 304, description = "It had ended already."), Refusals))]
pub(super) async fn stop(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Query(query): Query<Ending>,
) -> Result<StatusCode, Refusal> {
    let (signal, timeout) = (query.signal()?, query.timeout()?);
    let was_running = agent.container(&reference).await?.is_running();
    agent.stop(&reference, signal, timeout).await?;
    Ok(if was_running { StatusCode::NO_CONTENT } else { StatusCode::NOT_MODIFIED })
}

/// Start a container that has ended
#[utoipa::path(post, path = "/containers/{reference}/start", tag = "Containers", params(Reference), responses((status = 204, description = "It runs."), (status = 304, description = "It ran already."), Refusals))]
pub(super) async fn start(State(agent): State<Handle>, Reference(reference): Reference) -> Result<StatusCode, Refusal> {
    if agent.container(&reference).await?.is_running() {
        return Ok(StatusCode::NOT_MODIFIED);
    }
    agent.start(&reference, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End a container and start it again
#[utoipa::path(post, path = "/containers/{reference}/restart", tag = "Containers", params(Reference, Ending), responses((status = 204, description = "It runs again."), Refusals))]
pub(super) async fn restart(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Query(query): Query<Ending>,
) -> Result<StatusCode, Refusal> {
    agent.restart(&reference, query.signal()?, query.timeout()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a container another name
#[utoipa::path(post, path = "/containers/{reference}/rename", tag = "Containers", params(Reference, NewName), responses((status = 204, description = "It is done."), Refusals))]
pub(super) async fn rename(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Query(query): Query<NewName>,
) -> Result<StatusCode, Refusal> {
    agent.rename(&reference, &query.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read what a container in the background has written
#[utoipa::path(get, path = "/containers/{reference}/logs", tag = "Containers", params(Reference, LogPart), responses((status = 200, description = "The log in pieces, each with a header of eight bytes: 1 for output or 2 for errors, three zeros, the length of what follows in network byte order.", content_type = "application/vnd.docker.multiplexed-stream"), Refusals))]
pub(super) async fn logs(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Query(query): Query<LogPart>,
) -> Result<Response, Refusal> {
    let wish = query.wish()?;
    let times = truth(&query.timestamps);
    Ok(multiplexed::answer(agent.logs(&reference, wish).await?, times))
}

/// Send a signal to a container's command
#[utoipa::path(post, path = "/containers/{reference}/kill", tag = "Containers", params(Reference, Signalled), responses((status = 204, description = "The signal is sent."), Refusals))]
pub(super) async fn kill(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Query(query): Query<Signalled>,
) -> Result<StatusCode, Refusal> {
    agent.kill(&reference, convert::signal(&query.signal)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Wait for the end of a container
#[utoipa::path(post, path = "/containers/{reference}/wait", tag = "Containers", params(Reference), responses((status = 200, description = "It has ended.", body = WaitResponse), Refusals))]
pub(super) async fn wait(
    State(agent): State<Handle>,
    Reference(reference): Reference,
) -> Result<Json<WaitResponse>, Refusal> {
    let status_code = agent.wait(&reference).await?.into();
    Ok(Json(WaitResponse { status_code }))
}

/// Remove a container
#[utoipa::path(delete, path = "/containers/{reference}", tag = "Containers", params(Reference, Removal), responses((status = 204, description = "It is gone."), Refusals))]
pub(super) async fn remove(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Query(query): Query<Removal>,
) -> Result<StatusCode, Refusal> {
    agent.remove(&reference, truth(&query.force)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make and start a container
///
/// Containers run the host's own commands. With `Attach`, the command has the standard input, output and error of the process that
/// asks, and the answer goes on until it ends: a line with a `Started`, a line with a `WaitResponse`.
#[utoipa::path(post, path = "/spandrel/containers/run", tag = "Beyond Docker", request_body = RunRequest, responses((status = 201, description = "It runs. Attached: a second line comes when it has ended.", content((Started = "application/json"), (Started = "application/x-ndjson"))), Refusals))]
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

/// Start a container that has ended, attached
#[utoipa::path(post, path = "/spandrel/containers/{reference}/start", tag = "Beyond Docker", params(Reference), responses((status = 201, description = "It runs; a second line comes when it has ended.", body = Started, content_type = "application/x-ndjson"), Refusals))]
pub(super) async fn start_attached(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Response, Refusal> {
    let started = agent.start(&reference, Some(peer.stdio()?)).await?;
    let answer = Started { id: started.container.id.to_string(), warnings: started.warnings };
    Ok(attached::answer(answer, started.exit))
}

/// Start a further command in a container
///
/// It has the standard input, output and error of the process that asks, and the answer goes on until it ends: a line with a `Started`, a line with a
/// `WaitResponse`. With `Detach` it has none of them, and the answer is a `Started`.
#[utoipa::path(post, path = "/spandrel/containers/{reference}/exec", tag = "Beyond Docker", params(Reference), request_body = ExecRequest, responses((status = 201, description = "The command runs. Not detached: a second line comes when it has ended.", content((Started = "application/json"), (Started = "application/x-ndjson"))), Refusals))]
pub(super) async fn exec(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(request): Body<ExecRequest>,
) -> Result<Response, Refusal> {
    let stdio = (!request.detach).then(|| peer.stdio()).transpose()?;
    let attach = stdio.is_some();
    let exec = agent.exec(&reference, request.into(), stdio).await?;
    let answer = Started { id: exec.id.to_string(), warnings: Vec::new() };
    Ok(match attach {
        true => attached::answer(answer, exec.exit),
        false => (StatusCode::CREATED, Json(answer)).into_response(),
    })
}

/// Publish ports of a running container, or change who may use them
#[utoipa::path(post, path = "/spandrel/containers/{reference}/publish", tag = "Beyond Docker", params(Reference), request_body = PublishRequest, responses((status = 200, description = "What is in force for these ports.", body = PortMap), Refusals))]
pub(super) async fn publish(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Body(request): Body<PublishRequest>,
) -> Result<Json<PortMap>, Refusal> {
    let published = agent.publish(&reference, request.into()).await?;
    Ok(Json(present::port_map(&published)))
}

/// Take back published ports of a running container
#[utoipa::path(post, path = "/spandrel/containers/{reference}/unpublish", tag = "Beyond Docker", params(Reference), request_body = PublishRequest, responses((status = 204, description = "They are published no longer."), Refusals))]
pub(super) async fn unpublish(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Body(request): Body<PublishRequest>,
) -> Result<StatusCode, Refusal> {
    agent.unpublish(&reference, request.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a signal to a further command
#[utoipa::path(post, path = "/spandrel/exec/{reference}/kill", tag = "Beyond Docker", params(Reference, Signalled), responses((status = 204, description = "The signal is sent."), Refusals))]
pub(super) async fn kill_exec(
    State(agent): State<Handle>,
    Reference(id): Reference,
    Query(query): Query<Signalled>,
) -> Result<StatusCode, Refusal> {
    let id: Id = id.parse().map_err(|error: Error| Refusal::from(error))?;
    agent.kill_exec(&id, convert::signal(&query.signal)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
