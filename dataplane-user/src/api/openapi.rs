//! The API's own document, in OpenAPI 3.1: `GET /openapi.json`.
//!
//! It is made from the handlers and from the types that they read and write, so it cannot say anything else than they do;
//! `docs/api.md` is made from it.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::server;
use super::types::ErrorBody;
use super::types::container::WaitResponse;

/// What stands around the calls.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Spandrel",
        description = "The agent's HTTP API, on a unix socket. It is the Docker Engine API as far as networks go, and calls of our own \
                       below `/spandrel` for what Docker has none. Every path may have a version in front, from `/v1.24` to \
                       `/v1.51`. An answer that is an error has a body with one sentence."
    ),
    components(schemas(ErrorBody, WaitResponse)),
    tags(
        (name = "Networks", description = "Docker's calls about networks."),
        (name = "Containers", description = "Docker's calls about containers. They are made by a call of our own."),
        (name = "Agent", description = "Docker's calls about the engine."),
        (name = "Beyond Docker", description = "What Docker has no call for."),
    )
)]
struct Frame;

/// The document without its calls.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// The whole document. It cannot change while the agent runs.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    // Maps with text as keys, and text and numbers, always have a JSON form.
    serde_json::to_string_pretty(&server::documented().into_openapi()).unwrap_or_default()
});

/// Get this document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Agent",
    responses((status = 200, description = "The document.", body = Object, content_type = "application/json"))
)]
pub(super) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

#[cfg(test)]
mod tests;
