//! A routing netlink socket for requests alone, which are answered before they have been sent: no readiness is waited for.
//!
//! The kernel works a request off within `sendmsg(2)` and has queued the answer when that returns, each further part of a long answer when
//! the part before is read (`netlink_rcv_skb` and `netlink_recvmsg` in `net/netlink/af_netlink.c`). An event loop would be told of the answer by
//! another thread, several times in what a request takes. Multicast groups are not for such a socket.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::BufMut;
use rtnetlink::Handle;
use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr};

/// The socket; never blocks.
struct Prompt {
    socket: Socket,
    /// A request was sent, so that there is something to read.
    sent: AtomicBool,
}

/// Serves a connection over `socket` for as long as its handle or a clone of it lives. Must be called within a tokio runtime.
pub(super) fn serve(socket: Socket) -> io::Result<Handle> {
    socket.set_non_blocking(true)?;
    let (mut connection, handle, _) = rtnetlink::from_socket(Prompt { socket, sent: AtomicBool::new(false) });
    tokio::spawn(poll_fn(move |context| {
        // It reads before it sends, so once more where it has sent.
        while pin!(&mut connection).poll(context).is_pending() {
            if !connection.socket_mut().sent.swap(false, Ordering::Relaxed) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }));
    Ok(handle)
}

impl Prompt {
    fn send(&self, sent: io::Result<usize>) -> Poll<io::Result<usize>> {
        self.sent.store(true, Ordering::Relaxed);
        Poll::Ready(sent)
    }
}

/// That there is nothing (any more) is no error; the next request brings more.
fn read<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

impl AsyncSocket for Prompt {
    fn socket_ref(&self) -> &Socket {
        &self.socket
    }

    fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn new(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, sent: AtomicBool::new(false) })
    }

    fn poll_send(&self, _: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.send(self.socket.send(buffer, 0))
    }

    fn poll_send_to(&self, _: &mut Context<'_>, buffer: &[u8], address: &SocketAddr) -> Poll<io::Result<usize>> {
        self.send(self.socket.send_to(buffer, address, 0))
    }

    fn poll_recv<B: BufMut>(&self, _: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<()>> {
        read(self.socket.recv(buffer, 0).map(drop))
    }

    fn poll_recv_from<B: BufMut>(&self, _: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<SocketAddr>> {
        read(self.socket.recv_from(buffer, 0).map(|(_, address)| address))
    }

    fn poll_recv_from_full(&self, _: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        read(self.socket.recv_from_full())
    }
}
