//! The replicated state machine: committed entries in, data and replies out.
//! Apply is a function of the entries and the data before them: time and chance come from the entry's stamp, nothing from the machine.
//! What it needs to know about itself (applied position, log time, origins, members, configuration) is stored in the same batch as the data.
//! At most once: a run is executed exactly when its sequence follows the highest one executed of its origin; repetitions and runs behind a
//! gap are skipped, on every replica alike.
//! A batch may end inside an entry, between two commands: a few bytes of a command can make a value of 64 MiB, so an entry of many has no
//! bound. Then `raft/within` says how far the entry after the applied position is executed, and apply goes on there after a restart, or
//! after a snapshot of such data. The batch that ends the entry deletes it: at an entry's end nothing shows how batches were cut.
//! Records in `STATE`, all under the group: `raft/applied` {index, term}, `raft/log_time` {ms}, `raft/origin/` + node id {boot, sequence},
//! `raft/within` {index, term, run, commands}, integers u64 BE; `raft/members` and `raft/configuration` as Protocol Buffers.

mod alone;

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType};
use raftlog::engine::{Engine, EngineError, EngineResult, Overlay, View, ViewKind};
use raftlog::entry::{EntryKind, Envelope, EnvelopeError, Run};
use raftlog::log::{GroupId, INITIAL_POSITION, LogPosition};
use resp::Reply;

use super::LEVEL;
use super::members::{Change, Members, MembershipChange};
use super::runs::RunId;
use crate::command::codec::{self, CodecError, LoggedCommand};
use crate::error::RequestError;
use crate::keyspace::{KeyspaceState, ReadContext, ReadError, Reader, STATE, UnixMillis, Writer, log_time_key, state_key};
use crate::node::request::{Request, RunResult, reply_bytes};

/// The one group of today.
pub const GROUP: GroupId = GroupId(1);
/// Column families of a data engine.
pub const COLUMN_FAMILIES: &[&str] = crate::keyspace::COLUMN_FAMILIES;

/// Bytes of changes after which a batch is written, before the next command or entry.
pub const BATCH_BYTES: usize = 4 << 20;
/// Bytes of replies to a run with writes, beyond which its further reads are refused: they cannot be evaluated later, and wait in memory.
const RUN_REPLY_BYTES_MAX: usize = 256 << 20;
/// Keys that one purge entry removes.
const PURGE_KEYS_PER_ROUND_MAX: usize = 1000;
/// Keys that one sweep entry removes.
const SWEEP_KEYS_PER_ROUND_MAX: usize = 2000;

/// What the data says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Up to which entry it is applied.
    pub position: LogPosition,
    /// Log time, in ms since the Unix epoch.
    pub log_time_ms: u64,
    /// The earliest deadline of any key, in ms since the Unix epoch.
    pub earliest_deadline_ms: Option<u64>,
    /// Whether a sweep has something to remove.
    pub leftovers: bool,
    /// Highest sequence of this node and boot that was executed.
    pub own_sequence: u64,
    /// Whether a run of this node was skipped because one before it is missing: they have to be sent again.
    pub gap: bool,
    /// The membership table.
    pub members: Arc<Members>,
}

/// A run of this node's clients whose replies are wanted.
pub struct TrackedRun {
    /// Its name.
    pub id: RunId,
    /// Its sequence; consecutive over all tracked runs.
    pub sequence: u64,
    /// Its requests, reads between the writes included.
    pub requests: Vec<Request>,
}

/// How far `apply` came.
#[derive(Clone, Debug, PartialEq)]
pub enum Reached {
    /// All entries are applied.
    End,
    /// A configuration change: `configure` has to be called, then `apply` with the rest of the entries.
    Change(ConfChangeV2),
    /// A verification at this position, which is the last one applied: a view of the data has to be taken, then `apply` called with the rest
    /// of the entries.
    Verification(LogPosition),
}

