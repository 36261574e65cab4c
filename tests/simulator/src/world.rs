//! The world: machines, the network between them, clients and faults, in simulated time.
//! Everything that happens is an event with a time; events at one time happen in the order in which they were planned. All chance comes
//! from the plan's seed, so a seed always tells the same story; `Trace` tells it.
//! After the time of faults everything heals: the cluster must come to rest, every machine must serve, and all data must be alike.

mod ending;
mod faults;
mod members;
mod network;
mod snapshots;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use protobuf::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};
use raftlog::engine::{Engine, ExportedFile, ViewKind};
use raftlog::entry::Envelope;
use raftlog::message::{Body, Frame};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use redraft::node::core::{Addresses, AdminRequest, JoinAnswer, LEVEL, Lane, Member, Members, Now, RequestId, SnapshotId};
use redraft::node::storage::{Identity, SnapshotFiles, persist_peers, read_peers};
use redraft::node::{PeerProcess, RunResult, Unwelcome, judge};
use redraft_tests::linearizability::Command;
use tempfile::TempDir;

use crate::Oracle;
use crate::checks::{Checked, Checks, contents_of};
use crate::clients::{Clients, Question, Stamps};
use crate::counts::{Counts, Incident};
use crate::machine::{Life, Machine, Out, Started, Work, fork};
use crate::plan::{Plan, Rates};
use crate::planted::Bug;
use crate::trace::Trace;
use snapshots::{Step, Transfer};

const CLUSTER: &str = "simulated";
/// Wall time at the beginning, in ms since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// Two machines try to connect so often, in ms.
const CONNECT_EVERY_MS: u64 = 100;
/// A blank machine asks to join so often, in ms.
const JOIN_EVERY_MS: u64 = 300;
/// A node that does not lead asks for the newest table so often, in ms.
const ANNOUNCE_EVERY_MS: u64 = 2_000;
/// What cannot be mended by waiting happens to one machine at a time, and then not for so long, in ms.
const PERMANENT_EVERY_MS: u64 = 3_000;
/// Within so long after the last fault everything must be well again, in ms.
const HEALED_WITHIN_MS: u64 = 60_000;
/// A frame is held back by cuts and pauses for no longer than this, in ms.
const STAMP_LATE_MS: i64 = 10_000;
/// Lanes between two nodes.
const LANES: [Lane; 3] = [Lane::Control, Lane::Append, Lane::Forward];

