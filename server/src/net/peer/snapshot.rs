//! Transfers of Raft snapshots: files streamed in checksummed chunks over a connection of their own.
//! The receiver writes into `in-<from>-<index>.part` and gives the directory its final name when every byte is there and synced, so that a
//! directory without `.part` is always whole. It names the files itself; nothing a peer sends becomes part of a path but numbers. Files are
//! read and written on blocking threads; the channels between them and the stream hold a few chunks.
//! There is no checksum per file: every chunk has one and must be the next one, and a sum over the file would read it twice.
//! Invariant: a group has at most one transfer coming in; what a broken one left is deleted with it, at the next one, or at the next start.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::connection::HANDSHAKE_DEADLINE;
use super::dial::{self, CallError};
use super::gate::Ticket;
use super::wire::service::lanes_client::LanesClient;
use super::wire::{Hello, Nothing, Part, SnapshotChunk, SnapshotFile, SnapshotHeader, SnapshotPart, SnapshotReply, SnapshotState};
use super::{Gate, PeerEvent, PeerOptions};
use crate::node::SnapshotCount;

/// How long a transfer may make no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the sender looks whether there was progress.
const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Chunks between a blocking thread and the stream.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Bytes written between two syncs: what else waits for the disk waits for each of them.
const SYNC_BYTES: u64 = 8 << 20;
/// Files of one snapshot.
const FILES_MAX: usize = 100_000;

/// Suffix of a directory that is not whole.
const PART_SUFFIX: &str = ".part";

/// A Raft snapshot to be sent.
#[derive(Clone, Debug)]
pub struct OutgoingSnapshot {
    /// The group it belongs to.
    pub group: u32,
    /// Its index.
    pub index: u64,
    /// The `raft::eraftpb::Message` with its metadata.
    pub message: Bytes,
    /// Column family and path of every file; they must not change, and are deleted one by one when they are sent.
    pub files: Vec<(u8, PathBuf)>,
    /// Counts what is sent of them.
    pub count: Arc<SnapshotCount>,
}

