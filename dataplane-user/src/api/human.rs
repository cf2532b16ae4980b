//! Durations and states in words, as Docker's tables show them.

use jiff::{SignedDuration, Timestamp};

use crate::model::State;

/// A duration in words: `5 seconds`, `About a minute`, `3 weeks`. A negative one is nothing yet.
pub fn duration(duration: SignedDuration) -> String {
    const DAY: i64 = 24;
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 30 * 60) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 2 * DAY => format!("{hours} hours"),
        () if hours < 14 * DAY => format!("{} days", hours / DAY),
        () if hours < 60 * DAY => format!("{} weeks", hours / DAY / 7),
        () if hours < 2 * 365 * DAY => format!("{} months", hours / DAY / 30),
        () => format!("{} years", seconds / 3600 / DAY / 365),
    }
}

/// How long ago a moment was: `5 seconds ago`.
pub fn ago(moment: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.duration_since(moment)))
}

/// A container's state: `Up 5 seconds`, `Exited (0) 3 minutes ago`, `Created`.
pub fn status(state: &State, now: Timestamp) -> String {
    match state {
        State::Created => "Created".into(),
        State::Running { started, .. } => {
            format!("Up {}", duration(now.duration_since(*started)))
        }
        State::Exited { code, finished, .. } => format!("Exited ({code}) {}", ago(*finished, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 60 * MINUTE;
        const DAY: i64 = 24 * HOUR;
        for (seconds, text) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (3 * MINUTE, "3 minutes"),
            (35 * MINUTE, "35 minutes"),
            (35 * MINUTE + 40, "35 minutes"),
            (59 * MINUTE + 59, "59 minutes"),
            (60 * MINUTE, "About an hour"),
            (HOUR + 29 * MINUTE, "About an hour"),
            (HOUR + 31 * MINUTE, "2 hours"),
            (HOUR + 59 * MINUTE, "2 hours"),
            (3 * HOUR + 25 * MINUTE, "3 hours"),
            (24 * HOUR, "24 hours"),
            (DAY + 12 * HOUR, "36 hours"),
            (2 * DAY, "2 days"),
            (7 * DAY, "7 days"),
            (13 * DAY + 5 * HOUR, "13 days"),
            (14 * DAY, "2 weeks"),
            (20 * DAY, "2 weeks"),
            (27 * DAY, "3 weeks"),
            (31 * DAY, "4 weeks"),
            (60 * DAY, "2 months"),
            (23 * 30 * DAY + DAY, "23 months"),
            (729 * DAY, "24 months"),
            (24 * 31 * DAY, "2 years"),
        ] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), text, "{seconds} s");
        }
    }

    #[test]
    fn states_read_as_dockers() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let started = at(1_000);
        assert_eq!(status(&State::Created, at(1_005)), "Created");
        let running = State::Running { pid: 7, started };
        assert_eq!(status(&running, at(1_005)), "Up 5 seconds");
        let exited = State::Exited { code: 3, started, finished: at(1_010) };
        assert_eq!(status(&exited, at(1_190)), "Exited (3) 3 minutes ago");
    }
}
