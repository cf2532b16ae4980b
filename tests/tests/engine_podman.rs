//! Podman 5 with netavark, from Debian, and our binary as its network plugin: what its users type, and what they see where something
//! is wrong.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};
use spandrel_tests::*;

/// The release of Debian that has it.
const RELEASE: &str = "trixie";

/// A host with Podman on it and the internet behind it. The agent runs.
#[track_caller]
fn site() -> Site {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let uplink = lab.uplink(&host, &internet);
    for (family, prefix) in [(V4, 32), (V6, 128)] {
        internet.add_address("lo", Site::far(family), prefix);
    }
    host.become_debian(RELEASE);
    host.write("/etc/resolv.conf", &format!("nameserver {}\n", Site::far(V4)));
    Site { agent: host.agent(), host, internet, uplink }
}

/// The addresses that Podman shows of a container on a network.
#[track_caller]
fn ips(podman: &Podman, name: &str, network: &str) -> Vec<IpAddr> {
    let shown = podman.client(&["inspect", name]).json();
    let on = &shown[0]["NetworkSettings"]["Networks"][network];
    let text = ["IPAddress", "GlobalIPv6Address"].map(|field| on[field].as_str().unwrap_or_default().to_owned());
    text.iter().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()).collect()
}

/// The containers that Podman has attached, as the agent knows them.
#[track_caller]
fn attached(site: &Site) -> Vec<String> {
    let all = site.host.api("/spandrel/attachments");
    let of_podman = all.as_array().unwrap().iter().filter(|one| one["Owner"].as_str().unwrap().starts_with("podman "));
    of_podman.map(|one| one["Name"].as_str().unwrap().to_owned()).collect()
}

/// What netavark sends about a container without a name.
fn joining(network: &str, addresses: &[&str]) -> Value {
    json!({
        "container_id": "0a".repeat(32), "container_name": "byhand", "port_mappings": null,
        "network": {"name": network, "id": "0b".repeat(32), "driver": "spandrel", "dns_enabled": true},
        "network_options": {"interface_name": "eth0", "static_ips": addresses, "aliases": null},
    })
}

/// Calls the plugin by hand.
#[track_caller]
fn plugin(host: &Host, verb: &str, netns: &str, input: &Value) -> Output {
    host.write("/run/input.json", &input.to_string());
    let call = format!("/usr/lib/netavark/spandrel {verb} {netns} < /run/input.json");
    host.command(&["/bin/busybox", "sh", "-c", &call])
}

/// Demands that Podman has ended with one error, and that this sentence is in it.
#[track_caller]
fn assert_says(said: &str, sentence: &str) {
    assert!(said.contains(sentence) && said.matches("Error: ").count() == 1, "{sentence:?} is missing in:\n{said}");
}

/// A network, containers that find each other by name, published ports (SEMANTICS §1, rows 1, 6, 9 and 14), and nothing left at the end.
#[test]
fn what_a_user_does() {
    let site = site();
    let podman = site.host.podman();
    let before = site.host.state();
    podman.client("network create -d spandrel front").ok();
    let shown = podman.client("network inspect front").json();
    let gateway = site.host.gateway("front", V4);
    assert_eq!(shown[0]["subnets"][0]["gateway"], gateway.to_string());

    let web = podman.run("web", &format!("--network front {PUBLISH}"));
    let client = podman.run("client", "--network front");
    let [own] = ips(&podman, "web", "front")[..] else { panic!() };
    let [other] = ips(&podman, "client", "front")[..] else { panic!() };
    let services = web.serve(V4.any());
    services.assert_reached(&client, own, other);
    services.assert_reached(&site.host, own, gateway);
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    client.ping(Site::far(V4)).expect("the outside");

    // Podman tells the container of our name server, and that knows the others.
    let resolver = podman.client("exec client /bin/busybox cat /etc/resolv.conf").ok();
    assert!(resolver.contains(&format!("nameserver {NAMES_AT}")), "{resolver}");
    assert_eq!(client.addresses_of("web", RecordType::A), [own]);
    let looked_up = podman.client("exec client /bin/busybox nslookup web").ok();
    assert!(looked_up.contains(&own.to_string()), "{looked_up}");
    let listed = site.host.spandrel("ps --filter name=web --format {{.Names}}:{{.Ports}}").ok();
    assert!(listed.starts_with("web:") && listed.contains("0.0.0.0:8080->80/tcp"), "{listed}");

    drop((services, web, client));
    podman.client("rm -f -t 0 web client").ok();
    site.internet.briefly().tcp_connect(site.public(V4), PUBLISHED.0).expect_err("the port is closed");
    podman.client("network rm front").ok();
    site.host.spandrel("network rm front").ok();
    site.host.state().assert_same_as(&before);
}

