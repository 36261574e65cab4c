//! Commands about a key's revision, redraft's own: the group's counter at the key's last change, by which a client makes a write depend on
//! what it has seen, and which serves as a fencing number. A key that does not exist has revision 0; no key gets a revision twice.
//! `ENTRY` and `BATCH` are not in Redis's way of thinking, but are what the HTTP interface is made of: all that is known of a key at one
//! moment, and puts and deletions as one change.

use bytes::Bytes;
use resp::Reply;

use super::number;
use super::spec::Arity::{AtLeast, Exactly};
use super::spec::flags::{DENYOOM, FAST, READONLY, WRITE};
use super::spec::{BLANK, CommandFailure, CommandResult, CommandSpec, Flags, Group, Keys, ReadCommand, WriteCommand, read, write};
use super::string::{Lifetime, parse_lifetime};
use crate::error::CommandError;
use crate::keyspace::{Metadata, ReadError, Reader, Writer};

const ROW: CommandSpec = CommandSpec {
    arity: Exactly(2),
    keys: Keys::One(1),
    acl: &["keyspace"],
    group: Group::Generic,
    since: "redraft",
    complexity: "O(1)",
    ..BLANK
};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "revision",
        flags: Flags(READONLY | FAST),
        summary: "Returns the revision of a key's last change; 0 if it doesn't exist.",
        handler: read::<Revision>(),
        ..ROW
    },
    CommandSpec {
        name: "entry",
        arity: AtLeast(2),
        flags: Flags(READONLY | FAST),
        summary: "Returns the type, value, length, time to live in milliseconds and revision of a key, as of one moment. A value that is \
                  longer than MAXLEN is left out.",
        handler: read::<Entry>(),
        ..ROW
    },
    CommandSpec {
        name: "setrev",
        arity: AtLeast(4),
        flags: Flags(WRITE | DENYOOM),
        acl: &["string"],
        group: Group::String,
        summary: "Sets the string value of a key only when the key has this revision, 0 for one that doesn't exist. Returns the new revision, \
                  0 when it has expired already.",
        handler: write::<SetRev>(31),
        ..ROW
    },
    CommandSpec {
        name: "delrev",
        arity: Exactly(3),
        flags: Flags(WRITE | FAST),
        summary: "Deletes a key only when it has this revision.",
        handler: write::<DelRev>(32),
        ..ROW
    },
    CommandSpec {
        name: "batch",
        arity: AtLeast(4),
        keys: Keys::Range { first: 2, last: -1, step: 3 },
        flags: Flags(WRITE | DENYOOM),
        acl: &["string"],
        group: Group::String,
        summary: "Sets and deletes keys in one change: groups of SET key value, or DEL key and an empty string. Returns how many were set and deleted.",
        complexity: "O(N) where N is the number of groups.",
        handler: write::<Batch>(33),
        ..ROW
    },
];

/// What ENTRY says of a key, but for its name; without a value of more bytes than `value_bytes_max`.
pub(super) fn entry_reply(key: &[u8], metadata: &Metadata, value_bytes_max: usize, reader: &Reader<'_>) -> Result<Reply, ReadError> {
    let left_ms = match metadata.deadline {
        Some(deadline) => integer(deadline.0.saturating_sub(reader.time()?.0)),
        None => Reply::Integer(-1),
    };
    Ok(Reply::Array(vec![
        Reply::text(metadata.key_type.name()),
        if metadata.value.length() > value_bytes_max { Reply::Null } else { Reply::Bulk(reader.value(key, metadata)?) },
        integer(metadata.value.length() as u64),
        left_ms,
        integer(metadata.revision),
    ]))
}

fn integer(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A MAXLEN.
pub(super) fn parse_length(text: &[u8]) -> Result<usize, CommandError> {
    usize::try_from(number::integer(text)?).map_err(|_| CommandError::NotAnInteger)
}

/// A revision as an argument.
fn parse_revision(text: &[u8]) -> Result<u64, CommandError> {
    u64::try_from(number::integer(text)?).map_err(|_| CommandError::NotAnInteger)
}

struct Revision {
    key: Bytes,
}

impl ReadCommand for Revision {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        Ok(integer(reader.metadata(&self.key)?.map_or(0, |metadata| metadata.revision)))
    }
}

struct Entry {
    key: Bytes,
    value_bytes_max: usize,
}

impl ReadCommand for Entry {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let value_bytes_max = match &args[2..] {
            [] => usize::MAX,
            [option, length] if option.eq_ignore_ascii_case(b"maxlen") => parse_length(length)?,
            _ => return Err(CommandError::Syntax),
        };
        Ok(Self { key: args[1].clone(), value_bytes_max })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        match reader.metadata(&self.key)? {
            Some(metadata) => Ok(entry_reply(&self.key, &metadata, self.value_bytes_max, reader)?),
            None => Ok(Reply::Null),
        }
    }
}

struct SetRev {
    key: Bytes,
    revision: u64,
    value: Bytes,
    lifetime: Lifetime,
}

