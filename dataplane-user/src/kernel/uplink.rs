//! What the host looks like to the data plane: its uplinks, its own addresses, its routes; followed live.
//!
//! It only looks: what is done with a change is the agent's business.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::address::{AddressFlags, AddressScope};
use rtnetlink::packet_route::link::LinkLayerType;
use rtnetlink::proto::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::address::Address;
use super::error::{Context, Error, Result};
use super::link::{Link, Netlink};
use super::news::News;
use super::route::{Route, Routes};

/// Changes come in bursts (an interface, its addresses, its routes); one look after the burst is enough.
const SETTLE: Duration = Duration::from_millis(20);

/// How long to wait before looking again after a look failed.
const RETRY: Duration = Duration::from_millis(500);

/// The buses on which hypervisors (KVM, Hyper-V, Xen) offer interfaces to their machines.
const HYPERVISORS: [&str; 3] = ["virtio", "vmbus", "xen"];

/// The kinds of interface by which containers and virtual machines are plugged into a bridge.
const GUESTS: [&str; 2] = ["veth", "tun"];

/// The kinds of change that can alter a [`HostView`].
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Tells by name which interfaces belong to the agent itself: the addresses that it gave them, none of anybody else's.
pub type Own = Arc<dyn Fn(&str) -> Option<Vec<IpNet>> + Send + Sync>;

/// Which interfaces are uplinks.
#[derive(Clone)]
pub struct UplinkRule {
    /// Exactly these, as far as they exist. Empty: every interface that is up, not loopback, not ours, and holds a route.
    pub names: Vec<String>,
    /// Tells the agent's own interfaces.
    pub own: Own,
}

/// An interface through which the outside is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UplinkInfo {
    /// Its name.
    pub name: String,
    /// Its number.
    pub ifindex: u32,
    /// The source address for masqueraded IPv4: the preferred source of its default route, else its first global address.
    pub ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The largest packet it carries.
    pub mtu: u32,
    /// What its packets begin with.
    pub link_type: LinkType,
    /// Whether there is a device behind it, and one that is not made by a hypervisor.
    pub hardware: bool,
    /// Whether VLANs of it are interfaces of their own.
    pub has_vlans: bool,
    /// Whether it is a bridge for guests of this host (Docker's, libvirt's), by all that can be seen: it holds no default route,
    /// and no port of it leads to a device. Never where uplinks are named.
    pub inside: bool,
}

/// What the packets of an interface begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkType {
    /// An Ethernet header.
    Ethernet,
    /// The IP header itself (tunnels, WireGuard, PPP).
    Ip,
}

/// What the host looks like at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostView {
    /// The uplinks, by number.
    pub uplinks: Vec<UplinkInfo>,
    /// Every unicast address that is the host's own, on any interface, loopback included; but for those that the agent gave its own
    /// interfaces.
    pub local_addresses: BTreeSet<IpAddr>,
    /// The destinations of all unicast routes of the main table but default, link-local, and those through our own interfaces.
    pub routes: Vec<IpNet>,
    /// Counts the changes followed so far. A route may change its next hop, or stand in a table that is not looked at here,
    /// and alter nothing else in this view.
    pub revision: u64,
}

/// Looks at the host once.
pub fn snapshot(netlink: &Netlink, rule: &UplinkRule) -> Result<HostView> {
    let links = netlink.links()?;
    let addresses = netlink.addresses()?;
    let routes = netlink.routes()?;
    Ok(view(&links, &addresses, &routes, rule))
}

/// Follows the host's links, addresses and routes.
#[derive(Debug)]
pub struct HostWatch {
    view: watch::Receiver<HostView>,
    heard: Arc<Notify>,
    task: AbortHandle,
}

