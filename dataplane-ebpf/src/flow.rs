//! The flow table at work: find, make, follow.
//!
//! Every packet is looked up once. A hit tells all; a miss makes the pair of entries and is then a hit. The entry of the
//! reply direction is written first, with `BPF_NOEXIST`: that claims the translated port.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_sock_tuple},
    btf_maps::PerCpuArray,
    helpers::generated::{
        bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_loop, bpf_redirect_peer, bpf_sk_lookup_udp, bpf_sk_release,
        bpf_skc_lookup_tcp,
    },
    macros::btf_map,
};
use dataplane_common::{
    DropReason, Flow, FlowKey, Protocol, Tuple, V4, V6, Zone,
    decision::World,
    flow::Party,
    layout::{Config, Endpoint, Network, Published},
    port::{self, Pool, TRIES},
    tcp,
    wire::{Be16, Kind, Packet},
};

use crate::{
    drops::NEXT,
    maps::{self, CONFIG, ENDPOINTS, FLOW_COUNTS, Maps, NETWORKS},
    rewrite::{self, Link, Rewrite},
    route::{self, Hop},
    skb::Skb,
};

/// `-EEXIST`, as map updates return it.
const EEXIST: i32 = -17;

/// Where keys and entries are put together: on the stack they would not fit.
#[repr(C)]
pub struct Work<A> {
    key: FlowKey<A>,
    sibling: FlowKey<A>,
    original: Flow<A>,
    reply: Flow<A>,
    search: PortSearch,
}

/// How a free key for the reply is looked for, and what came of it.
#[repr(C)]
struct PortSearch {
    /// Must a port be chosen, or does the tuple stand?
    wanted: bool,
    echo: bool,
    protocol: Protocol,
    inside: u16,
    pool: Pool,
    hash: u32,
    random: u32,
    result: Result<(), DropReason>,
}

/// Each CPU's [`Work`] for IPv4. TC programs are not interrupted by others on their CPU.
#[btf_map]
static WORK4: PerCpuArray<Work<V4>, 1> = PerCpuArray::new();

/// Each CPU's [`Work`] for IPv6.
#[btf_map]
static WORK6: PerCpuArray<Work<V6>, 1> = PerCpuArray::new();

/// A family whose flows can be made and followed.
pub trait Flows: Rewrite + Hop {
    /// This CPU's working memory.
    fn work() -> Option<*mut Work<Self>>;
    /// Would a socket of the host receive a packet with this tuple?
    fn host_socket(skb: &Skb<'_>, protocol: Protocol, tuple: &Tuple<Self>) -> bool;
}

/// This CPU's working memory.
#[inline(always)]
fn work<A: Flows>() -> Result<&'static mut Work<A>, DropReason> {
    // SAFETY: the memory is this CPU's own, TC programs on one CPU run one after the other, and none keeps it across a call
    // of another function that asks for it.
    A::work().map(|work| unsafe { &mut *work }).ok_or(DropReason::FlowTableFull)
}

/// What the agent tells all programs; it is there before the first program runs.
#[inline(always)]
fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// The endpoint in a slot.
#[inline(always)]
pub fn endpoint(slot: u32) -> Option<&'static Endpoint> {
    ENDPOINTS.get(slot)
}

/// The network in a slot, if there is one.
#[inline(always)]
pub fn network(zone: Zone) -> Option<&'static Network> {
    NETWORKS.get(u32::from(zone.0)).filter(|network| network.has(Network::PRESENT))
}

/// Seconds since boot; an idle time needs no finer clock, and this one costs half.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: a plain helper call.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}

/// Has the endpoint stayed what it was when the flow was made?
#[inline(always)]
fn is_current(slot: u32, generation: u32) -> bool {
    endpoint(slot).is_some_and(|endpoint| endpoint.generation == generation)
}

