//! How a node with an empty data directory becomes a member: it founds a cluster alone, founds one with others, or joins one.
//! Nodes that form a cluster together ask each other who they are until all of them are seen, unformed and with the same options. The one
//! with the smallest incarnation then draws the cluster id and sends the first table, the form, to all. A node accepts one form in its
//! life, durably before it answers, and starts at once as a voter of that configuration. Every founder sends the form on until all have it:
//! the first two to have it may be any, and a founder that never gets it could be missing for the quorum that would let it join.
//! Two clusters cannot come about: the options name the same N addresses everywhere, a form needs all N incarnations there, and a majority
//! of its own founders to do anything.
//! `course`, `next_step` and `judge_form` decide, without I/O; `form` asks, waits and logs.
//! Invariant: what `form` returns as a founder's table was durable before anybody was told of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::net::peer::{FormAnswer, FormCall, Gate, PeerClient, ProbeReply, Prospect};
use crate::node::core::{Addresses, JoinAnswer, LEVEL, Member, Members};
use crate::node::storage::StorageError;

/// Pause between two rounds of questions.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// How long a round waits for the answer to a probe.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// Pause between two attempts to hand the form on; doubled up to the maximum.
const SPREAD_PAUSE_MIN: Duration = Duration::from_millis(200);
const SPREAD_PAUSE_MAX: Duration = Duration::from_secs(5);
/// For so long nothing is said about nodes that do not answer: they may be starting, too.
const QUIET_START: Duration = Duration::from_secs(1);
/// Least time between two messages about the same thing.
const NOTICE_INTERVAL: Duration = Duration::from_secs(5);
/// Forms that wait to be judged.
const FORMS_MAX: usize = 8;

/// The node that looks for a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Newcomer {
    incarnation: u64,
    addresses: Addresses,
}

/// What a node with an empty directory has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formed {
    /// A founder's first table; otherwise what is known until the snapshot arrives, with this node in it.
    pub members: Members,
    /// Its id.
    pub node_id: u64,
    /// Whether it starts as a voter of `members`, all of whom are voters; otherwise as a blank replica.
    pub founding: bool,
}

/// Why a node becomes nothing. Every text is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum FormationError {
    /// Nobody said what to do with an empty directory.
    #[error("the data directory is empty: say with bootstrap, join or bootstrap-expect what the node shall become")]
    NoCourse,
    /// The node belongs to a cluster and has lost its data, and nobody said where the others are.
    #[error(
        "the data directory is empty, and cluster-id forbids to found another cluster than {0}: give join, so that the node can join it"
    )]
    NothingToJoin(String),
    /// The list of founders is not what `bootstrap-expect` says.
    #[error("bootstrap-expect is {expected}, but join has {given} addresses: it must have those of all {expected} nodes")]
    Roster {
        /// Nodes expected.
        expected: usize,
        /// Addresses given.
        given: usize,
    },
    /// The nodes to join belong to different clusters.
    #[error("the nodes in join belong to different clusters, {0} and {1}: set cluster-id or correct join")]
    TwoClusters(String, String),
    /// A member says that the node cannot join.
    #[error("{address} does not take this node in: {text}")]
    Refused {
        /// The member's peer address.
        address: String,
        /// Its reason.
        text: String,
    },
    /// The accepted form does not name this data directory.
    #[error("the cluster that this data directory accepted does not name it as a founder: the directory was put together from two")]
    ForeignForm,
    /// The form cannot be made durable.
    #[error("cannot store the first table of the cluster: {0}")]
    Persist(#[source] StorageError),
}

/// What an empty node is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Course {
    /// It accepted this form before it was stopped.
    Continue(Members),
    /// Found a cluster of one.
    Alone,
    /// Join, and found nothing: unless a founder of the wanted cluster says that this node is one, too.
    Join { cluster_id: Option<String> },
    /// Found a cluster with the nodes at these addresses, sorted, unless there is one already.
    Together { roster: Vec<String> },
}

