//! CLIENT: rows of its subcommands and their arguments. What they do is the business of `net::client`.
//! Source: `clientCommand` in Redis 7.2's `networking.c`, whose texts and order of checks are kept.

use std::time::Duration;

use bytes::Bytes;

use super::connection::check_name;
use super::node_command::{ClientCommand, ClientFilter, ClientSelection, ClientType, NodeCommand, PauseMode, ReplyMode, Switch};
use super::number::integer;
use super::quoting::quoted;
use super::spec::flags::{ADMIN, LOADING, NOSCRIPT, STALE};
use super::spec::{Arity, BLANK, CommandSpec, Flags, Group, Handler};
use crate::error::CommandError;

/// What the subcommands have in common.
const ROW: CommandSpec = CommandSpec {
    arity: Arity::Exactly(2),
    flags: Flags(NOSCRIPT | LOADING | STALE),
    acl: &["connection"],
    group: Group::Connection,
    since: "2.4.0",
    complexity: "O(1)",
    ..BLANK
};

/// What the subcommands for administrators have in common.
const ADMIN_ROW: CommandSpec = CommandSpec { flags: Flags(ADMIN | NOSCRIPT | LOADING | STALE), ..ROW };

pub(super) const COMMANDS: &[CommandSpec] = &[CommandSpec {
    name: "client",
    arity: Arity::AtLeast(2),
    flags: Flags(0),
    acl: &[],
    summary: "A container for client connection commands.",
    complexity: "",
    deviation: "Node-local. CACHING, GETREDIR, TRACKING, TRACKINGINFO and UNBLOCK are unknown subcommands.",
    subcommands: SUBCOMMANDS,
    ..ROW
}];

const SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "getname",
        since: "2.6.9",
        summary: "Returns the name of the connection.",
        handler: Handler::Node(|_| Ok(NodeCommand::Client(ClientCommand::GetName))),
        ..ROW
    },
    CommandSpec {
        name: "help",
        flags: Flags(LOADING | STALE),
        since: "5.0.0",
        summary: "Returns helpful text about the different subcommands.",
        handler: Handler::Node(|_| Ok(NodeCommand::Help(HELP))),
        ..ROW
    },
    CommandSpec {
        name: "id",
        since: "5.0.0",
        summary: "Returns the unique client ID of the connection.",
        handler: Handler::Node(|_| Ok(NodeCommand::Client(ClientCommand::Id))),
        ..ROW
    },
    CommandSpec {
        name: "info",
        since: "6.2.0",
        summary: "Returns information about the connection.",
        handler: Handler::Node(|_| Ok(NodeCommand::Client(ClientCommand::Info))),
        ..ROW
    },
    CommandSpec {
        name: "kill",
        arity: Arity::AtLeast(3),
        summary: "Terminates open connections.",
        complexity: "O(N) where N is the number of client connections",
        handler: Handler::Node(parse_kill),
        ..ADMIN_ROW
    },
    CommandSpec {
        name: "list",
        arity: Arity::AtLeast(2),
        summary: "Lists open connections.",
        complexity: "O(N) where N is the number of client connections",
        handler: Handler::Node(parse_list),
        ..ADMIN_ROW
    },
    CommandSpec {
        name: "no-evict",
        arity: Arity::Exactly(3),
        since: "7.0.0",
        summary: "Sets the client eviction mode of the connection.",
        deviation: "Accepted and shown in CLIENT LIST; clients are never evicted.",
        handler: Handler::Node(|args| Ok(NodeCommand::Client(ClientCommand::NoEvict(switch(&args[2])?)))),
        ..ADMIN_ROW
    },
    CommandSpec {
        name: "no-touch",
        arity: Arity::Exactly(3),
        since: "7.2.0",
        summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
        deviation: "Accepted and shown in CLIENT LIST; there is no LRU or LFU.",
        handler: Handler::Node(|args| Ok(NodeCommand::Client(ClientCommand::NoTouch(switch(&args[2])?)))),
        ..ROW
    },
    CommandSpec {
        name: "pause",
        arity: Arity::AtLeast(3),
        since: "2.9.50",
        summary: "Suspends commands processing.",
        deviation: "Node-local: clients of other nodes go on.",
        handler: Handler::Node(parse_pause),
        ..ADMIN_ROW
    },
    CommandSpec {
        name: "reply",
        arity: Arity::Exactly(3),
        since: "3.2.0",
        summary: "Instructs the server whether to reply to commands.",
        handler: Handler::Node(parse_reply),
        ..ROW
    },
    CommandSpec {
        name: "setinfo",
        arity: Arity::Exactly(4),
        since: "7.2.0",
        summary: "Sets information specific to the client or connection.",
        handler: Handler::Node(parse_setinfo),
        ..ROW
    },
    CommandSpec {
        name: "setname",
        arity: Arity::Exactly(3),
        since: "2.6.9",
        summary: "Sets the connection name.",
        handler: Handler::Node(parse_setname),
        ..ROW
    },
    CommandSpec {
        name: "unpause",
        since: "6.2.0",
        summary: "Resumes processing commands from paused clients.",
        complexity: "O(N) Where N is the number of paused clients",
        handler: Handler::Node(|_| Ok(NodeCommand::Client(ClientCommand::Unpause))),
        ..ADMIN_ROW
    },
];

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "    * ID <client-id>",
    "      Kill connections by client id.",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
    "HELP",
    "    Print this help.",
];

