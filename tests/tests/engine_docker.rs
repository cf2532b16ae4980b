//! Docker on Spandrel: the real dockerd from Debian, without iptables and without a bridge of its own, with `spandrel` as its network and
//! IPAM driver.

use std::os::unix::net::UnixStream;

use hickory_proto::rr::RecordType;
use spandrel_tests::*;

const CREATE: &str = "network create -d spandrel --ipam-driver spandrel";

/// A site whose host has Debian's programs.
fn site() -> Site {
    let site = Site::with_agent("--log-level debug");
    site.host.install_debian();
    site
}

/// The whole of a Docker container's life, and that nothing of it is left; rows 1, 2, 4, 5, 7, 8, 9, 11 and 14 of SEMANTICS §1 in both families.
#[test]
fn containers_on_networks() {
    let site = site();
    let before = site.host.state();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} --ipv6 --subnet 10.7.0.0/24 --subnet fd07::/64 front")).ok();
    docker.client(&format!("{CREATE} --ipv6 back")).ok();
    let web = docker.run("web", &format!("--network front {PUBLISH}"));
    let friend = docker.run("friend", "--network front");
    let stranger = docker.run("stranger", "--network back");
    site.internet.add_route("10.7.0.0".parse().unwrap(), 24, site.public(V4));
    site.internet.add_route("fd07::".parse().unwrap(), 64, site.public(V6));
    for family in Family::BOTH {
        let at = |name, network| docker.ip_on(name, network, family);
        let (own, public, gateway) = (at("web", "front"), site.public(family), site.host.gateway("front", family));
        let services = web.serve(family.any());
        services.assert_reached(&friend, own, at("friend", "front"));
        services.assert_reached(&site.host, own, gateway);
        services.assert_reached_at(&friend, public, PUBLISHED, at("friend", "front"));
        services.assert_reached_at(&stranger, public, PUBLISHED, at("stranger", "back"));
        services.assert_reached_at(&web, public, PUBLISHED, gateway);
        services.assert_reached_at(&site.internet, public, PUBLISHED, site.uplink.outside(family));
        for address in [public, family.loopback()] {
            services.assert_reached_at(&site.host, address, PUBLISHED, gateway);
        }
        site.internet.serve(Site::far(family)).assert_reached(&stranger, Site::far(family), public);
        at_once([&|| services.assert_out_of_reach(&stranger, own), &|| {
            services.assert_out_of_reach(&site.internet, own);
        }]);
    }
    assert_eq!(site.host.packet_filters(), [""; 0], "no rule on the host");
    for program in ["iptables-save", "ip6tables-save", "nft list ruleset"] {
        assert_eq!(site.host.command(program).ok(), "", "{program}");
    }
    assert!(site.host.links().iter().all(|link| link.name != "docker_gwbridge" && link.name != "docker0"));

    for name in ["web", "friend", "stranger"] {
        docker.client(&["rm", "-f", name]).ok();
    }
    docker.client("network rm front back").ok();
    assert!(!docker.client("network ls").ok().contains("gwbridge"));
    drop(docker);
    site.host.state().assert_same_as(&before);
}

/// Names that Docker's own server at 127.0.0.11 knows, as ever; ours knows the same for containers of our own on the network.
#[test]
fn names() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front --network-alias www");
    let friend = docker.run("friend", "--network front");
    let web = docker.ip_on("web", "front", V4);
    for name in ["web", "www"] {
        let said = docker.client(&format!("exec friend /bin/busybox nslookup {name} 127.0.0.11"));
        assert!(said.stdout.contains(&web.to_string()), "{said:?}");
    }
    drop(friend);
    site.host.listed("web");
    let ours = site.host.run_container("--name ours --network front");
    assert_eq!(ours.addresses_of("web", RecordType::A), [web]);
    assert_ne!(ours.ip(V4), docker.ip_on("friend", "front", V4));
    ours.ping(web).expect("a neighbour of Docker's");
}

