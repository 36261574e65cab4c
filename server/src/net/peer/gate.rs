//! Who may come in: what this node knows of itself, of the members, and of the processes that have spoken as them.
//! The node tells its identity once and the table at every change; the listener and the lanes ask. The highest (boot, nonce) of every
//! member is remembered, over restarts of this node as well (`node::PeerRecord`), so that neither an older process nor one with a copied
//! data directory is heard.
//! Invariant: a frame is delivered only while its connection's ticket is current, and this is checked under the same lock under which a
//! newer process or connection is let in; so once that is welcome, nothing older comes after it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{mpsc, oneshot, watch};

use super::PeerEvent;
use super::wire::{Hello, ProbeReply, Purpose, Reason, Refused, Welcome};
use crate::node::core::{Addresses, LEVEL, Member, Members};
use crate::node::{PeerProcess, PeerRecord, Starts, Stopping, Unwelcome, judge};

/// Who this node is. Fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// 40 hex digits.
    pub cluster_id: String,
    /// Its id.
    pub node_id: u64,
    /// Of its data directory.
    pub incarnation: u64,
    /// The starts of that directory.
    pub starts: Starts,
    /// Where it is reached.
    pub addresses: Addresses,
}

/// What a node without an identity tells those who ask, and where forms for it go.
#[derive(Debug)]
pub struct Prospect {
    /// The answer to a probe; its cluster id is empty.
    pub probe: ProbeReply,
    /// Who decides about forms.
    pub forms: mpsc::Sender<FormCall>,
}

/// Somebody wants this node to be a founder of a cluster.
#[derive(Debug)]
pub struct FormCall {
    /// The cluster's first table.
    pub members: Members,
    /// Accepted, and durable; or one line why not.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// The permission of one connection to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub node_id: u64,
    pub incarnation: u64,
    pub boot: u64,
    purpose: Purpose,
    attempt: u64,
}

impl Ticket {
    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        self.purpose == purpose
    }
}

enum Standing {
    Starting,
    Forming(Prospect),
    Member(Identity, PeerRecord),
}

/// The latest process seen of a member.
struct Seen {
    process: PeerProcess,
    /// Whether it is on record; before that nothing of it is let in.
    recorded: bool,
    /// Highest connection number per purpose.
    attempts: HashMap<Purpose, u64>,
}

struct State {
    standing: Standing,
    members: Members,
    seen: HashMap<u64, Seen>,
    /// The listener is stopping: nothing is delivered any more.
    closed: bool,
}

struct Shared {
    state: RwLock<State>,
    /// Raised when tickets may have lost their validity.
    changes: watch::Sender<u64>,
}

/// A cheap handle on the gate of this node.
#[derive(Clone)]
pub struct Gate {
    /// Shared by the listener, the lanes and the node; a lock since every frame asks and next to nobody writes.
    shared: Arc<Shared>,
}

impl Default for Gate {
    fn default() -> Self {
        let state = State { standing: Standing::Starting, members: Members::default(), seen: HashMap::new(), closed: false };
        Self { shared: Arc::new(Shared { state: RwLock::new(state), changes: watch::Sender::new(0) }) }
    }
}

const fn reason(unwelcome: Unwelcome) -> Reason {
    match unwelcome {
        Unwelcome::Removed => Reason::Removed,
        Unwelcome::NotMember => Reason::NotMember,
        Unwelcome::WrongIncarnation => Reason::WrongIncarnation,
        Unwelcome::OldBoot(_) => Reason::OldBoot,
        Unwelcome::Copied(_) => Reason::DuplicateIncarnation,
    }
}

fn refused(reason: Reason, detail: impl Into<String>) -> Refused {
    Refused { reason: reason.into(), detail: detail.into() }
}

impl Gate {
    /// This node looks for a cluster; formation calls this.
    /// # Panics
    /// The node has an identity.
    pub fn set_prospect(&self, prospect: Prospect) {
        let mut state = self.write();
        assert!(!matches!(state.standing, Standing::Member(..)), "a member does not look for a cluster");
        state.standing = Standing::Forming(prospect);
    }

