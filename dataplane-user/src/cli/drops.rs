//! `spandrel drops`: which packets were dropped, and why.

use std::process::ExitCode;

use serde_json::json;

use super::args::Drops;
use super::client::Client;
use super::output::Table;
use super::{Outcome, output};
use crate::api::types::spandrel::Drop;

const TABLE: Table = Table {
    row: "{{.Reason}}\t{{.Endpoint}}\t{{.Packets}}\t{{.Bytes}}\t{{.Description}}",
    titles: &[
        ("Reason", "REASON"),
        ("Endpoint", "ENDPOINT"),
        ("Packets", "PACKETS"),
        ("Bytes", "BYTES"),
        ("Description", "DESCRIPTION"),
        ("Container", "CONTAINER"),
        ("Network", "NETWORK"),
    ],
};

/// Prints the counters, one line for each reason and place.
pub(super) async fn run(client: &Client, command: Drops) -> Outcome {
    let drops: Vec<Drop> = client.get("/spandrel/drops").await?;
    let row = |drop: &Drop| {
        let mut row = json!(drop);
        row["Endpoint"] = endpoint(drop).into();
        row
    };
    output::print_list(&command.format.format, &drops.iter().map(row).collect::<Vec<_>>(), &TABLE)?;
    Ok(ExitCode::SUCCESS)
}

/// `container/network`, or a dash if the packets belonged to no container.
fn endpoint(drop: &Drop) -> String {
    match (drop.container.as_str(), drop.network.as_str()) {
        ("", _) => "-".into(),
        (container, "") => container.into(),
        (container, network) => format!("{container}/{network}"),
    }
}
