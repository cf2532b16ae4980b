//! The calls of the network driver.

use std::path::PathBuf;

use super::types::{
    Allocated, CreateEndpoint, CreateNetwork, CreatedEndpoint, DriverCapabilities, Interface, InterfaceName, Join,
    Joined, Nothing, OfEndpoint, OfNetwork, OperInfo,
};
use super::{Plugin, options};
use crate::model::{Engine, Result};

/// Whose everything here is.
const DOCKER: Engine = Engine::Docker;

pub(super) async fn capabilities(_: Plugin, _: Nothing) -> Result<DriverCapabilities> {
    Ok(DriverCapabilities { scope: "local", connectivity_scope: "local" })
}

pub(super) async fn create(plugin: Plugin, call: CreateNetwork) -> Result<Nothing> {
    let created = plugin.agent.create_network(options::network(call)?).await?;
    for warning in created.warnings {
        tracing::warn!("network {}: {warning}", created.value.name);
    }
    plugin.changed.notify_one();
    Ok(Nothing {})
}

pub(super) async fn delete(plugin: Plugin, call: OfNetwork) -> Result<Nothing> {
    plugin.agent.remove_engine_network(DOCKER, call.network_id.parse()?).await?;
    Ok(Nothing {})
}

pub(super) async fn allocate(_: Plugin, _: Nothing) -> Result<Allocated> {
    Ok(Allocated::default())
}

/// What needs nothing done: this driver's networks end at this host, and no other host's matter.
pub(super) async fn nothing(_: Plugin, _: Nothing) -> Result<Nothing> {
    Ok(Nothing {})
}

pub(super) async fn create_endpoint(plugin: Plugin, call: CreateEndpoint) -> Result<CreatedEndpoint> {
    let handed = plugin.agent.hand_over(options::endpoint(&call)?).await?;
    let asked = call.interface.unwrap_or_default();
    let answer = |asked: &str, text: String| if asked.is_empty() { text } else { String::new() };
    let endpoint = handed.endpoint;
    Ok(CreatedEndpoint {
        interface: Interface {
            address: answer(&asked.address, endpoint.ipv4.map(|net| net.to_string()).unwrap_or_default()),
            address_ipv6: answer(&asked.address_ipv6, endpoint.ipv6.map(|net| net.to_string()).unwrap_or_default()),
            mac_address: answer(&asked.mac_address, endpoint.mac.to_string()),
        },
    })
}

pub(super) async fn endpoint_info(_: Plugin, _: Nothing) -> Result<OperInfo> {
    Ok(OperInfo::default())
}

pub(super) async fn delete_endpoint(plugin: Plugin, call: OfEndpoint) -> Result<Nothing> {
    plugin.agent.take_back(call.endpoint_id.parse()?).await?;
    Ok(Nothing {})
}

pub(super) async fn join(plugin: Plugin, call: Join) -> Result<Joined> {
    let handed = plugin.agent.join(DOCKER, call.endpoint_id.parse()?, PathBuf::from(call.sandbox_key)).await?;
    plugin.changed.notify_one();
    let endpoint = handed.endpoint;
    Ok(Joined {
        interface_name: InterfaceName { src_name: handed.interface, dst_prefix: handed.prefix },
        gateway: endpoint.gateway_v4.map(|address| address.to_string()).unwrap_or_default(),
        gateway_ipv6: endpoint.gateway_v6.map(|address| address.to_string()).unwrap_or_default(),
        static_routes: [],
        disable_gateway_service: true,
    })
}

pub(super) async fn leave(plugin: Plugin, call: OfEndpoint) -> Result<Nothing> {
    plugin.agent.unpublish_handed(call.endpoint_id.parse()?).await?;
    Ok(Nothing {})
}

pub(super) async fn publish(plugin: Plugin, call: OfEndpoint) -> Result<Nothing> {
    let ports = options::ports(&call.options.unwrap_or_default())?;
    plugin.agent.publish_handed(DOCKER, call.endpoint_id.parse()?, ports).await?;
    Ok(Nothing {})
}

pub(super) async fn unpublish(plugin: Plugin, call: OfEndpoint) -> Result<Nothing> {
    plugin.agent.unpublish_handed(call.endpoint_id.parse()?).await?;
    Ok(Nothing {})
}
