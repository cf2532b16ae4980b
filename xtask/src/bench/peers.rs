//! Who is compared on which path: two network namespaces, and what lies between them. All have veths as the kernel makes them, with the
//! same MTU and offloads, and each engine has what it sets up by default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, anyhow, bail};
use nix::net::if_::if_nametoindex;
use rtnetlink::{Handle, LinkBridge, LinkUnspec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spandrel_tests::{Agent, Cni, CniAttachment, Docker, Family, Host, Lab, Machine, Net, Uplink, V4, V6};

use super::engines::reference;

/// What lies between the two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Peer {
    /// Nothing: the ends are the two ends of one veth. Nothing that joins two namespaces can be faster.
    Veth,
    /// The container's own address, dialled by its host: what a published port of the host's loopback is held against.
    Address,
    /// A Linux bridge with a veth to each end, and no packet filter.
    Bridge,
    /// The same with rules of nftables that are Docker's, word for word.
    Nftables,
    /// Docker's engine on its default bridge.
    Docker,
    /// The reference plugins of CNI: bridge, portmap, firewall.
    Cni,
    /// Two containers of one Spandrel network.
    Spandrel,
}

/// From where to where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DataPath {
    /// From a container to another one of the same network.
    Containers,
    /// From a machine behind the host's uplink to a published port.
    Published,
    /// From a container to that machine, under the host's address.
    Masqueraded,
    /// From the host to a published port of its loopback address.
    Loopback,
}

/// Two namespaces, and how one finds the other.
#[derive(Clone)]
pub(super) struct Ends {
    /// Where clients run.
    pub(super) client: Net,
    /// Where servers run.
    pub(super) server: Net,
    /// Where servers listen.
    pub(super) listen: SocketAddr,
    /// What clients dial, which is something else where addresses are translated.
    pub(super) dial: SocketAddr,
}

/// A peer's ends of a path.
pub(super) struct Lane {
    pub(super) peer: Peer,
    pub(super) path: DataPath,
    pub(super) ends: Ends,
}

/// The port of servers in namespaces, and the one under which it is published.
pub(super) const PORT: u16 = 5000;
const PUBLISHED: u16 = 8080;

/// The machines that the peers are on.
pub(super) struct Sites {
    lab: Lab,
    family: Family,
    peers: Vec<Peer>,
    hosts: [(Host, Uplink); 4],
    outside: Machine,
}

/// All lanes, and what keeps them there.
pub(super) struct Lanes<'s> {
    pub(super) all: Vec<Lane>,
    _agent: Agent,
    _docker: Option<Docker<'s>>,
    _machines: Vec<Machine>,
}

impl Peer {
    /// All, what is held against others last.
    pub(super) const ALL: [Peer; 7] =
        [Peer::Veth, Peer::Address, Peer::Bridge, Peer::Nftables, Peer::Docker, Peer::Cni, Peer::Spandrel];

    /// The name in a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Veth => "raw veth",
            Peer::Address => "its address",
            Peer::Bridge => "bridge",
            Peer::Nftables => "nftables",
            Peer::Docker => "Docker",
            Peer::Cni => "CNI",
            Peer::Spandrel => "Spandrel",
        }
    }
}

impl DataPath {
    /// All.
    pub(super) const ALL: [DataPath; 4] =
        [DataPath::Containers, DataPath::Published, DataPath::Masqueraded, DataPath::Loopback];

    /// The name in a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            DataPath::Containers => "Container to container",
            DataPath::Published => "Outside to published port",
            DataPath::Masqueraded => "Container to outside",
            DataPath::Loopback => "Host to 127.0.0.1, published port",
        }
    }

    /// The name of a file about it.
    pub(super) fn file(self) -> &'static str {
        match self {
            DataPath::Containers => "containers",
            DataPath::Published => "published",
            DataPath::Masqueraded => "masqueraded",
            DataPath::Loopback => "loopback",
        }
    }

    /// What cannot be beaten here.
    pub(super) fn limit(self) -> Peer {
        if self == DataPath::Loopback { Peer::Address } else { Peer::Veth }
    }
}

impl Sites {
    /// Makes the machines. Like everything of the lab's, a set-up that fails panics and says where.
    pub(super) fn new(lab: Lab, family: Family, peers: Vec<Peer>) -> Self {
        let outside = lab.machine("outside");
        let hosts = ["nftables", "docker", "cni", "spandrel"].map(|name| {
            let host = lab.host(name);
            let uplink = lab.uplink(&host, &outside);
            (host, uplink)
        });
        Self { lab, family, peers, hosts, outside }
    }

