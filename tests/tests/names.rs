//! SEMANTICS §4: names of containers, at 127.0.0.11:53 of each container on a user-defined network, and names from outside.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, OpCode, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use spandrel_tests::*;

/// A name from outside, which the lab's name server knows.
const OUTSIDE: &str = "www.example.test";

fn kind(family: Family) -> RecordType {
    if family == V4 { RecordType::A } else { RecordType::AAAA }
}

/// The lab's name server, at the address that the host's resolv.conf names; it knows [`OUTSIDE`].
fn outside(site: &Site) -> NameServer {
    site.internet.name_server(Site::far(V4), &Family::BOTH.map(|family| (OUTSIDE, Site::far(family))))
}

/// What the container sees under that path.
fn file(container: &Container, path: &str) -> String {
    container.exec(&["cat", path]).ok()
}

/// §4: a container has its name, short id, host name and aliases, each also with the network's name behind it, in any case, over UDP and TCP, in
/// both families. A link is a name for the one who has it.
#[test]
fn a_container_has_many_names() {
    let site = Site::with_networks(["front"]);
    let _outside = outside(&site);
    let web = site.host.run_container(
        "--name Web_1 --network front --hostname www.host --network-alias shop --network-alias Sales.Dept",
    );
    let friend = site.host.run_container("--name friend --network front --link Web_1:store --link Web_1");
    let stranger = site.host.run_container("--name stranger --network front");
    let names = ["Web_1", &web.id[..12], "www.host", "shop", "Sales.Dept"];
    for family in Family::BOTH {
        let expected = [web.ip(family)];
        for name in names {
            for name in [name.to_owned(), format!("{name}.front"), name.to_uppercase(), format!("{name}.FRONT")] {
                for asker in [&friend, &web] {
                    assert_eq!(asker.addresses_of(&name, kind(family)), expected, "{name}");
                }
                let by_tcp = friend.look_up_by_tcp(&name, kind(family)).expect("an answer by TCP");
                assert_eq!(addresses(&by_tcp), expected, "{name}");
            }
        }
        for name in ["store", "store.front"] {
            assert_eq!(friend.addresses_of(name, kind(family)), expected, "{name}");
            assert_eq!(stranger.names_code(name), ResponseCode::NXDomain, "{name}");
        }
    }
    // As a program asks.
    let found = friend.exec("getent ahostsv4 shop").ok();
    assert!(found.starts_with(&web.ip(V4).to_string()), "{found}");
    // As the API tells.
    assert_eq!(
        web.endpoint("front")["DNSNames"],
        serde_json::json!(["Web_1", "shop", "Sales.Dept", &web.id[..12], "www.host"])
    );
    assert_eq!(friend.endpoint("front")["Links"], serde_json::json!(["Web_1:store", "Web_1:Web_1"]));
}

/// §4, §6 step 5: containers that share an alias are all told, and each look-up names another one first.
#[test]
fn answers_take_turns() {
    let site = Site::with_networks(["front"]);
    let members = ["a", "b", "c"]
        .map(|name| site.host.run_container(&format!("--name {name} --network front --network-alias alicek106")));
    for family in Family::BOTH {
        let all: BTreeSet<_> = members.iter().map(|member| member.ip(family)).collect();
        let answers: Vec<_> = (0..3).map(|_| members[0].addresses_of("alicek106", kind(family))).collect();
        for answer in &answers {
            assert_eq!(answer.iter().copied().collect::<BTreeSet<_>>(), all);
        }
        assert_eq!(answers.iter().map(|answer| answer[0]).collect::<BTreeSet<_>>(), all, "{answers:?}");
    }
}

