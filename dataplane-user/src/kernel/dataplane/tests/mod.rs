//! Programs tested through BPF_PROG_TEST_RUN: packet in, verdict and packet out. Needs root.
//!
//! The host of these tests has two networks, three containers and one uplink (see [`Host`]). Nothing is really sent: a
//! redirect is only told, which is all that a program does.

mod attaching;
mod bandwidth;
mod containers;
mod crossing;
mod flows;
mod fragments;
mod links;
mod mapping;
mod modes;
mod neighbors;
mod packets;
mod publishing;
mod reasons;
mod rewrites;
mod shield;
mod stack;
mod timers;
mod unbridged;

use std::{fs::File, future::Future, os::fd::AsRawFd as _, path::PathBuf, sync::Mutex};

use aya::maps::{Array, HashMap, Map, MapData};
use dataplane_common::{
    DropReason, Flow, FlowKey, Protocol, V4, V6,
    fragment::{FragmentKey, Fragmented, MAX_SHELVES, Shelf},
    rate::{Bucket, ClientKey},
};
use rtnetlink::LinkVeth;

use super::*;
use crate::kernel::{NetNs, Netlink, mount, netns, sysctl};
use packets::Family;

/// TC actions of `linux/pkt_cls.h`.
const NEXT: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

const A: u32 = 1;
const B: u32 = 2;
const C: u32 = 3;

/// MAC address of the container in a slot.
fn mac(slot: u32) -> [u8; 6] {
    [2, 0x42, 0, 0, 0, slot as u8]
}

/// MAC address of a network's bridge.
fn bridge_mac(network: u16) -> [u8; 6] {
    [2, 0x42, 1, 0, 0, network as u8]
}

/// A host in a network namespace of its own, with a bpffs of its own; both end with the process, since nothing is mounted anywhere:
/// containers A (10.1.0.2, fd01::2) and B (.3) on network 1, C (10.2.0.2, fd02::2)
/// on network 2, gateways `.1`, an uplink with 192.0.2.1 and 2001:db8::1 and a default route.
struct Host {
    netns: NetNs,
    bpffs: File,
}

/// Benches that no test uses now. To verify all programs takes longer than most tests, in emulated machines above all.
static IDLE: Mutex<Vec<(Host, Bench)>> = Mutex::new(Vec::new());

/// A host with everything set up that other tests have used before, or a new one.
fn idle() -> (Host, Bench) {
    let idle = IDLE.lock().unwrap().pop();
    idle.unwrap_or_else(|| {
        let host = Host::new();
        let bench = host.inside(async |netlink| Bench::with(&host.bpffs(), &netlink, &Options::default()).await);
        (host, bench)
    })
}

/// Runs a test inside a host, with everything set up. Other tests have used the host before, or will.
fn on_bench<T: Send>(test: impl FnOnce(&mut Bench) -> T + Send) -> T {
    let (host, mut bench) = idle();
    // Who panics here takes both along.
    let result = host.inside(async |_| {
        let result = test(&mut bench);
        bench.start_anew();
        result
    });
    IDLE.lock().unwrap().push((host, bench));
    result
}

/// The same for a test that opens the data plane by itself, and all interfaces are there when it ends, if not the same ones.
fn on_host(test: impl FnOnce(&Host)) {
    let (host, bench) = idle();
    drop(bench);
    test(&host);
    let bench = host.inside(async |netlink| {
        let mut bench = Bench::open(&host.bpffs(), &netlink, &Options::default()).await;
        bench.start_anew();
        bench
    });
    IDLE.lock().unwrap().push((host, bench));
}

/// What a test works with: the data plane and the numbers of the interfaces.
struct Bench {
    dataplane: Dataplane,
    veths: [u32; 4],
    bridges: [u32; 3],
    uplink: u32,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [netns, bpffs] = ["host", "bpf"].map(|name| folder.path().join(name));
        mount::ensure_bpffs(&bpffs).unwrap();
        let host = Self { netns: NetNs::create(&netns).unwrap(), bpffs: File::open(&bpffs).unwrap() };
        netns::delete(&netns).unwrap();
        mount::unmount(&bpffs).unwrap();
        host
    }

    fn bpffs(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.bpffs.as_raw_fd()).into()
    }

    /// Runs something inside the host, whose interfaces are there, as an agent that has just started.
    fn run<T: Send>(&self, test: impl FnOnce(&mut Bench) -> T + Send) -> T {
        self.inside(async |netlink| test(&mut Bench::again(&self.bpffs(), &netlink, &Options::default()).await))
    }

    fn inside<T: Send, F: Future<Output = T>>(&self, test: impl FnOnce(Netlink) -> F + Send) -> T {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { test(Netlink::open().unwrap()).await })
        };
        self.netns.run(work).unwrap()
    }
}

