//! `spandrel network`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;

use super::args::ListFormat;
use super::args::network::{Connect, Create, Disconnect, Endpoint, Inspect, Ls, Network as Command, Prune, Rm};
use super::client::{Client, filters, segment};
use super::error::Error;
use super::inspect::print_found;
use super::output::Table;
use super::template::LABELS;
use super::{Done, Outcome, for_each, output};
use crate::api::types::endpoint::{EndpointIpamConfig, EndpointSettings};
use crate::api::types::network::{
    ConfigReference, ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, Ipam, IpamConfig, Network,
    PruneResponse,
};
use crate::model;

const TABLE: Table = Table {
    row: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    titles: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

/// Runs one of the commands about networks.
pub(super) async fn run(client: &Client, command: Command) -> Outcome {
    match command {
        Command::Create(command) => create(client, command).await,
        Command::Ls(command) => ls(client, command).await,
        Command::Inspect(command) => inspect(client, command).await,
        Command::Rm(command) => rm(client, command).await,
        Command::Connect(command) => connect(client, command).await,
        Command::Disconnect(command) => disconnect(client, command).await,
        Command::Prune(command) => prune(client, command).await,
    }
}

async fn create(client: &Client, command: Create) -> Outcome {
    let request = CreateRequest {
        ipam: Some(ipam(&command)?),
        name: command.name,
        driver: command.driver,
        internal: command.internal,
        enable_ipv4: command.ipv4,
        enable_ipv6: command.ipv6,
        options: command.opt.into_iter().collect(),
        labels: command.label.into_iter().collect(),
        scope: command.scope,
        attachable: command.attachable,
        ingress: command.ingress,
        config_only: command.config_only,
        config_from: Some(ConfigReference { network: command.config_from }).filter(|from| !from.network.is_empty()),
    };
    let created: CreateResponse = client.post("/networks/create", &request).await?;
    if !created.warning.is_empty() {
        output::complain(format_args!("warning: {}", created.warning));
    }
    output::lines([created.id])?;
    Ok(ExitCode::SUCCESS)
}

/// Ranges, gateways and reserved addresses, each with the subnet that it belongs to.
fn ipam(command: &Create) -> Result<Ipam, Error> {
    let configs =
        model::IpamConfig::from_flags(&command.subnet, &command.ip_range, &command.gateway, &command.aux_address)
            .map_err(|error| Error::Local(error.to_string()))?;
    let config = configs.into_iter().map(|config| IpamConfig {
        subnet: config.subnet.unwrap_or_default(),
        ip_range: config.ip_range.unwrap_or_default(),
        gateway: config.gateway.unwrap_or_default(),
        auxiliary_addresses: config.aux,
    });
    let options: BTreeMap<_, _> = command.ipam_opt.iter().cloned().collect();
    Ok(Ipam {
        driver: command.ipam_driver.clone(),
        options: Some(options).filter(|options| !options.is_empty()),
        config: config.collect(),
    })
}

async fn ls(client: &Client, command: Ls) -> Outcome {
    let listing = command.listing;
    let mut networks: Vec<Network> = client.get(&format!("/networks?{}", filters(&listing.filter))).await?;
    networks.sort_by_cached_key(|network| natural(&network.name));
    if listing.quiet && listing.format.format == ListFormat::Table {
        output::lines(networks.iter().map(|network| output::id(&network.id, listing.no_trunc)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |network: &Network| {
        json!({
            "CreatedAt": created_at(network.created),
            "Driver": network.driver,
            "ID": output::id(&network.id, listing.no_trunc),
            "IPv4": network.enable_ipv4.to_string(),
            "IPv6": network.enable_ipv6.to_string(),
            "Internal": network.internal.to_string(),
            "Labels": output::labels(&network.labels),
            "Name": network.name,
            "Scope": network.scope,
            LABELS: network.labels,
        })
    };
    output::print_list(&listing.format.format, &networks.iter().map(row).collect::<Vec<_>>(), &TABLE)?;
    Ok(ExitCode::SUCCESS)
}

/// Sorts as Docker's list: numbers within names by what they are worth.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts: Vec<(String, u64)> = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let number = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let (text, from_number) = rest.split_at(number);
        let end = from_number.find(|character: char| !character.is_ascii_digit()).unwrap_or(from_number.len());
        let (digits, behind) = from_number.split_at(end);
        parts.push((text.to_owned(), digits.parse().unwrap_or(if digits.is_empty() { 0 } else { u64::MAX })));
        rest = behind;
    }
    parts
}

/// A moment as Go prints it, in UTC.
fn created_at(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

async fn inspect(client: &Client, command: Inspect) -> Outcome {
    let find = async |reference: &str| client.get::<Network>(&format!("/networks/{}", segment(reference))).await;
    print_found(command.format.format.as_ref(), &command.networks, find).await
}

async fn rm(client: &Client, command: Rm) -> Outcome {
    for_each(&command.networks, async |reference| {
        match client.delete(&format!("/networks/{}", segment(reference))).await {
            Err(error) if command.force && error.is_not_found() => Ok(Done::Nothing),
            result => result.map(|()| Done::Yes),
        }
    })
    .await
}

async fn connect(client: &Client, command: Connect) -> Outcome {
    let driver_opts: BTreeMap<_, _> = command.driver_opt.into_iter().collect();
    let endpoint = EndpointSettings {
        gw_priority: command.gw_priority,
        driver_opts: Some(driver_opts).filter(|options| !options.is_empty()),
        ..settings(command.endpoint, command.alias)
    };
    let request = ConnectRequest { container: command.container, endpoint_config: Some(endpoint) };
    client.command(&format!("/networks/{}/connect", segment(&command.network)), &request).await?;
    Ok(ExitCode::SUCCESS)
}

async fn disconnect(client: &Client, command: Disconnect) -> Outcome {
    let request = DisconnectRequest { container: command.container, force: command.force };
    client.command(&format!("/networks/{}/disconnect", segment(&command.network)), &request).await?;
    Ok(ExitCode::SUCCESS)
}

async fn prune(client: &Client, command: Prune) -> Outcome {
    let warning = "WARNING! This will remove all custom networks not used by at least one container.";
    if !command.force && !output::confirm(&format!("{warning}\nAre you sure you want to continue?"), "--force")? {
        return Ok(ExitCode::SUCCESS);
    }
    let path = format!("/networks/prune?{}", filters(&command.filter));
    let pruned: PruneResponse = client.post(&path, &json!({})).await?;
    let deleted = pruned.networks_deleted;
    if !deleted.is_empty() {
        output::lines(["Deleted Networks:".into()].into_iter().chain(deleted).chain([String::new()]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The flags that ask for addresses and names.
pub(super) fn settings(endpoint: Endpoint, aliases: Vec<String>) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: endpoint.ip,
            ipv6_address: endpoint.ip6,
            link_local_ips: endpoint.link_local_ip,
        }),
        mac_address: endpoint.mac_address,
        aliases: Some(aliases),
        links: Some(endpoint.link),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_dockers() {
        let mut names = ["net10", "net2", "bridge", "net", "net2b", "host"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["bridge", "host", "net", "net2", "net2b", "net10"]);
    }

    #[test]
    fn moments_read_as_gos() {
        let moment = |text: &str| created_at(text.parse().unwrap());
        assert_eq!(moment("2016-10-19T06:21:00.416543526Z"), "2016-10-19 06:21:00.416543526 +0000 UTC");
        assert_eq!(moment("2016-10-19T06:21:00Z"), "2016-10-19 06:21:00 +0000 UTC");
    }
}