/// Why the replica cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The entry cannot be read by this binary.
    #[error("entry {index}: {source}")]
    Envelope {
        /// Its index.
        index: u64,
        /// Why.
        source: EnvelopeError,
    },
    /// The entry needs a newer binary.
    #[error("entry {index} needs feature level {level}, this binary supports {LEVEL}; install a newer redraft")]
    Level {
        /// Its index.
        index: u64,
        /// Its level.
        level: u32,
    },
    /// A command in the entry cannot be read by this binary.
    #[error("entry {index}: {source}")]
    Command {
        /// The entry's index.
        index: u64,
        /// Why.
        source: CodecError,
    },
    /// The entry's payload makes no sense.
    #[error("entry {index} is malformed: {what}")]
    Malformed {
        /// The entry's index.
        index: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// What a snapshot of the data has to say in its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotContents {
    /// The applied position.
    pub position: LogPosition,
    /// The configuration there.
    pub configuration: ConfState,
}

/// What the data of a founding member begins with.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// The members, all of them voters.
    pub members: Members,
}

impl InitialState {
    /// Writes it, without a sync.
    /// # Errors
    /// The engine's.
    pub fn write(&self, engine: &dyn Engine) -> EngineResult<()> {
        let view = engine.view(ViewKind::Latest);
        let mut overlay = Overlay::new(view.as_ref(), COLUMN_FAMILIES.len());
        let voters = self.members.members.iter().map(|member| member.node_id).collect();
        put_configuration(&mut overlay, &ConfState { voters, ..ConfState::default() });
        put_members(&mut overlay, &self.members);
        put_applied(&mut overlay, INITIAL_POSITION);
        engine.write(&overlay.into_batch())
    }
}

/// What a view says about itself, for the metadata of a snapshot.
/// # Errors
/// The engine's, and `Corruption`.
pub fn read_snapshot_contents(view: &dyn View) -> EngineResult<SnapshotContents> {
    let position = match read_numbers::<2>(view, "raft/applied")? {
        Some([index, term]) => LogPosition { index, term },
        None => LogPosition::default(),
    };
    let configuration = match view.get(STATE, &state_key(GROUP, "raft/configuration"))? {
        Some(bytes) => ConfState::parse_from_bytes(&bytes).map_err(|_| corrupt("the configuration"))?,
        None => ConfState::default(),
    };
    Ok(SnapshotContents { position, configuration })
}

/// The table of members in the data; empty if there is none.
/// # Errors
/// The engine's, and `Corruption`.
pub fn read_members(view: &dyn View) -> EngineResult<Members> {
    match view.get(STATE, &state_key(GROUP, "raft/members"))? {
        Some(bytes) => Members::decode(bytes).map_err(|_| corrupt("the membership table")),
        None => Ok(Members::default()),
    }
}

fn corrupt(what: &str) -> EngineError {
    EngineError::Corruption(format!("{what} in the data cannot be read"))
}

fn read_numbers<const N: usize>(view: &dyn View, name: &str) -> EngineResult<Option<[u64; N]>> {
    let Some(mut bytes) = view.get(STATE, &state_key(GROUP, name))? else { return Ok(None) };
    if bytes.len() != 8 * N {
        return Err(corrupt(name));
    }
    Ok(Some(std::array::from_fn(|_| bytes.get_u64())))
}

fn put_numbers(overlay: &mut Overlay<'_>, key: Vec<u8>, numbers: &[u64]) {
    overlay.put(STATE, key, numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>());
}

fn put_applied(overlay: &mut Overlay<'_>, position: LogPosition) {
    put_numbers(overlay, state_key(GROUP, "raft/applied"), &[position.index, position.term]);
}

fn put_members(overlay: &mut Overlay<'_>, members: &Members) {
    overlay.put(STATE, state_key(GROUP, "raft/members"), members.encode_to_vec());
}

