//! The flows that packets have been seen to open, and what belongs to them. See [`crate::oracle`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::oracle::{Arrived, Judgement, Packet, demand};
use crate::packet::{self, Ip, Kind, Tuple, UDP};
use crate::plan::{
    At, Container, Mode, PORTS, UPLINKS, container_at, is_group, is_local, is_nobody, is_v6_link_local, network_of,
};

/// Where a packet comes from: a network's number, outside, or the host itself.
pub(crate) type Zone = u16;
pub(crate) const OUTSIDE: Zone = 0;
pub(crate) const HOST: Zone = u16::MAX;

/// What is known of one direction of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Direction {
    after: Tuple,
    receiver: Arrived,
    /// The other direction's key.
    sibling: (Zone, Tuple),
    /// Is this the direction of the packet that opened the flow?
    original: bool,
    /// Has its other end asked back, by echo requests with the same identifier? Then there are two flows here.
    mutual: bool,
    /// The containers whose end is the flow's end.
    parties: [Option<u32>; 2],
    /// Has it been seen that the programs know it?
    seen: bool,
}

/// All that is known.
#[derive(Default)]
pub(crate) struct Flows {
    known: HashMap<(Zone, Tuple), Direction>,
    /// What opened a flow and was left to the stack all the same, which has something to say about it.
    attempted: HashSet<(Zone, Tuple)>,
}

