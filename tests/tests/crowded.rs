//! More containers on one network than its bridge has ports, which are 1,023 with Linux. Plain interfaces take the places of the
//! first thousand.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::thread::sleep;
use std::time::Duration;

use spandrel_tests::*;

/// How many ports a bridge has (`BR_MAX_PORTS` of the kernel, less one).
const PORTS: usize = 1023;

/// Longer than the agent waits between two looks at its interfaces.
const LOOK: Duration = Duration::from_secs(11);

/// A site whose network `red` has room for one container on its bridge.
#[track_caller]
fn crowded_site(options: &str) -> Site {
    let site = Site::with_networks(["blue"]);
    site.host.create_network(&format!("--ipv6 -o com.docker.network.bridge.name=br-red {options} red"));
    site.host.crowd("br-red", PORTS - 1);
    site
}

/// Whether the host's end of a container is a port of the bridge.
#[track_caller]
fn is_port(site: &Site, container: &Container) -> bool {
    let links = site.host.links();
    let bridge = links.iter().find(|link| link.name == "br-red").expect("the bridge is there").index;
    let peer = container.link("eth0").peer.expect("it has a host's end");
    links.iter().find(|link| link.index == peer).expect("which is there").master == Some(bridge)
}

/// Demands that `server` is reached by every protocol, and sees `client` as `seen_as`.
#[track_caller]
fn assert_reached(client: &Net, server: &Net, address: IpAddr, seen_as: IpAddr) {
    let (_tcp, udp) = (server.tcp_listen(address, 80), server.udp_listen(address, 53));
    let mut link = client.tcp_connect(address, 80).expect("TCP");
    assert_eq!(link.seen_as.ip(), seen_as);
    // More than fits into one packet, or into one segment that a card would cut.
    link.echo(&"hello".repeat(50_000)).unwrap();
    assert_eq!(client.udp_ask(address, udp.port(), "hello").expect("UDP").ip(), seen_as);
    client.ping(address).expect("ICMP");
}

