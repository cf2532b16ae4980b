//! The world of [`crate::plan`], built: a network namespace with the programs loaded, and what an agent does in it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use dataplane_common::fragment::{FragmentKey, Fragmented, MAX_SHELVES, Shelf};
use dataplane_common::{Flow, FlowKey, Protocol, V4, V6, layout};
use ipnet::IpNet;
use nix::mount::{MsFlags, mount as mount_fs};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use spandrel::kernel::dataplane::{
    Dataplane, Device, EndpointConfig, GatewayConfig, Limits, NetworkConfig, Options, PortConfig, PortEntry,
    UplinkConfig, XdpMode,
};
use spandrel::kernel::{mount, sysctl};

use crate::kernel::{Context, Program, Ran};
use crate::plan::{CONTAINERS, Container, Mode, NETWORKS, Network, PORTS, Port, UPLINKS, Uplink};

/// Where this thread has its BPF file system; nobody else sees it.
const BPFFS: &str = "/run/bpf";

/// Few enough to be walked through after every sequence.
const MAX_FLOWS: u32 = 256;

/// The programs that see packets.
pub(crate) const PROGRAMS: [&str; 6] =
    ["from_container", "to_container", "from_bridge", "to_bridge", "from_uplink", "to_uplink"];

/// The secret of port choice is the same in every run, so that a sequence gets the same ports.
const SECRET: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// A flow table's handle.
pub(crate) type FlowTable<A> = aya::maps::HashMap<MapData, FlowKey<A>, Flow<A>>;

/// The world.
pub(crate) struct World {
    pub(crate) dataplane: Dataplane,
    programs: HashMap<&'static str, Program>,
    pub(crate) flows4: FlowTable<V4>,
    pub(crate) flows6: FlowTable<V6>,
    embryos4: FlowTable<V4>,
    embryos6: FlowTable<V6>,
    pub(crate) counts: Array<MapData, u64>,
    endpoints: Array<MapData, layout::Endpoint>,
    port_generations: Array<MapData, u32>,
    fragmented: aya::maps::HashMap<MapData, [u8; size_of::<FragmentKey>()], [u8; size_of::<Fragmented>()]>,
    shelves: Array<MapData, [u8; size_of::<Shelf>()]>,
    shield: Program,
    indices: HashMap<String, u32>,
}

