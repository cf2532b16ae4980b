//! bpf-linker: the one in PATH or the one installed before, where its LLVM is the compiler's; else `cargo install`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::rustc::Rustc;
use super::version_pair;
use crate::progress::say;
use crate::workspace::{Workspace, in_path, output, run};

/// The release that is installed where none is there.
const RELEASE: &str = "0.10.3";
/// The oldest release that is taken from PATH.
const OLDEST: (u32, u32) = (0, 10);
/// The LLVM versions for which that release can use the compiler's own library.
const LLVM: std::ops::RangeInclusive<u32> = 20..=22;

/// A bpf-linker that is there already and has the LLVM of `rustc`.
pub(super) fn find(rustc: &Rustc, folder: &Path) -> Option<PathBuf> {
    let own = program_below(&root(rustc, folder));
    in_path("bpf-linker").into_iter().chain([own]).find(|linker| suits(linker, rustc))
}

/// Why `install` cannot make a bpf-linker for `rustc`, if it cannot.
pub(super) fn obstacle(rustc: &Rustc) -> Option<String> {
    let llvm = rustc.llvm();
    if !LLVM.contains(&llvm) {
        return Some(format!("{rustc}, and no bpf-linker with LLVM {llvm} in PATH (`cargo install bpf-linker`)"));
    }
    (!rustc.shares_llvm())
        .then(|| format!("{rustc} holds its LLVM inside, and no bpf-linker with LLVM {llvm} is in PATH"))
}

/// Compiles a bpf-linker that uses the LLVM of `rustc`.
pub(super) fn install(rustc: &Rustc, workspace: &Workspace) -> Result<PathBuf> {
    say("Installing", format!("bpf-linker for LLVM {}, one or two minutes", rustc.llvm()));
    let root = root(rustc, &workspace.toolchain());
    // Its intermediate files are of no use later; a folder of their own makes them easy to remove.
    let build = root.join("build");
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(root.join("bin"));
    let mut cargo = workspace.cargo();
    cargo
        .args(["install", "bpf-linker", "--version", RELEASE, "--locked", "--force", "--no-track"])
        .args(["--no-default-features", "--features", &format!("rust-llvm-{}", rustc.llvm())])
        .arg("--root")
        .arg(&root)
        .arg("--target-dir")
        .arg(&build)
        // Else cargo advises to add this folder to PATH, which nobody needs.
        .env("PATH", path);
    run(&mut cargo).context("bpf-linker cannot be installed; `cargo install bpf-linker` by hand may say more")?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
    let linker = program_below(&root);
    ensure!(suits(&linker, rustc), "{} does not run with the LLVM of {rustc}", linker.display());
    Ok(linker)
}

fn root(rustc: &Rustc, folder: &Path) -> PathBuf {
    folder.join(format!("bpf-linker-llvm-{}", rustc.llvm()))
}

fn program_below(root: &Path) -> PathBuf {
    root.join("bin/bpf-linker")
}

/// Whether `linker` is recent enough and, started as rustc will start it, has the LLVM of `rustc`.
fn suits(linker: &Path, rustc: &Rustc) -> bool {
    let ask = |options: &[&str]| {
        let mut linker = Command::new(linker);
        output(linker.args(options).env("LD_LIBRARY_PATH", rustc.library_path()))
    };
    linker.is_file()
        && ask(&["--version"]).is_ok_and(|text| release(&text).is_some_and(|release| release >= OLDEST))
        // LLVM prints its version and ends the program before the linker looks at its files.
        && ask(&["--llvm-args=--version", "--output", "/dev/null", "/dev/null"])
            .is_ok_and(|text| llvm_major(&text) == Some(rustc.llvm()))
}

/// The release in `bpf-linker 0.10.3`.
fn release(text: &str) -> Option<(u32, u32)> {
    version_pair(text.split_whitespace().nth(1)?)
}

/// The major version in what LLVM says of itself.
fn llvm_major(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("LLVM version ")?;
    version_pair(version).map(|(major, _)| major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bpf_linker_says() {
        assert_eq!(release("bpf-linker 0.10.3\n"), Some((0, 10)));
        assert_eq!(release("\n"), None);
    }

    #[test]
    fn what_llvm_says() {
        assert_eq!(llvm_major("Debian LLVM version 22.1.8\n  Optimized build.\n"), Some(22));
        assert_eq!(llvm_major("LLVM (http://llvm.org/):\n  LLVM version 21.1.2-rust-1.91.0-stable\n"), Some(21));
        assert_eq!(llvm_major("unable to find LLVM shared lib"), None);
    }
}
