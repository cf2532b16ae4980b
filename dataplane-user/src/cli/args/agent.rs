//! The grammar of `spandrel agent`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::kernel::dataplane::DEFAULT_MAX_FLOWS;

/// `spandrel agent`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "The agent owns networks and containers. When it ends (SIGTERM, SIGINT, or worse), they stay up and packets \
                       go on flowing; when it starts again, it finds everything as it left it. Several agents may run side \
                       by side in network namespaces of their own, each with its own --state-dir and --run-dir.

Examples:
  sudo spandrel agent
  sudo spandrel agent --uplink eth0 --uplink wg0
  sudo spandrel agent --state-dir /tmp/a/state --run-dir /tmp/a/run --teardown"
)]
pub(in crate::cli) struct Agent {
    /// Where networks and containers are kept over restarts
    #[arg(long, value_name = "DIR", default_value = "/var/lib/spandrel")]
    pub(in crate::cli) state_dir: PathBuf,
    /// Where the socket and all that is gone after a reboot lives
    #[arg(long, value_name = "DIR", default_value = "/run/spandrel")]
    pub(in crate::cli) run_dir: PathBuf,
    /// The socket to listen on [default: spandrel.sock in the run directory]
    // Has the same name as the clients' option, and takes its place here.
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) socket: Option<PathBuf>,
    /// Interface that leads outside; may be given several times [default: every interface with a route to elsewhere]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) uplink: Vec<String>,
    /// Remove all containers, networks and programs at the end
    #[arg(long)]
    pub(in crate::cli) teardown: bool,
    /// How much the agent says on stderr
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(in crate::cli) log_level: LogLevel,
    /// How much the eBPF programs say; anything but `off` slows packets down
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    pub(in crate::cli) bpf_log_level: LogLevel,
    /// How many flows of each address family fit; counts when the tables are made, about 670 bytes a flow
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_MAX_FLOWS, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub(in crate::cli) max_flows: u32,
    /// How the programs are attached to interfaces
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(in crate::cli) attach: Attach,
    /// Where the shield runs, which drops spoofed, unsolicited and flooding packets before the stack sees them
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(in crate::cli) xdp: Xdp,
}

/// Where the shield runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Xdp {
    /// In the drivers of network cards.
    Auto,
    /// In the driver of every uplink.
    Native,
    /// In the kernel's stack, at every uplink.
    Generic,
    /// Nowhere.
    Off,
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Attach {
    /// TCX where the kernel has it (6.6), else clsact.
    Auto,
    /// TCX links.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum LogLevel {
    /// Nothing.
    Off,
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// What happens.
    Info,
    /// What is done and why.
    Debug,
    /// Everything.
    Trace,
}