/// What to do after a round of probes.
#[derive(Debug)]
enum Step {
    /// There is a cluster: ask these.
    Join(Vec<String>),
    /// All are there, these founders, and this node has to send the form.
    Coordinate { level: u32, founders: Vec<(u64, Addresses)> },
    /// Not all are there, or another one coordinates; one line for the log.
    Wait(String),
    /// It cannot end well.
    Stop(FormationError),
}

/// Finds the cluster of a node with an empty directory; that can take for ever. While this runs, the gate answers probes and forms;
/// afterwards the caller stores the identity and gives it to the gate. `incarnation` is that of the directory, durable by now, and
/// `addresses` is where the node is reached. `persist_form` makes a founder's table durable; it is called at most once, and blocks.
/// `pending_form` is what it stored in an earlier life. A founder's form is handed on in the background.
/// # Errors
/// The node cannot become a member with these options; starting it again does not help.
pub async fn form(
    config: &Config,
    incarnation: u64,
    addresses: &Addresses,
    gate: &Gate,
    client: &PeerClient,
    pending_form: Option<Members>,
    mut persist_form: impl FnMut(&Members) -> Result<(), StorageError>,
) -> Result<Formed, FormationError> {
    let own = &Newcomer { incarnation, addresses: addresses.clone() };
    let course = course(config, own, pending_form)?;
    let form = match &course {
        Course::Continue(form) => Some(form.clone()),
        // Nobody else knows the id yet: after a crash before the data is there, another one is as good.
        Course::Alone => Some(draw_form(LEVEL, [(own.incarnation, own.addresses.clone())])),
        Course::Join { .. } | Course::Together { .. } => None,
    };
    if let Some(form) = form {
        return found(form, own, gate, client);
    }

    let (sender, mut forms) = mpsc::channel(FORMS_MAX);
    gate.set_prospect(Prospect { probe: introduction(own, &course), forms: sender });
    let addresses = config.join.iter().map(ToString::to_string).filter(|address| *address != own.addresses.peer).collect();
    let mut search = Search { own, course: &course, client, addresses, leader: None, notices: Notices::new() };
    loop {
        let mut round: Pin<Box<dyn Future<Output = Result<Option<Find>, FormationError>> + Send + '_>> = Box::pin(search.round());
        let find = loop {
            tokio::select! {
                find = &mut round => break find?,
                Some(FormCall { members, reply }) = forms.recv() => match judge_form(own, &course, &members) {
                    Ok(()) => {
                        persist_form(&members).map_err(FormationError::Persist)?;
                        // If the sender is gone, it or another founder asks again.
                        let _ = reply.send(Ok(()));
                        return found(members, own, gate, client);
                    }
                    Err(text) => {
                        tracing::warn!(cluster_id = members.cluster_id, text, "a form was refused");
                        // As above.
                        let _ = reply.send(Err(text));
                    }
                },
            }
        };
        match find {
            Some(Find::Member(formed)) => return Ok(formed),
            Some(Find::Form(form)) => {
                persist_form(&form).map_err(FormationError::Persist)?;
                return found(form, own, gate, client);
            }
            None => {}
        }
    }
}

/// Hands the first table on to the other founders until all have accepted it or were removed. `form` starts this; a founder that was
/// stopped since may start it again.
pub async fn spread_form(client: PeerClient, gate: Gate, own_incarnation: u64, form: Members) {
    let mut missing: Vec<&Member> = form.members.iter().filter(|member| member.incarnation != own_incarnation).collect();
    let mut pause = SPREAD_PAUSE_MIN;
    loop {
        let mut left = Vec::new();
        for founder in missing {
            if gate.is_removed(founder.node_id) {
                continue;
            }
            match client.form(&founder.addresses.peer, &form).await {
                Ok(FormAnswer::Accepted) => {
                    tracing::info!(node_id = founder.node_id, address = founder.addresses.peer, "founder has the cluster's first table");
                    continue;
                }
                Ok(FormAnswer::Refused(text)) => {
                    tracing::debug!(node_id = founder.node_id, address = founder.addresses.peer, text, "founder does not take the form");
                }
                Err(error) => {
                    tracing::debug!(node_id = founder.node_id, address = founder.addresses.peer, %error, "founder does not answer");
                }
            }
            left.push(founder);
        }
        if left.is_empty() {
            return;
        }
        missing = left;
        tokio::time::sleep(pause).await;
        pause = SPREAD_PAUSE_MAX.min(pause * 2);
    }
}

