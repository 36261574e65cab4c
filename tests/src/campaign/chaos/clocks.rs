//! Clocks that are wrong, one at a time: with the others right, nobody may notice anything but a change of leaders. What time it is to a node
//! is asked of the node.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::deck::Mode;
use super::stage::{Missed, Stage};
use crate::client::{elements, integer};
use crate::wait::wait_until;

/// By how much a clock jumps, in milliseconds.
const JUMPS_MS: [i64; 3] = [2_000, 60_000, 3_600_000];
/// By how much a clock may be off, either way, and nobody does anything about it: less than `clock-skew-max`.
const SKEW_MS: std::ops::RangeInclusive<i64> = 100..=400;
/// How long a clock is wrong: longer than it takes a leader to notice and to hand over.
const WRONG: Duration = Duration::from_millis(5_000);
/// How exactly a clock is seen, in microseconds: better than the smallest skew.
const EXACT_US: i64 = 40_000;
/// How long a clock may take to be seen so exactly.
const SEEN_MAX: Duration = Duration::from_secs(2);
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
        self.see_clock(position, 0)?;
        self.note(&format!("  the clock of {position} is {ahead_ms} ms ahead"));
        self.cluster.clock(position).set(ahead_ms);
        self.see_clock(position, ahead_ms)?;
        if mode == Mode::ClockSkew {
            // It stays a leader that nobody doubts, or becomes one.
            self.transfer_to(position)?;
        }
        thread::sleep(WRONG);
        self.cluster.clock(position).set(0);
        self.see_clock(position, 0)?;
        self.prove(mode, "clocks seen wrong, and right again", 1);
        self.note("  the clock is right again");
        thread::sleep(RIGHT_AGAIN);
        Ok(())
    }

    /// Sees that a node's clock is so far ahead of the machine's.
    fn see_clock(&self, position: usize, ahead_ms: i64) -> Result<(), Missed> {
        let ahead_us = ahead_ms * 1_000;
        let mut seen = None;
        let is_seen = wait_until(Instant::now() + SEEN_MAX, || {
            seen = self.ask_clock(position);
            seen.is_some_and(|(least, most)| most - least <= EXACT_US && least - EXACT_US <= ahead_us && ahead_us <= most + EXACT_US)
        });
        if is_seen { Ok(()) } else { Err(Missed(format!("the clock of {position} is not {ahead_us} us ahead: {seen:?}"))) }
    }

    /// How far a node's clock is ahead of the machine's, at least and at most, in microseconds.
    fn ask_clock(&self, position: usize) -> Option<(i64, i64)> {
        let mut client = self.client(position)?;
        let before = now_us();
        let time = elements(client.call(&["TIME"]).ok()?);
        let after = now_us();
        let there = integer(&time[0]) * 1_000_000 + integer(&time[1]);
        Some((there - after, there - before))
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the end of time")
}
