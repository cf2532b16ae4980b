//! Published ports, SEMANTICS §3, with real sockets: what `-p` may say, that host ports are really held, who may use a port,
//! and what happens to it while its container runs.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use spandrel_tests::*;

/// The host's port that a container's port got on an address, as `spandrel inspect` shows it.
#[track_caller]
fn host_port(container: &Container, port: &str, address: &str) -> u16 {
    let ports = container.inspect()["NetworkSettings"]["Ports"][port].take();
    let bindings = ports.as_array().cloned().unwrap_or_default();
    let binding = bindings.iter().find(|binding| binding["HostIp"] == address);
    let number = binding.and_then(|binding| binding["HostPort"].as_str()?.parse().ok());
    number.unwrap_or_else(|| panic!("{port} is not published on {address}: {ports}"))
}

/// A container that publishes these ports on the network `red`.
#[track_caller]
fn publisher<'h>(site: &'h Site, name: &str, options: &str) -> Container<'h> {
    site.host.run_container(&format!("--name {name} --network red {options}"))
}

/// Demands that TCP from the internet reaches `container`'s port by the host's `published` port.
#[track_caller]
fn assert_reached(site: &Site, published: u16, container: &Container, port: u16) {
    for family in Family::BOTH {
        let _server = container.tcp_listen(family.any(), port);
        let link = site.internet.tcp_connect(site.public(family), published);
        link.unwrap_or_else(|error| panic!("{family:?} port {published}: {error}")).echo("hello").unwrap();
    }
}

/// Demands that the host itself answers on a port: nobody's.
#[track_caller]
fn assert_closed(site: &Site, port: u16) {
    for family in Family::BOTH {
        let refused = site.internet.tcp_connect(site.public(family), port).expect_err("it is closed");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{family:?} port {port}");
    }
}

/// §3: `hostPort:ctrPort`, no host address: 0.0.0.0 and `::` with the same port number; and the long form of it.
#[test]
fn a_port_is_published_in_both_families() {
    let site = Site::with_networks(["red"]);
    let web = publisher(&site, "web", "-p 8080:80 -p published=8443,target=443,protocol=tcp,mode=host");
    for (published, port) in [(8080, 80), (8443, 443)] {
        assert_reached(&site, published, &web, port);
    }
    let lines = "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n443/tcp -> 0.0.0.0:8443\n443/tcp -> [::]:8443";
    assert_eq!(site.host.spandrel("port web").ok(), lines);
    assert_eq!(site.host.spandrel("port web 443").ok(), "0.0.0.0:8443\n[::]:8443");
    assert_closed(&site, 80);
}

/// §3: `hostIP:hostPort:ctrPort`, `[v6]:…` and `127.0.0.1::80`: open on that address and on no other.
#[test]
fn a_port_is_published_on_one_address() {
    let site = Site::with_networks(["red"]);
    let specs = Family::BOTH.map(|family| format!("-p {}", SocketAddr::new(site.public(family), 8080)));
    let web = publisher(&site, "web", &format!("{}:80 {}:80 -p 127.0.0.1::80 -p [::1]::80", specs[0], specs[1]));
    for family in Family::BOTH {
        let _server = web.tcp_listen(family.any(), 80);
        let local = host_port(&web, "80/tcp", &family.loopback().to_string());
        site.host.tcp_connect(family.loopback(), local).expect("on loopback");
        site.internet.tcp_connect(site.public(family), 8080).expect("from outside");
        let refused = |net: &Net, address, port| net.tcp_connect(address, port).expect_err("it is closed").kind();
        assert_eq!(refused(&site.internet, site.public(family), local), ErrorKind::ConnectionRefused);
        assert_eq!(refused(&site.host, family.loopback(), 8080), ErrorKind::ConnectionRefused);
    }
}

