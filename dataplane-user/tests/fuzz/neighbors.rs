//! ARP and neighbour discovery: a container says nothing but the truth about itself, and is told nothing but the truth about
//! its neighbours.

use std::net::{IpAddr, Ipv4Addr};

use crate::kernel::Ran;
use crate::oracle::{Arrived, NEXT, REDIRECT, demand};
use crate::packet::{self, ETHERNET, ETHERTYPE_V6, ICMPV6, Ip, Kind};
use crate::plan::{CONTAINERS, Container, container_at};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Judges a container's ARP packet that was let through.
pub(crate) fn arp(sender: Container, frame: &[u8], ran: &Ran) -> Result<Arrived, String> {
    let Some(asked) = frame.get(ETHERNET..ETHERNET + 28) else { return Err("a cut ARP packet passes".into()) };
    let address = |bytes: &[u8]| IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).expect("four bytes")));
    let claimed = address(&asked[14..18]);
    demand(
        packet::source_mac(frame) == sender.mac() && asked[8..14] == sender.mac(),
        "an ARP packet names its sender's MAC address",
    )?;
    demand(claimed == sender.ip(false) || claimed.is_unspecified(), "an ARP packet names its sender's address")?;
    if ran.verdict == NEXT {
        demand(ran.frame == frame, "an ARP packet goes on untouched")?;
        return Ok(Arrived::AtStack);
    }
    let target = address(&asked[24..28]);
    let neighbor = container_at(target).filter(|neighbor| neighbor.network == sender.network);
    let Some(neighbor) = neighbor else { return Err("ARP is answered for a stranger".into()) };
    let mut answer = [&sender.mac()[..], &neighbor.mac(), &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &neighbor.mac()].concat();
    answer.extend(&asked[24..28]);
    answer.extend(&asked[8..18]);
    demand(asked[..8] == [0, 1, 8, 0, 6, 4, 0, 1], "only requests are answered")?;
    demand(ran.frame[..answer.len()] == answer && ran.frame[42..] == frame[42..], "an ARP answer is right")?;
    Ok(Arrived::AtContainer(sender.slot))
}

/// Judges a container's neighbour message that was let through, wherever in the packet it stands; `None` if it is none, or to
/// be judged like any other packet.
pub(crate) fn discovery(sender: Container, frame: &[u8], ip: &Ip, ran: &Ran) -> Result<Option<Arrived>, String> {
    let Some(message) = frame.get(ip.transport..ip.end).filter(|message| message.len() >= 24) else { return Ok(None) };
    if !ip.is_v6() || ip.tuple.protocol != ICMPV6 || ip.kind == Kind::Later {
        return Ok(None);
    }
    let target = IpAddr::from(<[u8; 16]>::try_from(&message[8..24]).expect("sixteen bytes"));
    let own = [sender.ip(true), sender.link_local()].contains(&target);
    match message[0] {
        ADVERTISEMENT => demand(own, "a container advertises its own address only")?,
        SOLICITATION if message.len() >= 32 && message[24] == 1 && !ip.tuple.source.0.is_unspecified() => {
            demand(message[26..32] == sender.mac(), "a container tells its own MAC address only")?;
        }
        SOLICITATION => {}
        _ => return Ok(None),
    }
    if ran.verdict == NEXT && ran.frame == frame {
        // The bridge has no port to which it could go.
        return Ok(Some(Arrived::AtStack));
    }
    if message[0] == ADVERTISEMENT || ran.verdict != REDIRECT || ran.frame == frame {
        return Ok(None);
    }
    let neighbor = CONTAINERS
        .into_iter()
        .find(|other| other.network == sender.network && [other.ip(true), other.link_local()].contains(&target));
    let Some(neighbor) = neighbor else { return Err("a solicitation is answered for a stranger".into()) };
    let out = &ran.frame;
    let Some(answer) = packet::ip(out) else { return Err("an advertisement can be read".into()) };
    let message = &out[answer.transport..answer.end];
    let right = (packet::destination_mac(out), packet::source_mac(out), packet::ethertype(out))
        == (sender.mac(), neighbor.mac(), ETHERTYPE_V6)
        && (answer.tuple.source.0, answer.tuple.destination.0, answer.ttl) == (target, ip.tuple.source.0, 255)
        && answer.sum(out) == 0xffff
        && message.len() == 32
        && message[..2] == [ADVERTISEMENT, 0]
        && message[4..8] == [0x60, 0, 0, 0]
        && message[8..24] == frame[ip.transport + 8..ip.transport + 24]
        && message[24..26] == [2, 1]
        && message[26..32] == neighbor.mac();
    demand(right, "an advertisement is right")?;
    Ok(Some(Arrived::AtContainer(sender.slot)))
}
