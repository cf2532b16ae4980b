//! The older kernels that Spandrel promises to run on: Debian's, booted in qemu, with the program tests and a core of the
//! scenarios on each; and how many instructions the verifier walked through on every one of them.

pub(crate) mod guest;
mod initramfs;
mod machine;
mod modules;
mod packages;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::guest::Suite;
use self::machine::Machine;
use self::packages::Tools;
use crate::bench::table;
use crate::build::{self, Executables};
use crate::privilege;
use crate::progress::say;
use crate::workspace::{Workspace, output};

/// The kernels, by series.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// The scenarios that make the core, by file: who reaches whom, by which way, what a container may claim to be, and what goes on
/// without an agent. Each takes an emulated machine ten seconds or more, since it loads all programs anew.
const SCENARIOS: [(&str, &[&str]); 6] = [
    (
        "isolation",
        &["containers_of_one_network_reach_each_other", "networks_are_isolated", "no_protocol_crosses_networks"],
    ),
    (
        "published",
        &[
            "another_network_reaches_published_ports",
            "published_ports_keep_the_clients_address",
            "a_neighbour_does_not_reach_loopback",
            "a_container_without_ipv6_is_reached_by_ipv6",
        ],
    ),
    (
        "host",
        &[
            "a_container_reaches_the_host",
            "the_host_reaches_every_container",
            "the_host_reaches_published_ports_by_its_own_addresses",
            "the_host_reaches_published_ports_by_loopback",
            "the_host_sees_the_address_that_it_asked_for",
        ],
    ),
    ("outside", &["containers_cannot_be_reached_by_a_route", "the_way_out_is_masqueraded"]),
    ("spoofing", &["false_addresses_are_dropped", "false_arp_is_dropped"]),
    ("agent_away", &["a_transfer_in_survives_the_agent", "everything_is_as_before_after_a_crash"]),
];

/// The tests of crate `spandrel` that talk to the kernel.
const KERNEL_TESTS: &str = "kernel::";

/// The one of them that prints what the verifier did; it also knows the budget.
const BUDGET_TEST: &str = "kernel::dataplane::tests::every_program_loads_and_stays_within_its_budget";

/// How long one machine may take for all; two run at once, and each instruction of theirs is translated.
const LIMIT: Duration = Duration::from_secs(1800);

/// What came of one machine.
struct Outcome {
    series: &'static str,
    verified: Verified,
    complaints: Vec<String>,
}

/// Verified instructions by program.
type Verified = BTreeMap<String, u32>;

/// Runs everything on every kernel and prints what the verifier did.
pub(crate) fn run(workspace: &Workspace, spandrel: &Path) -> Result<()> {
    let tools = packages::ensure(workspace, &SERIES)?;
    let tests = build_tests(workspace)?;
    let mut columns = vec![verified_here(&tests)?];
    let suites = suites(&tests, spandrel)?;
    // Side by side: each waits a good part of its time for what must not arrive.
    let outcomes: Vec<_> = thread::scope(|scope| {
        let machines = SERIES.map(|series| {
            let (tools, suites) = (&tools, &suites);
            scope.spawn(move || run_on(workspace, tools, series, suites))
        });
        machines.map(|machine| machine.join().unwrap_or_else(|_| bail!("a machine's thread panicked"))).into()
    });
    let mut complaints = Vec::new();
    for outcome in outcomes {
        let outcome = outcome?;
        columns.push(outcome.verified);
        complaints.extend(outcome.complaints.into_iter().map(|text| format!("Linux {}: {text}", outcome.series)));
    }
    println!("\n{}", report(&columns));
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    Ok(())
}

/// Builds the test programs, in the company in which the other steps build them, so that nothing is built twice.
fn build_tests(workspace: &Workspace) -> Result<Executables> {
    let build = |packages: &[&str]| {
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--no-run", "--lib", "--tests"]).args(packages);
        build::executables(&mut cargo).context("the tests do not build")
    };
    let mut tests = build(&["--package=dataplane-common", "--package=spandrel", "--package=xtask"])?;
    tests.extend(build(&["--package=spandrel-tests"])?);
    Ok(tests)
}

