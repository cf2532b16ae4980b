//! The world in which packets are sent, as a plan: networks, containers, uplinks, published ports, people outside.
//!
//! Only numbers and names; [`crate::world`] builds it, [`crate::oracle`] judges by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::{SCTP, TCP, UDP};

/// What outside reaches of a network's containers at their own addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Nothing.
    Nat,
    /// Everything.
    Open,
    /// Echoes, and ports that are published there.
    Routed,
}

/// A network: 10.N.0.0/24 and fd0N::/64, gateway `.1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Network {
    pub(crate) slot: u16,
    pub(crate) icc: bool,
    pub(crate) internal: bool,
    /// Not even the host gets in, and there is no gateway.
    pub(crate) isolated: bool,
    pub(crate) masquerade: bool,
    pub(crate) mode: Mode,
    /// The uplink through which published ports are reached at the containers' own addresses.
    pub(crate) trusts: Option<usize>,
}

const PLAIN: Network = Network {
    slot: 1,
    icc: true,
    internal: false,
    isolated: false,
    masquerade: true,
    mode: Mode::Nat,
    trusts: Some(1),
};

/// One of each kind.
pub(crate) const NETWORKS: [Network; 7] = [
    PLAIN,
    Network { slot: 2, icc: false, trusts: None, ..PLAIN },
    Network { slot: 3, internal: true, trusts: None, ..PLAIN },
    Network { slot: 4, masquerade: false, trusts: None, ..PLAIN },
    Network { slot: 5, mode: Mode::Open, trusts: None, ..PLAIN },
    Network { slot: 6, mode: Mode::Routed, masquerade: false, trusts: None, ..PLAIN },
    Network { slot: 7, internal: true, isolated: true, trusts: None, ..PLAIN },
];

/// A container: address `.HOST` of its network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Container {
    pub(crate) slot: u32,
    pub(crate) network: u16,
    pub(crate) host: u8,
}

pub(crate) const CONTAINERS: [Container; 10] = [
    Container { slot: 1, network: 1, host: 2 },
    Container { slot: 2, network: 1, host: 3 },
    Container { slot: 3, network: 2, host: 2 },
    Container { slot: 4, network: 2, host: 3 },
    Container { slot: 5, network: 3, host: 2 },
    Container { slot: 6, network: 3, host: 3 },
    Container { slot: 7, network: 4, host: 2 },
    Container { slot: 8, network: 5, host: 2 },
    Container { slot: 9, network: 6, host: 2 },
    Container { slot: 10, network: 7, host: 2 },
];

/// A way out. The first has the default routes, the second those to [`Uplink::beyond`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Uplink {
    pub(crate) name: &'static str,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) mtu: u32,
    /// The routers.
    pub(crate) v4_router: Ipv4Addr,
    pub(crate) v6_router: Ipv6Addr,
    /// Somebody behind the router.
    pub(crate) v4_beyond: Ipv4Addr,
    pub(crate) v6_beyond: Ipv6Addr,
}

pub(crate) const UPLINKS: [Uplink; 2] = [
    Uplink {
        name: "up0",
        v4: Ipv4Addr::new(192, 0, 2, 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        mtu: 1500,
        v4_router: Ipv4Addr::new(192, 0, 2, 254),
        v6_router: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xffff),
        v4_beyond: Ipv4Addr::new(198, 18, 0, 7),
        v6_beyond: Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7),
    },
    Uplink {
        name: "up1",
        v4: Ipv4Addr::new(198, 51, 100, 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
        mtu: 1280,
        v4_router: Ipv4Addr::new(198, 51, 100, 254),
        v6_router: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xffff),
        v4_beyond: Ipv4Addr::new(203, 0, 113, 9),
        v6_beyond: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 9),
    },
];

/// Where a published port is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// On every address of the host.
    Every,
    /// On the first uplink's address.
    First,
    /// On loopback.
    Loopback,
    /// On the container's own address.
    Container,
}

/// A published port, of both families.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Port {
    pub(crate) protocol: u8,
    pub(crate) at: At,
    pub(crate) port: u16,
    pub(crate) container: u32,
    pub(crate) container_port: u16,
    /// Only for clients in the network behind this uplink.
    pub(crate) only: Option<usize>,
}

const fn port(protocol: u8, at: At, port: u16, container: u32, container_port: u16) -> Port {
    Port { protocol, at, port, container, container_port, only: None }
}

pub(crate) const PORTS: [Port; 11] = [
    port(TCP, At::Every, 8080, 1, 80),
    port(UDP, At::Every, 5353, 1, 53),
    Port { only: Some(0), ..port(TCP, At::First, 9090, 4, 90) },
    port(TCP, At::Loopback, 9091, 4, 91),
    port(UDP, At::Every, 7000, 7, 7000),
    // In the pool from which ports are given out.
    port(TCP, At::Every, 20_000, 2, 20_000),
    port(SCTP, At::Every, 5353, 1, 53),
    port(TCP, At::Container, 80, 1, 80),
    port(TCP, At::Container, 80, 9, 80),
    port(UDP, At::Container, 53, 9, 53),
    port(TCP, At::Every, 90, 8, 91),
];

