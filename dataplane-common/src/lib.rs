//! What the eBPF programs and the agent share.
//!
//! Wire formats, the layout of map keys and values, and the decisions of the data plane as plain functions. Everything
//! here is `no_std`, allocates nothing and does no I/O: the same code is compiled into the programs and tested on the host.
//! It is not the place for kernel contexts and helpers (`dataplane-ebpf`) nor for netlink and bpf(2) (`dataplane-user`).

#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod bandwidth;
pub mod checksum;
pub mod crc32c;
pub mod decision;
pub mod drop_reason;
pub mod flow;
pub mod fragment;
pub mod layout;
pub mod port;
pub mod rate;
pub mod siphash;
pub mod tcp;
pub mod timeout;
pub mod tuple;
pub mod wire;

pub use address::{Address, V4, V6};
pub use drop_reason::DropReason;
pub use flow::Flow;
pub use tuple::{FlowKey, Protocol, Tuple, Zone};
