//! `cluster recover`: after a majority was lost for ever, a survivor becomes a cluster of its own (decision 0011).
//! It looks at every directory that it is given, or that the cluster's directory has, and takes one that has all that any of them knows to be
//! committed; among these, the one whose log would win an election. What it found, what may be lost and what may appear is said before
//! anything is changed, and somebody has to agree.
//! What is done, in this order: the marker in the survivor's directory; its log is applied, which is what can fail for good; then, in a
//! cluster's directory, the other nodes' directories are set aside and `cluster.json` gets the new id; then the survivor's databases
//! (`node/storage/recovery.rs`).
//! Invariant: with the marker the survivor is not started before all of it is done, and the command, run again, finishes it.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::Serialize;

use super::layout::Layout;
use super::start::{shell_word, this_program};
use super::state::{ClusterLock, ClusterState};
use super::{ClusterError, RecoverOptions, Survivors, node, table};
use crate::formation::draw_cluster_id;
use crate::node::storage::{Account, RecoveryError, StorageOptions, Survivor};
use crate::rejoin;

/// What has to be typed.
const CONSENT: &str = "recover";
/// How long the addresses of voters that are not here may take to answer, all of them together.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// What to do about a failure in the middle.
const GO_ON: &str = "the recovery was begun and is not finished: mend this and run the same command again";
/// The same, when nobody knows any more what the disk has.
const START_OVER: &str = "the recovery was begun and cannot be finished: what the disk has is unknown now, so this directory is not used any \
                          more; put its copy in its place, on a disk that is well, and run the same command again";

/// `cluster recover`.
/// # Errors
/// A node runs, no directory can be used, a majority is there, nobody agrees, or something cannot be written.
pub(super) fn recover(options: &RecoverOptions, sizes: StorageOptions, out: &mut dyn Write) -> Result<(), ClusterError> {
    let mut site = Site::find(&options.survivors)?;
    let user = rustix::process::geteuid().as_raw();
    site.dirs().iter().try_for_each(|dir| check_owner(dir, user))?;
    let mut found = site.dirs().into_iter().map(|dir| Found::at(dir, sizes)).collect::<Result<Vec<_>, _>>()?;
    let choice = choose(&found.iter().filter_map(Found::account).collect::<Vec<_>>());
    let mut report = Report::of(&found, choice.as_ref().ok());
    report.look_for_the_missing();
    report.refusal = choice.as_ref().err().cloned().or_else(|| report.doubt(options));
    report.print(options, out)?;
    if let Some(refusal) = report.refusal {
        return Err(ClusterError::NotRecovered(refusal));
    }
    let chosen = choice.expect("what cannot be chosen is refused");
    if !options.yes {
        ask()?;
    }

    let is_chosen = |found: &Found| found.account().is_some_and(|(dir, _)| dir == chosen);
    let at = found.iter().position(is_chosen).expect("a directory that was found is chosen");
    let Found { dir, survivor } = found.swap_remove(at);
    let survivor = survivor.expect("only one that can be used is chosen");
    // Directories that are in use must not be moved.
    drop(found);
    let account = survivor.account().clone();
    let cluster_id = account.begun.clone().unwrap_or_else(draw_cluster_id);
    let set_aside = carry_out(&mut site, &dir, survivor, &cluster_id).map_err(unfinished)?;
    let peer = account.own.as_ref().map(|own| own.addresses.peer.clone()).unwrap_or_default();
    Outcome { node_id: account.node_id, dir: shown(&dir), cluster_id, set_aside, peer }.print(options, out)
}

/// Checks that the databases in a directory are this user's: looking at them writes to them, and the node's own user could not open them
/// afterwards, whoever else had looked. The data directory itself may be where a volume is mounted, which is often somebody else's.
/// # Errors
/// They are another user's. What is not there is told in the report.
fn check_owner(dir: &Path, user: u32) -> Result<(), ClusterError> {
    for part in ["log", "data"].map(|part| dir.join(part)) {
        if let Some(owner) = fs::metadata(&part).ok().map(|metadata| metadata.uid()).filter(|owner| *owner != user) {
            let text = format!("{} belongs to user {owner}, and this is user {user}", part.display());
            let way = format!("run it as that user (sudo -u '#{owner}'), or its node cannot open its files afterwards");
            return Err(ClusterError::NotRecovered(format!("{text}: {way}")));
        }
    }
    Ok(())
}

