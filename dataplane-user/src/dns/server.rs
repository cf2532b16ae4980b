//! One container's name server: a task that reads, answers, and waits for others' answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::forward::Forwarder;
use super::message::{Bad, Request, Subject, Transport, UDP_PAYLOAD};
use super::{Shared, read};
use crate::kernel::{Answers, NameSockets};
use crate::model::Id;

/// Questions of one container that others are asked at a time; beyond it, they are refused.
const QUESTIONS: usize = 256;
/// Connections of one container at a time; beyond it, they wait to be accepted.
const CONNECTIONS: usize = 32;
/// How long a connection may be silent, or take to read an answer (RFC 7766 §6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// How long to wait when the system lacks what a socket needs.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What one container is answered from.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Who asks.
    pub(super) asker: Id,
    /// What all containers have in common.
    pub(super) shared: Arc<Shared>,
    /// Its own servers for names from outside, if it has any.
    pub(super) own: Option<Forwarder>,
}

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// This is the answer, if there is to be one.
    Answer(Option<Vec<u8>>),
    /// Others have to be asked.
    Forward(Box<Request>),
}

impl Resolver {
    /// Judges a message without waiting for anybody.
    pub(super) fn judge(&self, bytes: &[u8], transport: Transport) -> Verdict {
        let request = match Request::read(bytes, transport) {
            Ok(request) => request,
            Err(Bad(answer)) => return Verdict::Answer(answer),
        };
        let names = read(&self.shared.names);
        let known = match request.subject() {
            Subject::Name(name, family) => {
                let found = names.find(&self.asker, &name, family.unwrap_or(false));
                // A name of ours has nothing but addresses, and nobody else is asked about it.
                found.map(|found| request.addresses(if family.is_some() { &found } else { &[] }))
            }
            Subject::Address(address) => {
                names.find_address(&self.asker, address).and_then(|name| request.pointer(&name))
            }
            Subject::Other => None,
        };
        match known {
            Some(answer) => Verdict::Answer(Some(answer)),
            None => Verdict::Forward(Box::new(request)),
        }
    }

    /// Asks others. A container without a way out has only its own servers to ask.
    async fn forward(&self, request: &Request) -> Vec<u8> {
        let outside = || read(&self.shared.names).reaches_outside(&self.asker).then_some(&self.shared.host);
        match self.own.as_ref().or_else(outside) {
            Some(forwarder) => forwarder.resolve(request).await,
            None => request.error(ResponseCode::ServFail),
        }
    }
}

/// A running name server.
#[derive(Debug)]
pub(super) struct Server(JoinHandle<()>);

impl Server {
    /// Starts to answer on these sockets.
    pub(super) fn start(sockets: NameSockets, resolver: Resolver) -> io::Result<Self> {
        let NameSockets { udp, tcp, answers } = sockets;
        let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
        Ok(Server(tokio::spawn(serve(udp, tcp, answers, Arc::new(resolver)))))
    }

    /// Ends it. When this returns, its sockets are closed, and nothing keeps the container's namespace.
    pub(super) async fn stop(self) {
        self.0.abort();
        // It ended because it was told to, or by a panic that has been printed.
        let _ = self.0.await;
    }
}

/// Everything that a container asks is done in this one task, so that all of it ends with the task.
async fn serve(udp: UdpSocket, tcp: TcpListener, answers: Answers, resolver: Arc<Resolver>) {
    // Boxed: a set keeps room for one of its futures even while it is empty, and that would be ten kilobytes for every container.
    let mut questions: FuturesUnordered<BoxFuture<'_, (SocketAddr, Vec<u8>)>> = FuturesUnordered::new();
    let mut connections: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            ready = udp.readable() => match ready.and_then(|()| read_question(&udp, &answers, &resolver)) {
                Ok(Some((request, from))) if questions.len() >= QUESTIONS => {
                    reply(&answers, from, &request.error(ResponseCode::Refused));
                }
                Ok(Some((request, from))) => questions.push(ask(resolver.clone(), request, from).boxed()),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!("reading a question: {error}");
                    sleep(EXHAUSTED).await;
                }
            },
            Some((from, answer)) = questions.next() => reply(&answers, from, &answer),
            accepted = tcp.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => connections.push(converse(stream, resolver.clone()).boxed()),
                Err(error) => {
                    tracing::debug!("accepting a connection: {error}");
                    sleep(EXHAUSTED).await;
                }
            },
            Some(()) = connections.next() => {}
        }
    }
}

/// Reads a question, if there is one, and answers what can be answered at once; gives what others have to be asked, and for whom.
fn read_question(
    udp: &UdpSocket,
    answers: &Answers,
    resolver: &Resolver,
) -> io::Result<Option<(Box<Request>, SocketAddr)>> {
    let mut buffer = [0; UDP_PAYLOAD as usize];
    let (length, from) = match udp.try_recv_from(&mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        result => result?,
    };
    match resolver.judge(&buffer[..length], Transport::Udp) {
        Verdict::Answer(None) => Ok(None),
        Verdict::Answer(Some(answer)) => {
            reply(answers, from, &answer);
            Ok(None)
        }
        Verdict::Forward(request) => Ok(Some((request, from))),
    }
}

/// Asks others for a client.
async fn ask(resolver: Arc<Resolver>, request: Box<Request>, from: SocketAddr) -> (SocketAddr, Vec<u8>) {
    (from, resolver.forward(&request).await)
}

fn reply(answers: &Answers, to: SocketAddr, answer: &[u8]) {
    let SocketAddr::V4(to) = to else { return };
    if let Err(error) = answers.send(to, answer) {
        // As on any network: who misses an answer asks again.
        tracing::debug!("answering {to}: {error}");
    }
}

/// Answers on a connection, one question after the other, until the client leaves or falls silent.
async fn converse(mut stream: TcpStream, resolver: Arc<Resolver>) {
    while let Ok(Ok(message)) = timeout(IDLE, read_message(&mut stream)).await {
        let answer = match resolver.judge(&message, Transport::Tcp) {
            Verdict::Answer(answer) => answer,
            Verdict::Forward(request) => Some(resolver.forward(&request).await),
        };
        // Who sends what is no request at all is not listened to any longer.
        let Some(answer) = answer else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        if !matches!(timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// A message with its length in front of it (RFC 1035 §4.2.2).
async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
