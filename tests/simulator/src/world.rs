//! The world: machines, the network between them, clients and faults, in simulated time.
//! Everything that happens is an event with a time; events at one time happen in the order in which they were planned. All chance comes
//! from the plan's seed, so a seed always tells the same story; `Trace` tells it.
//! After the time of faults everything heals: the cluster must come to rest, every machine must serve, and all data must be alike.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use protobuf::Message as _;
use raft::eraftpb::Message;
use raftlog::engine::{Engine, ExportedFile, ViewKind};
use raftlog::message::{Body, Frame};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use redraft::node::core::{Addresses, AdminRequest, JoinAnswer, LEVEL, Lane, Member, Members, Now, RequestId, SnapshotId};
use redraft::node::storage::{persist_peers, read_peers};
use redraft::node::{PeerProcess, PeerProcesses};
use redraft_tests::linearizability::Command;
use tempfile::TempDir;

use crate::checks::{Checked, Checks, contents_of};
use crate::clients::{Clients, Question};
use crate::machine::{Life, Machine, Out, Started, Work, fork};
use crate::plan::{Plan, Rates};
use crate::planted::Bug;
use crate::trace::Trace;

const CLUSTER: &str = "simulated";
/// Wall time at the beginning, in ms since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// Two machines try to connect so often, in ms.
const CONNECT_EVERY_MS: u64 = 100;
/// A blank machine asks to join so often, in ms.
const JOIN_EVERY_MS: u64 = 300;
/// What cannot be mended by waiting happens to one machine at a time, and then not for so long, in ms.
const PERMANENT_EVERY_MS: u64 = 3_000;
/// Within so long after the last fault everything must be well again, in ms.
const HEALED_WITHIN_MS: u64 = 60_000;
/// Lanes between two nodes.
const LANES: [Lane; 3] = [Lane::Control, Lane::Append, Lane::Forward];

enum Event {
    Work(usize, u64, Work),
    Deliver { from: usize, to: usize, lane: Lane, epoch: u64, frame: Box<Frame> },
    Connect(usize, usize),
    Streamed(Box<Stream>),
    AskToJoin(usize, u64, Option<usize>),
    JoinAnswered(usize, u64, Box<JoinAnswer>),
    Client(usize),
    Fault(Fault),
    Start(usize),
    Rejoin(usize),
    Mend(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    CrashAll,
    Pause,
    Partition,
    Reset,
    Wipe,
    LostTail,
    Removal,
    Transfer,
    ClockStep,
    Slowness,
    Verify,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::Crash,
        Self::CrashAll,
        Self::Pause,
        Self::Partition,
        Self::Reset,
        Self::Wipe,
        Self::LostTail,
        Self::Removal,
        Self::Transfer,
        Self::ClockStep,
        Self::Slowness,
        Self::Verify,
    ];

    const fn rate(self, rates: &Rates) -> f64 {
        match self {
            Self::Crash => rates.crash,
            Self::CrashAll => rates.crash_all,
            Self::Pause => rates.pause,
            Self::Partition => rates.partition,
            Self::Reset => rates.reset,
            Self::Wipe => rates.wipe,
            Self::LostTail => rates.lost_tail,
            Self::Removal => rates.removal,
            Self::Transfer => rates.transfer,
            Self::ClockStep => rates.clock_step,
            Self::Slowness => rates.slowness,
            Self::Verify => rates.verify,
        }
    }
}

struct Planned {
    at_us: u64,
    serial: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.serial) == (other.at_us, other.serial)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.serial).cmp(&(other.at_us, other.serial))
    }
}

/// A snapshot on its way from one life of a machine to one of another.
struct Stream {
    from: (usize, u64),
    to: (usize, u64),
    id: SnapshotId,
    message: Message,
    files: Vec<(ExportedFile, Vec<u8>)>,
    is_whole: bool,
}

/// One direction of one lane between two machines.
#[derive(Clone, Copy, Default)]
struct Connection {
    /// Raised when it breaks: what was under way is lost.
    epoch: u64,
    is_up: bool,
    last_us: u64,
}

/// What the world knows about a machine.
#[derive(Clone, Copy, Default)]
struct Condition {
    paused_until_us: u64,
    is_slow: bool,
    offset_ms: i64,
}

/// What happened in a run, for summaries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Terms with a leader.
    pub elections: u64,
    /// Snapshots that arrived.
    pub snapshots: u64,
    /// Faults.
    pub faults: u64,
    /// Members that joined after the founding.
    pub joins: u64,
    /// Comparisons of the replicas that came to their end.
    pub comparisons: u64,
    /// Requests answered, refused, and without an outcome.
    pub answered: u64,
    /// See `answered`.
    pub refused: u64,
    /// See `answered`.
    pub unknown: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.elections += other.elections;
        self.snapshots += other.snapshots;
        self.faults += other.faults;
        self.joins += other.joins;
        self.comparisons += other.comparisons;
        self.answered += other.answered;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }
}

