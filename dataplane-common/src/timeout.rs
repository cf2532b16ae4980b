//! How long a flow lives without a packet. RFC 5382 REQ-5 (TCP), RFC 4787 REQ-5 (UDP), RFC 5508 REQ-2 (ICMP).

use crate::{
    Address, Flow, FlowKey,
    tcp::{Flags, State},
    tuple::Protocol,
};

/// Where name servers listen.
const DNS: u16 = 53;

/// Is nothing more to be expected of a flow, so that it is the first to go where room is short? A TCP connection that both sides have
/// closed, or that was reset: a new SYN would take it over at once. And questions to a name server that were all answered (RFC 4787
/// REQ-5a).
pub fn is_over<A: Address>(key: &FlowKey<A>, original: &Flow<A>, reply: &Flow<A>) -> bool {
    let (asked, answered, tuple) = (original.packets, reply.packets, key.tuple);
    match key.protocol {
        Protocol::TCP => State::of(original.seen, reply.seen).may_be_reopened(),
        Protocol::UDP => tuple.destination_port.get() == DNS && answered > 0 && answered >= asked,
        _ => false,
    }
}

/// Idle times in seconds after which a flow is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// TCP: only the SYN was seen.
    pub tcp_syn_sent: u32,
    /// TCP: the SYN was answered, but not acknowledged.
    pub tcp_syn_received: u32,
    /// TCP: open or half closed.
    pub tcp_established: u32,
    /// TCP: both sides have closed.
    pub tcp_closing: u32,
    /// TCP: a RST was seen.
    pub tcp_reset: u32,
    /// UDP without an answer.
    pub udp_unanswered: u32,
    /// UDP with an answer.
    pub udp_answered: u32,
    /// ICMP echo and all other protocols.
    pub other: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_sent: 30,
            tcp_syn_received: 60,
            tcp_established: 7440,
            tcp_closing: 30,
            tcp_reset: 10,
            udp_unanswered: 30,
            udp_answered: 300,
            other: 60,
        }
    }
}

impl Timeouts {
    /// A flow of `protocol` that was used no longer ago is alive, whatever is known of it.
    pub fn shortest(&self, protocol: Protocol) -> u32 {
        let open = self.tcp_syn_sent.min(self.tcp_syn_received).min(self.tcp_established);
        match protocol {
            Protocol::TCP => open.min(self.tcp_closing).min(self.tcp_reset),
            Protocol::UDP => self.udp_answered.min(self.udp_unanswered),
            _ => self.other,
        }
    }

    /// The idle time in seconds allowed to a flow of `protocol` with these TCP flags seen, answered or not.
    pub fn of(&self, protocol: Protocol, original: Flags, reply: Flags, answered: bool) -> u32 {
        match protocol {
            Protocol::TCP => match State::of(original, reply) {
                State::SynSent => self.tcp_syn_sent,
                State::SynReceived => self.tcp_syn_received,
                State::Established => self.tcp_established,
                State::Closing => self.tcp_closing,
                State::Reset => self.tcp_reset,
            },
            Protocol::UDP if answered => self.udp_answered,
            Protocol::UDP => self.udp_unanswered,
            _ => self.other,
        }
    }
}
