//! The same question in every protocol: is this container reached from there, and as whom?

use std::io::ErrorKind;
use std::net::IpAddr;
use std::thread;

use super::{TcpServer, UdpServer, assert_silent};
use crate::net::Net;

/// The port of a [`Services`]' TCP server.
pub const TCP_PORT: u16 = 80;
/// The port of a [`Services`]' UDP server.
pub const UDP_PORT: u16 = 53;
/// Options that publish both ports of a container's [`Services`], ...
pub const PUBLISH: &str = "-p 8080:80 -p 5353:53/udp";
/// ... and the host's ports for them, TCP and UDP.
pub const PUBLISHED: (u16, u16) = (8080, 5353);
/// A TCP port on which nobody listens.
const CLOSED_PORT: u16 = 81;

/// A TCP server on [`TCP_PORT`] and a UDP server on [`UDP_PORT`] of a namespace, which also answers echo requests.
pub struct Services {
    _tcp: TcpServer,
    udp: UdpServer,
}

impl Net {
    /// Starts both servers on an address of this namespace, or on all of a family.
    #[track_caller]
    pub fn serve(&self, ip: IpAddr) -> Services {
        Services { _tcp: self.tcp_listen(ip, TCP_PORT), udp: self.udp_listen(ip, UDP_PORT) }
    }
}

impl Services {
    /// Demands that `client` reaches `address`, which is the servers' own, by ICMP, TCP and UDP, and that a closed port
    /// refuses it. The servers must see the client as `seen_as`.
    #[track_caller]
    pub fn assert_reached(&self, client: &Net, address: IpAddr, seen_as: IpAddr) {
        if let Err(error) = client.ping(address) {
            panic!("{} cannot ping {address}: {error}", client.name());
        }
        self.assert_reached_at(client, address, (TCP_PORT, UDP_PORT), seen_as);
        match client.tcp_connect(address, CLOSED_PORT) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            other => panic!("{} should be refused by a closed port of {address}: {other:?}", client.name()),
        }
    }

    /// Demands that `client` reaches the servers by TCP and UDP at these two ports of `address`, where they are
    /// published. The servers must see the client as `seen_as`.
    #[track_caller]
    pub fn assert_reached_at(&self, client: &Net, address: IpAddr, (tcp, udp): (u16, u16), seen_as: IpAddr) {
        let who = client.name();
        let mut link = match client.tcp_connect(address, tcp) {
            Ok(link) => link,
            Err(error) => panic!("{who} cannot connect to port {tcp} of {address}: {error}"),
        };
        assert_eq!(link.seen_as.ip(), seen_as, "{who} by TCP to port {tcp} of {address}");
        if let Err(error) = link.echo("hello") {
            panic!("{who} is not answered by port {tcp} of {address}: {error}");
        }
        match client.udp_ask(address, udp, "hello") {
            Ok(seen) => assert_eq!(seen.ip(), seen_as, "{who} by UDP to port {udp} of {address}"),
            Err(error) => panic!("{who} is not answered by UDP port {udp} of {address}: {error}"),
        }
    }

    /// Demands that `client` does not reach `address`, which is the servers' own: no echo reply, no connection to an open
    /// port, no refusal by a closed one, no arrival of a datagram.
    #[track_caller]
    pub fn assert_out_of_reach(&self, client: &Net, address: IpAddr) {
        let client = client.briefly();
        let text = format!("one way from {} to {address}", client.name());
        at_once([
            &|| assert_silent(client.ping(address)),
            &|| assert_silent(client.tcp_connect(address, TCP_PORT)),
            &|| assert_silent(client.tcp_connect(address, CLOSED_PORT)),
            &|| self.assert_never_gets(&client, address, UDP_PORT, &text),
        ]);
    }

    /// Demands that what `client` sends to a UDP port of `address` does not arrive.
    #[track_caller]
    fn assert_never_gets(&self, client: &Net, address: IpAddr, port: u16, text: &str) {
        client.udp_send(address, port, text).unwrap_or_else(|error| panic!("cannot send {text:?}: {error}"));
        self.assert_never_got(text);
    }

    /// Demands that no datagram with this text arrives at the UDP server.
    #[track_caller]
    pub fn assert_never_got(&self, text: &str) {
        self.udp.assert_never_gets(text);
    }

    /// The sender of the datagram with this text, once the UDP server has it.
    pub fn sender_of(&self, text: &str) -> Option<IpAddr> {
        self.udp.sender_of(text).map(|sender| sender.ip())
    }
}

/// Makes all these checks side by side, for each of them waits a while for nothing to happen.
#[track_caller]
pub fn at_once<const N: usize>(checks: [&(dyn Fn() + Sync); N]) {
    let failed = thread::scope(|scope| {
        let running = checks.map(|check| scope.spawn(check));
        // All are waited for, so that every failure is seen.
        running.map(|thread| thread.join().is_err())
    });
    assert!(!failed.contains(&true), "what should not be reached was (see above)");
}
