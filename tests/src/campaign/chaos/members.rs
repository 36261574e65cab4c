//! What operators do on purpose, under load: transfers, joins, removals, restarts; and nodes that fall so far behind that they get a Raft
//! snapshot.

use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::deck::Mode;
use super::stage::{DO_NOT_RESTART, Missed, Renewal, Stage, dir_bytes, wait_refused, wait_until_some};
use crate::node::wait_status;
use crate::wait::{PATIENCE, wait_until};

/// Transfers in a row.
const TRANSFERS: usize = 4;
/// How long leadership may take until a majority follows, once it has been handed over.
const ARRIVES_MAX: Duration = Duration::from_secs(4);
/// How long a node more than usual takes part.
const EXTRA: Duration = Duration::from_millis(1_500);
/// Keys that are overwritten until the log is truncated, and the size of their values: a few times what the log may hold.
const FILLERS: usize = 2_000;
const FILLER_BYTES: usize = 4096;
/// Fillers in one pipeline.
const FILLERS_AT_ONCE: usize = 50;
/// What passes to a node while it gets a snapshot that shall not be done too soon.
const SNAPSHOT_BYTES_PER_SECOND: u32 = 2 << 20;
/// How much of a snapshot has arrived when a node is killed.
const ARRIVED_BYTES: std::ops::Range<u64> = 1..(3 << 20);
/// How long a snapshot may take to come so far.
const COMES_MAX: Duration = Duration::from_secs(20);

impl Stage {
    pub(super) fn play_transfers(&mut self) -> Result<(), Missed> {
        for _ in 0..TRANSFERS {
            let target = self.follower()?;
            self.transfer_to(target)?;
            self.prove(Mode::TransferLeadership, "leaders as told", 1);
        }
        Ok(())
    }

    /// Hands leadership to a voter, if it has not got it, and sees it there.
    pub(super) fn transfer_to(&mut self, position: usize) -> Result<(), Missed> {
        if self.cluster.leader_now() == Some(position) {
            return Ok(());
        }
        let id = self.cluster.node_id(position).to_string();
        self.note(&format!("  leadership goes to {position}"));
        self.administer(position, &["RAFT", "TRANSFER", &id])?;
        let arrived = wait_until(Instant::now() + ARRIVES_MAX, || self.cluster.leader_now() == Some(position));
        if arrived { Ok(()) } else { Err(Missed(format!("leadership did not come to {position}"))) }
    }

    /// For a while there is a node more; then another one goes.
    pub(super) fn play_add(&mut self) -> Result<(), Missed> {
        if let Some(joiner) = self.out.take() {
            self.join(joiner);
            self.prove(Mode::AddNode, "members that joined", 1);
            thread::sleep(EXTRA);
        }
        let removed = self.remove_any()?;
        self.out = Some(removed);
        Ok(())
    }

    /// For a while there is a node less; then another one comes.
    pub(super) fn play_remove(&mut self) -> Result<(), Missed> {
        let removed = self.remove_any()?;
        self.prove(Mode::RemoveNode, "members that were removed", 1);
        if let Some(joiner) = self.out.replace(removed) {
            self.join(joiner);
        }
        Ok(())
    }

    /// A node that is no member becomes one.
    fn join(&mut self, position: usize) {
        self.note(&format!("  joins: {position}"));
        if self.cluster[position].dir().exists() {
            let way = *Renewal::ALL.choose(&mut self.random).expect("there are two");
            self.come_back_new(position, way);
        } else {
            self.bring_back(position);
        }
    }

    /// Removes a voter; its position.
    fn remove_any(&mut self) -> Result<usize, Missed> {
        let voters = self.voters()?;
        let position = if self.random.random_bool(0.3) { voters[0] } else { self.follower()? };
        let id = self.cluster.node_id(position).to_string();
        let others: Vec<usize> = voters.into_iter().filter(|voter| *voter != position).collect();
        let asked = *others.choose(&mut self.random).ok_or_else(|| Missed::because("there is one voter"))?;
        self.note(&format!("  removed: {position}"));
        self.administer(asked, &["RAFT", "REMOVE", &id])?;
        let code = wait_refused(self, position);
        let words = self.last_words(position);
        assert_eq!(code, DO_NOT_RESTART, "exit code of the removed node at {position}: {words}");
        assert!(words.contains("removed"), "it says why: {words}");
        Ok(position)
    }

