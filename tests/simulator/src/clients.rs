//! The clients: what they ask, and the history of what they were answered.
//! A client belongs to a machine and has one request at a time: a command, a pipeline, or the three commands `GET`, `INCR`, `GET` on one
//! key, whose replies must fit together since a run is one place in the log. In some plans one client of each machine sends, now and then, a
//! command on several keys; those keys are judged together. Keys change with time, so that no history becomes too long for the checker.
//! Values are unique.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use redraft::command::table;
use redraft::error::RequestError;
use redraft::node::{Request, RunResult};
use redraft_tests::linearizability::{self, Command, Limits, Operation, Outcome, multi};
use resp::Reply;

use crate::finding::Finding;
use crate::machine::Machine;
use crate::plan::Plan;
use redraft::node::core::{Now, ReadId, RunId};

/// What the findings of the clients begin with. A history that could not be decided is none.
pub const FINDINGS: [&str; 3] = ["linearizability: ", "replies: ", "service: "];
/// A set of keys is used for so long, in ms.
const KEYS_LAST_MS: u64 = 3_000;
/// Keys that are judged together, and the longest pause between two commands on them, in ms.
const SEVERAL_KEYS: usize = 3;
/// See `SEVERAL_KEYS`.
const SEVERAL_EVERY_MS: u64 = 600;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ticket {
    /// A run with writes.
    Run(RunId),
    /// Reads.
    Read(ReadId),
}

/// What a client asks at a time.
#[derive(Clone)]
pub enum Question {
    /// Commands on single keys, as one run.
    Pipeline(Vec<(Bytes, Command)>),
    /// `GET`, `INCR`, `GET` on one key.
    Triple(Bytes),
    /// A command on several keys, and the time whose keys they are.
    Several(u64, multi::Command),
}

struct Asked {
    client: usize,
    question: Question,
    call_ns: u64,
}

/// How far the leaders' times were from the true one in a run, in ms, by a clock that no fault touches.
#[derive(Clone, Copy)]
pub struct Stamps {
    /// No time was off by less than this, nor by more than `most`, as far as it is known when it was given.
    pub least: i64,
    /// See `least`.
    pub most: i64,
}

impl Stamps {
    /// A time that a leader gave, some time between two.
    fn note(&mut self, stamp_ms: u64, given_ms: std::ops::RangeInclusive<u64>) {
        let difference = |at_ms: u64| stamp_ms.cast_signed() - at_ms.cast_signed();
        self.least = self.least.min(difference(*given_ms.start()));
        self.most = self.most.max(difference(*given_ms.end()));
    }

    /// How far from its time a key may go or stay. Its deadline is a leader's time plus its time to live, and it is judged by another
    /// leader's: the two are off by no more than the least and the most of this run. One more ms for each, since they are cut to whole ones.
    fn tolerance_ns(self) -> u64 {
        (self.most.saturating_sub(self.least).max(0).unsigned_abs() + 2) * 1_000_000
    }
}

/// All clients.
pub struct Clients {
    /// The machine of each client.
    pub slots: Vec<usize>,
    asked: BTreeMap<(usize, Ticket), Asked>,
    /// What was done so far, on single keys.
    history: Vec<Operation>,
    /// The same on several keys, by the time whose keys they are.
    several: BTreeMap<u64, Vec<multi::Operation>>,
    values: u64,
    stamps: Stamps,
    /// The shortest time to live that was asked for.
    least_ttl_ms: Option<u64>,
    /// The first thing that was wrong by itself.
    wrong: Option<String>,
    /// Requests answered, refused without effect, and without an outcome.
    pub answered: u64,
    /// See `answered`.
    pub refused: u64,
    /// See `answered`.
    pub unknown: u64,
}

impl Clients {
    /// The clients of a plan.
    pub fn new(plan: &Plan) -> Self {
        Self {
            slots: (0..plan.machines()).flat_map(|slot| std::iter::repeat_n(slot, plan.clients)).collect(),
            asked: BTreeMap::new(),
            history: Vec::new(),
            several: BTreeMap::new(),
            values: 0,
            stamps: Stamps { least: i64::MAX, most: i64::MIN },
            least_ttl_ms: None,
            wrong: None,
            answered: 0,
            refused: 0,
            unknown: 0,
        }
    }

    /// A client asks something of its machine. False if nothing runs there.
    pub fn ask(&mut self, client: usize, machine: &mut Machine, now: Now, ns: u64, plan: &Plan, random: &mut SmallRng) -> bool {
        let question = if is_for_several(client, plan) {
            Question::Several(now.mono_ms / KEYS_LAST_MS, self.several(now, random))
        } else if random.random_bool(0.1) {
            Question::Triple(key(now, 1 + 2 * random.random_range(0..plan.keys / 2)))
        } else {
            let count = if random.random_bool(0.7) { 1 } else { random.random_range(2..=4) };
            Question::Pipeline((0..count).map(|_| self.command(now, plan, random)).collect())
        };
        self.send(client, machine, now, ns, question)
    }

