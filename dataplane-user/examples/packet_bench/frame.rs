//! The packets that are measured: TCP segments of both families, as they lie in a frame.

use std::net::IpAddr;

use etherparse::{PacketBuilder, TcpHeader};

/// What a segment carries.
const PAYLOAD: [u8; 32] = [0; 32];

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A TCP segment.
pub(crate) struct Frame {
    /// Source and destination.
    pub(crate) macs: ([u8; 6], [u8; 6]),
    /// Address and port.
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
    /// Its flags.
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    /// Says that the frame holds something else.
    pub(crate) ethertype: Option<u16>,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) fn name(self) -> &'static str {
        self.pick("IPv4", "IPv6")
    }

    /// The one or the other.
    pub(crate) fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

impl Frame {
    /// The bytes of packet number `packet`: each has a client's port of its own, a client's being the one that is not below 1024.
    pub(crate) fn bytes(&self, packet: u16) -> Vec<u8> {
        let port = |port: u16| if port < 1024 { port } else { port + packet };
        let mut tcp = TcpHeader::new(port(self.source.1), port(self.destination.1), 1, 64_000);
        (tcp.syn, tcp.ack) = (self.syn, self.ack);
        // What follows a SYN of sequence number 1 and its payload: of the handshake, that is the right one.
        tcp.acknowledgment_number = 1 + 1 + PAYLOAD.len() as u32;
        let ethernet = PacketBuilder::ethernet2(self.macs.0, self.macs.1);
        let ip = match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ethernet.ipv4(source.octets(), destination.octets(), u8::MAX)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ethernet.ipv6(source.octets(), destination.octets(), u8::MAX)
            }
            _ => unreachable!("the two addresses of a packet are picked by one family"),
        };
        let mut frame = Vec::new();
        ip.tcp_header(tcp).write(&mut frame, &PAYLOAD).expect("memory can be written");
        if let Some(ethertype) = self.ethertype {
            frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        }
        frame
    }
}
