//! How fast a container may send and receive: a token bucket for each of its interfaces and direction.
//!
//! A bucket is one point in time, as in [`crate::rate`]. It has no queue behind it: what exceeds the rate is dropped. A packet passes
//! whole as long as the bucket is not empty, and what it takes too much is missing later, so that a bucket smaller than a packet
//! still gives its rate.

/// Value of `LIMITS`, by endpoint slot: how fast an endpoint may be, from the container's point of view.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// What the container receives.
    pub ingress: Limit,
    /// What it sends.
    pub egress: Limit,
}

/// One direction's bucket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limit {
    /// When the bucket will be full again, or has been since: nanoseconds since boot.
    pub full_at: u64,
    /// How long one byte takes to come back, in nanoseconds / 2^16; 0: there is no limit.
    pub per_byte: u64,
    /// How long an empty bucket takes to be full again: nanoseconds.
    pub depth: u64,
}

const _: () = assert!(size_of::<Limits>() == 48);

const SECOND: u64 = 1_000_000_000;

/// The slowest rate, bits per second: one full-sized packet then takes twelve seconds.
pub const SLOWEST: u64 = 1000;

/// The least depth of a bucket, nanoseconds. Whoever sends by TCP and loses all that is on the way waits for 200 ms
/// (`TCP_RTO_MIN` of Linux) before it sends again, and for 400 ms the second time; a bucket that is full before could not give what it
/// has missed meanwhile.
pub const LEAST_DEPTH: u64 = 400_000_000;

/// The headers that every segment repeats, if the packet is still to be cut into segments: Ethernet, IPv4, TCP with timestamps.
const HEADERS: u64 = 14 + 20 + 32;

impl Limit {
    /// A full bucket for `rate` bits per second, at least [`SLOWEST`], that gives `burst` bits at once.
    pub fn new(rate: u64, burst: u64) -> Self {
        let rate = rate.max(SLOWEST);
        let per_byte = (u128::from(8 * SECOND) << 16) / u128::from(rate);
        let depth = u128::from(burst) * u128::from(SECOND) / u128::from(rate);
        Self {
            full_at: 0,
            per_byte: (per_byte as u64).max(1),
            depth: u64::try_from(depth).unwrap_or(u64::MAX / 2).clamp(LEAST_DEPTH, u64::MAX / 2),
        }
    }

    /// Is there a limit at all?
    #[inline(always)]
    pub fn is_set(&self) -> bool {
        self.per_byte != 0
    }

    /// Is there nothing left at `now`?
    #[inline(always)]
    pub fn is_empty(&self, now: u64) -> bool {
        self.full_at.saturating_sub(now) >= self.depth
    }

    /// How long the bytes of a packet take to come back: nanoseconds. `gso_size`: the payload of the segments into which it will be
    /// cut, or 0.
    #[inline(always)]
    pub fn cost(&self, len: u32, gso_size: u32) -> u64 {
        let len = u64::from(len);
        let repeated = match gso_size {
            0 => 0,
            size => len.saturating_sub(HEADERS + 1) / u64::from(size) * HEADERS,
        };
        (len + repeated).wrapping_mul(self.per_byte) >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends a packet if it may pass.
    fn send(limit: &mut Limit, now: u64, len: u32) -> bool {
        let passes = !limit.is_empty(now);
        if passes {
            limit.full_at = limit.full_at.max(now) + limit.cost(len, 0);
        }
        passes
    }

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        // 8 Mbit/s are a byte in a microsecond; half a second's worth at once.
        let (mut limit, now) = (Limit::new(8_000_000, 4_000_000), 5 * SECOND);
        let at_once = (0..1000).filter(|_| send(&mut limit, now, 1000)).count();
        assert_eq!(at_once, 500);
        assert!(!send(&mut limit, now, 1));
        let later = (0..1000).filter(|_| send(&mut limit, now + SECOND / 10, 1000)).count();
        assert_eq!(later, 100);
        // Full again, and no fuller.
        assert_eq!((0..1000).filter(|_| send(&mut limit, now + 100 * SECOND, 1000)).count(), 500);
    }

    #[test]
    fn a_packet_larger_than_the_bucket_passes_and_is_paid_for() {
        let (mut limit, now) = (Limit::new(8_000, 0), SECOND);
        assert!(send(&mut limit, now, 1500), "400 bytes are in the bucket");
        assert!(!send(&mut limit, now + SECOND, 1));
        assert!(send(&mut limit, now + SECOND * 6 / 5, 1));
    }

    #[test]
    fn segments_have_headers_each() {
        let limit = Limit::new(8_000_000, 0);
        assert_eq!(limit.cost(1514, 1448), 1_514_000);
        assert_eq!(limit.cost(66 + 10 * 1448, 1448), (66 + 10 * 1448 + 9 * 66) * 1000);
        assert_eq!(limit.cost(66 + 10 * 1448 + 1, 1448), (66 + 10 * 1448 + 1 + 10 * 66) * 1000);
    }

    proptest! {
        /// Whatever is sent and when, no more passes than the bucket, the rate, and the one packet that empties it.
        #[test]
        fn the_rate_holds(
            rate in 1_000..100_000_000_000_u64,
            burst in 0..1_000_000_000_u64,
            packets in prop::collection::vec((0..20_000_000_u64, 60..65_536_u32), 1..500),
        ) {
            let mut limit = Limit::new(rate, burst);
            let (start, mut now, mut passed) = (SECOND, SECOND, 0_u128);
            for (gap, len) in packets {
                now += gap;
                if send(&mut limit, now, len) {
                    passed += 8 * u128::from(len);
                }
            }
            let time = u128::from(now - start) + u128::from(limit.depth);
            let allowed = time * u128::from(rate) / u128::from(SECOND) + 8 * 65_536;
            prop_assert!(passed <= allowed + allowed / 1000, "{passed} of {allowed} bits");
        }

        /// Who keeps to the rate loses nothing.
        #[test]
        fn who_keeps_to_it_loses_nothing(rate in 1_000..100_000_000_000_u64, packets in prop::collection::vec(60..9000_u32, 1..200)) {
            let mut limit = Limit::new(rate, 0);
            let mut now = SECOND;
            for len in packets {
                prop_assert!(send(&mut limit, now, len));
                now += limit.cost(len, 0) + 1;
            }
        }

        #[test]
        fn nothing_overflows(rate: u64, burst: u64, now in 0..u64::MAX / 4, len: u32, gso_size: u32) {
            let mut limit = Limit::new(rate, burst);
            prop_assert!(limit.is_set());
            limit.cost(len, gso_size);
            send(&mut limit, now, len.min(1 << 19));
        }
    }
}
