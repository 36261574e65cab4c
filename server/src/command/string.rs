//! Commands on strings as values; `counter` has those that read them as numbers.
//! A command that changes a part of a string keeps its deadline; one that replaces it ends it, unless asked not to.

use bytes::{Bytes, BytesMut};
use resp::Reply;

use super::expiry::{Base, Time, Unit};
use super::number;
use super::spec::Arity::{AtLeast, Exactly};
use super::spec::flags::{DENYOOM, FAST, READONLY, WRITE};
use super::spec::{BLANK, CommandFailure, CommandResult, CommandSpec, Flags, Group, Keys, ReadCommand, WriteCommand, read, write};
use crate::error::CommandError;
use crate::keyspace::{Lookup, ReadError, Reader, STRING_BYTES_MAX, UnixMillis, Writer};

const ROW: CommandSpec =
    CommandSpec { arity: Exactly(2), keys: Keys::One(1), acl: &["string"], group: Group::String, complexity: "O(1)", ..BLANK };

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "get",
        flags: Flags(READONLY | FAST),
        since: "1.0.0",
        summary: "Returns the string value of a key.",
        handler: read::<Get>(),
        ..ROW
    },
    CommandSpec {
        name: "set",
        arity: AtLeast(3),
        flags: Flags(WRITE | DENYOOM),
        since: "1.0.0",
        summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
        deviation: "Keys are limited to 64 KiB and values to 64 MiB, by every command that writes.",
        handler: write::<Set>(1),
        ..ROW
    },
    CommandSpec {
        name: "setnx",
        arity: Exactly(3),
        flags: Flags(WRITE | DENYOOM | FAST),
        since: "1.0.0",
        summary: "Sets the string value of a key only when the key doesn't exist.",
        handler: write::<SetNx>(2),
        ..ROW
    },
    CommandSpec {
        name: "setex",
        arity: Exactly(4),
        flags: Flags(WRITE | DENYOOM),
        since: "2.0.0",
        summary: "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.",
        handler: write::<SetEx>(3),
        ..ROW
    },
    CommandSpec {
        name: "psetex",
        arity: Exactly(4),
        flags: Flags(WRITE | DENYOOM),
        since: "2.6.0",
        summary: "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist.",
        handler: write::<PsetEx>(4),
        ..ROW
    },
    CommandSpec {
        name: "getset",
        arity: Exactly(3),
        flags: Flags(WRITE | DENYOOM | FAST),
        since: "1.0.0",
        summary: "Returns the previous string value of a key after setting it to a new value.",
        handler: write::<GetSet>(5),
        ..ROW
    },
    CommandSpec {
        name: "getdel",
        flags: Flags(WRITE | FAST),
        since: "6.2.0",
        summary: "Returns the string value of a key after deleting the key.",
        handler: write::<GetDel>(6),
        ..ROW
    },
    CommandSpec {
        name: "getex",
        arity: AtLeast(2),
        flags: Flags(WRITE | FAST),
        since: "6.2.0",
        summary: "Returns the string value of a key after setting its expiration time.",
        handler: write::<GetEx>(7),
        ..ROW
    },
    CommandSpec {
        name: "mget",
        arity: AtLeast(2),
        keys: Keys::Range { first: 1, last: -1, step: 1 },
        flags: Flags(READONLY | FAST),
        since: "1.0.0",
        summary: "Atomically returns the string values of one or more keys.",
        complexity: "O(N) where N is the number of keys to retrieve.",
        deviation: "Values of more than 256 MiB together are refused with `ERR reply is too large`.",
        handler: read::<Mget>(),
        ..ROW
    },
    CommandSpec {
        name: "mset",
        arity: AtLeast(3),
        keys: Keys::Range { first: 1, last: -1, step: 2 },
        flags: Flags(WRITE | DENYOOM),
        since: "1.0.1",
        summary: "Atomically creates or modifies the string values of one or more keys.",
        complexity: "O(N) where N is the number of keys to set.",
        handler: write::<Mset>(8),
        ..ROW
    },
    CommandSpec {
        name: "msetnx",
        arity: AtLeast(3),
        keys: Keys::Range { first: 1, last: -1, step: 2 },
        flags: Flags(WRITE | DENYOOM),
        since: "1.0.1",
        summary: "Atomically modifies the string values of one or more keys only when all keys don't exist.",
        complexity: "O(N) where N is the number of keys to set.",
        handler: write::<MsetNx>(9),
        ..ROW
    },
    CommandSpec {
        name: "append",
        arity: Exactly(3),
        flags: Flags(WRITE | DENYOOM | FAST),
        since: "2.0.0",
        summary: "Appends a string to the value of a key. Creates the key if it doesn't exist.",
        complexity: "O(N) where N is the length of the resulting string.",
        deviation: "The result is limited to 64 MiB, whatever `proto-max-bulk-len` says.",
        handler: write::<Append>(10),
        ..ROW
    },
    CommandSpec {
        name: "strlen",
        flags: Flags(READONLY | FAST),
        since: "2.2.0",
        summary: "Returns the length of a string value.",
        handler: read::<StrLen>(),
        ..ROW
    },
    CommandSpec {
        name: "getrange",
        arity: Exactly(4),
        flags: Flags(READONLY),
        since: "2.4.0",
        summary: "Returns a substring of the string stored at a key.",
        complexity: "O(N) where N is the length of the stored string.",
        handler: read::<GetRange>(),
        ..ROW
    },
    CommandSpec {
        name: "substr",
        arity: Exactly(4),
        flags: Flags(READONLY),
        since: "1.0.0",
        summary: "Returns a substring from a string value.",
        complexity: "O(N) where N is the length of the stored string.",
        handler: read::<GetRange>(),
        ..ROW
    },
    CommandSpec {
        name: "setrange",
        arity: Exactly(4),
        flags: Flags(WRITE | DENYOOM),
        since: "2.2.0",
        summary: "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist.",
        complexity: "O(N) where N is the length of the resulting string.",
        deviation: "The result is limited to 64 MiB, whatever `proto-max-bulk-len` says.",
        handler: write::<SetRange>(16),
        ..ROW
    },
];

