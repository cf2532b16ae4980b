//! The CNI plugin, called as a runtime calls it: each verb in each version, alone, in a chain, with another plugin's addresses, and beside
//! the reference plugins.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};
use spandrel_tests::*;

/// The versions of the specification that we speak.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Where the host is, for whoever lives in 10.40.0.0/24.
const GATEWAY: &str = "10.40.0.1";

/// Our plugin with its own addresses of both families.
fn ours() -> Value {
    json!({
        "type": "spandrel-cni",
        "ipam": {"ranges": [[{"subnet": "10.40.0.0/24"}], [{"subnet": "fd40::/64"}]]},
        "capabilities": {"portMappings": true, "ips": true, "mac": true, "aliases": true, "bandwidth": true},
    })
}

/// Debian's reference chain.
fn reference() -> Vec<Value> {
    vec![
        json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": "/run/cni/host-local",
                "ranges": [[{"subnet": "10.40.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        }),
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "firewall", "backend": "iptables"}),
    ]
}

/// The addresses that a result gives the interface in the namespace.
fn ips(result: &Value, netns: &str) -> Vec<IpAddr> {
    let interfaces = result["interfaces"].as_array().expect("interfaces");
    let inside = |index: &Value| {
        let index = index.as_u64().and_then(|index| usize::try_from(index).ok()).expect("an index");
        interfaces[index]["name"] == "eth0" && interfaces[index]["sandbox"] == netns
    };
    let ips = result["ips"].as_array().expect("ips").iter().filter(|ip| inside(&ip["interface"]));
    ips.map(|ip| ip["address"].as_str().unwrap().split_once('/').unwrap().0.parse().unwrap()).collect()
}

/// What any set of plugins has to do for a runtime; IPv4, which all of them do.
fn assert_serves(site: &Site, cni: &Cni, version: &str, whoever_has_ports_can_be_checked: bool) {
    let (web_net, client_net) = (site.host.add_netns("web"), site.host.add_netns("client"));
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"HostPort": 5353, "ContainerPort": 53, "Protocol": "udp"},
    ]);
    let mut web = CniAttachment::new("pod-web", "web").wishing(json!({"portMappings": mappings}));
    let mut client = CniAttachment::new("pod-client", "client");
    let result = cni.add(&mut web).unwrap();
    assert_eq!(result["cniVersion"], version);
    let family = &result["ips"][0]["version"];
    assert_eq!(*family, if version < "1.0.0" { json!("4") } else { Value::Null });
    let own = ips(&result, "/run/netns/web")[0];
    let other = ips(&cni.add(&mut client).unwrap(), "/run/netns/client")[0];
    assert_ne!(own, other);
    if version >= "0.4.0" {
        cni.check(&client).unwrap();
        if whoever_has_ports_can_be_checked {
            cni.check(&web).unwrap();
        }
    }

    let services = web_net.serve(V4.any());
    services.assert_reached(&client_net, own, other);
    services.assert_reached(&site.host, own, GATEWAY.parse().unwrap());
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    client_net.ping(Site::far(V4)).expect("the outside");
    let unpublished = web_net.tcp_listen(V4.any(), 81);
    client_net.tcp_connect(own, 81).expect("a neighbour needs no published port");
    site.internet.briefly().tcp_connect(site.public(V4), 81).expect_err("nobody has published that port");
    drop(unpublished);

    // It is gone, and so are its ports; again, and with its namespace gone, that is no error.
    cni.del(&web).unwrap();
    assert!(web_net.links().iter().all(|link| link.name == "lo"), "{:?}", web_net.links());
    site.internet.briefly().tcp_connect(site.public(V4), PUBLISHED.0).expect_err("the port is closed");
    cni.del(&web).unwrap();
    let without = CniAttachment { netns: String::new(), result: None, ..web.clone() };
    cni.del(&without).unwrap();
    // The address and the ports are free for the next one.
    let mut again = CniAttachment::new("pod-again", "web").wishing(web.capabilities.clone());
    cni.add(&mut again).unwrap();
    drop(services);
    let services = web_net.serve(V4.any());
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    drop((services, web_net, client_net));
    for attachment in [again, client] {
        // As after a reboot: the namespace is gone before anybody was told.
        site.host.delete_netns(attachment.netns.rsplit('/').next().unwrap());
        cni.del(&CniAttachment { netns: String::new(), ..attachment }).unwrap();
    }
    let left: Vec<_> = site.host.links().into_iter().filter(|link| link.name.starts_with("veth")).collect();
    assert_eq!(left.len(), 0, "{left:?}");
}

