//! Histories that are known to be right or wrong, and random ones judged by another checker.
//! Notation: operations separated by `;`, each with its call and return in milliseconds (`?` for a return that never came), the command,
//! and behind `->` its outcome. Each is of a client of its own; `+` before the call: of the same as the one before.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::reads::Known;
use super::register::Register;
use super::search::{Model, Moment};
use super::{Command, Limits, Operation, Outcome, Recorded, Span, Violation, check, multi, pipelined, spans};

const MILLI: u64 = 1_000_000;
const LIMITS: Limits = Limits { expiry_tolerance_ns: 5 * MILLI, configurations_max: 100_000 };

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Call, command, return and outcome.
type Parsed<C, O> = (u64, C, Option<(u64, O)>);

/// Parses call, return, command and outcome, the last two by a function each.
fn parse<C, O>(history: &str, command: impl Fn(&[&str]) -> C, outcome: impl Fn(&C, &str) -> O) -> Vec<Parsed<C, O>> {
    let millis = |text: &str| text.parse::<u64>().expect("milliseconds") * MILLI;
    let parse_one = |text: &str| {
        let (asked, said) = text.split_once(" -> ").unwrap_or((text, ""));
        let words: Vec<&str> = asked.split_whitespace().collect();
        let (call, returned) = words[0].trim_start_matches('+').split_once('-').expect("call and return");
        let command = command(&words[1..]);
        let returned = (returned != "?").then(|| (millis(returned), outcome(&command, said.trim())));
        (millis(call), command, returned)
    };
    history.split(';').map(parse_one).collect()
}

/// Whose each operation is, by the number of the first one.
fn clients(history: &str) -> Vec<u32> {
    let mut client = 0;
    let mut client_of = |(number, text): (u32, &str)| {
        client = if text.trim_start().starts_with('+') { client } else { number };
        client
    };
    (0..).zip(history.split(';')).map(&mut client_of).collect()
}

fn single(history: &str) -> Vec<Operation> {
    let command = |words: &[&str]| match *words {
        ["GET"] => Command::Get,
        ["SET", value] => Command::Set { value: bytes(value), ttl_ms: None },
        ["SET", value, "PX", ttl] => Command::Set { value: bytes(value), ttl_ms: Some(ttl.parse().unwrap()) },
        ["SET", value, "NX"] => Command::SetNx { value: bytes(value) },
        ["GETDEL"] => Command::GetDel,
        ["DEL"] => Command::Del,
        ["APPEND", value] => Command::Append { value: bytes(value) },
        ["INCR"] => Command::Incr { by: 1 },
        ["INCRBY", by] => Command::Incr { by: by.parse().unwrap() },
        ["PEXPIRE", ttl] => Command::PExpire { ttl_ms: ttl.parse().unwrap() },
        ["PERSIST"] => Command::Persist,
        _ => panic!("no command: {words:?}"),
    };
    let outcome = |command: &Command, said: &str| match (command, said) {
        (_, "OK") => Outcome::Done,
        (_, "nil") => Outcome::Value(None),
        (_, "refused") => Outcome::Refused,
        (Command::Get | Command::GetDel, value) => Outcome::Value(Some(bytes(value))),
        (_, integer) => Outcome::Integer(integer.parse().unwrap()),
    };
    let operation = |(client, (call_ns, command, returned))| Operation { client, key: bytes("k"), command, call_ns, returned };
    clients(history).into_iter().zip(parse(history, command, outcome)).map(operation).collect()
}

