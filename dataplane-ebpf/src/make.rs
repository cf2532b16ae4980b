//! How flows are made: a pair of entries is put together, then written, with a port chosen where one is wanted.
//!
//! The entry of the reply direction is written first, with `BPF_NOEXIST`: that claims the translated port.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_TCP_LISTEN, bpf_sock_tuple},
    btf_maps::PerCpuArray,
    helpers::generated::{bpf_get_prandom_u32, bpf_loop, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
    macros::btf_map,
};
use dataplane_common::{
    Address as _, DropReason, Flow, FlowKey, Protocol, Tuple, V4, V6, Zone,
    decision::World,
    flow::Party,
    layout::{Config, Endpoint, Network, Published, is_crowded, swept},
    port::{self, Pool, TRIES},
    wire::{Be16, Kind, Packet},
};

use crate::{
    embryo,
    flow::{add_to_count, endpoint, network, now, port_generation, wake_sweeper},
    mapping,
    maps::{self, FLOW_COUNTS, Maps, config},
    rewrite::Rewrite,
    route::Hop,
    skb::Skb,
};

/// `-EEXIST`, as map updates return it.
const EEXIST: i32 = -17;

/// By how much a packet shrinks on its way from IPv6 to IPv4.
const SHRINKS: u32 = (V6::HEADER_LEN - V4::HEADER_LEN) as u32;

/// Where keys and entries are put together: on the stack they would not fit.
#[repr(C)]
pub struct Work<A> {
    /// The original direction's key.
    pub key: FlowKey<A>,
    /// The reply direction's key.
    pub sibling: FlowKey<A>,
    /// The original direction's entry.
    pub original: Flow<A>,
    /// The reply direction's entry.
    pub reply: Flow<A>,
    /// The published port to which the packet goes.
    pub published: Published,
    /// How its port is found.
    pub search: PortSearch,
}

impl<A: Copy> Work<A> {
    /// Makes the packet's key the one that is looked for; in place, since it would not fit on everybody's stack.
    #[inline(always)]
    pub fn ask(&mut self, packet: &Packet<A>, zone: Zone) {
        self.key.tuple = packet.tuple;
        self.key.protocol = packet.protocol;
        self.key.zone = zone;
    }

    /// How the sender's port or identifier is found, for [`insert`].
    #[inline(always)]
    pub fn set_ports(&mut self, ports: Ports) {
        self.search.ports = ports;
    }
}

impl<A: Make> Work<A> {
    /// Puts a port into the flow that is being made, the one to try now, and the reply's key with it in place.
    #[inline(always)]
    pub fn try_port(&mut self, attempt: u32) {
        let search = &self.search;
        if attempt > 0 || search.ports == Ports::Choose {
            let mut after = self.original.after;
            after.source_port = Be16::new(search.pool.candidate(attempt, search.inside, search.offset, search.random));
            self.original.after = after;
        }
        self.sibling = self.original.sibling(search.protocol);
    }

    /// Tries a port first of which is known that it is the sender's.
    #[inline(always)]
    pub fn keep_port(&mut self, port: Be16) {
        let mut after = self.original.after;
        after.source_port = port;
        self.original.after = after;
        if self.search.ports == Ports::Choose {
            self.search.ports = Ports::Known;
        }
    }

    /// Is that port, if it was chosen, published or in use by a socket of the host?
    #[inline(always)]
    pub fn is_anothers(&self, skb: &Skb<'_>, attempt: u32) -> bool {
        self.has_chosen(attempt) && is_taken::<A>(skb, self.search.protocol, &self.sibling.tuple)
    }

    /// Was the port chosen that is tried now? The first one may be known to be free.
    #[inline(always)]
    fn has_chosen(&self, attempt: u32) -> bool {
        let ports = self.search.ports;
        ports == Ports::Choose || (ports == Ports::Known && attempt > 0)
    }
}

/// Which port, or identifier, the sender has after translation.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Its own.
    Keep,
    /// Its own while that is free, else one of the pool: the address stays, and one socket may reach one service by two addresses
    /// of the host.
    Prefer,
    /// One of the pool that is nobody's.
    Choose,
    /// That of its socket's mapping, which is still to be found or made.
    Mapped,
    /// The one that the flow has by now, which is the sender's already: by its socket's mapping, or since it asked before. Where somebody
    /// else holds it towards the same destination, one of the pool.
    Known,
}

/// How a free key for the reply is looked for, and what came of it.
#[repr(C)]
pub struct PortSearch {
    ports: Ports,
    protocol: Protocol,
    inside: u16,
    offset: u16,
    pool: Pool,
    random: u32,
    /// What came of it.
    pub result: Result<(), DropReason>,
}