impl Flows {
    /// Forgets the flows of a container.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.known.retain(|_, direction| !direction.parties.contains(&Some(slot)));
    }

    /// Does the packet belong to a flow, in its right direction?
    pub(crate) fn hold(&self, zone: Zone, ip: &Ip) -> bool {
        self.known.get(&(zone, ip.tuple)).is_some_and(|known| match ip.kind {
            _ if !known.seen => false,
            Kind::EchoRequest => known.original && !known.mutual,
            Kind::EchoReply => !known.original && !known.mutual,
            _ => true,
        })
    }

    /// Is it translated as a flow says?
    pub(crate) fn translate(&self, zone: Zone, packet: &Packet<'_>) -> bool {
        match packet.before.kind {
            Kind::Error(_) => self.complains_rightly(zone, packet).is_ok(),
            Kind::Later => self.between(zone, packet).next().is_some(),
            _ => self.known.get(&(zone, packet.before.tuple)).is_some_and(|known| known.after == packet.after.tuple),
        }
    }

    /// Is a packet that is to enter a network what came of a translation?
    pub(crate) fn expect(&self, zone: Zone, packet: &Packet<'_>) -> bool {
        if packet.before.kind == Kind::Later {
            let answer = addresses(&packet.before.tuple.reversed());
            return self.known.keys().any(|(at, tuple)| (*at, addresses(tuple)) == (zone, answer));
        }
        let tuple = match packet::quoted(packet.frame, &packet.before) {
            Some(about) => about.tuple,
            None => packet.before.tuple.reversed(),
        };
        let there = network_of(packet.destination()).is_some_and(|network| network.slot == zone);
        let attempted = |(at, tuple): &(Zone, Tuple)| *at != zone && *tuple == packet.before.tuple;
        self.known.contains_key(&(zone, tuple)) || there && self.attempted.iter().any(attempted)
    }

    /// A packet that might have opened a flow was left to the stack. To a container's own address nothing is translated, so how
    /// that flow goes is known; to the outside it is seen when it leaves.
    pub(crate) fn note_attempt(&mut self, zone: Zone, sender: Option<Container>, packet: &Packet<'_>) -> Judgement<()> {
        let spoofed = sender.is_none() && network_of(packet.before.tuple.source.0).is_some();
        if spoofed || !packet.before.opens() {
            return Ok(());
        }
        let (tuple, key) = (packet.before.tuple, (zone, packet.before.tuple));
        match container_at(tuple.destination.0) {
            Some(container) if container.network != zone => {
                if opens_direct(sender, container, packet, false).is_err() {
                    return Ok(());
                }
                // Where there is a flow already, it may go on, end here, or leave no port, which is not seen.
                if [key, (container.network, tuple.reversed())].iter().any(|key| self.known.contains_key(key)) {
                    self.attempted.insert(key);
                    return Ok(());
                }
                let back = sender.map_or(Arrived::Outside, |sender| Arrived::AtContainer(sender.slot));
                let parties = [sender.map(|sender| sender.slot), Some(container.slot)];
                self.learn(key, container.network, tuple, (Arrived::AtContainer(container.slot), back), parties, false)
            }
            _ => {
                self.attempted.insert(key);
                Ok(())
            }
        }
    }

    /// A fragment waits, and nobody sees how it is sent later.
    pub(crate) fn note_waiting(&mut self, zone: Zone, ip: &Ip) {
        self.attempted.insert((zone, ip.tuple));
    }

    /// A packet that was translated or sent away: it belongs to a flow, or opens one. It comes from a container, or from outside.
    pub(crate) fn follow(&mut self, zone: Zone, sender: Option<Container>, packet: &Packet<'_>) -> Judgement<Arrived> {
        if let Kind::Error(_) = packet.before.kind {
            return self.complains_rightly(zone, packet);
        }
        let spoofed = sender.is_none() && network_of(packet.before.tuple.source.0).is_some();
        demand(!spoofed, "nobody outside has a container's address")?;
        let receiver = packet.receiver();
        if packet.before.kind == Kind::Later {
            return demand(self.lead(zone, packet), "a fragment goes the way of a flow").map(|()| receiver);
        }
        let key = (zone, packet.before.tuple);
        let known = self.known.get(&key).copied();
        // Who is asked may ask back: that is a flow of its own.
        let asks_back = |known: &Direction| packet.before.kind == Kind::EchoRequest && !known.original && !known.mutual;
        let goes_on =
            |known: &Direction| (known.after, known.receiver) == (packet.after.tuple, receiver) && !asks_back(known);
        if let Some(known) = known.filter(goes_on) {
            for key in [key, known.sibling] {
                self.known.entry(key).and_modify(|known| known.seen = true);
            }
            let out_of_place = packet.before.kind == Kind::EchoReply && known.original && !known.mutual;
            return demand(!out_of_place, "only the answer to an echo is taken for one").map(|()| receiver);
        }
        if let Some(known) = known {
            demand(packet.before.tuple.protocol != UDP, "a flow is translated in one way")?;
            self.known.remove(&known.sibling);
        }
        let may_open = packet.before.opens() || self.attempted.contains(&key);
        demand(may_open, "what may not open a flow is translated by one only")?;
        let scoped = is_v6_link_local(packet.before.tuple.source.0);
        demand(!scoped, "what is link-local stays on its link")?;
        let (peer_zone, other) = match receiver {
            Arrived::AtContainer(slot) => {
                let container = Container::of(slot);
                let taken = self.known.contains_key(&(container.network, packet.untranslated_answer()));
                opens_published(sender, container, packet, taken)?;
                (container.network, Some(slot))
            }
            _ => {
                opens_outbound(sender, packet)?;
                (OUTSIDE, None)
            }
        };
        let parties = [sender.map(|sender| sender.slot), other];
        let back = sender.map_or(Arrived::Outside, |sender| Arrived::AtContainer(sender.slot));
        self.learn(key, peer_zone, packet.after.tuple, (receiver, back), parties, true)?;
        if known.is_some_and(|known| asks_back(&known)) {
            for key in [key, (peer_zone, packet.after.tuple.reversed())] {
                self.known.entry(key).and_modify(|known| known.mutual = true);
            }
        }
        Ok(receiver)
    }

    /// Is a later fragment translated as a flow between its addresses says? Which one it belongs to, it does not tell itself.
    fn lead(&self, zone: Zone, packet: &Packet<'_>) -> bool {
        // How what was left to the stack would be translated has not been seen.
        let mut unseen = self.attempted.iter().map(|(at, tuple)| (*at, addresses(tuple)));
        self.between(zone, packet).any(|known| known.receiver == packet.receiver())
            || unseen.any(|way| way == (zone, addresses(&packet.before.tuple)))
    }

    /// The flows that change a packet's addresses as they were changed.
    fn between(&self, zone: Zone, packet: &Packet<'_>) -> impl Iterator<Item = &Direction> {
        let (before, after) = (addresses(&packet.before.tuple), addresses(&packet.after.tuple));
        self.known
            .iter()
            .filter(move |((at, tuple), known)| {
                (*at, addresses(tuple), addresses(&known.after)) == (zone, before, after)
            })
            .map(|(_, known)| known)
    }

    /// A packet of the host's own that may be given another port.
    pub(crate) fn host_sends(&mut self, packet: &Packet<'_>) -> Judgement<()> {
        let (before, after) = (packet.before.tuple, packet.after.tuple);
        if !is_local(before.source.0) || network_of(before.destination.0).is_some() {
            // Nothing that a host would send; it goes on, or not.
            return Ok(());
        }
        if PORTS.into_iter().any(|port| port.is_meant(before.protocol, before.source)) {
            // No socket of the host's has a published port.
            return Ok(());
        }
        let echo = packet.before.kind == Kind::EchoRequest;
        let rest_stays = after.source.0 == before.source.0
            && after.destination.0 == before.destination.0
            && (echo || after.destination.1 == before.destination.1);
        demand(rest_stays, "of the host's own packets only ports change")?;
        if self.known.get(&(HOST, before)).is_some_and(|known| known.after == after) {
            return Ok(());
        }
        // Whether it has a flow is not seen unless something is changed; the answer comes back as if there were none.
        let clashes = self.known.contains_key(&(OUTSIDE, after.reversed()));
        if clashes && before == after {
            return Err("what the host sends gets its answer".into());
        }
        self.learn((HOST, before), OUTSIDE, after, (Arrived::Outside, Arrived::AtStack), [None; 2], true)
    }

    /// Notes both directions of a flow.
    fn learn(
        &mut self,
        key: (Zone, Tuple),
        peer_zone: Zone,
        after: Tuple,
        (receiver, back): (Arrived, Arrived),
        parties: [Option<u32>; 2],
        seen: bool,
    ) -> Judgement<()> {
        let reply = (peer_zone, after.reversed());
        let reply_after = key.1.reversed();
        if let Some(taken) = self.known.get(&reply) {
            demand(taken.after == reply_after, "two flows never get the same port")?;
        }
        self.known
            .insert(key, Direction { after, receiver, sibling: reply, original: true, mutual: false, parties, seen });
        let answer = Direction {
            after: reply_after,
            receiver: back,
            sibling: key,
            original: false,
            mutual: false,
            parties,
            seen,
        };
        self.known.insert(reply, answer);
        Ok(())
    }

    /// An ICMP error that was translated: it goes the way of the answers to what it is about, quotes that as its sender knows it,
    /// and comes from whom it came, unless that is the one who is spoken to.
    fn complains_rightly(&self, zone: Zone, packet: &Packet<'_>) -> Judgement<Arrived> {
        let (Some(about), Some(told)) =
            (packet::quoted(packet.frame, &packet.before), packet::quoted(packet.out, &packet.after))
        else {
            return Err("an error about nothing is translated".into());
        };
        let known = self.known.get(&(zone, about.tuple.reversed()));
        let Some(known) = known else {
            // How what was left to the stack would be translated has not been seen.
            let attempted = self.attempted.iter().any(|(_, tuple)| tuple.destination == about.tuple.destination);
            demand(attempted, "an error that is about no flow is translated")?;
            return Ok(packet.receiver());
        };
        let (before, after) = (packet.before.tuple, packet.after.tuple);
        demand(before.destination.0 == about.tuple.source.0, "an error is told to the sender of what it is about")?;
        demand(told.tuple == known.after.reversed(), "an error quotes the packet as its sender knows it")?;
        demand(after.destination.0 == known.after.destination.0, "an error is told to who sent the packet")?;
        if zone != OUTSIDE {
            demand(before.source.0 == about.tuple.destination.0, "a container complains of what it got only")?;
        }
        let source = if before.source.0 == about.tuple.destination.0 { known.after.source.0 } else { before.source.0 };
        demand(after.source.0 == source, "an error comes from who made it")?;
        Ok(known.receiver)
    }
}

