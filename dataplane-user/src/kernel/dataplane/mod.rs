//! The eBPF data plane as the agent sees it: setters that make the kernel's maps and hooks say what is wanted.
//!
//! Every setter may be called again with the same values and then changes nothing: creating, mending after a crash and
//! taking over from an older agent are the same calls. Maps, links and programs are pinned, so packets flow while no agent
//! is there. What ought to be there is the agent's to know; nothing here decides.

mod attach;
mod configure;
mod error;
mod garbage;
mod links;
mod many;
mod maps;
mod programs;
mod publish;
mod run;
mod shield;
pub mod survey;
pub(super) mod sys;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

pub use dataplane_common::bandwidth::{Limit, Limits};
pub use dataplane_common::layout::PortCount;
use dataplane_common::{DropReason, Protocol, layout};
use ipnet::IpNet;

pub use attach::AttachMode;
pub use dataplane_common::timeout::Timeouts;
pub use error::DataplaneError;
pub use garbage::{Alarm, FlowAlarm, GcReport, Left};
pub use programs::{Log, LogLevel, ProgramInfo};
pub use run::{ProgramRun, RunContext};
pub use shield::{Device, XdpMode};

use maps::{Maps, Neighbors};
use programs::Programs;

/// How the data plane is loaded.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many flows of each address family fit. Only counts when the maps are made: pinned ones stay.
    pub max_flows: u32,
    /// What the programs log.
    pub log_level: LogLevel,
    /// How programs are attached to interfaces.
    pub attach: AttachMode,
    /// Where the shield runs.
    pub xdp: XdpMode,
    /// How long flows live without a packet.
    pub timeouts: Timeouts,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_flows: DEFAULT_MAX_FLOWS,
            log_level: LogLevel::Off,
            attach: AttachMode::Auto,
            xdp: XdpMode::Auto,
            timeouts: Timeouts::default(),
        }
    }
}

/// Flows of each address family by default: about 44 MiB of kernel memory for both.
pub const DEFAULT_MAX_FLOWS: u32 = 65_536;

/// A network, as the programs know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkConfig {
    /// Its number: 1 to 4095.
    pub slot: u16,
    /// Name of the bridge device.
    pub bridge: String,
    /// Its index.
    pub bridge_ifindex: u32,
    /// Its MAC address.
    pub bridge_mac: [u8; 6],
    /// At most one subnet of each family.
    pub subnets: Vec<IpNet>,
    /// At most one gateway address of each family.
    pub gateways: Vec<IpAddr>,
    /// Nothing goes out and nothing comes in.
    pub internal: bool,
    /// Not even the host gets in.
    pub isolated: bool,
    /// Containers may talk to each other.
    pub icc: bool,
    /// The way to and from outside over IPv4.
    pub v4: GatewayConfig,
    /// The way to and from outside over IPv6.
    pub v6: GatewayConfig,
    /// One UDP port of a container has one port outside for all destinations, and is reached there by everybody.
    pub endpoint_independent: bool,
    /// Names of interfaces through which published ports are also reached at the container's own address. They need not exist.
    pub trusted: Vec<String>,
    /// Bytes.
    pub mtu: u32,
}

/// How the containers of a network and the outside reach each other over one address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GatewayConfig {
    /// Sources are translated on the way out.
    pub masquerade: bool,
    /// To this address of the family, whatever the uplink; `None`: to the uplink's own.
    pub source: Option<IpAddr>,
    /// Every port of every container is reached at the container's own address.
    pub open: bool,
    /// Published ports and echoes are reached at the container's own address.
    pub routed: bool,
}

/// A container's interface in a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointConfig {
    /// Its number: 1 to 16383.
    pub slot: u32,
    /// The network's number.
    pub network: u16,
    /// Name of the host-side veth.
    pub ifname: String,
    /// Its index.
    pub ifindex: u32,
    /// Is the veth a port of the bridge?
    pub bridged: bool,
    /// MAC address of the container's interface.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// How fast the container may send and receive.
    pub limits: Limits,
}

