//! The client's side: commands to bytes, and bytes to the values of replies.
//! For the command line, the load generator and the tests; the server does not use it. `redis-protocol` decodes the replies. It starts
//! over at every call and descends by recursion, so a scan of our own first finds where the reply ends, goes on where it stopped, and
//! refuses what is too long or too deep; the crate then decodes each reply once. Who only counts replies passes over them instead.
//! Attributes of RESP3 are dropped. Its streamed strings and aggregates, which no Redis sends, are refused.

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp2::{decode as decode2, types::BytesFrame as Frame2};
use redis_protocol::resp3::{decode as decode3, types::BytesFrame as Frame3};
use thiserror::Error;

use crate::Protocol;
use crate::number::parse_integer;
use crate::reply::{write_bulk, write_header};

/// Aggregates that may be open at once. The deepest reply of Redis, COMMAND DOCS, has less than ten.
const NESTING_MAX: usize = 32;
/// Free space to make for reads, and what may be left of it before more is made.
const READ_BYTES: usize = 16 * 1024;
const SPARE_BYTES_MIN: usize = 4 * 1024;

/// Appends a command with its arguments, the form that all clients of Redis use.
pub fn encode_command(arguments: &[impl AsRef<[u8]>], out: &mut BytesMut) {
    write_header(b'*', arguments.len() as i64, out);
    for argument in arguments {
        write_bulk(argument.as_ref(), out);
    }
}

/// A reply as a client sees it. The kinds from `Map` on exist in RESP3 only.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+OK` and its like.
    Simple(Bytes),
    /// An error with its prefix, as in `ERR unknown command`.
    Error(String),
    /// A signed integer.
    Integer(i64),
    /// A binary-safe string.
    Bulk(Bytes),
    /// No value, or in RESP2 no array.
    Null,
    /// An array.
    Array(Vec<Value>),
    /// Pairs in the order of the reply, with distinct keys.
    Map(Vec<(Value, Value)>),
    /// Distinct elements in the order of the reply.
    Set(Vec<Value>),
    /// A double.
    Double(f64),
    /// A boolean.
    Boolean(bool),
    /// Text for people: a verbatim string.
    Text(Bytes),
    /// An integer of any size, in decimal.
    BigNumber(Bytes),
    /// A message that answers no command: of a subscription, or an invalidation.
    Push(Vec<Value>),
}

/// What a reply was, for those who do not need its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// Something that is neither of the others.
    Value,
    /// No value, or in RESP2 no array.
    Null,
    /// An error with its prefix.
    Error(String),
}

/// Why bytes from a server are not a reply.
#[derive(Debug, Error)]
pub enum ReplyError {
    /// The reply is longer than the reader accepts, or announces that it will be.
    #[error("reply of more than {bytes_max} bytes")]
    TooLarge {
        /// The reader's limit.
        bytes_max: usize,
    },
    /// Aggregates are nested too deeply.
    #[error("reply nested more than {NESTING_MAX} levels deep")]
    TooDeep,
    /// The bytes break the protocol's grammar.
    #[error("malformed reply: {0}")]
    Malformed(&'static str),
    /// The bytes break the protocol's grammar in a way that the decoder found.
    #[error("malformed reply")]
    Undecodable(#[source] RedisProtocolError),
}

/// The bytes of one server, and the position inside its present reply.
#[derive(Debug)]
pub struct ReplyReader {
    protocol: Protocol,
    reply_bytes_max: usize,
    /// What has arrived. Starts at a reply.
    buffer: BytesMut,
    /// Where the value starts that is looked at; all before it is complete.
    position: usize,
    /// Where to go on looking for the end of that value's first line.
    scanned: usize,
    /// Values that each open aggregate lacks, the innermost last. Never 0.
    missing: Vec<usize>,
    /// Where the arrays and sets of the present reply begin, in order, and whether each is a set.
    lists: Vec<(usize, bool)>,
}

impl ReplyReader {
    /// A reader for a connection that speaks the given protocol, with a limit on the length of one reply.
    #[must_use]
    pub fn new(protocol: Protocol, reply_bytes_max: usize) -> ReplyReader {
        ReplyReader { protocol, reply_bytes_max, buffer: BytesMut::new(), position: 0, scanned: 0, missing: Vec::new(), lists: Vec::new() }
    }

    /// Changes the protocol from the next reply on. To be called when `HELLO` is sent: its own reply is in the new protocol.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// The buffer to append the server's bytes to, with free space worth a read.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < SPARE_BYTES_MIN {
            self.buffer.reserve(READ_BYTES);
        }
        &mut self.buffer
    }

