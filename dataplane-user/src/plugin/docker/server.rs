//! The calls by name, and how they are carried.

use std::future::Future;
use std::io;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::UnixListener;

use super::types::{Activated, Nothing};
use super::{Plugin, ipam, network};
use crate::model::{Error, Result};

/// What dockerd asks for in its `Accept`.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// Answers calls until the future is dropped.
pub(super) async fn serve(plugin: Plugin, listener: UnixListener) -> io::Result<()> {
    axum::serve(listener, routes().with_state(plugin)).await
}

/// All calls. Each protocol has its own name for what went wrong.
pub(super) fn routes() -> Router<Plugin> {
    Router::new()
        .route("/Plugin.Activate", call("Err", activate))
        .route("/NetworkDriver.GetCapabilities", call("Err", network::capabilities))
        .route("/NetworkDriver.CreateNetwork", call("Err", network::create))
        .route("/NetworkDriver.DeleteNetwork", call("Err", network::delete))
        .route("/NetworkDriver.AllocateNetwork", call("Err", network::allocate))
        .route("/NetworkDriver.FreeNetwork", call("Err", network::nothing))
        .route("/NetworkDriver.CreateEndpoint", call("Err", network::create_endpoint))
        .route("/NetworkDriver.EndpointOperInfo", call("Err", network::endpoint_info))
        .route("/NetworkDriver.DeleteEndpoint", call("Err", network::delete_endpoint))
        .route("/NetworkDriver.Join", call("Err", network::join))
        .route("/NetworkDriver.Leave", call("Err", network::leave))
        .route("/NetworkDriver.ProgramExternalConnectivity", call("Err", network::publish))
        .route("/NetworkDriver.RevokeExternalConnectivity", call("Err", network::unpublish))
        .route("/NetworkDriver.DiscoverNew", call("Err", network::nothing))
        .route("/NetworkDriver.DiscoverDelete", call("Err", network::nothing))
        .route("/IpamDriver.GetCapabilities", call("Error", ipam::capabilities))
        .route("/IpamDriver.GetDefaultAddressSpaces", call("Error", ipam::address_spaces))
        .route("/IpamDriver.RequestPool", call("Error", ipam::request_pool))
        .route("/IpamDriver.ReleasePool", call("Error", ipam::release_pool))
        .route("/IpamDriver.RequestAddress", call("Error", ipam::request_address))
        .route("/IpamDriver.ReleaseAddress", call("Error", ipam::release_address))
        .fallback(unknown)
}

async fn activate(_: Plugin, _: Nothing) -> Result<Activated> {
    Ok(Activated { implements: ["NetworkDriver", "IpamDriver"] })
}

/// A newer dockerd may know more calls than we do.
async fn unknown(uri: Uri) -> Response {
    let call = uri.path().trim_start_matches('/');
    let sentence = format!(
        "Spandrel {} does not know Docker's call {call}: install a newer one, or an older Docker",
        env!("CARGO_PKG_VERSION")
    );
    answer(StatusCode::NOT_FOUND, &json!({ "Err": sentence, "Error": sentence }))
}

/// A handler that reads the call, whatever its media type is said to be (dockerd names none), and answers with what came of it.
fn call<Q, A, F>(
    error: &'static str,
    work: impl Fn(Plugin, Q) -> F + Copy + Send + Sync + 'static,
) -> MethodRouter<Plugin>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
{
    post(async move |State(plugin): State<Plugin>, uri: Uri, body: Bytes| {
        tracing::debug!(call = uri.path(), body = %String::from_utf8_lossy(&body), "Docker");
        let done = match read(&body) {
            Ok(call) => work(plugin, call).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => answer(StatusCode::OK, &done),
            Err(sentence) => {
                tracing::warn!("refused Docker's call {}: {sentence}", uri.path().trim_start_matches('/'));
                answer(StatusCode::OK, &json!({ error: sentence.to_string() }))
            }
        }
    })
}

fn read<Q: DeserializeOwned>(body: &[u8]) -> Result<Q> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Error::Invalid(format!("the call does not read: {error}")))
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    // Text, numbers, lists and maps of text always have a JSON form.
    let body = serde_json::to_vec(body).unwrap_or_default();
    (status, [(CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
}
