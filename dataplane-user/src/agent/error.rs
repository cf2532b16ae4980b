//! From what went wrong in the kernel to what a user is told.

use crate::kernel;
use crate::kernel::dataplane::DataplaneError;
use crate::model::Error;

impl From<kernel::Error> for Error {
    fn from(error: kernel::Error) -> Self {
        let text = error.to_string();
        match error {
            kernel::Error::PortTaken { .. } | kernel::Error::ForeignLink { .. } => Error::Conflict(text),
            kernel::Error::CommandNotFound { .. }
            | kernel::Error::CommandNotExecutable { .. }
            | kernel::Error::NoSuchDirectory(_) => Error::Invalid(text),
            _ => Error::Internal(text),
        }
    }
}

impl From<DataplaneError> for Error {
    fn from(error: DataplaneError) -> Self {
        Error::Internal(error.to_string())
    }
}

/// Collects what goes wrong on the way while the rest is still done.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<String>);

impl Troubles {
    /// Notes the error, if it is one.
    pub(super) fn note<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.0.push(error.to_string())).ok()
    }

    /// Adds another collection.
    pub(super) fn extend(&mut self, other: Troubles) {
        self.0.extend(other.0);
    }

    /// Adds what went wrong to an error that is being reported anyway.
    pub(super) fn onto(self, error: Error) -> Error {
        self.0.into_iter().fold(error, |error, trouble| error.and(trouble))
    }

    /// Whether all went well.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An error if anything went wrong.
    pub(super) fn into_result(self) -> Result<(), Error> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Error::Internal(self.0.join("; "))),
        }
    }

    /// Writes it to the log, where nobody is there to be told.
    pub(super) fn log(self, doing: &str) {
        for trouble in self.0 {
            tracing::error!("{doing}: {trouble}");
        }
    }
}
