//! What can go wrong on the client's side, each in one sentence.

use std::path::PathBuf;

use axum::http::StatusCode;

use crate::api::socket::GROUP;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nobody listens on the socket.
    #[error("cannot reach the agent at {}: is it running? start it with `sudo spandrel agent`", .0.display())]
    Unreachable(PathBuf),
    /// We may not use the socket.
    #[error("permission denied on the agent's socket {}: use sudo, or join the group {GROUP}", .0.display())]
    Denied(PathBuf),
    /// The agent said no.
    #[error("{message}")]
    Refused {
        /// Docker's status code.
        status: StatusCode,
        /// The agent's sentence.
        message: String,
    },
    /// The connection broke before the answer was complete.
    #[error("lost the connection to the agent at {}: {cause}", .socket.display())]
    Lost {
        /// The agent's socket.
        socket: PathBuf,
        /// What the connection's end looked like.
        cause: String,
    },
    /// Something on our own side.
    #[error("{0}")]
    Local(String),
}

impl Error {
    /// Whether the agent does not know the call: it is older than we are.
    pub(super) fn is_unknown_call(&self) -> bool {
        let Error::Refused { status, message } = self else { return false };
        matches!(*status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
            && message.starts_with("there is no call")
    }

    /// Whether the agent does not know the object.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused { status: StatusCode::NOT_FOUND, .. })
    }
}
