//! TCP probes: a server that tells each client the address it sees, then sends back what it is sent.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::fail::OrFail;
use crate::family::Family;
use crate::net::{Net, PATIENCE};
use crate::thread::{Background, TICK, patiently};

/// A listening server in a namespace. Dropping it closes its port; open connections stay until their clients leave.
pub struct TcpServer {
    address: SocketAddr,
    _thread: Background,
}

/// An open connection to a [`TcpServer`].
#[derive(Debug)]
pub struct TcpLink {
    stream: BufReader<TcpStream>,
    /// Our address as the server sees it.
    pub seen_as: SocketAddr,
}

impl Net {
    /// Starts a server here.
    #[track_caller]
    pub fn tcp_listen(&self, ip: IpAddr, port: u16) -> TcpServer {
        let server = patiently(|| self.tcp_bind(ip, port)).and_then(TcpServer::start);
        server.or_fail(format_args!("listen on port {port} of {ip} in {}", self.name()))
    }

    /// A bare listening socket here.
    #[track_caller]
    pub fn tcp_bind(&self, ip: IpAddr, port: u16) -> io::Result<TcpListener> {
        self.run(|| TcpListener::bind((ip, port)))
    }

    /// Connects to a [`TcpServer`] and learns how it sees us.
    #[track_caller]
    pub fn tcp_connect(&self, ip: IpAddr, port: u16) -> io::Result<TcpLink> {
        TcpLink::greet(self.tcp_open(ip, port)?)
    }

    /// The same from a port of its own choice.
    #[track_caller]
    pub fn tcp_connect_from(&self, from: u16, ip: IpAddr, port: u16) -> io::Result<TcpLink> {
        let socket = self.run(|| {
            let socket = Socket::new(Domain::for_address((ip, port).into()), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(Family::of(ip).any(), from).into())?;
            io::Result::Ok(socket)
        })?;
        socket.connect_timeout(&SocketAddr::new(ip, port).into(), self.patience())?;
        socket.set_read_timeout(Some(self.patience()))?;
        TcpLink::greet(socket.into())
    }

    /// Opens a bare connection.
    #[track_caller]
    pub fn tcp_open(&self, ip: IpAddr, port: u16) -> io::Result<TcpStream> {
        let stream = self.run(|| TcpStream::connect_timeout(&(ip, port).into(), self.patience()))?;
        stream.set_read_timeout(Some(self.patience()))?;
        stream.set_write_timeout(Some(self.patience()))?;
        Ok(stream)
    }
}

impl TcpServer {
    fn start(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let thread = Background::repeat(move || match listener.accept() {
            // A client that breaks off is the client's affair.
            Ok((stream, peer)) => drop(thread::spawn(move || _ = attend(stream, peer))),
            Err(_) => thread::sleep(TICK),
        });
        Ok(Self { address, _thread: thread })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Greets a client and echoes until it leaves.
fn attend(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    // Longer than any client's patience, so that clients decide.
    stream.set_read_timeout(Some(PATIENCE * 10))?;
    writeln!(stream, "{peer}")?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

impl TcpLink {
    fn greet(stream: TcpStream) -> io::Result<Self> {
        let mut stream = BufReader::new(stream);
        let mut greeting = String::new();
        // Not silence: somebody did accept the connection.
        let mute =
            |error| Error::new(ErrorKind::InvalidData, format!("connected, but the server says nothing: {error}"));
        stream.read_line(&mut greeting).map_err(mute)?;
        let seen_as = greeting.trim_end().parse();
        let seen_as =
            seen_as.map_err(|_| Error::new(ErrorKind::InvalidData, format!("not our server: {greeting:?}")))?;
        Ok(Self { stream, seen_as })
    }

    /// Sends `text` and demands it back.
    pub fn echo(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())?;
        let mut answer = vec![0; text.len()];
        self.stream.read_exact(&mut answer)?;
        match answer == text.as_bytes() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::InvalidData, format!("sent {text:?}, got {answer:?}"))),
        }
    }

    /// Our own address, as we see it.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().local_addr()
    }
}
