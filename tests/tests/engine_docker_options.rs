//! Networks that Docker asks for with options: as SEMANTICS says, under the names that Docker gives them.

use std::io::ErrorKind;
use std::net::IpAddr;

use spandrel_tests::*;

const CREATE: &str = "network create -d spandrel --ipam-driver spandrel";

/// A site whose host has Debian's programs.
fn site() -> Site {
    let site = Site::new();
    site.host.install_debian();
    site
}

/// `--internal`: no way out, said at once; the gateway answers, other networks do not; published ports are ignored, names resolve.
#[test]
fn internal() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} --internal inside")).ok();
    docker.client(&format!("{CREATE} front")).ok();
    let web = docker.run("web", "--network inside -p 8080:80");
    let friend = docker.run("friend", "--network inside");
    let stranger = docker.run("stranger", "--network front");
    let error = web.ping(Site::far(V4)).expect_err("no way out");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    let own = docker.ip_on("web", "inside", V4);
    let services = web.serve(V4.any());
    services.assert_reached(&friend, own, docker.ip_on("friend", "inside", V4));
    services.assert_reached(&site.host, own, site.host.gateway("inside", V4));
    services.assert_out_of_reach(&stranger, own);
    let error = site.internet.tcp_connect(site.public(V4), 8080).expect_err("nothing is published");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let said = docker.client("exec friend /bin/busybox nslookup web 127.0.0.11");
    assert!(said.stdout.contains(&own.to_string()), "{said:?}");
    assert!(site.host.links().iter().all(|link| link.name != "docker_gwbridge"));
}

/// ICC off: containers of the network do not reach each other; the host and published ports are as ever.
#[test]
fn without_icc() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} -o com.docker.network.bridge.enable_icc=false front")).ok();
    let web = docker.run("web", &format!("--network front {PUBLISH}"));
    let friend = docker.run("friend", "--network front");
    let own = docker.ip_on("web", "front", V4);
    let services = web.serve(V4.any());
    services.assert_out_of_reach(&friend, own);
    services.assert_reached(&site.host, own, site.host.gateway("front", V4));
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    services.assert_reached_at(&friend, site.public(V4), PUBLISHED, docker.ip_on("friend", "front", V4));
}

/// The MTU, the names of bridge and interfaces, the host address of ports, the source address of what leaves.
#[test]
fn bridge_options() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    let options = [
        "com.docker.network.driver.mtu=1400",
        "com.docker.network.bridge.name=front0",
        "com.docker.network.container_iface_prefix=net",
        "com.docker.network.bridge.host_binding_ipv4=127.0.0.1",
        "com.docker.network.bridge.enable_ip_masquerade=false",
    ];
    docker.client(&format!("{CREATE} --subnet 10.7.0.0/24 -o {} front", options.join(" -o "))).ok();
    site.internet.add_route("10.7.0.0".parse().unwrap(), 24, site.public(V4));
    let web = docker.run("web", "--network front -p 8080:80");
    let link = web.links().into_iter().find(|link| link.name == "net0").expect("net0");
    assert_eq!(link.mtu, 1400);
    assert_eq!(site.host.links().into_iter().find(|link| link.name == "front0").expect("front0").mtu, 1400);
    let outside = site.internet.udp_listen(Site::far(V4), 7777);
    let seen = web.udp_ask(Site::far(V4), 7777, "from web").expect("an answer");
    assert_eq!(seen.ip(), docker.ip_on("web", "front", V4), "not masqueraded");
    drop(outside);
    let _server = web.tcp_listen(V4.any(), 80);
    site.host.tcp_connect(V4.loopback(), 8080).expect("on loopback");
    let error = site.internet.tcp_connect(site.public(V4), 8080).expect_err("only on loopback");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Gateway mode routed: published ports and echoes are reached at the container's own address, others are not.
#[test]
fn routed() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    let mode = "-o com.docker.network.bridge.gateway_mode_ipv4=routed";
    docker.client(&format!("{CREATE} --subnet 10.7.0.0/24 {mode} front")).ok();
    site.internet.add_route("10.7.0.0".parse().unwrap(), 24, site.public(V4));
    let web = docker.run("web", "--network front -p 8080:80");
    let own = docker.ip_on("web", "front", V4);
    let _servers = [web.tcp_listen(V4.any(), 80), web.tcp_listen(V4.any(), 90)];
    site.internet.ping(own).expect("an echo");
    site.internet.tcp_connect(own, 80).expect("the published port");
    assert_silent(site.internet.briefly().tcp_connect(own, 90));
}

