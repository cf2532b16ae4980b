//! One machine: booted, watched, and off again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::{PLAN, Plan, ROOT_TAG, Suite};
use super::initramfs::{Archive, inside};
use super::modules;
use super::packages::{Kernel, Tools};
use crate::workspace::{Workspace, output};

/// Memory of one machine. Each agent's tables take about 50 MiB of it.
const MEMORY: &str = "2G";

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
        let mut child = qemu.stdin(Stdio::null()).spawn().context("cannot start qemu")?;

        let end = Instant::now() + limit;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() < end => sleep(Duration::from_millis(100)),
                None => {
                    child.kill()?;
                    child.wait()?;
                    bail!("it was not done within {} s", limit.as_secs());
                }
            }
        };
        if !status.success() {
            bail!("qemu failed ({status})");
        }
        Ok(())
    }
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
