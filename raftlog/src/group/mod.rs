//! Sans-I/O driver of one Raft group over `raft::RawNode`.
//! Events come in as calls (`tick`, `step`, `propose`, `persisted`, `applied`), what has to be done comes out of `effects`. Nothing here
//! waits, writes, sends or looks at a clock.
//! The order that must be kept outside: persists are stored in their order and each one's messages leave after it is durable; committed
//! entries are applied in their order; a snapshot is installed before the persist that carries its reset is stored.
//! Rules of raft 0.7.0 that are kept here are marked where they are; their sources are the functions of `raft` they name.

mod logger;

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use raft::{Config, Progress, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};

use crate::log::{LogPosition, LogStore, Persist};

/// Timing and bounds of a group, in ticks and bytes.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig {
    /// This node's id; not 0.
    pub node_id: u64,
    /// Least number of ticks without a leader before a follower asks for votes; the number used lies between this and twice this.
    pub election_ticks: usize,
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: usize,
    /// Bytes of entries in one append message; one entry always fits.
    pub append_bytes_max: u64,
    /// Bytes of entries proposed and not yet committed.
    pub uncommitted_bytes_max: u64,
    /// Bytes of committed entries handed out at once.
    pub committed_bytes_max: u64,
    /// Seed of the election timeouts.
    pub seed: u64,
}

/// Messages on their way to one follower before an acknowledgement.
const INFLIGHT_MESSAGES_MAX: usize = 128;

/// Bytes of committed entries handed out and not yet applied, beyond which no more entries are taken from a leader: it sends them again.
const UNAPPLIED_BYTES_MAX: usize = 256 << 20;
/// The same bytes, beyond which the group does nothing more until apply has caught up. What a follower may have taken before it began to
/// refuse lies below that.
const UNAPPLIED_BYTES_LIMIT: usize = 768 << 20;

/// What has to be done after events.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages that leave at once, in this order.
    pub messages: Vec<Message>,
    /// What the log writer stores, in this order.
    pub persists: Vec<Persist>,
    /// Committed entries to apply, in this order.
    pub committed: Vec<Entry>,
    /// A snapshot to install into the data before the (only) persist is stored.
    pub snapshot: Option<Snapshot>,
    /// Confirmed read rounds: context and index.
    pub read_states: Vec<(Bytes, u64)>,
    /// A follower for which a snapshot has to be generated.
    pub snapshot_wanted: Option<u64>,
}

/// Why a proposal was not taken. It is certain that it is not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProposed {
    /// This node does not lead.
    #[error("this node is not the leader")]
    NotLeader,
    /// Too much is uncommitted, or leadership is being handed over: try again later.
    #[error("the leader takes no proposals at the moment")]
    Busy,
    /// A configuration change is under way.
    #[error("a configuration change is under way")]
    ChangePending,
}

/// What happened in the group. A term has one election of each candidate, and one leader at most, so nothing is counted twice or missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Terms in which this node stood for election.
    pub elections: u64,
    /// Terms whose leader this node has learnt of, itself included.
    pub leaders: u64,
}

/// A ready on its way to the disk.
struct Unpersisted {
    number: u64,
    /// The last index that is durable with it.
    last: u64,
    must_sync: bool,
}

/// A Raft group's driver.
pub struct Group {
    raw: RawNode<LogStore>,
    config: GroupConfig,
    /// Readies handed out and not yet persisted.
    unpersisted: VecDeque<Unpersisted>,
    persisted_index: u64,
    /// Number of the last ready that changed term or vote, until it is durable: no message leaves before.
    held_until: Option<u64>,
    /// Number of the last ready that handed out a configuration change, until it is durable that the change is committed.
    change_held_until: Option<u64>,
    /// Last index and bytes of the committed entries handed out and not yet applied.
    handed_out: VecDeque<(u64, usize)>,
    handed_out_bytes: usize,
    applied: u64,
    /// Highest index handed out to apply.
    applying: u64,
    installing: bool,
    jitter: u64,
    /// Role and term for which the present election timeout was drawn.
    drawn_for: (StateRole, u64),
    /// The last term in which this node stood for election, and the last whose leader it has learnt of.
    stood_in: u64,
    led_in: u64,
    counts: GroupCounts,
}

