use super::*;
use crate::checksum::Difference;
use etherparse::PacketBuilder;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    build(&mut frame);
    frame
}

fn udp4() -> Vec<u8> {
    built(|out| {
        PacketBuilder::ethernet2(MAC, MAC)
            .ipv4([10, 0, 0, 2], [192, 0, 2, 1], 64)
            .udp(4000, 53)
            .write(out, b"hello")
            .unwrap();
    })
}

/// The same with other fragment bits.
fn part4(bits: u16) -> Vec<u8> {
    let mut frame = udp4();
    frame[20..22].copy_from_slice(&bits.to_be_bytes());
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..34]).unwrap().to_header().calc_header_checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn tcp_over_ipv4() {
    let frame = built(|out| {
        PacketBuilder::ethernet2(MAC, MAC)
            .ipv4([10, 0, 0, 2], [192, 0, 2, 1], 63)
            .tcp(4000, 80, 1, 1000)
            .syn()
            .write(out, &[])
            .unwrap();
    });
    let packet = Packet::<V4>::parse(frame.as_slice()).unwrap();
    assert_eq!(packet.kind, Kind::Tcp);
    assert!(packet.flags.opens());
    assert_eq!((packet.tuple.source_port.get(), packet.tuple.destination_port.get()), (4000, 80));
    assert_eq!((packet.ttl, packet.length), (63, 40));
    assert_eq!((packet.wire_length(0), packet.wire_length(1460)), (40, 1500));
}

#[test]
fn udp_over_ipv6() {
    let frame = built(|out| {
        PacketBuilder::ethernet2(MAC, MAC).ipv6([0xfd; 16], [0xfe; 16], 5).udp(4000, 53).write(out, b"hello").unwrap();
    });
    let packet = Packet::<V6>::parse(frame.as_slice()).unwrap();
    assert_eq!((packet.kind, packet.ttl, packet.length), (Kind::Udp, 5, 53));
}

#[test]
fn an_identifier_is_the_port_of_who_asks() {
    let frame = built(|out| {
        PacketBuilder::ethernet2(MAC, MAC)
            .ipv4([10, 0, 0, 2], [192, 0, 2, 1], 64)
            .icmpv4_echo_request(77, 1)
            .write(out, b"x")
            .unwrap();
    });
    let packet = Packet::<V4>::parse(frame.as_slice()).unwrap();
    assert_eq!(packet.kind, Kind::EchoRequest);
    assert_eq!((packet.tuple.source_port.get(), packet.tuple.destination_port.get()), (77, 0));
}

#[test]
fn a_first_fragment_shows_ports_and_a_later_one_none() {
    let packet = Packet::<V4>::parse(part4(0x2000).as_slice()).unwrap();
    assert_eq!((packet.kind, packet.tuple.source_port.get(), packet.part.is_whole()), (Kind::Udp, 4000, false));
    let packet = Packet::<V4>::parse(part4(0x0001).as_slice()).unwrap();
    assert_eq!((packet.kind, packet.tuple.source_port.get(), packet.part.offset), (Kind::Fragment, 0, 8));
}

#[test]
fn no_fragment_writes_over_a_tcp_header() {
    let tcp = |bits: u16| {
        let mut frame = part4(bits);
        frame[14 + 9] = Protocol::TCP.0;
        frame[24..26].fill(0);
        let header = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..34]).unwrap().to_header();
        frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        Packet::<V4>::parse(frame.as_slice()).map(|packet| packet.kind)
    };
    for (offset, kind) in [(1, None), (2, None), (3, Some(Kind::Fragment)), (8, Some(Kind::Fragment))] {
        assert_eq!(tcp(offset).ok(), kind, "at byte {}", offset * 8);
    }
}

