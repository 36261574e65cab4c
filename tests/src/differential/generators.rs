//! What is sent: a generator for each command of the server, and scenes of several commands that belong together.
//! A command of the server that stands in neither table makes the run fail, so that a new command is covered from its first day.

use bytes::Bytes;

use super::arguments::Source;
use super::sequence::{Action, Command};

/// What follows a generated command in the same step, so that the two servers agree again on what the command may leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    /// EXISTS of the first argument. Redis keeps a key whose deadline has passed, and counts it, until somebody looks at it.
    Look,
    /// SET of the first argument: both may have written different sums.
    Overwrite,
}

/// How a command's arguments come about.
struct Generator {
    /// As COMMAND LIST has it: `get`, `client|id`.
    name: &'static str,
    /// How often, compared with the others.
    weight: usize,
    after: After,
    arguments: fn(&mut Source) -> Vec<Bytes>,
}

const fn row(name: &'static str, weight: usize, arguments: fn(&mut Source) -> Vec<Bytes>) -> Generator {
    Generator { name, weight, after: After::Nothing, arguments }
}

const fn followed(after: After, generator: Generator) -> Generator {
    Generator { after, ..generator }
}

const GENERATORS: &[Generator] = &[
    // Strings.
    row("append", 20, |source| vec![source.key(), source.value()]),
    row("decr", 10, |source| vec![source.key()]),
    row("decrby", 10, |source| vec![source.key(), source.integer()]),
    row("get", 40, |source| vec![source.key()]),
    row("getdel", 10, |source| vec![source.key()]),
    followed(After::Look, row("getex", 30, getex)),
    row("getrange", 20, |source| vec![source.key(), source.integer(), source.integer()]),
    row("getset", 10, |source| vec![source.key(), source.value()]),
    row("incr", 20, |source| vec![source.key()]),
    row("incrby", 20, |source| vec![source.key(), source.integer()]),
    followed(After::Overwrite, row("incrbyfloat", 20, |source| vec![source.key(), source.float()])),
    row("mget", 20, |source| source.keys(6)),
    row("mset", 20, pairs),
    row("msetnx", 20, pairs),
    row("psetex", 10, |source| vec![source.key(), source.milliseconds(), source.value()]),
    followed(After::Look, row("set", 120, set)),
    row("setex", 10, |source| vec![source.key(), source.seconds(), source.value()]),
    row("setnx", 10, |source| vec![source.key(), source.value()]),
    row("setrange", 20, |source| vec![source.key(), source.offset(), source.value()]),
    row("strlen", 10, |source| vec![source.key()]),
    row("substr", 10, |source| vec![source.key(), source.integer(), source.integer()]),
    // Keys of any type.
    row("copy", 30, copy),
    row("del", 20, |source| source.keys(3)),
    row("exists", 20, |source| source.keys(4)),
    row("expire", 30, |source| expire(source, Source::seconds)),
    row("expireat", 20, |source| expire(source, Source::unix_seconds)),
    row("expiretime", 10, |source| vec![source.key()]),
    row("keys", 20, |source| vec![if source.percent(3) { source.high_range() } else { source.pattern() }]),
    row("move", 20, |source| vec![source.key(), source.database()]),
    row("persist", 10, |source| vec![source.key()]),
    row("pexpire", 20, |source| expire(source, Source::milliseconds)),
    row("pexpireat", 20, |source| expire(source, Source::unix_milliseconds)),
    row("pexpiretime", 10, |source| vec![source.key()]),
    row("pttl", 10, |source| vec![source.key()]),
    row("randomkey", 4, |_| vec![]),
    row("rename", 20, |source| vec![source.key(), source.key()]),
    row("renamenx", 20, |source| vec![source.key(), source.key()]),
    row("scan", 20, scan),
    row("touch", 10, |source| source.keys(4)),
    row("ttl", 10, |source| vec![source.key()]),
    row("type", 10, |source| vec![source.key()]),
    row("unlink", 10, |source| source.keys(3)),
    row("wait", 2, wait),
    // Databases.
    row("dbsize", 10, |_| vec![]),
    row("flushall", 1, |source| option_or_none(source, &["sync", "async", "now", ""])),
    row("flushdb", 2, |source| option_or_none(source, &["sync", "async", "now", ""])),
    row("select", 30, |source| vec![source.database()]),
    row("swapdb", 6, |source| vec![source.database(), source.database()]),
    // The connection and the server.
    row("auth", 2, |source| (0..=source.below(3)).map(|_| source.word(&["default", "nobody", "secret"])).collect()),
    row("client|getname", 2, |_| vec![]),
    row("client|id", 1, |_| vec![]),
    row("client|info", 1, |_| vec![]),
    row("client|kill", 1, client_kill),
    row("client|list", 1, client_list),
    row("client|no-evict", 1, |source| vec![source.word(&["on", "off", "maybe"])]),
    row("client|pause", 1, client_pause),
    row("client|reply", 1, |source| vec![source.word(&["on", "yes", ""])]),
    row("client|setname", 2, |source| vec![one_text(source, &["worker", "", "a b", "line\n", "\u{e9}"])]),
    row("client|unpause", 1, |_| vec![]),
    row("cluster", 1, |source| vec![source.word(&["info", "nodes", "slots", "help", "nope"])]),
    row("command|getkeys", 2, getkeys),
    row("command|list", 1, command_list),
    row("config", 1, |source| vec![source.word(&["nope", ""])]),
    row("config|get", 2, |source| vec![one_text(source, &["nope*", "databases", "", "proto-max-bulk-le?"])]),
    row("config|resetstat", 1, |_| vec![]),
    row("config|rewrite", 1, |_| vec![]),
    row("config|set", 2, config_set),
    row("client", 1, |source| vec![source.word(&["nope", ""])]),
    row("command", 1, |source| vec![source.word(&["nope", ""])]),
    row("echo", 4, |source| vec![source.value()]),
    row("hello", 4, hello),
    row("info", 1, |source| vec![source.word(&["server", "memory", "nope"])]),
    row("ping", 4, |source| if source.percent(50) { vec![source.value()] } else { vec![] }),
    row("quit", 1, |_| vec![]),
    row("readonly", 1, |_| vec![]),
    row("readwrite", 1, |_| vec![]),
    row("reset", 1, |_| vec![]),
    row("role", 1, |_| vec![]),
    row("time", 1, |_| vec![]),
];

