//! Replies as text, byte for byte as redis-cli prints them: with types and quotes for people, bare for programs.
//! Source: `cliFormatReplyTTY` and `cliFormatReplyRaw` of Redis 7.2's `redis-cli.c`, and `sdscatrepr` of its `sds.c`.
//! Descends by recursion, which the reader of replies has bounded.

use std::io::Write;

use bytes::Bytes;
use resp::{Value, double_text};

/// How a reply is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// With types and quotes, each element of an aggregate with its number.
    ForPeople,
    /// Bare, with a line end behind it.
    Raw,
    /// As it came: text that was made to be read, like that of INFO.
    AsIs,
}

impl Style {
    /// The style for the reply to a command: text for people is never quoted.
    pub(super) fn of_reply_to(self, command: &[Bytes]) -> Self {
        let is = |position: usize, names: &[&str]| {
            command.get(position).is_some_and(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes())))
        };
        let is_text = is(0, &["info", "lolwut"])
            || (is(0, &["client"]) && is(1, &["list", "info"]))
            || (is(0, &["cluster"]) && is(1, &["nodes", "info"]) && command.len() == 2);
        if is_text { Style::AsIs } else { self }
    }
}

/// A reply's text.
pub(crate) fn render(reply: &Value, style: Style) -> Vec<u8> {
    let mut out = Vec::new();
    match style {
        Style::ForPeople => write_for_people(reply, "", &mut out),
        Style::Raw => {
            write_raw(reply, &mut out);
            out.push(b'\n');
        }
        Style::AsIs => write_raw(reply, &mut out),
    }
    out
}

/// What stands behind an element's number, and in the place of no elements.
struct Kind {
    separator: char,
    empty: &'static str,
}

const ARRAY: Kind = Kind { separator: ')', empty: "(empty array)" };
const PUSH: Kind = Kind { separator: ')', empty: "(empty push)" };
const SET: Kind = Kind { separator: '~', empty: "(empty set)" };
const MAP: Kind = Kind { separator: '#', empty: "(empty hash)" };

/// Appends a reply with its line end. `prefix` stands before every line but the first.
fn write_for_people(reply: &Value, prefix: &str, out: &mut Vec<u8>) {
    match reply {
        Value::Simple(text) | Value::Text(text) => write_line("", text, out),
        Value::Error(text) => write_line("(error) ", text.as_bytes(), out),
        Value::Integer(value) => write_line("(integer) ", value.to_string().as_bytes(), out),
        Value::Double(value) => write_line("(double) ", double_text(*value).as_bytes(), out),
        Value::BigNumber(digits) => write_line("(big number) ", digits, out),
        Value::Boolean(value) => write_line("", truth(*value).as_bytes(), out),
        Value::Null => write_line("", b"(nil)", out),
        Value::Bulk(bytes) => {
            write_quoted(bytes, out);
            out.push(b'\n');
        }
        Value::Array(elements) => write_elements(&ARRAY, elements, prefix, out, write_for_people),
        Value::Push(elements) => write_elements(&PUSH, elements, prefix, out, write_for_people),
        Value::Set(elements) => write_elements(&SET, elements, prefix, out, write_for_people),
        Value::Map(pairs) => write_elements(&MAP, pairs, prefix, out, |(key, value), prefix, out| {
            write_for_people(key, prefix, out);
            // The value goes on where the key's line ends.
            out.pop();
            out.extend_from_slice(b" => ");
            write_for_people(value, prefix, out);
        }),
    }
}

/// Appends elements, each with its number, all below the first one's place.
fn write_elements<T>(kind: &Kind, elements: &[T], prefix: &str, out: &mut Vec<u8>, write_one: impl Fn(&T, &str, &mut Vec<u8>)) {
    if elements.is_empty() {
        return write_line("", kind.empty.as_bytes(), out);
    }
    let width = elements.len().to_string().len();
    let inner = format!("{prefix}{:1$}", "", width + 2);
    for (position, element) in elements.iter().enumerate() {
        let before = if position == 0 { "" } else { prefix };
        write!(out, "{before}{:>width$}{} ", position + 1, kind.separator).expect("memory takes all bytes");
        write_one(element, &inner, out);
    }
}

fn truth(value: bool) -> &'static str {
    if value { "(true)" } else { "(false)" }
}

fn write_line(kind: &str, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

fn write_quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(*byte),
            _ => write!(out, "\\x{byte:02x}").expect("memory takes all bytes"),
        }
    }
    out.push(b'"');
}

fn write_raw(reply: &Value, out: &mut Vec<u8>) {
    match reply {
        Value::Null => {}
        Value::Simple(bytes) | Value::Bulk(bytes) | Value::Text(bytes) | Value::BigNumber(bytes) => out.extend_from_slice(bytes),
        Value::Error(text) => write_line("", text.as_bytes(), out),
        Value::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Double(value) => out.extend_from_slice(double_text(*value).as_bytes()),
        Value::Boolean(value) => out.extend_from_slice(truth(*value).as_bytes()),
        Value::Array(elements) | Value::Set(elements) | Value::Push(elements) => write_raw_lines(elements, out, write_raw),
        Value::Map(pairs) => write_raw_lines(pairs, out, |(key, value), out| {
            write_raw(key, out);
            out.push(b' ');
            write_raw(value, out);
        }),
    }
}

