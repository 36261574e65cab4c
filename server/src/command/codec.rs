//! Logged commands: what of a command stands in a log entry.
//! A command is `id varint | db u8 | count varint | count times (length varint | bytes)`; the arguments are raw and without the name,
//! which follows from the id. Varints are LEB128. Commands stand one after the other; the entry's envelope is not known here.
//! Stable: golden bytes below. A change of the format needs a new kind of entry, so there is no version byte per command.
//! Bytes that do not decode are an error and never a panic: the log of another version, or a broken disk, may hold anything.

use bytes::{Buf, Bytes};

use super::spec::CommandSpec;
use super::table;
use crate::keyspace::DATABASES;

/// Arguments that room is made for before they are seen; more grow the list as they are decoded.
const ARGUMENTS_RESERVED_MAX: usize = 1024;

/// A command from the log.
#[derive(Clone)]
pub struct LoggedCommand {
    /// Its row; the handler is `Write`.
    pub spec: &'static CommandSpec,
    /// The database it works on.
    pub db: u8,
    /// Its arguments, the name in lower case included. They share the memory of the entry.
    pub args: Vec<Bytes>,
}

/// Why bytes are no logged command. All of them mean that this binary cannot apply the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end inside a command.
    #[error("a logged command is cut off")]
    Truncated,
    /// A number is longer than 64 bits or not in its shortest form.
    #[error("a logged command has a malformed number")]
    MalformedNumber,
    /// This binary has no command of that id.
    #[error("no command has the id {0}")]
    UnknownCommand(u64),
    /// There is no database of that number.
    #[error("no database has the number {0}")]
    UnknownDatabase(u8),
    /// The command does not take that many arguments.
    #[error("command {name} does not take {count} arguments")]
    ArgumentCount {
        /// The command.
        name: &'static str,
        /// The number of arguments, the name included.
        count: u64,
    },
}

/// Appends a command to `out`. `args` includes the name.
/// # Panics
/// Panics if `args` is empty.
pub fn encode(id: u16, db: u8, args: &[Bytes], out: &mut Vec<u8>) {
    let [_name, args @ ..] = args else { panic!("a command has a name") };
    out.reserve(args.iter().map(|arg| arg.len() + 4).sum::<usize>() + 8);
    put_varint(u64::from(id), out);
    out.push(db);
    put_varint(args.len() as u64, out);
    for arg in args {
        put_varint(arg.len() as u64, out);
        out.extend_from_slice(arg);
    }
}

/// Takes one command from the front of `input`.
/// # Errors
/// See `CodecError`; how much of `input` was taken is then undefined.
pub fn decode(input: &mut Bytes) -> Result<LoggedCommand, CodecError> {
    let id = take_varint(input)?;
    let spec = u16::try_from(id).ok().and_then(table::by_id).ok_or(CodecError::UnknownCommand(id))?;
    let db = take_byte(input)?;
    if db >= DATABASES {
        return Err(CodecError::UnknownDatabase(db));
    }
    let count = take_varint(input)?;
    // Each argument has a length byte at least.
    let announced = usize::try_from(count).ok().filter(|count| *count <= input.len()).ok_or(CodecError::Truncated)?;
    if !spec.arity.accepts(announced + 1) {
        return Err(CodecError::ArgumentCount { name: spec.name, count: count + 1 });
    }
    let mut args = Vec::with_capacity(announced.min(ARGUMENTS_RESERVED_MAX) + 1);
    args.push(Bytes::from_static(spec.name.as_bytes()));
    for _ in 0..announced {
        let length = take_varint(input)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= input.len()).ok_or(CodecError::Truncated)?;
        args.push(input.split_to(length));
    }
    Ok(LoggedCommand { spec, db, args })
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_byte(input: &mut Bytes) -> Result<u8, CodecError> {
    if input.is_empty() {
        return Err(CodecError::Truncated);
    }
    Ok(input.get_u8())
}

