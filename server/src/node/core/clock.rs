//! The time a leader stamps entries with.
//! The stamp follows the wall clock, never falls below what the log already holds, and while it is ahead of the wall clock (a step back,
//! or a predecessor whose clock was fast) it advances at half the monotonic rate until the wall clock has caught up.
//! All times in milliseconds; wall times since the Unix epoch.

use std::collections::BTreeMap;

/// The present moment, as the shell reads it from the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time since some moment.
    pub mono_ms: u64,
    /// Wall time.
    pub wall_ms: u64,
}

/// The last stamp and when it was given.
#[derive(Clone, Copy, Debug, Default)]
pub struct StampClock {
    last_ms: u64,
    given_at_mono_ms: u64,
}

impl StampClock {
    /// The log holds a stamp of `log_time_ms`; later stamps are no lower.
    pub fn raise(&mut self, log_time_ms: u64, now: Now) {
        if log_time_ms > self.last_ms {
            *self = Self { last_ms: log_time_ms, given_at_mono_ms: now.mono_ms };
        }
    }

    /// A stamp for the present moment.
    pub fn stamp(&mut self, now: Now) -> u64 {
        if now.wall_ms >= self.last_ms {
            *self = Self { last_ms: now.wall_ms, given_at_mono_ms: now.mono_ms };
        } else {
            let step = now.mono_ms.saturating_sub(self.given_at_mono_ms) / 2;
            if step > 0 {
                *self = Self { last_ms: self.last_ms + step, given_at_mono_ms: now.mono_ms };
            }
        }
        self.last_ms
    }
}

/// How far this node's wall clock is from its peers', judged by the wall times their frames carry. A frame is under way for a moment, so a
/// difference of some milliseconds means nothing.
#[derive(Clone, Debug, Default)]
pub struct Skew {
    /// By peer: its wall time minus ours, and when that was seen.
    seen: BTreeMap<u64, (i64, u64)>,
}

/// A difference that was not seen again for so long counts no more.
const SKEW_MEMORY_MS: u64 = 10_000;

impl Skew {
    /// A frame of a peer has come in; `wall_ms` is 0 when it carries no time.
    pub fn observe(&mut self, peer: u64, wall_ms: u64, now: Now) {
        if wall_ms != 0 {
            let difference = i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(now.wall_ms);
            self.seen.insert(peer, (difference, now.mono_ms));
        }
    }

    /// What to add to our wall clock to get the median of the peers' clocks, if that is more than `max_ms`. Without peers there is nothing to
    /// compare with.
    #[must_use]
    pub fn correction(&self, max_ms: u64, now: Now) -> Option<i64> {
        let recent = self.seen.values().filter(|(_, at)| now.mono_ms.saturating_sub(*at) <= SKEW_MEMORY_MS);
        let mut differences: Vec<i64> = recent.map(|(difference, _)| *difference).collect();
        // Of two, the nearer one: a single wrong peer must not make this node doubt itself.
        differences.sort_unstable_by_key(|difference| difference.unsigned_abs());
        let median = *differences.get(differences.len().saturating_sub(1) / 2)?;
        (median.unsigned_abs() > max_ms).then_some(median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_when_it_differs_from_most_peers() {
        let now = Now { mono_ms: 50_000, wall_ms: 1_000_000 };
        let mut skew = Skew::default();
        assert_eq!(skew.correction(500, now), None);
        skew.observe(2, 2_000_000, now);
        assert_eq!(skew.correction(500, now), Some(1_000_000), "the only peer");
        skew.observe(3, 1_000_010, now);
        assert_eq!(skew.correction(500, now), None, "one of two peers is wrong");
        skew.observe(3, 1_900_000, now);
        assert_eq!(skew.correction(500, now), Some(900_000));
        skew.observe(3, 0, now);
        let later = Now { mono_ms: 50_000 + SKEW_MEMORY_MS + 1, ..now };
        assert_eq!(skew.correction(500, later), None, "nobody was heard of late");
    }

    #[test]
    fn stamps_never_fall_and_let_the_wall_clock_catch_up() {
        let mut clock = StampClock::default();
        let mut stamp = |mono_ms, wall_ms| clock.stamp(Now { mono_ms, wall_ms });
        assert_eq!(stamp(0, 1000), 1000);
        assert_eq!(stamp(10, 500), 1005);
        assert_eq!(stamp(11, 500), 1005);
        assert_eq!(stamp(30, 520), 1015);
        assert_eq!(stamp(600, 1100), 1100);
        clock.raise(2000, Now { mono_ms: 600, wall_ms: 1100 });
        assert_eq!(clock.stamp(Now { mono_ms: 700, wall_ms: 1200 }), 2050);
    }
}
