//! Threads for entering namespaces: what a thread enters ends with it, and its panics are the caller's.

use std::panic::resume_unwind;
use std::thread;

/// Runs `work` on a thread of its own and waits for it.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panicked| resume_unwind(panicked)))
}
