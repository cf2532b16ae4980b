//! Deleting an interface without waiting for what the kernel does with it afterwards.
//!
//! The request is answered when nobody can use the interface any more, which takes an RCU grace period and more (`netdev_run_todo` in
//! `net/core/dev.c`). Long before, when its name, its addresses and its programs are gone and it is in no list any more, everybody who
//! listens is told: then it is deleted as far as anybody can see.

use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::{Context, Error, Result};
use super::link::Netlink;

/// More than any message about one interface takes.
const MESSAGE: usize = 32 * 1024;

impl Netlink {
    /// Deletes an interface (of a veth pair: both ends). Returns whether it was there.
    pub async fn delete_link(&self, name: &str) -> Result<bool> {
        let Some(link) = self.link(name).await? else { return Ok(false) };
        let action = || format!("delete interface {name}");
        let (listener, requester) = self.netns.run(open)?.to(action)?;
        // SAFETY: the socket owns its descriptor, which stays open until `listener` is dropped.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }.to(action)?;
        let request = tokio::task::spawn_blocking(move || delete(&requester, link.ifindex));
        let deleted = tokio::select! {
            done = request => done.unwrap_or_else(|panic| Err(io::Error::other(panic))),
            () = told(&listener, link.ifindex) => Ok(()),
        };
        match deleted {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(Error::io(action(), error)),
        }
    }
}

/// One socket that listens, and one for the request.
fn open() -> io::Result<(Socket, Socket)> {
    let mut listener = Socket::new(NETLINK_ROUTE)?;
    listener.set_non_blocking(true)?;
    listener.bind_auto()?;
    listener.add_membership(MulticastGroup::Link as u32)?;
    Ok((listener, Socket::new(NETLINK_ROUTE)?))
}

/// Asks for it, and waits for the answer.
fn delete(socket: &Socket, ifindex: u32) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelLink(link));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let mut answer = Vec::with_capacity(MESSAGE);
    socket.recv(&mut answer, 0)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        // Without a number it is the acknowledgement.
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

/// Waits until the interface is said to be deleted. If that cannot be heard, for ever: the request's end tells as well.
async fn told(listener: &AsyncFd<Socket>, ifindex: u32) {
    let mut bytes = Vec::with_capacity(MESSAGE);
    while let Ok(mut ready) = listener.readable().await {
        loop {
            bytes.clear();
            match ready.try_io(|socket| socket.get_ref().recv(&mut bytes, 0)) {
                Ok(Ok(_)) if is_deletion(&bytes, ifindex) => return,
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return std::future::pending().await,
                Err(_would_block) => break,
            }
        }
    }
    std::future::pending().await
}

/// Whether a message says that the interface itself is deleted; one of the bridge's family says that it is no port any more.
fn is_deletion(bytes: &[u8], ifindex: u32) -> bool {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes);
    matches!(message.map(|message| message.payload),
        Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)))
            if link.header.index == ifindex && link.header.interface_family == AddressFamily::Unspec)
}
