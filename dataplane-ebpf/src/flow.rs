//! The flow table at work: find, follow, forget. How flows are made stands in `make`.
//!
//! Every packet is looked up once. A hit tells all; a miss makes the pair of entries and is then a hit.

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_redirect_peer};
use dataplane_common::{
    DropReason, Flow, FlowKey, Protocol, V6, Zone,
    decision::World as _,
    layout::{Endpoint, Network},
    tcp::{self, Progress, Segment},
    wire::{Kind, Packet},
};

use crate::{
    atomic, bandwidth, crossing,
    drops::{NEXT, SHOT},
    fragment,
    make::{Make, work},
    maps::{self, ENDPOINTS, FLOW_ALARM, FLOW_COUNTS, Maps, NETWORKS, PORT_GENERATIONS, SWEPT, config},
    rewrite, route,
    skb::Skb,
};

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
pub fn now() -> u32 {
    // SAFETY: a plain helper call.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}

/// Has the endpoint stayed what it was when the flow was made?
#[inline(always)]
fn is_current(slot: u32, generation: u32) -> bool {
    endpoint(slot).is_some_and(|endpoint| endpoint.generation == generation)
}

/// The generation of a published port.
#[inline(always)]
pub fn port_generation(slot: u32) -> u32 {
    PORT_GENERATIONS.get(slot).copied().unwrap_or_default()
}

/// Are the endpoints and the port of a flow still those for which it was made?
#[inline(always)]
pub fn is_alive<A: Make>(flow: &Flow<A>) -> bool {
    let (owner, target, port) = (flow.owner, flow.target, flow.port);
    is_current(owner, flow.owner_generation)
        && (target == 0 || is_current(target, flow.target_generation))
        && (port == 0 || port_generation(port) == flow.port_generation)
}

/// Can the packet be of this direction of the flow? An identifier of 0 makes a question and its answer look the same.
#[inline(always)]
pub fn is_of_direction<A: Make>(packet: &Packet<A>, flow: &Flow<A>) -> bool {
    // Without branches, which the verifier would follow one by one.
    let out_of_place = (packet.kind == Kind::EchoRequest) & !flow.is_original()
        | (packet.kind == Kind::EchoReply) & flow.is_original();
    !out_of_place
}

/// Finds the packet's entry. One whose endpoint has stopped, or whose connection is over and that a new SYN takes up again,
/// is forgotten here and not found.
#[inline(always)]
pub fn find<A: Make>(packet: &Packet<A>, zone: Zone) -> Option<*mut Flow<A>> {
    if !packet.has_flow() {
        return None;
    }
    let work = work::<A>().ok()?;
    work.ask(packet, zone);
    let value = A::flows().get_ptr_mut(&work.key)?;
    // SAFETY: the pointer is to a map value that the kernel keeps for the length of this run. If the entry is deleted
    // meanwhile and its memory used again, one packet is misjudged at worst; the agent deletes only what is long idle.
    let flow = unsafe { &*value };
    if !is_of_direction(packet, flow) {
        return None;
    }
    let alive = is_alive(flow);
    if alive && !packet.flags.opens() {
        return Some(value);
    }
    if retire(flow, packet.protocol, !alive) { None } else { Some(value) }
}

/// Forgets the flow whose entry was just found, if it must or if its connection is over. Tells whether it did.
#[inline(never)]
fn retire<A: Make>(flow: &Flow<A>, protocol: Protocol, must: bool) -> bool {
    let Ok(work) = work::<A>() else { return false };
    work.sibling = flow.sibling(protocol);
    // SAFETY: as in `find`.
    let sibling = unsafe { A::flows().get(&work.sibling) };
    if !must {
        let seen = sibling.map_or(tcp::Flags::default(), |sibling| sibling.seen);
        if !tcp::State::of(flow.seen, seen).may_be_reopened() {
            return false;
        }
    }
    // The original direction's entry goes first, and it knows to whom the flow is accounted.
    let original = flow.is_original();
    let owner = if original { flow.owner } else { sibling.map_or(0, |sibling| sibling.owner) };
    let (first, second) = if original { (&work.key, &work.sibling) } else { (&work.sibling, &work.key) };
    delete(first, second, owner);
    true
}

/// Deletes a pair of entries and takes it off its owner's count.
#[inline(always)]
pub fn delete<A: Make>(original: &FlowKey<A>, reply: &FlowKey<A>, owner: u32) {
    let gone = A::flows().remove(original).is_ok();
    let _ = A::flows().remove(reply);
    if gone {
        add_to_count(owner, u64::MAX);
    }
}

/// Adds to the number of flows that an endpoint owns, modulo 2^64; returns what it was.
#[inline(always)]
pub fn add_to_count(slot: u32, number: u64) -> u64 {
    // SAFETY: everybody who changes the number does so atomically.
    FLOW_COUNTS.get_ptr_mut(slot).map_or(0, |count| unsafe { atomic::fetch_add(count, number) })
}

/// Tells the agent `news` of the flow tables, one of [`dataplane_common::layout::swept`], unless it knows that, or worse. The atomic addition
/// to the count of a flow's owner comes before this: either the flow is seen by the agent's last look, which it takes after it has said that
/// it will not look again, or that is seen here.
#[inline(always)]
pub fn wake_sweeper(news: u32) {
    let Some(swept) = SWEPT.get_ptr_mut(0) else { return };
    // SAFETY: a word, which is never in pieces. CPUs that see the same at the same time make a record each, and they all say the same.
    if unsafe { swept.read_volatile() } < news {
        // SAFETY: as above.
        unsafe { swept.write_volatile(news) };
        // There is room: no further record of these news is made until the agent has read this one.
        let _ = FLOW_ALARM.output(&news, 0);
    }
}

/// Sends a packet the way its entry says; it came in through `input`.
///
/// # Errors
///
/// The reason why it died.
#[inline(always)]
pub fn follow<A: Make>(skb: &Skb<'_>, packet: &Packet<A>, entry: *mut Flow<A>, input: u32) -> Result<i32, DropReason> {
    if !find_out(skb, packet, entry, input)? {
        return Ok(NEXT);
    }
    // SAFETY: as in `find`.
    let flow = unsafe { &*entry };
    if crosses(flow) {
        // The other direction is `follow_back`'s.
        crossing::enter(skb, packet)?;
        return Ok(to_container(skb, flow));
    }
    rewrite::translate(skb, packet)?;
    if rewrite::is_for_stack::<A>()? {
        if flow.target != 0 {
            fragment::announce(packet, flow);
        }
        return Ok(NEXT);
    }
    Ok(send(skb, flow))
}

/// Sends a container's packet to the IPv6 client of a flow that crosses. Only this direction is verified here, which is much less
/// than both.
///
/// # Errors
///
/// The reason why it died.
#[inline(always)]
pub fn follow_back(skb: &Skb<'_>, packet: &Packet<V6>, entry: *mut Flow<V6>, input: u32) -> Result<i32, DropReason> {
    // What crosses never goes to the stack.
    find_out(skb, packet, entry, input)?;
    crossing::leave(skb, packet)?;
    // SAFETY: as in `find`.
    Ok(send(skb, unsafe { &*entry }))
}

/// Sends a translated packet where its flow leads.
#[inline(always)]
fn send<A: Make>(skb: &Skb<'_>, flow: &Flow<A>) -> i32 {
    if flow.target == 0 { route::redirect(flow.ifindex, flow.next_hop) } else { to_container(skb, flow) }
}

#[inline(always)]
fn to_container<A: Make>(skb: &Skb<'_>, flow: &Flow<A>) -> i32 {
    let target = flow.target;
    if endpoint(target).is_some_and(|endpoint| endpoint.flags & Endpoint::LIMITS_INGRESS != 0)
        && bandwidth::is_receiving_too_much(skb, target)
    {
        return SHOT;
    }
    rewrite::mark_as_ours(skb);
    // SAFETY: a plain helper call.
    (unsafe { bpf_redirect_peer(flow.ifindex, 0) }) as i32
}

/// Does the flow lead from IPv6 to IPv4?
#[inline(always)]
fn crosses<A: Make>(flow: &Flow<A>) -> bool {
    A::IS_V6 && flow.flags & Flow::<A>::CROSSES != 0
}

/// Decides where a packet goes, notes that it does, and plans its translation, which tells whether the stack gets it then; `false` if
/// the stack gets it as it is. A function of its own for its stack. It does not return what the plan tells already: as an enumeration
/// of three it worked on Linux 6.12 and 6.18, but on 6.1 packets too big for their way were redirected, though the plan left them to the
/// stack.
#[inline(never)]
fn find_out<A: Make>(skb: &Skb<'_>, packet: &Packet<A>, entry: *mut Flow<A>, input: u32) -> Result<bool, DropReason> {
    // SAFETY: as in `find`. Two CPUs may count at once; a lost count is all that can happen.
    let flow = unsafe { &mut *entry };
    let target = flow.target;
    if flow.flags & Flow::<A>::TO_HOST != 0 {
        pass(skb, packet, flow);
        rewrite::plan(flow, None, 0)?;
        return Ok(true);
    }
    let by_stack = flow.flags & Flow::<A>::BY_STACK != 0;
    if by_stack && target == 0 {
        return Ok(false);
    }
    let mut macs = None;
    if target == 0 {
        let current = flow.route_generation == config().map_or(0, |config| config.route_generation);
        if !current {
            match find_way(skb, packet, flow, input)? {
                Search::Found => {}
                Search::ForStack if crosses(flow) => return Err(DropReason::OtherFamily),
                Search::ForStack => return Ok(false),
                Search::Moved => {
                    retire(flow, packet.protocol, true);
                    return Err(DropReason::NoFlow);
                }
            }
        }
    } else {
        let Some(endpoint) = endpoint(target) else { return Err(DropReason::NoFlow) };
        let Some(network) = network(endpoint.network) else { return Err(DropReason::NoFlow) };
        macs = Some((endpoint.mac, network.mac));
        flow.ifindex = endpoint.ifindex;
    }
    // The kernel's stack says what is wrong with a packet whose time to live ends here or that is too big for the way, and
    // does what IP options ask for.
    let odd = by_stack || packet.ttl <= 1 || packet.options || packet.wire_length(skb.gso_size()) > u32::from(flow.mtu);
    // It would see the packet of a family that is not the sender's, from an address of its own.
    if crosses(flow) && (odd || !crossing::suits(packet)) {
        return Err(DropReason::OtherFamily);
    }
    if odd && target == 0 {
        return Ok(false);
    }
    pass(skb, packet, flow);
    // What is for a container must be translated before the stack has it.
    rewrite::plan(flow, if odd { None } else { macs }, u8::from(!odd))?;
    Ok(true)
}

/// What came of looking for a flow's next hop.
enum Search {
    /// It is noted in the flow.
    Found,
    /// The stack must find it.
    ForStack,
    /// The address that stood for the container has gone from the host, or is not that of its new way out.
    Moved,
}

/// Looks up the next hop of a flow to the outside anew. A function of its own for its stack.
#[inline(never)]
fn find_way<A: Make>(skb: &Skb<'_>, packet: &Packet<A>, flow: &mut Flow<A>, input: u32) -> Result<Search, DropReason> {
    let after = flow.after;
    let masqueraded = flow.is_original() && after.source != packet.tuple.source;
    // The stack routes before it translates a source, so rules for containers hold; and answers from a published address leave
    // as the host's own from that address would.
    let found = route::lookup(skb, input, if masqueraded { &packet.tuple } else { &after });
    let Some(route) = found else { return Ok(Search::ForStack) };
    let Some(uplink) = maps::uplink(route.ifindex) else { return Err(DropReason::NoUplink) };
    let moved = flow.ifindex != 0 && flow.ifindex != route.ifindex;
    let fixed = flow.flags & Flow::<A>::FIXED != 0;
    if masqueraded && !fixed && (!Maps.is_local(after.source) || (moved && A::of_uplink(&uplink) != after.source)) {
        return Ok(Search::Moved);
    }
    flow.next_hop = route.next_hop;
    flow.ifindex = route.ifindex;
    flow.mtu = uplink.mtu.min(u16::MAX as u32) as u16;
    flow.route_generation = config().map_or(0, |config| config.route_generation);
    Ok(Search::Found)
}

/// Notes a packet that passes: only such packets keep a flow alive (RFC 4787 REQ-6), and errors about it never do (RFC 5508
/// REQ-4).
#[inline(always)]
fn pass<A: Make>(skb: &Skb<'_>, packet: &Packet<A>, flow: &mut Flow<A>) {
    if packet.kind == Kind::IcmpError {
        return;
    }
    let now = now();
    if flow.last_used != now {
        flow.last_used = now;
    }
    let bytes = u64::from(skb.0.len());
    flow.packets += 1;
    flow.bytes += bytes;
    if packet.kind == Kind::Tcp {
        progress(packet, flow);
    }
    let port = flow.port;
    if port != 0
        && let Some(count) = maps::port_count(port)
    {
        // SAFETY: the value is this CPU's own.
        let count = unsafe { &mut *count };
        if flow.is_original() {
            count.packets_in += 1;
            count.bytes_in += bytes;
        } else {
            count.packets_out += 1;
            count.bytes_out += bytes;
        }
    }
}

/// Notes how far a TCP connection has come.
#[inline(always)]
fn progress<A: Make>(packet: &Packet<A>, flow: &mut Flow<A>) {
    let before = progress_of(flow);
    let after = before.after(&segment(packet), || sibling_progress(flow, packet.protocol));
    // What stays the same is not written: both CPUs' caches keep it.
    if after != before {
        flow.seen = after.flags;
        flow.next = after.next;
        flow.acked = after.acked;
    }
}

/// How far the other direction has come. A function of its own for its stack: only a FIN or RST asks.
#[inline(never)]
fn sibling_progress<A: Make>(flow: &Flow<A>, protocol: Protocol) -> Progress {
    let Ok(work) = work::<A>() else { return Progress::default() };
    work.sibling = flow.sibling(protocol);
    // SAFETY: as in `find`.
    match unsafe { A::flows().get(&work.sibling) } {
        Some(sibling) => progress_of(sibling),
        // SAFETY: as in `find`.
        None => unsafe { A::embryos().get(&work.sibling) }.map_or_else(Progress::default, progress_of),
    }
}

/// What an entry has seen of its direction of a TCP connection.
#[inline(always)]
pub fn progress_of<A>(flow: &Flow<A>) -> Progress {
    Progress { flags: flow.seen, next: flow.next, acked: flow.acked }
}

/// A TCP packet as its flow sees it.
#[inline(always)]
pub fn segment<A: Make>(packet: &Packet<A>) -> Segment {
    let sequence = packet.sequence;
    Segment {
        flags: packet.flags,
        sequence,
        end: sequence.wrapping_add(packet.sequence_len()),
        acknowledgment: packet.acknowledgment,
    }
}

/// Translates a packet that the stack has routed to an uplink.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`].
#[inline(always)]
pub fn translate_routed<A: Make>(skb: &Skb<'_>, packet: &Packet<A>, entry: *mut Flow<A>) -> Result<(), DropReason> {
    // SAFETY: as in `follow`.
    let flow = unsafe { &mut *entry };
    pass(skb, packet, flow);
    rewrite::plan(flow, None, 0)?;
    rewrite::translate(skb, packet)
}

/// Does a flow exist for which this packet, which the stack is bringing to a container of `zone`, is the answer or the
/// translated original?
#[inline(always)]
pub fn expects<A: Make>(packet: &Packet<A>, zone: Zone) -> bool {
    if !packet.has_flow() {
        return false;
    }
    let key = packet.tuple.reversed().key(packet.protocol, zone);
    // SAFETY: read at once; see `find`.
    unsafe { A::flows().get(&key).or_else(|| A::embryos().get(&key)) }.is_some_and(is_alive)
}
