//! The core's mailbox: events of clients, peers and workers, taken in one piece per turn.
//! Waking a thread costs more than most events, so a sender wakes the core only when the core can do something with the event. While a
//! leader waits for its disk it has no use for more runs: they gather and become one entry (`Appetite::Urgent`).
//! Invariant: an event stays at most until the next tick, whatever the appetite.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::shell::Event;

/// Events waiting for the core; senders beyond that wait or are refused.
const EVENTS_MAX: usize = 1 << 16;

/// What the core wants to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appetite {
    /// Any event.
    Any,
    /// Only what cannot wait.
    Urgent,
}

struct State {
    events: Vec<Event>,
    /// An event that cannot wait is among them.
    urgent: bool,
    /// What the core sleeps for; `None` while it is awake.
    asleep: Option<Appetite>,
}

/// The mailbox.
pub(super) struct Mailbox {
    state: Mutex<State>,
    wake: Condvar,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { events: Vec::new(), urgent: false, asleep: None }), wake: Condvar::new() }
    }

    /// Leaves an event if there is room.
    pub(super) fn push(&self, event: Event, urgent: bool) -> Result<(), Event> {
        let mut state = self.lock();
        if state.events.len() >= EVENTS_MAX {
            return Err(event);
        }
        state.events.push(event);
        self.rouse(state, urgent);
        Ok(())
    }

    /// Wakes the core without an event.
    pub(super) fn wake(&self) {
        self.rouse(self.lock(), true);
    }

    fn rouse(&self, mut state: MutexGuard<'_, State>, urgent: bool) {
        state.urgent |= urgent;
        let wakes = match state.asleep {
            None => false,
            Some(Appetite::Any) => true,
            Some(Appetite::Urgent) => urgent,
        };
        if wakes {
            state.asleep = None;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits for something to do, at most until a moment, and takes all events.
    pub(super) fn take(&self, until: Instant, appetite: Appetite) -> Vec<Event> {
        let mut state = self.lock();
        let is_ready = |state: &State| state.urgent || (appetite == Appetite::Any && !state.events.is_empty());
        while !is_ready(&state) {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            state.asleep = Some(appetite);
            state = self.wake.wait_timeout(state, wait).expect("no holder of this lock panics").0;
            state.asleep = None;
        }
        state.urgent = false;
        std::mem::take(&mut state.events)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn events_that_can_wait_do_not_wake_but_are_taken_with_the_next() {
        let mailbox = Arc::new(Mailbox::new());
        let taken = std::thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.take(soon(), Appetite::Urgent).len()
        });
        while mailbox.lock().asleep.is_none() {
            std::thread::yield_now();
        }
        assert!(mailbox.push(Event::Resign, false).is_ok());
        assert!(mailbox.lock().asleep.is_some());
        assert!(mailbox.push(Event::Resign, true).is_ok());
        assert_eq!(taken.join().expect("no panic"), 2);
        assert!(mailbox.push(Event::Resign, false).is_ok());
        assert_eq!(mailbox.take(soon(), Appetite::Any).len(), 1);
        assert_eq!(mailbox.take(Instant::now(), Appetite::Any).len(), 0, "the time is up");
    }

    #[test]
    fn a_full_mailbox_refuses() {
        let mailbox = Mailbox::new();
        let taken = (0..=EVENTS_MAX).filter(|_| mailbox.push(Event::Resign, false).is_ok()).count();
        assert_eq!(taken, EVENTS_MAX);
    }
}
