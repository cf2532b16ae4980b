//! Keys and values of the maps, names and sizes: the contract between programs and agent, and between two versions of either.
//!
//! Every type is `repr(C)` without hidden padding, since keys are compared and values are copied byte by byte. A change of
//! any of them is a new [`VERSION`]: pins of different versions live in different directories.

use crate::{
    address::{Address, AnyAddress, V4, V6},
    port::Pool,
    tuple::{Protocol, Zone},
    wire::Be16,
};

/// Version of everything in this module, of [`crate::Flow`], [`crate::rate`] and [`crate::bandwidth`]; part of the path of every pin.
pub const VERSION: u32 = 2;

/// How many networks fit, slot 0 ([`Zone::OUTSIDE`]) included.
pub const MAX_NETWORKS: usize = 4096;
/// How many endpoints fit, slot 0 (none) included.
pub const MAX_ENDPOINTS: usize = 16384;
/// How many interfaces may carry our programs: veths and bridges.
pub const MAX_INTERFACES: usize = MAX_ENDPOINTS + MAX_NETWORKS;
/// Entries of `INTERFACE_SLOTS` and of `ADDRESS_SLOTS`, the short cuts to endpoints.
pub const SHORT_CUTS: usize = 2 * MAX_ENDPOINTS;
/// How many uplinks fit.
pub const MAX_UPLINKS: usize = 256;
/// How many addresses the host may have.
pub const MAX_LOCAL_ADDRESSES: usize = 16384;
/// How many conversations of the host's own sockets with published ports are remembered; the oldest are forgotten.
pub const MAX_SOCKET_PEERS: usize = 65_536;
/// How many ports can be published.
pub const MAX_PUBLISHED: usize = 131_072;
/// Directional entries, of each family, for flows to published ports whose client has yet to show that it sees the answers.
pub const EMBRYOS: usize = 32_768;
/// The mark (`SO_MARK`) of the sockets with which the agent holds published ports: they alone may bind them.
pub const HOLDER_MARK: u32 = u32::from_be_bytes(*b"SPAN");
/// How many published ports have a generation and counters, slot 0 (none) included. One port takes one slot, on however many
/// addresses it is published.
pub const MAX_PORTS: usize = 32_768;
/// Counters of so many ports are in one map, those of neighbouring slots: there are only the maps that some port has needed.
pub const PORTS_TOGETHER: usize = 1024;
/// How many prefixes may be allowed to use restricted ports, all together.
pub const MAX_ALLOWED: usize = 65_536;
/// How many ports may be open between linked endpoints, all together.
pub const MAX_LINKS: usize = 131_072;
/// How many pairs of network and trusted interface fit.
pub const MAX_TRUSTED: usize = 4096;
/// How many clients of ports with a rate limit are remembered, all ports together; one that is forgotten, because others were seen
/// since, begins anew.
pub const MAX_CLIENTS: usize = 65_536;
/// Directional entries of the flow table of each family, by default; settable at the first start.
pub const DEFAULT_FLOWS: usize = 262_144;

/// What the programs have told the agent of the flow tables: the values of `SWEPT`, and of the records of `FLOW_ALARM`.
pub mod swept {
    /// Nothing: the agent believes that they are empty.
    pub const ASLEEP: u32 = 0;
    /// There are flows, so that the agent looks at them now and then.
    pub const AWAKE: u32 = 1;
    /// An endpoint is near its quota.
    pub const CROWDED: u32 = 2;
}

/// Is an endpoint that owns so many flows near its quota? From there on, flows that are over are to make room.
#[inline(always)]
pub fn is_crowded(flows: u64, quota: u32) -> bool {
    flows > 0 && flows >= u64::from(quota - quota / 4)
}

/// Where `INTERFACE_SLOTS` has the slot of an interface's endpoint. Interfaces whose indices differ by a multiple of
/// [`SHORT_CUTS`] share a place.
#[inline(always)]
pub fn place_of_interface(ifindex: u32) -> u32 {
    ifindex % SHORT_CUTS as u32
}

