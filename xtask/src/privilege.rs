//! Becoming root for what needs it: programs that load eBPF or make network namespaces. Building never does.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::progress::say;
use crate::workspace::in_path;

/// The words that make what follows them run as root with the caller's environment: none for root, else sudo's.
pub(crate) fn prefix(what: &str) -> Result<&'static [&'static str]> {
    if geteuid().is_root() {
        return Ok(&[]);
    }
    if in_path("sudo").is_empty() {
        bail!("{what} needs root, and there is no sudo here: run this command as root");
    }
    say("Using", format!("sudo: {what} needs root"));
    Ok(&["sudo", "--preserve-env", "--"])
}

/// `program` as a command that runs as root.
pub(crate) fn command(program: &Path, what: &str) -> Result<Command> {
    Ok(match prefix(what)? {
        [] => Command::new(program),
        [sudo, options @ ..] => {
            let mut command = Command::new(sudo);
            command.args(options).arg(program);
            command
        }
    })
}
