//! COMMAND, CONFIG, INFO, ROLE, TIME, WAIT, CLUSTER and RAFT: rows and arguments.
//! What COMMAND answers is computed in `catalogue`; the rest is carried out by `net::client`.
//! Source: the command pages of Redis 7.2; RAFT is redraft's own.

use bytes::Bytes;
use resp::Reply;

use super::client::timeout;
use super::node_command::{CommandFilter, CommandQuery, ConfigCommand, NodeCommand, RaftQuery, SlowLogCommand};
use super::number::integer;
use super::spec::flags::{ADMIN, BLOCKING, FAST, LOADING, NOSCRIPT, READONLY, STALE};
use super::spec::{Arity, BLANK, CommandResult, CommandSpec, Flags, Group, Handler, Keys};
use super::table;
use crate::error::CommandError;
use crate::keyspace::Reader;

/// What the rows below have in common.
const ROW: CommandSpec = CommandSpec {
    arity: Arity::Exactly(1),
    flags: Flags(LOADING | STALE),
    group: Group::Server,
    since: "1.0.0",
    complexity: "O(1)",
    ..BLANK
};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "command",
        arity: Arity::AtLeast(1),
        acl: &["connection"],
        since: "2.8.13",
        summary: "Returns detailed information about all commands.",
        complexity: "O(N) where N is the total number of Redis commands",
        handler: Handler::Node(|_| Ok(NodeCommand::Command(CommandQuery::All))),
        subcommands: COMMAND,
        ..ROW
    },
    CommandSpec {
        name: "config",
        arity: Arity::AtLeast(2),
        flags: Flags(0),
        since: "2.0.0",
        summary: "A container for server configuration commands.",
        complexity: "",
        subcommands: CONFIG,
        ..ROW
    },
    CommandSpec {
        name: "info",
        arity: Arity::AtLeast(1),
        acl: &["dangerous"],
        summary: "Returns information and statistics about the server.",
        deviation: "Has a section `raft` of its own. Every node is a `master`.",
        handler: Handler::Node(|args| Ok(NodeCommand::Info(args[1..].to_vec()))),
        ..ROW
    },
    CommandSpec {
        name: "role",
        flags: Flags(NOSCRIPT | LOADING | STALE | FAST),
        acl: &["admin", "dangerous"],
        since: "2.8.12",
        summary: "Returns the replication role.",
        deviation: "Every node answers `master`; the offset is the applied index and the list of replicas is empty.",
        handler: Handler::Node(|_| Ok(NodeCommand::Role)),
        ..ROW
    },
    CommandSpec {
        name: "time",
        flags: Flags(LOADING | STALE | FAST),
        since: "2.6.0",
        summary: "Returns the server time.",
        handler: Handler::Node(|_| Ok(NodeCommand::Time)),
        ..ROW
    },
    CommandSpec {
        name: "wait",
        arity: Arity::Exactly(3),
        flags: Flags(BLOCKING),
        acl: &["connection"],
        group: Group::Generic,
        since: "3.0.0",
        summary: "Blocks until the asynchronous replication of all preceding write commands sent by the connection is completed.",
        deviation: "Counts the other nodes that have the connection's last write on disk. A write is on a majority before it is answered.",
        handler: Handler::Node(parse_wait),
        ..ROW
    },
    CommandSpec {
        name: "slowlog",
        arity: Arity::AtLeast(2),
        flags: Flags(0),
        since: "2.2.12",
        summary: "A container for slow log commands.",
        complexity: "",
        subcommands: SLOWLOG,
        ..ROW
    },
    CommandSpec {
        name: "cluster",
        arity: Arity::AtLeast(2),
        flags: Flags(0),
        since: "3.0.0",
        summary: "A container for Redis Cluster commands.",
        complexity: "",
        deviation: "Always an error: `This instance has cluster support disabled`.",
        handler: Handler::Node(|_| Err(CommandError::ClusterDisabled)),
        ..ROW
    },
    CommandSpec {
        name: "raft",
        arity: Arity::AtLeast(2),
        flags: Flags(0),
        group: Group::Raft,
        since: "redraft",
        summary: "A container for commands about the Raft group.",
        complexity: "",
        subcommands: RAFT,
        ..ROW
    },
];

