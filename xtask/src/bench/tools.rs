//! Load made by other people's programs: iperf3, sockperf, wrk and nginx, from Debian's packages.
//!
//! They run in any network namespace, each bound to one CPU, and are processes of one machine of the lab: they end with it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use spandrel_tests::{Lab, Machine, Net, Process, V4, V6, within};

use super::load::Cpus;
use super::peers::Ends;

/// What a veth carries in a second, about: 16 Gbit/s.
const STREAM: f64 = 2e9;

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(10);

/// How much longer than it is told to a client may take, on a machine that is busy with something else.
const LATE: Duration = Duration::from_secs(60);

/// Connections that wrk keeps busy.
const CONNECTIONS: usize = 16;

/// Where nginx finds its configuration and keeps its files.
const NGINX: &str = "/run/nginx";

/// The machine that has the programs.
pub(super) struct Tools {
    machine: Machine,
}

/// Half of a round trip, in microseconds.
#[derive(Debug, PartialEq)]
pub(super) struct Latency {
    pub(super) median: f64,
    /// The 99th percentile.
    pub(super) tail: f64,
}

impl Tools {
    /// Like everything of the lab's, a set-up that fails panics and says where.
    pub(super) fn new(lab: &Lab) -> Self {
        let machine = lab.machine("tools");
        machine.install_debian();
        machine.make_folder(NGINX);
        Self { machine }
    }

    /// One TCP stream by iperf3: bytes that arrive in a second.
    pub(super) fn stream(&self, ends: &Ends, cpus: Cpus, period: Duration) -> Result<f64> {
        let at = ends.listen;
        let _server =
            self.serve(ends, cpus, &format!("iperf3 --server --one-off --bind {} --port {}", at.ip(), at.port()))?;
        // It counts whole seconds only, but every byte.
        let (to, bytes) = (ends.dial, (period.as_secs_f64() * STREAM) as u64);
        let line = format!("iperf3 --client {} --port {} --bytes {bytes} --json", to.ip(), to.port());
        received(&self.ask(ends, cpus, &line, 0)?)
    }

    /// Messages there and back over one TCP connection by sockperf.
    pub(super) fn latency(&self, ends: &Ends, cpus: Cpus, period: Duration) -> Result<Latency> {
        let at = ends.listen;
        let _server =
            self.serve(ends, cpus, &format!("sockperf server --tcp --uc-reuseaddr -i {} -p {}", at.ip(), at.port()))?;
        let (to, seconds) = (ends.dial, whole_seconds(period));
        // On a machine that is busy with something else too few may come back to tell percentiles.
        for seconds in [seconds, 2 * seconds, 4 * seconds] {
            let line = format!("sockperf ping-pong --tcp -i {} -p {} -t {seconds}", to.ip(), to.port());
            if let Some(latency) = percentiles(&self.ask(ends, cpus, &line, seconds)?) {
                return Ok(latency);
            }
        }
        bail!("sockperf gets too few answers to tell percentiles");
    }

    /// Requests in a second, from wrk to nginx.
    pub(super) fn http(&self, ends: &Ends, cpus: Cpus, period: Duration, keep_alive: bool) -> Result<f64> {
        let config = format!("{NGINX}/conf");
        self.machine.write(&config, &nginx(&ends.listen.to_string()));
        let _server = self.serve(ends, cpus, &format!("nginx -e {NGINX}/error -p {NGINX} -c {config}"))?;
        let header = if keep_alive { "" } else { "--header Connection:close" };
        let (to, seconds) = (ends.dial, whole_seconds(period));
        let line = format!("wrk --threads 1 --connections {CONNECTIONS} --duration {seconds}s {header} http://{to}/");
        requests(&self.ask(ends, cpus, &line, seconds)?)
    }

    /// Starts a server and waits until it listens.
    fn serve(&self, ends: &Ends, cpus: Cpus, line: &str) -> Result<Process> {
        let mut server = self.start(&ends.server, cpus.server, line)?;
        let ready = within(START, || match server.ended() {
            Some(status) => Some(Err(status)),
            None => listens(&ends.server, ends.listen.port()).then_some(Ok(())),
        });
        match ready {
            Some(Ok(())) => Ok(server),
            Some(Err(status)) => bail!("`{line}` ended ({status}): {}{}", server.stdout(), server.stderr()),
            None => bail!("`{line}` does not listen within {START:?}"),
        }
    }

