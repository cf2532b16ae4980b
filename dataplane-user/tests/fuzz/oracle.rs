//! What must hold of every packet that a program lets through, whatever it was fed.
//!
//! The rules are those of SEMANTICS, told once more and independently of the product's code: who may reach whom is judged on
//! the packet that went in, what translation may do on the difference to the one that came out. Dropping a packet is nearly
//! always allowed; only what belongs to a flow that lives must pass.

use std::net::IpAddr;

use crate::flows::{Flows, OUTSIDE};
use crate::integrity;
use crate::kernel::Ran;
use crate::neighbors;
use crate::packet::{self, ETHERTYPE_ARP, ETHERTYPE_V4, ETHERTYPE_V6, Ip, Kind};
use crate::plan::{
    CONTAINERS, Container, NETWORKS, Network, UPLINKS, container_at, is_group, is_local, is_v6_link_local, network_of,
};

/// TC actions of `linux/pkt_cls.h`.
pub(crate) const NEXT: i32 = -1;
pub(crate) const SHOT: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

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

/// A packet that was let through.
pub(crate) struct Packet<'a> {
    pub(crate) frame: &'a [u8],
    pub(crate) before: Ip,
    pub(crate) after: Ip,
    pub(crate) out: &'a [u8],
    pub(crate) redirected: bool,
    /// The uplink through which it came in.
    pub(crate) uplink: Option<usize>,
}

/// `Err` names the rule that was broken.
pub(crate) type Judgement<T> = Result<T, String>;

