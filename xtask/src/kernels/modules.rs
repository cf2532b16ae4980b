//! Which kernel modules a machine loads, and in which order. A full system loads them by itself when they are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Asked for by name: what leads to the file system of this machine, what Spandrel uses, what only the Lab uses.
const WANTED: [&str; 9] =
    ["virtio_pci", "9pnet_virtio", "9p", "veth", "bridge", "macvlan", "sch_ingress", "cls_bpf", "overlay"];

/// The files of all modules to load, each after what it depends on; `folder` is that of one kernel's modules.
pub(super) fn to_load(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (dependencies, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    let files = order(&WANTED, &dependencies, &builtin)?;
    Ok(files.into_iter().map(|file| folder.join(file)).collect())
}

/// The order, by what `modules.dep` says: a line for each module, with all that it depends on, nearest first.
fn order<'a>(wanted: &[&str], dependencies: &'a str, builtin: &'a str) -> Result<Vec<&'a str>> {
    let modules: BTreeMap<&str, (&str, &str)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (name(file), (file, needs)))
        .collect();
    let builtin: BTreeSet<&str> = builtin.lines().map(name).collect();
    let mut files: Vec<&str> = Vec::new();
    for module in wanted {
        let Some((file, needs)) = modules.get(module) else {
            if builtin.contains(module) {
                continue;
            }
            bail!("the kernel has no module {module}");
        };
        for file in needs.split_whitespace().rev().chain([*file]) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// A module's name, from its file's; compressed or not.
fn name(file: &str) -> &str {
    let name = file.rsplit_once('/').map_or(file, |(_, name)| name);
    name.split_once('.').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let dep = "kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz\n\
                   kernel/net/802/stp.ko.xz: kernel/net/llc/llc.ko.xz\nkernel/net/llc/llc.ko.xz:\n";
        let files = order(&["stp", "virtio_pci", "bridge"], dep, "kernel/drivers/virtio/virtio_pci.ko\n").unwrap();
        assert_eq!(files, ["kernel/net/llc/llc.ko.xz", "kernel/net/802/stp.ko.xz", "kernel/net/bridge/bridge.ko.xz"]);
        let error = order(&["veth"], dep, "").unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no module veth");
    }
}
