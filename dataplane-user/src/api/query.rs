//! Query strings: Docker's parameters are all optional, and truth has several spellings there.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::agent::LogWish;
use crate::model::{Error, Result};

/// The parameters of all our calls; each call reads those that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Query {
    /// Containers of every state, not only running ones.
    pub(super) all: String,
    /// A container by id, name or prefix of its id.
    pub(super) container: String,
    /// Which of the list's objects to show, as JSON.
    pub(super) filters: String,
    /// Remove a container that runs.
    pub(super) force: String,
    /// Seconds until a container that does not stop is killed; a negative number means never.
    pub(super) t: String,
    /// A signal by name or number.
    pub(super) signal: String,
    /// A container's new name.
    pub(super) name: String,
    /// Of a log: standard output.
    pub(super) stdout: String,
    /// Of a log: standard error.
    pub(super) stderr: String,
    /// Of a log: what comes, too.
    pub(super) follow: String,
    /// Of a log: each line with its time.
    pub(super) timestamps: String,
    /// Of a log: so many lines at its end, or `all`.
    pub(super) tail: String,
    /// Of a log: from this moment on.
    pub(super) since: String,
    /// Of a log: up to this moment.
    pub(super) until: String,
}

impl Query {
    /// How long a container may take to stop, if the client cares.
    pub(super) fn timeout(&self) -> Result<Option<Duration>> {
        if self.t.is_empty() {
            return Ok(None);
        }
        let seconds: i64 = self
            .t
            .parse()
            .map_err(|_| Error::Invalid(format!("invalid time to wait {:?}: seconds are expected", self.t)))?;
        // A negative time is "as long as it takes".
        Ok(Some(u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs)))
    }
}

impl Query {
    /// What somebody wants to see of a log.
    pub(super) fn logs(&self) -> Result<LogWish> {
        let tail = match self.tail.as_str() {
            "" | "all" => None,
            number => Some(number.parse().map_err(|_| {
                Error::Invalid(format!("invalid number of lines {number:?}: a number or \"all\" is expected"))
            })?),
        };
        let wish = LogWish {
            stdout: truth(&self.stdout),
            stderr: truth(&self.stderr),
            since: moment(&self.since)?.filter(|since| *since != Timestamp::UNIX_EPOCH),
            until: moment(&self.until)?.filter(|until| *until != Timestamp::UNIX_EPOCH),
            tail,
            follow: truth(&self.follow),
        };
        if !wish.stdout && !wish.stderr {
            return Err(Error::Invalid("Bad parameters: you must choose at least one stream".into()));
        }
        Ok(wish)
    }
}

/// A moment as Docker's clients send it: in seconds since 1970 with or without a fraction, as RFC 3339 writes it, by the
/// host's clock without an offset, or as a duration before now. Nothing is no moment.
pub(super) fn moment(text: &str) -> Result<Option<Timestamp>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanoseconds = format!("{fraction:0<9}");
    let moment = match (seconds.parse(), nanoseconds.parse()) {
        (Ok(seconds), Ok(nanoseconds)) => Timestamp::new(seconds, nanoseconds).ok(),
        _ => text.parse().ok().or_else(|| local(text)).or_else(|| before_now(text)),
    };
    moment.map(Some).ok_or_else(|| {
        Error::Invalid(format!(
            "invalid moment {text:?}: seconds since 1970 or such as 2026-01-02T13:23:37Z or 1h30m are expected"
        ))
    })
}

fn local(text: &str) -> Option<Timestamp> {
    let moment: DateTime = text.parse().ok()?;
    Some(moment.to_zoned(TimeZone::system()).ok()?.timestamp())
}

fn before_now(text: &str) -> Option<Timestamp> {
    let duration: SignedDuration = text.parse().ok()?;
    Timestamp::now().checked_sub(duration).ok()
}

/// Whether a parameter says yes, by Docker's rule: everything but these spellings does.
pub(super) fn truth(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_wait() {
        let timeout = |t: &str| Query { t: t.into(), ..Default::default() }.timeout();
        assert_eq!(timeout("").unwrap(), None);
        assert_eq!(timeout("3").unwrap(), Some(Duration::from_secs(3)));
        assert_eq!(timeout("-1").unwrap(), Some(Duration::MAX));
        assert!(timeout("soon").is_err());
    }

    #[test]
    fn moments() {
        for (text, shown) in [
            ("1136073600", "2006-01-01T00:00:00Z"),
            ("1136073600.5", "2006-01-01T00:00:00.5Z"),
            ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
            ("2026-01-02T13:23:37Z", "2026-01-02T13:23:37Z"),
        ] {
            assert_eq!(moment(text).unwrap().unwrap().to_string(), shown);
        }
        assert_eq!((moment("").unwrap(), moment("0").unwrap()), (None, Some(Timestamp::UNIX_EPOCH)));
        let day = moment("2026-01-02").unwrap().unwrap();
        assert_eq!(day, moment("2026-01-02T00:00:00").unwrap().unwrap());
        let before = moment("1h30m").unwrap().unwrap();
        let ago = Timestamp::now().duration_since(before).as_secs();
        assert!((5400..5460).contains(&ago), "{ago}");
        assert!(moment("soon").is_err() && moment("1.x").is_err());
    }

    #[test]
    fn wishes_for_a_log() {
        let query = |tail: &str, stdout: &str| Query { tail: tail.into(), stdout: stdout.into(), ..Default::default() };
        assert_eq!(query("all", "1").logs().unwrap().tail, None);
        assert_eq!(query("5", "1").logs().unwrap().tail, Some(5));
        assert!(query("-5", "1").logs().unwrap_err().to_string().contains("\"-5\""));
        assert!(query("", "").logs().unwrap_err().to_string().contains("at least one stream"));
    }

    #[test]
    fn truth_has_several_spellings() {
        for yes in ["1", "true", "True", "yes", "on"] {
            assert!(truth(yes), "{yes}");
        }
        for no in ["", "0", "false", "False", "no", "none", " "] {
            assert!(!truth(no), "{no:?}");
        }
    }
}
