//! What the reads of a history tell about its writes: it makes the search shorter and changes no verdict.
//! It holds for values in angle brackets, `<...>`, none inside, and is not used at all when another value of the key has such brackets.
//! Then, wherever a bracketed value is seen in what a key held, that operation wrote it which has it as its argument, if only one has.
//! Since values only grow at their end, the key held right after that operation what is seen up to there, and the search need not try the
//! operation anywhere else. And of values that nobody ever saw, only the length can have mattered: they are made equal, so that their
//! writes are alike.

use std::collections::HashMap;

use bytes::Bytes;

use super::history::{Command, Operation, Recorded};

/// Stands for each character of a value that nobody saw.
const UNSEEN: u8 = b'?';

/// An operation's command, and what it left behind if it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) command: Command,
    pub(super) leaves: Option<Bytes>,
}

/// What is known about each operation of a key.
pub(super) fn known(operations: &[Operation]) -> Vec<Known> {
    let mut writers: HashMap<&Bytes, usize> = HashMap::new();
    for value in operations.iter().flat_map(Recorded::written) {
        *writers.entry(value).or_default() += 1;
    }
    let usable = writers.keys().all(|value| is_bracketed(value) || !value.iter().any(|byte| b"<>".contains(byte)));
    let mut seen: HashMap<Bytes, Bytes> = HashMap::new();
    for value in operations.iter().flat_map(Recorded::seen) {
        note_bracketed(value, &mut seen);
    }
    let know = |operation: &Operation| {
        let mut known = Known { command: operation.command.clone(), leaves: None };
        let (Command::Set { value, .. } | Command::SetNx { value } | Command::Append { value }) = &mut known.command else {
            return known;
        };
        if usable && is_bracketed(value) && writers[&*value] == 1 {
            known.leaves = seen.get(value).cloned();
            let unseen = unseen(value.len());
            if known.leaves.is_none() && !seen.contains_key(&unseen) {
                *value = unseen;
            }
        }
        known
    };
    operations.iter().map(know).collect()
}

fn is_bracketed(value: &[u8]) -> bool {
    matches!(value, [b'<', inner @ .., b'>'] if !inner.iter().any(|byte| b"<>".contains(byte)))
}

/// Notes each bracketed value in what was seen, and what was seen up to its end.
fn note_bracketed(value: &Bytes, seen: &mut HashMap<Bytes, Bytes>) {
    let mut start = None;
    for (at, byte) in value.iter().enumerate() {
        match (byte, start) {
            (b'<', _) => start = Some(at),
            (b'>', Some(from)) => {
                seen.entry(value.slice(from..=at)).or_insert_with(|| value.slice(..=at));
                start = None;
            }
            _ => {}
        }
    }
}

fn unseen(length: usize) -> Bytes {
    let mut value = vec![UNSEEN; length];
    value[0] = b'<';
    value[length - 1] = b'>';
    value.into()
}