    /// This node has an identity. `members` is the table in its data, or the hints that came with a join as long as there is none.
    pub fn set_identity(&self, identity: Identity, members: &Members, record: PeerRecord) {
        let mut state = self.write();
        let seen = |peer: &PeerProcess| (peer.node_id, Seen { recorded: true, ..Seen::new(*peer) });
        state.seen = record.at_start().iter().map(seen).collect();
        state.standing = Standing::Member(identity, record);
        state.members = members.clone();
        drop(state);
        self.changed();
    }

    /// The table has changed. An empty one (of a replica that waits for its snapshot) does not replace the hints.
    pub fn set_members(&self, members: &Members) {
        if members.members.is_empty() {
            return;
        }
        self.write().members = members.clone();
        self.changed();
    }

    /// This node's identity, once it has one.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        match &self.read().standing {
            Standing::Member(identity, _) => Some(identity.clone()),
            Standing::Starting | Standing::Forming(_) => None,
        }
    }

    /// Whether a node was removed from the cluster for ever.
    #[must_use]
    pub fn is_removed(&self, node_id: u64) -> bool {
        self.read().members.removed.contains(&node_id)
    }

    /// What this node answers to a probe; `None` before it can say anything.
    pub(super) fn probe(&self) -> Option<ProbeReply> {
        match &self.read().standing {
            Standing::Starting => None,
            Standing::Forming(prospect) => Some(prospect.probe.clone()),
            Standing::Member(identity, _) => Some(ProbeReply {
                incarnation: identity.incarnation,
                cluster_id: identity.cluster_id.clone(),
                node_id: identity.node_id,
                bootstrap_expect: 0,
                roster: Vec::new(),
                addresses: identity.addresses.clone(),
                level: LEVEL,
            }),
        }
    }

    /// Where a form goes while this node looks for a cluster.
    pub(super) fn forms(&self) -> Option<mpsc::Sender<FormCall>> {
        match &self.read().standing {
            Standing::Forming(prospect) => Some(prospect.forms.clone()),
            Standing::Starting | Standing::Member(..) => None,
        }
    }

    /// Judges a hello, and if it is good, turns away what the same node had open for the same purpose, or in an older process. A process
    /// that was not seen before is put on record first.
    pub(super) async fn admit(&self, hello: &Hello) -> Result<(Ticket, Welcome), Refused> {
        let admitted = self.judge(hello)?;
        self.put_on_record(hello.starts.process(hello.node_id)).await?;
        Ok(admitted)
    }

    fn judge(&self, hello: &Hello) -> Result<(Ticket, Welcome), Refused> {
        let mut state = self.write();
        let purpose = hello.purpose();
        if purpose == Purpose::Unspecified {
            return Err(refused(Reason::Malformed, "unknown kind of stream"));
        }
        let Standing::Member(own, _) = &state.standing else {
            return Err(refused(Reason::NotReady, "the node has no identity yet"));
        };
        if hello.cluster_id != own.cluster_id {
            return Err(refused(Reason::WrongCluster, format!("node {} belongs to cluster {}", own.node_id, own.cluster_id)));
        }
        if hello.to_node_id != own.node_id {
            return Err(refused(Reason::WrongNode, format!("this is node {}", own.node_id)));
        }
        if hello.node_id == own.node_id {
            return Err(if hello.starts == own.starts {
                refused(Reason::WrongNode, "the node calls itself")
            } else {
                refused(Reason::DuplicateIncarnation, "this is the node itself")
            });
        }
        let welcome = Welcome { incarnation: own.incarnation, starts: own.starts.clone(), level: LEVEL };
        let presented = Welcome { incarnation: hello.incarnation, starts: hello.starts.clone(), level: hello.level };
        let is_newer = state.check(hello.node_id, &presented)?;
        let seen = state.seen.get_mut(&hello.node_id).expect("check leaves a record");
        if purpose != Purpose::Snapshot {
            let last = seen.attempts.entry(purpose).or_default();
            if hello.attempt <= *last {
                return Err(refused(Reason::Superseded, "a later connection is open"));
            }
            *last = hello.attempt;
        }
        let ticket =
            Ticket { node_id: hello.node_id, incarnation: hello.incarnation, boot: hello.starts.boot, purpose, attempt: hello.attempt };
        drop(state);
        if is_newer || purpose != Purpose::Snapshot {
            self.changed();
        }
        Ok((ticket, welcome))
    }

    /// Judges what the other end of one of our own streams says it is, by the same rules.
    pub(super) async fn check_server(&self, peer: u64, welcome: &Welcome) -> Result<(), Refused> {
        let is_newer = self.write().check(peer, welcome)?;
        if is_newer {
            self.changed();
        }
        self.put_on_record(welcome.starts.process(peer)).await
    }

    /// Waits until a process that was judged to be good is on record.
    async fn put_on_record(&self, process: PeerProcess) -> Result<(), Refused> {
        let stopping = || refused(Reason::NotReady, "the node is stopping");
        let record = {
            let state = self.read();
            if state.seen.get(&process.node_id).is_some_and(|seen| seen.recorded && seen.process == process) {
                return Ok(());
            }
            let Standing::Member(_, record) = &state.standing else { return Err(stopping()) };
            record.clone()
        };
        record.keep(process).await.map_err(|Stopping| stopping())?;
        if let Some(seen) = self.write().seen.get_mut(&process.node_id).filter(|seen| seen.process == process) {
            seen.recorded = true;
        }
        Ok(())
    }

    /// Hands an event to the node if the ticket is current; says whether it was.
    pub(super) fn deliver(&self, ticket: &Ticket, permit: mpsc::Permit<'_, PeerEvent>, event: PeerEvent) -> bool {
        let state = self.read();
        let current = state.is_current(ticket);
        if current {
            permit.send(event);
        }
        current
    }

    pub(super) fn is_current(&self, ticket: &Ticket) -> bool {
        self.read().is_current(ticket)
    }

    /// Whether this process is the latest that was seen of its node.
    pub(super) fn is_latest(&self, process: PeerProcess) -> bool {
        self.read().seen.get(&process.node_id).is_some_and(|seen| seen.process == process)
    }

    /// Changes after which a ticket may have lost its validity, or a process have been followed by another.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The listener stops.
    pub(super) fn close(&self) {
        self.write().closed = true;
        self.changed();
    }

    fn changed(&self) {
        self.shared.changes.send_modify(|version| *version += 1);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn new(process: PeerProcess) -> Self {
        Self { process, recorded: false, attempts: HashMap::new() }
    }
}

