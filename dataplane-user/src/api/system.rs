//! The calls about the agent and its host.

use std::thread;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, PRAGMA};
use axum::response::IntoResponse;
use jiff::Timestamp;
use nix::sys::sysinfo::sysinfo;
use nix::sys::utsname::{UtsName, uname};

use super::error::{Refusal, Refusals};
use super::types::system::{Component, Info, Platform, Plugins, Swarm, Version};
use super::version::{NEWEST, OLDEST};
use crate::agent::Handle;
use crate::kernel::sysctl;
use crate::model::{Driver, Error};

const NAME: &str = "Spandrel";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Ask whether the agent is there
#[utoipa::path(get, path = "/_ping", tag = "Agent", responses((status = 200, description = "It is.", body = String, content_type = "text/plain")))]
pub(super) async fn ping() -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-cache, no-store, must-revalidate"), (PRAGMA, "no-cache")], "OK")
}

/// Show the versions of the agent, its API and its kernel
#[utoipa::path(get, path = "/version", tag = "Agent", responses((status = 200, description = "The versions.", body = Version), Refusals))]
pub(super) async fn version() -> Result<Json<Version>, Refusal> {
    let kernel = host()?.release().to_string_lossy().into_owned();
    let arch = dockers_name(std::env::consts::ARCH);
    Ok(Json(Version {
        platform: Platform { name: NAME.into() },
        components: vec![Component {
            name: "Engine".into(),
            version: VERSION.into(),
            details: [
                ("ApiVersion", NEWEST.to_string()),
                ("MinAPIVersion", OLDEST.to_string()),
                ("Os", "linux".into()),
                ("Arch", arch.into()),
                ("KernelVersion", kernel.clone()),
                ("Experimental", "false".into()),
            ]
            .map(|(name, value)| (name.to_string(), value))
            .into(),
        }],
        version: VERSION.into(),
        api_version: NEWEST.to_string(),
        min_api_version: OLDEST.to_string(),
        os: "linux".into(),
        arch: arch.into(),
        kernel_version: kernel,
    }))
}

/// Show the agent and its host
#[utoipa::path(get, path = "/info", tag = "Agent", responses((status = 200, description = "What there is to know.", body = Info), Refusals))]
pub(super) async fn info(State(agent): State<Handle>) -> Result<Json<Info>, Refusal> {
    let host = host()?;
    let containers = agent.containers().await?;
    let running = containers.iter().filter(|container| container.is_running()).count();
    Ok(Json(Info {
        containers: containers.len(),
        containers_running: running,
        containers_stopped: containers.len() - running,
        plugins: Plugins {
            network: [Driver::Bridge, Driver::Host, Driver::Macvlan, Driver::Null]
                .map(|driver| driver.as_str().into())
                .into(),
        },
        ipv4_forwarding: sysctl::get(&["net", "ipv4", "ip_forward"]).is_ok_and(|value| value == "1"),
        system_time: Timestamp::now().to_string(),
        kernel_version: host.release().to_string_lossy().into(),
        operating_system: operating_system(),
        os_type: "linux".into(),
        architecture: host.machine().to_string_lossy().into(),
        cpus: thread::available_parallelism().map_or(1, usize::from),
        mem_total: sysinfo().map(|info| info.ram_total()).unwrap_or_default(),
        name: host.nodename().to_string_lossy().into(),
        server_version: VERSION.into(),
        swarm: Swarm { local_node_state: "inactive".into() },
        ..Default::default()
    }))
}

fn host() -> Result<UtsName, Error> {
    uname().map_err(|errno| Error::internal("cannot read the host's name", errno))
}

/// The distribution's name for itself.
fn operating_system() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_string()
}

/// Docker calls processors as Go does.
fn dockers_name(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "x86" => "386",
        other => other,
    }
}
