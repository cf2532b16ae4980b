//! Floods and full tables: who floods hurts nobody but himself, and what does not fit is dropped, counted and shown.
//!
//! The floods here are of hundreds of thousands of frames: enough to fill every table several times over, in seconds.
//! `cargo xtask bench --only floods` plays the first two with millions, and tells the figures.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use spandrel_tests::*;

/// Connections that carry data while a flood goes on.
const MEMBERS: usize = 1000;

/// Frames of each flood here: enough to fill every table several times over.
const FRAMES: u64 = 150_000;

/// New connections that are made while a flood goes on.
const NEWCOMERS: usize = 10;

/// A flood of SYNs from random addresses at a published port costs none of the connections through it, and new clients come in.
#[test]
fn a_flood_of_syns_breaks_no_connection() {
    let site = Site::with_networks(["red"]);
    let web = site.host.run_container("--name web --network red -p 8080:80 -p 8081:81");
    for family in Family::BOTH {
        let published = site.public(family);
        let mut crowd = Crowd::tcp(&site.internet, (published, 8080), &web, (family.any(), 80), MEMBERS);
        let newcomers = web.tcp_listen(family.any(), 81);
        crowd.assert_all_go_on();
        let flooding = from_internet(&site, Flood::Syn(published, 8080));
        while_it_lasts(&flooding, || {
            let mut link = site.internet.tcp_connect(published, 8081).expect("a new client comes in");
            link.echo("during the flood").unwrap();
        });
        assert_eq!(flooding.finish(), FRAMES);
        crowd.assert_all_go_on();
        assert!(crowd.finish() >= 2 * MEMBERS as u64);
        drop(newcomers);
    }
}

/// The same over UDP, at the very port that the conversations go through.
#[test]
fn a_flood_of_datagrams_breaks_no_conversation() {
    let site = Site::with_networks(["red"]);
    let resolver = site.host.run_container("--name resolver --network red -p 5353:53/udp -p 5354:54/udp");
    for family in Family::BOTH {
        let published = site.public(family);
        let mut crowd = Crowd::udp(&site.internet, (published, 5353), &resolver, (family.any(), 53), MEMBERS);
        let newcomers = resolver.udp_listen(family.any(), 54);
        crowd.assert_all_go_on();
        let flooding = from_internet(&site, Flood::Udp(published, 5353));
        while_it_lasts(&flooding, || {
            let seen = site.internet.udp_ask(published, 5354, "during the flood").expect("a new client is served");
            assert_eq!(seen.ip(), site.uplink.outside(family));
        });
        assert_eq!(flooding.finish(), FRAMES);
        crowd.assert_all_go_on();
        assert!(crowd.finish() >= 2 * MEMBERS as u64);
        drop(newcomers);
    }
}

/// A container that opens 100,000 flows to the outside gets as many as it may have; its neighbour's go on, and it opens new ones.
#[test]
fn a_greedy_container_hurts_only_itself() {
    const MEMBERS: usize = 100;
    const FLOWS: u64 = 100_000;
    let site = Site::with_networks(["red"]);
    let greedy = site.host.run_container("--name greedy --network red");
    let neighbour = site.host.run_container("--name neighbour --network red");
    for family in Family::BOTH {
        let far = Site::far(family);
        let tcp = Crowd::tcp(&neighbour, (far, 80), &site.internet, (far, 80), MEMBERS);
        let udp = Crowd::udp(&neighbour, (far, 53), &site.internet, (far, 53), MEMBERS);
        let newcomers = site.internet.tcp_listen(family.any(), 81);
        let before = site.host.dropped("greedy", |reason| reason == "FlowQuota");
        let flooding = from_container(&site, &greedy, family, FLOWS);
        while_it_lasts(&flooding, || {
            let link = neighbour.tcp_connect(far, 81).expect("the neighbour opens new connections");
            assert_eq!(link.seen_as.ip(), site.public(family), "masqueraded");
        });
        assert_eq!(flooding.finish(), FLOWS);
        for mut crowd in [tcp, udp] {
            crowd.assert_all_go_on();
            crowd.finish();
        }
        let refused = site.host.dropped("greedy", |reason| reason == "FlowQuota") - before;
        assert!(refused > FLOWS / 2, "{refused} were beyond the quota");
        assert_eq!(site.host.dropped("neighbour", |_| true), 0);
        drop(newcomers);
    }
}