#[test]
fn options_are_stepped_over() {
    let frame = built(|out| {
        let header = etherparse::Ipv4Header {
            options: [1, 1, 1, 0].into(),
            ..etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, [10, 0, 0, 2], [192, 0, 2, 1]).unwrap()
        };
        PacketBuilder::ethernet2(MAC, MAC)
            .ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
            .udp(4000, 53)
            .write(out, b"hello")
            .unwrap();
    });
    let packet = Packet::<V4>::parse(frame.as_slice()).unwrap();
    assert_eq!((packet.kind, packet.tuple.source_port.get()), (Kind::Udp, 4000));
    assert!(packet.options && packet.transport == 14 + 24);
}

#[test]
fn extension_headers_are_stepped_over() {
    let mut frame = built(|out| {
        PacketBuilder::ethernet2(MAC, MAC).ipv6([0xfd; 16], [0xfe; 16], 5).udp(4000, 53).write(out, b"hello").unwrap();
    });
    // Hop-by-hop options of 16 bytes, then a first fragment.
    let mut extensions = vec![ipv6::FRAGMENT, 1];
    extensions.extend([0; 14]);
    extensions.extend([Protocol::UDP.0, 0, 0, 1, 9, 8, 7, 6]);
    frame[18..20].copy_from_slice(&(13_u16 + 24).to_be_bytes());
    frame[20] = ipv6::HOP_BY_HOP;
    frame.splice(54..54, extensions);
    let packet = Packet::<V6>::parse(frame.as_slice()).unwrap();
    assert_eq!((packet.kind, packet.tuple.destination_port.get(), packet.transport), (Kind::Udp, 53, 14 + 40 + 24));
    assert_eq!(packet.part, Part { header: 14 + 40 + 16, ..Part::new(u32::from_ne_bytes([9, 8, 7, 6]), 0, true) });
    assert!(packet.part.is_first() && !packet.part.is_whole());
    assert!(packet.options);
    // Cut anywhere, nothing is read that is not there.
    for len in 0..frame.len() {
        assert!(Packet::<V6>::parse(&frame[..len]).is_err());
    }
}

#[test]
fn an_error_is_found_as_the_answer_to_what_it_quotes() {
    let quoted = &udp4()[14..14 + 28];
    let frame = built(|out| {
        PacketBuilder::ethernet2(MAC, MAC)
            .ipv4([198, 51, 100, 9], [10, 0, 0, 2], 64)
            .icmpv4(etherparse::Icmpv4Type::TimeExceeded(etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit))
            .write(out, quoted)
            .unwrap();
    });
    let packet = Packet::<V4>::parse(frame.as_slice()).unwrap();
    assert_eq!((packet.kind, packet.protocol, packet.quote.kind), (Kind::IcmpError, Protocol::UDP, Kind::Udp));
    assert_eq!(
        (packet.source, packet.destination),
        (V4(u32::from_ne_bytes([198, 51, 100, 9])), packet.tuple.destination)
    );
    assert_eq!(packet.tuple.source, V4(u32::from_ne_bytes([192, 0, 2, 1])));
    assert_eq!((packet.tuple.source_port.get(), packet.tuple.destination_port.get()), (53, 4000));
    assert_eq!((packet.quote.ip, packet.quote.transport, packet.quote.checksum), (42, 62, 68));
}

#[test]
fn a_wrong_header_checksum_is_malformed() {
    let mut frame = udp4();
    frame[14 + 10] ^= 1;
    assert_eq!(Packet::<V4>::parse(frame.as_slice()).err(), Some(DropReason::Malformed));
}

#[test]
fn cut_and_contradictory_headers_are_malformed() {
    let whole = udp4();
    for len in 0..whole.len() {
        assert_eq!(Packet::<V4>::parse(&whole[..len]).err(), Some(DropReason::Malformed), "{len} bytes");
    }
    let mut wrong_version = whole.clone();
    wrong_version[14] = 0x65;
    assert!(Packet::<V4>::parse(wrong_version.as_slice()).is_err());
    let mut short_header = whole.clone();
    short_header[14] = 0x44;
    assert!(Packet::<V4>::parse(short_header.as_slice()).is_err());
    let mut short_length = whole;
    short_length[16..18].copy_from_slice(&24_u16.to_be_bytes());
    assert!(Packet::<V4>::parse(short_length.as_slice()).is_err(), "no room for the UDP header");
}

