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
mod quiet;
mod scale;
mod shield;
mod statistics;
pub(crate) mod table;
mod tools;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
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
/// operations take in either, next to Docker's, and how much memory and how many wake-ups the agent and the kernel need.
///
/// Everything happens in network namespaces of its own; needs root, through sudo where the caller is not. Takes at most 20 minutes after the
/// build, or 2 with --quick; how long each part took stands below its tables. A part that fails costs the others nothing, and is named in the
/// end. Figures of different runs or machines cannot be compared, ratios can.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Fewer rounds, loads, peers and parts: two minutes for a first look
    #[arg(long)]
    quick: bool,

    /// How often everything is measured: 4 times, or 3 with --quick; more rounds take longer, and say more on a busy machine
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

    /// Write a page with all plots and versions into this folder, README.md, and one with all tables, tables.md
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,

    /// Show what an earlier run has printed with --json, instead of measuring anything
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "rounds", "seconds", "ipv6", "only", "json", "spandrel"])]
    read: Option<PathBuf>,

    /// Measure this binary instead of building one
    #[arg(long, value_name = "PATH")]
    spandrel: Option<PathBuf>,
}

impl BenchArgs {
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 4 })
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

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// Throughput and latency on each data path
    Paths,
    /// Nanoseconds per packet in each program
    Packets,
    /// Packets dropped in a second with the shield and without, and by nftables; and what the shield costs the others
    Shield,
    /// Networks, containers and ports that are made and removed: milliseconds, alone and in a crowd
    Control,
    /// Memory of the agent and the kernel, and wake-ups while nothing changes
    Footprint,
    /// The data paths of a crowded host next to those of an empty one, and what as many published ports cost by rules
    Scale,
    /// Millions of frames from random addresses at published ports, and what becomes of those who use them; only if asked for
    Floods,
    /// Name look-ups of a container among 2,000, next to dnsmasq; only if asked for
    Names,
    /// Creating networks and starting containers by Docker and CNI, with our drivers and theirs; only if asked for
    Engines,
}

/// A part as it went.
#[derive(Serialize, Deserialize)]
struct Done {
    part: Part,
    /// How long it took, from waiting for the kernel to taking everything down again.
    seconds: f64,
    #[serde(flatten)]
    outcome: Outcome,
}

/// What was measured of a part.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Paths(Vec<paths::Series>),
    Packets(Vec<packets::Times>),
    Shield(Vec<shield::Samples>),
    Scale(scale::Figures),
    Control(control::Samples),
    Footprint(footprint::Figures),
    Floods(Vec<floods::Figures>),
    Names(Vec<names::Samples>),
    Engines(Vec<engines::Samples>),
    /// Nothing, and why.
    Failed(String),
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
    fn measure(self, workspace: &Workspace, spandrel: &Path, args: &BenchArgs) -> Result<Outcome> {
        Ok(match self {
            Part::Paths => Outcome::Paths(paths::measure(spandrel, args)?),
            Part::Packets => Outcome::Packets(packets::measure(workspace, args)?),
            Part::Shield => Outcome::Shield(shield::measure(spandrel, args)?),
            Part::Scale => Outcome::Scale(scale::measure(spandrel, args)?),
            Part::Control => Outcome::Control(control::measure(spandrel, args)?),
            Part::Footprint => Outcome::Footprint(footprint::measure(spandrel, args)?),
            Part::Floods => Outcome::Floods(floods::measure(spandrel)?),
            Part::Names => Outcome::Names(names::measure(spandrel, args)?),
            Part::Engines => Outcome::Engines(engines::measure(spandrel, args)?),
        })
    }
}

