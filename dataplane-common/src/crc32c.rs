//! What a change of ports does to SCTP's checksum, a CRC32c over the whole packet (RFC 9260 appendix A).
//!
//! The checksum is linear: to change it, only the change must be summed, followed by as many zero bytes as there are behind the
//! ports. The packet is never read.

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Bits of a packet's length in bytes.
const BITS: u32 = 17;
/// How many steps a change takes: a multiplication, of 32 steps, for the four bytes themselves and one for each bit of the
/// number of bytes behind them.
pub const STEPS: u32 = 32 * (1 + BITS);

/// `x^(8 · 2^k)` modulo the polynomial: what one, two, four … zero bytes multiply the register by.
const ZEROS: [u32; 32] = {
    let mut powers = [0; 32];
    // x^8, bits reversed.
    let mut power = 1_u32 << 23;
    let mut k = 0;
    while k < powers.len() {
        powers[k] = power;
        let mut square = Change { register: power, product: 0, behind: 0 };
        let mut bit = 0;
        while bit < 32 {
            square.multiply(power, bit);
            bit += 1;
        }
        power = square.product;
        k += 1;
    }
    powers
};

/// A change on its way through the packet: made, then [`Change::step`] for each number below [`STEPS`], then applied. In steps
/// as small as that, since the verifier walks through each.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Change {
    register: u32,
    product: u32,
    behind: u32,
}

impl Change {
    /// Four bytes of the packet change; `difference` is what they were exclusive-or what they are, in the order in which they
    /// lie there, and `behind` the number of bytes that follow them.
    #[inline(always)]
    pub fn new(difference: [u8; 4], behind: u32) -> Self {
        Self { register: u32::from_le_bytes(difference), product: 0, behind }
    }

    /// One step. First the four bytes go through the register as its own content does, then the zero bytes, as many as the
    /// bits of their number say.
    #[inline(always)]
    pub fn step(&mut self, step: u32) {
        let (round, bit) = (step / 32, step % 32);
        let (wanted, k) = match round {
            0 => (1, 2),
            _ => (self.behind >> ((round - 1) & 31) & 1, round - 1),
        };
        if wanted == 1 {
            // The mask is what the verifier needs to see that the table is not left.
            self.multiply(ZEROS[k as usize % ZEROS.len()], bit);
            if bit == 31 {
                self.register = self.product;
                self.product = 0;
            }
        }
    }

    /// One bit of a product of two polynomials modulo the polynomial, bits reversed.
    #[inline(always)]
    const fn multiply(&mut self, power: u32, bit: u32) {
        self.product ^= self.register & 0_u32.wrapping_sub(power >> (31 - bit) & 1);
        self.register = self.register >> 1 ^ POLYNOMIAL & 0_u32.wrapping_sub(self.register & 1);
    }

    /// The checksum after the change. A wrong one stays wrong.
    #[inline(always)]
    pub fn apply(&self, checksum: [u8; 4]) -> [u8; 4] {
        (u32::from_le_bytes(checksum) ^ self.register).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, as the standard has it.
    fn naive(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for &byte in bytes {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn the_published_check_value() {
        assert_eq!(naive(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_new_checksum(
            mut packet in proptest::collection::vec(any::<u8>(), 4..3000), changed: [u8; 4],
        ) {
            let before = naive(&packet).to_le_bytes();
            let mut difference = [0; 4];
            for i in 0..4 {
                difference[i] = packet[i] ^ changed[i];
                packet[i] = changed[i];
            }
            let mut change = Change::new(difference, packet.len() as u32 - 4);
            (0..STEPS).for_each(|step| change.step(step));
            prop_assert_eq!(change.apply(before), naive(&packet).to_le_bytes());
        }
    }
}
