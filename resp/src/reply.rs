//! A reply as the commands produce it, and its bytes in RESP2 and RESP3.
//! Commands build one `Reply`; the protocol version of the connection is known only here.
//! Source: the RESP specification (redis.io/docs/latest/develop/reference/protocol-spec).
//! The encoder is our own, not `redis-protocol`'s: that one wants a tree of its frames built first, whose maps are hash maps, and
//! writes doubles unlike Redis; this one writes a reply where it stands, in order, and allocates nothing but `out`. The crate's decoder
//! is the independent judge in the tests.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::number::{double_text, write_integer};

/// A reply, independent of the protocol version.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK` and its like. Never contains CR or LF.
    Simple(&'static str),
    /// An error with its prefix, as in `ERR unknown command`. CR and LF are replaced by spaces when it is encoded.
    Error(Cow<'static, str>),
    /// A signed integer.
    Integer(i64),
    /// A binary-safe string.
    Bulk(Bytes),
    /// No value: `$-1` in RESP2, `_` in RESP3.
    Null,
    /// No array: `*-1` in RESP2, `_` in RESP3.
    NullArray,
    /// An array.
    Array(Vec<Reply>),
    /// Pairs in their order: a flat array in RESP2, a map in RESP3.
    Map(Vec<(Reply, Reply)>),
    /// Distinct elements: an array in RESP2, a set in RESP3.
    Set(Vec<Reply>),
    /// A double: a bulk string in RESP2.
    Double(f64),
    /// A boolean: the integers 1 and 0 in RESP2.
    Boolean(bool),
    /// Text for people (INFO, CLIENT LIST): a bulk string in RESP2, a verbatim string of format `txt` in RESP3.
    Text(String),
}

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, what every connection starts with.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

impl Reply {
    /// `+OK`.
    pub const OK: Reply = Reply::Simple("OK");

    /// A bulk string from text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Reply {
        Reply::Bulk(Bytes::from(text.into()))
    }

    /// Appends the reply's bytes.
    pub fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        match (self, protocol) {
            (Reply::Simple(text), _) => write_line(b'+', text.as_bytes(), out),
            (Reply::Error(text), _) => write_error(text, out),
            (Reply::Integer(value), _) => write_header(b':', *value, out),
            (Reply::Bulk(bytes), _) => write_bulk(bytes, out),
            (Reply::Null | Reply::NullArray, Protocol::Resp3) => out.put_slice(b"_\r\n"),
            (Reply::Null, Protocol::Resp2) => out.put_slice(b"$-1\r\n"),
            (Reply::NullArray, Protocol::Resp2) => out.put_slice(b"*-1\r\n"),
            (Reply::Array(elements), _) | (Reply::Set(elements), Protocol::Resp2) => write_elements(b'*', elements, protocol, out),
            (Reply::Set(elements), Protocol::Resp3) => write_elements(b'~', elements, protocol, out),
            (Reply::Map(pairs), _) => write_pairs(pairs, protocol, out),
            (Reply::Double(value), Protocol::Resp2) => write_bulk(double_text(*value).as_bytes(), out),
            (Reply::Double(value), Protocol::Resp3) => write_line(b',', double_text(*value).as_bytes(), out),
            (Reply::Boolean(value), Protocol::Resp2) => write_header(b':', i64::from(*value), out),
            (Reply::Boolean(true), Protocol::Resp3) => out.put_slice(b"#t\r\n"),
            (Reply::Boolean(false), Protocol::Resp3) => out.put_slice(b"#f\r\n"),
            (Reply::Text(text), Protocol::Resp2) => write_bulk(text.as_bytes(), out),
            (Reply::Text(text), Protocol::Resp3) => write_verbatim(text, out),
        }
    }
}

/// Appends a line of the given kind: `:1\r\n`, and the headers `$3\r\n` and `*2\r\n`.
pub(crate) fn write_header(kind: u8, value: i64, out: &mut BytesMut) {
    out.put_u8(kind);
    write_integer(value, out);
    out.put_slice(b"\r\n");
}