/// §4: only names on networks that the asker shares are known to it, and only addresses on these are told.
#[test]
fn names_stay_in_their_network() {
    let site = Site::with_networks(["front", "back"]);
    let _outside = outside(&site);
    let web = site.host.run_container("--name web --network front");
    let database = site.host.run_container("--name db --network back --network-alias store");
    let both = site.host.run_container("--name both --network front");
    site.host.spandrel("network connect back both").ok();
    for name in ["db", "store", "db.back", "store.back", &database.id[..12]] {
        assert_eq!(web.names_code(name), ResponseCode::NXDomain, "{name}");
        assert_eq!(both.addresses_of(name, RecordType::A), [database.ip(V4)], "{name}");
    }
    // Who is on two networks is known on each by its address there.
    for (asker, network, other) in [(&web, "front", "back"), (&database, "back", "front")] {
        assert_eq!(asker.addresses_of("both", RecordType::A), [both.ip_on(network, V4)]);
        assert_eq!(asker.addresses_of(&format!("both.{network}"), RecordType::A), [both.ip_on(network, V4)]);
        assert_eq!(asker.names_code(&format!("both.{other}")), ResponseCode::NXDomain);
    }
}

/// §4: addresses on networks that the asker shares have names, in both families.
#[test]
fn addresses_have_names() {
    let site = Site::with_networks(["front", "back"]);
    let _outside = outside(&site);
    let web = site.host.run_container("--name web --network front --network-alias shop");
    let friend = site.host.run_container("--name friend --network front");
    let stranger = site.host.run_container("--name stranger --network back");
    for family in Family::BOTH {
        let address = web.ip(family);
        let answer = friend.look_up(&reverse(address), RecordType::PTR).expect("an answer");
        let names: Vec<_> = answer.answers.iter().map(|record| &record.data).collect();
        assert!(matches!(names[..], [RData::PTR(name)] if name.to_ascii() == "web.front."), "{answer}");
        let unknown = stranger.look_up(&reverse(address), RecordType::PTR).expect("an answer");
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain, "{unknown}");
    }
}

/// The name under which an address has its name (RFC 1035 §3.5, RFC 3596 §2.5).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", address.to_bits());
            let digits: Vec<_> = digits.chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

/// §4: a known name without what is asked for is an empty answer, and nobody else hears of it.
#[test]
fn a_known_name_is_never_forwarded() {
    let site = Site::new();
    let outside = outside(&site);
    site.host.create_network("plain");
    let web = site.host.run_container("--name web --network plain --network-alias a.b");
    for name in ["web", "web.plain", "a.b"] {
        for kind in [RecordType::AAAA, RecordType::MX, RecordType::TXT, RecordType::HTTPS, RecordType::SRV] {
            let answer = web.look_up(name, kind).expect("an answer");
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
            assert!(answer.answers.is_empty(), "{name} {kind}: {answer}");
        }
    }
    // The same without IPv4, where the service is at its IPv4 address all the same.
    site.host.create_network("--ipv4=false --ipv6 six");
    let friend = site.host.run_container("--name friend --network six");
    assert_eq!(friend.addresses_of("friend", RecordType::AAAA), [friend.ip(V6)]);
    assert_eq!(friend.addresses_of("friend", RecordType::A), [] as [IpAddr; 0]);
    assert!(outside.asked().is_empty(), "{:?}", outside.asked());
    // The control: what is not known is asked there.
    for asker in [&web, &friend] {
        assert_eq!(asker.names_code("elsewhere"), ResponseCode::NXDomain);
    }
    assert_eq!(outside.asked().len(), 2);
}

