//! Query strings: Docker's parameters are all optional, and truth has several spellings there.

use std::time::Duration;

use serde::Deserialize;

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
    fn truth_has_several_spellings() {
        for yes in ["1", "true", "True", "yes", "on"] {
            assert!(truth(yes), "{yes}");
        }
        for no in ["", "0", "false", "False", "no", "none", " "] {
            assert!(!truth(no), "{no:?}");
        }
    }
}