/// A published port: one container port, wherever it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// Its number: 1 to 32767.
    pub slot: u32,
    /// The clients that may use it; everybody if there are none.
    pub allow_from: Vec<IpNet>,
    /// How many flows one client address may open in a second; 0: as many as it likes.
    pub rate: u32,
    /// Where it is reached.
    pub entries: Vec<PortEntry>,
}

/// An address under which a port is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortEntry {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// What clients connect to: a host address, where the unspecified one means every address of that family, or the
    /// container's own.
    pub host: IpAddr,
    /// The port there.
    pub host_port: u16,
    /// The endpoint's number.
    pub endpoint: u32,
    /// Address of the container. An IPv4 one under an IPv6 `host`: the packets change family on the way.
    pub container: IpAddr,
    /// Port in the container.
    pub container_port: u16,
}

/// A port that one endpoint may use of another one, in a network whose containers may not talk to each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkConfig {
    /// The number of the endpoint that asks.
    pub from: u32,
    /// The number of the one that answers.
    pub to: u32,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port there.
    pub port: u16,
}

/// An interface that leads out of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UplinkConfig {
    /// Name.
    pub name: String,
    /// Index.
    pub ifindex: u32,
    /// Address to masquerade IPv4 with.
    pub ipv4: Option<Ipv4Addr>,
    /// Address to masquerade IPv6 with.
    pub ipv6: Option<Ipv6Addr>,
    /// Bytes.
    pub mtu: u32,
    /// Whether another manager's network of this host is behind it.
    pub inside: bool,
    /// What kind of interface it is.
    pub device: Device,
}

/// How many packets died of one reason at one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DropCount {
    /// The endpoint's number; 0 if none can be named.
    pub endpoint: u32,
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub packets: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
}

/// The loaded programs and their maps. See the module's text.
pub struct Dataplane {
    /// `<bpffs>/v<layout>`: everything of this layout's version is pinned below.
    root: PathBuf,
    programs: Programs,
    maps: Maps,
    attach: AttachMode,
    timeouts: Timeouts,
    /// The inner maps of `NEIGHBORS` that were asked for: Linux 6.1 (emulated) takes 17 ms for each look-up there, as if it waited for an RCU
    /// grace period; 6.12 does not.
    neighbors: BTreeMap<u16, Neighbors>,
    /// Gateway addresses by network; they are the host's own from the moment the network is there.
    gateways: BTreeMap<u16, Vec<IpAddr>>,
    /// The host's other addresses, as they were last told; by an older agent, until this one knows better.
    local: BTreeSet<configure::AnyKey>,
    /// What `LOCAL_ADDRESSES` holds.
    local_known: BTreeSet<configure::AnyKey>,
    /// What `SUBNETS` holds: address and length of each prefix, and its network.
    subnets: BTreeMap<(configure::AnyKey, u32), u32>,
    /// What the maps hold of published ports, by slot.
    ports: BTreeMap<u32, publish::Port>,
    /// The inner maps of `PORT_COUNTERS` that any of them has needed, by their place.
    port_counters: BTreeMap<u32, maps::PortCounters>,
    /// How many entries in `PUBLISHED` each endpoint has.
    published: BTreeMap<u32, usize>,
    /// For which published ports programs run at the root cgroup; `None` while nobody knows.
    hooked: Option<programs::Ports>,
    /// Have addresses of ports gone, of which sockets of the host may still be known to use them? At first, nobody knows.
    unpublished: bool,
    /// The last look at the flow tables found not as many answers as originals, so the next one is closer.
    half_pairs: bool,
    /// Names of the host-side veths, by endpoint.
    veths: BTreeMap<u32, String>,
    /// Names of the bridges, by network.
    bridges: BTreeMap<u16, String>,
    /// Endpoints whose veth is no port of the bridge, with their networks.
    unbridged: BTreeMap<u32, u16>,
    /// Names of the interfaces that each network trusts.
    trusted: BTreeMap<u16, Vec<String>>,
    /// The links that the maps hold.
    links: BTreeSet<LinkConfig>,
    /// Interfaces on which our programs run as uplinks.
    uplinks: BTreeMap<u32, String>,
    shields: shield::Shields,
}

