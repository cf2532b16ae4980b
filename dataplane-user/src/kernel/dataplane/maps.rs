//! Typed handles of the maps, and the check that a pinned map is what this version would make: aya takes over whatever it
//! finds under a pin's name.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::maps::{
    Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, PerCpuHashMap, RingBuf,
};
use dataplane_common::{
    Flow, FlowKey, V4, V6,
    address::AnyAddress,
    bandwidth::Limits,
    fragment::{FragmentKey, Fragmented, Shelf, Waiting},
    layout::{
        AllowedKey, Config, DropCount, DropKey, Endpoint, Interface, LinkKey, MAX_NETWORKS, MAX_PORTS, Neighbor,
        Network, PORTS_TOGETHER, PortCount, Published, PublishedKey, SocketPeer, SocketPeerKey, Tops, TrustedKey,
        Uplink,
    },
    rate::{Bucket, ClientKey},
};

use super::{
    error::DataplaneError,
    sys::{self, MapCreation},
};

/// The neighbours of one network.
pub(super) type Neighbors = HashMap<MapData, AnyAddress, Neighbor>;

/// `BPF_F_NO_PREALLOC` of `linux/bpf.h`: memory for entries that exist, not for all that might.
pub(super) const NO_PREALLOC: u32 = 1;

/// All maps that the agent reads or writes.
pub(super) struct Maps {
    pub(super) interfaces: HashMap<MapData, u32, Interface>,
    pub(super) interface_slots: Array<MapData, u32>,
    pub(super) address_slots: Array<MapData, u32>,
    pub(super) endpoints: Array<MapData, Endpoint>,
    pub(super) networks: Array<MapData, Network>,
    pub(super) neighbors: ArrayOfMaps<MapData, Neighbors>,
    /// A second handle of the same map, for what aya's type cannot do.
    pub(super) neighbors_raw: MapData,
    pub(super) subnets: LpmTrie<MapData, AnyAddress, u32>,
    pub(super) tops: Array<MapData, Tops>,
    pub(super) local_addresses: HashMap<MapData, AnyAddress, u32>,
    pub(super) published: HashMap<MapData, PublishedKey, Published>,
    pub(super) port_generations: Array<MapData, u32>,
    port_counters: ArrayOfMaps<MapData, MapData>,
    pub(super) allowed: LpmTrie<MapData, AllowedKey, u32>,
    pub(super) trusted: HashMap<MapData, TrustedKey, u32>,
    pub(super) links: HashMap<MapData, LinkKey, u32>,
    pub(super) uplinks: HashMap<MapData, u32, Uplink>,
    pub(super) limits: HashMap<MapData, u32, Limits>,
    pub(super) config: Array<MapData, Config>,
    pub(super) drops: PerCpuHashMap<MapData, DropKey, DropCount>,
    pub(super) socket_peers: HashMap<MapData, SocketPeerKey, SocketPeer>,
    pub(super) swept: Array<MapData, u32>,
    pub(super) flows4: HashMap<MapData, FlowKey<V4>, Flow<V4>>,
    pub(super) flows6: HashMap<MapData, FlowKey<V6>, Flow<V6>>,
}