/// Most bytes of values in one reply of MGET.
const REPLY_BYTES_MAX: usize = 256 * 1024 * 1024;

fn read_string(key: &[u8], reader: &Reader<'_>) -> Result<Option<Bytes>, ReadError> {
    match reader.metadata(key)? {
        Some(metadata) => Ok(Some(reader.value(key, &metadata)?)),
        None => Ok(None),
    }
}

fn bulk_or_null(value: Option<Bytes>) -> Reply {
    value.map_or(Reply::Null, Reply::Bulk)
}

struct Get {
    key: Bytes,
}

impl ReadCommand for Get {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        Ok(bulk_or_null(read_string(&self.key, reader)?))
    }
}

/// When SET writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    IfMissing,
    IfExists,
}

impl Condition {
    fn holds(self, lookup: &Lookup<'_>) -> bool {
        match self {
            Condition::Always => true,
            Condition::IfMissing => !lookup.exists(),
            Condition::IfExists => lookup.exists(),
        }
    }
}

/// The deadline of a value that replaces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    Forever,
    Kept,
    Until(Time),
}

impl Lifetime {
    pub(super) fn deadline(self, lookup: &Lookup<'_>, now: UnixMillis) -> Result<Option<UnixMillis>, CommandError> {
        match self {
            Lifetime::Forever => Ok(None),
            Lifetime::Kept => Ok(lookup.deadline()),
            Lifetime::Until(time) => time.deadline(now).map(Some),
        }
    }
}

