//! Throughput between two containers: measuring and showing it.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use spandrel_tests::{V4, V6};

use super::BenchArgs;
use super::load::{Cpus, Load};
use super::peers::{Peers, Way};
use super::plots::{Bars, Figure, Plot};
use super::statistics::Estimate;
use super::table;
use crate::progress::items;

/// A ratio that is less certain than this says nothing.
const CERTAIN: f64 = 0.05;

/// What was measured of one load over one way; sample N of all ways was taken in one go.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Series {
    load: Load,
    way: Way,
    /// Bytes, datagrams, exchanges or connections in a second.
    samples: Vec<f64>,
}

/// Takes all samples. Must be root.
pub(super) fn measure(spandrel: &Path, args: &BenchArgs) -> Result<Vec<Series>> {
    let peers = Peers::new(spandrel.to_path_buf(), if args.ipv6 { V6 } else { V4 })?;
    let (cpus, period) = (Cpus::choose()?, args.period());
    let new = |load| Way::ALL.map(|way| Series { load, way, samples: Vec::new() });
    let mut all: Vec<Series> = Load::ALL.into_iter().flat_map(new).collect();
    let progress = items(u64::from(args.rounds()) * all.len() as u64);
    for round in 0..args.rounds() {
        for load in Load::ALL {
            // All ways right after each other, in an order that favours none: what the machine does besides changes with time.
            let mut order: Vec<_> = peers.all.iter().collect();
            order.rotate_left(round as usize % peers.all.len());
            if round % 2 == 1 {
                order.reverse();
            }
            for peer in order {
                progress.set_message(format!("{}, {}", load.name(), peer.way.name()));
                let sample = load.measure(peer, cpus, period)?;
                let series = all.iter_mut().find(|series| (series.load, series.way) == (load, peer.way));
                series.context("a way that is no way")?.samples.push(sample);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

/// The samples as a table with its explanation.
pub(super) fn report(all: &[Series]) -> String {
    let samples = |load, way| {
        let series = all.iter().find(|series| (series.load, series.way) == (load, way));
        series.map_or(&[][..], |series| &series.samples)
    };
    let mut rows = Vec::new();
    let mut unclear = Vec::new();
    for load in Load::ALL {
        let value = |way| table::value(Estimate::of(samples(load, way)).map(|rate| rate * load.scale()));
        let [veth, bridge, spandrel] = Way::ALL.map(value);
        let mut ratio = |way: Way| {
            let ratio = Estimate::of_ratios(samples(load, way), samples(load, Way::Veth));
            if ratio.is_some_and(|ratio| ratio.spread > CERTAIN) {
                unclear.push(format!("{} over {}", load.name(), way.name()));
            }
            table::ratio(ratio)
        };
        let [to_bridge, to_spandrel] = [Way::Bridge, Way::Spandrel].map(&mut ratio);
        rows.push([load.name().to_owned(), veth, bridge, spandrel, to_bridge, to_spandrel]);
    }
    let [veth, bridge, spandrel] = Way::ALL.map(Way::name);
    let header = ["Between two namespaces", veth, bridge, spandrel, "bridge / veth", "Spandrel / veth"];
    let rounds = samples(Load::TcpStream, Way::Veth).len();
    let mut text = format!(
        "\nMedian of {rounds} rounds ± half of what their middle half spans. More is better, and a bare veth pair is the limit.\n\
         Client and server have a CPU each; where they share one, the figure tells the CPU time spent, and is steadier.\n\n{}",
        table::draw(header, 1, &rows)
    );
    if !unclear.is_empty() {
        text += &format!(
            "\nToo much else is going on for a verdict on:\n  {}\nTry again on a quieter machine, or with --rounds {}.\n",
            unclear.join("\n  "),
            rounds * 3
        );
    }
    text
}

/// What is drawn: each way's part of a bare veth pair.
pub(super) fn figures(all: &[Series]) -> Vec<Figure> {
    let samples = |load, way| {
        let series = all.iter().find(|series| (series.load, series.way) == (load, way));
        series.map_or(&[][..], |series| &series.samples)
    };
    let ratio = |load, way| Some(Estimate::of_ratios(samples(load, way), samples(load, Way::Veth))?.median);
    let group = |load: Load| (load.name().to_owned(), Way::ALL.map(|way| ratio(load, way)).to_vec());
    let bars = Bars {
        value: "part of a raw veth pair".into(),
        limit: 1.0,
        series: Way::ALL.map(|way| way.name().to_owned()).to_vec(),
        groups: Load::ALL.map(group).to_vec(),
    };
    vec![Figure { name: "containers".into(), title: "Between containers".into(), plot: Plot::Bars(bars) }]
}
