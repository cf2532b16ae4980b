//! Where fragments wait that came before their packet's first one.
//!
//! Each sender has a shelf, which it shares with few; what it puts there too much pushes out its own oldest. When the first
//! fragment comes and has a flow, those that wait for it are received once more, where they came in, and find its note. So no
//! packet is ever put together here, and nothing is kept but copies.
//!
//! A place is used by one CPU at a time: by the one that has set its bit in `busy`. Nobody waits for a place, who finds one busy
//! goes on to the next.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM},
    btf_maps::PerCpuArray,
    helpers::generated::{
        bpf_clone_redirect, bpf_loop, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
    macros::btf_map,
};
use dataplane_common::{
    DropReason,
    fragment::{LONGEST, Mark, PLACES, Shelf, Waiting},
    wire::ethernet,
};

use crate::{
    atomic,
    drops::{self, SHOT},
    flow::now,
    fragment::{Note, note, told},
    maps::{SHELVES, WAITING, config},
    skb::Skb,
};

/// How many places are tried. A place is busy for a moment only.
const TRIES: u32 = 4;

/// Shorter than Ethernet and IP header is no frame that was put here.
const SHORTEST: u32 = ethernet::LEN as u32 + 20;

/// Each CPU's memory for a first fragment whose bytes are exchanged for those of others.
#[btf_map]
static SAVED: PerCpuArray<[u8; LONGEST], 1> = PerCpuArray::new();

/// What came of putting a fragment on its shelf.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    /// It waits there.
    Waits,
    /// Its packet's first fragment has passed in this moment, and it is off the shelf again.
    Known,
    /// The same, but somebody else has taken it off and sends it.
    Gone,
    /// It is too long, or everybody is at work on the shelf.
    NoRoom,
}

/// Keeps a copy of a fragment whose packet is the noted one, of which nothing is known; `lone` is what happens to such a fragment
/// by the rules, and `endpoint` has sent it. Returns what is to happen to it now; if its first fragment has passed in this moment, it
/// is received once more.
#[inline(always)]
pub fn wait(skb: &Skb<'_>, endpoint: u32, lone: Result<i32, DropReason>) -> Result<i32, DropReason> {
    // If nothing but the missing note speaks against it, it is not lost yet.
    let alone = lone == Err(DropReason::Fragment);
    match put(skb, endpoint, alone) {
        // SAFETY: a plain helper call.
        Put::Known => Ok(unsafe { bpf_redirect(skb.ifindex(), u64::from(BPF_F_INGRESS)) } as i32),
        Put::Gone => Ok(SHOT),
        Put::Waits if alone => Ok(SHOT),
        Put::Waits | Put::NoRoom => lone,
    }
}

/// The shelf of the noted packet's sender. A function of its own for its stack.
#[inline(never)]
fn shelf_of(note: &Note) -> u32 {
    config().map_or(0, |config| note.key.shelf(config.secret))
}

/// The hash of the noted packet's key. A function of its own for its stack.
#[inline(never)]
fn hash_of(note: &Note) -> u32 {
    config().map_or(0, |config| note.key.hash(config.secret))
}

/// A function of its own for its stack.
#[inline(never)]
fn put(skb: &Skb<'_>, endpoint: u32, alone: bool) -> Put {
    let Some(note) = note() else { return Put::NoRoom };
    let len = skb.0.len();
    let index = shelf_of(note);
    let Some(shelf) = SHELVES.get_ptr_mut(index) else { return Put::NoRoom };
    let Some((number, bit)) = claim(shelf) else { return Put::NoRoom };
    let place = number as u32 % PLACES as u32;
    let mut waits = false;
    if let Some(waiting) = WAITING.get_ptr_mut(index * PLACES as u32 + place) {
        // SAFETY: the place is this CPU's until `release`.
        let waiting = unsafe { &mut *waiting };
        if take_off(shelf, bit) {
            lose(waiting);
        }
        waiting.key = note.key;
        waiting.number = number;
        waiting.ifindex = skb.ifindex();
        waiting.len = len;
        waiting.endpoint = endpoint;
        waiting.alone = alone.into();
        waits = load(skb.as_ptr(), len, waiting.frame.as_mut_ptr());
        if waits {
            // SAFETY: the place is in the value, and this CPU's.
            unsafe { *mark(shelf, place) = Mark::new(hash_of(note), now()) };
            // SAFETY: nobody writes these bits otherwise.
            unsafe { atomic::fetch_or(&raw mut (*shelf).waiting, bit) };
        }
    }
    release(shelf, bit);
    if !waits {
        return Put::NoRoom;
    }
    // Whoever leaves the note looks at the shelf afterwards, and does not wait for a busy place: now it is for us to look at the note.
    if told(note).is_none() {
        return Put::Waits;
    }
    // SAFETY: as above.
    if unsafe { atomic::fetch_or(&raw mut (*shelf).busy, bit) } & bit != 0 {
        return Put::Gone;
    }
    let mut ours = false;
    if take_off(shelf, bit) {
        // SAFETY: only read, while the place is this CPU's.
        ours = WAITING.get(index * PLACES as u32 + place).is_some_and(|waiting| waiting.number == number);
        if !ours {
            // SAFETY: as above.
            unsafe { atomic::fetch_or(&raw mut (*shelf).waiting, bit) };
        }
    }
    release(shelf, bit);
    if ours { Put::Known } else { Put::Gone }
}

