//! Socket hooks on the root cgroup: the host's own processes reach published ports without a proxy.
//!
//! What a socket sends to a published port, on any address of the host or on loopback, goes straight to the container; where
//! the kernel tells the process whom it talks to, it is told what it asked for. And no process gets a published port. Sockets of all other network namespaces are
//! left alone.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use dataplane_common::{
    Address, Protocol, V4, V6,
    address::AnyAddress,
    decision::{self, World as _},
    layout::{HOLDER_MARK, SocketPeer, SocketPeerKey},
    wire::Be16,
};

use crate::maps::{self, Maps, SOCKET_PEERS};

/// Let the call go on.
const PROCEED: i32 = 1;

/// The call fails, with `EPERM` unless another error was set.
const REFUSE: i32 = 0;

/// `EADDRINUSE` of `asm-generic/errno.h`.
const EADDRINUSE: i32 = 98;

/// `ENETUNREACH` of `asm-generic/errno.h`.
const ENETUNREACH: i32 = 101;

/// `connect(2)` of an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    to_container::<V4>(&ctx, Call::Connect)
}

/// `connect(2)` of an IPv6 socket.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    to_container::<V6>(&ctx, Call::Connect)
}

/// `sendto(2)` and `sendmsg(2)` of an unconnected IPv4 UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    to_container::<V4>(&ctx, Call::Send)
}

/// `sendto(2)` and `sendmsg(2)` of an unconnected IPv6 UDP socket.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    to_container::<V6>(&ctx, Call::Send)
}

/// `recvfrom(2)` and `recvmsg(2)` of an IPv4 UDP socket.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    as_asked_for::<V4>(&ctx)
}

/// `recvfrom(2)` and `recvmsg(2)` of an IPv6 UDP socket.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    as_asked_for::<V6>(&ctx)
}

/// `getpeername(2)` of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    as_asked_for::<V4>(&ctx)
}

/// `getpeername(2)` of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    as_asked_for::<V6>(&ctx)
}

/// `bind(2)` of an IPv4 socket.
#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    unless_published::<V4>(&ctx)
}

/// `bind(2)` of an IPv6 socket.
#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    unless_published::<V6>(&ctx)
}

/// How a family's address lies in the context. Word by word and volatile: the verifier allows only accesses of four bytes at
/// constant offsets.
trait SocketAddress {
    /// Reads it.
    fn read(address: *mut bpf_sock_addr) -> AnyAddress;
    /// Writes it.
    fn write(address: *mut bpf_sock_addr, any: AnyAddress);
}

impl SocketAddress for V4 {
    #[inline(always)]
    fn read(address: *mut bpf_sock_addr) -> AnyAddress {
        // SAFETY: the context is valid for as long as the program runs.
        Self(unsafe { read_volatile(&raw const (*address).user_ip4) }).any()
    }

    #[inline(always)]
    fn write(address: *mut bpf_sock_addr, any: AnyAddress) {
        // SAFETY: as above, and the kernel lets these attach types write the address.
        unsafe { write_volatile(&raw mut (*address).user_ip4, Self::from_any(any).0) };
    }
}

impl SocketAddress for V6 {
    #[inline(always)]
    fn read(address: *mut bpf_sock_addr) -> AnyAddress {
        // SAFETY: as for IPv4.
        unsafe {
            AnyAddress([
                read_volatile(&raw const (*address).user_ip6[0]),
                read_volatile(&raw const (*address).user_ip6[1]),
                read_volatile(&raw const (*address).user_ip6[2]),
                read_volatile(&raw const (*address).user_ip6[3]),
            ])
        }
    }

    #[inline(always)]
    fn write(address: *mut bpf_sock_addr, any: AnyAddress) {
        // SAFETY: as for IPv4.
        unsafe {
            write_volatile(&raw mut (*address).user_ip6[0], any.0[0]);
            write_volatile(&raw mut (*address).user_ip6[1], any.0[1]);
            write_volatile(&raw mut (*address).user_ip6[2], any.0[2]);
            write_volatile(&raw mut (*address).user_ip6[3], any.0[3]);
        }
    }
}

/// How a socket names whom to talk to.
#[derive(PartialEq, Eq)]
enum Call {
    /// Once and for all.
    Connect,
    /// With each datagram.
    Send,
}