impl Outcome {
    /// The samples as tables with their explanation.
    fn report(&self) -> String {
        match self {
            Outcome::Paths(all) => paths::report(all),
            Outcome::Packets(all) => packets::report(all),
            Outcome::Shield(all) => shield::report(all),
            Outcome::Scale(all) => scale::report(all),
            Outcome::Control(all) => control::report(all),
            Outcome::Footprint(all) => footprint::report(all),
            Outcome::Floods(all) => floods::report(all),
            Outcome::Names(all) => names::report(all),
            Outcome::Engines(all) => engines::report(all),
            Outcome::Failed(why) => format!("\nThis could not be measured: {}\n", why.trim()),
        }
    }

    /// What is drawn of them.
    fn figures(&self) -> Vec<Figure> {
        match self {
            Outcome::Paths(all) => paths::figures(all),
            Outcome::Scale(all) => scale::figures(all),
            _ => Vec::new(),
        }
    }
}

impl Done {
    /// Takes all samples of a part. Whatever goes wrong there is told, and costs the others nothing.
    fn of(part: Part, measure: impl FnOnce() -> Result<Outcome>) -> Self {
        let start = Instant::now();
        // What the lab cannot set up it panics about, and all that it has set up goes while the panic passes.
        let outcome = match catch_unwind(AssertUnwindSafe(measure)) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
            Err(panic) => Outcome::Failed(words_of(&*panic)),
        };
        Self { part, seconds: start.elapsed().as_secs_f64(), outcome }
    }

    /// The samples as tables with their explanation, and how long they took.
    fn report(&self) -> String {
        let (report, what) = (self.outcome.report(), self.part.what());
        format!("{report}\nMeasuring {what} took {}.\n", minutes(self.seconds))
    }

    /// Why there is nothing of it, in a sentence.
    fn failed(&self) -> Option<String> {
        let Outcome::Failed(why) = &self.outcome else { return None };
        let mut lines = why.trim().lines();
        let first = lines.next().unwrap_or_default();
        // What a program has logged may follow: its last words are why.
        let last = lines.next_back().filter(|_| first.ends_with(':'));
        Some(first.to_owned() + &last.map(|last| format!(" {last}")).unwrap_or_default())
    }
}

/// A time as people tell it.
fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

/// What a panic says of itself.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    words.unwrap_or("it has panicked without a word").to_owned()
}

/// A whole run; this is what `--json` prints.
#[derive(Serialize, Deserialize)]
struct Report {
    about: About,
    parts: Vec<Done>,
}

/// Measures what the options name and prints it.
pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    // Before minutes of measuring.
    if let Some(folder) = &args.plots {
        plots::prepare(folder)?;
    }
    let report = match &args.read {
        Some(file) => earlier(file)?,
        None => measured(workspace, args)?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    if let Some(folder) = &args.plots {
        let figures = report.parts.iter().flat_map(|done| done.outcome.figures()).collect::<Vec<_>>();
        let tables = report.parts.iter().map(|done| (done.part.what(), done.report())).collect::<Vec<_>>();
        plots::write(folder, &report.about, &tables, &figures)?;
        say("Wrote", folder.join(plots::PAGE).display());
    }
    match args.read {
        // It went well: what an earlier run could not measure is no failure of reading about it.
        Some(_) => Ok(()),
        None => report.verdict(),
    }
}

impl Report {
    /// Whether all parts were measured; which were not, and why, is told last.
    fn verdict(&self) -> Result<()> {
        let failed: Vec<_> = self.parts.iter().filter_map(|done| Some((done.part, done.failed()?))).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let whys = failed.iter().map(|(part, why)| format!("\n  {}: {why}", part.what()));
        bail!("{} of {} parts could not be measured:{}", failed.len(), self.parts.len(), whys.collect::<String>());
    }
}