/// §4: names from outside are asked of the host's resolvers, from the host, and answers are remembered as long as they say.
#[test]
fn names_from_outside_are_asked_by_the_host() {
    let site = Site::with_networks(["front", "back"]);
    let outside = outside(&site);
    let containers = ["front", "back"].map(|network| site.host.run_container(&format!("--network {network}")));
    for family in Family::BOTH {
        assert_eq!(containers[0].addresses_of(OUTSIDE, kind(family)), [Site::far(family)]);
    }
    let asked = outside.asked();
    assert!(asked.iter().all(|asked| asked.from == site.public(V4) && !asked.by_tcp), "{asked:?}");
    // Remembered for everybody, in whatever letters it is asked for.
    let answer = containers[1].look_up("WWW.Example.Test", RecordType::A).expect("an answer");
    assert_eq!(addresses(&answer), [Site::far(V4)]);
    assert!((1..=UPSTREAM_TTL).contains(&answer.answers[0].ttl), "{answer}");
    assert_eq!(outside.asked().len(), asked.len());
    // What is not there may be there soon: without the zone's word that is not remembered.
    for _ in 0..2 {
        assert_eq!(containers[0].names_code("none.example.test"), ResponseCode::NXDomain);
    }
    assert_eq!(outside.asked_for("none.example.test").len(), 2);
    // As a program asks.
    let found = containers[0].exec(&["getent", "ahostsv6", OUTSIDE]).ok();
    assert!(found.starts_with(&Site::far(V6).to_string()), "{found}");
}

/// §4: where a resolver is silent, fails, or is not there at all, the next one is asked; the host's list may change at any time.
#[test]
fn the_next_resolver_is_asked() {
    let site = Site::with_networks(["front"]);
    let addresses = ["203.0.113.21", "203.0.113.22", "203.0.113.23"].map(|text| text.parse::<IpAddr>().unwrap());
    for address in addresses {
        site.internet.add_address("lo", address, 32);
    }
    let listed = |servers: &[IpAddr]| servers.iter().map(|server| format!("nameserver {server}\n")).collect::<String>();
    let container = site.host.run_container("--network front");
    let [silent, failing, good] = [
        site.internet.name_server_that(Manner::IsSilent, addresses[0], &[]),
        site.internet.name_server_that(Manner::Fails, addresses[1], &[]),
        site.internet.name_server(addresses[2], &[("one.test", Site::far(V4)), ("two.test", Site::far(V4))]),
    ];
    site.host.write("/etc/resolv.conf", &listed(&addresses));
    // The list is looked at again after a second.
    let found = within(PATIENCE, || {
        container.look_up("one.test", RecordType::A).ok().filter(|answer| !spandrel_tests::addresses(answer).is_empty())
    });
    assert!(found.is_some(), "the third one is not asked: {:?}", good.asked());
    assert!(!silent.asked_for("one.test").is_empty() && !failing.asked_for("one.test").is_empty());

    // All fail, or nobody listens: the container is told.
    drop(good);
    site.host.write("/etc/resolv.conf", &listed(&addresses[1..]));
    let failed = within(PATIENCE, || {
        let before = silent.asked().len();
        let code = container.names_code("three.test");
        (code == ResponseCode::ServFail && silent.asked().len() == before).then_some(())
    });
    assert!(failed.is_some(), "SERVFAIL is passed on when there is nobody else");
}