/// KEEPTTL, EX, PX, EXAT or PXAT, or nothing.
pub(super) fn parse_lifetime(args: &[Bytes], command: &'static str) -> Result<Lifetime, CommandError> {
    match args {
        [] => Ok(Lifetime::Forever),
        [word] if word.eq_ignore_ascii_case(b"keepttl") => Ok(Lifetime::Kept),
        [word, rest @ ..] => {
            let mut time = None;
            let rest = take_time(&word.to_ascii_lowercase(), rest, &mut time)?;
            let time = time.filter(|_| rest.is_empty()).ok_or(CommandError::Syntax)?;
            time.parse(command).map(Lifetime::Until)
        }
    }
}

/// What SET answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// OK, or nil if the condition failed.
    Status,
    /// The value before, whether or not it was replaced.
    Before,
}

struct Set {
    key: Bytes,
    value: Bytes,
    condition: Condition,
    lifetime: Lifetime,
    answer: Answer,
}

impl Set {
    /// SET without options.
    fn plain(key: &Bytes, value: &Bytes) -> Self {
        let (key, value) = (key.clone(), value.clone());
        Self { key, value, condition: Condition::Always, lifetime: Lifetime::Forever, answer: Answer::Status }
    }
}

impl WriteCommand for Set {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let mut set = Set::plain(&args[1], &args[2]);
        let mut time = None;
        let mut rest = &args[3..];
        while let [option, after @ ..] = rest {
            rest = after;
            let keeps = set.lifetime == Lifetime::Kept;
            match option.to_ascii_lowercase().as_slice() {
                b"nx" if set.condition != Condition::IfExists => set.condition = Condition::IfMissing,
                b"xx" if set.condition != Condition::IfMissing => set.condition = Condition::IfExists,
                b"get" => set.answer = Answer::Before,
                b"keepttl" if time.is_none() => set.lifetime = Lifetime::Kept,
                option if !keeps => rest = take_time(option, rest, &mut time)?,
                _ => return Err(CommandError::Syntax),
            }
        }
        if let Some(time) = time {
            set.lifetime = Lifetime::Until(time.parse("set")?);
        }
        Ok(set)
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        let deadline = self.lifetime.deadline(&lookup, writer.now())?;
        let holds = self.condition.holds(&lookup);
        let reply = match self.answer {
            Answer::Before => bulk_or_null(writer.value(&lookup)?),
            Answer::Status if holds => Reply::OK,
            Answer::Status => Reply::Null,
        };
        if holds {
            writer.set_string(lookup, self.value, deadline)?;
        }
        Ok(reply)
    }
}

/// An option EX, PX, EXAT or PXAT. Its number is looked at after all options, as in Redis, so that a syntax error goes first.
struct TimeOption<'a> {
    unit: Unit,
    base: Base,
    text: &'a [u8],
}

impl TimeOption<'_> {
    fn parse(&self, command: &'static str) -> Result<Time, CommandError> {
        Time::parse_positive(self.text, self.unit, self.base, command)
    }
}

/// Takes a time from the arguments after `option`. The same option may come again, another one may not.
fn take_time<'a>(option: &[u8], rest: &'a [Bytes], time: &mut Option<TimeOption<'a>>) -> Result<&'a [Bytes], CommandError> {
    let (unit, base) = match option {
        b"ex" => (Unit::Seconds, Base::Now),
        b"px" => (Unit::Milliseconds, Base::Now),
        b"exat" => (Unit::Seconds, Base::Epoch),
        b"pxat" => (Unit::Milliseconds, Base::Epoch),
        _ => return Err(CommandError::Syntax),
    };
    match (rest, &time) {
        ([_, ..], Some(before)) if (before.unit, before.base) != (unit, base) => Err(CommandError::Syntax),
        ([text, rest @ ..], _) => {
            *time = Some(TimeOption { unit, base, text });
            Ok(rest)
        }
        ([], _) => Err(CommandError::Syntax),
    }
}

struct SetNx(Set);

