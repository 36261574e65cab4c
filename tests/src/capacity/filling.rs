//! Data that can be checked: every key once, in random order, with values that follow from the number of their key.
//! So any key can be verified without a list, and what is written falls everywhere among what is there, as it does from applications: keys
//! in their order would cost an LSM tree next to nothing. Keys are named as `redraft load` names them, so that its reads find them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use resp::Value;
use serde::Serialize;

use crate::client::Client;
use crate::wait::wait_until;

/// Connections that write.
const WRITERS: u64 = 8;
/// Commands in a pipeline.
const PIPELINE: u64 = 100;
/// How long everything may take to be written.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// Makes the order of the keys look random; odd, so that it runs through all of a power of two.
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;
/// Bytes of a key.
pub const KEY_BYTES: u64 = 16;
/// Half of each such piece of a half-random value is random, the other half repeats it.
const PIECE_BYTES: usize = 100;

/// How well values compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    /// To about half.
    Half,
    /// Not at all.
    Random,
}

/// Data to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Filling {
    /// Keys.
    pub keys: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How well values compress.
    pub values: Values,
}

impl Filling {
    /// As many keys as have values of so many bytes together.
    #[must_use]
    pub fn of_bytes(bytes: u64, value_bytes: usize, values: Values) -> Filling {
        Filling { keys: (bytes / value_bytes as u64).max(1), value_bytes, values }
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn user_bytes(&self) -> u64 {
        self.keys * (KEY_BYTES + self.value_bytes as u64)
    }

    /// Writes all of it. `observe` is told the keys written so far, often.
    /// # Panics
    /// A write is refused, or they take longer than hours.
    pub fn write(&self, address: SocketAddr, mut observe: impl FnMut(u64)) {
        let written = AtomicU64::new(0);
        thread::scope(|scope| {
            let start = |writer| {
                let written = &written;
                scope.spawn(move || self.write_share(address, writer, written))
            };
            let writers: Vec<_> = (0..WRITERS).map(start).collect();
            let done = wait_until(Instant::now() + PATIENCE, || {
                observe(written.load(Ordering::Relaxed));
                writers.iter().all(thread::ScopedJoinHandle::is_finished)
            });
            assert!(done, "not all keys were written within {PATIENCE:?}");
        });
        let written = written.into_inner();
        assert_eq!(written, self.keys, "every key was written once");
        observe(written);
    }

    /// Writes every `WRITERS`-th key.
    fn write_share(&self, address: SocketAddr, writer: u64, written: &AtomicU64) {
        let mut client = Client::connect(address).expect("the node listens");
        let mut numbers = (writer..self.keys).step_by(WRITERS as usize).map(|position| scattered(position, self.keys)).peekable();
        while numbers.peek().is_some() {
            let commands = numbers.by_ref().take(PIPELINE as usize).map(|number| [b"SET".to_vec(), key(number), self.value(number)]);
            for reply in client.pipeline(commands).expect("the node answers") {
                assert!(!matches!(reply, Value::Error(_)), "a write is refused: {reply:?}");
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Reads so many keys at random and compares them.
    /// # Panics
    /// One is not what was written.
    pub fn check(&self, address: SocketAddr, sample: u64) {
        let mut client = Client::connect(address).expect("the node listens");
        let mut random = StdRng::seed_from_u64(sample);
        let numbers: Vec<u64> = (0..sample).map(|_| random.random_range(0..self.keys)).collect();
        for batch in numbers.chunks(PIPELINE as usize) {
            let replies = client.pipeline(batch.iter().map(|number| [b"GET".to_vec(), key(*number)])).expect("the node answers");
            for (number, reply) in batch.iter().zip(replies) {
                assert!(reply == Value::Bulk(self.value(*number).into()), "key {number} has another value: {reply:?}");
            }
        }
    }

    fn value(&self, number: u64) -> Vec<u8> {
        let mut random = StdRng::seed_from_u64(number);
        let mut value = vec![0; self.value_bytes];
        match self.values {
            Values::Random => random.fill_bytes(&mut value),
            Values::Half => {
                for piece in value.chunks_mut(PIECE_BYTES) {
                    let (first, rest) = piece.split_at_mut(piece.len().div_ceil(2));
                    random.fill_bytes(first);
                    rest.copy_from_slice(&first[..rest.len()]);
                }
            }
        }
        value
    }
}

/// A number below `keys` for each position below `keys`, all different, in an order that looks random.
fn scattered(position: u64, keys: u64) -> u64 {
    let mask = keys.next_power_of_two() - 1;
    let mut number = position;
    // A permutation of the numbers below the power of two; walked on until it is below `keys`, it is one of those.
    loop {
        number = number.wrapping_mul(STRIDE) & mask;
        if number < keys {
            return number;
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_written_once() {
        for keys in [1, 7, 8, 1000] {
            let numbers: BTreeSet<u64> = (0..keys).map(|position| scattered(position, keys)).collect();
            assert_eq!(numbers, (0..keys).collect::<BTreeSet<u64>>());
        }
    }

    #[test]
    fn a_value_follows_from_its_number() {
        for values in [Values::Half, Values::Random] {
            let filling = Filling { keys: 10, value_bytes: 1024, values };
            assert_eq!(filling.value(3), filling.value(3));
            assert_ne!(filling.value(3), filling.value(4));
        }
        let half = Filling { keys: 10, value_bytes: 250, values: Values::Half }.value(1);
        assert_eq!((half.len(), &half[..50]), (250, &half[50..100]));
        assert_eq!(half[200..225], half[225..]);
    }

    #[test]
    fn keys_have_the_length_that_is_counted() {
        assert_eq!(key(7).len() as u64, KEY_BYTES);
    }
}
