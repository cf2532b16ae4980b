//! A machine with Spandrel on it: its agent, its command line, its API.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, thread};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::container::Container;
use crate::fail::OrFail;
use crate::family::Family;
use crate::machine::Machine;
use crate::net::PATIENCE;
use crate::process::{Output, Process, Words, within};

/// The agent's run directory, the product's default; every host has a `/run` of its own.
pub const RUN_DIR: &str = "/run/spandrel";

/// The agent's socket.
pub const SOCKET: &str = "/run/spandrel/spandrel.sock";

/// The agent's state directory.
pub const STATE_DIR: &str = "/run/spandrel-state";

/// How long an agent may take until it answers: it loads all its programs before, on a machine that tests run on in
/// parallel and that may be an emulated one.
const START: Duration = Duration::from_secs(120);

/// How long an agent may take to end.
const STOP: Duration = Duration::from_secs(30);

/// What a container of a test does unless it is told otherwise.
const IDLE: [&str; 2] = ["sleep", "infinity"];

/// A host. It is also a machine, and a network namespace.
pub struct Host {
    machine: Machine,
    program: Option<PathBuf>,
}

/// A running agent. Dropping it kills it, as [`Agent::kill`] does; networks and containers stay.
pub struct Agent {
    process: Process,
}

impl Host {
    pub(crate) fn new(machine: Machine, program: Option<PathBuf>) -> Self {
        Self { machine, program }
    }

    /// Starts the agent and waits until it answers.
    #[track_caller]
    #[must_use = "an agent that is dropped is killed"]
    pub fn agent(&self) -> Agent {
        self.agent_with("")
    }

    /// Starts the agent with further options and waits until it answers.
    #[track_caller]
    #[must_use = "an agent that is dropped is killed"]
    pub fn agent_with(&self, options: &(impl Words + ?Sized)) -> Agent {
        let mut command = self.program(["agent", "--run-dir", RUN_DIR, "--state-dir", STATE_DIR].as_slice());
        command.args(options.words());
        let process = self.spawn(command).or_fail("start the agent");
        let mut agent = Agent { process };
        let ready = within(START, || match agent.process.ended() {
            Some(status) => panic!("the agent has ended with {status}:\n{}", agent.log()),
            None => self.try_request("GET", "/_ping", "").filter(|answer| answer.status == 200),
        });
        assert!(ready.is_some(), "the agent does not answer within {START:?}:\n{}", agent.log());
        agent
    }

    /// A `spandrel` command to be run here.
    #[track_caller]
    pub fn program(&self, line: &(impl Words + ?Sized)) -> Command {
        let built = self.program.as_ref().ok_or("there is none, `cargo xtask build` makes it");
        let mut command = Command::new(built.or_fail("find the spandrel binary"));
        command.args(line.words()).env_remove("SPANDREL_SOCKET").env_remove("RUST_LOG");
        command
    }

    /// Runs a `spandrel` command to its end, such as `network ls`.
    #[track_caller]
    pub fn spandrel(&self, line: &(impl Words + ?Sized)) -> Output {
        self.output(self.program(line))
    }

    /// Runs a `spandrel` command that must be refused with one sentence that holds all of `words`, and must change nothing.
    #[track_caller]
    pub fn assert_refused(&self, line: &(impl Words + ?Sized), words: &[&str]) {
        let before = self.state();
        self.spandrel(line).assert_sentence(1, words);
        self.state().assert_same_as(&before);
    }

