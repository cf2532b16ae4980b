//! Conformity: the same packets through the kernel's own NAT and through Spandrel, and what the far side sees (SEMANTICS §7).
//!
//! Each theme is a list of [`sequence::Sequence`]s: packets that are sent, and what has to arrive, byte by byte. It is played
//! twice for each family, on two [`path::Path`]s: `kernel::THEME` shows that the sequences are right, `spandrel::THEME` that
//! Spandrel is. Where they differ for a reason, the sequence says so and tells what either does, and `docs/nat.md`
//! lists it. What needs real sockets is in [`sharing`].

mod connection;
mod differences;
mod errors;
mod fragments;
mod hairpin;
mod hops;
mod packet;
mod path;
mod pings;
mod play;
mod protocols;
mod reassembly;
mod reconnects;
mod sequence;
mod sharing;
mod shown;
mod sizes;
mod strays;
mod tap;
mod tcp;
mod timers;
mod udp;

use path::Kind;
use play::{play, play_impatiently};

/// A test for each theme of sequences and each test with sockets, on both paths.
macro_rules! conformity {
    (sequences: $($theme:ident)*; sockets: $($test:ident)*) => {
        mod kernel {
            use super::*;
            $(#[test] fn $theme() { play(Kind::Kernel, &crate::$theme::sequences()); })*
            $(#[test] fn $test() { sharing::$test(Kind::Kernel); })*
            #[test] fn timers() { play_impatiently(Kind::Kernel, &crate::timers::sequences()); }
        }

        mod spandrel {
            use super::*;
            $(#[test] fn $theme() { play(Kind::Spandrel, &crate::$theme::sequences()); })*
            $(#[test] fn $test() { sharing::$test(Kind::Spandrel); })*
            #[test] fn timers() { play_impatiently(Kind::Spandrel, &crate::timers::sequences()); }
        }

        #[test]
        fn the_manual_lists_the_differences() {
            differences::assert_documented(&[$($theme::sequences()),*].concat());
        }
    };
}

conformity! {
    sequences: errors fragments hairpin hops pings protocols reconnects sizes strays tcp udp;
    sockets: host_service ping_identifiers same_instant tcp_ports udp_ports
}
