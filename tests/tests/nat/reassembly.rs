//! Puts fragments together again as the far side would, and notices what it would be confused by.

use std::collections::BTreeMap;

use spandrel_tests::{Family, V4, V6};

use crate::packet::checksum;

/// The fragments that one end has received so far, by addresses, protocol and identification.
#[derive(Default)]
pub struct Reassembly {
    datagrams: BTreeMap<Vec<u8>, Datagram>,
}

/// Fragments of one datagram.
#[derive(Default)]
struct Datagram {
    /// The IP header of the first one that came, as it would be without fragments.
    header: Vec<u8>,
    pieces: BTreeMap<usize, Vec<u8>>,
    /// Where it ends, as the last fragment tells.
    end: Option<usize>,
}

impl Reassembly {
    /// Takes a packet, and gives the datagram that is whole with it: a packet that is no fragment, as it is; otherwise with
    /// an identification of zero, which every translator chooses anew.
    pub fn add(&mut self, family: Family, packet: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Some(piece) = (match family {
            V4 => Piece::of_v4(packet),
            V6 => Piece::of_v6(packet),
        }) else {
            return Ok(Some(without_id(family, packet)));
        };
        let datagram = self.datagrams.entry(piece.key.clone()).or_default();
        if datagram.header.is_empty() {
            datagram.header = piece.header;
        } else if datagram.header != piece.header {
            return Err("fragments of one datagram have different IP headers".to_owned());
        }
        let end = piece.offset + piece.data.len();
        if piece.last {
            datagram.end = Some(end);
        } else if piece.data.len() % 8 != 0 {
            return Err("a fragment that is not the last has no multiple of eight bytes".to_owned());
        }
        let clash = |(start, data): (&usize, &Vec<u8>)| *start < end && piece.offset < start + data.len();
        if datagram.pieces.iter().any(clash) {
            return Err(
                "fragments overlap: what belongs to two datagrams, or was sent twice, has one identification".into()
            );
        }
        datagram.pieces.insert(piece.offset, piece.data);
        if datagram.pieces.values().map(Vec::len).sum::<usize>() != datagram.end.unwrap_or(usize::MAX) {
            return Ok(None);
        }
        let datagram = self.datagrams.remove(&piece.key).unwrap_or_default();
        let data: Vec<u8> = datagram.pieces.into_values().flatten().collect();
        Ok(Some(joined(family, datagram.header, &data)))
    }

    /// How many datagrams are incomplete.
    pub fn incomplete(&self) -> usize {
        self.datagrams.len()
    }
}

/// A fragment.
struct Piece {
    key: Vec<u8>,
    header: Vec<u8>,
    offset: usize,
    last: bool,
    data: Vec<u8>,
}

impl Piece {
    fn of_v4(packet: &[u8]) -> Option<Self> {
        let header = packet.get(..20)?;
        let flags = u16::from_be_bytes([header[6], header[7]]);
        if flags & 0x3fff == 0 {
            return None;
        }
        let key = [&header[4..6], &header[9..10], &header[12..20]].concat();
        let len = usize::from(header[0] & 15) * 4;
        Some(Self {
            key,
            header: plain(packet.get(..len)?),
            offset: usize::from(flags & 0x1fff) * 8,
            last: flags & 0x2000 == 0,
            data: packet.get(len..)?.to_vec(),
        })
    }

    /// A fragment whose fragment header is its only extension header, or the last of them.
    fn of_v6(packet: &[u8]) -> Option<Self> {
        let (mut at, mut next, mut len) = (6, *packet.get(6)?, 40);
        while matches!(next, 0 | 43 | 60) {
            (at, next, len) = (len, *packet.get(len)?, len + 8 + usize::from(*packet.get(len + 1)?) * 8);
        }
        let fragment = packet.get(len..len + 8).filter(|_| next == 44)?;
        let offset = u16::from_be_bytes([fragment[2], fragment[3]]);
        let mut header = packet[..len].to_vec();
        header[at] = fragment[0];
        header[4..6].fill(0);
        Some(Self {
            key: [&packet[8..40], &fragment[..1], &fragment[4..8]].concat(),
            header,
            offset: usize::from(offset & !7),
            last: offset & 1 == 0,
            data: packet[len + 8..].to_vec(),
        })
    }
}

/// An IPv4 header without identification, length, place of the fragment, and checksum; the checksum must be right.
fn plain(header: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    let right = checksum(&header) == 0;
    header[2..8].fill(0);
    header[10..12].copy_from_slice(if right { &[0, 0] } else { &[0xff, 0xff] });
    header
}

/// A whole packet from a header and data.
fn joined(family: Family, mut header: Vec<u8>, data: &[u8]) -> Vec<u8> {
    match family {
        V4 => {
            let total = ((header.len() + data.len()) as u16).to_be_bytes();
            header[2..4].copy_from_slice(&total);
            if header[10..12] == [0, 0] {
                let sum = checksum(&header).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
            }
        }
        V6 => {
            let total = ((header.len() - 40 + data.len()) as u16).to_be_bytes();
            header[4..6].copy_from_slice(&total);
        }
    }
    header.extend_from_slice(data);
    header
}

/// A packet that is no fragment with an identification of zero.
pub fn without_id(family: Family, packet: &[u8]) -> Vec<u8> {
    if family == V6 || packet.len() < 20 {
        return packet.to_vec();
    }
    let len = usize::from(packet[0] & 15) * 4;
    joined(V4, plain(&packet[..len]), &packet[len..])
}
