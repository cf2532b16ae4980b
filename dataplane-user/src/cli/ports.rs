//! Published ports: as `ps` and `port` show them, and changing those of a running container.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use serde_json::json;

use super::args::ListFormat;
use super::args::container::{Access, Port, Publish, Unpublish};
use super::client::{Client, segment};
use super::error::Error;
use super::output::Table;
use super::{Outcome, output};
use crate::api::types::container::{ContainerInspect, PortMap, PortSummary};
use crate::api::types::spandrel::{PortStats, PublishRequest};

const STATS: Table = Table {
    row: "{{.Container}}\t{{.PrivatePort}}/{{.Type}}\t{{join .Published \", \"}}\t{{.Connections}}\t{{.PacketsIn}}\t{{.BytesIn}}\t\
          {{.PacketsOut}}\t{{.BytesOut}}\t{{if .AllowFrom}}{{join .AllowFrom \", \"}}{{else}}everybody{{end}}\t\
          {{if .RateLimit}}{{printf \"%v/s\" .RateLimit}}{{else}}none{{end}}",
    titles: &[
        ("Container", "CONTAINER"),
        ("PrivatePort", "PORT"),
        ("Type", "PROTOCOL"),
        ("Published", "PUBLISHED"),
        ("Connections", "CONNECTIONS"),
        ("PacketsIn", "PACKETS IN"),
        ("BytesIn", "BYTES IN"),
        ("PacketsOut", "PACKETS OUT"),
        ("BytesOut", "BYTES OUT"),
        ("AllowFrom", "ALLOWED FROM"),
        ("RateLimit", "RATE LIMIT"),
    ],
};

/// Lists the host ports that lead to a container, or what went through them.
pub(super) async fn port(client: &Client, command: Port) -> Outcome {
    let reference = match command.container {
        Some(reference) if !command.stats => reference,
        all_or_one => return stats(client, all_or_one, &command.format.unwrap_or(ListFormat::Table)).await,
    };
    let container: ContainerInspect = client.get(&format!("/containers/{}/json", segment(&reference))).await?;
    let published = &container.network_settings.ports;
    let lines = match &command.port {
        None => lines(published),
        Some(port) => {
            let port = if port.contains('/') { port.to_ascii_lowercase() } else { format!("{port}/tcp") };
            let hosts = of(published, &port);
            if hosts.is_empty() {
                return Err(Error::Local(format!("no public port '{port}' published for {reference}")));
            }
            hosts
        }
    };
    output::lines(lines)?;
    Ok(ExitCode::SUCCESS)
}

async fn stats(client: &Client, reference: Option<String>, format: &ListFormat) -> Outcome {
    let query = reference.map(|reference| format!("?container={}", segment(&reference))).unwrap_or_default();
    let stats: Vec<PortStats> = client.get(&format!("/spandrel/ports{query}")).await?;
    output::print_list(format, &stats.iter().map(|port| json!(port)).collect::<Vec<_>>(), &STATS)?;
    Ok(ExitCode::SUCCESS)
}

/// Publishes ports of a running container, and shows them as `port` does.
pub(super) async fn publish(client: &Client, command: Publish) -> Outcome {
    let path = format!("/spandrel/containers/{}/publish", segment(&command.container));
    let published: PortMap = client.post(&path, &request(command.ports, command.access)).await?;
    output::lines(lines(&published))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes back published ports of a running container.
pub(super) async fn unpublish(client: &Client, command: Unpublish) -> Outcome {
    let path = format!("/spandrel/containers/{}/unpublish", segment(&command.container));
    client.command(&path, &PublishRequest { publish: command.ports, ..Default::default() }).await?;
    Ok(ExitCode::SUCCESS)
}

/// Ports as the API takes them.
pub(super) fn request(publish: Vec<String>, access: Access) -> PublishRequest {
    PublishRequest { publish, allow_from: access.allow_from, rate_limit: access.rate_limit }
}

/// The column of `ps`: `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp`. Neighbouring ports that keep their number
/// become a range, as in Docker.
pub(super) fn column(ports: &[PortSummary]) -> String {
    let mut ports: Vec<(u16, Option<IpAddr>, Option<u16>, &str)> = ports
        .iter()
        // Without a host's port the address means nothing: a routed network's.
        .map(|port| (port, port.ip.parse().ok().filter(|_| port.public_port.is_some())))
        .map(|(port, ip)| (port.private_port, ip, port.public_port, port.protocol.as_str()))
        .collect();
    ports.dedup();
    ports.sort();
    let mut groups: Vec<Group> = Vec::new();
    let mut finished = Vec::new();
    let mut mappings = Vec::new();
    for (private, ip, public, protocol) in ports {
        if let (Some(ip), Some(public)) = (ip, public)
            && public != private
        {
            mappings.push(format!("{}->{private}/{protocol}", SocketAddr::new(ip, public)));
            continue;
        }
        match groups.iter_mut().find(|group| group.ip == ip && group.protocol == protocol) {
            Some(group) if group.last.checked_add(1) == Some(private) => group.last = private,
            Some(group) => {
                finished.push(group.text());
                (group.first, group.last) = (private, private);
            }
            None => groups.push(Group { ip, protocol, first: private, last: private }),
        }
    }
    finished.extend(groups.iter().map(Group::text));
    finished.extend(mappings);
    finished.join(", ")
}

/// Ports that are next to each other and have the same number on both sides.
struct Group<'a> {
    ip: Option<IpAddr>,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl Group<'_> {
    fn text(&self) -> String {
        let ports = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        let protocol = self.protocol;
        match self.ip {
            None => format!("{ports}/{protocol}"),
            Some(IpAddr::V4(ip)) => format!("{ip}:{ports}->{ports}/{protocol}"),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{ports}->{ports}/{protocol}"),
        }
    }
}

