//! Held ports: nobody else gets them, and who has them already is told by name.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dataplane_common::Protocol;

use super::*;
use crate::kernel::ports::{HeldPort, HostPort, explain};

/// A port on one address, or on `every` address of both families.
fn port(protocol: Protocol, address: &str, port: u16) -> HostPort {
    let address = (address != "every").then(|| address.parse().unwrap());
    HostPort { protocol, address, port }
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
        let _udp = HeldPort::hold(port(Protocol::UDP, "127.0.0.1", 8080)).unwrap();
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
fn one_socket_holds_both_families() {
    Host::new().run(async |_| {
        let _tcp = HeldPort::hold(port(Protocol::TCP, "every", 8080)).unwrap();
        let _udp = HeldPort::hold(port(Protocol::UDP, "every", 8080)).unwrap();
        for address in ["0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080", "[::1]:8080"] {
            for reuse in [false, true] {
                assert_eq!(bind_tcp(address, reuse).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE), "{address}");
            }
            UdpSocket::bind(address).unwrap_err();
        }
        // And it is not had if either family is taken.
        for (address, number) in [("127.0.0.1:81", 81), ("[::1]:82", 82)] {
            let _taken = bind_tcp(address, false).unwrap();
            let error = HeldPort::hold(port(Protocol::TCP, "every", number)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{address}");
        }
    });
}

#[test]
fn a_held_port_answers_nobody() {
    Host::new().run(async |_| {
        for (host, client) in [("127.0.0.1", "127.0.0.1"), ("every", "127.0.0.1"), ("every", "::1")] {
            let held = HeldPort::hold(port(Protocol::TCP, host, 0)).unwrap();
            let address = std::net::SocketAddr::new(client.parse().unwrap(), held.port());
            assert_ne!(address.port(), 0);
            let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{address}");
        }
    });
}

#[test]
fn the_process_that_has_a_port_is_named() {
    Host::new().run(async |_| {
        // The child inherits the socket, and we close ours: so it is another process that has it.
        let tcp = |address| OwnedFd::from(bind_tcp(address, false).unwrap());
        let udp = |address| OwnedFd::from(UdpSocket::bind(address).unwrap());
        for (wanted, text, socket) in [
            (port(Protocol::TCP, "0.0.0.0", 81), "0.0.0.0:81/tcp", tcp("[::]:81")),
            (port(Protocol::TCP, "127.0.0.1", 82), "127.0.0.1:82/tcp", tcp("[::]:82")),
            (port(Protocol::TCP, "::", 83), "[::]:83/tcp", tcp("[::1]:83")),
            (port(Protocol::TCP, "every", 84), "0.0.0.0:84/tcp", tcp("[::1]:84")),
            (port(Protocol::TCP, "every", 85), "0.0.0.0:85/tcp", tcp("127.0.0.1:85")),
            (port(Protocol::UDP, "0.0.0.0", 86), "0.0.0.0:86/udp", udp("0.0.0.0:86")),
        ] {
            let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(socket)).spawn().unwrap();
            let error = explain(wanted, HeldPort::hold(wanted).unwrap_err());
            child.kill().unwrap();
            child.wait().unwrap();
            let expected = format!(
                "failed to bind host port {text}: address already in use by process sleep (pid {})",
                child.id()
            );
            assert_eq!(error.to_string(), expected);
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
        // Not at once: a process that a test beside this one starts may have a copy of the client's socket until it is there.
        let states = || std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while !states().contains(" 06 ") {
            assert!(Instant::now() < end, "no connection is in TIME_WAIT:\n{}", states());
            std::thread::sleep(Duration::from_millis(5));
        }
        HeldPort::hold(port(Protocol::TCP, "every", 82)).unwrap();
    });
}

#[test]
fn what_cannot_be_held_says_why() {
    Host::new().run(async |_| {
        let wanted = port(Protocol::TCP, "192.0.2.1", 80);
        let error = explain(wanted, HeldPort::hold(wanted).unwrap_err()).to_string();
        assert!(error.contains("192.0.2.1:80/tcp: no interface of this host has that address"), "{error}");
        // SCTP never is: no socket of that kind is opened.
        HeldPort::hold(port(Protocol::SCTP, "0.0.0.0", 80)).unwrap_err();
    });
}
