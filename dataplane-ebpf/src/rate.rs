//! Rate limits of published ports. `from_uplink` takes a token for each flow that a client opens, and the shield drops the
//! packets of a client that has none left: it is only sooner than `from_uplink`, never stricter.

use aya_ebpf::{bindings::BPF_ANY, helpers::generated::bpf_ktime_get_coarse_ns};
use dataplane_common::{
    Address,
    layout::Published,
    rate::{Bucket, ClientKey},
};

use crate::maps::CLIENTS;

/// May the client open a flow to the port? If so, the flow is accounted to it.
#[inline(always)]
pub fn take<A: Address>(client: A, port: &Published) -> bool {
    if port.rate == 0 {
        return true;
    }
    let key = ClientKey::of(client, port.slot);
    let now = now();
    let bucket = bucket(&key);
    if bucket.is_empty(now, port.rate) {
        return false;
    }
    // If the kernel has no room, which an LRU always makes, the client is not limited this time.
    let _ = CLIENTS.insert(&key, bucket.less_one(now, port.rate), u64::from(BPF_ANY));
    true
}

/// Would [`take`] refuse the client?
#[inline(always)]
pub fn is_exhausted<A: Address>(client: A, port: &Published) -> bool {
    port.rate != 0 && bucket(&ClientKey::of(client, port.slot)).is_empty(now(), port.rate)
}

/// The client's bucket, or a full one if it was not seen for long.
#[inline(always)]
fn bucket(key: &ClientKey) -> Bucket {
    // SAFETY: one word, copied at once.
    unsafe { CLIENTS.get(key) }.copied().unwrap_or_default()
}

/// Nanoseconds since boot, as of the last tick: some milliseconds do not matter in a second.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: a plain helper call.
    unsafe { bpf_ktime_get_coarse_ns() }
}
