//! Loading: the embedded object, what it is told about this kernel, and the log of the programs.

use std::{fs, path::Path, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier, Xdp},
    util::KernelVersion,
};
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

use super::{Options, error::DataplaneError, maps, sys};

/// The programs, as `cargo xtask build` made them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SPANDREL_BPF_OBJECT_PATH"));

/// The programs on interfaces. `collect` is run by the agent and attached nowhere.
pub(super) const CLASSIFIERS: [&str; 7] =
    ["to_container", "to_bridge", "to_uplink", "from_container", "from_bridge", "from_uplink", COLLECT];
/// The garbage collector.
pub(super) const COLLECT: &str = "collect";
/// The program that runs at uplinks by XDP: in drivers, and in the stack.
pub(super) const SHIELDS: [&str; 2] = ["shield", "shield_generic"];
/// The programs on the root cgroup.
pub(super) const SOCKET_PROGRAMS: [&str; 10] = [
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "bind4",
    "bind6",
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

/// Loads the object: maps are taken over from their pins or pinned, programs are verified and pinned.
pub(super) fn load(root: &Path, options: &Options) -> Result<Ebpf, DataplaneError> {
    maps::check_pins(root)?;
    maps::make_neighbors(root)?;
    let cookie = sys::netns_cookie()
        .map_err(|source| DataplaneError::Host { what: "the network namespace's cookie is unknown".into(), source })?;
    let kernel = KernelVersion::current().ok();
    let since = |major, minor| kernel.is_some_and(|kernel| kernel >= KernelVersion::new(major, minor, 0));
    let ipv6_checksum_flag = if since(6, 16) { BPF_F_IPV6 } else { 0 };
    let mark_host = u8::from(!since(6, 15));
    let level = options.log_level as u8;
    // Two entries make a flow.
    let entries = options.max_flows.saturating_mul(2);

    let mut loader = EbpfLoader::new();
    loader
        .override_global("HOST_NETNS_COOKIE", &cookie, true)
        .override_global("IPV6_CHECKSUM_FLAG", &ipv6_checksum_flag, true)
        .override_global("MARK_HOST", &mark_host, true)
        .override_global(aya_log::LEVEL, &level, false)
        .map_max_entries("FLOWS4", entries)
        .map_max_entries("FLOWS6", entries);
    for (name, path) in maps::pins(root) {
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader.load(OBJECT)?;

    for name in CLASSIFIERS {
        let program = classifier(&mut ebpf, name)?;
        program.load().map_err(|source| failed(name, source))?;
        pin(&root.join("programs").join(name), |path| program.pin(path))?;
    }
    for name in SHIELDS {
        let program = shield(&mut ebpf, name)?;
        program.load().map_err(|source| failed(name, source))?;
        pin(&root.join("programs").join(name), |path| program.pin(path))?;
    }
    for name in SOCKET_PROGRAMS {
        let program = socket_program(&mut ebpf, name)?;
        program.load().map_err(|source| failed(name, source))?;
        pin(&root.join("programs").join(name), |path| program.pin(path))?;
    }
    Ok(ebpf)
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

/// Pins a program in the place of the older one of its name: there is always one.
fn pin(path: &Path, pin: impl FnOnce(&Path) -> Result<(), aya::pin::PinError>) -> Result<(), DataplaneError> {
    // A bpffs allows no dots in names.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push("-new");
    let fresh = Path::new(&fresh);
    let failed = |source| DataplaneError::Pin { path: path.to_path_buf(), source };
    // Left over from an agent that died right here.
    let _ = fs::remove_file(fresh);
    pin(fresh).map_err(|error| failed(std::io::Error::other(error)))?;
    fs::rename(fresh, path).map_err(failed)
}

/// One of [`CLASSIFIERS`].
pub(super) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DataplaneError> {
    let program: Option<&mut Program> = ebpf.program_mut(name);
    program.and_then(|program| program.try_into().ok()).ok_or(DataplaneError::Missing(name))
}

/// One of [`SHIELDS`].
pub(super) fn shield<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, DataplaneError> {
    let program: Option<&mut Program> = ebpf.program_mut(name);
    program.and_then(|program| program.try_into().ok()).ok_or(DataplaneError::Missing(name))
}

/// One of [`SOCKET_PROGRAMS`].
pub(super) fn socket_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, DataplaneError> {
    let program: Option<&mut Program> = ebpf.program_mut(name);
    program.and_then(|program| program.try_into().ok()).ok_or(DataplaneError::Missing(name))
}

/// What the kernel says of each program, by name.
pub(super) fn infos(ebpf: &Ebpf) -> Vec<ProgramInfo> {
    let mut infos: Vec<_> = ebpf
        .programs()
        .filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some(ProgramInfo {
                name: name.to_owned(),
                verified_instructions: info.verified_instruction_count(),
                jited_bytes: info.size_jitted(),
            })
        })
        .collect();
    infos.sort_by(|a, b| a.name.cmp(&b.name));
    infos
}

/// Takes the log's ring buffer, if the programs log at all.
pub(super) fn take_log(ebpf: &mut Ebpf) -> Option<Log> {
    EbpfLogger::init(ebpf).ok().map(Log)
}
