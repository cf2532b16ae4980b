//! The maps, and the traits by which generic code finds those of its address family. Layouts: `dataplane_common::layout`.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, bpf_fib_lookup, bpf_sock_tuple},
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use dataplane_common::{
    Address, DropReason, Flow, FlowKey, Protocol, V4, V6, Zone,
    address::AnyAddress,
    bandwidth::Limits,
    decision::World,
    fragment::{COUNTERS, FragmentKey, Fragmented, MAX_FRAGMENTED, MAX_SHELVES, PLACES, Shelf, Waiting},
    layout::{
        self, AllowedKey, Config, DEFAULT_FLOWS, DropCount, DropKey, EMBRYOS, Endpoint, Interface, LinkKey,
        MAX_ALLOWED, MAX_CLIENTS, MAX_ENDPOINTS, MAX_INTERFACES, MAX_LINKS, MAX_LOCAL_ADDRESSES, MAX_NETWORKS,
        MAX_PORTS, MAX_PUBLISHED, MAX_SOCKET_PEERS, MAX_TRUSTED, MAX_UPLINKS, Neighbor, Network, PORTS_TOGETHER,
        PortCount, Published, PublishedKey, SHORT_CUTS, SocketPeer, SocketPeerKey, Tops, TrustedKey, Uplink,
    },
    rate::{Bucket, ClientKey},
    wire::{Be16, Frame, IpHeader, Packet},
};

use crate::flow;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Whose interface is it? By ifindex.
#[btf_map]
pub static INTERFACES: HashMap<u32, Interface, MAX_INTERFACES, NO_PREALLOC> = HashMap::new();

/// A short cut past [`INTERFACES`]: in which slot may the endpoint of an interface be? By `layout::place_of_interface`; where two share
/// a place, only one is here, and the slot's endpoint tells whether it is the right one. An array's look-up costs a tenth of a hash's.
#[btf_map]
pub static INTERFACE_SLOTS: Array<u32, SHORT_CUTS> = Array::new();

/// The same past [`NEIGHBORS`], by `layout::place_of_address`.
#[btf_map]
pub static ADDRESS_SLOTS: Array<u32, SHORT_CUTS> = Array::new();

/// Endpoints by slot.
#[btf_map]
pub static ENDPOINTS: Array<Endpoint, MAX_ENDPOINTS> = Array::new();

/// How many flows each endpoint owns, by slot.
#[btf_map]
pub static FLOW_COUNTS: Array<u64, MAX_ENDPOINTS> = Array::new();

/// Networks by slot.
#[btf_map]
pub static NETWORKS: Array<Network, MAX_NETWORKS> = Array::new();

/// The neighbours of one network by address. The agent makes such a map for each network, as large as its subnet.
pub type Neighbors = HashMap<AnyAddress, Neighbor, 1024, NO_PREALLOC>;

/// Each network's own map of neighbours, by network slot.
#[btf_map]
pub static NEIGHBORS: ArrayOfMaps<Neighbors, MAX_NETWORKS> = ArrayOfMaps::new();

/// Subnets of all networks: which network does an address belong to? IPv4 is mapped into IPv6.
#[btf_map]
pub static SUBNETS: LpmTrie<AnyAddress, u32, { 4 * MAX_NETWORKS }> = LpmTrie::new();

/// Which addresses may be in [`SUBNETS`]: IPv4's, then IPv6's. A look-up in an array is hardly more than reading memory.
#[btf_map]
pub static TOPS: Array<Tops, 2> = Array::new();

/// The host's own addresses.
#[btf_map]
pub static LOCAL_ADDRESSES: HashMap<AnyAddress, u32, MAX_LOCAL_ADDRESSES, NO_PREALLOC> = HashMap::new();

/// Published ports.
#[btf_map]
pub static PUBLISHED: HashMap<PublishedKey, Published, MAX_PUBLISHED, NO_PREALLOC> = HashMap::new();

