//! The shape of a command: one row of facts beside one handler.
//! A row is the only place for a command's facts: arity check, routing, key positions, ACL categories, COMMAND, COMMAND DOCS and
//! `docs/compatibility.md` are computed from it. This file has the types; the rows stand in one file per data type, `table` joins them.
//! Handlers see arguments, a keyspace and a stamp. They see no connection, node, clock or random number.

use bytes::Bytes;
use raftlog::engine::EngineError;
use resp::Reply;

use super::node_command::NodeCommand;
use crate::error::CommandError;
use crate::keyspace::{ReadError, Reader, UnixMillis, WriteError, Writer};

/// How many arguments a command takes, its name (and its subcommand's) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// That many.
    Exactly(usize),
    /// That many or more.
    AtLeast(usize),
}

impl Arity {
    /// Whether a command of this arity takes `count` arguments.
    #[must_use]
    pub fn accepts(self, count: usize) -> bool {
        match self {
            Arity::Exactly(exact) => count == exact,
            Arity::AtLeast(least) => count >= least,
        }
    }

    /// The least number of arguments.
    #[must_use]
    pub const fn least(self) -> usize {
        match self {
            Arity::Exactly(count) | Arity::AtLeast(count) => count,
        }
    }

    /// The arity as COMMAND reports it: negative where more arguments may follow.
    #[must_use]
    pub fn number(self) -> i64 {
        let least = i64::try_from(self.least()).expect("arities are small");
        match self {
            Arity::Exactly(_) => least,
            Arity::AtLeast(_) => -least,
        }
    }
}

/// Where the keys stand among the arguments; position 0 is the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The command has no keys.
    None,
    /// One key at this position.
    One(usize),
    /// Keys from `first` to `last`, each `step` after the other; a negative `last` counts from the end, as in COMMAND.
    Range {
        /// Position of the first key.
        first: usize,
        /// Position of the last key; -1 is the last argument.
        last: isize,
        /// Distance between two keys.
        step: usize,
    },
}

impl Keys {
    /// First key, last key and step, as COMMAND reports them; zeros without keys.
    #[must_use]
    pub fn numbers(self) -> (i64, i64, i64) {
        let number = |position: usize| i64::try_from(position).expect("positions are small");
        match self {
            Keys::None => (0, 0, 0),
            Keys::One(position) => (number(position), number(position), 1),
            Keys::Range { first, last, step } => (number(first), last as i64, number(step)),
        }
    }

    /// The keys among `args`, the name included. Arguments that end inside a step lose the rest of it.
    pub fn of(self, args: &[Bytes]) -> impl Iterator<Item = &Bytes> {
        let (first, last, step) = match self {
            Keys::None => (1, 0, 1),
            Keys::One(position) => (position, position, 1),
            Keys::Range { first, last, step } => {
                let last = usize::try_from(last).unwrap_or_else(|_| args.len().saturating_sub(last.unsigned_abs()));
                (first, last, step)
            }
        };
        args.iter().take(last + 1).skip(first).step_by(step)
    }
}

/// A command's flags, combined with `|` from the constants of `flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u32);

/// The flags of a command. Names and meanings are Redis's, as COMMAND reports them, but for `ITERATES`.
pub mod flags {
    /// May change data; goes through the log.
    pub const WRITE: u32 = 1;
    /// Reads data and changes none.
    pub const READONLY: u32 = 1 << 1;
    /// May add data: refused while the disk is nearly full.
    pub const DENYOOM: u32 = 1 << 2;
    /// Administration.
    pub const ADMIN: u32 = 1 << 3;
    /// Publishing and subscribing.
    pub const PUBSUB: u32 = 1 << 4;
    /// Not from scripts.
    pub const NOSCRIPT: u32 = 1 << 5;
    /// May wait for another client.
    pub const BLOCKING: u32 = 1 << 6;
    /// Answered while the node catches up after a start.
    pub const LOADING: u32 = 1 << 7;
    /// Answered by a node that has lost the group.
    pub const STALE: u32 = 1 << 8;
    /// Constant or logarithmic time.
    pub const FAST: u32 = 1 << 9;
    /// Needs no authentication.
    pub const NO_AUTH: u32 = 1 << 10;
    /// Not inside MULTI.
    pub const NO_MULTI: u32 = 1 << 11;
    /// Allowed while a script runs too long.
    pub const ALLOW_BUSY: u32 = 1 << 12;
    /// Ours: walks over many keys. Runs in the blocking pool on a view of its own, never beside apply.
    pub const ITERATES: u32 = 1 << 31;

