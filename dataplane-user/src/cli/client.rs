//! A small HTTP client over the agent's unix socket: one connection a call.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::UnixStream;

use super::error::Error;
use crate::api::HEADER;
use crate::api::types::ErrorBody;

/// Speaks to the agent behind one socket.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the agent that listens on `socket`; nothing is opened yet.
    pub(super) fn new(socket: &Path) -> Self {
        Client { socket: socket.into() }
    }

    /// Asks for an object.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.read(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    /// Sends an object and reads the one that is answered.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.read(self.send(Method::POST, path, json(body)?).await?).await
    }

    /// Sends an object; the answer is empty.
    pub(super) async fn command(&self, path: &str, body: &impl Serialize) -> Result<(), Error> {
        self.send(Method::POST, path, json(body)?).await.map(drop)
    }

    /// Removes an object.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Error> {
        self.send(Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    /// Sends an object and reads the answer line by line, as it comes.
    pub(super) async fn stream(&self, path: &str, body: &impl Serialize) -> Result<Lines, Error> {
        let response = self.send(Method::POST, path, json(body)?).await?;
        Ok(Lines { client: self.clone(), body: response.into_body(), buffer: BytesMut::new() })
    }

    /// Asks for objects and reads them line by line, as they come.
    pub(super) async fn lines(&self, path: &str) -> Result<Lines, Error> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(Lines { client: self.clone(), body: response.into_body(), buffer: BytesMut::new() })
    }

    /// Asks for a multiplexed stream and reads it as it comes.
    pub(super) async fn pieces(&self, path: &str) -> Result<Pieces, Error> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(Pieces { client: self.clone(), body: response.into_body(), buffer: BytesMut::new() })
    }

    /// Sends a request; an answer that is an error becomes one.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Error> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied(self.socket.clone()),
            _ => Error::Unreachable(self.socket.clone()),
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.lost(error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "spandrel")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Error::Local(format!("cannot ask for {path}: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| self.lost(error))?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let body = self.collect(response).await?;
            let message = match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(body) => body.message,
                Err(_) => format!("the agent answered {status}: {}", String::from_utf8_lossy(&body).trim()),
            };
            return Err(Error::Refused { status, message });
        }
        Ok(response)
    }

    async fn read<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, Error> {
        parse(&self.collect(response).await?)
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        let body = response.into_body().collect().await.map_err(|error| self.lost(error))?;
        Ok(body.to_bytes())
    }

    fn lost(&self, cause: impl ToString) -> Error {
        Error::Lost { socket: self.socket.clone(), cause: cause.to_string() }
    }
}

/// An answer that comes in lines, each a JSON object.
pub(super) struct Lines {
    client: Client,
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next object, which must come. May be dropped and called again without losing anything.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let next = self.next_if_any().await?;
        next.ok_or_else(|| self.client.lost("the answer ended too early"))
    }

    /// The next object, or none at the end. May be dropped and called again as well.
    pub(super) async fn next_if_any<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return parse(&line).map(Some);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(self.client.lost(error)),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(self.client.lost("the answer ended too early")),
            }
        }
    }
}

/// An answer that comes in pieces, each with the number of its stream.
pub(super) struct Pieces {
    client: Client,
    body: Incoming,
    buffer: BytesMut,
}

impl Pieces {
    /// The next piece, or none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(u8, Bytes)>, Error> {
        loop {
            if let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() {
                let [number, _, _, _, a, b, c, d] = *header;
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if rest.len() >= length {
                    self.buffer.advance(HEADER);
                    return Ok(Some((number, self.buffer.split_to(length).freeze())));
                }
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(self.client.lost(error)),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(self.client.lost("the answer ended too early")),
            }
        }
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| Error::Local(format!("cannot write the request: {error}")))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Local(format!("cannot understand the agent's answer: {error}")))
}

