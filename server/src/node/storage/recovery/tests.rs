//! A founding member of three that is left alone, over engines in memory.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, EntryType};
use raftlog::engine::{Engine, EngineResult, ExportedFile, KeyRange, MemoryEngine, View};
use raftlog::entry::{ENVELOPE_VERSION, EntryKind, Envelope, Run};
use raftlog::log::{INITIAL_POSITION, LOG_COLUMN_FAMILIES};

use super::super::persist_peers;
use super::*;
use crate::command::{Handler, codec, table};
use crate::keyspace::{KeyspaceState, REVISION_GAP, ReadContext, Reader};
use crate::node::core::{Addresses, COLUMN_FAMILIES, Change, Ids, LEVEL, Members};
use crate::node::{PeerProcess, PeerProcesses};

const OLD: &str = "the cluster of three";
const NEW: &str = "the cluster of one";
/// Incarnation of the directory.
const INCARNATION: u64 = 101;
/// The index of the first entry of a new cluster.
const FIRST: u64 = 6;

/// An engine whose machine ends after so many writes and syncs.
struct Mortal {
    memory: Arc<MemoryEngine>,
    steps_left: Arc<AtomicUsize>,
    /// What it says at the end.
    last_words: &'static str,
}

impl Mortal {
    fn step(&self) -> EngineResult<()> {
        let left = self.steps_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(|_| ()).map_err(|_| EngineError::Io(self.last_words.to_owned()))
    }
}

impl Engine for Mortal {
    fn view(&self, kind: ViewKind) -> Box<dyn View + '_> {
        self.memory.view(kind)
    }

    fn write(&self, batch: &WriteBatch) -> EngineResult<()> {
        self.step()?;
        self.memory.write(batch)
    }

    fn sync(&self) -> EngineResult<()> {
        self.step()?;
        self.memory.sync()
    }

    fn export(&self, view: &dyn View, range: &KeyRange, dir: &Path) -> EngineResult<Vec<ExportedFile>> {
        self.memory.export(view, range, dir)
    }

    fn import(&self, range: &KeyRange, files: &[ExportedFile]) -> EngineResult<()> {
        self.memory.import(range, files)
    }
}

/// The directory of node 1.
struct Site {
    dir: tempfile::TempDir,
    log: Arc<MemoryEngine>,
    data: Arc<MemoryEngine>,
}

