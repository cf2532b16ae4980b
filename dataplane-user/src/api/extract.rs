//! Bodies and query strings as handlers want them, with errors that Docker's clients can show.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query as AxumQuery, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use super::query::Query;

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

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        AxumQuery::try_from_uri(&parts.uri)
            .map(|AxumQuery(query)| query)
            .map_err(|rejection| Refusal::bad_request(format!("invalid query: {}", rejection.body_text())))
    }
}
