//! Campaigns: long runs of one fault, or of all of them, with the figures that the project promises. `src/bin` runs them at full size,
//! `tests/campaigns.rs` at a small one. A campaign panics when a promise is broken, and reports what was measured.

pub mod chaos;
pub mod crash_all;
pub mod damage;
pub mod failover;
pub mod power;

use std::time::Duration;

/// The value in the middle; of an even number, the lower of the two.
/// # Panics
/// There is none.
#[must_use]
pub fn median(values: &[Duration]) -> Duration {
    percentile(values, 50)
}

/// The smallest value that so many percent of the values do not exceed.
/// # Panics
/// There are no values.
#[must_use]
pub fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let check = |count: u64, percent: usize, expected: u64| {
            let values: Vec<Duration> = (1..=count).rev().map(Duration::from_millis).collect();
            assert_eq!(percentile(&values, percent), Duration::from_millis(expected), "{percent} of {count}");
        };
        check(1, 50, 1);
        check(4, 50, 2);
        check(5, 50, 3);
        check(200, 99, 198);
        check(30, 99, 30);
        check(30, 100, 30);
    }
}
