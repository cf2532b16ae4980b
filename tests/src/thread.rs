//! Threads: short ones that enter a namespace, and long ones that serve until they are no longer needed.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a server looks whether it should end, and how long one step of it may block.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Runs `work` on a thread of its own and waits for it: what a thread enters ends with it, and its panics are the
/// caller's.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panicked| resume_unwind(panicked)))
}

/// Binds a socket that takes the place of one just closed. Tests that run beside this one start processes, and between fork
/// and exec such a process has a copy of every socket: for a moment, a closed port is still taken.
pub(crate) fn patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => thread::sleep(TICK),
            done => return done,
        }
    }
}

/// A thread that repeats one step until this is dropped.
pub(crate) struct Background {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts it; `step` must return within about a [`TICK`].
    pub(crate) fn repeat(mut step: impl FnMut() + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                step();
            }
        });
        Self { end, thread: Some(thread) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed already.
            let _ = thread.join();
        }
    }
}
