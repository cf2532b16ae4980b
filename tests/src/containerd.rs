//! containerd on a host of the lab, with its own command line, `ctr`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cri::Cri;
use crate::docker::remove_groups;
use crate::fail::OrFail;
use crate::host::Host;
use crate::net::Net;
use crate::process::{Output, Process, Words, within};

/// How long the daemon may take to start or to stop, and a container to come and to go.
const LIMIT: Duration = Duration::from_secs(30);

/// Where its files are: on the machine's own memory. ...
const FILES: &str = "root = \"/run/containerd-data\"\nstate = \"/run/containerd\"\n";

/// ... And what control groups without controllers ask for.
const ENGINE: &str = "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"localhost/busybox:latest\"\n\
                      disable_cgroup = true\nrestrict_oom_score_adj = true\n\
                      [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n";

/// The image of the containers, for both of containerd's namespaces that are used here.
const IMAGE: &str = "podman save --format oci-archive -o /run/busybox.oci localhost/busybox:latest && \
                     for namespace in default k8s.io; do ctr -n $namespace images import /run/busybox.oci; done";

/// A running daemon. Dropping it ends it and its containers.
pub struct Containerd<'h> {
    host: &'h Host,
    daemon: Process,
    /// The control group that all of it is in: that is the real machine's, and would stay.
    group: PathBuf,
}

impl Host {
    /// Starts the daemon of the release that the host is on, configured further by this text; an image `localhost/busybox` must be on
    /// record with Podman.
    #[track_caller]
    pub fn containerd(&self, further: &str) -> Containerd<'_> {
        self.make_folder("/etc/containerd");
        self.write("/etc/containerd/config.toml", &format!("{FILES}{further}{ENGINE}"));
        let group = Path::new("/sys/fs/cgroup").join(format!("spandrel-lab-{}", self.pid()));
        let daemon = group.join("daemon");
        self.make_folder(daemon.to_str().unwrap_or_default());
        let mut command = Command::new("busybox");
        command.args(["sh", "-c", &format!("echo $$ > {}/cgroup.procs && exec containerd", daemon.display())]);
        let daemon = self.spawn(command).or_fail("start containerd");
        let mut containerd = Containerd { host: self, daemon, group: self.path(group) };
        let ready = within(LIMIT, || match containerd.daemon.ended() {
            Some(status) => panic!("containerd has ended with {status}:\n{}", containerd.daemon.stderr()),
            None => (containerd.client("version").code == Some(0)).then_some(()),
        });
        assert!(ready.is_some(), "containerd does not answer:\n{}", containerd.daemon.stderr());
        self.command(&["busybox", "sh", "-c", IMAGE]).ok();
        containerd
    }
}

/// A container that `ctr run` has started and waits for.
pub struct CtrContainer<'c> {
    containerd: &'c Containerd<'c>,
    name: String,
    run: Process,
    /// Its network namespace.
    pub net: Net,
}

impl Containerd<'_> {
    /// Runs a `ctr` command.
    #[track_caller]
    pub fn client(&self, line: &(impl Words + ?Sized)) -> Output {
        let mut words = vec!["ctr".to_owned()];
        words.extend(line.words());
        self.host.command(&words[..])
    }

    /// Its Container Runtime Interface.
    #[track_caller]
    pub fn cri(&self) -> Cri {
        Cri::connect(&self.host.path("/run/containerd/containerd.sock"))
    }

    /// The network namespace of a pod.
    #[track_caller]
    pub fn pod(&self, id: &str) -> Net {
        let tasks = self.client("-n k8s.io tasks ls").ok();
        let row = tasks.lines().map(|line| line.words()).find(|row| row[0] == id);
        let pid = row.ok_or(tasks.as_str()).or_fail(format_args!("find the task of {id}"))[1].clone();
        Net::open(id, &self.host.path(format!("/proc/{pid}/ns/net"))).or_fail(format_args!("enter the pod {id}"))
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        self.daemon.stderr()
    }

    /// Starts an idle container with these options of `ctr run`.
    #[track_caller]
    pub fn run(&self, name: &str, options: &str) -> CtrContainer<'_> {
        let line = format!(
            "run --snapshotter native --cgroup= --cpu-shares 0 {options} localhost/busybox:latest {name} sleep 1000"
        );
        let mut command = Command::new("ctr");
        command.args(line.words());
        let mut run = self.host.spawn(command).or_fail("start ctr");
        let pid = within(LIMIT, || {
            assert!(run.ended().is_none(), "`ctr {line}` has ended:\n{}", run.stderr());
            let tasks = self.client("tasks ls").ok();
            let row = tasks.lines().map(|line| line.words()).find(|row| row[0] == name && row[2] == "RUNNING")?;
            Some(row[1].clone())
        });
        let pid = pid.ok_or_else(|| run.stderr()).or_fail(format_args!("run {name}"));
        let path = self.host.path(format!("/proc/{pid}/ns/net"));
        let net = Net::open(name, &path).or_fail(format_args!("enter containerd's container {name}"));
        CtrContainer { containerd: self, name: name.into(), run, net }
    }
}

impl CtrContainer<'_> {
    /// Ends its command; `ctr` takes the rest away.
    #[track_caller]
    pub fn remove(mut self) {
        self.containerd.client(&["tasks", "kill", "--signal", "SIGKILL", &self.name]).ok();
        self.run.wait_within(LIMIT);
        self.containerd.client(&["containers", "rm", &self.name]).ok();
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        if self.daemon.ended().is_none() {
            self.daemon.signal(Signal::SIGTERM);
            within(LIMIT, || self.daemon.ended());
        }
        // What it has left: shims and what runs under them.
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
        within(LIMIT, || {
            remove_groups(&self.group);
            (!self.group.exists()).then_some(())
        });
    }
}