    /// A client asks a question. False if nothing runs there.
    pub fn send(&mut self, client: usize, machine: &mut Machine, now: Now, ns: u64, question: Question) -> bool {
        let requests = requests(&question);
        let ticket = if requests.iter().any(|request| request.spec.is_write()) {
            machine.run(now, requests).map(Ticket::Run)
        } else {
            machine.read(now, requests).map(Ticket::Read)
        };
        let Some(ticket) = ticket else { return false };
        self.asked.insert((machine.slot, ticket), Asked { client, question, call_ns: ns });
        true
    }

    /// How long a client waits before its next question, in us.
    pub fn pause_us(&self, client: usize, plan: &Plan, random: &mut SmallRng) -> u64 {
        let longest_ms = if is_for_several(client, plan) { SEVERAL_EVERY_MS } else { plan.think_ms };
        random.random_range(0..=longest_ms * 1_000)
    }

    fn several(&mut self, now: Now, random: &mut SmallRng) -> multi::Command {
        let mut keys: Vec<Bytes> = (0..SEVERAL_KEYS).map(|number| several_key(now.mono_ms / KEYS_LAST_MS, number)).collect();
        keys.shuffle(random);
        let last = keys.split_off(2);
        let pairs = |clients: &mut Self| keys.iter().map(|key| (key.clone(), clients.value())).collect();
        match random.random_range(0..10) {
            0..4 => multi::Command::MGet(keys),
            4..6 => multi::Command::MSet(pairs(self)),
            6..8 => multi::Command::MSetNx(pairs(self)),
            8 => multi::Command::Del(last),
            _ => multi::Command::Rename(keys[0].clone(), keys[1].clone()),
        }
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        format!("<{:06}>", self.values).into()
    }

    fn command(&mut self, now: Now, plan: &Plan, random: &mut SmallRng) -> (Bytes, Command) {
        let number = random.random_range(0..plan.keys);
        let expires = random.random_bool(plan.expiry);
        let ttl_ms = plan.ttl_ms + random.random_range(20..2_000);
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
        if let Command::Set { ttl_ms: Some(ttl_ms), .. } | Command::PExpire { ttl_ms } = &command {
            self.least_ttl_ms = Some(self.least_ttl_ms.map_or(*ttl_ms, |least_ms| least_ms.min(*ttl_ms)));
        }
        (key(now, number), command)
    }

    /// A leader has put this time into an entry.
    pub fn stamped(&mut self, stamp_ms: u64, now: Now) {
        self.stamps.note(stamp_ms, now.mono_ms..=now.mono_ms);
    }

    /// Reads are evaluated by this time of a leader, which it gave after they were asked.
    pub fn read_stamped(&mut self, slot: usize, id: ReadId, stamp_ms: u64, now: Now) {
        if let Some(asked) = self.asked.get(&(slot, Ticket::Read(id))) {
            self.stamps.note(stamp_ms, asked.call_ns / 1_000_000..=now.mono_ms);
        }
    }

    /// Whether keys were given times to live.
    pub fn uses_expiry(&self) -> bool {
        self.least_ttl_ms.is_some()
    }

    /// Whether all these were longer than the tolerance: otherwise a key may be gone at once.
    pub fn judges_expiry(&self) -> bool {
        self.least_ttl_ms.is_some_and(|ttl_ms| self.stamps.tolerance_ns() < ttl_ms * 1_000_000)
    }

    /// How far the leaders' times were off.
    pub fn stamps(&self) -> Stamps {
        self.stamps
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
        let client = asked.client;
        match result {
            Ok(replies) => {
                self.answered += 1;
                self.remember(asked, replies, ns).or_else(|wrong| self.complain(format!("replies: {wrong}")))?;
            }
            Err(RequestError::Unknown) => self.lose(asked),
            Err(_) => self.refused += 1,
        }
        Ok(Some(client))
    }

    /// What clients see is wrong, whatever else they see.
    /// # Errors
    /// Always that.
    pub fn complain<T>(&mut self, wrong: String) -> Result<T, String> {
        self.wrong.get_or_insert(wrong.clone());
        Err(wrong)
    }

    fn remember(&mut self, Asked { client, question, call_ns }: Asked, replies: &[Reply], ns: u64) -> Result<(), String> {
        let client = u32::try_from(client).expect("few clients");
        let mut note = |key, command: Command, reply| {
            let outcome = outcome(&command, reply)?;
            self.history.push(Operation { client, key, command, call_ns, returned: Some((ns, outcome)) });
            Ok::<(), String>(())
        };
        match (question, replies) {
            (Question::Pipeline(commands), replies) if commands.len() == replies.len() => {
                commands.into_iter().zip(replies).try_for_each(|((key, command), reply)| note(key, command, reply))
            }
            (Question::Triple(key), [_, reply, _]) => {
                fits_together(replies)?;
                note(key, Command::Incr { by: 1 }, reply)
            }
            (Question::Several(time, command), [reply]) => {
                let outcome = several_outcome(reply)?;
                self.several.entry(time).or_default().push(multi::Operation { client, command, call_ns, returned: Some((ns, outcome)) });
                Ok(())
            }
            (_, replies) => Err(format!("there are {} replies to a run", replies.len())),
        }
    }

