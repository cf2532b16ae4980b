//! Kernel parameters under `/proc/sys`, addressed by their components, so that interface names with dots work.
//!
//! `/proc/sys/net` is that of the calling thread's network namespace; for another one use [`NetNs::run`](super::NetNs::run).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::error::{Context, Error, Result};

/// The value of a parameter, such as `get(&["net", "ipv4", "ip_forward"])`, without the white space around it.
pub fn get(path: &[&str]) -> Result<String> {
    let value = fs::read_to_string(file(path)?).to(|| format!("read sysctl {}", path.join("/")))?;
    Ok(value.trim().to_owned())
}

/// Sets a parameter. Returns whether it was something else before.
pub fn set(path: &[&str], value: &str) -> Result<bool> {
    let before = get(path)?;
    if before.split_whitespace().eq(value.split_whitespace()) {
        return Ok(false);
    }
    fs::write(file(path)?, value).to(|| format!("set sysctl {} to {value}", path.join("/")))?;
    Ok(true)
}

/// Like [`set`], but a parameter that this kernel does not have is no error (such as all of `net/ipv6` after `ipv6.disable=1`).
pub fn set_if_present(path: &[&str], value: &str) -> Result<bool> {
    match set(path, value) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result,
    }
}

/// Sets parameters that lie in one directory. Returns whether any was something else before. What this kernel does not have is no error, as
/// for [`set_if_present`].
///
/// The way to the directory is gone once: each look-up of `/proc/sys/net/ipv6` takes the longer the more namespaces have been there, since
/// they share a name and a place in the kernel's cache.
pub fn set_all_if_present(directory: &[&str], values: &[(&str, &str)]) -> Result<bool> {
    let name = |parameter: &str| format!("{}/{parameter}", directory.join("/"));
    let place = match File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(file(directory)?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        place => place.to(|| format!("open sysctl {}", directory.join("/")))?,
    };
    let open = |parameter: &str, how: OFlag| -> io::Result<File> {
        Ok(openat(&place, parameter, how | OFlag::O_CLOEXEC, Mode::empty())?.into())
    };
    let mut changed = false;
    for &(parameter, value) in values {
        let before = match open(parameter, OFlag::O_RDONLY).and_then(io::read_to_string) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            before => before.to(|| format!("read sysctl {}", name(parameter)))?,
        };
        if before.split_whitespace().eq(value.split_whitespace()) {
            continue;
        }
        let written = open(parameter, OFlag::O_WRONLY).and_then(|mut file| file.write_all(value.as_bytes()));
        written.to(|| format!("set sysctl {} to {value}", name(parameter)))?;
        changed = true;
    }
    Ok(changed)
}

/// Where the parameter is. A component is one directory or file name, never a path.
fn file(path: &[&str]) -> Result<PathBuf> {
    let mut file = PathBuf::from("/proc/sys");
    for component in path {
        if component.is_empty() || component.contains('/') || matches!(*component, "." | "..") {
            return Err(Error::Other(format!("{component:?} cannot be part of a sysctl's name")));
        }
        file.push(component);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::NetNs;

    #[test]
    fn names_are_components_and_nothing_else() {
        assert_eq!(file(&["net", "ipv4", "conf", "eth0.5"]).unwrap(), PathBuf::from("/proc/sys/net/ipv4/conf/eth0.5"));
        for component in ["", "..", ".", "a/b"] {
            file(&["net", component]).unwrap_err();
        }
    }

    #[test]
    fn a_namespace_has_its_own_values() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        let netns = NetNs::create(&path).unwrap();
        let forward = ["net", "ipv4", "ip_forward"];
        let outside = get(&forward).unwrap();
        netns
            .run(|| {
                let other = if get(&forward).unwrap() == "0" { "1" } else { "0" };
                assert!(set(&forward, other).unwrap());
                assert!(!set(&forward, other).unwrap());
                assert_eq!(get(&forward).unwrap(), other);
                assert!(!set_if_present(&["net", "ipv4", "conf", "absent", "forwarding"], "1").unwrap());
                set(&["net", "ipv4", "conf", "absent", "forwarding"], "1").unwrap_err();
                let of_loopback = ["net", "ipv4", "conf", "lo"];
                let values = [("accept_local", "1"), ("no_such_parameter", "1"), ("rp_filter", "2")];
                assert!(set_all_if_present(&of_loopback, &values).unwrap());
                assert!(!set_all_if_present(&of_loopback, &values).unwrap());
                assert_eq!(get(&[&of_loopback[..], &["rp_filter"]].concat()).unwrap(), "2");
                assert!(!set_all_if_present(&["net", "ipv4", "conf", "absent"], &values).unwrap());
                set_all_if_present(&of_loopback, &[("rp_filter", "nonsense")]).unwrap_err();
            })
            .unwrap();
        assert_eq!(get(&forward).unwrap(), outside);
        crate::kernel::netns::delete(&path).unwrap();
    }
}