/// raft keeps the ids in hash sets, whose order depends on how a node came to its configuration; what is stored must be the same everywhere.
fn put_configuration(overlay: &mut Overlay<'_>, configuration: &ConfState) {
    let mut sorted = configuration.clone();
    for ids in [&mut sorted.voters, &mut sorted.learners, &mut sorted.voters_outgoing, &mut sorted.learners_next] {
        ids.sort_unstable();
    }
    let bytes = sorted.write_to_bytes().expect("a configuration is small");
    overlay.put(STATE, state_key(GROUP, "raft/configuration"), bytes);
}

/// How far an entry is executed: a place between two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    entry: LogPosition,
    /// Number of the run under way, from 0; those before it are executed or skipped.
    run: u64,
    /// How many of its commands are executed.
    commands: u64,
}

const WITHIN: &str = "raft/within";

fn read_within(view: &dyn View) -> EngineResult<Option<Place>> {
    let numbers = read_numbers::<4>(view, WITHIN)?;
    Ok(numbers.map(|[index, term, run, commands]| Place { entry: LogPosition { index, term }, run, commands }))
}

fn put_within(overlay: &mut Overlay<'_>, Place { entry, run, commands }: Place) {
    put_numbers(overlay, state_key(GROUP, WITHIN), &[entry.index, entry.term, run, commands]);
}

fn origin_key(node_id: u64) -> Vec<u8> {
    [state_key(GROUP, "raft/origin/"), node_id.to_be_bytes().to_vec()].concat()
}

/// The highest run executed of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Executed {
    boot: u64,
    sequence: u64,
}

/// The state machine of this node.
pub struct StateMachine {
    engine: Arc<dyn Engine>,
    node_id: u64,
    boot: u64,
    /// Bytes of changes after which a batch is written.
    batch_bytes: usize,
    keyspace: KeyspaceState,
    origins: BTreeMap<u64, Executed>,
    applied: Applied,
    /// Where the last batch ended, if that is inside the entry after the applied position.
    within: Option<Place>,
    tracked: VecDeque<TrackedRun>,
    replies: Vec<(RunId, RunResult)>,
    /// Keys removed because their time was up, since the last call of `take_purged_keys`.
    purged_keys: u64,
}

impl StateMachine {
    /// The state machine over the data as it is.
    /// # Errors
    /// The engine's, and `Corruption`.
    pub fn open(engine: Arc<dyn Engine>, node_id: u64, boot: u64) -> EngineResult<Self> {
        let keyspace = KeyspaceState::load(engine.view(ViewKind::Latest).as_ref(), GROUP)?;
        let position = LogPosition::default();
        let members = Arc::new(Members::default());
        let applied =
            Applied { position, log_time_ms: 0, earliest_deadline_ms: None, leftovers: false, own_sequence: 0, gap: false, members };
        let (origins, tracked, replies) = (BTreeMap::new(), VecDeque::new(), Vec::new());
        let (batch_bytes, within) = (BATCH_BYTES, None);
        let mut machine = Self { engine, node_id, boot, batch_bytes, keyspace, origins, applied, within, tracked, replies, purged_keys: 0 };
        machine.load()?;
        Ok(machine)
    }

    /// Writes a batch after so many bytes of changes in place of `BATCH_BYTES`: tests want batches to end everywhere.
    #[must_use]
    pub fn with_batch_bytes(mut self, batch_bytes: usize) -> Self {
        self.batch_bytes = batch_bytes;
        self
    }

