//! bpf(2), and by it how full pinned eBPF maps are, and how large: what a container leaves in a table would be seen here.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

/// Commands of bpf(2), from `linux/bpf.h`.
pub(crate) const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const OBJ_GET: libc::c_int = 7;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

/// Kinds of maps whose entries come and go.
const HASHES: [u32; 6] = [1, 5, 9, 10, 11, 13];
const ARRAY_OF_MAPS: u32 = 12;

/// The part of `union bpf_attr` that the commands here use: three or four 64-bit words.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Attributes(pub(crate) [u64; 4]);

/// Type, id, key size, value size and capacity: the beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// A pinned map, and the memory of the kernel that it takes.
#[derive(Clone, Debug)]
pub struct PinnedMap {
    /// The name of its pin.
    pub name: String,
    /// How many entries fit.
    pub max_entries: u64,
    /// Bytes, as the kernel accounts for them; with those of the maps in it.
    pub bytes: u64,
    /// How many maps are in it, if it is one of maps.
    pub inner: usize,
}

/// The map pinned at `path`; none if it is another kind of object.
pub(crate) fn pinned_map(path: &Path) -> io::Result<Option<PinnedMap>> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let object = bpf_descriptor(OBJ_GET, &mut Attributes([name.as_ptr() as u64, 0, 0, 0]))?;
    let Some(max_entries) = told(&object, "max_entries")? else { return Ok(None) };
    let mut map = PinnedMap {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        max_entries,
        bytes: told(&object, "memlock")?.unwrap_or(0),
        inner: 0,
    };
    if told(&object, "map_type")? == Some(ARRAY_OF_MAPS.into()) {
        for index in 0..max_entries as u32 {
            let mut inner = 0_u32;
            let place = [object.as_raw_fd() as u64, &raw const index as u64, &raw mut inner as u64, 0];
            match bpf(MAP_LOOKUP_ELEM, &mut Attributes(place)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                looked_up => looked_up?,
            };
            let inner = bpf_descriptor(MAP_GET_FD_BY_ID, &mut Attributes([inner.into(), 0, 0, 0]))?;
            map.bytes += told(&inner, "memlock")?.unwrap_or(0);
            map.inner += 1;
        }
    }
    Ok(Some(map))
}

/// The kernel's number of the program pinned at `path`.
pub(crate) fn program_id(path: &Path) -> io::Result<Option<u64>> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let object = bpf_descriptor(OBJ_GET, &mut Attributes([name.as_ptr() as u64, 0, 0, 0]))?;
    told(&object, "prog_id")
}

/// The numbers of the programs that run at a cgroup's hook of a type of `enum bpf_attach_type`.
pub(crate) fn programs_at(cgroup: &File, hook: u32) -> io::Result<Vec<u64>> {
    // More than a cgroup takes.
    let mut ids = [0_u32; 64];
    let target = u64::from(hook) << 32 | cgroup.as_raw_fd() as u64;
    let mut attributes = Attributes([target, 0, ids.as_mut_ptr() as u64, ids.len() as u64]);
    bpf(PROG_QUERY, &mut attributes)?;
    Ok(ids.iter().take(attributes.0[3] as u32 as usize).map(|id| u64::from(*id)).collect())
}

/// A number that the kernel tells of an object of ours.
fn told(object: &OwnedFd, field: &str) -> io::Result<Option<u64>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", object.as_raw_fd()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok());
    Ok(value)
}

/// The number of entries of the map pinned at `path`; none if it is another kind of object, or an array, which is
/// always full.
pub(crate) fn entries(path: &Path) -> io::Result<Option<usize>> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let object = bpf_descriptor(OBJ_GET, &mut Attributes([name.as_ptr() as u64, 0, 0, 0]))?;
    let descriptor = object.as_raw_fd() as u64;
    if !std::fs::read_link(format!("/proc/self/fd/{descriptor}"))?.ends_with("anon_inode:bpf-map") {
        return Ok(None);
    }
    let mut info = MapInfo::default();
    let request = (size_of::<MapInfo>() as u64) << 32 | descriptor;
    bpf(OBJ_GET_INFO_BY_FD, &mut Attributes([request, &raw mut info as u64, 0, 0]))?;
    match info.kind {
        kind if HASHES.contains(&kind) => count_keys(descriptor, &info).map(Some),
        ARRAY_OF_MAPS => count_maps(descriptor, &info).map(Some),
        _ => Ok(None),
    }
}

fn count_keys(map: u64, info: &MapInfo) -> io::Result<usize> {
    let (mut key, mut next) = (vec![0_u8; info.key_size as usize], vec![0_u8; info.key_size as usize]);
    // A null key asks for the first one.
    let mut from = 0;
    // More steps than entries would mean that the map changes faster than it is read.
    for count in 0..=info.max_entries as usize {
        match bpf(MAP_GET_NEXT_KEY, &mut Attributes([map, from, next.as_mut_ptr() as u64, 0])) {
            Ok(_) => std::mem::swap(&mut key, &mut next),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(count),
            Err(error) => return Err(error),
        }
        from = key.as_ptr() as u64;
    }
    Ok(info.max_entries as usize)
}

/// Asks for all inner maps at once: Linux 6.1 (emulated) takes 17 ms for each look-up, as if for an RCU grace period, and all who
/// ask at the same time wait for the same one; 6.12 does not wait.
fn count_maps(outer: u64, info: &MapInfo) -> io::Result<usize> {
    const ASKERS: u32 = 64;
    let has = |index: u32| {
        let mut inner = 0_u32;
        match bpf(MAP_LOOKUP_ELEM, &mut Attributes([outer, &raw const index as u64, &raw mut inner as u64, 0])) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    };
    let count = |first: u32| -> io::Result<usize> {
        (first..info.max_entries).step_by(ASKERS as usize).map(|index| has(index).map(usize::from)).sum()
    };
    thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS).map(|first| scope.spawn(move || count(first))).collect();
        askers.into_iter().map(|asker| asker.join().unwrap_or_else(|panicked| resume_unwind(panicked))).sum()
    })
}

/// Calls bpf(2) with a command that gives a descriptor.
pub(crate) fn bpf_descriptor(command: libc::c_int, attributes: &mut Attributes) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, attributes)?;
    // SAFETY: bpf(2) just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Calls bpf(2); `attributes` must hold what `command` expects, and live pointers where it expects those.
pub(crate) fn bpf(command: libc::c_int, attributes: &mut Attributes) -> io::Result<libc::c_int> {
    let (pointer, size) = (&raw mut *attributes, size_of::<Attributes>());
    // SAFETY: the callers put live pointers to large enough buffers where the command expects them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