/// Commands that are not sent, and why.
pub(super) const NOT_SENT: &[(&str, &str)] = &[
    ("client|help", "lists the subcommands there are, and each server has its own"),
    ("client|no-touch", "Redis 7.0 does not have it"),
    ("client|setinfo", "Redis 7.0 does not have it"),
    ("command|count", "each server has its own commands"),
    ("command|docs", "each server has its own commands"),
    ("command|help", "lists the subcommands there are, and each server has its own"),
    ("command|info", "is compared for every command by a test of its own"),
    ("config|help", "lists the subcommands there are, and each server has its own"),
    ("raft", "redraft's own"),
    ("range", "redraft's own"),
    ("revision", "redraft's own"),
    ("entry", "redraft's own"),
    ("setrev", "redraft's own"),
    ("delrev", "redraft's own"),
    ("batch", "redraft's own"),
    ("slowlog", "what was slow depends on the machine"),
];

/// Several commands that make sense together.
type Scene = fn(&mut Source) -> Action;

/// All scenes, and how often, compared with the commands.
const SCENES: &[(usize, Scene)] = &[(10, unknown_command), (12, iteration), (8, exact_sums), (2, silence)];

/// The rows that the server lacks, and the server's commands, subcommands included, that have no row.
pub(super) fn missing(names: &[String]) -> Vec<String> {
    let is_known = |name: &str| {
        let not_sent = NOT_SENT.iter().any(|(prefix, _)| name == *prefix || name.starts_with(&format!("{prefix}|")));
        not_sent || GENERATORS.iter().any(|generator| generator.name == name)
    };
    let uncovered = names.iter().filter(|name| !is_known(name)).map(|name| format!("{name} has no generator"));
    let rows = GENERATORS.iter().map(|generator| generator.name).chain(NOT_SENT.iter().map(|(name, _)| *name));
    let stale = rows.filter(|row| !names.iter().any(|name| name == row)).map(|row| format!("{row} is not a command of the server"));
    uncovered.chain(stale).collect()
}

/// A random action.
pub(super) fn action(source: &mut Source) -> Action {
    let scenes: usize = SCENES.iter().map(|(weight, _)| weight).sum();
    let commands: usize = GENERATORS.iter().map(|generator| generator.weight).sum();
    let mut at = source.below(scenes + commands);
    for (weight, scene) in SCENES {
        match at.checked_sub(*weight) {
            None => return scene(source),
            Some(rest) => at = rest,
        }
    }
    for generator in GENERATORS {
        match at.checked_sub(generator.weight) {
            None => return generated(generator, source),
            Some(rest) => at = rest,
        }
    }
    unreachable!("the draw is below the sum of all weights")
}

