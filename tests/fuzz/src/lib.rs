//! Fuzz targets: for each place where bytes from outside are read, what must hold whatever they are. None of it may panic.
//! A target takes an input and returns, or panics. libFuzzer makes the inputs up, guided by what of the code they reach (`make fuzz`);
//! the test `corpus` runs those that are kept under `corpus/<target>/`. An input that once failed is kept there, too.
//! Most targets read their input as a small program (`Input`), so that checksums, sequences and lengths are right unless they are meant
//! not to be, and what lies behind them is reached.
//! Targets are functions of their input: no clock, no chance, files only in a directory that they empty.

mod commands;
mod config;
mod entries;
mod frames;
mod handshakes;
mod input;
mod patterns;
mod records;
mod replica;
mod replies;
mod requests;
pub mod seeds;
mod snapshots;
mod wal;

use tempfile::TempDir;

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Runs one input; panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "requests", run: requests::run },
    Target { name: "replies", run: replies::run },
    Target { name: "handshakes", run: handshakes::run },
    Target { name: "frames", run: frames::run },
    Target { name: "entries", run: entries::run },
    Target { name: "commands", run: commands::run },
    Target { name: "records", run: records::run },
    Target { name: "wal", run: wal::run },
    Target { name: "snapshots", run: snapshots::run },
    Target { name: "config", run: config::run },
    Target { name: "patterns", run: patterns::run },
];

/// A directory for the files of a target: where `TMPDIR` says, else in memory where there is such a place, since files are synced.
fn directory() -> TempDir {
    let in_memory = std::env::var_os("TMPDIR").is_none().then(|| TempDir::new_in("/dev/shm").ok()).flatten();
    in_memory.map_or_else(TempDir::new, Ok).expect("a temporary directory")
}
