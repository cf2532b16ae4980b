//! The few kernel calls that aya lacks, or makes only for what it finds in an object.

use std::{
    cell::Cell,
    ffi::CString,
    io,
    ops::Range,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::Pod;

/// `BPF_MAP_CREATE` of `linux/bpf.h`.
const BPF_MAP_CREATE: libc::c_int = 0;
/// `BPF_MAP_UPDATE_ELEM`.
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
/// `BPF_MAP_DELETE_ELEM`.
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
/// `BPF_PROG_LOAD`.
const BPF_PROG_LOAD: libc::c_int = 5;
/// `BPF_OBJ_PIN`.
const BPF_OBJ_PIN: libc::c_int = 6;
/// `BPF_OBJ_GET`.
const BPF_OBJ_GET: libc::c_int = 7;
/// `BPF_MAP_LOOKUP_BATCH`, of Linux 5.6.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
/// `BPF_MAP_UPDATE_BATCH`, of Linux 5.6; of 5.13 for per-CPU arrays.
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
/// `BPF_MAP_DELETE_BATCH`, of Linux 5.6.
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;
/// `BPF_LINK_CREATE`.
const BPF_LINK_CREATE: libc::c_int = 28;
/// `BPF_LINK_UPDATE`.
const BPF_LINK_UPDATE: libc::c_int = 29;
/// `BPF_LINK_DETACH`.
const BPF_LINK_DETACH: libc::c_int = 34;
/// The attach type `BPF_SK_LOOKUP`.
pub(in crate::kernel) const BPF_SK_LOOKUP: u32 = 36;
/// The attach type `BPF_XDP`.
const BPF_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE` of `linux/if_link.h`.
pub(super) const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
pub(super) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// `SO_NETNS_COOKIE` of `asm-generic/socket.h`.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The part of `union bpf_attr` that `BPF_MAP_CREATE` uses.
#[repr(C)]
#[derive(Default)]
pub(in crate::kernel) struct MapCreation {
    pub(in crate::kernel) map_type: u32,
    pub(in crate::kernel) key_size: u32,
    pub(in crate::kernel) value_size: u32,
    pub(in crate::kernel) max_entries: u32,
    pub(in crate::kernel) map_flags: u32,
    /// Descriptor of a map that is like those inside.
    pub(in crate::kernel) inner_map_fd: u32,
    pub(in crate::kernel) numa_node: u32,
    /// Ends with a zero.
    pub(in crate::kernel) map_name: [u8; 16],
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` uses.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

/// The part of `union bpf_attr` that map element commands use.
#[repr(C)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that batch commands use.
#[repr(C)]
struct MapBatch {
    /// The key before the first; none here.
    in_batch: u64,
    /// The last key.
    out_batch: u64,
    keys: u64,
    values: u64,
    /// How many there is room for; the kernel writes how many there were.
    count: Cell<u32>,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that `BPF_LINK_UPDATE` uses.
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_program_fd: u32,
    flags: u32,
    old_program_fd: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` uses.
#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    /// Number of an interface, or descriptor of a namespace.
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that pin commands use.
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Makes a map; aya makes one of maps only from what it finds in an object.
pub(in crate::kernel) fn create_map(attributes: &MapCreation) -> io::Result<OwnedFd> {
    bpf_fd(BPF_MAP_CREATE, attributes)
}

/// Sets an element of an array whose values are descriptors.
pub(in crate::kernel) fn set_descriptor(map: BorrowedFd<'_>, index: u32, value: BorrowedFd<'_>) -> io::Result<()> {
    let value = value.as_raw_fd() as u32;
    let attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const index).addr() as u64,
        value: (&raw const value).addr() as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &attributes).map(drop)
}

/// The values at these places, which there are, of a map that is an array of `V`. aya asks for one at a time.
pub(super) fn array_values<V: Pod>(map: BorrowedFd<'_>, places: Range<u32>) -> io::Result<Vec<V>> {
    let count = places.len();
    let mut keys = vec![0_u32; count];
    let (before, mut last) = (places.start.checked_sub(1), 0_u32);
    let mut values = Vec::<V>::with_capacity(count);
    let attributes = MapBatch {
        // It begins behind that place.
        in_batch: before.as_ref().map_or(0, |place: &u32| std::ptr::from_ref(place).addr() as u64),
        out_batch: (&raw mut last).addr() as u64,
        keys: keys.as_mut_ptr().addr() as u64,
        values: values.as_mut_ptr().addr() as u64,
        count: Cell::new(count as u32),
        map_fd: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    bpf(BPF_MAP_LOOKUP_BATCH, &attributes)?;
    // SAFETY: the kernel has written that many values; they are as large as the map's, and any bytes make a `V`.
    unsafe { values.set_len(attributes.count.get() as usize) };
    Ok(values)
}

/// Entries of a hash that are read in one call.
const READ_AT_ONCE: usize = 4096;

/// Hands all entries of a map that is a hash of `K` to `V` to `visit`, in no order. What comes or goes meanwhile is handed over or not.
/// aya needs two calls an entry for that.
pub(super) fn for_each_entry<K: Pod, V: Pod>(map: BorrowedFd<'_>, mut visit: impl FnMut(K, V)) -> io::Result<()> {
    // The kernel's place in the map: a bucket, which is given out whole.
    let (mut place, mut next) = (None, 0_u32);
    let mut room = READ_AT_ONCE;
    let (mut keys, mut values) = (Vec::<K>::with_capacity(room), Vec::<V>::with_capacity(room));
    loop {
        let attributes = MapBatch {
            in_batch: place.as_ref().map_or(0, |place: &u32| std::ptr::from_ref(place).addr() as u64),
            out_batch: (&raw mut next).addr() as u64,
            keys: keys.as_mut_ptr().addr() as u64,
            values: values.as_mut_ptr().addr() as u64,
            count: Cell::new(room as u32),
            map_fd: map.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        let result = bpf(BPF_MAP_LOOKUP_BATCH, &attributes);
        let last = match result.map_err(|error| error.raw_os_error()) {
            Ok(_) => false,
            Err(Some(libc::ENOENT)) => true,
            // A bucket with more than that.
            Err(Some(libc::ENOSPC)) => {
                room *= 2;
                keys.reserve(room);
                values.reserve(room);
                continue;
            }
            Err(errno) => return Err(errno.map_or_else(io::Error::last_os_error, io::Error::from_raw_os_error)),
        };
        // SAFETY: the kernel has written that many of both, there was room for them, and any bytes make a `K` and a `V`.
        unsafe {
            keys.set_len(attributes.count.get() as usize);
            values.set_len(attributes.count.get() as usize);
        }
        keys.drain(..).zip(values.drain(..)).for_each(|(key, value)| visit(key, value));
        if last {
            return Ok(());
        }
        place = Some(next);
    }
}

/// Sets elements of a map, in order, each whatever it was: as many values a key as the map has (a per-CPU map has one for each possible
/// CPU). Returns how many were set, and what came of the rest.
pub(super) fn update_batch<K: Pod, V: Pod>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> (usize, io::Result<()>) {
    batch(BPF_MAP_UPDATE_BATCH, map, keys, values.as_ptr().addr())
}

/// Removes elements of a map, in order, up to the first that is not there. Returns how many were removed, and what came of the rest.
pub(super) fn delete_batch<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> (usize, io::Result<()>) {
    batch(BPF_MAP_DELETE_BATCH, map, keys, 0)
}

fn batch<K: Pod>(command: libc::c_int, map: BorrowedFd<'_>, keys: &[K], values: usize) -> (usize, io::Result<()>) {
    if keys.is_empty() {
        return (0, Ok(()));
    }
    let attributes = MapBatch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr().addr() as u64,
        values: values as u64,
        count: Cell::new(keys.len() as u32),
        map_fd: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    let result = bpf(command, &attributes).map(drop);
    let done = match (attributes.count.get() as usize, &result) {
        // It was refused as a whole.
        (all, Err(_)) if all == keys.len() => 0,
        (done, _) => done,
    };
    (done, result)
}

/// Loads a program that is written in instructions.
pub(in crate::kernel) fn load_program(
    program_type: u32,
    attach_type: u32,
    instructions: &[u64],
) -> io::Result<OwnedFd> {
    let attributes = ProgramLoad {
        program_type,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        ifindex: 0,
        attach_type,
    };
    bpf_fd(BPF_PROG_LOAD, &attributes)
}

/// Makes a program run in a network namespace.
pub(in crate::kernel) fn create_netns_link(
    program: BorrowedFd<'_>,
    netns: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let (program_fd, target) = (program.as_raw_fd() as u32, netns.as_raw_fd() as u32);
    bpf_fd(BPF_LINK_CREATE, &LinkCreate { program_fd, target, attach_type, flags: 0 })
}

/// Removes an element of an array of maps, which aya can only set. Absent is fine.
pub(super) fn delete_inner_map(outer: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let attributes = MapElement {
        map_fd: outer.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const index).addr() as u64,
        value: 0,
        flags: 0,
    };
    match bpf(BPF_MAP_DELETE_ELEM, &attributes) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(drop),
    }
}

/// Makes an XDP program run at an interface, in the mode of an `XDP_FLAGS_…_MODE`. aya would try another way where the kernel finds
/// the request invalid, and take over no link of that kind.
pub(super) fn create_xdp_link(program: BorrowedFd<'_>, ifindex: u32, mode: u32) -> io::Result<OwnedFd> {
    let attributes =
        LinkCreate { program_fd: program.as_raw_fd() as u32, target: ifindex, attach_type: BPF_XDP, flags: mode };
    bpf_fd(BPF_LINK_CREATE, &attributes)
}

/// Gives a link another program, atomically.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(
        BPF_LINK_UPDATE,
        &LinkUpdate {
            link_fd: link.as_raw_fd() as u32,
            new_program_fd: program.as_raw_fd() as u32,
            flags: 0,
            old_program_fd: 0,
        },
    )
    .map(drop)
}

/// Takes a link off its hook at once; closing the last descriptor does so some time later.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &(link.as_raw_fd() as u32)).map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i64> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the given size; the kernel takes missing fields as zero. What
    // its fields point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for a command that makes a descriptor.
fn bpf_fd<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Pins what a descriptor stands for at `path`.
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(BPF_OBJ_PIN, &Object { path: path.as_ptr().addr() as u64, fd: fd.as_raw_fd() as u32, flags: 0 }).map(drop)
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf_fd(BPF_OBJ_GET, &Object { path: path.as_ptr().addr() as u64, fd: 0, flags: 0 })
}

/// The cookie of the calling thread's network namespace: what `bpf_get_netns_cookie` returns there.
pub(super) fn netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the buffer is eight bytes, as `len` says.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}
