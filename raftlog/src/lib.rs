//! Consensus and storage below the server: engines, the Raft log, and the driver of one Raft group.
//! This crate knows no Redis, no socket and no clock.

pub mod engine;
pub mod entry;
pub mod group;
pub mod log;
pub mod message;
