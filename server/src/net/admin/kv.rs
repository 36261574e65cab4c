//! Keys over HTTP: put, get, delete, a batch, and ordered pages.
//! Each request is one run of commands for the group, so it is as durable, linearizable and bounded as the same over RESP, on any node. A
//! key's ETag is its revision.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use raftlog::engine::after_prefix;
use resp::Reply;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::Admin;
use super::budget::Share;
use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Params, param_bytes};
use super::json::{self, Text, encoding_of, stored, text_of};
use super::work::work_on;
use crate::keyspace::{DATABASES, KEY_BYTES_MAX, STRING_BYTES_MAX};
use crate::node::reply_bytes;

/// Keys of a page, and the most of them.
const PAGE_KEYS: usize = 100;
const PAGE_KEYS_MAX: usize = 10_000;
/// Values up to this length are read at once; of a longer one, memory is taken first.
const VALUE_BYTES_AT_ONCE: usize = 32 << 10;
/// What a key takes in JSON beside its name and its value.
const ENTRY_BYTES: usize = 256;
/// Bytes of a page with values: RANGE ends one at 16 MiB, which its last value may exceed.
const PAGE_BYTES_MAX: usize = (16 << 20) + STRING_BYTES_MAX;
/// The header of a raw value that says how many seconds it has left.
const TTL_HEADER: &str = "redraft-ttl";
/// The longest time to live that is taken, in seconds: far beyond any use, and far from the end of 64 bits of milliseconds.
const TTL_SECONDS_MAX: f64 = 1e12;

/// Which database.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BatchQuery {
    /// The database, 0 to 15.
    #[serde(default)]
    #[param(maximum = 15)]
    db: u8,
}

/// Which database, and which key if the path has none.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// The database, 0 to 15.
    #[serde(default)]
    #[param(maximum = 15)]
    db: u8,
    /// The key in base64url without padding.
    #[param(pattern = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?$")]
    key64: Option<String>,
}

/// Which database and key, and how a raw value is to be stored.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PutQuery {
    /// The database, 0 to 15.
    #[serde(default)]
    #[param(maximum = 15)]
    db: u8,
    /// Seconds to live, of a raw body.
    #[param(exclusive_minimum = 0.0, maximum = 1e12)]
    ttl: Option<f64>,
    /// The key in base64url without padding.
    #[param(pattern = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?$")]
    key64: Option<String>,
}

/// Which database and key, and how a value is to be shown.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GetQuery {
    /// The database, 0 to 15.
    #[serde(default)]
    #[param(maximum = 15)]
    db: u8,
    /// `json`: a value that is JSON is part of the answer as such.
    #[serde(rename = "as")]
    #[param(inline)]
    form: Option<Form>,
    /// The key in base64url without padding.
    #[param(pattern = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?$")]
    key64: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    Json,
}

/// The body of a put.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// A string, stored as its bytes, or any other JSON, stored as its compact text.
    #[schema(value_type = Value)]
    value: Box<RawValue>,
    /// Seconds to live.
    #[schema(exclusive_minimum = 0.0, maximum = 1e12)]
    ttl: Option<f64>,
}

/// A key was written.
#[derive(Debug, Serialize, ToSchema)]
pub struct Written {
    #[serde(flatten)]
    key: Key,
    /// The revision it has now.
    revision: i64,
}

/// A key was deleted, or there was none.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    #[serde(flatten)]
    key: Key,
    deleted: bool,
}

/// A key's name.
#[derive(Debug, Serialize, ToSchema)]
struct Key {
    /// The key, in base64 if it is not UTF-8.
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
}

/// All that is known of a key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entry {
    #[serde(flatten)]
    key: Key,
    /// The type, as TYPE names it.
    #[serde(rename = "type")]
    key_type: String,
    /// The value, in base64 if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    value: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    /// Bytes of the value.
    size: i64,
    /// Seconds left; null is for ever.
    ttl: Option<f64>,
    revision: i64,
}

