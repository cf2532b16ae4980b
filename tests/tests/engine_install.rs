//! Installing: what the Debian package puts in place and takes away, and that its agent works with the rights of its unit alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use spandrel_tests::*;

/// Every file of the package that somebody looks for at its place.
const FILES: [&str; 9] = [
    "/usr/bin/spandrel",
    "/usr/lib/systemd/system/spandrel.service",
    "/usr/share/man/man1/spandrel.1.gz",
    "/usr/share/man/man1/spandrel-network-create.1.gz",
    "/usr/share/bash-completion/completions/spandrel",
    "/usr/share/zsh/vendor-completions/_spandrel",
    "/usr/share/fish/vendor_completions.d/spandrel.fish",
    "/usr/share/doc/spandrel/copyright",
    "/usr/share/doc/spandrel/examples/10-pods.conflist",
];

/// dpkg installs it, its unit is one that systemd takes, and purging leaves nothing but the group.
#[test]
fn the_package_installs_and_goes_again() {
    let machine = Lab::new().machine("host");
    machine.install_package();
    for file in FILES {
        assert!(machine.path(file).is_file(), "{file}");
    }
    let version = machine.command("spandrel --version").ok();
    assert_eq!(
        machine.command(&["dpkg-query", "--show", "--showformat=spandrel ${Version}", "spandrel"]).ok(),
        version
    );
    for link in ["/usr/lib/cni/spandrel-cni", "/opt/cni/bin/spandrel-cni", "/usr/lib/netavark/spandrel"] {
        assert_eq!(fs::read_link(machine.path(link)).unwrap(), Path::new("/usr/bin/spandrel"), "{link}");
    }
    let group = machine.command("getent group spandrel").ok();
    assert!(group.starts_with("spandrel:"), "{group}");
    if machine.path("/usr/bin/systemd-analyze").exists() {
        let verified = machine.command("systemd-analyze verify --man=no /usr/lib/systemd/system/spandrel.service");
        let about_ours: Vec<_> = verified.stderr.lines().filter(|line| line.contains("spandrel")).collect();
        assert!(verified.code == Some(0) && about_ours.is_empty(), "{verified:?}");
    }

    machine.dpkg("--purge", Path::new("spandrel")).ok();
    for file in FILES.iter().chain(&["/etc/default/spandrel", "/opt/cni/bin/spandrel-cni", "/var/lib/spandrel"]) {
        assert!(!machine.path(file).exists() && !machine.path(file).is_symlink(), "{file} is left");
    }
}

/// With the capabilities of the unit and no others, the agent does all that takes one: networks, containers that reach each other and the
/// outside, a published port below 1024, a command in a running container, ending another user's command, the socket's group.
#[test]
fn the_unit_has_the_rights_that_the_agent_needs() {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let uplink = lab.uplink(&host, &internet);
    host.install_package();
    let unit = host.unit();
    let agent = unit.start(&host);
    let held = effective(agent.pid());
    assert_eq!(held.count_ones() as usize, unit.words("CapabilityBoundingSet").len(), "{held:x}");
    let socket = fs::metadata(host.path(SOCKET)).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    let group = host.command("getent group spandrel").ok();
    let owner = host.command(&["stat", "--format", "%G", SOCKET]).ok();
    assert_eq!(group.split(':').next(), Some(owner.as_str()));

    let run = |line: &str| host.command(&format!("spandrel {line}")).ok();
    run("network create --ipv6 front");
    run("run -d --name web --network front -p 80:8080 sleep infinity");
    run("run -d --name other --network front setpriv --reuid=65534 --clear-groups sleep infinity");
    let (web, other) = (host.container("web"), host.container("other"));
    for family in Family::BOTH {
        let _server = web.tcp_listen(family.any(), 8080);
        other.tcp_connect(web.ip(family), 8080).expect("a neighbour");
        other.ping(uplink.outside(family)).expect("the way out");
        internet.tcp_connect(uplink.host(family), 80).expect("the published port");
    }
    host.add_netns("vm");
    run("attach vm --network front -p 443:8443");
    host.container("vm").ping(web.ip(V4)).expect("a neighbour in a namespace of somebody else's");
    assert_eq!(run("exec other id --user"), "0");
    let mut number = String::new();
    assert!(
        within(PATIENCE, || {
            number = host.command(&["stat", "--format", "%u", &format!("/proc/{}", pid_of(&host, "other"))]).ok();
            (number == "65534").then_some(())
        })
        .is_some()
    );
    run("rm -f other");

    // A new agent under the same unit finds what the first has left.
    drop(agent);
    let _agent = unit.start(&host);
    assert_eq!(run("exec web cat /proc/self/comm"), "cat");
}