fn several(history: &str) -> Vec<multi::Operation> {
    let pairs = |words: &[&str]| words.chunks(2).map(|pair| (bytes(pair[0]), bytes(pair[1]))).collect();
    let keys = |words: &[&str]| words.iter().map(|key| bytes(key)).collect();
    let command = |words: &[&str]| match words[0] {
        "MGET" => multi::Command::MGet(keys(&words[1..])),
        "MSET" => multi::Command::MSet(pairs(&words[1..])),
        "MSETNX" => multi::Command::MSetNx(pairs(&words[1..])),
        "DEL" => multi::Command::Del(keys(&words[1..])),
        "RENAME" => multi::Command::Rename(bytes(words[1]), bytes(words[2])),
        _ => panic!("no command: {words:?}"),
    };
    let outcome = |command: &multi::Command, said: &str| match (command, said) {
        (_, "OK") => multi::Outcome::Done,
        (_, "refused") => multi::Outcome::Refused,
        (multi::Command::MGet(_), values) => {
            multi::Outcome::Values(values.split_whitespace().map(|value| (value != "nil").then(|| bytes(value))).collect())
        }
        (_, integer) => multi::Outcome::Integer(integer.parse().unwrap()),
    };
    let operation = |(client, (call_ns, command, returned))| multi::Operation { client, command, call_ns, returned };
    clients(history).into_iter().zip(parse(history, command, outcome)).map(operation).collect()
}

#[track_caller]
fn right(history: &str) {
    check(&single(history), &LIMITS).unwrap_or_else(|violation| panic!("{history}\n{violation}"));
}

/// The history is refused, and what is left of it are these of its operations, counted from 0.
#[track_caller]
fn wrong(history: &str, left: &[usize]) {
    let operations = single(history);
    let Err(Violation::NotLinearizable { history: shown, .. }) = check(&operations, &LIMITS) else { panic!("accepted: {history}") };
    let shown: Vec<usize> = shown.iter().map(|operation| operation.client as usize).collect();
    assert_eq!(shown, left, "{history}");
}

#[test]
fn what_happens_in_turn_is_explained_by_its_turn() {
    right("0-1 GET -> nil; 2-3 SET a -> OK; 4-5 GET -> a; 6-7 DEL -> 1; 8-9 DEL -> 0; 10-11 GET -> nil");
    right("0-1 SET a NX -> OK; 2-3 SET b NX -> nil; 4-5 GETDEL -> a; 6-7 GETDEL -> nil; 8-9 SET c NX -> OK");
    right("0-1 APPEND a -> 1; 2-3 APPEND b -> 2; 4-5 GET -> ab; 6-7 INCR -> refused; 8-9 GET -> ab");
    right("0-1 INCR -> 1; 2-3 INCRBY 41 -> 42; 4-5 APPEND 0 -> 3; 6-7 INCRBY -21 -> 399; 8-9 GET -> 399");
    right("0-1 SET 007 -> OK; 2-3 INCR -> refused; 4-5 SET 9223372036854775807 -> OK; 6-7 INCR -> refused");
    right(
        "0-1 PEXPIRE 9 -> 0; 2-3 PERSIST -> 0; 4-5 SET a -> OK; 6-7 PERSIST -> 0; 8-9 PEXPIRE 99 -> 1; 10-11 PERSIST -> 1; 999-999 GET -> a",
    );
    right("0-1 SET a -> OK; 2-3 PEXPIRE 0 -> 1; 4-5 GET -> nil");
}

#[test]
fn what_overlaps_may_take_any_order() {
    right("0-9 SET a -> OK; 1-2 GET -> nil; 3-4 GET -> a");
    right("0-9 SET a -> OK; 0-9 SET b -> OK; 10-11 GET -> a");
    right("0-9 SET a -> OK; 0-9 SET b -> OK; 1-2 GET -> b; 3-4 GET -> a; 10-11 GET -> a");
    right("0-9 INCR -> 2; 1-8 INCR -> 3; 2-7 INCR -> 1");
    right("0-9 APPEND a -> 2; 0-9 APPEND b -> 1; 0-9 APPEND c -> 3; 10-11 GET -> bac");
    right("0-5 DEL -> 1; 1-6 DEL -> 0; 2-3 SET a -> OK");
    // Return and call at one instant overlap.
    right("0-5 SET a -> OK; 5-6 GET -> nil");
}

