//! What must hold of every packet that a program lets through, whatever it was fed.
//!
//! The rules are those of SEMANTICS, told once more and independently of the product's code: who may reach whom is judged on
//! the packet that went in, what translation may do on the difference to the one that came out. Dropping a packet is nearly
//! always allowed; only what belongs to a flow that lives must pass.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::integrity;
use crate::kernel::Ran;
use crate::neighbors;
use crate::packet::{self, ETHERTYPE_ARP, ETHERTYPE_V4, ETHERTYPE_V6, Ip, Kind, Tuple, UDP};
use crate::plan::{
    CONTAINERS, Container, NETWORKS, Network, PORTS, UPLINKS, container_at, is_group, is_local, is_nobody,
    is_v6_link_local, network_of,
};

/// TC actions of `linux/pkt_cls.h`.
pub(crate) const NEXT: i32 = -1;
pub(crate) const SHOT: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

/// Where a packet comes from: a network's number, or outside.
type Zone = u16;
const OUTSIDE: Zone = 0;

/// Through what a packet came into the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Came {
    /// The host made it.
    Host,
    Container(usize),
    Bridge(usize),
    Uplink(usize),
}

/// Which program sees a packet, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hook {
    FromContainer(usize),
    ToContainer(usize, Came),
    FromBridge(usize),
    ToBridge(usize, Came),
    FromUplink(usize),
    ToUplink(usize, Came),
}

/// Where a packet is after a program let it through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrived {
    AtContainer(u32),
    Outside,
    /// The host's stack goes on with it.
    AtStack,
}

/// What is known of one direction of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Direction {
    after: Tuple,
    receiver: Arrived,
    /// The other direction's key.
    sibling: (Zone, Tuple),
    /// Is this the direction of the packet that opened the flow?
    original: bool,
    /// The containers whose end is the flow's end.
    parties: [Option<u32>; 2],
}

/// Everything that has been seen to open flows.
#[derive(Default)]
pub(crate) struct Oracle {
    known: HashMap<(Zone, Tuple), Direction>,
    /// What opened a flow and was left to the stack all the same, which has something to say about it.
    attempted: HashSet<(Zone, Tuple)>,
}

type Judgement<T> = Result<T, String>;

