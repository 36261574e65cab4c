//! Any command, as a console sends it: one at a time, without a connection's state.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use resp::Reply;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Admin;
use super::error::{ApiError, ErrorBody};
use super::extract::Body;
use super::json;
use super::work::work_on;
use crate::keyspace::DATABASES;
use crate::node::reply_bytes;

/// A command.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    /// The name and the arguments.
    #[schema(min_items = 1)]
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
    reply: Value,
}

/// Executes a command.
#[utoipa::path(post, path = "/command", request_body = CommandBody,
    responses((status = 200, description = "The reply, which may be an error of type `error`", body = CommandAnswer),
        (status = 400, body = ErrorBody), (status = 503, body = ErrorBody),
        (status = 504, description = "Nobody knows whether it was executed", body = ErrorBody)))]
pub(super) async fn command(State(admin): State<Arc<Admin>>, Body(body): Body) -> Result<Response, ApiError> {
    let CommandBody { command, db } = work_on(body.len(), move || serde_json::from_slice(&body).map_err(ApiError::bad_json)).await?;
    if command.is_empty() || db >= DATABASES {
        return Err(ApiError::bad_request("a command has a name, and a database from 0 to 15"));
    }
    let reply: Reply = admin.services.execute(command.into_iter().map(Bytes::from).collect(), db).await?;
    let text = work_on(reply_bytes(&reply), move || json::text(&CommandAnswer { reply: json::reply(&reply) })).await?;
    Ok(json::answer(text))
}
