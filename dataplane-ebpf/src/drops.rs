//! How a program ends: every dropped packet is counted under its reason and endpoint.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action::XDP_DROP},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use dataplane_common::{
    DropReason,
    layout::{DropCount, DropKey},
};

use crate::{maps::DROPS, xdp};

/// A packet that must die.
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// The endpoint that sent it or should have received it; 0 if none can be named.
    pub endpoint: u32,
}

/// What a program does with a packet: an action of its kind of program, or the end.
pub type Outcome = Result<i32, Dropped>;

/// What a kind of program works with.
pub trait Context: EbpfContext {
    /// The action that ends a packet.
    const DROP: i32;

    /// Bytes of the packet, Ethernet header included.
    fn packet_len(&self) -> u32;
}

impl Context for TcContext {
    const DROP: i32 = TC_ACT_SHOT;

    #[inline(always)]
    fn packet_len(&self) -> u32 {
        self.len()
    }
}

impl Context for XdpContext {
    const DROP: i32 = XDP_DROP as i32;

    #[inline(always)]
    fn packet_len(&self) -> u32 {
        xdp::len(self)
    }
}

/// Not ours, or the host's stack is to finish it: whatever program comes next, then the stack.
pub const NEXT: i32 = TC_ACT_UNSPEC;

/// The end of a packet that is not lost, since a copy goes on instead, or that was counted already.
pub const SHOT: i32 = TC_ACT_SHOT;

impl Dropped {
    /// A drop that is accounted to `endpoint`.
    #[inline(always)]
    pub fn at(endpoint: u32, reason: DropReason) -> Self {
        Self { reason, endpoint }
    }
}

/// Turns an outcome into an action; counts and logs drops.
#[inline(always)]
pub fn finish<C: Context>(ctx: &C, hook: &'static str, outcome: Outcome) -> i32 {
    match outcome {
        Ok(action) => action,
        Err(dropped) => drop_packet(ctx, hook, dropped.endpoint, dropped.reason as u32),
    }
}

/// The end of a packet. A function of its own, so that what logging needs is not on every packet's stack.
#[inline(never)]
fn drop_packet<C: Context>(ctx: &C, hook: &'static str, endpoint: u32, reason: u32) -> i32 {
    let bytes = ctx.packet_len();
    count(endpoint, reason, bytes);
    debug!(ctx, "{} drops {} bytes of endpoint {}: reason {}", hook, bytes, endpoint, reason);
    C::DROP
}

/// Counts a packet that has died. A function of its own for its stack.
#[inline(never)]
pub fn count(endpoint: u32, reason: u32, bytes: u32) {
    let key = DropKey { endpoint, reason };
    if let Some(count) = DROPS.get_ptr_mut(key) {
        // SAFETY: the value is this CPU's own, and entries are never removed while a program runs.
        let count = unsafe { &mut *count };
        count.packets += 1;
        count.bytes += u64::from(bytes);
    } else {
        // When another CPU was first, this packet is missing in its count: one, once.
        let _ = DROPS.insert(key, DropCount { packets: 1, bytes: bytes.into() }, u64::from(BPF_NOEXIST));
    }
}
