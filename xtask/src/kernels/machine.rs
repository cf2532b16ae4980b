//! One machine: booted, watched, and off again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::{PLAN, Plan, ROOT_TAG, Suite};
use super::initramfs::{Archive, inside};
use super::modules;
use super::packages::{Kernel, Tools};
use crate::progress::say;
use crate::workspace::{Workspace, output};

/// Memory of one machine. Each agent's tables take about 50 MiB of it.
const MEMORY: &str = "2G";

/// How long a machine may take to boot; it takes seconds. Once, an emulated Linux 6.1 stood still half-way, both processors busy, and
/// never came up.
const BOOT: Duration = Duration::from_secs(120);

/// How often one that does not come up is switched on.
const BOOTS: u32 = 3;

/// A machine that has been put together.
pub(super) struct Machine {
    kernel: Kernel,
    initramfs: PathBuf,
    /// What the kernel said.
    pub(super) console: PathBuf,
    /// What the suites said, and how each ended.
    pub(super) report: PathBuf,
}

impl Machine {
    /// Puts one together that will run these suites.
    pub(super) fn new(workspace: &Workspace, kernel: Kernel, series: &str, suites: &[Suite]) -> Result<Self> {
        let modules = modules::to_load(&kernel.modules)?;
        let program = std::env::current_exe().context("this program's own file is unknown")?;
        let mut archive = Archive::new();
        let mut folders: Vec<String> = Vec::new();
        let mut add = |archive: &mut Archive, from: &Path, to: &Path| -> Result<()> {
            let (above, name) = inside(to);
            for folder in above {
                if !folders.contains(&folder) {
                    archive.folder(&folder);
                    folders.push(folder);
                }
            }
            archive.file(&name, &fs::read(from).with_context(|| format!("cannot read {}", from.display()))?);
            Ok(())
        };
        add(&mut archive, &program, Path::new("/init"))?;
        for library in libraries(&program)? {
            add(&mut archive, &library, &library)?;
        }
        let place = |file: &PathBuf| Path::new("/modules").join(file.file_name().unwrap_or_default());
        for file in &modules {
            add(&mut archive, file, &place(file))?;
        }
        let plan = Plan {
            modules: modules.iter().map(place).collect(),
            target: workspace.target().to_owned(),
            suites: suites.to_vec(),
        };
        archive.file(PLAN, &serde_json::to_vec(&plan)?);

        let folder = workspace.kernels();
        let initramfs = folder.join(format!("{series}.initramfs"));
        fs::write(&initramfs, archive.finish()).with_context(|| format!("cannot write {}", initramfs.display()))?;
        let console = folder.join(format!("{series}.console.log"));
        Ok(Self { kernel, initramfs, console, report: folder.join(format!("{series}.log")) })
    }

    /// Boots it and waits until it is off.
    pub(super) fn run(&self, tools: &Tools, limit: Duration) -> Result<()> {
        for _ in 0..BOOTS {
            let mut child = self.switch_on(tools)?;
            if wait(&mut child, BOOT, || self.is_up())? == Waited::TooLong {
                switch_off(&mut child)?;
                say("Booting", format!("{} again: it was not up within {} s", self.kernel.release, BOOT.as_secs()));
                continue;
            }
            return match wait(&mut child, limit, || false)? {
                Waited::Off(status) if status.success() => Ok(()),
                Waited::Off(status) => bail!("qemu failed ({status})"),
                Waited::Done | Waited::TooLong => {
                    switch_off(&mut child)?;
                    bail!("it was not done within {} s", limit.as_secs())
                }
            };
        }
        bail!("it did not come up, switched on {BOOTS} times")
    }

    /// Whether the first suite has begun.
    fn is_up(&self) -> bool {
        fs::metadata(&self.report).is_ok_and(|report| report.len() > 0)
    }

    fn switch_on(&self, tools: &Tools) -> Result<Child> {
        let mut qemu = tools.qemu.command();
        for folder in tools.firmware() {
            qemu.arg("-L").arg(folder);
        }
        // Whatever the processor here has: programs of this machine may have been compiled for it. Only the fast string
        // instructions are slow here, byte by byte, and the kernel knows other ways. No kvm: on many a rented machine it is
        // absent or hangs.
        qemu.args(["-accel", "tcg", "-cpu", "max,erms=off,fsrm=off", "-smp", "2", "-m", MEMORY, "-no-reboot"]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        qemu.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(&self.initramfs);
        // The clock is this machine's: not the emulated timer asked for each time stamp. Nor are there ways round flaws that an
        // emulated processor does not have. Both were measured together only, and on
        // the tests of fragments: that took 78 s before, and 30 to 46 s after. What is behind the dashes goes to the first process.
        let kernel = "console=ttyS0 panic=-1 mitigations=off tsc=reliable clocksource=tsc rdinit=/init -- guest";
        qemu.args(["-append", kernel]);
        for log in [&self.console, &self.report] {
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
            qemu.arg("-serial").arg(format!("file:{}", log.display()));
        }
        let share = "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap";
        qemu.args(["-fsdev", share, "-device", &format!("virtio-9p-pci,fsdev=root,mount_tag={ROOT_TAG}")]);
        qemu.stdin(Stdio::null()).spawn().context("cannot start qemu")
    }
}

/// What waiting for a machine came to.
#[derive(PartialEq)]
enum Waited {
    /// It is off.
    Off(ExitStatus),
    /// What was waited for.
    Done,
    /// Neither.
    TooLong,
}

/// Waits for a machine to be off or `done`, for so long.
fn wait(child: &mut Child, limit: Duration, done: impl Fn() -> bool) -> Result<Waited> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Waited::Off(status)),
            None if done() => return Ok(Waited::Done),
            None if Instant::now() >= end => return Ok(Waited::TooLong),
            None => sleep(Duration::from_millis(100)),
        }
    }
}

fn switch_off(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The shared libraries of a program, its interpreter included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let text = output(Command::new("ldd").arg(program).env_remove("LD_LIBRARY_PATH"))?;
    Ok(paths(&text))
}

/// The files that `ldd` found: `name => path (address)`, or `path (address)`.
fn paths(text: &str) -> Vec<PathBuf> {
    let words = text.lines().flat_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_have_paths() {
        let text = "\tlinux-vdso.so.1 (0x00007f92)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f92)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f92)\n";
        assert_eq!(paths(text), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from));
    }
}