/// §3: `-p 80`: any free port, the same in both families, of the ephemeral range.
#[test]
fn a_free_port_is_found() {
    let site = Site::with_networks(["red"]);
    site.host.set_sysctl("ipv4/ip_local_port_range", "41000 41099");
    let web = publisher(&site, "web", "-p 80 -p 53/udp -p 3868/sctp");
    for port in ["80/tcp", "53/udp", "3868/sctp"] {
        let number = host_port(&web, port, "0.0.0.0");
        assert!((41000..41100).contains(&number), "{port}: {number}");
        assert_eq!(host_port(&web, port, "::"), number, "{port}");
    }
    assert_reached(&site, host_port(&web, "80/tcp", "::"), &web, 80);
}

/// An SCTP packet with one chunk of this type (RFC 9260), as INIT and INIT ACK begin.
fn sctp(source: u16, destination: u16, chunk: u8) -> Vec<u8> {
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    let tags = [0, 0, 0, u8::from(chunk != 1), 0, 0, 0, 0];
    let body = [chunk, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9];
    let mut packet = [ports.as_slice(), &tags, &body].concat();
    // CRC32c, bit by bit, the lowest first.
    let crc = packet.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    });
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet
}

/// §3: an SCTP port is published like any other, and its checksum, over the whole packet, is right on both sides.
#[test]
fn an_sctp_port_is_published() {
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    const COOKIE_ECHO: u8 = 10;
    let site = Site::with_networks(["red"]);
    let web = publisher(&site, "web", "-p 3868:38/sctp");
    for family in Family::BOTH {
        let (inside, outside) = (web.raw(family, SCTP), site.internet.raw(family, SCTP));
        outside.send(site.public(family), &sctp(5000, 3868, INIT));
        assert!(inside.gets(&sctp(5000, 38, INIT)), "{family:?}: the way in");
        inside.send(site.uplink.outside(family), &sctp(38, 5000, INIT_ACK));
        assert!(outside.gets(&sctp(3868, 5000, INIT_ACK)), "{family:?}: the answer");
        // The client has seen it: now there is an association.
        outside.send(site.public(family), &sctp(5000, 3868, COOKIE_ECHO));
        assert!(inside.gets(&sctp(5000, 38, COOKIE_ECHO)), "{family:?}: what follows");
        // Another port, and a packet that opens nothing on this one.
        let inside = web.briefly().raw(family, SCTP);
        outside.send(site.public(family), &sctp(5000, 38, INIT));
        outside.send(site.public(family), &sctp(5001, 3868, INIT_ACK));
        assert!(!inside.gets(&sctp(5000, 38, INIT)) && !inside.gets(&sctp(5001, 38, INIT_ACK)), "{family:?}");
    }
    let stats = site.host.spandrel("port --stats --format json web").json_lines();
    assert_eq!((&stats[0]["Type"], &stats[0]["Connections"]), (&"sctp".into(), &2.into()), "{stats:?}");
}

/// §3: ranges of equal length run in step, over TCP and UDP.
#[test]
fn ranges_run_in_step() {
    let site = Site::with_networks(["red"]);
    let web = publisher(&site, "web", "-p 8000-8002:80-82 -p 5000-5001:50-51/udp");
    for (published, port) in [(8000, 80), (8001, 81), (8002, 82)] {
        assert_reached(&site, published, &web, port);
    }
    for family in Family::BOTH {
        for (published, port) in [(5000, 50), (5001, 51)] {
            let server = web.udp_listen(family.any(), port);
            site.internet.udp_ask(site.public(family), published, "hello").expect("UDP");
            assert!(server.sender_of("hello").is_some());
        }
    }
    assert_closed(&site, 8003);
}

/// §3: a host range with one container port means "any free one of these"; when all are taken it says so.
#[test]
fn a_host_range_gives_a_free_port() {
    let site = Site::with_networks(["red"]);
    let _foreign = site.host.tcp_bind(V4.any(), 8001).expect("a foreign listener");
    let containers = ["one", "two"].map(|name| publisher(&site, name, "-p 8000-8002:80"));
    for (container, port) in containers.iter().zip([8000, 8002]) {
        assert_eq!(host_port(container, "80/tcp", "0.0.0.0"), port);
        assert_eq!(host_port(container, "80/tcp", "::"), port);
        assert_reached(&site, port, container, 80);
    }
    let before = site.host.state();
    let refused = site.host.spandrel("run -d --network red -p 8000-8002:80 sleep 1");
    let sentence = "spandrel: Bind for 0.0.0.0:8000-8002 failed: all ports are allocated\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), sentence));
    site.host.state().assert_same_as(&before);
    // One that has no choice goes before those that have.
    containers.into_iter().for_each(Container::remove);
    let both = publisher(&site, "both", "-p 8000-8002:80 -p 8000:81");
    assert_eq!((host_port(&both, "80/tcp", "::"), host_port(&both, "81/tcp", "::")), (8002, 8000));
}

