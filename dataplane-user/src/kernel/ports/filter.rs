//! The filter of sockets that only hold a port: an eBPF program that accepts no byte of any packet. All share one; a classic
//! filter would be compiled for each, which takes longer and more memory than the socket itself.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use socket2::Socket;

use super::super::dataplane::sys::load_program;

/// `BPF_PROG_TYPE_SOCKET_FILTER`.
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
/// `BPF_ALU64 | BPF_MOV | BPF_K` with r0 and 0, then `BPF_JMP | BPF_EXIT`: the number of bytes to keep is in r0.
const RETURN_0: [u64; 2] = [0xb7_u64.to_le(), 0x95_u64.to_le()];

/// Lets no packet through to the socket.
pub(super) fn drop_all(socket: &Socket) -> io::Result<()> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    let program = match PROGRAM.get() {
        Some(program) => program,
        None => {
            let loaded = load_program(BPF_PROG_TYPE_SOCKET_FILTER, 0, &RETURN_0)?;
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