fn found(form: Members, own: &Newcomer, gate: &Gate, client: &PeerClient) -> Result<Formed, FormationError> {
    let node_id = form.by_incarnation(own.incarnation).ok_or(FormationError::ForeignForm)?.node_id;
    tracing::info!(cluster_id = form.cluster_id, node_id, founders = form.members.len(), "founding a cluster");
    // From now on this node counts as formed; forms are answered again once the gate has its identity.
    let mut probe = introduction(own, &Course::Alone);
    (probe.cluster_id, probe.node_id) = (form.cluster_id.clone(), node_id);
    let (sender, _closed) = mpsc::channel(1);
    gate.set_prospect(Prospect { probe, forms: sender });
    if form.members.len() > 1 {
        tokio::spawn(spread_form(client.clone(), gate.clone(), own.incarnation, form.clone()));
    }
    Ok(Formed { members: form, node_id, founding: true })
}

/// The first table of a new cluster.
fn draw_form(level: u32, founders: impl IntoIterator<Item = (u64, Addresses)>) -> Members {
    // Ids follow the addresses, so that on one machine they are the numbers that `redraft cluster` knows the nodes by.
    let mut founders: Vec<_> = founders.into_iter().collect();
    founders.sort_by(|(_, one), (_, other)| one.peer.cmp(&other.peer));
    Members::initial(draw_cluster_id(), level, founders)
}

/// The id of a new cluster.
pub(crate) fn draw_cluster_id() -> String {
    let id: [u8; 20] = rand::random();
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the node says of itself while it has no identity.
fn introduction(own: &Newcomer, course: &Course) -> ProbeReply {
    let roster = match course {
        Course::Together { roster } => roster.clone(),
        Course::Continue(_) | Course::Alone | Course::Join { .. } => Vec::new(),
    };
    ProbeReply {
        incarnation: own.incarnation,
        cluster_id: String::new(),
        node_id: 0,
        bootstrap_expect: u32::try_from(roster.len()).unwrap_or(u32::MAX),
        roster,
        addresses: own.addresses.clone(),
        level: LEVEL,
    }
}

fn course(config: &Config, own: &Newcomer, pending_form: Option<Members>) -> Result<Course, FormationError> {
    if let Some(form) = pending_form {
        return Ok(Course::Continue(form));
    }
    if let Some(cluster_id) = &config.cluster_id {
        if config.join.is_empty() {
            return Err(FormationError::NothingToJoin(cluster_id.clone()));
        }
        return Ok(Course::Join { cluster_id: Some(cluster_id.clone()) });
    }
    if config.bootstraps_alone() {
        return Ok(Course::Alone);
    }
    let Some(expected) = config.bootstrap_expect else {
        return if config.join.is_empty() { Err(FormationError::NoCourse) } else { Ok(Course::Join { cluster_id: None }) };
    };
    let mut roster: BTreeSet<String> = config.join.iter().map(ToString::to_string).collect();
    // A list of the others only means the same.
    if roster.len() + 1 == expected {
        roster.insert(own.addresses.peer.clone());
    }
    if roster.len() != expected {
        return Err(FormationError::Roster { expected, given: roster.len() });
    }
    Ok(Course::Together { roster: roster.into_iter().collect() })
}

/// Decides after a round of probes of everybody in the roster. Answers must be of this round: an older one may be of a node that has been
/// taken into a cluster since.
fn next_step(own: &Newcomer, roster: &[String], answers: &[(String, ProbeReply)]) -> Step {
    let formed: Vec<_> = answers.iter().filter(|(_, reply)| reply.is_formed()).collect();
    if let Some((_, first)) = formed.first() {
        if let Some((_, other)) = formed.iter().find(|(_, reply)| reply.cluster_id != first.cluster_id) {
            return Step::Stop(FormationError::TwoClusters(first.cluster_id.clone(), other.cluster_id.clone()));
        }
        return Step::Join(formed.into_iter().map(|(address, _)| address.clone()).collect());
    }
    let (alike, others): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, reply)| reply.roster == roster);
    if let Some((address, _)) = others.first() {
        return Step::Wait(format!("the node at {address} has another join or bootstrap-expect"));
    }
    let mut founders: BTreeMap<u64, (&Addresses, u32)> =
        alike.iter().map(|(_, reply)| (reply.incarnation, (&reply.addresses, reply.level))).collect();
    founders.insert(own.incarnation, (&own.addresses, LEVEL));
    if founders.len() != roster.len() {
        return Step::Wait(format!("{} of {} nodes are there", founders.len(), roster.len()));
    }
    let coordinator = founders.first_key_value().map(|(incarnation, (addresses, _))| (*incarnation, addresses.peer.as_str()));
    match coordinator {
        Some((incarnation, address)) if incarnation != own.incarnation => Step::Wait(format!("all are there, {address} coordinates")),
        Some(_) | None => Step::Coordinate {
            level: founders.values().map(|(_, level)| *level).min().unwrap_or(LEVEL),
            founders: founders.into_iter().map(|(incarnation, (addresses, _))| (incarnation, addresses.clone())).collect(),
        },
    }
}

