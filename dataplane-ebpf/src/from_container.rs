//! TC ingress of each host-side veth: everything that a container sends.
//!
//! Anti-spoofing, answers to ARP and neighbour discovery, then one look-up: of the neighbour within the own network, of the
//! flow towards everything else. A miss decides by `dataplane_common::decision` and makes the flow.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_clone_redirect, bpf_for_each_map_elem, bpf_redirect_peer},
    macros::classifier,
    programs::TcContext,
};
use dataplane_common::{
    DropReason, V4, V6,
    decision::{self, Verdict},
    flow::Party,
    layout::{Endpoint, Neighbor, Network},
    wire::{
        Frame as _, Kind, Packet,
        ethernet::{self, Ethernet},
    },
};

use crate::{
    bandwidth, checksum, crossing,
    drops::{Dropped, NEXT, Outcome, SHOT, finish},
    embryo, flow, fragment,
    make::{self, Make, work},
    mapping,
    maps::{self, Maps},
    neighbor, rewrite, route, shelf,
    skb::Skb,
    unbridged,
};

/// The hook.
#[classifier]
pub fn from_container(ctx: TcContext) -> i32 {
    finish(&ctx, "from_container", run(&Skb::new(&ctx)))
}

/// The container at whose interface the program runs.
pub struct Sender {
    slot: u32,
    /// Its endpoint.
    pub endpoint: &'static Endpoint,
    /// Its network.
    pub network: &'static Network,
}

#[inline(always)]
fn run(skb: &Skb<'_>) -> Outcome {
    let Some(sender) = sender(skb.ifindex()) else { return Err(Dropped::at(0, DropReason::UnknownInterface)) };
    let slot = sender.slot;
    let Some(header) = skb.read::<Ethernet>(0) else { return Err(Dropped::at(slot, DropReason::Malformed)) };
    if header.source != sender.endpoint.mac {
        return Err(Dropped::at(slot, DropReason::SpoofedMac));
    }
    if sender.endpoint.flags & Endpoint::LIMITS_EGRESS != 0 && bandwidth::is_sending_too_much(skb, slot) {
        return Err(Dropped::at(slot, DropReason::EgressRate));
    }
    let verdict = match header.ethertype.get() {
        // No bridge of ours has VLANs, and a redirect would carry the tag into those of the uplink.
        _ if skb.is_tagged() => Err(DropReason::Tagged),
        ethernet::IPV4 => match ip::<V4>(skb, &sender, header.is_group()) {
            // Here, since their stacks would add up.
            Ok(crossing::ANSWER) => crossing::answer(skb, &sender),
            verdict => verdict,
        },
        ethernet::IPV6 => ip::<V6>(skb, &sender, header.is_group()),
        ethernet::ARP => neighbor::arp(skb, &sender, header.is_group()),
        // Isolated bridge ports let it get as far as the host, which ignores what it does not know.
        _ => Ok(NEXT),
    };
    match verdict {
        // The bridge takes it from none of its ports.
        Ok(NEXT) if unbridged::is_unbridged(sender.endpoint) => Ok(unbridged::to_host(sender.network.bridge)),
        other => other.map_err(|reason| Dropped::at(slot, reason)),
    }
}

#[inline(always)]
fn sender(ifindex: u32) -> Option<Sender> {
    let (slot, endpoint) = maps::endpoint_at(ifindex)?;
    let network = flow::network(endpoint.network)?;
    Some(Sender { slot, endpoint, network })
}

/// The source must be the endpoint's own (RFC 2827); IPv6 also has its link-local address, and none during autoconfiguration.
#[inline(always)]
fn check_source<A: Make>(packet: &Packet<A>, endpoint: &Endpoint) -> Result<(), DropReason> {
    let source = packet.source;
    if (source == A::of_endpoint(endpoint) && source != A::UNSPECIFIED)
        || (A::IS_V6 && (source == A::link_local_of_endpoint(endpoint) || is_autoconfiguration(packet)))
    {
        Ok(())
    } else {
        Err(DropReason::SpoofedSource)
    }
}

