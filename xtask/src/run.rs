//! `cargo xtask run`: the agent from the sources in one step.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};
use clap::Args;

use crate::build;
use crate::privilege;
use crate::progress::say;
use crate::workspace::Workspace;

/// Build, then run the agent in the foreground until Ctrl-C
///
/// Builds as `cargo xtask build` does and becomes `spandrel agent AGENT OPTIONS`, through sudo where the caller is
/// not root. What the agent logs is printed here. `cargo xtask run -- --help` lists the agent's options.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    profile: build::Profile,

    /// Options for the agent, as in `cargo xtask run -- --teardown`
    #[arg(last = true, value_name = "AGENT OPTIONS")]
    agent: Vec<OsString>,
}

/// Builds and becomes the agent; returns only where that fails.
pub(crate) fn run(workspace: &Workspace, args: &RunArgs) -> Result<()> {
    let spandrel = build::spandrel(workspace, args.profile)?;
    let mut agent = privilege::command(&spandrel, "the agent")?;
    agent.arg("agent").args(&args.agent);
    say("Running", format!("{} agent", workspace.display(&spandrel)));
    // Replacing this process leaves the terminal's signals and the exit code to the agent alone.
    Err(agent.exec()).with_context(|| format!("cannot start {}", spandrel.display()))
}