#[test]
fn an_unknown_outcome_may_come_late_or_never() {
    right("0-? SET a; 1-2 GET -> nil; 50-51 GET -> nil; 60-61 GET -> a; 70-71 GET -> a");
    right("0-? SET a; 1-2 SET b -> OK; 3-4 GET -> b; 5-6 GET -> a");
    right("0-? SET a; 1-? SET b; 2-? DEL; 3-4 GET -> b; 5-6 GET -> nil; 7-8 GET -> a");
    right("0-? INCR; 1-? INCR; 2-3 INCR -> 3; 4-5 INCR -> 4");
    right("0-? INCR; 1-? INCR; 2-3 INCR -> 1; 4-5 INCR -> 3; 6-7 INCR -> 5");
    right("0-? APPEND a; 1-? APPEND b; 2-3 APPEND c -> 2; 4-5 GET -> bc; 6-7 APPEND d -> 4; 8-9 GET -> bcad");
    right("0-1 SET 5 -> OK; 2-? SET x; 3-? DEL; 4-? GETDEL; 5-6 INCR -> refused; 7-8 INCR -> 1");
    right("0-? APPEND -; 1-? APPEND 5; 2-3 INCR -> -4");
    right("0-? GET; 1-2 SET a -> OK; 3-? PEXPIRE 10; 30-31 GET -> nil");
    right("0-1 SET a -> OK; 2-? PEXPIRE 10; 3-? SET b NX; 90-91 GET -> b");
    right("0-1 SET a PX 10 -> OK; 2-? PERSIST; 90-91 GET -> a");
    // A number that rises and then gets a text behind it, all of it unknown.
    right("0-? SET 100; 1-? INCRBY 2; 2-? APPEND <a>; 3-4 GET -> 102<a>");
    right("0-? SET -100; 1-? INCRBY 2; 2-? APPEND <a>; 3-4 GETDEL -> -98<a>");
    right("0-? SET 1; 1-? INCR; 2-? APPEND 9223372036854775807; 3-4 GET -> 29223372036854775807");
}

#[test]
fn a_pipeline_takes_effect_in_its_order() {
    right("0-5 SET a -> OK; +0-6 GET -> a; +0-7 APPEND b -> 2; +0-8 DEL -> 1; +0-9 GET -> nil");
    right("0-5 SET a -> OK; 0-9 SET b -> OK; +0-10 GET -> b; 11-12 GET -> b");
    // Others come between.
    right("0-5 SET a -> OK; +0-9 GET -> b; 1-6 SET b -> OK");
    // What has no outcome may come late, or never.
    right("0-? SET a; +0-9 GET -> nil; 10-11 GET -> a");
    right("0-5 SET a -> OK; +0-? SET b; +0-9 GET -> a; 10-11 GET -> b");
    // The same without a pipeline is right.
    right("0-9 GET -> a; 0-8 SET a -> OK");
    wrong("0-8 GET -> a; +0-9 SET a -> OK", &[0, 0]);
    wrong("0-5 SET a -> OK; +0-6 SET b -> OK; 7-8 GET -> a", &[0, 0, 2]);
    wrong("0-5 INCR -> 2; +0-6 INCR -> 1", &[0, 0]);
    // One in the middle that says nothing does not break the order.
    wrong("0-5 SET a -> OK; +0-6 GET -> a; +0-? GET; +0-7 SET b -> OK; 8-9 GET -> a", &[0, 0, 4]);
    let torn = several("0-9 MGET x y -> 1 1; +0-10 MSET x 1 y 1 -> OK");
    assert!(multi::check(&torn, &LIMITS).is_err(), "{torn:?}");
}

