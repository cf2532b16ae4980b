//! The agent's side of a container's processes: start them through a shim, find them again, wait for them, signal them.
//!
//! The [shim](super::shim) is a process of its own, in a session of its own and no child of the agent, so that a container outlives its
//! agent. (A systemd unit for the agent needs `KillMode=process` for the same reason.) The two meet in the container's directory:
//!
//! | file | written by | says |
//! |---|---|---|
//! | `spec.json` | agent | the [`ContainerSpec`] |
//! | `hosts`, `hostname`, `resolv.conf` | agent | what the container sees under `/etc` |
//! | `process.json` | shim | who runs: numbers and start times |
//! | `pid` | shim | the number of COMMAND, for people |
//! | `log`, `log.1` | shim | COMMAND's output, when nobody's terminal is attached ([`super::log`]) |
//! | `exit` | shim | the exit code, once everything has ended |

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio as ChildStdio;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::process::Command;

use super::error::{Context, Error, Result};
use super::limits::restore_open_files;
use super::members::{Membership, kill_members};
use super::netns::NetNsId;
use super::pidfd::PidFd;

/// The exit code of a container whose shim was killed, so that nobody could tell the real one: as if by SIGKILL.
const KILLED: i32 = 128 + libc::SIGKILL;

/// A command with its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The command and its arguments. A name without a slash is looked for in the PATH of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub directory: PathBuf,
}

/// A container's process and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's own directory, made by the caller.
    pub directory: PathBuf,
    /// Its network namespace; `/proc/self/ns/net` for the agent's own.
    pub netns: PathBuf,
    /// Its host name.
    pub hostname: String,
    /// What it runs.
    pub process: ProcessSpec,
}

/// Where a container's command reads and writes.
#[derive(Debug)]
pub enum Stdio {
    /// Input, output and errors of the client that waits for it.
    Terminal([OwnedFd; 3]),
    /// No input; output and errors go to the log in the container's directory.
    Log,
}

/// What the shim reads in `spec.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) spec: ContainerSpec,
    /// The command's output goes to the log; else to the shim's own standard output and error.
    pub(super) log: bool,
}

/// How to start a shim. The default is this very program, `spandrel shim`.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, to which the container's directory and the number of the status descriptor are added.
    pub arguments: Vec<OsString>,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code of its command; 128 plus the signal's number if that ended it.
    pub code: i32,
    /// When it had ended.
    pub at: SystemTime,
}

/// What the shim leaves in `process.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) shim_pid: i32,
    pub(super) shim_start_time: u64,
    pub(super) mount_namespace: u64,
    pub(super) netns: PathBuf,
}

/// What the shim answers on the status pipe.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Status {
    Started(Record),
    Failed(StartFailure),
}

/// Why a command could not be started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum StartFailure {
    CommandNotFound(String),
    CommandNotExecutable(String),
    NoSuchDirectory(PathBuf),
    Other(String),
}

/// The processes of a running container. Clones mean the same container.
#[derive(Clone, Debug)]
pub struct Running {
    directory: PathBuf,
    record: Record,
    /// None if it had ended before a handle could be had.
    shim: Option<Arc<AsyncFd<PidFd>>>,
    command: Option<Arc<PidFd>>,
}

impl Default for Launcher {
    fn default() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: vec!["shim".into()] }
    }
}

impl Launcher {
    /// Starts the container's command and returns once it runs. If it cannot be started, the error says why and nothing is left running.
    pub async fn spawn(&self, spec: &ContainerSpec, stdio: Stdio) -> Result<Running> {
        let directory = &spec.directory;
        write_orders(&Orders { spec: spec.clone(), log: matches!(stdio, Stdio::Log) })?;
        for name in ["exit", "pid", "process.json"] {
            remove_if_there(&directory.join(name))?;
        }
        let [stdin, stdout, stderr] = match stdio {
            Stdio::Terminal(descriptors) => descriptors.map(ChildStdio::from),
            Stdio::Log => {
                let log = open_log(&directory.join("log"))?;
                let second = log.try_clone().to(|| "duplicate the descriptor of the container's log")?;
                [ChildStdio::null(), log.into(), second.into()]
            }
        };
        let (status, mut answer) = status_pipe()?;
        let status_number = status.as_raw_fd();
        let mut command = Command::new(&self.program);
        command.arg0("spandrel").args(&self.arguments).arg(directory).arg(status_number.to_string());
        command.env_clear().current_dir("/").stdin(stdin).stdout(stdout).stderr(stderr);
        // SAFETY: fcntl(2) and setrlimit(2) may be called between fork and exec.
        unsafe {
            command.pre_exec(move || match libc::fcntl(status_number, libc::F_SETFD, 0) {
                -1 => Err(io::Error::last_os_error()),
                _ => restore_open_files(),
            });
        }
        let action = || "start the container's shim";
        let mut first = command.spawn().to(action)?;
        // Our copies: the pipe ends when the shim has closed its own, and a client's pipe when the command has.
        drop(command);
        drop(status);
        // It forks and ends at once.
        first.wait().await.to(action)?;
        let mut text = String::new();
        answer.read_to_string(&mut text).await.to(action)?;
        match serde_json::from_str(&text) {
            Ok(Status::Started(record)) => Running::new(directory.clone(), record),
            Ok(Status::Failed(failure)) => Err(failure.into()),
            Err(_) => Err(Error::Other(format!(
                "cannot start the container's shim: it ended without an answer, see {}",
                directory.join("log").display()
            ))),
        }
    }
}

