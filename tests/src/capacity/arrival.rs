//! A node on its way into a group: when its Raft snapshot was made, sent and installed, and when it has caught up.
//! Seen from outside, as an operator could: the sender makes `snapshots/out-*`; the joiner `snapshots/in-*.part`, which loses its suffix
//! when it is whole. Whoever wants the times looks often; a phase that passes between two looks has no beginning.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::room::directory_bytes;
use crate::cluster::Cluster;

/// A node that was just started and has nothing.
#[derive(Debug)]
pub struct Arrival {
    joiner: usize,
    joiner_snapshots: PathBuf,
    others_snapshots: Vec<PathBuf>,
    /// What it must have applied to have caught up.
    target: u64,
    began: Instant,
    phases: Phases,
}

/// When the phases began, in seconds after the node was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Phases {
    /// Another node makes files of its data.
    pub generation: Option<f64>,
    /// They come in.
    pub transfer: Option<f64>,
    /// They are whole; the node installs them.
    pub installation: Option<f64>,
    /// The node has applied what was committed when the installation began.
    pub caught_up: Option<f64>,
    /// Bytes of the files.
    pub snapshot_bytes: u64,
}

impl Phases {
    /// From the beginning of the generation until the node has caught up; from the node's start if nobody saw the generation begin.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        Some(self.caught_up? - self.generation.unwrap_or(0.0))
    }

    /// How long the generation, the transfer, and the installation with what follows took, as far as they were seen.
    #[must_use]
    pub fn lengths(&self) -> [Option<f64>; 3] {
        let moments = [self.generation, self.transfer, self.installation, self.caught_up];
        [0, 1, 2].map(|phase| moments[phase].zip(moments[phase + 1]).map(|(from, to)| to - from))
    }
}

impl Arrival {
    /// Starts a node that has nothing.
    /// # Panics
    /// It cannot be started, or nobody in the group says how far it is.
    #[must_use]
    pub fn begin(cluster: &mut Cluster, joiner: usize) -> Arrival {
        let snapshots = |position: usize| cluster[position].dir().join("snapshots");
        let (joiner_snapshots, others_snapshots) = (snapshots(joiner), cluster.others(joiner).into_iter().map(snapshots).collect());
        let target = commit_index(cluster);
        cluster.start_node(joiner);
        Arrival { joiner, joiner_snapshots, others_snapshots, target, began: Instant::now(), phases: Phases::default() }
    }

    /// Looks how far it is; true when it has caught up.
    pub fn look(&mut self, cluster: &Cluster) -> bool {
        let now = self.began.elapsed().as_secs_f64();
        if self.phases.generation.is_none() && self.others_snapshots.iter().any(|dir| has(dir, |name| name.starts_with("out-"))) {
            self.phases.generation = Some(now);
        }
        if self.phases.transfer.is_none() && has(&self.joiner_snapshots, is_part) {
            self.phases.transfer = Some(now);
        }
        if self.phases.installation.is_none() && has(&self.joiner_snapshots, |name| name.starts_with("in-") && !is_part(name)) {
            self.phases.installation = Some(now);
            self.phases.snapshot_bytes = directory_bytes(&self.joiner_snapshots);
            self.target = commit_index(cluster);
        }
        if self.phases.transfer.is_some() && self.phases.installation.is_none() {
            // Nobody has applied anything before that.
            return false;
        }
        let status = cluster[self.joiner].try_status();
        let has_caught_up = status.is_some_and(|status| status.leader_id != 0 && status.applied_index >= self.target);
        if has_caught_up && self.phases.caught_up.is_none() {
            self.phases.caught_up = Some(self.began.elapsed().as_secs_f64());
        }
        has_caught_up
    }

    /// What was seen so far.
    #[must_use]
    pub fn phases(&self) -> Phases {
        self.phases
    }
}

fn commit_index(cluster: &Cluster) -> u64 {
    cluster.statuses().iter().map(|(_, status)| status.commit_index).max().expect("a node tells how far it is")
}

fn is_part(name: &str) -> bool {
    name.starts_with("in-") && name.ends_with(".part")
}

fn has(dir: &Path, wanted: impl Fn(&str) -> bool) -> bool {
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_str().is_some_and(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_lengths_as_far_as_they_were_seen() {
        let seen = Phases { generation: Some(1.0), transfer: Some(3.0), installation: Some(7.0), caught_up: Some(7.5), snapshot_bytes: 1 };
        assert_eq!((seen.seconds(), seen.lengths()), (Some(6.5), [Some(2.0), Some(4.0), Some(0.5)]));
        let missed = Phases { generation: None, transfer: None, ..seen };
        assert_eq!((missed.seconds(), missed.lengths()), (Some(7.5), [None, None, Some(0.5)]));
        assert_eq!(Phases::default().seconds(), None);
    }
}
