//! The shield: what it drops, that it drops nothing that `from_uplink` would let pass, and where it runs.

use aya::maps::{HashMap, Map, MapData};
use dataplane_common::{
    V4, V6,
    layout::Config,
    rate::{Bucket, ClientKey},
};
use rtnetlink::{
    LinkUnspec,
    packet_route::link::{LinkAttribute, LinkXdp, XdpAttached},
};

use super::{packets::*, *};

/// XDP actions of `linux/bpf.h`.
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;

/// The port of A's that is published, and the one in the container.
const HTTP: (u16, u16) = (8080, 80);

fn from_outside(family: Family, to: IpAddr, payload: Payload) -> Packet {
    Packet::outside(family.outside(), to, payload)
}

/// Asserts that the shield drops a packet for `reason`, counts it, and that `from_uplink` does the same.
#[track_caller]
fn dies(bench: &mut Bench, endpoint: u32, packet: &Packet, reason: DropReason) {
    let before = bench.drops(endpoint, reason);
    let run = bench.dataplane.run_shield(&packet.frame(), 1).unwrap();
    assert_eq!((run.verdict, bench.drops(endpoint, reason)), (XDP_DROP, before + 1), "{reason:?} at the shield");
    let run = bench.arrives(&packet.frame());
    assert_eq!((run.verdict, bench.drops(endpoint, reason)), (SHOT, before + 2), "{reason:?} without the shield");
}

/// Asserts that the shield lets a frame pass as it is, without a count.
#[track_caller]
fn passes(bench: &mut Bench, frame: &[u8]) {
    let before = bench.dataplane.drops().unwrap();
    let run = bench.dataplane.run_shield(frame, 1).unwrap();
    assert_eq!((run.verdict, run.frame.as_slice()), (XDP_PASS, frame));
    assert_eq!(bench.dataplane.drops().unwrap(), before);
}

/// The buckets of clients.
fn clients(host: &Host) -> HashMap<MapData, ClientKey, Bucket> {
    let path = host.bpffs().join(format!("v{}/maps/CLIENTS", layout::VERSION));
    Map::LruHashMap(MapData::from_pin(path).unwrap()).try_into().unwrap()
}

fn client(address: IpAddr, port: u32) -> ClientKey {
    match address {
        IpAddr::V4(address) => ClientKey::of::<V4>(address.into(), port),
        IpAddr::V6(address) => ClientKey::of::<V6>(address.into(), port),
    }
}

/// A bucket that stays empty for as long as a test runs.
const EMPTY: Bucket = Bucket { full_at: u64::MAX / 2 };

/// Publishes A's port, where a client may open `rate` flows in a second; the port's slot.
fn publish(bench: &mut Bench, family: Family, protocol: Protocol, rate: u32) -> u32 {
    let mut port = Bench::port(family, HTTP.0, HTTP.1);
    port.entries[0].protocol = protocol;
    port.rate = rate;
    bench.dataplane.publish(std::slice::from_ref(&port)).unwrap();
    port.slot
}

#[test]
fn sources_of_our_networks_are_spoofed() {
    on_bench(|bench| {
        for family in FAMILIES {
            publish(bench, family, Protocol::TCP, 0);
            for source in [family.a(), family.c(), family.gateway()] {
                for payload in [Payload::Udp(1, 2), Payload::Tcp(5000, HTTP.0, SYN), Payload::Echo(7, true)] {
                    for destination in [family.host(), family.b(), family.outside()] {
                        let spoofed = Packet::outside(source, destination, payload);
                        dies(bench, 0, &spoofed, DropReason::SpoofedOutside);
                    }
                }
            }
        }
    });
}

#[test]
fn row_11_unsolicited_packets_to_containers_die_before_the_stack() {
    on_bench(|bench| {
        for family in FAMILIES {
            for to in [family.a(), family.c()] {
                for payload in [
                    Payload::Tcp(5000, 80, SYN),
                    Payload::Tcp(5000, 80, ACK),
                    Payload::Udp(5000, 53),
                    Payload::Echo(7, true),
                    Payload::Echo(7, false),
                    Payload::Other(ESP),
                ] {
                    dies(bench, 0, &from_outside(family, to, payload), DropReason::DirectAccess);
                }
            }
        }
    });
}

