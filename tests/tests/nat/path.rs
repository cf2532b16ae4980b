//! The two paths from containers to the internet: through the kernel's own NAT, set up as Docker does it, and through
//! Spandrel. Nobody at the ends answers by himself; what is sent and seen there is up to a sequence.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use spandrel_tests::*;

use crate::packet::{A, B, C, Else, Far, Gateway, OtherGateway, Place, Public, Router, Scene};
use crate::tap::Tap;

/// The MTU of the uplink: smaller than the containers' 1500.
pub const UPLINK_MTU: u32 = 1400;
/// The MTU of C's network: smaller still.
pub const SMALL_MTU: u32 = 1300;

/// A port of a container, published on every address of the host.
pub struct Published {
    /// Whose port.
    pub owner: Place,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The host's port.
    pub port: u16,
    /// The container's port.
    pub inner: u16,
}

/// All published ports.
pub const PUBLISHED: [Published; 7] = [
    Published { owner: A, protocol: "tcp", port: 8080, inner: 80 },
    Published { owner: A, protocol: "udp", port: 5300, inner: 53 },
    Published { owner: A, protocol: "sctp", port: 9900, inner: 99 },
    Published { owner: B, protocol: "tcp", port: 28081, inner: 81 },
    Published { owner: B, protocol: "udp", port: 25301, inner: 54 },
    Published { owner: C, protocol: "tcp", port: 8082, inner: 82 },
    Published { owner: C, protocol: "udp", port: 5302, inner: 55 },
];

/// The containers and their networks.
const CONTAINERS: [(Place, &str, &str); 3] = [(A, "a", "red"), (B, "b", "red"), (C, "c", "blue")];

/// Which NAT it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The kernel's, by nftables.
    Kernel,
    /// Ours.
    Spandrel,
}

/// Containers A, B and C, a host between, and the internet.
pub struct Path {
    /// Which NAT the host has.
    pub kind: Kind,
    /// The host.
    pub host: Net,
    /// The internet.
    pub internet: Net,
    /// The containers A, B and C.
    pub containers: [Net; 3],
    /// Their addresses of both families.
    addresses: [[IpAddr; 2]; 3],
    taps: Vec<Tap>,
    uplink: Uplink,
    _machines: Vec<Machine>,
    _agent: Option<Agent>,
    _host: Option<Host>,
}

impl Path {
    /// Builds one, whose ends are mute.
    pub fn new(kind: Kind) -> Self {
        Self::talkative(kind).mute()
    }

    /// Builds one whose ends are mute, and whose flows end after a second of silence: all but answered UDP and open TCP.
    pub fn impatient(kind: Kind) -> Self {
        Self::build(kind, true).mute()
    }

    fn mute(self) -> Self {
        let path = self;
        for end in path.containers.iter().chain([&path.internet]) {
            end.add_packet_filter(MUTE);
        }
        path
    }

    /// Builds one whose ends have kernels that answer what arrives.
    pub fn talkative(kind: Kind) -> Self {
        Self::build(kind, false)
    }

    fn build(kind: Kind, impatient: bool) -> Self {
        let lab = Lab::new();
        let path = match kind {
            Kind::Kernel => kernel(&lab, impatient),
            Kind::Spandrel => spandrel(&lab, impatient),
        };
        // Every error counts here.
        path.host.set_sysctl("ipv4/icmp_ratelimit", "0");
        path.host.set_sysctl("ipv4/icmp_msgs_per_sec", "1000000");
        path.host.set_sysctl("ipv6/icmp/ratelimit", "0");
        path
    }

