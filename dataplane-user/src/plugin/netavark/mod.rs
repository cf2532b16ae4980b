//! Netavark's plugin API 1.0.0, as Podman's networks of a driver that it does not know itself are made and used: what comes on standard
//! input, what goes to standard output, and what the agent is asked for in between.
//!
//! The source is `plugin-API.md` of netavark and what Podman 5 sends. Fields that we do not know are given back as they came. Nothing
//! here reads, asks or prints.

mod request;
mod status;
#[cfg(test)]
mod tests;
mod types;

pub use request::{LABEL, OWNER, Unsupported, attach, check_same, create_network, fill, owner, publishes};
pub use status::{Info, StatusBlock, status};
pub use types::{Attachment, Network, PortMapping, Setup, Subnet};

/// The version of the API.
pub const API_VERSION: &str = "1.0.0";

/// What the folders are called in which netavark looks for plugins; the plugin's name there is the driver's.
pub const FOLDER: &str = "netavark";