#[test]
fn a_key_may_expire_within_the_tolerance() {
    // The deadline is 100 to 101, give or take 5.
    right("0-1 SET a PX 100 -> OK; 94-94 GET -> a; 95-95 GET -> nil");
    right("0-1 SET a PX 100 -> OK; 105-106 GET -> a; 107-108 GET -> nil");
    right("0-1 SET a PX 100 -> OK; 99-100 DEL -> 1; 101-102 DEL -> 0");
    right("0-1 SET a PX 100 -> OK; 50-51 APPEND b -> 2; 99-100 APPEND c -> 1; 200-201 GET -> c");
    right("0-1 SET a PX 100 -> OK; 100-101 SET b NX -> OK; 102-103 GET -> b");
    right("0-1 SET a PX 100 -> OK; 2-3 SET b -> OK; 200-201 GET -> b");
    right("0-1 SET a PX 100 -> OK; 2-3 PEXPIRE 500 -> 1; 200-201 GET -> a; 510-511 GET -> nil");
    right("0-1 INCR -> 1; 2-3 PEXPIRE 100 -> 1; 4-5 INCR -> 2; 200-201 INCR -> 1; 999-999 GET -> 1");
    // An unknown SET may come late, and so expire late.
    right("0-? SET a PX 10; 500-501 GET -> a; 600-601 GET -> nil");
    // It took effect before it was read, although it returned later.
    right("0-90 SET a PX 100 -> OK; 5-6 GET -> a; 101-102 GET -> nil");
    wrong("0-90 SET a PX 100 -> OK; 5-6 GET -> a; 150-151 GET -> a", &[0, 1, 2]);
    wrong("0-1 SET a PX 100 -> OK; 93-94 GET -> nil", &[0, 1]);
    wrong("0-1 SET a PX 100 -> OK; 107-108 GET -> a", &[0, 1]);
    wrong("0-1 SET a PX 100 -> OK; 50-51 APPEND b -> 2; 107-108 GET -> ab", &[0, 1, 2]);
    wrong("0-1 SET a -> OK; 2-3 PEXPIRE 50 -> 1; 4-5 PERSIST -> 1; 100-101 GET -> nil", &[2, 3]);
}

#[test]
fn wrong_histories_are_refused_and_shortened() {
    // Stale read: behind another client's write, behind another's read.
    wrong("0-1 SET a -> OK; 2-3 SET b -> OK; 4-5 GET -> a; 6-7 GET -> b", &[0, 1, 2]);
    wrong("0-1 SET a -> OK; 2-9 SET b -> OK; 3-4 GET -> b; 5-6 GET -> a", &[0, 1, 2, 3]);
    wrong("0-1 SET a -> OK; 2-3 GET -> nil", &[0, 1]);
    // Lost update: acknowledged, and gone.
    wrong("0-1 SET a -> OK; 2-3 APPEND b -> 2; 4-5 SET c -> OK; 6-7 APPEND d -> 2; 8-9 GET -> c", &[2, 3, 4]);
    wrong("0-1 INCR -> 1; 2-3 INCR -> 2; 4-5 INCR -> 2", &[1, 2]);
    // Double increment.
    wrong("0-1 INCR -> 1; 2-3 INCR -> 3; 4-5 GET -> 3", &[1]);
    wrong("0-? INCR; 1-2 INCR -> 3", &[1]);
    // Resurrected key.
    wrong("0-1 SET a -> OK; 2-3 DEL -> 1; 4-5 GET -> a", &[0, 1, 2]);
    wrong("0-1 SET a -> OK; 2-3 GETDEL -> a; 4-5 GETDEL -> a", &[0, 1, 2]);
    // Expired key seen again.
    wrong("0-1 SET a PX 100 -> OK; 100-101 GET -> nil; 102-103 GET -> a", &[0, 1, 2]);
    // A value that nobody wrote.
    wrong("0-1 SET a -> OK; 2-3 GET -> a; 4-5 GET -> x; 6-7 GET -> a", &[2]);
    // APPEND twice.
    wrong("0-1 SET a -> OK; 2-3 APPEND b -> 2; 4-5 GET -> abb", &[0, 1, 2]);
    wrong("0-1 SET a -> OK; 2-? APPEND b; 4-5 GET -> ab; 6-7 GET -> abb", &[0, 1, 3]);
    // An unknown write takes effect once, and not before it was called.
    wrong("0-? SET a; 1-2 GET -> a; 3-4 SET b -> OK; 5-6 GET -> b; 7-8 GET -> a", &[0, 1, 2, 4]);
    wrong("0-1 GET -> a; 2-? SET a", &[0]);
    // Two that overlap are seen in two orders.
    wrong("0-9 SET a -> OK; 0-9 SET b -> OK; 1-2 GET -> a; 3-4 GET -> b; 5-6 GET -> a", &[0, 1, 2, 3, 4]);
    // What a later read tells leads to a contradiction early.
    wrong("1-5 DEL -> 1; 2-8 GET -> nil; 3-6 SET <3> -> OK; 5-9 GET -> <3>; 4-? APPEND <5>; 10-11 GET -> <3><5>", &[0, 2, 4, 5]);
    // What was not set is read.
    wrong("0-1 SET a -> OK; 2-3 SET b NX -> nil; 4-5 GET -> b", &[1, 2]);
}

