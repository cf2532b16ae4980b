//! `cargo xtask bench`: what Spandrel costs, side by side with what cannot be beaten and with what it replaces.
//!
//! Each part is a module with a `measure`, which takes the samples, a `report`, which shows them to people, and where there is
//! something to be drawn `figures`. Single packets are measured by the example `packet_bench` of the crate `spandrel`, since xtask must
//! not depend on a crate that cannot be compiled before the eBPF object is there.

mod about;
mod control;
mod engines;
mod floods;
mod footprint;
mod load;
mod names;
mod packets;
mod paths;
mod peers;
mod plots;
mod scale;
mod shield;
mod statistics;
pub(crate) mod table;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use nix::unistd::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::build;
use crate::privilege;
use crate::progress::say;
use crate::workspace::Workspace;
use about::About;
use plots::Figure;

/// Build, then measure what Spandrel costs
///
/// The data paths between containers, from outside to a published port and from a container to the outside, under the loads of iperf3,
/// sockperf, wrk and our own: Spandrel next to a bare veth pair (nothing can be faster), a plain Linux bridge, nftables, Docker's engine and
/// the reference chain of CNI plugins, by turns. Of single packets: nanoseconds in each eBPF program on each path. Of the shield: packets
/// dropped in a second, next to TC and nftables. Of size: the data paths of a crowded host next to those of a small one, what control
/// operations take in either, and how much memory and how many wake-ups the agent and the kernel need. Everything happens in network namespaces of its own; needs root, through sudo where
/// the caller is not. Takes at most 20 minutes after the build, or 2 with --quick. Figures of different runs or machines cannot be compared,
/// ratios can.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Fewer rounds, loads, peers and parts: two minutes for a first look
    #[arg(long)]
    quick: bool,

    /// How often everything is measured: 6 times, or 3 with --quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// How long each throughput is measured in each round: about 0.5 s, or 0.2 with --quick
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,

    /// Measure the data paths over IPv6, without those peers that have none by default; single packets always are of both families
    #[arg(long)]
    ipv6: bool,

    /// Measure this part alone; may be given more than once
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,

    /// Print JSON with every sample
    #[arg(long)]
    json: bool,

    /// Write a page with all tables, plots and versions into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,

    /// Show what an earlier run has printed with --json, instead of measuring anything
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "json", "spandrel"])]
    read: Option<PathBuf>,

    /// Measure this binary instead of building one
    #[arg(long, value_name = "PATH")]
    spandrel: Option<PathBuf>,
}

impl BenchArgs {
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 6 })
    }

    fn period(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 0.2 } else { 0.5 }))
    }

    /// What is to be measured.
    fn parts(&self) -> Vec<Part> {
        let wanted = |part: &Part| match self.only.as_slice() {
            // A first look has no time for the others; they are quick ones where they are asked for.
            [] if self.quick => matches!(part, Part::Paths | Part::Packets),
            [] => part.by_default(),
            only => only.contains(part),
        };
        Part::value_variants().iter().copied().filter(wanted).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// Throughput and latency on each data path
    Paths,
    /// Nanoseconds per packet in each program
    Packets,
    /// Packets dropped in a second with the shield and without, and by nftables; and what the shield costs the others
    Shield,
    /// The data paths of a crowded host next to those of an empty one
    Scale,
    /// Networks, containers and ports that are made and removed: milliseconds, alone and in a crowd
    Control,
    /// Memory of the agent and the kernel, and wake-ups while nothing changes
    Footprint,
    /// Millions of frames from random addresses at published ports, and what becomes of those who use them; only if asked for
    Floods,
    /// Name look-ups of a container among 2,000, next to dnsmasq; only if asked for
    Names,
    /// Creating networks and starting containers by Docker and CNI, with our drivers and theirs; only if asked for
    Engines,
}

/// What was measured of a part.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Measured {
    Paths(Vec<paths::Series>),
    Packets(Vec<packets::Times>),
    Shield(Vec<shield::Samples>),
    Scale(Vec<scale::Samples>),
    Control(control::Samples),
    Footprint(footprint::Figures),
    Floods(Vec<floods::Figures>),
    Names(Vec<names::Samples>),
    Engines(Vec<engines::Samples>),
}

impl Part {
    /// Whether it is measured if nothing is asked for.
    fn by_default(self) -> bool {
        !matches!(self, Part::Floods | Part::Names | Part::Engines)
    }

