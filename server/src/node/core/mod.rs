//! The node's decisions, sans-I/O: events in as calls, effects out.
//! The core drives one Raft group and decides what is proposed, forwarded, read, snapshotted and truncated, and who becomes a member. It
//! holds no thread, clock, socket, file or random number; the shell (or the simulator) brings time with every turn and carries out effects
//! in their order. Commands and data are unknown here: runs are opaque bytes, apply reports what the core needs (`Applied`).
//! A turn is: `set_now`, any number of events, one `effects`.
//! Invariant: a run that has left for the leader stays in `runs` until the log resolves it; a read is answered only after a round that
//! began after it, and after the round's index is applied.

mod clock;
mod effect;
mod inbox;
mod members;
mod membership;
#[cfg(test)]
mod properties;
mod reads;
mod runs;
mod snapshots;
mod state_machine;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Message, MessageType};
use raftlog::entry::{ENVELOPE_VERSION, EntryKind, Envelope, Run};
use raftlog::group::{Group, GroupCounts, NotProposed};
use raftlog::message::{Body, Forward, Frame, Match};

pub use clock::Now;
use clock::{Skew, StampClock};
pub use effect::{Effect, Lane, SnapshotId};
use inbox::Inbox;
pub use members::{Addresses, Change, Ids, Member, Members};
use membership::Membership;
pub use membership::{AdminRequest, JoinAnswer, RequestId};
pub use reads::ReadId;
use reads::{Asker, Reads};
use runs::Runs;
pub use runs::{NewRun, RunId};
use snapshots::SnapshotOut;
pub use state_machine::{
    Applied, BATCH_BYTES, COLUMN_FAMILIES, GROUP, Halt, InitialState, Reached, SnapshotContents, StateMachine, TrackedRun,
    configuration_change, read_envelope, read_members, read_snapshot_contents,
};
pub use verify::Divergence;
use verify::Verification;

use crate::error::RequestError;

/// The highest feature level this binary supports, and the one a new cluster starts with.
pub const LEVEL: u32 = 1;

/// What happened in the core, for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreCounts {
    /// The commands of each entry that was proposed.
    pub proposals: Vec<u64>,
    /// Rounds that were begun to confirm reads.
    pub read_rounds: u64,
    /// Elections and leaders.
    pub group: GroupCounts,
}

/// What the core has to know about its node.
#[derive(Clone, Copy, Debug)]
pub struct CoreConfig {
    /// This node's id.
    pub node_id: u64,
    /// Its boot counter.
    pub boot: u64,
    /// Bytes of runs in one entry; a larger run travels alone.
    pub entry_bytes_max: usize,
    /// Commands in one entry.
    pub entry_commands_max: u32,
    /// Bytes of log entries beyond which the oldest half is truncated.
    pub log_bytes_max: usize,
    /// Voters the cluster strives for.
    pub replication_factor: usize,
    /// How far a leader's wall clock may be from the median of its peers, in ms.
    pub clock_skew_max_ms: u64,
    /// How long a voter may be gone before a learner takes its place, in ms, from when it counts as dead; `None` is for ever.
    pub replace_after_ms: Option<u64>,
    /// How long a member may be silent before it counts as dead, in ms: some election timeouts.
    pub silence_max_ms: u64,
    /// Seed of the entries' seeds.
    pub seed: u64,
}

/// Syncs of the log under way before the next proposal waits: batches grow while the disk is busy.
const SYNCS_IN_FLIGHT_MAX: usize = 1;
/// While an entry is uncommitted, fewer commands than this wait for more, at most for so long.
const GATHER_COMMANDS: u64 = 64;
/// In ms of a clock that counts whole ones: the wait is between this and one less.
const GATHER_MS: u64 = 3;
/// Committed and unapplied entries, in number, before proposals wait.
const UNAPPLIED_ENTRIES_MAX: u64 = 256;
/// Least time between two looks at truncation, membership and leftovers.
const CHORES_INTERVAL_MS: u64 = 200;
/// How long a leader waits for a sync of its log before it hands leadership over.
const STUCK_SYNC_MS: u64 = 5_000;

