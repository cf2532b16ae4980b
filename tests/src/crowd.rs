//! Many conversations at once, each a question and its answer over and over, to be seen going on while things happen around
//! them. All of a crowd share one thread.

use std::io::{self, Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};

use crate::fail::OrFail;
use crate::family::Family;
use crate::net::Net;
use crate::process::within;

/// The pause of each member between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// How long an answer may take: a TCP that has lost packets waits for seconds, and so does a machine that is flooded.
const STALL: Duration = Duration::from_secs(20);

/// How long a datagram is waited for before it is sent again.
const RESEND: Duration = Duration::from_millis(300);

/// A running crowd. Dropping it ends it.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    /// How many answers each member has got.
    answers: Arc<[AtomicU64]>,
    thread: Option<JoinHandle<Vec<io::Result<()>>>>,
}

impl Crowd {
    /// Connects `client` to `to`, which leads to `listen` of `server`, so many times.
    #[track_caller]
    pub fn tcp(client: &Net, to: (IpAddr, u16), server: &Net, listen: (IpAddr, u16), members: usize) -> Self {
        let (ip, port) = to;
        let open = || -> io::Result<_> {
            let listener = server.tcp_bind(listen.0, listen.1)?;
            let mut ends = Vec::new();
            for _ in 0..members {
                let near = client.tcp_open(ip, port)?;
                ends.push((near, listener.accept()?.0));
            }
            Ok(ends)
        };
        let ends = open().or_fail(format_args!("connect {} to {ip} port {port}, {members} times", client.name()));
        Self::start(members, move |member| {
            let tokio = |end: &std::net::TcpStream| {
                let end = end.try_clone()?;
                end.set_nonblocking(true)?;
                TcpStream::from_std(end)
            };
            let opened = ends.iter().map(|(near, far)| Ok((tokio(near)?, tokio(far)?))).collect::<io::Result<Vec<_>>>();
            async move {
                let members = opened?.into_iter().enumerate().map(|(number, (near, far))| {
                    tokio::spawn(echo_stream(far));
                    ask_stream(near, member(number))
                });
                Ok(join_all(members).await)
            }
        })
    }

    /// The same over UDP, with a socket for each member. The server must see each member under one address all the time.
    #[track_caller]
    pub fn udp(client: &Net, to: (IpAddr, u16), server: &Net, listen: (IpAddr, u16), members: usize) -> Self {
        let open = || -> io::Result<_> {
            let listener = server.udp_bind(listen.0, listen.1)?;
            listener.set_nonblocking(true)?;
            let mut ends = Vec::new();
            for _ in 0..members {
                let near = client.udp_bind(Family::of(to.0).any(), 0)?;
                near.connect(to)?;
                near.set_nonblocking(true)?;
                ends.push(near);
            }
            Ok((listener, ends))
        };
        let (listener, ends) = open().or_fail(format_args!("open {members} sockets in {}", client.name()));
        Self::start(members, move |member| {
            let opened = UdpSocket::from_std(listener).and_then(|listener| {
                Ok((listener, ends.into_iter().map(UdpSocket::from_std).collect::<io::Result<Vec<_>>>()?))
            });
            async move {
                let (listener, ends) = opened?;
                tokio::spawn(echo_datagrams(listener));
                let members = ends.into_iter().enumerate().map(|(number, near)| ask_datagrams(near, member(number)));
                Ok(join_all(members).await)
            }
        })
    }

    /// Runs all members on a thread of their own; `go` gets what makes a member of a number.
    fn start<F, G>(members: usize, go: G) -> Self
    where
        F: Future<Output = io::Result<Vec<io::Result<()>>>>,
        G: FnOnce(Box<dyn Fn(usize) -> Member>) -> F + Send + 'static,
    {
        let stop = Arc::<AtomicBool>::default();
        let answers: Arc<[AtomicU64]> = (0..members).map(|_| AtomicU64::new(0)).collect();
        let (ended, counts) = (Arc::clone(&stop), Arc::clone(&answers));
        let work = move || {
            let member = move |number| Member { number, stop: Arc::clone(&ended), answers: Arc::clone(&counts) };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let run = runtime.and_then(|runtime| runtime.block_on(async { go(Box::new(member)).await }));
            run.unwrap_or_else(|error| vec![Err(error)])
        };
        Self { stop, answers, thread: Some(thread::spawn(work)) }
    }

