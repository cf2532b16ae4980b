//! Container runtimes from Debian that call the CNI plugin: Podman 4 with its CNI back end, and containerd. With each of them SEMANTICS §1,
//! rows 1, 9 and 14.

use std::net::IpAddr;
use std::os::unix::fs::symlink;

use hickory_proto::rr::RecordType;
use serde_json::json;
use spandrel_tests::*;

/// The release of Debian that has the last Podman with CNI.
const RELEASE: &str = "bookworm";

/// Where runtimes look for plugins: all of them, and those of Debian.
const PLUGINS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// The page that tells how runtimes are configured.
const PAGE: &str = include_str!("../../docs/cni.md");

/// A host on that release and the internet behind it, with the plugin and the configuration that `docs/cni.md` has.
#[track_caller]
fn site() -> Site {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let uplink = lab.uplink(&host, &internet);
    internet.add_address("lo", Site::far(V4), 32);
    internet.add_address("lo", Site::far(V6), 128);
    host.become_debian(RELEASE);
    host.write("/etc/resolv.conf", &format!("nameserver {}\n", Site::far(V4)));
    host.make_folder("/etc/cni/net.d");
    for folder in PLUGINS {
        host.make_folder(folder);
        symlink(host.program("").get_program(), host.path(folder).join("spandrel-cni")).expect("the plugin's link");
    }
    host.write("/etc/cni/net.d/10-pods.conflist", block("json"));
    Site { agent: host.agent(), host, internet, uplink }
}

/// The first block of that language in the page.
#[track_caller]
fn block(language: &str) -> &'static str {
    let block = PAGE.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("docs/cni.md has no {language}"))
}

/// The addresses of an interface `eth0`, without those of the link.
fn addresses(net: &Net) -> Vec<IpAddr> {
    let index = net.link("eth0").index;
    let of = net.addresses().into_iter().filter(|(link, ..)| *link == index).map(|(_, address, _)| address);
    of.filter(|address| !address.to_string().starts_with("fe80:")).collect()
}

/// How many interfaces are attached.
fn attached(site: &Site) -> usize {
    site.host.api("/spandrel/attachments").as_array().map_or(0, Vec::len)
}

/// Podman's CNI back end.
#[test]
fn podman_with_cni() {
    let mut site = site();
    let podman = site.host.podman_with_cni(block("ini"));
    let listed = podman.client("network ls --format {{.Name}}").ok();
    assert!(listed.lines().any(|name| name == "pods"), "{listed}");
    let web = podman.run("web", &format!("--network pods:ip=10.40.0.77,mac=02:00:00:00:00:77,alias=shop {PUBLISH}"));
    let client = podman.run("client", "--network pods");
    let (own, other) = (addresses(&web), addresses(&client));
    assert_eq!((own.len(), other.len()), (2, 2));
    assert_eq!((own[0], web.link("eth0").mac), ("10.40.0.77".parse().unwrap(), [2, 0, 0, 0, 0, 0x77]));
    for (index, family) in Family::BOTH.into_iter().enumerate() {
        let services = web.serve(family.any());
        services.assert_reached(&client, own[index], other[index]);
        services.assert_reached_at(&site.internet, site.public(family), PUBLISHED, site.uplink.outside(family));
        client.ping(Site::far(family)).expect("the outside");
    }
    let shown = podman.client("inspect web").json();
    assert_eq!(shown[0]["NetworkSettings"]["Networks"]["pods"]["IPAddress"], json!("10.40.0.77"));
    for name in ["web", "shop"] {
        assert_eq!(client.addresses_of(name, RecordType::A), [own[0]], "{name}");
    }
    let looked_up = podman.client("exec client nslookup web").ok();
    assert!(looked_up.contains("10.40.0.77"), "{looked_up}");
    podman.client("network reload web").ok();
    assert_eq!(addresses(&web)[0], own[0]);

    // What goes wrong is told in Podman's own words.
    let said = podman.refused("twin", "--network pods -p 8080:80");
    assert!(said.contains("Bind for 0.0.0.0:8080 failed: port is already allocated by container web"), "{said}");
    site.agent.kill();
    let said = podman.refused("late", "--network pods");
    assert!(said.contains("cannot reach the agent at /run/spandrel/spandrel.sock: is it running?"), "{said}");
    site.agent = site.host.agent();

    podman.client("restart -t 0 web").ok();
    let web = podman.net("web");
    let services = web.serve(V4.any());
    services.assert_reached_at(&site.internet, site.public(V4), PUBLISHED, site.uplink.outside(V4));
    drop((services, web, client));
    podman.client("rm -f -t 0 web client twin late").ok();
    assert_eq!(attached(&site), 0);
    site.internet.briefly().tcp_connect(site.public(V4), PUBLISHED.0).expect_err("the port is closed");
}

