//! Every reason to drop a packet, seen at work: a packet that dies of it, of each family, counted once and under no other name.

use std::{collections::BTreeMap, net::IpAddr, os::fd::AsRawFd as _};

use dataplane_common::{layout::Config, port::Pool};
use socket2::{Domain, Protocol as SocketProtocol, SockAddr, Socket, Type};

use super::{
    bandwidth,
    neighbors::{ADVERTISEMENT, arp, discovery},
    packets::*,
    *,
};

/// Makes a packet die. What it changes is put back by [`Bench::start_anew`].
type Scene = fn(&mut Bench, Family);

/// The packet that dies of a reason. `None`: no packet brings it about.
fn scene(reason: DropReason) -> Option<Scene> {
    Some(match reason {
        DropReason::UnknownInterface => |bench, family| {
            let at = bench.uplink;
            shot(&bench.at("from_container", &syn(family, family.outside()), at, at));
        },
        DropReason::SpoofedMac => |bench, family| {
            let stolen = Packet { macs: (mac(B), bridge_mac(1)), ..from_a(family, family.outside(), SYN_443) };
            shot(&bench.sends(A, &stolen.frame()));
        },
        DropReason::SpoofedSource => |bench, family| {
            let stolen = Packet { source: family.b(), ..from_a(family, family.outside(), SYN_443) };
            shot(&bench.sends(A, &stolen.frame()));
        },
        DropReason::SpoofedArp => |bench, family| {
            let lie = match family {
                Family::V4 => arp(A, [10, 1, 0, 3], [10, 1, 0, 1]),
                Family::V6 => discovery(A, "fd01::2", ADVERTISEMENT, "fd01::3", 2, mac(A)),
            };
            shot(&bench.sends(A, &lie));
        },
        DropReason::Malformed => |bench, family| {
            let whole = syn(family, family.outside());
            shot(&bench.sends(A, &whole[..transport(family) + 19]));
        },
        DropReason::OtherNetwork => |bench, family| shot(&bench.sends(A, &syn(family, family.c()))),
        DropReason::InternalNetwork => |bench, family| {
            set_network(bench, |network| network.internal = true);
            shot(&bench.sends(A, &syn(family, family.outside())));
        },
        DropReason::IccDisabled => |bench, family| {
            set_network(bench, |network| network.icc = false);
            shot(&bench.sends(A, &syn(family, family.b())));
        },
        DropReason::IsolatedNetwork => |bench, family| {
            set_network(bench, |network| {
                (network.internal, network.isolated) = (true, true);
                network.gateways.clear();
            });
            shot(&bench.sends(A, &syn(family, family.host())));
        },
        DropReason::DirectAccess => |bench, family| {
            let stranger = Packet::outside(family.outside(), family.a(), SYN_443);
            shot(&bench.arrives(&stranger.frame()));
        },
        DropReason::NoFlow => |bench, family| {
            shot(&bench.sends(A, &from_a(family, family.outside(), Payload::Tcp(20_000, 443, ACK)).frame()));
        },
        DropReason::UnsupportedProtocol => |bench, family| {
            let mut message = from_a(family, family.outside(), Payload::Echo(7, true)).frame();
            // Information request (RFC 792), and a type that is private (RFC 4443).
            message[transport(family)] = if family == Family::V4 { 15 } else { 200 };
            shot(&bench.sends(A, &message));
        },
        DropReason::Fragment => |bench, family| {
            // From the container it would wait for its first one.
            shot(&bench.at("to_uplink", &later_fragment(family), bench.uplink, bench.veths[A as usize]));
        },
        DropReason::NoUplink => |bench, family| {
            bench.dataplane.set_uplinks(&[]).unwrap();
            shot(&bench.sends(A, &syn(family, family.outside())));
        },
        DropReason::NoUplinkAddress => |bench, family| {
            let uplink = UplinkConfig { ipv4: None, ipv6: None, ..bench.uplink() };
            bench.dataplane.set_uplinks(&[uplink]).unwrap();
            shot(&bench.sends(A, &syn(family, family.outside())));
        },
        DropReason::NoPort => |bench, family| {
            let config = bench.dataplane.maps.config.get(&0, 0).unwrap();
            let pool = Pool { low_first: 20_000, low_count: 1, high_first: 0, high_count: 0 };
            bench.dataplane.maps.config.set(0, Config { pool, ..config }, 0).unwrap();
            assert_eq!(bench.sends(A, &syn(family, family.outside())).verdict, REDIRECT, "there is one");
            let other = Packet::new(B, family.b(), family.outside(), SYN_443);
            shot(&bench.sends(B, &other.frame()));
            bench.dataplane.maps.config.set(0, config, 0).unwrap();
        },
        DropReason::FlowTableFull => |bench, family| {
            for port in 0..SMALL as u16 {
                let opening = from_a(family, family.outside(), Payload::Udp(20_000 + port, 53));
                assert_eq!(bench.sends(A, &opening.frame()).verdict, REDIRECT, "flow number {port} fits");
            }
            shot(&bench.sends(A, &syn(family, family.outside())));
        },
        DropReason::FlowQuota => |bench, family| {
            let endpoint = bench.dataplane.maps.endpoints.get(&A, 0).unwrap();
            bench.dataplane.maps.endpoints.set(A, layout::Endpoint { quota: 1, ..endpoint }, 0).unwrap();
            assert_eq!(bench.sends(A, &syn(family, family.outside())).verdict, REDIRECT, "one it may have");
            shot(&bench.sends(A, &from_a(family, family.outside(), Payload::Udp(20_001, 53)).frame()));
        },
        // The kernel's helpers refuse what was read and checked before for want of memory only.
        DropReason::RewriteFailed => return None,
        DropReason::Unmasqueraded => |bench, family| {
            let (bridge, uplink) = (bench.bridges[1], bench.uplink);
            let nobody = Packet { source: family.nobody(), ..from_a(family, family.outside(), SYN_443) };
            shot(&bench.at("to_uplink", &nobody.frame(), uplink, bridge));
        },
        DropReason::NotAllowed => |bench, family| {
            publish(bench, family, |port| port.allow_from = vec!["192.0.2.0/24".parse().unwrap()]);
            shot(&bench.arrives(&at_port(family, SYN).frame()));
        },
        DropReason::BadChecksum => |bench, family| {
            let mut opening = syn(family, family.outside());
            opening[transport(family) + 16] ^= 1;
            shot(&bench.sends(A, &opening));
        },
        DropReason::FloodingClient => |bench, family| {
            publish(bench, family, |port| port.rate = 1);
            let burst = (0..1000).find(|&client| {
                let opening = Packet { payload: Payload::Tcp(5000 + client, 8080, SYN), ..at_port(family, SYN) };
                bench.arrives(&opening.frame()).verdict == SHOT
            });
            assert!(burst > Some(0), "{family:?}: one may always come, and not a thousand: {burst:?}");
        },
        DropReason::SpoofedOutside => |bench, family| {
            publish(bench, family, |_| {});
            let spoofed = Packet { source: family.b(), ..at_port(family, SYN) };
            shot(&bench.arrives(&spoofed.frame()));
        },
        DropReason::Martian => |bench, family| shot(&bench.sends(A, &syn(family, family.loopback()))),
        DropReason::Tagged => |bench, family| {
            // The kernel takes a tag out of the frame before programs see it, but not in a test run: this one is really sent.
            let before = bench.drops(A, DropReason::Tagged);
            let mut tagged = syn(family, family.outside());
            tagged.splice(12..12, [0x81, 0x00, 0, 5]);
            bring_up("veth1-peer");
            send("veth1-peer", &tagged);
            let died = (0..500).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                bench.drops(A, DropReason::Tagged) > before
            });
            assert!(died, "{family:?}: it never came");
        },
        DropReason::IngressRate => |bench, family| {
            bench.limit(B, bandwidth::ingress(bandwidth::SLOW));
            bench.sends(A, &syn(family, family.b()));
            shot(&bench.sends(A, &syn(family, family.b())));
        },
        DropReason::EgressRate => |bench, family| {
            bench.limit(A, bandwidth::egress(bandwidth::SLOW));
            bench.sends(A, &syn(family, family.outside()));
            shot(&bench.sends(A, &syn(family, family.outside())));
        },
        DropReason::OtherFamily => |bench, family| {
            let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
            publish(bench, family, |port| port.entries[0].container = other.a());
            // What crosses from IPv6 is at its end here.
            shot(&bench.arrives(&at_port(family, SYN).ttl(1).frame()));
        },
    })
}