fn take_varint(input: &mut Bytes) -> Result<u64, CodecError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(input)?;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits || (bits == 0 && byte == 0 && shift > 0) {
            return Err(CodecError::MalformedNumber);
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(CodecError::MalformedNumber)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::command::Handler;

    fn arguments(line: &[&str]) -> Vec<Bytes> {
        line.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect()
    }

    fn id(name: &str) -> u16 {
        match table::lookup(name.as_bytes()).expect("a known command").handler {
            Handler::Write { id, .. } => id,
            _ => panic!("{name} is not logged"),
        }
    }

    #[test]
    fn logged_commands_keep_their_bytes() {
        let long = "x".repeat(300);
        for (db, line, expected) in [
            (0, vec!["SET", "key", "value"], [&[1, 0, 2, 3][..], b"key", &[5], b"value"].concat()),
            (15, vec!["del", "a", ""], vec![17, 15, 2, 1, b'a', 0]),
            (3, vec!["FlushDB"], vec![28, 3, 0]),
            (1, vec!["append", "k", &long], [&[10, 1, 2, 1, b'k', 0xac, 0x02][..], long.as_bytes()].concat()),
        ] {
            let mut bytes = Vec::new();
            encode(id(line[0]), db, &arguments(&line), &mut bytes);
            assert_eq!(bytes, expected, "{line:?}");
            let mut rest = Bytes::from(bytes);
            let command = decode(&mut rest).expect("what was encoded decodes");
            assert!(rest.is_empty());
            assert_eq!(command.db, db);
            assert_eq!(command.spec.name, line[0].to_lowercase());
            assert_eq!(command.args[0], line[0].to_lowercase());
            assert_eq!(command.args[1..], arguments(&line)[1..]);
        }
    }

    #[test]
    fn commands_stand_one_after_the_other() {
        let mut bytes = Vec::new();
        encode(id("set"), 0, &arguments(&["set", "a", "1"]), &mut bytes);
        encode(id("incr"), 2, &arguments(&["incr", "b"]), &mut bytes);
        let mut input = Bytes::from(bytes);
        assert_eq!(decode(&mut input).expect("first").spec.name, "set");
        assert_eq!(decode(&mut input).expect("second").spec.name, "incr");
        assert_eq!(decode(&mut input).err(), Some(CodecError::Truncated));
    }

    #[test]
    fn malformed_commands_are_refused() {
        for (bytes, expected) in [
            (vec![], CodecError::Truncated),
            (vec![1], CodecError::Truncated),
            (vec![1, 0], CodecError::Truncated),
            (vec![1, 0, 2, 1, b'k', 2, b'v'], CodecError::Truncated),
            (vec![1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], CodecError::Truncated),
            (vec![1, 16, 2], CodecError::UnknownDatabase(16)),
            (vec![0], CodecError::UnknownCommand(0)),
            (vec![0xff, 0xff, 0x03, 0, 0], CodecError::UnknownCommand(0xffff)),
            (vec![0xff, 0xff, 0x7f, 0, 0], CodecError::UnknownCommand(0x1f_ffff)),
            (vec![0x81, 0x00, 0, 0], CodecError::MalformedNumber),
            ([&[0xff; 9][..], &[0x02]].concat(), CodecError::MalformedNumber),
            ([0xff; 11].to_vec(), CodecError::MalformedNumber),
            (vec![1, 0, 1, 1, b'k'], CodecError::ArgumentCount { name: "set", count: 2 }),
        ] {
            assert_eq!(decode(&mut Bytes::from(bytes.clone())).err(), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn garbage_never_panics() {
        let mut random = SmallRng::seed_from_u64(11);
        let mut valid = Vec::new();
        encode(id("mset"), 0, &arguments(&["mset", "a", "1", "b", "2"]), &mut valid);
        for _ in 0..20_000 {
            let mut bytes = valid.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            bytes.truncate(random.random_range(0..=bytes.len()));
            if let Ok(command) = decode(&mut Bytes::from(bytes)) {
                assert!(command.spec.arity.accepts(command.args.len()));
            }
        }
    }
}
