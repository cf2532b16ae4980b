//! Addresses that an engine gives out itself: it asks for a subnet, and then for one address in it after the other.
//!
//! The network that has the subnet comes later, or is none of ours. What of our own is on it keeps clear of what the engine has, and
//! the other way round.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::state::Agent;
use crate::ipam::{AddressPool, Wish, plan_subnets};
use crate::model::{AddressBlock, Container, EndpointRequest, Engine, Error, Id, IpamConfig, Network, Result, Subnet};
use crate::store::Change;

/// How long an engine may take from asking for a subnet to having a network there.
const GRACE: Duration = Duration::from_secs(60);

impl Agent {
    /// Takes a subnet for an engine: the one that it names, or a free one of the pools.
    pub(super) fn take_block(&mut self, engine: Engine, v6: bool, wanted: IpamConfig) -> Result<IpNet> {
        let wish = |family| if family == v6 { Wish::Subnet { gateway: false } } else { Wish::Nothing };
        let surroundings = self.all_surroundings()?;
        let plan = plan_subnets(&[wanted], wish(false), wish(true), &surroundings, &self.pools)?;
        let Some(Subnet { subnet, ip_range, .. }) = plan.subnets.into_iter().next() else {
            return Err(Error::Invalid(plan.warnings.join("; ")));
        };
        self.put_block(AddressBlock { subnet, ip_range, engine, taken: Default::default() })?;
        Ok(subnet)
    }

    /// Gives a subnet back; one that is not known is no error.
    pub(super) fn release_block(&mut self, subnet: IpNet) -> Result<()> {
        if self.blocks.contains_key(&subnet) {
            self.store.apply(&[Change::RemoveBlock(subnet)])?;
            self.blocks.remove(&subnet);
        }
        Ok(())
    }

    /// Gives an engine an address of one of its subnets: the wanted one, or else a free one. A gateway's may lie outside the range that
    /// containers' addresses come from.
    pub(super) fn take_address(&mut self, subnet: IpNet, wanted: Option<IpAddr>, gateway: bool) -> Result<IpNet> {
        let mut block = self.block(subnet)?.clone();
        let network = self.networks.values().find(|network| network.subnets.iter().any(|s| s.subnet == subnet));
        let mut pool = AddressPool::new(&Subnet {
            subnet,
            ip_range: block.ip_range.filter(|_| !gateway),
            gateway: None,
            aux: Default::default(),
        });
        let shown = network.map_or_else(|| subnet.to_string(), |network| network.name.clone());
        let taken: Vec<IpAddr> = block.taken.iter().copied().chain(self.own_addresses(network)).collect();
        for address in taken {
            // Both of us may name the same one.
            let _ = pool.claim(address);
        }
        if let Some(address) = wanted
            && let Some(owner) = network.and_then(|network| self.owner(&network.id, address))
        {
            return Err(Error::Conflict(format!(
                "Address already in use: {address} belongs to container {owner} on network {shown}"
            )));
        }
        let address = match wanted {
            Some(address) => pool.claim(address).map(|()| address),
            None => pool.allocate(&[]),
        }
        .map_err(|refusal| refusal.on(&shown))?;
        block.taken.insert(address);
        self.put_block(block)?;
        Ok(pool.with_prefix(address))
    }

    /// Takes an address back; one that is not known is no error.
    pub(super) fn release_address_of(&mut self, subnet: IpNet, address: IpAddr) -> Result<()> {
        let Some(mut block) = self.blocks.get(&subnet).cloned() else { return Ok(()) };
        match block.taken.remove(&address) {
            true => self.put_block(block),
            false => Ok(()),
        }
    }

    /// Addresses on a network that engines have, whether there is a container for them yet or not.
    pub(super) fn given_out(&self, network: &Id) -> impl Iterator<Item = IpAddr> {
        let subnets = self.networks.get(network).into_iter().flat_map(|network| &network.subnets);
        subnets.filter_map(|subnet| self.blocks.get(&subnet.subnet)).flat_map(|block| block.taken.iter().copied())
    }

    /// Where an engine has the addresses from somewhere else, nobody knows which are free.
    pub(super) fn check_addresses(
        &self,
        network: &Network,
        container: &Container,
        request: &EndpointRequest,
    ) -> Result<()> {
        let Some(engine) = network.engine.filter(|_| container.engine().is_none()) else { return Ok(()) };
        let is_open = |subnet: &&Subnet| {
            let wanted = if subnet.subnet.addr().is_ipv4() { request.ipv4.is_some() } else { request.ipv6.is_some() };
            !wanted && !self.blocks.contains_key(&subnet.subnet)
        };
        match network.subnets.iter().find(is_open) {
            None => Ok(()),
            Some(Subnet { subnet, .. }) => Err(Error::Forbidden(format!(
                "{engine} gives out the addresses {subnet} of network {} by itself: ask for one by name, or create the network with `--ipam-driver spandrel`",
                network.name
            ))),
        }
    }

    /// Gives back the subnets that an engine has not any more, though it never said so: it crashed before it had a network there. `used` are
    /// those of its networks. One that is about to be made is not among these yet, so there is a time of grace.
    pub(super) fn forget_blocks(&mut self, engine: Engine, used: &[IpNet]) -> Result<()> {
        let networks: Vec<IpNet> = self.networks.values().flat_map(|n| &n.subnets).map(|s| s.subnet).collect();
        let unused = |block: &&AddressBlock| {
            block.engine == engine && !used.contains(&block.subnet) && !networks.contains(&block.subnet)
        };
        let unused: Vec<IpNet> = self.blocks.values().filter(unused).map(|block| block.subnet).collect();
        self.unused_blocks.retain(|subnet, _| unused.contains(subnet));
        for subnet in unused {
            let since = *self.unused_blocks.entry(subnet).or_insert_with(Instant::now);
            if since.elapsed() > GRACE {
                tracing::info!("{engine} has forgotten the addresses {subnet}");
                self.unused_blocks.remove(&subnet);
                self.release_block(subnet)?;
            }
        }
        Ok(())
    }

    fn owner(&self, network: &Id, address: IpAddr) -> Option<&str> {
        let has = |endpoint: &crate::model::Endpoint| endpoint.addresses().any(|own| own == address);
        self.members(network).find(|(_, endpoint)| has(endpoint)).map(|(container, _)| container.name.as_str())
    }

    fn own_addresses(&self, network: Option<&Network>) -> Vec<IpAddr> {
        let Some(network) = network else { return Vec::new() };
        self.members(&network.id).flat_map(|(_, endpoint)| endpoint.addresses()).collect()
    }

    fn block(&self, subnet: IpNet) -> Result<&AddressBlock> {
        self.blocks.get(&subnet).ok_or_else(|| {
            Error::NotFound(format!(
                "the addresses {subnet} are not known to Spandrel any more: remove the networks that have them and create them again"
            ))
        })
    }

    fn put_block(&mut self, block: AddressBlock) -> Result<()> {
        self.store.apply(&[Change::PutBlock(&block)])?;
        self.blocks.insert(block.subnet, block);
        Ok(())
    }
}
