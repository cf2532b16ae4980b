//! Docker's own programs on a machine of the lab: the daemon from Debian's packages, with its bridge, its rules and its containers; and
//! the command line, which talks to that daemon or to our agent.

use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::debian;
use crate::fail::OrFail;
use crate::family::{Family, V4};
use crate::host::{Host, SOCKET as AGENT_SOCKET};
use crate::machine::Machine;
use crate::net::{Net, PATIENCE};
use crate::process::{Output, Process, Words, within};

/// How long the daemon may take to start or to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// Options for a host that is to have no rule of iptables.
pub const WITHOUT_IPTABLES: &str = "--iptables=false --bridge=none";

const SOCKET: &str = "unix:///run/docker.sock";

/// An image with nothing but busybox in it, and the names of two of its programs.
const IMAGE: &str = "mkdir -p /run/lab/image/bin && cp /usr/bin/busybox /run/lab/image/bin/ && \
                     ln -sf busybox /run/lab/image/bin/httpd && ln -sf busybox /run/lab/image/bin/wget && \
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
        let mut command = Command::new("dockerd");
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

impl Host {
    /// A `docker` command of the newest client here that talks to the agent: the system's own, or else Debian's.
    #[track_caller]
    pub fn docker_program(&self, line: &(impl Words + ?Sized)) -> Command {
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = env::split_paths(&path).map(|folder| folder.join("docker")).find(|file| file.is_file());
        self.client_program(installed.unwrap_or_else(debian_client), line)
    }

    /// The same of Debian's client, which is an old one.
    #[track_caller]
    pub fn old_docker_program(&self, line: &(impl Words + ?Sized)) -> Command {
        self.client_program(debian_client(), line)
    }

    fn client_program(&self, program: PathBuf, line: &(impl Words + ?Sized)) -> Command {
        let mut command = Command::new(program);
        command.args(["-H", &format!("unix://{AGENT_SOCKET}")]).args(line.words());
        // Nothing of what the caller has configured.
        for variable in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_API_VERSION", "DOCKER_TLS_VERIFY"] {
            command.env_remove(variable);
        }
        command.env("DOCKER_CONFIG", "/run/docker-config").env("HOME", "/run");
        command
    }

    /// What the agent lists of a container, once it knows that engine's name for it.
    #[track_caller]
    pub fn listed(&self, name: &str) -> Value {
        let found = within(PATIENCE, || {
            let all = self.api("/containers/json");
            let named = |container: &&Value| container["Names"][0] == format!("/{name}");
            all.as_array()?.iter().find(named).cloned()
        });
        found.ok_or_else(|| self.api("/containers/json")).or_fail(format_args!("find {name} on the agent's list"))
    }

    /// Waits until the agent lists a network under that name.
    #[track_caller]
    pub fn wait_for_network(&self, name: &str) {
        let listed =
            || self.spandrel("network ls --format {{.Name}}").ok().lines().any(|line| line == name).then_some(());
        within(PATIENCE, listed).ok_or("there is none").or_fail(format_args!("find the network {name}"));
    }

    /// Runs a `docker` command against the agent to its end, such as `network ls`.
    #[track_caller]
    pub fn docker_cli(&self, line: &(impl Words + ?Sized)) -> Output {
        self.output(self.docker_program(line))
    }
}

#[track_caller]
fn debian_client() -> PathBuf {
    let packages = debian::packages().or_fail("find Docker's client, which `cargo xtask test` fetches from Debian");
    packages.join("usr/bin/docker")
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
        self.container(name)
    }

    /// The network namespace of a running container.
    #[track_caller]
    pub fn container(&self, name: &str) -> Net {
        let pid = self.client(&["inspect", "--format", "{{.State.Pid}}", name]).ok();
        let path = self.machine.path(format!("/proc/{pid}/ns/net"));
        Net::open(name, &path).or_fail(format_args!("enter Docker's container {name}"))
    }

    /// A container's place on a network, as Docker tells it.
    #[track_caller]
    pub fn place(&self, container: &str, network: &str) -> Value {
        self.client(&["inspect", container]).json()[0]["NetworkSettings"]["Networks"][network].take()
    }

    /// A container's address on a network, as Docker tells it.
    #[track_caller]
    pub fn ip_on(&self, container: &str, network: &str, family: Family) -> IpAddr {
        let place = self.place(container, network);
        let field = if family == V4 { "IPAddress" } else { "GlobalIPv6Address" };
        let address = place[field].as_str().and_then(|text| text.parse().ok());
        address.ok_or(place).or_fail(format_args!("find the {field} of {container} on {network}"))
    }

    /// Kills the daemon. Its containers go on until another one finds them.
    #[track_caller]
    pub fn kill(&mut self) {
        self.daemon.signal(Signal::SIGKILL);
        self.daemon.wait_within(LIMIT);
    }

    /// What the daemon has said.
    pub fn log(&self) -> String {
        self.daemon.stderr()
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
pub(crate) fn remove_groups(group: &Path) {
    let inner = fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    inner.filter(|path| path.is_dir()).for_each(|path| remove_groups(&path));
    let _ = fs::remove_dir(group);
}
