//! Clients that make a history: each sends one command after the other, or some in a pipeline, to any node, and notes what it sent and what
//! came back.
//! Keys are for a while: after so many operations on one its successor takes its place, so that the history of a key stays short enough to
//! be judged; so do groups of keys, on which commands of several keys act. A client belongs to a party with keys of its own, so that few
//! clients meet on a key. Texts and numbers that are written are written once.
//! A party also has leases: keys that are used seldom, mostly read, and never deleted, so that what they hold lives as long as it may, and a
//! client sees it go.
//! What was certainly not executed is not in the history; the client sends it again. What has no answer is in it without an end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use resp::Value;

use super::wire;
use crate::client::{Client, Fate};
use crate::linearizability::{Command, Operation, Outcome, multi};

/// Clients that share keys.
const PARTY: usize = 6;
/// Keys that a party uses at a time.
const KEYS_AT_A_TIME: usize = 3;
/// Operations on a key before its successor takes its place.
const OPERATIONS_PER_KEY: usize = 100;
/// Keys of a group.
const KEYS_PER_GROUP: usize = 3;
/// Operations on a group before its successor takes its place.
const OPERATIONS_PER_GROUP: usize = 40;
/// How often a command is one of several keys.
const SEVERAL: f64 = 0.2;
/// How often commands are sent in a pipeline, and how many.
const PIPELINE: f64 = 0.2;
const PIPELINE_LENGTHS: std::ops::RangeInclusive<usize> = 2..=4;
/// Leases that a party uses in turn.
const LEASES_AT_A_TIME: usize = 4;
/// Shortest time from an operation on one lease to that on the next: each has several within a time to live.
const LEASE_INTERVAL: Duration = Duration::from_millis(50);
/// Operations on a lease before its successor takes its place.
const OPERATIONS_PER_LEASE: usize = 100;
/// Begin of the names of leases.
const LEASE: &str = "lease:";
/// Longest pause between two operations of a client.
const PAUSE_MAX: Duration = Duration::from_millis(8);
/// Pause after a node did not take a connection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How often a client goes to another node although its own answers.
const WANDER: f64 = 0.1;
/// Begin of the reply to a write for which a disk has no room; reads behind it are executed.
const NO_ROOM: &str = "OOM";
/// Times to live, rising: from less than a fault lasts to more than that.
const TTLS_MS: [u64; 3] = [2_000, 2_500, 6_000];
/// Else a key might go at once.
const _: () = assert!(TTLS_MS[0] as u128 > super::EXPIRY_TOLERANCE.as_millis());

/// What a run needs to know about its clients.
#[derive(Clone, Debug)]
pub(super) struct ClientsPlan {
    /// What times count from.
    pub(super) origin: Instant,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) count: usize,
    /// How long a client waits for an answer.
    pub(super) patience: Duration,
    pub(super) seed: u64,
}

/// Clients at work.
#[derive(Debug)]
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Journal>>,
}

/// What clients did and saw.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// In no order.
    pub(super) history: Vec<Operation>,
    /// The history of each group of keys, in no order.
    pub(super) groups: BTreeMap<Bytes, Vec<multi::Operation>>,
    /// What clients had to put up with, and when. In no order.
    troubles: Vec<(Duration, Trouble)>,
    /// Replies that no client should see, with their number.
    pub(super) strange: BTreeMap<String, u64>,
}

/// What a client has to put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A command was certainly not executed, and is sent again.
    NotExecuted,
    /// Nobody knows whether a command was executed.
    Unknown,
    /// A node did not take a connection.
    Unreachable,
}

impl Journal {
    /// When answers came, in nanoseconds, in no order.
    pub(super) fn answers(&self) -> impl Iterator<Item = u64> {
        let singles = self.history.iter().filter_map(|operation| operation.returned.as_ref().map(|(at, _)| *at));
        let several = self.groups.values().flatten().filter_map(|operation| operation.returned.as_ref().map(|(at, _)| *at));
        singles.chain(several)
    }

    /// How often there was such trouble in some time.
    pub(super) fn troubles(&self, wanted: Trouble, time: std::ops::Range<Duration>) -> u64 {
        self.troubles.iter().filter(|(at, trouble)| *trouble == wanted && time.contains(at)).count() as u64
    }

