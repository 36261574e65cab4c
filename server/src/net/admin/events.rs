//! What has happened lately on this node, for people: who led, who came and went, whether the disk was full; how far the log was when, and
//! how long commands took.
//! Seen by looking at the node's status, so that nobody who decides anything has to tell. What comes and goes between two looks is not seen:
//! elections and leaders are counted in the core.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use utoipa::ToSchema;

use crate::metrics::histogram::Counts;
use crate::metrics::{Distribution, Metrics};
use crate::node::{NodeHandle, NodeStatus, Role};

/// Events that are kept.
const EVENTS_MAX: usize = 50;
/// How often the status is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Looks whose commit index is kept: a peer that lacks an older entry is behind for as long as they reach back.
const LOOKS_KEPT: usize = 600;
/// How far back the durations of commands go, in looks.
const RECENT_LOOKS: usize = 100;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Event {
    /// Rises by one from event to event.
    id: u64,
    /// Milliseconds since the Unix epoch, by this node's clock.
    time_ms: u64,
    /// `start`, `election`, `leader`, `no leader`, `member` or `disk`.
    kind: &'static str,
    text: String,
}

/// What was seen.
pub(super) struct Recorder {
    /// For a few lines: the looking task writes, requests read.
    events: Arc<Mutex<VecDeque<Event>>>,
    history: Arc<Mutex<History>>,
    recent: Arc<Mutex<VecDeque<[Counts; 2]>>>,
    metrics: Arc<Metrics>,
}

/// How far the group had committed, at each of the last looks.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    looks: VecDeque<(Instant, u64)>,
}

impl History {
    fn add(&mut self, now: Instant, commit_index: u64) {
        self.looks.push_back((now, commit_index));
        while self.looks.len() > LOOKS_KEPT {
            self.looks.pop_front();
        }
    }

    /// For how long the entry after this index has been committed; zero if none is.
    pub(super) fn behind(&self, match_index: u64) -> Duration {
        let first = self.looks.iter().find(|(_, commit_index)| *commit_index > match_index);
        first.map_or(Duration::ZERO, |(seen, _)| seen.elapsed())
    }
}

/// The distributions whose recent part is kept.
const RECENT: [Distribution; 2] = [Distribution::ReadTime, Distribution::WriteTime];

impl Recorder {
    /// Looks at the node for ever.
    pub(super) fn start(node: NodeHandle, metrics: Arc<Metrics>) -> Self {
        let started = Event { id: 1, time_ms: now_ms(), kind: "start", text: "the node started".to_owned() };
        let events = Arc::new(Mutex::new(VecDeque::from([started])));
        let recorder = Self { events, history: Arc::default(), recent: Arc::default(), metrics };
        let (events, history) = (Arc::clone(&recorder.events), Arc::clone(&recorder.history));
        let (recent, metrics) = (Arc::clone(&recorder.recent), Arc::clone(&recorder.metrics));
        tokio::spawn(async move {
            let (mut before, mut was_full) = (node.status(), node.disk_is_full());
            let mut interval = tokio::time::interval(LOOK_INTERVAL);
            loop {
                interval.tick().await;
                let (now, is_full) = (node.status(), node.disk_is_full());
                let mut seen = differences(&before, &now);
                if is_full != was_full {
                    seen.push(("disk", if is_full { "the disk is nearly full" } else { "the disk has room again" }.to_owned()));
                }
                seen.into_iter().for_each(|(kind, text)| record(&events, kind, text));
                locked(&history).add(Instant::now(), now.commit_index);
                let mut recent = locked(&recent);
                recent.push_back(RECENT.map(|distribution| metrics.distribution(distribution).counts()));
                while recent.len() > RECENT_LOOKS {
                    recent.pop_front();
                }
                drop(recent);
                (before, was_full) = (now, is_full);
            }
        });
        recorder
    }

    /// The events, newest first.
    pub(super) fn newest(&self) -> Vec<Event> {
        locked(&self.events).iter().rev().cloned().collect()
    }

    /// How far the group had committed when.
    pub(super) fn history(&self) -> History {
        locked(&self.history).clone()
    }

