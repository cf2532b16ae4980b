//! What is measured: each program on each path that a packet takes through it.

use std::net::IpAddr;

use crate::frame::{Family, Frame};
use crate::host::{Interface, Slot, bridge_mac, container, gateway, mac, other_network, outside, uplink};

/// TC actions of `linux/pkt_cls.h`; `NOTHING` is what the garbage collector returns when it has deleted no flow.
const NEXT: i32 = -1;
const NOTHING: i32 = 0;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

/// XDP actions of `linux/bpf.h`.
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;

/// The EtherType of LLDP, which none of the programs knows.
const LLDP: u16 = 0x88cc;

/// Ports of servers.
pub(crate) const HTTP: u16 = 80;
const SSH: u16 = 22;

/// A client's port. Masquerading keeps it: it lies in the pool.
const CLIENT: u16 = 20_000;

/// The client's port of the first packet that opens a flow.
const OPENING: u16 = 21_000;

/// A program and a path through it.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    pub(crate) program: &'static str,
    /// What the packet is.
    pub(crate) name: &'static str,
    /// Where the program runs.
    pub(crate) at: Interface,
    /// Where the packet came into the host.
    pub(crate) from: Interface,
    pub(crate) frame: fn(Family) -> Frame,
    /// What the program must answer, or else something else is measured than what was meant.
    pub(crate) verdict: i32,
    /// Is the program run once for each packet, because every packet opens a flow?
    pub(crate) once: bool,
}