/// The node's decisions.
pub struct Core {
    config: CoreConfig,
    group: Group,
    now: Now,
    stamps: StampClock,
    skew: Skew,
    /// When each peer was heard last. raft's own notion of an active peer is void for a moment in each election timeout.
    heard_ms: BTreeMap<u64, u64>,
    /// Since when the leader and the term are what they are.
    led_since_ms: u64,
    seed: u64,
    runs: Runs,
    inbox: Inbox,
    reads: Reads,
    membership: Membership,
    verification: Verification,
    effects: Vec<Effect>,
    /// Leader and term that runs and reads are addressed to.
    course: (Option<u64>, u64),
    /// State of the data as of the last `applied`.
    applied: Applied,
    /// A configuration change that apply has reached, until it is durable that it is committed.
    change: Option<ConfChangeV2>,
    /// A configuration change has taken effect and is not recorded yet: nothing leaves the node.
    change_in_progress: bool,
    /// Index of the last purge or sweep proposed in this term and not yet applied.
    round_in_flight: Option<u64>,
    /// Followers' and own reads that wait for log time to pass a deadline.
    time_waiters: Vec<(u64, Asker)>,
    /// The data is durable at least up to this index.
    synced_index: u64,
    /// Applied index at which the table of members was seen to have changed last.
    table_index: u64,
    /// Applied index at the last request to sync the data.
    syncing_at: Option<u64>,
    /// Snapshots on their way to followers; the log keeps what follows them.
    snapshots: Vec<SnapshotOut>,
    /// Followers that have got one, with its index: the log keeps what follows it until they have caught up.
    catching_up: BTreeMap<u64, u64>,
    last_snapshot_id: u64,
    /// What the leader said last of the members' logs.
    leader_matches: Vec<Match>,
    /// The oldest sync of the log that this leader waits for, and since when at least.
    stuck_sync: Option<(u64, u64)>,
    /// A snapshot that was received and waits until nothing else is under way.
    received: Option<Message>,
    chores_at_ms: u64,
    /// When runs were proposed last.
    proposed_at_ms: u64,
    counts: CoreCounts,
}

impl Core {
    /// A core over an opened group. `applied` is what the data says about itself.
    #[must_use]
    pub fn new(config: CoreConfig, group: Group, applied: Applied, now: Now) -> Self {
        let mut stamps = StampClock::default();
        stamps.raise(applied.log_time_ms, now);
        let synced_index = applied.position.index;
        let mut core = Self {
            config,
            group,
            now,
            stamps,
            skew: Skew::default(),
            heard_ms: BTreeMap::new(),
            led_since_ms: 0,
            seed: config.seed,
            runs: Runs::new(config.node_id, config.boot),
            inbox: Inbox::default(),
            reads: Reads::default(),
            membership: Membership::default(),
            verification: Verification::default(),
            effects: Vec::new(),
            course: (None, 0),
            applied,
            change: None,
            change_in_progress: false,
            round_in_flight: None,
            time_waiters: Vec::new(),
            synced_index,
            table_index: 0,
            syncing_at: None,
            snapshots: Vec::new(),
            catching_up: BTreeMap::new(),
            stuck_sync: None,
            last_snapshot_id: 0,
            leader_matches: Vec::new(),
            received: None,
            chores_at_ms: 0,
            proposed_at_ms: 0,
            counts: CoreCounts::default(),
        };
        // A sole voter has nobody to wait for.
        if core.group.is_sole_voter() {
            core.group.campaign();
        }
        core
    }

    /// Brings the time of this turn.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// A stamp for an entry. A leader whose wall clock is off stamps by its peers' clocks until another one leads.
    fn stamp(&mut self) -> u64 {
        let correction = self.skew.correction(self.config.clock_skew_max_ms, self.now).unwrap_or(0);
        let wall_ms = self.now.wall_ms.saturating_add_signed(correction);
        self.stamps.stamp(Now { wall_ms, ..self.now })
    }

