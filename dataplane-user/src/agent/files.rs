//! The files of a container that lie over those of the host: hosts, hostname, resolv.conf.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::host;
use super::state::Agent;
use crate::dns::{NAME_SERVER, ResolvConf, ResolvConfServer};
use crate::model::{Container, Error, Naming, Network, Result};

/// What every /etc/hosts begins with.
const LOCALHOST: &str = "\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// Where the host keeps its own list of names.
const HOSTS: &str = "/etc/hosts";

/// Where systemd-resolved tells the real servers, when /etc/resolv.conf leads to its own on loopback.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The option without which a resolver looks for a name with one part in the search domains first.
const NDOTS: &str = "ndots";

impl Agent {
    /// Writes a container's files as they should be now, making its directory. In the host's network it uses the host's, as far as
    /// nothing else was asked for.
    pub(super) fn write_files(&self, container: &Container) -> Result<()> {
        // In a namespace that somebody else made, files are their business.
        if container.sandbox.is_some() {
            return Ok(());
        }
        let directory = self.paths.container(&container.id);
        fs::create_dir_all(&directory).map_err(|error| cannot_write(&directory, error))?;
        let (naming, gateways) = (&container.naming, self.host_gateways());
        if container.on_host_network() {
            if !naming.hosts.is_empty() {
                let own = fs::read_to_string(HOSTS).unwrap_or_default();
                write(&directory.join("hosts"), &(own + &extra_hosts(naming, &gateways)))?;
            }
            if naming.has_resolver() {
                write(&directory.join("resolv.conf"), &resolver(naming, false, host_resolver()).to_string())?;
            }
            return Ok(());
        }
        write(&directory.join("hostname"), &format!("{}\n", container.hostname))?;
        write(&directory.join("resolv.conf"), &self.resolver(container).to_string())?;
        write(&directory.join("hosts"), &(hosts(container, &gateways) + &self.linked_hosts(container)))
    }

    /// What a container's resolver is to be told.
    pub(super) fn resolver(&self, container: &Container) -> ResolvConf {
        resolver(&container.naming, !self.places(container).is_empty(), reachable_resolver())
    }

    /// What `host-gateway` stands for: the host's addresses on the network `bridge`, as Docker has it. Every container reaches them.
    fn host_gateways(&self) -> Vec<IpAddr> {
        let bridge = self.networks.values().find(|network| network.name == "bridge");
        bridge.into_iter().flat_map(Network::bridge_addresses).map(|address| address.addr()).collect()
    }
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

/// Writes a file in place, since it may be mounted in the container already; and only what has changed, since it may be read just now.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| cannot_write(path, error))
}

fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    Error::internal(format_args!("cannot write {}", path.display()), error)
}

fn hosts(container: &Container, gateways: &[IpAddr]) -> String {
    let mut names = container.hostname.clone();
    // A host name with a domain is also found by its first part.
    if let Some((first, _)) = container.hostname.split_once('.') {
        names = format!("{names} {first}");
    }
    let mut text = LOCALHOST.to_string() + &extra_hosts(&container.naming, gateways);
    for address in container.endpoints.iter().flat_map(|endpoint| endpoint.addresses()) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{names}");
    }
    text
}

/// The lines that were asked for.
fn extra_hosts(naming: &Naming, gateways: &[IpAddr]) -> String {
    let mut text = String::new();
    for entry in &naming.hosts {
        for address in entry.address.as_ref().map_or(gateways, std::slice::from_ref) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{address}\t{}", entry.name);
        }
    }
    text
}

/// What a container's resolver is told: what was asked for, and where nothing was, what the host's is told. On a network with names, our own
/// service is the one server, which knows whom to ask; names with one part are for it, not for the search domains.
fn resolver(naming: &Naming, named: bool, host: ResolvConf) -> ResolvConf {
    let given = || naming.servers.iter().copied().map(ResolvConfServer::from).collect();
    let mut conf = ResolvConf {
        servers: match () {
            () if named => vec![IpAddr::V4(*NAME_SERVER.ip()).into()],
            () if naming.servers.is_empty() => host.servers,
            () => given(),
        },
        search: match naming.search.as_slice() {
            [] => host.search,
            [none] if none == "." => Vec::new(),
            given => given.to_vec(),
        },
        options: if naming.options.is_empty() { host.options } else { naming.options.clone() },
    };
    if named && !conf.has_option(NDOTS) {
        conf.options.push(format!("{NDOTS}:0"));
    }
    conf
}

/// What the host's own resolver is told.
fn host_resolver() -> ResolvConf {
    ResolvConf::parse(&fs::read_to_string(host::RESOLV_CONF).unwrap_or_default())
}

/// The same, with servers that a container can reach.
fn reachable_resolver() -> ResolvConf {
    let mut conf = host_resolver();
    conf.servers.retain(is_reachable);
    if conf.servers.is_empty()
        && let Ok(upstream) = fs::read_to_string(RESOLVED)
    {
        conf = ResolvConf::parse(&upstream);
        conf.servers.retain(is_reachable);
    }
    conf
}

/// Not those that only the host reaches: on its loopback, or by a link-local address, which means something only together with an interface
/// of the host.
fn is_reachable(server: &ResolvConfServer) -> bool {
    match server.address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example.org\noptions edns0\nnameserver ::1\n\
                        nameserver fe80::1%eth0\n";

    fn shown(naming: &Naming, named: bool) -> String {
        let mut host = ResolvConf::parse(HOST);
        host.servers.retain(is_reachable);
        resolver(naming, named, host).to_string()
    }

    #[test]
    fn the_hosts_resolvers_are_for_containers_that_reach_them() {
        let nothing = Naming::default();
        assert_eq!(shown(&nothing, false), "nameserver 192.0.2.1\nsearch example.org\noptions edns0\n");
        assert_eq!(shown(&nothing, true), "nameserver 127.0.0.11\nsearch example.org\noptions edns0 ndots:0\n");
    }

    #[test]
    fn what_was_asked_for_takes_the_place_of_the_hosts() {
        let strings = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        let naming = |search: &str, options: &str| {
            Naming::parse(&strings("10.0.0.53 fd00::53"), &strings(search), &strings(options), &[]).unwrap()
        };
        let given = naming("a.test b.test", "ndots:2 rotate");
        assert_eq!(
            shown(&given, false),
            "nameserver 10.0.0.53\nnameserver fd00::53\nsearch a.test b.test\noptions ndots:2 rotate\n"
        );
        assert_eq!(shown(&given, true), "nameserver 127.0.0.11\nsearch a.test b.test\noptions ndots:2 rotate\n");
        assert_eq!(shown(&naming(".", "rotate"), true), "nameserver 127.0.0.11\noptions rotate ndots:0\n");
    }

    #[test]
    fn extra_hosts_may_be_the_host() {
        let hosts = ["db:10.0.0.7".to_string(), "host.docker.internal:host-gateway".to_string()];
        let naming = Naming::parse(&[], &[], &[], &hosts).unwrap();
        let gateways = ["172.17.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(
            extra_hosts(&naming, &gateways),
            "10.0.0.7\tdb\n172.17.0.1\thost.docker.internal\nfd00::1\thost.docker.internal\n"
        );
    }
}
