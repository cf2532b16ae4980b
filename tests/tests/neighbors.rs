//! SEMANTICS §1 row 1 and §2, on the link: broadcast and multicast, who answers for whom, and what a new container tells its
//! neighbours. That none of it can be false is in `spoofing.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use etherparse::icmpv6::{TYPE_NEIGHBOR_ADVERTISEMENT, TYPE_NEIGHBOR_SOLICITATION};
use spandrel_tests::*;

/// Row 1: broadcast and multicast reach the containers of the same network, and no other container.
#[test]
fn broadcast_and_multicast_stay_in_the_network() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 red");
    site.host.create_network("--ipv6 blue");
    let a = site.host.run_container("--name a --network red");
    let friend = site.host.run_container("--name friend --network red");
    let stranger = site.host.run_container("--name stranger --network blue");

    let group = Ipv4Addr::new(239, 1, 2, 3);
    let group6 = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x123);
    let sockets = [&friend, &stranger].map(|container| {
        let interface = container.link("eth0").index;
        let v4 = container.briefly().udp_bind(V4.any(), 4000).unwrap();
        v4.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED).unwrap();
        let v6 = container.briefly().udp_bind(V6.any(), 4001).unwrap();
        v6.join_multicast_v6(&group6, interface).unwrap();
        (v4, v6)
    });
    let out = a.link("eth0").index;
    let sender = a.udp_bind(V4.any(), 0).unwrap();
    sender.set_broadcast(true).unwrap();
    let sender6 = a.udp_bind(V6.any(), 0).unwrap();
    sender.send_to(b"broadcast", (Ipv4Addr::BROADCAST, 4000)).unwrap();
    sender.send_to(b"to the subnet", (Ipv4Addr::new(10, 1, 0, 255), 4000)).unwrap();
    sender.send_to(b"multicast", (group, 4000)).unwrap();
    sender6.send_to(b"all nodes", SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 4001, 0, out)).unwrap();
    sender6.send_to(b"multicast", SocketAddrV6::new(group6, 4001, 0, out)).unwrap();

    let gets = |socket: &UdpSocket, text: &str, family| {
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{family:?} {text}: {error}"));
        assert_eq!(&buffer[..length], text.as_bytes());
        // IPv6 sends to its own link with the link-local address.
        assert!(from.ip() == a.ip(family) || from.ip().to_string().starts_with("fe80:"), "{from}");
    };
    let [(friend4, friend6), (stranger4, stranger6)] = &sockets;
    for text in ["broadcast", "to the subnet", "multicast"] {
        gets(friend4, text, V4);
    }
    for text in ["all nodes", "multicast"] {
        gets(friend6, text, V6);
    }
    // Each once.
    let silent = |socket: &UdpSocket| assert_silent(socket.recv_from(&mut [0; 64]));
    at_once([&|| silent(friend4), &|| silent(friend6), &|| silent(stranger4), &|| silent(stranger6)]);
}

/// Who has `address`? A frame of ARP or neighbour discovery that asks so.
fn asks_for(frame: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_arp(frame) && frame[20..22] == [0, 1] && frame[38..42] == address.octets(),
        IpAddr::V6(address) => discovery(frame, TYPE_NEIGHBOR_SOLICITATION) == Some(address),
    }
}

fn is_arp(frame: &[u8]) -> bool {
    frame.len() >= 42 && frame[12..14] == [0x08, 0x06]
}

/// The target of a neighbour message of this type.
fn discovery(frame: &[u8], kind: u8) -> Option<Ipv6Addr> {
    let icmp = frame.get(54..78).filter(|_| frame[12..14] == [0x86, 0xdd] && frame[20] == 58)?;
    (icmp[0] == kind).then(|| Ipv6Addr::from(<[u8; 16]>::try_from(&icmp[8..24]).expect("16 bytes")))
}

/// Row 1: a container learns its neighbours' MAC addresses though they are never asked: eBPF answers, without the agent.
#[test]
fn neighbours_are_resolved_without_asking_them() {
    let mut site = Site::with_networks(["red"]);
    let a = site.host.run_container("--name a --network red");
    let friend = site.host.run_container("--name friend --network red");
    let (a, friend, mac) =
        ((*a).clone(), (Family::BOTH.map(|family| friend.ip(family)), (*friend).clone()), friend.mac_on("red"));
    let (addresses, friend) = friend;
    site.agent.kill();
    let heard = friend.briefly().frames("eth0");
    for address in addresses {
        a.ping(address).expect("an answer");
        assert_eq!(a.neighbour(address), Some(mac));
    }
    // What the friend has seen are the pings, which came after any question.
    let mut pings = 0;
    while pings < 2 {
        let frame = heard.next(|_| true).expect("the pings are seen");
        for address in addresses {
            assert!(!asks_for(&frame, address), "the friend was asked for {address}: {frame:x?}");
            pings += usize::from(ip_addresses(&frame).is_some_and(|(_, destination)| destination == address));
        }
    }
    site.agent = site.host.agent();
}

