//! SEMANTICS §7: translation does not get into the way of the host's own traffic. And what it is where a network asks for
//! endpoint-independent mapping.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use socket2::SockRef;
use spandrel_tests::*;

/// Row 14 and §7: a container has been given a port of the host towards a destination, and then the host itself uses that port to the
/// same one: both are answered. (As the kernel's own translation does, the second one may be seen under another port.)
#[test]
fn the_host_may_use_a_port_that_a_container_has_been_given() {
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    for family in Family::BOTH {
        let far = Site::far(family);
        let _services = site.internet.serve(far);
        let theirs = container.udp_bind(family.any(), 0).unwrap();
        let given = ask(&theirs, (far, UDP_PORT).into(), "who am I?").expect("the container's");
        let own = site.host.udp_bind(family.any(), given.port()).unwrap();
        for text in ["one", "two"] {
            let seen = ask(&own, (far, UDP_PORT).into(), text).expect("the host's own");
            assert_eq!(seen.ip(), site.public(family));
            assert_eq!(ask(&theirs, (far, UDP_PORT).into(), text).expect("the container's, still"), given);
        }
    }
}

/// Row 14 and §7: a container and the host ping one machine with the same identifier, as busybox does in each container: each is
/// answered.
#[test]
fn the_host_may_ping_with_an_identifier_that_a_container_has() {
    let site = Site::with_networks(["red"]);
    let boxes = ["one", "two"].map(|name| site.host.run_container(&format!("--name {name} --network red")));
    for family in Family::BOTH {
        for _ in 0..2 {
            for net in [&*boxes[0], &boxes[1], &*site.host] {
                net.ping_as(7, Site::far(family)).unwrap_or_else(|error| panic!("{}: {error}", net.name()));
            }
        }
    }
}

/// Rows 4, 5, 9 and 14, and §7: what its sender has to cut into fragments arrives, and so does the answer.
#[test]
fn long_datagrams_arrive() {
    let site = Site::with_networks(["red", "blue"]);
    let server = site.host.run_container("--name server --network red -p 5353:53/udp");
    let neighbour = site.host.run_container("--name neighbour --network red");
    let other = site.host.run_container("--name other --network blue");
    for family in Family::BOTH {
        let _services = (site.internet.serve(Site::far(family)), server.serve(family.any()));
        let published = (site.public(family), 5353).into();
        let far = (Site::far(family), UDP_PORT).into();
        let ways: [(&Net, _); 5] =
            [(&other, far), (&server, far), (&site.internet, published), (&other, published), (&neighbour, published)];
        for (from, to) in ways {
            let socket = from.udp_bind(family.any(), 0).unwrap();
            for length in [1500, 2000, 9000, 40_000] {
                let text = "0123456789".repeat(length / 10);
                ask(&socket, to, &text).unwrap_or_else(|error| panic!("{} to {to}: {length}: {error}", from.name()));
            }
        }
    }
}

/// Row 14: connections that a server closes first never meet each other's remains there. It remembers each one by its address and port, in
/// TIME-WAIT, and may refuse what comes from there with timestamps of another port of the container (RFC 7323 §5.3, RFC 6191).
#[test]
fn connections_do_not_meet_what_is_left_of_others() {
    // More than one container's flows may be (`--max-flows`), so that those that are over are swept.
    const CONNECTIONS: usize = 20_000;
    let site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    // Ports that many of the container's would have.
    site.host.run_container("--name games --network red -p 20000-29999:20000-29999");
    for family in Family::BOTH {
        let far = Site::far(family);
        let listener = site.internet.tcp_bind(far, TCP_PORT).unwrap();
        // For accepting.
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
        let connect = || {
            let mut client = TcpStream::connect_timeout(&(far, TCP_PORT).into(), PATIENCE).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let (server, seen) = listener.accept().unwrap();
            drop(server);
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "the server closes first");
            (seen.port(), client.local_addr().unwrap().port())
        };
        let mut known = HashMap::new();
        let mixed_up = container.run(|| {
            let mut connections = std::iter::repeat_with(connect).take(CONNECTIONS);
            connections.find(|&(seen, own)| *known.entry(seen).or_insert(own) != own)
        });
        assert_eq!(mixed_up, None, "{family:?}: a connection was seen as another one before it");
    }
}

/// Three machines of the internet.
fn far(family: Family) -> [IpAddr; 3] {
    match family {
        V4 => ["203.0.113.21", "203.0.113.22", "203.0.113.23"].map(|address| address.parse().unwrap()),
        V6 => ["2001:db8:ffff::21", "2001:db8:ffff::22", "2001:db8:ffff::23"].map(|address| address.parse().unwrap()),
    }
}