/// Generations of published ports, by port slot: flows that carry an older number are dead.
#[btf_map]
pub static PORT_GENERATIONS: Array<u32, MAX_PORTS> = Array::new();

/// What went through published ports, [`PORTS_TOGETHER`] of them in each map. The agent makes a map with the first of its ports, and
/// removes it with the last: for all ports that there may be, counters would take a MiB for each CPU.
#[btf_map]
pub static PORT_COUNTERS: ArrayOfMaps<PerCpuArray<PortCount, PORTS_TOGETHER>, { MAX_PORTS / PORTS_TOGETHER }> =
    ArrayOfMaps::new();

/// The clients that may use restricted ports: 1, or 0 for those that may not although a shorter prefix holds them.
#[btf_map]
pub static ALLOWED: LpmTrie<AllowedKey, u32, MAX_ALLOWED> = LpmTrie::new();

/// Whom the host's own sockets believe to talk to, where they really talk to a container.
#[btf_map]
pub static SOCKET_PEERS: LruHashMap<SocketPeerKey, SocketPeer, MAX_SOCKET_PEERS> = LruHashMap::new();

/// Through which interface is which network's container reached directly?
#[btf_map]
pub static TRUSTED: HashMap<TrustedKey, u32, MAX_TRUSTED, NO_PREALLOC> = HashMap::new();

/// Which port of which endpoint may another one use, where its network does not let its containers talk to each other?
#[btf_map]
pub static LINKS: HashMap<LinkKey, u32, MAX_LINKS, NO_PREALLOC> = HashMap::new();

/// Uplinks by ifindex.
#[btf_map]
pub static UPLINKS: HashMap<u32, Uplink, MAX_UPLINKS> = HashMap::new();

/// What the agent tells all programs.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();

/// How fast clients open flows to ports that limit it.
#[btf_map]
pub static CLIENTS: LruHashMap<ClientKey, Bucket, MAX_CLIENTS> = LruHashMap::new();

/// How fast endpoints may be that have a limit, by slot.
#[btf_map]
pub static LIMITS: HashMap<u32, Limits, MAX_ENDPOINTS, NO_PREALLOC> = HashMap::new();

/// Dropped packets by endpoint and reason.
#[btf_map]
pub static DROPS: PerCpuHashMap<DropKey, DropCount, 65_536, NO_PREALLOC> = PerCpuHashMap::new();

/// IPv4 flows.
#[btf_map]
pub static FLOWS4: FlowMap<V4> = HashMap::new();

/// IPv6 flows.
#[btf_map]
pub static FLOWS6: FlowMap<V6> = HashMap::new();

/// What the agent knows of the flow tables: one of [`layout::swept`].
#[btf_map]
pub static SWEPT: Array<u32, 1> = Array::new();

/// Has the agent look at the flow tables: a record for the first flow after it has found them empty, and for the first with which room is
/// short after it has looked.
#[btf_map]
pub static FLOW_ALARM: RingBuf<u32, 4096> = RingBuf::new();

/// IPv4 flows to published ports whose client has yet to show that it sees the answers.
#[btf_map]
pub static EMBRYOS4: EmbryoMap<V4> = LruHashMap::new();

/// The same for IPv6.
#[btf_map]
pub static EMBRYOS6: EmbryoMap<V6> = LruHashMap::new();

/// What first fragments have told.
#[btf_map]
pub static FRAGMENTED: LruHashMap<FragmentKey, Fragmented, MAX_FRAGMENTED> = LruHashMap::new();

/// Counters that identifications of fragmented IPv4 packets are taken from.
#[btf_map]
pub static IDENTIFICATIONS: Array<u64, COUNTERS> = Array::new();

/// Who waits where.
#[btf_map]
pub static SHELVES: Array<Shelf, MAX_SHELVES> = Array::new();

/// Fragments that came before their packet's first one: each shelf's places, one shelf after the other.
#[btf_map]
pub static WAITING: Array<Waiting, { MAX_SHELVES * PLACES }> = Array::new();

