//! Networks on an interface of the host (SEMANTICS §5): their containers have an Ethernet address of their own on its wire.

use std::net::IpAddr;

use spandrel_tests::*;

/// Makes a macvlan network `lan` on the host's uplink, whose wire has the uplink's subnets. Containers get addresses from their upper halves.
#[track_caller]
fn create_lan(site: &Site, options: &str) {
    let [v4, v6] = Family::BOTH.map(|family| site.uplink.outside(family));
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (v4, v6) else { panic!("{v4} and {v6} are of the wrong families") };
    let ([a, b, c, _], v6) = (v4.octets(), v6.to_string());
    let prefix = v6.trim_end_matches('1');
    let parent = &site.uplink.name;
    site.host.create_network(&format!(
        "-d macvlan -o parent={parent} --subnet {a}.{b}.{c}.0/24 --gateway {v4} --ip-range {a}.{b}.{c}.128/25 \
         --ipv6 --subnet {prefix}/64 --gateway {v6} --ip-range {prefix}8000/113 {options} lan"
    ));
}

/// §5: a container of a macvlan network is on the parent's wire with its own MAC address and addresses, beside the host and what goes through it; it needs no
/// agent, is found again by a new one, and leaves nothing.
#[test]
fn a_container_on_the_parents_wire() {
    let mut site = Site::with_networks(["red"]);
    create_lan(&site, "");
    let red = site.host.run_container("--name red --network red -p 8080:80");
    let before = site.host.state();
    let web = site.host.run_container("--name web --network lan");
    let db = site.host.run_container("--name db --network lan");
    assert_eq!(site.host.state().lines("link"), before.lines("link"), "nothing of it is on the host");
    assert_eq!(web.link("eth0").mac, web.mac_on("lan"));
    for family in Family::BOTH {
        // The router on the wire sees the container itself: its address and its MAC address, nobody's in between.
        let server = site.internet.tcp_listen(family.any(), 0);
        let mut link = web.tcp_connect(Site::far(family), server.port()).expect("the way out");
        assert_eq!(link.seen_as.ip(), web.ip(family));
        link.echo("through the parent").expect("an echo");
        web.ping(Site::far(family)).expect("the way out for ICMP");
        let _server = web.tcp_listen(family.any(), 80);
        site.internet.tcp_connect(web.ip(family), 80).expect("no port needs to be published");
        site.internet.ping(web.ip(family)).expect("it is a machine on the wire");
        assert_eq!(site.internet.neighbour(web.ip(family)), Some(web.mac_on("lan")));
        db.tcp_connect(web.ip(family), 80).expect("neighbours on one parent reach each other");
        // The others' traffic on this uplink goes on as ever.
        red.ping(Site::far(family)).expect("a bridge network's way out");
        let _server = red.tcp_listen(family.any(), 80);
        site.internet.tcp_connect(site.public(family), 8080).expect("a published port");
    }
    let (nets, mac) = ((*web).clone(), web.mac_on("lan"));
    drop((red, web, db));
    let before_restart = site.host.state();
    site.restart_agent();
    site.host.state().assert_same_as(&before_restart);
    assert_eq!(nets.link("eth0").mac, mac);
    for family in Family::BOTH {
        nets.ping(Site::far(family)).expect("the way out after the agent's restart");
    }
    site.host.spandrel("restart -t 0 web").ok();
    site.host.container("web").ping(Site::far(V4)).expect("the way out after a restart");
    drop(nets);
    site.host.spandrel("rm -f web db").ok();
    site.host.state().assert_same_as(&before);
}

