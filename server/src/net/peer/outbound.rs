//! Lanes to the other nodes: per node and kind of frame one connection, kept open for as long as the node is a member.
//! Each lane is a task that connects, says hello, announces itself and waits for the end; the frames flow from its queue into gRPC without
//! it. Lanes have connections of their own, so that a large append delays no heartbeat on its way.
//! Invariant: `LaneUp` is in the event channel before any frame that the new connection will carry is taken, and a frame pushed before the
//! connection came about is never sent on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use raftlog::message::Frame;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tonic::Streaming;
use tonic::transport::Channel;

use super::connection::HANDSHAKE_DEADLINE;
use super::dial::{self, CallError};
use super::queue::{Queue, QueueLimits};
use super::snapshot::{self, OutgoingSnapshot, SnapshotError};
use super::wire::service::lanes_client::LanesClient;
use super::wire::{Hello, Purpose, Reason, Sealed};
use super::{Gate, PeerEvent, PeerOptions};
use crate::node::PeerProcess;
use crate::node::core::{LEVEL, Lane};

const LANES: [Lane; 3] = [Lane::Control, Lane::Append, Lane::Forward];

/// First and longest pause between two attempts to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What waits for a lane at most. Forwards are bounded by their sender (`node::core::runs`), which sends all unresolved ones again at
/// once; their frames share its memory.
const fn limits(lane: Lane) -> QueueLimits {
    match lane {
        Lane::Control => QueueLimits { frames: 4096, bytes: 4 << 20 },
        Lane::Append => QueueLimits { frames: 4096, bytes: 64 << 20 },
        Lane::Forward => QueueLimits { frames: 1 << 16, bytes: 256 << 20 },
    }
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// There is no such peer, or its lane is not connected.
    #[error("the lane is not connected")]
    NotConnected,
    /// Too much waits for the lane.
    #[error("the lane's queue is full")]
    Full,
    /// The frame is larger than `FRAME_BYTES_MAX`.
    #[error("the frame is too large")]
    TooLarge,
}

/// Where a peer may be. Either address can be the older one: a table is made again from the log after a start, with all that it once said,
/// and a peer that moved since may have told others only. So what it said is tried first, and then the two in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Addresses {
    /// As the table had it last.
    listed: String,
    /// As the peer said itself, or was found, if that is another one.
    said: Option<String>,
}

impl Addresses {
    fn first(&self) -> &str {
        self.said.as_ref().unwrap_or(&self.listed)
    }

    /// The table has this address. Returns whether that is new.
    fn list(&mut self, address: &str) -> bool {
        let is_new = self.listed != address;
        address.clone_into(&mut self.listed);
        self.said.take_if(|said| said == address);
        is_new
    }

    /// The peer has said this address, or is there.
    fn say(&mut self, address: &str) {
        self.said = (self.listed != address).then(|| address.to_owned());
    }
}

struct Peer {
    /// Dropped with the peer, which ends its lanes.
    addresses: watch::Sender<Addresses>,
    queues: [Arc<Queue>; LANES.len()],
}

struct Shared {
    options: PeerOptions,
    gate: Gate,
    events: mpsc::Sender<PeerEvent>,
    runtime: Handle,
    /// Connections made by this process, for `Hello::attempt`.
    attempts: AtomicU64,
    /// Behind a lock because every thread of the node sends, and the table changes next to never.
    peers: RwLock<HashMap<u64, Peer>>,
    /// All addresses of the table, this node's too.
    places: RwLock<Vec<String>>,
}

/// A cheap handle on the lanes of this node.
#[derive(Clone)]
pub struct PeerNetwork {
    shared: Arc<Shared>,
}

