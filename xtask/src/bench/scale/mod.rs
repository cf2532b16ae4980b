//! Whether size costs a packet anything: the data paths of a host that grows to thousands of networks, endpoints, ports and flows, next to
//! those of one that has two containers.

pub(in crate::bench) mod client;
pub(in crate::bench) mod crowd;
mod rules;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use spandrel_tests::{Net, Site, V4};

use super::load::{Cpus, Load, Step, bind};
use super::peers::{DataPath, Ends};
use super::plots::{Curves, Figure, Plot};
use super::statistics::Estimate;
use super::table;
use super::{BenchArgs, by_turns};
use crate::progress::items;
use crowd::{Crowd, FIRST_PORT, PORT, Size};

/// How much slower the crowded host may be.
const TARGET: f64 = 0.97;

/// A ratio that is less certain than this says nothing.
const CERTAIN: f64 = 0.02;

/// Both hosts have room for all flows, and keep those that nothing answers. One container may own an eighth of the room.
const OPTIONS: &str = "--max-flows 600000 --idle-timeout udp-unanswered=3600";

/// One sample is no longer than this: there are many, and they are of ratios.
const PERIOD: Duration = Duration::from_millis(150);

/// How long one host works before it is the other one's turn.
const TURN: Duration = Duration::from_millis(3);

/// How often every step of growth is measured; the last one is measured as often as the options say.
const ROUNDS: u32 = 3;

/// Why a packet finds no room for its flow.
const FULL: [&str; 3] = ["FlowTableFull", "FlowQuota", "NoPort"];

/// How often a sample is taken again that could not be taken.
const TRIES: usize = 3;

/// The two ends of a path on a host.
fn ends(path: DataPath, crowd: &Crowd) -> Ends {
    let Crowd { site, client, server, server_address, .. } = crowd;
    let (client, server) = (client.clone(), server.clone());
    let [outside, host] = [&*site.internet, &**site.host].map(Net::clone);
    let container = SocketAddr::new(*server_address, PORT);
    let far = SocketAddr::new(Site::far(V4), PORT);
    match path {
        DataPath::Containers => Ends { client, server, listen: container, dial: container },
        DataPath::Published => {
            Ends { client: outside, server, listen: container, dial: (site.public(V4), PORT).into() }
        }
        DataPath::Masqueraded => Ends { client, server: outside, listen: far, dial: far },
        DataPath::Loopback => {
            Ends { client: host, server, listen: container, dial: (Ipv4Addr::LOCALHOST, PORT).into() }
        }
    }
}

/// The paths that are looked at in each step; in the end it is all.
const PATHS: [DataPath; 3] = [DataPath::Containers, DataPath::Published, DataPath::Masqueraded];

/// What is looked at in each step: what costs a packet something, and what costs a new flow something.
const LOADS: [Load; 2] = [Load::UdpPacketsOnOne, Load::TcpConnections];

/// What is looked at in the end: not streams, whose packets are so large that size could not cost them anything.
const ALL_LOADS: [Load; 3] = [Load::UdpPacketsOnOne, Load::TcpExchanges, Load::TcpConnections];

/// What grows, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Axis {
    Networks,
    Endpoints,
    Ports,
    Flows,
}

impl Axis {
    /// In this order: networks and endpoints are made faster while there are no flows.
    const ALL: [Axis; 4] = [Axis::Networks, Axis::Endpoints, Axis::Ports, Axis::Flows];

    fn name(self) -> &'static str {
        match self {
            Axis::Networks => "networks",
            Axis::Endpoints => "endpoints",
            Axis::Ports => "ports",
            Axis::Flows => "flows",
        }
    }

    /// How much there is after each step.
    fn steps(self, quick: bool) -> &'static [usize] {
        let all: &[usize] = match self {
            Axis::Networks => &[10, 100, 1000],
            Axis::Endpoints => &[20, 200, 2000],
            Axis::Ports => &[100, 1000, 10_000],
            Axis::Flows => &[1000, 50_000, 500_000],
        };
        // A quick look makes only what is made within a second or two.
        match (quick, self) {
            (true, Axis::Networks | Axis::Endpoints) => &all[..1],
            (true, Axis::Ports | Axis::Flows) => &all[..2],
            (false, _) => all,
        }
    }

    fn of(self, size: Size) -> usize {
        match self {
            Axis::Networks => size.networks,
            Axis::Endpoints => size.endpoints,
            Axis::Ports => size.ports,
            Axis::Flows => size.flows,
        }
    }

    fn grow(self, crowd: &mut Crowd, to: usize) -> Result<()> {
        let more = to - self.of(crowd.size());
        match self {
            Axis::Networks => crowd.add_networks(more),
            Axis::Endpoints => crowd.add_endpoints(more),
            Axis::Ports => crowd.add_ports(more),
            Axis::Flows => crowd.add_flows(more),
        }
    }
}

