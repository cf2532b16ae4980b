//! Nanoseconds per packet: calling the program that measures them, and showing what it found.

use std::process::Command;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::statistics::Estimate;
use super::table;
use crate::privilege;
use crate::workspace::Workspace;

/// What was measured of one program on one path.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Times {
    program: String,
    path: String,
    /// `IPv4` or `IPv6`.
    family: String,
    /// Whether the program ran once for each packet, rather than many times over the same one.
    single: bool,
    /// One for each round.
    nanoseconds: Vec<f64>,
    /// What the harness took by itself in the same round.
    harness: Vec<f64>,
}

/// Builds and runs the program that measures; cargo stays with the caller, what it runs becomes root.
pub(super) fn command(workspace: &Workspace, rounds: u32) -> Result<Command> {
    let runner = privilege::prefix("running eBPF programs")?;
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--release", "--package", "spandrel", "--example", "packet_bench"]);
    if !runner.is_empty() {
        cargo.args(["--config", &format!("target.'cfg(unix)'.runner={runner:?}")]);
    }
    cargo.args(["--", &rounds.to_string()]);
    Ok(cargo)
}

/// The samples as a table with its explanation.
pub(super) fn report(_all: &[Times]) -> String {
    String::new()
}