impl State {
    /// Judges a process that speaks as a member, and remembers it; says whether it is newer than what was known.
    fn check(&mut self, node_id: u64, presented: &Welcome) -> Result<bool, Refused> {
        // Nothing may be concluded from a start that is none.
        if presented.starts.boot == 0 || presented.starts.nonces.is_empty() {
            return Err(refused(Reason::Malformed, "the sender does not say which start of its directory it is"));
        }
        let seen = self.seen.get(&node_id).map(|seen| seen.process);
        let is_newer = judge(&self.members, seen, node_id, presented.incarnation, &presented.starts);
        let is_newer = is_newer.map_err(|unwelcome| refused(reason(unwelcome), format!("node {node_id}: {unwelcome}")))?;
        if presented.level < self.members.level {
            let text = format!("the cluster needs feature level {}, node {node_id} supports {}", self.members.level, presented.level);
            return Err(refused(Reason::Level, text));
        }
        if is_newer {
            self.seen.insert(node_id, Seen::new(presented.starts.process(node_id)));
        }
        Ok(is_newer)
    }

    fn is_current(&self, ticket: &Ticket) -> bool {
        let is_member = self.members.get(ticket.node_id).is_some_and(|member: &Member| member.incarnation == ticket.incarnation);
        let is_latest = self.seen.get(&ticket.node_id).is_some_and(|seen| {
            seen.process.boot == ticket.boot
                && (ticket.purpose == Purpose::Snapshot || seen.attempts.get(&ticket.purpose) == Some(&ticket.attempt))
        });
        is_member && is_latest && !self.closed
    }
}