/// The body of a batch.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchBody {
    /// Keys with their values, as in a put.
    #[serde(deserialize_with = "json::pairs")]
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    put: std::collections::BTreeMap<String, Box<RawValue>>,
    /// Keys.
    #[serde(deserialize_with = "json::arguments")]
    delete: Vec<String>,
}

/// What a batch has done.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchDone {
    /// Keys that were set.
    put: i64,
    /// Keys that were there and are not any more.
    deleted: i64,
}

/// Which part of the keys, in byte order.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The database, 0 to 15.
    #[param(maximum = 15)]
    db: u8,
    // These three may be any bytes: `param_bytes` reads them.
    /// The first key.
    start: Option<String>,
    /// The key before which it ends.
    end: Option<String>,
    /// What all keys begin with.
    prefix: Option<String>,
    /// Keys of this page, 1 to 10,000; 100 unless told otherwise.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// From the last key to the first.
    reverse: bool,
    /// Whether values are shown; they are unless told otherwise.
    values: Option<bool>,
}

/// A page.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page {
    items: Vec<Entry>,
    /// Where the next page begins; null at the end.
    cursor: Option<String>,
}

impl Key {
    fn of(bytes: &[u8]) -> Self {
        let (key, is_base64) = text_of(bytes);
        Self { key, key_encoding: is_base64.then_some("base64") }
    }
}

/// What a condition of the request's headers asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    None,
    Exists,
    Missing,
    Revision(u64),
}

impl Condition {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let tag = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("").trim().to_owned());
        match (tag(header::IF_MATCH).as_deref(), tag(header::IF_NONE_MATCH).as_deref()) {
            (None, None) => Ok(Self::None),
            (Some("*"), None) => Ok(Self::Exists),
            (None, Some("*")) => Ok(Self::Missing),
            (Some(tag), None) => {
                let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
                let revision = revision.filter(|revision: &u64| *revision > 0 && *revision < 1 << 53);
                revision.map(Self::Revision).ok_or_else(|| ApiError::bad_request("If-Match is no revision in quotes"))
            }
            (None, Some(_)) => Err(ApiError::bad_request("If-None-Match can only be *")),
            (Some(_), Some(_)) => Err(ApiError::bad_request("If-Match and If-None-Match exclude each other")),
        }
    }
}

/// The key, which may be any bytes: from the path, or from the query string. There it may also be empty, and one that browsers and proxies
/// take out of a path, `.` and `..`.
fn key_of(uri: &Uri, key64: Option<&str>) -> Result<Bytes, ApiError> {
    let encoded = uri.path().strip_prefix("/kv/").unwrap_or("");
    match (encoded, key64) {
        ("", None) => Err(ApiError::bad_request("the key is empty: such a key stands in ?key64=")),
        ("", Some(key64)) => {
            let key = URL_SAFE_NO_PAD.decode(key64);
            key.map(Bytes::from).map_err(|_| ApiError::bad_request("key64 is no base64url without padding"))
        }
        (_, Some(_)) => Err(ApiError::bad_request("the key stands in the path or in key64")),
        (encoded, None) => Ok(Bytes::from(percent_decode_str(encoded).collect::<Vec<u8>>())),
    }
}

fn database(db: u8) -> Result<u8, ApiError> {
    if db < DATABASES { Ok(db) } else { Err(ApiError::bad_request("there is no such database")) }
}

/// A time to live in the form of SET.
fn lifetime(ttl: Option<f64>) -> Result<Vec<Bytes>, ApiError> {
    let Some(seconds) = ttl else { return Ok(Vec::new()) };
    if !(seconds > 0.0 && seconds <= TTL_SECONDS_MAX) {
        return Err(ApiError::bad_request("ttl must be a positive number of seconds"));
    }
    Ok(command("PX", [number((seconds * 1000.0).ceil() as u64)]))
}

