//! Is the transport checksum of a packet right? Asked only of packets that would open a flow: a wrong one must not (what comes
//! later on a flow keeps its wrong checksum, and the receiver drops it).

use core::{arch::asm, ffi::c_void, ptr};

use aya_ebpf::{
    btf_maps::PerCpuArray,
    helpers::generated::{bpf_csum_diff, bpf_loop, bpf_skb_load_bytes},
    macros::btf_map,
};
use dataplane_common::{
    Protocol,
    checksum::fold,
    wire::{Frame as _, Header, Kind, Packet, ethernet, icmp, transport},
};

use crate::{make::Make, skb::Skb};

/// Bytes that are summed at a time; `bpf_csum_diff` takes 512 at most.
const CHUNK: usize = 256;
/// Enough steps for the largest packet.
const STEPS: u32 = 65_536 / CHUNK as u32;

/// Each CPU's memory for a part of the packet; in words, since that is how it is cleared then.
#[btf_map]
static BUFFER: PerCpuArray<[u64; CHUNK / 8], 1> = PerCpuArray::new();

/// A sum on its way through the packet.
struct Sum {
    skb: *mut aya_ebpf::bindings::__sk_buff,
    at: u32,
    left: u32,
    sum: u32,
}

/// A checksum field alone; raw.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Field(u16);

// SAFETY: an integer: no padding, any bits are valid.
unsafe impl Header for Field {}

/// Tells whether the packet's transport checksum is right, or left to a network card, or cannot be known: there is none, or only
/// a part of the packet is there. A function of its own for its stack.
#[inline(never)]
pub fn is_right<A: Make>(skb: &Skb<'_>, packet: &Packet<A>) -> bool {
    let at = u32::from(packet.transport);
    let field = match packet.kind {
        Kind::Tcp => transport::TCP_CHECKSUM,
        Kind::Udp if !packet.unsummed => transport::UDP_CHECKSUM,
        Kind::EchoRequest => icmp::CHECKSUM,
        _ => return true,
    };
    if skb.gso_size() != 0 || !packet.part.is_whole() {
        return true;
    }
    let len = (u32::from(packet.length) + ethernet::LEN as u32).wrapping_sub(at);
    let Some(Field(field)) = skb.load::<Field>(packet.transport as usize + field) else { return false };
    let mut pseudo = 0;
    if packet.protocol != Protocol::ICMP {
        // RFC 9293 §3.1, RFC 8200 §8.1: addresses, protocol and length.
        let zero = A::UNSPECIFIED;
        pseudo = fold(
            u64::from(zero.difference(packet.source).sum())
                + u64::from(zero.difference(packet.destination).sum())
                + u64::from(u32::from(packet.protocol.0).to_be())
                + u64::from(len.to_be()),
        );
    }
    // A network card is to do it: the field holds the sum of the pseudo-header alone.
    if field == pseudo && pseudo != 0 {
        return true;
    }
    let mut sum = Sum { skb: skb.as_ptr(), at, left: len, sum: 0 };
    // A loop of the language would be walked through by the verifier step by step.
    // SAFETY: the callback has the signature that the helper calls, and `sum` outlives the call.
    unsafe { bpf_loop(STEPS, add as *mut c_void, (&raw mut sum).cast(), 0) };
    sum.left == 0 && fold(u64::from(sum.sum) + u64::from(pseudo)) == u16::MAX
}

/// Adds one chunk; returns 1 when there is no more.
unsafe extern "C" fn add(_: u32, sum: *mut Sum) -> i64 {
    // SAFETY: `is_right` passes this, and it outlives the loop.
    let sum = unsafe { &mut *sum };
    let Some(buffer) = BUFFER.get_ptr_mut(0) else { return 1 };
    if sum.left == 0 {
        return 1;
    }
    // The verifier wants to see that the length is never zero and never beyond the buffer. Before Linux 6.8 it does not learn
    // the former from a comparison with zero, which the compiler makes of any other; so both are done out of its sight.
    let mut len = u64::from(sum.left.min(CHUNK as u32)) - 1;
    // SAFETY: arithmetic on one register, and the values stay what they are: 0 to 255 before, 1 to 256 after.
    unsafe { asm!("{len} &= {most}", "{len} += 1", len = inout(reg) len, most = const CHUNK - 1) };
    let len = len as u32;
    // SAFETY: the buffer is this CPU's own and `CHUNK` bytes long; what is not loaded is zero, which changes no sum.
    unsafe {
        if len < CHUNK as u32 {
            *buffer = [0; CHUNK / 8];
        }
        if bpf_skb_load_bytes(sum.skb.cast(), sum.at, buffer.cast(), len) != 0 {
            return 1;
        }
        sum.sum = bpf_csum_diff(ptr::null_mut(), 0, buffer.cast(), CHUNK as u32, sum.sum) as u32;
    }
    sum.at += len;
    sum.left -= len;
    0
}