/// Each version of the specification, from end to end.
#[test]
fn every_version_serves() {
    let site = Site::new();
    let before = site.host.state();
    for version in VERSIONS {
        let cni = Cni::new(&site.host, "pods", version, &[ours()]);
        assert_serves(&site, &cni, version, true);
        site.host.spandrel("network rm pods").ok();
        site.host.state().assert_same_as(&before);
    }
}

/// The same checks pass on the reference plugins, beside an agent that has nothing to do with them.
#[test]
fn the_reference_plugins_serve_the_same() {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let uplink = lab.uplink(&host, &internet);
    internet.add_address("lo", Site::far(V4), 32);
    host.install_debian();
    let agent = host.agent();
    let site = Site { agent, host, internet, uplink };
    // Its firewall speaks no older one, and Debian's release no newer one.
    for version in ["0.4.0", "1.0.0"] {
        let cni = Cni::new(&site.host, "pods", version, &reference());
        // portmap looks for its IPv4 rules among those of IPv6 (1.1.1), and so finds fault with whoever has ports.
        assert_serves(&site, &cni, version, false);
        // Rules and addresses are gone; of containers whose namespace vanished first they leave the rules of masquerade (1.1.1).
        let rules = site.host.command("iptables-save").ok();
        let left: Vec<_> = rules.lines().filter(|rule| rule.contains("pod-web")).collect();
        assert_eq!(left, [""; 0]);
        let addresses = site.host.command("ls /run/cni/host-local/pods").ok();
        assert!(!addresses.contains("10.40.0."), "{addresses}");
    }
}

/// What `bandwidth` limits, ours limits: a second's worth and no more, in either direction.
#[test]
fn bandwidth_is_limited_as_the_reference_plugin_does() {
    const RATE: u64 = 8_000_000;
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let _uplink = lab.uplink(&host, &internet);
    host.install_debian();
    let _agent = host.agent();
    let [bridge, ..] = <[Value; 3]>::try_from(reference()).unwrap();
    let theirs = [bridge, json!({"type": "bandwidth", "capabilities": {"bandwidth": true}})];
    for (name, plugins) in [("ours", vec![ours()]), ("theirs", theirs.to_vec())] {
        let cni = Cni::new(&host, name, "1.0.0", &plugins);
        let (web_net, client_net) = (host.add_netns("web"), host.add_netns("client"));
        let limits = json!({"ingressRate": RATE, "ingressBurst": 800_000, "egressRate": RATE, "egressBurst": 800_000});
        let mut web = CniAttachment::new("pod-web", "web").wishing(json!({"bandwidth": limits}));
        let mut client = CniAttachment::new("pod-client", "client");
        let own = ips(&cni.add(&mut web).unwrap(), "/run/netns/web")[0];
        let other = ips(&cni.add(&mut client).unwrap(), "/run/netns/client")[0];
        for (from, to, at) in [(&client_net, &web_net, own), (&web_net, &client_net, other)] {
            let bits = poured(from, to, at);
            let share = bits / (POURED.as_secs_f64() * RATE as f64);
            println!("{name}: {share:.2} of the rate to {at}");
            assert!((0.5..1.15).contains(&share), "{name}: {share:.2} of the rate to {at}");
        }
        [&web, &client].into_iter().for_each(|pod| cni.del(pod).unwrap());
        drop((web_net, client_net));
        ["web", "client"].into_iter().for_each(|netns| host.delete_netns(netns));
    }
}

/// How long somebody sends without a pause.
const POURED: Duration = Duration::from_secs(5);

/// Bits that arrive on a TCP connection in that time.
fn poured(from: &Net, to: &Net, at: IpAddr) -> f64 {
    let listener = to.tcp_bind(V4.any(), 80).unwrap();
    let mut sender = from.tcp_open(at, 80).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let pouring = thread::spawn(move || while sender.write_all(&[0; 64 * 1024]).is_ok() {});
    let (mut buffer, mut bytes, start) = (vec![0; 256 * 1024], 0, Instant::now());
    while start.elapsed() < POURED {
        bytes += receiver.read(&mut buffer).unwrap();
    }
    drop(receiver);
    pouring.join().unwrap();
    8.0 * bytes as f64
}