    /// Reads everything that is kept in memory from the data: at start, and after a snapshot was installed. Runs that the snapshot has
    /// executed have lost their replies.
    /// # Errors
    /// The engine's, and `Corruption`.
    pub fn load(&mut self) -> EngineResult<()> {
        let engine = Arc::clone(&self.engine);
        let view = engine.view(ViewKind::Latest);
        let view = view.as_ref();
        self.keyspace = KeyspaceState::load(view, GROUP)?;
        self.applied.position = read_snapshot_contents(view)?.position;
        self.applied.log_time_ms = read_numbers::<1>(view, "raft/log_time")?.map_or(0, |[time]| time);
        self.within = read_within(view)?;
        if self.within.is_some_and(|place| place.entry.index.checked_sub(1) != Some(self.applied.position.index)) {
            return Err(corrupt("the place within an entry"));
        }
        self.applied.members = Arc::new(read_members(view)?);
        self.origins.clear();
        let prefix = state_key(GROUP, "raft/origin/");
        let range = raftlog::engine::KeyRange::prefix(&prefix);
        for item in view.items(STATE, &range, raftlog::engine::Direction::Forward) {
            let (key, mut value) = item?;
            let node_id = key.get(prefix.len()..).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
            let (Some(node_id), 16) = (node_id, value.len()) else { return Err(corrupt("an origin")) };
            self.origins.insert(node_id, Executed { boot: value.get_u64(), sequence: value.get_u64() });
        }
        self.refresh(view)?;
        while self.tracked.front().is_some_and(|run| run.sequence <= self.applied.own_sequence) {
            let run = self.tracked.pop_front().expect("there is a first run");
            self.replies.push((run.id, Err(RequestError::Unknown)));
        }
        Ok(())
    }

    /// Brings up to date what is derived from the data.
    fn refresh(&mut self, view: &dyn View) -> EngineResult<()> {
        let expires: u64 = self.keyspace.databases().iter().map(|database| database.expires).sum();
        self.applied.earliest_deadline_ms =
            if expires == 0 { None } else { self.keyspace.earliest_deadline(view)?.map(|deadline| deadline.0) };
        self.applied.leftovers = self.keyspace.dead_namespaces() > 0;
        let own = self.origins.get(&self.node_id).copied().unwrap_or_default();
        self.applied.own_sequence = if own.boot == self.boot { own.sequence } else { 0 };
        Ok(())
    }

    /// From now on the replies of this run are wanted. Its sequence follows the one tracked before.
    pub fn track(&mut self, run: TrackedRun) {
        if let Some(last) = self.tracked.back() {
            assert_eq!(run.sequence, last.sequence + 1, "runs are tracked in the order they are sent");
        }
        self.tracked.push_back(run);
    }

    /// The client of this run is told that its outcome is unknown, unless it has its replies.
    pub fn give_up(&mut self, sequence: u64) {
        if let Some(run) = self.tracked.iter_mut().find(|run| run.sequence == sequence) {
            run.requests.clear();
            self.replies.push((run.id, Err(RequestError::Unknown)));
        }
    }

    /// Replies that became final since the last call. They may be sent.
    pub fn take_replies(&mut self) -> Vec<(RunId, RunResult)> {
        std::mem::take(&mut self.replies)
    }

    /// How many keys were removed because their time was up since the last call.
    pub fn take_purged_keys(&mut self) -> u64 {
        std::mem::take(&mut self.purged_keys)
    }

    /// What the data says about itself. Resets the notice of a gap.
    pub fn take_applied(&mut self) -> Applied {
        let applied = self.applied.clone();
        self.applied.gap = false;
        applied
    }

    /// What the data says about itself.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Applies entries in their order, up to the first configuration change or verification; what is applied is taken from the front of
    /// `entries`.
    /// # Errors
    /// The replica cannot go on.
    pub fn apply(&mut self, entries: &mut VecDeque<Entry>) -> Result<Reached, Halt> {
        while !entries.is_empty() {
            let reached = self.apply_batch(entries)?;
            if reached != Reached::End {
                return Ok(reached);
            }
        }
        Ok(Reached::End)
    }