/// A Raft snapshot that has come in. Who takes it deletes the directory in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSnapshot {
    /// The group it belongs to.
    pub group: u32,
    /// Its index, as the sender said beside the message.
    pub index: u64,
    /// The `raft::eraftpb::Message` with its metadata.
    pub message: Bytes,
    /// Where its files are.
    pub dir: PathBuf,
    /// Column family and path of every file, in the order in which they were sent.
    pub files: Vec<(u8, PathBuf)>,
}

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The peer is not in the table.
    #[error("there is no such peer")]
    NoSuchPeer,
    /// The connection did not come about, or broke.
    #[error("{0}")]
    Call(#[from] CallError),
    /// Nothing moved for `STALL_TIMEOUT`.
    #[error("no progress for {} seconds", STALL_TIMEOUT.as_secs())]
    Stalled,
    /// A file cannot be read.
    #[error("cannot read a file of the snapshot: {0}")]
    Read(#[source] io::Error),
    /// The receiver did not take it; one line why.
    #[error("the receiver says: {0}")]
    Failed(String),
}

/// Deletes the directories of snapshots that came in whole and were never taken over, but not `keep`: for the start of a node, which knows
/// which one it still needs.
/// # Errors
/// A directory cannot be deleted.
pub fn remove_received_snapshots(snapshots_dir: &Path, keep: Option<&Path>) -> io::Result<()> {
    remove_directories(snapshots_dir, |path, name| name.starts_with("in-") && Some(path) != keep)
}

/// Deletes what broken transfers have left, of all groups or of one.
pub(super) fn remove_broken(snapshots_dir: &Path, group: Option<u32>) -> io::Result<()> {
    let prefix = group.map_or_else(|| "in-".to_owned(), part_prefix);
    remove_directories(snapshots_dir, |_, name| name.starts_with(&prefix) && name.ends_with(PART_SUFFIX))
}

fn part_prefix(group: u32) -> String {
    format!("in-g{group}-")
}

fn remove_directories(parent: &Path, doomed: impl Fn(&Path, &str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| doomed(&entry.path(), name)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

// Sending.

/// Sends a snapshot; see `PeerNetwork::send_snapshot`.
pub(super) async fn send(
    options: &PeerOptions,
    gate: &Gate,
    address: &str,
    hello: &Hello,
    snapshot: OutgoingSnapshot,
) -> Result<(), SnapshotError> {
    let (parts, stream) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let mut replies = dial::within(HANDSHAKE_DEADLINE, async {
        let channel = dial::connect(address).await?;
        let challenge = dial::challenge(&channel).await?;
        let (request, sealed) = dial::greeted(&options.seal, &challenge, hello, ReceiverStream::new(stream));
        let mut replies = LanesClient::new(channel).snapshot(request).await?.into_inner();
        let reply = match replies.message().await?.and_then(|reply: SnapshotReply| reply.state) {
            Some(SnapshotState::Hello(reply)) => Some(reply),
            Some(SnapshotState::Progress(_) | SnapshotState::Done(_) | SnapshotState::Failed(_)) | None => None,
        };
        let welcome = dial::read_hello_reply(&options.seal, &sealed, reply)?;
        gate.check_server(hello.to_node_id, &welcome).await.map_err(CallError::Refused)?;
        Ok(replies)
    })
    .await?;

    let (count, chunk_bytes) = (snapshot.count.clone(), options.snapshot_chunk_bytes);
    // The channel comes back, so that the stream does not end before it is known whether the files were read.
    let mut reading = spawn_blocking(move || (read_files(&snapshot, chunk_bytes, &parts), parts));
    let mut is_reading = true;
    let mut check = tokio::time::interval(STALL_CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last_sent, mut moved_at) = (0, Instant::now());
    loop {
        tokio::select! {
            reply = replies.message() => {
                moved_at = Instant::now();
                match reply.map_err(CallError::from)?.and_then(|reply| reply.state) {
                    Some(SnapshotState::Progress(Nothing {})) => {}
                    Some(SnapshotState::Done(Nothing {})) => return Ok(()),
                    Some(SnapshotState::Failed(text)) => return Err(SnapshotError::Failed(text)),
                    Some(SnapshotState::Hello(_)) | None => {
                        return Err(CallError::Broken("the receiver went away".to_owned()).into());
                    }
                }
            }
            outcome = &mut reading, if is_reading => {
                is_reading = false;
                let (outcome, _end_of_stream) = outcome.map_err(|error| SnapshotError::Read(io::Error::other(error)))?;
                outcome.map_err(SnapshotError::Read)?;
            }
            _ = check.tick() => {
                let now_sent = count.get().sent_bytes;
                if now_sent != last_sent {
                    (last_sent, moved_at) = (now_sent, Instant::now());
                } else if moved_at.elapsed() >= STALL_TIMEOUT {
                    return Err(SnapshotError::Stalled);
                }
            }
        }
    }
}

/// Puts the header and all chunks into the channel; ends early, and well, when nobody takes them any more.
fn read_files(snapshot: &OutgoingSnapshot, chunk_bytes: usize, parts: &mpsc::Sender<SnapshotPart>) -> io::Result<()> {
    let mut files = Vec::with_capacity(snapshot.files.len());
    for (cf, path) in &snapshot.files {
        files.push(SnapshotFile { cf: u32::from(*cf), bytes: fs::metadata(path)?.len() });
    }
    let sizes: Vec<u64> = files.iter().map(|file| file.bytes).collect();
    snapshot.count.begin(sizes.iter().sum());
    let header = SnapshotHeader { group: snapshot.group, index: snapshot.index, message: snapshot.message.clone(), files };
    if parts.blocking_send(SnapshotPart { part: Some(Part::Header(header)) }).is_err() {
        return Ok(());
    }
    for (number, ((_, path), bytes)) in (0..).zip(snapshot.files.iter().zip(sizes)) {
        let mut file = File::open(path)?;
        let mut offset = 0;
        while offset < bytes {
            let length = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(chunk_bytes);
            let mut data = vec![0; length];
            file.read_exact(&mut data)?;
            let chunk = SnapshotChunk { file: number, offset, crc32: crc32fast::hash(&data), data: data.into() };
            if parts.blocking_send(SnapshotPart { part: Some(Part::Chunk(chunk)) }).is_err() {
                return Ok(());
            }
            offset += length as u64;
            snapshot.count.add(length);
        }
        // Room for others; and a disk that is told of all of it at once has no time for them.
        fs::remove_file(path)?;
    }
    Ok(())
}

// Receiving.

/// The transfers that come in.
pub(super) struct Receiving {
    directory: PathBuf,
    /// Groups that have a transfer. A mutex because a transfer belongs to its connection's task.
    busy: Arc<Mutex<HashSet<u32>>>,
}

/// Marks a group as busy while it lives. It belongs to the writing thread, which may outlive the stream by one write.
struct Busy {
    groups: Arc<Mutex<HashSet<u32>>>,
    group: u32,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.group);
    }
}

impl Receiving {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, busy: Arc::default() }
    }

    /// Takes a transfer in and hands it to the node. An error is one line for the sender.
    pub(super) async fn receive(
        &self,
        gate: &Gate,
        events: &mpsc::Sender<PeerEvent>,
        ticket: Ticket,
        mut parts: Streaming<SnapshotPart>,
        replies: &mpsc::Sender<Result<SnapshotReply, Status>>,
    ) -> Result<(), String> {
        let from = ticket.node_id;
        let Some(Part::Header(header)) = next_part(gate, &ticket, &mut parts).await? else { return Err("no header".to_owned()) };
        let busy = self.begin(header.group)?;
        let mut transfer = Transfer::new(&self.directory, from, header)?;
        tracing::info!(from, index = transfer.header.index, bytes = transfer.bytes, "snapshot coming in");
        let (chunks, mut queue) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let progress = replies.clone();
        let mut writing = spawn_blocking(move || {
            let outcome = transfer.write(&mut queue, || {
                // A full channel has progress in it already.
                let _ = progress.try_send(Ok(SnapshotReply { state: Some(SnapshotState::Progress(Nothing {})) }));
            });
            let outcome = outcome.inspect_err(|_| transfer.discard());
            drop(busy);
            outcome
        });
        let fed = async {
            loop {
                match next_part(gate, &ticket, &mut parts).await? {
                    Some(Part::Chunk(chunk)) => {
                        if chunks.send(chunk).await.is_err() {
                            // The writer has given up and knows why.
                            return Ok(());
                        }
                    }
                    Some(Part::Header(_)) => return Err("a second header".to_owned()),
                    None => return Ok(()),
                }
            }
        };
        let fed: Result<(), String> = fed.await;
        drop(chunks);
        let snapshot = (&mut writing).await.map_err(|error| error.to_string())?;
        let outcome = match (fed, snapshot) {
            (Ok(()), outcome) => outcome,
            (Err(text), Err(_)) => Err(text),
            // Whole, whatever the stream said in the end.
            (Err(_), Ok(snapshot)) => Ok(snapshot),
        };
        let snapshot = outcome.inspect_err(|error| tracing::warn!(from, error, "a snapshot did not come in"))?;
        let dir = snapshot.dir.clone();
        let permit = events.reserve().await.map_err(|_| "the node is stopping".to_owned());
        let delivered = permit.map(|permit| gate.deliver(&ticket, permit, PeerEvent::SnapshotReceived { from, snapshot }));
        match delivered {
            Ok(true) => Ok(()),
            outcome => {
                let removed = spawn_blocking(move || fs::remove_dir_all(dir)).await.map_err(io::Error::other).flatten();
                if let Err(error) = removed {
                    tracing::warn!(from, %error, "a snapshot that nobody takes was not deleted");
                }
                Err(outcome.err().unwrap_or_else(|| "the sender is out of date".to_owned()))
            }
        }
    }

    fn begin(&self, group: u32) -> Result<Busy, String> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(group) {
            return Err("another snapshot of the group is coming in".to_owned());
        }
        Ok(Busy { groups: self.busy.clone(), group })
    }
}

