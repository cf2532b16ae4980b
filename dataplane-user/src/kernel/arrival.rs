//! Files that are not there yet: waiting until they are made, without looking again and again.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for a file, or for the first directory that is missing on the way to it.
#[derive(Debug)]
pub struct Arrival {
    changes: AsyncFd<Changes>,
    name: OsString,
}

/// An inotify instance, by the number that tokio wants.
#[derive(Debug)]
struct Changes(Inotify);

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_fd().as_raw_fd()
    }
}

impl Arrival {
    /// Begins to watch for an absolute path: what is made from now on is told of. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel refuses, such as when there are too many watches.
    pub fn watch(path: &Path) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        for missing in path.ancestors() {
            let (Some(directory), Some(name)) = (missing.parent(), missing.file_name()) else { break };
            match changes.add_watch(directory, flags) {
                Ok(_) => {
                    // SAFETY: the instance owns its descriptor, which stays open for as long as it lives.
                    let changes = unsafe { AsyncFd::register_with_interest(Changes(changes), Interest::READABLE) }?;
                    return Ok(Self { changes, name: name.to_owned() });
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other(format!("no directory to watch for {}", path.display())))
    }

    /// Waits until it has been made.
    ///
    /// # Errors
    ///
    /// The kernel no longer tells.
    pub async fn arrived(&self) -> io::Result<()> {
        loop {
            let mut ready = self.changes.readable().await?;
            match self.changes.get_ref().0.read_events() {
                // One without a name tells that some were lost, or the directory.
                Ok(events) => {
                    if events.iter().any(|event| event.name.as_ref().is_none_or(|name| *name == self.name)) {
                        return Ok(());
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_file_and_the_directories_before_it_are_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/engine.sock");
        let soon = Duration::from_millis(200);
        for made in ["run", "run/engine.sock"] {
            let arrival = Arrival::watch(&path).unwrap();
            fs::write(path.parent().unwrap().with_file_name(format!("other than {}", made.len())), "").unwrap();
            assert!(timeout(soon, arrival.arrived()).await.is_err(), "{made} is not there yet");
            fs::create_dir(root.path().join(made)).unwrap();
            timeout(soon * 50, arrival.arrived()).await.expect("it is there").unwrap();
        }
        // From elsewhere, and after it has gone.
        fs::remove_dir(&path).unwrap();
        let arrival = Arrival::watch(&path).unwrap();
        fs::rename(root.path().join("other than 3"), &path).unwrap();
        timeout(soon * 50, arrival.arrived()).await.expect("it is there").unwrap();
    }
}
