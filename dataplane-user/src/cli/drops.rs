//! `spandrel drops`: which packets were dropped, and why.

use std::process::ExitCode;

use serde_json::json;

use super::args::Drops;
use super::client::Client;
use super::{Outcome, output};
use crate::api::types::spandrel::Drop;

/// Prints the counters, one line for each reason and place.
pub(super) async fn run(client: &Client, command: Drops) -> Outcome {
    let drops: Vec<Drop> = client.get("/spandrel/drops").await?;
    output::print_list(
        command.format.format,
        &drops,
        &["REASON", "ENDPOINT", "PACKETS", "BYTES", "DESCRIPTION"],
        |drop| {
            vec![
                drop.reason.clone(),
                endpoint(drop),
                drop.packets.to_string(),
                drop.bytes.to_string(),
                drop.description.clone(),
            ]
        },
        |drop| json!(drop),
    )?;
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
