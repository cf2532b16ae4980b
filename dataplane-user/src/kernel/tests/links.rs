//! Bridges and veth pairs: made once, mended when not right, left alone when not ours.

use std::net::UdpSocket;
use std::path::Path;

use futures_util::TryStreamExt;
use rtnetlink::LinkBridgePort;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::*;
use crate::kernel::announce::announce;

const MARK: &str = "spandrel test";

fn bridge() -> BridgeSpec {
    BridgeSpec {
        name: "br-test".into(),
        alias: MARK.into(),
        mtu: 1450,
        mac: None,
        addresses: vec!["10.9.0.1/24".parse().unwrap(), "fd09::1/64".parse().unwrap()],
    }
}

fn veth(bridge_ifindex: u32) -> VethSpec {
    VethSpec {
        routes: vec![],
        host_name: "veth0000001".into(),
        container_name: "eth0".into(),
        alias: MARK.into(),
        bridge_ifindex,
        mac: [2, 0x42, 10, 9, 0, 2],
        mtu: 1450,
        addresses: vec!["10.9.0.2/24".parse().unwrap(), "fd09::2/64".parse().unwrap()],
        gateways: vec!["10.9.0.1".parse().unwrap(), "fd09::1".parse().unwrap()],
    }
}

fn networks(netlink: &Netlink, link: &Link) -> Vec<IpNet> {
    let mut networks: Vec<_> =
        netlink.addresses().unwrap().into_iter().filter(|a| a.ifindex == link.ifindex).map(|a| a.network).collect();
    networks.retain(|network| !matches!(network.addr(), IpAddr::V6(address) if address.is_unicast_link_local()));
    networks.sort();
    networks
}

fn gateways(netlink: &Netlink) -> Vec<IpAddr> {
    let routes = netlink.routes().unwrap().unicast;
    let mut gateways: Vec<_> =
        routes.iter().filter(|route| route.destination.prefix_len() == 0).filter_map(|route| route.gateway).collect();
    gateways.sort();
    gateways
}

#[test]
fn a_bridge_is_made_once_and_then_left_alone() {
    Host::new().run(async |netlink| {
        let made = netlink.ensure_bridge(&bridge()).await.unwrap();
        assert!(made.changed);
        assert_eq!(made.mac[0] & 3, 2);
        let link = netlink.expect_link("br-test").await.unwrap();
        assert_eq!(
            (link.kind.as_str(), link.alias.as_str(), link.mtu, link.up, link.mac),
            ("bridge", MARK, 1450, true, Some(made.mac))
        );
        assert_eq!(networks(&netlink, &link), bridge().addresses);
        assert_eq!(sysctl::get(&["net", "ipv6", "conf", "br-test", "accept_ra"]).unwrap(), "0");

        let again = netlink.ensure_bridge(&bridge()).await.unwrap();
        assert!(!again.changed);
        assert_eq!((again.ifindex, again.mac), (made.ifindex, made.mac));
    });
}

#[test]
fn a_bridge_is_mended() {
    Host::new().run(async |netlink| {
        let made = netlink.ensure_bridge(&bridge()).await.unwrap();
        let link = netlink.expect_link("br-test").await.unwrap();
        let strange: Vec<IpNet> = vec!["10.9.0.7/24".parse().unwrap(), "fd09::7/64".parse().unwrap()];
        netlink.set_addresses(&link, &strange).await.unwrap();
        netlink.change(LinkUnspec::new_with_index(made.ifindex).down().mtu(1400).build(), String::new).await.unwrap();

        let mended = netlink.ensure_bridge(&bridge()).await.unwrap();
        assert!(mended.changed);
        assert_eq!((mended.ifindex, mended.mac), (made.ifindex, made.mac));
        let link = netlink.expect_link("br-test").await.unwrap();
        assert_eq!((link.mtu, link.up), (1450, true));
        assert_eq!(networks(&netlink, &link), bridge().addresses);
        assert!(!netlink.ensure_bridge(&bridge()).await.unwrap().changed);

        // Without IPv6 addresses there is no IPv6 on it at all, and with them there is again.
        let ipv4 = BridgeSpec { addresses: vec!["10.9.0.1/24".parse().unwrap()], ..bridge() };
        assert!(netlink.ensure_bridge(&ipv4).await.unwrap().changed);
        assert_eq!(sysctl::get(&["net", "ipv6", "conf", "br-test", "disable_ipv6"]).unwrap(), "1");
        assert!(!netlink.ensure_bridge(&ipv4).await.unwrap().changed);
        netlink.ensure_bridge(&bridge()).await.unwrap();
        assert_eq!(networks(&netlink, &link), bridge().addresses);

        let mac = [2, 1, 2, 3, 4, 5];
        assert_eq!(netlink.ensure_bridge(&BridgeSpec { mac: Some(mac), ..bridge() }).await.unwrap().mac, mac);
        assert_eq!(netlink.expect_link("br-test").await.unwrap().mac, Some(mac));
    });
}