impl Bench {
    /// Makes the interfaces, then opens the data plane and tells it all.
    async fn with(bpffs: &Path, netlink: &Netlink, options: &Options) -> Self {
        sysctl::set(&["net", "ipv4", "ip_forward"], "1").unwrap();
        sysctl::set(&["net", "ipv6", "conf", "all", "forwarding"], "1").unwrap();
        for slot in [A, B, C] {
            pair(netlink, &veth_name(slot)).await;
        }
        // To the programs a bridge is an interface like any other.
        for network in [1, 2] {
            pair(netlink, &bridge_name(network)).await;
        }
        pair(netlink, "up0").await;
        let link = netlink.link("up0").await.unwrap().unwrap();
        let addresses = ["192.0.2.1/24", "2001:db8::1/64"].map(|address| address.parse().unwrap());
        netlink.set_addresses(&link, &addresses).await.unwrap();
        let gateways = ["192.0.2.254", "2001:db8::ffff"].map(|address| address.parse().unwrap());
        netlink.set_default_routes(&link, &gateways).await.unwrap();
        Self::again(bpffs, netlink, options).await
    }

    /// Opens the data plane and tells it all, as an agent does when it starts.
    async fn again(bpffs: &Path, netlink: &Netlink, options: &Options) -> Self {
        let mut bench = Self::open(bpffs, netlink, options).await;
        bench.tell_all();
        bench
    }

    /// Opens the data plane and tells it nothing yet.
    async fn open(bpffs: &Path, netlink: &Netlink, options: &Options) -> Self {
        let mut veths = [0; 4];
        let mut bridges = [0; 3];
        let index = async |name: &str| netlink.link(name).await.unwrap().unwrap().ifindex;
        for slot in [A, B, C] {
            veths[slot as usize] = index(&veth_name(slot)).await;
        }
        for network in [1, 2] {
            bridges[usize::from(network)] = index(&bridge_name(network)).await;
        }
        let uplink = index("up0").await;
        Self { dataplane: Dataplane::open(bpffs, options).unwrap(), veths, bridges, uplink }
    }

    fn tell_all(&mut self) {
        for network in [1, 2] {
            let config = self.network(network);
            self.dataplane.set_network(&config, &[]).unwrap();
        }
        for slot in [A, B, C] {
            let config = self.endpoint(slot);
            self.dataplane.set_endpoint(&config).unwrap();
        }
        let local = ["192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"].map(|address| address.parse().unwrap());
        self.dataplane.set_local_addresses(&local.into()).unwrap();
        self.dataplane.set_uplinks(&[self.uplink()]).unwrap();
    }

    /// Forgets all that a test has told and sent.
    fn start_anew(&mut self) {
        // Links stay where they will be wanted again: the kernel takes its time to undo them.
        self.dataplane.retain(&[1, 2].into(), &[A, B, C].into(), &[].into()).unwrap();
        self.dataplane.set_links(&[].into()).unwrap();
        const KEYS: [usize; 2] = [size_of::<FlowKey<V4>>(), size_of::<FlowKey<V6>>()];
        const FLOWS: [usize; 2] = [size_of::<Flow<V4>>(), size_of::<Flow<V6>>()];
        for name in ["FLOWS4", "EMBRYOS4"] {
            self.remove_all_from::<{ KEYS[0] }, { FLOWS[0] }>(name);
        }
        for name in ["FLOWS6", "EMBRYOS6"] {
            self.remove_all_from::<{ KEYS[1] }, { FLOWS[1] }>(name);
        }
        self.remove_all_from::<{ size_of::<FragmentKey>() }, { size_of::<Fragmented>() }>("FRAGMENTED");
        self.remove_all_from::<{ size_of::<ClientKey>() }, { size_of::<Bucket>() }>("CLIENTS");
        self.fill_with_zeroes::<{ size_of::<Shelf>() }>("SHELVES", MAX_SHELVES as u32);
        self.fill_with_zeroes::<{ size_of::<u64>() }>("FLOW_COUNTS", C + 1);
        let drops = &mut self.dataplane.maps.drops;
        for key in drops.keys().collect::<Result<Vec<_>, _>>().unwrap() {
            drops.remove(&key).unwrap();
        }
        self.tell_all();
    }

    /// Removes all entries of a hash map with keys of `K` bytes and values of `V` bytes.
    fn remove_all_from<const K: usize, const V: usize>(&self, name: &str) {
        let mut map = HashMap::<_, [u8; K], [u8; V]>::try_from(self.map(name)).unwrap();
        for key in map.keys().collect::<Result<Vec<_>, _>>().unwrap() {
            map.remove(&key).unwrap();
        }
    }

    /// Makes the first elements of an array with values of `V` bytes what they were at first.
    fn fill_with_zeroes<const V: usize>(&self, name: &str, count: u32) {
        let mut map = Array::<_, [u8; V]>::try_from(self.map(name)).unwrap();
        (0..count).for_each(|index| map.set(index, [0; V], 0).unwrap());
    }

    fn map(&self, name: &str) -> Map {
        Map::from_map_data(MapData::from_pin(self.dataplane.root.join("maps").join(name)).unwrap()).unwrap()
    }

