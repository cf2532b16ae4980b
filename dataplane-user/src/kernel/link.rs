//! A routing netlink connection, and what is common to all interfaces: look up, list, change.
//!
//! Bridges are made in `bridge`, veth pairs in `veth`, addresses and routes set in `address` and `route`; `deletion` deletes.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    BridgePortState, BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoPortData, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::proto::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::Socket;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};

use super::error::{Context, Error, Result};
use super::netns::NetNs;
use super::prompt;

/// A connection to the kernel's routing netlink in one network namespace. Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(super) handle: Handle,
    /// A socket of its own for lists.
    pub(super) lists: Arc<Mutex<Socket>>,
    /// Where the connection leads, for what can only be done by entering it (sysctls).
    pub(super) netns: Arc<NetNs>,
}

/// An interface as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its kind in rtnetlink's words (`bridge`, `veth`); empty for hardware and loopback.
    pub kind: String,
    /// The free text that its maker gave it (`ip link … alias`); empty if none.
    pub alias: String,
    /// Its Ethernet address, where it has one.
    pub mac: Option<[u8; 6]>,
    /// The largest packet it carries.
    pub mtu: u32,
    /// Whether it is switched on (not whether it has a carrier).
    pub up: bool,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Whether it carries packets: it is up, has a carrier, and the kernel has acted on that.
    pub(super) running: bool,
    /// What kind of bus its device is on (`pci`, `usb`, `virtio`); empty where the kernel has made it up.
    pub(super) bus: String,
    /// What stands before the IP header of its packets.
    pub(super) layer: LinkLayerType,
    /// Of a veth: number of the other end, in the other end's namespace. Of a VLAN: the interface that it is on.
    pub(super) peer: Option<u32>,
    /// Of a veth whose other end is in another namespace: that namespace as ours numbers it.
    pub(super) peer_netns: Option<i32>,
    /// Of a bridge port.
    pub(super) port: Option<PortFlags>,
    /// Of a bridge port: whether the bridge passes frames to and from it.
    pub(super) forwarding: bool,
    /// Of a bridge: whether it speaks the spanning tree protocol.
    pub(super) stp: bool,
}

/// Flags of a bridge port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PortFlags {
    /// The port exchanges frames with the bridge itself only, not with other isolated ports.
    pub(super) isolated: bool,
    /// The bridge learns addresses from the port's frames.
    pub(super) learning: bool,
    /// The port gets frames for addresses that the bridge does not know.
    pub(super) flood: bool,
}

impl Netlink {
    /// Connects to the namespace of the calling thread. Must be called within a tokio runtime, like everything here.
    pub fn open() -> Result<Self> {
        Self::with_sockets(sockets(), NetNs::home()?)
    }

