//! What happens to a packet that belongs to no flow: the rules of who may talk to whom, as pure functions over a [`World`].
//!
//! They judge the original destination, before any translation. Not here: how a flow is made and packets are rewritten.

use crate::{
    drop_reason::DropReason,
    layout::{LinkKey, Network, Published},
    tuple::{Protocol, Zone},
    wire::{Be16, IpHeader, Kind, Packet},
};

/// What the rules need to know of the host.
pub trait World<A> {
    /// Is this one of the host's own addresses, gateway addresses included?
    fn is_local(&self, address: A) -> bool;
    /// The network whose subnet holds the address.
    fn network_of(&self, address: A) -> Option<Zone>;
    /// What that network is.
    fn network(&self, zone: Zone) -> Option<&Network>;
    /// The slot of the endpoint that has the address in a network.
    fn endpoint(&self, zone: Zone, address: A) -> Option<u32>;
    /// Do packets that come in through this interface reach published ports of the network's containers directly?
    fn trusts(&self, zone: Zone, ifindex: u32) -> bool;
    /// The port published on exactly this address.
    fn published(&self, address: A, port: Be16, protocol: Protocol) -> Option<Published>;
}

/// What happens to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The host's own stack takes it, unchanged.
    Stack,
    /// It dies.
    Drop(DropReason),
    /// To a container: through a published port, or straight to its address where its network lets everybody in.
    Publish(Published),
    /// To a published port, but it opens nothing: it may go on with what has only just been opened.
    Continue(Published),
    /// Out through an uplink.
    Route,
}

/// May this packet open a flow? TCP only by a SYN (RFC 9293 §3.5), SCTP by an INIT (RFC 9260 §5.1), UDP, queries and protocols
/// without ports always, ICMP messages that neither ask nor answer never.
#[inline(always)]
pub fn opens<A: IpHeader>(packet: &Packet<A>) -> bool {
    match packet.kind {
        Kind::Tcp => packet.flags.opens(),
        Kind::Sctp => packet.init,
        Kind::Udp | Kind::EchoRequest => true,
        Kind::Other => packet.protocol != A::ICMP,
        _ => false,
    }
}

/// Why a packet that needs a flow and has none may not open one.
#[inline(always)]
fn refusal(kind: Kind) -> DropReason {
    match kind {
        Kind::Fragment => DropReason::Fragment,
        Kind::Other => DropReason::UnsupportedProtocol,
        _ => DropReason::NoFlow,
    }
}

/// The published port that a packet to `address` means: one on that very address, or one on every address of the host, all of
/// 127.0.0.0/8 included.
#[inline(always)]
pub fn published<A: IpHeader, W: World<A>>(world: &W, address: A, port: Be16, protocol: Protocol) -> Option<Published> {
    // The unspecified address is the wildcard's key, and nobody's address.
    if address == A::UNSPECIFIED {
        return None;
    }
    if let Some(exact) = world.published(address, port, protocol) {
        return Some(exact);
    }
    let wildcard = world.published(A::UNSPECIFIED, port, protocol)?;
    if address.is_loopback() || world.is_local(address) { Some(wildcard) } else { None }
}

/// A container's packet to an address that is not in its own network, or to its gateway.
#[inline(always)]
pub fn from_container<A: IpHeader, W: World<A>>(
    world: &W,
    network: &Network,
    gateway: A,
    packet: &Packet<A>,
) -> Verdict {
    let destination = packet.destination;
    // Never routed (RFC 4291 §2.5.6): at most for the host itself. IPv4's link-local addresses are, in practice.
    if A::IS_V6 && destination.is_link_local() {
        return Verdict::Stack;
    }
    if destination.is_martian() {
        return Verdict::Drop(DropReason::Martian);
    }
    let internal = network.has(Network::INTERNAL);
    if world.is_local(destination) {
        if network.has(Network::ISOLATED) {
            return Verdict::Drop(DropReason::IsolatedNetwork);
        }
        if internal {
            return if destination == gateway { Verdict::Stack } else { Verdict::Drop(DropReason::InternalNetwork) };
        }
        if opens(packet)
            && is_routed(packet.source)
            && let Some(port) = published(world, destination, packet.tuple.destination_port, packet.protocol)
        {
            return Verdict::Publish(port);
        }
        return Verdict::Stack;
    }
    if let Some(other) = world.network_of(destination) {
        return match direct(world, other, network.bridge, packet) {
            Some(Verdict::Publish(port)) if !internal && is_routed(packet.source) => Verdict::Publish(port),
            _ => Verdict::Drop(DropReason::OtherNetwork),
        };
    }
    if internal {
        return Verdict::Drop(DropReason::InternalNetwork);
    }
    // The stack tells its sender that it may not leave its link.
    if !is_routed(packet.source) {
        return Verdict::Stack;
    }
    if opens(packet) { Verdict::Route } else { Verdict::Drop(refusal(packet.kind)) }
}

