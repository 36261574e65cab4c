//! Commands on strings as numbers.
//! A counter keeps its deadline. Integers are 64-bit and never wrap. INCRBYFLOAT computes with exact decimals (see `decimal`), so that
//! every replica, on any processor, writes the same text.

use bytes::Bytes;
use resp::Reply;

use super::decimal::Decimal;
use super::number;
use super::spec::Arity::Exactly;
use super::spec::flags::{DENYOOM, FAST, WRITE};
use super::spec::{BLANK, CommandResult, CommandSpec, Flags, Group, Keys, WriteCommand, write};
use crate::error::CommandError;
use crate::keyspace::Writer;

const ROW: CommandSpec = CommandSpec {
    arity: Exactly(3),
    keys: Keys::One(1),
    flags: Flags(WRITE | DENYOOM | FAST),
    acl: &["string"],
    group: Group::String,
    complexity: "O(1)",
    ..BLANK
};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "incr",
        arity: Exactly(2),
        since: "1.0.0",
        summary: "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
        handler: write::<Incr>(11),
        ..ROW
    },
    CommandSpec {
        name: "decr",
        arity: Exactly(2),
        since: "1.0.0",
        summary: "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
        handler: write::<Decr>(12),
        ..ROW
    },
    CommandSpec {
        name: "incrby",
        since: "1.0.0",
        summary: "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
        handler: write::<IncrBy>(13),
        ..ROW
    },
    CommandSpec {
        name: "decrby",
        since: "1.0.0",
        summary: "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.",
        handler: write::<DecrBy>(14),
        ..ROW
    },
    CommandSpec {
        name: "incrbyfloat",
        since: "2.6.0",
        summary: "Increments the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
        deviation: "The sum is exact in decimal, to 17 places after the point. Redis shows the rounding noise of the processor's long \
                    double, as in -758.22 + 791.15 = 32.93000000000000005. Hexadecimal numbers are refused.",
        handler: write::<IncrByFloat>(15),
        ..ROW
    },
];

/// INCR and its kin.
struct Increment {
    key: Bytes,
    by: i64,
}

impl Increment {
    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        let before = writer.value(&lookup)?.map_or(Ok(0), |value| number::integer(&value))?;
        let after = before.checked_add(self.by).ok_or(CommandError::IncrementOverflow)?;
        let deadline = lookup.deadline();
        writer.set_string(lookup, Bytes::from(after.to_string()), deadline)?;
        Ok(Reply::Integer(after))
    }
}

struct Incr(Increment);

impl WriteCommand for Incr {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self(Increment { key: args[1].clone(), by: 1 }))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct Decr(Increment);

impl WriteCommand for Decr {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self(Increment { key: args[1].clone(), by: -1 }))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct IncrBy(Increment);

impl WriteCommand for IncrBy {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self(Increment { key: args[1].clone(), by: number::integer(&args[2])? }))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct DecrBy(Increment);

impl WriteCommand for DecrBy {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let by = number::integer(&args[2])?.checked_neg().ok_or(CommandError::DecrementOverflow)?;
        Ok(Self(Increment { key: args[1].clone(), by }))
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        self.0.apply(writer)
    }
}

struct IncrByFloat {
    key: Bytes,
    by: Decimal,
}

impl WriteCommand for IncrByFloat {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { key: args[1].clone(), by: Decimal::parse(&args[2])? })
    }

    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult {
        let lookup = writer.lookup(&self.key)?;
        let before = writer.value(&lookup)?.map_or_else(|| Ok(Decimal::ZERO), |value| Decimal::parse(&value))?;
        let after = Bytes::from(before.add(self.by)?.to_string());
        let deadline = lookup.deadline();
        writer.set_string(lookup, after.clone(), deadline)?;
        Ok(Reply::Bulk(after))
    }
}

#[cfg(test)]
mod tests {
    use crate::command::harness::Session;

    #[test]
    fn counters_count_and_refuse_as_in_redis() {
        Session::new().check_lines(
            "
            incr n -> 1
            incr n -> 2
            decr n -> 1
            incrby n 41 -> 42
            decrby n 50 -> -8
            get n -> '-8'
            decr m -> -1
            decrby o 3 -> -3
            set big 9223372036854775807 -> OK
            incr big -> ERR increment or decrement would overflow
            incrby big 0 -> 9223372036854775807
            decrby big -1 -> ERR increment or decrement would overflow
            set small -9223372036854775808 -> OK
            decr small -> ERR increment or decrement would overflow
            get small -> '-9223372036854775808'
            decrby n -9223372036854775808 -> ERR decrement would overflow
            incrby n 9223372036854775808 -> ERR value is not an integer or out of range
            incrby n 1.5 -> ERR value is not an integer or out of range
            incrby n '' -> ERR value is not an integer or out of range
            set text abc -> OK
            incr text -> ERR value is not an integer or out of range
            set padded ' 1' -> OK
            incr padded -> ERR value is not an integer or out of range
            set zeros 007 -> OK
            incr zeros -> ERR value is not an integer or out of range
            set empty '' -> OK
            incr empty -> ERR value is not an integer or out of range
            incr -> ERR wrong number of arguments for 'incr' command
            incrby n -> ERR wrong number of arguments for 'incrby' command
            ",
        );
    }

    #[test]
    fn counters_keep_their_deadline() {
        Session::new().check_lines(
            "
            set n 1 px 100 -> OK
            incr n -> 2
            pttl n -> 100
            incrbyfloat n 0.5 -> '2.5'
            pttl n -> 100
            ",
        );
    }

    #[test]
    fn float_counters_add_in_decimal() {
        Session::new().check_lines(
            "
            set k 10.50 -> OK
            incrbyfloat k 0.1 -> '10.6'
            incrbyfloat k -5 -> '5.6'
            set k 5.0e3 -> OK
            incrbyfloat k 2.0e2 -> '5200'
            get k -> '5200'
            incrbyfloat new 3 -> '3'
            set k 0.1 -> OK
            incrbyfloat k 0.2 -> '0.3'
            set k 1 -> OK
            incrbyfloat k x -> ERR value is not a valid float
            incrbyfloat k ' 1' -> ERR value is not a valid float
            incrbyfloat k nan -> ERR value is not a valid float
            incrbyfloat k +inf -> ERR increment would produce NaN or Infinity
            incrbyfloat k -infinity -> ERR increment would produce NaN or Infinity
            get k -> '1'
            set k abc -> OK
            incrbyfloat k 1 -> ERR value is not a valid float
            set k inf -> OK
            incrbyfloat k 1 -> ERR increment would produce NaN or Infinity
            ",
        );
    }
}
