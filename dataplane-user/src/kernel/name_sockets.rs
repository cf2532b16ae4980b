//! The sockets by which a container asks for names: at 127.0.0.11:53 of its namespace, and yet bound to no port that its own programs
//! might want. What is served there is `dns`'s business.
//!
//! A socket bound to 127.0.0.11:53 would keep every name server in the container from listening on port 53 of all addresses, and
//! who takes the port first would win. So ours are bound to free ports, and a program at the namespace's socket look-up (`BPF_SK_LOOKUP`,
//! Linux 5.9) hands them what is sent to 127.0.0.11:53. An accepted TCP connection has port 53 for its own by that. A UDP socket sends from the port
//! it is bound to, so answers leave by a raw socket, under a header that we write.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::dataplane::sys::{self, MapCreation};
use super::error::{Context, Result};
use super::netns::NetNs;

/// Where containers ask: Docker's address.
pub const NAME_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);

/// `BPF_MAP_TYPE_SOCKMAP` of `linux/bpf.h`.
const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
/// `BPF_PROG_TYPE_SK_LOOKUP`.
const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
/// The places of our sockets in their map.
const UDP: u32 = 0;
const TCP: u32 = 1;
/// Bytes of an IPv4 header without options and of a UDP header.
const HEADERS: usize = 28;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A container's sockets, none of which blocks. They keep its namespace in being: drop them when it is to go.
#[derive(Debug)]
pub struct NameSockets {
    /// Receives what is sent to [`NAME_SERVER`] over UDP; see [`NameSockets::reply`] for the way back.
    pub udp: UdpSocket,
    /// Accepts connections to [`NAME_SERVER`].
    pub tcp: TcpListener,
    /// The way back.
    pub answers: Answers,
}

/// Sends datagrams from [`NAME_SERVER`].
#[derive(Debug)]
pub struct Answers {
    raw: Socket,
    /// Keeps the program in its place.
    _link: OwnedFd,
}

impl NameSockets {
    /// Opens them in a namespace, whose loopback interface is up. From then on they are what is reached there.
    pub fn open(netns: &NetNs) -> Result<Self> {
        let action = || format!("serve names at {NAME_SERVER} of a container");
        let (udp, tcp, raw) = netns.run(sockets)?.to(action)?;
        let link = steer(&udp, &tcp, netns).to(action)?;
        Ok(Self { udp, tcp, answers: Answers { raw, _link: link } })
    }
}

impl Answers {
    /// Sends a datagram to a client in the namespace. It is lost where the client does not read fast enough.
    pub fn send(&self, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        self.raw.send_to(&datagram(to, payload), &to.into()).map(drop)
    }
}

/// The three sockets, in the namespace of the calling thread.
fn sockets() -> io::Result<(UdpSocket, TcpListener, Socket)> {
    let anywhere = SocketAddrV4::new(*NAME_SERVER.ip(), 0);
    let udp = UdpSocket::bind(anywhere)?;
    udp.set_nonblocking(true)?;
    let tcp = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    tcp.bind(&anywhere.into())?;
    tcp.listen(BACKLOG)?;
    tcp.set_nonblocking(true)?;
    // Of this protocol one can only send: what is received goes by the number in the header, which is never this one.
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    raw.set_nonblocking(true)?;
    Ok((udp, tcp.into(), raw))
}

/// Hands the two sockets all that is sent to [`NAME_SERVER`], as long as the link is open.
fn steer(udp: &UdpSocket, tcp: &TcpListener, netns: &NetNs) -> io::Result<OwnedFd> {
    let map = sys::create_map(&MapCreation {
        map_type: BPF_MAP_TYPE_SOCKMAP,
        key_size: size_of::<u32>() as u32,
        value_size: size_of::<u32>() as u32,
        max_entries: 2,
        ..MapCreation::default()
    })?;
    sys::set_descriptor(map.as_fd(), UDP, udp.as_fd())?;
    sys::set_descriptor(map.as_fd(), TCP, tcp.as_fd())?;
    let program = sys::load_program(BPF_PROG_TYPE_SK_LOOKUP, sys::BPF_SK_LOOKUP, &program(map.as_fd()))?;
    // The link keeps the program, and the program its map.
    sys::create_netns_link(program.as_fd(), netns.as_fd(), sys::BPF_SK_LOOKUP)
}

