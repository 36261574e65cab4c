//! Clocks that are wrong, one at a time: with the others right, nobody may notice anything but a change of leaders.

use std::thread;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::deck::Mode;
use super::stage::{Missed, Stage};

/// By how much a clock jumps, in milliseconds.
const JUMPS_MS: [i64; 3] = [2_000, 60_000, 3_600_000];
/// By how much a clock may be off, either way, and nobody does anything about it: less than `clock-skew-max`.
const SKEW_MS: std::ops::RangeInclusive<i64> = 100..=400;
/// How long a clock is wrong: longer than it takes a leader to notice and to hand over.
const WRONG: Duration = Duration::from_millis(5_000);
/// How long the load goes on after it is right again.
const RIGHT_AGAIN: Duration = Duration::from_millis(1_500);

impl Stage {
    pub(super) fn play_clock(&mut self, mode: Mode) -> Result<(), Missed> {
        let voters = self.voters()?;
        // Mostly the leader's: entries are stamped by it.
        let position = if self.random.random_bool(0.7) { voters[0] } else { *voters.choose(&mut self.random).expect("there is a leader") };
        let jump = *JUMPS_MS.choose(&mut self.random).expect("there are jumps");
        let ahead_ms = match mode {
            Mode::ClockForward => jump,
            Mode::ClockBack => -jump,
            Mode::ClockSkew => self.random.random_range(SKEW_MS) * if self.random.random_bool(0.5) { 1 } else { -1 },
            mode => unreachable!("{mode:?} is not about clocks"),
        };
        self.note(&format!("  the clock of {position} is {ahead_ms} ms ahead"));
        self.cluster.clock(position).set(ahead_ms);
        if mode == Mode::ClockSkew {
            // It stays a leader that nobody doubts, or becomes one.
            self.transfer_to(position)?;
        }
        thread::sleep(WRONG);
        self.cluster.clock(position).set(0);
        self.note("  the clock is right again");
        thread::sleep(RIGHT_AGAIN);
        Ok(())
    }
}