/// Does a link let a packet pass from one endpoint to another, in a network that does not let its containers talk to each other?
/// `is_link` tells which ports are open. There is no state: what comes from such a port is an answer, unless it opens something;
/// of UDP nobody can tell. ICMP errors go with the packets that they are about, fragments without ports with nothing.
#[inline(always)]
pub fn is_linked<A: IpHeader>(packet: &Packet<A>, from: u32, to: u32, is_link: impl Fn(LinkKey) -> bool) -> bool {
    if !packet.has_flow() || packet.is_hearsay() {
        return false;
    }
    let link = |from, to, port| is_link(LinkKey { from, to, port, protocol: packet.protocol, reserved: 0 });
    let answers = packet.kind == Kind::Udp || !opens(packet);
    link(from, to, packet.tuple.destination_port) || (answers && link(to, from, packet.tuple.source_port))
}

/// A packet from behind an uplink, through which it came in.
#[inline(always)]
pub fn from_outside<A: IpHeader, W: World<A>>(world: &W, uplink: u32, packet: &Packet<A>) -> Verdict {
    let (source, destination) = (packet.source, packet.destination);
    // The stack drops what comes from outside to a loopback address; ports published there are for the host alone.
    if destination.is_loopback() {
        return Verdict::Stack;
    }
    // No container is out there: what one sends to elsewhere never comes back from its own address.
    if world.network_of(source).is_some() {
        return Verdict::Drop(DropReason::SpoofedOutside);
    }
    let to_container = if let Some(zone) = world.network_of(destination)
        && !world.is_local(destination)
    {
        direct(world, zone, uplink, packet).unwrap_or(Verdict::Drop(DropReason::DirectAccess))
    } else if has_ports(packet.kind)
        && let Some(port) = published(world, destination, packet.tuple.destination_port, packet.protocol)
    {
        publish(port, packet)
    } else {
        return Verdict::Stack;
    };
    if matches!(to_container, Verdict::Publish(_) | Verdict::Continue(_)) && !is_routed(source) {
        return Verdict::Stack;
    }
    // Nor is the host out there: a container would answer it, who never asked. What is for the stack, the stack judges.
    if matches!(to_container, Verdict::Publish(_)) && world.is_local(source) {
        return Verdict::Drop(DropReason::SpoofedOutside);
    }
    to_container
}

/// May what comes from this address be brought to a container? Nobody has a martian or a group's for a source, and the stack drops
/// it; what comes from a link-local one must not leave its link (RFC 4291 §2.5.6).
#[inline(always)]
pub fn is_routed<A: IpHeader>(source: A) -> bool {
    !(source.is_martian() || source.is_group() || (A::IS_V6 && source.is_link_local()))
}

/// A packet from elsewhere, through the interface `input`, straight to an address of a network. `None`: it is closed to that.
#[inline(always)]
fn direct<A: IpHeader, W: World<A>>(world: &W, zone: Zone, input: u32, packet: &Packet<A>) -> Option<Verdict> {
    let (destination, port) = (packet.destination, packet.tuple.destination_port);
    let network = world.network(zone)?;
    let (open, routed) = (network.has_for::<A>(Network::OPEN), network.has_for::<A>(Network::ROUTED));
    let trusted = network.has(Network::TRUSTS) && world.trusts(zone, input);
    if network.has(Network::INTERNAL) || !(open || routed || trusted) {
        return None;
    }
    // The stack brings it if it is about a flow.
    if packet.kind == Kind::IcmpError {
        return Some(Verdict::Stack);
    }
    if open || (routed && packet.kind == Kind::EchoRequest) {
        let (container, endpoint) = (destination.any(), world.endpoint(zone, destination)?);
        return Some(publish(Published { container, endpoint, port, flags: 0, slot: 0, rate: 0 }, packet));
    }
    if has_ports(packet.kind) {
        return Some(publish(world.published(destination, port, packet.protocol)?, packet));
    }
    None
}

/// A packet to a container that may be reached.
#[inline(always)]
fn publish<A: IpHeader>(port: Published, packet: &Packet<A>) -> Verdict {
    if opens(packet) {
        Verdict::Publish(port)
    } else if has_ports(packet.kind) {
        Verdict::Continue(port)
    } else {
        Verdict::Drop(refusal(packet.kind))
    }
}

/// Can a port of such packets be published?
#[inline(always)]
fn has_ports(kind: Kind) -> bool {
    matches!(kind, Kind::Tcp | Kind::Udp | Kind::Sctp)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