impl WriteCommand for SetNx {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self(Set { condition: Condition::IfMissing, ..Set::plain(&args[1], &args[2]) }))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let reply = self.0.apply(writer)?;
        Ok(Reply::Integer(i64::from(reply == Reply::OK)))
    }
}

struct SetEx(Set);

impl WriteCommand for SetEx {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let time = Time::parse_positive(&args[2], Unit::Seconds, Base::Now, "setex")?;
        Ok(Self(Set { lifetime: Lifetime::Until(time), ..Set::plain(&args[1], &args[3]) }))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct PsetEx(Set);

impl WriteCommand for PsetEx {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let time = Time::parse_positive(&args[2], Unit::Milliseconds, Base::Now, "psetex")?;
        Ok(Self(Set { lifetime: Lifetime::Until(time), ..Set::plain(&args[1], &args[3]) }))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct GetSet(Set);

impl WriteCommand for GetSet {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self(Set { answer: Answer::Before, ..Set::plain(&args[1], &args[2]) }))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct GetDel {
    key: Bytes,
}

impl WriteCommand for GetDel {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        let value = writer.value(&lookup)?;
        writer.delete(lookup);
        Ok(bulk_or_null(value))
    }
}

/// What GETEX does to the deadline.
enum DeadlineChange {
    None,
    Persist,
    /// Redis looks at the number only if the key exists: a bad one is an error of apply.
    Set(Result<Time, CommandError>),
}

struct GetEx {
    key: Bytes,
    change: DeadlineChange,
}

impl WriteCommand for GetEx {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let mut time = None;
        let mut persist = false;
        let mut rest = &args[2..];
        while let [option, after @ ..] = rest {
            match option.to_ascii_lowercase().as_slice() {
                b"persist" if time.is_none() => (persist, rest) = (true, after),
                option if !persist => rest = take_time(option, after, &mut time)?,
                _ => return Err(CommandError::Syntax),
            }
        }
        let change = match time {
            Some(time) => DeadlineChange::Set(time.parse("getex")),
            None if persist => DeadlineChange::Persist,
            None => DeadlineChange::None,
        };
        Ok(Self { key: args[1].clone(), change })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        let Some(value) = writer.value(&lookup)? else { return Ok(Reply::Null) };
        match self.change {
            DeadlineChange::Set(time) => {
                let deadline = time?.deadline(writer.now())?;
                writer.set_deadline(lookup, Some(deadline));
            }
            DeadlineChange::Persist if lookup.deadline().is_some() => writer.set_deadline(lookup, None),
            DeadlineChange::Persist | DeadlineChange::None => {}
        }
        Ok(Reply::Bulk(value))
    }
}

struct Mget {
    keys: Vec<Bytes>,
}

impl ReadCommand for Mget {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { keys: args[1..].to_vec() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        let mut bytes = 0;
        let mut values = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            let Some(metadata) = reader.metadata(key)? else {
                values.push(Reply::Null);
                continue;
            };
            bytes += metadata.value.length();
            if bytes > REPLY_BYTES_MAX {
                return Err(CommandError::ReplyTooLarge.into());
            }
            values.push(Reply::Bulk(reader.value(key, &metadata)?));
        }
        Ok(Reply::Array(values))
    }
}

struct Mset {
    pairs: Vec<[Bytes; 2]>,
}

impl Mset {
    fn parse(args: &[Bytes], command: &'static str) -> Result<Self, CommandError> {
        match args[1..].as_chunks::<2>() {
            (pairs, []) => Ok(Self { pairs: pairs.to_vec() }),
            (_, [_, ..]) => Err(CommandError::WrongArity(command.into())),
        }
    }

    fn set_all(self, writer: &mut Writer<'_, '_>) -> Result<(), CommandFailure> {
        for [key, value] in self.pairs {
            let lookup = writer.lookup(&key)?;
            writer.set_string(lookup, value, None)?;
        }
        Ok(())
    }
}