impl Packet<'_> {
    /// The answer that the receiver would give if the client had kept its port.
    fn untranslated_answer(&self) -> Tuple {
        let client = (self.after.tuple.source.0, self.before.tuple.source.1);
        Tuple { source: client, ..self.after.tuple }.reversed()
    }
}

/// May this packet open a flow to that container? `taken`: the client has one to it with the same ports already.
fn opens_published(sender: Option<Container>, container: Container, packet: &Packet<'_>, taken: bool) -> Judgement<()> {
    let (before, after) = (packet.before.tuple, packet.after.tuple);
    let published = PORTS.into_iter().any(|port| {
        port.is_meant(before.protocol, before.destination)
            && port.is_for(before.source.0)
            && (port.container, port.container_port) == (container.slot, after.destination.1)
    });
    if before.destination.0 == container.ip(packet.before.is_v6()) {
        return opens_direct(sender, container, packet, taken);
    }
    demand(published, "a container is reached from elsewhere by its published ports only")?;
    demand(!before.destination.0.is_loopback(), "what is published on loopback is for the host alone")?;
    demand(sender.is_some() || !is_nobodys(before.source.0), "nobody outside sends from such an address")?;
    demand(sender.is_none_or(|sender| !sender.network().internal), "an internal network reaches nothing outside")?;
    demand(!container.network().internal, "an internal network is not reached")?;
    let seen = match sender {
        Some(sender) if sender == container => container.network().gateway(packet.before.is_v6()),
        _ => before.source.0,
    };
    demand(after.source.0 == seen, "the client's own address is seen")?;
    demand(taken || after.source.1 == before.source.1, "the client's own port is seen")
}