impl PortSearch {
    /// Nothing has been tried yet for this packet.
    #[inline(always)]
    pub fn begin<A: Make>(&mut self, packet: &Packet<A>, config: &Config) {
        let query = packet.kind == Kind::EchoRequest;
        self.protocol = packet.protocol;
        self.inside = packet.tuple.source_port.get();
        self.pool = if query { Pool::IDENTIFIERS } else { config.pool };
        self.offset = port::offset(config.secret, packet.protocol, packet.tuple.source);
        // SAFETY: a plain helper call.
        self.random = unsafe { bpf_get_prandom_u32() };
        self.result = Err(DropReason::NoPort);
    }

    /// How many ports are tried. Where there is none to choose, whoever had it first keeps it.
    #[inline(always)]
    pub fn tries(&self) -> u32 {
        if self.ports == Ports::Keep { 1 } else { TRIES }
    }
}

/// Each CPU's [`Work`] for IPv4. TC programs are not interrupted by others on their CPU.
#[btf_map]
static WORK4: PerCpuArray<Work<V4>, 1> = PerCpuArray::new();

/// Each CPU's [`Work`] for IPv6.
#[btf_map]
static WORK6: PerCpuArray<Work<V6>, 1> = PerCpuArray::new();

/// A family whose flows can be made and followed.
pub trait Make: Rewrite + Hop {
    /// This CPU's working memory.
    fn work() -> Option<*mut Work<Self>>;
    /// Would a socket of the host receive a packet with this tuple?
    fn host_socket(skb: &Skb<'_>, protocol: Protocol, tuple: &Tuple<Self>, who: Who) -> bool;
}

/// This CPU's working memory.
#[inline(always)]
pub fn work<A: Make>() -> Result<&'static mut Work<A>, DropReason> {
    // SAFETY: the memory is this CPU's own, TC programs on one CPU run one after the other, and none keeps it across a call
    // of another function that asks for it.
    A::work().map(|work| unsafe { &mut *work }).ok_or(DropReason::FlowTableFull)
}

/// Puts together the flow of a container's packet to the outside, through the uplink at `ifindex`, for [`insert`].
///
/// # Errors
///
/// The reason why there can be no flow.
#[inline(always)]
pub fn prepare_outbound<A: Make>(
    packet: &Packet<A>,
    network: &Network,
    owner: (u32, &Endpoint),
    ifindex: u32,
) -> Result<(), DropReason> {
    let (slot, endpoint) = owner;
    let Some(uplink) = maps::uplink(ifindex) else { return Err(DropReason::NoUplink) };
    // Inside, the stack's own translation comes first and last: it would not know the answers to another source again.
    let inside = uplink.is_inside();
    let masquerade = network.has_for::<A>(Network::MASQUERADE) && !inside;
    let mut after = packet.tuple;
    let mut flags = Flow::<A>::ORIGINAL;
    if masquerade {
        after.source = A::source_of(network);
        if after.source == A::UNSPECIFIED {
            after.source = A::of_uplink(&uplink);
        } else {
            flags |= Flow::<A>::FIXED;
        }
        if after.source == A::UNSPECIFIED {
            return Err(DropReason::NoUplinkAddress);
        }
    }
    let by_stack = if inside { Flow::<A>::BY_STACK } else { 0 };
    let account = (slot, endpoint.generation);
    let back = Party { endpoint: slot, generation: endpoint.generation, mtu: network.mtu.min(u16::MAX as u32) as u16 };
    let work = work::<A>()?;
    let now = now();
    work.original = Flow::new(after, Zone::OUTSIDE, account, Party::OUTSIDE, now, flags | by_stack);
    work.reply = Flow::new(packet.tuple.reversed(), endpoint.network, account, back, now, by_stack);
    // Without ports there is none to choose: the first flow of such a protocol to a destination has it.
    work.search.ports = match packet.kind {
        Kind::Udp if masquerade && network.has(Network::ENDPOINT_INDEPENDENT) => Ports::Mapped,
        Kind::Other => Ports::Keep,
        _ if masquerade => Ports::Choose,
        _ => Ports::Keep,
    };
    Ok(())
}

