//! The CNI plugin: a client of the agent that a container runtime calls. What is said, and how, is `plugin::cni`'s business.

mod ipam;

use std::env;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::{Client, segment};
use super::error::Error as ClientError;
use super::output;
use crate::api::types::attachment::{Attachment, Check};
use crate::api::types::network::{CreateResponse, Network};
use crate::kernel::NetNs;
use crate::plugin::cni::{
    Call, Code, Config, Endpoint, Error, Ipam, TYPE, Verb, Version, attach, create_network, from_ipam, of_attachment,
    owner,
};

/// Whether the process was started by the plugin's name.
pub(super) fn is_called() -> bool {
    let name = env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == TYPE))
}

/// Does what the environment says, and prints what the specification wants printed.
pub(super) fn main(socket: &Path) -> ExitCode {
    // What is wrong with the configuration is told in its own version, as far as that is known.
    let mut version = Version::NEWEST;
    match run(socket, &mut version) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(answer)) => print(&answer, ExitCode::SUCCESS),
        Err(error) => print(&error.to_json(version), ExitCode::FAILURE),
    }
}

fn print(answer: &Value, code: ExitCode) -> ExitCode {
    match output::print(&format!("{answer}\n")) {
        Ok(()) => code,
        Err(error) => {
            output::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn run(socket: &Path, version: &mut Version) -> Result<Option<Value>, Error> {
    let variable = |name: &str| env::var(name).ok();
    let Some(call) = Call::parse(variable)? else {
        // Runtimes look for the version in this line.
        eprintln!("CNI {TYPE} plugin v{}", env!("CARGO_PKG_VERSION"));
        eprintln!("CNI protocol versions supported: {}", Version::ALL.map(Version::as_str).join(", "));
        return Ok(None);
    };
    let mut text = Vec::new();
    let read = io::stdin().read_to_end(&mut text);
    read.map_err(|error| Error::new(Code::Io, format!("cannot read the network configuration: {error}")))?;
    if call.verb == Verb::Version {
        let wanted = Config::version(&text).unwrap_or(Version::NEWEST);
        let all = Version::ALL.map(Version::as_str);
        return Ok(Some(json!({"cniVersion": wanted.as_str(), "supportedVersions": all})));
    }
    *version = Config::version(&text)?;
    let since = match call.verb {
        Verb::Check => Version::V0_4_0,
        Verb::Gc | Verb::Status => Version::V1_1_0,
        _ => Version::V0_3_1,
    };
    if *version < since {
        let verb = call.verb.as_str();
        return Err(Error::new(Code::IncompatibleVersion, format!("config version {version} does not allow {verb}")));
    }
    let config = Config::parse(&text)?;
    let client = Client::new(config.socket.as_deref().unwrap_or(socket));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(Code::Io, format!("cannot start: {error}")))?;
    let plugin = Plugin { client, call, config, text };
    runtime.block_on(async {
        match plugin.call.verb {
            Verb::Add => plugin.add().await.map(Some),
            Verb::Del => plugin.del().await.map(|()| None),
            Verb::Check => plugin.check().await.map(|()| None),
            Verb::Gc => plugin.gc().await.map(|()| None),
            Verb::Status => plugin.status().await.map(|()| None),
            Verb::Version => Ok(None),
        }
    })
}

/// One call with all that it needs.
struct Plugin {
    client: Client,
    call: Call,
    config: Config,
    /// The configuration as it was read, for other plugins.
    text: Vec<u8>,
}

impl Plugin {
    /// The plugin that gives addresses, if we do not.
    fn ipam(&self) -> Option<&str> {
        match &self.config.ipam {
            Ipam::Own(_) => None,
            Ipam::Plugin(kind) => Some(kind),
        }
    }

    fn tell_ipam(&self, verb: Verb) -> Result<(), Error> {
        self.ipam().map_or(Ok(()), |kind| ipam::tell(&self.call, kind, verb, &self.text))
    }

    async fn add(&self) -> Result<Value, Error> {
        self.check_netns()?;
        let Some(kind) = self.ipam() else {
            let wished = Endpoint::wished(&self.call, &self.config)?;
            return self.attach(&wished, None).await;
        };
        let given = ipam::add(&self.call, kind, &self.text)?;
        let attached = match from_ipam(&given) {
            Ok(endpoint) => self.attach(&endpoint, Some(&endpoint)).await,
            Err(error) => Err(error),
        };
        attached.map_err(|error| match self.tell_ipam(Verb::Del) {
            Ok(()) => error,
            Err(also) => Error::new(error.code, format!("{}; {}", error.message, also.message)),
        })
    }

    /// Looks whether there is a namespace to attach.
    fn check_netns(&self) -> Result<(), Error> {
        let netns = Path::new(&self.call.netns);
        let there = NetNs::open_if_there(netns).map_err(|error| Error::new(Code::Netns, error.to_string()))?;
        there.map(drop).ok_or_else(|| {
            Error::new(Code::Netns, format!("{} is not a network namespace, or not there", netns.display()))
        })
    }

    /// Attaches the namespace, to a network that is made where it is missing.
    async fn attach(&self, endpoint: &Endpoint, given: Option<&Endpoint>) -> Result<Value, Error> {
        let request = attach(&self.call, &self.config, endpoint);
        self.ensure_network(given).await?;
        let mut attached = self.client.post("/spandrel/attachments", &request).await;
        if attached.as_ref().is_err_and(ClientError::is_not_found) {
            self.check_netns()?;
            // Somebody has removed the network in this moment: it is made again, once.
            self.ensure_network(given).await?;
            attached = self.client.post("/spandrel/attachments", &request).await;
        }
        let attachment: Attachment = attached.map_err(|error| match explain(error) {
            // The container is new, so it is not what is not known.
            Error { code: Code::UnknownContainer, message } => Error::new(Code::TryAgain, message),
            error => error,
        })?;
        let mut outcome =
            of_attachment(&attachment, &self.call.netns).after(self.config.previous.clone().unwrap_or_default());
        if let Some(dns) = &self.config.dns {
            outcome.dns = dns.clone();
        }
        Ok(outcome.to_json(self.config.version))
    }

    async fn ensure_network(&self, given: Option<&Endpoint>) -> Result<(), Error> {
        let path = format!("/networks/{}", segment(&self.config.network));
        let wanted = create_network(&self.config, given)?;
        let there: Network = match self.client.get(&path).await {
            Ok(network) => network,
            Err(error) if error.is_not_found() => {
                match self.client.post::<CreateResponse>("/networks/create", &wanted).await {
                    Ok(_) => return Ok(()),
                    // Somebody else has been quicker.
                    Err(ClientError::Refused { status: StatusCode::CONFLICT, message }) => {
                        self.client.get(&path).await.map_err(|_| Error::new(Code::Refused, message))?
                    }
                    Err(error) => return Err(explain(error)),
                }
            }
            Err(error) => return Err(explain(error)),
        };
        for config in wanted.ipam.unwrap_or_default().config {
            let Some(here) = there.ipam.config.iter().find(|here| here.subnet == config.subnet) else {
                let text = format!("network {} is there and has not the subnet {}", there.name, config.subnet);
                return Err(Error::new(Code::Config, text));
            };
            if !config.gateway.is_empty() && config.gateway != here.gateway {
                let text = format!(
                    "network {} is there, and its gateway is {}, not {}",
                    there.name, here.gateway, config.gateway
                );
                return Err(Error::new(Code::Config, text));
            }
        }
        Ok(())
    }

    async fn detach(&self, container: &str, interface: &str) -> Result<(), Error> {
        let (interface, owner) = (segment(interface), segment(&owner(&self.config)));
        let path = format!("/spandrel/attachments/{}?interface={interface}&owner={owner}", segment(container));
        match self.client.delete(&path).await.map_err(explain) {
            // It is gone, as it should be.
            Err(error) if error.code == Code::UnknownContainer => Ok(()),
            result => result,
        }
    }

    async fn del(&self) -> Result<(), Error> {
        self.detach(&self.call.container, &self.call.interface).await?;
        self.tell_ipam(Verb::Del)
    }

    async fn check(&self) -> Result<(), Error> {
        let Call { container, interface, netns, .. } = &self.call;
        let Some(previous) = &self.config.previous else {
            return Err(Error::new(Code::Config, "required prevResult missing"));
        };
        let faulty = |text: String| Error::new(Code::Faulty, text);
        let Some(promised) = previous.addresses_of(interface, netns) else {
            return Err(faulty(format!("prevResult has no interface {interface} in {netns}")));
        };
        let query = format!("container={}&interface={}", segment(container), segment(interface));
        let found: Vec<Attachment> =
            self.client.get(&format!("/spandrel/attachments?{query}")).await.map_err(explain)?;
        let Some(attachment) = found.first() else {
            return Err(faulty(format!("interface {interface} of container {container} is not attached")));
        };
        let has = |address: &&str| attachment.addresses.iter().any(|a| a.address == *address);
        if let Some(missing) = promised.iter().find(|address| !has(address)) {
            return Err(faulty(format!("interface {interface} was given {missing} and has it no longer")));
        }
        let path = format!("/spandrel/attachments/{}/check?interface={}", segment(container), segment(interface));
        let check: Check = self.client.get(&path).await.map_err(explain)?;
        if !check.faults.is_empty() {
            return Err(faulty(check.faults.join("; ")));
        }
        self.tell_ipam(Verb::Check)
    }

    async fn gc(&self) -> Result<(), Error> {
        let path = format!("/spandrel/attachments?owner={}", segment(&owner(&self.config)));
        let found: Vec<Attachment> = self.client.get(&path).await.map_err(explain)?;
        let mut failed = Vec::new();
        for attachment in found {
            let stays = |valid: &crate::plugin::cni::Attachment| {
                valid.container == attachment.id && valid.interface == attachment.interface
            };
            if !self.config.valid.iter().any(stays) {
                failed.extend(self.detach(&attachment.id, &attachment.interface).await.err());
            }
        }
        failed.extend(self.tell_ipam(Verb::Gc).err());
        match failed.first() {
            None => Ok(()),
            Some(first) => {
                let all: Vec<_> = failed.iter().map(|error| error.message.as_str()).collect();
                Err(Error::new(first.code, all.join("; ")))
            }
        }
    }

    async fn status(&self) -> Result<(), Error> {
        if let Err(error) =
            self.client.get::<Vec<Network>>("/networks?filters=%7B%22type%22%3A%5B%22builtin%22%5D%7D").await
        {
            return Err(Error::new(Code::NotAvailable, explain(error).message));
        }
        self.tell_ipam(Verb::Status)
    }
}

/// The agent's refusals as runtimes understand them.
fn explain(error: ClientError) -> Error {
    let code = match &error {
        ClientError::Unreachable(_) | ClientError::Lost { .. } => Code::TryAgain,
        ClientError::Denied(_) | ClientError::Local(_) => Code::Io,
        // An agent answers so to what it does not know.
        ClientError::Refused { status: StatusCode::NOT_FOUND, message } if message.starts_with("there is no call") => {
            return Error::new(Code::Failed, "the agent is older than this plugin: restart it with this version");
        }
        ClientError::Refused { status, .. } => match *status {
            StatusCode::BAD_REQUEST => Code::Config,
            StatusCode::NOT_FOUND => Code::UnknownContainer,
            StatusCode::CONFLICT | StatusCode::FORBIDDEN => Code::Refused,
            _ => Code::Failed,
        },
    };
    Error::new(code, error.to_string())
}
