//! Another plugin that gives addresses: found in `CNI_PATH`, called with our environment and our configuration (specification, section 4).

use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::plugin::cni::{Call, Code, Error, Outcome, Verb};

/// Calls a plugin by its type, and gives what it printed.
fn run(call: &Call, kind: &str, verb: Verb, config: &[u8]) -> Result<Vec<u8>, Error> {
    let failed =
        |doing: &str, error: std::io::Error| Error::new(Code::Io, format!("cannot {doing} the plugin {kind}: {error}"));
    let mut child = Command::new(find(call, kind)?)
        .env("CNI_COMMAND", verb.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("start", error))?;
    if let Some(mut input) = child.stdin.take() {
        // One that has ended already says itself why.
        match input.write_all(config) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(failed("write to", error)),
            _ => {}
        }
    }
    let output = child.wait_with_output().map_err(|error| failed("wait for", error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::from_json(&output.stdout).unwrap_or_else(|| {
        Error::new(Code::Failed, format!("the plugin {kind} ended with {} and did not say why", output.status))
    }))
}

/// The first executable file of that name.
fn find(call: &Call, kind: &str) -> Result<PathBuf, Error> {
    if kind.contains('/') {
        return Err(Error::new(Code::Config, format!("ipam: {kind:?} is no name of a plugin")));
    }
    let executable =
        |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let found = call.path.iter().map(|folder| folder.join(kind)).find(executable);
    found.ok_or_else(|| {
        Error::new(Code::Config, format!("ipam: failed to find plugin {kind:?} in path {:?}", call.path))
    })
}

/// Has it give addresses.
pub(super) fn add(call: &Call, kind: &str, config: &[u8]) -> Result<Outcome, Error> {
    let printed = run(call, kind, Verb::Add, config)?;
    let value = serde_json::from_slice(&printed)
        .map_err(|error| Error::new(Code::Decode, format!("cannot read what the plugin {kind} printed: {error}")))?;
    Outcome::from_json(value)
}

/// Tells it something to which it has nothing to say.
pub(super) fn tell(call: &Call, kind: &str, verb: Verb, config: &[u8]) -> Result<(), Error> {
    run(call, kind, verb, config).map(drop)
}
