//! The Linux bridge of a network: the host's foot in it, and the place of its gateway addresses.

use ipnet::IpNet;
use rtnetlink::packet_route::link::{BridgeStpState, InfoBridge, InfoData, InfoKind};
use rtnetlink::{LinkBridge, LinkMessageBuilder};

use super::error::{Context, Error, Result};
use super::link::{Attributes, Link, Netlink, io_error};
use super::netns::NetNs;

/// A bridge as it ought to be.
#[derive(Clone, Debug)]
pub struct BridgeSpec {
    /// Name of the interface.
    pub name: String,
    /// The owner's mark, by which this agent knows its own interfaces again.
    pub alias: String,
    /// The largest packet it carries.
    pub mtu: u32,
    /// Its Ethernet address. Without one it gets a random address when it is made, and keeps it.
    pub mac: Option<[u8; 6]>,
    /// Its addresses, each with its prefix length. It has IPv6 only if one of them is IPv6.
    pub addresses: Vec<IpNet>,
}

/// A bridge as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its number.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Whether anything had to be made or mended.
    pub changed: bool,
}

impl Netlink {
    /// Makes the bridge, or mends what is not as `spec` says: up, without spanning tree, with exactly these addresses.
    ///
    /// An interface of that name that does not bear the owner's mark is left alone: [`Error::ForeignLink`].
    pub async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<Bridge> {
        let (link, made) = match self.link(&spec.name).await? {
            Some(link) if is_ours(&link, spec) => (link, false),
            Some(Link { name, kind, .. }) => {
                let kind = if kind.is_empty() { "device".to_owned() } else { kind };
                return Err(Error::ForeignLink { name, kind });
            }
            None => (self.create_bridge(spec).await?, true),
        };
        let mut changed = made;
        changed |= self
            .mend(&link, Attributes { alias: Some(&spec.alias), mac: spec.mac, mtu: Some(spec.mtu), master: None })
            .await?;
        changed |= self.disable_spanning_tree(&link).await?;
        changed |= set_ipv6(&self.netns, spec)?;
        changed |= self.bring_up(&link).await?;
        match made {
            // What there is of addresses, on all interfaces, need not be looked through for it.
            true => self.add_addresses(&link, &spec.addresses).await?,
            false => changed |= self.set_addresses(&link, &spec.addresses).await?,
        }
        let mac = spec
            .mac
            .or(link.mac)
            .ok_or_else(|| Error::Other(format!("bridge {} has no Ethernet address", spec.name)))?;
        Ok(Bridge { ifindex: link.ifindex, mac, changed })
    }

    async fn create_bridge(&self, spec: &BridgeSpec) -> Result<Link> {
        // Given at birth, the address is fixed; otherwise it would follow the ports that come and go.
        let mac = match spec.mac {
            Some(mac) => mac,
            None => random_mac()?,
        };
        // Without the MTU: set later it counts as chosen, and ports do not change it any more.
        let message = LinkMessageBuilder::<LinkBridge>::new(&spec.name)
            .stp_state(BridgeStpState::Disabled)
            .address(mac.to_vec())
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(io_error).to(|| format!("create bridge {}", spec.name))?;
        self.expect_link(&spec.name).await
    }

    async fn disable_spanning_tree(&self, link: &Link) -> Result<bool> {
        if link.stp {
            let off = InfoData::Bridge(vec![InfoBridge::StpState(BridgeStpState::Disabled)]);
            let message = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge)
                .index(link.ifindex)
                .set_info_data(off)
                .build();
            self.change(message, || format!("switch the spanning tree protocol of {} off", link.name)).await?;
        }
        Ok(link.stp)
    }
}

/// Ours bears our mark. One that was made but not yet marked when an agent was killed has none, and is still off.
fn is_ours(link: &Link, spec: &BridgeSpec) -> bool {
    link.kind == "bridge" && (link.alias == spec.alias || (link.alias.is_empty() && !link.up))
}

/// IPv6 on the bridge exactly if the network has it; the host takes no router's word there, and its addresses are ready at once.
fn set_ipv6(netns: &NetNs, spec: &BridgeSpec) -> Result<bool> {
    let has_ipv6 = spec.addresses.iter().any(|address| address.addr().is_ipv6());
    let values = [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", if has_ipv6 { "0" } else { "1" })];
    netns.set_ipv6_sysctls(&spec.name, &values)
}

/// A random, locally administered unicast address.
fn random_mac() -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    getrandom::fill(&mut mac)
        .map_err(|error| Error::Other(format!("cannot draw a random Ethernet address: {error}")))?;
    mac[0] = (mac[0] & 0xfc) | 0x02;
    Ok(mac)
}
