//! What `--since` and `--until` take.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::error::Error;

/// A moment as the agent reads it: given as such, by the local clock, or by how long it is ago.
pub(super) fn parse(flag: &str, text: &str, now: Timestamp) -> Result<String, Error> {
    let seconds = text.parse::<f64>().is_ok_and(|seconds| seconds >= 0.0);
    if seconds || text.parse::<Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok();
    let ago = || now.checked_sub(text.parse::<SignedDuration>().ok()?).ok();
    let moment = local().map(|moment| moment.timestamp()).or_else(ago);
    moment.map(|moment| moment.to_string()).ok_or_else(|| {
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
        let moment = |text| parse("since", text, now).map_err(|error| error.to_string());
        assert_eq!(moment("10m").unwrap(), "2026-01-02T13:13:37Z");
        assert_eq!(moment("1h30m").unwrap(), "2026-01-02T11:53:37Z");
        assert_eq!(moment("-1s").unwrap(), "2026-01-02T13:23:38Z");
        assert_eq!(moment("1136073600.5").unwrap(), "1136073600.5");
        assert_eq!(moment("2026-01-02T13:23:37Z").unwrap(), "2026-01-02T13:23:37Z");
        assert_eq!(moment("2026-01-02").unwrap(), moment("2026-01-02T00:00:00").unwrap());
        for wrong in ["soon", "", "-", "yesterday"] {
            assert!(moment(wrong).unwrap_err().contains("--since"), "{wrong}");
        }
    }
}
