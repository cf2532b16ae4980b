//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Only IPv4 headers and messages that the programs build themselves are summed here. Transport checksums of other people's
//! packets may be partial (offloaded): for them this gives the [`Difference`] that the kernel's helpers apply.

/// What a change of some 32-bit words does to a ones' complement sum; any byte order, as long as it is one.
#[derive(Clone, Copy, Default, Debug)]
pub struct Difference(u64);

impl Difference {
    /// One word more that changes.
    #[inline(always)]
    #[must_use]
    pub fn word(self, from: u32, to: u32) -> Self {
        Self(self.0 + u64::from(!from) + u64::from(to))
    }

    /// Four words more.
    #[inline(always)]
    #[must_use]
    pub fn words(self, from: [u32; 4], to: [u32; 4]) -> Self {
        self.word(from[0], to[0]).word(from[1], to[1]).word(from[2], to[2]).word(from[3], to[3])
    }

    /// Both changes.
    #[inline(always)]
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// As a 32-bit ones' complement number: what `bpf_l3_csum_replace` and `bpf_l4_csum_replace` take with a size of 0.
    #[inline(always)]
    pub fn sum(self) -> u32 {
        let folded = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((folded & 0xffff_ffff) + (folded >> 32)) as u32
    }

    /// Updates a checksum field (RFC 1624 equation 3); raw, in the byte order of the words.
    #[inline(always)]
    pub fn update(self, checksum: u16) -> u16 {
        !fold(u64::from(!checksum) + u64::from(self.sum()))
    }
}

/// Folds a sum of 16-bit or 32-bit words into 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §4.1, word by word.
    fn naive(words: &[u32]) -> u16 {
        let mut sum: u32 = 0;
        for word in words {
            for half in [word >> 16, word & 0xffff] {
                sum += half;
                sum = (sum & 0xffff) + (sum >> 16);
            }
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn an_update_equals_a_new_sum(before: [u32; 5], changed: [u32; 4]) {
            // A header whose words sum to nothing at all does not exist: the version is never zero.
            prop_assume!(before[4] != 0);
            let after = [changed[0], changed[1], changed[2], changed[3], before[4]];
            let difference = Difference::default().words([before[0], before[1], before[2], before[3]], changed);
            prop_assert_eq!(difference.update(naive(&before)), naive(&after));
        }

        #[test]
        fn folding_keeps_the_value_modulo_ffff(sum: u64) {
            prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
        }
    }
}