/// Addresses, names, MTU and options as they are asked for.
#[test]
fn wishes() {
    let site = site();
    let podman = site.host.podman();
    podman
        .client(
            "network create -d spandrel --subnet 10.60.0.0/24 --gateway 10.60.0.7 -o mtu=1400 --label tier=front front",
        )
        .ok();
    let made = site.host.spandrel("network inspect front").json();
    assert_eq!(
        (&made[0]["Labels"]["tier"], &made[0]["IPAM"]["Config"][0]["Gateway"]),
        (&json!("front"), &json!("10.60.0.7"))
    );
    let web = podman.run("web", "--network front:ip=10.60.0.99,mac=02:00:00:00:00:99,alias=shop,interface_name=lan0");
    assert_eq!(ips(&podman, "web", "front"), ["10.60.0.99".parse::<IpAddr>().unwrap()]);
    let link = web.link("lan0");
    assert_eq!((link.mac, link.mtu), ([2, 0, 0, 0, 0, 0x99], 1400));
    let client = podman.run("client", "--network front");
    for name in ["web", "shop"] {
        assert_eq!(client.addresses_of(name, RecordType::A), ["10.60.0.99".parse::<IpAddr>().unwrap()], "{name}");
    }

    // Ranges, one address of the host, and the protocols.
    let many = podman.run("many", "--network front -p 7000-7002:80-82 -p 127.0.0.1:7053:53/udp");
    let servers = [80, 81, 82].map(|port| many.tcp_listen(V4.any(), port));
    for port in 7000..=7002 {
        site.internet.tcp_connect(site.public(V4), port).expect("a port of the range");
    }
    let udp = many.udp_listen(V4.any(), 53);
    site.host.udp_ask(V4.loopback(), 7053, "hello").expect("the port on the host itself");
    site.internet.briefly().udp_ask(site.public(V4), 7053, "hello").expect_err("it is on one address only");
    drop((servers, udp));

    // Without names, and with addresses that the agent gives.
    podman.client("network create -d spandrel --disable-dns quiet").ok();
    podman.run("nameless", "--network quiet");
    let resolver = podman.client("exec nameless /bin/busybox cat /etc/resolv.conf").ok();
    assert!(!resolver.contains(&NAMES_AT.to_string()), "{resolver}");
    podman.client("network create -d spandrel --ipam-driver none ours").ok();
    let own = podman.run("own", "--network ours");
    let [address] = ips(&podman, "own", "ours")[..] else { panic!() };
    assert!(own.addresses().iter().any(|(_, has, _)| *has == address), "{address}");
    assert_eq!(own.addresses_of("own", RecordType::A), [address]);
}

