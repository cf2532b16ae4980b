//! `spandrel plugin`: where engines find this binary as their plugin. Nothing here speaks to an engine.

pub(super) mod link;
pub(super) mod places;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::plugin::{Engine, Install, Ls, Plugin, Uninstall};
use super::client::Client;
use super::error::Error;
use super::netavark::reservation;
use super::output::Table;
use super::{Outcome, output};
use crate::plugin::docker::SOCKET as DOCKER_SOCKET;
use crate::plugin::netavark::FOLDER;
use link::{Done, State};

/// An example of a network, which comes last among a runtime's networks.
const EXAMPLE: &str = "/etc/cni/net.d/99-pods.conflist";

/// What is in it.
const EXAMPLE_TEXT: &str = include_str!("../../../../packaging/10-pods.conflist");

const TABLE: Table = Table {
    row: "{{.Engine}}\t{{.Place}}\t{{.State}}\t{{.Target}}",
    titles: &[("Engine", "ENGINE"), ("Place", "PLACE"), ("State", "STATE"), ("Target", "TARGET")],
};

/// Does one of the three.
pub(super) async fn run(client: &Client, command: Plugin) -> Outcome {
    match command {
        Plugin::Install(Install { places, .. }) | Plugin::Uninstall(Uninstall { places })
            if places.engine == Engine::Docker && !places.bin_dir.is_empty() =>
        {
            Err(Error::Local(
                "--bin-dir is for cni and podman: Docker looks for a socket, which the agent makes".into(),
            ))
        }
        Plugin::Install(Install { places, example: false }) if places.engine == Engine::Docker => {
            check_docker(client).await
        }
        Plugin::Install(command) => install(&command),
        Plugin::Uninstall(command) => uninstall(&command),
        Plugin::Ls(command) => list(&command),
    }
}

