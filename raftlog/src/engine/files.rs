//! The files of a RocksDB directory before RocksDB opens it: what it would pass over in silence, or repair by throwing away.
//! RocksDB checks every block it reads, every record of its MANIFEST, and that the files it knows of are there with the right length. It
//! does not notice some losses: a database without `CURRENT` is made anew, and its files are deleted; a column family that the MANIFEST
//! has lost is made anew, and empty; a zeroed part of a MANIFEST is skipped, and with it the files that are named there.
//! So a directory that holds anything must be complete, its MANIFEST may have a torn end but no hole (a database without the last changes to
//! its files is an older state of it, or has files missing), and its WALs are judged by `wal`. A last record of the MANIFEST that lacks a
//! page is what a power cut leaves, and is cut off. Any other bad one RocksDB refuses: an older state might lose what was durable.
//! Nothing else is changed here but the remains in a WAL.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::wal::{self, Contents, Verdict};
use super::{Durability, EngineError, EngineResult};

/// What the system writes at once.
const PAGE_BYTES: usize = 4096;

/// A directory that may be opened. The lock has to be held as long as the database is open: RocksDB's own begins too late to keep two
/// processes from cutting.
pub(super) struct Prepared {
    pub(super) lock: File,
    /// Whether the directory holds no data: it is empty, or its making was interrupted, or nothing was ever written to files.
    pub(super) is_blank: bool,
}

/// Makes the database directory `path` this process's own and looks at its files. Creates the directory where it does not exist. Reads the
/// MANIFEST and the WALs once, a block at a time.
/// # Errors
/// `Locked` when another process has the directory, `Corruption` when it is damaged, `Io` otherwise.
pub(super) fn prepare(path: &Path, durability: Durability) -> EngineResult<Prepared> {
    let failed = |error: io::Error| EngineError::Io(format!("{}: {error}", path.display()));
    fs::create_dir_all(path).map_err(failed)?;
    let lock = File::open(path).map_err(failed)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => EngineError::Locked { path: path.to_owned() },
        TryLockError::Error(error) => failed(error),
    })?;
    match durability {
        Durability::Wal => wal::cut_torn_tail(path)?,
        Durability::Flush => empty_unused_wals(path).map_err(failed)?,
    }
    let is_blank = !holds_data(path).map_err(failed)?;
    if !is_blank && !path.join("CURRENT").exists() {
        return Err(EngineError::Corruption(format!("{} has data, but no file CURRENT", path.display())));
    }
    cut_manifest(path)?;
    Ok(Prepared { lock, is_blank })
}

fn holds_data(path: &Path) -> io::Result<bool> {
    let has_tables = fs::read_dir(path)?.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "sst"));
    Ok(has_tables || !wal::filled_wals(path)?.is_empty())
}

/// Without a WAL, RocksDB still makes the files. Bytes in them are nobody's; it would read them, and some make it read for ever.
fn empty_unused_wals(path: &Path) -> io::Result<()> {
    for wal in wal::filled_wals(path)? {
        tracing::warn!(file = %wal.path.display(), bytes = wal.bytes, "a WAL that is never written to holds something; emptying it");
        OpenOptions::new().write(true).open(&wal.path)?.set_len(0)?;
    }
    Ok(())
}

/// RocksDB takes a MANIFEST that ends early, but none whose last record lacks a page, as a power cut may leave it.
fn cut_manifest(path: &Path) -> EngineResult<()> {
    // What `CURRENT` says is judged by RocksDB, and so is a MANIFEST that is not there.
    let Ok(current) = fs::read_to_string(path.join("CURRENT")) else { return Ok(()) };
    let name = current.trim_end();
    let Some(number) = name.strip_prefix("MANIFEST-").and_then(|number| number.parse().ok()) else { return Ok(()) };
    let manifest = path.join(name);
    let failed = |error: io::Error| EngineError::Io(format!("{}: {error}", manifest.display()));
    let file = match File::open(&manifest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed)?,
    };
    match wal::judge(file, number, Contents::Edits).map_err(failed)? {
        Verdict::Intact => Ok(()),
        Verdict::Torn { offset } if lacks_page(&manifest, offset).map_err(failed)? => wal::cut(&manifest, offset),
        Verdict::Torn { .. } => Ok(()),
        Verdict::Damaged { offset } => Err(wal::damaged(&manifest, offset)),
    }
}

