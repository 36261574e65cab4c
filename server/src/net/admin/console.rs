//! Any command, as a console sends it: one at a time, without a connection's state.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use resp::Reply;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use super::extract::{BODY_COPIES, Body};
use super::json::{self, Typed};
use super::work::work_on;
use super::{ANSWER_PATIENCE, Admin, VERIFY_PATIENCE};
use crate::command::{CommandSpec, Keys, flags, table};
use crate::error::RequestError;
use crate::keyspace::{DATABASES, STRING_BYTES_MAX};
use crate::node::reply_bytes;

/// The longest reply about many keys: that of KEYS, and of MGET.
const MANY_KEYS_BYTES_MAX: usize = 256 << 20;

/// A command.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    /// The name and the arguments.
    #[serde(deserialize_with = "json::arguments")]
    #[schema(min_items = 1, max_items = 1048576)]
    command: Vec<String>,
    /// The database, 0 to 15.
    #[serde(default)]
    #[schema(maximum = 15)]
    db: u8,
}

/// What it was answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandAnswer {
    /// `{"type", "value"}`, and `"encoding": "base64"` for bytes that are not UTF-8.
    #[schema(value_type = Object)]
    reply: Typed<Reply>,
}

/// Executes a command.
#[utoipa::path(post, path = "/command", request_body = CommandBody,
    responses((status = 200, description = "The reply, which may be an error of type `error`", body = CommandAnswer),
        (status = 400, body = ErrorBody), (status = 413, body = ErrorBody), (status = 503, body = ErrorBody),
        (status = 504, description = "Nobody knows whether it was executed", body = ErrorBody), (status = 507, body = ErrorBody)))]
pub(super) async fn command(State(admin): State<Arc<Admin>>, Body(body, mut share): Body) -> Result<Response, ApiError> {
    let body_bytes = BODY_COPIES * body.len();
    let CommandBody { command, db } = work_on(body.len(), move || serde_json::from_slice(&body).map_err(ApiError::bad_json)).await?;
    if command.is_empty() || db >= DATABASES {
        return Err(ApiError::bad_request("a command has a name, and a database from 0 to 15"));
    }
    let args: Vec<Bytes> = command.into_iter().map(Bytes::from).collect();
    let (is_write, bytes_max) = table::resolve(&args).map_or((false, 0), |spec| (spec.is_write(), reply_bytes_max(spec, &args)));
    // How long the reply is is known only when it is there.
    share.hold(body_bytes + bytes_max).await?;
    let patience = patience_for(&args, admin.services.config().runtime.values().request_timeout);
    let executed = tokio::time::timeout(patience, admin.services.execute(args, db)).await;
    let reply = executed.unwrap_or(Err(RequestError::Unknown))?;
    let (bytes, reply) = work_on(reply_bytes(&reply), move || Ok((json::reply_text_bytes(&reply), reply))).await?;
    // What was executed cannot be refused any more.
    share.hold(reply_bytes(&reply) + bytes).await.map_err(|error| if is_write { RequestError::Unknown.into() } else { error })?;
    let text = work_on(bytes, move || json::text(&CommandAnswer { reply: Typed(reply) }, bytes)).await?;
    Ok(json::answer(share.carried_by(text)))
}

/// How long a command may take. To compare replicas takes as long as there are data, and to give it up would only hide the outcome.
fn patience_for(args: &[Bytes], request_timeout: Duration) -> Duration {
    let compares = matches!(args, [raft, verify] if raft.eq_ignore_ascii_case(b"raft") && verify.eq_ignore_ascii_case(b"verify"));
    if compares { VERIFY_PATIENCE } else { request_timeout + ANSWER_PATIENCE }
}

/// The longest reply of a command, in bytes. Of those that write, only a few answer what was there before.
fn reply_bytes_max(spec: &CommandSpec, args: &[Bytes]) -> usize {
    if spec.is_write() {
        let returns_value = spec.name.starts_with("get") || args.iter().skip(3).any(|option| option.eq_ignore_ascii_case(b"get"));
        return if returns_value { STRING_BYTES_MAX } else { 0 };
    }
    match spec.keys {
        Keys::One(_) => STRING_BYTES_MAX,
        Keys::Range { .. } => MANY_KEYS_BYTES_MAX,
        Keys::None if spec.flags.contains(flags::ITERATES) => MANY_KEYS_BYTES_MAX,
        Keys::None => 0,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    use super::*;
    use crate::net::client::ARGUMENTS_MAX;

    #[test]
    fn a_command_has_only_so_many_arguments() {
        let parsed = |count: usize| {
            let body = format!(r#"{{"command": [{}]}}"#, vec![r#""""#; count].join(","));
            serde_json::from_str::<CommandBody>(&body).map(|body| body.command.len()).map_err(ApiError::bad_json)
        };
        assert_eq!(parsed(ARGUMENTS_MAX).expect("as many as there may be"), ARGUMENTS_MAX);
        assert_eq!(parsed(ARGUMENTS_MAX + 1).expect_err("one too many").into_response().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn replicas_may_be_compared_for_long() {
        let check = |line: &[&'static str], expected: Duration| {
            let args: Vec<_> = line.iter().map(|word| Bytes::from_static(word.as_bytes())).collect();
            assert_eq!(patience_for(&args, Duration::from_secs(5)), expected, "{line:?}");
        };
        check(&["raft", "VERIFY"], VERIFY_PATIENCE);
        check(&["RAFT", "STATUS"], Duration::from_secs(5) + ANSWER_PATIENCE);
        check(&["SET", "raft", "verify"], Duration::from_secs(5) + ANSWER_PATIENCE);
    }

    #[test]
    fn memory_is_taken_for_replies_that_may_be_large() {
        let check = |line: &str, expected: usize| {
            let args: Vec<_> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            let spec = table::resolve(&args).expect("a valid line");
            assert_eq!(reply_bytes_max(spec, &args), expected, "{line}");
        };
        check("PING", 0);
        check("INCR n", 0);
        check("SET k v", 0);
        check("SET k v GET", STRING_BYTES_MAX);
        check("GETDEL k", STRING_BYTES_MAX);
        check("GET k", STRING_BYTES_MAX);
        check("MGET a b", MANY_KEYS_BYTES_MAX);
        check("KEYS *", MANY_KEYS_BYTES_MAX);
    }
}