#[cfg(test)]
mod tests {
    use raftlog::engine::MemoryEngine;
    use raftlog::log::LOG_COLUMN_FAMILIES;

    use super::*;

    const CLUSTER: &str = "0123456789012345678901234567890123456789";

    /// Makes a good hello a bad one.
    type Spoil = fn(&mut Hello);

    fn table() -> Members {
        without(4, Members::initial(CLUSTER.to_owned(), LEVEL, [101, 102, 103, 104].map(|number| (number, Addresses::default()))))
    }

    fn without(node_id: u64, mut members: Members) -> Members {
        members.members.retain(|member| member.node_id != node_id);
        members.removed.push(node_id);
        members
    }

    fn gate() -> Gate {
        gate_with(PeerRecord::in_memory())
    }

    fn gate_with(record: PeerRecord) -> Gate {
        let gate = Gate::default();
        let identity = Identity {
            cluster_id: CLUSTER.to_owned(),
            node_id: 1,
            incarnation: 101,
            starts: starts(5, &[55]),
            addresses: Addresses::default(),
        };
        gate.set_identity(identity, &table(), record);
        gate
    }

    fn starts(boot: u64, nonces: &[u64]) -> Starts {
        Starts { boot, nonces: nonces.to_vec() }
    }

    fn hello(attempt: u64) -> Hello {
        Hello {
            cluster_id: CLUSTER.to_owned(),
            node_id: 2,
            incarnation: 102,
            starts: starts(3, &[33]),
            level: LEVEL,
            to_node_id: 1,
            purpose: Purpose::Append.into(),
            addresses: Addresses::default(),
            attempt,
        }
    }

    async fn reason(gate: &Gate, hello: &Hello) -> Option<Reason> {
        gate.admit(hello).await.err().map(|refused| refused.reason())
    }

    #[tokio::test]
    async fn strangers_and_the_past_are_refused() {
        let gate = gate();
        assert_eq!(reason(&gate, &hello(1)).await, None);
        let cases: [(Reason, Spoil); 17] = [
            (Reason::WrongCluster, |hello| hello.cluster_id = "f".repeat(40)),
            (Reason::WrongCluster, |hello| hello.cluster_id.clear()),
            (Reason::WrongNode, |hello| hello.to_node_id = 3),
            (Reason::WrongNode, |hello| hello.to_node_id = 0),
            (Reason::WrongNode, |hello| (hello.node_id, hello.incarnation, hello.starts) = (1, 101, starts(5, &[55]))),
            (Reason::DuplicateIncarnation, |hello| (hello.node_id, hello.incarnation) = (1, 101)),
            (Reason::NotMember, |hello| hello.node_id = 5),
            (Reason::NotMember, |hello| hello.node_id = 0),
            (Reason::Removed, |hello| (hello.node_id, hello.incarnation) = (4, 104)),
            (Reason::WrongIncarnation, |hello| hello.incarnation = 1002),
            (Reason::OldBoot, |hello| hello.starts = starts(2, &[33])),
            (Reason::DuplicateIncarnation, |hello| hello.starts = starts(3, &[34])),
            (Reason::Level, |hello| hello.level = LEVEL - 1),
            (Reason::Superseded, |hello| hello.attempt = 1),
            (Reason::Malformed, |hello| hello.purpose = 99),
            (Reason::Malformed, |hello| hello.starts = starts(0, &[])),
            (Reason::Malformed, |hello| hello.starts = starts(4, &[])),
        ];
        for (expected, change) in cases {
            let mut hello = hello(2);
            change(&mut hello);
            assert_eq!(reason(&gate, &hello).await, Some(expected), "{hello:?}");
        }
        assert_eq!(reason(&gate, &hello(2)).await, None, "refusals leave no trace");
        assert_eq!(reason(&Gate::default(), &hello(1)).await, Some(Reason::NotReady));
    }