/// Measures part after part; for people, each is shown when it is done.
fn measured(workspace: &Workspace, args: &BenchArgs) -> Result<Report> {
    let spandrel = spandrel_to_measure(workspace, args)?;
    if args.parts().contains(&Part::Packets) {
        // Those who do not build what is measured have no eBPF object yet.
        if args.spandrel.is_some() {
            build::ebpf(workspace)?;
        }
        packets::build(workspace)?;
    }
    crate::peers::programs(workspace)?;
    let mut report = Report { about: About::this(workspace, &spandrel)?, parts: Vec::new() };
    for part in args.parts() {
        say("Measuring", part.what());
        let done = Done::of(part, || match (geteuid().is_root(), part) {
            (true, _) => {
                quiet::wait();
                part.measure(workspace, &spandrel, args)
            }
            (false, Part::Packets) => part.measure(workspace, &spandrel, args),
            (false, _) => as_root(part, args, &spandrel),
        });
        if !args.json {
            println!("{}", done.report());
        }
        report.parts.push(done);
    }
    Ok(report)
}

/// Shows what an earlier run has measured.
fn earlier(file: &Path) -> Result<Report> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what `cargo xtask bench --json` prints", file.display()))?;
    report.parts.iter().for_each(|done| println!("{}", done.report()));
    Ok(report)
}

/// The binary that the options name, or a new one.
fn spandrel_to_measure(workspace: &Workspace, args: &BenchArgs) -> Result<PathBuf> {
    match &args.spandrel {
        Some(path) => {
            let path = path.canonicalize().with_context(|| format!("there is no {}", path.display()))?;
            about::version_of_spandrel(&path)?;
            Ok(path)
        }
        None => build::spandrel(workspace, build::Profile::default()),
    }
}

/// Measures one part by calling this program once more, as root.
fn as_root(part: Part, args: &BenchArgs, spandrel: &Path) -> Result<Outcome> {
    let this = env::current_exe().context("cannot tell where this program is")?;
    let mut again = privilege::command(&this, "making network namespaces")?;
    let name = part.to_possible_value().context("a part without a name")?;
    again.args(["bench", "--only", name.get_name(), "--json", "--spandrel"]).arg(spandrel);
    again.args(["--rounds", &args.rounds().to_string(), "--seconds", &args.period().as_secs_f64().to_string()]);
    again.args(args.quick.then_some("--quick")).args(args.ipv6.then_some("--ipv6"));
    // Where it could measure nothing it says why, and that is the outcome.
    Ok(json_of::<Report>(again)?.parts.pop().context("the measuring program measured nothing")?.outcome)
}