/// Finds the packet's entry. One whose endpoint has stopped, or whose connection is over and that a new SYN takes up again,
/// is forgotten here and not found.
#[inline(always)]
pub fn find<A: Flows>(packet: &Packet<A>, zone: Zone) -> Option<*mut Flow<A>> {
    if !matches!(packet.kind, Kind::Tcp | Kind::Udp | Kind::EchoRequest | Kind::EchoReply) {
        return None;
    }
    let work = work::<A>().ok()?;
    work.key = packet.tuple.key(packet.protocol, zone);
    let value = A::flows().get_ptr_mut(&work.key)?;
    // SAFETY: the pointer is to a map value that the kernel keeps for the length of this run. If the entry is deleted
    // meanwhile and its memory used again, one packet is misjudged at worst; the agent deletes only what is long idle.
    let flow = unsafe { &*value };
    let (owner, target) = (flow.owner, flow.target);
    let alive = is_current(owner, flow.owner_generation) && (target == 0 || is_current(target, flow.target_generation));
    if alive && !packet.flags.opens() {
        return Some(value);
    }
    if retire(flow, packet.protocol, !alive) { None } else { Some(value) }
}

/// Forgets the flow whose entry was just found, if it must or if its connection is over. Tells whether it did.
#[inline(never)]
fn retire<A: Flows>(flow: &Flow<A>, protocol: Protocol, must: bool) -> bool {
    let Ok(work) = work::<A>() else { return false };
    work.sibling = flow.sibling(protocol);
    if !must {
        // SAFETY: as in `find`.
        let reply = unsafe { A::flows().get(&work.sibling) };
        let seen = reply.map_or(tcp::Flags::default(), |reply| reply.seen);
        if !tcp::State::of(flow.seen, seen).may_be_reopened() {
            return false;
        }
    }
    // The original direction's entry goes first.
    let (owner, original) = (flow.owner, flow.is_original());
    let (first, second) = if original { (&work.key, &work.sibling) } else { (&work.sibling, &work.key) };
    delete(first, second, owner);
    true
}

/// Deletes a pair of entries and takes it off its owner's count.
#[inline(always)]
pub fn delete<A: Flows>(original: &FlowKey<A>, reply: &FlowKey<A>, owner: u32) {
    let gone = A::flows().remove(original).is_ok();
    let _ = A::flows().remove(reply);
    if gone {
        add_to_count(owner, u64::MAX);
    }
}

/// Adds to the number of flows that an endpoint owns, modulo 2^64.
#[inline(always)]
fn add_to_count(slot: u32, number: u64) {
    if let Some(count) = FLOW_COUNTS.get_ptr_mut(slot) {
        // The core library offers no atomic addition for this target, since it has none that returns the old value everywhere.
        // SAFETY: the value is an aligned u64 of a map, and everybody who changes it does so atomically.
        unsafe { asm!("lock *(u64 *)({count} + 0) += {number}", count = in(reg) count, number = in(reg) number) };
    }
}

/// Sends a packet the way its entry says; it came in through `input`. A function of its own for its stack.
///
/// # Errors
///
/// The reason why it died.
#[inline(never)]
pub fn follow<A: Flows>(skb: &Skb<'_>, packet: &Packet<A>, entry: *mut Flow<A>, input: u32) -> Result<i32, DropReason> {
    // SAFETY: as in `find`. Two CPUs may count at once; a lost count is all that can happen.
    let flow = unsafe { &mut *entry };
    let target = flow.target;
    let mut link = Link { macs: None, hops: 1 };
    if target == 0 {
        let current = flow.route_generation == config().map_or(0, |config| config.route_generation);
        let after = flow.after;
        let translated = after.source != packet.tuple.source;
        if !current && !find_way(skb, flow, input, translated, packet.protocol)? {
            return Ok(NEXT);
        }
    } else {
        let Some(endpoint) = endpoint(target) else { return Err(DropReason::NoFlow) };
        let Some(network) = network(endpoint.network) else { return Err(DropReason::NoFlow) };
        link.macs = Some((endpoint.mac, network.mac));
        flow.ifindex = endpoint.ifindex;
    }
    // The kernel's stack says what is wrong with a packet whose time to live ends here or that is too big for the way.
    let odd = packet.ttl <= 1 || packet.wire_length(skb.gso_size()) > u32::from(flow.mtu);
    if odd {
        if target == 0 {
            return Ok(NEXT);
        }
        // What is for a container must be translated before.
        link = Link { macs: None, hops: 0 };
    }
    pass(skb, packet, flow);
    rewrite::translate(skb, packet, flow, &link)?;
    if odd {
        return Ok(NEXT);
    }
    if target == 0 {
        return Ok(route::redirect(flow.ifindex, flow.next_hop));
    }
    rewrite::mark_as_ours(skb);
    // SAFETY: a plain helper call.
    Ok(unsafe { bpf_redirect_peer(flow.ifindex, 0) } as i32)
}