impl World {
    /// Builds it; the calling thread enters it for good. Needs root.
    pub(crate) fn build() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("only root can make namespaces");
        mount_fs(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount_fs(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        mount::ensure_bpffs(Path::new(BPFFS)).unwrap();
        sysctl::set(&["net", "ipv4", "ip_forward"], "1").unwrap();
        sysctl::set(&["net", "ipv6", "conf", "all", "forwarding"], "1").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(make_links());
        // A driver tells from which queue a packet came; without the shield in it, a veth's has none to tell.
        let options = Options { max_flows: MAX_FLOWS, xdp: XdpMode::Native, ..Options::default() };
        let dataplane = Dataplane::open(Path::new(BPFFS), &options).unwrap();
        let programs = PROGRAMS.map(|name| (name, Program::open(&program(name)).unwrap()));
        let names = CONTAINERS.map(Container::veth).into_iter().chain(NETWORKS.map(Network::bridge));
        let names = names.chain(UPLINKS.map(|uplink| uplink.name.to_owned()));
        let mut world = Self {
            dataplane,
            programs: programs.into(),
            flows4: Map::HashMap(map("FLOWS4")).try_into().unwrap(),
            flows6: Map::HashMap(map("FLOWS6")).try_into().unwrap(),
            embryos4: Map::LruHashMap(map("EMBRYOS4")).try_into().unwrap(),
            embryos6: Map::LruHashMap(map("EMBRYOS6")).try_into().unwrap(),
            counts: Map::Array(map("FLOW_COUNTS")).try_into().unwrap(),
            endpoints: Map::Array(map("ENDPOINTS")).try_into().unwrap(),
            port_generations: Map::Array(map("PORT_GENERATIONS")).try_into().unwrap(),
            fragmented: Map::LruHashMap(map("FRAGMENTED")).try_into().unwrap(),
            shelves: Map::Array(map("SHELVES")).try_into().unwrap(),
            shield: Program::open(&program("shield")).unwrap(),
            indices: names.map(|name| (name.clone(), if_nametoindex(name.as_str()).unwrap())).collect(),
        };
        let mut config: Array<_, layout::Config> = Map::Array(map("CONFIG")).try_into().unwrap();
        let told = config.get(&0, 0).unwrap();
        config.set(0, layout::Config { secret: SECRET, ..told }, 0).unwrap();
        world.tell();
        world
    }

    /// The index of an interface; 0 for none.
    pub(crate) fn index(&self, name: &str) -> u32 {
        self.indices.get(name).copied().unwrap_or(0)
    }

    /// Runs a program once.
    pub(crate) fn run(&self, program: &'static str, frame: &[u8], context: Context) -> io::Result<Option<Ran>> {
        self.programs[program].run(frame, context)
    }

    /// Does the shield drop a frame that comes in through an interface?
    pub(crate) fn shield_drops(&self, frame: &[u8], ifindex: u32) -> io::Result<bool> {
        self.shield.drops_early(frame, ifindex)
    }

    /// Tells the programs what is planned.
    fn tell(&mut self) {
        for network in NETWORKS {
            self.set_network(network);
        }
        for container in CONTAINERS {
            let config = self.endpoint_config(container);
            self.dataplane.set_endpoint(&config).unwrap();
        }
        let ports: Vec<_> = (1..).zip(PORTS).map(|(slot, port)| port_config(slot, port)).collect();
        self.dataplane.publish(&ports).unwrap();
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let local = UPLINKS.into_iter().flat_map(|uplink| [uplink.ip(false), uplink.ip(true)]).chain(loopback);
        self.dataplane.set_local_addresses(&local.collect()).unwrap();
        let uplinks = UPLINKS.map(|uplink| self.uplink_config(uplink));
        self.dataplane.set_uplinks(&uplinks).unwrap();
    }

    /// Forgets all flows and fragments.
    pub(crate) fn reset(&mut self) {
        for key in self.fragmented.keys().collect::<Result<Vec<_>, _>>().unwrap() {
            self.fragmented.remove(&key).unwrap();
        }
        for shelf in 0..MAX_SHELVES as u32 {
            self.shelves.set(shelf, [0; size_of::<Shelf>()], 0).unwrap();
        }
        clear(&mut self.flows4);
        clear(&mut self.flows6);
        clear(&mut self.embryos4);
        clear(&mut self.embryos6);
        // Slot 0 is the host's.
        for slot in 0..=CONTAINERS.len() as u32 {
            self.counts.set(slot, 0, 0).unwrap();
        }
    }

    fn set_network(&mut self, network: Network) {
        let gateway = GatewayConfig {
            masquerade: network.masquerade,
            open: network.mode == Mode::Open,
            routed: network.mode == Mode::Routed,
            ..GatewayConfig::default()
        };
        let config = NetworkConfig {
            slot: network.slot,
            bridge_ifindex: self.index(&network.bridge()),
            bridge: network.bridge(),
            bridge_mac: network.bridge_mac(),
            subnets: vec![
                format!("10.{}.0.0/24", network.slot).parse().unwrap(),
                format!("fd0{}::/64", network.slot).parse().unwrap(),
            ],
            gateways: if network.isolated { vec![] } else { vec![network.gateway(false), network.gateway(true)] },
            internal: network.internal,
            icc: network.icc,
            isolated: network.isolated,
            v4: gateway,
            v6: gateway,
            endpoint_independent: false,
            trusted: network.trusts.map(|uplink| UPLINKS[uplink].name.to_owned()).into_iter().collect(),
            mtu: 1500,
        };
        let members = CONTAINERS.into_iter().filter(|container| container.network == network.slot);
        let members: Vec<_> = members.map(|container| self.endpoint_config(container)).collect();
        self.dataplane.set_network(&config, &members).unwrap();
    }

    fn endpoint_config(&self, container: Container) -> EndpointConfig {
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (container.ip(false), container.ip(true)) else { unreachable!() };
        EndpointConfig {
            slot: container.slot,
            network: container.network,
            ifname: container.veth(),
            ifindex: self.index(&container.veth()),
            bridged: true,
            mac: container.mac(),
            ipv4: Some(v4),
            ipv6: Some(v6),
            limits: Limits::default(),
        }
    }

    fn uplink_config(&self, uplink: Uplink) -> UplinkConfig {
        UplinkConfig {
            name: uplink.name.into(),
            ifindex: self.index(uplink.name),
            ipv4: Some(uplink.v4),
            ipv6: Some(uplink.v6),
            mtu: uplink.mtu,
            inside: false,
            device: Device::Virtual,
        }
    }

    /// The container goes and comes again: all its flows end. Only generations tell the programs; that the agent takes
    /// them off their hooks meanwhile takes the kernel long and is nothing to them.
    pub(crate) fn restart(&mut self, container: Container) {
        let mut endpoint = self.endpoints.get(&container.slot, 0).unwrap();
        endpoint.generation += 1;
        self.endpoints.set(container.slot, endpoint, 0).unwrap();
        for (slot, _) in (1..).zip(PORTS).filter(|(_, port)| port.container == container.slot) {
            let generation = self.port_generations.get(&slot, 0).unwrap();
            self.port_generations.set(slot, generation + 1, 0).unwrap();
        }
    }

    /// Every flow looks up its next hop again.
    pub(crate) fn change_routes(&mut self) {
        self.dataplane.routes_changed().unwrap();
    }

    /// Flows that have ended are swept out.
    pub(crate) fn collect_garbage(&mut self) {
        self.dataplane.collect_garbage().unwrap();
    }
}

/// Removes all entries.
fn clear<A>(table: &mut FlowTable<A>)
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    let keys: Vec<_> = table.keys().filter_map(Result::ok).collect();
    for key in keys {
        table.remove(&key).unwrap();
    }
}

