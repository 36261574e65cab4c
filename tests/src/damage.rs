//! Damage to the files of a node: which kinds of files its directory has, and what a disk, or a hand, can do to each.
//! `kinds` knows every file, and panics at one it does not know, so that no kind of file is forgotten. `apply` damages one file; where
//! exactly is the random numbers' choice.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::{Rng, RngExt};

/// A block of the file systems and disks of today.
const BLOCK_BYTES: u64 = 4096;
/// Most bytes that are cut off an end, or appended.
const TAIL_BYTES_MAX: u64 = 16;
const GARBAGE_BYTES_MAX: usize = 5000;

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Database {
    /// The Raft log.
    Log,
    /// The keyspace.
    Data,
}

/// A kind of file in the directory of a RocksDB database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Sorted data.
    Table,
    /// The write-ahead log.
    Wal,
    /// Which tables there are.
    Manifest,
    /// Which manifest counts.
    Current,
    /// The options it was opened with, for people.
    Options,
    /// The id of the database.
    Identity,
    /// What RocksDB has to say.
    InfoLog,
    /// An empty file to be locked.
    Lock,
    /// What was to become one of the others when the process ended.
    Temporary,
}

/// Name of the fence around a node that has met damage.
pub const FENCE: &str = "damaged";

/// A kind of file in a node's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file of a database.
    Of(Database, Part),
    /// The high-water mark.
    HighWater,
    /// The space that can be given back.
    Ballast,
    /// A file of a Raft snapshot that is being sent, received or installed.
    Snapshot,
    /// The fence around a node that has met damage.
    Fence,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (database, part) = match self {
            Self::Of(database, part) => (database, part),
            Self::HighWater => return formatter.pad("high-water"),
            Self::Ballast => return formatter.pad("ballast"),
            Self::Snapshot => return formatter.pad("snapshots/"),
            Self::Fence => return formatter.pad(FENCE),
        };
        let dir = match database {
            Database::Log => "log",
            Database::Data => "data",
        };
        let name = match part {
            Part::Table => "*.sst",
            Part::Wal => "*.log",
            Part::Manifest => "MANIFEST",
            Part::Current => "CURRENT",
            Part::Options => "OPTIONS",
            Part::Identity => "IDENTITY",
            Part::InfoLog => "LOG",
            Part::Lock => "LOCK",
            Part::Temporary => "*.dbtmp",
        };
        formatter.pad(&format!("{dir}/{name}"))
    }
}

/// The files of a stopped node, by their kind, each kind's in the order of their names. What `--rejoin` set aside is nobody's any more and
/// is left out, as is its note of whom to join.
/// # Panics
/// A file is of no known kind: this table and the expectations of the tests have to be completed.
#[must_use]
pub fn kinds(dir: &Path) -> BTreeMap<Kind, Vec<PathBuf>> {
    let mut kinds: BTreeMap<Kind, Vec<PathBuf>> = BTreeMap::new();
    let mut add = |path: PathBuf, kind: Option<Kind>| {
        let kind = kind.unwrap_or_else(|| panic!("{} is a file of an unknown kind", path.display()));
        kinds.entry(kind).or_default().push(path);
    };
    for path in entries(dir) {
        match name(&path) {
            "log" => entries(&path).into_iter().for_each(|file| add(file.clone(), database_file(&file, Database::Log))),
            "data" => entries(&path).into_iter().for_each(|file| add(file.clone(), database_file(&file, Database::Data))),
            "snapshots" => entries(&path).iter().flat_map(|snapshot| entries(snapshot)).for_each(|file| add(file, Some(Kind::Snapshot))),
            "high-water" => add(path, Some(Kind::HighWater)),
            "ballast" => add(path, Some(Kind::Ballast)),
            FENCE => add(path, Some(Kind::Fence)),
            "rejoining" | "rejoining.part" => {}
            other if other.starts_with("set-aside-") => {}
            _ => add(path, None),
        }
    }
    kinds
}

fn database_file(path: &Path, database: Database) -> Option<Kind> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = match name(path) {
        "CURRENT" => Part::Current,
        "IDENTITY" => Part::Identity,
        "LOCK" => Part::Lock,
        "LOG" => Part::InfoLog,
        name if name.starts_with("LOG.old.") => Part::InfoLog,
        name if name.ends_with(".dbtmp") => Part::Temporary,
        name if name.strip_prefix("MANIFEST-").is_some_and(is_number) => Part::Manifest,
        name if name.strip_prefix("OPTIONS-").is_some_and(is_number) => Part::Options,
        name if name.strip_suffix(".sst").is_some_and(is_number) => Part::Table,
        name if name.strip_suffix(".log").is_some_and(is_number) => Part::Wal,
        _ => return None,
    };
    Some(Kind::Of(database, part))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What can happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// One bit of its first third flips.
    FlipFirst,
    /// One bit of its second third flips.
    FlipMiddle,
    /// One bit of its last third flips.
    FlipLast,
    /// Nothing is left of it.
    Empty,
    /// Half of it is left.
    Halve,
    /// It lacks some bytes at its end.
    CutEnd,
    /// A block reads as zeros.
    ZeroBlock,
    /// There is more at its end.
    Append,
    /// It is gone.
    Remove,
}

