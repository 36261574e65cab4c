//! Capacity: how much redraft holds, how evenly it answers, how far it scales, and how soon it is back.
//! Beside `bench`, which compares small cells with redis-server, this measures redraft alone, at sizes that hurt: more data than memory,
//! minutes of writes, thousands of connections, a log at its limit. It has four parts, each with a table, a file of figures (JSON), and
//! *marks*: what is promised of a figure, and whether it holds.
//! - `dataset`: one node with a memory budget and several times as much data;
//! - `stalls`: minutes of writes to three nodes below their capacity, with a Raft snapshot on its way in the middle;
//! - `scale`: the same load over connections, sizes of values, and numbers of keys;
//! - `recovery`: `restart`, a node that was killed or stopped at the worst moment, and `joining`, a node that has nothing yet.
//!
//! `filling` writes data that can be checked, `room` asks for disk space before and counts it after, `findings` shows what was found;
//! `load_program` outside puts the load on. Everything is bounded in time and in disk space. What breaks a promise that is not about speed
//! (a wrong value, a node that ends) is a panic, as in a campaign; a mark that does not hold is told.

pub mod dataset;
pub mod filling;
pub mod findings;
pub mod joining;
pub mod restart;
pub mod room;
pub mod scale;
pub mod stalls;
