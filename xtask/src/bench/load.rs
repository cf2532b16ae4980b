//! Loads: what a client and a server get done in a second, or how long they wait for each other.
//!
//! Other people's programs make the load where they can ([`super::tools`]). Where none does, each end is a thread of ours in its own
//! namespace, bound to one CPU: a step that is repeated until time is up.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use spandrel_tests::{Family, Net};

use super::peers::Ends;
use super::tools::Tools;

/// How long a load of ours runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(40);

/// How long nothing at all may pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a socket waits before its thread looks whether time is up.
const TICK: Duration = Duration::from_millis(100);

/// How long a server waits for the next client before it does the same.
const ACCEPT_TICK: Duration = Duration::from_millis(10);

/// Content of a datagram.
const DATAGRAM: usize = 64;

/// Datagrams in one system call.
const BATCH: usize = 64;

/// Room for datagrams that have not been read yet, so that a receiver that pauses for a moment loses none.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What is measured between two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Load {
    /// One TCP connection that carries as much as it can.
    TcpStream,
    /// The same on one CPU.
    TcpStreamOnOne,
    /// Small datagrams as fast as they can be sent; those that arrive count.
    UdpPackets,
    /// The same on one CPU, sent and received by turns.
    UdpPacketsOnOne,
    /// One byte there and one back over an open connection, on one CPU.
    TcpExchanges,
    /// Half of the round trip of a message there and one back, the median.
    LatencyMedian,
    /// The same, the 99th percentile: it is measured together with the median.
    LatencyTail,
    /// A new connection for one byte there and one back, on one CPU.
    TcpConnections,
    /// Requests over open connections.
    HttpKeepAlive,
    /// A connection for each request.
    HttpClose,
}

/// The CPUs of the two ends where they have one each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpus {
    pub(super) client: usize,
    pub(super) server: usize,
}

/// One end of a load.
struct End<'e> {
    net: &'e Net,
    cpu: usize,
    step: Step,
}

/// Does a little work and tells how much of it counts.
pub(super) type Step = Box<dyn FnMut() -> io::Result<u64> + Send>;

