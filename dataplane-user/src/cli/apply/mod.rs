//! `spandrel apply` and `down`: networks, containers and policies that a file declares, made so and kept so.
//!
//! A file is read (`file`) and judged (`wanted`) before the agent is asked anything; what is there (`found`) and what is wanted
//! give a plan (`plan`), which is shown, confirmed, and done through the API (`converge`). Objects carry the project's name and
//! what the file said of them as labels: so the next run knows its own, and what has changed.

mod converge;
mod file;
mod found;
mod plan;
mod wanted;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use super::args::apply::{Apply, Down};
use super::client::Client;
use super::error::Error;
use super::{Outcome, output};
use plan::{Line, Mark, Plan};
use wanted::Wanted;

/// How often is looked whether all is as it was wanted: what has ended has to be started before its ports can be changed.
const ROUNDS: usize = 3;

/// Makes everything as a file says.
pub(super) async fn apply(client: &Client, command: Apply) -> Outcome {
    let path = &command.file;
    let wanted = read(path)?;
    let look = async || {
        let found = found::look(client, &wanted).await?;
        plan::apply(&wanted, &found).map_err(|why| Error::Local(format!("{}: {why}", path.display())))
    };
    let mut plan = look().await?;
    if plan.lines.is_empty() {
        let (networks, containers) =
            (count(wanted.networks.len(), "network"), count(wanted.containers.len(), "container"));
        output::lines([format!(
            "{}: nothing to do, {networks} and {containers} are as they are wanted",
            wanted.project
        )])?;
        return Ok(ExitCode::SUCCESS);
    }
    if !confirmed(&plan, &wanted.project, command.dry_run, command.yes)? {
        return Ok(ExitCode::SUCCESS);
    }
    for _ in 0..ROUNDS {
        converge::run(client, &plan.steps).await?;
        plan = look().await?;
        if plan.lines.is_empty() {
            output::lines([format!("{}: done", wanted.project)])?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let still: Vec<_> =
        plan.lines.iter().map(|line| format!("{} ({})", line.object, line.details.join(", "))).collect();
    Err(Error::Local(format!("not everything is as {} wants it: {}", path.display(), still.join("; "))))
}

/// Removes everything that a file has made.
pub(super) async fn down(client: &Client, command: Down) -> Outcome {
    let wanted = read(&command.file)?;
    let plan = plan::down(&wanted, &found::look(client, &wanted).await?);
    if plan.lines.is_empty() {
        output::lines([format!("{}: nothing to do, nothing of it is there", wanted.project)])?;
        return Ok(ExitCode::SUCCESS);
    }
    if confirmed(&plan, &wanted.project, command.dry_run, command.yes)? {
        converge::run(client, &plan.steps).await?;
        output::lines([format!("{}: done", wanted.project)])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Wanted, Error> {
    let file = file::read(path)?;
    wanted::wanted(file).map_err(|why| Error::Local(format!("{}: {why}", path.display())))
}

/// Shows the plan, and whether it is to be done.
fn confirmed(plan: &Plan, project: &str, dry_run: bool, yes: bool) -> Result<bool, Error> {
    output::print_styled(&shown(&plan.lines))?;
    if dry_run || yes {
        return Ok(!dry_run);
    }
    output::confirm(&format!("Do this to {project}?"), "--yes, or --dry-run to see the plan alone")
}

/// The plan for people: a mark and an object each, with the details below.
fn shown(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let (mark, colour) = match line.mark {
            Mark::Create => ('+', AnsiColor::Green),
            Mark::Change => ('~', AnsiColor::Yellow),
            Mark::Remove => ('-', AnsiColor::Red),
        };
        let style = Style::new().fg_color(Some(colour.into()));
        let _ = writeln!(text, "{style}{mark} {}{style:#}", line.object);
        line.details.iter().for_each(|detail| _ = writeln!(text, "    {detail}"));
    }
    let many = |mark| lines.iter().filter(|line| line.mark == mark).count();
    let (made, changed, removed) = (many(Mark::Create), many(Mark::Change), many(Mark::Remove));
    let _ = writeln!(text, "{made} to make, {changed} to change, {removed} to remove");
    text
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}
