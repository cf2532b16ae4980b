//! `cargo xtask build`: the eBPF object first, then the binary that embeds it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::progress::say;
use crate::toolchain::Toolchain;
use crate::workspace::{self, BPF_TARGET, Workspace};

/// The profile of the user-space binary; the eBPF programs are always optimized, the verifier takes them no other way.
#[derive(Args, Clone, Copy, Default)]
pub(crate) struct Profile {
    /// Build the `spandrel` binary without optimization, for a debugger
    #[arg(long)]
    debug: bool,

    /// Build the `spandrel` binary optimized (the default)
    #[arg(long, conflicts_with = "debug")]
    release: bool,
}

/// Build the eBPF programs and the `spandrel` binary
///
/// Finds a Rust toolchain that can compile for the kernel and the bpf-linker that matches its LLVM. What is missing
/// is fetched into the target folder, without root and without changing the system; where that cannot be done, the
/// commands to type are printed. Prints the steps and, at the end, the path of the binary. A second build without
/// changes takes seconds.
#[derive(Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    profile: Profile,

    /// Build this part alone
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The eBPF object, target/bpf/spandrel.bpf.o
    Ebpf,
    /// The `spandrel` binary, with the object built before
    Spandrel,
}

/// Builds what the options name.
pub(crate) fn run(workspace: &Workspace, args: &BuildArgs) -> Result<()> {
    if args.only != Some(Part::Spandrel) {
        ebpf(workspace)?;
    }
    if args.only != Some(Part::Ebpf) {
        binary(workspace, args.profile)?;
    }
    Ok(())
}

/// Builds everything and gives the path of the binary.
pub(crate) fn spandrel(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    ebpf(workspace)?;
    binary(workspace, profile)
}

/// Compiles the eBPF programs into the object that the binary embeds.
pub(crate) fn ebpf(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::ensure(workspace)?;
    say("Building", format!("the eBPF programs with {}", toolchain.describe(workspace)));

    let mut cargo = toolchain.cargo();
    workspace.prepare(&mut cargo);
    toolchain.configure(&mut cargo);
    cargo
        .args(["build", "--release", "--package", "dataplane-ebpf", "-Z", "build-std=core"])
        // bpf-linker turns the debug information into BTF, which the kernel and aya both read.
        .args(["--config", "profile.release.debug=2", "--config", "profile.release.codegen-units=1"])
        .args(["--target", BPF_TARGET, "--target-dir"])
        .arg(workspace.bpf_build());
    workspace::run(&mut cargo).context("the eBPF programs do not build")?;

    let built = workspace.bpf_build().join(BPF_TARGET).join("release/dataplane-ebpf");
    let object = workspace.bpf_object();
    let news = if copy_if_changed(&built, &object)? { "" } else { ", unchanged" };
    say("Finished", format!("{}{news}", workspace.display(&object)));
    Ok(())
}

/// Copies `from` to `to` unless they hold the same bytes already: a newer date alone would rebuild the binary.
fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(true)
}

/// Compiles the binary and gives its path.
fn binary(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--package", "spandrel", "--bin", "spandrel"]);
    if !profile.debug {
        cargo.arg("--release");
    }
    let built = executables(&mut cargo).context("the spandrel binary does not build")?;
    let (_, executable) = built.into_iter().next().context("cargo built spandrel without naming the binary")?;
    say("Finished", workspace.display(&executable));
    Ok(executable)
}

/// What cargo built: a target's kind (`lib`, `bin`, `test`) and name, and the executable that was made of it.
pub(crate) type Executables = BTreeMap<(String, String), PathBuf>;

/// Lets `cargo` build and gives the executables that it made.
pub(crate) fn executables(cargo: &mut Command) -> Result<Executables> {
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot start cargo")?;
    let mut executables = BTreeMap::new();
    if let Some(messages) = child.stdout.take() {
        for line in BufReader::new(messages).lines() {
            executables.extend(executable_in(&line?));
        }
    }
    if !child.wait()?.success() {
        bail!("cargo says why above");
    }
    Ok(executables)
}

/// The executable that one line of cargo's JSON messages tells of.
fn executable_in(line: &str) -> Option<((String, String), PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let target = &message["target"];
    let key = (target["kind"][0].as_str()?.into(), target["name"].as_str()?.into());
    Some((key, message["executable"].as_str()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_names_the_executable() {
        let line = r#"{"target":{"kind":["bin"],"name":"spandrel"},"executable":"/t/release/spandrel"}"#;
        let expected = (("bin".into(), "spandrel".into()), "/t/release/spandrel".into());
        assert_eq!(executable_in(line), Some(expected));
        assert_eq!(executable_in(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(executable_in("warning: not JSON"), None);
    }
}
