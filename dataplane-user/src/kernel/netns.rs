//! Network namespaces: made and kept by a bind mount under a name, opened, entered by a thread of their own, removed.
//!
//! What is inside a namespace (links, addresses, processes) is the concern of the other modules.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::error::{Context, Error, Result};
use super::sysctl::Directory;

/// The calling thread's own namespace; `/proc/self` would be the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// `NS_GET_NSTYPE` of `linux/nsfs.h`, `_IO(0xb7, 0x3)`.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// An open network namespace. It lives at least as long as this handle.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    /// The process is in it: every thread but those of [`NetNs::run`].
    home: bool,
    /// The parameters of IPv6 of its interfaces, once they were asked for.
    ipv6: OnceLock<Directory>,
}

/// Tells two namespaces apart; good as long as one of its handles, mounts or processes exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NetNsId {
    device: u64,
    inode: u64,
}

impl NetNsId {
    /// Of the namespace that `path` leads to.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(Self::from)
    }
}

impl From<fs::Metadata> for NetNsId {
    fn from(metadata: fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl NetNs {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// The namespace of the calling thread, which is that of all others that will use the handle: nothing needs to be entered.
    pub(super) fn home() -> Result<Self> {
        Ok(Self { home: true, ..Self::current()? })
    }

    /// Opens the namespace that is mounted on `path`, or a `/proc/<pid>/ns/net`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).to(|| format!("open network namespace {}", path.display()))?;
        // SAFETY: NS_GET_NSTYPE takes no argument; on a file that is no namespace it fails.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(Error::Other(format!("{} is not a network namespace", path.display())));
        }
        Ok(Self { file, home: false, ipv6: OnceLock::new() })
    }

    /// Opens what is found at `path` as [`NetNs::open`] does; none if there is nothing, or no network namespace (any more).
    pub fn open_if_there(path: &Path) -> Result<Option<Self>> {
        match Self::open(path) {
            Ok(netns) => Ok(Some(netns)),
            Err(Error::Io { source, .. })
                if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH | libc::ENXIO)) =>
            {
                Ok(None)
            }
            Err(Error::Other(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a new namespace with its loopback interface up, and keeps it by a bind mount on `path`.
    ///
    /// A file without a mount, left by a crash, is taken over; a living namespace is an error.
    pub fn create(path: &Path) -> Result<Self> {
        let action = || format!("create network namespace {}", path.display());
        if is_alive(path) {
            return Err(Error::io(action(), io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).to(action)?;
        }
        OpenOptions::new().create(true).truncate(false).write(true).open(path).to(action)?;
        let made = on_thread(|| -> io::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            bring_loopback_up()?;
            mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        })?;
        if let Err(error) = made {
            // Nothing is mounted on it, so this only takes the name back; the first error is the one to tell.
            let _ = fs::remove_file(path);
            return Err(Error::io(action(), error));
        }
        Self::open(path)
    }

    /// Runs `work` inside this namespace, on a thread of its own unless the caller is there already, and waits for it.
    ///
    /// Sockets opened there stay in the namespace. Meant for short work: the caller's thread is blocked meanwhile.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        if self.home {
            return Ok(work());
        }
        on_thread(|| setns(&self.file, CloneFlags::CLONE_NEWNET).map(|()| work()))?.to(|| "enter the network namespace")
    }

    /// Sets parameters of one of its interfaces under `net/ipv6/conf`. Returns whether any was something else.
    pub(super) fn set_ipv6_sysctls(&self, interface: &str, values: &[(&str, &str)]) -> Result<bool> {
        let directory = match self.ipv6.get() {
            None => self.run(|| Directory::open(&["net", "ipv6", "conf"]))??,
            Some(known) => return known.set_all_if_present(interface, values),
        };
        // Without IPv6 there is none, but there may be one later.
        let Some(directory) = directory else { return Ok(false) };
        self.ipv6.get_or_init(|| directory).set_all_if_present(interface, values)
    }

    /// Identity of the namespace, to compare.
    pub fn id(&self) -> Result<NetNsId> {
        self.file.metadata().map(NetNsId::from).to(|| "look at the network namespace")
    }

