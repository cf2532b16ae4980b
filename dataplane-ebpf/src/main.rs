//! Spandrel's eBPF programs: one file per hook, maps in one place.
//!
//! The programs are thin. What a packet is and what may happen to it stands in `dataplane-common`, where it is tested on the
//! host; here are contexts, helpers and maps. Each hook's file tells what it does with a packet.

#![no_std]
// For atomic operations; see `atomic`.
#![feature(asm_experimental_arch)]
#![allow(clippy::needless_borrows_for_generic_args, reason = "keys and values by value would be copied to the stack")]
#![no_main]

mod admit;
mod atomic;
mod bandwidth;
mod checksum;
mod collect;
mod crossing;
mod drops;
mod embryo;
mod flow;
mod fragment;
mod from_bridge;
mod from_container;
mod from_uplink;
mod host;
mod make;
mod mapping;
mod maps;
mod neighbor;
mod rate;
mod rewrite;
mod route;
mod shelf;
mod shield;
mod skb;
mod socket;
mod to_bridge;
mod to_container;
mod to_uplink;
mod unbridged;
mod xdp;

/// Nothing here panics: the verifier refuses a program in which this loop can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
