//! The data directory: two engines, the high-water mark, and who this node is.
//! `log/` holds the Raft log, `data/` the keyspace. Both carry the directory's incarnation and the node's identity; engines that disagree
//! do not belong together and are refused. The boot counter rises durably at each start, so that nothing of an earlier life is taken for
//! this one's.
//! A snapshot is installed under a durable marker in `data/`: `Importing` while the data is a mixture, `Resetting` from when the data is
//! complete until the log was replaced as well. A start finishes what a marker says. A directory whose recovery was begun (`recovery`) has a
//! marker, too, in `log/`, and is not started before that is finished.
//! Node records stand under group 0 in both engines; records are Protocol Buffers.

mod recovery;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{HardState, Message};
use raftlog::engine::{Cf, Durability, Engine, EngineError, ExportedFile, LayeredEngine, RocksEngine, RocksOptions, ViewKind, WriteBatch};
use raftlog::log::{
    Durable, ENTRIES_CF, ENTRIES_NAME, Found, GroupId, HighWater, LOG_CF, LOG_COLUMN_FAMILIES, LogPosition, LogStore, Mark, Persist,
    encode_bootstrap,
};

use super::core::{COLUMN_FAMILIES, GROUP, InitialState, Members, read_members, read_snapshot_contents};
use super::exit::{REJOIN, is_failed_sync, may_pass};
use super::fence;
use super::peer_record::{PeerProcesses, Starts};
use super::priority::compactions_step_back;
use crate::keyspace::{STATE, group_range, state_key};

pub use recovery::{Account, RecoveryError, Survivor};

/// Records of the node itself.
const NODE: GroupId = GroupId(0);
/// Memtables of `log/`: entries are written once and deleted soon.
const LOG_MEMTABLE_BYTES: usize = 64 << 20;
/// The share of the memtables of `data/` that one layer of recent changes has: two layers may grow to twice their size, and RocksDB needs as
/// much as one for taking it over.
const LAYERS_PER_MEMTABLES: usize = 4;
/// Block cache of `log/`: only entries that fell out of memory are read.
const LOG_CACHE_BYTES: usize = 8 << 20;

/// Who a node is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Identity {
    /// The cluster; empty before the node is a member.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// The node; 0 before it is a member.
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
    /// Random number of the directory.
    #[prost(uint64, tag = "3")]
    pub incarnation: u64,
}

/// How far the installation of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum InstallPhase {
    Unspecified = 0,
    /// The data is a mixture of before and after.
    Importing = 1,
    /// The data is the snapshot's; the log is still the old one.
    Resetting = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InstallFile {
    #[prost(uint32, tag = "1")]
    cf: u32,
    #[prost(string, tag = "2")]
    name: String,
}

/// The marker of an installation.
#[derive(Clone, PartialEq, prost::Message)]
struct Install {
    #[prost(enumeration = "InstallPhase", tag = "1")]
    phase: i32,
    /// Directory of the files, below `snapshots/`.
    #[prost(string, tag = "2")]
    dir: String,
    #[prost(message, repeated, tag = "3")]
    files: Vec<InstallFile>,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(uint64, tag = "5")]
    term: u64,
}

/// A received snapshot on disk.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    /// The directory, below `snapshots/`.
    pub dir: PathBuf,
    /// The files in it.
    pub files: Vec<ExportedFile>,
}

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A directory or file cannot be used.
    #[error("cannot use {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An engine failed.
    #[error("{path}: {source}")]
    Engine {
        /// Which.
        path: PathBuf,
        /// Why.
        source: EngineError,
    },
    /// The engines are of different nodes, or one of them is gone.
    #[error("log/ and data/ in {0} do not belong together, so this node cannot be trusted; {REJOIN}")]
    Mismatch(PathBuf),
    /// An earlier life of the node met damage, or was told that another process has spoken for it.
    #[error(
        "this node must not be started any more: {reason}; {REJOIN}; to start it all the same, if nobody else has its data, remove {path}"
    )]
    Fenced {
        /// The fence.
        path: PathBuf,
        /// What was met.
        reason: String,
    },
    /// The node is being made a cluster of its own, and that did not come to its end.
    #[error("the recovery of {0} was begun and is not finished: run the same `redraft cluster recover` again")]
    InRecovery(PathBuf),
    /// The high-water mark is damaged.
    #[error("{0} is damaged, so nobody can tell whether the Raft log is complete; {REJOIN}; if nobody else has its data, remove that file")]
    HighWater(PathBuf),
}

