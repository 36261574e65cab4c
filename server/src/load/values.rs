//! Values: printable bytes from a pool that is made once, so that a value costs a copy.
//! They compress to about half, as values of applications do: half of each piece of the pool is random, the other half repeats it (the
//! method of RocksDB's db_bench at its compression ratio of 0.5). A value begins with a random piece, and holds whole ones.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Pieces that a value may begin with. Few enough for a processor's cache, and too many to meet one again within a block that is compressed.
const PIECES: usize = 1 << 14;
/// Longest piece, in bytes.
const PIECE_BYTES_MAX: usize = 100;

/// The bytes that values are cut from.
#[derive(Debug)]
pub(super) struct ValuePool {
    bytes: Vec<u8>,
    piece_bytes: usize,
    value_bytes: usize,
}

impl ValuePool {
    pub(super) fn new(value_bytes: usize, seed: u64) -> ValuePool {
        let mut random = StdRng::seed_from_u64(seed);
        let piece_bytes = value_bytes.clamp(1, PIECE_BYTES_MAX);
        let pool_bytes = PIECES * piece_bytes + value_bytes;
        let mut bytes = Vec::with_capacity(pool_bytes + piece_bytes);
        while bytes.len() < pool_bytes {
            let piece = bytes.len();
            bytes.extend((0..piece_bytes.div_ceil(2)).map(|_| random.random_range(b'!'..=b'~')));
            bytes.extend_from_within(piece..piece + piece_bytes / 2);
        }
        ValuePool { bytes, piece_bytes, value_bytes }
    }

    /// A value.
    pub(super) fn draw(&self, random: &mut StdRng) -> &[u8] {
        let place = random.random_range(0..PIECES) * self.piece_bytes;
        &self.bytes[place..place + self.value_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_length_and_are_printable() {
        let mut random = StdRng::seed_from_u64(1);
        for value_bytes in [0, 1, 7, 100, 3_000_000] {
            let pool = ValuePool::new(value_bytes, 1);
            let value = pool.draw(&mut random);
            assert_eq!(value.len(), value_bytes);
            assert!(value.iter().all(u8::is_ascii_graphic));
        }
    }

    #[test]
    fn half_of_a_value_repeats_the_other_half() {
        let mut random = StdRng::seed_from_u64(1);
        for (value_bytes, piece_bytes) in [(10, 10), (100, 100), (1000, 100)] {
            let pool = ValuePool::new(value_bytes, 1);
            for piece in pool.draw(&mut random).chunks(piece_bytes) {
                let (first, second) = piece.split_at(piece_bytes / 2);
                assert_eq!(first, second);
            }
        }
    }

    #[test]
    fn values_differ() {
        let pool = ValuePool::new(100, 1);
        let mut random = StdRng::seed_from_u64(1);
        let values: std::collections::HashSet<&[u8]> = (0..1000).map(|_| pool.draw(&mut random)).collect();
        assert!(values.len() > 900, "{}", values.len());
    }
}