/// Duplicate address detection and multicast listener reports come from `::` (RFC 4862 §5.4.2, RFC 3590 §4), to groups only.
#[inline(always)]
fn is_autoconfiguration<A: Make>(packet: &Packet<A>) -> bool {
    packet.source == A::UNSPECIFIED && packet.destination.is_group()
}

/// An IP packet; `group` if its frame is for more than one station. A function of its own for each family, so that their
/// stacks do not add up.
#[inline(never)]
fn ip<A: Make>(skb: &Skb<'_>, sender: &Sender, group: bool) -> Result<i32, DropReason> {
    if let Some((slot, neighbor)) = neighbor_at_once::<A>(skb, sender) {
        return Ok(hand_over(skb, slot, neighbor.ifindex, neighbor.flags & Endpoint::LIMITS_INGRESS != 0));
    }
    let packet = maps::parse::<A>(skb)?;
    check_source(packet, sender.endpoint)?;
    if packet.kind == Kind::NeighborDiscovery {
        // Nobody sends it behind extension headers, and Linux would believe it there (RFC 6980).
        return if packet.is_plain() { neighbor::discovery(skb, sender, group) } else { Err(DropReason::SpoofedArp) };
    }
    let destination = packet.destination;
    let (prefix, mask) = A::subnet(sender.network);
    // A frame for everybody may still hold a packet for one: that is judged as any other.
    if destination.is_group() || destination.is_broadcast_of(prefix, mask) {
        if group {
            flood(skb, sender);
        }
        return Ok(NEXT);
    }
    let gateway = A::gateway(sender.network);
    let near = (destination.is_in(prefix, mask) && destination != gateway) || (A::IS_V6 && destination.is_link_local());
    // To a neighbour no flow is needed, but who is reached at ports of the host may be answering one that came by way of it.
    let publishes =
        sender.endpoint.flags & Endpoint::PUBLISHES != 0 || sender.network.has(Network::ENDPOINT_INDEPENDENT);
    if near && !publishes {
        return to_neighbor(sender, packet, skb);
    }
    let zone = sender.endpoint.network;
    if fragment::is_unknown(packet, zone) {
        let to = if near {
            To::Neighbor
        } else if !group && !is_for_host(skb, sender) {
            To::Bridge
        } else {
            To::Host
        };
        let lone = lone(skb, sender, packet, to);
        return shelf::wait(skb, sender.slot, lone);
    }
    let hearsay = packet.is_hearsay();
    let mut entry = if hearsay { None } else { flow::find(packet, zone) };
    if entry.is_none() && !hearsay && (publishes || sender.network.has_for::<A>(Network::OPEN | Network::ROUTED)) {
        entry = embryo::find(packet, zone);
    }
    if entry.is_none() {
        if near {
            return to_neighbor(sender, packet, skb);
        }
        if publishes && !A::IS_V6 && destination == gateway && crossing::is_answer(sender.endpoint.network) {
            return Ok(crossing::ANSWER);
        }
        if !group && !is_for_host(skb, sender) {
            return to_bridge(skb, sender);
        }
        match judge(skb, sender, packet)? {
            Judgement::Opens => {}
            Judgement::ForStack if !mapping::leads_to(skb, packet) => return Ok(NEXT),
            Judgement::ForStack | Judgement::ForPort => prepare_published(sender, packet)?,
        }
        if !checksum::is_right(skb, packet) {
            return Err(DropReason::BadChecksum);
        }
        make::open(skb, packet)?;
        entry = flow::find(packet, zone);
    }
    let Some(entry) = entry else { return Err(DropReason::FlowTableFull) };
    fragment::lead(skb, packet, entry, zone)?;
    flow::follow(skb, packet, entry, sender.network.bridge)
}

