//! Power cuts for tests: what a node leaves when not its process ends but its machine, with all that was written and never synced.
//! A library preloaded into the node notes what is durable (`shim/disk.c` has the format), and keeps files that lose their names. After the
//! process was killed, `cut` brings its directory into one of the states that a power cut could have left. Each choice is made by itself:
//! - Of what a file has gained since its last sync any part may be missing: the end, or, with the length as it was, zeroes at the end or in
//!   between, in whole pages (file systems write pages in any order, and some the length before them).
//! - A file that is written in place (it fits a page) has its bytes of the last sync, or those it has.
//! - Names that were made, moved or removed since the last sync of their directory are so, or are as they were. A move within a directory
//!   happened or did not, and never both names or none. A directory that was removed stays so.
//!
//! Only the sync of a directory makes a name durable. Usual file systems make a new file's name durable with the file, but POSIX does not
//! say so, and neither we nor RocksDB need it. What is not undone: overwritten parts of long files, and truncations of them.
//! Invariant: what the notes do not mention was never synced; after `cut` and `settle` they mention all there is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::shim::{Library, Preload};

/// What is preloaded.
const SOURCE: &str = include_str!("../shim/disk.c");
/// Names the directory to watch to the library.
const ROOT_VARIABLE: &str = "TEST_DISK";
/// Names the directory of the notes to the library.
const NOTES_VARIABLE: &str = "TEST_DISK_NOTES";
/// Tells the library about which files to lie: how their names end.
const LIES_VARIABLE: &str = "TEST_DISK_LIES";
/// Files up to this length may be written in place; of these the notes have the bytes. The library has the same constant.
const CONTENT_BYTES_MAX: u64 = 4096;
/// How the names of files begin in which RocksDB tells what it does.
const WORDS: &str = "/LOG";
/// How often `cut_with_loss` chooses: what the notes of a busy node leave open is lost by half of all choices.
const CHOICES_MAX: usize = 10;
/// What file systems write at once.
const PAGE_BYTES: u64 = 4096;

/// Builds the library in a directory.
/// # Panics
/// There is no C compiler.
#[must_use]
pub fn library(dir: &Path) -> Library {
    Library::build(dir, "disk", SOURCE)
}

/// Whether a disk does what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honesty {
    /// What it calls synced is durable.
    Honest,
    /// It calls WALs synced that are not.
    LiesAboutWals,
}

/// The disk of one node.
#[derive(Debug)]
pub struct TestDisk {
    library: Library,
    /// The node's directory, without links in its path.
    root: PathBuf,
    /// Where notes and kept files are.
    place: PathBuf,
    honesty: Honesty,
}

/// Inode and birth of a file.
type Id = String;

/// What the notes say.
#[derive(Debug, Default)]
struct Notes {
    files: HashMap<Id, Synced>,
    directories: HashMap<Id, BTreeMap<String, Id>>,
}

/// A file at its last sync.
#[derive(Clone, Debug, Default)]
struct Synced {
    bytes: u64,
    /// Of a short file.
    content: Option<Vec<u8>>,
}

/// A name that is not what it is on the disk for certain.
#[derive(Debug)]
struct Change {
    name: String,
    durable: Option<Id>,
    present: Option<Id>,
}

impl TestDisk {
    /// A disk below a directory that does not exist yet, with its notes at `place`, beside it.
    /// # Panics
    /// The notes cannot be created.
    #[must_use]
    pub fn new(library: &Library, root: &Path, place: PathBuf, honesty: Honesty) -> Self {
        let parent = root.parent().expect("it is in a directory").canonicalize().expect("that directory is there");
        let root = parent.join(root.file_name().expect("it has a name"));
        fs::create_dir_all(place.join("beside")).expect("a directory can be created");
        File::create(place.join("notes")).expect("a file can be created");
        Self { library: library.clone(), root, place, honesty }
    }

    /// What gives a process this disk.
    #[must_use]
    pub fn preload(&self) -> Preload {
        let mut variables = vec![(ROOT_VARIABLE, self.root.as_path()), (NOTES_VARIABLE, &self.place)];
        if self.honesty == Honesty::LiesAboutWals {
            variables.push((LIES_VARIABLE, Path::new(".log")));
        }
        self.library.preload(variables)
    }

    /// Takes the power away from a node that was killed. What became of its files is noted in the node's log, and returned but for what
    /// RocksDB tells in words: those files are never synced, so a cut that took nothing else would pass for one that did.
    /// # Panics
    /// The files cannot be changed.
    pub fn cut(&self, random: &mut StdRng) -> Vec<String> {
        let done = self.lose(random);
        self.conclude(done)
    }

