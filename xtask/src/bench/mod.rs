//! `cargo xtask bench`: what Spandrel costs a packet, side by side with what cannot be beaten.
//!
//! Throughput between containers is measured here ([`containers`]); single packets by the example `packet_bench` of the crate
//! `spandrel`, since xtask must not depend on a crate that cannot be compiled before the eBPF object is there.

mod containers;
mod engines;
mod floods;
mod load;
mod names;
mod packets;
mod peers;
mod shield;
mod statistics;
pub(crate) mod table;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use nix::unistd::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::build;
use crate::privilege;
use crate::progress::say;
use crate::workspace::Workspace;

/// Build, then measure what Spandrel costs
///
/// Between two containers: TCP stream, UDP packets, TCP request/response and new TCP connections, next to the same over a bare
/// veth pair (nothing can be faster) and over a plain Linux bridge, by turns. Of single packets: nanoseconds in each eBPF
/// program on each path. Of the shield: packets dropped in a second, next to TC and nftables. Everything happens in network namespaces of its own; needs root, through sudo where the caller is
/// not. Takes about four minutes after the build. Figures of different runs or machines cannot be compared, ratios can.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// How long each throughput is measured in each round
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,

    /// Measure between containers over IPv6; single packets always are of both families
    #[arg(long)]
    ipv6: bool,

    /// Measure this part alone
    #[arg(long, value_name = "PART")]
    only: Option<Part>,

    /// Print JSON with every sample
    #[arg(long)]
    json: bool,

    /// Measure this binary instead of building one
    #[arg(long, value_name = "PATH")]
    spandrel: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Throughput between two containers
    Containers,
    /// Nanoseconds per packet in each program
    Packets,
    /// Packets dropped in a second with the shield and without, and by nftables; and what the shield costs the others
    Shield,
    /// Millions of frames from random addresses at published ports, and what becomes of those who use them; only if asked for
    Floods,
    /// Name look-ups of a container among 2,000, next to dnsmasq; only if asked for
    Names,
    /// Creating networks and starting containers by Docker and CNI, with our drivers and theirs; only if asked for
    Engines,
}

/// What was measured; this is what `--json` prints.
#[derive(Default, Serialize, Deserialize)]
struct Report {
    containers: Vec<containers::Series>,
    packets: Vec<packets::Times>,
    shield: Vec<shield::Samples>,
    floods: Vec<floods::Figures>,
    names: Vec<names::Samples>,
    engines: Vec<engines::Samples>,
}

/// Measures what the options name and prints it.
pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut report = Report::default();
    if wanted(Part::Containers) {
        let spandrel = spandrel_to_measure(workspace, args)?;
        say("Measuring", "throughput between two containers");
        report.containers = containers(args, &spandrel)?;
        if !args.json {
            println!("{}", containers::report(&report.containers));
        }
    }
    if wanted(Part::Packets) {
        if args.spandrel.is_some() || !wanted(Part::Containers) {
            build::ebpf(workspace)?;
        }
        say("Measuring", "single packets in the eBPF programs");
        report.packets = json_of(packets::command(workspace, args.rounds)?)?;
        if !args.json {
            println!("{}", packets::report(&report.packets));
        }
    }
    if wanted(Part::Shield) {
        let spandrel = spandrel_to_measure(workspace, args)?;
        crate::peers::ensure(workspace)?;
        say("Measuring", "the shield, and nftables");
        report.shield = shield(args, &spandrel)?;
        if !args.json {
            println!("{}", shield::report(&report.shield));
        }
    }
    if args.only == Some(Part::Floods) {
        let spandrel = spandrel_to_measure(workspace, args)?;
        say("Measuring", "floods");
        report.floods = floods(&spandrel)?;
        if !args.json {
            println!("{}", floods::report(&report.floods));
        }
    }
    if args.only == Some(Part::Names) {
        let spandrel = spandrel_to_measure(workspace, args)?;
        crate::peers::ensure(workspace)?;
        say("Measuring", "name look-ups, and dnsmasq");
        report.names = names(args, &spandrel)?;
        if !args.json {
            println!("{}", names::report(&report.names));
        }
    }
    if args.only == Some(Part::Engines) {
        let spandrel = spandrel_to_measure(workspace, args)?;
        crate::peers::ensure(workspace)?;
        say("Measuring", "Docker and CNI");
        report.engines = engines(args, &spandrel)?;
        if !args.json {
            println!("{}", engines::report(&report.engines));
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

/// The binary that the options name, or a new one.
fn spandrel_to_measure(workspace: &Workspace, args: &BenchArgs) -> Result<PathBuf> {
    match &args.spandrel {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display())),
        None => build::spandrel(workspace, build::Profile::default()),
    }
}

/// Measures between containers, which takes root: who is not calls this program once more.
fn containers(args: &BenchArgs, spandrel: &Path) -> Result<Vec<containers::Series>> {
    if geteuid().is_root() {
        return containers::measure(spandrel, args);
    }
    Ok(as_root(args, spandrel, "containers")?.containers)
}

/// Measures the shield, which takes root, too.
fn shield(args: &BenchArgs, spandrel: &Path) -> Result<Vec<shield::Samples>> {
    if geteuid().is_root() {
        return shield::measure(spandrel, args);
    }
    Ok(as_root(args, spandrel, "shield")?.shield)
}

/// Measures look-ups, which takes root, too.
fn names(args: &BenchArgs, spandrel: &Path) -> Result<Vec<names::Samples>> {
    if geteuid().is_root() {
        return names::measure(spandrel, args);
    }
    Ok(as_root(args, spandrel, "names")?.names)
}

/// Measures engines, which takes root, too.
fn engines(args: &BenchArgs, spandrel: &Path) -> Result<Vec<engines::Samples>> {
    if geteuid().is_root() {
        return engines::measure(spandrel, args);
    }
    Ok(as_root(args, spandrel, "engines")?.engines)
}

/// Calls this program once more, as root, for one part.
fn as_root(args: &BenchArgs, spandrel: &Path, part: &str) -> Result<Report> {
    let this = env::current_exe().context("cannot tell where this program is")?;
    let mut again = privilege::command(&this, "making network namespaces")?;
    again.args(["bench", "--only", part, "--json", "--spandrel"]).arg(spandrel);
    again.args(["--rounds", &args.rounds.to_string(), "--seconds", &args.seconds.to_string()]);
    if args.ipv6 {
        again.arg("--ipv6");
    }
    json_of(again)
}

/// Plays floods, which takes root like the above.
fn floods(spandrel: &Path) -> Result<Vec<floods::Figures>> {
    if geteuid().is_root() {
        return floods::measure(spandrel);
    }
    let this = env::current_exe().context("cannot tell where this program is")?;
    let mut again = privilege::command(&this, "making network namespaces")?;
    again.args(["bench", "--only", "floods", "--json", "--spandrel"]).arg(spandrel);
    Ok(json_of::<Report>(again)?.floods)
}

/// Runs a program that measures, its messages going where ours go, and reads what it prints.
fn json_of<T: DeserializeOwned>(mut command: Command) -> Result<T> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("the measuring program failed ({}) and says why above", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the measuring program printed something else than samples")
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds from 0.05 to 60".into()),
    }
}
