//! Fragments (RFC 791 §3.2, RFC 8200 §4.5): what their packet's first one tells of them, and where they wait for it.
//!
//! Keys and values of the maps, and the few computations on them. IPv4 is mapped into IPv6: fragments are rare, and one set of
//! tables is less to understand than two.

use crate::{
    address::{Address, AnyAddress},
    siphash::siphash,
    tuple::{Protocol, Zone},
    wire::{Be16, Packet},
};

/// How many packets are remembered whose first fragment has passed; the oldest are forgotten.
pub const MAX_FRAGMENTED: usize = 16_384;
/// Seconds after which fragments of a packet no longer belong together: as long as Linux waits for the rest of an IPv4 packet.
pub const LIFETIME: u32 = 30;
/// How many counters there are that identifications of translated IPv4 packets are taken from.
pub const COUNTERS: usize = 4096;
/// In how many shelves fragments wait. A sender has one, and shares it with few.
pub const MAX_SHELVES: usize = 64;
/// How many fragments wait on a shelf: what a packet of 64 KiB is cut into by an MTU of 1280, and some more.
pub const PLACES: usize = 64;
/// Bytes of the longest frame that can wait.
pub const LONGEST: usize = 2048;

/// Key of `FRAGMENTED`: what the fragments of one packet have in common, and where they come from.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentKey {
    /// Source address.
    pub source: AnyAddress,
    /// Destination address.
    pub destination: AnyAddress,
    /// As it lies on the wire: 16 bits of IPv4, 32 of IPv6.
    pub identification: u32,
    /// IPv4's protocol; zero for IPv6, whose fragments need not agree on it (RFC 8200 §4.5).
    pub protocol: Protocol,
    /// Always zero.
    pub reserved: u8,
    /// Where the packet comes from.
    pub zone: Zone,
}

impl FragmentKey {
    /// The key of nothing.
    pub const EMPTY: Self = Self {
        source: AnyAddress([0; 4]),
        destination: AnyAddress([0; 4]),
        identification: 0,
        protocol: Protocol(0),
        reserved: 0,
        zone: Zone(0),
    };

    /// Writes the key of a packet between two addresses; in place, since a program's stack is small.
    #[inline(always)]
    pub fn set<A: Address>(&mut self, source: A, destination: A, identification: u32, packet: &Packet<A>, zone: Zone) {
        self.source = source.any();
        self.destination = destination.any();
        self.identification = identification;
        self.protocol = if A::IS_V6 { Protocol(0) } else { packet.protocol };
        self.reserved = 0;
        self.zone = zone;
    }

    /// Are they fragments of one packet? As `==`, in few instructions.
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        self.source.is(other.source)
            && self.destination.is(other.destination)
            && self.identification == other.identification
            && self.protocol == other.protocol
            && self.zone == other.zone
    }

    /// The shelf on which the sender's fragments wait. Outside, whoever has one address of an IPv6 subnet has all of them.
    #[inline(always)]
    pub fn shelf(&self, secret: [u64; 2]) -> u32 {
        let [a, b] = self.source.halves();
        let b = if self.zone == Zone::OUTSIDE && !self.source.is_v4() { 0 } else { b };
        siphash(secret, [a, b, u64::from(self.zone.0)]) % MAX_SHELVES as u32
    }

    /// A hash by which fragments of other packets are told apart at first sight.
    #[inline(always)]
    pub fn hash(&self, secret: [u64; 2]) -> u32 {
        let [a, b] = self.destination.halves();
        siphash(secret, [a, b, u64::from(self.identification) << 8 | u64::from(self.protocol.0)])
    }
}

/// The hash that tells which counter gives the next identification of an IPv4 packet with these addresses, and from where it counts
/// (RFC 7739 §5.1).
#[inline(always)]
pub fn counter_hash<A: Address>(secret: [u64; 2], source: A, destination: A, protocol: Protocol) -> u32 {
    let pair = u64::from(source.fold()) << 32 | u64::from(destination.fold());
    siphash(secret, [pair, u64::from(protocol.0)])
}

/// Value of `FRAGMENTED`: what a packet's first fragment has told.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragmented {
    /// The packet's identification after translation, as it lies on the wire.
    pub identification: u32,
    /// Seconds since boot when the first fragment passed.
    pub since: u32,
    /// Source port, or whatever takes its place in the flow's key.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// The packet's protocol.
    pub protocol: Protocol,
    /// Always zero.
    pub reserved: [u8; 3],
}

impl Fragmented {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        identification: 0,
        since: 0,
        source_port: Be16::new(0),
        destination_port: Be16::new(0),
        protocol: Protocol(0),
        reserved: [0; 3],
    };

    /// Was it told by a packet of this protocol, with these ports?
    #[inline(always)]
    pub fn is_of(&self, protocol: Protocol, source_port: Be16, destination_port: Be16) -> bool {
        self.protocol == protocol && self.source_port == source_port && self.destination_port == destination_port
    }

    /// May fragments of this packet still come?
    #[inline(always)]
    pub fn is_recent(&self, now: u32) -> bool {
        now.wrapping_sub(self.since) < LIFETIME
    }
}

