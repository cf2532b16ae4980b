//! Name look-ups: how many a second a container gets answered, and how long the slowest of a hundred takes, next to dnsmasq.
//!
//! Both know the same names, and both are asked by UDP over the loopback interface of who asks. What differs is who answers: the one agent
//! for all containers, or a process in the very namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};
use spandrel_tests::{Host, Lab, Machine, NAMES_AT, Net, PATIENCE, Process, addresses, question, within};

use super::statistics::Estimate;
use super::table;
use super::{BenchArgs, by_turns};
use crate::progress::items;

/// Containers that have names: as many as a large host runs.
const CONTAINERS: usize = 2000;

/// Room for them all.
const SUBNET: &str = "10.64.0.0/16";

/// Containers that are started at a time.
const STARTERS: usize = 4;

/// Who ask at once, each one question after the other.
const ASKERS: usize = 8;

/// Where a name server listens.
const PORT: u16 = 53;

/// How long an answer is waited for.
const LOST: Duration = Duration::from_secs(2);

/// What one server did, a sample for each round.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Samples {
    server: String,
    /// Answers in a second.
    answers: Vec<f64>,
    /// Microseconds within which half of them came, and 99 of a hundred.
    median: Vec<f64>,
    slow: Vec<f64>,
}

/// Asks both servers by turns. Must be root.
pub(super) fn measure(spandrel: &Path, args: &BenchArgs) -> Result<Vec<Samples>> {
    let lab = Lab::with(spandrel.to_path_buf());
    let host = lab.host("host");
    let _agent = host.agent();
    host.create_network(&format!("--subnet {SUBNET} names"));
    let names = start_containers(&host)?;
    let client = host.run_container("--name client --network names");
    let other = lab.machine("dnsmasq");
    let _dnsmasq = dnsmasq(&other, &host, &names)?;

    let servers: [(&str, &Net, IpAddr); 2] =
        [("Spandrel", &client, NAMES_AT), ("dnsmasq", &other, Ipv4Addr::LOCALHOST.into())];
    let mut all = servers.map(|(server, ..)| Samples { server: server.into(), ..Samples::default() });
    let progress = items(u64::from(args.rounds()) * servers.len() as u64);
    let period = args.period();
    for round in 0..args.rounds() as usize {
        for index in by_turns(&[0, 1], round) {
            let (name, net, at) = servers[index];
            progress.set_message(name);
            let mut times = ask(net, at, &names, period).with_context(|| format!("{name} does not answer"))?;
            times.sort();
            let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
            all[index].answers.push(times.len() as f64 / period.as_secs_f64());
            all[index].median.push(at(0.5));
            all[index].slow.push(at(0.99));
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(all.into())
}

/// Starts the containers, and tells their names.
fn start_containers(host: &Host) -> Result<Vec<String>> {
    let names: Vec<_> = (0..CONTAINERS).map(|number| format!("server-{number}")).collect();
    let progress = items(CONTAINERS as u64);
    progress.set_message("starting containers");
    thread::scope(|scope| {
        for names in names.chunks(CONTAINERS.div_ceil(STARTERS)) {
            let progress = &progress;
            scope.spawn(move || {
                for name in names {
                    host.run_container(&format!("--name {name} --network names"));
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    Ok(names)
}

/// Starts dnsmasq on a machine of its own, with the same names.
fn dnsmasq(machine: &Machine, host: &Host, names: &[String]) -> Result<Process> {
    const HOSTS: &str = "/run/names";
    let network = host.api("/networks/names");
    let mut lines = String::new();
    for container in network["Containers"].as_object().context("the API lists the network's containers")?.values() {
        let address = container["IPv4Address"].as_str().and_then(|address| address.split('/').next());
        let (address, name) = address.zip(container["Name"].as_str()).context("a container has address and name")?;
        lines += &format!("{address} {name}\n");
    }
    machine.install_debian();
    machine.write(HOSTS, &lines);
    let mut command = Command::new("/usr/sbin/dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
    command.args(["--pid-file=", "--bind-interfaces", "--listen-address=127.0.0.1", "--addn-hosts", HOSTS]);
    let process = machine.spawn(command).context("cannot start dnsmasq")?;
    let knows = || ask_one(&socket(machine, Ipv4Addr::LOCALHOST.into()).ok()?, 0, &names[0]).ok();
    if within(PATIENCE, knows).is_none() {
        bail!("dnsmasq does not answer");
    }
    Ok(process)
}

/// How long each answer took that came in this period.
fn ask(net: &Net, at: IpAddr, names: &[String], period: Duration) -> io::Result<Vec<Duration>> {
    let sockets = (0..ASKERS).map(|_| socket(net, at)).collect::<io::Result<Vec<_>>>()?;
    let start = Instant::now();
    let asker = |number: usize, socket: UdpSocket| {
        let mut times = Vec::new();
        // Each begins elsewhere, so that they do not ask for one name at once.
        for (id, name) in (1..).zip(names.iter().cycle().skip(number * names.len() / ASKERS)) {
            if start.elapsed() >= period {
                break;
            }
            times.push(ask_one(&socket, id, name)?);
        }
        Ok(times)
    };
    thread::scope(|scope| {
        let askers = sockets.into_iter().enumerate().map(|(number, socket)| scope.spawn(move || asker(number, socket)));
        let times: Vec<io::Result<Vec<_>>> =
            askers.collect::<Vec<_>>().into_iter().map(|asker| asker.join().expect("an asker ends")).collect();
        times.into_iter().collect::<io::Result<Vec<_>>>().map(|times| times.concat())
    })
}

fn socket(net: &Net, at: IpAddr) -> io::Result<UdpSocket> {
    let socket = net.udp_bind(Ipv4Addr::LOCALHOST.into(), 0)?;
    socket.connect((at, PORT))?;
    socket.set_read_timeout(Some(LOST))?;
    Ok(socket)
}

/// Asks for the IPv4 address of a name; the time until its answer is there.
fn ask_one(socket: &UdpSocket, id: u16, name: &str) -> io::Result<Duration> {
    let mut message = question(name, RecordType::A);
    message.metadata.id = id;
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let mut buffer = [0; 512];
    let start = Instant::now();
    socket.send(&bytes)?;
    let length = socket.recv(&mut buffer)?;
    let time = start.elapsed();
    let answer = hickory_proto::op::Message::from_vec(&buffer[..length]).map_err(io::Error::other)?;
    if answer.metadata.id != id || addresses(&answer).len() != 1 {
        return Err(io::Error::other(format!("no answer to the question for {name}: {answer}")));
    }
    Ok(time)
}

/// The figures as a table with its explanation.
pub(super) fn report(all: &[Samples]) -> String {
    let Some(beside) = all.last() else { return String::new() };
    let row = |samples: &Samples| {
        [
            samples.server.clone(),
            table::whole(Estimate::of(&samples.answers)),
            table::whole(Estimate::of(&samples.median)),
            table::whole(Estimate::of(&samples.slow)),
            table::ratio(Estimate::of_ratios(&samples.answers, &beside.answers)),
            table::ratio(Estimate::of_ratios(&samples.slow, &beside.slow)),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let header =
        ["Answers by", "a second", "half within, µs", "99 % within, µs", "answers / dnsmasq", "99 % / dnsmasq"];
    format!(
        "\n{ASKERS} sockets of one container ask for the names of {CONTAINERS} others, each one question after the other.\n\n{}",
        table::draw(header, 1, &rows)
    )
}
