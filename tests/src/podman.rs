//! Podman on a host of the lab, with our binary as its network plugin.

use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::fail::OrFail;
use crate::host::{Host, SOCKET};
use crate::net::Net;
use crate::process::{Output, Words};

/// Where netavark looks for plugins.
const PLUGINS: &str = "/usr/lib/netavark";

/// What `docs/podman.md` has in a file of its own.
const PORTS: &str = "[engine]\nenable_port_reservation = false\n";

/// A machine whose `/run` is its own has no systemd; control groups have no controllers here, and would outlive the machine.
const ENGINE: &str = "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n[containers]\ncgroups = \"disabled\"\n\
                      default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";

/// Files of containers and images, on the machine's own memory.
const STORAGE: &str =
    "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/run/containers-data\"\n";

/// An image with nothing but busybox in it.
const IMAGE: &str = "mkdir -p /run/image/bin /run/image/etc && cp /usr/bin/busybox /run/image/bin && \
                     for name in $(busybox --list | grep -v busybox); do ln -s busybox /run/image/bin/$name; done && \
                     busybox tar -C /run/image -c . | podman import - busybox";

/// Podman on one host. Its containers end with the machine.
pub struct Podman<'h> {
    host: &'h Host,
    options: &'static str,
    agent: Cell<&'static str>,
}

impl Host {
    /// Podman of the release that the host is on ([`Host::become_debian`]), set up as `docs/podman.md` says.
    #[track_caller]
    pub fn podman(&self) -> Podman<'_> {
        self.make_folder(PLUGINS);
        symlink(self.program("").get_program(), self.path(PLUGINS).join("spandrel")).or_fail("install the plugin");
        self.podman_with("")
    }

    /// The same without our plugin, and with these options before each command.
    #[track_caller]
    pub fn podman_with(&self, options: &'static str) -> Podman<'_> {
        let podman = Podman { host: self, options, agent: Cell::new(SOCKET) };
        podman.reserve_ports(false);
        self.write("/etc/containers/containers.conf", ENGINE);
        self.write("/etc/containers/storage.conf", STORAGE);
        podman.shell(IMAGE);
        podman
    }
}

impl Podman<'_> {
    /// Runs a `podman` command.
    #[track_caller]
    pub fn client(&self, line: &(impl Words + ?Sized)) -> Output {
        let mut words = self.options.words();
        words.extend(line.words());
        let mut command = Command::new("podman");
        command.args(words).env("SPANDREL_SOCKET", self.agent.get());
        // Nothing of what the caller has configured.
        for variable in ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_STORAGE_CONF", "TMPDIR"] {
            command.env_remove(variable);
        }
        self.host.output(command)
    }

    /// Has the plugin talk to the agent behind another socket from now on.
    pub fn use_agent_at(&self, socket: &'static str) {
        self.agent.set(socket);
    }

    /// Starts an idle container with these options of `podman run`; it is its network namespace.
    #[track_caller]
    pub fn run(&self, name: &str, options: &str) -> Net {
        self.client(&idle(name, options)).ok();
        self.net(name)
    }

    /// The same where it must be refused; what Podman says.
    #[track_caller]
    pub fn refused(&self, name: &str, options: &str) -> String {
        let output = self.client(&idle(name, options));
        assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
        output.stderr
    }

    /// The network namespace of a running container.
    #[track_caller]
    pub fn net(&self, name: &str) -> Net {
        let pid = self.client(&["inspect", "--format", "{{.State.Pid}}", name]).ok();
        let path = self.host.path(format!("/proc/{pid}/ns/net"));
        Net::open(name, &path).or_fail(format_args!("enter Podman's container {name}"))
    }

    /// Whether Podman itself is to hold published ports, as it does unless it is told otherwise.
    #[track_caller]
    pub fn reserve_ports(&self, on: bool) {
        self.host.make_folder("/etc/containers/containers.conf.d");
        self.host.write("/etc/containers/containers.conf.d/spandrel.conf", if on { "" } else { PORTS });
    }

    #[track_caller]
    fn shell(&self, script: &str) {
        let script = script.replace("podman ", &format!("podman {} ", self.options));
        self.host.command(&["busybox", "sh", "-c", &script]).ok();
    }
}

fn idle(name: &str, options: &str) -> String {
    format!("run -d --name {name} --stop-timeout 0 {options} busybox /bin/busybox sleep 1000")
}
