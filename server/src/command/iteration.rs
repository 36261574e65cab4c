//! Commands that walk over keys: KEYS, SCAN and redraft's own RANGE.
//! All carry `ITERATES`: they run in the blocking pool on a view of their own. SCAN follows the scan index, whose cursor survives restart
//! and failover; KEYS and RANGE follow the keys' byte order.
//! Every page is bounded by the keys examined and by its bytes. A page is one moment; a series of pages is not.

use std::ops::Bound;

use bytes::Bytes;
use raftlog::engine::Direction;
use resp::Reply;

use super::quoting::until_zero;
use super::revision::{entry_reply, parse_length};
use super::spec::Arity::{AtLeast, Exactly};
use super::spec::flags::{ITERATES, READONLY};
use super::spec::{BLANK, CommandFailure, CommandResult, CommandSpec, Flags, Group, ReadCommand, read};
use super::{glob, number};
use crate::error::CommandError;
use crate::keyspace::{KeyBounds, Position, Reader};

const ROW: CommandSpec =
    CommandSpec { arity: AtLeast(2), flags: Flags(READONLY | ITERATES), acl: &["keyspace"], group: Group::Generic, ..BLANK };

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "keys",
        arity: Exactly(2),
        acl: &["keyspace", "dangerous"],
        since: "1.0.0",
        summary: "Returns all key names that match a pattern.",
        complexity: "O(N) with N being the number of keys that begin with the pattern's literal beginning.",
        deviation: "Keys come in byte order; more than 256 MiB of them are refused with `ERR reply is too large`. Ranges in patterns, as in \
                    `[a-z]`, go by bytes from 0 to 255; in Redis those from 128 on are negative on some processors.",
        handler: read::<KeysMatching>(),
        ..ROW
    },
    CommandSpec {
        name: "scan",
        since: "2.8.0",
        summary: "Iterates over the key names in the database.",
        complexity: "O(1) for every call. O(N) for a complete iteration, where N is the number of keys inside the database.",
        deviation: "Each key that stays is returned once; a cursor stays valid on every node and after a restart. MATCH is as in KEYS.",
        handler: read::<Scan>(),
        ..ROW
    },
    CommandSpec {
        name: "range",
        arity: AtLeast(3),
        since: "redraft",
        summary: "Returns the keys of a range in byte order, a page at a time, alone, with their values, or with what ENTRY says of each, up to MAXLEN.",
        complexity: "O(log(N)+M) with N being the number of keys in the database and M the number of keys examined.",
        handler: read::<Range>(),
        ..ROW
    },
];

/// Most bytes of keys, with a fixed share for each, in one reply of KEYS.
const KEYS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a key costs in a reply beside its bytes.
const REPLY_BYTES_PER_KEY: usize = 64;

/// COUNT of SCAN, if none is given.
const SCAN_COUNT: usize = 10;
/// COUNT of RANGE, if none is given.
const RANGE_COUNT: usize = 100;
/// Most keys examined for one page; a larger COUNT means this.
const PAGE_KEYS_MAX: usize = 1_000_000;
/// Keys examined for a page of RANGE, unless COUNT is larger: a page ends there, even if MATCH has left it empty.
const RANGE_EXAMINED_MAX: usize = 10_000;
/// A page of RANGE ends once its keys and values have this many bytes; the last value may exceed it.
const RANGE_PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

struct KeysMatching {
    pattern: Bytes,
}

impl ReadCommand for KeysMatching {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        Ok(Self { pattern: args[1].clone() })
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        let bounds = KeyBounds::prefix(glob::literal_prefix(&self.pattern));
        let mut bytes = 0;
        let mut keys = Vec::new();
        for item in reader.items(&bounds, Direction::Forward)? {
            let (key, metadata) = item?;
            if glob::matches(&self.pattern, &key) && reader.is_alive(&metadata)? {
                bytes += key.len() + REPLY_BYTES_PER_KEY;
                if bytes > KEYS_BYTES_MAX {
                    return Err(CommandError::ReplyTooLarge.into());
                }
                keys.push(Reply::Bulk(key));
            }
        }
        Ok(Reply::Array(keys))
    }
}