/// Where such flows are kept: an LRU, so that a flood of clients that do not exist pushes out its own.
pub type EmbryoMap<A> = LruHashMap<FlowKey<A>, Flow<A>, EMBRYOS>;

/// A flow table: a preallocated hash, since an LRU forgets idle flows that are alive.
pub type FlowMap<A> = HashMap<FlowKey<A>, Flow<A>, DEFAULT_FLOWS>;

/// Memory of each CPU for what would not fit on the stack (512 bytes for all functions on the way). TC and XDP programs on one CPU
/// run one after the other.
#[btf_map]
static PACKET4: PerCpuArray<Packet<V4>, 1> = PerCpuArray::new();
#[btf_map]
static PACKET6: PerCpuArray<Packet<V6>, 1> = PerCpuArray::new();
#[btf_map]
static ROUTE_QUESTION: PerCpuArray<bpf_fib_lookup, 1> = PerCpuArray::new();
#[btf_map]
static SOCKET_QUESTION: PerCpuArray<bpf_sock_tuple, 1> = PerCpuArray::new();

/// This CPU's memory for a question to `bpf_fib_lookup`.
#[inline(always)]
pub fn route_question() -> Option<&'static mut bpf_fib_lookup> {
    // SAFETY: the memory is this CPU's own, and only `route::lookup` uses it, which calls nothing that does.
    ROUTE_QUESTION.get_ptr_mut(0).map(|question| unsafe { &mut *question })
}

/// This CPU's memory for a question to the socket look-up helpers.
#[inline(always)]
pub fn socket_question() -> Option<&'static mut bpf_sock_tuple> {
    // SAFETY: the memory is this CPU's own, and only `Flows::host_socket` uses it, which calls nothing that does.
    SOCKET_QUESTION.get_ptr_mut(0).map(|question| unsafe { &mut *question })
}

/// What the agent tells all programs; it is there before the first program runs.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// Has the agent set this flag, [`Config::RATED`] or another?
#[inline(always)]
pub fn has_flag(flag: u32) -> bool {
    config().is_some_and(|config| config.flags & flag != 0)
}

/// May this client use the restricted port in a slot? The longest prefix decides: a list that allows all of IPv6 excepts the IPv4
/// addresses that are mapped into it.
#[inline(always)]
pub fn is_allowed(slot: u32, client: AnyAddress) -> bool {
    ALLOWED.get(&Key::new(160, AllowedKey { slot, client })).is_some_and(|&allowed| allowed != 0)
}

/// Reads the packet that a program judges.
///
/// # Errors
///
/// [`DropReason::Malformed`].
#[inline(always)]
pub fn parse<A: Family>(frame: &impl Frame) -> Result<&'static mut Packet<A>, DropReason> {
    let Some(packet) = A::packet() else { return Err(DropReason::Malformed) };
    // SAFETY: the memory is this CPU's own, and a program reads one packet only, once: now.
    let packet = unsafe { &mut *packet };
    read_packet(frame, packet)?;
    Ok(packet)
}

/// A function of its own for its stack.
#[inline(never)]
fn read_packet<A: Family>(frame: &impl Frame, packet: &mut Packet<A>) -> Result<(), DropReason> {
    packet.read(frame)
}

/// The network namespace in which the agent works (`SO_NETNS_COOKIE`); socket programs leave all others alone.
#[unsafe(no_mangle)]
static HOST_NETNS_COOKIE: Global<u64> = Global::new(0);

/// Extra flags for IPv6 checksum updates: `BPF_F_IPV6` where the kernel knows it (6.16), else 0.
#[unsafe(no_mangle)]
static IPV6_CHECKSUM_FLAG: Global<u64> = Global::new(0);

/// Must a packet be marked as ours before it is redirected to a peer? Before 6.15 the kernel does not do it by itself.
#[unsafe(no_mangle)]
static MARK_HOST: Global<u8> = Global::new(1);

/// The agent's network namespace.
#[inline(always)]
pub fn host_netns_cookie() -> u64 {
    HOST_NETNS_COOKIE.load()
}

