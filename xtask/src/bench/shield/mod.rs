//! The shield: what a dropped packet costs with it and without, next to nftables, and what it costs the packets that pass.

mod flood;
mod wall;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use spandrel_tests::{Lab, Net, V4};

use super::load::{Cpus, Load};
use super::peers::{Ends, PORT};
use super::statistics::Estimate;
use super::table;
use super::tools::Tools;
use super::{BenchArgs, by_turns};
use crate::progress::items;
use wall::{Means, Wall};

/// The loads that are measured through an uplink, from outside to the host.
const LOADS: [Load; 4] = [Load::TcpStream, Load::TcpStreamOnOne, Load::UdpPacketsOnOne, Load::TcpExchanges];

/// What was measured; sample N of all means was taken in one go.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Samples {
    means: Means,
    /// Packets dropped in each second of CPU time.
    dropped: Vec<f64>,
    /// What passed in a second, by load.
    passed: Vec<(Load, Vec<f64>)>,
}

/// Takes all samples. Must be root.
pub(super) fn measure(spandrel: &Path, args: &BenchArgs) -> Result<Vec<Samples>> {
    let lab = Lab::with(spandrel.to_path_buf());
    let (tools, cpus, period) = (Tools::new(&lab), Cpus::choose()?, args.period());
    let walls = Means::ALL.into_iter().map(|means| Wall::new(&lab, means)).collect::<Result<Vec<_>>>()?;
    let ours = Means::OURS.into_iter().map(|means| position(&walls, means)).collect::<Result<Vec<_>>>()?;
    let mut all: Vec<_> =
        walls.iter().map(|wall| Samples { means: wall.means, dropped: Vec::new(), passed: Vec::new() }).collect();
    let progress = items(u64::from(args.rounds()) * (walls.len() + ours.len() * LOADS.len()) as u64);
    // First what passes: for the floods the interfaces are set up in a way of their own.
    for load in LOADS {
        for &index in &ours {
            all[index].passed.push((load, Vec::new()));
        }
        for round in 0..args.rounds() as usize {
            for index in by_turns(&ours, round) {
                let wall = &walls[index];
                progress.set_message(format!("{}, {}", load.name(), wall.means.name()));
                let samples = load.measure(&tools, &ends(wall), cpus, period)?;
                let passed = &mut all[index].passed.last_mut().context("a load that is none")?.1;
                passed.extend(samples.into_iter().map(|(_, sample)| sample));
                progress.inc(1);
            }
        }
    }
    let threads = walls.iter().map(|wall| wall.give_thread(cpus.server)).collect::<Result<Vec<Pid>>>()?;
    let every: Vec<usize> = (0..walls.len()).collect();
    for round in 0..args.rounds() as usize {
        for index in by_turns(&every, round) {
            progress.set_message(walls[index].means.name());
            let toll = walls[index].flood(threads[index], cpus.server, period)?;
            all[index].dropped.push(toll.packets as f64 / toll.time.as_secs_f64());
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

fn position(walls: &[Wall], means: Means) -> Result<usize> {
    walls.iter().position(|wall| wall.means == means).context("a means that is none")
}

/// Somebody outside, and the host itself.
fn ends(wall: &Wall) -> Ends {
    let at = SocketAddr::new(wall.uplink.host(V4), PORT);
    Ends { client: Net::clone(&wall.outside), server: Net::clone(&wall.host), listen: at, dial: at }
}

/// The samples as two tables with their explanation.
pub(super) fn report(all: &[Samples]) -> String {
    let of = |means| all.iter().find(|samples| samples.means == means);
    let dropped = |means| of(means).map_or(&[][..], |samples| &samples.dropped);
    let rows: Vec<_> = Means::ALL
        .into_iter()
        .map(|means| {
            let rate = Estimate::of(dropped(means)).map(|rate| rate * 1e-6);
            let cost = Estimate::of(&dropped(means).iter().map(|rate| 1e9 / rate).collect::<Vec<_>>());
            let ratio = |to| table::ratio(Estimate::of_ratios(dropped(means), dropped(to)));
            [
                means.name().to_owned(),
                table::value(rate),
                table::whole(cost),
                ratio(Means::Tc),
                ratio(Means::NftablesRaw),
            ]
        })
        .collect();
    let header = ["Dropped by", "million/s per core", "ns per packet", "/ TC", "/ nftables, prerouting"];
    let mut text = format!(
        "\nMedian of {} rounds ± half of what their middle half spans. A flood of UDP packets to a container's address, which the\n\
         kernel takes out of a veth's ring as a driver does from a card's. Counted is CPU time of that one thread.\n\n{}",
        dropped(Means::Tc).len(),
        table::draw(header, 1, &rows)
    );
    let passed = |means, load| {
        let series = of(means).and_then(|samples| samples.passed.iter().find(|(of, _)| *of == load));
        series.map_or(&[][..], |(_, samples)| samples)
    };
    let rows: Vec<_> = LOADS
        .into_iter()
        .map(|load| {
            let [off, generic, native] = Means::OURS.map(|means| passed(means, load));
            let value = |samples| table::value(Estimate::of(samples).map(|rate| rate * load.scale()));
            let ratio = |samples| table::ratio(Estimate::of_ratios(samples, off));
            [load.name().to_owned(), value(off), value(generic), value(native), ratio(generic), ratio(native)]
        })
        .collect();
    let header = ["From outside to the host", "no shield", "generic", "native", "generic / none", "native / none"];
    text += &format!(
        "\nWhat the shield costs traffic that passes, on an uplink that is a veth; more is better.\n\n{}",
        table::draw(header, 1, &rows)
    );
    text
}
