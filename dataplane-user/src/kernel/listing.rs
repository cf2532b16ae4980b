//! Lists of what a namespace has (interfaces, addresses, routes), taken message by message: what the kernel says of thousands of interfaces
//! takes twenty times the memory of what is kept of it.

use std::io;
use std::sync::PoisonError;

use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::link::Netlink;

/// The most that the kernel puts into one part of a list.
const PART: usize = 32 * 1024;

impl Netlink {
    /// Asks for a list and passes its messages on.
    ///
    /// It never waits for anything but the kernel's own work, which is done within the calls: see [`super::prompt`].
    pub(super) fn list(
        &self,
        request: RouteNetlinkMessage,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        // One list after the other: the kernel refuses a second one on a socket while a first one goes on.
        let socket = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        socket.send(&buffer, 0)?;
        buffer = Vec::with_capacity(PART);
        loop {
            buffer.clear();
            match socket.recv(&mut buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            let mut part = buffer.as_slice();
            while let Ok(header) = NetlinkBuffer::new_checked(part) {
                match NetlinkMessage::deserialize(part).map(|message| message.payload) {
                    Ok(NetlinkPayload::Done(_)) => return Ok(()),
                    // Without a number it is an acknowledgement, which was not asked for.
                    Ok(NetlinkPayload::Error(error)) if error.code.is_some() => return Err(error.to_io()),
                    Ok(NetlinkPayload::InnerMessage(message)) => take(message),
                    Ok(_) => {}
                    Err(error) => tracing::debug!("a message of the kernel that does not read: {error}"),
                }
                // One that was checked has a length that lies within the part, and the next begins at a multiple of four.
                let length = header.length() as usize;
                part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}