fn pins(kind: &str) -> PathBuf {
    Path::new(BPFFS).join(format!("v{}", layout::VERSION)).join(kind)
}

/// Where a program is pinned: in the one folder that there is.
fn program(name: &str) -> PathBuf {
    let folder = std::fs::read_dir(pins("programs")).unwrap().next().unwrap().unwrap();
    folder.path().join(name)
}

fn map(name: &str) -> MapData {
    MapData::from_pin(pins("maps").join(name)).unwrap()
}

fn port_config(slot: u32, port: Port) -> PortConfig {
    let entries = [false, true].map(|v6| PortEntry {
        protocol: Protocol(port.protocol),
        host: port.host(v6),
        host_port: port.port,
        endpoint: port.container,
        container: Container::of(port.container).ip(v6),
        container_port: port.container_port,
    });
    let allow_from = port.only.map(|uplink| UPLINKS[uplink]).map(|uplink| {
        [format!("{}/24", uplink.v4_beyond), format!("{}/48", uplink.v6_beyond)]
            .map(|net| IpNet::trunc(&net.parse().unwrap()))
    });
    PortConfig { slot, allow_from: allow_from.into_iter().flatten().collect(), rate: 0, entries: entries.into() }
}

/// Makes all interfaces. To the programs a bridge is one like any other. Only uplinks have a living far end: what is really
/// sent, which is broadcasts, gets lost.
async fn make_links() {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle.link().set(LinkUnspec::new_with_name("lo").up().build()).execute().await.unwrap();
    for name in CONTAINERS.map(Container::veth).into_iter().chain(NETWORKS.map(Network::bridge)) {
        add_link(&handle, &name).await;
    }
    for (number, uplink) in UPLINKS.into_iter().enumerate() {
        add_link(&handle, uplink.name).await;
        let far = format!("{}-far", uplink.name);
        handle.link().set(LinkUnspec::new_with_name(&far).up().build()).execute().await.unwrap();
        let index = if_nametoindex(uplink.name).unwrap();
        for v6 in [false, true] {
            let (long, short) = if v6 { (64, 48) } else { (24, 24) };
            handle.address().add(index, uplink.ip(v6), long).execute().await.unwrap();
            let (destination, length) = match (number, v6) {
                (0, false) => (Ipv4Addr::UNSPECIFIED.into(), 0),
                (0, true) => (Ipv6Addr::UNSPECIFIED.into(), 0),
                (_, false) => (IpAddr::V4(Ipv4Addr::from(u32::from(uplink.v4_beyond) & 0xffff_ff00)), short),
                (_, true) => (IpAddr::V6(Ipv6Addr::from(u128::from(uplink.v6_beyond) >> 80 << 80)), short),
            };
            let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, length).unwrap();
            let route = route.gateway(uplink.router(v6)).unwrap().build();
            handle.route().add(route).execute().await.unwrap();
        }
    }
}

async fn add_link(handle: &Handle, name: &str) {
    // An address before it is up: the kernel sends nothing by itself.
    let _ = sysctl::set(&["net", "ipv6", "conf", "default", "accept_dad"], "0");
    let link = LinkVeth::new(name, &format!("{name}-far")).up().build();
    handle.link().add(link).execute().await.unwrap();
}