    /// Starts an idle container with these options of `spandrel run`, such as `--name web --network front`.
    #[track_caller]
    pub fn run_container(&self, options: &(impl Words + ?Sized)) -> Container<'_> {
        let mut line = vec!["run".to_owned(), "-d".to_owned()];
        line.extend(options.words());
        line.extend(IDLE.map(String::from));
        let id = self.spandrel(&line[..]).ok();
        self.container(&id)
    }

    /// Makes a network with these arguments of `spandrel network create`, such as `--ipv6 front`.
    #[track_caller]
    pub fn create_network(&self, arguments: &str) {
        self.spandrel(&format!("network create {arguments}")).ok();
    }

    /// The gateway's address of a network.
    #[track_caller]
    pub fn gateway(&self, network: &str, family: Family) -> IpAddr {
        let details = self.spandrel(&["network", "inspect", network]).json();
        let configs = details[0]["IPAM"]["Config"].as_array().cloned().unwrap_or_default();
        let gateways = configs.iter().filter_map(|config| config["Gateway"].as_str()?.parse().ok());
        let found = gateways.into_iter().find(|address| Family::of(*address) == family);
        found.ok_or(details).or_fail(format_args!("find the {family:?} gateway of {network}"))
    }

    /// The running container of this name or id.
    #[track_caller]
    pub fn container(&self, reference: &str) -> Container<'_> {
        Container::of(self, reference)
    }

    /// What the agent's API answers to a GET of `path`, as JSON.
    #[track_caller]
    pub fn api(&self, path: &str) -> Value {
        self.request("GET", path, "").json()
    }

    /// Sends a request with this body to the agent's API.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let answer = self.try_request(method, path, body).ok_or("the agent does not answer");
        answer.or_fail(format_args!("{method} {path}"))
    }

    fn try_request(&self, method: &str, path: &str, body: &str) -> Option<Answer> {
        let mut stream = UnixStream::connect(self.path(SOCKET)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: spandrel\r\nConnection: close\r\n").ok()?;
        write!(stream, "Content-Length: {}\r\n\r\n{body}", body.len()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some(Answer { status, body: body.to_owned() })
    }

    /// How many packets of that container were dropped so far for reasons that `reason` accepts.
    #[track_caller]
    pub fn dropped(&self, container: &str, reason: impl Fn(&str) -> bool) -> u64 {
        self.count_drops(|of, why| of == container && reason(why))
    }

    /// How many packets were dropped so far for reasons that `reason` accepts, whosever they were.
    #[track_caller]
    pub fn dropped_anywhere(&self, reason: impl Fn(&str) -> bool) -> u64 {
        self.count_drops(|_, why| reason(why))
    }

    #[track_caller]
    fn count_drops(&self, wanted: impl Fn(&str, &str) -> bool) -> u64 {
        let drops = self.spandrel("drops --format json").json_lines();
        let text = |drop: &Value, field: &str| drop[field].as_str().unwrap_or_default().to_owned();
        let of = drops.iter().filter(|drop| wanted(&text(drop, "Container"), &text(drop, "Reason")));
        of.map(|drop| drop["Packets"].as_u64().unwrap_or(0)).sum()
    }
}

/// What the agent's API answers.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it comes over the wire.
    pub body: String,
}

impl Answer {
    /// The body, read as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        // Docker's clients know chunked bodies, this one does not: JSON is what lies between the outermost brackets.
        let body = &self.body;
        let (start, end) = (body.find(['{', '[']).unwrap_or(0), body.rfind(['}', ']']).map_or(0, |end| end + 1));
        serde_json::from_str(&body[start..end]).or_fail(format_args!("read as JSON {self:?}"))
    }
}

impl Deref for Host {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Agent {
    /// Kills it with SIGKILL: it has no time to do anything.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait_within(STOP);
    }

    /// Ends it with SIGTERM, which must go well.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait_within(STOP);
        assert!(status.success(), "the agent ended with {status}:\n{}", self.log());
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A line of its `/proc/PID/status`, as the kernel writes it: a number, and perhaps its unit.
    #[track_caller]
    pub fn status(&self, field: &str) -> u64 {
        field_of(&PathBuf::from(format!("/proc/{}/status", self.process.pid())), field)
    }

    /// How often its threads have been woken up so far: each switch to another thread and back counts once.
    #[track_caller]
    pub fn wakeups(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.pid())).or_fail("list the agent's threads");
        let status = threads.flatten().map(|thread| thread.path().join("status"));
        let fields = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        status.map(|status| fields.map(|field| field_of(&status, field)).iter().sum::<u64>()).sum()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}

/// The number in a line of a process's or a thread's `status`.
#[track_caller]
fn field_of(status: &Path, field: &str) -> u64 {
    let text = fs::read_to_string(status).or_fail("read the agent's status");
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.ok_or(text).or_fail(format_args!("find {field} in {}", status.display()))
}

/// The binary under test: `SPANDREL_BIN`, or the newest one next to the test program.
pub(crate) fn spandrel_program() -> Option<PathBuf> {
    if let Some(path) = env::var_os("SPANDREL_BIN") {
        return fs::canonicalize(path).ok();
    }
    // <target>/<profile>/deps/<test program>
    let program = env::current_exe().ok()?;
    let target = program.ancestors().nth(3)?;
    let built = ["debug", "release"].map(|profile| target.join(profile).join("spandrel"));
    let made = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    built.into_iter().filter(|path| path.exists()).max_by_key(made)
}
