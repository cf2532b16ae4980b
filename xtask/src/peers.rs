//! Other people's programs that the scenarios run beside Spandrel: a Docker daemon, firewalls, `tc`, the reference
//! CNI plugins. They are Debian packages,
//! unpacked below the target folder; a machine of the lab has them in its `/usr`, the real one does not.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt};
use crate::progress::say;
use crate::workspace::{Workspace, output};

/// The packages; what libraries they need beyond the system's comes by itself.
const PACKAGES: [&str; 11] = [
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "dnsmasq-base",
    "docker.io",
    "iproute2",
    "iptables",
    "nftables",
    "runc",
    "tini",
    "ufw",
];

/// What belongs to them in newer releases only: Docker's client was a part of `docker.io` once.
const NEWER: [&str; 1] = ["docker-cli"];

/// In the folder when all is there: what was asked for.
const LIST: &str = "packages";

/// Fetches and unpacks the packages, unless they are there.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let folder = workspace.peers();
    let list = [PACKAGES.as_slice(), &NEWER].concat().join("\n");
    if fs::read_to_string(folder.join(LIST)).is_ok_and(|present| present == list) {
        return Ok(());
    }
    if !apt::available() {
        bail!(
            "the scenarios meet Docker and other people's firewalls, which are fetched as Debian packages, and there is no apt \
             here: on this system, run the other steps (`cargo xtask test --only unit`)"
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
    apt.fetch(&apt.closure(&packages, |_| false)?, &folder)?;
    apt.remove()?;
    merge_usr(&folder)?;
    fs::write(folder.join(LIST), list).with_context(|| format!("cannot write in {}", folder.display()))
}

/// Moves what some packages still have in `/bin`, `/sbin` and `/lib` to where these directories lead on a real system.
fn merge_usr(root: &Path) -> Result<()> {
    for part in ["bin", "sbin", "lib"] {
        let (old, new) = (root.join(part), root.join("usr").join(part));
        if old.is_dir() {
            fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
            output(Command::new("cp").arg("--archive").arg(old.join(".")).arg(&new))?;
            fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    Ok(())
}
