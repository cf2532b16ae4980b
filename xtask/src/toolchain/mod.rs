//! The compiler and linker for the eBPF programs: whatever is there, else fetched, else the commands to type.
//!
//! `core` has to be compiled for the kernel's target, so a rustc serves only with its library sources beside it. And
//! bpf-linker reads what that rustc wrote, so both must have one LLVM.

mod debian;
mod linker;
mod rustc;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::workspace::{Workspace, cargo};
use rustc::Rustc;

/// A rustc with its library sources and a bpf-linker of the same LLVM.
pub(crate) struct Toolchain {
    rustc: Rustc,
    linker: PathBuf,
}

impl Toolchain {
    /// Finds a toolchain, or fetches what is missing into the workspace's target folder.
    pub(crate) fn ensure(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.toolchain();
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Two builds at once must not fetch into the same place; the lock goes with the file, at the end of this function.
        let lock = File::create(folder.join("lock")).context("cannot make the toolchain's lock")?;
        lock.lock().context("cannot lock the toolchain's folder")?;

        let (mut usable, mut refused) = (Vec::new(), Vec::new());
        for (program, libraries) in rustc::candidates(&folder) {
            match Rustc::inspect(&program, libraries, &folder) {
                Ok(rustc) => usable.push(rustc),
                Err(reason) => refused.push(format!("{}: {reason}", program.display())),
            }
        }
        let serves = |rustc: &Rustc| linker::obstacle(rustc).is_none() || linker::find(rustc, &folder).is_some();
        let fetched = usable.iter().any(|rustc| rustc.program().starts_with(&folder));
        if !usable.iter().any(serves) && !fetched && apt::available() {
            let (program, libraries) = debian::install(workspace, rustc::minimum())?;
            match Rustc::inspect(&program, libraries, &folder) {
                Ok(rustc) => usable.push(rustc),
                Err(reason) => refused.push(format!("{}: {reason}", program.display())),
            }
        }
        // What is complete comes before what still needs a linker.
        for rustc in &usable {
            if let Some(linker) = linker::find(rustc, &folder) {
                return Ok(Self { rustc: rustc.clone(), linker });
            }
        }
        for rustc in usable {
            match linker::obstacle(&rustc) {
                None => return Ok(Self { linker: linker::install(&rustc, workspace)?, rustc }),
                Some(reason) => refused.push(format!("{}: {reason}", rustc.program().display())),
            }
        }
        bail!("{}", advice(&refused));
    }

    /// The toolchain in a few words.
    pub(crate) fn describe(&self, workspace: &Workspace) -> String {
        format!("{} and {}", self.rustc, workspace.display(&self.linker))
    }

    /// The cargo to compile with: the toolchain's own, else the one that runs us. Never rustup's proxy, which would
    /// put its own toolchain's libraries before ours.
    pub(crate) fn cargo(&self) -> Command {
        let own = self.rustc.sysroot().join("bin/cargo");
        Command::new(if own.is_file() { own.into() } else { cargo() })
    }

    /// Lets `cargo` compile for the kernel with this toolchain and nothing of the caller's own settings.
    pub(crate) fn configure(&self, cargo: &mut Command) {
        for foreign in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS"] {
            cargo.env_remove(foreign);
        }
        let flags = [
            format!("-Clinker={}", self.linker.display()),
            "-Clink-arg=--btf".to_owned(),
            // Else LLVM moves and clears what lies in memory by loops over single bytes, function calls at that.
            "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
            format!("--cfg=bpf_target_arch=\"{}\"", self.rustc.arch()),
        ];
        cargo
            .env("RUSTC", self.rustc.program())
            .env("LD_LIBRARY_PATH", self.rustc.library_path())
            // `-Z build-std` on a compiler that is not a nightly; on one that is it changes nothing.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    }
}

/// What to type where nothing was found and nothing can be fetched.
fn advice(refused: &[String]) -> String {
    let mut text = String::from("no Rust toolchain here can compile eBPF programs, and none can be fetched.\n");
    for line in refused {
        text += &format!("  looked at {line}\n");
    }
    let (major, minor) = rustc::minimum();
    text + &format!(
        "Rust {major}.{minor} or newer with its library sources is needed, and a bpf-linker with the same LLVM. Install them with\n\
         \n    rustup toolchain install nightly --component rust-src\n    cargo install bpf-linker\n\n\
         and run `cargo xtask build` again."
    )
}

/// The first number pair in a version such as `1.96.0+dfsg1` or `0.10.3`.
fn version_pair(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version_pair("1.96.0+dfsg1-1~deb12u2"), Some((1, 96)));
        assert_eq!(version_pair("0.10.3"), Some((0, 10)));
        assert_eq!(version_pair("1.97.0-nightly"), Some((1, 97)));
        assert_eq!(version_pair("(none)"), None);
    }

    #[test]
    fn advice_names_what_was_seen_and_what_to_type() {
        let text = advice(&["/usr/bin/rustc: no library sources".to_owned()]);
        assert!(text.contains("looked at /usr/bin/rustc: no library sources"));
        assert!(text.contains("rustup toolchain install nightly --component rust-src"));
        assert!(text.contains("cargo install bpf-linker"));
    }
}
