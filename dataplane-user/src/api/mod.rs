//! The agent's HTTP API on a unix socket: Docker Engine API where Docker has a call, our own where not.
//!
//! [`types`] is the JSON that both sides share, [`serve`] the server. Nothing is decided here: requests
//! become the model's types, the agent judges them, and its answers become Docker's objects.

mod attached;
mod attachments;
mod containers;
mod convert;
mod drops;
mod error;
mod events;
mod extract;
mod filter;
pub mod human;
mod multiplexed;
mod networks;
mod openapi;
mod peer;
mod ports;
mod present;
mod query;
mod record;
mod server;
pub mod socket;
mod system;
pub mod types;
mod version;

pub(crate) use multiplexed::{HEADER, STDERR};
pub use server::serve;