/// Wishes by capability and by arguments, in both families; names through our server, which the result tells.
#[test]
fn capabilities_and_names() {
    let site = Site::new();
    let cni = Cni::new(&site.host, "pods", "1.1.0", &[ours()]);
    let (web_net, client_net) = (site.host.add_netns("web"), site.host.add_netns("client"));
    let wishes = json!({
        "ips": ["10.40.0.77/24", "fd40::77"], "mac": "02:00:00:00:00:77", "aliases": {"pods": ["www", "shop"]},
        "bandwidth": {"ingressRate": 20_000_000, "ingressBurst": 1_000_000, "EgressRate": 30_000_000, "EgressBurst": u32::MAX},
    });
    let mut web = CniAttachment::new("pod-web", "web").wishing(wishes);
    web.args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0".into();
    let result = cni.add(&mut web).unwrap();
    let expected = ["10.40.0.77", "fd40::77"].map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(ips(&result, "/run/netns/web"), expected);
    let inside = &result["interfaces"][2];
    assert_eq!((&inside["mac"], &inside["mtu"]), (&json!("02:00:00:00:00:77"), &json!(1500)));
    assert_eq!(result["dns"]["nameservers"], json!(["127.0.0.11"]));
    assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.40.0.1"}, {"dst": "::/0", "gw": "fd40::1"}]));
    assert_eq!(web_net.link("eth0").mac, [2, 0, 0, 0, 0, 0x77]);
    let limits = json!({
        "spandrel.ingress_rate": "20000000", "spandrel.ingress_burst": "1000000", "spandrel.egress_rate": "30000000",
    });
    let inspect = site.host.spandrel("inspect web-0").json();
    assert_eq!(inspect[0]["NetworkSettings"]["Networks"]["pods"]["DriverOpts"], limits);

    let mut client = CniAttachment {
        args: "IP=10.40.0.78;MAC=02:00:00:00:00:78".into(),
        ..CniAttachment::new("pod-client", "client")
    };
    let result = cni.add(&mut client).unwrap();
    assert!(ips(&result, "/run/netns/client").contains(&"10.40.0.78".parse().unwrap()));
    assert_eq!(client_net.link("eth0").mac, [2, 0, 0, 0, 0, 0x78]);
    for name in ["web-0", "www", "shop.pods"] {
        assert_eq!(client_net.addresses_of(name, RecordType::A), [expected[0]], "{name}");
    }
    assert_eq!(client_net.addresses_of("www", RecordType::AAAA), [expected[1]]);
    for ip in expected {
        client_net.ping(ip).expect("a neighbour");
    }
    let names = site.host.spandrel("ps --format {{.Names}}").ok();
    assert_eq!(names.lines().collect::<Vec<_>>(), ["pod-client", "web-0"]);
}

/// Another plugin gives the addresses, from the same subnet each time; they are given back at the end, and when an ADD fails.
#[test]
fn addresses_of_another_plugin() {
    let lab = Lab::new();
    let host = lab.host("host");
    host.install_debian();
    let _agent = host.agent();
    let plugin = json!({
        "type": "spandrel-cni",
        "ipam": {
            "type": "host-local", "dataDir": "/run/cni/host-local",
            "ranges": [[{"subnet": "10.41.0.0/24", "rangeStart": "10.41.0.50"}]], "routes": [{"dst": "0.0.0.0/0"}],
        },
        "capabilities": {"portMappings": true},
    });
    let cni = Cni::new(&host, "pods", "1.0.0", &[plugin]);
    let nets = ["a", "b", "c"].map(|name| host.add_netns(name));
    let mut pods = ["a", "b"].map(|name| CniAttachment::new(&format!("pod-{name}"), name));
    let addresses = pods.each_mut().map(|pod| ips(&cni.add(pod).unwrap(), &pod.netns)[0]);
    assert_eq!(addresses, ["10.41.0.50", "10.41.0.51"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    nets[0].ping(addresses[1]).expect("a neighbour");
    pods.iter().for_each(|pod| cni.check(pod).unwrap());
    let reserved = || {
        let list = host.command("ls /run/cni/host-local/pods").ok();
        list.lines().filter(|name| name.starts_with("10.")).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(reserved(), ["10.41.0.50", "10.41.0.51"]);
    let holder = host.tcp_listen(V4.any(), 8080);
    let mappings = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}]});
    let error = cni.add(&mut CniAttachment::new("pod-c", "c").wishing(mappings)).unwrap_err();
    assert_eq!(error["code"], 100, "{error}");
    drop(holder);
    assert_eq!(reserved(), ["10.41.0.50", "10.41.0.51"]);
    pods.iter().for_each(|pod| cni.del(pod).unwrap());
    assert_eq!(reserved(), [""; 0]);
}