/// Both families, from outside, too; and a network without a way there (SEMANTICS §1, `--internal`).
#[test]
fn ipv6_and_internal_networks() {
    let site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel --ipv6 dual").ok();
    let (web, client) =
        (podman.run("web", &format!("--network dual {PUBLISH}")), podman.run("client", "--network dual"));
    let (to, from) = (ips(&podman, "web", "dual"), ips(&podman, "client", "dual"));
    assert_eq!((to.len(), from.len()), (2, 2));
    for (index, family) in Family::BOTH.into_iter().enumerate() {
        let services = web.serve(family.any());
        services.assert_reached(&client, to[index], from[index]);
        services.assert_reached_at(&site.internet, site.public(family), PUBLISHED, site.uplink.outside(family));
        client.ping(Site::far(family)).expect("the outside");
    }
    assert_eq!(client.addresses_of("web", RecordType::AAAA), [to[1]]);

    // The second family is the agent's choice.
    podman.client("network create -d spandrel --ipv6 --subnet 10.67.0.0/24 mixed").ok();
    let mixed = podman.client("network inspect mixed").json();
    let subnets = mixed[0]["subnets"].as_array().unwrap();
    assert!(subnets.len() == 2 && subnets[0]["subnet"] == "10.67.0.0/24", "{subnets:?}");
    podman.run("both", "--network mixed");
    assert_eq!(ips(&podman, "both", "mixed").len(), 2);

    podman.client("network create -d spandrel --internal inner").ok();
    let said = podman.client("run -d --name a --network inner -p 9090:80 busybox").stderr;
    assert!(said.contains("warning: network inner is internal: no ports are published there"), "{said}");
    let (a, b) = (podman.net("a"), podman.run("b", "--network inner"));
    let [a_has] = ips(&podman, "a", "inner")[..] else { panic!() };
    let [b_has] = ips(&podman, "b", "inner")[..] else { panic!() };
    let services = a.serve(V4.any());
    services.assert_reached(&b, a_has, b_has);
    services.assert_out_of_reach(&client, a_has);
    b.briefly().ping(Site::far(V4)).expect_err("there is no way out");
    site.internet.briefly().tcp_connect(site.public(V4), 9090).expect_err("nothing leads inside");
}

/// Two networks at once (SEMANTICS §1, rows 2 and 16): published ports are there once, and stay with the network that stays.
#[test]
fn two_networks() {
    let site = site();
    let podman = site.host.podman();
    for network in ["front", "back"] {
        podman.client(&format!("network create -d spandrel {network}")).ok();
    }
    let web = podman.run("web", &format!("--network front --network back {PUBLISH}"));
    let (fore, rear) = (podman.run("fore", "--network front"), podman.run("rear", "--network back"));
    let own = |network| ips(&podman, "web", network)[0];
    let services = web.serve(V4.any());
    services.assert_reached(&fore, own("front"), ips(&podman, "fore", "front")[0]);
    services.assert_reached(&rear, own("back"), ips(&podman, "rear", "back")[0]);
    services.assert_out_of_reach(&fore, own("back"));
    let reached = || services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    reached();
    let answers = |net: &Net| !net.addresses_of("web", RecordType::A).is_empty();
    assert!(answers(&fore) && answers(&rear));

    for (leaving, staying) in [("front", "back"), ("back", "front")] {
        podman.client(&["network", "disconnect", leaving, "web"]).ok();
        assert_eq!(web.links().len(), 2, "{:?}", web.links());
        reached();
        podman.client(&["network", "connect", leaving, "web"]).ok();
        reached();
        assert_eq!(ips(&podman, "web", staying).len(), 1);
    }
    podman.client("rm -f -t 0 web").ok();
    site.internet.briefly().tcp_connect(site.public(V4), PUBLISHED.0).expect_err("the port is closed");
}

/// A pod: its containers share a namespace, which has the name of the pod.
#[test]
fn pods() {
    let site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel front").ok();
    let infra = "--infra-image busybox --infra-name shop-infra";
    podman.client(&format!("pod create --name shop --network front {PUBLISH} {infra}")).ok();
    let (web, side) = (podman.run("web", "--pod shop"), podman.run("side", "--pod shop"));
    let client = podman.run("client", "--network front");
    let other = ips(&podman, "client", "front")[0];
    let own = ips(&podman, "shop-infra", "front")[0];
    let services = web.serve(V4.any());
    services.assert_reached(&client, own, other);
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    side.tcp_connect(V4.loopback(), TCP_PORT).expect("the same namespace");
    assert_eq!(client.addresses_of("shop", RecordType::A), [own]);
    drop((services, web, side));
    podman.client("pod rm -f -t 0 shop").ok();
    assert_eq!(attached(&site), ["client"]);
}

