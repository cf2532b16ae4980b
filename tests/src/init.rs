//! The first process of a machine: it holds the machine's namespaces, and everything in them ends with it.
//!
//! It is forked, not executed, and makes system calls only. It ends when the socket that leads to its parent closes,
//! whether because the machine is dropped or because the test was killed; the kernel then kills every process of its
//! PID namespace (agents, shims, containers), and with the last of them go the mounts, links and addresses. Nothing has
//! to be cleaned up by hand.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::thread::on_thread;

/// How long the kernel may take to set up a machine, or to end all its processes. An emulated one has taken more than ten seconds for it
/// while it still cleaned up after earlier tests.
const LIMIT: Duration = Duration::from_secs(60);

/// What the new process does in turn; it tells the number of the step that failed.
const STEPS: [&str; 4] = ["make its namespaces", "make its mounts its own", "mount /proc", "mount /run"];

/// The namespaces of a machine besides the PID namespace.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS;

/// A living first process. Dropping it ends the machine.
pub(crate) struct Init {
    pid: Pid,
    handle: OwnedFd,
    lifeline: UnixStream,
}

impl Init {
    /// Starts one, in PID, mount, network and UTS namespaces of its own, with its own `/proc` and an empty `/run`.
    pub(crate) fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // A thread of its own, because unshare() decides about all further children of the thread that calls it.
        let pid = on_thread(|| -> io::Result<Pid> {
            unshare(CloneFlags::CLONE_NEWPID)?;
            // SAFETY: the child makes system calls only, on what was prepared here, and never returns.
            match unsafe { fork()? } {
                ForkResult::Parent { child } => Ok(child),
                ForkResult::Child => live(theirs.as_raw_fd()),
            }
        })?;
        drop(theirs);
        let init = Self { pid, handle: pidfd(pid)?, lifeline: ours };
        init.lifeline.set_read_timeout(Some(LIMIT))?;
        let mut report = [0; 2];
        (&init.lifeline).read_exact(&mut report).map_err(|error| init.stuck(&error))?;
        match report {
            [0, 0] => Ok(init),
            [step, error] => {
                let what = STEPS[usize::from(step)];
                let why = io::Error::from_raw_os_error(error.into());
                Err(io::Error::new(why.kind(), format!("a machine cannot {what}: {why}")))
            }
        }
    }

    /// What to say of one that does not report: where in the kernel it waits.
    fn stuck(&self, error: &io::Error) -> io::Error {
        let stack = std::fs::read_to_string(format!("/proc/{}/stack", self.pid)).unwrap_or_default();
        io::Error::new(
            error.kind(),
            format!("its first process does not report within {LIMIT:?} ({error}); it is in\n{stack}"),
        )
    }

    /// Its number, as this process sees it.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }
}

impl AsFd for Init {
    /// The pidfd, good for setns(2) into all namespaces of the machine at once.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Closed for this process only if nobody else has it; shut down for everybody.
        let _ = self.lifeline.shutdown(Shutdown::Both);
        let timeout = PollTimeout::try_from(LIMIT).unwrap_or(PollTimeout::MAX);
        let ended = poll(&mut [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)], timeout);
        if ended == Ok(0) {
            eprintln!("the machine of process {} has not ended within {LIMIT:?}", self.pid);
        }
        // It is reaped if it has ended; otherwise whoever reaps this process will.
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
    }
}

fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us; its numbers are those of RawFd.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// The life of the first process. Async-signal-safe throughout: its parent may have any number of threads.
fn live(lifeline: RawFd) -> ! {
    // SAFETY: plain system calls on integers, static strings and a local buffer.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"lab-init".as_ptr());
        // Nobody else's sockets and pipes may be kept open by this process.
        libc::close_range(0, (lifeline - 1).cast_unsigned(), 0);
        libc::close_range((lifeline + 1).cast_unsigned(), libc::c_uint::MAX, 0);
        // Orphans of the machine become our children; ignoring the signal has the kernel reap them.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        let mut report = [0_u8, 0];
        for number in 0..STEPS.len() {
            if take_step(number) != 0 {
                report = [number as u8, *libc::__errno_location() as u8];
                break;
            }
        }
        libc::write(lifeline, report.as_ptr().cast(), report.len());
        if report == [0, 0] {
            // Nothing is ever sent: this returns when the other end is closed.
            while libc::read(lifeline, report.as_mut_ptr().cast(), 1) < 0 && *libc::__errno_location() == libc::EINTR {}
        }
        libc::_exit(0)
    }
}

/// Takes one of [`STEPS`] on the way to a machine of one's own.
///
/// # Safety
/// Only for a process with a single thread: it changes what all threads share.
unsafe fn take_step(number: usize) -> libc::c_int {
    let mount = |kind: &CStr, path: &CStr, flags, options: Option<&CStr>| {
        let options = options.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: all strings are static.
        unsafe { libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, options.cast()) }
    };
    let plain = libc::MS_NOSUID | libc::MS_NODEV;
    match number {
        // SAFETY: unshare(2) takes an integer.
        0 => unsafe { libc::unshare(NAMESPACES) },
        // Slave: what the system unmounts meanwhile is not held by us, and nothing of ours is seen outside.
        1 => mount(c"none", c"/", libc::MS_REC | libc::MS_SLAVE, None),
        2 => mount(c"proc", c"/proc", plain | libc::MS_NOEXEC, None),
        _ => mount(c"tmpfs", c"/run", plain, Some(c"mode=0755")),
    }
}

/// Whether a process of this number exists, dead or alive.
pub fn process_exists(pid: u32) -> bool {
    match File::open(format!("/proc/{pid}/stat")) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}
