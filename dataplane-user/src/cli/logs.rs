//! `spandrel logs`.

use std::io::{self, Write};
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};

use super::Outcome;
use super::args::container::Logs;
use super::client::{Client, segment};
use super::error::Error;
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
            path += &format!("&{name}={}", segment(&moment(name, when, Timestamp::now())?));
        }
    }
    let mut pieces = client.pieces(&path).await?;
    while let Some((stream, text)) = pieces.next().await? {
        let written = match stream {
            STDERR => io::stderr().write_all(&text),
            _ => io::stdout().write_all(&text).and_then(|()| io::stdout().flush()),
        };
        match written {
            // A reader that has seen enough is no error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            result => result.map_err(|error| Error::Local(format!("cannot write the log: {error}")))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A moment, given as such or by how long it is ago.
fn moment(flag: &str, text: &str, now: Timestamp) -> Result<String, Error> {
    let seconds = text.parse::<f64>().is_ok_and(|seconds| seconds >= 0.0);
    if seconds || text.parse::<Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    let ago = text.parse::<SignedDuration>().ok().and_then(|ago| now.checked_sub(ago).ok());
    ago.map(|moment| moment.to_string()).ok_or_else(|| {
        Error::Local(format!(
            "invalid --{flag} {text:?}: a moment such as 2026-01-02T13:23:37Z or a while such as 10m is expected"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_given_or_so_long_ago() {
        let now = "2026-01-02T13:23:37Z".parse().unwrap();
        let moment = |text| moment("since", text, now).map_err(|error| error.to_string());
        assert_eq!(moment("10m").unwrap(), "2026-01-02T13:13:37Z");
        assert_eq!(moment("1h30m").unwrap(), "2026-01-02T11:53:37Z");
        assert_eq!(moment("1136073600.5").unwrap(), "1136073600.5");
        assert_eq!(moment("2026-01-02T13:23:37Z").unwrap(), "2026-01-02T13:23:37Z");
        for wrong in ["soon", "", "-", "yesterday"] {
            assert!(moment(wrong).unwrap_err().contains("--since"), "{wrong}");
        }
    }
}
