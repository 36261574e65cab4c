//! The server as a whole: opens the data directory, finds the node's cluster, starts the node and its listeners, and stops them in order.
//! Stopping (SIGTERM, SIGINT): hand leadership over, stop reading from clients, answer what was read, then end.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use raftlog::engine::{Cf, EngineError, ExportedFile};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::error::RequestError;
use crate::formation::{self, FormationError, Formed};
use crate::metrics::{Metric, Metrics};
use crate::net::admin::AdminServer;
use crate::net::client::{self, ClientServer};
use crate::net::peer::{
    AdminAnswer, CallError, Gate, Identity, OutgoingSnapshot, PeerClient, PeerEvent, PeerNetwork, PeerOptions, PeerServer,
};
use crate::node::ballast::Ballast;
use crate::node::core::{Addresses, AdminRequest, GROUP, JoinAnswer, LEVEL, Lane, Member, Members};
use crate::node::exit;
use crate::node::shell::{self, Event, Events, Network, StartError};
use crate::node::storage::{self, SnapshotFiles, Storage, StorageError, StorageOptions, snapshot_message};
use crate::node::{NodeHandle, PeerRecord, Role, SnapshotCount};
use crate::rejoin;

/// Most threads of the network.
const NETWORK_THREADS_MAX: usize = 16;
/// Reads that wait for the disk at a time, and files of snapshots. Each holds a view of the data.
const BLOCKING_THREADS_MAX: usize = 64;
/// Events of the peer network on their way to the node.
const PEER_EVENTS_MAX: usize = 4096;
/// How long a stopping leader waits for its successor.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the admin listener may take to end.
const ADMIN_PATIENCE: Duration = Duration::from_secs(4);
/// How often a node looks whether the table has its present addresses and level.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// How often the free disk space is looked at.
const DISK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the data is asked for failures in the background.
const DATA_INTERVAL: Duration = Duration::from_secs(1);
/// How often a waiting condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Why a server ended by itself. The exit code tells a supervisor whether starting it again makes sense.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The server cannot start as configured: a port is taken, a directory cannot be used. Nothing was changed.
    #[error("{0}")]
    CannotStart(String),
    /// The node cannot be trusted or is no longer a member. It must not be started again without an operator.
    #[error("{0}")]
    DoNotRestart(String),
    /// The same, because something could not be made durable, which a later start would not find out by itself.
    #[error("{0}; {rejoin}", rejoin = exit::REJOIN)]
    FailedSync(String),
    /// The system lacks something that it may have again: room on the disk, file descriptors, memory.
    #[error("{0}")]
    MayPass(String),
}

impl ServerError {
    /// Exit code of the process.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::CannotStart(_) => crate::cli::EXIT_USAGE,
            Self::DoNotRestart(_) | Self::FailedSync(_) => crate::cli::EXIT_DO_NOT_RESTART,
            Self::MayPass(_) => crate::cli::EXIT_RESTART,
        }
    }
}

fn cannot_start(error: impl std::fmt::Display) -> ServerError {
    ServerError::CannotStart(error.to_string())
}

impl From<client::ListenError> for ServerError {
    fn from(error: client::ListenError) -> Self {
        // Descriptors that are used up may be free again.
        let may_pass = exit::may_pass(&EngineError::Io(error.source.to_string()));
        if may_pass { Self::MayPass(error.to_string()) } else { cannot_start(error) }
    }
}

impl From<StorageError> for ServerError {
    fn from(error: StorageError) -> Self {
        let text = error.to_string();
        match error {
            error if error.may_pass() => Self::MayPass(text),
            error if error.is_failed_sync() => Self::FailedSync(text),
            StorageError::Mismatch(_) | StorageError::Fenced { .. } | StorageError::InRecovery(_) | StorageError::HighWater(_) => {
                Self::DoNotRestart(text)
            }
            error if error.is_damage() => Self::DoNotRestart(format!("{text}; {}", exit::REJOIN)),
            StorageError::Engine { .. } | StorageError::Directory { .. } => Self::CannotStart(text),
        }
    }
}

