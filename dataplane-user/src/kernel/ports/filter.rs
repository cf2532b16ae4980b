//! The filter of sockets that only hold a port: an eBPF program that accepts no byte of any packet. All share one; a classic
//! filter would be compiled for each, which takes longer and more memory than the socket itself.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use socket2::Socket;

/// `BPF_PROG_LOAD` of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
/// `BPF_PROG_TYPE_SOCKET_FILTER`.
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
/// `BPF_ALU64 | BPF_MOV | BPF_K` with r0 and 0, then `BPF_JMP | BPF_EXIT`: the number of bytes to keep is in r0.
const RETURN_0: [u64; 2] = [0xb7_u64.to_le(), 0x95_u64.to_le()];

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` needs.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// Lets no packet through to the socket.
pub(super) fn drop_all(socket: &Socket) -> io::Result<()> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    let program = match PROGRAM.get() {
        Some(program) => program,
        None => {
            let loaded = load()?;
            PROGRAM.get_or_init(|| loaded)
        }
    };
    let number = program.as_raw_fd();
    // SAFETY: SO_ATTACH_BPF reads an int, the number of a program that stays open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            (&raw const number).cast(),
            size_of_val(&number) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn load() -> io::Result<OwnedFd> {
    let attributes = Load {
        program_type: BPF_PROG_TYPE_SOCKET_FILTER,
        instruction_count: RETURN_0.len() as u32,
        instructions: RETURN_0.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the given size; the instructions and the string outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size_of::<Load>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