    /// The flags with the names that COMMAND reports.
    pub(super) const NAMES: &[(u32, &str)] = &[
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_MULTI, "no_multi"),
        (ALLOW_BUSY, "allow_busy"),
    ];
}

impl Flags {
    /// Whether all of these flags are set.
    #[must_use]
    pub const fn contains(self, flags: u32) -> bool {
        self.0 & flags == flags
    }

    /// The names of the flags that Redis knows too.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        flags::NAMES.iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| *name)
    }
}

/// The part of the documentation a command belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Strings.
    String,
    /// Keys of any type.
    Generic,
    /// The connection.
    Connection,
    /// The server.
    Server,
    /// The Raft group: redraft's own commands.
    Raft,
}

impl Group {
    /// All groups, in the order of the documentation.
    pub const ALL: &[Group] = &[Group::String, Group::Generic, Group::Connection, Group::Server, Group::Raft];

    /// The name that COMMAND DOCS reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Group::String => "string",
            Group::Generic => "generic",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Raft => "raft",
        }
    }
}

/// Why a handler gave no reply of its own.
#[derive(Debug, thiserror::Error)]
pub enum CommandFailure {
    /// The caller's fault: an error reply. The command's writes are discarded.
    #[error(transparent)]
    Reply(#[from] CommandError),
    /// A read met a key whose deadline has passed for the leader but not yet in the log: it must not answer before log time reaches this
    /// deadline. Never from a write.
    #[error("a read needs log time {}", .0.0)]
    TimeNeeded(UnixMillis),
    /// The engine could not answer: `WouldBlock` restarts the command in the pool, anything else stops the replica.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<ReadError> for CommandFailure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TimeNeeded(deadline) => CommandFailure::TimeNeeded(deadline),
            ReadError::Engine(error) => CommandFailure::Engine(error),
        }
    }
}

impl From<WriteError> for CommandFailure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::KeyTooLong => CommandFailure::Reply(CommandError::KeyTooLong),
            WriteError::StringTooLong => CommandFailure::Reply(CommandError::StringTooLong),
            WriteError::Engine(error) => CommandFailure::Engine(error),
        }
    }
}

/// What a handler answers.
pub type CommandResult = Result<Reply, CommandFailure>;

/// Checks a command's arguments. Pure; all syntax errors end here, before anything is logged.
pub type Check = fn(&[Bytes]) -> Result<(), CommandError>;

/// What carries a command out, and thereby where it runs. Arguments include the name.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Runs through the read path, on one view.
    Read {
        /// Checks the arguments.
        check: Check,
        /// Computes the reply.
        read: fn(&[Bytes], &Reader<'_>) -> CommandResult,
    },
    /// Goes through the log and is applied on every replica. Deterministic: same arguments, same stamp, same data, same result.
    Write {
        /// Stable id of the command in log entries; never reused.
        id: u16,
        /// Checks the arguments.
        check: Check,
        /// Applies the command and computes the reply. `CommandSpec::apply` undoes the writes of a command that fails.
        apply: fn(&[Bytes], &mut Writer<'_, '_>) -> CommandResult,
    },
    /// Concerns the connection or the node: the parsed form is carried out by `net` or `node`.
    Node(fn(&[Bytes]) -> Result<NodeCommand, CommandError>),
    /// Has subcommands only.
    Container,
}

