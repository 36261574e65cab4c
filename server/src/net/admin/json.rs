//! Bytes, values and replies as JSON.
//! A value that is given as a JSON string is stored as the string's bytes; any other JSON as its text without the spaces that mean nothing:
//! numbers keep their digits and objects their order. What is not UTF-8 goes out in base64 and says so.
//! Answers are written from the bytes they are about, without a copy of these, and `reply_text_bytes` tells how long they will be at most.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use resp::Reply;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::error::ApiError;
use crate::error::CommandError;
use crate::net::client::ARGUMENTS_MAX;

/// What an element of an answer takes at most beside the bytes it is about.
const ELEMENT_BYTES: usize = 128;

/// The text of an answer, in memory for so many bytes, which it should not exceed.
pub(super) fn text(answer: &impl Serialize, bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut text = Vec::with_capacity(bytes);
    serde_json::to_writer(&mut text, answer).map_err(|_| ApiError::unexpected())?;
    Ok(text)
}

/// An answer whose text is there already.
pub(super) fn answer(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// Bytes as text, and whether that is base64.
pub(super) fn text_of(bytes: &[u8]) -> (String, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(bytes), true),
    }
}

/// The name of the encoding of bytes, if they are not UTF-8.
pub(super) fn encoding_of(bytes: &[u8]) -> Option<&'static str> {
    std::str::from_utf8(bytes).is_err().then_some("base64")
}

/// Bytes as a JSON string; its encoding is told elsewhere.
#[derive(Debug)]
pub(super) struct Text(pub(super) Bytes);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_str(&Base64Display::new(&self.0, &STANDARD)),
        }
    }
}

/// How long bytes are as a JSON string, at most, and without its quotes.
pub(super) fn text_bytes(bytes: &[u8]) -> usize {
    let escaped = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.as_bytes().iter().map(escaped).sum(),
        Err(_) => bytes.len().div_ceil(3) * 4,
    }
}

/// How long an answer about a reply is at most.
pub(super) fn reply_text_bytes(reply: &Reply) -> usize {
    ELEMENT_BYTES
        + match reply {
            Reply::Bulk(bytes) => text_bytes(bytes),
            Reply::Text(text) => text_bytes(text.as_bytes()),
            Reply::Error(text) => text_bytes(text.as_bytes()),
            Reply::Array(items) | Reply::Set(items) => items.iter().map(reply_text_bytes).sum(),
            Reply::Map(pairs) => pairs.iter().map(|(key, value)| reply_text_bytes(key) + reply_text_bytes(value)).sum(),
            Reply::Simple(text) => text_bytes(text.as_bytes()),
            Reply::Integer(_) | Reply::Null | Reply::NullArray | Reply::Double(_) | Reply::Boolean(_) => 0,
        }
}

/// What is stored for a JSON value.
pub(super) fn stored(value: &RawValue) -> Result<Bytes, ApiError> {
    let text = value.get().trim();
    if text.starts_with('"') {
        let string: String = serde_json::from_str(text).map_err(ApiError::bad_json)?;
        return Ok(Bytes::from(string));
    }
    Ok(Bytes::from(compact(text)))
}

/// JSON without the spaces between its parts.
fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if !in_string && matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        match character {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && !escaped && character == '\\';
        out.push(character);
    }
    out
}

/// Reads a list of arguments, of which there are no more than a command may have: each costs memory beyond its bytes.
/// # Errors
/// `TooManyArguments`, as soon as there is one more.
pub(super) fn arguments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of strings")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut list = Vec::new();
            while let Some(argument) = seq.next_element()? {
                if list.len() == ARGUMENTS_MAX {
                    return Err(A::Error::custom(CommandError::TooManyArguments(ARGUMENTS_MAX)));
                }
                list.push(argument);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List)
}

/// Reads keys with values, of which there are no more than a command may have arguments. What a key repeats counts as well.
/// # Errors
/// `TooManyArguments`, as soon as there is one more.
pub(super) fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Box<RawValue>>, D::Error> {
    struct Map;

    impl<'de> Visitor<'de> for Map {
        type Value = BTreeMap<String, Box<RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("keys with values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut pairs, mut read) = (BTreeMap::new(), 0);
            while let Some((key, value)) = map.next_entry()? {
                if read == ARGUMENTS_MAX {
                    return Err(A::Error::custom(CommandError::TooManyArguments(ARGUMENTS_MAX)));
                }
                pairs.insert(key, value);
                read += 1;
            }
            Ok(pairs)
        }
    }

    deserializer.deserialize_map(Map)
}

