//! `cargo xtask dist`: the binary and all that belongs to it as a Debian package.
//!
//! What is in the package beside the binary lies in `packaging/`, or is made by the binary itself (completions, manual pages). The
//! archive is made by dpkg-deb: it is on every Debian, and the format's own authors see to it that it is the right one and that it is
//! the same for the same input.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build;
use crate::progress::say;
use crate::workspace::{Workspace, entries, file_name, in_path, output};

/// Build a Debian package, target/dist/spandrel_VERSION_ARCHITECTURE.deb
///
/// Builds as `cargo xtask build` does. In the package are the binary, a systemd unit, the links by which CNI runtimes and Podman find
/// their plugin, an example of a CNI configuration, completions and manual pages. `sudo apt install ./target/dist/spandrel_*.deb`
/// installs it. The same sources and the same compiler make the same package: files bear the time of the last commit, or
/// SOURCE_DATE_EPOCH. Prints the steps and, at the end, the path of the package.
#[derive(Args)]
pub(crate) struct DistArgs {
    #[command(flatten)]
    profile: build::Profile,
}

/// The programs that are called, and the Debian packages that they are in.
const NEEDED: [(&str, &str); 3] = [("dpkg-deb", "dpkg"), ("gzip", "gzip"), ("strip", "binutils")];

/// The workspace's version is that of all its crates.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where a file of `packaging/` goes, and whether it is a program.
const FILES: [(&str, &str, u32); 8] = [
    ("spandrel.service", "usr/lib/systemd/system/spandrel.service", 0o644),
    ("spandrel.sysusers", "usr/lib/sysusers.d/spandrel.conf", 0o644),
    ("spandrel.default", "etc/default/spandrel", 0o644),
    ("copyright", "usr/share/doc/spandrel/copyright", 0o644),
    ("10-pods.conflist", "usr/share/doc/spandrel/examples/10-pods.conflist", 0o644),
    ("postinst", "DEBIAN/postinst", 0o755),
    ("prerm", "DEBIAN/prerm", 0o755),
    ("postrm", "DEBIAN/postrm", 0o755),
];

/// The binary under the names by which engines call it as their plugin.
const LINKS: [&str; 3] = ["usr/lib/cni/spandrel-cni", "opt/cni/bin/spandrel-cni", "usr/lib/netavark/spandrel"];

/// Shells, and where they look for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/spandrel"),
    ("zsh", "usr/share/zsh/vendor-completions/_spandrel"),
    ("fish", "usr/share/fish/vendor_completions.d/spandrel.fish"),
];

/// Builds the binary and packs it.
pub(crate) fn run(workspace: &Workspace, args: &DistArgs) -> Result<()> {
    check_programs()?;
    let spandrel = build::spandrel(workspace, args.profile)?;
    package(workspace, &spandrel).map(drop)
}

/// Makes a package of that binary and gives its path.
pub(crate) fn package(workspace: &Workspace, spandrel: &Path) -> Result<PathBuf> {
    check_programs()?;
    let architecture = architecture(env::consts::ARCH)?;
    let folder = workspace.dist();
    let package = folder.join(format!("spandrel_{VERSION}_{architecture}.deb"));
    say("Packing", workspace.display(&package));
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    fill(workspace, &root, spandrel)?;
    let control = control(&root, architecture)?;
    write(&root.join("DEBIAN/control"), control)?;
    write(&root.join("DEBIAN/conffiles"), "/etc/default/spandrel\n")?;
    open_directories(&root)?;

    // With more than one thread the result would depend on how many there are.
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--build", "--root-owner-group", "--threads-max=1", "-Zxz", "-z4"]).arg(&root).arg(&package);
    output(pack.env("SOURCE_DATE_EPOCH", epoch(workspace)?))?;
    say("Finished", workspace.display(&package));
    Ok(package)
}

