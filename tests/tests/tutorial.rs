//! The tutorial of SEMANTICS §6, all of it. Every step is played twice, each time on a host of its own: with `spandrel`, and with the
//! real `docker` command line for everything that it can do without images.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use spandrel_tests::*;

/// What is typed for commands that both have: `network`, `ps`, `port`, `inspect`, `stop`, `rm`.
#[derive(Clone, Copy, Debug)]
enum Typed {
    Spandrel,
    Docker,
}

impl Typed {
    /// Runs a command line on the host, such as `network ls`.
    #[track_caller]
    fn run(self, host: &Host, line: &(impl Words + ?Sized)) -> Output {
        match self {
            Typed::Spandrel => host.spandrel(line),
            Typed::Docker => host.docker_cli(line),
        }
    }

    /// The format that is one JSON object a line; old clients of Docker have no word for it.
    fn json(self) -> &'static str {
        match self {
            Typed::Spandrel => "json",
            Typed::Docker => "{{json .}}",
        }
    }

    /// Makes a network with these arguments of `network create`.
    #[track_caller]
    fn create_network(self, host: &Host, arguments: &str) {
        self.run(host, &format!("network create {arguments}")).ok();
    }
}

/// Plays a step with both command lines.
fn play(step: fn(&Site, Typed)) {
    for typed in [Typed::Spandrel, Typed::Docker] {
        println!("playing it with {typed:?}");
        step(&Site::new(), typed);
    }
}

/// The name server of the outside, which the host asks.
#[track_caller]
fn outside(site: &Site) -> NameServer {
    site.internet.name_server(Site::far(V4), &Family::BOTH.map(|family| ("www.example.test", Site::far(family))))
}

fn record(family: Family) -> RecordType {
    if family == V4 { RecordType::A } else { RecordType::AAAA }
}

/// Step 1: the predefined networks are listed, and a network with a subnet and gateway of one's own can be made.
#[test]
fn step_1_networks_are_listed_and_made() {
    play(|site, typed| {
        let driver = |name: &str| {
            let networks = typed.run(&site.host, &["network", "ls", "--format", typed.json()]).json_lines();
            let network = networks.into_iter().find(|network| network["Name"] == name)?;
            network["Driver"].as_str().map(String::from)
        };
        for (name, expected) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
            assert_eq!(driver(name).as_deref(), Some(expected), "{name}");
        }

        let id = typed
            .run(&site.host, "network create --driver bridge --subnet 10.0.0.0/24 --gateway 10.0.0.1 second-bridge")
            .ok();
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!(driver("second-bridge").as_deref(), Some("bridge"));
        let table = typed.run(&site.host, "network ls").ok();
        let line = table.lines().find(|line| line.contains("second-bridge")).expect("a line in the table");
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [&id[..12], "second-bridge", "bridge", "local"]);

        let details = typed.run(&site.host, "network inspect second-bridge").json();
        assert_eq!(details[0]["Id"], id);
        assert_eq!(details[0]["IPAM"]["Config"][0]["Subnet"], "10.0.0.0/24");
        assert_eq!(details[0]["IPAM"]["Config"][0]["Gateway"], "10.0.0.1");
    });
}

/// Step 1 for IPv6: a network with both families has a /64 of the host's own /48 unless told otherwise.
#[test]
fn step_1_networks_have_ipv6_when_asked() {
    play(|site, typed| {
        typed.create_network(&site.host, "--ipv6 --subnet 10.0.0.0/24 --subnet fd00:a::/64 --gateway fd00:a::1 given");
        typed.create_network(&site.host, "--ipv6 chosen");
        assert_eq!(site.host.gateway("given", V6), "fd00:a::1".parse::<IpAddr>().unwrap());
        let details = typed.run(&site.host, "network inspect chosen").json();
        let subnets: Vec<_> =
            details[0]["IPAM"]["Config"].as_array().unwrap().iter().map(|config| &config["Subnet"]).collect();
        let chosen =
            |end: &str| subnets.iter().any(|subnet| subnet.as_str().is_some_and(|subnet| subnet.ends_with(end)));
        assert!(subnets.len() == 2 && chosen("::/64") && chosen("/16"), "{subnets:?}");
        assert!(site.host.gateway("chosen", V6).to_string().starts_with("fd"));
    });
}

