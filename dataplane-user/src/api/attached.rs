//! The answer to an attached run or exec: one line of JSON when the command starts, one when it ends.
//!
//! The command's output does not come this way: it writes to the client's own terminal or files. The
//! open answer tells the client when to go, and with which exit code.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::types::container::WaitResponse;
use super::types::spandrel::Started;
use crate::agent::ExitWatch;
use crate::model::Error;

/// Says at once that the command has started, and later how it ended. If the agent ends before the
/// command, the answer breaks off.
pub(super) fn answer(started: Started, exit: ExitWatch) -> Response {
    let first = line(&started);
    let last = async move {
        let code = exit.wait().await?;
        Ok::<_, Error>(line(&WaitResponse { status_code: code.into() }))
    };
    let lines = stream::iter([Ok(first)]).chain(stream::once(last));
    (StatusCode::CREATED, [(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line(value: &impl Serialize) -> Bytes {
    // Text, numbers and lists of text always have a JSON form.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