/// The neighbour to whom an ordinary packet goes, and its slot, if their addresses are all that matters: the short cut of [`ip`], which
/// does the same for everything else. Most packets between containers are such, and this is most of what they cost.
#[inline(always)]
fn neighbor_at_once<A: Make>(skb: &Skb<'_>, sender: &Sender) -> Option<(u32, &'static Endpoint)> {
    let Sender { endpoint, network, .. } = *sender;
    let flows = endpoint.flags & Endpoint::PUBLISHES != 0 || network.has(Network::ENDPOINT_INDEPENDENT);
    if flows || !network.has(Network::ICC) {
        return None;
    }
    let header: A::Header = skb.read(ethernet::LEN)?;
    let (source, destination) = (A::source(&header), A::destination(&header));
    if source != A::of_endpoint(endpoint) || source == A::UNSPECIFIED || destination == A::UNSPECIFIED {
        return None;
    }
    // Who is not for a neighbour is looked at closer anyway.
    let neighbor = maps::endpoint_near(endpoint.network, destination)?;
    Packet::<A>::is_ordinary(skb, &header).then_some(neighbor)
}

/// To whom a frame goes.
enum To {
    /// Another container of the network.
    Neighbor,
    /// Some other station that the bridge knows.
    Bridge,
    /// The host.
    Host,
}

/// What happens by the rules to a fragment of whose packet nothing is known. A function of its own for its stack, which [`shelf`]
/// must not add to.
#[inline(never)]
fn lone<A: Make>(skb: &Skb<'_>, sender: &Sender, packet: &Packet<A>, to: To) -> Result<i32, DropReason> {
    match to {
        To::Neighbor => to_neighbor(sender, packet, skb),
        To::Bridge => to_bridge(skb, sender),
        To::Host => match decision::from_container(&Maps, sender.network, A::gateway(sender.network), packet) {
            Verdict::Drop(reason) => Err(reason),
            _ => Ok(NEXT),
        },
    }
}

/// What a copy for every neighbour needs.
struct Flood {
    skb: *mut __sk_buff,
    sender: u32,
}

/// A copy to every neighbour, broadcast and multicast alike, where they may talk to each other; the host has the packet itself.
/// Isolated bridge ports would keep it from them.
#[inline(always)]
pub fn flood(skb: &Skb<'_>, sender: &Sender) {
    if !sender.network.has(Network::ICC) {
        return;
    }
    let Some(neighbors) = maps::neighbors(sender.endpoint.network) else { return };
    let mut flood = Flood { skb: skb.as_ptr(), sender: sender.slot };
    // SAFETY: the map is a hash, the callback has the signature that the helper calls, and `flood` outlives the call.
    unsafe { bpf_for_each_map_elem(neighbors, copy_to as *mut c_void, (&raw mut flood).cast(), 0) };
}

/// Sends a copy to one neighbour, but not to the sender, and to each only once.
unsafe extern "C" fn copy_to(_: *mut c_void, _: *const c_void, neighbor: *const Neighbor, flood: *mut Flood) -> i64 {
    // SAFETY: the helper passes a value of the map, and `flood` passes this struct.
    let (neighbor, flood) = unsafe { (&*neighbor, &*flood) };
    if neighbor.flags & Neighbor::FIRST != 0 && neighbor.endpoint != flood.sender {
        // SAFETY: a plain helper call on the program's own context. No copy is lost but for want of memory.
        unsafe { bpf_clone_redirect(flood.skb, neighbor.ifindex, 0) };
    }
    0
}

/// To a container of the same network: no state, no rewrite.
#[inline(always)]
fn to_neighbor<A: Make>(sender: &Sender, packet: &Packet<A>, skb: &Skb<'_>) -> Result<i32, DropReason> {
    let Some(neighbor) = maps::neighbor(sender.endpoint.network, packet.destination.any()) else {
        // Perhaps the gateway's link-local address, perhaps a machine that was plugged in, perhaps nobody.
        return to_bridge(skb, sender);
    };
    if !sender.network.has(Network::ICC) && !is_linked(sender, neighbor, packet) {
        return Err(DropReason::IccDisabled);
    }
    Ok(hand_over(skb, neighbor.endpoint, neighbor.ifindex, neighbor.flags & Neighbor::LIMITS_INGRESS != 0))
}

