//! How fast containers may be: what they send and what they receive, over TCP and UDP, in both families, wherever the other side is.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use spandrel_tests::*;

/// Slow enough for a machine that has other things to do, too.
const RATE: u64 = 16_000_000;

/// Bytes of a datagram.
const LENGTH: usize = 1400;

/// How long each stream is watched.
const WATCHED: Duration = Duration::from_secs(8);

/// Where a stream leads: a server's namespace and port, and the address and port under which it is reached.
#[derive(Clone, Copy)]
struct Way<'a> {
    server: &'a Net,
    listen: u16,
    reached: (IpAddr, u16),
}

/// TCP connections beside each other. One alone is silent for up to a second when a retransmission is dropped as well (the timer
/// doubles), which is more than a bucket makes good; the others then take what it leaves.
const CONNECTIONS: usize = 4;

/// Bits in a second of payload that arrive on TCP connections of somebody who never stops sending.
fn tcp(client: &Net, way: &Way) -> f64 {
    let listener = way.server.tcp_bind(Family::of(way.reached.0).any(), way.listen).unwrap();
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let from = client.tcp_open(way.reached.0, way.reached.1).unwrap();
        let (to, _) = listener.accept().unwrap();
        to.set_nonblocking(true).unwrap();
        receivers.push(to);
        senders.push(from);
    }
    let senders: Vec<_> = senders.into_iter().map(|from| thread::spawn(move || pour(from))).collect();
    let rate = count(|buffer| {
        let read = receivers.iter_mut().map(|to| to.read(buffer)).find(|read| !would_block(read));
        read.unwrap_or_else(|| {
            thread::sleep(Duration::from_millis(1));
            Err(ErrorKind::WouldBlock.into())
        })
    });
    drop(receivers);
    for sender in senders {
        sender.join().unwrap();
    }
    rate
}