    /// As `cut`, but chooses again, a few times, while everything is still there.
    /// # Panics
    /// The files cannot be changed.
    pub fn cut_with_loss(&self, random: &mut StdRng) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..CHOICES_MAX {
            done.extend(self.lose(random));
            if done.iter().any(|change| is_loss(change)) {
                break;
            }
        }
        self.conclude(done)
    }

    /// What a power cut takes, if any. What it leaves is not durable yet.
    fn lose(&self, random: &mut StdRng) -> Vec<String> {
        let mut done = Vec::new();
        if self.root.exists() {
            let notes = self.read_notes();
            let hold = self.place.join("hold");
            fs::create_dir(&hold).expect("a directory can be created");
            self.undo_names(&notes, &hold, random, &mut done);
            tear_files(&self.root, &notes, random, &mut done);
            fs::remove_dir_all(&hold).expect("it can be removed");
        }
        done
    }

    fn conclude(&self, mut done: Vec<String>) -> Vec<String> {
        self.settle();
        let mut log = File::options().create(true).append(true).open(self.root.with_extension("log")).expect("a log can be opened");
        writeln!(log, "---- cut\n{}", done.join("\n")).expect("a log can be written");
        done.retain(|change| is_loss(change));
        done
    }

    /// From now on no sync of a WAL succeeds.
    /// # Panics
    /// The library cannot be told.
    pub fn fail_syncs(&self) {
        File::create(self.place.join("failing")).expect("a file can be created");
    }

    /// Syncs succeed again.
    /// # Panics
    /// They did not fail.
    pub fn mend_syncs(&self) {
        fs::remove_file(self.place.join("failing")).expect("a file can be removed");
    }

    /// Makes everything durable that there is, as after a cut, or when a test has changed the files of a node that is down.
    /// # Panics
    /// The notes cannot be written.
    pub fn settle(&self) {
        let mut text = String::new();
        for directory in directories(&self.root) {
            let entries = entries(&directory);
            write!(text, "directory {}", id(&directory)).expect("text can be written");
            for (name, id) in &entries {
                write!(text, " {id}={name}").expect("text can be written");
            }
            text.push_str(" .\n");
            for path in entries.keys().map(|name| directory.join(name)).filter(|path| path.is_file()) {
                let bytes = path.metadata().expect("it is there").len();
                let content = (bytes <= CONTENT_BYTES_MAX).then(|| fs::read(&path).expect("it can be read"));
                let content = content.map_or("-".to_owned(), |content| hex(&content));
                writeln!(text, "file {} {bytes} {content} .", id(&path)).expect("text can be written");
            }
        }
        fs::write(self.place.join("notes"), text).expect("the notes can be written");
        let beside = self.place.join("beside");
        fs::remove_dir_all(&beside).and_then(|()| fs::create_dir(&beside)).expect("a directory can be emptied");
    }

    /// Whether a power cut now would leave what is in the directory under a name, with that name.
    /// # Panics
    /// There is nothing under it.
    #[must_use]
    pub fn has_durable_name(&self, name: &str) -> bool {
        let notes = self.read_notes();
        notes.directories.get(&id(&self.root)).and_then(|names| names.get(name)) == Some(&id(&self.root.join(name)))
    }

    fn read_notes(&self) -> Notes {
        let text = fs::read_to_string(self.place.join("notes")).expect("the notes can be read");
        let mut notes = Notes::default();
        for line in text.lines().filter_map(|line| line.strip_suffix(" .")) {
            let words: Vec<&str> = line.split(' ').collect();
            match *words {
                ["file", id, bytes, content] => {
                    let content = (content != "-").then(|| unhex(content));
                    notes.files.insert(id.to_owned(), Synced { bytes: bytes.parse().expect("a length"), content });
                }
                ["directory", id, ref names @ ..] => {
                    let named = |word: &&str| word.split_once('=').map(|(id, name)| (name.to_owned(), id.to_owned())).expect("id and name");
                    notes.directories.insert(id.to_owned(), names.iter().map(named).collect());
                }
                _ => panic!("no note: {line}"),
            }
        }
        notes
    }

    /// Names first: files whose names come back are torn as the others.
    fn undo_names(&self, notes: &Notes, hold: &Path, random: &mut StdRng, done: &mut Vec<String>) {
        let directories = directories(&self.root);
        let present: HashMap<Id, PathBuf> =
            directories.iter().flat_map(|dir| entries(dir).into_iter().map(|(name, id)| (id, dir.join(name)))).collect();
        let kept = |directory: &Path, file: &Id| self.place.join("beside").join(id(directory)).join(file);
        // What is in a directory before the directory itself, which may go.
        for directory in directories.iter().rev() {
            let mut changes = changes(directory, notes);
            // What nobody has any more stays away: directories that were removed, and what a test took.
            for change in &mut changes {
                change.durable.take_if(|file| !present.contains_key(file) && !kept(directory, file).exists());
            }
            changes.retain(|change| change.durable != change.present);
            let mut undone: Vec<Change> = moves(changes).into_iter().filter(|_| random.random_bool(0.5)).flatten().collect();
            for (change, file) in undone.iter().filter_map(|change| Some((change, change.present.as_ref()?))) {
                let (path, held) = (directory.join(&change.name), hold.join(file));
                let moved = if held.exists() { fs::remove_file(path) } else { fs::rename(path, held) };
                moved.expect("a file can be moved");
            }
            for (change, file) in undone.iter_mut().filter_map(|change| change.durable.clone().map(|file| (change, file))) {
                let path = directory.join(&change.name);
                let sources = [Some(hold.join(&file)), Some(kept(directory, &file)), present.get(&file).cloned()];
                let source = sources.into_iter().flatten().find(|source| source.exists()).expect("somebody has the file");
                let came_back = if source.is_dir() { fs::rename(source, &path) } else { fs::hard_link(source, &path) };
                came_back.unwrap_or_else(|error| panic!("{} cannot come back: {error}", path.display()));
            }
            done.extend(undone.iter().map(|change| {
                let what = match (&change.durable, &change.present) {
                    (Some(_), Some(_)) => "names its former file",
                    (Some(_), None) => "is back",
                    _ => "is gone",
                };
                format!("{} {what}", directory.join(&change.name).display())
            }));
        }
    }
}