impl Load {
    /// The name in a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Load::TcpStream => "TCP stream, Gbit/s",
            Load::TcpStreamOnOne => "TCP stream on one CPU, Gbit/s",
            Load::UdpPackets => "UDP packets of 64 bytes, 1000/s",
            Load::UdpPacketsOnOne => "UDP packets on one CPU, 1000/s",
            Load::TcpExchanges => "TCP request/response on one CPU, 1000/s",
            Load::LatencyMedian => "TCP latency, p50, µs",
            Load::LatencyTail => "TCP latency, p99, µs",
            Load::TcpConnections => "new TCP connections on one CPU, 1000/s",
            Load::HttpKeepAlive => "HTTP requests, keep-alive, 1000/s",
            Load::HttpClose => "HTTP requests, one a connection, 1000/s",
        }
    }

    /// The name without its unit.
    pub(super) fn plain_name(self) -> &'static str {
        self.name().rsplit_once(", ").map_or(self.name(), |(name, _)| name)
    }

    /// What a sample is multiplied by for the table's unit.
    pub(super) fn scale(self) -> f64 {
        match self {
            Load::TcpStream | Load::TcpStreamOnOne => 8e-9,
            Load::LatencyMedian | Load::LatencyTail => 1.0,
            _ => 1e-3,
        }
    }

    /// In how many slices a sample is taken, the peers' by turns. Ours start at once; and two threads on one CPU settle into one of several ways
    /// to wake each other up, of which a sample should hold some.
    pub(super) fn slices(self) -> u32 {
        match self {
            Load::UdpPackets | Load::UdpPacketsOnOne | Load::TcpExchanges | Load::TcpConnections => 8,
            _ => 1,
        }
    }

    /// Whether less is better: of times, that is.
    pub(super) fn is_time(self) -> bool {
        matches!(self, Load::LatencyMedian | Load::LatencyTail)
    }

    /// Runs between two ends for `period` and gives a sample: bytes, datagrams, exchanges, connections or requests in a second, or
    /// microseconds. Two come of latency, of which the tail is not measured alone.
    pub(super) fn measure(self, tools: &Tools, ends: &Ends, cpus: Cpus, period: Duration) -> Result<Vec<(Load, f64)>> {
        let one = |rate| Ok(vec![(self, rate)]);
        match self {
            Load::TcpStream => one(tools.stream(ends, cpus, period)?),
            Load::TcpStreamOnOne => one(tools.stream(ends, cpus.shared(), period)?),
            Load::HttpKeepAlive | Load::HttpClose => {
                one(tools.http(ends, cpus, period, self == Load::HttpKeepAlive)?)
            }
            Load::LatencyMedian | Load::LatencyTail => {
                let latency = tools.latency(ends, cpus, period)?;
                Ok(vec![(Load::LatencyMedian, latency.median), (Load::LatencyTail, latency.tail)])
            }
            Load::UdpPackets | Load::UdpPacketsOnOne | Load::TcpExchanges | Load::TcpConnections => {
                one(self.generate(ends, cpus, period)?)
            }
        }
    }

    /// Runs one of our own.
    pub(super) fn generate(self, ends: &Ends, cpus: Cpus, period: Duration) -> Result<f64> {
        let ends = self.threads(ends, cpus).context("cannot set up the sockets")?;
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let (result, rate) = thread::scope(|scope| {
            let (stop, done) = (&stop, &done);
            let threads = ends.into_iter().map(|end| {
                let End { net, cpu, step } = end;
                scope.spawn(move || net.run(|| repeat(cpu, step, stop, done)))
            });
            let threads: Vec<_> = threads.collect();
            thread::sleep(WARM_UP);
            let (start, before) = (Instant::now(), done.load(Ordering::Relaxed));
            let (time, after) = loop {
                thread::sleep(period);
                let (time, after) = (start.elapsed(), done.load(Ordering::Relaxed));
                // On a machine that is busy with something else an end may not have run at all yet.
                if after > before || time > PATIENCE {
                    break (time, after);
                }
            };
            stop.store(true, Ordering::Relaxed);
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (ended.collect::<io::Result<()>>(), (after - before) as f64 / time.as_secs_f64())
        });
        result.context("it broke off")?;
        if rate == 0.0 {
            bail!("nothing passed in {PATIENCE:?}");
        }
        Ok(rate)
    }

    /// Opens the sockets, each in its namespace.
    ///
    /// With both ends on one CPU, what is done in a second tells how much CPU time it costs, and no idle CPU has to be woken up.
    fn threads(self, ends: &Ends, cpus: Cpus) -> io::Result<Vec<End<'_>>> {
        let client = |cpu, step| End { net: &ends.client, cpu, step };
        let server = |step| End { net: &ends.server, cpu: cpus.server, step };
        Ok(match self {
            Load::UdpPackets => {
                let (from, to) = datagram_sockets(ends)?;
                vec![client(cpus.client, send_datagrams(from)), server(receive_datagrams(to))]
            }
            Load::UdpPacketsOnOne => vec![server(self.both_ends(ends)?)],
            Load::TcpExchanges => {
                let (from, to) = connected(ends)?;
                vec![client(cpus.server, ask(from)), server(answer(to))]
            }
            Load::TcpConnections => {
                let listener = listen(ends)?;
                vec![client(cpus.server, open_connections(ends.dial)), server(accept_connections(listener))]
            }
            _ => return Err(ErrorKind::Unsupported.into()),
        })
    }

    /// Opens the sockets for one thread, in the client's namespace, that does what both ends do: nobody has to be woken up, so a step costs
    /// the same each time.
    pub(super) fn both_ends(self, ends: &Ends) -> io::Result<Step> {
        Ok(match self {
            Load::UdpPacketsOnOne => {
                let (from, to) = datagram_sockets(ends)?;
                let (mut send, mut receive) = (send_datagrams(from), receive_datagrams(to));
                Box::new(move || send().and_then(|_| receive()))
            }
            Load::TcpExchanges => {
                let (mut from, mut to) = connected(ends)?;
                Box::new(move || exchange(&mut from, &mut to))
            }
            Load::TcpConnections => {
                let (listener, to) = (listen(ends)?, ends.dial);
                Box::new(move || {
                    let (mut client, mut server) = (connect(to)?, tuned(listener.accept()?.0)?);
                    let count = exchange(&mut client, &mut server)?;
                    drop(server);
                    expect_end(&mut client).map(|()| count)
                })
            }
            _ => return Err(ErrorKind::Unsupported.into()),
        })
    }
}

