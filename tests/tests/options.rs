//! SEMANTICS §1, per-net options: each one and each gateway mode, what it opens and what it keeps closed.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};

use spandrel_tests::*;

const PREFIX: &str = "com.docker.network.";

/// The subnets of a network that outside has routes to.
const SUBNETS: [(Family, &str, u8); 2] = [(V4, "10.9.0.0", 24), (V6, "fd00:9::", 64)];

/// Makes a network with these options, each without [`PREFIX`], of both families.
#[track_caller]
fn network(site: &Site, name: &str, arguments: &str, options: &[&str]) {
    let options: String = options.iter().map(|option| format!("-o {PREFIX}{option} ")).collect();
    site.host.create_network(&format!("--ipv6 {arguments} {options} {name}"));
}

/// The same with [`SUBNETS`], to which the internet has routes.
#[track_caller]
fn routed_network(site: &Site, name: &str, options: &[&str]) {
    network(site, name, "--subnet 10.9.0.0/24 --subnet fd00:9::/64", options);
    for (family, subnet, prefix) in SUBNETS {
        site.internet.add_route(subnet.parse().unwrap(), prefix, site.public(family));
    }
}

/// Demands that a published port of `target` is reached from `client` at the container's own address by TCP, another one by UDP, and that
/// it sees the client as `seen_as`.
#[track_caller]
fn assert_ports_open(client: &Net, target: &Net, address: IpAddr, seen_as: IpAddr) {
    let _tcp = target.tcp_listen(address, 80);
    let udp = target.udp_listen(address, 53);
    let mut link = client.tcp_connect(address, 80).expect("TCP");
    assert_eq!(link.seen_as.ip(), seen_as);
    link.echo("hello").unwrap();
    assert_eq!(client.udp_ask(address, udp.port(), "hello").expect("UDP").ip(), seen_as);
}

/// Demands that nothing of `target` is reached from `client` by its own address: no port by TCP, none by UDP, and no echo.
#[track_caller]
fn assert_closed(client: &Net, target: &Net, address: IpAddr) {
    let family = Family::of(address);
    let _tcp = target.tcp_listen(family.any(), 81);
    let udp = target.udp_listen(family.any(), 81);
    assert_silent(client.briefly().tcp_connect(address, 81));
    assert_silent(client.briefly().ping(address));
    client.udp_send(address, 81, "one way").unwrap();
    udp.assert_never_gets("one way");
}

/// Demands that every port of `target` and an echo is reached from `client` by its own address, and that `target` sees it as
/// `seen_as`.
#[track_caller]
fn assert_open(client: &Net, target: &Net, address: IpAddr, seen_as: IpAddr) {
    // On that address: a host with several would answer from another one.
    let _tcp = target.tcp_listen(address, 81);
    let udp = target.udp_listen(address, 81);
    let mut link = client.tcp_connect(address, 81).expect("TCP");
    assert_eq!(link.seen_as.ip(), seen_as);
    link.echo("hello").unwrap();
    assert_eq!(client.udp_ask(address, udp.port(), "hello").expect("UDP").ip(), seen_as);
    client.ping(address).expect("ICMP");
}

/// enable_icc=false: containers of the network do not reach each other, by any protocol; the host, published ports and the
/// outside stay as they were.
#[test]
fn icc_off() {
    let site = Site::new();
    network(&site, "red", "", &["bridge.enable_icc=false"]);
    let client = site.host.run_container("--name client --network red");
    let server = site.host.run_container("--name server --network red -p 8080:80 -p 5353:53/udp");
    for family in Family::BOTH {
        let address = server.ip(family);
        assert_closed(&client, &server, address);
        assert_open(&site.host, &server, address, site.host.gateway("red", family));
        let _tcp = server.tcp_listen(family.any(), 80);
        let _udp = server.udp_listen(family.any(), 53);
        assert_eq!(client.tcp_connect(site.public(family), 8080).expect("TCP").seen_as.ip(), client.ip(family));
        assert_eq!(client.udp_ask(site.public(family), 5353, "hello").expect("UDP").ip(), client.ip(family));
        client.ping(site.host.gateway("red", family)).expect("the gateway");
        client.ping(Site::far(family)).expect("the outside");
    }
    let (socket, udp) = (client.udp_bind(V4.any(), 0).unwrap(), server.udp_listen(V4.any(), 4000));
    socket.set_broadcast(true).unwrap();
    socket.send_to(b"broadcast", (Ipv4Addr::BROADCAST, 4000)).unwrap();
    udp.assert_never_gets("broadcast");
    assert!(site.host.dropped("client", |reason| reason == "IccDisabled") > 0, "the drops are counted");
}