/// What the engine needs is the agent's own socket; the rest is Docker's configuration, which is the administrator's.
async fn check_docker(client: &Client) -> Outcome {
    let version: Value = client.get("/version").await?;
    let version = version["Version"].as_str().unwrap_or_default();
    match docker_socket() {
        Socket::Served => {}
        Socket::Absent => {
            return Err(Error::Local(format!(
                "the agent (version {version}) does not serve {DOCKER_SOCKET}, where Docker looks for it: is it older than this binary? \
                 start it again"
            )));
        }
        Socket::Dead => return Err(Error::Local(format!("nobody listens on {DOCKER_SOCKET}: start the agent again"))),
    }
    output::print(&format!(
        "{DOCKER_SOCKET}: already there, the agent (version {version}) listens\n\
         Docker needs nothing else: docker network create -d spandrel web\n\
         For a host without a single rule of Docker's, /etc/docker/daemon.json may say, and nothing of it is needed for the plugin:\n\
         {{\"bridge\": \"none\", \"iptables\": false, \"ip6tables\": false}}\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What is at the place of the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Served,
    Dead,
    Absent,
}

pub(super) fn docker_socket() -> Socket {
    match fs::symlink_metadata(DOCKER_SOCKET) {
        Ok(file) if file.file_type().is_socket() && UnixStream::connect(DOCKER_SOCKET).is_ok() => Socket::Served,
        Ok(_) => Socket::Dead,
        Err(_) => Socket::Absent,
    }
}

/// Makes all links, or none.
fn install(command: &Install) -> Outcome {
    let engine = command.places.engine;
    if command.example && engine != Engine::Cni {
        return Err(Error::Local("--example is a configuration of CNI: leave it out, or install cni".into()));
    }
    let binary = places::stable_binary()?;
    let wanted = places::wanted(engine, &command.places.bin_dir, &binary);
    // Its own name is also the driver's, so the folder is how it knows that it is the plugin.
    let in_folder = |place: &&PathBuf| place.parent().is_none_or(|folder| folder.ends_with(FOLDER));
    if let (Engine::Podman, Some(place)) = (engine, wanted.iter().find(|place| !in_folder(place))) {
        return Err(Error::Local(format!(
            "{} would not know that it is the plugin: the directory has to be called {FOLDER}, choose one with --bin-dir",
            place.display()
        )));
    }
    for place in &wanted {
        check(place, &binary)?;
    }
    if command.example {
        check_example()?;
    }
    let mut done: Vec<(PathBuf, Done)> = Vec::new();
    let undo = |done: &[(PathBuf, Done)], error: Error| {
        let troubles: Vec<_> = done.iter().filter_map(|(place, done)| link::undo(place, done, &binary).err()).collect();
        troubles.iter().for_each(output::complain);
        error
    };
    for place in wanted {
        match link::put(&place, &binary) {
            Ok(what) => done.push((place, what)),
            Err(error) => return Err(undo(&done, failed("make", &place, error))),
        }
    }
    let example = if command.example { put_example().map_err(|error| undo(&done, error))? } else { Vec::new() };
    let shown = binary.display();
    let lines = done.iter().map(|(place, done)| match done {
        Done::Made => format!("{}: made, leads to {shown}", place.display()),
        Done::AlreadyThere => format!("{}: already there, leads to {shown}", place.display()),
        Done::Replaced(target) => {
            format!("{}: replaced ours that led to {}, leads to {shown}", place.display(), target.display())
        }
    });
    let hint =
        (engine == Engine::Podman && reservation::is_on()).then(|| format!("still to do: {}", reservation::HINT));
    output::lines(lines.chain(example).chain(hint))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a link may be made at a place.
fn check(place: &Path, binary: &Path) -> Result<(), Error> {
    match link::look(place, binary).map_err(|error| failed("look at", place, error))? {
        State::Foreign => Err(Error::Local(format!(
            "{} is not a link of ours: remove it yourself, or choose another directory with --bin-dir",
            place.display()
        ))),
        _ => Ok(()),
    }
}

/// Whether the example may be written, or is there.
fn check_example() -> Result<bool, Error> {
    match fs::read_to_string(EXAMPLE) {
        Ok(text) if text == EXAMPLE_TEXT => Ok(true),
        Ok(_) => Err(Error::Local(format!("{EXAMPLE} is there and is not our example: remove it yourself"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("read", Path::new(EXAMPLE), error)),
    }
}

/// Writes the example, and says what it is for a runtime.
fn put_example() -> Result<Vec<String>, Error> {
    if check_example()? {
        return Ok(vec![format!("{EXAMPLE}: already there")]);
    }
    let path = Path::new(EXAMPLE);
    let directory = path.parent().unwrap_or(path);
    let write = || {
        fs::create_dir_all(directory)?;
        fs::write(path, EXAMPLE_TEXT)
    };
    write().map_err(|error| failed("write", path, error))?;
    // Runtimes take the first by name as the network of containers that ask for none.
    let mut networks: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    networks.retain(|path| {
        path.extension().is_some_and(|ending| ["conf", "conflist", "json"].iter().any(|e| ending == *e))
    });
    networks.sort();
    let first = match networks.first() {
        Some(first) if first != path => format!("the host's default network stays {}", first.display()),
        _ => "it is the host's default network now".to_owned(),
    };
    Ok(vec![format!("{EXAMPLE}: made, {first}")])
}

fn uninstall(command: &Uninstall) -> Outcome {
    let engine = command.places.engine;
    if engine == Engine::Docker {
        output::lines([format!("{DOCKER_SOCKET}: the agent's, and gone when the agent is stopped")])?;
        return Ok(ExitCode::SUCCESS);
    }
    // Where the binary is does not matter: every link of ours goes.
    let binary = Path::new("/proc/self/exe");
    let places = match command.places.bin_dir.is_empty() {
        true => places::all(engine),
        false => places::wanted(engine, &command.places.bin_dir, binary),
    };
    let mut lines = Vec::new();
    for place in places {
        if link::remove(&place, binary).map_err(|error| failed("remove", &place, error))? {
            lines.push(format!("{}: removed", place.display()));
        }
    }
    if engine == Engine::Cni && fs::read_to_string(EXAMPLE).is_ok_and(|text| text == EXAMPLE_TEXT) {
        fs::remove_file(EXAMPLE).map_err(|error| failed("remove", Path::new(EXAMPLE), error))?;
        lines.push(format!("{EXAMPLE}: removed"));
    }
    if lines.is_empty() {
        lines.push("nothing of ours is there".into());
    }
    output::lines(lines)?;
    Ok(ExitCode::SUCCESS)
}

fn list(command: &Ls) -> Outcome {
    let binary = Path::new("/proc/self/exe");
    let docker = match docker_socket() {
        Socket::Served => "served",
        Socket::Dead => "dead",
        Socket::Absent => "absent",
    };
    let mut rows = vec![json!({"Engine": "docker", "Place": DOCKER_SOCKET, "State": docker, "Target": ""})];
    for (engine, name) in [(Engine::Cni, "cni"), (Engine::Podman, "podman")] {
        for place in places::all(engine) {
            let target = fs::read_link(&place).map(|target| target.display().to_string()).unwrap_or_default();
            let state = match link::look(&place, binary).map_err(|error| failed("look at", &place, error))? {
                State::Absent => "absent",
                State::Current => "installed",
                State::Other(_) => "another binary",
                State::Dangling(_) => "dangling",
                State::Foreign => "not ours",
            };
            rows.push(json!({"Engine": name, "Place": place, "State": state, "Target": target}));
        }
    }
    output::print_list(&command.format.format, &rows, &TABLE)?;
    Ok(ExitCode::SUCCESS)
}

fn failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    Error::Local(format!("cannot {doing} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_documented_one() {
        assert!(include_str!("../../../../docs/cni.md").contains(EXAMPLE_TEXT));
    }
}