fn etag(revision: i64) -> (header::HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(&format!("\"{revision}\"")).expect("digits and quotes are a header");
    (header::ETAG, value)
}

/// A command, as it goes to the group.
fn command(name: &'static str, args: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    std::iter::once(Bytes::from_static(name.as_bytes())).chain(args).collect()
}

fn number(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

/// Sets a key.
#[utoipa::path(put, path = "/kv/{key}", params(("key" = String, Path, description = "The key, percent-encoded"), PutQuery,
    ("If-Match" = Option<String>, Header, description = "The revision that the key must have, in quotes, or * for any",
        nullable = false, pattern = r#"^("0*[1-9][0-9]{0,14}"|[*])$"#),
    ("If-None-Match" = Option<String>, Header, description = "* if the key must not exist", nullable = false,
        pattern = "^[*]$")),
    request_body(content((Put = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, body = Written), (status = 201, description = "Under If-None-Match: the key was created", body = Written),
        (status = 400, body = ErrorBody), (status = 412, description = "The key does not have that revision", body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 503, body = ErrorBody),
        (status = 504, description = "Nobody knows whether it was set", body = ErrorBody), (status = 507, body = ErrorBody)))]
pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    uri: OriginalUri,
    Params(query): Params<PutQuery>,
    headers: HeaderMap,
    Body(body, _share): Body,
) -> Result<Response, ApiError> {
    let (key, db, condition) = (key_of(&uri, query.key64.as_deref())?, database(query.db)?, Condition::of(&headers)?);
    let (value, ttl) = match media_type(&headers) {
        // The last is what curl says of any body that it is given. A page of another site, which could say so too, does not come here.
        Some("application/json" | "application/x-www-form-urlencoded") | None => {
            if query.ttl.is_some() {
                return Err(ApiError::bad_request("with a body in JSON, ttl stands in it"));
            }
            work_on(body.len(), move || value_and_ttl(&body)).await?
        }
        Some("application/octet-stream") => (body, query.ttl),
        Some(_) => {
            let message = "the body must be application/json or application/octet-stream";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
    };
    let mut set = match condition {
        Condition::Missing => command("SETREV", [key.clone(), number(0), value]),
        Condition::Revision(revision) => command("SETREV", [key.clone(), number(revision), value]),
        Condition::None => command("SET", [key.clone(), value]),
        Condition::Exists => command("SET", [key.clone(), value, Bytes::from_static(b"XX")]),
    };
    set.extend(lifetime(ttl)?);
    let replies = admin.run(db, vec![set, command("REVISION", [key.clone()])]).await?;
    let revision = match &replies[..] {
        [Reply::Null, _] => return Err(ApiError::precondition_failed()),
        [_, Reply::Integer(revision)] => *revision,
        _ => return Err(ApiError::unexpected()),
    };
    let status = if condition == Condition::Missing { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [etag(revision)], Json(Written { key: Key::of(&key), revision })).into_response())
}

/// What the body of a put says.
fn value_and_ttl(body: &[u8]) -> Result<(Bytes, Option<f64>), ApiError> {
    let words = "the body is no {\"value\": ...}, and bytes need Content-Type: application/octet-stream";
    let put: Put = serde_json::from_slice(body).map_err(|error| ApiError::bad_json(format!("{words}: {error}")))?;
    Ok((stored(&put.value)?, put.ttl))
}