    /// A leader whose wall clock is off by more than `clock-skew-max` hands leadership over, to a node whose clock is not.
    fn resign_if_skewed(&mut self) {
        let max_ms = self.config.clock_skew_max_ms;
        if !self.group.is_leader() || self.group.is_transferring() || !self.skew.is_off(max_ms, self.now) {
            return;
        }
        if let Some(to) = self.closest_voter(&self.skew.peers_off(max_ms, self.now)) {
            tracing::warn!(to, "this leader's clock is far from those of its peers; handing leadership over");
            self.group.transfer_leader(to);
        }
    }

    /// A leader whose disk does not answer goes on sending heartbeats, and would keep the group waiting for as long as the disk does.
    fn resign_if_stuck(&mut self) {
        let oldest = self.group.oldest_sync().filter(|_| self.group.is_leader());
        if oldest != self.stuck_sync.map(|(number, _)| number) {
            self.stuck_sync = oldest.map(|number| (number, self.now.mono_ms));
        }
        let Some((number, since_ms)) = self.stuck_sync else { return };
        if self.now.mono_ms - since_ms >= STUCK_SYNC_MS && !self.group.is_transferring() {
            tracing::warn!("the disk with the log has not answered for long; handing leadership over");
            self.stuck_sync = Some((number, self.now.mono_ms));
            self.resign();
        }
    }

    /// Whether a peer was heard lately.
    #[must_use]
    pub fn hears(&self, peer: u64) -> bool {
        self.heard_ms.contains_key(&peer)
    }

    /// Whether a peer has said nothing to this leader for so long that it counts as dead.
    fn is_silent(&self, peer: u64) -> bool {
        !self.hears(peer) && self.now.mono_ms.saturating_sub(self.led_since_ms) >= self.config.silence_max_ms
    }

    /// One tick of the Raft clock passed.
    pub fn tick(&mut self) {
        if !self.change_in_progress {
            self.group.tick();
        }
        for id in self.runs.expire_waiting(self.now.mono_ms) {
            self.effects.push(Effect::FailRun(id, RequestError::NoLeader));
        }
        for sequence in self.runs.expire_sent(self.now.mono_ms) {
            self.effects.push(Effect::GiveUp(sequence));
        }
        for id in self.reads.expire(self.now.mono_ms) {
            self.effects.push(Effect::FailRead(id, RequestError::NoLeader));
        }
        self.expire_time_waiters();
        if self.reads.round_is_late(self.now.mono_ms) {
            self.reads.cancel_round();
        }
        if self.runs.is_stalled(self.now.mono_ms) {
            self.send_runs_again();
        }
        if self.now.mono_ms >= self.chores_at_ms {
            self.chores_at_ms = self.now.mono_ms + CHORES_INTERVAL_MS;
            let (now_ms, silence_max_ms) = (self.now.mono_ms, self.config.silence_max_ms);
            self.heard_ms.retain(|_, heard_ms| now_ms.saturating_sub(*heard_ms) < silence_max_ms);
            self.resign_if_skewed();
            self.resign_if_stuck();
            self.forget_unwanted_snapshots();
            self.tend_log();
            self.tend_members();
            self.send_asks();
            self.tend_verification();
        }
    }

    /// A client's run.
    pub fn run(&mut self, run: NewRun) {
        self.runs.push(run);
    }

    /// A client's read; `deadline_ms` is monotonic. `log_time_ms`, when not 0: the read met a key whose deadline has passed on the leader's
    /// clock but not in the log, and can be answered only when log time has reached it.
    pub fn read(&mut self, id: ReadId, deadline_ms: u64, log_time_ms: u64) {
        let asker = Asker::Client { id, deadline_ms };
        if log_time_ms > self.applied.log_time_ms {
            self.time_waiters.push((log_time_ms, asker));
            self.ask_for_time();
        } else {
            self.reads.push(asker);
        }
    }