fn demand(holds: bool, rule: &str) -> Judgement<()> {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

impl Oracle {
    /// The container has gone, and all its flows with it.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.known.retain(|_, direction| !direction.parties.contains(&Some(slot)));
    }

    /// Judges what a program made of a frame; where it is now, if it was let through.
    pub(crate) fn judge(&mut self, hook: Hook, frame: &[u8], ran: &Ran) -> Judgement<Option<Arrived>> {
        if ran.verdict == SHOT {
            return self.may_die(hook, frame).map(|()| None);
        }
        demand(matches!(ran.verdict, NEXT | REDIRECT), "a verdict is one of three")?;
        demand(ran.frame.len() == frame.len(), "a frame keeps its length")?;
        let unchanged = ran.frame == frame;
        match packet::ethertype(frame) {
            ETHERTYPE_V4 | ETHERTYPE_V6 => {}
            ETHERTYPE_ARP if matches!(hook, Hook::FromContainer(_)) => {
                let Hook::FromContainer(sender) = hook else { unreachable!() };
                return neighbors::arp(CONTAINERS[sender], frame, ran).map(Some);
            }
            _ => {
                demand(unchanged && ran.verdict == NEXT, "what is no IP packet goes on untouched")?;
                return Ok(Some(Arrived::AtStack));
            }
        }
        let Some(before) = packet::ip(frame) else {
            demand(unchanged && ran.verdict == NEXT, "what cannot be read goes on untouched")?;
            demand(!matches!(hook, Hook::FromContainer(_)), "a container's packet that cannot be read dies")?;
            let private = packet::addresses(frame).and_then(|(source, _)| network_of(source));
            let leaves = matches!(hook, Hook::ToUplink(_, came) if came != Came::Host);
            demand(!leaves || private.is_none(), "no private address leaves an uplink")?;
            return Ok(Some(Arrived::AtStack));
        };
        if let Hook::FromContainer(sender) = hook
            && let Some(arrived) = neighbors::discovery(CONTAINERS[sender], frame, &before, ran)?
        {
            return Ok(Some(arrived));
        }
        let after = integrity::check(frame, &before, ran)?;
        let packet = Packet { frame, before, after, out: &ran.frame, redirected: ran.verdict == REDIRECT };
        match hook {
            Hook::FromContainer(sender) => self.from_container(CONTAINERS[sender], &packet),
            Hook::FromUplink(_) => self.from_uplink(&packet),
            Hook::ToUplink(uplink, came) => self.to_uplink(uplink, came, &packet),
            Hook::ToContainer(receiver, came) => {
                let container = CONTAINERS[receiver];
                self.brought_by_stack(container.network(), came, &packet)?;
                Ok(Arrived::AtContainer(container.slot))
            }
            Hook::ToBridge(network, came) => {
                self.brought_by_stack(NETWORKS[network], came, &packet)?;
                Ok(Arrived::AtStack)
            }
            Hook::FromBridge(network) => {
                demand(packet.is_untouched(), "a bridge changes nothing")?;
                demand(!crosses(NETWORKS[network], packet.destination()), "no packet crosses networks")?;
                Ok(Arrived::AtStack)
            }
        }
        .map(Some)
    }

    /// A datagram or an echo of a flow that lives must not die.
    fn may_die(&self, hook: Hook, frame: &[u8]) -> Judgement<()> {
        let Some(ip) = packet::ip(frame) else { return Ok(()) };
        let zone = match hook {
            Hook::FromContainer(sender) => {
                let container = CONTAINERS[sender];
                let honest = packet::source_mac(frame) == container.mac()
                    && ip.tuple.source.0 == container.ip(ip.is_v6())
                    && packet::destination_mac(frame)[0] & 1 == 0;
                if !honest {
                    return Ok(());
                }
                container.network
            }
            Hook::FromUplink(_) => OUTSIDE,
            _ => return Ok(()),
        };
        let plain =
            ip.fragment.is_none() && !ip.options && matches!(ip.kind, Kind::Udp | Kind::EchoRequest | Kind::EchoReply);
        let right = ip.header_sum(frame).is_none_or(|sum| sum == 0xffff)
            && (ip.sum(frame) == 0xffff || ip.is_unsummed(frame) && !ip.is_v6())
            && (ip.kind != Kind::Udp || udp_length_is_right(frame, &ip));
        demand(!(plain && right && in_place), "a packet of a living flow passes")
    }

    fn from_container(&mut self, sender: Container, packet: &Packet<'_>) -> Judgement<Arrived> {
        let (network, v6) = (sender.network(), packet.before.is_v6());
        let (source, destination) = (packet.before.tuple.source.0, packet.destination());
        let honest = source == sender.ip(v6)
            || v6 && (source == sender.link_local() || source.is_unspecified() && is_group(destination));
        demand(honest, "a container sends from its own address")?;
        demand(packet::source_mac(packet.frame) == sender.mac(), "a container sends from its own MAC address")?;

        let near = network.holds(destination) && destination != network.gateway(v6) || is_v6_link_local(destination);
        let neighbor = CONTAINERS
            .into_iter()
            .find(|other| other.network == network.slot && [other.ip(v6), other.link_local()].contains(&destination));
        if packet.redirected && packet.before.tuple == packet.after.tuple && near {
            demand(packet.is_untouched(), "nothing is changed between neighbours")?;
            demand(network.icc, "with ICC off, neighbours do not talk")?;
            let Some(neighbor) = neighbor else { return Err("a packet to nobody is redirected".into()) };
            return Ok(Arrived::AtContainer(neighbor.slot));
        }
        if packet.redirected || !packet.is_untouched() {
            return self.follow(network.slot, Some(sender), packet);
        }
        let for_all = packet::destination_mac(packet.frame)[0] & 1 != 0;
        demand(for_all || neighbor.is_none(), "what is for a neighbour does not go to the host")?;
        if network.internal && !near && !is_group(destination) {
            let kept = if is_local(destination) { destination == network.gateway(v6) } else { for_all };
            demand(kept, "from an internal network the host is reached at the gateway's address only")?;
        }
        // Whether it crosses networks is for the bridge's hook to see, which is next.
        self.note_attempt(network.slot, packet);
        Ok(Arrived::AtStack)
    }

    fn from_uplink(&mut self, packet: &Packet<'_>) -> Judgement<Arrived> {
        if packet.redirected || !packet.is_untouched() {
            return self.follow(OUTSIDE, None, packet);
        }
        let destination = packet.destination();
        let direct = network_of(destination).is_some() && !is_local(destination);
        let known = self.known.contains_key(&(OUTSIDE, packet.before.tuple));
        // What is cut short dies further on.
        demand(
            !direct || known || packet.before.kind == Kind::Stump,
            "a container's own address is closed to the outside",
        )?;
        Ok(Arrived::AtStack)
    }

    fn to_uplink(&mut self, uplink: usize, came: Came, packet: &Packet<'_>) -> Judgement<Arrived> {
        demand(!packet.redirected, "what the stack has routed goes where it was routed")?;
        if came == Came::Host {
            demand(packet.is_untouched(), "the host's own packets leave untouched")?;
            return Ok(Arrived::Outside);
        }
        demand(packet.after.ttl == packet.before.ttl, "the stack has lowered the time to live")?;
        let source = packet.before.tuple.source.0;
        let Some(network) = network_of(source) else {
            demand(packet.is_untouched(), "what comes from no network of ours leaves untouched")?;
            return Ok(Arrived::Outside);
        };
        let Some(sender) = container_at(source) else { return Err("nobody's private address leaves".into()) };
        let key = (network.slot, packet.before.tuple);
        let known = self.known.get(&key).is_some_and(|known| known.after == packet.after.tuple);
        if network.masquerade && !known {
            let translated = packet.after.tuple.source.0 == UPLINKS[uplink].ip(packet.before.is_v6());
            demand(translated, "no private address leaves an uplink")?;
        }
        self.follow(network.slot, Some(sender), packet)
    }

    /// A packet that the stack brings to a network.
    fn brought_by_stack(&self, network: Network, came: Came, packet: &Packet<'_>) -> Judgement<()> {
        demand(packet.is_untouched(), "what the stack brings is not changed")?;
        let from_inside = matches!(came, Came::Container(n) if CONTAINERS[n].network == network.slot);
        let expected = self.known.contains_key(&(network.slot, packet.before.tuple.reversed()));
        demand(came == Came::Host || from_inside || expected, "the stack brings only what belongs to a flow")
    }

    fn note_attempt(&mut self, zone: Zone, packet: &Packet<'_>) {
        if packet.before.opens() {
            self.attempted.insert((zone, packet.before.tuple));
        }
    }

    /// A packet that was translated or sent away: it belongs to a flow, or opens one.
    fn follow(&mut self, zone: Zone, sender: Option<Container>, packet: &Packet<'_>) -> Judgement<Arrived> {
        let spoofed = sender.is_none() && network_of(packet.before.tuple.source.0).is_some();
        demand(!spoofed, "nobody outside has a container's address")?;
        let receiver = packet.receiver();
        let key = (zone, packet.before.tuple);
        let known = self.known.get(&key).copied();
        if let Some(known) = known.filter(|known| (known.after, known.receiver) == (packet.after.tuple, receiver)) {
            let out_of_place = if known.original { Kind::EchoReply } else { Kind::EchoRequest };
            demand(packet.before.kind != out_of_place, "only the answer to an echo is taken for one")?;
            return Ok(receiver);
        }
        if let Some(known) = known {
            demand(packet.before.tuple.protocol != UDP, "a flow is translated in one way")?;
            self.known.remove(&known.sibling);
        }
        demand(
            packet.before.opens() || self.attempted.contains(&key),
            "what may not open a flow is translated by one only",
        )?;
        let (peer_zone, other) = match receiver {
            Arrived::AtContainer(slot) => {
                let container = Container::of(slot);
                opens_published(sender, container, packet)?;
                (container.network, Some(slot))
            }
            _ => {
                opens_outbound(sender, packet)?;
                (OUTSIDE, None)
            }
        };
        let parties = [sender.map(|sender| sender.slot), other];
        let back = sender.map_or(Arrived::Outside, |sender| Arrived::AtContainer(sender.slot));
        let reply = (peer_zone, packet.after.tuple.reversed());
        let reply_after = packet.before.tuple.reversed();
        if let Some(taken) = self.known.get(&reply) {
            demand(taken.after == reply_after, "two flows never get the same port")?;
        }
        self.known
            .insert(key, Direction { after: packet.after.tuple, receiver, sibling: reply, original: true, parties });
        self.known
            .insert(reply, Direction { after: reply_after, receiver: back, sibling: key, original: false, parties });
        Ok(receiver)
    }
}