/// Appends a bulk string.
pub(crate) fn write_bulk(bytes: &[u8], out: &mut BytesMut) {
    write_header(b'$', bytes.len() as i64, out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn write_line(kind: u8, text: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

/// An error often quotes what the client sent: a line end in it must not end the reply. As in Redis, those at its end are dropped and the
/// others become spaces.
fn write_error(text: &str, out: &mut BytesMut) {
    let text = text.trim_end_matches(['\r', '\n']);
    let start = out.len();
    write_line(b'-', text.as_bytes(), out);
    for byte in &mut out[start..start + 1 + text.len()] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

fn write_verbatim(text: &str, out: &mut BytesMut) {
    const FORMAT: &[u8] = b"txt:";
    write_header(b'=', (FORMAT.len() + text.len()) as i64, out);
    out.put_slice(FORMAT);
    out.put_slice(text.as_bytes());
    out.put_slice(b"\r\n");
}

fn write_elements(kind: u8, elements: &[Reply], protocol: Protocol, out: &mut BytesMut) {
    write_header(kind, elements.len() as i64, out);
    for element in elements {
        element.encode(protocol, out);
    }
}

fn write_pairs(pairs: &[(Reply, Reply)], protocol: Protocol, out: &mut BytesMut) {
    match protocol {
        Protocol::Resp2 => write_header(b'*', pairs.len() as i64 * 2, out),
        Protocol::Resp3 => write_header(b'%', pairs.len() as i64, out),
    }
    for (key, value) in pairs {
        key.encode(protocol, out);
        value.encode(protocol, out);
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::{ReplyReader, Value};

    fn encoded(reply: &Reply, protocol: Protocol) -> BytesMut {
        let mut out = BytesMut::new();
        reply.encode(protocol, &mut out);
        out
    }

    fn check(reply: Reply, resp2: &str, resp3: &str) {
        assert_eq!(encoded(&reply, Protocol::Resp2), resp2, "{reply:?} in RESP2");
        assert_eq!(encoded(&reply, Protocol::Resp3), resp3, "{reply:?} in RESP3");
    }

    #[test]
    fn every_kind_has_its_bytes() {
        let both = |reply, bytes| check(reply, bytes, bytes);
        both(Reply::OK, "+OK\r\n");
        both(Reply::Error("ERR unknown command".into()), "-ERR unknown command\r\n");
        both(Reply::Error("ERR a\r\nb".into()), "-ERR a  b\r\n");
        both(Reply::Error("ERR a\r\nb\n\r\n".into()), "-ERR a  b\r\n");
        both(Reply::Integer(0), ":0\r\n");
        both(Reply::Integer(i64::MIN), ":-9223372036854775808\r\n");
        both(Reply::text("hello"), "$5\r\nhello\r\n");
        both(Reply::text(""), "$0\r\n\r\n");
        both(Reply::text("a\r\nb"), "$4\r\na\r\nb\r\n");
        check(Reply::Null, "$-1\r\n", "_\r\n");
        check(Reply::NullArray, "*-1\r\n", "_\r\n");
        both(Reply::Array(vec![]), "*0\r\n");
        check(Reply::Array(vec![Reply::Integer(1), Reply::Null]), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n");
        check(Reply::Map(vec![]), "*0\r\n", "%0\r\n");
        check(
            Reply::Map(vec![(Reply::text("b"), Reply::Integer(1)), (Reply::text("a"), Reply::Boolean(true))]),
            "*4\r\n$1\r\nb\r\n:1\r\n$1\r\na\r\n:1\r\n",
            "%2\r\n$1\r\nb\r\n:1\r\n$1\r\na\r\n#t\r\n",
        );
        check(Reply::Set(vec![Reply::text("a")]), "*1\r\n$1\r\na\r\n", "~1\r\n$1\r\na\r\n");
        check(Reply::Double(2.75), "$4\r\n2.75\r\n", ",2.75\r\n");
        check(Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        check(Reply::Boolean(true), ":1\r\n", "#t\r\n");
        check(Reply::Boolean(false), ":0\r\n", "#f\r\n");
        check(Reply::Text("Some string".into()), "$11\r\nSome string\r\n", "=15\r\ntxt:Some string\r\n");
    }

    #[test]
    fn replies_are_appended() {
        let mut out = BytesMut::from("+OK\r\n");
        Reply::Error("ERR\n".into()).encode(Protocol::Resp2, &mut out);
        assert_eq!(out, "+OK\r\n-ERR\r\n");
    }

    /// What a client sees of the reply.
    fn seen(reply: &Reply, protocol: Protocol) -> Value {
        let all = |replies: &[Reply]| replies.iter().map(|reply| seen(reply, protocol)).collect();
        match (reply, protocol) {
            (Reply::Simple(text), _) => Value::Simple(Bytes::from(*text)),
            (Reply::Error(text), _) => Value::Error(text.replace(['\r', '\n'], " ")),
            (Reply::Integer(value), _) => Value::Integer(*value),
            (Reply::Bulk(bytes), _) => Value::Bulk(bytes.clone()),
            (Reply::Null | Reply::NullArray, _) => Value::Null,
            (Reply::Array(elements), _) | (Reply::Set(elements), Protocol::Resp2) => Value::Array(all(elements)),
            (Reply::Set(elements), Protocol::Resp3) => Value::Set(all(elements)),
            (Reply::Map(pairs), Protocol::Resp2) => {
                Value::Array(pairs.iter().flat_map(|(key, value)| [seen(key, protocol), seen(value, protocol)]).collect())
            }
            (Reply::Map(pairs), Protocol::Resp3) => {
                Value::Map(pairs.iter().map(|(key, value)| (seen(key, protocol), seen(value, protocol))).collect())
            }
            (Reply::Double(value), Protocol::Resp2) => Value::Bulk(double_text(*value).into()),
            (Reply::Double(value), Protocol::Resp3) => Value::Double(*value),
            (Reply::Boolean(value), Protocol::Resp2) => Value::Integer(i64::from(*value)),
            (Reply::Boolean(value), Protocol::Resp3) => Value::Boolean(*value),
            (Reply::Text(text), Protocol::Resp2) => Value::Bulk(text.clone().into()),
            (Reply::Text(text), Protocol::Resp3) => Value::Text(text.clone().into()),
        }
    }

    fn random_reply(rng: &mut StdRng, depth: usize) -> Reply {
        let kinds = if depth < 4 { 12 } else { 9 };
        let count = rng.random_range(0..4usize);
        match rng.random_range(0..kinds) {
            0 => Reply::OK,
            1 => Reply::Error("ERR wrong\r\nhere".into()),
            2 => Reply::Integer(rng.random()),
            3 => Reply::Bulk((0..rng.random_range(0..20)).map(|_| rng.random::<u8>()).collect()),
            4 => Reply::Null,
            5 => Reply::NullArray,
            6 => Reply::Double(f64::from_bits(rng.random::<u64>() & !(1 << 62))),
            7 => Reply::Boolean(rng.random()),
            8 => Reply::Text("role:\"master\"\r\n".repeat(count)),
            9 => Reply::Array((0..count).map(|_| random_reply(rng, depth + 1)).collect()),
            10 => Reply::Set((0..count).map(|element| Reply::text(format!("{element}"))).collect()),
            _ => Reply::Map((0..count).map(|key| (Reply::text(format!("{key}")), random_reply(rng, depth + 1))).collect()),
        }
    }

    #[test]
    fn an_independent_decoder_reads_what_is_encoded() {
        let mut rng = StdRng::seed_from_u64(3);
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut reader = ReplyReader::new(protocol, 1 << 20);
            for _ in 0..5_000 {
                let reply = random_reply(&mut rng, 0);
                reply.encode(protocol, reader.buffer_mut());
                assert_eq!(reader.next_reply().unwrap().unwrap(), seen(&reply, protocol));
            }
            assert_eq!(reader.buffered(), 0);
        }
    }
}
