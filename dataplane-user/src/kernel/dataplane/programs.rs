//! Loading: the embedded object, what it is told about this kernel, when what an older agent has loaded will do, and the
//! log of the programs.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::Path,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    pin::PinError,
    programs::{CgroupSockAddr, CgroupSockAddrAttachType, Program, ProgramError, SchedClassifier, Xdp},
    util::KernelVersion,
};
use aya_log::EbpfLogger;
use aya_obj::programs::XdpAttachType;
use tokio::io::unix::AsyncFd;

use super::{Options, error::DataplaneError, maps, sys};
use crate::kernel::memory;

/// The programs, as `cargo xtask build` made them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SPANDREL_BPF_OBJECT_PATH"));

/// The programs on interfaces. `collect` is run by the agent and attached nowhere.
pub(super) const CLASSIFIERS: [&str; 7] =
    ["to_container", "to_bridge", "to_uplink", "from_container", "from_bridge", "from_uplink", COLLECT];
/// The garbage collector.
pub(super) const COLLECT: &str = "collect";
/// The program that runs at uplinks by XDP: in drivers, and in the stack.
pub(super) const SHIELDS: [&str; 2] = ["shield", "shield_generic"];

/// A program on the root cgroup.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketProgram {
    pub(super) name: &'static str,
    hook: CgroupSockAddrAttachType,
    /// From which on it is needed.
    pub(super) since: Ports,
}

/// What is published, as far as the programs on the root cgroup care: they cost every socket of the machine, those that see datagrams
/// the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Ports {
    /// Nothing.
    None,
    /// Ports, but none of UDP.
    WithoutUdp,
    /// UDP ports among them.
    WithUdp,
}

const fn socket_program(name: &'static str, hook: CgroupSockAddrAttachType, since: Ports) -> SocketProgram {
    SocketProgram { name, hook, since }
}

/// The programs on the root cgroup.
pub(super) const SOCKET_PROGRAMS: [SocketProgram; 10] = [
    socket_program("connect4", CgroupSockAddrAttachType::Connect4, Ports::WithoutUdp),
    socket_program("connect6", CgroupSockAddrAttachType::Connect6, Ports::WithoutUdp),
    socket_program("sendmsg4", CgroupSockAddrAttachType::UDPSendMsg4, Ports::WithUdp),
    socket_program("sendmsg6", CgroupSockAddrAttachType::UDPSendMsg6, Ports::WithUdp),
    socket_program("recvmsg4", CgroupSockAddrAttachType::UDPRecvMsg4, Ports::WithUdp),
    socket_program("recvmsg6", CgroupSockAddrAttachType::UDPRecvMsg6, Ports::WithUdp),
    socket_program("getpeername4", CgroupSockAddrAttachType::GetPeerName4, Ports::WithoutUdp),
    socket_program("getpeername6", CgroupSockAddrAttachType::GetPeerName6, Ports::WithoutUdp),
    socket_program("bind4", CgroupSockAddrAttachType::Bind4, Ports::WithoutUdp),
    socket_program("bind6", CgroupSockAddrAttachType::Bind6, Ports::WithoutUdp),
];

/// `BPF_F_IPV6` of `linux/bpf.h`, for `bpf_l4_csum_replace`.
const BPF_F_IPV6: u64 = 1 << 7;

/// How much the programs log; every level includes the ones before it. What is off costs nothing: the verifier removes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off = 0,
    /// What should never happen.
    Error = 1,
    /// What an operator should know.
    Warn = 2,
    /// What is worth a line now and then.
    Info = 3,
    /// Every drop.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// What the kernel says of a loaded program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramInfo {
    /// The kernel's number for it: no two programs have the same one until the next boot.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Instructions that the verifier walked through, all paths together.
    pub verified_instructions: Option<u32>,
    /// Bytes of machine code.
    pub jited_bytes: u32,
}

