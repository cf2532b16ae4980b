//! What the control plane takes: milliseconds of each operation, in a small host and in a crowded one; as the API's callers wait for it, as a
//! shell's user does, and next to Docker's bridge.

mod together;

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::BenchArgs;
use super::engines::{DOCKER_PORTS, FIRST_PORT, machine_for_docker, range};
use super::scale::client::Client;
use super::scale::crowd::{Crowd, NETWORK, SERVER};
use super::statistics::quantile;
use super::table;
use crate::progress::items;
use together::Together;

/// How many ports are published at once.
const PORTS: [u16; 3] = [1, 200, 10_000];

/// How often an operation is timed at most, and how long at most once it has been timed [`LEAST`] times.
const MOST: usize = 100;
const LEAST: usize = 5;
const PATIENCE: Duration = Duration::from_secs(2);
const QUICK_PATIENCE: Duration = Duration::from_millis(200);

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Operation {
    CreateNetwork,
    Attach,
    Detach,
    RemoveNetwork,
    Publish(u16),
    Unpublish(u16),
}

impl Operation {
    const ALL: [Operation; 10] = [
        Operation::CreateNetwork,
        Operation::Attach,
        Operation::Detach,
        Operation::RemoveNetwork,
        Operation::Publish(PORTS[0]),
        Operation::Unpublish(PORTS[0]),
        Operation::Publish(PORTS[1]),
        Operation::Unpublish(PORTS[1]),
        Operation::Publish(PORTS[2]),
        Operation::Unpublish(PORTS[2]),
    ];

    /// How many milliseconds it may take; none where nobody has said.
    fn target(self) -> Option<f64> {
        match self {
            Operation::CreateNetwork | Operation::Attach | Operation::Detach => Some(10.0),
            Operation::Publish(1) => Some(2.0),
            Operation::Publish(200) => Some(5.0),
            Operation::Publish(10_000) => Some(100.0),
            _ => None,
        }
    }
}

impl Operation {
    /// The part of the samples that has to be within the target.
    fn judged(self) -> f64 {
        match self {
            Operation::Publish(_) | Operation::Unpublish(_) => 0.5,
            _ => 0.99,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::CreateNetwork => f.write_str("create a network"),
            Operation::Attach => f.write_str("attach a container"),
            Operation::Detach => f.write_str("detach it"),
            Operation::RemoveNetwork => f.write_str("remove a network"),
            Operation::Publish(1) => f.write_str("publish a port"),
            Operation::Unpublish(1) => f.write_str("take it back"),
            Operation::Publish(ports) => write!(f, "publish {ports} ports"),
            Operation::Unpublish(ports) => write!(f, "take {ports} back"),
        }
    }
}

/// Who waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Caller {
    /// A program with a connection to the agent.
    Api,
    /// Who types a command.
    Shell,
    /// A program with a connection to dockerd, which has its own bridge.
    Docker,
}

/// Milliseconds that an operation took, each time.
#[derive(Debug, Serialize, Deserialize)]
struct Times {
    operation: Operation,
    caller: Caller,
    /// How many endpoints there were.
    endpoints: usize,
    milliseconds: Vec<f64>,
}

/// All that was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Samples {
    times: Vec<Times>,
    together: Vec<Together>,
}

/// Takes all samples. Must be root.
pub(super) fn measure(spandrel: &Path, args: &BenchArgs) -> Result<Samples> {
    let patience = if args.quick { QUICK_PATIENCE } else { PATIENCE };
    let progress = items(4);
    let mut all = Samples::default();

    // Before there was a crowd, which the kernel takes down for minutes.
    progress.set_message("Docker");
    // It takes seconds for its ports.
    if !args.quick {
        all.of_docker()?;
    }
    progress.inc(1);
    progress.set_message("an empty host");
    let host = Crowd::new(spandrel, "")?;
    all.of_host(&host, patience)?;
    progress.inc(1);
    progress.set_message("containers started at once");
    all.together.push(together::measure(&host)?);
    drop(host);
    progress.inc(1);
    progress.set_message("a crowded host");
    all.of_host(&Crowd::crowded(spandrel, args.quick)?, patience)?;
    progress.finish_and_clear();
    Ok(all)
}

impl Samples {
    fn note(&mut self, operation: Operation, caller: Caller, endpoints: usize, time: Duration) {
        let milliseconds = time.as_secs_f64() * 1e3;
        let known =
            |times: &&mut Times| (times.operation, times.caller, times.endpoints) == (operation, caller, endpoints);
        match self.times.iter_mut().find(known) {
            Some(times) => times.milliseconds.push(milliseconds),
            None => self.times.push(Times { operation, caller, endpoints, milliseconds: vec![milliseconds] }),
        }
    }