/// Looks up the next hop of a flow to the outside anew. False: the stack must find it. A function of its own for its stack,
/// with no more arguments than the five that there can be.
#[inline(never)]
fn find_way<A: Flows>(
    skb: &Skb<'_>,
    flow: &mut Flow<A>,
    input: u32,
    translated: bool,
    protocol: Protocol,
) -> Result<bool, DropReason> {
    let after = flow.after;
    if translated && !Maps.is_local(after.source) {
        // The address that stood for the container has gone from the host.
        retire(flow, protocol, true);
        return Err(DropReason::NoFlow);
    }
    let Some(route) = route::lookup(skb, input, &after) else { return Ok(false) };
    let Some(uplink) = maps::uplink(route.ifindex) else { return Err(DropReason::NoUplink) };
    flow.next_hop = route.next_hop;
    flow.ifindex = route.ifindex;
    flow.mtu = uplink.mtu.min(u16::MAX as u32) as u16;
    flow.route_generation = config().map_or(0, |config| config.route_generation);
    Ok(true)
}

/// Notes a packet that passes: only such packets keep a flow alive (RFC 4787 REQ-6).
#[inline(always)]
fn pass<A: Flows>(skb: &Skb<'_>, packet: &Packet<A>, flow: &mut Flow<A>) {
    let now = now();
    if flow.last_used != now {
        flow.last_used = now;
    }
    let seen = tcp::Flags(flow.seen.0 | packet.flags.tracked().0);
    if flow.seen != seen {
        flow.seen = seen;
    }
    flow.packets += 1;
    flow.bytes += u64::from(skb.0.len());
}

/// Translates a packet that the stack has routed to an uplink.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`].
#[inline(always)]
pub fn translate_routed<A: Flows>(skb: &Skb<'_>, packet: &Packet<A>, entry: *mut Flow<A>) -> Result<(), DropReason> {
    // SAFETY: as in `follow`.
    let flow = unsafe { &mut *entry };
    pass(skb, packet, flow);
    rewrite::translate(skb, packet, flow, &Link { macs: None, hops: 0 })
}

/// Puts together the flow of a container's packet to the outside, through the uplink at `ifindex`, for [`insert`].
///
/// # Errors
///
/// The reason why there can be no flow.
#[inline(always)]
pub fn prepare_outbound<A: Flows>(
    packet: &Packet<A>,
    network: &Network,
    owner: (u32, &Endpoint),
    ifindex: u32,
) -> Result<(), DropReason> {
    let (slot, endpoint) = owner;
    let Some(uplink) = maps::uplink(ifindex) else { return Err(DropReason::NoUplink) };
    let masquerade = network.has_for::<A>(Network::MASQUERADE);
    let mut after = packet.tuple;
    if masquerade {
        after.source = A::of_uplink(&uplink);
        if after.source == A::UNSPECIFIED {
            return Err(DropReason::NoUplinkAddress);
        }
    }
    let account = (slot, endpoint.generation);
    let back = Party { endpoint: slot, generation: endpoint.generation, mtu: network.mtu.min(u16::MAX as u32) as u16 };
    let work = work::<A>()?;
    let now = now();
    work.original = Flow::new(after, Zone::OUTSIDE, account, Party::OUTSIDE, now, Flow::<A>::ORIGINAL);
    work.reply = Flow::new(packet.tuple.reversed(), endpoint.network, account, back, now, 0);
    work.search.wanted = masquerade;
    Ok(())
}