impl Dataplane {
    /// Loads the programs and makes the maps below `bpffs`, a mounted bpffs; pinned maps of the same layout are taken over
    /// with all they hold. So are programs that this build would load just the same; others that run are replaced one by one,
    /// each atomically.
    ///
    /// # Errors
    ///
    /// The kernel refuses a program or a map, or a pinned map has another shape.
    pub fn open(bpffs: &Path, options: &Options) -> Result<Self, DataplaneError> {
        let root = bpffs.join(format!("v{}", layout::VERSION));
        for folder in ["maps", "programs", "links"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).map_err(|source| DataplaneError::Pin { path, source })?;
        }
        let programs = programs::ensure(&root, options)?;
        let maps = Maps::open(&root)?;
        let local: BTreeSet<_> = maps.local_addresses.keys().filter_map(Result::ok).map(|address| address.0).collect();
        let subnets = maps.subnets.iter().filter_map(Result::ok);
        let subnets = subnets.map(|(key, network)| ((key.data().0, key.prefix_len()), network)).collect();
        let ports = publish::found(&maps);
        let links = links::found(&maps);
        let mut dataplane = Self {
            root,
            programs,
            maps,
            attach: options.attach.resolve(),
            timeouts: options.timeouts,
            neighbors: BTreeMap::new(),
            gateways: BTreeMap::new(),
            local_known: local.clone(),
            local,
            subnets,
            published: publish::by_endpoint(&ports),
            ports,
            port_counters: BTreeMap::new(),
            hooked: None,
            unpublished: true,
            half_pairs: true,
            veths: BTreeMap::new(),
            bridges: BTreeMap::new(),
            unbridged: BTreeMap::new(),
            trusted: BTreeMap::new(),
            links,
            uplinks: BTreeMap::new(),
            shields: shield::Shields::new(options.xdp),
        };
        dataplane.configure()?;
        dataplane.count_ports()?;
        dataplane.replace_running_programs()?;
        Ok(dataplane)
    }

    /// What the kernel says of each program: size and how many instructions it verified.
    pub fn programs(&self) -> Vec<ProgramInfo> {
        self.programs.infos()
    }

    /// How programs are attached to interfaces here; never [`AttachMode::Auto`].
    pub fn attach_mode(&self) -> AttachMode {
        self.attach
    }

    /// The programs' log, to be read by [`Log::forward`]; `None` when nothing is logged.
    pub fn log(&self) -> Option<Log> {
        self.programs.log()
    }

    /// How many packets died, by endpoint and reason.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn drops(&self) -> Result<Vec<DropCount>, DataplaneError> {
        let mut counts = Vec::new();
        for entry in self.maps.drops.iter() {
            let (key, values) = entry?;
            // A number that this version does not know was counted by a newer one.
            let Some(reason) = DropReason::from_number(key.reason) else { continue };
            let (packets, bytes) = values.iter().fold((0, 0), |(p, b), value| (p + value.packets, b + value.bytes));
            counts.push(DropCount { endpoint: key.endpoint, reason, packets, bytes });
        }
        counts.sort_by_key(|count| (count.endpoint, count.reason));
        Ok(counts)
    }

    /// Takes everything out of the kernel: links first, then maps.
    ///
    /// # Errors
    ///
    /// A pin cannot be removed.
    pub fn remove_all(mut self) -> Result<(), DataplaneError> {
        self.detach_all()?;
        std::fs::remove_dir_all(&self.root).map_err(|source| DataplaneError::Pin { path: self.root.clone(), source })
    }
}

#[cfg(test)]
mod tests;