/// A packet that was let through.
struct Packet<'a> {
    frame: &'a [u8],
    before: Ip,
    after: Ip,
    out: &'a [u8],
    redirected: bool,
}

impl Packet<'_> {
    fn is_untouched(&self) -> bool {
        self.frame == self.out
    }

    fn destination(&self) -> IpAddr {
        self.before.tuple.destination.0
    }

    /// Who gets it: told by the address that it has now, and by the MAC address if there is one already.
    fn receiver(&self) -> Arrived {
        match container_at(self.after.tuple.destination.0) {
            Some(container)
                if !self.redirected
                    || packet::destination_mac(self.out) == container.mac()
                        && packet::source_mac(self.out) == container.network().bridge_mac() =>
            {
                Arrived::AtContainer(container.slot)
            }
            _ => Arrived::Outside,
        }
    }
}

/// Is the address one of another network's?
fn crosses(network: Network, destination: IpAddr) -> bool {
    network_of(destination).is_some_and(|other| other != network) && !is_local(destination)
}

fn udp_length_is_right(frame: &[u8], ip: &Ip) -> bool {
    let told = u16::from_be_bytes([frame[ip.transport + 4], frame[ip.transport + 5]]);
    usize::from(told) == ip.end - ip.transport
}

/// May this packet open a flow to that container?
fn opens_published(sender: Option<Container>, container: Container, packet: &Packet<'_>) -> Judgement<()> {
    let (before, after) = (packet.before.tuple, packet.after.tuple);
    let published = PORTS.into_iter().any(|port| {
        port.is_meant(before.protocol, before.destination)
            && (port.container, port.container_port) == (container.slot, after.destination.1)
    });
    demand(published, "a container is reached from elsewhere by its published ports only")?;
    demand(!before.destination.0.is_loopback(), "what is published on loopback is for the host alone")?;
    let source = before.source.0;
    let nobody =
        is_local(source) || is_group(source) || is_nobody(source) || source.is_loopback() || is_v6_link_local(source);
    demand(sender.is_some() || !nobody, "nobody outside sends from such an address")?;
    demand(sender.is_none_or(|sender| !sender.network().internal), "an internal network reaches nothing outside")?;
    demand(!container.network().internal, "an internal network is not reached")?;
    let seen = match sender {
        Some(sender) if sender == container => (container.network().gateway(packet.before.is_v6()), before.source.1),
        _ => before.source,
    };
    demand(after.source == seen, "the client's own address is seen")
}

