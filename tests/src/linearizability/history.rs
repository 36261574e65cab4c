//! What clients did to single keys, and saw.
//! An operation is a closed interval with an outcome in it, or it is open-ended: nobody knows whether it took effect, or when. What was
//! certainly not executed is in no history. Times are nanoseconds since one common start.
//! `Recorded` is what the search for a short history and the drawing of it ask of an operation, also of one on several keys.

use std::fmt::{self, Display, Formatter};

use bytes::Bytes;

use super::search::Span;

/// One command on one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// GET.
    Get,
    /// SET.
    Set {
        /// What the key holds afterwards.
        value: Bytes,
        /// With PX: for how long, in milliseconds. Without: until it is changed.
        ttl_ms: Option<u64>,
    },
    /// SET with NX.
    SetNx {
        /// What the key holds afterwards, if it was absent.
        value: Bytes,
    },
    /// GETDEL.
    GetDel,
    /// DEL.
    Del,
    /// APPEND.
    Append {
        /// What comes behind that which was there.
        value: Bytes,
    },
    /// INCRBY.
    Incr {
        /// What is added.
        by: i64,
    },
    /// PEXPIRE.
    PExpire {
        /// How long the key lives from now on, in milliseconds.
        ttl_ms: u64,
    },
    /// PERSIST.
    Persist,
}

/// A reply that is an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `OK`.
    Done,
    /// A bulk string or nil: of GET and GETDEL. SET with NX that did not set has nil.
    Value(Option<Bytes>),
    /// An integer: of DEL, APPEND, INCRBY, PEXPIRE, PERSIST.
    Integer(i64),
    /// The command was executed, and what it met refused it: INCRBY of a text.
    Refused,
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who did it.
    pub client: u32,
    /// To which key.
    pub key: Bytes,
    /// What was asked for.
    pub command: Command,
    /// When it was sent.
    pub call_ns: u64,
    /// When the reply was there, and what it said. `None`: it may have taken effect at any time after `call_ns`, or never.
    pub returned: Option<(u64, Outcome)>,
}

/// What is asked of an operation of any kind, to shorten a history and to draw it.
pub trait Recorded: Clone {
    /// Who did it.
    fn client(&self) -> u32;
    /// When it was sent, and when its outcome was there.
    fn span(&self) -> Span;
    /// Command and outcome, for people.
    fn text(&self) -> String;
    /// The same with an unknown outcome.
    fn without_outcome(&self) -> Self;
    /// Whether it changed nothing, by what its outcome says or because it only reads.
    fn changed_nothing(&self) -> bool;
    /// Whether it is known that it took effect, and that this was the same whatever it met.
    fn is_blind(&self) -> bool;
    /// The values that it writes.
    fn written(&self) -> Vec<&Bytes>;
    /// The values that its outcome shows.
    fn seen(&self) -> Vec<&Bytes>;
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
        match self.returned.as_ref().map(|(_, outcome)| outcome) {
            _ if self.command == Command::Get => true,
            Some(Outcome::Refused) => true,
            Some(Outcome::Value(None)) => matches!(self.command, Command::SetNx { .. } | Command::GetDel),
            Some(Outcome::Integer(0)) => matches!(self.command, Command::Del | Command::PExpire { .. } | Command::Persist),
            Some(Outcome::Done | Outcome::Value(Some(_)) | Outcome::Integer(_)) | None => false,
        }
    }

    fn is_blind(&self) -> bool {
        matches!(self.command, Command::Set { .. }) && self.returned.is_some()
    }

    fn written(&self) -> Vec<&Bytes> {
        match &self.command {
            Command::Set { value, .. } | Command::SetNx { value } | Command::Append { value } => vec![value],
            Command::Get | Command::GetDel | Command::Del | Command::Incr { .. } | Command::PExpire { .. } | Command::Persist => Vec::new(),
        }
    }

    fn seen(&self) -> Vec<&Bytes> {
        match &self.returned {
            Some((_, Outcome::Value(Some(value)))) => vec![value],
            _ => Vec::new(),
        }
    }
}

/// `command -> outcome`.
pub(super) fn text(command: &impl Display, outcome: Option<&impl Display>) -> String {
    match outcome {
        Some(outcome) => format!("{command} -> {outcome}"),
        None => format!("{command} -> outcome unknown"),
    }
}

/// A value in quotes, what cannot be printed escaped.
pub(super) fn quoted(value: &[u8]) -> String {
    format!("\"{}\"", value.escape_ascii())
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => write!(f, "GET"),
            Self::Set { value, ttl_ms: None } => write!(f, "SET {}", quoted(value)),
            Self::Set { value, ttl_ms: Some(ttl_ms) } => write!(f, "SET {} PX {ttl_ms}", quoted(value)),
            Self::SetNx { value } => write!(f, "SET {} NX", quoted(value)),
            Self::GetDel => write!(f, "GETDEL"),
            Self::Del => write!(f, "DEL"),
            Self::Append { value } => write!(f, "APPEND {}", quoted(value)),
            Self::Incr { by } => write!(f, "INCRBY {by}"),
            Self::PExpire { ttl_ms } => write!(f, "PEXPIRE {ttl_ms}"),
            Self::Persist => write!(f, "PERSIST"),
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "OK"),
            Self::Value(Some(value)) => write!(f, "{}", quoted(value)),
            Self::Value(None) => write!(f, "nil"),
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::Refused => write!(f, "refused"),
        }
    }
}