/// Does what was agreed to. Returns where other nodes' former directories are.
fn carry_out(site: &mut Site, dir: &Path, mut survivor: Survivor, cluster_id: &str) -> Result<Vec<String>, ClusterError> {
    let failed = |cause| ClusterError::Recovery { dir: dir.to_owned(), cause };
    survivor.begin(cluster_id).map_err(failed)?;
    survivor.apply_log().map_err(failed)?;
    let set_aside = site.settle(dir, cluster_id)?;
    survivor.finish().map_err(failed)?;
    Ok(set_aside)
}

/// Says what state things are in when a recovery that was begun has failed.
fn unfinished(cause: ClusterError) -> ClusterError {
    let is_unsynced = matches!(&cause, ClusterError::Recovery { cause, .. } if cause.is_failed_sync());
    ClusterError::Unfinished { cause: Box::new(cause), advice: if is_unsynced { START_OVER } else { GO_ON } }
}

/// Where the survivors are, and what else has to be done there.
enum Site {
    /// Data directories of servers that others start.
    Apart(Vec<PathBuf>),
    /// The directory of a cluster.
    Supervised { lock: ClusterLock, state: ClusterState, layout: Layout },
}

impl Site {
    /// # Errors
    /// The cluster runs or there is none, or directories are given that belong to one or are the same.
    fn find(survivors: &Survivors) -> Result<Self, ClusterError> {
        match survivors {
            Survivors::DataDirs(dirs) => {
                let mut known = Vec::new();
                for dir in dirs {
                    // What is not there is told like anything else that cannot be used.
                    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
                    if let Some(cluster) = dir.parent().filter(|parent| ClusterState::read(parent).is_ok_and(|state| state.is_some())) {
                        let text = format!("{} is part of a cluster: give --dir {}", dir.display(), cluster.display());
                        return Err(ClusterError::Options(format!("--data-dir: {text}")));
                    }
                    if known.contains(&dir) {
                        return Err(ClusterError::Options(format!("--data-dir: {} is given twice", dir.display())));
                    }
                    known.push(dir);
                }
                Ok(Self::Apart(known))
            }
            Survivors::Cluster(dir) => {
                ClusterState::read_existing(dir)?;
                let lock = ClusterLock::take(dir)?;
                let state = ClusterState::read_existing(dir)?;
                if !state.running_nodes().is_empty() {
                    return Err(ClusterError::AlreadyRunning(dir.clone()));
                }
                let layout = state.layout(dir)?;
                Ok(Self::Supervised { lock, state, layout })
            }
        }
    }

    fn dirs(&self) -> Vec<PathBuf> {
        match self {
            Self::Apart(dirs) => dirs.clone(),
            Self::Supervised { layout, .. } => layout.nodes().map(|node| layout.node_dir(node)).collect(),
        }
    }

    /// Has the other nodes of a cluster's directory join the survivor, empty, when they are started next. Returns where their former
    /// directories are.
    fn settle(&mut self, survivor: &Path, cluster_id: &str) -> Result<Vec<String>, ClusterError> {
        let Self::Supervised { lock, state, layout } = self else { return Ok(Vec::new()) };
        let mut places = Vec::new();
        for number in layout.nodes().filter(|number| layout.node_dir(*number) != survivor) {
            let place = layout.set_aside_dir(number);
            node::set_aside(layout, number)?;
            if place.exists() {
                places.push(shown(&place));
            }
        }
        state.cluster_id = Some(cluster_id.to_owned());
        state.supervisor = None;
        for node in &mut state.nodes {
            (node.process, node.given_up) = (None, None);
        }
        lock.write(state)?;
        Ok(places)
    }
}

/// A directory as it was found.
struct Found {
    dir: PathBuf,
    survivor: Result<Survivor, RecoveryError>,
}

impl Found {
    /// # Errors
    /// A node runs in it. What else is wrong with it is told in the report.
    fn at(dir: PathBuf, sizes: StorageOptions) -> Result<Self, ClusterError> {
        let survivor = Survivor::open(&dir, sizes);
        if survivor.as_ref().is_err_and(RecoveryError::is_locked) {
            return Err(ClusterError::NotRecovered(format!("a node runs in {}: stop it first", dir.display())));
        }
        Ok(Self { dir, survivor })
    }

    /// What a usable directory says.
    fn account(&self) -> Option<(&Path, &Account)> {
        let is_usable = !rejoin::is_under_way(&self.dir);
        self.survivor.as_ref().ok().filter(|_| is_usable).map(|survivor| (self.dir.as_path(), survivor.account()))
    }

