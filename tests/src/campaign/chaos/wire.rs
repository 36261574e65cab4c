//! How the commands of the history go over the wire, and what replies to them say.

use std::fmt::Display;

use bytes::Bytes;
use resp::Value;

use crate::linearizability::{Command, Outcome, multi};

/// The arguments of a command on one key.
pub(super) fn arguments(key: &Bytes, command: &Command) -> Vec<Bytes> {
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

/// What a reply to it says; `None` if it has no such reply.
pub(super) fn outcome(command: &Command, reply: &Value) -> Option<Outcome> {
    let gives_value = matches!(command, Command::Get | Command::GetDel);
    let gives_done = matches!(command, Command::Set { .. } | Command::SetNx { .. });
    let gives_null = gives_value || matches!(command, Command::SetNx { .. });
    match reply {
        Value::Simple(text) if gives_done && text == "OK" => Some(Outcome::Done),
        Value::Bulk(value) if gives_value => Some(Outcome::Value(Some(value.clone()))),
        Value::Null if gives_null => Some(Outcome::Value(None)),
        Value::Integer(number) if !gives_value && !gives_done => Some(Outcome::Integer(*number)),
        Value::Error(text) if matches!(command, Command::Incr { .. }) && text.starts_with("ERR value is not an integer") => {
            Some(Outcome::Refused)
        }
        _ => None,
    }
}

/// The arguments of a command on several keys.
pub(super) fn arguments_of_several(command: &multi::Command) -> Vec<Bytes> {
    let keys = |name, keys: &[Bytes]| [word(name)].into_iter().chain(keys.iter().cloned()).collect();
    let pairs = |name, pairs: &[(Bytes, Bytes)]| {
        [word(name)].into_iter().chain(pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()])).collect()
    };
    match command {
        multi::Command::MGet(found) => keys("MGET", found),
        multi::Command::MSet(set) => pairs("MSET", set),
        multi::Command::MSetNx(set) => pairs("MSETNX", set),
        multi::Command::Del(deleted) => keys("DEL", deleted),
        multi::Command::Rename(from, to) => vec![word("RENAME"), from.clone(), to.clone()],
    }
}

/// What a reply to it says; `None` if it has no such reply.
pub(super) fn outcome_of_several(command: &multi::Command, reply: &Value) -> Option<multi::Outcome> {
    match (command, reply) {
        (multi::Command::MSet(_) | multi::Command::Rename(..), Value::Simple(text)) if text == "OK" => Some(multi::Outcome::Done),
        (multi::Command::MGet(keys), Value::Array(values)) if values.len() == keys.len() => {
            let found = |value: &Value| match value {
                Value::Bulk(value) => Some(Some(value.clone())),
                Value::Null => Some(None),
                _ => None,
            };
            values.iter().map(found).collect::<Option<_>>().map(multi::Outcome::Values)
        }
        (multi::Command::MSetNx(_) | multi::Command::Del(_), Value::Integer(number)) => Some(multi::Outcome::Integer(*number)),
        (multi::Command::Rename(..), Value::Error(text)) if text == "ERR no such key" => Some(multi::Outcome::Refused),
        _ => None,
    }
}

fn word(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn number(number: &impl Display) -> Bytes {
    Bytes::from(number.to_string())
}