    /// A frame from an identified peer.
    pub fn frame(&mut self, from: u64, frame: Frame) {
        if frame.group != GROUP.0 {
            return;
        }
        self.skew.observe(from, frame.wall_ms, self.now);
        self.heard_ms.insert(from, self.now.mono_ms);
        match frame.body {
            Some(Body::Raft(bytes)) => match Message::parse_from_bytes(&bytes) {
                // Snapshots come with their files, by `snapshot_received`.
                Ok(message) if message.from == from && message.get_msg_type() != MessageType::MsgSnapshot => {
                    if message.get_msg_type() == MessageType::MsgHeartbeatResponse {
                        self.heartbeat_answered(from, &message.context);
                    }
                    self.group.step(message);
                }
                Ok(_) | Err(_) => tracing::warn!(from, "a peer sent a message that is not its own or cannot be read"),
            },
            Some(Body::Forward(forward)) => self.forwarded(from, forward),
            Some(Body::ReadRequest(request)) => self.read_request(from, request),
            Some(Body::ReadReply(reply)) => self.read_reply(from, reply),
            Some(Body::Verify(verify)) => {
                if let Some(step) = verify.step {
                    self.verify_step(from, step);
                }
            }
            None => {}
        }
    }

    fn forwarded(&mut self, from: u64, forward: Forward) {
        if self.group.is_leader() && forward.run.as_ref().is_some_and(|run| run.node_id == from) {
            self.inbox.take(forward);
        }
    }

    /// The stored snapshot in this message was received completely; raft decides whether to install it, when nothing else is under way. A
    /// later one takes the place of one that still waits.
    pub fn snapshot_received(&mut self, message: Message) {
        self.received = Some(message);
    }

    /// A lane to a peer is connected, and nothing that was sent on it before is certain to arrive.
    pub fn lane_up(&mut self, peer: u64, lane: Lane) {
        if self.group.leader() == Some(peer) {
            match lane {
                Lane::Forward => self.send_runs_again(),
                // The question may have been lost with the connection before, and a new one is answered sooner than the old one is late.
                Lane::Control => self.reads.cancel_round(),
                Lane::Append => {}
            }
        }
    }

    /// A run could not be sent: it goes out again with the next tick, together with those that follow it.
    pub fn forward_dropped(&mut self) {
        self.runs.stall();
    }

    /// Frames to a peer were dropped.
    pub fn unreachable(&mut self, peer: u64) {
        self.group.report_unreachable(peer);
    }

    /// The log writer has stored everything up to this persist.
    /// # Errors
    /// A change that had waited for it does not fit the configuration, which can only be a bug: the node must stop.
    pub fn persisted(&mut self, number: u64) -> Result<(), raft::Error> {
        self.group.persisted(number);
        if self.group.applied_index() < self.applied.position.index && !self.group.is_installing() {
            // After an installed snapshot the data is ahead of what raft was told.
            self.group.applied(self.applied.position.index);
        }
        self.take_change()
    }

    /// Entries, or a snapshot, are applied to the data.
    pub fn applied(&mut self, applied: Applied) {
        self.change_in_progress = false;
        self.stamps.raise(applied.log_time_ms, self.now);
        self.runs.resolved(applied.own_sequence, self.now.mono_ms);
        let gap = applied.gap;
        if !Arc::ptr_eq(&self.applied.members, &applied.members) {
            self.table_index = applied.position.index;
        }
        self.applied = applied;
        if !self.group.is_installing() {
            self.group.applied(self.applied.position.index);
        }
        if self.round_in_flight.is_some_and(|index| index <= self.applied.position.index) {
            self.round_in_flight = None;
        }
        if gap {
            self.send_runs_again();
        }
        self.release_time_waiters();
        self.answer_members();
    }

    /// Apply has reached a configuration change.
    /// # Errors
    /// The change does not fit the configuration, which can only be a bug: the node must stop.
    pub fn change_reached(&mut self, change: ConfChangeV2) -> Result<(), raft::Error> {
        self.change = Some(change);
        self.take_change()
    }

    /// The change that apply waits at takes effect, when it may.
    fn take_change(&mut self) -> Result<(), raft::Error> {
        if let Some(change) = self.change.take_if(|_| self.group.changes_are_durable()) {
            self.change_in_progress = true;
            let configuration = self.group.apply_change(&change)?;
            self.effects.push(Effect::Configure(configuration));
        }
        Ok(())
    }