/// A COUNT: at least 1, at most what a page allows.
fn parse_count(text: &[u8]) -> Result<usize, CommandError> {
    match usize::try_from(number::integer(text)?) {
        Ok(count) if count > 0 => Ok(count.min(PAGE_KEYS_MAX)),
        Ok(_) | Err(_) => Err(CommandError::Syntax),
    }
}

struct Scan {
    /// Where to begin; none at the end.
    from: Option<Position>,
    pattern: Option<Bytes>,
    count: usize,
    /// Name of a type; of an unknown one there are no keys.
    type_name: Option<Bytes>,
}

impl ReadCommand for Scan {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let from = Position::from_cursor(parse_cursor(&args[1])?);
        let mut scan = Self { from, pattern: None, count: SCAN_COUNT, type_name: None };
        let mut rest = &args[2..];
        while let [option, after @ ..] = rest {
            let [value, after @ ..] = after else { return Err(CommandError::Syntax) };
            rest = after;
            match option.to_ascii_lowercase().as_slice() {
                b"match" => scan.pattern = Some(value.clone()),
                b"count" => scan.count = parse_count(value)?,
                b"type" => scan.type_name = Some(value.clone()),
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(scan)
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        let Some(from) = self.from else { return Ok(page_reply("0".to_owned(), Vec::new())) };
        let page = reader.scan(from, self.count, |key, key_type| {
            self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, key))
                && self.type_name.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(key_type.name().as_bytes()))
        })?;
        let cursor = page.next.map_or(0, Position::cursor);
        Ok(page_reply(cursor.to_string(), page.keys.into_iter().map(Reply::Bulk).collect()))
    }
}

/// What Redis's `strtoul` makes of a cursor: a decimal number, with a sign or not; nothing is 0, and a negative one wraps around.
fn parse_cursor(text: &[u8]) -> Result<u64, CommandError> {
    let text = until_zero(text);
    if text.is_empty() {
        return Ok(0);
    }
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(CommandError::InvalidCursor)?;
    Ok(if is_negative { number.wrapping_neg() } else { number })
}

fn page_reply(cursor: String, items: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::text(cursor), Reply::Array(items)])
}

/// A bound of RANGE as given.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RangeBound {
    /// `-`: before all keys.
    Least,
    /// `+`: after all keys.
    Greatest,
    /// `[key`.
    Including(Bytes),
    /// `(key`.
    Excluding(Bytes),
}

impl RangeBound {
    fn parse(text: &Bytes) -> Result<Self, CommandError> {
        match text[..] {
            [b'-'] => Ok(RangeBound::Least),
            [b'+'] => Ok(RangeBound::Greatest),
            [b'[', ..] => Ok(RangeBound::Including(text.slice(1..))),
            [b'(', ..] => Ok(RangeBound::Excluding(text.slice(1..))),
            _ => Err(CommandError::InvalidRangeBound),
        }
    }

    /// This bound as an end of an interval, if it is a key.
    fn key_bound(&self) -> Bound<Vec<u8>> {
        match self {
            RangeBound::Least | RangeBound::Greatest => Bound::Unbounded,
            RangeBound::Including(key) => Bound::Included(key.to_vec()),
            RangeBound::Excluding(key) => Bound::Excluded(key.to_vec()),
        }
    }
}

/// What RANGE returns of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Keys,
    KeysAndValues,
    /// Each key with what ENTRY says of it.
    Entries,
}

/// A page of an ordered range. The cursor names the last key examined: `k` and its bytes in hexadecimal.
struct Range {
    lower: RangeBound,
    upper: RangeBound,
    direction: Direction,
    pattern: Option<Bytes>,
    count: usize,
    shape: Shape,
    /// MAXLEN: the longest value that is part of an entry.
    value_bytes_max: usize,
    /// The last key examined by the page before.
    after: Option<Vec<u8>>,
}