/// A name or id as one segment of a path, whatever the user typed.
pub(super) fn segment(reference: &str) -> String {
    let mut segment = String::new();
    for byte in reference.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => segment.push(char::from(byte)),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

/// The parameter of a list's filters, as Docker's clients write it; empty if there are none.
pub(super) fn filters(conditions: &[(String, String)]) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    let mut filters = BTreeMap::<_, BTreeMap<_, bool>>::new();
    for (name, value) in conditions {
        filters.entry(name).or_default().insert(value, true);
    }
    format!("filters={}", segment(&json!(filters).to_string()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use futures_util::{StreamExt, stream};
    use serde_json::{Value, json};
    use tokio::net::UnixListener;

    use super::*;

    /// A client of a server that answers in all the ways that ours does.
    fn client(dir: &Path) -> Client {
        let lines = ["{\"Id\":", "\"a\"}\n{\"Status", "Code\":3}\n"];
        let whole = async move || Body::from_stream(stream::iter(lines.map(Ok::<_, Infallible>)));
        let broken = async || {
            let first = stream::iter([Ok("{\"Id\":\"a\"}\n{")]);
            // Later, or the first piece would never be sent.
            let end = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(io::Error::other("gone"))
            };
            Body::from_stream(first.chain(stream::once(end)))
        };
        let server = Router::new()
            .route("/object", get(async || "{\"Name\":\"web\"}").delete(async || StatusCode::NO_CONTENT))
            .route("/echo", post(async |body: String| body))
            .route("/refused", get(async || (StatusCode::CONFLICT, "{\"message\":\"name is taken\"}")))
            .route("/odd", get(async || (StatusCode::BAD_GATEWAY, "not ours\n")))
            .route("/whole", post(whole))
            .route("/broken", post(broken));
        let path = dir.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async { axum::serve(listener, server).await });
        Client::new(&path)
    }

    #[tokio::test]
    async fn answers_and_refusals() {
        let dir = tempfile::tempdir().unwrap();
        let client = client(dir.path());
        assert_eq!(client.get::<Value>("/object").await.unwrap(), json!({"Name": "web"}));
        assert_eq!(client.post::<Value>("/echo", &json!({"a": 1})).await.unwrap(), json!({"a": 1}));
        client.delete("/object").await.unwrap();
        let error = client.get::<Value>("/refused").await.unwrap_err();
        assert_eq!(error.to_string(), "name is taken");
        let error = client.get::<Value>("/odd").await.unwrap_err();
        assert_eq!(error.to_string(), "the agent answered 502 Bad Gateway: not ours");
    }

    #[tokio::test]
    async fn lines_come_as_objects() {
        let dir = tempfile::tempdir().unwrap();
        let client = client(dir.path());
        let mut lines = client.stream("/whole", &json!({})).await.unwrap();
        assert_eq!(lines.next::<Value>().await.unwrap(), json!({"Id": "a"}));
        assert_eq!(lines.next::<Value>().await.unwrap(), json!({"StatusCode": 3}));
        assert!(matches!(lines.next::<Value>().await, Err(Error::Lost { .. })));
        assert_eq!(lines.next_if_any::<Value>().await.unwrap(), None);
        let mut lines = client.stream("/broken", &json!({})).await.unwrap();
        assert_eq!(lines.next::<Value>().await.unwrap(), json!({"Id": "a"}));
        assert!(matches!(lines.next::<Value>().await, Err(Error::Lost { .. })));
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let sentence =
            format!("cannot reach the agent at {}: is it running? start it with `sudo spandrel agent`", path.display());
        let absent = Client::new(&path).get::<Value>("/object").await.unwrap_err();
        assert_eq!(absent.to_string(), sentence);
        drop(UnixListener::bind(&path).unwrap());
        let dead = Client::new(&path).get::<Value>("/object").await.unwrap_err();
        assert_eq!(dead.to_string(), sentence);
    }

    #[test]
    fn filters_are_encoded() {
        assert_eq!(filters(&[]), "");
        let conditions =
            [("name", "web"), ("label", "a=b"), ("name", "db")].map(|(name, value)| (name.into(), value.into()));
        let wanted = r#"filters={"label":{"a=b":true},"name":{"db":true,"web":true}}"#;
        assert_eq!(filters(&conditions).strip_prefix("filters="), Some(segment(&wanted[8..]).as_str()));
    }

    #[test]
    fn odd_references_stay_one_segment() {
        assert_eq!(segment("web_1.front-net"), "web_1.front-net");
        assert_eq!(segment("a/b?c d%ü"), "a%2Fb%3Fc%20d%25%C3%BC");
    }
}
