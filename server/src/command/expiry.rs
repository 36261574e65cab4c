//! Commands about deadlines, and the expiry arguments of other commands.
//! Relative times count from the log's time, so that every replica computes the same deadline. All times are signed 64-bit milliseconds
//! while they are computed, as in Redis, so that its overflow checks hold; a key keeps a deadline only if it lies in the future.

use bytes::Bytes;
use resp::Reply;

use super::number;
use super::quoting::quoted;
use super::spec::Arity::{AtLeast, Exactly};
use super::spec::flags::{FAST, READONLY, WRITE};
use super::spec::{BLANK, CommandResult, CommandSpec, Flags, Group, Keys, ReadCommand, WriteCommand, read, write};
use crate::error::CommandError;
use crate::keyspace::{Reader, UnixMillis, Writer};

const ROW: CommandSpec =
    CommandSpec { arity: Exactly(2), keys: Keys::One(1), acl: &["keyspace"], group: Group::Generic, complexity: "O(1)", ..BLANK };

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "expire",
        arity: AtLeast(3),
        flags: Flags(WRITE | FAST),
        since: "1.0.0",
        summary: "Sets the expiration time of a key in seconds.",
        handler: write::<Expire>(19),
        ..ROW
    },
    CommandSpec {
        name: "pexpire",
        arity: AtLeast(3),
        flags: Flags(WRITE | FAST),
        since: "2.6.0",
        summary: "Sets the expiration time of a key in milliseconds.",
        handler: write::<Pexpire>(20),
        ..ROW
    },
    CommandSpec {
        name: "expireat",
        arity: AtLeast(3),
        flags: Flags(WRITE | FAST),
        since: "1.2.0",
        summary: "Sets the expiration time of a key to a Unix timestamp.",
        handler: write::<ExpireAt>(21),
        ..ROW
    },
    CommandSpec {
        name: "pexpireat",
        arity: AtLeast(3),
        flags: Flags(WRITE | FAST),
        since: "2.6.0",
        summary: "Sets the expiration time of a key to a Unix timestamp in milliseconds.",
        handler: write::<PexpireAt>(22),
        ..ROW
    },
    CommandSpec {
        name: "persist",
        flags: Flags(WRITE | FAST),
        since: "2.2.0",
        summary: "Removes the expiration time of a key.",
        handler: write::<Persist>(23),
        ..ROW
    },
    CommandSpec {
        name: "ttl",
        flags: Flags(READONLY | FAST),
        since: "1.0.0",
        summary: "Returns the time to live of a key in seconds.",
        handler: read::<Ttl>(),
        ..ROW
    },
    CommandSpec {
        name: "pttl",
        flags: Flags(READONLY | FAST),
        since: "2.6.0",
        summary: "Returns the time to live of a key in milliseconds.",
        handler: read::<Pttl>(),
        ..ROW
    },
    CommandSpec {
        name: "expiretime",
        flags: Flags(READONLY | FAST),
        since: "7.0.0",
        summary: "Returns the expiration time of a key as a Unix timestamp.",
        handler: read::<ExpireTime>(),
        ..ROW
    },
    CommandSpec {
        name: "pexpiretime",
        flags: Flags(READONLY | FAST),
        since: "7.0.0",
        summary: "Returns the expiration time of a key as a Unix timestamp in milliseconds.",
        handler: read::<PexpireTime>(),
        ..ROW
    },
];

/// The unit of a time in arguments and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

/// What a time in arguments counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// The log's time.
    Now,
    /// The Unix epoch.
    Epoch,
}

/// A time in arguments, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    millis: i64,
    base: Base,
    /// The command whose argument it is, for its errors.
    command: &'static str,
}

impl Time {
    /// Any time, one in the past included, as EXPIRE takes it.
    fn parse(text: &[u8], unit: Unit, base: Base, command: &'static str) -> Result<Self, CommandError> {
        let number = number::integer(text)?;
        let millis = match unit {
            Unit::Seconds => number.checked_mul(1000).ok_or(CommandError::InvalidExpireTime(command))?,
            Unit::Milliseconds => number,
        };
        Ok(Self { millis, base, command })
    }

    /// A positive time, as SET takes it.
    pub(super) fn parse_positive(text: &[u8], unit: Unit, base: Base, command: &'static str) -> Result<Self, CommandError> {
        if number::integer(text)? <= 0 {
            return Err(CommandError::InvalidExpireTime(command));
        }
        Self::parse(text, unit, base, command)
    }

    /// The deadline this time means; a time before the epoch has passed as surely as the epoch has.
    pub(super) fn deadline(self, now: UnixMillis) -> Result<UnixMillis, CommandError> {
        let base = match self.base {
            Base::Now => signed(now),
            Base::Epoch => 0,
        };
        let millis = base.checked_add(self.millis).ok_or(CommandError::InvalidExpireTime(self.command))?;
        Ok(UnixMillis(u64::try_from(millis).unwrap_or(0)))
    }
}

