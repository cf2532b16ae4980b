//! What can go wrong between the agent and bpf(2).

use std::path::PathBuf;

/// An error of the data plane; its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The object or one of its maps cannot be loaded.
    #[error("the kernel does not take the eBPF programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// A program cannot be loaded or attached.
    #[error("the eBPF program {program} cannot be {action}: {source}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// `loaded`, `attached to eth0`, …
        action: String,
        /// What the kernel says.
        source: aya::programs::ProgramError,
    },
    /// The verifier refuses a program.
    #[error("the kernel refuses the eBPF program {program}: {source} ({objection})")]
    Refused {
        /// Name of the program.
        program: &'static str,
        /// The error of bpf(2).
        source: std::io::Error,
        /// The verifier's last word.
        objection: String,
    },
    /// A map cannot be read or written.
    #[error("an eBPF map cannot be used: {0}")]
    Map(#[from] aya::maps::MapError),
    /// The object lacks a map or a program: it was not built from this source.
    #[error("the embedded eBPF object has no {0}: build with `cargo xtask build`")]
    Missing(&'static str),
    /// A pinned map is not what this version would make.
    #[error("the pinned map {path} has {found}, but this version needs {wanted}: stop what uses it and remove it", path = .path.display())]
    Shape {
        /// The pin.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// A pin or its folder cannot be made or removed.
    #[error("the pin {path} cannot be changed: {source}", path = .path.display())]
    Pin {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A pinned link cannot be opened or updated.
    #[error("the pinned link {path} cannot be used: {reason}", path = .path.display())]
    Link {
        /// The pin.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The shield cannot run where it was asked to.
    #[error("the shield cannot run on {interface} as --xdp wants it: {source}; `--xdp auto` leaves out what cannot be")]
    Shield {
        /// The uplink.
        interface: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The host says something that cannot be understood, or nothing at all.
    #[error("{what}: {source}")]
    Host {
        /// What was asked.
        what: String,
        /// The answer.
        source: std::io::Error,
    },
    /// Somebody else's port.
    #[error("port {0} is already published by another container")]
    Published(String),
    /// A slot beyond the maps' size.
    #[error("there is no room for more than {0} {1}")]
    Full(usize, &'static str),
}