/// Puts together the flow of a packet to a published port, for [`insert`]; the packet came from `zone`.
///
/// # Errors
///
/// The reason why there can be no flow.
#[inline(always)]
pub fn prepare_published<A: Make>(
    packet: &Packet<A>,
    zone: Zone,
    client: Party,
    published: &Published,
) -> Result<(), DropReason> {
    if published.flags & Published::RESTRICTED != 0 && !maps::is_allowed(published.slot, packet.source.any()) {
        return Err(DropReason::NotAllowed);
    }
    let crosses = A::IS_V6 && published.container.is_v4();
    if !A::IS_V6 && !published.container.is_v4() {
        return Err(DropReason::OtherFamily);
    }
    let slot = published.endpoint;
    let Some(endpoint) = endpoint(slot) else { return Err(DropReason::NoFlow) };
    let Some(network) = network(endpoint.network) else { return Err(DropReason::NoFlow) };
    let mut after = packet.tuple;
    after.destination = A::from_any(published.container);
    after.destination_port = published.port;
    if crosses {
        if network.v4_gateway == V4::UNSPECIFIED {
            return Err(DropReason::OtherFamily);
        }
        after.source = A::from_any(network.v4_gateway.any());
    } else if after.destination == packet.source {
        // A container that calls itself would see its own address as the source of what it receives, and answer to itself.
        after.source = A::gateway(network);
    }
    // A container pays for its own flows; who is outside may be anybody.
    let account = if client.endpoint == 0 { (slot, endpoint.generation) } else { (client.endpoint, client.generation) };
    // A packet's length is judged as it comes, and shrinks when it crosses.
    let (flags, shrinks) = if crosses { (Flow::<A>::CROSSES, SHRINKS) } else { (0, 0) };
    let mtu = network.mtu.saturating_add(shrinks).min(u16::MAX as u32) as u16;
    let server = Party { endpoint: slot, generation: endpoint.generation, mtu };
    let work = work::<A>()?;
    let now = now();
    work.original = Flow::new(after, endpoint.network, account, server, now, Flow::<A>::ORIGINAL | flags);
    // The answers are no later container's that has got the address.
    work.reply = Flow::new(packet.tuple.reversed(), zone, (slot, endpoint.generation), client, now, flags);
    let (port, generation) = (published.slot, port_generation(published.slot));
    (work.original.port, work.original.port_generation) = (port, generation);
    (work.reply.port, work.reply.port_generation) = (port, generation);
    work.search.ports = match packet.kind {
        Kind::Other => Ports::Keep,
        // Behind the gateway's address all clients would share one port, and the host's own connections leave from there.
        _ if crosses => Ports::Choose,
        _ => Ports::Prefer,
    };
    Ok(())
}

/// Writes the flow that [`prepare_outbound`] or [`prepare_published`] put together.
///
/// # Errors
///
/// The reason why there can be no flow.
#[inline(always)]
pub fn open<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    if work::<A>()?.search.ports == Ports::Mapped {
        mapping::apply(skb, packet)?;
    }
    insert(skb, packet)
}

/// Writes the two entries that were prepared: the reply's first, which claims its key, with a port chosen for it where one is
/// wanted; then the original's, accounted to its owner. If another CPU was first with a packet of the same flow, its pair is
/// kept. A function of its own for its stack.
///
/// # Errors
///
/// The reason why there can be no flow.
#[inline(never)]
pub fn insert<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let Some(config) = config() else { return Err(DropReason::NoPort) };
    let work = work::<A>()?;
    let slot = work.original.owner;
    let Some(owner) = endpoint(slot) else { return Err(DropReason::NoFlow) };
    if FLOW_COUNTS.get(slot).is_none_or(|&count| count >= u64::from(owner.quota)) {
        return Err(DropReason::FlowQuota);
    }
    work.search.begin(packet, config);
    // A loop of the language would be walked through by the verifier, once for every try and every way through it.
    // SAFETY: the callback has the signature that the helper calls, and `skb` outlives the call.
    unsafe { bpf_loop(work.search.tries(), claim::<A> as *mut c_void, (&raw const *skb).cast_mut().cast(), 0) };
    work.search.result?;
    work.key = work.reply.sibling(packet.protocol);
    match A::flows().insert(&work.key, &work.original, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            let count = add_to_count(slot, 1);
            wake_sweeper(if is_crowded(count, owner.quota) { swept::CROWDED } else { swept::AWAKE });
            // One that moves here from the flows that were not proven has packets, and was counted there if it is UDP.
            if packet.protocol != Protocol::UDP || work.original.packets == 0 {
                count_connection(work.original.port);
            }
            Ok(())
        }
        Err(error) => {
            let _ = A::flows().remove(&work.sibling);
            if error == EEXIST { Ok(()) } else { Err(DropReason::FlowTableFull) }
        }
    }
}

/// Counts a flow that has come through a published port.
#[inline(always)]
pub fn count_connection(port: u32) {
    if port != 0
        && let Some(count) = maps::port_count(port)
    {
        // SAFETY: the value is this CPU's own.
        unsafe { (*count).connections += 1 };
    }
}

