//! What published ports cost where packets go through rules one after the other: nftables as Docker writes it, with as many ports as the
//! crowd has, next to the same with one.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use spandrel_tests::{Lab, Machine, Net, Uplink, V4};

use super::{Axis, FIRST_PORT, LOADS, rates};
use crate::bench::load::{Cpus, Load};
use crate::bench::peers::{DataPath, Ends, PORT, Published, filtered};
use crate::bench::plots::{Bars, Figure, Plot};
use crate::bench::statistics::Estimate;
use crate::bench::{BenchArgs, table};
use crate::progress::items;

/// Under which numbers the first and the last port are published, over TCP and UDP; the last one's number inside. Those between them are
/// TCP's, and nobody uses them.
const FIRST: u16 = 8080;
const LAST: u16 = 8081;
const LAST_INSIDE: u16 = PORT + 1;

/// Where a packet goes, and whose rule it meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// To the port that was published first.
    First,
    /// To the one that was published last.
    Last,
    /// From a container to the outside.
    Out,
}

impl Way {
    const ALL: [Way; 3] = [Way::First, Way::Last, Way::Out];

    /// Whose rule, in few words.
    fn whose(self) -> &'static str {
        match self {
            Way::First => "first rule",
            Way::Last => "last rule",
            Way::Out => "to the outside",
        }
    }

    /// The name in a table.
    fn name(self) -> String {
        let path = self.path().name();
        if self == Way::Out { path.into() } else { format!("{path}, {}", self.whose()) }
    }

    /// The same of ours, which has no rules.
    fn path(self) -> DataPath {
        if self == Way::Out { DataPath::Masqueraded } else { DataPath::Published }
    }
}

/// What was measured of one load; sample N of both was taken in one go.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Samples {
    way: Way,
    load: Load,
    /// How many ports are published by the host with many.
    ports: usize,
    many: Vec<f64>,
    one: Vec<f64>,
}

impl Samples {
    fn ratio(&self) -> Option<Estimate> {
        Estimate::of_ratios(&self.many, &self.one)
    }

    /// Ours of the same.
    fn beside(&self, ours: &[&super::Samples]) -> Option<Estimate> {
        ours.iter().find(|ours| (ours.path, ours.load) == (self.way.path(), self.load))?.ratio()
    }

    fn name(&self) -> String {
        format!("{}: {}", self.way.name(), self.load.plain_name())
    }
}

/// A host with rules, and what is around it.
struct Filter {
    outside: Machine,
    uplink: Uplink,
    client: Net,
    server: Net,
    address: IpAddr,
    ports: Vec<Published>,
    /// The host and its containers.
    _machines: Vec<Machine>,
}

impl Filter {
    /// With so many ports between the first and the last; with none there is only the first.
    fn new(lab: &Lab, between: usize) -> Result<Self> {
        let both = |outside, inside| ["tcp", "udp"].map(|protocol| (protocol, outside, inside));
        let mut ports = both(FIRST, PORT).to_vec();
        if between > 0 {
            let numbers = (FIRST_PORT..FIRST_PORT + between).map(u16::try_from).collect::<Result<Vec<_>, _>>()?;
            ports.extend(numbers.into_iter().map(|number| ("tcp", number, number)));
            ports.extend(both(LAST, LAST_INSIDE));
        }
        let (host, outside) = (lab.machine(&format!("rules-{}", ports.len())), lab.machine("outside"));
        let uplink = lab.uplink(&host, &outside);
        let mut machines = Vec::new();
        let ([client, server], address) = filtered(lab, &host, &ports, &mut machines)?;
        machines.push(host);
        Ok(Self { outside, uplink, client, server, address, ports, _machines: machines })
    }

    /// The ends of a way; to the last rule, which is the first one where there is no other.
    fn ends(&self, way: Way) -> Ends {
        let outside = Net::clone(&self.outside);
        let published = |&(_, number, inside): &Published| Ends {
            client: outside.clone(),
            server: self.server.clone(),
            listen: (self.address, inside).into(),
            dial: (self.uplink.host(V4), number).into(),
        };
        let far = SocketAddr::new(self.uplink.outside(V4), PORT);
        let out = Ends { client: self.client.clone(), server: outside.clone(), listen: far, dial: far };
        match way {
            Way::First => self.ports.first().map_or(out, published),
            Way::Last => self.ports.last().map_or(out, published),
            Way::Out => out,
        }
    }
}

