//! What is wrong with a host, or left over on it, and how it is mended. It looks for itself rather than asking an agent, which may not
//! be there; of an agent that is, it takes only what is on record.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::converge::{remove_directory, unknown};
use super::error::Troubles;
use super::host;
use super::record::Record;
use super::state::Paths;
use crate::kernel::dataplane::survey;
use crate::kernel::{Link, Netlink, capability, firewall, mount, netns, sysctl};
use crate::model::Result;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word.
    pub check: &'static str,
    /// Whether something does not work, or only may not.
    pub gravity: Gravity,
    /// One sentence.
    pub problem: String,
    /// What to do about it.
    pub advice: String,
    /// How it is mended, where that may be done.
    pub remedy: Option<Remedy>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// Something does not work, or is left over.
    Problem,
    /// Good to know when something does not work.
    Note,
}

/// What is to be done about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Delete an interface.
    DeleteInterface(String),
    /// Take away the name of a network namespace.
    DeleteNamespace(PathBuf),
    /// End what is left of a container and remove its directory.
    RemoveContainer(PathBuf),
    /// Take programs off their hooks and remove their pins.
    RemovePins(PathBuf),
    /// Remove a file.
    RemoveFile(PathBuf),
    /// Remove a network, by its id; the agent does it.
    RemoveNetwork(String),
    /// Set a kernel parameter.
    SetParameter(Vec<&'static str>, &'static str),
}

/// Who answers for the run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// An agent of this version, and what it has on record; none if it is too old to say.
    Answers {
        /// Its version.
        version: String,
        /// What it has on record; none if it does not say, being older.
        record: Option<Record>,
    },
    /// Nobody answers.
    Silent,
}

/// Where an agent has its things.
#[derive(Debug, Clone)]
pub struct Place {
    /// `--run-dir`.
    pub run_dir: PathBuf,
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// `--socket`.
    pub socket: PathBuf,
}

/// What there is of ours, looked at before anybody is asked what there should be: whatever comes in between is on record.
#[derive(Debug)]
pub struct Seen {
    paths: Paths,
    links: Vec<Link>,
    namespaces: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Finding {
    fn new(check: &'static str, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { check, gravity: Gravity::Problem, problem: problem.into(), advice: advice.into(), remedy: None }
    }

    fn note(self) -> Self {
        Finding { gravity: Gravity::Note, ..self }
    }

    fn mended_by(self, remedy: Remedy) -> Self {
        Finding { remedy: Some(remedy), ..self }
    }
}

impl Seen {
    /// Looks.
    pub async fn look(run_dir: &Path) -> Result<Self> {
        let paths = Paths::new(run_dir);
        let links = Netlink::open()?.links()?;
        let all = |directory: PathBuf| unknown(&directory, &BTreeSet::new());
        let (namespaces, directories) = (all(paths.all_netns()), all(paths.all_containers()));
        Ok(Seen { paths, links, namespaces, directories })
    }
}

/// Everything that is wrong, in the order in which one would look.
pub fn examine(seen: &Seen, place: &Place, presence: &Presence) -> Vec<Finding> {
    let mut findings = kernel();
    findings.extend(agent(place, presence));
    let record = match presence {
        Presence::Answers { record, .. } => record.clone(),
        Presence::Silent => match Record::read(&place.state_dir) {
            Ok(record) => Some(record),
            Err(error) => {
                findings.push(Finding::new("record", error.to_string(), "run this as root, or start the agent"));
                None
            }
        },
    };
    let Some(record) = record else { return findings };
    findings.extend(leftovers(seen, presence, &record));
    findings.extend(programs(seen, presence, &record));
    findings.extend(settings(&record, presence));
    findings
}

/// Does what a finding asks for; tells what was done.
pub async fn mend(remedy: &Remedy) -> Result<String> {
    Ok(match remedy {
        Remedy::DeleteInterface(name) => {
            Netlink::open()?.delete_link(name).await?;
            format!("deleted the interface {name}")
        }
        Remedy::DeleteNamespace(path) => {
            netns::delete(path)?;
            format!("removed {}", path.display())
        }
        Remedy::RemoveContainer(path) => {
            let mut troubles = Troubles::default();
            remove_directory(path, &mut troubles).await;
            troubles.into_result()?;
            format!("removed {}", path.display())
        }
        Remedy::RemovePins(path) => {
            survey::remove_pins(path)?;
            format!("took the programs off their hooks and removed {}", path.display())
        }
        Remedy::RemoveFile(path) => {
            let failed = |error| crate::model::Error::internal(format_args!("cannot remove {}", path.display()), error);
            fs::remove_file(path).map_err(failed)?;
            format!("removed {}", path.display())
        }
        Remedy::RemoveNetwork(id) => {
            return Err(crate::model::Error::Internal(format!("only the agent can remove the network {id}")));
        }
        Remedy::SetParameter(name, value) => {
            sysctl::set(name, value)?;
            format!("set {} to {value}", name.join("."))
        }
    })
}

/// What the kernel lacks, or this process.
fn kernel() -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = capability::check_kernel() {
        findings.push(Finding::new("kernel", error.to_string(), "boot a newer kernel"));
    }
    if let Err(error) = capability::check_capabilities() {
        let problem = format!("not everything could be looked at: {error}");
        findings.push(Finding::new("rights", problem, "run this as root: sudo spandrel doctor"));
    }
    if !survey::has_cgroups() {
        let problem = "no cgroup v2 hierarchy is mounted: the host's own processes do not reach published ports";
        findings.push(Finding::new("cgroup", problem, "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified"));
    }
    findings
}

