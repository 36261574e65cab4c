//! The corpus: every input in it passes its target, and the seeds in it are those of `seeds`. With `REDRAFT_WRITE_CORPUS` in the environment
//! the seeds are written instead of compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use redraft_fuzz::{TARGETS, seeds};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[test]
fn seeds_are_in_the_corpus() {
    let mut names = BTreeSet::new();
    for (target, name, input) in seeds::all() {
        assert!(names.insert((target, name)), "{target}/{name} stands twice");
        let path = corpus(target).join(name);
        if std::env::var_os("REDRAFT_WRITE_CORPUS").is_some() {
            fs::create_dir_all(corpus(target)).expect("the checkout can be written");
            fs::write(&path, input).expect("the checkout can be written");
        } else {
            let stored = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(stored, input, "{}: set REDRAFT_WRITE_CORPUS once", path.display());
        }
    }
}

#[test]
fn every_input_of_the_corpus_passes() {
    for target in TARGETS {
        let mut inputs: Vec<PathBuf> = fs::read_dir(corpus(target.name))
            .unwrap_or_else(|error| panic!("the corpus of {}: {error}", target.name))
            .map(|entry| entry.expect("the corpus can be read").path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for path in inputs {
            // Shown when the test fails.
            eprintln!("{}", path.display());
            (target.run)(&fs::read(&path).expect("the corpus can be read"));
        }
    }
}

/// Ends and cuts of the seeds, with single bytes changed: what fuzzing would try first.
#[test]
fn variations_of_the_seeds_pass() {
    for (target, name, input) in seeds::all() {
        let run = TARGETS.iter().find(|known| known.name == target).expect("seeds are of targets").run;
        for at in 0..input.len() {
            eprintln!("{target}/{name} at {at}");
            run(&input[..at]);
            for change in [0x01, 0x80, 0xff] {
                let mut changed = input.clone();
                changed[at] ^= change;
                run(&changed);
            }
        }
    }
}
