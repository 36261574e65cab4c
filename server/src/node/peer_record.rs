//! The latest process of every other member that this node has let in, kept over its own restarts, and the judgement of a process that
//! wants to come in.
//! The gate of the peer network knows these processes while it lives. Without a record, a node that was started again would take an old
//! copy of a data directory for the member it was copied from. So the gate has a newer process recorded before it lets it in, which costs
//! one sync per start of a member.
//! A directory counts its starts, and keeps a random number of each of the last ones (`Starts`). An old copy can be started until its count
//! is ahead of what was seen of the original; the number of the start that was seen tells them apart. Nothing tells a copy that was made
//! during the last start from the original that was started once more.
//! One task owns the record and writes it to `log/`, off the network threads. A write that fails is a failure of `log/` and ends the
//! process as any other does, so nobody is let in without a record.
//! Invariant: what `keep` has confirmed is durable, and the boot of a member never falls.

use std::sync::Arc;

use raftlog::engine::Engine;
use tokio::sync::{mpsc, oneshot};

use super::core::Members;
use super::exit::stop_for;
use super::storage;

/// Processes waiting to be recorded; whoever asks beyond that waits for room.
const ASKED_MAX: usize = 64;

/// A process of another member, as it presented itself.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PeerProcess {
    /// The member.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// Its boot counter.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// Random number of that start.
    #[prost(uint64, tag = "3")]
    pub nonce: u64,
}

/// One process per member; ids are never reused, so those of removed members may stay.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PeerProcesses {
    /// In the order in which the members were first seen.
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<PeerProcess>,
}

impl PeerProcesses {
    /// Takes a process in the place of an older one of its member. Returns whether anything changed.
    pub fn raise(&mut self, process: PeerProcess) -> bool {
        match self.processes.iter_mut().find(|known| known.node_id == process.node_id) {
            Some(known) if known.boot >= process.boot => false,
            Some(known) => {
                *known = process;
                true
            }
            None => {
                self.processes.push(process);
                true
            }
        }
    }
}

/// Starts of which a directory keeps the number: an old copy is known as long as it was not started so often. A handshake carries them.
const STARTS_KEPT: usize = 256;

/// The starts of a data directory.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Starts {
    /// How many there were, the present one included.
    #[prost(uint64, tag = "1")]
    pub boot: u64,
    /// Random numbers of the last ones, the present one first.
    #[prost(fixed64, repeated, tag = "2")]
    pub nonces: Vec<u64>,
}

impl Starts {
    /// One more start.
    pub fn begin(&mut self, nonce: u64) {
        self.boot += 1;
        self.nonces.insert(0, nonce);
        self.nonces.truncate(STARTS_KEPT);
    }

    /// Random number of the present start.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.nonces.first().copied().unwrap_or_default()
    }

    /// The process of the present start.
    #[must_use]
    pub fn process(&self, node_id: u64) -> PeerProcess {
        PeerProcess { node_id, boot: self.boot, nonce: self.nonce() }
    }

    /// The random number of a start; none if it is not known any more, or has not been.
    fn nonce_of(&self, boot: u64) -> Option<u64> {
        let starts_ago = usize::try_from(self.boot.checked_sub(boot)?).ok()?;
        self.nonces.get(starts_ago).copied()
    }
}

/// Why a process is not taken for the member it says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// The member was removed for ever.
    #[error("it was removed from the cluster")]
    Removed,
    /// It is not in the table.
    #[error("it is not in the table")]
    NotMember,
    /// The member has another data directory.
    #[error("it has another data directory")]
    WrongIncarnation,
    /// A later start was seen.
    #[error("it was seen with boot {0} already")]
    OldBoot(u64),
    /// The start that was seen is not among those of this directory.
    #[error("boot {0} was seen in another process: its data directory was copied")]
    Copied(u64),
}

