//! What was sent and answered.
//! Each worker adds to a tally of its own; the collector takes it away now and then and adds it to others. Commands that were due or sent
//! during the warm-up are in `warmup` alone. Latencies are microseconds, to three digits, of commands that were answered without an error.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Latencies above this count as this: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Digits to which a latency is kept.
const LATENCY_DIGITS: u8 = 3;
/// Error texts that are told apart; the others are counted together.
const TEXTS_MAX: usize = 50;
/// Words of an error text that are kept, since what follows is often about one key or node; and a bound on their length.
const TEXT_WORDS: usize = 5;
const TEXT_CHARS_MAX: usize = 60;

/// Counts of some time.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Commands that were sent, or were to be when the connection broke.
    pub(super) sent: u64,
    /// Commands that were answered without an error.
    pub(super) succeeded: u64,
    /// Those of them that found nothing.
    pub(super) nulls: u64,
    /// Error replies, and why connections broke or did not come about.
    pub(super) errors: Texts,
    pub(super) broken: Texts,
    pub(super) refused: Texts,
    /// Commands of the warm-up that succeeded.
    pub(super) warmup: u64,
    pub(super) latency: Histogram<u64>,
    /// When the last reply was read.
    pub(super) last_reply: Option<Instant>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        let latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS).expect("the bounds are right");
        let texts = Texts::default;
        Tally { sent: 0, succeeded: 0, nulls: 0, errors: texts(), broken: texts(), refused: texts(), warmup: 0, latency, last_reply: None }
    }

    /// Counts replies without an error that were read at once, and how many of them found nothing.
    pub(super) fn succeed(&mut self, count: u64, nulls: u64, latency: Duration) {
        self.succeeded += count;
        self.nulls += nulls;
        self.latency.saturating_record_n(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), count);
    }

    /// Commands that were sent and have no reply.
    pub(super) fn unanswered(&self) -> u64 {
        self.sent - self.succeeded - self.errors.total()
    }

    /// Adds what another has counted.
    pub(super) fn add(&mut self, other: &Tally) {
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.nulls += other.nulls;
        self.warmup += other.warmup;
        self.errors.add(&other.errors);
        self.broken.add(&other.broken);
        self.refused.add(&other.refused);
        self.latency.add(&other.latency).expect("all have the same bounds");
        self.last_reply = self.last_reply.max(other.last_reply);
    }

    /// A latency below which a part of all is, in milliseconds; 0 without any.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The longest latency, in milliseconds.
    pub(super) fn max_ms(&self) -> f64 {
        self.latency.max() as f64 / 1e3
    }
}

/// How often which text came, by its first words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    counts: BTreeMap<String, u64>,
}

impl Texts {
    pub(super) fn count(&mut self, text: &str) {
        let words: Vec<&str> = text.split_whitespace().take(TEXT_WORDS).collect();
        self.add_count(words.join(" ").chars().take(TEXT_CHARS_MAX).collect(), 1);
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The texts in their order, with how often each came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(text, count)| (text.as_str(), *count))
    }

    fn add(&mut self, other: &Texts) {
        other.iter().for_each(|(text, count)| self.add_count(text.to_owned(), count));
    }

    fn add_count(&mut self, text: String, count: u64) {
        let known = self.counts.len() < TEXTS_MAX || self.counts.contains_key(&text);
        *self.counts.entry(if known { text } else { "(others)".to_owned() }).or_default() += count;
    }
}

/// A worker's tally. Its thread adds to it once per reply that it reads, the collector takes it away ten times a second at most: a lock
/// that is nearly always free costs less than a message, and the collector gets what there is also while the worker is held up.
#[derive(Clone, Debug)]
pub(super) struct SharedTally {
    tally: Arc<Mutex<Tally>>,
}

impl SharedTally {
    pub(super) fn new() -> SharedTally {
        SharedTally { tally: Arc::new(Mutex::new(Tally::new())) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted since the last time.
    pub(super) fn take(&self) -> Tally {
        let nothing = Tally::new();
        std::mem::replace(&mut *self.lock(), nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut one = Tally::new();
        one.sent = 12;
        one.succeed(10, 3, Duration::from_millis(2));
        one.errors.count("ERR no");
        let mut other = one.clone();
        other.succeed(1, 0, Duration::from_millis(50));
        other.sent += 1;
        one.add(&other);
        assert_eq!((one.sent, one.succeeded, one.nulls, one.errors.total(), one.unanswered()), (25, 21, 6, 2, 2));
        assert_eq!((one.quantile_ms(0.5), one.max_ms()), (2.0, 50.015));
    }

    #[test]
    fn what_is_taken_is_gone() {
        let shared = SharedTally::new();
        shared.lock().succeed(2, 0, Duration::from_millis(1));
        let taken = [shared.take(), shared.take()];
        assert_eq!(taken.each_ref().map(|tally| (tally.succeeded, tally.latency.len())), [(2, 2), (0, 0)]);
    }

    #[test]
    fn extreme_latencies_count_at_the_ends() {
        let mut tally = Tally::new();
        tally.succeed(1, 0, Duration::ZERO);
        tally.succeed(1, 0, Duration::from_secs(1 << 40));
        assert_eq!(tally.latency.len(), 2);
        assert!((tally.max_ms() / 3_600_000.0 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn texts_are_told_apart_by_their_first_words() {
        let mut texts = Texts::default();
        texts.count("MOVED it is now at node one");
        texts.count("MOVED it is now at another");
        texts.count(&"x".repeat(100));
        assert_eq!(texts.iter().collect::<Vec<_>>(), [("MOVED it is now at", 2), ("x".repeat(60).as_str(), 1)]);
        (0..1000).for_each(|number| texts.count(&format!("ERR {number}")));
        assert_eq!((texts.total(), texts.iter().count()), (1003, TEXTS_MAX + 1));
    }
}
