//! Clocks for tests: the wall clock of one node is off by what the test says, while the machine's clock stays as it is.
//! A small library is preloaded into the node and adds an offset to what the system says; the offset is in a file that both map, so it
//! can be changed at any time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::shim::{Library, Preload};

/// What is preloaded.
const SOURCE: &str = include_str!("../shim/clock.c");
/// Names the file with the offset to the library.
const OFFSET_VARIABLE: &str = "TEST_CLOCK";

/// Builds the library in a directory.
/// # Panics
/// There is no C compiler.
#[must_use]
pub fn library(dir: &Path) -> Library {
    Library::build(dir, "clock", SOURCE)
}

/// The clock of one node.
#[derive(Debug)]
pub struct TestClock {
    library: Library,
    path: PathBuf,
    file: File,
}

impl TestClock {
    /// A clock that is right, with its offset in a file at `path`.
    /// # Panics
    /// The file cannot be written.
    #[must_use]
    pub fn new(library: &Library, path: PathBuf) -> Self {
        let file = File::create(&path).expect("the clock's file can be created");
        let clock = Self { library: library.clone(), path, file };
        clock.set(0);
        clock
    }

    /// Sets how many milliseconds the clock is ahead of the machine's.
    /// # Panics
    /// The file cannot be written.
    pub fn set(&self, ahead_ms: i64) {
        let nanoseconds = ahead_ms.checked_mul(1_000_000).expect("an offset of some centuries at most");
        self.file.write_all_at(&nanoseconds.to_ne_bytes(), 0).expect("the clock's file can be written");
    }

    /// What gives a process this clock.
    #[must_use]
    pub fn preload(&self) -> Preload {
        self.library.preload(vec![(OFFSET_VARIABLE, &self.path)])
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::dir::TestDir;
    use crate::shim::environment;

    #[test]
    fn a_process_has_the_clock_it_is_given() {
        let dir = TestDir::new();
        let clock = TestClock::new(&library(dir.path()), dir.join("clock"));
        let difference = || {
            let output = Command::new("date").arg("+%s").envs(environment(&[clock.preload()])).output().expect("date is there");
            let seconds: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("seconds");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
            seconds - i64::try_from(now).expect("before the end of time")
        };
        for ahead in [0, 86_400, -86_400] {
            clock.set(ahead * 1_000);
            assert!((difference() - ahead).abs() <= 10, "it is {} seconds ahead, not {ahead}", difference());
        }
    }
}
