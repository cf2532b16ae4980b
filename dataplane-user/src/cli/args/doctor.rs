//! The grammar of `spandrel doctor`.

use std::path::PathBuf;

use clap::Args;

use super::Format;

/// `spandrel doctor`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Looks at kernel, agent, programs, settings of the host and plugin links, and for what was left over; with or without an \
                       agent. The exit code is 0 if there is no problem (notes do not count), else 1. With --fix it does what is \
                       marked so, and says what it did.

Examples:
  sudo spandrel doctor
  sudo spandrel doctor --fix
  sudo spandrel doctor --format json                       one JSON object per line
  sudo spandrel doctor --run-dir /tmp/a/run --state-dir /tmp/a/state"
)]
pub(in crate::cli) struct Doctor {
    /// Mend what can be mended
    #[arg(long)]
    pub(in crate::cli) fix: bool,
    #[command(flatten)]
    pub(in crate::cli) format: Format,
    /// The agent's run directory
    #[arg(long, value_name = "DIR", default_value = "/run/spandrel")]
    pub(in crate::cli) run_dir: PathBuf,
    /// The agent's state directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/spandrel")]
    pub(in crate::cli) state_dir: PathBuf,
}
