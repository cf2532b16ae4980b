//! The few kernel calls that aya lacks.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `BPF_MAP_DELETE_ELEM` of `linux/bpf.h`.
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
/// `BPF_OBJ_GET`.
const BPF_OBJ_GET: libc::c_int = 7;
/// `BPF_LINK_UPDATE`.
const BPF_LINK_UPDATE: libc::c_int = 29;
/// `SO_NETNS_COOKIE` of `asm-generic/socket.h`.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// `BPF_LINK_DETACH`.
const BPF_LINK_DETACH: libc::c_int = 34;

/// The part of `union bpf_attr` that map element commands use.
#[repr(C)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
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

/// The part of `union bpf_attr` that pin commands use.
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
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
        other => other,
    }
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
}

/// Takes a link off its hook at once; closing the last descriptor does so some time later.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &(link.as_raw_fd() as u32))
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<()> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the given size; the kernel takes missing fields as zero. What
    // its fields point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Object { path: path.as_ptr().addr() as u64, fd: 0, flags: 0 };
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the given size, and the path outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw const attributes, size_of::<Object>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
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
