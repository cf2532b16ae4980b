//! Network namespaces that somebody else made, on our networks: `spandrel attach` and `detach`.

use std::io::ErrorKind;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};
use spandrel_tests::*;

/// A namespace of the test's own making, and what `attach` says of its interface.
struct Attached {
    net: Net,
    said: Value,
}

impl Attached {
    /// Makes a namespace on the host and attaches it with these further words.
    #[track_caller]
    fn new(host: &Host, name: &str, options: &str) -> Self {
        let net = host.add_netns(name);
        Self { said: attach(host, &format!("{name} {options}")), net }
    }

    /// Its address.
    #[track_caller]
    fn ip(&self, family: Family) -> IpAddr {
        let addresses = self.said["Addresses"].as_array().expect("addresses");
        let mut addresses = addresses.iter().filter_map(|address| {
            let (address, _) = address["Address"].as_str()?.split_once('/')?;
            address.parse::<IpAddr>().ok()
        });
        addresses.find(|address| Family::of(*address) == family).expect("an address of the family")
    }
}

#[track_caller]
fn attach(host: &Host, words: &str) -> Value {
    let said = host.spandrel(&format!("attach --format json {words}"));
    said.json_lines().remove(0)
}

/// The names of the namespace's interfaces but for its loopback.
fn interfaces(net: &Net) -> Vec<String> {
    net.links().into_iter().map(|link| link.name).filter(|name| name != "lo").collect()
}

#[track_caller]
fn assert_refused(host: &Host, words: &str, sentence: &[&str]) {
    let before = host.state();
    let output = host.spandrel(words);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{output:?}");
    for part in sentence {
        assert!(output.stderr.contains(part), "{part:?} is missing: {output:?}");
    }
    host.state().assert_same_as(&before);
}

/// It has what a container has: neighbours, the outside, published ports, and no way to another network; in both families.
#[test]
fn a_namespace_is_on_the_network_like_a_container() {
    let site = Site::with_networks(["front", "back"]);
    let box_ = Attached::new(&site.host, "box", &format!("--network front {PUBLISH}"));
    let neighbour = site.host.run_container("--name neighbour --network front");
    let stranger = site.host.run_container("--name stranger --network back");
    for family in Family::BOTH {
        let own = box_.ip(family);
        let services = box_.net.serve(family.any());
        services.assert_reached(&neighbour, own, neighbour.ip(family));
        services.assert_reached_at(&site.internet, site.public(family), PUBLISHED, site.uplink.outside(family));
        services.assert_reached_at(&stranger, site.public(family), PUBLISHED, stranger.ip(family));
        services.assert_out_of_reach(&stranger, own);
        neighbour.serve(family.any()).assert_reached(&box_.net, neighbour.ip(family), own);
        let outside = site.internet.udp_listen(Site::far(family), 7777);
        let seen = box_.net.udp_ask(Site::far(family), 7777, "from the box").expect("the outside answers");
        assert_eq!(seen.ip(), site.public(family), "masqueraded");
        drop(outside);
        box_.net.briefly().ping(stranger.ip(family)).expect_err("another network");
    }
}

/// Its name, aliases and short id are known to its neighbours, and it asks at 127.0.0.11 as they do.
#[test]
fn a_namespace_has_names_and_a_name_server() {
    let site = Site::with_networks(["front", "back"]);
    let _outside = site.internet.name_server(Site::far(V4), &[]);
    let box_ = Attached::new(&site.host, "box", "--network front --name shop --alias www");
    let web = site.host.run_container("--name web --network front");
    let stranger = site.host.run_container("--name stranger --network back");
    assert_eq!(box_.said["DNS"]["Servers"], json!(["127.0.0.11"]));
    let id = box_.said["ContainerID"].as_str().unwrap();
    for name in ["shop", "www", "shop.front", &id[..12]] {
        assert_eq!(web.addresses_of(name, RecordType::A), [box_.ip(V4)], "{name}");
        assert_eq!(web.addresses_of(name, RecordType::AAAA), [box_.ip(V6)], "{name}");
    }
    assert_eq!(box_.net.addresses_of("web", RecordType::A), [web.ip(V4)]);
    assert_eq!(box_.net.names_code("stranger"), ResponseCode::NXDomain);
    assert_eq!(stranger.names_code("shop"), ResponseCode::NXDomain);
    site.host.spandrel("detach shop").ok();
    assert_eq!(web.names_code("shop"), ResponseCode::NXDomain);
}