/// Behind another plugin and before one: what the others did is told on.
#[test]
fn in_a_chain() {
    let lab = Lab::new();
    let host = lab.host("host");
    host.install_debian();
    let _agent = host.agent();
    let cni = Cni::new(&host, "pods", "1.0.0", &[ours()]);
    let net = host.add_netns("web");
    let mut web = CniAttachment::new("pod-web", "web");
    let loopback = CniAttachment { interface: "lo".into(), ..web.clone() };
    cni.call("ADD", &json!({"type": "loopback"}), &loopback, None, &json!({})).unwrap();
    let first = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "lo", "sandbox": "/run/netns/web"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}], "dns": {}});
    let second = cni.call("ADD", &ours(), &web, Some(&first), &json!({})).unwrap().unwrap();
    assert_eq!(second["interfaces"][0]["name"], "lo");
    assert_eq!(second["ips"][0]["address"], "127.0.0.1/8");
    assert_eq!(ips(&second, "/run/netns/web").len(), 2);
    let tuning = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"}});
    let third = cni.call("ADD", &tuning, &web, Some(&second), &json!({})).unwrap().unwrap();
    assert_eq!(third["ips"], second["ips"]);
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/log_martians");
    assert_eq!(net.run(read).unwrap().trim(), "1");
    web.result = Some(third);
    cni.call("CHECK", &ours(), &web, web.result.as_ref(), &json!({})).unwrap();
    cni.call("DEL", &tuning, &web, web.result.as_ref(), &json!({})).unwrap();
    cni.call("DEL", &ours(), &web, web.result.as_ref(), &json!({})).unwrap();
    assert_eq!(net.links().len(), 1);
}

/// Many at once, of which none gets another's address, and the network is made once.
#[test]
fn parallel_adds() {
    let site = Site::new();
    let before = site.host.state();
    let cni = Cni::new(&site.host, "pods", "1.1.0", &[ours()]);
    let names: Vec<_> = (0..12).map(|number| format!("p{number}")).collect();
    let nets: Vec<_> = names.iter().map(|name| site.host.add_netns(name)).collect();
    let pods: Vec<_> = thread::scope(|scope| {
        let add = |name: &String| {
            let mut pod = CniAttachment::new(&format!("pod-{name}"), name);
            let result = cni.add(&mut pod).unwrap();
            (ips(&result, &pod.netns)[0], pod)
        };
        let adds: Vec<_> = names.iter().map(|name| scope.spawn(move || add(name))).collect();
        adds.into_iter().map(|add| add.join().unwrap()).collect()
    });
    let mut addresses: Vec<_> = pods.iter().map(|(address, _)| *address).collect();
    nets[0].ping(addresses[11]).expect("a neighbour");
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 12);
    thread::scope(|scope| {
        for (_, pod) in &pods {
            scope.spawn(|| cni.del(pod).unwrap());
        }
    });
    site.host.spandrel("network rm pods").ok();
    site.host.state().assert_same_as(&before);
}

/// GC takes away what the runtime does not know of, and only its own network's.
#[test]
fn garbage_is_collected() {
    let site = Site::with_networks(["front"]);
    let cni = Cni::new(&site.host, "pods", "1.1.0", &[ours()]);
    let other = Cni::new(&site.host, "others", "1.1.0", &[json!({"type": "spandrel-cni", "network": "front"})]);
    let nets = ["a", "b", "c", "d"].map(|name| site.host.add_netns(name));
    let mut pods = ["a", "b", "c"].map(|name| CniAttachment::new(&format!("pod-{name}"), name));
    let [a, b, c] = &mut pods;
    cni.add(a).unwrap();
    cni.add(b).unwrap();
    other.add(c).unwrap();
    site.host.spandrel("attach d --network pods").ok();
    cni.gc(&[b]).unwrap();
    let left = site.host.api("/spandrel/attachments");
    let left: Vec<_> = left.as_array().unwrap().iter().map(|attachment| attachment["ID"].clone()).collect();
    assert_eq!(left, ["d", "pod-b", "pod-c"]);
    assert_eq!(nets[0].links().len(), 1);
    cni.check(b).unwrap();
    cni.gc(&[]).unwrap();
    other.check(c).unwrap();
}

