//! Docker on Spandrel: the real dockerd from Debian, without iptables and without a bridge of its own, with `spandrel` as its network and
//! IPAM driver.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;
use serde_json::Value;
use spandrel_tests::*;

/// As a host is set up that is to have no rule of iptables.
const DAEMON: &str = "--iptables=false --bridge=none";

const CREATE: &str = "network create -d spandrel --ipam-driver spandrel";

/// A site whose host has Debian's programs.
fn site() -> Site {
    let site = Site::with_agent("--log-level debug");
    site.host.install_debian();
    site
}

/// A container's address on a network, as Docker tells it.
#[track_caller]
fn ip(docker: &Docker<'_>, container: &str, network: &str, family: Family) -> IpAddr {
    let details = docker.client(&["inspect", container]).json();
    let field = if family == V4 { "IPAddress" } else { "GlobalIPv6Address" };
    let place = &details[0]["NetworkSettings"]["Networks"][network];
    place[field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {field} in {place}"))
}

/// What `spandrel ps` lists, once Docker has told what its containers are called.
#[track_caller]
fn listed(host: &Host, name: &str) -> Value {
    let found = within(PATIENCE, || {
        let all = host.api("/containers/json");
        let named = |container: &&Value| container["Names"][0] == format!("/{name}");
        all.as_array().expect("a list").iter().find(named).cloned()
    });
    found.unwrap_or_else(|| panic!("{name} is not listed: {}", host.api("/containers/json")))
}

/// The whole of a Docker container's life, and that nothing of it is left; rows 1, 2, 4, 5, 7, 8, 9, 11 and 14 of SEMANTICS §1 in both families.
#[test]
fn containers_on_networks() {
    let site = site();
    let before = site.host.state();
    let docker = site.host.docker(DAEMON);
    docker.client(&format!("{CREATE} --ipv6 --subnet 10.7.0.0/24 --subnet fd07::/64 front")).ok();
    docker.client(&format!("{CREATE} --ipv6 back")).ok();
    let web = docker.run("web", &format!("--network front {PUBLISH}"));
    let friend = docker.run("friend", "--network front");
    let stranger = docker.run("stranger", "--network back");
    site.internet.add_route("10.7.0.0".parse().unwrap(), 24, site.public(V4));
    site.internet.add_route("fd07::".parse().unwrap(), 64, site.public(V6));
    for family in Family::BOTH {
        let at = |name, network| ip(&docker, name, network, family);
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
    let docker = site.host.docker(DAEMON);
    docker.client(&format!("{CREATE} front")).ok();
    docker.run("web", "--network front --network-alias www");
    let friend = docker.run("friend", "--network front");
    let web = ip(&docker, "web", "front", V4);
    for name in ["web", "www"] {
        let said = docker.client(&format!("exec friend /bin/busybox nslookup {name} 127.0.0.11"));
        assert!(said.stdout.contains(&web.to_string()), "{said:?}");
    }
    drop(friend);
    listed(&site.host, "web");
    let ours = site.host.run_container("--name ours --network front");
    assert_eq!(ours.addresses_of("web", RecordType::A), [web]);
    assert_ne!(ours.ip(V4), ip(&docker, "friend", "front", V4));
    ours.ping(web).expect("a neighbour of Docker's");
}
