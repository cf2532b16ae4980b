//! The data paths: every load on each of them, Spandrel next to its peers by turns; the targets that it is held against.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use spandrel_tests::{Lab, V4, V6};

use super::load::{Cpus, Load};
use super::peers::{DataPath, Lane, Peer, Sites};
use super::plots::{Bars, Figure, Plot};
use super::statistics::Estimate;
use super::table;
use super::tools::Tools;
use super::{BenchArgs, by_turns};
use crate::progress::items;

/// A ratio that is less certain than this, and whose target lies within, says nothing.
const CERTAIN: f64 = 0.05;

/// Who is compared; over IPv6 Docker and the others have nothing by default, and for a first look the limit and Docker are enough.
const PEERS_OF_IPV6: [Peer; 4] = [Peer::Veth, Peer::Address, Peer::Bridge, Peer::Spandrel];
const PEERS_OF_QUICK: [Peer; 4] = [Peer::Veth, Peer::Address, Peer::Docker, Peer::Spandrel];

/// What is measured on each path, and what Spandrel has to reach there: its ratio to the limit, and to Docker.
const TARGETS: [(DataPath, Load, f64, f64); 23] = [
    (DataPath::Containers, Load::TcpStream, 0.97, 1.2),
    (DataPath::Containers, Load::UdpPackets, 0.95, 1.6),
    (DataPath::Containers, Load::UdpPacketsOnOne, 0.95, 1.6),
    (DataPath::Containers, Load::TcpExchanges, 0.97, 1.2),
    (DataPath::Containers, Load::LatencyMedian, 0.97, 1.2),
    (DataPath::Containers, Load::LatencyTail, 0.97, 1.2),
    (DataPath::Containers, Load::TcpConnections, 0.94, 1.25),
    (DataPath::Published, Load::TcpStream, 0.95, 1.25),
    (DataPath::Published, Load::UdpPackets, 0.92, 1.6),
    (DataPath::Published, Load::UdpPacketsOnOne, 0.92, 1.6),
    (DataPath::Published, Load::TcpExchanges, 0.97, 1.2),
    (DataPath::Published, Load::LatencyMedian, 0.97, 1.2),
    (DataPath::Published, Load::LatencyTail, 0.97, 1.2),
    (DataPath::Published, Load::TcpConnections, 0.90, 1.4),
    (DataPath::Published, Load::HttpKeepAlive, 0.95, 1.2),
    (DataPath::Published, Load::HttpClose, 0.95, 1.2),
    (DataPath::Masqueraded, Load::TcpStream, 0.95, 1.25),
    (DataPath::Masqueraded, Load::UdpPackets, 0.92, 1.6),
    (DataPath::Masqueraded, Load::UdpPacketsOnOne, 0.92, 1.6),
    (DataPath::Masqueraded, Load::TcpExchanges, 0.97, 1.2),
    (DataPath::Masqueraded, Load::TcpConnections, 0.90, 1.4),
    (DataPath::Loopback, Load::TcpStream, 0.95, 2.0),
    (DataPath::Loopback, Load::TcpConnections, 0.95, 2.0),
];

/// What is left out for a first look: what says much the same as another load, and takes a second.
const NOT_QUICK: [Load; 4] = [Load::UdpPackets, Load::LatencyMedian, Load::LatencyTail, Load::HttpClose];

/// What was measured of one load on a path with one peer; sample N of all peers was taken in one go.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Series {
    path: DataPath,
    load: Load,
    peer: Peer,
    /// Bytes, datagrams, exchanges, connections or requests in a second; microseconds of latency.
    samples: Vec<f64>,
}