/// A running container joins and leaves a macvlan network beside a bridge network, and its default route goes by §5.
#[test]
fn a_macvlan_network_is_joined_and_left() {
    let site = Site::with_networks(["red"]);
    create_lan(&site, "");
    let web = site.host.run_container("--name web --network red");
    let before = site.host.state();
    site.host.spandrel("network connect --gw-priority 1 lan web").ok();
    for family in Family::BOTH {
        let server = site.internet.tcp_listen(family.any(), 0);
        let link = web.tcp_connect(Site::far(family), server.port()).expect("the way out on the wire");
        assert_eq!(link.seen_as.ip(), web.ip_on("lan", family));
    }
    site.host.spandrel("network disconnect lan web").ok();
    site.host.state().assert_same_as(&before);
    assert!(!web.links().iter().any(|link| link.name == "eth1"));
    for family in Family::BOTH {
        let server = site.internet.tcp_listen(family.any(), 0);
        let link = web.tcp_connect(Site::far(family), server.port()).expect("the way out through the bridge");
        assert_eq!(link.seen_as.ip(), site.public(family));
    }
}

/// `macvlan_mode`: in `private` and `vepa` neighbours do not reach each other by themselves; `passthru` is for one container.
#[test]
fn macvlan_modes() {
    for mode in ["private", "vepa"] {
        let site = Site::new();
        create_lan(&site, &format!("-o macvlan_mode={mode}"));
        let web = site.host.run_container("--name web --network lan");
        let db = site.host.run_container("--name db --network lan");
        for family in Family::BOTH {
            web.ping(Site::far(family)).expect("the way out");
            db.ping(Site::far(family)).expect("the way out");
            assert!(db.briefly().ping(web.ip(family)).is_err(), "{mode}: they reach each other");
        }
    }
    let site = Site::new();
    create_lan(&site, "-o macvlan_mode=passthru");
    let web = site.host.run_container("--name web --network lan");
    for family in Family::BOTH {
        web.ping(Site::far(family)).expect("the way out");
    }
    site.host.assert_refused("run -d --network lan sleep 1", &["lan", "passthru", "web"]);
    drop(web);
    site.host.spandrel("rm -f web").ok();
    site.host.run_container("--name next --network lan").ping(Site::far(V4)).expect("the way out");
}

/// What cannot be is refused with what is wrong, and changes nothing; a parent that went away is told of when a container starts.
#[test]
fn macvlan_networks_that_cannot_be() {
    let lab = Lab::new();
    let (host, router) = (lab.host("host"), lab.machine("router"));
    let uplink = lab.uplink(&host, &router);
    let parent = uplink.name.clone();
    let site = Site { agent: host.agent(), host, internet: router, uplink };
    for (options, words) in [
        ("", ["parent", "-o parent=INTERFACE"]),
        ("-o parent=eth99", ["eth99", "there is no interface"]),
        ("-o parent=lo", ["lo", "no Ethernet"]),
        ("-o parent=spandrel0", ["spandrel0", "one of our own networks"]),
        ("-o parent=eth1 -o macvlan_mode=source", ["source", "passthru"]),
        ("-o parent=eth1 -o com.docker.network.bridge.name=x", ["bridge.name", "unknown option"]),
        ("-o parent=eth1 -o com.docker.network.driver.mtu=9000", ["9000", "carries 1500"]),
    ] {
        site.host.assert_refused(&format!("network create -d macvlan --subnet 10.9.0.0/24 {options} lan"), &words);
    }
    site.host.assert_refused("network create -d ipvlan lan", &["ipvlan", "not found"]);
    site.host.create_network(&format!("-d macvlan --subnet 10.9.0.0/24 -o parent={parent} lan"));
    site.host.assert_refused(
        &format!("network create -d macvlan -o parent={parent} second"),
        &["lan", "already using", &parent],
    );
    let output = site.host.spandrel("run -d --name web --network lan -p 80:80 sleep infinity");
    assert!(output.code == Some(0) && output.stderr.contains("published ports are ignored"), "{output:?}");
    site.host.spandrel("stop -t 0 web").ok();
    site.host.delete_link(&parent);
    site.host.assert_refused("start web", &[&parent, "there is no interface"]);
    site.host.spandrel("rm web").ok();
    site.host.spandrel("network rm lan").ok();
}