    /// Takes what has to be done since the last call.
    pub fn effects(&mut self) -> Vec<Effect> {
        self.follow_course();
        self.send_runs();
        self.propose_rounds();
        self.propose_runs();
        let question = self.begin_read_round();
        for message in self.reads.take_spares(self.now.mono_ms) {
            self.send_raft(message);
        }
        if !self.change_in_progress {
            if self.group.is_quiet()
                && let Some(message) = self.received.take()
            {
                self.group.step(message);
            }
            self.take_group_effects(question.as_deref());
            // Reads that gathered during a round that is answered now.
            if let Some(question) = self.begin_read_round() {
                self.take_group_effects(Some(&question));
            }
        }
        for read in self.reads.take_ready(self.applied.position.index) {
            self.effects.push(Effect::ReadReady { id: read.id, now_ms: read.now_ms });
        }
        std::mem::take(&mut self.effects)
    }

    /// Notices a new leader or term: what was on its way to the old one goes to the new one.
    fn follow_course(&mut self) {
        let course = (self.group.leader(), self.group.term());
        if course == self.course {
            return;
        }
        let was_leader = self.course.0 == Some(self.config.node_id);
        if course.0 != self.course.0 {
            tracing::info!(leader = course.0, term = course.1, role = ?self.group.role(), "leadership changed");
        }
        self.course = course;
        self.led_since_ms = self.now.mono_ms;
        self.leader_matches.clear();
        self.catching_up.clear();
        self.round_in_flight = None;
        self.inbox.clear();
        self.reads.cancel_round();
        self.abandon_verification();
        if was_leader {
            self.reads.drop_peers();
            self.time_waiters.retain(|(_, asker)| matches!(asker, Asker::Client { .. }));
            self.drop_snapshots(|_| true);
        }
        self.send_runs_again();
        if !self.time_waiters.is_empty() {
            self.ask_for_time();
        }
    }

    fn send_runs_again(&mut self) {
        if self.group.leader().is_some() {
            for forward in self.runs.send_again(self.now.mono_ms) {
                self.send_forward(forward);
            }
        }
    }

    fn send_runs(&mut self) {
        // A joiner without data would get the results of its first runs within its first snapshot, that is, never: they wait.
        let is_blank = self.applied.position.index == 0;
        if is_blank || self.group.leader().is_none() {
            return;
        }
        while let Some((id, forward)) = self.runs.send_next(self.now.mono_ms) {
            let sequence = forward.run.as_ref().map_or(0, |run| run.sequence);
            self.effects.push(Effect::Track(id, sequence));
            self.send_forward(forward);
        }
    }

    fn send_forward(&mut self, forward: Forward) {
        match self.group.leader() {
            Some(leader) if leader == self.config.node_id => self.inbox.take(forward),
            Some(leader) => self.send(leader, Lane::Forward, Body::Forward(forward)),
            None => {}
        }
    }

    fn send(&mut self, to: u64, lane: Lane, body: Body) {
        self.effects.push(Effect::Send(to, lane, Frame { group: GROUP.0, wall_ms: self.now.wall_ms, body: Some(body) }));
    }

    /// Whether the disk and the apply worker keep up with what was proposed so far.
    fn may_propose(&self) -> bool {
        self.group.is_leader()
            && !self.group.is_transferring()
            && self.group.syncs_in_flight() < SYNCS_IN_FLIGHT_MAX
            && self.group.commit_index() - self.applied.position.index < UNAPPLIED_ENTRIES_MAX
            && !self.gathers()
    }

    /// Whether few commands wait while an entry is on its way to a majority. Each entry costs every voter a sync and several messages, so
    /// they gather for a moment, or until it is committed.
    fn gathers(&self) -> bool {
        self.group.last_index() > self.group.commit_index()
            && self.inbox.commands() < GATHER_COMMANDS
            && self.now.mono_ms < self.gathers_until_ms()
    }

