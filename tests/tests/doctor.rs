//! `spandrel doctor`: each kind of thing that can be wrong or left over is found, said in a sentence, and mended where that is promised.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use spandrel_tests::*;

/// What the doctor found: its exit code, and check, state and problem of each finding.
struct Findings {
    code: Option<i32>,
    all: Vec<[String; 3]>,
}

impl Findings {
    /// Asks with further flags.
    #[track_caller]
    fn of(host: &Host, flags: &str) -> Self {
        let output = host.spandrel(&format!("doctor --state-dir {STATE_DIR} --format json {flags}"));
        let code = output.code;
        assert!(matches!(code, Some(0 | 1)) && output.stderr.is_empty(), "{output:?}");
        let rows = output.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().expect(name).to_owned();
        Self { code, all: rows.map(|row| ["Check", "State", "Problem"].map(|name| text(&row, name))).collect() }
    }

    /// Demands findings of exactly these checks, in this state, and the exit code that goes with it.
    #[track_caller]
    fn assert_are(&self, state: &str, checks: &[&str]) {
        let found: Vec<_> = self.all.iter().map(|[check, ..]| check.as_str()).collect();
        assert_eq!(found, checks, "{:?}", self.all);
        assert!(self.all.iter().all(|[_, found, _]| found == state), "{:?}", self.all);
        assert_eq!(self.code, Some(i32::from(state == "problem" && !checks.is_empty())), "{:?}", self.all);
    }

    /// Demands that a finding of this check says all of these words.
    #[track_caller]
    fn assert_says(&self, check: &str, words: &[&str]) {
        let said =
            |[found, _, problem]: &[String; 3]| found == check && words.iter().all(|word| problem.contains(word));
        assert!(self.all.iter().any(said), "{check}, {words:?}: {:?}", self.all);
    }
}

/// Demands that nothing is wrong, as a user reads it.
#[track_caller]
fn assert_healthy(host: &Host) {
    assert_eq!(host.spandrel(&format!("doctor --state-dir {STATE_DIR}")).ok(), "nothing is wrong");
}

/// A host with networks, containers and ports on it has nothing wrong, and looking changes nothing.
#[test]
fn a_healthy_host_is_told_so() {
    let site = Site::with_networks(["front"]);
    site.host.run_container("--name web --network front -p 8080:80");
    site.host.add_netns("vm");
    site.host.spandrel("attach vm --network front").ok();
    let before = site.host.state();
    assert_healthy(&site.host);
    Findings::of(&site.host, "--fix").assert_are("problem", &[]);
    site.host.state().assert_same_as(&before);
}

/// Where no agent ever was, that is all there is to say.
#[test]
fn a_host_without_an_agent() {
    let host = Lab::new().host("host");
    let found = Findings::of(&host, "");
    found.assert_are("problem", &["agent"]);
    found.assert_says("agent", &["no agent runs on /run/spandrel"]);
    let table = host.spandrel(&format!("doctor --state-dir {STATE_DIR}"));
    assert!(table.code == Some(1) && table.stdout.starts_with("CHECK"), "{table:?}");
}

/// A killed agent leaves its socket; the rest goes on and is on record.
#[test]
fn a_killed_agents_socket_is_found_and_removed() {
    let mut site = Site::with_networks(["front"]);
    site.host.run_container("--name web --network front");
    site.agent.kill();
    let found = Findings::of(&site.host, "");
    found.assert_are("problem", &["agent", "socket", "docker"]);
    found.assert_says("docker", &["nobody listens on /run/docker/plugins/spandrel.sock"]);
    found.assert_says("socket", &["nobody listens on /run/spandrel/spandrel.sock"]);
    assert!(site.host.path(SOCKET).exists(), "it was only asked to look");
    let found = Findings::of(&site.host, "--fix");
    assert_eq!(found.all.iter().map(|[_, state, _]| state.as_str()).collect::<Vec<_>>(), ["problem", "fixed", "fixed"]);
    assert!(!site.host.path(SOCKET).exists());
    site.agent = site.host.agent();
    assert_healthy(&site.host);
}

/// An agent that runs and cannot be asked is another thing than none.
#[test]
fn an_agent_that_cannot_be_reached() {
    let site = Site::new();
    fs::remove_file(site.host.path(SOCKET)).unwrap();
    let found = Findings::of(&site.host, "");
    found.assert_are("problem", &["agent"]);
    found.assert_says("agent", &["an agent runs on /run/spandrel", "does not answer"]);
}