    /// How often a lease was seen to hold something, and then to hold nothing: it had expired, since nobody deletes leases.
    pub(super) fn expiries(&self) -> u64 {
        let mut leases: BTreeMap<&Bytes, Vec<(u64, u64, bool)>> = BTreeMap::new();
        for Operation { key, command, call_ns, returned, .. } in &self.history {
            if let (Command::Get, Some((returned_ns, Outcome::Value(value)))) = (command, returned)
                && key.starts_with(LEASE.as_bytes())
            {
                leases.entry(key).or_default().push((*call_ns, *returned_ns, value.is_some()));
            }
        }
        let of_lease = |mut seen: Vec<(u64, u64, bool)>| {
            seen.sort_unstable();
            // Of two that met nobody knows which was first.
            let goes = |pair: &&[(u64, u64, bool)]| pair[0].2 && !pair[1].2 && pair[0].1 < pair[1].0;
            seen.windows(2).filter(goes).count() as u64
        };
        leases.into_values().map(of_lease).sum()
    }

    /// Notes a command and its reply, if there is one. False if the reply does not say what became of it.
    fn note(&mut self, client: u32, question: Question, call_ns: u64, reply: Option<(u64, Value)>) -> bool {
        let reply = reply.filter(|(_, reply)| !matches!(reply, Value::Error(text) if Fate::of(text) == Fate::Unknown));
        let shown = reply.as_ref().map(|(_, reply)| format!("{question:?}: {reply:?}"));
        let is_known = match question {
            Question::One(key, command) => {
                let returned = reply.and_then(|(at, reply)| Some((at, wire::outcome(&command, &reply)?)));
                self.history.push(Operation { client, key, command, call_ns, returned });
                self.history.last().is_some_and(|operation| operation.returned.is_some())
            }
            Question::Several(group, command) => {
                let returned = reply.and_then(|(at, reply)| Some((at, wire::outcome_of_several(&command, &reply)?)));
                let history = self.groups.entry(group).or_default();
                history.push(multi::Operation { client, command, call_ns, returned });
                history.last().is_some_and(|operation| operation.returned.is_some())
            }
        };
        if let Some(shown) = shown.filter(|_| !is_known) {
            self.note_strange(shown);
        }
        is_known
    }

    fn note_strange(&mut self, text: String) {
        *self.strange.entry(text).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.history.extend(other.history);
        for (group, history) in other.groups {
            self.groups.entry(group).or_default().extend(history);
        }
        self.troubles.extend(other.troubles);
        for (text, count) in other.strange {
            *self.strange.entry(text).or_default() += count;
        }
    }
}

impl Clients {
    pub(super) fn start(plan: &ClientsPlan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let parties: Vec<Arc<Party>> = (0..plan.count.div_ceil(PARTY)).map(|number| Arc::new(Party::new(number))).collect();
        let client = |number: usize| {
            let worker = Worker {
                plan: plan.clone(),
                number: u32::try_from(number).expect("few clients"),
                party: Arc::clone(&parties[number / PARTY]),
                random: StdRng::seed_from_u64(plan.seed.wrapping_add(number as u64 + 1)),
                connections: plan.addresses.iter().map(|_| None).collect(),
                place: number % plan.addresses.len(),
                written: 0,
                again: Vec::new(),
                journal: Journal::default(),
            };
            let stop = Arc::clone(&stop);
            thread::spawn(move || worker.run(&stop))
        };
        Self { threads: (0..plan.count).map(client).collect(), stop }
    }

