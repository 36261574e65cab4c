//! When a run begins, counts and ends, when its commands are due, and how many are left.
//! Closed loop: a connection sends when it was answered. While a server stands still, each connection waits with one pipeline and all that
//! would have come meanwhile is never sent, so few latencies show it: coordinated omission.
//! Open loop, with a rate: pipelines are due at fixed times, dealt to the connections in turn. A connection that still waits sends later what
//! was due meanwhile, and each latency counts from when its pipeline was due. Nothing that is due is left out.
//! What was due, or was sent, before the warm-up is over does not count.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::options::Extent;

/// The moments of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Sending begins.
    pub(super) start: Instant,
    /// Counting begins.
    pub(super) counted_from: Instant,
    /// Nothing is due any more. `None`: when the commands are used up.
    pub(super) end: Option<Instant>,
}

impl Timing {
    /// A run that begins now.
    pub(super) fn new(start: Instant, warmup: Duration, extent: Extent) -> Timing {
        let counted_from = start + warmup;
        let end = match extent {
            Extent::Time(length) => Some(counted_from + length),
            Extent::Commands(_) => None,
        };
        Timing { start, counted_from, end }
    }

    /// Whether nothing is due any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }
}

/// When pipelines are due, in the open loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: Instant,
    connections: u32,
    pipeline: u32,
    /// Commands per second in all.
    rate: u64,
}

impl Schedule {
    pub(super) fn new(start: Instant, connections: u32, pipeline: u32, rate: u64) -> Schedule {
        Schedule { start, connections, pipeline, rate }
    }

    /// When a connection's pipeline of a turn is due. The turns of all connections are spread evenly.
    pub(super) fn due(&self, connection: u32, turn: u64) -> Instant {
        let pipelines = u128::from(turn) * u128::from(self.connections) + u128::from(connection);
        let nanos = pipelines * u128::from(self.pipeline) * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Commands that are due before a moment.
    pub(super) fn commands_due(&self, moment: Instant) -> u64 {
        let nanos = moment.saturating_duration_since(self.start).as_nanos();
        let pipelines = (nanos * u128::from(self.rate)).div_ceil(u128::from(self.pipeline) * 1_000_000_000);
        u64::try_from(pipelines).unwrap_or(u64::MAX).saturating_mul(u64::from(self.pipeline))
    }
}

/// The commands that are left. Each has a number, from 0; the numbers are given out once.
#[derive(Debug)]
pub(super) struct Budget {
    next: AtomicU64,
    end: u64,
}

impl Budget {
    pub(super) fn new(extent: Extent) -> Budget {
        let end = match extent {
            Extent::Time(_) => u64::MAX,
            Extent::Commands(commands) => commands,
        };
        Budget { next: AtomicU64::new(0), end }
    }

    /// At most so many numbers; none if all are given out.
    pub(super) fn take(&self, count: u32) -> Range<u64> {
        // Wraps only after centuries: every taker ends when it gets nothing.
        let first = self.next.fetch_add(u64::from(count), Ordering::Relaxed).min(self.end);
        first..first.saturating_add(u64::from(count)).min(self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_are_due_evenly_and_in_turn() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 3, 10, 1000);
        let due = |connection, turn| (schedule.due(connection, turn) - start).as_millis();
        assert_eq!([due(0, 0), due(1, 0), due(2, 0), due(0, 1), due(1, 1)], [0, 10, 20, 30, 40]);
        assert_eq!(due(2, 1_000_000), 30_000_020);
    }

    #[test]
    fn as_many_are_due_as_the_rate_says() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 3, 10, 1000);
        let check = |millis, expected| assert_eq!(schedule.commands_due(start + Duration::from_millis(millis)), expected, "{millis} ms");
        check(0, 0);
        check(1, 10);
        check(10, 10);
        check(11, 20);
        check(1000, 1000);
        // The same by asking for each.
        let moment = start + Duration::from_millis(12_345);
        let due = (0..1000).flat_map(|turn| (0..3).map(move |connection| (connection, turn)));
        let count = due.filter(|(connection, turn)| schedule.due(*connection, *turn) < moment).count() as u64;
        assert_eq!(schedule.commands_due(moment), count * 10);
    }

    #[test]
    fn a_rate_that_does_not_divide_is_kept_on_average() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 7, 3, 999_983);
        assert_eq!(schedule.commands_due(start + Duration::from_secs(3)), 2_999_949);
    }

    #[test]
    fn numbers_are_given_out_once() {
        let budget = Budget::new(Extent::Commands(25));
        assert_eq!([(); 4].map(|()| budget.take(10)), [0..10, 10..20, 20..25, 25..25]);
        let budget = Budget::new(Extent::Time(Duration::ZERO));
        assert_eq!([(); 2].map(|()| budget.take(7)), [0..7, 7..14]);
    }

    #[test]
    fn the_warm_up_comes_before_what_counts() {
        let start = Instant::now();
        let timing = Timing::new(start, Duration::from_secs(2), Extent::Time(Duration::from_secs(5)));
        assert_eq!(timing.counted_from, start + Duration::from_secs(2));
        assert!(!timing.is_over(start + Duration::from_secs(6)));
        assert!(timing.is_over(start + Duration::from_secs(7)));
        assert!(!Timing::new(start, Duration::ZERO, Extent::Commands(1)).is_over(start + Duration::from_secs(9999)));
    }
}