/// Demands that one TCP port of `target` is not reached from `client`, although somebody listens.
#[track_caller]
fn assert_port_closed(client: &Net, target: &Net, address: IpAddr, port: u16) {
    let _tcp = target.tcp_listen(address, port);
    assert_silent(client.briefly().tcp_connect(address, port));
}

/// enable_icc=false with --link: what the other container exposes or publishes is open to the linked one, and nothing else, to nobody
/// else, nor the other way round; with no agent there and after a new one has come as well.
#[test]
fn links_open_ports_with_icc_off() {
    let mut site = Site::new();
    network(&site, "red", "", &["bridge.enable_icc=false"]);
    let options = ["db --expose 80 --expose 50-53/udp -p 9090:90", "web --link db:database", "stranger"];
    let [db, web, stranger] = options.map(|options| {
        let container = site.host.run_container(&format!("--network red --name {options}"));
        ((*container).clone(), Family::BOTH.map(|family| container.ip(family)))
    });
    let check = || {
        for ((family, db_at), web_at) in Family::BOTH.into_iter().zip(db.1).zip(web.1) {
            assert_ports_open(&web.0, &db.0, db_at, web_at);
            let _published = db.0.tcp_listen(family.any(), 90);
            web.0.tcp_connect(db_at, 90).expect("the published port");
            assert_closed(&web.0, &db.0, db_at);
            assert_port_closed(&db.0, &web.0, web_at, 80);
            assert_port_closed(&stranger.0, &db.0, db_at, 80);
            assert_port_closed(&web.0, &stranger.0, stranger.1[usize::from(family == V6)], 80);
        }
    };
    check();
    site.agent.kill();
    check();
    site.agent = site.host.agent();
    check();
    site.host.spandrel("rm -f db").ok();
    // Somebody else gets the address.
    let [v4, v6] = db.1;
    let options = format!("--network name=red,ip={v4},ip6={v6} --name other --expose 80 -p 9090:90");
    let other = site.host.run_container(&options);
    for address in db.1 {
        assert_port_closed(&web.0, &other, address, 80);
        assert_port_closed(&web.0, &other, address, 90);
        let _tcp = other.tcp_listen(address, 80);
        site.host.tcp_connect(address, 80).expect("the control");
    }
}

/// enable_icc=false with --link: links stay with their containers, whatever these go through, and go with them.
#[test]
fn links_follow_containers_with_icc_off() {
    let site = Site::new();
    network(&site, "red", "", &["bridge.enable_icc=false"]);
    site.host.create_network("blue");
    let db = site.host.run_container("--name db --network red --expose 80 --expose 53/udp");
    let web = site.host.run_container("--name web --network blue");
    let (stopped, web_net) = (db.ip(V4), (*web).clone());
    let check = |web: &Container, name: &str| {
        let db = site.host.container(name);
        for family in Family::BOTH {
            assert_ports_open(web, &db, db.ip(family), web.ip_on("red", family));
        }
        assert_port_closed(web, &db, db.ip(V4), 81);
        assert_port_closed(&db, web, web.ip_on("red", V4), 80);
    };
    site.host.spandrel("network connect --link db:database red web").ok();
    check(&web, "db");
    site.host.spandrel("stop -t 0 db").ok();
    let squatter = site.host.run_container("--name squatter --network red --expose 80");
    assert_eq!(squatter.ip(V4), stopped, "it has the address");
    assert_port_closed(&web_net, &squatter, stopped, 80);
    site.host.spandrel("start db").ok();
    check(&web, "db");
    site.host.spandrel("restart -t 0 web").ok();
    let web = site.host.container("web");
    check(&web, "db");
    site.host.spandrel("rename db sql").ok();
    site.host.spandrel("restart -t 0 sql").ok();
    check(&web, "sql");
    let sql = site.host.container("sql");
    site.host.spandrel("publish sql 8181:81").ok();
    let tcp = sql.tcp_listen(V4.any(), 81);
    web.tcp_connect(sql.ip(V4), 81).expect("it is published now");
    drop(tcp);
    site.host.spandrel("unpublish sql 8181:81").ok();
    check(&web, "sql");
    site.host.spandrel("network disconnect red web").ok();
    site.host.spandrel("network connect red web").ok();
    assert_port_closed(&web, &sql, sql.ip(V4), 80);
}

