//! What Spandrel takes while it does nothing: memory of the agent, its wake-ups, and memory of the kernel; next to dockerd and conntrack.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use procfs::process::Process;
use serde::{Deserialize, Serialize};
use spandrel_tests::{Machine, PinnedMap};

use super::BenchArgs;
use super::engines::{DOCKER_PORTS, machine_for_docker, publish};
use super::scale::crowd::{Crowd, NETWORK};
use super::table;
use crate::progress::items;

/// How many ports the crowded host publishes, and in a quick run.
const PORTS: usize = 10_000;
const QUICK_PORTS: usize = 1000;

/// How long after the last change an agent has nothing left to do: it looks at its interfaces once more, at most every ten seconds, and a
/// thread that has done something ends when it had nothing to do for another ten.
const SETTLED: Duration = Duration::from_secs(25);

/// How long wake-ups are counted.
const WATCH: Duration = Duration::from_secs(60);
const QUICK_WATCH: Duration = Duration::from_secs(10);

/// What the agent may need with that many endpoints and ports, and an idle host's maps altogether.
const AGENT_TARGET: u64 = 40 << 20;
const MAPS_TARGET: u64 = 100 << 20;

/// Maps that take less together have one row.
const SMALL: u64 = 256 << 10;

/// Memory of some processes, bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    whose: String,
    resident: u64,
    anonymous: u64,
    file: u64,
    /// Resident, what others share divided by their number.
    proportional: u64,
}

/// What the agent did while nothing changed.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    host: String,
    seconds: f64,
    cpu_seconds: f64,
    /// How often each thread was woken up, those that were not left out.
    wakeups: Vec<(String, u64)>,
}

/// A map of the kernel's.
#[derive(Debug, Serialize, Deserialize)]
struct Map {
    name: String,
    entries: u64,
    bytes: u64,
    /// Where it holds other maps: how many there are, whose bytes are in `bytes`.
    inner: usize,
}

/// All that was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Figures {
    memory: Vec<Memory>,
    rest: Vec<Rest>,
    /// Of a host with one network, on which nothing happens.
    idle_maps: Vec<Map>,
    crowded_maps: Vec<Map>,
    /// What an entry of conntrack takes at least, if this kernel tells.
    conntrack: Option<u64>,
}

/// Takes all figures. Must be root.
pub(super) fn measure(spandrel: &Path, args: &BenchArgs) -> Result<Figures> {
    let (ports, watch) = if args.quick { (QUICK_PORTS, QUICK_WATCH) } else { (PORTS, WATCH) };
    let mut figures = Figures { conntrack: conntrack_entry(), ..Figures::default() };
    let progress = items(4);
    // Before there was a crowd, which the kernel takes down for minutes.
    progress.set_message("Docker");
    if !args.quick {
        figures.docker()?;
    }
    progress.inc(1);
    progress.set_message("an idle host");
    let idle = Crowd::new(spandrel, "")?;
    figures.memory.push(memory("agent, 2 endpoints".into(), &[idle.site.agent.pid().cast_signed()])?);
    figures.idle_maps = maps(&idle);
    progress.inc(1);
    progress.set_message("a crowded host");
    let mut crowded = Crowd::crowded(spandrel, args.quick)?;
    crowded.add_ports(ports)?;
    let name = format!("{} endpoints, {ports} ports", crowded.size().endpoints);
    let agent = crowded.site.agent.pid().cast_signed();
    figures.memory.push(memory(format!("agent, {name}"), &[agent])?);
    figures.crowded_maps = maps(&crowded);
    progress.inc(1);
    progress.set_message("nothing");
    let hosts = [("2 endpoints", &idle), (name.as_str(), &crowded)];
    figures.rest = thread::scope(|scope| {
        let watched = hosts.map(|(name, host)| scope.spawn(move || rest(name, host, watch)));
        watched
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .into_iter()
            .collect::<Result<_>>()
    })?;
    progress.finish_and_clear();
    Ok(figures)
}

impl Figures {
    /// dockerd with its bridge, alone and with a container that publishes ports.
    fn docker(&mut self) -> Result<()> {
        let [host, _internet] = machine_for_docker();
        let docker = host.docker("");
        docker.client(&format!("network create {NETWORK}")).ok();
        let publish = format!("--network {NETWORK} {}", publish(DOCKER_PORTS));
        self.memory.push(memory("dockerd and containerd, idle".into(), &processes(&host, &["dockerd", "containerd"]))?);
        let _web = docker.run("web", &publish);
        self.memory.push(memory(
            format!("dockerd and containerd, a container with {DOCKER_PORTS} ports"),
            &processes(&host, &["dockerd", "containerd"]),
        )?);
        self.memory.push(memory("its docker-proxy processes".into(), &processes(&host, &["docker-proxy"]))?);
        Ok(())
    }
}