    /// How long reads and writes took lately, and for how long that is.
    pub(super) fn recent(&self) -> ([Counts; 2], Duration) {
        let now = RECENT.map(|distribution| self.metrics.distribution(distribution).counts());
        let recent = locked(&self.recent);
        let length = LOOK_INTERVAL * u32::try_from(recent.len()).unwrap_or(u32::MAX);
        match recent.front() {
            Some([reads, writes]) => ([now[0].since(reads), now[1].since(writes)], length),
            None => (now, length),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(events: &Mutex<VecDeque<Event>>, kind: &'static str, text: String) {
    let mut events = locked(events);
    let id = events.back().map_or(1, |event| event.id + 1);
    events.push_back(Event { id, time_ms: now_ms(), kind, text });
    while events.len() > EVENTS_MAX {
        events.pop_front();
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// What has become different between two looks.
fn differences(before: &NodeStatus, now: &NodeStatus) -> Vec<(&'static str, String)> {
    let mut seen = Vec::new();
    if now.role == Role::Candidate && before.role != Role::Candidate {
        seen.push(("election", format!("node {} stands for election", now.node_id)));
    }
    if now.leader_id != before.leader_id && now.leader_id.is_none() {
        seen.push(("no leader", "nobody is known to lead".to_owned()));
    } else if now.leader_id != before.leader_id {
        let term = now.term;
        seen.extend(now.leader_id.map(|leader| ("leader", format!("node {leader} leads in term {term}"))));
    }
    for member in &now.members {
        match before.members.iter().find(|other| other.node_id == member.node_id) {
            None => seen.push(("member", format!("node {} came in at {}", member.node_id, member.peer))),
            Some(other) if other.voter != member.voter => {
                seen.push((
                    "member",
                    format!("node {} {}", member.node_id, if member.voter { "votes now" } else { "does not vote any more" }),
                ));
            }
            Some(other) if other.peer != member.peer => seen.push(("member", format!("node {} moved to {}", member.node_id, member.peer))),
            Some(_) => {}
        }
    }
    for gone in before.members.iter().filter(|other| now.members.iter().all(|member| member.node_id != other.node_id)) {
        seen.push(("member", format!("node {} was removed", gone.node_id)));
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::MemberStatus;

    fn status(role: Role, leader_id: Option<u64>, members: &[(u64, bool)]) -> NodeStatus {
        let member = |(node_id, voter): &(u64, bool)| MemberStatus {
            node_id: *node_id,
            listen: "a:1".into(),
            peer: "a:2".into(),
            admin: "a:3".into(),
            voter: *voter,
            match_index: 0,
            next_index: 0,
            state: crate::node::PeerState::Unknown,
            active: false,
            lag_bytes: 0,
            snapshot: None,
        };
        NodeStatus {
            cluster_id: String::new(),
            node_id: 1,
            role,
            term: 7,
            leader_id,
            commit_index: 0,
            applied_index: 0,
            last_index: 0,
            first_index: 0,
            log_time_ms: 0,
            members: members.iter().map(member).collect(),
        }
    }

    #[test]
    fn what_changes_is_told() {
        let before = status(Role::Follower, Some(2), &[(1, true), (2, true), (3, false)]);
        assert_eq!(differences(&before, &before), []);
        let now = status(Role::Candidate, None, &[(1, true), (3, true), (4, false)]);
        let texts: Vec<_> = differences(&before, &now).into_iter().map(|(_, text)| text).collect();
        let expected =
            ["node 1 stands for election", "nobody is known to lead", "node 3 votes now", "node 4 came in at a:2", "node 2 was removed"];
        assert_eq!(texts, expected);
        assert_eq!(
            differences(&now, &status(Role::Leader, Some(1), &[(1, true), (3, true), (4, false)])),
            [("leader", "node 1 leads in term 7".to_owned())]
        );
    }

    #[test]
    fn a_peer_is_behind_since_its_next_entry_was_committed() {
        let mut history = History::default();
        let now = Instant::now();
        (0..10).for_each(|second| history.add(now - Duration::from_secs(10 - second), second * 100));
        assert_eq!(history.behind(900), Duration::ZERO);
        assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&history.behind(899)));
        assert!(history.behind(150) >= Duration::from_secs(8));
    }

    #[test]
    fn old_events_go() {
        let events = Mutex::default();
        (0..EVENTS_MAX + 3).for_each(|number| record(&events, "leader", number.to_string()));
        let events = events.into_inner().expect("nobody panicked");
        assert_eq!((events.len(), events[0].id, events[0].text.as_str()), (EVENTS_MAX, 4, "3"));
    }
}
