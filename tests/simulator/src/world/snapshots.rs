//! Transfers of Raft snapshots, in the steps that `redraft::net::peer` takes: a connection of their own, chunk after chunk, the receiver's
//! directory, the word to its node, and the word back to the sender. Between any two of them each end may crash or learn of other things,
//! and the connection may break.

use bytes::Bytes;
use redraft::net::peer::wire::{SnapshotChunk, SnapshotFile, SnapshotHeader};
use redraft::node::core::GROUP;
use redraft::node::storage::{SnapshotFiles, snapshot_message};

use super::*;

/// Chunks that a snapshot is cut into, about, and their least size in bytes.
const CHUNKS: usize = 8;
const CHUNK_BYTES_MIN: usize = 64;

/// A snapshot on its way from one life of a machine to one of another.
pub(super) struct Transfer {
    from: (usize, u64),
    sender: PeerProcess,
    to: Option<(usize, u64)>,
    id: SnapshotId,
    message: Message,
    /// The sender's.
    files: SnapshotFiles,
    header: SnapshotHeader,
    chunks: Vec<SnapshotChunk>,
    /// Chunks that have come in.
    arrived: usize,
    /// After so many the connection breaks.
    breaks_at: usize,
    /// All of it is on the receiver's disk.
    is_whole: bool,
}

/// What happens next to a transfer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The sender connects.
    Open,
    /// A chunk comes in.
    Chunk,
    /// The receiver has everything and tells its node.
    Whole,
    /// The sender hears that it has arrived, or that it has not.
    Ended { arrived: bool },
}

impl Transfer {
    /// The machine that takes a step.
    pub(super) fn actor(&self, step: Step) -> usize {
        match (step, self.to) {
            (Step::Chunk | Step::Whole, Some((to, _))) => to,
            (Step::Open | Step::Chunk | Step::Whole | Step::Ended { .. }, _) => self.from.0,
        }
    }

    fn is_coming_to(&self, to: (usize, u64)) -> bool {
        self.to == Some(to) && !self.is_whole
    }

    /// Reads the sender's files.
    fn read(&mut self) {
        let read = |file: &ExportedFile| std::fs::read(&file.path).expect("the directory is ours");
        let contents: Vec<Bytes> = self.files.files.iter().map(|file| read(file).into()).collect();
        let chunk_bytes = (contents.iter().map(Bytes::len).sum::<usize>() / CHUNKS).max(CHUNK_BYTES_MIN);
        let message = self.message.write_to_bytes().expect("a message in memory can be encoded").into();
        let files = self.files.files.iter().zip(&contents);
        let files = files.map(|(file, contents)| SnapshotFile { cf: file.cf.0.into(), bytes: contents.len() as u64 }).collect();
        self.header = SnapshotHeader { group: GROUP.0, index: self.message.get_snapshot().get_metadata().index, message, files };
        for (file, contents) in (0..).zip(&contents) {
            for from in (0..contents.len()).step_by(chunk_bytes) {
                let data = contents.slice(from..contents.len().min(from + chunk_bytes));
                self.chunks.push(SnapshotChunk { file, offset: from as u64, crc32: crc32fast::hash(&data), data });
            }
        }
    }
}

impl World {
    /// A node sends a snapshot.
    pub(super) fn stream(&mut self, from: usize, id: SnapshotId, message: Message, files: SnapshotFiles) {
        let life = self.machines[from].life.as_ref().expect("a running node sends");
        let transfer = Transfer {
            from: (from, self.machines[from].era),
            sender: life.process(),
            to: None,
            id,
            message,
            files,
            header: SnapshotHeader::default(),
            chunks: Vec::new(),
            arrived: 0,
            breaks_at: usize::MAX,
            is_whole: false,
        };
        self.serial += 1;
        self.transfers.insert(self.serial, transfer);
        self.plan_step(self.serial, Step::Open);
    }

    fn plan_step(&mut self, number: u64, step: Step) {
        let us = self.random.random_range(100..40_000);
        self.plan_in(us, Event::Transfer(number, step));
    }

    pub(super) fn step(&mut self, number: u64, step: Step) -> Checked {
        let Some(transfer) = self.transfers.get(&number) else { return Ok(()) };
        let sender_lives = self.machines[transfer.from.0].era == transfer.from.1;
        let receiver_lives = transfer.to.is_some_and(|(to, era)| self.machines[to].era == era);
        self.trace.note(self.now_us, transfer.actor(step), format_args!("snapshot {number}: {step:?}"));
        match step {
            Step::Open if sender_lives => self.open_transfer(number),
            Step::Open => drop(self.transfers.remove(&number)),
            Step::Chunk | Step::Whole if !receiver_lives => self.plan_step(number, Step::Ended { arrived: false }),
            Step::Chunk => self.take_chunk(number, sender_lives),
            Step::Whole => self.take_snapshot(number),
            Step::Ended { arrived } => {
                let (from, to) = (transfer.from.0, transfer.to.map(|(to, _)| to));
                if let Some(until) = to.and_then(|to| self.cuts.get(&(to, from)).copied()) {
                    self.plan_at(until, Event::Transfer(number, step));
                    return Ok(());
                }
                let is_told = transfer.breaks_at > 0 && (receiver_lives || self.random.random_bool(0.5));
                return self.end_transfer(number, arrived && is_told);
            }
        }
        Ok(())
    }