/// §3: `-P` publishes every `--expose`d port on a free port of the ephemeral range; without it they are only shown.
#[test]
fn exposed_ports_are_published_on_request() {
    let site = Site::with_networks(["red"]);
    site.host.set_sysctl("ipv4/ip_local_port_range", "41000 41099");
    let exposed = "--expose 80 --expose 7000-7002/udp --expose 443";
    let quiet = publisher(&site, "quiet", exposed);
    assert_eq!(site.host.spandrel("port quiet").ok(), "");
    assert!(quiet.inspect()["NetworkSettings"]["Ports"]["7001/udp"].is_null());
    assert!(quiet.inspect()["Config"]["ExposedPorts"]["7001/udp"].is_object());
    let line = site.host.spandrel("ps").ok();
    assert!(line.contains("80/tcp, 443/tcp, 7000-7002/udp"), "{line}");

    let loud = publisher(&site, "loud", &format!("-P -p 8443:443 {exposed}"));
    for port in ["80/tcp", "7000/udp", "7001/udp", "7002/udp"] {
        let number = host_port(&loud, port, "0.0.0.0");
        assert!((41000..41100).contains(&number) && host_port(&loud, port, "::") == number, "{port}: {number}");
    }
    assert_reached(&site, host_port(&loud, "80/tcp", "::"), &loud, 80);
    assert_eq!(site.host.spandrel("port loud 443").ok(), "0.0.0.0:8443\n[::]:8443");
    for family in Family::BOTH {
        let server = loud.udp_listen(family.any(), 7001);
        site.internet.udp_ask(site.public(family), host_port(&loud, "7001/udp", "::"), "hello").expect("UDP");
        assert!(server.sender_of("hello").is_some());
    }
}

/// §3: a host port is really held: another process gets EADDRINUSE on every address, and gets it the moment the container stops.
#[test]
fn host_ports_are_really_held() {
    let site = Site::with_networks(["red"]);
    let options = "-p 8080:80 -p 5353:53/udp -p 127.0.0.1:8081:81";
    for ending in ["stop -t 0 web", "rm -f web"] {
        publisher(&site, "web", options);
        let bind = |address: IpAddr, port: u16, udp: bool| match udp {
            true => site.host.udp_bind(address, port).map(drop),
            false => site.host.tcp_bind(address, port).map(drop),
        };
        let mut held = vec![(V4.loopback(), 8081, false), (V4.any(), 8081, false)];
        for family in Family::BOTH {
            for address in [family.any(), family.loopback(), site.public(family)] {
                held.extend([(address, 8080, false), (address, 5353, true)]);
            }
        }
        for (address, port, udp) in &held {
            let error = bind(*address, *port, *udp).expect_err("it is held");
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{address} {port}");
        }
        // Other ports are not: neither the other protocol's, nor those on other addresses.
        for (address, port, udp) in [(V4.any(), 8080, true), (V6.any(), 5353, false), (site.public(V4), 8081, false)] {
            bind(address, port, udp).unwrap_or_else(|error| panic!("{address} {port}: {error}"));
        }
        site.host.spandrel(ending).ok();
        for (address, port, udp) in held {
            bind(address, port, udp).unwrap_or_else(|error| panic!("{address} {port} after {ending}: {error}"));
        }
        site.host.spandrel("rm -f web");
    }
}

