//! How many files the agent may have open: each held port is one. What it starts gets the limit back that the agent was
//! started with, since programs may take a high one for their own measure (`select` knows 1,024, some close them all).

use std::io;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::error::{Context, Result};

/// Enough for all ports there can be, on a few addresses each.
const WANTED: u64 = 1 << 17;

/// What the agent was started with: soft and hard limit.
static INHERITED: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises the limit as far as we may.
pub fn raise_open_files() -> Result<()> {
    let action = || "raise the limit of open files";
    let now = getrlimit(Resource::RLIMIT_NOFILE).to(action)?;
    let (_, hard) = *INHERITED.get_or_init(|| now);
    let wanted = hard.max(WANTED);
    // Beyond the hard limit takes CAP_SYS_RESOURCE, and nobody gets beyond fs.nr_open.
    setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .to(action)
}

/// Gives the calling process the limit that the agent was started with. May be called between fork and exec.
pub(super) fn restore_open_files() -> io::Result<()> {
    match INHERITED.get() {
        Some(&(soft, hard)) => Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?),
        None => Ok(()),
    }
}

/// The limit, as it was when this was first asked for.
pub(super) fn open_files() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft))
}
