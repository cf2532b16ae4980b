//! What a container engine has here: networks and interfaces that it asked for under ids of its own, and blocks of addresses that it
//! gives out itself.
//!
//! The difference to a namespace that was attached (`sandbox`): the engine moves our interface into the namespace, and sets it up there.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AddressRange, EndpointRequest, ExposedPorts, Id};

/// Who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker, by its protocols for remote drivers.
    Docker,
}

impl Engine {
    /// What its commands are called, and what stands before names that we give in the place of its own.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Docker => "Docker",
        })
    }
}

/// An endpoint that an engine asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverRequest {
    /// The engine.
    pub engine: Engine,
    /// What it calls the endpoint.
    pub id: Id,
    /// The network.
    pub network: Id,
    /// Wishes for the endpoint.
    pub endpoint: EndpointRequest,
    /// The ports that the container says it serves.
    pub exposed: Vec<ExposedPorts>,
}

/// What an engine calls a container of its own, found by one of the container's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownContainer {
    /// The endpoint.
    pub endpoint: Id,
    /// The container's id.
    pub id: Id,
    /// The container's name.
    pub name: String,
}

/// What an engine calls a network of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNetwork {
    /// The network.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
}

/// A subnet of which an engine asks for one address after the other, as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressBlock {
    /// The subnet.
    pub subnet: IpNet,
    /// Where addresses come from that nobody asked for by name; the whole subnet if not given.
    pub ip_range: Option<AddressRange>,
    /// The engine.
    pub engine: Engine,
    /// The addresses that it has.
    pub taken: BTreeSet<IpAddr>,
}