    /// What is being measured, for those who wait.
    fn what(self) -> &'static str {
        match self {
            Part::Paths => "data paths, and those of others",
            Part::Packets => "single packets in the eBPF programs",
            Part::Shield => "the shield, and nftables",
            Part::Scale => "data paths of a crowded host",
            Part::Control => "control operations",
            Part::Footprint => "memory and wake-ups",
            Part::Floods => "floods",
            Part::Names => "name look-ups, and dnsmasq",
            Part::Engines => "Docker and CNI",
        }
    }

    /// Takes all samples. All but single packets, which cargo runs, want root.
    fn measure(self, workspace: &Workspace, spandrel: &Path, args: &BenchArgs) -> Result<Measured> {
        Ok(match self {
            Part::Paths => Measured::Paths(paths::measure(spandrel, args)?),
            Part::Packets => Measured::Packets(packets::measure(workspace, args)?),
            Part::Shield => Measured::Shield(shield::measure(spandrel, args)?),
            Part::Scale => Measured::Scale(scale::measure(spandrel, args)?),
            Part::Control => Measured::Control(control::measure(spandrel, args)?),
            Part::Footprint => Measured::Footprint(footprint::measure(spandrel, args)?),
            Part::Floods => Measured::Floods(floods::measure(spandrel)?),
            Part::Names => Measured::Names(names::measure(spandrel, args)?),
            Part::Engines => Measured::Engines(engines::measure(spandrel, args)?),
        })
    }
}

impl Measured {
    /// The samples as tables with their explanation.
    fn report(&self) -> String {
        match self {
            Measured::Paths(all) => paths::report(all),
            Measured::Packets(all) => packets::report(all),
            Measured::Shield(all) => shield::report(all),
            Measured::Scale(all) => scale::report(all),
            Measured::Control(all) => control::report(all),
            Measured::Footprint(all) => footprint::report(all),
            Measured::Floods(all) => floods::report(all),
            Measured::Names(all) => names::report(all),
            Measured::Engines(all) => engines::report(all),
        }
    }

    /// What is drawn of them.
    fn figures(&self) -> Vec<Figure> {
        match self {
            Measured::Paths(all) => paths::figures(all),
            Measured::Scale(all) => scale::figures(all),
            _ => Vec::new(),
        }
    }
}

/// A whole run; this is what `--json` prints.
#[derive(Serialize, Deserialize)]
struct Report {
    about: About,
    parts: Vec<Measured>,
}

/// Measures what the options name and prints it.
pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    let report = match &args.read {
        Some(file) => earlier(file)?,
        None => measured(workspace, args)?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    if let Some(folder) = &args.plots {
        let figures = report.parts.iter().flat_map(Measured::figures).collect::<Vec<_>>();
        let tables = report.parts.iter().map(Measured::report).collect::<Vec<_>>();
        plots::write(folder, &report.about, &tables, &figures)?;
        say("Wrote", folder.join(plots::PAGE).display());
    }
    Ok(())
}

/// Measures part after part; for people, each is shown when it is done.
fn measured(workspace: &Workspace, args: &BenchArgs) -> Result<Report> {
    let spandrel = spandrel_to_measure(workspace, args)?;
    // Those who do not build what is measured have no eBPF object yet, which single packets take.
    if args.spandrel.is_some() && args.parts().contains(&Part::Packets) {
        build::ebpf(workspace)?;
    }
    crate::peers::programs(workspace)?;
    let mut report = Report { about: About::this(workspace, &spandrel)?, parts: Vec::new() };
    for part in args.parts() {
        say("Measuring", part.what());
        let measured = match geteuid().is_root() || part == Part::Packets {
            true => part.measure(workspace, &spandrel, args)?,
            false => as_root(part, args, &spandrel)?,
        };
        if !args.json {
            println!("{}", measured.report());
        }
        report.parts.push(measured);
    }
    Ok(report)
}

/// Shows what an earlier run has measured.
fn earlier(file: &Path) -> Result<Report> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what `cargo xtask bench --json` prints", file.display()))?;
    report.parts.iter().for_each(|measured| println!("{}", measured.report()));
    Ok(report)
}

/// The binary that the options name, or a new one.
fn spandrel_to_measure(workspace: &Workspace, args: &BenchArgs) -> Result<PathBuf> {
    match &args.spandrel {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display())),
        None => build::spandrel(workspace, build::Profile::default()),
    }
}

/// Measures one part by calling this program once more, as root.
fn as_root(part: Part, args: &BenchArgs, spandrel: &Path) -> Result<Measured> {
    let this = env::current_exe().context("cannot tell where this program is")?;
    let mut again = privilege::command(&this, "making network namespaces")?;
    let name = part.to_possible_value().context("a part without a name")?;
    again.args(["bench", "--only", name.get_name(), "--json", "--spandrel"]).arg(spandrel);
    again.args(["--rounds", &args.rounds().to_string(), "--seconds", &args.period().as_secs_f64().to_string()]);
    again.args(args.quick.then_some("--quick")).args(args.ipv6.then_some("--ipv6"));
    json_of::<Report>(again)?.parts.pop().context("the measuring program measured nothing")
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