/// The lines of `port`: `80/tcp -> 0.0.0.0:8080`, in order.
pub(super) fn lines(ports: &PortMap) -> Vec<String> {
    let mut lines: Vec<_> = Vec::new();
    for (port, bindings) in ports {
        let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
        let number: u16 = number.parse().unwrap_or_default();
        for host in hosts(bindings.as_deref().unwrap_or_default()) {
            lines.push((number, protocol, host.clone(), format!("{port} -> {host}")));
        }
    }
    lines.sort();
    lines.into_iter().map(|(.., line)| line).collect()
}

/// The host addresses that lead to one port (`80/tcp`); none if it is not published.
pub(super) fn of(ports: &PortMap, port: &str) -> Vec<String> {
    let mut hosts = hosts(ports.get(port).and_then(Option::as_deref).unwrap_or_default());
    hosts.sort();
    hosts
}

fn hosts(bindings: &[crate::api::types::container::PortBinding]) -> Vec<String> {
    let text = |ip: &str, port: &str| match ip.contains(':') {
        true => format!("[{ip}]:{port}"),
        false => format!("{ip}:{port}"),
    };
    bindings.iter().map(|binding| text(&binding.host_ip, &binding.host_port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::container::PortBinding;

    fn port(ip: &str, public: u16, private: u16, protocol: &str) -> PortSummary {
        PortSummary { ip: ip.into(), private_port: private, public_port: Some(public), protocol: protocol.into() }
    }

    #[test]
    fn columns_read_as_dockers() {
        let both = [port("::", 8080, 80, "tcp"), port("0.0.0.0", 8080, 80, "tcp")];
        assert_eq!(column(&both), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        assert_eq!(column(&[]), "");
        let routed =
            PortSummary { ip: "0.0.0.0".into(), private_port: 80, protocol: "tcp".into(), ..Default::default() };
        assert_eq!(column(&[routed]), "80/tcp");
        let exposed = PortSummary { private_port: 9988, protocol: "tcp".into(), ..Default::default() };
        assert_eq!(column(&[exposed]), "9988/tcp");
        let range: Vec<_> = (9000..9003).map(|number| port("0.0.0.0", number, number, "tcp")).collect();
        assert_eq!(column(&range), "0.0.0.0:9000-9002->9000-9002/tcp");
        let mixed = [
            port("0.0.0.0", 53, 53, "udp"),
            port("0.0.0.0", 80, 80, "tcp"),
            port("0.0.0.0", 82, 82, "tcp"),
            port("127.0.0.1", 8443, 443, "tcp"),
        ];
        assert_eq!(
            column(&mixed),
            "0.0.0.0:80->80/tcp, 0.0.0.0:53->53/udp, 0.0.0.0:82->82/tcp, 127.0.0.1:8443->443/tcp"
        );
    }

    #[test]
    fn lines_go_by_number() {
        let binding = |ip: &str, port: &str| PortBinding { host_ip: ip.into(), host_port: port.into() };
        let ports = PortMap::from([
            ("443/tcp".into(), Some(vec![binding("::", "8443"), binding("0.0.0.0", "8443")])),
            ("80/tcp".into(), Some(vec![binding("127.0.0.1", "8080")])),
            ("9/udp".into(), None),
        ]);
        assert_eq!(lines(&ports), ["80/tcp -> 127.0.0.1:8080", "443/tcp -> 0.0.0.0:8443", "443/tcp -> [::]:8443"]);
        assert_eq!(of(&ports, "443/tcp"), ["0.0.0.0:8443", "[::]:8443"]);
        assert!(of(&ports, "9/udp").is_empty() && of(&ports, "1/tcp").is_empty());
    }
}
