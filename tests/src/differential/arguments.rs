//! Random arguments, from few enough values that commands meet each other's keys, and with the values on both sides of every limit.
//! Times: a key must not expire while a sequence runs, since the two servers are not asked at the same moment. So a deadline has passed
//! long ago, or is hours ahead; and of two relative times of a sequence one is later than the other by far more than the servers'
//! distance, so that GT and LT decide alike.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Texts that are no 64-bit integer, or a surprising one.
const ODD_INTEGERS: &[&str] = &[
    "",
    "abc",
    "1.5",
    " 1",
    "1 ",
    "+1",
    "-0",
    "00",
    "01",
    "0x10",
    "1e3",
    "-",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
];

/// Amounts for INCRBYFLOAT, of which a processor's long double holds few exactly.
const FLOATS: &[&str] = &[
    "0",
    "-0",
    "0.1",
    "0.2",
    "-0.3",
    "3",
    "1e3",
    "1.5e-3",
    "+2",
    ".5",
    "5.",
    "1e20",
    "-1e20",
    "1e-17",
    "1e-18",
    "123456.789",
    "791.15",
    "inf",
    "-inf",
    "+Infinity",
    "nan",
    "",
    "abc",
    " 1",
    "1 ",
    "1e",
    "0x10",
    "1e5000",
    "--1",
    "1_0",
    "3.0e0",
    "9007199254740993",
    "1e17",
];

const KEYS: &[&[u8]] =
    &[b"k1", b"k2", b"k3", b"k4", b"k5", b"K1", b"", b"\x00\xff\r\n", b"{t}1", b"{t}2", b"a*b", b"[x]", b"k\\", "ключ".as_bytes()];

const VALUES: &[&[u8]] = &[
    b"",
    b"0",
    b"5",
    b"-3",
    b"007",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775800",
    b"3.5",
    b"1e3",
    b" 1",
    b"abc",
    b"hello world",
    b"\x00\x01\xfe\xff",
    b"\r\n",
    b"inf",
    b"nan",
    b"12345678901234567890",
];

/// None has a byte from 128 on: in a range those are compared as `high_range` says.
const PATTERN_PIECES: &[&[u8]] = &[
    b"*", b"*", b"?", b"k", b"1", b"2", b"[a-k]", b"[^k]", b"[k-a]", b"[1-3]", b"\\*", b"\\", b"[", b"]", b"[]", b"[^]", b"[k-", b"[\\]x]",
    b"{t}", b"a", b"b", b"-", b"^", b"\x00",
];

/// Databases that are used often.
const DATABASES_COMMON: u32 = 3;
/// A second of the year 2100: absolute deadlines begin here.
const FUTURE_SECONDS: u64 = 4_102_444_800;
/// Least relative time, in seconds.
const TTL_SECONDS_MIN: u64 = 10_000;
/// Least distance of two relative times, in seconds.
const TTL_SECONDS_STEP: u64 = 1_000;
/// How many relative times there are: a prime, so that a step of any other size visits all.
const TTLS: u64 = 5_003;
const TTL_STRIDE: u64 = 1_987;

/// Where arguments come from: one seed.
pub(super) struct Source {
    rng: StdRng,
    /// Place of the next relative time among all.
    next_ttl: u64,
}