/// May this packet open a flow to the outside?
fn opens_outbound(sender: Option<Container>, packet: &Packet<'_>) -> Judgement<()> {
    let (before, after) = (packet.before.tuple, packet.after.tuple);
    let Some(sender) = sender else { return Err("what comes from outside is not sent out again".into()) };
    let network = sender.network();
    let destination = before.destination.0;
    demand(!network.internal, "an internal network reaches nothing outside")?;
    demand(network_of(destination).is_none(), "no packet crosses networks")?;
    let far = !is_local(destination)
        && !is_group(destination)
        && !destination.is_loopback()
        && !is_nobody(destination)
        && !is_v6_link_local(destination);
    // What the stack has routed out, it may have reasons for.
    demand(far || !packet.redirected, "what is for the host or for all does not go out")?;
    demand(after.destination.0 == destination, "the destination stays")?;
    let echo = matches!(packet.before.kind, Kind::EchoRequest);
    demand(echo || after.destination.1 == before.destination.1, "the destination's port stays")?;
    if !network.masquerade {
        return demand(after.source == before.source, "without masquerade the source stays");
    }
    let uplink = UPLINKS.into_iter().find(|uplink| uplink.ip(packet.before.is_v6()) == after.source.0);
    let Some(uplink) = uplink else { return Err("no private address leaves an uplink".into()) };
    let public = (uplink.ip(packet.before.is_v6()), after.source.1);
    let taken = !echo && PORTS.into_iter().any(|port| port.is_meant(before.protocol, public));
    demand(!taken, "a published port is never given out")
}