async fn next_part(gate: &Gate, ticket: &Ticket, parts: &mut Streaming<SnapshotPart>) -> Result<Option<Part>, String> {
    let next = tokio::time::timeout(STALL_TIMEOUT, parts.message()).await.map_err(|_| "nothing came for too long".to_owned())?;
    if !gate.is_current(ticket) {
        return Err("the sender is out of date".to_owned());
    }
    match next {
        Ok(Some(SnapshotPart { part: Some(part) })) => Ok(Some(part)),
        Ok(Some(SnapshotPart { part: None })) => Err("an unknown part".to_owned()),
        Ok(None) => Ok(None),
        Err(status) => Err(format!("the stream broke: {}", status.message())),
    }
}

/// One transfer on its way to the disk. The group must have no other at the same time.
pub struct Transfer {
    header: SnapshotHeader,
    /// Of all files.
    bytes: u64,
    from: u64,
    parent: PathBuf,
    part: PathBuf,
}

impl Transfer {
    /// The transfer that this header of a peer announces, into a directory of its own below `parent`.
    /// # Errors
    /// The header announces what no snapshot has; one line.
    pub fn new(parent: &Path, from: u64, header: SnapshotHeader) -> Result<Self, String> {
        if header.files.len() > FILES_MAX {
            return Err(format!("{} files are too many", header.files.len()));
        }
        if let Some(file) = header.files.iter().find(|file| u8::try_from(file.cf).is_err()) {
            return Err(format!("there is no column family {}", file.cf));
        }
        let bytes = header.files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.bytes));
        let bytes = bytes.ok_or("the files are longer than any disk")?;
        let part = parent.join(format!("{}{from}-{}{PART_SUFFIX}", part_prefix(header.group), header.index));
        Ok(Self { header, bytes, from, parent: parent.to_owned(), part })
    }

    /// Writes what comes until every file is whole; then makes all of it durable under its final name. Blocks; `progress` is called when
    /// something more is on the disk.
    /// # Errors
    /// A chunk is not the one that is due, the chunks end too early or too late, or the disk fails; one line. What was written is left to
    /// `discard`.
    pub fn write(&mut self, chunks: &mut mpsc::Receiver<SnapshotChunk>, progress: impl Fn()) -> Result<ReceivedSnapshot, String> {
        let failed = |error: io::Error| format!("cannot write the snapshot: {error}");
        fs::create_dir_all(&self.parent).map_err(failed)?;
        remove_broken(&self.parent, Some(self.header.group)).map_err(failed)?;
        // A disk that it fills would end this node.
        let space = rustix::fs::statvfs(&self.parent).map_err(io::Error::from).map_err(failed)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < self.bytes {
            return Err(format!("there is no room: the snapshot has {} bytes, the disk {free}", self.bytes));
        }
        fs::create_dir(&self.part).map_err(failed)?;
        for (number, declared) in (0..).zip(&self.header.files) {
            let mut file = File::create_new(self.part.join(file_name(number))).map_err(failed)?;
            let (mut written, mut synced) = (0, 0);
            while written < declared.bytes {
                let chunk = chunks.blocking_recv().ok_or("the transfer broke off")?;
                check_chunk(&chunk, number, written, declared.bytes)?;
                file.write_all(&chunk.data).map_err(failed)?;
                written += chunk.data.len() as u64;
                if written - synced >= SYNC_BYTES {
                    file.sync_data().map_err(failed)?;
                    synced = written;
                    progress();
                }
            }
            file.sync_all().map_err(failed)?;
            progress();
        }
        if chunks.blocking_recv().is_some() {
            return Err("more bytes than were declared".to_owned());
        }
        File::open(&self.part).and_then(|directory| directory.sync_all()).map_err(failed)?;
        let dir = self.final_directory();
        fs::rename(&self.part, &dir).map_err(failed)?;
        File::open(&self.parent).and_then(|directory| directory.sync_all()).map_err(failed)?;
        let files = (0..).zip(&self.header.files);
        let files = files.map(|(number, file)| (u8::try_from(file.cf).unwrap_or(u8::MAX), dir.join(file_name(number)))).collect();
        Ok(ReceivedSnapshot { group: self.header.group, index: self.header.index, message: self.header.message.clone(), dir, files })
    }

    /// A name that is free: the same snapshot may have come in before, and may be in use.
    fn final_directory(&self) -> PathBuf {
        let stem = format!("{}{}-{}", part_prefix(self.header.group), self.from, self.header.index);
        let names = std::iter::once(stem.clone()).chain((2..).map(|number: u64| format!("{stem}-{number}")));
        let mut free = names.map(|name| self.parent.join(name)).filter(|path| !path.exists());
        free.next().expect("some number is free")
    }

    /// Deletes what was written of a transfer that failed.
    pub fn discard(&self) {
        if let Err(error) = fs::remove_dir_all(&self.part)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.part.display(), %error, "what is left of a snapshot was not deleted");
        }
    }
}