/// What is not certain to die passes, unchanged and uncounted.
#[test]
fn what_the_shield_cannot_judge_passes() {
    on_bench(|bench| {
        for family in FAMILIES {
            publish(bench, family, Protocol::TCP, 1);
            let direct = from_outside(family, family.a(), Payload::Tcp(5000, 80, SYN)).frame();
            let changed = |change: &dyn Fn(&mut Vec<u8>)| {
                let mut frame = direct.clone();
                change(&mut frame);
                frame
            };
            let ethertype = |frame: &mut Vec<u8>, number: u16| frame[12..14].copy_from_slice(&number.to_be_bytes());
            // The second 16 bytes of a packet, the rest of the frame being whatever it is.
            let fragment = |frame: &mut Vec<u8>| match family {
                Family::V4 => {
                    frame[14 + 7] = 2;
                    // The header's checksum is smaller by as much.
                    let sum = u16::from_be_bytes([frame[14 + 10], frame[14 + 11]]) - 2;
                    frame[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
                }
                Family::V6 => {
                    frame[14 + 6] = 44;
                    frame[14 + 40..14 + 44].copy_from_slice(&[6, 0, 0, 16]);
                }
            };
            let (echo, error) = (
                from_outside(family, family.a(), Payload::Echo(7, true)),
                match family {
                    Family::V4 => (14 + 20, 3),
                    Family::V6 => (14 + 40, 1),
                },
            );
            let mut unreachable = echo.frame();
            unreachable[error.0] = error.1;
            let frames = [
                changed(&|frame| ethertype(frame, 0x8100)),
                changed(&|frame| ethertype(frame, 0x0806)),
                changed(&|frame| ethertype(frame, 0x88cc)),
                changed(&fragment),
                changed(&|frame| frame[14] ^= 0x70),
                changed(&|frame| frame.truncate(40)),
                unreachable,
                from_outside(family, family.host(), Payload::Tcp(5000, 22, SYN)).frame(),
                from_outside(family, family.host(), Payload::Udp(5000, 53)).frame(),
                from_outside(family, family.gateway(), Payload::Tcp(5000, 22, SYN)).frame(),
                from_outside(family, family.outside(), Payload::Udp(5000, 53)).frame(),
                // To a port with a limit that the client keeps.
                from_outside(family, family.host(), Payload::Tcp(5000, HTTP.0, SYN)).frame(),
            ];
            for frame in frames {
                passes(bench, &frame);
            }
        }
    });
}

/// With no source address to translate, answers come to the container's own address.
#[test]
fn row_15_answers_to_a_container_that_is_not_masqueraded_pass() {
    on_bench(|bench| {
        let own = GatewayConfig { masquerade: false, ..GatewayConfig::default() };
        let config = NetworkConfig { v4: own, v6: own, ..bench.network(1) };
        bench.dataplane.set_network(&config, &[bench.endpoint(A), bench.endpoint(B)]).unwrap();
        for family in FAMILIES {
            for (sent, answer) in [
                (Payload::Tcp(20_000, 443, SYN), Payload::Tcp(443, 20_000, SYN | ACK)),
                (Payload::Udp(20_000, 53), Payload::Udp(53, 20_000)),
                (Payload::Echo(7, true), Payload::Echo(7, false)),
            ] {
                let answer = from_outside(family, family.a(), answer);
                dies(bench, 0, &answer, DropReason::DirectAccess);
                let sent = Packet::new(A, family.a(), family.outside(), sent);
                assert_eq!(bench.sends(A, &sent.frame()).verdict, REDIRECT);
                passes(bench, &answer.frame());
                assert_eq!(bench.arrives(&answer.frame()).verdict, REDIRECT);
            }
        }
    });
}

#[test]
fn a_client_beyond_its_rate_is_dropped_and_no_other_nor_its_open_flows() {
    on_host(|host| {
        host.run(|bench| {
            let mut clients = clients(host);
            for family in FAMILIES {
                for protocol in [Protocol::TCP, Protocol::UDP] {
                    let opening = |port: u16| match protocol {
                        Protocol::TCP => Payload::Tcp(port, HTTP.0, SYN),
                        _ => Payload::Udp(port, HTTP.0),
                    };
                    let later = |port: u16| match protocol {
                        Protocol::TCP => Payload::Tcp(port, HTTP.0, ACK),
                        _ => Payload::Udp(port, HTTP.0),
                    };
                    let to_host = |payload| from_outside(family, family.host(), payload);
                    let port = publish(bench, family, protocol, 0);
                    let key = client(family.outside(), port);
                    let looks =
                        |bench: &Bench| bench.dataplane.maps.config.get(&0, 0).unwrap().flags & Config::RATED != 0;
                    assert!(!looks(bench));

                    // Without a limit nobody is counted.
                    passes(bench, &to_host(opening(4000)).frame());
                    assert_eq!(bench.arrives(&to_host(opening(4000)).frame()).verdict, REDIRECT);
                    assert!(clients.get(&key, 0).is_err());

                    // Within its rate a client is accounted for each flow that it opens, and for no other packet.
                    publish(bench, family, protocol, 1000);
                    assert!(looks(bench));
                    for _ in 0..3 {
                        passes(bench, &to_host(opening(4001)).frame());
                    }
                    assert!(clients.get(&key, 0).is_err(), "the shield only looks");
                    assert_eq!(bench.arrives(&to_host(opening(4001)).frame()).verdict, REDIRECT);
                    let after_one = clients.get(&key, 0).unwrap();
                    assert_ne!(after_one, Bucket::default());
                    assert_eq!(bench.arrives(&to_host(later(4001)).frame()).verdict, REDIRECT);
                    assert_eq!(clients.get(&key, 0).unwrap(), after_one);

                    // Beyond it, no new flow; what is open goes on, and so does everybody else.
                    clients.insert(key, EMPTY, 0).unwrap();
                    dies(bench, A, &to_host(opening(4002)), DropReason::FloodingClient);
                    for port in [4000, 4001] {
                        passes(bench, &to_host(later(port)).frame());
                        assert_eq!(bench.arrives(&to_host(later(port)).frame()).verdict, REDIRECT);
                    }
                    passes(bench, &to_host(Payload::Tcp(4002, 22, SYN)).frame());
                    let (neighbor, other): (IpAddr, IpAddr) = match family {
                        Family::V4 => ("198.51.100.8".parse().unwrap(), "198.51.101.7".parse().unwrap()),
                        Family::V6 => ("2001:db8:7::8".parse().unwrap(), "2001:db8:7:1::7".parse().unwrap()),
                    };
                    let of = |client: IpAddr| Packet::outside(client, family.host(), opening(4003));
                    passes(bench, &of(other).frame());
                    assert_eq!(bench.arrives(&of(other).frame()).verdict, REDIRECT);
                    match family {
                        Family::V4 => passes(bench, &of(neighbor).frame()),
                        // Whoever has one address of a /64 has all of them.
                        Family::V6 => dies(bench, A, &of(neighbor), DropReason::FloodingClient),
                    }
                    clients.insert(key, Bucket::default(), 0).unwrap();
                    assert_eq!(bench.arrives(&to_host(opening(4002)).frame()).verdict, REDIRECT);

                    bench.dataplane.unpublish(&[port]).unwrap();
                    assert!(!looks(bench));
                    for address in [family.outside(), neighbor, other] {
                        let _ = clients.remove(&client(address, port));
                    }
                    bench.dataplane.remove_endpoint(A).unwrap();
                    let config = bench.endpoint(A);
                    bench.dataplane.set_endpoint(&config).unwrap();
                }
            }
        });
    });
}

/// What runs at the uplink by XDP, as the kernel tells it.
async fn attached(netlink: &Netlink, name: &str) -> Option<XdpAttached> {
    use futures_util::TryStreamExt as _;
    let request = netlink.handle.link().get().match_name(name.to_owned());
    let message = request.execute().try_next().await.unwrap().unwrap();
    message.attributes.into_iter().find_map(|attribute| {
        let LinkAttribute::Xdp(attributes) = attribute else { return None };
        attributes.into_iter().find_map(|attribute| match attribute {
            LinkXdp::Attached(how) if how != XdpAttached::None => Some(how),
            _ => None,
        })
    })
}

fn options(xdp: XdpMode) -> Options {
    Options { xdp, ..Options::default() }
}

#[test]
fn the_shield_runs_as_it_is_told_and_outlives_the_agent() {
    on_host(|host| {
        host.inside(async |netlink| {
            drop(Bench::again(&host.bpffs(), &netlink, &options(XdpMode::Auto)).await);
            assert_eq!(attached(&netlink, "up0").await, None, "a veth is no hardware");
        });
        for (xdp, wanted) in [
            (XdpMode::Native, Some(XdpAttached::Driver)),
            (XdpMode::Native, Some(XdpAttached::Driver)),
            (XdpMode::Generic, Some(XdpAttached::SocketBuffer)),
            (XdpMode::Native, Some(XdpAttached::Driver)),
            (XdpMode::Off, None),
            (XdpMode::Generic, Some(XdpAttached::SocketBuffer)),
            (XdpMode::Auto, None),
        ] {
            host.inside(async |netlink| {
                drop(Bench::again(&host.bpffs(), &netlink, &options(xdp)).await);
                assert_eq!(attached(&netlink, "up0").await, wanted, "{xdp:?}");
                assert_eq!(attached(&netlink, "veth1").await, None);
            });
        }
    });
}

#[test]
fn an_uplink_that_is_none_any_more_has_no_shield() {
    let host = Host::new();
    host.inside(async |netlink| {
        let mut bench = Bench::with(&host.bpffs(), &netlink, &options(XdpMode::Native)).await;
        bench.dataplane.set_uplinks(&[]).unwrap();
        assert_eq!(attached(&netlink, "up0").await, None);
        let uplink = bench.uplink();
        bench.dataplane.set_uplinks(std::slice::from_ref(&uplink)).unwrap();
        assert_eq!(attached(&netlink, "up0").await, Some(XdpAttached::Driver));

        // Nobody could tell what its packets are.
        let raw = UplinkConfig { device: Device::Opaque, ..uplink.clone() };
        bench.dataplane.set_uplinks(&[raw]).unwrap();
        assert_eq!(attached(&netlink, "up0").await, None);

        // Made anew under the same name, and renamed.
        bench.dataplane.set_uplinks(std::slice::from_ref(&uplink)).unwrap();
        netlink.delete_link("up0").await.unwrap();
        let ifindex = pair(&netlink, "up0").await;
        let uplink = UplinkConfig { ifindex, ..uplink };
        bench.dataplane.set_uplinks(std::slice::from_ref(&uplink)).unwrap();
        assert_eq!(attached(&netlink, "up0").await, Some(XdpAttached::Driver));
        // Linux 6.1 renames an interface only while it is down; 6.12 does not ask for that.
        for change in [LinkUnspec::new_with_index(ifindex).down(), LinkUnspec::new_with_index(ifindex).name("up1")] {
            netlink.handle.link().set(change.build()).execute().await.unwrap();
        }
        bench.dataplane.set_uplinks(&[UplinkConfig { name: "up1".into(), ..uplink }]).unwrap();
        assert_eq!(attached(&netlink, "up1").await, Some(XdpAttached::Driver));
        bench.dataplane.remove_all().unwrap();
        assert_eq!(attached(&netlink, "up1").await, None);
    });
}

#[test]
fn a_stranger_s_program_keeps_its_place() {
    let host = Host::new();
    let stranger = tempfile::tempdir().unwrap();
    mount::ensure_bpffs(stranger.path()).unwrap();
    host.inside(async |netlink| {
        let strange = Bench::with(stranger.path(), &netlink, &options(XdpMode::Generic)).await;
        for xdp in [XdpMode::Native, XdpMode::Generic] {
            let bench = Bench::again(&host.bpffs(), &netlink, &options(xdp)).await;
            assert_eq!(attached(&netlink, "up0").await, Some(XdpAttached::SocketBuffer), "{xdp:?}");
            bench.dataplane.remove_all().unwrap();
            assert_eq!(attached(&netlink, "up0").await, Some(XdpAttached::SocketBuffer), "{xdp:?}, removed");
        }
        strange.dataplane.remove_all().unwrap();
    });
    mount::unmount(stranger.path()).unwrap();
}

/// A driver without native XDP, asked for it, is an error with a sentence; left to itself, the agent goes on without.
#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    on_host(|host| {
        host.inside(async |netlink| {
            let mut bench = Bench::again(&host.bpffs(), &netlink, &options(XdpMode::Native)).await;
            // The loopback interface's driver has none.
            let lo = |device| UplinkConfig { name: "lo".into(), ifindex: 1, device, ..bench_uplink() };
            let error = bench.dataplane.set_uplinks(&[lo(Device::Virtual)]).unwrap_err().to_string();
            assert!(error.starts_with("the shield cannot run on lo as --xdp wants it: "), "{error}");
            drop(bench);
            let mut bench = Bench::again(&host.bpffs(), &netlink, &options(XdpMode::Auto)).await;
            bench.dataplane.set_uplinks(&[lo(Device::Hardware)]).unwrap();
            assert_eq!(attached(&netlink, "lo").await, None);
        });
    });
}

fn bench_uplink() -> UplinkConfig {
    UplinkConfig {
        name: String::new(),
        ifindex: 0,
        ipv4: None,
        ipv6: None,
        mtu: 1500,
        inside: false,
        device: Device::Virtual,
    }
}