    /// Applies entries up to the size of a batch, a configuration change or a verification, and writes the batch.
    fn apply_batch(&mut self, entries: &mut VecDeque<Entry>) -> Result<Reached, Halt> {
        let engine = Arc::clone(&self.engine);
        let view = engine.view(ViewKind::Latest);
        let mut overlay = Overlay::new(view.as_ref(), COLUMN_FAMILIES.len());
        let mut replies = Vec::new();
        let mut reached = Reached::End;
        let before = self.applied.position;
        while let Some(entry) = entries.front() {
            assert_eq!(entry.index, self.applied.position.index + 1, "entries are applied in their order, once");
            let position = LogPosition { index: entry.index, term: entry.term };
            if self.within.is_some_and(|place| place.entry != position) {
                let what = format!("a part of another entry {} than the log's was executed", entry.index);
                return Err(EngineError::Corruption(what).into());
            }
            if let Some(change) = configuration_change(entry)? {
                reached = Reached::Change(change);
                break;
            }
            let kind = self.apply_entry(entry, &mut overlay, &mut replies)?;
            self.applied.position = position;
            if self.within.take().is_some() {
                overlay.delete(STATE, state_key(GROUP, WITHIN));
            }
            entries.pop_front();
            if kind == EntryKind::Verify {
                reached = Reached::Verification(self.applied.position);
                break;
            }
            if overlay.bytes() >= self.batch_bytes {
                break;
            }
        }
        if self.applied.position != before {
            self.refresh(&overlay)?;
            self.write(&mut overlay)?;
        }
        self.replies.append(&mut replies);
        Ok(reached)
    }

    /// Writes the changes as one batch, with what the data says about itself. The overlay stands over a view of the newest data, so it goes
    /// on without them.
    fn write(&mut self, overlay: &mut Overlay<'_>) -> EngineResult<()> {
        put_applied(overlay, self.applied.position);
        put_numbers(overlay, log_time_key(GROUP), &[self.applied.log_time_ms]);
        self.keyspace.store(overlay);
        self.engine.write(&overlay.take_batch())
    }

    /// Applies an entry and says of what kind it was.
    fn apply_entry(&mut self, entry: &Entry, overlay: &mut Overlay<'_>, replies: &mut Vec<(RunId, RunResult)>) -> Result<EntryKind, Halt> {
        // A new leader's first entry is empty.
        if entry.data.is_empty() {
            return Ok(EntryKind::Unspecified);
        }
        let index = entry.index;
        let envelope = read_envelope(entry)?;
        self.applied.log_time_ms = self.applied.log_time_ms.max(envelope.now_ms);
        let now = UnixMillis(self.applied.log_time_ms);
        let kind = envelope.kind();
        match kind {
            EntryKind::Commands => {
                let position = LogPosition { index, term: entry.term };
                for (number, run) in (0..).zip(envelope.runs) {
                    // Each run has a seed of its own, the same on every replica.
                    let seed = envelope.seed.wrapping_add(number);
                    self.apply_run(Place { entry: position, run: number, commands: 0 }, run, seed, overlay, replies)?;
                }
            }
            EntryKind::Purge => {
                let purged = Writer::new(overlay, &mut self.keyspace, 0, now).purge_expired(PURGE_KEYS_PER_ROUND_MAX)?;
                self.purged_keys += purged.keys as u64;
            }
            EntryKind::Sweep => {
                Writer::new(overlay, &mut self.keyspace, 0, now).sweep(SWEEP_KEYS_PER_ROUND_MAX)?;
            }
            EntryKind::Membership => self.change_members(index, &envelope.payload, overlay)?,
            // It changes nothing but the position and the time.
            EntryKind::Verify => {}
            EntryKind::Configuration | EntryKind::Unspecified => {
                return Err(Halt::Malformed { index, what: "its kind does not stand alone" });
            }
        }
        Ok(kind)
    }