    #[tokio::test]
    async fn the_past_is_refused_after_a_restart_of_this_node() {
        let peer = |node_id, boot, nonce| PeerProcess { node_id, boot, nonce };
        let log = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        for (hello, expected) in [
            (hello(9), None),
            // The same process is connected again, by a connection that counts from its own start.
            (hello(2), None),
            (Hello { starts: starts(2, &[22]), ..hello(9) }, Some(Reason::OldBoot)),
            (Hello { starts: starts(3, &[34]), ..hello(9) }, Some(Reason::DuplicateIncarnation)),
            (Hello { starts: starts(5, &[55, 44, 34]), ..hello(9) }, Some(Reason::DuplicateIncarnation)),
            (Hello { starts: starts(4, &[44, 33]), ..hello(1) }, None),
            (hello(9), Some(Reason::OldBoot)),
        ] {
            let gate = gate_with(PeerRecord::of(&log));
            assert_eq!(reason(&gate, &hello).await, expected, "{hello:?}");
            log.crash(0);
        }
        assert_eq!(PeerRecord::of(&log).at_start(), [peer(2, 4, 44)]);
        // Servers that this node calls are put on record as well.
        let server = Welcome { incarnation: 103, starts: starts(7, &[77]), level: LEVEL };
        assert_eq!(gate_with(PeerRecord::of(&log)).check_server(3, &server).await, Ok(()));
        log.crash(0);
        assert_eq!(PeerRecord::of(&log).at_start(), [peer(2, 4, 44), peer(3, 7, 77)]);
    }

    #[tokio::test]
    async fn the_newer_displaces_the_older() {
        let gate = gate();
        let (first, _) = gate.admit(&hello(1)).await.expect("good");
        let (control, _) = gate.admit(&Hello { purpose: Purpose::Control.into(), ..hello(2) }).await.expect("good");
        let (second, _) = gate.admit(&hello(3)).await.expect("good");
        assert_eq!([first, second, control].map(|ticket| gate.is_current(&ticket)), [false, true, true]);
        let (reborn, welcome) = gate.admit(&Hello { starts: starts(4, &[44, 33]), ..hello(1) }).await.expect("good");
        assert_eq!((welcome.incarnation, welcome.starts), (101, starts(5, &[55])));
        assert_eq!([second, control, reborn].map(|ticket| gate.is_current(&ticket)), [false, false, true]);
        assert_eq!(reason(&gate, &hello(9)).await, Some(Reason::OldBoot));

        let server = Welcome { incarnation: 102, starts: starts(6, &[66]), level: LEVEL };
        assert_eq!(gate.check_server(2, &server).await, Ok(()));
        assert!(!gate.is_current(&reborn), "its server is a newer process");
        let copied = gate.check_server(2, &Welcome { starts: starts(6, &[67]), ..server }).await;
        assert_eq!(copied.map_err(|refused| refused.reason()), Err(Reason::DuplicateIncarnation));
    }

    #[tokio::test]
    async fn a_removed_member_is_cut_off_and_hints_last_until_there_is_a_table() {
        let gate = gate();
        let (ticket, _) = gate.admit(&hello(1)).await.expect("good");
        gate.set_members(&Members::default());
        assert!(gate.is_current(&ticket));
        let mut changes = gate.watch();
        changes.mark_unchanged();
        gate.set_members(&without(2, table()));
        assert!(changes.has_changed().is_ok_and(|changed| changed));
        assert!(!gate.is_current(&ticket));
        assert_eq!(reason(&gate, &hello(2)).await, Some(Reason::Removed));
    }
}
