//! Measures the eBPF programs, one packet at a time: nanoseconds on each path, and of a program that does nothing.
//!
//! `cargo xtask bench` runs this and shows the result; it prints JSON. Needs root. Packets go through BPF_PROG_TEST_RUN: a
//! redirect is decided but not carried out, so what the kernel does afterwards is not in the figures.
//!
//! The kernel can run a program many times over one packet, but each run finds the packet as the one before left it. So that it
//! always takes the same path, the uplink's address is the container's own here, and ports are published on the container's own
//! address: translation does all that it ever does, and writes what was there. Only the time to live falls, by one a run.
//! What opens a flow cannot be repeated; it is run once for each packet, and so is the program that does nothing beside it.

mod frame;
mod host;
mod paths;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use frame::Family;
use host::Host;
use paths::{PATHS, Path};

/// Runs over one packet: fewer than its time to live.
const REPEAT: u32 = 200;

/// Packets in each round of a path that is run once for each.
const PACKETS: u16 = 200;

/// How long a path that is repeated is measured in each round.
const PERIOD: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let rounds: u32 = match std::env::args().nth(1) {
        Some(text) => text.parse().context("the one argument is the number of rounds")?,
        None => 10,
    };
    let shown = measure(rounds)?.into_iter().map(|((number, family), nanoseconds)| {
        let Path { program, name, once, .. } = PATHS[number];
        json!({ "program": program, "path": name, "family": family.name(), "once": once, "nanoseconds": nanoseconds })
    });
    println!("{}", serde_json::to_string(&shown.collect::<Vec<_>>())?);
    Ok(())
}

/// The nanoseconds of each path, by its place in [`PATHS`]: one sample a round.
fn measure(rounds: u32) -> Result<BTreeMap<(usize, Family), Vec<f64>>> {
    let mut host = Host::new()?;
    let mut samples: BTreeMap<(usize, Family), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (number, path) in PATHS.iter().enumerate() {
            for family in Family::BOTH {
                samples.entry((number, family)).or_default().push(sample(&mut host, path, family)?);
            }
        }
        host.end_opened_flows()?;
    }
    Ok(samples)
}

/// The lower quartile of what one run took, in nanoseconds: what disturbs a run only ever makes it longer, and a median moves with how
/// busy the machine is.
fn sample(host: &mut Host, path: &Path, family: Family) -> Result<f64> {
    let mut times = Vec::new();
    let mut run = |packet, repeat| {
        let run = host.run(path, &(path.frame)(family).bytes(packet), repeat)?;
        let Path { program, name, verdict, .. } = path;
        let said = run.verdict;
        ensure!(said == *verdict, "{program} says {said} instead of {verdict} to \"{name}\" over {}", family.name());
        times.push(run.duration.as_nanos() as f64);
        anyhow::Ok(())
    };
    if path.once {
        for packet in 0..PACKETS {
            run(packet, 1)?;
        }
    } else {
        let start = Instant::now();
        while start.elapsed() < PERIOD {
            run(0, REPEAT)?;
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else something else would be measured than what is written beside it, or nothing.
    #[test]
    fn every_path_meets_its_verdict() {
        let samples = measure(1).unwrap();
        assert_eq!(samples.len(), PATHS.len() * Family::BOTH.len());
    }
}
