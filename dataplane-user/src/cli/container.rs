//! `spandrel ps`, `stop`, `restart`, `rename` and `rm`.

use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::args::container::{Ps, Rename, Restart, Rm, Stop};
use super::client::{Client, segment};
use super::{Done, Outcome, for_each, output, ports};
use crate::api::human;
use crate::api::types::container::ContainerSummary;

/// Characters of a command that a table shows.
const COMMAND_WIDTH: usize = 20;

/// Lists containers.
pub(super) async fn ps(client: &Client, command: Ps) -> Outcome {
    let path = if command.all { "/containers/json?all=1" } else { "/containers/json" };
    let containers: Vec<ContainerSummary> = client.get(path).await?;
    let whole = command.listing.no_trunc;
    if command.listing.quiet {
        output::lines(containers.iter().map(|container| output::id(&container.id, whole)))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print_list(
        command.listing.format.format,
        &containers,
        &["CONTAINER ID", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"],
        |container| {
            vec![
                output::id(&container.id, whole).into(),
                shown_command(container, whole),
                created(container).map(|moment| human::ago(moment, Timestamp::now())).unwrap_or_default(),
                container.status.clone(),
                ports::column(&container.ports),
                name(container),
            ]
        },
        |container| {
            let networks: Vec<_> = container.network_settings.networks.keys().map(String::as_str).collect();
            let created = created(container);
            json!({
                "Command": shown_command(container, whole),
                "CreatedAt": created.map(created_at).unwrap_or_default(),
                "ID": output::id(&container.id, whole),
                "Labels": output::labels(&container.labels),
                "Names": name(container),
                "Networks": networks.join(","),
                "Ports": ports::column(&container.ports),
                "RunningFor": created.map(|moment| human::ago(moment, Timestamp::now())).unwrap_or_default(),
                "State": container.state,
                "Status": container.status,
            })
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

fn created(container: &ContainerSummary) -> Option<Timestamp> {
    Timestamp::from_second(container.created).ok()
}

/// A moment as Go prints it, in the local time zone.
fn created_at(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

fn shown_command(container: &ContainerSummary, whole: bool) -> String {
    match whole {
        true => format!("{:?}", container.command),
        false => format!("{:?}", output::ellipsis(&container.command, COMMAND_WIDTH)),
    }
}

fn name(container: &ContainerSummary) -> String {
    let name = container.names.first().map(String::as_str).unwrap_or_default();
    name.trim_start_matches('/').to_string()
}

/// Stops containers.
pub(super) async fn stop(client: &Client, command: Stop) -> Outcome {
    let query = command.timeout.map(|seconds| format!("?t={seconds}")).unwrap_or_default();
    for_each(&command.containers, async |reference| {
        client.command(&format!("/containers/{}/stop{query}", segment(reference)), &json!({})).await?;
        Ok(Done::Yes)
    })
    .await
}

/// Stops containers and starts them again.
pub(super) async fn restart(client: &Client, command: Restart) -> Outcome {
    let query = command.timeout.map(|seconds| format!("?t={seconds}")).unwrap_or_default();
    for_each(&command.containers, async |reference| {
        client.command(&format!("/containers/{}/restart{query}", segment(reference)), &json!({})).await?;
        Ok(Done::Yes)
    })
    .await
}

/// Gives a container another name.
pub(super) async fn rename(client: &Client, command: Rename) -> Outcome {
    let path = format!("/containers/{}/rename?name={}", segment(&command.container), segment(&command.name));
    client.command(&path, &json!({})).await?;
    Ok(ExitCode::SUCCESS)
}

/// Removes containers.
pub(super) async fn rm(client: &Client, command: Rm) -> Outcome {
    let query = if command.force { "?force=1" } else { "" };
    for_each(&command.containers, async |reference| {
        match client.delete(&format!("/containers/{}{query}", segment(reference))).await {
            // As in Docker, worth a word but no failure: it is gone, as it should be.
            Err(error) if command.force && error.is_not_found() => {
                output::complain(error);
                Ok(Done::Nothing)
            }
            result => result.map(|()| Done::Yes),
        }
    })
    .await
}
