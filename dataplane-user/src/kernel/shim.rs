//! The process between agent and container: it starts the container's command, outlives the agent, and sees to it that nothing remains.
//!
//! It runs as the hidden subcommand `spandrel shim DIRECTORY DESCRIPTOR`, on its own: no threads, no runtime, no store. It enters the
//! container's network namespace, makes a mount and a UTS namespace, lays the container's `hosts`, `hostname` and `resolv.conf` over those in
//! `/etc` (one that the host does not have is left out: making it would change the host's disk), starts the command, tells the agent, waits, kills
//! whatever is left in the container, and writes the exit code. If the shim itself is killed, the kernel kills the command.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, sethostname, setsid};

use super::error::{Context, Error, Result};
use super::log::{LIMIT, LogWriter, Stream};
use super::members::{Membership, kill_members, mount_namespace};
use super::mount::{bind_file, make_slave};
use super::netns::NetNs;
use super::pidfd::start_time;
use super::process::{
    ContainerSpec, Record, StartFailure, Status, read_orders, record_exit, write_record, write_whole,
};

/// The files of the container's directory that it sees under `/etc`.
const ETC: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// The most that a pipe holds (`/proc/sys/fs/pipe-max-size`).
const PIPE: usize = 1 << 20;

/// Signals that end a process by default and may be sent to a whole group. The shim lives as long as its container.
const IGNORED: [libc::c_int; 5] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE];

/// Runs the container described in `directory/spec.json` and answers on the open descriptor `status`.
///
/// Must be called in a process that has no other thread: it forks.
pub fn main(directory: &Path, status: RawFd) -> ExitCode {
    // SAFETY: the descriptor was handed to this process for this purpose; nothing else here knows its number.
    let mut status = unsafe { File::from_raw_fd(status) };
    // SAFETY: this process has one thread, so the child can do whatever its parent could.
    match unsafe { fork() } {
        // The agent reaps the parent at once; the child is nobody's and stays when the agent goes.
        Ok(ForkResult::Parent { .. }) => return ExitCode::SUCCESS,
        Ok(ForkResult::Child) => {}
        Err(error) => {
            return answer(
                &mut status,
                &Status::Failed(StartFailure::Other(format!("cannot fork the container's shim: {error}"))),
            );
        }
    }
    match start(directory, &status) {
        Ok((child, record, output)) => {
            let code = answer(&mut status, &Status::Started(record.clone()));
            drop(status);
            if code == ExitCode::SUCCESS { attend(directory, child, &record, output) } else { abandon(child) }
        }
        Err(failure) => answer(&mut status, &Status::Failed(failure)),
    }
}