/// Step 2: containers on one network get consecutive addresses, and `inspect` shows all there is to know.
#[test]
fn step_2_containers_get_addresses() {
    play(|site, typed| {
        let a = site.host.run_container("--name ubuntuA");
        let b = site.host.run_container("--name ubuntuB");
        typed.create_network(
            &site.host,
            "--ipv6 --subnet 10.0.0.0/24 --gateway 10.0.0.1 --subnet fd00:a::/64 second-bridge",
        );
        let c = site.host.run_container("--name ubuntuC --network second-bridge");

        let last = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u32::from(ip),
            IpAddr::V6(_) => panic!("{ip} is not IPv4"),
        };
        assert_eq!(last(b.ip(V4)), last(a.ip(V4)) + 1);
        assert_eq!(last(a.ip(V4)), last(site.host.gateway("bridge", V4)) + 1);

        let details = typed.run(&site.host, "inspect ubuntuC").json();
        let endpoint = &details[0]["NetworkSettings"]["Networks"]["second-bridge"];
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

        let details = typed.run(&site.host, "network inspect second-bridge").json();
        let shown = &details[0]["Containers"][&c.id];
        assert_eq!(shown["Name"], "ubuntuC");
        assert_eq!(shown["IPv4Address"], "10.0.0.2/24");
        assert_eq!(shown["IPv6Address"], "fd00:a::2/64");

        // The predefined network has no IPv6, and so its containers have none.
        assert!(a.addresses().iter().all(|(_, address, _)| address.is_ipv4() || address.is_loopback()));
    });
}

/// Step 3: B pings A; B cannot ping C, and C cannot ping A; the host pings all three.
#[test]
fn step_3_networks_are_apart() {
    play(|site, typed| {
        for name in ["first-bridge", "second-bridge"] {
            typed.create_network(&site.host, &format!("--ipv6 {name}"));
        }
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
    });
}

/// Step 4: a container of front-net that is connected to back-net reaches was and db by name, and no longer once it is disconnected.
#[test]
fn step_4_networks_are_joined_and_left() {
    play(|site, typed| {
        for name in ["front-net", "back-net"] {
            typed.create_network(&site.host, &format!("--ipv6 {name}"));
        }
        let _outside = outside(site);
        let web = site.host.run_container("--name web --network front-net");
        let others = ["was", "db"].map(|name| site.host.run_container(&format!("--name {name} --network back-net")));
        for other in &others {
            assert_eq!(web.names_code(&other.name), ResponseCode::NXDomain);
            assert_silent(web.briefly().ping(other.ip(V4)));
        }

        typed.run(&site.host, "network connect back-net web").ok();
        for (other, family) in others.iter().flat_map(|other| Family::BOTH.map(|family| (other, family))) {
            let address = other.ip(family);
            assert_eq!(web.addresses_of(&other.name, record(family)), [address]);
            web.ping(address).unwrap_or_else(|error| panic!("web cannot reach {} on {address}: {error}", other.name));
            assert_eq!(other.addresses_of("web", record(family)), [web.ip_on("back-net", family)]);
        }

        typed.run(&site.host, "network disconnect back-net web").ok();
        for other in &others {
            assert_eq!(web.names_code(&other.name), ResponseCode::NXDomain);
            for family in Family::BOTH {
                assert!(web.briefly().ping(other.ip(family)).is_err(), "{} is still reached", other.name);
            }
            assert_eq!(other.names_code("web"), ResponseCode::NXDomain);
        }
    });
}

/// Step 5: three containers share the alias `alicek106`, and repeated look-ups rotate through all three.
#[test]
fn step_5_an_alias_is_shared() {
    play(|site, typed| {
        typed.create_network(&site.host, "--ipv6 front");
        let wishes = ["", "--network front --network-alias alicek106", "--network front --network-alias alicek106"];
        let names = ["a", "b", "c"];
        let members: Vec<_> = names
            .iter()
            .zip(wishes)
            .map(|(name, wish)| site.host.run_container(&format!("--name {name} {wish}")))
            .collect();
        typed.run(&site.host, "network connect --alias alicek106 front a").ok();
        let asker = site.host.run_container("--name asker --network front");
        for family in Family::BOTH {
            let all: BTreeSet<_> = members.iter().map(|member| member.ip_on("front", family)).collect();
            let answers: Vec<_> = names.map(|_| asker.addresses_of("alicek106", record(family))).into();
            for answer in &answers {
                assert_eq!(answer.iter().copied().collect::<BTreeSet<_>>(), all);
            }
            assert_eq!(answers.iter().map(|answer| answer[0]).collect::<BTreeSet<_>>(), all, "{answers:?}");
        }
    });
}