/// The program. It is loaded once for each namespace, since nothing that it sees tells one from another, but its map does.
fn program(map: BorrowedFd<'_>) -> [u64; 25] {
    // Offsets in `struct bpf_sk_lookup`; the port is in host byte order, the address as on the wire.
    const PROTOCOL: i16 = 12;
    const LOCAL_IP4: i16 = 40;
    const LOCAL_PORT: i16 = 60;
    // `bpf_map_lookup_elem`, `bpf_sk_assign`, `bpf_sk_release`.
    const LOOK_UP: i32 = 1;
    const ASSIGN: i32 = 124;
    const RELEASE: i32 = 86;
    const SK_PASS: i32 = 1;
    // Registers: 0 has results, 1 to 3 arguments, 6 and 7 outlive calls, 10 is the stack.
    let address = i32::from_ne_bytes(NAME_SERVER.ip().octets());
    [
        op(MOVE, 6, 1, 0, 0),
        op(LOAD, 2, 6, LOCAL_PORT, 0),
        op(UNLESS_EQUAL, 2, 0, 20, NAME_SERVER.port().into()),
        // Zero where the packet is IPv6.
        op(LOAD, 2, 6, LOCAL_IP4, 0),
        op(UNLESS_EQUAL, 2, 0, 18, address),
        op(LOAD, 2, 6, PROTOCOL, 0),
        op(SET, 3, 0, 0, UDP as i32),
        op(IF_EQUAL, 2, 0, 1, libc::IPPROTO_UDP),
        op(SET, 3, 0, 0, TCP as i32),
        op(STORE, 10, 3, -4, 0),
        op(LOAD_MAP, 1, 1, 0, map.as_raw_fd()),
        0,
        op(MOVE, 2, 10, 0, 0),
        op(ADD, 2, 0, 0, -4),
        op(CALL, 0, 0, 0, LOOK_UP),
        op(IF_EQUAL, 0, 0, 7, 0),
        op(MOVE, 7, 0, 0, 0),
        op(MOVE, 1, 6, 0, 0),
        op(MOVE, 2, 7, 0, 0),
        op(SET, 3, 0, 0, 0),
        op(CALL, 0, 0, 0, ASSIGN),
        op(MOVE, 1, 7, 0, 0),
        op(CALL, 0, 0, 0, RELEASE),
        op(SET, 0, 0, 0, SK_PASS),
        op(EXIT, 0, 0, 0, 0),
    ]
}

/// Operation codes of eBPF (`linux/bpf_common.h`, `linux/bpf.h`), 64 bits wide but for loads and stores of 32.
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const LOAD_MAP: u8 = 0x18;
const IF_EQUAL: u8 = 0x15;
const UNLESS_EQUAL: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// One instruction: `struct bpf_insn`.
fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    // Two halves of a byte, in the order of the machine's bit fields.
    let registers = if cfg!(target_endian = "little") { destination | source << 4 } else { destination << 4 | source };
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

/// A UDP datagram from [`NAME_SERVER`] with its IPv4 header (RFC 791, RFC 768). The kernel fills in length, identification and
/// header checksum; a UDP checksum of zero is none, which loopback needs no more than any other packet there.
fn datagram(to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut packet = Vec::with_capacity(HEADERS + payload.len());
    // Version and header length, no type of service; 64 hops, UDP.
    packet.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, libc::IPPROTO_UDP as u8, 0, 0]);
    packet.extend_from_slice(&NAME_SERVER.ip().octets());
    packet.extend_from_slice(&to.ip().octets());
    for field in [NAME_SERVER.port(), to.port(), length, 0] {
        packet.extend_from_slice(&field.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    packet
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::kernel::netns;

    /// What a socket that does not block gives as soon as it gives something.
    fn soon<T>(mut step: impl FnMut() -> io::Result<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match step() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                done => return done.unwrap(),
            }
        }
    }

    #[test]
    fn they_are_reached_beside_a_server_on_all_addresses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        let namespace = NetNs::create(&path).unwrap();
        let sockets = NameSockets::open(&namespace).unwrap();
        // After ours were opened, and reached under every address but ours.
        let own = namespace.run(|| (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap()));
        let (own_udp, own_tcp) = own.unwrap();
        own_udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

        let client = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 8192];
        client.connect(NAME_SERVER).unwrap();
        client.send(b"question").unwrap();
        let (length, from) = soon(|| sockets.udp.recv_from(&mut buffer));
        assert_eq!((&buffer[..length], from), (b"question".as_slice(), client.local_addr().unwrap()));
        let SocketAddr::V4(from) = from else { panic!("{from}") };
        let answer = [7; 4096];
        sockets.answers.send(from, &answer).unwrap();
        // A connected socket takes what comes from the address and port that it asked.
        assert_eq!(client.recv(&mut buffer).unwrap(), answer.len());

        let other = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        other.send_to(b"for the container", "127.0.0.1:53").unwrap();
        assert_eq!(own_udp.recv(&mut buffer).unwrap(), b"for the container".len());

        let mut asking = namespace.run(|| TcpStream::connect(NAME_SERVER).unwrap()).unwrap();
        let (mut link, _) = soon(|| sockets.tcp.accept());
        assert_eq!(link.local_addr().unwrap(), NAME_SERVER.into());
        link.write_all(b"answer").unwrap();
        asking.read_exact(&mut buffer[..6]).unwrap();
        assert_eq!(&buffer[..6], b"answer");
        let _theirs = namespace.run(|| TcpStream::connect("127.0.0.1:53").unwrap()).unwrap();
        own_tcp.accept().unwrap();

        // With the sockets goes what led to them.
        drop((sockets, link, asking));
        let refused = namespace.run(|| TcpStream::connect(NAME_SERVER)).unwrap();
        assert!(refused.is_ok(), "the container's own server is reached: {refused:?}");
        netns::delete(&path).unwrap();
    }
}