    /// Bytes that have arrived and belong to no decoded reply yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next reply, or push message. `None` if more bytes are needed. Strings in it are views of the buffer, which they keep alive.
    ///
    /// # Errors
    /// If the bytes are not a reply, or exceed a limit. Nobody knows then where the next reply begins: the reader must be dropped.
    pub fn next_reply(&mut self) -> Result<Option<Value>, ReplyError> {
        let Some(reply_bytes) = self.find_end()? else { return Ok(None) };
        self.decode(reply_bytes).map(Some)
    }

    /// Passes over the next reply. `None` if more bytes are needed. Nothing is allocated but the text of an error, and nothing is decoded
    /// but the framing, so that `:one` counts as a value.
    ///
    /// # Errors
    /// As `next_reply`, for what is seen.
    pub fn skip_reply(&mut self) -> Result<Option<ReplyKind>, ReplyError> {
        let Some(reply_bytes) = self.find_end()? else { return Ok(None) };
        let kind = match &self.buffer[..reply_bytes] {
            // Errors, and attributes, which hide what they stand before.
            [b'-' | b'!' | b'|', ..] => {
                return Ok(Some(match self.decode(reply_bytes)? {
                    Value::Error(text) => ReplyKind::Error(text),
                    Value::Null => ReplyKind::Null,
                    _ => ReplyKind::Value,
                }));
            }
            [b'_', ..] | [b'$' | b'*', b'-', ..] => ReplyKind::Null,
            _ => ReplyKind::Value,
        };
        self.buffer.advance(reply_bytes);
        (self.position, self.scanned) = (0, 0);
        self.lists.clear();
        Ok(Some(kind))
    }

    /// Takes the first reply, which has so many bytes.
    fn decode(&mut self, reply_bytes: usize) -> Result<Value, ReplyError> {
        let mut bytes = self.buffer.split_to(reply_bytes);
        (self.position, self.scanned) = (0, 0);
        let lists = std::mem::take(&mut self.lists);
        // The crate hashes the elements of a set, and refuses those that are aggregates, as in COMMAND INFO; so it gets to see arrays.
        for (at, _) in lists.iter().filter(|(_, is_set)| *is_set) {
            bytes[*at] = b'*';
        }
        let bytes = bytes.freeze();
        let mut is_set = lists.into_iter().map(|(_, is_set)| is_set);
        let decoded = match self.protocol {
            Protocol::Resp2 => decode2::decode_bytes(&bytes).map(|decoded| decoded.map(|(frame, used)| (value2(frame), used))),
            Protocol::Resp3 => {
                decode3::complete::decode_bytes(&bytes).map(|decoded| decoded.map(|(frame, used)| (value3(frame, &mut is_set), used)))
            }
        };
        match decoded.map_err(ReplyError::Undecodable)? {
            Some((value, used)) if used == reply_bytes => value,
            _ => Err(ReplyError::Malformed("its end is in doubt")),
        }
    }