impl From<StartError> for ServerError {
    fn from(error: StartError) -> Self {
        match error {
            error if error.may_pass() => Self::MayPass(error.to_string()),
            error if error.is_failed_sync() => Self::FailedSync(error.to_string()),
            error => Self::DoNotRestart(format!("{error}; {}", exit::REJOIN)),
        }
    }
}

/// Runs a node until it is told to stop.
/// # Errors
/// The node cannot start, or must not go on.
pub fn run(config: Config) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(network_threads())
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(cannot_start)?;
    runtime.block_on(serve(config)).inspect_err(|error| {
        if let ServerError::FailedSync(reason) = error {
            exit::forbid_restart(reason);
        }
    })
}

/// Half of the processors serve the network; apply, log and core have threads of their own, and on two processors a second network thread
/// costs more wake-ups than it takes load off the first.
fn network_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, NETWORK_THREADS_MAX)
}

async fn serve(config: Config) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_start)?;
    let stop_signal = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (data_dir, listen) = (config.data_dir.clone(), config.listen.clone());
    let started = start(config);
    tokio::pin!(stop_signal);
    let Running { node, clients, admin, stop } = tokio::select! {
        running = started => running?,
        () = &mut stop_signal => return Ok(()),
    };
    tracing::info!(%listen, node_id = node.status().node_id, "ready");
    let admin = tokio::spawn(admin.serve());
    let mut clients = tokio::spawn(clients.serve());
    tokio::select! {
        () = &mut stop_signal => {}
        _ended = &mut clients => return Err(cannot_start("the client listener ended")),
    }
    tracing::info!("stopping");
    hand_over(&node).await;
    // The receivers are gone only if the listener has ended already.
    stop.send_replace(true);
    if clients.await.is_err() {
        tracing::warn!("the client listener did not end in order");
    }
    // Who is still being answered there waits no longer than the data does.
    if tokio::time::timeout(ADMIN_PATIENCE, admin).await.is_err() {
        tracing::warn!("the admin listener did not end in time");
    }
    let data = Arc::clone(node.data());
    let in_data = |source| StorageError::Engine { path: data_dir.join("data"), source };
    tokio::task::spawn_blocking(move || data.sync()).await.map_err(cannot_start)?.map_err(in_data)?;
    tracing::info!("stopped");
    Ok(())
}

/// A node that serves.
struct Running {
    node: NodeHandle,
    clients: ClientServer,
    admin: AdminServer,
    stop: watch::Sender<bool>,
}

