//! A TCP connection as a sequence: each segment is sent at one side and arrives at the other.

use crate::packet::*;
use crate::sequence::Sequence;

/// A connection, and the sequence that it has made so far.
pub struct Connection {
    sequence: Sequence,
    /// A segment as the client sends it, and as the server sees it; flags, numbers and data are put in.
    client: [Packet; 2],
    /// The same of what the server sends.
    server: [Packet; 2],
    /// The next numbers of client and server.
    next: [u32; 2],
}

impl Connection {
    /// From container A, with its port kept.
    pub fn out(sequence: Sequence) -> Self {
        Self::between(sequence, &tcp(A, 20000, Far, 80, 0), &tcp(Public, 20000, Far, 80, 0))
    }

    /// To the published port of container A.
    pub fn published(sequence: Sequence) -> Self {
        Self::between(sequence, &tcp(Far, 30000, Public, 8080, 0), &tcp(Far, 30000, A, 80, 0))
    }

    /// With segments of the client like `sent` that arrive like `seen`.
    pub fn between(sequence: Sequence, sent: &Packet, seen: &Packet) -> Self {
        let server = [seen.answer(""), sent.answer("")];
        Self {
            sequence,
            client: [sent.clone(), seen.hop()],
            server: [server[0].clone(), server[1].hop()],
            next: [1_000_000, 7_000_000],
        }
    }

    /// The client's next segment, an ACK unless it is changed: as it is sent, and as it arrives.
    pub fn of_client(&self, change: impl Fn(&mut Segment)) -> [Packet; 2] {
        let [sequence, acknowledged] = self.next;
        self.client.each_ref().map(|packet| with_numbers(packet, sequence, acknowledged, &change))
    }

    /// The server's next segment.
    pub fn of_server(&self, change: impl Fn(&mut Segment)) -> [Packet; 2] {
        let [acknowledged, sequence] = self.next;
        self.server.each_ref().map(|packet| with_numbers(packet, sequence, acknowledged, &change))
    }

    /// The client sends a segment, and it arrives.
    pub fn client(mut self, change: impl Fn(&mut Segment)) -> Self {
        let [sent, seen] = self.of_client(change);
        self.next[0] = end(&sent);
        self.then(|sequence| sequence.sends(&sent).arrives(&seen))
    }

    /// The server sends a segment, and it arrives.
    pub fn server(mut self, change: impl Fn(&mut Segment)) -> Self {
        let [sent, seen] = self.of_server(change);
        self.next[1] = end(&sent);
        self.then(|sequence| sequence.sends(&sent).arrives(&seen))
    }

    /// Both send a segment before either arrives.
    pub fn cross(mut self, change: impl Fn(&mut Segment)) -> Self {
        let ([there, there_seen], [back, back_seen]) = (self.of_client(&change), self.of_server(&change));
        self.next = [end(&there), end(&back)];
        self.then(|sequence| sequence.sends(&there).sends(&back).arrives(&there_seen).arrives(&back_seen))
    }

    /// The three segments that open it.
    pub fn open(self) -> Self {
        self.client(|segment| segment.flags = SYN).server(|segment| segment.flags = SYN | ACK).client(|_| ())
    }

    /// Data both ways, acknowledged.
    pub fn talk(self) -> Self {
        self.client(|segment| segment.data = b"question".to_vec())
            .server(|segment| segment.data = b"answer".to_vec())
            .client(|_| ())
    }

    /// The client closes, then the server, and the client acknowledges.
    pub fn close(self) -> Self {
        self.client(|segment| segment.flags = FIN | ACK).server(|segment| segment.flags = FIN | ACK).client(|_| ())
    }

    /// The ends have forgotten it, and begin a new one on the same ports.
    pub fn restart(self) -> Self {
        self.life(1)
    }

    /// Numbers that are as much later as those of so many connections later.
    pub fn life(mut self, number: u32) -> Self {
        self.next = self.next.map(|next| next.wrapping_add(number.wrapping_mul(0x1000_0000)));
        self
    }

    /// What is no segment of it.
    pub fn then(mut self, steps: impl FnOnce(Sequence) -> Sequence) -> Self {
        self.sequence = steps(self.sequence);
        self
    }

    /// What several connections do.
    pub fn and(self, more: impl FnOnce(Self) -> Self) -> Self {
        more(self)
    }

    /// The sequence.
    pub fn done(self) -> Sequence {
        self.sequence
    }
}

fn with_numbers(like: &Packet, sequence: u32, acknowledged: u32, change: &impl Fn(&mut Segment)) -> Packet {
    like.segment(|segment| {
        (segment.sequence, segment.acknowledged, segment.flags) = (sequence, acknowledged, ACK);
        change(segment);
        if segment.flags & ACK == 0 {
            segment.acknowledged = 0;
        }
    })
}

/// The number behind the last one of a segment.
fn end(packet: &Packet) -> u32 {
    match &packet.body {
        Body::Tcp { segment, .. } => segment.end(),
        body => panic!("{body:?} is no TCP segment"),
    }
}