impl Site {
    /// A founder of three whose log has these entries behind the first table, of which so many are committed.
    fn with(entries: Vec<Entry>, committed: u64) -> Self {
        let site = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            log: Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len())),
            data: Arc::new(MemoryEngine::new(COLUMN_FAMILIES.len())),
        };
        let mut storage = Storage::over(site.dir.path(), site.log.clone(), site.data.clone(), INCARNATION).expect("an empty directory");
        let founders = [INCARNATION, 102, 103].map(|incarnation| (incarnation, Addresses::default()));
        let form = Members::initial(OLD.to_owned(), LEVEL, founders);
        storage.persist_form(&form).expect("memory does not fail");
        // Node 4 was registered in what is lost.
        let processes = [2, 4].map(|node_id| PeerProcess { node_id, boot: 9, nonce: 9 }).into();
        persist_peers(site.log.as_ref(), &PeerProcesses { processes }).expect("memory does not fail");
        storage.found(form, 1).expect("memory does not fail");
        let term = entries.last().map_or(5, |entry| entry.term);
        let hard_state = HardState { term, vote: 2, commit: FIRST - 1 + committed, ..HardState::default() };
        let persist = Persist { entries, hard_state: Some(hard_state), ..Persist::default() };
        let mut batch = WriteBatch::default();
        persist.encode(GROUP, &mut batch);
        site.log.write_synced(&batch).expect("memory does not fail");
        site
    }

    /// Opens it as `cluster recover` does, on a machine that ends after so many steps.
    fn survivor(&self, steps: usize) -> Result<Survivor, RecoveryError> {
        self.survivor_that_says("the machine is gone", steps)
    }

    fn survivor_that_says(&self, last_words: &'static str, steps: usize) -> Result<Survivor, RecoveryError> {
        let steps_left = Arc::new(AtomicUsize::new(steps));
        let mortal =
            |memory: &Arc<MemoryEngine>| Arc::new(Mortal { memory: Arc::clone(memory), steps_left: Arc::clone(&steps_left), last_words });
        Survivor::over(Storage::attach(self.dir.path(), mortal(&self.log), mortal(&self.data), 0)?, None)
    }

    fn open(&self) -> Survivor {
        self.survivor(usize::MAX).expect("a sound directory")
    }

    fn account(&self) -> Account {
        self.open().account().clone()
    }

    fn recover(&self, steps: usize) -> Result<(), RecoveryError> {
        let mut survivor = self.survivor(steps)?;
        survivor.begin(NEW)?;
        survivor.finish()
    }

    fn start(&self) -> Result<Storage, StorageError> {
        Storage::over(self.dir.path(), self.log.clone(), self.data.clone(), 0)
    }

    fn crash(&self, kept: usize) {
        self.log.crash(kept);
        self.data.crash(kept);
    }

    fn members(&self) -> Members {
        crate::node::core::read_members(self.data.view(ViewKind::Latest).as_ref()).expect("good data")
    }

    fn value(&self) -> Option<Bytes> {
        let view = self.data.view(ViewKind::Latest);
        let context = ReadContext { group: GROUP, db: 0, now: None, log_time: None, state: None, seed: 0 };
        let args = [Bytes::from_static(b"get"), Bytes::from_static(b"k")];
        let get = table::resolve(&args).expect("a valid command");
        match get.read(&args, &Reader::new(view.as_ref(), context)).expect("no deadline is met") {
            resp::Reply::Bulk(value) => Some(value),
            _ => None,
        }
    }

    /// What must be true of a recovered directory, whatever its log had been.
    #[track_caller]
    fn check_recovered(&self, last: LogPosition, value: &'static str) {
        let account = self.account();
        assert_eq!((account.cluster_id.as_str(), account.node_id, account.begun.as_deref()), (NEW, 1, None));
        assert_eq!((account.applied, account.commit, account.last), (last.index, last, last));
        assert_eq!(account.configuration, ConfState { voters: vec![1], ..ConfState::default() });
        assert!(account.is_voter() && account.others.is_empty() && account.term > last.term);
        assert_eq!(self.value(), Some(value.into()));
        // One for each text that was appended, and one gap, however often it was tried.
        let keyspace = KeyspaceState::load(self.data.view(ViewKind::Latest).as_ref(), GROUP).expect("good data");
        assert_eq!(keyspace.revision(), value.len() as u64 + REVISION_GAP);

        let storage = self.start().expect("it can be started");
        assert_eq!(storage.identity(), &Identity { cluster_id: NEW.to_owned(), node_id: 1, incarnation: INCARNATION });
        assert!(storage.pending_form().expect("good data").is_none(), "the former cluster is spread no more");
        assert_eq!(storage.peers().expect("good data"), PeerProcesses::default(), "ids may come again");
        let contents = read_snapshot_contents(storage.data.view(ViewKind::Latest).as_ref()).expect("good data");
        let mark = storage.high_water_mark();
        let store = LogStore::open(storage.log.clone(), GROUP, contents.position, contents.configuration, mark).expect("a sound log");
        assert_eq!((store.first(), store.last()), (last.index + 1, last.index), "nothing is left to apply");
        let config = GroupConfig {
            node_id: 1,
            election_ticks: 10,
            heartbeat_ticks: 1,
            append_bytes_max: 1,
            uncommitted_bytes_max: 1,
            committed_bytes_max: 1,
            seed: 0,
        };
        let mut group = Group::open(config, store, last.index).expect("raft takes it");
        group.campaign();
        assert!(group.is_leader() && group.is_sole_voter() && group.term() > account.term);
    }
}

fn entry(index: u64, envelope: Envelope) -> Entry {
    let envelope = Envelope { version: ENVELOPE_VERSION, level: LEVEL, now_ms: 1000 * index, ..envelope };
    Entry { index, term: index, data: envelope.encode_to_bytes(), ..Entry::default() }
}

/// A run of a node that appends a text to `k`.
fn append(index: u64, node_id: u64, sequence: u64, text: &'static str) -> Entry {
    let args = [&b"append"[..], b"k", text.as_bytes()].map(Bytes::from_static);
    let spec = table::resolve(&args).expect("a valid command");
    let Handler::Write { id, .. } = spec.handler else { panic!("APPEND writes") };
    let mut payload = Vec::new();
    codec::encode(id, 0, &args, &mut payload);
    let run = Run { node_id, boot: 1, sequence, payload: payload.into(), commands: 1 };
    entry(index, Envelope { kind: EntryKind::Commands.into(), runs: vec![run], ..Envelope::default() })
}

fn register(index: u64, incarnation: u64) -> Entry {
    let member = Member { incarnation, level: LEVEL, ..Member::default() };
    let payload = Change::Register(member).encode_to_bytes();
    entry(index, Envelope { kind: EntryKind::Membership.into(), payload, ..Envelope::default() })
}

