//! `cargo xtask fuzz`: the fuzzer of the eBPF programs for as long as one likes. It is the test `fuzz` of the crate `spandrel`,
//! which `cargo xtask test` runs for some seconds.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;

use crate::build;
use crate::privilege;
use crate::progress::say;
use crate::workspace::{self, Workspace};

/// Build, then feed arbitrary frames to the eBPF programs
///
/// Sequences of packets, most of them nearly right, are run by the real programs in a network namespace of its own, and what
/// comes out is checked: nothing crosses networks, nothing grows, checksums stay right or wrong, and more. What breaks a
/// rule is shortened and printed with all its frames, and the exit code is 1. Needs root, through sudo where the caller is not.
#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,

    /// Where to begin; a failure tells its seed, which plays it again at once [default: the time]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

/// Runs the fuzzer.
pub(crate) fn run(workspace: &Workspace, args: &FuzzArgs) -> Result<()> {
    build::ebpf(workspace)?;
    let runner = privilege::prefix("running eBPF programs")?;
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--quiet", "--release", "--package=spandrel", "--test=fuzz"]);
    if !runner.is_empty() {
        cargo.args(["--config", &format!("target.'cfg(unix)'.runner={runner:?}")]);
    }
    let seed = args.seed.unwrap_or_else(fresh_seed);
    cargo.env("SPANDREL_FUZZ_SECONDS", args.seconds.to_string()).env("SPANDREL_FUZZ_SEED", seed.to_string());
    say("Fuzzing", format!("for {} s from seed {seed}", args.seconds));
    workspace::run(cargo.args(["--", "--nocapture", "arbitrary_frames"]))
}

/// One that is far from those of other runs: sequences of a run are numbered upwards from its seed.
fn fresh_seed() -> u64 {
    const SEQUENCES_OF_A_SECOND: u64 = 1 << 20;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    now.wrapping_mul(SEQUENCES_OF_A_SECOND)
}
