//! Waiting for conditions, with a deadline, instead of sleeping for a time that may be too short or too long.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take on a loaded machine before a test gives it up. What a test asserts about speed, it measures itself.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until the condition holds; false if it did not by the deadline.
pub fn wait_until(deadline: Instant, mut condition: impl FnMut() -> bool) -> bool {
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK_INTERVAL);
    }
}

/// Waits until there is a value, for as long as `PATIENCE`.
/// # Panics
/// There was none in time; `what` says what was missing.
#[track_caller]
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, condition)
}

/// Waits until there is a value.
/// # Panics
/// There was none in time; `what` says what was missing.
#[track_caller]
pub fn eventually_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(Instant::now() + patience, || {
        found = condition();
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("not within {patience:?}: {what}"))
}