fn file_name(number: u32) -> String {
    format!("{number:06}.sst")
}

fn check_chunk(chunk: &SnapshotChunk, file: u32, written: u64, declared: u64) -> Result<(), String> {
    if (chunk.file, chunk.offset) != (file, written) {
        return Err(format!("a chunk of file {} at {} where file {file} at {written} was due", chunk.file, chunk.offset));
    }
    if chunk.data.is_empty() || chunk.data.len() as u64 > declared - written {
        return Err("a chunk of a length that was not declared".to_owned());
    }
    if crc32fast::hash(&chunk.data) != chunk.crc32 {
        return Err(format!("bad checksum in file {file} at {written}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_no_snapshot_has_are_refused() {
        for (files, expected) in [
            (vec![(0, 1), (255, 2)], None),
            (vec![(0, u64::MAX)], None),
            (vec![(0, u64::MAX), (1, 1)], Some("the files are longer than any disk")),
            (vec![(256, 1)], Some("there is no column family 256")),
            (vec![(0, 1); FILES_MAX + 1], Some("100001 files are too many")),
        ] {
            let files = files.into_iter().map(|(cf, bytes)| SnapshotFile { cf, bytes }).collect();
            let header = SnapshotHeader { group: 1, index: 1, files, ..SnapshotHeader::default() };
            assert_eq!(Transfer::new(Path::new("nowhere"), 2, header).err().as_deref(), expected);
        }
    }

    #[test]
    fn a_snapshot_that_the_disk_has_no_room_for_is_refused_before_it_comes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = vec![SnapshotFile { cf: 0, bytes: u64::MAX }];
        let mut transfer =
            Transfer::new(dir.path(), 2, SnapshotHeader { group: 1, index: 1, files, ..SnapshotHeader::default() }).expect("a header");
        let (_sender, mut chunks) = mpsc::channel(1);
        let Err(refusal) = transfer.write(&mut chunks, || ()) else { panic!("no disk is so large") };
        assert!(refusal.starts_with("there is no room"), "{refusal}");
    }
}
