//! The grammar of `spandrel plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// `spandrel plugin`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Plugin {
    /// Let an engine find this binary as its network plugin
    #[command(
        after_long_help = "For a binary that was built by hand; the Debian package brings all of it along. cni and podman get links to this \
                           binary in the directories where they look for plugins. Docker needs none, since the agent itself serves the \
                           socket that Docker looks for: that is checked. What is not ours is never replaced.

Examples:
  sudo spandrel plugin install cni
  sudo spandrel plugin install cni --example                          and a network configuration to begin with
  sudo spandrel plugin install podman --bin-dir /usr/libexec/netavark
  sudo spandrel plugin install docker"
    )]
    Install(Install),
    /// Take back what `plugin install` has put in place
    #[command(after_long_help = "Examples:
  sudo spandrel plugin uninstall cni
  sudo spandrel plugin uninstall podman")]
    Uninstall(Uninstall),
    /// List the places where engines look for plugins, and what is there
    #[command(
        visible_alias = "list",
        after_long_help = "Examples:
  spandrel plugin ls
  spandrel plugin ls --format json"
    )]
    Ls(Ls),
}

/// `spandrel plugin install`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Install {
    #[command(flatten)]
    pub(in crate::cli) places: Places,
    /// With cni: also write an example of a network into /etc/cni/net.d, which is the host's default network if there is no other
    #[arg(long)]
    pub(in crate::cli) example: bool,
}

/// `spandrel plugin uninstall`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Uninstall {
    #[command(flatten)]
    pub(in crate::cli) places: Places,
}

/// `spandrel plugin ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ls {
    #[command(flatten)]
    pub(in crate::cli) format: Format,
}

/// An engine, and where it looks.
#[derive(Debug, Args)]
pub(in crate::cli) struct Places {
    /// The engine
    #[arg(value_enum)]
    pub(in crate::cli) engine: Engine,
    /// The directory where the engine looks for plugins, instead of the usual ones; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) bin_dir: Vec<PathBuf>,
}

/// Who calls plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Engine {
    /// Docker.
    Docker,
    /// containerd, CRI-O, nerdctl, Podman's CNI back end.
    Cni,
    /// Podman's netavark.
    Podman,
}