/// Value of `SHELVES`: who is where on a shelf. Places are taken one after the other, so a new fragment takes that of the oldest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Shelf {
    /// Number of the next fragment; its place is this modulo [`PLACES`].
    pub next: u64,
    /// A bit for each place that a CPU is at work on. Who sets it may use the place, and clears it afterwards.
    pub busy: u64,
    /// A bit for each place at which a fragment waits.
    pub waiting: u64,
    /// Each place's [`Mark`].
    pub marks: [Mark; PLACES],
}

/// What is told of a waiting fragment without looking at it. One word, so that no half of it is ever read.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u64);

impl Mark {
    /// A fragment whose key has this hash, waiting since that second after boot.
    #[inline(always)]
    pub fn new(hash: u32, since: u32) -> Self {
        Self(u64::from(hash) << 32 | u64::from(since))
    }

    /// The hash of its key.
    #[inline(always)]
    pub fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Has it waited for longer than its packet lives?
    #[inline(always)]
    pub fn is_over(self, now: u32) -> bool {
        now.wrapping_sub(self.0 as u32) >= LIFETIME
    }
}

/// Value of `WAITING`, by shelf and place: a fragment that came before its packet's first one.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Its packet.
    pub key: FragmentKey,
    /// Its number on the shelf.
    pub number: u64,
    /// The interface at which it came in.
    pub ifindex: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// The endpoint that sent it; 0 for somebody outside.
    pub endpoint: u32,
    /// 1 if this copy is all that is left of it: then it has died when it is taken away unused.
    pub alone: u32,
    /// The frame.
    pub frame: [u8; LONGEST],
}

const _: () = {
    assert!(size_of::<FragmentKey>() == 40 && size_of::<Fragmented>() == 16);
    assert!(size_of::<Shelf>() == 24 + 8 * PLACES && size_of::<Waiting>() == 64 + LONGEST);
    // A bit of one word for each place.
    assert!(PLACES == 64);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{V4, V6};
    use proptest::prelude::*;

    fn key<A: Address>(source: A) -> FragmentKey {
        FragmentKey { source: source.any(), ..FragmentKey::EMPTY }
    }

    #[test]
    fn what_is_too_old_does_not_belong_together() {
        let seen = Fragmented { since: 100, ..Fragmented::EMPTY };
        let mark = Mark::new(7, 100);
        assert_eq!(mark.hash(), 7);
        for (now, recent) in [(100, true), (129, true), (130, false), (u32::MAX, false)] {
            assert_eq!((seen.is_recent(now), mark.is_over(now)), (recent, !recent), "{now}");
        }
    }

    #[test]
    fn senders_have_shelves_of_their_own() {
        let shelves = |of: &dyn Fn(u32) -> FragmentKey| {
            let all: std::collections::BTreeSet<u32> = (0..1000).map(|number| of(number).shelf([1, 2])).collect();
            all.len()
        };
        assert_eq!(shelves(&|number| key(V4(number))), MAX_SHELVES);
        assert_eq!(shelves(&|number| key(V6([number, 1, 2, 3]))), MAX_SHELVES);
        assert_eq!(shelves(&|number| key(V6([7, 1, 2, number]))), 1, "one subnet outside");
        assert_eq!(shelves(&|number| FragmentKey { zone: Zone(5), ..key(V6([7, 1, 2, number])) }), MAX_SHELVES);
        assert_eq!(shelves(&|number| FragmentKey { zone: Zone(number as u16), ..FragmentKey::EMPTY }), MAX_SHELVES);
        // Whatever else a sender varies, it stays where it is.
        let varied = |number| FragmentKey { identification: number, destination: V4(number).any(), ..key(V4(7)) };
        assert_eq!(shelves(&varied), 1);
    }

    proptest! {
        #[test]
        fn keys_are_the_same_in_few_instructions_too(words: [u32; 10], at in 0..40_usize, change in 0..=1_u8) {
            let other = |index: usize| if index == at / 4 { words[index] ^ u32::from(change) << (at % 4 * 8) } else { words[index] };
            let [first, second] = [&|index: usize| words[index], &other as &dyn Fn(usize) -> u32].map(|word| FragmentKey {
                source: AnyAddress([word(0), word(1), word(2), word(3)]),
                destination: AnyAddress([word(4), word(5), word(6), word(7)]),
                identification: word(8),
                protocol: Protocol(word(9) as u8),
                reserved: 0,
                zone: Zone((word(9) >> 16) as u16),
            });
            prop_assert_eq!(first.is(&second), first == second);
        }
    }
}
