//! The agent's API over one connection that stays open: what is timed is the operation, not a program that starts.

use std::path::Path;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::{self, Runtime};

/// A connection to an agent.
pub(in crate::bench) struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the agent behind that socket.
    pub(in crate::bench) fn connect(socket: &Path) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let connected = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            anyhow::Ok(sender)
        });
        let sender = connected.with_context(|| format!("cannot reach the agent at {}", socket.display()))?;
        Ok(Self { runtime, sender })
    }

    /// Sends a request and gives the answer's body, which must not be an error. It is not parsed, which is
    /// no part of the operation and takes long for 10,000 ports, since nothing is optimized here.
    pub(in crate::bench) fn send(&mut self, method: Method, path: &str, body: &Value) -> Result<Bytes> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header("Host", "spandrel")
            .header("Content-Type", "application/json")
            .body(Full::from(body))?;
        let (status, body) = self.runtime.block_on(async {
            let response = self.sender.send_request(request).await?;
            anyhow::Ok((response.status(), response.into_body().collect().await?.to_bytes()))
        })?;
        if !status.is_success() {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Makes a network.
    pub(in crate::bench) fn create_network(&mut self, name: &str, subnet: Option<&str>) -> Result<()> {
        let config: Vec<_> = subnet.map(|subnet| serde_json::json!({"Subnet": subnet})).into_iter().collect();
        let body = serde_json::json!({"Name": name, "Driver": "bridge", "IPAM": {"Config": config}});
        self.send(Method::POST, "/networks/create", &body).map(drop)
    }

    /// Removes a network.
    pub(in crate::bench) fn remove_network(&mut self, name: &str) -> Result<()> {
        self.send(Method::DELETE, &format!("/networks/{name}"), &Value::Null).map(drop)
    }

    /// Gives a namespace of [`super::crowd::Crowd`]'s host an interface on a network.
    pub(in crate::bench) fn attach(&mut self, netns: &str, network: &str) -> Result<Value> {
        let body = serde_json::json!({"Netns": format!("/run/netns/{netns}"), "Name": netns, "Network": network});
        Ok(serde_json::from_slice(&self.send(Method::POST, "/spandrel/attachments", &body)?)?)
    }

    /// Takes it away again.
    pub(in crate::bench) fn detach(&mut self, netns: &str) -> Result<()> {
        self.send(Method::DELETE, &format!("/spandrel/attachments/{netns}"), &Value::Null).map(drop)
    }

    /// Publishes ports of a container, written as `-p` takes them.
    pub(in crate::bench) fn publish(&mut self, container: &str, ports: &[String]) -> Result<()> {
        let body = serde_json::json!({"Publish": ports});
        self.send(Method::POST, &format!("/spandrel/containers/{container}/publish"), &body).map(drop)
    }

    /// Takes them back.
    pub(in crate::bench) fn unpublish(&mut self, container: &str, ports: &[String]) -> Result<()> {
        let body = serde_json::json!({"Publish": ports});
        self.send(Method::POST, &format!("/spandrel/containers/{container}/unpublish"), &body).map(drop)
    }
}