/// What nobody has on record any more, since the state directory was lost, is found without an agent and removed: interfaces, namespaces,
/// directories, and the processes in them.
#[test]
fn what_is_on_no_record_is_found_and_removed() {
    let mut site = Site::with_networks(["front"]);
    let pid = {
        let web = site.host.run_container("--name web --network front");
        assert!(!web.links().is_empty());
        site.host.spandrel(&["inspect", "-f", "{{.State.Pid}}", "web"]).ok()
    };
    site.agent.kill();
    fs::remove_dir_all(site.host.path(STATE_DIR)).unwrap();
    let found = Findings::of(&site.host, "");
    found.assert_are(
        "problem",
        &["agent", "socket", "interface", "interface", "interface", "namespace", "directory", "docker"],
    );
    found.assert_says("interface", &["br-", "belongs to no network or container"]);
    found.assert_says("namespace", &["/run/spandrel/netns/web"]);
    found.assert_says("directory", &["/run/spandrel/containers/"]);
    let process = format!("test -d /proc/{pid}");
    assert_eq!(site.host.command(&process).code, Some(0), "only looking has ended the container");

    Findings::of(&site.host, "--fix");
    Findings::of(&site.host, "").assert_are("problem", &["agent"]);
    assert_eq!(site.host.command(&process).code, Some(1), "the container's command still runs");
    site.agent = site.host.agent();
    assert_healthy(&site.host);
}

/// The same beside an agent that runs, which looks for such things at its start only.
#[test]
fn leftovers_are_found_beside_a_running_agent() {
    let site = Site::new();
    let web = site.host.run_container("--name web");
    site.host.write("/run/spandrel/netns/gone", "");
    site.host.command("mkdir /run/spandrel/containers/0123").ok();
    let found = Findings::of(&site.host, "");
    found.assert_are("problem", &["namespace", "directory"]);
    found.assert_says("namespace", &["/run/spandrel/netns/gone"]);
    Findings::of(&site.host, "--fix").assert_are("fixed", &["namespace", "directory"]);
    assert_healthy(&site.host);
    web.ping(Site::far(V4)).expect("the living container was left alone");
}

/// A namespace of somebody else's that went while no agent was there still has its addresses.
#[test]
fn an_endpoint_without_its_namespace() {
    let mut site = Site::with_networks(["front"]);
    site.host.add_netns("vm");
    site.host.spandrel("attach vm --network front").ok();
    site.agent.kill();
    site.host.delete_netns("vm");
    let found = Findings::of(&site.host, "");
    found.assert_are("problem", &["agent", "socket", "endpoint", "docker"]);
    found.assert_says("endpoint", &["vm", "is gone"]);
    site.agent = site.host.agent();
    assert_healthy(&site.host);
}

/// Pins of another version, and programs that an agent had not finished loading.
#[test]
fn pins_of_others_are_found_and_removed() {
    let site = Site::new();
    let own = fs::read_dir(site.host.path("/run/spandrel/bpf")).unwrap().next().unwrap().unwrap().file_name();
    let fresh = format!("/run/spandrel/bpf/{}/programs/fresh", own.to_str().unwrap());
    site.host.command(&format!("mkdir -p /run/spandrel/bpf/v1/links /run/spandrel/bpf/v1/maps {fresh}")).ok();
    let found = Findings::of(&site.host, "");
    found.assert_are("problem", &["pins", "pins"]);
    found.assert_says("pins", &["/run/spandrel/bpf/v1 "]);
    found.assert_says("pins", &[&fresh]);
    Findings::of(&site.host, "--fix").assert_are("fixed", &["pins", "pins"]);
    assert_healthy(&site.host);
    assert!(site.host.path("/run/spandrel/bpf").join(own).exists());
}

/// Without its file system, nothing that the agent has pinned lives on.
#[test]
fn a_missing_bpf_file_system() {
    let mut site = Site::new();
    site.host.command("umount --lazy /run/spandrel/bpf").ok();
    let found = Findings::of(&site.host, "");
    found.assert_says("bpffs", &["/run/spandrel/bpf"]);
    site.restart_agent();
    assert_healthy(&site.host);
}

/// A host that does not forward any more loses what goes by its stack.
#[test]
fn a_host_that_does_not_forward() {
    // An agent that runs sets it again at every change of the host's addresses and routes.
    let mut site = Site::new();
    site.agent.stop();
    site.host.set_sysctl("ipv4/ip_forward", "0");
    site.host.set_sysctl("ipv6/conf/all/forwarding", "0");
    let found = Findings::of(&site.host, "");
    found.assert_are("problem", &["agent", "forwarding", "forwarding"]);
    found.assert_says("forwarding", &["net.ipv4.ip_forward is 0"]);
    Findings::of(&site.host, "--fix");
    Findings::of(&site.host, "").assert_are("problem", &["agent"]);
    assert_eq!(site.host.command("cat /proc/sys/net/ipv4/ip_forward").ok(), "1");
}