/// Where a program is attached.
type Hook = (&'static str, Interface);

/// Stands for an empty program: it looks whether the frame holds an order of the agent's, and returns.
const EMPTY: Hook = ("collect", Interface::Uplink);
const FROM_CLIENT: Hook = ("from_container", Interface::Veth(Slot::Client));
const FROM_SERVER: Hook = ("from_container", Interface::Veth(Slot::Server));
const FROM_OPENER: Hook = ("from_container", Interface::Veth(Slot::Opener));
const TO_SERVER: Hook = ("to_container", Interface::Veth(Slot::Server));
const FROM_UPLINK: Hook = ("from_uplink", Interface::Uplink);
const TO_UPLINK: Hook = ("to_uplink", Interface::Uplink);
const SHIELD: Hook = (Path::SHIELD, Interface::Uplink);
const FROM_BRIDGE: Hook = ("from_bridge", Interface::Bridge);
const TO_BRIDGE: Hook = ("to_bridge", Interface::Bridge);

/// All of them; the ones that open a flow come last. Flows that the others need are opened by [`FIRST`].
pub(crate) const PATHS: [Path; 25] = [
    Path::new(EMPTY, "nothing: the harness itself", lldp, NOTHING),
    Path::new(FROM_CLIENT, "to a container of its network", to_neighbor, REDIRECT),
    Path::new(FROM_SERVER, "same, sender publishes ports", from_publisher, REDIRECT),
    Path::new(FROM_CLIENT, "masqueraded", outbound, REDIRECT),
    Path::new(FROM_SERVER, "answer from a published port", published_answer, REDIRECT),
    Path::new(FROM_CLIENT, "to the host", to_host, NEXT),
    Path::new(FROM_CLIENT, "to another network: dropped", to_other_network, SHOT),
    Path::new(FROM_UPLINK, "answer to a masqueraded flow", outbound_answer, REDIRECT),
    Path::new(FROM_UPLINK, "to a published port", published, REDIRECT),
    Path::new(FROM_UPLINK, "to the host itself", to_uplink_address, NEXT),
    Path::new(FROM_UPLINK, "straight to a container: dropped", direct, SHOT),
    Path::new(SHIELD, "no IP packet", lldp, XDP_PASS),
    Path::new(SHIELD, "to the host itself", to_uplink_address, XDP_PASS),
    Path::new(SHIELD, "to a container, with a flow", outbound_answer, XDP_PASS),
    Path::new(SHIELD, "straight to a container: dropped", direct, XDP_DROP),
    Path::new(SHIELD, "from a container's address: dropped", spoofed, XDP_DROP),
    Path::new(TO_UPLINK, "from the host itself", from_uplink_address, NEXT).from(Interface::Host),
    Path::new(TO_UPLINK, "routed by the stack: masqueraded", outbound, NEXT).from(Interface::Bridge),
    Path::new(TO_SERVER, "from the host", from_host, NEXT).from(Interface::Host),
    Path::new(TO_SERVER, "routed by the stack: of a flow", published, NEXT).from(Interface::Uplink),
    Path::new(TO_BRIDGE, "from the host", from_host, NEXT).from(Interface::Host),
    Path::new(FROM_BRIDGE, "to the host", to_host, NEXT),
    Path::new(EMPTY, "nothing: the harness itself", lldp, NOTHING).once(),
    Path::new(FROM_OPENER, "masqueraded, opens the flow", opening_outbound, REDIRECT).once(),
    Path::new(FROM_UPLINK, "to a published port, opens the flow", opening_published, REDIRECT).once(),
];

/// What opens the flows of [`PATHS`].
pub(crate) const FIRST: [Path; 4] = [
    Path::new(FROM_CLIENT, "masqueraded", |family| Frame { syn: true, ack: false, ..outbound(family) }, REDIRECT),
    Path::new(
        FROM_UPLINK,
        "to a published port",
        |family| Frame { syn: true, ack: false, ..published(family) },
        REDIRECT,
    ),
    Path::new(FROM_SERVER, "its answer", |family| Frame { syn: true, ..published_answer(family) }, REDIRECT),
    Path::new(FROM_UPLINK, "proven", published, REDIRECT),
];

/// How many flows there are then in the flow table: one to the outside and one to the port, in each family.
pub(crate) const FLOWS: u64 = 4;

impl Path {
    /// The program that is no TC program.
    pub(crate) const SHIELD: &str = "shield";

    const fn new((program, at): Hook, name: &'static str, frame: fn(Family) -> Frame, verdict: i32) -> Self {
        Self { program, name, at, from: at, frame, verdict, once: false }
    }

    const fn from(self, from: Interface) -> Self {
        Self { from, ..self }
    }

    const fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

/// A container sends to its gateway's MAC address or, which is the same to the programs, to a neighbour's.
fn sent(from: Slot, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Frame {
    Frame { macs: (mac(from), bridge_mac()), source, destination, syn: false, ack: true, ethertype: None }
}

/// Comes to a container, or to the host, from anywhere else.
fn arriving(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Frame {
    Frame { macs: ([2, 9, 9, 9, 9, 9], mac(Slot::Server)), source, destination, syn: false, ack: true, ethertype: None }
}

fn lldp(family: Family) -> Frame {
    Frame { ethertype: Some(LLDP), ..to_neighbor(family) }
}

fn to_neighbor(family: Family) -> Frame {
    sent(Slot::Client, (container(family, Slot::Client), CLIENT), (container(family, Slot::Server), HTTP))
}

fn from_publisher(family: Family) -> Frame {
    sent(Slot::Server, (container(family, Slot::Server), HTTP), (container(family, Slot::Client), CLIENT))
}

fn to_host(family: Family) -> Frame {
    sent(Slot::Client, (container(family, Slot::Client), CLIENT), (gateway(family), SSH))
}

fn to_other_network(family: Family) -> Frame {
    sent(Slot::Client, (container(family, Slot::Client), CLIENT), (other_network(family), HTTP))
}

fn outbound(family: Family) -> Frame {
    sent(Slot::Client, (container(family, Slot::Client), CLIENT), (outside(family), HTTP))
}

fn outbound_answer(family: Family) -> Frame {
    arriving((outside(family), HTTP), (container(family, Slot::Client), CLIENT))
}

fn opening_outbound(family: Family) -> Frame {
    let destination = (outside(family), HTTP);
    Frame { syn: true, ack: false, ..sent(Slot::Opener, (container(family, Slot::Opener), OPENING), destination) }
}

fn published(family: Family) -> Frame {
    arriving((outside(family), CLIENT), (container(family, Slot::Server), HTTP))
}

fn published_answer(family: Family) -> Frame {
    sent(Slot::Server, (container(family, Slot::Server), HTTP), (outside(family), CLIENT))
}

fn opening_published(family: Family) -> Frame {
    Frame { syn: true, ack: false, ..arriving((outside(family), OPENING), (container(family, Slot::Opener), HTTP)) }
}

fn direct(family: Family) -> Frame {
    arriving((outside(family), CLIENT), (other_network(family), SSH))
}

fn spoofed(family: Family) -> Frame {
    arriving((other_network(family), CLIENT), (uplink(family), SSH))
}

fn to_uplink_address(family: Family) -> Frame {
    arriving((outside(family), CLIENT), (uplink(family), SSH))
}

fn from_uplink_address(family: Family) -> Frame {
    arriving((uplink(family), SSH), (outside(family), CLIENT))
}

fn from_host(family: Family) -> Frame {
    arriving((gateway(family), CLIENT), (container(family, Slot::Server), HTTP))
}