/// A reply with its type, for a console: `{"type", "value"}`.
#[derive(Debug)]
pub(super) struct Typed<R>(pub(super) R);

impl<R: Borrow<Reply>> Serialize for Typed<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, bytes) = match self.0.borrow() {
            Reply::Simple(text) => return typed(serializer, "simple", text),
            Reply::Error(text) => return typed(serializer, "error", text),
            Reply::Integer(number) => return typed(serializer, "integer", number),
            Reply::Null | Reply::NullArray => return typed(serializer, "null", &()),
            Reply::Double(number) => return typed(serializer, "double", number),
            Reply::Boolean(value) => return typed(serializer, "boolean", value),
            Reply::Text(text) => return typed(serializer, "text", text),
            Reply::Array(items) => return typed(serializer, "array", &Items(items)),
            Reply::Set(items) => return typed(serializer, "set", &Items(items)),
            Reply::Map(pairs) => return typed(serializer, "map", &Pairs(pairs)),
            Reply::Bulk(bytes) => ("bulk", bytes),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", name)?;
        map.serialize_entry("value", &Text(bytes.clone()))?;
        if let Some(encoding) = encoding_of(bytes) {
            map.serialize_entry("encoding", encoding)?;
        }
        map.end()
    }
}

fn typed<S: Serializer>(serializer: S, name: &str, value: &(impl Serialize + ?Sized)) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("type", name)?;
    map.serialize_entry("value", value)?;
    map.end()
}

struct Items<'a>(&'a [Reply]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Typed))
    }
}

/// A map as a list of pairs: its keys may be of any type.
struct Pairs<'a>(&'a [(Reply, Reply)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(key, value)| [Typed(key), Typed(value)]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn typed_json(reply: &Reply) -> Value {
        serde_json::to_value(Typed(reply)).expect("a reply is JSON")
    }

    #[test]
    fn strings_are_stored_as_bytes_and_the_rest_as_compact_text() {
        let check = |text: &str, expected: &str| {
            let raw: Box<RawValue> = serde_json::from_str(text).expect("valid JSON");
            assert_eq!(stored(&raw).expect("a value"), expected.as_bytes(), "{text}");
        };
        check(r#""a \" b\u00e9""#, "a \" bé");
        check("\"\"", "");
        check(" 12345678901234567890.0 ", "12345678901234567890.0");
        check(r#"{ "b" : [ 1 , null ], "a" : " x \" y \\" , "c":"\\"}"#, r#"{"b":[1,null],"a":" x \" y \\","c":"\\"}"#);
        check("true", "true");
    }

    #[test]
    fn replies_have_a_type() {
        let array = Reply::Array(vec![Reply::Integer(1), Reply::Null, Reply::Bulk(Bytes::from_static(&[0xff]))]);
        let expected = json!({"type": "array", "value": [
            {"type": "integer", "value": 1},
            {"type": "null", "value": null},
            {"type": "bulk", "value": "/w==", "encoding": "base64"},
        ]});
        assert_eq!(typed_json(&array), expected);
        let map = Reply::Map(vec![(Reply::text("a"), Reply::OK)]);
        assert_eq!(
            typed_json(&map),
            json!({"type": "map", "value": [[{"type": "bulk", "value": "a"}, {"type": "simple", "value": "OK"}]]})
        );
    }
    #[test]
    fn an_answer_is_no_longer_than_was_said() {
        let check = |bytes: &'static [u8], expected: usize| {
            assert_eq!(text_bytes(bytes), expected, "{bytes:?}");
            let text = serde_json::to_string(&Text(Bytes::from_static(bytes))).expect("a string");
            assert_eq!(text.len(), expected + 2, "{text}");
        };
        check(b"", 0);
        check("aü\u{7f}".as_bytes(), 4);
        check(b"\0\x01\x1f", 18);
        check(b"\"\\\n\r\t\x08\x0c/", 15);
        check(b"\xff", 4);
        check(b"\xff\xfe\xfd\xfc", 8);
        let bulk = || Reply::Bulk(Bytes::from_static(b"\0\0"));
        for reply in [bulk(), Reply::Array(vec![bulk(), Reply::Integer(i64::MIN)]), Reply::Map(vec![(bulk(), Reply::Double(-1.5e-300))])] {
            let text = serde_json::to_string(&Typed(&reply)).expect("a reply is JSON");
            assert!(text.len() <= reply_text_bytes(&reply), "{text}");
        }
    }
}
