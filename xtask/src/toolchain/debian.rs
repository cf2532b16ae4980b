//! Debian's Rust packages, unpacked below the target folder. Names and versions come from apt, since Debian moves on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::version_pair;
use crate::apt::{self, Apt};
use crate::progress::say;
use crate::workspace::Workspace;

/// Compiler and library sources: Debian's own Rust, and the newer one it carries for its web browsers.
const FAMILIES: [(&str, &str); 2] = [("rustc", "rust-src"), ("rustc-web", "rust-web-src")];

/// The rustc that was unpacked before, with the folders of its shared libraries.
pub(super) fn installed(folder: &Path) -> Option<(PathBuf, Vec<PathBuf>)> {
    let root = folder.join("debian");
    let program = root.join("usr/bin/rustc");
    program.is_file().then(|| (program, apt::libraries(&root)))
}

/// Fetches and unpacks the packages of a rustc of `minimum` or newer; gives what [`installed`] gives.
pub(super) fn install(workspace: &Workspace, minimum: (u32, u32)) -> Result<(PathBuf, Vec<PathBuf>)> {
    let folder = workspace.toolchain();
    say("Fetching", "a Rust toolchain with its library sources from Debian, since none is here");
    let apt = Apt::new(folder.join("apt"))?;
    let family = family(&apt, minimum)?;
    // Rust's own libraries and LLVM, at the very version.
    let packages = apt.closure(&family, |name| name.starts_with("libstd-rust") || name.starts_with("libllvm"))?;
    apt.fetch(&packages, &folder.join("debian"))?;
    apt.remove()?;
    installed(&folder).with_context(|| format!("{} brought no rustc", family.join(" and ")))
}

/// The packages to begin with: the oldest family that is new enough, as the nearest to what Spandrel is tested with.
fn family(apt: &Apt, minimum: (u32, u32)) -> Result<[String; 2]> {
    let mut offers = Vec::new();
    for (compiler, sources) in FAMILIES {
        if let Some(version) = apt.candidate(compiler)?.as_deref().and_then(version_pair) {
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