#[test]
fn what_is_not_ours_is_refused_and_not_touched() {
    Host::new().run(async |netlink| {
        netlink.handle.link().add(LinkVeth::new("br-test", "other").build()).execute().await.unwrap();
        let error = netlink.ensure_bridge(&bridge()).await.unwrap_err();
        assert!(matches!(&error, Error::ForeignLink { kind, .. } if kind == "veth"), "{error}");
        assert!(netlink.delete_link("br-test").await.unwrap());

        netlink.ensure_bridge(&BridgeSpec { alias: "somebody else".into(), ..bridge() }).await.unwrap();
        let error = netlink.ensure_bridge(&BridgeSpec { mtu: 1300, ..bridge() }).await.unwrap_err();
        assert!(error.to_string().contains("br-test exists already and is a bridge"), "{error}");
        assert_eq!(netlink.expect_link("br-test").await.unwrap().mtu, 1450);

        assert!(netlink.delete_link("br-test").await.unwrap());
        assert!(!netlink.delete_link("br-test").await.unwrap());
    });
}

#[test]
fn a_pair_joins_a_container_to_its_bridge() {
    let host = Host::new();
    let container = host.namespace("box");
    host.run(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        let spec = veth(bridge.ifindex);
        let made = netlink.ensure_veth(&spec, &container).await.unwrap();
        assert!(made.changed);
        let port = netlink.expect_link(&spec.host_name).await.unwrap();
        assert_eq!((port.ifindex, port.master, port.up, port.mtu), (made.ifindex, Some(bridge.ifindex), true, 1450));
        assert!(port.port.is_some_and(|flags| flags.isolated && !flags.learning && !flags.flood), "{port:?}");
        assert_eq!(port.alias, MARK);

        let inside = Netlink::open_in(&container).unwrap();
        assert!(inside.expect_link("lo").await.unwrap().up);
        let eth0 = inside.expect_link("eth0").await.unwrap();
        assert_eq!((eth0.ifindex, eth0.mac, eth0.mtu, eth0.up), (made.container_ifindex, Some(spec.mac), 1450, true));
        assert_eq!(networks(&inside, &eth0), spec.addresses);
        assert_eq!(gateways(&inside), spec.gateways);

        // Packets pass between host and container in both families, without waiting for anything.
        for address in spec.addresses.iter().map(IpNet::addr) {
            assert!(udp_passes(&host.netns, &container, address));
        }

        let again = netlink.ensure_veth(&spec, &container).await.unwrap();
        assert!(!again.changed);
        assert_eq!((again.ifindex, again.container_ifindex), (made.ifindex, made.container_ifindex));
    });
}

/// Whether a datagram from one namespace reaches `address` in another.
fn udp_passes(from: &NetNs, to: &NetNs, address: IpAddr) -> bool {
    let there = to.run(|| UdpSocket::bind((address, 700)).unwrap()).unwrap();
    there.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let here = from.run(|| UdpSocket::bind(any).unwrap()).unwrap();
    // An unreachable address may be told by an error, too.
    let _ = here.send_to(b"hello", (address, 700));
    there.recv(&mut [0; 9]).is_ok_and(|length| length == 5)
}

#[test]
fn without_the_programs_containers_are_closed_against_each_other() {
    let host = Host::new();
    let (one, two) = (host.namespace("one"), host.namespace("two"));
    host.run(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        let first = veth(bridge.ifindex);
        let second = VethSpec {
            host_name: "veth0000002".into(),
            mac: [2, 0x42, 10, 9, 0, 3],
            addresses: vec!["10.9.0.3/24".parse().unwrap(), "fd09::3/64".parse().unwrap()],
            ..veth(bridge.ifindex)
        };
        netlink.ensure_veth(&first, &one).await.unwrap();
        netlink.ensure_veth(&second, &two).await.unwrap();
        for address in second.addresses.iter().map(IpNet::addr) {
            assert!(udp_passes(&host.netns, &two, address));
            assert!(!udp_passes(&one, &two, address));
        }
    });
}

