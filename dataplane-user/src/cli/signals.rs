//! The signals that a client in the foreground passes on to the command that it stands for.

use std::io;

use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::Error;

/// Signals that are caught from now on.
pub(super) struct Signals(Vec<(i32, Signal)>);

impl Signals {
    /// Begins to catch everything by which a user or a terminal addresses a command.
    pub(super) fn catch() -> Result<Self, Error> {
        let kinds = [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::window_change(),
        ];
        let catch = |kind: SignalKind| Ok((kind.as_raw_value(), signal(kind)?));
        let signals: io::Result<_> = kinds.into_iter().map(catch).collect();
        signals.map(Signals).map_err(|error| Error::Local(format!("cannot catch signals: {error}")))
    }

    /// The next signal's number.
    pub(super) async fn next(&mut self) -> i32 {
        let next = self.0.iter_mut().map(|(number, signal)| {
            Box::pin(async {
                match signal.recv().await {
                    Some(()) => *number,
                    // No more signals of this kind can come.
                    None => std::future::pending().await,
                }
            })
        });
        select_all(next).await.0
    }

    /// The next signal by which somebody wants something; a window that changes its size is not one.
    pub(super) async fn next_wish(&mut self) -> i32 {
        loop {
            match self.next().await {
                libc::SIGWINCH => {}
                signal => return signal,
            }
        }
    }
}