impl PeerNetwork {
    /// A network without peers. Lanes connect once the gate has this node's identity.
    /// # Panics
    /// Called outside a tokio runtime.
    #[must_use]
    pub fn new(options: PeerOptions, gate: Gate, events: mpsc::Sender<PeerEvent>) -> Self {
        let (runtime, attempts) = (Handle::current(), AtomicU64::new(0));
        let (peers, places) = (RwLock::default(), RwLock::default());
        Self { shared: Arc::new(Shared { options, gate, events, runtime, attempts, peers, places }) }
    }

    /// These are the nodes now, by id and peer address, and `own` is this one's id. Lanes to new ones are opened, those to nodes that are
    /// gone end without an event, and a changed address is followed.
    pub fn set_peers(&self, own: u64, nodes: &[(u64, String)]) {
        *self.shared.places.write().unwrap_or_else(PoisonError::into_inner) = nodes.iter().map(|(_, address)| address.clone()).collect();
        let wanted: Vec<_> = nodes.iter().filter(|(id, _)| *id != own).collect();
        let mut peers = self.shared.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|id, _| wanted.iter().any(|(wanted_id, _)| wanted_id == id));
        for (id, address) in &wanted {
            let peer = peers.entry(*id).or_insert_with(|| self.open_lanes(*id, address));
            peer.addresses.send_if_modified(|addresses| addresses.list(address));
        }
    }

    /// A member that was let in says where it is reached. The table may learn that only when a majority is reached, and those who moved may
    /// be the majority.
    pub fn follow(&self, peer: u64, address: &str) {
        let peers = self.shared.peers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&peer) {
            // Also when it is no news: a lane that is down has a reason to try again.
            peer.addresses.send_modify(|addresses| addresses.say(address));
        }
    }

    /// Gives a frame to a lane, without waiting.
    /// # Errors
    /// The frame was dropped. After `Full` later frames of the lane may be taken: the caller sees to gaps.
    pub fn send(&self, to: u64, lane: Lane, frame: Frame) -> Result<(), Dropped> {
        let peers = self.shared.peers.read().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.get(&to).ok_or(Dropped::NotConnected)?;
        peer.queues[lane as usize].push(frame)
    }

    /// Streams a Raft snapshot to a peer over a connection of its own; done when the peer has it durably and has told its node.
    /// Dropping the future ends the transfer.
    /// # Errors
    /// The transfer failed, or made no progress for twenty seconds.
    pub fn send_snapshot(&self, to: u64, snapshot: OutgoingSnapshot) -> impl Future<Output = Result<(), SnapshotError>> + Send + 'static {
        let shared = self.shared.clone();
        async move {
            let address = shared.address(to).ok_or(SnapshotError::NoSuchPeer)?;
            let hello = shared.hello(to, Purpose::Snapshot).ok_or(SnapshotError::NoSuchPeer)?;
            snapshot::send(&shared.options, &shared.gate, &address, &hello, snapshot).await
        }
    }

    fn open_lanes(&self, peer: u64, address: &str) -> Peer {
        let addresses = watch::Sender::new(Addresses { listed: address.to_owned(), said: None });
        let queues = LANES.map(|lane| {
            let queue = Queue::new(limits(lane));
            let task = LaneTask { shared: self.shared.clone(), peer, lane, queue: queue.clone(), refusals: HashMap::new() };
            self.shared.runtime.spawn(task.run(addresses.subscribe()));
            queue
        });
        Peer { addresses, queues }
    }
}

impl Shared {
    fn address(&self, peer: u64) -> Option<String> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(&peer).map(|peer| peer.addresses.borrow().first().to_owned())
    }

    /// A lane to the peer was opened at this address, and its receiver has seen all news. The other lanes find out by themselves.
    fn found(&self, peer: u64, address: &str, news: &watch::Receiver<Addresses>) {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&peer) {
            peer.addresses.send_if_modified(|addresses| {
                // What came while the lane was opened may be newer.
                if news.has_changed().is_ok_and(|has_changed| !has_changed) {
                    addresses.say(address);
                }
                false
            });
        }
    }

    fn hello(&self, to_node_id: u64, purpose: Purpose) -> Option<Hello> {
        let own = self.gate.identity()?;
        Some(Hello {
            cluster_id: own.cluster_id,
            node_id: own.node_id,
            incarnation: own.incarnation,
            starts: own.starts,
            level: LEVEL,
            to_node_id,
            purpose: purpose.into(),
            addresses: own.addresses,
            attempt: self.attempts.fetch_add(1, Ordering::Relaxed) + 1,
        })
    }
}