    /// Sets all peers up.
    pub(super) fn lanes(&self) -> Result<Lanes<'_>> {
        let (mut all, mut machines) = (Vec::new(), Vec::new());
        let [nftables, docker, cni, spandrel] = &self.hosts;
        let wanted = |peer| self.peers.contains(&peer);
        let agent = spandrel.0.agent();
        all.extend(self.spandrel(spandrel));
        if wanted(Peer::Veth) {
            all.extend(self.raw_veth(&mut machines));
        }
        if wanted(Peer::Bridge) {
            all.extend(self.bridge(&mut machines)?);
        }
        if wanted(Peer::Nftables) {
            all.extend(self.nftables(nftables, &mut machines)?);
        }
        let mut engine = None;
        if wanted(Peer::Docker) {
            docker.0.install_debian();
            let engine = engine.insert(docker.0.docker(""));
            all.extend(self.docker(docker, engine));
        }
        if wanted(Peer::Cni) {
            cni.0.install_debian();
            all.extend(self.cni(cni)?);
        }
        check(&all)?;
        Ok(Lanes { all, _agent: agent, _docker: engine, _machines: machines })
    }

    fn raw_veth(&self, machines: &mut Vec<Machine>) -> Vec<Lane> {
        let ends = ["veth-client", "veth-server"].map(|name| self.lab.machine(name));
        ends[0].cable(INTERFACES[0], &ends[1], INTERFACES[1]);
        let [_, client, server] = addresses(self.family);
        let prefix = prefix(self.family);
        ends[0].add_address(INTERFACES[0], client, prefix);
        ends[1].add_address(INTERFACES[1], server, prefix);
        let at = SocketAddr::new(server, PORT);
        let [client, server] = nets(&ends);
        machines.extend(ends);
        let ends = Ends { client, server, listen: at, dial: at };
        let paths = [DataPath::Containers, DataPath::Published, DataPath::Masqueraded];
        paths.map(|path| Lane { peer: Peer::Veth, path, ends: ends.clone() }).into()
    }

    fn bridge(&self, machines: &mut Vec<Machine>) -> Result<Vec<Lane>> {
        let switch = self.lab.machine("bridge");
        // Bridged packets visit netfilter wherever that is built in, even without any rule.
        for layer in ["iptables", "ip6tables", "arptables"] {
            let switched_off = format!("bridge/bridge-nf-call-{layer}");
            if switch.run(|| std::path::Path::new("/proc/sys/net").join(&switched_off).exists()) {
                switch.set_sysctl(&switched_off, "0");
            }
        }
        let ([client, server], address) = bridged(&self.lab, self.family, &switch, machines)?;
        machines.push(switch);
        let at = SocketAddr::new(address, PORT);
        Ok(vec![Lane {
            peer: Peer::Bridge,
            path: DataPath::Containers,
            ends: Ends { client, server, listen: at, dial: at },
        }])
    }

    fn nftables(&self, site: &(Host, Uplink), machines: &mut Vec<Machine>) -> Result<Vec<Lane>> {
        let ports = ["tcp", "udp"].map(|protocol| (protocol, PUBLISHED, PORT));
        let (containers, address) = filtered(&self.lab, &site.0, &ports, machines)?;
        Ok(self.routed(Peer::Nftables, site, containers, address, &ROUTED))
    }

    fn docker(&self, site: &(Host, Uplink), docker: &Docker<'_>) -> Vec<Lane> {
        let client = docker.run("client", "");
        let server = docker.run("server", &publish());
        let address = docker.ip_on("server", "bridge", V4);
        self.routed(Peer::Docker, site, [client, server], address, &DataPath::ALL)
    }

    fn cni(&self, site: &(Host, Uplink)) -> Result<Vec<Lane>> {
        let cni = Cni::new(&site.0, "bench", "1.0.0", &reference());
        let mapping = |protocol| json!({"hostPort": PUBLISHED, "containerPort": PORT, "protocol": protocol});
        let attach = |name: &str, wishes: Value| {
            let net = site.0.add_netns(name);
            let added = cni.add(&mut CniAttachment::new(name, name).wishing(wishes));
            added.map(|result| (net, result)).map_err(|error| anyhow!("the plugins of CNI refuse: {error}"))
        };
        let (client, _) = attach("client", json!({}))?;
        let (server, result) = attach("server", json!({"portMappings": [mapping("tcp"), mapping("udp")]}))?;
        let address = result["ips"][0]["address"].as_str().and_then(|text| text.split('/').next()?.parse().ok());
        let address = address.with_context(|| format!("the plugins of CNI tell no address: {result}"))?;
        Ok(self.routed(Peer::Cni, site, [client, server], address, &ROUTED))
    }

    fn spandrel(&self, site: &(Host, Uplink)) -> Vec<Lane> {
        let host = &site.0;
        host.create_network("--ipv6 bench");
        let client = host.run_container("--name client --network bench");
        let server = host.run_container(&format!("--name server --network bench {}", publish()));
        let address = server.ip(self.family);
        let containers = [&client, &server].map(|container| Net::clone(container));
        let mut lanes = self.routed(Peer::Spandrel, site, containers, address, &DataPath::ALL);
        let at = SocketAddr::new(address, PORT);
        let ends = Ends { client: Net::clone(host), server: Net::clone(&server), listen: at, dial: at };
        lanes.push(Lane { peer: Peer::Address, path: DataPath::Loopback, ends });
        lanes
    }

    /// The ends of these paths around a host whose second container publishes its port.
    fn routed(
        &self,
        peer: Peer,
        site: &(Host, Uplink),
        containers: [Net; 2],
        address: IpAddr,
        paths: &[DataPath],
    ) -> Vec<Lane> {
        let (host, uplink) = site;
        let [client, server] = containers;
        let (inside, outside) = (SocketAddr::new(address, PORT), SocketAddr::new(uplink.outside(self.family), PORT));
        let loopback: IpAddr = match self.family {
            V4 => Ipv4Addr::LOCALHOST.into(),
            V6 => Ipv6Addr::LOCALHOST.into(),
        };
        let lane = |&path: &DataPath| {
            let (client, server, listen, dial) = match path {
                DataPath::Containers => (&client, &server, inside, inside),
                DataPath::Published => (&*self.outside, &server, inside, (uplink.host(self.family), PUBLISHED).into()),
                DataPath::Masqueraded => (&client, &*self.outside, outside, outside),
                DataPath::Loopback => (&***host, &server, inside, (loopback, PUBLISHED).into()),
            };
            Lane { peer, path, ends: Ends { client: client.clone(), server: server.clone(), listen, dial } }
        };
        paths.iter().map(lane).collect()
    }
}