/// A map as it must be: name, type, and sizes of key and value in bytes.
type Shape = (&'static str, MapType, usize, usize);

const fn shape<K, V>(name: &'static str, map_type: MapType) -> Shape {
    (name, map_type, size_of::<K>(), size_of::<V>())
}

/// Every pinned map.
const SHAPES: &[Shape] = &[
    shape::<u32, Interface>("INTERFACES", MapType::Hash),
    shape::<u32, u32>("INTERFACE_SLOTS", MapType::Array),
    shape::<u32, u32>("ADDRESS_SLOTS", MapType::Array),
    shape::<u32, Endpoint>("ENDPOINTS", MapType::Array),
    shape::<u32, u64>("FLOW_COUNTS", MapType::Array),
    shape::<u32, Network>("NETWORKS", MapType::Array),
    shape::<u32, u32>("NEIGHBORS", MapType::ArrayOfMaps),
    shape::<aya::maps::lpm_trie::Key<AnyAddress>, u32>("SUBNETS", MapType::LpmTrie),
    shape::<u32, Tops>("TOPS", MapType::Array),
    shape::<AnyAddress, u32>("LOCAL_ADDRESSES", MapType::Hash),
    shape::<PublishedKey, Published>("PUBLISHED", MapType::Hash),
    shape::<u32, u32>("PORT_GENERATIONS", MapType::Array),
    shape::<u32, u32>("PORT_COUNTERS", MapType::ArrayOfMaps),
    shape::<aya::maps::lpm_trie::Key<AllowedKey>, u32>("ALLOWED", MapType::LpmTrie),
    shape::<ClientKey, Bucket>("CLIENTS", MapType::LruHash),
    shape::<SocketPeerKey, SocketPeer>("SOCKET_PEERS", MapType::LruHash),
    shape::<TrustedKey, u32>("TRUSTED", MapType::Hash),
    shape::<LinkKey, u32>("LINKS", MapType::Hash),
    shape::<u32, Uplink>("UPLINKS", MapType::Hash),
    shape::<u32, Config>("CONFIG", MapType::Array),
    shape::<u32, Limits>("LIMITS", MapType::Hash),
    shape::<DropKey, DropCount>("DROPS", MapType::PerCpuHash),
    shape::<u32, u32>("SWEPT", MapType::Array),
    shape::<(), ()>("FLOW_ALARM", MapType::RingBuf),
    shape::<FlowKey<V4>, Flow<V4>>("FLOWS4", MapType::Hash),
    shape::<FlowKey<V6>, Flow<V6>>("FLOWS6", MapType::Hash),
    shape::<FragmentKey, Fragmented>("FRAGMENTED", MapType::LruHash),
    shape::<u32, u64>("IDENTIFICATIONS", MapType::Array),
    shape::<u32, Shelf>("SHELVES", MapType::Array),
    shape::<u32, Waiting>("WAITING", MapType::Array),
    shape::<FlowKey<V4>, Flow<V4>>("EMBRYOS4", MapType::LruHash),
    shape::<FlowKey<V6>, Flow<V6>>("EMBRYOS6", MapType::LruHash),
];

/// Where each map is pinned.
pub(super) fn pins(root: &Path) -> Vec<(&'static str, PathBuf)> {
    SHAPES.iter().map(|&(name, ..)| (name, root.join("maps").join(name))).collect()
}

/// The kernel's numbers of the pinned maps; `None` while one is missing. No two maps have the same one until the next boot.
pub(super) fn ids(root: &Path) -> Result<Option<Vec<u32>>, DataplaneError> {
    let paths = pins(root);
    if !paths.iter().all(|(_, path)| path.exists()) {
        return Ok(None);
    }
    let ids = paths.iter().map(|(_, path)| Ok(MapInfo::from_pin(path)?.id()));
    ids.collect::<Result<_, DataplaneError>>().map(Some)
}

/// Checks the maps that are pinned already.
pub(super) fn check_pins(root: &Path) -> Result<(), DataplaneError> {
    for &(name, map_type, key, value) in SHAPES {
        let path = root.join("maps").join(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path)?;
        let found = (info.map_type()?, info.key_size() as usize, info.value_size() as usize);
        if found != (map_type, key, value) {
            let describe = |(kind, key, value): (MapType, usize, usize)| {
                format!("type {kind:?}, {key}-byte keys and {value}-byte values")
            };
            return Err(DataplaneError::Shape {
                path,
                found: describe(found),
                wanted: describe((map_type, key, value)),
            });
        }
    }
    Ok(())
}

/// Removes the pins of maps that this version has no more.
pub(super) fn remove_strangers(root: &Path) -> Result<(), DataplaneError> {
    let folder = root.join("maps");
    let failed = |source| DataplaneError::Pin { path: folder.clone(), source };
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !SHAPES.iter().any(|(name, ..)| entry.file_name() == **name) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Makes the maps of maps, unless they are pinned already; aya makes all others.
pub(super) fn make_maps_of_maps(root: &Path) -> Result<(), DataplaneError> {
    let neighbors = MapCreation {
        map_type: MapType::Hash as u32,
        key_size: size_of::<AnyAddress>() as u32,
        value_size: size_of::<Neighbor>() as u32,
        max_entries: 1,
        map_flags: NO_PREALLOC,
        ..MapCreation::default()
    };
    make_map_of_maps(root, "NEIGHBORS", MAX_NETWORKS, &neighbors)?;
    make_map_of_maps(root, "PORT_COUNTERS", MAX_PORTS / PORTS_TOGETHER, &PORT_COUNTERS)
}

/// The maps in `PORT_COUNTERS`.
const PORT_COUNTERS: MapCreation = MapCreation {
    map_type: MapType::PerCpuArray as u32,
    key_size: size_of::<u32>() as u32,
    value_size: size_of::<PortCount>() as u32,
    max_entries: PORTS_TOGETHER as u32,
    map_flags: 0,
    inner_map_fd: 0,
    numa_node: 0,
    map_name: *b"port_counters\0\0\0",
};

/// aya would describe the inner maps with type information. Kernels before 6.2 then refuse inner maps without it, and those
/// that are made one by one have none.
fn make_map_of_maps(root: &Path, name: &str, entries: usize, inner: &MapCreation) -> Result<(), DataplaneError> {
    let path = root.join("maps").join(name);
    if path.exists() {
        return Ok(());
    }
    let failed = |source| DataplaneError::Host { what: format!("the map {name} cannot be made"), source };
    let inner = sys::create_map(inner).map_err(failed)?;
    let mut map_name = [0; 16];
    map_name[..name.len()].copy_from_slice(name.as_bytes());
    let outer = sys::create_map(&MapCreation {
        map_type: MapType::ArrayOfMaps as u32,
        key_size: 4,
        value_size: 4,
        max_entries: entries as u32,
        inner_map_fd: inner.as_raw_fd() as u32,
        map_name,
        ..MapCreation::default()
    })
    .map_err(failed)?;
    let pinned = MapData::from_fd(outer)?.pin(&path);
    pinned.map_err(|error| DataplaneError::Pin { path, source: io::Error::other(error) })
}

/// The counters of the ports in [`PORTS_TOGETHER`] neighbouring slots.
pub(super) struct PortCounters {
    pub(super) counters: PerCpuArray<MapData, PortCount>,
    /// A second handle of the same map, for what aya's type cannot do.
    pub(super) raw: OwnedFd,
}

impl Maps {
    /// The map at a place of `PORT_COUNTERS`; made, if there is none yet.
    pub(super) fn port_counters(&mut self, place: u32) -> Result<PortCounters, DataplaneError> {
        let failed =
            |source| DataplaneError::Host { what: "counters of published ports cannot be made".into(), source };
        let map = match self.port_counters.get(&place, 0) {
            Err(MapError::KeyNotFound) => {
                let map = MapData::from_fd(sys::create_map(&PORT_COUNTERS).map_err(failed)?)?;
                self.port_counters.set(place, &map, 0)?;
                map
            }
            found => found?,
        };
        let raw = map.fd().as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(PortCounters { counters: Map::from_map_data(map)?.try_into()?, raw })
    }

    /// Opens what is pinned.
    pub(super) fn open(root: &Path) -> Result<Self, DataplaneError> {
        let open = |name: &str| Ok::<_, DataplaneError>(Map::from_map_data(data(root, name)?)?);
        Ok(Self {
            interfaces: open("INTERFACES")?.try_into()?,
            interface_slots: open("INTERFACE_SLOTS")?.try_into()?,
            address_slots: open("ADDRESS_SLOTS")?.try_into()?,
            endpoints: open("ENDPOINTS")?.try_into()?,
            networks: open("NETWORKS")?.try_into()?,
            neighbors: open("NEIGHBORS")?.try_into()?,
            neighbors_raw: data(root, "NEIGHBORS")?,
            subnets: open("SUBNETS")?.try_into()?,
            tops: open("TOPS")?.try_into()?,
            local_addresses: open("LOCAL_ADDRESSES")?.try_into()?,
            published: open("PUBLISHED")?.try_into()?,
            port_generations: open("PORT_GENERATIONS")?.try_into()?,
            port_counters: open("PORT_COUNTERS")?.try_into()?,
            allowed: open("ALLOWED")?.try_into()?,
            trusted: open("TRUSTED")?.try_into()?,
            links: open("LINKS")?.try_into()?,
            uplinks: open("UPLINKS")?.try_into()?,
            limits: open("LIMITS")?.try_into()?,
            config: open("CONFIG")?.try_into()?,
            drops: open("DROPS")?.try_into()?,
            socket_peers: open("SOCKET_PEERS")?.try_into()?,
            swept: open("SWEPT")?.try_into()?,
            flows4: open("FLOWS4")?.try_into()?,
            flows6: open("FLOWS6")?.try_into()?,
        })
    }
}

/// Opens what tells of the first flow.
pub(super) fn flow_alarm(root: &Path) -> Result<RingBuf<MapData>, DataplaneError> {
    Ok(Map::from_map_data(data(root, "FLOW_ALARM")?)?.try_into()?)
}

fn data(root: &Path, name: &str) -> Result<MapData, DataplaneError> {
    Ok(MapData::from_pin(root.join("maps").join(name))?)
}