/// CHECK finds what somebody has broken, in one sentence.
#[test]
fn check_finds_what_is_broken() {
    let site = Site::new();
    let cni = Cni::new(&site.host, "pods", "1.0.0", &[ours()]);
    let net = site.host.add_netns("web");
    let mut web = CniAttachment::new("pod-web", "web");
    let address = ips(&cni.add(&mut web).unwrap(), "/run/netns/web")[0];
    cni.check(&web).unwrap();
    let broken = |words: &[&str]| {
        let error = cni.check(&web).unwrap_err();
        assert_eq!(error["code"], 102, "{error}");
        for word in words {
            assert!(error["msg"].as_str().unwrap().contains(word), "{word}: {error}");
        }
    };
    net.remove_address("eth0", address, 24);
    broken(&["has no address", &address.to_string(), "default route via 10.40.0.1 is missing"]);
    net.set_down("eth0");
    broken(&["eth0 is switched off in the namespace"]);
    let forged = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/web"}],
        "ips": [{"address": "10.40.0.99/24", "interface": 0}], "dns": {}});
    let error = cni.check(&CniAttachment { result: Some(forged), ..web.clone() }).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("was given 10.40.0.99/24"), "{error}");
    cni.del(&web).unwrap();
    let error = cni.check(&web).unwrap_err();
    assert_eq!(error["code"], 3, "{error}");
}