impl Network {
    pub(crate) fn of(slot: u16) -> Self {
        NETWORKS[usize::from(slot) - 1]
    }

    pub(crate) fn holds(self, address: IpAddr) -> bool {
        network_of(address) == Some(self)
    }

    pub(crate) fn gateway(self, v6: bool) -> IpAddr {
        address(self.slot, 1, v6)
    }

    pub(crate) fn bridge(self) -> String {
        format!("br{}", self.slot)
    }

    pub(crate) fn bridge_mac(self) -> [u8; 6] {
        [2, 0x42, 1, 0, 0, self.slot as u8]
    }
}

impl Container {
    pub(crate) fn of(slot: u32) -> Self {
        CONTAINERS[slot as usize - 1]
    }

    pub(crate) fn network(self) -> Network {
        Network::of(self.network)
    }

    pub(crate) fn ip(self, v6: bool) -> IpAddr {
        address(self.network, self.host, v6)
    }

    pub(crate) fn mac(self) -> [u8; 6] {
        [2, 0x42, 0, 0, 0, self.slot as u8]
    }

    /// Modified EUI-64 (RFC 4291 appendix A).
    pub(crate) fn link_local(self) -> IpAddr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0042, 0x00ff, 0xfe00, self.slot as u16).into()
    }

    pub(crate) fn veth(self) -> String {
        format!("veth{}", self.slot)
    }
}

impl Uplink {
    pub(crate) fn ip(self, v6: bool) -> IpAddr {
        if v6 { self.v6.into() } else { self.v4.into() }
    }

    pub(crate) fn router(self, v6: bool) -> IpAddr {
        if v6 { self.v6_router.into() } else { self.v4_router.into() }
    }

    pub(crate) fn beyond(self, v6: bool) -> IpAddr {
        if v6 { self.v6_beyond.into() } else { self.v4_beyond.into() }
    }

    /// Is the address in the network behind the router?
    pub(crate) fn is_beyond(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4_beyond.octets()[..3] == v4.octets()[..3],
            IpAddr::V6(v6) => self.v6_beyond.segments()[..3] == v6.segments()[..3],
        }
    }

    /// Is it there, or on the link?
    pub(crate) fn leads_to(self, address: IpAddr) -> bool {
        let on_link = match address {
            IpAddr::V4(v4) => self.v4.octets()[..3] == v4.octets()[..3],
            IpAddr::V6(v6) => self.v6.segments()[..4] == v6.segments()[..4],
        };
        on_link || self.is_beyond(address)
    }
}

impl Port {
    /// The address it is published on, as the data plane is told.
    pub(crate) fn host(self, v6: bool) -> IpAddr {
        match (self.at, v6) {
            (At::Every, false) => Ipv4Addr::UNSPECIFIED.into(),
            (At::Every, true) => Ipv6Addr::UNSPECIFIED.into(),
            (At::First, v6) => UPLINKS[0].ip(v6),
            (At::Loopback, false) => Ipv4Addr::LOCALHOST.into(),
            (At::Loopback, true) => Ipv6Addr::LOCALHOST.into(),
            (At::Container, v6) => Container::of(self.container).ip(v6),
        }
    }

    /// Does a packet to this address and port mean it?
    pub(crate) fn is_meant(self, protocol: u8, (address, port): (IpAddr, u16)) -> bool {
        let here = match self.at {
            At::Every => is_local(address),
            _ => address == self.host(address.is_ipv6()),
        };
        here && (protocol, port) == (self.protocol, self.port)
    }

    /// May this client use it?
    pub(crate) fn is_for(self, client: IpAddr) -> bool {
        self.only.is_none_or(|uplink| UPLINKS[uplink].is_beyond(client))
    }
}

fn address(network: u16, host: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00 + network, 0, 0, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, network as u8, 0, host).into()
    }
}

/// The network whose subnet holds the address.
pub(crate) fn network_of(address: IpAddr) -> Option<Network> {
    NETWORKS.into_iter().find(|network| match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [10, network.slot as u8, 0],
        IpAddr::V6(v6) => v6.segments()[..4] == [0xfd00 + network.slot, 0, 0, 0],
    })
}

/// The container with this address.
pub(crate) fn container_at(address: IpAddr) -> Option<Container> {
    CONTAINERS.into_iter().find(|container| container.ip(address.is_ipv6()) == address)
}

/// Is it one of the host's own addresses? Of loopback, the host knows two.
pub(crate) fn is_local(address: IpAddr) -> bool {
    let v6 = address.is_ipv6();
    NETWORKS.into_iter().any(|network| !network.isolated && network.gateway(v6) == address)
        || UPLINKS.into_iter().any(|uplink| uplink.ip(v6) == address)
        || address == Port { at: At::Loopback, ..PORTS[0] }.host(v6)
}

/// Multicast or limited broadcast.
pub(crate) fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// fe80::/10.
pub(crate) fn is_v6_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// 0.0.0.0/8 or `::`.
pub(crate) fn is_nobody(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}