/// Puts together the flow of a packet to a published port, for [`insert`]; the packet came from `zone`.
///
/// # Errors
///
/// The reason why there can be no flow.
#[inline(always)]
pub fn prepare_published<A: Flows>(
    packet: &Packet<A>,
    zone: Zone,
    client: Party,
    published: &Published,
) -> Result<(), DropReason> {
    let slot = published.endpoint;
    let Some(endpoint) = endpoint(slot) else { return Err(DropReason::NoFlow) };
    let Some(network) = network(endpoint.network) else { return Err(DropReason::NoFlow) };
    let mut after = packet.tuple;
    after.destination = A::from_any(published.container);
    after.destination_port = published.port;
    if after.destination == packet.tuple.source {
        // A container that calls itself would see its own address as the source of what it receives, and answer to itself.
        after.source = A::gateway(network);
    }
    let account = (slot, endpoint.generation);
    let server =
        Party { endpoint: slot, generation: endpoint.generation, mtu: network.mtu.min(u16::MAX as u32) as u16 };
    let work = work::<A>()?;
    let now = now();
    work.original = Flow::new(after, endpoint.network, account, server, now, Flow::<A>::ORIGINAL);
    work.reply = Flow::new(packet.tuple.reversed(), zone, account, client, now, 0);
    work.search.wanted = false;
    Ok(())
}

/// Writes the two entries that were prepared: the reply's first, which claims its key, with a port chosen for it where one is
/// wanted; then the original's, accounted to its owner. If another CPU was first with a packet of the same flow, its pair is
/// kept. A function of its own for its stack.
///
/// # Errors
///
/// The reason why there can be no flow.
#[inline(never)]
pub fn insert<A: Flows>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let Some(config) = config() else { return Err(DropReason::NoPort) };
    let work = work::<A>()?;
    let slot = work.original.owner;
    let Some(owner) = endpoint(slot) else { return Err(DropReason::NoFlow) };
    if FLOW_COUNTS.get(slot).is_none_or(|&count| count >= u64::from(owner.quota)) {
        return Err(DropReason::FlowQuota);
    }
    let search = &mut work.search;
    search.echo = packet.kind == Kind::EchoRequest;
    search.protocol = packet.protocol;
    search.inside = packet.tuple.source_port.get();
    search.pool = if search.echo { Pool::IDENTIFIERS } else { config.pool };
    search.hash = port::hash(config.secret, packet.protocol, packet.tuple.source, search.inside);
    // SAFETY: a plain helper call.
    search.random = unsafe { bpf_get_prandom_u32() };
    search.result = Err(DropReason::NoPort);
    let tries = if search.wanted { TRIES } else { 1 };
    // A loop of the language would be walked through by the verifier, once for every try and every way through it.
    // SAFETY: the callback has the signature that the helper calls, and `skb` outlives the call.
    unsafe { bpf_loop(tries, claim::<A> as *mut c_void, (&raw const *skb).cast_mut().cast(), 0) };
    work.search.result?;
    work.key = packet.tuple.key(packet.protocol, work.reply.peer_zone);
    match A::flows().insert(&work.key, &work.original, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            add_to_count(slot, 1);
            Ok(())
        }
        Err(error) => {
            let _ = A::flows().remove(&work.sibling);
            if error == EEXIST { Ok(()) } else { Err(DropReason::FlowTableFull) }
        }
    }
}

