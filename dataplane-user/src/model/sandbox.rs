//! A network namespace that somebody else made and keeps: what a container has here in the place of a process of ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{EndpointRequest, Engine, Error, PublishRequest, Result};

/// Where `ip netns` keeps its namespaces.
const NAMED: &str = "/run/netns";

/// Longest name that a caller may give; some runtimes put several ids into one.
const MAX_KEY: usize = 256;

/// The namespace of a container that we did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// What its owner calls it: a runtime's container id, or the container's name.
    pub key: String,
    /// Where it is found.
    pub netns: PathBuf,
    /// By which it is told from another one that is found there later (`SO_NETNS_COOKIE`); 0 where nobody has seen it yet, which only
    /// an engine's can be.
    pub cookie: u64,
    /// The engine that moves our interfaces into it and sets them up there; none if we do that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Its interfaces that were attached, by name.
    #[serde(default)]
    pub interfaces: BTreeMap<String, SandboxInterface>,
}

/// What was said when an interface was attached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxInterface {
    /// Who attached it, in words of their own; empty if nobody cares.
    #[serde(default)]
    pub owner: String,
    /// The slots of the published ports that came with it and go with it.
    #[serde(default)]
    pub ports: Vec<u32>,
}

/// A namespace that is to get an interface on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// A path, a name of `ip netns`, or a process id.
    pub netns: String,
    /// What its owner calls it; the name if left out.
    pub key: Option<String>,
    /// The container's name. Refused if somebody else has it.
    pub name: Option<String>,
    /// The container's name unless somebody else has it.
    pub preferred_name: Option<String>,
    /// The network by name or id.
    pub network: String,
    /// The new interface's name; chosen if left out.
    pub interface: Option<String>,
    /// Wishes for the endpoint.
    pub endpoint: EndpointRequest,
    /// Ports to publish.
    pub publish: PublishRequest,
    /// Who asks, in words of their own.
    pub owner: String,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
}

/// Where a namespace is, from what users call it: an absolute path, a name of `ip netns`, or a process id.
pub fn netns_path(text: &str) -> Result<PathBuf> {
    let invalid = |why: &str| Error::Invalid(format!("invalid network namespace {text:?}: {why}"));
    if text.is_empty() {
        return Err(Error::Invalid("no network namespace is given: a path, a name or a process id is expected".into()));
    }
    if text.contains('\0') {
        return Err(invalid("it holds a NUL character"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Path::new("/proc").join(text).join("ns/net"));
    }
    if !text.contains('/') {
        return match text {
            "." | ".." => Err(invalid("it is no name")),
            name => Ok(Path::new(NAMED).join(name)),
        };
    }
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(invalid("a path has to be absolute"));
    }
    // They would mean the agent's own.
    if path.starts_with("/proc/self") || path.starts_with("/proc/thread-self") {
        return Err(invalid("give the process's number in the place of \"self\""));
    }
    Ok(path)
}

/// What runtimes may call their containers (CNI's rule, which Docker's ids and names meet, too).
pub fn check_key(key: &str) -> Result<()> {
    let mut characters = key.chars();
    let allowed = characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    match allowed && key.len() <= MAX_KEY {
        true => Ok(()),
        false => Err(Error::Invalid(format!(
            "invalid container id {key:?}: at most {MAX_KEY} of [a-zA-Z0-9_.-] are allowed, the first a letter or digit"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_names_and_process_ids() {
        for (text, path) in [
            ("/run/netns/x", "/run/netns/x"),
            ("/proc/12/ns/net", "/proc/12/ns/net"),
            ("x", "/run/netns/x"),
            ("cni-0a1b", "/run/netns/cni-0a1b"),
            ("12", "/proc/12/ns/net"),
        ] {
            assert_eq!(netns_path(text).unwrap(), Path::new(path), "{text}");
        }
        for (text, why) in [
            ("", "a path, a name or a process id"),
            ("netns/x", "absolute"),
            ("..", "no name"),
            ("/proc/self/ns/net", "number"),
            ("a\0b", "NUL"),
        ] {
            assert!(netns_path(text).unwrap_err().to_string().contains(why), "{text:?}");
        }
    }

    #[test]
    fn what_runtimes_call_containers() {
        for key in ["a", "cnitool-77383ca0a0715733ca6f", "A_b.c-9", &"f".repeat(64)] {
            check_key(key).unwrap();
        }
        for key in ["", "-a", ".a", "a/b", "a b", &"f".repeat(300)] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }
}
