//! The only place that touches the kernel: netlink, network namespaces, sysctls, mounts, held ports and processes.
//!
//! Mechanism only. Nothing here knows a network's options, keeps state or decides what ought to be there; the agent does,
//! and calls these functions until the kernel is as it wants it.

mod address;
pub mod announce;
pub mod arrival;
mod bridge;
pub mod capability;
pub mod dataplane;
mod deletion;
mod error;
mod exec;
mod fdb;
pub mod firewall;
mod inspect;
pub mod limits;
mod link;
mod listing;
pub mod log;
mod macvlan;
mod members;
pub mod memory;
pub mod mount;
mod name_sockets;
pub mod netns;
mod news;
pub mod pidfd;
pub mod ports;
pub mod process;
mod prompt;
pub mod rcu;
mod route;
pub mod shim;
pub mod sysctl;
pub mod uplink;
mod veth;

pub use bridge::{Bridge, BridgeSpec};
pub use error::{Error, Result};
pub use exec::Executed;
pub use inspect::Inventory;
pub use link::{Link, Netlink};
pub use macvlan::{MacVlanMode, Macvlan, MacvlanSpec};
pub use name_sockets::{Answers, NAME_SERVER, NameSockets};
pub use netns::NetNs;
pub use veth::{Veth, VethSpec};

#[cfg(test)]
mod tests;
