//! Whole Ethernet frames, for packets that no socket would send.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::fail::OrFail;
use crate::net::Net;

/// Every MAC address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// A socket that sends and receives frames on one interface.
pub struct FrameSocket {
    socket: Socket,
    patience: Duration,
}

impl Net {
    /// Opens an interface for whole frames.
    #[track_caller]
    pub fn frames(&self, interface: &str) -> FrameSocket {
        let index = self.link(interface).index;
        let open = || -> io::Result<FrameSocket> {
            let every = u16::to_be(libc::ETH_P_ALL as u16);
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(every))))?;
            // SAFETY: the storage is larger than a sockaddr_ll and aligned for it, and the length tells how much was
            // written.
            let ((), address) = unsafe {
                SockAddr::try_init(|storage, length| {
                    let address = storage.cast::<libc::sockaddr_ll>();
                    (*address).sll_family = libc::AF_PACKET as u16;
                    (*address).sll_protocol = every;
                    (*address).sll_ifindex = index.cast_signed();
                    *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                    Ok(())
                })
            }?;
            socket.bind(&address)?;
            Ok(FrameSocket { socket, patience: self.patience() })
        };
        self.run(open).or_fail(format_args!("open {interface} of {} for frames", self.name()))
    }
}

impl FrameSocket {
    /// Sends a frame as it is.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        let sent = (&self.socket).write(frame);
        assert!(matches!(sent, Ok(length) if length == frame.len()), "cannot send a frame: {sent:?}");
    }

    /// The next frame that `wanted` accepts, sent or received, if one comes in time.
    pub fn next(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let end = Instant::now() + self.patience;
        let mut buffer = vec![0; 65536];
        loop {
            let left = end.checked_duration_since(Instant::now())?;
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok()?;
            match (&self.socket).read(&mut buffer) {
                Ok(length) if wanted(&buffer[..length]) => return Some(buffer[..length].to_vec()),
                Err(error) if error.kind() != ErrorKind::Interrupted => return None,
                _ => {}
            }
        }
    }
}