    /// Connects to another namespace.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        // A netlink socket belongs for good to the namespace it was made in.
        Self::with_sockets(netns.run(sockets)?, netns.try_clone()?)
    }

    fn with_sockets(sockets: io::Result<[Socket; 2]>, netns: NetNs) -> Result<Self> {
        let served = sockets.and_then(|[requests, lists]| Ok((prompt::serve(requests)?, lists)));
        let (handle, lists) = served.to(|| "open a routing netlink socket")?;
        Ok(Self { handle, lists: Arc::new(Mutex::new(lists)), netns: Arc::new(netns) })
    }

    /// The interface called `name`.
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let request = self.handle.link().get().match_name(name);
        one(request.execute().try_next().await).to(|| format!("look up interface {name}"))
    }

    /// The interface with the number `ifindex`.
    pub(super) async fn link_by_index(&self, ifindex: u32) -> Result<Option<Link>> {
        let request = self.handle.link().get().match_index(ifindex);
        one(request.execute().try_next().await).to(|| format!("look up interface number {ifindex}"))
    }

    /// Every interface of the namespace.
    pub fn links(&self) -> Result<Vec<Link>> {
        let mut request = LinkMessage::default();
        // Of what is not kept, counters are the most.
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut links = Vec::new();
        let take = |message| {
            if let RouteNetlinkMessage::NewLink(message) = message {
                links.push(Link::from_message(&message));
            }
        };
        self.list(RouteNetlinkMessage::GetLink(request), take).to(|| "list the interfaces")?;
        Ok(links)
    }

    /// The interface called `name`, which was just made.
    pub(super) async fn expect_link(&self, name: &str) -> Result<Link> {
        let gone = || Error::Other(format!("interface {name} disappeared while it was being set up"));
        self.link(name).await?.ok_or_else(gone)
    }

    /// Waits until an interface carries packets (as a bridge port: also passes them), which the kernel arranges only some time after it was
    /// switched on. If that takes longer than a second there is a reason that is not ours to mend, such as a bridge that is off.
    pub(super) async fn wait_until_running(&self, ifindex: u32) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(1);
        while let Some(link) = self.link_by_index(ifindex).await? {
            if link.running && (link.port.is_none() || link.forwarding) {
                return Ok(());
            }
            if Instant::now() > deadline {
                tracing::warn!("interface {} is on, but carries no packets", link.name);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Changes an existing interface; `action` says what for.
    pub(super) async fn change(&self, message: LinkMessage, action: impl FnOnce() -> String) -> Result<()> {
        self.handle.link().change(message).execute().await.map_err(io_error).to(action)
    }

    /// Gives an interface the plain attributes in `wanted` that it does not have yet. Returns whether anything was to do.
    pub(super) async fn mend(&self, link: &Link, wanted: Attributes<'_>) -> Result<bool> {
        let mut message = LinkUnspec::new_with_index(link.ifindex);
        let mut changed = false;
        let mut change = |builder: &mut LinkMessageBuilder<LinkUnspec>, attribute| {
            *builder = std::mem::take(builder).append_extra_attribute(attribute);
            changed = true;
        };
        if let Some(alias) = wanted.alias.filter(|alias| *alias != link.alias) {
            change(&mut message, LinkAttribute::IfAlias(alias.to_owned()));
        }
        if let Some(mac) = wanted.mac.filter(|mac| Some(*mac) != link.mac) {
            change(&mut message, LinkAttribute::Address(mac.to_vec()));
        }
        if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != link.mtu) {
            change(&mut message, LinkAttribute::Mtu(mtu));
        }
        if let Some(master) = wanted.master.filter(|master| Some(*master) != link.master) {
            change(&mut message, LinkAttribute::Controller(master));
        }
        if changed {
            self.change(message.build(), || format!("set up interface {}", link.name)).await?;
        }
        Ok(changed)
    }

    /// Switches an interface on. Returns whether it was off.
    pub(super) async fn bring_up(&self, link: &Link) -> Result<bool> {
        if link.up {
            return Ok(false);
        }
        let message = LinkUnspec::new_with_index(link.ifindex).up().build();
        self.change(message, || format!("switch interface {} on", link.name)).await?;
        Ok(true)
    }
}

/// What [`Netlink::mend`] makes sure of.
#[derive(Clone, Copy, Default)]
pub(super) struct Attributes<'a> {
    pub(super) alias: Option<&'a str>,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) mtu: Option<u32>,
    pub(super) master: Option<u32>,
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let mut link = Self {
            ifindex: message.header.index,
            name: String::new(),
            kind: String::new(),
            alias: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            master: None,
            running: message.header.flags.contains(LinkFlags::Running),
            bus: String::new(),
            layer: message.header.link_layer_type,
            peer: None,
            peer_netns: None,
            port: None,
            forwarding: false,
            stp: false,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(master) => link.master = Some(*master).filter(|index| *index != 0),
                LinkAttribute::ParentDevBusName(bus) => link.bus.clone_from(bus),
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::LinkNetNsId(id) => link.peer_netns = Some(*id),
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link.take_info(info)),
                _ => {}
            }
        }
        link
    }

    fn take_info(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = kind.to_string(),
            LinkInfo::Data(InfoData::Bridge(attributes)) => {
                self.stp = attributes.iter().any(
                    |attribute| matches!(attribute, InfoBridge::StpState(state) if *state != BridgeStpState::Disabled),
                );
            }
            LinkInfo::PortData(InfoPortData::BridgePort(attributes)) => {
                let mut flags = PortFlags::default();
                for attribute in attributes {
                    match attribute {
                        InfoBridgePort::Isolated(on) => flags.isolated = *on,
                        InfoBridgePort::Learning(on) => flags.learning = *on,
                        InfoBridgePort::UnicastFlood(on) => flags.flood = *on,
                        InfoBridgePort::State(state) => self.forwarding = *state == BridgePortState::Forwarding,
                        _ => {}
                    }
                }
                self.port = Some(flags);
            }
            _ => {}
        }
    }
}

/// One for requests and one for lists, in the namespace of the calling thread.
fn sockets() -> io::Result<[Socket; 2]> {
    Ok([Socket::new(NETLINK_ROUTE)?, Socket::new(NETLINK_ROUTE)?])
}

/// The single answer to a look-up; that there is no such device is an answer too.
fn one(answer: std::result::Result<Option<LinkMessage>, rtnetlink::Error>) -> io::Result<Option<Link>> {
    match answer.map_err(io_error) {
        Ok(message) => Ok(message.as_ref().map(Link::from_message)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel's error number out of a netlink answer.
pub(super) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
