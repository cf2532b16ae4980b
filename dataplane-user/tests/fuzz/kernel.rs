//! bpf(2) and /dev/kmsg, as far as the fuzzer needs them.
//!
//! Programs are run here and not by `Dataplane::run_program`: aya passes no flags, and one of them has the kernel treat the
//! packet as one whose checksum a network card has summed up, and see whether the sum is right afterwards, too.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Commands of bpf(2).
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;

/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE` of `linux/bpf.h`.
const CHECKSUM_COMPLETE: u32 = 1 << 2;

/// Byte offsets in `struct __sk_buff`, and its size.
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;
const GSO_SIZE: usize = 176;
const SK_BUFF_LEN: usize = 192;

/// How much longer a frame may come out than it went in before the kernel refuses to show it.
const ROOM: usize = 512;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` uses.
#[repr(C)]
struct ObjectGet {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_TEST_RUN` uses.
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
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// Where a frame is, as the program sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Context {
    pub(crate) ifindex: u32,
    pub(crate) ingress_ifindex: u32,
    pub(crate) gso_size: u32,
    /// Has a network card summed the packet up?
    pub(crate) summed: bool,
}

/// What a program made of a frame.
pub(crate) struct Ran {
    pub(crate) verdict: i32,
    pub(crate) frame: Vec<u8>,
}

/// A loaded program.
pub(crate) struct Program(OwnedFd);

impl Program {
    /// The one that is pinned at `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attributes = ObjectGet { path: path.as_ptr().addr() as u64, descriptor: 0, flags: 0 };
        let descriptor = bpf(BPF_OBJ_GET, &raw const attributes)?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Runs it once. `None`: the kernel takes no such frame, since a header is cut short.
    ///
    /// # Errors
    ///
    /// `EBADMSG`: the card's sum no longer fits the packet.
    pub(crate) fn run(&self, frame: &[u8], context: Context) -> io::Result<Option<Ran>> {
        let mut out = vec![0; frame.len() + ROOM];
        let mut sk_buff = [0; SK_BUFF_LEN];
        for (at, value) in
            [(IFINDEX, context.ifindex), (INGRESS_IFINDEX, context.ingress_ifindex), (GSO_SIZE, context.gso_size)]
        {
            sk_buff[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let mut attributes = TestRun {
            program: self.0.as_raw_fd().cast_unsigned(),
            data_size_in: frame.len() as u32,
            data_size_out: out.len() as u32,
            data_in: frame.as_ptr().addr() as u64,
            data_out: out.as_mut_ptr().addr() as u64,
            repeat: 1,
            ctx_size_in: SK_BUFF_LEN as u32,
            ctx_in: sk_buff.as_ptr().addr() as u64,
            flags: if context.summed { CHECKSUM_COMPLETE } else { 0 },
            ..TestRun::default()
        };
        match bpf(BPF_PROG_TEST_RUN, &raw mut attributes) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => {
                out.truncate(attributes.data_size_out as usize);
                Ok(Some(Ran { verdict: attributes.result.cast_signed(), frame: out }))
            }
        }
    }
}

impl Program {
    /// Runs an XDP program once, on a frame that comes in through an interface. Does it drop it?
    pub(crate) fn drops_early(&self, frame: &[u8], ifindex: u32) -> io::Result<bool> {
        /// `enum xdp_action` of `linux/bpf.h`.
        const XDP_DROP: u32 = 1;
        const XDP_PASS: u32 = 2;
        // struct xdp_md: data, its end, metadata, interface, queue, interface of the way out.
        let context = [0, frame.len() as u32, 0, ifindex, 0, 0];
        let mut out = vec![0; frame.len()];
        let mut attributes = TestRun {
            program: self.0.as_raw_fd().cast_unsigned(),
            data_size_in: frame.len() as u32,
            data_size_out: out.len() as u32,
            data_in: frame.as_ptr().addr() as u64,
            data_out: out.as_mut_ptr().addr() as u64,
            repeat: 1,
            ctx_size_in: size_of_val(&context) as u32,
            ctx_in: context.as_ptr().addr() as u64,
            ..TestRun::default()
        };
        bpf(BPF_PROG_TEST_RUN, &raw mut attributes)?;
        match attributes.result {
            XDP_DROP => Ok(true),
            XDP_PASS if out == frame => Ok(false),
            XDP_PASS => Err(io::Error::other("the shield changes a frame")),
            other => Err(io::Error::other(format!("the shield says {other}"))),
        }
    }
}

fn bpf<T>(command: libc::c_int, attributes: *const T) -> io::Result<libc::c_int> {
    // SAFETY: every caller passes a prefix of `union bpf_attr` that belongs to the command, and what its fields point to
    // outlives the call; the kernel takes missing fields as zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// The kernel's log from a moment on.
pub(crate) struct KernelLog(File);

impl KernelLog {
    /// From now on.
    pub(crate) fn open() -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// What the kernel has complained of since the last call.
    pub(crate) fn complaints(&mut self) -> io::Result<Vec<String>> {
        const WORDS: [&str; 6] = ["WARNING:", "BUG:", "Oops", "hw csum failure", "KASAN", "general protection"];
        let mut complaints = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]).into_owned();
                    if WORDS.iter().any(|word| text.contains(word)) {
                        complaints.push(text);
                    }
                }
                // Records were overwritten before we came.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(complaints),
                Err(error) => return Err(error),
            }
        }
    }
}
