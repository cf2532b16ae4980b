//! UDP probes: a server that keeps what arrives and tells each sender the address it sees.

use std::io::{self, Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::patient;
use crate::fail::OrFail;
use crate::net::{Net, PATIENCE, SILENCE};
use crate::process::within;
use crate::thread::{Background, TICK, patiently};

/// A datagram's sender and content.
type Arrival = (SocketAddr, String);

/// A receiving socket in a namespace. It answers each datagram with `ADDRESS TEXT`: the sender's address and what was
/// sent.
pub struct UdpServer {
    address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    _thread: Background,
}

impl Net {
    /// Starts a server here.
    #[track_caller]
    pub fn udp_listen(&self, ip: IpAddr, port: u16) -> UdpServer {
        let server = self.udp_bind(ip, port).and_then(UdpServer::start);
        server.or_fail(format_args!("bind port {port} of {ip} in {}", self.name()))
    }

    /// A bare socket here, which waits as long as the namespace's patience.
    #[track_caller]
    pub fn udp_bind(&self, ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
        patient(patiently(|| self.run(|| UdpSocket::bind((ip, port))))?, self.patience())
    }

    /// Sends one datagram and expects no answer.
    #[track_caller]
    pub fn udp_send(&self, ip: IpAddr, port: u16, text: &str) -> io::Result<()> {
        let socket = self.udp_bind(unspecified(ip), 0)?;
        socket.set_broadcast(true)?;
        socket.send_to(text.as_bytes(), (ip, port)).map(drop)
    }

    /// Sends one datagram to a [`UdpServer`], and tells from its answer how it sees us.
    #[track_caller]
    pub fn udp_ask(&self, ip: IpAddr, port: u16, text: &str) -> io::Result<SocketAddr> {
        let socket = self.udp_bind(unspecified(ip), 0)?;
        ask(&socket, (ip, port).into(), text)
    }
}

/// Bytes of the longest datagram, or more.
const MOST: usize = 1 << 16;

/// Asks over a socket that is there already, so that several questions come from one port.
pub fn ask(socket: &UdpSocket, server: SocketAddr, text: &str) -> io::Result<SocketAddr> {
    socket.send_to(text.as_bytes(), server)?;
    let mut buffer = [0; MOST];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let answer = String::from_utf8_lossy(&buffer[..length]);
    let wrong = |what: &str| Error::new(ErrorKind::InvalidData, format!("{what}: {answer:?} from {from}"));
    if from != server {
        return Err(wrong("the answer does not come from where the question went"));
    }
    let (seen_as, echo) = answer.split_once(' ').ok_or_else(|| wrong("not our server"))?;
    if echo != text {
        return Err(wrong("not an answer to this question"));
    }
    seen_as.parse().map_err(|_| wrong("not our server"))
}

impl UdpServer {
    fn start(socket: UdpSocket) -> io::Result<Self> {
        socket.set_read_timeout(Some(TICK))?;
        let (address, arrivals) = (socket.local_addr()?, Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&arrivals);
        let mut buffer = [0; MOST];
        let thread = Background::repeat(move || {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                // Who cannot be answered does not wait for it.
                let _ = socket.send_to(format!("{from} {text}").as_bytes(), from);
                kept.lock().unwrap_or_else(PoisonError::into_inner).push((from, text));
            }
        });
        Ok(Self { address, arrivals, _thread: thread })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The sender of the datagram with this text, once it has arrived.
    pub fn sender_of(&self, text: &str) -> Option<SocketAddr> {
        self.sender_within(PATIENCE, text)
    }

    /// Demands that no datagram with this text arrives.
    #[track_caller]
    pub fn assert_never_gets(&self, text: &str) {
        if let Some(from) = self.sender_within(SILENCE, text) {
            panic!("{text:?} should not arrive at {}, but it came from {from}", self.address);
        }
    }

    fn sender_within(&self, limit: Duration, text: &str) -> Option<SocketAddr> {
        within(limit, || {
            let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            arrivals.iter().find(|(_, arrived)| arrived == text).map(|(from, _)| *from)
        })
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    crate::family::Family::of(like).any()
}