impl Group {
    /// Opens the group on its log. `applied` is the durable applied index of the data.
    /// # Errors
    /// Those of raft for a log or configuration it cannot use.
    pub fn open(config: GroupConfig, store: LogStore, applied: u64) -> raft::Result<Self> {
        let raft_config = Config {
            id: config.node_id,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            min_election_tick: config.election_ticks,
            max_election_tick: 2 * config.election_ticks,
            applied,
            max_size_per_msg: config.append_bytes_max,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: true,
            // LeaseBased has no clock and is never safe.
            read_only_option: ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            batch_append: false,
            max_uncommitted_size: config.uncommitted_bytes_max,
            max_committed_size_per_ready: config.committed_bytes_max,
            ..Config::default()
        };
        let persisted_index = store.last();
        let raw = RawNode::new(&raft_config, store, &logger::logger())?;
        let drawn_for = (raw.raft.state, raw.raft.term);
        let mut group = Self {
            raw,
            config,
            unpersisted: VecDeque::new(),
            persisted_index,
            held_until: None,
            change_held_until: None,
            handed_out: VecDeque::new(),
            handed_out_bytes: 0,
            applied,
            applying: applied,
            installing: false,
            jitter: config.seed,
            drawn_for,
            stood_in: 0,
            led_in: 0,
            counts: GroupCounts::default(),
        };
        group.draw_election_timeout();
        Ok(group)
    }

    /// One unit of time passed.
    pub fn tick(&mut self) {
        // A sole voter becomes leader in the very tick in which it campaigns, and `become_leader` asserts that its log is persisted.
        let sole_voter_is_behind = self.is_sole_voter() && !self.unpersisted.is_empty() && !self.is_leader();
        if !self.installing && !sole_voter_is_behind {
            self.raw.tick();
            self.take_notice();
        }
    }