/// Rows 1 and 2: nobody answers for an address that no container of the network has, nor for one of another network.
#[test]
fn nobody_answers_for_strangers() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 red");
    site.host.create_network("--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64 blue");
    let a = site.host.run_container("--name a --network red");
    let friend = site.host.run_container("--name friend --network red");
    let stranger = site.host.run_container("--name stranger --network blue");
    for (family, nobody, (foreign, prefix)) in
        [(V4, "10.1.0.200", ("10.2.0.0", 24)), (V6, "fd00:1::200", ("fd00:2::", 64))]
    {
        // The container takes all of it for its own link.
        a.add_link_route("eth0", foreign.parse().unwrap(), prefix);
        a.ping(friend.ip(family)).expect("the control");
        let nobody: IpAddr = nobody.parse().unwrap();
        at_once([&|| _ = a.briefly().ping(nobody).unwrap_err(), &|| {
            _ = a.briefly().ping(stranger.ip(family)).unwrap_err();
        }]);
        assert_eq!(a.neighbour(nobody), None);
        assert_eq!(a.neighbour(stranger.ip(family)), None);
    }
}

/// Row 1: what a container asks on its link is heard by no container of another network.
#[test]
fn questions_stay_in_the_network() {
    let site = Site::with_networks(["red", "blue"]);
    let a = site.host.run_container("--name a --network red");
    let stranger = site.host.run_container("--name stranger --network blue");
    let heard = stranger.briefly().frames("eth0");
    let control = stranger.frames("eth0");
    let nobody = Family::BOTH.map(|family| match site.host.gateway("red", family) {
        IpAddr::V4(gateway) => IpAddr::V4((u32::from(gateway) + 200).into()),
        IpAddr::V6(gateway) => IpAddr::V6((u128::from(gateway) + 200).into()),
    });
    at_once([
        &|| {
            let foreign = heard.next(|frame| nobody.iter().any(|address| asks_for(frame, *address)));
            assert_eq!(foreign, None);
        },
        &|| _ = a.briefly().ping(nobody[0]).unwrap_err(),
        &|| _ = a.briefly().ping(nobody[1]).unwrap_err(),
    ]);
    let gateway = site.host.gateway("blue", V4);
    stranger.ping(gateway).expect("the gateway answers");
    control.next(|frame| asks_for(frame, gateway)).expect("the control: its own questions are seen there");
}

/// Row announce: a container that joins tells its neighbours where its addresses are now: gratuitous ARP, unsolicited advertisement (RFC 5227 §3,
/// RFC 4861 §7.2.6).
#[test]
fn a_new_container_announces_itself() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.9.0.0/24 --subnet fd00:9::/64 red");
    let friend = site.host.run_container("--name friend --network red");
    let (heard, heard6) = (friend.frames("eth0"), friend.frames("eth0"));
    let new = site.host.run_container("--name new --network red --ip 10.9.0.77 --ip6 fd00:9::77");
    let mac = new.mac_on("red");
    let gratuitous = |frame: &[u8]| {
        is_arp(frame) && frame[28..32] == [10, 9, 0, 77] && frame[38..42] == [10, 9, 0, 77] && frame[22..28] == mac
    };
    heard.next(gratuitous).expect("a gratuitous ARP packet");
    let target: Ipv6Addr = "fd00:9::77".parse().unwrap();
    let unsolicited =
        |frame: &[u8]| discovery(frame, TYPE_NEIGHBOR_ADVERTISEMENT) == Some(target) && frame.get(80..86) == Some(&mac);
    heard6.next(unsolicited).expect("an unsolicited neighbour advertisement");
}

/// Row announce: neighbours' caches do not stay stale: a container that takes over an address is reached at once, by its neighbours and by the
/// host.
#[test]
fn an_address_may_move_to_another_container() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.9.0.0/24 --subnet fd00:9::/64 red");
    let friend = site.host.run_container("--name friend --network red");
    let run =
        |name: &str| site.host.run_container(&format!("--name {name} --network red --ip 10.9.0.77 --ip6 fd00:9::77"));
    let old = run("old");
    let addresses = Family::BOTH.map(|family| old.ip(family));
    let old_mac = old.mac_on("red");
    for address in addresses {
        for neighbour in [&*friend, &*site.host] {
            neighbour.ping(address).expect("the old one answers");
            assert_eq!(neighbour.neighbour(address), Some(old_mac));
        }
    }
    old.remove();
    let new = run("new");
    assert_ne!(new.mac_on("red"), old_mac);
    for address in addresses {
        let _udp = new.udp_listen(address, UDP_PORT);
        for neighbour in [&*friend, &*site.host] {
            // One datagram, which is not sent again.
            let seen = neighbour.udp_ask(address, UDP_PORT, "the first one");
            seen.unwrap_or_else(|error| panic!("{} does not reach {address}: {error}", neighbour.name()));
        }
    }
}

/// Row 1: the link-local addresses of neighbours are reached as well.
#[test]
fn neighbours_are_reached_by_link_local_addresses() {
    let site = Site::with_networks(["red"]);
    let a = site.host.run_container("--name a --network red");
    let b = site.host.run_container("--name b --network red");
    let link_local = b.addresses().into_iter().find_map(|(_, address, _)| match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
        _ => None,
    });
    let scope = a.link("eth0").index;
    let there = SocketAddrV6::new(link_local.expect("a link-local address"), UDP_PORT, 0, scope);
    let _udp = b.udp_listen(V6.any(), UDP_PORT);
    let socket = a.udp_bind(V6.any(), 0).unwrap();
    socket.send_to(b"hello", there).unwrap();
    let (_, from) = socket.recv_from(&mut [0; 128]).expect("an answer");
    assert_eq!(from, SocketAddr::V6(there));
}
