//! What was measured by which command, on what, and beside which versions of other people's programs.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fmt, fs, thread};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::apt;
use crate::progress::say;
use crate::workspace::{Workspace, output};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// As it was typed.
    pub(super) command: String,
    /// Names and versions, the machine's first.
    pub(super) versions: Vec<(String, String)>,
}

/// Other people's programs that take part, below the folder of their packages, and how they are asked for their version.
const PROGRAMS: [(&str, &str); 7] = [
    ("usr/bin/iperf3", "--version"),
    ("usr/bin/sockperf", "--version"),
    ("usr/bin/wrk", "--version"),
    ("usr/sbin/nginx", "-v"),
    ("usr/sbin/dockerd", "--version"),
    ("usr/sbin/iptables-nft", "--version"),
    ("usr/sbin/nft", "--version"),
];

/// A machine is quiet enough up to this percentage.
const QUIET: f64 = 10.0;

impl About {
    /// About this run.
    pub(super) fn this(workspace: &Workspace, spandrel: &Path) -> Result<Self> {
        let words = env::args().skip(1);
        let command = ["cargo", "xtask"].map(String::from).into_iter().chain(words).collect::<Vec<_>>().join(" ");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot tell the kernel's version")?;
        let mut versions = vec![
            // What follows the version is its builder's, and says nothing elsewhere.
            ("kernel".into(), kernel.trim().split('-').next().unwrap_or_default().into()),
            ("CPU".into(), cpu(&fs::read_to_string("/proc/cpuinfo").context("cannot tell the CPU")?)),
            ("Spandrel".into(), format!("{}, {}", version_of_spandrel(spandrel)?, commit(workspace))),
        ];
        let busy = busy()?;
        if busy > QUIET {
            say(
                "Warning",
                format!(
                    "the machine is busy with something else ({busy:.0} % of its CPU time): figures will say little"
                ),
            );
        }
        // An agent that was killed together with its machine may have left it so.
        let switch = "/sys/kernel/rcu_expedited";
        if fs::read_to_string(switch).is_ok_and(|text| text.trim() != "0") {
            say(
                "Warning",
                format!(
                    "somebody has the kernel expedite its grace periods ({switch}): operations take less than elsewhere"
                ),
            );
            versions.push(("grace periods".into(), format!("expedited before anything was measured ({switch})")));
        }
        versions.push(("other load".into(), format!("{busy:.0} % of the CPU time of the second before")));
        let libraries = env::join_paths(apt::libraries(&workspace.peers()))?;
        for (program, option) in PROGRAMS {
            let path = workspace.peers().join(program);
            let said = said(Command::new(&path).arg(option).env("LD_LIBRARY_PATH", &libraries))?;
            let name = program.rsplit('/').next().unwrap_or(program);
            versions.push((name.into(), version(&said).into()));
        }
        Ok(Self { command, versions })
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.versions.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        writeln!(f, "{}\n", self.command)?;
        self.versions.iter().try_for_each(|(name, version)| writeln!(f, "{name:width$}  {version}"))
    }
}

/// The percentage of all CPUs' time that is not idle while we do nothing for a second; what a hypervisor takes counts.
fn busy() -> Result<f64> {
    let times = || fs::read_to_string("/proc/stat").context("cannot tell how busy the machine is");
    let before = times()?;
    thread::sleep(Duration::from_secs(1));
    share(&before, &times()?).context("/proc/stat does not tell how busy the machine is")
}

/// The same between two readings of `/proc/stat`, proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
fn share(before: &str, after: &str) -> Option<f64> {
    let times = |text: &str| -> Option<Vec<u64>> {
        let words = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        words.map(|word| word.parse().ok()).collect()
    };
    let passed: Vec<u64> = times(after)?.iter().zip(times(before)?).map(|(after, before)| after - before).collect();
    let (all, idle) = (passed.iter().sum::<u64>(), passed.get(3)? + passed.get(4)?);
    (all > 0).then(|| (all - idle) as f64 / all as f64 * 100.0)
}

/// What a program says of itself, wherever it says it and however it ends.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// What the binary says that is measured, which must be one of ours.
pub(super) fn version_of_spandrel(path: &Path) -> Result<String> {
    let said = said(Command::new(path).arg("--version"))?;
    match said.lines().next() {
        Some(line) if line.starts_with("spandrel ") => Ok(line.to_owned()),
        _ => bail!("{} is no spandrel: it does not tell its version", path.display()),
    }
}

/// The first word that looks like a version: after a `v` or a name with a slash, digits with dots.
fn version(text: &str) -> &str {
    let words = text.split([' ', '\n', '/', ',', '(', ')']).map(|word| word.trim_start_matches('v'));
    let numbered = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    words.into_iter().find(numbered).unwrap_or("unknown")
}

/// How many CPUs of which kind `/proc/cpuinfo` shows.
fn cpu(cpuinfo: &str) -> String {
    let values = |key| {
        cpuinfo.lines().filter_map(move |line| line.strip_prefix(key)?.split_once(':')).map(|(_, value)| value.trim())
    };
    let models: HashSet<_> = values("model name").collect();
    let models = models.into_iter().collect::<Vec<_>>().join(", ");
    format!("{} × {}", values("processor").count(), if models.is_empty() { "unknown" } else { &models })
}

/// The commit that lies here, and whether it has been changed since.
fn commit(workspace: &Workspace) -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]).current_dir(workspace.root());
    // Sources without their history can be measured, too.
    output(&mut git).map_or("no commit".into(), |text| format!("commit {}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_where_programs_put_it() {
        for (said, is) in [
            ("iperf 3.12 (cJSON 1.7.15)\nLinux host 6.18", "3.12"),
            ("sockperf, version 3.7-no.git ", "3.7-no.git"),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright", "4.1.0-3+b2"),
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("Docker version 20.10.24+dfsg1, build 5d6db84", "20.10.24+dfsg1"),
            ("iptables v1.8.9 (nf_tables)", "1.8.9"),
            ("nftables v1.0.6 (Lester Gooch #5)", "1.0.6"),
            ("no idea", "unknown"),
        ] {
            assert_eq!(version(said), is, "{said}");
        }
    }

    #[test]
    fn what_is_not_idle_is_busy() {
        let before = "cpu  100 0 100 1000 100 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let after = "cpu  110 0 110 1070 100 0 5 5 0 0\ncpu0 2 2 2 2 2 2 2 2 2 2\n";
        assert_eq!(share(before, after), Some(30.0));
        assert_eq!(share(before, before), None);
        assert_eq!(share("", after), None);
    }

    #[test]
    fn cpus_are_counted_by_kind() {
        let two = "processor\t: 0\nmodel name\t: Some CPU\nflags\t: fpu\n\nprocessor\t: 1\nmodel name\t: Some CPU\n";
        assert_eq!(cpu(two), "2 × Some CPU");
        assert_eq!(cpu("processor\t: 0\n"), "1 × unknown");
    }
}