/// §3: a second container gets `port is already allocated`; another process that has the port is named; and nothing is
/// half published.
#[test]
fn taken_ports_are_refused() {
    let site = Site::with_networks(["red"]);
    publisher(&site, "web", "-p 8080:80 -p 5353:53/udp -p 3868:3868/sctp -p [::1]:8081:81");
    let _holder = site.host.tcp_bind(V4.loopback(), 9090).expect("a foreign listener");
    for (specs, sentence) in [
        ("-p 8079:80 -p 8080:80", "Bind for 0.0.0.0:8080 failed: port is already allocated by container web"),
        ("-p 5353:5353/udp", "Bind for 0.0.0.0:5353 failed: port is already allocated by container web"),
        ("-p 3868:1/sctp", "Bind for 0.0.0.0:3868 failed: port is already allocated by container web"),
        ("-p 8081:81", "Bind for [::]:8081 failed: port is already allocated by container web"),
        ("-p 7000:80 -p 7000:81", "Bind for 0.0.0.0:7000 failed: port is already allocated, it is published twice"),
        ("-p 8078:80 -p 9090:80", "failed to bind host port 0.0.0.0:9090/tcp: address already in use by "),
        ("-p 192.0.2.9:80:80", "failed to bind host port 192.0.2.9:80/tcp: no interface of this host has that address"),
    ] {
        let before = site.host.state();
        let refused = site.host.spandrel(&format!("run -d --network red {specs} sleep 1"));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.starts_with(&format!("spandrel: {sentence}")), "{specs}: {refused:?}");
        site.host.state().assert_same_as(&before);
    }
    // The same thing said twice is one thing, and the same number on different addresses is not the same.
    publisher(&site, "other", "-p 7000:80 -p 7000:80 -p 127.0.0.1:8081:81 -p 127.0.0.2:8081:82");
}

/// §3, better: ports can be published and unpublished on a running container; what else goes through it is not disturbed.
#[test]
fn ports_of_a_running_container_change() {
    let site = Site::with_networks(["red"]);
    let web = publisher(&site, "web", "-p 8080:80");
    let kept = Family::BOTH.map(|family| Transfer::start(&site.internet, (site.public(family), 8080), &web, 80));
    let before = site.host.state();
    assert_closed(&site, 8081);

    let shown = site.host.spandrel("publish web 8081:81 5000-5001:50-51/udp 127.0.0.1:8082:82").ok();
    let lines = [
        "50/udp -> 0.0.0.0:5000\n50/udp -> [::]:5000",
        "51/udp -> 0.0.0.0:5001\n51/udp -> [::]:5001",
        "81/tcp -> 0.0.0.0:8081\n81/tcp -> [::]:8081",
        "82/tcp -> 127.0.0.1:8082",
    ];
    assert_eq!(shown, lines.join("\n"));
    assert_reached(&site, 8081, &web, 81);
    let _servers = (web.tcp_listen(V6.any(), 81), web.udp_listen(V6.any(), 50));
    let ended = Family::BOTH.map(|family| {
        let mut link = site.internet.briefly().tcp_connect(site.public(family), 8081).expect("a new port");
        link.echo("over the new port").unwrap();
        let socket = site.internet.briefly().udp_bind(family.any(), 0).unwrap();
        ask(&socket, (site.public(family), 5000).into(), "over the new port").expect("a new port");
        (link, socket, family)
    });
    site.host.tcp_bind(V6.any(), 8081).expect_err("it is held");

    site.host.spandrel("unpublish web 81 5000:50/udp 5001:51/udp 8082:82").ok();
    site.host.state().assert_same_as(&before);
    assert_closed(&site, 8081);
    for (mut link, socket, family) in ended {
        link.echo("after the end").expect_err("the connection has ended");
        ask(&socket, (site.public(family), 5000).into(), "after the end").expect_err("the flow has ended");
    }
    kept.iter().for_each(Transfer::assert_moves);
    kept.into_iter().for_each(|transfer| assert!(transfer.finish().iter().all(|bytes| *bytes > 0)));
    assert_reached(&site, 8080, &web, 80);
}

