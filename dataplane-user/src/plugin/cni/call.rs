//! What the environment of a call says.

use std::path::PathBuf;

use super::{Code, Error};
use crate::model::{check_interface_name, check_key};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Give a namespace an interface.
    Add,
    /// Take it away.
    Del,
    /// Look whether it is as it should be.
    Check,
    /// Take away what is not listed.
    Gc,
    /// Say whether an ADD could succeed.
    Status,
    /// Say which versions there are.
    Version,
}

impl Verb {
    /// As `CNI_COMMAND` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }
}

/// One call: the environment's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is to be done.
    pub verb: Verb,
    /// The runtime's container id; empty where the verb has none.
    pub container: String,
    /// The network namespace; empty where the verb has none, and at a DEL when it is gone.
    pub netns: String,
    /// The interface's name in the namespace; empty where the verb has none.
    pub interface: String,
    /// Further wishes.
    pub args: Args,
    /// Where other plugins are.
    pub path: Vec<PathBuf>,
}

/// What `CNI_ARGS` may hold that means something to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// `IP`: addresses that are wished for.
    pub ips: Vec<String>,
    /// `MAC`: the Ethernet address that is wished for.
    pub mac: Option<String>,
    /// `K8S_POD_NAME`: what people call the container.
    pub name: Option<String>,
}

impl Call {
    /// Reads the environment. None without `CNI_COMMAND`: somebody has started the plugin by hand.
    pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Call>, Error> {
        let value = |name: &str| variable(name).unwrap_or_default();
        let verb = match value("CNI_COMMAND").as_str() {
            "" => return Ok(None),
            "ADD" => Verb::Add,
            "DEL" => Verb::Del,
            "CHECK" => Verb::Check,
            "GC" => Verb::Gc,
            "STATUS" => Verb::Status,
            "VERSION" => Verb::Version,
            other => {
                let known = "ADD, DEL, CHECK, GC, STATUS and VERSION are known";
                return Err(Error::new(Code::Environment, format!("unknown CNI_COMMAND {other:?}: {known}")));
            }
        };
        let required: &[&str] = match verb {
            Verb::Add | Verb::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Verb::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Verb::Gc | Verb::Status => &["CNI_PATH"],
            Verb::Version => &[],
        };
        let missing: Vec<_> = required.iter().copied().filter(|name| value(name).is_empty()).collect();
        if !missing.is_empty() {
            let text = format!("required env variables [{}] missing", missing.join(","));
            return Err(Error::new(Code::Environment, text));
        }
        let (container, interface) = (value("CNI_CONTAINERID"), value("CNI_IFNAME"));
        let wrong = |name: &str, why: String| Error::new(Code::Environment, format!("{name} is wrong: {why}"));
        if required.contains(&"CNI_IFNAME") {
            check_key(&container).map_err(|error| wrong("CNI_CONTAINERID", error.to_string()))?;
            check_interface_name(&interface).map_err(|why| wrong("CNI_IFNAME", why))?;
        }
        Ok(Some(Call {
            verb,
            container,
            netns: value("CNI_NETNS"),
            interface,
            args: Args::parse(&value("CNI_ARGS"))?,
            path: value("CNI_PATH").split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect(),
        }))
    }
}

impl Args {
    /// Reads `KEY=VALUE;KEY=VALUE`. What we do not know is other plugins' business.
    pub fn parse(text: &str) -> Result<Args, Error> {
        let mut args = Args::default();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::new(
                    Code::Environment,
                    format!("CNI_ARGS: invalid pair {pair:?}, KEY=VALUE is expected"),
                ));
            };
            let given = Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "IP" => args.ips.extend(value.split(',').filter(|ip| !ip.is_empty()).map(String::from)),
                "MAC" => args.mac = given,
                "K8S_POD_NAME" => args.name = given,
                _ => {}
            }
        }
        Ok(args)
    }
}
