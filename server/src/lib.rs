//! redraft: a Redis server that can be used as a database of record.
//! Dependencies inside point one way: `net` -> `node` -> `command` -> `keyspace`. `server` puts the parts together, `formation` finds
//! the cluster of an empty node, `rejoin` empties one that comes back as a new node, `cli` is what a person types, `cluster` supervises
//! nodes on one machine, `console` talks to any server, `load` measures it and `health` asks whether it is ready, `terminal` is where a person sits.

pub mod cli;
pub mod cluster;
pub mod command;
pub mod config;
pub mod console;
pub mod error;
pub mod formation;
pub mod health;
pub mod info;
pub mod keyspace;
pub mod load;
pub mod metrics;
pub mod net;
pub mod node;
mod rejoin;
pub mod server;
pub mod slow_log;
mod terminal;
