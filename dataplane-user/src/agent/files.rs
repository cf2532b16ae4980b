//! The files of a container that lie over those of the host: hosts, hostname, resolv.conf.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::host;
use crate::model::{Container, Error, Result};

/// What every /etc/hosts begins with.
const LOCALHOST: &str = "\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// Where systemd-resolved tells the real servers, when /etc/resolv.conf leads to its own on loopback.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Writes all of a container's files, making its directory. In the host's network it uses the host's.
pub(super) fn write_all(directory: &Path, container: &Container) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| cannot_write(directory, error))?;
    if container.on_host_network() {
        return Ok(());
    }
    write(&directory.join("hostname"), &format!("{}\n", container.hostname))?;
    write(&directory.join("resolv.conf"), &resolv_conf())?;
    write_hosts(directory, container)
}

/// Gives a container the files of another, whose network namespace it shares.
pub(super) fn share(directory: &Path, owner: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| cannot_write(directory, error))?;
    for name in ["hostname", "resolv.conf", "hosts"] {
        let link = directory.join(name);
        // There may be one from an earlier run.
        let removed = fs::remove_file(&link).or_else(|error| match error.kind() {
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        removed.and_then(|()| symlink(owner.join(name), &link)).map_err(|error| cannot_write(&link, error))?;
    }
    Ok(())
}

/// Writes the hosts file, in place: it may be mounted in the container already.
pub(super) fn write_hosts(directory: &Path, container: &Container) -> Result<()> {
    write(&directory.join("hosts"), &hosts(container))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| cannot_write(path, error))
}

fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    Error::internal(format_args!("cannot write {}", path.display()), error)
}

fn hosts(container: &Container) -> String {
    let mut names = container.hostname.clone();
    // A host name with a domain is also found by its first part.
    if let Some((first, _)) = container.hostname.split_once('.') {
        names = format!("{names} {first}");
    }
    let mut text = LOCALHOST.to_string();
    for address in container.endpoints.iter().flat_map(|endpoint| endpoint.addresses()) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{names}");
    }
    text
}

/// The host's resolvers, as far as a container can reach them.
fn resolv_conf() -> String {
    let own = fs::read_to_string(host::RESOLV_CONF).unwrap_or_default();
    let reachable = reachable(&own);
    if host::servers(&reachable).is_empty()
        && let Ok(upstream) = fs::read_to_string(RESOLVED)
    {
        return self::reachable(&upstream);
    }
    reachable
}

/// A resolv.conf without the servers that only the host reaches: on its loopback, or by a link-local
/// address, which means something only together with an interface of the host.
fn reachable(text: &str) -> String {
    let only_here = |server: IpAddr| match server {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    };
    let keep = |line: &&str| !host::server(line).is_some_and(only_here);
    text.lines().filter(keep).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_that_only_the_host_reaches_are_left_out() {
        let text = "# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example.org\nnameserver ::1\nnameserver fe80::1%eth0\n";
        assert_eq!(reachable(text), "# comment\nnameserver 192.0.2.1\nsearch example.org\n");
    }
}