/// All that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    paths: Vec<Samples>,
    rules: Vec<rules::Samples>,
}

/// What was measured of one load on one path while the host was that large; sample N of both was taken in one go.
#[derive(Debug, Serialize, Deserialize)]
struct Samples {
    size: Size,
    path: DataPath,
    load: Load,
    /// Datagrams, connections and so on in a second, on the host that grows and on the one that does not.
    crowd: Vec<f64>,
    small: Vec<f64>,
}

impl Samples {
    fn ratio(&self) -> Option<Estimate> {
        Estimate::of_ratios(&self.crowd, &self.small)
    }
}

/// Takes all samples. Must be root.
pub(super) fn measure(spandrel: &Path, args: &BenchArgs) -> Result<Figures> {
    // Rules first, which are gone before there is a crowd.
    Ok(Figures { rules: rules::measure(args)?, paths: measure_paths(spandrel, args)? })
}

fn measure_paths(spandrel: &Path, args: &BenchArgs) -> Result<Vec<Samples>> {
    let (mut crowd, small) = (Crowd::new(spandrel, OPTIONS)?, Crowd::new(spandrel, OPTIONS)?);
    let (cpus, period) = (Cpus::choose()?, period(args));
    let sample = |crowd: &Crowd, paths: &[DataPath], loads: &[Load], rounds: u32| -> Result<Vec<Samples>> {
        let mut all = Vec::new();
        for &path in paths {
            for &load in loads {
                all.push(Samples { size: crowd.size(), path, load, crowd: Vec::new(), small: Vec::new() });
            }
        }
        for _ in 0..rounds {
            for samples in &mut all {
                let hosts = [crowd, &small].map(|host| ends(samples.path, host));
                let [crowd, small] = rates(samples.load, hosts.each_ref(), cpus, period)
                    .with_context(|| format!("{} from {}", samples.load.plain_name(), samples.path.name()))?;
                samples.crowd.push(crowd);
                samples.small.push(small);
            }
        }
        Ok(all)
    };
    let progress = items(Axis::ALL.iter().map(|axis| axis.steps(args.quick).len() as u64).sum());
    // A quick look is at the end alone.
    let step_rounds = if args.quick { 0 } else { ROUNDS };
    let mut all = sample(&crowd, &PATHS, &LOADS, step_rounds)?;
    for axis in Axis::ALL {
        for &step in axis.steps(args.quick) {
            progress.set_message(format!("{step} {}", axis.name()));
            axis.grow(&mut crowd, step)?;
            all.extend(sample(&crowd, &PATHS, &LOADS, step_rounds)?);
            progress.inc(1);
        }
    }
    all.retain(|samples| samples.size != crowd.size() && !samples.crowd.is_empty());
    all.extend(sample(&crowd, &DataPath::ALL, &ALL_LOADS, args.rounds())?);
    progress.finish_and_clear();
    // What waits for room would not be seen in the time of a CPU.
    for host in [&crowd, &small] {
        let refused = host.site.host.dropped_anywhere(|reason| FULL.contains(&reason));
        if refused > 0 {
            bail!("{refused} packets found no room for their flows ({FULL:?}): the figures tell nothing");
        }
    }
    Ok(all)
}

/// How long a sample is.
fn period(args: &BenchArgs) -> Duration {
    args.period().min(PERIOD)
}