impl HostWatch {
    /// Begins to follow the namespace of `netlink`. The first look is taken before this returns.
    pub async fn start(netlink: &Netlink, rule: UplinkRule) -> Result<Self> {
        // Listening first: what changes during the first look is seen by the second.
        let changes = netlink.netns.run(open_multicast)?.to(|| "listen for changes of links, addresses and routes")?;
        // SAFETY: the socket owns its descriptor, which stays open until `changes` is dropped.
        let changes = unsafe { AsyncFd::register_with_interest(changes, Interest::READABLE) };
        let changes = changes.to(|| "listen for changes of links, addresses and routes")?;
        let netlink = netlink.clone();
        let (sender, view) = watch::channel(snapshot(&netlink, &rule)?);
        let heard = Arc::new(Notify::new());
        let hears = heard.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = follow(&netlink, &rule, &changes, &sender, &hears).await {
                tracing::error!("no longer following the host's links, addresses and routes: {error}");
            }
        });
        Ok(Self { view, heard, task: task.abort_handle() })
    }

    /// The newest view.
    pub fn current(&self) -> HostView {
        self.view.borrow().clone()
    }

    /// Told of every change, also of those that cannot alter the view: the agent's own interfaces may have been touched.
    pub fn heard(&self) -> Arc<Notify> {
        self.heard.clone()
    }

    /// Waits until something has changed since this returned last (or since [`HostWatch::start`]). Cancel safe.
    pub async fn changed(&mut self) -> HostView {
        if self.view.changed().await.is_err() {
            // The task that follows has ended, which its log entry told; nothing will ever change again.
            std::future::pending::<()>().await;
        }
        self.view.borrow_and_update().clone()
    }
}

impl Drop for HostWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hears and looks at once: an operation is over before a crowded host has been looked at, and the names of its interfaces are forgotten.
/// Who heard of them only then would take them for somebody else's, look again, and never catch up.
async fn follow(
    netlink: &Netlink,
    rule: &UplinkRule,
    changes: &AsyncFd<Socket>,
    sender: &watch::Sender<HostView>,
    heard: &Notify,
) -> Result<()> {
    let news = Notify::new();
    tokio::select! {
        ended = hear(changes, News::new(rule.own.clone()), heard, &news) => ended,
        () = look_at_news(netlink, rule, sender, &news) => Ok(()),
    }
}

