//! Mounts: the agent's own BPF file system, and files laid over those of the host inside a container's mount namespace.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::{Context, Error, Result};

/// Makes `directory` and mounts a BPF file system on it unless one is there. Returns whether it was mounted now.
pub fn ensure_bpffs(directory: &Path) -> Result<bool> {
    let action = || format!("mount a BPF file system on {}", directory.display());
    fs::create_dir_all(directory).to(action)?;
    if is_bpffs(directory) {
        return Ok(false);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), directory, Some("bpf"), flags, Some("mode=0700")).to(action)?;
    Ok(true)
}

/// Whether `directory` lies on a BPF file system.
pub fn is_bpffs(directory: &Path) -> bool {
    statfs(directory).is_ok_and(|status| status.filesystem_type() == BPF_FS_MAGIC)
}

/// Takes the mount on `path` away, also while it is in use. Returns false if nothing was mounted there.
///
/// Copies of the mount in containers' mount namespaces go once `path` itself is removed.
pub fn unmount(path: &Path) -> Result<bool> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(false),
        Err(error) => Err(Error::io(format!("unmount {}", path.display()), error)),
    }
}

/// Keeps mounts that are made in the calling process's mount namespace from being seen by the host, while what the host
/// mounts and unmounts later still shows inside: a host file system must not stay busy because a container runs.
pub(super) fn make_slave() -> io::Result<()> {
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?)
}

/// Lays the file `source` over `target`. Returns false if the host has no such `target` to lay it over.
pub(super) fn bind_file(source: &Path, target: &Path) -> io::Result<bool> {
    match mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
        Ok(()) => Ok(true),
        // `source` is ours and exists; so the target is missing, or a symbolic link to nowhere.
        Err(Errno::ENOENT) if source.exists() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Follows the mounts of the process's mount namespace: the kernel tells when any was made or taken away, not which.
#[derive(Debug)]
pub struct MountWatch(AsyncFd<File>);

impl MountWatch {
    /// Begins to follow them. Must be called within a tokio runtime.
    pub fn start() -> Result<Self> {
        const PATH: &str = "/proc/self/mountinfo";
        let action = || format!("follow {PATH}");
        let file = File::open(PATH).to(action)?;
        // SAFETY: the file owns its descriptor, which stays open for as long as this lives.
        unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }.map(Self).to(action)
    }

    /// Waits for a change since this returned last. Cancel safe.
    pub async fn changed(&mut self) {
        match self.0.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                tracing::error!("no longer following the mounts: {error}");
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpffs_is_mounted_once_and_goes_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/bpf");
        assert!(ensure_bpffs(&path).unwrap());
        assert!(is_bpffs(&path));
        assert!(!ensure_bpffs(&path).unwrap());
        assert!(unmount(&path).unwrap());
        assert!(!is_bpffs(&path));
        assert!(!unmount(&path).unwrap());
        assert!(!unmount(&directory.path().join("absent")).unwrap());
    }
}
