//! What Redis's commands do to one key: the model of a history of one key, which is absent at first.
//! Expiry: a deadline lies within the moment in which it was set plus the time to live, give or take the tolerance. An operation can find
//! the key gone if its own moment ends after the earliest deadline, and alive if it begins before the latest. So the model allows both for
//! a while, and the search tries both; but a key that was seen to be gone is absent, and stays so until it is written. SET without PX
//! clears the deadline; APPEND and INCRBY keep it.

use bytes::Bytes;

use super::history::{Command, Operation, Outcome, Recorded, quoted};
use super::reads::{self, Known};
use super::search::{Model, Moment};

/// When a key expires: not before, and not after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deadline {
    low_ns: u64,
    high_ns: u64,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    value: Bytes,
    deadline: Option<Deadline>,
}

/// A history of one key, as a model of itself.
#[derive(Debug)]
pub struct Register<'a> {
    pub(super) operations: &'a [Operation],
    pub(super) known: Vec<Known>,
    /// Whether a number may become smaller: by what is added, or by digits behind one that is below zero.
    pub(super) decreasing: bool,
    pub(super) expiry_tolerance_ns: u64,
}

impl<'a> Register<'a> {
    /// The operations are all of one key.
    #[must_use]
    pub fn new(operations: &'a [Operation], expiry_tolerance_ns: u64) -> Self {
        let decreases = |operation: &Operation| match &operation.command {
            Command::Incr { by } => *by < 0,
            _ => operation.written().iter().any(|value| value.contains(&b'-')),
        };
        let decreasing = operations.iter().any(decreases);
        Self { operations, known: reads::known(operations), decreasing, expiry_tolerance_ns }
    }

    fn outcome(&self, operation: usize) -> Option<&Outcome> {
        self.operations[operation].returned.as_ref().map(|(_, outcome)| outcome)
    }

    fn deadline(&self, ttl_ms: u64, moment: Moment) -> Deadline {
        let ttl_ns = ttl_ms.saturating_mul(1_000_000);
        Deadline {
            low_ns: moment.earliest_ns.saturating_add(ttl_ns).saturating_sub(self.expiry_tolerance_ns),
            high_ns: moment.latest_ns.saturating_add(ttl_ns).saturating_add(self.expiry_tolerance_ns),
        }
    }

    /// Outcome and effect of a command on what it finds.
    fn execute(&self, command: &Command, found: Option<&Held>, moment: Moment) -> (Outcome, Option<Held>) {
        let value = found.map(|held| held.value.clone());
        let deadline = found.and_then(|held| held.deadline);
        let same = || found.cloned();
        let set = |value: Bytes, deadline| Some(Held { value, deadline });
        match command {
            Command::Get => (Outcome::Value(value), same()),
            Command::Set { value, ttl_ms } => (Outcome::Done, set(value.clone(), ttl_ms.map(|ttl_ms| self.deadline(ttl_ms, moment)))),
            Command::SetNx { value } if found.is_none() => (Outcome::Done, set(value.clone(), None)),
            Command::SetNx { .. } => (Outcome::Value(None), same()),
            Command::GetDel => (Outcome::Value(value), None),
            Command::Del => (Outcome::Integer(found.is_some().into()), None),
            Command::Append { value: added } => {
                let value = [&value.unwrap_or_default()[..], added].concat();
                (Outcome::Integer(length(&value)), set(value.into(), deadline))
            }
            Command::Incr { by } => {
                let sum = value.map_or(Some(0), |value| integer(&value)).and_then(|integer| integer.checked_add(*by));
                sum.map_or_else(|| (Outcome::Refused, same()), |sum| (Outcome::Integer(sum), set(sum.to_string().into(), deadline)))
            }
            // Redis takes a time to live of nothing for a deletion.
            Command::PExpire { ttl_ms: 0 } => (Outcome::Integer(found.is_some().into()), None),
            Command::PExpire { ttl_ms } => {
                let expiring = value.and_then(|value| set(value, Some(self.deadline(*ttl_ms, moment))));
                (Outcome::Integer(expiring.is_some().into()), expiring)
            }
            Command::Persist => (Outcome::Integer(deadline.is_some().into()), value.and_then(|value| set(value, None))),
        }
    }
}