#[test]
fn commands_on_several_keys_are_ordered_together() {
    let right = |history: &str| {
        multi::check(&several(history), &LIMITS).unwrap_or_else(|violation| panic!("{history}\n{violation}"));
    };
    let wrong = |history: &str, left: usize| {
        let Err(Violation::NotLinearizable { history: shown, .. }) = multi::check(&several(history), &LIMITS) else {
            panic!("accepted: {history}");
        };
        assert_eq!(shown.len(), left, "{history}");
    };
    right("0-1 MSET x 1 y 1 -> OK; 2-3 MGET x y z -> 1 1 nil; 4-5 RENAME x z -> OK; 6-7 MGET x z -> nil 1; 8-9 RENAME x y -> refused");
    right("0-1 MSETNX x 1 y 1 -> 1; 2-3 MSETNX y 2 z 2 -> 0; 4-5 MGET z -> nil; 6-7 DEL x y z -> 2");
    right("0-9 MSET x 1 y 1 -> OK; 0-9 MSET x 2 y 2 -> OK; 1-2 MGET x y -> 2 2; 3-4 MGET x y -> 1 1");
    right("0-? MSET x 1 y 1; 1-2 MGET x y -> nil nil; 3-4 MGET y x -> 1 1; 5-? RENAME x y; 6-7 MGET x y -> nil 1");
    // Torn: half of an MSET is seen, or two halves of two.
    wrong("0-9 MSET x 1 y 1 -> OK; 1-2 MGET x y -> 1 nil", 2);
    wrong("0-9 MSET x 1 y 1 -> OK; 0-9 MSET x 2 y 2 -> OK; 10-11 MGET x y -> 1 2", 3);
    wrong("0-1 MSETNX x 1 y 1 -> 1; 2-3 MSETNX y 2 z 2 -> 0; 4-5 MGET z -> 2", 2);
    wrong("0-1 MSET x 1 -> OK; 2-3 RENAME x y -> OK; 4-5 MGET x y -> 1 1", 2);
    // Each key by itself has an order, both together have none.
    wrong("0-9 MSET x 1 -> OK; 0-9 MSET y 1 -> OK; 1-2 MGET x y -> 1 nil; 1-2 MGET x y -> nil 1", 4);
}

/// One key with an exact clock: what a single server would do.
#[derive(Default)]
struct Exact {
    value: Option<Vec<u8>>,
    deadline_ns: Option<u64>,
}

