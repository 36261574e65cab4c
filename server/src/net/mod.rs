//! The network: clients (RESP), peers and the admin port.
//! Thin tasks around sockets: what is decided here concerns a connection; what concerns the group is asked of `node`.

pub mod admin;
pub mod client;
pub mod peer;