fn parse_setname(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    check_name(&args[2], CommandError::ClientName)?;
    Ok(NodeCommand::Client(ClientCommand::SetName(args[2].clone())))
}

fn parse_setinfo(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let value = args[3].clone();
    if args[2].eq_ignore_ascii_case(b"lib-name") {
        check_name(&value, CommandError::ClientAttribute("lib-name"))?;
        Ok(NodeCommand::Client(ClientCommand::SetLibName(value)))
    } else if args[2].eq_ignore_ascii_case(b"lib-ver") {
        check_name(&value, CommandError::ClientAttribute("lib-ver"))?;
        Ok(NodeCommand::Client(ClientCommand::SetLibVersion(value)))
    } else {
        Err(CommandError::UnrecognizedOption(quoted(&args[2])))
    }
}

fn parse_list(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let selection = match &args[2..] {
        [] => ClientSelection::All,
        [option, kind] if option.eq_ignore_ascii_case(b"type") => ClientSelection::Type(client_type(kind)?),
        [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let id = |id: &Bytes| integer(id).map_err(|_| CommandError::InvalidClientId);
            // An id below one is nobody's.
            let known = |id: i64| u64::try_from(id).unwrap_or(0);
            ClientSelection::Ids(ids.iter().map(|word| id(word).map(known)).collect::<Result<_, _>>()?)
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(NodeCommand::Client(ClientCommand::List(selection)))
}

/// `CLIENT KILL addr` answers OK and may hit the asking client; the form with options counts and spares it unless told otherwise.
fn parse_kill(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    if let [_, _, address] = args {
        return Ok(NodeCommand::Client(ClientCommand::KillAddress(text(address))));
    }
    let mut filter = ClientFilter { id: None, address: None, local_address: None, client_type: None, user: None, skip_me: Switch::On };
    let options = args[2..].chunks_exact(2);
    let odd = !options.remainder().is_empty();
    for option in options {
        let [name, value] = option else { unreachable!("chunks have two elements") };
        match name.to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = integer(value).ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                filter.id = Some(id.ok_or(CommandError::ClientIdNotPositive)?);
            }
            b"type" => filter.client_type = Some(client_type(value)?),
            b"addr" => filter.address = Some(text(value)),
            b"laddr" => filter.local_address = Some(text(value)),
            b"user" if value.as_ref() == b"default" => filter.user = Some(value.clone()),
            b"user" => return Err(CommandError::NoSuchUser(quoted(value))),
            b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.skip_me = Switch::On,
            b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.skip_me = Switch::Off,
            _ => return Err(CommandError::Syntax),
        }
    }
    if odd { Err(CommandError::Syntax) } else { Ok(NodeCommand::Client(ClientCommand::Kill(filter))) }
}

fn parse_pause(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let mode = match args.get(3) {
        None => PauseMode::All,
        Some(mode) if mode.eq_ignore_ascii_case(b"write") => PauseMode::Write,
        Some(mode) if mode.eq_ignore_ascii_case(b"all") => PauseMode::All,
        Some(_) => return Err(CommandError::PauseMode),
    };
    if args.len() > 4 {
        return Err(CommandError::Syntax);
    }
    Ok(NodeCommand::Client(ClientCommand::Pause { duration: timeout(&args[2])?, mode }))
}

fn parse_reply(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let mode = match args[2].to_ascii_lowercase().as_slice() {
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        b"skip" => ReplyMode::Skip,
        _ => return Err(CommandError::Syntax),
    };
    Ok(NodeCommand::Client(ClientCommand::Reply(mode)))
}

/// A timeout in milliseconds.
pub(super) fn timeout(word: &[u8]) -> Result<Duration, CommandError> {
    let ms = integer(word).map_err(|_| CommandError::TimeoutNotAnInteger)?;
    let ms = u64::try_from(ms).map_err(|_| CommandError::TimeoutNegative)?;
    // Redis adds the time of day in milliseconds; what does not fit in 63 bits then is out of range. No clock is needed to refuse the
    // last 100,000 years of them.
    if ms > i64::MAX as u64 - (1 << 52) { Err(CommandError::TimeoutOutOfRange) } else { Ok(Duration::from_millis(ms)) }
}

fn switch(word: &[u8]) -> Result<Switch, CommandError> {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => Ok(Switch::On),
        b"off" => Ok(Switch::Off),
        _ => Err(CommandError::Syntax),
    }
}