/// Where `ADDRESS_SLOTS` has the slot of the endpoint with this address. Neighbours have places next to each other, so that hardly any
/// two share one.
#[inline(always)]
pub fn place_of_address<A: Address>(network: Zone, address: A) -> u32 {
    const APART: u32 = 2533;
    let family = if A::IS_V6 { SHORT_CUTS as u32 / 2 } else { 0 };
    address.bottom().wrapping_add(u32::from(network.0) * APART).wrapping_add(family) % SHORT_CUTS as u32
}

/// Value of `INTERFACES`, by ifindex: whose interface is it?
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The endpoint on whose host-side veth the program runs; 0 on a bridge.
    pub endpoint: u32,
    /// The network.
    pub network: Zone,
    /// Always zero.
    pub reserved: u16,
}

/// Value of `ENDPOINTS`, by endpoint slot.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Raised when the endpoint goes or moves: flows that carry an older number are dead.
    pub generation: u32,
    /// The host-side veth; 0 when the slot is free.
    pub ifindex: u32,
    /// How many flows the endpoint may own.
    pub quota: u32,
    /// The endpoint's network.
    pub network: Zone,
    /// [`Endpoint::PUBLISHES`] and others.
    pub flags: u16,
    /// MAC address of the container's interface.
    pub mac: [u8; 6],
    /// Always zero.
    pub reserved: u16,
    /// IPv4 address, or 0.0.0.0.
    pub v4: V4,
    /// IPv6 address, or `::`.
    pub v6: V6,
    /// IPv6 link-local address.
    pub link_local: V6,
}

impl Endpoint {
    /// Flag: some port of the endpoint is published, so its packets to the own network may be answers to a hairpin flow.
    pub const PUBLISHES: u16 = 1;
    /// Flag: the veth is no port of the bridge, since a bridge has only 1,023; what is for the bridge is handed to it.
    pub const UNBRIDGED: u16 = 2;
    /// Flag: what the container receives is limited (`LIMITS`).
    pub const LIMITS_INGRESS: u16 = 4;
    /// Flag: what the container sends is limited.
    pub const LIMITS_EGRESS: u16 = 8;
}

/// Value of `NETWORKS`, by network slot.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// [`Network::PRESENT`] and others; 0 when the slot is free.
    pub flags: u32,
    /// The bridge device.
    pub bridge: u32,
    /// MTU of the network, bytes.
    pub mtu: u32,
    /// MAC address of the bridge: what routed packets come from.
    pub mac: [u8; 6],
    /// Always zero.
    pub reserved: u16,
    /// IPv4 subnet, or a prefix that matches nothing.
    pub v4: V4,
    /// Its mask.
    pub v4_mask: V4,
    /// IPv4 gateway address.
    pub v4_gateway: V4,
    /// IPv6 subnet, or a prefix that matches nothing.
    pub v6: V6,
    /// Its mask.
    pub v6_mask: V6,
    /// IPv6 gateway address.
    pub v6_gateway: V6,
    /// IPv4 address to masquerade with, whatever the uplink; 0.0.0.0: the uplink's own.
    pub v4_source: V4,
    /// IPv6 address to masquerade with, whatever the uplink; `::`: the uplink's own.
    pub v6_source: V6,
}

