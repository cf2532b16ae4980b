//! A Docker daemon on a machine of the lab, from Debian's packages: the real one, with its bridge, its rules and its containers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::fail::OrFail;
use crate::machine::Machine;
use crate::net::Net;
use crate::process::{Output, Process, Words, within};

/// How long the daemon may take to start or to stop.
const LIMIT: Duration = Duration::from_secs(30);

const SOCKET: &str = "unix:///run/docker.sock";

/// An image with nothing but busybox in it.
const IMAGE: &str = "mkdir -p /run/lab/image/bin && cp /usr/bin/busybox /run/lab/image/bin/ && \
                     tar -C /run/lab/image -c . | docker -H unix:///run/docker.sock import - busybox";

/// A running daemon. Dropping it ends it and its containers.
pub struct Docker<'m> {
    machine: &'m Machine,
    daemon: Process,
    /// Below which its control groups are: these are the real machine's, and would stay.
    cgroup: String,
}

impl Machine {
    /// Starts the daemon with further options; [`Machine::install_debian`] must have been called.
    #[track_caller]
    pub fn docker(&self, options: &str) -> Docker<'_> {
        let cgroup = format!("spandrel-lab-{}", self.pid());
        let mut command = std::process::Command::new("dockerd");
        command.args(["-H", SOCKET, "--data-root", "/run/docker-data", "--exec-root", "/run/docker-exec"]);
        command.args(["--pidfile", "/run/docker.pid", "--storage-driver", "vfs", "--cgroup-parent", &cgroup]);
        command.args(options.words());
        let daemon = self.spawn(command).or_fail("start dockerd");
        let mut docker = Docker { machine: self, daemon, cgroup };
        let ready = within(LIMIT, || match docker.daemon.ended() {
            Some(status) => panic!("dockerd has ended with {status}:\n{}", docker.daemon.stderr()),
            None => (docker.client("version").code == Some(0)).then_some(()),
        });
        assert!(ready.is_some(), "dockerd does not answer:\n{}", docker.daemon.stderr());
        self.command(&["sh", "-c", IMAGE]).ok();
        docker
    }
}

impl Docker<'_> {
    /// Runs a `docker` command.
    #[track_caller]
    pub fn client(&self, line: &(impl Words + ?Sized)) -> Output {
        let mut words = vec!["docker".to_owned(), "-H".to_owned(), SOCKET.to_owned()];
        words.extend(line.words());
        self.machine.command(&words[..])
    }

    /// Starts an idle container with these options of `docker run`; it is its network namespace.
    #[track_caller]
    pub fn run(&self, name: &str, options: &str) -> Net {
        // Docker waits ten seconds for a command that ignores a signal, which all do that are process 1.
        let line = format!("run -d --name {name} --stop-timeout 0 {options} busybox /bin/busybox sleep 1000");
        self.client(&line).ok();
        let pid = self.client(&["inspect", "--format", "{{.State.Pid}}", name]).ok();
        let path = self.machine.path(format!("/proc/{pid}/ns/net"));
        Net::open(name, &path).or_fail(format_args!("enter Docker's container {name}"))
    }

    /// Ends the daemon, and with it its containers.
    #[track_caller]
    pub fn stop(&mut self) {
        self.daemon.signal(Signal::SIGTERM);
        let status = self.daemon.wait_within(LIMIT);
        assert!(status.success(), "dockerd ended with {status}:\n{}", self.daemon.stderr());
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        if self.daemon.ended().is_none() {
            self.daemon.signal(Signal::SIGTERM);
            within(LIMIT, || self.daemon.ended());
        }
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        hierarchies.for_each(|hierarchy| remove_groups(&hierarchy.path().join(&self.cgroup)));
    }
}

/// Removes control groups, from the innermost on. One that still has processes stays.
fn remove_groups(group: &Path) {
    let inner = fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    inner.filter(|path| path.is_dir()).for_each(|path| remove_groups(&path));
    let _ = fs::remove_dir(group);
}