/// A cluster, its surroundings, and their present.
pub struct World {
    plan: Plan,
    bug: Option<Bug>,
    random: SmallRng,
    now_us: u64,
    last_ns: u64,
    serial: u64,
    planned: BinaryHeap<Reverse<Planned>>,
    machines: Vec<Machine>,
    conditions: Vec<Condition>,
    connections: BTreeMap<(usize, usize, u8), Connection>,
    cuts: BTreeMap<(usize, usize), u64>,
    /// The machine that is a node.
    homes: BTreeMap<u64, usize>,
    joins: BTreeMap<(usize, RequestId), (usize, u64)>,
    clients: Clients,
    checks: Checks,
    counts: Counts,
    permanent_at_ms: u64,
    is_healing: bool,
    clients_stop: bool,
    /// The story.
    pub trace: Trace,
    _dir: TempDir,
}

fn address(slot: usize) -> String {
    format!("p{slot}")
}

fn addresses(slot: usize) -> Addresses {
    Addresses { listen: format!("c{slot}"), peer: address(slot), admin: format!("a{slot}") }
}

fn slot_of(address: &str) -> Option<usize> {
    address.strip_prefix('p')?.parse().ok()
}

impl World {
    /// The world of a plan, with a bug if one is planted.
    /// # Errors
    /// There is no directory for the files.
    pub fn new(plan: Plan, bug: Option<Bug>, trace: Trace) -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("redraft-sim").tempdir_in(if std::path::Path::new("/dev/shm").is_dir() {
            "/dev/shm".into()
        } else {
            std::env::temp_dir()
        })?;
        let mut random = SmallRng::seed_from_u64(plan.seed);
        let machines: Vec<_> = (0..plan.machines()).map(|slot| Machine::new(slot, dir.path(), plan.sizes, bug)).collect();
        let condition = |_| Condition { offset_ms: random.random_range(-plan.skew_ms..=plan.skew_ms), ..Condition::default() };
        let conditions = (0..machines.len()).map(condition).collect();
        let mut world = Self {
            bug,
            random,
            now_us: 1_000_000,
            last_ns: 0,
            serial: 0,
            planned: BinaryHeap::new(),
            machines,
            conditions,
            connections: BTreeMap::new(),
            cuts: BTreeMap::new(),
            homes: BTreeMap::new(),
            joins: BTreeMap::new(),
            clients: Clients::new(&plan),
            checks: Checks::default(),
            counts: Counts::default(),
            permanent_at_ms: 0,
            is_healing: false,
            clients_stop: false,
            trace,
            _dir: dir,
            plan,
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        let incarnations: Vec<u64> = (0..self.plan.founders).map(|_| self.random.random()).collect();
        let nodes = (0..).zip(&incarnations).map(|(slot, incarnation)| (*incarnation, addresses(slot)));
        let members = Members::initial(CLUSTER.to_owned(), LEVEL, nodes);
        for (slot, incarnation) in incarnations.into_iter().enumerate() {
            let node_id = slot as u64 + 1;
            self.machines[slot].found(members.clone(), node_id, incarnation);
            self.homes.insert(node_id, slot);
        }
        for slot in 0..self.machines.len() {
            let late_ms = if slot < self.plan.founders { 0 } else { self.random.random_range(0..3_000) };
            self.plan_in(late_ms * 1_000, Event::Start(slot));
            for other in (0..self.machines.len()).filter(|other| *other != slot) {
                let first_us = self.random.random_range(0..CONNECT_EVERY_MS * 1_000);
                self.plan_in(first_us, Event::Connect(slot, other));
            }
        }
        for client in 0..self.clients.slots.len() {
            self.plan_in(500_000, Event::Client(client));
        }
        for fault in Fault::ALL {
            self.plan_fault(fault);
        }
    }

    fn plan_in(&mut self, us: u64, event: Event) {
        self.plan_at(self.now_us + us, event);
    }

    fn plan_at(&mut self, at_us: u64, event: Event) {
        self.serial += 1;
        self.planned.push(Reverse(Planned { at_us, serial: self.serial, event }));
    }

    fn plan_fault(&mut self, fault: Fault) {
        let rate = fault.rate(&self.plan.rates);
        if rate > 0.0 && !self.is_healing {
            let seconds = -self.random.random_range(f64::EPSILON..1.0).ln() / rate;
            self.plan_in((seconds * 1e6) as u64 + 1, Event::Fault(fault));
        }
    }

    fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    fn now(&self, slot: usize) -> Now {
        Now { mono_ms: self.now_ms(), wall_ms: (EPOCH_MS + self.now_ms()).saturating_add_signed(self.conditions[slot].offset_ms) }
    }

    /// Time for the history: no two moments are alike.
    fn ns(&mut self) -> u64 {
        self.last_ns = (self.last_ns + 1).max(self.now_us * 1_000);
        self.last_ns
    }

