//! What goes wrong between Docker and Spandrel, and what the user sees of it: one clear sentence in Docker's own display.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use spandrel_tests::*;

const CREATE: &str = "network create -d spandrel --ipam-driver spandrel";

const SLEEP: &str = "busybox /bin/busybox sleep 1000";

/// Where dockerd finds the driver.
const PLUGIN: &str = "/run/docker/plugins/spandrel.sock";

/// A site whose host has Debian's programs.
fn site() -> Site {
    let site = Site::new();
    site.host.install_debian();
    site
}

/// What the driver answers to a call.
fn call(site: &Site, name: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(site.host.path(PLUGIN)).expect("the driver's socket");
    let head =
        format!("POST /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).expect("a call");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Demands that a `docker` command is refused in a sentence with all of `words`, and that nothing has changed here.
#[track_caller]
fn assert_refused(site: &Site, docker: &Docker<'_>, line: &str, words: &[&str]) {
    let before = site.host.state();
    let said = docker.client(line);
    assert_ne!(said.code, Some(0), "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is missing: {said:?}");
    }
    if line.starts_with("run") {
        docker.client("rm -f late").ok();
    }
    site.host.state().assert_same_as(&before);
}

/// Docker says which driver it does not reach, and works again with the agent.
#[test]
fn the_agent_does_not_run() {
    let mut site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    site.agent.stop();
    let said = docker.client(&format!("{CREATE} front"));
    assert!(said.code == Some(1) && said.stderr.contains("spandrel") && said.stderr.lines().count() == 1, "{said:?}");
    site.agent = site.host.agent();
    docker.client(&format!("{CREATE} front")).ok();
}

/// A call of a newer Docker than this agent knows.
#[test]
fn docker_is_newer_than_the_agent() {
    let site = site();
    let answer = call(&site, "NetworkDriver.Teleport", "{}");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("does not know Docker's call NetworkDriver.Teleport: install a newer one"), "{answer}");
}

/// A network that was removed here is said to be so, can be removed there, and made anew.
#[test]
fn the_network_was_removed_behind_dockers_back() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    let id = docker.client(&format!("{CREATE} front")).ok();
    site.host.spandrel(&["network", "rm", &id]).ok();
    let words = ["is not known to Spandrel any more", "`docker network rm`", &id[..12]];
    assert_refused(&site, &docker, &format!("run -d --name late --network front {SLEEP}"), &words);
    docker.client("network rm front").ok();
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front");
}

/// A namespace that is gone with all that was in it.
#[test]
fn the_namespace_is_gone() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front -p 8080:80");
    site.host.listed("web");
    // Somebody takes the interface away, and with it everything that Docker could move.
    let host_end = site.host.links().into_iter().find(|link| link.kind == "veth" && link.master.is_some());
    let name = host_end.expect("the host's end of the container's interface").name;
    site.host.command(&["ip", "link", "del", &name]).ok();
    docker.client("restart -t 0 web").ok();
    let web = docker.container("web");
    let _server = web.tcp_listen(V4.any(), 80);
    site.internet.tcp_connect(site.public(V4), 8080).expect("it has another interface");
    docker.client("rm -f web").ok();
    docker.client("network rm front").ok();
}

/// Addresses that somebody has, with who has them.
#[test]
fn addresses_are_taken() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} --subnet 10.7.0.0/24 front")).ok();
    docker.client("network create -d spandrel --subnet 10.8.0.0/24 theirs").ok();
    site.host.wait_for_network("theirs");
    for (network, address) in [("front", "10.7.0.9"), ("theirs", "10.8.0.9")] {
        site.host.run_container(&format!("--name ours-{network} --network {network} --ip {address}"));
        let line = format!("run -d --name late --network {network} --ip {address} {SLEEP}");
        let words = ["Address already in use", address, &format!("belongs to container ours-{network}")];
        assert_refused(&site, &docker, &line, &words);
    }
    // Of addresses that Docker gives out without us nobody knows which are free.
    site.host.assert_refused("run -d --network theirs sleep 9", &["Docker gives out the addresses 10.8.0.0/24"]);
    let line = format!("run -d --name late --network front --ip 10.9.0.9 {SLEEP}");
    assert_refused(&site, &docker, &line, &["10.9.0.9"]);
}

