//! What an engine waits for its network: how long it takes to create a network, and to start and stop a container with published ports.
//!
//! Docker's daemon on its own bridge driver next to the same daemon on ours, the reference chain of CNI plugins next to our plugin, called
//! alike; and our own command line, which starts a process and no image. Times are of whole commands, as their callers wait for them.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spandrel_tests::{Cni, CniAttachment, Docker, Host, Lab, Machine};

use super::statistics::Estimate;
use super::table;
use super::{BenchArgs, by_turns};
use crate::progress::items;

/// How many ports a container publishes.
const PORTS: [u16; 3] = [0, 10, DOCKER_PORTS];

/// The most that Docker is asked to publish: it takes 28 ms for each.
pub(super) const DOCKER_PORTS: u16 = 200;

/// The first of them.
pub(super) const FIRST_PORT: u16 = 20_000;

/// Who makes the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Stack {
    /// dockerd, its bridge driver, iptables and userland proxies: all as they are by default.
    DockerBridge,
    /// dockerd with neither bridge nor iptables, our driver.
    DockerSpandrel,
    /// `bridge`, `portmap`, `firewall`.
    CniReference,
    /// Our plugin alone.
    CniSpandrel,
    /// No engine.
    Spandrel,
}

impl Stack {
    const ALL: [Stack; 5] =
        [Stack::DockerBridge, Stack::DockerSpandrel, Stack::CniReference, Stack::CniSpandrel, Stack::Spandrel];

    fn name(self) -> &'static str {
        match self {
            Stack::DockerBridge => "Docker, bridge",
            Stack::DockerSpandrel => "Docker, Spandrel",
            Stack::CniReference => "CNI, reference",
            Stack::CniSpandrel => "CNI, Spandrel",
            Stack::Spandrel => "Spandrel alone",
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Operation {
    Create,
    Start(u16),
    Stop(u16),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Create => write!(f, "create a network"),
            Operation::Start(ports) => write!(f, "start a container, {ports} ports"),
            Operation::Stop(ports) => write!(f, "remove it, {ports} ports"),
        }
    }
}

/// Milliseconds that one operation took with one stack, a sample for each round.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Samples {
    stack: Stack,
    operation: Operation,
    milliseconds: Vec<f64>,
}

