//! Bytes, values and replies as JSON.
//! A value that is given as a JSON string is stored as the string's bytes; any other JSON as its text without the spaces that mean nothing:
//! numbers keep their digits and objects their order. What is not UTF-8 goes out in base64 and says so.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use resp::Reply;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::error::ApiError;

/// The text of an answer.
pub(super) fn text(answer: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(answer).map_err(|_| ApiError::unexpected())
}

/// An answer whose text is there already.
pub(super) fn answer(text: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// Bytes as text, and whether that is base64.
pub(super) fn text_of(bytes: &[u8]) -> (String, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(bytes), true),
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

/// A reply with its type, for a console.
pub(super) fn reply(reply: &Reply) -> Value {
    let typed = |name: &str, value: Value| json!({ "type": name, "value": value });
    match reply {
        Reply::Simple(text) => typed("simple", json!(text)),
        Reply::Error(text) => typed("error", json!(text)),
        Reply::Integer(number) => typed("integer", json!(number)),
        Reply::Bulk(bytes) => {
            let (text, is_base64) = text_of(bytes);
            if is_base64 { json!({ "type": "bulk", "value": text, "encoding": "base64" }) } else { typed("bulk", json!(text)) }
        }
        Reply::Null | Reply::NullArray => typed("null", Value::Null),
        Reply::Array(items) => typed("array", items.iter().map(self::reply).collect()),
        Reply::Set(items) => typed("set", items.iter().map(self::reply).collect()),
        Reply::Map(pairs) => typed("map", pairs.iter().map(|(key, value)| json!([self::reply(key), self::reply(value)])).collect()),
        Reply::Double(number) => typed("double", json!(number)),
        Reply::Boolean(value) => typed("boolean", json!(value)),
        Reply::Text(text) => typed("text", json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(reply(&array), expected);
        let map = Reply::Map(vec![(Reply::text("a"), Reply::OK)]);
        assert_eq!(reply(&map), json!({"type": "map", "value": [[{"type": "bulk", "value": "a"}, {"type": "simple", "value": "OK"}]]}));
    }
}
