//! Everything that Spandrel has on a host, as a list of lines: to see that a refused command changed nothing, and that
//! nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::bpf::{self, PinnedMap};
use crate::fail::OrFail;
use crate::host::{Host, RUN_DIR};

/// In the names of maps whose entries come and go with packets, or with the host's own addresses: they are no
/// configuration.
const PASSING: [&str; 5] = ["flow", "embryo", "drop", "socket_peers", "local_addresses"];

/// The programs that run on sockets, and at which hook of `enum bpf_attach_type` of `linux/bpf.h`.
const SOCKET_PROGRAMS: [(&str, u32); 10] = [
    ("bind4", 8),
    ("bind6", 9),
    ("connect4", 10),
    ("connect6", 11),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
];

/// What was there at one moment, a line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State(BTreeSet<String>);

impl Host {
    /// Everything: what the agent says, and what the kernel and the disk hold.
    #[track_caller]
    pub fn state(&self) -> State {
        let State(mut lines) = self.traces();
        for network in self.api("/networks").as_array().expect("the API lists networks") {
            let name = network["Name"].as_str().expect("a network has a name");
            lines.insert(format!("network {}", self.api(&format!("/networks/{name}"))));
        }
        for container in self.api("/containers/json?all=1").as_array().expect("the API lists containers") {
            let id = container["Id"].as_str().expect("a container has an id");
            lines.insert(format!("container {}", self.api(&format!("/containers/{id}/json"))));
        }
        State(lines)
    }

    /// What the kernel and the disk hold, whether or not an agent runs: links, addresses, routes, listening sockets,
    /// namespaces, containers' directories, processes, mounts, pins, and how full the maps are.
    #[track_caller]
    pub fn traces(&self) -> State {
        let mut lines = BTreeSet::new();
        let links: BTreeMap<u32, _> = self.links().into_iter().map(|link| (link.index, link)).collect();
        for link in links.values() {
            let master = link.master.and_then(|index| links.get(&index)).map_or("", |link| &link.name);
            lines.insert(format!("link {} {} up={} mtu={} master={master}", link.name, link.kind, link.up, link.mtu));
        }
        // The kernel gives itself link-local addresses in its own time.
        let given = |address: &IpAddr| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        for (index, address, prefix) in self.addresses().into_iter().filter(|(_, address, _)| given(address)) {
            let interface = links.get(&index).map_or("?", |link| &link.name);
            lines.insert(format!("address {address}/{prefix} on {interface}"));
        }
        lines.extend(self.routes().into_iter().map(|route| format!("route {route}")));
        lines.extend(self.listeners().into_iter().map(|socket| format!("listening {socket}")));
        for directory in ["netns", "containers"] {
            let files = fs::read_dir(self.path(RUN_DIR).join(directory)).into_iter().flatten().flatten();
            lines.extend(files.map(|file| format!("{directory}/{}", file.file_name().display())));
        }
        lines.extend(self.processes().into_iter().map(|process| format!("process {process}")));
        let mounts = fs::read_to_string(self.path("/proc/1/mounts")).unwrap_or_default();
        let ours = mounts.lines().filter_map(|mount| mount.split(' ').nth(1)).filter(|path| path.starts_with(RUN_DIR));
        lines.extend(ours.map(|path| format!("mount {path}")));
        let pins = self.path(RUN_DIR).join("bpf");
        // The file system's own listings of all maps and programs of the machine are no pins.
        for pin in files_below(&pins).into_iter().filter(|pin| pin.extension().is_none_or(|end| end != "debug")) {
            let name = pin.strip_prefix(&pins).unwrap_or(&pin).display().to_string();
            match bpf::entries(&pin) {
                Ok(Some(entries)) if !PASSING.iter().any(|word| name.to_lowercase().contains(word)) => {
                    lines.insert(format!("pin {name}: {entries} entries"));
                }
                Ok(_) => _ = lines.insert(format!("pin {name}")),
                Err(error) => panic!("cannot look into the pin {name}: {error}"),
            }
        }
        State(lines)
    }

