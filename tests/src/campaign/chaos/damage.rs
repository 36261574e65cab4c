//! Files that are damaged while their node is down, any kind of file in any kind of way. Harmless, refused at the start, or the end of the
//! node as soon as it reads them: all three are right, and wrong are a wrong reply, a crash, and silence. Afterwards the node comes back as
//! a new one with `--rejoin`, since what was harmless so far may still be in the files.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::deck::Mode;
use super::replicas;
use super::stage::{DO_NOT_RESTART, Missed, Renewal, Stage};
use crate::wait::wait_until;

/// How long a node may take to serve or to end.
const DECIDED_MAX: Duration = Duration::from_secs(30);
/// Most bytes that become zeroes.
const ZEROES_MAX: u64 = 4096;
/// Most bits that are flipped.
const BITS_MAX: usize = 3;

impl Stage {
    pub(super) fn play_damage(&mut self, mode: Mode) -> Result<(), Missed> {
        let position = self.follower()?;
        if self.random.random_bool(0.5) {
            self.cluster[position].kill();
        } else {
            self.cluster[position].stop();
        }
        let dir = self.cluster[position].dir().to_owned();
        let kinds = files_by_kind(&dir);
        let all: Vec<&Vec<PathBuf>> = kinds.values().collect();
        let file = (*all.choose(&mut self.random).expect("there are files")).choose(&mut self.random).expect("of each kind one").clone();
        let what = damage(mode, &file, &mut self.random);
        let shown = file.strip_prefix(&dir).expect("it is in the directory").display().to_string();
        self.note(&format!("  damaged: {shown} of {position}, {what}"));
        self.cluster.start_node(position);
        let (outcome, told) = self.outcome_of_damage(position);
        self.note(&format!("  {position}: {outcome}: {told}"));
        if self.cluster[position].is_started() && self.cluster[position].take_end().is_none() {
            self.cluster[position].kill();
        }
        // Nothing of the damage may have come to the others.
        replicas::verify_without(&self.cluster, position);
        self.come_back_new(position, Renewal::Rejoin);
        self.prove(mode, outcome, 1);
        Ok(())
    }

    /// Lets the node serve and read all that it has, or end. In a word, and what was seen.
    /// # Panics
    /// It does neither, crashes, or answers wrongly.
    fn outcome_of_damage(&mut self, position: usize) -> (&'static str, String) {
        let deadline = Instant::now() + DECIDED_MAX;
        let mut problem = "it does not answer".to_owned();
        let mut outcome = None;
        let mut has_answered = false;
        wait_until(deadline, || {
            let ended = self.end_of_damaged(position).map(|words| (if has_answered { "stopped" } else { "refused" }, words));
            outcome = ended.or_else(|| {
                has_answered |= self.cluster[position].try_status().is_some();
                let serves = self.why_not_serving(position).map_or(Ok(()), Err);
                let node = &self.cluster[position];
                match serves.and_then(|()| replicas::settled_are_right(node)).and_then(|()| replicas::read_all(node)) {
                    Ok(digest) => Some(("harmless", format!("{} keys are read", digest.keys))),
                    Err(text) => {
                        problem = text;
                        None
                    }
                }
            });
            outcome.is_some()
        });
        outcome.unwrap_or_else(|| panic!("the damaged node at {position} neither serves nor ends within {DECIDED_MAX:?}: {problem}"))
    }

    fn end_of_damaged(&mut self, position: usize) -> Option<String> {
        let status = self.cluster[position].take_end()?;
        let words = self.last_words(position);
        assert_eq!(status.code(), Some(DO_NOT_RESTART), "the damaged node at {position} ended by {status}: {words}");
        assert!(words.starts_with("redraft: "), "it says why: {words}");
        Some(words)
    }
}

/// All files that have bytes and are somebody's data, by the directory they are in and what they are.
fn files_by_kind(dir: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(place) = dirs.pop() {
        for entry in fs::read_dir(&place).expect("the directory can be read").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                dirs.push(path);
            } else if path.metadata().is_ok_and(|file| file.len() > 0) && !is_no_data(&name) {
                let kind = name.trim_start_matches(|letter: char| letter.is_ascii_digit());
                let kind = kind.split_once('-').map_or(kind, |(kind, _)| kind);
                let within = place.strip_prefix(dir).expect("below it").display().to_string();
                kinds.entry(format!("{within}/{kind}")).or_default().push(path);
            }
        }
    }
    kinds.values_mut().for_each(|files| files.sort_unstable());
    kinds
}

/// RocksDB's messages and lock, and what only takes room.
fn is_no_data(name: &str) -> bool {
    name.starts_with("LOG") || name == "LOCK" || name == "ballast" || name == "lock"
}

/// Damages a file; what was done.
fn damage(mode: Mode, path: &Path, random: &mut StdRng) -> String {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the file can be opened");
    let length = file.metadata().expect("the file is there").len();
    match mode {
        Mode::FlipBits => {
            let bits = random.random_range(1..=BITS_MAX);
            for _ in 0..bits {
                let (at, bit) = (random.random_range(0..length), random.random_range(0..8));
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("the file can be read");
                file.write_all_at(&[byte[0] ^ (1 << bit)], at).expect("the file can be written");
            }
            format!("{bits} of its {length} bytes have a bit flipped")
        }
        Mode::TruncateFile => {
            let left = random.random_range(0..length);
            file.set_len(left).expect("the file can be cut");
            format!("cut from {length} to {left} bytes")
        }
        Mode::ZeroFile => {
            let at = random.random_range(0..length);
            let zeroes = random.random_range(1..=ZEROES_MAX).min(length - at);
            file.write_all_at(&vec![0; zeroes as usize], at).expect("the file can be written");
            format!("zeroes from {at} of {length} on, {zeroes} of them")
        }
        mode => unreachable!("{mode:?} does not damage files"),
    }
}
