//! Where a key stands in the scan index: 14 bits of hash slot, 38 bits of a hash.
//! The slot is that of Redis Cluster (CRC16-XMODEM of the key or of its hash tag, modulo 16384), so that the index also serves counts and
//! moves of slots. The hash is SipHash-2-4 (Aumasson and Bernstein, 2012) under a fixed key: stable for ever, and costly to collide, since
//! keys that share a position are returned in one page of SCAN.
//! Invariant: a position is in 1..2^52. 0 is SCAN's word for start and end; JavaScript clients can hold 2^53.

/// A hash slot, below 16384.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    const COUNT: u16 = 16384;

    /// The slot of a key. Of a key with a non-empty `{tag}` only the first tag counts.
    #[must_use]
    pub fn of(key: &[u8]) -> Slot {
        Slot(crc16(hash_tag(key)) % Slot::COUNT)
    }
}

/// A key's place in the order of SCAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    const HASH_BITS: u32 = 38;
    const BITS: u32 = 52;

    /// The position of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Position {
        let slot = u64::from(Slot::of(key).0) << Position::HASH_BITS;
        Position::from_bits(slot | sip_hash_2_4(SCAN_HASH_KEY, key) >> (64 - Position::HASH_BITS))
    }

    /// The position of these 52 bits; further bits do not count, and 0 becomes 1.
    #[must_use]
    pub(super) fn from_bits(bits: u64) -> Position {
        Position((bits & ((1 << Position::BITS) - 1)).max(1))
    }

    /// The position a cursor names; none where it names the end or more.
    #[must_use]
    pub fn from_cursor(cursor: u64) -> Option<Position> {
        (cursor < 1 << Position::BITS).then(|| Position::from_bits(cursor))
    }

    /// The cursor of SCAN that continues here.
    #[must_use]
    pub fn cursor(self) -> u64 {
        self.0
    }
}

/// Bytes 0 to 7 and 8 to 15 of `redraft SCAN pos`, little-endian as the paper reads its key. Never to be changed.
const SCAN_HASH_KEY: [u64; 2] = [u64::from_le_bytes(*b"redraft "), u64::from_le_bytes(*b"SCAN pos")];

fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let inner = &key[open + 1..];
    match inner.iter().position(|byte| *byte == b'}') {
        Some(0) | None => key,
        Some(close) => &inner[..close],
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| crc << 8 ^ CRC16_TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

/// CRC16-XMODEM: polynomial 0x1021, no reflection, starting at 0.
const CRC16_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

fn sip_hash_2_4(key: [u64; 2], bytes: &[u8]) -> u64 {
    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
    fn compress(v: &mut [u64; 4], word: u64) {
        v[3] ^= word;
        round(v);
        round(v);
        v[0] ^= word;
    }
    let mut v =
        [key[0] ^ 0x736f_6d65_7073_6575, key[1] ^ 0x646f_7261_6e64_6f6d, key[0] ^ 0x6c79_6765_6e65_7261, key[1] ^ 0x7465_6462_7974_6573];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        compress(&mut v, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    compress(&mut v, u64::from_le_bytes(last));
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // From CLUSTER KEYSLOT of Redis.
        for (key, slot) in [
            ("", 0),
            ("123456789", 12739),
            ("foo", 12182),
            ("foo{hash_tag}", 2515),
            ("bar{hash_tag}", 2515),
            ("hash_tag", 2515),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("{bar", 4015),
            ("foo{bar}{zap}", 5061),
            ("bar", 5061),
        ] {
            assert_eq!(Slot::of(key.as_bytes()), Slot(slot), "{key}");
        }
    }

    #[test]
    fn sip_hash_gives_the_vectors_of_its_authors() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let bytes: Vec<u8> = (0..15).collect();
        for (length, hash) in
            [(0, 0x726f_db47_dd0e_0e31), (1, 0x74f8_39c5_93dc_67fd), (8, 0x93f5_f579_9a93_2462), (15, 0xa129_ca61_49be_45e5)]
        {
            assert_eq!(sip_hash_2_4(key, &bytes[..length]), hash, "{length} bytes");
        }
    }

    // Computed by another implementation.
    #[test]
    fn positions_never_change() {
        for (key, cursor) in [("", 216_478_399_041), ("foo", 3_348_603_139_572_142), ("{foo}bar", 3_348_742_568_200_781)] {
            assert_eq!(Position::of(key.as_bytes()).cursor(), cursor, "{key}");
            assert_eq!(cursor >> Position::HASH_BITS, u64::from(Slot::of(key.as_bytes()).0), "{key}");
        }
    }

    #[test]
    fn position_zero_is_left_to_the_cursor() {
        assert_eq!(Position::from_bits(0).cursor(), 1);
        assert_eq!(Position::from_bits(1 << 52).cursor(), 1);
        assert_eq!(Position::from_cursor(0), Some(Position(1)));
        assert_eq!(Position::from_cursor((1 << 52) - 1), Some(Position((1 << 52) - 1)));
        assert_eq!(Position::from_cursor(1 << 52), None);
    }
}