/// See [`IPV6_CHECKSUM_FLAG`].
#[inline(always)]
pub fn ipv6_checksum_flag() -> u64 {
    IPV6_CHECKSUM_FLAG.load()
}

/// See [`MARK_HOST`].
#[inline(always)]
pub fn mark_host() -> bool {
    MARK_HOST.load() != 0
}

/// The flow table of a family, and its part of the values that hold both.
pub trait Family: IpHeader + 'static {
    /// This CPU's memory for the packet that is judged.
    fn packet() -> Option<*mut Packet<Self>>;
    /// The family's flow table.
    fn flows() -> &'static FlowMap<Self>;
    /// The family's flows that have yet to be proven.
    fn embryos() -> &'static EmbryoMap<Self>;
    /// An endpoint's address.
    fn of_endpoint(endpoint: &Endpoint) -> Self;
    /// An endpoint's link-local address; the unspecified one for IPv4, which has none.
    fn link_local_of_endpoint(endpoint: &Endpoint) -> Self;
    /// A network's subnet and mask.
    fn subnet(network: &Network) -> (Self, Self);
    /// A network's gateway.
    fn gateway(network: &Network) -> Self;
    /// An uplink's address.
    fn of_uplink(uplink: &Uplink) -> Self;
    /// The address with which a network masquerades whatever the uplink, if it is not unspecified.
    fn source_of(network: &Network) -> Self;
}

impl Family for V4 {
    #[inline(always)]
    fn packet() -> Option<*mut Packet<Self>> {
        PACKET4.get_ptr_mut(0)
    }

    #[inline(always)]
    fn flows() -> &'static FlowMap<Self> {
        &FLOWS4
    }

    #[inline(always)]
    fn embryos() -> &'static EmbryoMap<Self> {
        &EMBRYOS4
    }

    #[inline(always)]
    fn of_endpoint(endpoint: &Endpoint) -> Self {
        endpoint.v4
    }

    #[inline(always)]
    fn link_local_of_endpoint(_: &Endpoint) -> Self {
        Self::UNSPECIFIED
    }

    #[inline(always)]
    fn subnet(network: &Network) -> (Self, Self) {
        (network.v4, network.v4_mask)
    }

    #[inline(always)]
    fn gateway(network: &Network) -> Self {
        network.v4_gateway
    }

    #[inline(always)]
    fn of_uplink(uplink: &Uplink) -> Self {
        uplink.v4
    }

    #[inline(always)]
    fn source_of(network: &Network) -> Self {
        network.v4_source
    }
}

impl Family for V6 {
    #[inline(always)]
    fn packet() -> Option<*mut Packet<Self>> {
        PACKET6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn flows() -> &'static FlowMap<Self> {
        &FLOWS6
    }

    #[inline(always)]
    fn embryos() -> &'static EmbryoMap<Self> {
        &EMBRYOS6
    }

    #[inline(always)]
    fn of_endpoint(endpoint: &Endpoint) -> Self {
        endpoint.v6
    }

    #[inline(always)]
    fn link_local_of_endpoint(endpoint: &Endpoint) -> Self {
        endpoint.link_local
    }

    #[inline(always)]
    fn subnet(network: &Network) -> (Self, Self) {
        (network.v6, network.v6_mask)
    }

    #[inline(always)]
    fn gateway(network: &Network) -> Self {
        network.v6_gateway
    }

    #[inline(always)]
    fn of_uplink(uplink: &Uplink) -> Self {
        uplink.v6
    }

    #[inline(always)]
    fn source_of(network: &Network) -> Self {
        network.v6_source
    }
}

/// This CPU's counters of the published port in a slot.
#[inline(always)]
pub fn port_count(slot: u32) -> Option<*mut PortCount> {
    PORT_COUNTERS.get_value_ptr_mut(slot / PORTS_TOGETHER as u32, &(slot % PORTS_TOGETHER as u32))
}

