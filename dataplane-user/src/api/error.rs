//! Errors on the wire: Docker's status codes and a body with one sentence.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa::IntoResponses;
use utoipa::openapi::{Content, Ref, RefOr, Response as Documented, ResponseBuilder};

use super::types::ErrorBody;
use crate::model::{Error, ErrorKind};

/// What a handler answers when it cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    /// A refusal with a status that no model error has.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into() }
    }

    /// The request itself is wrong.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { message: self.message })).into_response()
    }
}

/// What every call may answer instead of what it is for, as the API's document has it.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let refusals = [
            ("400", "The request makes no sense."),
            ("403", "It must not be."),
            ("404", "What it is about does not exist."),
            ("409", "Something else stands in its way."),
            ("500", "The agent could not do it."),
        ];
        let content = || Content::new(Some(Ref::from_schema_name("ErrorBody")));
        let response = |text| ResponseBuilder::new().description(text).content("application/json", content()).build();
        refusals.map(|(status, text)| (status.into(), response(text).into())).into()
    }
}