    fn trouble(&self) -> Option<String> {
        match &self.survivor {
            Err(error) => Some(error.to_string()),
            Ok(_) if rejoin::is_under_way(&self.dir) => Some("its data were to be set aside by --rejoin".to_owned()),
            Ok(survivor) if survivor.account().is_member() || survivor.account().begun.is_some() => None,
            Ok(_) => Some("its node is no member".to_owned()),
        }
    }
}

/// The directory to go on with.
/// # Errors
/// There is none, or there is no need; one line says why.
fn choose(accounts: &[(&Path, &Account)]) -> Result<PathBuf, String> {
    match accounts.iter().filter(|(_, account)| account.begun.is_some()).collect::<Vec<_>>()[..] {
        [] => {}
        [(dir, _)] => return Ok(dir.to_path_buf()),
        [(one, _), (other, _), ..] => {
            return Err(format!("recoveries were begun in {} and in {}: give one of them", one.display(), other.display()));
        }
    }
    let members: Vec<_> = accounts.iter().filter(|(_, account)| account.is_member()).collect();
    let Some(knowing) = knowing(accounts) else { return Err("no directory has the data of a member".to_owned()) };
    for (at, (dir, account)) in members.iter().enumerate() {
        if account.cluster_id != members[0].1.cluster_id {
            return Err(format!("{} is of another cluster, {}", dir.display(), account.cluster_id));
        }
        if let Some((same, _)) = members[..at].iter().find(|(_, other)| other.node_id == account.node_id) {
            return Err(format!("{} and {} are of the same node", same.display(), dir.display()));
        }
    }
    let present: Vec<u64> = members.iter().map(|(_, account)| account.node_id).collect();
    // Others may have been replaced since, and not know it.
    if knowing.is_majority(&present) {
        let voters = list(&knowing.voters());
        return Err(format!(
            "a majority of the voters ({voters}) is here: start these nodes, and nothing is lost; a node that was removed must not be among them"
        ));
    }
    // A log may end in a later term and lack what another one is known to have committed (Raft paper, figure 8). Of the others, one that ends
    // later won the elections that these lost (section 5.4.1).
    let has_all = |account: &Account| members.iter().all(|(_, other)| account.has(other.commit));
    let eligible = members.iter().filter(|(_, account)| has_all(account));
    let best = eligible.max_by_key(|(_, account)| (account.last.term, account.last.index, account.commit.index));
    match best {
        Some((dir, _)) => Ok(dir.to_path_buf()),
        None => Err("the directories contradict each other about what was committed: they are not of one history".to_owned()),
    }
}

/// The member that knows most of what was committed, and so of the configuration.
fn knowing<'a>(accounts: &[(&Path, &'a Account)]) -> Option<&'a Account> {
    let members = accounts.iter().map(|(_, account)| *account).filter(|account| account.is_member());
    members.max_by_key(|account| account.commit.index)
}

/// Says for each address whether somebody listens there, as far as that shows in time.
/// Each has a thread, which may outlive this: a name may take long to resolve. There are no more addresses than a configuration has voters.
fn answers(addresses: &[Option<String>]) -> Vec<bool> {
    let (sender, receiver) = mpsc::sync_channel(addresses.len());
    for (at, address) in addresses.iter().enumerate() {
        let (sender, Some(address)) = (sender.clone(), address.clone()) else { continue };
        thread::spawn(move || {
            let mut places = address.to_socket_addrs().into_iter().flatten();
            if places.any(|place| TcpStream::connect_timeout(&place, ANSWER_PATIENCE).is_ok()) {
                // After the time is up nobody wants to know.
                let _ = sender.send(at);
            }
        });
    }
    // Without any sender left, nobody is waited for.
    drop(sender);
    let deadline = Instant::now() + ANSWER_PATIENCE;
    let mut answers = vec![false; addresses.len()];
    while let Ok(at) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        answers[at] = true;
    }
    answers
}

fn ask() -> Result<(), ClusterError> {
    let mut line = String::new();
    if !io::stdin().is_terminal() {
        return Err(ClusterError::NotRecovered("nothing was changed: add --yes if that is what you want".to_owned()));
    }
    // Not on standard output, which may go elsewhere.
    let mut prompt = io::stderr();
    write!(prompt, "type `{CONSENT}` to go on: ")?;
    prompt.flush()?;
    io::stdin().read_line(&mut line)?;
    if line.trim() == CONSENT { Ok(()) } else { Err(ClusterError::NotRecovered("nothing was changed".to_owned())) }
}

/// What was found and what follows. Scripts rely on these names.
#[derive(Debug, Serialize)]
struct Report {
    directories: Vec<Row>,
    /// Null if there is none.
    survivor: Option<Plan>,
    /// Why nothing is done; null if nothing but consent is missing.
    refusal: Option<String>,
}

