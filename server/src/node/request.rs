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
