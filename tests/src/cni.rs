//! A container runtime's side of CNI: calls the plugins of a configuration one after the other, as libcni does.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use crate::fail::OrFail;
use crate::host::Host;

/// Where our plugin is installed on a host of the lab.
const BIN: &str = "/run/cni/bin";

/// Debian's own plugins, once they are installed.
const DEBIAN_BIN: &str = "/usr/lib/cni";

/// A network of a runtime: a list of plugins, and the version that they are asked in.
pub struct Cni<'h> {
    host: &'h Host,
    name: String,
    version: String,
    plugins: Vec<Value>,
    calls: AtomicUsize,
}

/// An interface of a container, and what the runtime knows of it.
#[derive(Clone, Debug)]
pub struct CniAttachment {
    /// The runtime's container id.
    pub container: String,
    /// The network namespace; empty where it is gone.
    pub netns: String,
    /// The interface's name.
    pub interface: String,
    /// What is wished for, by capability.
    pub capabilities: Value,
    /// `CNI_ARGS`.
    pub args: String,
    /// The result of the ADD.
    pub result: Option<Value>,
}

impl CniAttachment {
    /// The interface `eth0` of a container, in a namespace of that name that `ip netns` would show.
    pub fn new(container: &str, netns: &str) -> Self {
        CniAttachment {
            container: container.into(),
            netns: if netns.is_empty() { String::new() } else { format!("/run/netns/{netns}") },
            interface: "eth0".into(),
            capabilities: json!({}),
            args: String::new(),
            result: None,
        }
    }

    /// With wishes.
    #[must_use]
    pub fn wishing(self, capabilities: Value) -> Self {
        Self { capabilities, ..self }
    }
}

impl<'h> Cni<'h> {
    /// A network of that name. Our plugin is installed on the host under its own name.
    #[track_caller]
    pub fn new(host: &'h Host, name: &str, version: &str, plugins: &[Value]) -> Self {
        let program = host.program("").get_program().to_owned();
        host.command(&["mkdir", "-p", BIN]).ok();
        let link = host.path(BIN).join("spandrel-cni");
        if !link.is_symlink() {
            symlink(program, link).or_fail("install the plugin");
        }
        Cni { host, name: name.into(), version: version.into(), plugins: plugins.to_vec(), calls: AtomicUsize::new(0) }
    }

    /// ADD, from the first plugin to the last. What went wrong is undone as a runtime does it: by a DEL.
    pub fn add(&self, attachment: &mut CniAttachment) -> Result<Value, Value> {
        let mut previous = None;
        for plugin in &self.plugins {
            match self.call("ADD", plugin, attachment, previous.as_ref(), &json!({})) {
                Ok(result) => previous = result,
                Err(error) => {
                    self.del(attachment).map_err(|also| json!([error, also]))?;
                    return Err(error);
                }
            }
        }
        attachment.result.clone_from(&previous);
        Ok(previous.unwrap_or_default())
    }

    /// DEL, from the last plugin to the first.
    pub fn del(&self, attachment: &CniAttachment) -> Result<(), Value> {
        for plugin in self.plugins.iter().rev() {
            self.call("DEL", plugin, attachment, attachment.result.as_ref(), &json!({}))?;
        }
        Ok(())
    }

    /// CHECK, from the first plugin to the last.
    pub fn check(&self, attachment: &CniAttachment) -> Result<(), Value> {
        for plugin in &self.plugins {
            self.call("CHECK", plugin, attachment, attachment.result.as_ref(), &json!({}))?;
        }
        Ok(())
    }

    /// GC: everything goes but what is listed.
    pub fn gc(&self, valid: &[&CniAttachment]) -> Result<(), Value> {
        let valid: Vec<_> = valid.iter().map(|a| json!({"containerID": a.container, "ifname": a.interface})).collect();
        for plugin in &self.plugins {
            let further = json!({"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid});
            self.call("GC", plugin, &CniAttachment::new("", ""), None, &further)?;
        }
        Ok(())
    }

    /// STATUS.
    pub fn status(&self) -> Result<(), Value> {
        for plugin in &self.plugins {
            self.call("STATUS", plugin, &CniAttachment::new("", ""), None, &json!({}))?;
        }
        Ok(())
    }

    /// VERSION of the first plugin.
    pub fn version(&self) -> Result<Value, Value> {
        let version = self.call("VERSION", &self.plugins[0], &CniAttachment::new("", ""), None, &json!({}))?;
        Ok(version.unwrap_or_default())
    }

    /// One call of one plugin: what it printed, or its error.
    pub fn call(
        &self,
        verb: &str,
        plugin: &Value,
        attachment: &CniAttachment,
        previous: Option<&Value>,
        further: &Value,
    ) -> Result<Option<Value>, Value> {
        let mut config = plugin.as_object().cloned().unwrap_or_default();
        config.insert("cniVersion".into(), self.version.clone().into());
        config.insert("name".into(), self.name.clone().into());
        config.extend(further.as_object().cloned().unwrap_or_default());
        if let Some(previous) = previous {
            config.insert("prevResult".into(), previous.clone());
        }
        // Only what the configuration says that the plugin can do.
        let offered = attachment.capabilities.as_object().cloned().unwrap_or_default();
        let wanted: Map<_, _> =
            offered.into_iter().filter(|(name, _)| plugin["capabilities"][name] == json!(true)).collect();
        if !wanted.is_empty() {
            config.insert("runtimeConfig".into(), wanted.into());
        }
        self.run(verb, plugin["type"].as_str().unwrap_or_default(), attachment, &Value::from(config).to_string())
    }

    /// One call of a plugin by its type, with this text as its configuration.
    #[track_caller]
    pub fn run(
        &self,
        verb: &str,
        kind: &str,
        attachment: &CniAttachment,
        config: &str,
    ) -> Result<Option<Value>, Value> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let file = format!("/run/cni/{}-{number}.json", self.name);
        self.host.write(&file, config);
        let script = format!("for bin in {BIN} {DEBIAN_BIN}; do test -x $bin/$1 && exec $bin/$1 < $2; done; exit 127");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", kind, &file]);
        let (container, interface) = (&attachment.container, &attachment.interface);
        for (name, value) in [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", &attachment.netns),
            ("CNI_IFNAME", if container.is_empty() { "" } else { interface }),
            ("CNI_ARGS", &attachment.args),
            ("CNI_PATH", &format!("{BIN}:{DEBIAN_BIN}")),
        ] {
            match value {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        command.env_remove("SPANDREL_SOCKET").env_remove("RUST_LOG");
        let output = self.host.output(command);
        let printed = output.stdout.trim();
        let value = if printed.is_empty() { None } else { serde_json::from_str(printed).ok() };
        match output.code {
            Some(0) => Ok(value),
            _ => Err(value.unwrap_or_else(|| json!({"code": Value::Null, "msg": format!("{output:?}")}))),
        }
    }
}
