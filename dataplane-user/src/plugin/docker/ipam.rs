//! The calls of the IPAM driver. A pool's id is its subnet, since no two of them overlap.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::Plugin;
use super::options::{address, given};
use super::types::{Address, AddressSpaces, IpamCapabilities, Nothing, OfAddress, OfPool, Pool, RequestPool};
use crate::model::{Engine, Error, IpamConfig, Result};

/// The option that says what an address is for, and its value for a gateway's.
const ADDRESS_TYPE: &str = "RequestAddressType";
const GATEWAY: &str = "com.docker.network.gateway";

pub(super) async fn capabilities(_: Plugin, _: Nothing) -> Result<IpamCapabilities> {
    // What was given out is on record, and need not be asked for again.
    Ok(IpamCapabilities::default())
}

pub(super) async fn address_spaces(_: Plugin, _: Nothing) -> Result<AddressSpaces> {
    Ok(AddressSpaces { local_default_address_space: "local", global_default_address_space: "global" })
}

pub(super) async fn request_pool(plugin: Plugin, call: RequestPool) -> Result<Pool> {
    let any = if call.v6 { "::/0" } else { "0.0.0.0/0" };
    let wanted = IpamConfig {
        subnet: given(call.pool).filter(|pool| pool != any),
        ip_range: given(call.sub_pool),
        ..IpamConfig::default()
    };
    let subnet = plugin.agent.take_block(Engine::Docker, call.v6, wanted).await?.to_string();
    Ok(Pool { pool_id: subnet.clone(), pool: subnet, data: BTreeMap::new() })
}

pub(super) async fn release_pool(plugin: Plugin, call: OfPool) -> Result<Nothing> {
    plugin.agent.release_block(subnet(&call.pool_id)?).await?;
    Ok(Nothing {})
}

pub(super) async fn request_address(plugin: Plugin, call: OfAddress) -> Result<Address> {
    let wanted = match call.address.as_str() {
        "" => None,
        text => Some(parse(text)?),
    };
    let options = call.options.unwrap_or_default();
    let gateway = options.get(ADDRESS_TYPE).and_then(Value::as_str) == Some(GATEWAY);
    let address = plugin.agent.take_address(subnet(&call.pool_id)?, wanted, gateway).await?;
    Ok(Address { address: address.to_string(), data: BTreeMap::new() })
}

pub(super) async fn release_address(plugin: Plugin, call: OfAddress) -> Result<Nothing> {
    plugin.agent.release_address(subnet(&call.pool_id)?, parse(&call.address)?).await?;
    Ok(Nothing {})
}

fn subnet(id: &str) -> Result<IpNet> {
    id.parse().map_err(|_| Error::Invalid(format!("invalid pool id {id:?}: a subnet is expected")))
}

fn parse(text: &str) -> Result<IpAddr> {
    address(text).parse().map_err(|_| Error::Invalid(format!("invalid address {text:?}")))
}