/// Two machines on a bridge of that one, which is their router, and the second one's address.
fn bridged(lab: &Lab, family: Family, switch: &Machine, machines: &mut Vec<Machine>) -> Result<([Net; 2], IpAddr)> {
    let ends = ["client", "server"].map(|name| lab.machine(&format!("{}-{name}", switch.name())));
    let mut ports = Vec::new();
    for ((end, interface), port) in ends.iter().zip(INTERFACES).zip(PORTS) {
        switch.cable(port, end, interface);
        ports.push(switch.link(port).index);
    }
    switch.run(|| with_netlink(async |handle| join(&handle, &ports).await))?;
    let [router, client, server] = addresses(family);
    let prefix = prefix(family);
    switch.add_address(BRIDGE, router, prefix);
    for ((end, interface), address) in ends.iter().zip(INTERFACES).zip([client, server]) {
        end.add_address(interface, address, prefix);
        end.add_default_route(router);
    }
    let found = nets(&ends);
    machines.extend(ends);
    Ok((found, server))
}

/// The same over IPv4, whose second machine's ports are published by rules that are Docker's.
pub(super) fn filtered(
    lab: &Lab,
    host: &Machine,
    ports: &[Published],
    machines: &mut Vec<Machine>,
) -> Result<([Net; 2], IpAddr)> {
    let (containers, address) = bridged(lab, V4, host, machines)?;
    host.set_sysctl("ipv4/ip_forward", "1");
    host.add_packet_filter(&as_docker_writes_them(address, ports));
    Ok((containers, address))
}

