//! Campaigns: long runs of one fault, or of all of them, with the figures that the project promises. `src/bin` runs them at full size,
//! `tests/campaigns.rs` at a small one. A campaign panics when a promise is broken, and reports what was measured.

pub mod chaos;
pub mod crash_all;
pub mod damage;
pub mod failover;
pub mod larger_than_memory;

use std::time::Duration;

/// The value in the middle; of an even number, the lower of the two.
/// # Panics
/// There is none.
#[must_use]
pub fn median(values: &[Duration]) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) / 2]
}
