//! The host on which packets are measured: two networks, three containers and an uplink, in namespaces that end with this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use dataplane_common::Protocol;
use nix::mount::{MsFlags, mount as mount_fs};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use spandrel::kernel::dataplane::{
    Dataplane, Device, EndpointConfig, GatewayConfig, Limits, NetworkConfig, Options, PortConfig, PortEntry,
    ProgramRun, RunContext, UplinkConfig,
};
use spandrel::kernel::{mount, sysctl};

use crate::frame::Family;
use crate::paths::{FIRST, FLOWS, HTTP, Path};

/// The containers of network 1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Publishes nothing.
    Client = 1,
    /// Publishes a port.
    Server = 2,
    /// Publishes a port, and belongs to those paths that open flows.
    Opener = 3,
}

/// Where packets come in and go out.
#[derive(Clone, Copy)]
pub(crate) enum Interface {
    /// The host's own stack, which is none.
    Host,
    Veth(Slot),
    /// Of network 1.
    Bridge,
    Uplink,
}

/// The network of the containers, and another one.
const NETWORKS: [u16; 2] = [1, 2];

/// Where this process has its BPF file system; nobody else sees it.
const BPFFS: &str = "/run/bpf";

/// The host, with the programs loaded.
pub(crate) struct Host {
    dataplane: Dataplane,
}

impl Host {
    /// Builds it and opens the flows that packets are to belong to.
    pub(crate) fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("only root can make namespaces")?;
        mount_fs(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount_fs(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        mount::ensure_bpffs(BPFFS.as_ref())?;
        sysctl::set(&["net", "ipv4", "ip_forward"], "1")?;
        sysctl::set(&["net", "ipv6", "conf", "all", "forwarding"], "1")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(make_links())?;

        let mut host = Self { dataplane: Dataplane::open(BPFFS.as_ref(), &Options::default())? };
        host.configure()?;
        for path in FIRST {
            for family in Family::BOTH {
                let verdict = host.run(&path, &(path.frame)(family).bytes(0), 1)?.verdict;
                ensure!(verdict == path.verdict, "the flow \"{}\" cannot be opened over {}", path.name, family.name());
            }
        }
        let flows = host.dataplane.collect_garbage()?.flows;
        ensure!(flows == FLOWS, "there are {flows} flows instead of {FLOWS}");
        Ok(host)
    }

    fn configure(&mut self) -> Result<()> {
        for slot in NETWORKS {
            self.dataplane.set_network(&network(slot)?, &[])?;
        }
        for slot in [Slot::Client, Slot::Server, Slot::Opener] {
            self.dataplane.set_endpoint(&endpoint(slot)?)?;
        }
        self.dataplane.publish(&[port(Slot::Server)])?;
        self.dataplane.publish(&[port(Slot::Opener)])?;
        // Masquerading writes the address of the one container that measures it, and ports are published at the containers' own, as
        // the text of `main` tells: the host has them all.
        let (v4, v6) = addresses(Slot::Client);
        let local = Family::BOTH.map(|family| {
            let containers = [Slot::Client, Slot::Server, Slot::Opener].map(|slot| container(family, slot));
            [vec![uplink(family)], containers.to_vec()].concat()
        });
        self.dataplane.set_local_addresses(&local.into_iter().flatten().collect())?;
        let ifindex = Interface::Uplink.index()?;
        let name = Interface::Uplink.name();
        let device = Device::Virtual;
        self.dataplane.set_uplinks(&[UplinkConfig {
            name,
            ifindex,
            ipv4: Some(v4),
            ipv6: Some(v6),
            mtu: 1500,
            device,
            inside: false,
        }])?;
        Ok(())
    }

    /// Sends a frame down a path.
    pub(crate) fn run(&mut self, path: &Path, frame: &[u8], repeat: u32) -> Result<ProgramRun> {
        if path.program == Path::SHIELD {
            return Ok(self.dataplane.run_shield(frame, repeat)?);
        }
        let (ifindex, ingress_ifindex) = (path.at.index()?, path.from.index()?);
        let context = RunContext { ifindex, ingress_ifindex, repeat, ..RunContext::default() };
        Ok(self.dataplane.run_program(path.program, frame, &context)?)
    }

    /// Ends all flows of the container that opens some with every packet, before it has too many.
    pub(crate) fn end_opened_flows(&mut self) -> Result<()> {
        self.dataplane.remove_endpoint(Slot::Opener as u32)?;
        self.dataplane.collect_garbage()?;
        self.dataplane.set_endpoint(&endpoint(Slot::Opener)?)?;
        self.dataplane.publish(&[port(Slot::Opener)])?;
        Ok(())
    }
}

impl Interface {
    fn name(self) -> String {
        match self {
            Self::Host => String::new(),
            Self::Veth(slot) => format!("veth{}", slot as u32),
            Self::Bridge => bridge_name(NETWORKS[0]),
            Self::Uplink => "uplink".into(),
        }
    }