    /// A message from a peer that was identified. Messages that no peer may send are dropped.
    pub fn step(&mut self, message: Message) {
        // A follower of raft 0.7.0 would forward proposals without telling; ours are forwarded by the node instead.
        // Read rounds of followers use frames of our own, as `MsgReadIndex` is lost in silence.
        let refused = matches!(
            message.get_msg_type(),
            MessageType::MsgPropose | MessageType::MsgReadIndex | MessageType::MsgReadIndexResp | MessageType::MsgTransferLeader
        );
        if refused || message.to != self.config.node_id || message.from == self.config.node_id {
            return;
        }
        // Apply does not keep up. Heartbeats and votes go on, so that the leader stays one.
        if self.handed_out_bytes > UNAPPLIED_BYTES_MAX && !message.get_entries().is_empty() {
            return;
        }
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(%error, "raft refused a message");
        }
        self.take_notice();
    }

    /// Appends entries to the log of the leader: all of them or none.
    /// # Errors
    /// None of them is in the log.
    pub fn propose(&mut self, entries: Vec<Bytes>) -> Result<(), NotProposed> {
        let entries = entries.into_iter().map(|data| Entry { data, ..Entry::default() }).collect();
        self.propose_entries(entries)
    }

    /// Proposes a configuration change; `context` is handed back with the committed entry.
    /// # Errors
    /// The change is not in the log.
    pub fn propose_change(&mut self, change: &ConfChangeV2, context: Bytes) -> Result<(), NotProposed> {
        // raft would replace the change by an empty entry and report success.
        if self.raw.raft.has_pending_conf() {
            return Err(NotProposed::ChangePending);
        }
        let data = protobuf::Message::write_to_bytes(change).expect("a configuration change is small").into();
        let mut entry = Entry { data, context, ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        self.propose_entries(vec![entry])
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<(), NotProposed> {
        if !self.is_leader() {
            return Err(NotProposed::NotLeader);
        }
        if self.raw.raft.lead_transferee.is_some() {
            return Err(NotProposed::Busy);
        }
        let mut message = Message { from: self.config.node_id, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(entries.into());
        self.raw.step(message).map_err(|_| NotProposed::Busy)
    }

    /// Starts a read round with a context that was never used before. Its confirmation may never come; the caller has a deadline.
    /// Returns false when raft would drop the round in silence: not the leader, or nothing of its term committed yet.
    #[must_use]
    pub fn read_index(&mut self, context: Vec<u8>) -> bool {
        if !self.can_serve_reads() {
            return false;
        }
        self.raw.read_index(context);
        true
    }

    /// Whether this leader has committed an entry of its own term, before which it knows no commit index to read at.
    #[must_use]
    pub fn can_serve_reads(&self) -> bool {
        self.is_leader() && self.raw.raft.commit_to_current_term()
    }

    /// The persist with this number, and all before it, are durable.
    pub fn persisted(&mut self, number: u64) {
        while let Some(ready) = self.unpersisted.pop_front_if(|ready| ready.number <= number) {
            // A later ready may have replaced a suffix; what counts is what is durable now.
            self.persisted_index = ready.last;
        }
        if self.unpersisted.is_empty() {
            self.installing = false;
        }
        self.held_until.take_if(|held| *held <= number);
        self.change_held_until.take_if(|held| *held <= number);
        self.raw.on_persist_ready(number);
        self.settle();
    }

    /// Everything up to `index` is applied to the data.
    pub fn applied(&mut self, index: u64) {
        assert!(index <= self.applying, "only what was handed out is applied");
        if index > self.applied {
            self.applied = index;
            while let Some((_, bytes)) = self.handed_out.pop_front_if(|(last, _)| *last <= index) {
                self.handed_out_bytes -= bytes;
            }
            self.raw.advance_apply_to(index);
            self.settle();
        }
    }

    /// Whether every configuration change handed out is durably known to be committed. Before that none may take effect: a node that had
    /// forgotten it could elect a leader with the quorum of an older configuration. With it, raft refuses to campaign until the change is
    /// applied again (`hup`).
    #[must_use]
    pub fn changes_are_durable(&self) -> bool {
        self.change_held_until.is_none()
    }

    /// Applies a configuration change at its place in the log and returns the configuration that follows.
    /// # Errors
    /// Those of raft: the change is not possible in the present configuration, which can only be a bug.
    pub fn apply_change(&mut self, change: &ConfChangeV2) -> raft::Result<ConfState> {
        let state = self.raw.apply_conf_change(change)?;
        self.raw.mut_store().set_conf_state(state.clone());
        // A leader removes itself when it was elected after another one had proposed that. raft 0.7.0 would go on leading, and panic in
        // `on_persist_entries`, where it looks for its own progress.
        let is_member = [&state.voters, &state.voters_outgoing, &state.learners].iter().any(|ids| ids.contains(&self.config.node_id));
        if self.is_leader() && !is_member {
            self.raw.raft.become_follower(self.term(), raft::INVALID_ID);
            self.take_notice();
        }
        Ok(state)
    }

    /// Starts handing leadership to a voter.
    pub fn transfer_leader(&mut self, to: u64) {
        if self.is_leader() {
            self.raw.transfer_leader(to);
        }
    }

    /// The last message to a peer could not be delivered.
    pub fn report_unreachable(&mut self, peer: u64) {
        self.raw.report_unreachable(peer);
    }

    /// How the sending of a snapshot ended. Without this report replication to the peer would stand still.
    pub fn report_snapshot(&mut self, peer: u64, sent: Result<(), ()>) {
        self.raw.mut_store().offer_snapshot(peer, None);
        self.raw.report_snapshot(peer, if sent.is_ok() { SnapshotStatus::Finish } else { SnapshotStatus::Failure });
    }

    /// A snapshot for a peer was generated; raft sends it with its next message to that peer.
    pub fn snapshot_generated(&mut self, peer: u64, snapshot: Snapshot) {
        self.raw.mut_store().offer_snapshot(peer, Some(snapshot));
    }

    /// Forgets log entries up to `index`, as far as they are applied. Returns where the log begins now, if that is news.
    pub fn truncate(&mut self, index: u64) -> Option<LogPosition> {
        let index = index.min(self.applied);
        self.raw.mut_store().truncate(index)
    }

    /// Asks for votes now instead of after the election timeout.
    pub fn campaign(&mut self) {
        if self.unpersisted.is_empty() && !self.installing {
            if let Err(error) = self.raw.campaign() {
                tracing::debug!(%error, "raft refused to campaign");
            }
            self.take_notice();
        }
    }

    /// Takes everything that has to be done since the last call.
    pub fn effects(&mut self) -> Effects {
        let mut effects = Effects::default();
        self.read_for_followers();
        while !self.installing && self.raw.has_ready() {
            // A snapshot is taken over alone: nothing may be on its way to the log or the data.
            if self.raw.snap().is_some() && !self.is_quiet() {
                break;
            }
            if self.is_held_back() {
                break;
            }
            self.take_ready(&mut effects);
        }
        effects.snapshot_wanted = self.raw.store().take_wanted_snapshot();
        drop_overtaken(&mut effects.messages);
        effects
    }

    /// Goes on for followers that need what is not in memory any more, by one message each: everybody waits for what a turn reads.
    fn read_for_followers(&mut self) {
        let was_put_off = self.raw.store().take_put_off();
        if was_put_off && self.is_leader() {
            let first_cached = self.raw.store().cached_from();
            let lags = |progress: &Progress| progress.next_idx < first_cached && !progress.is_paused();
            let behind: Vec<u64> = self.raw.raft.prs().iter().filter(|(_, progress)| lags(progress)).map(|(peer, _)| *peer).collect();
            for peer in behind {
                self.raw.store().allow_read();
                self.raw.raft.send_append(peer);
                if self.replication(peer).is_some_and(lags) {
                    self.raw.store().put_off();
                }
            }
        }
        self.raw.store().allow_read();
    }

    /// Whether there is more to do for followers, in another turn at once.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        self.raw.store().has_put_off()
    }

    /// Whether nothing is given out until some of the committed entries are applied.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.handed_out_bytes > UNAPPLIED_BYTES_LIMIT
    }

    fn take_ready(&mut self, effects: &mut Effects) {
        let mut ready = self.raw.ready();
        let mut persist = Persist { number: ready.number(), must_sync: ready.must_sync(), ..Persist::default() };

        let mut messages = ready.take_messages();
        if let Some(hard_state) = ready.hs() {
            let before = self.raw.store().hard_state();
            if hard_state.term != before.term || hard_state.vote != before.vote {
                self.held_until = Some(persist.number);
            }
            persist.hard_state = Some(hard_state.clone());
            self.raw.mut_store().set_hard_state(hard_state.clone());
        }
        // A sole voter leads in the step in which it campaigns: none of its messages may leave before its new term is durable, or a crash
        // would let it use the term twice.
        if self.held_until.is_some() {
            persist.messages.append(&mut messages)
        } else {
            effects.messages.append(&mut messages)
        }
        // The answer to a heartbeat claims the term alone. Reads that wait for it at the leader do not wait for this disk.
        let claims_durable = |message: &Message| message.get_msg_type() != MessageType::MsgHeartbeatResponse || self.held_until.is_some();
        let (mut relying, mut at_once) = ready.take_persisted_messages().into_iter().partition(claims_durable);
        persist.messages.append(&mut relying);
        effects.messages.append(&mut at_once);

        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot().clone();
            let metadata = snapshot.get_metadata();
            let position = LogPosition { index: metadata.index, term: metadata.term };
            persist.stale_to = self.raw.mut_store().reset(position, metadata.get_conf_state().clone());
            persist.reset = Some(position);
            self.applying = position.index;
            self.installing = true;
            effects.snapshot = Some(snapshot);
        }
        let entries = ready.take_entries();
        persist.stale_to = self.raw.mut_store().append(&entries).max(persist.stale_to);
        persist.entries = entries;

        effects.read_states.extend(ready.take_read_states().into_iter().map(|state| (state.request_ctx.into(), state.index)));
        let committed = ready.take_committed_entries();
        if let Some(last) = committed.last() {
            self.applying = last.index;
            let bytes = committed.iter().map(|entry| entry.data.len()).sum();
            self.handed_out.push_back((last.index, bytes));
            self.handed_out_bytes += bytes;
        }
        if committed.iter().any(|entry| entry.get_entry_type() != EntryType::EntryNormal) {
            persist.must_sync = true;
            self.change_held_until = Some(persist.number);
        }
        effects.committed.extend(committed);

        let last = self.raw.store().last();
        self.unpersisted.push_back(Unpersisted { number: persist.number, last, must_sync: persist.must_sync });
        effects.persists.push(persist);
        self.raw.advance_append_async(ready);
    }

    fn settle(&mut self) {
        let index = self.persisted_index.min(self.applied);
        self.raw.mut_store().settle(index);
    }

    /// Takes notice of what a step has made of role, term and leader: counts them, and draws a new election timeout when raft drew one of
    /// its own, so that all chance comes from the seed.
    fn take_notice(&mut self) {
        let term = self.term();
        // To be asked whether one would be elected (PreVote) is no election, and raises no term.
        if matches!(self.role(), StateRole::Candidate | StateRole::Leader) && term > self.stood_in {
            self.stood_in = term;
            self.counts.elections += 1;
        }
        if self.leader().is_some() && term > self.led_in {
            self.led_in = term;
            self.counts.leaders += 1;
        }
        if self.drawn_for != (self.raw.raft.state, self.raw.raft.term) {
            self.drawn_for = (self.raw.raft.state, self.raw.raft.term);
            self.draw_election_timeout();
        }
    }

    fn draw_election_timeout(&mut self) {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.jitter;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn ^= drawn >> 31;
        let span = self.config.election_ticks as u64;
        let ticks = span + drawn % span;
        self.raw.raft.set_randomized_election_timeout(usize::try_from(ticks).expect("a small number"));
    }

    /// Whether anything but the messages in a persist waits until it is durable. A follower with entries that are not committed yet, as far
    /// as it knows, waits for nothing.
    #[must_use]
    pub fn waits_for_persist(&self) -> bool {
        let only_follows = self.role() == StateRole::Follower && !self.installing && self.held_until.is_none();
        let lacks_nothing = only_follows && self.commit_index() <= self.raw.raft.raft_log.persisted;
        !(self.unpersisted.is_empty() || lacks_nothing)
    }

    /// Whether this node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Role in the group.
    #[must_use]
    pub fn role(&self) -> StateRole {
        self.raw.raft.state
    }

    /// The leader this node follows, itself included.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0)
    }

    /// Current term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Highest index known to be committed.
    #[must_use]
    pub fn commit_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// Index of the last entry, proposed ones included.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Whether nothing is on its way to the log or the data. A snapshot may be stepped only then: raft takes over its configuration in that
    /// step, and a configuration change from before it must not be applied on top.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.unpersisted.is_empty() && self.applied == self.applying && !self.installing
    }

    /// Highest index applied.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// Persists handed out that wait for the disk.
    #[must_use]
    pub fn syncs_in_flight(&self) -> usize {
        self.unpersisted.iter().filter(|ready| ready.must_sync).count()
    }

    /// The number of the oldest of them.
    #[must_use]
    pub fn oldest_sync(&self) -> Option<u64> {
        self.unpersisted.iter().find(|ready| ready.must_sync).map(|ready| ready.number)
    }

    /// Whether leadership is being handed over.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// Whether a snapshot is being installed: nothing is served or voted meanwhile.
    #[must_use]
    pub fn is_installing(&self) -> bool {
        self.installing
    }

    /// Whether a configuration change is proposed and not yet applied.
    #[must_use]
    pub fn has_pending_change(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// Whether this node is the only voter.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        let configuration = self.configuration();
        configuration.voters == [self.config.node_id] && configuration.voters_outgoing.is_empty()
    }

    /// The configuration in force.
    #[must_use]
    pub fn configuration(&self) -> ConfState {
        self.raw.raft.prs().conf().to_conf_state()
    }

    /// What the leader knows of a peer's log: the index known to be on its disk, and whether it answered within the last election timeout.
    #[must_use]
    pub fn progress(&self, peer: u64) -> Option<(u64, bool)> {
        self.replication(peer).map(|progress| (progress.matched, progress.recent_active))
    }

    /// All that the leader knows of how a peer is replicated to.
    #[must_use]
    pub fn replication(&self, peer: u64) -> Option<&Progress> {
        if !self.is_leader() {
            return None;
        }
        self.raw.raft.prs().get(peer)
    }

    /// What has happened since the last time it was asked.
    pub fn take_counts(&mut self) -> GroupCounts {
        std::mem::take(&mut self.counts)
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &LogStore {
        self.raw.store()
    }
}

/// Drops appends that only tell a commit index which a later append to the same peer tells as well: a leader commits and proposes in one
/// turn, and raft tells of the commit at once. A lost message is nothing new to raft, and this one proves nothing that the later one,
/// which begins at the same entry, does not.
fn drop_overtaken(messages: &mut Vec<Message>) {
    let is_append = |message: &Message| message.get_msg_type() == MessageType::MsgAppend;
    let place = |message: &Message| (message.to, message.term, message.index, message.log_term);
    for at in (0..messages.len()).rev() {
        let message = &messages[at];
        let overtakes = |later: &Message| is_append(later) && place(later) == place(message) && later.commit >= message.commit;
        if is_append(message) && message.get_entries().is_empty() && messages[at + 1..].iter().any(overtakes) {
            messages.remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