/// Every error has the specification's code and one sentence, and leaves nothing behind.
#[test]
fn errors_have_codes() {
    let mut site = Site::with_networks(["front"]);
    let _taken = site.host.run_container("--name taken --network front -p 8080:80 --ip 172.18.0.9");
    site.host.add_netns("web");
    let on_front = json!({"type": "spandrel-cni", "network": "front", "capabilities": {"portMappings": true, "ips": true, "bandwidth": true}});
    let cni = Cni::new(&site.host, "pods", "1.1.0", std::slice::from_ref(&on_front));
    let web = CniAttachment::new("pod-web", "web");
    let before = site.host.state();
    let refused = |attachment: CniAttachment, code: u32, words: &str| {
        let error = cni.call("ADD", &on_front, &attachment, None, &json!({})).unwrap_err();
        assert_eq!((&error["code"], &error["cniVersion"]), (&json!(code), &json!("1.1.0")), "{error}");
        let sentence = error["msg"].as_str().unwrap();
        assert!(sentence.contains(words) && !sentence.contains('\n'), "{words}: {error}");
        site.host.state().assert_same_as(&before);
    };
    refused(CniAttachment::new("pod-web", "nowhere"), 8, "/run/netns/nowhere is not a network namespace");
    refused(CniAttachment { interface: "lo".into(), ..web.clone() }, 100, "interface lo exists already");
    refused(CniAttachment { interface: "a/b".into(), ..web.clone() }, 4, "CNI_IFNAME");
    refused(CniAttachment { container: "a b".into(), ..web.clone() }, 4, "CNI_CONTAINERID");
    refused(CniAttachment { args: "IP".into(), ..web.clone() }, 4, "CNI_ARGS");
    let wishing = |wishes: Value| web.clone().wishing(wishes);
    refused(
        wishing(json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}]})),
        100,
        "allocated by container taken",
    );
    refused(wishing(json!({"ips": ["172.18.0.9"]})), 100, "172.18.0.9 belongs to container taken");
    refused(wishing(json!({"ips": ["192.0.2.1"]})), 7, "192.0.2.1");
    refused(wishing(json!({"ips": ["ten"]})), 7, "invalid address \"ten\"");
    refused(wishing(json!({"bandwidth": {"ingressRate": 10}})), 7, "10 bits per second are too few");
    refused(wishing(json!({"ips": ["172.18.0.7", "172.18.0.8"]})), 7, "one address of a family, not both 172.18.0.7");

    let run = |verb: &str, config: &str| cni.run(verb, "spandrel-cni", &web, config).unwrap_err();
    assert_eq!(run("ADD", "{")["code"], 6);
    assert_eq!(run("ADD", r#"{"cniVersion": "0.2.0", "name": "pods"}"#)["code"], 1);
    assert_eq!(run("ADD", r#"{"cniVersion": "1.0.0", "name": "no name"}"#)["code"], 7);
    assert_eq!(run("FLY", r#"{"cniVersion": "1.0.0", "name": "pods"}"#)["code"], 4);
    let chained = r#"{"cniVersion": "1.0.0", "name": "pods", "ipam": {"type": "no-such-plugin"}}"#;
    assert_eq!(run("ADD", chained)["code"], 7);
    for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        let error = run(verb, &json!({"cniVersion": version, "name": "pods"}).to_string());
        assert_eq!((&error["code"], &error["cniVersion"]), (&json!(1), &json!(version)), "{error}");
    }
    let elsewhere = json!({"cniVersion": "1.0.0", "name": "front", "ipam": {"subnet": "10.99.0.0/24"}}).to_string();
    let error = run("ADD", &elsewhere);
    assert!(
        error["code"] == 7 && error["msg"].as_str().unwrap().contains("has not the subnet 10.99.0.0/24"),
        "{error}"
    );
    site.host.state().assert_same_as(&before);

    // One interface of a name, and twice is an error.
    let mut first = web.clone();
    cni.add(&mut first).unwrap();
    let error = cni.call("ADD", &on_front, &web, None, &json!({})).unwrap_err();
    assert_eq!(error["code"], 100, "{error}");
    cni.check(&first).unwrap();
    // A container of another namespace is another one.
    site.host.add_netns("second");
    let elsewhere = CniAttachment { netns: "/run/netns/second".into(), interface: "eth1".into(), ..web.clone() };
    let error = cni.call("ADD", &on_front, &elsewhere, None, &json!({})).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("is in the network namespace /run/netns/web"), "{error}");

    cni.status().unwrap();
    let version = cni.version().unwrap();
    assert_eq!(version, json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS}));
    site.agent.stop();
    let error = cni.status().unwrap_err();
    assert!(error["code"] == 50 && error["msg"].as_str().unwrap().contains("is it running?"), "{error}");
    for error in [cni.call("ADD", &on_front, &web, None, &json!({})).unwrap_err(), cni.del(&first).unwrap_err()] {
        assert!(error["code"] == 11 && error["msg"].as_str().unwrap().contains("cannot reach the agent"), "{error}");
    }
    // The runtime tries again, and that is enough.
    site.agent = site.host.agent();
    cni.check(&first).unwrap();
    cni.del(&first).unwrap();
}

/// Ranges as host-local writes them, and routes besides the default routes.
#[test]
fn ranges_and_routes() {
    let site = Site::new();
    let plugin = |ranges: Value| {
        json!({
            "type": "spandrel-cni",
            "ipam": {
                "ranges": ranges,
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16"}, {"dst": "10.8.0.0/16", "gw": "10.40.0.9"}],
            },
        })
    };
    let narrow = plugin(json!([[{"subnet": "10.40.0.0/24", "rangeStart": "10.40.0.50", "rangeEnd": "10.40.0.51"}]]));
    let cni = Cni::new(&site.host, "pods", "1.1.0", &[narrow]);
    let nets = ["a", "b", "c"].map(|name| site.host.add_netns(name));
    let mut pods = ["a", "b", "c"].map(|name| CniAttachment::new(&format!("pod-{name}"), name));
    let [a, b, c] = &mut pods;
    let result = cni.add(a).unwrap();
    assert_eq!(ips(&result, "/run/netns/a"), ["10.40.0.50".parse::<IpAddr>().unwrap()]);
    let routes = json!([
        {"dst": "0.0.0.0/0", "gw": "10.40.0.1"}, {"dst": "10.9.0.0/16", "gw": "10.40.0.1"}, {"dst": "10.8.0.0/16", "gw": "10.40.0.9"},
    ]);
    assert_eq!(result["routes"], routes);
    let there = nets[0].routes().join("\n");
    assert!(there.contains("10.9.0.0/16") && there.contains("10.8.0.0/16"), "{there}");
    cni.add(b).unwrap();
    let error = cni.add(c).unwrap_err();
    assert!(error["code"] == 100 && error["msg"].as_str().unwrap().contains("no available IPv4 addresses"), "{error}");
    cni.check(a).unwrap();
    nets[0].remove_address("eth0", "10.40.0.50".parse().unwrap(), 24);
    let error = cni.check(a).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("the route to 10.9.0.0/16 via 10.40.0.1 is missing"), "{error}");
    // A next hop that is nowhere near, and a range that is none.
    let error = |ipam: Value| {
        let config = json!({"cniVersion": "1.1.0", "name": "others", "type": "spandrel-cni", "ipam": ipam}).to_string();
        cni.run("ADD", "spandrel-cni", c, &config).unwrap_err()
    };
    let far = error(json!({"subnet": "10.42.0.0/24", "routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.9"}]}));
    assert!(far["code"] == 7 && far["msg"].as_str().unwrap().contains("192.0.2.9 is in no subnet"), "{far}");
    let wrong = error(json!({"subnet": "10.42.0.0/24", "rangeStart": "10.42.0.9", "rangeEnd": "10.42.0.8"}));
    assert!(wrong["code"] == 7 && wrong["msg"].as_str().unwrap().contains("in this order"), "{wrong}");
}