/// An ordinary packet of either family.
fn segment_or_datagram() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), any::<bool>()).prop_map(|(v6, tcp)| {
        let ethernet = PacketBuilder::ethernet2(MAC, MAC);
        let ip =
            if v6 { ethernet.ipv6([0xfd; 16], [0xfe; 16], 5) } else { ethernet.ipv4([10, 0, 0, 2], [10, 0, 0, 3], 64) };
        built(|out| {
            if tcp { ip.tcp(4000, 80, 1, 1000).write(out, b"hello") } else { ip.udp(4000, 53).write(out, b"hello") }
                .unwrap();
        })
    })
}

/// Source and destination of an ordinary packet.
fn glance<A: IpHeader>(frame: &[u8]) -> Option<(A, A)> {
    let header: A::Header = frame.read(ethernet::LEN)?;
    Packet::<A>::is_ordinary(frame, &header).then_some((A::source(&header), A::destination(&header)))
}

/// What a glance should see, by the whole parser.
fn closer_look<A: IpHeader>(frame: &[u8]) -> Option<(A, A)> {
    let packet = Packet::<A>::parse(frame).ok()?;
    let ordinary = matches!(packet.kind, Kind::Tcp | Kind::Udp) && packet.is_plain() && !packet.options;
    ordinary.then_some((packet.source, packet.destination))
}

proptest! {
    #[test]
    fn translating_an_ipv4_header_keeps_its_checksum_right(source: u32, destination: u32, ttl in 1..=255_u8, hops in 0..=1_u8) {
        let frame = udp4();
        let mut header: ipv4::Ipv4 = frame.as_slice().read(ethernet::LEN).unwrap();
        let difference = Difference::default()
            .word(u32::from(u16::from_ne_bytes([header.ttl, 0])), u32::from(u16::from_ne_bytes([ttl, 0])));
        header.checksum = Be16::from_raw(difference.update(header.checksum.raw()));
        header.ttl = ttl;
        let mut translated = header;
        V4::translate(&mut translated, V4(source), V4(destination), hops);
        prop_assert_eq!(translated.ttl, ttl - hops);
        let mut bytes = frame[ethernet::LEN..ethernet::LEN + 20].to_vec();
        bytes[8] = translated.ttl;
        bytes[12..16].copy_from_slice(&source.to_ne_bytes());
        bytes[16..20].copy_from_slice(&destination.to_ne_bytes());
        let expected = etherparse::Ipv4HeaderSlice::from_slice(&bytes).unwrap().to_header().calc_header_checksum();
        prop_assert_eq!(translated.checksum.get(), expected);
    }

    #[test]
    fn a_glance_takes_exactly_the_whole_plain_segments_and_datagrams_that_the_parser_takes(
        frame in segment_or_datagram(),
        at in ethernet::LEN..80,
        byte: u8,
        cut in 0..40_usize,
        repair: bool,
    ) {
        let mut frame = frame;
        if let Some(changed) = frame.get_mut(at) {
            *changed = byte;
        }
        frame.truncate(frame.len() - cut.saturating_sub(30));
        if repair && let Ok(header) = etherparse::Ipv4HeaderSlice::from_slice(&frame[ethernet::LEN..]) {
            let sum = header.to_header().calc_header_checksum();
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        prop_assert_eq!(glance::<V4>(&frame), closer_look::<V4>(&frame));
        prop_assert_eq!(glance::<V6>(&frame), closer_look::<V6>(&frame));
    }

    #[test]
    fn no_frame_makes_the_parser_panic(frame: Vec<u8>) {
        let _ = Packet::<V4>::parse(frame.as_slice());
        let _ = Packet::<V6>::parse(frame.as_slice());
    }
}