/// The content type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// Returns a key.
#[utoipa::path(get, path = "/kv/{key}", params(("key" = String, Path, description = "The key, percent-encoded"), GetQuery),
    responses((status = 200, content((Entry = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn get(
    State(admin): State<Arc<Admin>>,
    uri: OriginalUri,
    Params(query): Params<GetQuery>,
    headers: HeaderMap,
    mut share: Share,
) -> Result<Response, ApiError> {
    let (key, db) = (key_of(&uri, query.key64.as_deref())?, database(query.db)?);
    let (found, value) = find(&admin, db, &key, &mut share).await?;
    let tag = etag(found.revision);
    if headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/octet-stream")) {
        let mut answer =
            ([tag, (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))], share.carried_by(value)).into_response();
        if let Some(seconds) = found.ttl() {
            let value = HeaderValue::from_str(&seconds.to_string()).expect("a number is a header");
            answer.headers_mut().insert(TTL_HEADER, value);
        }
        return Ok(answer);
    }
    let measured = value.clone();
    let value_bytes = work_on(value.len(), move || Ok(json::text_bytes(&measured))).await?;
    let bytes = ENTRY_BYTES + json::text_bytes(&key) + value_bytes;
    share.hold(value.len() + bytes).await?;
    let text = work_on(bytes, move || found.text(&key, &value, query.form, bytes)).await?;
    Ok(([tag], json::answer(share.carried_by(text))).into_response())
}

/// A key, its value too, for which memory is held.
async fn find(admin: &Admin, db: u8, key: &Bytes, share: &mut Share) -> Result<(Found, Bytes), ApiError> {
    let mut value_bytes_max = VALUE_BYTES_AT_ONCE;
    loop {
        let entry = command("ENTRY", [key.clone(), Bytes::from_static(b"MAXLEN"), number(value_bytes_max as u64)]);
        let reply = admin.run(db, vec![entry]).await?.remove(0);
        if reply == Reply::Null {
            return Err(ApiError::no_such_key());
        }
        let mut found = Found::of(&reply).ok_or_else(ApiError::unexpected)?;
        if let Some(value) = found.value.take() {
            return Ok((found, value));
        }
        // It may have grown again when it is read.
        value_bytes_max = usize::try_from(found.size).map_err(|_| ApiError::unexpected())?;
        share.hold(value_bytes_max).await?;
    }
}

/// An entry whose value is JSON.
#[derive(Serialize)]
struct EntryWith<'a> {
    #[serde(flatten)]
    entry: Entry,
    value: &'a RawValue,
}

/// Deletes a key.
#[utoipa::path(delete, path = "/kv/{key}", params(("key" = String, Path, description = "The key, percent-encoded"), DeleteQuery,
    ("If-Match" = Option<String>, Header, description = "The revision that the key must have, in quotes, or * for any",
        nullable = false, pattern = r#"^("0*[1-9][0-9]{0,14}"|[*])$"#)),
    responses((status = 200, body = Deleted), (status = 400, body = ErrorBody),
        (status = 412, description = "The key does not have that revision", body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody), (status = 504, description = "Nobody knows whether it was deleted", body = ErrorBody)))]
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    uri: OriginalUri,
    Params(query): Params<DeleteQuery>,
    headers: HeaderMap,
) -> Result<Json<Deleted>, ApiError> {
    let (key, db, condition) = (key_of(&uri, query.key64.as_deref())?, database(query.db)?, Condition::of(&headers)?);
    let delete = match condition {
        Condition::None | Condition::Exists => command("DEL", [key.clone()]),
        Condition::Revision(revision) => command("DELREV", [key.clone(), number(revision)]),
        Condition::Missing => return Err(ApiError::bad_request("If-None-Match makes no sense for a deletion")),
    };
    match (admin.run(db, vec![delete]).await?.remove(0), condition) {
        (Reply::Integer(0), Condition::Revision(_) | Condition::Exists) => Err(ApiError::precondition_failed()),
        (Reply::Integer(count), _) => Ok(Json(Deleted { key: Key::of(&key), deleted: count > 0 })),
        _ => Err(ApiError::unexpected()),
    }
}

/// Sets and deletes keys, all together or none.
#[utoipa::path(post, path = "/kv/batch", params(BatchQuery), request_body = BatchBody,
    responses((status = 200, body = BatchDone), (status = 400, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody), (status = 504, description = "Nobody knows whether it was executed", body = ErrorBody),
        (status = 507, body = ErrorBody)))]
