//! Many containers started at once: how long it takes until the last one runs, and where the time goes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hyper::Method;
use procfs::process::Process;
use procfs::{CurrentSI, KernelStats};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bench::scale::crowd::{Crowd, NETWORK};

/// How many containers.
const CONTAINERS: usize = 200;

/// How often it is looked what the agent's threads wait for.
const LOOK: Duration = Duration::from_millis(1);

/// How many of the kernel's functions are named.
const NAMED: usize = 5;

/// What it took.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Together {
    containers: usize,
    seconds: f64,
    /// CPU time of the agent outside and inside the kernel, and of all that ran on the machine meanwhile.
    agent_user: f64,
    agent_system: f64,
    machine: f64,
    cpus: usize,
    /// Where in the kernel the agent's threads were, as a part of the time; "0" where one was running.
    places: Vec<(String, f64)>,
}

/// Starts them, each by a request of its own, all at once; removes them again.
pub(super) fn measure(host: &Crowd) -> Result<Together> {
    let agent = Process::new(host.site.agent.pid().cast_signed())?;
    let ticks = procfs::ticks_per_second() as f64;
    let before = (agent.stat()?, busy()?);
    let done = AtomicBool::new(false);
    let (seconds, places) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&agent, &done));
        let start = Instant::now();
        let started = all(host, |number| {
            let body =
                json!({"Name": format!("one{number}"), "Network": NETWORK, "Config": {"Cmd": ["sleep", "1000"]}});
            (Method::POST, "/spandrel/containers/run".into(), body)
        });
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let places = watcher.join().unwrap_or_default();
        started.map(|()| (seconds, places))
    })?;
    let after = (agent.stat()?, busy()?);
    all(host, |number| (Method::DELETE, format!("/containers/one{number}?force=1"), json!(null)))?;
    Ok(Together {
        containers: CONTAINERS,
        seconds,
        agent_user: (after.0.utime - before.0.utime) as f64 / ticks,
        agent_system: (after.0.stime - before.0.stime) as f64 / ticks,
        machine: after.1 - before.1,
        cpus: thread::available_parallelism()?.get(),
        places,
    })
}

/// Sends a request for each container, all at once.
fn all(host: &Crowd, request: impl Fn(usize) -> (Method, String, serde_json::Value) + Sync) -> Result<()> {
    let clients = (0..CONTAINERS).map(|_| host.api()).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let request = &request;
        let threads = clients.into_iter().enumerate().map(|(number, mut api)| {
            scope.spawn(move || {
                let (method, path, body) = request(number);
                api.send(method, &path, &body).map(drop)
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            match thread.join() {
                Ok(done) => done?,
                Err(_) => bail!("a thread that starts a container has panicked"),
            }
        }
        Ok(())
    })
}

/// Looks again and again where the agent's threads are in the kernel, until it is done.
fn watch(agent: &Process, done: &AtomicBool) -> Vec<(String, f64)> {
    let mut places: BTreeMap<String, u32> = BTreeMap::new();
    let mut looks = 0_u32;
    while !done.load(Ordering::Relaxed) {
        for task in agent.tasks().into_iter().flatten().flatten() {
            // Of a thread that runs it is "0".
            let place = fs::read_to_string(format!("/proc/{}/task/{}/wchan", agent.pid, task.tid)).unwrap_or_default();
            // Threads of the runtime that have nothing to do wait for a futex or for events.
            if !place.is_empty() && !place.contains("futex") && !place.contains("epoll") {
                *places.entry(place).or_default() += 1;
            }
        }
        looks += 1;
        thread::sleep(LOOK);
    }
    let share = |(place, count)| (place, f64::from(count) / f64::from(looks.max(1)));
    let mut places: Vec<_> = places.into_iter().map(share).collect();
    places.sort_by(|a, b| b.1.total_cmp(&a.1));
    places.truncate(NAMED);
    places
}

/// Seconds that all CPUs together have been busy since the start of the machine.
fn busy() -> Result<f64> {
    let total = KernelStats::current()?.total;
    let ticks = total.user + total.nice + total.system + total.irq.unwrap_or(0) + total.softirq.unwrap_or(0);
    Ok(ticks as f64 / procfs::ticks_per_second() as f64)
}

impl Together {
    /// What it took, in words.
    pub(super) fn report(&self) -> String {
        let Self { containers, seconds, agent_user, agent_system, machine, cpus, .. } = self;
        let mut text = format!(
            "\n{containers} containers started at once: {seconds:.2} s until the last one ran, {:.1} ms each. The agent took {agent_user:.2} s of CPU \
             time itself\nand {agent_system:.2} s in the kernel; the whole machine was busy for {machine:.2} s on {cpus} CPUs. Where its threads \
             were meanwhile:\n",
            seconds * 1e3 / *containers as f64
        );
        for (place, part) in &self.places {
            let place = match place.as_str() {
                "0" => "running",
                place => place,
            };
            let _ = writeln!(text, "  {:3.0} %  {place}", part * 100.0);
        }
        text
    }
}