pub(crate) fn demand(holds: bool, rule: &str) -> Judgement<()> {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

/// Everything that has been seen so far.
#[derive(Default)]
pub(crate) struct Oracle {
    flows: Flows,
}

impl Oracle {
    /// The container has gone, and all its flows with it.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.flows.forget(slot);
    }

    /// Judges what a program made of a frame; where it is now, if it was let through.
    pub(crate) fn judge(&mut self, hook: Hook, frame: &[u8], ran: &Ran) -> Judgement<Option<Arrived>> {
        if ran.verdict == SHOT {
            if let (Hook::FromContainer(sender), Some(ip)) = (hook, packet::ip(frame))
                && ip.fragment.is_some()
            {
                self.flows.note_waiting(CONTAINERS[sender].network, &ip);
            }
            return self.may_die(hook, frame).map(|()| None);
        }
        demand(matches!(ran.verdict, NEXT | REDIRECT), "a verdict is one of three")?;
        demand(ran.frame.len() == frame.len(), "a frame keeps its length")?;
        let untouched = ran.frame == frame && ran.verdict == NEXT;
        match (packet::ethertype(frame), hook) {
            (ETHERTYPE_V4 | ETHERTYPE_V6, _) => {}
            (ETHERTYPE_ARP, Hook::FromContainer(sender)) => {
                return neighbors::arp(CONTAINERS[sender], frame, ran).map(Some);
            }
            _ => {
                demand(untouched, "what is no IP packet goes on untouched")?;
                return Ok(Some(Arrived::AtStack));
            }
        }
        let Some(before) = packet::ip(frame) else {
            demand(untouched, "what cannot be read goes on untouched")?;
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
        let uplink = match hook {
            Hook::FromUplink(uplink) => Some(uplink),
            _ => None,
        };
        let packet = Packet { frame, before, after, out: &ran.frame, redirected: ran.verdict == REDIRECT, uplink };
        match hook {
            Hook::FromContainer(sender) => self.judge_from_container(CONTAINERS[sender], &packet),
            Hook::FromUplink(_) => self.judge_from_uplink(&packet),
            Hook::ToUplink(_, Came::Host) => self.host_sends(&packet),
            Hook::ToUplink(uplink, _) => self.judge_to_uplink(uplink, &packet),
            Hook::ToContainer(receiver, came) => {
                let container = CONTAINERS[receiver];
                // What comes from elsewhere than the bridge's own address was switched from another port of the bridge.
                let switched = packet::source_mac(frame) != container.network().bridge_mac();
                if !(switched && container.network().icc && packet.is_untouched()) {
                    self.brought_by_stack(container.network(), came, &packet)?;
                }
                Ok(Arrived::AtContainer(container.slot))
            }
            Hook::ToBridge(number, came) => {
                let network = NETWORKS[number];
                demand(!network.isolated, "the host sends nothing into an isolated network")?;
                if came == Came::Host && matches!(packet.before.kind, Kind::Error(_)) && !packet.is_untouched() {
                    return self.host_sends(&packet).map(Some);
                }
                self.brought_by_stack(network, came, &packet)?;
                Ok(Arrived::AtStack)
            }
            Hook::FromBridge(number) => {
                let (network, destination) = (NETWORKS[number], packet.destination());
                demand(packet.is_untouched(), "a bridge changes nothing")?;
                demand(!network.isolated, "nothing of an isolated network goes up to the host")?;
                let expected = network_of(destination).is_some_and(|other| self.flows.expect(other.slot, &packet));
                demand(!crosses(network, destination) || expected, "no packet crosses networks")?;
                Ok(Arrived::AtStack)
            }
        }
        .map(Some)
    }

    /// A datagram or an echo of a flow that lives must not die.
    fn may_die(&self, hook: Hook, frame: &[u8]) -> Judgement<()> {
        let Some(ip) = packet::ip(frame).filter(|ip| ip.fragment.is_none() && !ip.options) else { return Ok(()) };
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
        let is_right = match ip.kind {
            Kind::Udp => (ip.sum(frame) == 0xffff || ip.is_unsummed(frame)) && udp_length_is_right(frame, &ip),
            Kind::EchoRequest | Kind::EchoReply => ip.sum(frame) == 0xffff,
            _ => return Ok(()),
        };
        demand(!(is_right && ip.is_sound(frame) && self.flows.hold(zone, &ip)), "a packet of a living flow passes")
    }

    fn judge_from_container(&mut self, sender: Container, packet: &Packet<'_>) -> Judgement<Arrived> {
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
        if packet.redirected && packet.frame == packet.out && near {
            demand(network.icc, "with ICC off, neighbours do not talk")?;
            let Some(neighbor) = neighbor else { return Err("a packet to nobody is redirected".into()) };
            return Ok(Arrived::AtContainer(neighbor.slot));
        }
        if !packet.is_untouched() {
            return self.flows.follow(network.slot, Some(sender), packet);
        }
        let for_all = packet::destination_mac(packet.frame)[0] & 1 != 0;
        demand(for_all || neighbor.is_none(), "what is for a neighbour does not go to the host")?;
        if !packet::is_for(packet.frame, network.bridge_mac()) {
            // For a machine that was plugged into the bridge.
            return Ok(Arrived::AtStack);
        }
        if network.internal && !near && !is_group(destination) {
            // From an isolated one not even there, but that is for the bridge's hook to see.
            let gateway = destination == network.gateway(v6);
            demand(gateway, "from an internal network the host is reached at the gateway's address only")?;
        }
        // Whether it crosses networks is for the bridge's hook to see, which is next.
        self.flows.note_attempt(network.slot, Some(sender), packet)?;
        Ok(Arrived::AtStack)
    }

    fn judge_from_uplink(&mut self, packet: &Packet<'_>) -> Judgement<Arrived> {
        if !packet.is_untouched() {
            return self.flows.follow(OUTSIDE, None, packet);
        }
        self.flows.note_attempt(OUTSIDE, None, packet)?;
        // If it is for a container's own address, it meets the hooks of the bridge and of the container next.
        Ok(Arrived::AtStack)
    }

    /// What the host itself sends may have to give way to a container that has its port.
    fn host_sends(&mut self, packet: &Packet<'_>) -> Judgement<Arrived> {
        demand(!packet.redirected && packet.after.ttl == packet.before.ttl, "the host's own packets go their way")?;
        if let Kind::Error(_) = packet.before.kind {
            if packet.is_untouched() {
                return Ok(Arrived::Outside);
            }
            let Some(about) = packet::quoted(packet.frame, &packet.before) else {
                return Err("an error about nothing is translated".into());
            };
            let Some(network) = network_of(about.tuple.destination.0) else {
                return Err("an error about nothing of ours is translated".into());
            };
            return self.flows.follow(network.slot, None, packet);
        }
        let may_change = matches!(packet.before.kind, Kind::Tcp(_) | Kind::Udp | Kind::EchoRequest);
        demand(packet.is_untouched() || may_change, "of the host's own packets only ports change")?;
        if may_change {
            self.flows.host_sends(packet)?;
        }
        Ok(Arrived::Outside)
    }

    fn judge_to_uplink(&mut self, uplink: usize, packet: &Packet<'_>) -> Judgement<Arrived> {
        demand(!packet.redirected, "what the stack has routed goes where it was routed")?;
        demand(packet.after.ttl == packet.before.ttl, "the stack has lowered the time to live")?;
        let source = packet.before.tuple.source.0;
        let Some(network) = network_of(source) else {
            demand(packet.is_untouched(), "what comes from no network of ours leaves untouched")?;
            return Ok(Arrived::Outside);
        };
        let Some(sender) = container_at(source) else { return Err("nobody's private address leaves".into()) };
        let known = self.flows.translate(network.slot, packet);
        if network.masquerade && !known {
            let translated = packet.after.tuple.source.0 == UPLINKS[uplink].ip(packet.before.is_v6());
            demand(translated, "no private address leaves an uplink")?;
        }
        self.flows.follow(network.slot, Some(sender), packet)
    }

    /// A packet that the stack brings to a network.
    fn brought_by_stack(&self, network: Network, came: Came, packet: &Packet<'_>) -> Judgement<()> {
        demand(packet.is_untouched(), "what the stack brings is not changed")?;
        let from_inside = matches!(came, Came::Container(n) if CONTAINERS[n].network == network.slot);
        let expected = self.flows.expect(network.slot, packet);
        demand(came == Came::Host || from_inside || expected, "the stack brings only what belongs to a flow")
    }
}

impl Packet<'_> {
    /// Is it left to whoever is next, as it was?
    pub(crate) fn is_untouched(&self) -> bool {
        self.frame == self.out && !self.redirected
    }

    pub(crate) fn destination(&self) -> IpAddr {
        self.before.tuple.destination.0
    }

    /// Who gets it: told by the address that it has now, and by the MAC address if there is one already.
    pub(crate) fn receiver(&self) -> Arrived {
        let destination = self.after.tuple.destination.0;
        match container_at(destination) {
            Some(container)
                if !self.redirected
                    || packet::destination_mac(self.out) == container.mac()
                        && packet::source_mac(self.out) == container.network().bridge_mac() =>
            {
                Arrived::AtContainer(container.slot)
            }
            _ if !self.redirected && is_local(destination) => Arrived::AtStack,
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
