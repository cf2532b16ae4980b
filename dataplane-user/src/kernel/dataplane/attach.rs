//! Links: which program runs at which hook. TCX links (kernel 6.6) are pinned and their programs replaced atomically; on
//! older kernels the programs are filters of a clsact qdisc, which stay by themselves and are replaced in place.

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::{
    programs::{
        CgroupAttachMode, LinkOrder, ProgramFd, TcAttachType,
        links::FdLink,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
    util::KernelVersion,
};

use super::{
    Dataplane,
    error::DataplaneError,
    programs::{self, Ports, SocketProgram},
    sys,
};

/// How programs are attached to interfaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum AttachMode {
    /// TCX where the kernel has it, else clsact.
    #[default]
    Auto,
    /// TCX links.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

impl AttachMode {
    /// What [`AttachMode::Auto`] means on this kernel.
    pub(super) fn resolve(self) -> Self {
        match self {
            Self::Auto => match KernelVersion::current() {
                Ok(version) if version < KernelVersion::new(6, 6, 0) => Self::Clsact,
                _ => Self::Tcx,
            },
            chosen => chosen,
        }
    }
}

/// A program that runs at interfaces, with the direction in which it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hook {
    program: &'static str,
    direction: TcAttachType,
}

impl Hook {
    /// Is this the program that runs there?
    pub(super) fn is(&self, program: &str) -> bool {
        self.program == program
    }
}

/// Hooks of host-side veths. The catch-all comes first: a program that sends packets on must not run before it.
pub(super) const VETH: [Hook; 2] = [
    Hook { program: "to_container", direction: TcAttachType::Egress },
    Hook { program: "from_container", direction: TcAttachType::Ingress },
];
/// Hooks of bridges.
pub(super) const BRIDGE: [Hook; 2] = [
    Hook { program: "to_bridge", direction: TcAttachType::Egress },
    Hook { program: "from_bridge", direction: TcAttachType::Ingress },
];
/// Hooks of uplinks.
pub(super) const UPLINK: [Hook; 2] = [
    Hook { program: "to_uplink", direction: TcAttachType::Egress },
    Hook { program: "from_uplink", direction: TcAttachType::Ingress },
];

/// Priority and handle of our clsact filters: by these they are found again.
const FILTER: NlOptions = NlOptions { priority: 1, handle: TcHandle::new(0x5b4e, 0), classid: None };

impl Dataplane {
    /// Makes `hooks` run at an interface; programs that run there already are replaced.
    pub(super) fn attach(&mut self, interface: &str, hooks: &[Hook]) -> Result<(), DataplaneError> {
        for &hook in hooks {
            match self.attach {
                AttachMode::Clsact => self.attach_clsact(interface, hook)?,
                AttachMode::Auto | AttachMode::Tcx => self.attach_tcx(interface, hook)?,
            }
        }
        Ok(())
    }

    /// Takes `hooks` off an interface, which may be gone.
    pub(super) fn detach(&mut self, interface: &str, hooks: &[Hook]) -> Result<(), DataplaneError> {
        for hook in hooks {
            match self.attach {
                AttachMode::Clsact => detach_clsact(interface, *hook),
                AttachMode::Auto | AttachMode::Tcx => remove_link(&self.link_pin(hook.program, interface))?,
            }
        }
        Ok(())
    }

