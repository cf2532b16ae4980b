//! The Container Network Interface, as a plugin speaks it: environment and configuration in, result or error out.
//!
//! Versions 0.3.1, 0.4.0, 1.0.0 and 1.1.0 of the specification (<https://www.cni.dev/docs/spec/>) and the conventions that runtimes keep
//! beside it. Nothing here reads, asks or prints: values become other values.

mod call;
mod config;
mod error;
mod request;
mod result;
#[cfg(test)]
mod tests;
mod version;

pub use call::{Args, Call, Verb};
pub use config::{Attachment, Config, Ipam};
pub use error::{Code, Error};
pub use request::{Endpoint, attach, create_network, from_ipam, owner};
pub use result::{Dns, Interface, Ip, Outcome, Route, of_attachment};
pub use version::Version;

/// What the plugin is called in configurations.
pub const TYPE: &str = "spandrel-cni";
