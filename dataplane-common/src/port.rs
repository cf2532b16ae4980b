//! Which port a translated flow gets (RFC 6056 §3.3.3, RFC 4787 REQ-1 to REQ-3).
//!
//! The first candidate is the container's own port where it lies in the pool, else a keyed hash of the inside address and
//! port: the same for every destination, so the mapping is endpoint-independent while nothing clashes, and unpredictable
//! from outside. On a clash a random one, then the next ones.

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

    /// What a host with the ephemeral ports `first..=last` (`net.ipv4.ip_local_port_range`) can spare: 10000 and up, without them.
    pub fn around(first: u16, last: u16) -> Self {
        const LOWEST: u16 = 10_000;
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

    /// The port for the given try, counted from 0: the inside port or its hash, then a random one, then the next ones.
    #[inline(always)]
    pub fn candidate(&self, attempt: u32, inside: u16, hash: u32, random: u32) -> u16 {
        match attempt {
            0 if self.contains(inside) => inside,
            0 => self.at(hash),
            _ => self.at(random.wrapping_add(attempt)),
        }
    }
}

/// The keyed hash of an inside address and port.
#[inline(always)]
pub fn hash<A: Address>(secret: [u64; 2], protocol: Protocol, inside: A, port: u16) -> u32 {
    let block = u64::from(inside.fold()) << 32 | u64::from(port) << 8 | u64::from(protocol.0);
    siphash(secret, [block])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::V4;
    use proptest::prelude::*;

    #[test]
    fn the_usual_pool_leaves_the_ephemeral_ports_alone() {
        let pool = Pool::around(32768, 60999);
        assert_eq!(pool.len(), (32768 - 10000) + (65535 - 60999));
        for port in [10000, 32767, 61000, 65535] {
            assert!(pool.contains(port), "{port}");
        }
        for port in [0, 80, 9999, 32768, 60999] {
            assert!(!pool.contains(port), "{port}");
        }
    }

    #[test]
    fn odd_ephemeral_ranges_never_overlap_the_pool() {
        for (first, last) in [(1024, 65535), (1024, 5000), (10000, 65535), (65535, 65535), (5000, 9000)] {
            let pool = Pool::around(first, last);
            for index in 0..pool.len() {
                let port = pool.at(index);
                assert!(!(first..=last).contains(&port) && port >= 10_000, "{first}-{last} gives {port}");
            }
        }
    }

    #[test]
    fn the_first_candidate_keeps_the_inside_port() {
        let pool = Pool::around(32768, 60999);
        assert_eq!(pool.candidate(0, 20000, 7, 9), 20000);
        assert_eq!(pool.candidate(0, 40000, 7, 9), pool.at(7));
        assert_eq!(pool.candidate(1, 20000, 7, 9), pool.at(10));
    }

    proptest! {
        #[test]
        fn every_candidate_lies_in_the_pool(attempt in 0..TRIES, inside: u16, hash: u32, random: u32) {
            let pool = Pool::around(32768, 60999);
            prop_assert!(pool.contains(pool.candidate(attempt, inside, hash, random)));
        }

        #[test]
        fn the_hash_does_not_depend_on_the_destination(secret: [u64; 2], inside: u32, port: u16) {
            prop_assert_eq!(
                hash(secret, Protocol::UDP, V4(inside), port),
                hash(secret, Protocol::UDP, V4(inside), port)
            );
        }
    }
}
