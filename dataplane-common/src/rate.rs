//! How fast one client may open flows to a published port: a token bucket for each client and port.
//!
//! A bucket is one point in time, the one at which it will be full again (the virtual scheduling algorithm of ITU-T I.371
//! annex A.1): to take a token moves it on by what one token takes to come back. So a bucket needs no sweeping, and two CPUs
//! that meet in one can lose a token, but never break it.

use crate::address::{Address, AnyAddress};

/// Key of `CLIENTS`: who opens flows, and to which port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientKey {
    /// The client: an IPv4 address, or the first 64 bits of an IPv6 address, since whoever has one of its addresses has all.
    pub client: AnyAddress,
    /// The port's slot ([`crate::layout::Published::slot`]).
    pub port: u32,
}

/// Value of `CLIENTS`: one client's bucket for one port. It holds as many tokens as come back in a second.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket {
    /// When it will be full again, or has been since: nanoseconds since boot.
    pub full_at: u64,
}

const _: () = assert!(size_of::<ClientKey>() == 20 && size_of::<Bucket>() == 8);

const SECOND: u64 = 1_000_000_000;

impl ClientKey {
    /// The key of a packet's source address.
    #[inline(always)]
    pub fn of<A: Address>(source: A, port: u32) -> Self {
        let AnyAddress([a, b, c, d]) = source.any();
        Self { client: if A::IS_V6 { AnyAddress([a, b, 0, 0]) } else { AnyAddress([a, b, c, d]) }, port }
    }
}

impl Bucket {
    /// Is there no token left at `now`, where `rate` of them come back in a second?
    #[inline(always)]
    pub fn is_empty(self, now: u64, rate: u32) -> bool {
        let token = token(rate);
        self.full_at.saturating_sub(now) + token > u64::from(rate) * token
    }

    /// The bucket after a token was taken.
    #[inline(always)]
    #[must_use]
    pub fn less_one(self, now: u64, rate: u32) -> Self {
        Self { full_at: self.full_at.max(now) + token(rate) }
    }
}

/// How long a token takes to come back, nanoseconds; `rate` is not 0.
#[inline(always)]
fn token(rate: u32) -> u64 {
    // The verifier knows that a division by zero gives zero; the host's processor does not.
    (SECOND / u64::from(rate.max(1))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{V4, V6};
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    /// Takes a token if there is one.
    fn take(bucket: &mut Bucket, now: u64, rate: u32) -> bool {
        let taken = !bucket.is_empty(now, rate);
        if taken {
            *bucket = bucket.less_one(now, rate);
        }
        taken
    }

    #[test]
    fn a_second_s_worth_at_once_and_then_one_by_one() {
        let (mut bucket, now) = (Bucket::default(), 5 * SECOND);
        for _ in 0..10 {
            assert!(take(&mut bucket, now, 10));
        }
        assert!(!take(&mut bucket, now, 10));
        assert!(!take(&mut bucket, now + SECOND / 10 - 1, 10));
        assert!(take(&mut bucket, now + SECOND / 10, 10));
        assert!(!take(&mut bucket, now + SECOND / 10, 10));
        // Full again, and no fuller.
        let taken = (0..100).filter(|_| take(&mut bucket, now + 100 * SECOND, 10)).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn one_in_a_second() {
        let mut bucket = Bucket::default();
        assert!(take(&mut bucket, SECOND, 1));
        assert!(!take(&mut bucket, 2 * SECOND - 1, 1));
        assert!(take(&mut bucket, 2 * SECOND, 1));
    }

    #[test]
    fn an_ipv6_client_is_its_first_64_bits_and_never_an_ipv4_client() {
        let v6 = |text: &str| ClientKey::of::<V6>(text.parse::<Ipv6Addr>().unwrap().into(), 1);
        let v4 = |text: &str| ClientKey::of::<V4>(text.parse::<Ipv4Addr>().unwrap().into(), 1);
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_ne!(v4("192.0.2.1"), v4("192.0.2.2"));
        assert_ne!(v4("192.0.2.1"), v6("::1"));
    }

    proptest! {
        /// Whatever the times between them, no second sees more than two seconds' worth, and the long run no more than the rate.
        #[test]
        fn the_rate_holds(rate in 1..2000_u32, gaps in prop::collection::vec(0..50_000_000_u64, 1..2000)) {
            let (mut bucket, mut now, start) = (Bucket::default(), SECOND, SECOND);
            let mut taken = 0;
            for gap in gaps {
                now += gap;
                taken += u64::from(take(&mut bucket, now, rate));
                let allowed = u64::from(rate) + (now - start) / token(rate);
                prop_assert!(taken <= allowed, "{taken} of {allowed}");
            }
        }

        /// Who keeps to the rate is never refused.
        #[test]
        fn who_keeps_to_it_is_never_refused(rate in 1..2000_u32, jitter in prop::collection::vec(0..1_000_u64, 1..500)) {
            let (mut bucket, mut now) = (Bucket::default(), SECOND);
            for jitter in jitter {
                prop_assert!(take(&mut bucket, now, rate));
                now += token(rate) + jitter;
            }
        }

        #[test]
        fn no_rate_and_no_time_overflows(full_at in 0..u64::MAX / 2, now in 0..u64::MAX / 2, rate in 1..=u32::MAX) {
            let mut bucket = Bucket { full_at };
            take(&mut bucket, now, rate);
        }
    }
}
