//! The first process of a booted machine (`xtask guest`): it makes the machine look like this one, runs the suites of its
//! plan, tells how each ended on the second serial line, and switches the machine off.
//!
//! The machine's root is this machine's, read-only, through 9p: what runs here runs there, and nothing has to be gathered.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::chroot;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use spandrel_tests::Net;

/// Where the plan lies in the archive.
pub(super) const PLAN: &str = "plan.json";

/// The name by which the machine finds the root of this one.
pub(super) const ROOT_TAG: &str = "root";

/// How the lines begin that tell what happened.
const MARK: &str = "spandrel-guest:";

/// The second serial line.
const REPORT: &str = "/dev/ttyS1";

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`.
const COMPRESSED: u32 = 4;

/// What the machine is to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    /// Modules to load, in this order, as they lie in the archive.
    pub(super) modules: Vec<PathBuf>,
    /// A folder that must be seen, even below `/tmp`.
    pub(super) target: PathBuf,
    /// What to run, one after the other.
    pub(super) suites: Vec<Suite>,
}

/// A program with tests.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Suite {
    /// What messages call it.
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
}

/// How one suite ended, and after how many seconds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ending<'a> {
    pub(super) name: &'a str,
    pub(super) passed: bool,
    pub(super) how: &'a str,
}

/// Does all that; never returns, since the machine is off then.
pub(crate) fn run() -> ! {
    if let Err(error) = work() {
        eprintln!("{MARK} {error:#}");
    }
    // Where this fails the kernel panics for want of its first process, which ends the machine as well.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    std::process::exit(1)
}

fn work() -> Result<()> {
    let plan = fs::read(Path::new("/").join(PLAN)).context("cannot read the plan")?;
    let plan: Plan = serde_json::from_slice(&plan).context("cannot read the plan")?;
    for module in &plan.modules {
        load(module).with_context(|| format!("cannot load {}", module.display()))?;
    }
    furnish(&plan.target)?;
    let mut report = OpenOptions::new().write(true).open(REPORT).with_context(|| format!("cannot open {REPORT}"))?;
    Net::open("guest", Path::new("/proc/self/ns/net")).context("cannot open the network namespace")?.set_up("lo");
    for suite in &plan.suites {
        let start = Instant::now();
        let (word, how) = match run_suite(suite, &report) {
            Ok(WaitStatus::Exited(_, 0)) => ("passed", "no complaint".to_owned()),
            Ok(status) => ("failed", format!("{status:?}")),
            Err(error) => ("failed", format!("{error:#}")),
        };
        writeln!(report, "{MARK} {} {word} in {:.0} s: {how}", suite.name, start.elapsed().as_secs_f32())?;
    }
    Ok(())
}

fn load(module: &Path) -> Result<()> {
    let plain = module.extension().is_some_and(|end| end == "ko");
    let flags = ModuleInitFlags::from_bits_retain(if plain { 0 } else { COMPRESSED });
    Ok(finit_module(File::open(module)?, c"", flags)?)
}

/// Makes the root of the other machine the own one, with file systems of the own kernel where they belong.
fn furnish(target: &Path) -> Result<()> {
    let place = |kind: &str, path: &str, options: &str| {
        mount(Some(kind), path, Some(kind), MsFlags::empty(), Some(options))
            .with_context(|| format!("cannot mount a {kind} on {path}"))
    };
    for folder in ["/newroot", "/target"] {
        fs::create_dir(folder)?;
    }
    let options = "trans=virtio,version=9p2000.L,cache=loose,msize=524288";
    mount(Some(ROOT_TAG), "/newroot", Some("9p"), MsFlags::MS_RDONLY, Some(options))
        .context("cannot mount the root")?;
    // What is put over /tmp would hide it.
    let shown = Path::new("/newroot").join(target.strip_prefix("/").unwrap_or(target));
    let bind = |from: &Path, to: &Path| {
        mount(Some(from), to, None::<&Path>, MsFlags::MS_BIND, None::<&Path>)
            .with_context(|| format!("cannot mount {} on {}", from.display(), to.display()))
    };
    bind(&shown, Path::new("/target"))?;
    place("proc", "/newroot/proc", "")?;
    place("sysfs", "/newroot/sys", "")?;
    place("cgroup2", "/newroot/sys/fs/cgroup", "")?;
    place("devtmpfs", "/newroot/dev", "")?;
    for folder in ["/newroot/dev/pts", "/newroot/dev/shm"] {
        fs::create_dir_all(folder)?;
    }
    place("devpts", "/newroot/dev/pts", "")?;
    for (folder, mode) in [("/dev/shm", "1777"), ("/run", "0755"), ("/tmp", "1777"), ("/var/tmp", "1777")] {
        place("tmpfs", &format!("/newroot{folder}"), &format!("mode={mode}"))?;
    }
    fs::create_dir_all(&shown)?;
    bind(Path::new("/target"), &shown)?;

    std::env::set_current_dir("/newroot")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("cannot move the root")?;
    chroot(".")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Runs a suite to its end. As the first process does, it also takes leave of everybody whose parent has gone.
fn run_suite(suite: &Suite, report: &File) -> Result<WaitStatus> {
    let mut command = Command::new(&suite.program);
    command.args(&suite.arguments).env_clear().envs(&suite.environment);
    command.stdout(report.try_clone()?).stderr(report.try_clone()?);
    let child = command.spawn().with_context(|| format!("cannot start {}", suite.program.display()))?;
    let child = Pid::from_raw(child.id().cast_signed());
    loop {
        let status = wait()?;
        if status.pid() == Some(child) {
            return Ok(status);
        }
    }
}

/// The ending that a line of the report tells, if it does.
pub(super) fn ending(line: &str) -> Option<Ending<'_>> {
    let (name, rest) = line.strip_prefix(MARK)?.trim_start().split_once(' ')?;
    let (word, how) = rest.split_once(' ')?;
    Some(Ending { name, passed: word == "passed", how: how.trim_end() })
}