    fn uplink(&self) -> UplinkConfig {
        UplinkConfig {
            name: "up0".into(),
            ifindex: self.uplink,
            ipv4: Some("192.0.2.1".parse().unwrap()),
            ipv6: Some("2001:db8::1".parse().unwrap()),
            mtu: 1500,
            inside: false,
            device: Device::Virtual,
        }
    }

    fn network(&self, slot: u16) -> NetworkConfig {
        let family = |text: String| text.parse().unwrap();
        NetworkConfig {
            slot,
            bridge: bridge_name(slot),
            bridge_ifindex: self.bridges[usize::from(slot)],
            bridge_mac: bridge_mac(slot),
            subnets: vec![format!("10.{slot}.0.0/24").parse().unwrap(), format!("fd0{slot}::/64").parse().unwrap()],
            gateways: vec![family(format!("10.{slot}.0.1")), family(format!("fd0{slot}::1"))],
            internal: false,
            isolated: false,
            icc: true,
            v4: GatewayConfig { masquerade: true, ..GatewayConfig::default() },
            v6: GatewayConfig { masquerade: true, ..GatewayConfig::default() },
            endpoint_independent: false,
            trusted: Vec::new(),
            mtu: 1500,
        }
    }

    fn endpoint(&self, slot: u32) -> EndpointConfig {
        let network = if slot == C { 2 } else { 1 };
        let host = if slot == B { 3 } else { 2 };
        EndpointConfig {
            slot,
            network,
            ifname: veth_name(slot),
            ifindex: self.veths[slot as usize],
            bridged: true,
            mac: mac(slot),
            ipv4: Some(format!("10.{network}.0.{host}").parse().unwrap()),
            ipv6: Some(format!("fd0{network}::{host}").parse().unwrap()),
            limits: Limits::default(),
        }
    }

    /// A port of A's, published on every address of the host.
    fn port(family: Family, host_port: u16, container_port: u16) -> PortConfig {
        let entry = PortEntry {
            protocol: Protocol::TCP,
            host: family.any(),
            host_port,
            endpoint: A,
            container: family.a(),
            container_port,
        };
        PortConfig { slot: port_slot(family, host_port), allow_from: vec![], rate: 0, entries: vec![entry] }
    }

    /// A container sends.
    fn sends(&mut self, slot: u32, frame: &[u8]) -> ProgramRun {
        let at = self.veths[slot as usize];
        self.at("from_container", frame, at, at)
    }

    /// A packet comes in through the uplink.
    fn arrives(&mut self, frame: &[u8]) -> ProgramRun {
        let at = self.uplink;
        self.at("from_uplink", frame, at, at)
    }

    /// A program sees a frame at an interface, after it came into the host through another.
    fn at(&mut self, program: &'static str, frame: &[u8], ifindex: u32, ingress_ifindex: u32) -> ProgramRun {
        let context = RunContext { ifindex, ingress_ifindex, ..RunContext::default() };
        self.dataplane.run_program(program, frame, &context).unwrap()
    }

    /// How many packets died of a reason at an endpoint.
    fn drops(&self, endpoint: u32, reason: DropReason) -> u64 {
        let counts = self.dataplane.drops().unwrap();
        counts
            .iter()
            .find(|count| (count.endpoint, count.reason) == (endpoint, reason))
            .map_or(0, |count| count.packets)
    }

    /// Asserts that a container's packet dies of `reason`, and is counted.
    fn dies(&mut self, slot: u32, frame: &[u8], reason: DropReason) {
        let before = self.drops(slot, reason);
        assert_eq!(self.sends(slot, frame).verdict, SHOT, "{reason:?}");
        assert_eq!(self.drops(slot, reason), before + 1, "{reason:?} is counted once");
    }
}

/// The slot of [`Bench::port`].
fn port_slot(family: Family, host_port: u16) -> u32 {
    1 + 2 * u32::from(host_port % 16_000) + u32::from(family.any().is_ipv6())
}

fn veth_name(slot: u32) -> String {
    format!("veth{slot}")
}

fn bridge_name(slot: u16) -> String {
    format!("br{slot}")
}

/// Makes a pair of interfaces, both up; the first one's index.
async fn pair(netlink: &Netlink, name: &str) -> u32 {
    let pair = LinkVeth::new(name, &format!("{name}-peer")).up().build();
    netlink.handle.link().add(pair).execute().await.unwrap();
    netlink.link(name).await.unwrap().unwrap().ifindex
}

#[test]
fn every_program_loads_and_stays_within_its_budget() {
    // A fifth of what the kernel allows: room to grow, and a warning before it is gone.
    const BUDGET: u32 = 200_000;
    on_bench(|bench| {
        let programs = bench.dataplane.programs();
        assert_eq!(programs.len(), 19);
        for program in programs {
            let verified = program.verified_instructions.unwrap_or_default();
            // `cargo xtask test --kernels` makes a table of these lines.
            println!("verified {} {verified}", program.name);
            assert!(verified < BUDGET, "{}: {verified} verified instructions", program.name);
        }
    });
}
