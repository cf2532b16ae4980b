//! Ports that Docker's containers publish on Spandrel: held on the host, shown here, taken back with the container.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use serde_json::json;
use spandrel_tests::*;

/// A site whose host has Debian's programs.
fn site() -> Site {
    let site = Site::new();
    site.host.install_debian();
    site
}

/// A daemon with a network `front`, which has both families.
#[track_caller]
fn docker(site: &Site) -> Docker<'_> {
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client("network create -d spandrel --ipam-driver spandrel --ipv6 front").ok();
    docker
}

/// What binding a TCP port of the host brings.
fn bind(host: &Host, address: &str) -> std::io::Result<TcpListener> {
    let address: SocketAddr = address.parse().expect("an address");
    host.run(|| TcpListener::bind(address))
}

/// A published port is the host's own port as long as the container runs, and free at once when it stops.
#[test]
fn ports_are_held() {
    let site = site();
    let docker = docker(&site);
    docker.run("web", "--network front -p 8080:80 -p 127.0.0.2:9090:90");
    for address in ["0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080", "127.0.0.2:9090"] {
        assert_eq!(bind(&site.host, address).unwrap_err().kind(), ErrorKind::AddrInUse, "{address}");
    }
    bind(&site.host, "127.0.0.3:9090").expect("published on another address");
    docker.client("stop web").ok();
    for address in ["0.0.0.0:8080", "127.0.0.2:9090"] {
        bind(&site.host, address).unwrap_or_else(|error| panic!("{address} is not free: {error}"));
    }
    docker.client("start web").ok();
    assert_eq!(bind(&site.host, "0.0.0.0:8080").unwrap_err().kind(), ErrorKind::AddrInUse, "after a start");
}

/// A port that somebody has is refused in Docker's own words, with the sentence of who has it; nothing is left of the attempt.
#[test]
fn taken_ports_are_refused() {
    let site = site();
    let docker = docker(&site);
    let _others = bind(&site.host, "0.0.0.0:7070").expect("a port of the host's");
    docker.run("web", "--network front -p 8080:80");
    site.host.listed("web");
    let ours = site.host.run_container("--name ours -p 6060:80");
    let before = site.host.state();
    for (port, words) in [
        (8080, ["0.0.0.0:8080 failed: port is already allocated", "by container web"]),
        (6060, ["0.0.0.0:6060 failed: port is already allocated", "by container ours"]),
        (7070, ["7070", "in use"]),
    ] {
        let line =
            format!("run -d --name late --network front -p 9000:90 -p {port}:80 busybox /bin/busybox sleep 1000");
        let said = docker.client(&line);
        assert_eq!(said.code, Some(125), "{said:?}");
        for word in ["driver failed programming external connectivity on endpoint late"].iter().chain(&words) {
            assert!(said.stderr.contains(word), "{word:?} is missing: {said:?}");
        }
        docker.client("rm late").ok();
        bind(&site.host, "0.0.0.0:9000").expect("all or none");
        site.host.state().assert_same_as(&before);
    }
    ours.remove();
    docker.run("late", "--network front -p 6060:80");
}

/// `spandrel ps` and `spandrel port` show what Docker cannot, under Docker's names and ids, and follow a renaming.
#[test]
fn ports_are_shown_under_dockers_names() {
    let site = site();
    let docker = docker(&site);
    docker.run("web", "--network front -p 8080:80 -p 127.0.0.1:5353:53/udp --expose 99");
    let line = site.host.listed("web");
    let id = docker.client("inspect --format {{.Id}} web").ok();
    assert_eq!(line["Id"], json!(id));
    assert_eq!(
        line["NetworkSettings"]["Networks"]["front"]["NetworkID"],
        json!(docker.client("network inspect --format {{.Id}} front").ok())
    );
    let table = site.host.spandrel("ps").ok();
    assert!(table.contains("0.0.0.0:8080->80/tcp") && table.contains("127.0.0.1:5353->53/udp"), "{table}");
    assert!(table.contains("99/tcp"), "{table}");
    assert_eq!(site.host.spandrel("port web 80").ok(), "0.0.0.0:8080\n[::]:8080");
    assert_eq!(site.host.spandrel(&["port", &id[..12], "53/udp"]).ok(), "127.0.0.1:5353");
    assert!(site.host.spandrel("network ls").ok().contains("front"), "the network's name");
    docker.client("rename web shop").ok();
    site.host.listed("shop");
    assert_eq!(site.host.spandrel("port shop 80").ok(), "0.0.0.0:8080\n[::]:8080");
}

/// Ports that Docker leaves to us: any, one of a range, all that are exposed.
#[test]
fn ports_are_chosen() {
    let site = site();
    let docker = docker(&site);
    let first = docker.run("first", "--network front -p 80 -p 9000-9001:90");
    docker.run("second", "--network front -p 9000-9001:90");
    docker.run("third", "--network front -P --expose 70");
    let of = |name: &str, port: &str| {
        site.host.listed(name);
        let said = site.host.spandrel(&["port", name, port]).ok();
        said.lines().next().and_then(|line| line.strip_prefix("0.0.0.0:")?.parse::<u16>().ok()).expect(&said)
    };
    assert_eq!((of("first", "90"), of("second", "90")), (9000, 9001));
    assert!(of("third", "70") > 1024);
    let _server = first.tcp_listen(V4.any(), 80);
    site.internet.tcp_connect(site.public(V4), of("first", "80")).expect("the chosen port leads there");
    let said = docker.client("run -d --network front -p 9000-9001:90 busybox /bin/busybox sleep 1000");
    assert!(said.stderr.contains("9000-9001 failed: all ports are allocated"), "{said:?}");
}

/// What Docker cannot do at all: ports of a running container, and limits on who may use them.
#[test]
fn ports_of_a_running_container() {
    let site = site();
    let docker = docker(&site);
    let web = docker.run("web", "--network front");
    site.host.listed("web");
    let _server = web.tcp_listen(V4.any(), 80);
    site.host.spandrel("publish web 8080:80").ok();
    site.internet.tcp_connect(site.public(V4), 8080).expect("published");
    site.host.spandrel("publish --allow-from 192.0.2.0/24 web 8080:80").ok();
    assert_silent(site.internet.briefly().tcp_connect(site.public(V4), 8080));
    site.host.spandrel("unpublish web 8080:80").ok();
    let error = site.internet.tcp_connect(site.public(V4), 8080).expect_err("no longer published");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
