//! How containers are on the network (SEMANTICS §5): on several networks, with the default route by its rules, on none, on the host's, and on
//! another container's.

use std::net::IpAddr;
use std::process::Command;

use spandrel_tests::*;

/// The default route of a container in one family: `via GATEWAY dev INTERFACE`.
#[track_caller]
fn default_route(container: &Net, family: Family) -> Option<String> {
    let start = format!("{}/0 ", family.any());
    let routes: Vec<_> =
        container.routes().into_iter().filter_map(|route| Some(route.strip_prefix(&start)?.to_owned())).collect();
    assert!(routes.len() <= 1, "{routes:?}");
    routes.into_iter().next()
}

/// Demands that the default route of each family leads to the gateway of this network.
#[track_caller]
fn assert_leads_to(site: &Site, container: &Net, networks: [Option<&str>; 2]) {
    for (family, network) in Family::BOTH.into_iter().zip(networks) {
        let gateway = network.map(|network| format!("via {}", site.host.gateway(network, family)));
        let found = default_route(container, family);
        let same = match (&found, &gateway) {
            (Some(found), Some(gateway)) => found.starts_with(&format!("{gateway} dev ")),
            (None, None) => true,
            _ => false,
        };
        assert!(same, "{family:?}: {found:?} is not {gateway:?}");
    }
}

/// §5: one `run` joins several networks, each with addresses of its own wish, in the short and the long form; what is stopped and started
/// again is on all of them.
#[test]
fn a_container_starts_on_several_networks() {
    let site = Site::with_networks(["red"]);
    site.host.create_network("--ipv6 --subnet 10.7.0.0/24 --subnet fd00:7::/64 blue");
    let line = "--name web --network red --network name=blue,ip=10.7.0.9,ip6=fd00:7::9,mac-address=02:00:00:00:00:07 -p 8080:80";
    site.host.run_container(line);
    let neighbours =
        ["red", "blue"].map(|network| site.host.run_container(&format!("--name of-{network} --network {network}")));
    for _ in 0..2 {
        let web = site.host.container("web");
        assert_eq!(web.ip_on("blue", V4), "10.7.0.9".parse::<IpAddr>().unwrap());
        assert_eq!(web.ip_on("blue", V6), "fd00:7::9".parse::<IpAddr>().unwrap());
        assert_eq!(web.mac_on("blue"), [2, 0, 0, 0, 0, 7]);
        assert_eq!((web.link("eth0").mac, web.link("eth1").mac), (web.mac_on("red"), web.mac_on("blue")));
        for family in Family::BOTH {
            let _server = web.tcp_listen(family.any(), 80);
            for (neighbour, network) in neighbours.iter().zip(["red", "blue"]) {
                neighbour.tcp_connect(web.ip_on(network, family), 80).expect("it is on both networks");
            }
            assert_silent(neighbours[0].briefly().tcp_connect(web.ip_on("blue", family), 80));
            site.internet.tcp_connect(site.public(family), 8080).expect("the published port");
            web.ping(Site::far(family)).expect("the way out");
        }
        assert_leads_to(&site, &web, [Some("blue"); 2]);
        drop(web);
        site.host.spandrel("restart -t 0 web").ok();
    }
}

/// §5: the default route goes by gw-priority, then to networks that are not internal, then to those with both families, then by name; for each family; and it moves at
/// once when a container joins or leaves, with the published ports.
#[test]
fn the_default_route_goes_by_its_rules() {
    let mut site = Site::with_networks(["m-dual", "z-dual"]);
    site.host.create_network("b-v4");
    site.host.create_network("a-v4");
    site.host.create_network("--ipv4=false --ipv6 v6");
    site.host.create_network("--ipv6 --internal inside");
    let web = site
        .host
        .run_container("--name web --network name=inside,gw-priority=9 --network b-v4 --network v6 -p 8080:80");
    // The internal one leads nowhere, whatever its priority.
    assert_leads_to(&site, &web, [Some("b-v4"), Some("v6")]);
    let steps: [(&str, [Option<&str>; 2]); 9] = [
        ("connect a-v4 web", [Some("a-v4"), Some("v6")]),
        ("connect z-dual web", [Some("z-dual"); 2]),
        ("connect m-dual web", [Some("m-dual"); 2]),
        ("disconnect b-v4 web", [Some("m-dual"); 2]),
        ("connect --gw-priority 1 b-v4 web", [Some("b-v4"), Some("m-dual")]),
        ("disconnect m-dual web", [Some("b-v4"), Some("z-dual")]),
        ("connect --gw-priority -1 m-dual web", [Some("b-v4"), Some("z-dual")]),
        ("disconnect b-v4 web", [Some("z-dual"); 2]),
        ("disconnect z-dual web", [Some("a-v4"), Some("v6")]),
    ];
    for (step, networks) in steps {
        site.host.spandrel(&format!("network {step}")).ok();
        assert_leads_to(&site, &web, networks);
        for family in Family::BOTH {
            web.ping(Site::far(family)).unwrap_or_else(|error| panic!("after {step}: no way out: {error}"));
            let _server = web.tcp_listen(family.any(), 80);
            let port = site.internet.tcp_connect(site.public(family), 8080);
            port.unwrap_or_else(|error| panic!("after {step}: the published port is not reached: {error}"));
        }
    }
    assert_eq!(web.endpoint("m-dual")["GwPriority"], -1);
    // Without a network that leads outside, it is refused at once, not lost on the way.
    for network in ["a-v4", "v6", "m-dual"] {
        site.host.spandrel(&["network", "disconnect", network, "web"]).ok();
    }
    assert_leads_to(&site, &web, [None, None]);
    drop(web);
    site.host.spandrel("network connect --gw-priority 5 a-v4 web").ok();
    site.restart_agent();
    assert_leads_to(&site, &site.host.container("web"), [Some("a-v4"), None]);
}