impl WriteCommand for Mset {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Mset::parse(args, "mset")
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.set_all(writer)?;
        Ok(Reply::OK)
    }
}

struct MsetNx(Mset);

impl WriteCommand for MsetNx {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Mset::parse(args, "msetnx").map(Self)
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        for [key, _] in &self.0.pairs {
            if writer.lookup(key)?.exists() {
                return Ok(Reply::Integer(0));
            }
        }
        self.0.set_all(writer)?;
        Ok(Reply::Integer(1))
    }
}

/// A length as replies have it; strings are far shorter than 2^63.
fn length_reply(length: usize) -> Reply {
    Reply::Integer(i64::try_from(length).expect("a string's length fits 63 bits"))
}

struct Append {
    key: Bytes,
    value: Bytes,
}

impl WriteCommand for Append {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone(), value: args[2].clone() })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        let length = lookup.metadata().map_or(0, |metadata| metadata.value.length()) + self.value.len();
        if length > STRING_BYTES_MAX {
            return Err(CommandError::StringTooLong.into());
        }
        let mut value = BytesMut::with_capacity(length);
        value.extend_from_slice(&writer.value(&lookup)?.unwrap_or_default());
        value.extend_from_slice(&self.value);
        let deadline = lookup.deadline();
        writer.set_string(lookup, value.freeze(), deadline)?;
        Ok(length_reply(length))
    }
}

struct StrLen {
    key: Bytes,
}

impl ReadCommand for StrLen {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        let metadata = reader.metadata(&self.key)?;
        Ok(length_reply(metadata.map_or(0, |metadata| metadata.value.length())))
    }
}

struct GetRange {
    key: Bytes,
    start: i64,
    end: i64,
}

impl ReadCommand for GetRange {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone(), start: number::integer(&args[2])?, end: number::integer(&args[3])? })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        let Some(metadata) = reader.metadata(&self.key)? else { return Ok(Reply::Bulk(Bytes::new())) };
        match part(self.start, self.end, metadata.value.length()) {
            Some(range) => Ok(Reply::Bulk(reader.value(&self.key, &metadata)?.slice(range))),
            None => Ok(Reply::Bulk(Bytes::new())),
        }
    }
}

/// The part of a string of `length` bytes from `start` to `end`, both included; negative ones count from the string's end.
fn part(start: i64, end: i64, length: usize) -> Option<std::ops::Range<usize>> {
    // Both before the beginning, yet in the wrong order: Redis answers nothing here, where the clamping below would give the first byte.
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let length = i64::try_from(length).expect("a string's length fits 63 bits");
    let from_start = |position: i64| if position < 0 { position.saturating_add(length).max(0) } else { position };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    if start > end {
        return None;
    }
    let position = |number: i64| usize::try_from(number).expect("clamped to the string's length");
    Some(position(start)..position(end) + 1)
}

struct SetRange {
    key: Bytes,
    offset: usize,
    value: Bytes,
}

impl WriteCommand for SetRange {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let offset = usize::try_from(number::integer(&args[2])?).map_err(|_| CommandError::OffsetOutOfRange)?;
        Ok(Self { key: args[1].clone(), offset, value: args[3].clone() })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        let before = lookup.metadata().map_or(0, |metadata| metadata.value.length());
        if self.value.is_empty() {
            return Ok(length_reply(before));
        }
        let end = self.offset.checked_add(self.value.len()).filter(|end| *end <= STRING_BYTES_MAX).ok_or(CommandError::StringTooLong)?;
        let mut value = BytesMut::with_capacity(before.max(end));
        value.extend_from_slice(&writer.value(&lookup)?.unwrap_or_default());
        value.resize(before.max(end), 0);
        value[self.offset..end].copy_from_slice(&self.value);
        let deadline = lookup.deadline();
        writer.set_string(lookup, value.freeze(), deadline)?;
        Ok(length_reply(before.max(end)))
    }
}

#[cfg(test)]
mod tests;
