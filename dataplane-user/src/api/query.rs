//! Query strings, one type for the calls that read the same parameters. Docker's are all optional, and truth has several
//! spellings there.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::convert;
use crate::agent::LogWish;
use crate::model::{Error, Result};

/// Which of a list's objects are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Filtered {
    /// A JSON map from a filter's name to the values that match: `{"name":["web"]}`.
    #[param(example = r#"{"name":["front"]}"#)]
    pub(super) filters: String,
}

/// Which containers are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct ContainerList {
    /// Containers of every state, not only running ones.
    #[param(value_type = bool)]
    pub(super) all: String,
    /// So many of those created last, of every state.
    #[param(value_type = u32)]
    pub(super) limit: String,
    /// A JSON map from a filter's name to the values that match: `{"name":["web"]}`.
    #[param(example = r#"{"status":["running"]}"#)]
    pub(super) filters: String,
}

impl ContainerList {
    /// How many at most, if not all.
    pub(super) fn limit(&self) -> Result<Option<usize>> {
        match self.limit.as_str() {
            // What Docker's clients send for "all of them".
            "" | "0" | "-1" => Ok(None),
            number => number
                .parse()
                .map(Some)
                .map_err(|_| Error::Invalid(format!("invalid limit {number:?}: a number of containers is expected"))),
        }
    }
}

/// How a container is to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Ending {
    /// The signal that tells it to stop, by name, with or without `SIG`, or number; SIGTERM if it is left out.
    #[param(example = "TERM")]
    pub(super) signal: String,
    /// Seconds until a container that does not stop is killed; a negative number means never.
    #[param(value_type = i64, example = 1)]
    pub(super) t: String,
}

impl Ending {
    /// What tells a container to stop.
    pub(super) fn signal(&self) -> Result<i32> {
        if self.signal.is_empty() { Ok(libc::SIGTERM) } else { convert::signal(&self.signal) }
    }

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

/// A signal to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Signalled {
    /// A signal by name, with or without `SIG`, or number; SIGKILL if it is left out.
    #[param(example = "TERM")]
    pub(super) signal: String,
}

/// How a container is to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Removal {
    /// Also one that runs: it is killed.
    #[param(value_type = bool)]
    pub(super) force: String,
}

/// A container's new name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct NewName {
    /// The new name.
    #[param(required = true, example = "shop")]
    pub(super) name: String,
}

/// Whose ports are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct OfContainer {
    /// A container by id, name or unambiguous prefix of its id; all of them if it is left out.
    #[param(example = "web")]
    pub(super) container: String,
}

/// Which attached interfaces are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Attached {
    /// Those of one namespace: what its owner calls it, the container's name or id, or the namespace itself.
    #[param(example = "web")]
    pub(super) container: String,
    /// Those of this name.
    #[param(example = "eth0")]
    pub(super) interface: String,
    /// Those that this owner attached.
    pub(super) owner: String,
}

/// Which interfaces of one namespace are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct OfAttachment {
    /// The one of this name; all of them if it is left out.
    #[param(example = "eth0")]
    pub(super) interface: String,
    /// Those that this owner attached; whoever did if it is left out.
    pub(super) owner: String,
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Period {
    /// Also those from this moment on: in seconds since 1970, as RFC 3339 writes it, or a duration before now.
    #[param(example = "1h")]
    pub(super) since: String,
    /// Those up to this moment; without one the answer goes on for ever.
    #[param(example = "0s")]
    pub(super) until: String,
    /// A JSON map from a filter's name to the values that match: `{"type":["network"]}`.
    #[param(example = r#"{"type":["network"]}"#)]
    pub(super) filters: String,
}

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct LogPart {
    /// Standard output.
    #[param(value_type = bool, example = true)]
    pub(super) stdout: String,
    /// Standard error.
    #[param(value_type = bool)]
    pub(super) stderr: String,
    /// What comes, too.
    #[param(value_type = bool, example = false)]
    pub(super) follow: String,
    /// Each line with its time.
    #[param(value_type = bool)]
    pub(super) timestamps: String,
    /// So many lines at its end, or `all`.
    #[param(example = "10")]
    pub(super) tail: String,
    /// From this moment on: in seconds since 1970, as RFC 3339 writes it, or a duration before now.
    pub(super) since: String,
    /// Up to this moment.
    pub(super) until: String,
}

impl LogPart {
    /// What somebody wants to see of a log.
    pub(super) fn wish(&self) -> Result<LogWish> {
        let tail = match self.tail.as_str() {
            "" | "all" => None,
            number => Some(number.parse().map_err(|_| {
                Error::Invalid(format!("invalid number of lines {number:?}: a number or \"all\" is expected"))
            })?),
        };
        // Docker's clients send 0 for a moment that nobody has asked for.
        let asked_for = |moment: &Timestamp| *moment != Timestamp::UNIX_EPOCH;
        let wish = LogWish {
            stdout: truth(&self.stdout),
            stderr: truth(&self.stderr),
            since: moment(&self.since)?.filter(asked_for),
            until: moment(&self.until)?.filter(asked_for),
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
        let timeout = |t: &str| Ending { t: t.into(), ..Default::default() }.timeout();
        assert_eq!(timeout("").unwrap(), None);
        assert_eq!(timeout("3").unwrap(), Some(Duration::from_secs(3)));
        assert_eq!(timeout("-1").unwrap(), Some(Duration::MAX));
        assert!(timeout("soon").is_err());
        let signal = |signal: &str| Ending { signal: signal.into(), ..Default::default() }.signal();
        assert_eq!((signal("").unwrap(), signal("INT").unwrap()), (libc::SIGTERM, libc::SIGINT));
        assert!(signal("SHOUT").is_err());
    }

    #[test]
    fn limits() {
        let limit = |limit: &str| ContainerList { limit: limit.into(), ..Default::default() }.limit();
        assert_eq!((limit("").unwrap(), limit("-1").unwrap(), limit("2").unwrap()), (None, None, Some(2)));
        assert!(limit("few").is_err() && limit("-2").is_err());
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
        let query =
            |tail: &str, stdout: &str| LogPart { tail: tail.into(), stdout: stdout.into(), ..Default::default() };
        assert_eq!(query("all", "1").wish().unwrap().tail, None);
        assert_eq!(query("5", "1").wish().unwrap().tail, Some(5));
        assert!(query("-5", "1").wish().unwrap_err().to_string().contains("\"-5\""));
        assert!(query("", "").wish().unwrap_err().to_string().contains("at least one stream"));
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
