//! Packets as a reader of a failure wants to see them: one line, with the names of a scene.

use std::net::IpAddr;

use spandrel_tests::{V4, V6};

use crate::packet::{Scene, checksum, crc32c, pseudo_header};

impl Scene {
    /// An IP packet in one line.
    pub fn shown(&self, packet: &[u8]) -> String {
        self.ip(packet).unwrap_or_else(|| format!("a cut packet {}", hex(packet)))
    }

    fn ip(&self, packet: &[u8]) -> Option<String> {
        let (addresses, hops, protocol, len, notes) = match packet.first()? >> 4 {
            4 => self.ipv4(packet)?,
            6 => self.ipv6(packet)?,
            _ => return None,
        };
        let body = packet.get(len..)?;
        let later = notes.contains("offset");
        let what = if later { None } else { self.transport(&addresses, protocol, body) };
        let what = what.unwrap_or_else(|| format!("protocol {protocol} {}", hex(body)));
        Some(format!("{} > {} {what}, ttl {hops}{notes}", self.name(addresses.0), self.name(addresses.1)))
    }

    fn ipv4(&self, packet: &[u8]) -> Option<(Addresses, u8, u8, usize, String)> {
        let len = usize::from(packet[0] & 15) * 4;
        let header = packet.get(..len).filter(|_| len >= 20)?;
        let address = |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let mut notes = format!(", id {:#x}", u16::from_be_bytes([header[4], header[5]]));
        let flags = u16::from_be_bytes([header[6], header[7]]);
        if header[1] != 0 {
            notes += &format!(", class {:#x}", header[1]);
        }
        if flags & 0x4000 != 0 {
            notes += ", DF";
        }
        notes += &fragment(flags & 0x2000 != 0, (flags & 0x1fff) * 8);
        if len > 20 {
            notes += &format!(", options {}", hex(&header[20..]));
        }
        if checksum(header) != 0 {
            notes += ", WRONG HEADER CHECKSUM";
        }
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if total != packet.len() {
            notes += &format!(", {} of {total} bytes", packet.len());
        }
        Some(((address(12), address(16)), header[8], header[9], len, notes))
    }

    fn ipv6(&self, packet: &[u8]) -> Option<(Addresses, u8, u8, usize, String)> {
        let header = packet.get(..40)?;
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&header[at..at + 16]).expect("sixteen bytes"));
        let mut notes = format!(", label {:#x}", u32::from_be_bytes([0, header[1] & 15, header[2], header[3]]));
        let (mut next, mut len) = (header[6], 40);
        while matches!(next, 0 | 43 | 44 | 60) {
            let extension = packet.get(len..len + 8)?;
            let size = if next == 44 { 8 } else { 8 + usize::from(extension[1]) * 8 };
            if next == 44 {
                let offset = u16::from_be_bytes([extension[2], extension[3]]);
                notes += &format!(", id {}", hex(&extension[4..8]));
                notes += &fragment(offset & 1 != 0, offset & !7);
            } else {
                notes += &format!(", extension {next} {}", hex(packet.get(len..len + size)?));
            }
            (next, len) = (extension[0], len + size);
        }
        let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if total != packet.len() {
            notes += &format!(", {} of {total} bytes", packet.len());
        }
        Some(((address(8), address(24)), header[7], next, len, notes))
    }

    fn transport(&self, addresses: &Addresses, protocol: u8, body: &[u8]) -> Option<String> {
        let port = |at: usize| Some(self.port_name(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?])));
        let word = |at: usize| Some(u32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let sum = || {
            let pseudo = match protocol {
                1 => Vec::new(),
                _ => pseudo_header(addresses.0, addresses.1, protocol, body.len()),
            };
            if checksum(&[&pseudo[..], body].concat()) == 0 { "" } else { ", WRONG CHECKSUM" }
        };
        Some(match protocol {
            17 => {
                let sum = if body.get(6..8)? == [0, 0] { ", no checksum" } else { sum() };
                format!("UDP {} > {} {}{sum}", port(0)?, port(2)?, text(body.get(8..)?))
            }
            6 => {
                let (offset, flags) = (usize::from(body.get(12)? >> 4) * 4, *body.get(13)?);
                let names = [(2, "SYN"), (1, "FIN"), (4, "RST"), (16, "ACK"), (8, "PSH")];
                let flags: Vec<_> = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
                format!(
                    "TCP {} > {} {} seq {} ack {} {}{}",
                    port(0)?,
                    port(2)?,
                    flags.join("+"),
                    word(4)?,
                    word(8)?,
                    text(body.get(offset..)?),
                    sum()
                )
            }
            132 => {
                let mut bytes = body.to_vec();
                bytes.get_mut(8..12)?.fill(0);
                let sum = if crc32c(&bytes).to_le_bytes() == *body.get(8..12)? { "" } else { ", WRONG CHECKSUM" };
                format!("SCTP {} > {} {}{sum}", port(0)?, port(2)?, hex(body.get(12..)?))
            }
            1 | 58 => {
                let (kind, code) = (*body.first()?, *body.get(1)?);
                match (protocol, kind) {
                    (1, 0 | 8) | (58, 128 | 129) => {
                        let what = if matches!(kind, 8 | 128) { "request" } else { "reply" };
                        format!("echo {what} id {} {}{}", port(4)?, text(body.get(8..)?), sum())
                    }
                    _ => {
                        let quoted = body.get(8..)?;
                        let about = self.shown(quoted);
                        format!("ICMP {kind}/{code} {:#x} about [{about}]{}", word(4)?, sum())
                    }
                }
            }
            _ => return None,
        })
    }

    fn name(&self, address: IpAddr) -> String {
        let known = self.addresses.iter().find(|(_, known)| **known == address);
        known.map_or_else(|| address.to_string(), |(place, _)| format!("{place:?}"))
    }

    fn port_name(&self, port: u16) -> String {
        let known = self.ports.iter().find(|(_, known)| **known == port);
        known.map_or_else(|| port.to_string(), |(name, _)| format!("{name}={port}"))
    }
}

/// Source and destination.
type Addresses = (IpAddr, IpAddr);

fn fragment(more: bool, offset: u16) -> String {
    match (offset, more) {
        (0, false) => String::new(),
        (0, true) => ", first fragment".into(),
        (_, true) => format!(", fragment at offset {offset}"),
        (_, false) => format!(", last fragment at offset {offset}"),
    }
}

/// Data as text where it is text, and not too much of it.
fn text(data: &[u8]) -> String {
    let end = data.len().min(24);
    format!("{:?} ({} bytes)", String::from_utf8_lossy(&data[..end]), data.len())
}

/// Bytes, not too many.
pub fn hex(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > 64 { format!("{shown}... ({} bytes)", bytes.len()) } else { shown }
}

impl Scene {
    /// Is it a packet from or to that address?
    pub fn concerns(&self, packet: &[u8], address: IpAddr) -> bool {
        let addresses = match self.family {
            V4 => self.ipv4(packet).map(|fields| fields.0),
            V6 => self.ipv6(packet).map(|fields| fields.0),
        };
        addresses.is_some_and(|(source, destination)| source == address || destination == address)
    }
}