/// Whether a page is zero as far as it lies behind `offset`.
fn lacks_page(path: &Path, offset: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut page = Vec::with_capacity(PAGE_BYTES);
    let mut rest = PAGE_BYTES as u64 - offset % PAGE_BYTES as u64;
    loop {
        page.clear();
        if file.by_ref().take(rest).read_to_end(&mut page)? == 0 {
            return Ok(false);
        }
        if page.iter().all(|byte| *byte == 0) {
            return Ok(true);
        }
        rest = PAGE_BYTES as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::engine::{Cf, Direction, Engine, KeyRange, RocksEngine, RocksOptions, ViewKind, WriteBatch};

    const FIRST: Cf = Cf(0);
    const LAST: Cf = Cf(2);
    /// Flushes: so many that the MANIFEST is longer than one block of RocksDB's log format.
    const ROUNDS: u8 = 80;

    fn options() -> RocksOptions {
        let (memtable_bytes, block_cache_bytes) = (8 << 20, 1 << 20);
        RocksOptions {
            column_families: vec!["first", "middle", "last"],
            queues: Vec::new(),
            memtable_bytes,
            block_cache_bytes,
            durability: Durability::Flush,
        }
    }

    /// A database with a file for each of some rounds, and a copy of it to be damaged.
    fn database(rounds: u8) -> TempDir {
        let dir = TempDir::new().expect("temporary directory");
        let engine = RocksEngine::open(dir.path(), &options()).expect("open");
        for round in 0..rounds {
            let mut batch = WriteBatch::default();
            batch.put(FIRST, vec![round; 200], vec![round]);
            batch.put(LAST, vec![round; 200], vec![round]);
            engine.write(&batch).expect("write");
            engine.sync().expect("sync");
        }
        dir
    }

    fn manifest(dir: &TempDir) -> PathBuf {
        dir.path().join(fs::read_to_string(dir.path().join("CURRENT")).expect("read").trim_end())
    }

    fn files(dir: &TempDir) -> Vec<(PathBuf, u64)> {
        let mut files: Vec<_> = fs::read_dir(dir.path()).expect("read").flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
        files.sort_unstable();
        files.into_iter().map(|path| (path.clone(), path.metadata().expect("there").len())).collect()
    }

    #[track_caller]
    fn check_refused(dir: &TempDir) {
        let before = files(dir);
        let refusal = RocksEngine::open(dir.path(), &options()).err();
        assert!(matches!(refusal, Some(EngineError::Corruption(_))), "{refusal:?}");
        assert_eq!(files(dir), before, "nothing is deleted");
    }

    fn rounds(engine: &RocksEngine, cf: Cf) -> usize {
        let view = engine.view(ViewKind::Snapshot);
        let items = view.items(cf, &KeyRange { from: vec![0], to: vec![0xff] }, Direction::Forward);
        items.collect::<Result<Vec<_>, _>>().expect("read").len()
    }

    #[test]
    fn a_database_without_current_is_not_made_anew() {
        let dir = database(2);
        fs::remove_file(dir.path().join("CURRENT")).expect("remove");
        check_refused(&dir);
    }

    #[test]
    fn a_making_that_was_interrupted_is_begun_again() {
        let dir = database(0);
        // `CURRENT` is made after the MANIFEST and before the first WAL.
        fs::remove_file(dir.path().join("CURRENT")).expect("remove");
        for wal in fs::read_dir(dir.path()).expect("read").flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "log")) {
            fs::remove_file(wal.path()).expect("remove");
        }
        drop(RocksEngine::open(dir.path(), &options()).expect("open"));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        for damage in [|dir: &TempDir| fs::remove_file(manifest(dir)), |dir: &TempDir| fs::remove_file(&files(dir)[0].0)] {
            let dir = database(2);
            damage(&dir).expect("remove");
            let refusal = RocksEngine::open(dir.path(), &options()).err();
            assert!(matches!(refusal, Some(EngineError::Corruption(_))), "{refusal:?}");
        }
    }

    #[test]
    fn a_manifest_with_a_hole_is_refused() {
        let dir = database(ROUNDS);
        let path = manifest(&dir);
        let intact = fs::read(&path).expect("read");
        assert!(intact.len() > 33 * 1024, "{} bytes", intact.len());
        for at in (4096..32 * 1024).step_by(4096) {
            let mut bytes = intact.clone();
            bytes[at..at + 4096].fill(0);
            fs::write(&path, &bytes).expect("write");
            check_refused(&dir);
        }
    }

    #[test]
    fn a_manifest_cut_anywhere_gives_an_older_state_or_nothing() {
        let dir = database(4);
        // The state that an open writes down at once, column family by column family.
        drop(RocksEngine::open(dir.path(), &options()).expect("open"));
        let path = manifest(&dir);
        let intact = fs::read(&path).expect("read");
        for end in (0..intact.len()).step_by(5) {
            let copy = TempDir::new().expect("temporary directory");
            for entry in fs::read_dir(dir.path()).expect("read").flatten() {
                fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copy");
            }
            fs::write(manifest(&copy), &intact[..end]).expect("write");
            match RocksEngine::open(copy.path(), &options()) {
                Ok(engine) => assert_eq!(rounds(&engine, FIRST), rounds(&engine, LAST), "cut at {end}"),
                Err(error) => assert!(matches!(error, EngineError::Corruption(_)), "cut at {end}: {error}"),
            }
        }
    }

    /// A version edit was being written when the power failed: its size is there, a page of it is not.
    #[test]
    fn a_manifest_whose_last_record_lacks_a_page_is_cut() {
        let dir = database(ROUNDS);
        let path = manifest(&dir);
        let intact = fs::read(&path).expect("read");
        // A record that crosses a page.
        let beginning = PAGE_BYTES - intact.len() % PAGE_BYTES - 40;
        let filler = |bytes: usize| wal::record(&vec![0x80; bytes]);
        let torn = wal::record(&[7; 100]);
        for (kept, lost) in [(0, torn.len()), (40, torn.len())] {
            let mut bytes = [&intact[..], &filler(beginning - 7), &torn].concat();
            let at = bytes.len() - torn.len();
            bytes[at + kept..at + lost].fill(0);
            assert_eq!((at + 40) % PAGE_BYTES, 0);
            fs::write(&path, &bytes).expect("write");
            cut_manifest(dir.path()).expect("a power cut is no damage");
            assert_eq!(fs::metadata(&path).expect("there").len(), at as u64);
        }
    }

    #[test]
    fn a_manifest_whose_last_record_is_wrong_is_left_alone() {
        let dir = database(4);
        let path = manifest(&dir);
        let mut bytes = fs::read(&path).expect("read");
        *bytes.last_mut().expect("a long file") ^= 1;
        fs::write(&path, &bytes).expect("write");
        check_refused(&dir);
        assert_eq!(fs::read(&path).expect("read"), bytes);
    }

    #[test]
    fn bytes_in_a_wal_that_is_not_used_are_ignored() {
        let dir = database(2);
        // A header that makes RocksDB read for ever, with a length that leads nowhere.
        for bytes in [vec![0x5a; 5000], vec![0; 5000], [1, 2, 3, 4, 5, 0, 5].into_iter().chain([0xff; 40]).collect()] {
            fs::write(dir.path().join("000999.log"), bytes).expect("write");
            let engine = RocksEngine::open(dir.path(), &options()).expect("open");
            assert_eq!(rounds(&engine, LAST), 2);
        }
    }
}
