//! Wakes connections when their pipelines are due, in the open loop.
//! The runtime's own timer is a millisecond coarse, which is longer than many a reply takes, so each worker has one timer of the kernel's.
//! Pipelines that are due within a tenth of a millisecond wake together: a latency is too long by that at most, for a wake-up costs time
//! that the server may need.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;

use super::timing::Schedule;

/// Shortest sleep.
const SLEEP_MIN: Duration = Duration::from_micros(100);

/// Length of what is read from a timer.
const EXPIRATIONS_BYTES: usize = 8;

/// The clock of one worker's connections.
#[derive(Debug)]
pub(super) struct Pacer {
    schedule: Schedule,
    /// The worker's connections by rising number, each with what wakes it.
    sleepers: Vec<(u32, Arc<Notify>)>,
    /// The runtime has no safe way in for files of any kind, but a timer is read as a pipe is.
    timer: Receiver,
}

impl Pacer {
    /// # Errors
    /// The system gives no timer.
    pub(super) fn new(schedule: Schedule, sleepers: Vec<(u32, Arc<Notify>)>) -> io::Result<Pacer> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Pacer { schedule, sleepers, timer: Receiver::from_owned_fd_unchecked(timer)? })
    }

    /// Wakes for ever.
    /// # Errors
    /// The timer fails.
    pub(super) async fn run(self) -> io::Result<()> {
        let mut awake_until = Instant::now();
        for turn in 0.. {
            for (connection, sleeper) in &self.sleepers {
                let due = self.schedule.due(*connection, turn);
                if due > awake_until {
                    self.sleep_until(due.max(awake_until + SLEEP_MIN)).await?;
                    awake_until = Instant::now();
                }
                // A connection that does not sleep finds this when it next looks, and looks at the clock itself.
                sleeper.notify_one();
            }
        }
        Ok(())
    }

    async fn sleep_until(&self, moment: Instant) -> io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Others must get their turn also when the load is behind.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: value })?;
        loop {
            self.timer.readable().await?;
            match self.timer.try_read(&mut [0; EXPIRATIONS_BYTES]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_woken_when_they_are_due_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let start = Instant::now();
            let schedule = Schedule::new(start, 2, 1, 200);
            let sleepers: Vec<_> = (0..2).map(|connection| (connection, Arc::new(Notify::new()))).collect();
            let pacer = tokio::spawn(Pacer::new(schedule, sleepers.clone()).expect("a timer").run());
            for turn in 0..10 {
                for (connection, sleeper) in &sleepers {
                    sleeper.notified().await;
                    assert!(Instant::now() >= schedule.due(*connection, turn), "connection {connection}, turn {turn}");
                }
            }
            assert!(start.elapsed() >= Duration::from_millis(95));
            pacer.abort();
        });
    }
}