/// The effective capabilities of a process, by its number outside.
fn effective(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// The number of a container's command, as the host sees it.
fn pid_of(host: &Host, container: &str) -> String {
    host.spandrel(&["inspect", "-f", "{{.State.Pid}}", container]).ok()
}

/// The link by which a CNI runtime finds the plugin is made, found, replaced and removed; one line says so each time.
#[test]
fn plugin_install_makes_links_and_says_so() {
    let host = Lab::new().host("host");
    host.install_binary();
    let plugin = |line: &str| host.command(&format!("spandrel plugin {line}"));
    let place = "/opt/cni/bin/spandrel-cni";
    assert_eq!(plugin("install cni").ok(), format!("{place}: made, leads to /usr/local/bin/spandrel"));
    assert_eq!(plugin("install cni").ok(), format!("{place}: already there, leads to /usr/local/bin/spandrel"));
    // As a runtime calls it.
    let version =
        ["env", "CNI_COMMAND=VERSION", "sh", "-c", "echo '{\"cniVersion\": \"1.1.0\"}' | /opt/cni/bin/spandrel-cni"];
    assert_eq!(host.command(&version).json()["cniVersion"], "1.1.0");

    // Debian's directory is one of them where it is there.
    host.command("mkdir -p /usr/lib/cni").ok();
    assert!(plugin("install cni").ok().contains("/usr/lib/cni/spandrel-cni: made, leads to /usr/local/bin/spandrel"));
    // An older one of ours, which has gone.
    host.command(&["ln", "-sf", "/opt/spandrel-0.0/bin/spandrel", place]).ok();
    let states = plugin("ls --format json").json_lines();
    let state = states.iter().find(|row| row["Place"] == place).unwrap();
    assert_eq!((&state["State"], &state["Engine"]), (&"dangling".into(), &"cni".into()), "{states:?}");
    let said = plugin("install cni").ok();
    assert!(said.contains("replaced ours that led to /opt/spandrel-0.0/bin/spandrel"), "{said}");

    let podman = "/usr/local/libexec/netavark/spandrel";
    let said = plugin("install podman").ok();
    assert!(said.starts_with(&format!("{podman}: made, leads to /usr/local/bin/spandrel\nstill to do: ")), "{said}");
    plugin("install podman --bin-dir /opt/plugins").assert_sentence(1, &["/opt/plugins/spandrel", "called netavark"]);
    let conf = "[engine]\nenable_port_reservation = false\n[network]\nnetavark_plugin_dirs = [\"/opt/netavark\"]\n";
    host.command("mkdir -p /etc/containers").ok();
    host.write("/etc/containers/containers.conf", conf);
    assert_eq!(plugin("install podman").ok(), "/opt/netavark/spandrel: made, leads to /usr/local/bin/spandrel");
    host.command("rm /etc/containers/containers.conf").ok();
    assert!(
        plugin("install podman --bin-dir /usr/libexec/netavark")
            .ok()
            .starts_with("/usr/libexec/netavark/spandrel: made")
    );

    assert_eq!(plugin("uninstall cni").ok(), format!("{place}: removed\n/usr/lib/cni/spandrel-cni: removed"));
    assert_eq!(plugin("uninstall cni").ok(), "nothing of ours is there");
    plugin("uninstall podman").ok();
    for place in [place, "/usr/lib/cni/spandrel-cni", podman, "/usr/libexec/netavark/spandrel"] {
        assert!(!host.path(place).is_symlink(), "{place} is left");
    }
}

/// A configuration is written only where it is asked for, and taken back only as it was written.
#[test]
fn an_example_of_a_network_is_asked_for() {
    let host = Lab::new().host("host");
    host.install_binary();
    let plugin = |line: &str| host.command(&format!("spandrel plugin {line}"));
    let path = "/etc/cni/net.d/99-pods.conflist";
    plugin("install cni").ok();
    assert!(!host.path(path).exists());
    host.command("mkdir -p /etc/cni/net.d").ok();
    host.write("/etc/cni/net.d/10-other.conflist", "{}");
    let said = plugin("install cni --example").ok();
    assert!(
        said.ends_with(&format!("{path}: made, the host's default network stays /etc/cni/net.d/10-other.conflist")),
        "{said}"
    );
    assert!(plugin("install cni --example").ok().ends_with(&format!("{path}: already there")));
    plugin("install podman --example").assert_sentence(1, &["--example", "CNI"]);

    host.write(path, "{\"name\": \"mine\"}");
    plugin("uninstall cni").ok();
    assert_eq!(fs::read_to_string(host.path(path)).unwrap(), "{\"name\": \"mine\"}");
    plugin("install cni --example").assert_sentence(1, &[path, "not our example"]);
    assert!(!host.path("/opt/cni/bin/spandrel-cni").is_symlink(), "half of it was done");
}

/// What is not ours stays, and then nothing is done at all; so it is with a binary that will not stay where it is.
#[test]
fn plugin_install_leaves_alone_what_is_not_ours() {
    let host = Lab::new().host("host");
    host.install_binary();
    host.command("mkdir -p /opt/cni/bin /usr/lib/cni").ok();
    host.command(&["sh", "-c", "echo kept > /usr/lib/cni/spandrel-cni"]).ok();
    let plugin = |line: &str| host.command(&format!("spandrel plugin {line}"));
    plugin("install cni").assert_sentence(1, &["/usr/lib/cni/spandrel-cni is not a link of ours", "--bin-dir"]);
    assert!(!host.path("/opt/cni/bin/spandrel-cni").is_symlink(), "half of it was done");
    assert_eq!(plugin("uninstall cni").ok(), "nothing of ours is there");
    assert_eq!(fs::read_to_string(host.path("/usr/lib/cni/spandrel-cni")).unwrap(), "kept\n");

    host.command("install /usr/local/bin/spandrel /run/spandrel").ok();
    host.command("chmod 777 /run/spandrel").ok();
    let output = host.command("/run/spandrel plugin install cni --bin-dir /opt/cni/bin");
    output.assert_sentence(1, &["/run/spandrel", "may be changed by others than root", "sudo install"]);
}

/// Docker is served by the agent itself; without one the sentence says so.
#[test]
fn plugin_install_docker_looks_for_the_agent() {
    let host = Lab::new().host("host");
    host.spandrel("plugin install docker").assert_sentence(1, &["cannot reach the agent", "is it running?"]);
    host.spandrel("plugin install docker --bin-dir /usr/lib/docker").assert_sentence(1, &["--bin-dir", "Docker"]);
    let _agent = host.agent();
    let said = host.spandrel("plugin install docker").ok();
    assert!(said.starts_with("/run/docker/plugins/spandrel.sock: already there, the agent"), "{said}");
    fs::remove_file(host.path("/run/docker/plugins/spandrel.sock")).unwrap();
    host.spandrel("plugin install docker").assert_sentence(1, &["does not serve /run/docker/plugins/spandrel.sock"]);
}

/// The commands of docs/migrate.md for a Docker host: a container is made anew on our network, Docker's rules and its bridge are given up, and
/// all of it is taken back.
#[test]
fn a_docker_host_moves_and_goes_back() {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let uplink = lab.uplink(&host, &internet);
    host.install_debian();
    let mut docker = host.docker("");
    docker.client("network create old").ok();
    let reached = |shop: &Net| {
        let _server = shop.tcp_listen(V4.any(), 80);
        internet.tcp_connect(uplink.host(V4), 8080).map(|link| link.seen_as.ip())
    };
    let client = uplink.outside(V4);
    assert_eq!(reached(&docker.run("shop", "--network old -p 8080:80")).expect("Docker's own bridge"), client);

    host.install_package();
    let agent = host.unit().start(&host);
    docker.client("network create -d spandrel web").ok();
    docker.client("rm -f shop").ok();
    assert_eq!(reached(&docker.run("shop", "--network web -p 8080:80")).expect("our network"), client);
    let other = docker.run("other", "--network web");
    other.ping(client).expect("the way out");
    assert_eq!(host.command("spandrel port shop").ok().lines().next(), Some("80/tcp -> 0.0.0.0:8080"));

    // Without a bridge and a rule of Docker's.
    docker.client("rm -f shop other").ok();
    docker.client("network rm old").ok();
    docker.stop();
    drop(docker);
    host.command("nft flush ruleset").ok();
    host.write("/etc/docker/daemon.json", r#"{"bridge": "none", "iptables": false, "ip6tables": false}"#);
    let mut docker = host.docker("");
    assert_eq!(reached(&docker.run("shop", "--network web -p 8080:80")).expect("without a rule"), client);
    assert_eq!(host.packet_filters(), Vec::<String>::new());
    assert!(host.links().iter().all(|link| link.name != "docker0"), "{:?}", host.links());
    assert_eq!(host.command("spandrel doctor").ok(), "nothing is wrong");

    docker.client("rm -f shop").ok();
    docker.client("network rm web").ok();
    docker.stop();
    drop(docker);
    host.command("rm /etc/docker/daemon.json").ok();
    let docker = host.docker("");
    docker.client("network create old").ok();
    drop(agent);
    host.dpkg("--purge", Path::new("spandrel")).ok();
    assert_eq!(reached(&docker.run("shop", "--network old -p 8080:80")).expect("Docker's bridge again"), client);
}
