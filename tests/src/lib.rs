//! The lab: hosts in namespaces of their own, with the real `spandrel` on them, and machines around them.
//!
//! A scenario is a test in `tests/*.rs`. It makes its machines, does what a user would do, and looks at what happens on
//! the wire:
//!
//! ```no_run
//! use spandrel_tests::*;
//!
//! // A published port is reached from outside, and the container sees the client's own address.
//! let site = Site::new();
//! let web = site.host.run_container("--name web -p 8080:80");
//! let server = web.tcp_listen(V4.any(), 80);
//! let link = site.internet.tcp_connect(site.public(V4), 8080).expect("the published port answers");
//! assert_eq!(link.seen_as.ip(), site.uplink.outside(V4));
//! ```
//!
//! * [`Lab`] makes a [`Host`] or another [`Machine`], and lays an [`Uplink`] between them; [`Site`] is the usual set of
//!   these.
//! * Hosts, machines and containers are each a [`Net`]: what one can do in a network namespace is a method of it, such
//!   as [`Net::ping`] or [`Net::tcp_connect`].
//! * [`Host::spandrel`] runs a command, [`Host::agent`] the agent.
//! * [`Host::state`] tells all that is there, to be compared.
//!
//! What goes wrong in a set-up panics and says where; what a probe finds out is an `io::Result`. Everything is bounded
//! in time. Machines live in namespaces that end with this process, so nothing is left of them when a test ends, fails
//! or is killed. To look around in one while it lasts: `nsenter --all --target NUMBER`, with the number that
//! [`Machine::pid`] tells. Root is needed: `cargo xtask test` sees to it.

mod alter;
mod bpf;
mod cni;
mod container;
mod containerd;
mod cri;
mod crowd;
mod debian;
mod docker;
mod fail;
mod family;
mod flood;
mod host;
mod init;
mod lab;
mod machine;
mod names;
mod net;
mod netfilter;
mod netlink;
mod netns;
mod older;
mod package;
mod passerby;
mod podman;
mod probe;
mod process;
#[cfg(test)]
mod semantics;
mod state;
mod system;
mod thread;
mod transfer;

pub use bpf::PinnedMap;
pub use cni::{Cni, CniAttachment};
pub use container::Container;
pub use containerd::{Containerd, CtrContainer};
pub use cri::{Condition, Cri, PodPort};
pub use crowd::Crowd;
pub use debian::fetched;
pub use docker::{Docker, WITHOUT_IPTABLES};
pub use family::{Family, V4, V6};
pub use flood::{Flood, Flooding};
pub use host::{Agent, Answer, Host, RUN_DIR, SOCKET, STATE_DIR};
pub use init::process_exists;
pub use lab::{Lab, Site, Uplink, Way};
pub use machine::Machine;
pub use names::{Asked, Manner, NAMES_AT, NameServer, UPSTREAM_TTL, addresses, question};
pub use net::{Net, PATIENCE, SILENCE};
pub use netlink::Link;
pub use older::OLDER_SOCKET;
pub use package::Unit;
pub use passerby::{Direction, Order, Passerby};
pub use podman::Podman;
pub use probe::{
    BROADCAST, EXPERIMENT, FrameSocket, IcmpError, PUBLISH, PUBLISHED, RawSocket, SCTP, Services, Station, TCP_PORT,
    TcpLink, TcpServer, UDP_PORT, UdpServer, ask, assert_silent, at_once, ip_addresses, may_be_fragmented,
};
pub use process::{Output, Process, Words, within};
pub use state::State;
pub use transfer::Transfer;