/// §5: `none` is nothing but loopback, `host` is the host itself.
#[test]
fn none_and_host() {
    let site = Site::new();
    let none = site.host.run_container("--name alone --network none");
    let names: Vec<_> = none.links().into_iter().map(|link| link.name).collect();
    assert_eq!(names, ["lo"]);
    for family in Family::BOTH {
        none.ping(family.loopback()).expect("its own loopback");
        assert!(none.briefly().ping(Site::far(family)).is_err());
    }
    site.host.spandrel("run -d --name hosts --network host sleep infinity").ok();
    let namespace = ["readlink", "/proc/self/ns/net"];
    let mut own = Command::new(namespace[0]);
    own.arg(namespace[1]);
    let line = ["exec", "hosts"].into_iter().chain(namespace).collect::<Vec<_>>();
    assert_eq!(site.host.spandrel(&line[..]).ok(), site.host.output(own).ok());
    for name in ["alone", "hosts"] {
        site.host.spandrel(&["restart", "-t", "0", name]).ok();
        site.host.assert_refused(&format!("network connect bridge {name}"), &["cannot be connected to"]);
    }
    let warned = site.host.spandrel("run -d --network none -p 80:80 sleep infinity");
    assert!(warned.code == Some(0) && warned.stderr.contains("published ports are ignored"), "{warned:?}");
}

/// §5: `container:NAME` shares the other's namespace: the same interfaces, addresses, MAC address and names, no new veth. It goes on when the other ends.
#[test]
fn a_container_shares_anothers_network() {
    let mut site = Site::with_networks(["red"]);
    let web = site.host.run_container("--name web --hostname www --network red -p 8080:80");
    let db = site.host.run_container("--name db --network red");
    let before = site.host.traces();
    let helper = site.host.run_container("--name helper --network container:web");
    assert_eq!(site.host.traces().lines("link"), before.lines("link"));
    assert_eq!((helper.links(), helper.addresses()), (web.links(), web.addresses()));
    assert_eq!(helper.exec("hostname").ok(), "www");
    assert_eq!(helper.exec("cat /etc/hosts").ok(), web.exec("cat /etc/hosts").ok());
    let shown = helper.inspect();
    assert_eq!(shown["HostConfig"]["NetworkMode"], format!("container:{}", web.id));
    assert_eq!(shown["NetworkSettings"]["Networks"], serde_json::json!({}));
    for family in Family::BOTH {
        // What the one serves, the other has on its loopback, and others find at the one's address and ports.
        let _server = helper.tcp_listen(family.any(), 80);
        web.tcp_connect(family.loopback(), 80).expect("one loopback");
        db.tcp_connect(web.ip_on("red", family), 80).expect("one address");
        site.internet.tcp_connect(site.public(family), 8080).expect("the other's published port");
    }
    // A name that changes changes nothing, and an agent that comes later finds it all.
    site.host.spandrel("rename web front").ok();
    let before = site.host.state();
    site.restart_agent();
    site.host.state().assert_same_as(&before);

    // The other's networks go with it; a namespace in which somebody lives stays.
    site.host.spandrel("stop -t 0 front").ok();
    let helper = site.host.container("helper");
    assert_eq!(helper.links().into_iter().map(|link| link.name).collect::<Vec<_>>(), ["lo"]);
    assert_eq!(helper.exec("echo on").ok(), "on");
    site.host.assert_refused("run -d --network container:front sleep 1", &["non running container", "front"]);
    site.host.spandrel("stop -t 0 helper").ok();
    site.host.assert_refused("start helper", &["non running container", "front"]);
    site.host.spandrel("start front").ok();
    site.host.spandrel("start helper").ok();
    let (front, helper) = (site.host.container("front"), site.host.container("helper"));
    assert_eq!(helper.links(), front.links());
    drop((front, helper));
    site.host.spandrel("rm -f front").ok();
    site.host.spandrel("stop -t 0 helper").ok();
    site.host.assert_refused("start helper", &["No such container"]);
}

