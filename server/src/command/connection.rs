//! PING, ECHO, HELLO, AUTH, SELECT, QUIT, RESET, READONLY and READWRITE: rows and arguments.
//! What they do to the connection is the business of `net::client`. CLIENT has a file of its own.
//! Source: the command pages of Redis 7.2 and `networking.c`, `acl.c`, `db.c` for the order of the checks.

use bytes::Bytes;
use resp::Protocol;

use super::node_command::{Credentials, Hello, NodeCommand, Secret};
use super::number::{database, integer};
use super::quoting::quoted;
use super::spec::flags::{ALLOW_BUSY, FAST, LOADING, NO_AUTH, NOSCRIPT, STALE};
use super::spec::{Arity, BLANK, CommandSpec, Flags, Group, Handler};
use crate::error::CommandError;

/// What the rows below have in common.
const ROW: CommandSpec = CommandSpec {
    arity: Arity::Exactly(1),
    flags: Flags(LOADING | STALE | FAST),
    acl: &["connection"],
    group: Group::Connection,
    since: "1.0.0",
    complexity: "O(1)",
    ..BLANK
};

/// Commands allowed before authentication have these flags in Redis.
const BEFORE_AUTH: Flags = Flags(NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY);

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "ping",
        arity: Arity::AtLeast(1),
        flags: Flags(FAST),
        summary: "Returns the server's liveliness response.",
        handler: Handler::Node(parse_ping),
        ..ROW
    },
    CommandSpec {
        name: "echo",
        arity: Arity::Exactly(2),
        summary: "Returns the given string.",
        handler: Handler::Node(|args| Ok(NodeCommand::Echo(args[1].clone()))),
        ..ROW
    },
    CommandSpec {
        name: "hello",
        arity: Arity::AtLeast(1),
        flags: BEFORE_AUTH,
        since: "6.0.0",
        summary: "Handshakes with the Redis server.",
        handler: Handler::Node(parse_hello),
        ..ROW
    },
    CommandSpec {
        name: "auth",
        arity: Arity::AtLeast(2),
        flags: BEFORE_AUTH,
        summary: "Authenticates the connection.",
        complexity: "O(N) where N is the number of passwords defined for the user",
        deviation: "There is one user, `default`; its password is `requirepass`.",
        handler: Handler::Node(parse_auth),
        ..ROW
    },
    CommandSpec {
        name: "select",
        arity: Arity::Exactly(2),
        summary: "Changes the selected database.",
        handler: Handler::Node(|args| Ok(NodeCommand::Select(database(&args[1])?))),
        ..ROW
    },
    CommandSpec {
        name: "quit",
        arity: Arity::AtLeast(1),
        flags: BEFORE_AUTH,
        summary: "Closes the connection.",
        handler: Handler::Node(|_| Ok(NodeCommand::Quit)),
        ..ROW
    },
    CommandSpec {
        name: "reset",
        flags: BEFORE_AUTH,
        since: "6.2.0",
        summary: "Resets the connection.",
        handler: Handler::Node(|_| Ok(NodeCommand::Reset)),
        ..ROW
    },
    CommandSpec {
        name: "readonly",
        since: "3.0.0",
        summary: "Enables read-only queries for a connection.",
        deviation: "Accepted without cluster mode; the connection then reads as the option `readonly-reads` says.",
        handler: Handler::Node(|_| Ok(NodeCommand::ReadOnly)),
        ..ROW
    },
    CommandSpec {
        name: "readwrite",
        since: "3.0.0",
        summary: "Ends read-only queries for a connection.",
        deviation: "Accepted without cluster mode; the connection's reads are linearizable again.",
        handler: Handler::Node(|_| Ok(NodeCommand::ReadWrite)),
        ..ROW
    },
];

fn parse_ping(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    if args.len() > 2 {
        return Err(CommandError::WrongArity("ping".into()));
    }
    Ok(NodeCommand::Ping(args.get(1).cloned()))
}