/// A directory in the report.
#[derive(Debug, Default, Serialize)]
struct Row {
    dir: String,
    node_id: Option<u64>,
    /// `voter`, `learner` or `none`.
    role: Option<&'static str>,
    term: Option<u64>,
    applied_index: Option<u64>,
    commit_index: Option<u64>,
    last_term: Option<u64>,
    last_index: Option<u64>,
    last_time_ms: Option<u64>,
    /// Why it cannot be used.
    error: Option<String>,
}

/// What would be done.
#[derive(Debug, Serialize)]
struct Plan {
    dir: String,
    node_id: u64,
    cluster_id: String,
    last_term: u64,
    last_index: u64,
    last_time_ms: u64,
    commit_index: u64,
    /// Entries behind that, which it does not know to be committed.
    uncommitted_entries: u64,
    /// As the directory knows them that knows most of what was committed.
    voters: Vec<u64>,
    /// Those without a directory here.
    missing_voters: Vec<u64>,
    /// Where these are, and whether they live.
    missing: Vec<Missing>,
    /// Members that are removed.
    removed: Vec<u64>,
    /// Null unless a recovery was begun: the cluster that it makes.
    begun: Option<String>,
}

/// A voter without a directory here.
#[derive(Debug, Serialize)]
struct Missing {
    node_id: u64,
    /// Its peer address; null if no table here has it.
    peer: Option<String>,
    /// Whether somebody listens there.
    answers: bool,
}

impl Missing {
    fn of(node_id: u64, accounts: &[(&Path, &Account)]) -> Self {
        let in_table = |account: &Account| account.own.iter().chain(&account.others).find(|member| member.node_id == node_id).cloned();
        let known = accounts.iter().filter_map(|(_, account)| Some((account.applied, in_table(account)?.addresses.peer)));
        Self { node_id, peer: known.max().map(|(_, peer)| peer).filter(|peer| !peer.is_empty()), answers: false }
    }

    fn shown(&self) -> String {
        format!("{} ({})", self.node_id, self.peer.as_deref().unwrap_or("its address is not known"))
    }
}

impl Report {
    fn of(found: &[Found], chosen: Option<&PathBuf>) -> Self {
        let accounts: Vec<_> = found.iter().filter_map(Found::account).collect();
        let chosen = chosen.and_then(|chosen| accounts.iter().find(|(dir, _)| dir == chosen));
        let survivor = chosen.map(|(dir, account)| Plan::of(dir, account, &accounts));
        Self { directories: found.iter().map(Row::of).collect(), survivor, refusal: None }
    }

    /// Finds out whether those live that are taken for lost. What was begun goes on in any case.
    fn look_for_the_missing(&mut self) {
        let Some(plan) = self.survivor.as_mut().filter(|plan| plan.begun.is_none()) else { return };
        let addresses: Vec<_> = plan.missing.iter().map(|missing| missing.peer.clone()).collect();
        for (missing, answers) in plan.missing.iter_mut().zip(answers(&addresses)) {
            missing.answers = answers;
        }
    }

    /// Why it is not done without somebody who has read the report.
    fn doubt(&self, options: &RecoverOptions) -> Option<String> {
        let plan = self.survivor.as_ref().filter(|plan| options.yes && plan.begun.is_none())?;
        if let Some(text) = plan.who_answers().filter(|_| !options.despite_answers) {
            return Some(format!("{text}; if these are other programs, or nodes without data, add --despite-answers"));
        }
        // In the directory of a cluster nobody names those that cannot be used, and what is lost is mostly among them.
        let is_named = matches!(options.survivors, Survivors::DataDirs(_));
        let (dir, error) = self.unusable().next().filter(|_| is_named)?;
        Some(format!("{dir} cannot be used ({error}): if what only it has may be lost, leave it out of the command"))
    }

    /// The directories that cannot be used, and why.
    fn unusable(&self) -> impl Iterator<Item = (&str, &str)> {
        self.directories.iter().filter_map(|row| Some((row.dir.as_str(), row.error.as_deref()?)))
    }

    fn lines(&self) -> Vec<String> {
        let Some(plan) = &self.survivor else { return Vec::new() };
        let unused = self.unusable().filter(|_| plan.begun.is_none());
        let unused = unused.map(|(dir, error)| format!("not used:    {dir} ({error}); what only it has is lost"));
        unused.chain(plan.lines()).collect()
    }