    /// Where the first reply ends, if all of it is here.
    fn find_end(&mut self) -> Result<Option<usize>, ReplyError> {
        loop {
            let Some(line_end) = self.find_line_end()? else { return Ok(None) };
            let [kind, text @ ..] = &self.buffer[self.position..line_end] else { return Err(ReplyError::Malformed("an empty line")) };
            if matches!(kind, b'*' | b'~') {
                self.lists.push((self.position, *kind == b'~'));
            }
            let (content_bytes, children) = match kind {
                b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => (0, 0),
                b'$' | b'!' | b'=' => (announced(text)?.map_or(0, |bytes| bytes.saturating_add(2)), 0),
                b'*' | b'~' | b'>' => (0, announced(text)?.unwrap_or(0)),
                b'%' => (0, announced(text)?.unwrap_or(0).saturating_mul(2)),
                // Attributes stand before a value, as if they were part of it.
                b'|' => (0, announced(text)?.unwrap_or(0).saturating_mul(2).saturating_add(1)),
                _ => return Err(ReplyError::Malformed("a value of unknown kind")),
            };
            // A value has three bytes at least, so this bounds the children, too.
            let end = (line_end + 2).saturating_add(content_bytes);
            self.check_size(end.saturating_add(children))?;
            if end > self.buffer.len() {
                return Ok(None);
            }
            (self.position, self.scanned) = (end, end);
            if children > 0 {
                if self.missing.len() == NESTING_MAX {
                    return Err(ReplyError::TooDeep);
                }
                self.missing.push(children);
            } else if self.complete_value() {
                return Ok(Some(end));
            }
        }
    }

    /// Counts a complete value towards the aggregates around it. Returns whether it was the last of the reply.
    fn complete_value(&mut self) -> bool {
        while let Some(missing) = self.missing.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            self.missing.pop();
        }
        true
    }

    fn find_line_end(&mut self) -> Result<Option<usize>, ReplyError> {
        let found = self.buffer[self.scanned..].windows(2).position(|pair| pair == b"\r\n").map(|at| self.scanned + at);
        // The last byte may be the first half of the end.
        self.scanned = found.unwrap_or(self.scanned.max(self.buffer.len().saturating_sub(1)));
        self.check_size(self.scanned)?;
        Ok(found)
    }

    fn check_size(&self, bytes: usize) -> Result<(), ReplyError> {
        if bytes > self.reply_bytes_max { Err(ReplyError::TooLarge { bytes_max: self.reply_bytes_max }) } else { Ok(()) }
    }
}

/// A length or count; `None` for the -1 of RESP2's nulls.
fn announced(text: &[u8]) -> Result<Option<usize>, ReplyError> {
    match parse_integer(text) {
        Some(-1) => Ok(None),
        Some(length) => usize::try_from(length).map(Some).map_err(|_| ReplyError::Malformed("a negative length")),
        None => Err(ReplyError::Malformed("a length that is no number")),
    }
}

fn value2(frame: Frame2) -> Result<Value, ReplyError> {
    Ok(match frame {
        Frame2::SimpleString(text) => Value::Simple(text),
        Frame2::Error(text) => Value::Error(text.to_string()),
        Frame2::Integer(value) => Value::Integer(value),
        Frame2::BulkString(bytes) => Value::Bulk(bytes),
        Frame2::Array(elements) => Value::Array(elements.into_iter().map(value2).collect::<Result<_, _>>()?),
        Frame2::Null => Value::Null,
    })
}

