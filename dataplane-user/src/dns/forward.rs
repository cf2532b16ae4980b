//! Questions about names from outside, passed on to other servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use hickory_proto::op::ResponseCode;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::cache::Cache;
use super::message::{Reply, Request, Transport, UDP_PAYLOAD};
use super::resolv_conf::{MAX_SERVERS, ResolvConf, Server};
use crate::kernel::{NAME_SERVER, NetNs};

/// How long a server may take while there is another one to ask.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last one may take: the clients' own patience is five seconds.
const LAST_PATIENCE: Duration = Duration::from_secs(4);
/// How often the host's list of servers is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
/// Answers of the host's servers that are kept, for all containers, ...
const SHARED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// ... and of a container's own ones.
const OWN: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Where servers listen.
const PORT: u16 = 53;

/// Asks one set of servers, and remembers what they said.
#[derive(Debug)]
pub(super) struct Forwarder {
    servers: Servers,
    cache: Mutex<Cache>,
}

/// Who is asked, and from where.
#[derive(Debug)]
enum Servers {
    /// The host's own servers, from the host's namespace.
    Host(Mutex<HostServers>),
    /// A container's, from its namespace.
    Container(Vec<SocketAddr>, Arc<NetNs>),
}

/// The servers of the host's resolv.conf, which may change at any time.
#[derive(Debug)]
struct HostServers {
    path: PathBuf,
    servers: Vec<SocketAddr>,
    /// When the file was written that they are from, and how long it is.
    version: Option<(SystemTime, u64)>,
    looked: Option<Instant>,
}

impl Forwarder {
    /// To the servers that a resolv.conf of the host names.
    pub(super) fn host(path: PathBuf) -> Self {
        let servers = HostServers { path, servers: Vec::new(), version: None, looked: None };
        Forwarder { servers: Servers::Host(Mutex::new(servers)), cache: Mutex::new(Cache::new(SHARED)) }
    }

    /// To a container's own servers. Where that would be ourselves, nobody is asked.
    pub(super) fn container(servers: &[IpAddr], netns: NetNs) -> Self {
        let others = servers.iter().filter(|address| **address != IpAddr::V4(*NAME_SERVER.ip()));
        let servers = others.take(MAX_SERVERS).map(|address| SocketAddr::new(*address, PORT)).collect();
        Forwarder { servers: Servers::Container(servers, Arc::new(netns)), cache: Mutex::new(Cache::new(OWN)) }
    }

    /// Finds the answer to a request: in memory, or from the first server that has one.
    pub(super) async fn resolve(&self, request: &Request) -> Vec<u8> {
        let servers = self.servers();
        if let Some(known) = self.cache().find(request, Instant::now()) {
            return known;
        }
        let mut failed = None;
        for (index, server) in servers.iter().enumerate() {
            let patience = if index + 1 < servers.len() { PATIENCE } else { LAST_PATIENCE };
            match timeout(patience, self.ask(*server, request)).await {
                // It could not, or would not, tell; the next one may.
                Ok(Ok(reply)) if matches!(reply.code, ResponseCode::ServFail | ResponseCode::Refused) => {
                    failed = Some(reply);
                }
                Ok(Ok(reply)) => {
                    self.cache().keep(request, &reply, Instant::now());
                    return request.relayed(&reply);
                }
                Ok(Err(error)) => tracing::debug!("asking the name server {server}: {error}"),
                Err(_) => tracing::debug!("the name server {server} does not answer"),
            }
        }
        failed.map_or_else(|| request.error(ResponseCode::ServFail), |reply| request.relayed(&reply))
    }

    /// The servers as they are now. What others have said is forgotten.
    fn servers(&self) -> Vec<SocketAddr> {
        match &self.servers {
            Servers::Container(servers, _) => servers.clone(),
            Servers::Host(host) => {
                let mut host = host.lock().unwrap_or_else(PoisonError::into_inner);
                if host.look(Instant::now()) {
                    self.cache().clear();
                }
                host.servers.clone()
            }
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Whole between any two of its operations, whoever panicked.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one server: by UDP, and by TCP for what is too long.
    async fn ask(&self, server: SocketAddr, request: &Request) -> io::Result<Reply> {
        // Number and port are random, so that nobody who does not see the question can answer it (RFC 5452).
        let id = getrandom::u32().map_err(io::Error::from)? as u16;
        let unwritable = || io::Error::new(io::ErrorKind::InvalidInput, "the question cannot be written");
        let query = request.forwarded(id).ok_or_else(unwritable)?;
        let socket = UdpSocket::from_std(self.open(server, Type::DGRAM).await?.into())?;
        socket.connect(server).await?;
        socket.send(&query).await?;
        let mut buffer = [0; UDP_PAYLOAD as usize];
        let reply = loop {
            let length = socket.recv(&mut buffer).await?;
            // What is no answer to this question is as if it had not come.
            if let Some(reply) = Reply::read(buffer[..length].to_vec(), id, request.question()) {
                break reply;
            }
        };
        if !reply.truncated {
            return Ok(reply);
        }
        match self.ask_by_tcp(server, request, id, &query).await {
            // Who asked by UDP may be content with what there is.
            Err(_) if request.transport() == Transport::Udp => Ok(reply),
            whole => whole,
        }
    }

    async fn ask_by_tcp(&self, server: SocketAddr, request: &Request, id: u16, query: &[u8]) -> io::Result<Reply> {
        let socket = TcpSocket::from_std_stream(self.open(server, Type::STREAM).await?.into());
        let mut stream = socket.connect(server).await?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
        let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut bytes).await?;
        let other = || io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question");
        Reply::read(bytes, id, request.question()).ok_or_else(other)
    }

    /// A socket that does not block, in the namespace from which these servers are asked.
    async fn open(&self, server: SocketAddr, kind: Type) -> io::Result<Socket> {
        let open = move || {
            let socket = Socket::new(Domain::for_address(server), kind, None)?;
            if kind == Type::DGRAM {
                let anywhere: IpAddr =
                    if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                socket.bind(&SocketAddr::new(anywhere, 0).into())?;
            }
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        match &self.servers {
            Servers::Host(_) => open(),
            Servers::Container(_, netns) => {
                let netns = netns.clone();
                // A thread enters the namespace meanwhile.
                let entered = tokio::task::spawn_blocking(move || netns.run(open)).await.map_err(io::Error::other)?;
                entered.map_err(io::Error::other)?
            }
        }
    }
}

impl HostServers {
    /// Looks at the file, unless that was just done. Returns whether there are other servers now.
    fn look(&mut self, now: Instant) -> bool {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK) {
            return false;
        }
        self.looked = Some(now);
        let metadata = fs::metadata(&self.path);
        let version = metadata.ok().and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        if version == self.version {
            return false;
        }
        self.version = version;
        // A file that is not there names nobody.
        let conf = ResolvConf::parse(&fs::read_to_string(&self.path).unwrap_or_default());
        let servers = conf.servers.iter().take(MAX_SERVERS).filter_map(address).collect();
        std::mem::replace(&mut self.servers, servers) != self.servers
    }
}

/// Where a server is reached; nowhere if that is by an interface which is not there.
fn address(server: &Server) -> Option<SocketAddr> {
    match (server.address, &server.interface) {
        (IpAddr::V6(address), Some(interface)) => {
            let scope = nix::net::if_::if_nametoindex(interface.as_str()).ok()?;
            Some(SocketAddrV6::new(address, PORT, 0, scope).into())
        }
        (address, _) => Some(SocketAddr::new(address, PORT)),
    }
}
