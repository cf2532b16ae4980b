//! The host that the agent runs on: the lock of the run directory, forwarding, resolvers, uplinks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::state::Agent;
use crate::dns::ResolvConf;
use crate::kernel::dataplane::{Device, Left, UplinkConfig};
use crate::kernel::sysctl;
use crate::kernel::uplink::{HostView, LinkType};
use crate::model::{Error, Result};

/// The host's list of resolvers.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Makes the run directory and takes its lock, which holds until it is dropped.
pub(super) fn lock(run_dir: &Path) -> Result<Flock<File>> {
    make_directory(run_dir)?;
    let path = run_dir.join("agent.lock");
    let failed = |error: std::io::Error| Error::internal(format_args!("cannot lock {}", path.display()), error);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // Only to tell a second agent whom it met.
            lock.set_len(0).map_err(failed)?;
            writeln!(lock, "{}", std::process::id()).map_err(failed)?;
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let by = match file.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!(" (process {})", pid.trim()),
                _ => String::new(),
            };
            Err(Error::Conflict(format!(
                "another agent{by} is running on {}: stop it, or give this one another --run-dir",
                run_dir.display()
            )))
        }
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// Whether an agent runs on that directory, answering or not; in doubt none does.
pub(super) fn is_locked(run_dir: &Path) -> bool {
    let Ok(file) = File::open(run_dir.join("agent.lock")) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Makes a directory that others can look into but not change.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| Error::internal(format_args!("cannot make the directory {}", path.display()), error))
}

/// The host's own name.
pub(super) fn name() -> Result<String> {
    let name = nix::unistd::gethostname().map_err(|errno| Error::internal("cannot read the host name", errno))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Addresses of the host's resolvers.
pub(super) fn resolvers() -> Vec<IpAddr> {
    let conf = ResolvConf::parse(&fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    conf.servers.into_iter().map(|server| server.address).collect()
}

impl Agent {
    /// Follows a change of the host's interfaces, addresses and routes.
    pub(super) fn host_changed(&mut self, view: HostView) {
        self.host = view;
        if let Err(error) = self.apply_host() {
            tracing::error!("following a change of the host: {error}");
        }
    }

    /// Tells the data plane about the host, and lets the host forward.
    pub(super) fn apply_host(&mut self) -> Result<()> {
        let uplinks: Vec<_> = self
            .host
            .uplinks
            .iter()
            .map(|uplink| UplinkConfig {
                name: uplink.name.clone(),
                ifindex: uplink.ifindex,
                ipv4: uplink.ipv4,
                ipv6: uplink.ipv6,
                mtu: uplink.mtu,
                inside: uplink.inside,
                device: match uplink.link_type {
                    LinkType::Ip => Device::Opaque,
                    LinkType::Ethernet if uplink.has_vlans => Device::Opaque,
                    LinkType::Ethernet if uplink.hardware => Device::Hardware,
                    LinkType::Ethernet => Device::Virtual,
                },
            })
            .collect();
        self.dataplane.set_local_addresses(&self.host.local_addresses)?;
        self.dataplane.set_uplinks(&uplinks)?;
        self.dataplane.routes_changed()?;
        self.enable_forwarding()
    }

    /// The slow path forwards with the host's stack. A host that forwards no longer listens to router
    /// advertisements unless told to, and would lose its own default route.
    fn enable_forwarding(&self) -> Result<()> {
        for uplink in &self.host.uplinks {
            let accept_ra = ["net", "ipv6", "conf", uplink.name.as_str(), "accept_ra"];
            if sysctl::get(&accept_ra).is_ok_and(|value| value == "1") {
                sysctl::set(&accept_ra, "2")?;
            }
        }
        sysctl::set(&["net", "ipv4", "ip_forward"], "1")?;
        sysctl::set_if_present(&["net", "ipv6", "conf", "all", "forwarding"], "1")?;
        Ok(())
    }

    /// Sweeps ended flows out of the flow tables; tells what is left.
    pub(super) fn collect_garbage(&mut self) -> Left {
        self.dataplane.sweep().unwrap_or_else(|error| {
            tracing::warn!("sweeping the flow tables: {error}");
            Left::Flows
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_on_a_run_directory() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("a/b");
        assert!(!is_locked(&run));
        let first = lock(&run).unwrap();
        assert!(is_locked(&run));
        let error = lock(&run).unwrap_err().to_string();
        assert!(error.starts_with(&format!("another agent (process {}) is running on", std::process::id())), "{error}");
        drop(first);
        lock(&run).unwrap();
    }
}