/// Appends elements with line ends between them.
fn write_raw_lines<T>(elements: &[T], out: &mut Vec<u8>, write_one: impl Fn(&T, &mut Vec<u8>)) {
    for (position, element) in elements.iter().enumerate() {
        if position > 0 {
            out.push(b'\n');
        }
        write_one(element, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn array(elements: &[Value]) -> Value {
        Value::Array(elements.to_vec())
    }

    fn text(reply: &Value, style: Style) -> String {
        String::from_utf8(render(reply, style)).expect("text")
    }

    #[test]
    fn scalars_are_told_apart_for_people() {
        let check = |reply: Value, expected: &str| assert_eq!(text(&reply, Style::ForPeople), format!("{expected}\n"));
        check(Value::Simple("OK".into()), "OK");
        check(Value::Error("ERR no".into()), "(error) ERR no");
        check(Value::Integer(-7), "(integer) -7");
        check(Value::Null, "(nil)");
        check(Value::Boolean(true), "(true)");
        check(Value::Boolean(false), "(false)");
        check(Value::Double(2.75), "(double) 2.75");
        check(Value::Double(3.0), "(double) 3");
        check(Value::Double(f64::NEG_INFINITY), "(double) -inf");
        check(Value::Text("some \"text\"".into()), "some \"text\"");
        check(bulk(""), "\"\"");
        check(bulk("a b"), "\"a b\"");
        check(bulk("\\ \" \n\r\t\x07\x08"), r#""\\ \" \n\r\t\a\b""#);
        check(bulk("\0\x7f\u{e9}"), r#""\x00\x7f\xc3\xa9""#);
    }

    #[test]
    fn aggregates_are_numbered_and_nested_ones_stand_below_each_other() {
        let check = |reply: Value, expected: &[&str]| assert_eq!(text(&reply, Style::ForPeople), expected.join("\n") + "\n");
        check(array(&[]), &["(empty array)"]);
        check(Value::Set(vec![]), &["(empty set)"]);
        check(Value::Map(vec![]), &["(empty hash)"]);
        check(Value::Push(vec![]), &["(empty push)"]);
        check(array(&[bulk("a"), Value::Null]), &["1) \"a\"", "2) (nil)"]);
        check(Value::Set(vec![bulk("a"), bulk("b")]), &["1~ \"a\"", "2~ \"b\""]);
        check(Value::Push(vec![bulk("a")]), &["1) \"a\""]);
        check(array(&[array(&[bulk("a"), bulk("b")]), Value::Integer(1)]), &["1) 1) \"a\"", "   2) \"b\"", "2) (integer) 1"]);
        check(
            array(&[bulk("0"), array(&[array(&[]), array(&[bulk("a"), bulk("b")])])]),
            &["1) \"0\"", "2) 1) (empty array)", "   2) 1) \"a\"", "      2) \"b\""],
        );
        check(
            Value::Map(vec![(bulk("k"), Value::Integer(1)), (bulk("l"), array(&[bulk("a"), bulk("b")]))]),
            &["1# \"k\" => (integer) 1", "2# \"l\" => 1) \"a\"", "   2) \"b\""],
        );
        let ten: Vec<Value> = (0..10).map(|_| array(&[bulk("a"), bulk("b")])).collect();
        let lines = text(&array(&ten), Style::ForPeople);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines[..3], [" 1) 1) \"a\"", "    2) \"b\"", " 2) 1) \"a\""]);
        assert_eq!(lines[18..], ["10) 1) \"a\"", "    2) \"b\""]);
    }

    #[test]
    fn raw_replies_have_no_decoration() {
        let check = |reply: Value, expected: &str| assert_eq!(text(&reply, Style::Raw), expected);
        check(Value::Simple("OK".into()), "OK\n");
        check(bulk("a\"b"), "a\"b\n");
        check(Value::Integer(1), "1\n");
        check(Value::Null, "\n");
        check(Value::Error("ERR no".into()), "ERR no\n\n");
        check(Value::Boolean(true), "(true)\n");
        check(array(&[]), "\n");
        check(array(&[bulk("a"), array(&[bulk("b"), Value::Null]), Value::Integer(2)]), "a\nb\n\n2\n");
        check(Value::Map(vec![(bulk("k"), bulk("v")), (bulk("l"), Value::Integer(1))]), "k v\nl 1\n");
    }

    #[test]
    fn text_for_people_is_never_quoted() {
        let check = |line: &str, expected: Style| {
            let command: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            assert_eq!(Style::ForPeople.of_reply_to(&command), expected, "{line}");
        };
        for line in ["INFO", "info raft", "CLIENT LIST", "client info", "cluster nodes"] {
            check(line, Style::AsIs);
        }
        for line in ["GET info", "CLIENT ID", "CLIENT", "cluster nodes x"] {
            check(line, Style::ForPeople);
        }
        assert_eq!(text(&bulk("# Raft\r\n"), Style::AsIs), "# Raft\r\n");
    }
}