impl StorageError {
    /// Whether the cause may be gone at the next start.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.is(may_pass)
    }

    /// Whether the disk had no room.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.is(EngineError::is_disk_full)
    }

    /// Whether what is on the disk is not what it was, or nobody knows.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.is(|error| is_failed_sync(error) || matches!(error, EngineError::Corruption(_)))
    }

    /// Whether something could not be made durable. A later start would not find that out.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        self.is(is_failed_sync)
    }

    fn is(&self, kind: fn(&EngineError) -> bool) -> bool {
        match self {
            Self::Directory { source, .. } => kind(&EngineError::Io(source.to_string())),
            Self::Engine { source, .. } => kind(source),
            Self::Mismatch(_) | Self::Fenced { .. } | Self::InRecovery(_) | Self::HighWater(_) => false,
        }
    }
}

/// Sizes the configuration decides.
#[derive(Clone, Copy, Debug)]
pub struct StorageOptions {
    /// Block cache of `data/`, in bytes.
    pub block_cache_bytes: usize,
    /// Memtables of `data/`, in bytes.
    pub memtable_bytes: usize,
}

/// Makes a data directory, if there is none, and locks it for the life of this process: the engines lock what is theirs, but not against being
/// moved away, and threads use them until the very end.
/// # Errors
/// `Engine` with `Locked` when another process has it, else `Directory`.
pub fn lock(dir: &Path) -> Result<(), StorageError> {
    fs::create_dir_all(dir).map_err(|source| StorageError::Directory { path: dir.to_owned(), source })?;
    std::mem::forget(claim(dir)?);
    fence::watch(dir);
    Ok(())
}

/// Locks a data directory for as long as the file is open.
fn claim(dir: &Path) -> Result<File, StorageError> {
    let in_dir = |source| StorageError::Directory { path: dir.to_owned(), source };
    let directory = File::open(dir).map_err(in_dir)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => {
            Err(StorageError::Engine { path: dir.to_owned(), source: EngineError::Locked { path: dir.to_owned() } })
        }
        Err(TryLockError::Error(error)) => Err(in_dir(error)),
    }
}

/// An open data directory.
pub struct Storage {
    dir: PathBuf,
    /// The engine of the Raft log.
    pub log: Arc<dyn Engine>,
    /// The engine of the keyspace.
    pub data: Arc<dyn Engine>,
    high_water: HighWater,
    high_water_mark: Option<Mark>,
    identity: Identity,
    starts: Starts,
}

impl Storage {
    /// Opens or creates a data directory, finishes an interrupted installation, and counts the boot.
    /// # Errors
    /// See `StorageError`.
    pub fn open(dir: &Path, options: StorageOptions, random: u64) -> Result<Self, StorageError> {
        fs::create_dir_all(dir).map_err(|source| StorageError::Directory { path: dir.to_owned(), source })?;
        let (log, data) = open_engines(dir, options)?;
        compactions_step_back();
        Self::over(dir, Arc::new(log), Arc::new(data), random)
    }

    /// As `open`, over engines that are open already.
    /// # Errors
    /// See `StorageError`.
    pub fn over(dir: &Path, log: Arc<dyn Engine>, data: Arc<dyn Engine>, random: u64) -> Result<Self, StorageError> {
        let mut storage = Self::attach(dir, log, data, random)?;
        if storage.begun_recovery()?.is_some() {
            return Err(StorageError::InRecovery(dir.to_owned()));
        }
        storage.count_start(random)?;
        Ok(storage)
    }

    /// As `over`, without counting a boot, and also when a recovery was begun: to look at what is there.
    fn attach(dir: &Path, log: Arc<dyn Engine>, data: Arc<dyn Engine>, random: u64) -> Result<Self, StorageError> {
        let (high_water, found) = HighWater::open(&dir.join("high-water")).map_err(|source| in_high_water(dir, source))?;
        let mut storage = Self {
            dir: dir.to_owned(),
            log,
            data,
            high_water,
            high_water_mark: None,
            identity: Identity::default(),
            starts: Starts::default(),
        };
        storage.identify(random)?;
        storage.take_mark(found)?;
        storage.finish_install()?;
        Ok(storage)
    }