/// Takes the next place that nobody is at work on: its number and its bit.
#[inline(always)]
fn claim(shelf: *mut Shelf) -> Option<(u64, u64)> {
    for _ in 0..TRIES {
        // SAFETY: `shelf` is the map's, and nobody writes these numbers otherwise.
        let number = unsafe { atomic::fetch_add(&raw mut (*shelf).next, 1) };
        let bit = 1 << (number % PLACES as u64);
        // SAFETY: as above.
        if unsafe { atomic::fetch_or(&raw mut (*shelf).busy, bit) } & bit == 0 {
            return Some((number, bit));
        }
    }
    None
}

/// Ends the work on a place.
#[inline(always)]
fn release(shelf: *mut Shelf, bit: u64) {
    // SAFETY: as in `claim`.
    unsafe { atomic::fetch_and(&raw mut (*shelf).busy, !bit) };
}

/// Takes off what waits at the place that the caller works on; tells whether there was anything.
#[inline(always)]
fn take_off(shelf: *mut Shelf, bit: u64) -> bool {
    // SAFETY: as in `claim`.
    unsafe { atomic::fetch_and(&raw mut (*shelf).waiting, !bit) & bit != 0 }
}

/// The place's mark.
#[inline(always)]
fn mark(shelf: *mut Shelf, place: u32) -> *mut Mark {
    // SAFETY: within the value.
    unsafe { (&raw mut (*shelf).marks).cast::<Mark>().add((place % PLACES as u32) as usize) }
}

/// What was taken off unused has died, if there was nothing more of it.
#[inline(always)]
fn lose(waiting: &Waiting) {
    if waiting.alone != 0 {
        drops::count(waiting.endpoint, DropReason::Fragment as u32, waiting.len);
    }
}

/// Looks for fragments of the noted packet.
struct Search {
    /// Its first fragment.
    skb: *mut __sk_buff,
    /// Bytes of it.
    len: u32,
    shelf: u32,
    hash: u32,
    /// Have its bytes been saved, and exchanged for others?
    exchanged: bool,
}

/// Sends the fragments of the noted packet that wait, one after the other, to where they came in; the kernel takes them up when it
/// is done with this one, the first. A function of its own for its stack.
///
/// # Errors
///
/// [`DropReason::RewriteFailed`]: the packet has lost its bytes.
#[inline(never)]
pub fn send_after(skb: &Skb<'_>) -> Result<(), DropReason> {
    let Some(note) = note() else { return Ok(()) };
    let index = shelf_of(note);
    let Some(shelf) = SHELVES.get_ptr_mut(index) else { return Ok(()) };
    // An atomic operation, so that what is not seen here sees the note.
    // SAFETY: as in `claim`.
    if unsafe { atomic::fetch_or(&raw mut (*shelf).waiting, 0) } == 0 {
        return Ok(());
    }
    let mut search =
        Search { skb: skb.as_ptr(), len: skb.0.len(), shelf: index, hash: hash_of(note), exchanged: false };
    // SAFETY: the callback has the signature that the helper calls, and `search` outlives the call.
    unsafe { bpf_loop(PLACES as u32, send as *mut c_void, (&raw mut search).cast(), 0) };
    if !search.exchanged {
        return Ok(());
    }
    let saved = SAVED.get(0).ok_or(DropReason::RewriteFailed)?;
    if exchange(skb.as_ptr(), saved, search.len) { Ok(()) } else { Err(DropReason::RewriteFailed) }
}

