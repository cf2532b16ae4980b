//! Other people's programs that the scenarios run beside Spandrel, and the benchmark: a Docker daemon, firewalls, `tc`, the reference
//! CNI plugins, and what makes load. They are Debian packages, unpacked below the target folder; a machine of the lab has them in its
//! `/usr`, the real one does not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt};
use crate::progress::say;
use crate::workspace::{Workspace, output};

/// The packages; what libraries they need beyond the system's comes by itself.
const PACKAGES: [&str; 15] = [
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "dnsmasq-base",
    "docker.io",
    "iperf3",
    "iproute2",
    "iptables",
    "nftables",
    "nginx",
    "runc",
    "sockperf",
    "tini",
    "ufw",
    "wrk",
];

/// What belongs to them in newer releases only: Docker's client was a part of `docker.io` once.
const NEWER: [&str; 1] = ["docker-cli"];

/// Whole systems that scenarios give machines, for what the system's own release has not: a release of Debian, and the packages.
const SYSTEMS: [(&str, &[&str]); 2] = [
    // Podman with netavark's plugins.
    ("trixie", &["aardvark-dns", "crun", "netavark", "podman"]),
    // The last Podman with CNI; containerd is there for company.
    ("bookworm", &["containerd", "crun", "podman", "runc"]),
];

/// What each of them has: the frame, and what the lab calls there.
const FRAME: [&str; 5] = ["base-files", "base-passwd", "busybox-static", "coreutils", "util-linux"];

/// In the folder when all is there: what was asked for.
const LIST: &str = "packages";

/// Fetches and unpacks the packages and the systems, unless they are there.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    programs(workspace)?;
    let system = |(release, packages): &(&str, &[&str])| {
        system(&workspace.system(release), release, &[FRAME.as_slice(), packages].concat())
    };
    SYSTEMS.iter().try_for_each(system)
}

/// The programs of the system's own release: all that the benchmark needs.
pub(crate) fn programs(workspace: &Workspace) -> Result<()> {
    let folder = &workspace.peers();
    let list = [PACKAGES.as_slice(), &NEWER].concat().join("\n");
    if fs::read_to_string(folder.join(LIST)).is_ok_and(|present| present == list) {
        return Ok(());
    }
    if !apt::available() {
        bail!(
            "the scenarios and the benchmark run Docker and other people's programs, which are fetched as Debian packages, and there is \
             no apt here: on this system, run the other steps (`cargo xtask test --only unit`)"
        );
    }
    say("Fetching", "programs that the scenarios run beside Spandrel from Debian");
    let apt = Apt::new(folder.with_added_extension("apt"))?;
    let mut packages = PACKAGES.map(String::from).to_vec();
    for package in NEWER {
        if apt.candidate(package)?.is_some() {
            packages.push(package.into());
        }
    }
    apt.fetch(&apt.closure(&packages, |_| false)?, folder)?;
    apt.remove()?;
    merge_usr(folder)?;
    fs::write(folder.join(LIST), list).with_context(|| format!("cannot write in {}", folder.display()))
}

/// A system of that release that consists of these packages and what they depend on. Their scripts have not been run.
fn system(folder: &Path, release: &str, packages: &[&str]) -> Result<()> {
    let list = packages.join("\n");
    if fs::read_to_string(folder.join(LIST)).is_ok_and(|present| present == list) {
        return Ok(());
    }
    if !apt::available() {
        bail!("some scenarios need Debian {release}, which is fetched as packages, and there is no apt here");
    }
    say("Fetching", format!("Debian {release} with {}", packages.join(", ")));
    let apt = Apt::of_release(folder.with_added_extension("apt"), release)?;
    apt.fetch(&apt.with_dependencies(packages)?, folder)?;
    apt.remove()?;
    finish(folder).with_context(|| format!("cannot make a system of {}", folder.display()))?;
    fs::write(folder.join(LIST), list).with_context(|| format!("cannot write in {}", folder.display()))
}

/// What installing packages does beyond unpacking them, as far as it is needed.
fn finish(root: &Path) -> Result<()> {
    merge_usr(root)?;
    for part in ["bin", "sbin", "lib", "lib64"] {
        if !root.join(part).is_symlink() {
            symlink(Path::new("usr").join(part), root.join(part))?;
        }
    }
    for folder in ["dev", "proc", "root", "run", "sys", "tmp", "var/tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    for file in ["passwd", "group"] {
        fs::copy(root.join(format!("usr/share/base-passwd/{file}.master")), root.join("etc").join(file))?;
    }
    Ok(())
}

/// Moves what some packages still have in `/bin`, `/sbin`, `/lib` and `/lib64` to where these directories lead on a real system.
fn merge_usr(root: &Path) -> Result<()> {
    for part in ["bin", "sbin", "lib", "lib64"] {
        let (old, new) = (root.join(part), root.join("usr").join(part));
        if old.is_dir() && !old.is_symlink() {
            fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
            output(Command::new("cp").arg("--archive").arg(old.join(".")).arg(&new))?;
            fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    Ok(())
}