pub(super) async fn batch(
    State(admin): State<Arc<Admin>>,
    Params(query): Params<BatchQuery>,
    headers: HeaderMap,
    Body(body, _share): Body,
) -> Result<Json<BatchDone>, ApiError> {
    if Condition::of(&headers)? != Condition::None {
        return Err(ApiError::bad_request("a batch has no condition"));
    }
    let db = database(query.db)?;
    let Some(changes) = work_on(body.len(), move || changes_of(&body)).await? else {
        return Ok(Json(BatchDone { put: 0, deleted: 0 }));
    };
    match admin.run(db, vec![changes]).await?.remove(0) {
        Reply::Integer(deleted) => Ok(Json(BatchDone { put: 0, deleted })),
        Reply::Array(counts) => match counts[..] {
            [Reply::Integer(put), Reply::Integer(deleted)] => Ok(Json(BatchDone { put, deleted })),
            _ => Err(ApiError::unexpected()),
        },
        _ => Err(ApiError::unexpected()),
    }
}

/// The command for a batch; none if there is nothing to do.
fn changes_of(body: &[u8]) -> Result<Option<Vec<Bytes>>, ApiError> {
    let BatchBody { put, delete } = serde_json::from_slice(body).map_err(ApiError::bad_json)?;
    if put.is_empty() {
        // Deletions alone are executed also when the disk is full.
        return Ok((!delete.is_empty()).then(|| command("DEL", delete.into_iter().map(Bytes::from))));
    }
    let mut changes = command("BATCH", []);
    for (key, value) in put {
        changes.extend([Bytes::from_static(b"SET"), Bytes::from(key), stored(&value)?]);
    }
    for key in delete {
        changes.extend([Bytes::from_static(b"DEL"), Bytes::from(key), Bytes::new()]);
    }
    Ok(Some(changes))
}

/// Returns keys in byte order, a page at a time. A page is one moment; a series of pages is not.
#[utoipa::path(get, path = "/kv", params(PageQuery),
    responses((status = 200, body = Page), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn page(
    State(admin): State<Arc<Admin>>,
    uri: OriginalUri,
    Params(query): Params<PageQuery>,
    mut share: Share,
) -> Result<Response, ApiError> {
    let db = database(query.db)?;
    let limit = query.limit.unwrap_or(PAGE_KEYS);
    if !(1..=PAGE_KEYS_MAX).contains(&limit) {
        return Err(ApiError::bad_request("limit must be 1 to 10000"));
    }
    let [start, end, prefix] = ["start", "end", "prefix"].map(|name| param_bytes(&uri, name));
    let Some((lower, upper)) = bounds(start, end, prefix) else {
        return Ok(Json(Page { items: Vec::new(), cursor: None }).into_response());
    };
    let (first, second) = if query.reverse { (upper, lower) } else { (lower, upper) };
    let [entries, count] = [&b"WITHENTRIES"[..], b"COUNT"].map(Bytes::from_static);
    let mut range = command("RANGE", [first, second, entries, count, number(limit as u64)]);
    range.extend(query.reverse.then(|| Bytes::from_static(b"REV")));
    if let Some(cursor) = query.cursor {
        range.extend([Bytes::from_static(b"CURSOR"), Bytes::from(cursor)]);
    }
    let value_bytes_max = if query.values.unwrap_or(true) { STRING_BYTES_MAX } else { 0 };
    range.extend([Bytes::from_static(b"MAXLEN"), number(value_bytes_max as u64)]);
    // How much there is to read is known only when it is read.
    share.hold((limit * (KEY_BYTES_MAX + value_bytes_max)).min(PAGE_BYTES_MAX)).await?;
    let reply = admin.run(db, vec![range]).await?.remove(0);
    let (bytes, reply) = work_on(reply_bytes(&reply), move || Ok((json::reply_text_bytes(&reply), reply))).await?;
    share.hold(reply_bytes(&reply) + bytes).await?;
    let write = move || json::text(&read_page(&reply).ok_or_else(ApiError::unexpected)?, bytes);
    Ok(json::answer(share.carried_by(work_on(bytes, write).await?)))
}

/// The bounds of a page in the form of RANGE; none if nothing lies between them.
fn bounds(start: Option<Vec<u8>>, end: Option<Vec<u8>>, prefix: Option<Vec<u8>>) -> Option<(Bytes, Bytes)> {
    let bound = |mark: &[u8], key: &[u8]| Bytes::from([mark, key].concat());
    let (mut lower, mut upper) = (start, end);
    if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
        let after = after_prefix(&prefix);
        lower = Some(lower.map_or(prefix.clone(), |lower| lower.max(prefix)));
        upper = upper.into_iter().chain(after).min();
    }
    if lower.as_ref().zip(upper.as_ref()).is_some_and(|(lower, upper)| lower >= upper) {
        return None;
    }
    let lower = lower.map_or(Bytes::from_static(b"-"), |key| bound(b"[", &key));
    let upper = upper.map_or(Bytes::from_static(b"+"), |key| bound(b"(", &key));
    Some((lower, upper))
}

