//! Every kind of file and every kind of damage, on a node that is stopped: afterwards it answers right, or it does not start, or it stops.
//! A cluster of one node has no peers who would tell a copy of its directory from the original. So one stopped directory, with data in
//! memory's redo log and in files, is the beginning of every case: a copy is damaged and started, all that was acknowledged is read, and
//! the node is killed again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use resp::Value;

use crate::client::{Client, bulk, elements};
use crate::damage::{Damage, Database, FENCE, Kind, Part, apply, kinds};
use crate::dir::TestDir;
use crate::node::{Node, RaftStatus};
use crate::wait::PATIENCE;

/// Exit code of a node that must not be started again.
const DO_NOT_RESTART: i32 = 3;
/// Little memory and a short log, so that most of the data is in files and the log is truncated.
const FLAGS: [&str; 10] = [
    "--memtable-bytes",
    "4mb",
    "--block-cache-bytes",
    "1mb",
    "--raft-log-bytes-max",
    "1mb",
    "--election-timeout",
    "150",
    "--heartbeat-interval",
    "30",
];
/// Keys of the first life, of which the second changes and deletes some.
const KEYS: usize = 3000;
/// Long enough to stand apart from the metadata.
const LONG_VALUE_BYTES: usize = 1000;
/// Keys read or written at once.
const BATCH_KEYS: usize = 200;
/// How long a node that says `LOADING` or the like is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Replies that say: not now.
const NOT_NOW: [&str; 3] = ["CLUSTERDOWN", "TRYAGAIN", "LOADING"];

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// It is damaged.
    Damaged(Damage),
    /// It is replaced by an older copy of itself.
    Older,
}

impl Harm {
    /// Every harm.
    pub fn all() -> impl Iterator<Item = Self> {
        Damage::ALL.into_iter().map(Self::Damaged).chain([Self::Older])
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => damage.fmt(formatter),
            Self::Older => formatter.pad("older copy"),
        }
    }
}

/// What came of it. What a node must not do is an error instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The file is the same as before: it had nothing to damage, or has not changed since the older copy.
    Unchanged,
    /// Everything was answered right.
    Harmless,
    /// The node did not start, and said why.
    Refused,
    /// The node started, and stopped when it met the damage.
    Stopped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Unchanged => "-",
            Self::Harmless => "harmless",
            Self::Refused => "refused",
            Self::Stopped => "stops",
        })
    }
}

/// A campaign to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What chooses files, places and the sample.
    pub seed: u64,
    /// How many cases; every kind of file is among them. `None`: all.
    pub cases: Option<usize>,
    /// How often each case is tried, at other places.
    pub rounds: usize,
    /// Whether each case that was harmless is looked at once more after another start.
    pub look_again: bool,
}

/// A case and what came of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What kind of file.
    pub kind: Kind,
    /// What happened to it.
    pub harm: Harm,
    /// What came of it; or what must not be.
    pub outcome: Result<Outcome, String>,
    /// What the node said last, if it ended.
    pub said: String,
}

/// Runs a campaign. A case that went wrong is in the list, and does not end it.
/// # Panics
/// The node that is to be damaged does not come about.
#[must_use]
pub fn run(plan: &Plan, mut tell: impl FnMut(&Case)) -> Vec<Case> {
    let mut stage = Stage::new();
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut cases: Vec<(Kind, Harm)> = stage.kinds().into_iter().flat_map(|kind| Harm::all().map(move |harm| (kind, harm))).collect();
    if let Some(count) = plan.cases {
        cases.shuffle(&mut random);
        // The first case of every kind, then others.
        let mut seen = BTreeSet::new();
        cases.sort_by_key(|(kind, _)| !seen.insert(*kind));
        cases.truncate(count.max(seen.len()));
    }
    let mut report = Vec::new();
    for (kind, harm) in (0..plan.rounds).flat_map(|_| cases.clone()) {
        let case = stage.try_case(kind, harm, plan.look_again, &mut random);
        tell(&case);
        report.push(case);
    }
    report
}

/// The directory that every case begins with.
struct Stage {
    node: Node,
    /// As it was when the node was killed.
    pristine: PathBuf,
    /// Files as they were before: those of the first life, and those that came in the second, in its middle.
    older: PathBuf,
    /// All keys that were ever written, with their values; `None` for those that were deleted.
    expected: BTreeMap<String, Option<String>>,
    before: RaftStatus,
}

/// Why a node could not be read to the end.
enum Trouble {
    /// The connection is gone.
    Lost,
    /// What it said must not be.
    Wrong(String),
}