/// Row 15, enable_ip_masquerade=false: containers leave with their own addresses, and are answered; they are not reached.
#[test]
fn masquerade_off() {
    let site = Site::new();
    routed_network(&site, "red", &["bridge.enable_ip_masquerade=false"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        assert_open(&container, &site.internet, Site::far(family), container.ip(family));
        assert_closed(&site.internet, &container, container.ip(family));
    }
}

/// host_binding_ipv4: where published ports are open that name no address.
#[test]
fn host_binding() {
    let site = Site::new();
    network(&site, "red", "", &["bridge.host_binding_ipv4=127.0.0.1"]);
    let web = site.host.run_container("--name web --network red -p 8080:80 -p 0.0.0.0:8081:80");
    let _server = web.tcp_listen(V4.any(), 80);
    site.host.tcp_connect(V4.loopback(), 8080).expect("it is open on loopback");
    let refused = site.internet.tcp_connect(site.public(V4), 8080).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    site.internet.tcp_connect(site.public(V4), 8081).expect("the control: this one names an address");
}

/// mtu: what the network's interfaces carry, on both sides. container_iface_prefix: what they are called inside.
#[test]
fn mtu_and_interface_prefix() {
    let site = Site::new();
    network(&site, "red", "", &["driver.mtu=1400", "container_iface_prefix=net", "bridge.name=br-red"]);
    network(&site, "blue", "", &["container_iface_prefix=lan"]);
    let container = site.host.run_container("--name box --network red");
    site.host.spandrel("network connect blue box").ok();
    assert_eq!(container.link("net0").mtu, 1400);
    assert_eq!(container.link("lan0").mtu, 1500);
    let bridge = site.host.link("br-red");
    assert_eq!(bridge.mtu, 1400);
    let ports: Vec<_> = site.host.links().into_iter().filter(|link| link.master == Some(bridge.index)).collect();
    assert_eq!(ports.iter().map(|port| port.mtu).collect::<Vec<_>>(), [1400]);
    // Segments fit, in both directions.
    for family in Family::BOTH {
        let _server = site.internet.tcp_listen(Site::far(family), 80);
        container.tcp_connect(Site::far(family), 80).unwrap().echo(&"x".repeat(100_000)).unwrap();
    }
}

/// --internal: no way out, which is said at once; the gateway answers; nobody comes in, and published ports are ignored with a
/// warning.
#[test]
fn internal() {
    let site = Site::with_networks(["blue"]);
    routed_network(&site, "--internal red", &[]);
    let stranger = site.host.run_container("--name stranger --network blue");
    let neighbour = site.host.run_container("--name neighbour --network red");
    let made = site.host.spandrel("run -d --name box --network red -p 8080:80 sleep infinity");
    assert!(made.stderr.contains("published ports are ignored: network red is internal"), "{made:?}");
    let container = site.host.container("box");
    for family in Family::BOTH {
        let (address, gateway) = (container.ip(family), site.host.gateway("red", family));
        assert_open(&neighbour, &container, address, neighbour.ip(family));
        assert_open(&site.host, &container, address, gateway);
        assert_open(&container, &site.host, gateway, address);
        for elsewhere in [Site::far(family), site.public(family), stranger.ip(family)] {
            let refused = container.tcp_connect(elsewhere, 80).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NetworkUnreachable, "{elsewhere}");
        }
        assert_closed(&site.internet, &container, address);
        assert_closed(&stranger, &container, address);
        let _server = container.tcp_listen(family.any(), 80);
        let refused = site.internet.tcp_connect(site.public(family), 8080).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        // Whoever gives a container a route has opened nothing.
        container.add_default_route(gateway);
        assert_closed(&container, &site.internet, Site::far(family));
        assert_closed(&container, &site.host, site.public(family));
        assert_closed(&container, &stranger, stranger.ip(family));
    }
    assert!(site.host.dropped("box", |reason| reason == "InternalNetwork") > 0, "the drops are counted");
}