impl Network {
    /// Flag: the slot is in use.
    pub const PRESENT: u32 = 1;
    /// Flag: containers may talk to each other.
    pub const ICC: u32 = 2;
    /// Flag of a family: sources are translated on the way out.
    pub const MASQUERADE: u32 = 4;
    /// Flag of a family: outside reaches every port of every container directly (gateway mode `nat-unprotected`).
    pub const OPEN: u32 = 16;
    /// Flag of a family: no port of the host stands for a container's; published ports and echoes are reached at the container's
    /// own address (gateway mode `routed`).
    pub const ROUTED: u32 = 64;
    /// Flag: nothing goes out and nothing comes in.
    pub const INTERNAL: u32 = 256;
    /// Flag: not even the host gets in (gateway mode `isolated`).
    pub const ISOLATED: u32 = 512;
    /// Flag: one inside UDP port has one outside port for all destinations, and is reached there by everyone (RFC 4787
    /// endpoint-independent mapping and filtering).
    pub const ENDPOINT_INDEPENDENT: u32 = 1024;
    /// Flag: containers may be reached directly through the interfaces that `TRUSTED` names.
    pub const TRUSTS: u32 = 2048;
    /// Flag: some endpoint is [`Endpoint::UNBRIDGED`].
    pub const CROWDED: u32 = 4096;

    /// Is `flag` set?
    #[inline(always)]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Is `flag`, one of those that each family has of its own, set for this family?
    #[inline(always)]
    pub fn has_for<A: Address>(&self, flag: u32) -> bool {
        self.has(Self::for_family(flag, A::IS_V6))
    }

    /// The bit of a flag that each family has of its own: IPv6's is the one above IPv4's.
    #[inline(always)]
    pub const fn for_family(flag: u32, v6: bool) -> u32 {
        flag << v6 as u32
    }
}

/// Value of a network's own map of neighbours, by address ([`AnyAddress`]): IPv4, IPv6 and IPv6 link-local of each endpoint.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbor {
    /// The endpoint's slot.
    pub endpoint: u32,
    /// Its host-side veth.
    pub ifindex: u32,
    /// MAC address of the container's interface.
    pub mac: [u8; 6],
    /// [`Neighbor::FIRST`] and others.
    pub flags: u16,
}

impl Neighbor {
    /// Flag: the first of the endpoint's addresses. What goes to every neighbour once goes by this one.
    pub const FIRST: u16 = 1;
    /// Flag: what the container receives is limited, as [`Endpoint::LIMITS_INGRESS`] says, too.
    pub const LIMITS_INGRESS: u16 = 2;
}

/// Value of `TOPS`, one for each family: a bit for every value of an address's first 16 bits ([`Address::top`]), set where
/// `SUBNETS` holds a prefix with such addresses. Nearly every address that is not in there is told by this.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tops {
    words: [u64; 1024],
}

impl Tops {
    /// No address at all.
    pub const NONE: Self = Self { words: [0; 1024] };

    /// Adds all addresses whose first `prefix_len` bits are those of `top`.
    pub fn add(&mut self, top: u16, prefix_len: u8) {
        let free = u16::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
        for top in top & !free..=top | free {
            self.words[usize::from(top / 64)] |= 1 << (top % 64);
        }
    }

    /// May an address that begins so be in one of the prefixes?
    #[inline(always)]
    pub fn may_have(&self, top: u16) -> bool {
        // `top` is below 65536, so no index is out of bounds, which the verifier sees, too.
        self.words[usize::from(top / 64)] & (1 << (top % 64)) != 0
    }
}

/// Value of `UPLINKS`, by ifindex.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uplink {
    /// IPv4 address to masquerade with, or 0.0.0.0.
    pub v4: V4,
    /// IPv6 address to masquerade with, or `::`.
    pub v6: V6,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// [`Uplink::INSIDE`] or 0.
    pub flags: u32,
}

impl Uplink {
    /// Flag: what is behind it is on this host, in the hands of another manager (Docker's bridge, libvirt's). Its rules stand in
    /// the host's stack, so packets go there and come from there by way of the stack, from the container's own address.
    pub const INSIDE: u32 = 1;

    /// Is another manager's network behind it?
    #[inline(always)]
    pub fn is_inside(&self) -> bool {
        self.flags & Self::INSIDE != 0
    }
}