/// What ENTRY says.
struct Found {
    key_type: String,
    /// None if it is longer than what was asked for.
    value: Option<Bytes>,
    size: i64,
    left_ms: i64,
    revision: i64,
}

impl Found {
    fn of(reply: &Reply) -> Option<Self> {
        let Reply::Array(fields) = reply else { return None };
        match &fields[..] {
            [Reply::Bulk(key_type), value, Reply::Integer(size), Reply::Integer(left_ms), Reply::Integer(revision)] => Some(Self {
                key_type: String::from_utf8_lossy(key_type).into_owned(),
                value: if let Reply::Bulk(value) = value { Some(value.clone()) } else { None },
                size: *size,
                left_ms: *left_ms,
                revision: *revision,
            }),
            _ => None,
        }
    }

    /// Seconds left.
    fn ttl(&self) -> Option<f64> {
        (self.left_ms >= 0).then(|| self.left_ms as f64 / 1000.0)
    }

    /// The answer about this key alone.
    fn text(self, key: &[u8], value: &Bytes, form: Option<Form>, bytes: usize) -> Result<Vec<u8>, ApiError> {
        if form == Some(Form::Json)
            && let Ok(value) = serde_json::from_slice::<&RawValue>(value)
        {
            // As it is written: numbers keep their digits.
            return json::text(&EntryWith { entry: self.entry(key), value }, bytes);
        }
        json::text(&Self { value: Some(value.clone()), ..self }.entry(key), bytes)
    }

    fn entry(self, key: &[u8]) -> Entry {
        let ttl = self.ttl();
        let Self { key_type, value, size, revision, .. } = self;
        let encoding = value.as_deref().and_then(encoding_of);
        Entry { key: Key::of(key), key_type, value: value.map(Text), encoding, size, ttl, revision }
    }
}