/// An uplink at which our program was taken away, and one at which another runs before it.
#[test]
fn programs_at_an_uplink() {
    let mut site = Site::new();
    let uplink = site.uplink.name.clone();
    let other = site.host.attach_tcx(&uplink, Direction::Ingress, Order::First);
    let found = Findings::of(&site.host, "");
    found.assert_are("note", &["uplink"]);
    found.assert_says("uplink", &["other programs run before ours", &uplink]);
    drop(other);
    assert_healthy(&site.host);

    let layout = fs::read_dir(site.host.path("/run/spandrel/bpf")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(layout.join("links").join(format!("from_uplink@{uplink}"))).unwrap();
    let gone = within(PATIENCE, || Some(Findings::of(&site.host, "")).filter(|found| !found.all.is_empty()));
    let gone = gone.expect("the program is taken off with its link");
    gone.assert_are("problem", &["uplink"]);
    gone.assert_says("uplink", &["does not run at the uplink", &uplink]);
    site.restart_agent();
    assert_healthy(&site.host);
}

/// Strict reverse path filters matter only where there is more than one way.
#[test]
fn strict_filters_at_one_uplink_of_several() {
    let lab = Lab::new();
    let (host, left, right) = (lab.host("host"), lab.machine("left"), lab.machine("right"));
    let uplink = lab.uplink(&host, &left);
    host.set_sysctl(&format!("ipv4/conf/{}/rp_filter", uplink.name), "1");
    let mut agent = host.agent();
    assert_healthy(&host);
    let second = lab.uplink(&host, &right);
    agent.kill();
    agent = host.agent_with(&format!("--uplink {} --uplink {}", uplink.name, second.name));
    let found = Findings::of(&host, "");
    found.assert_are("note", &["rp_filter"]);
    found.assert_says("rp_filter", &[&uplink.name]);
    drop(agent);
}

/// A firewall that drops what is forwarded.
#[test]
fn a_firewall_that_drops_what_is_forwarded() {
    let lab = Lab::new();
    let host = lab.host("host");
    host.install_debian();
    let _agent = host.agent();
    host.command("iptables -P FORWARD ACCEPT").ok();
    assert_healthy(&host);
    host.command("iptables -P FORWARD DROP").ok();
    let found = Findings::of(&host, "");
    found.assert_are("note", &["firewall"]);
    found.assert_says("firewall", &["ip filter FORWARD"]);
}

/// Links by which engines call a binary that is not there, or another one; and a socket of Docker's with nobody behind it.
#[test]
fn plugins_that_lead_nowhere() {
    let lab = Lab::new();
    let host = lab.host("host");
    host.own_system();
    let _agent = host.agent();
    assert_healthy(&host);
    host.command("mkdir -p /opt/cni/bin /usr/lib/netavark /opt/old").ok();
    host.command("ln -s /opt/gone/spandrel /opt/cni/bin/spandrel-cni").ok();
    host.command("cp /usr/bin/true /opt/old/spandrel").ok();
    host.command("ln -s /opt/old/spandrel /usr/lib/netavark/spandrel").ok();
    let found = Findings::of(&host, "");
    found.assert_are("problem", &["plugin", "plugin"]);
    found.assert_says("plugin", &["/opt/cni/bin/spandrel-cni", "/opt/gone/spandrel", "not there"]);
    found.assert_says("plugin", &["/usr/lib/netavark/spandrel", "/opt/old/spandrel"]);
    let found = Findings::of(&host, "--fix");
    assert_eq!(found.all.iter().map(|[_, state, _]| state.as_str()).collect::<Vec<_>>(), ["fixed", "problem"]);
    assert!(!host.path("/opt/cni/bin/spandrel-cni").is_symlink());
    host.command("rm /usr/lib/netavark/spandrel").ok();
    assert_healthy(&host);

    let socket = Path::new("/run/docker/plugins/spandrel.sock");
    let listener = host.enter(|| {
        // The agent's, which goes on without anybody reaching it.
        fs::remove_file(socket)?;
        UnixListener::bind(socket)
    });
    let listener = listener.unwrap();
    assert_healthy(&host);
    drop(listener);
    Findings::of(&host, "").assert_are("problem", &["docker"]);
    Findings::of(&host, "--fix").assert_are("fixed", &["docker"]);
    assert_healthy(&host);
}

/// An agent of another version, which answers as such a one would.
#[test]
fn an_agent_of_another_version() {
    let host = Lab::new().host("host");
    let listener = host.enter(|| {
        fs::create_dir_all(RUN_DIR)?;
        UnixListener::bind(SOCKET)
    });
    let listener = listener.unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            let version = request[..length].starts_with(b"GET /version");
            let (status, body) = if version {
                ("200 OK", r#"{"Version":"0.0.9"}"#)
            } else {
                ("404 Not Found", r#"{"message":"no call"}"#)
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    let found = Findings::of(&host, "");
    found.assert_are("problem", &["agent"]);
    found.assert_says("agent", &["version 0.0.9", env!("CARGO_PKG_VERSION")]);
}

/// Who may not look is told so, and so is who finds a damaged record.
#[test]
fn what_cannot_be_looked_at() {
    let host = Lab::new().host("host");
    host.command(&format!("mkdir --mode=0700 {STATE_DIR}")).ok();
    host.write(&format!("{STATE_DIR}/spandrel.redb"), "no database");
    let found = Findings::of(&host, "");
    found.assert_are("problem", &["agent", "record"]);
    found.assert_says("record", &["spandrel.redb"]);

    host.install_binary();
    let line = format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups spandrel doctor --state-dir {STATE_DIR} --format json"
    );
    let output = host.command(&line);
    assert_eq!(output.code, Some(1), "{output:?}");
    for word in ["\"rights\"", "\"record\"", "Permission denied"] {
        assert!(output.stdout.contains(word), "{word}: {output:?}");
    }
}

/// Networks that an engine has made and does not have any more: Docker lost its records, Podman tells plugins nothing of a removal.
#[test]
fn networks_that_their_engine_has_forgotten() {
    let site = Site::new();
    site.host.install_debian();
    let mut docker = site.host.docker("--iptables=false --bridge=none");
    docker.client("network create -d spandrel --ipam-driver spandrel kept").ok();
    docker.client("network create -d spandrel --ipam-driver spandrel lost").ok();
    let lost = docker.client("network inspect --format {{.Id}} lost").ok();
    assert_healthy(&site.host);
    docker.stop();
    drop(docker);
    // Without Docker nobody knows.
    assert_healthy(&site.host);
    site.host.command("rm -r /run/docker-data/network").ok();
    let docker = site.host.docker("--iptables=false --bridge=none");
    docker.client("network create -d spandrel --ipam-driver spandrel another").ok();
    let found = Findings::of(&site.host, "");
    found.assert_are("problem", &["network", "network"]);
    found.assert_says("network", &["lost", "Docker"]);
    Findings::of(&site.host, "--fix").assert_are("fixed", &["network", "network"]);
    assert_healthy(&site.host);
    assert_eq!(site.host.spandrel(&format!("network inspect {lost}")).code, Some(1));
    docker.client("network rm another").ok();

    site.host.command("mkdir -p /etc/containers/networks").ok();
    site.host.create_network("--label io.podman.network=0a front");
    site.host.write("/etc/containers/networks/front.json", r#"{"name": "front", "id": "0a", "driver": "spandrel"}"#);
    assert_healthy(&site.host);
    site.host.command("rm /etc/containers/networks/front.json").ok();
    let found = Findings::of(&site.host, "");
    found.assert_are("problem", &["network"]);
    found.assert_says("network", &["front", "Podman"]);
    Findings::of(&site.host, "--fix").assert_are("fixed", &["network"]);
    assert_healthy(&site.host);
}

/// Podman, on a host where the plugin is installed and Podman's own setting stands in its way.
#[test]
fn podmans_own_reservation_of_ports() {
    let host = Lab::new().host("host");
    host.install_binary();
    let _agent = host.agent();
    let ask = || host.command(&format!("spandrel doctor --state-dir {STATE_DIR} --format json")).ok();
    host.command("spandrel plugin install podman").ok();
    host.command("cp /usr/bin/true /usr/bin/podman").ok();
    assert!(ask().contains("enable_port_reservation = false"), "{}", ask());
    host.command("mkdir -p /etc/containers/containers.conf.d").ok();
    host.write("/etc/containers/containers.conf.d/spandrel.conf", "[engine]\nenable_port_reservation = false\n");
    assert_eq!(ask(), "");
}
