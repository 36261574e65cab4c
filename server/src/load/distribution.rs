//! How often which key is asked for.
//! Zipfian: the key of rank r is asked for in proportion to 1/r^0.99, drawn in constant time and without a table by the method of Gray et
//! al., "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994), section 3.2. The ranks are scattered over the keys by a
//! hash, as in YCSB, since keys that are popular are rarely neighbours; so a few keys share their popularity and others are never asked for.
//! Ranks and key numbers count from 0.

use rand::RngExt;
use rand::rngs::StdRng;

/// The exponent that YCSB uses.
const THETA: f64 = 0.99;
/// Terms of the zeta function that are added one by one; the rest is an integral, which is then right to nine digits.
const ZETA_TERMS: u64 = 10_000;

/// How often which key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Distribution {
    /// All keys equally often
    Uniform,
    /// Few keys very often: zipfian with the exponent 0.99, scattered over all keys
    Zipfian,
}

/// Where key numbers come from.
#[derive(Clone, Debug)]
pub(super) enum KeyDraw {
    Uniform { keys: u64 },
    Zipfian(Zipfian),
}

impl KeyDraw {
    /// # Panics
    /// There are no keys.
    pub(super) fn new(distribution: Distribution, keys: u64) -> KeyDraw {
        assert!(keys > 0, "a load needs a key");
        match distribution {
            Distribution::Uniform => KeyDraw::Uniform { keys },
            Distribution::Zipfian => KeyDraw::Zipfian(Zipfian::new(keys)),
        }
    }

    /// The number of a key.
    pub(super) fn draw(&self, random: &mut StdRng) -> u64 {
        match self {
            KeyDraw::Uniform { keys } => random.random_range(0..*keys),
            KeyDraw::Zipfian(zipfian) => scatter(zipfian.rank(random.random())) % zipfian.keys,
        }
    }
}

/// The paper's constants for one number of keys.
#[derive(Clone, Debug)]
pub(super) struct Zipfian {
    keys: u64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    fn new(keys: u64) -> Zipfian {
        let zeta = zeta(keys);
        let eta = (1.0 - (2.0 / keys as f64).powf(1.0 - THETA)) / (1.0 - self::zeta(2) / zeta);
        Zipfian { keys, zeta, eta }
    }

    /// The rank at a place between 0 and 1 of the cumulated frequencies. The first two are exact, the others close.
    fn rank(&self, place: f64) -> u64 {
        let scaled = place * self.zeta;
        let rank = if scaled < 1.0 {
            0
        } else if scaled < 1.0 + 0.5f64.powf(THETA) {
            1
        } else {
            // What is beyond the last rank by rounding becomes the last one below.
            (self.keys as f64 * (self.eta * place - self.eta + 1.0).powf(1.0 / (1.0 - THETA))) as u64
        };
        rank.min(self.keys - 1)
    }
}

/// The sum of 1/r^theta for all ranks up to the last, by the formula of Euler and Maclaurin beyond the first terms.
fn zeta(last: u64) -> f64 {
    let exact = last.min(ZETA_TERMS);
    let sum: f64 = (1..=exact).map(|rank| (rank as f64).powf(-THETA)).sum();
    let (from, to) = (exact as f64, last as f64);
    let integral = (to.powf(1.0 - THETA) - from.powf(1.0 - THETA)) / (1.0 - THETA);
    sum + integral + (to.powf(-THETA) - from.powf(-THETA)) / 2.0
}

/// FNV-1a of the number's eight bytes, as YCSB has it.
fn scatter(rank: u64) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x100_0000_01b3;
    rank.to_le_bytes().iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn counts(distribution: Distribution, keys: u64, draws: u64) -> Vec<u64> {
        let draw = KeyDraw::new(distribution, keys);
        let mut random = StdRng::seed_from_u64(7);
        let mut counts = vec![0; usize::try_from(keys).expect("few")];
        for _ in 0..draws {
            counts[usize::try_from(draw.draw(&mut random)).expect("few")] += 1;
        }
        counts
    }

    #[test]
    fn uniform_keys_come_equally_often() {
        let counts = counts(Distribution::Uniform, 100, 100_000);
        // A thousand each; the bounds are six standard deviations away.
        assert!(counts.iter().all(|count| (810..1190).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipfian_keys_come_as_often_as_their_rank_says() {
        let (keys, draws) = (1000, 1_000_000);
        let mut counts = counts(Distribution::Zipfian, keys, draws);
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let expected = |rank: u64| draws as f64 / zeta(keys) / (rank as f64).powf(THETA);
        let near = |found: u64, expected: f64| (found as f64 / expected - 1.0).abs() < 0.15;
        assert!(near(counts[0], expected(1)), "{} of {}", counts[0], expected(1));
        assert!(near(counts[1], expected(2)), "{} of {}", counts[1], expected(2));
        let first_tenth: u64 = counts[..100].iter().sum();
        assert!((0.65..0.80).contains(&(first_tenth as f64 / draws as f64)), "{first_tenth}");
    }

    #[test]
    fn popular_keys_are_no_neighbours() {
        let counts = counts(Distribution::Zipfian, 1000, 100_000);
        let mut places: Vec<usize> = (0..1000).collect();
        places.sort_unstable_by_key(|place| std::cmp::Reverse(counts[*place]));
        assert!(places[..10].windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1), "{:?}", &places[..10]);
    }

    #[test]
    fn ranks_stay_below_the_number_of_keys() {
        for keys in [1, 2, 3, 100_000, 1 << 40] {
            let zipfian = Zipfian::new(keys);
            let places = (0..=1000).map(|place| (f64::from(place) / 1000.0).min(1.0 - f64::EPSILON));
            let ranks: Vec<u64> = places.map(|place| zipfian.rank(place)).collect();
            assert!(ranks.is_sorted(), "{keys}: {ranks:?}");
            assert_eq!((ranks[0], ranks[1000]), (0, keys - 1), "{keys}");
        }
    }

    #[test]
    fn a_long_sum_is_as_good_as_added_up() {
        let added: f64 = (1..=1_000_000u64).map(|rank| (rank as f64).powf(-THETA)).sum();
        assert!((zeta(1_000_000) / added - 1.0).abs() < 1e-9);
    }
}
