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

/// How far this node's wall clock is from its peers', judged by the wall times their frames carry. A frame that was under way or waited here,
/// after a pause say, makes its sender's clock look slow; so of the frames of a period the one that makes it look fastest counts.
#[derive(Clone, Debug, Default)]
pub struct Skew {
    peers: BTreeMap<u64, Observed>,
}

/// A peer's wall time minus our monotonic time, as its frames have it: a step of our own wall clock leaves these as they are.
#[derive(Clone, Copy, Debug)]
struct Observed {
    /// The largest of the present period, when that began, and of how many frames.
    largest: i64,
    since_mono_ms: u64,
    frames: u32,
    /// The largest of the period before, and when that ended.
    judged: Option<(i64, u64)>,
}

/// A period lasts at least so long and has at least so many frames.
const SKEW_PERIOD_MS: u64 = 2_000;
const SKEW_FRAMES_MIN: u32 = 3;
/// What was not seen again for so long counts no more.
const SKEW_MEMORY_MS: u64 = 10_000;
/// Peers it takes to doubt our own clock: with one alone, both would.
const SKEW_PEERS_MIN: usize = 2;

impl Observed {
    /// What a whole period says.
    fn judged(&self, now: Now) -> Option<i64> {
        self.judged.filter(|(_, at)| now.mono_ms.saturating_sub(*at) <= SKEW_MEMORY_MS).map(|(largest, _)| largest)
    }

    /// That, or what the few frames so far say.
    fn guessed(&self, now: Now) -> Option<i64> {
        let is_present = now.mono_ms.saturating_sub(self.since_mono_ms) <= SKEW_MEMORY_MS;
        self.judged(now).or_else(|| is_present.then_some(self.largest))
    }
}

impl Skew {
    /// A frame of a peer has come in; `wall_ms` is 0 when it carries no time.
    pub fn observe(&mut self, peer: u64, wall_ms: u64, now: Now) {
        if wall_ms == 0 {
            return;
        }
        let difference = i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(now.mono_ms);
        let fresh = |judged| Observed { largest: difference, since_mono_ms: now.mono_ms, frames: 1, judged };
        let observed = self.peers.entry(peer).or_insert_with(|| fresh(None));
        let age_ms = now.mono_ms.saturating_sub(observed.since_mono_ms);
        if age_ms > SKEW_MEMORY_MS {
            *observed = fresh(None);
        } else if age_ms >= SKEW_PERIOD_MS && observed.frames >= SKEW_FRAMES_MIN {
            *observed = fresh(Some((observed.largest, now.mono_ms)));
        } else {
            observed.largest = observed.largest.max(difference);
            observed.frames += 1;
        }
    }

    /// What to add to our wall clock to get the median of the peers' clocks, if that is more than `max_ms`: for stamps, which a new leader
    /// gives before it has heard its peers for long. A correction that is too low, after a pause, does no harm to them: they never fall.
    #[must_use]
    pub fn correction(&self, max_ms: u64, now: Now) -> Option<i64> {
        self.median(now, |observed| observed.guessed(now)).filter(|median| median.unsigned_abs() > max_ms)
    }

    /// Whether our wall clock is off by more than `max_ms`.
    #[must_use]
    pub fn is_off(&self, max_ms: u64, now: Now) -> bool {
        self.median(now, |observed| observed.judged(now)).is_some_and(|median| median.unsigned_abs() > max_ms)
    }

    /// Peers whose wall clocks are off by more than `max_ms`, or are not known.
    #[must_use]
    pub fn peers_off(&self, max_ms: u64, now: Now) -> Vec<u64> {
        let Some(median) = self.median(now, |observed| observed.judged(now)) else { return Vec::new() };
        let is_off = |observed: &Observed| {
            let difference = observed.judged(now).map(|theirs| theirs.saturating_sub(ours(now)).saturating_sub(median));
            difference.is_none_or(|difference| difference.unsigned_abs() > max_ms)
        };
        self.peers.iter().filter(|(_, observed)| is_off(observed)).map(|(peer, _)| *peer).collect()
    }

    /// The median of all wall clocks, ours among them, minus ours.
    fn median(&self, now: Now, difference: impl Fn(&Observed) -> Option<i64>) -> Option<i64> {
        let mut differences: Vec<i64> = self.peers.values().filter_map(difference).map(|theirs| theirs.saturating_sub(ours(now))).collect();
        if differences.len() < SKEW_PEERS_MIN {
            return None;
        }
        differences.push(0);
        differences.sort_unstable();
        // Of an even number of clocks there are two in the middle; the nearer one counts.
        let middle = [differences[(differences.len() - 1) / 2], differences[differences.len() / 2]];
        middle.into_iter().min_by_key(|difference| difference.unsigned_abs())
    }
}

