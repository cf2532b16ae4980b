//! The packet at hand: a [`Frame`] over the bytes that a TC program may read directly.

use core::mem::MaybeUninit;

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_skb_load_bytes, programs::TcContext};
use dataplane_common::wire::{Frame, Header, ethernet, ipv4::Ipv4, ipv6::Ipv6, transport::Tcp};

/// How much of a packet should be readable directly: Ethernet, IP and TCP headers, of each family.
const V4_HEADERS: usize = ethernet::LEN + size_of::<Ipv4>() + size_of::<Tcp>();
const V6_HEADERS: usize = ethernet::LEN + size_of::<Ipv6>() + size_of::<Tcp>();

/// A packet on its way through the kernel.
pub struct Skb<'a>(pub &'a TcContext);

impl<'a> Skb<'a> {
    /// Takes the packet and makes sure that its headers can be read directly: an skb may have them in a page of its own.
    ///
    /// Not a byte more than is read: Linux's TCP has its headers in front and the payload in pages, and to pull what is there
    /// makes the kernel copy a head that the sender still holds, which costs as much as all that the program does.
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        // SAFETY: the context is valid for as long as the program runs.
        let protocol = unsafe { (*ctx.skb.skb).protocol };
        let headers = if protocol == u32::from(ethernet::IPV6.to_be()) { V6_HEADERS } else { V4_HEADERS };
        let wanted = ctx.len().min(headers as u32);
        if ctx.data() + wanted as usize > ctx.data_end() {
            // A failure shows as a header that cannot be read.
            let _ = ctx.pull_data(wanted);
        }
        Self(ctx)
    }

    /// The interface at which the program runs.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for as long as the program runs.
        unsafe { (*self.0.skb.skb).ifindex }
    }

    /// The interface through which the packet came into the host; 0 if the host itself made it.
    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0.skb.skb).ingress_ifindex }
    }

    /// Does the packet belong to a VLAN of the interface? Its tag has been taken out of the frame by then.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0.skb.skb).vlan_present != 0 }
    }

    /// Payload bytes of the segments into which the packet will be cut; 0 if it will not.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0.skb.skb).gso_size }
    }

    /// [`Frame::read`] in place, which saves stack.
    #[inline(always)]
    pub fn read_into<T: Header>(&self, at: usize, header: &mut T) -> bool {
        let start = self.0.data() + at;
        if start + size_of::<T>() > self.0.data_end() {
            return false;
        }
        // SAFETY: as in `read`.
        *header = unsafe { *(start as *const T) };
        true
    }

    /// Copies the header at byte `at`, wherever that is; tells whether the packet has it.
    #[inline(always)]
    pub fn load_into<T: Header>(&self, at: usize, header: &mut T) -> bool {
        // SAFETY: any bytes are a valid `Header`.
        unsafe { self.load_to(at, header) }
    }

    /// # Safety
    ///
    /// `header` may be written to.
    #[inline(always)]
    unsafe fn load_to<T: Header>(&self, at: usize, header: *mut T) -> bool {
        // SAFETY: the memory is as large as is said.
        unsafe { bpf_skb_load_bytes(self.as_ptr().cast(), at as u32, header.cast(), size_of::<T>() as u32) == 0 }
    }

    /// The context, as helpers take it.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut aya_ebpf::bindings::__sk_buff {
        self.0.as_ptr().cast()
    }
}

impl Frame for Skb<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }

    #[inline(always)]
    fn read<T: Header>(&self, at: usize) -> Option<T> {
        read(self.0.data(), self.0.data_end(), at)
    }

    /// By a helper: at a position that is known at run time only, a direct read is hard to prove for the verifier.
    #[inline(always)]
    fn load<T: Header>(&self, at: usize) -> Option<T> {
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: the memory is as large as is said, and any bytes are a valid `Header`; a helper that fails fills it with zeroes.
        unsafe { if self.load_to(at, header.as_mut_ptr()) { Some(header.assume_init()) } else { None } }
    }
}

/// The header at `at` of a packet whose directly readable bytes lie from `data` to `end`.
#[inline(always)]
pub fn read<T: Header>(data: usize, end: usize, at: usize) -> Option<T> {
    let start = data + at;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the verifier saw the comparison above, and every bit pattern is a valid `Header`. The network header lies
    // at a multiple of four (the kernel's NET_IP_ALIGN), which is what lets whole words be read at once.
    Some(unsafe { *(start as *const T) })
}