/// Does everything by turns. Must be root.
pub(super) fn measure(spandrel: &Path, args: &BenchArgs) -> Result<Vec<Samples>> {
    let lab = Lab::with(spandrel.to_path_buf());
    let [theirs, chain, ours] = ["docker", "cni", "spandrel"].map(|name| lab.host(name));
    let internet = lab.machine("internet");
    for host in [&theirs, &chain, &ours] {
        host.install_debian();
        lab.uplink(host, &internet);
    }
    let _agent = ours.agent();
    let bridge = theirs.docker("");
    let driver = ours.docker("--iptables=false --ip6tables=false --bridge=none");

    let mut all = Vec::new();
    let progress = items(u64::from(args.rounds()) * Stack::ALL.len() as u64);
    for round in 0..args.rounds() as usize {
        for stack in by_turns(&Stack::ALL, round) {
            progress.set_message(stack.name());
            let mut note = |operation, milliseconds| record(&mut all, stack, operation, milliseconds);
            let done = match stack {
                Stack::DockerBridge => with_docker(&bridge, "", &mut note),
                Stack::DockerSpandrel => with_docker(&driver, "--driver spandrel --ipam-driver spandrel", &mut note),
                Stack::CniReference => with_cni(&chain, &reference(), &mut note),
                Stack::CniSpandrel => with_cni(&ours, &[plugin()], &mut note),
                Stack::Spandrel => alone(&ours, &mut note),
            };
            done.with_context(|| format!("{} failed", stack.name()))?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

fn record(all: &mut Vec<Samples>, stack: Stack, operation: Operation, milliseconds: f64) {
    match all.iter_mut().find(|samples| (samples.stack, samples.operation) == (stack, operation)) {
        Some(samples) => samples.milliseconds.push(milliseconds),
        None => all.push(Samples { stack, operation, milliseconds: vec![milliseconds] }),
    }
}

/// Where the time of an operation goes.
type Note<'a> = &'a mut dyn FnMut(Operation, f64);

/// Does something and notes how long it took.
fn timed<T>(note: Note<'_>, operation: Operation, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = work()?;
    note(operation, start.elapsed().as_secs_f64() * 1e3);
    Ok(done)
}

/// A machine with Docker's programs, and the internet that its uplink leads to.
pub(super) fn machine_for_docker() -> [Machine; 2] {
    let lab = Lab::new();
    let machines = ["docker", "internet"].map(|name| lab.machine(name));
    machines[0].install_debian();
    lab.uplink(&machines[0], &machines[1]);
    machines
}

/// So many ports, under the same numbers outside, as all engines take them.
pub(super) fn range(ports: u16) -> String {
    let last = FIRST_PORT + ports - 1;
    format!("{FIRST_PORT}-{last}:{FIRST_PORT}-{last}")
}

/// The option that publishes so many ports.
pub(super) fn publish(ports: u16) -> String {
    if ports == 0 { String::new() } else { format!("-p {}", range(ports)) }
}

/// A network of Docker's, and containers on it.
fn with_docker(docker: &Docker<'_>, options: &str, note: Note<'_>) -> Result<()> {
    let client = |line: String| match docker.client(&line) {
        output if output.code == Some(0) => Ok(()),
        output => Err(anyhow!("docker {line}: {}", output.stderr)),
    };
    timed(note, Operation::Create, || client(format!("network create {options} bench")))?;
    for ports in PORTS {
        let publish = publish(ports);
        let line = format!("run --detach --name web --network bench {publish} busybox /bin/busybox sleep 1000");
        timed(note, Operation::Start(ports), || client(line))?;
        timed(note, Operation::Stop(ports), || client("rm --force web".into()))?;
    }
    client("network rm bench".into())
}

/// Namespaces that are given an interface, as a runtime does; the network comes with the first and does not count.
fn with_cni(host: &Host, plugins: &[Value], note: Note<'_>) -> Result<()> {
    let cni = Cni::new(host, "bench", "1.0.0", plugins);
    let attach = |ports: u16| {
        let mappings = (FIRST_PORT..FIRST_PORT + ports)
            .map(|port| json!({"hostPort": port, "containerPort": port, "protocol": "tcp"}))
            .collect::<Vec<_>>();
        CniAttachment::new(&format!("web-{ports}"), "web").wishing(json!({"portMappings": mappings}))
    };
    let _netns = host.add_netns("web");
    let failed = |error: Value| anyhow!("{error}");
    let mut first = attach(0);
    cni.add(&mut first).map_err(failed)?;
    cni.del(&first).map_err(failed)?;
    for ports in PORTS {
        let mut attachment = attach(ports);
        timed(note, Operation::Start(ports), || cni.add(&mut attachment).map_err(failed))?;
        timed(note, Operation::Stop(ports), || cni.del(&attachment).map_err(failed))?;
    }
    host.delete_netns("web");
    Ok(())
}

/// What Debian's runtimes are told by default, with ports.
pub(super) fn reference() -> [Value; 3] {
    let ranges = json!([[{"subnet": "10.89.0.0/24"}]]);
    let ipam = json!({
        "type": "host-local", "dataDir": "/run/cni/host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}],
    });
    [
        json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": ipam}),
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "firewall", "backend": "iptables"}),
    ]
}

fn plugin() -> Value {
    let ranges = json!([[{"subnet": "10.89.0.0/24"}]]);
    json!({"type": "spandrel-cni", "ipam": {"ranges": ranges}, "capabilities": {"portMappings": true}})
}

/// Our own command line: a process in a namespace of its own, no image.
fn alone(host: &Host, note: Note<'_>) -> Result<()> {
    let spandrel = |line: String| match host.spandrel(&line) {
        output if output.code == Some(0) => Ok(()),
        output => Err(anyhow!("spandrel {line}: {}", output.stderr)),
    };
    timed(note, Operation::Create, || spandrel("network create alone".into()))?;
    for ports in PORTS {
        let publish = publish(ports);
        timed(note, Operation::Start(ports), || {
            spandrel(format!("run --detach --name alone --network alone {publish} -- sleep 1000"))
        })?;
        timed(note, Operation::Stop(ports), || spandrel("rm --force alone".into()))?;
    }
    spandrel("network rm alone".into())
}

/// The table for people.
pub(super) fn report(all: &[Samples]) -> String {
    let samples = |stack, operation| {
        let found = all.iter().find(|samples| (samples.stack, samples.operation) == (stack, operation));
        found.map_or(&[][..], |samples| &samples.milliseconds)
    };
    let mut operations = vec![Operation::Create];
    operations.extend(PORTS.iter().flat_map(|&ports| [Operation::Start(ports), Operation::Stop(ports)]));
    let row = |&operation: &Operation| {
        let [bridge, driver, chain, plugin, alone] = Stack::ALL.map(|stack| samples(stack, operation));
        let value = |samples| table::value(Estimate::of(samples));
        let ratio = |ours, theirs| table::ratio(Estimate::of_ratios(ours, theirs));
        [
            operation.to_string(),
            value(bridge),
            value(driver),
            ratio(driver, bridge),
            value(chain),
            value(plugin),
            ratio(plugin, chain),
            value(alone),
        ]
    };
    let rows: Vec<_> = operations.iter().map(row).collect();
    let [bridge, driver, chain, plugin, alone] = Stack::ALL.map(Stack::name);
    let header = ["Milliseconds to", bridge, driver, "ratio", chain, plugin, "ratio", alone];
    format!(
        "\nMedian ± half of what the middle half spans; less is better. Docker's times include the container itself, CNI's are of the \
         plugins alone,\nand ours of a process without an image.\n\n{}",
        table::draw(header, 1, &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_row_and_each_pair_a_ratio() {
        let mut all = Vec::new();
        for (stack, milliseconds) in [(Stack::DockerBridge, 400.0), (Stack::DockerSpandrel, 100.0)] {
            record(&mut all, stack, Operation::Create, milliseconds);
            record(&mut all, stack, Operation::Create, milliseconds);
        }
        let text = report(&all);
        let line = text.lines().find(|line| line.starts_with("create a network")).unwrap();
        let cells: Vec<_> = line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells[1..4], ["400 ± 0", "100 ± 0", "0.25 ± 0.00"], "{text}");
        assert!(text.contains("start a container, 200 ports"), "{text}");
    }
}
