//! The packet at hand in an XDP program, before the kernel has made an skb of it: a [`Frame`] over the bytes that may be read
//! directly.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use dataplane_common::wire::{Frame, Header};

use crate::skb;

/// A packet as the driver has it. The first page holds all the headers that we look at.
pub struct Buffer<'a>(pub &'a XdpContext);

impl Buffer<'_> {
    /// The interface through which the packet came in.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for as long as the program runs.
        unsafe { (*self.0.ctx).ingress_ifindex }
    }
}

/// Bytes of the packet, those in further pages included.
#[inline(always)]
pub fn len(ctx: &XdpContext) -> u32 {
    // SAFETY: the context is valid for as long as the program runs.
    (unsafe { bpf_xdp_get_buff_len(ctx.ctx) }) as u32
}

impl Frame for Buffer<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        len(self.0) as usize
    }

    #[inline(always)]
    fn read<T: Header>(&self, at: usize) -> Option<T> {
        skb::read(self.0.data(), self.0.data_end(), at)
    }

    /// By a helper, as for an skb.
    #[inline(always)]
    fn load<T: Header>(&self, at: usize) -> Option<T> {
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: the memory is as large as is said.
        let result =
            unsafe { bpf_xdp_load_bytes(self.0.ctx, at as u32, header.as_mut_ptr().cast(), size_of::<T>() as u32) };
        // SAFETY: any bytes are a valid `Header`, and where the helper succeeds it has filled them all.
        if result == 0 { Some(unsafe { header.assume_init() }) } else { None }
    }
}
