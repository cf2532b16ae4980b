//! A container's interface on an interface of the host (macvlan): an Ethernet address of its own on the parent's wire. It is made in the
//! container's namespace and lives there; nothing of it is on the host.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use rtnetlink::LinkMacVlan;
use rtnetlink::packet_route::link::LinkLayerType;

use super::error::{Context, Error, Result};
use super::link::{Link, Netlink, io_error};
use super::netns::NetNs;
use super::veth::Inside;

pub use rtnetlink::packet_route::link::MacVlanMode;

/// The kind of these interfaces, in rtnetlink's words.
const KIND: &str = "macvlan";

/// Such an interface as it ought to be.
#[derive(Clone, Debug)]
pub struct MacvlanSpec {
    /// The host's interface that it is on.
    pub parent: String,
    /// Whom it reaches there.
    pub mode: MacVlanMode,
    /// Its name in the container, such as `eth0`.
    pub name: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The largest packet it carries; the parent's if left out.
    pub mtu: Option<u32>,
    /// Its addresses, each with its prefix length. It has IPv6 only if one of them is IPv6.
    pub addresses: Vec<IpNet>,
    /// Where its default routes lead, at most one for each family; empty if this is not the interface for them.
    pub gateways: Vec<IpAddr>,
    /// Further routes, each with its next hop.
    pub routes: Vec<(IpNet, IpAddr)>,
}

/// Such an interface as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macvlan {
    /// Its number in its namespace.
    pub ifindex: u32,
    /// Whether anything had to be made or mended.
    pub changed: bool,
}

impl Netlink {
    /// Makes the interface in `netns`, or mends what is not as `spec` says.
    pub async fn ensure_macvlan(&self, spec: &MacvlanSpec, netns: &NetNs) -> Result<Macvlan> {
        let inside = Self::open_in(netns)?;
        let (link, mut changed) = match inside.link(&spec.name).await? {
            Some(link) if link.kind == KIND => (link, false),
            Some(Link { name, kind, .. }) => return Err(Error::ForeignLink { name, kind }),
            None => {
                self.create_macvlan(spec, netns).await?;
                (inside.expect_link(&spec.name).await?, true)
            }
        };
        let end = Inside { name: &spec.name, mac: spec.mac, mtu: spec.mtu, addresses: &spec.addresses };
        changed |= inside.ensure_container_end(link.clone(), &end, false).await?;
        changed |= inside.set_default_routes(&link, &spec.gateways).await?;
        changed |= inside.add_routes(&link, &spec.routes).await?;
        if changed {
            // What is sent before that would be lost without a word.
            inside.wait_until_running(link.ifindex).await?;
        }
        Ok(Macvlan { ifindex: link.ifindex, changed })
    }

    /// Takes the interface `name` out of `netns`. Returns whether it was there.
    pub async fn remove_macvlan(&self, name: &str, netns: &NetNs) -> Result<bool> {
        let inside = Self::open_in(netns)?;
        match inside.link(name).await? {
            Some(link) if link.kind == KIND => inside.delete_link(name).await,
            _ => Ok(false),
        }
    }

    /// The interface that can be the parent of others; the error says why `name` cannot.
    pub async fn macvlan_parent(&self, name: &str) -> Result<Link> {
        let parent = self.link(name).await?;
        let parent = parent.ok_or_else(|| Error::Other(format!("there is no interface {name} on this host")))?;
        match parent.layer {
            LinkLayerType::Ether => Ok(parent),
            _ => Err(Error::Other(format!("the interface {name} is no Ethernet"))),
        }
    }

    async fn create_macvlan(&self, spec: &MacvlanSpec, netns: &NetNs) -> Result<()> {
        let parent = self.macvlan_parent(&spec.parent).await?;
        let message = LinkMacVlan::new(&spec.name, parent.ifindex, spec.mode)
            .address(spec.mac.to_vec())
            .setns_by_fd(netns.as_fd().as_raw_fd())
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(io_error).to(|| format!("create a macvlan interface on {}", spec.parent))
    }
}