/// The counters of the selected database, for INFO: `[keys, keys with a deadline]`. Not in the table, so that no client can name it.
pub static KEYSPACE_COUNTS: CommandSpec = CommandSpec {
    name: "keyspace-counts",
    flags: Flags(READONLY | FAST),
    since: "redraft",
    summary: "Returns the counters of the selected database.",
    handler: Handler::Read { check: |_| Ok(()), read: keyspace_counts },
    ..ROW
};

/// What the subcommands of COMMAND have in common.
const COMMAND_ROW: CommandSpec = CommandSpec {
    arity: Arity::AtLeast(2),
    acl: &["connection"],
    since: "2.8.13",
    complexity: "O(N) where N is the number of commands to look up",
    ..ROW
};

const COMMAND: &[CommandSpec] = &[
    CommandSpec {
        name: "count",
        arity: Arity::Exactly(2),
        summary: "Returns a count of commands.",
        complexity: "O(1)",
        handler: Handler::Node(|_| Ok(NodeCommand::Command(CommandQuery::Count))),
        ..COMMAND_ROW
    },
    CommandSpec {
        name: "docs",
        since: "7.0.0",
        summary: "Returns documentary information about one, multiple or all commands.",
        deviation: "Without `arguments` and `history`.",
        handler: Handler::Node(|args| Ok(NodeCommand::Command(CommandQuery::Docs(args[2..].to_vec())))),
        ..COMMAND_ROW
    },
    CommandSpec {
        name: "getkeys",
        arity: Arity::AtLeast(3),
        summary: "Extracts the key names from an arbitrary command.",
        complexity: "O(N) where N is the number of arguments to the command",
        handler: Handler::Node(parse_getkeys),
        ..COMMAND_ROW
    },
    CommandSpec {
        name: "help",
        arity: Arity::Exactly(2),
        since: "5.0.0",
        summary: "Returns helpful text about the different subcommands.",
        complexity: "O(1)",
        handler: Handler::Node(|_| Ok(NodeCommand::Help(COMMAND_HELP))),
        ..COMMAND_ROW
    },
    CommandSpec {
        name: "info",
        summary: "Returns information about one, multiple or all commands.",
        handler: Handler::Node(|args| Ok(NodeCommand::Command(CommandQuery::Info(args[2..].to_vec())))),
        ..COMMAND_ROW
    },
    CommandSpec {
        name: "list",
        since: "7.0.0",
        summary: "Returns a list of command names.",
        complexity: "O(N) where N is the total number of Redis commands",
        handler: Handler::Node(parse_command_list),
        ..COMMAND_ROW
    },
];

/// What the subcommands of CONFIG have in common.
const CONFIG_ROW: CommandSpec =
    CommandSpec { arity: Arity::Exactly(2), flags: Flags(ADMIN | NOSCRIPT | LOADING | STALE), since: "2.0.0", ..ROW };

const CONFIG: &[CommandSpec] = &[
    CommandSpec {
        name: "get",
        arity: Arity::AtLeast(3),
        summary: "Returns the effective values of configuration parameters.",
        complexity: "O(N) when N is the number of configuration parameters provided",
        deviation: "Secrets are not shown.",
        handler: Handler::Node(|args| Ok(NodeCommand::Config(ConfigCommand::Get(args[2..].to_vec())))),
        ..CONFIG_ROW
    },
    CommandSpec {
        name: "help",
        flags: Flags(LOADING | STALE),
        since: "5.0.0",
        summary: "Returns helpful text about the different subcommands.",
        handler: Handler::Node(|_| Ok(NodeCommand::Help(CONFIG_HELP))),
        ..CONFIG_ROW
    },
    CommandSpec {
        name: "resetstat",
        summary: "Resets the server's statistics.",
        handler: Handler::Node(|_| Ok(NodeCommand::Config(ConfigCommand::ResetStat))),
        ..CONFIG_ROW
    },
    CommandSpec {
        name: "rewrite",
        since: "2.8.0",
        summary: "Persists the effective configuration to file.",
        deviation: "Always an error: the configuration file is the operator's.",
        handler: Handler::Node(|_| Err(CommandError::ConfigRewrite)),
        ..CONFIG_ROW
    },
    CommandSpec {
        name: "set",
        arity: Arity::AtLeast(4),
        summary: "Sets configuration parameters in-flight.",
        complexity: "O(N) when N is the number of configuration parameters provided",
        deviation: "Node-local, and lasts until the node restarts.",
        handler: Handler::Node(parse_config_set),
        ..CONFIG_ROW
    },
];