fn generated(generator: &Generator, source: &mut Source) -> Action {
    let arguments = (generator.arguments)(source);
    let follower = match (generator.after, arguments.first()) {
        (After::Look, Some(key)) => Some(Command::new(vec!["EXISTS".into(), key.clone()])),
        (After::Overwrite, Some(key)) => Some(Command::new(vec!["SET".into(), key.clone(), "7".into()])),
        (After::Nothing, _) | (_, None) => None,
    };
    let mut args: Vec<Bytes> = generator.name.split('|').map(|word| source.word(&[word])).collect();
    args.extend(arguments);
    // The first two could then hit or stop a client that takes part, and the third set an option, each of which has its own bounds. The
    // others differ between Redis 7.0 and 7.2: the one in how many arguments it wants, the other in whether a wrong password or a wrong
    // option goes first.
    if !matches!(generator.name, "client|kill" | "client|pause" | "config|set" | "command|getkeys" | "hello") {
        change_count(&mut args, source);
    }
    Action::Commands(std::iter::once(Command::new(args)).chain(follower).collect())
}

/// Now and then takes arguments away or adds one.
fn change_count(args: &mut Vec<Bytes>, source: &mut Source) {
    match source.below(60) {
        0 => args.truncate(1 + source.below(args.len())),
        1 => args.push(source.word(&["x", "nx", "-1", "", "get"])),
        _ => {}
    }
}

