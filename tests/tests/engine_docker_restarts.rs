//! Docker and the agent come and go in any order: what runs goes on, and nothing is left of what has ended.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use spandrel_tests::*;

const CREATE: &str = "network create -d spandrel --ipam-driver spandrel";

/// A site whose host has Debian's programs.
fn site() -> Site {
    let site = Site::new();
    site.host.install_debian();
    site
}

/// Whether a process of the host could have this TCP port.
fn is_free(host: &Host, port: u16) -> bool {
    match host.run(|| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            false
        }
    }
}

/// Waits until the agent lists exactly these containers, by the names that Docker gave them.
#[track_caller]
fn wait_for(host: &Host, names: &[&str]) {
    let list = || {
        let all = host.api("/containers/json");
        let names =
            all.as_array().expect("a list").iter().map(|c| c["Names"][0].as_str().unwrap_or_default().to_owned());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let wanted: Vec<_> = names.iter().map(|name| format!("/{name}")).collect();
    assert!(within(2 * PATIENCE, || (list() == wanted).then_some(())).is_some(), "{:?} instead of {wanted:?}", list());
}

/// The agent is killed and starts again: connections go on, ports stay held, and Docker can go on with what it had.
#[test]
fn the_agent_restarts() {
    let mut site = site();
    let before = site.host.state();
    let mut docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    let web = docker.run("web", &format!("--network front {PUBLISH}"));
    let friend = docker.run("friend", "--network front");
    wait_for(&site.host, &["friend", "web"]);
    let transfer = Transfer::start(&site.internet, (site.public(V4), PUBLISHED.0), &web, TCP_PORT);
    site.agent.kill();
    transfer.assert_moves();
    site.agent = site.host.agent();
    transfer.assert_moves();
    transfer.finish();
    wait_for(&site.host, &["friend", "web"]);
    assert!(!is_free(&site.host, 8080));
    let services = web.serve(V4.any());
    services.assert_reached(&friend, docker.ip_on("web", "front", V4), docker.ip_on("friend", "front", V4));
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    drop(services);
    let late = docker.run("late", "--network front");
    web.serve(V4.any()).assert_reached(&late, docker.ip_on("web", "front", V4), docker.ip_on("late", "front", V4));
    docker.client("restart -t 0 web").ok();
    assert!(!is_free(&site.host, 8080));
    docker.client("rm -f web friend late").ok();
    docker.client("network rm front").ok();
    docker.stop();
    drop(docker);
    site.host.state().assert_same_as(&before);
}

/// What ends while the agent is away is gone when it comes back; what is started meanwhile says why it cannot be.
#[test]
fn the_agent_is_away() {
    let mut site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front -p 8080:80");
    let friend = docker.run("friend", "--network front");
    wait_for(&site.host, &["friend", "web"]);
    site.agent.kill();
    let pid = docker.client("inspect --format {{.State.Pid}} web").ok();
    site.host.command(&format!("kill -9 {pid}")).ok();
    // Docker asks again and again for half a minute before it gives up.
    let said = docker.client("run -d --name late --network front busybox /bin/busybox sleep 1000");
    assert_eq!(said.code, Some(125), "{said:?}");
    assert!(said.stderr.contains("/run/docker/plugins/spandrel.sock"), "{said:?}");
    site.agent = site.host.agent();
    wait_for(&site.host, &["friend"]);
    assert!(is_free(&site.host, 8080));
    docker.client("rm -f late web").ok();
    let late = docker.run("late", "--network front -p 8080:80");
    late.serve(V4.any()).assert_reached(
        &friend,
        docker.ip_on("late", "front", V4),
        docker.ip_on("friend", "front", V4),
    );
    docker.client("rm -f late friend").ok();
    docker.client("network rm front").ok();
}

/// dockerd with `--live-restore` is stopped and started: containers and their connections do not notice, and are dockerd's again.
#[test]
fn dockerd_restarts_under_its_containers() {
    let site = site();
    let before = site.host.state();
    let options = format!("{WITHOUT_IPTABLES} --live-restore");
    let mut docker = site.host.docker(&options);
    docker.client(&format!("{CREATE} front")).ok();
    let web = docker.run("web", &format!("--network front {PUBLISH}"));
    wait_for(&site.host, &["web"]);
    let own = docker.ip_on("web", "front", V4);
    let transfer = Transfer::start(&site.internet, (site.public(V4), PUBLISHED.0), &web, TCP_PORT);
    docker.stop();
    drop(docker);
    transfer.assert_moves();
    let mut docker = site.host.docker(&options);
    transfer.assert_moves();
    transfer.finish();
    assert_eq!(docker.ip_on("web", "front", V4), own);
    assert!(!is_free(&site.host, 8080));
    let friend = docker.run("friend", "--network front");
    assert_ne!(docker.ip_on("friend", "front", V4), own, "the address is still taken");
    web.serve(V4.any()).assert_reached(&friend, own, docker.ip_on("friend", "front", V4));
    docker.client("rm -f web friend").ok();
    assert!(is_free(&site.host, 8080));
    docker.client("network rm front").ok();
    docker.stop();
    drop(docker);
    site.host.state().assert_same_as(&before);
}

/// dockerd without `--live-restore` takes its containers along, stopped or killed, and starts those again that have a restart policy.
#[test]
fn dockerd_restarts_with_its_containers() {
    let site = site();
    let before = site.host.state();
    let mut docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", &format!("--restart always --network front {PUBLISH}"));
    docker.run("once", "--network front -p 9090:90");
    wait_for(&site.host, &["once", "web"]);
    for killed in [false, true] {
        match killed {
            false => docker.stop(),
            true => docker.kill(),
        }
        drop(docker);
        if !killed {
            assert!(is_free(&site.host, 8080), "stopped with dockerd");
        }
        docker = site.host.docker(WITHOUT_IPTABLES);
        wait_for(&site.host, &["web"]);
        assert!(is_free(&site.host, 9090));
        let web = within(PATIENCE, || {
            let running = docker.client("inspect --format {{.State.Running}} web").ok() == "true";
            running.then(|| docker.container("web"))
        });
        let web = web.expect("web runs again");
        let services = web.serve(V4.any());
        services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
        services.assert_reached(&site.host, docker.ip_on("web", "front", V4), site.host.gateway("front", V4));
    }
    docker.client("rm -f web once").ok();
    docker.client("network rm front").ok();
    docker.stop();
    drop(docker);
    site.host.state().assert_same_as(&before);
}

/// dockerd is there first, with a container that it is to start: it waits for the agent, as it does for any driver.
#[test]
fn dockerd_starts_first() {
    let mut site = site();
    let mut docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", &format!("--restart always --network front {PUBLISH}"));
    docker.stop();
    drop(docker);
    site.agent.stop();
    let host = &site.host;
    // Only the agent can end the wait.
    let (agent, docker) = thread::scope(|scope| {
        let agent = scope.spawn(|| {
            thread::sleep(Duration::from_secs(3));
            host.agent()
        });
        let docker = host.docker(WITHOUT_IPTABLES);
        (agent.join().expect("the agent starts"), docker)
    });
    site.agent = agent;
    wait_for(&site.host, &["web"]);
    let running =
        within(PATIENCE, || (docker.client("inspect --format {{.State.Running}} web").ok() == "true").then_some(()));
    assert!(running.is_some(), "{}", docker.log());
    let web = docker.container("web");
    let services = web.serve(V4.any());
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
}
