//! Kernel parameters under `/proc/sys`, addressed by their components, so that interface names with dots work.
//!
//! `/proc/sys/net` is that of the calling thread's network namespace; for another one use [`NetNs::run`](super::NetNs::run).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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

/// A directory of parameters, of the namespace in which it was looked up.
///
/// The way to it is gone once: each look-up of `/proc/sys/net/ipv6` takes the longer the more namespaces have been there, since they share a
/// name and a place in the kernel's cache (2.5 ms for 2,000 of them).
#[derive(Debug)]
pub struct Directory {
    place: File,
    path: PathBuf,
}

impl Directory {
    /// Looks it up; none if this kernel does not have it.
    pub fn open(path: &[&str]) -> Result<Option<Self>> {
        let path = file(path)?;
        match File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(&path) {
            Ok(place) => Ok(Some(Self { place, path })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("open {}", path.display()), error)),
        }
    }

    /// Sets parameters of one entry, such as an interface. Returns whether any was something else before. What is not there is no error,
    /// as for [`set_if_present`].
    pub fn set_all_if_present(&self, entry: &str, values: &[(&str, &str)]) -> Result<bool> {
        let mut changed = false;
        for &(parameter, value) in values {
            let name = relative(&[entry, parameter])?;
            let open = |how: OFlag| -> io::Result<File> {
                Ok(openat(&self.place, &name, how | OFlag::O_CLOEXEC, Mode::empty())?.into())
            };
            let whole = || self.path.join(&name);
            let before = match open(OFlag::O_RDONLY).and_then(io::read_to_string) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                before => before.to(|| format!("read {}", whole().display()))?,
            };
            if before.split_whitespace().eq(value.split_whitespace()) {
                continue;
            }
            let written = open(OFlag::O_WRONLY).and_then(|mut file| file.write_all(value.as_bytes()));
            written.to(|| format!("set {} to {value}", whole().display()))?;
            changed = true;
        }
        Ok(changed)
    }
}

/// Where the parameter is.
fn file(path: &[&str]) -> Result<PathBuf> {
    Ok(Path::new("/proc/sys").join(relative(path)?))
}

/// A component is one directory or file name, never a path.
fn relative(path: &[&str]) -> Result<PathBuf> {
    for component in path {
        if component.is_empty() || component.contains('/') || matches!(*component, "." | "..") {
            return Err(Error::Other(format!("{component:?} cannot be part of a sysctl's name")));
        }
    }
    Ok(path.iter().collect())
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
            })
            .unwrap();
        assert_eq!(get(&forward).unwrap(), outside);
        crate::kernel::netns::delete(&path).unwrap();
    }

    /// It stays the namespace's in which it was found, wherever it is used.
    #[test]
    fn a_directory_is_looked_up_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        let netns = NetNs::create(&path).unwrap();
        let found = netns.run(|| Directory::open(&["net", "ipv4", "conf"]).unwrap().unwrap()).unwrap();
        let rp_filter = || get(&["net", "ipv4", "conf", "lo", "rp_filter"]).unwrap();
        let outside = rp_filter();
        let other = if outside == "2" { "1" } else { "2" };
        let values = [("accept_local", "1"), ("no_such_parameter", "1"), ("rp_filter", other)];
        assert!(found.set_all_if_present("lo", &values).unwrap());
        assert!(!found.set_all_if_present("lo", &values).unwrap());
        assert_eq!((netns.run(rp_filter).unwrap(), rp_filter()), (other.to_owned(), outside));
        assert!(!found.set_all_if_present("absent", &values).unwrap());
        found.set_all_if_present("lo", &[("rp_filter", "nonsense")]).unwrap_err();
        found.set_all_if_present("..", &values).unwrap_err();
        assert!(Directory::open(&["net", "ipv4", "absent"]).unwrap().is_none());
        crate::kernel::netns::delete(&path).unwrap();
    }
}
