//! The veth pair that joins a container to a network: one end is a port of the bridge, the other an interface of the container. A
//! bridge has 1,023 ports; beyond them the host's end stands alone, and the data plane brings what the bridge would.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use futures_util::StreamExt;
use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::error::{Context, Error, Result};
use super::link::{Attributes, Link, Netlink, PortFlags, io_error};
use super::netns::NetNs;

/// A veth pair as it ought to be.
#[derive(Clone, Debug)]
pub struct VethSpec {
    /// Name of the host's end.
    pub host_name: String,
    /// Name of the container's end, such as `eth0`.
    pub container_name: String,
    /// The owner's mark on the host's end, by which this agent knows its own interfaces again.
    pub alias: String,
    /// The bridge that the host's end is a port of.
    pub bridge_ifindex: u32,
    /// Ethernet address of the container's end.
    pub mac: [u8; 6],
    /// The largest packet it carries.
    pub mtu: u32,
    /// The container's addresses, each with its prefix length. It has IPv6 only if one of them is IPv6.
    pub addresses: Vec<IpNet>,
    /// Where its default routes lead, at most one for each family; empty if this is not the interface for them.
    pub gateways: Vec<IpAddr>,
    /// Further routes, each with its next hop.
    pub routes: Vec<(IpNet, IpAddr)>,
}

/// A container's interface as it ought to be, whatever is at its other end.
pub(super) struct Inside<'a> {
    pub(super) name: &'a str,
    pub(super) mac: [u8; 6],
    pub(super) mtu: Option<u32>,
    pub(super) addresses: &'a [IpNet],
}

/// A veth pair as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Veth {
    /// Number of the host's end.
    pub ifindex: u32,
    /// Number of the container's end in its own namespace.
    pub container_ifindex: u32,
    /// Whether the host's end is a port of the bridge; if not, that has none left.
    pub bridged: bool,
    /// Whether anything had to be made or mended.
    pub changed: bool,
}

impl Netlink {
    /// Makes the pair with its far end in `netns`, or mends what is not as `spec` says.
    ///
    /// The host's end is an isolated port of the bridge, which is told the container's Ethernet address instead of learning it, and has no
    /// IPv6 of its own; the container's end has exactly these addresses and default routes and takes none from routers; its
    /// loopback interface and both ends are up.
    pub async fn ensure_veth(&self, spec: &VethSpec, netns: &NetNs) -> Result<Veth> {
        let inside = Self::open_in(netns)?;
        let ((host, container), made) = match self.find_pair(spec, &inside, netns).await? {
            Some(pair) => (pair, false),
            None => (self.create_pair(spec, &inside, netns).await?, true),
        };
        let mut changed = made;
        // The container's side first: it must not be heard before the port is closed against its neighbours, so that goes up last.
        let end = Inside { name: &spec.container_name, mac: spec.mac, mtu: Some(spec.mtu), addresses: &spec.addresses };
        changed |= inside.ensure_container_end(container.clone(), &end, made).await?;
        let (host_changed, bridged) = self.ensure_host_end(&host, spec).await?;
        changed |= host_changed;
        // Only now: a route needs its interface to be up.
        match made {
            true => inside.add_default_routes(&container, &spec.gateways).await?,
            false => changed |= inside.set_default_routes(&container, &spec.gateways).await?,
        }
        changed |= inside.add_routes(&container, &spec.routes).await?;
        if changed {
            // What is sent before that would be lost without a word.
            self.wait_until_running(host.ifindex).await?;
            self.wait_until_running(spec.bridge_ifindex).await?;
            inside.wait_until_running(container.ifindex).await?;
        }
        Ok(Veth { ifindex: host.ifindex, container_ifindex: container.ifindex, bridged, changed })
    }

    /// The same for a pair whose far end is somebody else's to move and to set up: only the host's end is mended. The pair is made if
    /// it is `new`; else it is none if the host's end is gone, and the far one with it. The far end begins in this namespace, off,
    /// with its Ethernet address and no others.
    pub async fn ensure_handed_veth(&self, spec: &VethSpec, new: bool) -> Result<Option<Veth>> {
        let host = match self.link(&spec.host_name).await? {
            Some(host) if host.kind != "veth" || (host.alias != spec.alias && host.up) => {
                return Err(Error::ForeignLink { name: host.name, kind: host.kind });
            }
            Some(host) => host,
            None if new => self.create_pair(spec, self, &self.netns).await?.0,
            None => return Ok(None),
        };
        let (changed, bridged) = self.ensure_host_end(&host, spec).await?;
        let container_ifindex = host.peer.unwrap_or_default();
        Ok(Some(Veth { ifindex: host.ifindex, container_ifindex, bridged, changed }))
    }

    /// Both ends, if the host's end exists and leads into `netns`; one that leads elsewhere is removed.
    async fn find_pair(&self, spec: &VethSpec, inside: &Self, netns: &NetNs) -> Result<Option<(Link, Link)>> {
        let Some(host) = self.link(&spec.host_name).await? else { return Ok(None) };
        // One that was made but not yet marked when an agent was killed has no mark, and is still off.
        let is_ours = host.alias == spec.alias || (host.alias.is_empty() && !host.up);
        if host.kind != "veth" || !is_ours {
            return Err(Error::ForeignLink { name: host.name, kind: host.kind });
        }
        if let (Some(peer), Some(id)) = (host.peer, host.peer_netns)
            && self.netns_id(netns).await? == Some(id)
            && let Some(container) = inside.link_by_index(peer).await?
        {
            return Ok(Some((host, container)));
        }
        self.delete_link(&spec.host_name).await?;
        Ok(None)
    }