/// What makes no sense together is refused with what is wrong, and changes nothing.
#[test]
fn modes_that_contradict_are_refused() {
    let site = Site::with_networks(["red", "blue"]);
    site.host.run_container("--name web --network red");
    for (options, words) in [
        ("--network container:web -p 80:80", ["conflicting options", "port publishing"]),
        ("--network container:web -P", ["conflicting options", "port publishing"]),
        ("--network container:web --expose 80", ["conflicting options", "port exposing"]),
        ("--network container:web --hostname x", ["conflicting options", "hostname"]),
        ("--network container:web --mac-address 02:00:00:00:00:01", ["conflicting options", "mac-address"]),
        ("--network container:web --ip 10.0.0.9", ["conflicting options", "IP address"]),
        ("--network container:web --network red", ["conflicting options", "other networks"]),
        ("--network container:nobody", ["nobody", "No such container"]),
        ("--network host --network red", ["conflicting options", "host"]),
        ("--network red --network none", ["conflicting options", "none"]),
        ("--network red --network container:web", ["conflicting options", "container:web"]),
        ("--network none --ip 10.0.0.9", ["none", "no addresses"]),
        ("--network name=host,gw-priority=1", ["host", "gw-priority"]),
        ("--network red --network name=red", ["red", "multiple times"]),
        ("--network name=red,ip=10.0.0.9 --ip 10.0.0.8", ["conflicting options", "--ip"]),
        ("--network name=red,gw-priority=high", ["high", "integer"]),
        ("--network name=red,colour=blue", ["colour", "invalid field"]),
        ("--network ip=10.0.0.9", ["not specified", "name="]),
        ("--network name=red,ip=10.99.0.9", ["10.99.0.9", "outside the subnet"]),
        ("--network blue --network name=red,ip=banana", ["banana", "IPv4 address"]),
        ("--network red --network green", ["green", "not found"]),
    ] {
        site.host.assert_refused(&format!("run -d {options} sleep 1"), &words);
    }
    site.host.run_container("--name helper --network container:web");
    site.host.assert_refused("network connect blue helper", &["sharing network namespace with another container"]);
}

/// The addresses that a name has in a container, as its resolver tells.
#[track_caller]
fn resolved(container: &Container, name: &str) -> String {
    let output = container.exec(&["getent", "ahostsv4", name]);
    output.stdout.split_whitespace().next().unwrap_or_default().to_owned()
}

/// §5: `--link` on the default bridge is a line of /etc/hosts, which follows the other container to a new address and a new name.
#[test]
fn links_on_the_default_bridge() {
    let site = Site::new();
    let db = site.host.run_container("--name db");
    let web = site.host.run_container("--name web --link db:database");
    let stranger = site.host.run_container("--name stranger");
    assert_eq!(resolved(&web, "database"), db.ip(V4).to_string());
    assert_eq!(resolved(&web, "db"), db.ip(V4).to_string());
    assert_eq!(resolved(&stranger, "database"), "");
    let first = db.ip(V4);
    drop(db);
    site.host.spandrel("stop -t 0 db").ok();
    site.host.run_container("--name squatter");
    site.host.assert_refused("run -d --link db sleep 1", &["Cannot link to db"]);
    site.host.assert_refused("run -d --link nobody sleep 1", &["nobody"]);
    site.host.spandrel("start db").ok();
    let again = site.host.container("db").ip(V4);
    assert_ne!(again, first);
    assert_eq!(resolved(&web, "database"), again.to_string());
    site.host.spandrel("rename db sql").ok();
    assert_eq!((resolved(&web, "database"), resolved(&web, "sql")), (again.to_string(), again.to_string()));
}

/// §4 and §5: aliases in the long form are for their network alone, and names follow a rename and a restart at once.
#[test]
fn names_go_with_networks() {
    let site = Site::with_networks(["red", "blue"]);
    site.host.run_container("--name db --network name=red,alias=sql --network name=blue,alias=store");
    let [red, blue] = ["red", "blue"]
        .map(|network| site.host.run_container(&format!("--name of-{network} --network {network} --link db:linked")));
    for _ in 0..2 {
        let db = site.host.container("db");
        for (asker, alias, other, network) in [(&red, "sql", "store", "red"), (&blue, "store", "sql", "blue")] {
            for name in [alias, "db", "linked"] {
                assert_eq!(resolved(asker, name), db.ip_on(network, V4).to_string(), "{name} on {network}");
            }
            assert_eq!(resolved(asker, other), "");
        }
        site.host.spandrel("restart -t 0 db").ok();
    }
    site.host.spandrel("rename db base").ok();
    let base = site.host.container("base").ip_on("red", V4).to_string();
    assert_eq!(
        (resolved(&red, "base"), resolved(&red, "linked"), resolved(&red, "db")),
        (base.clone(), base, String::new())
    );
}
