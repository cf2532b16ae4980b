//! Further processes in a running container.
//!
//! Unlike the container's command they are children of the agent. They do not end with it, but only it learns how they end.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::Command;
use tokio::sync::watch;

use super::error::{Context, Error, Result};
use super::limits::restore_open_files;
use super::pidfd::PidFd;
use super::process::{ProcessSpec, Running, StartFailure};
use super::shim::{code_of, reset_signals};

/// A process started in a running container. Clones mean the same process.
#[derive(Clone, Debug)]
pub struct Executed {
    pid: u32,
    handle: Arc<PidFd>,
    exit: watch::Receiver<Option<i32>>,
}

impl Running {
    /// Starts a further process inside the container's network, mount and UTS namespaces; without `stdio` it has no input and
    /// nobody hears it.
    pub async fn exec(&self, process: &ProcessSpec, stdio: Option<[OwnedFd; 3]>) -> Result<Executed> {
        let gone = || Error::Other("the container is not running".to_owned());
        let shim = self.shim().ok_or_else(gone)?;
        let (program, arguments) =
            process.argv.split_first().ok_or_else(|| Error::Other("there is no command to execute".into()))?;
        let directory = CDirectory::of(self, process)?;
        let [stdin, stdout, stderr] =
            stdio.map_or_else(|| [(); 3].map(|()| Stdio::null()), |stdio| stdio.map(Stdio::from));
        let namespaces = shim.get_ref().as_raw_fd();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(process.env.iter().cloned())
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        // SAFETY: only system calls that may be used between fork and exec, on descriptors and strings made before.
        unsafe {
            command.pre_exec(move || {
                check(libc::setns(namespaces, libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWUTS))?;
                // A new session: signals of the agent's terminal are not meant for it.
                check(libc::setsid())?;
                check(libc::chdir(directory.0.as_ptr()))?;
                libc::umask(0o022);
                reset_signals();
                restore_open_files()
            });
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(_) if !self.is_alive() => return Err(gone()),
            Err(error) => return Err(StartFailure::of_exec(program, &error).into()),
        };
        // The client's pipes must close when the process closes them, not when the agent drops its copies.
        drop(command);
        let pid = child.id().ok_or_else(|| Error::Other("the executed process has no number".into()))?;
        // Not reaped before somebody waits for it, so the number is still its own.
        let handle = PidFd::open(pid.cast_signed()).to(|| format!("get a handle of process {pid}"))?;
        let (sender, exit) = watch::channel(None);
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => _ = sender.send(Some(code_of(status))),
                Err(error) => tracing::error!("cannot wait for process {pid}: {error}"),
            }
        });
        Ok(Executed { pid, handle: Arc::new(handle), exit })
    }
}

impl Executed {
    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. Returns false if the process has ended.
    pub fn kill(&self, signal: i32) -> Result<bool> {
        self.handle.signal(signal).to(|| format!("send signal {signal} to process {}", self.pid))
    }

    /// Waits for its exit code: 128 plus the signal's number if that ended it. Cancel safe; any number may wait.
    pub async fn wait(&self) -> Result<i32> {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await.map(|code| *code) {
            Ok(Some(code)) => Ok(code),
            _ => Err(Error::Other(format!("cannot tell how process {} ended", self.pid))),
        }
    }
}

/// A working directory that the container has.
struct CDirectory(std::ffi::CString);

impl CDirectory {
    fn of(running: &Running, process: &ProcessSpec) -> Result<Self> {
        let missing = || Error::NoSuchDirectory(process.directory.clone());
        // As the container sees it, which may have mounted what the host does not have.
        let mut seen = PathBuf::from(format!("/proc/{}/root", running.record().shim_pid));
        seen.extend(process.directory.strip_prefix("/"));
        if !process.directory.is_absolute() || !seen.is_dir() {
            return Err(missing());
        }
        let bytes = process.directory.as_os_str().as_encoded_bytes();
        std::ffi::CString::new(bytes).map(Self).map_err(|_| missing())
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
