//! A long TCP connection that carries a known stream both ways, to be compared byte by byte while things happen around
//! it.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::fail::OrFail;
use crate::family::Family;
use crate::net::{Net, PATIENCE};
use crate::process::within;

/// How much is written at once.
const BLOCK: usize = 64 * 1024;

/// The pause between two blocks, so that tests which run in parallel get on, too.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a stalled connection is waited for.
const STALL: Duration = Duration::from_secs(20);

/// A running transfer.
pub struct Transfer {
    stop: Arc<AtomicBool>,
    directions: Vec<Direction>,
}

struct Direction {
    name: &'static str,
    received: Arc<AtomicU64>,
    writer: JoinHandle<io::Result<u64>>,
    reader: JoinHandle<io::Result<u64>>,
}

impl Transfer {
    /// Connects `client` to `ip:port`, which leads to `listen_port` of `server`, and lets both send until the end.
    #[track_caller]
    pub fn start(client: &Net, (ip, port): (IpAddr, u16), server: &Net, listen_port: u16) -> Self {
        let open = || -> io::Result<Self> {
            let listener = server.tcp_bind(Family::of(ip).any(), listen_port)?;
            let near = client.tcp_open(ip, port)?;
            listener.set_nonblocking(true)?;
            let (far, _) = within(PATIENCE, || listener.accept().ok())
                .ok_or("somebody else has accepted it")
                .map_err(Error::other)?;
            far.set_nonblocking(false)?;
            let stop = Arc::new(AtomicBool::new(false));
            let there = Direction::start("to the server", 1, &near, &far, &stop)?;
            let back = Direction::start("to the client", 2, &far, &near, &stop)?;
            Ok(Self { stop, directions: vec![there, back] })
        };
        open().or_fail(format_args!("connect {} to {ip} port {port}", client.name()))
    }

    /// Demands that bytes arrive at both ends from now on.
    #[track_caller]
    pub fn assert_moves(&self) {
        for direction in &self.directions {
            let before = direction.received.load(Ordering::Relaxed);
            let moved = within(PATIENCE, || {
                (direction.received.load(Ordering::Relaxed) > before + 4 * BLOCK as u64).then_some(())
            });
            assert!(moved.is_some(), "the transfer {} has stalled after {before} bytes", direction.name);
        }
    }

    /// Ends it and demands that all that was sent has arrived as it was. Gives the number of bytes of each direction.
    #[track_caller]
    pub fn finish(mut self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.directions).into_iter().map(Direction::finish).collect()
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // The threads end by themselves, at the latest when the connection has stalled too long.
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Direction {
    fn start(
        name: &'static str,
        seed: u64,
        from: &TcpStream,
        to: &TcpStream,
        stop: &Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        from.set_write_timeout(Some(STALL))?;
        to.set_read_timeout(Some(STALL))?;
        let (received, stop) = (Arc::<AtomicU64>::default(), Arc::clone(stop));
        let seen = Arc::clone(&received);
        Ok(Self {
            name,
            received,
            writer: thread::spawn(move || write(from, seed, &stop)),
            reader: thread::spawn(move || read(to, seed, &seen)),
        })
    }

    #[track_caller]
    fn finish(self) -> u64 {
        let [sent, received] = [self.writer, self.reader].map(|thread| {
            let ended = thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
            ended.or_fail(format_args!("carry on the transfer {}", self.name))
        });
        assert_eq!(sent, received, "bytes sent and received {}", self.name);
        received
    }
}

fn write(mut stream: TcpStream, seed: u64, stop: &AtomicBool) -> io::Result<u64> {
    let (mut pattern, mut block, mut sent) = (Pattern::new(seed), vec![0; BLOCK], 0);
    while !stop.load(Ordering::Relaxed) {
        pattern.fill(&mut block);
        stream.write_all(&block)?;
        sent += BLOCK as u64;
        thread::sleep(PAUSE);
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(sent)
}

fn read(mut stream: TcpStream, seed: u64, received: &AtomicU64) -> io::Result<u64> {
    let (mut pattern, mut buffer, mut expected, mut total) = (Pattern::new(seed), vec![0; BLOCK], vec![0; BLOCK], 0);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(total);
        }
        pattern.fill(&mut expected[..length]);
        if buffer[..length] != expected[..length] {
            return Err(Error::new(
                ErrorKind::InvalidData,
                format!("a wrong byte within {length} bytes after {total}"),
            ));
        }
        total += length as u64;
        received.store(total, Ordering::Relaxed);
    }
}

/// A long sequence of bytes that does not repeat (xorshift64).
struct Pattern {
    state: u64,
    left: [u8; 8],
    used: usize,
}

impl Pattern {
    fn new(seed: u64) -> Self {
        Self { state: seed, left: [0; 8], used: 8 }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == 8 {
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                (self.left, self.used) = (self.state.to_ne_bytes(), 0);
            }
            *byte = self.left[self.used];
            self.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_the_same_in_pieces_of_any_size() {
        let (mut whole, mut pieces) = ([0; 100], [0; 100]);
        Pattern::new(1).fill(&mut whole);
        let mut pattern = Pattern::new(1);
        for piece in pieces.chunks_mut(7) {
            pattern.fill(piece);
        }
        assert_eq!(whole, pieces);
        assert_ne!(whole[..8], whole[8..16]);
    }
}
