//! Commands on keys of any type, and on whole databases.

use bytes::Bytes;
use resp::Reply;

use super::number;
use super::spec::Arity::{AtLeast, Exactly};
use super::spec::flags::{DENYOOM, FAST, ITERATES, READONLY, WRITE};
use super::spec::{BLANK, CommandResult, CommandSpec, Flags, Group, Keys, ReadCommand, WriteCommand, read, write};
use crate::error::CommandError;
use crate::keyspace::{DATABASES, Reader, Writer};

const ROW: CommandSpec =
    CommandSpec { arity: Exactly(2), keys: Keys::One(1), acl: &["keyspace"], group: Group::Generic, complexity: "O(1)", ..BLANK };

const ALL_ARGUMENTS: Keys = Keys::Range { first: 1, last: -1, step: 1 };
const FIRST_TWO: Keys = Keys::Range { first: 1, last: 2, step: 1 };

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "del",
        arity: AtLeast(2),
        keys: ALL_ARGUMENTS,
        flags: Flags(WRITE),
        since: "1.0.0",
        summary: "Deletes one or more keys.",
        complexity: "O(N) where N is the number of keys that will be removed.",
        handler: write::<Del>(17),
        ..ROW
    },
    CommandSpec {
        name: "unlink",
        arity: AtLeast(2),
        keys: ALL_ARGUMENTS,
        flags: Flags(WRITE | FAST),
        since: "4.0.0",
        summary: "Asynchronously deletes one or more keys.",
        complexity: "O(N) where N is the number of keys that will be removed.",
        handler: write::<Del>(18),
        ..ROW
    },
    CommandSpec {
        name: "exists",
        arity: AtLeast(2),
        keys: ALL_ARGUMENTS,
        flags: Flags(READONLY | FAST),
        since: "1.0.0",
        summary: "Determines whether one or more keys exist.",
        complexity: "O(N) where N is the number of keys to check.",
        handler: read::<Exists>(),
        ..ROW
    },
    CommandSpec {
        name: "touch",
        arity: AtLeast(2),
        keys: ALL_ARGUMENTS,
        flags: Flags(READONLY | FAST),
        since: "3.2.1",
        summary: "Returns the number of existing keys out of those specified after updating the time they were last accessed.",
        complexity: "O(N) where N is the number of keys that will be touched.",
        deviation: "Access times are not kept: it counts as EXISTS does.",
        handler: read::<Exists>(),
        ..ROW
    },
    CommandSpec {
        name: "type",
        flags: Flags(READONLY | FAST),
        since: "1.0.0",
        summary: "Determines the type of value stored at a key.",
        handler: read::<Type>(),
        ..ROW
    },
    CommandSpec {
        name: "rename",
        arity: Exactly(3),
        keys: FIRST_TWO,
        flags: Flags(WRITE),
        since: "1.0.0",
        summary: "Renames a key and overwrites the destination.",
        complexity: "O(N) where N is the length of the string.",
        handler: write::<Rename>(24),
        ..ROW
    },
    CommandSpec {
        name: "renamenx",
        arity: Exactly(3),
        keys: FIRST_TWO,
        flags: Flags(WRITE | FAST),
        since: "1.0.0",
        summary: "Renames a key only when the target key name doesn't exist.",
        complexity: "O(N) where N is the length of the string.",
        handler: write::<RenameNx>(25),
        ..ROW
    },
    CommandSpec {
        name: "copy",
        arity: AtLeast(3),
        keys: FIRST_TWO,
        flags: Flags(WRITE | DENYOOM),
        since: "6.2.0",
        summary: "Copies the value of a key to a new key.",
        complexity: "O(N) where N is the length of the string.",
        handler: write::<Copy>(26),
        ..ROW
    },
    CommandSpec {
        name: "move",
        arity: Exactly(3),
        flags: Flags(WRITE | FAST),
        since: "1.0.0",
        summary: "Moves a key to another database.",
        complexity: "O(N) where N is the length of the string.",
        handler: write::<Move>(27),
        ..ROW
    },
    CommandSpec {
        name: "randomkey",
        arity: Exactly(1),
        keys: Keys::None,
        flags: Flags(READONLY | ITERATES),
        since: "1.0.0",
        summary: "Returns a random key name from the database.",
        deviation: "Not quite uniform: keys that share a hash tag lie close together and are chosen less often.",
        handler: read::<RandomKey>(),
        ..ROW
    },
    CommandSpec {
        name: "dbsize",
        arity: Exactly(1),
        keys: Keys::None,
        flags: Flags(READONLY | FAST),
        group: Group::Server,
        since: "1.0.0",
        summary: "Returns the number of keys in the database.",
        handler: read::<DbSize>(),
        ..ROW
    },
    CommandSpec {
        name: "flushdb",
        arity: AtLeast(1),
        keys: Keys::None,
        flags: Flags(WRITE),
        acl: &["keyspace", "dangerous"],
        group: Group::Server,
        since: "1.0.0",
        summary: "Removes all keys from the current database.",
        deviation: "Takes effect at once, whether SYNC or ASYNC; the space is reclaimed afterwards.",
        handler: write::<FlushDb>(28),
        ..ROW
    },
    CommandSpec {
        name: "flushall",
        arity: AtLeast(1),
        keys: Keys::None,
        flags: Flags(WRITE),
        acl: &["keyspace", "dangerous"],
        group: Group::Server,
        since: "1.0.0",
        summary: "Removes all keys from all databases.",
        deviation: "Takes effect at once, whether SYNC or ASYNC; the space is reclaimed afterwards.",
        handler: write::<FlushAll>(29),
        ..ROW
    },
    CommandSpec {
        name: "swapdb",
        arity: Exactly(3),
        keys: Keys::None,
        flags: Flags(WRITE | FAST),
        acl: &["keyspace", "dangerous"],
        group: Group::Server,
        since: "4.0.0",
        summary: "Swaps two Redis databases.",
        handler: write::<SwapDb>(30),
        ..ROW
    },
];