/// Sends what waits at one place, if it belongs to the packet. What waits for too long is taken off on the way.
unsafe extern "C" fn send(place: u32, search: *mut Search) -> i64 {
    // SAFETY: `send_after` passes this, and it outlives the loop.
    let search = unsafe { &mut *search };
    let place = place % PLACES as u32;
    let bit = 1_u64 << place;
    let Some(shelf) = SHELVES.get_ptr_mut(search.shelf) else { return 1 };
    // SAFETY: single words of the value.
    let (waits, first_sight) =
        unsafe { ((&raw const (*shelf).waiting).read_volatile() & bit, mark(shelf, place).read_volatile()) };
    if waits == 0 || (first_sight.hash() != search.hash && !first_sight.is_over(now())) {
        return 0;
    }
    // SAFETY: as in `claim`.
    if unsafe { atomic::fetch_or(&raw mut (*shelf).busy, bit) } & bit != 0 {
        return 0;
    }
    if take_off(shelf, bit)
        && let (Some(waiting), Some(note)) = (WAITING.get(search.shelf * PLACES as u32 + place), note())
    {
        // SAFETY: as above; and now nobody changes it.
        if unsafe { mark(shelf, place).read_volatile() }.is_over(now()) {
            lose(waiting);
        } else if !(waiting.key.is(&note.key) && send_one(search, waiting)) {
            // SAFETY: as in `claim`.
            unsafe { atomic::fetch_or(&raw mut (*shelf).waiting, bit) };
        }
    }
    release(shelf, bit);
    0
}

/// Sends one fragment. Tells whether it was the time to do so: it may get lost like any packet.
#[inline(always)]
fn send_one(search: &mut Search, waiting: &Waiting) -> bool {
    if !search.exchanged {
        if !SAVED.get_ptr_mut(0).is_some_and(|saved| load(search.skb, search.len, saved.cast())) {
            return false;
        }
        search.exchanged = true;
    }
    if exchange(search.skb, &waiting.frame, waiting.len) {
        // SAFETY: a plain helper call on the program's own context; the interface may have gone.
        unsafe { bpf_clone_redirect(search.skb, waiting.ifindex, u64::from(BPF_F_INGRESS)) };
    }
    true
}

/// The length of a frame that fits here.
#[inline(always)]
fn fitting(len: u32) -> Option<u32> {
    let mut len = u64::from(len);
    if len > LONGEST as u64 {
        return None;
    }
    // Both comparisons would become one of a difference, from which the verifier learns nothing.
    // SAFETY: does nothing.
    unsafe { asm!("/* {len} */", len = inout(reg) len) };
    if len < u64::from(SHORTEST) { None } else { Some(len as u32) }
}

/// Copies a packet's bytes to `frame`, which has room for [`LONGEST`].
#[inline(always)]
fn load(skb: *mut __sk_buff, len: u32, frame: *mut u8) -> bool {
    let Some(len) = fitting(len) else { return false };
    // SAFETY: there is room.
    unsafe { bpf_skb_load_bytes(skb.cast(), 0, frame.cast(), len) == 0 }
}

/// Gives a packet other bytes, as many as these.
#[inline(always)]
fn exchange(skb: *mut __sk_buff, frame: &[u8; LONGEST], len: u32) -> bool {
    let Some(len) = fitting(len) else { return false };
    let (at, behind) = (ethernet::LEN as u32, len - ethernet::LEN as u32);
    let bytes = frame.as_ptr();
    // The network card's sum, where there is one, does not cover the Ethernet header.
    // SAFETY: no more is read than the frame has.
    unsafe {
        bpf_skb_change_tail(skb, len, 0) == 0
            && bpf_skb_store_bytes(skb, 0, bytes.cast(), at, 0) == 0
            && bpf_skb_store_bytes(skb, at, bytes.add(at as usize).cast(), behind, u64::from(BPF_F_RECOMPUTE_CSUM)) == 0
    }
}
