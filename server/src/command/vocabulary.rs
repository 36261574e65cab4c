//! Random arguments for any data command of the table, for tests.
//! Nothing here names a command: the number of arguments and the places of keys come from the row, option words from the source of the
//! commands. So a command that is added is drawn without a change here.
//! Keys are few, so that commands meet; arguments are those at which commands decide: limits of numbers, sizes around the border between
//! short and long values, times around the present, positions of SCAN, bytes that are no text.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Arity, CommandSpec, Handler, Keys, table};
use crate::keyspace::{INLINE_BYTES_MAX, KEY_BYTES_MAX, Position};

/// How often arguments are drawn again when a command does not take them.
const DRAWS: usize = 12;
/// Arguments beyond the least number, of commands that take more.
const ARGUMENTS_MORE_MAX: usize = 6;
/// Longest option word.
const WORD_BYTES_MAX: usize = 16;

/// What commands are made of.
pub(crate) struct Vocabulary {
    commands: Vec<&'static CommandSpec>,
    words: Vec<Bytes>,
    keys: Vec<Bytes>,
}

impl Vocabulary {
    /// All data commands, and the words in their sources.
    pub(crate) fn of_the_table() -> Self {
        let keys = ["", "a", "b", "7", "{t}a", "{t}b", "key:1", "key:2", "\r\n", "[a-z]*"].map(|key| Bytes::from_static(key.as_bytes()));
        let long = [300, KEY_BYTES_MAX, KEY_BYTES_MAX + 1].map(|bytes| Bytes::from(vec![b'k'; bytes]));
        let binary = [&b"\0"[..], b"a\0", b"\xff\xff", b"\x80"].map(Bytes::from_static);
        Self { commands: data_commands().collect(), words: words_of_sources(), keys: [&keys[..], &binary, &long].concat() }
    }

    /// A command and its arguments, the name included. Most are such as the command takes. `now` is about the log's time, in ms.
    pub(crate) fn command(&self, random: &mut SmallRng, now: u64) -> (&'static CommandSpec, Vec<Bytes>) {
        let spec = loop {
            let spec = self.commands[random.random_range(0..self.commands.len())];
            // What changes whole databases would leave little to the others.
            if !(spec.is_write() && spec.keys == Keys::None) || random.random_range(0..8) == 0 {
                break spec;
            }
        };
        let mut args = self.arguments(spec, random, now);
        for _ in 1..DRAWS {
            if check(spec, &args) {
                break;
            }
            args = self.arguments(spec, random, now);
        }
        (spec, args)
    }

    fn arguments(&self, spec: &'static CommandSpec, random: &mut SmallRng, now: u64) -> Vec<Bytes> {
        let count = match spec.arity {
            Arity::Exactly(count) => count,
            Arity::AtLeast(least) if random.random_range(0..3) == 0 => least,
            Arity::AtLeast(least) => least + random.random_range(0..=ARGUMENTS_MORE_MAX),
        };
        // The row finds keys among arguments; here each argument is its own position.
        let positions: Vec<Bytes> = (0..count).map(|position| Bytes::from(position.to_string())).collect();
        let of_keys: BTreeSet<&Bytes> = spec.keys.of(&positions).collect();
        let mut args = vec![Bytes::from_static(spec.name.as_bytes())];
        for position in &positions[1..] {
            let is_key = of_keys.contains(position) != (random.random_range(0..20) == 0);
            args.push(if is_key { self.key(random) } else { self.argument(random, now) });
        }
        args
    }

    fn key(&self, random: &mut SmallRng) -> Bytes {
        // The long ones stand at the end, and are costly.
        let common = self.keys.len() - 3;
        let among = if random.random_range(0..16) == 0 { self.keys.len() } else { common };
        self.keys[random.random_range(0..among)].clone()
    }

    fn argument(&self, random: &mut SmallRng, now: u64) -> Bytes {
        match random.random_range(0..14) {
            0..=3 => {
                let word = &self.words[random.random_range(0..self.words.len())];
                if random.random_range(0..4) == 0 { word.to_ascii_uppercase().into() } else { word.clone() }
            }
            4 | 5 => random.random_range(-20..300).to_string().into(),
            6 | 12 => random.random_range(0..4).to_string().into(),
            7 => time(random, now).to_string().into(),
            8 => {
                let limits = LIMITS.len();
                Bytes::from_static(LIMITS[random.random_range(0..limits)].as_bytes())
            }
            9 => Position::of(&self.key(random)).cursor().to_string().into(),
            10 => self.key(random),
            11 => [&b"[("[random.random_range(0..2)..][..1], &self.key(random)].concat().into(),
            _ => value(random),
        }
    }
}

/// Numbers at which something changes, and texts that are almost numbers.
const LIMITS: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "9223372036854775",
    "9223372036854776",
    "9007199254740992",
    "4503599627370495",
    "4503599627370496",
    "2147483647",
    "4294967296",
    "1000000001",
    "67108864",
    "70000",
    "16",
    "15",
    "-0",
    "007",
    "+1",
    " 1",
    "1.5",
    "-3.0e2",
    "1e400",
    "0.00000000000000001",
    "99999999999999999.99999999999999999",
    "inf",
    "nan",
    "-",
    "+",
    "(a",
    "[b",
    "*",
    "?*[^a-",
];

/// A moment near the present, in ms or s.
fn time(random: &mut SmallRng, now: u64) -> u64 {
    let millis = now.saturating_add_signed(random.random_range(-200..2000));
    if random.random_range(0..3) == 0 { millis / 1000 } else { millis }
}

fn value(random: &mut SmallRng) -> Bytes {
    let lengths = [0, 1, 8, INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 5000];
    let length = lengths[random.random_range(0..lengths.len())];
    (0..length).map(|_| random.random::<u8>()).collect()
}

/// Whether the command takes the arguments.
pub(crate) fn check(spec: &CommandSpec, args: &[Bytes]) -> bool {
    match spec.handler {
        Handler::Read { check, .. } | Handler::Write { check, .. } => check(args).is_ok(),
        Handler::Node(_) | Handler::Container => false,
    }
}

/// The rows of commands about data.
pub(crate) fn data_commands() -> impl Iterator<Item = &'static CommandSpec> {
    table::all().filter(|spec| matches!(spec.handler, Handler::Read { .. } | Handler::Write { .. }))
}

/// Everything in the sources of the commands that looks like the word of an option: a byte string of lower-case letters.
fn words_of_sources() -> Vec<Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/command");
    let mut words = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources are there").path();
        if path.is_file() {
            let source = fs::read_to_string(path).expect("a source is text");
            let literals = source.split("b\"").skip(1).filter_map(|after| after.split_once('"')).map(|(literal, _)| literal);
            words.extend(literals.filter(|literal| is_word(literal)).map(|word| Bytes::copy_from_slice(word.as_bytes())));
        }
    }
    words.into_iter().collect()
}

fn is_word(literal: &str) -> bool {
    (1..=WORD_BYTES_MAX).contains(&literal.len()) && literal.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[test]
fn words_of_options_are_found_in_the_sources() {
    let vocabulary = Vocabulary::of_the_table();
    for word in ["nx", "keepttl", "pxat", "gt", "replace", "withvalues", "match", "async"] {
        assert!(vocabulary.words.contains(&Bytes::from_static(word.as_bytes())), "{word}");
    }
}
