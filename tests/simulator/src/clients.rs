//! The clients: what they ask, and the history of what they were answered.
//! A client belongs to a machine and has one request at a time: a command, a pipeline, or the three commands `GET`, `INCR`, `GET` on one
//! key, whose replies must fit together since a run is one place in the log. Keys change with time, so that no key's history becomes too
//! long for the checker. Values are unique.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;
use redraft::command::table;
use redraft::error::RequestError;
use redraft::node::{Request, RunResult};
use redraft_tests::linearizability::{Command, Operation, Outcome};
use resp::Reply;

use crate::machine::Machine;
use crate::plan::Plan;
use redraft::node::core::{Now, ReadId, RunId};

/// A set of keys is used for so long, in ms.
const KEYS_LAST_MS: u64 = 3_000;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ticket {
    /// A run with writes.
    Run(RunId),
    /// Reads.
    Read(ReadId),
}

struct Asked {
    client: usize,
    commands: Vec<(Bytes, Command)>,
    call_ns: u64,
    is_triple: bool,
}

/// All clients.
pub struct Clients {
    /// The machine of each client.
    pub slots: Vec<usize>,
    asked: BTreeMap<(usize, Ticket), Asked>,
    /// What was done so far.
    pub history: Vec<Operation>,
    values: u64,
    /// Requests answered, refused without effect, and without an outcome.
    pub answered: u64,
    /// See `answered`.
    pub refused: u64,
    /// See `answered`.
    pub unknown: u64,
    answered_at: BTreeMap<usize, u64>,
}

impl Clients {
    /// The clients of a plan.
    pub fn new(plan: &Plan) -> Self {
        Self {
            slots: (0..plan.machines()).flat_map(|slot| std::iter::repeat_n(slot, plan.clients)).collect(),
            asked: BTreeMap::new(),
            history: Vec::new(),
            values: 0,
            answered: 0,
            refused: 0,
            unknown: 0,
            answered_at: BTreeMap::new(),
        }
    }

    /// A client asks something of its machine. False if nothing runs there.
    pub fn ask(&mut self, client: usize, machine: &mut Machine, now: Now, ns: u64, plan: &Plan, random: &mut SmallRng) -> bool {
        let is_triple = random.random_bool(0.1);
        let commands = if is_triple {
            let key = key(now, 1 + 2 * random.random_range(0..plan.keys / 2));
            vec![(key.clone(), Command::Get), (key.clone(), Command::Incr { by: 1 }), (key, Command::Get)]
        } else {
            let count = if random.random_bool(0.7) { 1 } else { random.random_range(2..=4) };
            (0..count).map(|_| self.command(now, plan, random)).collect()
        };
        self.send(client, machine, now, ns, commands, is_triple)
    }

    /// A client reads keys, or writes one.
    pub fn send(
        &mut self,
        client: usize,
        machine: &mut Machine,
        now: Now,
        ns: u64,
        commands: Vec<(Bytes, Command)>,
        is_triple: bool,
    ) -> bool {
        let requests: Vec<Request> = commands.iter().map(|(key, command)| request(key, command)).collect();
        let ticket = if requests.iter().any(|request| request.spec.is_write()) {
            machine.run(now, requests).map(Ticket::Run)
        } else {
            machine.read(now, requests).map(Ticket::Read)
        };
        let Some(ticket) = ticket else { return false };
        self.asked.insert((machine.slot, ticket), Asked { client, commands, call_ns: ns, is_triple });
        true
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        format!("<{:06}>", self.values).into()
    }

    fn command(&mut self, now: Now, plan: &Plan, random: &mut SmallRng) -> (Bytes, Command) {
        let number = random.random_range(0..plan.keys);
        let expires = random.random_bool(plan.expiry);
        let ttl_ms = random.random_range(20..2_000);
        let is_counter = number % 2 == 1;
        let command = match random.random_range(0..100) {
            0..40 => Command::Get,
            40..80 if is_counter => Command::Incr { by: random.random_range(1..=2) },
            80..86 => Command::Del,
            86..90 => Command::GetDel,
            90..95 if expires => Command::PExpire { ttl_ms },
            95..98 if expires => Command::Persist,
            98..100 => Command::Incr { by: 1 },
            _ if is_counter => Command::Get,
            40..60 => Command::Set { value: self.value(), ttl_ms: expires.then_some(ttl_ms) },
            60..68 => Command::SetNx { value: self.value() },
            _ => Command::Append { value: self.value() },
        };
        (key(now, number), command)
    }

    /// A run has its outcome.
    pub fn run_done(&mut self, slot: usize, id: RunId, result: &RunResult, ns: u64) -> Result<Option<usize>, String> {
        self.done(slot, Ticket::Run(id), result, ns)
    }

    /// Reads have their outcome.
    pub fn read_done(&mut self, slot: usize, id: ReadId, result: &RunResult, ns: u64) -> Result<Option<usize>, String> {
        self.done(slot, Ticket::Read(id), result, ns)
    }

