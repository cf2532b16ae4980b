//! What can go wrong between the agent and the kernel, a sentence each.

use std::io;
use std::path::PathBuf;

use super::ports::{Holder, HostPort};

/// Result of everything in this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the kernel, or what stands in it, did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or netlink request failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried, to follow the word "cannot".
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A host port is taken by somebody else.
    #[error("failed to bind host port {port}: address already in use by {}", holder_text(.holder))]
    PortTaken {
        /// The port that was asked for.
        port: HostPort,
        /// Who has it, where that could be found out.
        holder: Option<Holder>,
    },
    /// An interface of that name exists and is not ours to change.
    #[error(
        "interface {name} exists already and is a {kind} that this agent did not make, choose another name or remove it"
    )]
    ForeignLink {
        /// The interface.
        name: String,
        /// Its kind in rtnetlink's words, such as `bridge` or `veth`; `device` where it has none.
        kind: String,
    },
    /// The command to start does not exist.
    #[error("exec: {command:?}: {}", not_found(.command))]
    CommandNotFound {
        /// The command as it was given.
        command: String,
    },
    /// The command to start is there but may not be executed.
    #[error("exec: {command:?}: permission denied, it is not an executable file")]
    CommandNotExecutable {
        /// The command as it was given.
        command: String,
    },
    /// The working directory of the command does not exist.
    #[error("working directory {0:?} does not exist")]
    NoSuchDirectory(PathBuf),
    /// The process or the kernel lacks what the agent cannot do without.
    #[error("{0}")]
    Missing(String),
    /// Anything else; the text is the sentence.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// An [`Error::Io`] for `action`, from the error number that the last system call left.
    pub(super) fn last(action: impl Into<String>) -> Self {
        Self::io(action, io::Error::last_os_error())
    }

    /// An [`Error::Io`] for `action`.
    pub(super) fn io(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { action: action.into(), source: source.into() }
    }

    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Says what was being done when a system call failed.
pub(super) trait Context<T> {
    /// Turns the error into [`Error::Io`]; `action` follows the word "cannot".
    fn to<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn to<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::io(action(), error))
    }
}

fn not_found(command: &str) -> &'static str {
    if command.contains('/') { "no such file or directory" } else { "executable file not found in $PATH" }
}

fn holder_text(holder: &Option<Holder>) -> String {
    match holder {
        Some(holder) => holder.to_string(),
        None => "another process".to_owned(),
    }
}