/// Looks after each burst of news, on a thread of its own, as it takes long where there are many interfaces. Never returns.
async fn look_at_news(netlink: &Netlink, rule: &UplinkRule, sender: &watch::Sender<HostView>, news: &Notify) {
    loop {
        news.notified().await;
        tokio::time::sleep(SETTLE).await;
        loop {
            let (netlink, rule) = (netlink.clone(), rule.clone());
            let looked = tokio::task::spawn_blocking(move || snapshot(&netlink, &rule)).await;
            match looked.unwrap_or_else(|panicked| Err(Error::Other(format!("looking at the host: {panicked}")))) {
                Ok(new) => {
                    sender.send_modify(|view| *view = HostView { revision: view.revision.wrapping_add(1), ..new });
                    break;
                }
                Err(error) => {
                    tracing::warn!("{error}, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

fn open_multicast() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.add_membership(group as u32)?;
    }
    Ok(socket)
}

/// Reads all messages as they come, and tells of those that are news. It does not matter if some were lost. Returns only if it fails.
async fn hear(changes: &AsyncFd<Socket>, mut known: News, heard: &Notify, news: &Notify) -> Result<()> {
    let action = || "read changes of links, addresses and routes";
    let mut buffer = Vec::with_capacity(32 * 1024);
    loop {
        let mut ready = changes.readable().await.to(action)?;
        let mut seen = false;
        loop {
            buffer.clear();
            match ready.try_io(|socket| socket.get_ref().recv(&mut buffer, 0)) {
                Ok(Ok(_)) => seen |= known.is_news(&buffer),
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    known.forget();
                    seen = true;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(Error::io(action(), error)),
                Err(_would_block) => break,
            }
        }
        heard.notify_one();
        if seen {
            news.notify_one();
        }
    }
}

/// Puts a view together from what the kernel listed.
fn view(links: &[Link], addresses: &[Address], routes: &Routes, rule: &UplinkRule) -> HostView {
    let own: HashMap<u32, Vec<IpNet>> =
        links.iter().filter_map(|link| Some((link.ifindex, (rule.own)(&link.name)?))).collect();
    let is_uplink = |link: &Link| {
        if rule.names.is_empty() {
            link.up
                && link.layer != LinkLayerType::Loopback
                && !own.contains_key(&link.ifindex)
                && routes.unicast.iter().any(|route| leads_outside(route, link))
        } else {
            rule.names.contains(&link.name)
        }
    };
    let mut uplinks: Vec<_> = links
        .iter()
        .filter(|link| is_uplink(link))
        .map(|link| {
            let inside = rule.names.is_empty() && is_inside(link, links, &routes.unicast);
            UplinkInfo { inside, ..uplink(link, links, addresses, &routes.unicast) }
        })
        .collect();
    uplinks.sort_by_key(|uplink| uplink.ifindex);

    let elsewhere = routes.unicast.iter().filter(|route| !own.contains_key(&route.ifindex) && !route.is_link_local());
    let destinations = elsewhere.map(|route| route.destination.trunc()).filter(|network| network.prefix_len() != 0);
    let destinations: BTreeSet<IpNet> = destinations.collect();
    let given = |ifindex, address| own.get(ifindex).is_some_and(|given| given.iter().any(|net| net.addr() == address));
    let local = routes.local.iter().filter(|(ifindex, address)| !given(ifindex, *address));
    let local_addresses = local.map(|(_, address)| *address).collect();
    HostView { uplinks, local_addresses, routes: destinations.into_iter().collect(), revision: 0 }
}

/// A route through `link` that leads to more than its neighbours' link-local addresses.
fn leads_outside(route: &Route, link: &Link) -> bool {
    route.ifindex == link.ifindex && !route.is_link_local()
}

/// A bridge that nothing but guests of this host are plugged into.
fn is_inside(link: &Link, links: &[Link], routes: &[Route]) -> bool {
    let mut ports = links.iter().filter(|port| port.master == Some(link.ifindex));
    link.kind == "bridge"
        && ports.all(|port| GUESTS.contains(&port.kind.as_str()))
        && !routes.iter().any(|route| route.ifindex == link.ifindex && route.destination.prefix_len() == 0)
}

fn uplink(link: &Link, links: &[Link], addresses: &[Address], routes: &[Route]) -> UplinkInfo {
    let mut ipv4 = None;
    let mut ipv6 = None;
    let mut routes: Vec<&Route> = routes.iter().filter(|route| leads_outside(route, link)).collect();
    // Default routes first, and among equals the one that the kernel prefers.
    routes.sort_by_key(|route| (route.destination.prefix_len(), route.priority));
    let preferred = routes.iter().filter_map(|route| route.preferred_source);
    let usable = addresses.iter().filter(|address| address.ifindex == link.ifindex && may_be_source(address));
    // Those of a subnet first, and of IPv6's, which the kernel lists from the newest on, the oldest: another address of the host
    // changes nothing.
    let alone = |address: &&Address| address.network.prefix_len() == address.network.max_prefix_len();
    let (single, of_subnets): (Vec<_>, Vec<_>) = usable.partition(alone);
    for address in preferred.chain(oldest_first(&of_subnets)).chain(oldest_first(&single)) {
        match address {
            IpAddr::V4(address) => ipv4 = ipv4.or(Some(address)),
            IpAddr::V6(address) => ipv6 = ipv6.or(Some(address)),
        }
    }
    let link_type = if link.layer == LinkLayerType::Ether { LinkType::Ethernet } else { LinkType::Ip };
    let hardware = !link.bus.is_empty() && !HYPERVISORS.contains(&link.bus.as_str());
    let has_vlans = links.iter().any(|other| other.kind == "vlan" && other.peer == Some(link.ifindex));
    let (name, ifindex, mtu) = (link.name.clone(), link.ifindex, link.mtu);
    UplinkInfo { name, ifindex, ipv4, ipv6, mtu, link_type, hardware, has_vlans, inside: false }
}

/// The kernel lists IPv4 addresses from the oldest on, IPv6 addresses from the newest.
fn oldest_first(addresses: &[&Address]) -> impl Iterator<Item = IpAddr> {
    let all = || addresses.iter().map(|address| address.network.addr());
    all().filter(IpAddr::is_ipv4).chain(all().rev().filter(IpAddr::is_ipv6))
}

/// Whether new connections to elsewhere may use the address. For IPv4 the bit of "temporary" means "secondary".
fn may_be_source(address: &Address) -> bool {
    let unusable =
        AddressFlags::Deprecated | AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Secondary;
    address.scope == AddressScope::Universe && address.preferred != 0 && !address.flags.intersects(unusable)
}
