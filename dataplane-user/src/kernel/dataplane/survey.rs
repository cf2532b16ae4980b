//! Looking at what is pinned and attached without opening the data plane: for who has no agent, or does not trust it.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::{SchedClassifier, tc::TcAttachType};
use dataplane_common::layout;

use super::attach;
use super::error::DataplaneError;
use super::programs::FRESH;

/// What runs on the packets that come in at an interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ingress {
    /// Whether one of our programs does.
    pub ours: bool,
    /// Other people's programs that see packets before ours, by name; one without a name by its number.
    pub before: Vec<String>,
}

/// Asks the kernel for the TCX programs of an interface; `None` where it has no TCX, or there is no such interface.
pub fn ingress(interface: &str) -> Option<Ingress> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress).ok()?;
    let mut found = Ingress::default();
    for program in programs {
        let name = program.name_as_str().unwrap_or_default();
        // The kernel keeps 15 characters of a name.
        if attach::UPLINK.iter().any(|hook| hook.is(name)) {
            found.ours = true;
            break;
        }
        found.before.push(if name.is_empty() { format!("program {}", program.id()) } else { name.to_owned() });
    }
    Some(found)
}

/// What is pinned below `bpffs` and belongs to no agent of this version: everything of other versions' layouts, and, unless an agent is
/// just starting, programs that one had not finished loading.
pub fn leftover_pins(bpffs: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(bpffs).into_iter().flatten().flatten();
    let own = format!("v{}", layout::VERSION);
    let number = |name: &str| name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    let mut found: Vec<_> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| number(name) && name != own))
        .map(|entry| entry.path())
        .collect();
    found.extend(Some(bpffs.join(own).join("programs").join(FRESH)).filter(|path| path.exists()));
    found.sort();
    found
}

/// Removes what [`leftover_pins`] has found: takes programs off their hooks, then removes all pins.
///
/// # Errors
///
/// A pin cannot be removed.
pub fn remove_pins(folder: &Path) -> Result<(), DataplaneError> {
    for link in fs::read_dir(folder.join("links")).into_iter().flatten().flatten() {
        attach::remove_link(&link.path())?;
    }
    fs::remove_dir_all(folder).map_err(|source| DataplaneError::Pin { path: folder.into(), source })
}

/// Whether a cgroup v2 hierarchy is mounted, by which the host's own processes reach published ports.
pub fn has_cgroups() -> bool {
    attach::cgroup_root().is_some()
}