    fn print(&self, options: &RecoverOptions, out: &mut dyn Write) -> Result<(), ClusterError> {
        if options.json {
            writeln!(out, "{}", serde_json::to_string(self).expect("numbers and texts always become JSON"))?;
        } else {
            let headings = ["DIRECTORY", "ID", "ROLE", "TERM", "APPLIED", "COMMITTED", "LAST TERM", "LAST INDEX", "LAST TIME", ""];
            out.write_all(table::render(&headings, self.directories.iter().map(Row::cells).collect()).as_bytes())?;
            for line in self.lines() {
                writeln!(out, "{line}")?;
            }
        }
        out.flush()?;
        Ok(())
    }
}

impl Row {
    fn of(found: &Found) -> Self {
        let (dir, error) = (shown(&found.dir), found.trouble());
        let Ok(survivor) = &found.survivor else { return Self { dir, error, ..Self::default() } };
        let account = survivor.account();
        let role = if account.is_voter() {
            "voter"
        } else if account.is_learner() {
            "learner"
        } else {
            "none"
        };
        Self {
            dir,
            node_id: Some(account.node_id),
            role: Some(role),
            term: Some(account.term),
            applied_index: Some(account.applied),
            commit_index: Some(account.commit.index),
            last_term: Some(account.last.term),
            last_index: Some(account.last.index),
            last_time_ms: Some(account.log_time_ms),
            error,
        }
    }

    fn cells(&self) -> Vec<String> {
        let role = self.role.unwrap_or("-").to_owned();
        let time = self.last_time_ms.map_or_else(|| "-".to_owned(), utc);
        let [id, term, applied, committed] = [self.node_id, self.term, self.applied_index, self.commit_index].map(table::number);
        let [last_term, last_index] = [self.last_term, self.last_index].map(table::number);
        let error = self.error.clone().unwrap_or_default();
        vec![self.dir.clone(), id, role, term, applied, committed, last_term, last_index, time, error]
    }
}

impl Plan {
    fn of(dir: &Path, account: &Account, accounts: &[(&Path, &Account)]) -> Self {
        let voters = knowing(accounts).unwrap_or(account).voters();
        let is_here = |voter: u64| accounts.iter().any(|(_, account)| account.is_member() && account.node_id == voter);
        let missing_voters: Vec<u64> = voters.iter().copied().filter(|voter| !is_here(*voter)).collect();
        Self {
            dir: shown(dir),
            node_id: account.node_id,
            cluster_id: account.cluster_id.clone(),
            last_term: account.last.term,
            last_index: account.last.index,
            last_time_ms: account.log_time_ms,
            commit_index: account.commit.index,
            uncommitted_entries: account.last.index - account.commit.index,
            missing: missing_voters.iter().map(|voter| Missing::of(*voter, accounts)).collect(),
            missing_voters,
            voters,
            removed: account.others.iter().map(|member| member.node_id).collect(),
            begun: account.begun.clone(),
        }
    }

    /// Who is taken for lost and may live.
    fn who_answers(&self) -> Option<String> {
        let answering: Vec<_> = self.missing.iter().filter(|missing| missing.answers).map(Missing::shown).collect();
        let text = "somebody answers at the peer addresses of these voters, so they may not be lost";
        (!answering.is_empty()).then(|| format!("{text}: {}", answering.join(", ")))
    }

    fn lines(&self) -> Vec<String> {
        if let Some(begun) = &self.begun {
            return vec![format!("the recovery of node {} as cluster {begun} was begun before, and is finished now", self.node_id)];
        }
        let Self { node_id, last_term, last_index, commit_index, uncommitted_entries, .. } = self;
        let time = utc(self.last_time_ms);
        let missing: Vec<_> = self.missing.iter().map(Missing::shown).collect();
        let missing = if missing.is_empty() { "none".to_owned() } else { missing.join(", ") };
        let mut lines = vec![
            format!("cluster:     {}", self.cluster_id),
            format!("voters:      {}, as far as is known here: {}", self.voters.len(), list(&self.voters)),
            format!("not here:    {missing}"),
            format!("survivor:    node {node_id} in {}, whose last entry is of term {last_term}, index {last_index}", self.dir),
            format!(
                "may be lost: what other nodes acknowledged after that entry ({time} by the leader's clock); nobody here can know how much"
            ),
            format!(
                "may appear:  {uncommitted_entries} entries behind index {commit_index}, of which the survivor does not know whether they were \
                 committed; they are kept. Clients were told that these writes succeeded, or that their outcome is unknown, or nothing"
            ),
            format!(
                "it becomes:  the only voter of a new cluster. The other members ({}) are removed for ever: only empty nodes can join",
                list(&self.removed)
            ),
        ];
        if let Some(text) = self.who_answers() {
            lines.push(format!("warning:     {text}. If it is them, do not go on: start the node that is here, and nothing is lost"));
        }
        lines
    }
}

