//! Networks, endpoints, containers and published ports: plain types and their rules.
//!
//! No I/O and nothing of the kernel: everything here can be tested with values alone. Addresses
//! are handed out by `ipam`, kept by `store`, and made real by `agent`.

mod bandwidth;
mod container;
mod engine;
mod error;
mod id;
mod mac;
mod macvlan;
mod name;
mod naming;
mod network;
mod options;
mod port;
mod range;
mod request;
mod sandbox;

pub use bandwidth::{Bandwidth, Rate};
pub use container::{Attachment, Container, Endpoint, SHARED, State, UNKNOWN_EXIT, default_route_endpoint};
pub use engine::{AddressBlock, Engine, HandoverRequest, KnownContainer, KnownNetwork};
pub use error::{Error, ErrorKind, Result};
pub use id::Id;
pub use mac::MacAddress;
pub use macvlan::{MacvlanMode, MacvlanOptions};
pub use name::{Named, check_dns_name, check_hostname, check_interface_name, check_name, random_name, resolve};
pub use naming::{HostEntry, Link, Naming};
pub use network::{Driver, Network, Scope, Subnet};
pub use options::{BridgeOptions, DEFAULT_MTU, GatewayMode};
pub use port::{
    Access, AccessRequest, ExposedPorts, HostPort, Place, PortBinding, PortRequest, PortSpec, Protocol, PublishRequest,
    PublishedPort,
};
pub use range::AddressRange;
pub use request::{EndpointRequest, ExecRequest, IpamConfig, NetworkCreate, RunRequest, StaticRoute};
pub use sandbox::{AttachRequest, Sandbox, SandboxInterface, check_key, netns_path};
