//! The Redis serialisation protocol: bytes to requests, replies to bytes, and back again for clients.
//! This crate does no I/O and gives requests no meaning: what a command is, the server decides.
//! Nothing here allocates by a length that the other side announced, and nothing recurses on its input without a bound.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may panic"))]

mod client;
mod inline;
mod number;
mod reply;
mod request;

pub use client::{ReplyError, ReplyKind, ReplyReader, Value, encode_command};
pub use inline::split as split_arguments;
pub use number::double_text;
pub use reply::{Protocol, Reply};
pub use request::{Authentication, Limits, ProtocolError, RequestReader};