/// A read-only command: parsed arguments and how they are answered.
pub(super) trait ReadCommand: Sized {
    /// Parses the arguments, the name included; their number fits the row's arity.
    fn parse(args: &[Bytes]) -> Result<Self, CommandError>;
    /// Answers from one view.
    fn read(self, reader: &Reader<'_>) -> CommandResult;
}

/// A command that may change data: parsed arguments and how they are applied.
pub(super) trait WriteCommand: Sized {
    /// Parses the arguments, the name included; their number fits the row's arity.
    fn parse(args: &[Bytes]) -> Result<Self, CommandError>;
    /// Applies the command. Deterministic.
    fn apply(self, writer: &mut Writer<'_, '_>) -> CommandResult;
}

/// The handler of a read-only command.
pub(super) const fn read<C: ReadCommand>() -> Handler {
    Handler::Read { check: |args| C::parse(args).map(drop), read: |args, reader| C::parse(args)?.read(reader) }
}

/// The handler of a command that may change data; `id` is its stable id in the log.
pub(super) const fn write<C: WriteCommand>(id: u16) -> Handler {
    Handler::Write { id, check: |args| C::parse(args).map(drop), apply: |args, writer| C::parse(args)?.apply(writer) }
}

/// A command's row.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// Lower-case name; for a subcommand the second word alone (`setname`).
    pub name: &'static str,
    /// Argument count, name included; for a subcommand both words are included.
    pub arity: Arity,
    /// Key positions.
    pub keys: Keys,
    /// Flags.
    pub flags: Flags,
    /// ACL categories beyond those that follow from the flags, without the `@`.
    pub acl: &'static [&'static str],
    /// Part of the documentation.
    pub group: Group,
    /// Redis version that introduced the command, or `redraft` for our own.
    pub since: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Cost, as Redis's documentation writes it.
    pub complexity: &'static str,
    /// How redraft differs from Redis, for `docs/compatibility.md`; empty when it does not.
    pub deviation: &'static str,
    /// What carries the command out.
    pub handler: Handler,
    /// Rows of the subcommands.
    pub subcommands: &'static [CommandSpec],
}

/// A row that says nothing yet: what the rows of a file have in common is written over it, once, and what sets them apart over that.
pub(super) const BLANK: CommandSpec = CommandSpec {
    name: "",
    arity: Arity::Exactly(1),
    keys: Keys::None,
    flags: Flags(0),
    acl: &[],
    group: Group::Generic,
    since: "",
    summary: "",
    complexity: "",
    deviation: "",
    handler: Handler::Container,
    subcommands: &[],
};

impl CommandSpec {
    /// Whether the command goes through the log.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self.handler, Handler::Write { .. })
    }

    /// All ACL categories without the `@`: those of the row, and those that follow from the flags as in Redis's
    /// `setImplicitACLCategories`.
    #[must_use]
    pub fn acl_categories(&self) -> Vec<&'static str> {
        let mut categories = self.acl.to_vec();
        let implied = [
            (flags::WRITE, &["write"][..]),
            (flags::READONLY, &["read"]),
            (flags::ADMIN, &["admin", "dangerous"]),
            (flags::PUBSUB, &["pubsub"]),
            (flags::BLOCKING, &["blocking"]),
        ];
        for (_, names) in implied.iter().filter(|(flag, _)| self.flags.contains(*flag)) {
            categories.extend(*names);
        }
        categories.push(if self.flags.contains(flags::FAST) { "fast" } else { "slow" });
        categories.sort_unstable();
        categories.dedup();
        categories
    }

    /// Applies a logged command. A command that fails with an error reply leaves no change behind.
    /// # Errors
    /// The engine's; the replica must stop.
    /// # Panics
    /// Panics if the handler is not `Write`.
    pub fn apply(&self, args: &[Bytes], writer: &mut Writer<'_, '_>) -> Result<Reply, EngineError> {
        let Handler::Write { apply, .. } = self.handler else { panic!("{} is not a write", self.name) };
        match writer.atomically(|writer| apply(args, writer)) {
            Ok(reply) => Ok(reply),
            Err(CommandFailure::Reply(error)) => Ok(error.into()),
            Err(CommandFailure::Engine(error)) => Err(error),
            Err(CommandFailure::TimeNeeded(_)) => unreachable!("a writer knows the log time"),
        }
    }

    /// Answers a read from one view.
    /// # Errors
    /// `TimeNeeded` when the log's time must advance first; the engine's errors, of which `WouldBlock` asks for a repetition off the
    /// network threads.
    /// # Panics
    /// Panics if the handler is not `Read`.
    pub fn read(&self, args: &[Bytes], reader: &Reader<'_>) -> Result<Reply, ReadError> {
        let Handler::Read { read, .. } = self.handler else { panic!("{} is not a read", self.name) };
        match read(args, reader) {
            Ok(reply) => Ok(reply),
            Err(CommandFailure::Reply(error)) => Ok(error.into()),
            Err(CommandFailure::Engine(error)) => Err(ReadError::Engine(error)),
            Err(CommandFailure::TimeNeeded(deadline)) => Err(ReadError::TimeNeeded(deadline)),
        }
    }
}