/// Whether an agent answers, and is one of ours.
fn agent(place: &Place, presence: &Presence) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let (run, socket) = (place.run_dir.display(), place.socket.display());
    match presence {
        Presence::Answers { version, record } if version != own || record.is_none() => vec![Finding::new(
            "agent",
            format!("the agent is version {version}, and this binary is {own}"),
            "start the agent again with this binary; networks and containers do not notice",
        )],
        Presence::Answers { .. } => Vec::new(),
        Presence::Silent if host::is_locked(&place.run_dir) => vec![Finding::new(
            "agent",
            format!("an agent runs on {run}, but does not answer at {socket}"),
            "name its socket with --socket, or start it again",
        )],
        Presence::Silent => {
            let mut findings = vec![Finding::new(
                "agent",
                format!("no agent runs on {run}: what is connected stays so, and nothing else can be done"),
                "start it: sudo systemctl start spandrel, or sudo spandrel agent",
            )];
            let is_socket = fs::symlink_metadata(&place.socket).is_ok_and(|file| file.file_type().is_socket());
            if is_socket && UnixStream::connect(&place.socket).is_err() {
                let finding = Finding::new(
                    "socket",
                    format!("nobody listens on {socket}, which an agent has left"),
                    "the next agent replaces it; until then it may be removed",
                );
                findings.push(finding.mended_by(Remedy::RemoveFile(place.socket.clone())));
            }
            findings
        }
    }
}

/// What is there and should not be.
fn leftovers(seen: &Seen, presence: &Presence, record: &Record) -> Vec<Finding> {
    let mut findings = Vec::new();
    let alias = seen.paths.alias();
    let strangers = seen.links.iter().filter(|link| link.alias == alias && !record.interfaces.contains(&link.name));
    for link in strangers {
        let problem = format!("the interface {} is one of ours and belongs to no network or container", link.name);
        let finding = Finding::new("interface", problem, "the next start of the agent deletes it");
        findings.push(finding.mended_by(Remedy::DeleteInterface(link.name.clone())));
    }
    let stray = |paths: &[PathBuf], known: &BTreeSet<String>| -> Vec<PathBuf> {
        let known: BTreeSet<OsString> = known.iter().map(OsString::from).collect();
        paths.iter().filter(|path| path.file_name().is_some_and(|name| !known.contains(name))).cloned().collect()
    };
    for path in stray(&seen.namespaces, &record.namespaces) {
        let problem = format!("the network namespace {} belongs to no container that runs", path.display());
        let finding = Finding::new("namespace", problem, "the next start of the agent removes it");
        findings.push(finding.mended_by(Remedy::DeleteNamespace(path)));
    }
    for path in stray(&seen.directories, &record.directories) {
        let problem = format!("the directory {} belongs to no container", path.display());
        let finding = Finding::new("directory", problem, "the next start of the agent removes it");
        findings.push(finding.mended_by(Remedy::RemoveContainer(path)));
    }
    for (container, netns) in &record.vanished {
        let problem = format!(
            "the network namespace {} of container {container} is gone, and its addresses and ports are still taken",
            netns.display()
        );
        let advice = match presence {
            Presence::Answers { .. } => "the agent gives them back within ten seconds",
            Presence::Silent => "start the agent, which gives them back",
        };
        findings.push(Finding::new("endpoint", problem, advice));
    }
    findings
}