impl Running {
    fn new(directory: PathBuf, record: Record) -> Result<Self> {
        let action = || "get a handle of the container's processes";
        let shim = PidFd::open_same(record.shim_pid, record.shim_start_time).to(action)?;
        let shim = shim.map(PidFd::watch).transpose().to(action)?;
        let command = PidFd::open_same(record.pid, record.start_time).to(action)?;
        Ok(Self { directory, record, shim: shim.map(Arc::new), command: command.map(Arc::new) })
    }

    /// Finds a container that an earlier agent started. None if its shim has ended (or it never ran): see [`recorded_exit`] for how,
    /// and call [`kill_leftovers`] if there is no record of that.
    pub fn reattach(directory: &Path) -> Result<Option<Self>> {
        let Some(record) = read_record(directory)? else { return Ok(None) };
        let running = Self::new(directory.to_owned(), record)?;
        Ok(running.is_alive().then_some(running))
    }

    /// The number of the container's command.
    pub fn pid(&self) -> u32 {
        self.record.pid.unsigned_abs()
    }

    /// Whether the container still runs: its shim has not ended.
    pub fn is_alive(&self) -> bool {
        self.shim.as_ref().is_some_and(|shim| !shim.get_ref().has_ended())
    }

    /// Waits until the container has ended: its command, and all that this left. Cancel safe; any number may wait.
    pub async fn wait(&self) -> Result<Exit> {
        if let Some(shim) = &self.shim {
            shim.readable().await.to(|| "wait for the container's shim")?.retain_ready();
        }
        if let Some(exit) = recorded_exit(&self.directory)? {
            return Ok(exit);
        }
        // The shim was killed. Its command went with it; what else is there, nobody watches any more.
        kill_leftovers(&self.directory).await?;
        record_exit(&self.directory, KILLED).to(|| "record the exit of the container")?;
        Ok(Exit { code: KILLED, at: SystemTime::now() })
    }

    /// Sends a signal to the container's command. Returns false if that has ended.
    pub fn kill(&self, signal: i32) -> Result<bool> {
        match &self.command {
            Some(command) => command.signal(signal).to(|| format!("send signal {signal} to the container's command")),
            None => Ok(false),
        }
    }

    /// Kills every process of the container but the shim, which then records the exit. Returns how many there were.
    pub async fn kill_all(&self) -> Result<usize> {
        kill_all_of(self.record.clone()).await
    }

    /// Keeps in mind, here and on disk, that the container's network namespace is now kept at `netns`.
    pub fn keep_netns_at(&mut self, netns: &Path) -> Result<()> {
        if self.record.netns != netns {
            netns.clone_into(&mut self.record.netns);
            write_record(&self.directory, &self.record)?;
        }
        Ok(())
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// A living handle of the shim, whose namespaces are the container's whatever its command has done.
    pub(super) fn shim(&self) -> Option<Arc<AsyncFd<PidFd>>> {
        self.shim.clone().filter(|shim| !shim.get_ref().has_ended())
    }
}

/// How a container ended that no agent was waiting for; None if its shim did not come to record it.
pub fn recorded_exit(directory: &Path) -> Result<Option<Exit>> {
    let path = directory.join("exit");
    let action = || format!("read {}", path.display());
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(action(), error)),
    };
    let at = fs::metadata(&path).and_then(|metadata| metadata.modified()).to(action)?;
    match text.trim().parse() {
        Ok(code) => Ok(Some(Exit { code, at })),
        Err(_) => Err(Error::Other(format!("{} does not hold an exit code", path.display()))),
    }
}