/// Whether a node takes a form; otherwise one line why not.
fn judge_form(own: &Newcomer, course: &Course, form: &Members) -> Result<(), String> {
    let is_id = form.cluster_id.len() == 40 && form.cluster_id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let incarnations: BTreeSet<u64> = form.members.iter().map(|member| member.incarnation).collect();
    let founders = form.members.iter().map(|member| (member.incarnation, member.addresses.clone()));
    let is_initial = *form == Members::initial(form.cluster_id.clone(), form.level, founders);
    if !is_id || !is_initial || incarnations.len() != form.members.len() {
        return Err("the form is malformed".to_owned());
    }
    if !incarnations.contains(&own.incarnation) {
        return Err("this node is not among the founders: its data directory is another one now".to_owned());
    }
    if form.level > LEVEL {
        return Err(format!("the cluster would have feature level {}, this node supports {LEVEL}", form.level));
    }
    match course {
        Course::Together { roster } if roster.len() == form.members.len() => Ok(()),
        Course::Together { roster } => Err(format!("the form has {} founders, this node expects {}", form.members.len(), roster.len())),
        Course::Join { cluster_id: Some(wanted) } if *wanted == form.cluster_id => Ok(()),
        Course::Join { cluster_id: Some(wanted) } => Err(format!("this node belongs to cluster {wanted}")),
        Course::Join { cluster_id: None } | Course::Alone | Course::Continue(_) => {
            Err("this node founds no cluster with others".to_owned())
        }
    }
}

/// What a round of questions came to.
enum Find {
    Member(Formed),
    /// This node coordinates, and this is the form.
    Form(Members),
}

/// The questions to others.
struct Search<'a> {
    own: &'a Newcomer,
    course: &'a Course,
    client: &'a PeerClient,
    /// Peer addresses of the others, as given.
    addresses: Vec<String>,
    /// Peer address that was named as the leader's.
    leader: Option<String>,
    notices: Notices,
}