/// `podman network reload`, restarts of the container and of the agent: it is as it was.
#[test]
fn reload_and_restarts() {
    let mut site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel --ipv6 front").ok();
    let web = podman.run("web", &format!("--network front {PUBLISH}"));
    let had = ips(&podman, "web", "front");
    let mac = web.link("eth0").mac;
    let services = web.serve(V4.any());
    let reached = |site: &Site, services: &Services| {
        services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    };
    podman.client("network reload web").ok();
    podman.client("network reload --all").ok();
    assert_eq!((ips(&podman, "web", "front"), web.link("eth0").mac), (had.clone(), mac));
    reached(&site, &services);
    site.agent.kill();
    site.agent = site.host.agent();
    reached(&site, &services);
    drop(services);

    podman.client("restart -t 0 web").ok();
    let web = podman.net("web");
    reached(&site, &web.serve(V4.any()));
    podman.client("stop -t 0 web").ok();
    assert_eq!(attached(&site), [""; 0]);
    // What ended before its end was told, or twice: `teardown` has nothing to do.
    for netns in ["/run/netns/none", "/proc/1/ns/net"] {
        for _ in 0..2 {
            assert_eq!(plugin(&site.host, "teardown", netns, &joining("front", &[])).ok(), "");
        }
    }
    podman.client("start web").ok();
    podman.client("rm -f -t 0 web").ok();
    assert_eq!(attached(&site), [""; 0]);
}

/// The session in `docs/podman.md`, as it is printed there.
#[test]
fn the_page() {
    let site = site();
    let podman = site.host.podman();
    let page = include_str!("../../docs/podman.md");
    let section = page.split("## A first session").nth(1).and_then(|rest| rest.split("```").nth(1));
    for line in section.expect("the session").trim().lines() {
        // There is no sudo on the host, and the binary is not in its PATH.
        let output = match line.trim_start_matches("sudo ").split_once(' ') {
            Some(("podman", words)) => podman.client(words),
            Some(("spandrel", words)) => site.host.spandrel(words),
            _ => panic!("{line}"),
        };
        let printed = output.ok();
        if line.contains("wget") {
            assert_eq!(printed, podman.client("inspect --format {{.Config.Hostname}} web").ok());
        }
    }
    // The setting there is the one that these tests use.
    assert!(page.contains(r"printf '[engine]\nenable_port_reservation = false\n'"));
}

/// The plugin's version and that of the API; and it knows by the folder that it is called.
#[test]
fn info() {
    let site = site();
    let podman = site.host.podman();
    for arguments in ["info", ""] {
        let info = site.host.command(&format!("/usr/lib/netavark/spandrel {arguments}")).json();
        assert_eq!((&info["name"], &info["api_version"]), (&json!("spandrel"), &json!("1.0.0")));
    }
    let same = site.host.spandrel("netavark info").json();
    assert_eq!(same["api_version"], "1.0.0");
    let wrong = site.host.command("/usr/lib/netavark/spandrel update /run/netns/x");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stdout.contains("update") && wrong.stdout.starts_with("{\"error\":"), "{wrong:?}");
    let drivers = podman.client("info --format {{.Plugins.Network}}").ok();
    assert!(drivers.contains("spandrel"), "{drivers}");
}

/// A network that Podman has removed is gone, or replaced, when the next one is made; one that was there before Podman stays.
#[test]
fn removed_networks() {
    let site = site();
    let podman = site.host.podman();
    let names = || {
        let all = site.host.spandrel("network ls --filter type=custom --format {{.Name}}").ok();
        all.lines().map(String::from).collect::<Vec<_>>()
    };
    site.host.create_network("--subnet 10.61.0.0/24 shared");
    let create = |arguments: &str| podman.client(&format!("network create -d spandrel {arguments}")).ok();
    create("shared");
    assert_eq!(podman.client("network inspect shared").json()[0]["subnets"][0]["subnet"], "10.61.0.0/24");
    create("--subnet 10.62.0.0/24 first");
    create("--subnet 10.63.0.0/24 second");
    podman.client("network rm shared first second").ok();
    assert_eq!(names(), ["first", "second", "shared"]);
    // The name and the subnets are free.
    create("--subnet 10.63.0.0/24 first");
    assert_eq!(names(), ["first", "shared"]);
    assert_eq!(podman.client("network inspect first").json()[0]["subnets"][0]["subnet"], "10.63.0.0/24");

    let said = podman.client("network create -d spandrel --subnet 10.99.0.0/24 shared").stderr;
    assert_says(&said, "network shared is there already and has not the subnet 10.99.0.0/24: remove one of the two");
}

