//! The rustc candidates of this machine, and what makes one serve.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{debian, version_pair};
use crate::workspace::{entries, file_name, in_path, output};

/// A rustc that can compile `core` for the kernel's target.
#[derive(Clone)]
pub(super) struct Rustc {
    program: PathBuf,
    sysroot: PathBuf,
    libraries: Vec<PathBuf>,
    llvm_library: Option<PathBuf>,
    version: Version,
}

impl Rustc {
    /// Looks at `program`, which finds its shared libraries in `libraries`; the error says why it does not serve.
    pub(super) fn inspect(program: &Path, mut libraries: Vec<PathBuf>, folder: &Path) -> Result<Self, String> {
        let ask = |options: &[&str]| {
            let mut rustc = Command::new(program);
            rustc.args(options).env("LD_LIBRARY_PATH", join(&libraries));
            output(&mut rustc).map_err(|error| format!("{error:#}"))
        };
        let version = Version::parse(&ask(&["-vV"])?).ok_or("`rustc -vV` names no version or LLVM")?;
        let (major, minor) = minimum();
        if version.number < (major, minor) {
            return Err(format!("Rust {} is older than {major}.{minor}", version.release));
        }
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim_end());
        if !sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() {
            return Err(format!("Rust {} without its library sources (rust-src)", version.release));
        }
        let llvm_library = llvm_library(&sysroot, &libraries, version.llvm);
        if let Some(library) = &llvm_library {
            let only = folder_of_one(library, folder).map_err(|error| format!("{error:#}"))?;
            libraries.insert(0, only);
        }
        Ok(Self { program: program.to_owned(), sysroot, libraries, llvm_library, version })
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// The major version of its LLVM.
    pub(super) fn llvm(&self) -> u32 {
        self.version.llvm
    }

    /// Whether its LLVM is a shared library, which a bpf-linker can use as well.
    pub(super) fn shares_llvm(&self) -> bool {
        self.llvm_library.is_some()
    }

    /// LD_LIBRARY_PATH for this rustc and for a bpf-linker that uses its LLVM.
    pub(super) fn library_path(&self) -> OsString {
        join(&self.libraries)
    }

    /// The architecture of the machine whose kernel the programs are for, as aya names it.
    pub(super) fn arch(&self) -> &str {
        match self.version.host.split('-').next() {
            Some(arch) if arch.starts_with("riscv64") => "riscv64",
            arch => arch.unwrap_or_default(),
        }
    }
}

impl fmt::Display for Rustc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rustc {} (LLVM {})", self.version.release, self.version.llvm)
    }
}

/// What `rustc -vV` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    release: String,
    number: (u32, u32),
    host: String,
    llvm: u32,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let release = field("release")?;
        Some(Self {
            release: release.to_owned(),
            number: version_pair(release)?,
            host: field("host")?.to_owned(),
            llvm: field("LLVM version")?.split('.').next()?.parse().ok()?,
        })
    }
}

/// The oldest Rust that the workspace takes, from its manifest.
pub(super) fn minimum() -> (u32, u32) {
    version_pair(env!("CARGO_PKG_RUST_VERSION")).unwrap_or_default()
}

/// Every rustc to look at, the best first, each with the folders of its shared libraries: rustup's nightlies, its other
/// toolchains, those in PATH, and the one that was unpacked before.
pub(super) fn candidates(folder: &Path) -> Vec<(PathBuf, Vec<PathBuf>)> {
    let home = |variable: &str| env::var_os(variable).map(PathBuf::from);
    let rustup = home("RUSTUP_HOME").or_else(|| Some(home("HOME")?.join(".rustup")));
    let mut toolchains = rustup.map(|rustup| entries(&rustup.join("toolchains"))).unwrap_or_default();
    toolchains.sort_by_key(|toolchain| !file_name(toolchain).starts_with("nightly"));

    let rustup = toolchains.into_iter().map(|toolchain| toolchain.join("bin/rustc"));
    let mut candidates: Vec<_> = rustup.chain(in_path("rustc")).map(|program| (program, Vec::new())).collect();
    candidates.extend(debian::installed(folder));
    candidates.retain(|(program, _)| program.is_file());
    candidates.dedup();
    candidates
}

/// The shared library that holds the LLVM of the rustc at `sysroot`.
fn llvm_library(sysroot: &Path, libraries: &[PathBuf], major: u32) -> Option<PathBuf> {
    let lib = sysroot.join("lib");
    // Debian keeps it one level below, in a folder named for the architecture.
    let below = entries(&lib).into_iter().filter(|entry| file_name(entry).contains("-linux-"));
    let mut files: Vec<_> =
        libraries.iter().cloned().chain([lib.clone()]).chain(below).flat_map(|f| entries(&f)).collect();
    files.retain(|file| is_llvm_library(file_name(file), major));
    // Some names are linker scripts or links: the library itself is the largest.
    files.into_iter().max_by_key(|file| fs::metadata(file).map_or(0, |data| data.len()))
}

fn is_llvm_library(name: &str, major: u32) -> bool {
    ["libLLVM-", "libLLVM.so."].iter().any(|prefix| {
        let number = name.strip_prefix(prefix).map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        number.flatten() == Some(&major.to_string())
    })
}

/// A folder that holds `library` alone. bpf-linker takes the first LLVM it meets in LD_LIBRARY_PATH, and a system's
/// library folder may hold several.
fn folder_of_one(library: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    // Named for the whole path of the library, so that it never has to change under another build.
    let only = folder.join("llvm").join(library.strip_prefix("/").unwrap_or(library));
    let link = only.join(file_name(library));
    if !link.is_symlink() {
        fs::create_dir_all(&only).with_context(|| format!("cannot make {}", only.display()))?;
        symlink(library, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(only)
}

fn join(folders: &[PathBuf]) -> OsString {
    // Only a folder with a colon in its name is refused, and that one no search path can name.
    env::join_paths(folders).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\ncommit-hash: 59807616e1fa\n\
        commit-date: 2026-04-14\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn stable_version() {
        let version = Version::parse(STABLE).unwrap();
        assert_eq!((version.number, version.llvm, version.host.as_str()), ((1, 95), 22, "x86_64-unknown-linux-gnu"));
    }

    #[test]
    fn nightly_version() {
        let nightly = STABLE.replace("release: 1.95.0", "release: 1.97.0-nightly").replace("22.1.2", "23.0.0");
        let version = Version::parse(&nightly).unwrap();
        assert_eq!((version.release.as_str(), version.number, version.llvm), ("1.97.0-nightly", (1, 97), 23));
    }

    #[test]
    fn a_version_without_llvm_is_none() {
        assert_eq!(Version::parse(&STABLE.replace("LLVM", "Cranelift")), None);
    }

    #[test]
    fn names_of_the_llvm_library() {
        for name in [
            "libLLVM.so.22.1",
            "libLLVM-22.so",
            "libLLVM.so.22.1-rust-1.95.0-stable",
            "libLLVM-22-rust-1.97.0-nightly.so",
        ] {
            assert!(is_llvm_library(name, 22), "{name}");
            assert!(!is_llvm_library(name, 2), "{name}");
        }
        assert!(!is_llvm_library("libLLVM-14.so.1", 22));
        assert!(!is_llvm_library("librustc_driver-22.so", 22));
    }
}