/// Tries to claim the reply's key, with one port; returns 1 when the search is over.
unsafe extern "C" fn claim<A: Flows>(attempt: u32, skb: *mut Skb<'_>) -> i64 {
    // SAFETY: `insert` passes this, and it outlives the loop.
    let skb = unsafe { &*skb };
    let Ok(work) = work::<A>() else { return 1 };
    let search = &mut work.search;
    if search.wanted {
        let mut after = work.original.after;
        after.source_port = Be16::new(search.pool.candidate(attempt, search.inside, search.hash, search.random));
        if search.echo {
            after.destination_port = after.source_port;
        }
        work.original.after = after;
    }
    work.sibling = work.original.sibling(search.protocol);
    if search.wanted && !search.echo && is_taken::<A>(skb, search.protocol, &work.sibling.tuple) {
        return 0;
    }
    search.result = match A::flows().insert(&work.sibling, &work.reply, u64::from(BPF_NOEXIST)) {
        Ok(()) => Ok(()),
        Err(EEXIST) => return 0,
        Err(_) => Err(DropReason::FlowTableFull),
    };
    1
}

/// Is the port to which answers would come somebody else's: published, or in use by a socket of the host?
#[inline(always)]
fn is_taken<A: Flows>(skb: &Skb<'_>, protocol: Protocol, reply: &Tuple<A>) -> bool {
    let (address, port) = (reply.destination, reply.destination_port);
    Maps.published(address, port, protocol).is_some()
        || Maps.published(A::UNSPECIFIED, port, protocol).is_some()
        || A::host_socket(skb, protocol, reply)
}

/// Does a flow exist for which this packet, which the stack is bringing to a container of `zone`, is the answer or the
/// translated original?
#[inline(always)]
pub fn expects<A: Flows>(packet: &Packet<A>, zone: Zone) -> bool {
    let key = packet.tuple.reversed().key(packet.protocol, zone);
    // SAFETY: read at once; see `find`.
    unsafe { A::flows().get(key) }.is_some_and(|flow| {
        let owner = flow.owner;
        is_current(owner, flow.owner_generation)
    })
}

impl Flows for V4 {
    #[inline(always)]
    fn work() -> Option<*mut Work<Self>> {
        WORK4.get_ptr_mut(0)
    }

    #[inline(always)]
    fn host_socket(skb: &Skb<'_>, protocol: Protocol, reply: &Tuple<Self>) -> bool {
        let Some(tuple) = maps::socket_question() else { return true };
        tuple.__bindgen_anon_1.ipv4.saddr = reply.source.0;
        tuple.__bindgen_anon_1.ipv4.daddr = reply.destination.0;
        tuple.__bindgen_anon_1.ipv4.sport = reply.source_port.raw();
        tuple.__bindgen_anon_1.ipv4.dport = reply.destination_port.raw();
        // The length tells the helper the family: 12 bytes are IPv4.
        socket_exists(skb, protocol, tuple, 12)
    }
}

impl Flows for V6 {
    #[inline(always)]
    fn work() -> Option<*mut Work<Self>> {
        WORK6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn host_socket(skb: &Skb<'_>, protocol: Protocol, reply: &Tuple<Self>) -> bool {
        let Some(tuple) = maps::socket_question() else { return true };
        tuple.__bindgen_anon_1.ipv6.saddr = reply.source.0;
        tuple.__bindgen_anon_1.ipv6.daddr = reply.destination.0;
        tuple.__bindgen_anon_1.ipv6.sport = reply.source_port.raw();
        tuple.__bindgen_anon_1.ipv6.dport = reply.destination_port.raw();
        // 36 bytes are IPv6.
        socket_exists(skb, protocol, tuple, 36)
    }
}

/// Is there a socket in the host's namespace that would receive a packet with this tuple?
#[inline(always)]
fn socket_exists(skb: &Skb<'_>, protocol: Protocol, tuple: &mut bpf_sock_tuple, len: u32) -> bool {
    /// `BPF_F_CURRENT_NETNS`: the namespace of the interface, which is the host's.
    const CURRENT_NETNS: u64 = u64::MAX;
    let ctx = skb.as_ptr().cast();
    // SAFETY: `tuple` is initialised and at least `len` bytes long; a socket that is found is released.
    unsafe {
        let socket = if protocol == Protocol::TCP {
            bpf_skc_lookup_tcp(ctx, tuple, len, CURRENT_NETNS, 0)
        } else {
            bpf_sk_lookup_udp(ctx, tuple, len, CURRENT_NETNS, 0)
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
        true
    }
}
