//! The way to an address behind an uplink, by the host's own routing table.

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Params, bpf_redir_neigh},
    helpers::generated::{bpf_fib_lookup, bpf_redirect_neigh},
};
use dataplane_common::{Address, Tuple, V4, V6};

use crate::{maps, skb::Skb};

/// Where a packet leaves the host.
pub struct Route<A> {
    /// The interface.
    pub ifindex: u32,
    /// The next hop: a router, or the destination itself.
    pub next_hop: A,
}

/// What the helper needs to know of an address family.
pub trait Hop: Address {
    /// Writes the addresses to look up.
    fn ask(params: &mut Params, source: Self, destination: Self);
    /// Reads the next hop; `None` when it is of the other family.
    fn next_hop(params: &Params) -> Option<Self>;
    /// Writes the next hop for a redirect.
    fn set(neighbor: &mut bpf_redir_neigh, next_hop: Self);
}

impl Hop for V4 {
    #[inline(always)]
    fn ask(params: &mut Params, source: Self, destination: Self) {
        params.__bindgen_anon_3.ipv4_src = source.0;
        params.__bindgen_anon_4.ipv4_dst = destination.0;
    }

    #[inline(always)]
    fn next_hop(params: &Params) -> Option<Self> {
        // SAFETY: the helper wrote this member of the union if it left the family as it was.
        if params.family == Self::FAMILY { Some(Self(unsafe { params.__bindgen_anon_4.ipv4_dst })) } else { None }
    }

    #[inline(always)]
    fn set(neighbor: &mut bpf_redir_neigh, next_hop: Self) {
        neighbor.__bindgen_anon_1.ipv4_nh = next_hop.0;
    }
}

impl Hop for V6 {
    #[inline(always)]
    fn ask(params: &mut Params, source: Self, destination: Self) {
        params.__bindgen_anon_3.ipv6_src = source.0;
        params.__bindgen_anon_4.ipv6_dst = destination.0;
    }

    #[inline(always)]
    fn next_hop(params: &Params) -> Option<Self> {
        // SAFETY: as for IPv4.
        if params.family == Self::FAMILY { Some(Self(unsafe { params.__bindgen_anon_4.ipv6_dst })) } else { None }
    }

    #[inline(always)]
    fn set(neighbor: &mut bpf_redir_neigh, next_hop: Self) {
        neighbor.__bindgen_anon_1.ipv6_nh = next_hop.0;
    }
}

/// Looks up the route of a packet with these addresses that came in through `input`. `None`: the stack must decide, since
/// there is no route, the packet is too big for it, or it needs what we do not do (a next hop of the other family, a tunnel).
#[inline(always)]
pub fn lookup<A: Hop>(skb: &Skb<'_>, input: u32, tuple: &Tuple<A>) -> Option<Route<A>> {
    let params = maps::route_question()?;
    // SAFETY: all-zero bytes are a valid value of this plain C struct.
    *params = unsafe { core::mem::zeroed() };
    params.family = A::FAMILY;
    params.ifindex = input;
    A::ask(params, tuple.source, tuple.destination);
    // tot_len stays 0: then the helper compares the packet itself with the MTU where the neighbour is known, and knows about GSO.
    // SAFETY: the struct is initialised and its true size is given.
    let result = unsafe { bpf_fib_lookup(skb.as_ptr().cast(), &raw mut *params, size_of::<Params>() as i32, 0) } as u32;
    if result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH {
        return None;
    }
    Some(Route { ifindex: params.ifindex, next_hop: A::next_hop(params)? })
}

/// Sends the packet out of an uplink; the kernel resolves the next hop and writes the Ethernet header.
#[inline(always)]
pub fn redirect<A: Hop>(ifindex: u32, next_hop: A) -> i32 {
    // SAFETY: all-zero bytes are a valid value of this plain C struct.
    let mut neighbor: bpf_redir_neigh = unsafe { core::mem::zeroed() };
    neighbor.nh_family = u32::from(A::FAMILY);
    A::set(&mut neighbor, next_hop);
    // SAFETY: the struct is initialised and its true size is given.
    unsafe { bpf_redirect_neigh(ifindex, &raw mut neighbor, size_of::<bpf_redir_neigh>() as i32, 0) as i32 }
}