/// Judges a process that presents itself as a member with a data directory and its starts, by the table and the process seen last of that
/// member. Says whether it is a newer one.
/// # Errors
/// It must not come in.
pub fn judge(members: &Members, seen: Option<PeerProcess>, node_id: u64, incarnation: u64, starts: &Starts) -> Result<bool, Unwelcome> {
    if members.removed.contains(&node_id) {
        return Err(Unwelcome::Removed);
    }
    let member = members.get(node_id).ok_or(Unwelcome::NotMember)?;
    if member.incarnation != incarnation {
        return Err(Unwelcome::WrongIncarnation);
    }
    let Some(PeerProcess { boot, nonce, .. }) = seen else { return Ok(true) };
    match starts.nonce_of(boot) {
        _ if starts.boot < boot => Err(Unwelcome::OldBoot(boot)),
        Some(known) if known == nonce => Ok(starts.boot > boot),
        // It was started so often since that it does not know any more.
        None if starts.boot > boot => Ok(true),
        Some(_) | None => Err(Unwelcome::Copied(boot)),
    }
}

type Asked = (PeerProcess, oneshot::Sender<()>);

/// A handle on the record; cheap to clone.
#[derive(Clone)]
pub struct PeerRecord {
    asked: mpsc::Sender<Asked>,
    at_start: PeerProcesses,
}

/// The node is stopping: nothing more is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping;

impl PeerRecord {
    /// Starts the task that owns the record in `log`, which holds `at_start`. From within a tokio runtime.
    #[must_use]
    pub fn start(log: Arc<dyn Engine>, at_start: PeerProcesses) -> Self {
        let (asked, received) = mpsc::channel(ASKED_MAX);
        tokio::spawn(own(received, log, at_start.clone()));
        Self { asked, at_start }
    }

    /// The processes that an earlier life of this node has let in.
    #[must_use]
    pub fn at_start(&self) -> &[PeerProcess] {
        &self.at_start.processes
    }

    /// Records a process, unless a newer one of its member is recorded. Done when that is durable.
    /// # Errors
    /// The node is stopping.
    pub async fn keep(&self, process: PeerProcess) -> Result<(), Stopping> {
        let (done, recorded) = oneshot::channel();
        self.asked.send((process, done)).await.map_err(|_| Stopping)?;
        recorded.await.map_err(|_| Stopping)
    }
}

#[cfg(test)]
impl PeerRecord {
    /// A record that starts with what is durable in `log`.
    pub fn of(log: &Arc<raftlog::engine::MemoryEngine>) -> Self {
        Self::start(log.clone(), storage::read_peers(log.as_ref()).expect("memory can be read"))
    }

    /// An empty record, for those whom it does not concern.
    pub fn in_memory() -> Self {
        Self::of(&Arc::new(raftlog::engine::MemoryEngine::new(raftlog::log::LOG_COLUMN_FAMILIES.len())))
    }
}

