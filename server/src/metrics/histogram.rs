//! How a quantity is distributed: counts in buckets whose bounds are the same in every node, so that they can be added up.
//! Adding is a search in a short list and two relaxed additions, so that it may stand on every path.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of buckets for times, in microseconds: seven to each power of ten, from 10 us to 10 s.
const TIME_BOUNDS: &[u64] = &[
    10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 400, 500, 700, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 7_000, 10_000, 15_000, 20_000,
    30_000, 40_000, 50_000, 70_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 700_000, 1_000_000, 1_500_000, 2_000_000,
    3_000_000, 4_000_000, 5_000_000, 7_000_000, 10_000_000,
];
/// Upper bounds of buckets for times of each command, of which there are many, in microseconds: from 100 us to 1 s.
const COARSE_TIME_BOUNDS: &[u64] = &[100, 1_000, 5_000, 25_000, 100_000, 1_000_000];
/// Upper bounds of buckets for numbers of things.
const COUNT_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Times, in microseconds.
    Microseconds,
    /// Times, in microseconds, by a few bounds.
    CoarseMicroseconds,
    /// Numbers of things.
    Things,
}

impl Unit {
    fn bounds(self) -> &'static [u64] {
        match self {
            Unit::Microseconds => TIME_BOUNDS,
            Unit::CoarseMicroseconds => COARSE_TIME_BOUNDS,
            Unit::Things => COUNT_BOUNDS,
        }
    }
}

/// A distribution.
#[derive(Debug)]
pub struct Histogram {
    unit: Unit,
    /// One for each bound, and one for what is above all of them.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// A distribution at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    unit: Unit,
    counts: Vec<u64>,
    /// Of all values.
    pub sum: u64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub fn new(unit: Unit) -> Self {
        Self { unit, counts: (0..=unit.bounds().len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Adds a value that was seen so many times.
    pub fn add(&self, value: u64, times: u64) {
        let bucket = self.unit.bounds().partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(times, Ordering::Relaxed);
        self.sum.fetch_add(value.saturating_mul(times), Ordering::Relaxed);
    }

    /// What it holds now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Counts { unit: self.unit, counts, sum: self.sum.load(Ordering::Relaxed) }
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.counts.iter().chain([&self.sum]).for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

impl Counts {
    /// What is counted.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// How many values.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds with the number of values in each bucket; the last bucket has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.unit.bounds().iter().copied().map(Some).chain([None]);
        bounds.zip(self.counts.iter().copied())
    }

    /// What came since an earlier moment; all of it if the histogram was reset meanwhile.
    #[must_use]
    pub fn since(&self, earlier: &Counts) -> Counts {
        if self.counts.iter().zip(&earlier.counts).any(|(now, before)| now < before) {
            return self.clone();
        }
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, before)| now - before).collect();
        Counts { unit: self.unit, counts, sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// A value that a part of all do not exceed, taken from within its bucket in proportion; none if there are no values.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let wanted = self.total() as f64 * part;
        let (mut below, mut passed) = (0.0, 0.0);
        for (bound, count) in self.buckets() {
            let Some(bound) = bound else { break };
            let (bound, count) = (bound as f64, count as f64);
            if count > 0.0 && passed + count >= wanted {
                return Some(below + (bound - below) * (wanted - passed) / count);
            }
            (below, passed) = (bound, passed + count);
        }
        (self.total() > 0).then_some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_that_ends_with_them() {
        let histogram = Histogram::new(Unit::Things);
        [(1, 1), (2, 3), (3, 1), (4096, 1), (5000, 2)].into_iter().for_each(|(value, times)| histogram.add(value, times));
        let counts = histogram.counts();
        let filled: Vec<_> = counts.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(Some(1), 1), (Some(2), 3), (Some(4), 1), (Some(4096), 1), (None, 2)]);
        assert_eq!((counts.total(), counts.sum), (8, 1 + 6 + 3 + 4096 + 10_000));
        histogram.reset();
        assert_eq!(histogram.counts().total(), 0);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let histogram = Histogram::new(Unit::Microseconds);
        assert_eq!(histogram.counts().quantile(0.5), None);
        histogram.add(120, 100);
        let half = histogram.counts().quantile(0.5).expect("there are values");
        assert!((100.0..=150.0).contains(&half), "{half}");
        histogram.add(20_000_000, 900);
        assert_eq!(histogram.counts().quantile(0.99), Some(10_000_000.0));
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let histogram = Histogram::new(Unit::Microseconds);
        histogram.add(10, 5);
        let before = histogram.counts();
        histogram.add(20, 2);
        let since = histogram.counts().since(&before);
        assert_eq!((since.total(), since.sum), (2, 40));
        histogram.reset();
        histogram.add(10, 1);
        assert_eq!(histogram.counts().since(&before).total(), 1);
    }
}