/// An interface on a macvlan network that is there already; what such a network cannot do is refused.
#[test]
fn on_a_macvlan_network() {
    let site = Site::new();
    let (parent, outside) = (&site.uplink.name, site.uplink.outside(V4));
    let IpAddr::V4(router) = outside else { panic!("an IPv4 address") };
    let [a, b, c, _] = router.octets();
    let subnet = format!("--subnet {a}.{b}.{c}.0/24 --gateway {router} --ip-range {a}.{b}.{c}.128/25");
    site.host.create_network(&format!("-d macvlan -o parent={parent} {subnet} lan"));
    let lan =
        json!({"type": "spandrel-cni", "network": "lan", "capabilities": {"bandwidth": true, "portMappings": true}});
    let cni = Cni::new(&site.host, "pods", "1.1.0", &[lan]);
    let net = site.host.add_netns("web");
    let before = site.host.state();
    let mut web = CniAttachment::new("pod-web", "web");
    let result = cni.add(&mut web).unwrap();
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 1, "none of it is on the host: {result}");
    let own = ips(&result, "/run/netns/web")[0];
    net.ping(outside).expect("the router on the wire");
    let _server = net.tcp_listen(V4.any(), 80);
    site.internet.tcp_connect(own, 80).expect("it is a machine on the wire");
    cni.check(&web).unwrap();
    cni.del(&web).unwrap();
    assert_eq!(net.links().len(), 1);
    let wishes = json!({"bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 1000}});
    let error = cni.add(&mut CniAttachment::new("pod-web", "web").wishing(wishes)).unwrap_err();
    assert!(error["code"] == 7 && error["msg"].as_str().unwrap().contains("it is a macvlan network"), "{error}");
    // By hand the same.
    site.host.spandrel("attach web --network lan").ok();
    net.ping(outside).expect("the router on the wire");
    site.host.spandrel("detach web").ok();
    site.host.state().assert_same_as(&before);
}

/// Stands between plugin and agent, and may do something about what is asked.
fn relay(host: &Host, socket: &str, edit: impl Fn(String) -> String + Send + Sync + 'static) {
    let (listener, agent) = (UnixListener::bind(host.path(socket)).unwrap(), host.path("/run/spandrel/spandrel.sock"));
    let edit = Arc::new(edit);
    // It ends with the test's process.
    thread::spawn(move || {
        for plugin in listener.incoming() {
            let (mut plugin, mut to_agent) = (plugin.unwrap(), UnixStream::connect(&agent).unwrap());
            let (mut back, mut from_agent) = (plugin.try_clone().unwrap(), to_agent.try_clone().unwrap());
            let edit = Arc::clone(&edit);
            thread::spawn(move || io::copy(&mut from_agent, &mut back));
            thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = plugin.read(&mut buffer) {
                    let asked = edit(String::from_utf8_lossy(&buffer[..length]).into_owned());
                    to_agent.write_all(asked.as_bytes()).unwrap();
                }
            });
        }
    });
}

/// An agent that does not know what the plugin asks for says so in the runtime's display.
#[test]
fn an_agent_older_than_the_plugin() {
    let site = Site::new();
    relay(&site.host, "/run/older.sock", |asked| asked.replace("/spandrel/attachments", "/spandrel/not-yet-there"));
    let older = json!({"type": "spandrel-cni", "socket": "/run/older.sock"});
    let cni = Cni::new(&site.host, "pods", "1.1.0", std::slice::from_ref(&older));
    site.host.add_netns("web");
    let web = CniAttachment::new("pod-web", "web");
    for verb in ["ADD", "DEL"] {
        let error = cni.call(verb, &older, &web, None, &json!({})).unwrap_err();
        assert_eq!(error["code"], 101, "{verb}: {error}");
        assert_eq!(error["msg"], "the agent is older than this plugin: restart it with this version");
    }
}

