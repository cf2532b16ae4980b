//! `spandrel logs`.

use std::io;
use std::process::ExitCode;

use jiff::Timestamp;

use super::args::container::Logs;
use super::client::{Client, segment};
use super::{Outcome, moment, output};
use crate::api::STDERR;

/// Prints a container's log, output to output and errors to errors.
pub(super) async fn run(client: &Client, command: Logs) -> Outcome {
    let mut path = format!(
        "/containers/{}/logs?stdout=1&stderr=1&tail={}&follow={}&timestamps={}",
        segment(&command.container),
        segment(&command.tail),
        u8::from(command.follow),
        u8::from(command.timestamps)
    );
    for (name, when) in [("since", &command.since), ("until", &command.until)] {
        if let Some(when) = when {
            path += &format!("&{name}={}", segment(&moment::parse(name, when, Timestamp::now())?));
        }
    }
    let mut pieces = client.pieces(&path).await?;
    while let Some((stream, text)) = pieces.next().await? {
        let read = match stream {
            STDERR => output::write(&mut io::stderr(), &text)?,
            _ => output::write(&mut io::stdout(), &text)?,
        };
        if !read {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
