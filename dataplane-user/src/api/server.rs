//! Routes, and the loop that accepts connections.

use std::io;

use axum::Router;
use axum::extract::Path;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn;
use axum::routing::{delete, get, post};
use tokio::net::UnixListener;

use super::error::Refusal;
use super::peer::Peer;
use super::{containers, drops, events, networks, ports, system, version};
use crate::agent::Handle;

/// Answers requests on `listener` until the future is dropped; connections that are open then go on
/// until their answers are complete.
pub async fn serve(handle: Handle, listener: UnixListener) -> io::Result<()> {
    let app = versioned(routes().with_state(handle));
    axum::serve(listener, app.into_make_service_with_connect_info::<Peer>()).await
}

/// The routes, with and without a version in front. The version has to go before anything is routed, so
/// all routes stand behind the fallback of a router that has nothing else.
fn versioned(routes: Router) -> Router {
    Router::new().fallback_service(routes).layer(from_fn(version::negotiate))
}

fn routes() -> Router<Handle> {
    Router::new()
        .merge(system())
        .merge(networks())
        .merge(containers())
        .merge(spandrel())
        .fallback(async |method: Method, uri: Uri| {
            Refusal::new(StatusCode::NOT_FOUND, format!("there is no call {method} {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("there is no call {method} {}", uri.path()))
        })
}

fn system() -> Router<Handle> {
    Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/events", get(events::stream))
}

fn networks() -> Router<Handle> {
    Router::new()
        .route("/networks", get(networks::list))
        // A network may be called `create`, too.
        .route(
            "/networks/create",
            post(networks::create)
                .get(|agent| networks::inspect(agent, Path("create".into())))
                .delete(|agent| networks::remove(agent, Path("create".into()))),
        )
        // And `prune`.
        .route(
            "/networks/prune",
            post(networks::prune)
                .get(|agent| networks::inspect(agent, Path("prune".into())))
                .delete(|agent| networks::remove(agent, Path("prune".into()))),
        )
        .route("/networks/{reference}", get(networks::inspect).delete(networks::remove))
        .route("/networks/{reference}/connect", post(networks::connect))
        .route("/networks/{reference}/disconnect", post(networks::disconnect))
}

fn containers() -> Router<Handle> {
    Router::new()
        // A container may be called `json`, too.
        .route(
            "/containers/json",
            get(containers::list).delete(|agent, query| containers::remove(agent, Path("json".into()), query)),
        )
        .route("/containers/{reference}", delete(containers::remove))
        .route("/containers/{reference}/json", get(containers::inspect))
        .route("/containers/{reference}/start", post(containers::start))
        .route("/containers/{reference}/restart", post(containers::restart))
        .route("/containers/{reference}/rename", post(containers::rename))
        .route("/containers/{reference}/logs", get(containers::logs))
        .route("/containers/{reference}/stop", post(containers::stop))
        .route("/containers/{reference}/kill", post(containers::kill))
        .route("/containers/{reference}/wait", post(containers::wait))
}

fn spandrel() -> Router<Handle> {
    Router::new()
        .route("/spandrel/containers/run", post(containers::run))
        .route("/spandrel/containers/{reference}/start", post(containers::start_attached))
        .route("/spandrel/containers/{reference}/exec", post(containers::exec))
        .route("/spandrel/containers/{reference}/publish", post(containers::publish))
        .route("/spandrel/containers/{reference}/unpublish", post(containers::unpublish))
        .route("/spandrel/exec/{id}/kill", post(containers::kill_exec))
        .route("/spandrel/ports", get(ports::stats))
        .route("/spandrel/drops", get(drops::list))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    /// Sends one request over a real socket to a router that tells what it was asked.
    async fn ask(line: &str) -> String {
        let echo = Router::new()
            .route("/networks/{reference}", get(async |Path(name): Path<String>, uri: Uri| format!("{name} of {uri}")));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async { axum::serve(listener, versioned(echo)).await });
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    #[tokio::test]
    async fn a_version_may_stand_in_front() {
        for path in ["/networks/web%2F1?a=b", "/v1.50/networks/web%2F1?a=b"] {
            let answer = ask(&format!("GET {path}")).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.ends_with("web/1 of /networks/web%2F1?a=b"), "{answer}");
            assert!(answer.contains("\r\napi-version: 1.51\r\n"), "{answer}");
        }
    }

    #[tokio::test]
    async fn foreign_versions_are_refused() {
        let answer = ask("GET /v1.99/networks/web").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains(r#"{"message":"client version 1.99 is too new"#), "{answer}");
        let answer = ask("GET /v1.50").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
}
