//! Clients that make a history: each does one operation after the other, on any node, and notes what it sent and what came back.
//! Keys are for a while: after so many operations on one its successor takes its place, so that the history of a key stays short enough to
//! be judged. A client belongs to a party with keys of its own, so that few clients meet on a key. Texts and numbers that are written
//! are written once.
//! What was certainly not executed is counted and is not in the history; what has no answer is in it without an end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use resp::Value;

use crate::client::{Client, Fate};
use crate::linearizability::{Command, Operation, Outcome};

/// Clients that share keys.
const PARTY: usize = 6;
/// Keys that a party uses at a time.
const KEYS_AT_A_TIME: usize = 3;
/// Operations on a key before its successor takes its place.
const OPERATIONS_PER_KEY: usize = 100;
/// Longest pause between two operations of a client.
const PAUSE_MAX: Duration = Duration::from_millis(8);
/// Pause after a node did not take a connection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How often a client goes to another node although its own answers.
const WANDER: f64 = 0.1;
/// Times to live: from less than a fault lasts to more than that.
const TTLS_MS: [u64; 3] = [500, 2_500, 6_000];

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
    /// Operations that were certainly not executed.
    pub(super) not_executed: u64,
    /// Operations of which nobody knows.
    pub(super) unknown: u64,
    /// Connections that no node took.
    pub(super) unreachable: u64,
    /// Error replies that no client should see, with their number.
    pub(super) strange: BTreeMap<String, u64>,
}

impl Journal {
    fn add(&mut self, other: Self) {
        self.history.extend(other.history);
        self.not_executed += other.not_executed;
        self.unknown += other.unknown;
        self.unreachable += other.unreachable;
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
}

impl Party {
    fn new(number: usize) -> Self {
        Self { number, uses: std::array::from_fn(|_| AtomicUsize::new(0)) }
    }

    fn key(&self, random: &mut StdRng) -> Key {
        let place = random.random_range(0..KEYS_AT_A_TIME);
        let age = self.uses[place].fetch_add(1, Ordering::Relaxed) / OPERATIONS_PER_KEY;
        let name = format!("history:{}:{place}:{age}", self.number);
        Key { name: Bytes::from(name), usage: Usage::ALL[(self.number + place + age) % Usage::ALL.len()] }
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
}

impl Usage {
    const ALL: [Self; 4] = [Self::Register, Self::Counter, Self::Lock, Self::Anything];

    /// The operations, as often as they shall come.
    const fn operations(self) -> &'static [Kind] {
        use Kind::{Append, Del, Get, GetDel, Incr, Set, SetNumber, SetNx, SetPx};
        match self {
            Self::Register => &[Get, Get, Get, Get, Get, Set, Set, Set, Append, Append, SetPx, SetNx, Del, GetDel],
            Self::Counter => &[Get, Get, Get, Get, Incr, Incr, Incr, Incr, Incr, Incr, SetNumber, Del, GetDel],
            Self::Lock => &[SetNx, SetNx, SetNx, SetPx, Get, Get, Get, Del, GetDel],
            Self::Anything => &[Get, Get, Get, Set, SetPx, SetNx, SetNumber, Append, Incr, Incr, Del, GetDel],
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
                self.journal.unreachable += 1;
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

    /// One operation, from what to do to what became of it.
    fn operate(&mut self, mut client: Client) {
        let key = self.party.key(&mut self.random);
        let command = self.command(key.usage);
        let arguments = arguments(&key.name, &command);
        let call_ns = self.now_ns();
        let reply = client.call(&arguments);
        let returned_ns = self.now_ns();
        let outcome = match reply {
            Ok(Value::Error(text)) => match (Fate::of(&text), &command) {
                (Fate::NotExecuted, _) => {
                    self.journal.not_executed += 1;
                    self.connections[self.place] = Some(client);
                    return self.move_on();
                }
                (Fate::Unknown, _) => None,
                (Fate::Refused, Command::Incr { .. }) if text.starts_with("ERR value is not an integer") => Some(Outcome::Refused),
                (Fate::Refused, _) => {
                    *self.journal.strange.entry(format!("{command:?}: {text}")).or_default() += 1;
                    None
                }
            },
            Ok(value) => match outcome(&command, &value) {
                Some(outcome) => Some(outcome),
                None => {
                    *self.journal.strange.entry(format!("{command:?}: {value:?}")).or_default() += 1;
                    None
                }
            },
            Err(_) => None,
        };
        if outcome.is_some() {
            self.connections[self.place] = Some(client);
        } else {
            // Who does not know goes elsewhere, with a new connection later on: an answer may still be under way on this one.
            self.journal.unknown += 1;
            self.move_on();
        }
        let returned = outcome.map(|outcome| (returned_ns, outcome));
        self.journal.history.push(Operation { client: self.number, key: key.name, command, call_ns, returned });
    }

    fn command(&mut self, usage: Usage) -> Command {
        let kind = *usage.operations().choose(&mut self.random).expect("there are operations");
        match kind {
            Kind::Get => Command::Get,
            Kind::Set => Command::Set { value: self.text(), ttl_ms: None },
            Kind::SetPx => Command::Set { value: self.text(), ttl_ms: TTLS_MS.choose(&mut self.random).copied() },
            Kind::SetNx => Command::SetNx { value: self.text() },
            Kind::SetNumber => Command::Set { value: self.number_text(), ttl_ms: None },
            Kind::Append => Command::Append { value: self.text() },
            Kind::Incr => Command::Incr { by: self.random.random_range(1..=9) },
            Kind::Del => Command::Del,
            Kind::GetDel => Command::GetDel,
        }
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

fn arguments(key: &Bytes, command: &Command) -> Vec<Bytes> {
    let word = |text: &'static str| Bytes::from_static(text.as_bytes());
    let number = |number: &dyn std::fmt::Display| Bytes::from(number.to_string());
    let key = key.clone();
    match command {
        Command::Get => vec![word("GET"), key],
        Command::Set { value, ttl_ms: None } => vec![word("SET"), key, value.clone()],
        Command::Set { value, ttl_ms: Some(ttl) } => vec![word("SET"), key, value.clone(), word("PX"), number(ttl)],
        Command::SetNx { value } => vec![word("SET"), key, value.clone(), word("NX")],
        Command::GetDel => vec![word("GETDEL"), key],
        Command::Del => vec![word("DEL"), key],
        Command::Append { value } => vec![word("APPEND"), key, value.clone()],
        Command::Incr { by } => vec![word("INCRBY"), key, number(by)],
        Command::PExpire { ttl_ms } => vec![word("PEXPIRE"), key, number(ttl_ms)],
        Command::Persist => vec![word("PERSIST"), key],
    }
}

/// What a reply says; `None` if the command has no such reply.
fn outcome(command: &Command, reply: &Value) -> Option<Outcome> {
    let gives_value = matches!(command, Command::Get | Command::GetDel);
    let gives_done = matches!(command, Command::Set { .. } | Command::SetNx { .. });
    let gives_null = gives_value || matches!(command, Command::SetNx { .. });
    match reply {
        Value::Simple(text) if gives_done && text == "OK" => Some(Outcome::Done),
        Value::Bulk(value) if gives_value => Some(Outcome::Value(Some(value.clone()))),
        Value::Null if gives_null => Some(Outcome::Value(None)),
        Value::Integer(number) if !gives_value && !gives_done => Some(Outcome::Integer(*number)),
        _ => None,
    }
}