/// A configuration change, which removes members from the table as well.
fn change(index: u64, changes: &[(ConfChangeType, u64)], removed: &[u64]) -> Entry {
    let single = |(kind, node_id): &(ConfChangeType, u64)| {
        let mut single = ConfChangeSingle { node_id: *node_id, ..ConfChangeSingle::default() };
        single.set_change_type(*kind);
        single
    };
    let change = ConfChangeV2 { changes: changes.iter().map(single).collect::<Vec<_>>().into(), ..ConfChangeV2::default() };
    let mut entry = entry(index, Envelope::default());
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry.data = change.write_to_bytes().expect("small").into();
    if !removed.is_empty() {
        let payload = Change::Remove(Ids { ids: removed.to_vec() }).encode_to_bytes();
        let kind = EntryKind::Configuration.into();
        entry.context = Envelope { version: ENVELOPE_VERSION, level: LEVEL, kind, payload, ..Envelope::default() }.encode_to_bytes();
    }
    entry
}

/// Entries of which the last take the survivor itself out of the group: a joiner, node 4, is at its address.
fn log_that_replaces_the_survivor() -> Vec<Entry> {
    vec![
        Entry { index: FIRST, term: FIRST, ..Entry::default() },
        append(FIRST + 1, 2, 1, "a"),
        register(FIRST + 2, 104),
        change(FIRST + 3, &[(ConfChangeType::AddLearnerNode, 4)], &[]),
        append(FIRST + 4, 1, 1, "b"),
        change(FIRST + 5, &[(ConfChangeType::AddNode, 4), (ConfChangeType::RemoveNode, 1)], &[1]),
        append(FIRST + 6, 3, 1, "c"),
        change(FIRST + 7, &[], &[]),
        append(FIRST + 8, 4, 1, "d"),
    ]
}

const LAST: LogPosition = LogPosition { index: FIRST + 8, term: FIRST + 8 };

#[test]
fn an_account_tells_what_a_start_would_come_to() {
    for (committed, voters, outgoing, learners) in
        [(0, &[1, 2, 3][..], &[][..], &[][..]), (4, &[1, 2, 3], &[], &[4]), (6, &[2, 3, 4], &[1, 2, 3], &[]), (8, &[2, 3, 4], &[], &[])]
    {
        let account = Site::with(log_that_replaces_the_survivor(), committed).account();
        let mut configuration = account.configuration.clone();
        configuration.voters.sort_unstable();
        configuration.voters_outgoing.sort_unstable();
        let found = (&configuration.voters[..], &configuration.voters_outgoing[..], &configuration.learners[..]);
        assert_eq!(found, (voters, outgoing, learners), "{committed} committed");
        assert_eq!((account.is_voter(), account.is_learner()), (committed < 8, false), "{committed} committed");
        let others: Vec<u64> = account.others.iter().map(|member| member.node_id).collect();
        assert_eq!((account.cluster_id.as_str(), account.node_id, &others[..]), (OLD, 1, &[2, 3][..]));
        let index = FIRST - 1 + committed;
        let commit = LogPosition { index, term: if committed == 0 { INITIAL_POSITION.term } else { index } };
        assert_eq!((account.term, account.applied, account.commit, account.last), (LAST.term, FIRST - 1, commit, LAST));
        assert_eq!(account.log_time_ms, 1000 * LAST.index);
    }
}

#[test]
fn an_account_has_what_is_applied_and_the_entries_of_its_log() {
    let entry = |index, term| Entry { index, term, ..Entry::default() };
    let account = Site::with(vec![entry(FIRST, 6), entry(FIRST + 1, 6), entry(FIRST + 2, 9), entry(FIRST + 3, 9)], 1).account();
    assert_eq!(account.terms, [LogPosition { index: FIRST, term: 6 }, LogPosition { index: FIRST + 2, term: 9 }]);
    for (index, term, expected) in [
        (FIRST - 1, 5, true),
        (FIRST, 6, true),
        (FIRST, 7, false),
        (FIRST + 1, 6, true),
        (FIRST + 2, 6, false),
        (FIRST + 2, 9, true),
        (FIRST + 3, 9, true),
        (FIRST + 4, 9, false),
    ] {
        assert_eq!(account.has(LogPosition { index, term }), expected, "{index} of term {term}");
    }
}

#[test]
fn changes_of_the_configuration_in_the_log_are_void() {
    let site = Site::with(log_that_replaces_the_survivor(), 2);
    site.recover(usize::MAX).expect("recovered");
    site.check_recovered(LAST, "abcd");
    let members = site.members();
    assert_eq!((members.members.len(), members.next_id, members.cluster_id.as_str()), (1, 5, NEW));
    let mut removed = members.removed;
    removed.sort_unstable();
    assert_eq!(removed, [2, 3, 4], "nobody comes back under these");
}