impl WriteCommand for SetRev {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let revision = parse_revision(&args[2])?;
        Ok(Self { key: args[1].clone(), revision, value: args[3].clone(), lifetime: parse_lifetime(&args[4..], "setrev")? })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        if lookup.metadata().map_or(0, |metadata| metadata.revision) != self.revision {
            return Ok(Reply::Null);
        }
        let deadline = self.lifetime.deadline(&lookup, writer.now())?;
        writer.set_string(lookup, self.value, deadline)?;
        // If its time was up before, it is gone.
        Ok(integer(writer.lookup(&self.key)?.metadata().map_or(0, |metadata| metadata.revision)))
    }
}

struct DelRev {
    key: Bytes,
    revision: u64,
}

impl WriteCommand for DelRev {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone(), revision: parse_revision(&args[2])? })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        let has_it = lookup.metadata().is_some_and(|metadata| metadata.revision == self.revision);
        Ok(Reply::Integer(i64::from(has_it && writer.delete(lookup))))
    }
}

enum Operation {
    Set(Bytes, Bytes),
    Delete(Bytes),
}

struct Batch {
    operations: Vec<Operation>,
}

impl WriteCommand for Batch {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let (groups, []) = args[1..].as_chunks::<3>() else { return Err(CommandError::WrongArity("batch".into())) };
        let operation = |[word, key, value]: &[Bytes; 3]| match word.to_ascii_lowercase().as_slice() {
            b"set" => Ok(Operation::Set(key.clone(), value.clone())),
            b"del" if value.is_empty() => Ok(Operation::Delete(key.clone())),
            _ => Err(CommandError::Syntax),
        };
        Ok(Self { operations: groups.iter().map(operation).collect::<Result<_, _>>()? })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let (mut set, mut deleted) = (0, 0);
        for operation in self.operations {
            match operation {
                Operation::Set(key, value) => {
                    let lookup = writer.lookup(&key)?;
                    writer.set_string(lookup, value, None).map_err(CommandFailure::from)?;
                    set += 1;
                }
                Operation::Delete(key) => {
                    let lookup = writer.lookup(&key)?;
                    deleted += i64::from(writer.delete(lookup));
                }
            }
        }
        Ok(Reply::Array(vec![Reply::Integer(set), Reply::Integer(deleted)]))
    }
}

#[cfg(test)]
mod tests {
    use crate::command::harness::Session;

    #[test]
    fn a_write_depends_on_the_revision_that_was_seen() {
        let mut session = Session::new();
        session.check_lines(
            "revision k -> 0
             setrev k 0 a -> 1
             setrev k 0 b -> nil
             revision k -> 1
             set k c -> OK
             setrev k 1 d -> nil
             setrev k 2 e PX 1000 -> 3
             pttl k -> 1000
             get k -> 'e'
             setrev k 3 f KEEPTTL -> 4
             pttl k -> 1000
             setrev k 4 g -> 5
             pttl k -> -1
             delrev k 4 -> 0
             delrev k 5 -> 1
             delrev k 0 -> 0
             revision k -> 0
             setrev k -1 x -> ERR value is not an integer or out of range
             setrev k 0 x NX -> ERR syntax error
             setrev k 0 x EX 0 -> ERR invalid expire time in 'setrev' command
             delrev k x -> ERR value is not an integer or out of range
             setrev k 0 a -> 7
             setrev k 7 b PXAT 1 -> 0
             revision k -> 0
             setrev k 7 c -> nil
             setrev k 0 d PXAT 1 -> 0",
        );
    }

    #[test]
    fn an_expired_key_has_revision_0() {
        let mut session = Session::new();
        session.check_lines(
            "set k v PX 10 -> OK
             sleep 10
             revision k -> 0
             entry k -> nil
             setrev k 0 w -> 2",
        );
    }

    #[test]
    fn an_entry_is_all_that_is_known() {
        let mut session = Session::new();
        session.check_lines(
            "set k value PX 1500 -> OK
             entry k -> ['string' 'value' 5 1500 1]
             set k v -> OK
             entry k -> ['string' 'v' 1 -1 2]
             entry k MAXLEN 1 -> ['string' 'v' 1 -1 2]
             entry k maxlen 0 -> ['string' nil 1 -1 2]
             entry k MAXLEN -1 -> ERR value is not an integer or out of range
             entry k MAXLEN -> ERR syntax error
             entry k LIMIT 1 -> ERR syntax error
             entry other -> nil",
        );
    }

    #[test]
    fn a_batch_is_one_change() {
        let mut session = Session::new();
        session.check_lines(
            "mset a 1 b 2 -> OK
             batch set a 3 del b '' del c '' SET d 4 -> [2 1]
             mget a b d -> ['3' nil '4']
             batch del a x -> ERR syntax error
             batch put a x -> ERR syntax error
             batch set a 1 set -> ERR wrong number of arguments for 'batch' command",
        );
    }
}
