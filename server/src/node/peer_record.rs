//! The latest process of every other member that this node has let in, kept over its own restarts.
//! The gate of the peer network knows these processes while it lives. Without a record, a node that was started again would take an old
//! copy of a data directory for the member it was copied from. So the gate has a newer process recorded before it lets it in, which costs
//! one sync per start of a member.
//! One task owns the record and writes it to `log/`, off the network threads. A write that fails is a failure of `log/` and ends the
//! process as any other does, so nobody is let in without a record.
//! Invariant: what `keep` has confirmed is durable, and the boot of a member never falls.

use std::sync::Arc;

use raftlog::engine::Engine;
use tokio::sync::{mpsc, oneshot};

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
    fn raise(&mut self, process: PeerProcess) -> bool {
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
    fn bytes_of_the_record_do_not_change() {
        let record = PeerProcesses { processes: vec![process(2, 300, 7), process(3, 1, 0)] };
        let golden: &[u8] = b"\x0a\x07\x08\x02\x10\xac\x02\x18\x07\x0a\x04\x08\x03\x10\x01";
        assert_eq!(record.encode_to_vec(), golden);
        assert_eq!(PeerProcesses::decode(golden), Ok(record));
    }
}