/// `is_set` tells of each array, in the order in which they begin, whether it was sent as a set.
fn value3(frame: Frame3, is_set: &mut impl Iterator<Item = bool>) -> Result<Value, ReplyError> {
    Ok(match frame {
        Frame3::SimpleString { data, .. } => Value::Simple(data),
        Frame3::SimpleError { data, .. } => Value::Error(data.to_string()),
        Frame3::BlobError { data, .. } => Value::Error(String::from_utf8_lossy(&data).into_owned()),
        Frame3::Number { data, .. } => Value::Integer(data),
        Frame3::BlobString { data, .. } => Value::Bulk(data),
        Frame3::Null => Value::Null,
        Frame3::Array { data, .. } => {
            let was_set = is_set.next() == Some(true);
            let elements = data.into_iter().map(|element| value3(element, is_set)).collect::<Result<_, _>>()?;
            if was_set { Value::Set(elements) } else { Value::Array(elements) }
        }
        // The decoder fills its map from the last pair to the first.
        Frame3::Map { data, .. } => {
            let pairs = data.into_iter().rev().map(|(key, value)| Ok((value3(key, is_set)?, value3(value, is_set)?)));
            Value::Map(pairs.collect::<Result<_, ReplyError>>()?)
        }
        Frame3::Double { data, .. } => Value::Double(data),
        Frame3::Boolean { data, .. } => Value::Boolean(data),
        Frame3::VerbatimString { data, .. } => Value::Text(data),
        Frame3::BigNumber { data, .. } => Value::BigNumber(data),
        Frame3::Push { data, .. } => Value::Push(data.into_iter().map(|element| value3(element, is_set)).collect::<Result<_, _>>()?),
        // Every set was made an array.
        Frame3::Set { .. } | Frame3::Hello { .. } | Frame3::ChunkedString(_) => {
            return Err(ReplyError::Malformed("a value that no reply contains"));
        }
    })
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::{Authentication, Limits, RequestReader};

    const BYTES_MAX: usize = 1000;

    fn bulk(text: &'static str) -> Value {
        Value::Bulk(Bytes::from(text))
    }

    /// All replies in the pieces, and the error that ends them, if any.
    fn read_pieces(protocol: Protocol, pieces: &[&[u8]]) -> (Vec<Value>, Option<String>) {
        let mut reader = ReplyReader::new(protocol, BYTES_MAX);
        let mut replies = Vec::new();
        for piece in pieces {
            reader.buffer_mut().extend_from_slice(piece);
            loop {
                match reader.next_reply() {
                    Ok(Some(reply)) => replies.push(reply),
                    Ok(None) => break,
                    Err(error) => return (replies, Some(error.to_string())),
                }
            }
        }
        (replies, None)
    }

    /// Checks the replies, with the input cut at every byte.
    fn check(protocol: Protocol, input: &str, expected: &[Value]) {
        for at in 0..=input.len() {
            let (head, tail) = input.as_bytes().split_at(at);
            assert_eq!(read_pieces(protocol, &[head, tail]), (expected.to_vec(), None), "{input:?} cut at {at}");
        }
    }

    #[test]
    fn replies_of_resp2_are_decoded() {
        let check = |input, expected: &[Value]| check(Protocol::Resp2, input, expected);
        check("", &[]);
        check("+OK\r\n:-7\r\n", &[Value::Simple("OK".into()), Value::Integer(-7)]);
        check("-ERR no\r\n", &[Value::Error("ERR no".into())]);
        check("$4\r\n\r\n\r\n\r\n$0\r\n\r\n$-1\r\n", &[bulk("\r\n\r\n"), bulk(""), Value::Null]);
        check("*0\r\n*-1\r\n", &[Value::Array(vec![]), Value::Null]);
        check(
            "*3\r\n*2\r\n:1\r\n*0\r\n-ERR\r\n*1\r\n$1\r\na\r\n:2\r\n",
            &[
                Value::Array(vec![
                    Value::Array(vec![Value::Integer(1), Value::Array(vec![])]),
                    Value::Error("ERR".into()),
                    Value::Array(vec![bulk("a")]),
                ]),
                Value::Integer(2),
            ],
        );
    }

    #[test]
    fn replies_of_resp3_are_decoded() {
        let check = |input, expected: &[Value]| check(Protocol::Resp3, input, expected);
        check("_\r\n#t\r\n#f\r\n,2.75\r\n", &[Value::Null, Value::Boolean(true), Value::Boolean(false), Value::Double(2.75)]);
        check(",inf\r\n,-inf\r\n", &[Value::Double(f64::INFINITY), Value::Double(f64::NEG_INFINITY)]);
        check("=15\r\ntxt:Some string\r\n(123\r\n", &[Value::Text("Some string".into()), Value::BigNumber("123".into())]);
        check("!3\r\nERR\r\n-ERR\r\n", &[Value::Error("ERR".into()), Value::Error("ERR".into())]);
        check(">2\r\n$1\r\na\r\n:1\r\n", &[Value::Push(vec![bulk("a"), Value::Integer(1)])]);
        check("|1\r\n+ttl\r\n:1\r\n*1\r\n|0\r\n:2\r\n", &[Value::Array(vec![Value::Integer(2)])]);
        check("~2\r\n$1\r\nb\r\n$1\r\na\r\n", &[Value::Set(vec![bulk("b"), bulk("a")])]);
    }

    #[test]
    fn maps_keep_their_order() {
        let keys = ["server", "version", "proto", "id", "mode", "role", "modules"];
        let pairs: Vec<_> =
            keys.iter().map(|key| (bulk(key), Value::Map(vec![(bulk("z"), bulk(key)), (bulk("a"), Value::Null)]))).collect();
        let text = |key: &str| format!("${0}\r\n{key}\r\n", key.len());
        let input: String = keys.iter().map(|key| format!("{0}%2\r\n$1\r\nz\r\n{0}$1\r\na\r\n_\r\n", text(key))).collect();
        check(Protocol::Resp3, &format!("%7\r\n{input}"), &[Value::Map(pairs)]);
    }

    #[test]
    fn malformed_replies_are_refused() {
        let too_large = "reply of more than 1000 bytes".to_string();
        let check = |protocol, input: &str, expected: &str| {
            assert_eq!(read_pieces(protocol, &[input.as_bytes()]).1.as_deref(), Some(expected), "{input:?}");
        };
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            check(protocol, "\r\n", "malformed reply: an empty line");
            check(protocol, "hello\r\n", "malformed reply: a value of unknown kind");
            check(protocol, "HELLO 3\r\n", "malformed reply: a value of unknown kind");
            check(protocol, "$?\r\n", "malformed reply: a length that is no number");
            check(protocol, "*01\r\n", "malformed reply: a length that is no number");
            check(protocol, "$-2\r\n", "malformed reply: a negative length");
            check(protocol, ":12a\r\n", "malformed reply");
            check(protocol, &"*1\r\n".repeat(NESTING_MAX + 1), "reply nested more than 32 levels deep");
            check(protocol, "$9223372036854775807\r\n", &too_large);
            check(protocol, "*9223372036854775807\r\n", &too_large);
            check(protocol, "%9223372036854775807\r\n", &too_large);
            check(protocol, "$1000\r\n", &too_large);
            check(protocol, &"+".repeat(BYTES_MAX + 2), &too_large);
            check(protocol, &format!("*400\r\n{}", "+\r\n".repeat(400)), &too_large);
        }
        check(Protocol::Resp2, "_\r\n", "malformed reply");
        check(Protocol::Resp2, "%1\r\n:1\r\n:2\r\n", "malformed reply");
        check(Protocol::Resp3, "#x\r\n", "malformed reply");
        check(Protocol::Resp3, "=4\r\nabc:\r\n", "malformed reply");
        check(Protocol::Resp3, "%1\r\n*0\r\n:2\r\n", "malformed reply");
    }

    #[test]
    fn the_deepest_reply_is_decoded() {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let input = "*1\r\n".repeat(NESTING_MAX) + ":1\r\n";
            assert_eq!(read_pieces(protocol, &[input.as_bytes()]).0.len(), 1);
        }
    }

    #[test]
    fn hello_changes_the_protocol() {
        let mut reader = ReplyReader::new(Protocol::Resp2, BYTES_MAX);
        reader.buffer_mut().extend_from_slice(b"$-1\r\n_\r\n");
        assert_eq!(reader.next_reply().unwrap(), Some(Value::Null));
        reader.set_protocol(Protocol::Resp3);
        assert_eq!(reader.next_reply().unwrap(), Some(Value::Null));
    }

    #[test]
    fn replies_are_passed_over() {
        let value = || Some(ReplyKind::Value);
        let error = || Some(ReplyKind::Error("ERR no".into()));
        let check = |protocol, input: &str, expected: &[Option<ReplyKind>]| {
            for at in 0..=input.len() {
                let mut reader = ReplyReader::new(protocol, BYTES_MAX);
                let mut kinds = Vec::new();
                for piece in [&input[..at], &input[at..]] {
                    reader.buffer_mut().extend_from_slice(piece.as_bytes());
                    kinds.extend(std::iter::from_fn(|| reader.skip_reply().unwrap()).map(Some));
                }
                assert_eq!(kinds, expected, "{input:?} cut at {at}");
                assert_eq!(reader.buffered(), 0, "{input:?}");
            }
        };
        check(Protocol::Resp2, "+OK\r\n:-7\r\n$4\r\n\r\n-\r\r\n", &[value(), value(), value()]);
        check(Protocol::Resp2, "-ERR no\r\n$-1\r\n*-1\r\n+OK\r\n", &[error(), Some(ReplyKind::Null), Some(ReplyKind::Null), value()]);
        check(Protocol::Resp2, "*2\r\n-ERR no\r\n$-1\r\n*0\r\n", &[value(), value()]);
        check(Protocol::Resp3, "_\r\n!6\r\nERR no\r\n%1\r\n+a\r\n_\r\n", &[Some(ReplyKind::Null), error(), value()]);
        check(Protocol::Resp3, "|1\r\n+ttl\r\n:1\r\n-ERR no\r\n|0\r\n:1\r\n", &[error(), value()]);
    }

    #[test]
    fn passing_over_refuses_what_has_no_end() {
        let mut reader = ReplyReader::new(Protocol::Resp2, BYTES_MAX);
        reader.buffer_mut().extend_from_slice(b"+OK\r\n$x\r\n");
        assert_eq!(reader.skip_reply().unwrap(), Some(ReplyKind::Value));
        assert!(matches!(reader.skip_reply(), Err(ReplyError::Malformed(_))));
    }

    #[test]
    fn small_pieces_of_a_large_reply_are_scanned_once() {
        let mut reader = ReplyReader::new(Protocol::Resp2, usize::MAX);
        reader.buffer_mut().extend_from_slice(b"*100000\r\n");
        for _ in 0..10_000 {
            assert!(reader.next_reply().unwrap().is_none());
            assert_eq!(reader.position, reader.buffered(), "all that is here need not be looked at again");
            reader.buffer_mut().extend_from_slice(&b"$1\r\na\r\n".repeat(10));
        }
        assert!(matches!(reader.next_reply().unwrap(), Some(Value::Array(elements)) if elements.len() == 100_000));
    }

    #[test]
    fn the_server_reads_what_a_client_encodes() {
        let mut reader = RequestReader::new();
        let command: [&[u8]; 4] = [b"SET", b"", b"\r\n\0\xff", b"$1\r\n"];
        encode_command(&command, reader.buffer_mut());
        assert_eq!(reader.buffer_mut()[..], b"*4\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n\r\n\0\xff\r\n$4\r\n$1\r\n\r\n"[..]);
        let limits = Limits { bulk_bytes_max: 9, arguments_max: 9, request_bytes_max: 99, authentication: Authentication::Done };
        assert_eq!(reader.next(&limits).unwrap().unwrap(), command);
    }

    #[test]
    fn garbage_never_panics() {
        const ALPHABET: &[u8] = b"+-:$*_,#(!=%~>|;.?0123456789-tfxH\r\n\r\n\r\n\r\n\0\xff";
        let mut rng = StdRng::seed_from_u64(4);
        for _ in 0..200_000 {
            let input: Vec<u8> = (0..rng.random_range(0..40)).map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())]).collect();
            let (head, tail) = input.split_at(rng.random_range(0..=input.len()));
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let cut = read_pieces(protocol, &[head, tail]);
                assert_eq!(format!("{cut:?}"), format!("{:?}", read_pieces(protocol, &[&input])), "{}", input.escape_ascii());
            }
        }
    }
}