impl Exact {
    fn execute(&mut self, command: &Command, now_ns: u64) -> Outcome {
        if self.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            *self = Self::default();
        }
        let existed = self.value.is_some();
        match command {
            Command::Get => Outcome::Value(self.value.clone().map(Bytes::from)),
            Command::Set { value, ttl_ms } => {
                *self = Self { value: Some(value.to_vec()), deadline_ns: ttl_ms.map(|ttl_ms| now_ns + ttl_ms * MILLI) };
                Outcome::Done
            }
            Command::SetNx { .. } if existed => Outcome::Value(None),
            Command::SetNx { value } => {
                self.value = Some(value.to_vec());
                Outcome::Done
            }
            Command::GetDel => Outcome::Value(std::mem::take(self).value.map(Bytes::from)),
            Command::Del => {
                *self = Self::default();
                Outcome::Integer(existed.into())
            }
            Command::Append { value } => {
                let held = self.value.get_or_insert_default();
                held.extend_from_slice(value);
                Outcome::Integer(held.len().try_into().unwrap())
            }
            Command::Incr { by } => {
                let held = String::from_utf8(self.value.clone().unwrap_or(b"0".to_vec())).unwrap();
                let Ok(number) = held.parse::<i64>() else { return Outcome::Refused };
                self.value = Some((number + by).to_string().into_bytes());
                Outcome::Integer(number + by)
            }
            Command::PExpire { ttl_ms } => {
                self.deadline_ns = existed.then_some(now_ns + ttl_ms * MILLI);
                Outcome::Integer(existed.into())
            }
            Command::Persist => Outcome::Integer(self.deadline_ns.take().is_some().into()),
        }
    }
}

/// How a random history is made.
struct Shape {
    operations: usize,
    clients: u32,
    keys: usize,
    /// Operations in a thousand whose outcome is unknown.
    unknown: u32,
    /// Operations in a thousand that were sent together with the client's last one.
    pipelined: u32,
    /// Whether values are unique and in brackets; else they are few, and contain each other.
    unique: bool,
    /// Whether some of the unique ones are numbers.
    numbers: bool,
}

/// A history that is linearizable, since it is made in the order of its effects, one in each millisecond.
fn random_history(random: &mut StdRng, shape: &Shape) -> Vec<Operation> {
    let mut keys: BTreeMap<usize, Exact> = BTreeMap::new();
    let mut free_ns = vec![0; shape.clients as usize];
    let mut last_call_ns = vec![0; shape.clients as usize];
    let mut history = Vec::new();
    let mut now_ns = 0;
    while history.len() < shape.operations {
        now_ns += MILLI;
        let client = random.random_range(0..shape.clients);
        let free_ns = &mut free_ns[client as usize];
        if *free_ns >= now_ns {
            continue;
        }
        let key = random.random_range(0..shape.keys);
        let command = random_command(random, shape, history.len());
        let call_ns = random.random_range(*free_ns + 1..=now_ns).max(now_ns.saturating_sub(9 * MILLI));
        let unknown = random.random_range(0..1000) < shape.unknown;
        let happens = !unknown || random.random_bool(0.5);
        let outcome = happens.then(|| keys.entry(key).or_default().execute(&command, now_ns));
        let pipelined = random.random_range(0..1000) < shape.pipelined;
        let call_ns = if pipelined { last_call_ns[client as usize] } else { call_ns };
        last_call_ns[client as usize] = call_ns;
        *free_ns = now_ns + random.random_range(0..9 * MILLI);
        // An unknown one may take effect long after it was sent.
        let call_ns = if unknown { random.random_range(now_ns.saturating_sub(99 * MILLI)..=now_ns) } else { call_ns };
        let returned = outcome.filter(|_| !unknown).map(|outcome| (*free_ns, outcome));
        history.push(Operation { client, key: bytes(&format!("k{key}")), command, call_ns, returned });
    }
    history
}