    /// How many entries the pinned map of this name holds.
    #[track_caller]
    pub fn map_entries(&self, map: &str) -> usize {
        let pins = files_below(&self.path(RUN_DIR).join("bpf"));
        let pin = pins.iter().find(|pin| pin.file_name().is_some_and(|name| name.eq_ignore_ascii_case(map)));
        let pin = pin
            .ok_or(&pins)
            .map_err(|pins| format!("{pins:?}"))
            .or_fail(format_args!("find the map {map} among the pins"));
        bpf::entries(pin).map(Option::unwrap_or_default).or_fail(format_args!("look into the map {map}"))
    }

    /// All pinned maps, the largest first.
    #[track_caller]
    pub fn pinned_maps(&self) -> Vec<PinnedMap> {
        let pins = files_below(&self.path(RUN_DIR).join("bpf"));
        let pins = pins.iter().filter(|pin| pin.extension().is_none_or(|end| end != "debug"));
        let look = |pin: &PathBuf| bpf::pinned_map(pin).or_fail(format_args!("look at the pin {}", pin.display()));
        let mut maps: Vec<_> = pins.filter_map(look).collect();
        maps.sort_by_key(|map| std::cmp::Reverse(map.bytes));
        maps
    }

    /// The programs of this host's agent that run on all sockets of the machine, at the root cgroup: names, in order.
    #[track_caller]
    pub fn socket_programs(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").or_fail("read the mounts");
        let root = mounts.lines().find_map(|mount| {
            let mut fields = mount.split(' ').skip(1);
            let (place, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        });
        let root = root.ok_or("none is mounted").or_fail("find a cgroup v2 hierarchy");
        let root = File::open(root).or_fail("open the root cgroup");
        let pins = files_below(&self.path(RUN_DIR).join("bpf"));
        let runs = |pin: &Path, hook: u32| -> io::Result<bool> {
            let running = bpf::programs_at(&root, hook)?;
            Ok(bpf::program_id(pin)?.is_some_and(|id| running.contains(&id)))
        };
        let mut running = Vec::new();
        for (name, hook) in SOCKET_PROGRAMS {
            let loaded = pins
                .iter()
                .filter(|pin| pin.ends_with(name) && pin.components().any(|part| part.as_os_str() == "programs"));
            for pin in loaded {
                if runs(pin, hook).or_fail(format_args!("look for {name} at the root cgroup")) {
                    running.push(name.to_owned());
                }
            }
        }
        running
    }

    /// Local addresses that take connections or datagrams, from `/proc/net`.
    fn listeners(&self) -> Vec<String> {
        let lists = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")].map(|(file, listening)| {
            let sockets = self.proc_net(file).unwrap_or_default();
            let local = sockets.lines().skip(1).filter_map(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
                (state == listening).then(|| format!("{file} {local}"))
            });
            local.collect::<Vec<_>>()
        });
        lists.concat()
    }

    /// The command lines of all processes of this machine that were started by the product or by a container.
    pub fn processes(&self) -> Vec<String> {
        let processes = fs::read_dir(self.path("/proc")).into_iter().flatten().flatten();
        let lines = processes.filter_map(|process| {
            process.file_name().to_str()?.parse::<u32>().ok().filter(|pid| *pid != 1)?;
            let line = fs::read_to_string(process.path().join("cmdline")).ok()?;
            // A process that has ended, but not been waited for, has an empty one.
            let line = line.trim_end_matches('\0').replace('\0', " ");
            (!line.is_empty()).then_some(line)
        });
        lines.collect()
    }
}

impl State {
    /// Demands that nothing is different from `before`.
    #[track_caller]
    pub fn assert_same_as(&self, before: &State) {
        let gone = before.0.difference(&self.0).map(|line| format!("- {line}\n"));
        let new = self.0.difference(&before.0).map(|line| format!("+ {line}\n"));
        let difference: String = gone.chain(new).collect();
        assert!(difference.is_empty(), "the host has changed:\n{difference}");
    }

    /// The lines that begin with this.
    pub fn lines(&self, beginning: &str) -> Vec<&str> {
        self.0.iter().map(String::as_str).filter(|line| line.starts_with(beginning)).collect()
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}
