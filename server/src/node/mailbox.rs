//! The core's mailbox: events of clients, peers and workers, taken in one piece per turn.
//! Waking a thread costs more than most events, so a sender wakes the core only when the core can do something with the event. While a
//! leader waits for its disk it has no use for more runs: they gather and become one entry. While a read round is in flight there is no
//! use for more reads: they gather for the next one.
//! Invariant: an event stays at most until the next tick, whatever the appetite.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::shell::Event;

/// Events waiting for the core; senders beyond that wait or are refused.
const EVENTS_MAX: usize = 1 << 16;

/// What an event needs of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To be seen at once.
    Attention,
    /// To be proposed.
    Proposal,
    /// To join a read round.
    ReadRound,
}

/// All of them, each at the place of its value.
const NEEDS: [Need; 3] = [Need::Attention, Need::Proposal, Need::ReadRound];

/// What the core wants to be woken for, beside what needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appetite {
    /// Runs would be proposed or forwarded at once.
    pub(super) runs: bool,
    /// Reads would begin a round.
    pub(super) reads: bool,
}

impl Appetite {
    const fn wants(self, need: Need) -> bool {
        match need {
            Need::Attention => true,
            Need::Proposal => self.runs,
            Need::ReadRound => self.reads,
        }
    }
}

struct State {
    events: Vec<Event>,
    /// Which needs there are since the core looked last.
    needs: [bool; NEEDS.len()],
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
        Self { state: Mutex::new(State { events: Vec::new(), needs: [false; NEEDS.len()], asleep: None }), wake: Condvar::new() }
    }

    /// Leaves an event if there is room.
    pub(super) fn push(&self, event: Event, need: Need) -> Result<(), Event> {
        let mut state = self.lock();
        if state.events.len() >= EVENTS_MAX {
            // Whoever would be let in next may be what the core sleeps for.
            self.rouse(state, Need::Attention);
            return Err(event);
        }
        state.events.push(event);
        self.rouse(state, need);
        Ok(())
    }

    /// Wakes the core without an event.
    pub(super) fn wake(&self) {
        self.rouse(self.lock(), Need::Attention);
    }

    fn rouse(&self, mut state: MutexGuard<'_, State>, need: Need) {
        state.needs[need as usize] = true;
        if state.asleep.take_if(|appetite| appetite.wants(need)).is_some() {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits for something to do, at most until a moment, and takes all events.
    pub(super) fn take(&self, until: Instant, appetite: Appetite) -> Vec<Event> {
        let mut state = self.lock();
        while !NEEDS.iter().any(|need| state.needs[*need as usize] && appetite.wants(*need)) {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            state.asleep = Some(appetite);
            state = self.wake.wait_timeout(state, wait).expect("no holder of this lock panics").0;
            state.asleep = None;
        }
        state.needs = [false; NEEDS.len()];
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
            move || mailbox.take(soon(), Appetite { runs: false, reads: true }).len()
        });
        while mailbox.lock().asleep.is_none() {
            std::thread::yield_now();
        }
        assert!(mailbox.push(Event::Resign, Need::Proposal).is_ok());
        assert!(mailbox.lock().asleep.is_some());
        assert!(mailbox.push(Event::Resign, Need::ReadRound).is_ok());
        assert_eq!(taken.join().expect("no panic"), 2);
        for (need, appetite) in [(Need::Proposal, (true, false)), (Need::ReadRound, (false, true)), (Need::Attention, (false, false))] {
            assert!(mailbox.push(Event::Resign, need).is_ok());
            assert_eq!(mailbox.take(soon(), Appetite { runs: appetite.0, reads: appetite.1 }).len(), 1);
        }
        assert_eq!(mailbox.take(Instant::now(), Appetite { runs: true, reads: true }).len(), 0, "the time is up");
    }

    #[test]
    fn a_full_mailbox_refuses() {
        let mailbox = Mailbox::new();
        let taken = (0..=EVENTS_MAX).filter(|_| mailbox.push(Event::Resign, Need::Attention).is_ok()).count();
        assert_eq!(taken, EVENTS_MAX);
    }

    #[test]
    fn a_full_mailbox_wakes_whatever_it_is_full_of() {
        let mailbox = Mailbox::new();
        while mailbox.push(Event::Resign, Need::ReadRound).is_ok() {}
        let until = soon();
        assert_eq!(mailbox.take(until, Appetite { runs: false, reads: false }).len(), EVENTS_MAX);
        assert!(Instant::now() < until);
    }
}
