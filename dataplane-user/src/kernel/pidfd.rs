//! Handles of processes that cannot come to mean another process when a number is used again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A handle of one process, dead or alive.
#[derive(Debug)]
pub(super) struct PidFd(OwnedFd);

impl PidFd {
    /// A handle of the process that has the number now.
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: pidfd_open(2) takes two integers.
        descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(Self)
    }

    /// Like [`PidFd::open`], for the process that had the number and began at `start_time`; None if that one is gone.
    pub(super) fn open_same(pid: i32, start_time: u64) -> io::Result<Option<Self>> {
        let handle = match Self::open(pid) {
            Ok(handle) => handle,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Asked after opening: the answer is about the process of the handle, or that one is gone anyway.
        Ok((self::start_time(pid) == Some(start_time)).then_some(handle))
    }

    /// Sends a signal. Returns false if the process is gone.
    pub(super) fn signal(&self, signal: i32) -> io::Result<bool> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal(2) accepts a null siginfo and then makes its own.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, none, 0) };
        if sent == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            error => Err(error),
        }
    }

    /// A copy of the process's descriptor `number`.
    pub(super) fn copy_descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        // SAFETY: pidfd_getfd(2) takes three integers.
        descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0) })
    }

    /// A handle whose end can be waited for: it becomes readable then. Must be called within a tokio runtime.
    pub(super) fn watch(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is private to `self`, and stays open until that is dropped.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }.map_err(io::Error::from)
    }

    /// Whether the process has ended, reaped or not.
    pub(super) fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` is one pollfd, as the count says; with a timeout of 0 the call does not wait.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// When the process began, in clock ticks after boot. With the number it names a process for good.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    procfs::process::Process::new(pid).and_then(|process| process.stat()).ok().map(|stat| stat.starttime)
}

/// Waits for the end of a process that is none of ours; one that is not there has ended. Must be called within a tokio runtime.
pub async fn ended(pid: i32) -> io::Result<()> {
    match PidFd::open(pid) {
        Ok(process) => process.watch()?.readable().await.map(drop),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(error) => Err(error),
    }
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just opened this descriptor for us, close-on-exec; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_handle_outlives_its_process_and_hits_nobody_else() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let began = start_time(pid).unwrap();
        let handle = PidFd::open_same(pid, began).unwrap().unwrap();
        assert!(PidFd::open_same(pid, began + 1).unwrap().is_none());
        assert!(!handle.has_ended());
        assert!(handle.signal(libc::SIGKILL).unwrap());
        child.wait().unwrap();
        assert!(handle.has_ended());
        assert!(!handle.signal(libc::SIGKILL).unwrap());
        assert!(PidFd::open_same(pid, began).unwrap().is_none());
    }
}