/// Whether our programs are where they should be, and others are not in their way.
fn programs(seen: &Seen, presence: &Presence, record: &Record) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bpffs = seen.paths.bpffs();
    let answers = matches!(presence, Presence::Answers { .. });
    let there =
        seen.links.iter().any(|link| link.alias == seen.paths.alias() && record.interfaces.contains(&link.name));
    if !mount::is_bpffs(&bpffs) && (answers || there) {
        let problem = format!("no BPF file system is mounted on {}: the programs go with the agent", bpffs.display());
        findings.push(Finding::new("bpffs", problem, "start the agent again, which mounts one"));
    }
    // An older agent's are its own, and one that does not answer yet may be loading them.
    let another = match presence {
        Presence::Answers { version, .. } => version != env!("CARGO_PKG_VERSION"),
        Presence::Silent => host::is_locked(seen.paths.run()),
    };
    if !another {
        for path in survey::leftover_pins(&bpffs) {
            let problem =
                format!("{} holds programs or maps of another version, or of an agent that failed", path.display());
            let finding = Finding::new("pins", problem, "they take memory, and may still run: remove them");
            findings.push(finding.mended_by(Remedy::RemovePins(path)));
        }
    }
    for uplink in &record.uplinks {
        let Some(ingress) = survey::ingress(uplink) else { continue };
        if !ingress.ours {
            let problem =
                format!("our program does not run at the uplink {uplink}: answers and published ports go missing");
            findings.push(Finding::new("uplink", problem, "start the agent again, which attaches it"));
        } else if !ingress.before.is_empty() {
            let problem = format!(
                "at the uplink {uplink} other programs run before ours ({}), which sees only what they let go on",
                ingress.before.join(", ")
            );
            findings.push(
                Finding::new("uplink", problem, "if answers go missing, attach them after ours (TCX_NEXT lets go on)")
                    .note(),
            );
        }
    }
    findings
}

/// What the host's own settings do to us.
fn settings(record: &Record, presence: &Presence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let in_use = !record.interfaces.is_empty() || matches!(presence, Presence::Answers { .. });
    for (name, family) in [
        (["net", "ipv4", "ip_forward"].as_slice(), "IPv4"),
        (["net", "ipv6", "conf", "all", "forwarding"].as_slice(), "IPv6"),
    ] {
        if in_use && sysctl::get(name).is_ok_and(|value| value == "0") {
            let problem =
                format!("{} is 0: what the fast path leaves to the host's stack is lost over {family}", name.join("."));
            let finding = Finding::new("forwarding", problem, "set it to 1, and find out who has set it to 0");
            findings.push(finding.mended_by(Remedy::SetParameter(name.to_vec(), "1")));
        }
    }
    if record.uplinks.len() > 1 {
        let strict =
            |interface: &str| sysctl::get(&["net", "ipv4", "conf", interface, "rp_filter"]).is_ok_and(|v| v == "1");
        for uplink in record.uplinks.iter().filter(|uplink| strict(uplink) || strict("all")) {
            let problem = format!(
                "rp_filter is strict at the uplink {uplink}, one of several: the stack drops what comes in there and would be answered elsewhere"
            );
            let advice = format!(
                "where packets go missing, loosen it: net.ipv4.conf.{uplink}.rp_filter=2 (and …all… to 0 or 2)"
            );
            findings.push(Finding::new("rp_filter", problem, advice).note());
        }
    }
    match firewall::dropping_forward_chains() {
        Ok(chains) => {
            let bridged = ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"]
                .into_iter()
                .any(|name| sysctl::get(&["net", "bridge", name]).is_ok_and(|value| value == "1"));
            for chain in chains {
                let problem = format!(
                    "the host's firewall drops what is forwarded ({chain}, policy drop): fragments that the stack would have to make{}",
                    if bridged {
                        ", and frames between containers and what is plugged into their bridge by hand"
                    } else {
                        ""
                    }
                );
                let advice = "nothing, unless such packets are missed; else accept our bridges there, or set net.bridge.bridge-nf-call-iptables to 0";
                findings.push(Finding::new("firewall", problem, advice).note());
            }
        }
        Err(error) => tracing::debug!("{error}"),
    }
    findings
}
