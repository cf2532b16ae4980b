//! How a set-up fails: with a sentence, at the line of the scenario that asked for it.

use std::fmt::Display;

/// A result that has to be good.
pub(crate) trait OrFail<T> {
    /// The value; or else the test fails with "cannot WHAT: ERROR", where `what` says what was being done and to whom.
    #[track_caller]
    fn or_fail(self, what: impl Display) -> T;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self, what: impl Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("cannot {what}: {error}"),
        }
    }
}
