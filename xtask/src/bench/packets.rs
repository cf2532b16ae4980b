//! Nanoseconds per packet: calling the program that measures them, and showing what it found.

use std::process::Command;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::statistics::Estimate;
use super::{BenchArgs, json_of, table};
use crate::privilege;
use crate::workspace::{self, Workspace};

/// What was measured of one program on one path.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Times {
    program: String,
    path: String,
    /// `IPv4` or `IPv6`.
    family: String,
    /// Whether the program ran once for each packet, rather than many times over the same one.
    once: bool,
    /// One sample of each round.
    nanoseconds: Vec<f64>,
    /// The median of what they are to an empty program's, harness and all: this can be compared from one run to another.
    #[serde(default)]
    ratio: Option<f64>,
}

/// The program that measures, as cargo names it.
const PROGRAM: [&str; 5] = ["--release", "--package", "spandrel", "--example", "packet_bench"];

/// Builds the program that measures, which takes longer than it runs, and disturbs what is measured meanwhile.
pub(super) fn build(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo();
    workspace::run(cargo.arg("build").args(PROGRAM))
}

/// Runs it; cargo stays with the caller, what it runs becomes root.
pub(super) fn measure(workspace: &Workspace, args: &BenchArgs) -> Result<Vec<Times>> {
    let mut all: Vec<Times> = json_of(command(workspace, args.rounds())?)?;
    let ratios: Vec<_> = all.iter().map(|times| ratio(&all, times).map(|ratio| ratio.median)).collect();
    all.iter_mut().zip(ratios).for_each(|(times, ratio)| times.ratio = ratio);
    Ok(all)
}

fn command(workspace: &Workspace, rounds: u32) -> Result<Command> {
    let runner = privilege::prefix("running eBPF programs")?;
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet"]).args(PROGRAM);
    if !runner.is_empty() {
        cargo.args(["--config", &format!("target.'cfg(unix)'.runner={runner:?}")]);
    }
    cargo.args(["--", &rounds.to_string()]);
    Ok(cargo)
}

/// The program that stands for an empty one: what it takes, the harness takes.
const EMPTY: &str = "collect";

/// The families, as `packet_bench` names them.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// The samples as a table with its explanation.
pub(super) fn report(all: &[Times]) -> String {
    let mut rows = Vec::new();
    // Both families of a path stand beside each other.
    for times in all.iter().filter(|times| times.program != EMPTY && times.family == FAMILIES[0]) {
        let found = FAMILIES.map(|family| of(all, times, family));
        let [v4, v6] = found.map(|times| table::whole(times.and_then(|times| net(all, times))));
        let [r4, r6] = found.map(|times| table::ratio(times.and_then(|times| ratio(all, times))));
        let remark = if times.once { " (run once)" } else { "" };
        rows.push([times.program.clone(), format!("{}{remark}", times.path), v4, v6, r4, r6]);
    }
    let harness = |once| {
        let empty = all.iter().find(|times| times.program == EMPTY && times.once == once);
        table::whole(empty.and_then(|empty| Estimate::of(&empty.nanoseconds)))
    };
    format!(
        "\nNanoseconds in each program per TCP segment, by BPF_PROG_TEST_RUN; less is better. Redirects are decided, not made. A sample is\n\
         the lower quartile of many short runs: whatever disturbs one only makes it longer.\n\
         What an empty program takes there is subtracted: {}, or {} where it is run only once, so that caches are cold.\n\
         Ratios are of the whole to that of the empty program, and can be compared from one run to another.\n\n{}",
        harness(false),
        harness(true),
        table::draw(["program", "packet", "IPv4, ns", "IPv6, ns", "IPv4 / empty", "IPv6 / empty"], 2, &rows)
    )
}

/// A path over one family.
fn of<'t>(all: &'t [Times], path: &Times, family: &str) -> Option<&'t Times> {
    let key = |times: &Times| (times.program.clone(), times.path.clone(), times.once);
    all.iter().find(|times| times.family == family && key(times) == key(path))
}

/// What the empty program took beside it.
fn empty<'t>(all: &'t [Times], times: &Times) -> Option<&'t [f64]> {
    let beside = |of: &&Times| of.program == EMPTY && of.family == times.family && of.once == times.once;
    all.iter().find(beside).map(|empty| empty.nanoseconds.as_slice())
}

/// What a path takes without the harness.
fn net(all: &[Times], times: &Times) -> Option<Estimate> {
    let net: Vec<_> = times.nanoseconds.iter().zip(empty(all, times)?).map(|(gross, empty)| gross - empty).collect();
    Estimate::of(&net)
}

/// What it is to an empty program.
fn ratio(all: &[Times], times: &Times) -> Option<Estimate> {
    Estimate::of_ratios(&times.nanoseconds, empty(all, times)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(program: &str, family: &str, once: bool, nanoseconds: [f64; 3]) -> Times {
        let path = if program == EMPTY { "nothing" } else { "something" };
        Times {
            program: program.into(),
            path: path.into(),
            family: family.into(),
            once,
            nanoseconds: nanoseconds.into(),
            ratio: None,
        }
    }

    #[test]
    fn the_harness_is_subtracted_for_each_way_of_running_and_round() {
        let all = [
            times(EMPTY, "IPv4", false, [20.0, 30.0, 40.0]),
            times(EMPTY, "IPv4", true, [90.0, 90.0, 90.0]),
            times("from_uplink", "IPv4", false, [120.0, 130.0, 140.0]),
            times("from_uplink", "IPv4", true, [1000.0, 1090.0, 1100.0]),
        ];
        assert_eq!(net(&all, &all[2]), Some(Estimate { median: 100.0, spread: 0.0 }));
        assert_eq!(net(&all, &all[3]).map(|net| net.median), Some(1000.0));
        assert_eq!(ratio(&all, &all[2]).map(|ratio| ratio.median), Some(130.0 / 30.0));
        assert!(of(&all, &all[2], "IPv6").is_none());
        let report = report(&all);
        assert!(
            report.contains("something (run once)   1000 ± 25          -   12.11 ± 0.28              -\n"),
            "{report}"
        );
    }
}