    /// Executes a run, or what is left of it if the last batch ended inside it; skips one that was executed or must not be.
    fn apply_run(
        &mut self,
        mut place: Place,
        run: Run,
        seed: u64,
        overlay: &mut Overlay<'_>,
        replies: &mut Vec<(RunId, RunResult)>,
    ) -> Result<(), Halt> {
        let mut payload = run.payload.clone();
        let tracked = match self.within.filter(|within| place.run <= within.run) {
            // It was executed or skipped, and its origin's record would judge it anew.
            Some(within) if place.run < within.run => return Ok(()),
            // Nobody has the replies to what was executed before.
            Some(within) => {
                while place.commands < within.commands {
                    decode(&mut place, &mut payload)?;
                }
                None
            }
            None if self.is_next(&run) => {
                self.origins.insert(run.node_id, Executed { boot: run.boot, sequence: run.sequence });
                put_numbers(overlay, origin_key(run.node_id), &[run.boot, run.sequence]);
                if self.is_own(&run) { self.take_tracked(run.sequence) } else { None }
            }
            None => return Ok(()),
        };
        match tracked {
            Some(TrackedRun { id, requests, .. }) if !requests.is_empty() => {
                let mut answers = Vec::with_capacity(requests.len());
                let mut bytes = 0;
                for request in &requests {
                    let answer = if request.spec.is_write() {
                        self.apply_command(&mut place, &mut payload, overlay)?
                    } else if bytes > RUN_REPLY_BYTES_MAX {
                        Reply::Error(RequestError::TryAgain("the replies to this pipeline are too large".into()).to_string().into())
                    } else {
                        self.read_between(request, seed, overlay)?
                    };
                    bytes += reply_bytes(&answer);
                    answers.push(answer);
                }
                assert!(payload.is_empty(), "a run's payload holds its writes and nothing else");
                replies.push((id, Ok(answers)));
            }
            Some(_) | None => {
                while !payload.is_empty() {
                    self.apply_command(&mut place, &mut payload, overlay)?;
                }
            }
        }
        Ok(())
    }

    fn is_own(&self, run: &Run) -> bool {
        run.node_id == self.node_id && run.boot == self.boot
    }

    /// Whether a run is to be executed. Takes notice of a gap before a run of this node.
    fn is_next(&mut self, run: &Run) -> bool {
        // A removed node has no record of what was executed for it any more, and its id never comes back.
        if self.applied.members.get(run.node_id).is_none() {
            return false;
        }
        let executed = self.origins.get(&run.node_id).copied().unwrap_or_default();
        let is_next = match run.boot.cmp(&executed.boot) {
            Ordering::Less => false,
            Ordering::Equal => run.sequence == executed.sequence + 1,
            Ordering::Greater => run.sequence == 1,
        };
        self.applied.gap |= !is_next && self.is_own(run) && (run.boot > executed.boot || run.sequence > executed.sequence);
        is_next
    }

    /// The tracked run of this sequence. Runs before it were resolved by a snapshot.
    fn take_tracked(&mut self, sequence: u64) -> Option<TrackedRun> {
        while self.tracked.front().is_some_and(|run| run.sequence < sequence) {
            self.tracked.pop_front();
        }
        self.tracked.pop_front_if(|run| run.sequence == sequence)
    }

    /// Executes the command at a place, which then is behind it. Beforehand it makes room: memory holds no more changes than a batch, and
    /// those of one command.
    fn apply_command(&mut self, place: &mut Place, payload: &mut Bytes, overlay: &mut Overlay<'_>) -> Result<Reply, Halt> {
        if overlay.bytes() >= self.batch_bytes {
            self.within = Some(*place);
            put_within(overlay, *place);
            self.write(overlay)?;
        }
        let command = decode(place, payload)?;
        let now = UnixMillis(self.applied.log_time_ms);
        let mut writer = Writer::new(overlay, &mut self.keyspace, command.db, now);
        Ok(command.spec.apply(&command.args, &mut writer)?)
    }