/// A time as Redis computes with it. Log time and deadlines are far below 2^63.
fn signed(time: UnixMillis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// The conditions of EXPIRE and its kin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Conditions {
    without_deadline: bool,
    with_deadline: bool,
    later: bool,
    earlier: bool,
}

impl Conditions {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let mut conditions = Conditions::default();
        for arg in args {
            match arg.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.without_deadline = true,
                b"xx" => conditions.with_deadline = true,
                b"gt" => conditions.later = true,
                b"lt" => conditions.earlier = true,
                _ => return Err(CommandError::UnsupportedOption(quoted(arg))),
            }
        }
        if conditions.without_deadline && (conditions.with_deadline || conditions.later || conditions.earlier) {
            return Err(CommandError::NxWithOtherCondition);
        }
        if conditions.later && conditions.earlier {
            return Err(CommandError::GtWithLt);
        }
        Ok(conditions)
    }

    /// A key without a deadline counts as one that ends never: nothing is later.
    fn hold(self, current: Option<UnixMillis>, deadline: UnixMillis) -> bool {
        let Some(current) = current else { return !self.with_deadline && !self.later };
        let too_early = self.later && deadline <= current;
        let too_late = self.earlier && deadline >= current;
        !self.without_deadline && !too_early && !too_late
    }
}

/// EXPIRE and its kin.
struct Deadline {
    key: Bytes,
    time: Time,
    conditions: Conditions,
}

impl Deadline {
    fn parse(args: &[Bytes], unit: Unit, base: Base, command: &'static str) -> Result<Self, CommandError> {
        let conditions = Conditions::parse(&args[3..])?;
        Ok(Self { key: args[1].clone(), time: Time::parse(&args[2], unit, base, command)?, conditions })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let deadline = self.time.deadline(writer.now())?;
        let lookup = writer.lookup(&self.key)?;
        if !lookup.exists() || !self.conditions.hold(lookup.deadline(), deadline) {
            return Ok(Reply::Integer(0));
        }
        writer.set_deadline(lookup, Some(deadline));
        Ok(Reply::Integer(1))
    }
}

struct Expire(Deadline);

impl WriteCommand for Expire {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Deadline::parse(args, Unit::Seconds, Base::Now, "expire").map(Self)
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct Pexpire(Deadline);

impl WriteCommand for Pexpire {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Deadline::parse(args, Unit::Milliseconds, Base::Now, "pexpire").map(Self)
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct ExpireAt(Deadline);

impl WriteCommand for ExpireAt {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Deadline::parse(args, Unit::Seconds, Base::Epoch, "expireat").map(Self)
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct PexpireAt(Deadline);

impl WriteCommand for PexpireAt {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Deadline::parse(args, Unit::Milliseconds, Base::Epoch, "pexpireat").map(Self)
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct Persist {
    key: Bytes,
}

impl WriteCommand for Persist {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        if lookup.deadline().is_none() {
            return Ok(Reply::Integer(0));
        }
        writer.set_deadline(lookup, None);
        Ok(Reply::Integer(1))
    }
}

/// TTL and its kin: -2 for a key that does not exist, -1 for one without a deadline.
fn read_deadline(key: &[u8], reader: &Reader<'_>, unit: Unit, base: Base) -> CommandResult {
    let Some(metadata) = reader.metadata(key)? else { return Ok(Reply::Integer(-2)) };
    let Some(deadline) = metadata.deadline else { return Ok(Reply::Integer(-1)) };
    let millis = match base {
        Base::Now => deadline.0.saturating_sub(reader.time()?.0),
        Base::Epoch => deadline.0,
    };
    let millis = signed(UnixMillis(millis));
    Ok(Reply::Integer(match unit {
        // The remainder is rounded alone: the last deadline there is has no room for half a second more.
        Unit::Seconds => millis / 1000 + (millis % 1000 + 500) / 1000,
        Unit::Milliseconds => millis,
    }))
}

struct Ttl {
    key: Bytes,
}

impl ReadCommand for Ttl {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        read_deadline(&self.key, reader, Unit::Seconds, Base::Now)
    }
}

struct Pttl {
    key: Bytes,
}

impl ReadCommand for Pttl {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        read_deadline(&self.key, reader, Unit::Milliseconds, Base::Now)
    }
}

struct ExpireTime {
    key: Bytes,
}

impl ReadCommand for ExpireTime {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        read_deadline(&self.key, reader, Unit::Seconds, Base::Epoch)
    }
}

struct PexpireTime {
    key: Bytes,
}

impl ReadCommand for PexpireTime {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        read_deadline(&self.key, reader, Unit::Milliseconds, Base::Epoch)
    }
}
