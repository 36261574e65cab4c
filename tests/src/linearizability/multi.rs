//! Histories of commands on several keys, which have to be ordered together: a model over all keys, for small runs.
//! A GET is an MGET of one key here, a SET an MSET of one. Keys do not expire.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use bytes::Bytes;

use super::history::{quoted, text};
use super::search::{Model, Moment, search};
use super::{Limits, Recorded, Span, Summary, Violation, judge, pipelined, spans};

/// One command on several keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// MGET, GET.
    MGet(Vec<Bytes>),
    /// MSET, SET: keys and values.
    MSet(Vec<(Bytes, Bytes)>),
    /// MSETNX, SET with NX: keys and values.
    MSetNx(Vec<(Bytes, Bytes)>),
    /// DEL.
    Del(Vec<Bytes>),
    /// RENAME: from, to.
    Rename(Bytes, Bytes),
}

/// A reply that is an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `OK`: of MSET, RENAME.
    Done,
    /// What MGET found.
    Values(Vec<Option<Bytes>>),
    /// An integer: of MSETNX (1 if it set), DEL.
    Integer(i64),
    /// RENAME of an absent key.
    Refused,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who did it.
    pub client: u32,
    /// What was asked for.
    pub command: Command,
    /// When it was sent.
    pub call_ns: u64,
    /// When the reply was there, and what it said. `None`: it may have taken effect at any time after `call_ns`, or never.
    pub returned: Option<(u64, Outcome)>,
}

/// Judges a history whose keys are all absent at first. No operation returns before it is called.
/// # Errors
/// The history is not linearizable, or could not be decided.
pub fn check(history: &[Operation], limits: &Limits) -> Result<Summary, Violation<Operation>> {
    let configurations = judge(&Bytes::from_static(b"all keys"), history, limits.configurations_max, |operations, configurations_max| {
        search(&Keys { operations }, &spans(operations), &pipelined(operations), configurations_max)
    })?;
    let mut keys: Vec<&Bytes> = history.iter().flat_map(|operation| operation.command.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(Summary { keys: keys.len(), operations: history.len(), configurations })
}

/// A history, as a model of itself.
struct Keys<'a> {
    operations: &'a [Operation],
}

/// What the keys hold that are not absent.
type Values = BTreeMap<Bytes, Bytes>;

impl Command {
    fn keys(&self) -> Vec<&Bytes> {
        match self {
            Self::MGet(keys) | Self::Del(keys) => keys.iter().collect(),
            Self::MSet(pairs) | Self::MSetNx(pairs) => pairs.iter().map(|(key, _)| key).collect(),
            Self::Rename(from, to) => vec![from, to],
        }
    }

    /// Changes the values; the outcome.
    fn execute(&self, values: &mut Values) -> Outcome {
        match self {
            Self::MGet(keys) => Outcome::Values(keys.iter().map(|key| values.get(key).cloned()).collect()),
            Self::MSetNx(pairs) if pairs.iter().any(|(key, _)| values.contains_key(key)) => Outcome::Integer(0),
            Self::MSet(pairs) => {
                values.extend(pairs.iter().cloned());
                Outcome::Done
            }
            Self::MSetNx(pairs) => {
                values.extend(pairs.iter().cloned());
                Outcome::Integer(1)
            }
            Self::Del(keys) => Outcome::Integer(keys.iter().filter_map(|key| values.remove(key)).map(|_| 1).sum()),
            Self::Rename(from, to) => match values.remove(from) {
                Some(value) => {
                    values.insert(to.clone(), value);
                    Outcome::Done
                }
                None => Outcome::Refused,
            },
        }
    }
}

impl Model for Keys<'_> {
    type State = Values;

    fn initial(&self) -> Values {
        Values::new()
    }

    fn step(&self, state: &Values, operation: usize, _: Moment) -> Vec<Values> {
        let Operation { command, returned, .. } = &self.operations[operation];
        let mut values = state.clone();
        let said = command.execute(&mut values);
        let explained = returned.as_ref().is_none_or(|(_, outcome)| *outcome == said);
        if explained { vec![values] } else { Vec::new() }
    }

    fn alike(&self, one: usize, other: usize) -> bool {
        self.operations[one].command == self.operations[other].command
    }

    fn may_help(&self, _: usize, _: &Values, _: &Values, _: Moment) -> bool {
        true
    }

    fn describe(&self, state: &Values) -> String {
        let held: Vec<String> = state.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
        if held.is_empty() { "all absent".to_owned() } else { held.join(", ") }
    }
}

impl Recorded for Operation {
    fn client(&self) -> u32 {
        self.client
    }

    fn span(&self) -> Span {
        Span { call_ns: self.call_ns, return_ns: self.returned.as_ref().map(|(at, _)| *at) }
    }

    fn text(&self) -> String {
        text(&self.command, self.returned.as_ref().map(|(_, outcome)| outcome))
    }

    fn without_outcome(&self) -> Self {
        Self { returned: None, ..self.clone() }
    }

    fn changed_nothing(&self) -> bool {
        let outcome = self.returned.as_ref().map(|(_, outcome)| outcome);
        matches!(self.command, Command::MGet(_)) || matches!(outcome, Some(Outcome::Integer(0) | Outcome::Refused))
    }

    fn is_blind(&self) -> bool {
        false
    }

    fn written(&self) -> Vec<&Bytes> {
        match &self.command {
            Command::MSet(pairs) | Command::MSetNx(pairs) => pairs.iter().map(|(_, value)| value).collect(),
            Command::MGet(_) | Command::Del(_) | Command::Rename(..) => Vec::new(),
        }
    }

    fn seen(&self) -> Vec<&Bytes> {
        match &self.returned {
            Some((_, Outcome::Values(values))) => values.iter().flatten().collect(),
            _ => Vec::new(),
        }
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::MGet(_) => "MGET",
            Self::MSet(_) => "MSET",
            Self::MSetNx(_) => "MSETNX",
            Self::Del(_) => "DEL",
            Self::Rename(..) => "RENAME",
        };
        write!(f, "{name}")?;
        match self {
            Self::MSet(pairs) | Self::MSetNx(pairs) => {
                pairs.iter().try_for_each(|(key, value)| write!(f, " {} {}", quoted(key), quoted(value)))
            }
            Self::MGet(_) | Self::Del(_) | Self::Rename(..) => self.keys().into_iter().try_for_each(|key| write!(f, " {}", quoted(key))),
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "OK"),
            Self::Values(values) => {
                let values: Vec<String> =
                    values.iter().map(|value| value.as_ref().map_or("nil".to_owned(), |value| quoted(value))).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::Refused => write!(f, "refused"),
        }
    }
}