/// A published port: its protocol, and its number outside and inside.
pub(super) type Published = (&'static str, u16, u16);

/// The interface of each end, and the port of the bridge that it leads to. While a cable is laid both lie in one namespace.
const INTERFACES: [&str; 2] = ["client", "server"];
const PORTS: [&str; 2] = ["port0", "port1"];
const BRIDGE: &str = "docker0";

/// What those have that cannot publish at a loopback address.
const ROUTED: [DataPath; 3] = [DataPath::Containers, DataPath::Published, DataPath::Masqueraded];

fn nets(machines: &[Machine; 2]) -> [Net; 2] {
    machines.each_ref().map(|machine| Net::clone(machine))
}

/// The addresses of a router, a client and a server.
fn addresses(family: Family) -> [IpAddr; 3] {
    let address = |host: u8| match family {
        V4 => Ipv4Addr::new(172, 17, 0, host).into(),
        V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into(),
    };
    [1, 2, 3].map(address)
}

fn prefix(family: Family) -> u8 {
    if family == V4 { 16 } else { 64 }
}

/// The options that publish the port, as all engines understand them.
fn publish() -> String {
    format!("-p {PUBLISHED}:{PORT} -p {PUBLISHED}:{PORT}/udp")
}

/// Different MTUs would be measured as different speeds.
fn check(lanes: &[Lane]) -> Result<()> {
    let ends = lanes.iter().flat_map(|lane| [&lane.ends.client, &lane.ends.server]);
    let links = ends.flat_map(Net::links).filter(|link| link.kind == "veth");
    let mtus: Vec<_> = links.map(|link| link.mtu).collect();
    if mtus.iter().any(|mtu| *mtu != mtus[0]) {
        bail!("the interfaces have different MTUs, so nothing can be compared: {mtus:?}");
    }
    Ok(())
}

/// Makes a bridge of these ports.
async fn join(handle: &Handle, ports: &[u32]) -> Result<(), rtnetlink::Error> {
    handle.link().add(LinkBridge::new(BRIDGE).up().build()).execute().await?;
    let index = if_nametoindex(BRIDGE).map_err(|_| rtnetlink::Error::RequestFailed)?;
    for port in ports {
        handle.link().set(LinkUnspec::new_with_index(*port).controller(index).build()).execute().await?;
    }
    Ok(())
}

/// Speaks netlink in the namespace of the calling thread.
pub(super) fn with_netlink(work: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        work(handle).await.map_err(std::io::Error::other)
    })
}

/// The rules that Docker's engine writes for a container with these published ports, as `iptables-save` shows them, in nftables' own words.
fn as_docker_writes_them(container: IpAddr, ports: &[Published]) -> String {
    let each = |rule: &dyn Fn(&Published) -> String| ports.iter().map(rule).collect::<Vec<_>>().join("\n");
    let hairpin = each(&|(protocol, _, inside)| {
        format!("ip saddr {container} ip daddr {container} {protocol} dport {inside} counter masquerade")
    });
    let translate = each(&|(protocol, outside, inside)| {
        format!("iifname != \"{BRIDGE}\" {protocol} dport {outside} counter dnat to {container}:{inside}")
    });
    let accept = each(&|(protocol, _, inside)| {
        format!(
            "iifname != \"{BRIDGE}\" oifname \"{BRIDGE}\" ip daddr {container} {protocol} dport {inside} counter accept"
        )
    });
    format!(
        "table ip nat {{
            chain DOCKER {{
                iifname \"{BRIDGE}\" counter return
                {translate}
            }}
            chain PREROUTING {{
                type nat hook prerouting priority dstnat; policy accept;
                fib daddr type local counter jump DOCKER
            }}
            chain OUTPUT {{
                type nat hook output priority -100; policy accept;
                ip daddr != 127.0.0.0/8 fib daddr type local counter jump DOCKER
            }}
            chain POSTROUTING {{
                type nat hook postrouting priority srcnat; policy accept;
                oifname != \"{BRIDGE}\" ip saddr 172.17.0.0/16 counter masquerade
                {hairpin}
            }}
        }}
        table ip filter {{
            chain DOCKER {{
                {accept}
            }}
            chain DOCKER-ISOLATION-STAGE-2 {{
                oifname \"{BRIDGE}\" counter drop
                counter return
            }}
            chain DOCKER-ISOLATION-STAGE-1 {{
                iifname \"{BRIDGE}\" oifname != \"{BRIDGE}\" counter jump DOCKER-ISOLATION-STAGE-2
                counter return
            }}
            chain DOCKER-USER {{
                counter return
            }}
            chain FORWARD {{
                type filter hook forward priority filter; policy drop;
                counter jump DOCKER-USER
                counter jump DOCKER-ISOLATION-STAGE-1
                oifname \"{BRIDGE}\" ct state related,established counter accept
                oifname \"{BRIDGE}\" counter jump DOCKER
                iifname \"{BRIDGE}\" oifname != \"{BRIDGE}\" counter accept
                iifname \"{BRIDGE}\" oifname \"{BRIDGE}\" counter accept
            }}
        }}
        "
    )
}