const SYN_443: Payload = Payload::Tcp(20_000, 443, SYN);

/// Flows for which there is room in these tests.
const SMALL: u32 = 16;

#[test]
fn every_reason_is_seen_and_counted_once() {
    let options = Options { max_flows: SMALL, ..Options::default() };
    let host = Host::new();
    host.inside(async |netlink| {
        let mut bench = Bench::with(&host.bpffs(), &netlink, &options).await;
        for &reason in DropReason::ALL {
            let Some(scene) = scene(reason) else { continue };
            for family in FAMILIES {
                println!("{reason:?} {family:?}");
                let before = counts(&bench);
                scene(&mut bench, family);
                let mut after = counts(&bench);
                after.retain(|reason, packets| Some(&*packets) != before.get(reason));
                assert_eq!(after, [(reason, before.get(&reason).copied().unwrap_or_default() + 1)].into());
                bench.start_anew();
            }
        }
    });
}

/// How many packets have died of each reason.
fn counts(bench: &Bench) -> BTreeMap<DropReason, u64> {
    let mut counts = BTreeMap::new();
    for count in bench.dataplane.drops().unwrap() {
        *counts.entry(count.reason).or_default() += count.packets;
    }
    counts
}

#[track_caller]
fn shot(run: &ProgramRun) {
    assert_eq!(run.verdict, SHOT);
}

