//! Machines on another release of Debian than the real one: its root is theirs, and what they change in it is gone with them.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::debian::fetched;
use crate::fail::OrFail;
use crate::host::Host;

/// Where the new root is put together, and where the old one waits for its end.
const ROOT: &str = "/run/lab/root";
const OLD: &str = "run/lab/old-root";

impl Host {
    /// Puts the host on that release, which `cargo xtask test` has fetched. Of the real machine's files it keeps `/dev`, and the `spandrel`
    /// binary at its place. Control groups are those of version 2 alone. To be called before anything runs on the host.
    #[track_caller]
    pub fn become_debian(&self, release: &str) {
        let system = fetched(&format!("systems/{release}"));
        let program = self.program("").get_program().to_owned();
        let moved = self.enter(|| {
            build(&system, Path::new(&program))?;
            chdir(ROOT)?;
            pivot_root(".", OLD)?;
            umount2(&Path::new("/").join(OLD), MntFlags::MNT_DETACH)?;
            Ok(())
        });
        moved.or_fail(format_args!("put {} on {}", self.name(), system.display()));
    }
}

fn build(system: &Path, program: &Path) -> io::Result<()> {
    let (upper, work) = ("/run/lab/root-upper", "/run/lab/root-work");
    for folder in [ROOT, upper, work, &format!("/{OLD}")] {
        fs::create_dir_all(folder)?;
    }
    let inside = |path: &str| Path::new(ROOT).join(path);
    let layers = format!("lowerdir={},upperdir={upper},workdir={work}", system.display());
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), ROOT, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
    for (kind, path) in [("sysfs", "sys"), ("cgroup2", "sys/fs/cgroup"), ("tmpfs", "tmp")] {
        mount(Some(kind), &inside(path), Some(kind), plain, None::<&str>)?;
    }
    let bind =
        |from: &Path, to: &Path, further| mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | further, None::<&str>);
    bind(Path::new("/dev"), &inside("dev"), MsFlags::MS_REC)?;
    // Of the machine's processes; a new one would be of this thread's.
    bind(Path::new("/proc"), &inside("proc"), MsFlags::empty())?;
    bind(Path::new("/run"), &inside("run"), MsFlags::empty())?;
    let place = inside(program.strip_prefix("/").unwrap_or(program).to_str().unwrap_or_default());
    fs::create_dir_all(place.parent().unwrap_or(Path::new(ROOT)))?;
    fs::write(&place, "")?;
    bind(program, &place, MsFlags::empty())?;
    Ok(())
}