/// A container on two networks reaches both; connected and disconnected live, interface, address, ports and names follow.
#[test]
fn connect_and_disconnect() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    for network in ["front", "back"] {
        docker.client(&format!("{CREATE} {network}")).ok();
    }
    let web = docker.run("web", "--network front -p 8080:80");
    let db = docker.run("db", "--network back");
    let db_at = docker.ip_on("db", "back", V4);
    assert_silent(web.briefly().ping(db_at));
    docker.client("network connect --alias shop back web").ok();
    db.serve(V4.any()).assert_reached(&web, db_at, docker.ip_on("web", "back", V4));
    let said = docker.client("exec db /bin/busybox nslookup shop 127.0.0.11");
    assert!(said.stdout.contains(&docker.ip_on("web", "back", V4).to_string()), "{said:?}");
    let _server = web.tcp_listen(V4.any(), 80);
    site.internet.tcp_connect(site.public(V4), 8080).expect("published all the while");
    let one = within(PATIENCE, || {
        let all = site.host.api("/containers/json");
        let web = all.as_array()?.iter().find(|container| container["Names"][0] == "/web")?.clone();
        (web["NetworkSettings"]["Networks"].as_object()?.len() == 2).then_some(())
    });
    assert!(one.is_some(), "one container on both: {}", site.host.api("/containers/json"));

    // The way out and the ports go where Docker has the gateway.
    docker.client("network disconnect front web").ok();
    site.internet.tcp_connect(site.public(V4), 8080).expect("published by the other network");
    web.ping(Site::far(V4)).expect("the way out");
    docker.client("network disconnect back web").ok();
    assert_eq!(web.links().iter().filter(|link| link.name != "lo").count(), 0, "no interface is left");
    assert_eq!(site.internet.tcp_connect(site.public(V4), 8080).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    docker.client("network connect front web").ok();
    site.internet.tcp_connect(site.public(V4), 8080).expect("published again");
}

/// Addresses: ranges, ones that are asked for, MAC addresses; Docker's own address management instead of ours.
#[test]
fn addresses() {
    let site = site();
    let docker = site.host.docker(WITHOUT_IPTABLES);
    docker.client(&format!("{CREATE} --subnet 172.30.1.0/24 --ip-range 172.30.1.128/25 --gateway 172.30.1.254 --aux-address printer=172.30.1.128 front")).ok();
    docker.run("first", "--network front");
    assert_eq!(docker.ip_on("first", "front", V4), "172.30.1.129".parse::<IpAddr>().unwrap());
    // A newer client would ask for an address on each network, which this daemon does not know.
    let old_client = "/usr/bin/docker -H unix:///run/docker.sock run -d --name fixed --network front --ip 172.30.1.100";
    site.host.command(&format!("{old_client} --mac-address 02:00:00:00:00:77 busybox /bin/busybox sleep 1000")).ok();
    assert_eq!(docker.ip_on("fixed", "front", V4), "172.30.1.100".parse::<IpAddr>().unwrap());
    assert_eq!(docker.place("fixed", "front")["MacAddress"], "02:00:00:00:00:77");
    assert_eq!(docker.place("fixed", "front")["Gateway"], "172.30.1.254");
    docker.client("rm -f first").ok();
    docker.run("again", "--network front");
    assert_eq!(docker.ip_on("again", "front", V4), "172.30.1.129".parse::<IpAddr>().unwrap(), "free at once");

    docker.client("network create -d spandrel theirs").ok();
    let (one, two) = (docker.run("one", "--network theirs"), docker.run("two", "--network theirs"));
    two.serve(V4.any()).assert_reached(&one, docker.ip_on("two", "theirs", V4), docker.ip_on("one", "theirs", V4));
    let subnet = |network: &str| {
        docker.client(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", network]).ok()
    };
    assert_ne!(subnet("theirs"), "172.17.0.0/16", "our network `bridge` has that");
    docker.client(&format!("{CREATE} pooled")).ok();
    site.host.create_network("ours");
    let ours = site.host.spandrel("network inspect ours").json();
    assert_ne!(ours[0]["IPAM"]["Config"][0]["Subnet"], subnet("pooled"));
}
