//! What a flow remembers of TCP: for each direction the flags seen (RFC 9293 §3.1) and how far its sequence numbers have come, so
//! that nobody who does not see the connection can end it (RFC 5961). Pure; windows are not tracked.

/// TCP control bits as they lie in byte 13 of the header.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// The acknowledgment field is significant.
    pub const ACK: Self = Self(0x10);

    const TRACKED: u8 = Self::FIN.0 | Self::SYN.0 | Self::RST.0 | Self::ACK.0;

    /// Are all bits of `other` set?
    #[inline(always)]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// May this segment open a connection? A SYN, and none of ACK, RST, FIN.
    #[inline(always)]
    pub fn opens(self) -> bool {
        self.0 & Self::TRACKED == Self::SYN.0
    }

    /// The bits that a flow remembers.
    #[inline(always)]
    #[must_use]
    pub fn tracked(self) -> Self {
        Self(self.0 & Self::TRACKED)
    }
}

/// Sequence numbers further ahead than this are not believed: more than any sender has in flight, and a small part of what
/// somebody who guesses would have to try.
const REACH: u32 = 1 << 26;

/// A segment, as far as its direction's progress goes.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its control bits.
    pub flags: Flags,
    /// Its sequence number.
    pub sequence: u32,
    /// The sequence number behind it.
    pub end: u32,
    /// Its acknowledgment number.
    pub acknowledgment: u32,
}

/// What has been seen of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// All control bits.
    pub flags: Flags,
    /// The sequence number that should come next (SND.NXT).
    pub next: u32,
    /// The last acknowledgment number (RCV.NXT).
    pub acked: u32,
}

impl Progress {
    /// The progress after a segment of this direction. Its FIN or RST counts only if it fits what both directions have
    /// shown; `other` tells what the other one has.
    #[inline(always)]
    #[must_use]
    pub fn after(self, segment: &Segment, other: impl FnOnce() -> Self) -> Self {
        let mut flags = segment.flags.tracked();
        if flags.0 & (Flags::FIN.0 | Flags::RST.0) != 0 && !self.may_end(segment, other()) {
            flags = Flags(flags.0 & !(Flags::FIN.0 | Flags::RST.0));
        }
        let mut after = self;
        if self.flags.0 == 0 || segment.end.wrapping_sub(self.next) < REACH {
            after.next = segment.end;
        }
        if segment.flags.has(Flags::ACK)
            && (!self.flags.has(Flags::ACK) || segment.acknowledgment.wrapping_sub(self.acked) < REACH)
        {
            after.acked = segment.acknowledgment;
        }
        after.flags = Flags(self.flags.0 | flags.0);
        after
    }

    /// May this segment close or reset the connection, or is it a stranger's guess?
    #[inline(always)]
    fn may_end(self, segment: &Segment, other: Self) -> bool {
        if !segment.flags.has(Flags::RST) {
            // Segments before the FIN may have been lost on the way here.
            let base = if other.flags.has(Flags::ACK) { other.acked } else { self.next };
            return segment.end.wrapping_sub(base).wrapping_add(REACH) < 2 * REACH;
        }
        if self.flags.0 == 0 {
            // A SYN is refused (RFC 9293 §3.10.7.3).
            return segment.flags.has(Flags::ACK) && segment.acknowledgment == other.next;
        }
        if !other.flags.has(Flags::ACK) {
            return segment.sequence == self.next;
        }
        // Between what the receiver has told that it expects and what the sender has sent (RFC 5961 §3.2).
        segment.sequence.wrapping_sub(other.acked) <= self.next.wrapping_sub(other.acked)
    }

    /// Does this segment of the other direction acknowledge what has been sent in this one? Then its sender has seen it.
    #[inline(always)]
    pub fn is_acknowledged_by(self, segment: &Segment) -> bool {
        self.flags.has(Flags::SYN)
            && segment.flags.has(Flags::ACK)
            && !segment.flags.has(Flags::SYN)
            && segment.acknowledgment == self.next
    }
}

/// Where a connection stands, from the flags seen in the original and the reply direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Only the SYN has been seen.
    SynSent,
    /// The SYN was answered, the handshake is not complete.
    SynReceived,
    /// Open, or half closed: the other side may send for as long as it likes.
    Established,
    /// Both sides have sent FIN.
    Closing,
    /// A RST was seen; kept for a moment, since it may be spurious.
    Reset,
}

impl State {
    /// The state after `original` and `reply` flags have been seen.
    pub fn of(original: Flags, reply: Flags) -> Self {
        if original.has(Flags::RST) || reply.has(Flags::RST) {
            Self::Reset
        } else if original.has(Flags::FIN) && reply.has(Flags::FIN) {
            Self::Closing
        } else if original.has(Flags::ACK) && reply.0 != 0 {
            Self::Established
        } else if reply.0 != 0 {
            Self::SynReceived
        } else {
            Self::SynSent
        }
    }

