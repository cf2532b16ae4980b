//! How fast containers may send and receive. A flag of the endpoint or the neighbour tells whether there is a limit at all, so those
//! that have none pay for one comparison.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use dataplane_common::{DropReason, bandwidth::Limit};

use crate::{atomic, drops, maps::LIMITS, skb::Skb};

/// Does the container in `slot` send too much? If not, the packet is accounted for. A function of its own for its stack.
#[inline(never)]
pub fn is_sending_too_much(skb: &Skb<'_>, slot: u32) -> bool {
    let Some(limits) = LIMITS.get_ptr_mut(slot) else { return false };
    // SAFETY: the value is there for the length of this run.
    is_too_much(skb, unsafe { &raw mut (*limits).egress })
}

/// Does the container in `slot` receive too much? If not, the packet is accounted for; if it does, the packet is counted as dropped, since
/// it need not be the packet's sender who is at fault. A function of its own for its stack.
#[inline(never)]
pub fn is_receiving_too_much(skb: &Skb<'_>, slot: u32) -> bool {
    let Some(limits) = LIMITS.get_ptr_mut(slot) else { return false };
    // SAFETY: as above.
    let too_much = is_too_much(skb, unsafe { &raw mut (*limits).ingress });
    if too_much {
        drops::count(slot, DropReason::IngressRate as u32, skb.0.len());
    }
    too_much
}

#[inline(always)]
fn is_too_much(skb: &Skb<'_>, limit: *mut Limit) -> bool {
    // SAFETY: a plain helper call. Ticks are fine enough: the smallest bucket holds 400 ms.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: words that are read once; the caller's promise.
    let value = unsafe { *limit };
    if value.is_empty(now) {
        return true;
    }
    let cost = value.cost(skb.0.len(), skb.gso_size());
    // SAFETY: two CPUs that find it full at once may account for one packet too few.
    unsafe {
        if value.full_at < now {
            (*limit).full_at = now + cost;
        } else {
            atomic::fetch_add(&raw mut (*limit).full_at, cost);
        }
    }
    false
}
