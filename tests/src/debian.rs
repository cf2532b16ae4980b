//! Programs of other people, to be met on the same host: Docker, iptables, ufw, tc. They come from Debian's packages, unpacked
//! below the target folder by `cargo xtask test`, and nothing of them is installed on the real machine.

use std::env;
use std::ffi::OsString;
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

/// Where the packages are unpacked: `SPANDREL_PEERS`, or next to the test program's own build.
fn packages() -> io::Result<PathBuf> {
    let built = || Some(env::current_exe().ok()?.ancestors().nth(3)?.join("peers").into_os_string());
    let place: Option<OsString> = env::var_os("SPANDREL_PEERS").or_else(built);
    fs::canonicalize(place.unwrap_or_default())
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
