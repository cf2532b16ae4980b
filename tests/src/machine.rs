//! A machine: namespaces of its own for network, processes, mounts and host name, on the file system of the real one.
//!
//! `/run` is empty and its own, `/etc` is a copy that can be written. What a machine has done is gone with it.

use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;

use crate::fail::OrFail;
use crate::init::Init;
use crate::net::Net;
use crate::process::{Output, Process, Words};
use crate::thread::on_thread;

/// How long a program that should end may run.
const COMMAND: Duration = Duration::from_secs(60);

/// The namespaces that a program on a machine lives in.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWUTS);

/// A machine. It is also its network namespace, with all of that one's probes.
pub struct Machine {
    net: Net,
    init: Init,
}

impl Machine {
    /// A machine with nothing but its loopback interface, which is up.
    #[track_caller]
    pub(crate) fn new(name: &str) -> Self {
        let init = Init::start().or_fail("make a machine (only root can: `cargo xtask test` sees to it)");
        let path = PathBuf::from(format!("/proc/{}/ns/net", init.pid()));
        let machine = Self { net: Net::open(name, &path).or_fail(format_args!("open {}", path.display())), init };
        machine.enter(|| furnish(name)).or_fail(format_args!("furnish {name}"));
        // Addresses are chosen by us: nobody has to be asked whether they are free.
        for sysctl in ["ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"] {
            machine.set_sysctl(sysctl, "0");
        }
        machine.set_up("lo");
        machine
    }

    /// Runs `work` on a thread that sees the machine's network, mounts and host name.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_thread(|| {
            // Threads share their root and working directory, which a change of the mount namespace does not allow.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.init, NAMESPACES)?;
            work()
        })
    }

    /// Starts a program here.
    pub fn spawn(&self, command: Command) -> io::Result<Process> {
        let line = shown(&command);
        Process::start(&line, command, |command| self.start(command))
    }

    /// Starts a program here whose network is another one's.
    pub fn spawn_in(&self, net: &Net, command: Command) -> io::Result<Process> {
        let line = shown(&command);
        Process::start(&line, command, |command| {
            command.current_dir("/");
            self.enter(|| {
                setns(net.namespace(), CloneFlags::CLONE_NEWNET)?;
                command.spawn()
            })
        })
    }

    fn start(&self, command: &mut Command) -> io::Result<Child> {
        command.current_dir("/");
        self.enter(|| command.spawn())
    }

    /// Runs a program here to its end.
    #[track_caller]
    pub fn output(&self, command: Command) -> Output {
        let line = shown(&command);
        let process = self.spawn(command).or_fail(format_args!("start `{line}`"));
        process.output_within(COMMAND)
    }

    /// Runs a command line here to its end.
    #[track_caller]
    pub fn command(&self, line: &(impl Words + ?Sized)) -> Output {
        let words = line.words();
        let (program, arguments) = words.split_first().expect("a command line has a first word");
        let mut command = Command::new(program);
        command.args(arguments);
        self.output(command)
    }

    /// Where a file of this machine is found from outside.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new(&format!("/proc/{}/root", self.init.pid())).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes a folder of this machine, and those above it.
    #[track_caller]
    pub fn make_folder(&self, path: &str) {
        self.enter(|| fs::create_dir_all(path)).or_fail(format_args!("make {path} on {}", self.name()));
    }

    /// Writes a file of this machine; below `/run` and `/etc` nobody else sees it.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let write = |path: &Path| {
            // A link would lead to where the machine has nothing, like systemd's resolv.conf.
            if path.is_symlink() {
                fs::remove_file(path)?;
            }
            fs::write(path, text)
        };
        write(&self.path(path)).or_fail(format_args!("write {path} on {}", self.name()));
    }

    /// The number of its first process, as this process sees it: `nsenter --all --target NUMBER` enters the machine.
    pub fn pid(&self) -> u32 {
        self.init.pid().as_raw().cast_unsigned()
    }
}

impl Deref for Machine {
    type Target = Net;

    fn deref(&self) -> &Net {
        &self.net
    }
}

/// Gives the machine that the thread has entered its name and its own `/etc`.
fn furnish(name: &str) -> io::Result<()> {
    sethostname(name)?;
    for directory in ["/run/lab/etc", "/run/lab/work"] {
        fs::create_dir_all(directory)?;
    }
    let layers = "lowerdir=/etc,upperdir=/run/lab/etc,workdir=/run/lab/work";
    mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::MS_NOSUID, Some(layers))?;
    Ok(())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
