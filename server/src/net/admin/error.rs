//! Errors of the HTTP interface: a status, a code that programs rely on, a line for people, and whether something may have been executed.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{CommandError, RequestError};
use crate::net::client::ARGUMENTS_MAX;

/// When what was refused for now may be tried again: a failover takes one to three seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// The errors of commands that ask for more than there may be.
const TOO_LARGE: [CommandError; 5] = [
    CommandError::StringTooLong,
    CommandError::KeyTooLong,
    CommandError::ReplyTooLarge,
    CommandError::WriteTooLarge,
    CommandError::TooManyArguments(ARGUMENTS_MAX),
];

/// Whether the request may have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Executed {
    /// It had none.
    No,
    /// It may have had one, or may have one yet.
    Unknown,
}

/// The body of an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorFields,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct ErrorFields {
    /// What programs look at; stable.
    code: &'static str,
    /// What people read.
    message: String,
    executed: Executed,
}

/// An answer that is an error.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    executed: Executed,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), executed: Executed::No }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// JSON that makes no sense, or has more elements than a command has arguments: the parser tells all errors as a text.
    pub(super) fn bad_json(message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        let too_many = CommandError::TooManyArguments(ARGUMENTS_MAX).to_string();
        if message.starts_with(&too_many) {
            return Self::of_reply(&too_many);
        }
        Self::new(StatusCode::BAD_REQUEST, "bad_json", message)
    }

    /// What people read.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    #[cfg(test)]
    pub(super) fn executed(&self) -> Executed {
        self.executed
    }

    pub(super) fn no_such_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such key")
    }

    pub(super) fn precondition_failed() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", "the key does not have that revision")
    }

    /// An error reply of a command: the caller's fault, and nothing was changed. A reply is a text; which error it is of is found by that.
    pub(super) fn of_reply(text: &str) -> Self {
        let message = text.split_once(' ').map_or(text, |(_, message)| message);
        match text.split(' ').next() {
            Some("WRONGTYPE") => Self::new(StatusCode::CONFLICT, "wrong_type", message),
            Some("OOM") => Self::from(RequestError::DiskFull),
            _ if TOO_LARGE.iter().any(|error| error.to_string() == text) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message),
            _ => Self::bad_request(message),
        }
    }

    /// There was no answer in time to a request that changes nothing, whatever becomes of it.
    pub(super) fn read_timeout() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "there was no answer in time; nothing was changed")
    }

    /// A body did not arrive in time, so that nothing was begun.
    pub(super) fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body did not arrive in time; not executed")
    }

    /// A reply that the command never gives.
    pub(super) fn unexpected() -> Self {
        Self { executed: Executed::Unknown, ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "an unexpected reply") }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let text = error.to_string();
        let (status, code, executed) = match error {
            RequestError::NoLeader => (StatusCode::SERVICE_UNAVAILABLE, "no_leader", Executed::No),
            RequestError::TryAgain(_) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", Executed::No),
            RequestError::Refused(_) => (StatusCode::BAD_REQUEST, "bad_request", Executed::No),
            RequestError::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading", Executed::No),
            RequestError::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full", Executed::No),
            RequestError::Unknown => (StatusCode::GATEWAY_TIMEOUT, "timeout_unknown", Executed::Unknown),
        };
        // The first word is Redis's code.
        let message = text.split_once(' ').map_or(text.as_str(), |(_, message)| message).to_owned();
        Self { status, code, message, executed }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, executed } = self;
        let body = Json(ErrorBody { error: ErrorFields { code, message, executed } });
        if status == StatusCode::UNAUTHORIZED {
            return (status, [(header::WWW_AUTHENTICATE, "Basic realm=\"redraft\"")], body).into_response();
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return (status, [(header::RETRY_AFTER, RETRY_AFTER_SECONDS)], body).into_response();
        }
        (status, body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_commands_have_a_code() {
        let check = |error: CommandError, status: u16, code: &str| {
            let found = ApiError::of_reply(&error.to_string());
            assert_eq!((found.status.as_u16(), found.code, found.executed), (status, code, Executed::No), "{error}");
        };
        check(CommandError::KeyTooLong, 413, "too_large");
        check(CommandError::TooManyArguments(ARGUMENTS_MAX), 413, "too_large");
        check(CommandError::InvalidCursor, 400, "bad_request");
        // Texts that hold what a client has sent say nothing about sizes.
        check(CommandError::UnsupportedOption("exceed".to_owned()), 400, "bad_request");
        assert_eq!(ApiError::of_reply("WRONGTYPE Operation against a key").code, "wrong_type");
        assert_eq!(ApiError::of_reply(&RequestError::DiskFull.to_string()).status, StatusCode::INSUFFICIENT_STORAGE);
    }
}
