//! All commands: the rows of every family joined, and how a request finds its row.
//! Owns name lookup, subcommands, the arity check and their error texts. The facts themselves stand in the rows.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;

use super::quoting::{quoted, until_zero};
use super::spec::{CommandSpec, Handler};
use super::{client, connection, counter, expiry, generic, iteration, revision, server, string};
use crate::error::CommandError;

static FAMILIES: &[&[CommandSpec]] = &[
    string::COMMANDS,
    counter::COMMANDS,
    generic::COMMANDS,
    expiry::COMMANDS,
    revision::COMMANDS,
    iteration::COMMANDS,
    connection::COMMANDS,
    client::COMMANDS,
    server::COMMANDS,
];

/// No command's name is longer, so that a name is brought to lower case without an allocation.
const NAME_BYTES_MAX: usize = 32;

/// What of a name or of arguments an error repeats, in bytes (Redis's `processCommand`).
const QUOTED_BYTES_MAX: usize = 128;

static BY_NAME: LazyLock<HashMap<&'static [u8], &'static CommandSpec>> =
    LazyLock::new(|| all().map(|spec| (spec.name.as_bytes(), spec)).collect());

static BY_ID: LazyLock<HashMap<u16, &'static CommandSpec>> = LazyLock::new(|| {
    let logged = |spec: &'static CommandSpec| match spec.handler {
        Handler::Write { id, .. } => Some((id, spec)),
        Handler::Read { .. } | Handler::Node(_) | Handler::Container => None,
    };
    all().filter_map(logged).collect()
});

/// All rows, subcommands not included.
pub fn all() -> impl Iterator<Item = &'static CommandSpec> {
    FAMILIES.iter().copied().flatten()
}

/// The row of a command, by its name in upper or lower case.
#[must_use]
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    let mut buffer = [0; NAME_BYTES_MAX];
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower).copied()
}

/// The row of a logged command, by its id.
#[must_use]
pub fn by_id(id: u16) -> Option<&'static CommandSpec> {
    BY_ID.get(&id).copied()
}

/// The row that carries out a request: of the command, or of its subcommand. The number of arguments fits it.
/// # Errors
/// `UnknownCommand`, `UnknownSubcommand` or `WrongArity`.
/// # Panics
/// Panics if `args` is empty.
pub fn resolve(args: &[Bytes]) -> Result<&'static CommandSpec, CommandError> {
    let spec = lookup(&args[0]).ok_or_else(|| unknown_command(args))?;
    if !spec.arity.accepts(args.len()) {
        return Err(CommandError::WrongArity(spec.name.into()));
    }
    // A command with subcommands may mean something without one, as COMMAND does.
    let word = match (spec.handler, args.get(1)) {
        (_, Some(word)) if !spec.subcommands.is_empty() => word,
        (Handler::Container, _) => return Err(CommandError::WrongArity(spec.name.into())),
        (Handler::Read { .. } | Handler::Write { .. } | Handler::Node(_), _) => return Ok(spec),
    };
    let subcommand = spec.subcommands.iter().find(|subcommand| word.eq_ignore_ascii_case(subcommand.name.as_bytes())).ok_or_else(|| {
        CommandError::UnknownSubcommand { name: quoted(beginning(word, QUOTED_BYTES_MAX)), container: spec.name.to_uppercase() }
    })?;
    if !subcommand.arity.accepts(args.len()) {
        return Err(CommandError::WrongArity(format!("{}|{}", spec.name, subcommand.name).into()));
    }
    Ok(subcommand)
}

fn unknown_command(args: &[Bytes]) -> CommandError {
    // Bytes are counted before they become text, which may be longer.
    let mut shown = Vec::new();
    for arg in &args[1..] {
        let left = QUOTED_BYTES_MAX.saturating_sub(shown.len());
        if left == 0 {
            break;
        }
        shown.push(b'\'');
        shown.extend_from_slice(until_zero(beginning(arg, left)));
        shown.extend_from_slice(b"' ");
    }
    let name = quoted(beginning(&args[0], QUOTED_BYTES_MAX));
    CommandError::UnknownCommand { name, args: String::from_utf8_lossy(&shown).into_owned() }
}