/// Step 6: a published port is reached from outside, from the host by its own address, and by 127.0.0.1 and ::1; a
/// second one with the same number is refused; a container that publishes nothing is reached from its own network only.
#[test]
fn step_6_ports_are_published() {
    play(|site, typed| {
        let _outside = outside(site);
        typed.create_network(&site.host, "--ipv6 front");
        typed.create_network(&site.host, "--ipv6 back");
        let web = site.host.run_container("--name web --network front -p 8080:80");
        let database = site.host.run_container("--name db --network front");
        let stranger = site.host.run_container("--name stranger --network back");
        for family in Family::BOTH {
            let _server = web.tcp_listen(family.any(), 80);
            for (from, address) in [
                (&*site.internet, site.public(family)),
                (&site.host, site.public(family)),
                (&site.host, family.loopback()),
            ] {
                let mut link = from.tcp_connect(address, 8080).unwrap_or_else(|error| {
                    panic!("{} cannot reach the published port on {address}: {error}", from.name());
                });
                link.echo("over the published port").expect("an echo");
            }

            let _server = database.tcp_listen(family.any(), 5432);
            let named = web.addresses_of("db", record(family));
            assert_eq!(named, [database.ip(family)]);
            web.tcp_connect(named[0], 5432).expect("its own network reaches the database by name");
            assert!(stranger.briefly().tcp_connect(database.ip(family), 5432).is_err());
            assert!(site.internet.briefly().tcp_connect(site.public(family), 5432).is_err());
            assert!(site.host.briefly().tcp_connect(family.loopback(), 5432).is_err());
        }

        assert_eq!(stranger.names_code("db"), ResponseCode::NXDomain);
        assert_eq!(typed.run(&site.host, "port web").ok(), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
        let refused = site.host.spandrel("run -d --name other --network front -p 8080:80 sleep infinity");
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("8080") && refused.stderr.contains("port is already allocated"), "{refused:?}");
        // The port is free the moment the container stops.
        typed.run(&site.host, "stop -t 0 web").ok();
        site.host.run_container("--name other --network front -p 8080:80");
    });
}

/// Step 7: dynamic addresses come from the range, a static one is had, and a taken or foreign one is refused by name.
#[test]
fn step_7_addresses_are_chosen() {
    play(|site, typed| {
        typed
            .create_network(&site.host, "--subnet 172.30.1.0/24 --ip-range 172.30.1.128/25 --gateway 172.30.1.1 fixed");
        let fixed = site.host.run_container("--name fixed --network fixed --ip 172.30.1.100");
        let any = site.host.run_container("--name any --network fixed");
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!((fixed.ip(V4), any.ip(V4)), (address("172.30.1.100"), address("172.30.1.128")));
        any.ping(fixed.ip(V4)).expect("they are on one network");

        let late = site.host.run_container("--name late");
        let connect = |ip: &str| typed.run(&site.host, &format!("network connect --ip {ip} fixed late"));
        for taken in ["172.30.1.100", "172.30.1.128", "172.30.1.1", "172.30.2.1"] {
            let before = site.host.state();
            let refused = connect(taken);
            assert!(refused.code == Some(1) && refused.stderr.contains(taken), "{refused:?}");
            let refused = site.host.spandrel(&format!("run -d --network fixed --ip {taken} sleep 1"));
            assert!(refused.code == Some(1) && refused.stderr.contains(taken), "{refused:?}");
            site.host.state().assert_same_as(&before);
        }
        connect("172.30.1.101").ok();
        assert_eq!(late.ip_on("fixed", V4), address("172.30.1.101"));
    });
}

/// Step 8: inside a container an outside name resolves and an outside server answers, which sees the host's address.
#[test]
fn step_8_a_container_reaches_the_outside() {
    play(|site, typed| {
        let _outside = outside(site);
        typed.create_network(&site.host, "--ipv6 front");
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
    });
}

/// Step 9: `rm -f` of containers and `network rm` leave nothing behind: no veth, no namespace, no map entry.
#[test]
fn step_9_nothing_is_left() {
    play(|site, typed| {
        let before = site.host.state();
        typed.create_network(&site.host, "--subnet 10.0.0.0/24 --ipv6 second-bridge");
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

        assert_eq!(typed.run(&site.host, "rm -f ubuntuA ubuntuC").ok(), "ubuntuA\nubuntuC");
        assert_eq!(typed.run(&site.host, "network rm second-bridge").ok(), "second-bridge");
        site.host.state().assert_same_as(&before);
        assert_eq!(site.host.processes().len(), 1, "only the agent runs: {:?}", site.host.processes());
        let emptied = |map: &str| within(PATIENCE * 3, || (site.host.map_entries(map) == 0).then_some(())).is_some();
        for map in ["FLOWS4", "FLOWS6", "FLOW_COUNTS", "SOCKET_PEERS"] {
            assert!(emptied(map), "{map} still holds {} entries", site.host.map_entries(map));
        }
    });
}
