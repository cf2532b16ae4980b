//! `spandrel network`.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;

use super::args::network::{Connect, Create, Disconnect, Endpoint, Inspect, Ls, Network as Command, Rm};
use super::client::{Client, segment};
use super::error::Error;
use super::inspect::print_found;
use super::{Done, Outcome, for_each, output};
use crate::api::types::endpoint::{EndpointIpamConfig, EndpointSettings};
use crate::api::types::network::{
    ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, Ipam, IpamConfig, Network,
};
use crate::model;

/// Runs one of the commands about networks.
pub(super) async fn run(client: &Client, command: Command) -> Outcome {
    match command {
        Command::Create(command) => create(client, command).await,
        Command::Ls(command) => ls(client, command).await,
        Command::Inspect(command) => inspect(client, command).await,
        Command::Rm(command) => rm(client, command).await,
        Command::Connect(command) => connect(client, command).await,
        Command::Disconnect(command) => disconnect(client, command).await,
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
        ..Default::default()
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
    Ok(Ipam { driver: "default".into(), options: None, config: config.collect() })
}

async fn ls(client: &Client, command: Ls) -> Outcome {
    let networks: Vec<Network> = client.get("/networks").await?;
    let listing = command.listing;
    if listing.quiet {
        output::lines(networks.iter().map(|network| output::id(&network.id, listing.no_trunc)))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print_list(
        listing.format.format,
        &networks,
        &["NETWORK ID", "NAME", "DRIVER", "SCOPE"],
        |network| {
            let id = output::id(&network.id, listing.no_trunc);
            vec![id.into(), network.name.clone(), network.driver.clone(), network.scope.clone()]
        },
        |network| {
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
            })
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A moment as Go prints it, in UTC.
fn created_at(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

async fn inspect(client: &Client, command: Inspect) -> Outcome {
    let find = async |reference: &str| client.get::<Network>(&format!("/networks/{}", segment(reference))).await;
    print_found(&command.networks, find).await
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
    let endpoint = EndpointSettings { gw_priority: command.gw_priority, ..settings(command.endpoint, command.alias) };
    let request = ConnectRequest { container: command.container, endpoint_config: Some(endpoint) };
    client.command(&format!("/networks/{}/connect", segment(&command.network)), &request).await?;
    Ok(ExitCode::SUCCESS)
}

async fn disconnect(client: &Client, command: Disconnect) -> Outcome {
    let request = DisconnectRequest { container: command.container, force: command.force };
    client.command(&format!("/networks/{}/disconnect", segment(&command.network)), &request).await?;
    Ok(ExitCode::SUCCESS)
}

/// The flags that ask for addresses and names.
pub(super) fn settings(endpoint: Endpoint, aliases: Vec<String>) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: endpoint.ip,
            ipv6_address: endpoint.ip6,
            link_local_ips: Vec::new(),
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
    fn moments_read_as_gos() {
        let moment = |text: &str| created_at(text.parse().unwrap());
        assert_eq!(moment("2016-10-19T06:21:00.416543526Z"), "2016-10-19 06:21:00.416543526 +0000 UTC");
        assert_eq!(moment("2016-10-19T06:21:00Z"), "2016-10-19 06:21:00 +0000 UTC");
    }
}