/// Takes all samples, from both hosts by turns. Must be root.
pub(super) fn measure(args: &BenchArgs) -> Result<Vec<Samples>> {
    let lab = Lab::new();
    let between = Axis::Ports.steps(args.quick).last().copied().unwrap_or_default();
    let (many, one) = (Filter::new(&lab, between)?, Filter::new(&lab, 0)?);
    // Those of one number over two protocols are one.
    let ports = between + 2;
    let (cpus, period) = (Cpus::choose()?, super::period(args));
    let mut all = Vec::new();
    for way in Way::ALL {
        all.extend(LOADS.map(|load| Samples { way, load, ports, many: Vec::new(), one: Vec::new() }));
    }
    let progress = items(u64::from(args.rounds()) * all.len() as u64);
    for _ in 0..args.rounds() {
        for samples in &mut all {
            progress.set_message(format!("nftables, {}", samples.name()));
            let hosts = [&many, &one].map(|host| host.ends(samples.way));
            let [many, one] = rates(samples.load, hosts.each_ref(), cpus, period)
                .with_context(|| format!("cannot measure {} through rules", samples.way.name()))?;
            samples.many.push(many);
            samples.one.push(one);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

/// The samples as a table with its explanation, beside ours of the crowd at its largest.
pub(super) fn report(all: &[Samples], ours: &[&super::Samples]) -> String {
    let Some(ports) = all.first().map(|samples| samples.ports) else { return String::new() };
    let row = |samples: &Samples| {
        let Samples { way, load, many, one, .. } = samples;
        let value = |rates| table::value(Estimate::of(rates).map(|rate| rate * load.scale()));
        let what = format!("{}: {}", way.name(), load.name());
        [what, value(one), value(many), table::ratio(samples.ratio()), table::ratio(samples.beside(ours))]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let many = format!("{ports} ports");
    let header = ["Through nftables", "one port", &many, "ratio", "Spandrel's"];
    format!(
        "\nWhat published ports cost where rules are gone through one after the other: a bridge with nftables rules that are Docker's, {ports} ports \
         next to one.\nA connection passes them once, a datagram each time until there has been an answer, and here there is none. Spandrel's ratio is the crowd's \
         above, which has more than ports.\n\n{}",
        table::draw(header, 1, &rows)
    )
}

/// The same as bars.
pub(super) fn figure(all: &[Samples], ours: &[&super::Samples]) -> Option<Figure> {
    let ports = all.first()?.ports;
    let bars = |samples: &Samples| {
        let both = [samples.ratio(), samples.beside(ours)];
        // A bar has less room for its name than a table.
        let load = if samples.load == LOADS[0] { "UDP packets" } else { "new TCP connections" };
        (format!("{load}, {}", samples.way.whose()), both.map(|ratio| ratio.map(|ratio| ratio.median)).into())
    };
    Some(Figure {
        name: "scale-rules".into(),
        title: format!("With {ports} published ports"),
        plot: Plot::Bars(Bars {
            value: "part of what a host with one published port gets".into(),
            limit: 1.0,
            series: ["nftables", "Spandrel"].map(String::from).into(),
            groups: all.iter().map(bars).collect(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Size;
    use super::*;

    #[test]
    fn what_rules_cost_stands_beside_what_ours_costs() {
        let of = |way, many| Samples {
            way,
            load: Load::TcpConnections,
            ports: 10_002,
            many: vec![many],
            one: vec![20_000.0],
        };
        let all = [of(Way::First, 19_000.0), of(Way::Last, 2000.0), of(Way::Out, 20_000.0)];
        let size = Size { ports: 10_001, networks: 1000, endpoints: 2000, flows: 0 };
        let ours = super::super::Samples {
            size,
            path: DataPath::Published,
            load: Load::TcpConnections,
            crowd: vec![29_700.0],
            small: vec![30_000.0],
        };
        let text = report(&all, &[&ours]);
        let line = |what: &str| {
            text.lines()
                .find(|line| line.contains(what))
                .unwrap()
                .split("   ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect::<Vec<_>>()
        };
        assert_eq!(line("first rule")[1..], ["20.0 ± 0.0", "19.0 ± 0.0", "0.95 ± 0.00", "0.99 ± 0.00"], "{text}");
        assert_eq!(line("last rule")[1..], ["20.0 ± 0.0", "2.00 ± 0.00", "0.10 ± 0.00", "0.99 ± 0.00"], "{text}");
        assert_eq!(line("Container to outside")[3..], ["1.00 ± 0.00", "-"], "{text}");
        let Plot::Bars(bars) = figure(&all, &[&ours]).unwrap().plot else { panic!("bars are bars") };
        assert_eq!(bars.groups[1], ("new TCP connections, last rule".into(), vec![Some(0.1), Some(0.99)]));
        assert_eq!(report(&[], &[]), "");
    }
}