/// What cannot be done is refused when the network is made, and leaves nothing.
#[test]
fn what_is_not_supported() {
    let site = site();
    let podman = site.host.podman();
    let before = site.host.state();
    for (arguments, sentence) in [
        ("-o vlan=7", "the option vlan is not supported"),
        ("-o isolate=false", "networks are always isolated from each other"),
        ("-o mtu=7", "invalid network option com.docker.network.driver.mtu=7"),
        ("-o com.docker.network.bridge.enable_ic=false", "did you mean com.docker.network.bridge.enable_icc?"),
        ("--subnet 10.1.0.0/24 --route 10.9.0.0/16,10.1.0.9", "leave --route out"),
        ("--dns 192.0.2.53", "leave --dns out"),
    ] {
        let output = podman.client(&format!("network create -d spandrel {arguments} wrong"));
        assert_says(&output.stderr, sentence);
        assert_eq!(output.stdout, "");
    }
    assert_eq!(podman.client("network exists wrong").code, Some(1));
    site.host.state().assert_same_as(&before);
}

/// The agent does not run: that is what Podman says; a container ends all the same, and leaves nothing.
#[test]
fn without_the_agent() {
    let mut site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel front").ok();
    podman.run("web", &format!("--network front {PUBLISH}"));
    site.agent.kill();
    let sentence =
        "cannot reach the agent at /run/spandrel/spandrel.sock: is it running? start it with `sudo spandrel agent`";
    assert_says(&podman.client("network create -d spandrel back").stderr, sentence);
    assert_says(&podman.refused("other", "--network front"), sentence);
    let removed = podman.client("rm -f -t 0 web");
    assert!(removed.stderr.contains(sentence), "{removed:?}");
    assert_eq!(podman.client("ps -a --format {{.Names}} --filter name=web").ok(), "");
    site.agent = site.host.agent();
    assert_eq!(attached(&site), [""; 0]);
    podman.run("web", &format!("--network front {PUBLISH} --replace"));
}

/// An agent that does not know what it is asked for.
#[test]
fn with_an_older_agent() {
    let site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel front").ok();
    site.host.older_agent("/spandrel/attachments");
    podman.use_agent_at(OLDER_SOCKET);
    let said = podman.refused("web", "--network front");
    assert_says(&said, "the agent is older than this plugin: restart it with this version");
    podman.use_agent_at(SOCKET);
    podman.run("other", "--network front");
}

/// Somebody removes the network from the agent: it is made again as Podman has it on record, unless its subnet is taken.
#[test]
fn a_network_that_was_removed_behind_podmans_back() {
    let site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel --subnet 10.64.0.0/24 front").ok();
    site.host.spandrel("network rm front").ok();
    podman.run("web", "--network front");
    assert_eq!(site.host.gateway("front", V4).to_string(), "10.64.0.1");
    podman.client("rm -f -t 0 web").ok();

    site.host.spandrel("network rm front").ok();
    site.host.create_network("--subnet 10.64.0.0/16 other");
    assert_says(&podman.refused("web", "--network front"), "overlaps");
    site.host.spandrel("network rm other").ok();
    site.host.create_network("--subnet 10.65.0.0/24 front");
    assert_says(
        &podman.refused("late", "--network front"),
        "network front is there already and has not the subnet 10.64.0.0/24",
    );
}

/// The namespace is gone when netavark asks for an interface in it.
#[test]
fn a_namespace_that_is_gone() {
    let site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel front").ok();
    podman.run("web", "--network front");
    let path = podman.client("inspect --format {{.NetworkSettings.SandboxKey}} web").ok();
    site.host.delete_netns(path.rsplit('/').next().unwrap());
    let said = podman.client("network reload web").stderr;
    assert!(said.contains(&path), "{said}");
    let direct = plugin(&site.host, "setup", "/run/netns/none", &joining("front", &[]));
    assert_eq!(direct.code, Some(1));
    assert_eq!(
        direct.stdout.trim(),
        json!({"error": "/run/netns/none is not a network namespace, or not there"}).to_string()
    );
}

