//! Bodies, query strings and references as handlers want them, with errors that Docker's clients can show.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query as AxumQuery, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::error::Refusal;

/// A JSON body, whatever content type it claims; an empty one is `{}`, as for Docker.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
        let text = if bytes.is_empty() { b"{}" } else { bytes.as_ref() };
        serde_json::from_slice(text)
            .map(Body)
            .map_err(|error| Refusal::bad_request(format!("invalid JSON in the request's body: {error}")))
    }
}

/// The parameters of a query string.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        AxumQuery::try_from_uri(&parts.uri)
            .map(|AxumQuery(query)| Query(query))
            .map_err(|rejection| Refusal::bad_request(format!("invalid query: {}", rejection.body_text())))
    }
}

/// What a path is about.
#[derive(Debug, IntoParams)]
#[into_params(names("reference"), parameter_in = Path)]
pub(super) struct Reference(
    /// Its id, its name, or an unambiguous prefix of its id.
    #[param(example = "web")]
    pub(super) String,
);

impl<S: Send + Sync> FromRequestParts<S> for Reference {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Path::from_request_parts(parts, state)
            .await
            .map(|Path(reference)| Reference(reference))
            .map_err(|rejection| Refusal::bad_request(format!("invalid path: {}", rejection.body_text())))
    }
}
