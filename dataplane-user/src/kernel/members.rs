//! The processes of a container: found by the namespaces they are in, and killed without hitting a stranger.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::netns::NetNsId;
use super::pidfd::PidFd;

/// A killed process may need a while to go (a large core dump, a slow disk); then it is left to itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// What makes a process one of the container's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    /// Inode of the container's mount namespace.
    pub(super) mount_namespace: u64,
    /// The network namespace it must be in too, for a caller that cannot be sure that the mount namespace still exists:
    /// its inode may have been given to another one.
    pub(super) network_namespace: Option<NetNsId>,
    /// The parent of processes that belong to the container in any case.
    pub(super) parent: Option<i32>,
    /// The process that is spared.
    pub(super) except: i32,
}

impl Membership {
    fn includes(&self, pid: i32) -> bool {
        if pid == self.except {
            return false;
        }
        let directory = format!("/proc/{pid}/ns");
        let same_mounts = mount_namespace(pid).is_ok_and(|inode| inode == self.mount_namespace);
        let same_network = self.network_namespace.is_none_or(|id| {
            NetNsId::of_file(Path::new(&directory).join("net").as_path()).is_ok_and(|other| other == id)
        });
        (same_mounts && same_network) || self.parent.is_some_and(|parent| parent_of(pid) == Some(parent))
    }
}

/// Kills every member until there are none, also those that are forked meanwhile. `reap` is called after each round.
/// Returns how many were killed.
pub(super) fn kill_members(members: Membership, mut reap: impl FnMut()) -> io::Result<usize> {
    let begun = Instant::now();
    let mut killed = std::collections::BTreeSet::new();
    loop {
        let mut left = false;
        for pid in processes()? {
            if !members.includes(pid) {
                continue;
            }
            let Ok(handle) = PidFd::open(pid) else { continue };
            // Again, now that the handle is there: the number may just have gone to somebody else.
            if members.includes(pid) && handle.signal(libc::SIGKILL)? {
                left = true;
                killed.insert(pid);
            }
        }
        reap();
        if !left || begun.elapsed() > PATIENCE {
            return Ok(killed.len());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Inode of the mount namespace of a process.
pub(super) fn mount_namespace(pid: i32) -> io::Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/mnt")).map(|metadata| metadata.ino())
}

fn parent_of(pid: i32) -> Option<i32> {
    procfs::process::Process::new(pid).and_then(|process| process.stat()).ok().map(|stat| stat.ppid)
}

/// The numbers of all processes.
fn processes() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}