/// The neighbour with this address in a network.
#[inline(always)]
pub fn neighbor(network: Zone, address: AnyAddress) -> Option<&'static Neighbor> {
    let pointer = NEIGHBORS.get_value_ptr_mut(u32::from(network.0), &address)?;
    // SAFETY: the kernel frees a removed element only after an RCU grace period, which this program's run holds off, and
    // only the agent writes these values.
    Some(unsafe { &*pointer })
}

/// A network's own map of neighbours, as helpers take it.
#[inline(always)]
pub fn neighbors(network: Zone) -> Option<*mut c_void> {
    let map: &Neighbors = NEIGHBORS.get(u32::from(network.0))?;
    Some((&raw const *map).cast_mut().cast())
}

/// The interface with this index, if it is ours.
#[inline(always)]
pub fn interface(ifindex: u32) -> Option<Interface> {
    // SAFETY: copied at once; only the agent writes.
    unsafe { INTERFACES.get(ifindex) }.copied()
}

/// The endpoint at whose interface with this index a program runs, and its slot.
#[inline(always)]
pub fn endpoint_at(ifindex: u32) -> Option<(u32, &'static Endpoint)> {
    if let Some(&slot) = INTERFACE_SLOTS.get(layout::place_of_interface(ifindex))
        && let Some(endpoint) = ENDPOINTS.get(slot)
        && endpoint.ifindex == ifindex
    {
        return Some((slot, endpoint));
    }
    let slot = interface(ifindex)?.endpoint;
    Some((slot, ENDPOINTS.get(slot)?))
}

/// The endpoint with this address in a network, and its slot, where the short cut leads to it; [`neighbor`] finds all.
#[inline(always)]
pub fn endpoint_near<A: Family>(network: Zone, address: A) -> Option<(u32, &'static Endpoint)> {
    let &slot = ADDRESS_SLOTS.get(layout::place_of_address(network, address))?;
    let endpoint = ENDPOINTS.get(slot)?;
    (endpoint.network == network && A::of_endpoint(endpoint) == address).then_some((slot, endpoint))
}

/// The uplink with this index.
#[inline(always)]
pub fn uplink(ifindex: u32) -> Option<Uplink> {
    // SAFETY: copied at once; only the agent writes.
    unsafe { UPLINKS.get(ifindex) }.copied()
}

/// May an endpoint use this port of another one?
#[inline(always)]
pub fn is_link(key: LinkKey) -> bool {
    // SAFETY: only the presence of the entry is looked at.
    unsafe { LINKS.get(key) }.is_some()
}

/// The maps as the rules see them.
pub struct Maps;

impl<A: Address> World<A> for Maps {
    #[inline(always)]
    fn is_local(&self, address: A) -> bool {
        // SAFETY: only the presence of the entry is looked at.
        unsafe { LOCAL_ADDRESSES.get(address.any()) }.is_some()
    }

    #[inline(always)]
    fn network_of(&self, address: A) -> Option<Zone> {
        if !TOPS.get(u32::from(A::IS_V6)).is_some_and(|tops| tops.may_have(address.top())) {
            return None;
        }
        SUBNETS.get(&Key::new(128, address.any())).map(|&slot| Zone(slot as u16))
    }

    #[inline(always)]
    fn network(&self, zone: Zone) -> Option<&Network> {
        flow::network(zone)
    }

    #[inline(always)]
    fn endpoint(&self, zone: Zone, address: A) -> Option<u32> {
        neighbor(zone, address.any()).map(|neighbor| neighbor.endpoint)
    }

    #[inline(always)]
    fn trusts(&self, zone: Zone, ifindex: u32) -> bool {
        // SAFETY: only the presence of the entry is looked at.
        unsafe { TRUSTED.get(TrustedKey { ifindex, network: zone.0.into() }) }.is_some()
    }

    #[inline(always)]
    fn published(&self, address: A, port: Be16, protocol: Protocol) -> Option<Published> {
        // SAFETY: copied at once; only the agent writes.
        unsafe { PUBLISHED.get(PublishedKey { address: address.any(), port, protocol, reserved: 0 }) }.copied()
    }
}
