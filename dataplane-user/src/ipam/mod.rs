//! Addresses: which subnets networks get, and which addresses their endpoints get.
//!
//! Pure values, no I/O and no store of its own: what is taken follows from the networks and endpoints
//! on record, and is only kept here in a form that finds the lowest free address quickly.

mod config;
mod pool;
mod pools;
mod ranges;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::model::{Endpoint, Error, Id, Network, Result, Subnet};

pub use config::{Plan, Wish, plan_subnets};
pub use pool::{AddressPool, Refusal, Usage};
pub use pools::{DEFAULT_POOLS, Pool, Surroundings, pools, ula_prefix};
pub use ranges::RangeSet;

/// The addresses of all networks.
#[derive(Debug, Default)]
pub struct Ipam {
    networks: BTreeMap<Id, Vec<AddressPool>>,
}

impl Ipam {
    /// Takes a network's subnets under management; nothing but what is reserved is taken in them.
    pub fn add_network(&mut self, network: &Network) {
        self.networks.insert(network.id, network.subnets.iter().map(AddressPool::new).collect());
    }

    /// Forgets a network.
    pub fn remove_network(&mut self, network: &Id) {
        self.networks.remove(network);
    }

    /// Marks the addresses of an endpoint that exists already as taken.
    pub fn restore(&mut self, endpoint: &Endpoint) -> Result<()> {
        for address in endpoint.addresses() {
            self.pool(&endpoint.network, address.is_ipv6())
                .ok_or_else(|| {
                    Error::Internal(format!("network {} has no subnet for {address}", endpoint.network_name))
                })?
                .claim(address)
                .map_err(|refusal| refusal.on(&endpoint.network_name))?;
        }
        Ok(())
    }

    /// Hands out an address of one family, the wanted one or the lowest free one that is not among `kept`; `None` if the
    /// network has no subnet of that family.
    pub fn allocate(
        &mut self,
        network: &Network,
        v6: bool,
        wanted: Option<IpAddr>,
        kept: &[IpAddr],
    ) -> Result<Option<IpNet>> {
        let Some(pool) = self.pool(&network.id, v6) else {
            return match wanted {
                None => Ok(None),
                Some(address) => Err(Error::Invalid(format!(
                    "network {} has no {} subnet for the address {address}",
                    network.name,
                    if v6 { "IPv6" } else { "IPv4" }
                ))),
            };
        };
        let address = match wanted {
            Some(address) => pool.claim(address).map(|()| address),
            None => pool.allocate(kept),
        }
        .map_err(|refusal| refusal.on(&network.name))?;
        Ok(Some(pool.with_prefix(address)))
    }

    /// Takes an address back.
    pub fn release(&mut self, network: &Id, address: IpAddr) {
        if let Some(pool) = self.pool(network, address.is_ipv6()) {
            pool.release(address);
        }
    }

    /// How full a network's subnets are.
    pub fn usage(&self, network: &Id) -> Vec<Usage> {
        self.networks.get(network).into_iter().flatten().map(AddressPool::usage).collect()
    }

    fn pool(&mut self, network: &Id, v6: bool) -> Option<&mut AddressPool> {
        self.networks.get_mut(network)?.iter_mut().find(|pool| pool.is_v6() == v6)
    }
}

/// An address as a number, to count with.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of a number, in the family of `like`.
fn address(bits: u128, like: IpNet) -> IpAddr {
    match like {
        // Numbers come from the same family, so the upper bits are zero.
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// Whether two prefixes share an address.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
