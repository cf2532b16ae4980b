//! `spandrel ps`, `stop`, `restart`, `rename` and `rm`.

use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::args::ListFormat;
use super::args::container::{Ending, Ps, Rename, Restart, Rm, Stop};
use super::client::{Client, filters, segment};
use super::output::Table;
use super::template::LABELS;
use super::{Done, Outcome, for_each, output, ports};
use crate::api::human;
use crate::api::types::container::ContainerSummary;

/// Characters of a command that a table shows.
const COMMAND_WIDTH: usize = 20;

const TABLE: Table = Table {
    row: "{{.ID}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("Image", "IMAGE"),
        ("Labels", "LABELS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Mounts", "MOUNTS"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Ports", "PORTS"),
        ("RunningFor", "CREATED"),
        ("State", "STATE"),
        ("Status", "STATUS"),
    ],
};

/// Lists containers.
pub(super) async fn ps(client: &Client, command: Ps) -> Outcome {
    let limit = if command.latest { Some(1) } else { command.last };
    let limit = limit.map(|limit| format!("limit={limit}&")).unwrap_or_default();
    let all = if command.all { "all=1&" } else { "" };
    let path = format!("/containers/json?{all}{limit}{}", filters(&command.listing.filter));
    let containers: Vec<ContainerSummary> = client.get(&path).await?;
    let listing = command.listing;
    let whole = listing.no_trunc;
    if listing.quiet && listing.format.format == ListFormat::Table {
        output::lines(containers.iter().map(|container| output::id(&container.id, whole)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = containers.iter().map(|container| row(container, whole)).collect();
    output::print_list(&listing.format.format, &rows, &TABLE)?;
    Ok(ExitCode::SUCCESS)
}

/// What Docker's list shows of a container. What ours never have is as empty as Docker's would be.
fn row(container: &ContainerSummary, whole: bool) -> Value {
    let networks: Vec<_> = container.network_settings.networks.keys().map(String::as_str).collect();
    let created = created(container);
    json!({
        "Command": shown_command(container, whole),
        "CreatedAt": created.map(created_at).unwrap_or_default(),
        "ID": output::id(&container.id, whole),
        "Image": container.image,
        "Labels": output::labels(&container.labels),
        "LocalVolumes": "0",
        "Mounts": "",
        "Names": name(container),
        "Networks": networks.join(","),
        "Ports": ports::column(&container.ports),
        "RunningFor": created.map(|moment| human::ago(moment, Timestamp::now())).unwrap_or_default(),
        "State": container.state,
        "Status": container.status,
        LABELS: container.labels,
    })
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
    end(client, "stop", command.ending).await
}

/// Has containers ended by one of the calls that do.
async fn end(client: &Client, call: &str, ending: Ending) -> Outcome {
    let signal = ending.signal.map(|signal| format!("signal={}", segment(&signal)));
    let timeout = ending.timeout.map(|seconds| format!("t={seconds}"));
    let query = signal.into_iter().chain(timeout).collect::<Vec<_>>().join("&");
    for_each(&ending.containers, async |reference| {
        client.command(&format!("/containers/{}/{call}?{query}", segment(reference)), &json!({})).await?;
        Ok(Done::Yes)
    })
    .await
}

/// Stops containers and starts them again.
pub(super) async fn restart(client: &Client, command: Restart) -> Outcome {
    end(client, "restart", command.ending).await
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