/// How much gets done in a second on two hosts. One thread does both ends of both, by turns so short that whatever else goes on meets
/// both alike.
fn rates(load: Load, hosts: [&Ends; 2], cpus: Cpus, period: Duration) -> Result<[f64; 2]> {
    let measure = || {
        let mut steps = [load.both_ends(hosts[0])?, load.both_ends(hosts[1])?];
        let mut all = [Vec::new(), Vec::new()];
        for round in 0..(period.as_millis() / TURN.as_millis()) as usize {
            for host in by_turns(&[0, 1], round) {
                let step = &mut steps[host];
                all[host].push(hosts[host].client.run(|| turn(step, cpus.server))?);
            }
        }
        io::Result::Ok(all)
    };
    // On a machine that is busy otherwise, somebody may get no CPU for longer than a socket waits.
    let all = (1..TRIES).find_map(|_| measure().ok()).map_or_else(measure, Ok)?;
    let [Some(one), Some(other)] = all.map(|rates| Estimate::of(&rates)) else {
        bail!("there was no time for a single turn")
    };
    if one.median == 0.0 || other.median == 0.0 {
        bail!("nothing passed");
    }
    Ok([one.median, other.median])
}

/// Does a load for a moment and tells how much gets done in a second. What the other host has pushed out of the caches comes back first.
fn turn(step: &mut Step, cpu: usize) -> io::Result<f64> {
    bind(Pid::from_raw(0), cpu)?;
    let mut rate = 0.0;
    for time in [TURN / 8, TURN] {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < time {
            count += step()?;
        }
        rate = count as f64 / start.elapsed().as_secs_f64();
    }
    Ok(rate)
}

/// The samples as tables with their explanation.
pub(super) fn report(all: &Figures) -> String {
    report_paths(&all.paths) + &rules::report(&all.rules, &largest(&all.paths))
}

/// Those of the crowd at its largest.
fn largest(all: &[Samples]) -> Vec<&Samples> {
    let Some(last) = all.last() else { return Vec::new() };
    all.iter().filter(|samples| samples.size == last.size).collect()
}

fn report_paths(all: &[Samples]) -> String {
    let sizes = sizes(all);
    let Some(&largest) = sizes.last() else { return String::new() };
    let Size { ports, networks, endpoints, flows } = largest;
    let mut rows = Vec::new();
    for path in DataPath::ALL {
        for samples in all.iter().filter(|samples| samples.size == largest && samples.path == path) {
            let Samples { load, crowd, small, .. } = samples;
            let [crowd, small] =
                [crowd, small].map(|rates| table::value(Estimate::of(rates).map(|rate| rate * load.scale())));
            let ratio = samples.ratio();
            let what = format!("{}: {}", path.name(), load.name());
            rows.push([what, small, crowd, table::ratio(ratio), verdict(ratio)]);
        }
    }
    let header = ["On one host", "two containers", "the crowd", "ratio", "target"];
    let mut text = format!(
        "\nA host with {ports} published ports, {networks} networks, {endpoints} endpoints and {flows} live flows, next to one with two containers \
         and one published port.\nMedians ± half of what their middle half spans; target: a ratio of at least {TARGET}. One thread does both ends, on the two hosts \
         by turns of {TURN:?}.\n\n{}",
        table::draw(header, 1, &rows)
    );
    if sizes.len() == 1 {
        return text;
    }
    let cell = |size, path, load| {
        let found = all.iter().find(|samples| (samples.size, samples.path, samples.load) == (size, path, load));
        found.and_then(Samples::ratio).map_or("-".into(), |ratio| format!("{:.2}", ratio.median))
    };
    let row = |&size: &Size| {
        let Size { ports, networks, endpoints, flows } = size;
        let [udp, tcp] = LOADS.map(|load| PATHS.map(|path| cell(size, path, load)));
        let [[a, b, c], [d, e, f]] = [udp, tcp];
        let [networks, endpoints, ports, flows] = [networks, endpoints, ports, flows].map(|count| count.to_string());
        [networks, endpoints, ports, flows, a, b, c, d, e, f]
    };
    let rows: Vec<_> = sizes.iter().map(row).collect();
    let header = ["networks", "endpoints", "ports", "flows", "UDP: c↔c", "o→p", "c→o", "new TCP: c↔c", "o→p", "c→o"];
    text += &format!(
        "\nThe same ratios on the way there, by {ROUNDS} rounds each: UDP packets and new TCP connections between containers (c↔c), to a published port \
         (o→p), to the outside (c→o).\n\n{}",
        table::draw(header, 0, &rows)
    );
    text
}

/// All sizes in the order in which they were measured.
fn sizes(all: &[Samples]) -> Vec<Size> {
    let mut sizes: Vec<_> = all.iter().map(|samples| samples.size).collect();
    sizes.dedup();
    sizes
}

