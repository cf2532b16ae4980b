//! The grammar of `spandrel agent`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::ipam::Pool;
use crate::kernel::dataplane::{DEFAULT_MAX_FLOWS, Timeouts};
use crate::plugin::docker::ENGINE_SOCKET;

/// `spandrel agent`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "The agent owns networks and containers. When it ends (SIGTERM, SIGINT, or worse), they stay up and packets \
                       go on flowing; when it starts again, it finds everything as it left it. Several agents may run side \
                       by side in network namespaces of their own, each with its own --state-dir and --run-dir.

Examples:
  sudo spandrel agent
  sudo spandrel agent --uplink eth0 --uplink wg0
  sudo spandrel agent --default-address-pool base=10.201.0.0/16,size=24
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
    /// The socket by which Docker reaches its driver `spandrel`, or `none` [default: /run/docker/plugins/spandrel.sock]
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) docker_plugin: Option<PathBuf>,
    /// Where Docker itself is asked for the names of its containers and networks
    #[arg(long, value_name = "PATH", default_value = ENGINE_SOCKET)]
    pub(in crate::cli) docker_socket: PathBuf,
    /// Interface that leads outside; may be given several times [default: every interface with a route to elsewhere]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) uplink: Vec<String>,
    /// Where subnets come from when none is asked for, instead of the defaults of that family; may be given several times
    #[arg(long, value_name = "base=CIDR,size=LENGTH")]
    pub(in crate::cli) default_address_pool: Vec<Pool>,
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
    /// Whether the kernel is to expedite its RCU grace periods (/sys/kernel/rcu_expedited) while networks and containers change
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(in crate::cli) rcu_expedited: RcuExpedited,
    /// How long flows of a state live without a packet; may be given several times, such as `udp-answered=600`
    #[arg(long, value_name = "STATE=SECONDS", value_parser = idle_timeout)]
    pub(in crate::cli) idle_timeout: Vec<IdleTimeout>,
}

/// A state of flows, and how many seconds one lives in it without a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct IdleTimeout {
    state: FlowState,
    seconds: u32,
}

/// What a flow's idle time depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FlowState {
    /// Only the SYN was seen.
    TcpSynSent,
    /// The SYN was answered, but not acknowledged.
    TcpSynReceived,
    /// Open or half closed.
    TcpEstablished,
    /// Both sides have closed.
    TcpClosing,
    /// A RST was seen.
    TcpReset,
    /// UDP without an answer.
    UdpUnanswered,
    /// UDP with an answer.
    UdpAnswered,
    /// ICMP echo and all other protocols.
    Other,
}

impl IdleTimeout {
    /// Takes its place among the others.
    pub(in crate::cli) fn put_into(self, timeouts: &mut Timeouts) {
        *match self.state {
            FlowState::TcpSynSent => &mut timeouts.tcp_syn_sent,
            FlowState::TcpSynReceived => &mut timeouts.tcp_syn_received,
            FlowState::TcpEstablished => &mut timeouts.tcp_established,
            FlowState::TcpClosing => &mut timeouts.tcp_closing,
            FlowState::TcpReset => &mut timeouts.tcp_reset,
            FlowState::UdpUnanswered => &mut timeouts.udp_unanswered,
            FlowState::UdpAnswered => &mut timeouts.udp_answered,
            FlowState::Other => &mut timeouts.other,
        } = self.seconds;
    }
}

fn idle_timeout(text: &str) -> Result<IdleTimeout, String> {
    let (state, seconds) = text.split_once('=').ok_or("a state, `=` and seconds are wanted")?;
    let state = FlowState::from_str(state, false).map_err(|_| {
        let known: Vec<_> = FlowState::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
        let known: Vec<_> = known.iter().map(clap::builder::PossibleValue::get_name).collect();
        format!("there is no state {state:?}, but {}", known.join(", "))
    })?;
    match seconds.parse() {
        Ok(seconds @ 1..) => Ok(IdleTimeout { state, seconds }),
        _ => Err(format!("{seconds:?} is no number of seconds from 1 to {}", u32::MAX)),
    }
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

/// When the kernel is to expedite its RCU grace periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum RcuExpedited {
    /// While something changes, except on PREEMPT_RT.
    Auto,
    /// Never: what the kernel does is left as it is.
    Never,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_changes_its_own_state_and_no_other() {
        let mut timeouts = Timeouts::default();
        idle_timeout("udp-answered=600").unwrap().put_into(&mut timeouts);
        assert_eq!(timeouts, Timeouts { udp_answered: 600, ..Timeouts::default() });
    }

    #[test]
    fn what_is_no_timeout_is_refused_with_what_would_be_right() {
        for (text, sentence) in [
            ("udp-answered", "a state, `=` and seconds are wanted"),
            (
                "udp=3",
                "there is no state \"udp\", but tcp-syn-sent, tcp-syn-received, tcp-established, tcp-closing, tcp-reset, udp-unanswered, udp-answered, other",
            ),
            ("other=0", "\"0\" is no number of seconds from 1 to 4294967295"),
            ("other=soon", "\"soon\" is no number of seconds from 1 to 4294967295"),
        ] {
            assert_eq!(idle_timeout(text).unwrap_err(), sentence);
        }
    }
}
