//! The cluster of a campaign: its nodes, who is a member, whether all is well, and what was done to it when.
//! One position may be out: a node that is no member, so that nodes can be added and removed. Invariant between two hands: every other node
//! runs, is a member, and serves; the number of voters is the replication factor.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::Plan;
use super::deck::Mode;
use super::report::Proofs;
use crate::client::{Client, ok};
use crate::cluster::Cluster;
use crate::node::{RaftStatus, Role};
use crate::wait::{PATIENCE, wait_until};
use crate::{Value, eventually};

/// Options of the nodes: so little room that what else takes hours (truncation, snapshots, files of data) happens all the time.
const FLAGS: [&str; 12] = [
    "--raft-log-bytes-max",
    "2mb",
    "--snapshot-chunk-bytes",
    "64kb",
    "--memtable-bytes",
    "8mb",
    "--block-cache-bytes",
    "8mb",
    "--request-timeout",
    "2000",
    "--disk-reserve",
    "32mb",
];
/// Longer than the nodes' `request-timeout`, so that who lives answers.
pub(super) const CLIENT_PATIENCE: Duration = Duration::from_millis(3_500);
/// Exit code of a node that must not be started again.
pub(super) const DO_NOT_RESTART: i32 = 3;

/// Why a mode did not happen; it is dealt again.
#[derive(Debug)]
pub(super) struct Missed(pub(super) String);

impl Missed {
    pub(super) fn because(why: &str) -> Self {
        Self(why.to_owned())
    }
}

pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) random: StdRng,
    /// The position that is no member, if there is one.
    pub(super) out: Option<usize>,
    /// Number of voters.
    pub(super) factor: usize,
    /// What times in the timeline count from.
    pub(super) origin: Instant,
    timeline: File,
    /// What has shown, in the present hand, that its modes took effect.
    proofs: BTreeMap<Mode, Proofs>,
    /// Numbers the probes, so that none is mistaken for another.
    probes: u64,
}

impl Stage {
    /// Starts the nodes of a plan.
    /// # Panics
    /// They do not form a group.
    pub(super) fn start(plan: &Plan) -> Self {
        assert!((3..=5).contains(&plan.nodes), "a campaign has three to five nodes");
        let founders = if plan.nodes.is_multiple_of(2) { plan.nodes - 1 } else { plan.nodes };
        let factor = founders.to_string();
        let flags: Vec<&str> = FLAGS.iter().copied().chain(["--replication-factor", &factor]).collect();
        let mut cluster = Cluster::start_on_machines(founders, &flags);
        while cluster.positions().len() < plan.nodes {
            cluster.add_node();
        }
        let out = Some(cluster.add_spare());
        let timeline = File::create(cluster.dir().join("timeline.log")).expect("a file can be created");
        let random = StdRng::seed_from_u64(plan.seed);
        Self { cluster, random, out, factor: founders, origin: Instant::now(), timeline, proofs: BTreeMap::new(), probes: 0 }
    }

    /// Says what happens now, to whoever watches and to whoever reads the files afterwards.
    pub(super) fn note(&mut self, text: &str) {
        let line = format!("{:8.3} {text}", self.origin.elapsed().as_secs_f64());
        eprintln!("{line}");
        writeln!(self.timeline, "{line}").expect("the timeline can be written");
    }

    /// Notes that a mode took effect: so many of what shows it. Without any, the mode has missed.
    pub(super) fn prove(&mut self, mode: Mode, what: &'static str, count: u64) {
        if count > 0 {
            *self.proofs.entry(mode).or_default().entry(what).or_default() += count;
        }
    }

    /// What has shown that a mode took effect, for the last time.
    /// # Errors
    /// Nothing has.
    pub(super) fn take_proofs(&mut self, mode: Mode) -> Result<Proofs, Missed> {
        self.proofs.remove(&mode).ok_or_else(|| Missed::because("nothing shows that it took effect"))
    }

    /// Positions of the members.
    pub(super) fn members(&self) -> Vec<usize> {
        self.cluster.positions().filter(|position| Some(*position) != self.out).collect()
    }

    /// Positions of the members that are neither down nor paused.
    pub(super) fn active(&self) -> Vec<usize> {
        self.members().into_iter().filter(|position| self.cluster[*position].is_active()).collect()
    }

