//! A Python program that a scenario needs: schemathesis, which reads the API's document and asks the agent what follows from it. It
//! lies in a virtual environment below the target folder; the system's Python stays as it is.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::say;
use crate::workspace::{Workspace, in_path, output};

/// What is installed, each package with its version.
const REQUIREMENTS: &str = include_str!("../../tests/schemathesis/requirements.txt");

/// In the folder when all is there: what was asked for.
const LIST: &str = "requirements";

/// Makes the virtual environment, unless it is there.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let folder = workspace.schemathesis();
    if fs::read_to_string(folder.join(LIST)).is_ok_and(|present| present == REQUIREMENTS) {
        return Ok(());
    }
    if in_path("python3").is_empty() {
        bail!(
            "the scenarios ask the API by a Python program, and there is no python3: install it (3.10 or later, with venv)"
        );
    }
    say("Fetching", "schemathesis, which asks the API what its document promises");
    let make = output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    make.context("cannot make a virtual environment; on Debian, the package python3-venv makes that possible")?;
    let list = folder.join("requirements.txt");
    fs::write(&list, REQUIREMENTS).with_context(|| format!("cannot write in {}", folder.display()))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]).arg(&list);
    output(&mut pip)?;
    fs::write(folder.join(LIST), REQUIREMENTS).with_context(|| format!("cannot write in {}", folder.display()))
}
