//! Histories of counters, and whether they are linearizable.
//! Clients on all nodes increment and read a few counters, and note when each operation began and ended. A counter that only rises makes
//! the check cheap: the value that an operation returned tells its place in the order. So a history is refused when an operation that
//! began after another had ended saw an earlier value, or, being an increment, not a later one; when two increments returned the same
//! value; or when a read saw more than had been begun. Increments without an outcome may have happened at any time after they began.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::RngExt;
use resp::Value;

use crate::client::{Client, integer};

/// Counters; a few, so that operations meet.
const COUNTERS: usize = 3;
/// Pause before a client without a connection tries again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// What a client did to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// INCR.
    Increment,
    /// GET.
    Read,
}

/// One operation on one counter.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Which counter.
    pub counter: usize,
    /// What was done.
    pub operation: Operation,
    /// When it was sent.
    pub began: Instant,
    /// When the reply was there, and the counter's value in it; `None` for an increment whose outcome is unknown.
    pub outcome: Option<(Instant, i64)>,
}

/// Clients that make a history.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Event>>>,
}

impl Clients {
    /// Starts `per_node` clients on each of some nodes. Each stays with its node, and tries again when the node does not answer.
    #[must_use]
    pub fn start(name: &str, addresses: &[SocketAddr], per_node: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |address: SocketAddr| {
            let (name, stop) = (name.to_owned(), Arc::clone(&stop));
            thread::spawn(move || run(&name, address, &stop))
        };
        let places = addresses.iter().flat_map(|address| std::iter::repeat_n(*address, per_node));
        Self { threads: places.map(client).collect(), stop }
    }

    /// Stops; what was done, in no order.
    /// # Panics
    /// A client has panicked.
    #[must_use]
    pub fn stop(mut self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        threads.into_iter().flat_map(|thread| thread.join().expect("a client does not panic")).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(name: &str, address: SocketAddr, stop: &AtomicBool) -> Vec<Event> {
    let mut events = Vec::new();
    let mut connected: Option<Client> = None;
    let mut random = rand::rng();
    while !stop.load(Ordering::Relaxed) {
        let Some(mut client) = connected.take().or_else(|| Client::connect(address).ok()) else {
            thread::sleep(RECONNECT_PAUSE);
            continue;
        };
        let counter = random.random_range(0..COUNTERS);
        let operation = if random.random_bool(0.5) { Operation::Increment } else { Operation::Read };
        let command = if operation == Operation::Increment { "INCR" } else { "GET" };
        let began = Instant::now();
        let reply = client.call(&[command.to_owned(), format!("{name}:{counter}")]);
        let ended = Instant::now();
        let outcome = match &reply {
            Ok(Value::Error(text)) if !text.starts_with("TIMEOUT") => continue,
            Ok(Value::Error(_)) | Err(_) => None,
            Ok(Value::Null) => Some((ended, 0)),
            Ok(value) => Some((ended, integer(value))),
        };
        // A read without an outcome says nothing.
        if outcome.is_some() || operation == Operation::Increment {
            events.push(Event { counter, operation, began, outcome });
        }
        connected = reply.is_ok().then_some(client);
    }
    events
}

/// Checks that a history is linearizable.
/// # Errors
/// It is not; the text says which operations contradict each other.
pub fn check(events: &[Event]) -> Result<(), String> {
    (0..COUNTERS).try_for_each(|counter| {
        let events: Vec<Event> = events.iter().filter(|event| event.counter == counter).copied().collect();
        check_one(&events).map_err(|problem| format!("counter {counter}: {problem}"))
    })
}

fn check_one(events: &[Event]) -> Result<(), String> {
    let mut returned = BTreeSet::new();
    for event in events.iter().filter(|event| event.operation == Operation::Increment) {
        if let Some((_, value)) = event.outcome
            && !returned.insert(value)
        {
            return Err(format!("two increments returned {value}"));
        }
    }
    check_order(events)?;
    check_bounds(events)
}

/// An operation sees what every operation saw that had ended before it began.
fn check_order(events: &[Event]) -> Result<(), String> {
    let known = || events.iter().filter_map(|event| event.outcome.map(|outcome| (event, outcome)));
    let mut by_end: Vec<_> = known().map(|(_, outcome)| outcome).collect();
    by_end.sort_unstable();
    let mut by_begin: Vec<_> = known().collect();
    by_begin.sort_unstable_by_key(|(event, _)| event.began);
    let (mut ended, mut seen) = (0, 0);
    for (event, (_, value)) in by_begin {
        while ended < by_end.len() && by_end[ended].0 < event.began {
            seen = seen.max(by_end[ended].1);
            ended += 1;
        }
        let least = if event.operation == Operation::Increment { seen + 1 } else { seen };
        if value < least {
            return Err(format!("{:?} returned {value} when {seen} had been seen", event.operation));
        }
    }
    Ok(())
}

/// Nothing sees more increments than had begun.
fn check_bounds(events: &[Event]) -> Result<(), String> {
    let mut begins: Vec<Instant> = events.iter().filter(|event| event.operation == Operation::Increment).map(|event| event.began).collect();
    begins.sort_unstable();
    for event in events {
        let Some((ended, value)) = event.outcome else { continue };
        let begun = begins.partition_point(|began| *began <= ended);
        if value > i64::try_from(begun).unwrap_or(i64::MAX) {
            return Err(format!("{:?} returned {value} when only {begun} increments had begun", event.operation));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a history given as operation, begin, end and value; an end of 0 is an unknown outcome.
    fn judge(operations: &[(Operation, u64, u64, i64)], expected: Result<(), &str>) {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let event = |(operation, began, ended, value): &(Operation, u64, u64, i64)| Event {
            counter: 0,
            operation: *operation,
            began: at(*began),
            outcome: (*ended > 0).then(|| (at(*ended), *value)),
        };
        let events: Vec<Event> = operations.iter().map(event).collect();
        assert_eq!(check_one(&events), expected.map_err(str::to_owned), "{operations:?}");
    }

    #[test]
    fn linearizable_histories_are_accepted() {
        use Operation::{Increment, Read};
        judge(&[], Ok(()));
        judge(&[(Increment, 1, 2, 1), (Read, 3, 4, 1), (Increment, 5, 6, 2)], Ok(()));
        // Concurrent operations may take either order.
        judge(&[(Increment, 1, 9, 1), (Read, 2, 3, 0)], Ok(()));
        judge(&[(Increment, 1, 9, 1), (Read, 2, 3, 1), (Read, 4, 5, 1)], Ok(()));
        // An unknown increment may happen late, or never.
        judge(&[(Increment, 1, 0, 0), (Read, 2, 3, 0), (Read, 8, 9, 1)], Ok(()));
    }

    #[test]
    fn other_histories_are_refused() {
        use Operation::{Increment, Read};
        judge(&[(Increment, 1, 2, 1), (Read, 3, 4, 0)], Err("Read returned 0 when 1 had been seen"));
        judge(&[(Increment, 1, 9, 1), (Read, 2, 3, 1), (Read, 4, 5, 0)], Err("Read returned 0 when 1 had been seen"));
        judge(&[(Increment, 1, 2, 1), (Increment, 3, 4, 1)], Err("two increments returned 1"));
        judge(&[(Increment, 3, 4, 1), (Increment, 1, 2, 2)], Err("Increment returned 1 when 2 had been seen"));
        judge(&[(Increment, 1, 2, 1), (Read, 3, 4, 2)], Err("Read returned 2 when only 1 increments had begun"));
        judge(&[(Read, 1, 2, 1), (Increment, 3, 4, 1)], Err("Increment returned 1 when 1 had been seen"));
    }
}
