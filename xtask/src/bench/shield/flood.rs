//! A flood as a network card would bring it: the kernel itself makes the frames and hands them to a veth, whose other end takes
//! them out of a ring, many at once, as a driver does.
//!
//! bpf(2) runs a program on a packet as often as it is told (BPF_PROG_TEST_RUN), and with "live frames" does with the packet
//! what the program says. This one says: out through that interface. That costs a tenth of what a socket does.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

/// Commands of bpf(2), from `linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
/// `BPF_PROG_TYPE_XDP`.
const XDP: u32 = 6;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 1 << 1;
/// The helper `bpf_redirect`.
const REDIRECT: i32 = 23;

/// Frames that are made and handed over at once.
const BATCH: u32 = 256;
/// Frames in one system call.
const CALL: u32 = 16 * BATCH;

/// One instruction (RFC 9669 §3).
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The part of `union bpf_attr` that loading a program needs.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The part of `union bpf_attr` that running a program needs.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// Sends the same frame out of an interface, again and again.
pub(super) struct Flood {
    program: OwnedFd,
    frame: Vec<u8>,
}

impl Flood {
    /// Out of the interface with this index, which belongs to the calling thread's network namespace when it is run.
    pub(super) fn new(ifindex: u32, frame: Vec<u8>) -> io::Result<Self> {
        let number = |register: u8, immediate| Instruction { code: 0xb7, registers: register, offset: 0, immediate };
        let plain = |code, immediate| Instruction { code, registers: 0, offset: 0, immediate };
        // return bpf_redirect(ifindex, 0);
        let program = [number(1, ifindex.cast_signed()), number(2, 0), plain(0x85, REDIRECT), plain(0x95, 0)];
        let license = c"GPL";
        let attributes = Load {
            kind: XDP,
            count: program.len() as u32,
            instructions: (&raw const program).addr() as u64,
            license: license.as_ptr().addr() as u64,
        };
        let program = bpf(PROG_LOAD, &attributes)?;
        // SAFETY: bpf(2) just made this descriptor for us.
        Ok(Self { program: unsafe { OwnedFd::from_raw_fd(program) }, frame })
    }

    /// Runs until it is told to stop.
    pub(super) fn run(&self, stop: &AtomicBool) -> io::Result<()> {
        let attributes = TestRun {
            program: self.program.as_raw_fd().cast_unsigned(),
            data_size_in: self.frame.len() as u32,
            data_in: self.frame.as_ptr().addr() as u64,
            repeat: CALL,
            flags: LIVE_FRAMES,
            batch: BATCH,
            ..TestRun::default()
        };
        while !stop.load(Ordering::Relaxed) {
            bpf(PROG_TEST_RUN, &attributes)?;
        }
        Ok(())
    }
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the given size, and what it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// The smallest Ethernet frame with a UDP datagram in it, its checksum left out (RFC 768).
pub(super) fn datagram(macs: ([u8; 6], [u8; 6]), from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    const LENGTH: usize = 46;
    let mut ip = vec![0x45, 0, 0, LENGTH as u8, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum: u32 = ip.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let ports = [5000_u16, 53, (LENGTH - 20) as u16, 0].map(u16::to_be_bytes);
    let mut frame = [macs.1.as_slice(), &macs.0, &[8, 0], &ip, ports.as_flattened()].concat();
    frame.resize(14 + LENGTH, 0);
    frame
}
