//! The process between agent and container: it starts the container's command, outlives the agent, and sees to it that nothing remains.
//!
//! It runs as the hidden subcommand `spandrel shim DIRECTORY DESCRIPTOR`, on its own: no threads, no runtime, no store. It enters the
//! container's network namespace, makes a mount and a UTS namespace, lays the container's `hosts`, `hostname` and `resolv.conf` over those in
//! `/etc` (one that the host does not have is left out: making it would change the host's disk), starts the command, tells the agent, waits, kills
//! whatever is left in the container, and writes the exit code. If the shim itself is killed, the kernel kills the command.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, sethostname, setsid};

use super::error::{Context, Error, Result};
use super::members::{Membership, kill_members, mount_namespace};
use super::mount::{bind_file, make_slave};
use super::netns::NetNs;
use super::pidfd::start_time;
use super::process::{ContainerSpec, Record, StartFailure, Status, read_spec, record_exit, write_whole};

/// The files of the container's directory that it sees under `/etc`.
const ETC: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

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
        Ok((child, record)) => {
            let code = answer(&mut status, &Status::Started(record.clone()));
            drop(status);
            if code == ExitCode::SUCCESS { attend(directory, child, &record) } else { abandon(child) }
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
fn start(directory: &Path, status: &File) -> std::result::Result<(Child, Record), StartFailure> {
    let other = |error: Error| StartFailure::Other(error.to_string());
    let spec = read_spec(directory).map_err(other)?;
    detach(status).map_err(other)?;
    enter_namespaces(&spec).map_err(other)?;
    if !spec.process.directory.is_dir() {
        return Err(StartFailure::NoSuchDirectory(spec.process.directory));
    }
    let mut child = spawn(&spec)?;
    match record(&spec, &child) {
        Ok(record) => Ok((child, record)),
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

fn spawn(spec: &ContainerSpec) -> std::result::Result<Child, StartFailure> {
    let process = &spec.process;
    let (program, arguments) =
        process.argv.split_first().ok_or_else(|| StartFailure::Other("there is no command to run".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(process.env.iter().cloned()).current_dir(&process.directory);
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
    let action = || format!("record the container's process in {}", spec.directory.display());
    let text = serde_json::to_vec(&record).map_err(io::Error::from).to(action)?;
    write_whole(&spec.directory.join("process.json"), &text).to(action)?;
    write_whole(&spec.directory.join("pid"), format!("{pid}\n").as_bytes()).to(action)?;
    Ok(record)
}

/// Waits for the command, clears up after it, and records how it ended.
fn attend(directory: &Path, child: Child, record: &Record) -> ExitCode {
    release_stdio();
    let code = wait_for(child.id().cast_signed());
    kill_rest(record);
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
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == command => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == command => return 128 + signal as i32,
            // An orphan of the container, or a signal to us.
            Ok(_) | Err(Errno::EINTR) => {}
            // Cannot be: the command is a child that nobody else reaps.
            Err(_) => return 255,
        }
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