/// A published port is another container's, or some process's.
#[test]
fn a_port_that_is_taken() {
    let site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel front").ok();
    podman.run("web", "--network front -p 8080:80");
    let before = site.host.state();
    let said = podman.refused("other", "--network front -p 8080:80");
    assert_says(&said, "Bind for 0.0.0.0:8080 failed: port is already allocated by container web");
    let holder = site.host.tcp_listen(V4.any(), 9090);
    let said = podman.refused("third", "--network front -p 9090:80");
    assert_says(&said, "failed to bind host port 0.0.0.0:9090/tcp: address already in use by another process");
    podman.client("rm -f other third").ok();
    drop(holder);
    site.host.state().assert_same_as(&before);
    podman.run("third", "--network front -p 9090:80");
}

/// Podman reserves published ports itself unless it is told otherwise: it fails, and the plugin has said why.
#[test]
fn ports_that_podman_reserves() {
    let site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel front").ok();
    podman.reserve_ports(true);
    let said = podman.refused("web", "--network front -p 8080:80");
    assert_says(&said, "address already in use");
    assert!(said.contains("write enable_port_reservation = false into [engine]"), "{said}");
    podman.run("quiet", "--network front");
    podman.reserve_ports(false);
    let output = podman.client("run --rm --network front -p 8080:80 busybox /bin/busybox true");
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}

/// An address that Podman chose is that of a container that Podman does not know.
#[test]
fn an_address_that_is_taken() {
    let site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel --subnet 10.66.0.0/24 front").ok();
    let own = site.host.run_container("--name own --network front --ip 10.66.0.9");
    assert_says(&podman.refused("web", "--network front --ip 10.66.0.9"), "10.66.0.9");
    podman.client("rm web").ok();
    // Where the agent gives all addresses, there is no such thing.
    podman.client("network create -d spandrel --ipam-driver none shared").ok();
    let others = site.host.run_container("--name others --network shared");
    let web = podman.run("web", "--network shared");
    web.ping(others.ip(V4)).expect("its neighbour");
    own.remove();
}

/// Podman is killed with its containers, and the agent has lost its record: either finds its way back.
#[test]
fn after_a_crash_of_either_side() {
    let mut site = site();
    let podman = site.host.podman();
    podman.client("network create -d spandrel front").ok();
    let web = podman.run("web", &format!("--network front {PUBLISH}"));
    podman.run("other", "--network front");

    // The agent begins anew: containers have lost their interfaces, until Podman says again what there is to be.
    site.agent.kill();
    site.host.command(&["/bin/busybox", "rm", "-r", STATE_DIR]).ok();
    site.agent = site.host.agent();
    assert_eq!(attached(&site), [""; 0]);
    podman.client("network reload --all").ok();
    let services = web.serve(V4.any());
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    assert_eq!(attached(&site), ["other", "web"]);
    drop((services, web));

    // Nobody tells anybody that the container has ended, and its namespace is still there when it starts again.
    let pid = podman.client("inspect --format {{.State.ConmonPid}} web").ok();
    for pid in [pid, podman.client("inspect --format {{.State.Pid}} web").ok()] {
        assert_ne!(pid, "0");
        site.host.command(&["/bin/busybox", "kill", "-9", &pid]).ok();
    }
    // Podman itself notices it when it is to stop the container.
    podman.client("stop -t 0 web");
    podman.client("start web").ok();
    let web = podman.net("web");
    let services = web.serve(V4.any());
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));

    // Podman's word counts: a container is where it says, though the namespace where it was is still there.
    let (older, newer) = (site.host.add_netns("older"), site.host.add_netns("newer"));
    let said = joining("front", &[]);
    for (path, has, has_not) in [("older", &older, &newer), ("newer", &newer, &older), ("newer", &newer, &older)] {
        let done = plugin(&site.host, "setup", &format!("/run/netns/{path}"), &said).json();
        assert_eq!(done["dns_server_ips"], json!([NAMES_AT.to_string()]));
        assert_eq!((has.links().len(), has_not.links().len()), (2, 1));
    }
    assert_eq!(attached(&site), ["byhand", "other", "web"]);
}