/// Without Docker's own socket containers are called by number, and everything else is as ever.
#[test]
fn without_names() {
    let site = Site::with_agent("--docker-socket /run/elsewhere.sock");
    site.host.install_debian();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    let web = docker.run("web", &format!("--network front {PUBLISH}"));
    let friend = docker.run("friend", "--network front");
    let services = web.serve(V4.any());
    services.assert_reached(&friend, docker.ip_on("web", "front", V4), docker.ip_on("friend", "front", V4));
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    let key = docker.client("inspect --format {{.NetworkSettings.SandboxKey}} web").ok();
    let (_, number) = key.rsplit_once('/').expect("a path");
    assert_eq!(site.host.spandrel(&["port", &format!("docker-{number}"), "80"]).ok(), "0.0.0.0:8080\n[::]:8080");
}

/// The driver's socket: there with the agent and gone with it, taken over from one that was killed, elsewhere or nowhere if that is
/// wanted. What is no socket is left alone, and the agent runs without a driver unless it was told where.
#[test]
fn the_drivers_socket() {
    let (usual, elsewhere) = ("/run/docker/plugins/spandrel.sock", "/run/a/b.sock");
    let mut site = Site::new();
    let there = |path: &str| site.host.path(path).exists();
    let appears = |path: &str| assert!(within(PATIENCE, || there(path).then_some(())).is_some(), "no {path}");
    appears(usual);
    site.agent.kill();
    assert!(there(usual), "left over");
    let mut agent = site.host.agent();
    let answers = || UnixStream::connect(site.host.path(usual)).ok();
    assert!(within(PATIENCE, answers).is_some(), "taken over");
    agent.stop();
    assert!(!there(usual));

    let mut agent = site.host.agent_with(&format!("--docker-plugin {elsewhere}"));
    appears(elsewhere);
    assert!(!there(usual));
    agent.stop();
    let mut agent = site.host.agent_with("--docker-plugin none");
    assert!(!there(usual) && !there(elsewhere));
    agent.stop();

    for path in [usual, elsewhere] {
        site.host.write(path, "somebody else's");
    }
    let mut agent = site.host.agent();
    let warned = within(PATIENCE, || agent.log().contains("there is no driver for Docker").then_some(()));
    assert!(warned.is_some(), "{}", agent.log());
    agent.stop();
    let asked = format!("agent --state-dir {STATE_DIR} --docker-plugin {elsewhere}");
    let refused = site.host.spandrel(&asked);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("b.sock is in the way and is not a socket: choose another path with --docker-plugin")
    );
}

/// The configuration and the sessions in `docs/docker.md`, as they are printed there.
#[test]
fn the_page() {
    let site = site();
    let page = include_str!("../../docs/docker.md");
    let block = |before: &str| {
        let block = page.split(before).nth(1).and_then(|rest| rest.split("```").nth(1));
        block.unwrap_or_else(|| panic!("nothing after {before:?}"))
    };
    let configuration = block("### A host without a single rule of iptables").strip_prefix("json").expect("JSON");
    site.host.write("/run/daemon.json", configuration);
    let docker = site.host.docker("--config-file /run/daemon.json");
    let run = |line: &str| {
        let line = line.split(" #").next().unwrap_or_default().trim();
        match line.split_once(' ') {
            Some(("docker", words)) => docker.client(words),
            Some(("spandrel", words)) => site.host.spandrel(words),
            Some(("wget", _)) => site.host.command(&format!("busybox {line}")),
            _ => panic!("{line}"),
        }
        .ok()
    };
    for line in block("## A first session").trim().lines() {
        if line.starts_with("docker rm") {
            block("What Docker has not works on its containers, too:").trim().lines().for_each(|line| _ = run(line));
        }
        let printed = run(line);
        if line.contains("wget") {
            assert_eq!(printed, docker.client("inspect --format {{.Config.Hostname}} web").ok(), "{line}");
        }
        if line.starts_with("docker run -d") {
            site.host.listed("web");
        }
        if line.starts_with("spandrel") {
            assert!(printed.contains("0.0.0.0:8080"), "{line}: {printed}");
        }
    }
    assert_eq!(site.host.packet_filters(), [""; 0]);
}