/// Key of `PUBLISHED`: what a client connects to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PublishedKey {
    /// Host address; the family's unspecified address means every address of the host.
    pub address: AnyAddress,
    /// Host port.
    pub port: Be16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Always zero.
    pub reserved: u8,
}

/// Value of `PUBLISHED`: where the connection goes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// Address of the container; IPv4 under a key of IPv6 if it has no IPv6.
    pub container: AnyAddress,
    /// Slot of the container's endpoint.
    pub endpoint: u32,
    /// Port in the container.
    pub port: Be16,
    /// [`Published::RESTRICTED`].
    pub flags: u16,
    /// The port's slot in `PORT_GENERATIONS` and `PORT_COUNTERS`.
    pub slot: u32,
    /// How many flows one client address may open in a second; 0: as many as it likes.
    pub rate: u32,
}

impl Published {
    /// Flag: only clients that `ALLOWED` names may use the port.
    pub const RESTRICTED: u16 = 1;
}

/// Value of the maps in `PORT_COUNTERS` on each CPU: what went through a published port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortCount {
    /// Flows opened.
    pub connections: u64,
    /// Packets towards the container.
    pub packets_in: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes_in: u64,
    /// Packets from the container.
    pub packets_out: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes_out: u64,
}

/// Key of `ALLOWED`, a longest prefix match over all 160 bits: the clients that may use a restricted port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllowedKey {
    /// The port's slot.
    pub slot: u32,
    /// The client's address.
    pub client: AnyAddress,
}

/// Key of `TRUSTED`: through this uplink the network's containers may be reached directly.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrustedKey {
    /// The uplink.
    pub ifindex: u32,
    /// The network's slot.
    pub network: u32,
}

/// Key of `LINKS`: where a network does not let its containers talk to each other ([`Network::ICC`]), one of them may all the same
/// use this port of another one, and be answered.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkKey {
    /// Slot of the endpoint that asks.
    pub from: u32,
    /// Slot of the one that answers.
    pub to: u32,
    /// The port there.
    pub port: Be16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Always zero.
    pub reserved: u8,
}

/// The one value of `CONFIG`: what the agent tells all programs, and may change at any time.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Key of the hash that chooses ports (RFC 6056 §3.3.3); made once, at the first start.
    pub secret: [u64; 2],
    /// Raised whenever a route, a link or an address of the host changes: cached next hops are looked up anew.
    pub route_generation: u32,
    /// Ports to translate to.
    pub pool: Pool,
    /// [`Config::RATED`] and others.
    pub flags: u32,
}

impl Config {
    /// Flag: some published port limits how fast a client may open flows to it.
    pub const RATED: u32 = 1;
    /// Flag: some network is [`Network::ENDPOINT_INDEPENDENT`].
    pub const ENDPOINT_INDEPENDENT: u32 = 2;
    /// Flag: some UDP port is published.
    pub const DATAGRAMS: u32 = 4;
}

/// Key of `SOCKET_PEERS`: a socket of the host, and what it really talks to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketPeerKey {
    /// The socket (`bpf_get_socket_cookie`).
    pub cookie: u64,
    /// The container's address.
    pub address: AnyAddress,
    /// The port there.
    pub port: Be16,
    /// Always zero.
    pub reserved: [u16; 3],
}

/// Value of `SOCKET_PEERS`: what the process believes that it talks to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketPeer {
    /// The host's address.
    pub address: AnyAddress,
    /// The published port.
    pub port: Be16,
    /// Always zero.
    pub reserved: u16,
}

/// Key of `DROPS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DropKey {
    /// The endpoint that sent the packet or should have received it; 0 if none can be named.
    pub endpoint: u32,
    /// A [`crate::DropReason`].
    pub reason: u32,
}

/// Value of `DROPS`, on each CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DropCount {
    /// Packets dropped.
    pub packets: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
}