/// DEL and UNLINK.
struct Del {
    keys: Vec<Bytes>,
}

impl WriteCommand for Del {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { keys: args[1..].to_vec() })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let mut deleted = 0;
        for key in &self.keys {
            let lookup = writer.lookup(key)?;
            deleted += i64::from(writer.delete(lookup));
        }
        Ok(Reply::Integer(deleted))
    }
}

/// EXISTS and TOUCH. A key named twice counts twice.
struct Exists {
    keys: Vec<Bytes>,
}

impl ReadCommand for Exists {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { keys: args[1..].to_vec() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        let mut existing = 0;
        for key in &self.keys {
            existing += i64::from(reader.metadata(key)?.is_some());
        }
        Ok(Reply::Integer(existing))
    }
}

struct Type {
    key: Bytes,
}

impl ReadCommand for Type {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        Ok(Reply::Simple(reader.metadata(&self.key)?.map_or("none", |metadata| metadata.key_type.name())))
    }
}

struct Rename {
    source: Bytes,
    destination: Bytes,
}

impl Rename {
    fn parse(args: &[Bytes]) -> Self {
        Self { source: args[1].clone(), destination: args[2].clone() }
    }
}

impl WriteCommand for Rename {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Rename::parse(args))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let source = writer.lookup(&self.source)?;
        if !source.exists() {
            return Err(CommandError::NoSuchKey.into());
        }
        if self.source != self.destination {
            let destination = writer.lookup(&self.destination)?;
            writer.copy(&source, destination)?;
            writer.delete(source);
        }
        Ok(Reply::OK)
    }
}

struct RenameNx(Rename);

impl WriteCommand for RenameNx {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self(Rename::parse(args)))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let source = writer.lookup(&self.0.source)?;
        if !source.exists() {
            return Err(CommandError::NoSuchKey.into());
        }
        // A key that is renamed to its own name meets itself here.
        let destination = writer.lookup(&self.0.destination)?;
        if destination.exists() {
            return Ok(Reply::Integer(0));
        }
        writer.copy(&source, destination)?;
        writer.delete(source);
        Ok(Reply::Integer(1))
    }
}

/// What COPY does when the destination exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Keep,
    Replace,
}

