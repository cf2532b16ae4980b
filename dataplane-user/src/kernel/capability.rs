//! Whether this process and this kernel can do what the agent needs, told before anything is touched.

use std::fs;
use std::path::Path;

use super::error::{Context, Error, Result};

/// Number, name and purpose of each capability that the agent uses (`linux/capability.h`).
const NEEDED: [(u32, &str, &str); 9] = [
    (12, "CAP_NET_ADMIN", "to make interfaces"),
    (39, "CAP_BPF", "to load eBPF programs"),
    (21, "CAP_SYS_ADMIN", "to make namespaces"),
    (19, "CAP_SYS_PTRACE", "to hand a terminal to a container"),
    (13, "CAP_NET_RAW", "to announce the addresses of containers"),
    (10, "CAP_NET_BIND_SERVICE", "to hold host ports below 1024"),
    (18, "CAP_SYS_CHROOT", "to enter the mount namespaces of containers"),
    (5, "CAP_KILL", "to end what containers run as other users"),
    (0, "CAP_CHOWN", "to give its socket to the group spandrel"),
];

/// The oldest kernel that has everything the data plane uses.
const OLDEST: (u32, u32) = (6, 1);

/// Checks the effective capabilities of this process; the error names the first that is missing.
pub fn check_capabilities() -> Result<()> {
    let status = fs::read_to_string("/proc/thread-self/status").to(|| "read /proc/thread-self/status")?;
    let effective =
        effective(&status).ok_or_else(|| Error::Missing("/proc/thread-self/status shows no capabilities".into()))?;
    match missing(effective) {
        None => Ok(()),
        Some((name, purpose)) => Err(Error::Missing(format!(
            "the agent lacks the capability {name} {purpose}, start it as root (sudo spandrel agent)"
        ))),
    }
}

/// Checks the version of the running kernel, and that it describes its own types (BTF); the error says what is missing.
pub fn check_kernel() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").to(|| "read /proc/sys/kernel/osrelease")?;
    check_release(release.trim())?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(Error::Missing(
            "this kernel has no /sys/kernel/btf/vmlinux, one built with CONFIG_DEBUG_INFO_BTF is needed".into(),
        ));
    }
    Ok(())
}

fn check_release(release: &str) -> Result<()> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        let (major, minor) = OLDEST;
        return Err(Error::Missing(format!(
            "this kernel is {release}, which is too old: {major}.{minor} or newer is needed"
        )));
    }
    Ok(())
}

/// The bits of the line `CapEff` of a `/proc/<pid>/status`.
fn effective(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

/// The first needed capability that is not among `effective`.
fn missing(effective: u64) -> Option<(&'static str, &'static str)> {
    let has = |number: u32| effective & (1 << number) != 0;
    // CAP_SYS_ADMIN includes what CAP_BPF was split off it for.
    let satisfied = |number, name| has(number) || (name == "CAP_BPF" && has(21));
    NEEDED.iter().find(|(number, name, _)| !satisfied(*number, *name)).map(|(_, name, purpose)| (*name, *purpose))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        assert_eq!(missing(u64::MAX), None);
        assert_eq!(missing(0).unwrap().0, "CAP_NET_ADMIN");
        assert_eq!(missing(!(1 << 39)), None);
        assert_eq!(missing(!(1 << 19)).unwrap().0, "CAP_SYS_PTRACE");
        assert_eq!(missing(1 << 12).unwrap().0, "CAP_BPF");
        assert_eq!(missing(1 << 12 | 1 << 39).unwrap().0, "CAP_SYS_ADMIN");
    }

    #[test]
    fn reads_the_effective_set() {
        assert_eq!(effective("Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t00000000a80425fb\n"), Some(0xa804_25fb));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn tells_old_kernels() {
        for good in ["6.1.0-18-amd64", "6.18.44", "7.0-rc1"] {
            check_release(good).unwrap();
        }
        let error = check_release("5.15.0-91-generic").unwrap_err().to_string();
        assert!(error.contains("5.15.0-91-generic") && error.contains("6.1"), "{error}");
        check_release("nonsense").unwrap_err();
    }

    #[test]
    fn this_machine_will_do() {
        check_capabilities().unwrap();
        check_kernel().unwrap();
    }
}