async fn own(mut asked: mpsc::Receiver<Asked>, log: Arc<dyn Engine>, mut record: PeerProcesses) {
    while let Some((process, done)) = asked.recv().await {
        if record.raise(process) {
            let (log, wanted) = (Arc::clone(&log), record.clone());
            match tokio::task::spawn_blocking(move || storage::persist_peers(log.as_ref(), &wanted)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => stop_for(&error, &format!("the processes of the peers cannot be recorded: {error}")),
                // The runtime is stopping.
                Err(_) => return,
            }
        }
        // The connection that asked may be gone.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use raftlog::engine::MemoryEngine;
    use raftlog::log::LOG_COLUMN_FAMILIES;

    use super::*;
    use crate::node::core::Addresses;

    const fn process(node_id: u64, boot: u64, nonce: u64) -> PeerProcess {
        PeerProcess { node_id, boot, nonce }
    }

    #[tokio::test]
    async fn what_is_kept_is_durable_and_never_falls() {
        let log = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let record = PeerRecord::of(&log);
        let mut expected: Vec<PeerProcess> = Vec::new();
        for (kept, after) in [
            (process(2, 5, 55), &[(2, 5, 55)][..]),
            (process(3, 1, 11), &[(2, 5, 55), (3, 1, 11)]),
            (process(2, 4, 44), &[(2, 5, 55), (3, 1, 11)]),
            (process(2, 6, 66), &[(2, 6, 66), (3, 1, 11)]),
        ] {
            assert_eq!(record.keep(kept).await, Ok(()));
            expected = after.iter().map(|(node_id, boot, nonce)| process(*node_id, *boot, *nonce)).collect();
            log.crash(0);
            assert_eq!(PeerRecord::of(&log).at_start(), expected, "after {kept:?}");
        }
        assert_eq!(PeerRecord::of(&log).keep(process(2, 5, 55)).await, Ok(()));
        assert_eq!(PeerRecord::of(&log).at_start(), expected, "also in the next life");
    }

    #[test]
    fn a_copy_is_known_however_often_it_was_started() {
        let table = Members::initial("c".repeat(40), 1, [(102, Addresses::default())]);
        let judged = |starts: &Starts| judge(&table, Some(process(1, 3, 33)), 1, 102, starts);
        let started = |nonces: &[u64]| {
            let mut starts = Starts::default();
            nonces.iter().for_each(|nonce| starts.begin(*nonce));
            starts
        };
        assert_eq!(judged(&started(&[11, 22, 33])), Ok(false), "the process that was seen");
        assert_eq!(judged(&started(&[11, 22, 33, 44])), Ok(true), "the next start of its directory");
        // A copy that was made after the second start, started once, twice and often.
        assert_eq!(judged(&started(&[11, 22])), Err(Unwelcome::OldBoot(3)));
        let mut copy = started(&[11, 22, 34]);
        while copy.boot < 3 + STARTS_KEPT as u64 {
            assert_eq!(judged(&copy), Err(Unwelcome::Copied(3)), "{}", copy.boot);
            copy.begin(rand::random());
        }
        assert_eq!(copy.nonces.len(), STARTS_KEPT);
        assert_eq!(judged(&copy), Ok(true), "what nobody knows any more counts for nothing");
        assert_eq!(judged(&Starts { boot: 3, nonces: Vec::new() }), Err(Unwelcome::Copied(3)), "a start without a number is none");
    }

    #[test]
    fn strangers_are_not_welcome() {
        let mut table = Members::initial("c".repeat(40), 1, [(102, Addresses::default())]);
        table.removed.push(2);
        let starts = Starts { boot: 1, nonces: vec![7] };
        for (node_id, incarnation, expected) in [
            (1, 102, Ok(true)),
            (1, 103, Err(Unwelcome::WrongIncarnation)),
            (2, 102, Err(Unwelcome::Removed)),
            (3, 102, Err(Unwelcome::NotMember)),
        ] {
            assert_eq!(judge(&table, None, node_id, incarnation, &starts), expected);
        }
    }

    #[test]
    fn the_record_of_starts_reads_what_was_a_mere_count() {
        let mut starts = Starts::decode(&41u64.encode_to_vec()[..]).expect("a count");
        starts.begin(7);
        assert_eq!(starts.encode_to_vec(), b"\x08\x2a\x12\x08\x07\0\0\0\0\0\0\0");
        assert_eq!(Starts::decode(&starts.encode_to_vec()[..]), Ok(starts));
    }

    #[test]
    fn bytes_of_the_record_do_not_change() {
        let record = PeerProcesses { processes: vec![process(2, 300, 7), process(3, 1, 0)] };
        let golden: &[u8] = b"\x0a\x07\x08\x02\x10\xac\x02\x18\x07\x0a\x04\x08\x03\x10\x01";
        assert_eq!(record.encode_to_vec(), golden);
        assert_eq!(PeerProcesses::decode(golden), Ok(record));
    }
}