    pub(super) fn link_pin(&self, program: &str, interface: &str) -> PathBuf {
        // A bpffs allows no dots in names, interfaces have no colons in theirs.
        self.links().join(format!("{program}@{}", interface.replace('.', ":")))
    }

    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    fn attach_tcx(&mut self, interface: &str, hook: Hook) -> Result<(), DataplaneError> {
        let pin = self.link_pin(hook.program, interface);
        let program = self.programs.classifier(hook.program)?;
        let failed = |source| DataplaneError::Program {
            program: hook.program,
            action: format!("attached to {interface}"),
            source,
        };
        if update_pinned(&pin, program.fd().map_err(failed)?)? {
            return Ok(());
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(interface, hook.direction, order).map_err(failed)?;
        let link: FdLink = program
            .take_link(id)
            .map_err(failed)?
            .try_into()
            .map_err(|error| DataplaneError::Link { path: pin.clone(), reason: format!("{error}") })?;
        pin_link(link, &pin)
    }

    fn attach_clsact(&mut self, interface: &str, hook: Hook) -> Result<(), DataplaneError> {
        let program = self.programs.classifier(hook.program)?;
        let failed = |source| DataplaneError::Program {
            program: hook.program,
            action: format!("attached to {interface}"),
            source,
        };
        match tc::qdisc_add_clsact(interface) {
            Ok(()) => {}
            // The qdisc is there already, ours or somebody else's: filters share it.
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let replaced = filter(interface, hook)
            .map_err(|error| failed(TcError::from(error).into()))
            .and_then(|old| program.attach_to_link(old).map_err(failed));
        let id = match replaced {
            Ok(id) => id,
            Err(_) => program
                .attach_with_options(interface, hook.direction, TcAttachOptions::Netlink(FILTER))
                .map_err(failed)?,
        };
        // Dropping the link would remove the filter; it must outlive the agent.
        std::mem::forget(program.take_link(id).map_err(failed)?);
        Ok(())
    }

    /// Replaces the programs of all links that an older agent left: `to_*` before `from_*`, since what is let out by the
    /// latter must be understood by the former; and those on the root cgroup, as far as they are needed. Links whose interface has
    /// gone are removed.
    pub(super) fn replace_running_programs(&mut self) -> Result<(), DataplaneError> {
        for name in programs::CLASSIFIERS {
            for (program, _, pin) in self.pinned_links()? {
                if program != name {
                    continue;
                }
                let program = self.programs.classifier(name)?;
                let program = program.fd().map_err(|source| DataplaneError::Program {
                    program: name,
                    action: "replaced".into(),
                    source,
                })?;
                update_pinned(&pin, program)?;
            }
        }
        self.hook_sockets(self.published_ports())
    }

    /// Removes the links of every interface that `keep` does not name.
    pub(super) fn retain_links(&mut self, keep: impl Fn(&str) -> bool) -> Result<(), DataplaneError> {
        for (_, interface, pin) in self.pinned_links()? {
            if !keep(&interface) {
                remove_link(&pin)?;
            }
        }
        Ok(())
    }

    /// Takes every program off its hook.
    pub(super) fn detach_all(&mut self) -> Result<(), DataplaneError> {
        if self.attach == AttachMode::Clsact {
            let uplinks = self.uplinks.values().map(|name| (name, UPLINK));
            let bridges = self.bridges.values().map(|name| (name, BRIDGE));
            let veths = self.veths.values().map(|name| (name, VETH));
            for (interface, hooks) in uplinks.chain(bridges).chain(veths) {
                hooks.into_iter().for_each(|hook| detach_clsact(interface, hook));
            }
        }
        let links = self.links();
        for entry in entries(&links)? {
            remove_link(&links.join(entry))?;
        }
        Ok(())
    }

    /// Program, interface and pin of every link at an interface.
    pub(super) fn pinned_links(&self) -> Result<Vec<(String, String, PathBuf)>, DataplaneError> {
        let links = self.links();
        let names = entries(&links)?;
        Ok(names
            .into_iter()
            .filter_map(|name| {
                let (program, interface) = name.split_once('@')?;
                Some((program.to_owned(), interface.replace(':', "."), links.join(&name)))
            })
            .collect())
    }

    /// Makes the socket programs run at the root cgroup that are needed while `ports` are published, and no others. Without a cgroup v2
    /// hierarchy the host's own processes cannot reach published ports; everything else works.
    pub(super) fn hook_sockets(&mut self, ports: Ports) -> Result<(), DataplaneError> {
        if self.hooked == Some(ports) {
            return Ok(());
        }
        // Nobody knows, should it end halfway.
        self.hooked = None;
        let (needed, others): (Vec<_>, Vec<_>) =
            programs::SOCKET_PROGRAMS.into_iter().partition(|program| program.since <= ports);
        if !needed.is_empty() {
            self.attach_socket_programs(&needed)?;
        }
        others.iter().try_for_each(|program| remove_link(&self.links().join(program.name)))?;
        self.hooked = Some(ports);
        Ok(())
    }

    fn attach_socket_programs(&mut self, needed: &[SocketProgram]) -> Result<(), DataplaneError> {
        let Some(root) = cgroup_root() else {
            tracing::warn!("no cgroup v2 hierarchy is mounted: the host's own processes cannot reach published ports");
            return Ok(());
        };
        let cgroup = fs::File::open(&root).map_err(|source| DataplaneError::Host {
            what: format!("the root cgroup {} cannot be opened", root.display()),
            source,
        })?;
        for &SocketProgram { name, .. } in needed {
            let pin = self.links().join(name);
            let program = self.programs.socket(name)?;
            let failed = |source| DataplaneError::Program {
                program: name,
                action: "attached to the root cgroup".into(),
                source,
            };
            if update_pinned(&pin, program.fd().map_err(failed)?)? {
                continue;
            }
            // A link never keeps others out, whatever it is called; the kernel takes no flag for it.
            let id = program.attach(&cgroup, CgroupAttachMode::Single).map_err(failed)?;
            let link: FdLink = program
                .take_link(id)
                .map_err(failed)?
                .try_into()
                .map_err(|error| DataplaneError::Link { path: pin.clone(), reason: format!("{error}") })?;
            pin_link(link, &pin)?;
        }
        Ok(())
    }
}

/// Gives a pinned link the new program. False: there is no such link, or what it was attached to has gone.
///
/// aya updates TC links only, and lends out no link's descriptor.
pub(super) fn update_pinned(pin: &Path, program: &ProgramFd) -> Result<bool, DataplaneError> {
    let unusable = |error: io::Error| DataplaneError::Link { path: pin.to_path_buf(), reason: error.to_string() };
    let link = match sys::open_pin(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(unusable)?,
    };
    match sys::update_link(link.as_fd(), program.as_fd()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => remove_link(pin).map(|()| false),
        Err(error) => Err(unusable(error)),
    }
}

/// Our filter at an interface, whether it is there or not.
fn filter(interface: &str, hook: Hook) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, hook.direction, FILTER.priority, FILTER.handle, FILTER.classid)
}

/// Removes our filter, if there is one.
fn detach_clsact(interface: &str, hook: Hook) {
    use aya::programs::links::Link as _;
    if let Ok(link) = filter(interface, hook) {
        // An error says that it was not there.
        let _ = link.detach();
    }
}

fn pin_link(link: FdLink, pin: &Path) -> Result<(), DataplaneError> {
    link.pin(pin)
        .map(drop)
        .map_err(|error| DataplaneError::Pin { path: pin.to_path_buf(), source: io::Error::other(error) })
}

/// Takes a pinned link off its hook and removes the pin. Absent is fine, and so is a hook whose interface has gone.
pub(super) fn remove_link(pin: &Path) -> Result<(), DataplaneError> {
    if let Ok(link) = sys::open_pin(pin) {
        let _ = sys::detach_link(link.as_fd());
    }
    match fs::remove_file(pin) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DataplaneError::Pin { path: pin.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

fn entries(folder: &Path) -> Result<Vec<String>, DataplaneError> {
    let failed = |source| DataplaneError::Pin { path: folder.to_path_buf(), source };
    fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Where the cgroup v2 hierarchy is mounted.
pub(super) fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}