/// The end that finds no port stands alone, and takes one as soon as there is one.
#[test]
fn a_bridge_has_only_so_many_ports() {
    let host = Host::new();
    let container = host.namespace("box");
    host.run(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        let mut plugged = 0;
        'full: for pair in 0.. {
            let names = [format!("a{pair}"), format!("b{pair}")];
            netlink.handle.link().add(LinkVeth::new(&names[0], &names[1]).build()).execute().await.unwrap();
            for name in names {
                let plug = LinkUnspec::new_with_name(&name).controller(bridge.ifindex).build();
                if netlink.handle.link().change(plug).execute().await.is_err() {
                    break 'full;
                }
                plugged += 1;
            }
        }
        assert_eq!(plugged, 1023);
        let spec = veth(bridge.ifindex);
        let made = netlink.ensure_veth(&spec, &container).await.unwrap();
        assert!(made.changed && !made.bridged);
        let end = netlink.expect_link(&spec.host_name).await.unwrap();
        assert_eq!((end.master, end.up, end.mtu, &*end.alias), (None, true, 1450, MARK));
        let again = netlink.ensure_veth(&spec, &container).await.unwrap();
        assert!(!again.changed && !again.bridged);

        netlink.delete_link("a0").await.unwrap();
        let mended = netlink.ensure_veth(&spec, &container).await.unwrap();
        assert!(mended.changed && mended.bridged);
        assert_eq!(netlink.expect_link(&spec.host_name).await.unwrap().master, Some(bridge.ifindex));
        assert!(!netlink.ensure_veth(&spec, &container).await.unwrap().changed);
    });
}

#[test]
fn neighbours_hear_where_a_container_is() {
    let host = Host::new();
    let container = host.namespace("box");
    host.run(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        let spec = veth(bridge.ifindex);
        let made = netlink.ensure_veth(&spec, &container).await.unwrap();
        // Otherwise the kernel heeds no second word within a second.
        sysctl::set(&["net", "ipv4", "neigh", "br-test", "locktime"], "0").unwrap();
        let addresses: Vec<IpAddr> = spec.addresses.iter().map(IpNet::addr).collect();
        for address in &addresses {
            let stale = netlink.handle.neighbours().add(bridge.ifindex, *address);
            stale.link_layer_address(&[2, 6, 6, 6, 6, 6]).state(NeighbourState::Reachable).execute().await.unwrap();
        }
        announce(&container, made.container_ifindex, spec.mac, &addresses).unwrap();
        let known = async || {
            let entries: Vec<_> = netlink.handle.neighbours().get().execute().try_collect().await.unwrap();
            let right = |entry: &&NeighbourMessage| {
                entry.attributes.contains(&NeighbourAttribute::LinkLayerAddress(spec.mac.to_vec()))
            };
            entries.iter().filter(right).count() == addresses.len()
        };
        eventually("the host has the container's Ethernet address", known).await;
    });
}

#[test]
fn a_pair_that_was_only_just_made_is_finished() {
    let host = Host::new();
    let container = host.namespace("box");
    host.run(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        let spec = veth(bridge.ifindex);
        let inside = Netlink::open_in(&container).unwrap();
        let (port, eth0) = netlink.create_pair(&spec, &inside, &container).await.unwrap();
        let finished = netlink.ensure_veth(&spec, &container).await.unwrap();
        assert_eq!(
            (finished.ifindex, finished.container_ifindex, finished.changed),
            (port.ifindex, eth0.ifindex, true)
        );
        assert!(udp_passes(&host.netns, &container, spec.addresses[0].addr()));
        assert!(!netlink.ensure_veth(&spec, &container).await.unwrap().changed);
    });
}

#[test]
fn a_pair_is_mended_without_being_made_anew() {
    let host = Host::new();
    let container = host.namespace("box");
    host.run(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        let spec = veth(bridge.ifindex);
        let made = netlink.ensure_veth(&spec, &container).await.unwrap();
        let inside = Netlink::open_in(&container).unwrap();
        let eth0 = inside.expect_link("eth0").await.unwrap();

        netlink
            .change(LinkBridgePort::new(made.ifindex).isolated(false).learning(true).build(), String::new)
            .await
            .unwrap();
        assert!(netlink.ensure_veth(&spec, &container).await.unwrap().changed);
        let port = netlink.expect_link(&spec.host_name).await.unwrap().port.unwrap();
        assert!(port.isolated && !port.learning);

        netlink
            .change(LinkUnspec::new_with_index(made.ifindex).down().nocontroller().build(), String::new)
            .await
            .unwrap();
        inside.set_addresses(&eth0, &["10.9.0.77/24".parse().unwrap()]).await.unwrap();
        inside.change(LinkUnspec::new_with_index(eth0.ifindex).down().build(), String::new).await.unwrap();
        inside
            .change(
                LinkUnspec::new_with_index(eth0.ifindex).name("odd").address(vec![2, 9, 9, 9, 9, 9]).mtu(1280).build(),
                String::new,
            )
            .await
            .unwrap();
        let mended = netlink.ensure_veth(&spec, &container).await.unwrap();
        assert!(mended.changed);
        assert_eq!((mended.ifindex, mended.container_ifindex), (made.ifindex, made.container_ifindex));
        let eth0 = inside.expect_link("eth0").await.unwrap();
        assert_eq!((eth0.mac, eth0.mtu, eth0.up), (Some(spec.mac), 1450, true));
        assert_eq!(networks(&inside, &eth0), spec.addresses);
        assert_eq!(gateways(&inside), spec.gateways);
        assert!(!netlink.ensure_veth(&spec, &container).await.unwrap().changed);
    });
}