impl Stage {
    fn new() -> Self {
        let dir = TestDir::new();
        let (pristine, older) = (dir.join("pristine"), dir.join("older"));
        let mut node = Node::alone_in(dir, &FLAGS);
        node.add_flags(&["--readonly-reads", "local"]);
        let mut expected = BTreeMap::new();
        let write = |node: &Node, expected: &mut BTreeMap<String, Option<String>>, numbers: Vec<usize>, life: &str| {
            for batch in numbers.chunks(BATCH_KEYS) {
                let commands: Vec<_> = batch.iter().map(|number| command(*number, life)).collect();
                for reply in node.client().pipeline(&commands).expect("the node answers") {
                    assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
                }
                for command in commands {
                    expected.insert(command[1].clone(), command.get(2).cloned());
                }
            }
        };
        write(&node, &mut expected, (0..KEYS).collect(), "first");
        node.kill();
        copy(node.dir(), &older);
        node.start();
        node.wait_ready();
        write(&node, &mut expected, (0..KEYS).step_by(3).collect(), "second");
        copy(node.dir(), &older);
        write(&node, &mut expected, (1..KEYS).step_by(3).collect(), "third");
        let before = node.status();
        assert!(before.first_index > 6, "the log was truncated: {before:?}");
        node.kill();
        copy(node.dir(), &pristine);
        Self { node, pristine, older, expected, before }
    }

    fn kinds(&self) -> BTreeSet<Kind> {
        let kinds: BTreeSet<Kind> = kinds(&self.pristine).into_keys().collect();
        for part in [Part::Table, Part::Wal, Part::Manifest, Part::Current, Part::Options, Part::Identity, Part::InfoLog, Part::Lock] {
            for database in [Database::Log, Database::Data] {
                assert!(kinds.contains(&Kind::Of(database, part)), "there is no {}", Kind::Of(database, part));
            }
        }
        assert!(kinds.contains(&Kind::HighWater), "there is no high-water mark");
        kinds
    }

    fn try_case(&mut self, kind: Kind, harm: Harm, look_again: bool, random: &mut StdRng) -> Case {
        fs::remove_dir_all(self.node.dir()).expect("the directory can be removed");
        copy(&self.pristine, self.node.dir());
        let files = kinds(self.node.dir()).remove(&kind).expect("the node has files of this kind");
        // An empty one has nothing to damage.
        let filled: Vec<_> = files.iter().filter(|file| file.metadata().is_ok_and(|metadata| metadata.len() > 0)).collect();
        let file =
            if filled.is_empty() { &files[random.random_range(0..files.len())] } else { filled[random.random_range(0..filled.len())] };
        let file = file.clone();
        let changes = match harm {
            Harm::Damaged(damage) => apply(&file, damage, random),
            Harm::Older => self.put_back(&file),
        };
        let said_before = self.node.log().len();
        let outcome = if changes { self.judge(look_again) } else { Ok(Outcome::Unchanged) };
        let said =
            self.node.log().get(said_before..).unwrap_or_default().lines().rev().find(|line| line.contains("redraft: ")).map(str::to_owned);
        Case { kind, harm, outcome, said: said.unwrap_or_default() }
    }

    /// Replaces a file by its older copy. Returns whether it is another one now.
    fn put_back(&self, file: &Path) -> bool {
        let older = self.older.join(file.strip_prefix(self.node.dir()).expect("a file of the node"));
        let (Ok(older), Ok(newer)) = (fs::read(older), fs::read(file)) else { return false };
        fs::write(file, &older).expect("a file can be written");
        older != newer
    }

    fn judge(&mut self, look_again: bool) -> Result<Outcome, String> {
        self.node.start();
        if let Some(status) = self.node.wait_ready_or_end() {
            return self.check_end(status, Outcome::Refused);
        }
        let mut outcome = self.read_all();
        if look_again && outcome.is_ok() {
            outcome = self.write_one();
        }
        if look_again && outcome.is_ok() {
            // What a start has repaired stays so, and the node goes on from there.
            self.node.kill();
            self.node.start();
            outcome = match self.node.wait_ready_or_end() {
                None => self.read_all(),
                // No read had met the damage, and something in the background has now.
                Some(status) if self.node.dir().join(FENCE).exists() => return self.check_end(status, Outcome::Stopped),
                Some(status) => Err(Trouble::Wrong(format!("the next start ended with {status}"))),
            };
        }
        match outcome {
            Ok(()) => {
                self.node.kill();
                Ok(Outcome::Harmless)
            }
            Err(Trouble::Lost) => {
                let status = self.node.wait_end();
                self.check_end(status, Outcome::Stopped)
            }
            Err(Trouble::Wrong(what)) => {
                if self.node.is_active() {
                    self.node.kill();
                }
                Err(what)
            }
        }
    }

    /// A node that has met damage says so, by its exit code too.
    fn check_end(&self, status: ExitStatus, outcome: Outcome) -> Result<Outcome, String> {
        match (status.code(), status.signal()) {
            (Some(DO_NOT_RESTART), _) => Ok(outcome),
            (code, signal) => Err(format!("it ended with code {code:?}, signal {signal:?}")),
        }
    }