fn one_text(source: &mut Source, texts: &[&'static str]) -> Bytes {
    source.one_of(texts).into()
}

fn option_or_none(source: &mut Source, options: &[&str]) -> Vec<Bytes> {
    if source.percent(50) { vec![source.word(options)] } else { vec![] }
}

fn pairs(source: &mut Source) -> Vec<Bytes> {
    source.keys(4).into_iter().flat_map(|key| [key, source.value()]).collect()
}

/// EX, PX, EXAT or PXAT with its time.
fn time_option(source: &mut Source) -> Vec<Bytes> {
    match source.below(4) {
        0 => vec![source.word(&["ex"]), source.seconds()],
        1 => vec![source.word(&["px"]), source.milliseconds()],
        2 => vec![source.word(&["exat"]), source.unix_seconds()],
        _ => vec![source.word(&["pxat"]), source.unix_milliseconds()],
    }
}

fn set(source: &mut Source) -> Vec<Bytes> {
    let mut arguments = vec![source.key(), source.value()];
    for _ in 0..source.one_of(&[0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4]) {
        match source.below(20) {
            0..6 => arguments.extend(time_option(source)),
            6..10 => arguments.push(source.word(&["nx", "xx"])),
            10..15 => arguments.push(source.word(&["get"])),
            15..19 => arguments.push(source.word(&["keepttl"])),
            _ => arguments.push(source.word(&["persist", "ex", "", "ch"])),
        }
    }
    arguments
}

fn getex(source: &mut Source) -> Vec<Bytes> {
    let mut arguments = vec![source.key()];
    for _ in 0..source.one_of(&[0, 1, 1, 1, 1, 2]) {
        match source.below(10) {
            0..7 => arguments.extend(time_option(source)),
            7..9 => arguments.push(source.word(&["persist"])),
            _ => arguments.push(source.word(&["keepttl", "px", "", "get"])),
        }
    }
    arguments
}

fn expire(source: &mut Source, time: fn(&mut Source) -> Bytes) -> Vec<Bytes> {
    let mut arguments = vec![source.key(), time(source)];
    for _ in 0..source.one_of(&[0, 0, 1, 1, 1, 2]) {
        arguments.push(source.word(&["nx", "xx", "gt", "lt", "nx", "xx", "gt", "lt", "ch"]));
    }
    if source.percent(1) {
        arguments.push(source.bytes(12));
    }
    arguments
}

fn copy(source: &mut Source) -> Vec<Bytes> {
    let mut arguments = vec![source.key(), source.key()];
    for _ in 0..source.one_of(&[0, 0, 1, 1, 2, 3]) {
        match source.below(8) {
            0..4 => arguments.extend(["db".into(), source.database()]),
            4..7 => arguments.push(source.word(&["replace"])),
            _ => arguments.push(source.word(&["db", "nx", ""])),
        }
    }
    arguments
}

fn scan_options(source: &mut Source) -> Vec<Bytes> {
    let mut options = vec![];
    for _ in 0..source.one_of(&[0, 1, 1, 2]) {
        match source.below(3) {
            0 => options.extend([source.word(&["match"]), source.pattern()]),
            1 => options.extend([source.word(&["count"]), one_text(source, &["1", "3", "10", "5000"])]),
            _ => options.extend([source.word(&["type"]), source.word(&["string", "list", "nope"])]),
        }
    }
    options
}

/// One page, which is compared only if it is the whole of the keys; and what is no valid SCAN.
fn scan(source: &mut Source) -> Vec<Bytes> {
    let cursors = ["0", "0", "0", "0", "00", "7", "abc", "-1", "", "1.5", "18446744073709551615", "18446744073709551616", " 0", "+0", "-"];
    let mut arguments = vec![one_text(source, &cursors)];
    arguments.extend(scan_options(source));
    match source.below(8) {
        0 => arguments.extend([source.word(&["count"]), source.integer()]),
        1 => arguments.push(source.word(&["match", "count", "nope", ""])),
        2 => arguments.extend([source.word(&["nope", ""]), source.integer()]),
        _ => arguments.extend([source.word(&["count"]), "5000".into()]),
    }
    arguments
}

/// Nobody waits for a replica for long, since neither server has one.
fn wait(source: &mut Source) -> Vec<Bytes> {
    let replicas = one_text(source, &["0", "0", "1", "-1", "x", ""]);
    vec![replicas, one_text(source, &["1", "-1", "x", "1.5", ""])]
}

fn client_kill(source: &mut Source) -> Vec<Bytes> {
    let lines =
        ["id 999999999", "id 0", "id x", "addr 192.0.2.1:5", "192.0.2.1:5", "type pubsub", "type nobody", "user nobody", "skipme maybe"];
    words(source.one_of(&lines))
}

fn client_list(source: &mut Source) -> Vec<Bytes> {
    words(source.one_of(&["", "type normal", "type nobody", "id 999999999", "id x", "id", "nope", "type"]))
}

fn client_pause(source: &mut Source) -> Vec<Bytes> {
    words(source.one_of(&["0", "x", "-1", "1.5", "0 write", "0 all", "0 some"]))
}

fn getkeys(source: &mut Source) -> Vec<Bytes> {
    let lines = [
        "get a",
        "mset a 1 b 2",
        "set a",
        "del a b c",
        "copy a b",
        "rename a b",
        "nope x",
        "ping x",
        "flushall x",
        "set a 1 ex 5",
        "get a b",
    ];
    words(source.one_of(&lines))
}

fn command_list(source: &mut Source) -> Vec<Bytes> {
    words(source.one_of(&["", "filterby module nope", "filterby pattern nope*", "filterby pattern", "filterby nope x", "nope"]))
}

/// Nothing that would be taken.
fn config_set(source: &mut Source) -> Vec<Bytes> {
    words(source.one_of(&["nope 1", "maxclients abc", "maxclients", "maxclients 100 nope", "maxclients 100 nope 1", "databases 3"]))
}

fn hello(source: &mut Source) -> Vec<Bytes> {
    let lines = [
        "2",
        "2",
        "3",
        "3",
        "",
        "4",
        "1",
        "x",
        "3 setname worker",
        "2 setname",
        "3 auth default secret",
        "3 auth nobody secret",
        "2 auth default",
        "3 nope",
    ];
    words(source.one_of(&lines))
}

fn words(line: &str) -> Vec<Bytes> {
    line.split_whitespace().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn unknown_command(source: &mut Source) -> Action {
    let name = one_text(source, &["nope", "", "GETS", "a\0b", "line\r\nfeed", "\u{e9}"]);
    let name = if source.percent(5) { "x".repeat(200).into() } else { name };
    let args = std::iter::once(name).chain((0..source.below(4)).map(|_| source.value())).collect();
    Action::Commands(vec![Command::new(args)])
}

fn iteration(source: &mut Source) -> Action {
    Action::Iteration { options: scan_options(source) }
}

/// Sums that both servers compute exactly: here every digit counts.
fn exact_sums(source: &mut Source) -> Action {
    let key = source.key();
    let set = vec!["SET".into(), key.clone(), source.exact_float()];
    let mut commands = vec![Command::new(set)];
    for _ in 0..=source.below(3) {
        commands.push(Command::new(vec!["INCRBYFLOAT".into(), key.clone(), source.exact_float()]));
    }
    commands.push(Command::new(vec!["GET".into(), key]));
    Action::Commands(commands)
}

/// CLIENT REPLY with commands that get no reply. The last command has one: when it is there, the others have been carried out.
fn silence(source: &mut Source) -> Action {
    let (key, value) = (source.key(), source.value());
    let set = Command::silent(vec!["SET".into(), key, value]);
    let reply = |mode: &'static str| ["CLIENT".into(), "REPLY".into(), mode.into()].to_vec();
    Action::Commands(if source.percent(50) {
        vec![Command::silent(reply("SKIP")), set, Command::new(vec!["PING".into()])]
    } else {
        vec![Command::silent(reply("OFF")), set, Command::silent(vec!["NOPE".into()]), Command::new(reply("ON"))]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_without_a_row_and_rows_without_a_command_are_named() {
        let rows = GENERATORS.iter().map(|generator| generator.name).chain(NOT_SENT.iter().map(|(name, _)| *name));
        let mut names: Vec<String> = rows.map(str::to_owned).collect();
        names.push("raft|status".to_owned());
        assert_eq!(missing(&names), Vec::<String>::new(), "subcommands go with their command");
        names.push("lpush".to_owned());
        names.retain(|name| name != "get");
        assert_eq!(missing(&names), ["lpush has no generator", "get is not a command of the server"]);
    }
}