/// What the subcommands of SLOWLOG have in common.
const SLOWLOG_ROW: CommandSpec = CommandSpec { arity: Arity::Exactly(2), flags: Flags(ADMIN | LOADING | STALE), since: "2.2.12", ..ROW };

const SLOWLOG: &[CommandSpec] = &[
    CommandSpec {
        name: "get",
        arity: Arity::AtLeast(2),
        summary: "Returns the slow log's entries.",
        complexity: "O(N) where N is the number of entries returned",
        deviation: "Times go from when a command was read to its reply; commands that travelled together are one entry.",
        handler: Handler::Node(parse_slowlog_get),
        ..SLOWLOG_ROW
    },
    CommandSpec {
        name: "help",
        flags: Flags(LOADING | STALE),
        since: "6.2.0",
        summary: "Returns helpful text about the different subcommands.",
        handler: Handler::Node(|_| Ok(NodeCommand::Help(SLOWLOG_HELP))),
        ..SLOWLOG_ROW
    },
    CommandSpec {
        name: "len",
        summary: "Returns the number of entries in the slow log.",
        handler: Handler::Node(|_| Ok(NodeCommand::SlowLog(SlowLogCommand::Len))),
        ..SLOWLOG_ROW
    },
    CommandSpec {
        name: "reset",
        summary: "Clears all entries from the slow log.",
        complexity: "O(N) where N is the number of entries in the slowlog",
        handler: Handler::Node(|_| Ok(NodeCommand::SlowLog(SlowLogCommand::Reset))),
        ..SLOWLOG_ROW
    },
];

/// What the subcommands of RAFT have in common.
const RAFT_ROW: CommandSpec = CommandSpec {
    arity: Arity::Exactly(2),
    flags: Flags(NOSCRIPT | LOADING | STALE),
    acl: &["dangerous"],
    group: Group::Raft,
    since: "redraft",
    ..ROW
};

const RAFT: &[CommandSpec] = &[
    CommandSpec {
        name: "help",
        summary: "Returns helpful text about the different subcommands.",
        acl: &[],
        handler: Handler::Node(|_| Ok(NodeCommand::Help(RAFT_HELP))),
        ..RAFT_ROW
    },
    CommandSpec {
        name: "nodes",
        summary: "Lists the members of the group as this node knows them.",
        complexity: "O(N) where N is the number of members",
        handler: Handler::Node(|_| Ok(NodeCommand::Raft(RaftQuery::Nodes))),
        ..RAFT_ROW
    },
    CommandSpec {
        name: "remove",
        arity: Arity::Exactly(3),
        flags: Flags(ADMIN | NOSCRIPT),
        summary: "Removes a member for ever; a leader hands leadership over first.",
        handler: Handler::Node(|args| Ok(NodeCommand::Raft(RaftQuery::Remove(node_id(&args[2])?)))),
        ..RAFT_ROW
    },
    CommandSpec {
        name: "status",
        summary: "Returns this node's view of the group.",
        handler: Handler::Node(|_| Ok(NodeCommand::Raft(RaftQuery::Status))),
        ..RAFT_ROW
    },
    CommandSpec {
        name: "transfer",
        arity: Arity::Exactly(3),
        flags: Flags(ADMIN | NOSCRIPT),
        summary: "Hands leadership to a member.",
        handler: Handler::Node(|args| Ok(NodeCommand::Raft(RaftQuery::Transfer(node_id(&args[2])?)))),
        ..RAFT_ROW
    },
    CommandSpec {
        name: "verify",
        flags: Flags(ADMIN | NOSCRIPT),
        summary: "Compares all data of all members as of one index; a replica that a majority contradicts stops.",
        complexity: "O(N) where N is everything that is stored, in the background of each node",
        deviation: "Replies a map: `index`; `result`, which is `equal`, `differs` (a majority is equal, others are not), `undecided` (there is no \
                    majority, and nobody stops) or `incomplete` (who was compared is equal, others are missing); `members`, for each a map \
                    of `node_id`, `state` (`equal`, `differs` or `missing`), `hash`, `cf` and `key`: the column family and the stored key, \
                    which begins with group and namespace, where its data begin to differ from the others'.",
        handler: Handler::Node(|_| Ok(NodeCommand::Raft(RaftQuery::Verify))),
        ..RAFT_ROW
    },
];

