//! Commands about the connection or the node, parsed: a closed set that `net` carries out.
//! Parsing them is the business of `connection` and `server` in this folder; what they do to a connection is that of `net::client`.
//! Everything here has passed its syntax check: a database exists, a client name has no spaces, a timeout is a duration.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use resp::Protocol;

/// A parsed command about the connection or the node.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeCommand {
    /// PING, with its optional message.
    Ping(Option<Bytes>),
    /// ECHO.
    Echo(Bytes),
    /// HELLO.
    Hello(Hello),
    /// AUTH.
    Auth(Credentials),
    /// SELECT, of an existing database.
    Select(u8),
    /// QUIT.
    Quit,
    /// RESET.
    Reset,
    /// CLIENT.
    Client(ClientCommand),
    /// COMMAND.
    Command(CommandQuery),
    /// CONFIG.
    Config(ConfigCommand),
    /// INFO, with the sections asked for.
    Info(Vec<Bytes>),
    /// ROLE.
    Role,
    /// TIME.
    Time,
    /// WAIT.
    Wait {
        /// How many other nodes are wanted; never negative.
        replicas: u64,
        /// How long to wait for them; `None` is for ever.
        timeout: Option<Duration>,
    },
    /// SLOWLOG.
    SlowLog(SlowLogCommand),
    /// READONLY.
    ReadOnly,
    /// READWRITE.
    ReadWrite,
    /// RAFT.
    Raft(RaftQuery),
    /// HELP of a container: the lines under its name.
    Help(&'static [&'static str]),
}

/// HELLO's arguments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    /// The protocol to switch to.
    pub protocol: Option<Protocol>,
    /// The AUTH option.
    pub auth: Option<Credentials>,
    /// The SETNAME option; an empty name takes the name away.
    pub name: Option<Bytes>,
}

/// What AUTH presents.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    /// The user; `None` for the form with a password alone, which means the default user.
    pub user: Option<Bytes>,
    /// The password.
    pub password: Secret,
}

/// Bytes that must not reach a log.
#[derive(Clone, PartialEq)]
pub struct Secret(pub Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A CLIENT subcommand.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientCommand {
    /// CLIENT ID.
    Id,
    /// CLIENT GETNAME.
    GetName,
    /// CLIENT SETNAME; an empty name takes the name away.
    SetName(Bytes),
    /// CLIENT SETINFO LIB-NAME.
    SetLibName(Bytes),
    /// CLIENT SETINFO LIB-VER.
    SetLibVersion(Bytes),
    /// CLIENT INFO.
    Info,
    /// CLIENT LIST.
    List(ClientSelection),
    /// CLIENT KILL with filters: answers how many were killed.
    Kill(ClientFilter),
    /// CLIENT KILL of one address: answers OK or an error.
    KillAddress(String),
    /// CLIENT PAUSE.
    Pause {
        /// For how long.
        duration: Duration,
        /// Which commands wait.
        mode: PauseMode,
    },
    /// CLIENT UNPAUSE.
    Unpause,
    /// CLIENT REPLY.
    Reply(ReplyMode),
    /// CLIENT NO-EVICT.
    NoEvict(Switch),
    /// CLIENT NO-TOUCH.
    NoTouch(Switch),
}

/// Which clients CLIENT LIST shows.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientSelection {
    /// All.
    All,
    /// Those of a type.
    Type(ClientType),
    /// Those with these ids, in this order.
    Ids(Vec<u64>),
}

/// Redis's client types. Every client of redraft is a normal one: peers come in at a port of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientType {
    /// An ordinary client.
    Normal,
    /// A connection to a master.
    Master,
    /// A replica.
    Replica,
    /// A subscriber.
    PubSub,
}

/// CLIENT KILL's filters; a client must pass all that are given.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientFilter {
    /// The client's id.
    pub id: Option<u64>,
    /// The client's address.
    pub address: Option<String>,
    /// The address it connected to.
    pub local_address: Option<String>,
    /// Its type.
    pub client_type: Option<ClientType>,
    /// Its user.
    pub user: Option<Bytes>,
    /// Whether the asking client is spared.
    pub skip_me: Switch,
}

/// Which commands CLIENT PAUSE holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseMode {
    /// Those that write.
    Write,
    /// All.
    All,
}

/// CLIENT REPLY's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// Replies are sent.
    On,
    /// No reply is sent.
    Off,
    /// The next command's reply is not sent.
    Skip,
}

/// ON or OFF, YES or NO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// A COMMAND subcommand, or COMMAND alone.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandQuery {
    /// All rows.
    All,
    /// COMMAND COUNT.
    Count,
    /// COMMAND LIST.
    List(CommandFilter),
    /// COMMAND INFO; no name means all.
    Info(Vec<Bytes>),
    /// COMMAND DOCS; no name means all.
    Docs(Vec<Bytes>),
    /// COMMAND GETKEYS: the keys, found while parsing.
    GetKeys(Vec<Bytes>),
}

/// COMMAND LIST's filter.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandFilter {
    /// All commands.
    None,
    /// Commands of a module. There are no modules.
    Module,
    /// Commands of an ACL category.
    AclCategory(Bytes),
    /// Commands whose name matches a glob-style pattern.
    Pattern(Bytes),
}

/// A CONFIG subcommand.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigCommand {
    /// CONFIG GET, with its patterns.
    Get(Vec<Bytes>),
    /// CONFIG SET, with its pairs.
    Set(Vec<(Bytes, Bytes)>),
    /// CONFIG RESETSTAT.
    ResetStat,
}

/// A SLOWLOG subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowLogCommand {
    /// SLOWLOG GET, with how many entries at most.
    Get(usize),
    /// SLOWLOG LEN.
    Len,
    /// SLOWLOG RESET.
    Reset,
}

/// A RAFT subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftQuery {
    /// RAFT STATUS.
    Status,
    /// RAFT NODES.
    Nodes,
    /// RAFT REMOVE.
    Remove(u64),
    /// RAFT TRANSFER.
    Transfer(u64),
    /// RAFT VERIFY.
    Verify,
}

/// What a line of words means, or the text of the error reply: how the tests of the files beside this one parse.
#[cfg(test)]
pub(super) fn parsed(line: &str) -> Result<NodeCommand, String> {
    let args: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    let spec = super::table::resolve(&args).map_err(|error| error.to_string())?;
    match spec.handler {
        super::spec::Handler::Node(parse) => parse(&args).map_err(|error| error.to_string()),
        _ => panic!("{line} is not about the connection or the node"),
    }
}