    /// Position of the leader.
    pub(super) fn leader(&self) -> Result<usize, Missed> {
        let found = wait_until_some(Duration::from_secs(4), || self.cluster.leader_now());
        found.ok_or_else(|| Missed::because("there is no leader"))
    }

    /// Positions of the voters that are active, the leader first.
    pub(super) fn voters(&self) -> Result<Vec<usize>, Missed> {
        let leader = self.leader()?;
        let statuses = self.cluster.statuses();
        let of_leader = statuses.iter().find(|(position, _)| *position == leader);
        let ids = of_leader.map(|(_, status)| status.voters()).unwrap_or_default();
        let others = statuses.iter().filter(|(position, status)| *position != leader && ids.contains(&status.node_id));
        Ok([leader].into_iter().chain(others.map(|(position, _)| *position)).collect())
    }

    /// Position of a voter that follows and is active.
    pub(super) fn follower(&mut self) -> Result<usize, Missed> {
        let voters = self.voters()?;
        let follower = voters[1..].choose(&mut self.random);
        follower.copied().ok_or_else(|| Missed::because("there is no follower"))
    }

    /// Positions of two voters that follow and are active.
    pub(super) fn two_followers(&mut self) -> Result<[usize; 2], Missed> {
        let voters = self.voters()?;
        let two: Vec<usize> = voters[1..].sample(&mut self.random, 2).copied().collect();
        two.try_into().map_err(|_| Missed::because("there are no two followers"))
    }

    /// A connection whose calls end in time.
    pub(super) fn client(&self, position: usize) -> Option<Client> {
        Some(self.cluster[position].try_client()?.with_patience(CLIENT_PATIENCE))
    }

    /// Sends a RAFT command until it is accepted; `TRYAGAIN` and the like say that the group is at something else.
    pub(super) fn administer(&self, position: usize, args: &[&str]) -> Result<(), Missed> {
        let mut refusal = format!("{args:?} is not answered");
        let accepted = wait_until_some(PATIENCE / 2, || {
            match self.client(position).and_then(|mut client| client.call(args).ok())? {
                Value::Error(text) => {
                    refusal = format!("{args:?}: {text}");
                    // A removal that was slow has come true meanwhile.
                    text.starts_with("ERR ").then(|| text.contains("is not a member"))
                }
                _ => Some(true),
            }
        });
        if accepted == Some(true) { Ok(()) } else { Err(Missed(refusal)) }
    }

    /// The highest term that a node is in.
    pub(super) fn term(&self) -> u64 {
        self.cluster.statuses().iter().map(|(_, status)| status.term).max().unwrap_or_default()
    }

    /// Raft snapshots that nodes have installed so far.
    pub(super) fn snapshots(&self) -> usize {
        let started = self.cluster.positions().filter(|position| self.cluster[*position].was_started());
        started.map(|position| self.cluster[position].log().matches("installing a snapshot").count()).sum()
    }

    /// Lets everything that was stopped go on, and everything that was held back pass. Never panics.
    pub(super) fn release(&mut self) {
        self.cluster.network().heal();
        for position in self.cluster.positions() {
            if self.cluster[position].is_paused() {
                self.cluster[position].resume();
            }
            self.cluster.clock(position).set(0);
        }
    }

    /// Waits until every member serves, and says how long that took.
    /// # Panics
    /// It does not within the bound, or a node has ended that should not have.
    pub(super) fn wait_healthy(&mut self, bound: Duration) -> Duration {
        let began = Instant::now();
        let deadline = began + bound;
        let mut lacking = String::new();
        let healthy = wait_until(deadline, || {
            self.check_processes();
            match self.lacking() {
                None => true,
                Some(text) => {
                    lacking = text;
                    false
                }
            }
        });
        assert!(healthy, "not well again within {bound:?}: {lacking}");
        began.elapsed()
    }

