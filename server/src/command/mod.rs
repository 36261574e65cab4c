//! Commands: one row of facts beside each handler, one file per data type.
//! Owns what a command means: its arguments, its effect on the keyspace, its reply. Leaves to others: where it runs (`node`), the
//! connection it came from (`net`), and how keys are stored (`keyspace`).
//! A command runs in two steps. *Parse* is pure and ends all syntax errors before anything is logged; it runs again at apply. *Apply*
//! (writes) and *read* see a keyspace and the time of the log, nothing else, so that every replica computes the same.

pub mod catalogue;
mod client;
pub mod codec;
pub mod compatibility;
mod connection;
mod counter;
mod decimal;
mod expiry;
mod generic;
pub mod glob;
mod iteration;
pub mod node_command;
mod number;
mod quoting;
mod revision;
mod server;
pub mod spec;
mod string;
pub mod table;

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod vocabulary;

pub use node_command::NodeCommand;
pub use server::KEYSPACE_COUNTS;
pub use spec::{Arity, CommandFailure, CommandResult, CommandSpec, Flags, Group, Handler, Keys, flags};
