//! Where the sources and the build output are, and how cargo is called on them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The target that the eBPF programs are compiled for.
pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";

/// The crate of the scenarios.
pub(crate) const SCENARIOS: &str = "spandrel-tests";

/// What every subcommand works in and on.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    scenarios: Vec<String>,
}

impl Workspace {
    /// Asks cargo where its output goes: CARGO_TARGET_DIR and cargo's own configuration both have a say in it.
    pub(crate) fn locate() -> Result<Self> {
        let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        root.pop();
        let mut metadata = Command::new(cargo());
        metadata
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .arg("--manifest-path")
            .arg(root.join("Cargo.toml"));
        let metadata: Value =
            serde_json::from_str(&output(&mut metadata)?).context("`cargo metadata` printed no JSON")?;
        let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?;
        Ok(Self { target: target.into(), root, scenarios: test_programs(&metadata, SCENARIOS) })
    }

    /// The test programs of the scenarios, by name.
    pub(crate) fn scenarios(&self) -> impl Iterator<Item = &str> {
        self.scenarios.iter().map(String::as_str)
    }

    /// The folder that everything is in.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the package; the scenarios look for it here.
    pub(crate) fn dist(&self) -> PathBuf {
        self.target.join("dist")
    }

    /// The folder of what is fetched to compile with: a Rust toolchain, bpf-linker.
    pub(crate) fn toolchain(&self) -> PathBuf {
        self.target.join("toolchain")
    }

    /// The folder of other people's programs that the scenarios run beside Spandrel; the lab looks for them here.
    pub(crate) fn peers(&self) -> PathBuf {
        self.target.join("peers")
    }

    /// The folder of a release of Debian that machines of scenarios can have; the lab looks for them here.
    pub(crate) fn system(&self, release: &str) -> PathBuf {
        self.target.join("systems").join(release)
    }

    /// The folder of schemathesis; the scenarios look for it here.
    pub(crate) fn schemathesis(&self) -> PathBuf {
        self.target.join("schemathesis")
    }

    /// The eBPF object, as dataplane-user's build script looks for it.
    pub(crate) fn bpf_object(&self) -> PathBuf {
        self.target.join("bpf/spandrel.bpf.o")
    }

    /// Cargo's target folder for the eBPF build, apart from the host's so that neither waits for the other's lock.
    pub(crate) fn bpf_build(&self) -> PathBuf {
        self.target.join("bpf/build")
    }

    /// Cargo's target folder for clippy on the eBPF programs.
    pub(crate) fn bpf_lint(&self) -> PathBuf {
        self.target.join("bpf/lint")
    }

    /// Cargo's target folder: everything that is built or fetched lies below it.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The folder of the older kernels that tests run on, and of the logs of their runs.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.target.join("kernels")
    }

    /// The cargo that runs this program, set to work on this workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.env("CARGO_TARGET_DIR", &self.target);
        self.prepare(&mut command);
        command
    }

    /// Lets `command` start in the workspace as if it had been typed there: without what `cargo run` adds for us.
    pub(crate) fn prepare(&self, command: &mut Command) {
        command.current_dir(&self.root).env_remove("LD_LIBRARY_PATH");
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
    }

    /// `path` as a reader of the terminal knows it: relative to the workspace where it lies inside.
    pub(crate) fn display<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// The cargo that runs this program. It is the real one, not rustup's proxy: cargo names itself to what it runs.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs `command` with the terminal as it is, and fails where it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs `command` and gives what it printed on its standard output; what it said on stderr goes into the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line of `command`, quoted as a shell reads it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}

/// Every program called `name` in PATH, first come first.
pub(crate) fn in_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).filter(|program| program.is_file()).collect()
}

/// The entries of a folder, sorted; none where it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// The names of a package's integration tests, from what `cargo metadata` tells.
fn test_programs(metadata: &Value, package: &str) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages = list(&metadata["packages"]).into_iter().filter(|found| found["name"] == package);
    let targets = packages.flat_map(|found| list(&found["targets"]));
    let tests = targets.filter(|target| list(&target["kind"]).iter().any(|kind| kind == "test"));
    tests.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect()
}

/// The last component of `path` as text.
pub(crate) fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