async fn start(config: Config) -> Result<Running, ServerError> {
    // Whatever may be somebody else's is taken before anything is changed.
    let client_port = client::reserve(&config.listen.to_string()).await?;
    let admin_port = client::reserve(&config.admin_listen.to_string()).await?;
    storage::lock(&config.data_dir)?;
    let options = PeerOptions::from_config(&config);
    let gate = Gate::default();
    let (peer_events, peer_received) = mpsc::channel(PEER_EVENTS_MAX);
    let peer_listen = config.peer_listen.to_string();
    let peer_server = PeerServer::bind(&peer_listen, options.clone(), gate.clone(), peer_events.clone())
        .await
        .map_err(|source| client::ListenError { address: peer_listen.clone(), source })?;
    let prepared = tokio::task::spawn_blocking(move || rejoin::prepare(config));
    let config = Arc::new(prepared.await.map_err(cannot_start)?.map_err(cannot_start)?);
    let sizes = StorageOptions { block_cache_bytes: config.block_cache_bytes, memtable_bytes: config.memtable_bytes };
    let data_dir = config.data_dir.clone();
    let ballast = Ballast::new(&data_dir);
    let opened = tokio::task::spawn_blocking(move || ballast.open_with_room(|| Storage::open(&data_dir, sizes, rand::random())));
    let mut storage = opened.await.map_err(cannot_start)??;

    let addresses = Addresses {
        listen: config.advertise.to_string(),
        peer: config.advertise_peer.to_string(),
        admin: config.advertise_admin.to_string(),
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        // Peers are served until the process ends: they need this node's log until its clients are answered.
        if let Err(error) = peer_server.serve(std::future::pending()).await {
            tracing::error!(%error, "the peer listener ended");
        }
    });

    let client = PeerClient::new(&options);
    if storage.identity().node_id == 0 {
        form(&config, &mut storage, &addresses, &gate, &client).await?;
    } else if let Some(form) = storage.pending_form()? {
        // A founder that never got the form could be the one missing for a quorum; handing it on again costs one call each.
        tokio::spawn(formation::spread_form(client.clone(), gate.clone(), storage.identity().incarnation, form));
    }
    rejoin::finish(&config.data_dir).map_err(cannot_start)?;
    let own = storage.identity().clone();
    if let Some(wanted) = config.cluster_id.as_ref().filter(|wanted| **wanted != own.cluster_id) {
        let dir = config.data_dir.display();
        return Err(ServerError::CannotStart(format!("{dir} belongs to cluster {}, not to {wanted}", own.cluster_id)));
    }
    let identity = Identity {
        cluster_id: own.cluster_id.clone(),
        node_id: own.node_id,
        incarnation: own.incarnation,
        starts: storage.starts().clone(),
        addresses: addresses.clone(),
    };
    gate.set_identity(identity, &storage.hints()?, PeerRecord::start(Arc::clone(&storage.log), storage.peers()?));

    let network = PeerNetwork::new(options, gate.clone(), peer_events);
    let peers = Arc::new(Peers { network, gate, client, node_id: own.node_id, members: RwLock::default(), runtime: Handle::current() });
    let events = Events::new();
    let metrics = Arc::new(Metrics::default());
    let node = {
        let (events, network, config) = (events.clone(), Arc::<Peers>::clone(&peers), Arc::clone(&config));
        let metrics = Arc::clone(&metrics);
        let started = tokio::task::spawn_blocking(move || shell::start(storage, config, events, network, metrics, rand::random()));
        started.await.map_err(cannot_start)??
    };
    tokio::spawn(pump(peer_received, events, node.clone(), Arc::clone(&peers)));
    tokio::spawn(watch_disk(node.clone(), Arc::clone(&config), Arc::clone(&metrics)));
    tokio::spawn(watch_data(node.clone()));
    let present = Member { node_id: own.node_id, incarnation: own.incarnation, addresses, level: LEVEL };
    tokio::spawn(announce(node.clone(), peers, present));
    let clients = ClientServer::listen(client_port, config, node.clone(), metrics, stopped.clone())?;
    let admin = AdminServer::listen(admin_port, Arc::clone(clients.services()), stopped)?;
    Ok(Running { node, clients, admin, stop })
}

/// Finds or founds a cluster for a node without an identity, and stores what it becomes.
async fn form(config: &Config, storage: &mut Storage, addresses: &Addresses, gate: &Gate, client: &PeerClient) -> Result<(), ServerError> {
    let incarnation = storage.identity().incarnation;
    let pending = storage.pending_form()?;
    let persist = |members: &Members| storage.persist_form(members);
    let formed = formation::form(config, incarnation, addresses, gate, client, pending, persist).await.map_err(|error| match error {
        FormationError::Persist(error) => error.into(),
        error => cannot_start(error),
    })?;
    let Formed { members, node_id, founding } = formed;
    tracing::info!(cluster_id = members.cluster_id, node_id, founding, "this node is a member");
    if founding {
        storage.found(members, node_id)?
    } else {
        storage.join(&members, node_id)?
    }
    Ok(())
}