    pub(super) fn play_rolling_restart(&mut self) -> Result<(), Missed> {
        for position in self.members() {
            self.note(&format!("  restarts: {position}"));
            self.cluster[position].stop();
            self.bring_back(position);
            self.prove(Mode::RollingRestart, "restarts", 1);
        }
        Ok(())
    }

    pub(super) fn play_snapshot(&mut self) -> Result<(), Missed> {
        let position = self.follower()?;
        let is_down = self.random.random_bool(0.5);
        let last_index = self.cluster[position].status().last_index;
        if is_down {
            self.cluster[position].kill();
        } else {
            self.cluster.network().isolate(position);
        }
        self.leave_behind(position, last_index)?;
        if is_down {
            self.cluster.start_node(position);
        }
        self.cluster.network().heal();
        wait_status(&self.cluster[position], "it gets a snapshot", |status| status.first_index > last_index + 1);
        self.prove(Mode::Snapshot, "installed", 1);
        Ok(())
    }

    /// Kills the node that gets a snapshot, or the leader that sends it, when a part has arrived.
    pub(super) fn play_kill_during_snapshot(&mut self) -> Result<(), Missed> {
        let position = self.follower()?;
        let last_index = self.cluster[position].status().last_index;
        self.cluster[position].kill();
        self.leave_behind(position, last_index)?;
        for other in self.cluster.others(position) {
            self.cluster.network().stall(other, position, SNAPSHOT_BYTES_PER_SECOND);
        }
        let wanted = self.random.random_range(ARRIVED_BYTES);
        self.cluster.start_node(position);
        let snapshots = self.cluster[position].dir().join("snapshots");
        let arrived = wait_until_some(COMES_MAX, || Some(dir_bytes(&snapshots)).filter(|bytes| *bytes >= wanted));
        let killed = if self.random.random_bool(0.5) { position } else { self.leader()? };
        let is_whole = self.cluster[position].try_status().is_some_and(|status| status.first_index > last_index + 1);
        self.cluster[killed].kill();
        self.note(&format!("  killed: {killed}, when {arrived:?} bytes of a snapshot for {position} had arrived"));
        self.cluster.network().heal();
        self.cluster.start_node(killed);
        let what = "it gets a snapshot after all";
        wait_status(&self.cluster[position], what, |status| status.first_index > last_index + 1);
        if is_whole || arrived.is_none() {
            return Err(Missed::because("the snapshot was there too soon, or not at all"));
        }
        self.prove(Mode::KillDuringSnapshot, "killed in the middle", 1);
        Ok(())
    }

    /// Writes without a node until the leader has no longer what the node needs next.
    fn leave_behind(&mut self, position: usize, last_index: u64) -> Result<(), Missed> {
        self.note(&format!("  left behind: {position}"));
        let noise: Vec<u8> = (0..FILLER_BYTES * 16).map(|_| self.random.random()).collect();
        let truncated = wait_until_some(PATIENCE, || {
            let leader = self.cluster.leader_now().filter(|leader| *leader != position)?;
            let mut client = self.client(leader)?;
            for first in (0..FILLERS).step_by(FILLERS_AT_ONCE) {
                let value = |number: usize| noise[number * 7 % (noise.len() - FILLER_BYTES)..][..FILLER_BYTES].to_vec();
                let command = |number: usize| [b"SET".to_vec(), format!("filler:{number}").into_bytes(), value(number)];
                // What was refused is written in the next round.
                client.pipeline((first..first + FILLERS_AT_ONCE).map(command)).ok()?;
            }
            self.cluster[leader].try_status().filter(|status| status.first_index > last_index + 1)
        });
        let result = truncated.map(|_| ()).ok_or_else(|| Missed::because("the log was not truncated"));
        if result.is_err() {
            self.release();
            if !self.cluster[position].is_started() {
                self.cluster.start_node(position);
            }
        }
        result
    }
}