    fn lose(&mut self, Asked { client, question, call_ns }: Asked) {
        self.unknown += 1;
        let client = u32::try_from(client).expect("few clients");
        match question {
            Question::Pipeline(commands) => {
                let writes = commands.into_iter().filter(|(_, command)| *command != Command::Get);
                self.history.extend(writes.map(|(key, command)| Operation { client, key, command, call_ns, returned: None }));
            }
            Question::Triple(key) => {
                self.history.push(Operation { client, key, command: Command::Incr { by: 1 }, call_ns, returned: None });
            }
            Question::Several(_, multi::Command::MGet(_)) => {}
            Question::Several(time, command) => {
                self.several.entry(time).or_default().push(multi::Operation { client, command, call_ns, returned: None });
            }
        }
    }

    /// Judges everything that was seen.
    /// # Errors
    /// What cannot be explained by one order.
    pub fn judge(&mut self) -> Result<(), Finding> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone().into());
        }
        for (_, asked) in std::mem::take(&mut self.asked) {
            self.lose(asked);
        }
        let limits = &Limits { expiry_tolerance_ns: self.stamps.tolerance_ns(), ..Limits::default() };
        linearizability::check(&self.history, limits)?;
        for history in self.several.values() {
            multi::check(history, limits)?;
        }
        Ok(())
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

    /// Reads of all keys that are judged together.
    pub fn last_of_several(&self) -> Vec<Question> {
        let read = |time: &u64| {
            Question::Several(*time, multi::Command::MGet((0..SEVERAL_KEYS).map(|number| several_key(*time, number)).collect()))
        };
        self.several.keys().map(read).collect()
    }

    /// All keys in the history.
    pub fn keys(&self) -> Vec<Bytes> {
        let mut keys: Vec<_> = self.history.iter().map(|operation| operation.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

fn several_key(time: u64, number: usize) -> Bytes {
    format!("{time}:s{number}").into()
}

/// Whether a client, the first of its machine, sends commands on several keys.
fn is_for_several(client: usize, plan: &Plan) -> bool {
    plan.has_several && client.is_multiple_of(plan.clients)
}

fn key(now: Now, number: usize) -> Bytes {
    format!("{}:{number}", now.mono_ms / KEYS_LAST_MS).into()
}

fn requests(question: &Question) -> Vec<Request> {
    match question {
        Question::Pipeline(commands) => commands.iter().map(|(key, command)| request(arguments(key, command))).collect(),
        Question::Triple(key) => {
            [Command::Get, Command::Incr { by: 1 }, Command::Get].iter().map(|command| request(arguments(key, command))).collect()
        }
        Question::Several(_, command) => vec![request(several_arguments(command))],
    }
}

fn request(args: Vec<Bytes>) -> Request {
    Request { spec: table::resolve(&args).expect("a valid command"), args, db: 0 }
}

fn arguments(key: &Bytes, command: &Command) -> Vec<Bytes> {
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
    [vec![name.into(), key.clone()], rest].concat()
}

fn several_arguments(command: &multi::Command) -> Vec<Bytes> {
    let flat = |pairs: &[(Bytes, Bytes)]| pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
    let (name, rest): (&'static str, Vec<Bytes>) = match command {
        multi::Command::MGet(keys) => ("mget", keys.clone()),
        multi::Command::MSet(pairs) => ("mset", flat(pairs)),
        multi::Command::MSetNx(pairs) => ("msetnx", flat(pairs)),
        multi::Command::Del(keys) => ("del", keys.clone()),
        multi::Command::Rename(from, to) => ("rename", vec![from.clone(), to.clone()]),
    };
    [vec![name.into()], rest].concat()
}

fn several_outcome(reply: &Reply) -> Result<multi::Outcome, String> {
    let value = |reply: &Reply| match reply {
        Reply::Bulk(value) => Ok(Some(value.clone())),
        Reply::Null => Ok(None),
        other => Err(format!("a value of MGET is {other:?}")),
    };
    match reply {
        Reply::Simple("OK") => Ok(multi::Outcome::Done),
        Reply::Integer(number) => Ok(multi::Outcome::Integer(*number)),
        Reply::Array(values) => Ok(multi::Outcome::Values(values.iter().map(value).collect::<Result<_, _>>()?)),
        Reply::Error(text) if text.starts_with("ERR no such key") => Ok(multi::Outcome::Refused),
        other => Err(format!("a command on several keys was answered {other:?}")),
    }
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