/// Sends a packet into a neighbour's namespace, unless that is `limited` and receives too much.
#[inline(always)]
fn hand_over(skb: &Skb<'_>, slot: u32, ifindex: u32, limited: bool) -> i32 {
    if limited && bandwidth::is_receiving_too_much(skb, slot) {
        return SHOT;
    }
    rewrite::mark_as_ours(skb);
    // SAFETY: a plain helper call. The container has put the neighbour's MAC address into the frame, as ARP told it.
    (unsafe { bpf_redirect_peer(ifindex, 0) }) as i32
}

/// Does a link let the packet through? A function of its own for its stack, which nobody pays for where containers may talk to
/// each other.
#[inline(never)]
fn is_linked<A: Make>(sender: &Sender, neighbor: &Neighbor, packet: &Packet<A>) -> bool {
    decision::is_linked(packet, sender.slot, neighbor.endpoint, maps::is_link)
}

/// Is the frame for the host, and not for another station of the network?
#[inline(always)]
fn is_for_host(skb: &Skb<'_>, sender: &Sender) -> bool {
    skb.read::<Ethernet>(0).is_some_and(|header| header.destination == sender.network.mac)
}

/// To whom the bridge knows: the host, or a machine that was plugged into it. It switches nothing from one port of ours to
/// another, since they are isolated.
#[inline(always)]
fn to_bridge(skb: &Skb<'_>, sender: &Sender) -> Result<i32, DropReason> {
    let open = sender.network.has(Network::ICC) || is_for_host(skb, sender);
    if open { Ok(NEXT) } else { Err(DropReason::IccDisabled) }
}

/// What becomes of a packet without a flow.
enum Judgement {
    /// It opens one, which is prepared.
    Opens,
    /// It opens one to the published port in working memory.
    ForPort,
    /// It needs none: the host's stack takes it.
    ForStack,
}

/// The first packet of a flow decides. A function of its own for its stack.
#[inline(never)]
fn judge<A: Make>(skb: &Skb<'_>, sender: &Sender, packet: &Packet<A>) -> Result<Judgement, DropReason> {
    let Sender { slot, endpoint, network } = *sender;
    match decision::from_container(&Maps, network, A::gateway(network), packet) {
        Verdict::Stack | Verdict::Continue(_) => return Ok(Judgement::ForStack),
        Verdict::Drop(reason) => return Err(reason),
        Verdict::Publish(published) => {
            work::<A>()?.published = published;
            return Ok(Judgement::ForPort);
        }
        // It goes nowhere, and takes no port.
        Verdict::Route if packet.ttl <= 1 => return Ok(Judgement::ForStack),
        Verdict::Route => {
            // The stack answers what has no route or is too big, and asks other managers' rules about what goes to their networks.
            let Some(route) = route::lookup(skb, network.bridge, &packet.tuple) else {
                return Ok(Judgement::ForStack);
            };
            if maps::uplink(route.ifindex).is_some_and(|uplink| uplink.is_inside()) {
                return Ok(Judgement::ForStack);
            }
            make::prepare_outbound(packet, network, (slot, endpoint), route.ifindex)?;
        }
    }
    Ok(Judgement::Opens)
}

/// Puts together the flow of a packet to the published port in working memory. A function of its own for its stack.
#[inline(never)]
fn prepare_published<A: Make>(sender: &Sender, packet: &Packet<A>) -> Result<(), DropReason> {
    let Sender { slot, endpoint, network } = *sender;
    let client =
        Party { endpoint: slot, generation: endpoint.generation, mtu: network.mtu.min(u16::MAX as u32) as u16 };
    make::prepare_published(packet, endpoint.network, client, &work::<A>()?.published)
}