/// What was asked for is what it gets, and every list shows it.
#[test]
fn wishes_are_met_and_shown() {
    let site = Site::new();
    site.host.create_network("--subnet 10.7.0.0/24 --ipv6 --subnet fd07::/64 front");
    let box_ = Attached::new(
        &site.host,
        "box",
        "--network front --name shop --ip 10.7.0.77 --ip6 fd07::77 --mac-address 02:00:00:00:00:77 --ifname net7 -p 8080:80",
    );
    let said = &box_.said;
    let expected = json!([
        {"Address": "10.7.0.77/24", "Gateway": "10.7.0.1"},
        {"Address": "fd07::77/64", "Gateway": "fd07::1"},
    ]);
    assert_eq!(said["Addresses"], expected);
    let routes = json!([
        {"Destination": "0.0.0.0/0", "Gateway": "10.7.0.1"},
        {"Destination": "::/0", "Gateway": "fd07::1"},
    ]);
    assert_eq!(said["Routes"], routes);
    assert_eq!((&said["Interface"], &said["MacAddress"]), (&json!("net7"), &json!("02:00:00:00:00:77")));
    assert_eq!((&said["Name"], &said["Netns"], &said["MTU"]), (&json!("shop"), &json!("/run/netns/box"), &json!(1500)));
    assert_eq!(said["Ports"]["80/tcp"][0]["HostPort"], "8080");
    assert_eq!(interfaces(&box_.net), ["net7"]);
    assert_eq!(box_.net.link("net7").mac, [2, 0, 0, 0, 0, 0x77]);

    let ps = site.host.spandrel("ps --format json").json_lines();
    assert_eq!((&ps[0]["Names"], &ps[0]["State"]), (&json!("shop"), &json!("running")));
    assert!(ps[0]["Ports"].as_str().unwrap().contains("0.0.0.0:8080->80/tcp"), "{ps:?}");
    let inspect = site.host.spandrel("network inspect front").json();
    let members: Vec<_> = inspect[0]["Containers"].as_object().unwrap().values().collect();
    assert_eq!((&members[0]["Name"], &members[0]["IPv4Address"]), (&json!("shop"), &json!("10.7.0.77/24")));
    let ports = site.host.spandrel("port shop 80").ok();
    assert_eq!(ports, "0.0.0.0:8080\n[::]:8080");
    assert_eq!(site.host.api("/spandrel/attachments")[0], *said);
    let check = site.host.api("/spandrel/attachments/shop/check");
    assert_eq!(check["Faults"], json!([]));
    // Ports may come and go later, as a container's may.
    site.host.spandrel("publish shop 8081:81").ok();
    site.host.spandrel("unpublish shop 8080:80").ok();
    assert_eq!(site.host.spandrel("port shop").ok(), "81/tcp -> 0.0.0.0:8081\n81/tcp -> [::]:8081");
}

/// Nothing is left of it: neither on the host nor in the namespace.
#[test]
fn detach_leaves_nothing() {
    let site = Site::with_networks(["front", "back"]);
    // The bridges have had a port before, since they are given link-local routes then.
    for name in ["front", "back"] {
        site.host.run_container(&format!("--network {name}")).remove();
    }
    let net = site.host.add_netns("box");
    let before = site.host.state();
    attach(&site.host, "box --network front -p 8080:80");
    attach(&site.host, "box --network back --ifname back0");
    site.host.spandrel("detach box").ok();
    site.host.state().assert_same_as(&before);
    assert_eq!(interfaces(&net), [""; 0]);
    // By the path, and by the id of the container.
    for reference in ["/run/netns/box", ""] {
        let said = attach(&site.host, "box --network front");
        let reference = if reference.is_empty() { said["ContainerID"].as_str().unwrap() } else { reference };
        site.host.spandrel(&["detach", reference]).ok();
        site.host.state().assert_same_as(&before);
    }
    // As Docker's clients know it.
    attach(&site.host, "box --network front");
    assert_refused(&site.host, "rm box", &["container is running"]);
    site.host.spandrel("rm -f box").ok();
    site.host.state().assert_same_as(&before);
}

