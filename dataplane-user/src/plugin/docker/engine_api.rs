//! What dockerd is asked: the Engine API's lists of containers and networks, and its events.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::model::{KnownContainer, KnownNetwork};

/// Of the events only that there is one matters. `{"type":["container","network"],"event":["create","start","rename","connect"]}`, since
/// each health check is an event, too.
const EVENTS: &str = "/events?filters=%7B%22type%22:%5B%22container%22,%22network%22%5D,%22event%22:%5B%22create%22,%22start%22,%22rename%22,%22connect%22%5D%7D";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: BTreeMap<String, Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    #[serde(rename = "EndpointID", default)]
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    id: String,
    name: String,
    #[serde(rename = "IPAM", default)]
    ipam: Ipam,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    config: Option<Vec<IpamConfig>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IpamConfig {
    subnet: String,
}

/// The running containers, one entry for each of their endpoints.
pub(super) async fn containers(socket: &Path) -> io::Result<Vec<KnownContainer>> {
    let containers: Vec<Container> = read(socket, "/containers/json").await?;
    Ok(containers.iter().flat_map(known).collect())
}

fn known(container: &Container) -> impl Iterator<Item = KnownContainer> {
    // Those with a second slash are what others call it that are linked to it.
    let mut names = container.names.iter().filter_map(|name| name.strip_prefix('/'));
    let name = names.find(|name| !name.contains('/'));
    let endpoints = container.network_settings.networks.values();
    endpoints.filter_map(move |endpoint| {
        let (endpoint, id) = (endpoint.id.parse().ok()?, container.id.parse().ok()?);
        Some(KnownContainer { endpoint, id, name: name?.to_owned() })
    })
}

/// All networks.
pub(super) async fn networks(socket: &Path) -> io::Result<Vec<KnownNetwork>> {
    let networks: Vec<Network> = read(socket, "/networks").await?;
    let known = networks.into_iter().filter_map(|Network { id, name, ipam }| {
        let subnets = ipam.config.unwrap_or_default().into_iter().filter_map(|config| config.subnet.parse().ok());
        Some(KnownNetwork { id: id.parse().ok()?, name, subnets: subnets.collect() })
    });
    Ok(known.collect())
}

/// Calls `happened` at every event, until dockerd ends.
pub(super) async fn events(socket: &Path, happened: impl Fn()) -> io::Result<()> {
    let mut body = get(socket, EVENTS).await?.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(io::Error::other)?;
        happened();
    }
    Ok(())
}

async fn read<T: DeserializeOwned>(socket: &Path, path: &str) -> io::Result<T> {
    let body = get(socket, path).await?.into_body().collect().await.map_err(io::Error::other)?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

async fn get(socket: &Path, path: &str) -> io::Result<Response<Incoming>> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, "docker").body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(io::Error::other(format!("{path} was answered with {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_each_of_its_endpoints() {
        let (id, first, second) = ("c".repeat(64), "1".repeat(64), "2".repeat(64));
        let listed = serde_json::json!({
            "Id": id,
            "Names": ["/other/alias", "/web"],
            "NetworkSettings": {"Networks": {
                "front": {"EndpointID": first}, "back": {"EndpointID": second}, "host": {"EndpointID": ""},
            }},
        });
        let container: Container = serde_json::from_value(listed).unwrap();
        let known: Vec<_> = known(&container).collect();
        let expected = [second, first].map(|endpoint| KnownContainer {
            endpoint: endpoint.parse().unwrap(),
            id: id.parse().unwrap(),
            name: "web".into(),
        });
        assert_eq!(known, expected);
    }
}