/// Tells the agent; the exit code says whether that went well.
fn answer(status: &mut File, message: &Status) -> ExitCode {
    let sent = serde_json::to_vec(message).map_err(io::Error::from).and_then(|text| status.write_all(&text));
    match (sent, message) {
        (Ok(()), Status::Started(_)) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Everything up to the running command.
fn start(directory: &Path, status: &File) -> std::result::Result<(Child, Record, Option<Output>), StartFailure> {
    let other = |error: Error| StartFailure::Other(error.to_string());
    let orders = read_orders(directory).map_err(other)?;
    let spec = orders.spec;
    detach(status).map_err(other)?;
    enter_namespaces(&spec).map_err(other)?;
    if !spec.process.directory.is_dir() {
        return Err(StartFailure::NoSuchDirectory(spec.process.directory));
    }
    let (output, stdio) = match orders.log {
        true => Output::open(&spec.directory).map(|(output, stdio)| (Some(output), stdio)).map_err(other)?,
        false => (None, [Stdio::inherit(), Stdio::inherit()]),
    };
    let mut child = spawn(&spec, stdio)?;
    match record(&spec, &child) {
        Ok(record) => Ok((child, record, output)),
        Err(error) => {
            // Nothing may be left of a container that the agent does not learn of; a child that has ended already is as good.
            let _ = child.kill().and_then(|()| child.wait());
            Err(other(error))
        }
    }
}

/// Cuts the ties with the agent: its session, its descriptors, its way with signals.
fn detach(status: &File) -> Result<()> {
    let action = || "detach the shim from the agent";
    setsid().to(action)?;
    let keep = status.as_raw_fd();
    close_on_exec(keep).to(action)?;
    for (first, last) in [(3, keep - 1), (keep + 1, libc::c_int::MAX)] {
        if first <= last {
            // SAFETY: nothing in this process owns a descriptor above 2 but `status`, which the ranges leave out.
            let closed = unsafe { libc::close_range(first.cast_unsigned(), last.cast_unsigned(), 0) };
            if closed != 0 {
                return Err(Error::last(action()));
            }
        }
    }
    reset_signals();
    for signal in IGNORED {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: umask(2) takes an integer and cannot fail.
    unsafe { libc::umask(0o022) };
    // SAFETY: PR_SET_NAME reads a string that ends with zero. Started through /proc/self/exe, we would be called "exe".
    unsafe { libc::prctl(libc::PR_SET_NAME, c"spandrel".as_ptr()) };
    // SAFETY: PR_SET_CHILD_SUBREAPER takes an integer. Orphans of the container become our children, to be reaped.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } != 0 {
        return Err(Error::last(action()));
    }
    Ok(())
}

fn enter_namespaces(spec: &ContainerSpec) -> Result<()> {
    let netns = NetNs::open(&spec.netns)?;
    setns(&netns, CloneFlags::CLONE_NEWNET).to(|| "enter the container's network namespace")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .to(|| "make the container's mount and UTS namespaces")?;
    make_slave().to(|| "set up the container's mount namespace")?;
    for name in ETC {
        let source = spec.directory.join(name);
        if source.exists() {
            let target = Path::new("/etc").join(name);
            bind_file(&source, &target).to(|| format!("lay {} over {}", source.display(), target.display()))?;
        }
    }
    sethostname(&spec.hostname).to(|| format!("set the container's host name to {:?}", spec.hostname))
}

fn spawn(spec: &ContainerSpec, [stdout, stderr]: [Stdio; 2]) -> std::result::Result<Child, StartFailure> {
    let process = &spec.process;
    let (program, arguments) =
        process.argv.split_first().ok_or_else(|| StartFailure::Other("there is no command to run".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(process.env.iter().cloned()).current_dir(&process.directory);
    command.stdout(stdout).stderr(stderr);
    let shim = Pid::this();
    // SAFETY: only system calls that may be used between fork and exec.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            reset_signals();
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Had the shim been killed just before, no signal would come any more.
            if Pid::parent() != shim { Err(Errno::ESRCH.into()) } else { Ok(()) }
        });
    }
    command.spawn().map_err(|error| StartFailure::of_exec(program, &error))
}

/// Writes down who runs, for this agent and the next.
fn record(spec: &ContainerSpec, child: &Child) -> Result<Record> {
    let began = |pid: i32| start_time(pid).ok_or_else(|| Error::Other(format!("cannot tell when process {pid} began")));
    let (pid, shim_pid) = (child.id().cast_signed(), Pid::this().as_raw());
    let record = Record {
        pid,
        // The child is not reaped yet, so even one that has ended can still be asked.
        start_time: began(pid)?,
        shim_pid,
        shim_start_time: began(shim_pid)?,
        mount_namespace: mount_namespace(shim_pid).to(|| "look at the container's mount namespace")?,
        netns: spec.netns.clone(),
    };
    write_record(&spec.directory, &record)?;
    write_whole(&spec.directory.join("pid"), format!("{pid}\n").as_bytes())
        .to(|| format!("record the container's process in {}", spec.directory.display()))?;
    Ok(record)
}

/// Waits for the command, clears up after it, and records how it ended.
fn attend(directory: &Path, child: Child, record: &Record, mut output: Option<Output>) -> ExitCode {
    release_stdio();
    let command = child.id().cast_signed();
    let code = match &mut output {
        Some(output) => output.log_until_end_of(command),
        None => wait_for(command),
    };
    kill_rest(record);
    if let Some(output) = output {
        output.finish();
    }
    match record_exit(directory, code) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The agent went away before it learnt that the command runs: then it must not.
fn abandon(mut child: Child) -> ExitCode {
    // It cannot fail but for a child that has ended, and there is nobody left to tell.
    let _ = child.kill().and_then(|()| child.wait());
    ExitCode::FAILURE
}

/// Gives the client's descriptors up: they are the command's alone now.
fn release_stdio() {
    let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    for number in 0..3 {
        // SAFETY: dup2(2) takes two integers; standard descriptors are looked up by number, nothing owns the old ones.
        unsafe { libc::dup2(null.as_raw_fd(), number) };
    }
}

/// Reaps until the command itself has ended.
fn wait_for(command: i32) -> i32 {
    loop {
        if let Reaped::Command(code) = reap(command, None) {
            return code;
        }
    }
}

/// Who has ended.
enum Reaped {
    /// The command, with this exit code.
    Command(i32),
    /// An orphan of the container; or there was a signal to us.
    Another,
    /// Nobody.
    Nobody,
}

fn reap(command: i32, flags: Option<WaitPidFlag>) -> Reaped {
    match waitpid(None, flags) {
        Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == command => Reaped::Command(code),
        Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == command => Reaped::Command(128 + signal as i32),
        Ok(WaitStatus::StillAlive) => Reaped::Nobody,
        Ok(_) | Err(Errno::EINTR) => Reaped::Another,
        // Cannot be: the command is a child that nobody else reaps.
        Err(_) => Reaped::Command(255),
    }
}

/// The command's output on its way to the log.
struct Output {
    log: LogWriter,
    /// What is left of it, in the order of [`Stream::BOTH`]; none once the container has closed its end.
    pipes: [Option<PipeReader>; 2],
    /// Tells of children that have ended.
    children: SignalFd,
}

impl Output {
    /// With the ends of the pipes that are the command's.
    fn open(directory: &Path) -> Result<(Self, [Stdio; 2])> {
        let action = || "set up the container's log";
        let (stdout, stdout_end) = io::pipe().to(action)?;
        let (stderr, stderr_end) = io::pipe().to(action)?;
        for pipe in [&stdout, &stderr] {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).to(action)?;
        }
        // Blocked, it is only told by the descriptor. The command's own signals are reset before it starts.
        let mut ended = SigSet::empty();
        ended.add(Signal::SIGCHLD);
        ended.thread_block().to(action)?;
        let children = SignalFd::with_flags(&ended, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).to(action)?;
        let log = LogWriter::open(directory, LIMIT)?;
        let output = Self { log, pipes: [Some(stdout), Some(stderr)], children };
        Ok((output, [stdout_end.into(), stderr_end.into()]))
    }

    /// Takes down what the container says, and reaps, until the command itself has ended.
    fn log_until_end_of(&mut self, command: i32) -> i32 {
        loop {
            match reap(command, Some(WaitPidFlag::WNOHANG)) {
                Reaped::Command(code) => return code,
                Reaped::Another => {}
                Reaped::Nobody => {
                    self.wait();
                    self.take();
                }
            }
        }
    }

    /// Waits until there is something to read or somebody has ended.
    fn wait(&self) {
        let watched = self.pipes.iter().flatten().map(AsRawFd::as_raw_fd).chain([self.children.as_fd().as_raw_fd()]);
        let mut watched: Vec<_> = watched.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        // SAFETY: poll(2) reads and writes as many entries as it is told of. Interrupted or not, the caller looks anew.
        unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, -1) };
        while matches!(self.children.read_signal(), Ok(Some(_))) {}
    }

    /// Takes what can be read now: no more than a full pipe, so that whoever never pauses keeps us from nothing else.
    fn take(&mut self) {
        let mut buffer = [0; 16 << 10];
        for (stream, pipe) in Stream::BOTH.into_iter().zip(&mut self.pipes) {
            for _ in 0..PIPE / buffer.len() {
                let Some(reader) = pipe else { break };
                match reader.read(&mut buffer) {
                    Ok(count @ 1..) => self.log.take(stream, &buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(0) | Err(_) => *pipe = None,
                }
            }
        }
    }

    /// When all processes of the container have ended: takes the rest.
    fn finish(mut self) {
        self.take();
        self.log.finish();
    }
}

/// Kills what the command left: everything in the mount namespace, and our own children wherever they have gone.
fn kill_rest(record: &Record) {
    let members = Membership {
        mount_namespace: record.mount_namespace,
        network_namespace: None,
        parent: Some(record.shim_pid),
        except: record.shim_pid,
    };
    let reap =
        || while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {};
    // Only an unreadable /proc could make this fail, and then nothing better could be done.
    let _ = kill_members(members, reap);
}

/// The exit code that a shell would tell.
pub(super) fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Lets every signal do what it does by default, and blocks none. May be called between fork and exec.
pub(super) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: the default action needs no handler. It fails for SIGKILL and SIGSTOP, which always have theirs.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a zeroed sigset_t is the empty set; the old mask is not asked for.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn close_on_exec(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer.
    match unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