#[test]
fn default_routes_move_between_interfaces() {
    let host = Host::new();
    let container = host.namespace("box");
    host.run(async |netlink| {
        let first = netlink.ensure_bridge(&bridge()).await.unwrap();
        let second = BridgeSpec { name: "br-two".into(), addresses: vec!["10.8.0.1/24".parse().unwrap()], ..bridge() };
        let second = netlink.ensure_bridge(&second).await.unwrap();
        let eth0 = veth(first.ifindex);
        let eth1 = VethSpec {
            host_name: "veth0000002".into(),
            container_name: "eth1".into(),
            addresses: vec!["10.8.0.2/24".parse().unwrap()],
            gateways: vec!["10.8.0.1".parse().unwrap()],
            ..veth(second.ifindex)
        };
        netlink.ensure_veth(&eth0, &container).await.unwrap();
        netlink.ensure_veth(&eth1, &container).await.unwrap();
        let inside = Netlink::open_in(&container).unwrap();
        assert_eq!(gateways(&inside), ["10.8.0.1".parse::<IpAddr>().unwrap(), "fd09::1".parse().unwrap()]);
        // No IPv6 on the interface of a network that has none.
        container
            .run(|| assert_eq!(sysctl::get(&["net", "ipv6", "conf", "eth1", "disable_ipv6"]).unwrap(), "1"))
            .unwrap();

        assert!(netlink.delete_link(&eth1.host_name).await.unwrap());
        assert!(inside.link("eth1").await.unwrap().is_none());
        netlink.ensure_veth(&VethSpec { gateways: vec![], ..eth0.clone() }, &container).await.unwrap();
        assert_eq!(gateways(&inside), [] as [IpAddr; 0]);
        netlink.ensure_veth(&eth0, &container).await.unwrap();
        assert_eq!(gateways(&inside), eth0.gateways);
    });
}

#[test]
fn a_pair_that_leads_elsewhere_is_made_anew() {
    let host = Host::new();
    let (old, new) = (host.namespace("old"), host.namespace("new"));
    host.run(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        let spec = veth(bridge.ifindex);
        netlink.ensure_veth(&spec, &old).await.unwrap();
        assert!(netlink.ensure_veth(&spec, &new).await.unwrap().changed);
        assert!(Netlink::open_in(&old).unwrap().link("eth0").await.unwrap().is_none());
        assert!(Netlink::open_in(&new).unwrap().expect_link("eth0").await.unwrap().up);
        assert!(!netlink.ensure_veth(&spec, &new).await.unwrap().changed);

        // A pair of somebody else's is not.
        let foreign = VethSpec { alias: "somebody else".into(), ..spec };
        assert!(matches!(netlink.ensure_veth(&foreign, &old).await, Err(Error::ForeignLink { .. })));
    });
}

#[test]
fn a_pair_goes_with_its_namespace() {
    let host = Host::new();
    let container = host.namespace("box");
    host.run(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        netlink.ensure_veth(&veth(bridge.ifindex), &container).await.unwrap();
        let marked = |links: Vec<Link>| links.into_iter().filter(|link| link.alias == MARK).count();
        assert_eq!(marked(netlink.links().unwrap()), 2);
        drop(container);
        assert!(netns::delete(&host.path("box")).unwrap());
        let gone = async || marked(netlink.links().unwrap()) == 1;
        eventually("the host's end is gone", gone).await;
    });
}

#[test]
fn names_that_the_kernel_refuses_are_told() {
    Host::new().run(async |netlink| {
        let error = netlink
            .ensure_bridge(&BridgeSpec { name: "a-name-that-is-too-long".into(), ..bridge() })
            .await
            .unwrap_err();
        assert!(error.to_string().contains("a-name-that-is-too-long"), "{error}");
        let missing = Path::new("/nowhere");
        assert!(NetNs::open(missing).unwrap_err().to_string().contains("/nowhere"));
    });
}