/// Whether a node can notice a change.
fn is_loss(change: &str) -> bool {
    !change.contains(WORDS)
}

/// What differs between a directory and its last sync.
fn changes(directory: &Path, notes: &Notes) -> Vec<Change> {
    let present = entries(directory);
    let none = BTreeMap::new();
    let durable = notes.directories.get(&id(directory)).unwrap_or(&none);
    let names: BTreeSet<&String> = present.keys().chain(durable.keys()).collect();
    let change = |name: &String| Change { name: name.clone(), durable: durable.get(name).cloned(), present: present.get(name).cloned() };
    names.into_iter().map(change).filter(|change| change.durable != change.present).collect()
}

/// Puts changes together that are one: a file had one name and has another.
fn moves(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let belong = |one: &Change, other: &Change| one.durable.is_some() && one.durable == other.present;
    let mut groups: Vec<Vec<Change>> = Vec::new();
    for change in changes {
        let (mut group, others): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| group.iter().any(|other| belong(&change, other) || belong(other, &change)));
        groups = others;
        group.push(vec![change]);
        groups.push(group.into_iter().flatten().collect());
    }
    groups
}

fn tear_files(root: &Path, notes: &Notes, random: &mut StdRng, done: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for directory in directories(root) {
        for (name, id) in entries(&directory) {
            let path = directory.join(name);
            if path.is_file()
                && seen.insert(id.clone())
                && let Some(what) = tear(&path, &notes.files.get(&id).cloned().unwrap_or_default(), random)
            {
                done.push(format!("{} {what}", path.display()));
            }
        }
    }
}

/// Takes something away that a file has gained since its last sync, or not.
fn tear(path: &Path, synced: &Synced, random: &mut StdRng) -> Option<String> {
    let file = File::options().read(true).write(true).open(path).expect("a file can be opened");
    let bytes = file.metadata().expect("an open file has a length").len();
    if let Some(content) = &synced.content {
        let mut begin = vec![0; content.len().min(usize::try_from(bytes).expect("short"))];
        file.read_exact_at(&mut begin, 0).expect("a file can be read");
        if begin != *content {
            if random.random_bool(0.5) {
                return None;
            }
            file.set_len(content.len() as u64).and_then(|()| file.write_all_at(content, 0)).expect("a file can be written");
            return Some(format!("is as it was at its last sync: {} bytes", content.len()));
        }
    }
    if bytes <= synced.bytes {
        return None;
    }
    let somewhere = random.random_range(synced.bytes..=bytes);
    let page = |at: u64| (at / PAGE_BYTES * PAGE_BYTES).max(synced.bytes);
    let zeroes = match random.random_range(0..5) {
        0 => return None,
        1 => page(somewhere)..bytes,
        2 => page(somewhere)..page(random.random_range(somewhere..=bytes)),
        _ => {
            file.set_len(somewhere).expect("a file can be cut");
            return Some(format!("has lost its end: {somewhere} of {bytes} bytes, {} were synced", synced.bytes));
        }
    };
    if zeroes.is_empty() {
        return None;
    }
    let hole = vec![0; usize::try_from(zeroes.end - zeroes.start).expect("it fits memory")];
    file.write_all_at(&hole, zeroes.start).expect("a file can be written");
    Some(format!("has zeroes at {zeroes:?} of {bytes} bytes, {} were synced", synced.bytes))
}

/// A directory and all below it, each after the one that it is in.
fn directories(root: &Path) -> Vec<PathBuf> {
    if !root.exists() {
        return Vec::new();
    }
    let inner = entries(root).into_keys().map(|name| root.join(name)).filter(|path| path.is_dir());
    let below: Vec<PathBuf> = inner.flat_map(|path| directories(&path)).collect();
    [root.to_owned()].into_iter().chain(below).collect()
}

fn entries(directory: &Path) -> BTreeMap<String, Id> {
    let entry = |entry: fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), id(&entry.path()));
    fs::read_dir(directory).expect("a directory can be read").map(|found| entry(found.expect("a directory can be read"))).collect()
}

/// As the library prints it.
fn id(path: &Path) -> Id {
    let metadata = path.symlink_metadata().expect("it is there");
    let birth = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{}.{}.{}", metadata.ino(), birth.as_secs(), birth.subsec_nanos())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|two| u8::from_str_radix(&String::from_utf8_lossy(two), 16).expect("hexadecimal digits")).collect()
}

#[cfg(test)]
mod tests;
