//! Debian's Rust packages, unpacked below the target folder. No root is needed and the system stays as it is: package
//! lists, cache and files all lie in folders of our own. Names and versions come from apt, since Debian moves on.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{entries, file_name, version_pair};
use crate::progress::{self, say};
use crate::workspace::{Workspace, in_path, output};

/// Compiler and library sources: Debian's own Rust, and the newer one it carries for its web browsers.
const FAMILIES: [(&str, &str); 2] = [("rustc", "rust-src"), ("rustc-web", "rust-web-src")];

/// Whether packages can be fetched and unpacked here.
pub(super) fn available() -> bool {
    ["apt-get", "apt-cache", "dpkg", "dpkg-query"].iter().all(|program| !in_path(program).is_empty())
}

/// The rustc that was unpacked before, with the folders of its shared libraries.
pub(super) fn installed(folder: &Path) -> Option<(PathBuf, Vec<PathBuf>)> {
    let usr = folder.join("debian/usr");
    let program = usr.join("bin/rustc");
    let above = [usr.join("lib"), folder.join("debian/lib")];
    let libraries = above.iter().flat_map(|lib| entries(lib)).filter(|entry| file_name(entry).contains("-linux-"));
    program.is_file().then(|| (program, libraries.collect()))
}

/// Fetches and unpacks the packages of a rustc of `minimum` or newer; gives what [`installed`] gives.
pub(super) fn install(workspace: &Workspace, minimum: (u32, u32)) -> Result<(PathBuf, Vec<PathBuf>)> {
    let folder = workspace.toolchain();
    say("Fetching", "a Rust toolchain with its library sources from Debian, since none is here");
    let apt = Apt::new(folder.join("apt"))?;
    apt.update()?;
    let family = apt.family(minimum)?;
    let packages = apt.closure(&family)?;
    let debs = apt.download(&packages)?;

    // Under its final name only when it is whole.
    let (unfinished, finished) = (folder.join("debian.unfinished"), folder.join("debian"));
    remove(&unfinished)?;
    remove(&finished)?;
    say("Unpacking", format!("{} packages into {}, about 900 MB", debs.len(), workspace.display(&finished)));
    let bar = progress::items(debs.len() as u64);
    for deb in &debs {
        bar.set_message(file_name(deb).to_owned());
        output(Command::new("dpkg").arg("-x").arg(deb).arg(&unfinished))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    fs::rename(&unfinished, &finished).with_context(|| format!("cannot make {}", finished.display()))?;
    remove(&apt.folder)?;
    installed(&folder).with_context(|| format!("{} brought no rustc", family.join(" and ")))
}

/// apt with lists and cache of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Begins anew: what an interrupted run left may be of other versions.
    fn new(folder: PathBuf) -> Result<Self> {
        remove(&folder)?;
        for part in ["lists/partial", "cache/archives/partial", "debs"] {
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
        Ok(Self { folder })
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

    /// The packages to begin with: the oldest family that is new enough, as the nearest to what Spandrel is tested with.
    fn family(&self, minimum: (u32, u32)) -> Result<[String; 2]> {
        let mut offers = Vec::new();
        for (compiler, sources) in FAMILIES {
            let policy = output(self.command("apt-cache").args(["policy", compiler]))?;
            if let Some(version) = candidate(&policy).and_then(version_pair) {
                offers.push((version, [compiler.to_owned(), sources.to_owned()]));
            }
        }
        match offers.iter().filter(|(version, _)| *version >= minimum).min() {
            Some((_, family)) => Ok(family.clone()),
            None => {
                let (major, minor) = minimum;
                bail!(
                    "this system's package sources have no Rust {major}.{minor} or newer; install one with \
                     `rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker`"
                )
            }
        }
    }

    /// The family, and of all that it depends on: Rust's own libraries, LLVM, and shared libraries that are not here.
    fn closure(&self, family: &[String]) -> Result<Vec<String>> {
        let mut query = Command::new("dpkg-query");
        let present = output(query.args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"]))?;
        let present: BTreeSet<&str> =
            present.lines().filter_map(|line| line.strip_prefix("ii ")?.split_whitespace().next()).collect();

        let mut closure: BTreeSet<String> = family.iter().cloned().collect();
        let mut new: Vec<String> = family.to_vec();
        while !new.is_empty() {
            let text = output(self.command("apt-cache").args(["depends", "--important"]).args(&new))?;
            new = depends(&text).filter(|name| wanted(name, &present)).map(str::to_owned).collect();
            new.retain(|name| closure.insert(name.clone()));
        }
        Ok(closure.into_iter().collect())
    }

    fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let debs = self.folder.join("debs");
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
    policy.lines().find_map(|line| line.trim_start().strip_prefix("Candidate: "))
}

/// The real packages that `apt-cache depends` lists as dependencies; a virtual one is in angle brackets.
fn depends(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.trim_start().trim_start_matches('|').strip_prefix("Depends: "))
        .filter(|name| !name.starts_with('<'))
}

fn wanted(name: &str, present: &BTreeSet<&str>) -> bool {
    let rust = name.starts_with("libstd-rust") || name.starts_with("libllvm");
    rust || name.starts_with("lib") && !name.ends_with("-dev") && !present.contains(name)
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
    fn only_rust_and_missing_shared_libraries_are_wanted() {
        let present = BTreeSet::from(["libc6", "libgcc-s1", "libgcc1", "libllvm22"]);
        let names: Vec<_> = depends(DEPENDS).filter(|name| wanted(name, &present)).collect();
        assert_eq!(names, ["libstd-rust-web-dev", "libllvm22", "libedit2"]);
    }

    #[test]
    fn candidate_version() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate(policy).and_then(version_pair), Some((1, 96)));
        assert_eq!(candidate("rustc-web:\n  Candidate: (none)\n").and_then(version_pair), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn sizes_add_up() {
        let text = "'http://mirror/a.deb' a_1.0_all.deb 45012756 SHA256:9d\n'http://mirror/b.deb' b_1.0_amd64.deb 4450500 SHA256:8f\n";
        assert_eq!(sizes(text), 49_463_256);
    }
}