fn addresses(tuple: &Tuple) -> (IpAddr, IpAddr) {
    (tuple.source.0, tuple.destination.0)
}

/// May this packet open a flow straight to the container's own address? `taken` as above.
fn opens_direct(sender: Option<Container>, container: Container, packet: &Packet<'_>, taken: bool) -> Judgement<()> {
    let network = container.network();
    let tuple = packet.before.tuple;
    let mut ports = PORTS.into_iter();
    let published = ports.any(|port| port.at == At::Container && port.is_meant(tuple.protocol, tuple.destination));
    let echo = packet.before.kind == Kind::EchoRequest;
    let trusted = network.trusts.is_some() && network.trusts == packet.uplink && published;
    let open = match network.mode {
        Mode::Nat => trusted,
        Mode::Routed => trusted || echo || published,
        Mode::Open => true,
    };
    demand(open && !network.internal, "a container's own address is closed to others")?;
    demand(sender.is_none_or(|sender| !sender.network().internal), "an internal network reaches nothing outside")?;
    demand(sender.is_some() || !is_nobodys(tuple.source.0), "nobody outside sends from such an address")?;
    let after = packet.after.tuple;
    let kept = Tuple { source: (after.source.0, tuple.source.1), ..after };
    demand(after == tuple || taken && kept == tuple, "what needs no translation gets none")
}

/// Is it an address that no other machine sends from?
fn is_nobodys(source: IpAddr) -> bool {
    is_local(source) || is_group(source) || is_nobody(source) || source.is_loopback() || is_v6_link_local(source)
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
