//! Which port a translated flow gets (RFC 6056 §3.3.3, RFC 4787 REQ-1 to REQ-3).
//!
//! The first candidate is the container's own port where it lies in the pool, else that port moved on by a keyed hash of the inside
//! address: the same for every destination, so the mapping is endpoint-independent while nothing clashes, and unpredictable
//! from outside. The second one, half the pool further on, is as constant.
//!
//! Ports of one container are kept apart from each other, be their flows over or not. A hash of the port as well would bring them together by
//! chance, and so would a random second try: into what a server still remembers of another one's connection (TIME-WAIT), where it refuses
//! timestamps that are behind (RFC 7323 §5.3).

use crate::{address::Address, siphash::siphash, tuple::Protocol};

/// How many ports are tried before a flow is refused.
pub const TRIES: u32 = 32;

/// The ports that may be given out: two ranges, around the host's ephemeral ports. Bounds are inclusive, host byte order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pool {
    /// First port of the lower range.
    pub low_first: u16,
    /// Number of ports in the lower range.
    pub low_count: u16,
    /// First port of the upper range.
    pub high_first: u16,
    /// Number of ports in the upper range.
    pub high_count: u16,
}

impl Pool {
    /// Every identifier of an ICMP echo.
    pub const IDENTIFIERS: Self = Self { low_first: 0, low_count: 0x8000, high_first: 0x8000, high_count: 0x8000 };

    /// What a host with the ephemeral ports `first..=last` (`net.ipv4.ip_local_port_range`) can spare: 9000 and up, without them. These are, if
    /// the range is the usual one, as many as a container has ephemeral ports: each has one to itself.
    pub fn around(first: u16, last: u16) -> Self {
        const LOWEST: u16 = 9000;
        Self {
            low_first: LOWEST,
            low_count: first.saturating_sub(LOWEST),
            high_first: last.saturating_add(1).max(LOWEST),
            high_count: if last == u16::MAX { 0 } else { u16::MAX - last.max(LOWEST - 1) },
        }
    }

    /// How many ports there are.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.low_count as u32 + self.high_count as u32
    }

    /// Is there none?
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The port at `index`, counted through both ranges and round.
    #[inline(always)]
    pub fn at(&self, index: u32) -> u16 {
        let index = if self.is_empty() { 0 } else { index % self.len() };
        let low = self.low_count as u32;
        if index < low {
            self.low_first.wrapping_add(index as u16)
        } else {
            self.high_first.wrapping_add((index - low) as u16)
        }
    }

    /// Is `port` in the pool?
    #[inline(always)]
    pub fn contains(&self, port: u16) -> bool {
        port.wrapping_sub(self.low_first) < self.low_count || port.wrapping_sub(self.high_first) < self.high_count
    }

    /// The port for the given try, counted from 0: the inside port, or that port moved on by `offset`; one that is half the pool further on,
    /// behind any block of published ports, and of the other parity, since Linux connects from ports of one; then a random one, then
    /// the next ones.
    #[inline(always)]
    pub fn candidate(&self, attempt: u32, inside: u16, offset: u16, random: u32) -> u16 {
        match attempt {
            0 if self.contains(inside) => inside,
            0 | 1 => self.at(u32::from(offset) + u32::from(inside) + attempt * ((self.len() / 2) | 1)),
            _ => self.at(random.wrapping_add(attempt)),
        }
    }
}

/// By how much an inside address's ports are moved on in the pool: a keyed hash. Even, so that the parity stays where the pool's bounds
/// are even, as they usually are (RFC 4787 REQ-4).
#[inline(always)]
pub fn offset<A: Address>(secret: [u64; 2], protocol: Protocol, inside: A) -> u16 {
    let block = u64::from(inside.fold()) << 8 | u64::from(protocol.0);
    siphash(secret, [block]) as u16 & !1
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::V4;
    use proptest::prelude::*;

    #[test]
    fn the_usual_pool_leaves_the_ephemeral_ports_alone() {
        let pool = Pool::around(32768, 60999);
        assert_eq!(pool.len(), (32768 - 9000) + (65535 - 60999));
        for port in [9000, 32767, 61000, 65535] {
            assert!(pool.contains(port), "{port}");
        }
        for port in [0, 80, 8999, 32768, 60999] {
            assert!(!pool.contains(port), "{port}");
        }
    }

    #[test]
    fn odd_ephemeral_ranges_never_overlap_the_pool() {
        for (first, last) in [(1024, 65535), (1024, 5000), (10000, 65535), (65535, 65535), (5000, 9000)] {
            let pool = Pool::around(first, last);
            for index in 0..pool.len() {
                let port = pool.at(index);
                assert!(!(first..=last).contains(&port) && port >= 9000, "{first}-{last} gives {port}");
            }
        }
    }

    #[test]
    fn the_first_candidate_keeps_the_inside_port() {
        let pool = Pool::around(32768, 60999);
        assert_eq!(pool.candidate(0, 20000, 8, 9), 20000);
        assert_eq!(pool.candidate(0, 40000, 8, 9), pool.at(40008));
        assert_eq!(pool.candidate(1, 40000, 8, 9), pool.at(40008 + pool.len() / 2 + 1));
        assert_eq!(pool.candidate(2, 40000, 8, 9), pool.at(11));
    }

    proptest! {
        #[test]
        fn every_candidate_lies_in_the_pool(attempt in 0..TRIES, inside: u16, offset: u16, random: u32) {
            let pool = Pool::around(32768, 60999);
            prop_assert!(pool.contains(pool.candidate(attempt, inside, offset, random)));
        }

        #[test]
        fn ephemeral_ports_of_one_address_never_meet(secret: [u64; 2], inside: u32) {
            let pool = Pool::around(32768, 60999);
            let offset = offset(secret, Protocol::TCP, V4(inside));
            let outside: HashSet<u16> = (32768..=60999).map(|port| pool.candidate(0, port, offset, 0)).collect();
            prop_assert_eq!(outside.len(), (32768..=60999).count());
        }

        #[test]
        fn nor_do_they_where_ports_are_published(secret: [u64; 2], inside: u32, first in 9000..20000_u16) {
            let pool = Pool::around(32768, 60999);
            let offset = offset(secret, Protocol::TCP, V4(inside));
            let published = first..first + 12_000;
            let free = |port| (0..2).map(|attempt| pool.candidate(attempt, port, offset, 0)).find(|port| !published.contains(port));
            let outside: HashSet<Option<u16>> = (32768..=60999).step_by(2).map(free).collect();
            prop_assert!(!outside.contains(&None));
            prop_assert_eq!(outside.len(), (32768..=60999).step_by(2).count());
        }

        #[test]
        fn parity_is_preserved(secret: [u64; 2], inside: u32, port: u16) {
            let pool = Pool::around(32768, 60999);
            let outside = pool.candidate(0, port, offset(secret, Protocol::UDP, V4(inside)), 0);
            prop_assert_eq!(outside % 2, port % 2);
        }
    }
}
