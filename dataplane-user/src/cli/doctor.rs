//! `spandrel doctor`: what is wrong with this host or left over on it. What is looked for is `agent::doctor`'s business; here are the
//! agent's answers, the plugin links, and the table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::doctor::Doctor;
use super::args::plugin::Engine;
use super::args::{DEFAULT_SOCKET, ListFormat};
use super::client::Client;
use super::error::Error;
use super::netavark::{reservation, stale};
use super::output::Table;
use super::plugin::link::{self, State};
use super::plugin::places;
use super::plugin::{Socket, docker_socket};
use super::{Outcome, output};
use crate::agent::doctor::{Finding, Gravity, Place, Presence, Remedy, Seen, examine, mend};
use crate::api::types::spandrel::Record;
use crate::plugin::docker::{ENGINE_SOCKET, SOCKET as DOCKER_SOCKET};

const TABLE: Table = Table {
    row: "{{.Check}}\t{{.State}}\t{{.Fix}}\t{{.Problem}}\t{{.Advice}}",
    titles: &[
        ("Check", "CHECK"),
        ("State", "STATE"),
        ("Fix", "FIX"),
        ("Problem", "PROBLEM"),
        ("Advice", "ADVICE"),
        ("Done", "DONE"),
    ],
};

/// What is printed where nothing is found.
const HEALTHY: &str = "nothing is wrong\n";

/// Looks, mends if asked to, and tells.
pub(super) async fn run(socket: &Path, command: Doctor) -> Outcome {
    let local = |error: crate::model::Error| Error::Local(error.to_string());
    // Another agent's is in its own run directory, unless it is named.
    let socket = match socket == Path::new(DEFAULT_SOCKET) {
        true => command.run_dir.join("spandrel.sock"),
        false => socket.into(),
    };
    let client = Client::new(&socket);
    let place = Place { run_dir: command.run_dir, state_dir: command.state_dir, socket };
    // In this order: what an agent makes in between is on its record by then.
    let seen = Seen::look(&place.run_dir).await.map_err(local)?;
    let presence = presence(&client).await?;
    let mut findings = examine(&seen, &place, &presence);
    findings.extend(plugins(&presence));
    findings.extend(podman(&client, &presence).await?);
    findings.extend(docker(&presence).await);
    let mut rows = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for finding in findings {
        let mut row = shown(&finding);
        let mut well = finding.gravity == Gravity::Note;
        if let (true, Some(remedy)) = (command.fix, &finding.remedy) {
            let mended = match remedy {
                Remedy::RemoveNetwork(id) => {
                    let removed = client.delete(&format!("/networks/{id}")).await;
                    removed.map(|()| format!("removed the network {}", output::id(id, false)))
                }
                remedy => mend(remedy).await.map_err(local),
            };
            match mended {
                Ok(done) => {
                    well = true;
                    row["State"] = "fixed".into();
                    row["Fix"] = "done".into();
                    row["Advice"] = done.clone().into();
                    row["Done"] = done.into();
                }
                Err(error) => row["Advice"] = format!("could not be mended: {error}").into(),
            }
        }
        if !well {
            code = ExitCode::FAILURE;
        }
        rows.push(row);
    }
    match (&command.format.format, rows.is_empty()) {
        (ListFormat::Table, true) => output::print(HEALTHY)?,
        (format, _) => output::print_list(format, &rows, &TABLE)?,
    }
    Ok(code)
}

fn shown(finding: &Finding) -> Value {
    let state = match finding.gravity {
        Gravity::Problem => "problem",
        Gravity::Note => "note",
    };
    let fix = if finding.remedy.is_some() { "--fix" } else { "-" };
    json!({
        "Check": finding.check,
        "State": state,
        "Fix": fix,
        "Problem": finding.problem,
        "Advice": finding.advice,
        "Done": "",
    })
}