/// The processes of these programs on a machine, as this process sees them.
fn processes(machine: &Machine, programs: &[&str]) -> Vec<i32> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let here = namespace(machine.pid().cast_signed());
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    let wanted = |process: &Process| {
        let name = process.exe().ok().and_then(|exe| Some(exe.file_name()?.to_str()?.to_owned()));
        namespace(process.pid) == here && name.is_some_and(|name| programs.contains(&name.as_str()))
    };
    all.filter(wanted).map(|process| process.pid).collect()
}

/// What some processes take together.
fn memory(whose: String, pids: &[i32]) -> Result<Memory> {
    let mut sum = Memory { whose, resident: 0, anonymous: 0, file: 0, proportional: 0 };
    for &pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        sum.resident += kibibytes(&status, "VmRSS:")?;
        sum.anonymous += kibibytes(&status, "RssAnon:")?;
        sum.file += kibibytes(&status, "RssFile:")?;
        sum.proportional += kibibytes(&rollup, "Pss:")?;
    }
    Ok(sum)
}

/// A line such as `VmRSS:  1234 kB`, in bytes.
fn kibibytes(text: &str, field: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let value = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(value.with_context(|| format!("the kernel does not tell {field}"))? << 10)
}

/// Watches an agent that has nothing to do.
fn rest(name: &str, host: &Crowd, time: Duration) -> Result<Rest> {
    let agent = Process::new(host.site.agent.pid().cast_signed())?;
    let cpu =
        || anyhow::Ok(agent.stat().map(|stat| stat.utime + stat.stime)? as f64 / procfs::ticks_per_second() as f64);
    thread::sleep(SETTLED);
    let (before, cpu_before) = (wakeups(&agent)?, cpu()?);
    thread::sleep(time);
    let (after, cpu_after) = (wakeups(&agent)?, cpu()?);
    let woken = after.into_iter().map(|(thread, count)| (count - before.get(&thread).copied().unwrap_or(0), thread));
    let wakeups = woken.filter(|(count, _)| *count > 0).map(|(count, (id, name))| (format!("{name} ({id})"), count));
    Ok(Rest {
        host: name.into(),
        seconds: time.as_secs_f64(),
        cpu_seconds: cpu_after - cpu_before,
        wakeups: wakeups.collect(),
    })
}

/// How often each thread of a process has gone to sleep by itself so far: as often it was woken up.
fn wakeups(process: &Process) -> Result<BTreeMap<(i32, String), u64>> {
    let mut counts = BTreeMap::new();
    for task in process.tasks()?.flatten() {
        let status = task.status()?;
        counts
            .insert((task.tid, status.name), status.voluntary_ctxt_switches.context("the kernel counts no switches")?);
    }
    Ok(counts)
}

fn maps(host: &Crowd) -> Vec<Map> {
    let map = |PinnedMap { name, max_entries, bytes, inner }| Map { name, entries: max_entries, bytes, inner };
    host.site.host.pinned_maps().into_iter().map(map).collect()
}

/// The size of the kernel's objects for conntrack, without their extensions.
fn conntrack_entry() -> Option<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
    slabs.lines().find(|line| line.starts_with("nf_conntrack "))?.split_whitespace().nth(3)?.parse().ok()
}