    /// What is not as it should be.
    fn lacking(&mut self) -> Option<String> {
        let members = self.members();
        let statuses = self.cluster.statuses();
        let statuses: Vec<&(usize, RaftStatus)> = statuses.iter().filter(|(position, _)| members.contains(position)).collect();
        if statuses.len() < members.len() {
            return Some(format!(
                "only nodes at {:?} tell their status",
                statuses.iter().map(|(position, _)| position).collect::<Vec<_>>()
            ));
        }
        let Some((_, leader)) = statuses.iter().find(|(_, status)| status.role == Role::Leader) else {
            return Some("there is no leader".to_owned());
        };
        for (position, status) in &statuses {
            let known: Vec<u64> = status.members.iter().map(|member| member.node_id).collect();
            if !known.contains(&status.node_id) || known.len() != members.len() || status.voters().len() != self.factor {
                return Some(format!("node at {position} sees members {:?}", status.members));
            }
            if (status.leader_id, status.term) != (leader.node_id, leader.term) {
                return Some(format!("node at {position} follows {} in term {}", status.leader_id, status.term));
            }
        }
        members.into_iter().find_map(|position| self.why_not_serving(position))
    }

    /// Writes and reads through a node. What it says if that fails.
    pub(super) fn why_not_serving(&mut self, position: usize) -> Option<String> {
        self.probes += 1;
        let (key, value) = (format!("probe:{position}"), self.probes.to_string());
        let Some(mut client) = self.client(position) else { return Some(format!("node at {position} takes no connection")) };
        let written = client.call(&["SET", &key, &value]);
        if !matches!(&written, Ok(reply) if *reply == ok()) {
            return Some(format!("a write through the node at {position}: {written:?}"));
        }
        let read = client.call(&["GET", &key]);
        let right = matches!(&read, Ok(Value::Bulk(found)) if *found == value);
        (!right).then(|| format!("a read through the node at {position}: {read:?}"))
    }

    /// Checks that no node has ended by itself.
    /// # Panics
    /// One has.
    pub(super) fn check_processes(&mut self) {
        for position in self.members() {
            if let Some(status) = self.cluster[position].take_end() {
                panic!("the node at {position} has ended by itself: {status}: {}", self.last_words(position));
            }
        }
    }

    /// The line that a node ended with.
    pub(super) fn last_words(&self, position: usize) -> String {
        let log = self.cluster[position].log();
        let life = log.rsplit("---- started").next().unwrap_or_default();
        let line = life.lines().rev().find(|line| line.starts_with("redraft: ")).or_else(|| life.lines().last());
        line.unwrap_or_default().to_owned()
    }

    /// Starts a node that is down, and waits until all are well.
    pub(super) fn bring_back(&mut self, position: usize) {
        self.cluster.start_node(position);
        self.wait_healthy(PATIENCE);
    }

    /// A node that is down comes back as a new one.
    pub(super) fn come_back_new(&mut self, position: usize, way: Renewal) {
        match way {
            Renewal::Wipe => {
                self.cluster[position].wipe();
                self.bring_back(position);
            }
            Renewal::Rejoin => {
                self.cluster[position].add_flags(&["--rejoin"]);
                self.bring_back(position);
                self.cluster[position].remove_flag("--rejoin");
                // So that the disk does not fill over a long run.
                for aside in set_aside(self.cluster[position].dir()) {
                    fs::remove_dir_all(aside).expect("what was set aside can be removed");
                }
            }
        }
    }
}

/// How a node becomes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Its directory is emptied.
    Wipe,
    /// `--rejoin` sets its data aside.
    Rejoin,
}

impl Renewal {
    pub(super) const ALL: [Self; 2] = [Self::Wipe, Self::Rejoin];
}

fn set_aside(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory can be read").flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("set-aside-")))
        .collect()
}

/// Waits for a value; `None` if there was none in time.
pub(super) fn wait_until_some<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let mut found = None;
    wait_until(Instant::now() + patience, || {
        found = condition();
        found.is_some()
    });
    found
}

/// Bytes of all files below a directory, which may change meanwhile.
pub(super) fn dir_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => dir_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// Waits until a node's process has ended by itself; its exit code.
/// # Panics
/// It does not end, or by a signal.
pub(super) fn wait_refused(stage: &mut Stage, position: usize) -> i32 {
    let status = eventually("the node ends by itself", || stage.cluster[position].take_end());
    status.code().unwrap_or_else(|| panic!("the node at {position} ended by {status}: {}", stage.last_words(position)))
}