/// gateway_mode nat-unprotected: everybody with a route reaches every port and an echo, under their own address; the way out
/// is masqueraded; published ports work besides. The mode is one family's: the other one stays closed.
#[test]
fn nat_unprotected() {
    for (open, closed) in [(V4, V6), (V6, V4)] {
        let site = Site::with_networks(["blue"]);
        let mode = format!("bridge.gateway_mode_ip{open:?}=nat-unprotected").to_lowercase();
        routed_network(&site, "red", &[&mode]);
        let container = site.host.run_container("--name box --network red -p 8080:80");
        let other = site.host.run_container("--name other --network blue");
        let address = container.ip(open);
        assert_closed(&container, &other, other.ip(open));
        assert_open(&site.internet, &container, address, site.uplink.outside(open));
        assert_open(&other, &container, address, other.ip(open));
        assert_eq!(site.internet.tcp_connect(address, 82).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_open(&container, &site.internet, Site::far(open), site.public(open));
        let _server = container.tcp_listen(open.any(), 80);
        let link = site.internet.tcp_connect(site.public(open), 8080).expect("the published port");
        assert_eq!(link.seen_as.ip(), site.uplink.outside(open));

        assert_closed(&site.internet, &container, container.ip(closed));
        assert_closed(&other, &container, container.ip(closed));
    }
}

/// gateway_mode routed: containers leave with their own addresses, and are reached there at published ports and by echo, from
/// everywhere; no port of the host stands for them, what is not published is closed, and a network in mode nat stays so.
#[test]
fn routed() {
    for (open, closed) in [(V4, V6), (V6, V4)] {
        let site = Site::with_networks(["blue"]);
        let mode = format!("bridge.gateway_mode_ip{open:?}=routed").to_lowercase();
        routed_network(&site, "red", &[&mode]);
        let container = site.host.run_container("--name box --network red -p 8080:80 -p 5353:53/udp");
        let other = site.host.run_container("--name other --network blue");
        assert_closed(&container, &other, other.ip(open));
        for (client, seen_as) in [(&*site.internet, site.uplink.outside(open)), (&other, other.ip(open))] {
            assert_ports_open(client, &container, container.ip(open), seen_as);
            assert_closed(client, &container, container.ip(closed));
            client.ping(container.ip(open)).expect("ICMP");
            let (_tcp, udp) = (container.tcp_listen(open.any(), 82), container.udp_listen(open.any(), 82));
            assert_silent(client.briefly().tcp_connect(container.ip(open), 82));
            client.udp_send(container.ip(open), 82, "one way").unwrap();
            udp.assert_never_gets("one way");
        }
        assert_open(&container, &site.internet, Site::far(open), container.ip(open));
        assert_open(&container, &site.internet, Site::far(closed), site.public(closed));
        let _server = container.tcp_listen(open.any(), 80);
        let refused = site.internet.tcp_connect(site.public(open), 8080).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "there is no port of the host");
        assert_open(&site.host, &container, container.ip(open), site.host.gateway("red", open));
    }
}

/// trusted_host_interfaces: through them, and from a network that is named, published ports are also reached at the container's
/// own address; nothing else is, and nobody else does. An interface may come later.
#[test]
fn trusted_interfaces() {
    let lab = Lab::new();
    let (host, first, second) = (lab.host("host"), lab.machine("first"), lab.machine("second"));
    let cable = lab.uplink(&host, &first);
    let _agent = host.agent();
    host.create_network(&format!("--ipv6 -o {PREFIX}bridge.name=br-blue blue"));
    host.create_network("--ipv6 green");
    let trusted = format!("-o {PREFIX}bridge.trusted_host_interfaces=eth2:br-blue");
    host.create_network(&format!("--ipv6 --subnet 10.9.0.0/24 --subnet fd00:9::/64 {trusted} red"));
    let ports = "-p 8080:80 -p 8081:80 -p 5353:53/udp -p 127.0.0.1:8082:81";
    let container = host.run_container(&format!("--name box --network red {ports}"));
    let blue = host.run_container("--name in-blue --network blue");
    let green = host.run_container("--name in-green --network green");
    let later = lab.uplink(&host, &second);
    for (machine, cable) in [(&first, &cable), (&second, &later)] {
        for (family, subnet, prefix) in SUBNETS {
            machine.add_route(subnet.parse().unwrap(), prefix, cable.host(family));
        }
    }
    for family in Family::BOTH {
        let address = container.ip(family);
        assert_ports_open(&second, &container, address, later.outside(family));
        assert_ports_open(&blue, &container, address, blue.ip(family));
        for stranger in [&*first, &*green] {
            let (_tcp, udp) = (container.tcp_listen(address, 80), container.udp_listen(address, 53));
            assert_silent(stranger.briefly().tcp_connect(address, 80));
            stranger.udp_send(address, 53, "one way").unwrap();
            udp.assert_never_gets("one way");
        }
        for client in [&*first, &*second, &*blue, &*green] {
            assert_closed(client, &container, address);
        }
    }
    host.spandrel("unpublish box 8080:80").ok();
    assert_ports_open(&second, &container, container.ip(V4), later.outside(V4));
    host.spandrel("unpublish box 8081:80").ok();
    let _server = container.tcp_listen(V4.any(), 80);
    assert_silent(second.briefly().tcp_connect(container.ip(V4), 80));
}