fn beginning(bytes: &[u8], length_max: usize) -> &[u8] {
    &bytes[..bytes.len().min(length_max)]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::command::{Keys, flags};

    fn arguments(line: &str) -> Vec<Bytes> {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    fn check_row(spec: &CommandSpec, path: &str) {
        assert_eq!(spec.name, spec.name.to_lowercase(), "{path}");
        assert!(spec.name.len() <= NAME_BYTES_MAX, "{path}");
        assert!(spec.summary.ends_with('.') && spec.summary.len() > 10, "{path}: {}", spec.summary);
        let about_data = matches!(spec.handler, Handler::Read { .. } | Handler::Write { .. });
        assert!(!about_data || spec.complexity.starts_with("O("), "{path}");
        assert!(spec.since == "redraft" || spec.since.split('.').count() == 3, "{path}");
        let least = spec.arity.least();
        match spec.keys {
            Keys::None => {}
            Keys::One(position) => assert!(position > 0 && position < least, "{path}"),
            Keys::Range { first, last, step } => {
                assert!(first > 0 && first < least && step > 0, "{path}");
                assert!(last < 0 || (last as usize) < least, "{path}");
            }
        }
        assert_eq!(spec.is_write(), spec.flags.contains(flags::WRITE), "{path}");
        assert!(!matches!(spec.handler, Handler::Container) || !spec.subcommands.is_empty(), "{path}");
        if matches!(spec.handler, Handler::Read { .. }) {
            assert!(spec.flags.contains(flags::READONLY), "{path}");
        }
        let mut names = HashSet::new();
        for subcommand in spec.subcommands {
            assert!(names.insert(subcommand.name), "{path}|{} stands twice", subcommand.name);
            assert!(!subcommand.is_write(), "{path}|{}: subcommands are not found by their log id", subcommand.name);
            check_row(subcommand, &format!("{path}|{}", subcommand.name));
        }
    }

    #[test]
    fn every_row_is_sound() {
        let mut names = HashSet::new();
        let mut ids = HashSet::new();
        for spec in all() {
            assert!(names.insert(spec.name), "{} stands twice", spec.name);
            check_row(spec, spec.name);
            if let Handler::Write { id, .. } = spec.handler {
                assert!(id > 0 && ids.insert(id), "the log id of {} is used twice", spec.name);
            }
        }
    }

    #[test]
    fn log_ids_are_never_reassigned() {
        let names: Vec<_> = (1..=33).map(|id| by_id(id).map_or("", |spec| spec.name)).collect();
        let expected = "set setnx setex psetex getset getdel getex mset msetnx append incr decr incrby decrby incrbyfloat setrange del \
                        unlink expire pexpire expireat pexpireat persist rename renamenx copy move flushdb flushall swapdb setrev delrev batch";
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn names_are_found_in_any_case() {
        for name in ["get", "GET", "gEt"] {
            assert_eq!(lookup(name.as_bytes()).map(|spec| spec.name), Some("get"));
        }
        for name in ["", "ge", "gets", "get\0", &"g".repeat(200)] {
            assert!(lookup(name.as_bytes()).is_none());
        }
    }

    #[test]
    fn requests_without_a_row_get_the_texts_of_redis() {
        let long = "x".repeat(200);
        for (line, expected) in [
            ("foo a b".to_owned(), "ERR unknown command 'foo', with args beginning with: 'a' 'b' ".to_owned()),
            ("FOO".to_owned(), "ERR unknown command 'FOO', with args beginning with: ".to_owned()),
            ("a\0b c\0d".to_owned(), "ERR unknown command 'a', with args beginning with: 'c' ".to_owned()),
            (format!("{long} y"), format!("ERR unknown command '{}', with args beginning with: 'y' ", &long[..128])),
            (format!("foo {long} y"), format!("ERR unknown command 'foo', with args beginning with: '{}' ", &long[..128])),
            ("get".to_owned(), "ERR wrong number of arguments for 'get' command".to_owned()),
            ("GET a b".to_owned(), "ERR wrong number of arguments for 'get' command".to_owned()),
        ] {
            assert_eq!(resolve(&arguments(&line)).err().map(|error| error.to_string()), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_an_error_repeats_is_counted_in_bytes_as_sent() {
        let args = [Bytes::from_static(b"foo"), Bytes::from(vec![0xff; 60]), Bytes::from("y".repeat(200))];
        let shown = format!("'{}' '{}' ", "\u{fffd}".repeat(60), "y".repeat(128 - 63));
        let expected = format!("ERR unknown command 'foo', with args beginning with: {shown}");
        assert_eq!(resolve(&args).err().map(|error| error.to_string()), Some(expected));
    }

    #[test]
    fn keys_are_found_by_position() {
        for (line, expected) in [
            ("get a", "a"),
            ("set a 1 nx", "a"),
            ("mset a 1 b 2", "a b"),
            ("del a b c", "a b c"),
            ("rename a b", "a b"),
            ("batch set a 1 del b x", "a b"),
            ("flushall async", ""),
            ("scan 0", ""),
        ] {
            let args = arguments(line);
            let spec = resolve(&args).expect("a valid line");
            let keys: Vec<_> = spec.keys.of(&args).map(|key| String::from_utf8_lossy(key).into_owned()).collect();
            assert_eq!(keys.join(" "), expected, "{line}");
        }
    }
}
