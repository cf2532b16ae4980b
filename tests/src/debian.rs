//! Programs of other people, to be met on the same host: Docker, iptables, ufw, tc. They come from Debian's packages, unpacked
//! below the target folder by `cargo xtask test`, and nothing of them is installed on the real machine.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::fail::OrFail;
use crate::machine::Machine;

/// Names that Debian gives to the nftables variant when iptables is installed (`update-alternatives`).
const ALTERNATIVES: [&str; 6] =
    ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];

impl Machine {
    /// Gives this machine the programs: they are in its `/usr` and `/etc`, at their usual places, and in nobody else's.
    #[track_caller]
    pub fn install_debian(&self) {
        let packages = packages().or_fail("find the programs of Debian packages, which `cargo xtask test` fetches");
        self.enter(|| overlay(&packages)).or_fail(format_args!("install {} on {}", packages.display(), self.name()));
        self.command(&["cp", "--recursive", &format!("{}/etc/.", packages.display()), "/etc"]).ok();
    }
}

/// Where the packages are unpacked.
pub(crate) fn packages() -> io::Result<PathBuf> {
    below_target("peers").and_then(|folder| match folder.join("packages").is_file() {
        true => Ok(folder),
        false => Err(io::ErrorKind::NotFound.into()),
    })
}

/// A file or folder that `cargo xtask test` has fetched, by its path below the target folder: that of this program's own build, which is
/// `<target>/<profile>/deps/<test program>` or `<target>/<profile>/<program>`.
fn below_target(path: &str) -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let places = program.ancestors().skip(2).take(2).map(|folder| folder.join(path));
    places.into_iter().find(|place| place.exists()).ok_or(io::ErrorKind::NotFound.into())
}

/// A folder of programs that `cargo xtask test` has fetched.
#[track_caller]
pub fn fetched(name: &str) -> PathBuf {
    below_target(name).or_fail(format_args!("find {name}, which `cargo xtask test` fetches"))
}

/// Lays unpacked packages over `/usr` of the machine that the thread has entered.
fn overlay(packages: &Path) -> io::Result<()> {
    let (upper, work) = ("/run/lab/usr", "/run/lab/usr-work");
    fs::create_dir_all(Path::new(upper).join("sbin"))?;
    fs::create_dir_all(work)?;
    for name in ALTERNATIVES {
        let (program, action) = name.split_once('-').map_or((name, String::new()), |(a, b)| (a, format!("-{b}")));
        symlink(format!("{program}-nft{action}"), Path::new(upper).join("sbin").join(name))?;
    }
    let options = format!("lowerdir={}/usr:/usr,upperdir={upper},workdir={work}", packages.display());
    mount(Some("overlay"), "/usr", Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(())
}