/// Takes all samples. Must be root.
pub(super) fn measure(spandrel: &Path, args: &BenchArgs) -> Result<Vec<Series>> {
    let wanted =
        |peer: &Peer| (!args.ipv6 || PEERS_OF_IPV6.contains(peer)) && (!args.quick || PEERS_OF_QUICK.contains(peer));
    let peers = Peer::ALL.into_iter().filter(wanted).collect();
    // A tail comes with its median.
    let skipped = |load: &Load| *load == Load::LatencyTail || (args.quick && NOT_QUICK.contains(load));
    let loads: Vec<_> = TARGETS.iter().filter(|(_, load, ..)| !skipped(load)).collect();

    let lab = Lab::with(spandrel.to_path_buf());
    let (tools, cpus) = (Tools::new(&lab), Cpus::choose()?);
    let sites = Sites::new(lab, if args.ipv6 { V6 } else { V4 }, peers);
    let lanes = sites.lanes()?;
    let of = |path| lanes.all.iter().filter(move |lane| lane.path == path).collect::<Vec<&Lane>>();
    let steps: usize = loads.iter().map(|(path, ..)| of(*path).len()).sum();

    let mut all = Vec::new();
    let progress = items(u64::from(args.rounds()) * steps as u64);
    for round in 0..args.rounds() as usize {
        for &&(path, load, ..) in &loads {
            let slices = load.slices();
            let mut sums: Vec<(Load, Peer, f64)> = Vec::new();
            for slice in 0..slices as usize {
                for lane in by_turns(&of(path), round * slices as usize + slice) {
                    let (what, whose) = (load.name(), lane.peer.name());
                    progress.set_message(format!("{}: {what}, {whose}", path.name()));
                    let samples = load.measure(&tools, &lane.ends, cpus, args.period() / slices);
                    let failed = || format!("cannot measure \"{what}\" of {whose}, {}", path.name());
                    for (load, sample) in samples.with_context(failed)? {
                        match sums.iter_mut().find(|(of, peer, _)| (*of, *peer) == (load, lane.peer)) {
                            Some((.., sum)) => *sum += sample,
                            None => sums.push((load, lane.peer, sample)),
                        }
                    }
                }
            }
            for (load, peer, sum) in sums {
                record(&mut all, path, load, peer, sum / f64::from(slices));
            }
            progress.inc(of(path).len() as u64);
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

fn record(all: &mut Vec<Series>, path: DataPath, load: Load, peer: Peer, sample: f64) {
    match all.iter_mut().find(|series| (series.path, series.load, series.peer) == (path, load, peer)) {
        Some(series) => series.samples.push(sample),
        None => all.push(Series { path, load, peer, samples: vec![sample] }),
    }
}

fn samples(all: &[Series], path: DataPath, load: Load, peer: Peer) -> &[f64] {
    let found = all.iter().find(|series| (series.path, series.load, series.peer) == (path, load, peer));
    found.map_or(&[], |series| &series.samples)
}

/// How many times as fast one peer is as another.
fn ratio(all: &[Series], path: DataPath, load: Load, peer: Peer, to: Peer) -> Option<Estimate> {
    let [ours, theirs] = [peer, to].map(|peer| samples(all, path, load, peer));
    if load.is_time() { Estimate::of_ratios(theirs, ours) } else { Estimate::of_ratios(ours, theirs) }
}

/// What a ratio says of its target.
fn verdict(ratio: Option<Estimate>, target: f64) -> String {
    let said = match ratio {
        None => "not measured".into(),
        Some(Estimate { median, spread }) if spread > CERTAIN && (median - target).abs() < spread => "too noisy".into(),
        // As many digits as the ratio shows: what rounds to the target meets it.
        Some(Estimate { median, .. }) => match ((target - median) * 100.0).round() {
            ..=0.0 => "met".into(),
            missing => format!("missed by {:.2}", missing / 100.0),
        },
    };
    format!("≥ {target:.2}: {said}")
}

/// The samples as a table for each path, with their explanation.
pub(super) fn report(all: &[Series]) -> String {
    let rounds = all.iter().map(|series| series.samples.len()).max().unwrap_or(0);
    let mut text = format!(
        "\nMedians of {rounds} rounds; ratios ± half of what their middle half spans, in which more is better, of times, too. A raw veth\n\
         pair is the limit. Client and server have a CPU each; where they share one, the figure tells the CPU time spent, and is\n\
         steadier. Docker's proxy, which serves the loopback address, may use both.\n"
    );
    let mut unclear = Vec::new();
    for path in DataPath::ALL {
        let peers: Vec<_> = Peer::ALL
            .into_iter()
            .filter(|peer| all.iter().any(|series| (series.path, series.peer) == (path, *peer)))
            .collect();
        if peers.is_empty() {
            continue;
        }
        let rivals = [path.limit(), Peer::Docker].into_iter().filter(|rival| peers.contains(rival)).collect::<Vec<_>>();
        let mut rows = Vec::new();
        for (_, load, to_limit, to_docker) in TARGETS.into_iter().filter(|(of, ..)| *of == path) {
            if samples(all, path, load, Peer::Spandrel).is_empty() {
                continue;
            }
            let mut row = vec![load.name().to_owned()];
            let value = |&peer| Estimate::of(samples(all, path, load, peer)).map(|sample| sample * load.scale());
            row.extend(peers.iter().map(|peer| table::median(value(peer))));
            for &rival in &rivals {
                let ratio = ratio(all, path, load, Peer::Spandrel, rival);
                let verdict = verdict(ratio, if rival == Peer::Docker { to_docker } else { to_limit });
                if verdict.ends_with("noisy") {
                    unclear.push(format!("{}: {}, / {}", path.name(), load.name(), rival.name()));
                }
                row.extend([table::ratio(ratio), verdict]);
            }
            rows.push(row);
        }
        let ratios: Vec<_> = rivals.iter().map(|rival| format!("Spandrel / {}", rival.name())).collect();
        let mut header = vec![path.name()];
        header.extend(peers.iter().map(|peer| peer.name()));
        header.extend(ratios.iter().flat_map(|ratio| [ratio.as_str(), "target"]));
        text += &format!("\n{}", table::draw(header, 1, &rows));
    }
    if !unclear.is_empty() {
        text += &format!(
            "\nToo much else is going on for a verdict on:\n  {}\nTry again on a quieter machine, or with --rounds {}.\n",
            unclear.join("\n  "),
            rounds * 3
        );
    }
    text
}

/// What is drawn: for each path, how close everybody comes to the limit.
pub(super) fn figures(all: &[Series]) -> Vec<Figure> {
    let figure = |path: DataPath| {
        let measured = |peer: &Peer| all.iter().any(|series| (series.path, series.peer) == (path, *peer));
        let peers: Vec<_> = Peer::ALL.into_iter().filter(|peer| *peer != path.limit() && measured(peer)).collect();
        let loads = TARGETS.iter().filter(|(of, ..)| *of == path).map(|(_, load, ..)| *load);
        let bars = |load: Load| {
            let ratio = |&peer| ratio(all, path, load, peer, path.limit()).map(|ratio| ratio.median);
            (load.plain_name().to_owned(), peers.iter().map(ratio).collect::<Vec<_>>())
        };
        let groups: Vec<_> = loads.map(bars).filter(|(_, bars)| bars.iter().any(Option::is_some)).collect();
        let value = format!("how many times as fast as {}; more is better", path.limit().name());
        let series = peers.iter().map(|peer| peer.name().to_owned()).collect();
        (!groups.is_empty()).then(|| Figure {
            name: path.file().into(),
            title: path.name().into(),
            plot: Plot::Bars(Bars { value, limit: 1.0, series, groups }),
        })
    };
    DataPath::ALL.into_iter().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Vec<Series> {
        let mut all = Vec::new();
        let mut add = |path, load, of_peers: [(Peer, [f64; 3]); 3]| {
            for (peer, samples) in of_peers {
                samples.into_iter().for_each(|sample| record(&mut all, path, load, peer, sample));
            }
        };
        let steady = |value: f64| [value; 3];
        let streams = [(Peer::Veth, steady(2e9)), (Peer::Docker, steady(1.5e9)), (Peer::Spandrel, steady(1.9e9))];
        add(DataPath::Containers, Load::TcpStream, streams);
        let times = [(Peer::Veth, steady(10.0)), (Peer::Docker, steady(20.0)), (Peer::Spandrel, steady(10.0))];
        add(DataPath::Containers, Load::LatencyMedian, times);
        let noise = [(Peer::Veth, steady(1e6)), (Peer::Docker, steady(5e5)), (Peer::Spandrel, [7.8e5, 9e5, 1e6])];
        add(DataPath::Published, Load::UdpPackets, noise);
        all
    }

    fn row<'t>(text: &'t str, path: &str, load: &str) -> Vec<&'t str> {
        let lines = text.lines().skip_while(|line| !line.starts_with(path)).skip(1);
        let line = lines.take_while(|line| !line.is_empty()).find(|line| line.starts_with(load)).unwrap();
        line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn each_ratio_stands_beside_its_target() {
        let text = report(&measured());
        let stream = row(&text, "Container to container", "TCP stream");
        let expected = ["16.0", "12.0", "15.2", "0.95 ± 0.00", "≥ 0.97: missed by 0.02", "1.27 ± 0.00", "≥ 1.20: met"];
        assert_eq!(stream[1..], expected, "{text}");
        let latency = row(&text, "Container to container", "TCP latency, p50");
        assert_eq!(latency[4..], ["1.00 ± 0.00", "≥ 0.97: met", "2.00 ± 0.00", "≥ 1.20: met"], "{text}");
    }

    #[test]
    fn noise_is_a_verdict_only_where_the_target_lies_within() {
        let text = report(&measured());
        let packets = row(&text, "Outside to published port", "UDP packets");
        assert_eq!(packets[4..], ["0.90 ± 0.05", "≥ 0.92: too noisy", "1.80 ± 0.11", "≥ 1.60: met"], "{text}");
        assert!(
            text.contains("verdict on:\n  Outside to published port: UDP packets of 64 bytes, 1000/s, / raw veth\nTry"),
            "{text}"
        );
    }

    #[test]
    fn what_rounds_to_its_target_meets_it() {
        assert_eq!(verdict(Some(Estimate { median: 0.966, spread: 0.01 }), 0.97), "≥ 0.97: met");
        assert_eq!(verdict(Some(Estimate { median: 0.90, spread: 0.2 }), 0.97), "≥ 0.97: too noisy");
        assert_eq!(verdict(Some(Estimate { median: 1.50, spread: 0.2 }), 1.2), "≥ 1.20: met");
        assert_eq!(verdict(None, 0.97), "≥ 0.97: not measured");
    }

    #[test]
    fn the_limit_is_a_line_and_everybody_else_a_bar() {
        let figures = figures(&measured());
        assert_eq!(figures.iter().map(|figure| &*figure.name).collect::<Vec<_>>(), ["containers", "published"]);
        let Plot::Bars(bars) = &figures[0].plot else { panic!("bars are bars") };
        assert_eq!(bars.series, ["Docker", "Spandrel"]);
        assert_eq!(bars.groups[0], ("TCP stream".into(), vec![Some(0.75), Some(0.95)]));
        assert_eq!(bars.groups[1], ("TCP latency, p50".into(), vec![Some(0.5), Some(1.0)]));
    }
}