impl Damage {
    /// Every kind of damage.
    pub const ALL: [Self; 9] = [
        Self::FlipFirst,
        Self::FlipMiddle,
        Self::FlipLast,
        Self::Empty,
        Self::Halve,
        Self::CutEnd,
        Self::ZeroBlock,
        Self::Append,
        Self::Remove,
    ];
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::FlipFirst => "flip first",
            Self::FlipMiddle => "flip middle",
            Self::FlipLast => "flip last",
            Self::Empty => "empty",
            Self::Halve => "halve",
            Self::CutEnd => "cut end",
            Self::ZeroBlock => "zero 4 KiB",
            Self::Append => "append",
            Self::Remove => "remove",
        })
    }
}

/// Damages a file. Returns whether it is another one now: an empty file has no bit to flip, and a block may be zero already.
/// # Panics
/// The file cannot be changed.
pub fn apply(path: &Path, damage: Damage, random: &mut impl Rng) -> bool {
    let file = File::options().read(true).write(true).open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let length = file.metadata().expect("an open file has metadata").len();
    let cut = |to: u64| {
        file.set_len(to).expect("a file can be cut");
        to < length
    };
    let mut flip = |third: u64| {
        let (from, to) = (length * third / 3, length * (third + 1) / 3);
        if from == to {
            return false;
        }
        let at = random.random_range(from..to);
        let bit = 1 << random.random_range(0..8);
        overwrite(&file, at, 1, |byte| byte ^ bit)
    };
    match damage {
        Damage::FlipFirst => flip(0),
        Damage::FlipMiddle => flip(1),
        Damage::FlipLast => flip(2),
        Damage::Empty => cut(0),
        Damage::Halve => cut(length / 2),
        Damage::CutEnd => cut(length.saturating_sub(random.random_range(1..=TAIL_BYTES_MAX))),
        Damage::ZeroBlock => {
            let blocks = length.div_ceil(BLOCK_BYTES);
            let at = if blocks == 0 { 0 } else { random.random_range(0..blocks) * BLOCK_BYTES };
            overwrite(&file, at, BLOCK_BYTES.min(length - at), |_| 0)
        }
        Damage::Append => {
            let mut garbage = vec![0; random.random_range(1..=GARBAGE_BYTES_MAX)];
            random.fill_bytes(&mut garbage);
            file.write_all_at(&garbage, length).expect("a file can grow");
            true
        }
        Damage::Remove => {
            fs::remove_file(path).expect("a file can be removed");
            true
        }
    }
}

/// Replaces bytes; whether they are others now.
fn overwrite(file: &File, at: u64, count: u64, change: impl Fn(u8) -> u8) -> bool {
    let mut bytes = vec![0; usize::try_from(count).expect("few bytes")];
    file.read_exact_at(&mut bytes, at).expect("the bytes are there");
    let changed: Vec<u8> = bytes.iter().map(|byte| change(*byte)).collect();
    file.write_all_at(&changed, at).expect("a file can be written");
    changed != bytes
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn dir_with(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("create");
            fs::write(path, [7; 10_000]).expect("write");
        }
        dir
    }

    #[test]
    fn files_are_known_by_their_names() {
        let names = ["log/000012.log", "log/LOG.old.1", "data/000007.sst", "data/MANIFEST-000005", "high-water", "snapshots/in-2-9/0.sst"];
        let dir = dir_with(&[&names[..], &["set-aside-1/high-water"]].concat());
        let found: Vec<String> = kinds(dir.path()).into_keys().map(|kind| kind.to_string()).collect();
        assert_eq!(found, ["log/*.log", "log/LOG", "data/*.sst", "data/MANIFEST", "high-water", "snapshots/"]);
    }

    #[test]
    #[should_panic(expected = "unknown kind")]
    fn an_unknown_file_is_not_passed_over() {
        let dir = dir_with(&["data/000007.blob"]);
        drop(kinds(dir.path()));
    }

    #[test]
    fn every_damage_changes_a_file_as_it_says() {
        let mut random = StdRng::seed_from_u64(1);
        for damage in Damage::ALL {
            let dir = dir_with(&["file", "empty"]);
            let path = dir.path().join("file");
            assert!(apply(&path, damage, &mut random), "{damage}");
            let bytes = fs::read(&path).unwrap_or_default();
            let others = bytes.iter().filter(|byte| **byte != 7).count();
            let (length_expected, others_expected) = match damage {
                Damage::FlipFirst | Damage::FlipMiddle | Damage::FlipLast => (10_000..=10_000, 1..=1),
                Damage::Empty | Damage::Remove => (0..=0, 0..=0),
                Damage::Halve => (5000..=5000, 0..=0),
                Damage::CutEnd => (9984..=9999, 0..=0),
                Damage::ZeroBlock => (10_000..=10_000, 1..=4096),
                Damage::Append => (10_001..=15_000, 0..=5000),
            };
            assert!(length_expected.contains(&bytes.len()) && others_expected.contains(&others), "{damage}: {} {others}", bytes.len());
            fs::write(dir.path().join("empty"), []).expect("write");
            let changes = apply(&dir.path().join("empty"), damage, &mut random);
            assert_eq!(changes, matches!(damage, Damage::Append | Damage::Remove), "{damage}");
        }
    }
}
