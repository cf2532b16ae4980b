//! Held ports: nobody else gets them, and who has them already is told by name.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use dataplane_common::Protocol;

use super::*;
use crate::kernel::ports::{HeldPort, HostPort, hold_all};

fn port(protocol: Protocol, address: &str, port: u16) -> HostPort {
    HostPort { protocol, address: address.parse().unwrap(), port }
}

fn bind_tcp(address: &str, reuse: bool) -> std::io::Result<socket2::Socket> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(reuse)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    Ok(socket)
}

#[test]
fn a_held_port_is_taken_for_everybody_else() {
    Host::new().run(async |_| {
        let tcp = HeldPort::hold(port(Protocol::TCP, "0.0.0.0", 8080)).unwrap();
        let udp = HeldPort::hold(port(Protocol::UDP, "127.0.0.1", 8080)).unwrap();
        assert!(tcp.is_held() && udp.is_held() && tcp.note().is_none());
        for reuse in [false, true] {
            for address in ["0.0.0.0:8080", "127.0.0.1:8080"] {
                assert_eq!(bind_tcp(address, reuse).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE), "{address}");
            }
        }
        UdpSocket::bind("0.0.0.0:8080").unwrap_err();
        // The other family, protocol and address are free.
        let _ipv6 = HeldPort::hold(port(Protocol::TCP, "::", 8080)).unwrap();
        let _other = HeldPort::hold(port(Protocol::UDP, "127.0.0.2", 8080)).unwrap();

        drop(tcp);
        bind_tcp("0.0.0.0:8080", false).unwrap();
    });
}

#[test]
fn a_held_port_answers_nobody() {
    Host::new().run(async |_| {
        let held = HeldPort::hold(port(Protocol::TCP, "127.0.0.1", 0)).unwrap();
        let address = (held.port().address, held.port().port);
        assert_ne!(address.1, 0);
        let error = TcpStream::connect_timeout(&address.into(), Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn the_process_that_has_a_port_is_named() {
    Host::new().run(async |_| {
        // The child inherits the listening socket, and we close ours: so it is another process that has it.
        for (protocol, ours) in [(Protocol::TCP, "0.0.0.0"), (Protocol::TCP, "127.0.0.1"), (Protocol::UDP, "0.0.0.0")] {
            let socket: std::os::fd::OwnedFd = match protocol {
                Protocol::TCP => bind_tcp("[::]:81", false).unwrap().into(),
                _ => UdpSocket::bind("0.0.0.0:81").unwrap().into(),
            };
            let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(socket)).spawn().unwrap();
            let error = HeldPort::hold(port(protocol, ours, 81)).unwrap_err();
            child.kill().unwrap();
            child.wait().unwrap();
            let name = if protocol == Protocol::TCP { "tcp" } else { "udp" };
            let expected =
                format!("host port 81/{name} on {ours} is already taken by process sleep (pid {})", child.id());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    });
}

#[test]
fn old_connections_do_not_keep_a_port() {
    Host::new().run(async |_| {
        let listener = TcpListener::bind("127.0.0.1:82").unwrap();
        let client = TcpStream::connect("127.0.0.1:82").unwrap();
        // Closed here first, so that the side with the port is the one in TIME_WAIT.
        drop(listener.accept().unwrap());
        drop(listener);
        drop(client);
        let states = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        assert!(states.contains(" 06 "), "no connection is in TIME_WAIT:\n{states}");
        HeldPort::hold(port(Protocol::TCP, "0.0.0.0", 82)).unwrap();
    });
}

#[test]
fn all_or_none_are_held() {
    Host::new().run(async |_| {
        let _taken = bind_tcp("127.0.0.1:85", false).unwrap();
        let wanted: Vec<_> = (83..=85).map(|number| port(Protocol::TCP, "0.0.0.0", number)).collect();
        let error = hold_all(&wanted).unwrap_err();
        assert!(matches!(&error, Error::PortTaken { port, .. } if port.port == 85), "{error}");
        assert_eq!(hold_all(&wanted[..2]).unwrap().len(), 2);
    });
}

#[test]
fn what_cannot_be_held_says_why() {
    Host::new().run(async |_| {
        let error = HeldPort::hold(port(Protocol::TCP, "192.0.2.1", 80)).unwrap_err();
        assert!(
            error.to_string().contains("80/tcp on 192.0.2.1: no interface of this host has that address"),
            "{error}"
        );
        // Held where the kernel has SCTP, else noted: never an error.
        let sctp = HeldPort::hold(port(Protocol::SCTP, "0.0.0.0", 80)).unwrap();
        assert_ne!(sctp.is_held(), sctp.note().is_some());
    });
}