const COMMAND_HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "HELP",
    "    Print this help.",
];

const CONFIG_HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
    "HELP",
    "    Print this help.",
];

const SLOWLOG_HELP: &[&str] = &[
    "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
    "HELP",
    "    Print this help.",
];

const RAFT_HELP: &[&str] = &[
    "RAFT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "STATUS",
    "    Return this node's view of the group.",
    "NODES",
    "    Return the members of the group.",
    "REMOVE <node-id>",
    "    Remove a member for ever.",
    "TRANSFER <node-id>",
    "    Hand leadership to a member.",
    "VERIFY",
    "    Compare all data of all members. A replica that a majority contradicts stops.",
    "HELP",
    "    Print this help.",
];

fn keyspace_counts(_: &[Bytes], reader: &Reader<'_>) -> CommandResult {
    let database = reader.database()?;
    let number = |count: u64| Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(Reply::Array(vec![number(database.keys), number(database.expires)]))
}

/// Entries that SLOWLOG GET shows unless told otherwise.
const SLOWLOG_COUNT: usize = 10;

fn parse_slowlog_get(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let count = match args {
        [_, _] => SLOWLOG_COUNT,
        [_, _, count] => match integer(count)? {
            -1 => usize::MAX,
            count => usize::try_from(count).map_err(|_| CommandError::SlowLogCount)?,
        },
        _ => return Err(CommandError::WrongArity("slowlog|get".into())),
    };
    Ok(NodeCommand::SlowLog(SlowLogCommand::Get(count)))
}

fn parse_wait(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let replicas = integer(&args[1])?;
    let timeout = timeout(&args[2])?;
    // Less than nobody is waited for is nobody.
    Ok(NodeCommand::Wait { replicas: u64::try_from(replicas).unwrap_or(0), timeout: (!timeout.is_zero()).then_some(timeout) })
}

fn parse_getkeys(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let command = &args[2..];
    let spec = match table::resolve(command) {
        Ok(spec) => spec,
        Err(CommandError::WrongArity(_)) => {
            let without_keys = table::lookup(&command[0]).is_some_and(|spec| matches!(spec.keys, Keys::None));
            return Err(if without_keys { CommandError::GetKeysNone } else { CommandError::GetKeysArity });
        }
        Err(_) => return Err(CommandError::GetKeysUnknown),
    };
    if matches!(spec.keys, Keys::None) {
        return Err(CommandError::GetKeysNone);
    }
    Ok(NodeCommand::Command(CommandQuery::GetKeys(spec.keys.of(command).cloned().collect())))
}

fn parse_command_list(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let filter = match &args[2..] {
        [] => CommandFilter::None,
        [filterby, kind, value] if filterby.eq_ignore_ascii_case(b"filterby") => match kind.to_ascii_lowercase().as_slice() {
            b"module" => CommandFilter::Module,
            b"aclcat" => CommandFilter::AclCategory(value.clone()),
            b"pattern" => CommandFilter::Pattern(value.clone()),
            _ => return Err(CommandError::Syntax),
        },
        _ => return Err(CommandError::Syntax),
    };
    Ok(NodeCommand::Command(CommandQuery::List(filter)))
}

fn parse_config_set(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let pairs = args[2..].chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(CommandError::Syntax);
    }
    Ok(NodeCommand::Config(ConfigCommand::Set(pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect())))
}

