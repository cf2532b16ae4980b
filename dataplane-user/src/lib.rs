//! Spandrel: container networks on eBPF alone. Agent, command line and plug-ins are one binary; this is the library behind it.
//!
//! Dependencies point downwards only: `cli` → {`plugin`, `api`} → `agent` → {`model`, `ipam`, `store`, `dns`, `kernel`}. `plugin` speaks
//! other people's protocols: CNI's in terms of the API's types, Docker's beside the API.

pub mod agent;
pub mod api;
pub mod cli;
pub mod dns;
pub mod ipam;
pub mod kernel;
pub mod model;
pub mod plugin;
pub mod store;
