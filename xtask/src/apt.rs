//! Debian packages, unpacked below the target folder. No root is needed and the system stays as it is: package lists, cache
//! and files all lie in folders of our own. They come from the system's own sources, or from another release's on the same mirror.

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

/// Debian's keys, of which releases before the newest have those of later ones, too.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with lists and cache of its own.
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// apt on the system's package sources.
    pub(crate) fn new(folder: PathBuf) -> Result<Self> {
        let apt = Self::prepare(folder, "")?;
        apt.update()?;
        Ok(apt)
    }

    /// apt on the packages of one release of Debian, from the mirror that the system's sources name. Nothing counts as installed.
    pub(crate) fn of_release(folder: PathBuf, release: &str) -> Result<Self> {
        let mirror = mirror()?;
        let at = folder.display();
        let further = format!(
            "Dir::State::status \"{at}/status\";\n\
             Dir::Etc::sourcelist \"{at}/sources.list\";\n\
             Dir::Etc::sourceparts \"-\";\n\
             Dir::Etc::preferences \"-\";\n\
             Dir::Etc::preferencesparts \"-\";\n"
        );
        let apt = Self::prepare(folder, &further)?;
        let keys = if Path::new(KEYS).is_file() { format!("[signed-by={KEYS}] ") } else { String::new() };
        let source = format!("deb {keys}{mirror} {release} main\n");
        for (file, text) in [("status", ""), ("sources.list", &source)] {
            fs::write(apt.folder.join(file), text).with_context(|| format!("cannot write {file}"))?;
        }
        apt.update()?;
        Ok(apt)
    }

    /// Begins anew: what an interrupted run left may be of other versions.
    fn prepare(folder: PathBuf, further: &str) -> Result<Self> {
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
             #clear APT::Update::Post-Invoke-Success;\n\
             {further}"
        );
        fs::write(folder.join("apt.conf"), config).with_context(|| format!("cannot write in {at}"))?;
        Ok(Self { folder })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.join("apt.conf")).env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH");
        command
    }

    /// Fetches the package lists. A source that does not answer is none of our business as
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

    /// These packages and all that they depend on, beyond what counts as installed.
    pub(crate) fn with_dependencies(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut command = self.command("apt-get");
        command.args(["-qq", "--yes", "--no-install-recommends", "--print-uris", "install"]).args(packages);
        Ok(names(&output(&mut command)?).map(str::to_owned).collect())
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
        let what = if packages.len() > 20 { format!("{} packages", packages.len()) } else { packages.join(", ") };
        say("Downloading", format!("{what} ({} MB)", total / 1_000_000));
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

/// The mirror of Debian that the system's package sources name for the release that is installed.
fn mirror() -> Result<String> {
    let system = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let mut query = Command::new("apt-get");
    query.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]);
    let sources = output(query.env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH"))?;
    match main_source(&sources, &system) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!("this system's package sources name no mirror of Debian's main archive"),
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

/// Of lines with an address and a release, the address for the release that `/etc/os-release` tells.
fn main_source<'a>(sources: &'a str, system: &str) -> Option<&'a str> {
    let value = |key: &str| {
        let line = system.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let codename = value("VERSION_CODENAME").filter(|_| value("ID").is_some_and(|id| id == "debian"))?;
    let mut sources = sources.lines().filter_map(|line| line.split_once(' '));
    sources.find_map(|(mirror, release)| (release == codename).then_some(mirror))
}

/// The packages that `apt-get --print-uris` lists, by the names of their files.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('_')).map(|(name, _)| name)
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

    const URIS: &str = "'http://mirror/a.deb' a_1.0_all.deb 45012756 SHA256:9d\n'http://mirror/b.deb' b_1%3a1.0_amd64.deb 4450500 SHA256:8f\n";

    #[test]
    fn sizes_add_up() {
        assert_eq!(sizes(URIS), 49_463_256);
    }

    #[test]
    fn files_have_the_names_of_packages() {
        assert_eq!(names(URIS).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn the_mirror_is_that_of_the_system_s_own_release() {
        let sources = "http://security/debian-security/ bookworm-security\nhttp://mirror/debian/ bookworm\nhttp://other/ nodistro\n";
        let system = |id: &str, codename: &str| format!("PRETTY_NAME=\"x\"\nID={id}\nVERSION_CODENAME={codename}\n");
        assert_eq!(main_source(sources, &system("debian", "bookworm")), Some("http://mirror/debian/"));
        assert_eq!(main_source(sources, &system("debian", "\"bookworm\"")), Some("http://mirror/debian/"));
        assert_eq!(main_source(sources, &system("debian", "sid")), None);
        assert_eq!(main_source(sources, &system("ubuntu", "bookworm")), None);
    }
}