    const fn gathers_until_ms(&self) -> u64 {
        self.proposed_at_ms + GATHER_MS
    }

    fn propose_runs(&mut self) {
        while !self.inbox.is_empty() && self.may_propose() {
            let mut runs = self.inbox.next_entry(self.config.entry_bytes_max, self.config.entry_commands_max);
            let commands = runs.iter().map(|run| u64::from(run.commands)).sum();
            let envelope = self.envelope(EntryKind::Commands, std::mem::take(&mut runs), Bytes::new());
            if self.group.propose(vec![envelope.encode_to_bytes()]).is_err() {
                self.inbox.put_back(envelope.runs);
                return;
            }
            self.counts.proposals.push(commands);
            self.proposed_at_ms = self.now.mono_ms;
        }
    }

    /// Proposes the entry that removes due keys or leftovers, one at a time.
    fn propose_rounds(&mut self) {
        if self.round_in_flight.is_some() || !self.group.is_leader() || !self.group.can_serve_reads() {
            return;
        }
        let stamp = self.stamp();
        let due = self.applied.earliest_deadline_ms.is_some_and(|deadline| deadline <= stamp);
        let waited_for = self.time_waiters.iter().any(|(time, _)| *time <= stamp);
        let kind = if due || waited_for {
            EntryKind::Purge
        } else if self.applied.leftovers {
            EntryKind::Sweep
        } else {
            return;
        };
        let envelope = self.envelope(kind, Vec::new(), Bytes::new());
        if self.group.propose(vec![envelope.encode_to_bytes()]).is_ok() {
            self.round_in_flight = Some(self.group.last_index());
        }
    }

    fn envelope(&mut self, kind: EntryKind, runs: Vec<Run>, payload: Bytes) -> Envelope {
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        Envelope {
            version: ENVELOPE_VERSION,
            level: self.applied.members.level,
            kind: kind.into(),
            now_ms: self.stamp(),
            seed: self.seed,
            runs,
            payload,
        }
    }

    /// `question`: that of a read round which this leader has begun just now.
    fn take_group_effects(&mut self, question: Option<&[u8]>) {
        let effects = self.group.effects();
        let asked = question.and_then(|question| Some((question, self.enough_voters()?)));
        for message in effects.messages {
            let is_spare = asked.as_ref().is_some_and(|(question, enough)| {
                message.get_msg_type() == MessageType::MsgHeartbeat && message.context == *question && !enough.contains(&message.to)
            });
            if is_spare {
                self.reads.spare(message);
            } else {
                self.send_raft(message);
            }
        }
        if let Some(snapshot) = effects.snapshot {
            self.data_replaced(snapshot.get_metadata().index);
            self.effects.push(Effect::Install(snapshot));
        }
        self.effects.extend(effects.persists.into_iter().map(Effect::Persist));
        if !effects.committed.is_empty() {
            self.effects.push(Effect::Apply(effects.committed));
        }
        for (context, index) in effects.read_states {
            if let Some(round) = self.round_of(&context) {
                let now_ms = self.stamp();
                for (peer, reply) in self.reads.confirm(round, index, now_ms) {
                    self.send_read_reply(peer, reply);
                }
            }
        }
        if let Some(to) = effects.snapshot_wanted {
            self.want_snapshot(to);
        }
    }

    /// Sends a message of raft on the lane it belongs to. Also for messages that waited for a persist.
    fn send_raft(&mut self, message: Message) {
        if message.get_msg_type() == MessageType::MsgSnapshot {
            self.send_snapshot(message);
        } else {
            let (to, lane, frame) = raft_frame(&message, self.now.wall_ms);
            self.effects.push(Effect::Send(to, lane, frame));
        }
    }

    /// Proposes an entry other than commands.
    fn propose(&mut self, kind: EntryKind, payload: Bytes) -> Result<(), NotProposed> {
        let envelope = self.envelope(kind, Vec::new(), payload);
        self.group.propose(vec![envelope.encode_to_bytes()])
    }