    /// What the names in a sequence's packets mean; `number` tells the sequence from others on the same path.
    pub fn scene(&self, number: usize, family: Family) -> Scene {
        let index = family as usize;
        let [a, b, c] = self.addresses.each_ref().map(|addresses| addresses[index]);
        let number = u8::try_from(number + 1).expect("there are fewer sequences in a theme");
        let remote = |place: usize| -> IpAddr {
            match family {
                V4 => {
                    let [a, b, c] = [[203, 0, 113], [198, 51, 100], [192, 0, 2]][place];
                    Ipv4Addr::new(a, b, c, number).into()
                }
                V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, place as u16, number.into()).into(),
            }
        };
        let addresses = [
            (A, a),
            (B, b),
            (C, c),
            (Gateway, gateway(a)),
            (OtherGateway, gateway(c)),
            (Public, self.uplink.host(family)),
            (Router, self.uplink.outside(family)),
            (Far, remote(0)),
            (Else, remote(1)),
            (Place::Witness, remote(2)),
        ];
        Scene { family, addresses: addresses.into(), ports: [].into() }
    }

    /// Where packets from and to that address are sent and seen.
    pub fn tap(&self, place: Place) -> &Tap {
        match place {
            A => &self.taps[0],
            B => &self.taps[1],
            C => &self.taps[2],
            Far | Else | Router | Place::Witness => &self.taps[3],
            Gateway | OtherGateway | Public => panic!("{place:?} is the host's address, nothing can be seen there"),
        }
    }

    /// All places where packets are seen.
    pub fn taps(&self) -> impl Iterator<Item = &Tap> {
        self.taps.iter()
    }

    fn with(kind: Kind, host: &Host, internet: &Net, ends: [(Net, [IpAddr; 2]); 3], uplink: Uplink) -> Self {
        let (containers, addresses) = (ends.each_ref().map(|end| end.0.clone()), ends.each_ref().map(|end| end.1));
        let mut taps: Vec<_> = ends.iter().map(|(net, own)| Tap::open(net, "eth0", gateway_mac(net, own[0]))).collect();
        taps.push(Tap::open(internet, &uplink.outside_name, host.link(&uplink.name).mac));
        Self {
            kind,
            host: Net::clone(host),
            internet: internet.clone(),
            containers,
            addresses,
            taps,
            uplink,
            _machines: Vec::new(),
            _agent: None,
            _host: None,
        }
    }
}

/// What comes to a mute machine ends there; only its neighbours learn its MAC address.
const MUTE: &str = "
table inet mute {
    chain arrivals {
        type filter hook prerouting priority raw; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
}
";

/// Host and internet, with the cable between.
fn ends(lab: &Lab) -> (Host, Machine, Uplink) {
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let uplink = lab.uplink(&host, &internet);
    host.set_mtu(&uplink.name, UPLINK_MTU);
    (host, internet, uplink)
}

/// The gateway of the network that an address lies in.
fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 1).into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 1).into()
        }
    }
}

fn gateway_mac(net: &Net, own: IpAddr) -> [u8; 6] {
    let gateway = gateway(own);
    net.ping(gateway).expect("the gateway answers");
    net.neighbour(gateway).expect("the gateway's MAC address")
}

/// The subnets of the kernel's networks.
const SUBNETS: [(&str, [&str; 2]); 2] = [("red", ["172.30.0", "fd00:0:0:30"]), ("blue", ["172.31.0", "fd00:0:0:31"])];

/// A host whose kernel translates.
fn kernel(lab: &Lab, impatient: bool) -> Path {
    let (host, internet, uplink) = ends(lab);
    for sysctl in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        host.set_sysctl(sysctl, "1");
    }
    // What a bridge passes from port to port is not for the rules of IP.
    for sysctl in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
        host.set_sysctl(sysctl, "0");
    }
    let address = |subnet: &str, family: Family, last: u8| -> IpAddr {
        let separator = if family == V4 { "." } else { "::" };
        format!("{subnet}{separator}{last}").parse().expect("an address")
    };
    for (name, subnets) in SUBNETS {
        host.add_bridge(name);
        for (family, prefix) in [(V4, 24), (V6, 64)] {
            host.add_address(name, address(subnets[family as usize], family, 1), prefix);
        }
    }
    let mut machines = Vec::new();
    let mut last = 1;
    let ends = CONTAINERS.map(|(place, name, network)| {
        let machine = lab.machine(name);
        let port = format!("port-{name}");
        host.cable(&port, &machine, "eth0");
        if place == C {
            machine.set_mtu("eth0", SMALL_MTU);
            host.set_mtu(&port, SMALL_MTU);
        }
        host.plug(&port, network);
        last += 1;
        let (_, subnets) = SUBNETS.iter().find(|(name, _)| *name == network).expect("its network");
        let addresses = Family::BOTH.map(|family| address(subnets[family as usize], family, last));
        for (address, prefix) in addresses.iter().zip([24, 64]) {
            machine.add_address("eth0", *address, prefix);
            machine.add_default_route(gateway(*address));
        }
        let net = Net::clone(&machine);
        machines.push(machine);
        (net, addresses)
    });
    for family in Family::BOTH {
        host.add_packet_filter(&rules(family, &ends.each_ref().map(|end| end.1[family as usize])));
    }
    if impatient {
        for state in [
            "tcp_timeout_syn_sent",
            "tcp_timeout_time_wait",
            "tcp_timeout_close",
            "udp_timeout",
            "icmp_timeout",
            "icmpv6_timeout",
        ] {
            host.set_sysctl(&format!("netfilter/nf_conntrack_{state}"), "1");
        }
    }
    let mut path = Path::with(Kind::Kernel, &host, &internet, ends, uplink);
    machines.push(internet);
    path._machines = machines;
    path._host = Some(host);
    path
}

