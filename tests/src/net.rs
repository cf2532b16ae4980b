//! A network namespace, and how to do something inside it.
//!
//! Sockets belong to the namespace that they were opened in, not to the thread: the probes ([`crate::probe`]) open them
//! on a thread that has entered the namespace, and use them from anywhere.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use nix::sched::{CloneFlags, setns};

use crate::fail::OrFail;
use crate::thread::on_thread;

/// How long something that should happen may take on a busy machine, be it an emulated one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing has to happen before it counts as silence.
pub const SILENCE: Duration = Duration::from_secs(1);

/// A network namespace. Hosts, outside machines and containers all are one.
#[derive(Clone)]
pub struct Net {
    name: Arc<str>,
    namespace: Arc<File>,
    patience: Duration,
}

impl Net {
    /// Opens the namespace behind `path`, a bind mount or a `/proc/<pid>/ns/net`; `name` is for messages.
    pub fn open(name: &str, path: &Path) -> io::Result<Self> {
        Ok(Self { name: name.into(), namespace: File::open(path)?.into(), patience: PATIENCE })
    }

    /// The name, as messages show it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long its probes wait for an answer.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The same namespace, whose probes give up after [`SILENCE`]: for answers that should not come.
    #[must_use]
    pub fn briefly(&self) -> Self {
        Self { patience: SILENCE, ..self.clone() }
    }

    /// Runs `work` on a thread inside the namespace and waits for it.
    #[track_caller]
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = on_thread(|| setns(&*self.namespace, CloneFlags::CLONE_NEWNET).map(|()| work()));
        entered.or_fail(format_args!("enter the network namespace of {}", self.name))
    }

    /// A file of `/proc/net` as this namespace shows it.
    #[track_caller]
    pub fn proc_net(&self, file: &str) -> io::Result<String> {
        // /proc/net itself would lead to the namespace of the process's first thread.
        self.run(|| fs::read_to_string(Path::new("/proc/thread-self/net").join(file)))
    }

    /// Sets a value below `/proc/sys/net`, such as `ipv4/ip_forward`.
    #[track_caller]
    pub fn set_sysctl(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(name);
        self.run(|| fs::write(&path, value)).or_fail(format_args!(
            "write {value} to {} in {}",
            path.display(),
            self.name
        ));
    }

    pub(crate) fn namespace(&self) -> &File {
        &self.namespace
    }
}
