//! Row 10: IPv6 clients and containers that have IPv4 only.

use std::net::{TcpListener, UdpSocket};

use super::{packets::*, *};

/// The ports that are published, in the container and on the host.
const HTTP: (u16, u16) = (80, 8080);
const DNS: (u16, u16) = (53, 5353);

/// What a client asks, what the container sees of it, what it answers and what the client sees of that; but for the ports that are
/// chosen.
const EXCHANGES: [(Payload, Payload); 2] = [
    (Payload::Tcp(5000, HTTP.1, SYN), Payload::Tcp(HTTP.1, 5000, SYN | ACK)),
    (Payload::Udp(5000, DNS.1), Payload::Udp(DNS.1, 5000)),
];

impl Bench {
    /// A has only an IPv4 address, and publishes both ports on every address of the host.
    fn publish_crossing(&mut self) {
        let old = EndpointConfig { ipv6: None, ..self.endpoint(A) };
        self.dataplane.set_endpoint(&old).unwrap();
        for (protocol, (inside, outside)) in [(Protocol::TCP, HTTP), (Protocol::UDP, DNS)] {
            let mut port = Self::port(Family::V6, outside, inside);
            port.entries[0].container = Family::V4.a();
            port.entries[0].protocol = protocol;
            self.dataplane.publish(&[port]).unwrap();
        }
    }

    /// The client's first packet, and what the container gets of it.
    fn opens(&mut self, request: Payload) -> Packet {
        let run = self.arrives(&from_client(request).frame());
        assert_eq!(run.verdict, REDIRECT, "{request:?}");
        read(&run.frame)
    }

    /// Asserts that a packet dies because it cannot change family.
    fn does_not_cross(&mut self, run: impl FnOnce(&mut Self) -> ProgramRun, endpoint: u32) {
        let before = self.drops(endpoint, DropReason::OtherFamily);
        assert_eq!(run(self).verdict, SHOT);
        assert_eq!(self.drops(endpoint, DropReason::OtherFamily), before + 1);
    }
}

fn from_client(payload: Payload) -> Packet {
    Packet::outside(Family::V6.outside(), Family::V6.host(), payload)
}

/// The container's answer to what it got; `flags` if it is TCP.
fn answer(got: &Packet, flags: u8) -> Packet {
    let payload = match got.payload {
        Payload::Tcp(client, server, _) => Payload::Tcp(server, client, flags),
        Payload::Udp(client, server) => Payload::Udp(server, client),
        other => panic!("{other:?}"),
    };
    Packet::new(A, got.destination, got.source, payload)
}

/// The port under which the container knows the client.
fn client_port(got: &Packet) -> u16 {
    match got.payload {
        Payload::Tcp(port, ..) | Payload::Udp(port, _) => port,
        other => panic!("{other:?}"),
    }
}

/// Where the EtherType lies.
fn ethertype(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[12], frame[13]])
}

#[test]
fn row_10_there_and_back() {
    on_bench(|bench| {
        bench.publish_crossing();
        for (request, reply) in EXCHANGES {
            let run = bench.arrives(&from_client(request).frame());
            assert_eq!((run.verdict, ethertype(&run.frame)), (REDIRECT, 0x0800));
            let got = read(&run.frame);
            assert_eq!((got.source, got.destination, got.ttl), (Family::V4.gateway(), Family::V4.a(), 59));
            assert_eq!(got.macs, (bridge_mac(1), mac(A)));
            let port = client_port(&got);
            assert!((9000..32_768).contains(&port) || port >= 61_000, "{port} is not in the pool");

            let run = bench.sends(A, &answer(&got, SYN | ACK).frame());
            assert_eq!((run.verdict, ethertype(&run.frame)), (REDIRECT, 0x86dd));
            let seen = read(&run.frame);
            assert_eq!((seen.source, seen.destination, seen.ttl), (Family::V6.host(), Family::V6.outside(), 63));
            assert_eq!(seen.payload, reply);
        }
    });
}

/// The connection goes on by the flow table once the client has shown that it sees the answers, with the same port.
#[test]
fn a_proven_flow_crosses_on() {
    on_bench(|bench| {
        bench.publish_crossing();
        for (request, _) in EXCHANGES {
            let got = bench.opens(request);
            bench.sends(A, &answer(&got, SYN | ACK).frame());
            let again = match request {
                // What acknowledges the SYN-ACK of sequence 1 and these 25 bytes of text.
                Payload::Tcp(from, to, _) => Payload::Tcp(from, to, ACK),
                other => other,
            };
            let mut frame = from_client(again).frame();
            if let Payload::Tcp(..) = again {
                acknowledge(&mut frame, 1 + 1 + 25);
            }
            let more = bench.arrives(&frame);
            assert_eq!(more.verdict, REDIRECT, "{request:?}");
            assert_eq!(client_port(&read(&more.frame)), client_port(&got));
            let back = bench.sends(A, &answer(&got, ACK).frame());
            assert_eq!(read(&back.frame).destination, Family::V6.outside());
        }
        assert_eq!(bench.dataplane.collect_garbage().unwrap(), GcReport { flows: 2, ..GcReport::default() });
    });
}