/// The rules of one family, as Docker writes them: published ports are translated wherever they are asked for, what leaves
/// the bridges is masqueraded, and so is what comes back into the same bridge (Docker has a proxy for that); nothing
/// gets at a container that it does not publish.
fn rules(family: Family, addresses: &[IpAddr; 3]) -> String {
    let ip = if family == V4 { "ip" } else { "ip6" };
    let [mut translate, mut protect, mut accept] = [const { String::new() }; 3];
    for (Published { owner, protocol, port, inner }, address) in
        PUBLISHED.iter().map(|published| (published, addresses[published.owner as usize]))
    {
        let to = std::net::SocketAddr::new(address, *inner);
        let (_, _, network) = CONTAINERS[*owner as usize];
        translate += &format!("{protocol} dport {port} dnat to {to}\n");
        accept += &format!("{ip} daddr {address} oifname {network} {protocol} dport {inner} accept\n");
    }
    for (address, (_, _, network)) in addresses.iter().zip(CONTAINERS) {
        protect += &format!("{ip} daddr {address} iifname != {{ {network}, lo }} drop\n");
    }
    let masquerade = SUBNETS.map(|(name, subnets)| match family {
        V4 => format!("ip saddr {}.0/24 oifname != {name} masquerade\n", subnets[0]),
        V6 => format!("ip6 saddr {}::/64 oifname != {name} masquerade\n", subnets[1]),
    });
    format!(
        "table {ip} bridges {{
            chain published {{ {translate} }}
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                fib daddr type local jump published
            }}
            chain output {{
                type nat hook output priority -100; policy accept;
                fib daddr type local jump published
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                {masquerade}
                iifname red oifname red ct status dnat masquerade
                iifname blue oifname blue ct status dnat masquerade
            }}
            chain protect {{
                type filter hook prerouting priority raw; policy accept;
                {protect}
            }}
            chain forward {{
                type filter hook forward priority filter; policy accept;
                oifname {{ red, blue }} ct state established,related accept
                {accept}
                iifname red oifname red accept
                iifname blue oifname blue accept
                oifname {{ red, blue }} drop
            }}
        }}
        ",
        masquerade = masquerade.concat()
    )
}

/// A host with Spandrel.
fn spandrel(lab: &Lab, impatient: bool) -> Path {
    let (host, internet, uplink) = ends(lab);
    let states = ["tcp-syn-sent", "tcp-closing", "tcp-reset", "udp-unanswered", "other"];
    let timeouts =
        if impatient { states.map(|state| format!(" --idle-timeout {state}=1")).concat() } else { String::new() };
    let agent = host.agent_with(&timeouts);
    host.create_network("--ipv6 red");
    host.create_network(&format!("--ipv6 -o com.docker.network.driver.mtu={SMALL_MTU} blue"));
    let ends = CONTAINERS.map(|(place, name, network)| {
        let own = PUBLISHED.iter().filter(|published| published.owner == place);
        let published: String =
            own.map(|Published { protocol, port, inner, .. }| format!(" -p {port}:{inner}/{protocol}")).collect();
        let container = host.run_container(&format!("--name {name} --network {network}{published}"));
        (Net::clone(&container), Family::BOTH.map(|family| container.ip(family)))
    });
    let mut path = Path::with(Kind::Spandrel, &host, &internet, ends, uplink);
    path._machines = vec![internet];
    path._agent = Some(agent);
    path._host = Some(host);
    path
}
