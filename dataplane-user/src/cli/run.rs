//! `spandrel run`, `start` and `exec`: commands on the caller's own terminal.
//!
//! The agent gives the command this process's standard input, output and error. All that is left to do
//! here is to pass signals on and to wait for the exit code.

use std::collections::BTreeMap;
use std::env::{self, VarError};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::args::container::{Exec, Run, Start};
use super::client::{Client, Lines, segment};
use super::error::Error;
use super::signals::Signals;
use super::{Done, Outcome, for_each, join, network, output, ports};
use crate::api::types::container::{ContainerConfig, Naming, WaitResponse};
use crate::api::types::spandrel::{ExecRequest, RunRequest, Started};

/// Variables that a command gets from the caller's environment without being asked for.
const INHERITED: [&str; 3] = ["PATH", "HOME", "TERM"];
/// How long a foreground command waits for an agent that went away, to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates and starts a container.
pub(super) async fn run(client: &Client, command: Run) -> Outcome {
    let (first, further) = join::all(&command.network, network::settings(command.endpoint, command.network_alias))
        .map_err(Error::Local)?;
    let cidfile = command.cidfile.map(CidFile::create).transpose()?;
    let request = RunRequest {
        name: command.name.unwrap_or_default(),
        config: ContainerConfig {
            hostname: command.hostname,
            env: environment(&command.surroundings.env, &command.surroundings.env_file)?,
            labels: labels(&command.label_file, command.label)?,
            cmd: command.command,
            working_dir: directory(command.surroundings.workdir)?,
            ..Default::default()
        },
        network: first.network,
        endpoint: first.endpoint,
        further,
        publish: ports::request(command.publish, command.access),
        publish_all: command.publish_all,
        expose: command.expose,
        naming: Naming {
            dns: command.dns,
            dns_search: command.dns_search,
            dns_options: command.dns_option,
            extra_hosts: command.add_host,
        },
        auto_remove: command.rm,
        attach: !command.detach,
    };
    if command.detach {
        let started: Started = client.post("/spandrel/containers/run", &request).await?;
        warn(&started.warnings);
        cidfile.map_or(Ok(()), |file| file.write(&started.id))?;
        output::lines([started.id])?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut attached = Attached::start(client, "/spandrel/containers/run", &request, "/containers").await?;
    cidfile.map_or(Ok(()), |file| file.write(&attached.id))?;
    attached.finish_container().await
}

/// Starts containers that have ended.
pub(super) async fn start(client: &Client, command: Start) -> Outcome {
    match command.containers.as_slice() {
        [container] if command.attach => {
            let path = format!("/spandrel/containers/{}/start", segment(container));
            Attached::start(client, &path, &json!({}), "/containers").await?.finish_container().await
        }
        _ if command.attach => Err(Error::Local("you cannot start and attach multiple containers at once".into())),
        containers => {
            for_each(containers, async |reference| {
                client.command(&format!("/containers/{}/start", segment(reference)), &json!({})).await?;
                Ok(Done::Yes)
            })
            .await
        }
    }
}

/// Starts one more command in a running container.
pub(super) async fn exec(client: &Client, command: Exec) -> Outcome {
    let request = ExecRequest {
        cmd: command.command,
        env: environment(&command.surroundings.env, &command.surroundings.env_file)?,
        working_dir: directory(command.surroundings.workdir)?,
        detach: command.detach,
    };
    let path = format!("/spandrel/containers/{}/exec", segment(&command.container));
    if command.detach {
        return client.command(&path, &request).await.map(|()| ExitCode::SUCCESS);
    }
    Attached::start(client, &path, &request, "/spandrel/exec").await?.finish().await
}

/// The file of `--cidfile`, made before the container is: without its id it goes away with this value.
struct CidFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl CidFile {
    fn create(path: PathBuf) -> Result<Self, Error> {
        let file = File::create_new(&path).map_err(|error| {
            let shown = path.display();
            Error::Local(match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!("container ID file found, make sure the other container isn't running or delete {shown}")
                }
                _ => format!("cannot make the container ID file {shown}: {error}"),
            })
        })?;
        Ok(CidFile { path, file, written: false })
    }

    fn write(mut self, id: &str) -> Result<(), Error> {
        self.file.write_all(id.as_bytes()).map_err(|error| {
            Error::Local(format!("cannot write the id of container {id} to {}: {error}", self.path.display()))
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.written {
            // Empty, it would only be in the way of the next try.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A command that has our terminal.
struct Attached<'a> {
    client: &'a Client,
    signals: Signals,
    lines: Lines,
    id: String,
    /// The call that sends the command a signal.
    kill: String,
}

impl<'a> Attached<'a> {
    /// Starts a command by a call to `path`; what is started can then be found under `objects`.
    async fn start(
        client: &'a Client,
        path: &str,
        request: &impl serde::Serialize,
        objects: &str,
    ) -> Result<Self, Error> {
        // From here on a Ctrl-C is meant for the command.
        let mut signals = Signals::catch()?;
        let start = async {
            let mut lines = client.stream(path, request).await?;
            let started: Started = lines.next().await?;
            Ok::<_, Error>((lines, started))
        };
        let mut start = pin!(start);
        // A signal that comes too early is delivered late; who repeats it does not want to wait.
        let mut early = None;
        let (lines, started) = loop {
            tokio::select! {
                start = &mut start => break start?,
                signal = signals.next_wish() => match early.replace(signal) {
                    None => {}
                    Some(_) => return Err(Error::Local("gave up waiting for the command to start".into())),
                },
            }
        };
        warn(&started.warnings);
        let attached =
            Attached { client, signals, lines, kill: format!("{objects}/{}/kill", started.id), id: started.id };
        if let Some(signal) = early {
            attached.pass_on(signal).await;
        }
        Ok(attached)
    }

    /// Passes a signal on. If that fails, the command or the agent has ended, which the answer that we are
    /// reading tells better.
    async fn pass_on(&self, signal: i32) {
        let _ = self.client.command(&format!("{}?signal={signal}", self.kill), &json!({})).await;
    }

    /// Passes signals on until the command has ended.
    async fn finish(&mut self) -> Outcome {
        loop {
            tokio::select! {
                end = self.lines.next::<WaitResponse>() => return end.map(|end| exit_code(end.status_code)),
                signal = self.signals.next() => self.pass_on(signal).await,
            }
        }
    }

    /// The same for a container's own command.
    async fn finish_container(&mut self) -> Outcome {
        match self.finish().await {
            Err(Error::Lost { .. }) => self.outlive_agent().await,
            outcome => outcome,
        }
    }

    /// The container does not need the agent, so wait for the next one to learn the exit code.
    async fn outlive_agent(&mut self) -> Outcome {
        let id = output::id(&self.id, false);
        output::complain(format_args!("lost the agent; container {id} goes on, waiting for the agent to come back"));
        let path = format!("/containers/{}/wait", self.id);
        let nothing = json!({});
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let ended = self.client.post::<WaitResponse>(&path, &nothing);
            tokio::select! {
                end = ended => match end {
                    Ok(end) => return Ok(exit_code(end.status_code)),
                    Err(Error::Unreachable(_) | Error::Lost { .. }) if tokio::time::Instant::now() < deadline => {}
                    Err(error) => return Err(error),
                },
                signal = self.signals.next_wish() => return Ok(exit_code(i64::from(128 + signal))),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

fn warn(warnings: &[String]) {
    warnings.iter().for_each(|warning| output::complain(format_args!("warning: {warning}")));
}

/// The exit code as far as a process can have it.
fn exit_code(code: i64) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The command's environment: a few variables of ours, then what stands in the user's files, then what the user gave. A
/// name alone takes our value, or means nothing if we have none.
fn environment(given: &[String], files: &[PathBuf]) -> Result<Vec<String>, Error> {
    let inherited = INHERITED.iter().map(|name| name.to_string());
    let read: Vec<Vec<String>> = files.iter().map(|file| file_lines(file)).collect::<Result<_, _>>()?;
    let mut environment = Vec::new();
    for variable in inherited.chain(read.into_iter().flatten()).chain(given.iter().cloned()) {
        if variable.contains('=') {
            environment.push(variable);
            continue;
        }
        match env::var(&variable) {
            Ok(value) => environment.push(format!("{variable}={value}")),
            Err(VarError::NotPresent) => {}
            Err(VarError::NotUnicode(_)) => {
                return Err(Error::Local(format!("the value of the variable {variable} is not UTF-8")));
            }
        }
    }
    Ok(environment)
}

/// The labels that stand in the user's files, and those that the user gave.
fn labels(files: &[PathBuf], given: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Error> {
    let mut labels = BTreeMap::new();
    for file in files {
        for line in file_lines(file)? {
            let (key, value) = line.split_once('=').unwrap_or((&line, ""));
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    labels.extend(given);
    Ok(labels)
}

/// The lines of a file of variables or labels, without comments. Each begins with a name.
fn file_lines(file: &Path) -> Result<Vec<String>, Error> {
    let shown = file.display();
    let text =
        fs::read_to_string(file).map_err(|error| Error::Local(format!("cannot read the file {shown}: {error}")))?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Error::Local(format!("{shown}:{number}: {line:?} does not begin with a name and `=`")));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

/// The directory that the command starts in: the user's wish, or ours.
fn directory(wish: Option<String>) -> Result<String, Error> {
    if let Some(wish) = wish {
        return Ok(wish);
    }
    let current = env::current_dir()
        .map_err(|error| Error::Local(format!("cannot tell the current directory, give one with -w: {error}")))?;
    current
        .into_os_string()
        .into_string()
        .map_err(|_| Error::Local("the current directory's name is not UTF-8, give another one with -w".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_from_the_caller_or_the_user() {
        let given = ["A=1".to_string(), "PATH=/x".into(), "SPANDREL_NO_SUCH_VARIABLE".into()];
        let environment = environment(&given, &[]).unwrap();
        assert!(environment.iter().any(|variable| *variable == format!("PATH={}", env::var("PATH").unwrap())));
        assert!(environment.ends_with(&["A=1".to_string(), "PATH=/x".to_string()]));
    }

    #[test]
    fn files_of_variables_and_labels() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "# of the shop\nA=1\n\n  B=x y=z\nSPANDREL_NO_SUCH_VARIABLE\n").unwrap();
        let files = [file.clone()];
        let environment = environment(&["A=2".into()], &files).unwrap();
        assert!(environment.ends_with(&["A=1".to_string(), "B=x y=z".into(), "A=2".into()]), "{environment:?}");
        let labels = labels(&files, vec![("A".into(), "3".into())]).unwrap();
        assert_eq!((labels["A"].as_str(), labels["B"].as_str()), ("3", "x y=z"));
        assert_eq!(labels["SPANDREL_NO_SUCH_VARIABLE"], "");

        fs::write(&file, "A=1\n=2\n").unwrap();
        let error = file_lines(&file).unwrap_err().to_string();
        assert!(error.ends_with(":2: \"=2\" does not begin with a name and `=`"), "{error}");
        let error = file_lines(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("cannot read the file") && error.contains("nowhere"), "{error}");
    }
}
