//! The handler as a whole: messages in, messages out.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;

use super::message::Transport;
use super::server::{Resolver, Verdict};
use super::{NameService, Place};
use crate::model::Id;

const ASKER: u8 = 1;

fn id(number: u8) -> Id {
    format!("{number:064x}").parse().unwrap()
}

/// A container that asks, beside `web`, which has only IPv4, and forty that are called `pool`.
fn resolver() -> Resolver {
    let service = NameService::new("/nowhere/resolv.conf".into());
    let put = |number: u8, name: &str, addresses: &[String]| {
        let place = Place {
            network: id(200),
            network_name: "front".into(),
            names: vec![name.into()],
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            links: Vec::new(),
        };
        service.put(id(number), vec![place], true);
    };
    put(ASKER, "asker", &["10.0.0.1".into(), "fd00::1".into()]);
    put(2, "web", &["10.0.0.2".into()]);
    (10..50).for_each(|number| put(number, "pool", &[format!("10.0.0.{number}"), format!("fd00::{number}")]));
    Resolver { asker: id(ASKER), shared: Arc::clone(&service.shared), own: None }
}

fn query(name: &str, query_type: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), query_type));
    message
}

/// The answer that is given at once, and its length; none where others would be asked or nothing is said.
fn answer(message: &Message, transport: Transport) -> Option<(Message, usize)> {
    match resolver().judge(&message.to_vec().unwrap(), transport) {
        Verdict::Answer(answer) => answer.map(|bytes| (Message::from_vec(&bytes).unwrap(), bytes.len())),
        Verdict::Forward(_) => None,
    }
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => IpAddr::V4(address.0),
        RData::AAAA(address) => IpAddr::V6(address.0),
        other => panic!("{other} is no address"),
    };
    message.answers.iter().map(|record| address(&record.data)).collect()
}