/// A call that names whom to talk to: if that is a published port, the container takes its place.
#[inline(always)]
fn to_container<A: SocketAddress>(ctx: &SockAddrContext, call: Call) -> i32 {
    let address = ctx.sock_addr;
    if !is_of_host(ctx) {
        return PROCEED;
    }
    let asked = A::read(address);
    // SAFETY: the context is valid for as long as the program runs.
    let (port, protocol) = unsafe { ((*address).user_port, Protocol((*address).protocol as u8)) };
    if protocol != Protocol::TCP && protocol != Protocol::UDP {
        return PROCEED;
    }
    let port = Be16::from_raw(port as u16);
    // An IPv6 socket names IPv4 addresses as mapped ones (RFC 4291 §2.5.5.2): the same key, but another wildcard.
    let published = if asked.is_v4() {
        decision::published(&Maps, V4::from_any(asked), port, protocol)
    } else {
        decision::published(&Maps, V6::from_any(asked), port, protocol)
    };
    let Some(published) = published else { return PROCEED };
    // A connected socket of IPv6 can talk to an IPv4 address, but the kernel does not let a datagram's address change so.
    if call == Call::Send && published.container.is_v4() && !asked.is_v4() {
        // SAFETY: a plain helper call.
        unsafe { bpf_set_retval(-ENETUNREACH) };
        return REFUSE;
    }
    let key = peer_key(ctx, published.container, published.port);
    // When it cannot be remembered, the process is told the truth; it reaches the container all the same.
    let _ = SOCKET_PEERS.insert(&key, &SocketPeer { address: asked, port, reserved: 0 }, 0);
    A::write(address, published.container);
    // SAFETY: as above, and the kernel lets these attach types write the port.
    unsafe { write_volatile(&raw mut (*address).user_port, published.port.raw().into()) };
    PROCEED
}

/// A call that tells whom the process talks to: if that is a container that it reached through a published port, it is told
/// the port.
#[inline(always)]
fn as_asked_for<A: SocketAddress>(ctx: &SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    if !is_of_host(ctx) {
        return PROCEED;
    }
    // SAFETY: the context is valid for as long as the program runs.
    let port = Be16::from_raw(unsafe { (*address).user_port } as u16);
    let key = peer_key(ctx, A::read(address), port);
    // SAFETY: copied at once; at worst an entry that was just replaced is read.
    if let Some(&peer) = unsafe { SOCKET_PEERS.get(&key) } {
        A::write(address, peer.address);
        // SAFETY: as above, and the kernel lets these attach types write the port.
        unsafe { write_volatile(&raw mut (*address).user_port, peer.port.raw().into()) };
    }
    PROCEED
}

/// A call that wants a port of the host's. While it is published nobody gets it, whether the agent is there to hold it or not.
#[inline(always)]
fn unless_published<A: SocketAddress>(ctx: &SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    // SAFETY: the context is valid for as long as the program runs; the kernel gives the socket with it.
    let (port, protocol, mark) = unsafe {
        let socket = (*address).__bindgen_anon_1.sk;
        if socket.is_null() {
            return PROCEED;
        }
        ((*address).user_port, Protocol((*address).protocol as u8), (*socket).mark)
    };
    if port == 0 || mark == HOLDER_MARK || !is_of_host(ctx) {
        return PROCEED;
    }
    let wanted = A::read(address);
    let port = Be16::from_raw(port as u16);
    let taken = if wanted.is_v4() {
        is_published(V4::from_any(wanted), port, protocol)
    } else {
        is_published(V6::from_any(wanted), port, protocol)
    };
    if taken {
        // SAFETY: a plain helper call.
        unsafe { bpf_set_retval(-EADDRINUSE) };
        return REFUSE;
    }
    PROCEED
}

/// Is the port published on this address, or on all of its family?
#[inline(always)]
fn is_published<A: Address>(address: A, port: Be16, protocol: Protocol) -> bool {
    Maps.published(address, port, protocol).is_some() || Maps.published(A::UNSPECIFIED, port, protocol).is_some()
}

/// Is it a socket of the agent's network namespace?
#[inline(always)]
fn is_of_host(ctx: &SockAddrContext) -> bool {
    // SAFETY: a plain helper call.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) == maps::host_netns_cookie() }
}

#[inline(always)]
fn peer_key(ctx: &SockAddrContext, address: AnyAddress, port: Be16) -> SocketPeerKey {
    // SAFETY: a plain helper call.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    SocketPeerKey { cookie, address, port, reserved: [0; 3] }
}