/// A network that is removed behind the runtime's back is made again at the next ADD, even if that happens during it; what was taken away from
/// a container is found by CHECK.
#[test]
fn a_network_that_somebody_removes() {
    let site = Site::new();
    let removals = Arc::new(AtomicUsize::new(1));
    let (left, agent) = (Arc::clone(&removals), site.host.path("/run/spandrel/spandrel.sock"));
    relay(&site.host, "/run/relay.sock", move |asked| {
        let one_less = |left: usize| left.checked_sub(1);
        if asked.starts_with("POST /spandrel/attachments")
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
        {
            let mut stream = UnixStream::connect(&agent).unwrap();
            stream.write_all(b"DELETE /networks/pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
        asked
    });
    let plugin = Value::Object(
        ours().as_object().unwrap().clone().into_iter().chain([("socket".into(), json!("/run/relay.sock"))]).collect(),
    );
    let cni = Cni::new(&site.host, "pods", "1.1.0", std::slice::from_ref(&plugin));
    let net = site.host.add_netns("web");
    let mut web = CniAttachment::new("pod-web", "web");
    cni.add(&mut web).unwrap();
    assert_eq!(removals.load(Ordering::SeqCst), 0, "it was removed once");
    cni.check(&web).unwrap();
    site.host.spandrel("network rm pods").assert_sentence(1, &["pods", "active endpoints"]);
    cni.del(&web).unwrap();
    site.host.spandrel("network rm pods").ok();
    // Again and again: the runtime is to come back.
    removals.store(usize::MAX, Ordering::SeqCst);
    let error = cni.call("ADD", &plugin, &web, None, &json!({})).unwrap_err();
    assert!(error["code"] == 11 && error["msg"].as_str().unwrap().contains("network pods not found"), "{error}");
    removals.store(0, Ordering::SeqCst);
    cni.add(&mut web).unwrap();
    // Taken off its network by hand.
    site.host.spandrel("detach pod-web").ok();
    let error = cni.check(&web).unwrap_err();
    assert!(error["code"] == 3 && error["msg"].as_str().unwrap().contains("pod-web"), "{error}");
    cni.del(&web).unwrap();
    assert_eq!(net.links().len(), 1);
}

/// Runtime and agent agree again after a crash on either side.
#[test]
fn after_a_crash_on_either_side() {
    let mut site = Site::new();
    let cni = Cni::new(&site.host, "pods", "1.1.0", &[ours()]);
    let nets = ["a", "b"].map(|name| site.host.add_netns(name));
    let mappings = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}]});
    let mut a = CniAttachment::new("pod-a", "a").wishing(mappings.clone());
    let mut b = CniAttachment::new("pod-b", "b");
    cni.add(&mut a).unwrap();
    cni.add(&mut b).unwrap();
    // The agent: its next one knows them still.
    site.agent.kill();
    site.agent = site.host.agent();
    cni.check(&a).unwrap();
    cni.check(&b).unwrap();
    // The runtime, with a namespace of its own, while no agent looks.
    site.agent.kill();
    let [net, _] = nets;
    drop(net);
    site.host.delete_netns("a");
    site.agent = site.host.agent();
    let error = cni.check(&a).unwrap_err();
    assert_eq!(error["code"], 3, "{error}");
    let net = site.host.add_netns("a");
    let mut next = CniAttachment::new("pod-next", "a").wishing(mappings);
    cni.add(&mut next).expect("the port is free again");
    let _server = net.tcp_listen(V4.any(), 80);
    site.internet.tcp_connect(site.public(V4), 8080).expect("the next one's port");
    // A late DEL of the old one does not harm the new one.
    cni.del(&a).unwrap();
    cni.check(&next).unwrap();
    site.internet.tcp_connect(site.public(V4), 8080).expect("the next one's port still");
}

/// By hand it says what it is, and the command does the same as the name.
#[test]
fn by_hand() {
    let lab = Lab::new();
    let host = lab.host("host");
    let mut command = host.program("cni");
    command.env_remove("CNI_COMMAND");
    let output = host.output(command);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.starts_with("CNI spandrel-cni plugin v"), "{output:?}");
    assert!(output.stderr.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{output:?}");
    let mut command = host.program("cni");
    command.env("CNI_COMMAND", "VERSION");
    let version = host.output(command).json();
    assert_eq!(version["supportedVersions"], json!(VERSIONS));
}
