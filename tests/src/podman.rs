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

/// A file of settings beside Podman's own.
const SETTINGS: &str = "/etc/containers/containers.conf.d/spandrel.conf";

/// What `docs/podman.md` has there.
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
                     busybox tar -C /run/image -c . | podman import --change 'CMD [\"/bin/sleep\", \"1000\"]' - busybox";

/// Podman on one host. Its containers end with the machine.
pub struct Podman<'h> {
    host: &'h Host,
    agent: Cell<&'static str>,
}

impl Host {
    /// Podman of the release that the host is on ([`Host::become_debian`]), set up as `docs/podman.md` says.
    #[track_caller]
    pub fn podman(&self) -> Podman<'_> {
        self.make_folder(PLUGINS);
        symlink(self.program("").get_program(), self.path(PLUGINS).join("spandrel")).or_fail("install the plugin");
        self.podman_as(PORTS)
    }

    /// The same with the CNI back end and without our network plugin; this is in `containers.conf`.
    #[track_caller]
    pub fn podman_with_cni(&self, config: &str) -> Podman<'_> {
        self.podman_as(config)
    }

    #[track_caller]
    fn podman_as(&self, config: &str) -> Podman<'_> {
        self.make_folder("/etc/containers/containers.conf.d");
        self.write("/etc/containers/containers.conf", ENGINE);
        self.write(SETTINGS, config);
        self.write("/etc/containers/storage.conf", STORAGE);
        self.command(&["busybox", "sh", "-c", IMAGE]).ok();
        Podman { host: self, agent: Cell::new(SOCKET) }
    }
}

impl Podman<'_> {
    /// Runs a `podman` command.
    #[track_caller]
    pub fn client(&self, line: &(impl Words + ?Sized)) -> Output {
        let mut command = Command::new("podman");
        command.args(line.words()).env("SPANDREL_SOCKET", self.agent.get());
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
        self.host.write(SETTINGS, if on { "" } else { PORTS });
    }
}

fn idle(name: &str, options: &str) -> String {
    format!("run -d --name {name} --stop-timeout 0 {options} busybox /bin/busybox sleep 1000")
}