/// Waits until somebody else leads, if anybody else can.
async fn hand_over(node: &NodeHandle) {
    if node.status().role != Role::Leader {
        return;
    }
    let handed = async {
        while node.status().role == Role::Leader && node.status().members.iter().filter(|member| member.voter).count() > 1 {
            // Once per election timeout all peers look silent for a moment, so one request may find nobody.
            node.resign().await;
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(RESIGN_TIMEOUT, handed).await.is_err() {
        tracing::warn!("no other node took over leadership in time");
    }
}

/// Brings what the peer network tells to the core.
async fn pump(mut received: mpsc::Receiver<PeerEvent>, events: Events, node: NodeHandle, peers: Arc<Peers>) {
    while let Some(event) = received.recv().await {
        match event {
            PeerEvent::Frame { from, frame, .. } => events.send(Event::Frame(from, frame)).await,
            PeerEvent::LaneUp { peer, lane } => {
                if lane == Lane::Append {
                    node.set_reachable(peer, true);
                }
                events.send(Event::LaneUp(peer, lane)).await;
            }
            PeerEvent::LaneDown { peer, lane: Lane::Append } => {
                node.set_reachable(peer, false);
                events.send(Event::Unreachable(peer)).await;
            }
            // The table follows from what the node announces itself.
            PeerEvent::Hello { member, .. } => peers.network.follow(member.node_id, &member.addresses.peer),
            PeerEvent::LaneDown { .. } => {}
            PeerEvent::SnapshotReceived { from, snapshot } => {
                let Some(message) = snapshot_message(&snapshot.message).filter(|message| message.from == from) else {
                    tracing::warn!(from, "a peer sent a snapshot that cannot be read");
                    continue;
                };
                let file = |(cf, path): (u8, std::path::PathBuf)| ExportedFile { cf: Cf(cf), path, bytes: 0 };
                let files = SnapshotFiles { dir: snapshot.dir, files: snapshot.files.into_iter().map(file).collect() };
                events.send(Event::SnapshotReceived(Box::new((message, files)))).await;
            }
            PeerEvent::RemovedFromCluster { by } => {
                exit::stop_process(&format!("node {by} says that this node was removed from the cluster; {}", exit::REJOIN));
            }
            PeerEvent::Disowned { by, why } => {
                // Nor will any later start: others may not have heard of the process that spoke for this directory since.
                exit::stop_for_good(&format!("node {by} does not take this node for what it says it is ({why})"));
            }
            PeerEvent::Join { cluster_id, node: member, reply } => {
                let node = node.clone();
                // An asker that has gone away asks again.
                tokio::spawn(async move { drop(reply.send(node.join(cluster_id, member).await)) });
            }
            PeerEvent::Admin { request, reply } => {
                let (node, peers) = (node.clone(), Arc::clone(&peers));
                tokio::spawn(async move {
                    let answer = match node.administer(request).await {
                        Ok(()) => AdminAnswer::Done,
                        Err(RequestError::NoLeader) => AdminAnswer::Leader(peers.leader_address(&node).unwrap_or_default()),
                        Err(error) => AdminAnswer::Refused(error.to_string()),
                    };
                    drop(reply.send(answer));
                });
            }
        }
    }
}

/// Compares the free disk space with `disk-reserve` for ever, and makes the ballast where there is room.
async fn watch_disk(node: NodeHandle, config: Arc<Config>, metrics: Arc<Metrics>) {
    let ballast = Ballast::new(&config.data_dir);
    let mut interval = tokio::time::interval(DISK_INTERVAL);
    // So that a failure that lasts is logged once.
    let mut last_failure = None;
    loop {
        interval.tick().await;
        let (reserve, data_dir, ballast) = (config.runtime.values().disk_reserve, config.data_dir.clone(), ballast.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let space = rustix::fs::statvfs(&data_dir)?;
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            Ok::<_, std::io::Error>((free, free < reserve, ballast.make(free, reserve)))
        });
        // The process ends when the runtime does.
        let Ok(looked) = looked.await else { return };
        let failure = match looked {
            Ok((free, is_full, made)) => {
                metrics.set(Metric::DiskFreeBytes, free);
                node.set_disk_full(is_full);
                made.err().map(|error| format!("cannot make the ballast: {error}"))
            }
            Err(error) => Some(format!("cannot tell the free disk space: {error}")),
        };
        if let Some(failure) = failure.as_ref().filter(|_| failure != last_failure) {
            tracing::warn!("{failure}");
        }
        last_failure = failure;
    }
}

/// Ends the process when RocksDB has met damage in the background, as in a compaction, that no command has met.
async fn watch_data(node: NodeHandle) {
    let mut interval = tokio::time::interval(DATA_INTERVAL);
    loop {
        interval.tick().await;
        let data = Arc::clone(node.data());
        // The process ends when the runtime does.
        let Ok(checked) = tokio::task::spawn_blocking(move || data.check()).await else { return };
        if let Err(error) = checked {
            exit::stop_for(&error, &format!("the data cannot be used any further: {error}"));
        }
    }
}

/// Tells the leader this node's addresses and level. Who does not lead goes on doing so when the table has them, for the table that comes
/// back: the leader may have become a member after this node's own table, which then lets it in as little as any stranger.
async fn announce(node: NodeHandle, peers: Arc<Peers>, present: Member) {
    let mut interval = tokio::time::interval(ANNOUNCE_INTERVAL);
    loop {
        interval.tick().await;
        if node.status().role != Role::Leader {
            peers.announce(&node, &present).await;
        } else if peers.members().get(present.node_id) != Some(&present) {
            node.join(None, present.clone()).await;
        }
    }
}

/// The peer network as the node sees it.
struct Peers {
    network: PeerNetwork,
    gate: Gate,
    client: PeerClient,
    node_id: u64,
    members: RwLock<Arc<Members>>,
    runtime: Handle,
}

impl Peers {
    fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn address(&self, node_id: u64) -> Option<String> {
        self.members().get(node_id).map(|member| member.addresses.peer.clone())
    }

    /// Asks the leader, or whoever knows it, to put this node's present addresses into the table. Who has moved hears nobody and does not
    /// know the leader. It names its cluster: who answers may be of another one by now, and a copy of the directory that became it would
    /// take over the addresses of its node.
    async fn announce(&self, node: &NodeHandle, present: &Member) {
        let own = self.gate.identity();
        let cluster_id = own.as_ref().map(|own| own.cluster_id.as_str());
        let known = self.leader_address(node).into_iter();
        let members = self.members();
        let others = members.members.iter().filter(|member| member.node_id != present.node_id).map(|member| member.addresses.peer.clone());
        for address in known.chain(others) {
            let answer = match self.client.join(&address, cluster_id, present).await {
                Ok(JoinAnswer::Leader(leader)) => self.client.join(&leader, cluster_id, present).await,
                answer => answer,
            };
            match answer {
                Ok(JoinAnswer::Joined { members, .. }) => return self.set_members(&members),
                Ok(JoinAnswer::Leader(_) | JoinAnswer::Wait) => {}
                Ok(JoinAnswer::Refused(reason)) => tracing::warn!(reason, "the cluster does not take this node's addresses"),
                Err(error) => tracing::debug!(address, %error, "cannot tell this node's addresses"),
            }
        }
    }

    fn leader_address(&self, node: &NodeHandle) -> Option<String> {
        node.status().leader_id.and_then(|leader| self.address(leader))
    }
}

impl Network for Peers {
    fn send(&self, to: u64, lane: Lane, frame: raftlog::message::Frame) -> bool {
        self.network.send(to, lane, frame).is_ok()
    }

    fn set_members(&self, members: &Members) {
        let mut newest = self.members.write().unwrap_or_else(PoisonError::into_inner);
        // Apply may be behind what another member has told.
        if members.is_older_than(&newest) {
            return;
        }
        *newest = Arc::new(members.clone());
        // With the lock held: a newer table must not be overtaken by this one on its way to the gate.
        self.gate.set_members(members);
        let nodes: Vec<_> = members.members.iter().map(|member| (member.node_id, member.addresses.peer.clone())).collect();
        self.network.set_peers(self.node_id, &nodes);
    }

    fn administer(&self, leader: u64, request: AdminRequest, answer: oneshot::Sender<Result<(), RequestError>>) {
        let (client, address) = (self.client.clone(), self.address(leader));
        self.runtime.spawn(async move {
            let result = match address {
                None => Err(RequestError::NoLeader),
                Some(address) => match client.admin(&address, request).await {
                    Ok(AdminAnswer::Done) => Ok(()),
                    Ok(AdminAnswer::Leader(_)) => Err(RequestError::NoLeader),
                    Ok(AdminAnswer::Refused(text)) => Err(refusal(&text)),
                    Err(CallError::Unreachable(_) | CallError::Refused(_) | CallError::BadSecret) => Err(RequestError::NoLeader),
                    Err(error) => {
                        tracing::warn!(leader, %error, "a request for the leader broke off");
                        Err(RequestError::Unknown)
                    }
                },
            };
            // An asker that has gone away wants no answer.
            drop(answer.send(result));
        });
    }

    fn send_snapshot(
        &self,
        to: u64,
        message: Bytes,
        files: SnapshotFiles,
        count: Arc<SnapshotCount>,
        wanted: oneshot::Receiver<()>,
        done: Box<dyn FnOnce(bool) + Send>,
    ) {
        let index = snapshot_message(&message).map_or(0, |message| message.get_snapshot().get_metadata().index);
        let files = files.files.into_iter().map(|file| (file.cf.0, file.path)).collect();
        let sending = self.network.send_snapshot(to, OutgoingSnapshot { group: GROUP.0, index, message, files, count });
        self.runtime.spawn(async move {
            let arrived = tokio::select! {
                result = sending => result.inspect_err(|error| tracing::warn!(to, %error, "a snapshot did not arrive")).is_ok(),
                // Nobody ever sends anything: the other end is gone.
                _ = wanted => false,
            };
            // Reporting may wait for room in the node's queue.
            tokio::task::spawn_blocking(move || done(arrived));
        });
    }
}

/// An error reply of another node as an error of this one; the prefix tells its kind.
fn refusal(text: &str) -> RequestError {
    match text.split_once(' ') {
        Some(("TRYAGAIN", rest)) => RequestError::TryAgain(rest.trim_end_matches("; not executed").to_owned().into()),
        Some(("TIMEOUT", _)) => RequestError::Unknown,
        Some(("ERR", rest)) => RequestError::Refused(rest.to_owned().into()),
        _ => RequestError::Refused(text.to_owned().into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::net::peer::Seal;
    use crate::node::core::Change;

    fn peers(gate: &Gate) -> Peers {
        let options = PeerOptions { seal: Seal::new(None), snapshot_chunk_bytes: 1, snapshots_dir: "unused".into() };
        let (events, _received) = mpsc::channel(1);
        let network = PeerNetwork::new(options.clone(), gate.clone(), events);
        let client = PeerClient::new(&options);
        Peers { network, gate: gate.clone(), client, node_id: 1, members: RwLock::default(), runtime: Handle::current() }
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_does_not_put_an_address_back() {
        let peers = peers(&Gate::default());
        let at = |peer: &str| Addresses { peer: peer.to_owned(), ..Addresses::default() };
        let before = Members::initial("c".repeat(40), LEVEL, [(101, at("127.0.0.1:1")), (102, at("127.0.0.1:2"))]);
        let mut moved = before.clone();
        moved.apply(&Change::Update(Member { node_id: 2, incarnation: 102, addresses: at("127.0.0.1:3"), level: LEVEL }));
        for table in [&before, &moved, &before] {
            peers.set_members(table);
        }
        assert_eq!(peers.address(2).as_deref(), Some("127.0.0.1:3"));
    }

    #[tokio::test]
    async fn a_table_is_not_put_back_at_the_gate_by_an_older_one() {
        let gate = Gate::default();
        let peers = peers(&gate);
        // Long ones, so that a table is on its way for a while.
        let table = |removed: u64| Members {
            removed: (10..10 + removed).collect(),
            changes: removed,
            ..Members::initial("c".repeat(40), LEVEL, [(101, Addresses::default())])
        };
        for round in 0..200 {
            let tables = [1, 2].map(|number| table(20_000 + 2 * round + number));
            let begin = Barrier::new(tables.len());
            thread::scope(|scope| {
                for table in &tables {
                    scope.spawn(|| {
                        begin.wait();
                        peers.set_members(table);
                    });
                }
            });
            let newest = *tables[1].removed.last().expect("many");
            assert!(gate.is_removed(newest), "the gate has the newer table, round {round}");
        }
    }
}