    /// Measures the API and commands on a host as it is.
    fn of_host(&mut self, host: &Crowd, patience: Duration) -> Result<()> {
        let endpoints = host.size().endpoints;
        let [netns] = &host.add_namespaces("guest", 1)?[..] else { bail!("one namespace was to be made") };
        let mut api = host.api()?;
        for caller in [Caller::Api, Caller::Shell] {
            let mut step = |operation: Operation, line: &str, ask: &dyn Fn(&mut Client) -> Result<()>| {
                let time = match caller {
                    Caller::Shell => command(host, line)?,
                    _ => timed(|| ask(&mut api))?,
                };
                self.note(operation, caller, endpoints, time);
                Ok(())
            };
            repeatedly(patience, || {
                step(Operation::CreateNetwork, "network create new", &|api| api.create_network("new", None))?;
                step(Operation::RemoveNetwork, "network rm new", &|api| api.remove_network("new"))
            })?;
            repeatedly(patience, || {
                let line = format!("attach {netns} --network {NETWORK}");
                step(Operation::Attach, &line, &|api| api.attach(netns, NETWORK).map(drop))?;
                step(Operation::Detach, &format!("detach {netns}"), &|api| api.detach(netns))
            })?;
            for ports in PORTS {
                let range = range(ports);
                repeatedly(patience, || {
                    let of = |verb: &str| format!("{verb} {SERVER} {range}");
                    let asked = [range.clone()];
                    step(Operation::Publish(ports), &of("publish"), &|api| api.publish(SERVER, &asked))?;
                    step(Operation::Unpublish(ports), &of("unpublish"), &|api| api.unpublish(SERVER, &asked))
                })?;
            }
        }
        Ok(())
    }

    /// The same of dockerd with its own bridge. It cannot publish ports of a running container: what it takes is what starting and removing
    /// one takes longer with ports than without.
    fn of_docker(&mut self) -> Result<()> {
        let [host, _internet] = machine_for_docker();
        let _docker = host.docker("");
        let mut api = Client::connect(&host.path("/run/docker.sock"))?;
        let mut note = |operation, time| self.note(operation, Caller::Docker, 1, time);
        let network = json!({"Name": "new", "Driver": "bridge"});
        repeatedly(PATIENCE, || {
            let create = timed(|| api.send(Method::POST, "/networks/create", &network).map(drop))?;
            note(Operation::CreateNetwork, create);
            note(Operation::RemoveNetwork, timed(|| api.remove_network("new"))?);
            Ok(())
        })?;
        api.send(Method::POST, "/networks/create", &json!({"Name": NETWORK, "Driver": "bridge"}))?;
        docker_container(&mut api, 0)?;
        api.send(Method::POST, "/containers/web/start", &Value::Null)?;
        let container = json!({"Container": "web"});
        repeatedly(PATIENCE, || {
            let mut ask = |what: &str| {
                timed(|| api.send(Method::POST, &format!("/networks/{NETWORK}/{what}"), &container).map(drop))
            };
            note(Operation::Attach, ask("connect")?);
            note(Operation::Detach, ask("disconnect")?);
            Ok(())
        })?;
        api.send(Method::DELETE, "/containers/web?force=1", &Value::Null)?;
        for ports in PORTS.into_iter().filter(|&ports| ports <= DOCKER_PORTS) {
            // Of many, a few times tell enough.
            for _ in 0..if ports > 1 { 2 } else { LEAST } {
                let [with, without] = [ports, 0].map(|ports| -> Result<_> {
                    docker_container(&mut api, ports)?;
                    let start = timed(|| api.send(Method::POST, "/containers/web/start", &Value::Null).map(drop))?;
                    Ok((start, timed(|| api.send(Method::DELETE, "/containers/web?force=1", &Value::Null).map(drop))?))
                });
                let (with, without) = (with?, without?);
                note(Operation::Publish(ports), with.0.saturating_sub(without.0));
                note(Operation::Unpublish(ports), with.1.saturating_sub(without.1));
            }
        }
        Ok(())
    }
}

/// Creates a container of Docker's, to be started.
fn docker_container(api: &mut Client, ports: u16) -> Result<()> {
    let bindings: serde_json::Map<String, Value> = (FIRST_PORT..FIRST_PORT + ports)
        .map(|port| (format!("{port}/tcp"), json!([{"HostPort": port.to_string()}])))
        .collect();
    let exposed: serde_json::Map<String, Value> = bindings.keys().map(|port| (port.clone(), json!({}))).collect();
    let body = json!({
        "Image": "busybox", "Cmd": ["/bin/busybox", "sleep", "1000"], "StopTimeout": 0, "ExposedPorts": exposed,
        "HostConfig": {"PortBindings": bindings, "NetworkMode": "bridge"},
    });
    api.send(Method::POST, "/containers/create?name=web", &body).map(drop)
}