fn from_a(family: Family, to: IpAddr, payload: Payload) -> Packet {
    Packet::new(A, family.a(), to, payload)
}

fn syn(family: Family, to: IpAddr) -> Vec<u8> {
    from_a(family, to, SYN_443).frame()
}

/// From outside to the published port.
fn at_port(family: Family, flags: u8) -> Packet {
    Packet::outside(family.outside(), family.host(), Payload::Tcp(5000, 8080, flags))
}

/// Publishes A's port 80 as the host's 8080, with something changed.
fn publish(bench: &mut Bench, family: Family, change: impl FnOnce(&mut PortConfig)) {
    let mut port = Bench::port(family, 8080, 80);
    change(&mut port);
    bench.dataplane.publish(&[port]).unwrap();
}

/// Sets network 1 with something changed.
fn set_network(bench: &mut Bench, change: impl FnOnce(&mut NetworkConfig)) {
    let mut network = bench.network(1);
    change(&mut network);
    let endpoints = [bench.endpoint(A), bench.endpoint(B)];
    bench.dataplane.set_network(&network, &endpoints).unwrap();
}

/// Where the transport header lies in a frame without options.
fn transport(family: Family) -> usize {
    if family == Family::V4 { 14 + 20 } else { 14 + 40 }
}

/// A fragment whose first has not been seen, of A's to the outside.
fn later_fragment(family: Family) -> Vec<u8> {
    let mut whole = from_a(family, family.outside(), Payload::Other(ESP)).frame();
    match family {
        Family::V4 => {
            let mut header = etherparse::Ipv4Header::from_slice(&whole[14..]).unwrap().0;
            header.protocol = etherparse::ip_number::UDP;
            header.fragment_offset = 100.try_into().unwrap();
            header.header_checksum = header.calc_header_checksum();
            whole[14..34].copy_from_slice(&header.to_bytes());
        }
        Family::V6 => {
            // UDP, offset 800, the last one.
            whole.splice(54..54, [17, 0, 0x03, 0x20, 0, 0, 0, 9]);
            whole[20] = 44;
            let length = (whole.len() - 54) as u16;
            whole[18..20].copy_from_slice(&length.to_be_bytes());
        }
    }
    whole
}

/// Brings an interface up that says nothing by itself.
fn bring_up(interface: &str) {
    sysctl::set(&["net", "ipv6", "conf", interface, "disable_ipv6"], "1").unwrap();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: all-zero bytes are a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is initialised and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Really sends a frame out of an interface.
fn send(interface: &str, frame: &[u8]) {
    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    let every = u16::to_be(libc::ETH_P_ALL as u16);
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(SocketProtocol::from(i32::from(every)))).unwrap();
    // SAFETY: the storage is larger than a sockaddr_ll and aligned for it, and the length tells how much was written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_ifindex = index.cast_signed();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }
    .unwrap();
    assert_eq!(socket.send_to(frame, &address).unwrap(), frame.len());
}
