//! `spandrel attach` and `detach`: network namespaces that somebody else made.

use std::process::ExitCode;

use super::args::attach::{Attach, Detach};
use super::client::{Client, segment};
use super::{Done, Outcome, for_each, output, ports};
use crate::api::types::attachment::{AttachRequest, Attachment};
use crate::api::types::endpoint::{EndpointIpamConfig, EndpointSettings};

/// Gives a namespace an interface on a network, and prints the id of the container that stands for it.
pub(super) async fn attach(client: &Client, command: Attach) -> Outcome {
    let rates = [("spandrel.ingress_rate", command.ingress_rate), ("spandrel.egress_rate", command.egress_rate)];
    let driver_opts = rates.into_iter().filter_map(|(key, rate)| Some((key.to_owned(), rate?))).collect();
    let request = AttachRequest {
        netns: command.netns,
        name: command.name,
        network: command.network,
        interface: command.ifname,
        endpoint: EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: command.ip,
                ipv6_address: command.ip6,
                link_local_ips: Vec::new(),
            }),
            mac_address: command.mac_address,
            aliases: Some(command.alias),
            driver_opts: Some(driver_opts),
            ..Default::default()
        },
        publish: ports::request(command.publish, command.access),
        ..Default::default()
    };
    let attachment: Attachment = client.post("/spandrel/attachments", &request).await?;
    attachment.warnings.iter().for_each(|warning| output::complain(format_args!("warning: {warning}")));
    match command.format.format {
        None => output::lines([attachment.container_id])?,
        format => output::print_objects(format.as_ref(), &[attachment])?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes namespaces off their networks.
pub(super) async fn detach(client: &Client, command: Detach) -> Outcome {
    let query = match command.ifname.as_str() {
        "" => String::new(),
        name => format!("?interface={}", segment(name)),
    };
    for_each(&command.containers, async |reference| {
        client.delete(&format!("/spandrel/attachments/{}{query}", segment(reference))).await?;
        Ok(Done::Yes)
    })
    .await
}