/// A container that opens connections and closes them, many more in the time for which closed ones are kept than it may have at once, is
/// refused none.
#[test]
fn connections_that_were_closed_are_in_nobodys_way() {
    /// A quota of 4096 flows.
    const OPTIONS: &str = "--max-flows 16384";
    const CONNECTIONS: usize = 6000;
    const PAUSE: Duration = Duration::from_millis(1);
    let site = Site::with_agent(OPTIONS);
    site.host.create_network("--ipv6 red");
    let busy = site.host.run_container("--name busy --network red");
    for family in Family::BOTH {
        let far = Site::far(family);
        let listener = site.internet.run(|| TcpListener::bind((far, 80))).expect("a server");
        // It ends with the test; a client that has gone is no matter.
        thread::spawn(move || listener.incoming().for_each(drop));
        busy.run(|| {
            for number in 0..CONNECTIONS {
                let mut link = TcpStream::connect_timeout(&(far, 80).into(), PATIENCE)
                    .unwrap_or_else(|error| panic!("connection {number}: {error}"));
                // The server closes at once, then the client does.
                let _ = link.read(&mut [0]);
                drop(link);
                thread::sleep(PAUSE);
            }
        });
        assert_eq!(site.host.dropped("busy", |reason| reason == "FlowQuota"), 0);
    }
}

/// A full flow table: connections that are in it go on, new ones are dropped and counted, and when there is room again they are
/// made as before.
#[test]
fn a_full_table_takes_nothing_more_and_says_so() {
    const CAPACITY: u64 = 1024;
    let site = Site::with_agent(&format!("--max-flows {CAPACITY} --idle-timeout udp-unanswered=2"));
    site.host.create_network("--ipv6 red");
    let greedy = site.host.run_container("--name greedy --network red");
    let neighbour = site.host.run_container("--name neighbour --network red -p 8080:80");
    for family in Family::BOTH {
        let far = Site::far(family);
        let mut crowd = Crowd::tcp(&neighbour, (far, 80), &site.internet, (far, 80), 20);
        let server = site.internet.tcp_listen(family.any(), 81);
        let before = site.host.dropped("greedy", |reason| reason == "FlowTableFull");
        from_container(&site, &greedy, family, 4 * CAPACITY).finish();
        let full = site.host.dropped("greedy", |reason| reason == "FlowTableFull") - before;
        assert!(full > CAPACITY, "{full} did not fit");
        assert_silent(neighbour.briefly().tcp_connect(far, server.port()));
        assert!(
            site.host.dropped("neighbour", |reason| reason == "FlowTableFull") > 0,
            "its new connection is counted"
        );
        crowd.assert_all_go_on();
        // What nobody has answered is forgotten.
        let room = within(PATIENCE * 3, || neighbour.briefly().tcp_connect(far, server.port()).ok());
        assert!(room.is_some(), "there is room again");
        crowd.finish();
    }
}

/// A flood at the host's uplink.
fn from_internet(site: &Site, flood: Flood) -> Flooding {
    let mac = site.host.link(&site.uplink.name).mac;
    site.internet.flood(&site.uplink.outside_name, mac, flood, FRAMES)
}

/// A container's datagrams to random addresses outside, each a flow of its own.
fn from_container(site: &Site, container: &Container, family: Family, flows: u64) -> Flooding {
    let gateway = site.host.gateway("red", family);
    container.ping(gateway).expect("the gateway answers");
    let mac = container.neighbour(gateway).expect("its MAC address is known now");
    container.flood("eth0", mac, Flood::Outbound(container.ip(family)), flows)
}

/// Does something a few times while a flood lasts, and at least once.
fn while_it_lasts(flooding: &Flooding, mut act: impl FnMut()) {
    for number in 0..NEWCOMERS {
        if number > 0 && !flooding.goes_on() {
            return;
        }
        act();
        thread::sleep(Duration::from_millis(50));
    }
}