/// The order of a round. Each is followed by its mirror, and after that somebody else is first: what the machine does besides changes with
/// time, and whatever comes first finds other caches.
fn by_turns<T: Clone>(all: &[T], round: usize) -> Vec<T> {
    let mut order = all.to_vec();
    order.rotate_left((round / 2).checked_rem(all.len()).unwrap_or(0));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Runs a program that measures, its messages going where ours go, and reads what it prints, however it ends.
fn json_of<T: DeserializeOwned>(mut command: Command) -> Result<T> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    match serde_json::from_slice(&output.stdout) {
        Ok(samples) => Ok(samples),
        Err(_) if !output.status.success() => {
            bail!("the measuring program failed ({}) and says why above", output.status)
        }
        Err(error) => Err(error).context("the measuring program printed something else than samples"),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds from 0.05 to 60".into()),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).map(|cli| cli.args)
    }

    #[test]
    fn wrong_options_are_refused_before_anything_is_measured() {
        for (line, says) in [
            ("--only nonsense", "possible values: paths, packets"),
            ("--rounds 0", "0 is not in 1..=1000"),
            ("--seconds 99", "give a number of seconds from 0.05 to 60"),
            ("--seconds nan", "give a number of seconds from 0.05 to 60"),
            ("--read file --rounds 3", "cannot be used with '--rounds <N>'"),
            ("--read file --only paths", "cannot be used with '--only <PART>'"),
        ] {
            let refused = parse(line).err().unwrap().to_string();
            assert!(refused.contains(says), "{line}: {refused}");
        }
        assert_eq!(parse("--quick").unwrap().parts(), [Part::Paths, Part::Packets]);
        assert_eq!(parse("--only shield --only paths --quick").unwrap().parts(), [Part::Paths, Part::Shield]);
    }

    #[test]
    fn what_is_no_earlier_run_is_told_in_a_sentence() {
        let folder = env::temp_dir();
        let garbage = folder.join(format!("spandrel-bench-{}", std::process::id()));
        fs::write(&garbage, "garbage").unwrap();
        for (file, says) in [
            (folder.join("no/such.json"), "No such file or directory"),
            (folder, "Is a directory"),
            (garbage.clone(), "is not what `cargo xtask bench --json` prints"),
        ] {
            let said = format!("{:#}", earlier(&file).err().unwrap());
            assert!(said.contains(says) && !said.contains('\n'), "{said}");
        }
        fs::remove_file(garbage).unwrap();
    }

    #[test]
    fn another_program_is_not_measured() {
        let said = about::version_of_spandrel("/bin/true".as_ref()).unwrap_err().to_string();
        assert!(said.ends_with("true is no spandrel: it does not tell its version"), "{said}");
    }

    fn report() -> Report {
        let about = About { command: "cargo xtask bench".into(), versions: Vec::new() };
        let parts = vec![
            Done::of(Part::Control, || panic!("cannot {} in docker: timed out\nand a log", "list links")),
            Done::of(Part::Names, || panic!("the agent has ended with 1:\na log\nspandrel: no such map\n")),
            Done::of(Part::Shield, || Err(anyhow!("no such rule").context("cannot add a rule"))),
            Done::of(Part::Floods, || Ok(Outcome::Floods(Vec::new()))),
        ];
        Report { about, parts }
    }

    #[test]
    fn a_part_that_fails_costs_the_others_nothing_and_says_why_in_the_end() {
        let said = format!("{:#}", report().verdict().unwrap_err());
        assert_eq!(
            said,
            "3 of 4 parts could not be measured:\n  control operations: cannot list links in docker: timed out\n  \
             name look-ups, and dnsmasq: the agent has ended with 1: spandrel: no such map\n  \
             the shield, and nftables: cannot add a rule: no such rule"
        );
        let mut fine = report();
        fine.parts.drain(..3);
        assert!(fine.verdict().is_ok());
    }

    #[test]
    fn what_failed_is_in_what_is_printed_and_can_be_read_again() {
        let read: Report = serde_json::from_str(&serde_json::to_string_pretty(&report()).unwrap()).unwrap();
        let shown: Vec<_> = read.parts.iter().map(Done::report).collect();
        assert!(
            shown[0].contains("This could not be measured: cannot list links in docker: timed out\nand a log\n"),
            "{shown:?}"
        );
        assert!(shown[2].contains("This could not be measured: cannot add a rule: no such rule\n"), "{shown:?}");
        assert!(shown[3].contains("None of them broke"), "{shown:?}");
        assert_eq!(
            read.parts.iter().map(|done| done.part).collect::<Vec<_>>(),
            report().parts.iter().map(|done| done.part).collect::<Vec<_>>()
        );
    }

    #[test]
    fn everybody_is_first_as_often_as_the_others() {
        for count in 1..8 {
            let all: Vec<_> = (0..count).collect();
            let mut first: Vec<_> = (0..2 * count).map(|round| by_turns(&all, round)[0]).collect();
            first.sort();
            let twice: Vec<_> = all.iter().flat_map(|&one| [one, one]).collect();
            assert_eq!(first, twice);
        }
        assert!(by_turns::<u8>(&[], 1).is_empty());
    }

    #[test]
    fn samples_are_the_same_after_they_were_printed_and_read() {
        let samples = r#"{"times":[{"operation":{"Publish":200},"caller":"Api","endpoints":2,"milliseconds":[0.1,3.25]}],"together":[]}"#;
        let part = format!(r#"{{"part":"control","seconds":1.5,"control":{samples}}}"#);
        let done: Done = serde_json::from_str(&part).unwrap();
        assert_eq!(serde_json::to_string(&done).unwrap(), part);
    }
}