    fn write_one(&self) -> Result<(), Trouble> {
        let mut client = self.client()?;
        match ask(&mut client, &["SET".to_owned(), "afterwards".to_owned(), "v".to_owned()])? {
            Value::Simple(_) => Ok(()),
            reply => Err(Trouble::Wrong(format!("SET: {reply:?}"))),
        }
    }

    fn client(&self) -> Result<Client, Trouble> {
        self.node.try_client().ok_or(Trouble::Lost)
    }

    /// Reads everything in every way.
    fn read_all(&self) -> Result<(), Trouble> {
        let mut client = self.client()?;
        self.read_keys(&mut client)?;
        self.read_range(&mut client)?;
        if ask(&mut client, &["READONLY".to_owned()])? != Value::Simple("OK".into()) {
            return Err(Trouble::Wrong("READONLY was refused".to_owned()));
        }
        self.read_keys(&mut client)?;
        self.read_range(&mut client)?;
        let status = self.node.try_status().ok_or(Trouble::Lost)?;
        let known = |status: &RaftStatus| (status.node_id, status.cluster_id.clone());
        if known(&status) != known(&self.before) || status.term < self.before.term || status.last_index < self.before.last_index {
            return Err(Trouble::Wrong(format!("it was {:?} and came back as {status:?}", self.before)));
        }
        Ok(())
    }

    fn read_keys(&self, client: &mut Client) -> Result<(), Trouble> {
        let keys: Vec<_> = self.expected.iter().collect();
        for batch in keys.chunks(BATCH_KEYS) {
            let command: Vec<String> = ["MGET".to_owned()].into_iter().chain(batch.iter().map(|(key, _)| (*key).clone())).collect();
            let values = elements(ask(client, &command)?);
            for ((key, expected), found) in batch.iter().zip(values) {
                if found != expected.as_ref().map_or(Value::Null, bulk) {
                    return Err(Trouble::Wrong(format!("{key} is {found:?}")));
                }
            }
        }
        Ok(())
    }

    fn read_range(&self, client: &mut Client) -> Result<(), Trouble> {
        let mut cursor = "0".to_owned();
        let mut found = Vec::new();
        loop {
            let command = ["RANGE", "-", "+", "COUNT", "500", "WITHVALUES", "CURSOR", &cursor].map(str::to_owned);
            let Ok([next, page]) = <[Value; 2]>::try_from(elements(ask(client, &command)?)) else {
                return Err(Trouble::Wrong("RANGE gives no page".to_owned()));
            };
            found.extend(elements(page));
            cursor = crate::client::text(&next);
            if cursor == "0" {
                break;
            }
        }
        let afterwards = [bulk("afterwards"), bulk("v")];
        let found: Vec<_> = found.chunks(2).filter(|pair| *pair != afterwards).flatten().cloned().collect();
        let expected = self.expected.iter().filter_map(|(key, value)| Some([bulk(key), bulk(value.as_ref()?)])).flatten();
        if expected.eq(found.iter().cloned()) { Ok(()) } else { Err(Trouble::Wrong(format!("RANGE gave {} keys", found.len() / 2))) }
    }
}

/// The command that a life of the node gets for a number: most write, with and without a deadline; some delete.
fn command(number: usize, life: &str) -> Vec<String> {
    let key = format!("key:{number:05}");
    if life != "first" && number.is_multiple_of(7) {
        return ["DEL".to_owned(), key].into();
    }
    let mut value = format!("{life}:{number};");
    if !number.is_multiple_of(5) {
        value = value.repeat(LONG_VALUE_BYTES / value.len());
    }
    let mut command = vec!["SET".to_owned(), key, value];
    if number.is_multiple_of(4) {
        command.extend(["EX".to_owned(), "100000".to_owned()]);
    }
    command
}

/// Asks until there is an answer.
fn ask(client: &mut Client, command: &[String]) -> Result<Value, Trouble> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.call(command) {
            Err(_) => return Err(Trouble::Lost),
            Ok(Value::Error(text)) if NOT_NOW.iter().any(|prefix| text.starts_with(prefix)) && Instant::now() < deadline => {
                thread::sleep(RETRY_PAUSE);
            }
            Ok(Value::Error(text)) => return Err(Trouble::Wrong(format!("{}: {text}", command[0]))),
            Ok(reply) => return Ok(reply),
        }
    }
}

/// Copies a directory that may be in use; files that are there already stay.
/// # Panics
/// A file cannot be copied.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be created");
    for entry in fs::read_dir(from).expect("a directory can be read").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else if !target.exists() {
            match fs::copy(&source, &target) {
                // RocksDB has deleted it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => drop(copied.expect("a file can be copied")),
            }
        }
    }
}