impl Model for Register<'_> {
    type State = Option<Held>;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, operation: usize, moment: Moment) -> Vec<Self::State> {
        let known = &self.known[operation];
        let outcome = self.outcome(operation);
        let deadline = state.as_ref().and_then(|held| held.deadline);
        let alive = deadline.is_none_or(|deadline| moment.earliest_ns <= deadline.high_ns);
        let gone = deadline.is_some_and(|deadline| deadline.low_ns <= moment.latest_ns);
        let found = [alive.then_some(state.as_ref()), gone.then_some(None)];
        let mut states: Vec<Self::State> = Vec::with_capacity(1);
        for found in found.into_iter().flatten() {
            let (said, next) = self.execute(&known.command, found, moment);
            let explained = outcome.is_none_or(|outcome| *outcome == said);
            let wrote = next.as_ref() != found;
            let as_read = known.leaves.is_none() || !wrote || known.leaves.as_ref() == next.as_ref().map(|held| &held.value);
            if explained && as_read && !states.contains(&next) {
                states.push(next);
            }
        }
        states
    }

    fn alike(&self, one: usize, other: usize) -> bool {
        self.known[one] == self.known[other]
    }

    fn may_help(&self, goal: usize, state: &Self::State, next: &Self::State, moment: Moment) -> bool {
        let deadline = |state: &Self::State| state.as_ref().and_then(|held| held.deadline);
        let expires = |state: &Self::State| deadline(state).is_some_and(|deadline| deadline.low_ns <= moment.latest_ns);
        let value = next.as_ref().map(|held| &held.value);
        let number = value.is_none_or(|value| may_become_integer(value));
        let rises_to =
            |total: i64| number && (self.decreasing || value.is_none_or(|value| integer(value).is_none_or(|number| number <= total)));
        match (&self.operations[goal].command, self.outcome(goal)) {
            // It wipes out what it finds, and does not tell of it.
            (Command::Set { .. }, _) => false,
            // What has expired makes room for anything.
            _ if expires(next) && deadline(state) != deadline(next) => true,
            // A value grows, unless it is a number; that may rise before something is put behind it.
            (Command::Get | Command::GetDel, Some(Outcome::Value(Some(seen)))) => {
                value.is_none_or(|value| seen.starts_with(value)) || leading_number(seen).is_some_and(rises_to)
            }
            (Command::Append { value: added }, Some(Outcome::Integer(total))) => {
                number || value.is_none_or(|value| length(value) + length(added) <= *total)
            }
            (Command::Incr { by }, Some(Outcome::Integer(sum))) => sum.checked_sub(*by).is_some_and(rises_to),
            // These want the key absent.
            (Command::Get | Command::GetDel, Some(Outcome::Value(None)))
            | (Command::SetNx { .. }, Some(Outcome::Done))
            | (Command::Del | Command::PExpire { .. }, Some(Outcome::Integer(0))) => value.is_none(),
            // It wants the key present, and wipes it out.
            (Command::Del, Some(Outcome::Integer(_))) => value.is_some() && (state.is_none() || expires(state)),
            _ => true,
        }
    }

    fn describe(&self, state: &Self::State) -> String {
        match state {
            None => "absent".to_owned(),
            Some(Held { value, deadline: None }) => quoted(value),
            Some(Held { value, deadline: Some(Deadline { low_ns, high_ns }) }) => {
                format!("{} until {} to {} ms", quoted(value), low_ns / 1_000_000, high_ns / 1_000_000)
            }
        }
    }
}

fn length(value: &[u8]) -> i64 {
    i64::try_from(value.len()).expect("a value fits into memory")
}

/// The number that a value is to INCRBY: only if it is written the one way in which INCRBY would.
fn integer(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

/// The number that a value begins with, if it does; the largest if it has more digits than one has.
fn leading_number(value: &[u8]) -> Option<i64> {
    let begin = usize::from(value.starts_with(b"-"));
    let end = begin + value[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = std::str::from_utf8(&value[..end]).ok()?;
    (end > begin).then(|| digits.parse().unwrap_or(i64::MAX))
}

/// Whether it is a number, or could be one after more was appended.
fn may_become_integer(value: &[u8]) -> bool {
    value.strip_prefix(b"-").unwrap_or(value).iter().all(u8::is_ascii_digit)
}