/// What each machine runs.
fn suites(tests: &Executables, spandrel: &Path) -> Result<Vec<Suite>> {
    let environment = BTreeMap::from(
        [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("SPANDREL_BIN", &spandrel.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let suite = |name: &str, program: &Path, arguments: &[&str]| Suite {
        name: name.to_owned(),
        program: program.to_owned(),
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        environment: environment.clone(),
    };
    let mut suites = vec![suite("programs", test(tests, "lib", "spandrel")?, &[KERNEL_TESTS, "--show-output"])];
    for (file, names) in SCENARIOS {
        suites.push(suite(file, test(tests, "test", file)?, &[&["--exact"], names].concat()));
    }
    Ok(suites)
}

fn test<'a>(tests: &'a Executables, kind: &str, name: &str) -> Result<&'a Path> {
    let path = tests.get(&(kind.to_owned(), name.to_owned())).map(PathBuf::as_path);
    path.with_context(|| format!("cargo built no tests of {name}"))
}

/// What the verifier did on this machine's own kernel.
fn verified_here(tests: &Executables) -> Result<Verified> {
    let mut command = privilege::command(test(tests, "lib", "spandrel")?, "running eBPF programs")?;
    Ok(verified(&output(command.args(["--exact", BUDGET_TEST, "--show-output"]))?))
}

/// Boots one kernel and runs all suites there.
fn run_on(workspace: &Workspace, tools: &Tools, series: &'static str, suites: &[Suite]) -> Result<Outcome> {
    let kernel = tools.kernel(series)?;
    say("Booting", format!("Linux {}", kernel.release));
    let machine = Machine::new(workspace, kernel, series, suites)?;
    let mut complaints: Vec<String> =
        machine.run(tools, LIMIT).err().iter().map(|error| format!("{error:#}")).collect();
    let report = fs::read(&machine.report).with_context(|| format!("cannot read {}", machine.report.display()))?;
    let report = String::from_utf8_lossy(&report);
    let endings: Vec<_> = report.lines().filter_map(guest::ending).collect();
    for suite in suites {
        match endings.iter().find(|ending| ending.name == suite.name) {
            Some(ending) if ending.passed => say("Passed", format!("{} on {series} {}", suite.name, ending.how)),
            Some(ending) => complaints.push(format!("{} failed {}", suite.name, ending.how)),
            None => complaints.push(format!("{} did not come to its end", suite.name)),
        }
    }
    if !complaints.is_empty() {
        for log in [&machine.console, &machine.report] {
            let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
            eprintln!("--- {}\n{}", workspace.display(log), String::from_utf8_lossy(&text));
        }
    }
    Ok(Outcome { series, verified: verified(&report), complaints })
}

/// What [`BUDGET_TEST`] has printed: lines of `verified PROGRAM NUMBER`.
fn verified(text: &str) -> Verified {
    let number = |line: &str| {
        let (program, number) = line.trim().strip_prefix("verified ")?.split_once(' ')?;
        Some((program.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

/// The table: a row for each program, a column for each kernel.
fn report(columns: &[Verified]) -> String {
    let programs: BTreeSet<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    let cell = |column: usize, program: &String| {
        columns.get(column).and_then(|column| column.get(program)).map_or("-".to_owned(), u32::to_string)
    };
    let row = |program: &String| {
        let [one, two, three] = [0, 1, 2].map(|column| cell(column, program));
        [program.clone(), one, two, three]
    };
    let rows: Vec<_> = programs.into_iter().map(row).collect();
    let [first, second] = SERIES;
    format!(
        "Instructions that the verifier walked through, by kernel; the tests refuse 200,000.\n\n{}",
        table::draw(["program", "here", first, second], 1, &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that no test has would run nothing, and pass.
    #[test]
    fn every_scenario_is_there() {
        for (file, names) in SCENARIOS {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tests");
            let text = fs::read_to_string(Path::new(path).join(file).with_extension("rs")).unwrap();
            for name in names {
                assert!(text.contains(&format!("\n#[test]\nfn {name}() {{")), "{file} has no test {name}");
            }
        }
    }

    #[test]
    fn the_table_is_read_from_what_the_test_prints() {
        let here = verified("---- stdout ----\nverified collect 77\nverified from_uplink 1234\r\n\nverified x\n");
        let older = verified("verified collect 80\n");
        let shown = report(&[here, older]);
        assert!(shown.contains("collect         77    80      -\nfrom_uplink   1234     -      -\n"), "{shown}");
    }
}
