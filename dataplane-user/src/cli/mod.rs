//! The command line: a client of the API and nothing else, except for `agent` and `shim`, which are the
//! other side, and `doctor`, which looks for itself.

mod agent;
mod apply;
mod args;
mod attach;
mod client;
mod cni;
mod container;
mod doctor;
mod drops;
mod error;
mod events;
mod generate;
mod inspect;
mod join;
mod logs;
mod moment;
mod netavark;
mod network;
mod output;
mod plugin;
mod ports;
mod run;
mod signals;
mod template;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, DEFAULT_SOCKET, SOCKET_VARIABLE};
use client::Client;
use error::Error;

use crate::kernel::shim;

/// What a command ends with: its exit code, or one sentence.
type Outcome = Result<ExitCode, Error>;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    if cni::is_called() {
        return cni::main(&socket(None));
    }
    if netavark::is_called() {
        return netavark::called(&socket(None));
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        // Forks, so it has to come before any thread.
        Command::Shim { arguments } => return start_shim(&arguments),
        Command::Agent(options) => agent::run(options),
        Command::Cni => return cni::main(&socket(cli.socket)),
        Command::Netavark(command) => return netavark::main(&socket(cli.socket), command),
        Command::Completion(command) => generate::completion(&command),
        Command::Man(command) => generate::manual(&command),
        command => client_command(command, &socket(cli.socket)),
    };
    outcome.unwrap_or_else(|error| {
        output::complain(error);
        ExitCode::FAILURE
    })
}

/// The shim's arguments are the container's directory and a file descriptor.
fn start_shim(arguments: &[OsString]) -> ExitCode {
    match arguments {
        [directory, status] if let Some(status) = status.to_str().and_then(|text| text.parse().ok()) => {
            shim::main(Path::new(directory), status)
        }
        _ => {
            output::complain("the shim is started by the agent, not by hand");
            ExitCode::from(2)
        }
    }
}

/// The agent's socket: the flag, then the environment, then the usual place.
fn socket(flag: Option<PathBuf>) -> PathBuf {
    let variable = || std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    flag.or_else(variable).unwrap_or_else(|| DEFAULT_SOCKET.into())
}

fn client_command(command: Command, socket: &Path) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Local(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let client = Client::new(socket);
        match command {
            Command::Network(command) => network::run(&client, command).await,
            Command::Run(command) => run::run(&client, *command).await,
            Command::Exec(command) => run::exec(&client, command).await,
            Command::Ps(command) => container::ps(&client, command).await,
            Command::Port(command) => ports::port(&client, command).await,
            Command::Publish(command) => ports::publish(&client, command).await,
            Command::Unpublish(command) => ports::unpublish(&client, command).await,
            Command::Attach(command) => attach::attach(&client, *command).await,
            Command::Detach(command) => attach::detach(&client, command).await,
            Command::Start(command) => run::start(&client, command).await,
            Command::Stop(command) => container::stop(&client, command).await,
            Command::Restart(command) => container::restart(&client, command).await,
            Command::Rename(command) => container::rename(&client, command).await,
            Command::Logs(command) => logs::run(&client, command).await,
            Command::Rm(command) => container::rm(&client, command).await,
            Command::Inspect(command) => inspect::run(&client, command).await,
            Command::Apply(command) => apply::apply(&client, command).await,
            Command::Down(command) => apply::down(&client, command).await,
            Command::Drops(command) => drops::run(&client, command).await,
            Command::Doctor(command) => doctor::run(socket, command).await,
            Command::Plugin(command) => plugin::run(&client, command).await,
            Command::Events(command) => events::run(&client, command).await,
            Command::Agent(_)
            | Command::Cni
            | Command::Netavark(_)
            | Command::Completion(_)
            | Command::Man(_)
            | Command::Shim { .. } => unreachable!("handled without a client"),
        }
    })
}

/// What came of one of the objects that a command was given.
enum Done {
    /// Done, and its name is to be printed.
    Yes,
    /// There was nothing to do.
    Nothing,
}

/// Does one thing to each object, all at once, and prints the names of those for which it was done, in the
/// order in which they were given. Every failure is told; one is enough for exit code 1.
async fn for_each(references: &[String], work: impl AsyncFn(&str) -> Result<Done, Error>) -> Outcome {
    let mut code = ExitCode::SUCCESS;
    let results = futures_util::future::join_all(references.iter().map(|reference| work(reference))).await;
    for (reference, result) in references.iter().zip(results) {
        match result {
            Ok(Done::Yes) => output::lines([reference])?,
            Ok(Done::Nothing) => {}
            // The same sentence once for each object would help nobody.
            Err(error @ (Error::Unreachable(_) | Error::Denied(_))) => return Err(error),
            Err(error) => {
                output::complain(error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