    fn index(self) -> Result<u32> {
        match self {
            Self::Host => Ok(0),
            other => if_nametoindex(other.name().as_str()).with_context(|| format!("there is no {}", other.name())),
        }
    }
}

/// Makes all interfaces. To the programs a bridge is one like any other; what is at the far ends is never asked.
async fn make_links() -> Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    handle.link().set(LinkUnspec::new_with_name("lo").up().build()).execute().await?;
    let veths = [Slot::Client, Slot::Server, Slot::Opener].map(|slot| Interface::Veth(slot).name());
    for name in veths.into_iter().chain(NETWORKS.map(bridge_name)).chain([Interface::Uplink.name()]) {
        handle.link().add(LinkVeth::new(&name, &format!("{name}-far")).up().build()).execute().await?;
    }
    for family in Family::BOTH {
        make_way_out(&handle, family).await?;
    }
    Ok(())
}

/// Gives the uplink an address and a router.
async fn make_way_out(handle: &Handle, family: Family) -> Result<()> {
    let index = Interface::Uplink.index()?;
    handle.address().add(index, uplink(family), family.pick(24, 64)).execute().await?;
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(address(family, [0; 4], [0; 8]), 0)?;
    handle.route().add(route.gateway(router(family))?.build()).execute().await?;
    Ok(())
}

fn network(slot: u16) -> Result<NetworkConfig> {
    let bridge = bridge_name(slot);
    let nat = GatewayConfig { masquerade: true, ..GatewayConfig::default() };
    Ok(NetworkConfig {
        slot,
        bridge_ifindex: if_nametoindex(bridge.as_str())?,
        bridge,
        bridge_mac: bridge_mac(),
        subnets: vec![format!("10.{slot}.0.0/24").parse()?, format!("fd00:{slot}::/64").parse()?],
        gateways: vec![format!("10.{slot}.0.1").parse()?, format!("fd00:{slot}::1").parse()?],
        internal: false,
        isolated: false,
        icc: true,
        v4: nat,
        v6: nat,
        endpoint_independent: false,
        trusted: Vec::new(),
        mtu: 1500,
    })
}

fn endpoint(slot: Slot) -> Result<EndpointConfig> {
    let interface = Interface::Veth(slot);
    let (v4, v6) = addresses(slot);
    Ok(EndpointConfig {
        slot: slot as u32,
        network: NETWORKS[0],
        ifname: interface.name(),
        ifindex: interface.index()?,
        bridged: true,
        mac: mac(slot),
        ipv4: Some(v4),
        ipv6: Some(v6),
        limits: Limits::default(),
    })
}

/// The container's port, published as itself.
fn port(slot: Slot) -> PortConfig {
    let entries = Family::BOTH.map(|family| PortEntry {
        protocol: Protocol::TCP,
        host: container(family, slot),
        host_port: HTTP,
        endpoint: slot as u32,
        container: container(family, slot),
        container_port: HTTP,
    });
    PortConfig { slot: slot as u32, allow_from: Vec::new(), rate: 0, entries: entries.to_vec() }
}

fn bridge_name(network: u16) -> String {
    format!("bridge{network}")
}

/// The MAC address of every bridge.
pub(crate) fn bridge_mac() -> [u8; 6] {
    [2, 0x42, 1, 0, 0, 1]
}

/// A container's MAC address.
pub(crate) fn mac(slot: Slot) -> [u8; 6] {
    [2, 0x42, 0, 0, 0, slot as u8]
}

fn addresses(slot: Slot) -> (Ipv4Addr, Ipv6Addr) {
    let host = slot as u8 + 1;
    (Ipv4Addr::new(10, 1, 0, host), Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host.into()))
}

/// A container's address.
pub(crate) fn container(family: Family, slot: Slot) -> IpAddr {
    let (v4, v6) = addresses(slot);
    family.pick(v4.into(), v6.into())
}

fn address(family: Family, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
    family.pick(v4.into(), v6.into())
}

/// The gateway of the containers' network.
pub(crate) fn gateway(family: Family) -> IpAddr {
    address(family, [10, 1, 0, 1], [0xfd00, 1, 0, 0, 0, 0, 0, 1])
}

/// Somebody on the other network.
pub(crate) fn other_network(family: Family) -> IpAddr {
    address(family, [10, 2, 0, 2], [0xfd00, 2, 0, 0, 0, 0, 0, 2])
}

/// The host's address on its uplink.
pub(crate) fn uplink(family: Family) -> IpAddr {
    address(family, [192, 0, 2, 1], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])
}

fn router(family: Family) -> IpAddr {
    address(family, [192, 0, 2, 254], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xffff])
}

/// Somebody behind the router.
pub(crate) fn outside(family: Family) -> IpAddr {
    address(family, [198, 51, 100, 7], [0x2001, 0xdb8, 7, 0, 0, 0, 0, 7])
}