impl ReadCommand for Range {
    fn parse(args: &[Bytes]) -> Result<Self, CommandError> {
        let (first, second) = (RangeBound::parse(&args[1])?, RangeBound::parse(&args[2])?);
        let mut range = Self {
            lower: first,
            upper: second,
            direction: Direction::Forward,
            pattern: None,
            count: RANGE_COUNT,
            shape: Shape::Keys,
            value_bytes_max: usize::MAX,
            after: None,
        };
        let mut rest = &args[3..];
        while let [option, after @ ..] = rest {
            rest = after;
            match (option.to_ascii_lowercase().as_slice(), after) {
                (b"rev", _) => range.direction = Direction::Reverse,
                (b"withvalues", _) => range.shape = Shape::KeysAndValues,
                (b"withentries", _) => range.shape = Shape::Entries,
                (name, [value, after @ ..]) => {
                    rest = after;
                    match name {
                        b"match" => range.pattern = Some(value.clone()),
                        b"count" => range.count = parse_count(value)?,
                        b"maxlen" => range.value_bytes_max = parse_length(value)?,
                        b"cursor" => range.after = parse_range_cursor(value)?,
                        _ => return Err(CommandError::Syntax),
                    }
                }
                (_, []) => return Err(CommandError::Syntax),
            }
        }
        if range.direction == Direction::Reverse {
            std::mem::swap(&mut range.lower, &mut range.upper);
        }
        Ok(range)
    }

    fn read(self, reader: &Reader<'_>) -> CommandResult {
        let Some(bounds) = self.bounds() else { return Ok(page_reply("0".to_owned(), Vec::new())) };
        let examined_max = self.count.max(RANGE_EXAMINED_MAX);
        let mut page = Page::default();
        let mut last_examined: Option<Bytes> = None;
        for (examined, item) in reader.items(&bounds, self.direction)?.enumerate() {
            let (key, metadata) = item?;
            if let Some(last) = &last_examined
                && (page.keys == self.count || examined == examined_max || page.bytes >= RANGE_PAGE_BYTES_MAX)
            {
                return Ok(page_reply(range_cursor(last), page.items));
            }
            if self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, &key)) && reader.is_alive(&metadata)? {
                page.keys += 1;
                page.bytes += key.len() + REPLY_BYTES_PER_KEY;
                page.items.push(Reply::Bulk(key.clone()));
                match self.shape {
                    Shape::Keys => {}
                    Shape::KeysAndValues => {
                        page.bytes += metadata.value.length();
                        page.items.push(Reply::Bulk(reader.value(&key, &metadata).map_err(CommandFailure::Engine)?));
                    }
                    Shape::Entries => {
                        let length = metadata.value.length();
                        page.bytes += if length > self.value_bytes_max { 0 } else { length };
                        page.items.push(entry_reply(&key, &metadata, self.value_bytes_max, reader)?);
                    }
                }
            }
            last_examined = Some(key);
        }
        Ok(page_reply("0".to_owned(), page.items))
    }
}

#[derive(Default)]
struct Page {
    keys: usize,
    bytes: usize,
    items: Vec<Reply>,
}

impl Range {
    /// The keys still to be walked over; none if there cannot be any.
    fn bounds(&self) -> Option<KeyBounds> {
        if self.lower == RangeBound::Greatest || self.upper == RangeBound::Least {
            return None;
        }
        let mut bounds = KeyBounds { from: self.lower.key_bound(), to: self.upper.key_bound() };
        // A cursor never widens the range, whatever bounds it is given with.
        if let Some(after) = &self.after {
            match self.direction {
                Direction::Forward if is_within(&bounds.from, |from| from <= after) => bounds.from = Bound::Excluded(after.clone()),
                Direction::Reverse if is_within(&bounds.to, |to| to >= after) => bounds.to = Bound::Excluded(after.clone()),
                Direction::Forward | Direction::Reverse => {}
            }
        }
        Some(bounds)
    }
}

fn is_within(bound: &Bound<Vec<u8>>, holds: impl Fn(&Vec<u8>) -> bool) -> bool {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => holds(key),
        Bound::Unbounded => true,
    }
}

fn range_cursor(last: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    std::iter::once('k').chain(last.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])).collect()
}

/// The key a cursor names; none for `0`, the start.
fn parse_range_cursor(text: &[u8]) -> Result<Option<Vec<u8>>, CommandError> {
    if text == b"0" {
        return Ok(None);
    }
    let digits = text.strip_prefix(b"k").ok_or(CommandError::InvalidCursor)?;
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    match digits.as_chunks::<2>() {
        (pairs, []) => {
            let key: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect();
            key.map(Some).ok_or(CommandError::InvalidCursor)
        }
        (_, [_, ..]) => Err(CommandError::InvalidCursor),
    }
}

#[cfg(test)]
mod tests;