    /// How many answers all members have got so far.
    pub fn answers(&self) -> u64 {
        self.answers.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Demands that every member gets two more answers: the first may be to what was asked before.
    #[track_caller]
    pub fn assert_all_go_on(&mut self) {
        let count = || self.answers.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = count();
        let waiting = || count().iter().zip(&before).filter(|(now, before)| **now < **before + 2).count();
        let moved = within(STALL + PAUSE, || (waiting() == 0).then_some(()));
        if moved.is_none() {
            let stalled = waiting();
            panic!("{stalled} of {} conversations have stalled: {:?}", before.len(), self.end().first());
        }
    }

    /// Ends it, and tells by what members have broken.
    fn end(&mut self) -> Vec<Error> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Vec::new() };
        let ended = thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        ended.into_iter().filter_map(Result::err).collect()
    }

    /// Ends it and demands that no member has met with an error. Gives the number of answers.
    #[track_caller]
    pub fn finish(mut self) -> u64 {
        let failed = self.end();
        assert!(
            failed.is_empty(),
            "{} of {} conversations broke, one by {}",
            failed.len(),
            self.answers.len(),
            failed[0]
        );
        self.answers()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Its thread ends by itself, at the latest when a member has stalled too long.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a member knows of itself.
struct Member {
    number: usize,
    stop: Arc<AtomicBool>,
    answers: Arc<[AtomicU64]>,
}

impl Member {
    /// The next question: unlike all others of the crowd. `None`: it is over.
    fn question(&self) -> Option<[u8; 16]> {
        let asked = self.answers[self.number].load(Ordering::Relaxed);
        let mut question = [0; 16];
        question[..8].copy_from_slice(&(self.number as u64).to_be_bytes());
        question[8..].copy_from_slice(&asked.to_be_bytes());
        (!self.stop.load(Ordering::Relaxed)).then_some(question)
    }

    async fn answered(&self) {
        self.answers[self.number].fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
}

async fn ask_stream(mut stream: TcpStream, member: Member) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Not all at once.
    sleep(PAUSE * (member.number % 64) as u32 / 64).await;
    while let Some(question) = member.question() {
        let mut answer = [0; 16];
        let round = async {
            stream.write_all(&question).await?;
            stream.read_exact(&mut answer).await
        };
        timeout(STALL, round).await.map_err(|_| stalled())??;
        if answer != question {
            return Err(Error::new(ErrorKind::InvalidData, format!("asked {question:x?}, was told {answer:x?}")));
        }
        member.answered().await;
    }
    Ok(())
}

async fn echo_stream(mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await.map(drop)
}

async fn ask_datagrams(socket: UdpSocket, member: Member) -> io::Result<()> {
    let mut known = None;
    let mut buffer = [0; 128];
    sleep(PAUSE * (member.number % 64) as u32 / 64).await;
    while let Some(question) = member.question() {
        let end = Instant::now() + STALL;
        let seen = loop {
            if Instant::now() > end {
                return Err(stalled());
            }
            // A refusal of an earlier datagram shows here; the next one may do better.
            let _ = socket.send(&question).await;
            match timeout(RESEND, socket.recv(&mut buffer)).await {
                // An answer to a datagram that was sent again may be late.
                Ok(Ok(length)) if buffer[..length].starts_with(&question) => {
                    break buffer[question.len()..length].to_vec();
                }
                _ => {}
            }
        };
        let before = known.get_or_insert_with(|| seen.clone());
        if *before != seen {
            let [before, now] = [&*before, &seen].map(|address| String::from_utf8_lossy(address).into_owned());
            return Err(Error::new(ErrorKind::InvalidData, format!("the server saw {before} and now sees {now}")));
        }
        member.answered().await;
    }
    Ok(())
}

/// Answers each question with itself and the address that it came from.
async fn echo_datagrams(socket: UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 128];
    loop {
        let (length, from): (usize, SocketAddr) = socket.recv_from(&mut buffer).await?;
        let answer = [&buffer[..length], from.to_string().as_bytes()].concat();
        // Who cannot be answered does not wait for it.
        let _ = socket.send_to(&answer, from).await;
    }
}

fn stalled() -> Error {
    Error::new(ErrorKind::TimedOut, format!("no answer within {STALL:?}"))
}