fn random_command(random: &mut StdRng, shape: &Shape, number: usize) -> Command {
    let value = match shape.unique {
        true if shape.numbers && random.random_bool(0.3) => bytes(&format!("{}00", number + 1)),
        true => bytes(&format!("<{number:06}>")),
        false => bytes(["", "-", "5", "a", "aa"][random.random_range(0..5)]),
    };
    let ttl_ms = random.random_range(1..200);
    match random.random_range(0..100) {
        0..40 => Command::Get,
        40..52 => Command::Set { value, ttl_ms: None },
        52..57 => Command::Set { value, ttl_ms: Some(ttl_ms) },
        57..62 => Command::SetNx { value },
        62..65 => Command::GetDel,
        65..70 => Command::Del,
        70..82 => Command::Append { value },
        82..92 => Command::Incr { by: random.random_range(1..3) },
        92..96 => Command::PExpire { ttl_ms },
        _ => Command::Persist,
    }
}

/// Puts another outcome in place of a random one, most often one that was seen elsewhere in the history.
fn falsify(random: &mut StdRng, history: &mut [Operation]) {
    let seen: Vec<Outcome> = history.iter().filter_map(|operation| Some(operation.returned.as_ref()?.1.clone())).collect();
    let at = random.random_range(0..history.len());
    let Some((_, outcome)) = &mut history[at].returned else { return };
    *outcome = match outcome {
        Outcome::Integer(integer) if random.random_bool(0.7) => Outcome::Integer(*integer + random.random_range(-1..2)),
        Outcome::Value(_) if random.random_bool(0.2) => Outcome::Value(None),
        Outcome::Value(_) | Outcome::Integer(_) | Outcome::Done | Outcome::Refused => seen[random.random_range(0..seen.len())].clone(),
    };
}

/// How exactly a moment is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moments {
    /// It begins with the call of the operation, as in the search.
    FromCall,
    /// It begins with the latest call among the operation and all before it.
    FromLatestCall,
}

/// Tries all orders of all operations, with the same model but without what makes the search short.
fn has_order(operations: &[Operation], expiry_tolerance_ns: u64, moments: Moments) -> bool {
    let known = operations.iter().map(|operation| Known { command: operation.command.clone(), leaves: None }).collect();
    let register = Register { operations, known, decreasing: true, expiry_tolerance_ns };
    let all: Vec<usize> = (0..operations.len()).collect();
    any_order(&register, &spans(operations), &pipelined(operations), moments, None, &all, 0)
}

fn any_order(
    register: &Register,
    spans: &[Span],
    before: &[Option<usize>],
    moments: Moments,
    state: <Register as Model>::State,
    left: &[usize],
    past_ns: u64,
) -> bool {
    let Some(latest_ns) = left.iter().filter_map(|operation| spans[*operation].return_ns).min() else { return true };
    let has_turn = |operation: &&usize| before[**operation].is_none_or(|before| !left.contains(&before));
    left.iter().filter(|operation| spans[**operation].call_ns <= latest_ns).filter(has_turn).any(|operation| {
        let call_ns = spans[*operation].call_ns;
        let past_ns = past_ns.max(call_ns);
        let earliest_ns = if moments == Moments::FromCall { call_ns } else { past_ns };
        let left: Vec<usize> = left.iter().copied().filter(|other| other != operation).collect();
        let states = register.step(&state, *operation, Moment { earliest_ns, latest_ns });
        states.into_iter().any(|state| any_order(register, spans, before, moments, state, &left, past_ns))
    })
}

#[test]
fn random_linearizable_histories_are_accepted() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = Shape {
            operations: random.random_range(1..300),
            clients: random.random_range(1..8),
            keys: random.random_range(1..6),
            unknown: random.random_range(0..80),
            pipelined: random.random_range(0..300),
            unique: random.random_bool(0.8),
            numbers: true,
        };
        let history = random_history(&mut random, &shape);
        check(&history, &Limits { expiry_tolerance_ns: 0, ..LIMITS }).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