enum Event {
    Work(usize, u64, Work),
    Deliver(Box<Shipment>),
    Connect(usize, usize),
    Transfer(u64, Step),
    SnapshotReceived(usize, u64, Box<(Message, SnapshotFiles)>),
    AskToJoin(usize, u64, Option<usize>),
    JoinAnswered(usize, u64, Box<JoinAnswer>),
    Announce(usize, u64),
    Client(usize),
    Fault(Fault),
    PowerFails(usize, u64),
    HandOver(usize, u64),
    HandOverTo(usize),
    Start(usize),
    Rejoin(usize),
    Mend(usize, usize),
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A machine loses power.
    Crash,
    /// All do.
    CrashAll,
    /// A machine stands still.
    Pause,
    /// Machines are cut off from each other.
    Partition,
    /// Connections break.
    Reset,
    /// A machine gets new disks.
    Wipe,
    /// A log loses what was synced.
    LostTail,
    /// A member is removed.
    Removal,
    /// Leadership is handed over.
    Transfer,
    /// A wall clock steps.
    ClockStep,
    /// A machine becomes slow, or fast again.
    Slowness,
    /// The replicas are compared.
    Verify,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 12] = [
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

/// A frame on its way.
#[derive(Clone)]
struct Shipment {
    from: usize,
    to: usize,
    lane: Lane,
    sender: PeerProcess,
    epoch: u64,
    sent_us: u64,
    /// A cut has held it back.
    is_late: bool,
    frame: Frame,
}

/// One direction of one lane between two machines.
#[derive(Clone, Copy, Default)]
struct Connection {
    /// Raised when it breaks: what was under way is lost.
    epoch: u64,
    is_up: bool,
    last_us: u64,
    /// When the newest frame that has arrived was sent.
    newest_us: u64,
    /// Of the connection that the sender's crash ended: its epoch, and until when it took in what still arrives.
    last_words: Option<(u64, u64)>,
}

/// What the world knows about a machine.
#[derive(Clone, Copy, Default)]
struct Condition {
    paused_until_us: u64,
    is_slow: bool,
    offset_ms: i64,
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
    transfers: BTreeMap<u64, Transfer>,
    clients: Clients,
    oracle: Oracle,
    checks: Checks,
    counts: Counts,
    permanent_at_ms: u64,
    /// How far the wall clocks were off so far, at least and at most.
    offsets_ms: (i64, i64),
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
    pub fn new(plan: Plan, bug: Option<Bug>, oracle: Oracle, trace: Trace) -> std::io::Result<Self> {
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
            transfers: BTreeMap::new(),
            clients: Clients::new(&plan),
            oracle,
            checks: Checks::of(oracle),
            counts: Counts::default(),
            permanent_at_ms: 0,
            offsets_ms: (-plan.skew_ms, plan.skew_ms),
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
            if self.conditions[slot].offset_ms != 0 {
                self.counts.incidents.note(Incident::ClockApart);
            }
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
                if self.oracle == Oracle::Clients {
                    break;
                }
                return Err(format!("not at rest: {HEALED_WITHIN_MS} ms after the last fault: {}", self.describe()));
            }
            self.run_until(self.now_ms() + 100)?;
        }
        self.serve_everywhere()?;
        if self.oracle == Oracle::All {
            self.compare_data()?;
            self.check_stamps()?;
        }
        Ok(())
    }

    /// What happened.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        self.machines.iter().for_each(|machine| counts.incidents += machine.incidents);
        counts.elections = self.checks.elections;
        (counts.answered, counts.refused, counts.unknown) = (self.clients.answered, self.clients.refused, self.clients.unknown);
        counts.expiry = self.clients.uses_expiry().into();
        counts.expiry_judged = self.clients.judges_expiry().into();
        counts
    }

    /// What the clients saw.
    pub fn clients(&mut self) -> &mut Clients {
        &mut self.clients
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
    fn is_paused(&self, slot: usize) -> Option<u64> {
        Some(self.conditions[slot].paused_until_us).filter(|until| *until > self.now_us)
    }

    fn happen(&mut self, event: Event) -> Checked {
        let at = match &event {
            Event::Work(slot, ..) | Event::AskToJoin(slot, ..) | Event::JoinAnswered(slot, ..) | Event::Announce(slot, ..) => Some(*slot),
            Event::Deliver(shipment) => Some(shipment.to),
            Event::SnapshotReceived(slot, ..) => Some(*slot),
            Event::Transfer(number, step) => self.transfers.get(number).map(|transfer| transfer.actor(*step)),
            Event::Connect(..)
            | Event::Client(_)
            | Event::Fault(_)
            | Event::PowerFails(..)
            | Event::HandOver(..)
            | Event::HandOverTo(_)
            | Event::Start(_)
            | Event::Rejoin(_)
            | Event::Mend(..) => None,
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
            Event::Deliver(shipment) => self.deliver(shipment)?,
            Event::Connect(from, to) => {
                self.connect(from, to)?;
                self.plan_in(CONNECT_EVERY_MS * 1_000, Event::Connect(from, to));
            }
            Event::Transfer(number, step) => self.step(number, step)?,
            Event::SnapshotReceived(slot, era, received) => {
                if self.machines[slot].era == era {
                    self.trace.note(
                        self.now_us,
                        slot,
                        format_args!("a snapshot at {} arrives", received.0.get_snapshot().get_metadata().index),
                    );
                    let now = self.now(slot);
                    self.machines[slot].snapshot_received(now, received.0, received.1);
                    self.drain(slot)?;
                }
            }
            Event::AskToJoin(slot, era, of) => self.ask_to_join(slot, era, of)?,
            Event::JoinAnswered(slot, era, answer) => self.join_answered(slot, era, *answer)?,
            Event::Announce(slot, era) => self.announce(slot, era, None)?,
            Event::Client(client) => self.client(client)?,
            Event::Fault(fault) => {
                if !self.is_healing {
                    self.fault(fault)?;
                    self.plan_fault(fault);
                }
            }
            Event::PowerFails(slot, era) => {
                if self.machines[slot].era == era && !self.is_healing {
                    self.trace.note(self.now_us, slot, format_args!("the power fails"));
                    self.crash(slot);
                }
            }
            Event::HandOverTo(slot) => self.hand_over_to(slot)?,
            Event::HandOver(slot, era) => {
                if self.machines[slot].era == era && !self.is_healing {
                    self.hand_over(slot)?;
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
                    Work::Apply if self.machines[slot].life.as_ref().is_some_and(Life::replaces_data) => {
                        self.random.random_range(10..8_000)
                    }
                    Work::Apply => slow * self.random.random_range(10..500),
                    Work::Evaluate(..) if self.random.random_bool(0.8) => slow * self.random.random_range(5..200),
                    Work::Evaluate(..) => slow * self.random.random_range(200..30_000),
                    Work::DataSync(_) => slow * self.random.random_range(1_000..100_000),
                    Work::Generate(..) | Work::Generated(_) => slow * self.random.random_range(100..25_000),
                };
                self.plan_in(us, Event::Work(slot, era, work));
                self.risk_work(slot, work, us);
            }
            Out::Send(to, lane, frame) => self.send(slot, to, lane, frame)?,
            Out::Stream(id, message, files) => self.stream(slot, id, *message, files),
            Out::RunDone(id, result) => {
                self.told(slot, &result)?;
                let ns = self.ns();
                let client = self.clients.run_done(slot, id, &result, ns)?;
                self.trace.note(self.now_us, slot, format_args!("run {}: {result:?}", id.0));
                self.client_goes_on(client);
            }
            Out::ReadDone(id, result) => {
                self.told(slot, &result)?;
                let ns = self.ns();
                let client = self.clients.read_done(slot, id, &result, ns)?;
                self.trace.note(self.now_us, slot, format_args!("read {}: {result:?}", id.0));
                self.client_goes_on(client);
            }
            Out::JoinDone(id, answer) => {
                if let Some((joiner, era)) = self.joins.remove(&(slot, id)) {
                    if matches!(answer, JoinAnswer::Joined { .. }) && self.machines[joiner].blank.is_some() {
                        self.risk_ignorance(joiner);
                    }
                    self.plan_in(1_000, Event::JoinAnswered(joiner, era, Box::new(answer)));
                }
            }
            Out::AdminDone(result) => self.trace.note(self.now_us, slot, format_args!("administered: {result:?}")),
            Out::Committed(entries) => {
                let (node, term) =
                    self.machines[slot].life.as_ref().map_or((0, 0), |life| (life.identity.node_id, life.core.group().term()));
                self.checks.committed(node, term, &entries)?;
            }
            Out::Logged(entries) => {
                self.note_stamps(slot, &entries);
                self.checks.logged(&entries)?;
            }
            Out::ReadStamped(id, stamp_ms) => {
                let now = self.now(slot);
                self.clients.read_stamped(slot, id, stamp_ms, now);
            }
            Out::Compared(result) => {
                self.counts.comparisons += u64::from(result.is_ok());
                self.trace.note(self.now_us, slot, format_args!("replicas compared: {result:?}"));
            }
            Out::Differs(_) if self.oracle == Oracle::Clients => {}
            Out::Differs(what) => return Err(format!("replicas differ: {what}")),
            Out::TableChanged => self.turn_strangers_away(slot),
            Out::Removed => self.removed(slot),
            Out::Halted(why) => return Err(format!("halt: {why} (machine {slot})")),
        }
        Ok(())
    }

    /// A leader logs what it proposes at once.
    fn note_stamps(&mut self, slot: usize, entries: &[Entry]) {
        let now = self.now(slot);
        let Some(life) = self.machines[slot].life.as_ref().filter(|_| self.machines[slot].leads()) else { return };
        for entry in entries.iter().filter(|entry| entry.term == life.core.group().term()) {
            if let Ok(envelope) = Envelope::read(entry.data.clone())
                && envelope.now_ms > 0
            {
                self.clients.stamped(envelope.now_ms, now);
            }
        }
    }

    /// No leader's time is ahead of every clock; and it is behind all of them by no more than frames were under way, which is what a leader
    /// with a clock of its own judges others' clocks by.
    fn check_stamps(&self) -> Checked {
        let Stamps { least, most } = self.clients.stamps();
        let (slowest, fastest) = self.offsets_ms;
        if most > EPOCH_MS.cast_signed() + fastest || least < EPOCH_MS.cast_signed() + slowest - STAMP_LATE_MS {
            return Err(format!(
                "stamps: leaders' times were off by {least} to {most} ms since {EPOCH_MS}, the clocks by {slowest} to {fastest}"
            ));
        }
        Ok(())
    }

    fn told(&self, slot: usize, result: &RunResult) -> Checked {
        match result {
            Ok(_) => self.checks.told(&self.machines[slot], |node| self.homes.get(&node).copied(), &self.machines),
            Err(_) => Ok(()),
        }
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
}