    /// May a new SYN of the same tuple take the flow over?
    pub fn may_be_reopened(self) -> bool {
        matches!(self, Self::Closing | Self::Reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(all: &[Flags]) -> Flags {
        Flags(all.iter().fold(0, |bits, flag| bits | flag.0))
    }

    #[test]
    fn only_a_plain_syn_opens() {
        assert!(Flags::SYN.opens());
        assert!(Flags(Flags::SYN.0 | 0xc0).opens(), "ECN bits do not matter (RFC 3168 §6.1.1)");
        for other in [Flags::ACK, Flags::RST, Flags::FIN] {
            assert!(!flags(&[Flags::SYN, other]).opens());
            assert!(!other.opens());
        }
        assert!(!Flags::default().opens());
    }

    #[test]
    fn a_connection_walks_through_its_states() {
        let syn = Flags::SYN;
        let syn_ack = flags(&[Flags::SYN, Flags::ACK]);
        let open = flags(&[Flags::SYN, Flags::ACK]);
        let fin = flags(&[Flags::SYN, Flags::ACK, Flags::FIN]);
        assert_eq!(State::of(syn, Flags::default()), State::SynSent);
        assert_eq!(State::of(syn, syn_ack), State::SynReceived);
        assert_eq!(State::of(open, syn_ack), State::Established);
        assert_eq!(State::of(fin, open), State::Established, "half closed");
        assert_eq!(State::of(fin, fin), State::Closing);
        assert_eq!(State::of(flags(&[fin, Flags::RST]), open), State::Reset);
    }

    const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);
    const RST_ACK: Flags = Flags(Flags::RST.0 | Flags::ACK.0);

    fn segment(flags: Flags, sequence: u32, len: u32, acknowledgment: u32) -> Segment {
        Segment { flags, sequence, end: sequence.wrapping_add(len), acknowledgment }
    }

    /// A handshake between sequence numbers close to where they wrap, and 1000 bytes from the client, 500 of them acknowledged.
    fn open() -> (Progress, Progress) {
        let isn = u32::MAX - 100;
        let mut client = Progress::default();
        let mut server = Progress::default();
        client = client.after(&segment(Flags::SYN, isn, 1, 0), || server);
        server = server.after(&segment(SYN_ACK, 7000, 1, isn + 1), || client);
        client = client.after(&segment(Flags::ACK, isn + 1, 0, 7001), || server);
        client = client.after(&segment(Flags::ACK, isn + 1, 1000, 7001), || server);
        server = server.after(&segment(Flags::ACK, 7001, 0, isn.wrapping_add(501)), || client);
        (client, server)
    }

    #[test]
    fn progress_follows_a_connection_around_the_end_of_the_numbers() {
        let (client, server) = open();
        assert_eq!((client.next, client.acked), (900, 7001));
        assert_eq!((server.next, server.acked), (7001, 400));
    }

    #[test]
    fn a_reset_counts_only_where_it_fits() {
        let (client, server) = open();
        for (sequence, counts) in
            [(400, true), (900, true), (600, true), (399, false), (901, false), (0x7fff_0000, false)]
        {
            let after = client.after(&segment(Flags::RST, sequence, 0, 0), || server);
            assert_eq!(after.flags.has(Flags::RST), counts, "{sequence}");
        }
    }

    #[test]
    fn a_refusal_must_acknowledge_the_syn() {
        let client = Progress::default().after(&segment(Flags::SYN, 5, 1, 0), Progress::default);
        let refused = |acknowledgment| {
            Progress::default().after(&segment(RST_ACK, 0, 0, acknowledgment), || client).flags.has(Flags::RST)
        };
        assert!(refused(6) && !refused(5) && !refused(99));
    }

    #[test]
    fn a_guessed_syn_or_segment_moves_nothing() {
        let (client, server) = open();
        for guess in [segment(Flags::SYN, 0x8000_0000, 1, 0), segment(Flags::ACK, 0x4000_0000, 10, 0x4000_0000)] {
            let after = client.after(&guess, || server);
            assert_eq!((after.next, after.acked), (client.next, client.acked));
        }
        let fin = segment(Flags(Flags::FIN.0 | Flags::ACK.0), 0x4000_0000, 1, 7001);
        assert!(!client.after(&fin, || server).flags.has(Flags::FIN));
    }

    #[test]
    fn a_fin_counts_even_if_something_before_it_was_lost() {
        let (client, server) = open();
        let fin = segment(Flags(Flags::FIN.0 | Flags::ACK.0), 900 + 3000, 1, 7001);
        assert!(client.after(&fin, || server).flags.has(Flags::FIN));
    }

    #[test]
    fn only_the_right_acknowledgment_proves_that_the_answer_was_seen() {
        let client = Progress::default().after(&segment(Flags::SYN, 5, 1, 0), Progress::default);
        let server = Progress::default().after(&segment(SYN_ACK, 7000, 1, 6), || client);
        assert!(server.is_acknowledged_by(&segment(Flags::ACK, 6, 0, 7001)));
        assert!(!server.is_acknowledged_by(&segment(Flags::ACK, 6, 0, 7002)));
        assert!(!Progress::default().is_acknowledged_by(&segment(Flags::ACK, 6, 0, 0)));
    }
}