/// One namespace on several networks, with one default route; an interface goes without the others, and its ports with it.
#[test]
fn several_interfaces_in_one_namespace() {
    let site = Site::with_networks(["front", "back"]);
    let front = Attached::new(&site.host, "box", "--network front -p 8080:80");
    let back = Attached { net: front.net.clone(), said: attach(&site.host, "box --network back -p 8081:81") };
    assert_eq!((&front.said["Interface"], &back.said["Interface"]), (&json!("eth0"), &json!("eth1")));
    assert_eq!(front.said["ContainerID"], back.said["ContainerID"]);
    let neighbours =
        ["front", "back"].map(|name| site.host.run_container(&format!("--name in-{name} --network {name}")));
    for family in Family::BOTH {
        front.net.ping(neighbours[0].ip(family)).expect("front");
        front.net.ping(neighbours[1].ip(family)).expect("back");
        front.net.ping(Site::far(family)).expect("outside");
    }
    let server = front.net.tcp_listen(V4.any(), 80);
    site.internet.tcp_connect(site.public(V4), 8080).expect("the first one's port");
    site.host.spandrel("detach --ifname eth1 box").ok();
    assert_eq!(interfaces(&front.net), ["eth0"]);
    site.internet.tcp_connect(site.public(V4), 8080).expect("the first one's port still");
    let refused = site.internet.tcp_connect(site.public(V4), 8081).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(site.host.spandrel("port box").ok(), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
    front.net.ping(neighbours[0].ip(V4)).expect("front");
    drop(server);
    let again = attach(&site.host, "box --network back --ifname eth1");
    assert_eq!(again["Interface"], "eth1");
    // The one with the default route goes: the other has it then.
    site.host.spandrel("detach --ifname eth0 box").ok();
    front.net.ping(Site::far(V4)).expect("outside by the other one");
}

/// A default route that was there stays where it was.
#[test]
fn a_default_route_of_its_own_stays() {
    let site = Site::with_networks(["front"]);
    let net = site.host.add_netns("box");
    let other = site.internet.briefly();
    net.cable("wan0", &other, "lan9");
    for (family, near, far, prefix) in [(V4, "192.0.2.2", "192.0.2.1", 24), (V6, "2001:db8:9::2", "2001:db8:9::1", 64)]
    {
        net.add_address("wan0", near.parse().unwrap(), prefix);
        other.add_address("lan9", far.parse().unwrap(), prefix);
        net.add_default_route(far.parse().unwrap());
        net.ping(Site::far(family)).expect("its own way");
    }
    let before: Vec<_> = net.routes().into_iter().filter(|route| route.contains("wan0")).collect();
    let output = site.host.spandrel("attach --format json box --network front");
    assert!(output.stderr.contains("warning: the IPv4 default route stays"), "{output:?}");
    let said = output.json_lines().remove(0);
    assert_eq!(said["Routes"], json!([]));
    let after: Vec<_> = net.routes().into_iter().filter(|route| route.contains("wan0")).collect();
    assert_eq!(before, after);
    let web = site.host.run_container("--name web --network front");
    for family in Family::BOTH {
        net.ping(web.ip(family)).expect("the network");
        net.ping(Site::far(family)).expect("its own way");
    }
    // Answers to published ports would go another way.
    site.host.spandrel("detach box").ok();
    assert_refused(&site.host, "attach box --network front -p 8080:80", &["no port can be published"]);
}

/// The agent dies and comes back: what is there is mended, and goes on; what has vanished meanwhile is forgotten.
#[test]
fn the_agent_comes_back() {
    let mut site = Site::with_networks(["front"]);
    let _outside = site.internet.name_server(Site::far(V4), &[]);
    let box_ = Attached::new(&site.host, "box", &format!("--network front {PUBLISH}"));
    let doomed = Attached::new(&site.host, "doomed", "--network front -p 9090:90");
    let web = site.host.run_container("--name web --network front");
    let services = box_.net.serve(V4.any());
    site.agent.kill();
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    // A foreign hand takes the one's address away, and the other one wholly.
    box_.net.remove_address("eth0", box_.ip(V4), 16);
    site.host.delete_netns("doomed");
    drop(doomed);
    site.agent = site.host.agent();
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    services.assert_reached(&web, box_.ip(V4), web.ip(V4));
    assert_eq!(web.addresses_of("box", RecordType::A), [box_.ip(V4)]);
    assert_eq!(box_.net.addresses_of("web", RecordType::A), [web.ip(V4)]);
    assert_eq!(web.names_code("doomed"), ResponseCode::NXDomain);
    let names: Vec<_> = site.host.spandrel("ps --format {{.Names}}").ok().lines().map(String::from).collect();
    assert_eq!(names, ["web", "box"]);
    // Its port is free again.
    site.host.spandrel("publish web 9090:90").ok();
    assert_eq!(site.host.api("/spandrel/attachments")[0], box_.said);
}

/// A namespace that vanishes while the agent runs is forgotten, and a new one of its name is another one.
#[test]
fn a_namespace_vanishes() {
    let site = Site::with_networks(["front"]);
    site.host.run_container("--network front").remove();
    let before = site.host.state();
    drop(Attached::new(&site.host, "box", "--network front --name shop -p 8080:80"));
    site.host.delete_netns("box");
    let gone = within(PATIENCE, || site.host.spandrel("ps -q").ok().is_empty().then_some(()));
    assert!(gone.is_some(), "it is still listed");
    site.host.state().assert_same_as(&before);
    // At once, under the same name: the old one need not have been noticed.
    drop(Attached::new(&site.host, "box", "--network front --ip 172.18.0.9 -p 8080:80"));
    site.host.delete_netns("box");
    let net = site.host.add_netns("box");
    site.host.spandrel("detach box").ok();
    attach(&site.host, "box --network front --ip 172.18.0.9 -p 8080:80");
    assert_eq!(interfaces(&net), ["eth0"]);
}

/// An agent that takes everything down at its end takes it off, too, and the next one does not know it.
#[test]
fn a_teardown_leaves_nothing() {
    let mut site = Site::with_agent("--teardown");
    site.host.create_network("--ipv6 front");
    let box_ = Attached::new(&site.host, "box", "--network front -p 8080:80");
    assert_eq!(interfaces(&box_.net), ["eth0"]);
    site.agent.stop();
    assert_eq!(interfaces(&box_.net), [""; 0]);
    site.agent = site.host.agent();
    assert_eq!(site.host.spandrel("ps -aq").ok(), "");
    assert_eq!(site.host.api("/spandrel/attachments"), json!([]));
    // Everything is free again.
    attach(&site.host, "box --network front -p 8080:80");
}

/// By a process's number, and events for those who listen, with Docker's attributes.
#[test]
fn by_process_and_told_to_listeners() {
    let site = Site::with_networks(["front"]);
    site.host.add_netns("box");
    let sleeper = site.host.command(&["sh", "-c", "nsenter --net=/run/netns/box sleep 1000 >/dev/null 2>&1 & echo $!"]);
    let pid = sleeper.ok();
    let entered = within(PATIENCE, || {
        let of = |path: &str| {
            std::fs::metadata(site.host.path(path)).ok().map(|file| std::os::unix::fs::MetadataExt::ino(&file))
        };
        (of(&format!("/proc/{pid}/ns/net")) == of("/run/netns/box")).then_some(())
    });
    assert!(entered.is_some(), "the process is not in the namespace");
    let said = attach(&site.host, &format!("{pid} --network front --name job"));
    assert_eq!(said["Netns"], format!("/proc/{pid}/ns/net"));
    site.host.spandrel(&["detach", &pid]).ok();
    let events =
        site.host.request("GET", "/events?since=0&until=0s&filters=%7B%22type%22%3A%5B%22network%22%5D%7D", "");
    let told: Vec<Value> = events.body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |action: &str| {
        let about =
            told.iter().filter(|event| event["Action"] == action && event["Actor"]["Attributes"]["name"] == "front");
        about.map(|event| event["Actor"]["Attributes"].clone()).collect::<Vec<_>>()
    };
    let attributes = json!({"container": said["ContainerID"], "name": "front", "type": "bridge"});
    assert_eq!(of("connect"), std::slice::from_ref(&attributes));
    assert_eq!(of("disconnect"), [attributes]);
    site.host.command(&["kill", &pid]).ok();
}

/// Each wrong word is refused in one sentence, and nothing is half done.
#[test]
fn wrong_input() {
    let site = Site::with_networks(["front", "back"]);
    let web = site.host.run_container("--name web --network front -p 8080:80");
    site.host.add_netns("box");
    site.host.add_netns("other");
    site.host.write("/run/netns/file", "nothing is mounted here");
    let taken = web.ip(V4);
    let host = &site.host;
    assert_refused(host, "attach nowhere --network front", &["no such network namespace", "/run/netns/nowhere"]);
    assert_refused(host, "attach /nowhere/at/all --network front", &["no such network namespace"]);
    assert_refused(host, "attach 4194304 --network front", &["no such network namespace", "/proc/4194304/ns/net"]);
    assert_refused(host, "attach file --network front", &["/run/netns/file is not a network namespace"]);
    assert_refused(host, "attach /proc/1/ns/mnt --network front", &["is not a network namespace"]);
    assert_refused(host, "attach 1 --network front", &["is the host's own network namespace"]);
    assert_refused(host, "attach ./box --network front", &["a path has to be absolute"]);
    assert_refused(host, "attach /run/spandrel/netns/web --network back", &["container web", "network connect"]);
    assert_refused(host, "attach box --network fornt", &["network fornt not found", "did you mean front?"]);
    assert_refused(host, "attach box --network host", &["network host has no interfaces to attach"]);
    assert_refused(host, &format!("attach box --network front --ip {taken}"), &["already in use", "container web"]);
    assert_refused(host, "attach box --network front --ip 192.0.2.9", &["192.0.2.9"]);
    assert_refused(host, "attach box --network front --mac-address 1:2", &["1:2"]);
    assert_refused(host, "attach box --network front --name web", &["already in use by container"]);
    assert_refused(host, "attach box --network front --name=-web", &["Invalid container name"]);
    assert_refused(host, "attach box --network front -p 8080:80", &["port is already allocated by container web"]);
    assert_refused(host, "attach box --network front -p 1:2:3:4", &["1:2:3:4"]);
    assert_refused(host, "attach box --network front --ifname lo", &["interface lo exists already"]);
    assert_refused(host, "attach box --network front --ifname a/b", &["invalid interface name"]);
    assert_refused(host, "attach box --network front --ifname sixteen-letters-", &["1 to 15 characters"]);
    assert_refused(host, "attach box --network front --alias a..b", &["invalid alias"]);
    assert_refused(host, "detach nobody", &["No such container: nobody"]);
    assert_refused(host, "detach web", &["one of our own", "network disconnect"]);
    // In a namespace that is attached already as well.
    attach(host, "box --network front");
    assert_refused(host, "attach box --network front", &["already exists in network front"]);
    assert_refused(host, "attach box --network back --name another", &["attached as container box already"]);
    assert_refused(host, "attach box --network back --ifname eth0", &["interface eth0 exists already"]);
    assert_refused(host, "attach box --network back -p 9000:90 -p 8080:80", &["already allocated by container web"]);
    assert_refused(host, "attach other --network front --name box", &["already in use by container"]);
    assert_refused(host, "detach --ifname eth9 box", &["No such interface: eth9 of container box"]);
    for command in ["stop box", "kill box", "exec box true", "logs box", "restart box"] {
        if command.starts_with("kill") {
            let answer = host.request("POST", "/containers/box/kill", "");
            assert_eq!(answer.status, 403, "{answer:?}");
            continue;
        }
        assert_refused(host, command, &["somebody else made its network namespace"]);
    }
    assert_refused(host, "run --network container:box true", &["somebody else made its network namespace"]);
}
