//! What a client connection asks of the replicated group, and what it gets back.

use bytes::Bytes;
use resp::Reply;

use crate::command::CommandSpec;
use crate::error::RequestError;

/// One checked command for the group: arity and arguments are right, its handler is `Read` or `Write`.
#[derive(Clone)]
pub struct Request {
    /// The command's row.
    pub spec: &'static CommandSpec,
    /// Its arguments, the name included.
    pub args: Vec<Bytes>,
    /// The selected database, 0 to 15.
    pub db: u8,
}

/// How fresh a run's reads must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Every write acknowledged before the read began is seen.
    Linearizable,
    /// The node's own applied state, including everything this connection wrote.
    Local,
}

/// Commands of one connection, in its order, executed together: one reply each, or one error for all of them.
pub type RunResult = Result<Vec<Reply>, RequestError>;

/// Roughly what a reply takes in memory, in bytes.
pub(crate) fn reply_bytes(reply: &Reply) -> usize {
    match reply {
        Reply::Bulk(bytes) => bytes.len(),
        Reply::Array(replies) | Reply::Set(replies) => replies.iter().map(reply_bytes).sum(),
        Reply::Map(pairs) => pairs.iter().map(|(key, value)| reply_bytes(key) + reply_bytes(value)).sum(),
        Reply::Text(text) => text.len(),
        Reply::Simple(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Null | Reply::NullArray | Reply::Double(_) | Reply::Boolean(_) => {
            size_of::<Reply>()
        }
    }
}