/// The figures as tables with their explanation.
pub(super) fn report(figures: &Figures) -> String {
    let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let row = |memory: &Memory| {
        let [resident, anonymous, file, proportional] =
            [memory.resident, memory.anonymous, memory.file, memory.proportional].map(mebibytes);
        [memory.whose.clone(), resident, anonymous, file, proportional]
    };
    let rows: Vec<_> = figures.memory.iter().map(row).collect();
    let mut text = format!(
        "\nMemory of processes.\n\n{}",
        table::draw(["MiB", "resident", "anonymous", "file", "proportional"], 1, &rows)
    );
    let agents = figures.memory.iter().filter(|memory| memory.whose.starts_with("agent"));
    if let Some(most) = agents.max_by_key(|memory| memory.resident) {
        text +=
            &format!("Target: at most {} MiB resident. {}\n", AGENT_TARGET >> 20, verdict(most.resident, AGENT_TARGET));
    }

    text += "\nThe agent while nothing changes.\n";
    for Rest { host, seconds, cpu_seconds, wakeups } in &figures.rest {
        let count: u64 = wakeups.iter().map(|(_, count)| count).sum();
        let threads: Vec<_> = wakeups.iter().map(|(thread, count)| format!("{count} of {thread}")).collect();
        let threads =
            if threads.is_empty() { "target 0, met".into() } else { format!("target 0: {}", threads.join(", ")) };
        let per_minute = 60.0 / seconds;
        text += &format!(
            "{host}: {:.0} wake-ups a minute ({threads}), {:.0} ms of CPU a minute\n",
            count as f64 * per_minute,
            cpu_seconds * 1e3 * per_minute
        );
    }

    let crowded = |name: &str| {
        figures.crowded_maps.iter().find(|map| map.name == name).map_or("-".into(), |map| mebibytes(map.bytes))
    };
    let (large, small): (Vec<_>, Vec<_>) = figures.idle_maps.iter().partition(|map| map.bytes >= SMALL);
    let line = |map: &&Map| {
        let inner = if map.inner > 0 { format!(" (and {} in it)", map.inner) } else { String::new() };
        [format!("{}{inner}", map.name), map.entries.to_string(), mebibytes(map.bytes), crowded(&map.name)]
    };
    let mut rows: Vec<_> = large.iter().map(line).collect();
    let total = |maps: &mut dyn Iterator<Item = &Map>| maps.map(|map| map.bytes).sum::<u64>();
    let names: Vec<_> = small.iter().map(|map| &map.name).collect();
    let small_crowded = total(&mut figures.crowded_maps.iter().filter(|map| names.contains(&&map.name)));
    let all = total(&mut figures.idle_maps.iter());
    rows.push([
        format!("{} smaller ones", small.len()),
        "-".into(),
        mebibytes(total(&mut small.into_iter())),
        mebibytes(small_crowded),
    ]);
    rows.push(["all".into(), "-".into(), mebibytes(all), mebibytes(total(&mut figures.crowded_maps.iter()))]);
    text += &format!(
        "\nMemory of the kernel's in maps.\n\n{}Target: at most {} MiB on an idle host. {}\n",
        table::draw(["map", "entries", "MiB idle", "MiB crowded"], 1, &rows),
        MAPS_TARGET >> 20,
        verdict(all, MAPS_TARGET)
    );
    for map in figures.idle_maps.iter().filter(|map| map.name.to_lowercase().starts_with("flows")) {
        // Two entries make a flow.
        text += &format!(
            "{}: {:.0} bytes a flow of room for {}.\n",
            map.name,
            2.0 * map.bytes as f64 / map.entries as f64,
            map.entries / 2
        );
    }
    if let Some(bytes) = figures.conntrack {
        text += &format!("conntrack: {bytes} bytes a flow and its extensions, as it goes.\n");
    }
    text
}

/// Whether a target is met, and if not, how far off it is.
fn verdict(bytes: u64, target: u64) -> String {
    match bytes {
        bytes if bytes <= target => "Met.".into(),
        bytes => format!("Missed: {:.1} times as much.", bytes as f64 / target as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_verdicts_stand_beside_what_was_measured() {
        let map = |name: &str, entries, bytes| Map { name: name.into(), entries, bytes, inner: 0 };
        let figures = Figures {
            memory: vec![Memory {
                whose: "agent, 2 endpoints".into(),
                resident: 60 << 20,
                anonymous: 20 << 20,
                file: 40 << 20,
                proportional: 60 << 20,
            }],
            rest: vec![
                Rest {
                    host: "2 endpoints".into(),
                    seconds: 30.0,
                    cpu_seconds: 0.01,
                    wakeups: vec![("worker (7)".into(), 6)],
                },
                Rest { host: "2000 endpoints".into(), seconds: 30.0, cpu_seconds: 0.0, wakeups: Vec::new() },
            ],
            idle_maps: vec![map("FLOWS4", 1000, 300_000), map("CONFIG", 1, 4096), map("UPLINKS", 256, 8192)],
            crowded_maps: vec![map("FLOWS4", 1000, 3 << 20), map("CONFIG", 1, 2 << 20), map("UPLINKS", 256, 1 << 20)],
            conntrack: Some(256),
        };
        let text = report(&figures);
        for expected in [
            "Target: at most 40 MiB resident. Missed: 1.5 times as much.",
            "2 endpoints: 12 wake-ups a minute (target 0: 6 of worker (7)), 20 ms of CPU a minute",
            "2000 endpoints: 0 wake-ups a minute (target 0, met), 0 ms of CPU a minute",
            "2 smaller ones",
            "Target: at most 100 MiB on an idle host. Met.",
            "FLOWS4: 600 bytes a flow of room for 500.",
            "conntrack: 256 bytes a flow",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        let all = text.lines().find(|line| line.starts_with("all ")).unwrap();
        assert!(all.ends_with("0.3           6.0"), "{all}");
    }
}