/// §3, better: all that `publish` and `unpublish` are given is done, or nothing.
#[test]
fn changes_of_a_running_container_are_all_or_nothing() {
    let site = Site::with_networks(["red"]);
    let _web = publisher(&site, "web", "-p 8080:80 -p 127.0.0.1:8081:80");
    publisher(&site, "other", "-p 9090:90");
    site.host.create_network("--internal inside");
    site.host.run_container("--name hidden --network inside");
    for (line, words) in [
        ("publish web 8082:82 9090:80", ["Bind for 0.0.0.0:9090 failed: port is already allocated", "other"]),
        ("publish web 8082:82 8080:80", ["Bind for 0.0.0.0:8080 failed: port is already allocated", "web"]),
        ("publish web 8082:82 8083", ["", ""]),
        ("publish web 8082:82 nonsense", ["invalid published port", "nonsense"]),
        ("publish web 8082:82 2001:db8::7:80:80", ["2001:db8::7", "no interface of this host has that address"]),
        ("publish --allow-from 10.0.0.7/24 web 8082:82", ["--allow-from", "10.0.0.0/24"]),
        ("publish --rate-limit fast web 8082:82", ["--rate-limit", "fast"]),
        ("publish web published=8082,target=82,mode=swarm", ["invalid publish mode value (swarm)", "ingress"]),
        ("publish hidden 8082:82", ["hidden", "none of its networks leads outside"]),
        ("publish nobody 8082:82", ["No such container", "nobody"]),
        ("unpublish web 8080:80 443", ["no public port '443/tcp' published for web", ""]),
        ("unpublish web 8080:80 80/udp", ["no public port '80/udp' published for web", ""]),
        ("unpublish web 8080:80 8082:80", ["no public port '80/tcp' published for web on host port 8082", ""]),
        ("unpublish web 8080:80 [::1]:8081:80", ["published for web on [::1]:8081", ""]),
    ] {
        if words == ["", ""] {
            // The control: with nothing wrong in it, it works.
            let before = site.host.state();
            site.host.spandrel(line).ok();
            site.host.spandrel("unpublish web 82 8083").ok();
            site.host.state().assert_same_as(&before);
            continue;
        }
        let before = site.host.state();
        let refused = site.host.spandrel(line);
        assert_eq!(refused.code, Some(1), "{line}: {refused:?}");
        assert!(words.iter().all(|word| refused.stderr.contains(word)), "{line}: {refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{line}: {refused:?}");
        site.host.state().assert_same_as(&before);
    }
    // Without a host port it is every one.
    site.host.spandrel("unpublish web 80").ok();
    assert_eq!(site.host.spandrel("port web").ok(), "");
}

/// §3: stopping a container ends its flows: a UDP client that never pauses reaches the next one at once.
#[test]
fn a_udp_client_that_never_pauses_reaches_the_new_container() {
    let site = Site::with_networks(["red"]);
    for family in Family::BOTH {
        let published = SocketAddr::new(site.public(family), 5353);
        let socket = site.internet.briefly().udp_bind(family.any(), 0).unwrap();
        for name in ["first", "second"] {
            let container = publisher(&site, name, "-p 5353:53/udp");
            let server = container.udp_listen(family.any(), 53);
            ask(&socket, published, name).unwrap_or_else(|error| panic!("{family:?} {name}: {error}"));
            assert!(server.sender_of(name).is_some());
            drop(server);
            site.host.spandrel(&["stop", "-t", "0", name]).ok();
            // It does not pause: this one finds nobody.
            socket.send_to(b"in between", published).unwrap();
            site.host.spandrel(&["rm", name]).ok();
        }
    }
}

/// §3: a port moves with its container: from the network that it leaves to the one that it is on.
#[test]
fn a_port_follows_its_container() {
    let site = Site::with_networks(["red", "blue"]);
    let web = publisher(&site, "web", "-p 8080:80 -p 5353:53/udp");
    assert_reached(&site, 8080, &web, 80);
    let _server = web.udp_listen(V6.any(), 53);
    let sockets = Family::BOTH.map(|family| {
        let socket = site.internet.udp_bind(family.any(), 0).unwrap();
        ask(&socket, (site.public(family), 5353).into(), "before").expect("UDP");
        (socket, family)
    });
    site.host.spandrel("network connect blue web").ok();
    site.host.spandrel("network disconnect red web").ok();
    assert_reached(&site, 8080, &web, 80);
    for (socket, family) in sockets {
        ask(&socket, (site.public(family), 5353).into(), "after").expect("the same client reaches it");
    }
    site.host.spandrel("network disconnect blue web").ok();
    site.host.tcp_bind(V4.any(), 8080).expect("a container on no network holds nothing");
}