#[test]
fn a_log_without_a_tail_is_recovered() {
    let site = Site::with(vec![append(FIRST, 2, 1, "a")], 1);
    site.recover(usize::MAX).expect("recovered");
    site.check_recovered(LogPosition { index: FIRST, term: FIRST }, "a");
}

#[test]
fn a_crash_at_any_step_leaves_it_as_before_or_is_made_good() {
    for kept in [0, 1, usize::MAX] {
        let (mut unchanged, mut resumed) = (0, 0);
        for steps in 0.. {
            let site = Site::with(log_that_replaces_the_survivor(), 2);
            let before = site.account();
            if site.recover(steps).is_ok() {
                break;
            }
            site.crash(kept);
            let account = site.account();
            if account.begun.is_none() && account.cluster_id == OLD {
                assert_eq!(account, before, "{steps} steps");
                site.start().expect("the node goes on");
                unchanged += 1;
                continue;
            }
            // The last batch may be there though its sync was never confirmed.
            if account.begun.is_some() {
                assert!(matches!(site.start(), Err(StorageError::InRecovery(_))), "{steps} steps");
                assert_eq!(account.begun.as_deref(), Some(NEW));
                let mut survivor = site.open();
                survivor.begin("another cluster").expect("begun before");
                survivor.finish().expect("nothing is in the way any more");
                resumed += 1;
            }
            site.check_recovered(LAST, "abcd");
        }
        assert!(unchanged > 0 && resumed > 5, "{unchanged} crashes before the marker, {resumed} behind it");
    }
}

#[test]
fn a_sync_that_fails_puts_up_a_fence() {
    for (last_words, is_fenced) in [
        ("IO error: While fdatasync: /d/log/9.log: Input/output error", true),
        ("IO error: No space left on device: While fdatasync: /d/log/9.log: No space left on device", false),
        ("IO error: While pread: /d/data/9.sst: Input/output error", false),
    ] {
        let mut failures = 0;
        for steps in 0.. {
            let site = Site::with(log_that_replaces_the_survivor(), 2);
            // Opening it has nothing to write.
            let mut survivor = site.survivor_that_says(last_words, steps).expect("a sound directory");
            let outcome = survivor.begin(NEW).and_then(|()| survivor.finish());
            assert_eq!(fence::reason(site.dir.path()).expect("readable").is_some(), outcome.is_err() && is_fenced, "{last_words}");
            match outcome {
                Ok(()) => break,
                Err(error) => assert_eq!(error.is_failed_sync(), is_fenced, "{error}"),
            }
            failures += 1;
        }
        assert!(failures > 5, "{last_words}");
    }
}

#[test]
fn the_log_can_be_applied_before_the_rest_is_done() {
    let site = Site::with(log_that_replaces_the_survivor(), 2);
    let mut survivor = site.open();
    survivor.begin(NEW).expect("a member");
    survivor.apply_log().expect("good entries");
    survivor.apply_log().expect("nothing is left");
    assert_eq!((site.value(), site.account().cluster_id.as_str()), (Some("abcd".into()), OLD));
    survivor.finish().expect("nothing is in the way");
    site.check_recovered(LAST, "abcd");
}

#[test]
fn a_second_crash_while_it_is_made_good_is_made_good() {
    for first in 3.. {
        let whole = Site::with(log_that_replaces_the_survivor(), 2);
        if whole.recover(first).is_ok() {
            break;
        }
        for second in 0.. {
            let site = Site::with(log_that_replaces_the_survivor(), 2);
            site.recover(first).expect_err("the machine has ended");
            site.crash(0);
            let is_whole = site.survivor(second).and_then(Survivor::finish).is_ok();
            site.crash(0);
            if site.account().begun.is_some() {
                site.open().finish().expect("nothing is in the way any more");
            }
            site.check_recovered(LAST, "abcd");
            if is_whole {
                break;
            }
        }
    }
}

#[test]
fn who_is_no_member_is_no_survivor() {
    let site = Site::with(log_that_replaces_the_survivor(), 8);
    assert!(matches!(site.recover(usize::MAX), Err(RecoveryError::NoMember)), "it was replaced, and knows");
    assert_eq!(site.account().begun, None);
    let empty = tempfile::tempdir().expect("a temporary directory");
    let options = StorageOptions { block_cache_bytes: 1 << 20, memtable_bytes: 1 << 20 };
    assert!(matches!(Survivor::open(empty.path(), options), Err(RecoveryError::NoData)));
    let [log, data] = [LOG_COLUMN_FAMILIES, COLUMN_FAMILIES].map(|families| Arc::new(MemoryEngine::new(families.len())));
    let blank = Storage::over(empty.path(), log, data, 7).expect("an empty directory");
    assert!(matches!(Survivor::over(blank, None), Err(RecoveryError::NoMember)));
}