    fn identify(&mut self, random: u64) -> Result<(), StorageError> {
        let in_log = self.read::<Identity>(self.log.as_ref(), LOG_CF, "node/identity")?;
        let in_data = self.read::<Identity>(self.data.as_ref(), STATE, "node/identity")?;
        self.identity = match (in_log, in_data) {
            (None, None) if self.is_blank()? => {
                let identity = Identity { incarnation: random, ..Identity::default() };
                self.write_identity(&identity)?;
                identity
            }
            (Some(in_log), Some(in_data)) if in_log == in_data => in_log,
            // The identity is written to `data/` first; a crash in between is finished here.
            (Some(in_log), Some(in_data)) if in_log.incarnation == in_data.incarnation && in_log.node_id == 0 => {
                self.write_identity(&in_data)?;
                in_data
            }
            (None, Some(in_data)) if in_data.node_id == 0 => {
                self.write_identity(&in_data)?;
                in_data
            }
            // A recovery writes the new cluster to `data/` first; who takes it up again knows what is missing.
            (Some(in_log), Some(in_data)) if is_same_node(&in_log, &in_data) && self.begun_recovery()?.is_some() => in_log,
            _ => return Err(StorageError::Mismatch(self.dir.clone())),
        };
        Ok(())
    }

    fn take_mark(&mut self, found: Found) -> Result<(), StorageError> {
        let is_member = self.identity.node_id != 0;
        match found {
            Found::Mark(mark) if is_member => self.high_water_mark = Some(mark),
            Found::Damaged if is_member => return Err(StorageError::HighWater(self.dir.join("high-water"))),
            Found::Nothing if is_member => {
                tracing::warn!("there is no high-water mark: whether the Raft log has lost its end is not checked");
            }
            // Who is no member has promised nothing; a mark is of an earlier life.
            Found::Mark(_) | Found::Damaged | Found::Nothing => {}
        }
        // A mark that cannot be read is refused from now on, so there is one from the start.
        self.high_water.begin(self.high_water_mark.unwrap_or_default()).map_err(|source| in_high_water(&self.dir, source))
    }

    fn is_blank(&self) -> Result<bool, StorageError> {
        let failed = |source| StorageError::Engine { path: self.dir.clone(), source };
        let log = LogStore::durable(self.log.as_ref(), GROUP).map_err(failed)?;
        let data = read_snapshot_contents(self.data.view(ViewKind::Latest).as_ref()).map_err(failed)?;
        Ok(log == Durable::default() && data.position == LogPosition::default())
    }

    fn write_identity(&self, identity: &Identity) -> Result<(), StorageError> {
        self.put(self.data.as_ref(), STATE, "node/identity", Some(identity.encode_to_vec()))?;
        self.put(self.log.as_ref(), LOG_CF, "node/identity", Some(identity.encode_to_vec()))
    }

    fn count_start(&mut self, nonce: u64) -> Result<(), StorageError> {
        self.starts = self.read::<Starts>(self.log.as_ref(), LOG_CF, "node/boot")?.unwrap_or_default();
        self.starts.begin(nonce);
        self.put(self.log.as_ref(), LOG_CF, "node/boot", Some(self.starts.encode_to_vec()))
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How often this directory was started, this time included.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.starts.boot
    }

    /// The starts of this directory, this one included.
    #[must_use]
    pub fn starts(&self) -> &Starts {
        &self.starts
    }

    /// What the log must hold at least; `None` if nobody knows.
    #[must_use]
    pub fn high_water_mark(&self) -> Option<Mark> {
        self.high_water_mark
    }

    /// Where snapshots are staged.
    #[must_use]
    pub fn snapshots_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// The engine of the log and the high-water file, for the log writer.
    #[must_use]
    pub fn into_parts(self) -> (Arc<dyn Engine>, Arc<dyn Engine>, HighWater) {
        (self.log, self.data, self.high_water)
    }