    pub(super) async fn create_pair(&self, spec: &VethSpec, inside: &Self, netns: &NetNs) -> Result<(Link, Link)> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(spec.container_name.clone())
            .mtu(spec.mtu)
            .address(spec.mac.to_vec())
            .setns_by_fd(netns.as_fd().as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(spec.host_name.clone())
            .mtu(spec.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let added = self.handle.link().add(message).execute().await;
        added
            .map_err(io_error)
            .to(|| format!("create the interfaces {} and {}", spec.host_name, spec.container_name))?;
        Ok((self.expect_link(&spec.host_name).await?, inside.expect_link(&spec.container_name).await?))
    }

    /// Sets up the host's end, switching it on last. Returns whether anything was to do, and whether it is a port of the bridge.
    async fn ensure_host_end(&self, link: &Link, spec: &VethSpec) -> Result<(bool, bool)> {
        let alone = Attributes { alias: Some(&spec.alias), mac: None, mtu: Some(spec.mtu), master: None };
        let (mut changed, bridged) =
            match self.mend(link, Attributes { master: Some(spec.bridge_ifindex), ..alone }).await {
                Ok(changed) => (changed, true),
                // That is how a bridge without a free port refuses.
                Err(error) if error.errno() == Some(libc::EXFULL) => (self.mend(link, alone).await?, false),
                Err(error) => return Err(error),
            };
        if bridged {
            changed |= self.ensure_port(link, spec).await?;
        }
        // It has no addresses: what it would say for itself would only reach the container.
        changed |= self.netns.set_ipv6_sysctls(&spec.host_name, &[("disable_ipv6", "1")])?;
        Ok((changed | self.bring_up(link).await?, bridged))
    }

    /// Closes a port of the bridge against the others, and tells the bridge who is behind it.
    async fn ensure_port(&self, link: &Link, spec: &VethSpec) -> Result<bool> {
        let mut changed = false;
        let wanted = PortFlags { isolated: true, learning: false, flood: false };
        if link.master != Some(spec.bridge_ifindex) || link.port != Some(wanted) {
            let message = LinkBridgePort::new(link.ifindex)
                .isolated(wanted.isolated)
                .learning(wanted.learning)
                .flood(wanted.flood)
                .build();
            self.change(message, || format!("isolate the bridge port {}", link.name)).await?;
            changed = true;
        }
        Ok(changed | self.set_forwarding_entry(link, spec.mac).await?)
    }

    /// Sets up the container's end, which may have been `made` just now, and its loopback interface.
    pub(super) async fn ensure_container_end(&self, mut link: Link, spec: &Inside<'_>, made: bool) -> Result<bool> {
        let mut changed = self.bring_up(&self.expect_link("lo").await?).await?;
        if link.name != spec.name {
            self.rename(&mut link, spec.name).await?;
            changed = true;
        }
        let attributes = Attributes { alias: None, mac: Some(spec.mac), mtu: spec.mtu, master: None };
        changed |= self.mend(&link, attributes).await?;
        // Addresses and routes come from the agent; a neighbour that plays router must not be able to add any.
        let has_ipv6 = spec.addresses.iter().any(|address| address.addr().is_ipv6());
        let values = [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", if has_ipv6 { "0" } else { "1" })];
        changed |= self.netns.set_ipv6_sysctls(spec.name, &values)?;
        changed |= self.bring_up(&link).await?;
        if made {
            self.add_addresses(&link, spec.addresses).await?;
            return Ok(true);
        }
        Ok(changed | self.set_addresses(&link, spec.addresses).await?)
    }

    /// Gives an interface another name, for which it must be off for a moment.
    async fn rename(&self, link: &mut Link, name: &str) -> Result<()> {
        let down = LinkUnspec::new_with_index(link.ifindex).down().build();
        self.change(down, || format!("switch interface {} off", link.name)).await?;
        let renamed = LinkUnspec::new_with_index(link.ifindex).name(name).build();
        self.change(renamed, || format!("rename interface {} to {name}", link.name)).await?;
        link.name = name.to_owned();
        link.up = false;
        Ok(())
    }

    /// The number by which this connection's namespace knows `netns`, if it has one.
    async fn netns_id(&self, netns: &NetNs) -> Result<Option<i32>> {
        let mut message = NsidMessage::default();
        // Descriptors are never negative, so the cast changes nothing.
        message.attributes.push(NsidAttribute::Fd(netns.as_fd().as_raw_fd() as u32));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let action = || "look up the number of the network namespace";
        let mut answers = self.handle.clone().request(request).map_err(io_error).to(action)?;
        let mut id = None;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::Error(error) => return Err(Error::io(action(), error)),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(message)) => {
                    id = message.attributes.iter().find_map(|attribute| match attribute {
                        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Ok(id)
    }
}