#[test]
fn all_orders_tried_come_to_the_same() {
    let mut refused = 0;
    let seeds = 4000;
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let (operations, unknown) = (random.random_range(2..8), random.random_range(0..500));
        let pipelined = if random.random_bool(0.5) { 400 } else { 0 };
        let shape = Shape { operations, clients: 4, keys: 1, unknown, pipelined, unique: random.random_bool(0.5), numbers: true };
        let mut history = random_history(&mut random, &shape);
        falsify(&mut random, &mut history);
        let expiry_tolerance_ns = random.random_range(0..3) * MILLI;
        // The search is a little more lenient than the exact rule.
        let may_accept = has_order(&history, expiry_tolerance_ns, Moments::FromCall);
        let must_accept = has_order(&history, expiry_tolerance_ns, Moments::FromLatestCall);
        let drawn: Vec<String> = history.iter().map(|operation| format!("{:?} {}", operation.span(), operation.text())).collect();
        match check(&history, &Limits { expiry_tolerance_ns, ..LIMITS }) {
            Ok(_) => assert!(may_accept, "seed {seed}: accepted: {drawn:#?}"),
            Err(violation @ Violation::Undecided { .. }) => panic!("seed {seed}: {violation}"),
            Err(Violation::NotLinearizable { history, .. }) => {
                assert!(!must_accept, "seed {seed}: refused: {drawn:#?}");
                assert!(
                    !has_order(&history, expiry_tolerance_ns, Moments::FromLatestCall),
                    "seed {seed}: shortened to what has an order: {drawn:#?}"
                );
                refused += 1;
            }
        }
    }
    assert!((seeds / 5..seeds * 4 / 5).contains(&refused), "both verdicts are common, but {refused} were refused");
}

#[test]
fn a_long_history_takes_seconds() {
    let mut random = StdRng::seed_from_u64(1);
    let shape = Shape { operations: 50_000, clients: 10, keys: 20, unknown: 10, pipelined: 50, unique: true, numbers: false };
    let mut history = random_history(&mut random, &shape);
    let began = Instant::now();
    let summary = check(&history, &Limits::default()).expect("it is linearizable");
    let accepted = began.elapsed();
    assert_eq!((summary.keys, summary.operations), (20, 50_000));

    // A stale read at the end, of a text: a number that was counted to may be counted to again, by all that is left out, so that little can
    // be left out.
    let is_text = |value: &&Bytes| value.starts_with(b"<");
    let reads = |operation: &&mut Operation| operation.key == bytes("k0") && operation.seen().iter().any(is_text);
    let mut reads = history.iter_mut().filter(reads).collect::<Vec<_>>();
    let stale = reads[0].returned.clone().unwrap().1;
    reads.last_mut().unwrap().returned.as_mut().unwrap().1 = stale;
    let began = Instant::now();
    let violation = check(&history, &Limits::default()).expect_err("a stale read");
    let refused = began.elapsed();
    eprintln!("{summary:?} in {accepted:?}; refused in {refused:?}");
    assert!(matches!(&violation, Violation::NotLinearizable { history, .. } if history.len() < 10), "{violation}");
    assert!(accepted + refused < Duration::from_secs(60), "{accepted:?}, {refused:?}");
}

#[test]
fn a_violation_is_drawn() {
    let violation =
        check(&single("0-1 SET <a> -> OK; 2-5 DEL -> 1; 3-? APPEND <b>; 7-8 GET -> <a>"), &LIMITS).expect_err("a resurrected key");
    let dir = tempfile::tempdir().expect("a directory can be created");
    let [text, html] =
        violation.write_to(dir.path()).expect("it can be written").map(|path| std::fs::read_to_string(path).expect("a text"));
    assert_eq!(text, violation.to_string());
    for line in [
        "\"k\": no order explains these outcomes",
        "   1  in the prefix  client 0     0.000000 .. 1.000000         SET \"<a>\" -> OK",
        "   3  NO PLACE       client 3     7.000000 .. 8.000000         GET -> \"<a>\"",
        "client 0     [1==]",
        "client 1             [2==]",
        "client 3                     [3##]",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(html.contains("<span class=\"stuck\"") && html.contains("&lt;a&gt;"), "{html}");
}