impl Cpus {
    /// The first two CPUs that we may use; one for both ends where there is no second.
    pub(super) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot tell which CPUs there are")?;
        let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
        let client = cpus.next().context("there is no CPU to run on")?;
        Ok(Self { client, server: cpus.next().unwrap_or(client) })
    }

    /// Both ends on one.
    fn shared(self) -> Self {
        Self { client: self.server, ..self }
    }
}

/// Has a thread run on one CPU alone; 0 is the calling one.
pub(super) fn bind(thread: Pid, cpu: usize) -> nix::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(thread, &only)
}

/// Repeats `step` on one CPU until time is up. When it is, the other end may have gone already, which is no error.
fn repeat(cpu: usize, mut step: Step, stop: &AtomicBool, done: &AtomicU64) -> io::Result<()> {
    bind(Pid::from_raw(0), cpu)?;
    while !stop.load(Ordering::Relaxed) {
        match step() {
            Ok(0) => {}
            Ok(count) => _ = done.fetch_add(count, Ordering::Relaxed),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) if stop.load(Ordering::Relaxed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn listen(ends: &Ends) -> io::Result<TcpListener> {
    let listener = ends.server.run(|| TcpListener::bind(ends.listen))?;
    // It is the time for accepting, too.
    setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::new(0, ACCEPT_TICK.subsec_micros().into()))?;
    Ok(listener)
}

/// Both ends of a new connection.
fn connected(ends: &Ends) -> io::Result<(TcpStream, TcpStream)> {
    let listener = listen(ends)?;
    let client = ends.client.run(|| connect(ends.dial))?;
    let (server, _) = listener.accept()?;
    Ok((client, tuned(server)?))
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    tuned(TcpStream::connect_timeout(&to, Duration::from_secs(1))?)
}

/// A stream that sends at once and does not wait for long.
fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(TICK))?;
    Ok(stream)
}

/// Reads; the end of the stream is an error.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<u64> {
    match stream.read(buffer)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        length => Ok(length as u64),
    }
}

/// A sender and the receiver that it sends to.
fn datagram_sockets(ends: &Ends) -> io::Result<(UdpSocket, UdpSocket)> {
    let receiver = ends.server.run(|| UdpSocket::bind(ends.listen))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    let any = Family::of(ends.dial.ip()).any();
    // Connecting decides about the way, too: that of a loopback address is another one in each namespace.
    let sender =
        ends.client.run(|| UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(ends.dial).map(|()| socket)))?;
    Ok((sender, receiver))
}

fn send_datagrams(socket: UdpSocket) -> Step {
    let content = [0x5a; DATAGRAM];
    Box::new(move || {
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
        let slices = [[IoSlice::new(&content)]; BATCH];
        sendmmsg(socket.as_raw_fd(), &mut headers, &slices, [None; BATCH], [], MsgFlags::empty())?;
        Ok(0)
    })
}

/// Asks again and again instead of sleeping: waking a receiver up costs the sender as much as some packets, and how often it
/// happens is chance.
fn receive_datagrams(socket: UdpSocket) -> Step {
    let mut contents = [[0; DATAGRAM]; BATCH];
    Box::new(move || {
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
        let mut slices = contents.each_mut().map(|content| [IoSliceMut::new(content)]);
        match recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(received) => Ok(received.count() as u64),
            Err(Errno::EAGAIN) => {
                thread::yield_now();
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn ask(mut stream: TcpStream) -> Step {
    Box::new(move || {
        stream.write_all(&[1])?;
        read_some(&mut stream, &mut [0])
    })
}

/// One byte there and one back.
fn exchange(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<u64> {
    client.write_all(&[1])?;
    read_some(server, &mut [0])?;
    server.write_all(&[1])?;
    read_some(client, &mut [0])
}

fn answer(mut stream: TcpStream) -> Step {
    Box::new(move || {
        read_some(&mut stream, &mut [0])?;
        stream.write_all(&[1])?;
        Ok(0)
    })
}

fn open_connections(to: SocketAddr) -> Step {
    Box::new(move || {
        let mut stream = connect(to)?;
        stream.write_all(&[1])?;
        let count = read_some(&mut stream, &mut [0])?;
        expect_end(&mut stream).map(|()| count)
    })
}

/// Waits until the other end has closed. The server closes first, so that the client's port is free again.
fn expect_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

fn accept_connections(listener: TcpListener) -> Step {
    Box::new(move || {
        let (stream, _) = listener.accept()?;
        let mut stream = tuned(stream)?;
        read_some(&mut stream, &mut [0])?;
        stream.write_all(&[1])?;
        Ok(0)
    })
}