/// gateway_mode isolated: the bridge has no address, so host and containers do not reach each other, not even where somebody
/// gives it one; containers of the network do.
#[test]
fn isolated() {
    let site = Site::new();
    let modes = ["bridge.gateway_mode_ipv4=isolated", "bridge.gateway_mode_ipv6=isolated", "bridge.name=br-red"];
    routed_network(&site, "--internal red", &modes);
    let container = site.host.run_container("--name box --network red");
    let neighbour = site.host.run_container("--name neighbour --network red");
    let bridge = site.host.link("br-red").index;
    let on_bridge = || site.host.addresses().into_iter().filter(|(index, ..)| *index == bridge).count();
    assert_eq!(on_bridge(), 0, "not even a link-local address");
    let inspected = site.host.spandrel("network inspect red").json();
    assert!(inspected[0]["IPAM"]["Config"].as_array().unwrap().iter().all(|config| config.get("Gateway").is_none()));
    // Nothing is set aside for a gateway.
    assert_eq!(container.ip(V4), Ipv4Addr::new(10, 9, 0, 1));

    site.host.set_sysctl("ipv6/conf/br-red/disable_ipv6", "0");
    for (family, address, prefix) in [(V4, "10.9.0.99", 24), (V6, "fd00:9::99", 64)] {
        assert_open(&neighbour, &container, container.ip(family), neighbour.ip(family));
        assert_closed(&site.internet, &container, container.ip(family));
        let refused = container.tcp_connect(Site::far(family), 80).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NetworkUnreachable);
        let address = address.parse().unwrap();
        site.host.add_address("br-red", address, prefix);
        let ways: [(&Net, &Net, IpAddr); 2] =
            [(&site.host, &container, container.ip(family)), (&container, &site.host, address)];
        for (client, server, to) in ways {
            let _tcp = server.tcp_listen(family.any(), 81);
            let udp = server.udp_listen(family.any(), 81);
            // There is no answer to ARP or neighbour discovery, of which the client may tell itself.
            let unanswered =
                |kind| matches!(kind, ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::HostUnreachable);
            assert!(unanswered(client.briefly().tcp_connect(to, 81).unwrap_err().kind()));
            assert!(unanswered(client.briefly().ping(to).unwrap_err().kind()));
            client.udp_send(to, 81, "one way").unwrap();
            udp.assert_never_gets("one way");
        }
    }
    let udp = site.host.udp_listen(V4.any(), 4000);
    let (heard, socket) = (neighbour.udp_listen(V4.any(), 4000), container.udp_bind(V4.any(), 0).unwrap());
    socket.set_broadcast(true).unwrap();
    socket.send_to(b"broadcast", (Ipv4Addr::new(10, 9, 0, 255), 4000)).unwrap();
    heard.sender_of("broadcast").expect("the control");
    udp.assert_never_gets("broadcast");
}

/// An isolated network of two addresses is a cable between two containers.
#[test]
fn isolated_point_to_point() {
    let site = Site::new();
    let mode = format!("-o {PREFIX}bridge.gateway_mode_ipv4=isolated");
    site.host.create_network(&format!("--internal --subnet 10.9.0.0/31 {mode} cable"));
    let [a, b] = ["a", "b"].map(|name| site.host.run_container(&format!("--name {name} --network cable")));
    assert_open(&a, &b, b.ip(V4), a.ip(V4));
    let third = site.host.spandrel("run -d --name c --network cable sleep infinity");
    assert!(third.code != Some(0) && third.stderr.contains("10.9.0.0/31"), "{third:?}");
}