fn node_id(word: &[u8]) -> Result<u64, CommandError> {
    let id = integer(word).ok().and_then(|id| u64::try_from(id).ok());
    id.filter(|id| *id > 0).ok_or(CommandError::NodeId)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::command::node_command::parsed;

    #[track_caller]
    fn check(line: &str, expected: Result<NodeCommand, &str>) {
        assert_eq!(parsed(line), expected.map_err(str::to_owned), "{line}");
    }

    fn words(line: &'static str) -> Vec<Bytes> {
        line.split_whitespace().map(|word| Bytes::from_static(word.as_bytes())).collect()
    }

    #[test]
    fn command_takes_subcommands_or_none() {
        let command = |query| Ok(NodeCommand::Command(query));
        check("command", command(CommandQuery::All));
        check("command count", command(CommandQuery::Count));
        check("command info get set", command(CommandQuery::Info(words("get set"))));
        check("command docs", command(CommandQuery::Docs(vec![])));
        check("command list", command(CommandQuery::List(CommandFilter::None)));
        check("command list filterby pattern x*", command(CommandQuery::List(CommandFilter::Pattern(words("x*")[0].clone()))));
        check("command list filterby aclcat read", command(CommandQuery::List(CommandFilter::AclCategory(words("read")[0].clone()))));
        check("command list filterby module m", command(CommandQuery::List(CommandFilter::Module)));
        check("command list filterby colour red", Err("ERR syntax error"));
        check("command list filterby", Err("ERR syntax error"));
        check("command nope", Err("ERR unknown subcommand 'nope'. Try COMMAND HELP."));
        check("command count 1", Err("ERR wrong number of arguments for 'command|count' command"));
    }

    #[test]
    fn getkeys_finds_keys_or_says_why_not() {
        check("command getkeys mset a 1 b 2", Ok(NodeCommand::Command(CommandQuery::GetKeys(words("a b")))));
        check("command getkeys nope a", Err("ERR Invalid command specified"));
        check("command getkeys ping", Err("ERR The command has no key arguments"));
        check("command getkeys echo", Err("ERR The command has no key arguments"));
        check("command getkeys get", Err("ERR Invalid number of arguments specified for command"));
    }

    #[test]
    fn config_takes_patterns_and_pairs() {
        let config = |command| Ok(NodeCommand::Config(command));
        check("config get a b*", config(ConfigCommand::Get(words("a b*"))));
        check("config set a 1", config(ConfigCommand::Set(vec![(words("a")[0].clone(), words("1")[0].clone())])));
        check("config set a 1 b", Err("ERR syntax error"));
        check("config set a", Err("ERR wrong number of arguments for 'config|set' command"));
        check("config resetstat", config(ConfigCommand::ResetStat));
        assert!(parsed("config rewrite").is_err());
    }

    #[test]
    fn wait_takes_a_number_and_a_timeout() {
        let wait = |replicas, ms: u64| Ok(NodeCommand::Wait { replicas, timeout: (ms > 0).then(|| Duration::from_millis(ms)) });
        check("wait 2 100", wait(2, 100));
        check("wait 1 0", wait(1, 0));
        check("wait -1 5", wait(0, 5));
        check("wait x 0", Err("ERR value is not an integer or out of range"));
        check("wait 0 -1", Err("ERR timeout is negative"));
        check("wait 0 x", Err("ERR timeout is not an integer or out of range"));
    }

    #[test]
    fn raft_names_nodes_by_positive_numbers() {
        let raft = |query| Ok(NodeCommand::Raft(query));
        check("raft status", raft(RaftQuery::Status));
        check("RAFT NODES", raft(RaftQuery::Nodes));
        check("raft remove 3", raft(RaftQuery::Remove(3)));
        check("raft transfer 1", raft(RaftQuery::Transfer(1)));
        check("raft verify", raft(RaftQuery::Verify));
        check("raft remove 0", Err("ERR node id must be a positive integer"));
        check("raft remove x", Err("ERR node id must be a positive integer"));
        check("raft elect", Err("ERR unknown subcommand 'elect'. Try RAFT HELP."));
    }

    #[test]
    fn cluster_is_disabled_whatever_is_asked() {
        check("cluster info", Err("ERR This instance has cluster support disabled"));
        check("cluster nodes x", Err("ERR This instance has cluster support disabled"));
        check("cluster", Err("ERR wrong number of arguments for 'cluster' command"));
    }
}