impl Search<'_> {
    async fn round(&mut self) -> Result<Option<Find>, FormationError> {
        let candidates = match self.course {
            Course::Together { roster } => match next_step(self.own, roster, &self.probe_all().await) {
                Step::Join(addresses) => addresses,
                Step::Coordinate { level, founders } => return Ok(Some(Find::Form(draw_form(level, founders)))),
                Step::Wait(text) => {
                    self.notices.progress(&text);
                    Vec::new()
                }
                Step::Stop(error) => return Err(error),
            },
            Course::Join { .. } | Course::Alone | Course::Continue(_) => self.addresses.clone(),
        };
        let leader = if candidates.is_empty() { None } else { self.leader.take() };
        for address in leader.into_iter().chain(candidates) {
            if let Some(formed) = self.ask_to_join(&address).await? {
                return Ok(Some(Find::Member(formed)));
            }
            // Whoever was named is asked at once, unless it was named by itself.
            if let Some(leader) = self.leader.clone().filter(|leader| *leader != address)
                && let Some(formed) = self.ask_to_join(&leader).await?
            {
                return Ok(Some(Find::Member(formed)));
            }
        }
        tokio::time::sleep(ROUND_PAUSE).await;
        Ok(None)
    }

    async fn probe_all(&mut self) -> Vec<(String, ProbeReply)> {
        let mut probes = JoinSet::new();
        for address in self.addresses.clone() {
            let client = self.client.clone();
            probes.spawn(async move {
                let outcome = tokio::time::timeout(PROBE_DEADLINE, client.probe(&address)).await;
                (address, outcome.map_err(|_| "no answer in time".to_owned()).and_then(|reply| reply.map_err(|error| error.to_string())))
            });
        }
        let mut answers = Vec::new();
        while let Some(probe) = probes.join_next().await {
            match probe {
                Ok((address, Ok(reply))) => answers.push((address, reply)),
                Ok((address, Err(text))) => self.notices.unreachable(&address, &text),
                Err(error) => self.notices.progress(&error.to_string()),
            }
        }
        answers
    }

    async fn ask_to_join(&mut self, address: &str) -> Result<Option<Formed>, FormationError> {
        let wanted = match self.course {
            Course::Join { cluster_id } => cluster_id.as_deref(),
            Course::Together { .. } | Course::Alone | Course::Continue(_) => None,
        };
        let node = Member { node_id: 0, incarnation: self.own.incarnation, addresses: self.own.addresses.clone(), level: LEVEL };
        match self.client.join(address, wanted, &node).await {
            Ok(JoinAnswer::Joined { node_id, members }) => {
                let is_me = members.get(node_id).is_some_and(|member| member.incarnation == self.own.incarnation);
                if !is_me || wanted.is_some_and(|wanted| wanted != members.cluster_id) {
                    self.notices.unreachable(address, "its answer makes no sense");
                    return Ok(None);
                }
                tracing::info!(cluster_id = members.cluster_id, node_id, address, "joined a cluster");
                return Ok(Some(Formed { members, node_id, founding: false }));
            }
            Ok(JoinAnswer::Leader(leader)) => self.leader = Some(leader),
            Ok(JoinAnswer::Wait) => self.notices.progress("the cluster has no leader yet, or is busy with another change"),
            Ok(JoinAnswer::Refused(text)) => return Err(FormationError::Refused { address: address.to_owned(), text }),
            Err(error) => self.notices.unreachable(address, &error.to_string()),
        }
        Ok(None)
    }
}

/// What the operator is told while the node waits, and how often.
struct Notices {
    started: Instant,
    /// When what was said last, by the address it was about; progress has the empty one.
    said: HashMap<String, Instant>,
}

impl Notices {
    fn new() -> Self {
        Self { started: Instant::now(), said: HashMap::new() }
    }

    fn is_due(&mut self, about: &str) -> bool {
        let now = Instant::now();
        let is_recent = self.said.get(about).is_some_and(|said| now.duration_since(*said) < NOTICE_INTERVAL);
        if is_recent || now.duration_since(self.started) < QUIET_START {
            return false;
        }
        self.said.insert(about.to_owned(), now);
        true
    }

    fn unreachable(&mut self, address: &str, text: &str) {
        if self.is_due(address) {
            tracing::warn!("no answer from join address {address}: {text}; trying on");
        }
    }

    fn progress(&mut self, text: &str) {
        if self.is_due("") {
            tracing::info!("waiting for a cluster: {text}");
        }
    }
}

#[cfg(test)]
mod tests;