    /// The founding that this node has agreed to, if it has.
    /// # Errors
    /// The engine's.
    pub fn pending_form(&self) -> Result<Option<Members>, StorageError> {
        self.read(self.log.as_ref(), LOG_CF, "node/form")
    }

    /// Agrees to a founding, durably.
    /// # Errors
    /// The engine's.
    pub fn persist_form(&self, members: &Members) -> Result<(), StorageError> {
        self.put(self.log.as_ref(), LOG_CF, "node/form", Some(members.encode_to_vec()))
    }

    /// Members to talk to before the first snapshot brings the table.
    /// # Errors
    /// The engine's.
    pub fn hints(&self) -> Result<Members, StorageError> {
        Ok(self.read(self.log.as_ref(), LOG_CF, "node/hints")?.unwrap_or_default())
    }

    /// The latest processes of the other members that this node has let in.
    /// # Errors
    /// The engine's.
    pub fn peers(&self) -> Result<PeerProcesses, StorageError> {
        read_peers(self.log.as_ref()).map_err(|source| StorageError::Engine { path: self.dir.clone(), source })
    }

    /// Becomes a founding member: the initial table and configuration, an empty log that begins at the initial position.
    /// # Errors
    /// The engine's.
    pub fn found(&mut self, members: Members, node_id: u64) -> Result<(), StorageError> {
        let identity = Identity { cluster_id: members.cluster_id.clone(), node_id, incarnation: self.identity.incarnation };
        let in_data = |source| StorageError::Engine { path: self.dir.join("data"), source };
        let in_log = |source| StorageError::Engine { path: self.dir.join("log"), source };
        InitialState { members }.write(self.data.as_ref()).map_err(in_data)?;
        self.data.sync().map_err(in_data)?;
        let mut batch = WriteBatch::default();
        encode_bootstrap(GROUP, &mut batch);
        self.log.write_synced(&batch).map_err(in_log)?;
        self.write_identity(&identity)?;
        self.identity = identity;
        Ok(())
    }

    /// Becomes a member without data: everything comes with the first snapshot.
    /// # Errors
    /// The engine's.
    pub fn join(&mut self, hints: &Members, node_id: u64) -> Result<(), StorageError> {
        let identity = Identity { cluster_id: hints.cluster_id.clone(), node_id, incarnation: self.identity.incarnation };
        // What a founding that was never finished has left.
        let in_data = |source| StorageError::Engine { path: self.dir.join("data"), source };
        let in_log = |source| StorageError::Engine { path: self.dir.join("log"), source };
        self.data.import(&group_range(GROUP), &[]).map_err(in_data)?;
        let mut batch = WriteBatch::default();
        for cf in [LOG_CF, ENTRIES_CF] {
            batch.delete_range(cf, group_range(GROUP));
        }
        batch.put(LOG_CF, state_key(NODE, "node/hints"), hints.encode_to_vec());
        self.log.write_synced(&batch).map_err(in_log)?;
        self.write_identity(&identity)?;
        self.identity = identity;
        Ok(())
    }

    /// Finishes an installation that a crash interrupted.
    fn finish_install(&mut self) -> Result<(), StorageError> {
        let Some(marker) = self.read::<Install>(self.data.as_ref(), STATE, "node/install")? else {
            return self.clear_snapshots();
        };
        tracing::info!(index = marker.index, "finishing the installation of a snapshot");
        let in_data = |source| StorageError::Engine { path: self.dir.join("data"), source };
        let in_log = |source| StorageError::Engine { path: self.dir.join("log"), source };
        if marker.phase() != InstallPhase::Resetting {
            let dir = self.snapshots_dir().join(&marker.dir);
            let files: Vec<_> = marker
                .files
                .iter()
                .map(|file| ExportedFile { cf: Cf(u8::try_from(file.cf).unwrap_or(u8::MAX)), path: dir.join(&file.name), bytes: 0 })
                .collect();
            self.data.import(&group_range(GROUP), &files).map_err(in_data)?;
        }
        let position = LogPosition { index: marker.index, term: marker.term };
        let Durable { mut hard_state, truncated, last } = LogStore::durable(self.log.as_ref(), GROUP).map_err(in_log)?;
        if truncated.index >= position.index {
            // The log was reset already, in one batch, and entries that follow may have been acknowledged since.
            self.put(self.data.as_ref(), STATE, "node/install", None)?;
            return self.clear_snapshots();
        }
        if hard_state.term < position.term {
            hard_state = HardState { term: position.term, ..HardState::default() };
        }
        hard_state.commit = position.index;
        let persist = Persist { hard_state: Some(hard_state), reset: Some(position), stale_to: last, ..Persist::default() };
        let mut batch = WriteBatch::default();
        persist.encode(GROUP, &mut batch);
        self.high_water.lower(position).map_err(|source| in_high_water(&self.dir, source))?;
        self.log.write_synced(&batch).map_err(in_log)?;
        self.high_water_mark = self.high_water_mark.map(|mark| Mark { last: position, ..mark });
        self.put(self.data.as_ref(), STATE, "node/install", None)?;
        self.clear_snapshots()
    }

