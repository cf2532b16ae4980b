//! The calls about network namespaces that somebody else made.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::convert;
use super::error::{Refusal, Refusals};
use super::extract::{Body, Query, Reference};
use super::present;
use super::query::{Attached, OfAttachment};
use super::types::attachment::{AttachRequest, Attachment, Check};
use crate::agent::{Handle, Wanted};
use crate::model::Error;

/// Attach a network namespace to a network
///
/// It gets an interface with addresses, a default route unless it has one, a name server and published ports, and is from then on
/// listed as a container. One namespace may have interfaces on several networks, each by a call of its own. All is done or nothing.
#[utoipa::path(post, path = "/spandrel/attachments", tag = "Beyond Docker", request_body = AttachRequest, responses((status = 201, description = "It is attached.", body = Attachment), Refusals))]
pub(super) async fn attach(
    State(agent): State<Handle>,
    Body(request): Body<AttachRequest>,
) -> Result<(StatusCode, Json<Attachment>), Refusal> {
    let attachment = agent.attach(convert::attach(request)?).await?;
    Ok((StatusCode::CREATED, Json(present::attachment(&attachment))))
}

/// List attached interfaces
#[utoipa::path(get, path = "/spandrel/attachments", tag = "Beyond Docker", params(Attached), responses((status = 200, description = "The interfaces.", body = Vec<Attachment>), Refusals))]
pub(super) async fn list(
    State(agent): State<Handle>,
    Query(query): Query<Attached>,
) -> Result<Json<Vec<Attachment>>, Refusal> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let wanted =
        Wanted { container: given(query.container), interface: given(query.interface), owner: given(query.owner) };
    Ok(Json(agent.attachments(wanted).await?.iter().map(present::attachment).collect()))
}

/// Detach a network namespace
///
/// The namespace may be gone. It is known by what its owner calls it, by the container's name or id, or as it was given.
#[utoipa::path(delete, path = "/spandrel/attachments/{reference}", tag = "Beyond Docker", params(Reference, OfAttachment), responses((status = 204, description = "It is detached."), Refusals))]
pub(super) async fn detach(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Query(query): Query<OfAttachment>,
) -> Result<StatusCode, Refusal> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    agent.detach(&reference, given(query.interface), given(query.owner)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Look whether attached interfaces are as they should be
///
/// Interfaces, addresses and routes are compared with what is on record; nothing is changed.
#[utoipa::path(get, path = "/spandrel/attachments/{reference}/check", tag = "Beyond Docker", params(Reference, OfAttachment), responses((status = 200, description = "What was found.", body = Check), Refusals))]
pub(super) async fn check(
    State(agent): State<Handle>,
    Reference(reference): Reference,
    Query(query): Query<OfAttachment>,
) -> Result<Json<Check>, Refusal> {
    if !query.owner.is_empty() {
        return Err(Error::Invalid("an interface is checked whoever attached it: leave owner out".into()).into());
    }
    let interface = Some(query.interface).filter(|text| !text.is_empty());
    Ok(Json(Check { faults: agent.faults(&reference, interface).await? }))
}
