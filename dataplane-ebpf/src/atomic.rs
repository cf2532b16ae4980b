//! Atomic operations on map values. The core library offers none for this target, since not every kernel's verifier knows those
//! that return the old value; ours all do (Linux 5.12). Each is ordered against all other memory accesses.

use core::arch::asm;

/// Adds to a number, modulo 2^64; returns what it was.
///
/// # Safety
///
/// `at` points to an aligned number in a map's value that everybody changes atomically.
#[inline(always)]
pub unsafe fn fetch_add(at: *mut u64, number: u64) -> u64 {
    let mut value = number;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({at} + 0), {value})", at = in(reg) at, value = inout(reg) value)
    };
    value
}

/// Sets bits; returns what was there.
///
/// # Safety
///
/// As for [`fetch_add`].
#[inline(always)]
pub unsafe fn fetch_or(at: *mut u64, bits: u64) -> u64 {
    let mut value = bits;
    // SAFETY: the caller's promise.
    unsafe { asm!("{value} = atomic_fetch_or((u64 *)({at} + 0), {value})", at = in(reg) at, value = inout(reg) value) };
    value
}

/// Clears all bits but these; returns what was there.
///
/// # Safety
///
/// As for [`fetch_add`].
#[inline(always)]
pub unsafe fn fetch_and(at: *mut u64, bits: u64) -> u64 {
    let mut value = bits;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("{value} = atomic_fetch_and((u64 *)({at} + 0), {value})", at = in(reg) at, value = inout(reg) value);
    };
    value
}