    /// Runs to the end.
    /// # Errors
    /// A property that did not hold, in a sentence.
    pub fn run(&mut self) -> Checked {
        self.run_until(self.plan.faults_ms)?;
        self.heal();
        let healed_at_ms = self.now_ms();
        self.run_until(healed_at_ms + 2_000)?;
        self.clients_stop = true;
        while !self.is_settled() {
            if self.now_ms() > healed_at_ms + HEALED_WITHIN_MS {
                return Err(format!("{HEALED_WITHIN_MS} ms after the last fault the cluster is not at rest: {}", self.describe()));
            }
            self.run_until(self.now_ms() + 100)?;
        }
        self.serve_everywhere()?;
        self.compare_data()?;
        self.counts.elections = self.checks.elections;
        (self.counts.answered, self.counts.refused, self.counts.unknown) =
            (self.clients.answered, self.clients.refused, self.clients.unknown);
        Ok(())
    }

    /// What happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the clients saw.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    fn run_until(&mut self, end_ms: u64) -> Checked {
        while let Some(Reverse(next)) = self.planned.peek() {
            if next.at_us > end_ms * 1_000 {
                break;
            }
            let Reverse(Planned { at_us, event, .. }) = self.planned.pop().expect("there is a next event");
            self.now_us = self.now_us.max(at_us);
            self.counts.events += 1;
            self.happen(event)?;
        }
        self.now_us = self.now_us.max(end_ms * 1_000);
        Ok(())
    }

    /// Whether a machine stands still; the event waits until it goes on.
    fn is_paused(&mut self, slot: usize) -> Option<u64> {
        Some(self.conditions[slot].paused_until_us).filter(|until| *until > self.now_us)
    }

    fn happen(&mut self, event: Event) -> Checked {
        let at = match &event {
            Event::Work(slot, ..) | Event::AskToJoin(slot, ..) | Event::JoinAnswered(slot, ..) => Some(*slot),
            Event::Deliver { to, .. } => Some(*to),
            Event::Streamed(stream) => Some(stream.to.0),
            Event::Connect(..) | Event::Client(_) | Event::Fault(_) | Event::Start(_) | Event::Rejoin(_) | Event::Mend(..) => None,
        };
        if let Some(until) = at.and_then(|slot| self.is_paused(slot)) {
            self.plan_at(until, event);
            return Ok(());
        }
        match event {
            Event::Work(slot, era, work) => {
                if self.machines[slot].era == era {
                    let now = self.now(slot);
                    self.machines[slot].work(now, work);
                    self.trace.note(self.now_us, slot, format_args!("{work:?}"));
                    self.drain(slot)?;
                }
            }
            Event::Deliver { from, to, lane, epoch, frame } => self.deliver(from, to, lane, epoch, frame)?,
            Event::Connect(from, to) => {
                self.connect(from, to)?;
                self.plan_in(CONNECT_EVERY_MS * 1_000, Event::Connect(from, to));
            }
            Event::Streamed(stream) => self.streamed(*stream)?,
            Event::AskToJoin(slot, era, of) => self.ask_to_join(slot, era, of)?,
            Event::JoinAnswered(slot, era, answer) => self.join_answered(slot, era, *answer)?,
            Event::Client(client) => self.client(client)?,
            Event::Fault(fault) => {
                if !self.is_healing {
                    self.fault(fault)?;
                    self.plan_fault(fault);
                }
            }
            Event::Start(slot) => self.start(slot)?,
            Event::Rejoin(slot) => {
                if self.machines[slot].life.is_none() && self.machines[slot].blank.is_none() {
                    self.machines[slot].wipe();
                    self.start(slot)?;
                }
            }
            Event::Mend(from, to) => self.mend(from, to),
        }
        Ok(())
    }

    /// Carries out what a machine has left for the world, and checks it.
    fn drain(&mut self, slot: usize) -> Checked {
        loop {
            let out = std::mem::take(&mut self.machines[slot].out);
            if out.is_empty() {
                break;
            }
            for out in out {
                self.take_out(slot, out)?;
            }
        }
        let (checks, machines, homes) = (&mut self.checks, &self.machines, &self.homes);
        checks.node(&machines[slot], |node| homes.get(&node).copied(), machines)
    }

    fn take_out(&mut self, slot: usize, out: Out) -> Checked {
        let era = self.machines[slot].era;
        match out {
            Out::Later(work) => {
                let slow = if self.conditions[slot].is_slow { 20 } else { 1 };
                let us = match work {
                    Work::Tick => self.plan.tick_ms * 1_000,
                    Work::Turn => self.random.random_range(5..200),
                    Work::LogWrite => self.random.random_range(5..100),
                    Work::LogSync => slow * self.random.random_range(50..=self.plan.sync_ms * 1_000),
                    Work::Apply if self.machines[slot].life.as_ref().is_some_and(Life::installs) => self.random.random_range(500..500_000),
                    Work::Apply => slow * self.random.random_range(10..500),
                    Work::DataSync(_) => slow * self.random.random_range(1_000..100_000),
                    Work::Generate(..) => slow * self.random.random_range(100..50_000),
                };
                self.plan_in(us, Event::Work(slot, era, work));
            }
            Out::Send(to, lane, frame) => self.send(slot, to, lane, frame)?,
            Out::Stream(id, message, files) => self.stream(slot, id, *message, &files),
            Out::RunDone(id, result) => {
                let ns = self.ns();
                let client = self.clients.run_done(slot, id, &result, ns)?;
                self.trace.note(self.now_us, slot, format_args!("run {}: {result:?}", id.0));
                self.client_goes_on(client);
            }
            Out::ReadDone(id, result) => {
                let ns = self.ns();
                let client = self.clients.read_done(slot, id, &result, ns)?;
                self.trace.note(self.now_us, slot, format_args!("read {}: {result:?}", id.0));
                self.client_goes_on(client);
            }
            Out::JoinDone(id, answer) => {
                if let Some((joiner, era)) = self.joins.remove(&(slot, id)) {
                    self.plan_in(1_000, Event::JoinAnswered(joiner, era, Box::new(answer)));
                }
            }
            Out::AdminDone(result) => self.trace.note(self.now_us, slot, format_args!("administered: {result:?}")),
            Out::Committed(entries) => {
                let node = self.machines[slot].life.as_ref().map_or(0, |life| life.identity.node_id);
                self.checks.committed(node, &entries)?;
            }
            Out::Logged(entries) => self.checks.logged(&entries)?,
            Out::Compared(result) => {
                self.counts.comparisons += u64::from(result.is_ok());
                self.trace.note(self.now_us, slot, format_args!("replicas compared: {result:?}"));
            }
            Out::Differs(what) => return Err(format!("replicas differ: {what}")),
            Out::Removed => self.removed(slot),
        }
        Ok(())
    }

    fn client_goes_on(&mut self, client: Option<usize>) {
        if let Some(client) = client {
            let us = self.clients.pause_us(client, &self.plan, &mut self.random);
            self.plan_in(us, Event::Client(client));
        }
    }

    fn client(&mut self, client: usize) -> Checked {
        if self.clients_stop {
            return Ok(());
        }
        let slot = self.clients.slots[client];
        let (now, ns) = (self.now(slot), self.ns());
        let can_ask = self.is_paused(slot).is_none();
        let mut random = fork(&mut self.random);
        if can_ask && self.clients.ask(client, &mut self.machines[slot], now, ns, &self.plan, &mut random) {
            self.drain(slot)
        } else {
            self.plan_in(50_000, Event::Client(client));
            Ok(())
        }
    }

    // The network.

    fn peer_id(&self, at: usize, of: usize) -> Option<u64> {
        let members = &self.machines[at].life.as_ref()?.members;
        // A replaced member and its successor may share an address for a moment; the later one counts.
        members.members.iter().rev().find(|member| member.addresses.peer == address(of)).map(|member| member.node_id)
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    fn connect(&mut self, from: usize, to: usize) -> Checked {
        let is_down = LANES.iter().any(|lane| !self.connections.entry((from, to, *lane as u8)).or_default().is_up);
        if !is_down || self.is_cut(from, to) || self.is_cut(to, from) || self.is_paused(from).is_some() || self.is_paused(to).is_some() {
            return Ok(());
        }
        let Some(peer) = self.peer_id(from, to) else { return Ok(()) };
        let Some(node) = self.machines[from].life.as_ref().map(|life| life.identity.node_id) else { return Ok(()) };
        if self.machines[to].life.as_ref().is_none_or(|life| life.identity.node_id != peer) {
            return Ok(());
        }
        for (judge, judged) in [(to, from), (from, to)] {
            match self.admits(judge, judged) {
                Admission::Welcome => {}
                Admission::Refused => return Ok(()),
                Admission::Removed => {
                    self.removed(judged);
                    return Ok(());
                }
            }
        }
        self.trace.note(self.now_us, from, format_args!("node {node} connects to node {peer}"));
        for lane in LANES {
            let connection = self.connections.entry((from, to, lane as u8)).or_default();
            if !connection.is_up {
                connection.is_up = true;
                connection.epoch += 1;
                connection.last_us = self.now_us;
                let now = self.now(from);
                self.machines[from].lane_up(now, peer, lane);
                self.drain(from)?;
            }
        }
        Ok(())
    }

    /// The rules of the gate: table, incarnation, boot and nonce, on record before anything is let in.
    fn admits(&self, judge: usize, judged: usize) -> Admission {
        let (Some(host), Some(guest)) = (&self.machines[judge].life, &self.machines[judged].life) else { return Admission::Refused };
        let node_id = guest.identity.node_id;
        if host.members.removed.contains(&node_id) {
            return Admission::Removed;
        }
        let Some(member) = host.members.get(node_id) else { return Admission::Refused };
        if self.bug == Some(Bug::ReusedNodeId) {
            return Admission::Welcome;
        }
        if member.incarnation != guest.identity.incarnation {
            return Admission::Refused;
        }
        let mut record: PeerProcesses = read_peers(self.machines[judge].log.as_ref()).expect("memory does not fail");
        let presented = PeerProcess { node_id, boot: guest.boot, nonce: guest.nonce };
        match record.processes.iter_mut().find(|known| known.node_id == node_id) {
            Some(known) if presented.boot < known.boot => return Admission::Refused,
            Some(known) if presented.boot == known.boot && presented.nonce != known.nonce => return Admission::Refused,
            Some(known) if *known == presented => return Admission::Welcome,
            Some(known) => *known = presented,
            None => record.processes.push(presented),
        }
        persist_peers(self.machines[judge].log.as_ref(), &record).expect("memory does not fail");
        Admission::Welcome
    }

    fn send(&mut self, from: usize, peer: u64, lane: Lane, frame: Frame) -> Checked {
        if let Some(Body::Raft(bytes)) = &frame.body {
            let message = Message::parse_from_bytes(bytes).map_err(|error| format!("a frame cannot be read: {error}"))?;
            let incarnation = self.machines[from].life.as_ref().map_or(0, |life| life.identity.incarnation);
            self.checks.spoken(incarnation, &message)?;
        }
        let to = self.machines[from].life.as_ref().and_then(|life| slot_of(&life.members.get(peer)?.addresses.peer));
        let connection = to.and_then(|to| self.connections.get(&(from, to, lane as u8)).copied()).filter(|connection| connection.is_up);
        let (Some(to), Some(connection)) = (to, connection) else {
            if let Some(life) = &mut self.machines[from].life {
                match lane {
                    Lane::Append => life.core.unreachable(peer),
                    Lane::Forward => life.core.forward_dropped(),
                    Lane::Control => {}
                }
            }
            return Ok(());
        };
        let is_rafts = lane != Lane::Forward;
        let mut copies = 1;
        if is_rafts && self.random.random_bool(self.plan.loss) && !self.is_healing {
            copies = 0;
        } else if is_rafts && self.random.random_bool(self.plan.duplication) && !self.is_healing {
            copies = 2;
        }
        for _ in 0..copies {
            let mut at_us = self.now_us + self.random.random_range(50..=self.plan.delay_ms * 1_000);
            if is_rafts && self.random.random_bool(self.plan.reordering) && !self.is_healing {
                at_us += self.random.random_range(0..10 * self.plan.delay_ms * 1_000);
            } else {
                at_us = at_us.max(connection.last_us);
                self.connections.entry((from, to, lane as u8)).or_default().last_us = at_us;
            }
            self.plan_at(at_us, Event::Deliver { from, to, lane, epoch: connection.epoch, frame: Box::new(frame.clone()) });
        }
        Ok(())
    }

    fn deliver(&mut self, from: usize, to: usize, lane: Lane, epoch: u64, frame: Box<Frame>) -> Checked {
        if self.connections.get(&(from, to, lane as u8)).is_none_or(|connection| connection.epoch != epoch || !connection.is_up) {
            return Ok(());
        }
        if let Some(until) = self.cuts.get(&(from, to)).copied() {
            self.plan_at(until, Event::Deliver { from, to, lane, epoch, frame });
            return Ok(());
        }
        let sender = self.machines[from].life.as_ref().map(|life| life.identity.node_id);
        let Some(sender) = sender.filter(|sender| self.machines[to].life.as_ref().is_some_and(|life| life.members.get(*sender).is_some()))
        else {
            self.disconnect(from, to);
            return Ok(());
        };
        self.trace.frame(self.now_us, from, to, &frame);
        let now = self.now(to);
        self.machines[to].frame(now, sender, *frame);
        self.drain(to)
    }

    fn disconnect(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            for lane in LANES {
                let connection = self.connections.entry((from, to, lane as u8)).or_default();
                connection.is_up = false;
                connection.epoch += 1;
            }
        }
    }

    fn stream(&mut self, from: usize, id: SnapshotId, message: Message, files: &redraft::node::storage::SnapshotFiles) {
        let era = self.machines[from].era;
        let read = |file: &ExportedFile| (file.clone(), std::fs::read(&file.path).expect("the directory is ours"));
        let contents: Vec<_> = files.files.iter().map(read).collect();
        std::fs::remove_dir_all(&files.dir).expect("the directory is ours");
        let to = self.machines[from].life.as_ref().and_then(|life| slot_of(&life.members.get(message.to)?.addresses.peer));
        let to = to.filter(|to| self.connections.get(&(from, *to, Lane::Control as u8)).is_some_and(|connection| connection.is_up));
        let is_broken = self.random.random_bool(self.plan.broken_snapshots) && !self.is_healing;
        let us = self.random.random_range(1_000..300_000);
        let target = to.unwrap_or(from);
        let to_era = self.machines[target].era;
        let is_whole = to.is_some() && !is_broken;
        let stream = Stream { from: (from, era), to: (target, to_era), id, message, files: contents, is_whole };
        self.plan_in(us, Event::Streamed(Box::new(stream)));
    }

    fn streamed(&mut self, Stream { from: (from, era), to: (to, to_era), id, message, files, is_whole }: Stream) -> Checked {
        let receiver = self.machines[to].life.as_ref().map(|life| life.identity.node_id);
        let arrives = is_whole && !self.is_cut(from, to) && self.machines[to].era == to_era && receiver == Some(message.to) && from != to;
        if arrives {
            self.counts.snapshots += 1;
            self.trace.note(self.now_us, to, format_args!("a snapshot at {} arrives", message.get_snapshot().get_metadata().index));
            let now = self.now(to);
            self.machines[to].snapshot_received(now, message, &files);
            self.drain(to)?;
        }
        if self.machines[from].era == era {
            let now = self.now(from);
            self.machines[from].event(now, |core| core.snapshot_sent(id, if arrives { Ok(()) } else { Err(()) }));
            self.drain(from)?;
        }
        Ok(())
    }

    // Machines that start, join, and go.

    fn start(&mut self, slot: usize) -> Checked {
        if self.machines[slot].life.is_some() || self.machines[slot].blank.is_some() {
            return Ok(());
        }
        let mut random = fork(&mut self.random);
        let now = self.now(slot);
        let started = self.machines[slot].start(now, &mut random);
        self.started(slot, started)
    }

    fn started(&mut self, slot: usize, started: Started) -> Checked {
        match started {
            Started::Running if self.machines[slot].damaged && self.bug.is_none() => {
                Err(format!("machine {slot} runs on a log that has lost its end"))
            }
            Started::Running => {
                let life = self.machines[slot].life.as_ref().expect("it runs");
                let node = life.identity.node_id;
                self.trace.note(self.now_us, slot, format_args!("starts as node {node}, boot {}", life.boot));
                self.homes.insert(node, slot);
                self.drain(slot)
            }
            Started::Blank => {
                self.trace.note(self.now_us, slot, format_args!("starts blank"));
                let era = self.machines[slot].era;
                self.plan_in(10_000, Event::AskToJoin(slot, era, None));
                Ok(())
            }
            Started::Refused(reason) if self.machines[slot].damaged => {
                self.trace.note(self.now_us, slot, format_args!("refuses to start: {reason}"));
                self.homes.retain(|_, home| *home != slot);
                self.plan_in(500_000, Event::Rejoin(slot));
                Ok(())
            }
            Started::Refused(reason) => Err(format!("machine {slot} refuses to start: {reason}")),
        }
    }

    fn ask_to_join(&mut self, slot: usize, era: u64, of: Option<usize>) -> Checked {
        let incarnation = self.machines[slot].blank.as_ref().map(|storage| storage.identity().incarnation);
        let Some(incarnation) = incarnation.filter(|_| self.machines[slot].era == era) else { return Ok(()) };
        self.plan_in(JOIN_EVERY_MS * 1_000, Event::AskToJoin(slot, era, None));
        let others: Vec<usize> = (0..self.machines.len()).filter(|other| *other != slot).collect();
        let Some(asked) = of.or_else(|| others.choose(&mut self.random).copied()) else { return Ok(()) };
        if self.is_cut(slot, asked) || self.is_cut(asked, slot) || self.is_paused(asked).is_some() || self.machines[asked].life.is_none() {
            return Ok(());
        }
        self.serial += 1;
        let id = RequestId(self.serial);
        self.joins.insert((asked, id), (slot, era));
        let member = Member { node_id: 0, incarnation, addresses: addresses(slot), level: LEVEL };
        let now = self.now(asked);
        self.machines[asked].event(now, |core| core.join(id, Some(CLUSTER), member));
        self.drain(asked)
    }

    fn join_answered(&mut self, slot: usize, era: u64, answer: JoinAnswer) -> Checked {
        if self.machines[slot].era != era || self.machines[slot].blank.is_none() {
            return Ok(());
        }
        match answer {
            JoinAnswer::Joined { node_id, members } => {
                self.counts.joins += 1;
                let now = self.now(slot);
                let mut random = fork(&mut self.random);
                let started = self.machines[slot].joined(&members, node_id, now, &mut random);
                self.started(slot, started)
            }
            JoinAnswer::Leader(address) => self.ask_to_join(slot, era, slot_of(&address)),
            JoinAnswer::Wait => Ok(()),
            JoinAnswer::Refused(reason) => Err(format!("machine {slot} may not join: {reason}")),
        }
    }

    fn down(&mut self, slot: usize) {
        let mut random = fork(&mut self.random);
        self.machines[slot].crash(&mut random);
        for other in 0..self.machines.len() {
            self.disconnect(slot, other);
        }
        self.joins.retain(|(at, _), _| *at != slot);
        self.conditions[slot].paused_until_us = 0;
        for client in self.clients.machine_down(slot) {
            self.client_goes_on(Some(client));
        }
    }

    /// A node has learned that it was removed: it stops, and comes back as a new one.
    fn removed(&mut self, slot: usize) {
        self.trace.note(self.now_us, slot, format_args!("was removed"));
        self.down(slot);
        self.homes.retain(|_, home| *home != slot);
        let us = self.random.random_range(100_000..2_000_000);
        self.plan_in(us, Event::Rejoin(slot));
    }

    fn is_down(&self, slot: usize) -> bool {
        self.machines[slot].life.is_none()
    }

    /// Whether a machine can be lost for good now: everything else is well and will be so without it.
    fn may_lose(&self, slot: Option<usize>) -> bool {
        let Some(leader) = self.machines.iter().find(|machine| machine.leads()) else { return false };
        let group = leader.life.as_ref().expect("it leads").core.group();
        let configuration = group.configuration();
        let is_whole = |node: &u64| self.homes.get(node).is_some_and(|home| !self.is_down(*home));
        self.now_ms() >= self.permanent_at_ms + PERMANENT_EVERY_MS
            && group.can_serve_reads()
            && !group.has_pending_change()
            && configuration.voters_outgoing.is_empty()
            && configuration.voters.iter().all(is_whole)
            && self.machines.iter().all(|machine| machine.life.as_ref().is_none_or(|life| life.core.group().term() <= group.term()))
            && slot.is_none_or(|slot| {
                let rest = configuration.voters.iter().filter(|node| self.homes.get(node) != Some(&slot)).count();
                rest > configuration.voters.len() / 2
            })
    }

    fn any_machine(&mut self) -> usize {
        self.random.random_range(0..self.machines.len())
    }

    fn fault(&mut self, fault: Fault) -> Checked {
        self.counts.faults += 1;
        let slot = self.any_machine();
        self.trace.note(self.now_us, slot, format_args!("fault: {fault:?}"));
        match fault {
            Fault::Crash => self.crash(slot),
            Fault::CrashAll => (0..self.machines.len()).for_each(|slot| self.crash(slot)),
            Fault::Pause => {
                let us = self.random.random_range(10_000..3_000_000);
                self.conditions[slot].paused_until_us = self.now_us + us;
            }
            Fault::Partition => self.partition(),
            Fault::Reset => {
                let other = self.any_machine();
                self.disconnect(slot, other);
            }
            Fault::Wipe if self.may_lose(Some(slot)) => self.wipe(slot)?,
            Fault::LostTail if self.may_lose(Some(slot)) && !self.is_down(slot) => {
                self.down(slot);
                let mut random = fork(&mut self.random);
                if self.machines[slot].lose_tail(&mut random) {
                    self.permanent_at_ms = self.now_ms();
                    self.homes.retain(|_, home| *home != slot);
                }
                self.plan_in(200_000, Event::Start(slot));
            }
            Fault::Removal if self.may_lose(None) => self.remove_a_member()?,
            Fault::Wipe | Fault::LostTail | Fault::Removal => {}
            Fault::Transfer => {
                let voters = self.machines[slot].life.as_ref().map(|life| life.core.group().configuration().voters).unwrap_or_default();
                if let Some(to) = voters.choose(&mut self.random).copied() {
                    self.administer(slot, AdminRequest::Transfer(to))?;
                }
            }
            Fault::ClockStep => {
                let step = self.random.random_range(-self.plan.step_ms..=self.plan.step_ms);
                let condition = &mut self.conditions[slot];
                condition.offset_ms = if condition.offset_ms.abs() > self.plan.skew_ms { 0 } else { condition.offset_ms + step };
            }
            Fault::Verify => {
                self.serial += 1;
                let (id, now) = (RequestId(self.serial), self.now(slot));
                self.machines[slot].event(now, |core| core.verify(id));
                self.drain(slot)?;
            }
            Fault::Slowness => self.conditions[slot].is_slow = !self.conditions[slot].is_slow,
        }
        Ok(())
    }

    fn crash(&mut self, slot: usize) {
        if !self.is_down(slot) {
            self.down(slot);
            let us = self.random.random_range(10_000..3_000_000);
            self.plan_in(us, Event::Start(slot));
        }
    }

    /// Cuts some machines off from the others, or one direction of one link.
    fn partition(&mut self) {
        let machines = self.machines.len();
        let is_one_way = self.random.random_bool(0.3);
        let side: Vec<bool> = (0..machines).map(|_| self.random.random_bool(0.5)).collect();
        let until_us = self.now_us + self.random.random_range(50_000..5_000_000);
        for from in 0..machines {
            for to in (0..machines).filter(|to| side[from] != side[*to]) {
                if (!is_one_way || side[from]) && !self.cuts.contains_key(&(from, to)) {
                    self.cuts.insert((from, to), until_us);
                    self.plan_at(until_us, Event::Mend(from, to));
                }
            }
        }
    }

    /// A link is whole again: what was held back comes through, unless the connection has broken meanwhile.
    fn mend(&mut self, from: usize, to: usize) {
        if self.cuts.remove(&(from, to)).is_some() && self.random.random_bool(0.4) {
            self.disconnect(from, to);
        }
    }

    fn wipe(&mut self, slot: usize) -> Checked {
        let node = self.machines[slot].life.as_ref().map(|life| (life.identity.node_id, life.members.clone()));
        self.permanent_at_ms = self.now_ms();
        self.down(slot);
        self.homes.retain(|_, home| *home != slot);
        self.machines[slot].wipe();
        if let (Some(Bug::ReusedNodeId), Some((node_id, members))) = (self.bug, node) {
            let incarnation = self.random.random();
            self.machines[slot].impersonate(&members, node_id, incarnation);
        }
        let us = self.random.random_range(10_000..1_000_000);
        self.plan_in(us, Event::Start(slot));
        Ok(())
    }

    fn remove_a_member(&mut self) -> Checked {
        let Some(leader) = self.machines.iter().position(Machine::leads) else { return Ok(()) };
        let life = self.machines[leader].life.as_ref().expect("it leads");
        let voters = life.core.group().configuration().voters.len();
        let ids: Vec<u64> = life.members.members.iter().map(|member| member.node_id).collect();
        let Some(node) = ids.choose(&mut self.random).copied().filter(|_| voters > 2) else { return Ok(()) };
        self.permanent_at_ms = self.now_ms();
        self.administer(leader, AdminRequest::Remove(node))
    }

    fn administer(&mut self, slot: usize, request: AdminRequest) -> Checked {
        self.serial += 1;
        let id = RequestId(self.serial);
        let now = self.now(slot);
        self.trace.note(self.now_us, slot, format_args!("asked to {request:?}"));
        self.machines[slot].event(now, |core| core.admin(id, request));
        self.drain(slot)
    }

    // The end.

    fn heal(&mut self) {
        self.trace.note(self.now_us, 0, format_args!("everything heals"));
        self.is_healing = true;
        for (from, to) in self.cuts.keys().copied().collect::<Vec<_>>() {
            self.mend(from, to);
        }
        for slot in 0..self.machines.len() {
            self.conditions[slot] = Condition::default();
            if self.is_down(slot) && self.machines[slot].blank.is_none() {
                self.plan_in(0, Event::Start(slot));
            }
        }
    }

    fn lives(&self) -> impl Iterator<Item = &Life> {
        self.machines.iter().filter_map(|machine| machine.life.as_ref())
    }

    fn is_settled(&self) -> bool {
        let mut positions = self.lives().map(|life| life.applied().position);
        let first = positions.next();
        let members = self.lives().map(|life| life.members.members.len()).max();
        self.lives().count() == self.machines.len()
            && members == Some(self.machines.len())
            && self.clients.are_idle()
            && self.machines.iter().any(Machine::leads)
            && positions.all(|position| Some(position) == first)
            && self.lives().all(|life| life.under_way().is_empty())
    }

    fn describe(&self) -> String {
        let describe = |machine: &Machine| match &machine.life {
            None => format!("machine {} is {}", machine.slot, if machine.blank.is_some() { "blank" } else { "down" }),
            Some(life) => {
                let group = life.core.group();
                let configuration = group.configuration();
                format!(
                    "node {} on machine {}: {:?} in term {} of leader {:?}, applied {} of {} committed and {} logged, voters {:?} and {:?}, \
                     learners {:?}, members {:?}, under way {:?}",
                    life.identity.node_id,
                    machine.slot,
                    group.role(),
                    group.term(),
                    group.leader(),
                    life.applied().position.index,
                    group.commit_index(),
                    group.last_index(),
                    configuration.voters,
                    configuration.voters_outgoing,
                    configuration.learners,
                    life.members.members.iter().map(|member| (member.node_id, &member.addresses.peer)).collect::<Vec<_>>(),
                    life.under_way()
                )
            }
        };
        self.machines.iter().map(describe).collect::<Vec<_>>().join("; ")
    }

    /// Every machine reads every key and writes one; what it says is part of the history.
    fn serve_everywhere(&mut self) -> Checked {
        let keys = self.clients.keys();
        let answered_before = self.clients.answered;
        let client = self.clients.slots.len();
        let mut asked = 0;
        for slot in 0..self.machines.len() {
            let reads = Question::Pipeline(keys.iter().map(|key| (key.clone(), Command::Get)).collect());
            let write = Question::Pipeline(vec![("last".into(), Command::Incr { by: 1 })]);
            for question in [vec![write, reads], self.clients.last_of_several()].concat() {
                asked += 1;
                let (now, ns) = (self.now(slot), self.ns());
                if !self.clients.send(client + slot, &mut self.machines[slot], now, ns, question) {
                    return Err(format!("machine {slot} is not there at the end"));
                }
                self.drain(slot)?;
            }
        }
        let end_ms = self.now_ms() + 10_000;
        while self.now_ms() < end_ms && !self.is_settled() {
            self.run_until(self.now_ms() + 10)?;
        }
        let answered = usize::try_from(self.clients.answered - answered_before).expect("few requests");
        if answered < asked {
            return Err(format!("{answered} of the {asked} last requests were answered: {}", self.describe()));
        }
        if !self.is_settled() {
            return Err(format!("the cluster does not come to rest after its last requests: {}", self.describe()));
        }
        Ok(())
    }

    fn compare_data(&self) -> Checked {
        let mut all = self.machines.iter().map(|machine| contents_of(machine.data.view(ViewKind::Snapshot).as_ref()));
        let first = all.next().expect("there is a machine");
        for (slot, other) in (1..).zip(all) {
            if first != other {
                let differs = first.iter().zip(&other).find(|(one, other)| one != other);
                return Err(format!("machines 0 and {slot} hold different data at the same applied index, first here: {differs:?}"));
            }
        }
        Ok(())
    }
}

enum Admission {
    Welcome,
    Refused,
    Removed,
}
