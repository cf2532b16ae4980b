//! The tutorial of SEMANTICS §6, as far as it is about networks, addresses, isolation, ports and the way out.

use std::net::IpAddr;

use spandrel_tests::*;

/// Step 1: the predefined networks are listed, and a network with a subnet and gateway of one's own can be made.
#[test]
fn step_1_networks_are_listed_and_made() {
    let site = Site::new();
    let driver = |name: &str| {
        let networks = site.host.spandrel("network ls --format json").json_lines();
        let network = networks.into_iter().find(|network| network["Name"] == name)?;
        network["Driver"].as_str().map(String::from)
    };
    for (name, expected) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        assert_eq!(driver(name).as_deref(), Some(expected), "{name}");
    }

    let id = site.host.spandrel("network create --subnet 10.0.0.0/24 --gateway 10.0.0.1 second-bridge").ok();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(driver("second-bridge").as_deref(), Some("bridge"));
    let table = site.host.spandrel("network ls").ok();
    let line = table.lines().find(|line| line.contains("second-bridge")).expect("a line in the table");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [&id[..12], "second-bridge", "bridge", "local"]);

    let details = site.host.spandrel("network inspect second-bridge").json();
    assert_eq!(details[0]["Id"], id);
    assert_eq!(details[0]["IPAM"]["Config"][0]["Subnet"], "10.0.0.0/24");
    assert_eq!(details[0]["IPAM"]["Config"][0]["Gateway"], "10.0.0.1");
}

/// Step 1 for IPv6: a network with both families has a /64 of the host's own /48 unless told otherwise.
#[test]
fn step_1_networks_have_ipv6_when_asked() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.0.0.0/24 --subnet fd00:a::/64 --gateway fd00:a::1 given");
    site.host.create_network("--ipv6 chosen");
    assert_eq!(site.host.gateway("given", V6), "fd00:a::1".parse::<IpAddr>().unwrap());
    let details = site.host.spandrel("network inspect chosen").json();
    let subnets: Vec<_> =
        details[0]["IPAM"]["Config"].as_array().unwrap().iter().map(|config| &config["Subnet"]).collect();
    let chosen = |end: &str| subnets.iter().any(|subnet| subnet.as_str().is_some_and(|subnet| subnet.ends_with(end)));
    assert!(subnets.len() == 2 && chosen("::/64") && chosen("/16"), "{subnets:?}");
    assert!(site.host.gateway("chosen", V6).to_string().starts_with("fd"));
}

/// Step 2: containers on one network get consecutive addresses, and `inspect` shows all there is to know.
#[test]
fn step_2_containers_get_addresses() {
    let site = Site::new();
    let a = site.host.run_container("--name ubuntuA");
    let b = site.host.run_container("--name ubuntuB");
    site.host.create_network("--ipv6 --subnet 10.0.0.0/24 --gateway 10.0.0.1 --subnet fd00:a::/64 second-bridge");
    let c = site.host.run_container("--name ubuntuC --network second-bridge");

    let last = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(_) => panic!("{ip} is not IPv4"),
    };
    assert_eq!(last(b.ip(V4)), last(a.ip(V4)) + 1);
    assert_eq!(last(a.ip(V4)), last(site.host.gateway("bridge", V4)) + 1);

    let endpoint = c.endpoint("second-bridge");
    assert_eq!(endpoint["IPAddress"], "10.0.0.2");
    assert_eq!(endpoint["IPPrefixLen"], 24);
    assert_eq!(endpoint["Gateway"], "10.0.0.1");
    assert_eq!(endpoint["GlobalIPv6Address"], "fd00:a::2");
    assert_eq!(endpoint["GlobalIPv6PrefixLen"], 64);
    assert_eq!(endpoint["IPv6Gateway"], "fd00:a::1");
    // What is shown is what the container has: locally administered, unicast.
    let mac = c.mac_on("second-bridge");
    assert_eq!(mac, c.link("eth0").mac);
    assert_eq!(mac[0] & 3, 2, "{mac:x?}");
    let addresses: Vec<_> = c.addresses().into_iter().map(|(_, address, _)| address).collect();
    assert!(addresses.contains(&c.ip(V4)) && addresses.contains(&c.ip(V6)), "{addresses:?}");

    let details = site.host.spandrel("network inspect second-bridge").json();
    let shown = &details[0]["Containers"][&c.id];
    assert_eq!(shown["Name"], "ubuntuC");
    assert_eq!(shown["IPv4Address"], "10.0.0.2/24");
    assert_eq!(shown["IPv6Address"], "fd00:a::2/64");

    // The predefined network has no IPv6, and so its containers have none.
    assert!(a.addresses().iter().all(|(_, address, _)| address.is_ipv4() || address.is_loopback()));
}

/// Step 3: B pings A; B cannot ping C, and C cannot ping A; the host pings all three.
#[test]
fn step_3_networks_are_apart() {
    let site = Site::with_networks(["first-bridge", "second-bridge"]);
    let a = site.host.run_container("--name ubuntuA --network first-bridge");
    let b = site.host.run_container("--name ubuntuB --network first-bridge");
    let c = site.host.run_container("--name ubuntuC --network second-bridge");
    for family in Family::BOTH {
        b.ping(a.ip(family)).expect("B pings A");
        assert_silent(b.briefly().ping(c.ip(family)));
        assert_silent(c.briefly().ping(a.ip(family)));
        for container in [&a, &b, &c] {
            site.host.ping(container.ip(family)).expect("the host pings all");
        }
    }
}