/// Our wall time minus our monotonic time.
fn ours(now: Now) -> i64 {
    i64::try_from(now.wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(now.mono_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our wall clock at a monotonic time, when nobody steps it.
    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 1_000_000 + mono_ms }
    }

    /// A period of frames from a peer whose clock is ahead of ours by `ahead_ms`, each `late_ms` under way.
    fn observe(skew: &mut Skew, peer: u64, from_ms: u64, ahead_ms: i64, late_ms: u64) {
        for mono_ms in (from_ms..=from_ms + SKEW_PERIOD_MS).step_by(100) {
            skew.observe(peer, at(mono_ms - late_ms).wall_ms.saturating_add_signed(ahead_ms), at(mono_ms));
        }
    }

    #[test]
    fn a_clock_is_off_when_it_differs_from_most_peers() {
        let mut skew = Skew::default();
        let check = |skew: &Skew, mono_ms, expected: Option<i64>| {
            assert_eq!(skew.correction(500, at(mono_ms)), expected);
            assert_eq!(skew.is_off(500, at(mono_ms)), expected.is_some());
        };
        check(&skew, 10_000, None);
        observe(&mut skew, 2, 10_000, 900_000, 0);
        check(&skew, 12_000, None);
        observe(&mut skew, 3, 10_000, 10, 0);
        check(&skew, 12_000, None);
        observe(&mut skew, 3, 13_000, 800_000, 0);
        check(&skew, 15_000, Some(800_000));
        skew.observe(3, 0, at(26_000));
        check(&skew, 26_000, None);
    }

    #[test]
    fn of_three_clocks_far_apart_the_middle_one_is_right() {
        let (near, far) = (600, 1200);
        for (ahead, correction) in [([-near, near], None), ([near, far], Some(near)), ([-near, -far], Some(-near))] {
            let mut skew = Skew::default();
            [2, 3].into_iter().zip(ahead).for_each(|(peer, ahead_ms)| observe(&mut skew, peer, 10_000, ahead_ms, 0));
            assert_eq!(skew.correction(500, at(12_000)), correction, "{ahead:?}");
            assert_eq!(skew.is_off(500, at(12_000)), correction.is_some());
            let expected = if correction.is_some() { vec![3] } else { vec![2, 3] };
            assert_eq!(skew.peers_off(500, at(12_000)), expected, "{ahead:?}");
        }
    }

    #[test]
    fn a_step_of_the_own_clock_shows_at_once() {
        let mut skew = Skew::default();
        [2, 3].into_iter().for_each(|peer| observe(&mut skew, peer, 10_000, 0, 0));
        for step_ms in [-600_000, 600_000] {
            let stepped = Now { wall_ms: at(12_100).wall_ms.saturating_add_signed(step_ms), mono_ms: 12_100 };
            assert_eq!(skew.correction(500, stepped), Some(-step_ms));
            assert!(skew.is_off(500, stepped));
        }
    }

    #[test]
    fn a_new_leader_stamps_by_the_first_frames_and_resigns_by_a_whole_period() {
        let mut skew = Skew::default();
        [2, 3].into_iter().for_each(|peer| skew.observe(peer, at(10_000).wall_ms - 900_000, at(10_000)));
        assert_eq!(skew.correction(500, at(10_000)), Some(-900_000));
        assert!(!skew.is_off(500, at(10_000)));
        // What was seen long ago says nothing.
        [2, 3].into_iter().for_each(|peer| skew.observe(peer, at(50_000).wall_ms, at(50_000)));
        assert_eq!(skew.correction(500, at(50_000)), None);
    }

    #[test]
    fn frames_that_waited_say_nothing_about_a_clock() {
        let mut skew = Skew::default();
        [2, 3].into_iter().for_each(|peer| observe(&mut skew, peer, 10_000, 0, 1));
        // This process stood still; what was sent meanwhile is taken in at once, and then what is sent now.
        let resumed = 18_000;
        for peer in [2, 3] {
            for sent in (12_100..resumed).step_by(100) {
                skew.observe(peer, at(sent).wall_ms, at(resumed));
                assert!(!skew.is_off(500, at(resumed)));
            }
            observe(&mut skew, peer, resumed, 0, 1);
        }
        assert!(!skew.is_off(500, at(resumed + SKEW_PERIOD_MS)));
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
