//! Debian packages, unpacked below the target folder. No root is needed and the system stays as it is: package lists, cache
//! and files all lie in folders of our own.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::{self, say};
use crate::workspace::{entries, file_name, in_path, output};

/// Whether packages can be fetched and unpacked here.
pub(crate) fn available() -> bool {
    ["apt-get", "apt-cache", "dpkg", "dpkg-query"].iter().all(|program| !in_path(program).is_empty())
}

/// apt with lists and cache of its own, those of the system's package sources.
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Begins anew with fresh lists: what an interrupted run left may be of other versions.
    pub(crate) fn new(folder: PathBuf) -> Result<Self> {
        remove(&folder)?;
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part)).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let at = folder.display();
        let config = format!(
            "Dir::State::Lists \"{at}/lists\";\n\
             Dir::Cache \"{at}/cache\";\n\
             Acquire::Languages \"none\";\n\
             // These folders belong to the caller, not to apt's own user.\n\
             APT::Sandbox::User \"root\";\n\
             // The system's own hooks look after the system's lists, not these.\n\
             #clear APT::Update::Pre-Invoke;\n\
             #clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n"
        );
        fs::write(folder.join("apt.conf"), config).with_context(|| format!("cannot write in {at}"))?;
        let apt = Self { folder };
        apt.update()?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.join("apt.conf")).env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH");
        command
    }

    /// Fetches the package lists of the system's sources. A source that does not answer is none of our business as
    /// long as the packages are found in another.
    fn update(&self) -> Result<()> {
        say("Updating", "package lists of our own");
        output(self.command("apt-get").args(["-q", "update"])).map(drop)
    }

    /// The version of a package that would be installed, if there is one.
    pub(crate) fn candidate(&self, package: &str) -> Result<Option<String>> {
        let policy = output(self.command("apt-cache").args(["policy", package]))?;
        Ok(candidate(&policy).map(str::to_owned))
    }

    /// The real packages that one depends on directly.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = output(self.command("apt-cache").args(["depends", "--important", package]))?;
        Ok(depends(&text).map(str::to_owned).collect())
    }

    /// These packages, and of all that they depend on: what is `wanted` by name, and shared libraries that are not here.
    pub(crate) fn closure(&self, packages: &[String], wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut query = Command::new("dpkg-query");
        let present = output(query.args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"]))?;
        let present: BTreeSet<&str> =
            present.lines().filter_map(|line| line.strip_prefix("ii ")?.split_whitespace().next()).collect();

        let mut closure: BTreeSet<String> = packages.iter().cloned().collect();
        let mut new: Vec<String> = packages.to_vec();
        while !new.is_empty() {
            let text = output(self.command("apt-cache").args(["depends", "--important"]).args(&new))?;
            let needed = |name: &&str| wanted(name) || is_missing_library(name, &present);
            new = depends(&text).filter(needed).map(str::to_owned).collect();
            new.retain(|name| closure.insert(name.clone()));
        }
        Ok(closure.into_iter().collect())
    }

    /// Fetches packages and unpacks them into a folder, which has its name only when it is whole.
    pub(crate) fn fetch(&self, packages: &[String], folder: &Path) -> Result<()> {
        let debs = self.download(packages)?;
        let unfinished = folder.with_added_extension("unfinished");
        remove(&unfinished)?;
        remove(folder)?;
        say("Unpacking", format!("{} packages into {}", debs.len(), folder.display()));
        let bar = progress::items(debs.len() as u64);
        for deb in &debs {
            bar.set_message(file_name(deb).to_owned());
            output(Command::new("dpkg").arg("-x").arg(deb).arg(&unfinished))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        fs::rename(&unfinished, folder).with_context(|| format!("cannot make {}", folder.display()))
    }

    fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let debs = self.folder.join("debs");
        remove(&debs)?;
        fs::create_dir(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
        let total = sizes(&output(self.command("apt-get").args(["download", "--print-uris"]).args(packages))?);
        say("Downloading", format!("{} ({} MB)", packages.join(", "), total / 1_000_000));
        let bar = progress::bytes(total);
        let mut command = self.command("apt-get");
        command.args(["-qq", "download"]).args(packages).current_dir(&debs);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        while child.try_wait()?.is_none() {
            bar.set_position(entries(&debs).iter().filter_map(|deb| Some(deb.metadata().ok()?.len())).sum());
            sleep(Duration::from_millis(100));
        }
        bar.finish_and_clear();
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("apt-get cannot download the packages: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(entries(&debs).into_iter().filter(|deb| file_name(deb).ends_with(".deb")).collect())
    }

    /// Removes lists, cache and fetched files.
    pub(crate) fn remove(self) -> Result<()> {
        remove(&self.folder)
    }
}

/// The folders of shared libraries in a folder of unpacked packages.
pub(crate) fn libraries(root: &Path) -> Vec<PathBuf> {
    let folders = ["usr/lib", "lib"].into_iter().flat_map(|lib| entries(&root.join(lib)));
    folders.filter(|folder| file_name(folder).contains("-linux-")).collect()
}

/// Removes a folder of ours, if it is there.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("cannot remove {}", folder.display()))
}

/// The version that `apt-cache policy` would install.
fn candidate(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim_start().strip_prefix("Candidate: "))?;
    (version != "(none)").then_some(version)
}

/// The real packages that `apt-cache depends` lists as dependencies; a virtual one is in angle brackets.
fn depends(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.trim_start().trim_start_matches('|').strip_prefix("Depends: "))
        .filter(|name| !name.starts_with('<'))
}

fn is_missing_library(name: &str, present: &BTreeSet<&str>) -> bool {
    name.starts_with("lib") && !name.ends_with("-dev") && !present.contains(name)
}

/// The sum of the sizes in `apt-get download --print-uris`.
fn sizes(text: &str) -> u64 {
    text.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDS: &str = "rustc-web\n  Depends: libc6\n  Depends: libstd-rust-web-dev\n  Depends: gcc\n  Depends: <libc-dev>\n    \
        libc6-dev\n |Depends: libgcc-s1\n  Depends: libgcc1\n  Conflicts: rustc\n  Recommends: cargo-web\n\
        libstd-rust-web-1.96\n  Depends: libllvm22\n  Depends: libedit2\n";

    #[test]
    fn dependencies_are_the_real_ones() {
        let names: Vec<_> = depends(DEPENDS).collect();
        assert_eq!(names, ["libc6", "libstd-rust-web-dev", "gcc", "libgcc-s1", "libgcc1", "libllvm22", "libedit2"]);
    }

    #[test]
    fn only_missing_shared_libraries_are_libraries() {
        let present = BTreeSet::from(["libc6", "libgcc-s1", "libgcc1", "libllvm22"]);
        let names: Vec<_> = depends(DEPENDS).filter(|name| is_missing_library(name, &present)).collect();
        assert_eq!(names, ["libedit2"]);
    }

    #[test]
    fn candidate_version() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate(policy), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(candidate("rustc-web:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn sizes_add_up() {
        let text = "'http://mirror/a.deb' a_1.0_all.deb 45012756 SHA256:9d\n'http://mirror/b.deb' b_1.0_amd64.deb 4450500 SHA256:8f\n";
        assert_eq!(sizes(text), 49_463_256);
    }
}