/// Rows 1, 2, 3, 4, 5, 6, 9, 14, 17 and announce: everything that a container on the bridge can do, the others can, with and without an
/// agent; and when they have gone, nothing is left.
#[test]
fn containers_beyond_the_bridges_ports_are_containers_like_all() {
    let mut site = crowded_site("");
    // A bridge gets its link-local route with its first running port.
    for network in ["red", "blue"] {
        site.host.run_container(&format!("--name early --network {network}")).remove();
    }
    let before = site.host.traces();
    {
        let first = site.host.run_container("--name first --network red");
        let second = site.host.run_container("--name second --network red -p 8080:80 -p 5353:53/udp");
        let heard = [first.frames("eth0"), second.frames("eth0"), site.host.frames("br-red")];
        let third = site.host.run_container("--name third --network red");
        for frames in heard {
            let IpAddr::V4(new) = third.ip(V4) else { unreachable!("asked for IPv4") };
            let (mac, new) = (third.mac_on("red"), new.octets());
            let gratuitous = |frame: &[u8]| {
                frame[12..14] == [8, 6] && frame[22..28] == mac && frame[28..32] == new && frame[38..42] == new
            };
            frames.next(gratuitous).expect("a gratuitous ARP packet");
        }
        let stranger = site.host.run_container("--name stranger --network blue");
        assert_eq!([&first, &second, &third].map(|container| is_port(&site, container)), [true, false, false]);
        for family in Family::BOTH {
            let gateway = site.host.gateway("red", family);
            let all = [&first, &second, &third];
            for container in all {
                let address = container.ip(family);
                for neighbour in all.into_iter().filter(|other| other.name != container.name) {
                    assert_reached(neighbour, container, address, neighbour.ip(family));
                }
                assert_reached(&site.host, container, address, gateway);
                for host in [gateway, site.host.gateway("blue", family), site.public(family)] {
                    assert_reached(container, &site.host, host, address);
                }
                assert_reached(container, &site.internet, Site::far(family), site.public(family));
                assert_silent(container.briefly().ping(stranger.ip(family)));
                assert_silent(stranger.briefly().ping(address));
            }
            // Published ports, from everywhere.
            let (_tcp, udp) = (second.tcp_listen(family.any(), 80), second.udp_listen(family.any(), 53));
            for (client, seen_as) in [
                (&*site.internet, site.uplink.outside(family)),
                (&*stranger, stranger.ip(family)),
                (&*first, first.ip(family)),
                (&*third, third.ip(family)),
                (&*second, gateway),
            ] {
                let public = site.public(family);
                assert_eq!(client.tcp_connect(public, 8080).expect("TCP").seen_as.ip(), seen_as);
                assert_eq!(client.udp_ask(public, 5353, "hello").expect("UDP").ip(), seen_as);
            }
            drop(udp);
            assert_eq!(third.tcp_connect(second.ip(family), 81).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        link_local(&site, &[&first, &second, &third]);
        broadcasts(&site, &[&first, &second, &third]);
        // Lies are dropped here as anywhere.
        let frames = third.frames("eth0");
        let mut lie = vec![0xff; 6];
        lie.extend(first.mac_on("red"));
        lie.extend([0x08, 0x00, 0x45]);
        frames.send(&[lie, vec![0; 40]].concat());
        assert!(site.host.dropped("third", |reason| reason == "SpoofedMac") > 0);
    }
    let [first, second, third] = ["first", "second", "third"].map(|name| site.host.container(name));
    // Without an agent they go on.
    let server = third.tcp_listen(V6.any(), 4005);
    let known =
        Family::BOTH.map(|family| (family, second.ip(family), third.ip(family), site.host.gateway("red", family)));
    let mut links = Family::BOTH.map(|family| site.host.tcp_connect(third.ip(family), 4005).expect("TCP"));
    site.agent.kill();
    for (family, neighbour, address, gateway) in known {
        assert_reached(&site.host, &third, address, gateway);
        assert_reached(&second, &third, address, neighbour);
        assert_reached(&third, &site.internet, Site::far(family), site.public(family));
    }
    // A new one finds them as they are, and has nothing to mend.
    site.agent = site.host.agent();
    sleep(LOOK);
    assert_eq!([&first, &second, &third].map(|container| is_port(&site, container)), [true, false, false]);
    assert!(!site.agent.log().contains("mending"), "{}", site.agent.log());
    for link in &mut links {
        link.echo("the same connection").unwrap();
    }
    drop((links, server));
    for family in Family::BOTH {
        assert_reached(&site.host, &third, third.ip(family), site.host.gateway("red", family));
        assert_reached(&third, &site.internet, Site::far(family), site.public(family));
    }

    // A port that becomes free is taken by one of them.
    first.remove();
    assert_ne!(is_port(&site, &second), is_port(&site, &third));
    for family in Family::BOTH {
        for (container, neighbour) in [(&second, &third), (&third, &second)] {
            assert_reached(&site.host, container, container.ip(family), site.host.gateway("red", family));
            assert_reached(neighbour, container, container.ip(family), neighbour.ip(family));
            assert_reached(container, &site.internet, Site::far(family), site.public(family));
        }
    }
    second.remove();
    assert!(is_port(&site, &third));
    third.remove();
    site.host.spandrel("rm -f stranger").ok();
    site.host.traces().assert_same_as(&before);
}

/// By IPv6's link-local addresses, which say nothing of the interface.
fn link_local(site: &Site, containers: &[&Container]) {
    let own = |net: &Net, interface: &str| {
        let index = net.link(interface).index;
        let addresses = net.addresses().into_iter();
        let mut local = addresses.filter_map(|(of, address, _)| match address {
            IpAddr::V6(address) if of == index && address.is_unicast_link_local() => Some(address),
            _ => None,
        });
        (index, local.next().unwrap_or_else(|| panic!("{interface} of {} has no link-local address", net.name())))
    };
    let ask = |client: &Net, index: u32, server: &Net, to: Ipv6Addr| {
        let udp = server.udp_listen(V6.any(), 4004);
        let text = format!("{} to {}", client.name(), server.name());
        let socket = client.udp_bind(V6.any(), 0).unwrap();
        socket.send_to(text.as_bytes(), SocketAddrV6::new(to, 4004, 0, index)).unwrap();
        assert!(udp.sender_of(&text).is_some(), "{text}");
    };
    let (bridge, gateway) = own(&site.host, "br-red");
    for container in containers {
        let (index, address) = own(container, "eth0");
        ask(&site.host, bridge, container, address);
        ask(container, index, &site.host, gateway);
        for neighbour in containers.iter().filter(|other| other.name != container.name) {
            let (index, _) = own(neighbour, "eth0");
            ask(neighbour, index, container, address);
        }
    }
}

/// Broadcast and multicast, from each and from the host, to all others, once each.
fn broadcasts(site: &Site, containers: &[&Container]) {
    let broadcast = match (containers[0].ip(V4), V4) {
        (IpAddr::V4(address), _) => Ipv4Addr::from_bits(address.to_bits() | 0xffff),
        (IpAddr::V6(_), _) => unreachable!("asked for IPv4"),
    };
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut everybody: Vec<(&Net, &str)> = containers.iter().map(|container| (&***container, "eth0")).collect();
    everybody.push((&site.host, "br-red"));
    for &(sender, interface) in &everybody {
        let receivers: Vec<_> = everybody.iter().filter(|(net, _)| net.name() != sender.name()).collect();
        let sockets: Vec<_> = receivers
            .iter()
            .map(|(net, _)| {
                (net.briefly().udp_bind(V4.any(), 4000).unwrap(), net.briefly().udp_bind(V6.any(), 4001).unwrap())
            })
            .collect();
        let socket = sender.udp_bind(V4.any(), 0).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"broadcast", (broadcast, 4000)).unwrap();
        let index = sender.link(interface).index;
        let to = SocketAddrV6::new(all_nodes, 4001, 0, index);
        sender.udp_bind(V6.any(), 0).unwrap().send_to(b"multicast", to).unwrap();
        for ((v4, v6), (receiver, _)) in sockets.iter().zip(&receivers) {
            for (socket, text) in [(v4, "broadcast"), (v6, "multicast")] {
                let mut buffer = [0; 64];
                let what = format!("{text} from {} to {}", sender.name(), receiver.name());
                let (length, _) = socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(&buffer[..length], text.as_bytes());
                assert_silent(socket.recv_from(&mut buffer));
            }
        }
    }
}

/// enable_icc=false holds there as well.
#[test]
fn icc_off_holds_beyond_the_bridges_ports() {
    let site = crowded_site("-o com.docker.network.bridge.enable_icc=false");
    let [first, second, third] =
        ["first", "second", "third"].map(|name| site.host.run_container(&format!("--name {name} --network red")));
    for family in Family::BOTH {
        for (client, server) in [(&first, &second), (&second, &first), (&second, &third)] {
            let address = server.ip(family);
            let (_tcp, udp) = (server.tcp_listen(address, 80), server.udp_listen(address, 53));
            assert_silent(client.briefly().tcp_connect(address, 80));
            assert_silent(client.briefly().ping(address));
            client.udp_send(address, 53, "one way").unwrap();
            udp.assert_never_gets("one way");
            site.host.tcp_connect(address, 80).expect("the control");
            client.ping(Site::far(family)).expect("the outside");
        }
    }
    let udp = third.udp_listen(V4.any(), 4000);
    let heard = site.host.udp_listen(V4.any(), 4000);
    let socket = second.udp_bind(V4.any(), 0).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.send_to(b"broadcast", (Ipv4Addr::BROADCAST, 4000)).unwrap();
    heard.sender_of("broadcast").expect("the host hears it");
    udp.assert_never_gets("broadcast");
}