struct Copy {
    source: Bytes,
    destination: Bytes,
    /// The destination's database, if not the selected one.
    db: Option<u8>,
    existing: Existing,
}

impl WriteCommand for Copy {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let mut copy = Self { source: args[1].clone(), destination: args[2].clone(), db: None, existing: Existing::Keep };
        let mut rest = &args[3..];
        loop {
            rest = match rest {
                [] => return Ok(copy),
                [option, rest @ ..] if option.eq_ignore_ascii_case(b"replace") => {
                    copy.existing = Existing::Replace;
                    rest
                }
                [option, db, rest @ ..] if option.eq_ignore_ascii_case(b"db") => {
                    copy.db = Some(number::database(db)?);
                    rest
                }
                [_, ..] => return Err(CommandError::Syntax),
            }
        }
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let db = self.db.unwrap_or(writer.db());
        if db == writer.db() && self.source == self.destination {
            return Err(CommandError::SameObject.into());
        }
        let source = writer.lookup(&self.source)?;
        if !source.exists() {
            return Ok(Reply::Integer(0));
        }
        let destination = writer.lookup_in(db, &self.destination)?;
        if destination.exists() && self.existing == Existing::Keep {
            return Ok(Reply::Integer(0));
        }
        writer.copy(&source, destination)?;
        Ok(Reply::Integer(1))
    }
}

struct Move {
    key: Bytes,
    db: u8,
}

impl WriteCommand for Move {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone(), db: number::database(&args[2])? })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        if self.db == writer.db() {
            return Err(CommandError::SameObject.into());
        }
        let source = writer.lookup(&self.key)?;
        if !source.exists() {
            return Ok(Reply::Integer(0));
        }
        let destination = writer.lookup_in(self.db, &self.key)?;
        if destination.exists() {
            return Ok(Reply::Integer(0));
        }
        writer.copy(&source, destination)?;
        writer.delete(source);
        Ok(Reply::Integer(1))
    }
}

struct RandomKey;

impl ReadCommand for RandomKey {
    fn parse(_args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self)
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        Ok(reader.random_key()?.map_or(Reply::Null, Reply::Bulk))
    }
}

struct DbSize;

impl ReadCommand for DbSize {
    fn parse(_args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self)
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        let keys = reader.database()?.keys;
        Ok(Reply::Integer(i64::try_from(keys).expect("fewer keys than 2^63")))
    }
}

/// Both words mean the same here.
fn check_flush_mode(args: &[Bytes]) -> Result<(), CommandError> {
    match &args[1..] {
        [] => Ok(()),
        [mode] if mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async") => Ok(()),
        [_, ..] => Err(CommandError::Syntax),
    }
}

struct FlushDb;

impl WriteCommand for FlushDb {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        check_flush_mode(args).map(|()| Self)
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        writer.flush(writer.db())?;
        Ok(Reply::OK)
    }
}

struct FlushAll;

impl WriteCommand for FlushAll {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        check_flush_mode(args).map(|()| Self)
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        for db in 0..DATABASES {
            writer.flush(db)?;
        }
        Ok(Reply::OK)
    }
}

struct SwapDb {
    first: u8,
    second: u8,
}

impl WriteCommand for SwapDb {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        // Both must be numbers before either must be a database.
        let first = i32::try_from(number::integer(&args[1]).map_err(|_| CommandError::InvalidFirstDb)?);
        let first = first.map_err(|_| CommandError::InvalidFirstDb)?;
        let second = i32::try_from(number::integer(&args[2]).map_err(|_| CommandError::InvalidSecondDb)?);
        let second = second.map_err(|_| CommandError::InvalidSecondDb)?;
        let database = |number: i32| match u8::try_from(number) {
            Ok(db) if db < DATABASES => Ok(db),
            Ok(_) | Err(_) => Err(CommandError::DbOutOfRange),
        };
        Ok(Self { first: database(first)?, second: database(second)? })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        if self.first != self.second {
            writer.swap(self.first, self.second);
        }
        Ok(Reply::OK)
    }
}

#[cfg(test)]
mod tests;