    /// Leftovers of transfers are of no use to this life of the process. The name of the new directory is durable before a marker relies on
    /// what is in it.
    fn clear_snapshots(&self) -> Result<(), StorageError> {
        let dir = self.snapshots_dir();
        let used = |source| StorageError::Directory { path: dir.clone(), source };
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(used)?;
        }
        fs::create_dir_all(&dir).map_err(used)?;
        File::open(&self.dir).and_then(|directory| directory.sync_all()).map_err(used)
    }

    fn read<M: prost::Message + Default>(&self, engine: &dyn Engine, cf: Cf, name: &str) -> Result<Option<M>, StorageError> {
        read_record(engine, cf, name).map_err(|source| StorageError::Engine { path: self.dir.clone(), source })
    }

    fn put(&self, engine: &dyn Engine, cf: Cf, name: &str, value: Option<Vec<u8>>) -> Result<(), StorageError> {
        put_synced(engine, cf, name, value).map_err(|source| StorageError::Engine { path: self.dir.clone(), source })
    }
}

fn read_record<M: prost::Message + Default>(engine: &dyn Engine, cf: Cf, name: &str) -> Result<Option<M>, EngineError> {
    let Some(bytes) = engine.view(ViewKind::Latest).get(cf, &state_key(NODE, name))? else { return Ok(None) };
    M::decode(bytes).map(Some).map_err(|_| EngineError::Corruption(format!("{name} cannot be read")))
}

/// The processes of the other members on record in `log/`.
/// # Errors
/// The engine's.
pub fn read_peers(log: &dyn Engine) -> Result<PeerProcesses, EngineError> {
    Ok(read_record(log, LOG_CF, "node/peers")?.unwrap_or_default())
}

/// Records the processes of the other members in `log/`, durably.
/// # Errors
/// The engine's.
pub fn persist_peers(log: &dyn Engine, peers: &PeerProcesses) -> Result<(), EngineError> {
    put_synced(log, LOG_CF, "node/peers", Some(peers.encode_to_vec()))
}

fn put_synced(engine: &dyn Engine, cf: Cf, name: &str, value: Option<Vec<u8>>) -> Result<(), EngineError> {
    let mut batch = WriteBatch::default();
    match value {
        Some(value) => batch.put(cf, state_key(NODE, name), value),
        None => batch.delete(cf, state_key(NODE, name)),
    }
    engine.write_synced(&batch)
}

/// Replaces the data by a received snapshot, under its marker. `finish_install` must follow when the log is reset.
/// # Errors
/// The engine's; the node must stop, and its next start takes the installation up again.
pub fn install(data: &dyn Engine, snapshot: &SnapshotFiles, position: LogPosition) -> Result<(), EngineError> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let files = snapshot.files.iter().map(|file| InstallFile { cf: u32::from(file.cf.0), name: name(&file.path) }).collect();
    let mut marker =
        Install { phase: InstallPhase::Importing.into(), dir: name(&snapshot.dir), files, index: position.index, term: position.term };
    put_synced(data, STATE, "node/install", Some(marker.encode_to_vec()))?;
    data.import(&group_range(GROUP), &snapshot.files)?;
    marker.set_phase(InstallPhase::Resetting);
    put_synced(data, STATE, "node/install", Some(marker.encode_to_vec()))
}