/// Tries to claim the reply's key, with one port; returns 1 when the search is over.
unsafe extern "C" fn claim<A: Make>(attempt: u32, skb: *mut Skb<'_>) -> i64 {
    // SAFETY: `insert` passes this, and it outlives the loop.
    let skb = unsafe { &*skb };
    let Ok(work) = work::<A>() else { return 1 };
    work.try_port(attempt);
    // Flows that cross choose from one pool, whether they are proven or not.
    let crosses = A::IS_V6 && work.original.flags & Flow::<A>::CROSSES != 0;
    if work.is_anothers(skb, attempt)
        || (crosses && embryo::is_taken(work))
        || (work.has_chosen(attempt) && mapping::holds(work))
    {
        return 0;
    }
    work.search.result = match A::flows().insert(&work.sibling, &work.reply, u64::from(BPF_NOEXIST)) {
        Ok(()) => Ok(()),
        Err(EEXIST) => return 0,
        Err(_) => Err(DropReason::FlowTableFull),
    };
    1
}

/// Is the port to which answers would come somebody else's: published, or in use by a socket of the host?
#[inline(always)]
pub fn is_taken<A: Make>(skb: &Skb<'_>, protocol: Protocol, reply: &Tuple<A>) -> bool {
    let (address, port) = (reply.destination, reply.destination_port);
    Maps.published(address, port, protocol).is_some()
        || Maps.published(A::UNSPECIFIED, port, protocol).is_some()
        || (matches!(protocol, Protocol::TCP | Protocol::UDP) && A::host_socket(skb, protocol, reply, Who::Any))
}

/// Which of the host's sockets count.
#[derive(Clone, Copy)]
pub enum Who {
    /// Every one.
    Any,
    /// Those that have a peer.
    Connected,
}

/// Does the packet belong to a TCP connection of the host's own?
#[inline(always)]
pub fn host_converses<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> bool {
    packet.kind == Kind::Tcp && A::host_socket(skb, packet.protocol, &packet.tuple, Who::Connected)
}

impl Make for V4 {
    #[inline(always)]
    fn work() -> Option<*mut Work<Self>> {
        WORK4.get_ptr_mut(0)
    }

    #[inline(always)]
    fn host_socket(skb: &Skb<'_>, protocol: Protocol, reply: &Tuple<Self>, who: Who) -> bool {
        let Some(tuple) = maps::socket_question() else { return true };
        tuple.__bindgen_anon_1.ipv4.saddr = reply.source.0;
        tuple.__bindgen_anon_1.ipv4.daddr = reply.destination.0;
        tuple.__bindgen_anon_1.ipv4.sport = reply.source_port.raw();
        tuple.__bindgen_anon_1.ipv4.dport = reply.destination_port.raw();
        // The length tells the helper the family: 12 bytes are IPv4.
        socket_exists(skb, protocol, tuple, 12, who)
    }
}

impl Make for V6 {
    #[inline(always)]
    fn work() -> Option<*mut Work<Self>> {
        WORK6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn host_socket(skb: &Skb<'_>, protocol: Protocol, reply: &Tuple<Self>, who: Who) -> bool {
        // The kernel keeps sockets that talk to IPv4 addresses among those of IPv4.
        if reply.source.is_mapped() {
            return V4::host_socket(skb, protocol, &reply.unmapped(), who);
        }
        let Some(tuple) = maps::socket_question() else { return true };
        tuple.__bindgen_anon_1.ipv6.saddr = reply.source.0;
        tuple.__bindgen_anon_1.ipv6.daddr = reply.destination.0;
        tuple.__bindgen_anon_1.ipv6.sport = reply.source_port.raw();
        tuple.__bindgen_anon_1.ipv6.dport = reply.destination_port.raw();
        // 36 bytes are IPv6.
        socket_exists(skb, protocol, tuple, 36, who)
    }
}

/// Is there a socket in the host's namespace that would receive a packet with this tuple?
#[inline(always)]
fn socket_exists(skb: &Skb<'_>, protocol: Protocol, tuple: &mut bpf_sock_tuple, len: u32, who: Who) -> bool {
    /// `BPF_F_CURRENT_NETNS`: the namespace of the interface, which is the host's.
    const CURRENT_NETNS: u64 = u64::MAX;
    let ctx = skb.as_ptr().cast();
    // SAFETY: `tuple` is initialised and at least `len` bytes long; a socket that is found is released.
    unsafe {
        if protocol == Protocol::TCP {
            let socket = bpf_skc_lookup_tcp(ctx, tuple, len, CURRENT_NETNS, 0);
            if socket.is_null() {
                return false;
            }
            // Here, since the verifier wants one load to be of one kind of socket.
            let counts = matches!(who, Who::Any) || (*socket).state != BPF_TCP_LISTEN;
            bpf_sk_release(socket.cast());
            counts
        } else {
            let socket = bpf_sk_lookup_udp(ctx, tuple, len, CURRENT_NETNS, 0);
            if socket.is_null() {
                return false;
            }
            bpf_sk_release(socket.cast());
            true
        }
    }
}
