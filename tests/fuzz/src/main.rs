//! The fuzzer: libFuzzer, whose options its command line takes, with the target that the environment variable `REDRAFT_FUZZ_TARGET` names.
//! One program for all targets, since most of its size is the server's. `tests/fuzz/run` builds and runs it.

#![no_main]

use std::sync::LazyLock;

use redraft_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("REDRAFT_FUZZ_TARGET").unwrap_or_default();
    *TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("REDRAFT_FUZZ_TARGET names no target: '{name}'"))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
