//! Whole nodes over TCP: what the tests of this crate, the campaigns and the benchmark stand on.
//! The binary `redraft` is what is tested, as a user would run it: this crate does not link the server, and sees only what a client or an
//! operator can see. The binary is `REDRAFT_BIN`, or the one beside the running test in cargo's target directory.
//! `node` runs one node, `cluster` several that form a group, `supervised` those of `redraft cluster`; `network` cuts nodes off from each
//! other, `clock` gives them wrong clocks, `disk` full disks, `power` takes their power away, `damage` spoils their files, with `shim` to get
//! between a node and its system; `load` writes and remembers what was acknowledged, `history` judges whether counters were linearizable, `linearizability` whether any history of commands was; `differential` compares a
//! node's replies with those of `redis`, and `bench` its speed; `capacity` measures sizes and long runs, both with `load_program`; `terminal` is
//! where a person would sit.
//! The harness panics where a test would: nobody could act upon its errors. Every process ends with the value that owns it, and also
//! when this process is killed.

pub mod address;
pub mod bench;
pub mod campaign;
pub mod capacity;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod damage;
pub mod differential;
pub mod dir;
pub mod disk;
pub mod history;
pub mod linearizability;
pub mod load;
pub mod load_program;
pub mod network;
pub mod node;
pub mod power;
pub mod process;
pub mod redis;
pub mod shim;
pub mod supervised;
pub mod terminal;
pub mod verify;
pub mod wait;

pub use client::{Client, ClientError};
pub use cluster::Cluster;
pub use load::{Load, LoadPlan, Shape};
pub use node::{Node, RaftStatus, Role};
pub use resp::Value;
pub use wait::{PATIENCE, eventually, wait_until};