fn read_page(reply: &Reply) -> Option<Page> {
    let Reply::Array(parts) = reply else { return None };
    let [Reply::Bulk(cursor), Reply::Array(items)] = &parts[..] else { return None };
    let (pairs, []) = items.as_chunks::<2>() else { return None };
    let entry = |[key, entry]: &[Reply; 2]| match key {
        Reply::Bulk(key) => Found::of(entry).map(|found| found.entry(key)),
        _ => None,
    };
    let items = pairs.iter().map(entry).collect::<Option<Vec<_>>>()?;
    let cursor = (cursor.as_ref() != b"0").then(|| String::from_utf8_lossy(cursor).into_owned());
    Some(Page { items, cursor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::client::ARGUMENTS_MAX;

    #[test]
    fn bounds_and_prefix_meet() {
        let check = |start: Option<&[u8]>, end: Option<&[u8]>, prefix: Option<&[u8]>, expected: Option<(&[u8], &[u8])>| {
            let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            let expected = expected.map(|(lower, upper)| (Bytes::copy_from_slice(lower), Bytes::copy_from_slice(upper)));
            assert_eq!(bounds(own(start), own(end), own(prefix)), expected, "{start:?} {end:?} {prefix:?}");
        };
        check(None, None, None, Some((b"-", b"+")));
        check(Some(b"a"), Some(b"c"), None, Some((b"[a", b"(c")));
        check(None, None, Some(b"ab"), Some((b"[ab", b"(ac")));
        check(Some(b"abc"), Some(b"b"), Some(b"ab"), Some((b"[abc", b"(ac")));
        check(Some(b"b"), None, Some(b"ab"), None);
        check(Some(b"c"), Some(b"c"), None, None);
        check(None, None, Some(b""), Some((b"-", b"+")));
        check(None, None, Some(b"a\xff\xff"), Some((b"[a\xff\xff", b"(b")));
        check(None, Some(b"\xff\xff\x01"), Some(b"\xff\xff"), Some((b"[\xff\xff", b"(\xff\xff\x01")));
        check(None, None, Some(b"\xff"), Some((b"[\xff", b"+")));
    }

    #[test]
    fn a_batch_has_only_so_many_keys() {
        let status = |body: String| changes_of(body.as_bytes()).err().map(|error| error.into_response().status());
        let list = |element: &str, count: usize| vec![element; count].join(",");
        assert_eq!(status(format!(r#"{{"delete": [{}]}}"#, list(r#""""#, ARGUMENTS_MAX))), None);
        let too_large = Some(StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(status(format!(r#"{{"delete": [{}]}}"#, list(r#""""#, ARGUMENTS_MAX + 1))), too_large);
        assert_eq!(status(format!(r#"{{"put": {{{}}}}}"#, list(r#""":0"#, ARGUMENTS_MAX + 1))), too_large);
    }

    #[test]
    fn keys_stand_in_the_path_or_in_the_query_string() {
        let check = |path: &str, key64: Option<&str>, expected: Option<&[u8]>| {
            let uri: Uri = path.parse().expect("a URI");
            assert_eq!(key_of(&uri, key64).ok().as_deref(), expected, "{path} {key64:?}");
        };
        check("/kv/a%2Fb/%ff", None, Some(b"a/b/\xff"));
        check("/kv/", Some(""), Some(b""));
        check("/kv/", Some("Li4"), Some(b".."));
        check("/kv/", Some("_-8"), Some(b"\xff\xef"));
        check("/kv/", None, None);
        check("/kv/", Some("Li4="), None);
        check("/kv/", Some("Li5"), None);
        check("/kv/", Some("L"), None);
        check("/kv/a", Some("YQ"), None);
        check("/kv/batch", Some("YQ"), None);
    }

    #[test]
    fn conditions_are_read_from_headers() {
        let check = |name: header::HeaderName, value: &'static str, expected: Option<Condition>| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert_eq!(Condition::of(&headers).ok(), expected, "{value}");
        };
        check(header::IF_MATCH, "\"7\"", Some(Condition::Revision(7)));
        check(header::IF_MATCH, "*", Some(Condition::Exists));
        check(header::IF_MATCH, "7", None);
        check(header::IF_MATCH, "\"0\"", None);
        check(header::IF_NONE_MATCH, "*", Some(Condition::Missing));
        check(header::IF_NONE_MATCH, "\"7\"", None);
        assert_eq!(Condition::of(&HeaderMap::new()).ok(), Some(Condition::None));
    }

    #[test]
    fn a_time_to_live_is_positive() {
        assert_eq!(lifetime(None).expect("none"), Vec::<Bytes>::new());
        assert_eq!(lifetime(Some(0.0001)).expect("a moment"), command("PX", [number(1)]));
        assert_eq!(lifetime(Some(1.5)).expect("a while"), command("PX", [number(1500)]));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(lifetime(Some(seconds)).is_err(), "{seconds}");
        }
    }
}