fn client_type(word: &[u8]) -> Result<ClientType, CommandError> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(ClientType::Normal),
        b"slave" | b"replica" => Ok(ClientType::Replica),
        b"pubsub" => Ok(ClientType::PubSub),
        b"master" => Ok(ClientType::Master),
        _ => Err(CommandError::UnknownClientType(quoted(word))),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::node_command::parsed;

    #[track_caller]
    fn check(line: &str, expected: Result<ClientCommand, &str>) {
        assert_eq!(parsed(line), expected.map(NodeCommand::Client).map_err(str::to_owned), "{line}");
    }

    fn filter() -> ClientFilter {
        ClientFilter { id: None, address: None, local_address: None, client_type: None, user: None, skip_me: Switch::On }
    }

    #[test]
    fn simple_subcommands_are_told_apart() {
        check("client id", Ok(ClientCommand::Id));
        check("CLIENT GETNAME", Ok(ClientCommand::GetName));
        check("client info", Ok(ClientCommand::Info));
        check("client unpause", Ok(ClientCommand::Unpause));
        check("client no-evict on", Ok(ClientCommand::NoEvict(Switch::On)));
        check("client no-touch OFF", Ok(ClientCommand::NoTouch(Switch::Off)));
        check("client no-evict maybe", Err("ERR syntax error"));
        check("client reply off", Ok(ClientCommand::Reply(ReplyMode::Off)));
        check("client reply x", Err("ERR syntax error"));
        check("client id 1", Err("ERR wrong number of arguments for 'client|id' command"));
        check("client", Err("ERR wrong number of arguments for 'client' command"));
        check("client maint_notifications on", Err("ERR unknown subcommand 'maint_notifications'. Try CLIENT HELP."));
    }

    #[test]
    fn names_and_library_info_are_printable() {
        check("client setname n", Ok(ClientCommand::SetName(Bytes::from_static(b"n"))));
        check("client setname ", Ok(ClientCommand::SetName(Bytes::new())));
        check("client setname a\u{7f}", Err("ERR Client names cannot contain spaces, newlines or special characters."));
        check("client setinfo LIB-NAME redis-py", Ok(ClientCommand::SetLibName(Bytes::from_static(b"redis-py"))));
        check("client setinfo lib-ver 1.2", Ok(ClientCommand::SetLibVersion(Bytes::from_static(b"1.2"))));
        check("client setinfo lib-ver 1\n2", Err("ERR lib-ver cannot contain spaces, newlines or special characters."));
        check("client setinfo colour red", Err("ERR Unrecognized option 'colour'"));
    }

    #[test]
    fn list_selects_by_type_or_id() {
        check("client list", Ok(ClientCommand::List(ClientSelection::All)));
        check("client list type normal", Ok(ClientCommand::List(ClientSelection::Type(ClientType::Normal))));
        check("client list type slave", Ok(ClientCommand::List(ClientSelection::Type(ClientType::Replica))));
        check("client list id 3 1 -4", Ok(ClientCommand::List(ClientSelection::Ids(vec![3, 1, 0]))));
        check("client list type x", Err("ERR Unknown client type 'x'"));
        check("client list id", Err("ERR syntax error"));
        check("client list id x", Err("ERR Invalid client ID"));
        check("client list what", Err("ERR syntax error"));
    }

    #[test]
    fn kill_takes_an_address_or_filters() {
        let kill = |filter| Ok(ClientCommand::Kill(filter));
        check("client kill 127.0.0.1:5", Ok(ClientCommand::KillAddress("127.0.0.1:5".to_owned())));
        check("client kill id 5", kill(ClientFilter { id: Some(5), ..filter() }));
        check(
            "client kill addr a:1 laddr b:2",
            kill(ClientFilter { address: Some("a:1".into()), local_address: Some("b:2".into()), ..filter() }),
        );
        check(
            "client kill type pubsub skipme no",
            kill(ClientFilter { client_type: Some(ClientType::PubSub), skip_me: Switch::Off, ..filter() }),
        );
        check("client kill user default", kill(ClientFilter { user: Some(Bytes::from_static(b"default")), ..filter() }));
        check("client kill user bob", Err("ERR No such user 'bob'"));
        check("client kill id 0", Err("ERR client-id should be greater than 0"));
        check("client kill id x", Err("ERR client-id should be greater than 0"));
        check("client kill type x", Err("ERR Unknown client type 'x'"));
        check("client kill skipme maybe", Err("ERR syntax error"));
        check("client kill id 1 addr", Err("ERR syntax error"));
    }

    #[test]
    fn pause_takes_milliseconds_and_a_mode() {
        let pause = |ms, mode| Ok(ClientCommand::Pause { duration: Duration::from_millis(ms), mode });
        check("client pause 10", pause(10, PauseMode::All));
        check("client pause 10 write", pause(10, PauseMode::Write));
        check("client pause 10 ALL", pause(10, PauseMode::All));
        check("client pause 10 some", Err("ERR CLIENT PAUSE mode must be WRITE or ALL"));
        check("client pause x", Err("ERR timeout is not an integer or out of range"));
        check("client pause -1", Err("ERR timeout is negative"));
        check("client pause 9223372036854775807", Err("ERR timeout is out of range"));
    }
}
