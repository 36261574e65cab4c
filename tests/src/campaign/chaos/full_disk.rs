//! A disk that is full for a while: the node moves to a small disk of its own, that is filled and emptied, and moves back.
//! While there is no room the node refuses what adds data, or ends in the way that lets a supervisor start it again; the others go on.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::deck::Mode;
use super::stage::{Missed, Stage, dir_bytes};
use crate::Value;
use crate::client::ok;
use crate::dir::copy_dir;
use crate::disk::SmallDisk;
use crate::wait::{PATIENCE, wait_until};

/// Room on the small disk beside what the node has already.
const ROOM_BYTES: u64 = 160 << 20;
/// What may be left of it: nothing, or less than `disk-reserve`.
const LEFT_BYTES: [u64; 2] = [0, 16 << 20];
/// How long the disk is full.
const FULL: Duration = Duration::from_millis(4_000);
/// How often the node is asked, or started again, meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
/// Exit code of a node that lacks something it may have again.
const RESTART: i32 = 4;

impl Stage {
    pub(super) fn play_disk_full(&mut self) -> Result<(), Missed> {
        let voters = self.voters()?;
        let position = *voters.choose(&mut self.random).expect("there is a leader");
        let dir = self.cluster[position].dir().to_owned();
        let beside = dir.with_extension("beside");
        self.cluster[position].stop();
        fs::rename(&dir, &beside).expect("the directory can be moved");
        let Some(disk) = SmallDisk::mount(&dir, dir_bytes(&beside) + ROOM_BYTES) else {
            fs::remove_dir(&dir).expect("it is empty");
            fs::rename(&beside, &dir).expect("the directory can be moved back");
            self.bring_back(position);
            return Err(Missed::because("a tmpfs cannot be mounted: a campaign runs as root"));
        };
        copy_dir(&beside, &dir);
        self.bring_back(position);
        if self.random.random_bool(0.5) {
            // Whether it leads or follows, it has to do without room.
            drop(self.transfer_to(position));
        }
        let left = *LEFT_BYTES.choose(&mut self.random).expect("there are two");
        self.note(&format!("  the disk of {position} is full but for {left} bytes"));
        disk.fill(left);
        let noticed = self.live_without_room(position);
        disk.give_back();
        self.note("  the disk has room again");
        if !self.cluster[position].is_started() {
            self.cluster.start_node(position);
        }
        self.wait_after_full(position);
        self.stop_after_full(position);
        move_back(&dir, &beside, disk);
        self.cluster.disk(position).settle();
        self.bring_back(position);
        self.prove(Mode::DiskFull, "nodes that noticed", noticed.into());
        Ok(())
    }

    /// Whether the node refused a write for want of room, or ended for it.
    fn live_without_room(&mut self, position: usize) -> bool {
        let until = Instant::now() + FULL;
        let mut noticed = false;
        while Instant::now() < until {
            if self.has_ended_for_room(position) {
                noticed = true;
                // As a supervisor would.
                self.cluster.start_node(position);
            }
            let reply = self.client(position).and_then(|mut client| client.call(&["SET", "probe:full", "v"]).ok());
            noticed |= matches!(&reply, Some(Value::Error(text)) if text.starts_with("OOM "));
            thread::sleep(LOOK_INTERVAL);
        }
        noticed
    }

    /// Whether the node has ended by itself.
    /// # Panics
    /// It ended for anything but want of room.
    fn has_ended_for_room(&mut self, position: usize) -> bool {
        let Some(status) = self.cluster[position].take_end() else { return false };
        let words = self.last_words(position);
        assert_eq!(status.code(), Some(RESTART), "the node at {position} ended on a full disk by {status}: {words}");
        self.note(&format!("  {position} ended: {words}"));
        true
    }

    /// It may end once more for what happened while the disk was full.
    fn wait_after_full(&mut self, position: usize) {
        let serves = wait_until(Instant::now() + PATIENCE, || {
            if self.has_ended_for_room(position) {
                self.cluster.start_node(position);
            }
            self.client(position).and_then(|mut client| client.call(&["SET", "probe:full", "v"]).ok()) == Some(ok())
        });
        assert!(serves, "the node at {position} serves when its disk has room again");
    }

    /// What could not be written while the disk was full is in the log, so the node may serve for a while yet; but it cannot say that all
    /// of its data are durable.
    fn stop_after_full(&mut self, position: usize) {
        if !self.has_ended_for_room(position) {
            self.cluster[position].terminate();
            let code = self.cluster[position].wait_end().code();
            let words = self.last_words(position);
            assert!(
                matches!(code, Some(0 | RESTART)),
                "the node at {position} was told to stop after its disk was full: {code:?}, {words}"
            );
        }
    }
}

/// Brings what is on the small disk to where the directory was, and takes the disk away.
fn move_back(dir: &Path, beside: &Path, disk: SmallDisk) {
    fs::remove_dir_all(beside).expect("the directory can be removed");
    copy_dir(dir, beside);
    drop(disk);
    fs::remove_dir(dir).expect("what was under the disk is empty");
    fs::rename(beside, dir).expect("the directory can be moved");
}