/// §1 row 10, as far as the host is concerned: a port of an IPv4-only container is held and shown under `::`, too.
#[test]
fn a_container_without_ipv6_is_published_under_ipv6() {
    let site = Site::new();
    let _web = site.host.run_container("--name web -p 8080:80");
    assert_eq!(site.host.spandrel("port web").ok(), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
    site.host.tcp_bind(V6.any(), 8080).expect_err("it is held");
    site.host.run_container("--name local -p [::1]:8081:80");
    assert_eq!(site.host.spandrel("port local").ok(), "80/tcp -> [::1]:8081");
    // The other way there is none.
    site.host.create_network("--ipv4=false --ipv6 six");
    let refused = site.host.spandrel("run -d --network six -p 127.0.0.1:8082:80 sleep 1");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("the container has no IPv4 address on network six"), "{refused:?}");
    site.host.run_container("--name six --network six -p 8083:80");
    assert_eq!(site.host.spandrel("port six").ok(), "80/tcp -> [::]:8083");
    site.host.tcp_bind(V4.any(), 8083).expect("IPv4 is free");
}

/// Issue 3: ranges as one batch. Ten thousand ports are published, held and gone, and no other container gets one.
#[test]
fn ten_thousand_ports_are_one_batch() {
    let site = Site::with_networks(["red"]);
    // With it, the bridge is up.
    publisher(&site, "idle", "");
    let before = site.host.state();
    let web = publisher(&site, "web", "-p 20000-29999:10000-19999");
    assert_eq!(site.host.map_entries("PUBLISHED"), 20_000);
    for (published, port) in [(20000, 10000), (24321, 14321), (29999, 19999)] {
        assert_reached(&site, published, &web, port);
        for family in Family::BOTH {
            site.host.tcp_bind(family.any(), published).expect_err("it is held");
        }
    }
    assert_eq!(site.host.spandrel("port web").ok().lines().count(), 20_000);
    let refused = site.host.spandrel("run -d --network red -p 19990-20000:90-100 sleep 1");
    assert!(refused.stderr.contains("0.0.0.0:20000 failed: port is already allocated by container web"), "{refused:?}");
    site.host.tcp_bind(V4.any(), 19990).expect("nothing is half published");

    site.host.spandrel("unpublish web 20000-24999:10000-14999").ok();
    assert_eq!(site.host.map_entries("PUBLISHED"), 10_000);
    site.host.tcp_bind(V6.any(), 24999).expect("it is free");
    assert_closed(&site, 24999);
    assert_reached(&site, 25000, &web, 15000);
    web.remove();
    site.host.state().assert_same_as(&before);
}

/// What is published outlives the agent: slots, holding, access, and the container's own limit of open files is not the agent's.
#[test]
fn published_ports_survive_the_agent() {
    let mut site = Site::with_networks(["red"]);
    let limit = site.host.command(&["sh", "-c", "ulimit -Sn; ulimit -Hn"]).ok();
    let options = "-p 8080:80 -p 5000-5009:5000-5009/udp -p 3868:3868/sctp --allow-from 198.18.0.0/16,2001:db8::/32 --rate-limit 100";
    let web = publisher(&site, "web", options);
    assert_eq!(web.exec(&["sh", "-c", "ulimit -Sn; ulimit -Hn"]).ok(), limit);
    site.host.spandrel("publish web 8081:81").ok();
    let (before, stats) = (site.host.state(), site.host.spandrel("port --stats").ok());
    site.restart_agent();
    site.host.state().assert_same_as(&before);
    assert_eq!(site.host.spandrel("port --stats").ok(), stats);
    let web = site.host.container("web");
    assert_reached(&site, 8080, &web, 80);
    // What is new gets a slot of its own.
    site.host.spandrel("publish web 8082:82").ok();
    for (published, port) in [(8080, 80), (8081, 81), (8082, 82)] {
        assert_reached(&site, published, &web, port);
    }
    web.remove();
    assert_eq!((site.host.map_entries("PUBLISHED"), site.host.map_entries("ALLOWED")), (0, 0));
}

