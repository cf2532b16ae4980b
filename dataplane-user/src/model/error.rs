//! The one error that users see: a sentence and what kind of mistake it was.

/// Result with the user-visible error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of mistake it was; the API turns it into an HTTP status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such thing (404).
    NotFound,
    /// It clashes with what exists (409).
    Conflict,
    /// Known, but not allowed (403).
    Forbidden,
    /// The request itself is wrong (400).
    Invalid,
    /// Something failed on our side (500).
    Internal,
}

/// A failure told in one sentence: what, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such network, container, ...
    #[error("{0}")]
    NotFound(String),
    /// A name, address or port is taken.
    #[error("{0}")]
    Conflict(String),
    /// Not allowed in this state or for this object.
    #[error("{0}")]
    Forbidden(String),
    /// Malformed or contradictory input.
    #[error("{0}")]
    Invalid(String),
    /// The kernel, the disk or the agent itself failed.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The kind without the sentence.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::Conflict(_) => ErrorKind::Conflict,
            Error::Forbidden(_) => ErrorKind::Forbidden,
            Error::Invalid(_) => ErrorKind::Invalid,
            Error::Internal(_) => ErrorKind::Internal,
        }
    }

    /// The same kind of error with `extra` told after the sentence.
    pub fn and(self, extra: impl std::fmt::Display) -> Self {
        let text = format!("{self}; {extra}");
        match self {
            Error::NotFound(_) => Error::NotFound(text),
            Error::Conflict(_) => Error::Conflict(text),
            Error::Forbidden(_) => Error::Forbidden(text),
            Error::Invalid(_) => Error::Invalid(text),
            Error::Internal(_) => Error::Internal(text),
        }
    }

    /// An internal error from any other one, with what was being done.
    pub fn internal(doing: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Error::Internal(format!("{doing}: {error}"))
    }
}