/// One family may be isolated and the other one not.
#[test]
fn isolated_in_one_family() {
    let site = Site::new();
    network(&site, "red", "--internal", &["bridge.gateway_mode_ipv6=isolated", "bridge.name=br-red"]);
    let container = site.host.run_container("--name box --network red");
    let bridge = site.host.link("br-red").index;
    let on_bridge: Vec<_> = site.host.addresses().into_iter().filter(|(index, ..)| *index == bridge).collect();
    assert_eq!(on_bridge, [(bridge, site.host.gateway("red", V4), 16)]);
    assert_open(&site.host, &container, container.ip(V4), site.host.gateway("red", V4));
    assert_open(&container, &site.host, site.host.gateway("red", V4), container.ip(V4));
}

/// inhibit_ipv4: the bridge has no IPv4 address, and a router that is plugged into it is the containers' gateway. IPv6 stays as
/// it is.
#[test]
fn inhibit_ipv4() {
    let site = Site::new();
    routed_network(&site, "red", &["bridge.inhibit_ipv4=true", "bridge.name=br-red"]);
    let container = site.host.run_container("--name box --network red -p 8080:80");
    let router = Lab::new().machine("router");
    site.host.cable("port0", &router, "lan0");
    site.host.plug("port0", "br-red");
    let (gateway, behind) = (site.host.gateway("red", V4), IpAddr::from([192, 0, 2, 77]));
    router.add_address("lan0", gateway, 24);
    router.add_address("lo", behind, 32);

    let bridge = site.host.link("br-red").index;
    assert!(!site.host.addresses().iter().any(|(index, address, _)| *index == bridge && address.is_ipv4()));
    for address in [gateway, behind] {
        assert_open(&container, &router, address, container.ip(V4));
    }
    assert_open(&router, &container, container.ip(V4), gateway);
    assert_closed(&site.internet, &container, container.ip(V4));
    // A published port works all the same, and so does the other family.
    let _server = container.tcp_listen(V4.any(), 80);
    let link = site.internet.tcp_connect(site.public(V4), 8080).expect("the published port");
    assert_eq!(link.seen_as.ip(), site.uplink.outside(V4));
    assert_open(&container, &site.internet, Site::far(V6), site.public(V6));
    assert_open(&site.host, &container, container.ip(V6), site.host.gateway("red", V6));
}

/// host_ipv4 and host_ipv6: the way out is masqueraded with these addresses, be they the host's own or only routed to it.
#[test]
fn fixed_source_addresses() {
    let site = Site::new();
    let own: [IpAddr; 2] = ["198.18.1.77".parse().unwrap(), "2001:db8:1::77".parse().unwrap()];
    let routed: [IpAddr; 2] = ["198.51.100.77".parse().unwrap(), "2001:db8:7::77".parse().unwrap()];
    for (name, addresses) in [("red", own), ("blue", routed)] {
        let [v4, v6] = addresses;
        network(&site, name, "", &[&format!("host_ipv4={v4}"), &format!("host_ipv6={v6}")]);
    }
    for (index, prefix) in [(0, 32), (1, 128)] {
        site.host.add_address(&site.uplink.name, own[index], prefix);
        site.internet.add_route(routed[index], prefix, site.public(Family::BOTH[index]));
    }
    for (name, addresses) in [("red", own), ("blue", routed)] {
        let container = site.host.run_container(&format!("--name in-{name} --network {name} -p 80"));
        for (family, address) in Family::BOTH.into_iter().zip(addresses) {
            assert_open(&container, &site.internet, Site::far(family), address);
        }
    }
    // What the host itself sends, and other networks, leave as before.
    network(&site, "green", "", &[]);
    let container = site.host.run_container("--name in-green --network green");
    for family in Family::BOTH {
        assert_open(&container, &site.internet, Site::far(family), site.public(family));
    }
    // Among several IPv6 addresses of its own the host's kernel chooses by itself (RFC 6724).
    assert_open(&site.host, &site.internet, Site::far(V4), site.public(V4));
}

/// Options that contradict each other are refused with a sentence.
#[test]
fn contradictions_are_refused() {
    let site = Site::new();
    let mode = format!("-o {PREFIX}bridge.gateway_mode_ipv4=isolated");
    let refused = site.host.spandrel(&format!("network create {mode} red"));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("can only be used for an internal network"), "{refused:?}");
    site.host.create_network(&format!("--internal {mode} red"));
}
