//! IP addresses of an interface: made to be exactly those that are wanted.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo};

use super::error::{Context, Error, Result};
use super::link::{Link, Netlink, io_error};

/// An address on an interface.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) ifindex: u32,
    /// Address and prefix length.
    pub(super) network: IpNet,
    pub(super) scope: AddressScope,
    pub(super) flags: AddressFlags,
    /// Seconds for which it may still be used for new connections; `u32::MAX` is for ever.
    pub(super) preferred: u32,
    message: AddressMessage,
}

impl Netlink {
    /// Every address of the namespace, in the kernel's order (primary before secondary).
    pub(super) fn addresses(&self) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        let take = |message| {
            if let RouteNetlinkMessage::NewAddress(message) = message {
                addresses.extend(Address::from_message(message));
            }
        };
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.list(request, take).to(|| "list the addresses")?;
        Ok(addresses)
    }

    /// Makes the addresses of `link` exactly `wanted`, but for the IPv6 link-local ones, which are the kernel's own.
    /// Returns whether anything was to do.
    pub(super) async fn set_addresses(&self, link: &Link, wanted: &[IpNet]) -> Result<bool> {
        let mut changed = false;
        for address in self.addresses_of(link)? {
            let known = wanted.contains(&address.network);
            if !known && is_ipv6_link_local(address.network.addr()) || known && address.is_usable() {
                continue;
            }
            changed = true;
            match self.handle.address().del(address.message).execute().await.map_err(io_error) {
                // Deleting a primary IPv4 address takes its secondaries along.
                Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
                result => result.to(|| format!("remove address {} from {}", address.network, link.name))?,
            }
        }
        let present = self.addresses_of(link)?;
        for network in wanted.iter().filter(|network| present.iter().all(|address| address.network != **network)) {
            changed = true;
            self.add_address(link, *network).await?;
        }
        Ok(changed)
    }

    /// Gives addresses to an interface that was just made, and so has none.
    pub(super) async fn add_addresses(&self, link: &Link, wanted: &[IpNet]) -> Result<()> {
        for network in wanted {
            self.add_address(link, *network).await?;
        }
        Ok(())
    }

    fn addresses_of(&self, link: &Link) -> Result<Vec<Address>> {
        let mut addresses = self.addresses()?;
        addresses.retain(|address| address.ifindex == link.ifindex);
        Ok(addresses)
    }

    async fn add_address(&self, link: &Link, network: IpNet) -> Result<()> {
        let mut request = self.handle.address().add(link.ifindex, network.addr(), network.prefix_len());
        if network.addr().is_ipv6() {
            // The agent knows every address of the network: duplicate detection would only make it wait.
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await.map_err(io_error) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            Err(error) => Err(Error::io(format!("add address {network} to {}", link.name), error)),
            Ok(()) => Ok(()),
        }
    }
}

impl Address {
    pub(super) fn from_message(message: AddressMessage) -> Option<Self> {
        let mut address = None;
        let mut local = None;
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        let mut preferred = u32::MAX;
        for attribute in &message.attributes {
            match attribute {
                // On a point-to-point link IFA_ADDRESS is the other end's.
                AddressAttribute::Local(value) => local = Some(*value),
                AddressAttribute::Address(value) => address = Some(*value),
                AddressAttribute::Flags(value) => flags = *value,
                AddressAttribute::CacheInfo(CacheInfo { ifa_preferred, .. }) => preferred = *ifa_preferred,
                _ => {}
            }
        }
        let network = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
        Some(Self { ifindex: message.header.index, network, scope: message.header.scope, flags, preferred, message })
    }

    /// Not waiting for, nor refused by, duplicate detection.
    fn is_usable(&self) -> bool {
        !self.flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed)
    }
}

fn is_ipv6_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