/// Whether an agent answers, and what it has on record.
async fn presence(client: &Client) -> Result<Presence, Error> {
    let version: Value = match client.get("/version").await {
        Ok(version) => version,
        Err(Error::Unreachable(_)) => return Ok(Presence::Silent),
        Err(error) => return Err(error),
    };
    let version = version["Version"].as_str().unwrap_or_default().to_owned();
    let record = match client.get::<Record>("/spandrel/record").await {
        Ok(record) => Some(record.into()),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    Ok(Presence::Answers { version, record })
}

/// Links that lead nowhere or to another binary than this one, and Docker's socket without anybody behind it.
fn plugins(presence: &Presence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let finding = |problem: String, advice: String| Finding {
        check: "plugin",
        gravity: Gravity::Problem,
        problem,
        advice,
        remedy: None,
    };
    for (engine, name) in [(Engine::Cni, "cni"), (Engine::Podman, "podman")] {
        for place in places::all(engine) {
            findings.extend(match link::look(&place, Path::new("/proc/self/exe")) {
                Ok(State::Dangling(target)) => Some(Finding {
                    remedy: Some(Remedy::RemoveFile(place.clone())),
                    ..finding(
                        format!(
                            "the plugin link {} leads to {}, which is not there",
                            place.display(),
                            target.display()
                        ),
                        format!("remove it, or lead it to this binary: spandrel plugin install {name}"),
                    )
                }),
                Ok(State::Other(target)) => Some(another(&place, &target, name, finding)),
                Ok(State::Absent | State::Current | State::Foreign) => None,
                Err(error) => {
                    Some(finding(format!("cannot look at {}: {error}", place.display()), "look there".into()))
                }
            });
        }
    }
    if docker_socket() == Socket::Dead {
        let problem =
            format!("nobody listens on {DOCKER_SOCKET}: Docker's calls for networks of the driver spandrel fail");
        let advice = match presence {
            Presence::Answers { .. } => "start the agent again, which makes the socket anew",
            Presence::Silent => "start the agent, which makes the socket anew",
        };
        findings.push(Finding {
            check: "docker",
            remedy: Some(Remedy::RemoveFile(DOCKER_SOCKET.into())),
            ..finding(problem, advice.into())
        });
    }
    findings
}

/// Networks that Podman has made and removed, which it tells no plugin, and its setting that keeps ports from being published.
async fn podman(client: &Client, presence: &Presence) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    if matches!(presence, Presence::Answers { record: Some(_), .. }) {
        findings.extend(
            stale::find(client).await?.into_iter().map(|network| forgotten("Podman", network.id, &network.name)),
        );
    }
    let binary = Path::new("/proc/self/exe");
    let installed =
        places::all(Engine::Podman).iter().any(|place| matches!(link::look(place, binary), Ok(State::Current)));
    let has_podman = Path::new("/usr/bin/podman").exists() || Path::new("/usr/local/bin/podman").exists();
    if installed && has_podman && reservation::is_on() {
        findings.push(Finding {
            check: "podman",
            gravity: Gravity::Note,
            problem: "Podman reserves published ports itself, so none can be published on our networks".into(),
            advice: "write enable_port_reservation = false into [engine] of /etc/containers/containers.conf".into(),
            remedy: None,
        });
    }
    Ok(findings)
}

/// Networks that Docker has made, and does not know any more. Nothing if Docker does not answer.
async fn docker(presence: &Presence) -> Vec<Finding> {
    let Presence::Answers { record: Some(record), .. } = presence else { return Vec::new() };
    if record.docker.is_empty() {
        return Vec::new();
    }
    let engine = Client::new(Path::new(ENGINE_SOCKET));
    let Ok(known) = engine.get::<Vec<Value>>("/networks").await else { return Vec::new() };
    let is_known = |id: &str| known.iter().any(|network| network["Id"] == id);
    let gone = record.docker.iter().filter(|(id, _)| !is_known(id));
    gone.map(|(id, name)| forgotten("Docker", id.clone(), name)).collect()
}

fn forgotten(engine: &str, id: String, name: &str) -> Finding {
    Finding {
        check: "network",
        gravity: Gravity::Problem,
        problem: format!("the network {name} was made by {engine}, which does not have it any more"),
        advice: format!("remove it: spandrel network rm {name}"),
        remedy: Some(Remedy::RemoveNetwork(id)),
    }
}

fn another(place: &Path, target: &Path, name: &str, finding: impl Fn(String, String) -> Finding) -> Finding {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("this binary"));
    finding(
        format!("the plugin link {} leads to {}, and this is {}", place.display(), target.display(), own.display()),
        format!("ask the other binary, or lead the link to this one: spandrel plugin install {name}"),
    )
}