impl Source {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let next_ttl = rng.random_range(0..TTLS);
        Self { rng, next_ttl }
    }

    /// True so often of a hundred times.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.choose(&mut self.rng).expect("there is a choice")
    }

    /// One of some words, in upper or lower case.
    pub(super) fn word(&mut self, choices: &[&str]) -> Bytes {
        let word = self.one_of(choices);
        if self.percent(30) { word.to_ascii_uppercase().into() } else { word.to_owned().into() }
    }

    pub(super) fn key(&mut self) -> Bytes {
        match self.below(100) {
            0 => "long".repeat(80).into(),
            1 => self.bytes(40),
            2..70 => Bytes::from_static(KEYS[self.below(5)]),
            _ => Bytes::from_static(self.one_of(KEYS)),
        }
    }

    pub(super) fn keys(&mut self, count_max: usize) -> Vec<Bytes> {
        (0..=self.below(count_max)).map(|_| self.key()).collect()
    }

    pub(super) fn value(&mut self) -> Bytes {
        match self.below(100) {
            0 => self.bytes(5_000),
            1..20 => self.bytes(40),
            20..30 => self.rng.random_range(-1_000..1_000i32).to_string().into(),
            _ => Bytes::from_static(self.one_of(VALUES)),
        }
    }

    /// Any bytes, fewer than so many.
    pub(super) fn bytes(&mut self, end: usize) -> Bytes {
        (0..self.below(end)).map(|_| self.rng.random::<u8>()).collect()
    }

    /// An integer of a few digits most of the time.
    pub(super) fn integer(&mut self) -> Bytes {
        if self.percent(20) { self.odd_integer() } else { self.rng.random_range(-20..40i32).to_string().into() }
    }

    pub(super) fn odd_integer(&mut self) -> Bytes {
        self.one_of(ODD_INTEGERS).into()
    }

    /// An offset for SETRANGE: never one that would make a long string.
    pub(super) fn offset(&mut self) -> Bytes {
        match self.below(10) {
            0 => self.one_of(&["67108864", "536870912", "1099511627776", "9223372036854775807"]).into(),
            1 => self.one_of(&["-1", "", "abc", "1.5", "-9223372036854775808", "9223372036854775808"]).into(),
            _ => self.rng.random_range(0..600u32).to_string().into(),
        }
    }

    pub(super) fn float(&mut self) -> Bytes {
        if self.percent(30) {
            return format!("{:.2}", self.rng.random_range(-1_000.0..1_000.0f64)).into();
        }
        self.one_of(FLOATS).into()
    }

    /// A multiple of a sixteenth: a long double and a decimal hold it, and sums of a few, exactly.
    pub(super) fn exact_float(&mut self) -> Bytes {
        (self.rng.random_range(-1.0e11..1.0e11f64).trunc() / 16.0).to_string().into()
    }

    pub(super) fn database(&mut self) -> Bytes {
        match self.below(10) {
            0 => self.odd_integer(),
            1 => self.one_of(&["15", "16", "-1", "7"]).into(),
            _ => self.rng.random_range(0..DATABASES_COMMON).to_string().into(),
        }
    }

    pub(super) fn pattern(&mut self) -> Bytes {
        let pieces = (0..=self.below(4)).flat_map(|_| self.one_of(PATTERN_PIECES).iter().copied());
        pieces.collect()
    }

    /// A pattern with a range that has a byte from 128 on, which is negative for Redis on some processors.
    pub(super) fn high_range(&mut self) -> Bytes {
        Bytes::from_static(self.one_of(&[&b"[k-\xff]*"[..], b"*[1-\xff]", b"[\xff-a]*"]))
    }

    /// A relative time in seconds.
    pub(super) fn seconds(&mut self) -> Bytes {
        let ttl = self.ttl();
        self.time(ttl, "9223372036854776")
    }

    /// A relative time in milliseconds.
    pub(super) fn milliseconds(&mut self) -> Bytes {
        let ttl = self.ttl() * 1_000 + self.rng.random_range(0..1_000u64);
        self.time(ttl, "9223372036854775000")
    }

    /// A time since the epoch in seconds.
    pub(super) fn unix_seconds(&mut self) -> Bytes {
        let future = FUTURE_SECONDS + self.rng.random_range(0..20u64);
        if self.percent(20) { self.one_of(&["1", "1000000000"]).into() } else { self.time(future, "9223372036854776") }
    }

    /// A time since the epoch in milliseconds.
    pub(super) fn unix_milliseconds(&mut self) -> Bytes {
        let future = FUTURE_SECONDS * 1_000 + self.rng.random_range(0..2_000u64) * 10;
        if self.percent(20) { self.one_of(&["1", "1000000000000"]).into() } else { self.time(future, "9223372036854775807") }
    }

    /// This time, or one that is no good. None of those is a deadline in the near future.
    fn time(&mut self, good: u64, greatest: &'static str) -> Bytes {
        match self.below(20) {
            0 => self.one_of(&["0", "-1", "-100", "-9223372036854775808", "-9223372036854775"]).into(),
            1 => self.one_of(&["", "abc", "1.5", " 1", "01", "+5", "9223372036854775808"]).into(),
            2 => greatest.into(),
            _ => good.to_string().into(),
        }
    }

    /// A relative time that this sequence has not had, in seconds.
    fn ttl(&mut self) -> u64 {
        self.next_ttl = (self.next_ttl + TTL_STRIDE) % TTLS;
        TTL_SECONDS_MIN + TTL_SECONDS_STEP * self.next_ttl
    }
}
