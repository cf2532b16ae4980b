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
use super::output::Table;
use super::plugin::link::{self, State};
use super::plugin::places;
use super::plugin::{DOCKER_SOCKET, Socket, docker_socket};
use super::{Outcome, output};
use crate::agent::doctor::{Finding, Gravity, Place, Presence, Remedy, Seen, examine, mend};
use crate::api::types::spandrel::Record;

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
    let mut rows = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for finding in findings {
        let mut row = shown(&finding);
        let mut well = finding.gravity == Gravity::Note;
        if let (true, Some(remedy)) = (command.fix, &finding.remedy) {
            match mend(remedy).await {
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
            format!("nobody listens on {DOCKER_SOCKET}: Docker's calls to its networks of the driver spandrel fail");
        let advice = match presence {
            Presence::Answers { .. } => "start the agent again, which makes the socket anew",
            Presence::Silent => "start the agent",
        };
        findings.push(Finding { check: "docker", ..finding(problem, advice.into()) });
    }
    findings
}

fn another(place: &Path, target: &Path, name: &str, finding: impl Fn(String, String) -> Finding) -> Finding {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("this binary"));
    finding(
        format!("the plugin link {} leads to {}, and this is {}", place.display(), target.display(), own.display()),
        format!("ask the other binary, or lead the link to this one: spandrel plugin install {name}"),
    )
}