/// What a socket receives, and from where.
fn receive(socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), from))
}

/// A site whose internet has [`far`] machines, and a network with endpoint-independent mapping.
fn site_with_games() -> Site {
    let site = Site::with_networks(["plain"]);
    site.host.create_network("--ipv6 -o spandrel.endpoint_independent_mapping=true games");
    for (family, prefix) in [(V4, 32), (V6, 128)] {
        for address in far(family) {
            site.internet.add_address("lo", address, prefix);
        }
    }
    site
}

/// RFC 4787 REQ-1 and REQ-8: all the world sees a container's socket under one port, which is nobody else's, and reaches it there.
#[test]
fn a_mapped_socket_has_one_port_for_everybody() {
    let mut site = site_with_games();
    let player = site.host.run_container("--name player --network games");
    let neighbour = site.host.run_container("--name neighbour --network games");
    let peers = ["games", "plain"].map(|name| site.host.run_container(&format!("--name peer-{name} --network {name}")));
    for family in Family::BOTH {
        let [one, two, stranger] = far(family);
        let _servers = [one, two].map(|address| site.internet.udp_listen(address, UDP_PORT));
        let socket = player.udp_bind(family.any(), 3074).unwrap();
        let seen = ask(&socket, (one, UDP_PORT).into(), "to one").expect("one");
        assert_eq!(seen.ip(), site.public(family));
        assert_eq!(ask(&socket, (two, UDP_PORT).into(), "to two").expect("two"), seen);
        let theirs = neighbour.udp_bind(family.any(), seen.port()).unwrap();
        assert_ne!(ask(&theirs, (two, UDP_PORT).into(), "the same number").expect("two"), seen);

        // Who was never asked.
        let knocking = site.internet.udp_bind(stranger, 4000).unwrap();
        for text in ["knock", "knock again"] {
            knocking.send_to(text.as_bytes(), seen).unwrap();
            assert_eq!(receive(&socket).expect("unasked"), (text.into(), (stranger, 4000).into()));
            socket.send_to(b"come in", (stranger, 4000)).unwrap();
            assert_eq!(receive(&knocking).expect("an answer"), ("come in".into(), seen));
            site.agent.kill();
            site.agent = site.host.agent();
        }
        // Other players behind the same host (RFC 4787 REQ-9), also where containers' own addresses are closed to each other.
        for peer in &peers {
            let theirs = peer.udp_bind(family.any(), 4000).unwrap();
            theirs.send_to(b"play?", seen).unwrap();
            let (text, from) = receive(&socket).expect("a container's");
            assert_eq!((&*text, from), ("play?", (peer.ip(family), 4000).into()));
            socket.send_to(b"yes", from).unwrap();
            assert_eq!(receive(&theirs).expect("an answer"), ("yes".into(), seen));
        }
        assert_eq!(ask(&socket, (two, UDP_PORT).into(), "still").expect("two"), seen);
        // The port is the socket's alone, and only for UDP.
        let refused = site.internet.tcp_connect(seen.ip(), seen.port()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
    // It ends with the container.
    let [_, _, stranger] = far(V4);
    let socket = player.udp_bind(V4.any(), 3074).unwrap();
    let _server = site.internet.udp_listen(far(V4)[0], UDP_PORT);
    let seen = ask(&socket, (far(V4)[0], UDP_PORT).into(), "once more").expect("one");
    drop(socket);
    player.remove();
    let knocking = site.internet.briefly().udp_bind(stranger, 4001).unwrap();
    knocking.connect(seen).unwrap();
    knocking.send(b"anybody?").unwrap();
    assert_eq!(receive(&knocking).unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "the host itself answers");
}

/// The control: without the option, only who was asked may answer.
#[test]
fn a_socket_without_a_mapping_hears_only_whom_it_asked() {
    let site = site_with_games();
    let player = site.host.run_container("--name player --network plain");
    for family in Family::BOTH {
        let [one, two, stranger] = far(family);
        let server = site.internet.udp_listen(one, UDP_PORT);
        let socket = player.briefly().udp_bind(family.any(), 3074).unwrap();
        let seen = ask(&socket, (one, UDP_PORT).into(), "to one").expect("one");
        let knocking = site.internet.udp_bind(stranger, 4000).unwrap();
        knocking.send_to(b"knock", seen).unwrap();
        assert_silent(receive(&socket));
        drop(server);
        let asked = site.internet.udp_bind(two, 4000).unwrap();
        socket.send_to(b"come in", (two, 4000)).unwrap();
        asked.send_to(b"knock", receive(&asked).expect("asked").1).unwrap();
        assert_eq!(receive(&socket).expect("the control"), ("knock".into(), (two, 4000).into()));
    }
}