/// Docker removes a network whatever its driver says of it. Our own containers go on there, and it is ours to remove.
#[test]
fn a_network_with_containers_of_our_own_is_removed() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    site.host.wait_for_network("front");
    let ours = site.host.run_container("--name ours --network front");
    docker.client("network rm front").ok();
    ours.ping(Site::far(V4)).expect("it is still on its network");
    ours.remove();
    site.host.spandrel("network rm front").ok();
}

/// Subnets that somebody has, and options that nobody knows.
#[test]
fn networks_are_refused() {
    let site = site();
    site.host.create_network("--subnet 10.7.0.0/16 ours");
    let docker = site.host.docker(WITHOUT_IPTABLES);
    for (arguments, words) in [
        ("--ipam-driver spandrel --subnet 10.7.1.0/24", ["10.7.1.0/24 overlaps 10.7.0.0/16 of network ours", ""]),
        ("--subnet 10.7.1.0/24", ["10.7.1.0/24 overlaps 10.7.0.0/16 of network ours", ""]),
        ("-o com.docker.network.bridge.enable_ic=false", ["unknown option", "enable_icc?"]),
        ("-o com.docker.network.bridge.gateway_mode_ipv4=isolated", ["isolated", "--internal"]),
        ("--ipam-driver null", ["no subnet", "--ipam-driver spandrel"]),
    ] {
        assert_refused(&site, &docker, &format!("network create -d spandrel {arguments} late"), &words);
    }
    assert!(!docker.client("network ls").ok().contains("late"));
}

/// After a crash on our side, with all that was on record: Docker's containers are said to be unknown and get anew what they need.
#[test]
fn the_agent_has_forgotten_everything() {
    let mut site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front -p 8080:80");
    site.agent.kill();
    site.host.command("rm -rf /run/spandrel-state").ok();
    site.agent = site.host.agent();
    let words = ["not known to Spandrel any more"];
    assert_refused(&site, &docker, &format!("run -d --name late --network front {SLEEP}"), &words);
    docker.client("rm -f web").ok();
    docker.client("network rm front").ok();
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front -p 8080:80");
}

/// After a crash on Docker's side, with all that was on record: what it had here is removed by hand.
#[test]
fn docker_has_forgotten_everything() {
    let site = site();
    let before = site.host.links().len();
    let mut docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front -p 8080:80");
    site.host.listed("web");
    docker.kill();
    drop(docker);
    site.host.command(&["sh", "-c", "rm -rf /run/docker-data/network /run/docker-data/containers"]).ok();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    assert!(!docker.client("network ls").ok().contains("front"));
    site.host.assert_refused("network disconnect front web", &["Docker's", "docker network disconnect"]);
    site.host.assert_refused("stop web", &["Docker's", "use `docker`"]);
    site.host.spandrel("rm -f web").ok();
    site.host.spandrel("network rm front").ok();
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front -p 8080:80");
    docker.client("rm -f web").ok();
    docker.client("network rm front").ok();
    assert_eq!(site.host.links().len(), before, "{:?}", site.host.links());
    assert_eq!(site.host.spandrel("ps -q").ok(), "");
}

/// A subnet for a network that was never made, since Docker crashed in between: who has it is said, and after a while nobody has it.
#[test]
fn docker_has_forgotten_a_subnet() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    call(&site, "IpamDriver.RequestPool", r#"{"AddressSpace":"local","Pool":"10.7.0.0/24"}"#);
    let create = "network create --subnet 10.7.0.0/16 ours";
    site.host.assert_refused(create, &["overlaps 10.7.0.0/24 of Docker, which has asked for it"]);
    docker.client(&format!("{CREATE} first")).ok();
    site.host.wait_for_network("first");
    site.host.assert_refused(create, &["10.7.0.0/24"]);
    thread::sleep(Duration::from_secs(61));
    docker.client(&format!("{CREATE} second")).ok();
    site.host.wait_for_network("second");
    site.host.create_network("--subnet 10.7.0.0/16 ours");
}
