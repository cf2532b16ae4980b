//! Routes, and the loop that accepts connections.

use std::io;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn;
use axum::routing::{delete, get};
use tokio::net::UnixListener;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::Refusal;
use super::extract::Reference;
use super::peer::Peer;
use super::{attachments, containers, drops, events, networks, openapi, ports, record, system, version};
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

/// All routes. What the document does not have is Docker's too: a network or container may be called like a call.
fn routes() -> Router<Handle> {
    let (router, _) = documented().split_for_parts();
    let network = |name: &'static str| {
        get(move |agent| networks::inspect(agent, Reference(name.into())))
            .delete(move |agent| networks::remove(agent, Reference(name.into())))
    };
    let container =
        |name: &'static str| delete(move |agent, query| containers::remove(agent, Reference(name.into()), query));
    router
        .route("/networks/create", network("create"))
        .route("/networks/prune", network("prune"))
        .route("/containers/json", container("json"))
        .fallback(async |method: Method, uri: Uri| {
            Refusal::new(StatusCode::NOT_FOUND, format!("there is no call {method} {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("there is no call {method} {}", uri.path()))
        })
}

/// The routes with what the document says of them: both come from one place, the handler's own.
pub(super) fn documented() -> OpenApiRouter<Handle> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(networks::list))
        .routes(routes!(networks::create))
        .routes(routes!(networks::prune))
        .routes(routes!(networks::inspect, networks::remove))
        .routes(routes!(networks::connect))
        .routes(routes!(networks::disconnect))
        .routes(routes!(containers::list))
        .routes(routes!(containers::inspect))
        .routes(routes!(containers::start))
        .routes(routes!(containers::stop))
        .routes(routes!(containers::restart))
        .routes(routes!(containers::kill))
        .routes(routes!(containers::wait))
        .routes(routes!(containers::rename))
        .routes(routes!(containers::logs))
        .routes(routes!(containers::remove))
        .routes(routes!(system::ping))
        .routes(routes!(system::version))
        .routes(routes!(system::info))
        .routes(routes!(events::stream))
        .routes(routes!(openapi::document))
        .routes(routes!(containers::run))
        .routes(routes!(containers::start_attached))
        .routes(routes!(containers::exec))
        .routes(routes!(containers::publish))
        .routes(routes!(containers::unpublish))
        .routes(routes!(containers::kill_exec))
        .routes(routes!(attachments::attach, attachments::list))
        .routes(routes!(attachments::detach))
        .routes(routes!(attachments::check))
        .routes(routes!(ports::stats))
        .routes(routes!(drops::list))
        .routes(routes!(record::show))
}

#[cfg(test)]
mod tests {
    use axum::extract::Path;
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
