//! Socket hooks on the root cgroup: the host's own processes reach published ports without a proxy.
//!
//! A connection from the host to a published port, on any address of the host or on loopback, is made straight to the
//! container. Sockets of all other network namespaces are left alone.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_netns_cookie, macros::cgroup_sock_addr, programs::SockAddrContext,
};
use dataplane_common::{
    Address as _, Protocol, V4, V6, decision,
    layout::Published,
    wire::{Be16, IpHeader},
};

use crate::maps::{self, Maps};

/// Let the call go on; these hooks never refuse one.
const PROCEED: i32 = 1;

/// `connect(2)` of an IPv4 socket: TCP, and UDP that has one peer.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid for as long as the program runs, and the kernel lets this attach type write these fields.
    let address = unsafe { &mut *ctx.sock_addr };
    let destination = V4(address.user_ip4);
    if let Some(port) = published(&ctx, destination, address.user_port, address.protocol) {
        address.user_ip4 = V4::from_any(port.container).0;
        address.user_port = port.port.raw().into();
    }
    PROCEED
}

/// `connect(2)` of an IPv6 socket.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    // Word by word and volatile: the verifier allows only accesses of four bytes at constant offsets of the context.
    // SAFETY: as above.
    let destination = unsafe {
        let word = |index: usize| read_volatile(&raw const (*address).user_ip6[index]);
        V6([word(0), word(1), word(2), word(3)])
    };
    // SAFETY: as above.
    let (port, protocol) = unsafe { ((*address).user_port, (*address).protocol) };
    if let Some(port) = published(&ctx, destination, port, protocol) {
        let container = port.container.0;
        // SAFETY: as above.
        unsafe {
            write_volatile(&raw mut (*address).user_ip6[0], container[0]);
            write_volatile(&raw mut (*address).user_ip6[1], container[1]);
            write_volatile(&raw mut (*address).user_ip6[2], container[2]);
            write_volatile(&raw mut (*address).user_ip6[3], container[3]);
            write_volatile(&raw mut (*address).user_port, port.port.raw().into());
        }
    }
    PROCEED
}

/// The published port that a host process means by this address.
#[inline(always)]
fn published<A: IpHeader>(ctx: &SockAddrContext, destination: A, port: u32, protocol: u32) -> Option<Published> {
    let protocol = Protocol(protocol as u8);
    if protocol != Protocol::TCP && protocol != Protocol::UDP {
        return None;
    }
    // SAFETY: a plain helper call.
    if unsafe { bpf_get_netns_cookie(ctx.as_ptr()) } != maps::host_netns_cookie() {
        return None;
    }
    decision::published(&Maps, destination, Be16::from_raw(port as u16), protocol)
}