    /// Hands leadership to the voter that is closest, if this node leads and there is another.
    pub fn resign(&mut self) {
        if let Some(to) = self.closest_voter(&[]) {
            self.group.transfer_leader(to);
        }
    }

    /// The group, for its state.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// What the data says about itself as of the last `applied`.
    #[must_use]
    pub fn applied_state(&self) -> &Applied {
        &self.applied
    }

    /// What is known to be on a member's disk: the leader's knowledge, on a follower as of its last read round; 0 for nothing.
    #[must_use]
    pub fn match_index(&self, node_id: u64) -> u64 {
        match self.group.progress(node_id) {
            Some((index, _)) => index,
            None => self.leader_matches.iter().find(|known| known.node_id == node_id).map_or(0, |known| known.index),
        }
    }

    /// What has happened since the last time it was asked.
    pub fn take_counts(&mut self) -> CoreCounts {
        CoreCounts { group: self.group.take_counts(), ..std::mem::take(&mut self.counts) }
    }

    /// Whether there is use for more runs now. A leader whose disk is busy would only let them wait.
    #[must_use]
    pub fn wants_runs(&self) -> bool {
        !self.group.is_leader() || self.inbox.is_empty() || self.may_propose()
    }

    /// Whether there is use for more reads now. While a round is in flight they would only wait for the next one.
    #[must_use]
    pub fn wants_reads(&self) -> bool {
        !self.reads.round_in_flight()
    }

    /// After how long the core wants a turn even if nothing happens, in ms; `None` for the next tick.
    #[must_use]
    pub fn patience_ms(&self) -> Option<u64> {
        if self.group.wants_turn() {
            return Some(0);
        }
        let gathers_until_ms = (!self.inbox.is_empty() && self.gathers()).then(|| self.gathers_until_ms());
        let until_ms = gathers_until_ms.into_iter().chain(self.reads.spares_wait_until_ms()).min()?;
        Some(until_ms.saturating_sub(self.now.mono_ms))
    }

    /// Whether something waits for the log's disk, so that its progress is worth waking up for.
    #[must_use]
    pub fn waits_for_persist(&self) -> bool {
        self.group.waits_for_persist() || self.received.is_some() || self.change.is_some()
    }

    /// Whether something waits for apply, so that its progress is worth waking up for.
    #[must_use]
    pub fn waits_for_apply(&self) -> bool {
        self.reads.waits_for_apply()
            || self.round_in_flight.is_some()
            || !self.time_waiters.is_empty()
            || self.change_in_progress
            || self.group.has_pending_change()
            || self.membership.is_under_way()
            || self.received.is_some()
            || self.group.is_held_back()
            || self.group.commit_index() - self.applied.position.index >= UNAPPLIED_ENTRIES_MAX / 2
    }

    /// Whether this node leads as the only voter, by its own clock, and nothing is under way that could change that.
    #[must_use]
    pub fn leads_alone(&self) -> bool {
        let clock_is_right = self.skew.correction(self.config.clock_skew_max_ms, self.now).is_none();
        clock_is_right && self.group.can_serve_reads() && self.group.is_sole_voter() && !self.group.has_pending_change()
    }
}

/// The frame of a raft message, with its receiver and lane. `wall_ms` is the present wall time. Not for snapshots.
#[must_use]
pub fn raft_frame(message: &Message, wall_ms: u64) -> (u64, Lane, Frame) {
    let lane = match message.get_msg_type() {
        MessageType::MsgAppend => Lane::Append,
        _ => Lane::Control,
    };
    let bytes = message.write_to_bytes().expect("a message in memory can be encoded").into();
    (message.to, lane, Frame { group: GROUP.0, wall_ms, body: Some(Body::Raft(bytes)) })
}

/// The bytes of a membership change that travels with a configuration change.
fn change_context(change: Change) -> Bytes {
    let payload = change.encode_to_bytes();
    let envelope =
        Envelope { version: ENVELOPE_VERSION, level: LEVEL, kind: EntryKind::Configuration.into(), payload, ..Envelope::default() };
    envelope.encode_to_vec().into()
}

#[cfg(test)]
mod tests;
