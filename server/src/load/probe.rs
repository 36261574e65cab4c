//! A thread that sleeps, and notes when it woke too late: then the machine stood still or had no processor free, whatever a server did.
//! Without it a pause of a virtual machine would be taken for one of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::LoadError;

/// How long it sleeps each time.
const SLEEP: Duration = Duration::from_millis(5);
/// Least lateness that is noted: less is usual where every processor is busy.
const LATE_MIN: Duration = Duration::from_millis(2);
/// Notes that are kept.
const NOTES_MAX: usize = 100_000;

/// A sleep that was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oversleep {
    /// When it should have ended.
    due: Instant,
    /// When it ended.
    woke: Instant,
}

/// All that were noted, in the order of time. They do not overlap.
#[derive(Clone, Debug, Default)]
pub(super) struct Oversleeps {
    notes: Vec<Oversleep>,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Oversleeps>,
}

impl Probe {
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start() -> Result<Probe, LoadError> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name("load-probe".to_owned());
        let thread = thread.spawn(move || watch(&told)).map_err(|cause| LoadError::System { what: "a thread", cause })?;
        Ok(Probe { stop, thread })
    }

    /// Ends it.
    pub(super) fn stop(self) -> Oversleeps {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("sleeping does not panic")
    }
}

impl Oversleeps {
    /// The longest that touches a time.
    pub(super) fn longest(&self, from: Instant, to: Instant) -> Duration {
        let first = self.notes.partition_point(|note| note.woke <= from);
        let touching = self.notes[first..].iter().take_while(|note| note.due < to);
        touching.map(|note| note.woke - note.due).max().unwrap_or_default()
    }
}

fn watch(stop: &AtomicBool) -> Oversleeps {
    let mut notes = Vec::new();
    while !stop.load(Ordering::Relaxed) && notes.len() < NOTES_MAX {
        let due = Instant::now() + SLEEP;
        thread::sleep(SLEEP);
        let woke = Instant::now();
        if woke.saturating_duration_since(due) >= LATE_MIN {
            notes.push(Oversleep { due, woke });
        }
    }
    Oversleeps { notes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_longest_that_touches_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let note = |due, woke| Oversleep { due: at(due), woke: at(woke) };
        let oversleeps = Oversleeps { notes: vec![note(10, 13), note(20, 50), note(55, 60)] };
        let check = |from, to, millis| assert_eq!(oversleeps.longest(at(from), at(to)).as_millis(), millis, "{from} to {to}");
        check(0, 10, 0);
        check(0, 11, 3);
        check(13, 20, 0);
        check(0, 100, 30);
        check(30, 40, 30);
        check(50, 100, 5);
        check(60, 100, 0);
    }

    #[test]
    fn a_probe_ends_when_it_is_told() {
        let before = Instant::now();
        let oversleeps = Probe::start().expect("a thread").stop();
        assert!(oversleeps.notes.len() <= 1 && oversleeps.notes.iter().all(|note| note.due > before));
    }
}
