//! How a program ends: every dropped packet is counted under its reason and endpoint.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};
use aya_log_ebpf::debug;
use dataplane_common::{
    DropReason,
    layout::{DropCount, DropKey},
};

use crate::maps::DROPS;

/// A packet that must die.
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// The endpoint that sent it or should have received it; 0 if none can be named.
    pub endpoint: u32,
}

/// What a program does with a packet: a TC action, or the end.
pub type Outcome = Result<i32, Dropped>;

/// Not ours, or the host's stack is to finish it: whatever program comes next, then the stack.
pub const NEXT: i32 = TC_ACT_UNSPEC;

impl Dropped {
    /// A drop that is accounted to `endpoint`.
    #[inline(always)]
    pub fn at(endpoint: u32, reason: DropReason) -> Self {
        Self { reason, endpoint }
    }
}

/// Turns an outcome into a TC action; counts and logs drops.
#[inline(always)]
pub fn finish(ctx: &TcContext, hook: &'static str, outcome: Outcome) -> i32 {
    match outcome {
        Ok(action) => action,
        Err(dropped) => drop_packet(ctx, hook, dropped.endpoint, dropped.reason as u32),
    }
}

/// The end of a packet. A function of its own, so that what logging needs is not on every packet's stack.
#[inline(never)]
fn drop_packet(ctx: &TcContext, hook: &'static str, endpoint: u32, reason: u32) -> i32 {
    let bytes = ctx.len();
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
    debug!(ctx, "{} drops {} bytes of endpoint {}: reason {}", hook, bytes, endpoint, reason);
    TC_ACT_SHOT
}
