//! `spandrel inspect`: containers and networks as JSON.

use std::process::ExitCode;

use serde::Serialize;

use super::args::{Inspect, Kind, ListFormat};
use super::client::{Client, segment};
use super::error::Error;
use super::{Outcome, output};
use crate::api::types::container::ContainerInspect;
use crate::api::types::network::Network;

/// What a reference may stand for.
#[derive(Serialize)]
#[serde(untagged)]
enum Object {
    Container(Box<ContainerInspect>),
    Network(Box<Network>),
}

/// Prints an array with all objects that were found.
pub(super) async fn run(client: &Client, command: Inspect) -> Outcome {
    let find = async |reference: &str| match command.kind {
        None => find(client, reference).await,
        Some(kind) => find_kind(client, kind, reference).await,
    };
    print_found(command.format.format.as_ref(), &command.objects, find).await
}

async fn find_kind(client: &Client, kind: Kind, reference: &str) -> Result<Object, Error> {
    let name = segment(reference);
    Ok(match kind {
        Kind::Container => Object::Container(client.get(&format!("/containers/{name}/json")).await?),
        Kind::Network => Object::Network(client.get(&format!("/networks/{name}")).await?),
    })
}

/// A container by that name or id, else a network.
async fn find(client: &Client, reference: &str) -> Result<Object, Error> {
    let name = segment(reference);
    let no_container = match client.get(&format!("/containers/{name}/json")).await {
        Ok(container) => return Ok(Object::Container(container)),
        Err(error) if error.is_not_found() => error,
        Err(error) => return Err(error),
    };
    match client.get(&format!("/networks/{name}")).await {
        Ok(network) => Ok(Object::Network(network)),
        Err(no_network) if no_network.is_not_found() => Err(neither(reference, &no_container, &no_network)),
        Err(error) => Err(error),
    }
}

/// Both sentences say what was not found, and perhaps what was meant: keep the hints.
fn neither(reference: &str, no_container: &Error, no_network: &Error) -> Error {
    let hints =
        [no_container, no_network].map(|error| error.to_string().split_once("; ").map(|(_, hint)| hint.to_string()));
    let mut sentence = format!("No such container or network: {reference}");
    if let Some(hint) = hints.into_iter().flatten().next() {
        sentence.push_str(&format!("; {hint}"));
    }
    Error::Local(sentence)
}

/// Prints what `find` finds, all as one JSON array unless `format` says how, and a sentence for each reference that it does not.
pub(super) async fn print_found<T: Serialize>(
    format: Option<&ListFormat>,
    references: &[String],
    find: impl AsyncFn(&str) -> Result<T, Error>,
) -> Outcome {
    let mut found = Vec::new();
    let mut code = ExitCode::SUCCESS;
    let mut missing = Vec::new();
    for reference in references {
        match find(reference).await {
            Ok(object) => found.push(object),
            Err(error @ (Error::Unreachable(_) | Error::Denied(_))) => return Err(error),
            Err(error) => missing.push(error),
        }
    }
    output::print_objects(format, &found)?;
    for error in missing {
        output::complain(error);
        code = ExitCode::FAILURE;
    }
    Ok(code)
}