/// containerd by its own command line, which knows no published ports; our own publishes them.
#[test]
fn containerd_by_ctr() {
    let site = site();
    site.host.podman_with_cni(block("ini"));
    let containerd = site.host.containerd(block("toml"));
    let (web, client) = (containerd.run("web", "--cni"), containerd.run("client", "--cni"));
    let (own, other) = (addresses(&web.net), addresses(&client.net));
    assert_eq!((own.len(), other.len()), (2, 2));
    site.host.spandrel("publish default-web 8080:80 5353:53/udp").ok();
    for (index, family) in Family::BOTH.into_iter().enumerate() {
        let services = web.net.serve(family.any());
        services.assert_reached(&client.net, own[index], other[index]);
        services.assert_reached_at(&site.internet, site.public(family), PUBLISHED, site.uplink.outside(family));
        client.net.ping(Site::far(family)).expect("the outside");
    }
    assert_eq!(client.net.addresses_of("default-web", RecordType::A), [own[0]]);
    web.remove();
    client.remove();
    assert_eq!(attached(&site), 0);
    site.internet.briefly().tcp_connect(site.public(V4), PUBLISHED.0).expect_err("the port is closed");
}

/// containerd as a kubelet drives it.
#[test]
fn containerd_by_cri() {
    let mut site = site();
    site.host.podman_with_cni(block("ini"));
    let containerd = site.host.containerd(block("toml"));
    let cri = containerd.cri();
    let conditions = cri.conditions().unwrap();
    assert!(conditions.iter().any(|said| said.kind == "NetworkReady" && said.is_so), "{conditions:?}");
    let ports = [(0, 80, 8080), (1, 53, 5353)].map(|(protocol, container_port, host_port)| PodPort {
        protocol,
        container_port,
        host_port,
        host_ip: String::new(),
    });
    let (web, client) = (cri.run_pod("web", &ports).unwrap(), cri.run_pod("client", &[]).unwrap());
    let (web_net, client_net) = (containerd.pod(&web), containerd.pod(&client));
    let (own, other) = (addresses(&web_net), addresses(&client_net));
    let mut told: Vec<IpAddr> = cri.addresses(&web).unwrap().iter().map(|ip| ip.parse().unwrap()).collect();
    told.sort();
    assert_eq!(told, own);
    for (index, family) in Family::BOTH.into_iter().enumerate() {
        let services = web_net.serve(family.any());
        services.assert_reached(&client_net, own[index], other[index]);
        services.assert_reached_at(&site.internet, site.public(family), PUBLISHED, site.uplink.outside(family));
        client_net.ping(Site::far(family)).expect("the outside");
    }
    // The pod's name is the container's, also on the network.
    assert_eq!(client_net.addresses_of("web", RecordType::A), [own[0]]);
    let listed = site.host.spandrel("ps --format {{.Names}}").ok();
    assert_eq!(listed.lines().collect::<std::collections::BTreeSet<_>>(), ["client", "web"].into());

    // What goes wrong is told in containerd's own words.
    let refused = cri.run_pod("twin", &ports).unwrap_err();
    assert!(refused.contains("Bind for 0.0.0.0:8080 failed: port is already allocated by container web"), "{refused}");
    site.agent.kill();
    let refused = cri.run_pod("late", &[]).unwrap_err();
    assert!(refused.contains("cannot reach the agent at /run/spandrel/spandrel.sock: is it running?"), "{refused}");
    site.agent = site.host.agent();

    drop((web_net, client_net));
    for pod in [web, client] {
        cri.stop_pod(&pod).unwrap();
        cri.stop_pod(&pod).unwrap();
        cri.remove_pod(&pod).unwrap();
    }
    assert_eq!(attached(&site), 0);
    site.internet.briefly().tcp_connect(site.public(V4), PUBLISHED.0).expect_err("the port is closed");
}
