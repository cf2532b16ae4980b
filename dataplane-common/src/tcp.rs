//! What a flow remembers of TCP: the flags seen in each direction (RFC 9293 §3.1). Pure; sequence numbers are not tracked.

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
}