#[test]
fn a_client_that_asks_again_keeps_its_port() {
    on_bench(|bench| {
        bench.publish_crossing();
        for request in [Payload::Tcp(20_000, HTTP.1, SYN), Payload::Udp(20_000, DNS.1)] {
            assert_eq!(client_port(&bench.opens(request)), 20_000, "it is free");
            let second = Packet { source: "2001:db8:7::8".parse().unwrap(), ..from_client(request) }.frame();
            let port = client_port(&read(&bench.arrives(&second).frame));
            assert_ne!(port, 20_000, "it is the first one's");
            for _ in 0..8 {
                assert_eq!(client_port(&read(&bench.arrives(&second).frame)), port, "{request:?}");
            }
        }
    });
}

/// Writes an acknowledgment number into a TCP segment over IPv6, checksum included.
fn acknowledge(frame: &mut [u8], number: u32) {
    const ACKNOWLEDGMENT: usize = 14 + 40 + 8;
    const CHECKSUM: usize = 14 + 40 + 16;
    let mut sum = u32::from(!u16::from_be_bytes([frame[CHECKSUM], frame[CHECKSUM + 1]]));
    for (at, byte) in number.to_be_bytes().into_iter().enumerate() {
        let place = &mut frame[ACKNOWLEDGMENT + at];
        let weight = if at % 2 == 0 { 256 } else { 1 };
        sum += weight * u32::from(byte) + weight * u32::from(!*place);
        *place = byte;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn row_10_a_container_with_ipv6_is_a_client_as_well() {
    on_bench(|bench| {
        bench.publish_crossing();
        for (request, reply) in EXCHANGES {
            let run = bench.sends(C, &Packet::new(C, Family::V6.c(), Family::V6.host(), request).frame());
            assert_eq!(run.verdict, REDIRECT);
            let got = read(&run.frame);
            assert_eq!((got.source, got.destination), (Family::V4.gateway(), Family::V4.a()));
            let run = bench.sends(A, &answer(&got, SYN | ACK).frame());
            assert_eq!(run.verdict, REDIRECT);
            let seen = read(&run.frame);
            assert_eq!((seen.source, seen.destination, seen.payload), (Family::V6.host(), Family::V6.c(), reply));
            assert_eq!(seen.macs, (bridge_mac(2), mac(C)));
        }
    });
}

#[test]
fn two_clients_with_one_port_get_two() {
    on_bench(|bench| {
        bench.publish_crossing();
        for request in [Payload::Tcp(20_000, HTTP.1, SYN), Payload::Udp(20_000, DNS.1)] {
            let mut ports = Vec::new();
            for client in ["2001:db8:7::7", "2001:db8:7::8"] {
                let packet = Packet { source: client.parse().unwrap(), ..from_client(request) };
                let got = read(&bench.arrives(&packet.frame()).frame);
                let seen = read(&bench.sends(A, &answer(&got, SYN | ACK).frame()).frame);
                assert_eq!(seen.destination, packet.source, "{request:?}");
                // A repeated request is the same client's.
                assert_eq!(read(&bench.arrives(&packet.frame()).frame).source, got.source);
                ports.push(client_port(&got));
            }
            assert_ne!(ports[0], ports[1], "{request:?}");
        }
    });
}

#[test]
fn a_port_of_the_hosts_own_socket_is_not_chosen() {
    on_bench(|bench| {
        bench.publish_crossing();
        let requests = [Payload::Tcp(20_000, HTTP.1, SYN), Payload::Udp(20_001, DNS.1)];
        let held = (TcpListener::bind("0.0.0.0:20000").unwrap(), UdpSocket::bind("0.0.0.0:20001").unwrap());
        for (request, port) in requests.into_iter().zip([20_000, 20_001]) {
            assert_ne!(client_port(&bench.opens(request)), port);
        }
        drop(held);
        bench.dataplane.remove_endpoint(A).unwrap();
        bench.publish_crossing();
        for (request, port) in requests.into_iter().zip([20_000, 20_001]) {
            assert_eq!(client_port(&bench.opens(request)), port, "the control: the client's own, while it is free");
        }
    });
}

/// What a container sends to its gateway is the host's, but for the answers to what has crossed.
#[test]
fn only_answers_cross_back() {
    on_bench(|bench| {
        bench.publish_crossing();
        for (request, _) in EXCHANGES {
            let got = bench.opens(request);
            let other = Packet { source: Family::V4.outside(), ..got };
            assert_eq!(answer(&other, SYN | ACK).destination, Family::V4.outside());
            for stray in [
                Payload::Tcp(HTTP.0, client_port(&got) ^ 1, SYN),
                Payload::Udp(DNS.0, client_port(&got) ^ 1),
                Payload::Tcp(HTTP.0 + 1, client_port(&got), SYN),
                Payload::Udp(DNS.0 + 1, client_port(&got)),
            ] {
                let frame = Packet::new(A, Family::V4.a(), Family::V4.gateway(), stray).frame();
                let run = bench.sends(A, &frame);
                assert_eq!((run.verdict, run.frame), (NEXT, frame), "{stray:?}");
            }
            assert_eq!(bench.sends(A, &answer(&got, SYN | ACK).frame()).verdict, REDIRECT, "the control");
        }
    });
}

#[test]
fn without_a_published_port_nothing_crosses() {
    on_bench(|bench| {
        bench.publish_crossing();
        for (protocol, port) in [(Protocol::TCP, HTTP.1), (Protocol::UDP, DNS.1)] {
            let request = if protocol == Protocol::TCP { EXCHANGES[0].0 } else { EXCHANGES[1].0 };
            let got = bench.opens(request);
            bench.dataplane.unpublish(&[port_slot(Family::V6, port)]).unwrap();
            let frame = from_client(request).frame();
            let run = bench.arrives(&frame);
            assert_eq!((run.verdict, run.frame), (NEXT, frame), "closed: the host's own business");
            let frame = answer(&got, SYN | ACK).frame();
            let run = bench.sends(A, &frame);
            assert_eq!((run.verdict, run.frame), (NEXT, frame), "its flows have ended");
        }
    });
}

#[test]
fn the_end_of_the_container_ends_its_crossings() {
    on_bench(|bench| {
        bench.publish_crossing();
        for (request, _) in EXCHANGES {
            let got = bench.opens(request);
            let reply = answer(&got, SYN | ACK).frame();
            assert_eq!(bench.sends(A, &reply).verdict, REDIRECT, "the control");
            bench.dataplane.remove_endpoint(A).unwrap();
            bench.publish_crossing();
            let run = bench.sends(A, &reply);
            assert_eq!((run.verdict, run.frame), (NEXT, reply), "the next one in its slot does not inherit");
        }
    });
}

#[test]
fn clients_that_may_not_or_come_too_often_do_not_cross() {
    on_bench(|bench| {
        bench.publish_crossing();
        let mut port = Bench::port(Family::V6, HTTP.1, HTTP.0);
        port.entries[0].container = Family::V4.a();
        let syn = |client: &str, port| {
            Packet { source: client.parse().unwrap(), ..from_client(Payload::Tcp(port, HTTP.1, SYN)) }.frame()
        };
        // Whoever is allowed by IPv4 is not by IPv6, whatever the container sees.
        let allow_from = ["10.1.0.0/16", "2001:db8:8::/48"].map(|text| text.parse().unwrap()).to_vec();
        bench.dataplane.publish(&[PortConfig { allow_from, ..port.clone() }]).unwrap();
        assert_eq!(bench.arrives(&syn("2001:db8:8::1", 1)).verdict, REDIRECT, "the control");
        assert_eq!(bench.arrives(&syn("2001:db8:7::1", 1)).verdict, SHOT);
        assert_eq!(bench.drops(A, DropReason::NotAllowed), 1);
        bench.dataplane.publish(&[PortConfig { rate: 1, ..port }]).unwrap();
        let verdicts = [1, 2, 3, 4].map(|port| bench.arrives(&syn("2001:db8:9::1", port)).verdict);
        assert_eq!((verdicts[0], verdicts.contains(&SHOT)), (REDIRECT, true));
        assert!(bench.drops(A, DropReason::FloodingClient) > 0);
    });
}

#[test]
fn what_cannot_change_family_dies() {
    /// Where UDP's checksum lies in IPv4.
    const UDP_CHECKSUM: usize = 14 + 20 + 6;
    on_bench(|bench| {
        bench.publish_crossing();
        for (request, _) in EXCHANGES {
            let got = bench.opens(request);
            let reply = answer(&got, SYN | ACK);
            bench.does_not_cross(|bench| bench.arrives(&from_client(request).ttl(1).frame()), 0);
            bench.does_not_cross(|bench| bench.sends(A, &reply.ttl(1).frame()), A);
            // The first of several fragments: of IPv4 by its flag, of IPv6 by its header.
            let mut fragment = reply.frame();
            fragment[14 + 6] |= 0x20;
            mend_ipv4(&mut fragment);
            bench.does_not_cross(|bench| bench.sends(A, &fragment), A);
            let frame = from_client(request).frame();
            for (header, rest) in [(44, [0, 0, 0, 1, 0, 0, 0, 9]), (60, [0, 0, 1, 4, 0, 0, 0, 0])] {
                let extended = extend(&frame, header, rest);
                bench.does_not_cross(|bench| bench.arrives(&extended), 0);
            }
            assert_eq!(bench.sends(A, &reply.frame()).verdict, REDIRECT, "the control");
        }
        // Checksums are left out over IPv4 only.
        let got = bench.opens(EXCHANGES[1].0);
        let mut frame = answer(&got, 0).frame();
        frame[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&[0, 0]);
        bench.does_not_cross(|bench| bench.sends(A, &frame), A);
    });
}

/// Gives an IPv4 header its checksum.
fn mend_ipv4(frame: &mut [u8]) {
    let (header, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap();
    let sum = header.calc_header_checksum();
    frame[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
}

/// Puts an extension header of eight bytes behind the IPv6 header of a frame.
fn extend(frame: &[u8], header: u8, mut bytes: [u8; 8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    bytes[0] = std::mem::replace(&mut frame[14 + 6], header);
    let length = u16::from_be_bytes([frame[14 + 4], frame[14 + 5]]) + 8;
    frame[14 + 4..14 + 6].copy_from_slice(&length.to_be_bytes());
    frame.splice(14 + 40..14 + 40, bytes);
    frame
}

/// A packet shrinks on its way in and grows on its way out; a batch of segments is judged by its segments.
#[test]
fn sizes_are_judged_as_they_will_be() {
    on_bench(|bench| {
        bench.publish_crossing();
        let got = bench.opens(EXCHANGES[0].0);
        let segments = |bench: &mut Bench, program, frame: &[u8], ifindex, gso_size| {
            let context = RunContext { ifindex, ingress_ifindex: ifindex, gso_size, repeat: 1 };
            bench.dataplane.run_program(program, frame, &context).unwrap()
        };
        let (uplink, veth) = (bench.uplink, bench.veths[A as usize]);
        let request = from_client(Payload::Tcp(5000, HTTP.1, SYN)).frame();
        assert_eq!(segments(bench, "from_uplink", &request, uplink, 1460).verdict, REDIRECT);
        bench.does_not_cross(|bench| segments(bench, "from_uplink", &request, uplink, 1461), 0);
        let reply = answer(&got, ACK).frame();
        assert_eq!(segments(bench, "from_container", &reply, veth, 1440).verdict, REDIRECT);
        bench.does_not_cross(|bench| segments(bench, "from_container", &reply, veth, 1441), A);
    });
}

/// The container is told of segments that fit the uplink once they have grown.
#[test]
fn the_segment_size_of_a_syn_fits_the_uplink() {
    const OPTIONS: usize = 14 + 40 + 20;
    on_bench(|bench| {
        bench.publish_crossing();
        bench.dataplane.set_uplinks(&[UplinkConfig { mtu: 1400, ..bench.uplink() }]).unwrap();
        let nothing = etherparse::TcpOptionElement::Noop;
        let size = etherparse::TcpOptionElement::MaximumSegmentSize;
        let scale = etherparse::TcpOptionElement::WindowScale(7);
        for (options, at, seen) in [
            (&[size(1440)][..], 2, 1340),
            (&[size(1340)], 2, 1340),
            (&[size(536)], 2, 536),
            (&[nothing.clone(), size(1440)], 3, 1340),
            (&[scale.clone(), nothing.clone(), size(1440)], 6, 1340),
            (&[scale.clone(), size(9000)], 5, 1340),
        ] {
            let packet = from_client(EXCHANGES[0].0);
            let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.source, packet.destination) else { panic!() };
            let mut frame = Vec::new();
            etherparse::PacketBuilder::ethernet2(packet.macs.0, packet.macs.1)
                .ipv6(source.octets(), destination.octets(), 60)
                .tcp(5000, HTTP.1, 1, 1000)
                .syn()
                .options(options)
                .unwrap()
                .write(&mut frame, TEXT)
                .unwrap();
            let run = bench.arrives(&frame);
            assert_eq!(run.verdict, REDIRECT);
            let got = read(&run.frame);
            assert_eq!(got.source, Family::V4.gateway());
            let place = OPTIONS - 20 + at;
            assert_eq!(u16::from_be_bytes([run.frame[place], run.frame[place + 1]]), seen, "{options:?}");
        }
    });
}
