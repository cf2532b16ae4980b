//! `cargo xtask test`: all checks that a change has to pass, each through cargo.

use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::build;
use crate::demo;
use crate::dist;
use crate::kernels;
use crate::peers;
use crate::privilege;
use crate::progress::say;
use crate::python;
use crate::workspace::{self, SCENARIOS, Workspace, in_path};

/// Build, then check format and lints, and run all tests
///
/// Steps, each of which can be run alone: `format`, `lint`, `unit` (the crates' own tests), `scenario` (the binary in
/// network namespaces of its own; needs root, through sudo where the caller is not), `engines` (Docker, containerd and Podman
/// from Debian with our plugins, and the Debian package; root as well), `demo` (what `cargo xtask demo` plays) and `kernels` (the tests of the eBPF
/// programs and a core of the scenarios on Debian's older kernels, in qemu). All are run even where one fails. Prints what cargo prints and, at the end, one line for each step; the exit code is 1 if any failed.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Run this step alone
    #[arg(long, value_name = "NAME")]
    only: Option<Step>,

    /// Run the step `kernels` alone
    #[arg(long, conflicts_with = "only")]
    kernels: bool,

    /// Options for the test programs, as in `cargo xtask test --only unit -- ipam`
    #[arg(last = true, value_name = "LIBTEST OPTIONS")]
    libtest: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// All crates are as `cargo fmt` leaves them
    Format,
    /// Clippy has nothing to say
    Lint,
    /// Examples, unit and property tests of dataplane-common, spandrel and xtask
    Unit,
    /// Scenarios of the real binary on the real kernel
    Scenario,
    /// The real Docker, containerd and Podman with our plugins
    Engines,
    /// The demo goes as told
    Demo,
    /// The programs and a core of the scenarios on older kernels
    Kernels,
}

/// How the names of the test programs begin that run other people's engines.
const ENGINES: &str = "engine_";

/// How many tests of one program run side by side, for libtest.
const THREADS: &str = "RUST_TEST_THREADS";

/// A program that a step calls, and where it comes from. What scenarios need is in `peers` and `python`.
struct Need {
    step: Step,
    program: &'static str,
    install: &'static str,
}

const NEEDS: [Need; 2] = [
    Need { step: Step::Format, program: "cargo-fmt", install: "rustup component add rustfmt" },
    Need { step: Step::Lint, program: "cargo-clippy", install: "rustup component add clippy" },
];

/// Runs the steps and tells which failed.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    let only = if args.kernels { Some(Step::Kernels) } else { args.only };
    let wanted = |step: &Step| only.is_none_or(|only| only == *step);
    let steps: Vec<Step> = Step::value_variants().iter().copied().filter(wanted).collect();
    for need in NEEDS.iter().filter(|need| steps.contains(&need.step)) {
        if in_path(need.program).is_empty() {
            bail!("{} is not installed; `{}` brings it", need.program, need.install);
        }
    }
    // Every crate that embeds the eBPF object needs it, and scenarios need the whole binary.
    let mut spandrel = PathBuf::new();
    if steps.iter().any(|step| matches!(step, Step::Scenario | Step::Engines)) {
        peers::ensure(workspace)?;
        python::ensure(workspace)?;
    }
    if steps.iter().any(|step| matches!(step, Step::Scenario | Step::Engines | Step::Demo | Step::Kernels)) {
        spandrel = build::spandrel(workspace, build::Profile::default())?;
        if steps.contains(&Step::Engines) {
            dist::package(workspace, &spandrel)?;
        }
    } else if steps != [Step::Format] {
        build::ebpf(workspace)?;
    }

    let mut summary = Vec::new();
    for step in steps {
        say("Testing", step.name());
        let start = Instant::now();
        let result = step.run(workspace, &spandrel, &args.libtest);
        if let Err(error) = &result {
            eprintln!("xtask: {error:#}");
        }
        summary.push((step, result.is_ok(), start.elapsed()));
    }
    for (step, passed, time) in &summary {
        say(if *passed { "Passed" } else { "Failed" }, format!("{} in {:.0} s", step.name(), time.as_secs_f32()));
    }
    let failed: Vec<_> = summary.iter().filter(|(_, passed, _)| !passed).map(|(step, ..)| step.name()).collect();
    if !failed.is_empty() {
        bail!("not everything passed: {}", failed.join(", "));
    }
    Ok(())
}

impl Step {
    /// The name to type.
    fn name(self) -> &'static str {
        match self {
            Step::Format => "format",
            Step::Lint => "lint",
            Step::Unit => "unit",
            Step::Scenario => "scenario",
            Step::Engines => "engines",
            Step::Demo => "demo",
            Step::Kernels => "kernels",
        }
    }

    fn run(self, workspace: &Workspace, spandrel: &Path, libtest: &[OsString]) -> Result<()> {
        let cargo = |words: &[&str]| {
            let mut cargo = workspace.cargo();
            cargo.args(words);
            cargo
        };
        match self {
            Step::Format => workspace::run(&mut cargo(&["fmt", "--all", "--", "--check"])),
            Step::Lint => {
                let host = &mut cargo(&["clippy", "--workspace", "--exclude", "dataplane-ebpf", "--all-targets"]);
                // Clippy comes with the host's compiler only; for what it looks at the host's `core` is as good. A
                // crate without std has no panic handler that could unwind. And as some crates build differently where
                // unstable features are allowed, this has a target folder of its own.
                let ebpf = &mut cargo(&["clippy", "--package=dataplane-ebpf", "--config=profile.dev.panic='abort'"]);
                ebpf.env("RUSTC_BOOTSTRAP", "1").arg("--target-dir").arg(workspace.bpf_lint());
                let results = [host, ebpf].map(|cargo| workspace::run(cargo.args(["--", "-Dwarnings"])));
                results.into_iter().collect()
            }
            Step::Unit => {
                let examples = &mut cargo(&["test", "--doc", "--package=dataplane-common", "--package=spandrel"]);
                let tests = &mut cargo(&["test", "--lib", "--bins", "--tests"]);
                tests.args(["dataplane-common", "spandrel", "xtask"].map(|name| format!("--package={name}")));
                let results =
                    [examples, tests].map(|cargo| workspace::run(cargo.args(["--no-fail-fast", "--"]).args(libtest)));
                results.into_iter().collect()
            }
            Step::Scenario | Step::Engines => {
                let mut cargo = cargo(&["test", "--no-fail-fast", "--package", SCENARIOS]);
                let with_engines = self == Step::Engines;
                if !with_engines {
                    cargo.arg("--lib");
                }
                for name in workspace.scenarios().filter(|name| name.starts_with(ENGINES) == with_engines) {
                    cargo.arg("--test").arg(name);
                }
                // Cargo itself stays with the caller, so that what it writes stays the caller's.
                let runner = privilege::prefix("a scenario's network namespaces")?;
                if !runner.is_empty() {
                    cargo.args(["--config", &format!("target.'cfg(unix)'.runner={runner:?}")]);
                }
                // Scenarios wait more than they work: for what must not happen.
                if env::var_os(THREADS).is_none() {
                    let cores = available_parallelism().map_or(1, NonZero::get);
                    cargo.env(THREADS, (2 * cores).to_string());
                }
                workspace::run(cargo.env("SPANDREL_BIN", spandrel).arg("--").args(libtest))
            }
            Step::Demo => demo::run_with(spandrel),
            Step::Kernels => kernels::run(workspace, spandrel),
        }
    }
}