    /// Runs a client to its end: what it printed.
    fn ask(&self, ends: &Ends, cpus: Cpus, line: &str, seconds: u64) -> Result<String> {
        let client = self.start(&ends.client, cpus.client, line)?;
        let output = client.output_within(Duration::from_secs(seconds) + LATE);
        match output.code {
            Some(0) => Ok(output.stdout),
            _ => bail!("{output:?}"),
        }
    }

    fn start(&self, net: &Net, cpu: usize, line: &str) -> Result<Process> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &cpu.to_string()]).args(line.split_whitespace());
        self.machine.spawn_in(net, command).with_context(|| format!("cannot start `{line}`"))
    }
}

/// Neither sockperf nor wrk counts in anything smaller.
fn whole_seconds(period: Duration) -> u64 {
    period.as_secs_f64().ceil() as u64
}

/// Whether somebody listens at a TCP port, as `/proc/net/tcp` shows it.
fn listens(net: &Net, port: u16) -> bool {
    let tables = [V4, V6].map(|family| net.proc_net(if family == V4 { "tcp" } else { "tcp6" }).unwrap_or_default());
    tables.iter().any(|table| has_listener(table, port))
}

fn has_listener(table: &str, port: u16) -> bool {
    let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let local = format!(":{port:04X}");
    sockets.into_iter().any(|words| matches!(*words, [_, at, _, "0A", ..] if at.ends_with(&local)))
}

/// A server of one process, without anything that is not asked for; it answers from memory.
fn nginx(listen: &str) -> String {
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|kind| format!("{kind}_temp_path {NGINX}/{kind};")).join(" ");
    format!(
        "daemon off; master_process off; pid {NGINX}/pid; error_log {NGINX}/error;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; {folders}\n\
         server {{ listen {listen} backlog=1024; location / {{ return 200 \"Hello\\n\"; }} }} }}\n"
    )
}

/// Bytes that arrived in a second, from what iperf3 prints.
fn received(printed: &str) -> Result<f64> {
    let result: Value = serde_json::from_str(printed).context("iperf3 printed no JSON")?;
    let rate = result["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(rate.with_context(|| format!("iperf3 tells no rate: {}", result["error"]))? / 8.0)
}

/// Two of the percentiles that sockperf prints, if it had enough answers.
fn percentiles(printed: &str) -> Option<Latency> {
    let percentile = |number: &str| {
        let value = printed.lines().find_map(|line| Some(line.split_once(&format!("percentile {number} ="))?.1))?;
        value.trim().parse().ok()
    };
    Some(Latency { median: percentile("50.000")?, tail: percentile("99.000")? })
}

/// Requests in a second, from what wrk prints. One that failed spoils it.
fn requests(printed: &str) -> Result<f64> {
    if printed.contains("Socket errors") || printed.contains("Non-2xx") {
        bail!("requests failed:\n{printed}");
    }
    let rate = printed.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    rate.with_context(|| format!("wrk tells no rate:\n{printed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_what_the_programs_print() {
        let iperf =
            r#"{"start": {}, "end": {"sum_sent": {"bits_per_second": 9.0}, "sum_received": {"bits_per_second": 8e9}}}"#;
        assert_eq!(received(iperf).unwrap(), 1e9);
        let refused = received(r#"{"error": "unable to connect", "end": {}}"#).unwrap_err();
        assert!(refused.to_string().contains("unable to connect"));
        let sockperf = "sockperf: ---> percentile 99.000 =   14.321\nsockperf: ---> percentile 50.000 =    9.876\n";
        assert_eq!(percentiles(sockperf), Some(Latency { median: 9.876, tail: 14.321 }));
        assert_eq!(percentiles("sockperf: No valid observations found."), None);
        assert_eq!(requests("Running 1s test\nRequests/sec:  51234.56\nTransfer/sec: 7MB\n").unwrap(), 51234.56);
        assert!(requests("  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec: 1\n").is_err());
    }

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:1388 00000000:0000 0A 0\n   \
                     1: 0100007F:1389 0100007F:9999 01 0\n";
        assert!(has_listener(table, 5000));
        assert!(!has_listener(table, 5001));
    }
}