/// How long something takes.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// How long a command takes, from its start to its end.
fn command(host: &Crowd, line: &str) -> Result<Duration> {
    let mut program = host.site.host.program(line);
    let (time, output) = host.site.host.enter(|| {
        let start = Instant::now();
        let output = program.output()?;
        Ok((start.elapsed(), output))
    })?;
    if !output.status.success() {
        bail!("`spandrel {line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(time)
}

/// Does something often enough to tell how long it takes, and not longer than anybody would wait.
fn repeatedly(patience: Duration, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    for count in 0..MOST {
        if count >= LEAST && start.elapsed() > patience {
            break;
        }
        work()?;
    }
    Ok(())
}

/// The samples as tables with their explanation.
pub(super) fn report(all: &Samples) -> String {
    let crowd = all.times.iter().map(|times| times.endpoints).max().unwrap_or(0);
    let few =
        all.times.iter().filter(|times| times.caller == Caller::Api).map(|times| times.endpoints).min().unwrap_or(0);
    let cell = |operation, caller, endpoints| {
        let wanted =
            |times: &&Times| (times.operation, times.caller, times.endpoints) == (operation, caller, endpoints);
        all.times.iter().find(wanted).map_or("-".into(), |times| show(&times.milliseconds))
    };
    let row = |&operation: &Operation| {
        [
            operation.to_string(),
            cell(operation, Caller::Api, few),
            cell(operation, Caller::Api, crowd),
            operation.target().map_or("-".into(), |target| format!("{target}")),
            verdict(all, operation),
            cell(operation, Caller::Shell, few),
            cell(operation, Caller::Shell, crowd),
            cell(operation, Caller::Docker, 1),
        ]
    };
    let rows: Vec<_> = Operation::ALL.iter().map(row).collect();
    let many = format!("at {crowd}");
    let header = ["Milliseconds to", "API", &many, "target", "", "command", &many, "Docker's API"];
    let together: String = all.together.iter().map(Together::report).collect();
    format!(
        "\nMedian / p99 (the target is of p99, with ports of the median), by a connection to the agent that stays open and as a whole command; with {few} endpoints and with {crowd}. Docker's \
         bridge has one\ncontainer; what it takes for ports is what starting and removing a container takes longer with them.\n\n{}{together}",
        table::draw(header, 1, &rows)
    )
}

/// The middle, and what one in a hundred exceeds. Of less than a hundred samples, the latter is nearly the longest.
fn show(samples: &[f64]) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [median, most] = [0.5, 0.99].map(|part| quantile(&sorted, part).unwrap_or(f64::NAN));
    format!("{median:.1} / {most:.1}")
}

/// Whether the target is met by the API however many endpoints there are, and if not, how far off it is.
fn verdict(all: &Samples, operation: Operation) -> String {
    let Some(target) = operation.target() else { return String::new() };
    let mut worst = 0.0_f64;
    for times in all.times.iter().filter(|times| times.operation == operation && times.caller == Caller::Api) {
        let mut sorted = times.milliseconds.clone();
        sorted.sort_by(f64::total_cmp);
        worst = worst.max(quantile(&sorted, operation.judged()).unwrap_or(0.0));
    }
    match worst {
        worst if worst <= target => "met".into(),
        worst => format!("{:.1} times too long", worst / target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_row_with_its_target_and_whether_it_is_met() {
        let mut all = Samples::default();
        let mut note = |operation, caller, endpoints, milliseconds| {
            all.note(operation, caller, endpoints, Duration::from_millis(milliseconds));
        };
        for (endpoints, milliseconds) in [(2, 4), (2, 6), (2000, 40), (2000, 40)] {
            note(Operation::Attach, Caller::Api, endpoints, milliseconds);
        }
        note(Operation::Publish(1), Caller::Api, 2, 1);
        note(Operation::Publish(1), Caller::Docker, 1, 28);
        let text = report(&all);
        let line = |begin: &str| {
            let line = text.lines().find(|line| line.starts_with(begin)).unwrap();
            line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(line("attach")[1..5], ["5.0 / 6.0", "40.0 / 40.0", "10", "4.0 times too long"], "{text}");
        assert_eq!(line("publish a port")[1..5], ["1.0 / 1.0", "-", "2", "met"], "{text}");
        assert_eq!(line("publish a port").last(), Some(&"28.0 / 28.0"), "{text}");
    }
}