fn would_block<T>(result: &std::io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Writes until nobody reads any more.
fn pour(mut stream: TcpStream) {
    let block = vec![0; 64 * 1024];
    while stream.write_all(&block).is_ok() {}
}

/// The same of datagrams that are sent at three times the rate.
fn udp(client: &Net, way: &Way) -> f64 {
    let family = Family::of(way.reached.0);
    let server = way.server.udp_bind(family.any(), way.listen).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let from = client.udp_bind(family.any(), 0).unwrap();
    let to = SocketAddr::from(way.reached);
    let sender = thread::spawn(move || {
        let (start, mut sent) = (Instant::now(), 0.0);
        while start.elapsed() < WATCHED + WATCHED / 5 {
            while sent < start.elapsed().as_secs_f64() * 3.0 * RATE as f64 / 8.0 {
                from.send_to(&[0; LENGTH], to).unwrap();
                sent += LENGTH as f64;
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    let rate = count(|buffer| server.recv(buffer));
    sender.join().unwrap();
    rate
}

/// Counts what is read.
fn count(mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>) -> f64 {
    let mut buffer = vec![0; 256 * 1024];
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < WATCHED {
        match read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => bytes += read.expect("reading"),
        }
    }
    8.0 * bytes as f64 / start.elapsed().as_secs_f64()
}

/// Demands that a stream is as fast as its limit. What was counted is payload: `overhead` are the bytes of the headers before each
/// `payload` bytes, Ethernet's included.
#[track_caller]
fn assert_limited(what: &str, family: Family, counted: f64, (payload, overhead): (f64, f64)) {
    let headers = if family == Family::V6 { overhead + 20.0 } else { overhead };
    let share = counted * (1.0 + headers / payload) / RATE as f64;
    println!("{what} over {family:?}: {share:.2} of the rate");
    assert!((0.9..1.1).contains(&share), "{what} over {family:?}: {share:.2} of the rate");
}

#[track_caller]
fn assert_tcp_limited(what: &str, client: &Net, way: &Way) {
    let family = Family::of(way.reached.0);
    assert_limited(&format!("TCP {what}"), family, tcp(client, way), (1448.0, 66.0));
}

#[track_caller]
fn assert_udp_limited(what: &str, client: &Net, way: &Way) {
    assert_limited(&format!("UDP {what}"), Family::of(way.reached.0), udp(client, way), (LENGTH as f64, 42.0));
}

/// A namespace that is limited in both directions, and publishes ports.
fn limited<'h>(site: &'h Site, name: &str, port: u16) -> (Net, Container<'h>) {
    let net = site.host.add_netns(name);
    let publish = format!("-p {port}:80 -p {port}:80/udp");
    site.host
        .spandrel(&format!("attach {name} --network front --ingress-rate {RATE} --egress-rate 16mbit {publish}"))
        .ok();
    (net, site.host.container(name))
}

/// From a neighbour straight into the namespace, from outside by a published port, and from the host by way of the stack.
#[test]
fn what_a_container_receives_is_limited() {
    let site = Site::with_networks(["front"]);
    let web = site.host.run_container("--name web --network front");
    thread::scope(|scope| {
        for (family, name, port) in [(V4, "box4", 8080), (V6, "box6", 8081)] {
            let (site, web) = (&site, &web);
            scope.spawn(move || {
                let (net, container) = limited(site, name, port);
                let own = Way { server: &net, listen: 80, reached: (container.ip(family), 80) };
                let published = Way { reached: (site.public(family), port), ..own };
                assert_tcp_limited("from a neighbour", web, &own);
                assert_udp_limited("from a neighbour", web, &own);
                assert_tcp_limited("from outside", &site.internet, &published);
                assert_udp_limited("from outside", &site.internet, &published);
                assert_tcp_limited("from the host", &site.host, &own);
                assert_tcp_limited("from a neighbour by a published port", web, &published);
                assert!(site.host.dropped(name, |reason| reason == "IngressRate") > 0);
                assert_eq!(site.host.dropped("web", |reason| reason.ends_with("Rate")), 0);
            });
        }
    });
}

/// To a neighbour, to the outside, and to the host.
#[test]
fn what_a_container_sends_is_limited() {
    let site = Site::with_networks(["front"]);
    let web = site.host.run_container("--name web --network front");
    thread::scope(|scope| {
        for (family, name, port) in [(V4, "box4", 80), (V6, "box6", 81)] {
            let (site, web) = (&site, &web);
            scope.spawn(move || {
                let (net, _) = limited(site, name, 8000 + port);
                let neighbour = Way { server: web, listen: port, reached: (web.ip(family), port) };
                let outside = Way { server: &site.internet, listen: port, reached: (Site::far(family), port) };
                let gateway = site.host.gateway("front", family);
                let host = Way { server: &site.host, listen: port, reached: (gateway, port) };
                assert_tcp_limited("to a neighbour", &net, &neighbour);
                assert_udp_limited("to a neighbour", &net, &neighbour);
                assert_tcp_limited("to the outside", &net, &outside);
                assert_udp_limited("to the outside", &net, &outside);
                assert_tcp_limited("to the host", &net, &host);
                assert!(site.host.dropped(name, |reason| reason == "EgressRate") > 0);
            });
        }
    });
}

/// Without the agent, under the next one, and until it is taken away. Others are not limited at all.
#[test]
fn a_limit_lasts_as_long_as_the_interface() {
    let mut site = Site::with_networks(["front", "back"]);
    let options = "driver-opt=spandrel.ingress_rate=16mbit,driver-opt=spandrel.ingress_burst=1mbit";
    let web = site.host.run_container(&format!("--name web --network name=front,{options}"));
    let client = site.host.run_container("--name client --network front");
    let shown = json!({"spandrel.ingress_rate": "16000000", "spandrel.ingress_burst": "1000000"});
    let inspect = |host: &Host| host.spandrel("inspect web").json()[0]["NetworkSettings"]["Networks"]["front"].clone();
    assert_eq!(inspect(&site.host)["DriverOpts"], shown);
    let (web, client): (Net, Net) = ((*web).clone(), (*client).clone());
    let ip = site.host.container("web").ip(V4);
    let inward = Way { server: &web, listen: 80, reached: (ip, 80) };
    let outward = Way { server: &client, listen: 80, reached: (site.host.container("client").ip(V4), 80) };
    site.agent.kill();
    assert_tcp_limited("without an agent", &client, &inward);
    site.agent = site.host.agent();
    assert_eq!(inspect(&site.host)["DriverOpts"], shown);
    assert_tcp_limited("under the next agent", &client, &inward);
    assert!(tcp(&web, &outward) > 4.0 * RATE as f64, "what it sends is not limited");
    site.host.spandrel("network disconnect front web").ok();
    site.host.spandrel("network connect front web").ok();
    let inward = Way { reached: (site.host.container("web").ip(V4), 80), ..inward };
    assert!(tcp(&client, &inward) > 4.0 * RATE as f64, "the limit was the interface's");
    site.host.spandrel("network connect --driver-opt spandrel.egress_rate=16mbit back web").ok();
    let other = site.host.run_container("--name other --network back");
    let outward = Way { server: &other, listen: 80, reached: (other.ip(V4), 80) };
    assert_tcp_limited("on another network", &web, &outward);
}

/// What cannot be limited is refused with a sentence, and nothing is done.
#[test]
fn what_cannot_be_limited_is_refused() {
    let site = Site::with_networks(["front"]);
    let parent = &site.uplink.name;
    site.host.create_network(&format!("--driver macvlan --subnet 10.9.0.0/24 -o parent={parent} flat"));
    site.host.add_netns("box");
    let refused = |line: &str, words: &[&str]| site.host.assert_refused(line, words);
    refused("attach box --network front --ingress-rate fast", &["ingress_rate \"fast\"", "10mbit"]);
    refused("attach box --network front --egress-rate 10", &["10 bits per second are too few"]);
    refused("attach box --network flat --egress-rate 1mbit", &["network flat cannot be limited", "macvlan"]);
    refused("run --network name=front,driver-opt=spandrel.egress_burst=1 true", &["without spandrel.egress_rate"]);
    assert_eq!(site.host.spandrel("ps -a -q").ok(), "");
}
