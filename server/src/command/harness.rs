//! What the tests of commands run on: a keyspace in memory, a log time that stands still until a test moves it, and lines of the form
//! `command arguments -> reply`.
//! Every write is a batch of its own. The keyspace's invariants are checked after the first writes, and then now and then, since that takes
//! time in proportion to the keys.

use bytes::Bytes;
use raftlog::engine::{Engine, MemoryEngine, Overlay, View, ViewKind};
use resp::Reply;

use super::{Handler, table};
use crate::keyspace::{
    COLUMN_FAMILIES, GroupId, KeyspaceState, ReadContext, ReadError, Reader, STATE, UnixMillis, Writer, check_invariants, log_time_key,
};

pub(crate) const GROUP: GroupId = GroupId(1);

/// One client of one replica.
pub(crate) struct Session {
    pub(crate) engine: MemoryEngine,
    pub(crate) state: KeyspaceState,
    pub(crate) db: u8,
    /// The log's time.
    pub(crate) now: UnixMillis,
    /// The leader's time, if it is ahead of the log's.
    pub(crate) leader_time: Option<UnixMillis>,
    pub(crate) seed: u64,
    writes: usize,
}

/// Writes after which the invariants are checked each time, and the distance between later checks.
const CHECKED_WRITES: usize = 64;

impl Session {
    /// An empty keyspace in the year 2001.
    pub(crate) fn new() -> Self {
        let engine = MemoryEngine::new(COLUMN_FAMILIES.len());
        let state = KeyspaceState::load(engine.view(ViewKind::Latest).as_ref(), GROUP).expect("memory does not fail");
        Self { engine, state, db: 0, now: UnixMillis(1_000_000_000_000), leader_time: None, seed: 0, writes: 0 }
    }

    /// Makes changes as one batch.
    pub(crate) fn write<T>(&mut self, change: impl FnOnce(&mut Writer<'_, '_>) -> T) -> T {
        let view = self.engine.view(ViewKind::Latest);
        let mut overlay = Overlay::new(view.as_ref(), COLUMN_FAMILIES.len());
        let result = change(&mut Writer::new(&mut overlay, &mut self.state, self.db, self.now));
        overlay.put(STATE, log_time_key(GROUP), self.now.0.to_be_bytes().to_vec());
        self.state.store(&mut overlay);
        let batch = overlay.into_batch();
        drop(view);
        self.engine.write(&batch).expect("memory does not fail");
        self.writes += 1;
        if self.writes <= CHECKED_WRITES || self.writes.is_multiple_of(CHECKED_WRITES) {
            check_invariants(self.view().as_ref(), &self.state);
        }
        result
    }

    /// Moves the log's time.
    pub(crate) fn sleep(&mut self, millis: u64) {
        self.now.0 += millis;
        self.write(|_| ());
    }

    pub(crate) fn view(&self) -> Box<dyn View + '_> {
        self.engine.view(ViewKind::Snapshot)
    }

    /// Reads with a reader that finds everything in the view.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Reader<'_>) -> T) -> T {
        let context = ReadContext { group: GROUP, db: self.db, now: self.leader_time, log_time: None, state: None, seed: self.seed };
        read(&Reader::new(self.view().as_ref(), context))
    }

    /// Executes a command whose reply needs no later log time.
    pub(crate) fn run(&mut self, args: &[Bytes]) -> Reply {
        self.try_run(args).expect("the log's time suffices")
    }

    /// Executes a command.
    pub(crate) fn try_run(&mut self, args: &[Bytes]) -> Result<Reply, ReadError> {
        let spec = match table::resolve(args) {
            Ok(spec) => spec,
            Err(error) => return Ok(error.into()),
        };
        match spec.handler {
            Handler::Read { check, .. } => match check(args) {
                Ok(()) => self.read(|reader| spec.read(args, reader)),
                Err(error) => Ok(error.into()),
            },
            Handler::Write { check, .. } => match check(args) {
                Ok(()) => Ok(self.write(|writer| spec.apply(args, writer)).expect("memory does not fail")),
                Err(error) => Ok(error.into()),
            },
            Handler::Node(_) | Handler::Container => panic!("{} is not about data", spec.name),
        }
    }

    /// Executes a line and returns its reply as text.
    pub(crate) fn line(&mut self, line: &str) -> String {
        let args = arguments(line);
        match self.try_run(&args) {
            Ok(reply) => text(&reply),
            Err(ReadError::TimeNeeded(deadline)) => format!("TimeNeeded {}", deadline.0),
            Err(ReadError::Engine(error)) => panic!("{line}: {error}"),
        }
    }

    /// Executes lines of the form `command arguments -> reply`, and the two that are no commands: `select n`, `sleep milliseconds`.
    pub(crate) fn check_lines(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once(' ') {
                Some(("select", db)) => self.db = db.parse().expect("a database"),
                Some(("sleep", millis)) => self.sleep(millis.parse().expect("milliseconds")),
                _ => {
                    let (command, expected) = line.split_once(" ->").expect("a line has an expected reply");
                    assert_eq!(self.line(command), expected.trim_start(), "{command}");
                }
            }
        }
    }
}

/// Splits a line at spaces. Inside single quotes spaces count, and `\xNN` is a byte.
pub(crate) fn arguments(line: &str) -> Vec<Bytes> {
    let mut args = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a quote is closed"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        args.push(unescaped(word));
        rest = after.trim_start();
    }
    args
}

fn unescaped(word: &str) -> Bytes {
    let mut parts = word.split("\\x");
    let mut bytes = parts.next().expect("a split has a first part").as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes.into()
}

/// A reply as the lines have it: bulk strings in single quotes, arrays in brackets.
pub(crate) fn text(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) => (*text).to_owned(),
        Reply::Error(text) => text.to_string(),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(bytes) => format!("'{}'", bytes.escape_ascii()),
        Reply::Null => "nil".to_owned(),
        Reply::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        other => panic!("no data command replies {other:?}"),
    }
}