/// A connection over which frames flow; it ends when this is dropped.
struct OpenLane {
    replies: Streaming<Sealed>,
    /// The process at the other end.
    process: PeerProcess,
    _channel: Channel,
}

struct LaneTask {
    shared: Arc<Shared>,
    peer: u64,
    lane: Lane,
    queue: Arc<Queue>,
    /// The last refusal at each address since a connection came about, so that one that lasts is logged once.
    refusals: HashMap<String, Reason>,
}

impl LaneTask {
    /// Ends when the peer is gone from the table or the node from the other end of the event channel.
    async fn run(mut self, mut addresses: watch::Receiver<Addresses>) {
        let (mut backoff, mut attempt, mut first) = (BACKOFF_MIN, 0, String::new());
        loop {
            let target = {
                let addresses = addresses.borrow_and_update();
                if addresses.first() != first {
                    (attempt, first) = (0, addresses.first().to_owned());
                }
                self.target(&addresses, attempt)
            };
            let opened = tokio::select! {
                opened = dial::within(HANDSHAKE_DEADLINE, self.open(&target)) => opened,
                moved = moved(&mut addresses, &first) => if moved.is_ok() { continue } else { return },
            };
            match opened {
                Ok(lane) => {
                    (backoff, attempt) = (BACKOFF_MIN, 0);
                    self.refusals.clear();
                    self.shared.found(self.peer, &target, &addresses);
                    let Ok(()) = self.carry(lane, &target, &mut addresses).await else { return };
                }
                Err(error) => {
                    attempt += 1;
                    let Ok(()) = self.tell(target, &error).await else { return };
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => backoff = BACKOFF_MAX.min(backoff * 2),
                // News, or a sign of life.
                changed = addresses.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Where to try. Every other attempt is for where the peer should not be: at the listed address, if it said another one; and if somebody
    /// else is at its address, they may have changed places while nobody could tell this node, so it may be at any that the table knows.
    fn target(&self, addresses: &Addresses, attempt: usize) -> String {
        if attempt.is_multiple_of(2) {
            return addresses.first().to_owned();
        }
        if self.refusals.get(addresses.first()) == Some(&Reason::WrongNode) {
            let places = self.shared.places.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = places.get(attempt / 2 % places.len().max(1)) {
                return place.clone();
            }
        }
        addresses.listed.clone()
    }

    async fn open(&self, address: &str) -> Result<OpenLane, CallError> {
        let Shared { options, gate, .. } = &*self.shared;
        let not_ready = || CallError::Broken("this node has no identity yet".to_owned());
        let hello = self.shared.hello(self.peer, self.lane.into()).ok_or_else(not_ready)?;
        let channel = dial::connect(address).await?;
        let challenge = dial::challenge(&channel).await?;
        let (request, sealed) = dial::greeted(&options.seal, &challenge, &hello, self.queue.next_connection());
        let mut replies = LanesClient::new(channel.clone()).stream(request).await?.into_inner();
        let welcome = dial::read_hello_reply(&options.seal, &sealed, replies.message().await?)?;
        // This node's own judgement of the peer, which says nothing about this node: only the peer's refusal may end it.
        gate.check_server(self.peer, &welcome)
            .await
            .map_err(|refused| CallError::Broken(format!("this node does not accept the peer: {}", refused.detail)))?;
        Ok(OpenLane { replies, process: welcome.starts.process(self.peer), _channel: channel })
    }

    /// Lets frames flow until the connection ends, the peer is to be looked for elsewhere, or another process speaks for it. `Err` means that
    /// the task is to end.
    async fn carry(&self, mut lane: OpenLane, target: &str, addresses: &mut watch::Receiver<Addresses>) -> Result<(), ()> {
        let (peer, kind) = (self.peer, self.lane);
        let permit = self.shared.events.reserve().await.map_err(|_| ())?;
        self.queue.open();
        permit.send(PeerEvent::LaneUp { peer, lane: kind });
        tracing::debug!(peer, lane = ?kind, address = target, "connected");
        let mut judgements = self.shared.gate.watch();
        let (why, is_over) = loop {
            if !self.shared.gate.is_latest(lane.process) {
                break ("another process speaks for the peer".to_owned(), false);
            }
            tokio::select! {
                last = lane.replies.next() => match last {
                    Some(Err(status)) => break (status.message().to_owned(), false),
                    Some(Ok(_)) | None => break ("the other end closed it".to_owned(), false),
                },
                moved = moved(addresses, target) => break ("the address changed".to_owned(), moved.is_err()),
                _ = judgements.changed() => {}
            }
        };
        self.queue.close();
        if is_over {
            return Err(());
        }
        tracing::debug!(peer, lane = ?kind, address = target, why, "disconnected");
        self.shared.events.send(PeerEvent::LaneDown { peer, lane: kind }).await.map_err(|_| ())
    }

    /// Logs why a connection did not come about; a removal is told to the node. `Err` means that the task is to end.
    async fn tell(&mut self, address: String, error: &CallError) -> Result<(), ()> {
        let (peer, lane) = (self.peer, self.lane);
        self.queue.close();
        let reason = match error {
            CallError::Refused(refused) => refused.reason(),
            CallError::BadSecret => Reason::BadSecret,
            CallError::Unreachable(_) | CallError::TimedOut | CallError::Broken(_) => {
                tracing::debug!(peer, ?lane, address, %error, "no connection");
                return Ok(());
            }
        };
        if self.refusals.get(&address) != Some(&reason) {
            if passes(reason) {
                tracing::debug!(peer, ?lane, address, %error, "the peer does not let this node in yet");
            } else {
                tracing::warn!(peer, ?lane, address, %error, "the peer does not let this node in");
            }
            self.refusals.insert(address, reason);
        }
        let event = match reason {
            Reason::Removed => PeerEvent::RemovedFromCluster { by: peer },
            // This directory is a copy, or was one day: another process has spoken for it since.
            Reason::OldBoot | Reason::DuplicateIncarnation | Reason::WrongIncarnation => {
                PeerEvent::Disowned { by: peer, why: error.to_string() }
            }
            Reason::Unspecified
            | Reason::WrongCluster
            | Reason::WrongNode
            | Reason::NotMember
            | Reason::BadSecret
            | Reason::Level
            | Reason::NotReady
            | Reason::Superseded
            | Reason::Malformed => return Ok(()),
        };
        self.shared.events.send(event).await.map_err(|_| ())
    }
}

/// Waits until the peer is to be looked for at another address first. An error when it is gone from the table.
async fn moved(addresses: &mut watch::Receiver<Addresses>, first: &str) -> Result<(), watch::error::RecvError> {
    addresses.wait_for(|now| now.first() != first).await.map(drop)
}

/// Whether a refusal passes by itself: one of the two nodes is starting, joining or moving.
const fn passes(reason: Reason) -> bool {
    match reason {
        Reason::NotReady | Reason::NotMember | Reason::WrongNode | Reason::Superseded => true,
        Reason::Unspecified
        | Reason::WrongCluster
        | Reason::Removed
        | Reason::WrongIncarnation
        | Reason::OldBoot
        | Reason::DuplicateIncarnation
        | Reason::BadSecret
        | Reason::Level
        | Reason::Malformed => false,
    }
}
