//! Who is at the other end of a connection.

use std::os::fd::OwnedFd;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use crate::kernel::process;
use crate::model::{Error, Result};

/// The process that opened a connection, as the kernel saw it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pid: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Peer { pid: stream.io().peer_cred().ok().and_then(|peer| peer.pid()) }
    }
}

impl Peer {
    /// Copies of the process's standard input, output and error.
    pub(super) fn stdio(self) -> Result<[OwnedFd; 3]> {
        let pid = self.pid.filter(|pid| *pid > 0).ok_or_else(|| {
            Error::Invalid(
                "cannot attach to the client's terminal: the client is in another PID namespace than the agent".into(),
            )
        })?;
        process::client_stdio(pid).map_err(|error| Error::internal("cannot attach to the client's terminal", error))
    }
}