/// The address of the client on the internet that `tcp_connect` and `udp_ask` use, as a prefix of its own.
fn client(site: &Site, family: Family) -> String {
    format!("{}/{}", site.uplink.outside(family), if family == V4 { 32 } else { 128 })
}

/// §3, better: `--allow-from` limits who may use a published port; everybody else's packets are dropped and counted.
#[test]
fn only_allowed_clients_use_a_port() {
    let site = Site::with_networks(["red"]);
    let stranger = site.host.run_container("--name stranger");
    let allowed = Family::BOTH.map(|family| client(&site, family));
    let options = format!("-p 8080:80 -p 5353:53/udp --allow-from {} --allow-from {}", allowed[0], allowed[1]);
    let web = publisher(&site, "web", &options);
    publisher(&site, "open", "-p 8081:80");
    let denied = || site.host.dropped("web", |reason| reason == "NotAllowed");
    for family in Family::BOTH {
        let address = site.public(family);
        let (_tcp, udp) = (web.tcp_listen(family.any(), 80), web.udp_listen(family.any(), 53));
        site.internet.tcp_connect(address, 8080).expect("an allowed client");
        site.internet.udp_ask(address, 5353, "allowed").expect("an allowed client");
        // The same machine by another address of its own.
        let other = Site::far(family);
        let before = denied();
        assert_silent(connect_from(&site.internet.briefly(), other, (address, 8080)));
        let socket = site.internet.briefly().udp_bind(other, 0).unwrap();
        assert_silent(ask(&socket, (address, 5353).into(), "not allowed"));
        udp.assert_never_gets("not allowed");
        assert!(denied() >= before + 2, "the drops are counted");
        // The host reaches every container anyway.
        site.host.tcp_connect(family.loopback(), 8080).expect("the host");
        // The control: a port without a list takes it.
        let _open = site.host.container("open").tcp_listen(family.any(), 80);
        connect_from(&site.internet, other, (address, 8081)).expect("a port for everybody");
    }
    // Containers of other networks are clients like any other.
    let _server = web.tcp_listen(V4.any(), 80);
    assert_silent(stranger.briefly().tcp_connect(site.public(V4), 8080));
    let list = format!("{},{}/32", allowed.join(","), stranger.ip(V4));
    site.host.spandrel(&format!("publish --allow-from {list} web 8080:80")).ok();
    stranger.tcp_connect(site.public(V4), 8080).expect("it is allowed now");
}

/// Connects to a server from one of the machine's own addresses.
fn connect_from(net: &Net, from: IpAddr, to: (IpAddr, u16)) -> std::io::Result<()> {
    net.run(|| {
        let to = SocketAddr::from(to);
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), net.patience())
    })
}

/// §3, better: the list of a running container's port can be changed. Who is taken off it loses what is open; who stays, does not.
#[test]
fn an_allow_list_changes_while_connections_are_open() {
    let site = Site::with_networks(["red"]);
    let web = publisher(&site, "web", "-p 8080:80 -p 8081:81");
    let (_one, _two) = (web.tcp_listen(V6.any(), 80), web.tcp_listen(V6.any(), 81));
    for family in Family::BOTH {
        let address = site.public(family);
        let connect = |port| site.internet.briefly().tcp_connect(address, port);
        let (mut link, mut other) = (connect(8080).unwrap(), connect(8081).unwrap());
        // More clients, and a limit in rate: nothing ends.
        site.host.spandrel("publish --rate-limit 1000/s web 8080:80").ok();
        link.echo("limited in rate").unwrap();

        site.host.spandrel("publish --allow-from 192.0.2.0/24,2001:db8:dead::/48 web 8080:80").ok();
        link.echo("not allowed any more").expect_err("the connection has ended");
        assert_silent(connect(8080));
        other.echo("another port").unwrap();

        site.host.spandrel(&format!("publish --allow-from {} web 8080:80", client(&site, family))).ok();
        let mut link = connect(8080).expect("it is allowed again");
        // The other family is not, though all IPv4 addresses can be written in IPv6.
        let mistaken = if family == V4 { V6 } else { V4 };
        let every = if family == V4 { "0.0.0.0/0" } else { "::/0" };
        site.host.spandrel(&format!("publish --allow-from {every},{} web 8080:80", client(&site, family))).ok();
        link.echo("still allowed").unwrap();
        assert_silent(site.internet.briefly().tcp_connect(site.public(mistaken), 8080));

        // Saying nothing of it leaves it as it is.
        let refused = site.host.spandrel("publish web 8080:80");
        assert!(refused.stderr.contains("port is already allocated by container web"), "{refused:?}");
        site.host.spandrel("publish --allow-from 0.0.0.0/0,::/0 web 8080:80").ok();
        link.echo("still allowed").unwrap();
        site.internet.tcp_connect(site.public(mistaken), 8080).expect("it is open to everybody");
        let stats = site.host.spandrel("port --stats --format json web").json_lines();
        assert_eq!(stats[0]["AllowFrom"].as_array().map(Vec::len), Some(0), "{stats:?}");
        assert_eq!(stats[0]["RateLimit"], 1000);
    }
}

