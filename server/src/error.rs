//! Errors that clients see. Texts match Redis 7.2 byte for byte; this file is the only place where they are written.

use std::borrow::Cow;

use resp::Reply;

/// An error reply of a command: the caller's fault, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The arguments do not fit the command's syntax.
    #[error("ERR syntax error")]
    Syntax,
    /// No command has this name.
    #[error("ERR unknown command '{name}', with args beginning with: {args}")]
    UnknownCommand {
        /// The name as sent, shortened.
        name: String,
        /// The first arguments, each in quotes and followed by a space, shortened.
        args: String,
    },
    /// The command has no such subcommand.
    #[error("ERR unknown subcommand '{name}'. Try {container} HELP.")]
    UnknownSubcommand {
        /// The subcommand's name as sent, shortened.
        name: String,
        /// The command's name in upper case.
        container: String,
    },
    /// The number of arguments does not fit; the name of a subcommand is `container|name`.
    #[error("ERR wrong number of arguments for '{0}' command")]
    WrongArity(Cow<'static, str>),
    /// An argument or a stored value is not a 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// An argument is a 64-bit integer, but not a 32-bit one, which it must be.
    #[error("ERR value is out of range, value must between -2147483648 and 2147483647")]
    IntegerOutOfRange,
    /// An argument or a stored value is not a decimal number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// A counter would leave the 64-bit integers.
    #[error("ERR increment or decrement would overflow")]
    IncrementOverflow,
    /// The amount of DECRBY has no negation.
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    /// INCRBYFLOAT would leave the range of numbers.
    #[error("ERR increment would produce NaN or Infinity")]
    NanOrInfinity,
    /// A negative offset.
    #[error("ERR offset is out of range")]
    OffsetOutOfRange,
    /// A string would become longer than `STRING_BYTES_MAX`.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// A key to be written is longer than `KEY_BYTES_MAX`.
    #[error("ERR key is too long")]
    KeyTooLong,
    /// The values asked for add up to more than one reply may hold.
    #[error("ERR reply is too large")]
    ReplyTooLarge,
    /// An expiry that is not positive, or beyond 64 bits of milliseconds; with the command's name.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpireTime(&'static str),
    /// An option that EXPIRE and its kin do not know, as sent.
    #[error("ERR Unsupported option {0}")]
    UnsupportedOption(String),
    /// NX together with another condition of EXPIRE and its kin.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    NxWithOtherCondition,
    /// GT together with LT.
    #[error("ERR GT and LT options at the same time are not compatible")]
    GtWithLt,
    /// The key to rename does not exist.
    #[error("ERR no such key")]
    NoSuchKey,
    /// Source and destination are one key.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// No database has this number.
    #[error("ERR DB index is out of range")]
    DbOutOfRange,
    /// The first database of SWAPDB is not a number.
    #[error("ERR invalid first DB index")]
    InvalidFirstDb,
    /// The second database of SWAPDB is not a number.
    #[error("ERR invalid second DB index")]
    InvalidSecondDb,
    /// A cursor that SCAN or RANGE did not give out.
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// A bound of RANGE that is none of `-`, `+`, `[key` and `(key`.
    #[error("ERR min or max not valid string range item")]
    InvalidRangeBound,

    // Connection and server commands.
    /// HELLO names a protocol other than 2 and 3.
    #[error("NOPROTO unsupported protocol version")]
    NoProto,
    /// HELLO's protocol is not a number.
    #[error("ERR Protocol version is not an integer or out of range")]
    ProtocolNotAnInteger,
    /// HELLO has an unknown option.
    #[error("ERR Syntax error in HELLO option '{0}'")]
    HelloOption(String),
    /// HELLO without AUTH where a password is required.
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be \
         used to authenticate the client and select the RESP protocol version at the same time"
    )]
    HelloNotAuthenticated,
    /// A command before AUTH where a password is required.
    #[error("NOAUTH Authentication required.")]
    NotAuthenticated,
    /// AUTH with a wrong password or an unknown user.
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPassword,
    /// AUTH with a password alone where none is configured.
    #[error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")]
    NoPasswordConfigured,
    /// A client name with characters that would break CLIENT LIST.
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    ClientName,
    /// CLIENT SETINFO with such characters; the field is the attribute.
    #[error("ERR {0} cannot contain spaces, newlines or special characters.")]
    ClientAttribute(&'static str),
    /// CLIENT SETINFO of an unknown attribute.
    #[error("ERR Unrecognized option '{0}'")]
    UnrecognizedOption(String),
    /// CLIENT KILL of an address nobody is connected from.
    #[error("ERR No such client")]
    NoSuchClient,
    /// CLIENT KILL ID with something else than a positive number.
    #[error("ERR client-id should be greater than 0")]
    ClientIdNotPositive,
    /// CLIENT LIST ID with something else than a number.
    #[error("ERR Invalid client ID")]
    InvalidClientId,
    /// An unknown client type.
    #[error("ERR Unknown client type '{0}'")]
    UnknownClientType(String),
    /// CLIENT KILL USER of an unknown user.
    #[error("ERR No such user '{0}'")]
    NoSuchUser(String),
    /// CLIENT PAUSE with an unknown mode.
    #[error("ERR CLIENT PAUSE mode must be WRITE or ALL")]
    PauseMode,
    /// A timeout that is not a number.
    #[error("ERR timeout is not an integer or out of range")]
    TimeoutNotAnInteger,
    /// A timeout below zero.
    #[error("ERR timeout is negative")]
    TimeoutNegative,
    /// A timeout beyond the end of time.
    #[error("ERR timeout is out of range")]
    TimeoutOutOfRange,
    /// COMMAND GETKEYS of an unknown command.
    #[error("ERR Invalid command specified")]
    GetKeysUnknown,
    /// COMMAND GETKEYS of a command without keys.
    #[error("ERR The command has no key arguments")]
    GetKeysNone,
    /// COMMAND GETKEYS with too few or too many arguments.
    #[error("ERR Invalid number of arguments specified for command")]
    GetKeysArity,
    /// CONFIG REWRITE.
    #[error("ERR CONFIG REWRITE is not supported: CONFIG SET lasts until the node restarts, the configuration file is yours")]
    ConfigRewrite,
    /// A command about a connection, sent without one.
    #[error("ERR {0} is about a connection, and there is none here")]
    NeedsConnection(String),
    /// SLOWLOG GET of a negative number other than -1.
    #[error("ERR count should be greater than or equal to -1")]
    SlowLogCount,
    /// Any CLUSTER command.
    #[error("ERR This instance has cluster support disabled")]
    ClusterDisabled,
    /// A command that writes with more arguments, in bytes, than one log entry may hold.
    #[error("ERR the arguments of a command that writes exceed 65mb; not executed")]
    WriteTooLarge,
    /// A command with more arguments than one may have, from somebody whose arguments no reader of RESP has counted.
    #[error("ERR a command has at most {0} arguments; not executed")]
    TooManyArguments(usize),
    /// RAFT REMOVE or TRANSFER with something that is no node id.
    #[error("ERR node id must be a positive integer")]
    NodeId,
}

impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Reply {
        Reply::Error(Cow::Owned(error.to_string()))
    }
}

/// Why a request to the replicated group has no result. The text says whether it may have been executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No leader could be reached within the request's deadline. Not executed.
    #[error("CLUSTERDOWN no leader was reached in time; not executed")]
    NoLeader,
    /// The node is overloaded or changing its role. Not executed; worth a retry.
    #[error("TRYAGAIN {0}; not executed")]
    TryAgain(Cow<'static, str>),
    /// The request makes no sense in the present state of the cluster. Not executed.
    #[error("ERR {0}")]
    Refused(Cow<'static, str>),
    /// The node is catching up after a start. Not executed.
    #[error("LOADING redraft is loading the dataset in memory")]
    Loading,
    /// The disk is nearly full and the command would add data. Not executed.
    #[error("OOM command not allowed when the disk is nearly full; not executed")]
    DiskFull,
    /// The deadline passed, or the node lost track, after the request was sent: it may have been executed, or may yet be.
    #[error("TIMEOUT outcome unknown")]
    Unknown,
}

impl From<RequestError> for Reply {
    fn from(error: RequestError) -> Reply {
        Reply::Error(Cow::Owned(error.to_string()))
    }
}

/// Why a client is turned away before its first command. The text is the reply; the connection is closed behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedClient {
    /// `maxclients` are connected.
    #[error("ERR max number of clients reached")]
    TooMany,
    /// The client is on another machine, and neither is a password set nor protected mode off.
    #[error(
        "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this \
         mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis you may \
         adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the \
         loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly \
         accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable \
         the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting \
         the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Set up \
         an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to \
         start accepting connections from the outside."
    )]
    Protected,
}
