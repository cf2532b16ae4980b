//! Doing what was planned, through the API. What fails leaves nothing of what this run had made.

use serde_json::json;

use super::plan::Step;
use crate::api::types::container::PortMap;
use crate::api::types::network::{ConnectRequest, CreateResponse, DisconnectRequest};
use crate::api::types::spandrel::{PublishRequest, Started};
use crate::cli::client::{Client, segment};
use crate::cli::error::Error;
use crate::cli::output;

/// Who may use a port and how fast, unless it says so itself: everybody, without a limit.
const OPEN: ([&str; 2], &str) = (["0.0.0.0/0", "::/0"], "0");

/// Takes all steps, or says why it could not and takes back what it had made.
pub(super) async fn run(client: &Client, steps: &[Step]) -> Result<(), Error> {
    let mut made = Vec::new();
    for step in steps {
        if let Err(error) = take(client, step).await {
            let whole = undo(client, &made).await;
            return Err(match error {
                Error::Unreachable(_) | Error::Denied(_) | Error::Lost { .. } => error,
                error => Error::Local(format!("{}: {error}{}", doing(step), end(made.len(), whole))),
            });
        }
        match step {
            Step::CreateNetwork(request, true) => made.push(format!("/networks/{}", segment(&request.name))),
            Step::CreateContainer(request, true) => {
                made.push(format!("/containers/{}?force=1", segment(&request.name)))
            }
            _ => {}
        }
    }
    Ok(())
}

/// How a failure's sentence ends.
fn end(made: usize, undone: bool) -> &'static str {
    match (made, undone) {
        (0, _) => "",
        (_, true) => "; what this run had made was removed again",
        (_, false) => "; not all that this run had made could be removed again: see `spandrel down`",
    }
}

/// Removes what was made, the last first; whether all of it went.
async fn undo(client: &Client, made: &[String]) -> bool {
    let mut whole = true;
    for path in made.iter().rev() {
        whole &= client.delete(path).await.is_ok();
    }
    whole
}

/// What a step is about, for the sentence that it failed.
fn doing(step: &Step) -> String {
    match step {
        Step::RemoveContainer(name) => format!("removing container {name}"),
        Step::Unpublish(name, _) => format!("taking back ports of container {name}"),
        Step::Disconnect(container, network) => format!("disconnecting container {container} from network {network}"),
        Step::RemoveNetwork(name) => format!("removing network {name}"),
        Step::CreateNetwork(request, _) => format!("making network {}", request.name),
        Step::Connect(container, network, _) => format!("connecting container {container} to network {network}"),
        Step::CreateContainer(request, _) => format!("making container {}", request.name),
        Step::Start(name) => format!("starting container {name}"),
        Step::Publish(name, _) => format!("publishing ports of container {name}"),
    }
}

async fn take(client: &Client, step: &Step) -> Result<(), Error> {
    let nothing = json!({});
    match step {
        Step::RemoveContainer(name) => gone(client.delete(&format!("/containers/{}?force=1", segment(name))).await),
        Step::RemoveNetwork(name) => gone(client.delete(&format!("/networks/{}", segment(name))).await),
        Step::Unpublish(name, ports) => {
            let request = PublishRequest { publish: ports.clone(), ..Default::default() };
            client.command(&format!("/spandrel/containers/{}/unpublish", segment(name)), &request).await
        }
        Step::Publish(name, ports) => {
            let (clients, rate) = OPEN;
            let request = PublishRequest {
                publish: ports.clone(),
                allow_from: clients.map(String::from).to_vec(),
                rate_limit: rate.into(),
            };
            client.post::<PortMap>(&format!("/spandrel/containers/{}/publish", segment(name)), &request).await.map(drop)
        }
        Step::Disconnect(container, network) => {
            let request = DisconnectRequest { container: container.clone(), force: false };
            client.command(&format!("/networks/{}/disconnect", segment(network)), &request).await
        }
        Step::Connect(container, network, endpoint) => {
            let endpoint_config = Some(endpoint.as_ref().clone());
            let request = ConnectRequest { container: container.clone(), endpoint_config };
            client.command(&format!("/networks/{}/connect", segment(network)), &request).await
        }
        Step::CreateNetwork(request, _) => {
            let created: CreateResponse = client.post("/networks/create", request).await?;
            if !created.warning.is_empty() {
                output::complain(format_args!("warning: network {}: {}", request.name, created.warning));
            }
            Ok(())
        }
        Step::CreateContainer(request, _) => {
            let started: Started = client.post("/spandrel/containers/run", request).await?;
            let name = &request.name;
            started.warnings.iter().for_each(|warning| {
                output::complain(format_args!("warning: container {name}: {warning}"));
            });
            Ok(())
        }
        Step::Start(name) => client.command(&format!("/containers/{}/start", segment(name)), &nothing).await,
    }
}

/// What somebody else has removed meanwhile is gone all the same.
fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}
