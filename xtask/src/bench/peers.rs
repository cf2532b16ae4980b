//! The ways between two network namespaces that are compared. All have veths as the kernel makes them: same MTU, same offloads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rtnetlink::{Handle, LinkBridge, LinkUnspec};
use serde::{Deserialize, Serialize};
use spandrel_tests::{Agent, Family, Host, Lab, Machine, Net, V4, V6};

/// What lies between the two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// Nothing: the ends are the two ends of one veth. Nothing that joins two namespaces can be faster.
    Veth,
    /// A Linux bridge with a veth to each end, and no packet filter.
    Bridge,
    /// Two containers of one Spandrel network.
    Spandrel,
}

impl Way {
    /// All, the limit first.
    pub(super) const ALL: [Way; 3] = [Way::Veth, Way::Bridge, Way::Spandrel];

    /// The name in a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Veth => "raw veth",
            Way::Bridge => "bridge",
            Way::Spandrel => "Spandrel",
        }
    }
}

/// Two namespaces with a way between them.
pub(super) struct Peer {
    /// What lies between them.
    pub(super) way: Way,
    /// Where clients run.
    pub(super) client: Net,
    /// Where servers run.
    pub(super) server: Net,
    /// The server's address.
    pub(super) address: IpAddr,
}

/// All peers, and what keeps them there.
pub(super) struct Peers {
    /// In the order of [`Way::ALL`].
    pub(super) all: Vec<Peer>,
    _agent: Agent,
    _host: Host,
    _machines: Vec<Machine>,
}

/// The interface of each end, and the port of the bridge that it leads to. While a cable is laid both lie in one namespace.
const INTERFACES: [&str; 2] = ["client", "server"];
const PORTS: [&str; 2] = ["port0", "port1"];

impl Peers {
    /// Makes them, with addresses of that family. Like everything of the lab's, a set-up that fails panics and says where.
    pub(super) fn new(spandrel: PathBuf, family: Family) -> Result<Self> {
        let lab = Lab::with(spandrel);
        let mut machines = Vec::new();
        let veth = raw_veth(&lab, family, &mut machines);
        let bridge = bridge(&lab, family, &mut machines)?;
        let host = lab.host("host");
        let agent = host.agent();
        let spandrel = spandrel_network(&host, family);
        let peers = Self { all: vec![veth, bridge, spandrel], _agent: agent, _host: host, _machines: machines };
        peers.check()?;
        Ok(peers)
    }

    /// Different MTUs would be measured as different speeds.
    fn check(&self) -> Result<()> {
        let ends = self.all.iter().flat_map(|peer| [&peer.client, &peer.server]);
        let links = ends.flat_map(Net::links).filter(|link| link.kind == "veth");
        let mtus: Vec<_> = links.map(|link| link.mtu).collect();
        if mtus.iter().any(|mtu| *mtu != mtus[0]) {
            bail!("the interfaces have different MTUs, so nothing can be compared: {mtus:?}");
        }
        Ok(())
    }
}

fn raw_veth(lab: &Lab, family: Family, machines: &mut Vec<Machine>) -> Peer {
    let ends = [lab.machine("veth-client"), lab.machine("veth-server")];
    ends[0].cable(INTERFACES[0], &ends[1], INTERFACES[1]);
    finish(Way::Veth, family, ends, machines)
}

fn bridge(lab: &Lab, family: Family, machines: &mut Vec<Machine>) -> Result<Peer> {
    let switch = lab.machine("bridge");
    let ends = [lab.machine("bridge-client"), lab.machine("bridge-server")];
    let mut ports = Vec::new();
    for ((end, interface), port) in ends.iter().zip(INTERFACES).zip(PORTS) {
        switch.cable(port, end, interface);
        ports.push(switch.link(port).index);
    }
    // Bridged packets visit netfilter wherever that is built in, even without any rule.
    for layer in ["iptables", "ip6tables", "arptables"] {
        let switched_off = format!("bridge/bridge-nf-call-{layer}");
        if switch.run(|| Path::new("/proc/sys/net").join(&switched_off).exists()) {
            switch.set_sysctl(&switched_off, "0");
        }
    }
    switch.run(|| with_netlink(async |handle| join(&handle, &ports).await))?;
    machines.push(switch);
    Ok(finish(Way::Bridge, family, ends, machines))
}

/// Makes a bridge of these ports.
async fn join(handle: &Handle, ports: &[u32]) -> Result<(), rtnetlink::Error> {
    const NAME: &str = "br0";
    handle.link().add(LinkBridge::new(NAME).up().build()).execute().await?;
    let index = nix::net::if_::if_nametoindex(NAME).map_err(|_| rtnetlink::Error::RequestFailed)?;
    for port in ports {
        handle.link().set(LinkUnspec::new_with_index(*port).controller(index).build()).execute().await?;
    }
    Ok(())
}

/// Speaks netlink in the namespace of the calling thread.
fn with_netlink(work: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        work(handle).await.map_err(io::Error::other)
    })
}

/// Gives two machines their addresses and keeps them.
fn finish(way: Way, family: Family, ends: [Machine; 2], machines: &mut Vec<Machine>) -> Peer {
    let (addresses, prefix): ([IpAddr; 2], u8) = match family {
        V4 => ([1, 2].map(|host| Ipv4Addr::new(10, 0, 0, host).into()), 24),
        V6 => ([1, 2].map(|host| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host).into()), 64),
    };
    for ((end, interface), address) in ends.iter().zip(INTERFACES).zip(addresses) {
        end.add_address(interface, address, prefix);
    }
    let [client, server] = ends.each_ref().map(|end| Net::clone(end));
    machines.extend(ends);
    Peer { way, client, server, address: addresses[1] }
}

fn spandrel_network(host: &Host, family: Family) -> Peer {
    host.create_network("--ipv6 bench");
    let client = host.run_container("--name client --network bench");
    let server = host.run_container("--name server --network bench");
    let address = server.ip(family);
    Peer { way: Way::Spandrel, client: Net::clone(&client), server: Net::clone(&server), address }
}