    /// A number that no other namespace has until the machine starts anew, unlike [`NetNs::id`] (`SO_NETNS_COOKIE`, Linux 5.14).
    pub fn cookie(&self) -> Result<u64> {
        let action = || "ask for the cookie of the network namespace";
        let socket = self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.to(action)?;
        let mut cookie = 0u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the option is a u64, which `cookie` is, and `length` says so.
        let failed = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        if failed != 0 {
            return Err(Error::last(action()));
        }
        Ok(cookie)
    }

    /// A second handle of the same namespace.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone().to(|| "duplicate the handle of the network namespace")?;
        Ok(Self { file, home: self.home, ipv6: OnceLock::new() })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether a namespace is (still) mounted on `path`.
pub fn is_alive(path: &Path) -> bool {
    statfs(path).is_ok_and(|status| status.filesystem_type() == NSFS_MAGIC)
}

/// Gives a namespace that is mounted on `from` a second name.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    let action = || format!("keep network namespace {} as {}", from.display(), to.display());
    if is_alive(to) {
        return Err(Error::io(action(), io::Error::from(io::ErrorKind::AlreadyExists)));
    }
    OpenOptions::new().create(true).truncate(false).write(true).open(to).to(action)?;
    let mounted = mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    if mounted.is_err() {
        // Nothing is mounted on it, so this only takes the name back; the first error is the one to tell.
        let _ = fs::remove_file(to);
    }
    mounted.to(action)
}

/// Removes the name: unmounts and unlinks `path`. The namespace itself ends with the last process inside it.
///
/// Returns whether there was anything to remove.
pub fn delete(path: &Path) -> Result<bool> {
    // More than one mount may lie on the path if two agents ever raced for it.
    while is_alive(path) {
        umount2(path, MntFlags::MNT_DETACH).to(|| format!("unmount network namespace {}", path.display()))?;
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("remove {}", path.display()), error)),
    }
}

/// Runs `work` on a thread of its own, so that the namespace it enters ends with that thread.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .to(|| "start a thread for the network namespace")?;
        Ok(handle.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked)))
    })
}

/// Brings `lo` of the calling thread's namespace up.
fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: socket(2) takes three integers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq consists of integers and byte arrays, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    // `lo` of a new namespace has no flag that could be lost by this.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_LOOPBACK) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which `request` is.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_made_entered_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netns/box");
        let made = NetNs::create(&path).unwrap();
        assert!(is_alive(&path));
        assert_ne!(made.id().unwrap(), NetNs::current().unwrap().id().unwrap());
        assert_eq!(made.id().unwrap(), NetNs::open(&path).unwrap().id().unwrap());

        let inside = made.run(|| NetNs::current().unwrap().id().unwrap()).unwrap();
        assert_eq!(inside, made.id().unwrap());
        assert_eq!(made.cookie().unwrap(), NetNs::open(&path).unwrap().cookie().unwrap());
        assert_ne!(made.cookie().unwrap(), NetNs::current().unwrap().cookie().unwrap());
        // Loopback is up: an address of it can be bound and reached.
        made.run(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap().connect("127.0.0.1:9").unwrap()).unwrap();

        assert!(delete(&path).unwrap());
        assert!(!path.exists() && !is_alive(&path));
        assert!(!delete(&path).unwrap());
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
        assert!(!mounts.contains(path.to_str().unwrap()));
    }

    #[test]
    fn a_living_namespace_is_not_replaced_but_a_stale_file_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        fs::write(&path, "").unwrap();
        assert!(!is_alive(&path));
        NetNs::create(&path).unwrap();
        let error = NetNs::create(&path).unwrap_err();
        assert!(error.to_string().starts_with("cannot create network namespace"), "{error}");
        delete(&path).unwrap();
    }

    #[test]
    fn other_files_are_refused() {
        for path in ["/proc/self/ns/mnt", "/etc/passwd", "/nowhere", "/etc/passwd/x", "/proc/4194305/ns/net"] {
            NetNs::open(Path::new(path)).unwrap_err();
            assert!(NetNs::open_if_there(Path::new(path)).unwrap().is_none(), "{path}");
        }
    }
}