fn parse_hello(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    let mut hello = Hello::default();
    if let Some(version) = args.get(1) {
        hello.protocol = Some(match integer(version).map_err(|_| CommandError::ProtocolNotAnInteger)? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(CommandError::NoProto),
        });
    }
    let mut options = args.get(2..).unwrap_or_default().iter();
    while let Some(option) = options.next() {
        let rest = options.as_slice();
        if option.eq_ignore_ascii_case(b"auth") && rest.len() >= 2 {
            hello.auth = Some(Credentials { user: Some(rest[0].clone()), password: Secret(rest[1].clone()) });
            options = rest[2..].iter();
        } else if option.eq_ignore_ascii_case(b"setname") && !rest.is_empty() {
            check_name(&rest[0], CommandError::ClientName)?;
            hello.name = Some(rest[0].clone());
            options = rest[1..].iter();
        } else {
            return Err(CommandError::HelloOption(quoted(option)));
        }
    }
    Ok(NodeCommand::Hello(hello))
}

fn parse_auth(args: &[Bytes]) -> Result<NodeCommand, CommandError> {
    match args {
        [_, password] => Ok(NodeCommand::Auth(Credentials { user: None, password: Secret(password.clone()) })),
        [_, user, password] => Ok(NodeCommand::Auth(Credentials { user: Some(user.clone()), password: Secret(password.clone()) })),
        _ => Err(CommandError::Syntax),
    }
}

/// Names stand in the lines of CLIENT LIST, so they are printable ASCII without spaces.
pub(super) fn check_name(name: &[u8], error: CommandError) -> Result<(), CommandError> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::node_command::parsed;

    #[track_caller]
    fn check(line: &str, expected: Result<NodeCommand, &str>) {
        assert_eq!(parsed(line), expected.map_err(str::to_owned), "{line}");
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn credentials(user: Option<&'static str>, password: &'static str) -> Credentials {
        Credentials { user: user.map(bytes), password: Secret(bytes(password)) }
    }

    #[test]
    fn ping_and_echo_take_their_message() {
        check("PING", Ok(NodeCommand::Ping(None)));
        check("ping hi", Ok(NodeCommand::Ping(Some(bytes("hi")))));
        check("ping a b", Err("ERR wrong number of arguments for 'ping' command"));
        check("echo hi", Ok(NodeCommand::Echo(bytes("hi"))));
    }

    #[test]
    fn hello_takes_version_auth_and_name() {
        let hello = |protocol, auth, name: Option<&'static str>| Ok(NodeCommand::Hello(Hello { protocol, auth, name: name.map(bytes) }));
        check("hello", hello(None, None, None));
        check("hello 2", hello(Some(Protocol::Resp2), None, None));
        check("hello 3", hello(Some(Protocol::Resp3), None, None));
        check("hello 3 AUTH u p", hello(Some(Protocol::Resp3), Some(credentials(Some("u"), "p")), None));
        check("hello 3 setname n auth u p", hello(Some(Protocol::Resp3), Some(credentials(Some("u"), "p")), Some("n")));
        check("hello 1", Err("NOPROTO unsupported protocol version"));
        check("hello 4", Err("NOPROTO unsupported protocol version"));
        check("hello x", Err("ERR Protocol version is not an integer or out of range"));
        check("hello 3 auth u", Err("ERR Syntax error in HELLO option 'auth'"));
        check("hello 3 what", Err("ERR Syntax error in HELLO option 'what'"));
        check("hello 3 what\0ever", Err("ERR Syntax error in HELLO option 'what'"));
        check("hello 3 setname \u{1}", Err("ERR Client names cannot contain spaces, newlines or special characters."));
    }

    #[test]
    fn auth_takes_one_or_two_words() {
        check("auth p", Ok(NodeCommand::Auth(credentials(None, "p"))));
        check("auth u p", Ok(NodeCommand::Auth(credentials(Some("u"), "p"))));
        check("auth u p x", Err("ERR syntax error"));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        assert!(!format!("{:?}", credentials(None, "hunter2")).contains("hunter2"));
    }

    #[test]
    fn select_names_one_of_sixteen_databases() {
        check("select 0", Ok(NodeCommand::Select(0)));
        check("select 15", Ok(NodeCommand::Select(15)));
        check("select 16", Err("ERR DB index is out of range"));
        check("select -1", Err("ERR DB index is out of range"));
        check("select x", Err("ERR value is not an integer or out of range"));
        check("select 2147483648", Err("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }

    #[test]
    fn the_rest_takes_no_notice_of_arguments() {
        check("quit", Ok(NodeCommand::Quit));
        check("quit now", Ok(NodeCommand::Quit));
        check("reset", Ok(NodeCommand::Reset));
        check("readonly", Ok(NodeCommand::ReadOnly));
        check("readwrite", Ok(NodeCommand::ReadWrite));
    }
}