/// §3, better: each published port has counters of its own, which outlive the agent and begin anew with the next port.
#[test]
fn each_port_has_counters() {
    let mut site = Site::with_networks(["red"]);
    let web = publisher(&site, "web", "-p 8080:80 -p 5353:53/udp -p 8081:81");
    for family in Family::BOTH {
        let (_tcp, _udp) = (web.tcp_listen(family.any(), 80), web.udp_listen(family.any(), 53));
        let mut link = site.internet.tcp_connect(site.public(family), 8080).unwrap();
        link.echo(&"x".repeat(3000)).unwrap();
        let socket = site.internet.udp_bind(family.any(), 0).unwrap();
        for _ in 0..3 {
            ask(&socket, (site.public(family), 5353).into(), &"y".repeat(500)).unwrap();
        }
    }
    let stats = |site: &Site| site.host.spandrel("port --stats --format json web").json_lines();
    let counts = stats(&site);
    let of = |port: u16, protocol: &str| {
        let line = counts.iter().find(|line| line["PrivatePort"] == port && line["Type"] == protocol);
        let line = line.unwrap_or_else(|| panic!("{port}/{protocol}: {counts:?}"));
        ["Connections", "PacketsIn", "BytesIn", "PacketsOut", "BytesOut"].map(|field| line[field].as_u64().unwrap())
    };
    let [connections, packets_in, bytes_in, packets_out, bytes_out] = of(80, "tcp");
    assert_eq!(connections, 2);
    assert!(packets_in > 4 && packets_out > 4, "{counts:?}");
    assert!(bytes_in > 6000 && bytes_out > 6000 && bytes_in < 20_000 && bytes_out < 20_000, "{counts:?}");
    let [flows, packets_in, bytes_in, packets_out, bytes_out] = of(53, "udp");
    assert_eq!((flows, packets_in, packets_out), (2, 6, 6));
    assert!(bytes_in > 6 * 500 && bytes_out > bytes_in && bytes_out < 6 * 700, "{counts:?}");
    assert_eq!(of(81, "tcp"), [0; 5]);

    site.restart_agent();
    let again = stats(&site);
    assert_eq!(again.len(), 3);
    for (before, after) in counts.iter().zip(&again) {
        assert_eq!((&before["Published"], &before["Connections"]), (&after["Published"], &after["Connections"]));
        assert!(before["PacketsIn"].as_u64() <= after["PacketsIn"].as_u64(), "{before} {after}");
    }
    let table = site.host.spandrel("port --stats").ok();
    assert!(table.starts_with("CONTAINER") && table.contains("0.0.0.0:8080, [::]:8080"), "{table}");

    site.host.spandrel("unpublish web 8080:80").ok();
    site.host.spandrel("publish web 8080:80").ok();
    let fresh = stats(&site).into_iter().find(|line| line["PrivatePort"] == 80).unwrap();
    assert_eq!((&fresh["Connections"], &fresh["BytesIn"]), (&0.into(), &0.into()));
}