/// What was done. Scripts rely on these names.
#[derive(Debug, Serialize)]
struct Outcome {
    node_id: u64,
    dir: String,
    /// The new one.
    cluster_id: String,
    /// Where the other nodes' former directories are.
    set_aside: Vec<String>,
    /// Where the node is reached by the others.
    peer: String,
}

impl Outcome {
    fn print(&self, options: &RecoverOptions, out: &mut dyn Write) -> Result<(), ClusterError> {
        if options.json {
            writeln!(out, "{}", serde_json::to_string(self).expect("numbers and texts always become JSON"))?;
        } else {
            writeln!(out, "recovered:   node {} is the only member of cluster {}", self.node_id, self.cluster_id)?;
            for line in self.next_steps(&options.survivors) {
                writeln!(out, "{line}")?;
            }
        }
        out.flush()?;
        Ok(())
    }

    fn next_steps(&self, survivors: &Survivors) -> Vec<String> {
        let program = this_program();
        let Self { cluster_id, peer, .. } = self;
        match survivors {
            Survivors::Cluster(dir) => {
                let kept = self.set_aside.iter().map(|place| format!("set aside:   {place}"));
                kept.chain([format!("next:        {program} cluster start --dir {}", shell_word(dir))]).collect()
            }
            Survivors::DataDirs(_) => {
                let dir = shell_word(Path::new(&self.dir));
                vec![
                    "next:        start it with the options that it always had; if cluster-id is among them, with the new one:".to_owned(),
                    format!("  {program} server --data-dir {dir} --cluster-id {cluster_id} ..."),
                    "             then, for each node that was lost, one with an empty directory:".to_owned(),
                    format!("  {program} server --data-dir EMPTY --cluster-id {cluster_id} --join {peer} ..."),
                    "             Never start another directory of the former cluster again.".to_owned(),
                ]
            }
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn list(ids: &[u64]) -> String {
    if ids.is_empty() { "none".to_owned() } else { ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ") }
}

/// A time in ms since the Unix epoch as people read it; one that has no year of four digits as the last that has.
fn utc(ms: u64) -> String {
    const LAST_MS: u64 = 253_402_300_799_999;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms.min(LAST_MS)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use raft::eraftpb::ConfState;
    use raftlog::log::LogPosition;

    use super::*;
    use crate::node::core::Member;

    fn account(node_id: u64, last: (u64, u64), voters: &[u64]) -> Account {
        Account {
            cluster_id: "one".to_owned(),
            node_id,
            own: Some(Member { node_id, ..Member::default() }),
            others: voters.iter().filter(|id| **id != node_id).map(|id| Member { node_id: *id, ..Member::default() }).collect(),
            configuration: ConfState { voters: voters.to_vec(), ..ConfState::default() },
            term: last.0,
            applied: 6,
            commit: LogPosition { term: 2, index: 6 },
            last: LogPosition { term: last.0, index: last.1 },
            terms: vec![LogPosition { term: last.0, index: 7 }],
            log_time_ms: 0,
            begun: None,
        }
    }

    fn committed((term, index): (u64, u64), account: Account) -> Account {
        Account { commit: LogPosition { term, index }, ..account }
    }

    fn chosen(accounts: &[Account]) -> Result<String, String> {
        let dirs: Vec<PathBuf> = accounts.iter().enumerate().map(|(at, _)| PathBuf::from(format!("/{at}"))).collect();
        choose(&dirs.iter().map(PathBuf::as_path).zip(accounts).collect::<Vec<_>>()).map(|dir| shown(&dir))
    }

    #[track_caller]
    fn check(accounts: &[Account], expected: Result<&str, &str>) {
        match (chosen(accounts), expected) {
            (Ok(dir), Ok(expected)) => assert_eq!(dir, expected),
            (Err(text), Err(expected)) => assert!(text.contains(expected) && !text.contains('\n'), "{text}"),
            (found, _) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn the_log_that_would_win_an_election_is_taken() {
        let five = &[1, 2, 3, 4, 5];
        check(&[account(1, (3, 90), five), account(2, (4, 80), five)], Ok("/1"));
        check(&[account(1, (4, 90), five), account(2, (4, 80), five)], Ok("/0"));
        check(&[account(1, (4, 80), five), committed((4, 80), account(2, (4, 80), five))], Ok("/1"));
        // Who does not vote may have what is left.
        let mut learner = account(6, (4, 81), five);
        learner.configuration.learners = vec![6];
        check(&[account(1, (4, 80), five), learner], Ok("/1"));
    }

    #[test]
    fn what_one_of_them_knows_to_be_committed_is_kept() {
        let five = &[1, 2, 3, 4, 5];
        let at = |term, index| LogPosition { term, index };
        // Entry 7 of term 3 was committed in term 5, of which nobody here has an entry. Node 2 led in term 4, and never sent its own.
        let committed_later = committed((3, 7), account(1, (3, 7), five));
        check(&[committed_later.clone(), account(2, (4, 7), five)], Ok("/0"));
        check(&[account(2, (4, 7), five), committed_later.clone()], Ok("/1"));
        // One that ends later and has it, in its log or in its data.
        let longer = Account { terms: vec![at(3, 7), at(6, 8)], ..account(2, (6, 9), five) };
        check(&[committed_later.clone(), longer.clone()], Ok("/1"));
        let applied = Account { applied: 7, commit: at(3, 7), terms: vec![at(6, 8)], ..account(2, (6, 9), five) };
        check(&[committed_later.clone(), applied], Ok("/1"));
        // Of the same index, but another entry; or too short.
        check(&[committed((3, 8), account(1, (3, 8), five)), longer], Ok("/0"));
        check(&[committed((3, 8), account(1, (3, 8), five)), account(2, (3, 7), five)], Ok("/0"));
        check(&[committed_later, committed((4, 7), account(2, (4, 7), five))], Err("contradict each other"));
    }

    #[test]
    fn a_majority_is_told_to_start() {
        let three = &[1, 2, 3];
        check(&[account(1, (3, 90), three), account(3, (3, 80), three)], Err("a majority of the voters (1, 2, 3) is here"));
        check(&[account(1, (3, 90), three)], Ok("/0"));
        check(&[account(1, (3, 90), &[1])], Err("a majority of the voters (1) is here"));
        check(&[account(1, (3, 90), &[1, 2])], Ok("/0"));
        // One that knows of a later configuration is believed; others need not know that they were replaced.
        let later = |voters: &[u64]| committed((3, 80), account(1, (3, 90), voters));
        check(&[later(&[1, 4, 5]), account(2, (3, 80), three), account(3, (3, 80), three)], Ok("/0"));
        check(&[later(&[1, 2]), account(2, (3, 80), &[1, 2, 3, 4, 5])], Err("a majority of the voters (1, 2) is here"));
        // Both sides of a change have to agree.
        let mut joint = later(&[1, 4, 5]);
        joint.configuration.voters_outgoing = vec![1, 2, 3];
        check(&[joint.clone(), account(4, (3, 80), &[7, 8, 9, 4])], Ok("/0"));
        check(&[joint, account(4, (3, 80), &[7, 8, 9, 4]), account(3, (3, 80), three)], Err("(1, 2, 3, 4, 5) is here"));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let three = &[1, 2, 3];
        check(&[], Err("no directory has the data of a member"));
        check(&[account(4, (3, 90), three)], Err("no directory has the data of a member"));
        check(&[Account { own: None, ..account(1, (3, 90), three) }], Err("no directory has the data of a member"));
        check(&[account(1, (3, 90), three), account(1, (3, 80), three)], Err("/0 and /1 are of the same node"));
        let stranger = Account { cluster_id: "two".to_owned(), ..account(2, (3, 80), three) };
        check(&[account(1, (3, 90), three), stranger], Err("/1 is of another cluster, two"));
    }

    #[test]
    fn a_recovery_that_was_begun_is_finished() {
        let five = &[1, 2, 3, 4, 5];
        let begun = |node_id| Account { begun: Some("two".to_owned()), ..account(node_id, (3, 80), &[node_id]) };
        check(&[account(1, (4, 90), five), begun(2)], Ok("/1"));
        check(&[begun(1), begun(2)], Err("recoveries were begun in /0 and in /1"));
    }

    fn plan(account: &Account) -> Plan {
        Plan::of(Path::new("/good"), account, &[(Path::new("/good"), account)])
    }

    /// A report on a directory that can be used and one that cannot.
    fn report() -> Report {
        let account = account(1, (4, 90), &[1, 2, 3]);
        let rows = [("/good", None), ("/bad", Some("a checksum does not fit"))];
        let row = |(dir, error): (&str, Option<&str>)| Row { dir: dir.to_owned(), error: error.map(str::to_owned), ..Row::default() };
        Report { directories: rows.map(row).into(), survivor: Some(plan(&account)), refusal: None }
    }

    #[test]
    fn what_was_named_and_cannot_be_used_is_not_passed_over_unseen() {
        let options = |survivors, yes| RecoverOptions { survivors, yes, despite_answers: false, json: false };
        let named = Survivors::DataDirs(vec!["/good".into(), "/bad".into()]);
        let mut report = report();
        let text = report.doubt(&options(named.clone(), true)).expect("it was named");
        assert!(text.contains("/bad cannot be used (a checksum does not fit)") && text.contains("leave it out"), "{text}");
        assert!(report.lines().contains(&"not used:    /bad (a checksum does not fit); what only it has is lost".to_owned()));
        // Somebody who is asked has read that. In the directory of a cluster it is nobody's choice.
        assert_eq!(report.doubt(&options(named.clone(), false)), None);
        assert_eq!(report.doubt(&options(Survivors::Cluster("/c".into()), true)), None);
        // What was begun has been agreed to.
        report.survivor.as_mut().expect("there is one").begun = Some("two".to_owned());
        assert_eq!(report.doubt(&options(named, true)), None);
        assert_eq!(report.lines().len(), 1);
    }

    #[test]
    fn the_report_says_what_may_be_lost_and_what_may_appear() {
        let mut account = Account { log_time_ms: 1_795_775_102_000, ..account(1, (4, 90), &[1, 2, 3]) };
        account.others[0].addresses.peer = "two:16379".to_owned();
        let text = plan(&account).lines().join("\n");
        for words in [
            "voters:      3, as far as is known here: 1, 2, 3",
            "not here:    2 (two:16379), 3 (its address is not known)",
            "node 1 in /good, whose last entry is of term 4, index 90",
            "acknowledged after that entry (Fri, 27 Nov 2026 10:25:02 GMT by the leader's clock)",
            "84 entries behind index 6",
            "The other members (2, 3) are removed for ever",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert!(!text.contains("warning:"), "{text}");
    }

    #[test]
    fn who_is_taken_for_lost_and_answers_is_no_matter_for_scripts() {
        let options = |yes, despite_answers| RecoverOptions {
            survivors: Survivors::DataDirs(vec!["/good".into()]),
            yes,
            despite_answers,
            json: false,
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let [alive, gone] = [&listener, &TcpListener::bind("127.0.0.1:0").expect("a port")].map(|one| one.local_addr().expect("bound"));
        let mut account = account(1, (4, 90), &[1, 2, 3, 4]);
        account.others[0].addresses.peer = gone.to_string();
        account.others[1].addresses.peer = alive.to_string();
        let mut report = Report { directories: Vec::new(), survivor: Some(plan(&account)), refusal: None };
        assert_eq!(report.doubt(&options(true, false)), None, "nobody has looked");
        report.look_for_the_missing();
        let answering: Vec<_> = report.survivor.iter().flat_map(|plan| &plan.missing).map(|missing| missing.answers).collect();
        assert_eq!(answering, [false, true, false]);
        let text = report.doubt(&options(true, false)).expect("node 3 answers");
        assert!(text.contains(&format!("3 ({alive})")) && text.contains("--despite-answers"), "{text}");
        assert!(report.lines().last().is_some_and(|line| line.starts_with("warning:")));
        assert_eq!(report.doubt(&options(true, true)), None);
        assert_eq!(report.doubt(&options(false, false)), None, "who is asked has read the warning");
    }

    #[test]
    fn nobody_but_the_owner_of_the_databases_looks_at_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let user = fs::metadata(dir.path()).expect("it is there").uid();
        assert!(check_owner(dir.path(), user + 1).is_ok(), "there are none");
        fs::create_dir(dir.path().join("data")).expect("a directory");
        assert!(check_owner(dir.path(), user).is_ok());
        let text = check_owner(dir.path(), user + 1).expect_err("somebody else's").to_string();
        assert!(text.contains(&format!("belongs to user {user}, and this is user {}: run it as that user", user + 1)), "{text}");
    }

    #[test]
    fn addresses_come_from_the_latest_table() {
        let at = |applied, peer: &str| {
            let mut account = Account { applied, ..account(1, (4, 90), &[1, 2, 3]) };
            account.others[0].addresses.peer = peer.to_owned();
            account
        };
        let accounts = [at(7, "then"), at(9, "now"), at(8, "later")];
        let accounts: Vec<_> = accounts.iter().map(|account| (Path::new("/d"), account)).collect();
        assert_eq!(Missing::of(2, &accounts).peer.as_deref(), Some("now"));
        assert_eq!(Missing::of(3, &accounts).peer, None);
        assert_eq!(Missing::of(9, &accounts).peer, None);
    }
}