    /// Returns the client that may go on.
    fn done(&mut self, slot: usize, ticket: Ticket, result: &RunResult, ns: u64) -> Result<Option<usize>, String> {
        let Some(asked) = self.asked.remove(&(slot, ticket)) else { return Ok(None) };
        match result {
            Ok(replies) => {
                self.answered += 1;
                self.answered_at.insert(slot, ns);
                if replies.len() != asked.commands.len() {
                    return Err(format!("{} replies to {} commands", replies.len(), asked.commands.len()));
                }
                let counts = if asked.is_triple {
                    fits_together(replies)?;
                    1..2
                } else {
                    0..replies.len()
                };
                for ((key, command), reply) in asked.commands.into_iter().zip(replies).take(counts.end).skip(counts.start) {
                    let outcome = outcome(&command, reply)?;
                    let client = u32::try_from(asked.client).expect("few clients");
                    self.history.push(Operation { client, key, command, call_ns: asked.call_ns, returned: Some((ns, outcome)) });
                }
            }
            Err(RequestError::Unknown) => {
                let client = asked.client;
                self.lose(asked);
                return Ok(Some(client));
            }
            Err(_) => self.refused += 1,
        }
        Ok(Some(asked.client))
    }

    fn lose(&mut self, asked: Asked) {
        self.unknown += 1;
        let client = u32::try_from(asked.client).expect("few clients");
        for (key, command) in asked.commands {
            if command != Command::Get {
                self.history.push(Operation { client, key, command, call_ns: asked.call_ns, returned: None });
            }
        }
    }

    /// A machine went down with everything its clients had asked.
    pub fn machine_down(&mut self, slot: usize) -> Vec<usize> {
        let lost: Vec<_> = self.asked.extract_if(.., |(at, _), _| *at == slot).collect();
        let clients = lost.iter().map(|(_, asked)| asked.client).collect();
        lost.into_iter().for_each(|(_, asked)| self.lose(asked));
        clients
    }

    /// Whether nobody waits.
    pub fn are_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// When a client of this machine had its last answer, in ns.
    pub fn answered_at(&self, slot: usize) -> u64 {
        self.answered_at.get(&slot).copied().unwrap_or(0)
    }

    /// All keys in the history.
    pub fn keys(&self) -> Vec<Bytes> {
        let mut keys: Vec<_> = self.history.iter().map(|operation| operation.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

fn key(now: Now, number: usize) -> Bytes {
    format!("{}:{number}", now.mono_ms / KEYS_LAST_MS).into()
}

fn request(key: &Bytes, command: &Command) -> Request {
    let mut args: Vec<Bytes> = Vec::new();
    let mut push = |word: &str| args.push(Bytes::copy_from_slice(word.as_bytes()));
    let (name, rest) = match command {
        Command::Get => ("get", vec![]),
        Command::Set { value, ttl_ms: None } => ("set", vec![value.clone()]),
        Command::Set { value, ttl_ms: Some(ttl_ms) } => ("set", vec![value.clone(), "px".into(), ttl_ms.to_string().into()]),
        Command::SetNx { value } => ("set", vec![value.clone(), "nx".into()]),
        Command::GetDel => ("getdel", vec![]),
        Command::Del => ("del", vec![]),
        Command::Append { value } => ("append", vec![value.clone()]),
        Command::Incr { by } => ("incrby", vec![by.to_string().into()]),
        Command::PExpire { ttl_ms } => ("pexpire", vec![ttl_ms.to_string().into()]),
        Command::Persist => ("persist", vec![]),
    };
    push(name);
    args.push(key.clone());
    args.extend(rest);
    Request { spec: table::resolve(&args).expect("a valid command"), args, db: 0 }
}

fn outcome(command: &Command, reply: &Reply) -> Result<Outcome, String> {
    match reply {
        Reply::Simple("OK") => Ok(Outcome::Done),
        Reply::Bulk(value) => Ok(Outcome::Value(Some(value.clone()))),
        Reply::Null => Ok(Outcome::Value(None)),
        Reply::Integer(number) => Ok(Outcome::Integer(*number)),
        Reply::Error(text) if text.starts_with("ERR value is not an integer") => Ok(Outcome::Refused),
        other => Err(format!("{command:?} was answered {other:?}")),
    }
}

/// `GET`, `INCR`, `GET` at one place in the log.
fn fits_together(replies: &[Reply]) -> Result<(), String> {
    let number = |reply: &Reply| match reply {
        Reply::Null => Some(0),
        Reply::Bulk(text) => std::str::from_utf8(text).ok()?.parse::<i64>().ok(),
        Reply::Integer(number) => Some(*number),
        _ => None,
    };
    match &replies.iter().map(number).collect::<Vec<_>>()[..] {
        [Some(before), Some(result), Some(after)] if before + 1 == *result && result == after => Ok(()),
        _ => Err(format!("GET, INCR, GET in one run were answered {replies:?}")),
    }
}