/// The log was reset to the installed snapshot: the marker goes, and the files with it.
/// # Errors
/// The engine's.
pub fn finish_install(data: &dyn Engine, snapshot: &SnapshotFiles) -> Result<(), EngineError> {
    put_synced(data, STATE, "node/install", None)?;
    if let Err(error) = fs::remove_dir_all(&snapshot.dir) {
        tracing::warn!(dir = %snapshot.dir.display(), %error, "cannot remove an installed snapshot's files");
    }
    Ok(())
}

/// The receiver's copy of a message that carries a snapshot.
/// # Errors
/// None when the bytes are no such message.
#[must_use]
pub fn snapshot_message(bytes: &[u8]) -> Option<Message> {
    Message::parse_from_bytes(bytes).ok().filter(|message| message.has_snapshot())
}

fn is_same_node(one: &Identity, other: &Identity) -> bool {
    (one.node_id, one.incarnation) == (other.node_id, other.incarnation)
}

fn in_high_water(dir: &Path, source: std::io::Error) -> StorageError {
    StorageError::Directory { path: dir.join("high-water"), source }
}

/// The peer addresses of the other members, and the id of their cluster, as a directory remembers them: what its table says, or, before the
/// first snapshot, what it was told when it joined. Nothing else of the directory is judged, so this works with one that is damaged
/// elsewhere.
/// # Errors
/// The database that has them cannot be read.
pub fn remembered_peers(dir: &Path, options: StorageOptions) -> Result<(String, Vec<String>), StorageError> {
    let mut known = (Identity::default(), Members::default());
    let has = |part: &str| dir.join(part).try_exists().map_err(|source| StorageError::Directory { path: dir.join(part), source });
    if has("data")? {
        let data = open_data(dir, options)?;
        let failed = |source| StorageError::Engine { path: dir.join("data"), source };
        let identity = read_record(&data, STATE, "node/identity").map_err(failed)?.unwrap_or_default();
        known = (identity, read_members(data.view(ViewKind::Latest).as_ref()).map_err(failed)?);
    }
    if known.1.members.is_empty() && has("log")? {
        let log = open_log(dir)?;
        let hints = read_record(&log, LOG_CF, "node/hints");
        known.1 = hints.map_err(|source| StorageError::Engine { path: dir.join("log"), source })?.unwrap_or_default();
    }
    let (identity, members) = known;
    let others = members.members.into_iter().filter(|member| member.node_id != identity.node_id);
    Ok((members.cluster_id, others.map(|member| member.addresses.peer).collect()))
}

/// The engines of a directory that has no fence.
fn open_engines(dir: &Path, options: StorageOptions) -> Result<(RocksEngine, LayeredEngine), StorageError> {
    if let Some(reason) = fence::reason(dir).map_err(|source| StorageError::Directory { path: dir.to_owned(), source })? {
        return Err(StorageError::Fenced { path: dir.join(fence::FILE_NAME), reason });
    }
    let log = open_log(dir)?;
    let data = open_data(dir, options)?;
    let layer_bytes_max = options.memtable_bytes / LAYERS_PER_MEMTABLES;
    Ok((log, LayeredEngine::new(Box::new(data), COLUMN_FAMILIES.len(), layer_bytes_max)))
}

fn open_log(dir: &Path) -> Result<RocksEngine, StorageError> {
    let options = RocksOptions {
        column_families: LOG_COLUMN_FAMILIES.to_vec(),
        queues: vec![ENTRIES_NAME],
        memtable_bytes: LOG_MEMTABLE_BYTES,
        block_cache_bytes: LOG_CACHE_BYTES,
        durability: Durability::Wal,
    };
    open_engine(&dir.join("log"), &options)
}

fn open_data(dir: &Path, options: StorageOptions) -> Result<RocksEngine, StorageError> {
    let options = RocksOptions {
        column_families: COLUMN_FAMILIES.to_vec(),
        queues: Vec::new(),
        memtable_bytes: options.memtable_bytes,
        block_cache_bytes: options.block_cache_bytes,
        durability: Durability::Flush,
    };
    open_engine(&dir.join("data"), &options)
}

fn open_engine(path: &Path, options: &RocksOptions) -> Result<RocksEngine, StorageError> {
    RocksEngine::open(path, options).map_err(|source| StorageError::Engine { path: path.to_owned(), source })
}