/// §4: what is too long for a datagram is fetched by TCP, and handed out as the container can take it.
#[test]
fn long_answers_come_by_tcp() {
    let site = Site::with_networks(["front"]);
    let many: Vec<IpAddr> = (1..=100).map(|last| format!("203.0.113.{last}").parse().unwrap()).collect();
    let names: Vec<_> = many.iter().map(|address| ("many.test", *address)).collect();
    let outside = site.internet.name_server(Site::far(V4), &names);
    let container = site.host.run_container("--network front");
    let short = container.look_up("many.test", RecordType::A).expect("an answer");
    assert!(short.metadata.truncation, "{short}");
    assert_eq!(outside.asked().iter().map(|asked| asked.by_tcp).collect::<Vec<_>>(), [false, true]);
    let whole = container.look_up_by_tcp("many.test", RecordType::A).expect("an answer by TCP");
    assert_eq!(addresses(&whole), many);
    let mut question = question("many.test", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    question.set_edns(edns);
    let whole = container.ask_names(&question).expect("an answer");
    assert_eq!(addresses(&whole), many);
}

/// §4: EDNS is spoken with those who speak it, towards both sides: sizes, and the wish for signatures.
#[test]
fn edns_is_spoken() {
    let site = Site::with_networks(["front"]);
    let outside = outside(&site);
    let web = site.host.run_container("--name web --network front");
    for name in ["web", OUTSIDE] {
        let mut question = question(name, RecordType::A);
        let plain = web.ask_names(&question).expect("an answer");
        assert!(plain.edns.is_none(), "{plain}");
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        question.set_edns(edns);
        // The second answer comes from memory.
        for _ in 0..2 {
            let answer = web.ask_names(&question).expect("an answer");
            assert_eq!(addresses(&answer).len(), 1);
            let edns = answer.edns.expect("who speaks of EDNS hears of it");
            assert!(edns.version() == 0 && edns.max_payload() >= 512 && edns.flags().dnssec_ok, "{edns}");
        }
    }
    let asked: Vec<_> = outside.asked().iter().map(|asked| asked.edns).collect();
    assert_eq!(asked, [None, Some((1232, true))]);
    let mut newer = question("web", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let code = web.ask_names(&newer).expect("an answer").metadata.response_code;
    assert_eq!(u16::from(code), u16::from(ResponseCode::BADVERS));
}

/// §4, §1 `--internal`: names resolve on an internal network; names from outside fail at once, and are not asked anywhere. A server of the
/// network's own is asked.
#[test]
fn names_on_an_internal_network() {
    let site = Site::new();
    let outside = outside(&site);
    site.host.create_network("--internal --ipv6 inside");
    let web = site.host.run_container("--name web --network inside");
    let server = web.name_server(web.ip(V4), &[("own.test", Site::far(V4))]);
    let friend = site.host.run_container("--name friend --network inside");
    assert_eq!(friend.addresses_of("web", RecordType::A), [web.ip(V4)]);
    let start = Instant::now();
    assert_eq!(friend.names_code(OUTSIDE), ResponseCode::ServFail);
    assert!(start.elapsed() < PATIENCE);
    assert!(outside.asked().is_empty(), "{:?}", outside.asked());
    let guest = site.host.run_container(&format!("--name guest --network inside --dns {}", web.ip(V4)));
    assert_eq!(guest.addresses_of("own.test", RecordType::A), [Site::far(V4)]);
    assert_eq!(server.asked()[0].from, guest.ip(V4));
    assert_eq!(guest.addresses_of("friend", RecordType::A), [friend.ip(V4)]);
    assert!(outside.asked().is_empty(), "{:?}", outside.asked());
    // With another network it has a way out.
    site.host.create_network("open");
    site.host.spandrel("network connect open friend").ok();
    assert_eq!(friend.addresses_of(OUTSIDE, RecordType::A), [Site::far(V4)]);
}

/// §4: `--dns` servers are asked from the container's namespace, in order, in place of the host's, over IPv4 and IPv6.
#[test]
fn a_container_may_have_servers_of_its_own() {
    let site = Site::with_networks(["front"]);
    let outside = outside(&site);
    let names = site.host.run_container("--name names --network front");
    for family in Family::BOTH {
        let server = names.name_server(names.ip(family), &[("own.test", Site::far(V6))]);
        let container = site.host.run_container(&format!("--network front --dns {}", names.ip(family)));
        assert_eq!(container.addresses_of("own.test", RecordType::AAAA), [Site::far(V6)]);
        assert_eq!(server.asked()[0].from, container.ip(family));
        assert_eq!(container.addresses_of("names", kind(family)), [names.ip(family)]);
        // One that is not there, and then the one.
        let gone = if family == V4 { "198.18.1.99" } else { "2001:db8:1::99" };
        let patient = site.host.run_container(&format!("--network front --dns {gone} --dns {}", names.ip(family)));
        assert_eq!(patient.addresses_of("own.test", RecordType::AAAA), [Site::far(V6)]);
    }
    assert!(outside.asked().is_empty(), "{:?}", outside.asked());
}

/// §4: a container whose server would be its own name service is told that there is nobody to ask; no question goes in circles.
#[test]
fn nobody_asks_himself() {
    let site = Site::with_networks(["front"]);
    let container = site.host.run_container("--name web --network front --dns 127.0.0.11");
    let start = Instant::now();
    assert_eq!(container.names_code(OUTSIDE), ResponseCode::ServFail);
    assert!(start.elapsed() < Duration::from_secs(2), "it was not waited for anybody");
    assert_eq!(container.addresses_of("web", RecordType::A), [container.ip(V4)]);
    // The host that names 127.0.0.11 has nobody there.
    let lab = Lab::new();
    let site = Site::in_lab(&lab, "");
    site.host.write("/etc/resolv.conf", "nameserver 127.0.0.11\n");
    site.host.create_network("front");
    let container = site.host.run_container("--name web --network front");
    assert_eq!(container.names_code(OUTSIDE), ResponseCode::ServFail);
}

/// §4, §5: names change in the same instant as the network does: with run, connect, disconnect, the command's end, and rm.
#[test]
fn names_change_with_the_network() {
    let site = Site::with_networks(["front", "back"]);
    let _outside = outside(&site);
    let asker = site.host.run_container("--name asker --network front");
    let known = |name: &str| asker.names_code(name) == ResponseCode::NoError;
    assert!(!known("web"));
    let web = site.host.run_container("--name web --network front --network-alias shop");
    assert_eq!(asker.addresses_of("shop", RecordType::A), [web.ip(V4)]);
    web.remove();
    assert!(!known("web") && !known("shop"));

    let other = site.host.run_container("--name other --network back");
    assert!(!known("other") && !known("guest"));
    site.host.spandrel("network connect --alias guest --link asker:host front other").ok();
    for name in ["other", "guest", "guest.front"] {
        assert_eq!(asker.addresses_of(name, RecordType::AAAA), [other.ip_on("front", V6)]);
    }
    assert_eq!(other.addresses_of("host", RecordType::A), [asker.ip(V4)]);
    site.host.spandrel("network disconnect front other").ok();
    assert!(!known("other") && !known("guest"));
    assert_eq!(other.names_code("asker"), ResponseCode::NXDomain);
    assert_eq!(other.addresses_of("other", RecordType::A), [other.ip(V4)]);

    site.host.spandrel("run --rm --name brief --network front true").ok();
    assert!(!known("brief"));
    site.host.run_container("--name web --network front");
    assert!(known("web"));
    site.host.spandrel("stop -t 0 web").ok();
    assert!(!known("web"));
    // Another one of that name has its own address, and is found by it.
    site.host.spandrel("rm web").ok();
    let _between = site.host.run_container("--name between --network front");
    let again = site.host.run_container("--name web --network front");
    assert_eq!(asker.addresses_of("web", RecordType::A), [again.ip(V4)]);
}

/// §4: a new agent answers for all containers that the last one left, with everything that they had asked for.
#[test]
fn names_survive_the_agent() {
    let mut site = Site::with_networks(["front"]);
    let outside = outside(&site);
    let web = site.host.run_container("--name web --network front --network-alias shop");
    let friend =
        site.host.run_container(&format!("--name friend --network front --link web:store --dns {}", Site::far(V4)));
    let (address, friends_address, friend) = (web.ip(V4), friend.ip(V4), (*friend).clone());
    let web = (*web).clone();
    for (end, name) in [(true, "one.test"), (false, "two.test")] {
        if end {
            site.agent.kill();
        } else {
            site.agent.stop();
        }
        // Nobody is there to answer; and nobody else is asked.
        assert!(friend.briefly().look_up("web", RecordType::A).is_err());
        site.agent = site.host.agent();
        for known in ["web", "shop", "store", "web.front"] {
            assert_eq!(friend.addresses_of(known, RecordType::A), [address], "{known}");
        }
        assert_eq!(web.addresses_of("friend", RecordType::A), [friends_address]);
        assert_eq!(friend.names_code(name), ResponseCode::NXDomain);
        // Its own server is asked from its own namespace, as before.
        assert_eq!(outside.asked_for(name).len(), 1);
    }
    site.host.spandrel("rm -f web").ok();
    assert_eq!(friend.names_code("web"), ResponseCode::NXDomain);
}

/// §4: bad and hostile packets are answered or dropped, and everybody else is served as before.
#[test]
fn hostile_packets_do_no_harm() {
    let site = Site::with_networks(["front"]);
    let _outside = outside(&site);
    let web = site.host.run_container("--name web --network front");
    let friend = site.host.run_container("--name friend --network front");
    let good = question("web", RecordType::A).to_vec().unwrap();
    let code = |bytes: &[u8]| web.ask_names_bytes(bytes).expect("an answer")[3] & 15;
    assert_eq!(code(&good), 0);
    // Cut, with a pointer to itself for a name, with two questions, with 65,535 of them, with an operation that there is not.
    assert_eq!(code(&good[..good.len() - 1]), 1);
    assert_eq!(code(&[&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat()), 1);
    assert_eq!(code(&[&good[..], &good[12..]].concat().with(5, 2)), 1);
    assert_eq!(code(&good.clone().with(4, 0xff).with(5, 0xff)), 1);
    assert_eq!(code(&good.clone().with(2, (u8::from(OpCode::Update) << 3) | 1)), 4);
    // Not even a header, and an answer: nothing is said to those.
    for silent in [Vec::new(), good[..11].to_vec(), good.clone().with(2, 0x81)] {
        assert_silent(web.briefly().ask_names_bytes(&silent));
    }
    // A flood of rubbish and of questions for elsewhere, and more idle connections than are allowed.
    let rubbish: Vec<u8> = (0..4000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let socket = web.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
    for number in 0..2000_usize {
        let from = number % 3000;
        let elsewhere = question(&format!("n{number}.test"), RecordType::A).to_vec().unwrap();
        for bytes in [&rubbish[from..from + number % 900], &elsewhere] {
            socket.send_to(bytes, (NAMES_AT, 53)).unwrap();
        }
    }
    let idle: Vec<_> = (0..40).map(|_| web.tcp_open(NAMES_AT, 53).expect("a connection")).collect();
    for mut stream in &idle {
        // The beginning of a message that never comes.
        stream.write_all(&[1]).unwrap();
    }
    assert_eq!(friend.addresses_of("web", RecordType::A), [web.ip(V4)]);
    let answered = within(PATIENCE, || web.briefly().look_up("friend", RecordType::A).ok());
    assert_eq!(addresses(&answered.expect("an answer in spite of all")), [friend.ip(V4)]);
    // Those who say nothing are not kept for ever.
    assert_eq!(addresses(&web.look_up_by_tcp("friend", RecordType::A).expect("a place by then")), [friend.ip(V4)]);
    assert_eq!(friend.addresses_of(OUTSIDE, RecordType::A), [Site::far(V4)]);
}

/// Changes one byte.
trait With {
    fn with(self, place: usize, value: u8) -> Self;
}

impl With for Vec<u8> {
    fn with(mut self, place: usize, value: u8) -> Self {
        self[place] = value;
        self
    }
}

/// §4: the service takes no port from the container, whose own name server may listen on all addresses, and be published.
#[test]
fn a_container_may_be_a_name_server() {
    let site = Site::with_networks(["front"]);
    let server = site.host.run_container("--name names --network front -p 53:53/udp -p 53:53");
    let friend = site.host.run_container("--name friend --network front");
    for family in Family::BOTH {
        let _udp = server.udp_listen(family.any(), 53);
        let _tcp = server.tcp_listen(family.any(), 53);
        for (from, address) in [(&*friend, server.ip(family)), (&site.internet, site.public(family))] {
            from.udp_ask(address, 53, "a question for the container").expect("its own server answers");
            from.tcp_connect(address, 53).expect("its own server accepts");
        }
        assert_eq!(server.addresses_of("friend", kind(family)), [friend.ip(family)]);
        assert_eq!(addresses(&server.look_up_by_tcp("friend", kind(family)).unwrap()), [friend.ip(family)]);
    }
}

/// §4: the predefined network `bridge` has no name service, and its containers the host's resolvers; one that joins another network has
/// the service there, and only names on that one, until it leaves.
#[test]
fn the_predefined_network_has_no_names() {
    let site = Site::with_networks(["front"]);
    let outside = outside(&site);
    let a = site.host.run_container("--name a");
    let b = site.host.run_container("--name b --network front");
    let resolver = format!("nameserver {}", Site::far(V4));
    assert_eq!(file(&a, "/etc/resolv.conf"), resolver);
    assert!(a.briefly().look_up("a", RecordType::A).is_err());
    assert_eq!(a.endpoint("bridge")["DNSNames"], serde_json::Value::Null);
    assert!(a.exec(&["getent", "ahostsv4", OUTSIDE]).ok().starts_with(&Site::far(V4).to_string()));
    assert_eq!(outside.asked()[0].from, site.public(V4));

    site.host.spandrel("network connect front a").ok();
    assert_eq!(file(&a, "/etc/resolv.conf"), "nameserver 127.0.0.11\noptions ndots:0");
    assert_eq!(a.addresses_of("b", RecordType::A), [b.ip(V4)]);
    assert_eq!(a.addresses_of("a", RecordType::A), [a.ip_on("front", V4)]);
    assert_eq!(a.names_code("a.bridge"), ResponseCode::NXDomain);
    site.host.spandrel("network disconnect front a").ok();
    assert_eq!(file(&a, "/etc/resolv.conf"), resolver);
    assert!(a.briefly().look_up("b", RecordType::A).is_err());
    for (line, why) in [
        ("run -d --network-alias x sleep 9", "user defined networks only"),
        ("network connect --alias x bridge b", "user defined networks only"),
        ("run -d --link b sleep 9", "Cannot link to b"),
    ] {
        let refused = site.host.spandrel(line);
        assert!(refused.code == Some(1) && refused.stderr.contains(why), "{refused:?}");
    }
}

/// §4: /etc/hosts, /etc/hostname and /etc/resolv.conf say what was asked for, and follow the container's networks.
#[test]
fn files_are_kept_current() {
    let site = Site::with_networks(["front", "back"]);
    site.host.write("/etc/resolv.conf", "nameserver 203.0.113.10\nsearch example.test\noptions edns0\n");
    let web = site.host.run_container(
        "--name web --network front --hostname www.example.test --add-host db:10.9.8.7 --add-host six=[fd00:9::7] --add-host gate:host-gateway",
    );
    assert_eq!(file(&web, "/etc/hostname"), "www.example.test");
    assert_eq!(file(&web, "/etc/resolv.conf"), "nameserver 127.0.0.11\nsearch example.test\noptions edns0 ndots:0");
    let lines =
        |container: &Container| -> Vec<String> { file(container, "/etc/hosts").lines().map(String::from).collect() };
    let own = |address: IpAddr| format!("{address}\twww.example.test www");
    let hosts = lines(&web);
    for line in [
        "127.0.0.1\tlocalhost".into(),
        "10.9.8.7\tdb".into(),
        "fd00:9::7\tsix".into(),
        format!("{}\tgate", site.host.gateway("bridge", V4)),
        own(web.ip(V4)),
        own(web.ip(V6)),
    ] {
        assert!(hosts.contains(&line), "{line:?} is missing: {hosts:#?}");
    }
    // The host is reached by that name.
    let gate = web.exec("getent ahostsv4 gate").ok();
    web.ping(gate.split_whitespace().next().unwrap().parse().unwrap()).expect("the host answers");

    site.host.spandrel("network connect back web").ok();
    assert!(lines(&web).contains(&own(web.ip_on("back", V4))));
    let front = web.ip_on("front", V4);
    site.host.spandrel("network disconnect front web").ok();
    assert!(!lines(&web).contains(&own(front)), "{:#?}", lines(&web));
    assert!(lines(&web).contains(&"10.9.8.7\tdb".to_string()));

    // What is asked for takes the place of the host's.
    let options = "--dns 198.18.1.53 --dns 2001:db8::53 --dns-search a.test --dns-search b.test --dns-option ndots:2";
    let plain = site.host.run_container(options);
    let resolver = "search a.test b.test\noptions ndots:2";
    assert_eq!(
        file(&plain, "/etc/resolv.conf"),
        format!("nameserver 198.18.1.53\nnameserver 2001:db8::53\n{resolver}")
    );
    let named = site.host.run_container(&format!("--network front {options}"));
    assert_eq!(file(&named, "/etc/resolv.conf"), format!("nameserver 127.0.0.11\n{resolver}"));
    let none = site.host.run_container("--network front --dns-search .");
    assert_eq!(file(&none, "/etc/resolv.conf"), "nameserver 127.0.0.11\noptions edns0 ndots:0");
    let shown = &plain.inspect()["HostConfig"];
    assert_eq!(shown["Dns"], serde_json::json!(["198.18.1.53", "2001:db8::53"]));
    assert_eq!(shown["DnsSearch"], serde_json::json!(["a.test", "b.test"]));
    assert_eq!(shown["DnsOptions"], serde_json::json!(["ndots:2"]));
    assert_eq!(web.inspect()["HostConfig"]["ExtraHosts"][2], "gate:host-gateway");

    // In the host's network they are the host's, but for what is asked for.
    let inside =
        |options: &str, path: &str| site.host.spandrel(&format!("run --rm --network host {options} cat {path}")).ok();
    assert!(inside("--add-host db:10.9.8.7", "/etc/hosts").lines().any(|line| line == "10.9.8.7\tdb"));
    assert!(inside("--dns 198.18.1.53", "/etc/resolv.conf").starts_with("nameserver 198.18.1.53\n"));
    let own = fs::read_to_string(site.host.path("/etc/resolv.conf")).unwrap();
    assert_eq!(inside("", "/etc/resolv.conf"), own.trim_end());
}

/// §4: wrong input for each flag is one sentence, and nothing is made.
#[test]
fn wrong_names_are_refused() {
    let site = Site::with_networks(["front"]);
    site.host.run_container("--name web --network front");
    let before = site.host.state();
    for (line, why) in [
        ("run -d --network front --network-alias a/b sleep 9", "invalid alias \"a/b\""),
        ("run -d --network front --link nobody sleep 9", "No such container: nobody"),
        ("run -d --network front --link web:a/b sleep 9", "invalid alias \"a/b\""),
        ("run -d --network none --link web sleep 9", "has no addresses and names of its own"),
        ("run -d --network front --dns example.test sleep 9", "invalid DNS server \"example.test\""),
        ("run -d --network front --dns-search a/b sleep 9", "invalid search domain \"a/b\""),
        ("run -d --network front --dns-option= sleep 9", "invalid resolver option \"\""),
        ("run -d --network front --add-host db sleep 9", "invalid extra host \"db\""),
        ("run -d --network front --add-host db:here sleep 9", "\"here\" is no IP address"),
        ("run -d --network front --hostname a..b sleep 9", "invalid hostname \"a..b\""),
        ("network connect --alias a/b front web", "invalid alias \"a/b\""),
    ] {
        let refused = site.host.spandrel(line);
        assert_eq!(refused.code, Some(1), "{line}: {refused:?}");
        let sentence = refused.stderr.trim_end();
        assert!(
            sentence.starts_with("spandrel: ") && !sentence.contains('\n') && sentence.contains(why),
            "{line}: {refused:?}"
        );
    }
    site.host.state().assert_same_as(&before);
}