    /// Ends their work.
    pub(super) fn stop(mut self) -> Journal {
        self.stop.store(true, Ordering::Relaxed);
        let mut journal = Journal::default();
        for thread in std::mem::take(&mut self.threads) {
            journal.add(thread.join().expect("a client does not panic"));
        }
        journal
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Clients that share keys, and how often each of their places for a key was used.
#[derive(Debug)]
struct Party {
    number: usize,
    uses: [AtomicUsize; KEYS_AT_A_TIME],
    group_uses: AtomicUsize,
    lease_uses: AtomicUsize,
    /// When the next lease may be used, in nanoseconds since the origin.
    lease_free_ns: AtomicU64,
}

impl Party {
    fn new(number: usize) -> Self {
        let [group_uses, lease_uses] = [0; 2].map(AtomicUsize::new);
        Self { number, uses: std::array::from_fn(|_| AtomicUsize::new(0)), group_uses, lease_uses, lease_free_ns: AtomicU64::new(0) }
    }

    /// The name of the group of keys that is in use.
    fn group(&self) -> Bytes {
        let age = self.group_uses.fetch_add(1, Ordering::Relaxed) / OPERATIONS_PER_GROUP;
        Bytes::from(format!("group:{}:{age}", self.number))
    }

    /// The next lease, unless one was used a moment ago.
    fn lease(&self, now_ns: u64) -> Option<Key> {
        let free_ns = self.lease_free_ns.load(Ordering::Relaxed);
        let next_ns = now_ns + u64::try_from(LEASE_INTERVAL.as_nanos()).expect("a short time");
        let is_ours = || self.lease_free_ns.compare_exchange(free_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (now_ns >= free_ns && is_ours()).then(|| {
            let uses = self.lease_uses.fetch_add(1, Ordering::Relaxed);
            let (place, age) = (uses % LEASES_AT_A_TIME, uses / LEASES_AT_A_TIME / OPERATIONS_PER_LEASE);
            Key { name: Bytes::from(format!("{LEASE}{}:{place}:{age}", self.number)), usage: Usage::Lease }
        })
    }

    fn key(&self, random: &mut StdRng) -> Key {
        let place = random.random_range(0..KEYS_AT_A_TIME);
        let age = self.uses[place].fetch_add(1, Ordering::Relaxed) / OPERATIONS_PER_KEY;
        let name = format!("history:{}:{place}:{age}", self.number);
        Key { name: Bytes::from(name), usage: Usage::BUSY[(self.number + place + age) % Usage::BUSY.len()] }
    }
}

struct Key {
    name: Bytes,
    usage: Usage,
}

/// What a key is used for, since what applications do with one key belongs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    Register,
    Counter,
    Lock,
    Anything,
    Lease,
}

impl Usage {
    /// Of keys that are used all the time.
    const BUSY: [Self; 4] = [Self::Register, Self::Counter, Self::Lock, Self::Anything];

    /// The operations, as often as they shall come.
    const fn operations(self) -> &'static [Kind] {
        use Kind::{Append, Del, Get, GetDel, Incr, PExpire, Persist, Set, SetNumber, SetNx, SetPx};
        match self {
            Self::Register => &[Get, Get, Get, Get, Get, Set, Set, Set, Append, Append, SetPx, SetNx, PExpire, Del, GetDel],
            Self::Counter => &[Get, Get, Get, Get, Incr, Incr, Incr, Incr, Incr, Incr, SetNumber, Del, GetDel],
            Self::Lock => &[SetNx, SetNx, SetNx, SetPx, PExpire, Get, Get, Get, Del, GetDel],
            Self::Lease => &[Get, Get, Get, Get, Get, Get, Get, Get, Get, Get, Get, Get, Get, Get, Get, SetNx, SetPx, PExpire],
            Self::Anything => &[Get, Get, Get, Set, SetPx, SetNx, SetNumber, Append, Incr, Incr, PExpire, Persist, Del, GetDel],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get,
    Set,
    SetPx,
    SetNx,
    SetNumber,
    Append,
    Incr,
    Del,
    GetDel,
    PExpire,
    Persist,
}

/// A command to be sent: on a key, or on keys of a group.
#[derive(Clone, Debug)]
enum Question {
    One(Bytes, Command),
    Several(Bytes, multi::Command),
}

impl Question {
    fn arguments(&self) -> Vec<Bytes> {
        match self {
            Self::One(key, command) => wire::arguments(key, command),
            Self::Several(_, command) => wire::arguments_of_several(command),
        }
    }
}

struct Worker {
    plan: ClientsPlan,
    number: u32,
    party: Arc<Party>,
    random: StdRng,
    /// To each node, if there is one.
    connections: Vec<Option<Client>>,
    /// The node it talks to.
    place: usize,
    /// Values that it has written.
    written: u32,
    /// What was certainly not executed, in its order.
    again: Vec<Question>,
    journal: Journal,
}

impl Worker {
    fn run(mut self, stop: &AtomicBool) -> Journal {
        while !stop.load(Ordering::Relaxed) {
            if self.random.random_bool(WANDER) {
                self.move_on();
            }
            let connected = self.connections[self.place].take().or_else(|| Client::connect(self.plan.addresses[self.place]).ok());
            let Some(client) = connected else {
                self.note_trouble(Trouble::Unreachable);
                self.move_on();
                thread::sleep(RECONNECT_PAUSE);
                continue;
            };
            self.operate(client.with_patience(self.plan.patience));
            thread::sleep(self.random.random_range(Duration::ZERO..=PAUSE_MAX));
        }
        self.journal
    }

    fn move_on(&mut self) {
        self.place = self.random.random_range(0..self.plan.addresses.len());
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.plan.origin.elapsed().as_nanos()).expect("a run of less than centuries")
    }

    fn note_trouble(&mut self, trouble: Trouble) {
        self.journal.troubles.push((self.plan.origin.elapsed(), trouble));
    }

    /// One pipeline, from what to send to what became of it.
    fn operate(&mut self, mut client: Client) {
        let mut questions = std::mem::take(&mut self.again);
        if questions.is_empty() {
            let count = if self.random.random_bool(PIPELINE) { self.random.random_range(PIPELINE_LENGTHS) } else { 1 };
            questions = (0..count).map(|_| self.question()).collect();
        }
        let call_ns = self.now_ns();
        questions.iter().for_each(|question| client.queue(&question.arguments()));
        let mut is_broken = client.flush().is_err();
        let mut is_unknown = false;
        let mut is_refused = false;
        let mut returned_ns = call_ns;
        for question in questions {
            let reply = if is_broken { None } else { client.receive().ok() };
            is_broken |= reply.is_none();
            // The history tells the order of a pipeline by its returns.
            returned_ns = self.now_ns().max(returned_ns + 1);
            if let Some(Value::Error(text)) = &reply
                && Fate::of(text) == Fate::NotExecuted
            {
                is_refused |= !text.starts_with(NO_ROOM);
                self.note_trouble(Trouble::NotExecuted);
                self.again.push(question);
                continue;
            }
            let shown = is_refused.then(|| format!("{question:?} was executed behind a command that was not: {reply:?}"));
            if self.journal.note(self.number, question, call_ns, reply.map(|reply| (returned_ns, reply))) {
                shown.into_iter().for_each(|shown| self.journal.note_strange(shown));
            } else {
                is_unknown = true;
                self.note_trouble(Trouble::Unknown);
            }
        }
        if !is_unknown {
            // Else an answer may still be under way on it.
            self.connections[self.place] = Some(client);
        }
        if is_unknown || !self.again.is_empty() {
            self.move_on();
        }
    }

    fn question(&mut self) -> Question {
        if self.random.random_bool(SEVERAL) {
            let group = self.party.group();
            let command = self.command_of_several(&group);
            return Question::Several(group, command);
        }
        let lease = self.party.lease(self.now_ns());
        let key = lease.unwrap_or_else(|| self.party.key(&mut self.random));
        let command = self.command(key.usage);
        Question::One(key.name, command)
    }

    fn command_of_several(&mut self, group: &Bytes) -> multi::Command {
        let mut keys: Vec<Bytes> =
            (0..KEYS_PER_GROUP).map(|number| Bytes::from([&group[..], format!(":{number}").as_bytes()].concat())).collect();
        keys.shuffle(&mut self.random);
        let kind = self.random.random_range(0..10);
        if kind < 4 {
            return multi::Command::MGet(keys);
        }
        keys.truncate(KEYS_PER_GROUP - 1);
        let pairs = |worker: &mut Self| keys.iter().map(|key| (key.clone(), worker.text())).collect();
        match kind {
            4..6 => multi::Command::MSet(pairs(self)),
            6..8 => multi::Command::MSetNx(pairs(self)),
            _ => multi::Command::Del(keys),
        }
    }

    fn command(&mut self, usage: Usage) -> Command {
        let kind = *usage.operations().choose(&mut self.random).expect("there are operations");
        match kind {
            Kind::Get => Command::Get,
            Kind::Set => Command::Set { value: self.text(), ttl_ms: None },
            Kind::SetPx => Command::Set { value: self.text(), ttl_ms: Some(self.ttl_ms()) },
            Kind::SetNx => Command::SetNx { value: self.text() },
            Kind::SetNumber => Command::Set { value: self.number_text(), ttl_ms: None },
            Kind::Append => Command::Append { value: self.text() },
            Kind::Incr => Command::Incr { by: self.random.random_range(1..=9) },
            Kind::Del => Command::Del,
            Kind::GetDel => Command::GetDel,
            Kind::PExpire => Command::PExpire { ttl_ms: self.ttl_ms() },
            Kind::Persist => Command::Persist,
        }
    }

    fn ttl_ms(&mut self) -> u64 {
        *TTLS_MS.choose(&mut self.random).expect("there are times to live")
    }

    /// A text that nobody else writes, in the form that the checker can make use of.
    fn text(&mut self) -> Bytes {
        self.written += 1;
        Bytes::from(format!("<{:03}:{:07}>", self.number, self.written))
    }

    /// A number that nobody else writes, and far from those that increments make of others.
    fn number_text(&mut self) -> Bytes {
        self.written += 1;
        let number = (u64::from(self.number) + 1) * 1_000_000_000_000 + u64::from(self.written) * 10_000;
        Bytes::from(number.to_string())
    }
}