    /// A read of a run with writes, at its place between them.
    fn read_between(&self, request: &Request, seed: u64, overlay: &Overlay<'_>) -> Result<Reply, Halt> {
        let now = UnixMillis(self.applied.log_time_ms);
        let context = ReadContext { group: GROUP, db: request.db, now: None, log_time: Some(now), state: Some(&self.keyspace), seed };
        match request.spec.read(&request.args, &Reader::new(overlay, context)) {
            Ok(reply) => Ok(reply),
            Err(ReadError::Engine(error)) => Err(error.into()),
            Err(ReadError::TimeNeeded(_)) => unreachable!("inside apply the log time alone counts"),
        }
    }

    fn change_members(&mut self, index: u64, payload: &Bytes, overlay: &mut Overlay<'_>) -> Result<(), Halt> {
        let change = MembershipChange::decode(payload.clone()).ok().and_then(|change| change.change);
        let change = change.ok_or(Halt::Malformed { index, what: "an unknown membership change" })?;
        self.change_table(change, overlay);
        Ok(())
    }

    /// Changes the table of members, and forgets what was executed for those that are gone.
    fn change_table(&mut self, change: Change, overlay: &mut Overlay<'_>) {
        let members = Arc::make_mut(&mut self.applied.members);
        members.apply(&change);
        put_members(overlay, members);
        if let Change::Remove(removed) = change {
            for node_id in removed.ids {
                self.origins.remove(&node_id);
                overlay.delete(STATE, origin_key(node_id));
            }
        }
    }

    /// Records the configuration that follows the change at the front of `entries`, with what the change does to the table. It need not
    /// be durable before it takes effect: the log knows durably that the change is committed, so a start that lacks it applies it again.
    /// # Errors
    /// The replica cannot go on.
    pub fn configure(&mut self, entries: &mut VecDeque<Entry>, configuration: &ConfState) -> Result<(), Halt> {
        let entry = entries.pop_front().expect("apply stopped at this entry");
        let engine = Arc::clone(&self.engine);
        let view = engine.view(ViewKind::Latest);
        let mut overlay = Overlay::new(view.as_ref(), COLUMN_FAMILIES.len());
        if !entry.context.is_empty() {
            let envelope = Envelope::read(entry.context.clone()).map_err(|source| Halt::Envelope { index: entry.index, source })?;
            self.change_members(entry.index, &envelope.payload, &mut overlay)?;
        }
        self.applied.position = LogPosition { index: entry.index, term: entry.term };
        put_configuration(&mut overlay, configuration);
        put_applied(&mut overlay, self.applied.position);
        Ok(engine.write(&overlay.into_batch())?)
    }
}

/// Takes the command at a place, which then is behind it.
fn decode(place: &mut Place, payload: &mut Bytes) -> Result<LoggedCommand, Halt> {
    place.commands += 1;
    codec::decode(payload).map_err(|source| Halt::Command { index: place.entry.index, source })
}

/// The contents of an entry that has any and is no configuration change.
/// # Errors
/// This binary does not know its form or level.
pub fn read_envelope(entry: &Entry) -> Result<Envelope, Halt> {
    let index = entry.index;
    let envelope = Envelope::read(entry.data.clone()).map_err(|source| Halt::Envelope { index, source })?;
    if envelope.level > LEVEL {
        return Err(Halt::Level { index, level: envelope.level });
    }
    Ok(envelope)
}

/// The configuration change in an entry.
/// # Errors
/// It cannot be read.
pub fn configuration_change(entry: &Entry) -> Result<Option<ConfChangeV2>, Halt> {
    let malformed = Halt::Malformed { index: entry.index, what: "a configuration change that cannot be read" };
    match entry.get_entry_type() {
        EntryType::EntryNormal => Ok(None),
        EntryType::EntryConfChangeV2 => ConfChangeV2::parse_from_bytes(&entry.data).map_err(|_| malformed).map(Some),
        // The older form is never proposed.
        EntryType::EntryConfChange => Err(malformed),
    }
}

#[cfg(test)]
mod tests;