/// What the agent hands to the `collect` program, one after the other, as the payload of a frame: a pair of entries to
/// forget unless either has been used since the agent looked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Expired<A> {
    /// Key of the entry of the original direction.
    pub key: crate::FlowKey<A>,
    /// Key of the entry of the reply direction.
    pub reply: crate::FlowKey<A>,
    /// The original entry's `last_used` when the agent looked.
    pub last_used: u32,
    /// The reply entry's.
    pub reply_last_used: u32,
}

/// How many [`Expired`] records one run of `collect` takes.
pub const EXPIRED_BATCH: usize = 32;
/// EtherType of the frame that carries [`Expired`] records of IPv4 (IEEE 802 local experimental); IPv6 is the next.
pub const EXPIRED_ETHERTYPE: u16 = 0x88b5;

const _: () = {
    assert!(size_of::<Interface>() == 8);
    assert!(size_of::<Endpoint>() == 60);
    assert!(size_of::<Network>() == 100);
    assert!(size_of::<Neighbor>() == 16);
    assert!(size_of::<Uplink>() == 28 && size_of::<Tops>() == 8192);
    assert!(size_of::<PublishedKey>() == 20 && size_of::<Published>() == 32);
    assert!(size_of::<PortCount>() == 40 && size_of::<AllowedKey>() == 20 && size_of::<TrustedKey>() == 8);
    assert!(size_of::<LinkKey>() == 12);
    assert!(size_of::<Config>() == 32);
    assert!(size_of::<SocketPeerKey>() == 32 && size_of::<SocketPeer>() == 20);
    assert!(size_of::<DropKey>() == 8 && size_of::<DropCount>() == 16);
};

/// Lets the agent read and write the types as bytes.
#[cfg(feature = "user")]
mod pod {
    use super::{
        AllowedKey, AnyAddress, Config, DropCount, DropKey, Endpoint, Interface, LinkKey, Neighbor, Network, PortCount,
        Published, PublishedKey, SocketPeer, SocketPeerKey, Tops, TrustedKey, Uplink,
    };
    use crate::{
        Flow, FlowKey, V4, V6,
        bandwidth::Limits,
        rate::{Bucket, ClientKey},
    };
    use aya::Pod;

    macro_rules! pod {
        ($($type:ty),+ $(,)?) => {
            $(
                // SAFETY: `repr(C)` or `repr(transparent)` integers without padding (sizes are asserted): any bits are valid.
                unsafe impl Pod for $type {}
            )+
        };
    }

    pod!(
        AllowedKey,
        AnyAddress,
        Config,
        DropCount,
        DropKey,
        Endpoint,
        Interface,
        LinkKey,
        Neighbor,
        Network,
        PortCount,
        Published,
        PublishedKey,
        SocketPeer,
        SocketPeerKey,
        Tops,
        TrustedKey,
        Uplink
    );
    pod!(FlowKey<V4>, FlowKey<V6>, Flow<V4>, Flow<V6>, ClientKey, Bucket, Limits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tops_of_prefixes() {
        let mut tops = Tops::NONE;
        tops.add(0xac11, 16);
        tops.add(0x0a00, 8);
        tops.add(0xc0a8, 24);
        for (top, inside) in [
            (0xac11, true),
            (0xac10, false),
            (0xac12, false),
            (0x0aff, true),
            (0x0b00, false),
            (0xc0a8, true),
            (0, false),
        ] {
            assert_eq!(tops.may_have(top), inside, "{top:x}");
        }
        tops.add(0, 0);
        assert_eq!(tops.words, [u64::MAX; 1024]);
    }

    proptest! {
        #[test]
        fn tops_miss_no_address(address: u32, prefix_len in 0..=32_u8, other: u32) {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
            let inside = address & mask | other & !mask;
            let mut tops = Tops::NONE;
            tops.add((address >> 16) as u16, prefix_len);
            prop_assert!(tops.may_have((inside >> 16) as u16));
        }
    }
}