    fn open_transfer(&mut self, number: u64) {
        let Transfer { from: (from, _), sender, ref message, .. } = self.transfers[&number];
        let receiver = message.to;
        let to = self.machines[from].life.as_ref().and_then(|life| slot_of(&life.members.get(receiver)?.addresses.peer));
        let is_there = |to: &usize| self.machines[*to].life.as_ref().is_some_and(|life| life.identity.node_id == receiver);
        let to = to.filter(is_there).filter(|to| self.reaches(from, *to) && self.lets_in(from, *to) && self.lets_in(*to, from));
        let to = to.map(|to| (to, self.machines[to].era));
        let Some(to) = to.filter(|to| !self.transfers.values().any(|other| other.is_coming_to(*to))) else {
            return self.plan_step(number, Step::Ended { arrived: false });
        };
        let is_broken = self.random.random_bool(self.plan.broken_snapshots) && !self.is_healing;
        let break_at = self.random.random_range(0..CHUNKS);
        let transfer = self.transfers.get_mut(&number).expect("it is under way");
        transfer.to = Some(to);
        transfer.read();
        if is_broken {
            transfer.breaks_at = break_at.min(transfer.chunks.len());
        }
        self.trace.note(self.now_us, to.0, format_args!("snapshot {number} comes from node {}", sender.node_id));
        self.plan_step(number, Step::Chunk);
        // Another leads before it has arrived: dealt handovers seldom come then.
        if self.plan.rates.transfer > 0.0 && !self.is_healing && self.random.random_bool(0.15) {
            let us = self.random.random_range(0..100_000);
            self.plan_in(us, Event::HandOver(from, self.machines[from].era));
        }
    }

    /// What was under way when the sender died may still arrive.
    fn take_chunk(&mut self, number: u64, sender_lives: bool) {
        let is_lost = !sender_lives && self.random.random_bool(0.3);
        let transfer = self.transfers.get_mut(&number).expect("it is under way");
        let (from, to) = (transfer.from.0, transfer.to.expect("it is connected").0);
        if let Some(until) = self.cuts.get(&(from, to)).copied() {
            return self.plan_at(until, Event::Transfer(number, Step::Chunk));
        }
        if is_lost || transfer.arrived >= transfer.breaks_at {
            if let Err(broken) = self.machines[to].receive(transfer.sender.node_id, &transfer.header, &transfer.chunks[..transfer.arrived])
            {
                broken.discard();
            }
            if !is_lost {
                self.counts.incidents.note(Incident::SnapshotBroken);
            }
            return self.plan_step(number, Step::Ended { arrived: false });
        }
        transfer.arrived = transfer.chunks.len().min(transfer.arrived + 1);
        let step = if transfer.arrived == transfer.chunks.len() { Step::Whole } else { Step::Chunk };
        self.plan_step(number, step);
    }

    fn take_snapshot(&mut self, number: u64) {
        let transfer = self.transfers.get_mut(&number).expect("it is under way");
        transfer.is_whole = true;
        let (sender, (to, era)) = (transfer.sender, transfer.to.expect("it is connected"));
        let files = self.machines[to].receive(sender.node_id, &transfer.header, &transfer.chunks).ok().expect("all of it is there");
        let message = snapshot_message(&transfer.header.message).expect("it has a snapshot");
        let arrived = self.is_current(to, sender);
        if arrived {
            self.counts.snapshots += 1;
            self.note_age(number);
            let us = self.random.random_range(10..2_000);
            self.plan_in(us, Event::SnapshotReceived(to, era, Box::new((message, files))));
            self.risk(to, 0.05, us);
        } else {
            std::fs::remove_dir_all(&files.dir).expect("the directory is ours");
        }
        self.plan_step(number, Step::Ended { arrived });
    }

    /// Counts what has happened since a snapshot was sent.
    fn note_age(&mut self, number: u64) {
        let Transfer { from: (from, era), header, .. } = &self.transfers[&number];
        let Some(life) = self.machines[*from].life.as_ref().filter(|_| self.machines[*from].era == *era) else { return };
        if !self.machines[*from].leads() {
            self.counts.incidents.note(Incident::SnapshotOfEarlierLeader);
        }
        if life.core.group().commit_index() > header.index {
            self.counts.incidents.note(Incident::SnapshotBehindCommit);
        }
    }

    fn end_transfer(&mut self, number: u64, arrived: bool) -> Checked {
        let Some(Transfer { from: (from, era), id, files, .. }) = self.transfers.remove(&number) else { return Ok(()) };
        if self.machines[from].era != era {
            return Ok(());
        }
        std::fs::remove_dir_all(&files.dir).expect("the directory is ours");
        let now = self.now(from);
        self.machines[from].event(now, |core| core.snapshot_sent(id, if arrived { Ok(()) } else { Err(()) }));
        self.drain(from)
    }

    /// The connections of transfers between two machines break.
    pub(super) fn break_transfers(&mut self, one: usize, other: usize) {
        let is_between = |from, to| (from, to) == (one, other) || (from, to) == (other, one);
        for transfer in self.transfers.values_mut() {
            if transfer.to.is_some_and(|(to, _)| is_between(transfer.from.0, to)) {
                transfer.breaks_at = 0;
            }
        }
    }

    /// A machine that goes down leaves what has come in of a snapshot.
    pub(super) fn leave_transfers(&mut self, slot: usize) {
        let to = (slot, self.machines[slot].era);
        for transfer in self.transfers.values() {
            if transfer.from == to && transfer.to.is_some() && !transfer.is_whole {
                self.counts.incidents.note(Incident::CrashSendingSnapshot);
            }
            if transfer.is_coming_to(to) && transfer.arrived > 0 {
                self.counts.incidents.note(Incident::CrashReceivingSnapshot);
            }
        }
        for transfer in self.transfers.values().filter(|transfer| transfer.is_coming_to(to)) {
            drop(self.machines[slot].receive(transfer.sender.node_id, &transfer.header, &transfer.chunks[..transfer.arrived]));
        }
    }
}
