//! What the machines are made of: qemu and the kernels, from Debian's packages. Fetched once, kept below the target folder;
//! to have newer ones, remove `target/kernels`.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt};
use crate::progress::say;
use crate::workspace::{Workspace, entries, file_name, in_path, output};

/// The packages whose newest dependency is a kernel's image; which series that is depends on the release of Debian.
const META_PACKAGES: [&str; 3] = ["linux-image-amd64", "linux-image-6.1-amd64", "linux-image-6.12-amd64"];

/// What qemu needs besides shared libraries: its own modules, and the firmware.
const PARTS: [&str; 3] = ["qemu-system-common", "qemu-system-data", "seabios"];

/// A program, and where it finds its shared libraries if it is not installed but unpacked.
pub(super) struct Program {
    path: PathBuf,
    libraries: Option<PathBuf>,
}

/// Everything that machines are made of.
pub(super) struct Tools {
    /// `qemu-system-x86_64`.
    pub(super) qemu: Program,
    folder: PathBuf,
}

/// A kernel that was unpacked.
pub(super) struct Kernel {
    /// Its release, as `uname -r` prints it there.
    pub(super) release: String,
    /// The image to boot.
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
}

impl Program {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some(root) = &self.libraries {
            command.env("LD_LIBRARY_PATH", env::join_paths(apt::libraries(root)).unwrap_or_default());
        }
        command
    }
}

/// Finds what is there and fetches what is missing.
pub(super) fn ensure(workspace: &Workspace, series: &[&str]) -> Result<Tools> {
    let folder = workspace.kernels();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Two runs at once must not fetch into the same place; the lock goes with the file.
    let lock = File::create(folder.join("lock")).context("cannot make the kernels' lock")?;
    lock.lock().context("cannot lock the kernels' folder")?;

    let programs = folder.join("programs");
    let missing: Vec<_> = series.iter().filter(|series| !folder.join(series).is_dir()).collect();
    let no_qemu = find("qemu-system-x86_64", &programs).is_none() || find("kmod", &programs).is_none();
    if no_qemu || !missing.is_empty() {
        if !apt::available() {
            bail!(
                "older kernels are fetched as Debian packages, and there is no apt here: on this system, run the other steps \
                 with `cargo xtask test --only`"
            );
        }
        say("Fetching", "qemu and Debian's kernels, since they are not here");
        let apt = Apt::new(folder.join("apt"))?;
        if no_qemu {
            let wanted = ["qemu-system-x86", "kmod"].map(String::from);
            let packages = apt.closure(&wanted, |name| PARTS.contains(&name))?;
            apt.fetch(&packages, &programs)?;
        }
        for series in missing {
            apt.fetch(&[image(&apt, series)?], &folder.join(series))?;
        }
        apt.remove()?;
    }
    let qemu = find("qemu-system-x86_64", &programs).context("the package qemu-system-x86 brought no qemu")?;
    let kmod = find("kmod", &programs).context("the package kmod brought no kmod")?;
    for series in series {
        let root = folder.join(series);
        for modules in entries(&root.join("lib/modules")) {
            if !modules.join("modules.dep").is_file() {
                // One program under many names.
                output(kmod.command().arg0("depmod").arg("-b").arg(&root).arg(file_name(&modules)))?;
            }
        }
    }
    Ok(Tools { qemu, folder })
}

/// The package with the newest kernel of a series.
fn image(apt: &Apt, series: &str) -> Result<String> {
    for package in META_PACKAGES {
        if apt.candidate(package)?.is_some() {
            let depends = apt.depends(package)?;
            if let Some(image) = depends.into_iter().find(|name| is_image(name, series)) {
                return Ok(image);
            }
        }
    }
    bail!(
        "this system's package sources have no Linux {series}: Debian 12 has it, so add that release's suites `bookworm` and \
         `bookworm-security` to them"
    )
}

/// Is it the name of an image package of this series?
fn is_image(package: &str, series: &str) -> bool {
    package
        .strip_prefix("linux-image-")
        .and_then(|rest| rest.strip_prefix(series))
        .is_some_and(|rest| rest.starts_with('.'))
}

/// A program of the system, else one that was unpacked.
fn find(name: &str, unpacked: &Path) -> Option<Program> {
    if let Some(path) = in_path(name).into_iter().next() {
        return Some(Program { path, libraries: None });
    }
    let path =
        ["usr/bin", "bin"].map(|folder| unpacked.join(folder).join(name)).into_iter().find(|path| path.is_file())?;
    Some(Program { path, libraries: Some(unpacked.to_owned()) })
}

impl Tools {
    /// The kernel of a series.
    pub(super) fn kernel(&self, series: &str) -> Result<Kernel> {
        let root = self.folder.join(series);
        let modules = entries(&root.join("lib/modules")).pop();
        let modules = modules.with_context(|| format!("{} holds no kernel modules", root.display()))?;
        let release = file_name(&modules).to_owned();
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        Ok(Kernel { release, image, modules })
    }

    /// The folders in which qemu finds its firmware, if it is not installed.
    pub(super) fn firmware(&self) -> Vec<PathBuf> {
        let root = self.qemu.libraries.iter();
        root.flat_map(|root| ["usr/share/qemu", "usr/share/seabios"].map(|folder| root.join(folder))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_of_one_series() {
        assert!(is_image("linux-image-6.1.0-56-amd64", "6.1"));
        assert!(is_image("linux-image-6.12.117+deb12-amd64", "6.12"));
        assert!(!is_image("linux-image-6.12.117+deb12-amd64", "6.1"));
        assert!(!is_image("linux-image-amd64", "6.1"));
    }
}