/// Step 6: a published port is reached from outside, from the host by its own address, and by 127.0.0.1 and ::1; a
/// second one with the same number is refused; a container that publishes nothing is reached from its own network only.
#[test]
fn step_6_ports_are_published() {
    let site = Site::with_networks(["front"]);
    let web = site.host.run_container("--name web --network front -p 8080:80");
    let database = site.host.run_container("--name db --network front");
    for family in Family::BOTH {
        let _server = web.tcp_listen(family.any(), 80);
        for (from, address) in
            [(&*site.internet, site.public(family)), (&site.host, site.public(family)), (&site.host, family.loopback())]
        {
            let mut link = from.tcp_connect(address, 8080).unwrap_or_else(|error| {
                panic!("{} cannot reach the published port on {address}: {error}", from.name());
            });
            link.echo("over the published port").expect("an echo");
        }

        let _server = database.tcp_listen(family.any(), 5432);
        web.tcp_connect(database.ip(family), 5432).expect("its own network reaches the database");
        assert!(site.internet.briefly().tcp_connect(site.public(family), 5432).is_err());
        assert!(site.host.briefly().tcp_connect(family.loopback(), 5432).is_err());
    }

    assert_eq!(site.host.spandrel("port web").ok(), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
    let refused = site.host.spandrel("run -d --name other --network front -p 8080:80 sleep infinity");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("8080") && refused.stderr.contains("port is already allocated"), "{refused:?}");
    // The port is free the moment the container stops.
    site.host.spandrel("stop -t 0 web").ok();
    site.host.run_container("--name other --network front -p 8080:80");
}

/// Step 8: inside a container an outside name resolves and an outside server answers, which sees the host's address.
#[test]
fn step_8_a_container_reaches_the_outside() {
    let site = Site::new();
    let names = Family::BOTH.map(|family| ("www.example.test", Site::far(family)));
    let _names = site.internet.name_server(Site::far(V4), &names);
    site.host.create_network("--ipv6 front");
    let container = site.host.run_container("--name ubuntuA --network front");

    for (family, database) in [(V4, "ahostsv4"), (V6, "ahostsv6")] {
        let found = container.exec(&["getent", database, "www.example.test"]).ok();
        let address: IpAddr = found.split_whitespace().next().and_then(|word| word.parse().ok()).expect(&found);
        assert_eq!(address, Site::far(family));

        let server = site.internet.tcp_listen(address, 80);
        let mut link = container.tcp_connect(address, server.port()).expect("the outside server answers");
        assert_eq!(link.seen_as.ip(), site.public(family));
        link.echo("GET / HTTP/1.0").expect("an echo");
        container.ping(address).expect("ICMP echo is masqueraded, too");
    }
    assert_eq!(site.host.packet_filters(), Vec::<String>::new());
}

/// Step 9: `rm -f` of containers and `network rm` leave nothing behind: no veth, no namespace, no map entry.
#[test]
fn step_9_nothing_is_left() {
    let site = Site::new();
    let before = site.host.state();
    site.host.create_network("--subnet 10.0.0.0/24 --ipv6 second-bridge");
    let a = site.host.run_container("--name ubuntuA -p 8080:80");
    let c = site.host.run_container("--name ubuntuC --network second-bridge -p 8443:443 -p 53:53/udp");
    // Some traffic, so that there are flows to be forgotten.
    for (container, port, family) in [(&a, 80, V4), (&c, 443, V4), (&c, 443, V6)] {
        let _server = container.tcp_listen(family.any(), port);
        let published = if port == 80 { 8080 } else { 8443 };
        site.internet.tcp_connect(site.public(family), published).expect("the published port answers");
        site.host.tcp_connect(family.loopback(), published).expect("the published port answers on loopback");
        container.ping(Site::far(family)).expect("the outside answers");
    }
    assert_silent(a.briefly().ping(c.ip(V4)));
    for map in ["FLOWS4", "SOCKET_PEERS"] {
        assert!(site.host.map_entries(map) > 0, "there was nothing in {map} to be forgotten");
    }
    assert!(!site.host.traces().lines("link veth").is_empty());

    assert_eq!(site.host.spandrel("rm -f ubuntuA ubuntuC").ok(), "ubuntuA\nubuntuC");
    assert_eq!(site.host.spandrel("network rm second-bridge").ok(), "second-bridge");
    site.host.state().assert_same_as(&before);
    assert_eq!(site.host.processes().len(), 1, "only the agent runs: {:?}", site.host.processes());
    let emptied = |map: &str| within(PATIENCE * 3, || (site.host.map_entries(map) == 0).then_some(())).is_some();
    for map in ["FLOWS4", "FLOWS6", "FLOW_COUNTS", "SOCKET_PEERS"] {
        assert!(emptied(map), "{map} still holds {} entries", site.host.map_entries(map));
    }
}