/// Kills what a killed shim has left of its container. Returns how many processes there were.
pub async fn kill_leftovers(directory: &Path) -> Result<usize> {
    match read_record(directory)? {
        Some(record) => kill_all_of(record).await,
        None => Ok(0),
    }
}

/// Copies of standard input, output and error of the process `pid`; `/dev/null` for one that it has closed.
pub fn client_stdio(pid: i32) -> Result<[OwnedFd; 3]> {
    let action = || format!("take over the terminal of process {pid}");
    let process = PidFd::open(pid).to(action)?;
    let copy = |number| match process.copy_descriptor(number) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => null(),
        result => result,
    };
    Ok([copy(0).to(action)?, copy(1).to(action)?, copy(2).to(action)?])
}

/// Writes the exit code of the container for whoever asks later; whole or not at all.
pub(super) fn record_exit(directory: &Path, code: i32) -> io::Result<()> {
    write_whole(&directory.join("exit"), format!("{code}\n").as_bytes())
}

/// Writes a file only its owner may read, so that a reader sees all of it or its predecessor.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    fs::rename(temporary, path)
}

/// What the shim reads.
pub(super) fn read_orders(directory: &Path) -> Result<Orders> {
    let path = directory.join("spec.json");
    let text = fs::read(&path).to(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| Error::Other(format!("{} is damaged: {error}", path.display())))
}

fn write_orders(orders: &Orders) -> Result<()> {
    let path = orders.spec.directory.join("spec.json");
    let action = || format!("write {}", path.display());
    let text = serde_json::to_vec(orders).map_err(io::Error::from).to(action)?;
    write_whole(&path, &text).to(action)
}

/// Writes down who runs, for this agent and the next.
pub(super) fn write_record(directory: &Path, record: &Record) -> Result<()> {
    let action = || format!("record the container's process in {}", directory.display());
    let text = serde_json::to_vec(record).map_err(io::Error::from).to(action)?;
    write_whole(&directory.join("process.json"), &text).to(action)
}

fn read_record(directory: &Path) -> Result<Option<Record>> {
    let path = directory.join("process.json");
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Error::Other(format!("{} is damaged: {error}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("read {}", path.display()), error)),
    }
}

async fn kill_all_of(record: Record) -> Result<usize> {
    let action = || "kill the processes of the container";
    let Ok(network) = NetNsId::of_file(&record.netns) else {
        // Its network namespace was kept by a mount that is gone: without it nobody can be told from a stranger.
        return Ok(0);
    };
    let members = Membership {
        mount_namespace: record.mount_namespace,
        network_namespace: Some(network),
        parent: None,
        except: record.shim_pid,
    };
    let killing = tokio::task::spawn_blocking(move || kill_members(members, || ()));
    killing.await.map_err(io::Error::other).and_then(|killed| killed).to(action)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

fn open_log(path: &Path) -> Result<File> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    log.to(|| format!("open {}", path.display()))
}

/// The end for the shim, which stays blocking, and the end for us.
fn status_pipe() -> Result<(OwnedFd, pipe::Receiver)> {
    let action = || "make a pipe for the container's shim";
    let (reader, writer) = io::pipe().to(action)?;
    let reader = pipe::Receiver::from_owned_fd(reader.into()).to(action)?;
    Ok((writer.into(), reader))
}

fn null() -> io::Result<OwnedFd> {
    OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from)
}

impl From<StartFailure> for Error {
    fn from(failure: StartFailure) -> Self {
        match failure {
            StartFailure::CommandNotFound(command) => Self::CommandNotFound { command },
            StartFailure::CommandNotExecutable(command) => Self::CommandNotExecutable { command },
            StartFailure::NoSuchDirectory(directory) => Self::NoSuchDirectory(directory),
            StartFailure::Other(text) => Self::Other(text),
        }
    }
}

impl StartFailure {
    /// What the error of an exec of `command` means.
    pub(super) fn of_exec(command: &str, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT) => Self::CommandNotFound(command.to_owned()),
            Some(libc::EACCES | libc::ENOEXEC | libc::EISDIR) => Self::CommandNotExecutable(command.to_owned()),
            _ => Self::Other(format!("exec: {command:?}: {error}")),
        }
    }
}