/// Puts everything that is installed below `root`.
fn fill(workspace: &Workspace, root: &Path, spandrel: &Path) -> Result<()> {
    let binary = root.join("usr/bin/spandrel");
    copy(spandrel, &binary, 0o755)?;
    output(Command::new("strip").arg("--strip-unneeded").arg(&binary))?;
    for (file, place, mode) in FILES {
        copy(&workspace.root().join("packaging").join(file), &root.join(place), mode)?;
    }
    for place in LINKS {
        let link = root.join(place);
        make_parent(&link)?;
        symlink("/usr/bin/spandrel", &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    for (shell, place) in COMPLETIONS {
        write(&root.join(place), output(Command::new(spandrel).args(["completion", shell]))?)?;
    }
    let manual = root.join("usr/share/man/man1");
    output(Command::new(spandrel).arg("man").arg(&manual))?;
    let changelog = root.join("usr/share/doc/spandrel/changelog");
    copy(&workspace.root().join("packaging/changelog"), &changelog, 0o644)?;
    write(&root.join("usr/share/doc/spandrel/libraries"), libraries(workspace)?)?;
    for text in entries(&manual).iter().chain([&changelog]) {
        fs::set_permissions(text, Permissions::from_mode(0o644))?;
        output(Command::new("gzip").args(["-9", "--no-name"]).arg(text))?;
    }
    Ok(())
}

/// What dpkg and apt are to know.
fn control(root: &Path, architecture: &str) -> Result<String> {
    let binary = fs::read(root.join("usr/bin/spandrel"))?;
    let libc = newest_glibc(&binary).context("the binary does not say which C library it needs")?;
    let size = size(root)?.div_ceil(1024);
    Ok(format!(
        "Package: spandrel\n\
         Version: {VERSION}\n\
         Architecture: {architecture}\n\
         Maintainer: The authors of Spandrel <spandrel@localhost>\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {libc}), libgcc-s1\n\
         Section: net\n\
         Priority: optional\n\
         Description: container networks on eBPF alone\n \
         Bridge networks, isolation, masquerade and published ports for the containers\n \
         of one host, without a single rule of iptables or nftables. A driver for\n \
         Docker's networks, a CNI plugin, a plugin of Podman's netavark, and a command\n \
         line of its own.\n"
    ))
}

/// The newest version of glibc's symbols that a binary asks for: their names are text in it.
fn newest_glibc(binary: &[u8]) -> Option<String> {
    let names = binary.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok()?.strip_prefix("GLIBC_"));
    let number = |version: &str| version.split('.').map(|part| part.parse::<u32>().ok()).collect::<Option<Vec<_>>>();
    let newest = names.filter_map(number).max()?;
    Some(newest.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
}

/// Name, version and license of each crate whose code is in the binary.
fn libraries(workspace: &Workspace) -> Result<String> {
    let mut tree = workspace.cargo();
    tree.args(["tree", "--locked", "--package=spandrel", "--edges=normal", "--no-dedupe", "--prefix=none"]);
    let text = output(tree.args(["--format", "{p}: {l}"]))?;
    // Our own crates have a path behind their version.
    let mut lines: Vec<_> = text.lines().filter(|line| !line.contains("(/")).collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

/// The moment that everything in the package bears.
fn epoch(workspace: &Workspace) -> Result<String> {
    match env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => Ok(time),
        Err(_) => {
            let mut git = Command::new("git");
            git.current_dir(workspace.root()).args(["log", "-1", "--format=%ct"]);
            let time =
                output(&mut git).context("without git, SOURCE_DATE_EPOCH has to name the time of the sources")?;
            Ok(time.trim().to_owned())
        }
    }
}

fn check_programs() -> Result<()> {
    for (program, package) in NEEDED {
        if in_path(program).is_empty() {
            bail!(
                "{program} is not installed, and a Debian package is made with it: `apt install {package}` brings it"
            );
        }
    }
    Ok(())
}

/// What Debian calls the architecture that Rust calls so.
fn architecture(rust: &str) -> Result<&'static str> {
    match rust {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("there is no package for {other}, but for x86_64 and aarch64"),
    }
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, Permissions::from_mode(mode))?)
}

fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    make_parent(path)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o644))?)
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

/// Directories are as everybody's umask would not make them.
fn open_directories(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    entries(folder).iter().filter(|path| is_real_folder(path)).try_for_each(|folder| open_directories(folder))
}

/// Bytes of all files below a folder, but for what dpkg itself reads.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for path in entries(folder) {
        sum += match is_real_folder(&path) {
            true if file_name(&path) == "DEBIAN" => 0,
            true => size(&path)?,
            false => fs::symlink_metadata(&path)?.len(),
        };
    }
    Ok(sum)
}

fn is_real_folder(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_names_the_c_library() {
        assert_eq!(newest_glibc(b"\0GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0").as_deref(), Some("2.34"));
        assert_eq!(newest_glibc(b"nothing"), None);
    }

    /// A new version without a line in the package's changelog would be installed under the old one's.
    #[test]
    fn the_changelog_begins_with_this_version() {
        let changelog = include_str!("../../packaging/changelog");
        assert!(changelog.starts_with(&format!("spandrel ({VERSION}) ")), "{:?}", changelog.lines().next());
    }
}