/// The records that the programs log.
pub struct Log(EbpfLogger<&'static dyn log::Log>);

impl Log {
    /// Hands the records to the `log` crate's logger until the task is dropped.
    ///
    /// # Errors
    ///
    /// The ring buffer cannot be watched.
    pub async fn forward(self) -> std::io::Result<()> {
        /// Records that come while others are written wait this long for company.
        const PAUSE: Duration = Duration::from_millis(50);
        // SAFETY: the logger owns its ring buffer's descriptor, which stays the same and open for as long as the logger lives.
        let mut log = unsafe { AsyncFd::register(self.0)? };
        loop {
            let mut ready = log.readable_mut().await?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The loaded programs.
pub(super) struct Programs {
    classifiers: Vec<(&'static str, SchedClassifier)>,
    shields: Vec<(&'static str, Xdp)>,
    sockets: Vec<(&'static str, CgroupSockAddr)>,
    level: LogLevel,
}

/// What the object's globals are set to before it is loaded.
#[derive(Hash)]
struct Globals {
    /// Of the host's network namespace.
    cookie: u64,
    ipv6_checksum_flag: u64,
    mark_host: u8,
    log_level: u8,
}

impl Globals {
    fn new(options: &Options) -> Result<Self, DataplaneError> {
        let cookie = sys::netns_cookie().map_err(|source| DataplaneError::Host {
            what: "the network namespace's cookie is unknown".into(),
            source,
        })?;
        let kernel = KernelVersion::current().ok();
        let since = |major, minor| kernel.is_some_and(|kernel| kernel >= KernelVersion::new(major, minor, 0));
        Ok(Self {
            cookie,
            ipv6_checksum_flag: if since(6, 16) { BPF_F_IPV6 } else { 0 },
            mark_host: u8::from(!since(6, 15)),
            log_level: options.log_level as u8,
        })
    }

    /// The name of what comes of this object with these globals and these maps; no two that differ in anything have the
    /// same one. Another release of Rust may give others, which only means that the programs are verified once more.
    fn fingerprint(&self, map_ids: &[u32]) -> String {
        let mut hasher = DefaultHasher::new();
        (OBJECT, self, map_ids).hash(&mut hasher);
        // If it is wanted once more, it is read once more.
        memory::let_go_of(OBJECT);
        format!("{:016x}", hasher.finish())
    }
}

/// Makes sure that the maps are there and that the programs are loaded. Maps are taken over from their pins, or made and
/// pinned. Programs are taken over as well if nothing about them would differ, which spares their verification: most of
/// the time that a start takes.
pub(super) fn ensure(root: &Path, options: &Options) -> Result<Programs, DataplaneError> {
    maps::remove_strangers(root)?;
    maps::check_pins(root)?;
    maps::make_maps_of_maps(root)?;
    let globals = Globals::new(options)?;
    let all = root.join("programs");
    if let Some(ids) = maps::ids(root)? {
        let folder = all.join(globals.fingerprint(&ids));
        if folder.exists() {
            return Programs::open(&folder, options.log_level);
        }
    }
    let folder = all.join(FRESH);
    let failed = |path: &Path, source| DataplaneError::Pin { path: path.to_path_buf(), source };
    // Left over from an agent that died right here.
    remove_folder(&folder).map_err(|source| failed(&folder, source))?;
    fs::create_dir(&folder).map_err(|source| failed(&folder, source))?;
    load(root, &folder, options, &globals)?;
    let ids = maps::ids(root)?.ok_or(DataplaneError::Missing("pinned map"))?;
    let name = globals.fingerprint(&ids);
    let complete = all.join(&name);
    // From here on they are all there, or none is.
    fs::rename(&folder, &complete).map_err(|source| failed(&complete, source))?;
    for entry in fs::read_dir(&all).map_err(|source| failed(&all, source))? {
        let entry = entry.map_err(|source| failed(&all, source))?;
        if entry.file_name() != *name {
            let path = entry.path();
            let removed = if path.is_dir() { remove_folder(&path) } else { fs::remove_file(&path) };
            removed.map_err(|source| failed(&path, source))?;
        }
    }
    Programs::open(&complete, options.log_level)
}

/// Where programs are pinned until all of them are.
pub(super) const FRESH: &str = "fresh";

/// Removes a folder with pins; absent is fine.
fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Loads the object: maps are taken over from their pins or pinned, programs are verified and pinned in `folder`.
fn load(root: &Path, folder: &Path, options: &Options, globals: &Globals) -> Result<(), DataplaneError> {
    // Two entries make a flow.
    let entries = options.max_flows.saturating_mul(2);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("HOST_NETNS_COOKIE", &globals.cookie, true)
        .override_global("IPV6_CHECKSUM_FLAG", &globals.ipv6_checksum_flag, true)
        .override_global("MARK_HOST", &globals.mark_host, true)
        .override_global(aya_log::LEVEL, &globals.log_level, false)
        .map_max_entries("FLOWS4", entries)
        .map_max_entries("FLOWS6", entries);
    for (name, path) in maps::pins(root) {
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader.load(OBJECT)?;

    for name in CLASSIFIERS {
        let program: &mut SchedClassifier = find(&mut ebpf, name)?;
        program.load().map_err(|source| failed(name, source))?;
        pinned(&folder.join(name), |path| program.pin(path))?;
    }
    for name in SHIELDS {
        let program: &mut Xdp = find(&mut ebpf, name)?;
        program.load().map_err(|source| failed(name, source))?;
        pinned(&folder.join(name), |path| program.pin(path))?;
    }
    for SocketProgram { name, .. } in SOCKET_PROGRAMS {
        let program: &mut CgroupSockAddr = find(&mut ebpf, name)?;
        program.load().map_err(|source| failed(name, source))?;
        pinned(&folder.join(name), |path| program.pin(path))?;
    }
    Ok(())
}

/// A program of the object.
fn find<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, DataplaneError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or(DataplaneError::Missing(name))
}

fn pinned(path: &Path, pin: impl FnOnce(&Path) -> Result<(), PinError>) -> Result<(), DataplaneError> {
    pin(path).map_err(|error| DataplaneError::Pin { path: path.to_path_buf(), source: io::Error::other(error) })
}

/// The verifier's log is for those who write programs: it goes to our own log, not into the error.
fn failed(program: &'static str, source: ProgramError) -> DataplaneError {
    let ProgramError::LoadError { io_error, verifier_log } = source else {
        return DataplaneError::Program { program, action: "loaded".into(), source };
    };
    tracing::debug!("{program}: {verifier_log}");
    // Before the summary at its end, the verifier says what it does not like.
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let objection = lines.iter().rev().find(|line| !SUMMARY.iter().any(|word| line.starts_with(word)));
    DataplaneError::Refused {
        program,
        source: io_error,
        objection: objection.unwrap_or(&"no reason given").to_string(),
    }
}

/// How the lines of the verifier's summary begin.
const SUMMARY: [&str; 4] = ["verification time", "stack depth", "processed", "insns processed"];

impl Programs {
    /// Opens what is pinned in `folder`.
    fn open(folder: &Path, level: LogLevel) -> Result<Self, DataplaneError> {
        let failed = |program| {
            move |source| DataplaneError::Program { program, action: "taken over from its pin".into(), source }
        };
        let classifier = |name| {
            let program = SchedClassifier::from_pin(folder.join(name));
            Ok((name, program.map_err(failed(name))?))
        };
        let shield = |name| {
            let program = Xdp::from_pin(folder.join(name), XdpAttachType::Interface);
            Ok((name, program.map_err(failed(name))?))
        };
        let socket = |SocketProgram { name, hook, .. }| {
            let program = CgroupSockAddr::from_pin(folder.join(name), hook);
            Ok((name, program.map_err(failed(name))?))
        };
        Ok(Self {
            classifiers: CLASSIFIERS.into_iter().map(classifier).collect::<Result<_, DataplaneError>>()?,
            shields: SHIELDS.into_iter().map(shield).collect::<Result<_, DataplaneError>>()?,
            sockets: SOCKET_PROGRAMS.into_iter().map(socket).collect::<Result<_, DataplaneError>>()?,
            level,
        })
    }

    /// One of [`CLASSIFIERS`].
    pub(super) fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, DataplaneError> {
        of(&mut self.classifiers, name)
    }

    /// One of [`SHIELDS`].
    pub(super) fn shield(&mut self, name: &'static str) -> Result<&mut Xdp, DataplaneError> {
        of(&mut self.shields, name)
    }

    /// One of [`SOCKET_PROGRAMS`].
    pub(super) fn socket(&mut self, name: &'static str) -> Result<&mut CgroupSockAddr, DataplaneError> {
        of(&mut self.sockets, name)
    }

    /// What the kernel says of each program, by name.
    pub(super) fn infos(&self) -> Vec<ProgramInfo> {
        let classifiers = self.classifiers.iter().map(|(name, program)| (*name, program.info()));
        let shields = self.shields.iter().map(|(name, program)| (*name, program.info()));
        let sockets = self.sockets.iter().map(|(name, program)| (*name, program.info()));
        let mut infos: Vec<_> = classifiers
            .chain(shields)
            .chain(sockets)
            .filter_map(|(name, info)| {
                let info = info.ok()?;
                Some(ProgramInfo {
                    id: info.id(),
                    name: name.to_owned(),
                    verified_instructions: info.verified_instruction_count(),
                    jited_bytes: info.size_jitted(),
                })
            })
            .collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }

    /// The log's ring buffer, if the programs log at all. There is one for all of them.
    pub(super) fn log(&self) -> Option<Log> {
        if self.level == LogLevel::Off {
            return None;
        }
        let (_, program) = self.classifiers.first()?;
        EbpfLogger::init_from_id(program.info().ok()?.id()).ok().map(Log)
    }
}

fn of<'a, P>(programs: &'a mut [(&'static str, P)], name: &'static str) -> Result<&'a mut P, DataplaneError> {
    programs.iter_mut().find(|(own, _)| *own == name).map(|(_, program)| program).ok_or(DataplaneError::Missing(name))
}