#[test]
fn a_name_is_answered_as_it_was_asked_for() {
    let (found, _) = answer(&query("WeB.Front.", RecordType::A), Transport::Udp).unwrap();
    let metadata = found.metadata;
    assert_eq!((metadata.id, metadata.response_code), (0x1234, ResponseCode::NoError));
    assert!(metadata.recursion_desired && metadata.recursion_available && !metadata.truncation);
    assert!(found.queries[0].name.eq_case(&Name::from_ascii("WeB.Front.").unwrap()), "{}", found.queries[0]);
    assert_eq!(addresses(&found), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    assert!(found.answers[0].ttl <= 10);
    assert!(found.edns.is_none());
}

#[test]
fn what_a_known_name_lacks_is_nobody_elses_business() {
    for query_type in [RecordType::AAAA, RecordType::MX, RecordType::TXT, RecordType::HTTPS, RecordType::ANY] {
        let (found, _) = answer(&query("web.", query_type), Transport::Udp).unwrap();
        assert_eq!(found.metadata.response_code, ResponseCode::NoError, "{query_type}");
        assert!(found.answers.is_empty(), "{query_type}");
    }
    assert!(answer(&query("web.example.org.", RecordType::A), Transport::Udp).is_none());
    assert!(answer(&query(".", RecordType::NS), Transport::Udp).is_none());
}

#[test]
fn addresses_have_names() {
    for (name, expected) in [
        ("2.0.0.10.in-addr.arpa.", Some("web.front.")),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", Some("asker.front.")),
        ("9.0.0.10.in-addr.arpa.", None),
        ("0.0.10.in-addr.arpa.", None),
    ] {
        let found = answer(&query(name, RecordType::PTR), Transport::Udp);
        let pointer = found.map(|(found, _)| match &found.answers[0].data {
            RData::PTR(name) => name.to_ascii(),
            other => panic!("{other}"),
        });
        assert_eq!(pointer.as_deref(), expected, "{name}");
    }
}

#[test]
fn an_answer_is_as_long_as_it_may_be() {
    let mut question = query("pool.", RecordType::AAAA);
    let (plain, length) = answer(&question, Transport::Udp).unwrap();
    assert!(plain.metadata.truncation && length <= 512 && plain.answers.len() >= 15, "{length}: {plain}");
    let (whole, _) = answer(&question, Transport::Tcp).unwrap();
    assert!(!whole.metadata.truncation && whole.answers.len() == 40);

    for (payload, most) in [(0, 512), (1232, 1232), (u16::MAX, 4096)] {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_dnssec_ok(true);
        question.set_edns(edns);
        let (found, length) = answer(&question, Transport::Udp).unwrap();
        assert!(length <= most, "{payload}: {length}");
        assert_eq!(found.metadata.truncation, payload == 0, "{payload}");
        let edns = found.edns.expect("who speaks of EDNS hears of it");
        assert!(edns.version() == 0 && edns.max_payload() == 4096 && edns.flags().dnssec_ok);
    }
}

#[test]
fn what_is_no_question_is_refused_or_not_answered() {
    let code = |message: &Message| answer(message, Transport::Udp).map(|(found, _)| found.metadata.response_code);
    let question = query("web.", RecordType::A);
    for (op_code, expected) in [(OpCode::Update, ResponseCode::NotImp), (OpCode::Notify, ResponseCode::NotImp)] {
        let mut message = question.clone();
        message.metadata.op_code = op_code;
        assert_eq!(code(&message), Some(expected));
    }
    let mut twice = question.clone();
    twice.add_query(twice.queries[0].clone());
    assert_eq!(code(&twice), Some(ResponseCode::FormErr));
    let mut none = question.clone();
    none.queries.clear();
    assert_eq!(code(&none), Some(ResponseCode::FormErr));
    assert_eq!(code(&query("web.", RecordType::AXFR)), Some(ResponseCode::Refused));
    let mut newer = question.clone();
    newer.set_edns({
        let mut edns = Edns::new();
        edns.set_version(1);
        edns
    });
    // The same number as that of a bad signature.
    assert_eq!(code(&newer).map(u16::from), Some(ResponseCode::BADVERS.into()));
    // Answers are not answered, nor is what has no header.
    assert_eq!(code(&question.clone().into_response()), None);
    let bytes = question.to_vec().unwrap();
    assert!(matches!(resolver().judge(&bytes[..11], Transport::Udp), Verdict::Answer(None)));
    let Verdict::Answer(Some(cut)) = resolver().judge(&bytes[..bytes.len() - 1], Transport::Udp) else { panic!() };
    assert_eq!(Message::from_vec(&cut).unwrap().metadata.response_code, ResponseCode::FormErr);
}

/// Feeds bytes to the handler. What comes back is an answer to them, and no longer than it may be.
fn is_handled(resolver: &Resolver, bytes: &[u8], transport: Transport) {
    match resolver.judge(bytes, transport) {
        Verdict::Answer(None) => {}
        Verdict::Answer(Some(answer)) => {
            assert_eq!(answer[..2], bytes[..2], "the number is that of the question");
            assert!(answer[2] & 0x80 != 0, "it is an answer");
            assert!(bytes[2] & 0x80 == 0, "answers are not answered");
            assert!(transport == Transport::Tcp || answer.len() <= 4096);
            Message::from_vec(&answer).expect("what we write can be read");
        }
        Verdict::Forward(request) => {
            let forwarded = request.forwarded(7).expect("what was read can be written");
            assert_eq!(Message::from_vec(&forwarded).unwrap().queries, [request.question().clone()]);
            request.error(ResponseCode::ServFail);
        }
    }
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// Arbitrary bytes do no harm.
    #[test]
    fn any_bytes_are_handled(bytes in prop::collection::vec(any::<u8>(), 0..600), transport in transport()) {
        is_handled(&resolver(), &bytes, transport);
    }

    /// Nor do messages that are nearly right: bytes of them changed, cut off, or put behind.
    #[test]
    fn changed_messages_are_handled(
        name in prop_oneof![Just("web.".to_owned()), Just("pool.front.".to_owned()), "[a-z0-9.-]{0,40}",
            Just("2.0.0.10.in-addr.arpa.".to_owned())],
        query_type in prop_oneof![Just(1_u16), Just(28), Just(12), Just(41), Just(252), Just(255), any::<u16>()],
        edns in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        behind in prop::collection::vec(any::<u8>(), 0..40),
        transport in transport(),
    ) {
        let Ok(name) = Name::from_ascii(&name) else { return Ok(()) };
        let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name, query_type.into()));
        if edns {
            message.set_edns(Edns::new());
        }
        let Ok(mut bytes) = message.to_vec() else { return Ok(()) };
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend_from_slice(&behind);
        is_handled(&resolver(), &bytes, transport);
    }

    /// What another server says does no harm either, whether it is passed on or kept.
    #[test]
    fn any_reply_is_handled(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        right in any::<bool>(),
    ) {
        let question = query("www.example.org.", RecordType::A).to_vec().unwrap();
        let Verdict::Forward(request) = resolver().judge(&question, Transport::Udp) else { panic!("it is not ours") };
        let mut reply = if right { request.forwarded(7).unwrap() } else { Vec::new() };
        reply.extend_from_slice(&bytes);
        for (place, value) in changes {
            if !reply.is_empty() {
                let place = place.index(reply.len());
                reply[place] = value;
            }
        }
        super::cache::tests::is_kept_or_not(&request, reply);
    }
}
