//! The time a leader stamps entries with.
//! The stamp follows the wall clock, never falls below what the log already holds, and while it is ahead of the wall clock (a step back,
//! or a predecessor whose clock was fast) it advances at half the monotonic rate until the wall clock has caught up.
//! All times in milliseconds; wall times since the Unix epoch.

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

#[cfg(test)]
mod tests {
    use super::*;

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