/// Whether the target is met, and if not, by how much it is missed.
fn verdict(ratio: Option<Estimate>) -> String {
    match ratio {
        None => "-".into(),
        Some(Estimate { spread, .. }) if spread > CERTAIN => "unclear: too much else is going on".into(),
        Some(Estimate { median, .. }) if median >= TARGET => "met".into(),
        Some(Estimate { median, .. }) => format!("missed by {:.0} %", (TARGET - median) * 100.0),
    }
}

/// What is drawn: the ratios over how much there is of each, and next to what rules cost.
pub(super) fn figures(all: &Figures) -> Vec<Figure> {
    let mut figures = curves(&all.paths);
    figures.extend(rules::figure(&all.rules, &largest(&all.paths)));
    figures
}

/// A quick look has no such curves.
fn curves(all: &[Samples]) -> Vec<Figure> {
    let sizes = sizes(all);
    let figure = |axis: Axis| {
        // The last size before the axis grows belongs to it, as do all until another one grows.
        let grown: Vec<_> = sizes
            .windows(2)
            .filter(|pair| {
                axis.of(pair[0]) != axis.of(pair[1]) && !(axis == Axis::Endpoints && pair[0].flows != pair[1].flows)
            })
            .collect();
        let points: Vec<_> = grown.iter().take(1).map(|pair| pair[0]).chain(grown.iter().map(|pair| pair[1])).collect();
        let line = |path: DataPath, load: Load| {
            let point = |size: &Size| {
                let same = |samples: &&Samples| (samples.size, samples.path, samples.load) == (*size, path, load);
                Some((axis.of(*size).max(1) as f64, all.iter().find(same)?.ratio()?.median))
            };
            let what = if load == LOADS[0] { "UDP" } else { "new TCP" };
            (format!("{what}, {}", path.name().to_lowercase()), points.iter().filter_map(point).collect::<Vec<_>>())
        };
        let lines = LOADS.iter().flat_map(|load| PATHS.map(|path| line(path, *load)));
        let lines: Vec<_> = lines.filter(|(_, points)| points.len() > 1).collect();
        let plot = Curves { count: axis.name().into(), value: "part of what two containers get".into(), lines };
        (!plot.lines.is_empty()).then(|| Figure {
            name: format!("scale-{}", axis.name()),
            title: format!("With more {}", axis.name()),
            plot: Plot::Curves(plot),
        })
    };
    Axis::ALL.into_iter().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(size: Size, load: Load, crowd: f64) -> Samples {
        Samples { size, path: DataPath::Published, load, crowd: vec![crowd], small: vec![100_000.0] }
    }

    #[test]
    fn the_largest_size_has_verdicts_and_each_axis_its_curve() {
        let one = Size { ports: 1, networks: 1, endpoints: 2, flows: 0 };
        let ten = Size { networks: 10, ..one };
        let full = Size { flows: 1000, endpoints: 18, ..ten };
        let all = [
            samples(one, Load::UdpPacketsOnOne, 100_000.0),
            samples(ten, Load::UdpPacketsOnOne, 99_000.0),
            samples(full, Load::UdpPacketsOnOne, 98_000.0),
            samples(full, Load::TcpExchanges, 90_000.0),
        ];
        let text = report_paths(&all);
        let line = |end: &str| {
            text.lines().find(|line| line.contains(end)).unwrap_or_else(|| panic!("{end}\n{text}")).to_owned()
        };
        assert!(line("published port: UDP").ends_with("0.98 ± 0.00             met"), "{text}");
        assert!(line("published port: TCP request").ends_with("0.90 ± 0.00   missed by 7 %"), "{text}");
        let figures = curves(&all);
        let points = |axis: Axis| {
            let figure = figures.iter().find(|figure| figure.name.ends_with(axis.name()))?;
            let Plot::Curves(curves) = &figure.plot else { panic!("bars") };
            Some(curves.lines.iter().find(|line| line.0 == "UDP, outside to published port")?.1.clone())
        };
        assert_eq!(points(Axis::Networks), Some(vec![(1.0, 1.0), (10.0, 0.99)]));
        assert_eq!(points(Axis::Endpoints), None, "they came with the flows");
        assert_eq!(points(Axis::Flows), Some(vec![(1.0, 0.99), (1000.0, 0.98)]));
    }
}
